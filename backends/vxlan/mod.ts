/**
 * vxlan: the kernel's VXLAN device carries the packets (RFC 7348).
 *
 * One device a family, `flannel.VNI` and `flannel-v6.VNI`. A peer's subnet is routed to the peer's
 * base address on the device, a permanent neighbour entry gives that address the peer's VTEP MAC,
 * and an fdb entry sends frames for the MAC to the peer's public address: no broadcast, no
 * learning. Formats as flannel's (its Documentation/backends.md, VXLAN).
 *
 * @module
 */
import type { KernelState, VxlanLink } from "../../dataplane/state.ts";
import type { Cidr } from "../../base/cidr.ts";
import { ConfigError, type NetworkConfig } from "../../subnet/config.ts";
import { quote } from "../../base/json.ts";
import type { Lease, LeaseAttrs } from "../../subnet/types.ts";
import { type Direct, directTo } from "../direct.ts";
import { LEAST_MTU, Options } from "../options.ts";
import type { Finding } from "../finding.ts";
import type { Patient } from "../types.ts";
import type { Backend, BackendInput, BackendState, Skipped } from "../types.ts";

/** What VXLAN takes of the lower MTU: outer IP, UDP, VXLAN and inner Ethernet headers. */
const OVERHEAD = { ipv4: 50, ipv6: 70 } as const;

/** Of each peer without DirectRouting. */
const TUNNELLED: Direct = { reason: "DirectRouting is off" };

/** In place of a lease's key, which it cannot be. */
const OURS = "";

type Family = keyof typeof OVERHEAD;

interface VxlanOptions {
  vni: number;
  port: number;
  /** MTU of the path between hosts; 0: the public interface's. */
  mtu: number;
  gbp: boolean;
  learning: boolean;
  directRouting: boolean;
}

/** What a vxlan peer announces for a family. */
interface VtepData {
  vni: number | undefined;
  mac: string;
}

/** One family's half of the backend. */
interface Half {
  family: Family;
  device: VxlanLink;
  subnet(lease: Lease): Cidr | null;
  publicIP(lease: Lease): string | null;
  data(lease: Lease): unknown;
}

/**
 * Checks the options.
 *
 * @throws {ConfigError}
 */
export function validate(network: NetworkConfig): void {
  parseOptions(network);
}

/** @throws {ConfigError} as {@linkcode validate} */
export function effectiveOptions(network: NetworkConfig): Record<string, unknown> {
  const { vni, port, mtu, gbp, learning, directRouting } = parseOptions(network);
  return {
    ...{ VNI: vni, Port: port },
    ...(mtu === 0 ? {} : { MTU: mtu }),
    ...{ GBP: gbp, Learning: learning, DirectRouting: directRouting },
  };
}

/**
 * Makes the vxlan backend.
 *
 * @throws {ConfigError}
 */
export function create(input: BackendInput): Backend {
  const options = parseOptions(input.network);
  const halves: Half[] = [];
  if (input.network.ipv4) {
    halves.push({
      family: "ipv4",
      device: device("ipv4", input, options),
      subnet: (lease) => lease.subnet,
      publicIP: (lease) => lease.attrs.publicIP,
      data: (lease) => lease.attrs.backendData,
    });
  }
  if (input.network.ipv6) {
    halves.push({
      family: "ipv6",
      device: device("ipv6", input, options),
      subnet: (lease) => lease.ipv6Subnet,
      publicIP: (lease) => lease.attrs.publicIPv6,
      data: (lease) => lease.attrs.backendV6Data,
    });
  }
  return {
    type: "vxlan",
    summary: `VXLAN config: VNI=${options.vni} Port=${options.port} GBP=${options.gbp} ` +
      `Learning=${options.learning} DirectRouting=${options.directRouting}`,
    mtu: Math.min(...halves.map((half) => half.device.mtu)),
    outerMtu: options.mtu || input.iface.mtu,
    attrs: attrs(input, options, halves),
    devices: halves.map((half) => half.device.name),
    additive: true,
    followsRoutes: options.directRouting,
    clash: (peer) => clash(halves, peer),
    state: (lease, peers, routeTo) => {
      const direct = (ip: string): Direct =>
        options.directRouting ? directTo(ip, input.iface.name, routeTo) : TUNNELLED;
      return state(halves, lease, peers, direct);
    },
  };
}

/** The doctor's part. */
export async function* examine(patient: Patient): AsyncGenerator<Finding> {
  yield* (await import("./checks.ts")).examine(patient);
}

function parseOptions(network: NetworkConfig): VxlanOptions {
  const options = new Options(network.backend.options);
  const mtu = options.integer("MTU", 0, 0, 65_535);
  const family: Family = network.ipv6 ? "ipv6" : "ipv4";
  const least = LEAST_MTU[family] + OVERHEAD[family];
  if (mtu !== 0 && mtu < least) {
    throw new ConfigError(
      `Backend.MTU: ${mtu} leaves no room for inner packets; it is the MTU between the hosts, ` +
        `${least} or more`,
    );
  }
  return {
    vni: options.integer("VNI", 1, 1, 0xff_ffff),
    // 0 is the default, too, as in the kernel's vxlan module.
    port: options.integer("Port", 8472, 0, 65_535) || 8472,
    mtu,
    gbp: options.boolean("GBP", false),
    learning: options.boolean("Learning", false),
    directRouting: options.boolean("DirectRouting", false),
  };
}

function device(family: Family, input: BackendInput, options: VxlanOptions): VxlanLink {
  const v6 = family === "ipv6";
  const name = v6 ? `flannel-v6.${options.vni}` : `flannel.${options.vni}`;
  return {
    kind: "vxlan",
    name,
    vni: options.vni,
    mac: vtepMac(input, name, family),
    mtu: (options.mtu || input.iface.mtu) - OVERHEAD[family],
    lower: input.iface.name,
    local: (v6 ? input.iface.ipv6 : input.iface.ip)!,
    port: options.port,
    learning: options.learning,
    gbp: options.gbp,
  };
}

/**
 * The VTEP's MAC: the device's where it is there, else the one that peers know from our former
 * lease, so that a restart changes nothing for them. What an older lease of another node announces is
 * that node's, and peers would not use ours with it: then a random one, locally administered.
 */
function vtepMac(input: BackendInput, name: string, family: Family): string {
  const there = input.existing.find((iface) => iface.name === name && iface.kind === "vxlan");
  const former = input.former && parseData(dataOf(input.former, family));
  for (const mac of [there?.mac, typeof former === "object" ? former.mac : undefined]) {
    if (mac !== undefined && isUnicastMac(mac) && !isTaken(input, mac, family)) return mac;
  }
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  bytes[0] = (bytes[0] & 0xfe) | 0x02;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function isTaken({ older = [] }: BackendInput, mac: string, family: Family): boolean {
  return older.some((lease) => {
    const data = dataOf(lease, family);
    if (typeof data !== "object" || data === null || !("VtepMAC" in data)) return false;
    return typeof data.VtepMAC === "string" && data.VtepMAC.toLowerCase() === mac;
  });
}

function dataOf({ attrs }: Lease, family: Family): unknown {
  return family === "ipv4" ? attrs.backendData : attrs.backendV6Data;
}

function attrs(input: BackendInput, options: VxlanOptions, halves: Half[]): LeaseAttrs {
  const data = (family: Family) => {
    const half = halves.find((half) => half.family === family);
    return half && { VNI: options.vni, VtepMAC: half.device.mac };
  };
  return {
    publicIP: input.iface.publicIP,
    publicIPv6: input.iface.publicIPv6,
    backendType: "vxlan",
    backendData: data("ipv4"),
    backendV6Data: data("ipv6"),
  };
}

/** The MAC of one of our devices that a peer announces for its own of the same network. */
function clash(halves: Half[], peer: Lease): string | undefined {
  if (peer.attrs.backendType !== "vxlan") return undefined;
  for (const { device: { vni, mac }, ...half } of halves) {
    const data = half.subnet(peer) ? parseData(half.data(peer)) : "none";
    if (typeof data === "object" && data.mac === mac && (data.vni ?? vni) === vni) {
      return `this node's VTEP MAC ${mac}`;
    }
  }
  return undefined;
}

function state(
  halves: Half[],
  lease: Lease,
  peers: Iterable<Lease>,
  directTo: (ip: string) => Direct,
): BackendState {
  const kernel: KernelState = { links: [], addresses: [], routes: [], neighbours: [], fdb: [] };
  for (const half of halves) {
    kernel.links.push(half.device);
    // A single address, so that the device gets no subnet route of its own.
    const address = half.subnet(lease)?.address;
    const length = half.family === "ipv4" ? 32 : 128;
    if (address) kernel.addresses.push({ dev: half.device.name, cidr: `${address}/${length}` });
  }
  // Frames for a MAC go to one VTEP: a peer that claims another's MAC must not get its traffic.
  const owners = halves.map((half) => new Map([[half.device.mac, OURS]]));
  const skipped: Skipped[] = [];
  for (const peer of peers) {
    const refusal: Refusal | undefined = peer.attrs.backendType === "vxlan"
      ? addPeer(halves, owners, peer, kernel, directTo)
      : {
        reason: `its backend is ${quote(peer.attrs.backendType || "udp")}, this node's is vxlan`,
      };
    if (refusal !== undefined) skipped.push({ key: peer.key, ...refusal });
  }
  return { kernel, skipped };
}

/** Why a peer is skipped. */
type Refusal = Omit<Skipped, "key">;

/** Adds a peer's entries, all or none; answers why not. */
function addPeer(
  halves: Half[],
  owners: Map<string, string>[],
  peer: Lease,
  kernel: KernelState,
  directTo: (ip: string) => Direct,
): Refusal | undefined {
  const ready: { half: Half; subnet: Cidr; ip: string; mac?: string; dev: string }[] = [];
  for (const [index, half] of halves.entries()) {
    const subnet = half.subnet(peer);
    if (subnet === null) continue;
    const ip = half.publicIP(peer);
    if (ip === null) {
      return { reason: `it has an ${half.family} subnet and no public address for it` };
    }
    const direct = directTo(ip);
    if ("dev" in direct) {
      ready.push({ half, subnet, ip, dev: direct.dev });
      continue;
    }
    const data = parseData(half.data(peer));
    if (typeof data === "string") return { reason: data };
    if (data.vni !== undefined && data.vni !== half.device.vni) {
      return { reason: `its VNI is ${data.vni}, this node's is ${half.device.vni}` };
    }
    const owner = owners[index].get(data.mac);
    if (owner !== undefined && owner !== peer.key) {
      return owner === OURS
        ? { reason: `its VTEP MAC ${data.mac} is this node's own` }
        : { reason: `its VTEP MAC ${data.mac} is already that of ${owner}`, conflict: true };
    }
    owners[index].set(data.mac, peer.key);
    ready.push({ half, subnet, ip, mac: data.mac, dev: half.device.name });
  }
  for (const { subnet, ip, mac, dev } of ready) {
    const dst = `${subnet}`;
    if (mac === undefined) {
      kernel.routes.push({ dst, via: ip, dev });
      continue;
    }
    const via = subnet.address;
    kernel.fdb.push({ dev, mac, dst: ip });
    kernel.neighbours.push({ dev, ip: via, mac });
    kernel.routes.push({ dst, via, dev, onlink: true });
  }
  return undefined;
}

/** A lease's backend data, or what is wrong with it. Old flannel writes no VNI. */
function parseData(data: unknown): VtepData | string {
  if (typeof data !== "object" || data === null) return "it has no vxlan data";
  const { VNI: vni, VtepMAC: text } = data as { VNI?: unknown; VtepMAC?: unknown };
  const mac = typeof text === "string" ? text.toLowerCase() : "";
  if (!isUnicastMac(mac)) return `its VtepMAC ${quote(text)} is not a unicast MAC address`;
  if (vni !== undefined && vni !== null && typeof vni !== "number") {
    return `its VNI ${quote(vni)} is not a number`;
  }
  return { vni: vni ?? undefined, mac };
}

/** Six hex pairs, neither the group bit (IEEE 802) set nor all zero. */
function isUnicastMac(mac: string): boolean {
  return /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(mac) && mac !== "00:00:00:00:00:00";
}
