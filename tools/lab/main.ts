/**
 * `deno task lab`: the lab from its first line to its last, on this machine.
 *
 * @module
 */
import { BACKENDS, NODES, type Place } from "../../testbed/lab/place.ts";
import { holdLab } from "../../testbed/lab/run.ts";
import { removeLeftovers } from "../../testbed/leftovers.ts";
import { runProgram } from "../interactive.ts";
import type { Output } from "../output.ts";
import { exists, must } from "../process.ts";
import { BINARY } from "../runtime.ts";
import { type LabOptions, parseOptions } from "./options.ts";
import { stepLines } from "./show.ts";

/** Seconds for building the program where it was not built before. */
const BUILD_LIMIT = 900;

async function lab(options: LabOptions, output: Output, signal: AbortSignal): Promise<void> {
  try {
    const count = await removeLeftovers("lab");
    if (count > 0) output.line(`Removed ${count} network namespaces of a run that was killed.`);
    const binary = await builtProgram();
    const backends = options.backend ? [options.backend] : BACKENDS;
    for (const backend of backends) {
      output.heading(`The lab with the backend ${backend}`);
      await holdLab(backend, { label: `lab${Deno.pid}`, binary }, {
        chapter: (title) => output.heading(title),
        done: (step) => output.line(...stepLines(step)),
        ...(options.keep ? { end: (place) => stayUp(place, output, signal) } : {}),
      }, signal);
      output.line("");
      output.done(`the lab with the backend ${backend}`);
    }
  } catch (error) {
    if (!signal.aborted) output.failed(error instanceof Error ? error.message : String(error));
    throw error;
  }
}

/** The program that `FLANNELD_BIN` names, else this checkout's, built where it is missing. */
async function builtProgram(): Promise<string> {
  const named = Deno.env.get("FLANNELD_BIN");
  if (named) return named;
  if (!exists(BINARY)) {
    await must("building", Deno.execPath(), ["task", "build"], { limit: BUILD_LIMIT });
  }
  return BINARY;
}

async function stayUp(place: Place, output: Output, signal: AbortSignal): Promise<void> {
  output.heading("To look around, in another terminal, as root; Ctrl-C here ends it");
  for (const name of NODES) output.line(place.nodes[name].machine.entrance("su - ubuntu"));
  if (signal.aborted) return;
  await new Promise((done) => signal.addEventListener("abort", done, { once: true }));
}

Deno.exit(await runProgram("deno task lab", parseOptions(Deno.args), lab));
