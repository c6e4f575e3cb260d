import assert from "node:assert/strict";
import { CreateRouteCommand, DescribeRouteTablesCommand, EC2Client } from "@aws-sdk/client-ec2";
import { awsRequestHandler } from "../../backends/awsvpc/http.ts";
import { Aws, EC2_ERRORS, Metadata, REGION } from "../../testbed/aws.ts";
import { NetNs } from "../../testbed/netns.ts";

Deno.test("the stand-in for AWS answers as EC2 and its metadata service do", async () => {
  await using aws = await Aws.start();
  const vpc = await aws.createVpc("172.31.0.0/16");
  const subnet = await aws.createSubnet(vpc, "172.31.16.0/20");
  const instance = await aws.launch(subnet, { ip: "172.31.28.198" });
  const client = new EC2Client({
    endpoint: aws.proxy.endpoint,
    region: REGION,
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
    maxAttempts: 1,
    requestHandler: awsRequestHandler((name) => aws.env()[name]),
  });
  const create = () =>
    client.send(
      new CreateRouteCommand({
        RouteTableId: vpc.mainTableId,
        DestinationCidrBlock: "10.1.40.0/24",
        NetworkInterfaceId: instance.eniId,
      }),
    );
  await create();
  await assert.rejects(create(), { name: "RouteAlreadyExists" });
  using throttling = aws.proxy.answer("*", EC2_ERRORS.throttled);
  await assert.rejects(create(), { name: "RequestLimitExceeded" });
  throttling[Symbol.dispose]();
  assert.deepEqual(aws.proxy.count(), { CreateRoute: 3 });

  await aws.terminate(instance);
  const { RouteTables: tables } = await client.send(
    new DescribeRouteTablesCommand({ RouteTableIds: [vpc.mainTableId] }),
  );
  const states = tables![0].Routes!.map((route) => [route.DestinationCidrBlock, route.State]);
  assert.deepEqual(states, [["172.31.0.0/16", "active"], ["10.1.40.0/24", "blackhole"]]);
  client.destroy();
});

Deno.test("both are reached from inside a namespace", async () => {
  await using aws = await Aws.start();
  const subnet = await aws.createSubnet(await aws.createVpc("172.31.0.0/16"), "172.31.16.0/20");
  const instance = await aws.launch(subnet, { ip: "172.31.28.198" });
  await using ns = await NetNs.create("aws");
  await using metadata = await Metadata.start(instance, { ns });
  assert.equal(await aws.proxy.serveIn(ns, "127.0.0.1"), "https://127.0.0.1:5000");

  const { host } = new URL(metadata.endpoint);
  const request = `GET /latest/meta-data/instance-id HTTP/1.0\r\nHost: ${host}\r\n\r\n`;
  const script = `exec 3<>/dev/tcp/${host}/80; printf '${request}' >&3; timeout 5 cat <&3`;
  // Only requests with a token are answered (IMDSv2).
  assert.match(await ns.run("bash", "-c", script), /^HTTP\/1\.\d 401/);
});
