/**
 * Claiming a subnet in etcd so that no two nodes ever own the same.
 *
 * **Owner.** The owner of a subnet is whose public address is in the value of the key that names it.
 * A claim is one transaction, which etcd carries out as a whole at one revision, on which a majority
 * of its members agrees (it is linearizable): either the key is there with its value and hangs on its
 * etcd lease, or nothing has happened. There is no moment in which the key is there and would not end
 * with its node, and none in which two claims both find it absent.
 *
 * **Why comparisons make the choice safe.** Let S be the snapshot by which a node chose its subnets;
 * nothing in S overlaps them. What remains is what was created since S, so the transaction compares
 * that nothing which overlaps them was (create revision <= S, which an absent key fulfils, too):
 *
 * - An IPv4 subnet is overlapped by those that hold it, of which there is one for each prefix length,
 *   and by those that lie in it, whose keys begin with the octets that they have in common. Both are
 *   ranges of keys (`overlappingKeys`), so that subnets of other lengths are seen, as nodes claim
 *   them that started under another network config, and keys with an IPv6 part, too.
 * - An IPv6 part is not where the order of keys would find it. A claim with one compares that *no*
 *   lease at all was created since S. This makes rivals of all who claim at once; each round one of
 *   them wins, and the others have its lease in their next snapshot, so that all get through.
 *
 * Of two claims that overlap, the later one in etcd's order finds the earlier one's key, created after
 * its S: only one is carried out. It does not matter which configs the two have, how old their
 * snapshots are, or how long a transaction takes to arrive.
 *
 * Keys count, whatever their values: a lease that is too large for the node's own config may be right
 * by another's, and what is no lease may be one that was overwritten, whose node puts it back. That
 * holds for a lease that ended and is claimed again, too (`ownership.ts`).
 *
 * An existing key changes hands in no transaction of ours: a node writes into one only where the value
 * is its own, or none (see `leaseFault`), and compares that it has not changed since S. Go flannel
 * compares the one key that it claims, which rules out the same subnet, whoever is first; that it has
 * another length while ours is claimed is for it to see, and if it does not, the older of the two
 * counts for all our nodes (`validate.ts`).
 *
 * An answer that is lost leaves open whether the claim was carried out. The next snapshot tells: the
 * lease is there under our public address, and is taken over as a former one. Where the claim is
 * carried out later still, after the node has claimed another subnet, it finds its etcd lease gone
 * (`grants.ts`), so that a node is not left with two.
 *
 * **What a node may believe.** Its belief begins with the answer to its claim. Until
 * `lease.expiration`, counted from before the request was sent, so that it is never later than etcd's
 * own, nobody else's claim can succeed: etcd keeps the key, and renewals only move the end. Three
 * things end an ownership before or behind the node's back:
 *
 * - The node renews at the margin before the end; where etcd answers that the lease has ended, it
 *   claims the same subnet again by the transaction above, and where that fails it is told `lost`.
 * - An operator deletes or overwrites the key. The watch brings that: what is gone or is no lease is
 *   claimed again, what is another's now is `lost`.
 * - etcd cannot be reached until after the end. The node goes on forwarding, since an etcd that is
 *   away for all is the likelier case and must not stop the network; its belief is then no more than
 *   that nobody is known to have taken over. If etcd has let the lease end, and another has claimed
 *   the subnet, the others know the new owner alone, and the node is told `lost` by its first answer
 *   from etcd, which is the snapshot that each new watch begins with.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { getLogger } from "@logtape/logtape";
import { blocks, collide, fits, pickSubnets } from "./allocate.ts";
import type { NetworkConfig } from "./config.ts";
import {
  CompareResult,
  CompareTarget,
  type EtcdClient,
  type ICompare,
  type IRequestOp,
  prefixEnd,
} from "./etcd_client.ts";
import { LeaseEndedError } from "./etcd_fault.ts";
import type { LeaseStore, Snapshot, StoredLease } from "./etcd_store.ts";
import { type Grant, Grants } from "./grants.ts";
import { encodeAttrs, leaseKey, overlappingKeys, type Subnets } from "./lease_codec.ts";
import type { Lease, LeaseAttrs, PreviousSubnets } from "./types.ts";
import { leaseFault } from "./validate.ts";

const log = getLogger(["flanneld", "subnet"]);

/** A lease of ours and the etcd lease that it hangs on. */
export interface OwnLease {
  lease: Lease;
  /** `"0"` for a reservation. */
  leaseId: string;
  /** Nothing but its public address says that it is ours; what it says is still as it was found. */
  byAddress?: boolean;
}

/** A stored lease whose key names subnets. */
type UsableLease = StoredLease & { subnets: Subnets };

/** What a node asks for. */
export interface Wish {
  config: NetworkConfig;
  attrs: LeaseAttrs;
  /** What the subnet file says. */
  previous: PreviousSubnets;
  /** The lease that this process had before, as it wrote it. */
  former?: Lease;
}

/** A reservation hangs on no etcd lease, and has no end. */
const RESERVED: Grant = { leaseId: "0", since: Infinity };

/** Leases that one claim removes at most: etcd takes 128 operations in a transaction. */
const MOST_REMOVED = 16;

/** Leases under our address that are compared with all others: one is all that a node has. */
const MOST_LOOKED_AT = 64;

/** Makes claims. */
export class Claims {
  readonly #client: EtcdClient;
  readonly #store: LeaseStore;
  readonly #ttlSeconds: number;
  readonly #grants: Grants;
  #pickingLogged = false;

  constructor(client: EtcdClient, store: LeaseStore, ttlSeconds: number) {
    this.#client = client;
    this.#store = store;
    this.#ttlSeconds = ttlSeconds;
    this.#grants = new Grants(client, ttlSeconds);
  }

  /** Makes an etcd lease ahead of the claim, while other things go on. */
  prepare(): void {
    this.#grants.prepare();
  }

  /**
   * Tries once to get a lease.
   *
   * @returns undefined where another node was faster: try again with a new snapshot
   * @throws {EtcdFault | NoFreeSubnetError}
   */
  async attempt(wish: Wish, snapshot: Snapshot): Promise<OwnLease | undefined> {
    const { config, attrs, previous, former } = wish;
    const ours = snapshot.leases.filter((stored) =>
      isOurs(stored, attrs) || isUnchanged(stored, former)
    );
    const kept = keptLease(wish, ours, snapshot.leases);
    if (kept) {
      log.info("Found lease ({subnets}) for current IP ({ip}), reusing", {
        subnets: describe(kept.subnets),
        ip: publicAddress(attrs),
      });
      const known = [former?.key, previousKey(previous)].includes(kept.key);
      if (known || kept.leaseId === "0") {
        return await this.#update(kept, attrs, kept.leaseId === "0");
      }
      const own = await this.#update(kept, kept.lease!.attrs, false);
      return own && { ...own, byAddress: true };
    }
    const unfit = ours
      .filter((stored) => stored.leaseId !== "0" && !isLeaseOf(config, stored))
      .slice(0, MOST_REMOVED);
    const taken = snapshot.leases
      .filter((stored) => !unfit.includes(stored))
      .map((stored) => stored.subnets)
      .filter((subnets) => subnets !== null);
    const free = (subnets: Subnets) => !taken.some((one) => blocks(config, one, subnets));
    let subnets: Subnets;
    if (fits(config, previous) && free(previous)) {
      log.info("Found previously leased subnet ({subnets}), reusing", {
        subnets: describe(previous),
      });
      subnets = previous;
    } else {
      this.#logPicking(config);
      subnets = pickSubnets(config, taken, Math.random);
    }
    return await this.create(subnets, attrs, snapshot, unfit);
  }

  #logPicking({ ipv4, ipv6 }: NetworkConfig): void {
    if (this.#pickingLogged) return;
    this.#pickingLogged = true;
    for (const family of [ipv4, ipv6]) {
      if (family === null) continue;
      log.info("Picking {kind} in range {min} ... {max}", {
        kind: family === ipv4 ? "subnet" : "ipv6 subnet",
        min: family.min.address,
        max: family.max.address,
      });
    }
  }

  /**
   * Puts a lease for subnets that were free in the snapshot, and removes leases of ours that no longer
   * fit the config.
   *
   * @returns undefined where they are no longer free
   * @throws {EtcdFault}
   */
  async create(
    subnets: Subnets,
    attrs: LeaseAttrs,
    snapshot: Snapshot,
    unfit: StoredLease[] = [],
  ): Promise<OwnLease | undefined> {
    const key = leaseKey(subnets);
    const own = await this.#claim(key, subnets, attrs, false, {
      compare: [...this.#stillFree(subnets, snapshot), ...unfit.map((one) => this.#unchanged(one))],
      success: unfit.map((one) => ({
        request_delete_range: { key: this.#store.fullKey(one.key) },
      })),
    });
    if (own === undefined) return undefined;
    for (const { key } of unfit) {
      log.info("Removed our lease {key}, which the network config no longer allows", { key });
    }
    return own;
  }

  /** That nothing which overlaps `subnets` came since the snapshot; see the module's comment. */
  #stillFree({ subnet, ipv6Subnet }: Subnets, { revision }: Snapshot): ICompare[] {
    const beginnings = subnet && !ipv6Subnet ? overlappingKeys(subnet) : [""];
    return beginnings.map((beginning) => {
      const key = this.#store.fullKey(beginning);
      return {
        key,
        range_end: prefixEnd(key.toString()),
        target: CompareTarget.Create,
        result: CompareResult.Less,
        create_revision: String(BigInt(revision) + 1n),
      };
    });
  }

  /**
   * Writes our lease over what is under its key and is no lease.
   *
   * @returns undefined where that has changed
   * @throws {EtcdFault}
   */
  async restore(
    lease: Lease,
    reserved: boolean,
    stored: StoredLease,
  ): Promise<OwnLease | undefined> {
    return await this.#update({ ...stored, subnets: lease }, lease.attrs, reserved);
  }

  /**
   * Writes a lease of ours, on its etcd lease, over what is stored for it.
   *
   * @returns whether it is written; not where something else was meanwhile, or its time has ended
   * @throws {EtcdFault}
   */
  async rewrite(stored: StoredLease, { lease, leaseId }: OwnLease): Promise<boolean> {
    try {
      const { succeeded, header } = await this.#client.txn({
        compare: [this.#unchanged(stored)],
        success: [this.#put(stored.key, lease.attrs, leaseId)],
      });
      if (succeeded) lease.revision = header.revision;
      return succeeded;
    } catch (error) {
      if (error instanceof LeaseEndedError) return false;
      throw error;
    }
  }

  /** Whether another agent with our public address wrote a lease. */
  isRival(stored: StoredLease, attrs: LeaseAttrs): boolean {
    const { leaseId } = stored;
    return isOurs(stored, attrs) && leaseId !== "0" && !this.#grants.has(leaseId);
  }

  /** Writes our attributes into a lease that is there, unless it has changed since the snapshot. */
  async #update(
    stored: UsableLease,
    attrs: LeaseAttrs,
    reserved: boolean,
  ): Promise<OwnLease | undefined> {
    const { key, subnets } = stored;
    const compare = [this.#unchanged(stored)];
    return await this.#claim(key, subnets, attrs, reserved, { compare, success: [] });
  }

  /**
   * Puts a lease by a transaction, which may do more.
   *
   * @returns undefined where its comparisons fail, or its etcd lease has ended: try again
   * @throws {EtcdFault}
   */
  async #claim(
    key: string,
    { subnet, ipv6Subnet }: Subnets,
    attrs: LeaseAttrs,
    reserved: boolean,
    { compare, success }: { compare: ICompare[]; success: IRequestOp[] },
  ): Promise<OwnLease | undefined> {
    const grant = reserved ? RESERVED : await this.#grants.take(key);
    const { leaseId, since } = grant;
    const answer = await this.#client.txn({
      compare,
      success: [...success, this.#put(key, attrs, leaseId)],
    }).catch((error) => {
      if (!(error instanceof LeaseEndedError)) throw error;
      this.#grants.spend(grant);
      return undefined;
    });
    if (answer === undefined) return undefined;
    const { succeeded, header: { revision } } = answer;
    if (!succeeded) {
      this.#grants.refused(grant);
      return undefined;
    }
    this.#grants.spend(grant);
    await this.#grants.settle(leaseId);
    const expiration = since + this.#ttlSeconds * 1000;
    return { lease: { key, subnet, ipv6Subnet, attrs, expiration, revision }, leaseId };
  }

  #unchanged({ key, revision }: StoredLease): ICompare {
    return {
      key: this.#store.fullKey(key),
      target: CompareTarget.Mod,
      result: CompareResult.Equal,
      mod_revision: revision,
    };
  }

  #put(key: string, attrs: LeaseAttrs, leaseId: string): IRequestOp {
    const value = Buffer.from(encodeAttrs(attrs));
    return { request_put: { key: this.#store.fullKey(key), value, lease: leaseId } };
  }

  /** Gives back an etcd lease that was not needed. It ends by itself where that fails. */
  async abandon(): Promise<void> {
    await this.#grants.abandon();
  }
}

/** Whether a stored lease carries this node's public address. */
export function isOurs({ lease }: StoredLease, { publicIP, publicIPv6 }: LeaseAttrs): boolean {
  if (lease === null) return false;
  return publicIP === null
    ? publicIPv6 !== null && lease.attrs.publicIPv6 === publicIPv6
    : lease.attrs.publicIP === publicIP;
}

/** Whether a stored lease is still the one that this process wrote, under an address it had then. */
function isUnchanged({ key, revision }: StoredLease, former: Lease | undefined): boolean {
  return key === former?.key && revision === former.revision;
}

/**
 * Which of our leases to keep: the one of this process, the subnet file's, the oldest. So a lease
 * that someone else writes for our address, a reservation, counts once we have no other.
 */
function keptLease(
  { config, previous, former }: Wish,
  ours: StoredLease[],
  all: StoredLease[],
): UsableLease | undefined {
  const usable = ours
    .filter((stored) => isLeaseOf(config, stored))
    .sort((one, other) => one.created - other.created);
  const wanted = [former?.key, previousKey(previous)].flatMap((key) =>
    usable.find((stored) => stored.key === key) ?? []
  );
  return [...wanted, ...usable.slice(0, MOST_LOOKED_AT)]
    .find((stored) => rivalOf(config, stored, all) === undefined);
}

function previousKey(previous: PreviousSubnets): string | undefined {
  return previous.subnet || previous.ipv6Subnet ? leaseKey(previous) : undefined;
}

function isLeaseOf(config: NetworkConfig, stored: StoredLease): stored is UsableLease {
  return stored.subnets !== null && fits(config, stored.subnets);
}

/** What there is to know of a lease to tell whether it is another's. */
type Claim = Pick<StoredLease, "key" | "created"> & { subnets: Subnets };

/** An older lease of another node that has a part of these subnets, which is then that node's. */
export function rivalOf(
  config: NetworkConfig,
  { key, created, subnets }: Claim,
  all: StoredLease[],
): StoredLease | undefined {
  return all.find((other) =>
    other.key !== key && other.created < created && other.lease !== null &&
    collide(other.lease, subnets) && leaseFault(config, other.lease) === ""
  );
}

/** `10.1.34.0/24`, with the IPv6 subnet behind it. */
export function describe({ subnet, ipv6Subnet }: Subnets): string {
  return [subnet, ipv6Subnet].filter((cidr) => cidr !== null).join(" ");
}

/** The node's address as the log names it. */
export function publicAddress({ publicIP, publicIPv6 }: LeaseAttrs): string {
  return publicIP ?? publicIPv6 ?? "none";
}
