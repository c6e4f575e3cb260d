/** Many nodes and few subnets. */
import assert from "node:assert/strict";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { deleteLease, eventually, killHard, leaseOf, matching, storedLeases } from "./support.ts";

const NODES = 22;

Deno.test(`${NODES} agents started at once share no subnet`, async () => {
  await using cluster = await Cluster.create({
    label: "claims",
    nodes: NODES,
    // Hardly more subnets than nodes, so that they do meet.
    network: {
      ...networkConfig("ipv4", { Type: "host-gw" }),
      SubnetMin: "10.1.1.0",
      SubnetMax: `10.1.${NODES + 1}.0`,
    },
    agentArgs: ["--bridge=", "--iptables-forward-rules=false"],
  });
  for (const node of cluster.nodes) node.startAgent();
  await Promise.all(cluster.nodes.map((node) => node.waitReady(60_000)));
  const leases = await storedLeases(cluster);
  assert.equal(leases.length, NODES);
  const written = await Promise.all(cluster.nodes.map(async (node) => {
    const { FLANNEL_SUBNET } = await node.env();
    assert.equal(FLANNEL_SUBNET, leaseOf(leases, node).subnet!.replace(".0/", ".1/"));
    return FLANNEL_SUBNET;
  }));
  assert.equal(new Set(written).size, NODES);
});

Deno.test("a full address range is waited on, and the subnet that frees is taken", async () => {
  await using cluster = await Cluster.create({
    label: "full",
    nodes: 3,
    network: { ...networkConfig(), SubnetMin: "10.1.1.0", SubnetMax: "10.1.2.0" },
  });
  const [one, two, three] = cluster.nodes;
  for (const node of [one, two]) node.startAgent();
  await one.waitReady();
  await two.waitReady();
  const agent = three.startAgent();
  await agent.waitForLine(/no free subnet/);
  assert.equal((await three.health("/readyz")).status, 503);
  await assert.rejects(Deno.stat(three.subnetFile), Deno.errors.NotFound);
  const freed = leaseOf(await storedLeases(cluster), one);
  await killHard(one.agent!);
  await deleteLease(cluster, freed.key);
  await three.waitReady(30_000);
  assert.equal(leaseOf(await storedLeases(cluster), three).subnet, freed.subnet);
  assert.equal(matching(agent, /no free subnet/).length, 1, "said once");
  // The one that comes back finds its subnet taken.
  const late = one.startAgent();
  await late.waitForLine(/no free subnet/);
  await eventually(async () =>
    assert.equal(leaseOf(await storedLeases(cluster), three).subnet, freed.subnet)
  );
});
