import assert from "node:assert/strict";
import type { Interface } from "../../dataplane/state.ts";
import { ConfigError } from "../../subnet/config.ts";
import { DUAL, input, lease, routeTo } from "../testing.ts";
import { create, validate } from "./mod.ts";

const OURS = lease("10.1.40.0/24", { publicIP: "192.0.2.10" });

function peer(subnet: string, publicIP: string, data: unknown) {
  return lease(subnet, { publicIP, backendType: "vxlan", backendData: data });
}

Deno.test("a peer is an fdb entry, a neighbour and an onlink route", () => {
  const backend = create(input({ Type: "vxlan" }));
  const { kernel, skipped } = backend.state(OURS, [
    peer("10.1.34.0/24", "198.51.100.7", { VNI: 1, VtepMAC: "A2:4E:ac:cd:67:20" }),
  ], routeTo);
  assert.deepEqual(skipped, []);
  assert.equal(kernel.links.length, 1);
  const [link] = kernel.links;
  assert.ok(link.kind === "vxlan");
  assert.match(link.mac, /^[0-9a-f][26ae]:/, "locally administered and unicast");
  assert.deepEqual({ ...link, mac: "" }, {
    kind: "vxlan",
    name: "flannel.1",
    vni: 1,
    mac: "",
    mtu: 1450,
    lower: "eth0",
    local: "192.0.2.10",
    port: 8472,
    learning: false,
    gbp: false,
  });
  assert.deepEqual(kernel.addresses, [{ dev: "flannel.1", cidr: "10.1.40.0/32" }]);
  const dev = "flannel.1";
  const mac = "a2:4e:ac:cd:67:20";
  assert.deepEqual(kernel.fdb, [{ dev, mac, dst: "198.51.100.7" }]);
  assert.deepEqual(kernel.neighbours, [{ dev, ip: "10.1.34.0", mac }]);
  assert.deepEqual(kernel.routes, [{ dst: "10.1.34.0/24", via: "10.1.34.0", dev, onlink: true }]);
});

Deno.test("what the lease announces is what peers need", () => {
  const backend = create(input({ Type: "vxlan", VNI: 7 }, DUAL));
  const [v4, v6] = backend.state(OURS, [], routeTo).kernel.links;
  assert.ok(v4.kind === "vxlan" && v6.kind === "vxlan");
  assert.equal(v4.name, "flannel.7");
  assert.equal(v6.name, "flannel-v6.7");
  assert.deepEqual(backend.attrs, {
    publicIP: "192.0.2.10",
    publicIPv6: "2001:db8::10",
    backendType: "vxlan",
    backendData: { VNI: 7, VtepMAC: v4.mac },
    backendV6Data: { VNI: 7, VtepMAC: v6.mac },
  });
  assert.equal(v4.mtu, 1450);
  assert.equal(v6.mtu, 1430);
  assert.equal(backend.mtu, 1430, "a container's packet must fit both halves");
});

Deno.test("both families of a dual-stack peer", () => {
  const backend = create(input({ Type: "vxlan" }, DUAL));
  const dual = lease("10.1.34.0/24", {
    publicIP: "192.0.2.11",
    publicIPv6: "2001:db8::11",
    backendType: "vxlan",
    backendData: { VNI: 1, VtepMAC: "02:00:00:00:00:04" },
    backendV6Data: { VNI: 1, VtepMAC: "02:00:00:00:00:06" },
  }, "fd00:1:0:22::/64");
  const ours = lease("10.1.40.0/24", {}, "fd00:1:0:28::/64");
  const { kernel } = backend.state(ours, [dual], routeTo);
  assert.deepEqual(kernel.addresses, [
    { dev: "flannel.1", cidr: "10.1.40.0/32" },
    { dev: "flannel-v6.1", cidr: "fd00:1:0:28::/128" },
  ]);
  assert.deepEqual(kernel.routes[1], {
    dst: "fd00:1:0:22::/64",
    via: "fd00:1:0:22::",
    dev: "flannel-v6.1",
    onlink: true,
  });
  assert.deepEqual(kernel.fdb[1], {
    dev: "flannel-v6.1",
    mac: "02:00:00:00:00:06",
    dst: "2001:db8::11",
  });
});

Deno.test("DirectRouting takes a plain route for a peer on the link only", () => {
  const backend = create(input({ Type: "vxlan", DirectRouting: true }));
  const data = { VNI: 1, VtepMAC: "02:00:00:00:00:01" };
  const { kernel } = backend.state(OURS, [
    peer("10.1.1.0/24", "192.0.2.77", data),
    peer("10.1.2.0/24", "198.51.100.7", { ...data, VtepMAC: "02:00:00:00:00:02" }),
  ], routeTo);
  assert.deepEqual(kernel.routes, [
    { dst: "10.1.1.0/24", via: "192.0.2.77", dev: "eth0" },
    { dst: "10.1.2.0/24", via: "10.1.2.0", dev: "flannel.1", onlink: true },
  ]);
  assert.equal(kernel.fdb.length, 1);
});

Deno.test("a peer that cannot be reached is left out, the others are not", () => {
  const backend = create(input({ Type: "vxlan" }));
  const good = peer("10.1.9.0/24", "192.0.2.99", { VtepMAC: "02:00:00:00:00:09" });
  const bad = [
    lease("10.1.1.0/24", { publicIP: "192.0.2.1" }),
    peer("10.1.2.0/24", "192.0.2.2", undefined),
    peer("10.1.3.0/24", "192.0.2.3", { VNI: 1, VtepMAC: "01:00:00:00:00:00" }),
    peer("10.1.4.0/24", "192.0.2.4", { VNI: 2, VtepMAC: "02:00:00:00:00:04" }),
    peer("10.1.5.0/24", "192.0.2.5", { VNI: "x", VtepMAC: "02:00:00:00:00:05" }),
    peer("10.1.6.0/24", "192.0.2.6", { VNI: 1, VtepMAC: "02:00:00:00:00:09" }),
    peer("10.1.7.0/24", "192.0.2.7", [1]),
  ];
  const { kernel, skipped } = backend.state(OURS, [good, ...bad], routeTo);
  assert.deepEqual(kernel.routes.map((route) => route.dst), ["10.1.9.0/24"]);
  assert.equal(kernel.fdb.length, 1);
  assert.deepEqual(skipped, [
    { key: "10.1.1.0-24", reason: `its backend is "udp", this node's is vxlan` },
    { key: "10.1.2.0-24", reason: "it has no vxlan data" },
    { key: "10.1.3.0-24", reason: `its VtepMAC "01:00:00:00:00:00" is not a unicast MAC address` },
    { key: "10.1.4.0-24", reason: "its VNI is 2, this node's is 1" },
    { key: "10.1.5.0-24", reason: `its VNI "x" is not a number` },
    {
      key: "10.1.6.0-24",
      reason: "its VTEP MAC 02:00:00:00:00:09 is already that of 10.1.9.0-24",
      conflict: true,
    },
    { key: "10.1.7.0-24", reason: "its VtepMAC undefined is not a unicast MAC address" },
  ]);
});

Deno.test("the MAC outlives a restart, and the device", () => {
  const former = peer("10.1.40.0/24", "192.0.2.10", { VNI: 1, VtepMAC: "02:00:00:00:00:aa" });
  const existing: Interface = {
    index: 9,
    name: "flannel.1",
    kind: "vxlan",
    mac: "02:00:00:00:00:bb",
    mtu: 1450,
    up: true,
    loopback: false,
    pointToPoint: false,
    owned: true,
    addresses: [],
  };
  const mac = (more: object) => {
    const [link] =
      create({ ...input({ Type: "vxlan" }), ...more }).state(OURS, [], routeTo).kernel.links;
    return link.kind === "vxlan" && link.mac;
  };
  assert.equal(mac({ former }), "02:00:00:00:00:aa");
  assert.equal(mac({ former, existing: [existing] }), "02:00:00:00:00:bb");
  assert.notEqual(mac({}), mac({}));
  // What another node had first is that node's.
  const older = (mac: unknown) => [peer("10.1.9.0/24", "192.0.2.9", { VNI: 1, VtepMAC: mac })];
  const device = { former, existing: [existing] };
  assert.equal(mac({ ...device, older: older("02:00:00:00:00:BB") }), "02:00:00:00:00:aa");
  const both = [...older("02:00:00:00:00:bb"), ...older("02:00:00:00:00:aa")];
  assert.match(String(mac({ ...device, older: both })), /^.[26ae](?!:00:00:00:00)/);
  for (const strange of [7, null, undefined, {}]) {
    assert.equal(mac({ ...device, older: older(strange) }), "02:00:00:00:00:bb");
  }
});

Deno.test("options are checked by name", () => {
  const bad = (options: object) => () => validate(input({ Type: "vxlan", ...options }).network);
  assert.throws(
    bad({ VNI: 0 }),
    new ConfigError("Backend.VNI: 0 is not a whole number from 1 to 16777215"),
  );
  assert.throws(bad({ port: 70000 }), /Backend\.Port: 70000 /);
  assert.throws(bad({ Learning: "yes" }), /Backend\.Learning: "yes" is not true or false/);
  assert.throws(bad({ MTU: 100 }), /Backend\.MTU: 100 leaves no room/);
  const [link] =
    create(input({ Type: "vxlan", mtu: 9001, Port: 4789, GBP: true })).state(OURS, [], routeTo)
      .kernel.links;
  assert.ok(link.kind === "vxlan");
  assert.deepEqual([link.mtu, link.port, link.gbp], [8951, 4789, true]);
});
