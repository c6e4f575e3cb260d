/**
 * A VPC with nodes, for the tests of this folder: moto, with EC2's own errors from the proxy before it.
 *
 * @module
 */
import {
  CreateRouteCommand,
  type CreateRouteCommandInput,
  ReplaceRouteCommand,
} from "@aws-sdk/client-ec2";
import type { Lease } from "../../subnet/types.ts";
import { Aws, type Instance, type Subnet, type Vpc } from "../../testbed/aws.ts";
import { AwsNode, type AwsNodeOptions, leaseOf, TestClock } from "../../testbed/aws_nodes.ts";
import { LogCapture } from "../../testbed/log.ts";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

export let aws: Aws;
Deno.test.beforeAll(async () => {
  aws = await Aws.start();
});
Deno.test.afterAll(async () => {
  await aws[Symbol.asyncDispose]();
});

/** A VPC of its own for one test, its nodes, log and time. */
export class World implements AsyncDisposable {
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

  launch(ip: string, ipv6?: string): Promise<Instance> {
    return aws.launch(this.subnet, { ip, ipv6 });
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
export async function foreignRoute(
  tableId: string,
  destination: string,
  target: Partial<CreateRouteCommandInput>,
): Promise<void> {
  await aws.client.send(
    new CreateRouteCommand({ RouteTableId: tableId, DestinationCidrBlock: destination, ...target }),
  );
}

/** Somebody else makes a route lead to another network interface. */
export async function redirectRoute(
  tableId: string,
  destination: string,
  eniId: string,
): Promise<void> {
  await aws.client.send(
    new ReplaceRouteCommand({
      RouteTableId: tableId,
      DestinationCidrBlock: destination,
      NetworkInterfaceId: eniId,
    }),
  );
}

/** The most calls in any 5 minutes of an hour. */
export async function mostCallsInFiveMinutes(world: World): Promise<number> {
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
