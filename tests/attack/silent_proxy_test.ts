/**
 * A proxy before etcd that keeps its connections, pings and all, when it has lost the etcd behind it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { eventually, matching, peersOf } from "../e2e/support.ts";
import { Cluster, configWithRoom, PREFIX } from "../../testbed/cluster.ts";

Deno.test("a proxy that has lost its etcd keeps no peers from a node that has another endpoint", async () => {
  await using cluster = await Cluster.create({
    label: "silent",
    nodes: 1,
    network: configWithRoom(),
  });
  const { etcd, etcdHost, nodes: [node] } = cluster;
  const proxy = etcd.endpoint.replace("2379", "2390");
  const listen = ["--endpoints", etcd.endpoint, "--listen-addr", new URL(proxy).host];
  etcdHost.spawn("etcd", ["grpc-proxy", "start", ...listen]);
  await eventually(() =>
    etcdHost.run("env", "ETCDCTL_API=3", "etcdctl", "--endpoints", proxy, "get", "any")
  );
  const agent = node.startAgent({ args: [`--etcd-endpoints=${proxy},${etcd.endpoint}`] });
  await node.waitReady();
  const lease = (n: number) => {
    const data = { VNI: 1, VtepMAC: `06:00:00:00:00:${n.toString(16)}` };
    const value = { PublicIP: `192.168.77.${n}`, BackendType: "vxlan", BackendData: data };
    const put = ["put", "--", `${PREFIX}/subnets/10.1.${n}.0-24`, JSON.stringify(value)];
    return node.ns.run("env", "ETCDCTL_API=3", "etcdctl", "--endpoints", etcd.endpoint, ...put);
  };
  const subnets = async () => (await peersOf(node)).peers.map(({ subnet }) => subnet).sort();
  await lease(201);
  await eventually(async () => assert.deepEqual(await subnets(), ["10.1.201.0/24"]));
  for (const port of ["--dport", "--sport"]) {
    const drop = ["-i", "lo", "-p", "tcp", port, "2379", "-j", "DROP"];
    await etcdHost.run("iptables", "-A", "INPUT", ...drop);
  }
  await lease(202);
  await eventually(
    async () => assert.deepEqual(await subnets(), ["10.1.201.0/24", "10.1.202.0/24"]),
    { limitMs: 60_000 },
  );
  assert.deepEqual(
    matching(agent, /Leases have expired or been deleted|re-reading all leases/),
    [],
  );
});
