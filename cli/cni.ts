/**
 * Whether this is a call as CNI plugin: under the plugin's name, or by the sub-command. Node's
 * modules would take a third of the plugin's whole time to load, so none is imported on its way.
 *
 * @module
 */
/** What container runtimes call the plugin, by `"type": "flannel"`. */
const PLUGIN_NAME = "flannel";

/** The sub-command that does the same under the agent's own name. */
const COMMAND = "cni";

/** Whether the program was called as the plugin. */
export function isCniCall(args: readonly string[]): boolean {
  if (args.length === 1 && args[0] === COMMAND) return true;
  return args.length === 0 && calledAs().split("/").at(-1) === PLUGIN_NAME;
}

/** The name by which the program was called, which a link to it gives. */
function calledAs(): string {
  // The launcher of the packed binary says it; a compiled one keeps its own arguments.
  const told = Deno.env.get("_FLANNELD_ARGV0");
  if (told !== undefined) return told;
  try {
    return Deno.readTextFileSync("/proc/self/cmdline").split("\0")[0];
  } catch {
    return "";
  }
}
