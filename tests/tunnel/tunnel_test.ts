/**
 * The tunnel's packet path between real namespaces, by way of the crate's example program.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { shoot, TUNNEL_PORT as PORT, udpPacket as packet } from "../../testbed/datagrams.ts";
import { NetNs, type Process, run, veth, waitFor } from "../../testbed/netns.ts";
import { transfer } from "../../testbed/transfer.ts";

const EXAMPLE = Deno.env.get("TUNNEL_EXAMPLE") ??
  fileURLToPath(new URL("../../dataplane-rs/target/release/examples/tunnel", import.meta.url));
const ROUGH_PATH = fileURLToPath(new URL("../../testbed/rough_path.ts", import.meta.url));
/** Bytes of each transfer; a gigabyte is for a run that is not in a hurry. */
const BYTES = Number(Deno.env.get("TUNNEL_BYTES") ?? 64 << 20);

/** One end: 10.1.N.0/24 and fd00:N::/64 behind a tunnel device. */
class End implements AsyncDisposable {
  constructor(
    readonly ns: NetNs,
    readonly number: number,
    readonly process: Process,
    readonly folder: string,
  ) {}

  static async start(ns: NetNs, number: number, bind: string, peers: string[], more: string[]) {
    const folder = await Deno.makeTempDir();
    await run("mkfifo", [`${folder}/control`]);
    const process = ns.spawn(EXAMPLE, [
      ...["--name", "flannel%d", "--bind", bind, "--control", `${folder}/control`],
      ...["--subnet", `10.1.${number}.0/24`, "--subnet", `fd00:${number}::/64`],
      ...peers.flatMap((peer) => ["--peer", peer]),
      ...more,
    ]);
    const end = new End(ns, number, process, folder);
    try {
      const [, device] = await process.waitForLine(/^device (\S+)/);
      assert.equal(device, "flannel0");
      await ns.run("ip", "address", "add", `10.1.${number}.0/32`, "dev", device);
      await ns.run("ip", "address", "add", `fd00:${number}::/128`, "dev", device, "nodad");
      await ns.run("ip", "route", "add", "10.1.0.0/16", "dev", device);
      await ns.run("ip", "route", "add", "fd00::/16", "dev", device);
    } catch (error) {
      await end[Symbol.asyncDispose]();
      throw error;
    }
    return end;
  }

  get address(): string {
    return `10.1.${this.number}.0`;
  }

  get address6(): string {
    return `fd00:${this.number}::`;
  }

  /** Gives one command and waits until it was obeyed. */
  async command(line: string): Promise<void> {
    const seen = this.process.lines.length;
    await Deno.writeTextFile(`${this.folder}/control`, `${line}\n`);
    const answer = await waitFor(
      () => this.process.lines.slice(seen).find((text) => /^(done|error )/.test(text)),
      { what: `an answer to ${line}` },
    );
    assert.equal(answer, "done", line);
  }

  async counters(): Promise<Record<string, number>> {
    await this.command("counters");
    const line = this.process.lines.findLast((text) => text.startsWith("counters ")) ?? "";
    const pairs = line.split(" ").slice(1).map((pair) => pair.split("="));
    return Object.fromEntries(pairs.map(([name, count]) => [name, Number(count)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

interface Pair extends AsyncDisposable {
  a: End;
  b: End;
}

function peer(endpoint: string, number: number): string {
  const address = endpoint.includes(":") ? `[${endpoint}]` : endpoint;
  return `${address}:${PORT}=10.1.${number}.0/24,fd00:${number}::/64`;
}

/** Two ends on one veth. */
async function pair({ v6 = false, without = [] as string[], queues = 0 } = {}): Promise<Pair> {
  const stack = new AsyncDisposableStack();
  try {
    const [a, b] = [stack.use(await NetNs.create("ta")), stack.use(await NetNs.create("tb"))];
    await veth(
      { ns: a, dev: "eth0", addresses: ["192.0.2.1/24", "2001:db8::1/64"] },
      { ns: b, dev: "eth0", addresses: ["192.0.2.2/24", "2001:db8::2/64"] },
    );
    const [left, right] = v6 ? ["2001:db8::1", "2001:db8::2"] : ["192.0.2.1", "192.0.2.2"];
    const more = without.flatMap((offload) => ["--without", offload]);
    if (v6) more.push("--mtu", "1452");
    if (queues) more.push("--queues", String(queues));
    const ends = {
      a: stack.use(await End.start(a, 2, left, [peer(right, 3)], more)),
      b: stack.use(await End.start(b, 3, right, [peer(left, 2)], more)),
    };
    return { ...ends, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

const VARIANTS: { title: string; without: string[]; v6?: boolean; queues?: number }[] = [
  { title: "all offloads", without: [] },
  { title: "four queues", without: [], queues: 4 },
  { title: "IPv6 endpoints", without: [], v6: true },
  { title: "no TCP segmentation on TUN", without: ["tun_tso"] },
  { title: "no UDP segmentation on TUN", without: ["tun_uso"] },
  { title: "no UDP_SEGMENT", without: ["udp_gso"] },
  { title: "no UDP_GRO", without: ["udp_gro"] },
  { title: "no offload", without: ["tun_tso", "tun_uso", "udp_gso", "udp_gro"] },
];

for (const { title, ...options } of VARIANTS) {
  Deno.test(`TCP crosses byte for byte in both directions: ${title}`, async () => {
    await using nodes = await pair(options);
    const { a, b } = nodes;
    await transfer(a.ns, b.ns, b.address, BYTES);
    await transfer(b.ns, a.ns, a.address6, BYTES);
    for (const end of [a, b]) {
      const { tun_write_error, socket_error, bad_offload } = await end.counters();
      assert.deepEqual([tun_write_error, socket_error, bad_offload], [0, 0, 0]);
    }
  });
}

Deno.test("offloads carry many packets a call", async () => {
  await using nodes = await pair();
  const { a, b } = nodes;
  await transfer(a.ns, b.ns, b.address, BYTES);
  const [sender, receiver] = [await a.counters(), await b.counters()];
  assert.ok(sender.sent > 10 * sender.socket_sends, JSON.stringify(sender));
  assert.ok(receiver.received > 10 * receiver.tun_writes, JSON.stringify(receiver));
});

Deno.test("a burst of small UDP datagrams is joined and arrives with right checksums", async () => {
  await using nodes = await pair();
  const { a, b } = nodes;
  for (const address of [b.address, b.address6]) {
    const before = await b.counters();
    await using server = b.ns.spawn("iperf3", ["--server", "--one-off", "--forceflush"]);
    await server.waitForLine(/^Server listening/);
    const flags = ["--udp", "--length", "64", "--bitrate", "0", "--time", "1"];
    await a.ns.run("iperf3", "--client", address, ...flags);
    await server.status;
    const after = await b.counters();
    const [packets, writes] = [
      after.received - before.received,
      after.tun_writes - before.tun_writes,
    ];
    assert.ok(packets > 2 * writes, `${packets} packets in ${writes} writes`);
  }
  const snmp = await b.ns.run(
    "nstat",
    "-asz",
    "UdpInCsumErrors",
    "Udp6InCsumErrors",
    "UdpInDatagrams",
  );
  assert.match(snmp, /UdpInCsumErrors +0 /);
  assert.match(snmp, /Udp6InCsumErrors +0 /);
  assert.match(snmp, /UdpInDatagrams +[1-9]/);
});

Deno.test("flows keep their order over several queues", async () => {
  await using nodes = await pair({ queues: 4 });
  const { a, b } = nodes;
  for (const address of [b.address, b.address6]) {
    await using server = b.ns.spawn("iperf3", ["--server", "--one-off", "--forceflush"]);
    await server.waitForLine(/^Server listening/);
    const flags = [
      "--udp",
      "--parallel",
      "6",
      "--length",
      "200",
      "--bitrate",
      "30M",
      "--time",
      "2",
    ];
    const { end } = JSON.parse(await a.ns.run("iperf3", "--json", "--client", address, ...flags));
    await server.status;
    const streams: { packets: number; out_of_order: number }[] = end.streams.map(
      (stream: { udp: { packets: number; out_of_order: number } }) => stream.udp,
    );
    assert.equal(streams.length, 6);
    for (const { packets, out_of_order } of streams) {
      assert.ok(packets > 1000, `${packets} packets`);
      assert.equal(out_of_order, 0);
    }
  }
});

Deno.test("TCP crosses a path that loses and reorders", async () => {
  await using left = await NetNs.create("tl");
  await using middle = await NetNs.create("tm");
  await using right = await NetNs.create("tr");
  await veth(
    { ns: left, dev: "eth0", addresses: ["192.0.2.1/24"] },
    { ns: middle, dev: "left", addresses: ["192.0.2.2/24"] },
  );
  await veth(
    { ns: middle, dev: "right", addresses: ["198.51.100.1/24"] },
    { ns: right, dev: "eth0", addresses: ["198.51.100.2/24"] },
  );
  const path = middle.spawn(Deno.execPath(), [
    ...["run", "--allow-net", "--unstable-net", ROUGH_PATH],
    ...["192.0.2.2", "198.51.100.1", "192.0.2.1", "198.51.100.2"],
  ]);
  await path.waitForLine(/^ready/);
  await using a = await End.start(left, 2, "192.0.2.1", [peer("192.0.2.2", 3)], []);
  await using b = await End.start(right, 3, "198.51.100.2", [peer("198.51.100.1", 2)], []);
  await transfer(a.ns, b.ns, b.address, 4 << 20);
  await transfer(b.ns, a.ns, a.address6, 4 << 20);
});

Deno.test("a path narrower than the MTU carries fragments", async () => {
  await using nodes = await pair();
  const { a, b } = nodes;
  for (const { ns } of [a, b]) await ns.run("ip", "link", "set", "eth0", "mtu", "1400");
  await transfer(a.ns, b.ns, b.address, 16 << 20);
  await transfer(b.ns, a.ns, a.address6, 16 << 20);
});

Deno.test("a path without checksum offload", async () => {
  await using nodes = await pair();
  const { a, b } = nodes;
  for (const { ns } of [a, b]) await ns.run("ethtool", "-K", "eth0", "tx-checksumming", "off");
  await transfer(a.ns, b.ns, b.address, 16 << 20);
  await transfer(b.ns, a.ns, a.address6, 16 << 20);
});

Deno.test("packets of the MTU pass, one byte more is told the MTU", async () => {
  await using nodes = await pair();
  const { a, b } = nodes;
  // 20 or 40 bytes of IP and 8 of ICMP make 1472.
  await a.ns.run("ping", "-c1", "-W2", "-M", "do", "-s", "1444", b.address);
  await a.ns.run("ping", "-c1", "-W2", "-M", "do", "-s", "1424", b.address6);
  // The kernel keeps larger ones off a device of this MTU: let it not know.
  await a.ns.run("ip", "link", "set", "flannel0", "mtu", "1500");
  const four = await a.ns.exec("ping", "-c1", "-W2", "-M", "do", "-s", "1445", b.address);
  assert.match(four.stdout, /From 10\.1\.2\.0 .*Frag needed and DF set \(mtu = 1472\)/);
  const six = await a.ns.exec("ping", "-c1", "-W2", "-M", "do", "-s", "1425", b.address6);
  assert.match(six.stdout, /From fd00:2:: .*Packet too big: mtu=1472/);
  assert.equal((await a.counters()).too_big, 2);
  await a.command("mtu 1400");
  assert.match(await a.ns.run("ip", "link", "show", "flannel0"), / mtu 1400 /);
});

Deno.test("no route and no hop left are told to the sender", async () => {
  await using nodes = await pair();
  const { a, b } = nodes;
  const four = await a.ns.exec("ping", "-c1", "-W2", "10.1.9.9");
  assert.match(four.stdout, /From 10\.1\.2\.0 .*Destination Net Unreachable/);
  const six = await a.ns.exec("ping", "-c1", "-W2", "fd00:9::9");
  assert.match(six.stdout, /From fd00:2:: .*Destination unreachable: No route/);
  assert.equal((await a.counters()).no_route, 2);
  const hop = await a.ns.exec("ping", "-c1", "-W2", "-t1", b.address);
  assert.match(hop.stdout, /From 10\.1\.2\.0 .*Time to live exceeded/);
  // The other end takes a hop, too: two do not suffice, three do.
  assert.notEqual((await a.ns.exec("ping", "-c1", "-W1", "-t2", b.address)).code, 0);
  assert.equal((await b.counters()).ttl_expired, 1);
  await a.ns.run("ping", "-c1", "-W2", "-t3", b.address);
});

Deno.test("only what a peer may send passes, all else is counted by reason", async () => {
  await using a = await NetNs.create("ta");
  await using b = await NetNs.create("tb");
  await veth(
    { ns: a, dev: "eth0", addresses: ["192.0.2.1/24", "192.0.2.7/24"] },
    { ns: b, dev: "eth0", addresses: ["192.0.2.2/24"] },
  );
  const peers = [peer("192.0.2.1", 2), peer("192.0.2.9", 4)];
  await using end = await End.start(b, 3, "192.0.2.2", peers, []);
  const [mine, ours] = ["10.1.2.5", "10.1.3.0"];
  const good = packet(mine, ours);
  await shoot(a, { hostname: "192.0.2.7", port: PORT }, "192.0.2.2", [good]);
  await shoot(a, { hostname: "192.0.2.1", port: 9999 }, "192.0.2.2", [good]);
  const version = Uint8Array.from(good, (byte, at) => at === 0 ? 0x55 : byte);
  const rows: [string, Uint8Array[]][] = [
    ["spoofed_source", [packet("10.1.4.5", ours), packet("8.8.8.8", ours)]],
    ["wrong_destination", [packet(mine, "10.1.4.1"), packet(mine, "192.0.2.2")]],
    ["multicast", [packet(mine, "224.0.0.1"), packet(mine, "255.255.255.255")]],
    ["truncated", [new Uint8Array(0), good.subarray(0, 1), good.subarray(0, 19)]],
    ["bad_version", [version]],
    ["bad_length", [good.subarray(0, 31), Uint8Array.of(...good, 0)]],
    ["ttl_expired", [packet(mine, ours, { ttl: 1 }), packet(mine, ours, { ttl: 0 })]],
  ];
  await shoot(a, { hostname: "192.0.2.1", port: PORT }, "192.0.2.2", [
    ...rows.flatMap(([, bad]) => bad),
    good,
  ]);
  const counters = await waitFor(async () => {
    const counters = await end.counters();
    return counters.received === 1 && counters;
  });
  assert.equal(counters.unknown_sender, 2);
  for (const [reason, bad] of rows) {
    // The device's own kernel sends to multicast groups, too.
    const count = reason === "multicast"
      ? Math.min(counters[reason], bad.length)
      : counters[reason];
    assert.equal(count, bad.length, reason);
  }
  assert.equal(counters.tun_writes, 1);
  const own = end.process.lines.findLast((line) => line.startsWith("peer 192.0.2.1:8285"));
  assert.match(own ?? "", / received=1 dropped=14$/);
});

Deno.test("peers come and go under load, and the others lose nothing", async () => {
  await using nodes = await pair();
  const { a, b } = nodes;
  const crowd = Array.from({ length: 5_000 }, (_, i) => {
    const [high, low] = [i >> 8, i & 255];
    return `198.18.${high}.${low}:${PORT}=10.${100 + high}.${low}.0/24`;
  });
  await Deno.writeTextFile(`${a.folder}/many`, [...crowd, peer("192.0.2.2", 3)].join("\n"));
  await Deno.writeTextFile(`${a.folder}/one`, peer("192.0.2.2", 3));
  const ping = a.ns.spawn("ping", ["-q", "-i", "0.002", "-c", "1500", "-W", "2", b.address]);
  let swaps = 0;
  while (!ping.ended) {
    await a.command(`peers-from ${a.folder}/${swaps++ % 2 === 0 ? "many" : "one"}`);
  }
  assert.ok(swaps > 10, `${swaps} swaps`);
  await ping.waitForLine(/1500 packets transmitted, 1500 received/);
  // What belongs to nobody any more goes nowhere.
  await a.command("peers");
  assert.notEqual((await a.ns.exec("ping", "-c1", "-W1", b.address)).code, 0);
  assert.ok((await a.counters()).no_route >= 1);
});

Deno.test("a deleted device is told", async () => {
  await using nodes = await pair();
  await nodes.a.ns.run("ip", "link", "delete", "flannel0");
  await nodes.a.process.waitForLine(/^event DeviceGone$/);
});
