/** What an agent makes of network configs that Go flannel accepts, and of changes to them. */
import assert from "node:assert/strict";
import { Cluster } from "../lib/cluster.ts";
import { assertReach, matching } from "./support.ts";

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
