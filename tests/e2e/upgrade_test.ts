/** From flannel to this agent and back, on hosts whose peers stay as they are. */
import assert from "node:assert/strict";
import {
  Cluster,
  GO_FLANNELD,
  GoNode,
  networkConfig,
  type Node,
  PREFIX,
} from "../../testbed/cluster.ts";
import { BINARY } from "../../tools/runtime.ts";
import type { NetNs } from "../../testbed/netns.ts";
import {
  deleteLease,
  eventually,
  killHard,
  matching,
  nodeLease,
  ping,
  runFlanneld,
  terminate,
} from "./support.ts";

const binary = Deno.env.get("FLANNELD_BIN") ?? BINARY;

/** Routes into the overlay without a protocol number of the agent's, as flannel makes them. */
async function flannelRoutes(ns: NetNs): Promise<string[]> {
  const text = await ns.run("ip", "route", "show", "proto", "boot");
  return text.split("\n").filter((line) => line.startsWith("10.1.")).map((line) => line.trim());
}

async function overlayRoutes(ns: NetNs): Promise<string[]> {
  const text = await ns.run("ip", "route", "show", "dev", "eth0");
  return text.split("\n").filter((line) => line.startsWith("10.1.")).map((line) =>
    line.split(" ")[0]
  );
}

/** What flannel leaves on a host: its subnet file, and a route a peer. */
async function leaveAsFlannel(node: Node, peers: [subnet: string, ip: string][]): Promise<void> {
  await Deno.remove(`${node.subnetFile}.lease`);
  await node.ns.exec("ip", "route", "flush", "proto", "70");
  for (const [subnet, ip] of peers) {
    await node.ns.run("ip", "route", "add", subnet, "via", ip, "dev", "eth0");
  }
}

for (const backend of [{ Type: "host-gw" }, { Type: "vxlan", DirectRouting: true }]) {
  Deno.test(`${backend.Type}: routes that flannel left are this agent's after its first start`, async () => {
    await using cluster = await Cluster.create({
      label: "upgrade",
      network: networkConfig("ipv4", backend),
    });
    await cluster.startAgents();
    const [a, b] = cluster.nodes;
    const ofB = (await nodeLease(cluster, b)).key.replace("-", "/");
    await terminate(a.agent!);
    await leaveAsFlannel(a, [
      // A peer's, that of a peer which is gone meanwhile, and what is not flannel's.
      [ofB, b.ipv4!],
      ["10.1.250.0/24", "192.168.77.99"],
      ["10.9.0.0/24", b.ipv4!],
    ]);
    const agent = a.startAgent();
    await agent.waitForLine(/Took over 2 routes that flannel left behind: .*10\.1\.250\.0\/24/);
    await a.waitReady();
    await eventually(async () => {
      assert.deepEqual(await overlayRoutes(a.ns), [ofB]);
      assert.deepEqual(await flannelRoutes(a.ns), []);
    });
    assert.match(await a.ns.run("ip", "route", "show", "10.9.0.0/24"), /via/);
    // The peer leaves, and its route with it.
    await killHard(b.agent!);
    await deleteLease(cluster, (await nodeLease(cluster, b)).key);
    await eventually(async () => assert.deepEqual(await overlayRoutes(a.ns), []), {
      limitMs: 60_000,
    });

    // An operator's own route of later is left alone.
    await terminate(agent);
    await a.ns.run("ip", "route", "add", "10.1.251.0/24", "via", b.ipv4!);
    a.startAgent();
    await a.waitReady();
    assert.deepEqual(await overlayRoutes(a.ns), ["10.1.251.0/24"]);
    await terminate(a.agent!);
    assert.equal((await runFlanneld(a, "cleanup", ...cluster.etcdArgs())).code, 0);
    assert.deepEqual(await overlayRoutes(a.ns), ["10.1.251.0/24"]);
  });
}

/** Writes what a flannel that starts on a node writes to etcd: the same lease, on a new etcd lease. */
async function leaseAsFlannel(cluster: Cluster, node: Node): Promise<void> {
  const { key, raw } = await nodeLease(cluster, node);
  const id = /^lease (\w+) granted/.exec(await cluster.etcd.ctl("lease", "grant", "86400"))![1];
  await cluster.etcd.ctl("put", `--lease=${id}`, "--", `${PREFIX}/subnets/${key}`, raw);
}

/** Writes the subnet file again as flannel does: beside it, then renamed. */
async function subnetFileAsFlannel(_: Cluster, { subnetFile }: Node): Promise<void> {
  await Deno.copyFile(subnetFile, `${subnetFile}.new`);
  await Deno.rename(`${subnetFile}.new`, subnetFile);
}

for (
  const { title, traces, taken } of [
    { title: "flannel ran in between", traces: [leaseAsFlannel, subnetFileAsFlannel], taken: true },
    { title: "another agent wrote the lease alone", traces: [leaseAsFlannel], taken: false },
    { title: "the subnet file was restored alone", traces: [subnetFileAsFlannel], taken: false },
    { title: "this agent ran alone", traces: [], taken: false },
  ]
) {
  Deno.test(`a route like flannel's is ${taken ? "" : "not "}taken over at a later start: ${title}`, async () => {
    await using cluster = await Cluster.create({
      label: "upagain",
      network: networkConfig("ipv4", { Type: "host-gw" }),
    });
    await cluster.startAgents();
    const [a, b] = cluster.nodes;
    const ofB = (await nodeLease(cluster, b)).key.replace("-", "/");
    const before = await nodeLease(cluster, a);
    await killHard(a.agent!);
    for (const trace of traces) await trace(cluster, a);
    await a.ns.run("ip", "route", "add", "10.1.250.0/24", "via", "192.168.77.99", "dev", "eth0");
    const agent = a.startAgent();
    await a.waitReady();
    assert.equal(
      matching(agent, /Took over 1 route that .*10\.1\.250\.0\/24/).length,
      taken ? 1 : 0,
    );
    // Taken over, it goes, as it is of no peer.
    await eventually(async () => {
      assert.deepEqual(
        (await overlayRoutes(a.ns)).sort(),
        taken ? [ofB] : [ofB, "10.1.250.0/24"].sort(),
      );
    });
    assert.equal((await nodeLease(cluster, a)).key, before.key);
  });
}

for (const backend of ["host-gw", "vxlan"]) {
  Deno.test({
    name: `from a Go flanneld to this agent and back by ${backend}` +
      (GO_FLANNELD ? "" : " (skipped: GO_FLANNELD names no Go flanneld)"),
    ignore: !GO_FLANNELD,
    fn: async () => {
      await using cluster = await Cluster.create({
        label: "updown",
        network: networkConfig("ipv4", { Type: backend }),
        goNodes: [0],
      });
      await cluster.startAgents();
      const [go] = cluster.nodes;
      assert.ok(go instanceof GoNode);
      const before = await nodeLease(cluster, go);
      const [one, two] = await cluster.attachAll("c1");
      await eventually(() => ping(one.ns, two.ipv4!), { limitMs: 30_000 });
      for (const kind of ["ours", "go", "ours"]) {
        await killHard(go.agent!);
        // So that flannel makes routes of its own, as for each peer that comes while it runs.
        if (kind === "go") await go.ns.exec("ip", "route", "flush", "proto", "70");
        go.startAgent(kind === "go" ? {} : { binary });
        await go.waitReady();
        assert.equal((await nodeLease(cluster, go)).key, before.key, kind);
        await eventually(() => ping(one.ns, two.ipv4!), { limitMs: 30_000 });
        await ping(two.ns, one.ipv4!);
        if (backend !== "host-gw") continue;
        // Routes of flannel's are this agent's after each start that follows it.
        assert.equal((await flannelRoutes(go.ns)).length, kind === "go" ? 1 : 0, kind);
      }
    },
  });
}
