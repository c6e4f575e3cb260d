/**
 * The command line of `deno task dev`.
 *
 * @module
 */
import { Command, InvalidArgumentError, Option } from "commander";
import type { Families } from "../../testbed/cluster.ts";
import { parseArguments, type Parsed } from "../interactive.ts";

/** What the user wants to see. */
export interface DevOptions {
  nodes: number;
  backend: string;
  family: Families;
  /** End after the copies, with status 0 or 1. */
  once: boolean;
}

/** Backends that carry packets between namespaces of one machine. */
const BACKENDS = ["vxlan", "host-gw", "udp"];
const FAMILIES = ["ipv4", "ipv6", "dual"] satisfies Families[];
const MOST_NODES = 8;

/** Parses the arguments; a mistake gives one line and status 2. */
export function parseOptions(args: readonly string[]): Parsed<DevOptions> {
  const command = new Command("deno task dev")
    .description(
      "Makes hosts of network namespaces on this machine, an etcd and an agent on each, shows that " +
        "containers reach each other, and stays up with a live view. Ctrl-C removes everything.",
    )
    .option("--nodes <n>", `Hosts, 2 to ${MOST_NODES}.`, nodeCount, 2)
    .addOption(
      new Option("--backend <type>", "How packets cross.").choices(BACKENDS).default("vxlan"),
    )
    .addOption(new Option("--family <family>", "Addresses.").choices(FAMILIES).default("ipv4"))
    .option("--once", "End after the copies: status 0 if all is well, 1 if not.", false);
  return parseArguments<DevOptions>(command, args);
}

function nodeCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 2 || count > MOST_NODES) {
    throw new InvalidArgumentError(`It must be 2 to ${MOST_NODES}.`);
  }
  return count;
}
