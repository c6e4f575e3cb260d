/**
 * Hosts that are instances of one VPC subnet, for the end-to-end tests of aws-vpc: agents find EC2's
 * endpoint by a variable, and all else as on EC2.
 *
 * @module
 */
import { Aws, type Instance, Metadata, type Vpc } from "../../testbed/aws.ts";
import { ChangingMetadata } from "../../testbed/changing_metadata.ts";
import { Cluster, type Families, networkConfig, type Node } from "../../testbed/cluster.ts";

/** What {@linkcode cloud} makes. */
export interface CloudOptions {
  /** Part of the namespaces' names. */
  label: string;
  /** 1 where absent. */
  nodes?: number;
  /** Options of the backend. */
  backend?: Record<string, unknown>;
  /** Of the overlay and the VPC; `ipv4` where absent. */
  families?: Families;
  /** Roles whose credentials the test changes, in place of those that do not end. */
  changing?: boolean;
}

/** See the module. */
export interface Cloud extends AsyncDisposable {
  aws: Aws;
  cluster: Cluster;
  vpc: Vpc;
  instances: Instance[];
  /** Of the instances, where {@linkcode CloudOptions.changing} is set. */
  roles: ChangingMetadata[];
  /** Variables of an agent. */
  env: Record<string, string>;
}

/** Milliseconds for which a role's first credentials last. */
const ROLE_LIFETIME = 3_600_000;

/** See the module. */
export async function cloud(options: CloudOptions): Promise<Cloud> {
  const { label, nodes = 1, backend = {}, families = "ipv4", changing = false } = options;
  await using stack = new AsyncDisposableStack();
  const aws = stack.use(await Aws.start());
  const network = networkConfig(families, { Type: "aws-vpc", ...backend });
  const cluster = stack.use(await Cluster.create({ label, nodes, families, network, mtu: 9001 }));
  const ipv6 = families !== "ipv4";
  const vpc = await aws.createVpc("192.168.0.0/16", { ipv6 });
  const subnet = await aws.createSubnet(vpc, "192.168.77.0/24");
  const instances: Instance[] = [];
  const roles: ChangingMetadata[] = [];
  for (const [index, node] of cluster.nodes.entries()) {
    const ip = `192.168.77.${11 + index}`;
    const instance = await aws.launch(subnet, { ip, ipv6: node.ipv6 });
    instances.push(instance);
    if (!changing) stack.use(await Metadata.start(instance, { ns: node.ns }));
    else {
      const first = { accessKeyId: "FIRST", lifetime: ROLE_LIFETIME };
      const family = families === "ipv6" ? "ipv6" : "ipv4";
      roles.push(stack.use(await ChangingMetadata.start(instance, node.ns, first, family)));
    }
  }
  const endpoint = await aws.proxy.serveIn(
    cluster.switch,
    families === "ipv6" ? "fd77::1" : "192.168.77.1",
  );
  const all = stack.move();
  return {
    aws,
    cluster,
    vpc,
    instances,
    roles,
    env: { AWS_ENDPOINT_URL_EC2: endpoint, AWS_CA_BUNDLE: aws.proxy.tls.ca },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** The log's lines without time and process. */
export function told(node: Node): string[] {
  return node.agent!.lines.map((line) => line.replace(/^.*?\] /, ""));
}
