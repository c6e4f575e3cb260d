/** A running agent stays with its interface and address while they flap or others come. */
import assert from "node:assert/strict";
import { Cluster, type Container, type Node, waitReach } from "../../testbed/cluster.ts";
import { plug } from "../../testbed/netns.ts";
import { eventually, killHard, matching, nodeLease, ping, storedLeases } from "./support.ts";

const OWN = "192.168.77.11";
const OTHER = "192.168.99.11";

/** Two hosts; the first is dual-homed, its second uplink is `eth9` with a worse default route. */
async function dualHomed(label: string): Promise<Cluster> {
  const cluster = await Cluster.create({ label });
  try {
    const [node] = cluster.nodes;
    await cluster.switch.run("ip", "address", "add", "192.168.99.1/24", "dev", "br0");
    await cluster.switch.sysctl("net.ipv4.ip_forward", 1);
    await plug(cluster.switch, "q0", { ns: node.ns, dev: "eth9", addresses: [`${OTHER}/24`] });
    await node.ns.run("ip", "route", "del", "default");
    await defaultRoute(node, "192.168.77.1", "eth0", 100);
    await defaultRoute(node, "192.168.99.1", "eth9", 200);
    await cluster.startAgents();
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

async function defaultRoute({ ns }: Node, via: string, dev: string, metric: number) {
  await ns.run("ip", "route", "add", "default", "via", via, "dev", dev, "metric", `${metric}`);
}

async function reach(a: Container, b: Container): Promise<void> {
  await waitReach(a.ns, b.ipv4!);
  await ping(a.ns, b.ipv4!);
  await ping(b.ns, a.ipv4!);
}

Deno.test("one flap of the uplink does not move a dual-homed node", async () => {
  await using cluster = await dualHomed("flap");
  const [node] = cluster.nodes;
  const [a, b] = await cluster.attachAll("c1");
  await reach(a, b);
  const before = await nodeLease(cluster, node);
  assert.equal(before.value.PublicIP, OWN);
  await node.ns.run("ip", "link", "set", "eth0", "down");
  await node.agent!.waitForLine(/interface eth0 has lost its default route; switching to eth9 in/);
  await new Promise((done) => setTimeout(done, 3_000));
  await node.ns.run("ip", "link", "set", "eth0", "up");
  await defaultRoute(node, "192.168.77.1", "eth0", 100);
  await node.agent!.waitForLine(/Recovered: interface eth0 is usable again$/);
  await reach(a, b);
  assert.deepEqual(await nodeLease(cluster, node), before);
  assert.deepEqual(matching(node.agent!, /Replacing interface|Restarting the session/), []);
});

Deno.test("a restart during a flap of the uplink does not move a dual-homed node", async () => {
  await using cluster = await dualHomed("flaprestart");
  const [node] = cluster.nodes;
  const [a, b] = await cluster.attachAll("c1");
  await reach(a, b);
  const before = await nodeLease(cluster, node);
  await killHard(node.agent!);
  await node.ns.run("ip", "link", "set", "eth0", "down");
  const began = performance.now();
  const agent = node.startAgent();
  await agent.waitForLine(
    /Keeping interface eth0 \(192\.168\.77\.11\) .* no default route now$/,
  );
  await agent.waitForLine(/interface eth0 has lost its default route; switching to eth9 in 30 s/);
  await node.waitReady();
  assert.ok(performance.now() - began < 10_000, "the start does not wait for it");
  await node.ns.run("ip", "link", "set", "eth0", "up");
  await defaultRoute(node, "192.168.77.1", "eth0", 100);
  await agent.waitForLine(/Recovered: interface eth0 is usable again$/);
  await reach(a, b);
  assert.deepEqual(await nodeLease(cluster, node), before);
  assert.deepEqual(matching(agent, /Replacing interface|eth9 and address/), []);
});

Deno.test("an uplink that stays away is replaced, and does not come back by itself", async () => {
  await using cluster = await dualHomed("replace");
  const [node] = cluster.nodes;
  const [a, b] = await cluster.attachAll("c1");
  await reach(a, b);
  const before = await nodeLease(cluster, node);
  await node.ns.run("ip", "route", "del", "default", "dev", "eth0");
  await node.agent!.waitForLine(/switching to eth9 in 30 s unless it comes back$/);
  const begin = performance.now();
  await node.agent!.waitForLine(
    /Replacing interface eth0 \(192\.168\.77\.11\) with eth9 \(192\.168\.99\.11\): interface eth0 has no default route, for 3\d s now$/,
    45_000,
  );
  assert.ok(performance.now() - begin > 25_000, "not before some 30 s");
  await eventually(async () => {
    const moved = (await storedLeases(cluster)).find(({ key }) => key === before.key);
    assert.equal(moved?.value.PublicIP, OTHER);
  }, { what: "the other address in etcd" });
  assert.equal((await storedLeases(cluster)).length, 2);
  await reach(a, b);
  await defaultRoute(node, "192.168.77.1", "eth0", 100);
  await node.ns.run("ip", "link", "set", "eth9", "mtu", "1400");
  await eventually(async () => assert.equal((await node.env()).FLANNEL_MTU, "1350"));
  const now = (await storedLeases(cluster)).find(({ key }) => key === before.key);
  assert.equal(now?.value.PublicIP, OTHER);
});

Deno.test("virtual addresses, VPNs and better routes change nothing", async () => {
  await using cluster = await dualHomed("vip");
  const [node] = cluster.nodes;
  const { ns } = node;
  const [a, b] = await cluster.attachAll("c1");
  const before = await nodeLease(cluster, node);
  for (const vip of ["192.168.77.100/32", "192.168.77.101/24", "203.0.113.9/32"]) {
    await ns.run("ip", "address", "add", vip, "dev", "eth0");
  }
  await ns.run("ip", "address", "add", "203.0.113.10/32", "dev", "eth9");
  await ns.run("ip", "link", "add", "tun0", "type", "veth", "peer", "name", "tun1");
  await ns.run("ip", "link", "set", "tun1", "up");
  await ns.run("ip", "link", "set", "tun0", "up");
  await ns.run("ip", "address", "add", "10.8.0.2/24", "dev", "tun0");
  await ns.run("ip", "route", "add", "default", "dev", "tun0", "metric", "50");
  await ns.run("ip", "route", "del", "default", "dev", "tun0");
  await ns.run("ip", "route", "change", "default", "via", "192.168.99.1", "metric", "200");
  await defaultRoute(node, "192.168.99.1", "eth9", 10);
  await ns.run("ip", "route", "del", "default", "dev", "eth9", "metric", "10");
  for (const vip of ["192.168.77.100/32", "203.0.113.9/32"]) {
    await ns.run("ip", "address", "del", vip, "dev", "eth0");
  }
  assert.deepEqual(matching(node.agent!, /Restarting the session/), []);
  // What the agent does after it has seen all of that.
  await ns.run("ip", "link", "set", "eth0", "mtu", "1400");
  await eventually(async () => assert.equal((await node.env()).FLANNEL_MTU, "1350"));
  assert.deepEqual(await nodeLease(cluster, node), before);
  assert.deepEqual(matching(node.agent!, /Replacing|has lost/), []);
  assert.equal(matching(node.agent!, /Restarting the session/).length, 1, "for the MTU alone");
  await reach(a, b);
});

Deno.test("an interface that is deleted and made again is the same", async () => {
  await using cluster = await dualHomed("again");
  const [node] = cluster.nodes;
  const [a, b] = await cluster.attachAll("c1");
  await reach(a, b);
  const before = await nodeLease(cluster, node);
  await node.ns.run("ip", "link", "del", "eth0");
  await node.agent!.waitForLine(/interface eth0 was deleted; waiting for it to come back$/);
  const port = { ns: node.ns, dev: "eth0", addresses: [`${OWN}/24`] };
  await plug(cluster.switch, "p9", port);
  await defaultRoute(node, "192.168.77.1", "eth0", 100);
  await node.agent!.waitForLine(/Recovered: interface eth0 is usable again$/);
  await reach(a, b);
  assert.deepEqual(await nodeLease(cluster, node), before);
  assert.deepEqual(matching(node.agent!, /Replacing interface/), []);
});

Deno.test("a deleted interface is replaced after a few seconds", async () => {
  await using cluster = await dualHomed("gone");
  const [node] = cluster.nodes;
  const [a, b] = await cluster.attachAll("c1");
  const before = await nodeLease(cluster, node);
  await node.ns.run("ip", "link", "del", "eth0");
  await node.agent!.waitForLine(
    /Replacing interface eth0 .* with eth9 .*: interface eth0 was deleted$/,
  );
  await eventually(async () => {
    const moved = (await storedLeases(cluster)).find(({ key }) => key === before.key);
    assert.equal(moved?.value.PublicIP, OTHER);
  });
  await reach(a, b);
});

Deno.test("an address that moves to a bridge is followed there", async () => {
  await using cluster = await dualHomed("bridge");
  const [node] = cluster.nodes;
  const { ns } = node;
  const [a, b] = await cluster.attachAll("c1");
  const before = await nodeLease(cluster, node);
  await ns.run("ip", "link", "add", "br9", "type", "bridge");
  await ns.run("ip", "link", "set", "br9", "up");
  await ns.run("ip", "address", "flush", "dev", "eth0");
  await ns.run("ip", "link", "set", "eth0", "master", "br9");
  await ns.run("ip", "address", "add", `${OWN}/24`, "dev", "br9");
  await defaultRoute(node, "192.168.77.1", "br9", 100);
  await node.agent!.waitForLine(/Replacing interface eth0 \(.*\) with br9 \(192\.168\.77\.11\)/);
  await reach(a, b);
  assert.deepEqual(await nodeLease(cluster, node), before);
});
