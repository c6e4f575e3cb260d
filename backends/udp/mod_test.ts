import assert from "node:assert/strict";
import { DUAL, input, lease, routeTo } from "../testing.ts";
import { create, validate } from "./mod.ts";

Deno.test("the network is routed to the tunnel, and the tunnel knows the peers", () => {
  const backend = create(input({ Type: "udp" }));
  const ours = lease("10.1.40.0/24", { publicIP: "192.0.2.10" });
  const { kernel, skipped } = backend.state(ours, [
    lease("10.1.34.0/24", { publicIP: "198.51.100.7" }),
    lease("10.1.35.0/24", { publicIP: "198.51.100.8", backendType: "vxlan" }),
  ], routeTo);
  assert.deepEqual(kernel, {
    tunnel: {
      name: "flannel0",
      mtu: 1472,
      port: 8285,
      local: ["192.0.2.10"],
      subnets: ["10.1.40.0/24"],
      peers: [{ subnets: ["10.1.34.0/24"], endpoint: "198.51.100.7" }],
    },
    links: [],
    addresses: [{ dev: "flannel0", cidr: "10.1.40.0/32" }],
    routes: [{ dst: "10.1.0.0/16", dev: "flannel0" }],
    neighbours: [],
    fdb: [],
  });
  assert.deepEqual(skipped, [{
    key: "10.1.35.0-24",
    reason: `its backend is "vxlan", this node's is udp`,
  }]);
  assert.equal(backend.attrs.backendType, "", "as flannel writes it");
});

Deno.test("IPv6 inner packets over IPv4 endpoints in a dual-stack network", () => {
  const ours = lease("10.1.40.0/24", {}, "fd00:1:0:28::/64");
  const peer = lease("10.1.34.0/24", {
    publicIP: "192.0.2.11",
    publicIPv6: "2001:db8::11",
  }, "fd00:1:0:22::/64");
  const { kernel } = create(input({ Type: "udp", Port: 9000 }, DUAL)).state(ours, [peer], routeTo);
  assert.deepEqual(kernel.tunnel?.peers, [
    { subnets: ["10.1.34.0/24", "fd00:1:0:22::/64"], endpoint: "192.0.2.11" },
  ]);
  assert.deepEqual([kernel.tunnel?.mtu, kernel.tunnel?.port], [1472, 9000]);
  assert.deepEqual(kernel.routes.map(({ dst }) => dst), ["10.1.0.0/16", "fd00:1::/48"]);
});

Deno.test("an IPv6 network takes IPv6 endpoints and their larger header", () => {
  const backend = create(input({ Type: "udp" }, { ...DUAL, EnableIPv4: false }));
  const ours = lease(null, {}, "fd00:1:0:28::/64");
  const without = lease(null, { publicIP: "192.0.2.11" }, "fd00:1:0:22::/64");
  const { kernel, skipped } = backend.state(ours, [without], routeTo);
  assert.deepEqual([kernel.tunnel?.mtu, kernel.tunnel?.local], [1452, ["2001:db8::10"]]);
  assert.match(skipped[0].reason, /no public IPv6 address/);
});

Deno.test("another's flannel0 is left alone", () => {
  const other = {
    index: 3,
    name: "flannel0",
    kind: "tun",
    mac: "",
    mtu: 1500,
    up: true,
    loopback: false,
    pointToPoint: true,
    owned: false,
    addresses: [],
  };
  assert.deepEqual(create({ ...input({ Type: "udp" }), existing: [other] }).devices, ["flannel1"]);
});

Deno.test("the port is checked", () => {
  assert.throws(() => validate(input({ Type: "udp", Port: 0 }).network), /Backend\.Port: 0 /);
});
