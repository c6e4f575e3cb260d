/**
 * Which routes a node makes in which table of its VPC, and by how few calls.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AssociateRouteTableCommand,
  CreateRouteTableCommand,
  DeleteRouteTableCommand,
  DisassociateRouteTableCommand,
} from "@aws-sdk/client-ec2";
import { leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, HOUR, MINUTE, mostCallsInFiveMinutes, World } from "./world.ts";

Deno.test("a node that joins makes few calls, an idle one two in 5 minutes at most", async () => {
  await using world = await World.create();
  const one = await world.join(40);
  assert.deepEqual(world.calls(), {
    DescribeInstances: 1,
    ModifyNetworkInterfaceAttribute: 1,
    DescribeRouteTables: 1,
    CreateRoute: 1,
  });
  assert.equal(await aws.sourceDestCheck(one.instance), false);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${one.instance.eniId} active`]);
  await world.clock.pass(MINUTE);
  assert.ok(await mostCallsInFiveMinutes(world) <= 2);
});

Deno.test("of several network interfaces that with the address gets the route, and its own check", async () => {
  await using world = await World.create();
  const first = await world.launch("172.31.28.40");
  const second = await aws.attach(first, world.subnet, "172.31.28.41");
  const node = world.start(second, leaseOf("10.1.41.0/24", second.ip));
  await world.clock.rest();
  await node.routes.ready;
  assert.deepEqual(await world.routes(), [`10.1.41.0/24 ${second.eniId} active`]);
  assert.equal(world.calls().ModifyNetworkInterfaceAttribute, 1);
  assert.equal(await aws.sourceDestCheck(second), false);
  assert.equal(await aws.sourceDestCheck(first), true);
});

Deno.test("a table that is gone is missed at the next look, and the subnet's other one filled", async () => {
  await using world = await World.create();
  const made = await aws.client.send(new CreateRouteTableCommand({ VpcId: world.vpc.vpcId }));
  const RouteTableId = made.RouteTable!.RouteTableId!;
  const { AssociationId } = await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId, SubnetId: world.subnet.subnetId }),
  );
  const node = await world.join(40);
  await aws.client.send(new DisassociateRouteTableCommand({ AssociationId }));
  await aws.client.send(new DeleteRouteTableCommand({ RouteTableId }));
  await world.clock.pass(6 * MINUTE);
  assert.deepEqual(world.log.matching(/^[EW]/), [
    `W ${world.subnet.subnetId} is now routed by ${world.table}, no longer by ${RouteTableId}`,
  ]);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
});

Deno.test("a network that overlaps the VPC's own is warned of once", async () => {
  await using world = await World.create();
  await world.join(40, { network: { Network: "172.31.128.0/17" } });
  await world.clock.pass(HOUR);
  assert.deepEqual(world.log.matching(/^W/), [
    "W The network 172.31.128.0/17 overlaps 172.31.0.0/16, which is the VPC's own: EC2 accepts no " +
    "routes there; choose a Network outside of the VPC",
  ]);
});

Deno.test("a table of another VPC is refused by name", async () => {
  await using world = await World.create();
  const other = await aws.createVpc("10.99.0.0/16");
  const instance = await world.launch("172.31.28.40");
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip), {
    tableIds: [other.mainTableId],
  });
  await assert.rejects(node.running, {
    name: "ConfigError",
    message: `Backend.RouteTableID: ${other.mainTableId} (in ${other.vpcId}): name a route table ` +
      `of ${world.vpc.vpcId}, where this node is, or none, for the one that its VPC subnet follows`,
  });
});

Deno.test("both families, where the VPC has them", async () => {
  await using world = await World.create({ ipv6: true });
  const instance = await world.launch("172.31.28.40");
  const lease = leaseOf("10.1.40.0/24", instance.ip, "fd00:1:0:40::/64");
  const network = { EnableIPv6: true, IPv6Network: "fd00:1::/48" };
  const node = world.start(instance, lease, { network });
  await world.clock.rest();
  await node.routes.ready;
  const expected = [
    `10.1.40.0/24 ${instance.eniId} active`,
    `fd00:1:0:40::/64 ${instance.eniId} active`,
  ];
  assert.deepEqual(await world.routes(), expected);
  await world.clock.pass(HOUR);
  assert.equal(world.calls().CreateRoute, 2);
});

Deno.test("an instance that was replaced: the new one takes the route, with the same subnet", async () => {
  await using world = await World.create();
  const old = await world.join(40);
  await world.stop(old);
  await aws.terminate(old.instance);
  const instance = await world.launch("172.31.28.99");
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.rest();
  await node.routes.ready;
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
  assert.ok(world.log.lines.includes(
    `I Route replaced in table ${world.table}: 10.1.40.0/24 - ${instance.eniId}, no longer ` +
      `${old.instance.eniId}.`,
  ));
});
