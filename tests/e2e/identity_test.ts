/** A node that comes back under another address, and machines that only look like it. */
import assert from "node:assert/strict";
import { Cluster, GO_FLANNELD, GoNode, networkConfig, type Node } from "../../testbed/cluster.ts";
import {
  assertVxlan,
  eventually,
  killHard,
  link,
  matching,
  ping,
  Probe,
  type StoredLease,
  storedLeases,
  terminate,
  waitForwarding,
} from "./support.ts";

/** Where a node's agent remembers its lease. */
function leaseFile(node: Node): string {
  return `${node.subnetFile}.lease`;
}

/** Gives a host another address, as DHCP does while its agent is down. */
async function readdress(node: Node, from: string, to: string): Promise<void> {
  const { ns } = node;
  await ns.run("ip", "address", "del", `${from}/24`, "dev", "eth0");
  await ns.run("ip", "address", "add", `${to}/24`, "dev", "eth0");
  await ns.run("ip", "route", "replace", "default", "via", "192.168.77.1");
}

/** The one lease that announces an address. */
function byAddress(leases: StoredLease[], ip: string): StoredLease {
  const found = leases.filter(({ value }) => value.PublicIP === ip);
  assert.equal(found.length, 1, `one lease of ${ip}`);
  return found[0];
}

for (const backend of ["vxlan", "host-gw", "udp", "alloc"]) {
  Deno.test(`${backend}: under another address after kill -9 a node keeps its subnet`, async () => {
    await using cluster = await Cluster.create({
      label: `moved-${backend.slice(0, 2)}`,
      network: networkConfig("ipv4", { Type: backend }),
    });
    await cluster.startAgents();
    const [one, two] = cluster.nodes;
    const [a, b] = await cluster.attachAll("c1");
    if (backend !== "alloc") await eventually(() => ping(a.ns, b.ipv4!));
    const before = await storedLeases(cluster);
    const own = byAddress(before, one.ipv4!);
    let from = one.ipv4!;
    // Once killed and once stopped; then as after a reboot that keeps the folder.
    for (const [at, end] of [killHard, terminate, killHard].entries()) {
      await end(one.agent!);
      const to = `192.168.77.${60 + at}`;
      await readdress(one, from, to);
      if (at === 2 && backend === "vxlan") await one.ns.run("ip", "link", "del", "flannel.1");
      from = to;
      one.startAgent();
      await one.waitReady();
      const leases = await storedLeases(cluster);
      assert.deepEqual(leases.map(({ key }) => key), before.map(({ key }) => key));
      const now = byAddress(leases, to);
      assert.equal(now.key, own.key);
      assert.deepEqual(now.value.BackendData, own.value.BackendData);
      if (backend === "alloc") continue;
      await eventually(() => ping(a.ns, b.ipv4!));
      await eventually(() => ping(b.ns, a.ipv4!));
    }
    assert.equal(two.agent!.ended, false);
    const { mode } = await Deno.stat(leaseFile(one));
    assert.equal(mode! & 0o777, 0o600);
  });
}

Deno.test("vxlan: --public-ip of another address is the same node", async () => {
  await using cluster = await Cluster.create({ label: "moved-ip" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one] = cluster.nodes;
  const before = await storedLeases(cluster);
  await killHard(one.agent!);
  const agent = one.startAgent({ args: ["--public-ip=192.168.77.99"] });
  await one.waitReady();
  const leases = await storedLeases(cluster);
  assert.deepEqual(leases.map(({ key }) => key), before.map(({ key }) => key));
  const moved = byAddress(leases, "192.168.77.99");
  assert.equal(
    moved.value.BackendData?.VtepMAC,
    byAddress(before, one.ipv4!).value.BackendData?.VtepMAC,
  );
  assert.equal(
    matching(agent, /Found this node's lease .* for former IP \(192\.168\.77\.11\)/).length,
    1,
  );
});

for (const device of ["stays", "is gone"]) {
  Deno.test(`vxlan: an unknown node whose MAC a lease still holds takes a fresh one; its device ${device}`, async () => {
    await using cluster = await Cluster.create({ label: "freshmac" });
    await cluster.startAgents();
    await waitForwarding(cluster, "vxlan");
    const [one, two] = cluster.nodes;
    const own = byAddress(await storedLeases(cluster), one.ipv4!);
    await killHard(one.agent!);
    await Deno.remove(one.subnetFile);
    await Deno.remove(leaseFile(one));
    if (device === "is gone") await one.ns.run("ip", "link", "del", "flannel.1");
    await readdress(one, one.ipv4!, "192.168.77.60");
    one.startAgent();
    await one.waitReady();
    const leases = await storedLeases(cluster);
    const now = byAddress(leases, "192.168.77.60");
    assert.notEqual(now.key, own.key);
    assert.notEqual(now.value.BackendData!.VtepMAC, own.value.BackendData!.VtepMAC);
    assert.equal((await link(one.ns, "flannel.1")).address, now.value.BackendData!.VtepMAC);
    const [a, b] = await cluster.attachAll("c1");
    await eventually(() => ping(b.ns, a.ipv4!));
    await ping(a.ns, b.ipv4!);
    assert.deepEqual(matching(two.agent!, /VTEP MAC .* is (already that of|this node's own)/), []);
  });
}

Deno.test("clones of a running machine get subnets of their own, and it loses no packet", async () => {
  await using cluster = await Cluster.create({ label: "clones", nodes: 4 });
  const [one, two, ...clones] = cluster.nodes;
  for (const node of [one, two]) node.startAgent();
  for (const node of [one, two]) await node.waitReady();
  const [a, b] = await Promise.all([one, two].map((node) => node.attach("c1")));
  await eventually(() => ping(a.ns, b.ipv4!));
  const before = byAddress(await storedLeases(cluster), one.ipv4!);
  const { address } = await link(one.ns, "flannel.1");
  await using probe = new Probe(b.ns, a.ipv4!);
  await probe.answers(10);
  for (const clone of clones) {
    await Deno.copyFile(one.subnetFile, clone.subnetFile);
    await Deno.copyFile(leaseFile(one), leaseFile(clone));
    // A memory snapshot has the device, too.
    await clone.ns.run(
      ...["ip", "link", "add", "flannel.1", "address", address, "type", "vxlan"] as const,
      ...["id", "1", "dev", "eth0", "local", clone.ipv4!, "dstport", "8472", "nolearning"],
    );
  }
  const agents = clones.map((clone) => clone.startAgent());
  await Promise.all(agents.map((agent) => agent.waitForLine(/seems to be a clone of that one/)));
  await Promise.all(clones.map((clone) => clone.waitReady()));
  await probe.answers(20);
  assert.deepEqual(await probe.end(), []);
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    assert.equal(leases.length, 4);
    assert.equal(byAddress(leases, one.ipv4!).raw, before.raw);
    assert.equal(byAddress(leases, one.ipv4!).key, before.key);
    const macs = leases.map(({ value }) => value.BackendData!.VtepMAC);
    assert.equal(new Set(macs).size, 4);
    for (const node of cluster.nodes) await assertVxlan(node, leases);
  });
  assert.match(
    one.agent!.lines.join("\n"),
    /uses this node's (?:lease|public address)/,
  );
});

Deno.test("a clone with the same public address waits, and the first keeps its lease", async () => {
  await using cluster = await Cluster.create({ label: "clone-ip", nodes: 3 });
  const [one, two, clone] = cluster.nodes;
  for (const node of [one, two]) node.startAgent();
  for (const node of [one, two]) await node.waitReady();
  const [a, b] = await Promise.all([one, two].map((node) => node.attach("c1")));
  await eventually(() => ping(a.ns, b.ipv4!));
  const before = await storedLeases(cluster);
  await using probe = new Probe(b.ns, a.ipv4!);
  await probe.answers(10);
  await Deno.copyFile(leaseFile(one), leaseFile(clone));
  const agent = clone.startAgent({ args: [`--public-ip=${one.ipv4}`] });
  await agent.waitForLine(/Another agent uses this node's public address .*; waiting$/);
  await probe.answers(50);
  assert.deepEqual(await probe.end(), []);
  assert.deepEqual(
    (await storedLeases(cluster)).map(({ key, raw }) => [key, raw]),
    before.map(({ key, raw }) => [key, raw]),
  );
  await assert.rejects(Deno.stat(clone.subnetFile), Deno.errors.NotFound);
  assert.equal(matching(one.agent!, /; keeping it$/).length, 1);
  assert.equal(matching(agent, /Another agent uses/).length, 1);
});

Deno.test("a lease file that is garbage is ignored with one warning", async () => {
  await using cluster = await Cluster.create({ label: "badfile", nodes: 1 });
  const [node] = cluster.nodes;
  await Deno.writeTextFile(leaseFile(node), "{".repeat(3_000));
  const agent = node.startAgent();
  await node.waitReady();
  assert.equal(matching(agent, /W.*Ignoring the lease file .*: it is not JSON/).length, 1);
  await eventually(async () => {
    assert.match(await Deno.readTextFile(leaseFile(node)), /^\{"version":1,.*\}\n$/);
  });
});

Deno.test({
  name: "from a Go flanneld to ours and back the subnet stays" +
    (GO_FLANNELD ? "" : " (skipped: GO_FLANNELD names no Go flanneld)"),
  ignore: !GO_FLANNELD,
  fn: async () => {
    await using cluster = await Cluster.create({ label: "gothere", nodes: 1 });
    const ours = cluster.node(0);
    const go = new GoNode(cluster, ours.index, ours.ns, ours.folder);
    go.startAgent();
    await go.waitReady();
    const { key } = byAddress(await storedLeases(cluster), ours.ipv4!);
    const next = async (node: Node, args: string[] = []) => {
      node.startAgent({ args });
      await node.waitReady();
      const leases = await storedLeases(cluster);
      assert.deepEqual(leases.map((lease) => lease.key), [key]);
    };
    await killHard(go.agent!);
    await next(ours);
    await terminate(ours.agent!);
    await next(go);
    await killHard(go.agent!);
    await next(ours);
    // What we remember of the time before is not what Go flannel has made of it: now it is again.
    await killHard(ours.agent!);
    await next(ours, ["--public-ip=192.168.77.99"]);
  },
});
