/**
 * What a backend's own checks of a node are made from.
 *
 * @module
 */
import type { DataPlane } from "../dataplane/mod.ts";
import type { KernelState } from "../dataplane/state.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import type { Lease } from "../subnet/types.ts";
import type { PublicInterface } from "./types.ts";

/** The node that is examined. */
export interface Patient {
  network: NetworkConfig;
  iface: PublicInterface;
  /** This node's; undefined where it has none. */
  lease: Lease | undefined;
  /** Valid leases of other nodes. */
  peers: readonly Lease[];
  /** What should be in the kernel. */
  kernel: KernelState;
  /** Whether an agent runs here. */
  isRunning: boolean;
  host: Pick<DataPlane, "interfaces" | "udpPort" | "features">;
}
