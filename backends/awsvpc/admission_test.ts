import assert from "node:assert/strict";
import type { IpPermission } from "@aws-sdk/client-ec2";
import { Cidr } from "../../base/cidr.ts";
import { admission, prefixListsOf } from "./admission.ts";

const range = (from: string, to = from) => {
  const [first, last] = [Cidr.parse(from), Cidr.parse(to)];
  return { family: first.family, first: first.base, last: last.last };
};

const NETWORK = range("10.1.0.0/16");
const SIX = range("fd00:1::/48");

/** A rule for these networks: `tcp 80-443`, `icmp`, `-1`. */
function rule(what: string, ...networks: string[]): IpPermission {
  const [, IpProtocol, from, to] = /^(\S+?)(?: (\d+)-(\d+))?$/.exec(what)!;
  return {
    IpProtocol,
    FromPort: from === undefined ? undefined : Number(from),
    ToPort: to === undefined ? undefined : Number(to),
    IpRanges: networks.filter((text) => !text.includes(":")).map((CidrIp) => ({ CidrIp })),
    Ipv6Ranges: networks.filter((text) => text.includes(":")).map((CidrIpv6) => ({ CidrIpv6 })),
  };
}

function come(rules: IpPermission[], of = NETWORK) {
  const { admission: word, missing } = admission(rules, of);
  return missing.length > 0 ? `${word} ${missing.join(" ")}` : word;
}

Deno.test("a rule admits a network by its addresses, not by a group", () => {
  assert.equal(come([rule("-1", "10.0.0.0/8")]), "all");
  assert.equal(come([rule("-1", "0.0.0.0/0")]), "all");
  const group: IpPermission = { IpProtocol: "-1", UserIdGroupPairs: [{ GroupId: "sg-1" }] };
  assert.equal(come([group]), "none 10.1.0.0-10.1.255.255");
  assert.equal(come([]), "none 10.1.0.0-10.1.255.255");
  assert.equal(come([rule("-1", "::/0")]), "none 10.1.0.0-10.1.255.255");
  assert.equal(come([rule("-1", "::/0")], SIX), "all");
});

Deno.test("several rules together, by addresses", () => {
  assert.equal(come([rule("-1", "10.1.0.0/17", "10.1.128.0/17")]), "all");
  assert.equal(come([rule("-1", "10.1.0.0/17"), rule("-1", "10.1.128.0/17")]), "all");
  assert.equal(
    come([rule("-1", "10.1.0.0/17"), rule("-1", "10.1.64.0/18")]),
    "part 10.1.128.0-10.1.255.255",
  );
  const holes = [rule("-1", "10.1.0.0/18", "10.1.128.0/18"), rule("tcp 22-22", "10.1.64.0/24")];
  assert.equal(come(holes), "part 10.1.65.0-10.1.127.255 10.1.192.0-10.1.255.255");
  assert.equal(come([rule("-1", "fd00:1::/49"), rule("-1", "fd00:1:0:8000::/49")], SIX), "all");
});

Deno.test("only the subnets that may be leased matter", () => {
  const lower = range("10.1.1.0/24", "10.1.127.0/24");
  assert.equal(come([rule("-1", "10.1.0.0/17")], lower), "all");
});

Deno.test("several rules together, by protocols and ports", () => {
  const all = ["tcp 0-65535", "udp 0-65535", "icmp"];
  assert.equal(come(all.map((what) => rule(what, "10.0.0.0/8"))), "common");
  assert.equal(come(["6", "17", "1"].map((what) => rule(what, "10.0.0.0/8"))), "common");
  assert.equal(come(all.slice(1).map((what) => rule(what, "10.0.0.0/8"))), "some");
  const halves = ["tcp 1-1023", "tcp 1024-65535", "udp 0-65535", "icmp"];
  assert.equal(come(halves.map((what) => rule(what, "10.0.0.0/8"))), "common");
  const gap = ["tcp 1-1023", "tcp 1025-65535", "udp 0-65535", "icmp"];
  assert.equal(come(gap.map((what) => rule(what, "10.0.0.0/8"))), "some");
  // Everything for one half, the protocols one by one for the other.
  const mixed = [rule("-1", "10.1.0.0/17"), ...all.map((what) => rule(what, "10.1.128.0/17"))];
  assert.equal(come(mixed), "common");
  assert.equal(come([rule("tcp 80-80", "0.0.0.0/0"), rule("-1", "10.1.0.0/17")]), "some");
  // ICMP of the other family, or one type of it, is not what ping needs.
  assert.equal(come([...all.slice(0, 2), "58"].map((what) => rule(what, "10.1.0.0/16"))), "some");
  const six = [...all.slice(0, 2), "icmpv6"].map((what) => rule(what, "fd00:1::/48"));
  assert.equal(come(six, SIX), "common");
  assert.equal(
    come([...all.slice(0, 2), "icmp 8-8"].map((what) => rule(what, "10.1.0.0/16"))),
    "some",
  );
});

Deno.test("prefix lists admit what they list, those not read nothing", () => {
  const rules: IpPermission[] = [
    { IpProtocol: "-1", PrefixListIds: [{ PrefixListId: "pl-1" }, { PrefixListId: "pl-2" }] },
  ];
  assert.deepEqual(prefixListsOf(rules), ["pl-1", "pl-2"]);
  const lists = new Map([["pl-1", [Cidr.parse("10.1.0.0/17")]]]);
  assert.equal(admission(rules, NETWORK, lists).admission, "part");
  lists.set("pl-2", [Cidr.parse("10.1.128.0/17"), Cidr.parse("fd00::/8")]);
  assert.equal(admission(rules, NETWORK, lists).admission, "all");
  assert.equal(admission(rules, NETWORK).admission, "none");
});

Deno.test("hundreds of rules are judged quickly, and odd texts do not fail", () => {
  const rules = Array.from(
    { length: 1000 },
    (_, n) => rule("-1", `10.1.${n >> 2}.${(n & 3) * 64}/26`),
  );
  const began = performance.now();
  assert.equal(come(rules), "part 10.1.250.0-10.1.255.255");
  const took = performance.now() - began;
  assert.ok(took < 2_000, `${took} ms`);
  assert.equal(come([rule("-1", "not a network")]), "none 10.1.0.0-10.1.255.255");
});
