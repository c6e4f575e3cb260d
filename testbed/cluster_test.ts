import assert from "node:assert/strict";
import { Cluster, type Families, GO_FLANNELD, networkConfig, waitReach } from "./cluster.ts";
import { run } from "./netns.ts";

/** Runs without any agent: what the cluster itself makes. */
Deno.test("hosts reach each other and etcd, and nothing is left of them", async () => {
  let names: string[] = [];
  {
    await using cluster = await Cluster.create({ label: "clu", families: "dual", nodes: 3 });
    names = cluster.namespaces.map(({ name }) => name);
    const [a, , c] = cluster.nodes;
    await a.ns.run("ping", "-c1", "-W1", c.ipv4!);
    await a.ns.run("ping", "-c1", "-W1", c.ipv6!);
    assert.match(await c.ns.run("ip", "route", "get", "192.0.2.1"), /via 192.168.77.1 dev eth0/);
    const config = await cluster.etcd.ctl(
      "get",
      "--print-value-only",
      "/coreos.com/network/config",
    );
    assert.deepEqual(JSON.parse(config), networkConfig("dual"));
    await cluster.etcd.stop();
    await cluster.etcd.restart();
    assert.equal((await cluster.leases()).size, 0);
    assert.equal((await a.health("/readyz")).status, 0);
  }
  assert.equal(names.length, 5);
  const left = await run("ip", ["netns", "list"]);
  for (const name of names) assert.ok(!left.includes(name), `${name} removed`);
});

Deno.test("a cluster that cannot be made is removed", async () => {
  await assert.rejects(Cluster.create({ label: "cluerr", mtu: 1 }), /status/);
  assert.ok(!(await run("ip", ["netns", "list"])).includes("cluerr"));
});

Deno.test("etcd with TLS and users lets only those in", async () => {
  const auth = { username: "flannel", password: "secret" };
  await using cluster = await Cluster.create({ label: "clutls", etcd: { tls: true, auth } });
  const { etcd } = cluster;
  assert.match(cluster.etcdArgs().join(" "), /https:.*cafile.*username=flannel/);
  const { tls, endpoint } = etcd;
  const client = ["--endpoints", endpoint, "--cacert", tls!.ca, "--dial-timeout=1s"];
  const get = ["get", "--command-timeout=2s", "/coreos.com/network/config"];
  const certificate = ["--cert", tls!.cert, "--key", tls!.key];
  const ctl = (...args: string[]) =>
    cluster.etcdHost.exec("env", "ETCDCTL_API=3", "etcdctl", ...client, ...args, ...get);
  assert.equal((await ctl(...certificate, "--user", "flannel:secret")).code, 0);
  assert.notEqual((await ctl(...certificate, "--user", "flannel:wrong")).code, 0);
  assert.notEqual((await ctl(...certificate)).code, 0);
  assert.notEqual((await ctl("--user", "flannel:secret")).code, 0);
});

// Two Go agents without IPv4 may take one lease, as both announce 0.0.0.0.
for (const families of ["ipv4", "dual"] satisfies Families[]) {
  Deno.test({
    name: `containers of two Go agents reach each other over ${families}`,
    ignore: !GO_FLANNELD,
    fn: async () => {
      await using cluster = await Cluster.create({ label: "clugo", families, goNodes: [0, 1] });
      await cluster.startAgents();
      assert.equal((await cluster.leases()).size, 2);
      const [a, b] = await cluster.attachAll("c1");
      assert.equal(a.mtu, 1450);
      if (b.ipv4) await waitReach(a.ns, b.ipv4);
      if (b.ipv6) await waitReach(a.ns, b.ipv6);
    },
  });
}

Deno.test("a namespace half made when the cluster is removed goes, too", async () => {
  const cluster = await Cluster.create({ label: "clulate" });
  const late = cluster.namespace("late");
  await cluster[Symbol.asyncDispose]();
  const { name } = await late;
  assert.ok(!(await run("ip", ["netns", "list"])).includes(name), `${name} removed`);
  await assert.rejects(cluster.namespace("later"), /was removed/);
});
