/** What the log tells of peers, and what each level of -v adds. */
import assert from "node:assert/strict";
import { Cluster, configWithRoom, type Node, PREFIX } from "../../testbed/cluster.ts";
import { deleteLease, eventually, matching, nodeLease, putLease, terminate } from "./support.ts";

/** A peer's lease as its agent writes it. */
function peer(host: number, { mac = "02:00:00:00:02:01", type = "vxlan" } = {}) {
  return {
    PublicIP: `192.168.77.${host}`,
    PublicIPv6: null,
    BackendType: type,
    BackendData: { VNI: 1, VtepMAC: mac },
  };
}

/** The log's lines about peers, without time and process. */
function peerLines({ agent }: Node): string[] {
  return matching(agent!, /peers\] /).map((line) => line.replace(/^.*? peers\] /, ""));
}

async function assertPeerLines(node: Node, expected: string[]): Promise<void> {
  await eventually(() => assert.deepEqual(peerLines(node), expected));
}

Deno.test("one line when a peer appears, changes, leaves, or is reachable after it was skipped", async () => {
  await using cluster = await Cluster.create({
    label: "peerlog",
    nodes: 1,
    network: configWithRoom(),
  });
  const [node] = cluster.nodes;
  await putLease(cluster, "10.1.201.0-24", peer(101));
  node.startAgent();
  await node.waitReady();
  const lines = ["Peer 10.1.201.0/24 (192.168.77.101) appeared"];
  await assertPeerLines(node, lines);
  await putLease(cluster, "10.1.201.0-24", peer(111, { mac: "02:00:00:00:02:99" }));
  lines.push(
    "Peer 10.1.201.0/24 (192.168.77.111) changed: VTEP MAC from 02:00:00:00:02:01 to " +
      "02:00:00:00:02:99, public address from 192.168.77.101 to 192.168.77.111",
  );
  await eventually(() => assert.deepEqual(sorted(peerLines(node)), sorted(lines)));
  // Skipped by the backend, and passed over as no lease at all.
  await putLease(cluster, "10.1.202.0-24", peer(102, { type: "host-gw" }));
  await putLease(cluster, "10.1.203.0-24", { PublicIP: "127.0.0.1" });
  await node.agent!.waitForLine(/10\.1\.202\.0-24: .*host-gw/);
  await node.agent!.waitForLine(/10\.1\.203\.0-24: .*loopback/);
  assert.equal(peerLines(node).length, lines.length);
  await putLease(cluster, "10.1.202.0-24", peer(102, { mac: "02:00:00:00:02:02" }));
  await node.agent!.waitForLine(/Peer 10\.1\.202\.0\/24 \(192\.168\.77\.102\) is now reachable$/);
  await putLease(cluster, "10.1.203.0-24", peer(103, { mac: "02:00:00:00:02:03" }));
  await node.agent!.waitForLine(/Peer 10\.1\.203\.0\/24 \(192\.168\.77\.103\) is now reachable$/);
  await deleteLease(cluster, "10.1.201.0-24");
  await node.agent!.waitForLine(/Peer 10\.1\.201\.0\/24 \(192\.168\.77\.111\) left$/);
  // Writing the same again is no news.
  await putLease(cluster, "10.1.202.0-24", peer(102, { mac: "02:00:00:00:02:02" }));
  const before = peerLines(node);
  assert.equal(before.length, 5);
  await putLease(cluster, "10.1.204.0-24", peer(104, { mac: "02:00:00:00:02:04" }));
  await assertPeerLines(node, [...before, "Peer 10.1.204.0/24 (192.168.77.104) appeared"]);
});

/** The order of what has changed in a line is not the point. */
function sorted(lines: string[]): string[] {
  return lines.map((line) => line.split(/: |, /).sort().join("; "));
}

Deno.test("neither a start with thousands of peers nor a writer that churns fills the log", async () => {
  await using cluster = await Cluster.create({
    label: "peerflood",
    nodes: 1,
    network: { Network: "10.0.0.0/8", SubnetMin: "10.250.0.0", Backend: { Type: "vxlan" } },
  });
  const [node] = cluster.nodes;
  const COUNT = 3_000;
  await putMany(cluster, COUNT, 0);
  node.startAgent();
  await node.waitReady(60_000);
  await node.agent!.waitForLine(/peers\] And more peers: 2900 appeared; run 'flanneld peers'/);
  for (let round = 1; round <= 10; round++) await putMany(cluster, 300, round);
  await putLease(cluster, "10.249.0.0-24", peer(200, { mac: "02:01:00:00:00:01" }));
  await eventually(async () => {
    assert.match(await node.ns.run("ip", "route"), /10\.249\.0\.0/);
  });
  await terminate(node.agent!);
  const lines = peerLines(node);
  assert.ok(lines.length < 120, `${lines.length} lines`);
  assert.ok(
    lines.some((line) => /^And more peers: .*\d+ changed/.test(line)),
    lines.at(-1) ?? "no line",
  );
});

/** Writes leases by few transactions; each generation has other addresses. */
async function putMany(cluster: Cluster, count: number, generation: number): Promise<void> {
  const BATCH = 100;
  for (let from = 0; from < count; from += BATCH) {
    const puts = Array.from({ length: Math.min(BATCH, count - from) }, (_, at) => {
      const number = from + at;
      const hex = (n: number) => n.toString(16).padStart(2, "0");
      const [high, low] = [number >> 8, number & 255];
      const value = JSON.stringify({
        PublicIP: `172.${20 + generation}.${high}.${low}`,
        PublicIPv6: null,
        BackendType: "vxlan",
        BackendData: { VNI: 1, VtepMAC: `02:00:00:00:${hex(high)}:${hex(low)}` },
      });
      return `put ${PREFIX}/subnets/10.${1 + high}.${low}.0-24 ${JSON.stringify(value)}`;
    });
    await cluster.etcd.transaction(puts);
  }
}

Deno.test("each level of -v adds something", async () => {
  await using cluster = await Cluster.create({
    label: "levels",
    nodes: 1,
    network: configWithRoom(),
    agentArgs: ["--iptables-resync=1"],
  });
  const [node] = cluster.nodes;
  await putLease(cluster, "10.1.201.0-24", peer(101));
  const added = [
    [/ peers\] Peer 10\.1\.201\.0\/24 .*: backend vxlan, VNI 1, VTEP MAC 02:00:00:00:02:01, lease 10\.1\.201\.0-24, revision \d+$/],
    [
      / kernel\] Changed the kernel's state in [\d.]+ ms: .*routes: 1 added.* added route 10\.1\.202\.0\/24 via/,
      / kernel\] Changed the kernel's state in [\d.]+ ms: .*routes: 1 removed/,
    ],
    [
      / etcd\] Read at http:\S+: \d+ keys, revision \d+, [\d.]+ ms$/,
      / etcd\] Watch: revision \d+: put 10\.1\.202\.0-24$/,
      / etcd\] Watch: revision \d+: delete 10\.1\.202\.0-24$/,
      / etcd\] Transaction at http:\S+: carried out, revision \d+, /,
    ],
    [
      / forwarding\] Reconciled \d peers in [\d.]+ ms$/,
      / traffic\] Checked the traffic rules in [\d.]+ ms: 0 changed, 0 errors$/,
    ],
  ];
  for (const level of [0, 1, 2, 3, 4]) {
    const agent = node.startAgent({ args: [`-v=${level}`] });
    await node.waitReady();
    await putLease(cluster, "10.1.202.0-24", peer(102, { mac: "02:00:00:00:02:02" }));
    await agent.waitForLine(/Peer 10\.1\.202\.0\/24 .*appeared/);
    await deleteLease(cluster, "10.1.202.0-24");
    await agent.waitForLine(/Peer 10\.1\.202\.0\/24 .*left/);
    for (const pattern of added.slice(0, level).flat()) await agent.waitForLine(pattern);
    for (const pattern of added.slice(level).flat()) {
      assert.deepEqual(matching(agent, pattern), [], `at level ${level}`);
    }
    assert.equal((await terminate(agent)).code, 0);
  }
  assert.ok((await nodeLease(cluster, node)).key);
});
