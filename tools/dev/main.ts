/**
 * `deno task dev`: flannel's main job on one machine, to look at.
 *
 * @module
 */
import { runProgram } from "../interactive.ts";
import { runLab } from "./lab.ts";
import { parseOptions } from "./options.ts";

Deno.exit(await runProgram("deno task dev", parseOptions(Deno.args), runLab, "dev"));
