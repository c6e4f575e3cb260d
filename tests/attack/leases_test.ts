/**
 * Leases that would take a node's packets to hosts outside of the overlay, or keep good nodes out of
 * it.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  deleteLease,
  eventually,
  json,
  matching,
  nodeLease,
  peersOf,
  ping,
  putLease,
  storedLeases,
} from "../e2e/support.ts";
import { Cluster, type Node } from "../../testbed/cluster.ts";

/** The value of a lease with this public address, for a backend. */
function value(type: string, ip: string, n: number) {
  const hex = n.toString(16).padStart(4, "0");
  const mac = `06:00:00:00:${hex.slice(0, 2)}:${hex.slice(2)}`;
  return {
    PublicIP: ip,
    ...(type === "udp" ? {} : { BackendType: type }),
    ...(type === "vxlan" ? { BackendData: { VNI: 1, VtepMAC: mac } } : {}),
  };
}

/** Destinations of a node's routes that the agent made, on any device, sorted. */
async function ownRoutes({ ns }: Node): Promise<string[]> {
  const all = await json<{ dst: string; protocol?: string }[]>(
    ns,
    ...["ip", "-j", "route", "show", "table", "all", "type", "unicast"],
  );
  return all.filter(({ dst, protocol }) => protocol !== "kernel" && dst !== "default")
    .map(({ dst }) => dst).sort();
}

/** Waits until a node carries packets to `good`. @returns all subnets that it does, sorted */
async function carried(node: Node, good: string): Promise<string[]> {
  let subnets: string[] = [];
  await eventually(async () => {
    const { peers } = await peersOf(node);
    subnets = peers.flatMap(({ skipped, subnet }) => skipped || !subnet ? [] : subnet).sort();
    assert(subnets.includes(good), subnets.join());
  });
  return subnets;
}

for (const type of ["vxlan", "host-gw", "udp"]) {
  Deno.test(`no lease takes the packets to etcd, the router or the node itself, ${type}`, async () => {
    // The hosts' own addresses lie in the network.
    await using cluster = await Cluster.create({
      label: `own-${type[0]}`,
      network: {
        Network: "192.168.0.0/16",
        SubnetMin: "192.168.76.0",
        SubnetMax: "192.168.79.0",
        Backend: { Type: type },
      },
    });
    for (const { ns, index } of cluster.nodes) {
      await ns.run("ip", "address", "add", `192.168.77.${100 + index}/24`, "dev", "eth0");
    }
    await cluster.startAgents();
    const own = await storedLeases(cluster);
    for (const { subnet } of own) assert.notEqual(subnet, "192.168.77.0/24", "the hosts' own");
    const [one] = cluster.nodes;
    const bad: [key: string, ip: string, reason: RegExp][] = [
      ["192.168.77.2-32", "192.168.77.61", /it contains the address of etcd, 192\.168\.77\.2$/],
      ["192.168.77.0-30", "192.168.77.62", /it contains (this node's router|the address of etcd)/],
      ["192.168.77.1-32", "192.168.77.63", /it contains this node's router, 192\.168\.77\.1$/],
      ["192.168.77.100-32", "192.168.77.64", /it contains an address of this node/],
      ["192.168.77.0-24", "192.0.2.65", /it contains (this node's public|an) address/],
      ["192.168.201.0-24", "192.168.77.100", /192\.168\.77\.100 is an address of this node$/],
      ["192.168.202.0-24", "192.168.77.255", /is the broadcast address of 192\.168\.77\.0\/24$/],
      ["192.168.203.0-24", "192.168.77.0", /is the first address of 192\.168\.77\.0\/24$/],
      ["192.168.204.0-24", "127.0.0.1", /is a loopback address/],
      ["192.168.205.0-24", "224.0.0.1", /is not unicast/],
      ["192.168.206.0-24", "255.255.255.255", /is not unicast/],
      ["192.168.0.0-16", "192.168.77.66", /larger than the network's subnets/],
    ];
    const before = await ownRoutes(one);
    const others = own.flatMap(({ subnet, value }) => value.PublicIP === one.ipv4 ? [] : subnet!);
    for (const [at, [key, ip]] of bad.entries()) await putLease(cluster, key, value(type, ip, at));
    await putLease(cluster, "192.168.250.0-24", value(type, "192.168.77.70", 0x250));
    const good = "192.168.250.0/24";
    assert.deepEqual(await carried(one, good), [...others, good].sort());
    await eventually(async () => {
      const wanted = type === "udp" ? before : [...before, good].sort();
      assert.deepEqual(await ownRoutes(one), wanted);
    });
    for (const [key, , reason] of bad) {
      await eventually(() => {
        const [line] = matching(one.agent!, new RegExp(`Skipping lease ${key}: `));
        assert.match(line, reason);
      });
    }
    assert.deepEqual(matching(one.agent!, /Cannot set|etcd.*(away|fail)/), []);
    await ping(one.ns, "192.168.77.2");
    const [a, b] = await cluster.attachAll("c1");
    await ping(a.ns, b.ipv4!);
  });
}

Deno.test("leases whose addresses lie in all free subnets keep no node out", async () => {
  await using cluster = await Cluster.create({
    label: "poison",
    network: {
      Network: "10.1.0.0/16",
      SubnetMin: "10.1.1.0",
      SubnetMax: "10.1.3.0",
      Backend: { Type: "vxlan" },
    },
  });
  for (let n = 1; n <= 3; n++) {
    await putLease(cluster, `10.1.250.${4 * n}-30`, value("vxlan", `10.1.${n}.9`, n));
  }
  await cluster.startAgents();
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!));
  await ping(b.ns, a.ipv4!);
  // Nor when a node's lease is made anew.
  const { key } = await nodeLease(cluster, cluster.node(1));
  await deleteLease(cluster, key);
  await eventually(async () => assert((await cluster.leases()).has(key)));
  await eventually(() => ping(a.ns, b.ipv4!));
  assert.equal((await nodeLease(cluster, cluster.node(1))).key, key);
});

Deno.test("an older lease that is given an address in a node's subnet does not black-hole it", async () => {
  await using cluster = await Cluster.create({
    label: "moved-in",
    network: { Network: "192.168.0.0/16", Backend: { Type: "vxlan" } },
  });
  const trap = (ip: string) => putLease(cluster, "192.168.250.0-24", value("vxlan", ip, 1));
  await trap("192.168.77.70");
  await cluster.startAgents();
  const [one, victim] = cluster.nodes;
  const { key } = await nodeLease(cluster, victim);
  await trap(key.replace("0-24", "9"));
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    const now = leases.find((lease) => lease.value.PublicIP === victim.ipv4 && lease.key !== key);
    assert(now, "the node has another subnet");
    const subnets = await ownRoutes(one);
    assert(subnets.includes(now.subnet!), subnets.join());
    assert.equal((await victim.env()).FLANNEL_SUBNET, now.subnet!.replace("0/", "1/"));
  });
  const [line, ...more] = matching(victim.agent!, /Restarting the session/);
  assert.match(
    line,
    /the lease 192\.168\.250\.0-24 of .*, which is older than this node's, has its public/,
  );
  assert.deepEqual(more, []);
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!));
  await ping(b.ns, a.ipv4!);
});

Deno.test("a lease that flips hundreds of times gets a few lines, and holds nothing up", async () => {
  await using cluster = await Cluster.create({ label: "flip", nodes: 1 });
  await cluster.startAgents();
  const [node] = cluster.nodes;
  const prefix = "/coreos.com/network/subnets/10.1.250.0-24";
  const bodies = [value("vxlan", "192.168.77.70", 1), value("vxlan", "127.0.0.1", 1), {}];
  const requests = Array.from({ length: 600 }, (_, at) => {
    const put = { key: btoa(prefix), value: btoa(JSON.stringify(bodies[at % bodies.length])) };
    const data = JSON.stringify(put).replaceAll('"', '\\"');
    return `url = "${cluster.etcd.endpoint}/v3/kv/put"\ndata = "${data}"\noutput = "/dev/null"\n`;
  });
  const file = `${node.folder}/flip`;
  await Deno.writeTextFile(file, requests.join("next\n"));
  await cluster.etcdHost.run("curl", "-sf", "-K", file);
  await putLease(cluster, "10.1.251.0-24", value("vxlan", "192.168.77.71", 2));
  await eventually(async () => assert((await ownRoutes(node)).includes("10.1.251.0/24")), {
    limitMs: 20_000,
  });
  const lines = matching(node.agent!, /10\.1\.250\.0-24/);
  assert(lines.length > 0 && lines.length <= 24, `${lines.length} lines`);
  assert.equal(matching(node.agent!, /Restarting the session/).length, 0);
});
