/**
 * Peers and the config as the watch brings them, against a real etcd.
 *
 * @module
 */
import assert from "node:assert/strict";
import { waitFor } from "../../testbed/netns.ts";
import { Proxy } from "../../testbed/proxy.ts";
import { Bench, NETWORK, PREFIX, value } from "./bench.ts";

Deno.test("peers come and go; a renewal by Go flannel is no change; a burst is gathered", async () => {
  await using bench = await Bench.start(NETWORK);
  await bench.putLease("10.1.5.0-24", value(5));
  const followed = bench.run(await bench.node(1));
  await followed.until("10.1.5.0-24");
  const five = followed.peers.get("10.1.5.0-24");
  await bench.putLease("10.1.5.0-24", value(5));
  await bench.putLease("10.1.6.0-24", value(6));
  await followed.until("10.1.5.0-24", "10.1.6.0-24");
  assert.equal(followed.batches.length, 2, "the renewal is not told");
  assert.equal(followed.peers.get("10.1.5.0-24"), five, "the same object");
  await bench.etcd.ctl("del", "--prefix", `${PREFIX}/subnets/10.1.5`);
  await followed.until("10.1.6.0-24");
  const before = followed.batches.length;
  const others = await Promise.all(Array.from({ length: 40 }, (_, at) => bench.node(100 + at)));
  await followed.until("10.1.6.0-24", ...others.map(({ lease }) => lease.key));
  assert(followed.batches.length - before < 30, `${followed.batches.length - before} batches`);
});

Deno.test("changes that etcd compacted away during a disconnect are found by a snapshot", async () => {
  await using bench = await Bench.start(NETWORK);
  using proxy = new Proxy(bench.etcd.address);
  for (const at of [5, 6]) await bench.putLease(`10.1.${at}.0-24`, value(at));
  const followed = bench.run(await bench.node(1, { endpoints: [proxy.endpoint] }));
  await followed.until("10.1.5.0-24", "10.1.6.0-24");
  const five = followed.peers.get("10.1.5.0-24");
  proxy.cut();
  await bench.etcd.ctl("del", `${PREFIX}/subnets/10.1.6.0-24`);
  for (let at = 0; at < 5; at++) await bench.putLease("10.1.7.0-24", value(7));
  const status = JSON.parse(await bench.etcd.ctl("endpoint", "status", "-w", "json"));
  await bench.etcd.ctl("compact", `${status[0].Status.header.revision}`);
  assert.equal(followed.peers.size, 2, "what is known stays meanwhile");
  proxy.mend();
  await followed.until("10.1.5.0-24", "10.1.7.0-24");
  assert.equal(followed.peers.get("10.1.5.0-24"), five);
  await bench.putLease("10.1.8.0-24", value(8));
  await followed.until("10.1.5.0-24", "10.1.7.0-24", "10.1.8.0-24");
});

Deno.test("a watch from a compacted revision begins with a snapshot", async () => {
  await using bench = await Bench.start(NETWORK);
  const node = await bench.node(1);
  for (let at = 0; at < 5; at++) await bench.putLease("10.1.7.0-24", value(7));
  await bench.etcd.ctl("del", `${PREFIX}/subnets/10.1.7.0-24`);
  await bench.putLease("10.1.8.0-24", value(8));
  const status = JSON.parse(await bench.etcd.ctl("endpoint", "status", "-w", "json"));
  await bench.etcd.ctl("compact", `${status[0].Status.header.revision}`);
  const followed = bench.run(node);
  await followed.until("10.1.8.0-24");
  assert.equal(bench.count(/compacted/), 1);
});

Deno.test("a watch that broke goes on where it was, without reading all leases", async () => {
  await using bench = await Bench.start(NETWORK);
  using proxy = new Proxy(bench.etcd.address);
  await bench.putLease("10.1.5.0-24", value(5));
  await bench.putLease("10.1.6.0-24", value(6));
  const followed = bench.run(await bench.node(1, { endpoints: [proxy.endpoint] }));
  await followed.until("10.1.5.0-24", "10.1.6.0-24");
  const before = await bench.transactions();
  for (const at of [7, 8]) {
    proxy.cut();
    await bench.etcd.ctl("del", "--prefix", `${PREFIX}/subnets/10.1.${at - 1}.`);
    await bench.putLease(`10.1.${at}.0-24`, value(at));
    proxy.mend();
    await followed.until("10.1.5.0-24", `10.1.${at}.0-24`);
  }
  assert.equal(await bench.transactions(), before);
});

Deno.test("an etcd that was set back to an earlier state is read anew", async () => {
  await using bench = await Bench.start(NETWORK);
  await bench.putLease("10.1.5.0-24", value(5));
  const node = await bench.node(1);
  const followed = bench.run(node);
  await followed.until("10.1.5.0-24");
  for (let at = 0; at < 20; at++) await bench.putLease("10.1.6.0-24", value(6));
  await bench.etcd.stop();
  await Deno.remove(`${bench.etcd.folder}/data`, { recursive: true });
  await bench.etcd.restart();
  await bench.putConfig(NETWORK);
  await bench.putLease("10.1.7.0-24", value(7));
  await followed.until("10.1.7.0-24");
  await waitFor(async () => (await bench.leases()).has(node.lease.key), { limitMs: 10_000 });
});

Deno.test("etcd restarts: peers stay, one line each way, and changes come again", async () => {
  await using bench = await Bench.start(NETWORK);
  await bench.putLease("10.1.5.0-24", value(5));
  const followed = bench.run(await bench.node(1));
  await followed.until("10.1.5.0-24");
  await bench.etcd.stop();
  await waitFor(() => bench.count(/unreachable/) > 0, { limitMs: 10_000 });
  // Several attempts, of which only the first is in the log.
  await new Promise((done) => setTimeout(done, 1_500));
  assert.equal(followed.batches.length, 1);
  await bench.etcd.restart();
  await bench.putLease("10.1.6.0-24", value(6));
  await followed.until("10.1.5.0-24", "10.1.6.0-24");
  assert.equal(bench.count(/unreachable.*forwarding continues with the last known peers/), 1);
  assert.equal(bench.count(/etcd answers again/), 1);
  assert.deepEqual(followed.lost, []);
});

Deno.test("broken leases and hostile keys are passed over one by one", async () => {
  await using bench = await Bench.start(NETWORK);
  const bad: Record<string, object | string> = {
    "10.1.20.0-24": "{",
    "10.1.21.0-24": '{"PublicIP":"127.0.0.1"}',
    "10.1.22.0-24": `{"PublicIP":"192.0.2.22","BackendData":"${"x".repeat(20_000)}"}`,
    "10.1.23.0-24": '{"PublicIP":["192.0.2.23"]}',
    "0.0.0.0-0": value(30),
    "10.0.0.0-8": value(31),
    "10.1.0.0-16": value(32),
    "10.1.128.0-17": value(33),
    "__proto__": value(34),
    "../../config": value(35),
    "10.1.24.0-24 \u001b[31m": value(36),
    "192.168.0.0-24": value(37),
  };
  for (const [key, content] of Object.entries(bad)) await bench.putLease(key, content);
  await bench.putLease("10.1.5.0-24", value(5));
  const node = await bench.node(1);
  const followed = bench.run(node);
  await followed.until("10.1.5.0-24");
  assert.equal(bench.count(/^warning Skipping lease .*: /), Object.keys(bad).length);
  await bench.putLease("10.1.20.0-24", value(20));
  await followed.until("10.1.5.0-24", "10.1.20.0-24");
  await bench.putLease("10.1.5.0-24", "[]");
  await followed.until("10.1.20.0-24");
  assert.equal(({} as Record<string, unknown>).PublicIP, undefined);
});

Deno.test("changes of the config are told, the one at the start is not", async () => {
  await using bench = await Bench.start(NETWORK);
  const followed = bench.run(await bench.node(1));
  await followed.until();
  await bench.putConfig("new");
  await waitFor(() => followed.configs.length === 1);
  await bench.etcd.ctl("del", `${PREFIX}/config`);
  await waitFor(() => followed.configs.length === 2);
  assert.deepEqual(followed.configs, ["new", undefined]);
});
