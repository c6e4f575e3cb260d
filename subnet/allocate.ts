/**
 * Choosing subnets: which of a node's former ones it keeps, and which free one it takes.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";
import type { FamilyConfig, NetworkConfig } from "./config.ts";
import type { Subnets } from "./lease_codec.ts";

/** All subnets of the range are leased. */
export class NoFreeSubnetError extends Error {
  override name = "NoFreeSubnetError";
}

/** A source of randomness like `Math.random`: in [0, 1). */
export type Random = () => number;

/** Picks without looking before the free subnets are counted. */
const BLIND_PICKS = 4;

/** Whether subnets lie in the config's ranges and have its lengths, in each family that is on. */
export function fits({ ipv4, ipv6 }: NetworkConfig, { subnet, ipv6Subnet }: Subnets): boolean {
  return fitsFamily(ipv4, subnet) && fitsFamily(ipv6, ipv6Subnet);
}

function fitsFamily(family: FamilyConfig | null, subnet: Cidr | null): boolean {
  if (family === null || subnet === null) return family === null && subnet === null;
  return subnet.length === family.subnetLength && subnet.family === family.network.family &&
    subnet.base >= family.min.base && subnet.base <= family.max.base;
}

/** Whether two leases share an address. */
export function collide(one: Subnets, other: Subnets): boolean {
  return overlap(one.subnet, other.subnet) || overlap(one.ipv6Subnet, other.ipv6Subnet);
}

/**
 * Whether a lease in the store, of whatever kind, keeps a node from taking `subnets`.
 *
 * One that covers the whole network does not: nobody can use it, and it would stop all nodes.
 */
export function blocks({ ipv4, ipv6 }: NetworkConfig, lease: Subnets, subnets: Subnets): boolean {
  const inNetwork = (family: FamilyConfig | null, subnet: Cidr | null) =>
    family && subnet?.contains(family.network) ? null : subnet;
  const { subnet, ipv6Subnet } = lease;
  return collide(
    { subnet: inNetwork(ipv4, subnet), ipv6Subnet: inNetwork(ipv6, ipv6Subnet) },
    subnets,
  );
}

/**
 * Of each family the first of a node's former subnets that it may have still. A network config that
 * adds or drops a family changes nothing for the containers of the other.
 *
 * @param isFree whether nobody else has a part of a subnet
 */
export function keepFamilies(
  { ipv4, ipv6 }: NetworkConfig,
  had: readonly Subnets[],
  isFree: (subnets: Subnets) => boolean,
): Subnets {
  const subnet = had.map(({ subnet }) => subnet).find((one) =>
    ipv4 && one && fitsFamily(ipv4, one) && isFree({ subnet: one, ipv6Subnet: null })
  );
  const ipv6Subnet = had.map(({ ipv6Subnet }) => ipv6Subnet).find((one) =>
    ipv6 && one && fitsFamily(ipv6, one) && isFree({ subnet: null, ipv6Subnet: one })
  );
  return { subnet: subnet ?? null, ipv6Subnet: ipv6Subnet ?? null };
}

function overlap(one: Cidr | null, other: Cidr | null): boolean {
  return one !== null && other !== null && one.overlaps(other);
}

/**
 * Picks free subnets at random, one of each family that is on.
 *
 * @throws {NoFreeSubnetError}
 */
export function pickSubnets(
  { ipv4, ipv6 }: NetworkConfig,
  taken: Iterable<Subnets>,
  random: Random,
): Subnets {
  const leases = [...taken];
  return {
    subnet: ipv4 && pickSubnet(ipv4, leases.map((lease) => lease.subnet), random),
    ipv6Subnet: ipv6 && pickSubnet(ipv6, leases.map((lease) => lease.ipv6Subnet), random),
  };
}

/**
 * Picks free subnets as {@linkcode pickSubnets}, such as overlap nothing of `avoided` if there are any.
 *
 * @throws {NoFreeSubnetError}
 */
export function pickClear(
  config: NetworkConfig,
  taken: readonly Subnets[],
  avoided: readonly Cidr[],
  random: Random,
): Subnets {
  const more = avoided.map((cidr): Subnets => ({
    subnet: cidr.family === 4 ? cidr : null,
    ipv6Subnet: cidr.family === 6 ? cidr : null,
  }));
  try {
    return pickSubnets(config, [...taken, ...more], random);
  } catch (error) {
    if (!(error instanceof NoFreeSubnetError)) throw error;
    return pickSubnets(config, taken, random);
  }
}

/**
 * Picks one of all free subnets of the range, each with the same chance. The range itself is never
 * walked, so that it may be as large as IPv6 allows.
 *
 * A lease that covers the whole network blocks nothing: nobody can use it, and it would stop all
 * nodes.
 *
 * @throws {NoFreeSubnetError}
 */
export function pickSubnet(
  range: FamilyConfig,
  taken: Iterable<Cidr | null>,
  random: Random,
): Cidr {
  const { network, subnetLength, min, max } = range;
  const used = [...taken].filter((cidr) => cidr !== null)
    .filter((cidr) => cidr.family === network.family && !cidr.contains(network));
  const shift = BigInt((network.family === 4 ? 32 : 128) - subnetLength);
  const slot = (address: bigint) => (address >> shift) - (min.base >> shift);
  const count = slot(max.base) + 1n;
  const nth = (n: bigint) =>
    Cidr.of(network.family, ((min.base >> shift) + n) << shift, subnetLength);
  // Most ranges are mostly free, and a blind pick that hits is as fair as one by count.
  for (let tries = 0; tries < BLIND_PICKS; tries++) {
    const pick = nth(randomBelow(count, random));
    if (!used.some((cidr) => cidr.overlaps(pick))) return pick;
  }
  const runs = mergedRuns(
    used.map((cidr) => ({ first: slot(cidr.base), last: slot(cidr.last) })),
    count,
  );
  const leased = runs.reduce((sum, { first, last }) => sum + last - first + 1n, 0n);
  if (leased >= count) {
    throw new NoFreeSubnetError(
      `no free subnet: all ${count} of ${min.address} ... ${max.address} are leased`,
    );
  }
  let chosen = randomBelow(count - leased, random);
  for (const { first, last } of runs) {
    if (chosen < first) break;
    chosen += last - first + 1n;
  }
  return nth(chosen);
}

/** Subnets of the range, counted from its first, both ends included. */
interface Run {
  first: bigint;
  last: bigint;
}

/** The runs cut to `0..count`, in order, without overlaps. */
function mergedRuns(runs: Run[], count: bigint): Run[] {
  const merged: Run[] = [];
  const inside = runs
    .filter(({ first, last }) => last >= 0n && first < count)
    .sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  for (const run of inside) {
    const first = run.first < 0n ? 0n : run.first;
    const last = run.last >= count ? count - 1n : run.last;
    const before = merged.at(-1);
    if (before === undefined || first > before.last + 1n) merged.push({ first, last });
    else if (last > before.last) before.last = last;
  }
  return merged;
}

/** A number in [0, limit), each with the same chance but for a share of 2^-32. */
function randomBelow(limit: bigint, random: Random): bigint {
  let bits = 0n;
  let value = 0n;
  while (bits < BigInt(limit.toString(2).length) + 32n) {
    value = value << 32n | BigInt(Math.floor(random() * 0x1_0000_0000));
    bits += 32n;
  }
  return value * limit >> bits;
}
