/** Leases that end, are taken away, or are the operator's reservation. */
import assert from "node:assert/strict";
import { Cluster, PREFIX } from "../../testbed/cluster.ts";
import {
  assertVxlan,
  baseAddress,
  deleteLease,
  eventually,
  killHard,
  leaseOf,
  nodeLease,
  ping,
  putLease,
  storedLeases,
  subnetFileText,
  terminate,
  waitForwarding,
} from "./support.ts";

Deno.test("a lease is renewed, and when its agent is gone it ends and its routes go", async () => {
  const ttl = 5;
  await using cluster = await Cluster.create({
    label: "expire",
    nodes: 3,
    families: "dual",
    agentArgs: [`--subnet-lease-ttl=${ttl}`],
  });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one, two, three] = cluster.nodes;
  const leases = await storedLeases(cluster);
  const gone = leaseOf(leases, one);
  await killHard(one.agent!);
  const left = leases.filter((lease) => lease !== gone);
  const before = performance.now();
  await eventually(async () => {
    assert.deepEqual(await storedLeases(cluster), left);
    await assertVxlan(two, left);
    await assertVxlan(three, left);
  }, { limitMs: 4 * ttl * 1000, what: "the end of the lease" });
  assert.ok(performance.now() - before > 1000, "not before its time");
  // The others' leases outlive their time by renewal.
  await new Promise((done) => setTimeout(done, (ttl + 2) * 1000));
  assert.deepEqual(await storedLeases(cluster), left);
  const containers = await Promise.all([two, three].map((node) => node.attach("c1")));
  await ping(containers[0].ns, containers[1].ipv4!);
  // The node that comes back gets a lease and is reached again.
  one.startAgent();
  await one.waitReady();
  await waitForwarding(cluster, "vxlan");
  assert.equal((await nodeLease(cluster, one)).subnet, gone.subnet);
});

Deno.test("our own lease, deleted by an operator, is claimed again", async () => {
  await using cluster = await Cluster.create({ label: "deleted" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one] = cluster.nodes;
  const before = await nodeLease(cluster, one);
  await deleteLease(cluster, before.key);
  await eventually(async () => assert.deepEqual(await nodeLease(cluster, one), before), {
    limitMs: 5_000,
    what: "the lease again",
  });
  await waitForwarding(cluster, "vxlan");
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
  await ping(b.ns, a.ipv4!);
  // It has an etcd lease again, of which a revoke takes the key along.
  const [id] = (await cluster.etcd.ctl("lease", "list")).split("\n").filter((line) =>
    /^[0-9a-f]{8,}$/.test(line)
  );
  await cluster.etcd.ctl("lease", "revoke", id);
  await eventually(async () => assert.equal((await storedLeases(cluster)).length, 2), {
    limitMs: 5_000,
    what: "the lease after a revoke",
  });
  assert.equal((await nodeLease(cluster, one)).key, before.key);
});

Deno.test("a subnet that another node took over is given up for a new one", async () => {
  await using cluster = await Cluster.create({ label: "taken" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one, two] = cluster.nodes;
  const before = await nodeLease(cluster, one);
  await putLease(cluster, before.key, {
    PublicIP: "192.168.77.99",
    PublicIPv6: null,
    BackendType: "vxlan",
    BackendData: { VNI: 1, VtepMAC: "02:00:00:00:00:99" },
  });
  await eventually(async () => {
    const now = await nodeLease(cluster, one);
    assert.notEqual(now.key, before.key);
    assert.equal(await Deno.readTextFile(one.subnetFile), subnetFileText(now, { mtu: 1450 }));
    const leases = await storedLeases(cluster);
    await assertVxlan(one, leases);
    await assertVxlan(two, leases);
  });
});

Deno.test("a reservation without expiry is used and kept", async () => {
  await using cluster = await Cluster.create({ label: "reserved" });
  const [one] = cluster.nodes;
  const key = "10.1.99.0-24";
  await putLease(cluster, key, { PublicIP: one.ipv4, PublicIPv6: null });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const lease = await nodeLease(cluster, one);
  assert.equal(lease.subnet, "10.1.99.0/24");
  assert.equal(lease.value.BackendType, "vxlan");
  assert.equal((await one.env()).FLANNEL_SUBNET, "10.1.99.1/24");
  const stored = async () =>
    JSON.parse(
      await cluster.etcd.ctl("get", `${PREFIX}/subnets/${key}`, "-w", "json"),
    ).kvs[0] as { lease?: number };
  assert.equal((await stored()).lease ?? 0, 0, "no expiry");
  await terminate(one.agent!);
  one.startAgent();
  await one.waitReady();
  assert.equal((await stored()).lease ?? 0, 0, "no expiry after a restart");
  assert.equal(await addressOf(cluster), "10.1.99.0");
});

async function addressOf(cluster: Cluster): Promise<string> {
  return baseAddress((await nodeLease(cluster, cluster.node(0))).subnet!);
}
