/**
 * One agent among simulated nodes that come, go and are replaced for a long time: whether its memory
 * stays as it is, what it burns, how long a change takes, and whether the kernel's tables are right in
 * the end.
 *
 * @module
 */
import { Cluster, type Node } from "../../testbed/cluster.ts";
import type { Process } from "../../testbed/netns.ts";
import type { Change, Churned, ChurnJob } from "./churn.ts";
import { etcdMetrics, total } from "./etcd_metrics.ts";
import {
  type Contender,
  cpuSeconds,
  DEVICE,
  GO,
  LARGE_NETWORK,
  memoryOf,
  pause,
  quantile,
  ROOT,
  type Row,
  waitSubnetFile,
} from "./lib.ts";
import type { Simulated } from "./simulated.ts";
import { trend } from "./trend.ts";

/** How long and how much. */
export interface SoakOptions {
  minutes: number;
  nodes: number;
  /** Changes a second. */
  rate: number;
}

/** What the agent had at a moment. */
export interface Look {
  /** Hours since the churn began. */
  hours: number;
  /** MB. */
  resident: number;
  privateDirty: number;
  /** Processor seconds since its start. */
  cpu: number;
}

/** What came of a soak. */
export interface Soaked {
  churned: Churned;
  looks: Look[];
  /** Differences between the kernel's tables and the nodes that are there. */
  wrong: string[];
  /** Warnings and errors in the agent's log. */
  complaints: string[];
  /** Resident MB of etcd at the end. */
  etcd: number;
}

const LOOK_S = 5;
/** Share of the time that is left out of the trend: the first, in which memory is still taken up. */
const WARM_UP = 1 / 6;
/** Hours in which a garbage collection comes for sure. */
const LOW_HOURS = 2 / 60;
const FILL_LIMIT_MS = 120_000;
/** Keeps etcd as it is run for long. */
const COMPACTION = ["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"];

/** See the module; contenders one after another. */
export async function soak(contenders: Contender[], options: SoakOptions): Promise<Row[]> {
  const results: Partial<Record<Contender["name"], Figure[]>> = {};
  for (const contender of contenders) {
    results[contender.name] = figures(await soakOne(contender, options));
  }
  return results.ours!.map(({ figure, value, most }, index) => ({
    figure,
    ours: value,
    peer: results.go?.[index].value,
    peerName: GO,
    goal: most === undefined ? "" : `<= ${most}`,
    met: most === undefined ? undefined : value <= most,
    samples: {},
  }));
}

/** Soaks one agent. */
export async function soakOne(
  contender: Pick<Contender, "on">,
  { minutes, nodes, rate }: SoakOptions,
  label = "soak",
): Promise<Soaked> {
  await using cluster = await Cluster.create({
    label,
    nodes: 1,
    network: LARGE_NETWORK,
    etcd: { args: COMPACTION },
  });
  const node = contender.on(cluster.node(0));
  node.startAgent();
  await waitSubnetFile(node);
  const churn = startChurn(node, { nodes, rate, seconds: minutes * 60 });
  await churn.waitForLine(/^filled$/, FILL_LIMIT_MS);
  const looks = await watch(node, churn);
  const churned = JSON.parse(churn.lines.at(-1)!) as Churned;
  const metrics = await etcdMetrics(cluster);
  return {
    churned,
    looks,
    wrong: await differences(node, churned.nodes),
    complaints: node.agent!.lines.filter((line) => /^[WEF]\d{4} /.test(line)),
    etcd: total(metrics, "process_resident_memory_bytes") / 2 ** 20,
  };
}

/** Starts a program that changes leases from inside a host; it ends with the host. */
function startChurn(node: Node, job: ChurnJob): Process {
  const args = ["run", "-A", "--no-check", `${ROOT}tools/bench/churn.ts`];
  return node.ns.spawn(Deno.execPath(), [...args, node.cluster.etcd.endpoint, JSON.stringify(job)]);
}

/** Looks at the agent until the churn ends. */
async function watch(node: Node, churn: Process): Promise<Look[]> {
  const looks: Look[] = [];
  const started = performance.now();
  const agent = node.agent!;
  while (!churn.ended) {
    await Promise.race([pause(LOOK_S), churn.status]);
    if (agent.ended) throw new Error(`the agent ended:\n${agent.lines.slice(-30).join("\n")}`);
    const hours = (performance.now() - started) / 3_600_000;
    looks.push({ hours, ...await memoryOf(agent.pid), cpu: await cpuSeconds(agent.pid) });
    if (looks.length % 12 === 0) tell(looks.at(-1)!);
  }
  const { code } = await churn.status;
  if (code !== 0) throw new Error(`the churn ended:\n${churn.lines.slice(-30).join("\n")}`);
  return looks;
}

function tell({ hours, resident, privateDirty, cpu }: Look): void {
  console.error(
    `${(hours * 60).toFixed(1)} min: resident ${resident.toFixed(1)} MB, ` +
      `private dirty ${privateDirty.toFixed(1)} MB, processor ${cpu.toFixed(1)} s`,
  );
}

/** What of routes, neighbours and fdb entries is lost, wrong or left over. */
async function differences(node: Node, nodes: Simulated[]): Promise<string[]> {
  const list = async (...command: [string, ...string[]]) =>
    JSON.parse(await node.ns.run(...command)) as Record<string, string>[];
  const routes = await list("ip", "-j", "-4", "route", "show", "dev", DEVICE);
  const neighbours = await list("ip", "-j", "-4", "neigh", "show", "dev", DEVICE);
  const fdb = await list("bridge", "-j", "fdb", "show", "dev", DEVICE);
  const there = new Set([
    ...routes.map(({ dst, gateway }) => `route ${dst} via ${gateway}`),
    ...neighbours.map(({ dst, lladdr }) => `neighbour ${dst} ${lladdr}`),
    ...fdb.map(({ mac, dst }) => `fdb ${mac} ${dst}`),
  ]);
  const wanted = new Set(nodes.flatMap(({ subnet, ip, mac }) => [
    `route ${subnet}/24 via ${subnet}`,
    `neighbour ${subnet} ${mac}`,
    `fdb ${mac} ${ip}`,
  ]));
  return [
    ...[...wanted.difference(there)].map((entry) => `lost: ${entry}`),
    ...[...there.difference(wanted)].map((entry) => `left over: ${entry}`),
  ];
}

interface Figure {
  figure: string;
  value: number;
  most?: number;
}

function figures({ churned, looks, wrong, complaints, etcd }: Soaked): Figure[] {
  const steady = looks.slice(Math.floor(looks.length * WARM_UP));
  const memory = (what: "resident" | "privateDirty", name: string): Figure[] => {
    const samples = steady.map((look): [number, number] => [look.hours, look[what]]);
    const all = trend(samples);
    const low = trend(lowestOfEach(samples, LOW_HOURS));
    return [
      { figure: `${name}, mean (MB)`, value: mean(samples.map(([, value]) => value)) },
      { figure: `${name}, slope (MB an hour)`, value: all.slope },
      { figure: `${name}, standard error of the slope (MB an hour)`, value: all.error },
      { figure: `${name}, lowest of each 2 minutes: slope (MB an hour)`, value: low.slope },
      { figure: `${name}, lowest: standard error (MB an hour)`, value: low.error },
    ];
  };
  const [first, last] = [steady[0], steady.at(-1)!];
  const latency = (change: Change): Figure[] =>
    [0.5, 0.99].map((q) => ({
      figure: `${change}: etcd's answer to the kernel, p${q * 100} (ms)`,
      value: quantile(churned.latencies[change], q),
    }));
  for (const line of [...churned.missed, ...wrong, ...complaints].slice(0, 20)) {
    console.error(line);
  }
  return [
    { figure: "changes", value: Object.values(churned.latencies).flat().length },
    ...memory("resident", "resident"),
    ...memory("privateDirty", "private dirty"),
    {
      figure: "processor (share of one CPU, %)",
      value: 100 * (last.cpu - first.cpu) / ((last.hours - first.hours) * 3600),
    },
    ...latency("add"),
    ...latency("replace"),
    ...latency("remove"),
    { figure: "changes never seen in the kernel", value: churned.missed.length, most: 0 },
    { figure: "entries lost or left over in the end", value: wrong.length, most: 0 },
    { figure: "warnings and errors in the log", value: complaints.length, most: 0 },
    { figure: "etcd, resident (MB)", value: etcd },
  ];
}

/** What is in use after a garbage collection: between two of them, memory only grows. */
function lowestOfEach(samples: [number, number][], span: number): [number, number][] {
  const groups = Map.groupBy(samples, ([hours]) => Math.floor(hours / span));
  return [...groups.values()].map((group) => group.reduce((a, b) => b[1] < a[1] ? b : a));
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
