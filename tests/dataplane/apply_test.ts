/**
 * What applying a state makes, changes and removes in a real kernel.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { KernelState } from "../../dataplane/state.ts";
import { waitFor } from "../../testbed/netns.ts";
import { apply, assertVxlan, empty, gives, HEALED, hostgw, MAC, node, vxlan } from "./node.ts";

Deno.test("apply makes a vxlan device with its entries, and again changes nothing", async () => {
  await using n = await node();
  const report = await apply(n, vxlan(3));
  assert.equal(report.added, 2 + 3 * 3);
  await assertVxlan(n, 3);
  const [link] = await n.json("ip", "-d", "link", "show", "dev", "flannel.1");
  const { info_data: data } = link.linkinfo as { info_data: Record<string, unknown> };
  assert.equal(data.id, 1);
  assert.equal(data.port, 8472);
  assert.equal(data.local, "192.0.2.1");
  assert.equal(data.link, "eth0");
  assert.equal(data.learning, false);
  assert.equal(link.inet6_addr_gen_mode, "none");

  const monitor = n.ns.spawn("ip", ["monitor", "link", "address", "route", "neigh"]);
  await n.ip("link", "add", "probe0", "type", "bridge");
  await waitFor(async () => {
    // What happened before it listened is not shown.
    await n.ip("link", "set", "probe0", "mtu", "1300");
    await n.ip("link", "set", "probe0", "mtu", "1350");
    return monitor.lines.some((line) => line.includes("probe0"));
  }, { limitMs: 5_000, what: "ip monitor to listen" });
  const again = await apply(n, vxlan(3));
  const { added, changed, removed, kept } = again;
  assert.deepEqual({ added, changed, removed, kept }, {
    added: 0,
    changed: 0,
    removed: 0,
    kept: 11,
  });
  await n.ip("link", "delete", "probe0");
  await monitor.waitForLine(/Deleted.*probe0/);
  assert.deepEqual(monitor.lines.filter((line) => line.includes("flannel")), []);
});

Deno.test("apply removes what is stale and leaves what is others'", async () => {
  await using n = await node();
  await n.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9", "dev", "eth0");
  await n.ip("neigh", "add", "192.0.2.9", "lladdr", MAC, "dev", "eth0", "nud", "permanent");
  await n.ip("link", "add", "other", "type", "bridge");
  await apply(n, { ...vxlan(5), routes: [...vxlan(5).routes, ...hostgw(2).routes] });
  const report = await apply(n, vxlan(2));
  assert.equal(report.removed, 3 * 3 + 2);
  await assertVxlan(n, 2);
  assert.equal((await n.json("ip", "route", "show", "198.51.100.0/24")).length, 1);
  assert.equal((await n.json("ip", "neigh", "show", "dev", "eth0", "192.0.2.9")).length, 1);

  await apply(n, empty());
  await assert.rejects(n.ip("link", "show", "flannel.1"));
  await n.ip("link", "show", "other");
  assert.equal((await n.json("ip", "route", "show", "198.51.100.0/24")).length, 1);
});

Deno.test("apply replaces a changed gateway, MAC and destination in place", async () => {
  await using n = await node();
  await apply(n, { ...vxlan(2), routes: [...vxlan(2).routes, ...hostgw(1).routes] });
  const state = vxlan(2);
  state.fdb[0].dst = "172.16.9.9";
  state.fdb[1].mac = "02:09:09:09:09:09";
  state.neighbours[1].mac = "02:09:09:09:09:09";
  state.routes.push({ dst: "10.1.1.0/24", via: "192.0.2.200", dev: "eth0" });
  const monitor = n.ns.spawn("ip", ["monitor", "route"]);
  await n.ip("route", "add", "203.0.113.0/24", "dev", "eth0");
  await monitor.waitForLine(/203\.0\.113/);
  const report = await apply(n, state);
  assert.equal(report.changed, 3);
  assert.equal(report.added, 1);
  assert.equal(report.removed, 1);
  const fdb = await n.json("bridge", "fdb", "show", "dev", "flannel.1");
  assert.deepEqual(
    fdb.map(({ mac, dst }) => `${mac} ${dst}`).sort(),
    ["02:01:00:00:00:01 172.16.9.9", "02:09:09:09:09:09 172.16.0.2"],
  );
  await monitor.waitForLine(/10\.1\.1\.0\/24 via 192\.0\.2\.200/);
  assert.ok(!monitor.lines.some((line) => line.startsWith("Deleted 10.1.1.0")), "no gap");
});

Deno.test("a route of another program is kept when right and an error when wrong", async () => {
  await using n = await node();
  await n.ip("route", "add", "10.1.1.0/24", "via", "192.0.2.101", "dev", "eth0");
  await n.ip("route", "add", "10.1.2.0/24", "via", "192.0.2.77", "dev", "eth0", "proto", "static");
  const report = await n.dataplane.apply(hostgw(3));
  assert.equal(report.kept, 1);
  assert.equal(report.added, 1);
  assert.equal(report.errors.length, 1);
  assert.equal(report.errors[0].entry, "route 10.1.2.0/24 via 192.0.2.102 dev eth0");
  assert.match(report.errors[0].message, /via 192\.0\.2\.77 dev eth0, protocol 4/);
  await n.dataplane.apply(empty());
  assert.match(await n.ip("route", "show", "10.1.1.0/24"), /192\.0\.2\.101/);
  assert.match(await n.ip("route", "show", "10.1.2.0/24"), /192\.0\.2\.77/);

  await n.dataplane.apply(hostgw(3));
  await n.ip("route", "delete", "10.1.2.0/24");
  await gives(n, /via 192\.0\.2\.102/, "route", "show", "10.1.2.0/24");
});

Deno.test("entries that the kernel refuses are named and hold up no other", async () => {
  await using n = await node();
  const state = hostgw(3);
  state.routes[1].via = "198.51.100.1";
  state.routes.push({ dst: "10.9.0.0/24", via: "192.0.2.5", dev: "missing0" });
  const { added, errors } = await n.dataplane.apply(state);
  assert.equal(added, 2);
  const byEntry = new Map(errors.map((error) => [error.entry, error]));
  const unreachable = byEntry.get("route 10.1.2.0/24 via 198.51.100.1 dev eth0");
  assert.equal(unreachable?.errno, 101);
  assert.match(unreachable?.message ?? "", /unreachable: Nexthop has invalid gateway/);
  assert.equal(byEntry.get("route 10.9.0.0/24 via 192.0.2.5 dev missing0")?.errno, 19);
  assert.equal(errors.length, 2);
});

Deno.test("IPv6: underlay and overlay, a changed gateway, healing", async () => {
  await using n = await node();
  const dev = "flannel-v6.1";
  const state: KernelState = {
    links: [{
      ...{ kind: "vxlan", name: dev, vni: 1, mac: MAC, mtu: 1430, lower: "eth0" },
      ...{ local: "2001:db8::1", port: 8472, learning: false, gbp: true },
    }],
    addresses: [{ dev, cidr: "fd00:1::/128" }],
    routes: [
      { dst: "fd00:1:0:2::/64", via: "fd00:1:0:2::", dev, onlink: true },
      { dst: "fd00:1:0:3::/64", via: "2001:db8::3", dev: "eth0" },
    ],
    neighbours: [{ dev, ip: "fd00:1:0:2::", mac: "02:01:00:00:00:02" }],
    fdb: [{ dev, mac: "02:01:00:00:00:02", dst: "2001:db8::2" }],
  };
  await apply(n, state);
  assert.equal((await apply(n, state)).kept, 6);
  const [link] = await n.json("ip", "-d", "link", "show", "dev", dev);
  const { info_data: data } = link.linkinfo as { info_data: Record<string, unknown> };
  assert.equal(data.local6, "2001:db8::1");
  assert.equal(data.gbp, true);
  assert.match(await n.ip("-6", "neigh", "show", "dev", dev), /fd00:1:0:2:: .*PERMANENT/);
  assert.match(await n.ns.run("bridge", "fdb", "show", "dev", dev), /dst 2001:db8::2/);

  state.routes[1].via = "2001:db8::4";
  assert.equal((await apply(n, state)).changed, 1);
  const routes = await n.json("ip", "-6", "route", "show", "fd00:1:0:3::/64");
  assert.deepEqual(routes.map(({ gateway }) => gateway), ["2001:db8::4"]);

  // Someone adds a second next hop.
  await n.ip("-6", "route", "append", "fd00:1:0:3::/64", "via", "2001:db8::5", "proto", "70");
  await waitFor(async () => {
    const [route, more] = await n.json("ip", "-6", "route", "show", "fd00:1:0:3::/64");
    return route?.gateway === "2001:db8::4" && more === undefined;
  }, { ...HEALED, what: "one next hop" });
  await n.ip("-6", "route", "flush", "dev", dev);
  await gives(n, /fd00:1:0:2::/, "-6", "route", "show", "fd00:1:0:2::/64");
});

Deno.test("5,000 peers", async () => {
  await using n = await node();
  const report = await apply(n, vxlan(5_000));
  assert.equal(report.added, 15_002);
  assert.ok(report.micros < 2_000_000, `${report.micros} µs`);
  await assertVxlan(n, 5_000);
  const again = await apply(n, vxlan(5_000));
  assert.equal(again.kept, 15_002);
  await n.ns.run("ip", "link", "delete", "flannel.1");
  await waitFor(() => assertVxlan(n, 5_000).then(() => true), { limitMs: 4_000, what: "healing" });
  const less = await apply(n, vxlan(10));
  assert.equal(less.removed, 3 * 4_990);
  await assertVxlan(n, 10);
});
