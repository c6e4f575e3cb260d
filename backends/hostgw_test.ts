import assert from "node:assert/strict";
import { create } from "./hostgw.ts";
import { DUAL, input, lease, routeTo } from "./testing.ts";

Deno.test("peers on the link are routed via their address, in both families", () => {
  const backend = create(input({ Type: "host-gw" }, DUAL));
  const peer = lease("10.1.34.0/24", {
    publicIP: "192.0.2.11",
    publicIPv6: "2001:db8::11",
    backendType: "host-gw",
  }, "fd00:1:0:22::/64");
  const { kernel, skipped } = backend.state(peer, [peer], routeTo);
  assert.deepEqual(skipped, []);
  assert.deepEqual(kernel.routes, [
    { dst: "10.1.34.0/24", via: "192.0.2.11", dev: "eth0" },
    { dst: "fd00:1:0:22::/64", via: "2001:db8::11", dev: "eth0" },
  ]);
  assert.equal(backend.mtu, 1500);
});

Deno.test("a peer whose address of one family is out of reach is carried by the other", () => {
  const backend = create(input({ Type: "host-gw" }, DUAL));
  const peer = lease("10.1.34.0/24", {
    publicIP: "192.0.2.11",
    publicIPv6: "2001:db8::11",
    backendType: "host-gw",
  }, "fd00:1:0:22::/64");
  const withoutIPv6 = (ip: string) => ip.includes(":") ? undefined : routeTo(ip);
  const { kernel, skipped } = backend.state(peer, [peer], withoutIPv6);
  assert.deepEqual(kernel.routes, [{ dst: "10.1.34.0/24", via: "192.0.2.11", dev: "eth0" }]);
  assert.deepEqual(skipped.map(({ reason }) => reason), [
    "only 10.1.34.0/24 of it is carried: the kernel has no route to 2001:db8::11: host-gw needs " +
    "all nodes on one L2 segment",
  ]);
});

Deno.test("a peer off the link or of another type is left out", () => {
  const backend = create(input({ Type: "host-gw" }));
  const far = lease("10.1.1.0/24", { publicIP: "198.51.100.1", backendType: "host-gw" });
  const other = lease("10.1.2.0/24", { publicIP: "192.0.2.2", backendType: "vxlan" });
  const { kernel, skipped } = backend.state(far, [far, other], routeTo);
  assert.deepEqual(kernel.routes, []);
  assert.deepEqual(skipped, [
    {
      key: "10.1.1.0-24",
      reason:
        "the route to 198.51.100.1 goes through the gateway 192.0.2.1: host-gw needs all nodes " +
        "on one L2 segment",
    },
    { key: "10.1.2.0-24", reason: `its backend is "vxlan", this node's is host-gw` },
  ]);
});
