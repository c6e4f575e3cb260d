/**
 * What the nodes hold, in their kernels and in the tunnel of the udp backend: against what the leases call for, and against what was there before
 * any agent.
 *
 * @module
 */
import type { NetNs } from "../../testbed/netns.ts";
import type { Node } from "../../testbed/node.ts";
import { baseAddress, fdb, link, neighbours, routes } from "../e2e/support.ts";

/** Device of the vxlan backend. */
export const DEVICE = "flannel.1";

/** A lease as etcd has it, read for what the backends need. */
export interface PeerLease {
  /** `10.1.34.0/24` */
  subnet: string;
  publicIP: string;
  /** Of its vxlan device; empty where it has none. */
  mac: string;
}

/** Entries that are not as they ought to be. */
export interface Difference {
  missing: string[];
  /** Entries that no lease calls for: of gone peers, of former values. */
  extra: string[];
}

/** Compares a node's vxlan device and its entries with what the leases call for. */
export async function vxlanDifference(
  ns: NetNs,
  own: PeerLease,
  peers: PeerLease[],
): Promise<Difference> {
  const device = await link(ns, DEVICE);
  const [foundRoutes, foundNeighbours, foundFdb] = await Promise.all([
    routes(ns, DEVICE),
    neighbours(ns, DEVICE),
    fdb(ns, DEVICE),
  ]);
  return difference(
    [
      `device ${own.mac} up`,
      ...peers.map(({ subnet }) => `route ${subnet} via ${baseAddress(subnet)} onlink`),
      ...peers.map(({ subnet, mac }) => `neigh ${baseAddress(subnet)} ${mac}`),
      ...peers.map(({ publicIP, mac }) => `fdb ${mac} dst ${publicIP} self permanent`),
    ],
    [
      `device ${device.address} ${device.flags.includes("UP") ? "up" : "down"}`,
      ...foundRoutes.map((line) => `route ${line}`),
      ...foundNeighbours.map((line) => `neigh ${line}`),
      ...foundFdb.map((line) => `fdb ${line}`),
    ],
  );
}

/** Compares a node's routes by the host-gw backend with what the leases call for. */
export async function hostGwDifference(ns: NetNs, peers: PeerLease[]): Promise<Difference> {
  const { stdout } = await ns.exec("ip", "-br", "link");
  const devices = stdout.split("\n").filter((line) => line.startsWith("flannel"));
  return difference(
    peers.map(({ subnet, publicIP }) => `route ${subnet} via ${publicIP}`),
    [
      ...(await routes(ns, "eth0")).map((line) => `route ${line}`),
      ...devices.map((line) => `device ${line.split(/\s/)[0]}`),
    ],
  );
}

/**
 * Compares the peers of our udp backend's tunnel with what the leases call for: the kernel shows none
 * of them, the agent's metrics name each.
 */
export async function tunnelDifference(node: Node, peers: PeerLease[]): Promise<Difference> {
  const found = [...await tunnelPeers(node)];
  return difference(
    peers.map(({ publicIP }) => `tunnel peer ${publicIP}`),
    found.map((address) => `tunnel peer ${address}`),
  );
}

/** Public addresses of the tunnel's peers. */
export async function tunnelPeers(node: Node): Promise<Set<string>> {
  const { body } = await node.health("/metrics");
  const samples = body.matchAll(/^flanneld_tunnel_peer_sent_packets_total\{peer="([^"]+)"\}/gm);
  return new Set([...samples].map(([, address]) => address));
}

/** What of `wanted` is not in `found`, and the other way round. */
export function difference(wanted: string[], found: string[]): Difference {
  return {
    missing: wanted.filter((line) => !found.includes(line)),
    extra: found.filter((line) => !wanted.includes(line)),
  };
}

/**
 * All that an agent could leave in a namespace, a line an entry: devices, addresses, routes of all
 * tables, permanent neighbours, forwarding entries with a destination, rules and chains of iptables
 * and nftables' own tables.
 */
export async function dump(ns: NetNs): Promise<string[]> {
  const of = async (name: string, command: [string, ...string[]], keep = /./) =>
    (await ns.exec(...command)).stdout.split("\n").map((line) => line.trim())
      .filter((line) => line !== "" && keep.test(line)).map((line) => `${name}: ${line}`);
  const lines = await Promise.all([
    devices(ns),
    of("address", ["ip", "-br", "address"]),
    of("route", ["ip", "-4", "route", "show", "table", "all"]),
    of("route", ["ip", "-6", "route", "show", "table", "all"]),
    of("neigh", ["ip", "neigh", "show", "nud", "permanent"]),
    of("fdb", ["bridge", "fdb", "show"], / dst /),
    // Chains of one's own have no policy. The tables that hold none are the tool's doing.
    of("iptables", ["iptables-save"], /^-A|^:\S+ -/),
    of("ip6tables", ["ip6tables-save"], /^-A|^:\S+ -/),
    of("nft", ["nft", "list", "tables"], /flannel/),
  ]);
  return lines.flat().map((line) => line.replace(/\[\d+:\d+\]/, "").replace(/@if\d+/, "")).sort();
}

async function devices(ns: NetNs): Promise<string[]> {
  const { stdout } = await ns.exec("ip", "-j", "-d", "link");
  const links = JSON.parse(stdout) as {
    ifname: string;
    mtu: number;
    linkinfo?: { info_kind?: string };
  }[];
  return links.map(({ ifname, mtu, linkinfo }) =>
    `device: ${ifname} ${linkinfo?.info_kind ?? ""} mtu ${mtu}`
  );
}
