/** The reconciler of the VPC's routes against moto, with EC2's own errors from the proxy before it. */
import assert from "node:assert/strict";
import {
  AssociateRouteTableCommand,
  CreateInternetGatewayCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
  DeleteRouteCommand,
  DeleteRouteTableCommand,
  DescribeRouteTablesCommand,
  DisassociateRouteTableCommand,
  ReplaceRouteCommand,
  ReplaceRouteTableAssociationCommand,
} from "@aws-sdk/client-ec2";
import type { Lease } from "../subnet/types.ts";
import { Aws, EC2_ERRORS, type Instance, type Subnet, type Vpc } from "./lib/aws.ts";
import { AwsNode, type AwsNodeOptions, leaseOf, TestClock } from "./lib/aws_nodes.ts";
import { LogCapture } from "./lib/log.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let aws: Aws;
Deno.test.beforeAll(async () => {
  aws = await Aws.start();
});
Deno.test.afterAll(async () => {
  await aws[Symbol.asyncDispose]();
});

/** A VPC of its own for one test, its nodes, log and time. */
class World implements AsyncDisposable {
  readonly clock = new TestClock();
  readonly log = new LogCapture();
  readonly leases: Lease[] = [];
  readonly nodes: AwsNode[] = [];
  readonly #from = aws.proxy.calls.length;

  private constructor(readonly vpc: Vpc, readonly subnet: Subnet) {}

  static async create(options: { ipv6?: boolean } = {}): Promise<World> {
    const vpc = await aws.createVpc("172.31.0.0/16", options);
    return new World(vpc, await aws.createSubnet(vpc, "172.31.16.0/20"));
  }

  get table(): string {
    return this.vpc.mainTableId;
  }

  launch(ip: string): Promise<Instance> {
    return aws.launch(this.subnet, { ip });
  }

  /** A node begins, and all others see its lease. */
  start(instance: Instance, lease: Lease, options?: AwsNodeOptions): AwsNode {
    const node = new AwsNode(aws, instance, lease, this.clock, options);
    this.nodes.push(node);
    this.setLeases([...this.leases.filter(({ key }) => key !== lease.key), lease]);
    return node;
  }

  /** All nodes see these leases. */
  setLeases(leases: Lease[]): void {
    this.leases.splice(0, Infinity, ...leases);
    for (const node of this.nodes) node.want(leases);
  }

  /** Launches and starts the nth node, and waits for its route. */
  async join(n: number, options?: AwsNodeOptions): Promise<AwsNode> {
    const ip = `172.31.28.${n}`;
    const node = this.start(await this.launch(ip), leaseOf(`10.1.${n}.0/24`, ip), options);
    await this.clock.rest();
    await node.routes.ready;
    return node;
  }

  /** A node ends as by kill -9: its lease stays. */
  async stop(node: AwsNode): Promise<void> {
    this.nodes.splice(this.nodes.indexOf(node), 1);
    await node[Symbol.asyncDispose]();
  }

  /** `10.1.40.0/24 eni-… active` */
  async routes(tableId = this.table): Promise<string[]> {
    return (await aws.routes(tableId)).map(({ destination, target, state }) =>
      `${destination} ${target} ${state}`
    );
  }

  /** Calls since the test began. */
  calls(): Record<string, number> {
    return aws.proxy.count(this.#from);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
    this.log[Symbol.dispose]();
  }
}

/** A route that somebody else has made. */
async function foreignRoute(
  tableId: string,
  destination: string,
  target: { NetworkInterfaceId: string } | { GatewayId: string },
): Promise<void> {
  await aws.client.send(
    new CreateRouteCommand({ RouteTableId: tableId, DestinationCidrBlock: destination, ...target }),
  );
}

/** The most calls in any 5 minutes of an hour. */
async function mostCallsInFiveMinutes(world: World): Promise<number> {
  const counts: number[] = [];
  for (let minute = 0; minute < 60; minute++) {
    const before = aws.proxy.calls.length;
    await world.clock.pass(MINUTE);
    counts.push(aws.proxy.calls.length - before);
  }
  const windows = counts.slice(4).map((_, index) =>
    counts.slice(index, index + 5).reduce((sum, count) => sum + count, 0)
  );
  return Math.max(...windows);
}

Deno.test("a node that joins makes few calls, an idle one two in 5 minutes at most", async () => {
  await using world = await World.create();
  const one = await world.join(40);
  assert.deepEqual(world.calls(), {
    DescribeNetworkInterfaces: 1,
    ModifyInstanceAttribute: 1,
    DescribeRouteTables: 2,
    CreateRoute: 1,
  });
  assert.equal(await aws.sourceDestCheck(one.instance), false);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${one.instance.eniId} active`]);
  await world.clock.pass(MINUTE);
  assert.ok(await mostCallsInFiveMinutes(world) <= 2);
});

Deno.test("an idle node that may not switch the check off makes as few, and warns once", async () => {
  using _forbidden = aws.proxy.answer("ModifyInstanceAttribute", EC2_ERRORS.unauthorized);
  await using world = await World.create();
  await world.join(40);
  await world.clock.pass(MINUTE);
  assert.ok(await mostCallsInFiveMinutes(world) <= 2);
  assert.ok(world.calls().ModifyInstanceAttribute > 1, "it is tried again");
  const warnings = world.log.matching(/^W /);
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0],
    /^W failed to disable SourceDestCheck on eni-\w+: UnauthorizedOperation: You are not authorized .* allow ec2:ModifyInstanceAttribute in the IAM policy/,
  );
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

Deno.test("a table that is gone is told, and another one found at the next look for it", async () => {
  await using world = await World.create();
  const made = await aws.client.send(new CreateRouteTableCommand({ VpcId: world.vpc.vpcId }));
  const RouteTableId = made.RouteTable!.RouteTableId!;
  const { AssociationId } = await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId, SubnetId: world.subnet.subnetId }),
  );
  const node = await world.join(40);
  await aws.client.send(new DisassociateRouteTableCommand({ AssociationId }));
  await aws.client.send(new DeleteRouteTableCommand({ RouteTableId }));
  await world.clock.pass(HOUR);
  assert.match(
    world.log.matching(/^E/)[0],
    /EC2 refuses DescribeRouteTables: InvalidRouteTableID\.NotFound/,
  );
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
});

Deno.test("a network that overlaps the VPC's own is warned of once", async () => {
  await using world = await World.create();
  await world.join(40, { network: { Network: "172.31.128.0/17" } });
  await world.clock.pass(HOUR);
  assert.deepEqual(world.log.matching(/^W/), [
    "W The network 172.31.128.0/17 overlaps 172.31.0.0/16, which is the VPC's own: EC2 takes no " +
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
    message: `Backend.RouteTableID: ${other.mainTableId} is of ${other.vpcId}, this node is in ` +
      world.vpc.vpcId,
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
  await aws.client.send(
    new ReplaceRouteCommand({
      RouteTableId: world.table,
      DestinationCidrBlock: "10.1.2.0/24",
      NetworkInterfaceId: owner.eniId,
    }),
  );
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

Deno.test("RouteAlreadyExists: the table is read again, and the route replaced or found right", async () => {
  await using world = await World.create();
  using _raced = aws.proxy.answer("CreateRoute", EC2_ERRORS.routeExists("10.1.40.0/24"), 1);
  await world.join(40);
  assert.deepEqual(world.calls(), {
    DescribeNetworkInterfaces: 1,
    ModifyInstanceAttribute: 1,
    DescribeRouteTables: 3,
    CreateRoute: 2,
  });
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("throttled: backed off with jitter, told once, and again when it is over", async () => {
  await using world = await World.create();
  const throttling = aws.proxy.answer("*", EC2_ERRORS.throttled);
  const instance = await world.launch("172.31.28.40");
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(10 * MINUTE);
  // 1, 2, 4, … 32, then one in 30 to 90 seconds.
  const { DescribeNetworkInterfaces: calls } = world.calls();
  assert.ok(calls >= 10 && calls <= 26, `${calls}`);
  throttling[Symbol.dispose]();
  await world.clock.pass(2 * MINUTE);
  await node.routes.ready;
  assert.deepEqual(world.log.matching(/^[EW]|again$/), [
    "W EC2 limits this account's calls (RequestLimitExceeded); trying again until it works",
    "I The VPC's routes are as they should be again",
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
      `E route table ${world.table} is full: it has 2 routes besides the VPC's own, its limit ` +
      "(RouteLimitExceeded), and takes none for 10.1.3.0/24; raise the quota " +
      '"Routes per route table" of Amazon VPC in Service Quotas, or remove routes that nobody ' +
      "needs; trying again until it works",
    ]);
    aws.proxy.routesPerTable = 3;
    await world.clock.pass(2 * MINUTE);
    await node.routes.ready;
    assert.equal((await world.routes()).length, 3);
  } finally {
    aws.proxy.routesPerTable = 50;
  }
});

for (const action of ["DescribeNetworkInterfaces", "DescribeRouteTables", "CreateRoute"]) {
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
        `^E UnauthorizedOperation: .*; allow ec2:${action} in the IAM policy of this instance's role; trying`,
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
      `leads 10\\.1\\.40\\.0/24, this node's subnet, to ${GatewayId}, which no node has: remove`,
    ),
  );
});

Deno.test("an address that no interface of the instance has", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  world.start({ ...instance, ip: "10.0.0.1" }, leaseOf("10.1.40.0/24", "10.0.0.1"));
  await world.clock.pass(MINUTE);
  assert.deepEqual(world.log.matching(/^E/), [
    `E no network interface of ${instance.instanceId} has the address 10.0.0.1: name the ` +
    "interface that has one of the VPC's addresses with --iface; trying again until it works",
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
      /^E EC2 takes no call from us: AuthFailure: AWS was not able to validate .* status code: 401/,
    ],
    [
      { status: 500, code: "InternalError", message: "An internal error has occurred" },
      /^E EC2 failed in DescribeNetworkInterfaces: InternalError: An internal error has occurred\. status code: 500/,
    ],
  ];
  for (const [error, line] of cases) {
    await using world = await World.create();
    const failing = aws.proxy.answer("*", error);
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
