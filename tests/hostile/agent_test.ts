/**
 * Hostile data in a real etcd, before and while real agents run: none ends an agent, makes a route
 * outside the network, or takes a packet from a good peer; each is told of by its key.
 *
 * `HOSTILE_AGENT_COUNT` leases are written (100,000 take about two minutes), `HOSTILE_SEED` repeats a
 * run.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Cidr } from "../../base/cidr.ts";
import { keyName } from "../../subnet/lease_codec.ts";
import {
  eventually,
  fdb,
  json,
  leaseOf,
  matching,
  peersOf,
  ping,
  putLease,
  routes,
  type StoredLease,
  storedLeases,
  terminate,
  waitForwarding,
} from "../e2e/support.ts";
import { Cluster, configWithRoom, type Node, PREFIX } from "../../testbed/cluster.ts";
import { hostileConfig, Random, type Victim } from "./generate.ts";
import { AGENT_COUNT, SEED } from "./settings.ts";

const NETWORK = Cidr.parse("10.1.0.0/16");

/** Megabytes that the flood may add to what an agent has resident, besides a share for each lease. */
const MEMORY = 150;
const MEMORY_PER_LEASE = 0.002;

const FEED = new URL("./feed.ts", import.meta.url).pathname;

Deno.test(`${AGENT_COUNT} hostile leases in etcd, before and while agents run`, async () => {
  console.log(`HOSTILE_SEED=${SEED} HOSTILE_AGENT_COUNT=${AGENT_COUNT}`);
  await using cluster = await Cluster.create({
    label: "hostile",
    nodes: 3,
    network: configWithRoom(),
  });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const good = await storedLeases(cluster);
  const before = await Promise.all(cluster.nodes.map(kernelWithoutFlannel));
  const [a, b, c] = await cluster.attachAll("c1");
  // The first host's agent comes back to a store that is full already.
  await terminate(cluster.node(0).agent!);
  await feed(cluster, good, SEED, Math.floor(AGENT_COUNT / 2));
  const probe = b.ns.spawn("ping", ["-n", "-i0.05", c.ipv4!]);
  cluster.node(0).startAgent();
  const started = performance.now();
  await cluster.node(0).waitReady(60_000);
  console.log(`ready again after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  await assertReported(cluster, cluster.node(0), leaseOf(good, cluster.node(0)).key, true);
  const memory = await Promise.all(cluster.nodes.map(residentMegabytes));
  await feed(cluster, good, SEED + 1, Math.ceil(AGENT_COUNT / 2));
  // What comes after all of it is carried, so that all of it has been seen.
  const late = "10.1.251.0/24";
  await putLease(cluster, "10.1.251.0-24", {
    PublicIP: "192.168.77.251",
    BackendType: "vxlan",
    BackendData: { VNI: 1, VtepMAC: "06:00:00:00:02:51" },
  });
  for (const node of cluster.nodes) {
    await eventually(async () => {
      const carried = (await peersOf(node)).peers.filter(({ skipped }) => skipped === null);
      assert(carried.some(({ subnet }) => subnet === late));
    }, { limitMs: 60_000, what: `${late} on ${node.ns.name}` });
  }
  for (const [at, node] of cluster.nodes.entries()) {
    assert.equal(node.agent!.ended, false, node.agent!.lines.slice(-20).join("\n"));
    await eventually(() => assertKernel(node, good, before[at]), { limitMs: 30_000 });
    await assertReported(cluster, node, leaseOf(good, node).key);
    const now = await residentMegabytes(node);
    const log = node.agent!.lines.join("\n").length / 1e6;
    console.log(
      `${node.ns.name}: ${memory[at]} to ${now} MB resident, ${log.toFixed(1)} MB of log`,
    );
    assert(now < memory[at] + MEMORY + AGENT_COUNT * MEMORY_PER_LEASE, `${now} MB`);
  }
  await ping(a.ns, b.ipv4!);
  await ping(c.ns, a.ipv4!);
  probe.kill("SIGINT");
  await probe.status;
  assert.match(probe.lines.join("\n"), / 0% packet loss/, "no packet between good peers is lost");
  await assertOwnKeyKept(cluster, good);
});

Deno.test("hostile configs: waited on at the start, and told of while the agent runs", async () => {
  await using cluster = await Cluster.create({ label: "hostile-cfg", nodes: 1, network: null });
  const [node] = cluster.nodes;
  const agent = node.startAgent();
  const bad = [
    "{",
    "null",
    `{"Backend":{"Type":${"[".repeat(10_000)}${"]".repeat(10_000)}}}`,
    `{"Network":"10.1.0.0/16","Backend":{"Type":"__proto__"}}`,
    `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan","VNI":{"1":${'{"1":'.repeat(9_000)}1${
      "}".repeat(9_000)
    }}}}`,
    `{"__proto__":{"Network":"10.1.0.0/16"}}`,
    `{"Network":"224.0.0.0/16"}`,
    `{"Network":"${"1".repeat(100_000)}"}`,
  ];
  const told = () => matching(agent, /^W.*waiting for a valid one/).length;
  await eventually(() => assert(matching(agent, /There is no network config/).length === 1));
  for (const text of bad.slice(0, 4)) {
    const had = told();
    await cluster.writeConfig(text);
    await eventually(() => assert(told() > had, agent.lines.join("\n")), { limitMs: 20_000 });
  }
  for (const text of bad.slice(4)) await cluster.writeConfig(text);
  await cluster.writeConfig({ Network: "10.1.0.0/16", Backend: { Type: "vxlan" } });
  await node.waitReady(40_000);
  const kernel = await routes(node.ns, "flannel.1");
  const random = new Random(SEED);
  for (const text of [...bad, ...Array.from({ length: 40 }, () => hostileConfig(random))]) {
    if (!text.includes("\u0000")) await cluster.writeConfig(text);
  }
  await putLease(cluster, "10.1.9.0-24", {
    PublicIP: "192.168.77.99",
    BackendType: "vxlan",
    BackendData: { VNI: 1, VtepMAC: "02:00:00:00:00:99" },
  });
  await eventually(async () =>
    assert.deepEqual(await routes(node.ns, "flannel.1"), [
      ...kernel,
      "10.1.9.0/24 via 10.1.9.0 onlink",
    ])
  );
  const lines = matching(agent, /^W.*network config was (changed|deleted)/).length;
  assert(lines > 0 && lines <= 20, `${lines} lines for 48 changes`);
  assert.equal(agent.ended, false);
  for (const line of agent.lines) assert(line.length < 600, line);
});

/** Writes hostile leases against the nodes' own. */
async function feed(cluster: Cluster, good: StoredLease[], seed: number, count: number) {
  const victims: Victim[] = cluster.nodes.map((node) => {
    const { key, value } = leaseOf(good, node);
    return { key, publicIP: value.PublicIP!, mac: value.BackendData!.VtepMAC };
  });
  const command = [Deno.execPath(), "run", "--allow-all", "--no-check", FEED] as const;
  const args = [cluster.etcd.endpoint, PREFIX, `${seed}`, `${count}`, JSON.stringify(victims)];
  const { bytes, seconds } = JSON.parse(await cluster.etcdHost.run(...command, ...args));
  console.log(`${count} leases, ${(bytes / 1e6).toFixed(0)} MB, in ${seconds.toFixed(1)} s`);
}

/** Keys of all leases below `subnets/`. */
async function storedKeys(cluster: Cluster): Promise<Uint8Array[]> {
  const text = await cluster.etcd.ctl(
    "get",
    "--prefix",
    "--keys-only",
    `${PREFIX}/subnets/`,
    "-w",
    "json",
  );
  const { kvs } = JSON.parse(text) as { kvs: { key: string }[] };
  const bytes = (base64: string) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  return kvs.map(({ key }) => bytes(key).subarray(PREFIX.length + "/subnets/".length));
}

/** Routes and addresses on all devices that are not the agent's. */
async function kernelWithoutFlannel({ ns }: Node): Promise<string[]> {
  const all = await json<{ dst: string; dev: string; protocol?: string }[]>(
    ns,
    ...["ip", "-j", "route", "show", "table", "all", "type", "unicast"],
  );
  return all.filter(({ dev }) => dev === "eth0" || dev === "lo").map(({ dst, dev }) =>
    `${dst} ${dev}`
  )
    .sort();
}

/** All routes to peers lie in the network, and the good peers' entries are as they were. */
async function assertKernel(node: Node, good: StoredLease[], before: string[]): Promise<void> {
  const own = leaseOf(good, node);
  const there = await routes(node.ns, "flannel.1");
  for (const route of there) {
    const [dst] = route.split(" ");
    const subnet = Cidr.parse(dst.includes("/") ? dst : `${dst}/32`);
    assert(NETWORK.contains(subnet) && subnet.length >= 24, route);
    assert(!subnet.overlaps(Cidr.parse(own.subnet!)), route);
    for (const { subnet: theirs } of good) {
      assert(
        dst === theirs || !subnet.overlaps(Cidr.parse(theirs!)),
        `${route} takes from ${theirs}`,
      );
    }
  }
  const entries = await fdb(node.ns, "flannel.1");
  for (const { key, subnet, value } of good) {
    if (key === own.key) continue;
    const base = subnet!.split("/")[0];
    assert(there.includes(`${subnet} via ${base} onlink`), `${subnet} is carried`);
    const mac = value.BackendData!.VtepMAC;
    const theirs = entries.filter((entry) => entry.startsWith(mac));
    assert.deepEqual(theirs, [`${mac} dst ${value.PublicIP} self permanent`]);
  }
  assert.deepEqual(await kernelWithoutFlannel(node), before);
}

/** Each key is carried or was told of; once, where nothing was changed since the agent came. */
async function assertReported(
  cluster: Cluster,
  node: Node,
  own: string,
  unchanged = false,
): Promise<void> {
  const { peers } = await peersOf(node);
  const carried = new Set(peers.filter(({ skipped }) => !skipped).map(({ subnet }) => subnet));
  const names = (await storedKeys(cluster)).map(keyName);
  await eventually(() => {
    const reports = matching(node.agent!, /Skipping (lease|peer) .*: /)
      .map((line) => line.replace(/^.*?\] /, ""));
    const keys = reports.map((line) => /^Skipping (?:lease|peer) (.*?): /.exec(line)![1]);
    const told = new Set(keys);
    if (unchanged) assert.equal(keys.length, told.size, "each once");
    const missing = names.filter((name) => {
      return name !== own && !told.has(name) && !carried.has(name.replace(/-(\d+)(&.*)?$/, "/$1"));
    });
    const some = missing.slice(0, 5).join(", ");
    assert.equal(missing.length, 0, `${missing.length} of ${told.size} are not told of: ${some}`);
  }, { limitMs: 120_000, what: "a line for each key" });
}

/** What is no lease under our own key goes, and we keep the subnet. */
async function assertOwnKeyKept(cluster: Cluster, good: StoredLease[]): Promise<void> {
  const [node] = cluster.nodes;
  const { key, raw } = leaseOf(good, node);
  for (const value of ["[]", '{"PublicIP":"127.0.0.1"}', '{"PublicIP":"0.0.0.0"}']) {
    await putLease(cluster, key, value);
    await eventually(async () => {
      const stored = await cluster.etcd.ctl(
        "get",
        "--print-value-only",
        `${PREFIX}/subnets/${key}`,
      );
      assert.equal(stored.trim(), raw, node.agent!.lines.slice(-5).join("\n"));
    }, { limitMs: 60_000, what: `our lease over ${value}` });
  }
  assert.equal(matching(node.agent!, /Restarting the session/).length, 0);
}

async function residentMegabytes({ agent }: Node): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${agent!.pid}/status`);
  return Math.round(Number(/VmRSS:\s*(\d+)/.exec(status)![1]) / 1024);
}
