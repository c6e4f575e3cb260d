/** What someone else takes away of the agent's is back within two seconds, and nothing else moves. */
import assert from "node:assert/strict";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import {
  addresses,
  assertHostGw,
  assertVxlan,
  baseAddress,
  eventually,
  HEALING_LIMIT,
  leaseOf,
  link,
  ping,
  storedLeases,
  waitForwarding,
} from "./support.ts";

Deno.test("vxlan heals device, address, routes, neighbours and forwarding database", async () => {
  await using cluster = await Cluster.create({ label: "heal-vx", families: "dual" });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [a, b] = await cluster.attachAll("c1");
  const [one, two] = cluster.nodes;
  await addForeign(one);
  const foreign = await foreignState(one);
  const leases = await storedLeases(cluster);
  const peer = leaseOf(leases, two);
  const own = leaseOf(leases, one);
  const [base, base6] = [baseAddress(peer.subnet!), baseAddress(peer.ipv6Subnet!)];
  const data = peer.value.BackendData!;

  for (
    const damage of [
      `route del ${peer.subnet} dev flannel.1`,
      `-6 route del ${peer.ipv6Subnet} dev flannel-v6.1`,
      `route flush dev flannel.1`,
      `neigh del ${base} dev flannel.1`,
      `-6 neigh del ${base6} dev flannel-v6.1`,
      `neigh replace ${base} lladdr 02:00:00:00:00:09 nud permanent dev flannel.1`,
      `address del ${baseAddress(own.subnet!)}/32 dev flannel.1`,
      `-6 address flush scope global dev flannel-v6.1`,
      `address add 198.18.0.1/32 dev flannel.1`,
      `route add 198.18.7.0/24 dev flannel.1`,
      `link set flannel.1 mtu 1300`,
      `link set flannel.1 down`,
      `link set flannel-v6.1 down`,
      `link set flannel.1 address 02:00:00:00:00:08`,
      `link del flannel.1`,
      `link del flannel-v6.1`,
    ]
  ) {
    await one.ns.run("ip", ...damage.split(" "));
    await healed(damage);
  }
  for (
    const damage of [
      `fdb del ${data.VtepMAC} dev flannel.1 dst ${two.ipv4}`,
      `fdb append 02:00:00:00:00:07 dev flannel.1 dst 192.168.77.99`,
      `fdb replace ${data.VtepMAC} dev flannel.1 dst 192.168.77.99`,
    ]
  ) {
    await one.ns.run("bridge", ...damage.split(" "));
    await healed(damage);
  }
  // A route that an operator puts in the place of ours is the operator's; ours comes back after it.
  const replacement = [String(peer.subnet), "via", "192.168.77.1", "dev", "eth0"];
  await one.ns.run("ip", "route", "replace", ...replacement);
  const place = peer.subnet!.replaceAll(".", "\\.");
  await one.agent!.waitForLine(new RegExp(`^E.* ${place} .*192\\.168\\.77\\.1 dev eth0`));
  assert.match(
    await one.ns.run("ip", "route", "show", peer.subnet!),
    /via 192\.168\.77\.1 dev eth0/,
  );
  await one.ns.run("ip", "route", "del", ...replacement);
  await healed("an operator's route in the place of ours");
  // The containers' bridge is the agent's, too.
  const gateways = await addresses(one.ns, "cni0");
  assert.equal(gateways.length, 2);
  for (
    const damage of [
      "link set cni0 down",
      `address del ${gateways[0]} dev cni0`,
      "link set cni0 mtu 1300",
    ]
  ) {
    await one.ns.run("ip", ...damage.split(" "));
    await eventually(async () => {
      assert.deepEqual(await addresses(one.ns, "cni0"), gateways);
      const bridge = await link(one.ns, "cni0");
      assert.ok(bridge.flags.includes("UP"));
      assert.equal(bridge.mtu, 1430);
    }, { limitMs: HEALING_LIMIT, what: `the bridge after ip ${damage}` });
  }
  assert.deepEqual(await foreignState(one), foreign);
  await eventually(() => ping(a.ns, b.ipv4!));
  await eventually(() => ping(b.ns, a.ipv6!));
  const { body } = await one.health("/metrics");
  assert.ok(Number(/^flanneld_heals_total (\d+)$/m.exec(body)?.[1]) >= 10, body);
  assert.equal(one.agent!.ended, false);

  async function healed(damage: string): Promise<void> {
    await eventually(() => assertVxlan(one, leases), {
      limitMs: HEALING_LIMIT,
      what: `the kernel state after ${damage}`,
    });
  }
});

Deno.test("host-gw heals its routes and leaves those of others", async () => {
  await using cluster = await Cluster.create({
    label: "heal-gw",
    families: "dual",
    network: networkConfig("dual", { Type: "host-gw" }),
  });
  await cluster.startAgents();
  await waitForwarding(cluster, "host-gw");
  const [one, two] = cluster.nodes;
  await addForeign(one);
  const leases = await storedLeases(cluster);
  const peer = leaseOf(leases, two);
  const before = await foreignState(one);
  const isForeign = /198\.51\.100\.0|2001:db8:77::/;
  for (
    const damage of [
      `route del ${peer.subnet}`,
      `-6 route del ${peer.ipv6Subnet}`,
      // The kernel drops the routes of a device that goes down, the operator's own among them.
      `link set eth0 down`,
    ]
  ) {
    await one.ns.run("ip", ...damage.split(" "));
    const down = damage.startsWith("link");
    if (down) {
      await one.ns.run("ip", "link", "set", "eth0", "up");
      await addForeignRoutes(one);
    }
    await eventually(async () => {
      const found = await one.ns.run("ip", "route", "show", String(peer.subnet));
      assert.match(found, new RegExp(`via ${two.ipv4} dev eth0`));
      // IPv6 addresses go with the device, unless the kernel is told to keep them.
      if (down) return;
      const found6 = await one.ns.run("ip", "-6", "route", "show", String(peer.ipv6Subnet));
      assert.match(found6, new RegExp(`via ${two.ipv6} dev eth0`));
    }, { limitMs: HEALING_LIMIT, what: `the routes after ip ${damage}` });
    if (!down) assert.deepEqual(await foreignState(one), before);
  }
  assert.match(await one.ns.run("ip", "route", "show", "dev", "eth0"), isForeign);
  await assertHostGw(two, leases);
});

/** Routes, rules, devices and neighbours that an operator has of one's own. */
async function addForeign(node: Node): Promise<void> {
  const { ns } = node;
  await ns.run("ip", "link", "add", "foreign0", "type", "bridge");
  await ns.run("ip", "link", "set", "foreign0", "up");
  await ns.run("ip", "address", "add", "203.0.113.1/24", "dev", "foreign0");
  await ns.run("ip", "route", "add", "10.1.77.0/24", "dev", "foreign0", "metric", "500");
  await ns.run("ip", "link", "add", "flannel.9", "type", "vxlan", "id", "9", "dstport", "9999");
  await ns.run("ip", "rule", "add", "from", "203.0.113.0/24", "table", "77");
  await ns.run("ip", "route", "add", "default", "dev", "foreign0", "table", "77");
  await ns.run(
    "ip",
    "neigh",
    "add",
    "192.168.77.222",
    "lladdr",
    "02:00:00:00:02:22",
    "dev",
    "eth0",
  );
  await addForeignRoutes(node);
}

async function addForeignRoutes({ ns }: Node): Promise<void> {
  await ns.run("ip", "route", "add", "198.51.100.0/24", "via", "192.168.77.1", "dev", "eth0");
  await ns.run("ip", "-6", "route", "replace", "2001:db8:77::/64", "dev", "eth0");
}

async function foreignState({ ns }: Node): Promise<string[]> {
  const lines: string[] = [];
  for (
    const args of [
      "rule",
      "-6 rule",
      "route show table 77",
      "route show dev foreign0",
      "route show 198.51.100.0/24",
      "route show default",
      "-6 route show 2001:db8:77::/64",
      "-6 route show default",
      "-o link show foreign0",
      "-o link show flannel.9",
      "-4 address show dev foreign0",
      "neigh show nud permanent dev eth0",
    ]
  ) lines.push(await ns.run("ip", ...args.split(" ")));
  return lines;
}
