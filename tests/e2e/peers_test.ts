/** Leases of peers that cannot be used: no route, one warning, and the good ones work on. */
import assert from "node:assert/strict";
import { Cluster, configWithRoom } from "../../testbed/cluster.ts";
import {
  assertHostGw,
  assertVxlan,
  deleteLease,
  eventually,
  leaseOf,
  matching,
  ping,
  putLease,
  type StoredLease,
  storedLeases,
} from "./support.ts";

const vtep = (VtepMAC: unknown, VNI: unknown = 1) => ({ VNI, VtepMAC });
const peer = (
  PublicIP: unknown,
  BackendData: unknown = vtep("02:00:00:00:00:77"),
  BackendType = "vxlan",
) => ({ PublicIP, PublicIPv6: null, BackendType, BackendData });

/** Key and value of leases that no agent may act on. */
const UNUSABLE: [string, unknown][] = [
  // Another backend type.
  ["10.1.200.0-24", { PublicIP: "192.168.77.100", PublicIPv6: null }],
  ["10.1.201.0-24", { PublicIP: "192.168.77.101", PublicIPv6: null, BackendType: "host-gw" }],
  // Broken backend data.
  ["10.1.202.0-24", peer("192.168.77.102", null)],
  ["10.1.203.0-24", peer("192.168.77.103", vtep("no mac"))],
  ["10.1.204.0-24", peer("192.168.77.104", vtep("ff:ff:ff:ff:ff:ff"))],
  ["10.1.205.0-24", peer("192.168.77.105", vtep("02:00:00:00:00:05", 2))],
  // Broken values.
  ["10.1.206.0-24", '{"PublicIP":"192.168.77.106"'],
  ["10.1.207.0-24", "[]"],
  ["10.1.208.0-24", peer("300.1.1.1")],
  ["10.1.209.0-24", peer("127.0.0.1")],
  ["10.1.210.0-24", peer("224.0.0.1")],
  ["10.1.211.0-24", peer(7)],
  // Broken keys: out of the network, of prefix length 0, too long, host bits, no subnet at all.
  ["10.2.34.0-24", peer("192.168.77.112")],
  ["192.168.77.0-24", peer("192.168.77.113")],
  ["0.0.0.0-0", peer("192.168.77.114")],
  ["10.1.0.0-16", peer("192.168.77.115")],
  ["10.1.216.0-33", peer("192.168.77.116")],
  ["nonsense", peer("192.168.77.117")],
];

Deno.test("leases that cannot be used are passed over with one warning each", async () => {
  await using cluster = await Cluster.create({ label: "peers-bad", network: configWithRoom() });
  // Some are there before the agents, the others come while they run.
  const half = UNUSABLE.length / 2;
  for (const [key, value] of UNUSABLE.slice(0, half)) await putLease(cluster, key, value);
  await cluster.startAgents();
  for (const [key, value] of UNUSABLE.slice(half)) await putLease(cluster, key, value);
  const [one, two] = cluster.nodes;
  const foreign = new Set(UNUSABLE.map(([key]) => key));
  const good = async () => (await storedLeases(cluster)).filter(({ key }) => !foreign.has(key));
  await eventually(async () => {
    for (const node of cluster.nodes) {
      for (const [key] of UNUSABLE) assertOneWarning(node.agent!.lines, key);
      await assertVxlan(node, await good());
    }
  });
  // A peer that comes after all of them is carried at once.
  await putLease(cluster, "10.1.250.0-24", peer("192.168.77.150", vtep("02:00:00:00:02:50")));
  await eventually(async () => {
    for (const node of cluster.nodes) await assertVxlan(node, await good());
  }, { limitMs: 2_000, what: "the new peer" });
  // A second write of the same does not warn again; one that mends a lease takes it up.
  const [mended, again] = [UNUSABLE[3][0], UNUSABLE[4]];
  await putLease(cluster, again[0], again[1]);
  await putLease(cluster, mended, peer("192.168.77.103", vtep("02:00:00:00:01:03")));
  foreign.delete(mended);
  await eventually(async () => {
    for (const node of cluster.nodes) await assertVxlan(node, await good());
  }, { limitMs: 2_000, what: "the mended peer" });
  for (const { agent } of cluster.nodes) {
    for (const [key] of UNUSABLE) assertOneWarning(agent!.lines, key);
    assert.equal(agent!.ended, false);
  }
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
  await ping(b.ns, a.ipv4!);
  assert.equal(one.agent!.ended || two.agent!.ended, false);
});

Deno.test("a lease that overlaps ours or takes a peer's address or MAC gets no route", async () => {
  await using cluster = await Cluster.create({ label: "peers-over" });
  await cluster.startAgents();
  const [one, two] = cluster.nodes;
  const leases = await storedLeases(cluster);
  const [own, other] = [leaseOf(leases, one), leaseOf(leases, two)];
  await eventually(() => assertVxlan(one, leases));
  const longer = (subnet: string) => `${subnet.split("/")[0]}-25`;
  const thieves: [string, unknown][] = [
    [longer(own.subnet!), peer("192.168.77.120", vtep("02:00:00:00:01:20"))],
    [longer(other.subnet!), peer("192.168.77.121", vtep("02:00:00:00:01:21"))],
    ["10.1.122.0-24", peer(one.ipv4, vtep("02:00:00:00:01:22"))],
    ["10.1.123.0-24", peer("192.168.77.123", other.value.BackendData)],
  ];
  for (const [key, value] of thieves) await putLease(cluster, key, value);
  await eventually(() => {
    for (const [key] of thieves) assertOneWarning(one.agent!.lines, key);
  });
  await assertVxlan(one, leases);
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
});

Deno.test("host-gw passes over peers that are not on its link", async () => {
  await using cluster = await Cluster.create({
    label: "peers-gw",
    network: configWithRoom({ Type: "host-gw" }),
  });
  await cluster.startAgents();
  const far = { PublicIP: "203.0.113.9", PublicIPv6: null, BackendType: "host-gw" };
  await putLease(cluster, "10.1.222.0-24", far);
  const [one] = cluster.nodes;
  await eventually(() => assertOneWarning(one.agent!.lines, "10.1.222.0-24"));
  const near = (leases: StoredLease[]) => leases.filter(({ key }) => key !== "10.1.222.0-24");
  await eventually(async () => await assertHostGw(one, near(await storedLeases(cluster))));
  // One that is on the link and goes again.
  const key = "10.1.223.0-24";
  await putLease(cluster, key, { ...far, PublicIP: "192.168.77.99" });
  await eventually(async () => await assertHostGw(one, near(await storedLeases(cluster))), {
    limitMs: 2_000,
  });
  await deleteLease(cluster, key);
  await eventually(async () => await assertHostGw(one, near(await storedLeases(cluster))), {
    limitMs: 2_000,
  });
  assert.equal(matching(one.agent!, /^[WE].*10\.1\.223\.0-24/).length, 0);
});

/** Exactly one warning or error names this key. */
function assertOneWarning(lines: string[], key: string): void {
  const named = lines.filter((line) =>
    /^[WE]\d{4}/.test(line) && line.split(/[\s:,"]+/).some((word) => word.endsWith(key))
  );
  assert.equal(named.length, 1, `one warning for ${key}:\n${lines.join("\n")}`);
}
