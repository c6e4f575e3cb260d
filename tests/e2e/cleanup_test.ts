/** `flanneld cleanup` takes away what is the agent's and nothing else. */
import assert from "node:assert/strict";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { waitFor } from "../../testbed/netns.ts";
import { eventually, nodeLease, runFlanneld, storedLeases, terminate } from "./support.ts";

for (const backend of ["vxlan", "host-gw"] as const) {
  Deno.test(`cleanup after ${backend} restores the node`, async () => {
    await using cluster = await Cluster.create({
      label: `clean-${backend.slice(0, 2)}`,
      families: "dual",
      network: networkConfig("dual", { Type: backend }),
      agentArgs: ["--ip-masq"],
    });
    const [one, two] = cluster.nodes;
    await one.ns.run("ip", "link", "add", "foreign0", "type", "bridge");
    await one.ns.run("ip", "link", "set", "foreign0", "up");
    await one.ns.run("ip", "route", "add", "198.51.100.0/24", "dev", "foreign0");
    await one.ns.run("ip", "route", "add", "10.1.77.0/24", "via", "192.168.77.1", "dev", "eth0");
    await one.ns.run("iptables", "-A", "FORWARD", "-s", "203.0.113.0/24", "-j", "DROP");
    const before = await state(one);
    await cluster.startAgents();
    await waitForRoutes(cluster, one);
    assert.notDeepEqual(await state(one), before);
    await terminate(one.agent!);
    const lease = await nodeLease(cluster, one);

    const first = await cleanup(cluster, one);
    assert.equal(first.code, 0, first.stderr);
    assert.deepEqual(await state(one), before);
    assert.equal((await nodeLease(cluster, one)).key, lease.key, "the lease stays without --lease");
    await Deno.stat(one.subnetFile);

    const second = await cleanup(cluster, one, "--lease");
    assert.equal(second.code, 0, second.stderr);
    assert.deepEqual(await state(one), before);
    const left = await storedLeases(cluster);
    assert.deepEqual(left.map(({ value }) => value.PublicIP), [two.ipv4]);
    for (const path of [one.subnetFile, `${one.subnetFile}.lease`]) {
      await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
    }

    // And the node can join again.
    one.startAgent();
    await one.waitReady();
    await waitForRoutes(cluster, one);
  });
}

Deno.test("another program's agent is warned of, and cleanup takes nothing from it", async () => {
  await using cluster = await Cluster.create({ label: "clean-other", nodes: 1 });
  const [node] = cluster.nodes;
  // All that is known of it is its name, its user and its network namespace.
  const program = node.subnetFile.replace(/[^/]+$/, "flanneld");
  await Deno.copyFile("/bin/sleep", program);
  await using other = node.ns.spawn(program, ["600"]);
  // A program that has just begun may be a command of ours.
  const isRefused = async () => (await cleanup(cluster, node)).code === 2;
  await waitFor(isRefused, { limitMs: 10_000, what: "cleanup to be refused" });
  const agent = node.startAgent();
  await node.waitReady();
  await agent.waitForLine(/^W.*another flanneld, process \d+, runs on this node: stop one/i);
  await terminate(agent);
  const refused = await cleanup(cluster, node);
  assert.equal(refused.code, 2, refused.stderr);
  assert.match(refused.stderr, /another flanneld, process \d+, runs on this node .* stop it first/);
  assert.match(await node.ns.run("ip", "link"), /flannel\.1/);
  await other[Symbol.asyncDispose]();
  const done = await cleanup(cluster, node);
  assert.equal(done.code, 0, done.stderr);
});

Deno.test("leases and cleanup know the lease that the node remembers, under another address", async () => {
  await using cluster = await Cluster.create({ label: "clean-moved" });
  await cluster.startAgents();
  const [one, two] = cluster.nodes;
  const { key, subnet } = await nodeLease(cluster, one);
  await terminate(one.agent!);
  await one.ns.run("ip", "address", "flush", "dev", "eth0", "scope", "global");
  await one.ns.run("ip", "address", "add", "192.168.77.61/24", "dev", "eth0");
  // Neither by address nor by the subnet file.
  await Deno.remove(one.subnetFile);
  const flags = [...cluster.etcdArgs(), `--subnet-file=${one.subnetFile}`];
  const listed = await runFlanneld(one, "leases", "--json", ...flags);
  assert.equal(listed.code, 0, listed.stderr);
  const own = JSON.parse(listed.stdout).filter((lease: { thisNode: boolean }) => lease.thisNode);
  assert.deepEqual(own.map((lease: { subnet: string }) => lease.subnet), [subnet]);
  const cleaned = await cleanup(cluster, one, "--lease");
  assert.equal(cleaned.code, 0, cleaned.stderr);
  assert.match(cleaned.stdout, new RegExp(`removed lease ${key} `));
  const left = await storedLeases(cluster);
  assert.deepEqual(left.map(({ value }) => value.PublicIP), [two.ipv4]);
});

/** The agent on `node` has routes and rules: other routes on eth0 are not its business. */
async function waitForRoutes(cluster: Cluster, node: Node): Promise<void> {
  const peer = await nodeLease(cluster, cluster.nodes.find((other) => other !== node)!);
  await eventually(async () => {
    assert.match(await node.ns.run("ip", "route", "show", peer.subnet!), /via/);
    assert.match(await node.ns.run("ip", "-6", "route", "show", peer.ipv6Subnet!), /via/);
    assert.match(await node.ns.run("iptables", "-t", "nat", "-S"), /FLANNEL-POSTRTG/);
    assert.match(await node.ns.run("ip6tables", "-S"), /FLANNEL-FWD/);
  });
}

function cleanup(cluster: Cluster, node: Node, ...args: string[]) {
  return runFlanneld(
    node,
    "cleanup",
    ...cluster.etcdArgs(),
    `--subnet-file=${node.subnetFile}`,
    ...args,
  );
}

/** Everything that an agent touches, without the names of tables that iptables makes by reading. */
async function state({ ns }: Node): Promise<string[]> {
  const lines: string[] = [];
  const links = await ns.run("ip", "-o", "link");
  lines.push(links.replace(/ (state|qlen|group) \S+/g, ""));
  for (const args of ["route", "-6 route show dev eth0", "rule", "-o -4 address"]) {
    lines.push(await ns.run("ip", ...args.split(" ")));
  }
  for (const tool of ["iptables", "ip6tables"]) {
    lines.push(await ns.run(tool, "-S"), await ns.run(tool, "-t", "nat", "-S"));
  }
  return lines;
}
