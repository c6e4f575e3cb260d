/** What the agent's unit tests share. */
import type { InterfaceAddress } from "../dataplane/state.ts";

/** An address of an interface: static and in use by nobody else, unless `more` says otherwise. */
export function address(
  ip: string,
  prefixLength: number,
  more: Partial<InterfaceAddress> = {},
): InterfaceAddress {
  return {
    ip,
    prefixLength,
    scope: "global",
    dynamic: false,
    temporary: false,
    deprecated: false,
    tentative: false,
    duplicate: false,
    ...more,
  };
}
