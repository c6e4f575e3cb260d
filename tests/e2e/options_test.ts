/** The vxlan backend's options, and flags that change what a node announces. */
import assert from "node:assert/strict";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { run } from "../../testbed/netns.ts";
import {
  assertReach,
  assertVxlan,
  eventually,
  fdb,
  leaseOf,
  link,
  neighbours,
  nodeLease,
  ping,
  routes,
  storedLeases,
} from "./support.ts";

Deno.test("vxlan takes VNI, Port and MTU", async () => {
  await using cluster = await Cluster.create({
    label: "opt-vni",
    network: networkConfig("ipv4", { Type: "vxlan", VNI: 77, Port: 4789, MTU: 1400 }),
  });
  await cluster.startAgents();
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    for (const node of cluster.nodes) {
      await assertVxlan(node, leases, { vni: 77, port: 4789, mtu: 1400 });
    }
  });
  const lease = await nodeLease(cluster, cluster.node(0));
  assert.equal(lease.value.BackendData?.VNI, 77);
  assert.equal((await cluster.node(0).env()).FLANNEL_MTU, "1350");
  const [a, b] = await cluster.attachAll("c1");
  // As large as the overlay carries, and no larger.
  await a.ns.run("ping", "-c1", "-W2", "-Mdo", "-s", "1322", b.ipv4!);
  assert.notEqual((await a.ns.exec("ping", "-c1", "-W1", "-Mdo", "-s", "1323", b.ipv4!)).code, 0);
});

Deno.test("vxlan with DirectRouting routes by the hosts on the link, over IPv4 and IPv6", async () => {
  await using cluster = await Cluster.create({
    label: "opt-direct",
    families: "dual",
    network: networkConfig("dual", { Type: "vxlan", DirectRouting: true }),
  });
  await cluster.startAgents();
  const [one, two] = cluster.nodes;
  await eventually(async () => {
    const peer = leaseOf(await storedLeases(cluster), two);
    assert.deepEqual(await routes(one.ns, "eth0"), [`${peer.subnet} via ${two.ipv4}`]);
    assert.deepEqual(await routes(one.ns, "eth0", "-6"), [`${peer.ipv6Subnet} via ${two.ipv6}`]);
    assert.deepEqual(await routes(two.ns, "eth0"), [
      `${(await nodeLease(cluster, one)).subnet} via ${one.ipv4}`,
    ]);
  });
  assert.deepEqual(await routes(one.ns, "flannel.1"), []);
  assert.deepEqual(await neighbours(one.ns, "flannel.1"), []);
  assert.deepEqual(await fdb(one.ns, "flannel.1"), []);
  const [a, b] = await cluster.attachAll("c1");
  await assertReach(a, b);
});

Deno.test("vxlan with DirectRouting still tunnels to hosts behind a router", async () => {
  await using cluster = await Cluster.create({
    label: "opt-router",
    network: networkConfig("ipv4", { Type: "vxlan", DirectRouting: true }),
  });
  const [one, two] = cluster.nodes;
  // The second host moves behind the switch, which routes to it.
  await cluster.switch.sysctl("net.ipv4.ip_forward", 1);
  await cluster.switch.run("ip", "link", "set", "p1", "nomaster");
  await cluster.switch.run("ip", "address", "add", "198.51.100.1/24", "dev", "p1");
  await two.ns.run("ip", "address", "flush", "dev", "eth0");
  await two.ns.run("ip", "address", "add", "198.51.100.12/24", "dev", "eth0");
  await two.ns.run("ip", "route", "add", "default", "via", "198.51.100.1");
  await cluster.startAgents();
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    const peer = leases.find(({ value }) => value.PublicIP === "198.51.100.12");
    assert.ok(peer);
    await assertVxlan(one, leases, { peers: [peer] });
    assert.deepEqual(await routes(one.ns, "eth0"), []);
  });
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
  await ping(b.ns, a.ipv4!);
});

Deno.test("--iface and --public-ip choose what a node announces", async () => {
  await using cluster = await Cluster.create({ label: "opt-iface" });
  const [one, two] = cluster.nodes;
  await run("ip", [
    ...["link", "add", "eth1", "netns", one.ns.name, "type", "veth"],
    ...["peer", "name", "eth1", "netns", two.ns.name],
  ]);
  for (const [index, { ns }] of cluster.nodes.entries()) {
    await ns.run("ip", "link", "set", "eth1", "mtu", "1400", "up");
    await ns.run("ip", "address", "add", `203.0.113.${11 + index}/24`, "dev", "eth1");
  }
  one.startAgent({ args: ["--iface-regex=^203\\."] });
  two.startAgent({ args: ["-iface=nothere", "-iface", "eth1", "--public-ip=203.0.113.12"] });
  await one.waitReady();
  await two.waitReady();
  const announced = (await storedLeases(cluster)).map(({ value }) => value.PublicIP).sort();
  assert.deepEqual(announced, ["203.0.113.11", "203.0.113.12"]);
  const device = await link(one.ns, "flannel.1");
  assert.equal(device.linkinfo!.info_data.link, "eth1");
  assert.equal(device.mtu, 1350);
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!));
  await ping(b.ns, a.ipv4!);
});

Deno.test("the environment configures the agent, and a flag wins over it", async () => {
  await using cluster = await Cluster.create({ label: "opt-env", nodes: 1 });
  const [node] = cluster.nodes;
  const other = `${node.folder}/other.env`;
  node.startAgent({
    env: { FLANNELD_SUBNET_FILE: other, FLANNELD_IP_MASQ: "true", FLANNELD_HEALTHZ_PORT: "1" },
  });
  await node.waitReady();
  assert.equal((await node.env()).FLANNEL_IPMASQ, "true");
  await assert.rejects(Deno.stat(other), Deno.errors.NotFound);
});

Deno.test("--ip-blackhole-route stops packets for absent containers on this host", async () => {
  await using cluster = await Cluster.create({
    label: "opt-hole",
    nodes: 1,
    agentArgs: ["--ip-blackhole-route", "--bridge="],
  });
  await cluster.startAgents();
  const [node] = cluster.nodes;
  const { subnet } = await nodeLease(cluster, node);
  await eventually(async () =>
    assert.match(await node.ns.run("ip", "route"), new RegExp(`blackhole ${subnet}`))
  );
});
