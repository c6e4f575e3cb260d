/**
 * What EC2 refuses, and when it is slow.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AssociateRouteTableCommand,
  CreateRouteTableCommand,
  DescribeRouteTablesCommand,
  ReplaceRouteTableAssociationCommand,
} from "@aws-sdk/client-ec2";
import { EC2_ERRORS } from "../../testbed/aws.ts";
import { leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, foreignRoute, HOUR, MINUTE, World } from "./world.ts";

Deno.test("the subnet's own route table goes before the main one, named ones before both", async () => {
  await using world = await World.create();
  const { vpcId } = world.vpc;
  const ids: string[] = [];
  for (let count = 0; count < 3; count++) {
    const made = await aws.client.send(new CreateRouteTableCommand({ VpcId: vpcId }));
    ids.push(made.RouteTable!.RouteTableId!);
  }
  const [own, ...named] = ids;
  await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId: own, SubnetId: world.subnet.subnetId }),
  );
  const one = await world.join(40);
  const two = await world.join(41, { tableIds: named });
  assert.deepEqual(await world.routes(own), [`10.1.40.0/24 ${one.instance.eniId} active`]);
  for (const id of named) {
    assert.deepEqual(await world.routes(id), [`10.1.41.0/24 ${two.instance.eniId} active`]);
  }
  assert.deepEqual(await world.routes(), []);
  assert.ok(world.log.lines.includes(`I Found route table ${own}.`));
  assert.ok(world.log.lines.includes(`I RouteTableID configured as array: ${named.join(", ")}`));

  // Someone gives the subnet another table.
  const { RouteTables: [table] = [] } = await aws.client.send(
    new DescribeRouteTablesCommand({ RouteTableIds: [own] }),
  );
  await aws.client.send(
    new ReplaceRouteTableAssociationCommand({
      AssociationId: table.Associations![0].RouteTableAssociationId,
      RouteTableId: named[0],
    }),
  );
  await world.clock.pass(HOUR);
  assert.equal((await world.routes(named[0])).length, 2);
});

Deno.test("throttled: backed off with jitter, told once, and again when it is over", async () => {
  await using world = await World.create();
  using throttling = aws.proxy.answer("*", EC2_ERRORS.throttled);
  const instance = await world.launch("172.31.28.40");
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(10 * MINUTE);
  // 1, 2, 4, … 32, then one in 30 to 90 seconds.
  const { DescribeInstances: calls } = world.calls();
  assert.ok(calls >= 10 && calls <= 26, `${calls}`);
  throttling[Symbol.dispose]();
  await world.clock.pass(2 * MINUTE);
  await node.routes.ready;
  assert.deepEqual(world.log.matching(/^[EW]|^I Recovered/), [
    "W EC2 throttles this account's calls (RequestLimitExceeded); retrying until it works",
    "I Recovered: the VPC's routes are correct",
  ]);
});

Deno.test("throttled while it works: what is there stays", async () => {
  await using world = await World.create();
  const node = await world.join(40);
  using _throttling = aws.proxy.answer("*", EC2_ERRORS.throttled);
  await world.clock.pass(HOUR);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
  assert.equal(world.log.matching(/^W/).length, 1);
});

Deno.test("a full table is one error with its name, its limit and what to do", async () => {
  await using world = await World.create();
  await world.join(1);
  await world.join(2);
  aws.proxy.routesPerTable = 2;
  try {
    const instance = await world.launch("172.31.28.3");
    const node = world.start(instance, leaseOf("10.1.3.0/24", instance.ip));
    await world.clock.pass(10 * MINUTE);
    assert.deepEqual(world.log.matching(/^[EW]/), [
      `E route table ${world.table} is full: it has 2 routes for IPv4 besides the VPC's own, its ` +
      "limit (RouteLimitExceeded), so the route for 10.1.3.0/24 cannot be added; raise the quota " +
      '"Routes per route table" of Amazon VPC in Service Quotas, which counts each address family ' +
      "and may be raised to 1,000, or remove routes that are not needed; retrying until it works",
    ]);
    aws.proxy.routesPerTable = 3;
    await world.clock.pass(2 * MINUTE);
    await node.routes.ready;
    assert.equal((await world.routes()).length, 3);
  } finally {
    aws.proxy.routesPerTable = 50;
  }
});

for (const action of ["DescribeRouteTables", "CreateRoute"]) {
  Deno.test(`without the right to ${action} the error names it`, async () => {
    await using world = await World.create();
    using _forbidden = aws.proxy.answer(action, EC2_ERRORS.unauthorized);
    const instance = await world.launch("172.31.28.40");
    world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(10 * MINUTE);
    const [error, ...more] = world.log.matching(/^E/);
    assert.deepEqual(more, []);
    assert.ok(world.log.matching(/^I/).length <= 4, "what was found is told once");
    assert.match(
      error,
      new RegExp(
        `^E UnauthorizedOperation: .*; allow ec2:${action} in the IAM policy of this instance's role; retrying`,
      ),
    );
  });
}

for (
  const [action, prepare] of [
    ["ReplaceRoute", "10.1.40.0/24"],
    ["DeleteRoute", "10.1.98.0/24"],
  ]
) {
  Deno.test(`without the right to ${action} the error names it, too`, async () => {
    await using world = await World.create();
    using _forbidden = aws.proxy.answer(action, EC2_ERRORS.unauthorized);
    const gone = await world.launch("172.31.28.98");
    await foreignRoute(world.table, prepare, { NetworkInterfaceId: gone.eniId });
    await aws.terminate(gone);
    const instance = await world.launch("172.31.28.40");
    world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(MINUTE);
    assert.match(world.log.matching(/^E/)[0], new RegExp(`allow ec2:${action} in the IAM policy`));
  });
}

Deno.test("an address that no interface of the instance has", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  world.start({ ...instance, ip: "10.0.0.1" }, leaseOf("10.1.40.0/24", "10.0.0.1"));
  await world.clock.pass(MINUTE);
  assert.deepEqual(world.log.matching(/^E/), [
    `E no network interface of ${instance.instanceId} has the address 10.0.0.1: name the ` +
    "interface that has one of the VPC's addresses with --iface; retrying until it works",
  ]);
});

Deno.test("bad credentials and a failing EC2 are told once, and left behind", async () => {
  const cases: [error: { status: number; code: string; message: string }, line: RegExp][] = [
    [
      {
        status: 401,
        code: "AuthFailure",
        message: "AWS was not able to validate the provided access credentials",
      },
      /^E EC2 rejects this node's calls: AuthFailure: AWS was not able to validate .* status code: 401/,
    ],
    [
      { status: 500, code: "InternalError", message: "An internal error has occurred" },
      /^E EC2 failed in DescribeInstances: InternalError: An internal error has occurred\. status code: 500/,
    ],
  ];
  for (const [error, line] of cases) {
    await using world = await World.create();
    using failing = aws.proxy.answer("*", error);
    const instance = await world.launch("172.31.28.40");
    const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(5 * MINUTE);
    const told = world.log.matching(/^[EW]/);
    assert.equal(told.length, 1, told.join("\n"));
    assert.match(told[0], line);
    failing[Symbol.dispose]();
    await world.clock.pass(2 * MINUTE);
    await node.routes.ready;
  }
});

Deno.test("it ends at once, also while EC2 lets it wait, and says nothing of that", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  aws.proxy.delay = 5_000;
  try {
    const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    const began = performance.now();
    await world.stop(node);
    assert.ok(performance.now() - began < 2_500);
    assert.deepEqual(world.log.lines, []);
  } finally {
    aws.proxy.delay = 0;
  }
});
