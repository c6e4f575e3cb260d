/**
 * The etcd leases that one process makes to hang its keys on.
 *
 * A node has one key at most. Where the answer to a claim is lost, or nobody waits for it any more,
 * the claim may still be carried out after the node has chosen another subnet. So an etcd lease is
 * never used for two keys, and as soon as one is claimed all others are ended: with its etcd lease
 * goes a late claim's key, or the claim itself, as etcd refuses to put a key on a lease that is gone.
 *
 * @module
 */
import type { EtcdClient } from "./client.ts";

/** An etcd lease of ours. */
export interface Grant {
  leaseId: string;
  /** Milliseconds since the epoch at which it was asked for; it ends no earlier than a TTL after. */
  since: number;
}

/** What claims made of one. */
interface Use {
  key: string;
  /** Claims that etcd did not refuse, or has not yet. */
  claims: number;
  isSpent: boolean;
}

/** See the module. */
export class Grants {
  readonly #client: EtcdClient;
  readonly #ttlSeconds: number;
  /** The one at hand for the next claim. */
  #next: Promise<Grant> | undefined;
  /** All that were made. */
  readonly #made = new Set<string>();
  /** Those that claims used. */
  readonly #used = new Map<string, Use>();

  constructor(client: EtcdClient, ttlSeconds: number) {
    this.#client = client;
    this.#ttlSeconds = ttlSeconds;
  }

  /** Whether an etcd lease is of this process. */
  has(leaseId: string): boolean {
    return this.#made.has(leaseId);
  }

  /** Makes one ahead of the claim, while other things go on. */
  prepare(): void {
    this.#next ??= this.#make();
    this.#next.catch(() => {});
  }

  /**
   * The one to hang a key on: made less than a tenth of its time ago, and used for no other key.
   *
   * @throws {EtcdFault}
   */
  async take(key: string): Promise<Grant> {
    while (true) {
      this.#next ??= this.#make();
      const next = this.#next;
      try {
        const grant = await next;
        const used = this.#used.get(grant.leaseId);
        const isYoung = Date.now() - grant.since < this.#ttlSeconds * 100;
        if (isYoung && (used === undefined || (used.key === key && !used.isSpent))) {
          this.#used.set(grant.leaseId, { key, claims: (used?.claims ?? 0) + 1, isSpent: false });
          return grant;
        }
        this.#forget(next);
        if (used === undefined) await this.end(grant.leaseId);
      } catch (error) {
        this.#forget(next);
        throw error;
      }
    }
  }

  /** etcd's answer to a claim was no: its etcd lease is free again, unless another claim uses it. */
  refused({ leaseId }: Grant): void {
    const used = this.#used.get(leaseId);
    if (used && --used.claims === 0) this.#used.delete(leaseId);
  }

  /** One is not to be used again: a key hangs on it, or etcd does not know it. */
  spend({ leaseId }: Grant): void {
    const used = this.#used.get(leaseId);
    if (used) used.isSpent = true;
  }

  /** Ends all that claims used, but for the one that our key hangs on now. */
  async settle(leaseId: string): Promise<void> {
    const others = [...this.#used.keys()].filter((one) => one !== leaseId);
    await Promise.all(others.map((one) => this.end(one)));
  }

  /** Gives back the one at hand, where no claim has used it. */
  async abandon(): Promise<void> {
    const grant = await this.#next?.catch(() => undefined);
    this.#next = undefined;
    if (grant && !this.#used.has(grant.leaseId)) await this.end(grant.leaseId);
  }

  /** Ends one. It ends by itself where this fails, as nobody renews it. */
  async end(leaseId: string): Promise<void> {
    this.#used.delete(leaseId);
    await this.#client.revoke(leaseId).catch(() => {});
  }

  #forget(next: Promise<Grant>): void {
    if (this.#next === next) this.#next = undefined;
  }

  async #make(): Promise<Grant> {
    const since = Date.now();
    const leaseId = await this.#client.grant(this.#ttlSeconds);
    this.#made.add(leaseId);
    return { leaseId, since };
  }
}
