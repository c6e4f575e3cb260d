/** What an agent makes of network configs that Go flannel accepts, and of changes to them. */
import assert from "node:assert/strict";
import { Cluster, networkConfig, PREFIX } from "../../testbed/cluster.ts";
import { assertReach, eventually, matching } from "./support.ts";

Deno.test("misspelled keys and types of either case: as Go flannel takes them, with one warning each", async () => {
  const Backend = { TYPE: "VXLAN", vni: 7, Prot: 9999 };
  await using cluster = await Cluster.create({
    label: "keys",
    network: { network: "10.1.0.0/16", subnetLen: 25, SubnetMinn: "10.1.9.0", Backend },
  });
  await cluster.startAgents();
  const [a, b] = await cluster.attachAll("c1");
  await assertReach(a, b);
  for (const { agent, ns } of cluster.nodes) {
    assert.ok(agent);
    assert.equal(matching(agent, /Found network config - Backend type: vxlan$/).length, 1);
    assert.equal(matching(agent, /"Prot" in Backend .* did you mean Port\?$/).length, 1);
    assert.equal(matching(agent, /"SubnetMinn" .* did you mean SubnetMin\?$/).length, 1);
    assert.equal(matching(agent, /Network config:/).length, 2);
    assert.match(await ns.run("ip", "-d", "link", "show", "flannel.7"), /dstport 8472/);
  }
});

Deno.test("a config that is set back to the running one withdraws the call for a restart", async () => {
  await using cluster = await Cluster.create({ label: "setback", nodes: 1 });
  const [node] = cluster.nodes;
  const agent = node.startAgent();
  await node.waitReady();
  const running = networkConfig();
  const changed = /was changed in etcd; restart flanneld to apply it$/;
  const back = /in etcd again matches the one that this agent uses; no restart is needed$/;
  // The same in other words is no change.
  const { Network, Backend } = running as { Network: string; Backend: Record<string, unknown> };
  await cluster.writeConfig({ backend: { TYPE: "VXLAN" }, NETWORK: Network, SubnetLen: 24 });
  await cluster.writeConfig({ ...running, SubnetLen: 25 });
  await agent.waitForLine(changed, 10_000);
  await cluster.writeConfig({ Backend, Network });
  await agent.waitForLine(back, 10_000);
  await cluster.writeConfig({ ...running, SubnetLen: 99 });
  await agent.waitForLine(
    /changed in etcd to an invalid one: SubnetLen: 99 .*keeps using/,
    10_000,
  );
  await cluster.writeConfig({ ...running, Backend: { Type: "vxlaaan" } });
  await agent.waitForLine(/changed in etcd to an invalid one: Backend\.Type: "vxlaaan"/, 10_000);
  await cluster.etcd.ctl("del", `${PREFIX}/config`);
  await agent.waitForLine(/was deleted from etcd/, 10_000);
  await cluster.writeConfig(running);
  await eventually(() => assert.equal(matching(agent, back).length, 2));
  assert.equal(matching(agent, changed).length, 1, agent.lines.join("\n"));
});

Deno.test("an agent started as units of Go flannel are: one line about its logger's flags", async () => {
  await using cluster = await Cluster.create({ label: "units", nodes: 1 });
  const [node] = cluster.nodes;
  const [endpoint] = cluster.etcdArgs().filter((arg) => arg.includes("etcd-endpoints"));
  const address = endpoint.replace(/^.*=http:\/\//, "");
  const agent = node.startAgent({
    args: [
      `-etcd-endpoints= ${address} , HTTP://${address}/,`,
      ...["--vmodule=vxlan=9", "-log_backtrace_at", "main.go:1", "-logtostderr"],
      ...["--alsologtostderr=true", "--stderrthreshold=INFO", "-ip-masq=T"],
    ],
  });
  await node.waitReady();
  const ignored = /Ignoring --vmodule, --log_backtrace_at, --logtostderr, --alsologtostderr, --std/;
  assert.equal(matching(agent, ignored).length, 1, agent.lines.join("\n"));
  assert.match((await node.env()).FLANNEL_IPMASQ, /^true$/);
});
