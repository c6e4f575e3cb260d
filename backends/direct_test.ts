import assert from "node:assert/strict";
import type { RouteLookup } from "../dataplane/state.ts";
import { directTo } from "./direct.ts";

function direct(route: RouteLookup | undefined) {
  return directTo("192.0.2.11", "eth0", () => route);
}

Deno.test("a route without a gateway is direct, by whatever device it leaves", () => {
  assert.deepEqual(direct({ dev: "eth0", resolves: true }), { dev: "eth0" });
  assert.deepEqual(direct({ dev: "eth1", resolves: true }), { dev: "eth1" });
  // The public interface itself may be a tunnel that the operator has chosen.
  assert.deepEqual(direct({ dev: "eth0", resolves: false }), { dev: "eth0" });
});

Deno.test("a gateway, a tunnel, loopback or no route at all is not direct, and the reason says which", () => {
  assert.deepEqual(direct({ dev: "eth0", via: "192.0.2.1", resolves: true }), {
    reason: "the route to 192.0.2.11 goes through the gateway 192.0.2.1",
  });
  assert.deepEqual(direct({ dev: "tun0", resolves: false }), {
    reason: "the route to 192.0.2.11 goes out of tun0",
  });
  assert.deepEqual(direct(undefined), { reason: "the kernel has no route to 192.0.2.11" });
});
