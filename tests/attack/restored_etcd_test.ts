/**
 * An etcd that was restored from a backup and has come past the revision that an agent followed before
 * the agent is back: it carries the same id, and nothing in its answers tells that it is another.
 *
 * @module
 */
import assert from "node:assert/strict";
import { eventually, matching, peersOf } from "../e2e/support.ts";
import { Cluster, configWithRoom, type Node, PREFIX } from "../../testbed/cluster.ts";
import type { Etcd } from "../../testbed/etcd.ts";
import { run } from "../../testbed/netns.ts";

/** Writes the lease 10.1.N.0/24. */
async function lease(etcd: Etcd, n: number): Promise<void> {
  const data = { VNI: 1, VtepMAC: `06:00:00:00:00:${n.toString(16)}` };
  const value = { PublicIP: `192.168.77.${n}`, BackendType: "vxlan", BackendData: data };
  await etcd.ctl("put", "--", `${PREFIX}/subnets/10.1.${n}.0-24`, JSON.stringify(value));
}

async function subnets(node: Node): Promise<string[]> {
  return (await peersOf(node)).peers.flatMap(({ subnet }) => subnet ?? []).sort();
}

/** Puts a backup in the place of a stopped etcd's data. */
async function restore(etcd: Etcd, backup: string): Promise<void> {
  const data = `${etcd.folder}/data`;
  await Deno.remove(data, { recursive: true });
  const peer = "http://127.0.0.1:2380";
  const args = ["snapshot", "restore", backup, "--data-dir", data, "--name", "test"];
  await run(
    "etcdctl",
    [...args, "--initial-cluster", `test=${peer}`, "--initial-advertise-peer-urls", peer],
    { env: { ETCDCTL_API: "3" } },
  );
}

/** What is written after the backup, what while the agent is away, what is deleted before that. */
interface Case {
  what: string;
  lost: number[];
  found: number[];
  gone: number[];
}

for (
  const { what, lost, found, gone } of <Case[]> [
    { what: "leases", lost: [202], found: [203], gone: [] },
    { what: "leases, one of them deleted before", lost: [], found: [203], gone: [201] },
  ]
) {
  Deno.test(`an etcd restored from a backup that went on is read anew: ${what}`, async () => {
    await using cluster = await Cluster.create({
      label: "restored",
      nodes: 1,
      network: configWithRoom(),
    });
    const { etcd, etcdHost, nodes: [node] } = cluster;
    const agent = node.startAgent();
    await node.waitReady();
    const names = (...all: number[]) => all.map((n) => `10.1.${n}.0/24`);
    await lease(etcd, 201);
    const backup = `${etcd.folder}/backup`;
    await etcd.ctl("snapshot", "save", backup);
    // What the backup does not know.
    for (const n of lost) await lease(etcd, n);
    for (const n of gone) await etcd.ctl("del", `${PREFIX}/subnets/10.1.${n}.0-24`);
    const before = names(...[201, ...lost].filter((n) => !gone.includes(n)));
    await eventually(async () => assert.deepEqual(await subnets(node), before));
    await etcd.stop();
    await restore(etcd, backup);
    const cut = ["INPUT", "-s", node.ipv4!, "-p", "tcp", "-j", "REJECT"];
    await etcdHost.run("iptables", "-A", ...cut);
    await etcd.restart();
    // What is written while the agent is away: revisions go past those that it followed.
    for (const n of found) await lease(etcd, n);
    for (let n = 0; n < 5; n++) await etcd.ctl("put", "other", `${n}`);
    await etcdHost.run("iptables", "-D", ...cut);
    // Peers that are gone with an etcd have 20 s to be back.
    await eventually(
      async () => assert.deepEqual(await subnets(node), names(201, ...found)),
      { limitMs: 40_000 },
    );
    assert.equal(matching(agent, /re-reading all leases/).length, 1, agent.lines.join("\n"));
  });
}

Deno.test("an etcd that was away and is the same is not read anew", async () => {
  await using cluster = await Cluster.create({
    label: "same",
    nodes: 1,
    network: configWithRoom(),
  });
  const { etcd, nodes: [node] } = cluster;
  const agent = node.startAgent();
  await node.waitReady();
  await lease(etcd, 201);
  await lease(etcd, 202);
  await lease(etcd, 201);
  await etcd.ctl("put", "--", `${PREFIX}/subnets/odd\x01`, "no lease");
  await etcd.ctl("del", `${PREFIX}/subnets/10.1.202.0-24`);
  await eventually(async () => assert.deepEqual(await subnets(node), ["10.1.201.0/24"]));
  for (const n of [203, 204]) {
    await etcd.stop();
    await agent.waitForLine(/is unreachable/);
    await etcd.restart();
    await lease(etcd, n);
    await eventually(async () => assert((await subnets(node)).includes(`10.1.${n}.0/24`)), {
      limitMs: 20_000,
    });
  }
  assert.deepEqual(matching(agent, /re-reading all leases/), []);
});
