/**
 * Keeps the kernel as the backend wants it: one apply at a time, always of the newest wish.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { sleep } from "../base/time.ts";
import type { Backend, Skipped } from "../backends/types.ts";
import type { ApplyReport, EntryError, KernelChange, KernelState } from "../dataplane/state.ts";
import { Budget, Reports } from "../base/reports.ts";
import type { Lease } from "../subnet/types.ts";
import { DeviceHealth } from "./device_health.ts";
import { difference } from "./difference.ts";
import { type NodeOptions, withNodeState } from "./node_state.ts";
import { logReconcile } from "./kernel_log.ts";
import { PeerLog } from "./peer_log.ts";
import { type LookUp, PeerRoutes } from "./peer_routes.ts";
import type { Carried } from "./peers_report.ts";
import type { Status } from "./status.ts";

const log = getLogger(["flanneld", "forwarding"]);

/** What makes the kernel match; the data plane, or a stand-in in a unit test. */
export interface Applier {
  apply(state: KernelState): Promise<ApplyReport>;
  /** Changes what was applied last; undefined where it has to be applied whole. */
  change(change: KernelChange): Promise<ApplyReport | undefined>;
  /** The kernel's routes to these addresses. */
  routesTo: LookUp;
}

/** What should be carried, and how. */
export interface Wish {
  backend: Backend;
  lease: Lease;
  peers: ReadonlyMap<string, Lease>;
  /** Keys of those whose leases could not be used before. */
  mended?: ReadonlySet<string>;
  node: NodeOptions;
}

/** Milliseconds before refused entries are tried again, doubled up to the last. */
const FIRST_RETRY = 1_000;
const LAST_RETRY = 30_000;
/** The same where the backend's own device is refused, without which nothing is carried. */
const LAST_DEVICE_RETRY = 4_000;
/** Milliseconds after an apply in which changes of devices may be its own doing. */
const OWN_CHANGES = 1_000;
/** Longest pause between two applies, in milliseconds, so that churn is taken in batches. */
const LONGEST_PAUSE = 200;
/** Milliseconds after a change that was made alone in which everything is compared all the same. */
const CHECK_AFTER = 30_000;

/** See the module. */
export class Forwarding {
  readonly #applier: Applier;
  readonly #status: Status;
  readonly #routes: PeerRoutes;
  readonly #applied: () => void;
  /** Whether the backend's own devices carry packets. */
  readonly devices = new DeviceHealth();
  readonly #peerLog = new PeerLog();
  /** Routes have changed since they were looked up. */
  #staleRoutes = false;
  #wish: Wish | undefined;
  /**
   * The wish that the kernel is known to match, and the peers that it skips; undefined where it has to
   * be applied whole.
   */
  #matched: Wish | undefined;
  #matchedSkips = new Map<string, Skipped>();
  /** When the last apply ended. */
  #lastApply = -Infinity;
  #check: ReturnType<typeof setTimeout> | undefined;
  #dirty = false;
  #running: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #retryDelay = FIRST_RETRY;
  #refused = new Set<string>();
  #skipped = new Map<string, string>();
  /** For lines about refused entries, all of which the metrics count. */
  readonly #errorLines = new Budget(10_000, 1);
  readonly #reports = new Reports({
    line: (key, reason) => log.warn("Skipping peer {key}: {reason}", { key, reason }),
    leftOut: (count, key, reason) =>
      log.warn("Skipped {count} more peers, most recently {key}: {reason}", { count, key, reason }),
  });
  #closed = false;
  #carried: Carried | undefined;

  /** @param applied called after each time that the whole state was applied or put right */
  constructor(applier: Applier, status: Status, applied: () => void = () => {}) {
    this.#applied = applied;
    this.#applier = applier;
    this.#status = status;
    this.#routes = new PeerRoutes((ips) => applier.routesTo(ips));
  }

  /**
   * Makes the kernel match `wish`; resolves when this wish or a newer one was applied, refused
   * entries or not.
   */
  want(wish: Wish): Promise<void> {
    this.#wish = wish;
    if (wish.mended) this.#peerLog.mended(wish.mended);
    return this.#kick();
  }

  /** Applies the last wish again, after a failure of what carried it; nothing before the first. */
  again(): Promise<void> {
    this.#matched = undefined;
    return this.#wish === undefined ? Promise.resolve() : this.#kick();
  }

  /** Routes have changed that are not ours: peers may be on the link now, or no longer. */
  routesChanged(): Promise<void> {
    if (!this.#wish?.backend.followsRoutes) return Promise.resolve();
    this.#staleRoutes = true;
    return this.#kick();
  }

  /** A device that may have been in the way has changed. */
  linksChanged(): Promise<void> {
    if (this.devices.problem() === undefined) return this.routesChanged();
    // A tunnel that fails has made a device and removed it: to try again for that would never end.
    const isOwn = performance.now() - this.#lastApply < OWN_CHANGES;
    return isOwn ? Promise.resolve() : this.again();
  }

  /** Takes note of what the data plane did by itself after someone else's change. */
  healed(report: ApplyReport): void {
    logReconcile(report);
    this.#reportErrors(report.errors);
    this.#applied();
  }

  /** What the last apply carried, and what not; undefined before the first. */
  get carried(): Carried | undefined {
    return this.#carried;
  }

  /** Applies no more; what is in the kernel stays. */
  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#check);
    this.#reports.close();
    this.#peerLog.close();
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
        await sleep(Math.min(2 * (performance.now() - started), LONGEST_PAUSE));
      }
    }
  }

  async #applyOnce(wish: Wish): Promise<void> {
    const started = performance.now();
    try {
      if (wish.backend.followsRoutes) {
        const isOther = this.#followRoutes(wish);
        if (!isOther && this.#matched === wish) return;
      }
      if (!await this.#applyChange(wish)) await this.#applyWhole(wish);
    } catch (error) {
      this.#matched = undefined;
      this.#reportErrors([{ entry: "kernel state", errno: 0, message: String(error) }]);
    }
    this.#lastApply = performance.now();
    const ms = this.#lastApply - started;
    log.trace("Reconciled {peers} peers in {ms} ms", { peers: wish.peers.size, ms: ms.toFixed(1) });
    this.#count(ms / 1000);
  }

  /** Brings the routes to the peers up to date. @returns whether some are others than before */
  #followRoutes({ peers }: Wish): boolean {
    this.#routes.learn(peers.values());
    if (!this.#staleRoutes) return false;
    this.#staleRoutes = false;
    const isOther = this.#routes.refresh(peers.values());
    if (isOther) this.#matched = undefined;
    return isOther;
  }

  /** Applies the peers that are others than before. @returns whether that was possible */
  async #applyChange(wish: Wish): Promise<boolean> {
    const matched = this.#matched;
    const { backend, lease, peers, node } = wish;
    const goes = matched?.backend === backend && matched.lease === lease && matched.node === node;
    const found = goes
      ? difference(backend, lease, matched.peers, peers, this.#routes.to)
      : undefined;
    if (!found) return false;
    this.#matched = undefined;
    const report = await this.#applier.change(found.change);
    if (!report) return false;
    logReconcile(report);
    const skips = this.#matchedSkips;
    for (const { key } of found.gone) skips.delete(key);
    for (const skipped of found.skipped) skips.set(skipped.key, skipped);
    this.#tell(wish, [...skips.values()]);
    this.#peerLog.note(peers, new Set(skips.keys()));
    this.#reportErrors(report.errors);
    if (report.errors.length === 0) this.#matched = wish;
    this.#check ??= setTimeout(() => this.again(), CHECK_AFTER);
    return true;
  }

  async #applyWhole(wish: Wish): Promise<void> {
    this.#matched = undefined;
    clearTimeout(this.#check);
    this.#check = undefined;
    const { backend, lease, peers, node } = wish;
    const { kernel, skipped } = backend.state(lease, peers.values(), this.#routes.to);
    this.#tell(wish, skipped);
    const report = await this.#applier.apply(withNodeState(kernel, lease, node));
    const { errors } = report;
    logReconcile(report);
    this.#reportErrors(errors);
    this.#peerLog.note(peers, new Set(skipped.map(({ key }) => key)));
    this.#matchedSkips = new Map(skipped.map((one) => [one.key, one]));
    // Whom a conflict lets in when a peer goes, the whole state alone tells.
    const isWhole = errors.length > 0 || skipped.some(({ conflict }) => conflict);
    if (!isWhole) this.#matched = wish;
    this.#applied();
  }

  /** Notes what is carried, and what not. */
  #tell({ backend, lease, peers }: Wish, skipped: Skipped[]): void {
    this.#reportSkipped(skipped);
    this.#carried = { backend: backend.type, lease, peers, skipped };
    this.#status.leases = peers.size + 1;
    this.#status.peers = peers.size - skipped.length;
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

  /**
   * Each refused entry is logged once, tried again while it stays, and logged when it is mended; those
   * of a device that is itself at fault are not logged.
   */
  #reportErrors(errors: EntryError[]): void {
    this.devices.note(errors, devicesOf(this.#wish));
    const lineOf = ({ entry, message }: EntryError) => `${entry}: ${message}`;
    const now = new Set(
      errors.filter((error) =>
        !this.devices.isConsequence(error) || this.#refused.has(lineOf(error))
      ).map(lineOf),
    );
    for (const line of now.difference(this.#refused)) {
      if (this.#errorLines.take()) log.error("Cannot set {line}", { line });
    }
    for (const line of this.#refused.difference(now)) {
      if (this.#errorLines.take()) log.info("Recovered: {line}", { line });
    }
    this.#refused = now;
    this.#status.failedEntries = errors.length;
    this.#status.backendErrors += errors.length;
    clearTimeout(this.#retry);
    if (errors.length === 0) {
      this.#retryDelay = FIRST_RETRY;
    } else if (!this.#closed) {
      this.#retry = setTimeout(() => this.#kick(), this.#retryDelay * (0.75 + Math.random() / 2));
      const last = this.devices.problem() === undefined ? LAST_RETRY : LAST_DEVICE_RETRY;
      this.#retryDelay = Math.min(2 * this.#retryDelay, last);
    }
  }
}

/** The devices without which the node is not ready. */
function devicesOf(wish: Wish | undefined): readonly string[] {
  if (wish === undefined) return [];
  const { backend, node: { bridge } } = wish;
  return bridge ? [...backend.devices, bridge] : backend.devices;
}
