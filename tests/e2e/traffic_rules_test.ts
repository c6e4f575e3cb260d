/** The FORWARD and masquerading rules that an agent keeps, by iptables and by nftables. */
import assert from "node:assert/strict";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { plug } from "../../testbed/netns.ts";
import { eventually, nodeLease, ping } from "./support.ts";

Deno.test("the agent's rules are there, let packets through, and are put back", async () => {
  await using cluster = await Cluster.create({
    label: "rules",
    families: "dual",
    agentArgs: ["--iptables-resync=1"],
  });
  const [one, two] = cluster.nodes;
  for (const { ns } of cluster.nodes) {
    await ns.run("iptables", "-P", "FORWARD", "DROP");
    await ns.run("ip6tables", "-P", "FORWARD", "DROP");
  }
  await one.ns.run("iptables", "-A", "FORWARD", "-s", "203.0.113.0/24", "-j", "DROP");
  await one.ns.run("iptables", "-t", "nat", "-N", "FOREIGN");
  await cluster.startAgents({ args: ["--ip-masq"] });
  const { subnet, ipv6Subnet } = await nodeLease(cluster, one);
  const wanted = async () => {
    for (
      const { tool, network, own, multicast } of [
        { tool: "iptables", network: "10.1.0.0/16", own: subnet, multicast: "224.0.0.0/4" },
        { tool: "ip6tables", network: "fd00:1::/48", own: ipv6Subnet, multicast: "ff00::/8" },
      ]
    ) {
      const filter = await one.ns.run(tool, "-S");
      assert.match(filter, /^-P FORWARD ACCEPT$/m);
      const forward = '-m comment --comment "flanneld forward"';
      assertLines(filter, [
        `-A FORWARD ${forward} -j FLANNEL-FWD`,
        `-A FLANNEL-FWD -s ${network} ${forward} -j ACCEPT`,
        `-A FLANNEL-FWD -d ${network} ${forward} -j ACCEPT`,
      ]);
      const nat = await one.ns.run(tool, "-t", "nat", "-S");
      const masq = '-m comment --comment "flanneld masq"';
      assertLines(nat, [
        `-A POSTROUTING ${masq} -j FLANNEL-POSTRTG`,
        `-A FLANNEL-POSTRTG -s ${own} -d ${network} ${masq} -j RETURN`,
      ]);
      assert.match(
        nat,
        new RegExp(
          `^-A FLANNEL-POSTRTG -s ${network} ! -d ${multicast} ${masq} -j MASQUERADE.*$`,
          "m",
        ),
      );
    }
  };
  await eventually(wanted);
  assert.equal((await one.env()).FLANNEL_IPMASQ, "true");
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!));
  await eventually(() => ping(a.ns, b.ipv6!));

  for (
    const deletion of [
      ["iptables", "-F", "FLANNEL-FWD"],
      ["iptables", "-F", "FORWARD"],
      ["ip6tables", "-F", "FLANNEL-FWD"],
      ["iptables", "-t", "nat", "-F", "POSTROUTING"],
      ["ip6tables", "-t", "nat", "-F", "FLANNEL-POSTRTG"],
      ["iptables", "-P", "FORWARD", "DROP"],
    ]
  ) {
    const [tool, ...args] = deletion;
    await one.ns.run(tool, ...args);
    await eventually(wanted, { limitMs: 5_000, what: `the rules after ${deletion.join(" ")}` });
  }
  assert.match(await one.ns.run("iptables", "-t", "nat", "-S"), /^-N FOREIGN$/m);

  // The overlay's own packets keep their source, those that leave it get the host's.
  await using outside = await cluster.namespace("out");
  await plug(cluster.switch, "p-out", {
    ns: outside,
    dev: "eth0",
    addresses: ["192.168.77.200/24"],
  });
  await ping(a.ns, "192.168.77.200");
  const seen = outside.spawn("tcpdump", ["-lni", "eth0", "-c2", "icmp"]);
  await seen.waitForLine(/listening on/);
  await ping(a.ns, "192.168.77.200");
  const [, source] = await seen.waitForLine(/IP (\S+) > 192\.168\.77\.200/);
  assert.equal(source, one.ipv4);
  assert.equal(two.agent!.ended, false);
});

Deno.test("--iptables-forward-rules=false leaves FORWARD alone", async () => {
  await using cluster = await Cluster.create({ label: "rules-off", nodes: 1 });
  const [node] = cluster.nodes;
  await node.ns.run("iptables", "-P", "FORWARD", "DROP");
  await cluster.startAgents({ args: ["--iptables-forward-rules=false", "--ip-masq"] });
  await eventually(async () =>
    assert.match(await node.ns.run("iptables", "-t", "nat", "-S"), /FLANNEL-POSTRTG/)
  );
  const filter = await node.ns.run("iptables", "-S");
  assert.match(filter, /^-P FORWARD DROP$/m);
  assert.doesNotMatch(filter, /FLANNEL/);
});

Deno.test("EnableNFTables keeps the rules in tables of the agent's own", async () => {
  await using cluster = await Cluster.create({
    label: "rules-nft",
    network: { ...networkConfig(), EnableNFTables: true },
    agentArgs: ["--ip-masq", "--iptables-resync=1"],
  });
  await cluster.startAgents();
  const [node] = cluster.nodes;
  const own = async () => {
    const tables = await node.ns.run("nft", "list", "ruleset");
    assert.match(tables, /table ip flannel/);
    assert.match(tables, /ip saddr 10\.1\.0\.0\/16.*accept/);
    assert.match(tables, /masquerade/);
    return tables;
  };
  await eventually(own);
  assert.doesNotMatch(await own(), /FLANNEL-FWD/, "none by iptables");
  for (const line of (await node.ns.run("nft", "list", "tables")).trim().split("\n")) {
    if (line.includes("flannel")) await node.ns.run("nft", "delete", ...line.split(" "));
  }
  await eventually(own, { limitMs: 5_000, what: "the tables again" });
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!));
});

function assertLines(text: string, lines: string[]): void {
  const there = text.split("\n");
  for (const line of lines) {
    assert.equal(there.filter((other) => other === line).length, 1, `once ${line} in:\n${text}`);
  }
}
