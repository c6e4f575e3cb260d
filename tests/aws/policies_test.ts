/**
 * What the agent does with the policies that its users have: by which call it finds network
 * interfaces, and what it says where none is allowed.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  AssignPrivateIpAddressesCommand,
  CreateNetworkInterfaceCommand,
} from "@aws-sdk/client-ec2";
import { Ec2Calls } from "../../backends/awsvpc/client.ts";
import { formatIp, tryParseIp } from "../../base/cidr.ts";
import { EC2_ERRORS, POLICIES } from "../../testbed/aws.ts";
import { type AwsNode, leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, foreignRoute, HOUR, MINUTE, mostCallsInFiveMinutes, World } from "./world.ts";

/** What a node calls that joins, but for the routes and the tables. */
function described(world: World): Record<string, number> {
  const { DescribeInstances = 0, DescribeNetworkInterfaces = 0 } = world.calls();
  return { DescribeInstances, DescribeNetworkInterfaces };
}

Deno.test("the lab's policy: routes are made and removed, without a call that it does not allow but one", async () => {
  using _policy = aws.proxy.allowOnly(POLICIES.lab);
  await using world = await World.create();
  const gone = await world.launch("172.31.28.98");
  await foreignRoute(world.table, "10.1.98.0/24", { NetworkInterfaceId: gone.eniId });
  await aws.terminate(gone);
  const node = await world.join(40);
  const other = await world.join(41);
  await world.clock.pass(MINUTE);
  await world.stop(other);
  world.setLeases(world.leases.filter(({ key }) => key !== other.lease.key));
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
  assert.ok(await mostCallsInFiveMinutes(world) <= 2);
  assert.equal(described(world).DescribeNetworkInterfaces, 0);
  assert.deepEqual(world.log.matching(/^E/), []);
});

Deno.test("a policy that allows only DescribeNetworkInterfaces: one refused call, then none", async () => {
  using _policy = aws.proxy.allowOnly(POLICIES.interfaces);
  await using world = await World.create();
  const node = await world.join(40);
  const other = await world.join(41);
  assert.deepEqual(described(world), { DescribeInstances: 2, DescribeNetworkInterfaces: 2 });
  await world.clock.pass(MINUTE);
  await world.stop(other);
  world.setLeases(world.leases.filter(({ key }) => key !== other.lease.key));
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
  assert.ok(await mostCallsInFiveMinutes(world) <= 2);
  assert.equal(described(world).DescribeInstances, 2, "the call that is refused is not repeated");
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("with neither call allowed the error names both, and two calls an attempt are made", async () => {
  await using world = await World.create();
  const forbidden = ["DescribeInstances", "DescribeNetworkInterfaces"].map((action) =>
    aws.proxy.answer(action, EC2_ERRORS.unauthorized)
  );
  try {
    const instance = await world.launch("172.31.28.40");
    const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(MINUTE);
    const { DescribeInstances: first, DescribeNetworkInterfaces: second } = described(world);
    assert.equal(first, second);
    const [error, ...more] = world.log.matching(/^[EW]/);
    assert.deepEqual(more, []);
    assert.match(
      error,
      /^E UnauthorizedOperation: .*; allow ec2:DescribeInstances in the IAM policy of this instance's role; ec2:DescribeNetworkInterfaces is also sufficient; retrying/,
    );
    forbidden[1][Symbol.dispose]();
    await world.clock.pass(2 * MINUTE);
    await node.routes.ready;
  } finally {
    for (const rule of forbidden) rule[Symbol.dispose]();
  }
});

Deno.test("a policy that changes while the node runs: the other call takes over, without a word", async () => {
  await using world = await World.create();
  const node = await world.join(40);
  using _forbidden = aws.proxy.answer("DescribeInstances", EC2_ERRORS.unauthorized);
  await world.clock.pass(2 * HOUR);
  const { DescribeInstances, DescribeNetworkInterfaces } = described(world);
  assert.equal(DescribeInstances, 2);
  assert.ok(DescribeNetworkInterfaces >= 3, `${DescribeNetworkInterfaces}`);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

Deno.test("an API that does not know the filters of DescribeInstances: the other call is taken", async () => {
  await using world = await World.create();
  const node = await world.join(40);
  const other = await world.join(41);
  using _failing = aws.proxy.answer("DescribeInstances", {
    status: 400,
    code: "InvalidParameterValue",
    message: "The filter 'network-interface.network-interface-id' is invalid",
  });
  await world.stop(other);
  world.setLeases(world.leases.filter(({ key }) => key !== other.lease.key));
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
});

for (const [name, net] of [["lab", "172.31.17"], ["interfaces", "172.31.18"]] as const) {
  /** Starts a node without metadata, at this address of the instance's. */
  const joinAt = async (world: World, node: AwsNode["instance"], ip: string): Promise<AwsNode> => {
    const started = world.start({ ...node, ip }, leaseOf("10.1.40.0/24", ip), { noMetadata: true });
    await world.clock.pass(MINUTE);
    assert.deepEqual(world.log.matching(/^E/), []);
    await started.routes.ready;
    return started;
  };

  Deno.test(`policy ${name}, no metadata service: an address tells the interface`, async () => {
    using _policy = aws.proxy.allowOnly(POLICIES[name]);
    await using world = await World.create();
    // What had the address before, as EC2 goes on listing it, and what else has it now.
    if (name === "lab") await aws.terminate(await world.launch(`${net}.41`));
    const elsewhere = await aws.createSubnet(
      await aws.createVpc("172.31.0.0/16"),
      "172.31.16.0/20",
    );
    await aws.client.send(
      new CreateNetworkInterfaceCommand({
        SubnetId: elsewhere.subnetId,
        PrivateIpAddress: `${net}.41`,
      }),
    );
    const instance = await world.launch(`${net}.40`);
    await aws.attach(instance, world.subnet, `${net}.42`);
    await aws.client.send(
      new AssignPrivateIpAddressesCommand({
        NetworkInterfaceId: instance.eniId,
        PrivateIpAddresses: [`${net}.41`],
      }),
    );
    await joinAt(world, instance, `${net}.41`);
    assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
  });

  Deno.test(`policy ${name}, no metadata service: an IPv6 address does, too`, async () => {
    using _policy = aws.proxy.allowOnly(POLICIES[name]);
    await using world = await World.create({ ipv6: true });
    // moto's ranges may have leading zeroes.
    const { value } = tryParseIp(world.vpc.ipv6Cidr!.replace(/\/\d+$/, "a1"))!;
    const ipv6 = formatIp(6, value);
    const instance = await world.launch(`${net}.40`, ipv6);
    await joinAt(world, instance, ipv6);
    assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
  });

  Deno.test(`policy ${name}, no metadata service: an address of several instances is refused with all of them`, async () => {
    using _policy = aws.proxy.allowOnly(POLICIES[name]);
    await using world = await World.create();
    const elsewhere = await aws.createVpc("172.31.0.0/16");
    const subnet = await aws.createSubnet(elsewhere, "172.31.16.0/20");
    const twin = await aws.launch(subnet, { ip: `${net}.50` });
    const instance = await world.launch(`${net}.50`);
    world.start(instance, leaseOf("10.1.40.0/24", instance.ip), { noMetadata: true });
    await world.clock.pass(MINUTE);
    const [error, ...more] = world.log.matching(/^[EW]/);
    assert.deepEqual(more, []);
    const beginning = `E 2 network interfaces of this region have the address ${net}.50 (`;
    assert.ok(error.startsWith(beginning), error);
    for (const { eniId, vpcId } of [instance, twin]) {
      assert.ok(error.includes(`${eniId} in ${vpcId}`));
    }
    assert.match(error, /switch the instance metadata service on/);
  });
}

Deno.test("an ended lease that announced a public address: its route goes", async () => {
  using _policy = aws.proxy.allowOnly(POLICIES.lab);
  await using world = await World.create();
  const node = await world.join(40);
  const instance = await world.launch("172.31.28.41");
  const address = await aws.elasticIp(instance);
  const other = world.start(instance, leaseOf("10.1.41.0/24", address));
  await world.clock.rest();
  await other.routes.ready;
  await world.stop(other);
  world.setLeases(world.leases.filter(({ key }) => key !== other.lease.key));
  await world.clock.pass(MINUTE);
  assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${node.instance.eniId} active`]);
});

Deno.test("more interfaces than a filter takes are asked for by several calls", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  const strangers = Array.from(
    { length: 400 },
    (_, n) => `eni-${n.toString(16).padStart(17, "0")}`,
  );
  for (const policy of [POLICIES.lab, POLICIES.interfaces]) {
    using _policy = aws.proxy.allowOnly(policy);
    const from = aws.proxy.calls.length;
    const client = aws.agentClient();
    const enis = await new Ec2Calls(client).enis([...strangers, instance.eniId]);
    client.destroy();
    assert.deepEqual(enis.map(({ id }) => id), [instance.eniId]);
    const answered = aws.proxy.calls.slice(from).filter(({ status }) => status === 200);
    assert.equal(answered.length, 3);
    for (const { params } of answered) {
      const values = [...params.keys()].filter((key) => key.startsWith("Filter.1.Value."));
      assert.ok(values.length <= 200, `${values.length}`);
    }
  }
});

Deno.test("an instance that EC2 does not know yet is waited for", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  using unknown = aws.proxy.answer("DescribeInstances", {
    status: 400,
    code: "InvalidInstanceID.NotFound",
    message: `The instance ID '${instance.instanceId}' does not exist`,
  });
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(20_000);
  assert.deepEqual(world.log.lines, []);
  await world.clock.pass(2 * MINUTE);
  assert.deepEqual(world.log.matching(/^[EW]/), [
    `E EC2 has no instance ${instance.instanceId} in this region and account: check AWS_REGION and ` +
    "which account the credentials belong to; retrying until it works",
  ]);
  unknown[Symbol.dispose]();
  await world.clock.pass(2 * MINUTE);
  await node.routes.ready;
});
