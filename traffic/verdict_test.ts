import assert from "node:assert/strict";
import { iptablesChainRule } from "./iptables_match.ts";
import { nftChains } from "./nft_match.ts";
import { type ChainRule, judge, overlayPackets } from "./verdict.ts";

const SUBNETS = { network: "10.1.0.0/16", subnet: "10.1.5.0/24" };
const [OUT, IN] = overlayPackets(SUBNETS, "docker0");
const FORWARD = { name: "FORWARD", policy: "drop" } as const;

/** What becomes of both packets under these rules of iptables: lost for certain, or perhaps not. */
function lost(rules: string[], other: string[] = []): string {
  const texts = new Map([["FORWARD", rules], ["other", other]]);
  const chains = new Map([...texts].map(([name, list]): [string, ChainRule[]] => [
    name,
    list.map((rule) => iptablesChainRule(rule, (target) => texts.has(target))),
  ]));
  return [OUT, IN].map((packet) => judge(chains, FORWARD, packet).lost ? "lost" : "?").join();
}

Deno.test("rules of iptables are judged by what a new connection between containers would meet", () => {
  assert.equal(lost([]), "lost,lost");
  assert.equal(lost(["-j ACCEPT"]), "?,?");
  assert.equal(lost(["-i docker0 ! -o docker0 -j ACCEPT"]), "?,lost");
  assert.equal(lost(["-o docker0 -j ACCEPT"]), "lost,?");
  assert.equal(lost(["-i docker+ -j ACCEPT"]), "?,?");
  assert.equal(lost(["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"]), "lost,lost");
  assert.equal(lost(["-m conntrack ! --ctstate INVALID -j ACCEPT"]), "?,?");
  assert.equal(lost(["-p icmp -j ACCEPT", "-p udp -j ACCEPT"]), "lost,lost");
  assert.equal(lost(["-s 10.1.5.0/24 -j ACCEPT"]), "?,?");
  assert.equal(lost(["-s 10.2.0.0/16 -j ACCEPT", "! -s 10.0.0.0/8 -j ACCEPT"]), "lost,lost");
  assert.equal(lost(["-m set --match-set known src -j ACCEPT"]), "?,?");
  assert.equal(lost(["-j SOMETHING"]), "?,?");
  assert.equal(lost(["-j LOG", "-m mark ! --mark 0x1 -j MARK --set-xmark 0x1/0x1"]), "lost,lost");
});

Deno.test("chains of iptables come back, go on elsewhere, and decide", () => {
  assert.equal(lost(["-j other", "-j ACCEPT"], ["-j RETURN", "-j DROP"]), "?,?");
  assert.equal(lost(["-g other", "-j ACCEPT"], ["-j RETURN"]), "lost,lost");
  assert.equal(lost(["-j other", "-j ACCEPT"], ["-j DROP"]), "lost,lost");
  assert.equal(lost(["-j other"], ["-j ACCEPT"]), "?,?");
  assert.equal(lost(["-j other", "-j ACCEPT"], ["-j other"]), "?,?");
});

Deno.test("an nftables rule goes on behind a verdict map", () => {
  const rule = (...expr: unknown[]) => ({ rule: { chain: "FORWARD", expr } });
  const map = (verdict: unknown) => ({
    vmap: { key: { ct: { key: "state" } }, data: { set: [["established", verdict]] } },
  });
  const accept = { accept: null };
  const judged = (...entries: ReturnType<typeof rule>[]) =>
    judge(nftChains(entries), { name: "FORWARD", policy: "accept" }, OUT).lost;
  assert.equal(judged(rule(map(accept), { counter: {} }, { drop: null })), true);
  assert.equal(judged(rule(map({ drop: null })), rule(accept)), false);
  // What a later version of nft may print.
  assert.equal(judged(rule({ unheard: {} }, { drop: null })), false);
  assert.equal(judged(rule({ match: { op: "==", left: 1, right: [{}] } }, { drop: null })), false);
});
