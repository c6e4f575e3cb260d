/**
 * Changes of a few entries against a real kernel: they do what applying the whole state does.
 */
import assert from "node:assert/strict";
import type { KernelChange, KernelEntries, KernelState } from "../../dataplane/state.ts";
import { waitFor } from "../../testbed/netns.ts";
import { type Node, node } from "./node.ts";

const DEV = "flannel.1";

/** Entries of a vxlan peer, and what of it is different after the machine was replaced. */
function peer(number: number, generation = 0): KernelEntries {
  const via = `10.1.${number}.0`;
  const mac = `02:01:00:00:0${generation}:${number.toString(16).padStart(2, "0")}`;
  return {
    peers: [],
    routes: [{ dst: `${via}/24`, via, dev: DEV, onlink: true }],
    neighbours: [{ dev: DEV, ip: via, mac }],
    fdb: [{ dev: DEV, mac, dst: `172.16.${generation}.${number}` }],
  };
}

/** Routes by way of the public interface, as of host-gw. */
function gateways(...numbers: number[]): KernelEntries {
  const routes = numbers.map((number) => ({
    dst: `10.1.${number}.0/24`,
    via: `192.0.2.${number}`,
    dev: "eth0",
  }));
  return { ...none(), routes };
}

function none(): KernelEntries {
  return { peers: [], routes: [], neighbours: [], fdb: [] };
}

function all(...entries: KernelEntries[]): KernelEntries {
  return {
    peers: [],
    routes: entries.flatMap(({ routes }) => routes),
    neighbours: entries.flatMap(({ neighbours }) => neighbours),
    fdb: entries.flatMap(({ fdb }) => fdb),
  };
}

function vxlan(...entries: KernelEntries[]): KernelState {
  const { routes, neighbours, fdb } = all(...entries);
  return {
    links: [{
      ...{ kind: "vxlan", name: DEV, vni: 1, mac: "02:00:00:00:00:01", mtu: 1450 },
      ...{ lower: "eth0", local: "192.0.2.1", port: 8472, learning: false, gbp: false },
    }],
    addresses: [{ dev: DEV, cidr: "10.1.0.0/32" }],
    routes,
    neighbours,
    fdb,
  };
}

async function change(
  { dataplane }: Node,
  change: Partial<KernelChange>,
): Promise<"taken" | "not taken"> {
  const report = await dataplane.change({ put: none(), remove: none(), ...change });
  if (report) assert.deepEqual(report.errors, []);
  return report ? "taken" : "not taken";
}

/** All that is on our device, and all routes by way of the public interface, as lines. */
async function tables({ ns }: Node): Promise<string[]> {
  const list = async (...command: [string, ...string[]]) =>
    JSON.parse(await ns.run(...command) || "[]") as Record<string, string>[];
  return [
    ...(await list("ip", "-j", "route", "show", "table", "main"))
      .filter(({ protocol }) => protocol !== "kernel")
      .map(({ dst, gateway, dev }) => `${dst} via ${gateway} dev ${dev}`),
    ...(await list("ip", "-j", "neigh", "show", "dev", DEV))
      .map(({ dst, lladdr }) => `${dst} ${lladdr}`),
    ...(await list("bridge", "-j", "fdb", "show", "dev", DEV))
      .map(({ mac, dst }) => `${mac} ${dst}`),
  ].sort();
}

/** The same of entries. */
function lines({ routes, neighbours, fdb }: KernelEntries): string[] {
  return [
    ...routes.map(({ dst, via, dev }) => `${dst} via ${via} dev ${dev}`),
    ...neighbours.map(({ ip, mac }) => `${ip} ${mac}`),
    ...fdb.map(({ mac, dst }) => `${mac} ${dst}`),
  ].sort();
}

Deno.test("peers come, are replaced and go, and the tables follow", async () => {
  await using n = await node();
  assert.equal(await change(n, { put: peer(2) }), "not taken", "nothing was applied before");
  await n.dataplane.apply(vxlan(peer(1)));
  assert.equal(await change(n, { put: all(peer(2), peer(3)) }), "taken");
  assert.deepEqual(await tables(n), lines(all(peer(1), peer(2), peer(3))));
  const moved = { put: { ...peer(2, 1), routes: [] }, remove: { ...peer(2), routes: [] } };
  assert.equal(await change(n, moved), "taken");
  assert.deepEqual(await tables(n), lines(all(peer(1), peer(2, 1), peer(3))));
  assert.equal(await change(n, { remove: all(peer(1), peer(2, 1)) }), "taken");
  assert.deepEqual(await tables(n), lines(peer(3)));
  const report = await n.dataplane.apply(vxlan(peer(3)));
  assert.deepEqual([report.added, report.changed, report.removed], [0, 0, 0]);
});

Deno.test("what was changed alone is healed like all else", async () => {
  await using n = await node();
  await n.dataplane.apply(vxlan(peer(1)));
  await change(n, { put: peer(2), remove: peer(1) });
  await n.ns.run("ip", "route", "del", "10.1.2.0/24");
  await waitFor(async () => (await tables(n)).length === 3, { limitMs: 3_000, what: "healing" });
  assert.deepEqual(await tables(n), lines(peer(2)));
});

Deno.test("a change that contradicts the state, or one with refused entries, is not taken", async () => {
  await using n = await node();
  await n.dataplane.apply(vxlan(peer(1)));
  const thief = { ...peer(2), fdb: [{ ...peer(1).fdb[0], dst: "172.16.9.9" }] };
  assert.equal(await change(n, { put: thief }), "not taken");
  assert.equal(await change(n, { remove: peer(2) }), "not taken");
  assert.deepEqual(await tables(n), lines(peer(1)));
  const refused = {
    ...gateways(),
    routes: [{ dst: "10.2.0.0/24", via: "198.51.100.1", dev: "eth0" }],
  };
  const { errors } = await n.dataplane.apply(vxlan(peer(1), refused));
  assert.equal(errors.length, 1);
  assert.equal(await change(n, { put: peer(3) }), "not taken");
});

Deno.test("a route of another program in the way is an error, and is never removed", async () => {
  await using n = await node();
  await n.dataplane.apply({ ...vxlan(gateways(5)), links: [], addresses: [] });
  const foreign = ["10.1.6.0/24", "via", "192.0.2.200", "dev", "eth0", "proto", "99"];
  await n.ns.run("ip", "route", "add", ...foreign);
  const report = await n.dataplane.change({ put: gateways(6, 7), remove: none() });
  assert.equal(report?.errors.length, 1);
  assert.match(report!.errors[0].message, /another program/);
  await n.ns.run("ip", "route", "del", ...foreign);
  await n.dataplane.apply({ ...vxlan(gateways(5, 7)), links: [], addresses: [] });
  // The same as ours, and not ours.
  await n.ns.run("ip", "route", "replace", "10.1.7.0/24", "via", "192.0.2.7", "proto", "99");
  assert.equal(await change(n, { remove: gateways(5, 7) }), "taken");
  const routes = await n.ns.run("ip", "-N", "route", "show", "dev", "eth0");
  assert.match(routes, /10\.1\.7\.0\/24 via 192\.0\.2\.7 proto 99/);
  assert.doesNotMatch(routes, /10\.1\.5\.0/);
});

Deno.test("a device that was lost by then is made anew, with all entries", async () => {
  await using n = await node();
  await n.dataplane.apply(vxlan(peer(1)));
  // The healing waits for a moment: the change mostly comes before it.
  await n.ns.run("ip", "link", "del", DEV);
  await n.dataplane.change({ put: peer(2), remove: none() });
  const wanted = lines(all(peer(1), peer(2)));
  await waitFor(async () => `${await tables(n)}` === `${wanted}`, {
    limitMs: 5_000,
    what: "both peers on the new device",
  });
});
