/**
 * EC2 is eventually consistent: what it shows may be older than what it has done. The node waits for
 * that with few calls and without an error.
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
import { EC2_ERRORS } from "../../testbed/aws.ts";
import { leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, foreignRoute, MINUTE, World } from "./world.ts";

const SECOND = 1_000;

/** Calls by action since `from`, and all together. */
function since(from: number): Record<string, number> & { all: number } {
  return { ...aws.proxy.count(from), all: aws.proxy.calls.length - from };
}

for (const seconds of [5, 20, 60, 100]) {
  Deno.test(`RouteAlreadyExists, and the route is not shown for ${seconds} s: few calls, no error`, async () => {
    await using world = await World.create();
    const instance = await world.launch("172.31.28.40");
    const stranger = await world.launch("172.31.28.41");
    {
      using _old = await aws.proxy.freezeTables();
      // Of a node that had the subnet before.
      await foreignRoute(world.table, "10.1.40.0/24", { NetworkInterfaceId: stranger.eniId });
      const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
      const from = aws.proxy.calls.length;
      await world.clock.pass(seconds * SECOND);
      const isReady = await Promise.race([node.routes.ready.then(() => true), false]);
      assert.equal(isReady, false);
      const { all, ReplaceRoute = 0 } = since(from);
      assert.equal(ReplaceRoute, 0, "nobody knows whose the route is");
      // Four find the place.
      assert.ok(all <= 4 + 5 + 4 * Math.log2(seconds), `${all} calls`);
    }
    const from = aws.proxy.calls.length;
    await world.clock.pass(2 * MINUTE);
    await world.nodes[0].routes.ready;
    assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
    const { CreateRoute = 0, ReplaceRoute } = since(from);
    assert.ok(CreateRoute <= 1, `${CreateRoute}`);
    assert.equal(ReplaceRoute, 1);
    assert.deepEqual(world.log.matching(/^[EW]|^I Recovered/), []);
  });
}

Deno.test("RouteAlreadyExists for the node's own route of before a restart: ready when it is shown", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  {
    using _old = await aws.proxy.freezeTables();
    await foreignRoute(world.table, "10.1.40.0/24", { NetworkInterfaceId: instance.eniId });
    world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(10 * SECOND);
  }
  await world.clock.pass(MINUTE);
  await world.nodes[0].routes.ready;
  assert.equal(world.calls().ReplaceRoute, undefined);
  assert.deepEqual(world.log.matching(/^[EW]|^I Recovered/), []);
});

Deno.test("RouteAlreadyExists for a route that is removed meanwhile: it is created soon", async () => {
  await using world = await World.create();
  using _raced = aws.proxy.answer("CreateRoute", EC2_ERRORS.routeExists("10.1.40.0/24"), 1);
  const instance = await world.launch("172.31.28.40");
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(15 * SECOND);
  await node.routes.ready;
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
  assert.equal(world.calls().CreateRoute, 2);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("a route that was hidden and leads to what no node has is left alone, and reported", async () => {
  await using world = await World.create();
  const { InternetGateway: gateway } = await aws.client.send(new CreateInternetGatewayCommand({}));
  const GatewayId = gateway!.InternetGatewayId!;
  const instance = await world.launch("172.31.28.40");
  {
    using _old = await aws.proxy.freezeTables();
    await foreignRoute(world.table, "10.1.40.0/24", { GatewayId });
    world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(10 * SECOND);
    assert.deepEqual(world.log.matching(/^[EW]/), []);
  }
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${GatewayId} active`]);
  assert.match(
    world.log.matching(/^E/)[0],
    new RegExp(`to ${GatewayId}, which does not belong to a node`),
  );
});

Deno.test("a route that is not shown for minutes is one error, with what to look at", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  {
    using _old = await aws.proxy.freezeTables();
    await foreignRoute(world.table, "10.1.40.0/24", { NetworkInterfaceId: instance.eniId });
    world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(10 * MINUTE);
    assert.deepEqual(world.log.matching(/^[EW]/), [
      `E EC2 reports that route table ${world.table} already has a route for 10.1.40.0/24 but does ` +
      `not show it: check with aws ec2 describe-route-tables --route-table-ids ${world.table}; retrying ` +
      "until it works",
    ]);
  }
  await world.clock.pass(2 * MINUTE);
  await world.nodes[0].routes.ready;
  assert.equal(world.log.matching(/^I Recovered: the VPC's routes are correct/).length, 1);
});

Deno.test("a route just created and not shown yet is not created again by each look", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  using _old = await aws.proxy.freezeTables();
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.rest();
  await node.routes.ready;
  const from = aws.proxy.calls.length;
  // Leases that come and go let it look again at once.
  for (let n = 1; n <= 10; n++) {
    world.setLeases([node.lease, leaseOf(`10.1.${100 + n}.0/24`, "172.31.28.99")]);
    await world.clock.pass(SECOND);
  }
  const { CreateRoute = 0, DescribeRouteTables } = since(from);
  assert.equal(CreateRoute, 0);
  assert.ok(DescribeRouteTables >= 1, "it has looked");
  await world.clock.pass(MINUTE);
  const { CreateRoute: again = 0 } = since(from);
  assert.ok(again <= 2, `${again}`);
  assert.equal(world.log.matching(/Route added/).length, 1);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("a route just replaced and shown as it was is not replaced again", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  const before = await world.launch("172.31.28.41");
  await foreignRoute(world.table, "10.1.40.0/24", { NetworkInterfaceId: before.eniId });
  {
    using _old = await aws.proxy.freezeTables();
    world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(100 * SECOND);
    assert.equal(world.calls().ReplaceRoute, 1);
  }
  await world.clock.pass(10 * MINUTE);
  await world.nodes[0].routes.ready;
  assert.equal(world.calls().ReplaceRoute, 1);
  assert.equal(world.log.matching(/Route replaced/).length, 1);
});

Deno.test("a route that is shown and not there: created in place of replaced, at once", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  const gone = await world.launch("172.31.28.41");
  await foreignRoute(world.table, "10.1.40.0/24", { NetworkInterfaceId: gone.eniId });
  using _old = await aws.proxy.freezeTables();
  await removeRoute(world.table, "10.1.40.0/24");
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.rest();
  await node.routes.ready;
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
  const { ReplaceRoute, CreateRoute, DescribeRouteTables } = world.calls();
  assert.deepEqual([ReplaceRoute, CreateRoute, DescribeRouteTables], [1, 1, 1]);
  await world.clock.pass(100 * SECOND);
  assert.equal(world.calls().CreateRoute, 1);
  assert.equal(world.calls().ReplaceRoute, 1);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("a route that is removed and still shown is not removed again, nor reported twice", async () => {
  await using world = await World.create();
  const gone = await world.launch("172.31.28.98");
  await foreignRoute(world.table, "10.1.98.0/24", { NetworkInterfaceId: gone.eniId });
  await aws.terminate(gone);
  using _old = await aws.proxy.freezeTables();
  const node = await world.join(40);
  for (let n = 1; n <= 10; n++) {
    world.setLeases([node.lease, leaseOf(`10.1.${100 + n}.0/24`, "172.31.28.99")]);
    await world.clock.pass(SECOND);
  }
  assert.equal(world.calls().DeleteRoute, 1);
  // Every two minutes at most it makes sure.
  await world.clock.pass(10 * MINUTE);
  assert.ok(world.calls().DeleteRoute <= 6, `${world.calls().DeleteRoute}`);
  assert.equal(world.log.matching(/Route removed/).length, 1);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("a table just made, which the config names: not shown at first is not the end", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  const old = await aws.proxy.freezeTables();
  const made = await aws.client.send(new CreateRouteTableCommand({ VpcId: world.vpc.vpcId }));
  const id = made.RouteTable!.RouteTableId!;
  const { subnetId: SubnetId } = world.subnet;
  await aws.client.send(new AssociateRouteTableCommand({ RouteTableId: id, SubnetId }));
  const tableIds = [id];
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip), { tableIds });
  await world.clock.pass(1.4 * SECOND);
  old[Symbol.dispose]();
  await world.clock.pass(15 * SECOND);
  await node.routes.ready;
  assert.deepEqual(await world.routes(id), [`10.1.40.0/24 ${instance.eniId} active`]);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("a table that the config names and that does not come: the end after some seconds", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  const tableIds = ["rtb-0123456789abcdef0"];
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip), { tableIds });
  await world.clock.pass(15 * SECOND);
  await assert.rejects(node.running, { name: "ConfigError", message: /rtb-0123456789abcdef0/ });
  assert.ok(world.calls().DescribeRouteTables <= 8);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("an interface just attached that CreateRoute does not know yet is tried again without an error", async () => {
  await using world = await World.create();
  using _unknown = aws.proxy.answer("CreateRoute", {
    status: 400,
    code: "InvalidNetworkInterfaceID.NotFound",
    message: "The networkInterface ID 'eni-0abc' does not exist",
  }, 3);
  const instance = await world.launch("172.31.28.40");
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(20 * SECOND);
  await node.routes.ready;
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

async function removeRoute(RouteTableId: string, DestinationCidrBlock: string): Promise<void> {
  await aws.client.send(new DeleteRouteCommand({ RouteTableId, DestinationCidrBlock }));
}
