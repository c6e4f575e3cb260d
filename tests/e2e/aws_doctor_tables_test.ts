/** `flanneld doctor aws-vpc` on route tables: permissions on each, which ones count, and others' routes. */
import assert from "node:assert/strict";
import {
  AssociateRouteTableCommand,
  AttachInternetGatewayCommand,
  CreateInternetGatewayCommand,
  CreateManagedPrefixListCommand,
  CreateNetworkInterfaceCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
} from "@aws-sdk/client-ec2";
import { EC2_ERRORS } from "../../testbed/aws.ts";
import { PREFIX } from "../../testbed/cluster.ts";
import { type Cloud, cloud } from "./aws_cloud.ts";
import { assertLines, doctor } from "./aws_doctor.ts";

/** A route table of the VPC, with the routes given. */
async function makeTable(
  { aws, vpc: { vpcId } }: Cloud,
  routes: Record<string, { NetworkInterfaceId: string } | { GatewayId: string }> = {},
): Promise<string> {
  const { RouteTable: made } = await aws.client.send(
    new CreateRouteTableCommand({ VpcId: vpcId }),
  );
  const id = made!.RouteTableId!;
  for (const [destination, target] of Object.entries(routes)) {
    await addRoute({ aws }, id, destination, target);
  }
  return id;
}

async function addRoute(
  { aws }: Pick<Cloud, "aws">,
  RouteTableId: string,
  DestinationCidrBlock: string,
  target: { NetworkInterfaceId: string } | { GatewayId: string },
): Promise<void> {
  await aws.client.send(new CreateRouteCommand({ RouteTableId, DestinationCidrBlock, ...target }));
}

async function gateway({ aws, vpc: { vpcId: VpcId } }: Cloud): Promise<string> {
  const { InternetGateway: made } = await aws.client.send(new CreateInternetGatewayCommand({}));
  const InternetGatewayId = made!.InternetGatewayId!;
  await aws.client.send(new AttachInternetGatewayCommand({ InternetGatewayId, VpcId }));
  return InternetGatewayId;
}

/** A lease of a node that runs elsewhere. */
async function lease({ cluster }: Cloud, subnet: string, publicIP: string): Promise<void> {
  const value = JSON.stringify({ PublicIP: publicIP, PublicIPv6: null, BackendType: "aws-vpc" });
  await cluster.etcd.ctl("put", `${PREFIX}/subnets/${subnet.replace("/", "-")}`, value);
}

const list = (...ids: string[]) =>
  `      fix: set "RouteTableID": ${
    JSON.stringify(ids)
  } in the network config's Backend (flanneld ` +
  "config set) and restart the agents, so that every node fills all of these tables";

Deno.test("permissions are looked at on each table", async () => {
  await using world = await cloud({ label: "awseach" });
  const { aws, cluster, vpc: { mainTableId: main } } = world;
  const second = await makeTable(world);
  const third = await makeTable(world);
  await cluster.writeConfig({
    Network: "10.1.0.0/16",
    Backend: { Type: "aws-vpc", RouteTableID: [main, second, third] },
  });
  const onTable = (...ids: string[]) => (params: URLSearchParams) =>
    ids.includes(params.get("RouteTableId") ?? "");
  using _refused = aws.proxy.answer(
    "CreateRoute",
    EC2_ERRORS.unauthorized,
    Infinity,
    onTable(second, third),
  );
  using _odd = aws.proxy.answer(
    "DeleteRoute",
    { status: 400, code: "InvalidParameterValue", message: "No idea." },
    Infinity,
    onTable(third),
  );
  const printed = await doctor(world);
  assertLines(
    printed,
    `pass  CreateRoute: allowed on ${main}`,
    new RegExp(`^fail  CreateRoute: UnauthorizedOperation: .* \\(on ${second}, ${third}\\)$`),
    /^ {6}fix: allow ec2:CreateRoute in the IAM policy of this instance's role$/,
    `pass  ReplaceRoute: allowed on ${main}, ${second}, ${third}`,
    `pass  DeleteRoute: allowed on ${main}, ${second}`,
    new RegExp(
      `^warn  DeleteRoute: EC2 does not say whether it is allowed: .*No idea.* \\(on ${third}\\)$`,
    ),
  );
});

Deno.test("route tables: those of other nodes, of another VPC, and too few named", async () => {
  await using world = await cloud({ label: "awstables", nodes: 2 });
  const { aws, cluster, vpc, instances: [{ subnetId }, peer] } = world;
  const { mainTableId: main } = vpc;
  const subnet = await aws.createSubnet(vpc, "192.168.78.0/24");
  const table = await makeTable(world, { "10.1.41.0/24": { NetworkInterfaceId: peer.eniId } });
  await aws.client.send(
    new AssociateRouteTableCommand({ RouteTableId: table, SubnetId: subnet.subnetId }),
  );
  await lease(world, "10.1.41.0/24", "192.168.77.12");
  await lease(world, "10.1.42.0/24", "192.168.90.9");
  const split = await doctor(world);
  assertLines(
    split,
    `fail  routing: route table ${main}, which this node's VPC subnet ${subnetId} follows, has no ` +
      `route to 10.1.41.0/24, but ${table} does: packets between this node and those peers are lost`,
    list(...[main, table].sort()),
    `warn  peers: no route table of ${vpc.vpcId} has a route to 10.1.42.0/24 (192.168.90.9)`,
  );
  assert.equal(split.code, 1);

  const named = (...RouteTableID: string[]) =>
    cluster.writeConfig({ Network: "10.1.0.0/16", Backend: { Type: "aws-vpc", RouteTableID } });
  await named(table);
  assertLines(
    await doctor(world),
    `fail  routing: this node's VPC subnet ${subnetId} follows route table ${main}, which ` +
      "RouteTableID does not name: packets from this node's containers to other nodes are lost",
    list(table, main),
  );

  // The peer's interface is in the second VPC subnet.
  const moved = await aws.launch(subnet, { ip: "192.168.78.43" });
  await lease(world, "10.1.43.0/24", "192.168.78.43");
  await addRoute(world, main, "10.1.43.0/24", { NetworkInterfaceId: moved.eniId });
  await addRoute(world, main, "10.1.41.0/24", { NetworkInterfaceId: peer.eniId });
  await named(main);
  assertLines(
    await doctor(world),
    `fail  routing: the VPC subnets of peers (10.1.43.0/24 in ${subnet.subnetId}) follow ` +
      `${table}, which RouteTableID does not name: packets from those peers to this node are lost`,
    list(main, table),
  );

  const other = await aws.createVpc("10.99.0.0/16");
  await named(main, table, other.mainTableId);
  assertLines(
    await doctor(world),
    `warn  routing: RouteTableID names ${other.mainTableId} (in ${other.vpcId}): this node, in ` +
      `${vpc.vpcId}, ignores it`,
  );
  await named(other.mainTableId);
  const none = await doctor(world);
  assertLines(
    none,
    `fail  RouteTableID: the agent exits: RouteTableID names ${other.mainTableId} (in ` +
      `${other.vpcId}): name a route table of ${vpc.vpcId}, where this node is, or none, for the ` +
      "one that its VPC subnet follows",
    "pass  DescribeRouteTables: allowed",
  );
  assert.equal(none.code, 1);
});

Deno.test("routes of others over leased subnets, and those that may be", async () => {
  await using world = await cloud({ label: "awsroutes" });
  const { aws, cluster, env, vpc: { mainTableId: main }, instances: [{ subnetId }] } = world;
  const [node] = cluster.nodes;
  node.startAgent({ env });
  await node.waitReady(60_000);
  const own = (await node.env()).FLANNEL_SUBNET.replace(".1/24", ".0/24");
  const half = own.replace("0/24", "128/25");
  const [free, leasedByNone, listed] = ["64", "65", "66", "67"].map((n) => `10.1.${n}.0/24`)
    .filter((subnet) => subnet !== own);
  const listedHalf = listed.replace("0/24", "128/25");
  const GatewayId = await gateway(world);
  await addRoute(world, main, half, { GatewayId });
  await addRoute(world, main, free, { GatewayId });
  await addRoute(world, main, "0.0.0.0/0", { GatewayId });
  const { NetworkInterface: stranger } = await aws.client.send(
    new CreateNetworkInterfaceCommand({ SubnetId: subnetId, PrivateIpAddress: "192.168.77.99" }),
  );
  const NetworkInterfaceId = stranger!.NetworkInterfaceId!;
  await addRoute(world, main, leasedByNone, { NetworkInterfaceId });
  const { PrefixList: prefixList } = await aws.client.send(
    new CreateManagedPrefixListCommand({
      PrefixListName: "elsewhere",
      MaxEntries: 5,
      AddressFamily: "IPv4",
      Entries: [{ Cidr: listedHalf }],
    }),
  );
  const DestinationPrefixListId = prefixList!.PrefixListId!;
  await aws.client.send(
    new CreateRouteCommand({ RouteTableId: main, DestinationPrefixListId, GatewayId }),
  );
  const removal = (destination: string) =>
    `aws ec2 delete-route --route-table-id ${main} --destination-cidr-block ${destination}`;
  const printed = await doctor(world);
  assertLines(
    printed,
    `fail  routing: route table ${main} routes ${half}, a part of this node's subnet ${own}, to ` +
      `${GatewayId}: packets to there never reach the node`,
    `      fix: remove that route (${
      removal(half)
    }), or keep the subnet out of SubnetMin and SubnetMax`,
    `warn  route table ${main}: routes subnets elsewhere that nodes may lease (${free} to ${GatewayId} ` +
      `and ${listedHalf} to ${GatewayId}): such a node would not become ready, or would lose packets`,
    `      fix: remove such a route (${
      removal(free)
    }), or keep the subnet out of SubnetMin and SubnetMax`,
    `warn  route table ${main}: routes subnets that no node has leased to network interfaces ` +
      `(${leasedByNone} to ${NetworkInterfaceId}): a node that leases one takes over its route`,
    `pass  route table ${main}: routes ${own} to this node`,
    `pass  route table ${main}: IPv4 routes: 5 and 1 for prefix lists; the quota is 500 by ` +
      "default, 50 in older accounts",
  );
  assert.equal(printed.code, 1);
  using _refused = aws.proxy.answer("GetManagedPrefixListEntries", EC2_ERRORS.unauthorized);
  assertLines(
    await doctor(world),
    new RegExp(
      `^warn  route table ${main}: the target of its route for prefix list ${DestinationPrefixListId} ` +
        "is not known: UnauthorizedOperation",
    ),
    /^ {6}fix: allow ec2:GetManagedPrefixListEntries in the IAM policy of this instance's role$/,
  );
});
