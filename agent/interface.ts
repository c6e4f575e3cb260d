/**
 * Which of the node's interfaces carries the traffic between hosts, by flannel's rules: `--iface`
 * entries in order, then `--iface-regex`, then `--iface-can-reach`, else the one with the default
 * route. This is the choice at the start; `interface_keeper.ts` stays with it.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { PublicInterface } from "../backends/types.ts";
import type { DefaultRoute, Interface, RouteLookup } from "../dataplane/state.ts";
import { isAddressOnly } from "../hostcheck/address_only.ts";
import { Cidr, formatIp, tryParseIp } from "../base/cidr.ts";
import { selectAddress, unusableReason, usableAddresses } from "./address.ts";
import { UsageError } from "./errors.ts";
import type { InterfaceOptions } from "./options.ts";

const log = getLogger(["flanneld", "interface"]);

/** What the choice needs to ask of the kernel. */
export interface InterfaceSource {
  interfaces(): Promise<Interface[]>;
  /** The main table's default routes, best first. */
  defaultRoutes(): Promise<DefaultRoute[]>;
  routeTo(ip: string): Promise<RouteLookup | undefined>;
}

/** The address families of the network. */
export interface Families {
  ipv4: boolean;
  ipv6: boolean;
}

/** An interface and why it was chosen. */
export interface Match {
  iface: Interface;
  /** The very address to use, where the option named one. */
  address?: string;
  /** The address to begin with, where the kernel named one. */
  preferred?: string;
  /** The family of the default route that led to it; absent where an option did. */
  byRoute?: "ipv4" | "ipv6";
}

/** A choice: what the backends see of it, and what it was made by. */
export interface Choice extends Pick<Match, "address" | "byRoute"> {
  index: number;
  /** See {@linkcode isAddressOnly}. */
  isAddressOnly: boolean;
  view: PublicInterface;
}

/** Takes a line about the choice: for the log, where it is the first. */
export type Tell = (line: string) => void;

/** What the kernel has, as one look at it. */
export interface Surroundings {
  /** All interfaces but the agent's own. */
  interfaces: Interface[];
  routes: DefaultRoute[];
}

/**
 * Finds the public interface.
 *
 * @throws {UsageError} where no interface fits, naming what was asked for and what there is
 */
export async function choosePublicInterface(
  options: InterfaceOptions,
  families: Families,
  source: InterfaceSource,
  tell?: Tell,
): Promise<PublicInterface> {
  return (await choose(options, families, source, tell)).view;
}

/** As {@linkcode choosePublicInterface}, with what the choice was made by. */
export async function choose(
  options: InterfaceOptions,
  families: Families,
  source: InterfaceSource,
  tell: Tell = (line) => log.info("{line}", { line }),
): Promise<Choice> {
  const around = await look(source);
  const match = await find(options, families, around, source, tell);
  const view = describe(match, families, options, around);
  tell(`Using interface with name ${view.name} and address ${view.ip ?? view.ipv6}`);
  for (const [on, given, own] of publicAddresses(families, options, view)) {
    if (!on) continue;
    tell(
      given === undefined
        ? `Defaulting external address to interface address (${own})`
        : `Using ${given} as external address`,
    );
  }
  const { iface, address, byRoute } = match;
  return { index: iface.index, isAddressOnly: isAddressOnly(iface), view, address, byRoute };
}

/** Addresses far away, of root servers, that only a default route leads to. Nothing is sent there. */
const FAR_AWAY = ["198.41.0.4", "2001:503:ba3e::2:30"];

/** The routers that packets to far away leave by. */
export async function routersOf(source: Pick<InterfaceSource, "routeTo">): Promise<string[]> {
  const routes = await Promise.all(FAR_AWAY.map((ip) => source.routeTo(ip).catch(() => undefined)));
  return routes.map((route) => route?.via).filter((via) => via !== undefined);
}

/** Reads the interfaces and default routes. */
export async function look(source: InterfaceSource): Promise<Surroundings> {
  const interfaces = (await source.interfaces()).filter((iface) => !iface.owned);
  return { interfaces, routes: await source.defaultRoutes() };
}

/**
 * What the backends see of an interface. Addresses in use stay in use where they can.
 *
 * @throws {UsageError} where it has no usable address of a family
 */
export function describe(
  { iface, address, preferred }: Match,
  families: Families,
  options: InterfaceOptions,
  around: Surroundings,
  inUse?: Pick<PublicInterface, "ip" | "ipv6">,
): PublicInterface {
  const own = (v6: boolean): string | null => {
    if (address !== undefined && address.includes(":") === v6) return address;
    return selectAddress(iface.addresses, v6, (v6 ? inUse?.ipv6 : inUse?.ip) ?? preferred);
  };
  const ip = families.ipv4 ? own(false) : null;
  const ipv6 = families.ipv6 ? own(true) : null;
  for (const [missing, v6] of [[families.ipv4 && !ip, false], [families.ipv6 && !ipv6, true]]) {
    if (!missing) continue;
    const kind = v6 ? "global IPv6" : "IPv4";
    const why = unusableReason(iface.addresses, v6);
    throw new UsageError(
      `interface ${iface.name} has no ${kind} address${why}: add one, or name another`,
    );
  }
  return {
    name: iface.name,
    mtu: pathMtu(iface, families, around),
    ip,
    ipv6,
    publicIP: families.ipv4 ? options.publicIP ?? ip : null,
    publicIPv6: families.ipv6 ? options.publicIPv6 ?? ipv6 : null,
    addresses: iface.addresses,
  };
}

/**
 * The interface's MTU. Where it only has the address, as on hosts that announce theirs by BGP, the
 * smallest of the devices that packets leave by: those with a default route, else all.
 */
function pathMtu(
  iface: Interface,
  { ipv4 }: Families,
  { interfaces, routes }: Surroundings,
): number {
  if (!isAddressOnly(iface)) return iface.mtu;
  const others = interfaces.filter((other) => other.up && !isAddressOnly(other));
  const isUplink = ({ name }: Interface) =>
    routes.some(({ dev, ipv6 }) => dev === name && ipv6 !== ipv4);
  const uplinks = others.some(isUplink) ? others.filter(isUplink) : others;
  return Math.min(iface.mtu, ...uplinks.map(({ mtu }) => mtu));
}

async function find(
  options: InterfaceOptions,
  families: Families,
  around: Surroundings,
  source: InterfaceSource,
  tell: Tell,
): Promise<Match> {
  const { iface, ifaceRegex, ifaceCanReach } = options;
  if (iface.length === 0 && ifaceRegex.length === 0 && ifaceCanReach === undefined) {
    return byDefaultRoute(options, families, around, tell);
  }
  const { interfaces } = around;
  let problem: string | undefined;
  const fits = (match: Match | undefined, wanted: string): match is Match => {
    const reason = match && unfit(match, families, options, around);
    problem ??= reason;
    if (match && reason === undefined) return true;
    tell(`Could not find valid interface matching ${wanted}${reason ? `: ${reason}` : ""}`);
    return false;
  };
  for (const wanted of iface) {
    const match = byNameOrAddress(wanted, interfaces);
    if (fits(match, wanted)) return match;
  }
  for (const regex of ifaceRegex) {
    const match = byRegex(regex, families, interfaces);
    if (fits(match, regex.source)) return match;
  }
  if (ifaceCanReach !== undefined) {
    const route = await source.routeTo(ifaceCanReach);
    const found = interfaces.find((candidate) => candidate.name === route?.dev);
    if (found) return { iface: found, preferred: route?.src };
  }
  throw new UsageError(problem ?? noMatch(options, interfaces));
}

/** Why an interface cannot be used; undefined where it can. */
function unfit(
  match: Match,
  families: Families,
  options: InterfaceOptions,
  around: Surroundings,
): string | undefined {
  try {
    describe(match, families, options, around);
    return undefined;
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
}

function byDefaultRoute(
  options: InterfaceOptions,
  families: Families,
  around: Surroundings,
  tell: Tell,
): Match {
  const { interfaces, routes } = around;
  for (const given of [options.publicIP, options.publicIPv6]) {
    // flannel looks for the interface that holds the public address first.
    const match = given === undefined ? undefined : byNameOrAddress(given, interfaces);
    if (match) return match;
  }
  tell("Determining IP address of default interface");
  let problem: string | undefined;
  for (const { dev, ipv6 } of routes) {
    if (!(ipv6 ? families.ipv6 : families.ipv4)) continue;
    const iface = interfaces.find(({ name, loopback }) => name === dev && !loopback);
    if (iface === undefined) continue;
    const match: Match = { iface, byRoute: ipv6 ? "ipv6" : "ipv4" };
    const reason = unfit(match, families, options, around);
    if (reason === undefined) return match;
    problem ??= reason;
  }
  throw new UsageError(problem ?? NO_DEFAULT_ROUTE);
}

const NO_DEFAULT_ROUTE = "no interface has a default route in the main routing table: " +
  "name one with --iface, or one of its addresses";

/** The interface with this name or address; addresses in whatever spelling. */
export function byNameOrAddress(wanted: string, interfaces: Interface[]): Match | undefined {
  const parsed = tryParseIp(wanted);
  const address = parsed && formatIp(parsed.family, parsed.value);
  for (const iface of interfaces) {
    if (iface.name === wanted) return { iface };
    if (address !== undefined && iface.addresses.some(({ ip }) => ip === address)) {
      return { iface, address };
    }
  }
  return undefined;
}

function byRegex(
  regex: RegExp,
  families: Families,
  interfaces: Interface[],
): Match | undefined {
  for (const iface of interfaces) {
    const addresses = [
      ...(families.ipv4 ? usableAddresses(iface.addresses, false) : []),
      ...(families.ipv6 ? usableAddresses(iface.addresses, true) : []),
    ];
    const address = addresses.find(({ ip }) => regex.test(ip));
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

function publicAddresses(
  { ipv4, ipv6 }: Families,
  options: InterfaceOptions,
  view: PublicInterface,
): [on: boolean, given: string | undefined, own: string | null][] {
  return [[ipv4, options.publicIP, view.ip], [ipv6, options.publicIPv6, view.ipv6]];
}

/**
 * Whether two views of the public interface are the same to the peers and to the kernel state. An
 * address that comes and goes as IPv6 manages it by itself does not count, nor does one that brings no
 * other hosts onto the link, such as a virtual address that moves between hosts.
 */
export function isSameInterface(one: PublicInterface, other: PublicInterface): boolean {
  return essence(one) === essence(other);
}

/** What is different about the interface, for the log. */
export function changeOf(before: PublicInterface, after: PublicInterface): string {
  const { name } = after;
  const address = (view: PublicInterface) => [view.ip, view.ipv6].filter(Boolean).join(" and ");
  if (name !== before.name) return `the public interface changed from ${before.name} to ${name}`;
  if (address(before) !== address(after)) {
    return `${name}'s address changed from ${address(before)} to ${address(after)}`;
  }
  if (before.mtu !== after.mtu) {
    return `${name}'s MTU changed from ${before.mtu} to ${after.mtu}`;
  }
  return `the subnets on ${name} changed`;
}

function essence({ addresses, ...rest }: PublicInterface): string {
  const prefixes = addresses
    .filter(({ scope }) => scope === "global" || scope === "site")
    .filter(({ ip, prefixLength }) => prefixLength < (ip.includes(":") ? 128 : 32))
    .map(({ ip, prefixLength }) => Cidr.containing(ip, prefixLength));
  const widest = prefixes.filter((prefix) =>
    !prefixes.some((wider) => wider.contains(prefix) && !wider.equals(prefix))
  );
  return JSON.stringify([rest, [...new Set(widest.map(String))].sort()]);
}
