/**
 * The backends by the name that the network config calls them. A new one is a file here and a line
 * in {@linkcode BACKENDS}; each is imported only when it is asked for.
 *
 * @module
 */
import { ConfigError, type NetworkConfig } from "../subnet/config.ts";
import { quote } from "../base/json.ts";
import { nearest } from "../base/nearest.ts";
import type { BackendModule } from "./types.ts";

const BACKENDS: Record<string, () => Promise<BackendModule>> = {
  "vxlan": () => import("./vxlan/mod.ts"),
  "host-gw": () => import("./hostgw.ts"),
  "udp": () => import("./udp/mod.ts"),
  "aws-vpc": () => import("./awsvpc/mod.ts"),
  "alloc": () => import("./alloc.ts"),
};

/** Their names. */
export const BACKEND_NAMES = Object.keys(BACKENDS);

/** Backends of Go flannel that are not here, and what to use instead. */
const OTHERS: Record<string, string> = {
  "wireguard": "use vxlan or udp in a network that you trust: neither encrypts",
  "ipsec": "use vxlan or udp in a network that you trust: neither encrypts",
  "ipip": "use vxlan, or host-gw where all nodes are on one L2 segment",
  "extension": "use alloc, and set up the forwarding between the nodes yourself",
  "gce": "use vxlan, which works in any cloud",
  "ali-vpc": "use vxlan, which works in any cloud",
  "tencent-vpc": "use vxlan, which works in any cloud",
};

/**
 * The module of the backend that `network` names.
 *
 * @throws {ConfigError} for a type that is not there
 */
export async function loadBackend(network: NetworkConfig): Promise<BackendModule> {
  const load = Object.hasOwn(BACKENDS, network.backend.type)
    ? BACKENDS[network.backend.type]
    : undefined;
  if (load === undefined) throw new ConfigError(`Backend.Type: ${absent(network.backend.type)}`);
  return await load();
}

/** What to say of a type that is not there. */
function absent(type: string): string {
  if (Object.hasOwn(OTHERS, type)) {
    return `this version has no ${type} backend (it has ${BACKEND_NAMES.join(", ")}); ${
      OTHERS[type]
    }`;
  }
  const meant = nearest(type, [...BACKEND_NAMES, ...Object.keys(OTHERS)]);
  const advice = meant === undefined ? "" : `; did you mean ${meant}?`;
  return `${quote(type)} is not one of ${BACKEND_NAMES.join(", ")}${advice}`;
}

/**
 * Checks the backend's name and options.
 *
 * @throws {ConfigError} naming the key, its value and what it must be
 */
export async function validateBackendConfig(network: NetworkConfig): Promise<void> {
  (await loadBackend(network)).validate(network);
}

/** The backend's options as they are in force: {@linkcode BackendModule.effectiveOptions}. */
export async function effectiveOptions(network: NetworkConfig): Promise<Record<string, unknown>> {
  return (await loadBackend(network)).effectiveOptions(network);
}

/** Backends whose leases may name no type, as flannel's do. */
const UNNAMED = new Set(["udp", "aws-vpc"]);

/** Why the network's backend skips a lease that announces `type`; undefined where it does not. */
export function backendFault({ backend }: NetworkConfig, type: string): string | undefined {
  // alloc carries packets to nobody.
  if (type === backend.type || backend.type === "alloc") return undefined;
  if (type === "" && UNNAMED.has(backend.type)) return undefined;
  return `its backend is ${quote(type || "udp")}, the network's is ${backend.type}`;
}
