/**
 * Two agents that take one lease for their own: two nodes were given the same `--public-ip`, or one
 * machine is a clone of the other, with its files and perhaps with its memory. What tells them apart
 * is that the owner lives: it writes its lease again, and the other one gives way.
 *
 * - Whoever takes back a lease that it had before a restart, or under another address, first writes
 *   what it found, on an etcd lease of its own. That changes nothing for the peers, and the owner, if
 *   there is one, notices: nobody else uses another etcd lease. Only where nobody objects within
 *   {@linkcode objectionTime} does it announce its own data and use the lease. From then on it is the
 *   owner, but for {@linkcode TRUCE} it still gives way to the etcd lease that it took over from: an
 *   owner that was slow, or cut off, has objected.
 * - Whoever sees its lease overwritten by another agent writes it again. Against the same etcd lease
 *   it does so once within {@linkcode TRUCE}: then it gives way. So of two that both insist, one has
 *   to end, and however many clones come up one after another, none of them wins.
 *
 * @module
 */

/** Milliseconds within which an overwritten lease is written again once against the same agent. */
const TRUCE = 60_000;

/** Least and most milliseconds for a living owner to object before we use its lease. */
const SHORTEST = 75;
const LONGEST = 1_000;
/** It takes a message from etcd and a transaction: so many times ours, where all are slow. */
const TRANSACTIONS = 5;

/**
 * Milliseconds to wait for an objection, which is not too late after that either.
 *
 * @param transaction milliseconds that our own transaction took
 */
export function objectionTime(transaction: number): number {
  return Math.min(LONGEST, Math.max(SHORTEST, TRANSACTIONS * transaction));
}

/** Agents that are remembered. */
const MOST_REMEMBERED = 256;

/** Keeps what this node knows of other agents that take its lease for theirs. */
export class Rivals {
  /** etcd leases that we do not insist against, and since when. */
  readonly #yielding = new Map<string, number>();
  /** Key of the lease that another agent has by our address; undefined where none is known of. */
  key: string | undefined;

  /** Enters that we have taken a lease over from this etcd lease, or written ours over it. */
  prevailed(leaseId: string): void {
    this.#forget();
    this.#yielding.delete(leaseId);
    this.#yielding.set(leaseId, performance.now());
    const [oldest] = this.#yielding.keys();
    if (this.#yielding.size > MOST_REMEMBERED) this.#yielding.delete(oldest);
  }

  /** Whether to write our lease again over one that hangs on this etcd lease. */
  insists(leaseId: string): boolean {
    this.#forget();
    return !this.#yielding.has(leaseId);
  }

  /** How many such agents there were of late. */
  get count(): number {
    return this.#yielding.size;
  }

  #forget(): void {
    for (const [leaseId, since] of this.#yielding) {
      if (performance.now() - since > TRUCE) this.#yielding.delete(leaseId);
    }
  }
}

/** What to say of another agent with our address. */
export function rivalText(key: string, address: string): string {
  return `Another agent has our public address ${address}, and the lease ${key} by it: ` +
    "give each node an address or a --public-ip of its own";
}

/** What to say of an agent that has the lease which this node remembers, under another address. */
export function cloneText(key: string, address: string): string {
  return `The lease ${key}, which this node had before, is in use by a running agent at ` +
    `${address}: this machine seems to be a copy of that one; taking a subnet of its own`;
}
