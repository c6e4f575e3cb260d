/**
 * From etcd's acknowledgement of a new peer's lease to its route, neighbour and fdb entry, with 1,000
 * peers there, one new peer at a time.
 *
 * @module
 */
import { Cluster } from "../../testbed/cluster.ts";
import { waitFor } from "../../testbed/netns.ts";
import {
  anchor,
  type Contender,
  LARGE_NETWORK,
  putPeers,
  quantile,
  requireEntries,
  reset,
  routeCount,
  type Row,
  row,
  startStore,
  waitSubnetFile,
} from "./lib.ts";
import type { Timing } from "./store.ts";

const THERE = 1_000;
const NEW = 200;

/** See the module. */
export async function latency(contenders: Contender[]): Promise<Row[]> {
  const samples: Record<string, number[]> = {};
  for (const contender of contenders) {
    const timings = await measure(contender);
    samples[contender.name] = timings.map(({ working }) => working);
    const early = timings.filter(({ routeLast }) => !routeLast).length;
    if (early > 0) console.error(`${contender.name}: ${early} routes came before their neighbour`);
  }
  return [
    row("a new peer's lease to its route, median (ms)", samples, (list) => quantile(list, 0.5), 20),
    row("a new peer's lease to its route, p99 (ms)", samples, (list) => quantile(list, 0.99), 50),
  ];
}

async function measure(contender: Contender): Promise<Timing[]> {
  await using cluster = await Cluster.create({ label: "blat", nodes: 1, network: LARGE_NETWORK });
  await putPeers(cluster, 0, THERE);
  const node = contender.on(cluster.node(0));
  const eye = anchor(node);
  const before = await routeCount(eye);
  node.startAgent();
  await waitSubnetFile(node);
  await waitFor(async () => await routeCount(eye) > before + THERE, {
    limitMs: 30_000,
    what: `${THERE} routes`,
  });
  const probe = startStore(node, { job: "time", first: THERE, count: NEW });
  await probe.waitForLine(/^done$/, 60_000);
  await requireEntries(node, THERE + NEW);
  await reset(node);
  return probe.lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}
