/**
 * Whose turn it is to look after a lease event: without a word between the nodes, a few of them
 * agree, and the others leave it to their next check at the interval. Rendezvous hashing (Thaler and
 * Ravishankar, 1998): each node scores each subnet, the highest goes first.
 *
 * @module
 */

/**
 * How many of `others` go before `own` for `subnet`; 0 is first. All are texts that all nodes know
 * alike: subnets.
 */
export function turnOf(subnet: string, own: string, others: Iterable<string>): number {
  const ours = score(subnet, own);
  let before = 0;
  for (const other of others) if (score(subnet, other) > ours) before++;
  return before;
}

/** FNV-1a, with the mixing of MurmurHash3 behind it, since similar texts must score unlike. */
function score(subnet: string, node: string): number {
  let hash = 0x811c9dc5;
  const text = `${subnet} ${node}`;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
  return (hash ^ hash >>> 16) >>> 0;
}
