/**
 * Claiming a subnet in etcd so that no two nodes ever own the same.
 *
 * **Owner.** The owner of a subnet is whose public address is in the value of the key that names it;
 * of agents with one address, the one that wrote it last.
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
 * is its own, or none (see `leaseFault`), and compares that it has not changed since S, and that it is
 * the same key on the same etcd lease. Which are its own after a restart or a change of its address,
 * `former.ts` tells. As that may be said of a living node's, too (two nodes with one address, a clone),
 * such a key is taken back in two steps: first what is there is written as it is, on an etcd lease of
 * ours. Whoever owned it still does, as peers see no change, and it writes its lease again, which is
 * what ends our attempt. Our own data are written once nobody has, if there was no other write since
 * (`rivals.ts`). Go flannel compares the one key that it claims, which rules out the same subnet,
 * whoever is first; that it has another length while ours is claimed is for it to see, and if it does
 * not, the older of the two counts for all our nodes (`validate.ts`).
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
import { blocks, fits, keepFamilies, pickClear } from "../allocate.ts";
import { Cidr } from "../../base/cidr.ts";
import type { NetworkConfig } from "../config.ts";
import {
  CompareResult,
  CompareTarget,
  type EtcdClient,
  type ICompare,
  type IRequestOp,
  prefixEnd,
} from "./client.ts";
import { LeaseEndedError } from "./fault.ts";
import type { LeaseStore, Snapshot, StoredLease } from "./store.ts";
import {
  type Addresses,
  announces,
  type FormerLease,
  formerLeases,
  isLeaseOf,
  type NodeIdentity,
  type UsableLease,
} from "./former.ts";
import { type Grant, Grants } from "./grants.ts";
import { describe, encodeAttrs, leaseKey, overlappingKeys, type Subnets } from "../lease_codec.ts";
import type { Lease, LeaseAttrs } from "../types.ts";

const log = getLogger(["flanneld", "subnet"]);

/** A lease of ours and the etcd lease that it hangs on. */
export interface OwnLease {
  lease: Lease;
  /** `"0"` for a reservation. */
  leaseId: string;
  /** Revision that created its key. */
  created: number;
  /** Id of the etcd cluster that has it. */
  cluster: string;
  /** Milliseconds that etcd took for the claim. */
  took: number;
  /** It was a reservation, and becomes one again once nobody has objected to our taking it. */
  reserved?: boolean;
  /** Keys of former leases of ours that went when it was claimed. */
  replaced?: string[];
}

/** A reservation hangs on no etcd lease, and has no end. */
const RESERVED: Grant = { leaseId: "0", since: Infinity };

/** Leases that one claim removes at most: etcd takes 128 operations in a transaction. */
const MOST_REMOVED = 16;

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
   * Takes back a lease of ours, on an etcd lease of this process; what it announces stays as it is.
   *
   * @param asReservation leave a reservation one; otherwise it is one again once it is announced
   * @returns undefined where it has changed since the snapshot
   * @throws {EtcdFault}
   */
  async takeBack(stored: FormerLease, asReservation: boolean): Promise<OwnLease | undefined> {
    const reserved = stored.leaseId === "0";
    const own = await this.#update(stored, stored.lease.attrs, reserved && asReservation);
    return own && reserved && !asReservation ? { ...own, reserved } : own;
  }

  /**
   * Has a lease of ours announce `attrs`.
   *
   * @returns whether it does; not where it was overwritten since we wrote it, or its time has ended
   * @throws {EtcdFault}
   */
  async announce(own: OwnLease, attrs: LeaseAttrs): Promise<boolean> {
    const { lease, reserved } = own;
    const isSame = encodeAttrs(lease.attrs) === encodeAttrs(attrs);
    const next = { ...own, lease: { ...lease, attrs } };
    if (reserved) next.leaseId = "0";
    if ((!isSame || reserved) && !await this.rewrite(lease, next)) return false;
    lease.attrs = attrs;
    lease.revision = next.lease.revision;
    if (reserved) {
      await this.#grants.end(own.leaseId);
      lease.expiration = Infinity;
      own.leaseId = "0";
      own.reserved = undefined;
    }
    return true;
  }

  /**
   * Tries once to claim a subnet that is free: the former one, else any; one that holds no host's
   * address, if there is such a one.
   *
   * @param avoided what the hosts' own addresses take
   * @returns undefined where another node was faster: try again with a new snapshot
   * @throws {EtcdFault | NoFreeSubnetError}
   */
  async claim(
    config: NetworkConfig,
    node: NodeIdentity,
    attrs: LeaseAttrs,
    snapshot: Snapshot,
    avoided: readonly Cidr[] = [],
  ): Promise<OwnLease | undefined> {
    // Not the remembered one under another address: it may be in use by who does not know the config yet.
    const unfit = formerLeases({ ...node, held: undefined }, snapshot)
      .filter((stored) => stored.leaseId !== "0" && !isLeaseOf(config, stored))
      .slice(0, MOST_REMOVED);
    const taken = snapshot.leases
      .filter((stored) => !unfit.includes(stored))
      .map((stored) => stored.subnets)
      .filter((subnets) => subnets !== null);
    const free = (subnets: Subnets) => !taken.some((one) => blocks(config, one, subnets));
    const had = [node.former, node.previous, ...unfit.map(({ subnets }) => subnets)]
      .filter((subnets) => subnets !== undefined && subnets !== null);
    const whole = had.find((subnets) => fits(config, subnets) && free(subnets));
    const kept = whole ?? keepFamilies(config, had, free);
    if (kept.subnet !== null || kept.ipv6Subnet !== null) {
      log.info("Found previously leased subnet ({subnets}), reusing", { subnets: describe(kept) });
    }
    const subnets = { subnet: kept.subnet, ipv6Subnet: kept.ipv6Subnet };
    if (whole === undefined) {
      const missing = {
        ...config,
        ipv4: kept.subnet === null ? config.ipv4 : null,
        ipv6: kept.ipv6Subnet === null ? config.ipv6 : null,
      };
      this.#logPicking(missing);
      const hosts = [...avoided, ...hostsIn(config, snapshot)];
      const picked = pickClear(missing, taken, hosts, Math.random);
      subnets.subnet ??= picked.subnet;
      subnets.ipv6Subnet ??= picked.ipv6Subnet;
    }
    return await this.create(subnets, attrs, snapshot, unfit);
  }

  #logPicking({ ipv4, ipv6 }: Pick<NetworkConfig, "ipv4" | "ipv6">): void {
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
    for (const { key: former } of unfit) {
      log.info("Replaced this node's lease {former} with {key}: the network config has changed", {
        former,
        key,
      });
    }
    return { ...own, replaced: unfit.map((stored) => stored.key) };
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
  async rewrite(
    stored: Pick<StoredLease, "key" | "revision">,
    { lease, leaseId }: OwnLease,
  ): Promise<boolean> {
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

  /** Whether a lease with one of these addresses is another agent's. */
  isRival(stored: StoredLease, addresses: Addresses): boolean {
    return announces(stored, addresses) && this.#isForeign(stored);
  }

  /**
   * Whether another agent wrote over our lease: one with our address, or one that takes our lease for
   * its own. The key was never gone, or the etcd lease would not be all that is new.
   */
  isTaken(stored: StoredLease, { lease, created }: OwnLease): boolean {
    return this.#isForeign(stored) && stored.lease !== null &&
      (announces(stored, lease.attrs) || stored.created === created);
  }

  /** Whether a lease hangs on an etcd lease that this process did not make. */
  #isForeign({ leaseId }: StoredLease): boolean {
    return leaseId !== "0" && !this.#grants.has(leaseId);
  }

  /** Writes our attributes into a lease that is there, unless it has changed since the snapshot. */
  async #update(
    stored: UsableLease,
    attrs: LeaseAttrs,
    reserved: boolean,
  ): Promise<OwnLease | undefined> {
    const { key, subnets, created } = stored;
    const compare = [this.#unchanged(stored), ...this.#sameHolder(stored)];
    const own = await this.#claim(key, subnets, attrs, reserved, { compare, success: [] });
    return own && { ...own, created };
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
    const began = performance.now();
    const answer = await this.#client.txn({
      compare,
      success: [...success, this.#put(key, attrs, leaseId)],
    }).catch((error) => {
      if (!(error instanceof LeaseEndedError)) throw error;
      this.#grants.spend(grant);
      return undefined;
    });
    if (answer === undefined) return undefined;
    const { succeeded, header: { revision, cluster_id: cluster } } = answer;
    if (!succeeded) {
      this.#grants.refused(grant);
      return undefined;
    }
    const took = performance.now() - began;
    this.#grants.spend(grant);
    await this.#grants.settle(leaseId);
    const expiration = since + this.#ttlSeconds * 1000;
    const lease = { key, subnet, ipv6Subnet, attrs, expiration, revision };
    return { lease, leaseId, created: Number(revision), cluster, took };
  }

  #unchanged({ key, revision }: Pick<StoredLease, "key" | "revision">): ICompare {
    return {
      key: this.#store.fullKey(key),
      target: CompareTarget.Mod,
      result: CompareResult.Equal,
      mod_revision: revision,
    };
  }

  /**
   * That it is the same key on the same etcd lease. In one history of etcd that follows from its
   * revision; in one that was put back in between, it does not.
   */
  #sameHolder({ key, created, leaseId }: StoredLease): ICompare[] {
    const equal = { key: this.#store.fullKey(key), result: CompareResult.Equal };
    return [
      { ...equal, target: CompareTarget.Create, create_revision: String(created) },
      { ...equal, target: CompareTarget.Lease, lease: leaseId },
    ];
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

/** Public addresses of leases that lie in the network. */
function hostsIn({ ipv4, ipv6 }: NetworkConfig, { leases }: Snapshot): Cidr[] {
  return leases.flatMap(({ lease }) => {
    const { publicIP = null, publicIPv6 = null } = lease?.attrs ?? {};
    return [
      publicIP !== null && ipv4?.network.containsIp(publicIP) ? Cidr.containing(publicIP, 32) : [],
      publicIPv6 !== null && ipv6?.network.containsIp(publicIPv6)
        ? Cidr.containing(publicIPv6, 128)
        : [],
    ].flat();
  });
}
