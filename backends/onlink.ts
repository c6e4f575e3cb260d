/**
 * Which peers are on the public interface's own link (L2 segment), judged by its addresses'
 * prefixes: a pure stand-in for asking the kernel's routes, and stricter, as a route by a gateway
 * never counts.
 *
 * @module
 */
import { Cidr } from "../subnet/cidr.ts";
import type { InterfaceAddress } from "../dataplane/state.ts";

/** Tells whether an address can be reached without a router. */
export function onLink(addresses: readonly InterfaceAddress[]): (ip: string) => boolean {
  const prefixes = addresses
    .filter((address) => address.scope === "global" || address.scope === "site")
    .map((address) => Cidr.containing(address.ip, address.prefixLength));
  return (ip) => prefixes.some((prefix) => prefix.containsIp(ip));
}
