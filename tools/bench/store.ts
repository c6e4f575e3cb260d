/**
 * A client of etcd inside a host: writes peers' leases, or times them on their way to the kernel.
 *
 * `store.ts ENDPOINT JOB`, the job as JSON; prints its result as the last line.
 *
 * @module
 */
import { Etcd3, type Lease } from "etcd3";
import { Monitor } from "./monitor.ts";
import { leaseOf, simulated } from "./simulated.ts";

/** What to do. */
export type StoreJob =
  /** Write leases quickly, of vxlan where no backend is named; prints `done`. */
  | { job: "put"; first: number; count: number; backend?: "udp" }
  /** Write leases one by one and time each; prints a {@linkcode Timing} a line, then `done`. */
  | { job: "time"; first: number; count: number };

/** Milliseconds of one new peer. */
export interface Timing {
  /** From the call of the put to its acknowledgement. */
  put: number;
  /** From the acknowledgement to the last of route, neighbour and fdb entry. */
  working: number;
  /** Whether the route came after the two others. */
  routeLast: boolean;
}

/** Puts in one transaction, etcd's default limit. */
const BATCH = 128;
const TTL = 86_400;

async function putAll(
  client: Etcd3,
  lease: Lease,
  { first, count, backend }: StoreJob & { job: "put" },
): Promise<void> {
  const id = await lease.grant();
  for (let from = first; from < first + count; from += BATCH) {
    const numbers = Array.from(
      { length: Math.min(BATCH, first + count - from) },
      (_, index) => from + index,
    );
    const puts = numbers.map((number) => {
      const [key, value] = leaseOf(simulated(number), backend);
      return client.put(key).value(value).lease(id);
    });
    const [key] = leaseOf(simulated(from));
    const { succeeded } = await client.if(key, "Version", "==", 0).then(...puts).commit();
    if (!succeeded) throw new Error(`${key} is there already`);
  }
}

async function timeOne(
  lease: Lease,
  monitor: Monitor,
  number: number,
): Promise<Timing> {
  const node = simulated(number);
  const { subnet, mac } = node;
  const [key, value] = leaseOf(node);
  const { promise, resolve, reject } = Promise.withResolvers<{ last: number; route: number }>();
  const timer = setTimeout(() => reject(new Error(`${subnet}: no route after 10 s`)), 10_000);
  let route = 0;
  const others: number[] = [];
  monitor.follow((line, at) => {
    if (line.includes("[ROUTE]") && line.includes(`]${subnet}/24 `)) route = at;
    else if (line.includes(mac)) others.push(at);
    if (route && others.length >= 2) resolve({ last: Math.max(route, ...others), route });
  });
  const started = performance.now();
  await lease.put(key).value(value).exec();
  const acknowledged = performance.now();
  const { last, route: routeAt } = await promise;
  clearTimeout(timer);
  return {
    put: acknowledged - started,
    working: last - acknowledged,
    routeLast: routeAt === last,
  };
}

async function timeAll(lease: Lease, first: number, count: number): Promise<void> {
  await lease.grant();
  using monitor = await Monitor.start();
  for (let number = first; number < first + count; number++) {
    await new Promise((done) => setTimeout(done, 5 + Math.random() * 45));
    console.log(JSON.stringify(await timeOne(lease, monitor, number)));
  }
}

if (import.meta.main) {
  const [endpoint, text] = Deno.args;
  const job = JSON.parse(text) as StoreJob;
  const client = new Etcd3({ hosts: endpoint });
  const lease = client.lease(TTL, { autoKeepAlive: false });
  if (job.job === "put") await putAll(client, lease, job);
  else await timeAll(lease, job.first, job.count);
  console.log("done");
  Deno.exit(0);
}
