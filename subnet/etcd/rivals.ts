/**
 * Two agents that take one lease for their own: two nodes were given the same `--public-ip`, or one
 * machine is a clone of the other, with its files and perhaps with its memory. What tells them apart
 * is that the owner lives: it writes its lease again, and the other one gives way.
 *
 * - Whoever takes back a lease that it had before a restart, or under another address, first writes
 *   what it found, on an etcd lease of its own. That changes nothing for the peers, and the owner, if
 *   there is one, notices: nobody else uses another etcd lease. Only where nobody objects within
 *   {@linkcode waitForObjection}'s time does it announce its own data and use the lease. From then on it is the
 *   owner, but for {@linkcode TRUCE} it still gives way to the etcd lease that it took over from: an
 *   owner that was slow, or cut off, has objected.
 * - Whoever sees its lease overwritten by another agent writes it again. Against the same etcd lease
 *   it does so once within {@linkcode TRUCE}: then it gives way. So of two that both insist, one has
 *   to end, and however many clones come up one after another, none of them wins.
 *
 * @module
 */
import { sleep } from "../../base/time.ts";

/** Milliseconds within which an overwritten lease is written again once against the same agent. */
const TRUCE = 60_000;

/**
 * Least milliseconds for a living owner to object before we use its lease: of one that we remember,
 * and of one that has no more than our address. An owner that has just begun to watch may hear of a
 * change only after 100 ms, when etcd next looks after watches that begin in the past.
 */
const SHORTEST = { remembered: 60, byAddress: 100 } as const;
/** The most. */
const LONGEST = 1_000;
/** An objection takes a message from etcd and a transaction: so many times ours, if etcd is slow. */
const TRANSACTIONS = 5;
/** Milliseconds between two looks at the clock, and what counts as in time. */
const SLICE = 10;
const PUNCTUAL = 2;
/** How much longer to wait where the host is overloaded, as the owner's may be: by how late we are. */
const LATE = 10;

/**
 * Waits for an objection, which is not too late after that either.
 *
 * @param why we take the lease for ours
 * @param transaction milliseconds that our own transaction took
 * @throws the signal's reason when it aborts
 */
export async function waitForObjection(
  why: keyof typeof SHORTEST,
  transaction: number,
  signal: AbortSignal,
): Promise<void> {
  const began = performance.now();
  let [now, late] = [began, 0];
  const time = () => Math.max(SHORTEST[why], TRANSACTIONS * transaction, LATE * late);
  while (now - began < Math.min(LONGEST, time())) {
    await sleep(SLICE, signal);
    const before = now;
    now = performance.now();
    late += Math.max(0, now - before - SLICE - PUNCTUAL);
  }
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
  return `Another agent uses this node's public address ${address} and with it the lease ${key}: ` +
    "give each node its own address or --public-ip";
}

/** What to say of an agent that has the lease which this node remembers, under another address. */
export function cloneText(key: string, address: string): string {
  return `The lease ${key}, which this node had before, is in use by a running agent at ` +
    `${address}: this machine seems to be a clone of that one; leasing another subnet`;
}
