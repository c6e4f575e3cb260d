/**
 * A node that comes back under another address knows its lease; nobody gets it by looking like that
 * node. Against a real etcd.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { EtcdSubnetManagerOptions } from "../../subnet/etcd/manager.ts";
import type { HeldLease, LeaseMemory } from "../../subnet/types.ts";
import { waitFor } from "../../testbed/netns.ts";
import { Proxy } from "../../testbed/proxy.ts";
import { attrs, Bench, NETWORK, type Node, PREFIX, value } from "./bench.ts";

/** A memory in memory; a copy is a clone's. */
class Memory implements LeaseMemory {
  constructor(public held?: HeldLease) {}
  recall(): HeldLease | undefined {
    return this.held;
  }
  keep(held: HeldLease): void {
    this.held = held;
  }
  with(change: Partial<HeldLease>): Memory {
    return new Memory({ ...this.held!, ...change });
  }
}

/** A node that remembers its lease, and whose agent has ended without a word. */
async function endedNode(bench: Bench, host = 1): Promise<{ memory: Memory; key: string }> {
  const memory = new Memory();
  const { lease } = await bench.node(host, { memory });
  return { memory, key: lease.key };
}

/** A node that remembers its lease and lives. */
async function livingNode(bench: Bench, options: Partial<EtcdSubnetManagerOptions> = {}) {
  const memory = new Memory();
  const node = await bench.node(1, { memory, ...options });
  const followed = bench.run(node);
  // etcd looks after watches that begin in the past every 100 ms; after a first change, at once.
  await bench.putLease("10.1.255.0-25", value(99));
  await followed.until("10.1.255.0-25");
  await bench.etcd.ctl("del", `${PREFIX}/subnets/10.1.255.0-25`);
  await followed.until();
  return { memory, node, followed, key: node.lease.key };
}

/** Every value that a key had, oldest first; `""` where it was deleted. */
async function valuesOf(bench: Bench, key: string): Promise<string[]> {
  const { kvs } = JSON.parse(
    await bench.etcd.ctl("get", `${PREFIX}/subnets/${key}`, "-w", "json"),
  ) as { kvs: { create_revision: number; mod_revision: number }[] };
  const values: string[] = [];
  for (let at = kvs[0].create_revision; at <= kvs[0].mod_revision; at++) {
    const old = await bench.etcd.ctl(
      ...["get", `${PREFIX}/subnets/${key}`, `--rev=${at}`, "--print-value-only"],
    );
    if (old.trim() !== values.at(-1)) values.push(old.trim());
  }
  return values;
}

Deno.test("a node under another address keeps its subnet, also when its lease is announced anew", async () => {
  await using bench = await Bench.start(NETWORK);
  const { memory, key } = await endedNode(bench);
  for (const host of [2, 3]) {
    const again = await bench.node(host, { memory }, { backendType: "vxlan" });
    assert.equal(again.lease.key, key);
    assert.deepEqual([...(await bench.leases())], [[
      key,
      `{"PublicIP":"192.0.2.${host}","PublicIPv6":null,"BackendType":"vxlan"}`,
    ]]);
    assert.notEqual(await bench.leaseId(key), 0);
  }
});

Deno.test("a backend is told of the lease before it is announced, and of older ones", async () => {
  await using bench = await Bench.start(NETWORK);
  const first = await bench.node(9);
  const { memory, key } = await endedNode(bench);
  await bench.node(8);
  const manager = bench.manager({ memory });
  const network = await manager.networkConfig(bench.signal);
  const { lease, older } = await manager.resume("192.0.2.2", null, bench.signal);
  assert.equal(lease?.key, key);
  assert.equal(lease?.attrs.publicIP, "192.0.2.1");
  assert.deepEqual(older.map((one) => one.key), [first.lease.key]);
  const acquired = await manager.acquire(network, attrs(2), bench.signal);
  assert.equal(acquired.key, key);
  assert.match((await bench.leases()).get(key)!, /192\.0\.2\.2"/);
});

Deno.test("what matches in part only is another's", async () => {
  await using bench = await Bench.start(NETWORK);
  const { memory, key } = await endedNode(bench);
  const { held } = memory;
  const other = (digits: string) => String(BigInt(digits) + 1n);
  const wrong: Partial<HeldLease>[] = [
    { cluster: other(held!.cluster) },
    { leaseId: other(held!.leaseId) },
    { leaseId: "0" },
    { created: other(held!.created) },
    { prefix: "/elsewhere" },
    { key: "10.1.255.0-24" },
  ];
  const before = (await bench.leases()).get(key);
  for (const [at, change] of wrong.entries()) {
    const node = await bench.node(20 + at, { memory: memory.with(change) });
    assert.notEqual(node.lease.key, key, JSON.stringify(change));
  }
  assert.equal((await bench.leases()).get(key), before);
});

Deno.test("a key that was deleted and claimed by another is not ours again", async () => {
  await using bench = await Bench.start(NETWORK);
  const { memory, key } = await endedNode(bench);
  const id = (await bench.leaseId(key)).toString(16);
  await bench.etcd.ctl("del", `${PREFIX}/subnets/${key}`);
  // Even on the same etcd lease, as someone with bad intent may do.
  await bench.putLease(key, value(9), `--lease=${BigInt(memory.held!.leaseId).toString(16) || id}`);
  const again = await bench.node(2, { memory });
  assert.notEqual(again.lease.key, key);
  assert.match((await bench.leases()).get(key)!, /192\.0\.2\.9/);
});

Deno.test("clones of a living node, one after another and at once, get subnets of their own", async () => {
  await using bench = await Bench.start(NETWORK);
  const { memory, followed, key } = await livingNode(bench);
  const clone = (host: number) => bench.node(host, { memory: memory.with({}) });
  const clones: Node[] = [];
  for (const host of [2, 3, 4]) clones.push(await clone(host));
  clones.push(...await Promise.all([5, 6, 7].map(clone)));
  const keys = clones.map(({ lease }) => lease.key);
  assert.equal(new Set([...keys, key]).size, 7);
  assert.deepEqual(followed.lost, []);
  // The peers never saw anything but the owner's data.
  assert.deepEqual(await valuesOf(bench, key), [(await bench.leases()).get(key)!]);
  assert.match((await bench.leases()).get(key)!, /192\.0\.2\.1"/);
  assert(bench.count(/^warning The lease .* is in use by a running agent at 192\.0\.2\.1/) >= 4);
});

Deno.test("an owner that was cut off when a clone took its lease gets it back", async () => {
  await using bench = await Bench.start(NETWORK);
  using proxy = new Proxy(bench.etcd.address);
  const { memory, followed, key } = await livingNode(bench, { endpoints: [proxy.endpoint] });
  proxy.cut();
  const clone = await bench.node(2, { memory: memory.with({}) });
  assert.equal(clone.lease.key, key, "nobody objects");
  const cloned = bench.run(clone);
  proxy.mend();
  await waitFor(() => cloned.lost.length > 0, { limitMs: 15_000 });
  await waitFor(async () => /192\.0\.2\.1"/.test((await bench.leases()).get(key)!));
  assert.deepEqual(followed.lost, []);
  const next = await clone.manager.acquire(clone.network, attrs(2), bench.signal, clone.lease);
  assert.notEqual(next.key, key);
  assert.deepEqual(followed.lost, []);
});

Deno.test("a clone with its memory, that is given another address, does not take the lease along", async () => {
  await using bench = await Bench.start(NETWORK);
  const { memory, node, followed, key } = await livingNode(bench);
  // What a copy of the process knows, too: the lease as it was written last.
  const copy = bench.manager({ memory: memory.with({}) });
  const network = await copy.networkConfig(bench.signal);
  const taken = await copy.acquire(network, attrs(2), bench.signal, { ...node.lease });
  assert.notEqual(taken.key, key);
  assert.deepEqual(followed.lost, []);
  assert.match((await bench.leases()).get(key)!, /192\.0\.2\.1"/);
});

Deno.test("of two with one address and one memory the first keeps its lease, the second waits", async () => {
  await using bench = await Bench.start(NETWORK);
  const { memory, followed, key } = await livingNode(bench);
  const second = bench.manager({ memory: memory.with({}) });
  const network = await second.networkConfig(bench.signal);
  let got = false;
  const waiting = second.acquire(network, attrs(1, { backendType: "vxlan" }), bench.signal)
    .then(() => got = true, () => {});
  const line = /^error Another agent uses this node's public address 192\.0\.2\.1 .*--public-ip/;
  await waitFor(() => bench.count(line) === 2, { limitMs: 10_000 });
  await new Promise((done) => setTimeout(done, 1_000));
  assert.equal(got, false);
  assert.equal(bench.count(line), 2, "no dispute goes on");
  assert.deepEqual(followed.lost, []);
  assert.deepEqual(await valuesOf(bench, key), [(await bench.leases()).get(key)!]);
  await bench.etcd.ctl("del", "--prefix", `${PREFIX}/config`);
  void waiting;
});

Deno.test("a reservation goes along with its node, and stays one; one that was given away does not", async () => {
  await using bench = await Bench.start(NETWORK);
  const key = "10.1.77.0-24";
  await bench.putLease(key, value(1));
  const memory = new Memory();
  await bench.node(1, { memory });
  const moved = await bench.node(2, { memory });
  assert.equal(moved.lease.key, key);
  assert.equal(moved.lease.expiration, Infinity);
  assert.equal(await bench.leaseId(key), 0);
  assert.match((await bench.leases()).get(key)!, /192\.0\.2\.2"/);
  await bench.putLease(key, value(9));
  assert.notEqual((await bench.node(3, { memory: memory.with({}) })).lease.key, key);
  assert.match((await bench.leases()).get(key)!, /192\.0\.2\.9"/);
});

Deno.test("the clone of a node with a reservation does not get it", async () => {
  await using bench = await Bench.start(NETWORK);
  const key = "10.1.77.0-24";
  await bench.putLease(key, value(1));
  const { memory, followed } = await livingNode(bench);
  const clone = await bench.node(2, { memory: memory.with({}) });
  assert.notEqual(clone.lease.key, key);
  await waitFor(async () => await bench.leaseId(key) === 0, { what: "the reservation again" });
  assert.match((await bench.leases()).get(key)!, /192\.0\.2\.1"/);
  assert.deepEqual(followed.lost, []);
});

Deno.test("someone who keeps on writing our lease is answered, within a budget of lines", async () => {
  await using bench = await Bench.start(NETWORK);
  const { followed, key } = await livingNode(bench);
  const own = (await bench.leases()).get(key)!;
  for (let at = 0; at < 30; at++) {
    const granted = await bench.etcd.ctl("lease", "grant", "600");
    await bench.putLease(
      key,
      at % 2 ? own : value(9),
      `--lease=${/lease ([0-9a-f]+) /.exec(granted)![1]}`,
    );
  }
  await waitFor(async () => (await bench.leases()).get(key) === own, { limitMs: 20_000 });
  assert.deepEqual(followed.lost, []);
  assert(bench.count(/; keeping it$/) <= 14);
});
