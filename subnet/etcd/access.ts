/**
 * etcd for the sub-commands.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { HeldLease, Lease, NodeLease, StoreAccess } from "../types.ts";
import { CompareResult, CompareTarget, EtcdClient } from "./client.ts";
import { isHeld } from "./former.ts";
import type { EtcdOptions } from "./options.ts";
import { LeaseStore, type StoredLease } from "./store.ts";

/** Calls for the remaining time of leases that are under way at once. */
const PARALLEL = 32;
/** Milliseconds within which an endpoint must answer a read of a single key: someone is waiting. */
const KEY_LIMIT = 5_000;

/** Network config and leases in etcd. */
export class EtcdStoreAccess implements StoreAccess {
  readonly #client: EtcdClient;
  readonly #store: LeaseStore;
  readonly #prefix: string;

  constructor(options: EtcdOptions) {
    this.#client = new EtcdClient(options);
    this.#prefix = options.prefix;
    this.#store = new LeaseStore(this.#client, options.prefix);
  }

  get configKey(): string {
    return this.#store.configKey.toString();
  }

  async config(): Promise<string | undefined> {
    const { ranges } = await this.#client.read([{ key: this.#store.configKey }], KEY_LIMIT);
    return ranges[0][0]?.value.toString();
  }

  async putConfig(text: string): Promise<void> {
    // A write goes to one endpoint only: reading finds out which of them answers.
    await this.config();
    const put = { key: this.#store.configKey, value: Buffer.from(text) };
    await this.#client.txn({ success: [{ request_put: put }] });
  }

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

  async leasesWithoutEnd(refused: (key: string, reason: string) => void): Promise<Lease[]> {
    const { leases: stored } = await this.#store.snapshot();
    return leasesOf(stored, new Map(), refused);
  }

  async candidates() {
    const { config, leases } = await this.#store.snapshot();
    return { config: config?.text, candidates: leases };
  }

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
