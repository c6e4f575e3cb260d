/**
 * The command line of `deno task lab`.
 *
 * @module
 */
import { Command, Option } from "commander";
import { type BackendName, BACKENDS } from "../../testbed/lab/place.ts";
import { parseArguments, type Parsed } from "../interactive.ts";

/** What the user wants to see. */
export interface LabOptions {
  /** One backend; all, one after the other, where absent. */
  backend?: BackendName;
  /** Stay up after the last step. */
  keep: boolean;
}

/** Parses the arguments; a mistake gives one line and status 2. */
export function parseOptions(args: readonly string[]): Parsed<LabOptions> {
  const command = new Command("deno task lab")
    .description(
      "Holds the lab of docs/lab.md on this machine: two nodes with etcd, Docker and flanneld, each " +
        "step as it is typed with what came back, and checked. Leaves nothing behind.",
    )
    .addOption(
      new Option("--backend <type>", "How packets cross; all in turn where absent.")
        .choices(BACKENDS),
    )
    .option("--keep", "Stay up after the last step, to look around, until Ctrl-C.", false);
  return parseArguments<LabOptions>(command, args);
}
