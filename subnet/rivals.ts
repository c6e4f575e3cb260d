/**
 * Two agents with one public address, as where two nodes were given the same `--public-ip`. The
 * address is all by which the store knows a node, so that the second one takes the first one's lease
 * for its own from before a restart. What tells them apart is that the first one lives: it writes its
 * lease again, and the second one gives way.
 *
 * - Whoever sees its lease overwritten by another agent writes it again, but not twice within
 *   {@linkcode TRUCE}: then it gives way. So of two that both insist, one has to end.
 * - Whoever takes a lease by nothing but its address counts as having written it just now: it gives
 *   way at once. At first it writes what it found, on an etcd lease of its own, which only the owner
 *   notices; where nobody objects within {@linkcode OBJECTION}, it writes its own data and uses it.
 *
 * @module
 */

/** Milliseconds within which a lease is written again only once. */
const TRUCE = 60_000;

/** Milliseconds for a living owner to object. */
export const OBJECTION = 1_000;

/** Keeps what this node knows of another agent with its address. */
export class Rivals {
  #taken = -Infinity;
  /** Key of the lease that another agent has; undefined where none is known of. */
  key: string | undefined;

  /** Enters that we wrote a lease that another agent may have. */
  taken(): void {
    this.#taken = performance.now();
  }

  /** Whether to write our lease again. */
  get insists(): boolean {
    return performance.now() - this.#taken > TRUCE;
  }
}

/** What to say of it. */
export function rivalText(key: string, address: string): string {
  return `Another agent has our public address ${address}, and the lease ${key} by it: ` +
    "give each node an address or a --public-ip of its own";
}
