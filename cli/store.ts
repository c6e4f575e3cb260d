/**
 * The store as the sub-commands see it: one attempt at each endpoint and one clear error, unlike the
 * agent, which waits for a store that is away.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { CompareResult, CompareTarget, EtcdClient } from "../subnet/etcd/client.ts";
import { LeaseStore, type StoredLease } from "../subnet/etcd/store.ts";
import { isHeld } from "../subnet/etcd/former.ts";
import type { HeldLease, Lease } from "../subnet/types.ts";
import { etcdOptions } from "./agent_options.ts";
import { skippedLeases } from "./lease_notes.ts";
import type { Settings } from "./parse.ts";

/** Calls for the remaining time of leases that are under way at once. */
const PARALLEL = 32;
/** Milliseconds within which an endpoint must answer a read of a single key: someone is waiting. */
const KEY_LIMIT = 5_000;

/** A lease, and whether it is the one that this node remembers. */
export interface NodeLease extends Lease {
  isHeld?: boolean;
}

/** Network config and leases in etcd. */
export class Store implements Disposable {
  readonly #client: EtcdClient;
  readonly #store: LeaseStore;
  readonly #prefix: string;

  /** The store that the flags name. */
  constructor(settings: Settings) {
    const options = etcdOptions(settings);
    this.#client = new EtcdClient(options);
    this.#prefix = options.prefix;
    this.#store = new LeaseStore(this.#client, options.prefix);
  }

  /** Key of the network config. */
  get configKey(): string {
    return this.#store.configKey.toString();
  }

  /** The network config as stored; undefined where there is none. */
  async config(): Promise<string | undefined> {
    const { ranges } = await this.#client.read([{ key: this.#store.configKey }], KEY_LIMIT);
    return ranges[0][0]?.value.toString();
  }

  /** Replaces the network config. */
  async putConfig(text: string): Promise<void> {
    // A write goes to one endpoint only: reading finds out which of them answers.
    await this.config();
    const put = { key: this.#store.configKey, value: Buffer.from(text) };
    await this.#client.txn({ success: [{ request_put: put }] });
  }

  /**
   * All leases by address, with the time of their end.
   *
   * @param refused is told of each entry that cannot be read
   * @param held what this node remembers of its lease
   */
  async leases(
    refused: (key: string, reason: string) => void,
    held?: HeldLease,
  ): Promise<NodeLease[]> {
    const { cluster, leases: stored } = await this.#store.snapshot();
    const remembered = held?.prefix === this.#prefix ? held : undefined;
    const ours = stored.find((one) => isHeld(one, cluster, remembered))?.key;
    const leases = leasesOf(stored, await this.#expirations(stored), refused);
    return leases.map((lease) => ({ ...lease, isHeld: lease.key === ours }));
  }

  /** The same without the time of their end, which takes a call for each. */
  async leasesWithoutEnd(refused: (key: string, reason: string) => void): Promise<Lease[]> {
    const { leases: stored } = await this.#store.snapshot();
    return leasesOf(stored, new Map(), refused);
  }

  /** Why the agents skip leases, by the lease's key. */
  async skippedLeases(): Promise<Map<string, string>> {
    const { config, leases } = await this.#store.snapshot();
    return skippedLeases(config?.text, leases);
  }

  /** Deletes a lease, unless another has written it since it was read. */
  async release({ key, revision }: Lease): Promise<void> {
    const whole = this.#store.fullKey(key);
    const answer = await this.#client.txn({
      compare: [{
        key: whole,
        target: CompareTarget.Mod,
        result: CompareResult.Equal,
        mod_revision: revision,
      }],
      success: [{ request_delete_range: { key: whole } }],
    });
    if (!answer.succeeded) {
      throw new Error(`another node has just changed the lease ${key}: it was left unchanged`);
    }
  }

  /** Milliseconds since the epoch at which each etcd lease of these ends, by its id. */
  async #expirations(stored: readonly StoredLease[]): Promise<Map<string, number>> {
    const ends = new Map<string, number>();
    // "0" is no lease: a reservation.
    const waiting = [...new Set(stored.map(({ leaseId }) => leaseId))].filter((id) => id !== "0");
    const worker = async () => {
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
        ends.set(id, Date.now() + Math.max(0, await this.#client.timeToLive(id)) * 1000);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
    return ends;
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

function leasesOf(
  stored: readonly StoredLease[],
  ends: ReadonlyMap<string, number>,
  refused: (key: string, reason: string) => void,
): Lease[] {
  const leases: Lease[] = [];
  for (const { key, lease, leaseId, problem } of stored) {
    if (lease) leases.push({ ...lease, expiration: ends.get(leaseId) ?? lease.expiration });
    else refused(key, problem);
  }
  return leases.sort(byAddress);
}

function byAddress(a: Lease, b: Lease): number {
  const base = ({ subnet, ipv6Subnet }: Lease) => subnet?.base ?? ipv6Subnet?.base ?? 0n;
  return Number(base(a) > base(b)) - Number(base(a) < base(b));
}
