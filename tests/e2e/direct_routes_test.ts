/** Which peers are reached without encapsulation: as the kernel's own routes to them say. */
import assert from "node:assert/strict";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { type NetNs, veth } from "../../testbed/netns.ts";
import { eventually, ping } from "./support.ts";

const A = "192.168.77.11";
const B = "192.168.77.12";

/** Two nodes on one link, which can route each other's packets through a router of theirs instead. */
async function cluster(label: string, backend: Record<string, unknown> & { Type: string }) {
  const world = await Cluster.create({ label, network: networkConfig("ipv4", backend) });
  const [a, b] = world.nodes;
  return { world, a, b, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

/** The router has the switch's namespace; packets to B that come to it go on to B. */
async function throughRouter(world: Cluster, from: NetNs, to: string): Promise<void> {
  await makeRouter(world);
  await from.run("ip", "route", "add", `${to}/32`, "via", "192.168.77.1", "dev", "eth0");
}

/** Lets the switch's namespace forward packets, and keep to itself that there is a shorter way. */
async function makeRouter(world: Cluster): Promise<void> {
  for (
    const setting of ["ip_forward=1", "conf.all.send_redirects=0", "conf.br0.send_redirects=0"]
  ) {
    await world.switch.run("sysctl", "-qw", `net.ipv4.${setting}`);
  }
}

/** The device and gateway of the route to a subnet. */
async function hop(ns: NetNs, subnet: string): Promise<string> {
  const text = await ns.run("ip", "route", "show", subnet);
  return text.trim().replace(/ proto \S+| metric \d+|^\S+ /g, "").trim();
}

async function subnets(...nodes: { env(): Promise<Record<string, string>> }[]): Promise<string[]> {
  const files = await Promise.all(nodes.map((node) => node.env()));
  return files.map(({ FLANNEL_SUBNET }) => FLANNEL_SUBNET.replace(".1/", ".0/"));
}

Deno.test("DirectRouting: a host route through a gateway means VXLAN, its end a direct route again", async () => {
  await using cloud = await cluster("direct4", { Type: "vxlan", DirectRouting: true });
  const { world, a, b } = cloud;
  await throughRouter(world, a.ns, B);
  await world.startAgents();
  const [ofA, ofB] = await subnets(a, b);
  const [one, two] = await world.attachAll("c1");
  await eventually(async () => {
    assert.match(await hop(a.ns, ofB), /dev flannel\.1 onlink$/);
    assert.equal(await hop(b.ns, ofA), `via ${A} dev eth0`);
  });
  await eventually(() => ping(one.ns, two.ipv4!));

  // While it runs: the route goes, and comes back.
  await a.ns.run("ip", "route", "del", `${B}/32`);
  await eventually(async () => assert.equal(await hop(a.ns, ofB), `via ${B} dev eth0`));
  await ping(one.ns, two.ipv4!);
  await throughRouter(world, a.ns, B);
  await eventually(async () => assert.match(await hop(a.ns, ofB), /dev flannel\.1 onlink$/));
  await eventually(() => ping(one.ns, two.ipv4!));

  // A rule that leads to another table counts as well.
  await a.ns.run("ip", "route", "del", `${B}/32`);
  await eventually(async () => assert.equal(await hop(a.ns, ofB), `via ${B} dev eth0`));
  await a.ns.run("ip", "route", "add", `${B}/32`, "via", "192.168.77.1", "table", "77");
  await a.ns.run("ip", "rule", "add", "to", B, "lookup", "77");
  await eventually(async () => assert.match(await hop(a.ns, ofB), /dev flannel\.1 onlink$/));
  await eventually(() => ping(one.ns, two.ipv4!));
});

for (
  const [what, address, route] of [
    ["a /32 address and a route to the peer", [`${A}/32`], [`${B}/32`, "dev", "eth0"]],
    ["a point-to-point address", [A, "peer", B], undefined],
  ] as const
) {
  Deno.test(`host-gw: ${what}`, async () => {
    await using cloud = await cluster("hostgw32", { Type: "host-gw" });
    const { world, a, b } = cloud;
    await makeRouter(world);
    await a.ns.run("ip", "address", "flush", "dev", "eth0");
    await a.ns.run("ip", "address", "add", ...address, "dev", "eth0");
    if (route) await a.ns.run("ip", "route", "add", ...route);
    await a.ns.run("ip", "route", "add", "192.168.77.1", "dev", "eth0");
    await a.ns.run("ip", "route", "add", "192.168.77.0/24", "via", "192.168.77.1");
    await a.ns.run("ip", "route", "add", "default", "via", "192.168.77.1");
    await world.startAgents();
    const [ofA, ofB] = await subnets(a, b);
    await eventually(async () => {
      assert.equal(await hop(a.ns, ofB), `via ${B} dev eth0`);
      assert.equal(await hop(b.ns, ofA), `via ${A} dev eth0`);
    });
    const [one, two] = await world.attachAll("c1");
    await eventually(() => ping(one.ns, two.ipv4!));
    await ping(two.ns, one.ipv4!);
  });
}

Deno.test("host-gw: a peer behind a gateway is skipped by name, and routed once it is on the link", async () => {
  await using cloud = await cluster("hostgwfar", { Type: "host-gw" });
  const { world, a, b } = cloud;
  await throughRouter(world, a.ns, B);
  const [agent] = await world.startAgents();
  const [, ofB] = await subnets(a, b);
  await agent.waitForLine(
    /the route to 192\.168\.77\.12 goes through the gateway 192\.168\.77\.1: host-gw needs all/,
  );
  assert.equal(await hop(a.ns, ofB), "");
  await a.ns.run("ip", "route", "del", `${B}/32`);
  await eventually(async () => assert.equal(await hop(a.ns, ofB), `via ${B} dev eth0`));
  const [one, two] = await world.attachAll("c1");
  await eventually(() => ping(one.ns, two.ipv4!));
});

Deno.test("host-gw: peers on a second link are routed by its device", async () => {
  await using cloud = await cluster("hostgwtwo", { Type: "host-gw" });
  const { world, a, b } = cloud;
  // Both hosts have a link of their own beside the one that the agents chose.
  await veth(
    { ns: a.ns, dev: "eth1", addresses: ["10.77.0.1/30"] },
    { ns: b.ns, dev: "eth1", addresses: ["10.77.0.2/30"] },
  );
  await a.ns.run("ip", "route", "add", `${B}/32`, "dev", "eth1");
  await b.ns.run("ip", "route", "add", `${A}/32`, "dev", "eth1");
  await world.startAgents();
  const [, ofB] = await subnets(a, b);
  await eventually(async () => assert.equal(await hop(a.ns, ofB), `via ${B} dev eth1`));
  const [one, two] = await world.attachAll("c1");
  await eventually(() => ping(one.ns, two.ipv4!));
});
