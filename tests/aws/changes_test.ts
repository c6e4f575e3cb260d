/**
 * What changes in the VPC under a running node: tables, interfaces, addresses, and other nodes.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AssignPrivateIpAddressesCommand,
  AssociateRouteTableCommand,
  CreateRouteTableCommand,
  DisassociateRouteTableCommand,
  ReplaceRouteTableAssociationCommand,
  UnassignPrivateIpAddressesCommand,
} from "@aws-sdk/client-ec2";
import { EC2_ERRORS, type Instance } from "../../testbed/aws.ts";
import { type AwsNode, leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, HOUR, MINUTE, redirectRoute, World } from "./world.ts";

/** Milliseconds within which a node notices another route table, or another network interface. */
const TABLE_NOTICED = 5.5 * MINUTE;
const INTERFACE_NOTICED = 33 * MINUTE;
/** Milliseconds after a route was set within which the tables are read again. */
const CONFIRMED = 40_000;

async function newTable(world: World): Promise<string> {
  const made = await aws.client.send(new CreateRouteTableCommand({ VpcId: world.vpc.vpcId }));
  return made.RouteTable!.RouteTableId!;
}

async function associate(world: World, tableId: string): Promise<string> {
  const { AssociationId } = await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId: tableId, SubnetId: world.subnet.subnetId }),
  );
  return AssociationId!;
}

/** A node whose address is a secondary one of its instance. */
async function joinBySecondary(world: World, instance: Instance, ip: string): Promise<AwsNode> {
  await assign(instance, ip);
  const node = world.start({ ...instance, ip }, leaseOf("10.1.40.0/24", ip));
  await world.clock.rest();
  await node.routes.ready;
  return node;
}

async function assign({ eniId }: Instance, ip: string): Promise<void> {
  await aws.client.send(
    new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: eniId, PrivateIpAddresses: [ip] }),
  );
}

async function unassign({ eniId }: Instance, ip: string): Promise<void> {
  await aws.client.send(
    new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId: eniId, PrivateIpAddresses: [ip] }),
  );
}

Deno.test("a VPC subnet that is given another table: all its nodes' routes move there", async () => {
  await using world = await World.create();
  const [one, other] = [await newTable(world), await newTable(world)];
  const AssociationId = await associate(world, one);
  for (const n of [40, 41, 42]) await world.join(n);
  const expected = world.nodes.map(({ instance, lease }) =>
    `${lease.subnet} ${instance.eniId} active`
  );
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(one), expected);
  await aws.client.send(
    new ReplaceRouteTableAssociationCommand({ AssociationId, RouteTableId: other }),
  );
  await world.clock.pass(TABLE_NOTICED);
  assert.deepEqual(await world.routes(other), expected);
  // A node leaves the old table when no peer may follow it any more.
  await world.clock.pass(TABLE_NOTICED);
  assert.deepEqual(await world.routes(one), []);
  assert.equal(world.log.matching(/^W .* is now routed by .*, no longer by/).length, 3);
  assert.equal(world.log.matching(/Route removed .* \(left for another table\)/).length, 3);
  assert.deepEqual(world.log.matching(/^E/), []);
});

Deno.test("a VPC subnet that loses its own table: the route moves to the main one", async () => {
  await using world = await World.create();
  const own = await newTable(world);
  const AssociationId = await associate(world, own);
  const { instance: { eniId } } = await world.join(40);
  await aws.client.send(new DisassociateRouteTableCommand({ AssociationId }));
  await world.clock.pass(TABLE_NOTICED);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${eniId} active`]);
  await world.clock.pass(CONFIRMED);
  assert.deepEqual(await world.routes(own), []);
});

Deno.test("a table that may not be written any more is left, with one warning", async () => {
  await using world = await World.create();
  const { instance: { eniId } } = await world.join(40);
  await associate(world, await newTable(world));
  using _forbidden = aws.proxy.answer("DeleteRoute", EC2_ERRORS.unauthorized);
  await world.clock.pass(HOUR);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${eniId} active`]);
  const [moved, ...warnings] = world.log.matching(/^[EW]/);
  assert.match(moved, /is now routed by/);
  assert.equal(warnings.length, 1, warnings.join("\n"));
  assert.match(
    warnings[0],
    new RegExp(
      `^W Route 10\\.1\\.40\\.0/24 stays in table ${world.table}: Unauth.*allow ec2:DeleteRoute in ` +
        `the IAM policy.*, or run: aws ec2 delete-route --route-table-id ${world.table} `,
    ),
  );
});

Deno.test("an address that moved to another interface: the route follows", async () => {
  await using world = await World.create();
  const first = await world.launch("172.31.28.40");
  const second = await aws.attach(first, world.subnet, "172.31.28.41");
  const ip = "172.31.28.42";
  await joinBySecondary(world, first, ip);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${first.eniId} active`]);
  await unassign(first, ip);
  await assign(second, ip);
  await world.clock.pass(INTERFACE_NOTICED);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${second.eniId} active`]);
  assert.equal(await aws.sourceDestCheck(second), false);
  assert.deepEqual(world.log.matching(/^[EW]/), [
    `W ${ip} has moved from ${first.eniId} to ${second.eniId}`,
  ]);
});

Deno.test("an address that no interface has for hours is one error, and the tables are looked after", async () => {
  await using world = await World.create();
  const first = await world.launch("172.31.28.40");
  const ip = "172.31.28.42";
  await joinBySecondary(world, first, ip);
  const stranger = await world.join(41);
  await world.stop(stranger);
  await unassign(first, ip);
  await world.clock.pass(4 * HOUR);
  const complaints = () => world.log.matching(/^[EW]|^I Recovered/);
  assert.equal(complaints().length, 1, complaints().join("\n"));
  assert.match(complaints()[0], /^E no network interface of i-\w+ has the address 172\.31\.28\.42/);
  // A black hole goes all the same.
  await aws.terminate(stranger.instance);
  await world.clock.pass(TABLE_NOTICED);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${first.eniId} active`]);
  await assign(first, ip);
  await world.clock.pass(2 * MINUTE);
  assert.deepEqual(complaints().slice(1), ["I Recovered: the VPC's routes are correct"]);
});

Deno.test("many nodes that add their routes at once, into one table", async () => {
  await using world = await World.create();
  const instances: Instance[] = [];
  for (let n = 1; n <= 20; n++) instances.push(await world.launch(`172.31.28.${n}`));
  for (const [index, instance] of instances.entries()) {
    world.start(instance, leaseOf(`10.1.${index + 1}.0/24`, instance.ip));
  }
  await world.clock.rest();
  await Promise.all(world.nodes.map(({ routes }) => routes.ready));
  assert.deepEqual(
    (await world.routes()).sort(),
    instances.map(({ eniId }, index) => `10.1.${index + 1}.0/24 ${eniId} active`).sort(),
  );
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("a node whose lease is over leaves its subnet's route to the next node", async () => {
  await using world = await World.create();
  // It has not heard of etcd for a day.
  const node = await world.join(40);
  node.lease.expiration = Date.now() - 1;
  const owner = await world.launch("172.31.28.41");
  await redirectRoute(world.table, "10.1.40.0/24", owner.eniId);
  await world.clock.pass(HOUR);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${owner.eniId} active`]);
  assert.deepEqual(world.log.matching(/^[EW]/), [
    `E route table ${world.table} routes 10.1.40.0/24 to ${owner.eniId}, and this node's lease of it ` +
    "has ended without being renewed: another node may have the subnet by now, so the route is left " +
    "alone until etcd answers; retrying until it works",
  ]);
  // The lease was its own all the time.
  node.lease.expiration = Date.now() + HOUR;
  await world.clock.pass(2 * MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
});
