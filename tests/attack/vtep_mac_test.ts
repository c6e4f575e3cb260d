/**
 * Leases that announce another node's VTEP MAC, written in advance: they wait until that node's own
 * lease is made anew, and are the older ones then.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  assertVxlan,
  deleteLease,
  eventually,
  fdb,
  leaseOf,
  link,
  matching,
  nodeLease,
  ping,
  Probe,
  putLease,
  type StoredLease,
  storedLeases,
  terminate,
  waitForwarding,
} from "../e2e/support.ts";
import {
  Cluster,
  type Families,
  GO_FLANNELD,
  networkConfig,
  type Node,
} from "../../testbed/cluster.ts";

/** A lease of nobody, in the way of `victim`: with its MACs for these members. */
function squatter(
  { value }: StoredLease,
  members: readonly ("BackendData" | "BackendV6Data")[],
): { key: string; value: StoredLease["value"] } {
  const data = (name: "BackendData" | "BackendV6Data", mac: string) =>
    value[name] && {
      VNI: 1,
      VtepMAC: members.includes(name) ? value[name].VtepMAC.toUpperCase() : mac,
    };
  return {
    key: value.BackendV6Data ? "10.1.250.0-24&fd00:1:0:fa::-64" : "10.1.250.0-24",
    value: {
      PublicIP: "192.168.77.250",
      PublicIPv6: value.BackendV6Data ? "fd77::250" : null,
      BackendType: "vxlan",
      BackendData: data("BackendData", "06:00:00:00:02:50"),
      BackendV6Data: data("BackendV6Data", "06:00:00:00:06:50"),
    },
  };
}

async function devices({ ns }: Node, names: string[]): Promise<[number, string][]> {
  const links = await Promise.all(names.map((name) => link(ns, name)));
  return links.map(({ ifindex, address }) => [ifindex, address]);
}

/** The value that etcd holds for the squatter reads as its MACs in small letters do in the kernel. */
async function leasesAsUsed(cluster: Cluster): Promise<StoredLease[]> {
  return (await storedLeases(cluster)).map((lease) =>
    JSON.parse(
      JSON.stringify(lease),
      (name, value) => name === "VtepMAC" ? String(value).toLowerCase() : value,
    )
  );
}

for (
  const [families, members] of [
    ["ipv4", ["BackendData"]],
    ["dual", ["BackendV6Data"]],
    ["dual", ["BackendData", "BackendV6Data"]],
  ] as const satisfies [Families, string[]][]
) {
  Deno.test(`a node takes another VTEP MAC when an older lease has its own, ${families}, ${members}`, async () => {
    await using cluster = await Cluster.create({ label: "mac", nodes: 3, families });
    await cluster.startAgents();
    await waitForwarding(cluster, "vxlan");
    const [one, victim, three] = cluster.nodes;
    const [a, b, c] = await cluster.attachAll("c1");
    const before = await nodeLease(cluster, victim);
    const names = families === "dual" ? ["flannel.1", "flannel-v6.1"] : ["flannel.1"];
    const were = await devices(victim, names);
    const trap = squatter(before, members);
    await putLease(cluster, trap.key, trap.value);
    await using others = new Probe(a.ns, c.ipv4!);
    await others.answers(10);
    await deleteLease(cluster, before.key);
    const isCarried = async () => {
      const leases = await leasesAsUsed(cluster);
      const now = leaseOf(leases, victim);
      assert.equal(now.key, before.key, "the subnet stays");
      for (const name of ["BackendData", "BackendV6Data"] as const) {
        if (!before.value[name]) continue;
        const isOther = now.value[name]!.VtepMAC !== before.value[name].VtepMAC;
        assert.equal(isOther, (members as readonly string[]).includes(name), name);
      }
      for (const node of cluster.nodes) await assertVxlan(node, leases);
    };
    await eventually(isCarried);
    const are = await devices(victim, names);
    assert.deepEqual(are.map(([index]) => index), were.map(([index]) => index), "the same devices");
    for (const [from, to] of [[a, b], [b, c], [c, b]]) {
      await ping(from.ns, to.ipv4!);
      if (to.ipv6) await ping(from.ns, to.ipv6);
    }
    assert.deepEqual(await others.end(), [], "no packet between the others is lost");
    // The victim's log names the lease that was in the way, and whose the MAC was before.
    const [mac] = members.map((name) => before.value[name]!.VtepMAC);
    const lines = matching(victim.agent!, /VTEP MAC/).map((line) => line.replace(/^.*?\] /, ""));
    assert.equal(lines.length, 2, lines.join("\n"));
    assert.equal(
      lines[0],
      `Skipping peer ${trap.key}: its VTEP MAC ${mac} is this node's own`,
    );
    assert(
      lines[1].startsWith(
        `Restarting the session: the lease ${trap.key} of 192.168.77.250, which is older than this node's, ` +
          `announces this node's VTEP MAC ${mac}`,
      ),
      lines[1],
    );
    for (const node of [one, three]) {
      const told = matching(node.agent!, /^W.*VTEP MAC/);
      assert(
        told.every((line) => line.includes(`Skipping peer ${trap.key}: `)),
        told.join("\n"),
      );
    }
    // It stays so after a restart.
    await terminate(victim.agent!);
    victim.startAgent();
    await victim.waitReady();
    await eventually(isCarried);
    assert.deepEqual(await devices(victim, names), are);
    for (const node of [one, three]) {
      assert.deepEqual(matching(node.agent!, /Restarting the session/), []);
    }
  });
}

Deno.test("a lease with a node's public address and VTEP MAC is in its way no longer either", async () => {
  await using cluster = await Cluster.create({ label: "mac-ip" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one, victim] = cluster.nodes;
  const before = await nodeLease(cluster, victim);
  const trap = squatter(before, ["BackendData"]);
  await putLease(cluster, trap.key, { ...trap.value, PublicIP: victim.ipv4 });
  await deleteLease(cluster, before.key);
  const own = async () => {
    const found = (await storedLeases(cluster)).find(({ key }) => key === before.key);
    assert(found && found.value.BackendData!.VtepMAC !== before.value.BackendData!.VtepMAC);
    return found.value.BackendData!.VtepMAC;
  };
  const isCarried = async () => {
    const mac = await own();
    assert.equal((await link(victim.ns, "flannel.1")).address, mac);
    assert((await fdb(one.ns, "flannel.1")).includes(`${mac} dst ${victim.ipv4} self permanent`));
  };
  await eventually(isCarried);
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
  await ping(b.ns, a.ipv4!);
});

Deno.test("a lease that follows each change of a node's VTEP MAC gets few of them", async () => {
  await using cluster = await Cluster.create({ label: "mac-run" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [one, victim] = cluster.nodes;
  const before = await nodeLease(cluster, victim);
  const trap = squatter(before, ["BackendData"]);
  await putLease(cluster, trap.key, trap.value);
  await deleteLease(cluster, before.key);
  const macs = new Set<string>([before.value.BackendData!.VtepMAC]);
  const until = performance.now() + 12_000;
  while (performance.now() < until) {
    const now = (await storedLeases(cluster)).find(({ key }) => key === before.key);
    const mac = now?.value.BackendData?.VtepMAC;
    if (mac && !macs.has(mac)) {
      macs.add(mac);
      await putLease(cluster, trap.key, squatter(now, ["BackendData"]).value);
    }
    await new Promise((done) => setTimeout(done, 20));
  }
  assert(macs.size >= 3, "it gives way at once at first");
  assert(macs.size <= 8, `${macs.size} MACs in 12 s`);
  const lines = matching(victim.agent!, /VTEP MAC/);
  assert(lines.length <= 2 * macs.size + 1, lines.join("\n"));
  assert.equal(lines.filter((line) => /, again and again;/.test(line)).length, 1);
  assert(matching(one.agent!, /VTEP MAC/).length <= 2 * macs.size);
  // The one that gives up first is the squatter.
  await eventually(async () => {
    const leases = await leasesAsUsed(cluster);
    for (const node of cluster.nodes) await assertVxlan(node, leases);
  }, { limitMs: 60_000 });
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
  await ping(b.ns, a.ipv4!);
});

Deno.test({
  name: "a Go flanneld follows a node to its new VTEP MAC" +
    (GO_FLANNELD ? "" : " (skipped: GO_FLANNELD names no Go flanneld)"),
  ignore: !GO_FLANNELD,
  fn: async () => {
    await using cluster = await Cluster.create({
      label: "mac-go",
      network: networkConfig("ipv4", { Type: "vxlan" }),
      goNodes: [1],
    });
    await cluster.startAgents();
    const [victim] = cluster.nodes;
    const before = await nodeLease(cluster, victim);
    const [a, b] = await cluster.attachAll("c1");
    await eventually(() => ping(b.ns, a.ipv4!), { limitMs: 20_000 });
    const trap = squatter(before, ["BackendData"]);
    await putLease(cluster, trap.key, trap.value);
    await deleteLease(cluster, before.key);
    await eventually(() => ping(b.ns, a.ipv4!), { limitMs: 20_000 });
    await ping(a.ns, b.ipv4!);
    const { value } = await nodeLease(cluster, victim);
    assert.notEqual(value.BackendData!.VtepMAC, before.value.BackendData!.VtepMAC);
  },
});
