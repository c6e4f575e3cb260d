/**
 * Results of the CNI specification: read from IPAM plugins and earlier results, written for our own
 * bridge.
 *
 * @module
 */
import type { Attached } from "../dataplane/attachment.ts";
import { tryParseIp } from "../base/cidr.ts";
import { invalid } from "./errors.ts";
import { isObject, type JsonObject } from "./netconf.ts";
import { isAtLeast } from "./versions.ts";

/** An address with its prefix length, and the gateway of its subnet. */
export interface ResultIp {
  address: string;
  gateway?: string;
}

/** A route; `gw` where it is not the gateway of its family. */
export interface ResultRoute {
  dst: string;
  gw?: string;
  priority?: number;
}

/** What an IPAM plugin gives. */
export interface IpamResult {
  ips: ResultIp[];
  routes: ResultRoute[];
  dns: JsonObject;
}

/** Keys of a route that our own bridge can set. */
const ROUTE_KEYS = ["dst", "gw", "priority"];

/** 4 or 6. */
export function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

/**
 * Reads addresses and routes of a result.
 *
 * @param what the result's name, for errors
 * @throws {CniError} code 7 where it has no addresses, or such as cannot be set
 */
export function parseIpamResult(result: JsonObject | undefined, what: string): IpamResult {
  const { ips = [], routes, dns } = result ?? {};
  if (!Array.isArray(ips) || ips.length === 0) throw invalid(`${what} has no ips`);
  return {
    ips: ips.map((ip) => parseIp(ip, what)),
    routes: (Array.isArray(routes) ? routes : []).map((route) => parseRoute(route, what)),
    dns: isObject(dns) ? dns : {},
  };
}

function parseIp(ip: unknown, what: string): ResultIp {
  if (!isObject(ip) || !isCidr(ip.address) || !(ip.gateway === undefined || isIp(ip.gateway))) {
    throw invalid(`${what}: ${JSON.stringify(ip)} is not an address with a gateway`);
  }
  return { address: ip.address, ...(ip.gateway === undefined ? {} : { gateway: ip.gateway }) };
}

function parseRoute(route: unknown, what: string): ResultRoute {
  const { dst, gw, priority } = isObject(route) ? route : {};
  const fits = isCidr(dst) && (gw === undefined || isIp(gw)) &&
    (priority === undefined || Number.isInteger(priority));
  if (!fits) throw invalid(`${what}: ${JSON.stringify(route)} is not a route`);
  const unknown = Object.keys(route as JsonObject).find((key) => !ROUTE_KEYS.includes(key));
  if (unknown !== undefined) {
    throw invalid(`${what}: a route's ${unknown} is not supported by flanneld's own bridge`);
  }
  return route as ResultRoute;
}

function isIp(value: unknown): value is string {
  return typeof value === "string" && tryParseIp(value) !== undefined;
}

function isCidr(value: unknown): value is string {
  if (typeof value !== "string") return false;
  const [ip, length] = value.split("/");
  return isIp(ip) && /^\d{1,3}$/.test(length ?? "");
}

/**
 * A result in which each route has its gateway, as the routing table has it: a plugin's CHECK may look
 * for just what the result says, where ADD took the gateway of the address.
 */
export function withGateways(result: JsonObject): JsonObject {
  const { ips, routes } = result;
  if (!Array.isArray(ips) || !Array.isArray(routes)) return result;
  const gatewayFor = (dst: unknown) =>
    ips.filter(isObject).find(({ address, gateway }) =>
      isIp(gateway) && isCidr(address) && isCidr(dst) && familyOf(address) === familyOf(dst)
    )?.gateway;
  const complete = (route: unknown) => {
    if (!isObject(route) || route.gw !== undefined) return route;
    const gw = gatewayFor(route.dst);
    return gw === undefined ? route : { ...route, gw };
  };
  return { ...result, routes: routes.map(complete) };
}

/**
 * The result of ADD by our own bridge.
 *
 * @param netns path as the runtime gave it
 */
export function makeResult(
  cniVersion: string,
  attached: Attached,
  { ips, routes, dns }: IpamResult,
  netns: string,
): JsonObject {
  // Before 1.0.0 an address tells its family; from 1.1.0 on an interface its MTU.
  const withFamily = !isAtLeast(cniVersion, "1.0.0");
  const withMtu = isAtLeast(cniVersion, "1.1.0");
  const { bridge, host, pod } = attached;
  const interfaces = [bridge, host, { ...pod, sandbox: netns }];
  return {
    cniVersion,
    interfaces: interfaces.map(({ mtu, ...rest }) => withMtu ? { ...rest, mtu } : rest),
    ips: ips.map((ip) => ({
      ...(withFamily ? { version: String(familyOf(ip.address)) } : {}),
      interface: 2,
      ...ip,
    })),
    routes,
    dns,
  };
}
