/**
 * Claims of a subnet, against a real etcd.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Cidr } from "../../base/cidr.ts";
import { waitFor } from "../../testbed/netns.ts";
import { attrs, Bench, DUAL, NETWORK, NONE, PREFIX, value } from "./bench.ts";

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
  await other.networkConfig(bench.signal);
  const standing = await other.resume("192.0.2.1", null, bench.signal);
  assert.equal(standing.lease?.key, first.lease.key);
  assert.deepEqual(standing.older, []);
  const stranger = bench.manager();
  await stranger.networkConfig(bench.signal);
  const none = await stranger.resume("192.0.2.2", null, bench.signal);
  assert.equal(none.lease, undefined);
  assert.deepEqual(none.older.map(({ key }) => key), [first.lease.key]);
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

Deno.test("a former lease that the config no longer allows is replaced", async () => {
  await using bench = await Bench.start(NETWORK);
  const before = await bench.node(1);
  await bench.putConfig({ ...NETWORK, Network: "10.2.0.0/16" });
  const after = await bench.node(1);
  assert.match(after.lease.key, /^10\.2\./);
  assert(!(await bench.leases()).has(before.lease.key));
});

Deno.test("a node keeps the subnet of a family when the other is switched on or off", async () => {
  await using bench = await Bench.start(NETWORK);
  const ipv6 = { publicIPv6: "2001:db8::1" };
  const { lease: before } = await bench.node(1, {}, ipv6);
  await bench.putConfig({ ...NETWORK, EnableIPv6: true, IPv6Network: "fd00:1::/48" });
  const { lease: both } = await bench.node(1, {}, ipv6);
  assert.equal(`${both.subnet}`, `${before.subnet}`);
  assert.deepEqual([...(await bench.leases()).keys()], [both.key]);
  await bench.putConfig(NETWORK);
  const previous = { subnet: both.subnet, ipv6Subnet: both.ipv6Subnet };
  const { lease: after } = await bench.node(1, { previous }, ipv6);
  assert.equal(after.key, before.key);
  assert.deepEqual([...(await bench.leases()).keys()], [after.key]);
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
