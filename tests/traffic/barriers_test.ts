/** The overlay's packets on hosts where an nftables chain that is not ours would drop them. */
import assert from "node:assert/strict";
import { Commands, createTrafficRules, inspectForwarding } from "../../traffic/mod.ts";
import { run } from "../../testbed/netns.ts";
import { ensured, logged, node, WANTED } from "../../testbed/overlay_node.ts";

/** Rulesets of other programs, with the table, the chain and what drops. */
const FOREIGN: Record<string, { ruleset: string; named: RegExp }> = {
  "a policy": {
    ruleset: `table inet filter {
      chain input { type filter hook input priority 0; policy drop; accept; }
      chain forward { type filter hook forward priority 0; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop } counter
        iifname "wlan0" udp dport 53 accept
        icmp type echo-reply accept
      }
    }`,
    named: /chain forward of table inet filter drops .* by its policy, drop/,
  },
  "firewalld's chains": {
    ruleset: `table inet firewalld {
      chain filter_FORWARD { type filter hook forward priority 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject with icmpv6 addr-unreachable
        jump zones
        ct state invalid drop
        reject with icmpx admin-prohibited
      }
      chain zones {
        ip saddr 192.0.2.77 goto trusted
        iifname "docker0" goto trusted
        goto public
      }
      chain trusted { accept; }
      chain public { ip protocol icmp ip daddr 192.0.2.78 accept; }
    }`,
    named: /chain filter_FORWARD of table inet firewalld drops .* by its rule reject/,
  },
};

for (const [name, { ruleset, named }] of Object.entries(FOREIGN)) {
  for (const kind of ["iptables", "nftables"] as const) {
    Deno.test(`${kind} beside an nftables chain that drops by ${name}: not ready, why, and the remedy`, async () => {
      await using h = await node();
      await h.nft(ruleset);
      const before = await h.nft("list ruleset inet");
      const rules = kind === "nftables" ? h.nftables() : h.rules;
      assert.match(rules.problem() ?? "", /not in place yet/);
      const lines = await logged(() => ensured(rules));
      assert.equal(await h.passing(), "0000");
      assert.match(rules.problem() ?? "", named);
      assert.match(rules.problem() ?? "", /10\.1\.0\.0\/16.*fd00:1::\/48/s);
      assert.equal(lines.filter((line) => named.test(line)).length, 2, lines.join("\n"));
      assert.equal(await h.nft("list ruleset inet"), before);

      if (name === "a policy") {
        // The remedy as it is told.
        const commands = (rules.problem() ?? "").match(/nft insert rule .*? accept/g) ?? [];
        assert.equal(commands.length, 4);
        for (const command of commands) await h.nft(command.slice("nft ".length));
      } else {
        assert.match(
          rules.problem() ?? "",
          /firewall-cmd .*--zone=trusted --add-source=10\.1\.0\.0\/16/,
        );
        await h.nft("insert rule inet firewalld zones ip saddr 10.1.0.0/16 goto trusted");
        await h.nft("insert rule inet firewalld zones ip6 saddr fd00:1::/48 goto trusted");
      }
      assert.match((await logged(() => ensured(rules))).join("\n"), /^Recovered: /m);
      assert.equal(await h.passing(), "1111");
      assert.equal(rules.problem(), undefined);
    });
  }
}

Deno.test("nftables on a host with nft alone: iptables' FORWARD is named when it drops", async () => {
  await using h = await node();
  await h.ns.run("iptables-nft", "-P", "FORWARD", "DROP");
  const folder = await Deno.makeTempDir();
  try {
    for (const name of ["ip", "nft"]) {
      const path = (await run("which", [name])).trim();
      await Deno.symlink(await Deno.realPath(path), `${folder}/${name}`);
    }
    const commands = new Commands({
      folders: [folder],
      prefix: [`${folder}/ip`, "netns", "exec", h.ns.name],
    });
    const rules = createTrafficRules("nftables", { commands, bridge: () => "cni0" });
    await ensured(rules);
    assert.equal(await h.passing(), "0011");
    assert.match(rules.problem() ?? "", /chain FORWARD of table ip filter drops .* by its policy/);
    for (const [command] of (rules.problem() ?? "").matchAll(/nft insert rule .*? accept/g)) {
      await h.nft(command.slice("nft ".length));
    }
    await ensured(rules);
    assert.equal(await h.passing(), "1111");
    assert.equal(rules.problem(), undefined);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("inspecting tells what drops packets, by iptables and by nftables, and changes nothing", async () => {
  await using h = await node();
  const options = { commands: h.commands, bridge: () => "cni0" };
  assert.deepEqual(await inspectForwarding(WANTED, options), []);
  await h.ns.run("ip6tables-legacy", "-P", "FORWARD", "DROP");
  await h.nft(FOREIGN["a policy"].ruleset);
  const before = await h.nft("list ruleset");
  const lines = await inspectForwarding(WANTED, options);
  assert.equal(lines.length, 3, lines.join("\n"));
  assert.match(lines[0], /^ip6tables-legacy drops .* fd00:1::\/48: .* the policy DROP: /);
  assert.match(lines[1], FOREIGN["a policy"].named);
  assert.equal(await h.nft("list ruleset"), before);
});

Deno.test("nftables chains that may let packets through are no cause to be not ready", async () => {
  await using h = await node();
  for (
    const rule of [
      'iifname "cni0" accept; oifname "cni0" accept',
      "ip saddr @known accept; meta nfproto ipv6 accept",
      "meta mark 7 accept",
      "tcp dport 80 accept",
      "ip saddr 10.1.0.0/16 ip daddr 10.1.0.0/16 accept; ip6 saddr fd00:1::/48 accept",
      "jump other",
    ]
  ) {
    await h.nft(`table inet mine {
      set known { type ipv4_addr; flags interval; elements = { 10.1.0.0/16 } }
      chain other { iifname != "wlan0" accept; }
      chain forward { type filter hook forward priority 0; policy drop; ${rule}; }
    }`);
    const rules = h.again();
    await ensured(rules);
    assert.equal(rules.problem(), undefined, rule);
    await h.nft("delete table inet mine");
  }
});
