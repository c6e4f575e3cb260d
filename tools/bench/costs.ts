/**
 * Unit costs, for `docs/scale.md`.
 *
 * @module
 */
import { agentCosts } from "./agent_costs.ts";
import { etcdCosts } from "./etcd_costs.ts";
import { kernelCosts } from "./kernel_costs.ts";
import type { Contender, Cost, Row } from "./lib.ts";

/** See the module. */
export async function costs([ours]: Contender[]): Promise<Row[]> {
  const all: Cost[] = [];
  for (const measure of [etcdCosts, kernelCosts, () => agentCosts(ours)]) {
    for await (const cost of measure()) {
      console.error(`${cost[0]}: ${cost[1].toPrecision(3)}`);
      all.push(cost);
    }
  }
  return all.map(([figure, value]) => ({
    figure,
    ours: value,
    peer: undefined,
    peerName: "",
    goal: "",
    met: undefined,
    samples: { [figure]: [value] },
  }));
}
