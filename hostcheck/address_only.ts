/**
 * Whether the public address is on an interface that packets to other hosts do not leave by.
 *
 * @module
 */
import { type Finding, warn } from "../backends/finding.ts";
import type { Interface } from "../dataplane/state.ts";
import type { HostFacts, HostSource } from "./facts.ts";

/** Whether packets to other hosts leave by other devices than this one, which only has the address. */
export function isAddressOnly({ loopback, kind }: Pick<Interface, "loopback" | "kind">): boolean {
  return loopback || kind === "dummy";
}

/** Nothing where the address is on a link. */
export async function addressOnlyFindings(
  { iface, backend }: Pick<HostFacts, "iface" | "backend">,
  source: Pick<HostSource, "interfaces">,
): Promise<Finding[]> {
  const own = (await source.interfaces()).find(({ name }) => name === iface.name);
  if (own === undefined || !isAddressOnly(own)) return [];
  const remedy = backend.type === "vxlan" || backend.type === "aws-vpc"
    ? "set Backend.MTU in the network config"
    : "lower the MTU of those interfaces";
  return [
    warn(
      "public address",
      `the public address ${
        iface.ip ?? iface.ipv6
      } is on ${iface.name}, whose MTU (${own.mtu}) is ` +
        `not that of the path to other hosts: using ${iface.mtu}, that of the interfaces that ` +
        "packets leave by",
      `${remedy} if the path carries less than ${iface.mtu} bytes`,
    ),
  ];
}
