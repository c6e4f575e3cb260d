import assert from "node:assert/strict";
import type { Interface, InterfaceAddress } from "../dataplane/state.ts";
import { UsageError } from "./errors.ts";
import { choosePublicInterface, type InterfaceSource, isSameInterface } from "./interface.ts";
import type { InterfaceOptions } from "./options.ts";

function address(ip: string, prefixLength: number, more: Partial<InterfaceAddress> = {}) {
  return {
    ip,
    prefixLength,
    scope: "global" as const,
    temporary: false,
    deprecated: false,
    tentative: false,
    ...more,
  };
}

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
  routeTo: (ip) =>
    Promise.resolve(
      ip.startsWith("10.9.")
        ? { dev: "eth1", src: "10.9.0.6", resolves: true }
        : { dev: "eth0", via: "x", resolves: true },
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
