/**
 * What the log says when the network config in the store changes. An agent reads it at its start; a
 * change needs a restart, and one that is taken back does not.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import {
  ConfigError,
  type FamilyConfig,
  type NetworkConfig,
  parseNetworkConfig,
} from "../subnet/config.ts";
import { Budget } from "../base/reports.ts";

const log = getLogger(["flanneld", "agent"]);

/** Compares each config of the store with the one that the agent runs with. */
export class ConfigWatch {
  readonly #running: string;
  /** The last change that a line was about; undefined while the config is the running one. */
  #told: string | undefined;
  /** For lines about changes: ten, then one in ten seconds. */
  readonly #lines = new Budget(10, 0.1);

  /** Checks the backend's part of a config. @throws {ConfigError} */
  readonly #check: (network: NetworkConfig) => Promise<void>;
  /** The newest config that was taken. */
  #newest: string | undefined;

  /** @param network the config that the agent runs with */
  constructor(network: NetworkConfig, check: (network: NetworkConfig) => Promise<void>) {
    this.#running = meaningOf(network);
    this.#check = check;
  }

  /** Takes a config as it is stored now; undefined where it was deleted. */
  async changed(raw: string | undefined): Promise<void> {
    this.#newest = raw;
    const line = await this.#lineAbout(raw);
    if (raw !== this.#newest || line === this.#told) return;
    if (line === undefined) {
      log.info(
        "The network config in etcd again matches the one that this agent uses; no restart is needed",
      );
    } else {
      if (!this.#lines.take()) return;
      log.warn("{line}", { line });
    }
    this.#told = line;
  }

  async #lineAbout(raw: string | undefined): Promise<string | undefined> {
    if (raw === undefined) {
      return "The network config was deleted from etcd; this agent keeps using the one it has";
    }
    try {
      const network = parseNetworkConfig(raw);
      if (meaningOf(network) === this.#running) return undefined;
      await this.#check(network);
      return "The network config was changed in etcd; restart flanneld to apply it";
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      return "The network config was changed in etcd to an invalid one: " +
        `${error.message}; correct it before the next restart; this agent keeps using the one it has`;
    }
  }
}

/** What a config comes to: the same for two that differ in blanks, order or letters' case. */
function meaningOf({ ipv4, ipv6, enableNFTables, backend }: NetworkConfig): string {
  const options = Object.entries(backend.options)
    .filter(([, value]) => value !== null)
    .map(([key, value]) => [key.toLowerCase(), value] as const)
    .sort(([a], [b]) => a < b ? -1 : 1);
  return JSON.stringify([familyOf(ipv4), familyOf(ipv6), enableNFTables, backend.type, options]);
}

function familyOf(family: FamilyConfig | null): unknown[] {
  if (family === null) return [];
  const { network, subnetLength, min, max } = family;
  return [`${network}`, subnetLength, `${min}`, `${max}`];
}
