/**
 * Route tables that do not fit: nodes in VPC subnets with tables of their own, named ones that miss
 * some, strangers' routes over a lease, and VPCs with many tables.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AssociateRouteTableCommand,
  CreateInternetGatewayCommand,
  CreateRouteTableCommand,
  DeleteRouteCommand,
} from "@aws-sdk/client-ec2";
import { EC2_ERRORS, type Subnet } from "../../testbed/aws.ts";
import { type AwsNodeOptions, leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, foreignRoute, HOUR, MINUTE, World } from "./world.ts";

/** A VPC with a second subnet, which has a route table of its own. */
async function twoTables(): Promise<{ world: World; second: Subnet; table: string }> {
  const world = await World.create({ ipv6: true });
  const table = await makeTable(world);
  const second = await aws.createSubnet(world.vpc, "172.31.32.0/20", undefined);
  await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId: table, SubnetId: second.subnetId }),
  );
  return { world, second, table };
}

async function makeTable(world: World): Promise<string> {
  const { RouteTable: made } = await aws.client.send(
    new CreateRouteTableCommand({ VpcId: world.vpc.vpcId }),
  );
  return made!.RouteTableId!;
}

/** Starts the nth node in a subnet. */
async function startIn(world: World, subnet: Subnet, n: number, options?: AwsNodeOptions) {
  const ip = subnet.cidr.replace(/\.0\/20$/, `.${n}`);
  const instance = await aws.launch(subnet, { ip });
  const node = world.start(instance, leaseOf(`10.1.${n}.0/24`, ip), options);
  await world.clock.rest();
  await node.routes.ready;
  return node;
}

async function gateway(): Promise<string> {
  const { InternetGateway: made } = await aws.client.send(new CreateInternetGatewayCommand({}));
  return made!.InternetGatewayId!;
}

const warnings = (world: World) => world.log.matching(/^[EW]|^I Recovered/);

Deno.test("nodes in VPC subnets with tables of their own: both name the tables and the list", async () => {
  const { world: made, second, table } = await twoTables();
  await using world = made;
  const one = await startIn(world, world.subnet, 40);
  const two = await startIn(world, second, 41);
  await world.clock.pass(10 * MINUTE);
  const list = JSON.stringify([world.table, table].sort());
  const line = (own: string, subnet: string, peer: string, other: string) =>
    `W route table ${own}, which this node's VPC subnet ${subnet} follows, has no route to ` +
    `${peer}, but ${other} does: packets between this node and those peers are lost; set ` +
    `"RouteTableID": ${list} in the network config's Backend (flanneld config set) and restart ` +
    "the agents, so that every node fills all of these tables";
  assert.deepEqual(
    warnings(world).sort(),
    [
      line(world.table, world.subnet.subnetId, "10.1.41.0/24", table),
      line(table, second.subnetId, "10.1.40.0/24", world.table),
    ].sort(),
  );

  // What it advises mends it.
  await world.stop(one);
  await world.stop(two);
  world.log.lines.splice(0);
  const tableIds = [world.table, table];
  world.start(one.instance, one.lease, { tableIds });
  world.start(two.instance, two.lease, { tableIds });
  await world.clock.pass(HOUR);
  assert.deepEqual(warnings(world), []);
  for (const id of tableIds) assert.equal((await world.routes(id)).length, 2);
});

Deno.test("somebody makes the missing route: the node says that it recovered", async () => {
  const { world: made, second } = await twoTables();
  await using world = made;
  await startIn(world, world.subnet, 40);
  const two = await startIn(world, second, 41);
  await world.clock.pass(10 * MINUTE);
  world.log.lines.splice(0);
  await foreignRoute(world.table, "10.1.41.0/24", { NetworkInterfaceId: two.instance.eniId });
  await world.clock.pass(10 * MINUTE);
  assert.deepEqual(warnings(world), [
    `I Recovered: the routes to peers in route table ${world.table}`,
  ]);
  await world.clock.pass(HOUR);
  assert.equal(warnings(world).length, 1);
});

Deno.test("a node that starts again warns within a minute, though it sets no route", async () => {
  const { world: made, second } = await twoTables();
  await using world = made;
  const one = await startIn(world, world.subnet, 40);
  await startIn(world, second, 41);
  await world.clock.pass(10 * MINUTE);
  await world.stop(one);
  world.log.lines.splice(0);
  world.start(one.instance, one.lease);
  await world.clock.pass(MINUTE);
  assert.equal(warnings(world).length, 1);
});

Deno.test("a peer whose route is about to come is no reason to warn", async () => {
  const { world: made, second, table } = await twoTables();
  await using world = made;
  const tableIds = [world.table, table];
  await startIn(world, world.subnet, 40, { tableIds });
  await world.clock.pass(10 * MINUTE);
  // For a moment EC2 lets the new node write to the second table alone.
  const refusing = aws.proxy.answer(
    "CreateRoute",
    EC2_ERRORS.throttled,
    Infinity,
    (params) => params.get("RouteTableId") === world.table,
  );
  const ip = "172.31.32.41";
  const instance = await aws.launch(second, { ip });
  await foreignRoute(table, "10.1.41.0/24", { NetworkInterfaceId: instance.eniId });
  world.start(instance, leaseOf("10.1.41.0/24", ip), { tableIds });
  await world.clock.pass(5_000);
  refusing[Symbol.dispose]();
  await world.clock.pass(HOUR);
  assert.deepEqual(
    warnings(world).filter((line) => !/RequestLimitExceeded|routes are correct/.test(line)),
    [],
  );
});

Deno.test("a VPC subnet that is given another table: the nodes follow, and nothing is missed", async () => {
  await using world = await World.create();
  const one = await world.join(40);
  await world.clock.pass(2 * MINUTE);
  const two = await world.join(41);
  await world.clock.pass(10 * MINUTE);
  const table = await makeTable(world);
  await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId: table, SubnetId: world.subnet.subnetId }),
  );
  await world.clock.pass(HOUR);
  const moved = `W ${world.subnet.subnetId} is now routed by ${table}, no longer by ${world.table}`;
  assert.deepEqual(warnings(world), [moved, moved]);
  assert.deepEqual(await world.routes(table), [
    `10.1.40.0/24 ${one.instance.eniId} active`,
    `10.1.41.0/24 ${two.instance.eniId} active`,
  ]);
});

Deno.test("named tables without the one that the node's VPC subnet follows", async () => {
  const { world: made, second, table } = await twoTables();
  await using world = made;
  await startIn(world, world.subnet, 40, { tableIds: [world.table] });
  await startIn(world, second, 41, { tableIds: [world.table] });
  await world.clock.pass(HOUR);
  const list = JSON.stringify([world.table, table]);
  assert.deepEqual(warnings(world), [
    `W this node's VPC subnet ${second.subnetId} follows route table ${table}, which RouteTableID ` +
    `does not name: packets from this node's containers to other nodes are lost; set ` +
    `"RouteTableID": ${list} in the network config's Backend (flanneld config set) and restart ` +
    "the agents, so that every node fills all of these tables",
  ]);
});

Deno.test("one of the named tables is of another VPC, another is gone: passed by name", async () => {
  await using world = await World.create();
  const other = await aws.createVpc("10.99.0.0/16");
  const gone = "rtb-0123456789abcdef0";
  const node = await world.join(40, { tableIds: [other.mainTableId, world.table, gone] });
  await world.clock.pass(HOUR);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
  assert.deepEqual(await world.routes(other.mainTableId), []);
  assert.deepEqual(warnings(world), [
    `W RouteTableID names ${other.mainTableId} (in ${other.vpcId}) and ${gone} (not in this ` +
    `account and region): this node, in ${world.vpc.vpcId}, ignores them; remove tables that no node ` +
    "needs from RouteTableID in the network config",
  ]);
  // The strays cost one call, once.
  assert.ok(world.calls().DescribeRouteTables <= 17, JSON.stringify(world.calls()));
});

Deno.test("a more specific route over this node's and a peer's subnet, until it is gone", async () => {
  await using world = await World.create();
  const one = await world.join(40);
  await world.join(41);
  await world.clock.pass(10 * MINUTE);
  assert.deepEqual(warnings(world), []);
  await foreignRoute(world.table, "10.1.40.128/25", { GatewayId: await gateway() });
  await world.stop(world.nodes[1]);
  await world.clock.pass(HOUR);
  const [line, ...more] = warnings(world);
  assert.deepEqual(more, []);
  assert.match(
    line,
    new RegExp(
      `^W route table ${world.table} routes 10\\.1\\.40\\.128/25, a part of this node's subnet ` +
        "10\\.1\\.40\\.0/24, to igw-\\w+: packets to there never reach the node; remove that route " +
        `\\(aws ec2 delete-route --route-table-id ${world.table} --destination-cidr-block ` +
        "10\\.1\\.40\\.128/25\\), or keep the subnet out of SubnetMin and SubnetMax$",
    ),
  );
  await aws.client.send(
    new DeleteRouteCommand({ RouteTableId: world.table, DestinationCidrBlock: "10.1.40.128/25" }),
  );
  await world.clock.pass(10 * MINUTE);
  assert.deepEqual(warnings(world).slice(1), [
    `I Recovered: the routes to leased subnets in route table ${world.table}`,
  ]);
  assert.equal((await world.routes())[0], `10.1.40.0/24 ${one.instance.eniId} active`);
});

Deno.test("a VPC with hundreds of tables: few calls, its own found, and the peers' too", async () => {
  const { world: made, second, table } = await twoTables();
  await using world = made;
  // The node's table is the main one, which comes first; the second subnet's is in the first page.
  await Promise.all(Array.from({ length: 250 }, () => makeTable(world)));
  const one = await startIn(world, world.subnet, 40);
  await startIn(world, second, 41);
  const late = await makeTable(world);
  const third = await aws.createSubnet(world.vpc, "172.31.48.0/20", undefined);
  await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId: late, SubnetId: third.subnetId }),
  );
  await world.clock.pass(10 * MINUTE);
  assert.ok(
    warnings(world).some((line) => line.includes(JSON.stringify([world.table, table].sort()))),
  );
  assert.equal((await world.routes())[0], `10.1.40.0/24 ${one.instance.eniId} active`);
  const before = world.calls().DescribeRouteTables;
  await world.clock.pass(HOUR);
  // 12 looks of each of the two nodes. Two read five pages, and which table a subnet follows that has
  // none of its own takes two calls more.
  const calls = world.calls().DescribeRouteTables - before;
  assert.ok(calls <= 2 * (10 + 2 * 7), `${calls}`);
  // A node whose table is on no page that is read.
  const lone = await startIn(world, third, 42);
  assert.deepEqual(await world.routes(late), [`10.1.42.0/24 ${lone.instance.eniId} active`]);
});
