/**
 * Whose turn it is to look after a lease event: without a word between the nodes, a few of them
 * agree, and the others leave it to their next check at the interval. Rendezvous hashing (Thaler and
 * Ravishankar, 1998): each node scores each subnet, the highest goes first.
 *
 * @module
 */

/**
 * How many of `others` go before `own`, 0 is first: the least of it among `subnets`, Infinity for
 * none. All are texts that all nodes know alike.
 */
export function turnOf(subnets: Iterable<string>, own: string, others: Iterable<string>): number {
  const rivals = Uint32Array.from(others, hash);
  const ours = hash(own);
  let least = Infinity;
  for (const subnet of subnets) {
    const seed = hash(subnet);
    const score = mix(seed ^ ours);
    let before = 0;
    for (const rival of rivals) if (mix(seed ^ rival) > score) before++;
    least = Math.min(least, before);
  }
  return least;
}

/** FNV-1a, mixed since similar texts must score unlike. */
function hash(text: string): number {
  let bits = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    bits = Math.imul(bits ^ text.charCodeAt(index), 0x01000193);
  }
  return mix(bits);
}

/** MurmurHash3's last step. */
function mix(bits: number): number {
  bits = Math.imul(bits ^ bits >>> 16, 0x85ebca6b);
  bits = Math.imul(bits ^ bits >>> 13, 0xc2b2ae35);
  return (bits ^ bits >>> 16) >>> 0;
}
