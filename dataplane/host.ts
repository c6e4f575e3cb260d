/**
 * Questions about the host, for checks of a node, and their answers. None changes anything.
 *
 * @module
 */

/** What to look for with {@linkcode DataPlane.overlaps}. */
export interface OverlapQuery {
  /** The overlay's networks, `BASE/LENGTH`. */
  networks: string[];
  /** This node's own subnets, which belong to its containers. */
  own: string[];
  /** Names of devices that are the agent's. */
  devs: string[];
}

/** An address or a route of the host that overlaps the overlay's network. */
export interface Overlap {
  kind: "address" | "route";
  /** The overlay's network. */
  network: string;
  cidr: string;
  dev?: string;
  via?: string;
  /** Of a route that is not in the main table. */
  table?: number;
}

/** IPv4 packets that come in by a device. */
export interface Flow {
  src: string;
  dst: string;
  dev: string;
}

/** What the kernel's reverse path filter does to a {@linkcode Flow}. */
export interface Filtered {
  dropped: boolean;
  /** The filter in force on the device: 0 off, 1 strict, 2 loose. */
  filter: number;
}

/** A process of the host. */
export interface Process {
  id: number;
  name: string;
  /** Names of the TUN devices that it has open. */
  tuns: string[];
}

/** Whether a UDP port is in use, and by whom. */
export interface UdpPort {
  /** A process has it, or a tunnel of the kernel. */
  bound: boolean;
  /** Absent where there is none, or none to be seen. */
  process?: Process;
}

/** A host to ask. */
export interface ProbeTarget {
  ip: string;
  /** Source address; the kernel's choice where absent. */
  from?: string;
  /** Bytes of the IP packet that should reach it whole. */
  size: number;
}

/** Whether a {@linkcode ProbeTarget} answers ICMP echo requests. */
export interface Probed {
  answered: boolean;
  /** Microseconds until a small packet's answer. */
  micros?: number;
  /** Bytes of the largest IP packet that was answered, at most those asked for; 0 for none. */
  mtu: number;
  /** Why nothing could be sent. */
  error?: string;
}

/** What `dp_host` takes. */
export type HostQuery =
  | { what: "overlaps" } & OverlapQuery
  | { what: "reversePath"; flows: Flow[] }
  | { what: "udpPort"; port: number }
  | { what: "otherAgent" }
  | { what: "features"; dev: string }
  | { what: "probe"; targets: ProbeTarget[] };
