/**
 * A short soak: a minute of leases that come, go and change beside a running agent. `deno task bench
 * soak` does it for longer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { plainNode } from "../../tools/bench/lib.ts";
import { type Look, soakOne } from "../../tools/bench/soak.ts";
import { Node } from "../../testbed/cluster.ts";

const MINUTES = 1;
const CHANGES_A_SECOND = 20;
/** MB that an agent may have gained from the first part of the time to the last. */
const MOST_GROWTH = 15;

/** The least memory of some looks: what is in use after a garbage collection. */
function lowest(looks: Look[]): number {
  return Math.min(...looks.map(({ privateDirty }) => privateDirty));
}

Deno.test("a minute of churn among 300 nodes: no route lost or wrong, no complaint, no growth", async () => {
  const agent = { on: (node: Node) => plainNode(Node, node) };
  const options = { minutes: MINUTES, nodes: 300, rate: CHANGES_A_SECOND };
  const { churned, looks, wrong, complaints } = await soakOne(agent, options);
  const changes = Object.values(churned.latencies).flat().length;
  assert(changes > MINUTES * 60 * CHANGES_A_SECOND / 2, `${changes} changes`);
  assert.deepEqual(churned.missed, []);
  assert.deepEqual(wrong, []);
  assert.deepEqual(complaints, []);
  const part = Math.floor(looks.length / 3);
  const growth = lowest(looks.slice(-part)) - lowest(looks.slice(0, part));
  assert(growth < MOST_GROWTH, `${growth} MB more`);
});
