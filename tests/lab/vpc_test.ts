import assert from "node:assert/strict";
import {
  CreateRouteCommand,
  DeleteRouteCommand,
  ModifyNetworkInterfaceAttributeCommand,
} from "@aws-sdk/client-ec2";
import { BINARY } from "../../tools/runtime.ts";
import { EC2_ERRORS } from "../../testbed/aws.ts";
import { waitFor } from "../../testbed/netns.ts";
import type { Terminal } from "../../testbed/terminal.ts";
import { etcd } from "../../testbed/lab/agents.ts";
import { Cloud } from "../../testbed/lab/cloud.ts";
import { CONFIG_KEY, configText } from "../../testbed/lab/facts.ts";
import { type NodeName, NODES, Place } from "../../testbed/lab/place.ts";
import { doStep } from "../../testbed/lab/step.ts";

/** Milliseconds for an agent to be ready, or to notice, on a busy machine. */
const LIMIT = 60_000;

const SUBNET_FILE = "Wrote subnet file";

/** The lab's machines with etcd on nodea and the config in it, without Docker. */
class Vpc implements AsyncDisposable {
  private constructor(readonly place: Place, readonly cloud: Cloud) {}

  static async create(): Promise<Vpc> {
    const binary = Deno.env.get("FLANNELD_BIN") ?? BINARY;
    const place = await Place.create({ label: `vpc${Deno.pid}`, binary, installed: NODES });
    try {
      const cloud = place.keep(await Cloud.start(place));
      for (const entry of etcd()) if (!("chapter" in entry)) await doStep(entry, place.nodes);
      await place.nodes.nodea.machine.run("etcdctl", "put", CONFIG_KEY, configText("aws-vpc"));
      return new Vpc(place, cloud);
    } catch (error) {
      await place[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts an agent with a bridge on its subnet. */
  async start(on: NodeName, ...flags: string[]): Promise<Terminal> {
    const terminal = await this.place.nodes[on].machine.terminal();
    const args = ["--etcd-endpoints=http://nodea:2379", "--bridge=cni0", ...flags].join(" ");
    await terminal.start(`sudo ~/flanneld/dist/flanneld ${args}`);
    return terminal;
  }

  /** Starts one and waits until it is ready; gives its subnet, `10.1.40.0/24`. */
  async ready(on: NodeName, ...flags: string[]): Promise<{ agent: Terminal; subnet: string }> {
    const agent = await this.start(on, ...flags);
    await agent.waitFor(new RegExp(SUBNET_FILE), LIMIT);
    return { agent, subnet: /Allocated lease \((\S+)\)/.exec(agent.output)![1] };
  }

  /** Whether a ping from a node to another's bridge is answered. */
  async reaches(from: NodeName, subnet: string): Promise<boolean> {
    await this.cloud.settled();
    const ip = subnet.replace(/0\/24$/, "1");
    return (await this.place.nodes[from].machine.exec("ping", "-c1", "-W1", ip)).code === 0;
  }

  /** Destinations of the route table, sorted. */
  async destinations(): Promise<string[]> {
    const { aws, tableId } = this.cloud;
    return (await aws.routes(tableId)).map(({ destination }) => destination);
  }

  /** A route that is none of flanneld's. */
  route(destination: string): CreateRouteCommand {
    return new CreateRouteCommand({
      RouteTableId: this.cloud.tableId,
      DestinationCidrBlock: destination,
      NetworkInterfaceId: this.cloud.enis.nodea,
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.place[Symbol.asyncDispose]();
  }
}

Deno.test("the route of a node that was killed is gone after its lease's end", async () => {
  await using vpc = await Vpc.create();
  const { client } = vpc.cloud.aws;
  await client.send(vpc.route("10.9.0.0/24"));
  const a = await vpc.ready("nodea");
  const b = await vpc.ready("nodeb", "--subnet-lease-ttl=8");
  assert.ok(await vpc.reaches("nodea", b.subnet));
  assert.ok(await vpc.reaches("nodeb", a.subnet));
  await vpc.place.nodes.nodeb.machine[Symbol.asyncDispose]();
  assert.ok((await vpc.destinations()).includes(b.subnet));
  await waitFor(async () => !(await vpc.destinations()).includes(b.subnet), {
    limitMs: LIMIT,
    what: "the end of the killed node's route",
    intervalMs: 200,
  });
  assert.deepEqual(await vpc.destinations(), [a.subnet, "10.9.0.0/24"]);
});

Deno.test("a 403 for the source/dest check is a warning, and all else is done", async () => {
  await using vpc = await Vpc.create();
  const { aws, enis } = vpc.cloud;
  aws.proxy.answer("ModifyInstanceAttribute", EC2_ERRORS.unauthorized);
  aws.proxy.answer("ModifyNetworkInterfaceAttribute", EC2_ERRORS.unauthorized);
  const a = await vpc.ready("nodea");
  const b = await vpc.ready("nodeb");
  assert.match(
    a.agent.output,
    new RegExp(`^W.*\\] failed to disable SourceDestCheck on ${enis.nodea}: Unauthor`, "m"),
  );
  assert.match(a.agent.output, /status code: 403, request id: /);
  assert.deepEqual(await vpc.destinations(), [a.subnet, b.subnet].sort());
  // As long as nobody switches the check off, the VPC drops what is not the nodes' own.
  assert.ok(!await vpc.reaches("nodea", b.subnet));
  for (const id of Object.values(enis)) {
    await aws.client.send(
      new ModifyNetworkInterfaceAttributeCommand({
        NetworkInterfaceId: id,
        SourceDestCheck: { Value: false },
      }),
    );
  }
  assert.ok(await vpc.reaches("nodea", b.subnet));
});

Deno.test("a full route table is one clear error, and is used once there is room", async () => {
  await using vpc = await Vpc.create();
  const { aws, tableId } = vpc.cloud;
  for (let i = 0; i < 50; i++) await aws.client.send(vpc.route(`10.9.${i}.0/24`));
  const agent = await vpc.start("nodea");
  await agent.waitFor(new RegExp(`^E.*\\] .*route table ${tableId} is full`, "m"), LIMIT);
  const asked = () => aws.proxy.count().CreateRoute ?? 0;
  const before = asked();
  await waitFor(() => asked() > before, { limitMs: LIMIT, what: "another try" });
  assert.equal(agent.output.match(/is full/g)?.length, 1, agent.output);
  assert.match(agent.output, /50 routes/);
  assert.doesNotMatch(agent.output, new RegExp(SUBNET_FILE));
  await aws.client.send(
    new DeleteRouteCommand({ RouteTableId: tableId, DestinationCidrBlock: "10.9.7.0/24" }),
  );
  await agent.waitFor(new RegExp(SUBNET_FILE), LIMIT);
  assert.equal((await vpc.destinations()).length, 50);
});
