/**
 * Keeps the kernel as the backend wants it: one apply at a time, always of the newest wish.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Backend, Skipped } from "../backends/types.ts";
import type { ApplyReport, EntryError, KernelState } from "../dataplane/state.ts";
import { Reports } from "../subnet/reports.ts";
import type { Lease } from "../subnet/types.ts";
import { type NodeOptions, withNodeState } from "./node_state.ts";
import type { Carried } from "./peers_report.ts";
import type { Status } from "./status.ts";

const log = getLogger(["flanneld", "forwarding"]);

/** What makes the kernel match; the data plane, or a stand-in in a unit test. */
export interface Applier {
  apply(state: KernelState): Promise<ApplyReport>;
}

/** What should be carried, and how. */
export interface Wish {
  backend: Backend;
  lease: Lease;
  peers: ReadonlyMap<string, Lease>;
  node: NodeOptions;
}

/** Milliseconds before refused entries are tried again, doubled up to the last. */
const FIRST_RETRY = 1_000;
const LAST_RETRY = 30_000;
/** Longest pause between two applies, in milliseconds, so that churn is taken in batches. */
const LONGEST_PAUSE = 200;

/** See the module. */
export class Forwarding {
  readonly #applier: Applier;
  readonly #status: Status;
  #wish: Wish | undefined;
  #dirty = false;
  #running: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryDelay = FIRST_RETRY;
  #refused = new Set<string>();
  #skipped = new Map<string, string>();
  readonly #reports = new Reports({
    line: (key, reason) => log.warn("Ignoring the lease {key}: {reason}", { key, reason }),
    leftOut: (count, key, reason) =>
      log.warn("Ignoring {count} more leases, {key} at last: {reason}", { count, key, reason }),
  });
  #closed = false;
  #carried: Carried | undefined;

  constructor(applier: Applier, status: Status) {
    this.#applier = applier;
    this.#status = status;
  }

  /**
   * Makes the kernel match `wish`; resolves when this wish or a newer one was applied, refused
   * entries or not.
   */
  want(wish: Wish): Promise<void> {
    this.#wish = wish;
    return this.#kick();
  }

  /** Applies the last wish again, after a failure of what carried it; nothing before the first. */
  again(): Promise<void> {
    return this.#wish === undefined ? Promise.resolve() : this.#kick();
  }

  /** Takes note of what the data plane did by itself after someone else's change. */
  healed({ errors }: ApplyReport): void {
    this.#reportErrors(errors);
  }

  /** What the last apply carried, and what not; undefined before the first. */
  get carried(): Carried | undefined {
    return this.#carried;
  }

  /** Applies no more; what is in the kernel stays. */
  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#reports.close();
    return this.#running ?? Promise.resolve();
  }

  #kick(): Promise<void> {
    this.#dirty = true;
    this.#running ??= this.#run().finally(() => this.#running = undefined);
    return this.#running;
  }

  async #run(): Promise<void> {
    while (this.#dirty && !this.#closed) {
      this.#dirty = false;
      const started = performance.now();
      await this.#applyOnce(this.#wish!);
      if (this.#dirty) {
        await pause(Math.min(2 * (performance.now() - started), LONGEST_PAUSE));
      }
    }
  }

  async #applyOnce({ backend, lease, peers, node }: Wish): Promise<void> {
    const { kernel, skipped } = backend.state(lease, peers.values());
    this.#reportSkipped(skipped);
    this.#carried = { backend: backend.type, lease, peers, skipped };
    this.#status.leases = peers.size + 1;
    this.#status.peers = peers.size - skipped.length;
    const started = performance.now();
    try {
      this.#reportErrors((await this.#applier.apply(withNodeState(kernel, lease, node))).errors);
    } catch (error) {
      this.#reportErrors([{ entry: "kernel state", errno: 0, message: String(error) }]);
    }
    this.#count((performance.now() - started) / 1000);
  }

  #count(seconds: number): void {
    this.#status.reconciles++;
    this.#status.reconcileSeconds += seconds;
    this.#status.lastReconcileSeconds = seconds;
  }

  /** Each peer left out is logged once a reason. */
  #reportSkipped(skipped: Skipped[]): void {
    this.#status.skippedPeers = skipped.length;
    const now = new Map(skipped.map(({ key, reason }) => [key, reason]));
    for (const [key, reason] of now) {
      if (this.#skipped.get(key) !== reason) {
        this.#reports.add(key, reason);
      }
    }
    this.#skipped = now;
  }

  /** Each refused entry is logged once, tried again while it stays, and logged when it is mended. */
  #reportErrors(errors: EntryError[]): void {
    const now = new Set(errors.map(({ entry, message }) => `${entry}: ${message}`));
    for (const line of now.difference(this.#refused)) log.error("Cannot set {line}", { line });
    for (const line of this.#refused.difference(now)) log.info("No longer: {line}", { line });
    this.#refused = now;
    this.#status.failedEntries = errors.length;
    this.#status.backendErrors += errors.length;
    clearTimeout(this.#retry);
    if (errors.length === 0) {
      this.#retryDelay = FIRST_RETRY;
    } else if (!this.#closed) {
      this.#retry = setTimeout(() => this.#kick(), this.#retryDelay * (0.75 + Math.random() / 2));
      this.#retryDelay = Math.min(2 * this.#retryDelay, LAST_RETRY);
    }
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
