/**
 * The first start on a node on which flannel ran before: flannel's host-gw and DirectRouting leave
 * routes that nothing marks as flannel's, and that would outlive their peers.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { DataPlane } from "../dataplane/mod.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import { leaseFileOf } from "./lease_file.ts";
import { exists } from "./subnet_file.ts";

const log = getLogger(["flanneld", "agent"]);

/** Routes named in the log line. */
const MOST_NAMES = 5;

/** See the module. */
export class FormerFlannel {
  readonly #dataplane: Pick<DataPlane, "adopt">;
  /** flannel has written the subnet file, and this program no lease file beside it. */
  #wasHere: boolean;

  constructor(dataplane: Pick<DataPlane, "adopt">, subnetFile: string) {
    this.#dataplane = dataplane;
    this.#wasHere = exists(subnetFile) && !exists(leaseFileOf(subnetFile));
  }

  /**
   * Takes over, once, the routes into the overlay through a gateway on `iface`. Then they are kept,
   * corrected and removed as this agent's own.
   */
  async takeOver(iface: string, { ipv4, ipv6 }: NetworkConfig): Promise<void> {
    if (!this.#wasHere) return;
    this.#wasHere = false;
    const networks = [ipv4, ipv6].flatMap((family) => family ? [`${family.network}`] : []);
    try {
      const routes = await this.#dataplane.adopt(iface, networks);
      if (routes.length === 0) return;
      log.info("Took over {count} routes that flannel left behind: {routes}", {
        count: routes.length,
        routes: routes.slice(0, MOST_NAMES).join(", ") + (routes.length > MOST_NAMES ? ", …" : ""),
      });
    } catch (error) {
      log.warn("Cannot take over the routes that flannel left behind: {error}", {
        error: String(error),
      });
    }
  }
}
