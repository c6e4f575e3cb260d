/**
 * The command line of `deno task dev`.
 *
 * @module
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { Families } from "../../tests/lib/cluster.ts";

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

/** Parsed options, or what to print and the status to end with. */
export type Parsed = { options: DevOptions } | { status: number; text: string };

/** Parses the arguments; a mistake gives one line and status 2. */
export function parseOptions(args: readonly string[]): Parsed {
  let text = "";
  const command = new Command("deno task dev")
    .description(
      "Makes hosts of network namespaces on this machine, an etcd and an agent on each, shows that " +
        "containers reach each other, and stays up with a live view. Ctrl-C removes everything.",
    )
    .helpOption("-h, --help", "Print this help and exit.")
    .option("--nodes <n>", `Hosts, 2 to ${MOST_NODES}.`, nodeCount, 2)
    .addOption(
      new Option("--backend <type>", "How packets cross.").choices(BACKENDS).default("vxlan"),
    )
    .addOption(new Option("--family <family>", "Addresses.").choices(FAMILIES).default("ipv4"))
    .option("--once", "End after the copies: status 0 if all is well, 1 if not.", false)
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
      text: `deno task dev: ${text} (see --help)`,
    };
  }
  return { options: command.opts<DevOptions>() };
}

function nodeCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 2 || count > MOST_NODES) {
    throw new InvalidArgumentError(`It must be 2 to ${MOST_NODES}.`);
  }
  return count;
}
