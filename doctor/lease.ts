/**
 * Whether etcd has this node's lease, and whether the subnet file says the same.
 *
 * @module
 */
import { LeaseFile, leaseFileOf } from "../agent/lease_file.ts";
import { gateway, readSubnetFile } from "../agent/subnet_file.ts";
import { fail, type Finding, pass, warn } from "../backends/finding.ts";
import type { Backend, PublicInterface } from "../backends/types.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import type { StoredLease } from "../subnet/etcd/store.ts";
import { announces, isHeld } from "../subnet/etcd/former.ts";
import type { Lease } from "../subnet/types.ts";
import type { StoreFacts } from "./store.ts";

/** Seconds of a lease that are too few: it should have been renewed long before. */
const FEW = 300;

/** The lease of this node among those in etcd: the one it remembers, or the one with its address. */
export function ownLease(
  { snapshot: { cluster, leases } }: StoreFacts,
  addresses: Pick<PublicInterface, "publicIP" | "publicIPv6">,
  subnetFile: string,
): StoredLease | undefined {
  const held = new LeaseFile(leaseFileOf(subnetFile)).recall();
  const remembered = leases.find((stored) => stored.lease && isHeld(stored, cluster, held));
  return remembered ?? leases.find((stored) => announces(stored, addresses));
}

/** What the lease is compared with. */
export interface LeasePatient {
  stored: StoredLease | undefined;
  iface: PublicInterface;
  isRunning: boolean;
  /** Of {@link subnetFile}. */
  hasSubnetFile: boolean;
  store: StoreFacts;
}

/** Checks the lease in etcd. */
export async function* examineLease(patient: LeasePatient): AsyncGenerator<Finding> {
  const { stored, iface, isRunning, hasSubnetFile, store } = patient;
  const check = "lease";
  const lease = stored?.lease;
  const address = iface.publicIP ?? iface.publicIPv6;
  if (stored === undefined || !lease) {
    const detail = `etcd has no lease for this node (public address ${address})`;
    if (isRunning) yield fail(check, detail, "see the log of flanneld for the reason");
    else if (hasSubnetFile) {
      yield fail(check, `${detail}: other nodes may take its subnet`, "start flanneld");
    } else yield warn(check, detail, "start flanneld, which leases a subnet");
    return;
  }
  const { publicIP, publicIPv6 } = lease.attrs;
  const announced = publicIP ?? publicIPv6;
  const subnets = [lease.subnet, lease.ipv6Subnet].filter(Boolean).join(" and ");
  if (publicIP !== iface.publicIP || publicIPv6 !== iface.publicIPv6) {
    yield fail(
      check,
      `${subnets} announces ${announced}, while this node's public address is ${address}: peers ` +
        "send elsewhere",
      isRunning ? "give doctor the same flags as flanneld, or restart flanneld" : "start flanneld",
    );
    return;
  }
  yield await ending(`${subnets}, announced as ${announced}`, stored, patient, store);
}

async function ending(
  what: string,
  { leaseId }: StoredLease,
  { isRunning }: LeasePatient,
  store: StoreFacts,
): Promise<Finding> {
  if (leaseId === "0") return pass("lease", `${what}, a reservation that never expires`);
  const seconds = await store.timeToLive(leaseId);
  const detail = `${what}, expires in ${durationText(seconds)}`;
  if (seconds > FEW || isRunning) return pass("lease", detail);
  return warn("lease", detail, "start flanneld, which renews it");
}

function durationText(seconds: number): string {
  const minutes = Math.floor(Math.max(seconds, 0) / 60);
  return minutes < 1
    ? `${Math.max(seconds, 0)} s`
    : minutes < 60
    ? `${minutes} min`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Checks the subnet file against the lease. */
export async function* examineSubnetFile(
  path: string,
  { network, backend, lease, isRunning }: {
    network: NetworkConfig;
    backend: Backend;
    lease: Lease | undefined;
    isRunning: boolean;
  },
): AsyncGenerator<Finding> {
  const check = "subnet file";
  const values = readSubnetFile(path);
  if (values === undefined) {
    const detail = `${path} does not exist`;
    yield isRunning
      ? fail(check, `${detail}: flanneld is not ready`, "see its log for the reason")
      : warn(check, detail, "start flanneld, which writes it");
    return;
  }
  if (lease === undefined) return;
  const expected: [key: string, value: string | undefined][] = [
    ["FLANNEL_NETWORK", network.ipv4 && `${network.ipv4.network}`],
    ["FLANNEL_SUBNET", lease.subnet && gateway(lease.subnet)],
    ["FLANNEL_IPV6_NETWORK", network.ipv6 && `${network.ipv6.network}`],
    ["FLANNEL_IPV6_SUBNET", lease.ipv6Subnet && gateway(lease.ipv6Subnet)],
    ["FLANNEL_MTU", `${backend.mtu}`],
  ].map(([key, value]) => [key!, value ?? undefined]);
  const wrong = expected.filter(([key, value]) => values.get(key) !== value);
  if (wrong.length === 0) {
    yield pass(check, `${path} matches the lease`);
    return;
  }
  const differences = wrong.map(([key, value]) =>
    `${key} is ${values.get(key) ?? "absent"} and should be ${value ?? "absent"}`
  );
  yield fail(
    check,
    `${path}: ${differences.join(", ")}`,
    "restart flanneld, then the container runtime",
  );
}
