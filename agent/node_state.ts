/**
 * What the node itself adds to the backend's kernel state: the containers' bridge and the blackhole
 * routes.
 *
 * @module
 */
import type { KernelState } from "../dataplane/state.ts";
import type { Cidr } from "../base/cidr.ts";
import type { Lease } from "../subnet/types.ts";
import { gateway } from "./subnet_file.ts";

/** The node's own wishes. */
export interface NodeOptions {
  /** Name of the bridge for containers; undefined: none. */
  bridge?: string;
  /** The bridge's MTU: the backend's. */
  mtu: number;
  blackholeRoute: boolean;
}

/** Lower priority than any route that a container runtime makes for the same subnet. */
const LAST_METRIC = 0xffff_ffff;

/** `state` with the node's own entries; neither argument is changed. */
export function withNodeState(state: KernelState, lease: Lease, options: NodeOptions): KernelState {
  const subnets = [lease.subnet, lease.ipv6Subnet].filter((subnet): subnet is Cidr =>
    subnet !== null
  );
  const { bridge, mtu } = options;
  return {
    ...state,
    links: bridge ? [...state.links, { kind: "bridge", name: bridge, mtu }] : state.links,
    addresses: bridge
      ? [...state.addresses, ...subnets.map((subnet) => ({ dev: bridge, cidr: gateway(subnet) }))]
      : state.addresses,
    routes: options.blackholeRoute
      ? [
        ...state.routes,
        ...subnets.map((subnet) => ({
          dst: `${subnet}`,
          type: "blackhole" as const,
          metric: LAST_METRIC,
        })),
      ]
      : state.routes,
  };
}
