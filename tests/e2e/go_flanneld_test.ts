/** Clusters of both kinds: half the hosts run a Go flanneld, where `GO_FLANNELD` names one. */
import assert from "node:assert/strict";
import { Cluster, GO_FLANNELD, networkConfig } from "../../testbed/cluster.ts";
import { assertReach, eventually, storedLeases } from "./support.ts";

for (
  const { backend, families } of [
    { backend: "vxlan", families: "ipv4" },
    { backend: "vxlan", families: "dual" },
    { backend: "host-gw", families: "ipv4" },
    { backend: "host-gw", families: "dual" },
  ] as const
) {
  Deno.test({
    name: `ours and a Go flanneld reach each other by ${backend}, ${families}` +
      (GO_FLANNELD ? "" : " (skipped: GO_FLANNELD names no Go flanneld)"),
    ignore: !GO_FLANNELD,
    fn: async () => {
      await using cluster = await Cluster.create({
        label: `go-${backend.slice(0, 2)}`,
        families,
        network: networkConfig(families, { Type: backend }),
        goNodes: [1],
      });
      await cluster.startAgents();
      const leases = await storedLeases(cluster);
      assert.equal(leases.length, 2);
      const containers = await cluster.attachAll("c1");
      await eventually(() => assertReach(containers[0], containers[1]), { limitMs: 30_000 });
    },
  });
}
