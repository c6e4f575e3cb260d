/**
 * Values for the backends' tests.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";
import { parseNetworkConfig } from "../subnet/config.ts";
import type { Lease, LeaseAttrs } from "../subnet/types.ts";
import type { BackendInput, PublicInterface, RouteTo } from "./types.ts";

/** A node's interface, 192.0.2.10/24 and 2001:db8::10/64, MTU 1500. */
export const IFACE: PublicInterface = {
  name: "eth0",
  mtu: 1500,
  ip: "192.0.2.10",
  ipv6: null,
  publicIP: "192.0.2.10",
  publicIPv6: null,
  addresses: [address("192.0.2.10", 24), address("2001:db8::10", 64)],
};

/** The same with both families on. */
export const DUAL_IFACE: PublicInterface = {
  ...IFACE,
  ipv6: "2001:db8::10",
  publicIPv6: "2001:db8::10",
};

function address(ip: string, prefixLength: number) {
  return {
    ip,
    prefixLength,
    scope: "global" as const,
    dynamic: false,
    temporary: false,
    deprecated: false,
    tentative: false,
    duplicate: false,
  };
}

/** A backend's input for the config `{Network: 10.1.0.0/16, Backend: backend, …more}`. */
export function input(backend: Record<string, unknown>, more: object = {}): BackendInput {
  const dual = "EnableIPv6" in more;
  const network = parseNetworkConfig(
    JSON.stringify({ Network: "10.1.0.0/16", Backend: backend, ...more }),
  );
  return { network, iface: dual ? DUAL_IFACE : IFACE, existing: [] };
}

/** Routes of a node whose link has the addresses of {@linkcode DUAL_IFACE}, with a router on it. */
export const routeTo: RouteTo = (ip) => {
  const isOnLink = ip.startsWith("192.0.2.") || ip.startsWith("2001:db8::");
  const via = isOnLink ? undefined : ip.includes(":") ? "2001:db8::1" : "192.0.2.1";
  return { dev: "eth0", via, resolves: true };
};

/** A config for both families. */
export const DUAL = { EnableIPv6: true, IPv6Network: "fd00:1::/48" };

/** A lease of `subnet` (and `ipv6Subnet`). */
export function lease(
  subnet: string | null,
  attrs: Partial<LeaseAttrs>,
  ipv6Subnet: string | null = null,
): Lease {
  return {
    key: (subnet ?? ipv6Subnet!).replace("/", "-"),
    subnet: subnet === null ? null : Cidr.parse(subnet),
    ipv6Subnet: ipv6Subnet === null ? null : Cidr.parse(ipv6Subnet),
    attrs: { publicIP: null, publicIPv6: null, backendType: "", ...attrs },
    expiration: null,
    revision: "1",
  };
}
