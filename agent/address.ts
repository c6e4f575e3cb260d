/**
 * Which of an interface's addresses the node uses: global before link-local, static before dynamic,
 * then the kernel's order; and when it gives one up for another.
 *
 * @module
 */
import type { InterfaceAddress } from "../dataplane/state.ts";
import { isLinkLocal, isLoopback, tryParseIp } from "../base/cidr.ts";

/** The addresses of one family that peers can be told, best first. */
export function usableAddresses(
  addresses: readonly InterfaceAddress[],
  v6: boolean,
): InterfaceAddress[] {
  return addresses
    .filter((address) => isOf(address, v6) && isUsable(address, v6))
    // The sort is stable: among equals the kernel's order decides.
    .sort((one, other) => rank(one) - rank(other));
}

/**
 * The address to use; null if none is usable. One that is in use already stays in use for as long as
 * it is there, whatever better ones come, unless it is link-local, deprecated or another host's.
 */
export function selectAddress(
  addresses: readonly InterfaceAddress[],
  v6: boolean,
  inUse: string | null = null,
): string | null {
  const usable = usableAddresses(addresses, v6);
  const current = addresses.find(({ ip }) => ip === inUse);
  if (current === undefined || current.duplicate) return usable[0]?.ip ?? null;
  const better = usable.find((address) => !isLinkLocalAddress(address));
  const isPoor = isLinkLocalAddress(current) || current.deprecated;
  return isPoor && better !== undefined ? better.ip : current.ip;
}

/** Why none of the addresses of a family is usable, for an error: ` (fe80::1 is link-local)`. */
export function unusableReason(addresses: readonly InterfaceAddress[], v6: boolean): string {
  const reasons = addresses.filter((address) => isOf(address, v6)).flatMap((address) => {
    const { ip, scope } = address;
    if (address.duplicate) return `${ip} is in use by another host`;
    if (address.tentative) return `${ip} is still tentative`;
    if (address.deprecated) return `${ip} is deprecated`;
    if (address.temporary) return `${ip} is temporary`;
    return scope === "host" ? `${ip} has scope host` : [];
  });
  return reasons.length === 0 ? "" : ` that can be used (${reasons.join(", ")})`;
}

function isOf({ ip }: InterfaceAddress, v6: boolean): boolean {
  return ip.includes(":") === v6;
}

function isUsable(address: InterfaceAddress, v6: boolean): boolean {
  const { ip, scope, temporary, deprecated, tentative, duplicate } = address;
  if (temporary || deprecated || tentative || duplicate || scope === "host") return false;
  const parsed = tryParseIp(ip);
  if (parsed === undefined || isLoopback(parsed)) return false;
  // An IPv6 link-local address names a host only together with one's own interface.
  return !(v6 && isLinkLocalAddress(address));
}

function rank(address: InterfaceAddress): number {
  const reach = isLinkLocalAddress(address) ? 2 : address.scope === "site" ? 1 : 0;
  return 2 * reach + (address.dynamic ? 1 : 0);
}

function isLinkLocalAddress({ ip, scope }: InterfaceAddress): boolean {
  const parsed = tryParseIp(ip);
  return scope === "link" || (parsed !== undefined && isLinkLocal(parsed));
}
