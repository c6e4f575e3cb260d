/**
 * What an agent holds and burns while nothing happens: one node of two, and one with 1,000 peers. All
 * are measured in the same minute, which changes neither memory nor processor time.
 *
 * @module
 */
import { Cluster, type Node } from "../../tests/lib/cluster.ts";
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

const SETTLE_S = 10;
const WATCH_S = 60;
const LOOKS = 9;
const PEERS = 1_000;

/** One agent's figures. */
interface Usage extends Memory {
  /** Processor time of the process and its children, in seconds over {@linkcode WATCH_S}. */
  cpu: number;
}

/** See the module. */
export async function idle(contenders: Contender[]): Promise<Row[]> {
  // All come to their end, also when one fails: each has namespaces to remove.
  const settled = await Promise.allSettled([
    ...contenders.map((contender) => measure(contender, 0)),
    ...contenders.map((contender) => measure(contender, PEERS)),
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
    return [
      row(`idle, ${what}: resident (MB)`, of("resident"), median, limits ? 75 : undefined),
      row(`idle, ${what}: private dirty (MB)`, of("privateDirty"), median, limits ? 30 : undefined),
      row(`idle, ${what}: processor time in ${WATCH_S} s (s)`, of("cpu"), median),
    ];
  };
  return [...rows("2 nodes", few, true), ...rows("1,000 peers", many, false)];
}

async function measure(contender: Contender, peers: number): Promise<Usage> {
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
  const before = await cpuSeconds(pid);
  // Several looks, since a child that checks traffic rules lives for an instant every 5 s.
  const looks: Memory[] = [];
  for (let look = 0; look < LOOKS; look++) {
    await pause(WATCH_S / LOOKS);
    looks.push(await memory(pid));
  }
  const cpu = await cpuSeconds(pid) - before;
  requireAlive(nodes);
  return {
    resident: median(looks.map(({ resident }) => resident)),
    privateDirty: median(looks.map(({ privateDirty }) => privateDirty)),
    cpu,
  };
}

function requireAlive(nodes: Node[]): void {
  for (const { agent } of nodes) {
    if (agent!.ended) throw new Error(`the agent ended:\n${agent!.lines.join("\n")}`);
  }
}
