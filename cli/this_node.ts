/**
 * Which lease is this node's, for commands that run without the agent.
 *
 * @module
 */
import { LeaseFile, leaseFileOf } from "../agent/lease_file.ts";
import { previousSubnets } from "../agent/subnet_file.ts";
import type { HeldLease, Lease, NodeLease, PreviousSubnets } from "../subnet/types.ts";
import { withFile } from "./files.ts";
import type { Settings } from "./parse.ts";

/** What this node is known by. */
export interface ThisNode {
  /** Addresses of its interfaces and those of `--public-ip` and `--public-ipv6`. */
  addresses: ReadonlySet<string>;
  /** From the subnet file. */
  previous: PreviousSubnets;
  /** From the lease file. */
  held?: HeldLease;
}

/** Reads flags, interfaces, subnet file and lease file. */
export function thisNode({ values }: Settings): ThisNode {
  const path = values["subnet-file"];
  const addresses = Deno.networkInterfaces().map(({ address }) => address);
  return {
    addresses: new Set([...addresses, values["public-ip"], values["public-ipv6"]]),
    previous: withFile("read", path, () => previousSubnets(path)),
    held: new LeaseFile(leaseFileOf(path)).recall(),
  };
}

/** Whether a lease announces an address of this node. */
export function announcesUs({ attrs }: Lease, node: ThisNode): boolean {
  return [attrs.publicIP, attrs.publicIPv6].some((ip) => ip !== null && node.addresses.has(ip));
}

/** Whether a lease is this node's: by what it remembers, or by its address. */
export function isOurs(lease: NodeLease, node: ThisNode): boolean {
  return lease.isHeld === true || announcesUs(lease, node);
}

/** Whether a lease is for the subnet in this node's subnet file. */
function inSubnetFile(lease: Lease, { previous }: ThisNode): boolean {
  const { subnet, ipv6Subnet } = previous;
  if (!subnet && !ipv6Subnet) return false;
  return (!subnet || lease.subnet?.equals(subnet) === true) &&
    (!ipv6Subnet || lease.ipv6Subnet?.equals(ipv6Subnet) === true);
}

/**
 * The leases that are this node's: the one that it remembers, and those that announce its address.
 *
 * @throws Error for one that is only in the subnet file: it may be another node's by now
 */
export function ownLeases(leases: readonly NodeLease[], node: ThisNode): Lease[] {
  const ours = leases.filter((lease) => isOurs(lease, node));
  if (ours.length > 0) return ours;
  const former = leases.find((lease) => inSubnetFile(lease, node));
  if (!former) return [];
  const { publicIP, publicIPv6 } = former.attrs;
  const flag = publicIP === null ? `--public-ipv6=${publicIPv6}` : `--public-ip=${publicIP}`;
  throw new Error(
    `the lease ${former.key} in the subnet file announces ${publicIP ?? publicIPv6}, which no ` +
      `interface here has: add ${flag} if it belongs to this node`,
  );
}

/** Reports on standard error an entry of the store that is not a lease. */
export function warnRefused(key: string, reason: string): void {
  console.error(`flanneld: warning: skipped the lease ${JSON.stringify(key)}: ${reason}`);
}
