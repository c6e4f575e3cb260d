import assert from "node:assert/strict";
import {
  Cidr,
  formatIp,
  isBroadcast,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnicast,
  isUnspecified,
  parseIp,
  tryParseIp,
} from "./cidr.ts";

const text = (ip: string) => {
  const { family, value } = parseIp(ip);
  return formatIp(family, value);
};

Deno.test("IPv4 addresses are four decimal numbers and nothing else", () => {
  assert.deepEqual(parseIp("10.1.34.255"), { family: 4, value: 0x0a0122ffn });
  assert.equal(text("0.0.0.0"), "0.0.0.0");
  assert.equal(text("255.255.255.255"), "255.255.255.255");
  const refused = [
    "",
    ".",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.",
    ".1.2.3",
    "1..2.3",
    "256.1.1.1",
    "01.2.3.4",
  ];
  refused.push(
    "1.2.3.04",
    " 1.2.3.4",
    "1.2.3.4 ",
    "1.2.3.4\n",
    "0x1.2.3.4",
    "1.2.3.4/8",
    "a.b.c.d",
  );
  refused.push("-1.2.3.4", "+1.2.3.4", "1.2.3.1e1", "١.2.3.4", "9".repeat(1000));
  for (const one of refused) assert.equal(tryParseIp(one), undefined, JSON.stringify(one));
  assert.throws(() => parseIp("1.2.3.4x"), /"1\.2\.3\.4x"/);
});

Deno.test("IPv6 addresses are read as RFC 4291 and written as RFC 5952 has them", () => {
  const same = ["::", "::1", "1::", "fd00:1::", "2001:db8::1:0:0:1", "1:2:3:4:5:6:7:8", "fe80::1"];
  for (const one of [...same, "64:ff9b::102:304"]) assert.equal(text(one), one);
  assert.equal(text("2001:DB8:0:0:1:0:0:1"), "2001:db8::1:0:0:1", "the first of equal runs");
  assert.equal(text("2001:db8:0:1:1:1:1:1"), "2001:db8:0:1:1:1:1:1", "one zero group stays");
  assert.equal(text("0001:0:0:0:0:0:0:00ab"), "1::ab");
  assert.equal(text("64:ff9b::1.2.3.4"), "64:ff9b::102:304");
  assert.equal(text("1:2:3:4:5:6:7::"), "1:2:3:4:5:6:7:0");
  const refused = [":", ":::", "1:", ":1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "g::1"];
  refused.push(
    "12345::",
    "fe80::1%eth0",
    "::1.2.3",
    "1.2.3.4::",
    "::1.2.3.4:1",
    "[::1]",
    "::ffff:1.2.3.4",
  );
  refused.push("::ffff:102:304", "1:2:3:4:5:6:7:8::", "::1 ", "1:2:3:4:5:6:7:1.2.3.4");
  for (const one of refused) assert.equal(tryParseIp(one), undefined, one);
});

Deno.test("subnets lose their host bits and keep their text otherwise", () => {
  assert.equal(`${Cidr.parse("10.1.40.1/24")}`, "10.1.40.0/24");
  assert.equal(`${Cidr.parse("fd00:1:0:28::1/64")}`, "fd00:1:0:28::/64");
  assert.equal(`${Cidr.parse("0.0.0.0/0")}`, "0.0.0.0/0");
  assert.equal(`${Cidr.parse("10.1.2.3/32")}`, "10.1.2.3/32");
  assert.equal(`${Cidr.containing("192.0.2.77", 26)}`, "192.0.2.64/26");
  assert.equal(JSON.stringify({ a: Cidr.parse("10.1.0.0/16") }), '{"a":"10.1.0.0/16"}');
  const refused = [
    "10.1.0.0",
    "10.1.0.0/",
    "10.1.0.0/33",
    "10.1.0.0/-1",
    "10.1.0.0/08",
    "10.1.0.0/8/8",
  ];
  for (const one of [...refused, "10.1.0.0/1e1", "::/129", "::/0128", "/8", "", "10.1.0.0/ 8"]) {
    assert.throws(() => Cidr.parse(one), { name: "SyntaxError" }, one);
  }
  assert.throws(() => Cidr.parse("rubbish"), /"rubbish"/);
  assert.throws(() => Cidr.containing("10.0.0.1", 33), RangeError);
});

Deno.test("what a subnet contains and overlaps", () => {
  const net = Cidr.parse("10.1.0.0/16");
  assert(net.contains(net));
  assert(net.contains(Cidr.parse("10.1.255.0/24")));
  assert(!net.contains(Cidr.parse("10.0.0.0/8")));
  assert(!net.contains(Cidr.parse("10.2.0.0/24")));
  assert(Cidr.parse("0.0.0.0/0").contains(net));
  assert(!Cidr.parse("::/0").contains(net));
  assert(net.overlaps(Cidr.parse("10.0.0.0/8")) && Cidr.parse("10.0.0.0/8").overlaps(net));
  assert(!Cidr.parse("10.1.2.0/24").overlaps(Cidr.parse("10.1.3.0/24")));
  assert(net.containsIp("10.1.3.4") && !net.containsIp("10.2.0.0") && !net.containsIp("::1"));
  assert(!net.containsIp("rubbish"));
  assert(Cidr.parse("fd00:1::/48").containsIp("fd00:1:0:ffff::1"));
  assert(net.equals(Cidr.parse("10.1.77.0/16")) && !net.equals(Cidr.parse("10.1.0.0/17")));
});

Deno.test("arithmetic stays inside", () => {
  const subnet = Cidr.parse("10.1.255.0/24");
  assert.equal(subnet.nth(0), "10.1.255.0");
  assert.equal(subnet.nth(255n), "10.1.255.255");
  assert.throws(() => subnet.nth(256), RangeError);
  assert.throws(() => subnet.nth(-1), RangeError);
  assert.equal(`${subnet.next()}`, "10.2.0.0/24");
  assert.throws(() => Cidr.parse("255.255.255.0/24").next(), RangeError);
  assert.equal(Cidr.parse("fd00::/64").nth(1), "fd00::1");
  assert.equal(Cidr.parse("fd00::/64").size, 1n << 64n);
});

Deno.test("kinds of addresses", () => {
  const is = (kind: typeof isUnicast, ...ips: string[]) =>
    ips.filter((ip) => !kind(parseIp(ip))).join();
  const not = (kind: typeof isUnicast, ...ips: string[]) =>
    ips.filter((ip) => kind(parseIp(ip))).join();
  assert.equal(
    is(isUnicast, "10.0.0.1", "192.0.2.1", "127.0.0.1", "fd00::1", "::1", "fe80::1"),
    "",
  );
  assert.equal(
    not(isUnicast, "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    "",
  );
  assert.equal(not(isUnicast, "::", "ff02::1"), "");
  assert.equal(is(isLoopback, "127.0.0.1", "127.9.9.9", "::1"), "");
  assert.equal(not(isLoopback, "128.0.0.1", "::2", "::7f00:1"), "");
  assert.equal(is(isMulticast, "224.0.0.1", "239.255.255.255", "ff00::"), "");
  assert.equal(is(isUnspecified, "0.0.0.0", "::"), "");
  assert.equal(is(isBroadcast, "255.255.255.255"), "");
  assert.equal(is(isLinkLocal, "169.254.1.1", "fe80::1", "febf::1"), "");
  assert.equal(not(isLinkLocal, "169.253.1.1", "fec0::1"), "");
});
