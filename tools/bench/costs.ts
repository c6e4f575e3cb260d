/**
 * Unit costs, for `docs/scale.md`.
 *
 * @module
 */
import { etcdCosts } from "./etcd_costs.ts";
import { kernelCosts } from "./kernel_costs.ts";
import type { Row } from "./lib.ts";

/** See the module. */
export async function costs(): Promise<Row[]> {
  const all = [...await etcdCosts(), ...await kernelCosts()];
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
