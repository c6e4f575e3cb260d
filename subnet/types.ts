/**
 * Leases and the manager that hands them out, whatever store is behind.
 *
 * @module
 */
import type { Cidr } from "../base/cidr.ts";
import type { NetworkConfig } from "./config.ts";
import type { HostAddresses } from "./underlay.ts";

/** What a node announces with its lease; the value stored under the lease's key. */
export interface LeaseAttrs {
  /** Address at which peers reach the node; null on an IPv6-only node. */
  publicIP: string | null;
  publicIPv6: string | null;
  /** `vxlan`, `host-gw`, …; empty for udp, which writes none. */
  backendType: string;
  /** What the backend tells its peers, as parsed JSON; absent for most. */
  backendData?: unknown;
  /** The same for the IPv6 half. */
  backendV6Data?: unknown;
}

/** A subnet owned by a node. One of `subnet` and `ipv6Subnet` is there at least. */
export interface Lease {
  /** Key below the prefix: `10.1.34.0-24`. */
  key: string;
  subnet: Cidr | null;
  ipv6Subnet: Cidr | null;
  attrs: LeaseAttrs;
  /** Milliseconds since the epoch; null where unknown (peers), Infinity for a reservation. */
  expiration: number | null;
  /** Store revision of the last write. */
  revision: string;
}

/** What a node had before: from the subnet file. */
export interface PreviousSubnets {
  subnet: Cidr | null;
  ipv6Subnet: Cidr | null;
}

/**
 * What a node remembers of its lease across restarts, to know it again whatever its address is then.
 */
export interface HeldLease {
  /** Id of the etcd cluster. */
  cluster: string;
  /** Above the key: `/coreos.com/network`. */
  prefix: string;
  /** Key below the prefix: `10.1.34.0-24`. */
  key: string;
  /** The etcd lease that the key hangs on; `"0"` for a reservation. */
  leaseId: string;
  /** Revision that created the key. */
  created: string;
  /** Revision of the last write, of a reservation alone. */
  revision?: string;
}

/** Where a node keeps that. */
export interface LeaseMemory {
  /** What was kept last; undefined where nothing was, or it cannot be read. */
  recall(): HeldLease | undefined;
  /** Keeps it; returns at once. A fault is logged. */
  keep(held: HeldLease): void;
}

/** A lease as it came from the store, or why it could not be read. */
export interface Candidate {
  key: string;
  /** Revision that created the key; the smaller is the older. */
  created: number;
  /** Revision of the last write. */
  revision: string;
  lease: Lease | null;
  /** Why there is no lease; empty where there is. */
  problem: string;
}

/** What every subnet manager is told, whatever its store. */
export interface ManagerOptions {
  previous: PreviousSubnets;
  /** Where the lease is remembered across restarts; absent: nowhere. */
  memory?: LeaseMemory;
  /** Minutes before the end of a lease at which it is renewed. */
  renewMarginMinutes: number;
  /** Seconds that a lease lasts; a day where absent. */
  subnetTtlSeconds?: number;
  /** Throws ConfigError for what the config alone does not tell: the backend's name and options. */
  checkConfig?: (config: NetworkConfig) => Promise<void>;
}

/** A lease, and whether it is the one that this node remembers. */
export interface NodeLease extends Lease {
  isHeld?: boolean;
}

/**
 * The store as the sub-commands see it: one attempt at each endpoint and one clear error, unlike
 * {@linkcode SubnetManager}, which waits for a store that is away.
 */
export interface StoreAccess extends Disposable {
  /** Key of the network config. */
  readonly configKey: string;
  /** The network config as stored; undefined where there is none. */
  config(): Promise<string | undefined>;
  /** Replaces the network config. */
  putConfig(text: string): Promise<void>;
  /**
   * All leases by address, with the time of their end.
   *
   * @param refused is told of each entry that cannot be read
   * @param held what this node remembers of its lease
   */
  leases(
    refused: (key: string, reason: string) => void,
    held?: HeldLease,
  ): Promise<NodeLease[]>;
  /** The same without the time of their end, which takes a call for each. */
  leasesWithoutEnd(refused: (key: string, reason: string) => void): Promise<Lease[]>;
  /** The config's text and all entries, as the agents judge them. */
  candidates(): Promise<{ config: string | undefined; candidates: readonly Candidate[] }>;
  /** Deletes a lease, unless another has written it since it was read. */
  release(lease: Lease): Promise<void>;
}

/** What a node has when a session begins. */
export interface Standing {
  /** The lease that is ours, as the store has it; undefined where we have none. */
  lease: Lease | undefined;
  /** Other nodes' leases that are older; all of them where we have none. */
  older: Lease[];
}

/** What {@linkcode SubnetManager.watch} reports. */
export interface WatchHandlers {
  /**
   * All valid peers' leases, ours left out, by key; after the snapshot and after each batch of
   * changes. A lease that did not change is the same object as before.
   *
   * `mended` has the keys whose leases could not be used until now.
   */
  peers(peers: ReadonlyMap<string, Lease>, mended: ReadonlySet<string>): void;
  /**
   * Our own lease is another's now, or was deleted and could not be claimed again; the agent
   * acquires a new one. A deletion that could be undone is not told.
   */
  lost(reason: string): void;
  /** The network config's text in the store changed; undefined where it was deleted. */
  config(raw: string | undefined): void;
  /**
   * What a peer's lease announces that can have one owner only, and is in our lease, too, to follow
   * "announces"; undefined where nothing is. Peers leave it to the older lease: our own is `lost`, if
   * it is the younger one. Absent where no two leases can clash.
   */
  clash?(peer: Lease): string | undefined;
}

/**
 * Who owns which subnet. Implementations: `registry.ts`.
 *
 * Calls retry transient faults with backoff and jitter until `signal` aborts, logging once a state;
 * they throw for what waiting does not mend.
 */
export interface SubnetManager {
  /** For the log: `Etcd Local Manager with Previous Subnet: None`. */
  readonly name: string;
  /** Waits until a valid network config exists. A bad one is logged once and waited on, too. */
  networkConfig(signal: AbortSignal): Promise<NetworkConfig>;
  /** Takes the host's own addresses, before {@linkcode resume}: what leases must leave alone. */
  setHost(host: HostAddresses): Promise<void>;
  /**
   * Takes back the lease that this node has, unless another agent that lives turns out to own it:
   * the one of this process, the remembered one, or one with its public address. What the lease
   * announces stays as it is until {@linkcode acquire}; a backend may go on using that (its VTEP MAC).
   *
   * `current` is the lease of this process, as for {@linkcode acquire}.
   */
  resume(
    publicIP: string | null,
    publicIPv6: string | null,
    signal: AbortSignal,
    current?: Lease,
  ): Promise<Standing>;
  /**
   * Whether another agent has written this node's lease since this node remembered it: the lease for
   * the previous subnet announces its public address, and hangs on an etcd lease that is not the
   * remembered one. To be asked before {@linkcode resume}.
   */
  isWrittenByOther(
    publicIP: string | null,
    publicIPv6: string | null,
    signal: AbortSignal,
  ): Promise<boolean>;
  /**
   * Claims this node's former subnet or a free one. Never two nodes the same.
   *
   * `current` is the lease that this process holds, when it claims again after a change of its
   * attributes or a loss: its subnets are kept where they are still ours or free.
   */
  acquire(
    config: NetworkConfig,
    attrs: LeaseAttrs,
    signal: AbortSignal,
    current?: Lease,
  ): Promise<Lease>;
  /** Keeps `lease` alive until `signal` aborts, renewing before the margin. */
  keep(lease: Lease, signal: AbortSignal): Promise<void>;
  /** Follows peers until `signal` aborts. Resolves then. */
  watch(lease: Lease, handlers: WatchHandlers, signal: AbortSignal): Promise<void>;
  /** Milliseconds since the epoch of the last answer from the store; 0 before the first. */
  readonly lastContact: number;
  /** Talks over new connections from now on: those from an address that is gone would only time out. */
  reconnect(): void;
  close(): Promise<void>;
}
