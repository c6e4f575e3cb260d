import assert from "node:assert/strict";
import { nftInput, nftListing } from "./nftables.ts";
import { type RuleInput, trafficRules } from "./rules.ts";
import { iptablesTables } from "./save.ts";

const INPUT: RuleInput = {
  ipv4: { network: "10.1.0.0/16", subnet: "10.1.5.0/24" },
  ipv6: { network: "fd00:1::/48", subnet: "fd00:1:0:5::/64" },
  ipMasq: true,
  randomFully: true,
  forwardRules: true,
};

Deno.test("iptables rules are those that flannel prints by iptables -S", () => {
  const [filter, nat] = iptablesTables(trafficRules(INPUT).ipv4, true);
  assert.deepEqual(filter.rules, [
    '-s 10.1.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
    '-d 10.1.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
  ]);
  const comment = '-m comment --comment "flanneld masq"';
  assert.deepEqual(nat.rules, [
    `-m mark --mark 0x4000/0x4000 ${comment} -j RETURN`,
    `-s 10.1.5.0/24 -d 10.1.0.0/16 ${comment} -j RETURN`,
    `-s 10.1.0.0/16 -d 10.1.5.0/24 ${comment} -j RETURN`,
    `! -s 10.1.0.0/16 -d 10.1.5.0/24 ${comment} -j RETURN`,
    `-s 10.1.0.0/16 ! -d 224.0.0.0/4 ${comment} -j MASQUERADE --random-fully`,
    `! -s 10.1.0.0/16 -d 10.1.0.0/16 ${comment} -j MASQUERADE --random-fully`,
  ]);
});

Deno.test("IPv6 has its own network and multicast, and --random-fully only where asked for", () => {
  const [, nat] = iptablesTables(trafficRules(INPUT).ipv6, false);
  assert.equal(
    nat.rules?.[4],
    '-s fd00:1::/48 ! -d ff00::/8 -m comment --comment "flanneld masq" -j MASQUERADE',
  );
});

Deno.test("what is switched off has no rules", () => {
  const rules = trafficRules({ ...INPUT, ipv6: null, ipMasq: false });
  assert.equal(rules.ipv6, null);
  assert.equal(rules.ipv4?.masquerade, null);
  assert.equal(rules.ipv4?.forward?.length, 2);
  assert.equal(trafficRules({ ...INPUT, forwardRules: false }).ipv4?.forward, null);
});

Deno.test("the nftables transaction replaces the agent's table alone", () => {
  const { ipv6 } = trafficRules(INPUT);
  assert.ok(ipv6);
  const text = nftInput("ipv6", ipv6, true);
  assert.match(text, /^add table ip6 flannel-ipv6\ndelete table ip6 flannel-ipv6\ntable ip6 /);
  assert.match(text, /\n {4}ip6 saddr == fd00:1::\/48 accept comment "flanneld forward"\n/);
  assert.match(text, /\n {4}meta mark & 16384 == 16384 return comment "flanneld masq"\n/);
  assert.match(text, /\n {4}ip6 saddr != fd00:1::\/48 ip6 daddr == fd00:1:0:5::\/64 return /);
  assert.match(text, /daddr != ff00::\/8 masquerade fully-random comment/);
  assert.doesNotMatch(text, /policy drop/);
  assert.doesNotMatch(nftInput("ipv6", { ...ipv6, masquerade: null }, true), /postrtg|nat/);
});

Deno.test("two nft listings compare equal but for handles", () => {
  const listing = (handle: number, chain: string) =>
    nftListing(JSON.stringify({
      nftables: [{ metainfo: { version: String(handle) } }, { chain: { name: chain, handle } }],
    }));
  assert.equal(listing(1, "forward"), listing(2, "forward"));
  assert.notEqual(listing(1, "forward"), listing(1, "postrtg"));
});
