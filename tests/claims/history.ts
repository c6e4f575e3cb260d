/**
 * What etcd saw, change by change: the keys of leases below a prefix, checked in the order in which
 * etcd carried the changes out.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { collide } from "../../subnet/allocate.ts";
import { EtcdClient, type IKeyValue, type IRequestOp } from "../../subnet/etcd/client.ts";
import { LeaseStore, type StoredLease } from "../../subnet/etcd/store.ts";
import type { Subnets } from "../../subnet/lease_codec.ts";

/** Operators write leases with these addresses, and values that are none: managers never do. */
export const OPERATOR = "198.51.100.";

/** What is added to a node's number in its addresses for the time after a move. */
export const MOVED = 100;

/** The address by which a node began, whichever of its addresses this is. */
export function nodeOf(address: string): string {
  return address.startsWith(OPERATOR) ? address : address.replace(
    /\d+$/,
    (number) => String(Number(number) > MOVED ? Number(number) - MOVED : number),
  );
}

/** A key as it stands. */
export interface Holding {
  key: string;
  subnets: Subnets;
  /** The node whose public address is in its value; null where that is no lease. */
  owner: string | null;
  revision: number;
}

/** See the module. */
export class History implements AsyncDisposable {
  /** Changes so far. */
  changes = 0;
  readonly #held = new Map<string, Holding>();
  readonly #problems: string[] = [];
  readonly #client: EtcdClient;
  readonly #store: LeaseStore;
  readonly #stop = new AbortController();
  #following: Promise<void> = Promise.resolve();

  private constructor(endpoint: string, prefix: string) {
    this.#client = new EtcdClient({ endpoints: [endpoint] });
    this.#store = new LeaseStore(this.#client, prefix);
  }

  /** Follows all changes below a prefix that is empty yet. */
  static async follow(endpoint: string, prefix: string): Promise<History> {
    const history = new History(endpoint, prefix);
    const { cluster, revision, leases } = await history.#store.snapshot();
    if (leases.length > 0) throw new Error(`${prefix} is not empty`);
    history.#following = history.#client.watch(
      cluster,
      [{ ...history.#store.leases, revision: String(BigInt(revision) + 1n) }],
      { receive: ({ events }) => events.forEach(({ kv }) => history.#apply(kv)) },
      history.#stop.signal,
    ).then((end) => {
      if (end !== "aborted") history.#problems.push(`the watch ended: ${end}`);
    }).catch((error) => {
      history.#problems.push(`the watch broke: ${error}`);
    });
    return history;
  }

  /** What etcd holds now. */
  async now(): Promise<Map<string, Holding>> {
    const { leases } = await this.#store.snapshot();
    return new Map(leases.flatMap((stored) =>
      stored.subnets
        ? [[stored.key, {
          key: stored.key,
          subnets: stored.subnets,
          owner: ownerOf(stored),
          revision: Number(stored.revision),
        }]]
        : []
    ));
  }

  #apply(kv: IKeyValue): void {
    this.changes++;
    const stored = this.#store.read(kv);
    const { key, subnets } = stored;
    const before = this.#held.get(key);
    if (kv.version === "0") {
      this.#held.delete(key);
      return;
    }
    if (subnets === null) return;
    const owner = ownerOf(stored);
    const now = { key, subnets, owner, revision: Number(kv.mod_revision) };
    if (owner !== null && !owner.startsWith(OPERATOR)) this.#check(now, before);
    this.#held.set(key, now);
  }

  /** A manager's write: of a new key, or of its own. */
  #check(now: Holding, before: Holding | undefined): void {
    const what = `${now.owner} wrote ${now.key} at revision ${now.revision}`;
    if (before && before.owner !== null && before.owner !== now.owner) {
      this.#problems.push(`${what}, which belonged to ${before.owner}`);
    }
    for (const other of this.#held.values()) {
      if (other.key !== now.key && collide(other.subnets, now.subnets)) {
        this.#problems.push(`${what}, while ${other.owner} had ${other.key}`);
      }
    }
  }

  /** @throws Error with what no history may show, if it does */
  assertSound(): void {
    if (this.#problems.length > 0) throw new Error(this.#problems.join("\n"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
    this.#client.close();
  }
}

function ownerOf({ lease }: StoredLease): string | null {
  const address = lease?.attrs.publicIP ?? lease?.attrs.publicIPv6 ?? null;
  return address && nodeOf(address);
}

/** Writes of an operator, who asks nobody. */
export class Operator implements Disposable {
  readonly #client: EtcdClient;
  readonly #store: LeaseStore;

  constructor(endpoint: string, prefix: string) {
    this.#client = new EtcdClient({ endpoints: [endpoint] });
    this.#store = new LeaseStore(this.#client, prefix);
  }

  /** Writes a value under a lease's key, or under the config's. @returns the revision, as all do */
  async put(key: string | undefined, value: string): Promise<number> {
    const whole = key === undefined ? this.#store.configKey : this.#store.fullKey(key);
    return await this.#write({ request_put: { key: whole, value: Buffer.from(value) } });
  }

  async delete(key: string): Promise<number> {
    return await this.#write({ request_delete_range: { key: this.#store.fullKey(key) } });
  }

  async deleteAll(): Promise<number> {
    return await this.#write({ request_delete_range: this.#store.leases });
  }

  async #write(request: IRequestOp): Promise<number> {
    return Number((await this.#client.txn({ success: [request] })).header.revision);
  }

  /** Ends the etcd lease that a key hangs on. */
  async revoke(key: string): Promise<number> {
    const { leases } = await this.#store.snapshot();
    const stored = leases.find((one) => one.key === key);
    if (stored && stored.leaseId !== "0") await this.#client.revoke(stored.leaseId);
    return Number((await this.#store.snapshot()).revision);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
