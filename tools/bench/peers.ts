/**
 * From the spawn until all peers that were in etcd before are in the kernel: routes, which come last,
 * are waited for, and neighbours and fdb entries counted then.
 *
 * @module
 */
import { Cluster } from "../../testbed/cluster.ts";
import type { Process } from "../../testbed/netns.ts";
import {
  anchor,
  type Contender,
  LARGE_NETWORK,
  median,
  putPeers,
  requireEntries,
  reset,
  routeCount,
  type Row,
  row,
  timeStart,
} from "./lib.ts";

/** Rounds by number of peers. */
const SIZES: [peers: number, rounds: number][] = [[5_000, 3], [10_000, 2]];
const LIMIT_MS = 60_000;

/** See the module. */
export async function peers(contenders: Contender[]): Promise<Row[]> {
  await using cluster = await Cluster.create({ label: "bpeers", nodes: 1, network: LARGE_NETWORK });
  const eye = anchor(cluster.node(0));
  const medians: Record<string, number>[] = [];
  const rows: Row[] = [];
  let there = 0;
  for (const [count, rounds] of SIZES) {
    await putPeers(cluster, there, count - there);
    there = count;
    const samples: Record<string, number[]> = {};
    for (let round = 0; round < rounds; round++) {
      for (const contender of contenders) {
        (samples[contender.name] ??= []).push(await once(cluster, contender, eye, count));
      }
    }
    medians.push(Object.fromEntries(Object.entries(samples).map(([k, v]) => [k, median(v)])));
    const most = count === 5_000 ? 0.6 : undefined;
    rows.push(
      row(`${count} peers in the kernel after the spawn, median (s)`, samples, median, most),
    );
  }
  const growth = (name: string) => medians.map((of) => of[name]).reduce((a, b) => b / a);
  rows.push(row(
    "time of 10,000 peers over that of 5,000",
    Object.fromEntries(contenders.map(({ name }) => [name, [growth(name)]])),
    median,
    2.2,
  ));
  return rows;
}

async function once(
  cluster: Cluster,
  contender: Contender,
  eye: Process,
  count: number,
): Promise<number> {
  const node = contender.on(cluster.node(0));
  const before = await routeCount(eye);
  const seconds = await timeStart(
    node,
    async () => await routeCount(eye) >= before + count,
    5,
    LIMIT_MS,
  );
  // The device's own address may count among the routes: wait for the last few.
  await settle(eye);
  await requireEntries(node, count);
  await reset(node, "keep");
  return seconds;
}

/** Waits until the number of routes stands still. */
async function settle(eye: Process): Promise<void> {
  for (let last = -1, now = await routeCount(eye); now !== last;) {
    await new Promise((done) => setTimeout(done, 200));
    [last, now] = [now, await routeCount(eye)];
  }
}
