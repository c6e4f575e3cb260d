/**
 * Whether etcd answers, how fast, and whether the network config there is valid.
 *
 * @module
 */
import type { EtcdOptions } from "../subnet/etcd/options.ts";
import { fail, type Finding, pass, warn } from "../backends/finding.ts";
import { validateBackendConfig } from "../backends/registry.ts";
import {
  ConfigError,
  type NetworkConfig,
  parseNetworkConfig,
  unknownKeyLines,
} from "../subnet/config.ts";
import { EtcdClient } from "../subnet/etcd/client.ts";
import { LeaseStore, type Snapshot } from "../subnet/etcd/store.ts";
import { reasonOf } from "./check.ts";

/** Milliseconds within which an endpoint must answer. */
export const ENDPOINT_LIMIT = 4_000;
/** Reads by which the latency is measured. */
const READS = 5;
/** Milliseconds of an answer beyond which leases and peers are late. */
const SLOW = 250;

/** Example of a config, for a store that has none. */
const EXAMPLE = `flanneld config set '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}'`;

/** An etcd that answers, and what it has. */
export interface StoreFacts extends Disposable {
  snapshot: Snapshot;
  /** Seconds that an etcd lease still lasts; -1 where it has ended. */
  timeToLive(leaseId: string): Promise<number>;
}

/** One endpoint's client, and how fast it answers. */
interface Answering {
  client: EtcdClient;
  store: LeaseStore;
  snapshot: Snapshot;
  finding: Finding;
}

/** Asks all endpoints at once. Returns what the first in the list that answers has. */
export async function* examineStore(
  options: EtcdOptions,
): AsyncGenerator<Finding, StoreFacts | undefined> {
  const tried = await Promise.all(options.endpoints.map(async (endpoint) => {
    try {
      return await ask(options, endpoint);
    } catch (error) {
      return { endpoint, reason: reasonOf(error) };
    }
  }));
  const answering = tried.filter((one): one is Answering => "client" in one);
  for (const one of tried) {
    if ("client" in one) yield one.finding;
    else yield silent(one, answering.length > 0);
  }
  const [first, ...others] = answering;
  for (const { client } of others) client.close();
  return first && {
    snapshot: first.snapshot,
    timeToLive: (leaseId) => first.client.timeToLive(leaseId),
    [Symbol.dispose]: () => first.client.close(),
  };
}

function silent({ endpoint, reason }: { endpoint: string; reason: string }, othersDo: boolean) {
  const check = `etcd ${endpoint}`;
  const detail = reason.replace(`etcd at ${endpoint} `, "");
  return othersDo
    ? warn(check, detail, "start that member, or take it out of --etcd-endpoints")
    : fail(
      check,
      detail,
      "check that etcd runs, that --etcd-endpoints is right, and that no firewall is in between",
    );
}

async function ask(options: EtcdOptions, endpoint: string): Promise<Answering> {
  const client = new EtcdClient({ ...options, endpoints: [endpoint] });
  try {
    const store = new LeaseStore(client, options.prefix);
    // The first read takes the connection's time, too.
    await within(client.read([{ key: store.configKey }]));
    const times: number[] = [];
    for (let read = 0; read < READS; read++) {
      const start = performance.now();
      await within(client.read([{ key: store.configKey }]));
      times.push(performance.now() - start);
    }
    const snapshot = await store.snapshot();
    const median = times.toSorted((a, b) => a - b)[Math.floor(READS / 2)];
    const detail = `answers in ${median.toFixed(1)} ms (median of ${READS})`;
    const check = `etcd ${endpoint}`;
    const finding = median < SLOW ? pass(check, detail) : warn(
      check,
      `${detail}: new peers are late, and the lease may not be renewed in time`,
      "check the network to that member, and its disk (etcdctl check perf)",
    );
    return { client, store, snapshot, finding };
  } catch (error) {
    client.close();
    throw error;
  }
}

async function within<T>(work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`does not answer within ${ENDPOINT_LIMIT / 1000} s`)),
    ENDPOINT_LIMIT,
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Checks the network config. Returns it where it is valid. */
export async function* examineConfig(
  { config }: Snapshot,
  prefix: string,
): AsyncGenerator<Finding, NetworkConfig | undefined> {
  const check = "network config";
  if (config === undefined) {
    yield fail(check, `not found in etcd at ${prefix}/config`, EXAMPLE);
    return undefined;
  }
  try {
    const network = parseNetworkConfig(config.text);
    await validateBackendConfig(network);
    const networks = [network.ipv4, network.ipv6].flatMap((half) => half ? [half.network] : []);
    yield pass(check, `${networks.join(" and ")}, backend ${network.backend.type}`);
    for (const line of [...unknownKeyLines(network), ...network.warnings]) {
      yield warn(check, line, "flanneld config set");
    }
    return network;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    yield fail(check, error.message, "flanneld config set");
    return undefined;
  }
}
