/**
 * Programs that show something on this machine until they are done or a signal ends them: their
 * arguments, their set-up and their end.
 *
 * @module
 */
import { type Command, CommanderError } from "commander";
import { Output } from "./output.ts";
import { ToolError } from "./process.ts";
import { type Purpose, setup } from "./setup.ts";

/** Parsed options, or what to print and the status to end with. */
export type Parsed<T> = { options: T } | { status: number; text: string };

/** Parses arguments; a mistake gives one line and status 2. */
export function parseArguments<T extends object>(
  command: Command,
  args: readonly string[],
): Parsed<T> {
  let text = "";
  command.helpOption("-h, --help", "Print this help and exit.")
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({
      writeOut: (chunk) => text += chunk,
      writeErr: (chunk) => text += chunk,
      outputError: (message, write) => write(message.replace(/^error: /, "").split("\n")[0]),
    });
  try {
    command.parse(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? { status: 0, text: text.trimEnd() } : {
      status: 2,
      text: `${command.name()}: ${text} (see --help)`,
    };
  }
  return { options: command.opts<T>() };
}

/**
 * Runs a program as root on a machine that was set up. A signal aborts what `body` is given, which
 * then removes what it made and throws.
 *
 * @param title for messages: `deno task dev`
 * @param body tells by the output why it fails
 * @param purpose what the program needs of the machine
 * @returns the exit status
 */
export async function runProgram<T>(
  title: string,
  parsed: Parsed<T>,
  body: (options: T, output: Output, signal: AbortSignal) => Promise<void>,
  purpose: Purpose = "all",
): Promise<number> {
  if ("status" in parsed) {
    (parsed.status === 0 ? console.log : console.error)(parsed.text);
    return parsed.status;
  }
  if (Deno.uid() !== 0) {
    console.error(`${title}: it makes network namespaces, so it needs root: try it with sudo`);
    return 1;
  }
  try {
    await setup(purpose);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    console.error(`${title}: ${error.message}`);
    return 1;
  }
  const stop = new AbortController();
  const output = new Output(() => stop.abort("nobody reads the output"));
  // All of them stay caught until the end: a second Ctrl-C must not cut the cleaning up short.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => stop.abort(signal));
  }
  try {
    await body(parsed.options, output, stop.signal);
  } catch {
    // The program has said why.
    if (!stop.signal.aborted) return 1;
    console.error(`${title}: interrupted (${stop.signal.reason})`);
    return 130;
  }
  return 0;
}
