import assert from "node:assert/strict";
import { Cidr } from "../base/cidr.ts";
import {
  decodeAttrs,
  encodeAttrs,
  keyName,
  LARGEST_VALUE,
  LeaseError,
  leaseKey,
  overlappingKeys,
  parseAttrs,
  parseLeaseKey,
} from "./lease_codec.ts";

const subnets = (ipv4: string | null, ipv6: string | null) => ({
  subnet: ipv4 === null ? null : Cidr.parse(ipv4),
  ipv6Subnet: ipv6 === null ? null : Cidr.parse(ipv6),
});

Deno.test("keys as flannel writes them, there and back", () => {
  const keys = {
    "10.1.34.0-24": subnets("10.1.34.0/24", null),
    "10.1.99.0-24&fd00:1:0:5c::-64": subnets("10.1.99.0/24", "fd00:1:0:5c::/64"),
    "0.0.0.0-0&fd00:1:0:2f::-64": subnets(null, "fd00:1:0:2f::/64"),
  };
  for (const [key, value] of Object.entries(keys)) {
    assert.equal(leaseKey(value), key);
    assert.deepEqual(parseLeaseKey(key), value);
  }
  assert.deepEqual(
    parseLeaseKey("10.1.34.0-24&fd00-1---64"),
    subnets("10.1.34.0/24", "fd00:1::/64"),
  );
});

Deno.test("keys that name no subnets are refused", () => {
  const refused = [
    "",
    "rubbish",
    "10.1.34.0",
    "10.1.34.0-",
    "10.1.34.0-33",
    "10.1.34.7-24",
    "10.1.34.0/24",
  ];
  refused.push(
    "10.1.34.0-24&",
    "10.1.34.0-24&10.2.0.0-24",
    "10.1.34.0-24&fd00::-64&fd01::-64",
    "-24",
  );
  refused.push(
    "../config",
    "10.1.34.0-24&fd00::1-64",
    "fd00:1::-64",
    "010.1.34.0-24",
    "10.1.34.0-24 ",
  );
  for (const key of refused) assert.throws(() => parseLeaseKey(key), LeaseError, key);
});

Deno.test("values as flannel writes them, byte for byte", () => {
  const ip = { publicIP: "172.31.28.198", publicIPv6: null };
  const data = { VNI: 1, VtepMAC: "a2:4e:ac:cd:67:20" };
  const values = {
    '{"PublicIP":"172.31.28.198","PublicIPv6":null}': { ...ip, backendType: "" },
    '{"PublicIP":"172.31.28.198","PublicIPv6":null,"BackendType":"host-gw"}': {
      ...ip,
      backendType: "host-gw",
    },
    '{"PublicIP":"172.31.28.198","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"a2:4e:ac:cd:67:20"}}':
      { ...ip, backendType: "vxlan", backendData: data },
    '{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"a2:4e:ac:cd:67:20"}}':
      { publicIP: null, publicIPv6: "2001:db8::1", backendType: "vxlan", backendV6Data: data },
  };
  for (const [text, attrs] of Object.entries(values)) {
    assert.equal(encodeAttrs(attrs), text);
    assert.deepEqual(parseAttrs(text), attrs);
  }
  const escaped = encodeAttrs({ ...ip, backendType: "extension", backendData: "<a>&" });
  assert.match(escaped, /"BackendData":"\\u003ca\\u003e\\u0026"/);
  assert.equal(parseAttrs(escaped).backendData, "<a>&");
});

Deno.test("missing, null and unknown members are accepted", () => {
  const none = { publicIP: null, publicIPv6: null, backendType: "" };
  assert.deepEqual(parseAttrs("{}"), none);
  const nulls = '{"PublicIP":null,"BackendType":null,"BackendData":null,"New":{"a":[1]}}';
  assert.deepEqual(parseAttrs(nulls), none);
  assert.equal(parseAttrs('{"publicip":"192.0.2.1"}').publicIP, "192.0.2.1");
});

Deno.test("wrong values are refused with the reason", () => {
  const reasons = {
    "": /is not JSON/,
    "{": /is not JSON/,
    "[]": /is not a JSON object/,
    "null": /is not a JSON object/,
    '{"PublicIP":7}': /PublicIP, 7, is not an IPv4 address/,
    '{"PublicIP":"fd00::1"}': /not an IPv4 address/,
    '{"PublicIPv6":"192.0.2.1"}': /not an IPv6 address/,
    '{"PublicIP":"192.0.2.1; reboot"}': /not an IPv4 address/,
    '{"BackendType":{}}': /BackendType is not a string/,
  };
  for (const [text, message] of Object.entries(reasons)) {
    assert.throws(() => parseAttrs(text), { name: "LeaseError", message }, text);
  }
  const large = new Uint8Array(LARGEST_VALUE + 1).fill(0x20);
  assert.throws(() => decodeAttrs(large), /bytes, more than/);
});

Deno.test("a member __proto__ changes nothing", () => {
  const attrs = parseAttrs(
    '{"__proto__":{"polluted":1},"BackendData":{"__proto__":{"polluted":1}}}',
  );
  assert.equal(Object.getPrototypeOf(attrs), Object.prototype);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

Deno.test("keys are named as they are, or so that a line of the log can hold them", () => {
  const name = (...bytes: (string | number)[]) =>
    keyName(
      Uint8Array.from(
        bytes.flatMap((one) => typeof one === "number" ? one : [...new TextEncoder().encode(one)]),
      ),
    );
  for (const key of ["10.1.34.0-24", "10.1.99.0-24&fd00:1:0:5c::-64", "__proto__", ""]) {
    assert.equal(name(key), key);
  }
  assert.equal(name("10.1.34.0-24", 0xff, 0), "10.1.34.0-24\\xff\\x00");
  assert.equal(name("\\xff"), "\\x5cxff", "is not what the byte is named");
  const long = (end: string) => name("x".repeat(1_000_000), end);
  assert(long("a").length < 120 && long("a") !== long("b"), long("a"));
});

Deno.test("data that are nested deeply, or whose name is a trap, are refused or harmless", () => {
  for (const [open, close] of [["[", "]"], ['{"1":', "}"], ['{"toJSON":', "}"]]) {
    const nested = (depth: number) => `${open.repeat(depth)}0${close.repeat(depth)}`;
    assert.throws(() => parseAttrs(`{"BackendData":${nested(2_000)}}`), LeaseError);
    assert.throws(() => parseAttrs(`{"PublicIP":${nested(100_000)}}`), LeaseError);
    encodeAttrs(parseAttrs(`{"BackendData":${nested(20)}}`));
  }
});

Deno.test("every key that overlaps an IPv4 subnet begins with one of its beginnings", () => {
  const value = (text: string) => Cidr.parse(`${text}/32`).base;
  for (const base of ["10.1.34.77", "10.255.255.255", "128.0.0.0", "9.130.16.0"].map(value)) {
    for (let length = 0; length <= 32; length++) {
      const subnet = Cidr.of(4, base, length);
      const beginnings = overlappingKeys(subnet);
      assert(beginnings.length <= 33 + 16, "of 128 comparisons that etcd takes");
      for (let other = 0; other <= 32; other++) {
        for (const address of [subnet.base, base, subnet.last]) {
          const key = leaseKey({ subnet: Cidr.of(4, address, other), ipv6Subnet: null });
          assert(beginnings.some((one) => key.startsWith(one)), `${subnet}: ${key}`);
        }
      }
    }
  }
  assert.equal(overlappingKeys(Cidr.parse("10.1.34.0/24")).at(-1), "10.1.34.");
  assert(
    !overlappingKeys(Cidr.parse("10.1.34.0/24")).some((one) => "10.1.35.0-24".startsWith(one)),
  );
});

Deno.test("data of a backend that no backend has are refused by their size", () => {
  const refused = (more: object) => () =>
    decodeAttrs(new TextEncoder().encode(JSON.stringify({ PublicIP: "192.0.2.1", ...more })));
  const data = (length: number) => ({ VNI: 1, x: "y".repeat(length) });
  assert.doesNotThrow(refused({ BackendData: data(900), x: data(5_000) }), "what is not kept");
  assert.throws(refused({ BackendData: data(1_200) }), /its BackendData has 12\d\d characters/);
  assert.throws(refused({ backendv6data: data(9_000) }), /its backendv6data has 90\d\d char/);
  assert.throws(refused({ BackendData: Array(600).fill(1) }), /more than 1024/);
  assert.throws(refused({ BackendType: "v".repeat(65) }), /is not a string of up to 64 characters/);
});
