/**
 * AWS for one test: moto's EC2 API behind {@linkcode Ec2Proxy}, over TLS, and for each instance the metadata
 * service, on loopback or where a network namespace reaches it.
 *
 * @example
 * ```ts
 * await using aws = await Aws.start();
 * const vpc = await aws.createVpc("172.31.0.0/16");
 * const subnet = await aws.createSubnet(vpc, "172.31.16.0/20");
 * const instance = await aws.launch(subnet, { ip: "172.31.28.198" });
 * await using metadata = await Metadata.start(instance);
 * const env = { ...aws.env(), ...metadata.env() };
 * ```
 *
 * @module
 */
import {
  AllocateAddressCommand,
  AssignIpv6AddressesCommand,
  AssociateAddressCommand,
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRouteTablesCommand,
  EC2Client,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { awsRequestHandler } from "../backends/awsvpc/http.ts";
import { METADATA_MOCK } from "./go_tools.ts";
import { MOTO_SERVER } from "./moto.ts";
import { Ec2Proxy } from "./ec2_proxy.ts";
import { freePort } from "./etcd.ts";
import { type NetNs, type Process, run, spawn, waitFor } from "./netns.ts";

export { EC2_ERRORS, type Ec2Call, type Ec2Error, Ec2Proxy, POLICIES } from "./ec2_proxy.ts";

/** Where everything is. */
export const REGION = "eu-central-1";

/** The address of the metadata service on every instance. */
export const METADATA_ADDRESS = "169.254.169.254";

/** Any image will do. */
const IMAGE = "ami-12c6146b";

/** Milliseconds that moto on a busy machine may take to serve. */
const START_LIMIT = 60_000;

/** A virtual private cloud and its main route table. */
export interface Vpc {
  vpcId: string;
  mainTableId: string;
  cidr: string;
  ipv6Cidr?: string;
}

/** A subnet of a VPC. */
export interface Subnet {
  subnetId: string;
  vpcId: string;
  cidr: string;
}

/** Of an instance's network interface. */
interface Addresses {
  ip: string;
  ipv6?: string;
}

/** An instance and the network interface that holds its address. */
export interface Instance {
  instanceId: string;
  eniId: string;
  mac: string;
  ip: string;
  vpcId: string;
  subnetId: string;
}

/** A route of a route table. */
export interface VpcRoute {
  destination: string;
  /** Of the network interface or gateway. */
  target: string;
  state: string;
}

/** See the module. */
export class Aws implements AsyncDisposable {
  /** Asks moto itself, past the proxy, so that no call of the test's is counted. */
  readonly client: EC2Client;

  private constructor(readonly moto: Process, url: string, readonly proxy: Ec2Proxy) {
    this.client = new EC2Client({
      endpoint: url,
      region: REGION,
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
    });
  }

  /** Starts moto and the proxy, both on loopback. */
  static async start(): Promise<Aws> {
    const port = freePort();
    const moto = spawn(MOTO_SERVER, ["-H", "127.0.0.1", "-p", `${port}`], {
      env: { PYTHONUNBUFFERED: "1", MOTO_EC2_LOAD_DEFAULT_AMIS: "false" },
    });
    try {
      await moto.waitForLine(/Running on http/, START_LIMIT);
      const url = `http://127.0.0.1:${port}`;
      return new Aws(moto, url, await Ec2Proxy.start(url));
    } catch (error) {
      await moto[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.destroy();
    await this.proxy[Symbol.asyncDispose]();
    await this.moto[Symbol.asyncDispose]();
  }

  /** A client such as agents have, to be destroyed by its user. */
  agentClient(): EC2Client {
    return new EC2Client({
      endpoint: this.proxy.endpoint,
      region: REGION,
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
      maxAttempts: 1,
      requestHandler: awsRequestHandler((name) => this.env()[name]),
    });
  }

  /**
   * Variables of an agent that calls EC2 at `endpoint`; the proxy's own where absent. Its authority
   * is trusted by AWS's own setting; the lab's machines have it in the system's store.
   */
  env(endpoint = this.proxy.endpoint): Record<string, string> {
    return {
      AWS_ENDPOINT_URL_EC2: endpoint,
      AWS_CA_BUNDLE: this.proxy.tls.ca,
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    };
  }

  /** Makes a VPC, with an IPv6 block of Amazon's where asked for. */
  async createVpc(cidr: string, { ipv6 = false } = {}): Promise<Vpc> {
    const { Vpc: vpc } = await this.client.send(
      new CreateVpcCommand({ CidrBlock: cidr, AmazonProvidedIpv6CidrBlock: ipv6 }),
    );
    const { RouteTables: tables } = await this.client.send(
      new DescribeRouteTablesCommand({
        Filters: [{ Name: "vpc-id", Values: [vpc!.VpcId!] }, {
          Name: "association.main",
          Values: ["true"],
        }],
      }),
    );
    return {
      vpcId: vpc!.VpcId!,
      mainTableId: tables![0].RouteTableId!,
      cidr,
      ipv6Cidr: vpc!.Ipv6CidrBlockAssociationSet?.[0]?.Ipv6CidrBlock,
    };
  }
  async createSubnet(
    { vpcId, ipv6Cidr }: Vpc,
    cidr: string,
    ipv6 = ipv6Cidr?.replace(/\/\d+$/, "/64"),
  ): Promise<Subnet> {
    const { Subnet: subnet } = await this.client.send(
      new CreateSubnetCommand({ VpcId: vpcId, CidrBlock: cidr, Ipv6CidrBlock: ipv6 }),
    );
    return { subnetId: subnet!.SubnetId!, vpcId, cidr };
  }

  /** Runs an instance with a network interface that has this address. */
  async launch(
    { subnetId, vpcId }: Pick<Subnet, "subnetId" | "vpcId">,
    { ip, ipv6 }: Addresses,
  ): Promise<Instance> {
    const { Instances: instances } = await this.client.send(
      new RunInstancesCommand({
        ImageId: IMAGE,
        MinCount: 1,
        MaxCount: 1,
        NetworkInterfaces: [{
          DeviceIndex: 0,
          SubnetId: subnetId,
          PrivateIpAddress: ip,
        }],
      }),
    );
    const { InstanceId: instanceId, NetworkInterfaces: enis } = instances![0];
    const { NetworkInterfaceId: eniId, MacAddress: mac } = enis![0];
    // moto takes none in the call above.
    if (ipv6) {
      await this.client.send(
        new AssignIpv6AddressesCommand({ NetworkInterfaceId: eniId, Ipv6Addresses: [ipv6] }),
      );
    }
    return { instanceId: instanceId!, eniId: eniId!, mac: mac!, ip, vpcId, subnetId };
  }

  /** Attaches one more network interface; the result is the instance seen from that one. */
  async attach(
    instance: Instance,
    { subnetId }: Pick<Subnet, "subnetId">,
    ip: string,
  ): Promise<Instance> {
    const { NetworkInterface: eni } = await this.client.send(
      new CreateNetworkInterfaceCommand({ SubnetId: subnetId, PrivateIpAddress: ip }),
    );
    const eniId = eni!.NetworkInterfaceId!;
    const { instanceId: InstanceId } = instance;
    await this.client.send(
      new AttachNetworkInterfaceCommand({ NetworkInterfaceId: eniId, InstanceId, DeviceIndex: 1 }),
    );
    return { ...instance, eniId, mac: eni!.MacAddress!, ip, subnetId };
  }

  /** Gives an instance a public address. */
  async elasticIp({ eniId }: Instance): Promise<string> {
    const { PublicIp, AllocationId } = await this.client.send(
      new AllocateAddressCommand({ Domain: "vpc" }),
    );
    await this.client.send(
      new AssociateAddressCommand({ AllocationId, NetworkInterfaceId: eniId }),
    );
    return PublicIp!;
  }

  /** Ends an instance; routes to its network interface become black holes. */
  async terminate({ instanceId, eniId }: Instance): Promise<void> {
    this.proxy.gone.add(eniId);
    await this.client.send(new TerminateInstancesCommand({ InstanceIds: [instanceId] }));
  }

  /** The routes of a table without the local ones, as EC2 tells them, by destination. */
  async routes(tableId: string): Promise<VpcRoute[]> {
    const { RouteTables: tables } = await this.client.send(
      new DescribeRouteTablesCommand({ RouteTableIds: [tableId] }),
    );
    const routes = (tables![0].Routes ?? []).map((route) => {
      const target = route.NetworkInterfaceId ?? route.GatewayId ??
        route.VpcPeeringConnectionId ?? "";
      return {
        destination: route.DestinationCidrBlock ?? route.DestinationIpv6CidrBlock ?? "",
        target,
        state: this.proxy.gone.has(target) ? "blackhole" : route.State!,
      };
    });
    return routes.filter(({ target }) => target !== "local")
      .sort((a, b) => a.destination < b.destination ? -1 : 1);
  }

  /** Whether packets that are not the instance's own are dropped. */
  async sourceDestCheck({ eniId }: Instance): Promise<boolean> {
    const { NetworkInterfaces: enis } = await this.client.send(
      new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [eniId] }),
    );
    return enis![0].SourceDestCheck!;
  }
}

/** How {@linkcode Metadata.start} serves. */
export interface MetadataOptions {
  /** Serves at {@linkcode METADATA_ADDRESS} of this namespace, rather than on loopback. */
  ns?: NetNs;
  /** Answer requests without a token, too (IMDSv1). */
  v1?: boolean;
}

/** The metadata service as one instance sees it. */
export class Metadata implements AsyncDisposable {
  private constructor(
    readonly endpoint: string,
    readonly process: Process,
    readonly folder: string,
  ) {}

  static async start(instance: Instance, { ns, v1 }: MetadataOptions = {}): Promise<Metadata> {
    const folder = await Deno.makeTempDir({ prefix: "metadata-" });
    const [host, port] = ns ? [METADATA_ADDRESS, 80] : ["127.0.0.1", freePort()];
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(metadataOf(instance)));
    const args = ["-c", `${folder}/config.json`, "-n", host, "-p", `${port}`];
    if (!v1) args.push("--imdsv2");
    if (ns) await ns.run("ip", "address", "replace", `${host}/32`, "dev", "lo");
    const process = ns ? ns.spawn(METADATA_MOCK, args) : spawn(METADATA_MOCK, args);
    const metadata = new Metadata(`http://${host}:${port}`, process, folder);
    try {
      const probe = ["-c", `exec 3<>/dev/tcp/${host}/${port}`] as const;
      await waitFor(() => ns ? ns.run("bash", ...probe) : run("bash", [...probe]), {
        what: `the metadata service at ${metadata.endpoint}`,
        limitMs: START_LIMIT,
      });
    } catch (error) {
      await metadata[Symbol.asyncDispose]();
      throw error;
    }
    return metadata;
  }

  /** Variables of an agent that finds it here; none are needed inside a namespace. */
  env(): Record<string, string> {
    return { AWS_EC2_METADATA_SERVICE_ENDPOINT: this.endpoint };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** What the mock is told: where the instance is, and a role whose credentials do not end. */
function metadataOf({ instanceId, eniId, mac, ip, vpcId, subnetId }: Instance): object {
  const ofMac = `/latest/meta-data/network/interfaces/macs/${mac}`;
  return {
    metadata: {
      paths: {
        "mac-mac": `${ofMac}/mac`,
        "mac-network-interface-id": `${ofMac}/interface-id`,
        "mac-local-ipv4s": `${ofMac}/local-ipv4s`,
        "mac-subnet-id": `${ofMac}/subnet-id`,
        "mac-vpc-id": `${ofMac}/vpc-id`,
      },
      values: {
        "instance-id": instanceId,
        "local-ipv4": ip,
        mac,
        "mac-mac": mac,
        "mac-network-interface-id": eniId,
        "mac-local-ipv4s": ip,
        "mac-subnet-id": subnetId,
        "mac-vpc-id": vpcId,
        "placement-region": REGION,
        "placement-availability-zone": `${REGION}a`,
        "iam-security-credentials": {
          Code: "Success",
          LastUpdated: "2026-01-01T00:00:00Z",
          Type: "AWS-HMAC",
          AccessKeyId: "role",
          SecretAccessKey: "role",
          Token: "role",
          Expiration: "2100-01-01T00:00:00Z",
        },
      },
    },
    dynamic: { values: { "instance-identity-document": { region: REGION, instanceId } } },
  };
}
