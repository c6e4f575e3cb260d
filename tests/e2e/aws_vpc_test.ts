/** The agent with the aws-vpc backend: what it tells, the route it makes, and what it waits for. */
import assert from "node:assert/strict";
import { CreateRouteCommand } from "@aws-sdk/client-ec2";
import { EC2_ERRORS, POLICIES, REGION } from "../../testbed/aws.ts";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { actionsOf, documentedPolicies } from "../../testbed/documented.ts";
import { waitFor } from "../../testbed/netns.ts";
import { cloud, told } from "./aws_cloud.ts";
import { eventually, runFlanneld } from "./support.ts";

/** Where each of these stands in the log, in this order. */
function assertOrder(lines: string[], patterns: RegExp[]): void {
  const places = patterns.map((pattern) => lines.findIndex((line) => pattern.test(line)));
  assert.ok(
    places.every((place) => place >= 0),
    `${patterns[places.indexOf(-1)]}:\n${lines.join("\n")}`,
  );
  assert.deepEqual(places, places.toSorted((a, b) => a - b), lines.join("\n"));
}

Deno.test("two nodes: the lab's lines in the lab's order, a route each, gone with its lease", async () => {
  await using world = await cloud({ label: "aws", nodes: 2 });
  const { aws, cluster, vpc, instances: [a, b], env } = world;
  using _policy = aws.proxy.allowOnly(POLICIES.lab);
  await cluster.startAgents({ env });
  const [nodeA, nodeB] = cluster.nodes;
  const fileA = await nodeA.env();
  assert.equal(fileA.FLANNEL_MTU, "9001");
  const subnet = fileA.FLANNEL_SUBNET.replace(".1/", ".0/");
  assertOrder(told(nodeA), [
    /^Found network config - Backend type: aws-vpc$/,
    /^Backend configured as: \{"Type":"aws-vpc"\}$/,
    /^Allocated lease \(.*\) to current node \(192\.168\.77\.11\)/,
    new RegExp(`^Found ${a.eniId} that has 192\\.168\\.77\\.11 IP address\\.$`),
    new RegExp(
      `^failed to disable SourceDestCheck on ${a.eniId}: UnauthorizedOperation: You are not ` +
        "authorized to perform this operation\\. status code: 403, request id: \\S+; the VPC drops " +
        "packets to and from containers, .*: allow ec2:ModifyNetworkInterfaceAttribute in the IAM " +
        "policy of this instance's role, or run: aws ec2 modify-network-interface-attribute " +
        `--network-interface-id ${a.eniId} --no-source-dest-check$`,
    ),
    /^Route table configured: false$/,
    new RegExp(`^Found route table ${vpc.mainTableId}\\.$`),
    new RegExp(`^Route added to table ${vpc.mainTableId}: ${subnet} - ${a.eniId}\\.$`),
    /^Wrote subnet file to /,
    /^Running backend\.$/,
  ]);
  const fileB = await nodeB.env();
  const expected = [
    { destination: subnet, target: a.eniId, state: "active" },
    { destination: fileB.FLANNEL_SUBNET.replace(".1/", ".0/"), target: b.eniId, state: "active" },
  ].sort((one, other) => one.destination < other.destination ? -1 : 1);
  assert.deepEqual(await aws.routes(vpc.mainTableId), expected);

  nodeA.agent!.kill("SIGKILL");
  await nodeA.agent!.status;
  const subnetFile = `--subnet-file=${nodeA.subnetFile}`;
  const { code, stderr } = await runFlanneld(
    nodeA,
    "cleanup",
    "--lease",
    ...cluster.etcdArgs(),
    subnetFile,
  );
  assert.equal(code, 0, stderr);
  await eventually(async () => {
    const routes = await aws.routes(vpc.mainTableId);
    assert.deepEqual(routes.map(({ target }) => target), [b.eniId]);
  }, { limitMs: 60_000 });
  const { DescribeNetworkInterfaces, DescribeInstances } = aws.proxy.count();
  assert.equal(DescribeNetworkInterfaces, undefined, "all was found by what the policy allows");
  assert.ok(DescribeInstances <= 4, `${DescribeInstances}`);
});

Deno.test("the documentation's least policy is enough: nothing is refused, and nothing complained of", async () => {
  await using world = await cloud({ label: "awsleast", nodes: 2 });
  const { aws, cluster, vpc, instances, env } = world;
  using _policy = aws.proxy.allowOnly(actionsOf(documentedPolicies().least));
  await cluster.startAgents({ env });
  const [one, two] = cluster.nodes;
  // A black hole goes, too.
  one.agent!.kill("SIGKILL");
  await one.agent!.status;
  await aws.terminate(instances[0]);
  const args = ["--lease", ...cluster.etcdArgs(), `--subnet-file=${one.subnetFile}`];
  const { code, stderr } = await runFlanneld(one, "cleanup", ...args);
  assert.equal(code, 0, stderr);
  await eventually(async () => {
    const routes = await aws.routes(vpc.mainTableId);
    assert.deepEqual(routes.map(({ target }) => target), [instances[1].eniId]);
  }, { limitMs: 60_000 });
  assert.equal(await aws.sourceDestCheck(instances[1]), false);
  for (const { agent } of [one, two]) {
    assert.deepEqual(agent!.lines.filter((line) => /^[EW]/.test(line)), []);
  }
  assert.deepEqual(aws.proxy.calls.filter(({ status }) => status !== 200), []);
});

Deno.test("a policy without DescribeInstances, and a source/dest check that nobody may switch off", async () => {
  await using world = await cloud({ label: "awspolicy" });
  const { aws, cluster: { nodes: [node] }, vpc, instances: [{ eniId }], env } = world;
  using _policy = aws.proxy.allowOnly(POLICIES.interfaces);
  const refusal = {
    status: 400,
    code: "OperationNotPermitted",
    message: "You do not have permission to access the specified resource.",
  };
  using _ofInterface = aws.proxy.answer("ModifyNetworkInterfaceAttribute", refusal);
  using _ofInstance = aws.proxy.answer("ModifyInstanceAttribute", refusal);
  node.startAgent({ env });
  await node.waitReady(60_000);
  assert.deepEqual((await aws.routes(vpc.mainTableId)).map(({ target }) => target), [eniId]);
  const [warning, ...more] = node.agent!.lines.filter((line) => /^[EW]/.test(line));
  assert.deepEqual(more, []);
  assert.ok(
    warning.includes(
      `] failed to disable SourceDestCheck on ${eniId}: OperationNotPermitted: You do not have ` +
        "permission to access the specified resource. status code: 400, request id: ",
    ),
    warning,
  );
  assert.match(warning, /; the VPC drops packets .* run: aws ec2 modify-network-interface-attr/);
});

Deno.test("EC2 shows a route late: no error, and ready when it is shown", async () => {
  await using world = await cloud({ label: "awslate" });
  const { aws, cluster, vpc, instances: [{ eniId }], env } = world;
  const [node] = cluster.nodes;
  await cluster.writeConfig({
    ...networkConfig("ipv4", { Type: "aws-vpc" }),
    SubnetMin: "10.1.40.0",
    SubnetMax: "10.1.40.0",
  });
  const old = await aws.proxy.freezeTables();
  // Of this node before it was started again.
  await aws.client.send(
    new CreateRouteCommand({
      RouteTableId: vpc.mainTableId,
      DestinationCidrBlock: "10.1.40.0/24",
      NetworkInterfaceId: eniId,
    }),
  );
  node.startAgent({ env });
  const looks = () => aws.proxy.count().DescribeRouteTables ?? 0;
  await waitFor(() => looks() >= 4, { limitMs: 60_000, what: "three more looks" });
  assert.equal((await node.health("/readyz")).status, 503);
  old[Symbol.dispose]();
  await node.waitReady(60_000);
  assert.deepEqual(node.agent!.lines.filter((line) => /^[EW]/.test(line)), []);
  assert.deepEqual((await aws.routes(vpc.mainTableId)).map(({ target }) => target), [eniId]);
  assert.ok(aws.proxy.count().CreateRoute <= 3);
});

Deno.test("a node without the right to make its route is not ready until it gets it", async () => {
  await using world = await cloud({ label: "aws403" });
  const { aws, cluster: { nodes: [node] }, vpc, instances: [{ eniId }], env } = world;
  using forbidden = aws.proxy.answer("CreateRoute", EC2_ERRORS.unauthorized);
  const agent = node.startAgent({ env });
  await agent.waitForLine(
    /allow ec2:CreateRoute in the IAM policy of this instance's role/,
    60_000,
  );
  assert.equal((await node.health("/readyz")).status, 503);
  await assert.rejects(Deno.stat(node.subnetFile), Deno.errors.NotFound);

  forbidden[Symbol.dispose]();
  await node.waitReady(60_000);
  assert.deepEqual((await aws.routes(vpc.mainTableId)).map(({ target }) => target), [eniId]);
  const refusals = told(node).filter((line) => line.includes("ec2:CreateRoute"));
  assert.equal(refusals.length, 1);
});

Deno.test("a route table that is not there ends the agent with one line", async () => {
  await using world = await cloud({
    label: "awstable",
    backend: { RouteTableID: "rtb-0123456789abcdef0" },
  });
  const { cluster: { nodes: [node] }, env } = world;
  const agent = node.startAgent({ env });
  await waitFor(() => agent.ended, { limitMs: 60_000 });
  const { code } = await agent.status;
  assert.equal(code, 1);
  assert.match(agent.lines.at(-1)!, /^flanneld: Backend\.RouteTableID: .*rtb-0123456789abcdef0/);
});

Deno.test("off EC2 it says so and goes on asking", async () => {
  await using cluster = await Cluster.create({
    label: "awsoff",
    nodes: 1,
    network: networkConfig("ipv4", { Type: "aws-vpc" }),
  });
  // Nobody listens there.
  const env = { AWS_EC2_METADATA_SERVICE_ENDPOINT: "http://127.0.0.1:9", AWS_REGION: REGION };
  const agent = cluster.node(0).startAgent({ env });
  await agent.waitForLine(
    /the instance metadata service does not answer .* aws-vpc runs on EC2/,
    60_000,
  );
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);
});
