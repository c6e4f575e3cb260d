/**
 * What the host around the agent may do to it: a service manager that stops reading the log, devices by
 * the thousand, names that a terminal would obey, and traps where the agent writes.
 */
import assert from "node:assert/strict";
import { Cluster, type Node } from "../../testbed/cluster.ts";
import { run } from "../../testbed/netns.ts";
import { flanneldCommand } from "../../testbed/node.ts";
import { eventually, putLease, runFlanneld } from "../e2e/support.ts";
import { assertPrompt } from "./support.ts";

const PEER = {
  PublicIP: "192.168.77.99",
  PublicIPv6: null,
  BackendType: "vxlan",
  BackendData: { VNI: 1, VtepMAC: "16:00:00:00:00:01" },
};

async function oneNode(label: string, network?: null): Promise<[Cluster, Node]> {
  const cluster = await Cluster.create({ label, nodes: 1, ...(network === null && { network }) });
  return [cluster, cluster.nodes[0]];
}

Deno.test("attack: a log that nobody reads", async () => {
  const [cluster, node] = await oneNode("atk-log");
  await using _cluster = cluster;
  const pipe = `${node.folder}/log`;
  await run("mkfifo", [pipe]);
  const binary = `${node.folder}/unread`;
  // Opened for reading, too, the pipe breaks never and is emptied never.
  const script = `#!/bin/sh\nexec ${flanneldCommand().join(" ")} "$@" 2<>${pipe}\n`;
  await Deno.writeTextFile(binary, script, { mode: 0o755 });
  const agent = node.startAgent({ binary });
  await node.waitReady();
  const fill = ["if=/dev/zero", `of=${pipe}`, "bs=1", "count=70000", "oflag=nonblock"];
  const { stderr } = await node.ns.exec("dd", ...fill);
  assert.match(stderr, /Resource temporarily unavailable/);
  // Each time the agent logs a line.
  for (let time = 0; time < 5; time++) {
    await node.ns.run("ip", "link", "del", "flannel.1");
    await eventually(() => node.ns.run("ip", "link", "show", "flannel.1"));
  }
  await assertPrompt(node, "a log that nobody reads");
  await putLease(cluster, "10.1.250.0-24", PEER);
  await eventually(async () =>
    assert.match(await node.ns.run("ip", "route"), /10\.1\.250\.0\/24 .*flannel\.1/)
  );
  const began = performance.now();
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);
  assert.ok(performance.now() - began < 5_000, "SIGTERM was not heeded");
});

Deno.test("attack: a change of the interface in a flood of others", async () => {
  const [cluster, node] = await oneNode("atk-flood");
  await using _cluster = cluster;
  const agent = node.startAgent();
  await node.waitReady();
  const { ns } = node;
  await ns.run("ip", "link", "add", "flood", "type", "veth", "peer", "name", "flood2");
  // The end of duplicate address detection would have the agent look at the interface again.
  await eventually(async () =>
    assert.equal(await ns.run("ip", "-6", "address", "show", "tentative"), "")
  );
  const overhead = 1_500 - Number((await node.env()).FLANNEL_MTU);
  const flood = (count: number) =>
    Array.from({ length: count }, (_, at) => `link set flood mtu ${1300 + at % 2}`);
  const file = `${node.folder}/batch`;
  for (const mtu of [1_400, 1_390, 1_380, 1_370]) {
    const batch = [...flood(10), `link set eth0 mtu ${mtu}`, ...flood(1_400)];
    await Deno.writeTextFile(file, batch.join("\n") + "\n");
    // As on a busy host, the agent gets its turn only later; the kernel holds so many messages for it.
    agent.kill("SIGSTOP");
    try {
      await ns.run("ip", "-batch", file);
    } finally {
      agent.kill("SIGCONT");
    }
    await eventually(async () => {
      assert.equal(Number((await node.env()).FLANNEL_MTU), mtu - overhead);
    }, { limitMs: 10_000, what: `an MTU for ${mtu} in the subnet file` });
  }
  assert.ok(agent.lines.length < 60, agent.lines.join("\n"));
});

Deno.test("attack: a device whose name a terminal would obey", async () => {
  const [cluster, node] = await oneNode("atk-name");
  await using _cluster = cluster;
  const evil = "\x1b[31m\u202ered";
  await node.ns.run("ip", "link", "add", evil, "type", "veth", "peer", "name", "evil2");
  await node.ns.run("ip", "address", "add", "10.1.77.1/24", "dev", evil);
  const { stdout } = await runFlanneld(node, "doctor", ...cluster.etcdArgs());
  assert.match(stdout, /network overlap: .* on \\u001b\[31m\\u202ered/);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(stdout, /[\x00-\x09\x0b-\x1f\u202e]/);
});

for (const kind of ["pipe", "link"]) {
  Deno.test(`attack: a ${kind} where the agent writes its files`, async () => {
    const [cluster, node] = await oneNode("atk-trap", null);
    await using _cluster = cluster;
    await run("mkfifo", [node.subnetFile]);
    const agent = node.startAgent();
    await agent.waitForLine(/Created subnet manager/, 20_000);
    const victim = `${node.folder}/victim`;
    await Deno.writeTextFile(victim, "precious");
    for (const file of [node.subnetFile, `${node.subnetFile}.lease`]) {
      const temporary = `${file}.${agent.pid}.tmp`;
      if (kind === "pipe") await run("mkfifo", [temporary]);
      else await Deno.symlink(victim, temporary);
    }
    await cluster.writeConfig({ Network: "10.1.0.0/16", Backend: { Type: "vxlan" } });
    await node.waitReady();
    for (const file of [node.subnetFile, `${node.subnetFile}.lease`]) {
      await eventually(async () => assert.ok((await Deno.lstat(file)).isFile, file));
    }
    assert.equal(await Deno.readTextFile(victim), "precious");
  });
}

Deno.test("attack: a pipe in place of daemon.json", async () => {
  const folder = await Deno.makeTempDir({ prefix: "flanneld-attack-" });
  try {
    const subnetFile = `${folder}/subnet.env`;
    await Deno.writeTextFile(
      subnetFile,
      "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.40.1/24\nFLANNEL_MTU=1450\n" +
        "FLANNEL_IPMASQ=true\n",
    );
    await run("mkfifo", [`${folder}/daemon.json`]);
    const [cluster, node] = await oneNode("atk-docker");
    await using _cluster = cluster;
    const args = ["docker-opts", "-f", subnetFile, "-d", `${folder}/out`];
    const { code, stderr } = await runFlanneld(
      node,
      ...args,
      `--daemon-json=${folder}/daemon.json`,
    );
    assert.equal(code, 1, stderr);
    assert.match(stderr, /daemon\.json: it is not a regular file/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
