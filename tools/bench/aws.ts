/**
 * How many calls to EC2 the aws-vpc backend makes: calls are limited for a whole account. The nodes
 * are reconcilers in this process, their calls go to moto, and their hours pass as fast as it answers.
 *
 * @module
 */
import type { Lease } from "../../subnet/types.ts";
import { Aws, type Subnet } from "../../testbed/aws.ts";
import { AwsNode, leaseOf, TestClock } from "../../testbed/aws_nodes.ts";
import type { Row } from "./lib.ts";

const NODES = 100;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Two calls in 5 minutes. */
const IDLE_LIMIT = 24;

/** See the module. */
export async function aws(): Promise<Row[]> {
  await using cloud = await Aws.start();
  cloud.proxy.routesPerTable = 2 * NODES;
  return [...await alone(cloud), ...await many(cloud)];
}

async function makeSubnet(cloud: Aws): Promise<Subnet> {
  return await cloud.createSubnet(await cloud.createVpc("172.31.0.0/16"), "172.31.16.0/20");
}

async function alone(cloud: Aws): Promise<Row[]> {
  const clock = new TestClock();
  await using node = await launch(cloud, await makeSubnet(cloud), clock, 1);
  node.want([]);
  await clock.pass(2 * MINUTE);
  const idle = await count(cloud, () => clock.pass(HOUR));
  return [row("aws: calls an hour, an idle node alone", idle, 1, IDLE_LIMIT)];
}

async function many(cloud: Aws): Promise<Row[]> {
  const clock = new TestClock();
  const subnet = await makeSubnet(cloud);
  const leases: Lease[] = [];
  await using nodes = new AsyncDisposableStack();
  const running: AwsNode[] = [];
  const join = async (n: number) => {
    const node = nodes.use(await launch(cloud, subnet, clock, n));
    running.push(node);
    leases.push(node.lease);
    for (const each of running) each.want(leases);
    await clock.pass(MINUTE / NODES);
  };
  // The second minute has their second looks.
  const joining = await count(cloud, async () => {
    for (let n = 1; n <= NODES; n++) await join(n);
    await clock.pass(MINUTE);
  });
  const idle = await count(cloud, () => clock.pass(HOUR));
  const leaving = await count(cloud, async () => {
    await running.pop()![Symbol.asyncDispose]();
    leases.pop();
    for (const each of running) each.want(leases);
    await clock.pass(MINUTE / 2);
  });
  return [
    row(`aws: calls a node, ${NODES} joining within a minute`, joining, NODES),
    row(`aws: calls an hour and node, ${NODES} idle`, idle, NODES, IDLE_LIMIT),
    row(`aws: calls of all in 30 s, one of ${NODES} leaves`, leaving, 1),
  ];
}

async function launch(cloud: Aws, subnet: Subnet, clock: TestClock, n: number): Promise<AwsNode> {
  const ip = `172.31.20.${n}`;
  return new AwsNode(
    cloud,
    await cloud.launch(subnet, { ip }),
    leaseOf(`10.1.${n}.0/24`, ip),
    clock,
  );
}

/** The calls by action that are made meanwhile. */
async function count(cloud: Aws, meanwhile: () => Promise<void>): Promise<Record<string, number>> {
  const from = cloud.proxy.calls.length;
  await meanwhile();
  return cloud.proxy.count(from);
}

function row(figure: string, calls: Record<string, number>, nodes: number, limit?: number): Row {
  const all = Object.values(calls).reduce((sum, count) => sum + count, 0);
  const detail = Object.entries(calls).map(([action, count]) => `${action} ${count}`).join(", ");
  console.error(`${figure}: ${detail}`);
  return {
    figure,
    ours: all / nodes,
    peer: undefined,
    peerName: "",
    goal: limit === undefined ? "" : `<= ${limit}`,
    met: limit === undefined ? undefined : all / nodes <= limit,
    samples: Object.fromEntries(Object.entries(calls).map(([action, count]) => [action, [count]])),
  };
}
