/**
 * Devices that are there already, other routes and bridges, looks, cleanup, and the library itself.
 *
 * @module
 */
import assert from "node:assert/strict";
import { DataPlane } from "../../dataplane/mod.ts";
import { LIBRARY, RemoteDataPlane } from "../../testbed/dataplane.ts";
import { apply, assertVxlan, empty, gives, hostgw, node, vxlan } from "./node.ts";

Deno.test("a device made by flannel is adopted, an incompatible one made anew", async () => {
  await using n = await node();
  const make = (id: string) =>
    n.ip(
      ...["link", "add", "flannel.1", "address", "02:cc:00:00:00:01", "type", "vxlan", "id", id],
      ...["local", "192.0.2.1", "dev", "eth0", "dstport", "8472", "nolearning"],
    );
  const index = async () => (await n.json("ip", "link", "show", "dev", "flannel.1"))[0].ifindex;
  await make("1");
  await n.ip("link", "set", "flannel.1", "mtu", "1400", "up");
  await n.ip("address", "add", "10.0.0.0/32", "dev", "flannel.1");
  const route = ["10.0.1.0/24", "via", "10.0.1.0", "dev", "flannel.1", "onlink"];
  await n.ip("route", "add", ...route);
  await n.ip("route", "add", "10.77.0.0/24", "via", "10.77.0.0", "dev", "flannel.1", "onlink");
  const before = await index();
  const adopted = await apply(n, vxlan(3));
  assert.equal(await index(), before);
  assert.equal(adopted.changed, 1);
  assert.equal(adopted.removed, 1);
  await assertVxlan(n, 3);

  await n.ip("link", "delete", "flannel.1");
  await n.dataplane.cleanup();
  await make("2");
  const anew = await apply(n, vxlan(3));
  assert.equal(anew.changed, 1);
  await assertVxlan(n, 3);
});

Deno.test("a device of another kind is left alone, with an error that says what to do", async () => {
  await using n = await node();
  await n.ip("link", "add", "flannel.1", "type", "bridge");
  const { errors } = await n.dataplane.apply(vxlan(3));
  assert.equal(errors.length, 1);
  assert.match(errors[0].message, /kind bridge.*ip link delete flannel\.1/);
  await n.ip("link", "show", "flannel.1", "type", "bridge");
});

Deno.test("a device of an earlier config makes room for one with the same VNI", async () => {
  await using n = await node();
  const old = vxlan(2);
  old.links[0].name = "flannel.old";
  await apply(n, { ...empty(), links: old.links });
  const report = await apply(n, vxlan(2));
  assert.equal(report.removed, 1);
  await assertVxlan(n, 2);
});

Deno.test("blackhole routes, metrics, and a bridge that keeps its MTU with ports", async () => {
  await using n = await node();
  const state = empty();
  state.links.push({ kind: "bridge", name: "flbr0", mtu: 1450 });
  state.addresses.push({ dev: "flbr0", cidr: "10.1.40.1/24" });
  state.routes.push(
    { dst: "10.1.0.0/16", type: "blackhole" },
    { dst: "fd00:1::/48", type: "blackhole" },
    { dst: "10.2.0.0/16", via: "192.0.2.8", dev: "eth0", metric: 50 },
  );
  await apply(n, state);
  assert.equal((await apply(n, state)).kept, 5);
  assert.match(await n.ip("route", "show", "type", "blackhole"), /10\.1\.0\.0\/16/);
  assert.match(await n.ip("-6", "route", "show", "type", "blackhole"), /fd00:1::\/48/);
  assert.match(await n.ip("route", "show", "10.2.0.0/16"), /metric 50/);
  await n.ip("link", "add", "port0", "mtu", "9000", "type", "veth", "peer", "name", "port1");
  await n.ip("link", "set", "port0", "master", "flbr0", "up");
  const [bridge] = await n.json("ip", "link", "show", "dev", "flbr0");
  assert.equal(bridge.mtu, 1450);
  await n.ip("route", "delete", "blackhole", "10.1.0.0/16");
  await gives(n, /10\.1\.0\.0\/16/, "route", "show", "type", "blackhole");

  // Another gateway address in the same subnet: the kernel removes it with the first.
  state.addresses[0].cidr = "10.1.40.2/24";
  await apply(n, state);
  const [{ addr_info }] = await n.json("ip", "-4", "address", "show", "dev", "flbr0");
  const locals = (addr_info as Record<string, unknown>[]).map(({ local }) => local);
  assert.deepEqual(locals, ["10.1.40.2"]);
});

Deno.test("interfaces, route look-up, and events of others' interfaces", async () => {
  await using n = await node();
  await apply(n, vxlan(1));
  const all = await n.dataplane.interfaces();
  const eth0 = all.find(({ name }) => name === "eth0");
  assert.equal(eth0?.kind, "veth");
  assert.equal(eth0?.up, true);
  assert.equal(eth0?.owned, false);
  const address = eth0?.addresses.find(({ ip }) => ip === "192.0.2.1");
  assert.equal(address?.prefixLength, 24);
  assert.equal(address?.scope, "global");
  assert.equal(all.find(({ name }) => name === "flannel.1")?.owned, true);
  assert.equal(all.find(({ name }) => name === "lo")?.loopback, true);
  assert.deepEqual(await n.dataplane.routeTo("10.0.1.7"), {
    dev: "flannel.1",
    via: "10.0.1.0",
    src: "10.0.0.0",
    resolves: true,
  });
  assert.equal(await n.dataplane.routeTo("203.0.113.1"), null);
  await assert.rejects(n.dataplane.routeTo("nonsense"), /nonsense.* are not IP addresses/);
  const gateway = await n.dataplane.gatewayTo("10.0.1.7/24");
  assert.deepEqual(gateway, { dev: "flannel.1", via: "10.0.1.0", resolves: true });
  assert.equal(await n.dataplane.gatewayTo("10.0.1.7/25"), null);
  assert.equal(await n.dataplane.gatewayTo("192.0.2.0/24"), null, "a direct route");

  await n.ip("link", "set", "eth0", "mtu", "1400");
  await n.dataplane.event((e) => e.type === "link" && e.name === "eth0" && e.mtu === 1400, "MTU");
  await n.ip("address", "add", "192.0.2.55/24", "dev", "eth0");
  await n.dataplane.event((e) => e.type === "address" && e.cidr === "192.0.2.55/24", "address");
  await n.ip("link", "add", "new0", "type", "bridge");
  await n.ip("link", "delete", "new0");
  await n.dataplane.event((e) => e.type === "link" && e.name === "new0" && !e.present, "going");
});

Deno.test("cleanup removes what an earlier process left, and nothing else", async () => {
  await using n = await node();
  await apply(n, { ...vxlan(2), routes: [...vxlan(2).routes, ...hostgw(2).routes] });
  await n.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9", "dev", "eth0");
  await using later = await RemoteDataPlane.open(n.ns);
  await n.dataplane.apply(empty()).then(() => n.dataplane.cleanup());
  await n.dataplane.apply({ ...vxlan(2), routes: [...vxlan(2).routes, ...hostgw(2).routes] });
  await n.dataplane[Symbol.asyncDispose]();
  const { removed, errors } = await later.cleanup();
  assert.deepEqual(errors, []);
  assert.ok(removed.includes("link flannel.1"), removed.join());
  assert.ok(removed.includes("route 10.1.1.0/24"), removed.join());
  assert.equal(removed.length, 5);
  await assert.rejects(n.ip("link", "show", "flannel.1"));
  assert.match(await n.ip("route", "show", "198.51.100.0/24"), /192\.0\.2\.9/);
});

Deno.test("a library that is missing or something else is refused in one line", async () => {
  assert.throws(
    () => DataPlane.open("/nonexistent/lib.so"),
    /^Error: cannot load .*\/nonexistent\/lib\.so.*$/,
  );
  const maps = await Deno.readTextFile("/proc/self/maps");
  const libc = maps.match(/\S+\/libc\.so\.6$/m)?.[0] ?? "";
  assert.throws(() => DataPlane.open(libc), /^Error: cannot load [^\n]*$/);
});

Deno.test("closing ends the events and the library is given back", async () => {
  const dataplane = DataPlane.open(LIBRARY);
  const events = Array.fromAsync(dataplane.events());
  await dataplane.interfaces();
  dataplane.close();
  dataplane.close();
  await events;
  await assert.rejects(dataplane.interfaces(), /closed/);
  await assert.rejects(dataplane.apply(empty()), /closed/);
});
