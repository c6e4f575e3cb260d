/** Faults in a part of the agent: the other parts go on, and packets cross. */
import assert from "node:assert/strict";
import { releaseFolder } from "../../tools/lib.ts";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { binaryTest, eventually, link, matching, ping, Probe } from "../e2e/support.ts";

const FAULTY = new URL("faulty_agent.ts", import.meta.url).pathname;

binaryTest("a packet filter's wrapper that leaves a process behind ends nothing", async () => {
  const network = networkConfig("ipv4", { Type: "udp" });
  await using cluster = await Cluster.create({ label: "atk-wrap", network });
  const [node, other] = cluster.nodes;
  other.startAgent();
  const folder = `${node.folder}/wrappers`;
  await Deno.mkdir(folder);
  for (const name of ["iptables-save", "iptables-restore"]) {
    const text = `#!/bin/sh\nsleep 14 &\nexec /usr/sbin/${name} "$@"\n`;
    await Deno.writeTextFile(`${folder}/${name}`, text, { mode: 0o755 });
  }
  const agent = node.startAgent({ env: { PATH: `${folder}:${Deno.env.get("PATH")}` } });
  await node.waitReady();
  await other.waitReady();
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!));
  await eventually(async () => {
    assert.match(await node.ns.run("iptables-save"), /-A FLANNEL-FWD -s 10\.1\.0\.0\/16/);
  });
  // For longer than a command may take.
  await using probe = new Probe(a.ns, b.ipv4!);
  await new Promise((resolve) => setTimeout(resolve, 11_000));
  assert.deepEqual(await probe.end(), []);
  assert.equal(agent.ended, false);
  assert.deepEqual(matching(agent, /^[WE]/), []);
});

Deno.test("faults that nobody catches are logged once, and packets cross all the while", async () => {
  const network = networkConfig("ipv4", { Type: "udp" });
  await using cluster = await Cluster.create({ label: "atk-fault", network });
  const [node, other] = cluster.nodes;
  other.startAgent();
  const start = `${node.folder}/start`;
  const command = [Deno.execPath(), "run", "-A", "--no-check", FAULTY].join(" ");
  await Deno.writeTextFile(start, `#!/bin/sh\nexec ${command} "$@"\n`, { mode: 0o755 });
  const env = { _FLANNELD_LIB: `${releaseFolder()}/libdataplane.so` };
  const agent = node.startAgent({ binary: start, env });
  await node.waitReady();
  await other.waitReady();
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!));
  const { ifindex } = await link(node.ns, "flannel0");
  await using probe = new Probe(a.ns, b.ipv4!);
  await agent.waitForLine(/Restarting the session: a part of the agent failed/, 20_000);
  await eventually(async () => {
    const { body } = await node.health("/metrics");
    const [, count] = /^flanneld_internal_errors_total (\d+)$/m.exec(body) ?? [];
    assert.ok(Number(count) > 100, count);
  }, { limitMs: 20_000 });
  await eventually(async () => assert.equal((await node.health("/readyz")).status, 200));
  assert.deepEqual(await probe.end(), []);
  assert.equal((await link(node.ns, "flannel0")).ifindex, ifindex);
  for (const fault of ["a timer", "a promise", "an event"]) {
    const lines = matching(agent, new RegExp(`^E.*a fault in ${fault}.*faulty_agent\\.ts`));
    assert.equal(lines.length, 1, lines.join("\n"));
  }
  assert.equal(matching(agent, /^E.*Internal error/).length, 4, agent.lines.join("\n"));
  assert.equal(matching(agent, /Restarting the session/).length, 1);
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);
});
