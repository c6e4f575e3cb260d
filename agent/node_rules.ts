/**
 * The node's traffic rules: what they are made from, and when they are checked.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Cidr } from "../base/cidr.ts";
import type { DataPlane } from "../dataplane/mod.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import type { Lease } from "../subnet/types.ts";
import { createTrafficRules, type TrafficRules, trafficRules } from "../traffic/mod.ts";
import type { AgentOptions, TrafficOptions } from "./options.ts";

const log = getLogger(["flanneld", "agent"]);

/** See the module. */
export class NodeRules {
  readonly #options: TrafficOptions;
  readonly #network: NetworkConfig;
  /** Of the packet filter that the network config names. */
  readonly rules: TrafficRules;
  /** The data plane tells when rules may have changed. */
  #isWatched = false;

  constructor(
    { traffic, subnetFile }: Pick<AgentOptions, "traffic" | "subnetFile">,
    network: NetworkConfig,
  ) {
    this.#options = traffic;
    this.#network = network;
    this.rules = createTrafficRules(network.enableNFTables ? "nftables" : "iptables", {
      policy: traffic.forwardPolicy,
      subnetFile,
    });
  }

  /** Has the data plane tell of changes; where it cannot, the rules are checked each period. */
  watch(dataplane: Pick<DataPlane, "watchPacketFilter">): void {
    const { resyncSeconds } = this.#options;
    try {
      dataplane.watchPacketFilter(resyncSeconds);
      this.#isWatched = true;
    } catch (error) {
      log.warn("Checking the traffic rules every {seconds} s: {error}", {
        seconds: resyncSeconds,
        error: String(error),
      });
    }
  }

  /** Puts the rules for a lease in place, and keeps them until `signal` aborts. */
  async keep(lease: Lease, signal: AbortSignal): Promise<void> {
    const { ipMasq, forwardRules, randomFully, resyncSeconds } = this.#options;
    const family = (of: { network: Cidr } | null, subnet: Cidr | null) =>
      of && subnet && { network: `${of.network}`, subnet: `${subnet}` };
    const wanted = trafficRules({
      ipv4: family(this.#network.ipv4, lease.subnet),
      ipv6: family(this.#network.ipv6, lease.ipv6Subnet),
      ipMasq,
      randomFully,
      forwardRules,
    });
    await this.rules.keep(wanted, resyncSeconds, signal, this.#isWatched);
  }
}
