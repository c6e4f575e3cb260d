/** etcd away for a while, changes meanwhile, and a history that was compacted. */
import assert from "node:assert/strict";
import { Cluster, configWithRoom, PREFIX } from "../../testbed/cluster.ts";
import {
  assertVxlan,
  deleteLease,
  eventually,
  matching,
  Probe,
  putLease,
  storedLeases,
  waitForwarding,
} from "./support.ts";

/** Milliseconds in which an agent takes up again what it missed. */
const RECOVERY_LIMIT = 20_000;

const peer = (number: number) => ({
  PublicIP: `192.168.77.${number}`,
  PublicIPv6: null,
  BackendType: "vxlan",
  BackendData: { VNI: 1, VtepMAC: `02:00:00:00:01:${number}` },
});

Deno.test("packets cross while etcd is away, and agents go on when it is back", async () => {
  await using cluster = await Cluster.create({ label: "outage", network: configWithRoom() });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [a, b] = await cluster.attachAll("c1");
  await using probe = new Probe(a.ns, b.ipv4!);
  await probe.answers(10);
  const before = await storedLeases(cluster);
  await cluster.etcd.stop();
  for (const { agent } of cluster.nodes) await agent!.waitForLine(/^[WE].*etcd/i);
  // What is damaged meanwhile is healed from memory.
  const [one] = cluster.nodes;
  await one.ns.run(
    "bridge",
    "fdb",
    "append",
    "02:00:00:00:00:07",
    "dev",
    "flannel.1",
    "dst",
    "192.0.2.1",
  );
  await eventually(() => assertVxlan(one, before), { limitMs: 2_000 });
  assert.equal((await one.health("/healthz")).status, 200);
  await probe.answers(100);
  await cluster.etcd.restart();
  assert.deepEqual(await storedLeases(cluster), before);
  await putLease(cluster, "10.1.251.0-24", peer(61));
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    assert.equal(leases.length, 3);
    for (const node of cluster.nodes) await assertVxlan(node, leases);
  }, { limitMs: RECOVERY_LIMIT, what: "a peer that came after the outage" });
  assert.deepEqual(await probe.end(), []);
  for (const { agent } of cluster.nodes) {
    assert.equal(agent!.ended, false);
    const complaints = matching(agent!, /^[WE].*etcd/i);
    assert.ok(complaints.length <= 4, `said once a state:\n${complaints.join("\n")}`);
  }
});

Deno.test("changes and a compaction during a disconnect are taken up", async () => {
  await using cluster = await Cluster.create({ label: "compact", network: configWithRoom() });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [a, b] = await cluster.attachAll("c1");
  await putLease(cluster, "10.1.252.0-24", peer(62));
  await putLease(cluster, "10.1.253.0-24", peer(63));
  await waitForwarding(cluster, "vxlan");
  await using probe = new Probe(a.ns, b.ipv4!);
  await probe.answers(10);
  // A restart of etcd ends the connections, and the rule keeps this node from a new one.
  const [one] = cluster.nodes;
  const rule = ["OUTPUT", "-p", "tcp", "--dport", "2379", "-j", "REJECT"];
  await cluster.etcd.stop();
  await one.ns.run("iptables", "-I", ...rule);
  await cluster.etcd.restart();
  await deleteLease(cluster, "10.1.252.0-24");
  await putLease(cluster, "10.1.253.0-24", peer(64));
  await putLease(cluster, "10.1.254.0-24", peer(65));
  const status = JSON.parse(await cluster.etcd.ctl("endpoint", "status", "-w", "json")) as {
    Status: { header: { revision: number } };
  }[];
  await cluster.etcd.ctl("compaction", "--physical", String(status[0].Status.header.revision));
  await eventually(async () => await assertVxlan(cluster.node(1), await storedLeases(cluster)), {
    limitMs: RECOVERY_LIMIT,
    what: "the changes on the node that was not cut off",
  });
  await one.ns.run("iptables", "-D", ...rule);
  await eventually(async () => await assertVxlan(one, await storedLeases(cluster)), {
    limitMs: RECOVERY_LIMIT,
    what: "the changes on the node that was cut off",
  });
  assert.deepEqual(await probe.end(), []);
  // And the watch works on.
  await deleteLease(cluster, "10.1.254.0-24");
  await eventually(async () => await assertVxlan(one, await storedLeases(cluster)), {
    limitMs: 2_000,
  });
});

Deno.test("a member of etcd that is cut off from its cluster is left for another one", async () => {
  await using cluster = await Cluster.create({ label: "cutoff", nodes: 1, etcdMembers: 3 });
  const [node] = cluster.nodes;
  node.startAgent();
  await node.waitReady();
  const connections = await node.ns.run(
    "ss",
    "-Htn",
    "state",
    "established",
    "dport",
    "=",
    ":2379",
  );
  const member = cluster.etcds.findIndex(({ address }) => connections.includes(address));
  for (const chain of ["INPUT", "OUTPUT"]) {
    for (const end of ["--dport", "--sport"]) {
      const rule = [chain, "-p", "tcp", end, "2380", "-j", "DROP"];
      await cluster.etcdHosts[member].run("iptables", "-I", ...rule);
    }
  }
  const other = cluster.etcds[(member + 1) % 3];
  const lease = JSON.stringify(peer(61));
  await eventually(() => other.ctl("put", `${PREFIX}/subnets/10.1.251.0-24`, lease), {
    limitMs: 30_000,
  });
  // Our lease is renewed in a day: nothing but the watch can tell.
  await eventually(
    async () =>
      assert.match(await node.ns.run("ip", "route", "show", "10.1.251.0/24"), /dev flannel\.1/),
    { limitMs: 40_000, what: "the lease written to the others" },
  );
});

Deno.test("one of several endpoints that works is enough", async () => {
  await using cluster = await Cluster.create({
    label: "endpoints",
    nodes: 1,
    network: configWithRoom(),
  });
  const [node] = cluster.nodes;
  node.startAgent({
    args: [`--etcd-endpoints=http://127.0.0.1:4001,${cluster.etcd.endpoint}`],
  });
  await node.waitReady();
  await putLease(cluster, "10.1.251.0-24", peer(61));
  await eventually(async () => await assertVxlan(node, await storedLeases(cluster)));
});

Deno.test("an agent that starts before etcd waits for it", async () => {
  await using cluster = await Cluster.create({ label: "early", nodes: 1 });
  await cluster.etcd.stop();
  const [node] = cluster.nodes;
  const agent = node.startAgent();
  await agent.waitForLine(/^[WE].*etcd/i);
  assert.equal((await node.health("/healthz")).status, 200);
  assert.equal((await node.health("/readyz")).status, 503);
  await cluster.etcd.restart();
  await node.waitReady();
});
