/**
 * What a peer costs an agent on the vxlan backend: processor time at its start and memory at rest.
 *
 * @module
 */
import { Cluster } from "../../testbed/cluster.ts";
import { waitFor } from "../../testbed/netns.ts";
import {
  anchor,
  type Contender,
  type Cost,
  counted,
  cpuSeconds,
  LARGE_NETWORK,
  memoryOf,
  pause,
  putPeers,
  routeCount,
} from "./lib.ts";

const SIZES = [0, 1_000, 10_000, 30_000];
const LIMIT_MS = 120_000;
/** Memory that only the start used goes back to the kernel within this time. */
const SETTLE_S = 25;

/** See the module. */
export async function* agentCosts(ours: Contender): AsyncGenerator<Cost, void, void> {
  for (const size of SIZES) {
    await using cluster = await Cluster.create({
      label: "acost",
      nodes: 1,
      network: LARGE_NETWORK,
    });
    if (size > 0) await putPeers(cluster, 0, size);
    const node = ours.on(cluster.node(0));
    const eye = anchor(node);
    const before = await routeCount(eye);
    const { pid } = node.startAgent();
    await waitFor(async () => await routeCount(eye) >= before + size, {
      limitMs: LIMIT_MS,
      what: `${size} routes`,
    });
    await pause(2);
    const name = `agent with ${counted(size)} peers`;
    yield [`${name}: processor until they are there (s)`, await cpuSeconds(pid)];
    await pause(SETTLE_S);
    const { resident, privateDirty } = await memoryOf(pid);
    yield [`${name}: resident (MB)`, resident];
    yield [`${name}: private dirty (MB)`, privateDirty];
  }
}
