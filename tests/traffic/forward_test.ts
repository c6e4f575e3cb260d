/** The overlay's packets on hosts whose other firewalls, by iptables, would drop them. */
import assert from "node:assert/strict";
import { both, ensured, forward, logged, node, WANTED } from "../../testbed/overlay_node.ts";

const NOTHING = { changed: [], errors: [] };
const JUMP = '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD';

/** What a firewall of iptables does to packets that it does not know. */
const FIREWALLS: Record<string, string[][]> = {
  "policy DROP": [["-P", "FORWARD", "DROP"]],
  "Docker's chains and policy DROP": [
    ["-P", "FORWARD", "DROP"],
    ["-N", "DOCKER-USER"],
    ["-A", "FORWARD", "-j", "DOCKER-USER"],
    [
      "-A",
      "FORWARD",
      "-o",
      "docker0",
      "-m",
      "conntrack",
      "--ctstate",
      "ESTABLISHED",
      "-j",
      "ACCEPT",
    ],
    ["-A", "FORWARD", "-i", "docker0", "!", "-o", "docker0", "-j", "ACCEPT"],
  ],
  "a final REJECT": [
    ["-A", "FORWARD", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
    ["-A", "FORWARD", "-i", "lo", "-j", "ACCEPT"],
    ["-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"],
    ["-A", "FORWARD", "-j", "REJECT"],
  ],
  "a final DROP in a chain": [
    ["-N", "last-word"],
    ["-A", "last-word", "-p", "udp", "-j", "ACCEPT"],
    ["-A", "last-word", "-j", "LOG"],
    ["-A", "last-word", "-j", "DROP"],
    ["-A", "FORWARD", "-g", "last-word"],
  ],
  "a DROP of all that comes for the bridge from elsewhere": [
    ["-N", "DOCKER"],
    ["-A", "DOCKER", "!", "-i", "cni0", "-o", "cni0", "-j", "DROP"],
    ["-A", "FORWARD", "-o", "cni0", "-j", "DOCKER"],
  ],
};

for (const variant of ["nft", "legacy"] as const) {
  for (const [name, commands] of Object.entries(FIREWALLS)) {
    for (const kind of ["iptables", "nftables"] as const) {
      Deno.test(`${kind} on a host whose iptables-${variant} has ${name}: packets pass`, async () => {
        await using h = await node("nft", { policy: "keep" });
        for (const command of commands) await both(h, variant, ...command);
        const before = await forward(h, variant);
        assert.notEqual(await h.passing(), "1111");
        const rules = kind === "nftables" ? h.nftables() : h.rules;
        await ensured(rules);
        assert.equal(await h.passing(), "1111");
        assert.equal(rules.problem(), undefined);
        assert.deepEqual(await rules.ensure(WANTED), NOTHING);
        const policy = (lines: string[]) => lines.map((text) => text.split("\n")[0]);
        assert.deepEqual(policy(await forward(h, variant)), policy(before));

        // What a restart of Docker or of a firewall does.
        await both(h, variant, "-F", "FORWARD");
        for (const command of commands) {
          if (command[0] !== "-N" && command[1] === "FORWARD") await both(h, variant, ...command);
        }
        assert.notEqual(await h.passing(), "1111");
        await ensured(rules);
        assert.equal(await h.passing(), "1111");

        await h.again().remove();
        assert.deepEqual(await forward(h, variant), before);
        assert.doesNotMatch(await h.ns.run(`iptables-${variant}`, "-S"), /FLANNEL/);
      });
    }
  }
}

Deno.test("a jump that is there already is moved before the REJECT, once", async () => {
  await using h = await node();
  await h.ipt("-N", "DOCKER-USER");
  await h.ipt("-A", "FORWARD", "-j", "DOCKER-USER");
  await ensured(h.rules);
  await h.ipt("-I", "FORWARD", "2", "-j", "REJECT");
  const lines = await logged(() => ensured(h.rules));
  assert.equal(await h.passing(), "1111");
  assert.ok(
    lines.some((line) => /^Moving the jump .* -A FORWARD -j REJECT/.test(line)),
    lines.join("\n"),
  );
  assert.equal(
    await h.ipt("-S", "FORWARD"),
    `-P FORWARD ACCEPT\n-A FORWARD -j DOCKER-USER\n${JUMP}\n` +
      "-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n",
  );
  assert.deepEqual(await h.rules.ensure(WANTED), NOTHING);
});

Deno.test("another program that puts its DROP first each time is not fought without end", async () => {
  await using h = await node();
  await ensured(h.rules);
  let moves = 0;
  for (let round = 0; round < 12; round++) {
    await h.ipt("-D", "FORWARD", "-j", "DROP").catch(() => {});
    await h.ipt("-I", "FORWARD", "1", "-j", "DROP");
    if ((await h.rules.ensure(WANTED)).changed.length > 0) moves++;
  }
  assert.equal(moves, 5);
  assert.match(h.rules.problem() ?? "", /chain FORWARD of table filter, -A FORWARD -j DROP: /);
  await h.ipt("-D", "FORWARD", "-j", "DROP");
  assert.deepEqual(await h.rules.ensure(WANTED), NOTHING);
  assert.equal(h.rules.problem(), undefined);
});

Deno.test("a rule that someone wrote for the overlay's addresses is not passed by, but reported", async () => {
  await using h = await node();
  await h.ipt("-A", "FORWARD", "-s", "10.0.0.0/8", "-j", "DROP");
  const lines = await logged(() => ensured(h.rules));
  const problem = h.rules.problem() ?? "";
  assert.match(
    problem,
    /drops forwarded packets of 10\.1\.0\.0\/16: .*-A FORWARD -s 10\.0\.0\.0\/8 -j DROP/,
  );
  assert.match(problem, /iptables -I FORWARD -s 10\.1\.0\.0\/16 -j ACCEPT/);
  assert.equal(await h.passing(), "0011");
  assert.deepEqual((await h.ipt("-S", "FORWARD")).trim().split("\n").slice(1), [
    "-A FORWARD -s 10.0.0.0/8 -j DROP",
    JUMP,
  ]);
  assert.equal(lines.filter((line) => line.includes(problem)).length, 1, lines.join("\n"));
  assert.deepEqual(await logged(async () => void await h.rules.ensure(WANTED)), []);
});

Deno.test("rules that drop some packets only keep their place", async () => {
  await using h = await node();
  const theirs = [
    "-A FORWARD -s 203.0.113.0/24 -j DROP",
    "-A FORWARD -p udp -j DROP",
    "-A FORWARD -p tcp -m tcp --dport 25 -j DROP",
    "-A FORWARD -i wlan0 -j DROP",
    "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
  ];
  for (const rule of theirs) await h.ipt(...rule.split(" "));
  await ensured(h.rules);
  assert.deepEqual((await h.ipt("-S", "FORWARD")).trim().split("\n").slice(1), [...theirs, JUMP]);
  assert.equal(h.rules.problem(), undefined);
});

Deno.test("nftables: nothing is written to iptables where it lets packets through", async () => {
  await using h = await node();
  await both(h, "nft", "-A", "FORWARD", "-i", "wlan0", "-j", "DROP");
  const before = await h.save();
  const nftables = h.nftables();
  await ensured(nftables);
  assert.equal(await h.save(), before);
  await both(h, "nft", "-P", "FORWARD", "DROP");
  await ensured(nftables);
  assert.equal(await h.passing(), "1111");
  await both(h, "nft", "-P", "FORWARD", "ACCEPT");
  await ensured(nftables);
  assert.equal(await h.save(), before);
});

for (const variant of ["nft", "legacy"] as const) {
  Deno.test(`iptables-${variant}: the policy is changed with a line, and restored by cleanup`, async () => {
    const folder = await Deno.makeTempDir();
    const subnetFile = `${folder}/subnet.env`;
    await using h = await node(variant, { subnetFile });
    const policy = async () =>
      (await forward(h, variant)).map((text) => text.match(/^-P FORWARD (\S+)/)?.[1]).join();
    const line = "Changing default FORWARD chain policy to ACCEPT";
    try {
      assert.doesNotMatch((await logged(() => ensured(h.rules))).join("\n"), /policy/);
      await h.again().remove();
      assert.equal(await policy(), "ACCEPT,ACCEPT");

      await both(h, variant, "-P", "FORWARD", "DROP");
      const lines = await logged(() => ensured(h.rules));
      assert.deepEqual(lines.filter((one) => /policy/.test(one)), [line, `IPv6: ${line}`]);
      assert.equal(await policy(), "ACCEPT,ACCEPT");
      // A later run finds ACCEPT, and knows all the same.
      await ensured(h.again());
      const removed = await h.again().remove();
      assert.ok(
        removed.some((one) => /^ip6tables.* filter: policy of FORWARD set to DROP$/.test(one)),
        removed.join("\n"),
      );
      assert.equal(await policy(), "DROP,DROP");
      assert.deepEqual([...Deno.readDirSync(folder)], []);
      assert.deepEqual(await h.again().remove(), []);

      // What an operator sets since then stays: IPv4 is theirs, IPv6 was DROP before the agent.
      await ensured(h.again());
      await h.again().remove();
      await both(h, variant, "-P", "FORWARD", "ACCEPT");
      await h.again().remove();
      assert.equal(await policy(), "ACCEPT,ACCEPT");
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });

  Deno.test(`iptables-${variant}: with keep the policy stays and packets pass`, async () => {
    await using h = await node(variant, { policy: "keep" });
    await both(h, variant, "-P", "FORWARD", "DROP");
    const lines = await logged(() => ensured(h.rules));
    assert.doesNotMatch(lines.join("\n"), /policy/);
    assert.equal(await h.passing(), "1111");
    assert.match(await h.ipt("-S"), /^-P FORWARD DROP$/m);
    await h.again().remove();
    assert.match(await h.ipt("-S"), /^-P FORWARD DROP$/m);
    assert.equal(await h.passing(), "0000");
  });
}

Deno.test("a comment with line breaks is one rule of its owner's", async () => {
  await using h = await node();
  const comment = 'x" \n-A FORWARD -j FLANNEL-FWD\n:FLANNEL-FWD - [0:0]\n-A FLANNEL-FWD -j DROP';
  await h.ipt(
    "-A",
    "FORWARD",
    "-s",
    "203.0.113.0/24",
    "-m",
    "comment",
    "--comment",
    comment,
    "-j",
    "DROP",
  );
  const before = await h.save();
  await ensured(h.rules);
  assert.equal(await h.passing(), "1111");
  assert.deepEqual(await h.rules.ensure(WANTED), NOTHING);
  await h.rules.remove();
  assert.equal(await h.save(), before);
});
