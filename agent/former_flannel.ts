/**
 * The first start on a node on which flannel ran before: flannel's host-gw and DirectRouting leave
 * routes that nothing marks as flannel's, and that would outlive their peers.
 *
 * Its traces show that flannel ran last; the routes alone do not, as an operator may have added them:
 * - the subnet file is there, and this program has held no lease yet; or
 * - the subnet file is not the one that this program wrote last, and the lease in etcd for its subnet
 *   and this node's address hangs on an etcd lease that this program did not make: flannel makes one
 *   of its own at each start. Either alone may have other causes, such as a restored file or a crash.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { DataPlane } from "../dataplane/mod.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import { type LeaseFile, leaseFileOf, stampOf } from "./lease_file.ts";
import { exists } from "./subnet_file.ts";

const log = getLogger(["flanneld", "agent"]);

/** Routes named in the log line. */
const MOST_NAMES = 5;

/** See the module. */
export class FormerFlannel {
  readonly #dataplane: Pick<DataPlane, "adopt">;
  /** What the files tell: flannel ran last, perhaps, or this program. */
  #ranLast: "flannel" | "perhaps flannel" | "this program";

  constructor(
    dataplane: Pick<DataPlane, "adopt">,
    subnetFile: string,
    memory: Pick<LeaseFile, "recallSubnetFile">,
  ) {
    this.#dataplane = dataplane;
    this.#ranLast = ranLast(subnetFile, memory);
  }

  /**
   * Takes over, once, the routes into the overlay through a gateway on `iface`. Then they are kept,
   * corrected and removed as this agent's own.
   *
   * @param wroteLease whether another agent has written this node's lease in etcd
   */
  async takeOver(
    iface: string,
    { ipv4, ipv6 }: NetworkConfig,
    wroteLease: () => Promise<boolean>,
  ): Promise<void> {
    const before = this.#ranLast;
    if (before === "this program") return;
    const isFlannels = before === "flannel" || await wroteLease();
    this.#ranLast = "this program";
    if (!isFlannels) return;
    const networks = [ipv4, ipv6].flatMap((family) => family ? [`${family.network}`] : []);
    try {
      const routes = await this.#dataplane.adopt(iface, networks);
      if (routes.length === 0) return;
      const names = routes.slice(0, MOST_NAMES).map((route) => route.replace(/ metric 0$/, ""));
      log.info("Took over {count} that flannel left behind: {routes}", {
        count: routes.length === 1 ? "1 route" : `${routes.length} routes`,
        routes: names.join(", ") + (routes.length > MOST_NAMES ? ", …" : ""),
      });
    } catch (error) {
      log.warn("Cannot take over the routes that flannel left behind: {error}", {
        error: String(error),
      });
    }
  }
}

function ranLast(subnetFile: string, memory: Pick<LeaseFile, "recallSubnetFile">) {
  if (!exists(subnetFile)) return "this program";
  if (!exists(leaseFileOf(subnetFile))) return "flannel";
  const written = memory.recallSubnetFile();
  return written === undefined || written === stampOf(subnetFile)
    ? "this program"
    : "perhaps flannel";
}
