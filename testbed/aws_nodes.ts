/**
 * Nodes of the aws-vpc backend without their agents: the reconciler of the routes alone, its calls
 * real, its time as the test lets it pass.
 *
 * @module
 */
import type { EC2Client } from "@aws-sdk/client-ec2";
import type { Clock } from "../backends/awsvpc/clock.ts";
import { Ec2Calls } from "../backends/awsvpc/client.ts";
import { VpcRoutes } from "../backends/awsvpc/routes.ts";
import { Cidr } from "../base/cidr.ts";
import { parseNetworkConfig } from "../subnet/config.ts";
import type { Lease } from "../subnet/types.ts";
import { type Aws, type Instance, REGION } from "./aws.ts";
import { waitFor } from "./netns.ts";

/** Milliseconds of the machine's time in which the nodes must come to rest. */
const REST_LIMIT = 120_000;

/** Time that passes when it is told to. It must know how many wait on it. */
export class TestClock implements Clock {
  #now = 0;
  readonly #sleepers = new Set<{ at: number; wake: () => void }>();
  /** How many sleep when all is at rest. */
  users = 0;

  now(): number {
    return this.#now;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const sleeper = {
      at: this.#now + ms,
      wake: () => {
        this.#sleepers.delete(sleeper);
        resolve();
      },
    };
    this.#sleepers.add(sleeper);
    signal.addEventListener("abort", sleeper.wake, { once: true });
    return promise;
  }

  /** Waits until everyone sleeps. */
  async rest(): Promise<void> {
    await waitFor(() => this.#sleepers.size >= this.users, {
      limitMs: REST_LIMIT,
      what: "all nodes to come to rest",
      intervalMs: 2,
    });
  }

  /** Lets time pass, stopping wherever someone wakes, until they sleep again. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await this.rest();
      const next = [...this.#sleepers].reduce<{ at: number; wake: () => void } | undefined>(
        (first, each) => first === undefined || each.at < first.at ? each : first,
        undefined,
      );
      if (next === undefined || next.at > end) break;
      this.#now = Math.max(this.#now, next.at);
      next.wake();
    }
    this.#now = end;
  }
}

/** A lease of this subnet, or of both families' subnets, announced by this address. */
export function leaseOf(subnet: string, publicIP: string, ipv6Subnet?: string): Lease {
  return {
    key: `${subnet.replace("/", "-")}`,
    subnet: Cidr.parse(subnet),
    ipv6Subnet: ipv6Subnet ? Cidr.parse(ipv6Subnet) : null,
    attrs: { publicIP, publicIPv6: null, backendType: "aws-vpc" },
    expiration: null,
    revision: "1",
  };
}

/** What a node is beside its instance and lease. */
export interface AwsNodeOptions {
  tableIds?: string[];
  /** The metadata service is off: nothing says which instance this is. */
  noMetadata?: boolean;
  /** Members of the network config. */
  network?: Record<string, unknown>;
}

/** One node that runs until it is disposed of. */
export class AwsNode implements AsyncDisposable {
  readonly routes: VpcRoutes;
  /** Rejects for what waiting does not mend. */
  readonly running: Promise<void>;
  readonly #client: EC2Client;
  readonly #stop = new AbortController();

  constructor(
    aws: Aws,
    readonly instance: Instance,
    readonly lease: Lease,
    clock: TestClock,
    { tableIds = [], network = {}, noMetadata = false }: AwsNodeOptions = {},
  ) {
    this.#client = aws.agentClient();
    const config = { Network: "10.1.0.0/16", Backend: { Type: "aws-vpc" }, ...network };
    this.routes = new VpcRoutes(
      { network: parseNetworkConfig(JSON.stringify(config)), lease, tableIds, ip: instance.ip },
      {
        where: () =>
          Promise.resolve({
            region: REGION,
            instanceId: noMetadata ? undefined : instance.instanceId,
          }),
        ec2: (_region, signal) => new Ec2Calls(this.#client, signal),
        clock,
      },
    );
    clock.users++;
    this.running = this.routes.keep(this.#stop.signal).finally(() => clock.users--);
    this.running.catch(() => {});
  }

  /** Takes the other nodes' leases. */
  want(peers: Iterable<Lease>): void {
    const others = [...peers].filter(({ key }) => key !== this.lease.key);
    this.routes.want(new Map(others.map((lease) => [lease.key, lease])));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.running.catch(() => {});
    this.#client.destroy();
  }
}
