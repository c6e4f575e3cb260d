/**
 * host-gw: plain routes to the peers' subnets via their public addresses. No encapsulation, so all
 * nodes must be on one L2 segment.
 *
 * @module
 */
import type { RouteState } from "../dataplane/state.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import { quote } from "../base/json.ts";
import type { Lease } from "../subnet/types.ts";
import { directTo } from "./direct.ts";
import type { Backend, BackendInput, BackendState, RouteTo, Skipped } from "./types.ts";

/** There is nothing to check: host-gw has no options. */
export function validate(_network: NetworkConfig): void {}

/** None: see {@linkcode validate}. */
export function effectiveOptions(_network: NetworkConfig): Record<string, unknown> {
  return {};
}

/** Makes the host-gw backend. */
export function create({ network, iface }: BackendInput): Backend {
  return {
    type: "host-gw",
    summary: `host-gw over ${iface.name}`,
    mtu: iface.mtu,
    attrs: {
      publicIP: iface.publicIP,
      publicIPv6: iface.publicIPv6,
      backendType: "host-gw",
    },
    devices: [],
    additive: true,
    followsRoutes: true,
    state: (_lease, peers, routeTo) => state(network, peers, iface.name, routeTo),
  };
}

function state(
  network: NetworkConfig,
  peers: Iterable<Lease>,
  iface: string,
  routeTo: RouteTo,
): BackendState {
  const routes: RouteState[] = [];
  const skipped: Skipped[] = [];
  for (const peer of peers) {
    const { carried, reason } = peerRoutes(network, peer, iface, routeTo);
    routes.push(...carried);
    if (reason !== undefined) skipped.push({ key: peer.key, reason });
  }
  return { kernel: { links: [], addresses: [], routes, neighbours: [], fdb: [] }, skipped };
}

/** A peer's routes, and why some or all of them are missing. */
interface PeerRoutes {
  carried: RouteState[];
  reason?: string;
}

/**
 * A peer's routes. Each family stands for itself: a link that was down has lost its IPv6 addresses,
 * which is no reason to give up the routes of IPv4.
 */
function peerRoutes(
  network: NetworkConfig,
  { subnet, ipv6Subnet, attrs }: Lease,
  iface: string,
  routeTo: RouteTo,
): PeerRoutes {
  if (attrs.backendType !== "host-gw") {
    const reason = `its backend is ${quote(attrs.backendType || "udp")}, this node's is host-gw`;
    return { carried: [], reason };
  }
  const carried: RouteState[] = [];
  const reasons: string[] = [];
  const halves = [
    { dst: network.ipv4 && subnet, via: attrs.publicIP },
    { dst: network.ipv6 && ipv6Subnet, via: attrs.publicIPv6 },
  ];
  for (const { dst, via } of halves) {
    if (!dst) continue;
    const route = routeVia(`${dst}`, via, iface, routeTo);
    if (typeof route === "string") reasons.push(route);
    else carried.push(route);
  }
  if (reasons.length === 0) return { carried };
  const reason = reasons.join("; ");
  const [rest] = carried;
  return { carried, reason: rest ? `only ${rest.dst} of it is carried: ${reason}` : reason };
}

/** The route to one subnet of a peer, or why there is none. */
function routeVia(
  dst: string,
  via: string | null,
  iface: string,
  routeTo: RouteTo,
): RouteState | string {
  if (via === null) return `it has the subnet ${dst} and no public address for it`;
  const direct = directTo(via, iface, routeTo);
  if ("reason" in direct) return `${direct.reason}: host-gw needs all nodes on one L2 segment`;
  return { dst, via, dev: direct.dev };
}
