/**
 * The kernel state that a backend wants: plain values, so that a backend is a pure function and its
 * tests compare values. The reconciler in `dataplane-rs` makes the kernel match.
 *
 * All addresses are text in canonical form (RFC 5952 for IPv6), subnets are `BASE/LENGTH`, MACs are
 * six lower-case hex pairs with `:`.
 *
 * @module
 */

/** A VXLAN device (RFC 7348), one VTEP. */
export interface VxlanLink {
  kind: "vxlan";
  /** Device name, 15 bytes at most: `flannel.1`. */
  name: string;
  /** VXLAN network identifier, 24 bits. */
  vni: number;
  /** The VTEP's MAC, the one that the lease announces. */
  mac: string;
  /** Bytes of the largest inner IP packet. */
  mtu: number;
  /** Name of the lower device, the public interface. */
  lower: string;
  /** Source address of the outer packets. */
  local: string;
  /** UDP destination port of the outer packets. */
  port: number;
  /** Learn fdb entries from received packets. */
  learning: boolean;
  /** Group-based policy extension. */
  gbp: boolean;
}

/** A bridge for the host's containers (`--bridge`). */
export interface BridgeLink {
  kind: "bridge";
  name: string;
  mtu: number;
}

/** A device that the agent makes; everything on it is the agent's. */
export type LinkState = VxlanLink | BridgeLink;

/** An address on one of {@link KernelState.links}. */
export interface AddressState {
  dev: string;
  /** Address with its prefix length: `10.1.72.0/32`, `10.1.40.1/24`. */
  cidr: string;
}

/** A route in the main table. On devices not in {@link KernelState.links}, marked with the agent's protocol number. */
export interface RouteState {
  /** Destination subnet. */
  dst: string;
  /** `unicast` when absent. */
  type?: "unicast" | "blackhole";
  /** Output device; none for a blackhole. */
  dev?: string;
  /** Next hop. */
  via?: string;
  /** The next hop is on the link although no address says so. */
  onlink?: boolean;
  /** Priority, the lowest wins; the kernel's default (IPv4 0, IPv6 1024) when absent. */
  metric?: number;
}

/** A permanent neighbour (ARP or NDP) entry on one of {@link KernelState.links}. */
export interface NeighbourState {
  dev: string;
  ip: string;
  mac: string;
}

/** A permanent forwarding database entry of a VXLAN device: frames for `mac` go to the VTEP at `dst`. */
export interface FdbState {
  dev: string;
  mac: string;
  dst: string;
}

/** A peer of a {@link TunnelState}. */
export interface TunnelPeer {
  /** Inner destinations that are sent to it, and inner sources that it may send from. */
  subnets: string[];
  /** Its public address; the port is the tunnel's. */
  endpoint: string;
}

/**
 * A TUN device and a UDP socket with the data plane's own threads between them: one inner IP packet
 * a datagram, flannel's udp format. It lives as long as the process.
 */
export interface TunnelState {
  /** Name of the TUN device: `flannel0`. */
  name: string;
  /** Bytes of the largest inner packet. */
  mtu: number;
  /** UDP port, ours and the peers'. */
  port: number;
  /** Addresses of ours that datagrams are sent from and received at, one a family at most. */
  local: string[];
  /** Inner destinations that are ours: our lease. */
  subnets: string[];
  peers: TunnelPeer[];
}

/** Everything the agent wants of the kernel; what it owns and is not here is removed. */
export interface KernelState {
  /** The userspace tunnel, for backends that have one; its device counts as one of the links. */
  tunnel?: TunnelState;
  links: LinkState[];
  addresses: AddressState[];
  routes: RouteState[];
  neighbours: NeighbourState[];
  fdb: FdbState[];
}

/** Entries of the tables that peers are in. */
export interface KernelEntries {
  /** Of the tunnel. */
  peers: TunnelPeer[];
  routes: RouteState[];
  neighbours: NeighbourState[];
  fdb: FdbState[];
}

/**
 * The difference between two kernel states that have the same links, addresses and tunnel. An entry that
 * is changed is in both parts.
 */
export interface KernelChange {
  put: KernelEntries;
  remove: KernelEntries;
}

/** One entry that the kernel refused. */
export interface EntryError {
  /** The entry as an operator would write it: `route 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink`. */
  entry: string;
  /** Positive errno from the netlink acknowledgement. */
  errno: number;
  /** Its text, with the kernel's extended message where there is one. */
  message: string;
}

/** Entries of one table that were touched. */
export interface TableCounts {
  added: number;
  changed: number;
  removed: number;
}

/** What one reconcile did. */
export interface ApplyReport {
  added: number;
  changed: number;
  removed: number;
  /** Entries that were right and were left untouched. */
  kept: number;
  errors: EntryError[];
  /** The counts by table (`routes`, `neighbours`, `fdb`, `addresses`, `links`), of those touched. */
  tables: Record<string, TableCounts>;
  /** The first of the entries that were touched: `added route 10.1.2.0/24 via …`. */
  entries: string[];
  /** Duration in microseconds. */
  micros: number;
}

/** What should forward packets. */
export interface ForwardingQuery {
  /** Names of interfaces; those that are not there are left out. */
  devs: string[];
  /** The interface to the other hosts, whose routes by router advertisements are kept. */
  uplink?: string;
  ipv4: boolean;
  /** The kernel forwards IPv6 on all interfaces or on none. */
  ipv6: boolean;
  /** Switch on what is off. */
  enable: boolean;
}

/** What did not forward packets, by the names that sysctl(8) takes. */
export interface ForwardingAnswer {
  /** Switched on now. */
  enabled: string[];
  /** Off still. */
  off: string[];
  /** Why switching one on failed. */
  error?: string;
}

/** What a cleanup did. */
export interface CleanupReport {
  /** Each thing removed, as an operator would write it: `link flannel.1`, `route 10.1.2.0/24`. */
  removed: string[];
  errors: EntryError[];
}

/** A network interface as the kernel has it. */
export interface Interface {
  index: number;
  name: string;
  /** `vxlan`, `bridge`, `veth`, …; empty for hardware. */
  kind: string;
  mac: string;
  mtu: number;
  /** Administratively up. */
  up: boolean;
  loopback: boolean;
  pointToPoint: boolean;
  /** Made by this agent (IFLA_IFALIAS `flanneld`). */
  owned: boolean;
  /** Of a VXLAN device. */
  vxlan?: { vni: number; port: number };
  addresses: InterfaceAddress[];
}

/** An address of an {@link Interface}. */
export interface InterfaceAddress {
  ip: string;
  prefixLength: number;
  scope: "global" | "site" | "link" | "host";
  /** It has a lifetime, as those from DHCP and router advertisements do. */
  dynamic: boolean;
  /** An IPv6 temporary address (RFC 8981). */
  temporary: boolean;
  /** No longer preferred (`preferred_lft 0`). */
  deprecated: boolean;
  /** IPv6 still checks whether another host has it, or found so: {@link duplicate}. */
  tentative: boolean;
  /** Another host has it (`dadfailed`). */
  duplicate: boolean;
}

/** One next hop of a default route (length 0) of the main table; blackholes have none. */
export interface DefaultRoute {
  ipv6: boolean;
  dev: string;
  /** The lowest wins. */
  metric: number;
  /** Its device has no carrier. */
  linkDown: boolean;
}

/** What `ip route get` says. */
export interface RouteLookup {
  dev: string;
  via?: string;
  /** Preferred source address. */
  src?: string;
  /** The device finds its neighbours by ARP or NDP: neither loopback nor a tunnel. */
  resolves: boolean;
}

/** What {@linkcode DataPlane.events} yields. */
export type DataPlaneEvent =
  /** Something of ours was changed by someone else and was put back. */
  | { type: "healed"; report: ApplyReport }
  /** An interface that is not ours came, went, went up or down, or changed its MTU. */
  | { type: "link"; name: string; up: boolean; mtu: number; present: boolean }
  /** An address was added to or removed from an interface that is not ours. */
  | { type: "address"; dev: string; cidr: string; present: boolean }
  /** Routes or rules that are not ours have changed; several changes are one event. */
  | { type: "routes" }
  /** A default route of the main table came, changed or went. */
  | { type: "defaultRoute" }
  /** Rules of the packet filter may have changed; at most once in a period. */
  | { type: "packetFilter" }
  /** Links and addresses changed so fast that it is not told which: each of them may have. */
  | { type: "missed" }
  /** The monitor itself failed; the data plane re-opens it. */
  | { type: "error"; message: string }
  /** What the tunnel tells; one that failed carries nothing until the next apply. */
  | { type: "tunnel"; message: string; failed: boolean };

/** Packets and bytes of one direction, inner IP headers included. */
export interface Traffic {
  packets: number;
  bytes: number;
}

/** What the peers of a tunnel sent and got: lists of the same length, an item a peer. */
export interface TunnelPeerCounters {
  /** Public addresses. */
  endpoint: string[];
  sentPackets: number[];
  sentBytes: number[];
  receivedPackets: number[];
  receivedBytes: number[];
  /** Packets that came from the peer and were dropped. */
  dropped: number[];
}

/** What a tunnel carried since it started. */
export interface TunnelCounters {
  sent: Traffic;
  received: Traffic;
  /** Packets dropped, by reason. */
  drops: Record<string, number>;
  /** ICMP errors sent. */
  icmpSent: number;
  peers: TunnelPeerCounters;
}
