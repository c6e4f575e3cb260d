/** The status socket: who may ask, and that asking without end delays nothing else. */
import assert from "node:assert/strict";
import { Cluster } from "../../testbed/cluster.ts";
import { binaryTest, eventually } from "../e2e/support.ts";
import { assertPrompt, PrivateRun, writeLeases } from "./support.ts";

/** Connects to the socket again and again, by several clients that read nothing. */
const ASKERS = `const [path] = Deno.args;
  let denied = 0;
  let first = true;
  const ask = async () => {
    while (true) {
      try {
        const socket = await Deno.connect({ transport: "unix", path });
        if (first) console.log("asking");
        first = false;
        await new Promise((resolve) => setTimeout(resolve, 20));
        socket.close();
      } catch (error) {
        if (error instanceof Deno.errors.PermissionDenied && denied++ === 0) console.log("denied");
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  };
  for (let index = 0; index < 40; index++) ask();`;

binaryTest("5,000 peers, and clients of the status socket that do not read", async (binary) => {
  const network = { Network: "10.0.0.0/8", SubnetMin: "10.200.0.0", Backend: { Type: "udp" } };
  await using cluster = await Cluster.create({ label: "atk-status", nodes: 1, network });
  const [node] = cluster.nodes;
  await writeLeases(cluster, 5_000);
  await using own = await PrivateRun.create(node);
  const agent = await own.startAgent(binary);
  await agent.waitForLine(/Running backend/, 30_000);
  await eventually(async () => assert.equal((await node.health("/readyz")).status, 200), {
    limitMs: 20_000,
  });
  const path = `/run/flannel/flanneld-${await own.namespace()}.sock`;
  const [command, ...args] = own.within(Deno.execPath(), "eval", "--no-config", ASKERS, path);
  await using askers = node.ns.spawn(command, args);
  await askers.waitForLine(/^asking$/, 20_000);
  for (let time = 0; time < 5; time++) await assertPrompt(node, "clients that do not read");
  // Those who do are answered all the same.
  const { code, stdout, stderr } = await own.peers(binary);
  assert.equal(code, 0, stderr);
  assert.equal(JSON.parse(stdout).peers.length, 5_000);
  assert.deepEqual(agent.lines.filter((line) => /^[WE]/.test(line)), []);
  const began = performance.now();
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);
  const took = performance.now() - began;
  assert.ok(took < 3_000, `${took} ms to stop`);
});
