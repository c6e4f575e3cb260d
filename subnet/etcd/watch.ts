/**
 * Following the leases in etcd: a snapshot, then the changes since. A watch that broke goes on where it
 * was, so that nodes which lose etcd all at once do not all read everything: etcd sends what they
 * missed. Where it no longer has that, another snapshot is read, of which only the difference counts.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { EtcdClient, IWatchResponse, WatchEnd, WatchRange } from "./client.ts";
import { EtcdFault, RevisionGoneError } from "./fault.ts";
import { Hearing } from "./hearing.ts";
import { firstOf, logTraffic } from "./traffic.ts";
import {
  type LeaseStore,
  type Mark,
  marked,
  type Snapshot,
  type StoredConfig,
  type StoredLease,
} from "./store.ts";
import type { Patience } from "./patience.ts";
import type { Lease, WatchHandlers } from "../types.ts";
import type { PeerTable } from "../validate.ts";

const log = getLogger(["flanneld", "subnet"]);

/** Milliseconds in which changes after a first one are gathered. */
const GATHER = 10;

/** Milliseconds that a watch must live to count as one that works. */
const STEADY = 2_000;

/**
 * Milliseconds for which the peers that are gone after a time without etcd are still carried, and
 * the time in which all come back in addition: nodes that find their leases ended claim them again.
 */
const HOLD = 20_000;

/** Told what became of our own lease; undefined where it is not there (any more). */
export type OwnChange = (stored: StoredLease | undefined, revision: string) => void;

/** What to follow and whom to tell. */
export interface Following {
  table: PeerTable;
  handlers: {
    peers(peers: ReadonlyMap<string, Lease>): void;
    config: WatchHandlers["config"];
  };
  /** Key of our own lease. */
  ownKey: string;
  own: OwnChange;
  /** Told that etcd lost its latest state: the revisions known so far mean nothing any more. */
  setBack: () => void;
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
  const follower = new Follower(store, following, patience);
  let { snapshot } = following;
  let place: Place | undefined;
  let failures = 0;
  while (!signal.aborted) {
    const began = Date.now();
    let open = false;
    try {
      const resumed = place !== undefined;
      if (place === undefined) {
        snapshot ??= await patience.until(signal, () => store.snapshot());
        follower.take(snapshot);
        place = placeOf(store, snapshot);
        snapshot = undefined;
      }
      const { cluster, ranges } = place;
      using hearing = new Hearing(client, store.configKey, signal);
      const end = (resumed && await follower.breakIn(place)) ||
        await client.watch(cluster, ranges, {
          opened: (revision) => {
            follower.missedUntil = BigInt(revision);
            open = true;
            patience.well();
          },
          receive: (response, range) => {
            follower.apply(response);
            advance(ranges[range], response);
          },
        }, hearing.signal);
      if (signal.aborted) break;
      if (end === "aborted") throw hearing.signal.reason;
      log.info("etcd {what}; re-reading all leases", {
        what: end === "compacted"
          ? "has compacted changes that this agent missed"
          : "was replaced or set back to an earlier state",
      });
      if (end === "set back") following.setBack();
      place = undefined;
      await patience.turnToRead(signal);
    } catch (error) {
      if (signal.aborted) break;
      if (!(error instanceof EtcdFault)) throw error;
      failures = Date.now() - began > STEADY ? 0 : failures + 1;
      // Once is a restarting etcd or an expired token; the next attempt tells if there is more to it.
      if (failures > 0 && !open) patience.away(error);
      else if (failures === 2) {
        log.warn("The watch on etcd keeps failing: {error}; retrying until it works", {
          error: error.message,
        });
      }
      const wait = failures === 0 ? patience.turn(signal) : patience.pause(failures, signal);
      await wait.catch(() => {});
    }
  }
  follower.close();
}

/** How far the changes were followed. */
interface Place {
  cluster: string;
  ranges: WatchRange[];
}

function placeOf(store: LeaseStore, snapshot: Snapshot): Place {
  const revision = String(BigInt(snapshot.revision) + 1n);
  const ranges = [store.leases, { key: store.configKey }].map((range) => ({ ...range, revision }));
  return { cluster: snapshot.cluster, ranges };
}

/**
 * Moves a range behind what a response told: its last change, or, in one without changes, the revision
 * that etcd says it has come to.
 */
function advance(range: WatchRange, { header, events, fragment }: IWatchResponse): void {
  const last = BigInt(events.at(-1)?.kv.mod_revision ?? header.revision);
  // The next fragment may begin with changes of the same revision.
  const told = fragment ? last : last + 1n;
  if (told > BigInt(range.revision)) range.revision = String(told);
}

/** Applies what comes to the table and tells the handlers, in batches. */
class Follower {
  readonly #store: LeaseStore;
  readonly #following: Following;
  readonly #patience: Patience;
  /** Changes up to this revision came while there was no watch. */
  missedUntil = 0n;
  #configRevision: string | undefined;
  #mark: Mark = { count: 0 };
  #told = false;
  #lastDelivery = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #holding: ReturnType<typeof setTimeout> | undefined;

  constructor(store: LeaseStore, following: Following, patience: Patience) {
    this.#store = store;
    this.#following = following;
    this.#patience = patience;
    this.#configRevision = following.config?.revision;
  }

  take(snapshot: Snapshot): void {
    const { table, ownKey } = this.#following;
    const own = snapshot.leases.find((stored) => stored.key === ownKey);
    this.#following.own(own, own?.revision ?? snapshot.revision);
    this.#mark = snapshot.mark;
    this.#takeConfig(snapshot.config);
    // After a long outage all leases may have ended; forwarding to their nodes still works.
    const changed = table.replace(snapshot.leases, this.#told);
    this.#hold();
    if (changed || !this.#told) this.#deliver();
  }

  /** Why the changes behind a place would not be all there are; undefined where they are. */
  async breakIn({ cluster, ranges }: Place): Promise<WatchEnd | undefined> {
    const [leases, config] = ranges.map(({ revision }) => String(BigInt(revision) - 1n));
    const at = { leases, config };
    try {
      const isSame = await this.#store.hasHistory(cluster, this.#mark, this.#configRevision, at);
      return isSame ? undefined : "set back";
    } catch (error) {
      if (!(error instanceof RevisionGoneError)) throw error;
      return /compacted/.test(error.message) ? "compacted" : "set back";
    }
  }

  #hold(): void {
    clearTimeout(this.#holding);
    const { table } = this.#following;
    const { held } = table;
    if (held.length === 0) return;
    const time = HOLD + this.#patience.spread;
    log.info(
      "Leases have expired or been deleted: {keys}; their nodes have {seconds} s to reclaim them",
      {
        keys: held.length > 3 ? `${held.slice(0, 3).join(", ")} and ${held.length - 3} more` : held,
        seconds: Math.round(time / 1000),
      },
    );
    this.#holding = setTimeout(() => table.release() && this.#deliver(), time);
  }

  apply(response: IWatchResponse): void {
    const { events } = response;
    logTraffic(() => this.#describe(response));
    const { table, ownKey } = this.#following;
    const held = table.held.length;
    let changed = false;
    for (const { kv } of events) {
      const deleted = kv.version === "0";
      if (this.#store.isConfig(kv)) {
        const config = { text: kv.value.toString(), revision: kv.mod_revision };
        this.#takeConfig(deleted ? undefined : config);
        continue;
      }
      const key = this.#store.keyOf(kv);
      const stored = this.#store.read(kv);
      this.#mark = marked(this.#mark, stored, kv);
      if (key === ownKey) {
        this.#following.own(deleted ? undefined : stored, kv.mod_revision);
      } else if (deleted) {
        const missed = BigInt(kv.mod_revision) <= this.missedUntil;
        changed = (missed ? table.hold(key) : table.delete(key)) || changed;
      } else {
        changed = table.set(stored) || changed;
      }
    }
    if (table.held.length > held) this.#hold();
    if (changed) this.#schedule();
  }

  #describe({ header, events }: IWatchResponse): string {
    if (events.length === 0) return `Watch: no changes up to revision ${header.revision}`;
    const changes = firstOf(events, ({ kv }) => {
      const key = this.#store.isConfig(kv) ? "the config" : this.#store.keyOf(kv);
      return `${kv.version === "0" ? "delete" : "put"} ${key}`;
    });
    return `Watch: revision ${events.at(-1)?.kv.mod_revision}: ${changes}`;
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
    const peers = this.#following.table.peers();
    this.#patience.nodes = peers.size + 1;
    this.#following.handlers.peers(peers);
  }

  /** Drops what is gathered. */
  close(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#holding);
  }
}
