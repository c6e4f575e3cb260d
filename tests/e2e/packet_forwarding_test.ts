/** Hosts on which `ip_forward` is off. */
import assert from "node:assert/strict";
import { Cluster, type Node } from "../../testbed/cluster.ts";
import { assertReach, binaryTest, eventually, ips, matching, ping } from "./support.ts";

const BRIDGE = { args: ["--bridge=cni0"] };

async function forwardNothing({ ns }: Node): Promise<void> {
  await ns.sysctl("net.ipv4.ip_forward", 0);
  await ns.sysctl("net.ipv6.conf.all.forwarding", 0);
  await ns.sysctl("net.ipv6.conf.eth0.accept_ra", 1);
}

Deno.test("with --bridge the agent switches forwarding on, for the interfaces concerned", async () => {
  await using cluster = await Cluster.create({ label: "ipforward", families: "dual" });
  for (const node of cluster.nodes) await forwardNothing(node);
  await cluster.startAgents(BRIDGE);
  const [a, b] = await cluster.attachAll("c1");
  await assertReach(a, b);
  const [{ ns, agent }] = cluster.nodes;
  const value = async (name: string) => (await ns.run("sysctl", "-n", name)).trim();
  for (const dev of ["cni0", "flannel/1", "eth0"]) {
    assert.equal(await value(`net.ipv4.conf.${dev}.forwarding`), "1", dev);
  }
  assert.equal(await value("net.ipv4.ip_forward"), "0", "other interfaces stay as they are");
  assert.equal(await value("net.ipv6.conf.all.forwarding"), "1");
  assert.equal(await value("net.ipv6.conf.eth0.accept_ra"), "2", "routes by RA stay");
  const [line, ...more] = matching(agent!, /Enabled packet forwarding for the bridge/);
  assert.match(line, /net\.ipv4\.conf\.cni0\.forwarding=1/);
  assert.deepEqual(more, []);
  // A device that is made again has the namespace's default.
  await ns.run("ip", "link", "delete", "flannel.1");
  await eventually(async () =>
    assert.equal(await value("net.ipv4.conf.flannel/1.forwarding"), "1")
  );
  for (const ip of ips(b)) await eventually(() => ping(a.ns, ip));
});

Deno.test("without --bridge the agent says that forwarding is off, once, with the remedy", async () => {
  await using cluster = await Cluster.create({ label: "noforward", nodes: 1, families: "dual" });
  const [node] = cluster.nodes;
  await forwardNothing(node);
  const agent = node.startAgent({ args: ["--bridge="] });
  await node.waitReady();
  await node.ns.run("ip", "link", "delete", "flannel.1");
  await agent.waitForLine(/Restored kernel state/);
  const lines = matching(agent, /Packet forwarding is off/);
  assert.equal(lines.length, 1, agent.lines.join("\n"));
  assert.match(lines[0], /^W.*net\.ipv4\.conf\.flannel\/1\.forwarding/);
  assert.match(lines[0], /sysctl -w net\.ipv4\.ip_forward=1 net\.ipv6\.conf\.all\.forwarding=1/);
  assert.equal((await node.ns.run("sysctl", "-n", "net.ipv4.conf.eth0.forwarding")).trim(), "0");
});

binaryTest(
  "a host that forwards hears nothing of it; one with a read-only /proc/sys how to",
  async (built) => {
    await using cluster = await Cluster.create({ label: "roforward" });
    const [forwards, fixed] = cluster.nodes;
    await forwardNothing(fixed);
    const binary = `${fixed.folder}/start`;
    const text = `#!/bin/sh
if [ "$1" != inside ]; then exec unshare --mount --propagation private "$0" inside "$@"; fi
shift
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys || exit
exec ${built} "$@"
`;
    await Deno.writeTextFile(binary, text, { mode: 0o755 });
    forwards.startAgent(BRIDGE);
    fixed.startAgent({ ...BRIDGE, binary });
    for (const node of cluster.nodes) await node.waitReady();
    assert.deepEqual(matching(forwards.agent!, /acket forwarding/), []);
    const [line, ...more] = matching(fixed.agent!, /acket forwarding/);
    assert.match(
      line,
      /cannot be enabled \(\/proc\/sys is read-only here\).*net\.ipv4\.ip_forward=1/,
    );
    assert.deepEqual(more, []);
  },
);
