/**
 * What is wrong with a lease by itself: its subnets and public addresses, as each node judges them.
 *
 * @module
 */
import { type Cidr, isLoopback, isUnicast, parseIp } from "../base/cidr.ts";
import type { FamilyConfig, NetworkConfig } from "./config.ts";
import type { Lease, LeaseAttrs } from "./types.ts";

/** What is wrong with a lease by itself, whoever looks at it; empty where nothing is. */
export function leaseFault({ ipv4, ipv6 }: NetworkConfig, lease: Lease): string {
  const { subnet, ipv6Subnet, attrs } = lease;
  let subnets = 0;
  for (
    const [family, one, ip] of [
      [ipv4, subnet, attrs.publicIP],
      [ipv6, ipv6Subnet, attrs.publicIPv6],
    ] as const
  ) {
    if (family === null || one === null) continue;
    subnets++;
    const fault = subnetFault(family, one) || addressFault(one, ip);
    if (fault !== "") return fault;
  }
  if (subnets === 0) return "it has no subnet of the network's address family";
  return holdsAddress(lease, lease) ? "its public address lies in its own subnet" : "";
}

function subnetFault({ network, subnetLength }: FamilyConfig, subnet: Cidr): string {
  if (!network.contains(subnet)) return `${subnet} is not in the network ${network}`;
  if (subnet.length < subnetLength) {
    return `${subnet} is larger than the network's subnets, which are /${subnetLength}`;
  }
  return "";
}

function addressFault(subnet: Cidr, ip: string | null): string {
  if (ip === null) return `it has the subnet ${subnet} and no public address for it`;
  const parsed = parseIp(ip);
  if (isLoopback(parsed)) return `its public address ${ip} is a loopback address`;
  return isUnicast(parsed) ? "" : `its public address ${ip} is not unicast`;
}

/** The bits of an address that lies in the network. */
export function addressIn(family: FamilyConfig | null, ip: string | null): bigint | undefined {
  const parsed = family && ip !== null ? parseIp(ip) : undefined;
  return parsed && family?.network.containsIp(parsed) ? parsed.value : undefined;
}

/** Whether a public address of `node` lies in a lease's subnets. */
export function holdsAddress(
  { subnet, ipv6Subnet }: Pick<Lease, "subnet" | "ipv6Subnet">,
  { attrs }: Lease,
): boolean {
  return (attrs.publicIP !== null && subnet?.containsIp(attrs.publicIP) === true) ||
    (attrs.publicIPv6 !== null && ipv6Subnet?.containsIp(attrs.publicIPv6) === true);
}

/** Whether one of a node's public addresses lies in the network. */
export function holdsHost(
  { ipv4, ipv6 }: NetworkConfig,
  { publicIP, publicIPv6 }: Pick<LeaseAttrs, "publicIP" | "publicIPv6">,
): boolean {
  return addressIn(ipv4, publicIP) !== undefined || addressIn(ipv6, publicIPv6) !== undefined;
}
