/**
 * Which of the leases in the store this node had before.
 *
 * - The one of this process: its key, as this process wrote it last.
 * - The one that the node remembers across restarts ({@linkcode HeldLease}): the same etcd cluster,
 *   prefix, key, etcd lease, and revision that created the key. An etcd lease's id is never given out
 *   twice, so that what was written since by anyone else, or put back from a backup, does not match.
 * - One that announces the node's public address.
 *
 * None of these proves that the owner is gone: two machines may have one address, and a clone of a
 * machine has its memory and its files. See `rivals.ts` for how a living owner is told.
 *
 * @module
 */
import { collide, fits } from "../allocate.ts";
import type { NetworkConfig } from "../config.ts";
import type { Snapshot, StoredLease } from "./store.ts";
import { leaseKey, type Subnets } from "../lease_codec.ts";
import type { HeldLease, Lease, LeaseAttrs, PreviousSubnets } from "../types.ts";
import { holdsAddress, holdsHost, leaseFault } from "../lease_fault.ts";

/** Where peers reach a node. */
export type Addresses = Pick<LeaseAttrs, "publicIP" | "publicIPv6">;

/** What a node knows itself by. */
export interface NodeIdentity {
  addresses: Addresses;
  /** What the subnet file says. */
  previous: PreviousSubnets;
  /** What it remembers of its last lease below this prefix. */
  held: HeldLease | undefined;
  /** The lease that this process had before, as it wrote it. */
  former: Lease | undefined;
}

/** A stored lease whose key names subnets. */
export type UsableLease = StoredLease & { subnets: Subnets };

/** A usable one whose value is a lease, too. */
export type FormerLease = UsableLease & { lease: Lease };

/** Leases under our address that are compared with all others: one is all that a node has. */
const MOST_LOOKED_AT = 64;

/** The leases that were this node's, those of its address included. */
export function formerLeases(node: NodeIdentity, snapshot: Snapshot): StoredLease[] {
  return snapshot.leases.filter((stored) =>
    announces(stored, node.addresses) || isUnchanged(stored, node.former) ||
    isHeld(stored, snapshot.cluster, node.held)
  );
}

/** Whether a stored lease carries one of these public addresses. */
export function announces({ lease }: StoredLease, { publicIP, publicIPv6 }: Addresses): boolean {
  if (lease === null) return false;
  return publicIP === null
    ? publicIPv6 !== null && lease.attrs.publicIPv6 === publicIPv6
    : lease.attrs.publicIP === publicIP;
}

/** Whether a stored lease is still the one that this process wrote, under an address it had then. */
export function isUnchanged({ key, revision }: StoredLease, former: Lease | undefined): boolean {
  return key === former?.key && revision === former.revision;
}

/** Whether a stored lease is the one that the node remembers. */
export function isHeld(stored: StoredLease, cluster: string, held: HeldLease | undefined): boolean {
  if (held === undefined || held.cluster !== cluster || held.key !== stored.key) return false;
  return held.leaseId === stored.leaseId && held.created === String(stored.created) &&
    // A reservation is the operator's: written anew, it may be meant for another node.
    (held.leaseId !== "0" || held.revision === stored.revision);
}

/**
 * Whether a stored lease was written by an agent that ran on this node since it remembered one: for the
 * subnet file's subnet and this node's address, on another etcd lease. Reservations tell nothing.
 */
export function isOfSuccessor(
  stored: StoredLease,
  cluster: string,
  { addresses, held, previous }: NodeIdentity,
): boolean {
  return held?.cluster === cluster && stored.key === previousKey(previous) &&
    announces(stored, addresses) && stored.leaseId !== "0" && stored.leaseId !== held.leaseId;
}

/**
 * Which of its leases a node keeps: the one of this process, the remembered one, the subnet file's,
 * the oldest. So a lease that someone else writes for its address, a reservation, counts once it has
 * no other.
 */
export function keptLease(
  config: NetworkConfig,
  { addresses, former, held, previous }: NodeIdentity,
  ours: StoredLease[],
  all: StoredLease[],
): FormerLease | undefined {
  const usable = ours
    .filter((stored): stored is FormerLease => isLeaseOf(config, stored) && stored.lease !== null)
    .sort((one, other) => one.created - other.created);
  const wanted = [former?.key, held?.key, previousKey(previous)].flatMap((key) =>
    usable.find((stored) => stored.key === key) ?? []
  );
  return [...wanted, ...usable.slice(0, MOST_LOOKED_AT)]
    .find((stored) => rivalOf(config, stored, all, addresses) === undefined);
}

function previousKey(previous: PreviousSubnets): string | undefined {
  return previous.subnet || previous.ipv6Subnet ? leaseKey(previous) : undefined;
}

/** Whether a stored lease's subnets are such as the config hands out. */
export function isLeaseOf(config: NetworkConfig, stored: StoredLease): stored is UsableLease {
  return stored.subnets !== null && fits(config, stored.subnets);
}

/** What there is to know of a lease to tell whether it is another's. */
type Claim = Pick<StoredLease, "key" | "created"> & { subnets: Subnets };

/**
 * An older lease of another node that has a part of these subnets, which is then that node's; or, where
 * the hosts' addresses lie in the network, as ours does, one whose address lies in them.
 */
export function rivalOf(
  config: NetworkConfig,
  { key, created, subnets }: Claim,
  all: StoredLease[],
  ours?: Addresses,
): StoredLease | undefined {
  const hasHosts = ours !== undefined && holdsHost(config, ours);
  return all.find((other) =>
    other.key !== key && other.created < created && other.lease !== null &&
    (collide(other.lease, subnets) || hasHosts && holdsAddress(subnets, other.lease)) &&
    leaseFault(config, other.lease) === ""
  );
}

/** The leases that are older than ours; all of them where we have none. */
export function olderLeases(
  own: { lease: Pick<Lease, "key">; created: number } | undefined,
  { leases }: Snapshot,
): Lease[] {
  return leases.flatMap(({ key, created, lease }) =>
    lease !== null && key !== own?.lease.key && created < (own?.created ?? Infinity) ? [lease] : []
  );
}
