/**
 * vxlan: the kernel's VXLAN device carries the packets (RFC 7348).
 *
 * One device a family, `flannel.VNI` and `flannel-v6.VNI`. A peer's subnet is routed to the peer's
 * base address on the device, a permanent neighbour entry gives that address the peer's VTEP MAC,
 * and an fdb entry sends frames for the MAC to the peer's public address: no broadcast, no
 * learning. Formats as flannel's (Documentation/backends.md#vxlan).
 *
 * @module
 */
import type { KernelState, VxlanLink } from "../dataplane/state.ts";
import type { Cidr } from "../subnet/cidr.ts";
import { ConfigError, type NetworkConfig } from "../subnet/config.ts";
import type { Lease, LeaseAttrs } from "../subnet/types.ts";
import { onLink } from "./onlink.ts";
import { Options } from "./options.ts";
import type { Backend, BackendInput, BackendState, Skipped } from "./types.ts";

/** Outer Ethernet, IP, UDP and VXLAN headers less the inner Ethernet's place in the lower MTU. */
const OVERHEAD_V4 = 50;
const OVERHEAD_V6 = 70;

interface VxlanOptions {
  vni: number;
  port: number;
  /** MTU of the path between hosts; 0: the public interface's. */
  mtu: number;
  gbp: boolean;
  learning: boolean;
  directRouting: boolean;
}

function parse(network: NetworkConfig): VxlanOptions {
  const options = new Options(network.backend.options);
  const mtu = options.integer("MTU", 0, 0, 65_535);
  const least = (network.ipv6 ? 1280 + OVERHEAD_V6 : 576 + OVERHEAD_V4);
  if (mtu !== 0 && mtu < least) {
    throw new ConfigError(
      `Backend.MTU: ${mtu} leaves too little for an inner packet, give ${least} or more`,
    );
  }
  return {
    vni: options.integer("VNI", 1, 1, 0xff_ffff),
    port: options.integer("Port", 8472, 0, 65_535) || 8472,
    mtu,
    gbp: options.boolean("GBP", false),
    learning: options.boolean("Learning", false),
    directRouting: options.boolean("DirectRouting", false),
  };
}

/** Checks the options. @throws {ConfigError} */
export function validate(network: NetworkConfig): void {
  parse(network);
}

/** The two halves of a dual-stack network differ in these only. */
interface Half {
  device: VxlanLink;
  /** Length of a single address: 32 or 128. */
  hostLength: number;
  subnet(lease: Lease): Cidr | null;
  publicIP(lease: Lease): string | null;
  data(lease: Lease): unknown;
}

/** Makes the vxlan backend. @throws {ConfigError} */
export function create(input: BackendInput): Backend {
  const { network, iface } = input;
  const options = parse(network);
  const lower = options.mtu || iface.mtu;
  const halves: Half[] = [];
  if (network.ipv4) {
    halves.push({
      device: device(input, options, `flannel.${options.vni}`, iface.ip, lower - OVERHEAD_V4, {
        type: "data",
      }),
      hostLength: 32,
      subnet: (lease) => lease.subnet,
      publicIP: (lease) => lease.attrs.publicIP,
      data: (lease) => lease.attrs.backendData,
    });
  }
  return new Vxlan(input, options, halves);
}
