/**
 * host-gw: plain routes to the peers' subnets via their public addresses. No encapsulation, so all
 * nodes must be on one L2 segment.
 *
 * @module
 */
import type { RouteState } from "../dataplane/state.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import { quote } from "../subnet/json.ts";
import type { Lease } from "../subnet/types.ts";
import { directTo } from "./direct.ts";
import type { Backend, BackendInput, BackendState, RouteTo, Skipped } from "./types.ts";

/** There is nothing to check: host-gw has no options. */
export function validate(_network: NetworkConfig): void {}

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
    const wanted = peerRoutes(network, peer, iface, routeTo);
    if (typeof wanted === "string") skipped.push({ key: peer.key, reason: wanted });
    else routes.push(...wanted);
  }
  return { kernel: { links: [], addresses: [], routes, neighbours: [], fdb: [] }, skipped };
}

/** A peer's routes, all or none; else why not. */
function peerRoutes(
  network: NetworkConfig,
  { subnet, ipv6Subnet, attrs }: Lease,
  iface: string,
  routeTo: RouteTo,
): RouteState[] | string {
  if (attrs.backendType !== "host-gw") {
    return `its backend is ${quote(attrs.backendType || "udp")}, ours is host-gw`;
  }
  const routes: RouteState[] = [];
  const halves = [
    { dst: network.ipv4 && subnet, via: attrs.publicIP },
    { dst: network.ipv6 && ipv6Subnet, via: attrs.publicIPv6 },
  ];
  for (const { dst, via } of halves) {
    if (!dst) continue;
    if (via === null) return `it has the subnet ${dst} and no public address for it`;
    const direct = directTo(via, iface, routeTo);
    if ("reason" in direct) {
      return `${direct.reason}: host-gw needs all nodes on one L2 segment`;
    }
    routes.push({ dst: `${dst}`, via, dev: direct.dev });
  }
  return routes;
}
