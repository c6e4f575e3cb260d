/**
 * The layout of flannel's keys in etcd, and reading them: everything as of one revision.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type EtcdClient, type IKeyValue, prefixEnd } from "./client.ts";
import { AnswerTooLargeError } from "./fault.ts";
import { decodeAttrs, keyName, LeaseError, parseLeaseKey, type Subnets } from "../lease_codec.ts";
import type { Candidate } from "../types.ts";

/** A lease's key as it is stored, whether or not the rest can be used. */
export interface StoredLease extends Candidate {
  /** What the key names; null where it is none. */
  subnets: Subnets | null;
  /** The etcd lease that it hangs on; `"0"` for a reservation, which never ends. */
  leaseId: string;
}

/** The network config's text and the revision that wrote it. */
export interface StoredConfig {
  text: string;
  revision: string;
}

/** What of the leases at a revision tells one history of them from another. */
export interface Mark {
  count: number;
  /** The one that was written last; undefined where it is not known. */
  newest?: Pick<StoredLease, "key" | "created" | "revision" | "leaseId">;
}

/** All of flannel's keys at one revision. */
export interface Snapshot {
  /** Id of the etcd cluster that has it. */
  cluster: string;
  revision: string;
  config: StoredConfig | undefined;
  leases: StoredLease[];
  /** Of the leases as they were read. */
  mark: Mark;
}

/** Leases read at a time, of some 300 bytes each. */
const PAGE = 50_000;

/** flannel's keys below a prefix. */
export class LeaseStore {
  readonly configKey: Buffer;
  /** First and end of the leases' keys. */
  readonly leases: { key: Buffer; range_end: Buffer };
  readonly #client: EtcdClient;
  readonly #subnets: string;

  /** @param prefix without a trailing slash */
  constructor(client: EtcdClient, prefix: string) {
    this.#client = client;
    this.#subnets = `${prefix}/subnets/`;
    this.configKey = Buffer.from(`${prefix}/config`);
    this.leases = { key: Buffer.from(this.#subnets), range_end: prefixEnd(this.#subnets) };
  }

  /** The key of a lease in full. */
  fullKey(key: string): Buffer {
    return Buffer.from(this.#subnets + key);
  }

  /**
   * Reads all there is: in one transaction, or in pages of its revision where that would be too much.
   *
   * @throws {EtcdFault}
   */
  async snapshot(): Promise<Snapshot> {
    const config = { key: this.configKey };
    const leases: StoredLease[] = [];
    let [from, limit, revision, cluster, first] = [
      this.leases.key,
      PAGE,
      "0",
      "",
      undefined as IKeyValue[] | undefined,
    ];
    while (true) {
      const page = { key: from, range_end: this.leases.range_end, limit, revision };
      try {
        const read = await this.#client.read(first ? [page] : [page, config]);
        const [kvs] = read.ranges;
        if (first === undefined) {
          [first, revision, cluster] = [read.ranges[1], read.revision, read.cluster];
        }
        for (const kv of kvs) leases.push(this.read(kv));
        const last = kvs.at(-1);
        if (last === undefined || kvs.length < limit) break;
        from = Buffer.concat([last.key, Buffer.of(0)]);
      } catch (error) {
        if (!(error instanceof AnswerTooLargeError) || limit === 1) throw error;
        limit = Math.ceil(limit / 8);
      }
    }
    const [kv] = first;
    return {
      cluster,
      revision,
      config: kv && { text: kv.value.toString(), revision: kv.mod_revision },
      leases,
      mark: markOf(leases),
    };
  }

  /**
   * Whether etcd has the history that was followed: an etcd that was restored from a backup may carry
   * the same id and have come to any revision since.
   *
   * @param at revisions of the leases and of the config up to which it was followed
   * @throws {EtcdFault | RevisionGoneError} the latter where it does not have these revisions
   */
  async hasHistory(
    cluster: string,
    mark: Mark,
    config: string | undefined,
    at: { leases: string; config: string },
  ): Promise<boolean> {
    const { newest } = mark;
    const [configs, leases, lease] = await this.#client.readPast([
      { key: this.configKey, revision: at.config },
      { ...this.leases, revision: at.leases, count_only: true },
      ...(newest ? [{ key: this.fullKey(newest.key), revision: at.leases }] : []),
    ]);
    const [kv] = lease?.kvs ?? [];
    const stored = kv && this.read(kv);
    return configs.header.cluster_id === cluster && configs.kvs[0]?.mod_revision === config &&
      Number(leases.count) === mark.count &&
      (newest === undefined ||
        stored?.revision === newest.revision && stored.created === newest.created &&
          stored.leaseId === newest.leaseId);
  }

  /** Reads one lease; undefined where there is none. @throws {EtcdFault} */
  async one(key: string): Promise<StoredLease | undefined> {
    const { ranges: [[kv]] } = await this.#client.read([{ key: this.fullKey(key) }]);
    return kv && this.read(kv);
  }

  /** Whether a changed key is the config's. */
  isConfig(kv: IKeyValue): boolean {
    return kv.key.equals(this.configKey);
  }

  /** A lease's key below `subnets/`, by its name where it cannot be one. */
  keyOf(kv: IKeyValue): string {
    return keyName(kv.key.subarray(this.leases.key.length));
  }

  /** What is stored for a lease, with the reason where it cannot be used. */
  read(kv: IKeyValue): StoredLease {
    const stored: StoredLease = {
      key: this.keyOf(kv),
      created: Number(kv.create_revision),
      revision: kv.mod_revision,
      leaseId: kv.lease,
      subnets: null,
      lease: null,
      problem: "",
    };
    try {
      stored.subnets = parseLeaseKey(stored.key);
      stored.lease = {
        key: stored.key,
        ...stored.subnets,
        attrs: decodeAttrs(kv.value),
        expiration: stored.leaseId === "0" ? Infinity : null,
        revision: stored.revision,
      };
    } catch (error) {
      if (!(error instanceof LeaseError)) throw error;
      stored.problem = error.message;
    }
    return stored;
  }
}

function markOf(leases: readonly StoredLease[]): Mark {
  // The name of a key that is none of flannel's may not be the key itself.
  const newest = leases.filter(({ subnets }) => subnets !== null)
    .reduce<StoredLease | undefined>(
      (last, one) => last && BigInt(last.revision) > BigInt(one.revision) ? last : one,
      undefined,
    );
  return { count: leases.length, newest };
}

/** What a mark becomes by a change. */
export function marked({ count, newest }: Mark, stored: StoredLease, kv: IKeyValue): Mark {
  if (kv.version === "0") {
    return { count: count - 1, newest: newest?.key === stored.key ? undefined : newest };
  }
  const { key, created, revision, leaseId, subnets } = stored;
  return {
    count: kv.version === "1" ? count + 1 : count,
    newest: subnets === null ? newest : { key, created, revision, leaseId },
  };
}
