import assert from "node:assert/strict";
import type { DelegateConf } from "./delegate.ts";
import { CODES } from "./errors.ts";
import { chainName, masqueradeRules, removalOf } from "./masquerade.ts";
import { makeAttachment, parseOwnOptions, withDefaultRoutes } from "./own_options.ts";
import { makeResult, parseIpamResult, withGateways } from "./result.ts";

const CONF: DelegateConf = {
  cniVersion: "1.0.0",
  name: "mynet",
  type: "bridge",
  mtu: 1450,
  ipMasq: false,
  isDefaultGateway: true,
  ipam: { type: "host-local" },
};

const IPAM = parseIpamResult({
  ips: [{ address: "10.1.40.5/24", gateway: "10.1.40.1" }, { address: "fd00:1::5/64" }],
  routes: [{ dst: "10.1.0.0/16" }],
}, "ipam");

Deno.test("own bridge: what the data plane is to make", () => {
  const options = parseOwnOptions({ ...CONF, hairpinMode: true });
  const ipam = withDefaultRoutes(IPAM, options);
  const call = { netns: "/run/netns/x", ifname: "eth0" };
  assert.deepEqual(makeAttachment(options, ipam, call, "veth1"), {
    bridge: {
      name: "cni0",
      mtu: 1450,
      gateways: ["10.1.40.1/24", "fd00:1::1/64"],
      forceAddress: false,
      promiscuous: false,
    },
    netns: "/run/netns/x",
    ifname: "eth0",
    host: "veth1",
    mtu: 1450,
    hairpin: true,
    addresses: ["10.1.40.5/24", "fd00:1::5/64"],
    routes: [
      { dst: "10.1.0.0/16", via: "10.1.40.1" },
      { dst: "0.0.0.0/0", via: "10.1.40.1" },
      { dst: "::/0", via: "fd00:1::1" },
    ],
  });
  const plain = parseOwnOptions({ ...CONF, isDefaultGateway: false });
  assert.deepEqual(withDefaultRoutes(IPAM, plain), IPAM);
  assert.deepEqual(makeAttachment(plain, IPAM, call, "veth1").bridge.gateways, []);
});

Deno.test("own bridge: keys that only the plugin knows are refused by key and value", () => {
  const refused = (change: Record<string, unknown>, code: number, message: RegExp) =>
    assert.throws(() => parseOwnOptions({ ...CONF, ...change }), { code, message });
  refused(
    { vlan: 5 },
    CODES.unsupportedField,
    /^delegate\.vlan 5 is not supported by flanneld's own bridge$/,
  );
  refused({ macspoofchk: true }, CODES.unsupportedField, /^delegate\.macspoofchk true is not/);
  refused({ hairpinMode: "yes" }, CODES.invalidConfig, /^delegate\.hairpinMode "yes" is neither/);
  refused({ bridge: "a b" }, CODES.invalidConfig, /^delegate\.bridge "a b" is not a device name$/);
  refused({ mtu: -1 }, CODES.invalidConfig, /^delegate\.mtu -1 is not an MTU$/);
  refused({ runtimeConfig: { mac: "x" } }, CODES.invalidConfig, /^mac "x" is not a MAC address$/);
  assert.equal(parseOwnOptions({ ...CONF, vlan: 0, vlanTrunk: [] }).bridge, "cni0");
});

Deno.test("own bridge: results by version", () => {
  const device = (name: string) => ({ name, mac: "02:00:00:00:00:01", mtu: 1450 });
  const attached = { bridge: device("cni0"), host: device("veth1"), pod: device("eth0") };
  const result = (version: string) => makeResult(version, attached, IPAM, "/run/netns/x");
  const of = (version: string) => {
    const { interfaces, ips } = result(version) as Record<string, Record<string, unknown>[]>;
    return [Object.keys(interfaces[2]).sort().join(), Object.keys(ips[0]).sort().join()];
  };
  assert.deepEqual(of("0.4.0"), ["mac,name,sandbox", "address,gateway,interface,version"]);
  assert.deepEqual(of("1.0.0"), ["mac,name,sandbox", "address,gateway,interface"]);
  assert.deepEqual(of("1.1.0"), ["mac,mtu,name,sandbox", "address,gateway,interface"]);
});

Deno.test("results: each route gets the gateway of its family", () => {
  const ips = [{ address: "10.1.40.5/24", gateway: "10.1.40.1" }, { address: "fd00:1::5/64" }];
  const routes = [{ dst: "10.1.0.0/16" }, { dst: "10.2.0.0/16", gw: "10.1.40.9" }, {
    dst: "fd00::/8",
  }];
  assert.deepEqual(withGateways({ ips, routes }).routes, [
    { dst: "10.1.0.0/16", gw: "10.1.40.1" },
    { dst: "10.2.0.0/16", gw: "10.1.40.9" },
    { dst: "fd00::/8" },
  ]);
  assert.throws(() => parseIpamResult({ ips: [] }, "ipam"), { message: "ipam has no ips" });
  assert.throws(() => parseIpamResult({ ips: [{ address: "x" }] }, "ipam"), /is not an address/);
});

Deno.test("masquerade: the bridge plugin's chain, and its removal by the rules listed", async () => {
  const chain = await chainName("tnet", "cnitool-82044243032cda167bb7");
  assert.equal(chain, "CNI-5d2df2907dc881acfa11c20e");
  assert.match(
    masqueradeRules(chain, "10.1.40.2/24", "x"),
    /^-A POSTROUTING -s 10\.1\.40\.2 -j CNI-5d2df2907dc881acfa11c20e -m comment --comment "x"$/m,
  );
  const listed = [
    "-P POSTROUTING ACCEPT",
    `-N ${chain}`,
    `-A POSTROUTING -s 10.1.40.2/32 -m comment --comment "x" -j ${chain}`,
    "-A POSTROUTING -s 10.1.40.3/32 -j MASQUERADE",
    `-A ${chain} -d 10.1.40.0/24 -j ACCEPT`,
    "",
  ].join("\n");
  assert.equal(
    removalOf(chain, listed),
    `*nat\n-D POSTROUTING -s 10.1.40.2/32 -m comment --comment "x" -j ${chain}\n` +
      `-F ${chain}\n-X ${chain}\nCOMMIT\n`,
  );
  assert.equal(removalOf("CNI-other", listed), undefined);
});
