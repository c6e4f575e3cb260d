/**
 * What a lease tells of a node of this backend.
 *
 * @module
 */
import type { Lease } from "../../subnet/types.ts";
import type { Eni } from "./types.ts";

/** Whether a network interface has a lease's address. */
export function has({ addresses }: Eni, { attrs: { publicIP, publicIPv6 } }: Lease): boolean {
  return [publicIP, publicIPv6].some((ip) => ip !== null && addresses.includes(ip));
}

/** Whether a lease is one of this backend. flannel's name none, as udp's do: their routes stay. */
export function isOfVpc({ attrs }: Lease): boolean {
  return attrs.backendType === "aws-vpc";
}
