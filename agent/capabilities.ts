/**
 * What the agent must be allowed to do.
 *
 * @module
 */
import type { DataPlane } from "../dataplane/mod.ts";
import { UsageError } from "./errors.ts";

/** All that {@linkcode DataPlane.missingCapabilities} may name. */
const NEEDED = ["CAP_NET_ADMIN", "CAP_NET_RAW"];

/**
 * To be called before a lease is claimed: peers would send to a node that cannot set up anything.
 *
 * @param action what the capabilities are for, as the message names it
 * @throws {UsageError} where a capability is missing
 */
export function requireCapabilities(dataplane: DataPlane, action = "set up networking"): void {
  const fault = capabilityFault(dataplane.missingCapabilities(), action);
  if (fault !== undefined) throw new UsageError(fault);
}

/** What to say where these capabilities are missing; undefined where none is. */
export function capabilityFault(missing: readonly string[], action: string): string | undefined {
  if (missing.length === 0) return undefined;
  // Where all are missing, the advice names them.
  const without = missing.length < NEEDED.length ? ` without ${missing.join(" and ")}` : "";
  return `cannot ${action}${without}: run as root or with ${NEEDED.join(" and ")}`;
}
