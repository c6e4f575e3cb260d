/**
 * Waiting for etcd: the same attempt again, with backoff and jitter, and one line in the log for each
 * state rather than for each attempt.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { backoff, sleep, unlessAborted } from "../../base/time.ts";
import { EtcdFault, type FaultKind } from "./fault.ts";

const log = getLogger(["flanneld", "subnet"]);

/**
 * Milliseconds for each node of the network: when etcd comes back, all its nodes come back to it, and
 * this is what makes them 500 a second, however many there are.
 */
const NODE_SHARE = 2;
/**
 * Milliseconds for each lease that a node reads: it costs etcd some 3 µs, and a network of n nodes
 * reads n² of them.
 */
const LEASE_SHARE = 0.005;
/** The most that reading is put off. */
const LONGEST_SPREAD = 120_000;

/** What all calls to one etcd share: whether it is known to be away. */
export class Patience {
  /** Nodes that share the etcd, as far as is known. */
  nodes = 0;
  #state: FaultKind | "well" = "well";
  /** Whether there are peers that packets are forwarded to, whatever becomes of etcd. */
  hasPeers = false;

  /**
   * Calls `attempt` until it succeeds.
   *
   * @throws what `attempt` throws other than {@linkcode EtcdFault}; the signal's reason on abort
   */
  async until<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
    for (let failures = 0;; failures++) {
      signal.throwIfAborted();
      try {
        const result = await unlessAborted(attempt(), signal);
        this.well();
        return result;
      } catch (error) {
        if (!(error instanceof EtcdFault)) throw error;
        signal.throwIfAborted();
        this.away(error);
        await this.pause(failures, signal);
      }
    }
  }

  /** Waits after so many failures: longer where more nodes wait for the same. */
  async pause(failures: number, signal: AbortSignal): Promise<void> {
    const share = this.nodes * NODE_SHARE * (0.5 + Math.random());
    await sleep(Math.max(backoff(failures), share), signal);
  }

  /** Milliseconds within which all nodes have come back that lost etcd at the same moment. */
  get spread(): number {
    return this.nodes * NODE_SHARE * 1.5;
  }

  /** Waits for this node's turn to come back, among all that lost etcd at the same moment. */
  async turn(signal: AbortSignal): Promise<void> {
    await sleep(Math.random() * this.nodes * NODE_SHARE, signal);
  }

  /** Waits for this node's turn to read all leases, among all that have to at the same moment. */
  async turnToRead(signal: AbortSignal): Promise<void> {
    const spread = Math.min(LONGEST_SPREAD, this.nodes * this.nodes * LEASE_SHARE);
    await sleep(Math.random() * spread, signal);
  }

  /** Takes note that etcd cannot be asked. */
  away({ kind, message }: EtcdFault): void {
    // An etcd that refuses us may cut the connection before it says why: no news.
    if (this.#state === kind || (this.#state !== "well" && kind === "unreachable")) return;
    this.#state = kind;
    const meanwhile = this.hasPeers
      ? "forwarding continues with the last known peers"
      : "retrying until it answers";
    log.warn("{message}; {meanwhile}", { message, meanwhile });
  }

  /** Takes note that etcd answers. */
  well(): void {
    if (this.#state === "well") return;
    this.#state = "well";
    log.info("etcd answers again");
  }
}
