import assert from "node:assert/strict";
import type { DefaultRoute, Interface, InterfaceAddress } from "../dataplane/state.ts";
import { UsageError } from "./errors.ts";
import { choosePublicInterface, type InterfaceSource, isSameInterface } from "./interface.ts";
import type { InterfaceOptions } from "./options.ts";
import { address } from "./testing.ts";

function iface(name: string, addresses: InterfaceAddress[], more: Partial<Interface> = {}) {
  return {
    index: 2,
    name,
    kind: "",
    mac: "02:00:00:00:00:01",
    mtu: 9001,
    up: true,
    loopback: name === "lo",
    pointToPoint: false,
    owned: false,
    addresses,
    ...more,
  };
}

/** A node whose default route is by eth0 and whose route to 10.9.0.0/16 is by eth1. */
const NODE: InterfaceSource = {
  interfaces: () =>
    Promise.resolve([
      iface("lo", [address("127.0.0.1", 8, { scope: "host" })]),
      iface("flannel.1", [address("10.1.40.0", 32)], { owned: true }),
      iface("eth0", [
        address("172.31.28.198", 20),
        address("fe80::1", 64, { scope: "link" }),
        address("2001:db8::99", 64, { temporary: true }),
        address("2001:db8::7", 64),
      ]),
      iface("eth1", [address("10.9.0.5", 16), address("10.9.0.6", 16)], { mtu: 1500 }),
    ]),
  defaultRoutes: () =>
    Promise.resolve([
      { ipv6: false, dev: "eth0", metric: 0, linkDown: false },
      { ipv6: true, dev: "eth0", metric: 1024, linkDown: false },
    ]),
  routeTo: (ip) =>
    Promise.resolve(
      ip.startsWith("10.9.") ? { dev: "eth1", src: "10.9.0.6", resolves: true } : undefined,
    ),
};

const NONE: InterfaceOptions = { iface: [], ifaceRegex: [] };
const V4 = { ipv4: true, ipv6: false };

async function choose(options: Partial<InterfaceOptions>, families = V4) {
  const { name, ip, ipv6, publicIP, publicIPv6, mtu } = await choosePublicInterface(
    { ...NONE, ...options },
    families,
    NODE,
  );
  return { name, ip, ipv6, publicIP, publicIPv6, mtu };
}

Deno.test("the interface with the default route, by default", async () => {
  assert.deepEqual(await choose({}), {
    name: "eth0",
    ip: "172.31.28.198",
    ipv6: null,
    publicIP: "172.31.28.198",
    publicIPv6: null,
    mtu: 9001,
  });
});

Deno.test("IPv6 takes a global address that is not temporary", async () => {
  const { ip, ipv6 } = await choose({}, { ipv4: false, ipv6: true });
  assert.deepEqual([ip, ipv6], [null, "2001:db8::7"]);
});

Deno.test("by name, by address, the first that fits", async () => {
  assert.equal((await choose({ iface: ["eth9", "eth1"] })).ip, "10.9.0.5");
  assert.equal((await choose({ iface: ["10.9.0.6"] })).ip, "10.9.0.6");
});

Deno.test("by regular expression over addresses, then names, after the names", async () => {
  assert.equal((await choose({ ifaceRegex: [/^10\.9\.0\.6$/] })).ip, "10.9.0.6");
  assert.equal((await choose({ ifaceRegex: [/^nothing/, /^eth1$/] })).name, "eth1");
  assert.equal((await choose({ iface: ["eth0"], ifaceRegex: [/eth1/] })).name, "eth0");
});

Deno.test("by the route to an address", async () => {
  assert.deepEqual((await choose({ ifaceCanReach: "10.9.1.1" })).ip, "10.9.0.6");
});

Deno.test("a public address of its own is announced, not used as source", async () => {
  const { name, ip, publicIP } = await choose({ publicIP: "203.0.113.5" });
  assert.deepEqual([name, ip, publicIP], ["eth0", "172.31.28.198", "203.0.113.5"]);
  assert.equal((await choose({ publicIP: "10.9.0.5" })).name, "eth1", "the one that holds it");
});

Deno.test("what cannot be is one line that names what there is", async () => {
  await assert.rejects(choose({ iface: ["eth9"] }), (error) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.message, /^no interface matches --iface=eth9; this node has lo .*eth0 /);
    assert.ok(!error.message.includes("flannel.1"), "the agent's own devices are no choice");
    return true;
  });
  await assert.rejects(
    choose({ iface: ["eth1"] }, { ipv4: true, ipv6: true }),
    /interface eth1 has no global IPv6 address/,
  );
});

Deno.test("what IPv6 does to addresses by itself is no change of the interface", () => {
  const view = (addresses: InterfaceAddress[], mtu = 1500) => ({
    ...{ name: "eth0", mtu, ip: "172.31.28.198", ipv6: null },
    ...{ publicIP: "172.31.28.198", publicIPv6: null, addresses },
  });
  const before = view([address("172.31.28.198", 20), address("2001:db8::7", 64)]);
  const settled = view([
    address("2001:db8::7", 64, { deprecated: true }),
    address("2001:db8::99", 64, { temporary: true }),
    address("fe80::1", 64, { scope: "link" }),
    address("172.31.28.198", 20),
  ]);
  assert.ok(isSameInterface(before, settled));
  assert.ok(!isSameInterface(before, view(before.addresses, 1400)));
  assert.ok(!isSameInterface(before, view([...before.addresses, address("10.9.0.5", 16)])));
});

Deno.test("virtual addresses that come and go do not change the interface", () => {
  const view = (...addresses: InterfaceAddress[]) => ({
    ...{ name: "eth0", mtu: 1500, ip: "172.31.28.198", ipv6: null },
    ...{ publicIP: "172.31.28.198", publicIPv6: null, addresses },
  });
  const own = address("172.31.28.198", 20);
  for (const vip of [address("172.31.16.100", 32), address("172.31.16.100", 24)]) {
    assert.ok(isSameInterface(view(own), view(own, vip)));
  }
  assert.ok(isSameInterface(view(own), view(own, address("203.0.113.9", 32))));
});

/** A node with these interfaces and default routes, best first. */
function nodeWith(interfaces: Interface[], routes: Partial<DefaultRoute>[]): InterfaceSource {
  return {
    interfaces: () => Promise.resolve(interfaces),
    defaultRoutes: () =>
      Promise.resolve(
        routes.map((route) => ({ ipv6: false, dev: "", metric: 0, linkDown: false, ...route })),
      ),
    routeTo: () => Promise.resolve(undefined),
  };
}

const WA = iface("wa", [address("172.31.28.198", 20), address("2001:db8:a::1", 64)]);
const WB = iface("wb", [address("172.31.16.86", 20), address("2001:db8:b::1", 64)]);

async function chosen(source: InterfaceSource, families = V4, options = {}) {
  return (await choosePublicInterface({ ...NONE, ...options }, families, source)).name;
}

Deno.test("the default route of the network's family decides, IPv4's where it has both", async () => {
  const node = nodeWith([WA, WB], [{ dev: "wa" }, { dev: "wb" }, { dev: "wb", ipv6: true }]);
  assert.equal(await chosen(node), "wa");
  assert.equal(await chosen(node, { ipv4: false, ipv6: true }), "wb");
  assert.equal(await chosen(node, { ipv4: true, ipv6: true }), "wa");
  const ipv6Only = nodeWith([WA, WB], [{ dev: "wb", ipv6: true }]);
  assert.equal(await chosen(ipv6Only, { ipv4: true, ipv6: true }), "wb");
  await assert.rejects(
    chosen(ipv6Only),
    /^UsageError: no interface has a default route in the main/,
  );
});

Deno.test("default routes by loopback, our own devices or an interface without an address are skipped", async () => {
  const interfaces = [
    iface("lo", [address("10.0.0.1", 32)]),
    iface("flannel.1", [address("10.1.40.0", 32)], { owned: true }),
    iface("ppp0", []),
    WB,
  ];
  const routes = ["lo", "flannel.1", "ppp0", "gone", "wb"].map((dev) => ({ dev }));
  assert.equal(await chosen(nodeWith(interfaces, routes)), "wb");
  await assert.rejects(
    chosen(nodeWith(interfaces, routes.slice(0, 4))),
    /interface ppp0 has no IPv4 address: add one, or name another/,
  );
});

Deno.test("an unusable entry of --iface gives way to the next", async () => {
  const bare = iface("eth9", [address("10.9.0.5", 24, { deprecated: true })]);
  const node = nodeWith([bare, WB], []);
  assert.equal(await chosen(node, V4, { iface: ["eth9", "wb"] }), "wb");
  await assert.rejects(
    chosen(node, V4, { iface: ["eth9"] }),
    /eth9 has no IPv4 address that can be used \(10.9.0.5 is deprecated\): add one, or name/,
  );
  assert.equal(await chosen(node, V4, { iface: ["10.9.0.5"] }), "eth9", "the very address");
});

Deno.test("--iface takes an IPv6 address in any spelling", async () => {
  const ipv6 = { ipv4: false, ipv6: true };
  assert.equal(await chosen(nodeWith([WA, WB], []), ipv6, { iface: ["2001:DB8:b:0::1"] }), "wb");
});

Deno.test("an address on lo has the MTU of the uplinks", async () => {
  const lo = iface("lo", [address("10.0.0.1", 32)], { mtu: 65536 });
  const slow = { ...WB, mtu: 1400 };
  const tiny = iface("tun0", [address("10.8.0.2", 24)], { mtu: 1280 });
  const mtu = async (routes: Partial<DefaultRoute>[], name = "lo") => {
    const options = { ...NONE, iface: [name] };
    const source = nodeWith([lo, { ...WA, mtu: 9001 }, slow, tiny], routes);
    return (await choosePublicInterface(options, V4, source)).mtu;
  };
  assert.equal(await mtu([{ dev: "wa" }]), 9001);
  assert.equal(await mtu([{ dev: "wa" }, { dev: "wb" }]), 1400, "several next hops");
  assert.equal(await mtu([]), 1280, "the smallest");
  assert.equal(await mtu([{ dev: "wb" }], "wa"), 9001, "a real interface has its own");
});
