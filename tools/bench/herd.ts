/**
 * 200 nodes whose etcd goes away and comes back: how they come back to it. Some are agents, the others
 * the agents' subnet managers alone, which etcd cannot tell from agents.
 *
 * @module
 */
import { Cluster } from "../../testbed/cluster.ts";
import { type Process, waitFor } from "../../testbed/netns.ts";
import {
  type Contender,
  LARGE_NETWORK,
  pause,
  putPeers,
  ROOT,
  type Row,
  waitSubnetFile,
} from "./lib.ts";
import type { ManagersJob } from "./managers.ts";
import type { Sample } from "./sampler.ts";

const NODES = 200;
const PROCESSES = 4;
/** Of each node: one for the leases, one for the config. */
const WATCHERS = 2;
/** Other leases that are there: the size of the network as the nodes see it. */
const SIZES = [0, 5_000];
const AWAY_S = [1, 20];
const READY_MS = 120_000;
const BACK_MS = 120_000;
/** Calls a second that etcd may get from them, on average over any second. */
const MOST_RATE = 1_000;

/** See the module; `agents` of the nodes are agents, all but one at most. */
export async function herd([ours]: Contender[], agents: number): Promise<Row[]> {
  if (agents >= NODES) throw new Error(`--real: ${agents} is too many: ${NODES - 1} at most`);
  const rows: Row[] = [];
  for (const leases of SIZES) {
    await using cluster = await Cluster.create({
      label: "herd",
      nodes: agents + 1,
      network: LARGE_NETWORK,
    });
    // They are numbered behind the managers.
    if (leases > 0) await putPeers(cluster, NODES, leases);
    await startAll(cluster, ours, NODES - agents);
    const sampler = startIn(cluster, "sampler.ts");
    for (const seconds of AWAY_S) {
      const samples = await outage(cluster, sampler, seconds);
      rows.push(...summary(`${NODES + leases} leases, etcd away for ${seconds} s`, samples));
    }
  }
  return rows;
}

/** Starts agents and managers, and waits until all follow each other. */
async function startAll(cluster: Cluster, ours: Contender, managers: number): Promise<void> {
  // One after another: this is about coming back, and the machine is small.
  for (const node of cluster.nodes.slice(1).map((node) => ours.on(node))) {
    node.startAgent();
    await waitSubnetFile(node);
  }
  const firsts = Array.from(
    { length: PROCESSES + 1 },
    (_, index) => Math.floor(index * managers / PROCESSES),
  );
  const processes = Array.from({ length: PROCESSES }, (_, index) => {
    const job: ManagersJob = { first: firsts[index], count: firsts[index + 1] - firsts[index] };
    return startIn(cluster, "managers.ts", JSON.stringify(job));
  });
  await Promise.all(processes.map((process) => process.waitForLine(/^ready$/, READY_MS)));
}

/** Starts a tool of this folder on the host that runs no agent. */
function startIn(cluster: Cluster, tool: string, ...args: string[]): Process {
  const command = ["run", "-A", "--no-check", `${ROOT}tools/bench/${tool}`];
  return cluster.node(0).ns.spawn(Deno.execPath(), [...command, cluster.etcd.endpoint, ...args]);
}

/** Ends etcd and starts it again. @returns the samples until all nodes were back for a while */
async function outage(cluster: Cluster, sampler: Process, seconds: number): Promise<Sample[]> {
  await cluster.etcd.stop();
  const from = sampler.lines.length;
  await pause(seconds);
  await cluster.etcd.restart();
  await waitFor(() => {
    const last = sampler.lines.length > from ? sampler.lines.at(-1)! : undefined;
    return last !== undefined && parse(last).watchers >= NODES * WATCHERS;
  }, { limitMs: BACK_MS, what: "all nodes to be back" });
  await pause(3);
  return sampler.lines.slice(from).map(parse);
}

function parse(line: string): Sample {
  return JSON.parse(line);
}

function summary(what: string, samples: Sample[]): Row[] {
  const begin = samples[0];
  const back = samples.find(({ watchers }) => watchers >= NODES * WATCHERS)!;
  const last = samples.at(-1)!;
  const fastest = (window: number) => Math.max(...rates(samples, window));
  const figures: [string, number, number?][] = [
    ["until all are back (s)", (back.at - begin.at) / 1000],
    ["calls, most in 100 ms", fastest(100) / 10],
    ["calls a second, most over a second", fastest(1000), MOST_RATE],
    ["calls for each node", last.calls / NODES],
    ["transactions for each node", last.transactions / NODES],
    ["MB sent", last.sent / 2 ** 20],
    ["processor time of etcd (s)", last.cpu - begin.cpu],
  ];
  return figures.map(([figure, value, most]) => ({
    figure: `${what}: ${figure}`,
    ours: value,
    peer: undefined,
    peerName: "",
    goal: most === undefined ? "" : `<= ${most}`,
    met: most === undefined ? undefined : value <= most,
    samples: { rates: rates(samples, 100) },
  }));
}

/** Calls a second over each stretch of at least `window` milliseconds; the first begins with etcd. */
function rates(samples: Sample[], window: number): number[] {
  const zero: Sample = { ...samples[0], at: samples[0].at - 100, calls: 0 };
  const all = [zero, ...samples];
  return all.flatMap((from, index) => {
    const to = all.slice(index + 1).find(({ at }) => at - from.at >= window - 10);
    return to ? [(to.calls - from.calls) * 1000 / (to.at - from.at)] : [];
  });
}
