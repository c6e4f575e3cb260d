/**
 * Which peers are reached without a router, by the kernel's own routes to their public addresses.
 *
 * @module
 */
import type { RouteLookup } from "../dataplane/state.ts";
import type { RouteTo } from "./types.ts";

/** The device by which a peer is on the link, or why it is not. */
export type Direct = { dev: string } | { reason: string };

/**
 * Whether packets to `ip` leave for it directly: the kernel's route has no gateway, and its device
 * finds neighbours by itself, or is the public interface, whatever that is.
 */
export function directTo(ip: string, iface: string, routeTo: RouteTo): Direct {
  const route = routeTo(ip);
  if (route === undefined) return { reason: `the kernel has no route to ${ip}` };
  const { dev, via } = route;
  if (via !== undefined) return { reason: `the route to ${ip} goes through the gateway ${via}` };
  if (!isLink(route, iface)) return { reason: `the route to ${ip} goes out of ${dev}` };
  return { dev };
}

function isLink({ dev, resolves }: RouteLookup, iface: string): boolean {
  return resolves || dev === iface;
}
