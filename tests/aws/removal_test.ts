/**
 * Routes that go: of ended leases, replaced instances, former subnets; and those that stay.
 *
 * @module
 */
import assert from "node:assert/strict";
import { CreateInternetGatewayCommand, DeleteRouteCommand } from "@aws-sdk/client-ec2";
import { EC2_ERRORS } from "../../testbed/aws.ts";
import { type AwsNode, leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, foreignRoute, HOUR, MINUTE, redirectRoute, World } from "./world.ts";

Deno.test("black holes go, and nothing else that is not its own", async () => {
  await using world = await World.create();
  const gone = await world.launch("172.31.28.98");
  const stranger = await world.launch("172.31.28.97");
  await foreignRoute(world.table, "10.1.98.0/24", { NetworkInterfaceId: gone.eniId });
  await foreignRoute(world.table, "10.9.98.0/24", { NetworkInterfaceId: gone.eniId });
  await foreignRoute(world.table, "10.1.97.0/24", { NetworkInterfaceId: stranger.eniId });
  await aws.terminate(gone);
  const node = await world.join(40);
  await world.clock.pass(HOUR);
  assert.deepEqual(await world.routes(), [
    `10.1.40.0/24 ${node.instance.eniId} active`,
    `10.1.97.0/24 ${stranger.eniId} active`,
    `10.9.98.0/24 ${gone.eniId} blackhole`,
  ]);
  assert.equal(world.calls().DeleteRoute, 1);
  assert.match(world.log.matching(/Route removed/)[0], /10\.1\.98\.0\/24 - eni-\w+ \(black hole\)/);
});

Deno.test("a peer's route goes after its lease, once, by few calls, although all have seen it", async () => {
  await using world = await World.create();
  const nodes: AwsNode[] = [];
  for (let n = 1; n <= 8; n++) nodes.push(await world.join(n));
  await world.clock.pass(2 * MINUTE);
  const [first, ...rest] = nodes;
  await world.stop(first);
  const from = aws.proxy.calls.length;
  world.setLeases(world.leases.filter(({ key }) => key !== first.lease.key));
  await world.clock.pass(MINUTE);
  assert.deepEqual(
    await world.routes(),
    rest.map(({ instance, lease }) => `${lease.subnet} ${instance.eniId} active`),
  );
  const { DeleteRoute, DescribeRouteTables } = aws.proxy.count(from);
  assert.equal(DeleteRoute, 1);
  assert.ok(DescribeRouteTables <= 3, `${DescribeRouteTables}`);
});

Deno.test("whoever is second at removing a route says nothing", async () => {
  await using world = await World.create();
  await world.join(1);
  const other = await world.join(2);
  await world.stop(other);
  using _faster = aws.proxy.answer(
    "DeleteRoute",
    EC2_ERRORS.routeNotFound(world.table, "10.1.2.0/24"),
  );
  world.setLeases(world.leases.slice(0, 1));
  await world.clock.pass(MINUTE);
  assert.equal(world.calls().DeleteRoute, 1);
  assert.deepEqual(world.log.matching(/Route removed|^[EW]/), []);
});

Deno.test("an ended lease's route that leads to a new owner stays", async () => {
  await using world = await World.create();
  await world.join(1);
  const other = await world.join(2);
  await world.stop(other);
  const owner = await world.launch("172.31.28.99");
  await redirectRoute(world.table, "10.1.2.0/24", owner.eniId);
  world.setLeases(world.leases.slice(0, 1));
  await world.clock.pass(HOUR);
  assert.equal((await world.routes())[1], `10.1.2.0/24 ${owner.eniId} active`);
});

Deno.test("its own route is back soon after another has removed it in passing", async () => {
  await using world = await World.create();
  const node = await world.join(40);
  const deletion = { RouteTableId: world.table, DestinationCidrBlock: "10.1.40.0/24" };
  await aws.client.send(new DeleteRouteCommand(deletion));
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
  await world.clock.pass(MINUTE);
  // Later it is the interval's check that finds it.
  await aws.client.send(new DeleteRouteCommand(deletion));
  await world.clock.pass(6 * MINUTE);
  assert.equal((await world.routes()).length, 1);
});

Deno.test("a subnet that this node had before loses its route", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  await foreignRoute(world.table, "10.1.39.0/24", { NetworkInterfaceId: instance.eniId });
  world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.rest();
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
});

Deno.test("a route of our subnet to what no node has is told, and stays", async () => {
  await using world = await World.create();
  const { InternetGateway: gateway } = await aws.client.send(new CreateInternetGatewayCommand({}));
  const GatewayId = gateway!.InternetGatewayId!;
  await foreignRoute(world.table, "10.1.40.0/24", { GatewayId });
  const instance = await world.launch("172.31.28.40");
  world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${GatewayId} active`]);
  assert.match(
    world.log.matching(/^E/)[0],
    new RegExp(
      `routes 10\\.1\\.40\\.0/24, this node's subnet, to ${GatewayId}, which does not belong to a node: remove`,
    ),
  );
});
