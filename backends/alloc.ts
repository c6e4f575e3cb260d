/**
 * alloc: leases subnets and forwards nothing; something else routes between the hosts.
 *
 * @module
 */
import type { NetworkConfig } from "../subnet/config.ts";
import type { Backend, BackendInput } from "./types.ts";

/** There is nothing to check: alloc has no options. */
export function validate(_network: NetworkConfig): void {}

/** None: see {@linkcode validate}. */
export function effectiveOptions(_network: NetworkConfig): Record<string, unknown> {
  return {};
}

/** Makes the alloc backend. Its leases carry no type, as flannel's. */
export function create({ iface }: BackendInput): Backend {
  return {
    type: "alloc",
    summary: "alloc: no forwarding",
    mtu: iface.mtu,
    attrs: { publicIP: iface.publicIP, publicIPv6: iface.publicIPv6, backendType: "" },
    devices: [],
    state: () => ({
      kernel: { links: [], addresses: [], routes: [], neighbours: [], fdb: [] },
      skipped: [],
    }),
  };
}
