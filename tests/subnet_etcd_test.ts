/**
 * The subnet manager against a real etcd.
 *
 * @module
 */
import assert from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { Cidr } from "../subnet/cidr.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import { EtcdSubnetManager, type EtcdSubnetManagerOptions } from "../subnet/etcd.ts";
import type { Lease, LeaseAttrs } from "../subnet/types.ts";
import { certificateAuthority } from "./lib/certificates.ts";
import { Etcd, type EtcdOptions, freePort } from "./lib/etcd.ts";
import { waitFor } from "./lib/netns.ts";
import { Proxy } from "./lib/proxy.ts";

const PREFIX = "/coreos.com/network";
const NONE = { subnet: null, ipv6Subnet: null };
const NETWORK = { Network: "10.1.0.0/16", Backend: { Type: "vxlan" } };
const DUAL = { ...NETWORK, EnableIPv6: true, IPv6Network: "fd00:1::/48" };

/** An etcd, the managers that a test makes, and what they logged. */
class Bench implements AsyncDisposable {
  readonly logged: string[] = [];
  readonly #stop = new AbortController();
  readonly #managers: EtcdSubnetManager[] = [];
  readonly #running: Promise<void>[] = [];

  private constructor(readonly etcd: Etcd) {}

  static async start(network?: object, options?: EtcdOptions): Promise<Bench> {
    const bench = new Bench(await Etcd.start(options));
    const sink = ({ level, message }: LogRecord) =>
      bench.logged.push(`${level} ${message.join("")}`);
    await configure({
      reset: true,
      sinks: { list: sink },
      loggers: [
        { category: "flanneld", lowestLevel: "info", sinks: ["list"] },
        { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["list"] },
      ],
    });
    if (network) await bench.putConfig(network);
    return bench;
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  async putConfig(network: object | string): Promise<void> {
    const text = typeof network === "string" ? network : JSON.stringify(network);
    await this.etcd.ctl("put", `${PREFIX}/config`, text);
  }

  /** Writes a peer's lease as another agent would. */
  async putLease(key: string, value: object | string, ...more: string[]): Promise<void> {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    await this.etcd.ctl("put", `${PREFIX}/subnets/${key}`, text, ...more);
  }

  /** Keys of leases and their values. */
  async leases(): Promise<Map<string, string>> {
    const lines = (await this.etcd.ctl("get", "--prefix", `${PREFIX}/subnets/`)).trim().split("\n");
    const found = new Map<string, string>();
    for (let at = 0; at + 1 < lines.length; at += 2) {
      found.set(lines[at].slice(`${PREFIX}/subnets/`.length), lines[at + 1]);
    }
    return found;
  }

  /** Id of the etcd lease that a key hangs on, 0 for none. */
  async leaseId(key: string): Promise<number> {
    const text = await this.etcd.ctl("get", `${PREFIX}/subnets/${key}`, "-w", "json");
    return JSON.parse(text).kvs[0].lease ?? 0;
  }

  /** Transactions that etcd was asked for since its start; leases are read and claimed by them. */
  async transactions(): Promise<number> {
    const response = await fetch(`${this.etcd.endpoint}/metrics`);
    const text = await response.text();
    return Number(/^grpc_server_started_total\{grpc_method="Txn".*\} (\d+)$/m.exec(text)![1]);
  }

  manager(options: Partial<EtcdSubnetManagerOptions> = {}): EtcdSubnetManager {
    const { tls, options: { auth } } = this.etcd;
    const manager = new EtcdSubnetManager({
      endpoints: [this.etcd.endpoint],
      prefix: PREFIX,
      previous: NONE,
      renewMarginMinutes: 60,
      ...(tls && { cafile: tls.ca, certfile: tls.cert, keyfile: tls.key }),
      ...auth,
      ...options,
    });
    this.#managers.push(manager);
    return manager;
  }

  /** A manager with a lease. */
  async node(
    host: number,
    options: Partial<EtcdSubnetManagerOptions> = {},
    more: Partial<LeaseAttrs> = {},
  ): Promise<Node> {
    const manager = this.manager(options);
    const network = await manager.networkConfig(this.signal);
    const lease = await manager.acquire(network, attrs(host, more), this.signal);
    return { manager, network, lease };
  }

  /** Follows and keeps a node's lease until the test's end. */
  run({ manager, lease }: Node): Followed {
    const followed = new Followed();
    this.#running.push(
      manager.watch(lease, {
        peers: (peers) => followed.batches.push(peers),
        lost: (reason) => followed.lost.push(reason),
        config: (raw) => followed.configs.push(raw),
      }, this.signal),
      manager.keep(lease, this.signal),
    );
    return followed;
  }

  count(pattern: RegExp): number {
    return this.logged.filter((line) => pattern.test(line)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    try {
      await Promise.all(this.#running);
    } finally {
      await Promise.all(this.#managers.map((manager) => manager.close()));
      await this.etcd[Symbol.asyncDispose]();
      await reset();
    }
  }
}

interface Node {
  manager: EtcdSubnetManager;
  network: NetworkConfig;
  lease: Lease;
}

/** What the handlers of a watch were told. */
class Followed {
  readonly batches: ReadonlyMap<string, Lease>[] = [];
  readonly lost: string[] = [];
  readonly configs: (string | undefined)[] = [];

  get peers(): ReadonlyMap<string, Lease> {
    return this.batches.at(-1) ?? new Map();
  }

  /** Waits until the peers are these. */
  async until(...keys: string[]): Promise<void> {
    const wanted = keys.toSorted().join(" ");
    await waitFor(
      () => this.batches.length > 0 && [...this.peers.keys()].sort().join(" ") === wanted,
      { limitMs: 15_000, what: `peers [${wanted}]`, intervalMs: 5 },
    );
  }
}

function attrs(host: number, more: Partial<LeaseAttrs> = {}): LeaseAttrs {
  return { publicIP: `192.0.2.${host}`, publicIPv6: null, backendType: "host-gw", ...more };
}

/** A peer's value as Go flannel writes it. */
function value(host: number): object {
  return { PublicIP: `192.0.2.${host}`, PublicIPv6: null, BackendType: "host-gw" };
}

for (
  const [name, network] of Object.entries({
    "IPv4": { ...NETWORK, SubnetMax: "10.1.60.0" },
    "both families": { ...DUAL, SubnetMax: "10.1.60.0", IPv6SubnetMax: "fd00:1:0:3c::" },
    "IPv6": { ...DUAL, EnableIPv4: false, IPv6SubnetMax: "fd00:1:0:3c::" },
  })
) {
  Deno.test(`50 nodes claim at once, ${name}: none shares a subnet, no etcd lease is left over`, async () => {
    await using bench = await Bench.start(network);
    const ipv4 = !("EnableIPv4" in network);
    const nodes = await Promise.all(
      Array.from({ length: 50 }, (_, host) =>
        bench.node(host + 1, {}, {
          publicIPv6: `2001:db8::${host + 1}`,
          ...(ipv4 ? {} : { publicIP: null }),
        })),
    );
    for (const family of ["subnet", "ipv6Subnet"] as const) {
      const subnets = nodes.map(({ lease }) => lease[family]).filter((subnet) => subnet !== null);
      if (subnets.length > 0) assert.equal(new Set(subnets.map(String)).size, 50);
    }
    assert.deepEqual(
      [...(await bench.leases()).keys()].sort(),
      nodes.map(({ lease }) => lease.key).sort(),
    );
    assert.match(await bench.etcd.ctl("lease", "list"), /found 50 leases/);
  });
}

Deno.test("nodes that start again keep their subnets, and what they announce is replaced", async () => {
  await using bench = await Bench.start(NETWORK);
  const first = await bench.node(1);
  const again = await bench.node(1, {}, { backendType: "vxlan", backendData: { VNI: 1 } });
  assert.equal(again.lease.key, first.lease.key);
  assert.deepEqual([...(await bench.leases())], [[
    first.lease.key,
    '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1}}',
  ]]);
  const other = bench.manager();
  assert.equal((await other.formerLease("192.0.2.1", null, bench.signal))?.key, first.lease.key);
  assert.equal(await other.formerLease("192.0.2.2", null, bench.signal), undefined);
});

Deno.test("a reservation is taken and stays without an end", async () => {
  await using bench = await Bench.start(NETWORK);
  await bench.putLease("10.1.77.0-24", value(1));
  const node = await bench.node(1, {}, { backendType: "vxlan" });
  assert.equal(node.lease.key, "10.1.77.0-24");
  assert.equal(node.lease.expiration, Infinity);
  assert.equal(await bench.leaseId("10.1.77.0-24"), 0);
  assert.match((await bench.leases()).get("10.1.77.0-24") ?? "", /"vxlan"/);
  assert.match(await bench.etcd.ctl("lease", "list"), /found 0 leases/, "none is left over");
});

Deno.test("the subnet file's subnet is taken when it is free and fits, else another", async () => {
  await using bench = await Bench.start(NETWORK);
  const previous = (subnet: string) => ({ previous: { ...NONE, subnet: Cidr.parse(subnet) } });
  const node = await bench.node(1, previous("10.1.40.1/24"));
  assert.equal(node.lease.key, "10.1.40.0-24");
  assert.match(node.manager.name, /Previous Subnet: 10\.1\.40\.0\/24$/);
  assert.notEqual((await bench.node(2, previous("10.1.40.1/24"))).lease.key, "10.1.40.0-24");
  assert.notEqual((await bench.node(3, previous("10.1.40.129/25"))).lease.key, "10.1.40.128-25");
  assert.notEqual((await bench.node(4, previous("10.9.1.1/24"))).lease.key, "10.9.1.0-24");
});

Deno.test("a subnet of another length, claimed since the snapshot, is seen", async () => {
  await using bench = await Bench.start({ ...NETWORK, SubnetLen: 25 });
  const previous = (subnet: string) => ({ previous: { ...NONE, subnet: Cidr.parse(subnet) } });
  const former = bench.manager(previous("10.1.40.128/25"));
  const before = await former.networkConfig(bench.signal);
  await bench.putConfig(NETWORK);
  const manager = bench.manager(previous("10.1.40.0/24"));
  const after = await manager.networkConfig(bench.signal);
  // Both know etcd as it is now, in which all is free, and each has its own config.
  assert.equal((await former.acquire(before, attrs(1), bench.signal)).key, "10.1.40.128-25");
  const { key } = await manager.acquire(after, attrs(2), bench.signal);
  assert.match(key, /^10\.1\.\d+\.0-24$/);
  assert.notEqual(key, "10.1.40.0-24");
});

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

Deno.test("leases under our address that cannot be kept do not keep us from one that can", async () => {
  await using bench = await Bench.start({ ...NETWORK, SubnetMax: "10.1.60.0" });
  const first = await bench.node(1, { previous: { ...NONE, subnet: Cidr.parse("10.1.50.0/24") } });
  const granted = await bench.etcd.ctl("lease", "grant", "600");
  const lease = `--lease=${/lease ([0-9a-f]+) granted/.exec(granted)![1]}`;
  const keys = Array.from({ length: 60 }, (_, at) => `10.1.100.${4 * at}-30`);
  for (const key of [...keys, "10.0.0.0-8"]) await bench.putLease(key, value(1), lease);
  await bench.etcd.ctl("del", `${PREFIX}/subnets/${first.lease.key}`);
  // More than etcd takes in a transaction would have to go, and the whole network is said to be taken.
  const again = await bench.node(1, { previous: { ...NONE, subnet: Cidr.parse("10.1.50.0/24") } });
  assert.equal(again.lease.key, "10.1.50.0-24");
});

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

Deno.test("a former lease that the config no longer allows is replaced", async () => {
  await using bench = await Bench.start(NETWORK);
  const before = await bench.node(1);
  await bench.putConfig({ ...NETWORK, Network: "10.2.0.0/16" });
  const after = await bench.node(1);
  assert.match(after.lease.key, /^10\.2\./);
  assert(!(await bench.leases()).has(before.lease.key));
});

Deno.test("both families: key and value as flannel writes them; IPv6 alone, too", async () => {
  await using bench = await Bench.start(DUAL);
  const ipv6 = { publicIPv6: "2001:db8::1" };
  const { lease } = await bench.node(1, {}, ipv6);
  const { subnet, ipv6Subnet } = lease;
  assert.deepEqual([...(await bench.leases())], [[
    `${subnet?.address}-24&${ipv6Subnet?.address}-64`,
    '{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"host-gw"}',
  ]]);
  await bench.etcd.ctl("del", "--prefix", `${PREFIX}/subnets/`);
  await bench.putConfig({ ...DUAL, EnableIPv4: false });
  const alone = await bench.node(1, {}, { ...ipv6, publicIP: null });
  assert.deepEqual([...(await bench.leases())], [[
    `0.0.0.0-0&${alone.lease.ipv6Subnet?.address}-64`,
    '{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","BackendType":"host-gw"}',
  ]]);
  const again = await bench.node(1, {}, { ...ipv6, publicIP: null });
  assert.equal(again.lease.key, alone.lease.key);
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
  const line = /^error Another agent has our public address 192\.0\.2\.1, .*--public-ip/;
  await waitFor(() => bench.count(line) === 2, { limitMs: 10_000 });
  await waitFor(() => bench.count(/; we keep it$/) === 1);
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
  assert.equal(bench.count(/unreachable.*forwarding goes on with the last known peers/), 1);
  assert.equal(bench.count(/etcd answers again/), 1);
  assert.deepEqual(followed.lost, []);
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
    assert(took < 1_000, `${took} ms`);
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
  assert.equal(bench.count(/^warning Lease .* is passed over: /), Object.keys(bad).length);
  await bench.putLease("10.1.20.0-24", value(20));
  await followed.until("10.1.5.0-24", "10.1.20.0-24");
  await bench.putLease("10.1.5.0-24", "[]");
  await followed.until("10.1.20.0-24");
  assert.equal(({} as Record<string, unknown>).PublicIP, undefined);
});

Deno.test("no free subnet: waits, saying so once, and takes the one that frees", async () => {
  await using bench = await Bench.start({ ...NETWORK, SubnetMax: "10.1.3.0" });
  for (const at of [1, 2, 3]) await bench.putLease(`10.1.${at}.0-24`, value(50 + at));
  const waiting = bench.node(1);
  await waitFor(() => bench.count(/no free subnet: all 3 of 10\.1\.1\.0 \.\.\. 10\.1\.3\.0/) > 0);
  await new Promise((done) => setTimeout(done, 600));
  await bench.etcd.ctl("del", `${PREFIX}/subnets/10.1.2.0-24`);
  assert.equal((await waiting).lease.key, "10.1.2.0-24");
  assert.equal(bench.count(/no free subnet/), 1);
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
