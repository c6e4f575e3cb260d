import assert from "node:assert/strict";
import { effectiveOptions, validateBackendConfig } from "../backends/registry.ts";
import { parseNetworkConfig } from "../subnet/config.ts";
import { effectiveConfig } from "./config.ts";

const configOf = (Backend?: object) =>
  parseNetworkConfig(JSON.stringify({ Network: "10.1.0.0/16", Backend }));

Deno.test("the effective config has the backend's defaults, and what was set under its own name", async () => {
  const vxlan = { VNI: 1, Port: 8472, GBP: false, Learning: false, DirectRouting: false };
  const cases: [object | undefined, object][] = [
    [undefined, { Type: "vxlan", ...vxlan }],
    [{ Type: "VXLAN", vni: 7, mtu: 9001 }, { Type: "vxlan", ...vxlan, VNI: 7, MTU: 9001 }],
    [{ Port: 0, PSK: "x" }, { Type: "vxlan", ...vxlan, PSK: "x" }],
    [{ Type: "udp" }, { Type: "udp", Port: 8285 }],
    [{ Type: "host-gw" }, { Type: "host-gw" }],
    [{ Type: "alloc" }, { Type: "alloc" }],
    [{ Type: "aws-vpc" }, { Type: "aws-vpc" }],
    [
      { Type: "aws-vpc", routetableid: "rtb-1", MTU: 1500 },
      { Type: "aws-vpc", RouteTableID: ["rtb-1"], MTU: 1500 },
    ],
  ];
  for (const [backend, expected] of cases) {
    const config = configOf(backend);
    const effective = effectiveConfig(config, await effectiveOptions(config));
    assert.deepEqual(effective.Backend, expected);
    // What it prints can be stored, and means the same.
    const again = parseNetworkConfig(JSON.stringify(effective));
    assert.deepEqual(effectiveConfig(again, await effectiveOptions(again)), effective);
  }
});

Deno.test("a backend of Go flannel that is not here: what to use instead", async () => {
  const advice: [string, RegExp][] = [
    ["wireguard", /vxlan or udp in a network that you trust/],
    ["ipsec", /neither encrypts/],
    ["ipip", /use vxlan, or host-gw where/],
    ["extension", /use alloc/],
    ...["gce", "ali-vpc", "tencent-vpc"].map((name): [string, RegExp] => [name, /use vxlan/]),
  ];
  for (const [Type, line] of advice) {
    await assert.rejects(() => validateBackendConfig(configOf({ Type })), ({ message }: Error) => {
      assert.ok(
        message.startsWith(`Backend.Type: this version has no ${Type} backend (it has vxl`),
      );
      assert.match(message, line);
      return true;
    });
  }
  const refused = async (Type: string, message: RegExp) =>
    await assert.rejects(() => validateBackendConfig(configOf({ Type })), { message });
  await refused("vxaln", /^Backend\.Type: "vxaln" is not one of .*; did you mean vxlan\?$/);
  await refused("wiregaurd", /did you mean wireguard\?$/);
  await refused("toString", /^Backend\.Type: "tostring" is not one of .*, alloc$/);
});
