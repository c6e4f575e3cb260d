/** Agents on hosts with other firewalls: what they do to FORWARD, and what `/readyz` says. */
import assert from "node:assert/strict";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { eventually, ping, runFlanneld, terminate } from "./support.ts";

const POLICY_LINE = /Changing default FORWARD chain policy to ACCEPT/;

/** Whether containers of both nodes reach each other. */
async function pingBoth(cluster: Cluster, name = "c1"): Promise<void> {
  const [a, b] = await cluster.attachAll(name);
  await eventually(() => ping(a.ns, b.ipv4!));
  await eventually(() => ping(b.ns, a.ipv4!));
}

function cleanup(cluster: Cluster, node: Node) {
  return runFlanneld(node, "cleanup", ...cluster.etcdArgs(), `--subnet-file=${node.subnetFile}`);
}

for (const variant of ["nft", "legacy"]) {
  Deno.test(`EnableNFTables where iptables-${variant} has policy DROP and a final REJECT`, async () => {
    await using cluster = await Cluster.create({
      label: `fwd-${variant.slice(0, 1)}`,
      network: { ...networkConfig(), EnableNFTables: true },
      agentArgs: ["--iptables-resync=1"],
    });
    const tool = `iptables-${variant}`;
    for (const { ns } of cluster.nodes) {
      await ns.run(tool, "-P", "FORWARD", "DROP");
      await ns.run(tool, "-A", "FORWARD", "-j", "REJECT");
    }
    const [one] = cluster.nodes;
    const before = await one.ns.run(tool, "-S");
    await cluster.startAgents();
    await pingBoth(cluster);
    assert.equal((await one.health("/readyz")).status, 200);
    const filter = await one.ns.run(tool, "-S");
    assert.match(filter, /^-P FORWARD DROP$/m);
    assert.match(filter, /^-A FORWARD .*-j FLANNEL-FWD\n-A FORWARD -j REJECT/m);
    assert.match(await one.ns.run("nft", "list", "tables"), /table ip flannel-ipv4/);
    assert.ok(!one.agent!.lines.some((line) => POLICY_LINE.test(line)));

    await one.ns.run(tool, "-D", "FORWARD", "1");
    await eventually(async () => assert.equal(await one.ns.run(tool, "-S"), filter));

    await terminate(one.agent!);
    const { code, stderr } = await cleanup(cluster, one);
    assert.equal(code, 0, stderr);
    assert.equal(await one.ns.run(tool, "-S"), before);
    assert.doesNotMatch(await one.ns.run("nft", "list", "tables"), /flannel/);
  });
}

Deno.test("EnableNFTables beside a firewall's nftables chain that drops: not ready until it lets packets through", async () => {
  await using cluster = await Cluster.create({
    label: "fwd-f",
    network: { ...networkConfig(), EnableNFTables: true },
    agentArgs: ["--iptables-resync=1"],
  });
  const [one, two] = cluster.nodes;
  await one.ns.run(
    "nft",
    `table inet fw {
      chain forward { type filter hook forward priority 10; policy drop;
        ct state { established, related } accept
      }
    }`,
  );
  one.startAgent();
  await one.agent!.waitForLine(/Not ready: the nftables chain forward of table inet fw/);
  two.startAgent();
  await two.waitReady();
  const { status, body } = await one.health("/readyz");
  assert.equal(status, 503);
  assert.match(
    body,
    /the nftables chain forward of table inet fw drops .* 10\.1\.0\.0\/16 by its policy/,
  );
  const remedy = body.match(/nft insert rule .*? accept/g) ?? [];
  assert.equal(remedy.length, 2, body);
  for (const command of remedy) await one.ns.run("nft", command.slice("nft ".length));
  await eventually(async () => assert.equal((await one.health("/readyz")).status, 200));
  await pingBoth(cluster);
  await one.ns.run("nft", "insert rule inet fw forward ip daddr 10.1.0.0/16 drop");
  // Chains that let everything through are looked at every 30 s.
  await eventually(async () => assert.equal((await one.health("/readyz")).status, 503), {
    limitMs: 40_000,
  });
});

Deno.test("--iptables-forward-policy=keep: FORWARD stays at DROP and packets pass", async () => {
  await using cluster = await Cluster.create({
    label: "fwd-keep",
    agentArgs: ["--iptables-forward-policy=keep"],
  });
  for (const { ns } of cluster.nodes) await ns.run("iptables", "-P", "FORWARD", "DROP");
  await cluster.startAgents();
  await pingBoth(cluster);
  for (const { ns, agent } of cluster.nodes) {
    assert.match(await ns.run("iptables", "-S"), /^-P FORWARD DROP$/m);
    assert.ok(!agent!.lines.some((line) => POLICY_LINE.test(line)));
  }
});

Deno.test("cleanup restores FORWARD's policy where the agent changed it, and only there", async () => {
  await using cluster = await Cluster.create({ label: "fwd-back" });
  const [one, two] = cluster.nodes;
  await one.ns.run("iptables", "-P", "FORWARD", "DROP");
  await cluster.startAgents();
  const policy = async ({ ns }: Node) => (await ns.run("iptables", "-S", "FORWARD")).split("\n")[0];
  for (const node of [one, two]) {
    await eventually(async () =>
      assert.match(await node.ns.run("iptables", "-S"), /-A FORWARD .*-j FLANNEL-FWD/)
    );
    assert.equal(await policy(node), "-P FORWARD ACCEPT");
  }
  assert.equal(one.agent!.lines.filter((line) => POLICY_LINE.test(line)).length, 1);
  assert.equal(two.agent!.lines.filter((line) => POLICY_LINE.test(line)).length, 0);
  for (const node of [one, two]) {
    await terminate(node.agent!);
    const { code, stderr } = await cleanup(cluster, node);
    assert.equal(code, 0, stderr);
  }
  assert.equal(await policy(one), "-P FORWARD DROP");
  assert.equal(await policy(two), "-P FORWARD ACCEPT");
  const folder = one.subnetFile.slice(0, one.subnetFile.lastIndexOf("/"));
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name);
  assert.ok(!files.some((name) => name.includes("forward-policy")), files.join());
});

Deno.test("--iptables-forward-policy takes accept and keep alone", async () => {
  await using cluster = await Cluster.create({ label: "fwd-flag", nodes: 1 });
  const { code, stderr } = await runFlanneld(
    cluster.nodes[0],
    "--iptables-forward-policy=drop",
    ...cluster.etcdArgs(),
  );
  assert.notEqual(code, 0);
  assert.match(stderr, /--iptables-forward-policy.*neither accept nor keep/);
});
