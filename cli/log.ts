/**
 * The log: one line an event on standard error, in glog's form.
 *
 * @module
 */
import { configureSync, getLogger, type LogLevel, type LogRecord } from "@logtape/logtape";
import { printable } from "../base/printable.ts";
import { LineWriter } from "./line_writer.ts";
import { ignoredFlagsLine } from "./logger_flags.ts";

const LETTERS: Record<LogLevel, string> = {
  trace: "I",
  debug: "I",
  info: "I",
  warning: "W",
  error: "E",
  fatal: "F",
};

/** Milliseconds that an exit waits for the log to be read. */
const FLUSH_LIMIT = 1_000;

/** Never blocks: whoever reads the log, a service manager say, may hang, and the agent must not. */
const stderr = new LineWriter(
  (bytes) => Deno.stderr.write(bytes),
  (count) =>
    `${prefix("warning", Date.now(), "log")}Lost ${count} log line${count === 1 ? "" : "s"}: ` +
    "standard error was not read",
);

/**
 * Sends the log to standard error. What is not written yet at exit is lost without {@linkcode flushLog}.
 *
 * @param verbosity value of `-v`: see {@linkcode levelsOf}
 */
export function configureLog(verbosity: number): void {
  configureSync({
    reset: true,
    sinks: { stderr: (record) => stderr.add(formatRecord(record)) },
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

/** Waits until the log is written, or its reader has had {@linkcode FLUSH_LIMIT} milliseconds. */
export async function flushLog(): Promise<void> {
  await stderr.flush(FLUSH_LIMIT);
}

/** `I0331 01:44:17.321923   27251 agent] Running backend.` with control characters escaped. */
export function formatRecord(record: LogRecord, pid: number = Deno.pid): string {
  const area = record.category.slice(1).join(".") || "main";
  return prefix(record.level, record.timestamp, area, pid) + formatMessage(record.message);
}

/** A line up to its message. */
function prefix(level: LogLevel, time: number, area: string, pid: number = Deno.pid): string {
  return `${LETTERS[level]}${timestamp(new Date(time))} ${String(pid).padStart(7)} ${area}] `;
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

function formatValue(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return value.message;
  return typeof value === "object" ? Deno.inspect(value, { breakLength: Infinity }) : String(value);
}
