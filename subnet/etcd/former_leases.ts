/**
 * Taking back the lease that this node had: before a restart, or under another address.
 *
 * `former.ts` tells which it is, `rivals.ts` why it may turn out to be a living agent's, `etcd_claim.ts`
 * why no subnet gets two owners by it.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { blocks, fits } from "../allocate.ts";
import type { NetworkConfig } from "../config.ts";
import { describe, publicAddress } from "../lease_codec.ts";
import type { Claims, OwnLease } from "./claim.ts";
import type { LeaseStore, Snapshot } from "./store.ts";
import {
  type Addresses,
  announces,
  type FormerLease,
  formerLeases,
  isHeld,
  isOfSuccessor,
  isUnchanged,
  keptLease,
  type NodeIdentity,
  olderLeases,
} from "./former.ts";
import type { Patience } from "./patience.ts";
import { cloneText, type Rivals, waitForObjection } from "./rivals.ts";
import type { HeldLease, Lease, LeaseMemory, PreviousSubnets } from "../types.ts";

const log = getLogger(["flanneld", "subnet"]);

/** The store as it was read last, for the steps of one start. */
export class Snapshots {
  readonly #store: LeaseStore;
  readonly #patience: Patience;
  #snapshot: Snapshot | undefined;

  constructor(store: LeaseStore, patience: Patience) {
    this.#store = store;
    this.#patience = patience;
  }

  /** The one at hand, else a new one. */
  async latest(signal: AbortSignal): Promise<Snapshot> {
    return this.#snapshot ??= await this.#patience.until(signal, () => this.#store.snapshot());
  }

  put(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
  }

  /** The next one is read anew. @returns the one at hand */
  drop(): Snapshot | undefined {
    const snapshot = this.#snapshot;
    this.#snapshot = undefined;
    return snapshot;
  }
}

/** What a node knows of its former lease. */
export interface FormerOptions {
  prefix: string;
  previous: PreviousSubnets;
  memory?: LeaseMemory;
}

/** See the module. */
export class FormerLeases {
  readonly #store: LeaseStore;
  readonly #claims: Claims;
  readonly #snapshots: Snapshots;
  readonly #patience: Patience;
  readonly #rivals: Rivals;
  readonly #options: FormerOptions;
  #held: HeldLease | undefined;
  /** Key of the lease that was said to be found. */
  #found = "";

  constructor(
    store: LeaseStore,
    claims: Claims,
    snapshots: Snapshots,
    patience: Patience,
    rivals: Rivals,
    options: FormerOptions,
  ) {
    this.#store = store;
    this.#claims = claims;
    this.#snapshots = snapshots;
    this.#patience = patience;
    this.#rivals = rivals;
    this.#options = options;
    const held = options.memory?.recall();
    this.#held = held?.prefix === options.prefix ? held : undefined;
  }

  /** What the node knows itself by. */
  identity(addresses: Addresses, former: Lease | undefined): NodeIdentity {
    return { addresses, previous: this.#options.previous, held: this.#held, former };
  }

  /** Takes back the lease that we had; undefined where there is none, or another agent owns it. */
  async takeBack(
    config: NetworkConfig,
    addresses: Addresses,
    former: Lease | undefined,
    signal: AbortSignal,
  ): Promise<OwnLease | undefined> {
    while (true) {
      const snapshot = await this.#snapshots.latest(signal);
      if (this.rivalIn(snapshot, addresses)) return undefined;
      const node = this.identity(addresses, former);
      const kept = keptLease(config, node, formerLeases(node, snapshot), snapshot.leases);
      if (kept === undefined || this.#isBetter(config, former, kept, snapshot)) return undefined;
      this.#logFound(kept, addresses);
      // Of a lease that this process has, or that an operator wrote for us, there is no other owner.
      const isSure = announces(kept, addresses) &&
        (kept.leaseId === "0" || isUnchanged(kept, former));
      const own = await this.#patience.until(signal, () => this.#claims.takeBack(kept, isSure));
      if (own && isSure) return own;
      if (own) {
        this.#rivals.prevailed(kept.leaseId);
        const isRemembered = isHeld(kept, snapshot.cluster, node.held) || isUnchanged(kept, former);
        this.remember(own);
        await waitForObjection(isRemembered ? "remembered" : "byAddress", own.took, signal);
        if (!await this.isDisputed(own, addresses, signal)) return own;
      }
      this.#snapshots.drop();
    }
  }

  /** What a subnet manager answers to `isWrittenByOther`. */
  async isWrittenByOther(addresses: Addresses, signal: AbortSignal): Promise<boolean> {
    const { cluster, leases } = await this.#snapshots.latest(signal);
    const node = this.identity(addresses, undefined);
    return leases.some((stored) => isOfSuccessor(stored, cluster, node));
  }

  /**
   * Whether to claim the subnets of this process's own lease again, which is gone, rather than take
   * one that someone wrote for our address.
   */
  #isBetter(
    config: NetworkConfig,
    former: Lease | undefined,
    kept: FormerLease,
    { cluster, leases }: Snapshot,
  ): boolean {
    if (former === undefined || kept.key === former.key) return false;
    return !isHeld(kept, cluster, this.#held) && fits(config, former) &&
      !leases.some(({ subnets }) => subnets !== null && blocks(config, subnets, former));
  }

  /**
   * Leases that are older than ours, or all of them where we have none: one that we had before, too, or
   * one that someone wrote for our address. The other nodes tell none of these from a stranger's.
   */
  async older(own: OwnLease | undefined, signal: AbortSignal): Promise<Lease[]> {
    return olderLeases(own, await this.#snapshots.latest(signal));
  }

  /** Key of the lease that another agent has by our address, while it has. */
  rivalIn({ leases }: Snapshot, addresses: Addresses): string | undefined {
    const { key } = this.#rivals;
    const there = leases.find((stored) => stored.key === key);
    if (there && this.#claims.isRival(there, addresses)) return key;
    this.#rivals.key = undefined;
    return undefined;
  }

  /** Whether a lease that we took back was written since by who owns it; then it is not ours. */
  async isDisputed(own: OwnLease, addresses: Addresses, signal: AbortSignal): Promise<boolean> {
    const { key, revision } = own.lease;
    const there = await this.#patience.until(signal, () => this.#store.one(key));
    if (there?.revision === revision) return false;
    this.#snapshots.drop();
    if (there === undefined) return true;
    if (announces(there, addresses)) {
      this.#rivals.key = key;
    } else {
      this.#held = undefined;
      const address = there.lease ? publicAddress(there.lease.attrs) : "another address";
      log.warn("{text}", { text: cloneText(key, address) });
    }
    return true;
  }

  /** Keeps in memory which lease is ours. */
  remember({ lease: { key, revision }, leaseId, created, cluster }: OwnLease): void {
    const held: HeldLease = {
      cluster,
      prefix: this.#options.prefix,
      key,
      leaseId,
      created: String(created),
      ...(leaseId === "0" ? { revision } : {}),
    };
    if (JSON.stringify(held) === JSON.stringify(this.#held)) return;
    this.#held = held;
    this.#options.memory?.keep(held);
  }

  #logFound({ key, subnets, lease: { attrs } }: FormerLease, addresses: Addresses): void {
    if (this.#found === key) return;
    this.#found = key;
    const [ip, had] = [publicAddress(addresses), publicAddress(attrs)];
    const values = { subnets: describe(subnets), ip, had };
    if (ip === had) log.info("Found lease ({subnets}) for current IP ({ip}), reusing", values);
    else {log.info(
        "Found this node's lease ({subnets}) for former IP ({had}), moving it to {ip}",
        values,
      );}
  }
}
