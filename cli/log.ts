/**
 * The log: one line an event on standard error, in glog's form.
 *
 * @module
 */
import { configureSync, getLogger, type LogLevel, type LogRecord } from "@logtape/logtape";
import { ignoredFlagsLine } from "./logger_flags.ts";

const LETTERS: Record<LogLevel, string> = {
  trace: "I",
  debug: "I",
  info: "I",
  warning: "W",
  error: "E",
  fatal: "F",
};

/**
 * Sends the log to standard error, written before the call returns, so that nothing is lost at exit.
 *
 * @param verbosity value of `-v`: see {@linkcode levelsOf}
 */
export function configureLog(verbosity: number): void {
  const encoder = new TextEncoder();
  configureSync({
    reset: true,
    sinks: { stderr: (record) => writeStderr(encoder.encode(`${formatRecord(record)}\n`)) },
    loggers: [
      ...levelsOf(verbosity).map(({ category, lowestLevel }) => ({
        category,
        lowestLevel,
        sinks: ["stderr" as const],
        parentSinks: "override" as const,
      })),
      { category: ["logtape", "meta"], sinks: ["stderr"], lowestLevel: "warning" },
    ],
  });
}

/** From which `-v` on the details of these areas are logged; those of all others from 1 on. */
const DETAILS = { kernel: 2, etcd: 3 };
/** From which on everything is. */
const EVERYTHING = 4;

/** What is logged at a level of `-v`, by area; the first entry is for all that have none. */
export function levelsOf(verbosity: number): { category: string[]; lowestLevel: LogLevel }[] {
  const from = (level: number): LogLevel => {
    if (verbosity >= EVERYTHING) return "trace";
    return verbosity >= level ? "debug" : "info";
  };
  return [
    { category: ["flanneld"], lowestLevel: from(1) },
    ...Object.entries(DETAILS).map(([area, level]) => ({
      category: ["flanneld", area],
      lowestLevel: from(level),
    })),
  ];
}

/** Logs what is odd about how the program was started. */
export function logWarnings(warnings: readonly string[]): void {
  const log = getLogger(["flanneld"]);
  for (const warning of warnings) log.warn("{warning}", { warning });
}

/** Says which flags of Go flannel's logger were ignored, if any. */
export function logIgnored(flags: readonly string[]): void {
  const line = ignoredFlagsLine(flags);
  if (line !== undefined) getLogger(["flanneld"]).info("{line}", { line });
}

function writeStderr(bytes: Uint8Array): void {
  try {
    for (let written = 0; written < bytes.length;) {
      written += Deno.stderr.writeSync(bytes.subarray(written));
    }
  } catch {
    // A reader that went away (EPIPE) must not stop the agent, and there is nowhere to say so.
  }
}

/** `I0331 01:44:17.321923   27251 agent] Running backend.` with control characters escaped. */
export function formatRecord(record: LogRecord, pid: number = Deno.pid): string {
  const area = record.category.slice(1).join(".") || "main";
  return `${LETTERS[record.level]}${timestamp(new Date(record.timestamp))} ` +
    `${String(pid).padStart(7)} ${area}] ${formatMessage(record.message)}`;
}

/** `0331 01:44:17.321923`, local time. */
function timestamp(date: Date): string {
  const two = (n: number) => String(n).padStart(2, "0");
  // Six digits as Go's log, of which the clock of log records knows three.
  return `${two(date.getMonth() + 1)}${two(date.getDate())} ${two(date.getHours())}:` +
    `${two(date.getMinutes())}:${two(date.getSeconds())}.` +
    `${String(date.getMilliseconds()).padStart(3, "0")}000`;
}

/** Texts and values alternate in a record's message. */
function formatMessage(parts: readonly unknown[]): string {
  return printable(
    parts.map((part, index) => index % 2 === 0 ? String(part) : formatValue(part)).join(""),
  );
}

/** A text on one line, with what a terminal would take for an order escaped. */
export function printable(text: string): string {
  return text
    // deno-lint-ignore no-control-regex
    .replace(/[\x00-\x08\x0a-\x1f\x7f]/g, (char) => JSON.stringify(char).slice(1, -1))
    // C1 controls, and what breaks lines or turns the direction of text.
    .replace(
      /[\x80-\x9f\u2028-\u202e\u2066-\u2069]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
}

function formatValue(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.message;
  return typeof value === "object" ? Deno.inspect(value, { breakLength: Infinity }) : String(value);
}
