/** The main job on two hosts: leases, kernel state and packets, for each backend and family. */
import assert from "node:assert/strict";
import { Cluster, type Families, networkConfig, PREFIX } from "../../testbed/cluster.ts";
import {
  assertReach,
  leaseOf,
  matching,
  storedLeases,
  subnetFileText,
  waitForwarding,
} from "./support.ts";

const MTU = {
  "vxlan": { ipv4: 1450, ipv6: 1430, dual: 1430 },
  "host-gw": { ipv4: 1500, ipv6: 1500, dual: 1500 },
};

for (const backend of ["vxlan", "host-gw"] as const) {
  for (const families of ["ipv4", "ipv6", "dual"] as const) {
    Deno.test(`${backend} carries ${families} between two hosts`, async () => {
      await using cluster = await Cluster.create({
        label: `fw-${backend.slice(0, 2)}${families}`,
        families,
        network: networkConfig(families, { Type: backend }),
      });
      // As Docker leaves it, so that the agent has something to change.
      for (const { ns } of cluster.nodes) await ns.run("iptables", "-P", "FORWARD", "DROP");
      await cluster.startAgents();
      await waitForwarding(cluster, backend);
      const leases = await storedLeases(cluster);
      assert.equal(leases.length, 2);
      for (const node of cluster.nodes) {
        const lease = leaseOf(leases, node);
        assert.equal(
          await Deno.readTextFile(node.subnetFile),
          subnetFileText(lease, { mtu: MTU[backend][families] }),
        );
        assertKey(lease.key, families);
        assert.equal(lease.raw, leaseText(backend, families, lease.value, node));
        if (families !== "ipv6") {
          const subnets = [lease.subnet, lease.ipv6Subnet].filter(Boolean).join(" ");
          assertLog(node.agent!.lines, subnets, node.ipv4!, backend, node.subnetFile);
        }
        assert.deepEqual(matching(node.agent!, /^[WEF]\d{4}/), []);
      }
      await assertEtcdLease(cluster);
      const [a, b] = await cluster.attachAll("c1");
      await assertReach(a, b);
    });
  }
}

Deno.test("alloc leases subnets and leaves the kernel alone", async () => {
  await using cluster = await Cluster.create({
    label: "fw-alloc",
    network: networkConfig("ipv4", { Type: "alloc" }),
  });
  // Without the bridge, which would have routes of its own.
  const before = await cluster.node(0).ns.run("ip", "route");
  await cluster.startAgents({ args: ["--bridge="] });
  const leases = await storedLeases(cluster);
  assert.equal(leases.length, 2);
  const [node] = cluster.nodes;
  const lease = leaseOf(leases, node);
  assert.equal(
    await Deno.readTextFile(node.subnetFile),
    subnetFileText(lease, { mtu: 1500 }),
  );
  assert.equal(await node.ns.run("ip", "route"), before);
  assert.doesNotMatch(await node.ns.run("ip", "link"), /: flannel/);
});

/** A byte-for-byte lease value; only the MACs are the agent's choice. */
function leaseText(
  backend: "vxlan" | "host-gw",
  families: Families,
  value: { BackendData?: { VtepMAC: string }; BackendV6Data?: { VtepMAC: string } },
  node: { ipv4?: string; ipv6?: string },
): string {
  const data = (mac: string | undefined) => {
    assert.match(mac!, /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/, "a locally administered unicast MAC");
    return `{"VNI":1,"VtepMAC":"${mac}"}`;
  };
  // An IPv6-only node announces the zero address, which flannel's agents can read.
  const ipv4 = node.ipv4 ?? "0.0.0.0";
  const ipv6 = node.ipv6 ? `"${node.ipv6}"` : "null";
  const parts = [`"PublicIP":"${ipv4}"`, `"PublicIPv6":${ipv6}`, `"BackendType":"${backend}"`];
  if (backend === "vxlan") {
    if (families !== "ipv6") parts.push(`"BackendData":${data(value.BackendData?.VtepMAC)}`);
    if (families !== "ipv4") parts.push(`"BackendV6Data":${data(value.BackendV6Data?.VtepMAC)}`);
  }
  return `{${parts.join(",")}}`;
}

function assertKey(key: string, families: Families): void {
  const ipv4 = String.raw`10\.1\.(?!0\.)\d+\.0-24`;
  const ipv6 = String.raw`fd00:1:0:[0-9a-f]+::-64`;
  const pattern = { ipv4, ipv6: String.raw`0\.0\.0\.0-0&${ipv6}`, dual: `${ipv4}&${ipv6}` };
  assert.match(key, new RegExp(`^${pattern[families]}$`));
}

/** The lines of the lab, in its order. */
function assertLog(lines: string[], subnets: string, ip: string, backend: string, file: string) {
  const log = lines.join("\n");
  const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  for (
    const line of [
      "Determining IP address of default interface",
      `Using interface with name eth0 and address ${ip}`,
      `Defaulting external address to interface address (${ip})`,
      "Created subnet manager: Etcd Local Manager with Previous Subnet: None",
      `Found network config - Backend type: ${backend}`,
      "Picking subnet in range 10.1.1.0 ... 10.1.255.0",
      `Allocated lease (${subnets}) to current node (${ip})`,
      "Changing default FORWARD chain policy to ACCEPT",
      `Wrote subnet file to ${file}`,
      "Running backend.",
      "Adding iptables rule: -s 10.1.0.0/16 -j ACCEPT",
    ]
  ) {
    // Each event is one line with a level, a time, the process and the area.
    const pattern = new RegExp(
      String.raw`^I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.:-]+\] .*${escaped(line)}`,
      "m",
    );
    assert.match(log, pattern);
  }
  assert.match(log, /Waiting for 22h59m5\d(\.\d+)?s to renew lease/);
}

/** Each key goes with an etcd lease of a day. */
async function assertEtcdLease(cluster: Cluster): Promise<void> {
  const { etcd } = cluster;
  const ids = (await etcd.ctl("lease", "list")).split("\n").filter((line) =>
    /^[0-9a-f]+$/.test(line)
  );
  const attached: string[] = [];
  for (const id of ids) {
    const text = await etcd.ctl("lease", "timetolive", id, "--keys");
    const [, granted, left, keys] =
      /TTL\((\d+)s\), remaining\((\d+)s\), attached keys\(\[(.*)\]\)/.exec(text) ?? [];
    assert.equal(granted, "86400", text);
    assert.ok(Number(left) > 86_000, text);
    attached.push(...keys.split(" ").filter(Boolean));
  }
  assert.deepEqual(
    attached.sort(),
    [...(await cluster.leases()).keys()].map((key) => `${PREFIX}/subnets/${key}`).sort(),
  );
}
