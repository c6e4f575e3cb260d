/**
 * A node that is an EC2 instance, on which the built program is run with AWS credentials of all
 * kinds.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Aws, type Ec2Call, Metadata } from "../../testbed/aws.ts";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { exec } from "../../testbed/netns.ts";

/** What a run of `flanneld doctor aws-vpc` left. */
export interface Examination {
  /** Of standard output. */
  lines: string[];
  /** The access keys that EC2's calls were signed with, each once. */
  keys: string[];
  /** Calls to STS. */
  sts: Ec2Call[];
}

/** See the module. */
export class CredentialsWorld implements AsyncDisposable {
  private constructor(
    readonly aws: Aws,
    readonly cluster: Cluster,
    /** Where EC2 and STS answer. */
    readonly endpoint: string,
    readonly folder: string,
    readonly stack: AsyncDisposableStack,
  ) {}

  static async create(): Promise<CredentialsWorld> {
    await using stack = new AsyncDisposableStack();
    const aws = stack.use(await Aws.start());
    const network = networkConfig("ipv4", { Type: "aws-vpc" });
    const cluster = stack.use(
      await Cluster.create({ label: "awskeys", nodes: 1, network, mtu: 9001 }),
    );
    const { ns, ipv4 } = cluster.node(0);
    const subnet = await aws.createSubnet(
      await aws.createVpc("192.168.0.0/16"),
      "192.168.77.0/24",
    );
    const instance = await aws.launch(subnet, { ip: ipv4! });
    stack.use(await Metadata.start(instance, { ns }));
    const endpoint = await aws.proxy.serveIn(cluster.switch, "192.168.77.1");
    const folder = await Deno.makeTempDir({ prefix: "credentials-" });
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    return new CredentialsWorld(aws, cluster, endpoint, folder, stack.move());
  }

  get node(): Node {
    return this.cluster.node(0);
  }

  /** Writes a file below the world's folder, {@linkcode home} included, and gives its path. */
  async write(name: string, text: string): Promise<string> {
    const path = `${this.folder}/${name}`;
    await Deno.mkdir(path.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(path, text);
    return path;
  }

  /** The home folder: that of the case's name, so that no case sees another's files. */
  home(name: string): string {
    return `${this.folder}/${name}`;
  }

  /** Variables that say where everything is, and nothing of credentials. */
  variables(): Record<string, string> {
    return {
      AWS_ENDPOINT_URL_EC2: this.endpoint,
      AWS_ENDPOINT_URL_STS: this.endpoint,
      AWS_CA_BUNDLE: this.aws.proxy.tls.ca,
    };
  }

  /**
   * Runs `doctor aws-vpc` with these variables and no others.
   *
   * @param prefix a command that runs it
   */
  async doctor(env: Record<string, string>, prefix: string[] = []): Promise<Examination> {
    const from = this.aws.proxy.calls.length;
    const args = ["doctor", "aws-vpc", ...this.cluster.etcdArgs()];
    const all = ["netns", "exec", this.node.ns.name, ...prefix, binary(), ...args];
    const { stdout, stderr } = await exec("ip", all, {
      clearEnv: true,
      env: { PATH: Deno.env.get("PATH") ?? "", ...this.variables(), ...env },
    });
    assert.equal(stderr, "");
    const calls = this.aws.proxy.calls.slice(from);
    const isSts = ({ action }: Ec2Call) => action.startsWith("AssumeRole");
    const keys = calls.filter((call) => !isSts(call)).map(({ accessKey }) => accessKey);
    return { lines: stdout.trim().split("\n"), keys: [...new Set(keys)], sts: calls.filter(isSts) };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.disposeAsync();
  }
}

/** The built program: from source it would be permitted everything. */
function binary(): string {
  const built = Deno.env.get("FLANNELD_BIN");
  if (!built) throw new Error("FLANNELD_BIN names no built flanneld: deno task pack");
  return Deno.realPathSync(built);
}
