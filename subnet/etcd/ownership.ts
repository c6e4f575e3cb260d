/**
 * Holding on to the lease that a node has: what is done when etcd says that it is gone, or that
 * someone else wrote it.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { blocks } from "../allocate.ts";
import type { NetworkConfig } from "../config.ts";
import { publicAddress } from "../lease_codec.ts";
import type { Claims, OwnLease } from "./claim.ts";
import type { LeaseStore, Snapshot, StoredLease } from "./store.ts";
import { rivalOf } from "./former.ts";
import { encodeAttrs } from "../lease_codec.ts";
import { backoff, sleep } from "../../base/time.ts";
import type { Patience } from "./patience.ts";
import { Budget } from "../../base/reports.ts";
import { type Rivals, rivalText } from "./rivals.ts";
import { superiorText } from "./giving_way.ts";
import type { Lease, WatchHandlers } from "../types.ts";
import { leaseFault } from "../lease_fault.ts";
import type { Contender } from "../validate.ts";

const log = getLogger(["flanneld", "subnet"]);

/** Other agents within {@linkcode Rivals}' time that are answered at once. */
const MOST_AT_ONCE = 8;

/** See the module. */
export class Ownership {
  readonly #store: LeaseStore;
  readonly #claims: Claims;
  readonly #patience: Patience;
  readonly #rivals: Rivals;
  readonly #ttlSeconds: number;
  #config: NetworkConfig | undefined;
  #lost: WatchHandlers["lost"] = () => {};
  #clash: NonNullable<WatchHandlers["clash"]> = () => undefined;
  /** Told when our key hangs on another etcd lease, or was made anew. */
  readonly #moved: (own: OwnLease) => void;
  /** For lines about other agents: ten, then one in ten seconds. */
  readonly #lines = new Budget(10, 0.1);
  /** Settles when the lease that is being claimed again is ours, or is not. */
  recovering: Promise<void> | undefined;
  /** Revision of the last change that we were told of. */
  #seen = 0n;
  /** Recoveries of late, and the time of the last one. */
  #recoveries = { count: 0, last: 0 };

  constructor(
    store: LeaseStore,
    claims: Claims,
    patience: Patience,
    rivals: Rivals,
    ttlSeconds: number,
    moved: (own: OwnLease) => void,
  ) {
    this.#store = store;
    this.#claims = claims;
    this.#patience = patience;
    this.#rivals = rivals;
    this.#ttlSeconds = ttlSeconds;
    this.#moved = moved;
  }

  /** A session begins: `lost` is told why its lease is another's. */
  begin(
    config: NetworkConfig,
    { lost, clash }: Required<Pick<WatchHandlers, "lost" | "clash">>,
  ): void {
    this.#config = config;
    this.#lost = lost;
    this.#clash = clash;
  }

  /** Looks at what was written under our own key, if it was not us. */
  async changed(
    own: OwnLease,
    stored: StoredLease | undefined,
    revision: string,
    signal: AbortSignal,
  ): Promise<void> {
    const at = BigInt(revision);
    this.#seen = at;
    while (this.recovering) await this.recovering.catch(() => {});
    if (signal.aborted || at <= BigInt(own.lease.revision)) return;
    // What came meanwhile has its own call.
    if (at < this.#seen) return;
    if (stored === undefined) await this.recover(own, "it was deleted or has expired", signal);
    else if (this.#claims.isTaken(stored, own)) {
      this.recovering = this.#dispute(own, stored, signal).finally(() => {
        this.recovering = undefined;
      });
      await this.recovering;
    } else if (!this.#adopt(own, stored)) await this.#overwritten(own, stored, signal);
  }

  /** What is no lease has no owner, so that ours goes over it. */
  async #overwritten(own: OwnLease, stored: StoredLease, signal: AbortSignal): Promise<void> {
    const problem = this.#problemOf(stored);
    if (problem === "") this.#lost(takenBy(stored));
    else await this.recover(own, `it was overwritten, and ${problem}`, signal);
  }

  /** Why what is stored is no lease of anyone; empty where it is one. */
  #problemOf({ lease, problem }: StoredLease): string {
    const config = this.#config;
    return lease && config ? leaseFault(config, lease) : problem;
  }

  /** Writes our lease again that another agent has taken, or gives way. */
  async #dispute(own: OwnLease, stored: StoredLease, signal: AbortSignal): Promise<void> {
    const { lease } = own;
    const text = this.#takenText(own, stored);
    if (!this.#rivals.insists(stored.leaseId)) {
      this.#rivals.key = lease.key;
      this.#lost(text);
      return;
    }
    if (this.#lines.take()) log.error("{text}; keeping it", { text });
    // Someone who keeps on writing it gets an answer every few seconds.
    const { count } = this.#rivals;
    if (count > MOST_AT_ONCE) await sleep(backoff(count - MOST_AT_ONCE), signal);
    // Where it cannot be, the watch or the next renewal tells.
    const isOurs = await this.#patience.until(signal, () => this.#claims.rewrite(stored, own));
    if (isOurs) this.#rivals.prevailed(stored.leaseId);
  }

  #takenText({ lease }: OwnLease, stored: StoredLease): string {
    const address = publicAddress(lease.attrs);
    const theirs = stored.lease && publicAddress(stored.lease.attrs);
    return theirs === null || theirs === address
      ? rivalText(lease.key, address)
      : `Another agent, at ${theirs}, uses this node's lease ${lease.key} as its own: ` +
        "its machine seems to be a clone of this one";
  }

  /** Claims our lease again; all who find it gone wait for the same claim. @returns whether it is ours */
  async recover(own: OwnLease, why: string, signal: AbortSignal): Promise<boolean> {
    const before = own.lease.revision;
    this.recovering ??= this.#reclaim(own, why, signal).finally(() => {
      this.recovering = undefined;
    });
    await this.recovering;
    return own.lease.revision !== before;
  }

  async #reclaim(own: OwnLease, why: string, signal: AbortSignal): Promise<void> {
    const { lease } = own;
    // Someone who keeps on deleting it gets an answer every few seconds.
    const { count, last } = this.#recoveries;
    this.#recoveries = { count: Date.now() - last < 60_000 ? count + 1 : 0, last: Date.now() };
    if (this.#recoveries.count > 2) await sleep(backoff(this.#recoveries.count), signal);
    log.warn("This node's lease {key} is missing from etcd: {why}; reclaiming it", {
      key: lease.key,
      why,
    });
    while (true) {
      signal.throwIfAborted();
      const outcome = await this.#patience.until(signal, () => this.#reclaimOnce(own, signal));
      if (outcome === "again") continue;
      if (outcome !== "ours") this.#lost(outcome);
      return;
    }
  }

  /**
   * What keeps us from writing our lease again: an older lease of another where our key is there, and
   * where it is not, all that would keep a node from claiming it anew. That may be the lease of a node
   * with another config, or one that is overwritten and about to be put back.
   */
  #inTheWay(
    lease: Lease,
    there: StoredLease | undefined,
    { leases }: Snapshot,
  ): StoredLease | undefined {
    const config = this.#config;
    if (config === undefined) return undefined;
    if (there) return rivalOf(config, { ...there, subnets: lease }, leases);
    return leases.find(({ subnets }) => subnets !== null && blocks(config, subnets, lease));
  }

  /** A lease that announces what ours does, to which all others would leave it once ours is made anew. */
  #clashIn({ leases }: Snapshot): Contender | undefined {
    for (const stored of leases) {
      const clash = stored.lease && this.#clash(stored.lease);
      if (!stored.lease || !clash || this.#problemOf(stored) !== "") continue;
      const address = publicAddress(stored.lease.attrs);
      return { key: stored.key, address, what: `announces ${clash}` };
    }
    return undefined;
  }

  /** @returns `ours`, `again` where another was faster, or why it is lost */
  async #reclaimOnce(own: OwnLease, signal: AbortSignal): Promise<string> {
    const { lease } = own;
    const snapshot = await this.#store.snapshot();
    signal.throwIfAborted();
    const there = snapshot.leases.find((stored) => stored.key === lease.key);
    if (there && this.#claims.isTaken(there, own)) {
      // It came after the end of our time: it lives, and we are late.
      this.#rivals.key = lease.key;
      return this.#takenText(own, there);
    }
    if (there && this.#adopt(own, there)) return "ours";
    if (there && this.#problemOf(there) === "") return takenBy(there);
    const inTheWay = this.#inTheWay(lease, there, snapshot);
    if (inTheWay) return `this node's subnet is now part of ${inTheWay.key}`;
    const clash = there === undefined && this.#clashIn(snapshot);
    if (clash) return `${superiorText(clash)}; reclaiming this node's subnet with another one`;
    const claimed =
      await (there
        ? this.#claims.restore(lease, own.leaseId === "0", there)
        : this.#claims.create(lease, lease.attrs, snapshot));
    if (claimed === undefined) return "again";
    own.leaseId = claimed.leaseId;
    lease.expiration = claimed.lease.expiration;
    lease.revision = claimed.lease.revision;
    own.created = claimed.created;
    own.cluster = claimed.cluster;
    this.#moved(own);
    log.info("Reclaimed this node's lease {key}", { key: lease.key });
    return "ours";
  }

  /** Takes over what someone wrote for us, with the same content. @returns whether it is ours still */
  #adopt(own: OwnLease, stored: StoredLease): boolean {
    const { lease } = own;
    if (stored.lease === null || encodeAttrs(stored.lease.attrs) !== encodeAttrs(lease.attrs)) {
      return false;
    }
    if (stored.revision === lease.revision) return true;
    own.leaseId = stored.leaseId;
    own.created = stored.created;
    lease.revision = stored.revision;
    lease.expiration = stored.leaseId === "0" ? Infinity : Date.now() + this.#ttlSeconds * 1000;
    this.#moved(own);
    return true;
  }
}

function takenBy({ key, lease, problem }: StoredLease): string {
  return lease
    ? `this node's lease ${key} was overwritten by ${publicAddress(lease.attrs)}`
    : `this node's lease ${key} was overwritten: ${problem}`;
}
