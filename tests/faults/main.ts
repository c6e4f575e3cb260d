/**
 * `deno task faults`: makes faults on purpose against real parts and reports what they cost.
 *
 * ```
 * deno task faults [--seed N] [--minutes N] [--only NAME]… [--agent ours|go] [--backend vxlan|udp]
 *                  [--ttl SECONDS] [--outage SECONDS] [--json FILE]
 * deno task faults report FILE…      # the tables of docs/faults.md, from one or two --json files
 * ```
 *
 * Each fault is made once alone, then a mix for so many minutes; with `--only`, those whose name
 * contains NAME alone, and a mix only where `--minutes` is given. Go flannel is the binary that
 * GO_FLANNELD names, ours the one of FLANNELD_BIN, else the sources. Needs root and the Debian
 * packages of the tests.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { requireRoot } from "../../testbed/netns.ts";
import { FAULTS } from "./catalogue.ts";
import { isClean, markdown, type RunReport, stepLine } from "./report.ts";
import { runFaults } from "./run.ts";

const OPTIONS = {
  seed: { type: "string", default: "1" },
  minutes: { type: "string" },
  only: { type: "string", multiple: true },
  agent: { type: "string", default: "ours" },
  backend: { type: "string", default: "vxlan" },
  ttl: { type: "string", default: "20" },
  outage: { type: "string", default: "600" },
  json: { type: "string" },
} as const;

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: OPTIONS });
  if (positionals[0] === "report") {
    const reports = await Promise.all(
      positionals.slice(1).map(async (path) =>
        JSON.parse(await Deno.readTextFile(path)) as RunReport
      ),
    );
    console.log(markdown(reports));
    return 0;
  }
  const { agent, backend, only } = values;
  if ((agent !== "ours" && agent !== "go") || (backend !== "vxlan" && backend !== "udp")) {
    console.error("faults: --agent is ours or go, --backend is vxlan or udp");
    return 2;
  }
  const chosen = FAULTS.filter(({ name }) => only?.some((part) => name.includes(part)) ?? true);
  if (chosen.length === 0) {
    console.error(`faults: there are ${FAULTS.map(({ name }) => name).join("; ")}`);
    return 2;
  }
  requireRoot();
  const report = await runFaults({
    command: ["deno task faults", ...withoutFile(args)].join(" "),
    agent,
    backend,
    seed: Number(values.seed),
    minutes: Number(values.minutes ?? (only ? 0 : 20)),
    ttl: Number(values.ttl),
    outage: Number(values.outage),
    alone: chosen,
    mix: chosen,
    made: disposeOnSignal,
  }, (step) => console.log(`${new Date().toISOString().slice(11, 19)} ${stepLine(step)}`));
  for (const line of report.leftovers) console.log(`left behind: ${line}`);
  console.log(
    `${report.packetsSent} packets, ${report.lostBetween} lost between faults, ` +
      `${report.leaseChanges} changes of leases${report.historyGap}, ` +
      `${report.leftovers.length} left behind`,
  );
  if (values.json) await Deno.writeTextFile(values.json, JSON.stringify(report, null, 2) + "\n");
  return isClean(report) ? 0 : 1;
}

/** Arguments without where the report goes. */
function withoutFile(args: string[]): string[] {
  const at = args.indexOf("--json");
  return at < 0 ? args : args.toSpliced(at, 2);
}

/** Takes the lab away before a signal ends the program. */
function disposeOnSignal(lab: AsyncDisposable): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, async () => {
      await lab[Symbol.asyncDispose]();
      Deno.exit(130);
    });
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
