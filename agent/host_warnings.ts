/**
 * Warns once of what may make the host lose packets of the overlay: after the start, which waits for
 * none of it.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { HostFacts, HostSource } from "../hostcheck/facts.ts";
import type { Lease } from "../subnet/types.ts";

const log = getLogger(["flanneld", "host"]);

/** The node with its peers by key. */
export type WarnedHost = Omit<HostFacts, "peers"> & { peers: ReadonlyMap<string, Lease> };

/** See the module. */
export class HostWarnings {
  readonly #source: HostSource;
  readonly #logged = new Set<string>();
  #host: WarnedHost | undefined;
  #hasBegun = false;
  /** The last check was of this backend, and of a node that had peers. */
  #checked: { backend: HostFacts["backend"]; withPeers: boolean } | undefined;

  /** @param source the data plane */
  constructor(source: HostSource) {
    this.#source = source;
  }

  /** Takes note of the node as it is now. Returns at once. */
  want(host: WarnedHost): void {
    this.#host = host;
    if (this.#hasBegun) this.#check();
  }

  /** From now on checks are made: once, once more when the first peers appear, and after a new start. */
  begin(): void {
    this.#hasBegun = true;
    this.#check();
  }

  #check(): void {
    if (this.#host === undefined) return;
    const { backend, peers } = this.#host;
    const isDone = this.#checked?.backend === backend &&
      (this.#checked.withPeers || peers.size === 0);
    if (isDone) return;
    this.#checked = { backend, withPeers: peers.size > 0 };
    this.#warn({ ...this.#host, peers: [...peers.values()] }).catch(failed);
  }

  async #warn(host: HostFacts): Promise<void> {
    const { startUpWarnings } = await import("../hostcheck/mod.ts");
    for (const { detail, fix } of await startUpWarnings(host, this.#source, failed)) {
      const warning = fix === undefined ? detail : `${detail}: ${fix}`;
      if (this.#logged.has(warning)) continue;
      this.#logged.add(warning);
      log.warn("{warning}", { warning: warning[0].toUpperCase() + warning.slice(1) });
    }
  }
}

/** The host goes unchecked; nothing else depends on it. */
function failed(error: unknown): void {
  log.debug("A check of the host failed: {error}", { error: String(error) });
}
