/**
 * From the spawn to a written subnet.env, on a host that has nothing yet, files in the page cache.
 *
 * @module
 */
import { Cluster } from "../../tests/lib/cluster.ts";
import { type Contender, exists, median, reset, type Row, row, timeStart } from "./lib.ts";

const ROUNDS = 10;

/** See the module. */
export async function start(contenders: Contender[]): Promise<Row[]> {
  await using cluster = await Cluster.create({ label: "bstart", nodes: 1 });
  const samples: Record<string, number[]> = {};
  // The first round warms the caches and is not counted.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const contender of contenders) {
      const node = contender.on(cluster.node(0));
      const seconds = await timeStart(node, () => exists(node.subnetFile), 1, 20_000);
      if (round > 0) (samples[contender.name] ??= []).push(seconds);
      await reset(node);
    }
  }
  return [
    row("start to subnet.env, median (s)", samples, median, 0.3),
    row("start to subnet.env, fastest (s)", samples, (list) => Math.min(...list)),
    row("start to subnet.env, slowest (s)", samples, (list) => Math.max(...list)),
  ];
}
