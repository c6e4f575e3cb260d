/**
 * Following the leases in etcd: a snapshot, then the changes since, and after anything that may have
 * lost a change, another snapshot, of which only the difference counts.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type EtcdClient, EtcdFault, type IWatchResponse } from "./etcd_client.ts";
import type { LeaseStore, Snapshot, StoredConfig, StoredLease } from "./etcd_store.ts";
import { backoff, type Patience, sleep } from "./patience.ts";
import type { WatchHandlers } from "./types.ts";
import type { PeerTable } from "./validate.ts";

const log = getLogger(["flanneld", "subnet"]);

/** Milliseconds in which changes after a first one are gathered. */
const GATHER = 10;

/** Milliseconds that a watch must live to count as one that works. */
const STEADY = 2_000;

/**
 * Milliseconds for which the peers that are gone after a time without etcd are still carried: so
 * long as nodes that find their leases ended may take to be back and claim them again.
 */
const HOLD = 20_000;

/** Told what became of our own lease; undefined where it is not there (any more). */
export type OwnChange = (stored: StoredLease | undefined, revision: string) => void;

/** What to follow and whom to tell. */
export interface Following {
  table: PeerTable;
  handlers: Pick<WatchHandlers, "peers" | "config">;
  /** Key of our own lease. */
  ownKey: string;
  own: OwnChange;
  /** The config as it is known. */
  config: StoredConfig | undefined;
  /** Where to begin; without it, a new snapshot is taken. */
  snapshot?: Snapshot;
}

/** Follows until `signal` aborts; resolves then. */
export async function follow(
  client: EtcdClient,
  store: LeaseStore,
  patience: Patience,
  following: Following,
  signal: AbortSignal,
): Promise<void> {
  const follower = new Follower(store, following);
  let { snapshot } = following;
  let failures = 0;
  while (!signal.aborted) {
    const began = Date.now();
    try {
      snapshot ??= await patience.until(signal, () => store.snapshot());
      follower.take(snapshot);
      const next = String(BigInt(snapshot.revision) + 1n);
      snapshot = undefined;
      const ranges = [store.leases, { key: store.configKey }];
      await client.watch(ranges, next, (response) => follower.apply(response), signal);
      if (!signal.aborted) log.info("etcd compacted changes away; reading all leases anew");
    } catch (error) {
      if (signal.aborted) break;
      if (!(error instanceof EtcdFault)) throw error;
      failures = Date.now() - began > STEADY ? 0 : failures + 1;
      // Once is a restarting etcd or an expired token; the next read tells if there is more to it.
      if (failures === 2) log.warn("Watching etcd fails: {error}", { error: error.message });
      await sleep(failures === 0 ? 0 : backoff(failures), signal).catch(() => {});
    }
  }
  follower.close();
}

/** Applies what comes to the table and tells the handlers, in batches. */
class Follower {
  readonly #store: LeaseStore;
  readonly #following: Following;
  #configRevision: string | undefined;
  #told = false;
  #lastDelivery = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #holding: ReturnType<typeof setTimeout> | undefined;

  constructor(store: LeaseStore, following: Following) {
    this.#store = store;
    this.#following = following;
    this.#configRevision = following.config?.revision;
  }

  take(snapshot: Snapshot): void {
    const { table, ownKey } = this.#following;
    const own = snapshot.leases.find((stored) => stored.key === ownKey);
    this.#following.own(own, own?.revision ?? snapshot.revision);
    this.#takeConfig(snapshot.config);
    // After a long outage all leases may have ended; forwarding to their nodes still works.
    const changed = table.replace(snapshot.leases, this.#told);
    this.#hold();
    if (changed || !this.#told) this.#deliver();
  }

  #hold(): void {
    clearTimeout(this.#holding);
    const { table } = this.#following;
    const { held } = table;
    if (held.length === 0) return;
    log.info("Leases are gone: {keys}; their nodes have {seconds} s to claim them again", {
      keys: held.length > 3 ? `${held.slice(0, 3).join(", ")} and ${held.length - 3} more` : held,
      seconds: HOLD / 1000,
    });
    this.#holding = setTimeout(() => table.release() && this.#deliver(), HOLD);
  }

  apply({ events }: IWatchResponse): void {
    const { table, ownKey } = this.#following;
    let changed = false;
    for (const { kv } of events) {
      const deleted = kv.version === "0";
      if (this.#store.isConfig(kv)) {
        const config = { text: kv.value.toString(), revision: kv.mod_revision };
        this.#takeConfig(deleted ? undefined : config);
        continue;
      }
      const key = this.#store.keyOf(kv);
      if (key === ownKey) {
        this.#following.own(deleted ? undefined : this.#store.read(kv), kv.mod_revision);
      } else {
        changed = (deleted ? table.delete(key) : table.set(this.#store.read(kv))) || changed;
      }
    }
    if (changed) this.#schedule();
  }

  #takeConfig(config: StoredConfig | undefined): void {
    if (config?.revision === this.#configRevision) return;
    this.#configRevision = config?.revision;
    this.#following.handlers.config(config?.text);
  }

  /** Delivers at once after a quiet time, else when the gathering time is over. */
  #schedule(): void {
    if (this.#timer !== undefined) return;
    const wait = this.#lastDelivery + GATHER - performance.now();
    if (wait <= 0) this.#deliver();
    else this.#timer = setTimeout(() => this.#deliver(), wait);
  }

  #deliver(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#told = true;
    this.#lastDelivery = performance.now();
    this.#following.handlers.peers(this.#following.table.peers());
  }

  /** Drops what is gathered. */
  close(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#holding);
  }
}
