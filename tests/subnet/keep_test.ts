/**
 * A lease that is held: renewed, taken, gone and claimed again, against a real etcd.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Cidr } from "../../base/cidr.ts";
import type { Lease } from "../../subnet/types.ts";
import { waitFor } from "../../testbed/netns.ts";
import { Proxy } from "../../testbed/proxy.ts";
import { attrs, Bench, NETWORK, NONE, PREFIX, value } from "./bench.ts";

Deno.test("what is no lease under our key is written over, also beside one that overlaps", async () => {
  await using bench = await Bench.start(NETWORK);
  const node = await bench.node(1);
  const followed = bench.run(node);
  await followed.until();
  const { key } = node.lease;
  const stored = (await bench.leases()).get(key);
  await bench.putLease(key.replace("-24", "-25"), value(9));
  for (const garbage of ["[]", '{"PublicIP":"127.0.0.1"}']) {
    await bench.putLease(key, garbage);
    await waitFor(async () => (await bench.leases()).get(key) === stored, { limitMs: 10_000 });
  }
  assert.notEqual(await bench.leaseId(key), 0, "and ends with its node");
  assert.deepEqual(followed.lost, []);
});

Deno.test("a lease is kept alive without a write; that of a dead node ends and its peers drop it", async () => {
  await using bench = await Bench.start(NETWORK);
  const alive = await bench.node(1, { subnetTtlSeconds: 3 });
  const followed = bench.run(alive);
  const began = Date.now();
  const dead = await bench.node(2, { subnetTtlSeconds: 2 });
  await followed.until(dead.lease.key);
  await followed.until();
  await waitFor(() => Date.now() - began > 6_000, { limitMs: 7_000 });
  assert((await bench.leases()).has(alive.lease.key));
  assert((alive.lease.expiration ?? 0) > Date.now());
  const text = await bench.etcd.ctl("get", `${PREFIX}/subnets/${alive.lease.key}`, "-w", "json");
  assert.equal(JSON.parse(text).kvs[0].version, 1);
  assert(bench.count(/Waiting for .*s to renew lease/) >= 2);
  assert.deepEqual(followed.lost, []);
});

Deno.test("a lease that an operator deletes is claimed again, one that another takes is lost", async () => {
  await using bench = await Bench.start(NETWORK);
  const node = await bench.node(1);
  const followed = bench.run(node);
  await followed.until();
  await bench.etcd.ctl("del", `${PREFIX}/subnets/${node.lease.key}`);
  await waitFor(async () => (await bench.leases()).has(node.lease.key));
  assert.notEqual(await bench.leaseId(node.lease.key), 0);
  assert.deepEqual(followed.lost, []);
  await bench.putLease(node.lease.key, value(9));
  await waitFor(() => followed.lost.length > 0);
  assert.match(followed.lost[0], /overwritten by 192\.0\.2\.9/);
  const next = await node.manager.acquire(node.network, attrs(1), bench.signal, node.lease);
  assert.notEqual(next.key, node.lease.key);
});

Deno.test("a lease that ended while etcd was away is claimed again, or lost to a rival", async () => {
  await using bench = await Bench.start(NETWORK);
  using proxy = new Proxy(bench.etcd.address);
  const options = { endpoints: [proxy.endpoint], subnetTtlSeconds: 2 };
  const [one, two] = [await bench.node(1, options), await bench.node(2, options)];
  const [followedOne, followedTwo] = [bench.run(one), bench.run(two)];
  await followedOne.until(two.lease.key);
  await followedTwo.until(one.lease.key);
  proxy.cut();
  await waitFor(async () => (await bench.leases()).size === 0, { limitMs: 10_000 });
  // The half of a subnet is another key, and overlaps all the same.
  const half = `${two.lease.subnet?.address}-25`;
  await bench.putLease(half, value(9));
  proxy.mend();
  await waitFor(async () => (await bench.leases()).has(one.lease.key), { limitMs: 10_000 });
  await waitFor(() => followedTwo.lost.length > 0, { limitMs: 10_000 });
  assert.match(followedTwo.lost[0], new RegExp(half));
  assert(!(await bench.leases()).has(two.lease.key));
  assert.deepEqual(followedOne.lost, []);
});

Deno.test("peers whose leases ended while etcd was away are carried until they are back", async () => {
  await using bench = await Bench.start(NETWORK);
  using proxy = new Proxy(bench.etcd.address);
  const options = { endpoints: [proxy.endpoint], subnetTtlSeconds: 2 };
  const nodes = [];
  for (const host of [1, 2, 3]) nodes.push(await bench.node(host, options));
  const followed = nodes.map((node) => bench.run(node));
  const keys = nodes.map(({ lease }) => lease.key);
  const others = (index: number) => keys.filter((_, other) => other !== index);
  await Promise.all(followed.map((one, index) => one.until(...others(index))));
  proxy.cut();
  await waitFor(async () => (await bench.leases()).size === 0, { limitMs: 10_000 });
  proxy.mend();
  await waitFor(async () => (await bench.leases()).size === 3, { limitMs: 15_000 });
  for (const [index, { batches }] of followed.entries()) {
    await followed[index].until(...others(index));
    const whole = batches.findIndex(({ size }) => size === 2);
    assert(batches.slice(whole).every(({ size }) => size === 2), "no peer was dropped meanwhile");
  }
});

Deno.test("of two nodes with one public address the first keeps its lease, the second waits", async () => {
  await using bench = await Bench.start(NETWORK);
  const first = await bench.node(1);
  const followed = bench.run(first);
  const second = bench.manager();
  const network = await second.networkConfig(bench.signal);
  let got: Lease | undefined;
  const waiting = second.acquire(network, attrs(1), bench.signal).then((lease) => got = lease);
  const line = /^error Another agent uses this node's public address 192\.0\.2\.1 .*--public-ip/;
  await waitFor(() => bench.count(line) === 2, { limitMs: 10_000 });
  await waitFor(() => bench.count(/; keeping it$/) === 1);
  assert.equal(got, undefined);
  assert.deepEqual(followed.lost, []);
  assert.deepEqual([...(await bench.leases()).keys()], [first.lease.key]);
  assert.notEqual(await bench.leaseId(first.lease.key), 0);
  // Once the first is gone for good, there is room for the second.
  await first.manager.close();
  await bench.etcd.ctl("del", `${PREFIX}/subnets/${first.lease.key}`);
  await waiting.catch(() => {});
  assert.ok(got);
});

for (const [what, content] of [["a larger lease", value(9)], ["no lease", "[]"]] as const) {
  Deno.test(`a lease that ended is not claimed again within another key, ${what}`, async () => {
    await using bench = await Bench.start({ ...NETWORK, SubnetLen: 25 });
    using proxy = new Proxy(bench.etcd.address);
    const node = await bench.node(1, {
      previous: { ...NONE, subnet: Cidr.parse("10.1.40.128/25") },
      subnetTtlSeconds: 2,
      endpoints: [proxy.endpoint],
    });
    assert.equal(node.lease.key, "10.1.40.128-25");
    const followed = bench.run(node);
    proxy.cut();
    await waitFor(async () => (await bench.leases()).size === 0, { limitMs: 15_000 });
    // A node with another config may have that, and may be about to put it back.
    await bench.putLease("10.1.40.0-24", content);
    proxy.mend();
    await waitFor(() => followed.lost.length > 0, { limitMs: 15_000 });
    assert.equal(followed.lost[0], "this node's subnet is now part of 10.1.40.0-24");
    assert.deepEqual([...(await bench.leases()).keys()], ["10.1.40.0-24"]);
  });
}
