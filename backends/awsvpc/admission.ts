/**
 * How much of a network's traffic the rules of security groups admit. Rules only admit, so what
 * several of them admit together is admitted: the addresses of one, the ports of another.
 *
 * @module
 */
import type { IpPermission } from "@aws-sdk/client-ec2";
import { Cidr, type Family, formatIp } from "../../base/cidr.ts";

/** Addresses from the first to the last, as numbers. */
export interface AddressRange {
  family: Family;
  first: bigint;
  last: bigint;
}

/**
 * What is admitted.
 *
 * - `all`: everything
 * - `common`: all of TCP, UDP and ICMP
 * - `some`: certain protocols or ports of every address
 * - `part`: nothing of some addresses
 * - `none`: nothing at all
 */
export type Admission = "all" | "common" | "some" | "part" | "none";

/** How much, and of what it is nothing. */
export interface Admitted {
  admission: Admission;
  /** The ranges of addresses of which nothing is admitted: `10.1.128.0-10.1.255.255`. */
  missing: string[];
}

/** How much is admitted of one address, most last. */
enum Level {
  None,
  Some,
  Common,
  All,
}

/** A rule as far as it concerns a range. */
interface Rule {
  first: bigint;
  last: bigint;
  protocol: "all" | "tcp" | "udp" | "icmp" | "other";
  ports: [from: number, to: number];
}

/** EC2 takes names and numbers. ICMP is another protocol in each family. */
const PROTOCOLS: Record<string, Rule["protocol"] | { 4: "icmp" } | { 6: "icmp" }> = {
  "-1": "all",
  tcp: "tcp",
  "6": "tcp",
  udp: "udp",
  "17": "udp",
  icmp: { 4: "icmp" },
  "1": { 4: "icmp" },
  icmpv6: { 6: "icmp" },
  "58": { 6: "icmp" },
};

const LAST_PORT = 65_535;

/**
 * What the rules come to for a range.
 *
 * @param lists networks of the prefix lists that rules refer to; those that are missing admit nothing
 */
export function admission(
  permissions: readonly IpPermission[],
  range: AddressRange,
  lists: ReadonlyMap<string, readonly Cidr[]> = new Map(),
): Admitted {
  const rules = permissions.flatMap((permission) => rulesOf(permission, range, lists));
  const levels = pieces(rules, range).map((piece) => ({ ...piece, level: levelOf(rules, piece) }));
  const least = Math.min(...levels.map(({ level }) => level));
  const most = Math.max(...levels.map(({ level }) => level));
  const missing = joined(levels.filter(({ level }) => level === Level.None));
  return {
    admission: most === Level.None ? "none" : (["part", "some", "common", "all"] as const)[least],
    missing: missing.map(({ first, last }) =>
      `${formatIp(range.family, first)}-${formatIp(range.family, last)}`
    ),
  };
}

/** The prefix lists that rules refer to. */
export function prefixListsOf(permissions: readonly IpPermission[]): string[] {
  const ids = permissions.flatMap(({ PrefixListIds = [] }) =>
    PrefixListIds.flatMap(({ PrefixListId }) => PrefixListId ?? [])
  );
  return [...new Set(ids)];
}

/** What one permission admits of a range; one that names a security group admits none of it. */
function rulesOf(
  permission: IpPermission,
  { family, first, last }: AddressRange,
  lists: ReadonlyMap<string, readonly Cidr[]>,
): Rule[] {
  const { IpRanges = [], Ipv6Ranges = [] } = permission;
  const networks = [
    ...IpRanges.flatMap(({ CidrIp }) => networkOf(CidrIp)),
    ...Ipv6Ranges.flatMap(({ CidrIpv6 }) => networkOf(CidrIpv6)),
    ...prefixListsOf([permission]).flatMap((id) => lists.get(id) ?? []),
  ];
  const protocol = protocolOf(permission, family);
  const ports = portsOf(permission, protocol);
  return networks
    .filter((network) => network.family === family && network.base <= last && network.last >= first)
    .map((network) => ({ first: network.base, last: network.last, protocol, ports }));
}

/** None for a text that EC2 would not give. */
function networkOf(text: string | undefined): Cidr[] {
  try {
    return text === undefined ? [] : [Cidr.parse(text)];
  } catch {
    return [];
  }
}

function protocolOf({ IpProtocol = "" }: IpPermission, family: Family): Rule["protocol"] {
  const known = PROTOCOLS[IpProtocol.toLowerCase()] ?? "other";
  if (typeof known === "string") return known;
  return family in known ? "icmp" : "other";
}

/** Ports; -1, or nothing, is all. For ICMP they are a type and its code, never more than one type. */
function portsOf({ FromPort = -1, ToPort = -1 }: IpPermission, protocol: string): Rule["ports"] {
  if (FromPort === -1) return [0, LAST_PORT];
  return protocol === "icmp" ? [0, 0] : [FromPort, ToPort];
}

/** Cuts a range where some rule begins or ends: each piece is admitted as a whole, or not. */
function pieces(
  rules: readonly Rule[],
  { first, last }: AddressRange,
): Pick<AddressRange, "first" | "last">[] {
  const starts = new Set([first]);
  for (const rule of rules) {
    if (rule.first > first) starts.add(rule.first);
    if (rule.last < last) starts.add(rule.last + 1n);
  }
  const sorted = [...starts].sort((a, b) => a < b ? -1 : 1);
  return sorted.map((start, index) => ({
    first: start,
    last: index + 1 < sorted.length ? sorted[index + 1] - 1n : last,
  }));
}

function levelOf(
  rules: readonly Rule[],
  { first, last }: Pick<AddressRange, "first" | "last">,
): Level {
  const there = rules.filter((rule) => rule.first <= first && rule.last >= last);
  if (there.some(({ protocol }) => protocol === "all")) return Level.All;
  if (there.length === 0) return Level.None;
  const isWhole = (["tcp", "udp", "icmp"] as const).every((protocol) =>
    coversAllPorts(there.filter((rule) => rule.protocol === protocol).map(({ ports }) => ports))
  );
  return isWhole ? Level.Common : Level.Some;
}

/** Port 0 is nobody's. */
function coversAllPorts(ranges: readonly Rule["ports"][]): boolean {
  let next = 1;
  for (const [from, to] of ranges.toSorted(([a], [b]) => a - b)) {
    if (from > next) return false;
    next = Math.max(next, to + 1);
  }
  return next > LAST_PORT;
}

/** Neighbours as one. */
function joined<Piece extends Pick<AddressRange, "first" | "last">>(
  pieces: readonly Piece[],
): Pick<AddressRange, "first" | "last">[] {
  const result: { first: bigint; last: bigint }[] = [];
  for (const { first, last } of pieces) {
    const before = result.at(-1);
    if (before?.last === first - 1n) before.last = last;
    else result.push({ first, last });
  }
  return result;
}
