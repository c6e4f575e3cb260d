/** The udp backend by real agents: what it makes, and what crosses it. */
import assert from "node:assert/strict";
import {
  addresses,
  baseAddress,
  deleteLease,
  eventually,
  ips,
  killHard,
  link,
  matching,
  nodeLease,
  peersOf,
  ping,
  Probe,
  putLease,
  routes,
  startEcho,
  tcp,
  terminate,
} from "../e2e/support.ts";
import {
  Cluster,
  type ClusterOptions,
  type Container,
  type Families,
  GO_FLANNELD,
  networkConfig,
  type Node,
  waitReach,
} from "../../testbed/cluster.ts";
import { type NetNs, plug, waitFor } from "../../testbed/netns.ts";
import { transfer } from "../../testbed/transfer.ts";

/** Bytes of the transfer in each direction. */
const BYTES = Number(Deno.env.get("UDP_BYTES") ?? 1_000_000_000);

/** A cluster over udp. */
function udpCluster(families: Families, more: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const network = networkConfig(families, { Type: "udp" });
  return Cluster.create({ label: "udp", families, network, ...more });
}

/** With agents, and a container on each host that reaches the others. */
async function start(cluster: Cluster): Promise<[Container, Container]> {
  await cluster.startAgents();
  const [a, b] = await cluster.attachAll("c1");
  for (const ip of ips(b)) await waitReach(a.ns, ip);
  for (const ip of ips(a)) await waitReach(b.ns, ip);
  return [a, b];
}

/** The leases' base addresses of a node, which its device has. */
async function bases(cluster: Node["cluster"], node: Node): Promise<string[]> {
  const { subnet, ipv6Subnet } = await nodeLease(cluster, node);
  return [subnet, ipv6Subnet].filter((one) => one !== undefined).map(baseAddress);
}

Deno.test("the device, its address and route, and the lease are as flannel's", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  for (const node of cluster.nodes) {
    const lease = await nodeLease(cluster, node);
    assert.equal(lease.raw, `{"PublicIP":"${node.ipv4}","PublicIPv6":null}`);
    const device = await link(node.ns, "flannel0");
    assert.deepEqual(
      [device.linkinfo?.info_kind, device.linkinfo?.info_data.type, device.mtu],
      ["tun", "tun", 1472],
    );
    assert.deepEqual(await addresses(node.ns, "flannel0"), [`${baseAddress(lease.subnet!)}/32`]);
    assert.deepEqual(await routes(node.ns, "flannel0"), ["10.1.0.0/16"]);
    assert.equal((await node.env()).FLANNEL_MTU, "1472");
  }
  assert.equal(a.mtu, 1472);
  await pingAndTcp(a, b);
});

/** Pings and TCP, both ways, between containers and from and to the hosts. */
async function pingAndTcp(a: Container, b: Container): Promise<void> {
  const { cluster } = a.node;
  const ends: [NetNs, string[]][] = [];
  for (const [from, to] of [[a, b], [b, a]]) {
    const host = await bases(cluster, to.node);
    ends.push([from.ns, [...ips(to), ...host]], [from.node.ns, [...ips(to), ...host]]);
  }
  for (const [ns, targets] of ends) for (const ip of targets) await ping(ns, ip);
  await startEcho(a.ns, b.ns, a.node.ns, b.node.ns);
  for (const [ns, targets] of ends) await tcp(ns, targets);
}

for (const families of ["dual", "ipv6"] as const) {
  Deno.test(`containers reach each other over a ${families} network`, async () => {
    await using cluster = await udpCluster(families);
    const [a, b] = await start(cluster);
    // IPv6 endpoints cost 20 bytes more.
    const mtu = families === "ipv6" ? 1452 : 1472;
    assert.equal((await link(a.node.ns, "flannel0")).mtu, mtu);
    assert.deepEqual(await routes(a.node.ns, "flannel0", "-6"), ["fd00:1::/48"]);
    await pingAndTcp(a, b);
    for (const [ip, header] of [[b.ipv4, 28], [b.ipv6, 48]] as const) {
      if (ip) await a.ns.run("ping", "-c1", "-W2", "-M", "do", "-s", `${mtu - header}`, ip);
    }
  });
}

Deno.test("a gigabyte crosses byte for byte in each direction", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  for (const [from, to] of [[a, b], [b, a]]) {
    const seconds = await transfer(from.ns, to.ns, to.ipv4!, BYTES);
    console.log(`${BYTES} bytes in ${seconds.toFixed(1)} s`);
  }
  const { drops } = (await peersOf(a.node)).tunnel!;
  assert.deepEqual([drops.tun_write_error, drops.socket_error, drops.bad_offload], [0, 0, 0]);
});

Deno.test("a packet of the MTU passes, and one byte more is told the MTU", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  const probe = (ns: NetNs, bytes: number) =>
    ns.exec("ping", "-c1", "-W2", "-M", "do", "-s", `${bytes - 28}`, b.ipv4!);
  for (const ns of [a.ns, a.node.ns]) assert.equal((await probe(ns, 1472)).code, 0);
  const own = await probe(a.node.ns, 1473);
  assert.match(own.stdout + own.stderr, /message too long, mtu[=:] ?1472/);
  // A container that believes in more is told by the host.
  await a.ns.run("ip", "link", "set", "eth0", "mtu", "1500");
  for (const dev of ["cni0", "veth-c1"]) {
    await a.node.ns.run("ip", "link", "set", dev, "mtu", "1500");
  }
  assert.match((await probe(a.ns, 1473)).stdout, /Frag needed and DF set \(mtu = 1472\)/);
  assert.match((await probe(a.ns, 1473)).stderr, /message too long, mtu[=:] ?1472/);
});

Deno.test("the underlay's MTU is followed", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  await a.node.ns.run("ip", "link", "set", "eth0", "mtu", "1400");
  await eventually(async () => {
    assert.equal((await link(a.node.ns, "flannel0")).mtu, 1372);
    assert.equal((await a.node.env()).FLANNEL_MTU, "1372");
  });
  await waitReach(a.ns, b.ipv4!);
});

Deno.test("where no lease is, the sender is told", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a] = await start(cluster);
  const free = (await bases(cluster, a.node))[0].startsWith("10.1.77.") ? "10.1.78.1" : "10.1.77.1";
  const before = (await peersOf(a.node)).tunnel!.drops.no_route;
  const { stdout } = await a.ns.exec("ping", "-c1", "-W2", free);
  assert.match(stdout, /From 10\.1\.\d+\.0 .*Destination Net Unreachable/);
  // An answer is up to a second old.
  await eventually(async () => {
    assert.equal((await peersOf(a.node)).tunnel!.drops.no_route, before + 1);
  });
});

Deno.test("peers come and go while packets flow, and none of those is lost", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  await using there = new Probe(a.ns, b.ipv4!);
  await using back = new Probe(b.ns, a.ipv4!);
  await there.answers(20);
  const used = new Set(
    await Promise.all(cluster.nodes.map((node) => bases(cluster, node))).then(
      (all) => all.flat(),
    ),
  );
  const numbers = Array.from({ length: 30 }, (_, index) => 200 + index)
    .filter((number) => !used.has(`10.1.${number}.0`));
  for (let round = 0; round < 2; round++) {
    for (const number of numbers) {
      const value = { PublicIP: `192.168.77.${number}`, PublicIPv6: null };
      await putLease(cluster, `10.1.${number}.0-24`, value);
    }
    await eventually(async () =>
      assert.equal((await peersOf(a.node)).peers.length, numbers.length + 1)
    );
    for (const number of numbers) await deleteLease(cluster, `10.1.${number}.0-24`);
    await eventually(async () => assert.equal((await peersOf(a.node)).peers.length, 1));
  }
  await Promise.all([there.answers(20), back.answers(20)]);
  assert.deepEqual([await there.end(), await back.end()], [[], []]);
});

Deno.test("a deleted device is rebuilt within two seconds", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  const before = await link(a.node.ns, "flannel0");
  await a.node.ns.run("ip", "link", "delete", "flannel0");
  const started = performance.now();
  await waitFor(() => b.ns.run("ping", "-c1", "-W0.2", a.ipv4!), { limitMs: 2_000 });
  console.log(`rebuilt after ${Math.round(performance.now() - started)} ms`);
  const now = await link(a.node.ns, "flannel0");
  assert.notEqual(now.ifindex, before.ifindex);
  assert.equal(now.mtu, 1472);
  assert.deepEqual(await routes(a.node.ns, "flannel0"), ["10.1.0.0/16"]);
});

Deno.test("an agent stops without complaint or by force, and the next carries again", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  const { node } = a;
  for (const end of [terminate, killHard]) {
    const former = node.agent!;
    await end(former);
    assert.deepEqual(matching(former, /^[WEF]\d{4}/), []);
    assert.notEqual((await node.ns.exec("ip", "link", "show", "flannel0")).code, 0);
    node.startAgent();
    await waitReach(b.ns, a.ipv4!);
    assert.deepEqual(await routes(node.ns, "flannel0"), ["10.1.0.0/16"]);
  }
});

Deno.test("a port that another has is told, and taken when it is free", async () => {
  await using cluster = await udpCluster("ipv4");
  const [a, b] = await start(cluster);
  const { node } = a;
  await terminate(node.agent!);
  const program = `Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port: 8285 });
    console.log("listening");
    setInterval(() => {}, 1_000_000);`;
  const other = node.ns.spawn(Deno.execPath(), ["eval", "--unstable-net", program]);
  await other.waitForLine(/^listening/, 20_000);
  const agent = node.startAgent();
  await agent.waitForLine(/Cannot set tunnel flannel0: UDP port 8285 is in use by deno \(/, 20_000);
  // Who looks for the cause gets answers from a node that is not ready.
  await eventually(async () => assert.equal((await peersOf(node)).tunnel, null));
  await other[Symbol.asyncDispose]();
  await waitReach(b.ns, a.ipv4!, 20_000);
  await agent.waitForLine(/Recovered: tunnel flannel0/);
});

Deno.test("TCP is exact over a path that loses and reorders", async () => {
  await using cluster = await udpCluster("ipv4");
  // Each host announces an address of the path, which passes on what is sent there.
  const [near, far] = ["192.168.77.80", "192.168.77.81"];
  const path = await cluster.namespace("path");
  await plug(cluster.switch, "path", {
    ns: path,
    dev: "eth0",
    addresses: [`${near}/24`, `${far}/24`],
  });
  const [left, right] = cluster.nodes;
  const relay = path.spawn(Deno.execPath(), [
    ...[
      "run",
      "--allow-net",
      "--unstable-net",
      `${import.meta.dirname}/../../testbed/rough_path.ts`,
    ],
    ...[near, far, left.ipv4!, right.ipv4!],
  ]);
  await relay.waitForLine(/^ready/, 20_000);
  left.startAgent({ args: [`--public-ip=${far}`] });
  right.startAgent({ args: [`--public-ip=${near}`] });
  await Promise.all([left.waitReady(), right.waitReady()]);
  const [a, b] = await cluster.attachAll("c1");
  await waitReach(a.ns, b.ipv4!);
  await transfer(a.ns, b.ns, b.ipv4!, 16 << 20);
  await transfer(b.ns, a.ns, a.ipv4!, 16 << 20);
  for (const [from, to] of [[left, right], [right, left]]) {
    await eventually(async () => {
      const [{ tunnel: out }, { tunnel: into }] = [await peersOf(from), await peersOf(to)];
      const lost = out!.sent.packets - into!.received.packets;
      assert.ok(lost > 50, `${lost} of ${out!.sent.packets} packets were lost`);
    });
  }
});

Deno.test({
  name: "a Go agent and ours carry each other's packets",
  ignore: !GO_FLANNELD,
  fn: async () => {
    await using cluster = await udpCluster("ipv4", { goNodes: [1] });
    const [ours, go] = await start(cluster);
    await pingAndTcp(ours, go);
    for (const [from, to] of [[ours, go], [go, ours]]) {
      const bytes = 100_000_000;
      const seconds = await transfer(from.ns, to.ns, to.ipv4!, bytes);
      const rate = (bytes * 8 / seconds / 1e9).toFixed(2);
      console.log(`${from === ours ? "to" : "from"} the Go agent: ${rate} Gbit/s`);
    }
    const { tunnel } = await peersOf(ours.node);
    assert.equal(tunnel!.drops.bad_length, 0);
  },
});
