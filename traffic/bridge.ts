/**
 * Finds the containers' bridge.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";

/**
 * The device that has an address of the subnet under the subnet's own length; the backends' devices
 * have the subnet's first address as a single one. Undefined where there is none.
 *
 * @param subnet `BASE/LENGTH`
 */
export function bridgeOf(subnet: string): string | undefined {
  const wanted = Cidr.parse(subnet);
  return Deno.networkInterfaces().find(({ cidr }) => {
    try {
      return Cidr.parse(cidr).equals(wanted);
    } catch {
      return false;
    }
  })?.name;
}
