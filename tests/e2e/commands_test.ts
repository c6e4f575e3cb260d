/** The program as a user calls it: mistakes and the version. */
import assert from "node:assert/strict";
import { Cluster } from "../../testbed/cluster.ts";
import { NetNs } from "../../testbed/netns.ts";
import { flanneldCommand } from "../../testbed/node.ts";
import { storedLeases } from "./support.ts";

async function flanneld(ns: NetNs, ...args: string[]) {
  const [command, ...first] = flanneldCommand();
  return await ns.exec(command, ...first, ...args);
}

Deno.test("a mistake on the command line is one line and exit status 2", async () => {
  await using ns = await NetNs.create("usage");
  const mistakes: [RegExp, ...string[]][] = [
    [/--nothing/, "--nothing"],
    [/etcd-endpoint/, "-etcd-endpoint=http://127.0.0.1:2379"],
    [/healthz-port/, "--healthz-port=65536"],
    [/healthz-port/, "--healthz-port=x"],
    [/subnet-lease-renew-margin/, "--subnet-lease-renew-margin=0"],
    [/subnet-lease-renew-margin/, "--subnet-lease-renew-margin=1440"],
    [/etcd-endpoints/, "--etcd-endpoints=ftp://127.0.0.1"],
    [/iface-regex/, "--iface-regex=("],
    [/public-ip/, "--public-ip=10.1.0.0/16"],
    [/public-ip/, "--public-ip=127.0.0.1"],
    [/etcd-cafile/, "--etcd-cafile=/nonexistent/ca.pem"],
    [/kube-subnet-mgr/, "--kube-subnet-mgr"],
    [/ip-masq/, "--ip-masq=perhaps"],
    [/subnet-file/, "--subnet-file"],
    [/unknown command/, "leasez"],
  ];
  for (const [pattern, ...args] of mistakes) {
    const { code, stdout, stderr } = await flanneld(ns, ...args);
    assert.equal(code, 2, `${args}: ${stderr}`);
    assert.equal(stdout, "");
    assert.match(stderr, /^flanneld: [^\n]+\n$/);
    assert.match(stderr, pattern);
  }
});

Deno.test("an interface that is not there is told, with those that are", async () => {
  await using cluster = await Cluster.create({ label: "noiface", nodes: 1 });
  const [node] = cluster.nodes;
  const { code, stderr } = await flanneld(
    node.ns,
    ...cluster.etcdArgs(),
    `--subnet-file=${node.subnetFile}`,
    "--iface=nothere0",
  );
  assert.equal(code, 2, stderr);
  assert.match(stderr, /^flanneld: .*nothere0.*eth0.*192\.168\.77\.11/m);
  assert.equal((await storedLeases(cluster)).length, 0);
});

Deno.test("--version prints the version alone", async () => {
  await using ns = await NetNs.create("version");
  for (const flag of ["--version", "-version"]) {
    const { code, stdout, stderr } = await flanneld(ns, flag);
    assert.equal(code, 0);
    assert.match(stdout, /^v?\d+\.\d+\.\d+\S*\n$/);
    assert.equal(stderr, "");
  }
});
