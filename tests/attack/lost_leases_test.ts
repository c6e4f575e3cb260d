/**
 * Someone who writes below the prefix and takes each lease that a node claims.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Cluster, PREFIX } from "../../testbed/cluster.ts";
import { matching } from "../e2e/support.ts";

/** Milliseconds for which leases are taken: time for some sixty where nothing slows them. */
const ATTACK = 8_000;

Deno.test("whoever takes each lease of a node does not set the pace of its changes", async () => {
  await using cluster = await Cluster.create({ label: "taken", nodes: 1 });
  const [node] = cluster.nodes;
  const [agent] = await cluster.startAgents();
  let taken = 0;
  for (const end = Date.now() + ATTACK; Date.now() < end;) {
    for (const [key, value] of await cluster.leases()) {
      if (!value.includes(`"${node.ipv4}"`)) continue;
      const data = { VNI: 1, VtepMAC: `06:00:00:00:00:${(16 + ++taken).toString(16)}` };
      const lease = { PublicIP: `192.168.99.${taken}`, BackendType: "vxlan", BackendData: data };
      await cluster.etcd.ctl("put", "--", `${PREFIX}/subnets/${key}`, JSON.stringify(lease));
    }
  }
  assert(taken >= 4, `${taken} were taken`);
  const changes = matching(agent, /Restarting the session: .* was overwritten by/);
  assert(changes.length <= 5, `${changes.length} changes:\n${changes.join("\n")}`);
  assert.equal(matching(agent, /^W.*This node loses one lease after another/).length, 1);
  assert(!agent.ended);
  assert.equal((await node.health("/healthz")).status, 200);
});
