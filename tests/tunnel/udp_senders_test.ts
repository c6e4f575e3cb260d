/** The udp backend takes packets only from those who may send them, and tells what it dropped. */
import assert from "node:assert/strict";
import {
  baseAddress,
  eventually,
  json,
  nodeLease,
  peersOf,
  ping,
  putLease,
  runFlanneld,
} from "../e2e/support.ts";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { shoot, TUNNEL_PORT, udpPacket } from "../../testbed/datagrams.ts";
import { NetNs, plug } from "../../testbed/netns.ts";

/** Packets that the device gave to the kernel. */
async function delivered(node: Node): Promise<number> {
  const [device] = await json<{ stats64: { rx: { packets: number } } }[]>(
    node.ns,
    ...["ip", "-j", "-s", "link", "show", "dev", "flannel0"],
  );
  return device.stats64.rx.packets;
}

/** Values of a family of /metrics by the label, or the one without a label under "". */
async function metric(node: Node, name: string): Promise<Record<string, number>> {
  const { body } = await node.health("/metrics");
  const samples = body.matchAll(new RegExp(`^${name}(?:\\{\\w+="([^"]*)"\\})? (\\d+)$`, "gm"));
  return Object.fromEntries([...samples].map(([, label, value]) => [label ?? "", Number(value)]));
}

Deno.test("only what a peer may send is delivered; all else is counted by reason", async () => {
  await using cluster = await Cluster.create({
    label: "udpsafe",
    network: networkConfig("ipv4", { Type: "udp" }),
  });
  const [node] = cluster.nodes;
  await cluster.startAgents();
  // A peer by its lease alone, and one who has none; both on one host.
  const [peer, stranger] = ["192.168.77.60", "192.168.77.61"];
  const host = await cluster.namespace("crafty");
  const addresses = [`${peer}/24`, `${stranger}/24`];
  await plug(cluster.switch, "crafty", { ns: host, dev: "eth0", addresses });
  const taken = (await Promise.all(cluster.nodes.map((each) => nodeLease(cluster, each))))
    .map(({ subnet }) => subnet);
  const [subnet, free] = [240, 241, 242, 243].map((number) => `10.1.${number}.`)
    .filter((start) => !taken.includes(`${start}0/24`));
  const ours = baseAddress(taken[0]!);
  const theirs = baseAddress(taken[1]!);
  await putLease(cluster, `${subnet}0-24`, { PublicIP: peer, PublicIPv6: null });
  await eventually(async () =>
    assert.ok((await peersOf(node)).peers.some(({ publicIP }) => publicIP === peer))
  );

  const mine = `${subnet}5`;
  const good = udpPacket(mine, ours);
  const withFirst = (byte: number) => Uint8Array.of(byte, ...good.subarray(1));
  const rows: [reason: string, bad: Uint8Array[]][] = [
    // Of another peer, of nobody, of the node itself, of another network.
    [
      "spoofed_source",
      [theirs, `${free}5`, ours, "8.8.8.8", "127.0.0.1"].map((ip) => udpPacket(ip, ours)),
    ],
    // To another peer, to the node's public address, to loopback, to another network.
    [
      "wrong_destination",
      [theirs, node.ipv4!, "127.0.0.1", "8.8.8.8"].map((ip) => udpPacket(mine, ip)),
    ],
    ["truncated", [new Uint8Array(0), good.subarray(0, 1), good.subarray(0, 19)]],
    ["bad_version", [0x05, 0x55, 0xf5].map(withFirst)],
    // A byte short, a byte long, a header of no length, one longer than the packet.
    [
      "bad_length",
      [good.subarray(0, 31), Uint8Array.of(...good, 0), withFirst(0x40), withFirst(0x4f)],
    ],
    ["ttl_expired", [udpPacket(mine, ours, { ttl: 1 }), udpPacket(mine, ours, { ttl: 0 })]],
  ];
  const before = await delivered(node);
  await shoot(host, { hostname: stranger, port: TUNNEL_PORT }, node.ipv4!, [good, good]);
  await shoot(host, { hostname: peer, port: TUNNEL_PORT + 1 }, node.ipv4!, [good]);
  const all = rows.flatMap(([, bad]) => bad);
  await shoot(host, { hostname: peer, port: TUNNEL_PORT }, node.ipv4!, [...all, good]);
  await eventually(async () => {
    const received = await metric(node, "flanneld_tunnel_peer_received_packets_total");
    assert.equal(received[peer], 1);
  });

  assert.equal(await delivered(node), before + 1, "the good one alone");
  const expected = {
    unknown_sender: 3,
    ...Object.fromEntries(rows.map(([r, b]) => [r, b.length])),
  };
  // Answers are up to a second old.
  await eventually(async () => {
    const drops = await metric(node, "flanneld_tunnel_dropped_packets_total");
    const report = await peersOf(node);
    for (const [reason, count] of Object.entries(expected)) {
      assert.equal(drops[reason], count, reason);
      assert.equal(report.tunnel!.drops[reason], count, reason);
    }
    const entry = report.peers.find(({ publicIP }) => publicIP === peer)!;
    assert.deepEqual([entry.subnet, entry.received, entry.dropped], [
      `${subnet}0/24`,
      { packets: 1, bytes: good.length },
      all.length,
    ]);
    const dropped = await metric(node, "flanneld_tunnel_peer_dropped_packets_total");
    assert.deepEqual(dropped, { [peer]: all.length, [cluster.node(1).ipv4!]: 0 });
  });
  // What came does no harm to the others.
  await ping(node.ns, theirs);
});

Deno.test("flanneld peers: a table with totals, and one line where no agent runs", async () => {
  await using cluster = await Cluster.create({
    label: "udppeers",
    network: networkConfig("ipv4", { Type: "udp" }),
  });
  const [one, two] = cluster.nodes;
  await cluster.startAgents();
  const subnet = (await nodeLease(cluster, two)).subnet!;
  await ping(one.ns, baseAddress(subnet));
  const { code, stdout } = await runFlanneld(one, "peers");
  assert.equal(code, 0);
  const [titles, row, blank, ...totals] = stdout.trimEnd().split("\n");
  assert.match(titles, /^SUBNET +PUBLIC IP +SENT +SENT BYTES +RECEIVED +RECEIVED BYTES +DROPPED$/);
  assert.deepEqual(row.split(/ +/), [subnet, two.ipv4, "3", "252", "3", "252", "0"]);
  assert.equal(blank, "");
  assert.match(totals.join("\n"), /^sent +3 packets, 252 bytes\nreceived +3 packets, 252 bytes\n/);

  await using empty = await NetNs.create("udpnone");
  const none = await runFlanneld({ ns: empty }, "peers", "--json");
  assert.deepEqual([none.code, none.stdout], [1, ""]);
  assert.match(none.stderr, /^flanneld: no flanneld runs on this node[^\n]*\n$/);
});

Deno.test("flanneld peers tells an agent that waits from none", async () => {
  await using cluster = await Cluster.create({ label: "peerwait", nodes: 1, network: null });
  const [node] = cluster.nodes;
  await node.startAgent().waitForLine(/coreos\.com\/network\/config/, 20_000);
  const { code, stderr } = await runFlanneld(node, "peers");
  assert.equal(code, 1);
  assert.match(stderr, /^flanneld: flanneld is not ready on this node yet[^\n]*\n$/);
});

Deno.test("flanneld peers lists the peers of a backend that counts nothing", async () => {
  await using cluster = await Cluster.create({ label: "peerlist", families: "dual" });
  const [one, two] = cluster.nodes;
  await cluster.startAgents();
  const lease = await nodeLease(cluster, two);
  const other = { PublicIP: "192.168.77.99", PublicIPv6: null, BackendType: "host-gw" };
  const skipped = lease.subnet === "10.1.240.0/24" ? "10.1.241.0" : "10.1.240.0";
  await putLease(cluster, `${skipped}-24`, other);
  await eventually(async () => {
    const { backend, node, peers, tunnel } = await peersOf(one);
    assert.deepEqual([backend, tunnel], ["vxlan", null]);
    assert.equal(node.publicIP, one.ipv4);
    const byAddress = peers.find(({ publicIP }) => publicIP === two.ipv4);
    assert.deepEqual(byAddress, {
      subnet: lease.subnet,
      ipv6Subnet: lease.ipv6Subnet,
      publicIP: two.ipv4,
      publicIPv6: two.ipv6,
      skipped: null,
      sent: null,
      received: null,
      dropped: null,
    });
  });
  const { stdout } = await runFlanneld(one, "peers");
  assert.match(stdout, /^SUBNET +IPV6 SUBNET +PUBLIC IP +PUBLIC IPV6/);
  assert.doesNotMatch(stdout, /SENT|received/);
});
