/**
 * udp: the data plane carries the packets itself, between a TUN device and a UDP socket. Works where
 * nothing but UDP passes and the kernel has no vxlan.
 *
 * One datagram is one inner IP packet, as in flannel's udp backend; IPv6 subnets and IPv6 endpoints
 * are ours alone. The whole network is routed to the device, and the tunnel finds the peer.
 *
 * @module
 */
import type { KernelState, TunnelPeer, TunnelState } from "../../dataplane/state.ts";
import type { Cidr } from "../../base/cidr.ts";
import type { NetworkConfig } from "../../subnet/config.ts";
import { quote } from "../../base/json.ts";
import type { Lease } from "../../subnet/types.ts";
import { Options } from "../options.ts";
import type { Finding } from "../finding.ts";
import type { Patient } from "../types.ts";
import type { Backend, BackendInput, BackendState, Skipped } from "../types.ts";

/** Outer IP (RFC 791, RFC 8200) and UDP (RFC 768) headers. */
const OVERHEAD_IPV4 = 20 + 8;
const OVERHEAD_IPV6 = 40 + 8;

/**
 * Checks the options.
 *
 * @throws {ConfigError}
 */
export function validate(network: NetworkConfig): void {
  parsePort(network);
}

/** @throws {ConfigError} as {@linkcode validate} */
export function effectiveOptions(network: NetworkConfig): Record<string, unknown> {
  return { Port: parsePort(network) };
}

function parsePort(network: NetworkConfig): number {
  return new Options(network.backend.options).integer("Port", 8285, 1, 65_535);
}

/**
 * Makes the udp backend.
 *
 * @throws {ConfigError}
 */
export function create({ network, iface, existing }: BackendInput): Backend {
  const port = parsePort(network);
  // Nodes of a network with IPv4 reach each other over IPv4, whatever the inner packets are.
  const overIpv4 = network.ipv4 !== null;
  const tunnel = {
    name: freeName(new Set(existing.filter(({ owned }) => !owned).map(({ name }) => name))),
    mtu: iface.mtu - (overIpv4 ? OVERHEAD_IPV4 : OVERHEAD_IPV6),
    port,
    local: [(overIpv4 ? iface.ip : iface.ipv6)!],
  };
  return {
    type: "udp",
    summary: `UDP config: Port=${port}`,
    mtu: tunnel.mtu,
    outerMtu: iface.mtu,
    // flannel's udp leases name no backend.
    attrs: { publicIP: iface.publicIP, publicIPv6: iface.publicIPv6, backendType: "" },
    devices: [tunnel.name],
    additive: true,
    state: (lease, peers) => state(network, overIpv4, tunnel, lease, peers),
  };
}

/** The doctor's part. */
export async function* examine(patient: Patient): AsyncGenerator<Finding> {
  yield* (await import("./checks.ts")).examine(patient);
}

/** `flannel0`, or the next number that no other device has. */
function freeName(taken: Set<string>): string {
  let number = 0;
  while (taken.has(`flannel${number}`)) number++;
  return `flannel${number}`;
}

function state(
  network: NetworkConfig,
  overIpv4: boolean,
  tunnel: Omit<TunnelState, "subnets" | "peers">,
  lease: Lease,
  leases: Iterable<Lease>,
): BackendState {
  const peers: TunnelPeer[] = [];
  const skipped: Skipped[] = [];
  for (const { key, attrs, ...subnets } of leases) {
    const endpoint = overIpv4 ? attrs.publicIP : attrs.publicIPv6;
    if (attrs.backendType !== "" && attrs.backendType !== "udp") {
      skipped.push({
        key,
        reason: `its backend is ${quote(attrs.backendType)}, this node's is udp`,
      });
    } else if (endpoint === null) {
      skipped.push({ key, reason: `it has no public ${overIpv4 ? "IPv4" : "IPv6"} address` });
    } else {
      peers.push({ subnets: subnetsOf(subnets), endpoint });
    }
  }
  const dev = tunnel.name;
  const halves = [
    { network: network.ipv4?.network, subnet: lease.subnet, length: 32 },
    { network: network.ipv6?.network, subnet: lease.ipv6Subnet, length: 128 },
  ].filter(({ network, subnet }) => network && subnet);
  const kernel: KernelState = {
    tunnel: { ...tunnel, subnets: subnetsOf(lease), peers },
    links: [],
    addresses: halves.map(({ subnet, length }) => ({ dev, cidr: `${subnet!.address}/${length}` })),
    routes: halves.map(({ network }) => ({ dst: `${network}`, dev })),
    neighbours: [],
    fdb: [],
  };
  return { kernel, skipped };
}

function subnetsOf({ subnet, ipv6Subnet }: Pick<Lease, "subnet" | "ipv6Subnet">): string[] {
  return [subnet, ipv6Subnet].filter((one): one is Cidr => one !== null).map(String);
}
