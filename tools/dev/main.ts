/**
 * `deno task dev`: flannel's main job on one machine, to look at.
 *
 * @module
 */
import { ToolError } from "../process.ts";
import { setup } from "../setup.ts";
import { runLab } from "./lab.ts";
import { type DevOptions, parseOptions } from "./options.ts";
import { Output } from "./output.ts";

/** Runs the program and gives its exit status. */
async function main(args: readonly string[]): Promise<number> {
  const parsed = parseOptions(args);
  if ("status" in parsed) {
    (parsed.status === 0 ? console.log : console.error)(parsed.text);
    return parsed.status;
  }
  if (Deno.uid() !== 0) {
    console.error("deno task dev: it makes network namespaces, so it needs root: try it with sudo");
    return 1;
  }
  try {
    await setup();
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    console.error(`deno task dev: ${error.message}`);
    return 1;
  }
  return await runUntilSignal(parsed.options);
}

/** Runs the lab; signals end it in its order. */
async function runUntilSignal(options: DevOptions): Promise<number> {
  const stop = new AbortController();
  const output = new Output(() => stop.abort("nobody reads the output"));
  // All of them stay caught until the end: a second Ctrl-C must not cut the cleaning up short.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => stop.abort(signal));
  }
  try {
    await runLab(options, output, stop.signal);
  } catch {
    // The lab has said why.
    if (!stop.signal.aborted) return 1;
    console.error(`deno task dev: interrupted (${stop.signal.reason})`);
    return 130;
  }
  return 0;
}

Deno.exit(await main(Deno.args));
