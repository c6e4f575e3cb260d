/**
 * What a lease, a watch, a change and a renewal cost etcd, measured one by one on an etcd of one member
 * on this machine; with them the costs of networks can be told that do not fit on it.
 *
 * @module
 */
import { Etcd3 } from "etcd3";
import { EtcdClient } from "../../subnet/etcd/client.ts";
import { LeaseStore } from "../../subnet/etcd/store.ts";
import { Etcd } from "../../testbed/etcd.ts";
import { waitFor } from "../../testbed/netns.ts";
import { type Metrics, parseMetrics, total } from "./etcd_metrics.ts";
import { type Cost, counted, pause } from "./lib.ts";
import { leaseOf, simulated } from "./simulated.ts";

const PREFIX = "/coreos.com/network";
const TTL = 86_400;
const SIZES = [1_000, 10_000, 50_000];
const LISTS = 10;
const CLIENTS = 100;
const CHANGES = 1_000;
const RENEWALS = 5_000;
/** Calls at once where the order does not matter. */
const AT_ONCE = 32;
/** Each agent watches the leases and the config. */
const WATCHES = 2;

/** See the module. */
export async function* etcdCosts(): AsyncGenerator<Cost, void, void> {
  yield* withEtcd(async function* (etcd, client) {
    await fill(etcd, client, [], SIZES[0]);
    yield* await watches(etcd, client);
  });
  yield* withEtcd(async function* (etcd, client) {
    const leases: string[] = [];
    for (const size of SIZES) {
      yield* await fill(etcd, client, leases, size);
      yield* await list(etcd, size);
    }
    yield* await renewals(etcd, leases);
  });
}

/** Measures with an etcd of its own, as memory that was used once stays with it. */
async function* withEtcd(
  measure: (etcd: Etcd, client: Etcd3) => AsyncGenerator<Cost, void, void>,
): AsyncGenerator<Cost, void, void> {
  await using etcd = await Etcd.start({ args: ["--quota-backend-bytes=4294967296"] });
  const client = new Etcd3({ hosts: etcd.endpoint });
  try {
    yield* measure(etcd, client);
  } finally {
    client.close();
  }
}

/** Adds leases as agents make them, an etcd lease each, until there are `size`. */
async function fill(etcd: Etcd, client: Etcd3, leases: string[], size: number): Promise<Cost[]> {
  const before = await metrics(etcd);
  const first = leases.length;
  await inParallel(size - first, async (index) => {
    const lease = client.lease(TTL, { autoKeepAlive: false });
    leases[first + index] = await lease.grant();
    const [key, value] = leaseOf(simulated(first + index));
    await lease.put(key).value(value).exec();
  });
  const after = await metrics(etcd);
  const each = (name: string) => (total(after, name) - total(before, name)) / (size - first);
  return [
    [`claim of a lease, up to ${counted(size)}: processor (ms)`, 1000 * each(CPU)],
    [`lease in the database, up to ${counted(size)} (bytes)`, each(IN_USE)],
    [`etcd with ${counted(size)} leases, resident (MB)`, total(after, RESIDENT) / 2 ** 20],
  ];
}

/** Reads all leases as an agent does at its start. */
async function list(etcd: Etcd, size: number): Promise<Cost[]> {
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  const store = new LeaseStore(client, PREFIX);
  const before = await metrics(etcd);
  const started = performance.now();
  for (let count = 0; count < LISTS; count++) {
    const { leases } = await store.snapshot();
    if (leases.length !== size) throw new Error(`${leases.length} leases, not ${size}`);
  }
  const took = performance.now() - started;
  const after = await metrics(etcd);
  client.close();
  const each = (name: string) => (total(after, name) - total(before, name)) / LISTS;
  return [
    [`reading ${counted(size)} leases (kB)`, each(SENT) / 1000],
    [`reading ${counted(size)} leases, with parsing (ms)`, took / LISTS],
    [`reading ${counted(size)} leases: processor of etcd (ms)`, 1000 * each(CPU)],
  ];
}

/** Renews leases as agents do, a stream each time. */
async function renewals(etcd: Etcd, leases: string[]): Promise<Cost[]> {
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  const before = await metrics(etcd);
  await inParallel(RENEWALS, async (index) => {
    if (await client.keepAlive(leases[index]) <= 0) throw new Error("a lease has ended");
  });
  const after = await metrics(etcd);
  client.close();
  const each = (name: string) => (total(after, name) - total(before, name)) / RENEWALS;
  return [
    ["renewal: processor of etcd (ms)", 1000 * each(CPU)],
    ["renewal: writes to the log", each("etcd_server_proposals_committed_total")],
  ];
}

/** Follows with many clients, and changes leases. */
async function watches(etcd: Etcd, client: Etcd3): Promise<Cost[]> {
  const alone = await change(etcd, client);
  const before = await metrics(etcd);
  const ending = new AbortController();
  let seen = 0;
  const clients = Array.from(
    { length: CLIENTS },
    () => new EtcdClient({ endpoints: [etcd.endpoint] }),
  );
  const { cluster, revision } = await clients[0].read([{
    key: new LeaseStore(clients[0], PREFIX).configKey,
  }]);
  const next = String(BigInt(revision) + 1n);
  const watching = clients.map((one) => {
    const store = new LeaseStore(one, PREFIX);
    const ranges = [store.leases, { key: store.configKey }];
    return one.watch(cluster, ranges.map((range) => ({ ...range, revision: next })), {
      receive: ({ events }) => seen += events.length,
    }, ending.signal);
  });
  const there = CLIENTS * WATCHES;
  await waitFor(async () => total(await metrics(etcd), WATCHERS) >= there, { limitMs: 30_000 });
  const opened = await metrics(etcd);
  const watched = await change(etcd, client);
  await waitFor(() => seen >= CHANGES * CLIENTS, { limitMs: 30_000, what: "all events" });
  ending.abort();
  await Promise.all(watching);
  for (const one of clients) one.close();
  const each = (name: string) => (total(opened, name) - total(before, name)) / CLIENTS;
  return [
    ["agent that connects and watches: processor of etcd (ms)", 1000 * each(CPU)],
    ["agent that watches: resident of etcd (kB)", each(RESIDENT) / 1000],
    ["change that nobody watches: processor of etcd (ms)", 1000 * alone.cpu],
    [
      "change, for each agent that watches: processor of etcd (ms)",
      1000 * (watched.cpu - alone.cpu) / CLIENTS,
    ],
    ["change, for each agent that watches (bytes)", (watched.sent - alone.sent) / CLIENTS],
  ];
}

/** Writes leases at a pace that lets events go out one by one. @returns what a change cost */
async function change(etcd: Etcd, client: Etcd3): Promise<{ cpu: number; sent: number }> {
  const before = await metrics(etcd);
  for (let index = 0; index < CHANGES; index++) {
    const [key, value] = leaseOf(simulated(index, 1));
    await client.put(key).value(value);
    await pause(0.005);
  }
  await pause(0.5);
  const after = await metrics(etcd);
  const each = (name: string) => (total(after, name) - total(before, name)) / CHANGES;
  return { cpu: each(CPU), sent: each(SENT) };
}

const CPU = "process_cpu_seconds_total";
const RESIDENT = "process_resident_memory_bytes";
const IN_USE = "etcd_mvcc_db_total_size_in_use_in_bytes";
const SENT = "etcd_network_client_grpc_sent_bytes_total";
const WATCHERS = "etcd_debugging_mvcc_watcher_total";

async function metrics({ endpoint }: Etcd): Promise<Metrics> {
  const response = await fetch(`${endpoint}/metrics`);
  return parseMetrics(await response.text());
}

async function inParallel(count: number, job: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await job(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
