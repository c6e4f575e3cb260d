/**
 * The etcd leases of a process, in a real etcd: a claim that comes late leaves no second key.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { EtcdClient } from "../../subnet/etcd/client.ts";
import { LeaseEndedError } from "../../subnet/etcd/fault.ts";
import { Grants } from "../../subnet/etcd/grants.ts";
import { Etcd } from "../../testbed/etcd.ts";

/** An etcd, a client of it, and the etcd leases made by that. */
class Bench implements AsyncDisposable {
  readonly #client: EtcdClient;
  readonly grants: Grants;

  private constructor(readonly etcd: Etcd) {
    this.#client = new EtcdClient({ endpoints: [etcd.endpoint] });
    this.grants = new Grants(this.#client, 600);
  }

  static async start(): Promise<Bench> {
    return new Bench(await Etcd.start());
  }

  async put(key: string, lease: string): Promise<void> {
    const request_put = { key: Buffer.from(key), value: Buffer.from("{}"), lease };
    await this.#client.txn({ success: [{ request_put }] });
  }

  async keys(): Promise<string[]> {
    const text = await this.etcd.ctl("get", "--prefix", "--keys-only", "a");
    return text.split("\n").filter((line) => line !== "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.etcd[Symbol.asyncDispose]();
  }
}

Deno.test("a claim whose answer was lost is undone, or comes to nothing, once another is made", async () => {
  await using bench = await Bench.start();
  const { grants } = bench;
  // Two claims that nobody heard of again: one was carried out, one is on its way.
  const done = await grants.take("a1");
  await bench.put("a1", done.leaseId);
  const late = await grants.take("a2");
  const now = await grants.take("a3");
  assert.equal(new Set([done.leaseId, late.leaseId, now.leaseId]).size, 3, "one a key");
  await bench.put("a3", now.leaseId);
  grants.spend(now);
  await grants.settle(now.leaseId);
  assert.deepEqual(await bench.keys(), ["a3"]);
  await assert.rejects(bench.put("a2", late.leaseId), LeaseEndedError);
});

Deno.test("the same etcd lease serves the next try of a key, and of another once it was refused", async () => {
  await using bench = await Bench.start();
  const { grants } = bench;
  grants.prepare();
  const first = await grants.take("a1");
  assert.equal((await grants.take("a1")).leaseId, first.leaseId, "an answer was lost");
  grants.refused(first);
  assert.notEqual((await grants.take("a2")).leaseId, first.leaseId, "one is still on its way");
  const second = await grants.take("a2");
  grants.refused(second);
  grants.refused(second);
  assert.equal((await grants.take("a3")).leaseId, second.leaseId, "all were refused");
  assert(grants.has(first.leaseId) && grants.has(second.leaseId) && !grants.has("0"));
});

Deno.test("an etcd lease that a key may hang on is never given back, an unused one is", async () => {
  await using bench = await Bench.start();
  const { grants } = bench;
  const { leaseId } = await grants.take("a1");
  await bench.put("a1", leaseId);
  await grants.abandon();
  assert.deepEqual(await bench.keys(), ["a1"]);
  grants.prepare();
  await grants.abandon();
  assert.match(await bench.etcd.ctl("lease", "list"), /found 1 leases/);
});
