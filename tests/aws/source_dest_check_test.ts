/**
 * The source/dest check: by which calls it is switched off, and what is said where EC2 refuses.
 *
 * @module
 */
import assert from "node:assert/strict";
import { ModifyNetworkInterfaceAttributeCommand } from "@aws-sdk/client-ec2";
import { EC2_ERRORS, type Ec2Error, type Instance } from "../../testbed/aws.ts";
import { leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, HOUR, MINUTE, mostCallsInFiveMinutes, World } from "./world.ts";

const OF_INTERFACE = "ModifyNetworkInterfaceAttribute";
const OF_INSTANCE = "ModifyInstanceAttribute";

/** Switches it as somebody does by hand. */
async function switchByHand({ eniId }: Instance, Value: boolean): Promise<void> {
  await aws.client.send(
    new ModifyNetworkInterfaceAttributeCommand({
      NetworkInterfaceId: eniId,
      SourceDestCheck: { Value },
    }),
  );
}

function attempts(world: World): [ofInterface: number, ofInstance: number] {
  const calls = world.calls();
  return [calls[OF_INTERFACE] ?? 0, calls[OF_INSTANCE] ?? 0];
}

/** What EC2 answers to those who may not, each with its status. */
const REFUSALS: Ec2Error[] = [
  EC2_ERRORS.unauthorized,
  {
    status: 400,
    code: "OperationNotPermitted",
    message: "You do not have permission to access the specified resource.",
  },
  { status: 403, code: "AuthFailure", message: "You do not have permission to access the ENI" },
  {
    status: 401,
    code: "AuthFailure",
    message: "AWS was not able to validate the provided access credentials",
  },
  EC2_ERRORS.severalInterfaces("i-0abc"),
  {
    status: 400,
    code: "InvalidParameterCombination",
    message: "Source/dest check may not be modified for this interface type",
  },
  { status: 400, code: "UnsupportedOperation", message: "The operation is not supported." },
  {
    status: 400,
    code: "InvalidNetworkInterfaceID.NotFound",
    message: "The networkInterface ID 'eni-0abc' does not exist",
  },
];

for (const refusal of REFUSALS) {
  const { status, code, message } = refusal;
  Deno.test(`a refusal is a warning that says what breaks: ${code}, ${message}`, async () => {
    using _ofInterface = aws.proxy.answer(OF_INTERFACE, refusal);
    using _ofInstance = aws.proxy.answer(OF_INSTANCE, refusal);
    await using world = await World.create();
    const instance = await world.launch("172.31.28.40");
    const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(MINUTE);
    await node.routes.ready;
    assert.deepEqual(await world.routes(), [`10.1.40.0/24 ${instance.eniId} active`]);
    const [warning, ...more] = world.log.matching(/^[EW]/);
    assert.deepEqual(more, []);
    const answer = `${code}: ${message.replace(/\.$/, "")}. status code: ${status}, request id: `;
    const beginning = `W failed to disable SourceDestCheck on ${instance.eniId}: ${answer}`;
    assert.ok(warning.startsWith(beginning), warning);
    assert.match(warning, /the VPC drops packets to and from containers/);
    const command = "run: aws ec2 modify-network-interface-attribute --network-interface-id " +
      `${instance.eniId} --no-source-dest-check`;
    assert.ok(warning.endsWith(command), warning);
  });
}

Deno.test("the interface's call comes first, the instance's is made where that is refused", async () => {
  using _forbidden = aws.proxy.answer(OF_INTERFACE, EC2_ERRORS.unauthorized);
  await using world = await World.create();
  const { instance } = await world.join(40);
  assert.deepEqual(attempts(world), [1, 1]);
  assert.equal(await aws.sourceDestCheck(instance), false);
  assert.deepEqual(world.log.matching(/^[EW]/), []);
  assert.ok(world.log.lines.includes(`I Disabled SourceDestCheck on ${instance.eniId}`));
  await world.clock.pass(HOUR);
  assert.deepEqual(attempts(world), [1, 1]);
});

Deno.test("of an instance with several interfaces only the interface's call is made", async () => {
  using _forbidden = aws.proxy.answer(OF_INTERFACE, EC2_ERRORS.unauthorized);
  await using world = await World.create();
  const first = await world.launch("172.31.28.40");
  const second = await aws.attach(first, world.subnet, "172.31.28.41");
  const node = world.start(second, leaseOf("10.1.41.0/24", second.ip));
  await world.clock.pass(HOUR);
  await node.routes.ready;
  const [ofInterface, ofInstance] = attempts(world);
  assert.ok(ofInterface > 1);
  assert.equal(ofInstance, 0);
  assert.match(
    world.log.matching(/^W/)[0],
    /: allow ec2:ModifyNetworkInterfaceAttribute in the IAM policy of this instance's role, or run: /,
  );
});

Deno.test("where both are refused it is tried again by few calls, and warned of once", async () => {
  using _ofInterface = aws.proxy.answer(OF_INTERFACE, EC2_ERRORS.unauthorized);
  using ofInstance = aws.proxy.answer(OF_INSTANCE, EC2_ERRORS.unauthorized);
  await using world = await World.create();
  const { instance } = await world.join(40);
  await world.clock.pass(MINUTE);
  const before = attempts(world);
  assert.ok(await mostCallsInFiveMinutes(world) <= 2);
  await world.clock.pass(HOUR);
  const after = attempts(world);
  assert.ok(after[0] > before[0] && after[1] > before[1], "both are tried again");
  assert.equal(world.log.matching(/^W/).length, 1);
  ofInstance[Symbol.dispose]();
  await world.clock.pass(2 * HOUR);
  assert.equal(await aws.sourceDestCheck(instance), false);
  assert.ok(world.log.lines.includes(`I Disabled SourceDestCheck on ${instance.eniId}`));
});

Deno.test("off already and not to be switched: one call, and the lab's warning, which says so", async () => {
  using _ofInterface = aws.proxy.answer(OF_INTERFACE, EC2_ERRORS.unauthorized);
  using _ofInstance = aws.proxy.answer(OF_INSTANCE, EC2_ERRORS.unauthorized);
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  await switchByHand(instance, false);
  const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(2 * HOUR);
  await node.routes.ready;
  assert.deepEqual(attempts(world), [1, 0]);
  const [warning, ...more] = world.log.matching(/SourceDestCheck/);
  assert.deepEqual(more, []);
  assert.match(
    warning,
    /^W failed to disable SourceDestCheck on eni-\w+: UnauthorizedOperation: .*; it is already off, so no action is needed$/,
  );
});

Deno.test("off already: nothing is said, and on again later it is switched off", async () => {
  await using world = await World.create();
  const instance = await world.launch("172.31.28.40");
  await switchByHand(instance, false);
  world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
  await world.clock.pass(MINUTE);
  assert.deepEqual(world.log.matching(/SourceDestCheck/), []);
  await switchByHand(instance, true);
  await world.clock.pass(HOUR);
  assert.equal(await aws.sourceDestCheck(instance), false);
  assert.deepEqual(world.log.matching(/SourceDestCheck/), [
    `I Disabled SourceDestCheck on ${instance.eniId}`,
  ]);
});

Deno.test("switched off by hand after the warning: that is reported, and no call is made any more", async () => {
  using _ofInterface = aws.proxy.answer(OF_INTERFACE, EC2_ERRORS.unauthorized);
  using _ofInstance = aws.proxy.answer(OF_INSTANCE, EC2_ERRORS.unauthorized);
  await using world = await World.create();
  const { instance } = await world.join(40);
  await switchByHand(instance, false);
  await world.clock.pass(HOUR);
  const made = attempts(world);
  assert.ok(world.log.lines.includes(`I Recovered: SourceDestCheck is off on ${instance.eniId}`));
  await world.clock.pass(2 * HOUR);
  assert.deepEqual(attempts(world), made);
  // A second time it is worth a warning again.
  await switchByHand(instance, true);
  await world.clock.pass(HOUR);
  assert.equal(world.log.matching(/^W/).length, 2);
});

for (
  const transient of [
    EC2_ERRORS.throttled,
    { status: 500, code: "InternalError", message: "An internal error has occurred" },
  ]
) {
  Deno.test(`${transient.code} is no refusal: it is tried again before the node is ready`, async () => {
    using failing = aws.proxy.answer(OF_INTERFACE, transient);
    await using world = await World.create();
    const instance = await world.launch("172.31.28.40");
    const node = world.start(instance, leaseOf("10.1.40.0/24", instance.ip));
    await world.clock.pass(MINUTE);
    assert.deepEqual(world.log.matching(/failed to disable/), []);
    assert.equal(attempts(world)[1], 0);
    failing[Symbol.dispose]();
    await world.clock.pass(2 * MINUTE);
    await node.routes.ready;
    assert.equal(await aws.sourceDestCheck(instance), false);
  });
}
