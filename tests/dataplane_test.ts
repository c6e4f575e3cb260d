/**
 * The data plane against a real kernel, each case in a namespace of its own, checked with `ip` and
 * `bridge`.
 */
import assert from "node:assert/strict";
import { DataPlane } from "../dataplane/mod.ts";
import type { KernelState } from "../dataplane/state.ts";
import { LIBRARY, RemoteDataPlane } from "./lib/dataplane.ts";
import { NetNs, veth, waitFor } from "./lib/netns.ts";

const MAC = "02:00:00:00:00:01";
/** Healing has to be done within this many milliseconds. */
const HEALED = { limitMs: 2_000 };

/** A node with one public interface, and the data plane open on it. */
interface Node extends AsyncDisposable {
  ns: NetNs;
  dataplane: RemoteDataPlane;
  ip(...args: string[]): Promise<string>;
  /** What `ip -j` or `bridge -j` gives; the program comes first. */
  json(...args: string[]): Promise<Record<string, unknown>[]>;
}

async function node(): Promise<Node> {
  const stack = new AsyncDisposableStack();
  try {
    const ns = stack.use(await NetNs.create("dp"));
    const far = stack.use(await NetNs.create("dpfar"));
    const addresses = ["192.0.2.1/24", "2001:db8::1/64"];
    await veth({ ns, dev: "eth0", addresses }, { ns: far, dev: "eth0" });
    const dataplane = stack.use(await RemoteDataPlane.open(ns));
    return {
      ns,
      dataplane,
      ip: (...args) => ns.run("ip", ...args),
      json: async (...args) => JSON.parse(await ns.run(args[0], "-j", ...args.slice(1)) || "[]"),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

function empty(): KernelState {
  return { links: [], addresses: [], routes: [], neighbours: [], fdb: [] };
}

/** A vxlan backend's wish with peers 1 to `count`. */
function vxlan(count: number, first = 1): KernelState {
  const dev = "flannel.1";
  const state = empty();
  state.links.push({
    ...{ kind: "vxlan", name: dev, vni: 1, mac: MAC, mtu: 1450, lower: "eth0" },
    ...{ local: "192.0.2.1", port: 8472, learning: false, gbp: false },
  });
  state.addresses.push({ dev, cidr: "10.0.0.0/32" });
  for (let peer = first; peer < first + count; peer++) {
    const [high, low] = [peer >> 8, peer & 255];
    const hex = [high, low].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    const via = `10.${high}.${low}.0`;
    const mac = `02:01:00:00:${hex}`;
    state.routes.push({ dst: `${via}/24`, via, dev, onlink: true });
    state.neighbours.push({ dev, ip: via, mac });
    state.fdb.push({ dev, mac, dst: `172.16.${high}.${low}` });
  }
  return state;
}

/** A host-gw backend's wish with peers 1 to `count` as its neighbours on eth0. */
function hostgw(count: number): KernelState {
  const state = empty();
  for (let peer = 1; peer <= count; peer++) {
    state.routes.push({ dst: `10.1.${peer}.0/24`, via: `192.0.2.${100 + peer}`, dev: "eth0" });
  }
  return state;
}

/** Applies and expects no error. */
async function apply({ dataplane }: Node, state: KernelState) {
  const report = await dataplane.apply(state);
  assert.deepEqual(report.errors, []);
  return report;
}

/** Compares as sets, and says little of what may be thousands. */
function assertSame(actual: string[], wanted: string[]): void {
  const [a, w] = [new Set(actual), new Set(wanted)];
  const differences = [...w.difference(a), ...a.difference(w)];
  assert.equal(differences.length, 0, `${differences.length} differ: ${differences.slice(0, 5)}`);
  assert.equal(actual.length, wanted.length);
}

/** Fails unless the kernel has all of `vxlan(count)` and nothing more on the device. */
async function assertVxlan(n: Node, count: number): Promise<void> {
  const routes = await n.json("ip", "route", "show", "dev", "flannel.1");
  const neighbours = await n.json("ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent");
  const fdb = await n.json("bridge", "fdb", "show", "dev", "flannel.1");
  const wanted = vxlan(count);
  assertSame(
    routes.map(({ dst, gateway, flags }) => `${dst} via ${gateway} ${flags}`),
    wanted.routes.map(({ dst, via }) => `${dst} via ${via} onlink`),
  );
  assertSame(
    neighbours.map(({ dst, lladdr }) => `${dst} ${lladdr}`),
    wanted.neighbours.map(({ ip, mac }) => `${ip} ${mac}`),
  );
  assertSame(
    fdb.map(({ mac, dst, state }) => `${mac} ${dst} ${state}`),
    wanted.fdb.map(({ mac, dst }) => `${mac} ${dst} permanent`),
  );
  const [link] = await n.json("ip", "-d", "address", "show", "dev", "flannel.1");
  assert.equal(link.address, MAC);
  assert.equal(link.mtu, 1450);
  assert.equal(link.ifalias, "flanneld");
  assert.ok((link.flags as string[]).includes("UP"));
  // An adopted device may have a link-local address of the kernel's.
  const addresses = link.addr_info as Record<string, unknown>[];
  const [address, ...more] = addresses.filter(({ scope }) => scope !== "link");
  assert.deepEqual(more, []);
  assert.equal(address.local, "10.0.0.0");
  assert.equal(address.prefixlen, 32);
}

async function gives(n: Node, pattern: RegExp, ...args: string[]): Promise<void> {
  const what = `ip ${args.join(" ")} to give ${pattern}`;
  await waitFor(async () => pattern.test(await n.ip(...args)), { ...HEALED, what });
}

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

const INTRUSIONS: Record<string, string[][]> = {
  "the device is deleted": [["ip", "link", "delete", "flannel.1"]],
  "the device is set down": [["ip", "link", "set", "flannel.1", "down"]],
  "the MTU is changed": [["ip", "link", "set", "flannel.1", "mtu", "1400"]],
  "the MAC is changed": [["ip", "link", "set", "flannel.1", "address", "02:aa:aa:aa:aa:aa"]],
  "the address is deleted": [["ip", "address", "delete", "10.0.0.0/32", "dev", "flannel.1"]],
  "an address is added": [["ip", "address", "add", "10.99.0.1/24", "dev", "flannel.1"]],
  "a route is deleted": [["ip", "route", "delete", "10.0.1.0/24"]],
  "a route is changed": [
    ["ip", "route", "replace", "10.0.1.0/24", "via", "192.0.2.9", "dev", "eth0", "proto", "70"],
  ],
  "a route is added": [["ip", "route", "add", "10.50.0.0/16", "dev", "flannel.1"]],
  "all routes are flushed": [["ip", "route", "flush", "dev", "flannel.1"]],
  "a neighbour is deleted": [["ip", "neigh", "delete", "10.0.1.0", "dev", "flannel.1"]],
  "a neighbour is changed": [
    ["ip", "neigh", "replace", "10.0.1.0", "lladdr", "02:aa:aa:aa:aa:aa", "dev", "flannel.1"],
  ],
  "an fdb entry is deleted": [["bridge", "fdb", "delete", "02:01:00:00:00:01", "dev", "flannel.1"]],
  "an fdb entry is changed": [[
    ...["bridge", "fdb", "replace", "02:01:00:00:00:01", "dev", "flannel.1"],
    ...["dst", "192.0.2.66"],
  ]],
  "an fdb entry is added": [[
    ...["bridge", "fdb", "add", "02:bb:00:00:00:01", "dev", "flannel.1"],
    ...["dst", "192.0.2.66"],
  ]],
};

for (const [what, commands] of Object.entries(INTRUSIONS)) {
  Deno.test(`healing: ${what}`, async () => {
    await using n = await node();
    await apply(n, vxlan(3));
    for (const [command, ...args] of commands) await n.ns.run(command, ...args);
    await n.dataplane.event(({ type }) => type === "healed", "a healing");
    await waitFor(() => assertVxlan(n, 3).then(() => true), { ...HEALED, what: "all as before" });
  });
}

Deno.test("healing: what undoes it again and again is answered at most once a second", async () => {
  await using n = await node();
  await apply(n, vxlan(1));
  const until = performance.now() + 2_500;
  while (performance.now() < until) {
    await n.ns.exec("ip", "route", "delete", "10.0.1.0/24");
    await new Promise((done) => setTimeout(done, 5));
  }
  await waitFor(() => assertVxlan(n, 1).then(() => true), { ...HEALED, what: "all as before" });
  const healings = n.dataplane.events.filter(({ type }) => type === "healed").length;
  assert.ok(healings >= 3 && healings <= 10, `${healings} healings`);
});

Deno.test("healing: routes come back when the public interface does", async () => {
  await using n = await node();
  await apply(n, hostgw(3));
  await n.ip("link", "set", "eth0", "down");
  await n.dataplane.event((e) => e.type === "link" && !e.up, "the interface's going");
  await n.ip("link", "set", "eth0", "up");
  await gives(n, /192\.0\.2\.103/, "route", "show", "10.1.3.0/24");
  await n.ip("address", "delete", "192.0.2.1/24", "dev", "eth0");
  await n.ip("address", "add", "192.0.2.1/24", "dev", "eth0");
  await gives(n, /192\.0\.2\.103/, "route", "show", "10.1.3.0/24");
});

Deno.test("healing: a device whose lower device was lost is made anew when that returns", async () => {
  await using n = await node();
  await apply(n, vxlan(2));
  await n.ip("link", "delete", "eth0");
  await waitFor(
    () => n.dataplane.events.some((e) => e.type === "healed" && e.report.errors.length === 1),
    { ...HEALED, what: "one error, not one an entry" },
  );
  await n.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
  await n.ip("link", "set", "eth0", "up");
  await waitFor(() => assertVxlan(n, 2).then(() => true), { ...HEALED, what: "all as before" });
});

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
  });
  assert.equal(await n.dataplane.routeTo("203.0.113.1"), null);
  await assert.rejects(n.dataplane.routeTo("nonsense"), /"nonsense" is no IP address/);
  const gateway = await n.dataplane.gatewayTo("10.0.1.7/24");
  assert.deepEqual(gateway, { dev: "flannel.1", via: "10.0.1.0" });
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
