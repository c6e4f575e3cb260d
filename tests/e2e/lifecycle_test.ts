/** Stopping, restarting and starting twice; a container's traffic crosses all the while. */
import assert from "node:assert/strict";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { run } from "../../testbed/netns.ts";
import {
  assertVxlan,
  eventually,
  killHard,
  link,
  nodeLease,
  ping,
  Probe,
  runFlanneld,
  storedLeases,
  terminate,
  waitForwarding,
} from "./support.ts";

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`${signal} ends the agent and leaves forwarding in place`, async () => {
    await using cluster = await Cluster.create({ label: "stop", families: "dual" });
    await cluster.startAgents();
    await waitForwarding(cluster, "vxlan");
    const [a, b] = await cluster.attachAll("c1");
    await ping(a.ns, b.ipv4!);
    await using probe = new Probe(a.ns, b.ipv4!);
    await probe.answers(10);
    const before = await storedLeases(cluster);
    const rules = await cluster.node(0).ns.run("iptables", "-S");
    for (const { agent } of cluster.nodes) {
      agent!.kill(signal);
      const { code } = await agent!.status;
      assert.equal(code, 0, agent!.lines.join("\n"));
    }
    await probe.answers(50);
    assert.deepEqual(await probe.end(), []);
    assert.deepEqual(await storedLeases(cluster), before);
    for (const node of cluster.nodes) await assertVxlan(node, before);
    await Deno.stat(cluster.node(0).subnetFile);
    assert.equal(await cluster.node(0).ns.run("iptables", "-S"), rules);
    await ping(b.ns, a.ipv6!);
  });
}

for (const backend of ["vxlan", "host-gw"] as const) {
  Deno.test(`${backend}: neither kill -9 nor a restart loses a packet`, async () => {
    await using cluster = await Cluster.create({
      label: `restart-${backend.slice(0, 2)}`,
      network: networkConfig("ipv4", { Type: backend }),
    });
    await cluster.startAgents();
    await waitForwarding(cluster, backend);
    const [one, two] = cluster.nodes;
    const [a, b] = await cluster.attachAll("c1");
    await ping(a.ns, b.ipv4!);
    const devices = async () => {
      if (backend !== "vxlan") return [];
      const views = await Promise.all([one, two].map(({ ns }) => link(ns, "flannel.1")));
      return views.map(({ ifindex, address }) => ({ ifindex, address }));
    };
    const [before, leases] = [await devices(), await storedLeases(cluster)];
    await using there = new Probe(a.ns, b.ipv4!);
    await using back = new Probe(b.ns, a.ipv4!);
    await there.answers(10);
    const restart = async (node: Node, end: (agent: NonNullable<Node["agent"]>) => unknown) => {
      await end(node.agent!);
      await there.answers(20);
      node.startAgent();
      await node.waitReady();
      await node.agent!.waitForLine(/Running backend/);
      await there.answers(20);
    };
    await restart(one, killHard);
    await restart(two, killHard);
    await restart(one, terminate);
    // Without the subnet file the lease is found in etcd by the public address.
    await restart(two, async (agent) => {
      await killHard(agent);
      await Deno.remove(two.subnetFile);
    });
    assert.deepEqual(await there.end(), []);
    assert.deepEqual(await back.end(), []);
    assert.deepEqual(await devices(), before);
    const now = await storedLeases(cluster);
    assert.deepEqual(
      now.map(({ key, raw }) => [key, raw]),
      leases.map(({ key, raw }) => [key, raw]),
    );
    assert.match(one.agent!.lines.join("\n"), /with Previous Subnet: 10\.1\.\d+\.0\/24/);
    assert.match(two.agent!.lines.join("\n"), /with Previous Subnet: None/);
  });
}

Deno.test("a restart without its device makes the same one again for the peers", async () => {
  await using cluster = await Cluster.create({ label: "reboot" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one] = cluster.nodes;
  const before = await nodeLease(cluster, one);
  await killHard(one.agent!);
  // As after a reboot.
  await one.ns.run("ip", "link", "del", "flannel.1");
  await Deno.remove(one.subnetFile);
  one.startAgent();
  await one.waitReady();
  assert.equal((await nodeLease(cluster, one)).raw, before.raw);
  await waitForwarding(cluster, "vxlan");
});

Deno.test("a second agent on a node is refused and disturbs nothing", async () => {
  await using cluster = await Cluster.create({ label: "second" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one] = cluster.nodes;
  const before = await storedLeases(cluster);
  const { code, stdout, stderr } = await runFlanneld(
    one,
    ...cluster.etcdArgs(),
    `--subnet-file=${one.folder}/second.env`,
  );
  assert.notEqual(code, 0);
  assert.equal(stdout, "");
  assert.match(stderr, /^flanneld: another flanneld runs on this node.*\n$/);
  await assert.rejects(Deno.stat(`${one.folder}/second.env`), Deno.errors.NotFound);
  assert.deepEqual(await storedLeases(cluster), before);
  assert.equal(one.agent!.ended, false);
  await assertVxlan(one, before);
});

Deno.test("the service manager is told by NOTIFY_SOCKET, a path or an abstract one", async () => {
  await using cluster = await Cluster.create({ label: "notify", nodes: 1 });
  const [node] = cluster.nodes;
  for (const target of [`${node.folder}/notify.sock`, "@flanneld-test/notify"]) {
    // Abstract sockets live in a network namespace, so the receiver must be inside.
    const path = target.startsWith("@") ? "\\0" + target.slice(1) : target;
    const manager = node.ns.spawn(Deno.execPath(), [
      "eval",
      "--unstable-net",
      `const socket = Deno.listenDatagram({ transport: "unixpacket", path: "${path}" });
       console.log("listening");
       for await (const [data] of socket) console.log("got " + new TextDecoder().decode(data));`,
    ]);
    await manager.waitForLine(/^listening$/);
    const agent = node.startAgent({ env: { NOTIFY_SOCKET: target } });
    await manager.waitForLine(/^got READY=1$/, 20_000);
    await Deno.stat(node.subnetFile);
    assert.equal((await node.health("/readyz")).status, 200);
    await terminate(agent);
    await manager.waitForLine(/^got STOPPING=1$/);
    await manager[Symbol.asyncDispose]();
  }
});

Deno.test("the process is one, and is called flanneld", async () => {
  await using cluster = await Cluster.create({ label: "name", nodes: 1 });
  await cluster.startAgents();
  const { pid } = cluster.node(0).agent!;
  assert.equal((await Deno.readTextFile(`/proc/${pid}/comm`)).trim(), "flanneld");
  // But for a look at the traffic rules now and then it has no children.
  await eventually(async () => {
    const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
    assert.equal(children.trim(), "");
  });
});

Deno.test("a subnet file that cannot be written is written once it can", async () => {
  await using cluster = await Cluster.create({ label: "nofile", nodes: 1 });
  const [node] = cluster.nodes;
  // A disk that is full: it holds two files, and those are there.
  const folder = `${node.folder}/run`;
  await Deno.mkdir(folder);
  await run("mount", ["-t", "tmpfs", "-o", "nr_inodes=3", "full", folder]);
  await using _mount = {
    [Symbol.asyncDispose]: async () => {
      await run("umount", ["-l", folder]);
    },
  };
  const others = [`${folder}/one`, `${folder}/two`];
  for (const other of others) await Deno.writeTextFile(other, "");
  const agent = node.startAgent({ args: [`--subnet-file=${folder}/subnet.env`] });
  await agent.waitForLine(
    /^E.*Cannot write the subnet file .*No space left.*; retrying until it works$/,
    20_000,
  );
  await agent.waitForLine(/Running backend/);
  assert.equal((await node.health("/readyz")).status, 503);
  for (const other of others) await Deno.remove(other);
  await agent.waitForLine(/Wrote subnet file to /);
  assert.match(await Deno.readTextFile(`${folder}/subnet.env`), /^FLANNEL_SUBNET=10\.1\./m);
  await eventually(async () => assert.equal((await node.health("/readyz")).status, 200));
});
