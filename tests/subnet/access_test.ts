/**
 * Reaching etcd: endpoints, certificates, users, and what it holds at the start.
 *
 * @module
 */
import assert from "node:assert/strict";
import { certificateAuthority } from "../lib/certificates.ts";
import { freePort } from "../lib/etcd.ts";
import { waitFor } from "../lib/netns.ts";
import { Bench, NETWORK, PREFIX, value } from "./bench.ts";

Deno.test("a store of values larger than one answer may be is read all the same", async () => {
  await using bench = await Bench.start(NETWORK);
  const file = `${bench.etcd.folder}/large`;
  await Deno.writeTextFile(file, "x".repeat(1_400_000));
  for (let at = 0; at < 30; at++) {
    await bench.etcd.put(`${PREFIX}/subnets/10.1.${100 + at}.0-24`, file);
  }
  await bench.putLease("10.1.5.0-24", value(5));
  const followed = bench.run(await bench.node(1));
  await followed.until("10.1.5.0-24");
  assert.equal(bench.count(/is passed over: its value has 1400000 bytes/), 30);
  await bench.etcd.put(`${PREFIX}/subnets/10.1.99.0-24`, file);
  await bench.putLease("10.1.6.0-24", value(6));
  await followed.until("10.1.5.0-24", "10.1.6.0-24");
  assert.equal(bench.count(/unreachable|too large/), 0);
});

Deno.test("a dead or silent first endpoint costs little", async () => {
  await using bench = await Bench.start(NETWORK);
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  for (const port of [freePort(), silent.addr.port]) {
    const began = performance.now();
    await bench.node(port % 200 + 1, {
      endpoints: [`http://127.0.0.1:${port}`, bench.etcd.endpoint],
    });
    const took = performance.now() - began;
    // Waiting for the silent one would take the whole limit of a read, 30 s.
    assert(took < 3_000, `${took} ms`);
  }
  assert.equal(bench.count(/unreachable/), 0);
});

Deno.test("certificates: ours work; without one, or with another authority, the log says so once", async () => {
  await using bench = await Bench.start(NETWORK, { tls: true });
  const followed = bench.run(await bench.node(1));
  const other = await bench.node(2);
  await followed.until(other.lease.key);
  const foreign = await certificateAuthority(bench.etcd.folder, "foreign");
  const wrong = {
    "another authority": { cafile: foreign.ca },
    "no certificate": { certfile: undefined, keyfile: undefined },
    "no such file": { cafile: "/no/such/file.pem" },
  };
  for (const [name, options] of Object.entries(wrong)) {
    bench.logged.length = 0;
    const limit = AbortSignal.timeout(2_500);
    await assert.rejects(bench.manager(options).networkConfig(limit), { name: "TimeoutError" });
    const all = `${name}: ${bench.logged.join("\n")}`;
    assert.equal(bench.count(/check --etcd-cafile, --etcd-certfile and --etcd-keyfile/), 1, all);
    // etcd may cut the connection before it says why.
    assert(bench.logged.length <= 2, all);
  }
});

Deno.test("user and password: ours work, also after a restart; wrong ones get one line", async () => {
  const auth = { username: "flannel", password: "s3cret-pass" };
  await using bench = await Bench.start(undefined, { auth });
  await bench.putConfig(NETWORK);
  const followed = bench.run(await bench.node(1));
  await followed.until();
  const wrong = {
    "wrong password": { password: "wr0ng-pass" },
    "no user": { username: undefined },
  };
  for (const [name, options] of Object.entries(wrong)) {
    bench.logged.length = 0;
    const limit = AbortSignal.timeout(2_000);
    await assert.rejects(bench.manager(options).networkConfig(limit), { name: "TimeoutError" });
    assert.equal(bench.logged.length, 1, `${name}: ${bench.logged.join("\n")}`);
    assert.match(bench.logged[0], /--etcd-username and --etcd-password/, name);
    assert(!/s3cret|wr0ng/.test(bench.logged[0]));
  }
  // A restart forgets all tokens.
  await bench.etcd.stop();
  await bench.etcd.restart();
  await bench.putLease("10.1.5.0-24", value(5));
  await followed.until("10.1.5.0-24");
});

Deno.test("no config, then a wrong one, then a good one: each is told once", async () => {
  await using bench = await Bench.start();
  const config = bench.manager().networkConfig(bench.signal);
  await waitFor(() =>
    bench.count(/There is no network config in etcd under \/coreos\.com\/network\/config/) > 0
  );
  await bench.putConfig({ ...NETWORK, SubnetLen: 99 });
  await waitFor(() => bench.count(/is wrong: SubnetLen: 99/) > 0);
  await bench.putConfig(NETWORK);
  assert.equal(`${(await config).ipv4?.network}`, "10.1.0.0/16");
  assert.equal(bench.logged.length, 2, bench.logged.join("\n"));
});

Deno.test("an aborted wait ends at once", async () => {
  await using bench = await Bench.start();
  const manager = bench.manager({ endpoints: [`http://127.0.0.1:${freePort()}`] });
  const stop = new AbortController();
  const waiting = manager.networkConfig(stop.signal);
  await waitFor(() => bench.count(/unreachable/) > 0);
  const began = performance.now();
  stop.abort();
  await assert.rejects(waiting, { name: "AbortError" });
  assert(performance.now() - began < 100);
  assert.equal(manager.lastContact, 0);
});
