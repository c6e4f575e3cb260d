/**
 * What others undo in the kernel is put back.
 *
 * @module
 */
import assert from "node:assert/strict";
import { waitFor } from "../../testbed/netns.ts";
import { apply, assertVxlan, gives, HEALED, hostgw, node, vxlan } from "./node.ts";

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
