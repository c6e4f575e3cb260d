import assert from "node:assert/strict";
import { ConfigError, parseNetworkConfig, unknownKeyLines } from "./config.ts";

const BACKEND = { Type: "vxlan" };
const parse = (config: object) =>
  parseNetworkConfig(JSON.stringify({ Backend: BACKEND, ...config }));

function ranges({ ipv4, ipv6 }: ReturnType<typeof parse>): string[] {
  return [ipv4, ipv6].flatMap((family) => family ? [`${family.min}`, `${family.max}`] : []);
}

function refused(config: object | string, message: RegExp): void {
  const text = typeof config === "string" ? config : JSON.stringify(config);
  assert.throws(() => parseNetworkConfig(text), (error) => {
    assert(error instanceof ConfigError, String(error));
    assert.match(error.message, message);
    assert(!error.message.includes("\n"), "one line");
    return true;
  });
}

Deno.test("defaults of a network", () => {
  const config = parse({ Network: "10.1.0.0/16" });
  assert.deepEqual(ranges(config), ["10.1.1.0/24", "10.1.255.0/24"]);
  assert.equal(config.ipv6, null);
  assert.equal(config.enableNFTables, false);
  assert.deepEqual(config.backend, { type: "vxlan", options: {} });
  assert.deepEqual(config.warnings, []);
});

Deno.test("a small network is cut into four", () => {
  assert.deepEqual(ranges(parse({ Network: "10.1.0.0/22" })), ["10.1.1.0/24", "10.1.3.0/24"]);
  assert.deepEqual(ranges(parse({ Network: "10.1.0.0/23" })), ["10.1.0.128/25", "10.1.1.128/25"]);
  assert.deepEqual(ranges(parse({ Network: "10.1.0.0/28" })), ["10.1.0.4/30", "10.1.0.12/30"]);
  for (const more of [{}, { SubnetLen: 30 }, { SubnetLen: 31 }, { SubnetLen: 24 }]) {
    refused(
      { Network: "10.1.0.0/29", ...more },
      /^Network: 10\.1\.0\.0\/29 is too small.*\/28/,
    );
  }
  refused({ Network: "10.1.0.0/32", SubnetLen: 32 }, /^Network: .* is too small.*\/28/);
  refused(
    { EnableIPv4: false, EnableIPv6: true, IPv6Network: "fd00::/126", IPv6SubnetLen: 127 },
    /^IPv6Network: fd00::\/126 is too small.*\/124/,
  );
});

Deno.test("IPv6 alone and both families", () => {
  const ipv6 = { EnableIPv6: true, IPv6Network: "fd00:1::/48" };
  const alone = parse({ EnableIPv4: false, ...ipv6 });
  assert.equal(alone.ipv4, null);
  assert.deepEqual(ranges(alone), ["fd00:1:0:1::/64", "fd00:1:0:ffff::/64"]);
  assert.equal(ranges(parse({ Network: "10.1.0.0/16", ...ipv6 })).length, 4);
  assert.deepEqual(
    ranges(parse({ EnableIPv4: false, EnableIPv6: true, IPv6Network: "fd00::/120" })),
    [
      "fd00::40/122",
      "fd00::c0/122",
    ],
  );
  refused({ Network: "10.1.0.0/16", EnableIPv6: true }, /^IPv6Network is missing: /);
  refused({ EnableIPv4: false }, /^EnableIPv4/);
  refused({ EnableIPv4: false, EnableIPv6: true, IPv6Network: "fd00::/125" }, /too small.*\/124/);
});

Deno.test("range and length as given", () => {
  const config = parse({
    Network: "10.0.0.0/8",
    SubnetLen: 20,
    SubnetMin: "10.10.0.0",
    SubnetMax: "10.99.0.0",
  });
  assert.deepEqual(ranges(config), ["10.10.0.0/20", "10.99.0.0/20"]);
  const unset = { SubnetLen: 0, SubnetMin: "0.0.0.0", SubnetMax: null };
  assert.deepEqual(ranges(parse({ Network: "10.1.0.0/16", ...unset })), [
    "10.1.1.0/24",
    "10.1.255.0/24",
  ]);
});

Deno.test("what is wrong is told with the key, its value and what to do", () => {
  const net = { Network: "10.1.0.0/16" };
  refused({}, /^Network is missing: set it to a network like "10\.1\.0\.0\/16"/);
  refused({ Network: "10.1.0.0" }, /^Network: "10\.1\.0\.0" is not a network/);
  refused({ Network: "fd00::/48" }, /^Network: "fd00::\/48" is not a network/);
  refused({ Network: 7 }, /^Network: 7 is not a string/);
  refused({ Network: "224.0.0.0/8" }, /^Network: 224\.0\.0\.0\/8 is not a range of host addresses/);
  refused({ Network: "0.0.0.0/0" }, /^Network/);
  refused({ ...net, SubnetLen: 31 }, /^SubnetLen: 31 is above 30/);
  refused({ ...net, SubnetLen: 17 }, /^SubnetLen: 17 leaves no room .* 18 or more/);
  refused({ ...net, SubnetLen: "24" }, /^SubnetLen: "24" is not a whole number/);
  refused({ ...net, SubnetLen: -1 }, /^SubnetLen: -1/);
  refused({ ...net, SubnetMin: "10.2.0.0" }, /^SubnetMin: 10\.2\.0\.0 is not in the network/);
  refused({ ...net, SubnetMin: "10.1.5.7" }, /^SubnetMin: 10\.1\.5\.7 .* below is 10\.1\.5\.0/);
  refused({ ...net, SubnetMax: "fd00::" }, /^SubnetMax: "fd00::" is not an IPv4 address/);
  refused(
    { ...net, SubnetMin: "10.1.9.0", SubnetMax: "10.1.8.0" },
    /^SubnetMin: 10\.1\.9\.0 is above/,
  );
  refused({ ...net, EnableIPv6: 1 }, /^EnableIPv6: 1 is not true or false/);
  refused({ ...net, Backend: "vxlan" }, /^Backend: "vxlan" is not an object/);
  refused({ ...net, Backend: { Type: 3 } }, /^Backend\.Type: 3/);
  refused("{", /is not JSON: line 1, column 2: it ends where/);
  refused('{\n"Network": "10.1.0.0/16",\n}', /is not JSON: line 3, column 1: a comma before }$/);
  refused("[]", /is not a JSON object/);
  refused("null", /is not a JSON object/);
});

Deno.test("keys match without regard to case, unknown ones are named", () => {
  const config = parse({ network: "10.1.0.0/16", SUBNETLEN: 26, Subnetlength: 24 });
  assert.equal(config.ipv4?.subnetLength, 26);
  assert.deepEqual(unknownKeyLines(config), [
    '"Subnetlength" is not a known key; did you mean SubnetLen?',
  ]);
  assert.deepEqual(config.warnings, []);
  assert.equal(parse({ Network: "10.1.0.0/16", IPv6Network: "fd00::/48" }).warnings.length, 1);
});

Deno.test("of keys that differ in case alone the last counts, as in Go's decoder; null counts not", () => {
  const config = parseNetworkConfig(
    '{"Network":"10.1.0.0/16","SubnetLen":25,"subnetlen":26,"SubnetLen":27,"SUBNETLEN":null,' +
      '"Backend":{"Type":"udp","Port":1,"PORT":2,"Port":3,"port":null,"TYPE":"Host-GW","type":null}}',
  );
  assert.equal(config.ipv4?.subnetLength, 27);
  assert.deepEqual(config.backend, { type: "host-gw", options: { Port: 3 } });
  const twice = '{"Network":"10.1.0.0/16","Backend":{"Type":"udp"},"backend":{"Type":"alloc"}}';
  assert.equal(parseNetworkConfig(twice).backend.type, "alloc");
});

Deno.test("a backend's type may have letters of either case", () => {
  for (const Type of ["VXLAN", "Vxlan", "vxlan"]) {
    assert.equal(parse({ Network: "10.1.0.0/16", Backend: { Type } }).backend.type, "vxlan");
  }
});

Deno.test("a misspelled key is named with what was meant, those of all of flannel are not", () => {
  const lines = (config: object) => unknownKeyLines(parse({ Network: "10.1.0.0/16", ...config }));
  const misspelled: [object, string][] = [
    [
      { Backend: { Type: "vxlan", Prot: 8472 } },
      '"Prot" in Backend is not a known key; did you mean Port?',
    ],
    [{ Backend: { Tpye: "udp" } }, '"Tpye" in Backend is not a known key; did you mean Type?'],
    [
      { Backend: { directrouting_: true } },
      '"directrouting_" in Backend is not a known key; did you mean DirectRouting?',
    ],
    [{ Backand: {} }, '"Backand" is not a known key; did you mean Backend?'],
    [{ EnableIpv6s: true }, '"EnableIpv6s" is not a known key; did you mean EnableIPv6?'],
    [{ VNI: 7 }, '"VNI" is not a known key; it belongs in Backend'],
    [
      { Backend: { SubnetLen: 25 } },
      '"SubnetLen" in Backend is not a known key; it belongs outside Backend',
    ],
    [
      { DirectRoutng: true },
      '"DirectRoutng" is not a known key; did you mean DirectRouting, in Backend?',
    ],
    [{ X: 1 }, '"X" is not a known key'],
  ];
  for (const [config, line] of misspelled) assert.deepEqual(lines(config), [line]);
  const options = {
    vni: 1,
    PORT: 2,
    PSK: "x",
    Mode: "auto",
    RouteTableID: "rtb-1",
    UDPEncap: true,
  };
  assert.deepEqual(lines({ Backend: { Type: "host-gw", ...options, Name: "x" } }), []);
  refused(
    { Netwrok: "10.1.0.0/16" },
    /^Network is missing: "Netwrok" is not a known key; did you mean Network\?$/,
  );
});

Deno.test("the backend's options are kept as they are", () => {
  const options = { VNI: 7, Port: 4789, DirectRouting: true };
  const config = parse({ Network: "10.1.0.0/16", Backend: { type: "vxlan", ...options } });
  assert.deepEqual(config.backend, { type: "vxlan", options });
  assert.equal(parse({ Network: "10.1.0.0/16", Backend: {} }).backend.type, "vxlan");
  assert.equal(parse({ Network: "10.1.0.0/16", Backend: null }).backend.type, "vxlan");
});

Deno.test("a key __proto__ changes nothing", () => {
  const text =
    '{"Network":"10.1.0.0/16","__proto__":{"SubnetLen":28},"Backend":{"Type":"udp","__proto__":{"x":1}}}';
  const config = parseNetworkConfig(text);
  assert.equal(config.ipv4?.subnetLength, 24);
  assert.equal(Object.getPrototypeOf(config.backend.options), Object.prototype);
  assert.equal(({} as Record<string, unknown>).x, undefined);
});

Deno.test("a config that is huge or nested deeply is refused in one line, many unknown keys are counted", () => {
  const nested = (depth: number) => `${'{"1":'.repeat(depth)}0${"}".repeat(depth)}`;
  const bad = {
    "Network": `{"Network":${nested(10_000)}}`,
    "Backend": `{"Network":"10.1.0.0/16","Backend":{"Type":${nested(5_000)}}}`,
    "size": `{"Network":"10.1.0.0/16","more":"${"x".repeat(100_000)}"}`,
  };
  for (const [name, text] of Object.entries(bad)) {
    assert.throws(
      () => parseNetworkConfig(text),
      ({ message }: Error) => message.length < 200,
      name,
    );
    assert.throws(() => parseNetworkConfig(text), ConfigError, name);
  }
  const keys = Array.from({ length: 1_000 }, (_, at) => `"k${at}":0`).join();
  const config = parseNetworkConfig(`{"Network":"10.1.0.0/16","Backend":{},${keys}}`);
  const lines = unknownKeyLines(config);
  assert.equal(lines.length, 11);
  assert.equal(lines.at(-1), "990 more keys are unknown");
});
