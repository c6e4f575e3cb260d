/**
 * The backends by the name that the network config calls them. A new one is a file here and a line
 * in {@linkcode BACKENDS}; each is imported only when it is asked for.
 *
 * @module
 */
import { ConfigError, type NetworkConfig } from "../subnet/config.ts";
import { quote } from "../subnet/json.ts";
import { nearest } from "../subnet/nearest.ts";
import type { BackendModule } from "./types.ts";

const BACKENDS: Record<string, () => Promise<BackendModule>> = {
  "vxlan": () => import("./vxlan.ts"),
  "host-gw": () => import("./hostgw.ts"),
  "udp": () => import("./udp.ts"),
  "aws-vpc": () => import("./awsvpc.ts"),
  "alloc": () => import("./alloc.ts"),
};

/** Backends of Go flannel that are not here: nobody who names one means another. */
const OTHERS = ["wireguard", "ipip", "ipsec", "extension", "gce", "ali-vpc", "tencent-vpc"];

/**
 * The module of the backend that `network` names.
 *
 * @throws {ConfigError} for a type that is not there
 */
export async function loadBackend(network: NetworkConfig): Promise<BackendModule> {
  const load = Object.hasOwn(BACKENDS, network.backend.type)
    ? BACKENDS[network.backend.type]
    : undefined;
  if (load === undefined) {
    const names = Object.keys(BACKENDS);
    const { type } = network.backend;
    const meant = OTHERS.includes(type) ? undefined : nearest(type, names);
    throw new ConfigError(
      `Backend.Type: ${quote(network.backend.type)} is not one of ${names.join(", ")}` +
        (meant === undefined ? "" : `; did you mean ${meant}?`),
    );
  }
  return await load();
}

/**
 * Checks the backend's name and options.
 *
 * @throws {ConfigError} naming the key, its value and what it must be
 */
export async function validateBackendConfig(network: NetworkConfig): Promise<void> {
  (await loadBackend(network)).validate(network);
}
