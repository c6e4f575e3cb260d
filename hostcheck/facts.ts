/**
 * What the checks of a host are made from: those that the agent makes at its start and the doctor's.
 *
 * @module
 */
import type { Backend, PublicInterface } from "../backends/types.ts";
import type { DataPlane } from "../dataplane/mod.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import type { Lease } from "../subnet/types.ts";

/** Peers that are looked at, however many there are. */
const MOST_PEERS = 64;

/** The node, as far as it is known. */
export interface HostFacts {
  network: NetworkConfig;
  backend: Backend;
  iface: PublicInterface;
  /** This node's; undefined where it has none. */
  lease: Lease | undefined;
  peers: readonly Lease[];
}

/** What is asked of the kernel. */
export type HostSource = Pick<
  DataPlane,
  "interfaces" | "defaultRoutes" | "routesTo" | "overlaps" | "reversePath" | "otherAgent"
>;

/** Some of many: evenly spread, so that no part of the list is left out. */
export function sample<T>(all: readonly T[], most = MOST_PEERS): T[] {
  if (all.length <= most) return [...all];
  return Array.from({ length: most }, (_, at) => all[Math.floor(at * all.length / most)]);
}

/** A subject for a message: the first few, and how many more. */
export function named(all: readonly string[], most = 3): string {
  const shown = all.slice(0, most).join(", ");
  return all.length > most ? `${shown} and ${all.length - most} more` : shown;
}
