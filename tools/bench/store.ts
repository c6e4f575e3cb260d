/**
 * A client of etcd inside a host: writes peers' leases, or times them on their way to the kernel.
 *
 * `store.ts ENDPOINT JOB`, the job as JSON; prints its result as the last line.
 *
 * @module
 */
import { Etcd3, type Lease } from "etcd3";

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

/** Subnet, public address and VTEP MAC of a peer, different for each number below 60,000. */
function peer(number: number): { subnet: string; ip: string; mac: string } {
  const hex = number.toString(16).padStart(6, "0").match(/../g)!.join(":");
  return {
    subnet: `10.${16 + (number >> 8)}.${number & 255}.0`,
    ip: `172.${20 + Math.floor(number / 62_500)}.${Math.floor(number / 250)}.${number % 250 + 1}`,
    mac: `02:f1:00:${hex}`,
  };
}

function keyValue(number: number, backend?: "udp"): [key: string, value: string] {
  const { subnet, ip, mac } = peer(number);
  const data = { BackendType: "vxlan", BackendData: { VNI: 1, VtepMAC: mac } };
  return [
    `/coreos.com/network/subnets/${subnet}-24`,
    JSON.stringify({ PublicIP: ip, PublicIPv6: null, ...(backend === "udp" ? {} : data) }),
  ];
}

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
      const [key, value] = keyValue(number, backend);
      return client.put(key).value(value).lease(id);
    });
    const [key] = keyValue(from);
    const { succeeded } = await client.if(key, "Version", "==", 0).then(...puts).commit();
    if (!succeeded) throw new Error(`${key} is there already`);
  }
}

/** Follows routes, neighbours and fdb entries of this namespace; one process, hence one clock. */
class Monitor implements Disposable {
  #child = new Deno.Command("ip", {
    args: ["-o", "monitor", "label", "route", "neigh"],
    stdout: "piped",
  }).spawn();
  #line: (line: string, at: number) => void = () => {};

  constructor() {
    this.#read();
  }

  /** Calls `line` with each line and the time at which it came, from now on. */
  follow(line: (line: string, at: number) => void): void {
    this.#line = line;
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }

  async #read(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      const at = performance.now();
      const lines = (rest + decoder.decode(chunk)).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#line(line, at);
    }
  }
}

/** Makes and removes a route until the monitor is seen to work. */
async function waitAwake(monitor: Monitor): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let awake = false;
  monitor.follow((line) => {
    if (!line.includes("198.51.100.0")) return;
    awake = true;
    resolve();
  });
  for (let attempt = 0; !awake && attempt < 50; attempt++) {
    for (const verb of ["add", "delete"]) {
      await new Deno.Command("ip", { args: ["route", verb, "blackhole", "198.51.100.0/24"] })
        .output();
    }
    await Promise.race([promise, new Promise((done) => setTimeout(done, 100))]);
  }
  if (!awake) throw new Error("ip monitor shows nothing");
}

async function timeOne(
  lease: Lease,
  monitor: Monitor,
  number: number,
): Promise<Timing> {
  const { subnet, mac } = peer(number);
  const [key, value] = keyValue(number);
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
  using monitor = new Monitor();
  await waitAwake(monitor);
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
