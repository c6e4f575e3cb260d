/**
 * Which leases in the store the agents skip, and why: by the agents' own rules, as a node sees them
 * that has no lease.
 *
 * @module
 */
import { backendFault } from "../backends/registry.ts";
import { ConfigError, type NetworkConfig, parseNetworkConfig } from "../subnet/config.ts";
import type { Lease } from "../subnet/types.ts";
import type { Candidate } from "../subnet/types.ts";
import { PeerTable } from "../subnet/validate.ts";

/** Stands for the lease of the node that looks; nothing conflicts with it. */
const NO_LEASE: Lease = {
  key: "",
  subnet: null,
  ipv6Subnet: null,
  attrs: { publicIP: null, publicIPv6: null, backendType: "" },
  expiration: null,
  revision: "0",
};

/**
 * The reasons by key; none where there is no valid network config to judge by.
 *
 * @param config the network config's text; undefined where there is none
 */
export function skippedLeases(
  config: string | undefined,
  candidates: readonly Candidate[],
): Map<string, string> {
  const network = parse(config);
  const reasons = new Map<string, string>();
  if (network === undefined) return reasons;
  const table = new PeerTable(network, NO_LEASE, (key, reason) => {
    if (reason === undefined) reasons.delete(key);
    else reasons.set(key, reason);
  });
  table.replace(candidates);
  for (const [key, { attrs }] of table.peers()) {
    const reason = backendFault(network, attrs.backendType);
    if (reason !== undefined) reasons.set(key, reason);
  }
  return reasons;
}

function parse(config: string | undefined): NetworkConfig | undefined {
  try {
    return config === undefined ? undefined : parseNetworkConfig(config);
  } catch (error) {
    if (error instanceof ConfigError) return undefined;
    throw error;
  }
}
