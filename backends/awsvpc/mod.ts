/**
 * aws-vpc: a route in the VPC's route table to the node's network interface. No encapsulation; the
 * VPC's router carries the packets, and the kernel needs no route besides its default one.
 *
 * The part that talks to EC2 is in `this_instance.ts`, and is loaded when the backend runs.
 *
 * @module
 */
import { ConfigError, type NetworkConfig } from "../../subnet/config.ts";
import type { Lease } from "../../subnet/types.ts";
import { LEAST_MTU, Options } from "../options.ts";
import type { Finding } from "../finding.ts";
import type { Patient } from "../types.ts";
import type { Backend, BackendInput, Skipped } from "../types.ts";

const TYPE = "aws-vpc";

/** Bytes of the largest IPv4 packet. */
const MOST_MTU = 65_535;

/**
 * Checks the options.
 *
 * @throws {ConfigError}
 */
export function validate(network: NetworkConfig): void {
  tableIdsOf(network);
  mtuOf(network);
}

/** @throws {ConfigError} as {@linkcode validate} */
export function effectiveOptions(network: NetworkConfig): Record<string, unknown> {
  const tableIds = tableIdsOf(network);
  const mtu = mtuOf(network);
  return {
    ...(tableIds.length === 0 ? {} : { RouteTableID: tableIds }),
    ...(mtu === Infinity ? {} : { MTU: mtu }),
  };
}

/**
 * The route tables that the config names; none: that of the node's VPC subnet.
 *
 * @throws {ConfigError}
 */
export function tableIdsOf(network: NetworkConfig): string[] {
  const ids = new Options(network.backend.options).texts("RouteTableID");
  for (const id of ids) {
    if (!/^rtb-[0-9a-f]+$/.test(id)) {
      throw new ConfigError(
        `Backend.RouteTableID: ${JSON.stringify(id)} is not a route table's id like "rtb-6f23030a"`,
      );
    }
  }
  return [...new Set(ids)];
}

/**
 * Bytes of the MTU that the config sets for containers; Infinity where it sets none.
 *
 * @throws {ConfigError}
 */
export function mtuOf(network: NetworkConfig): number {
  const mtu = new Options(network.backend.options).integer("MTU", 0, 0, MOST_MTU);
  const least = network.ipv6 ? LEAST_MTU.ipv6 : LEAST_MTU.ipv4;
  if (mtu === 0) return Infinity;
  if (mtu < least) throw new ConfigError(`Backend.MTU: ${mtu} is too small: use ${least} or more`);
  return mtu;
}

/**
 * Makes the aws-vpc backend.
 *
 * @throws {ConfigError}
 */
export function create({ network, iface }: BackendInput): Backend {
  const tableIds = tableIdsOf(network);
  return {
    type: TYPE,
    summary: `Backend configured as: ${JSON.stringify({ Type: TYPE, ...network.backend.options })}`,
    // A packet larger than the interface's MTU would not leave the node.
    mtu: Math.min(iface.mtu, mtuOf(network)),
    attrs: { publicIP: iface.publicIP, publicIPv6: iface.publicIPv6, backendType: TYPE },
    devices: [],
    state: (_lease, peers) => ({
      kernel: { links: [], addresses: [], routes: [], neighbours: [], fdb: [] },
      skipped: skippedOf(peers),
    }),
    outside: async (lease) => {
      const { ofThisInstance } = await import("./this_instance.ts");
      return ofThisInstance({ network, lease, tableIds, ip: (iface.ip ?? iface.ipv6)! });
    },
  };
}

/** The doctor's part: permissions, source/dest check, route tables, security groups and MTU. */
export async function* examine(patient: Patient): AsyncGenerator<Finding> {
  const { network, iface, lease, peers, host } = patient;
  const { examine, nodeAddresses } = await import("./doctor.ts");
  const addresses = nodeAddresses(await host.interfaces(), iface);
  yield* examine({
    ...{ network, addresses, isChosen: true, tableIds: tableIdsOf(network), mtu: mtuOf(network) },
    leases: lease === undefined ? [...peers] : [lease, ...peers],
  });
}

/** flannel's aws-vpc leases name no backend. */
function skippedOf(peers: Iterable<Lease>): Skipped[] {
  const skipped: Skipped[] = [];
  for (const { key, attrs: { backendType } } of peers) {
    if (backendType === TYPE || backendType === "") continue;
    skipped.push({
      key,
      reason: `its backend is ${JSON.stringify(backendType)}, this node's is ${TYPE}`,
    });
  }
  return skipped;
}
