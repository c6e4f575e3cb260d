import assert from "node:assert/strict";
import { makeDelegate } from "./delegate.ts";
import { CODES } from "./errors.ts";
import { type JsonObject, parseNetConf } from "./netconf.ts";
import { parseSubnetEnv } from "./subnet_env.ts";

const FILE = {
  FLANNEL_NETWORK: "10.1.0.0/16",
  FLANNEL_SUBNET: "10.1.17.1/24",
  FLANNEL_MTU: "1472",
  FLANNEL_IPMASQ: "true",
};

function delegate(config: JsonObject, file: Record<string, string> = FILE) {
  const netconf = parseNetConf({ name: "mynet", type: "flannel", ...config });
  return makeDelegate(netconf, parseSubnetEnv(new Map(Object.entries(file)), "subnet.env"));
}

Deno.test("delegate: a plain config goes to bridge and host-local", () => {
  assert.deepEqual(delegate({ cniVersion: "1.0.0" }), {
    cniVersion: "1.0.0",
    name: "mynet",
    type: "bridge",
    ipMasq: false,
    mtu: 1472,
    isGateway: true,
    ipam: {
      type: "host-local",
      ranges: [[{ subnet: "10.1.17.0/24" }]],
      routes: [{ dst: "10.1.0.0/16" }],
    },
  });
});

Deno.test("delegate: what the config has stays", () => {
  const conf = delegate({
    delegate: { type: "ipvlan", master: "eth0", mtu: 1400, ipMasq: true },
    ipam: {
      type: "x",
      dataDir: "/d",
      ranges: [],
      routes: [{ dst: "10.9.0.0/16", gw: "10.1.17.9" }],
    },
    runtimeConfig: { mac: "02:00:00:00:00:01" },
  });
  assert.deepEqual(conf, {
    name: "mynet",
    type: "ipvlan",
    master: "eth0",
    mtu: 1400,
    ipMasq: true,
    runtimeConfig: { mac: "02:00:00:00:00:01" },
    ipam: {
      type: "x",
      dataDir: "/d",
      ranges: [[{ subnet: "10.1.17.0/24" }]],
      routes: [{ dst: "10.9.0.0/16", gw: "10.1.17.9" }, { dst: "10.1.0.0/16" }],
    },
  });
  assert.equal(delegate({ delegate: { isGateway: false } }).isGateway, false);
  assert.equal(delegate({}, { ...FILE, FLANNEL_IPMASQ: "false" }).ipMasq, true);
});

Deno.test("delegate: both families, each network once", () => {
  const { ipam } = delegate({}, {
    ...FILE,
    FLANNEL_NETWORK: "10.1.0.0/16,10.2.0.0/16,10.1.0.0/16",
    FLANNEL_IPV6_NETWORK: "fd00:1::/48",
    FLANNEL_IPV6_SUBNET: "fd00:1:0:5::1/64",
  });
  assert.deepEqual(ipam.ranges, [[{ subnet: "10.1.17.0/24" }], [{ subnet: "fd00:1:0:5::/64" }]]);
  assert.deepEqual(
    ipam.routes,
    ["10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48"].map((dst) => ({ dst })),
  );
});

Deno.test("delegate: what cannot be is refused by its key", () => {
  const refused = (config: JsonObject, message: RegExp) =>
    assert.throws(() => delegate(config), { code: CODES.invalidConfig, message });
  refused({ delegate: { name: "x" } }, /^delegate must not have "name": the plugin sets it$/);
  refused({ delegate: { ipam: {} } }, /^delegate must not have "ipam": the plugin sets it$/);
  refused({ delegate: { type: 5 } }, /^delegate\.type 5 is not a plugin's name$/);
  for (const type of ["../x", "/x", ".", "..", ".x", "-x", "a\\b", "a\nb", "", "x".repeat(256)]) {
    const named = JSON.stringify(type).replaceAll(/[.\\]/g, "\\$&");
    refused(
      { delegate: { type } },
      new RegExp(`^delegate\\.type ${named} is not a plugin's name$`),
    );
    refused({ ipam: { type } }, new RegExp(`^ipam\\.type ${named} is not a plugin's name$`));
  }
  const inner = { plugins: [{ ipam: { type: "../x" } }] };
  refused(
    { delegate: inner },
    /^delegate\.plugins\.0\.ipam\.type "\.\.\/x" is not a plugin's name$/,
  );
  refused({ ipam: { type: "x", ipam: { type: "/x" } } }, /^ipam\.ipam\.type "\/x" is not/);
  refused({ runtimeConfig: inner }, /^runtimeConfig\.plugins\.0\.ipam\.type/);
  refused({ ipam: { type: "flannel" } }, /^ipam\.type "flannel" would call this plugin/);
  refused({ delegate: { type: "flannel" } }, /^delegate\.type "flannel" would call this plugin/);
  refused({ delegate: [] }, /^delegate \[\] is not a JSON object$/);
  refused({ ipam: { routes: 1 } }, /^ipam\.routes 1 is not an array of routes$/);
  refused({ name: "a/b" }, /^name "a\/b" is not a network name/);
  refused({ name: undefined }, /^name "" is not a network name/);
  refused({ "cni.dev/valid-attachments": [1] }, /^cni\.dev\/valid-attachments is not an array of/);
});

Deno.test("subnet file: what is missing or wrong is named", () => {
  const refused = (file: Record<string, string>, message: RegExp) =>
    assert.throws(() => delegate({}, file), { code: CODES.invalidConfig, message });
  refused(
    {},
    /^subnet\.env is missing FLANNEL_NETWORK or FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET or FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ$/,
  );
  refused({ ...FILE, FLANNEL_MTU: "1x" }, /^subnet\.env: FLANNEL_MTU "1x" is not an MTU$/);
  refused({ ...FILE, FLANNEL_SUBNET: "10.1" }, /^subnet\.env: FLANNEL_SUBNET: "10\.1" is not a/);
});
