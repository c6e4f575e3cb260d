/**
 * Writes hostile leases into an etcd, as a process of its own, since it runs in etcd's namespace:
 * `feed.ts ENDPOINT PREFIX SEED COUNT VICTIMS`, the victims as JSON. Keys of victims are left alone.
 * Prints how many keys there are now, how many bytes were written and the seconds that it took.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { EtcdClient, type IRequestOp } from "../../subnet/etcd/client.ts";
import { Patience } from "../../subnet/etcd/patience.ts";
import { type HostileLease, HostileLeases, Random, type Victim } from "./generate.ts";

/** Writes in a transaction: etcd takes 128 operations and 1.5 MB. */
const BATCH = 100;
const BATCH_BYTES = 1_000_000;
/** Transactions under way at once. */
const PARALLEL = 6;
/** Share of the leases that end some day, as all of real agents do; the others are reservations. */
const MORTAL = 0.3;

const [endpoint, prefix, seed, count, victimsJson] = Deno.args;
const victims: Victim[] = JSON.parse(victimsJson);
const random = new Random(Number(seed));
const generator = new HostileLeases(random, victims);
const etcd = new EtcdClient({ endpoints: [endpoint] });
const patience = new Patience();
const limit = AbortSignal.timeout(150_000);
const started = performance.now();
let left = Number(count);
let bytes = 0;

/** The next leases for a transaction, which may name a key only once. */
function batch(): HostileLease[] {
  const found = new Map<string, HostileLease>();
  let size = 0;
  while (left > 0 && found.size < BATCH && size < BATCH_BYTES) {
    const one = generator.next();
    const name = Buffer.from(one.key).toString("latin1");
    left--;
    if (victims.some(({ key }) => key === name)) continue;
    found.set(name, one);
    size += one.key.length + one.value.length;
  }
  bytes += size;
  return [...found.values()];
}

async function write(mortal: string): Promise<void> {
  for (let leases = batch(); leases.length > 0; leases = batch()) {
    const success = leases.map(({ key, value }): IRequestOp => ({
      request_put: {
        key: Buffer.concat([Buffer.from(`${prefix}/subnets/`), key]),
        value: Buffer.from(value),
        lease: random.chance(MORTAL) ? mortal : "0",
      },
    }));
    await patience.until(limit, () => etcd.txn({ success }));
  }
}

// The first call finds the connection that all others share.
const mortal = await patience.until(limit, () => etcd.grant(86_400));
await Promise.all(Array.from({ length: PARALLEL }, () => write(mortal)));
const seconds = (performance.now() - started) / 1000;
console.log(JSON.stringify({ bytes, seconds }));
etcd.close();
