/**
 * Which of the node's interfaces carries the traffic between hosts, by flannel's rules: `--iface`
 * entries in order, then `--iface-regex`, then `--iface-can-reach`, else the one with the default
 * route.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { PublicInterface } from "../backends/types.ts";
import type { Interface, InterfaceAddress, RouteLookup } from "../dataplane/state.ts";
import { Cidr } from "../subnet/cidr.ts";
import { UsageError } from "./errors.ts";
import type { InterfaceOptions } from "./options.ts";

const log = getLogger(["flanneld", "interface"]);

/** What the choice needs to ask of the kernel. */
export interface InterfaceSource {
  interfaces(): Promise<Interface[]>;
  routeTo(ip: string): Promise<RouteLookup | undefined>;
}

/** The address families of the network. */
export interface Families {
  ipv4: boolean;
  ipv6: boolean;
}

/** An interface and, where the option named one, the very address to use. */
interface Match {
  iface: Interface;
  address?: string;
}

/** Takes a line about the choice: for the log, where it is the first. */
export type Tell = (line: string) => void;

/**
 * Finds the public interface.
 *
 * @throws {UsageError} where no interface fits, naming what was asked for and what there is
 */
export async function choosePublicInterface(
  options: InterfaceOptions,
  families: Families,
  source: InterfaceSource,
  tell: Tell = (line) => log.info("{line}", { line }),
): Promise<PublicInterface> {
  const interfaces = (await source.interfaces()).filter((iface) => !iface.owned);
  const match = await find(options, families, interfaces, source, tell);
  return describe(match, options, families, tell);
}

/**
 * Whether two views of the public interface are the same to the peers and to the kernel state. An
 * address that comes into or out of use by IPv6's own clockwork is no change.
 */
export function isSameInterface(one: PublicInterface, other: PublicInterface): boolean {
  return essence(one) === essence(other);
}

function essence({ addresses, ...rest }: PublicInterface): string {
  const prefixes = addresses
    .filter(({ scope }) => scope === "global" || scope === "site")
    .map(({ ip, prefixLength }) => `${Cidr.containing(ip, prefixLength)}`);
  return JSON.stringify([rest, [...new Set(prefixes)].sort()]);
}

async function find(
  options: InterfaceOptions,
  families: Families,
  interfaces: Interface[],
  source: InterfaceSource,
  tell: Tell,
): Promise<Match> {
  const { iface, ifaceRegex, ifaceCanReach } = options;
  if (iface.length === 0 && ifaceRegex.length === 0 && ifaceCanReach === undefined) {
    return await byDefaultRoute(options, families, interfaces, source, tell);
  }
  for (const wanted of iface) {
    const match = byNameOrAddress(wanted, interfaces);
    if (match) return match;
    tell(`Could not find valid interface matching ${wanted}`);
  }
  for (const regex of ifaceRegex) {
    const match = byRegex(regex, families, interfaces);
    if (match) return match;
    tell(`Could not find valid interface matching ${regex.source}`);
  }
  if (ifaceCanReach !== undefined) {
    const route = await source.routeTo(ifaceCanReach);
    const found = interfaces.find((candidate) => candidate.name === route?.dev);
    if (found) return { iface: found, address: route?.src };
  }
  throw new UsageError(noMatch(options, interfaces));
}

async function byDefaultRoute(
  options: InterfaceOptions,
  families: Families,
  interfaces: Interface[],
  source: InterfaceSource,
  tell: Tell,
): Promise<Match> {
  const given = options.publicIP ?? options.publicIPv6;
  if (given !== undefined) {
    // flannel looks for the interface that holds the public address first.
    const match = byNameOrAddress(given, interfaces);
    if (match) return match;
  }
  tell("Determining IP address of default interface");
  // Any address outside the host's own networks is routed as the default route says; these are
  // never sent to (RFC 5737, RFC 3849).
  const probe = families.ipv4 ? "192.0.2.1" : "2001:db8::1";
  const route = await source.routeTo(probe);
  const found = interfaces.find((candidate) => candidate.name === route?.dev);
  if (found && !found.loopback) return { iface: found };
  throw new UsageError(
    "no interface has a default route: name one with --iface, or one of its addresses",
  );
}

function byNameOrAddress(wanted: string, interfaces: Interface[]): Match | undefined {
  for (const iface of interfaces) {
    if (iface.name === wanted) return { iface };
    if (iface.addresses.some((address) => address.ip === wanted)) return { iface, address: wanted };
  }
  return undefined;
}

function byRegex(
  regex: RegExp,
  families: Families,
  interfaces: Interface[],
): Match | undefined {
  for (const iface of interfaces) {
    const address = iface.addresses.find((candidate) =>
      (candidate.ip.includes(":") ? families.ipv6 : families.ipv4) && regex.test(candidate.ip)
    );
    if (address) return { iface, address: address.ip };
  }
  const iface = interfaces.find((candidate) => regex.test(candidate.name));
  return iface && { iface };
}

function noMatch(options: InterfaceOptions, interfaces: Interface[]): string {
  const asked = [
    ...options.iface.map((name) => `--iface=${name}`),
    ...options.ifaceRegex.map((regex) => `--iface-regex=${regex.source}`),
    ...(options.ifaceCanReach === undefined ? [] : [`--iface-can-reach=${options.ifaceCanReach}`]),
  ].join(" ");
  const there = interfaces.map((iface) =>
    `${iface.name} [${iface.addresses.map((address) => address.ip).join(" ")}]`
  ).join(", ");
  return `no interface matches ${asked}; this node has ${there}`;
}

function describe(
  match: Match,
  options: InterfaceOptions,
  families: Families,
  tell: Tell,
): PublicInterface {
  const { iface, address } = match;
  const own = (v6: boolean): string | null => {
    if (address !== undefined && address.includes(":") === v6) return address;
    return usable(iface.addresses, v6)?.ip ?? null;
  };
  const ip = families.ipv4 ? own(false) : null;
  const ipv6 = families.ipv6 ? own(true) : null;
  if (families.ipv4 && ip === null) {
    throw new UsageError(`interface ${iface.name} has no IPv4 address: add one, or name another`);
  }
  if (families.ipv6 && ipv6 === null) {
    throw new UsageError(
      `interface ${iface.name} has no global IPv6 address: add one, or name another`,
    );
  }
  tell(`Using interface with name ${iface.name} and address ${ip ?? ipv6}`);
  const publicIP = families.ipv4 ? external(options.publicIP, ip, tell) : null;
  const publicIPv6 = families.ipv6 ? external(options.publicIPv6, ipv6, tell) : null;
  return {
    name: iface.name,
    mtu: iface.mtu,
    ip,
    ipv6,
    publicIP,
    publicIPv6,
    addresses: iface.addresses,
  };
}

/** The first address that peers can reach: global, not temporary, not on its way out or in. */
function usable(addresses: InterfaceAddress[], v6: boolean): InterfaceAddress | undefined {
  const family = addresses.filter((address) => address.ip.includes(":") === v6);
  return family.find((address) =>
    address.scope === "global" && !address.temporary && !address.deprecated && !address.tentative
  ) ?? family.find((address) => address.scope !== "link" && address.scope !== "host") ??
    (v6 ? undefined : family.find((address) => address.scope === "link"));
}

function external(
  given: string | undefined,
  own: string | null,
  tell: Tell,
): string | null {
  if (given !== undefined) {
    tell(`Using ${given} as external address`);
    return given;
  }
  tell(`Defaulting external address to interface address (${own})`);
  return own;
}
