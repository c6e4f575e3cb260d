/**
 * What a peer costs the kernel on the vxlan backend: memory of its route, neighbour and fdb entry, time
 * to insert them, and time of a packet that has to find them. Entries are made by `ip` and `bridge`, so
 * that it is the kernel's cost alone.
 *
 * @module
 */
import { NetNs, veth } from "../../testbed/netns.ts";
import { type Cost, counted, ROOT } from "./lib.ts";
import { simulated } from "./simulated.ts";

const SIZES = [1_000, 10_000, 50_000];
const DEVICE = "flannel.1";
const PACKETS = 100_000;

/** A table, and the line that adds a node to it. */
type Table = [name: string, tool: "ip" | "bridge", line: (number: number) => string];

const TABLES: Table[] = [
  ["fdb entry", "bridge", (number) => {
    const { mac, ip } = simulated(number);
    return `fdb add ${mac} dev ${DEVICE} dst ${ip} self permanent`;
  }],
  ["neighbour", "ip", (number) => {
    const { subnet, mac } = simulated(number);
    return `neigh add ${subnet} lladdr ${mac} dev ${DEVICE} nud permanent`;
  }],
  ["route", "ip", (number) => {
    const { subnet } = simulated(number);
    // Spread as the agent does it: the kernel's search is slow among those with one number.
    const protocol = 64 + number % 16;
    return `route add ${subnet}/24 via ${subnet} dev ${DEVICE} onlink proto ${protocol}`;
  }],
];

/** Routes that differ in their metric, which the kernel's search goes by, too. */
const METRICS: Table = ["route with one of 1,024 metrics", "ip", (number) => {
  const { subnet } = simulated(number);
  return `route add ${subnet}/24 via ${subnet} dev ${DEVICE} onlink metric ${number % 1024 + 1}`;
}];

/** See the module. */
export async function* kernelCosts(): AsyncGenerator<Cost, void, void> {
  for (const size of SIZES) {
    yield* tables(size, TABLES, true);
    yield* tables(size, [METRICS], false);
  }
}

/** Fills tables of a new namespace. */
async function* tables(size: number, wanted: Table[], send: boolean): AsyncGenerator<Cost> {
  await using ns = await NetNs.create("kernel");
  await using far = await NetNs.create("kernel-far");
  await veth({ ns, dev: "eth0", addresses: ["192.168.77.1/24"] }, {
    ns: far,
    dev: "eth0",
    addresses: ["192.168.77.2/24"],
  });
  await prepare(ns, far);
  for (const [name, tool, line] of wanted) {
    const before = await kernelBytes();
    const seconds = await batch(ns, tool, size, line);
    const bytes = (await kernelBytes() - before) / size;
    yield [`${name} of ${counted(size)}: memory (bytes)`, bytes];
    yield [`${name} of ${counted(size)}: insert, processor (µs)`, seconds * 1e6 / size];
  }
  if (send) {
    yield [`packet to one of ${counted(size)} peers, processor (µs)`, await packetTime(ns, size)];
  }
}

/** The device, and a way for outer packets, which end at the other side of the link. */
async function prepare(ns: NetNs, far: NetNs): Promise<void> {
  const device = ["id", "1", "dstport", "8472", "local", "192.168.77.1", "dev", "eth0"];
  await ns.run("ip", "link", "add", DEVICE, "type", "vxlan", ...device, "nolearning");
  await ns.run("ip", "link", "set", DEVICE, "up");
  await ns.run("ip", "route", "add", "default", "via", "192.168.77.2");
  await ns.run("ping", "-c1", "-W2", "192.168.77.2");
  await far.sysctl("net.ipv4.ip_forward", 0);
}

/** Adds entries by a batch file. @returns processor seconds in the kernel */
async function batch(
  ns: NetNs,
  tool: string,
  size: number,
  line: (number: number) => string,
): Promise<number> {
  const file = await Deno.makeTempFile({ prefix: "flanneld-batch-" });
  try {
    const lines = Array.from({ length: size }, (_, number) => `${line(number)}\n`);
    await Deno.writeTextFile(file, lines.join(""));
    return await systemTime(ns, tool, "-batch", file);
  } finally {
    await Deno.remove(file);
  }
}

/** Runs a command. @returns processor seconds in the kernel: wall time is others', too */
async function systemTime(ns: NetNs, ...command: string[]): Promise<number> {
  // The last line of `times` is of the children: user and system time as 0m1.50s.
  const text = await ns.run("bash", "-c", '"$@" >/dev/null && times', "bash", ...command);
  const [, minutes, seconds] = /^\S+ (\d+)m([\d.]+)s$/.exec(text.trim().split("\n").at(-1)!)!;
  return Number(minutes) * 60 + Number(seconds);
}

/** Slab and per-CPU memory of the kinds that the tables are made of. */
async function kernelBytes(): Promise<number> {
  const slabs = (await Deno.readTextFile("/proc/slabinfo")).split("\n")
    .filter((line) => /^(kmalloc|ip_fib|ip_dst|fib6)/.test(line))
    .map((line) => line.split(/\s+/))
    .reduce((sum, [, active, , size]) => sum + Number(active) * Number(size), 0);
  const text = await Deno.readTextFile("/proc/meminfo");
  return slabs + Number(/^Percpu:\s+(\d+) kB/m.exec(text)![1]) * 1024;
}

/** Processor time of a packet in the kernel. */
async function packetTime(ns: NetNs, peers: number): Promise<number> {
  const args = ["run", "-A", "--no-check", "--unstable-net", `${ROOT}tools/bench/sender.ts`];
  const command = [Deno.execPath(), ...args, String(peers), String(PACKETS)];
  return await systemTime(ns, ...command) * 1e6 / PACKETS;
}
