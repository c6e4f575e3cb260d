/** The agent with the aws-vpc backend where route tables do not fit: what it tells, and what it does all the same. */
import assert from "node:assert/strict";
import {
  AssociateRouteTableCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
} from "@aws-sdk/client-ec2";
import { PREFIX } from "../../testbed/cluster.ts";
import { type Cloud, cloud, told } from "./aws_cloud.ts";

/** A VPC subnet with a route table of its own, which leads a peer's subnet to a node there. */
async function peerElsewhere({ aws, cluster, vpc }: Cloud, subnet: string): Promise<string> {
  const there = await aws.createSubnet(vpc, "192.168.78.0/24");
  const peer = await aws.launch(there, { ip: "192.168.78.12" });
  const { RouteTable: made } = await aws.client.send(
    new CreateRouteTableCommand({ VpcId: vpc.vpcId }),
  );
  const RouteTableId = made!.RouteTableId!;
  await aws.client.send(new AssociateRouteTableCommand({ RouteTableId, SubnetId: there.subnetId }));
  await aws.client.send(
    new CreateRouteCommand({
      RouteTableId,
      DestinationCidrBlock: subnet,
      NetworkInterfaceId: peer.eniId,
    }),
  );
  const value = JSON.stringify({ PublicIP: peer.ip, PublicIPv6: null, BackendType: "aws-vpc" });
  await cluster.etcd.ctl("put", `${PREFIX}/subnets/${subnet.replace("/", "-")}`, value);
  return RouteTableId;
}

Deno.test("a node that its peers do not reach says which list of route tables mends it", async () => {
  await using world = await cloud({ label: "awslist" });
  const { cluster: { nodes: [node] }, vpc: { mainTableId: main }, env } = world;
  const table = await peerElsewhere(world, "10.1.41.0/24");
  const agent = node.startAgent({ env });
  await agent.waitForLine(/packets between this node and those peers are lost/, 90_000);
  const warnings = told(node).filter((line) => line.includes("those peers are lost"));
  assert.equal(warnings.length, 1);
  const list = JSON.stringify([main, table].sort());
  assert.ok(warnings[0].includes(`route table ${main}, which this node's VPC subnet`), warnings[0]);
  assert.ok(warnings[0].includes(`but ${table} does`), warnings[0]);
  assert.ok(
    warnings[0].includes(`set "RouteTableID": ${list} in the network config's`),
    warnings[0],
  );
  assert.ok(await node.ready(), "its own route is there");
});

Deno.test("a named table of another VPC is passed by name, and the others are filled", async () => {
  await using world = await cloud({ label: "awsstray" });
  const { aws, cluster, vpc, instances: [{ eniId }], env } = world;
  const other = await aws.createVpc("10.99.0.0/16");
  const named = (...RouteTableID: string[]) =>
    cluster.writeConfig({ Network: "10.1.0.0/16", Backend: { Type: "aws-vpc", RouteTableID } });
  await named(other.mainTableId, vpc.mainTableId);
  const [node] = cluster.nodes;
  const agent = node.startAgent({ env });
  await node.waitReady(60_000);
  assert.deepEqual((await aws.routes(vpc.mainTableId)).map(({ target }) => target), [eniId]);
  const warning = `RouteTableID names ${other.mainTableId} (in ${other.vpcId}): this node, in ` +
    `${vpc.vpcId}, ignores it; remove tables that no node needs from RouteTableID in the network config`;
  assert.ok(told(node).includes(warning), agent.lines.join("\n"));
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);

  await named(other.mainTableId);
  const again = node.startAgent({ env });
  const { code } = await again.status;
  assert.equal(code, 1);
  assert.match(
    again.lines.at(-1)!,
    new RegExp(`^flanneld: Backend\\.RouteTableID: ${other.mainTableId} \\(in ${other.vpcId}\\)`),
  );
});
