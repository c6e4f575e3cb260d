/**
 * The subnet manager over etcd v3: flannel's keys and values, so that both kinds of agents share a
 * network. See `claim.ts` for why no subnet ever has two owners.
 *
 * A lease is renewed by keeping its etcd lease alive, which writes nothing and wakes no watcher.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { NoFreeSubnetError } from "../allocate.ts";
import { ConfigError, type NetworkConfig, parseNetworkConfig } from "../config.ts";
import { describe, publicAddress } from "../lease_codec.ts";
import { Claims, type OwnLease } from "./claim.ts";
import { EtcdClient } from "./client.ts";
import type { EtcdOptions } from "./options.ts";
import { LeaseStore, type Snapshot, type StoredConfig, type StoredLease } from "./store.ts";
import { follow } from "./watch.ts";
import { FormerLeases, Snapshots } from "./former_leases.ts";
import { GivingWay } from "./giving_way.ts";
import { Losses } from "./losses.ts";
import { Ownership } from "./ownership.ts";
import { backoff, sleep } from "../../base/time.ts";
import { Patience } from "./patience.ts";
import type {
  Lease,
  LeaseAttrs,
  ManagerOptions,
  Standing,
  SubnetManager,
  WatchHandlers,
} from "../types.ts";
import { Reports } from "../../base/reports.ts";
import { Rivals, rivalText } from "./rivals.ts";
import { endpointAddresses, type HostAddresses, Underlay } from "../underlay.ts";
import { PeerTable } from "../validate.ts";

const log = getLogger(["flanneld", "subnet"]);

/** Leases passed over that are remembered, so as not to tell of them again. */
const MOST_REMEMBERED = 131_072;

/** How to make an {@linkcode EtcdSubnetManager}. */
export type EtcdSubnetManagerOptions = EtcdOptions & ManagerOptions;

/** Leases in etcd. */
export class EtcdSubnetManager implements SubnetManager {
  readonly name: string;
  readonly #options: EtcdSubnetManagerOptions;
  readonly #client: EtcdClient;
  readonly #store: LeaseStore;
  readonly #claims: Claims;
  readonly #patience = new Patience();
  /** What the start read last, so that its steps need not read it again. */
  readonly #snapshots: Snapshots;
  #config: { parsed: NetworkConfig; stored: StoredConfig } | undefined;
  #own: OwnLease | undefined;
  #underlay = new Underlay({ own: [], routers: [] });
  /** What {@linkcode resume} took back, for {@linkcode acquire}. */
  #resumed: OwnLease | undefined;
  readonly #former: FormerLeases;
  readonly #rivals = new Rivals();
  readonly #ownership: Ownership;
  readonly #givingWay = new GivingWay();
  readonly #losses = new Losses();
  /** Looks for an older lease that is in our way, in the session that runs. */
  #checkSuperior: () => void = () => {};
  /** Reasons for which leases were passed over, by key: each is told once, whatever watch sees it. */
  readonly #passedOver = new Map<string, string>();
  /** Keys that were passed over until lately. */
  #mended = new Set<string>();
  readonly #reports = new Reports({
    line: (key, reason) => log.warn("Skipping lease {key}: {reason}", { key, reason }),
    leftOut: (count, key, reason) =>
      log.warn("Skipped {count} more leases, most recently {key}: {reason}", {
        count,
        key,
        reason,
      }),
  });

  constructor(options: EtcdSubnetManagerOptions) {
    this.#options = options;
    this.#client = new EtcdClient(options);
    this.#store = new LeaseStore(this.#client, options.prefix);
    this.#claims = new Claims(this.#client, this.#store, this.#ttlSeconds);
    this.#snapshots = new Snapshots(this.#store, this.#patience);
    this.#former = new FormerLeases(
      this.#store,
      this.#claims,
      this.#snapshots,
      this.#patience,
      this.#rivals,
      options,
    );
    this.#ownership = new Ownership(
      this.#store,
      this.#claims,
      this.#patience,
      this.#rivals,
      this.#ttlSeconds,
      (own) => this.#former.remember(own),
    );
    this.name = "Etcd Local Manager with Previous Subnet: " +
      (describe(options.previous) || "None");
  }

  get #ttlSeconds(): number {
    return this.#options.subnetTtlSeconds ?? 86_400;
  }

  get lastContact(): number {
    return this.#client.lastContact;
  }

  async networkConfig(signal: AbortSignal): Promise<NetworkConfig> {
    let told = "";
    let bad = 0;
    while (true) {
      const snapshot = await this.#patience.until(signal, () => this.#store.snapshot());
      const config = await this.#parse(snapshot);
      if (typeof config !== "string") {
        this.#snapshots.put(snapshot);
        this.#claims.prepare();
        return config;
      }
      if (config !== told) {
        log.warn("{reason}; waiting for a valid one", { reason: config });
        // An operator who tries is answered at once, a flood every few seconds.
        if (++bad > 3) await sleep(backoff(bad), signal);
      }
      told = config;
      await this.#configChange(snapshot, signal);
    }
  }

  /** The config, or why there is none. */
  async #parse({ config: stored }: Snapshot): Promise<NetworkConfig | string> {
    const key = this.#store.configKey;
    if (stored === undefined) {
      return `There is no network config in etcd under ${key}: ` +
        "write one with 'flanneld config set' or etcdctl (API v3)";
    }
    try {
      const parsed = parseNetworkConfig(stored.text);
      await this.#options.checkConfig?.(parsed);
      this.#config = { parsed, stored };
      return parsed;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      return `The network config in etcd under ${key} is invalid: ${error.message}`;
    }
  }

  /** Resolves when the config was written after a snapshot, or when it should be read to see. */
  async #configChange({ cluster, revision }: Snapshot, signal: AbortSignal): Promise<void> {
    const seen = new AbortController();
    const range = { key: this.#store.configKey, revision: String(BigInt(revision) + 1n) };
    const watching = AbortSignal.any([signal, seen.signal]);
    await this.#client.watch(cluster, [range], {
      receive: ({ events }) => {
        if (events.length > 0) seen.abort();
      },
    }, watching).catch(() => sleep(backoff(3), signal));
  }

  async setHost(host: HostAddresses): Promise<void> {
    this.#underlay = new Underlay(host, await endpointAddresses(this.#options.endpoints));
  }

  async resume(
    publicIP: string | null,
    publicIPv6: string | null,
    signal: AbortSignal,
    current?: Lease,
  ): Promise<Standing> {
    if (await this.#losses.turn(signal)) this.#snapshots.drop();
    await this.#settle();
    const addresses = { publicIP, publicIPv6 };
    this.#resumed = await this.#former.takeBack(this.#parsed, addresses, current, signal);
    const older = await this.#former.older(this.#resumed, signal);
    return { lease: this.#resumed?.lease, older };
  }

  async isWrittenByOther(
    publicIP: string | null,
    publicIPv6: string | null,
    signal: AbortSignal,
  ): Promise<boolean> {
    return await this.#former.isWrittenByOther({ publicIP, publicIPv6 }, signal);
  }

  /** The session before may be claiming its lease again: what becomes of that counts here. */
  async #settle(): Promise<void> {
    if (this.#ownership.recovering === undefined) return;
    await this.#ownership.recovering.catch(() => {});
    this.#snapshots.drop();
  }

  get #parsed(): NetworkConfig {
    if (this.#config === undefined) throw new TypeError("networkConfig() comes first");
    return this.#config.parsed;
  }

  async acquire(
    config: NetworkConfig,
    attrs: LeaseAttrs,
    signal: AbortSignal,
    former?: Lease,
  ): Promise<Lease> {
    let told = false;
    await this.#settle();
    for (let failures = 0;;) {
      try {
        const own = await this.#acquireOnce(config, attrs, signal, former);
        if (own) {
          this.#own = own;
          this.#former.remember(own);
          if (own.leaseId === "0") await this.#claims.abandon();
          log.info("Allocated lease ({subnets}) to current node ({ip})", {
            subnets: describe(own.lease),
            ip: publicAddress(attrs),
          });
          return own.lease;
        }
      } catch (error) {
        if (!(error instanceof NoFreeSubnetError || error instanceof RivalError)) throw error;
        const reason = error.message;
        if (!told && error instanceof RivalError) log.error("{reason}; waiting", { reason });
        else if (!told) log.warn("{reason}; waiting for one", { reason });
        told = true;
        this.#snapshots.drop();
        await sleep(backoff(++failures), signal);
      }
    }
  }

  /**
   * One attempt: with the lease that we had, else with a free subnet.
   *
   * @returns undefined where another was faster
   * @throws {NoFreeSubnetError | RivalError}
   */
  async #acquireOnce(
    config: NetworkConfig,
    attrs: LeaseAttrs,
    signal: AbortSignal,
    former: Lease | undefined,
  ): Promise<OwnLease | undefined> {
    const resumed = this.#resumed ??
      await this.#former.takeBack(config, attrs, former, signal);
    this.#resumed = undefined;
    if (resumed) {
      const isAnnounced = await this.#patience.until(
        signal,
        () => this.#claims.announce(resumed, attrs),
      );
      // The snapshot's leases are where the watch begins; our own is not among them or is older.
      if (isAnnounced) return resumed;
      await this.#former.isDisputed(resumed, attrs, signal);
      return undefined;
    }
    const snapshot = await this.#snapshots.latest(signal);
    const rival = this.#former.rivalIn(snapshot, attrs);
    if (rival) throw new RivalError(rivalText(rival, publicAddress(attrs)));
    const node = this.#former.identity(attrs, former);
    const own = await this.#patience.until(
      signal,
      () => this.#claims.claim(config, node, attrs, snapshot, this.#underlay.avoided),
    );
    if (own === undefined) this.#snapshots.drop();
    return own;
  }

  async keep(lease: Lease, signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted) await this.#keepOnce(this.#ownOf(lease), signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #ownOf(lease: Lease): OwnLease {
    if (this.#own?.lease !== lease) {
      throw new TypeError(`${lease.key} is not the lease acquired last`);
    }
    return this.#own;
  }

  /** Waits until a lease is due, and renews it. */
  async #keepOnce(own: OwnLease, signal: AbortSignal): Promise<void> {
    const { lease } = own;
    const left = (lease.expiration ?? 0) - Date.now();
    const asked = this.#options.renewMarginMinutes * 60_000;
    const margin = asked < this.#ttlSeconds * 1000 ? asked : this.#ttlSeconds * 667;
    // A reservation is looked at now and then all the same: it may have become a lease.
    const wait = Math.max(0, Math.min(left, this.#ttlSeconds * 1000) - margin);
    if (left !== Infinity) log.info("Waiting for {wait} to renew lease", { wait: duration(wait) });
    await sleep(wait, signal);
    await this.#ownership.recovering;
    const { leaseId } = own;
    if (leaseId === "0") return;
    const since = Date.now();
    const seconds = await this.#patience.until(signal, () => this.#client.keepAlive(leaseId));
    if (own.leaseId !== leaseId) return;
    if (seconds > 0) {
      lease.expiration = since + seconds * 1000;
      log.info("Lease renewed, new expiration: {expiration}", {
        expiration: new Date(lease.expiration).toISOString(),
      });
    } else if (!await this.#ownership.recover(own, "it has expired", signal)) {
      await sleep(backoff(5), signal);
    } else this.#checkSuperior();
  }

  async watch(lease: Lease, handlers: WatchHandlers, signal: AbortSignal): Promise<void> {
    const own = this.#ownOf(lease);
    const config = this.#config;
    if (config === undefined) throw new TypeError("watch() comes after networkConfig()");
    const lost = (reason: string) => handlers.lost(reason);
    const clash = (peer: Lease) => handlers.clash?.(peer);
    const taken = (reason: string) => {
      this.#losses.lost(reason);
      lost(reason);
    };
    this.#ownership.begin(config.parsed, { lost: taken, clash });
    const snapshot = this.#snapshots.drop();
    const table = new PeerTable(
      config.parsed,
      lease,
      (key, reason) => this.#passOver(key, reason),
      {
        created: () => own.created,
        underlay: this.#underlay,
        clash,
        contested: () => this.#checkSuperior(),
      },
    );
    const report = (error: unknown) => {
      if (!signal.aborted) log.error("{error}", { error: String(error) });
    };
    this.#checkSuperior = () => {
      // What becomes of our lease is not known yet; this is called again then.
      if (signal.aborted || this.#ownership.recovering) return;
      this.#givingWay.check(() => table.superior(), lost, signal).catch(report);
    };
    const recovering = (stored: StoredLease | undefined, revision: string) =>
      this.#ownership.changed(own, stored, revision, signal)
        .then(() => this.#checkSuperior(), report);
    try {
      await follow(this.#client, this.#store, this.#patience, {
        table,
        handlers: {
          peers: (peers) => {
            this.#patience.hasPeers = peers.size > 0;
            const mended = this.#mended;
            this.#mended = new Set();
            handlers.peers(peers, mended);
          },
          config: (raw) => handlers.config(raw),
        },
        ownKey: lease.key,
        own: recovering,
        setBack: () => lease.revision = "0",
        config: config.stored,
        snapshot: snapshot && withOwn(snapshot, own),
      }, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #passOver(key: string, reason: string | undefined): void {
    if (this.#passedOver.get(key) === reason) return;
    this.#passedOver.delete(key);
    if (reason === undefined) {
      this.#mended.add(key);
      return;
    }
    this.#passedOver.set(key, reason);
    const [oldest] = this.#passedOver.keys();
    if (this.#passedOver.size > MOST_REMEMBERED) this.#passedOver.delete(oldest);
    this.#reports.add(key, reason);
  }

  reconnect(): void {
    this.#client.reconnect();
  }

  async close(): Promise<void> {
    this.#reports.close();
    await this.#claims.abandon();
    this.#client.close();
  }
}

/** Another agent has our public address. */
class RivalError extends Error {
  override name = "RivalError";
}

/** A snapshot from before our claim, as the watch should see it: our lease is there. */
function withOwn(snapshot: Snapshot, { lease, replaced = [] }: OwnLease): Snapshot {
  const own: StoredLease = {
    key: lease.key,
    created: Number(lease.revision),
    revision: lease.revision,
    lease,
    problem: "",
    subnets: lease,
    leaseId: "",
  };
  const others = snapshot.leases.filter(({ key }) => key !== lease.key && !replaced.includes(key));
  return { ...snapshot, leases: [...others, own] };
}

/** `22h59m59.26s`, as Go prints a duration. */
export function duration(ms: number): string {
  const total = Math.round(ms / 10) / 100;
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  const seconds = `${Math.round(total % 60 * 100) / 100}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}
