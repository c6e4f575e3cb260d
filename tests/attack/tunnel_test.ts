/**
 * What a peer, the path or a container may do to packets of the udp backend, by real agents: order,
 * checksums, congestion marks, broadcast addresses.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { baseAddress, eventually, ips, nodeLease, peersOf, putLease } from "../e2e/support.ts";
import { Cluster, networkConfig, type Node, waitReach } from "../../testbed/cluster.ts";
import { TUNNEL_PORT } from "../../testbed/datagrams.ts";
import { type NetNs, plug, type Process, waitFor } from "../../testbed/netns.ts";
import { transfer } from "../../testbed/transfer.ts";

/** Distribution's Python, as for the simulated cloud. */
const PYTHON = "/usr/bin/python3";
const WIRE = `${import.meta.dirname}/../../testbed/wire.py`;
/** Where inner packets go to. */
const INNER_PORT = 4000;

/** Source and destination. */
type Ends = [from: string, to: string];

/** One message: datagrams of one length that leave together, of one traffic class. */
interface Message {
  trafficClass?: number;
  datagrams: Uint8Array[];
}

/** A datagram that a listener took. */
interface Taken {
  trafficClass: number;
  data: Uint8Array;
}

/** Takes datagrams at an address of a namespace. */
class Listener {
  constructor(readonly process: Process) {}

  static async start(ns: NetNs, address: string, port: number): Promise<Listener> {
    const process = ns.spawn(PYTHON, [WIRE, "listen", address, `${port}`]);
    await process.waitForLine(/^ready/);
    return new Listener(process);
  }

  get taken(): Taken[] {
    return this.process.lines.filter((line) => /^\d+ [0-9a-f]*$/.test(line)).map((line) => {
      const [value, hex] = line.split(" ");
      return { trafficClass: Number(value), data: Uint8Array.fromHex(hex) };
    });
  }

  /** The first bytes of what was taken, once `last` is among them. */
  async numbersUntil(last: number): Promise<number[]> {
    return await waitFor(() => {
      const numbers = this.taken.map(({ data }) => data[0]);
      return numbers.includes(last) && numbers;
    }, { what: `datagram ${last}` });
  }
}

/** Sends messages from an address and port of a namespace. */
async function send(
  ns: NetNs,
  from: [address: string, port: number],
  to: [address: string, port: number],
  messages: Message[],
): Promise<void> {
  const lines = messages.map(({ trafficClass = 0, datagrams }) =>
    `${trafficClass} ${datagrams.map((one) => Buffer.from(one).toString("hex")).join(" ")}`
  );
  const process = ns.spawn("bash", [
    "-c",
    `printf '%s\\n' "$@" | ${PYTHON} ${WIRE} send ${from.join(" ")} ${to.join(" ")}`,
    "send",
    ...lines,
  ]);
  assert.equal((await process.status).code, 0, process.lines.join("\n"));
}

function sum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes[at] << 8 | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

function put(bytes: Uint8Array, at: number, value: number): void {
  bytes.set([value >> 8 & 0xff, value & 0xff], at);
}

function isV6(address: string): boolean {
  return address.includes(":");
}

function bytesOf(address: string): number[] {
  if (!isV6(address)) return address.split(".").map(Number);
  const [head, tail = ""] = address.split("::").map((half) => half.split(":").filter(Boolean));
  const groups = [...head, ...Array(8 - head.length - tail.length).fill("0"), ...tail];
  return groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff]);
}

/** What is special about an inner packet. */
interface Inner {
  trafficClass?: number;
  /** Bytes of IPv4 options or of an IPv6 extension header, which change nothing. */
  extra?: "options";
  badHeader?: true;
}

/** A UDP datagram inside, `length` bytes of IP packet in all; its first byte of payload is `number`. */
function inner(
  [from, to]: Ends,
  number: number,
  { trafficClass = 0, extra, badHeader }: Inner = {},
  length = 124,
): Uint8Array {
  const v6 = isV6(to);
  const more = extra ? (v6 ? [17, 0, 1, 4, 0, 0, 0, 0] : [1, 1, 1, 1]) : [];
  const fixed = v6 ? 40 : 20;
  const l4 = fixed + more.length;
  const packet = new Uint8Array(length);
  if (v6) {
    packet.set([0x60 | trafficClass >> 4, trafficClass << 4 & 0xff, 0, 0]);
    put(packet, 4, length - 40);
    // Destination options (60) or UDP (17).
    packet.set([extra ? 60 : 17, 64, ...bytesOf(from), ...bytesOf(to), ...more], 6);
  } else {
    packet.set([0x45 + more.length / 4, trafficClass, 0, length, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.set([...bytesOf(from), ...bytesOf(to), ...more], 12);
    put(packet, 10, ~sum(packet.subarray(0, l4)) ^ (badHeader ? 0x100 : 0));
  }
  put(packet, l4, INNER_PORT);
  put(packet, l4 + 2, INNER_PORT);
  put(packet, l4 + 4, length - l4);
  packet[l4 + 8] = number;
  const pseudo = Uint8Array.of(...bytesOf(from), ...bytesOf(to), 0, 17, 0, length - l4);
  put(packet, l4 + 6, ~sum(Uint8Array.of(...pseudo, ...packet.subarray(l4))));
  return packet;
}

/** The two halves of a datagram over IPv4, each `length` bytes of IP packet: 20 and a multiple of 8. */
function fragments(ends: Ends, number: number, length = 124): Uint8Array[] {
  const whole = inner(ends, number, {}, 20 + 2 * (length - 20));
  return [whole.subarray(20, length), whole.subarray(length)].map((part, index) => {
    const packet = Uint8Array.of(...whole.subarray(0, 20), ...part);
    put(packet, 2, length);
    put(packet, 4, 77);
    put(packet, 6, index === 0 ? 0x2000 : (length - 20) / 8);
    put(packet, 10, 0);
    put(packet, 10, ~sum(packet.subarray(0, 20)));
    return packet;
  });
}

/** An agent, and a host that holds a lease and speaks the tunnel's protocol by hand. */
class World implements AsyncDisposable {
  constructor(
    readonly cluster: Cluster,
    readonly node: Node,
    readonly peer: NetNs,
    /** Public addresses. */
    readonly wire: Ends,
    /** An address behind the peer and the node's own, for each family of the network. */
    readonly ends: Ends[],
  ) {}

  /** Nodes reach each other over IPv4, or over IPv6 in a network that has nothing else. */
  static async start(families: "dual" | "ipv6" = "dual"): Promise<World> {
    const network = networkConfig(families, { Type: "udp" });
    const cluster = await Cluster.create({ label: "udpattack", families, nodes: 1, network });
    try {
      const node = cluster.node(0);
      await cluster.startAgents();
      const peer = await cluster.namespace("peer");
      const [PublicIP, PublicIPv6] = ["192.168.77.60", "fd77::60"];
      const addresses = families === "dual" ? [`${PublicIP}/24`] : [`${PublicIPv6}/64`];
      await plug(cluster.switch, "peer", { ns: peer, dev: "eth0", addresses });
      const { subnet, ipv6Subnet } = await nodeLease(cluster, node);
      const number = subnet === "10.1.240.0/24" || ipv6Subnet === "fd00:1:0:240::/64" ? 241 : 240;
      const ipv4 = families === "dual" ? `10.1.${number}.0-24` : "0.0.0.0-0";
      const value = { PublicIP: families === "dual" ? PublicIP : null, PublicIPv6 };
      await putLease(cluster, `${ipv4}&fd00:1:0:${number}::-64`, value);
      await eventually(async () => assert.equal((await peersOf(node)).peers.length, 1));
      const ends: Ends[] = [[`fd00:1:0:${number}::5`, baseAddress(ipv6Subnet!)]];
      if (subnet) ends.unshift([`10.1.${number}.5`, baseAddress(subnet)]);
      const wire: Ends = families === "dual" ? [PublicIP, node.ipv4!] : [PublicIPv6, node.ipv6!];
      return new World(cluster, node, peer, wire, ends);
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** From the peer's socket to the node's. */
  send(messages: Message[]): Promise<void> {
    const [from, to] = this.wire;
    return send(this.peer, [from, TUNNEL_PORT], [to, TUNNEL_PORT], messages);
  }

  async drops(): Promise<Record<string, number>> {
    return (await peersOf(this.node)).tunnel!.drops;
  }

  /** Waits for a drop counter: answers are up to a second old. */
  async hasDropped(reason: string, count: number): Promise<void> {
    await eventually(async () => assert.equal((await this.drops())[reason], count));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
  }
}

Deno.test("a flow keeps its order, whatever is between the packets that are joined", async () => {
  await using world = await World.start();
  for (const ends of world.ends) {
    const listener = await Listener.start(world.node.ns, ends[1], INNER_PORT);
    const plain = (number: number) => inner(ends, number);
    const odd = (number: number) => inner(ends, number, { extra: "options" });
    await world.send([{ datagrams: [plain(0), odd(1), plain(2), odd(3), plain(4), plain(5)] }]);
    assert.deepEqual(await listener.numbersUntil(5), [0, 1, 2, 3, 4, 5]);
    if (isV6(ends[1])) continue;
    const [first, second] = fragments(ends, 12);
    await world.send([{
      datagrams: [plain(10), first, plain(11), second, plain(13), plain(14)],
    }]);
    assert.deepEqual((await listener.numbersUntil(14)).slice(6), [10, 11, 12, 13, 14]);
  }
});

Deno.test("a packet whose header is corrupt is not delivered, wherever in a train it stands", async () => {
  await using world = await World.start();
  const [ipv4] = world.ends;
  const listener = await Listener.start(world.node.ns, ipv4[1], INNER_PORT);
  const datagrams = Array.from(
    { length: 9 },
    (_, number) => inner(ipv4, number, number === 0 || number === 5 ? { badHeader: true } : {}),
  );
  await world.send([{ datagrams }]);
  assert.deepEqual(await listener.numbersUntil(8), [1, 2, 3, 4, 6, 7, 8]);
});

for (const families of ["dual", "ipv6"] as const) {
  Deno.test(`congestion marks of the path come in as RFC 6040 says: ${families}`, async () => {
    await using world = await World.start(families);
    const rows: [inner: number, outer: number, delivered: number | undefined][] = [
      [0x00, 0x00, 0x00],
      [0x00, 0x03, undefined],
      [0xb8, 0xbb, undefined],
      [0xb8, 0x02, 0xb8],
      [0x02, 0x00, 0x02],
      [0x02, 0x01, 0x01],
      [0x02, 0x03, 0x03],
      [0xb9, 0x03, 0xbb],
      [0x03, 0x00, 0x03],
      // The class of the datagram stays outside.
      [0x28, 0xb8, 0x28],
    ];
    let dropped = 0;
    for (const ends of world.ends) {
      const listener = await Listener.start(world.node.ns, ends[1], INNER_PORT);
      const messages = rows.map(([trafficClass, outer], number) => ({
        trafficClass: outer,
        // Two, so that they are joined.
        datagrams: [number, number].map((n) => inner(ends, n, { trafficClass })),
      }));
      await world.send(messages);
      await listener.numbersUntil(rows.length - 1);
      await eventually(() => {
        const got = listener.taken.map(({ trafficClass, data }) => [data[0], trafficClass]);
        const wanted = rows.flatMap(([, , delivered], number) =>
          delivered === undefined ? [] : [[number, delivered], [number, delivered]]
        );
        assert.deepEqual(got, wanted);
      });
      dropped += 4;
      await world.hasDropped("congestion_mark", dropped);
    }
  });
}

for (const families of ["dual", "ipv6"] as const) {
  Deno.test(`datagrams carry the class of the packet in them, in the flow's order: ${families}`, async () => {
    await using world = await World.start(families);
    const classes = [0x00, 0xb8, 0x02, 0x02, 0x03, 0xbb, 0x00, 0x00, 0xfc, 0x01];
    const listener = await Listener.start(world.peer, world.wire[0], TUNNEL_PORT);
    let taken = 0;
    for (const [there, here] of world.ends) {
      const messages = classes.map((trafficClass, number) => ({
        trafficClass,
        datagrams: Array.from({ length: 3 }, () => Uint8Array.of(number, ...Array(63).fill(0))),
      }));
      await send(world.node.ns, [here, INNER_PORT], [there, INNER_PORT], messages);
      // The device's own kernel sends to multicast groups, too, which goes no further.
      await eventually(() => assert.equal(listener.taken.length, taken + 3 * classes.length));
      const got = listener.taken.slice(taken).map(({ trafficClass, data }) => {
        const [number, own] = isV6(here)
          ? [data[48], (data[0] << 4 | data[1] >> 4) & 0xff]
          : [data[28], data[1]];
        return [number, own, trafficClass];
      });
      const wanted = classes.flatMap((own, number) => Array(3).fill([number, own, own]));
      assert.deepEqual(got, wanted);
      taken += got.length;
    }
  });
}

Deno.test("packets from and to a subnet's broadcast address are dropped and counted", async () => {
  await using world = await World.start();
  const [[there, here]] = world.ends;
  const [theirLast, ourLast] = [there, here].map((ip) => ip.replace(/\d+$/, "255"));
  const before = (await world.drops()).directed_broadcast;
  const listener = await Listener.start(world.node.ns, "0.0.0.0", INNER_PORT);
  await world.send([{
    datagrams: [
      inner([there, ourLast], 0),
      inner([theirLast, here], 1),
      inner([theirLast, ourLast], 2),
      inner([there, here], 3),
    ],
  }]);
  assert.deepEqual(await listener.numbersUntil(3), [3]);
  await world.hasDropped("directed_broadcast", before + 3);
  const wire = await Listener.start(world.peer, world.wire[0], TUNNEL_PORT);
  const datagrams = [Uint8Array.of(9)];
  await send(world.node.ns, [here, 4001], [theirLast, INNER_PORT], [{ datagrams }]);
  await send(world.node.ns, [here, 4001], [there, INNER_PORT], [{ datagrams }]);
  await eventually(() => assert.equal(wire.taken.length, 1));
  await world.hasDropped("directed_broadcast", before + 4);
});

Deno.test("TCP learns of congestion that a router on the path marks", async () => {
  await using cluster = await Cluster.create({
    label: "udpecn",
    network: networkConfig("ipv4", { Type: "udp" }),
  });
  await cluster.startAgents();
  const [a, b] = await cluster.attachAll("c1");
  await waitReach(a.ns, b.ipv4!);
  for (const { ns } of [a, b]) await ns.sysctl("net.ipv4.tcp_ecn", 1);
  await b.node.ns.run(
    "nft",
    "table inet congested { chain marks { type filter hook prerouting priority raw; " +
      `udp dport ${TUNNEL_PORT} ip ecn != not-ect ip ecn set ce; }; }`,
  );
  await transfer(a.ns, b.ns, ips(b)[0], 1 << 20);
  const marked = await b.ns.run("nstat", "-asz", "IpExtInCEPkts");
  assert.match(marked, /IpExtInCEPkts +[1-9]/);
  const heard = await a.ns.run("nstat", "-asz", "TcpExtTCPDeliveredCE");
  assert.match(heard, /TcpExtTCPDeliveredCE +[1-9]/);
});
