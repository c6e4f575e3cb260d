/**
 * AWS around the lab's machines: the EC2 API, each instance's metadata service, and the VPC's
 * router, which does what the route table says and nothing else.
 *
 * @module
 */
import {
  AuthorizeSecurityGroupIngressCommand,
  DescribeSecurityGroupsCommand,
  ModifyNetworkInterfaceAttributeCommand,
} from "@aws-sdk/client-ec2";
import { Aws, type Instance, Metadata, POLICIES, REGION, type Vpc } from "../aws.ts";
import type { Machine } from "../machine.ts";
import { type NetNs, waitFor } from "../netns.ts";
import { NETWORK, type VpcView } from "./facts.ts";
import { NODE_IPS, type NodeName, NODES, type Place } from "./place.ts";

/** EC2's endpoint in {@linkcode REGION}. */
const EC2_HOST = `ec2.${REGION}.amazonaws.com`;

/** Milliseconds between two looks at the route table. */
const PERIOD = 100;

/** Milliseconds within which the router has done what the route table says. */
const SETTLE_LIMIT = 20_000;

/** See the module. */
export class Cloud implements AsyncDisposable, VpcView {
  readonly instances = {} as Record<NodeName, Instance>;
  vpc!: Vpc;
  #router: VpcRouter | undefined;
  readonly #metadata: Metadata[] = [];

  private constructor(readonly aws: Aws) {}

  /** Gives the machines of a place an account, and lets the router follow it. */
  static async start(place: Place): Promise<Cloud> {
    const cloud = new Cloud(await Aws.start());
    try {
      await cloud.#setUp(place);
    } catch (error) {
      await cloud[Symbol.asyncDispose]();
      throw error;
    }
    return cloud;
  }

  async #setUp(place: Place): Promise<void> {
    const { aws, instances } = this;
    this.vpc = await aws.createVpc("172.31.0.0/16");
    const subnet = await aws.createSubnet(this.vpc, "172.31.16.0/20");
    for (const name of NODES) {
      const { ns, machine } = place.nodes[name];
      instances[name] = await aws.launch(subnet, { ip: NODE_IPS[name] });
      this.#metadata.push(await Metadata.start(instances[name], { ns }));
      // All else is as on any instance: nothing is configured.
      await aws.proxy.serveIn(ns, "127.0.0.1", 443);
      const hosts = `127.0.0.1\t${EC2_HOST}\n`;
      await machine.run("sh", "-c", 'printf "%s" "$1" >>/etc/hosts', "-", hosts);
      await trust(machine, await Deno.readTextFile(aws.proxy.tls.ca));
    }
    await this.#admitOverlay(this.vpc);
    this.#router = new VpcRouter(place.router, this);
    await this.#router.settled();
  }

  /**
   * What the lab's instructor has done besides: the nodes' role has the policy that the lab shows,
   * which does not allow to switch the source/dest check off, and so that is done.
   */
  async instruct(): Promise<void> {
    const { aws, enis } = this;
    for (const NetworkInterfaceId of Object.values(enis)) {
      await aws.client.send(
        new ModifyNetworkInterfaceAttributeCommand({
          NetworkInterfaceId,
          SourceDestCheck: { Value: false },
        }),
      );
    }
    aws.proxy.allowOnly(POLICIES.lab);
    await this.settled();
  }

  /** The nodes' security group admits the overlay's packets. */
  async #admitOverlay({ vpcId }: Vpc): Promise<void> {
    const { client } = this.aws;
    const { SecurityGroups: groups } = await client.send(
      new DescribeSecurityGroupsCommand({ Filters: [{ Name: "vpc-id", Values: [vpcId] }] }),
    );
    await client.send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: groups![0].GroupId,
        IpPermissions: [{ IpProtocol: "-1", IpRanges: [{ CidrIp: NETWORK }] }],
      }),
    );
  }

  get enis(): Record<NodeName, string> {
    const { nodea, nodeb } = this.instances;
    return { nodea: nodea.eniId, nodeb: nodeb.eniId };
  }

  get tableId(): string {
    return this.vpc.mainTableId;
  }

  /** Waits until packets go as the route table says now. */
  settled(): Promise<void> {
    return this.#router!.settled();
  }

  async table(): Promise<string> {
    const rows = (await this.aws.routes(this.tableId)).map((
      { destination, target, state },
    ) => [destination, target, state]);
    return [["Destination", "Target", "Status"], [this.vpc.cidr, "local", "active"], ...rows]
      .map(([a, b, c]) => `${a.padEnd(18)} ${b.padEnd(22)} ${c}\n`).join("");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#router?.[Symbol.asyncDispose]();
    for (const metadata of this.#metadata) await metadata[Symbol.asyncDispose]();
    await this.aws[Symbol.asyncDispose]();
  }
}

/** Adds an authority to a machine's own store, as its administrator would. */
async function trust(machine: Machine, pem: string): Promise<void> {
  const script = 'printf "%s" "$1" >/usr/local/share/ca-certificates/ec2.crt && ' +
    "update-ca-certificates";
  await machine.run("sh", "-c", script, "-", pem);
}

/** Which packets the VPC lets through, and where it sends them. */
interface VpcState {
  /** `10.1.40.0/24 nodea`, sorted. */
  routes: string[];
  /** Nodes whose source/dest check is on. */
  checked: NodeName[];
}

/** Follows the VPC's main route table and the instances' source/dest checks. */
class VpcRouter implements AsyncDisposable {
  #stop = false;
  /** Looks begun, and the last of them that was carried out. */
  #begun = 0;
  #carriedOut = 0;
  #state = "";
  readonly #running: Promise<void>;

  constructor(readonly ns: NetNs, readonly cloud: Cloud) {
    this.#running = this.#follow();
  }

  async settled(): Promise<void> {
    const wanted = this.#begun + 1;
    await waitFor(() => this.#carriedOut >= wanted, {
      limitMs: SETTLE_LIMIT,
      what: "the VPC's router to follow the route table",
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop = true;
    await this.#running;
  }

  async #follow(): Promise<void> {
    while (!this.#stop) {
      const look = ++this.#begun;
      try {
        await this.#carryOut(await this.#look());
        this.#carriedOut = look;
      } catch {
        // Asked again; whoever waits for it to settle tells.
      }
      await new Promise((done) => setTimeout(done, PERIOD));
    }
  }

  async #look(): Promise<VpcState> {
    const { aws, tableId, instances } = this.cloud;
    const routes: string[] = [];
    for (const { destination, target, state } of await aws.routes(tableId)) {
      const name = NODES.find((name) => instances[name].eniId === target);
      if (name && state === "active") routes.push(`${destination} ${name}`);
    }
    const checked: NodeName[] = [];
    for (const name of NODES) {
      if (await aws.sourceDestCheck(instances[name])) checked.push(name);
    }
    return { routes, checked };
  }

  async #carryOut(wanted: VpcState): Promise<void> {
    const text = JSON.stringify(wanted);
    if (text === this.#state) return;
    await this.ns.run("ip", "route", "flush", "proto", "static");
    for (const route of wanted.routes) {
      const [destination, name] = route.split(" ");
      const to = ["via", NODE_IPS[name as NodeName], "dev", name];
      await this.ns.run("ip", "route", "add", destination, ...to, "proto", "static");
    }
    await this.ns.run(
      "nft",
      [
        "add table ip vpc",
        "flush table ip vpc",
        "add chain ip vpc forward { type filter hook forward priority 0; }",
        ...wanted.checked.flatMap((name) => [
          `add rule ip vpc forward iifname ${name} ip saddr != ${NODE_IPS[name]} drop`,
          `add rule ip vpc forward oifname ${name} ip daddr != ${NODE_IPS[name]} drop`,
        ]),
      ].join("; "),
    );
    this.#state = text;
  }
}
