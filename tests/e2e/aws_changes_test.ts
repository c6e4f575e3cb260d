/** What changes around a node of aws-vpc while its agent runs, or between two runs. */
import assert from "node:assert/strict";
import {
  AssignPrivateIpAddressesCommand,
  AssociateRouteTableCommand,
  CreateRouteTableCommand,
  UnassignPrivateIpAddressesCommand,
} from "@aws-sdk/client-ec2";
import type { Instance } from "../../testbed/aws.ts";
import type { Node } from "../../testbed/cluster.ts";
import { veth } from "../../testbed/netns.ts";
import { type Cloud, cloud } from "./aws_cloud.ts";
import { eventually, link, storedLeases } from "./support.ts";

/** Milliseconds within which a change that the kernel reports has reached the route table. */
const FOLLOWED = 30_000;

/** What the first node's address becomes. */
const NEW_ADDRESS = "192.168.77.50";

/** Milliseconds after its first route within which an agent looks at the route tables again. */
const CONFIRMED = 60_000;

/** `10.1.40.0/24 eni-…`, sorted; those of the main table by default. */
async function routesOf({ aws, vpc }: Cloud, tableId = vpc.mainTableId): Promise<string[]> {
  return (await aws.routes(tableId)).map(({ destination, target }) => `${destination} ${target}`)
    .sort();
}

/** An instance is gone; another one has the next address, first {@linkcode NEW_ADDRESS}. */
async function replaceInstance({ aws }: Cloud, old: Instance): Promise<Instance> {
  await aws.terminate(old);
  return await aws.launch(old, { ip: old.ip === NEW_ADDRESS ? "192.168.77.51" : NEW_ADDRESS });
}

/** What the instance's DHCP client does. */
async function readdress({ ns }: Node, ip: string): Promise<void> {
  await ns.run("ip", "address", "flush", "dev", "eth0");
  await ns.run("ip", "address", "add", `${ip}/24`, "dev", "eth0");
  await ns.run("ip", "route", "add", "default", "via", "192.168.77.1");
}

async function subnetOf(node: Node): Promise<string> {
  return (await node.env()).FLANNEL_SUBNET.replace(".1/", ".0/");
}

Deno.test("an address that moves to another interface takes the route along", async () => {
  await using world = await cloud({ label: "awseni" });
  const { aws, cluster, instances: [first], env } = world;
  const [node] = cluster.nodes;
  const { client } = aws;
  const second = await aws.attach(first, first, "192.168.77.111");
  const PrivateIpAddresses = [NEW_ADDRESS];
  await client.send(
    new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: first.eniId, PrivateIpAddresses }),
  );
  await node.ns.run("ip", "address", "add", `${NEW_ADDRESS}/24`, "dev", "eth0");
  await veth({ ns: node.ns, dev: "eth1" }, { ns: cluster.switch, dev: "p9" }, { mtu: 9001 });
  node.startAgent({ env, args: [`--iface=${NEW_ADDRESS}`] });
  await node.waitReady(60_000);
  const overlay = await subnetOf(node);
  assert.deepEqual(await routesOf(world), [`${overlay} ${first.eniId}`]);

  await client.send(
    new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId: first.eniId, PrivateIpAddresses }),
  );
  await client.send(
    new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: second.eniId, PrivateIpAddresses }),
  );
  await node.ns.run("ip", "address", "del", `${NEW_ADDRESS}/24`, "dev", "eth0");
  await node.ns.run("ip", "address", "add", `${NEW_ADDRESS}/24`, "dev", "eth1");
  await eventually(async () => {
    assert.deepEqual(await routesOf(world), [`${overlay} ${second.eniId}`]);
  }, { limitMs: FOLLOWED, what: "the route to follow" });
  assert.equal(await aws.sourceDestCheck(second), false);
  assert.equal(await subnetOf(node), overlay);
});

Deno.test("an address that changes while the agent runs: the lease and the route follow", async () => {
  await using world = await cloud({ label: "awsreaddress", nodes: 2, changing: true });
  const { aws, cluster, instances: [old, other], roles: [role], env } = world;
  const [node, peer] = cluster.nodes;
  await cluster.startAgents({ env });
  const [overlay, kept] = [await subnetOf(node), `${await subnetOf(peer)} ${other.eniId}`];
  assert.deepEqual(await routesOf(world), [`${overlay} ${old.eniId}`, kept].sort());

  const instance = await replaceInstance(world, old);
  role.instance = instance;
  await readdress(node, instance.ip);
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    assert.equal(leases.find(({ subnet }) => subnet === overlay)?.value.PublicIP, NEW_ADDRESS);
    assert.deepEqual(await routesOf(world), [`${overlay} ${instance.eniId}`, kept].sort());
  }, { limitMs: FOLLOWED, what: "the route to follow" });
  assert.equal(await aws.sourceDestCheck(instance), false);
});

Deno.test("a node that comes back with another address: the route follows, or a new one is made", async () => {
  await using world = await cloud({ label: "awsstopped", nodes: 2, changing: true });
  const { aws, cluster, instances: [, other], roles: [role], env } = world;
  const [node, peer] = cluster.nodes;
  await cluster.startAgents({ env });
  const [before, kept] = [await subnetOf(node), `${await subnetOf(peer)} ${other.eniId}`];
  const comeBack = async (): Promise<Instance> => {
    node.agent!.kill("SIGKILL");
    await node.agent!.status;
    role.instance = await replaceInstance(world, role.instance);
    await readdress(node, role.instance.ip);
    return role.instance;
  };

  const second = await comeBack();
  node.startAgent({ env });
  await eventually(async () => {
    assert.deepEqual(await routesOf(world), [`${before} ${second.eniId}`, kept].sort());
  }, { limitMs: FOLLOWED, what: "the route to follow" });
  assert.equal(await aws.sourceDestCheck(second), false);

  // What is in /run is gone after a reboot; the lease by the old address is etcd's until it ends.
  const third = await comeBack();
  await Deno.remove(node.subnetFile);
  await Deno.remove(`${node.subnetFile}.lease`);
  node.startAgent({ env });
  await node.waitReady(60_000);
  const now = await subnetOf(node);
  assert.notEqual(now, before);
  await eventually(async () => {
    assert.deepEqual(await routesOf(world), [`${now} ${third.eniId}`, kept].sort());
  }, { limitMs: FOLLOWED, what: "the old route to go" });
});

Deno.test("a VPC subnet that is given another route table: the route moves there", async () => {
  await using world = await cloud({ label: "awstable2" });
  const { aws, cluster, vpc, instances: [{ eniId, subnetId }], env } = world;
  const [node] = cluster.nodes;
  node.startAgent({ env });
  await node.waitReady(60_000);
  const route = `${await subnetOf(node)} ${eniId}`;
  assert.deepEqual(await routesOf(world), [route]);

  const { client } = aws;
  const made = await client.send(new CreateRouteTableCommand({ VpcId: vpc.vpcId }));
  const RouteTableId = made.RouteTable!.RouteTableId!;
  await client.send(new AssociateRouteTableCommand({ RouteTableId, SubnetId: subnetId }));
  await eventually(async () => {
    assert.deepEqual(await routesOf(world, RouteTableId), [route]);
    assert.deepEqual(await routesOf(world), []);
  }, { limitMs: 2 * CONFIRMED, what: "the route to move" });
  await node.agent!.waitForLine(
    new RegExp(`${subnetId} is now routed by ${RouteTableId}, no longer by ${vpc.mainTableId}`),
  );
});

Deno.test("Backend.MTU lowers the containers' MTU and leaves the interface's; a new one is followed", async () => {
  await using world = await cloud({ label: "awsmtu", backend: { MTU: 8500 } });
  const { cluster: { nodes: [node] }, env } = world;
  node.startAgent({ env });
  await node.waitReady(60_000);
  assert.equal((await node.env()).FLANNEL_MTU, "8500");
  assert.deepEqual([(await link(node.ns, "cni0")).mtu, (await link(node.ns, "eth0")).mtu], [
    8500,
    9001,
  ]);
  await node.ns.run("ip", "link", "set", "eth0", "mtu", "1500");
  await eventually(async () => {
    assert.equal((await node.env()).FLANNEL_MTU, "1500");
    assert.equal((await link(node.ns, "cni0")).mtu, 1500);
  }, { limitMs: FOLLOWED });
});
