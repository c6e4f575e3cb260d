/** Which interface and address an agent takes at its start, with the routes that hosts have. */
import assert from "node:assert/strict";
import { Cluster, type Node, waitReach } from "../../testbed/cluster.ts";
import { RemoteDataPlane } from "../../testbed/dataplane.ts";
import { NetNs, veth, waitFor } from "../../testbed/netns.ts";
import { eventually, nodeLease, storedLeases, terminate } from "./support.ts";

/** Starts an agent, and gives the interface and address that it logs, or its error. */
async function chosen(node: Node, args: string[] = []): Promise<string> {
  const agent = node.startAgent({ args });
  const line = /Using interface with name (\S+) and address (\S+)$|\b(no interface has .*)$/;
  const [, name, address, error] = await agent.waitForLine(line, 20_000);
  if (error === undefined) await node.waitReady();
  await terminate(agent);
  return error ?? `${name} ${address}`;
}

async function ip(node: { ns: NetNs }, command: string): Promise<void> {
  await node.ns.run("ip", ...command.split(" "));
}

/** A device such as a VPN has. */
async function addTun(node: Node): Promise<void> {
  await ip(node, "link add tun0 type veth peer name tun1");
  for (const dev of ["tun0", "tun1"]) await ip(node, `link set ${dev} up`);
}

Deno.test("the default route of the main table decides, whatever VPNs and blackholes do", async () => {
  await using cluster = await Cluster.create({ label: "choice", nodes: 1 });
  const [node] = cluster.nodes;
  const own = "eth0 192.168.77.11";
  await addTun(node);
  await ip(node, "address add 10.8.0.2/24 dev tun0");
  assert.equal(await chosen(node), own);
  // A route look-up follows each of these; commands that undo them come second.
  const variants = [
    ["OpenVPN", "route add 0.0.0.0/1 dev tun0", "route add 128.0.0.0/1 dev tun0"],
    [
      "wg-quick",
      "route add default dev tun0 table 51820",
      "rule add not fwmark 51820 table 51820",
      "rule add table main suppress_prefixlength 0",
    ],
    ["documentation", "route add blackhole 192.0.2.0/24"],
    ["dead end", "route add unreachable default metric 4278198272"],
    ["blackhole", "route add blackhole default metric 7"],
    ["a worse one", "route add default dev tun0 metric 50"],
  ];
  await ip(node, "route replace default via 192.168.77.1 metric 0");
  for (const [what, ...commands] of variants) {
    for (const command of commands) await ip(node, command);
    assert.equal(await chosen(node), own, what);
    for (const command of commands) await ip(node, command.replace(" add ", " del "));
  }
  await ip(node, "route del default");
  await ip(node, "route add default via 192.168.77.1 metric 100");
  await ip(node, "route add default dev tun0 metric 50");
  assert.equal(await chosen(node), "tun0 10.8.0.2", "the lowest metric");
  await ip(node, "route del default dev tun0");
  await ip(node, "route del default");
  await ip(node, "route add default via 192.168.77.1 table 100");
  assert.match(
    await chosen(node),
    /^no interface has a default route in the main routing table: name one with --iface, or/,
  );
  assert.equal(await chosen(node, ["--iface=eth0"]), own);
});

Deno.test("IPv6 by its own default route, static before dynamic, never deprecated", async () => {
  await using cluster = await Cluster.create({ label: "choice6", nodes: 1, families: "ipv6" });
  const [node] = cluster.nodes;
  await addTun(node);
  await ip(node, "address add fd99::2/64 dev tun0 nodad");
  for (const half of ["::/1", "8000::/1"]) await ip(node, `-6 route add ${half} dev tun0`);
  await ip(node, "-6 route add blackhole 2001:db8::/32");
  assert.equal(await chosen(node), "eth0 fd77::11");
  const life = "valid_lft 3600 preferred_lft 3600";
  await ip(node, `address change fd77::11/64 dev eth0 ${life}`);
  await ip(node, `address add fd77::50/64 dev eth0 nodad`);
  await ip(node, `address add fd77::60/64 dev eth0 nodad ${life}`);
  await ip(node, `address add fd77::70/64 dev eth0 nodad preferred_lft 0`);
  assert.equal(await chosen(node), "eth0 fd77::50");
});

Deno.test("an IPv6 address that is still tentative at the start is waited for", async () => {
  await using cluster = await Cluster.create({ label: "dad", nodes: 1, families: "dual" });
  const [node] = cluster.nodes;
  await node.ns.sysctl("net.ipv6.conf.eth0.dad_transmits", 4);
  await ip(node, "address del fd77::11/64 dev eth0");
  await ip(node, "address add fd77::11/64 dev eth0");
  node.startAgent();
  await node.waitReady();
  assert.equal((await nodeLease(cluster, node)).value.PublicIPv6, "fd77::11");
  const { stdout } = await node.ns.exec("ip", "-6", "address", "show", "dev", "eth0");
  assert.doesNotMatch(stdout, /fd77::11.*tentative/);
});

Deno.test("a static address before a dynamic one, a real one before 169.254/16", async () => {
  await using cluster = await Cluster.create({ label: "order", nodes: 1 });
  const [node] = cluster.nodes;
  await ip(node, "address flush dev eth0");
  const life = "valid_lft 3600 preferred_lft 3600";
  await ip(node, "address add 169.254.7.7/16 dev eth0");
  await ip(node, `address add 192.168.77.70/24 dev eth0 ${life}`);
  await ip(node, "route add default via 192.168.77.1");
  assert.equal(await chosen(node), "eth0 192.168.77.70");
  await ip(node, "address add 192.168.77.11/24 dev eth0");
  assert.equal(await chosen(node), "eth0 192.168.77.11", "static, a secondary one");
  await ip(node, "address change 192.168.77.11/24 dev eth0 preferred_lft 0");
  assert.equal(await chosen(node), "eth0 192.168.77.70", "deprecated");
  await ip(node, "address change 192.168.77.70/24 dev eth0 valid_lft 3600 preferred_lft 0");
  assert.equal(await chosen(node), "eth0 169.254.7.7");
});

Deno.test("of a point-to-point address the near end, and an IPv6 address of any spelling", async () => {
  await using cluster = await Cluster.create({ label: "peer", nodes: 1, families: "dual" });
  const [node] = cluster.nodes;
  await addTun(node);
  await ip(node, "address add 10.50.0.1 peer 10.50.0.2/32 dev tun0");
  await ip(node, "address add fd50::1 peer fd50::2/128 dev tun0 nodad");
  assert.equal(await chosen(node, ["--iface=tun0"]), "tun0 10.50.0.1");
  const [{ value }] = await storedLeases(cluster);
  assert.deepEqual([value.PublicIP, value.PublicIPv6], ["10.50.0.1", "fd50::1"]);
  assert.equal(await chosen(node, ["--iface=FD50:0::1"]), "tun0 10.50.0.1");
});

Deno.test("a node on 169.254/16 moves once DHCP is back, and keeps its subnet", async () => {
  await using cluster = await Cluster.create({ label: "zeroconf" });
  const [node] = cluster.nodes;
  await ip(node, "address add 169.254.7.7/16 dev eth0");
  await ip(node, "address del 192.168.77.11/24 dev eth0");
  await ip(node, "route replace default dev eth0 metric 0 src 169.254.7.7");
  // The store is on another subnet for it.
  await cluster.etcdHost.run("ip", "route", "add", "169.254.0.0/16", "dev", "eth0");
  await cluster.startAgents();
  const before = (await storedLeases(cluster)).find(({ value }) =>
    value.PublicIP === "169.254.7.7"
  );
  assert.ok(before);
  const life = ["valid_lft", "3600", "preferred_lft", "3600"];
  await node.ns.run("ip", "address", "add", "192.168.77.11/24", "dev", "eth0", ...life);
  await eventually(async () => {
    assert.equal((await nodeLease(cluster, node)).key, before.key);
  }, { what: "the new address in etcd" });
  const [a, b] = await cluster.attachAll("c1");
  await waitReach(a.ns, b.ipv4!);
});

Deno.test("an address on lo: the device is lo, the MTU the uplink's", async () => {
  await using cluster = await Cluster.create({ label: "loaddr" });
  for (const { ns, index } of cluster.nodes) {
    await ns.run("ip", "address", "add", `10.99.0.${index + 1}/32`, "dev", "lo");
    const peer = `10.99.0.${2 - index}`;
    await ns.run("ip", "route", "add", peer, "via", `192.168.77.${12 - index}`);
  }
  for (const [index, node] of cluster.nodes.entries()) {
    const args = index === 0 ? ["--iface=lo"] : ["--public-ip=10.99.0.2"];
    node.startAgent({ args });
    await node.waitReady();
    assert.match(
      node.agent!.lines.join("\n"),
      /Using interface with name lo and address 10\.99\.0\./,
    );
    assert.equal((await node.env()).FLANNEL_MTU, "1450");
  }
  const [a, b] = await cluster.attachAll("c1");
  await waitReach(a.ns, b.ipv4!);
  await a.ns.run("ping", "-c3", "-i0.1", "-W2", "-M", "do", "-s", String(1450 - 28), b.ipv4!);
  await ip(cluster.nodes[0], "link set eth0 mtu 1400");
  await eventually(async () => {
    assert.equal((await cluster.nodes[0].env()).FLANNEL_MTU, "1350");
  }, { what: "the uplink's new MTU" });
});

Deno.test("default routes as the kernel lists them", async () => {
  await using host = await NetNs.create("routes");
  await using far = await NetNs.create("routes-far");
  for (const [index, dev] of ["wa", "wb", "wc"].entries()) {
    const addresses = [`192.0.2.${1 + 16 * index}/28`, `2001:db8:${index}::1/64`];
    await veth({ ns: host, dev, addresses }, { ns: far, dev });
  }
  await using dataplane = await RemoteDataPlane.open(host);
  const listed = async (v6 = false) =>
    (await dataplane.defaultRoutes()).filter(({ ipv6 }) => ipv6 === v6)
      .map(({ dev, metric }) => `${dev} ${metric}`);
  const route = (text: string) => host.run("ip", ...text.split(" "));
  assert.deepEqual(await dataplane.defaultRoutes(), []);
  await route("route add default via 192.0.2.2 metric 300");
  await dataplane.event((event) => event.type === "defaultRoute", "a default route");
  await route("route add default metric 200 nexthop via 192.0.2.18 nexthop via 192.0.2.34");
  await route("route add blackhole default metric 1");
  await route("route add 0.0.0.0/1 via 192.0.2.2");
  await route("route add default via 192.0.2.2 table 100");
  assert.deepEqual(await listed(), ["wb 200", "wc 200", "wa 300"]);

  await route("-6 route add default via 2001:db8:0::9 metric 300 pref low");
  await route("-6 route add default via 2001:db8:1::9 dev wb metric 200");
  await route("-6 route add unreachable default metric 5");
  assert.deepEqual(await listed(true), ["wb 200", "wa 300"]);

  for (const compat of [1, 0]) {
    await host.sysctl("net.ipv4.nexthop_compat_mode", compat);
    await route("nexthop add id 7 via 192.0.2.34 dev wc");
    await route("nexthop add id 8 via 192.0.2.18 dev wb");
    await route("nexthop add id 9 group 7/8");
    await route("route add default nhid 9 metric 50");
    assert.deepEqual((await listed()).slice(0, 2), ["wc 50", "wb 50"], `compat mode ${compat}`);
    for (const id of [9, 8, 7]) await route(`nexthop del id ${id}`);
    await route("nexthop add id 6 blackhole");
    await route("route add default nhid 6 metric 50");
    assert.deepEqual((await listed())[0], "wb 200", `blackhole, compat mode ${compat}`);
    await route("nexthop del id 6");
  }

  await far.run("ip", "link", "set", "wb", "down");
  await waitFor(async () => (await dataplane.defaultRoutes()).some(({ linkDown }) => linkDown));
  assert.deepEqual(await listed(), ["wc 200", "wa 300", "wb 200"], "no carrier: the last resort");
  await route("link set wb down");
  assert.deepEqual(await listed(true), ["wa 300"], "down");
});
