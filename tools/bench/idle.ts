/**
 * What an agent holds and burns while nothing happens: one node of two, and one with 1,000 peers. All
 * are measured at the same time, which changes neither memory nor processor time.
 *
 * @module
 */
import { Cluster, type Node } from "../../testbed/cluster.ts";
import {
  type Contender,
  cpuSeconds,
  LARGE_NETWORK,
  median,
  type Memory,
  memory,
  pause,
  putPeers,
  type Row,
  row,
  waitSubnetFile,
} from "./lib.ts";
import { trendOfParts } from "./trend.ts";

/** Time after the start that is left out of the slope. */
const SETTLE_S = 60;
/** Looks from which memory is told, the last ones. */
const LOOKS = 9;
/** Looks at all, of which those of a part are one sample of the trend. */
const ALL_LOOKS = 360;
const PARTS = 30;
const PEERS = 1_000;

/** One agent's figures. */
interface Usage extends Memory {
  /** Processor time of the process and its children, in seconds a minute. */
  cpu: number;
  /** Of the private dirty memory, in MB an hour, and half the width of its confidence interval. */
  slope: number;
  interval: number;
}

/** See the module; the memory is that after `minutes` minutes. */
export async function idle(contenders: Contender[], minutes: number): Promise<Row[]> {
  // All come to their end, also when one fails: each has namespaces to remove.
  const settled = await Promise.allSettled([
    ...contenders.map((contender) => measure(contender, 0, minutes)),
    ...contenders.map((contender) => measure(contender, PEERS, minutes)),
  ]);
  const measured = settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
  const few = measured.slice(0, contenders.length);
  const many = measured.slice(contenders.length);
  const rows = (what: string, usages: Usage[], limits: boolean) => {
    const of = (key: keyof Usage) =>
      Object.fromEntries(contenders.map(({ name }, index) => [name, [usages[index][key]]]));
    const name = `idle, ${what}, after ${minutes} minutes:`;
    return [
      row(`${name} resident (MB)`, of("resident"), median, limits ? 75 : undefined),
      row(`${name} private dirty (MB)`, of("privateDirty"), median, limits ? 30 : undefined),
      row(`${name} slope of private dirty (MB an hour)`, of("slope"), median),
      row(`${name} half of its 95 % interval (MB an hour)`, of("interval"), median),
      row(`${name} processor time in a minute (s)`, of("cpu"), median, limits ? 0.1 : undefined),
    ];
  };
  return [...rows("2 nodes", few, true), ...rows("1,000 peers", many, false)];
}

async function measure(contender: Contender, peers: number, minutes: number): Promise<Usage> {
  await using cluster = await Cluster.create({
    label: "bidle",
    nodes: peers > 0 ? 1 : 2,
    network: LARGE_NETWORK,
  });
  if (peers > 0) await putPeers(cluster, 0, peers);
  const nodes = cluster.nodes.map((node) => contender.on(node));
  for (const node of nodes) node.startAgent();
  await Promise.all(nodes.map(waitSubnetFile));
  await pause(SETTLE_S);
  const { pid } = nodes[0].agent!;
  const started = performance.now();
  const hours = () => (performance.now() - started) / 3_600_000;
  const before = await cpuSeconds(pid);
  const looks: { hours: number; memory: Memory }[] = [];
  for (let look = 0; look < ALL_LOOKS; look++) {
    await pause(minutes * 60 / ALL_LOOKS);
    looks.push({ hours: hours(), memory: await memory(pid) });
  }
  const cpu = (await cpuSeconds(pid) - before) / (hours() * 60);
  requireAlive(nodes);
  const last = looks.slice(-LOOKS).map((look) => look.memory);
  const { slope, interval } = trendOfParts(
    looks.map((look) => [look.hours, look.memory.privateDirty]),
    PARTS,
  );
  return {
    resident: median(last.map(({ resident }) => resident)),
    privateDirty: median(last.map(({ privateDirty }) => privateDirty)),
    cpu,
    slope,
    interval,
  };
}

function requireAlive(nodes: Node[]): void {
  for (const { agent } of nodes) {
    if (agent!.ended) throw new Error(`the agent ended:\n${agent!.lines.join("\n")}`);
  }
}
