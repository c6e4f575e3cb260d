/**
 * What the agent must be allowed to do.
 *
 * @module
 */
import type { DataPlane } from "../dataplane/mod.ts";
import { UsageError } from "./errors.ts";

/**
 * To be called before a lease is claimed: peers would send to a node that cannot set up anything.
 *
 * @throws {UsageError} where a capability is missing
 */
export function requireCapabilities(dataplane: DataPlane): void {
  const missing = dataplane.missingCapabilities();
  if (missing.length === 0) return;
  throw new UsageError(
    `cannot set up networking without ${missing.join(" and ")}: run as root or with ` +
      "CAP_NET_ADMIN and CAP_NET_RAW",
  );
}
