/**
 * Calls to etcd over several endpoints. The one place that imports etcd3, which is used for its
 * typed calls only: its own fault handling waits between endpoints and gives up, and its watcher
 * resumes without telling what was missed.
 *
 * Each endpoint has a client of its own, made when it is needed and thrown away when it fails, so
 * that a next attempt starts afresh, with certificates read again. Reads race the endpoints, a new
 * one joining whenever one fails or is silent for {@linkcode STAGGER}: a dead first endpoint costs
 * next to nothing. The one that answers first is used until it fails.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  Etcd3,
  type IDuplexStream,
  type IKeyValue,
  type ILeaseKeepAliveRequest,
  type ILeaseKeepAliveResponse,
  type IRangeRequest,
  type IRangeResponse,
  type ITxnRequest,
  type ITxnResponse,
  type IWatchRequest,
  type IWatchResponse,
} from "etcd3";
import {
  CALL_LIMIT,
  CHANNEL,
  type EtcdAccess,
  Login,
  NO_POLICY,
  READ_LIMIT,
  targetName,
} from "./channel.ts";
import { readCertificates } from "./certificates.ts";
import {
  type EtcdFault,
  faultOf,
  faultOfAll,
  isAnswer,
  isRevisionGone,
  isTooLarge,
  LeaseEndedError,
} from "./fault.ts";

import { logCall, logTraffic } from "./traffic.ts";

export type { EtcdAccess } from "./channel.ts";
export { CompareResult, CompareTarget } from "etcd3";
export type { ICompare, IKeyValue, IRequestOp, IWatchResponse } from "etcd3";

/** Milliseconds that an endpoint may be silent before a read asks the next one, too. */
const STAGGER = 250;

/** Keys to watch, one or up to `range_end`, from a revision on. */
export interface WatchRange {
  key: Buffer;
  range_end?: Buffer;
  revision: string;
}

/** Told of a watch. */
export interface WatchEvents {
  /** All ranges are watched now; changes up to `revision` had come before. */
  opened?(revision: string): void;
  /** Changes in the range of that index; none where etcd only tells how far it has come. */
  receive(response: IWatchResponse, range: number): void;
}

/**
 * Why a watch ended that did not break: etcd has compacted the changes away, or it is another etcd, or
 * one that was restored from an earlier state.
 */
export type WatchEnd = "aborted" | "compacted" | "set back";

/** A connection to one endpoint. */
interface Connection {
  endpoint: string;
  etcd: Etcd3;
  /** Settles when the user is logged in; at once where there is none. */
  ready: Promise<void>;
}

/** A call of etcd's. */
interface Call<T> {
  /** Its name in the log. */
  what: string;
  make(etcd: Etcd3): Promise<T>;
  /** What came of it, for the log. */
  result?(answer: T): string;
}

function logged<T>({ what, make, result }: Call<T>, { etcd, endpoint }: Connection): Promise<T> {
  return logCall(what, endpoint, () => make(etcd), result);
}

function keysIn(responses: ITxnResponse["responses"]): number {
  return responses.reduce((sum, one) => sum + one.response_range.kvs.length, 0);
}

/** etcd behind a list of endpoints. */
export class EtcdClient {
  readonly #access: EtcdAccess;
  /** The endpoint in use comes first. */
  readonly #endpoints: string[];
  #connection: Connection | undefined;
  #lastContact = 0;
  #closed = false;

  constructor(access: EtcdAccess) {
    if (access.endpoints.length === 0) throw new TypeError("no etcd endpoint is given");
    this.#access = access;
    this.#endpoints = [...access.endpoints];
  }

  /** Milliseconds since the epoch of the last answer; 0 before the first. */
  get lastContact(): number {
    return this.#lastContact;
  }

  /**
   * Reads ranges in one transaction, so that they are of one revision.
   *
   * @param limitMs milliseconds within which an endpoint must have answered
   * @throws {EtcdFault | AnswerTooLargeError}
   */
  async read(
    ranges: IRangeRequest[],
    limitMs = READ_LIMIT,
  ): Promise<{ cluster: string; revision: string; ranges: IKeyValue[][] }> {
    const success = ranges.map((request_range) => ({ request_range }));
    const read: Call<ITxnResponse> = {
      what: "Read",
      make: (etcd) => etcd.kv.txn({ success }, { deadline: Date.now() + limitMs }),
      result: ({ header, responses }) => `${keysIn(responses)} keys, revision ${header.revision}`,
    };
    const response = await this.#ask(read);
    return {
      cluster: response.header.cluster_id,
      revision: response.header.revision,
      ranges: response.responses.map((one) => one.response_range.kvs),
    };
  }

  /**
   * Reads ranges as they were at past revisions, which each of them names.
   *
   * @throws {EtcdFault | RevisionGoneError} the latter where etcd does not have one of them
   */
  async readPast(ranges: IRangeRequest[]): Promise<IRangeResponse[]> {
    return await this.#ask({
      what: "Read of the past",
      make: (etcd) => Promise.all(ranges.map((range) => etcd.kv.range(range))),
      result: (answers) => `revision ${answers[0].header.revision}`,
    });
  }

  /** Asks for a key's revision, to see whether etcd answers at all. @throws {EtcdFault} */
  async look(key: Buffer): Promise<void> {
    await this.#ask({
      what: "Look",
      make: (etcd) => etcd.kv.range({ key, keys_only: true }),
      result: ({ header }) => `revision ${header.revision}`,
    });
  }

  /** A call that reads: on the connection in use, else on whichever endpoint answers first. */
  #ask<T>(call: Call<T>): Promise<T> {
    return this.#connection ? this.#call(this.#connection, call) : this.#race(call);
  }

  /**
   * Runs a transaction once. A fault leaves open whether it was carried out.
   *
   * @throws {EtcdFault | LeaseEndedError} the latter where it puts a key with an ended etcd lease
   */
  async txn(request: ITxnRequest): Promise<ITxnResponse> {
    try {
      return await this.#once({
        what: "Transaction",
        make: (etcd) => etcd.kv.txn(request),
        result: ({ succeeded, header }) =>
          `${succeeded ? "carried out" : "not carried out"}, revision ${header.revision}`,
      });
    } catch (error) {
      throw isAnswer(error) ? new LeaseEndedError("the etcd lease has ended") : error;
    }
  }

  /** Makes an etcd lease of `seconds`. @returns its id @throws {EtcdFault} */
  async grant(seconds: number): Promise<string> {
    const answer = await this.#once({
      what: "New etcd lease",
      make: (etcd) => etcd.leaseClient.leaseGrant({ TTL: seconds }),
      result: ({ ID }) => `lease ${ID} for ${seconds} s`,
    });
    return answer.ID;
  }

  /** Ends an etcd lease and its keys; nothing where it has ended. @throws {EtcdFault} */
  async revoke(leaseId: string): Promise<void> {
    try {
      await this.#once({
        what: `End of etcd lease ${leaseId}`,
        make: (etcd) => etcd.leaseClient.leaseRevoke({ ID: leaseId }),
      });
    } catch (error) {
      if (!isAnswer(error)) throw error;
    }
  }

  /** Seconds that an etcd lease still lasts; -1 where it has ended. @throws {EtcdFault} */
  async timeToLive(leaseId: string): Promise<number> {
    const answer = await this.#once({
      what: `Remaining time of etcd lease ${leaseId}`,
      make: (etcd) => etcd.leaseClient.leaseTimeToLive({ ID: leaseId, keys: false }),
      result: ({ TTL }) => `${TTL} s`,
    });
    return Number(answer.TTL);
  }

  /** Starts an etcd lease's time again. @returns its seconds, 0 where it has ended @throws {EtcdFault} */
  async keepAlive(leaseId: string): Promise<number> {
    return await this.#once({
      what: `Keep-alive of etcd lease ${leaseId}`,
      make: async (etcd) => {
        const stream = await etcd.leaseClient.leaseKeepAlive();
        const timer = setTimeout(() => stream.cancel(), CALL_LIMIT);
        try {
          return Number((await firstAnswer(stream, leaseId)).TTL);
        } finally {
          clearTimeout(timer);
          stream.end();
        }
      },
      result: (seconds) => `${seconds} s`,
    });
  }

  /**
   * Watches ranges until the stream ends, for whatever reason, or `signal` aborts.
   *
   * @param cluster whose revisions these are
   * @throws {EtcdFault} where it broke; resolves on abort and where there is nothing to go on from
   */
  async watch(
    cluster: string,
    ranges: WatchRange[],
    events: WatchEvents,
    signal: AbortSignal,
  ): Promise<WatchEnd> {
    if (signal.aborted) return "aborted";
    const make = async (etcd: Etcd3): Promise<WatchEnd> => {
      const stream = await etcd.watchClient.watch();
      // etcd3 takes the error of a cancelled stream for a failed host, unless it was ended before.
      const cancel = () => {
        stream.end();
        stream.cancel();
      };
      signal.addEventListener("abort", cancel, { once: true });
      try {
        if (signal.aborted) return "aborted";
        const ended = this.#follow(stream, cluster, ranges, events);
        for (const { revision, ...range } of ranges) {
          stream.write({
            // Fragments: many large values changed at once would be more than a message may have.
            create_request: {
              ...range,
              start_revision: revision,
              progress_notify: true,
              fragment: true,
            },
          });
        }
        return await ended;
      } catch (error) {
        if (!signal.aborted) throw error;
        return "aborted";
      } finally {
        signal.removeEventListener("abort", cancel);
        cancel();
      }
    };
    return await this.#once({
      what: `Watch from revision ${ranges[0].revision}`,
      make,
      result: (end) => `ended, ${end}`,
    });
  }

  #follow(
    stream: IDuplexStream<IWatchRequest, IWatchResponse>,
    cluster: string,
    ranges: WatchRange[],
    events: WatchEvents,
  ): Promise<WatchEnd> {
    const { promise, resolve, reject } = Promise.withResolvers<WatchEnd>();
    // etcd numbers the watches, in the order in which it was asked.
    const numbers: string[] = [];
    stream.on("data", (response) => {
      this.#lastContact = Date.now();
      if (response.canceled) {
        if (response.compact_revision !== "0") resolve("compacted");
        else reject(new Error(response.cancel_reason || "etcd cancelled the watch"));
      } else if (response.created) {
        if (!hasHistory(response, cluster, ranges[numbers.length])) resolve("set back");
        numbers.push(response.watch_id);
        if (numbers.length === ranges.length) {
          logTraffic(() => `Watching from revision ${ranges[0].revision} on`);
          events.opened?.(response.header.revision);
        }
      } else {
        events.receive(response, numbers.indexOf(response.watch_id));
      }
    });
    stream.on("error", reject);
    stream.on("end", () => reject(new Error("etcd ended the watch")));
    return promise;
  }

  /** Drops the connection; the next call makes a new one. */
  reconnect(): void {
    this.#drop(this.#connection);
  }

  /** Drops the connection for good. */
  close(): void {
    this.#closed = true;
    this.#drop(this.#connection);
  }

  /** A call on the connection in use, or on a new one to the first endpoint; no second try. */
  async #once<T>(call: Call<T>): Promise<T> {
    try {
      this.#connection ??= this.#connect(this.#endpoints[0]);
    } catch (error) {
      throw await this.#fault(error, this.#endpoints[0]);
    }
    return await this.#call(this.#connection, call);
  }

  async #call<T>(connection: Connection, call: Call<T>): Promise<T> {
    try {
      await connection.ready;
      const answer = await logged(call, connection);
      this.#lastContact = Date.now();
      return answer;
    } catch (error) {
      if (isAnswer(error)) throw error;
      if (isTooLarge(error) || isRevisionGone(error)) {
        throw await this.#fault(error, connection.endpoint);
      }
      this.#drop(connection);
      const index = this.#endpoints.indexOf(connection.endpoint);
      this.#endpoints.push(...this.#endpoints.splice(index, 1));
      throw await this.#fault(error, connection.endpoint);
    }
  }

  /** A call on all endpoints, staggered; the first answer counts and its endpoint stays in use. */
  async #race<T>(call: Call<T>): Promise<T> {
    const connections: Connection[] = [];
    const faults = new Map<string, EtcdFault>();
    const { promise: won, resolve: win, reject: lose } = Promise.withResolvers<
      { connection: Connection; answer: T }
    >();
    const waiting = [...this.#endpoints];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const next = () => {
      clearTimeout(timer);
      const endpoint = waiting.shift();
      if (endpoint === undefined) return;
      timer = setTimeout(next, STAGGER);
      this.#attempt(endpoint, connections, call).then(win, async (error) => {
        // The next one need not wait for the cause.
        next();
        const fault = await this.#fault(error, endpoint);
        faults.set(endpoint, fault);
        if (isTooLarge(error) || isRevisionGone(error)) lose(fault);
        if (faults.size < this.#endpoints.length) return;
        lose(faultOfAll(this.#access.endpoints.flatMap((one) => faults.get(one) ?? [])));
      });
    };
    next();
    try {
      const { connection, answer } = await won;
      this.#lastContact = Date.now();
      if (this.#connection) this.#drop(this.#connection);
      this.#connection = connection;
      const index = this.#endpoints.indexOf(connection.endpoint);
      this.#endpoints.unshift(...this.#endpoints.splice(index, 1));
      return answer;
    } finally {
      clearTimeout(timer);
      for (const connection of connections) {
        if (connection !== this.#connection || this.#closed) this.#drop(connection);
      }
    }
  }

  async #attempt<T>(
    endpoint: string,
    connections: Connection[],
    call: Call<T>,
  ): Promise<{ connection: Connection; answer: T }> {
    const connection = this.#connect(endpoint);
    connections.push(connection);
    await connection.ready;
    return { connection, answer: await logged(call, connection) };
  }

  #drop(connection: Connection | undefined): void {
    if (this.#connection === connection) this.#connection = undefined;
    connection?.etcd.close();
  }

  #connect(endpoint: string): Connection {
    if (this.#closed) throw new Error("the client is closed");
    const login = new Login();
    const etcd = new Etcd3({
      hosts: endpoint,
      credentials: endpoint.startsWith("https:") ? readCertificates(this.#access) : undefined,
      grpcOptions: { ...CHANNEL, ...targetName(endpoint) },
      defaultCallOptions: ({ isStream }) => ({
        ...(isStream ? {} : { deadline: Date.now() + CALL_LIMIT }),
        interceptors: [login.interceptor],
      }),
      faultHandling: { global: NO_POLICY, host: () => NO_POLICY },
    });
    const { username: name, password = "" } = this.#access;
    const ready = name ? login.as(etcd, { name, password }) : Promise.resolve();
    // A connection may be dropped before anyone waits for it.
    ready.catch(() => {});
    return { endpoint, etcd, ready };
  }

  #fault(error: unknown, endpoint: string): Promise<EtcdFault> {
    return faultOf(error, endpoint, this.#access, this.#lastContact > 0);
  }
}

/**
 * Whether the etcd that answers is where the revision is from: not another one, and not one that was
 * set back to before it.
 */
function hasHistory(
  { header }: IWatchResponse,
  cluster: string,
  { revision }: WatchRange,
): boolean {
  return header.cluster_id === cluster && BigInt(header.revision) + 1n >= BigInt(revision);
}

async function firstAnswer(
  stream: IDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>,
  leaseId: string,
): Promise<ILeaseKeepAliveResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<ILeaseKeepAliveResponse>();
  stream.on("data", resolve);
  stream.on("error", reject);
  stream.on("end", () => reject(new Error("etcd ended the keep-alive")));
  stream.write({ ID: leaseId });
  return await promise;
}

/** The end of the range of all keys that begin with `prefix`. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1]++;
  return end;
}
