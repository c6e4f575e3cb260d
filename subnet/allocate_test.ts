import assert from "node:assert/strict";
import { fits, NoFreeSubnetError, pickClear, pickSubnet, pickSubnets } from "./allocate.ts";
import { Cidr } from "../base/cidr.ts";
import { parseNetworkConfig } from "./config.ts";

const IPV4 = parseNetworkConfig('{"Network":"10.1.0.0/20"}');
const DUAL = parseNetworkConfig(
  '{"Network":"10.1.0.0/20","EnableIPv6":true,"IPv6Network":"fd00::/8","IPv6SubnetLen":120}',
);

/** The numbers again and again, as a source of randomness. */
function sequence(...numbers: number[]): () => number {
  let next = 0;
  return () => numbers[next++ % numbers.length];
}

Deno.test("every free subnet of the range is picked sometimes, no other ever", () => {
  const taken = ["10.1.3.0/24", "10.1.8.0/23", "10.1.15.128/25", "10.9.0.0/16"].map(Cidr.parse);
  const picked = new Map<string, number>();
  for (let run = 0; run < 5_000; run++) {
    const subnet = `${pickSubnet(IPV4.ipv4!, taken, Math.random)}`;
    picked.set(subnet, (picked.get(subnet) ?? 0) + 1);
  }
  const free = [1, 2, 4, 5, 6, 7, 10, 11, 12, 13, 14].map((n) => `10.1.${n}.0/24`);
  assert.deepEqual([...picked.keys()].sort(), free.sort());
  // 5,000 / 11 = 455 each; a fair source leaves 320 to 590 once in 10^9 runs.
  for (const count of picked.values()) assert(count > 320 && count < 590, String(count));
});

Deno.test("both ends of the range are in reach", () => {
  assert.equal(`${pickSubnet(IPV4.ipv4!, [], () => 0)}`, "10.1.1.0/24");
  assert.equal(`${pickSubnet(IPV4.ipv4!, [], () => 1 - 2 ** -53)}`, "10.1.15.0/24");
});

Deno.test("one that is left is found; none left is an error", () => {
  const all = Array.from({ length: 15 }, (_, n) => Cidr.parse(`10.1.${n + 1}.0/24`));
  assert.equal(`${pickSubnet(IPV4.ipv4!, all.toSpliced(6, 1), Math.random)}`, "10.1.7.0/24");
  assert.throws(() => pickSubnet(IPV4.ipv4!, all, Math.random), {
    name: "NoFreeSubnetError",
    message: /no free subnet: all 15 of 10\.1\.1\.0 \.\.\. 10\.1\.15\.0 are leased/,
  });
  const halves = ["10.1.0.0/21", "10.1.8.0/21"].map(Cidr.parse);
  assert.throws(() => pickSubnet(IPV4.ipv4!, halves, Math.random), NoFreeSubnetError);
});

Deno.test("a lease over the whole network blocks nobody", () => {
  const junk = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/20", "fd00::/8"].map(Cidr.parse);
  assert.equal(`${pickSubnet(IPV4.ipv4!, [...junk, null], () => 0)}`, "10.1.1.0/24");
});

Deno.test("2^112 IPv6 subnets are not walked", () => {
  const taken = [{ subnet: null, ipv6Subnet: Cidr.parse("fd00::100/120") }];
  assert.equal(`${pickSubnets(DUAL, taken, () => 0).ipv6Subnet}`, "fd00::200/120");
  assert.equal(
    `${pickSubnets(DUAL, taken, () => 1 - 2 ** -53).ipv6Subnet}`,
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120",
  );
  const middle = pickSubnets(DUAL, taken, sequence(0.5, 0.25, 0.75));
  assert(DUAL.ipv6!.network.contains(middle.ipv6Subnet!));
});

Deno.test("which former subnets still fit", () => {
  const subnet = Cidr.parse("10.1.5.0/24");
  assert(fits(IPV4, { subnet, ipv6Subnet: null }));
  assert(!fits(IPV4, { subnet: Cidr.parse("10.1.0.0/24"), ipv6Subnet: null }), "below the range");
  assert(!fits(IPV4, { subnet: Cidr.parse("10.1.5.0/25"), ipv6Subnet: null }), "other length");
  assert(!fits(IPV4, { subnet: null, ipv6Subnet: null }));
  assert(!fits(DUAL, { subnet, ipv6Subnet: null }), "IPv6 came to the config since");
  assert(fits(DUAL, { subnet, ipv6Subnet: Cidr.parse("fd00::700/120") }));
});

Deno.test("a subnet with a host's address is picked only if no other is free", () => {
  const avoided = ["10.1.0.0/21", "10.1.9.7/32", "fd00::/9", "10.9.0.0/16"].map(Cidr.parse);
  for (let run = 0; run < 200; run++) {
    const { subnet } = pickClear(IPV4, [], avoided, Math.random);
    assert(!avoided.some((cidr) => cidr.overlaps(subnet!)), `${subnet}`);
  }
  const { subnet } = pickClear(IPV4, [], [Cidr.parse("10.1.0.0/20")], Math.random);
  assert(subnet !== null && IPV4.ipv4!.network.contains(subnet));
});
