/** A node whose backend's own device carries nothing is not ready, says why, and goes on by itself. */
import assert from "node:assert/strict";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { waitFor } from "../../testbed/netns.ts";
import { binaryTest, eventually, link, matching } from "./support.ts";

interface Obstacle {
  title: string;
  backend: "vxlan" | "udp";
  /** Puts it there; answers with what takes it away. */
  make(node: Node): Promise<() => Promise<unknown>>;
  /** What the log and `/readyz` say. */
  says: RegExp;
  /** Whose device it is; the backend's where absent. */
  whose?: "bridge";
}

/** A device that is in the way, and how to remove it. */
function device(...args: string[]): Obstacle["make"] {
  return async ({ ns }) => {
    await ns.run("ip", "link", "add", ...args);
    await ns.run("ip", "link", "set", args[0], "up");
    return () => ns.run("ip", "link", "delete", args[0]);
  };
}

/** A process with a UDP socket at this port, which other programs cannot share. */
function holder(port: number): Obstacle["make"] {
  return async ({ ns }) => {
    const listen =
      `Deno.listenDatagram({ port: ${port}, hostname: "0.0.0.0", transport: "udp" });` +
      "console.log('listening'); setInterval(() => {}, 1e6)";
    const args = ["eval", "--no-config", "--unstable-net", listen];
    const process = ns.spawn(Deno.execPath(), args);
    await process.waitForLine(/^listening$/, 20_000);
    return () => process[Symbol.asyncDispose]();
  };
}

const OBSTACLES: Obstacle[] = [
  {
    title: "another VXLAN device has the port",
    backend: "vxlan",
    make: device("cilium_vxlan", "type", "vxlan", "external", "dstport", "8472"),
    says:
      /UDP port 8472 is in use by cilium_vxlan \(VXLAN\): remove that device or .*Backend\.Port/,
  },
  {
    title: "another VXLAN device has the VNI",
    backend: "vxlan",
    make: device(
      ...["vxlan9", "type", "vxlan", "id", "1", "dstport", "8472"],
      ...["local", "192.168.77.11", "dev", "eth0"],
    ),
    says: /VNI 1 on UDP port 8472 is in use by vxlan9 \(VXLAN\): remove that device or .*VNI/,
  },
  {
    title: "a process has vxlan's port",
    backend: "vxlan",
    make: holder(8472),
    says: /UDP port 8472 is in use by deno \(process \d+\): stop it or set Backend\.Port/,
  },
  {
    title: "the device's name is somebody else's",
    backend: "vxlan",
    make: device("flannel.1", "type", "bridge"),
    says: /a device flannel\.1 of kind bridge .*ip link delete flannel\.1/,
  },
  {
    title: "the bridge's name is somebody else's",
    backend: "vxlan",
    make: device("cni0", "type", "veth", "peer", "name", "cni0-peer"),
    says: /a device cni0 of kind veth .*ip link delete cni0.*--bridge/,
    whose: "bridge",
  },
  {
    title: "a process has udp's port",
    backend: "udp",
    make: holder(8285),
    says: /UDP port 8285 is in use by deno \(process \d+\): stop it or set Backend\.Port/,
  },
];

async function assertNotReady(node: Node, says: RegExp, whose?: "bridge"): Promise<void> {
  const waits = whose === "bridge"
    ? /Not ready until the bridge works/
    : /Not ready until the backend's device works/;
  await node.agent!.waitForLine(waits, 20_000);
  const { status, body } = await node.health("/readyz");
  assert.equal(status, 503);
  assert.match(body, says);
  await showsReady(node, 0);
  assert.equal(matching(node.agent!, says).length, 1, node.agent!.lines.join("\n"));
  await assert.rejects(Deno.stat(node.subnetFile), Deno.errors.NotFound);
}

for (const { title, backend, make, says, whose } of OBSTACLES) {
  Deno.test(`not ready while ${title}: ${backend}`, async () => {
    const network = networkConfig("ipv4", { Type: backend });
    await using cluster = await Cluster.create({ label: "obstacle", nodes: 1, network });
    const [node] = cluster.nodes;
    const remove = await make(node);
    node.startAgent();
    await assertNotReady(node, says, whose);
    await remove();
    await node.waitReady();
    await showsReady(node, 1);
    assert.equal(
      (await link(node.ns, backend === "udp" ? "flannel0" : "flannel.1")).flags.includes("UP"),
      true,
    );
  });
}

binaryTest("not ready while /dev/net/tun is missing: udp", async (built) => {
  const network = networkConfig("ipv4", { Type: "udp" });
  await using cluster = await Cluster.create({ label: "notun", nodes: 1, network });
  const [node] = cluster.nodes;
  const binary = `${node.folder}/start`;
  const text = `#!/bin/sh
if [ "$1" != inside ]; then exec unshare --mount --propagation private "$0" inside "$@"; fi
shift
# Read-only, as root would make the device by itself.
mount -t tmpfs -o ro none /dev/net || exit
exec ${built} "$@"
`;
  await Deno.writeTextFile(binary, text, { mode: 0o755 });
  const agent = node.startAgent({ binary });
  await assertNotReady(node, /\/dev\/net\/tun is missing: .*modprobe tun/);
  await node.ns.run("nsenter", "--target", `${agent.pid}`, "--mount", "umount", "/dev/net");
  await node.waitReady();
});

Deno.test("a lost device that cannot be restored makes the node not ready after 10 s", async () => {
  await using cluster = await Cluster.create({ label: "lostdev", nodes: 1 });
  const [node] = cluster.nodes;
  const { ns } = node;
  node.startAgent();
  await node.waitReady();
  // Whoever is faster, the agent or the other program, has the name.
  const batch = `${node.folder}/batch`;
  await Deno.writeTextFile(batch, "link delete flannel.1\nlink add flannel.1 type bridge\n");
  await waitFor(async () => {
    await ns.exec("ip", "-batch", batch);
    return (await link(ns, "flannel.1")).linkinfo?.info_kind === "bridge";
  }, { limitMs: 20_000, what: "the name" });
  const lost = performance.now();
  await node.agent!.waitForLine(/a device flannel\.1 of kind bridge/);
  assert.equal((await node.health("/readyz")).status, 200);
  await eventually(async () => {
    const { status, body } = await node.health("/readyz");
    assert.equal(status, 503);
    assert.match(body, /^flanneld is not ready: .*a device flannel\.1 of kind bridge/);
  }, { limitMs: 20_000 });
  await showsReady(node, 0);
  const took = performance.now() - lost;
  assert.ok(took > 9_000 && took < 15_000, `${took} ms`);
  assert.equal((await node.health("/healthz")).status, 200);
  await ns.run("ip", "link", "delete", "flannel.1");
  await eventually(async () => assert.equal((await node.health("/readyz")).status, 200));
  assert.equal((await link(ns, "flannel.1")).linkinfo?.info_kind, "vxlan");
});

/** Waits for the metric, whose answer may be a second old. */
async function showsReady(node: Node, value: 0 | 1): Promise<void> {
  const line = new RegExp(`^flanneld_ready ${value}$`, "m");
  await eventually(async () => assert.match((await node.health("/metrics")).body, line));
}
