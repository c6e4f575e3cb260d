/**
 * Simulated nodes that come, go and are replaced, inside a host that runs an agent; each change is
 * timed on its way to the kernel.
 *
 * `churn.ts ENDPOINT JOB`, the job as JSON. Prints `filled` once all nodes are there and in the
 * kernel, and a {@linkcode Churned} as its last line.
 *
 * @module
 */
import { Etcd3, type Lease } from "etcd3";
import { Monitor } from "./monitor.ts";
import { leaseOf, type Simulated, simulated } from "./simulated.ts";

/** What to do. */
export interface ChurnJob {
  /** Nodes to simulate; a tenth of them at most is away at a time. */
  nodes: number;
  /** Changes a second, on average; their distances are exponentially distributed. */
  rate: number;
  seconds: number;
}

/** A kind of change: a new lease, one that ends, one with another address and MAC. */
export type Change = "add" | "remove" | "replace";

/** What came of it. */
export interface Churned {
  /** Milliseconds from etcd's acknowledgement to the kernel's last notification of each change. */
  latencies: Record<Change, number[]>;
  /** Changes that the kernel did not show within {@linkcode LIMIT_MS}. */
  missed: string[];
  /** The nodes that are there at the end. */
  nodes: Simulated[];
}

const LIMIT_MS = 10_000;
const TTL = 86_400;
/** Changes at once while the nodes are made. */
const FILLING = 32;

/** One of the nodes. */
interface Place {
  number: number;
  generation: number;
  lease: Lease;
}

/** Waits for notifications. */
class Sightings {
  readonly #waiting = new Map<string, (at: number) => void>();

  constructor(monitor: Monitor) {
    monitor.follow((line, at) => {
      for (const sight of sightsOf(line)) this.#waiting.get(sight)?.(at);
    });
  }

  /** Resolves to the time at which a sight came for the `count`th time; undefined where it did not. */
  async of(sight: string, count: number): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const timer = setTimeout(() => resolve(undefined), LIMIT_MS);
    let left = count;
    this.#waiting.set(sight, (at) => --left === 0 && resolve(at));
    const at = await promise;
    clearTimeout(timer);
    this.#waiting.delete(sight);
    return at;
  }
}

/** What a line of the monitor shows: `+10.16.0.0`, `-10.16.0.0`, or a MAC. */
function sightsOf(line: string): string[] {
  const [, deleted, subnet] = /^\[ROUTE\](Deleted )?([\d.]+)\/24 /.exec(line) ?? [];
  if (subnet !== undefined) return [`${deleted ? "-" : "+"}${subnet}`];
  return line.includes("Deleted") ? [] : line.match(/\b02:f1(:[0-9a-f]{2}){4}\b/g) ?? [];
}

/** The nodes and their changes. */
class Nodes {
  readonly #client: Etcd3;
  readonly #sightings: Sightings;
  readonly #there: Place[] = [];
  readonly #away: Pick<Place, "number" | "generation">[];
  readonly #most: number;
  readonly latencies: Churned["latencies"] = { add: [], remove: [], replace: [] };
  readonly missed: string[] = [];

  constructor(client: Etcd3, sightings: Sightings, count: number) {
    this.#client = client;
    this.#sightings = sightings;
    this.#away = Array.from({ length: count }, (_, number) => ({ number, generation: 0 }));
    this.#most = count / 10;
  }

  get there(): Simulated[] {
    return this.#there.map(({ number, generation }) => simulated(number, generation));
  }

  /** Makes all nodes. */
  async fill(): Promise<void> {
    const worker = async () => {
      while (this.#away.length > 0) await this.#add();
    };
    await Promise.all(Array.from({ length: FILLING }, worker));
    for (const list of Object.values(this.latencies)) list.length = 0;
  }

  /** One change, of a node that no other change is about. */
  async change(): Promise<void> {
    const choice = Math.floor(Math.random() * 3);
    if (choice === 0 && this.#away.length > 0) await this.#add();
    else if (choice === 1 && this.#away.length < this.#most) await this.#remove();
    else await this.#replace();
  }

  async #add(): Promise<void> {
    const { number, generation } = take(this.#away);
    const lease = this.#client.lease(TTL, { autoKeepAlive: false });
    await lease.grant();
    const place = { number, generation: (generation + 1) % 256, lease };
    await this.#time("add", `+${simulated(number).subnet}`, 1, () => this.#put(place));
    this.#there.push(place);
  }

  async #remove(): Promise<void> {
    const place = take(this.#there);
    const { subnet } = simulated(place.number);
    await this.#time("remove", `-${subnet}`, 1, () => place.lease.revoke());
    this.#away.push(place);
  }

  async #replace(): Promise<void> {
    const place = take(this.#there);
    place.generation = (place.generation + 1) % 256;
    const { mac } = simulated(place.number, place.generation);
    // Of the neighbour and of the fdb entry.
    await this.#time("replace", mac, 2, () => this.#put(place));
    this.#there.push(place);
  }

  async #put({ number, generation, lease }: Place): Promise<void> {
    const [key, value] = leaseOf(simulated(number, generation));
    await lease.put(key).value(value).exec();
  }

  async #time(
    change: Change,
    sight: string,
    count: number,
    write: () => Promise<unknown>,
  ): Promise<void> {
    const seen = this.#sightings.of(sight, count);
    await write();
    const acknowledged = performance.now();
    const at = await seen;
    if (at === undefined) this.missed.push(`${change} ${sight}`);
    // The kernel may have it before we have etcd's answer.
    else this.latencies[change].push(Math.max(0, at - acknowledged));
  }
}

/** Takes one of a list at random. */
function take<T>(list: T[]): T {
  const at = Math.floor(Math.random() * list.length);
  const [last] = list.splice(-1);
  if (at === list.length) return last;
  const taken = list[at];
  list[at] = last;
  return taken;
}

async function churn(client: Etcd3, { nodes: count, rate, seconds }: ChurnJob): Promise<Churned> {
  using monitor = await Monitor.start();
  const nodes = new Nodes(client, new Sightings(monitor), count);
  await nodes.fill();
  console.log("filled");
  const started = performance.now();
  const running = new Set<Promise<void>>();
  for (let due = started; due - started < seconds * 1000;) {
    due += -Math.log(1 - Math.random()) * 1000 / rate;
    await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
    const change = nodes.change().finally(() => running.delete(change));
    running.add(change);
  }
  await Promise.all(running);
  return { latencies: nodes.latencies, missed: nodes.missed, nodes: nodes.there };
}

if (import.meta.main) {
  const [endpoint, text] = Deno.args;
  const client = new Etcd3({ hosts: endpoint });
  console.log(JSON.stringify(await churn(client, JSON.parse(text))));
  Deno.exit(0);
}
