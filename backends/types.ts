/**
 * What a backend is: a pure function from leases to the kernel state that carries packets to them.
 *
 * A backend knows neither the store nor the command line, opens nothing and waits for nothing; the
 * agent asks it for what should be there and the data plane makes it so. Only one whose state is not
 * in the kernel has a part that acts by itself: {@linkcode Outside}.
 *
 * @module
 */
import type { DataPlane } from "../dataplane/mod.ts";
import type { Interface, InterfaceAddress, KernelState, RouteLookup } from "../dataplane/state.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import type { Lease, LeaseAttrs } from "../subnet/types.ts";
import type { Finding } from "./finding.ts";

/** The interface that carries the traffic between hosts. */
export interface PublicInterface {
  name: string;
  /** Bytes of the largest IP packet. */
  mtu: number;
  /** The interface's own addresses, source of what we send; null where the family is off. */
  ip: string | null;
  ipv6: string | null;
  /** What the peers are told; differs from {@link ip} behind NAT. */
  publicIP: string | null;
  publicIPv6: string | null;
  /** All its addresses. */
  addresses: InterfaceAddress[];
}

/** What a backend is made from. */
export interface BackendInput {
  network: NetworkConfig;
  iface: PublicInterface;
  /** The kernel's interfaces at the start: a device that is there already keeps its MAC. */
  existing: readonly Interface[];
  /** The lease this node has, if it is still in the store. */
  former?: Lease;
  /** Other nodes' leases that are older than ours: what they announce is theirs. */
  older?: readonly Lease[];
}

/** A peer that the backend cannot reach, and why; the others are unaffected. */
export interface Skipped {
  key: string;
  reason: string;
  /** Another peer stands in its way: a change of that one may let it in. */
  conflict?: true;
}

/** The kernel's route to a peer's public address; undefined where there is none. */
export type RouteTo = (ip: string) => RouteLookup | undefined;

/** What should be in the kernel. */
export interface BackendState {
  kernel: KernelState;
  skipped: Skipped[];
}

/**
 * What a backend keeps right outside of the kernel, such as the route table of a cloud: desired
 * against actual as in the data plane, with a reconciler of its own, since each such place has its
 * own calls, costs and faults.
 */
export interface Outside {
  /** Takes the peers' leases, at first and after each change. Returns at once. */
  want(peers: ReadonlyMap<string, Lease>): void;
  /** Resolves when the peers reach our subnet for the first time. */
  readonly ready: Promise<void>;
  /**
   * Makes it so and keeps it so until `signal` aborts, and resolves then; what is there stays.
   * Transient faults are retried with backoff and jitter, and logged once a state.
   *
   * @throws {ConfigError} for what waiting does not mend
   */
  keep(signal: AbortSignal): Promise<void>;
}

/** A way of carrying packets between hosts. */
export interface Backend {
  /** Name in the network config: `vxlan`. */
  readonly type: string;
  /** One line for the log: the options in force. */
  readonly summary: string;
  /** Bytes of the largest packet that a container may send (FLANNEL_MTU). */
  readonly mtu: number;
  /**
   * Bytes of the largest packet between hosts that this makes, headers of a tunnel included; {@link mtu}
   * where absent.
   */
  readonly outerMtu?: number;
  /** What the lease announces to the peers. */
  readonly attrs: LeaseAttrs;
  /** Devices that the backend makes, gone or not; not to be taken for the public interface. */
  readonly devices: readonly string[];
  /**
   * Set where each peer adds its own entries to {@link state}, whatever other peers there are, unless
   * one of them is left out for another's sake. Then a change of some peers is made from their states
   * alone.
   */
  readonly additive?: true;
  /** Set where {@link state} depends on the kernel's routes to the peers' public addresses. */
  readonly followsRoutes?: boolean;
  /**
   * The kernel state for our lease and these peers. Pure: the same input gives an equal value.
   *
   * @param routeTo knows the peers' public addresses where {@link followsRoutes} is set
   */
  state(lease: Lease, peers: Iterable<Lease>, routeTo: RouteTo): BackendState;
  /**
   * What a peer's lease announces that is ours and can have one owner only, to follow "announces":
   * `our VTEP MAC …`. The peers leave it to the older lease. Absent where nothing is like that.
   */
  clash?(peer: Lease): string | undefined;
  /** What must be right elsewhere for our lease; absent where the kernel's state is all. */
  outside?(lease: Lease): Promise<Outside>;
}

/** Makes a backend; throws {@linkcode ConfigError} for options that cannot be. */
export type BackendFactory = (input: BackendInput) => Backend;

/** The node that {@linkcode BackendModule.examine} looks at. */
export interface Patient {
  network: NetworkConfig;
  iface: PublicInterface;
  /** This node's; undefined where it has none. */
  lease: Lease | undefined;
  /** Valid leases of other nodes. */
  peers: readonly Lease[];
  /** What should be in the kernel. */
  kernel: KernelState;
  /** Whether an agent runs here. */
  isRunning: boolean;
  host: Pick<DataPlane, "interfaces" | "udpPort" | "features">;
}

/** What a backend's file exports. */
export interface BackendModule {
  /** Checks the options alone, for `flanneld config validate`; throws ConfigError. */
  validate(network: NetworkConfig): void;
  /**
   * The options in force under flannel's names, defaults included, except those that follow from the
   * node, such as an MTU that is not set. Throws as {@link validate}.
   */
  effectiveOptions(network: NetworkConfig): Record<string, unknown>;
  create: BackendFactory;
  /**
   * Checks what this backend alone needs of the node and its surroundings, for `flanneld doctor`;
   * changes nothing. Absent where the kernel's state and the peers' answers tell all.
   */
  examine?(patient: Patient): AsyncIterable<Finding>;
}
