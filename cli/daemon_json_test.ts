import assert from "node:assert/strict";
import { mergeDaemonJson } from "./daemon_json.ts";

const NETWORK = { bip: "10.1.40.1/24", mtu: 1450, ipMasq: undefined };

Deno.test("ip-masq is false where the agent masquerades, else true unless that is so already", () => {
  const merged = (former: object, ipMasq: boolean | undefined) =>
    JSON.parse(mergeDaemonJson(JSON.stringify(former), { ...NETWORK, ipMasq }));
  assert.equal(merged({}, false)["ip-masq"], false);
  assert.equal(merged({ "ip-masq": true }, false)["ip-masq"], false);
  assert.equal(merged({ "ip-masq": false }, true)["ip-masq"], true);
  assert.equal(merged({ "ip-masq": false }, undefined)["ip-masq"], false);
  assert.deepEqual(merged({}, true), { bip: "10.1.40.1/24", mtu: 1450 });
  assert.deepEqual(merged({ "ip-masq": true }, true)["ip-masq"], true);
  assert.equal(mergeDaemonJson("", NETWORK).includes("ip-masq"), false);
});

Deno.test("what contradicts bip is refused by name, what does not stays", () => {
  const refused: [object, RegExp][] = [
    [{ bridge: "br0" }, /"bridge": "br0" and bip are mutually exclusive/],
    [{ bridge: "none" }, /"bridge": "none" and bip are mutually exclusive/],
    [
      { "fixed-cidr": "10.9.0.0/24" },
      /"fixed-cidr": "10\.9\.0\.0\/24" is not a part of .*10\.1\.40\.0\/24/,
    ],
    [{ "fixed-cidr": "10.1.0.0/16" }, /is not a part of/],
    [{ "fixed-cidr": "fd00::/64" }, /is not a part of/],
    [{ "fixed-cidr": "all" }, /"fixed-cidr": "all" is not a part of/],
    [{ "default-gateway": "10.9.0.1" }, /"default-gateway": "10\.9\.0\.1" is not in this node's/],
    [{ "default-gateway": 7 }, /"default-gateway": 7 is not in/],
  ];
  for (const [former, message] of refused) {
    assert.throws(() => mergeDaemonJson(JSON.stringify(former), NETWORK), message);
  }
  // Of a repeated key the last counts, to Docker, too.
  assert.throws(
    () => mergeDaemonJson('{"bridge":"","bridge":"br0"}', NETWORK),
    /mutually exclusive/,
  );
  mergeDaemonJson('{"bridge":"br0","bridge":""}', NETWORK);
  const fine = {
    bridge: "",
    "fixed-cidr": "10.1.40.128/25",
    "default-gateway": "10.1.40.254",
    "fixed-cidr-v6": "fd00::/64",
    bip: "10.9.0.1/24",
  };
  assert.deepEqual(JSON.parse(mergeDaemonJson(JSON.stringify(fine), NETWORK)), {
    ...fine,
    bip: "10.1.40.1/24",
    mtu: 1450,
  });
});

Deno.test("what Docker cannot read is told with line and column, comments as such", () => {
  const refused: [string, RegExp][] = [
    [
      '{\n  // the log\n  "log-driver": "local"\n}',
      /line 2, column 3: a comment; Docker does not accept comments/,
    ],
    [
      '{\n  "mtu": 1500 # small\n}',
      /line 2, column 15: a comment; Docker does not accept comments/,
    ],
    ["/* x */ {}", /line 1, column 1: a comment/],
    ['{\n  "mtu": 1500,\n}', /line 3, column 1: a comma before }$/],
    ["{broken", /line 1, column 2: broken where a key in double quotes/],
    ["[]", /not a JSON object/],
    [`{"a": "${"x".repeat(300)}",}`, /line 1, column 310: a comma before }$/],
  ];
  for (const [text, message] of refused) {
    assert.throws(() => mergeDaemonJson(text, NETWORK), message, text);
  }
});
