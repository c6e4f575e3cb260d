/** Every pair of five hosts. */
import assert from "node:assert/strict";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { eventually, ips, ping, startEcho, storedLeases, tcp, waitForwarding } from "./support.ts";

for (
  const { backend, families } of [
    { backend: "vxlan", families: "dual" },
    { backend: "host-gw", families: "ipv4" },
  ] as const
) {
  Deno.test(`five hosts reach each other by ${backend}, ${families}`, async () => {
    await using cluster = await Cluster.create({
      label: `five-${backend.slice(0, 2)}`,
      nodes: 5,
      families,
      network: networkConfig(families, { Type: backend }),
    });
    await cluster.startAgents();
    await waitForwarding(cluster, backend);
    assert.equal((await storedLeases(cluster)).length, 5);
    const containers = await cluster.attachAll("c1");
    for (const { ns } of containers) {
      const others = containers.filter((other) => other.ns !== ns);
      await Promise.all(
        others.flatMap((other) => [...ips(other), ...ips(other.node)]).map((ip) => ping(ns, ip)),
      );
    }
    const [hub, ...rest] = containers;
    await startEcho(hub.ns);
    await Promise.all(rest.map(({ ns }) => tcp(ns, ips(hub), 500_000)));
    // A host that leaves takes nothing of the others along.
    const [gone, ...left] = cluster.nodes;
    await gone.ns[Symbol.asyncDispose]();
    for (const [index, { ns }] of rest.entries()) {
      const next = rest[(index + 1) % rest.length];
      await Promise.all(ips(next).map((ip) => ping(ns, ip)));
    }
    await eventually(() => left.forEach(({ agent }) => assert.equal(agent!.ended, false)));
  });
}
