/** The public interface changes under a running agent. */
import assert from "node:assert/strict";
import { Cluster } from "../../testbed/cluster.ts";
import {
  assertVxlan,
  eventually,
  link,
  nodeLease,
  ping,
  storedLeases,
  subnetFileText,
  waitForwarding,
} from "./support.ts";

Deno.test("another MTU of the interface is followed", async () => {
  await using cluster = await Cluster.create({ label: "mtu" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one] = cluster.nodes;
  const before = await nodeLease(cluster, one);
  for (const mtu of [1400, 9000]) {
    await one.ns.run("ip", "link", "set", "eth0", "mtu", String(mtu));
    await eventually(async () => {
      assert.equal(
        await Deno.readTextFile(one.subnetFile),
        subnetFileText(before, { mtu: mtu - 50 }),
      );
      await assertVxlan(one, await storedLeases(cluster), { mtu });
      assert.equal((await link(one.ns, "cni0")).mtu, mtu - 50);
    }, { limitMs: 5_000, what: `MTU ${mtu}` });
  }
  assert.deepEqual(await nodeLease(cluster, one), before);
});

Deno.test("another address of the interface is announced, the subnet stays", async () => {
  await using cluster = await Cluster.create({ label: "readdress" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one, two] = cluster.nodes;
  const [a, b] = await cluster.attachAll("c1");
  const before = await nodeLease(cluster, one);
  await one.ns.run("ip", "address", "del", "192.168.77.11/24", "dev", "eth0");
  await one.ns.run("ip", "address", "add", "192.168.77.50/24", "dev", "eth0");
  // The default route went with the old address; the agent stays with its interface, and says so.
  await one.agent!.waitForLine(
    /eth0 has lost its default route and no other interface has one; waiting for one$/,
  );
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    const moved = leases.find(({ value }) => value.PublicIP === "192.168.77.50");
    assert.equal(moved?.key, before.key);
    assert.equal(moved?.value.BackendData?.VtepMAC, before.value.BackendData?.VtepMAC);
    await assertVxlan(two, leases);
    const device = await link(one.ns, "flannel.1");
    assert.equal(device.linkinfo!.info_data.local, "192.168.77.50");
  }, { limitMs: 15_000, what: "the new address" });
  await eventually(() => ping(a.ns, b.ipv4!));
  await ping(b.ns, a.ipv4!);
  assert.equal((await storedLeases(cluster)).length, 2);
  assert.equal(one.agent!.ended, false);
});
