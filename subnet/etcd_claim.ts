/**
 * Claiming a subnet in etcd so that no two nodes ever own the same.
 *
 * A claim is one transaction, which etcd carries out as a whole at one revision: it puts the key only
 * if a set of comparisons holds at that revision. Let S be the snapshot by which a node chose its
 * subnets; nothing in S overlaps them. What remains is what was created since S:
 *
 * - The comparison `create revision == 0` over all keys that begin with the IPv4 part
 *   (`10.1.34.0-24`, with and without an IPv6 part) rules out another claim of the same IPv4 subnet,
 *   Go flannel's included, which compares that key alone.
 * - Subnets of other lengths overlap without having the same key. All claims under one config have one
 *   length, and the comparison of the config's revision with the one in S makes sure that there was no
 *   other config in between.
 * - An IPv6 part is not where the order of keys would find it, and a node may still hold a config older
 *   than S has. In these cases the transaction compares that *no* lease was created since S.
 *
 * The latter makes rivals of all who claim at once. Each round one of them wins, and the others have
 * its lease in their next snapshot, so that all get through; the first comparisons make rivals only of
 * those who chose the same subnet.
 *
 * An answer that is lost leaves open whether the claim was carried out. The next snapshot tells: the
 * lease is there under our public address, and is taken over as a former one.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { getLogger } from "@logtape/logtape";
import { collide, fits, pickSubnets } from "./allocate.ts";
import type { NetworkConfig } from "./config.ts";
import {
  CompareResult,
  CompareTarget,
  type EtcdClient,
  type ICompare,
  type IRequestOp,
  LeaseEndedError,
  prefixEnd,
} from "./etcd_client.ts";
import type { LeaseStore, Snapshot, StoredLease } from "./etcd_store.ts";
import { encodeAttrs, leaseKey, type Subnets } from "./lease_codec.ts";
import type { Lease, LeaseAttrs, PreviousSubnets } from "./types.ts";

const log = getLogger(["flanneld", "subnet"]);

/** A lease of ours and the etcd lease that it hangs on. */
export interface OwnLease {
  lease: Lease;
  /** `"0"` for a reservation. */
  leaseId: string;
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

/** An etcd lease that no key hangs on yet. */
interface Grant {
  leaseId: string;
  /** Milliseconds since the epoch. */
  since: number;
}

/** Makes claims. */
export class Claims {
  readonly #client: EtcdClient;
  readonly #store: LeaseStore;
  readonly #ttlSeconds: number;
  /** Revision of the config that this node has. */
  configRevision: string | undefined;
  #grant: Promise<Grant> | undefined;
  #pickingLogged = false;

  constructor(client: EtcdClient, store: LeaseStore, ttlSeconds: number) {
    this.#client = client;
    this.#store = store;
    this.#ttlSeconds = ttlSeconds;
  }

  /** Makes an etcd lease ahead of the claim, while other things go on. */
  prepare(): void {
    this.#grant ??= this.#newGrant();
    this.#grant.catch(() => {});
  }

  /**
   * Tries once to get a lease.
   *
   * @returns undefined where another node was faster: try again with a new snapshot
   * @throws {EtcdFault | NoFreeSubnetError}
   */
  async attempt(wish: Wish, snapshot: Snapshot): Promise<OwnLease | undefined> {
    try {
      return await this.#attempt(wish, snapshot);
    } catch (error) {
      if (error instanceof LeaseEndedError) {
        this.#grant = undefined;
        return undefined;
      }
      throw error;
    }
  }

  async #attempt(wish: Wish, snapshot: Snapshot): Promise<OwnLease | undefined> {
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
      return await this.#update(kept, attrs);
    }
    const unfit = ours.filter((stored) => stored.leaseId !== "0" && !isLeaseOf(config, stored));
    const taken = snapshot.leases
      .filter((stored) => !unfit.includes(stored))
      .map((stored) => stored.subnets)
      .filter((subnets) => subnets !== null);
    const free = (subnets: Subnets) => !taken.some((one) => collide(one, subnets));
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
   * @throws {EtcdFault | LeaseEndedError}
   */
  async create(
    subnets: Subnets,
    attrs: LeaseAttrs,
    snapshot: Snapshot,
    unfit: StoredLease[] = [],
  ): Promise<OwnLease | undefined> {
    const key = leaseKey(subnets);
    const { leaseId, since } = await this.#granted();
    const claimed = await this.#client.txn({
      compare: [...this.#stillFree(subnets, snapshot), ...unfit.map((one) => this.#unchanged(one))],
      success: [
        ...unfit.map((one) => ({ request_delete_range: { key: this.#store.fullKey(one.key) } })),
        this.#put(key, attrs, leaseId),
      ],
    });
    if (!claimed.succeeded) return undefined;
    this.#grant = undefined;
    for (const { key } of unfit) {
      log.info("Removed our lease {key}, which the network config no longer allows", { key });
    }
    return {
      lease: {
        key,
        subnet: subnets.subnet,
        ipv6Subnet: subnets.ipv6Subnet,
        attrs,
        expiration: since + this.#ttlSeconds * 1000,
        revision: claimed.header.revision,
      },
      leaseId,
    };
  }

  /** That nothing which overlaps `subnets` came since the snapshot; see the module's comment. */
  #stillFree({ subnet, ipv6Subnet }: Subnets, snapshot: Snapshot): ICompare[] {
    const { config, revision } = snapshot;
    const alone = leaseKey({ subnet, ipv6Subnet: subnet ? null : ipv6Subnet });
    const absent: ICompare = {
      key: this.#store.fullKey(alone),
      range_end: prefixEnd(this.#store.fullKey(alone).toString()),
      target: CompareTarget.Create,
      result: CompareResult.Equal,
      create_revision: "0",
    };
    if (subnet && !ipv6Subnet && config && config.revision === this.configRevision) {
      return [absent, {
        key: this.#store.configKey,
        target: CompareTarget.Mod,
        result: CompareResult.Equal,
        mod_revision: config.revision,
      }];
    }
    return [absent, {
      ...this.#store.leases,
      target: CompareTarget.Create,
      result: CompareResult.Less,
      create_revision: String(BigInt(revision) + 1n),
    }];
  }

  /** Writes our attributes into a lease that is there, unless it has changed since the snapshot. */
  async #update(stored: UsableLease, attrs: LeaseAttrs): Promise<OwnLease | undefined> {
    const reserved = stored.leaseId === "0";
    const { leaseId, since } = reserved ? { leaseId: "0", since: Infinity } : await this.#granted();
    const updated = await this.#client.txn({
      compare: [this.#unchanged(stored)],
      success: [this.#put(stored.key, attrs, leaseId)],
    });
    if (!updated.succeeded) return undefined;
    if (!reserved) this.#grant = undefined;
    return {
      lease: {
        key: stored.key,
        ...stored.subnets,
        attrs,
        expiration: since + this.#ttlSeconds * 1000,
        revision: updated.header.revision,
      },
      leaseId,
    };
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

  /** The etcd lease to hang a key on; a new one where the last is a tenth of its time old. */
  async #granted(): Promise<Grant> {
    this.#grant ??= this.#newGrant();
    try {
      const grant = await this.#grant;
      if (Date.now() - grant.since < this.#ttlSeconds * 100) return grant;
      await this.abandon();
      return await (this.#grant = this.#newGrant());
    } catch (error) {
      this.#grant = undefined;
      throw error;
    }
  }

  async #newGrant(): Promise<Grant> {
    const since = Date.now();
    return { leaseId: await this.#client.grant(this.#ttlSeconds), since };
  }

  /** Gives back an etcd lease that was not needed. It ends by itself where that fails. */
  async abandon(): Promise<void> {
    const grant = await this.#grant?.catch(() => undefined);
    this.#grant = undefined;
    if (grant) await this.#client.revoke(grant.leaseId).catch(() => {});
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

/** Which of our leases to keep: the one of this process, a reservation, the subnet file's, any. */
function keptLease(
  { config, previous, former }: Wish,
  ours: StoredLease[],
  all: StoredLease[],
): UsableLease | undefined {
  const usable = ours
    .filter((stored) => isLeaseOf(config, stored))
    .filter((stored) => !isOverlapped(stored, all));
  const previousKey = previous.subnet || previous.ipv6Subnet ? leaseKey(previous) : undefined;
  return usable.find((stored) => stored.key === former?.key) ??
    usable.find((stored) => stored.leaseId === "0") ??
    usable.find((stored) => stored.key === previousKey) ?? usable[0];
}

function isLeaseOf(config: NetworkConfig, stored: StoredLease): stored is UsableLease {
  return stored.subnets !== null && fits(config, stored.subnets);
}

/** Whether an older lease of another node has a part of it, which is then that node's. */
function isOverlapped({ key, subnets, created }: UsableLease, all: StoredLease[]): boolean {
  return all.some((other) =>
    other.key !== key && other.created < created && other.lease !== null &&
    other.subnets !== null && collide(other.subnets, subnets)
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
