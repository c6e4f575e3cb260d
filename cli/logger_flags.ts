/**
 * Flags of the loggers that Go flannel has been built with, glog and klog. They choose where and of
 * which source files its log is written, which has no meaning here; units that were written for it
 * have them all the same, and so they are accepted and ignored.
 *
 * @module
 */

/** By name without dashes: whether the flag is a boolean, which takes no separate value. */
const LOGGER_FLAGS: Record<string, "bool" | "string"> = {
  "vmodule": "string",
  "log_backtrace_at": "string",
  "log_dir": "string",
  "log_file": "string",
  "log_file_max_size": "string",
  "log_link": "string",
  "logbuflevel": "string",
  "stderrthreshold": "string",
  "logtostderr": "bool",
  "alsologtostderr": "bool",
  "legacy_stderr_threshold_behavior": "bool",
  "one_output": "bool",
  "add_dir_header": "bool",
  "skip_headers": "bool",
  "skip_log_headers": "bool",
};

/** The logger's flag that `name` is, with dashes or underscores; undefined for another. */
export function loggerFlag(name: string): "bool" | "string" | undefined {
  const key = name.replaceAll("-", "_");
  return Object.hasOwn(LOGGER_FLAGS, key) ? LOGGER_FLAGS[key] : undefined;
}

/** One line for the log about the flags that were ignored; undefined for none. */
export function ignoredFlagsLine(names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined;
  const list = [...new Set(names)].map((name) => `--${name}`).join(", ");
  return `Ignoring ${list}: a setting of Go flannel's logger; the log goes to standard error, and ` +
    "-v sets its level";
}
