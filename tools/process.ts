/**
 * Running programs from the build's tools: bounded in time, with one clear line when they fail.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

/** The checkout's folder, without a slash at its end. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/** What went wrong, in one line for the user. */
export class ToolError extends Error {}

/** How a program is run by {@link run}. */
export interface RunOptions {
  /** Seconds until it is ended. */
  limit: number;
  /** Folder to run in; the checkout's by default. */
  cwd?: string;
  /** Variables added to the environment. */
  env?: Record<string, string>;
  /** Called with what it prints, as it comes; its output goes to ours all the same. */
  onOutput?: (text: string) => void;
  /** Keep its output from ours; it is in the error if it fails. */
  quiet?: boolean;
}

/** How a program ended. */
export interface RunResult {
  code: number;
  timedOut: boolean;
  /** The end of what it printed, at most some kilobytes, without colours. */
  tail: string;
}

const TAIL_LENGTH = 8192;
/** Seconds between asking a program to end and ending it. */
const GRACE = 10;

/**
 * Runs a program to its end, its output streamed to ours.
 *
 * @throws {ToolError} where it cannot be started at all
 */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions,
): Promise<RunResult> {
  const child = start(program, args, options);
  let timedOut = false;
  let killer: ReturnType<typeof setTimeout> | undefined;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGTERM");
    killer = setTimeout(() => child.kill("SIGKILL"), GRACE * 1000);
  }, options.limit * 1000);
  let tail = "";
  const take = async (stream: ReadableStream<Uint8Array>, out: typeof Deno.stdout) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      if (!options.quiet) writeAll(out, chunk);
      const text = decoder.decode(chunk, { stream: true });
      options.onOutput?.(text);
      tail = (tail + text).slice(-TAIL_LENGTH);
    }
  };
  const [status] = await Promise.all([
    child.status,
    take(child.stdout, Deno.stdout),
    take(child.stderr, Deno.stderr),
  ]);
  clearTimeout(timer);
  clearTimeout(killer);
  return { code: status.code, timedOut, tail: withoutColours(tail) };
}

/**
 * Runs a program that has to succeed.
 *
 * @throws {ToolError} naming `step`, and why it failed
 */
export async function must(
  step: string,
  program: string,
  args: readonly string[],
  options: RunOptions,
): Promise<void> {
  const result = await run(program, args, options);
  if (result.timedOut) throw new ToolError(`${step}: not done within ${options.limit} s`);
  if (result.code !== 0) {
    const why = options.quiet ? `:\n${result.tail.trim()}` : "";
    throw new ToolError(`${step} failed with status ${result.code}${why}`);
  }
}

/** Whether a program is there and ends well with these arguments, `--version` or the like. */
export async function canRun(program: string, ...args: string[]): Promise<boolean> {
  try {
    return (await run(program, args, { limit: 60, quiet: true })).code === 0;
  } catch (error) {
    if (error instanceof ToolError) return false;
    throw error;
  }
}

/** Text without the escape sequences that colour it. */
export function withoutColours(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replaceAll(/\x1b\[[0-9;]*m/g, "");
}

/** Whether there is something at a path, a link that leads nowhere included. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Runs a tool's main function; an error ends the process with status 1 and one line. */
export async function runTool(name: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    console.error(`${name}: ${error.message}`);
    Deno.exit(1);
  }
}

function start(program: string, args: readonly string[], options: RunOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args: [...args],
      cwd: options.cwd ?? ROOT,
      env: options.env,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "it is not installed"
      : error instanceof Error
      ? error.message
      : String(error);
    throw new ToolError(`cannot run ${program}: ${reason}`);
  }
}

function writeAll(out: typeof Deno.stdout, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length;) {
    written += out.writeSync(bytes.subarray(written));
  }
}
