/** `flanneld doctor aws-vpc` on what goes wrong: it says what is broken, and what to do. */
import assert from "node:assert/strict";
import {
  AssociateRouteTableCommand,
  AttachInternetGatewayCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateInternetGatewayCommand,
  CreateManagedPrefixListCommand,
  CreateNetworkInterfaceCommand,
  CreateRouteCommand,
  CreateRouteTableCommand,
  DescribeNetworkInterfacesCommand,
  type IpPermission,
  ModifyNetworkInterfaceAttributeCommand,
  RevokeSecurityGroupIngressCommand,
} from "@aws-sdk/client-ec2";
import { EC2_ERRORS, POLICIES, REGION } from "../lib/aws.ts";
import { PREFIX } from "../lib/cluster.ts";
import { type Cloud, cloud } from "./aws_cloud.ts";
import { runFlanneldWith } from "./support.ts";

/** What it printed. */
interface Printed {
  code: number;
  lines: string[];
}

/** Runs it on the first node. */
async function doctor(
  { cluster, env }: Cloud,
  { args = [], more = {} }: { args?: string[]; more?: Record<string, string> } = {},
): Promise<Printed> {
  const all = ["doctor", "aws-vpc", ...cluster.etcdArgs(), ...args];
  const { code, stdout, stderr } = await runFlanneldWith(
    { ...env, ...more },
    cluster.nodes[0],
    ...all,
  );
  assert.equal(stderr, "");
  return { code, lines: stdout.trim().split("\n") };
}

/** Asserts that each of these is a line. */
function assertLines({ lines }: Printed, ...expected: (string | RegExp)[]): void {
  for (const each of expected) {
    const found = lines.some((line) => typeof each === "string" ? line === each : each.test(line));
    assert.ok(found, `${each}:\n${lines.join("\n")}`);
  }
}

/** The lines that are not ok, each with its fix. */
function complaints({ lines }: Printed): string[] {
  return lines.filter((line) => /^(note|broken) |^ +fix: /.test(line));
}

async function groupOf({ aws, instances: [{ eniId }] }: Cloud): Promise<string> {
  const { NetworkInterfaces: [eni] = [] } = await aws.client.send(
    new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [eniId] }),
  );
  return eni.Groups![0].GroupId!;
}

async function admit({ aws }: Cloud, GroupId: string, rules: IpPermission[]): Promise<void> {
  await aws.client.send(
    new AuthorizeSecurityGroupIngressCommand({ GroupId, IpPermissions: rules }),
  );
}

async function revoke({ aws }: Cloud, GroupId: string, rules: IpPermission[]): Promise<void> {
  await aws.client.send(new RevokeSecurityGroupIngressCommand({ GroupId, IpPermissions: rules }));
}

/** A rule for these networks. */
function rule(IpProtocol: string, ...networks: string[]): IpPermission {
  const IpRanges = networks.map((CidrIp) => ({ CidrIp }));
  if (IpProtocol === "-1") return { IpProtocol, IpRanges };
  const [FromPort, ToPort] = IpProtocol === "icmp" ? [-1, -1] : [0, 65_535];
  return { IpProtocol, FromPort, ToPort, IpRanges };
}

const ALL = rule("-1", "10.1.0.0/16");

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

async function switchCheckOff({ aws, instances }: Cloud): Promise<void> {
  for (const { eniId: NetworkInterfaceId } of instances) {
    await aws.client.send(
      new ModifyNetworkInterfaceAttributeCommand({
        NetworkInterfaceId,
        SourceDestCheck: { Value: false },
      }),
    );
  }
}

/** A lease of a node that runs elsewhere. */
async function lease({ cluster }: Cloud, subnet: string, publicIP: string): Promise<void> {
  const value = JSON.stringify({ PublicIP: publicIP, PublicIPv6: null, BackendType: "aws-vpc" });
  await cluster.etcd.ctl("put", `${PREFIX}/subnets/${subnet.replace("/", "-")}`, value);
}

const list = (...ids: string[]) =>
  `        fix: set "RouteTableID": ${
    JSON.stringify(ids)
  } in the network config's Backend (flanneld ` +
  "config set) and restart the agents, so that every node fills all of these tables";

Deno.test("what is broken and how to mend it, and then that all is well", async () => {
  await using world = await cloud({ label: "awsdoctor" });
  const { aws, cluster, vpc, instances: [{ eniId, instanceId }], env } = world;
  const [node] = cluster.nodes;
  const group = await groupOf(world);
  const forbidden = ["CreateRoute", "ModifyInstanceAttribute", "ModifyNetworkInterfaceAttribute"]
    .map((action) => aws.proxy.answer(action, EC2_ERRORS.unauthorized));
  const sick = await doctor(world);
  const refused = "UnauthorizedOperation: You are not authorized to perform this operation\\. .*";
  assertLines(
    sick,
    `ok      instance: ${instanceId}, in ${REGION}`,
    `ok      network interface: ${eniId} has ${node.ipv4}`,
    "ok      ReplaceRoute: allowed",
    new RegExp(`^broken  CreateRoute: ${refused}$`),
    /^ {8}fix: allow ec2:CreateRoute in the IAM policy of this instance's role$/,
    new RegExp(`^note    ModifyNetworkInterfaceAttribute: ${refused}$`),
    /^ {8}fix: allow ec2:ModifyNetworkInterfaceAttribute .*; ec2:ModifyInstanceAttribute is enough, too$/,
    new RegExp(`^broken  source/dest check: on at ${eniId}`),
    new RegExp(`aws ec2 modify-network-interface-attribute .* ${eniId} --no-source-dest`),
    `ok      route table ${vpc.mainTableId}: leads no subnet here yet`,
    `broken  security groups ${group}: admit nothing from 10.1.0.0/16`,
    new RegExp(
      `^ {8}fix: aws ec2 authorize-security-group-ingress --group-id ${group} .*10\\.1\\.0`,
    ),
    "ok      MTU: 9001",
    /^\d+ ok, \d+ to note, 3 broken$/,
  );
  assert.equal(sick.code, 1);
  assert.deepEqual(await aws.routes(vpc.mainTableId), [], "it changes nothing");

  for (const each of forbidden) each[Symbol.dispose]();
  await admit(world, group, [ALL]);
  node.startAgent({ env });
  await node.waitReady(60_000);
  const well = await doctor(world);
  assert.deepEqual(complaints(well), []);
  assert.equal(well.code, 0);
  assertLines(well, `ok      source/dest check: off on ${eniId}`, / 0 to note, 0 broken$/);
  assertLines(well, /^ok {6}route table rtb-\w+: leads 10\.1\.\d+\.0\/24 here$/);
});

Deno.test("without etcd, a config, or a good one, the rest is examined all the same", async () => {
  await using world = await cloud({ label: "awsconfig" });
  const { cluster, instances: [{ eniId }] } = world;
  await switchCheckOff(world);
  const rest = [`ok      source/dest check: off on ${eniId}`, "ok      CreateRoute: allowed"];

  const away = await doctor(world, { args: ["--etcd-endpoints=http://127.0.0.1:9"] });
  assertLines(away, /^broken {2}etcd: .*127\.0\.0\.1:9/, ...rest, / 1 broken$/);
  assert.equal(away.code, 1);

  await cluster.etcd.ctl("del", `${PREFIX}/config`);
  const none = await doctor(world);
  assertLines(
    none,
    `broken  network config: etcd has none at ${PREFIX}/config`,
    `        fix: flanneld config set '{"Network":"10.1.0.0/16","Backend":{"Type":"aws-vpc"}}'`,
    ...rest,
    / 1 broken$/,
  );
  assert.equal(none.code, 1);

  const bad: [config: unknown, line: RegExp][] = [
    ["no JSON", /^broken {2}network config: .*JSON/],
    [{ Network: "10.1.0.0" }, /^broken {2}network config: Network: "10\.1\.0\.0"/],
    [
      { Network: "10.1.0.0/16", Backend: { Type: "aws-vpc", RouteTableID: "rtb 1" } },
      /^broken {2}network config: Backend\.RouteTableID: "rtb 1" is not/,
    ],
  ];
  for (const [config, line] of bad) {
    const text = typeof config === "string" ? config : JSON.stringify(config);
    await cluster.writeConfig(text);
    const printed = await doctor(world);
    assertLines(printed, line, "        fix: flanneld config set", ...rest);
    assert.equal(printed.code, 1);
  }
  await cluster.writeConfig({ Network: "10.1.0.0/16", Backend: { Type: "vxlan" } });
  assertLines(
    await doctor(world),
    "note    backend: the network config names the backend vxlan",
  );
});

Deno.test("addresses: none but loopback's, of another interface, and no metadata service", async () => {
  await using world = await cloud({ label: "awsaddress" });
  const { cluster, instances: [{ eniId, instanceId }] } = world;
  const { ns, ipv4 } = cluster.nodes[0];
  const metadataOff = { AWS_EC2_METADATA_DISABLED: "true", AWS_REGION: REGION };
  const keys = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" };
  const off = await doctor(world, { more: { ...metadataOff, ...keys } });
  assertLines(
    off,
    new RegExp(
      `^note    instance: in ${REGION}; the instance metadata service is off ` +
        "\\(AWS_EC2_METADATA_DISABLED\\)",
    ),
    `ok      network interface: ${eniId} has ${ipv4}`,
  );

  await ns.run("ip", "link", "add", "eth9", "type", "bridge");
  await ns.run("ip", "address", "add", "172.16.9.9/24", "dev", "eth9");
  await ns.run("ip", "link", "set", "eth9", "up");
  const args = ["--iface=eth9"];
  const other = await doctor(world, { args });
  assertLines(
    other,
    new RegExp(
      `^broken  \\w+: no network interface of ${instanceId} has the address 172\\.16\\.9\\.9`,
    ),
    `note    network interface: eth0 has ${ipv4}, which is ${eniId}'s`,
    "        fix: start flanneld with --iface=eth0",
    "ok      CreateRoute: allowed",
  );
  assert.equal(other.code, 1);
  const unknown = await doctor(world, { args, more: { ...metadataOff, ...keys } });
  assert.equal(unknown.code, 1);
  assert.ok(unknown.lines.every((line) => !line.includes(eniId)), "no other's is taken for ours");
  assertLines(
    await doctor(world, { args: ["--iface=eth8"] }),
    /^broken {2}interface: no interface matches --iface=eth8/,
  );

  await ns.run("ip", "link", "del", "eth9");
  await ns.run("ip", "address", "flush", "dev", "eth0", "scope", "global");
  const lone = await doctor(world, { more: { ...metadataOff, ...keys } });
  assertLines(
    lone,
    "broken  network interface: this node has no address but those of loopback",
    "        fix: bring up the interface that is in the VPC (ip link, DHCP)",
  );
  assert.equal(lone.code, 1);
});

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
    `ok      CreateRoute: allowed on ${main}`,
    new RegExp(`^broken  CreateRoute: UnauthorizedOperation: .* \\(on ${second}, ${third}\\)$`),
    /^ {8}fix: allow ec2:CreateRoute in the IAM policy of this instance's role$/,
    `ok      ReplaceRoute: allowed on ${main}, ${second}, ${third}`,
    `ok      DeleteRoute: allowed on ${main}, ${second}`,
    new RegExp(
      `^note    DeleteRoute: EC2 does not tell whether it is allowed: .*No idea.* \\(on ${third}\\)$`,
    ),
  );
});

Deno.test("with the lab's five permissions only what the agent needs counts", async () => {
  await using world = await cloud({ label: "awsfive" });
  const { aws, instances: [{ eniId }] } = world;
  using _policy = aws.proxy.allowOnly(POLICIES.lab);
  const on = await doctor(world);
  assertLines(
    on,
    /^note {4}ModifyNetworkInterfaceAttribute: UnauthorizedOperation/,
    `broken  source/dest check: on at ${eniId}, and the agent may not switch it off: the VPC drops ` +
      "packets from and to containers, so containers of different nodes cannot reach each other",
    / 1 broken$/,
  );
  await switchCheckOff(world);
  const off = await doctor(world);
  assert.deepEqual(complaints(off).map((line) => line.replace(/:.*/, "")), [
    "note    DescribeSecurityGroups",
    "        fix",
  ]);
  assert.equal(off.code, 0);
});

Deno.test("what EC2 refuses is a line each: Describe calls, an explicit deny, throttling", async () => {
  await using world = await cloud({ label: "awsrefused" });
  const { aws, vpc: { mainTableId: main }, instances: [{ eniId }] } = world;
  {
    // One of the two that show network interfaces is enough.
    using _one = aws.proxy.answer("DescribeNetworkInterfaces", EC2_ERRORS.unauthorized);
    assertLines(
      await doctor(world),
      "ok      DescribeInstances: allowed",
      `ok      network interface: ${eniId} has 192.168.77.11`,
    );
    using _other = aws.proxy.answer("DescribeInstances", EC2_ERRORS.unauthorized);
    const neither = await doctor(world);
    assertLines(
      neither,
      /^broken {2}DescribeInstances: UnauthorizedOperation/,
      /^ {8}fix: allow ec2:DescribeInstances .*; ec2:DescribeNetworkInterfaces is enough, too$/,
      / 1 broken$/,
    );
    assert.equal(neither.code, 1);
  }
  {
    using _tables = aws.proxy.answer("DescribeRouteTables", EC2_ERRORS.unauthorized);
    const blind = await doctor(world);
    const about = blind.lines.filter((line) => line.includes("DescribeRouteTables"));
    assert.equal(about.length, 2, about.join("\n"));
    assertLines(
      blind,
      /^broken {2}DescribeRouteTables: UnauthorizedOperation/,
      "ok      MTU: 9001",
    );
  }
  const denied = {
    ...EC2_ERRORS.unauthorized,
    message: "You are not authorized to perform this operation. User: " +
      "arn:aws:sts::123456789012:assumed-role/Node/i-1 is not authorized to perform: " +
      `ec2:CreateRoute on resource: arn:aws:ec2:${REGION}:123456789012:route-table/${main} with an ` +
      "explicit deny in a service control policy",
  };
  using _denied = aws.proxy.answer("CreateRoute", denied);
  using _throttled = aws.proxy.answer("*", EC2_ERRORS.throttled, 3);
  const printed = await doctor(world);
  assertLines(
    printed,
    /^broken {2}CreateRoute: UnauthorizedOperation: .* explicit deny in a service control policy/,
    "ok      DescribeRouteTables: allowed",
  );
  assert.ok(printed.lines.every((line) => !line.includes("allow ec2:CreateRoute")));
  assert.ok(printed.lines.every((line) => !line.includes("RequestLimitExceeded")));
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
    `broken  routing: route table ${main}, which this node's VPC subnet ${subnetId} follows, has no ` +
      `route to 10.1.41.0/24, but ${table} does: packets between this node and those peers are lost`,
    list(...[main, table].sort()),
    `note    peers: no route table of ${vpc.vpcId} leads to 10.1.42.0/24 (192.168.90.9)`,
  );
  assert.equal(split.code, 1);

  const named = (...RouteTableID: string[]) =>
    cluster.writeConfig({ Network: "10.1.0.0/16", Backend: { Type: "aws-vpc", RouteTableID } });
  await named(table);
  assertLines(
    await doctor(world),
    `broken  routing: this node's VPC subnet ${subnetId} follows route table ${main}, which ` +
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
    `broken  routing: the VPC subnets of peers (10.1.43.0/24 in ${subnet.subnetId}) follow ` +
      `${table}, which RouteTableID does not name: packets from those peers to this node are lost`,
    list(main, table),
  );

  const other = await aws.createVpc("10.99.0.0/16");
  await named(main, table, other.mainTableId);
  assertLines(
    await doctor(world),
    `note    routing: RouteTableID names ${other.mainTableId} (in ${other.vpcId}): this node, in ` +
      `${vpc.vpcId}, ignores it`,
  );
  await named(other.mainTableId);
  const none = await doctor(world);
  assertLines(
    none,
    `broken  RouteTableID: the agent ends: RouteTableID names ${other.mainTableId} (in ` +
      `${other.vpcId}): name a route table of ${vpc.vpcId}, where this node is, or none, for the ` +
      "one that its VPC subnet follows",
    "ok      DescribeRouteTables: allowed",
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
  const free = own === "10.1.64.0/24" ? "10.1.65.0/24" : "10.1.64.0/24";
  const GatewayId = await gateway(world);
  await addRoute(world, main, half, { GatewayId });
  await addRoute(world, main, free, { GatewayId });
  await addRoute(world, main, "0.0.0.0/0", { GatewayId });
  const { NetworkInterface: stranger } = await aws.client.send(
    new CreateNetworkInterfaceCommand({ SubnetId: subnetId, PrivateIpAddress: "192.168.77.99" }),
  );
  const NetworkInterfaceId = stranger!.NetworkInterfaceId!;
  await addRoute(world, main, "10.1.77.0/24", { NetworkInterfaceId });
  const { PrefixList: prefixList } = await aws.client.send(
    new CreateManagedPrefixListCommand({
      PrefixListName: "elsewhere",
      MaxEntries: 5,
      AddressFamily: "IPv4",
      Entries: [{ Cidr: "10.1.78.128/25" }],
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
    `broken  routing: route table ${main} leads ${half}, a part of this node's subnet ${own}, to ` +
      `${GatewayId}: packets to there never reach the node`,
    `        fix: remove that route (${
      removal(half)
    }), or keep the subnet out of SubnetMin and SubnetMax`,
    `note    route table ${main}: leads subnets away that nodes may lease (${free} to ${GatewayId} ` +
      `and 10.1.78.128/25 to ${GatewayId}): such a node would not become ready, or lose packets`,
    `        fix: remove such a route (${
      removal(free)
    }), or keep the subnet out of SubnetMin and SubnetMax`,
    `note    route table ${main}: leads subnets that nobody has leased to network interfaces ` +
      `(10.1.77.0/24 to ${NetworkInterfaceId}): a node that leases one takes the route over`,
    `ok      route table ${main}: leads ${own} here`,
    `ok      route table ${main}: IPv4 routes: 5 and 1 for prefix lists; the quota is 500 by ` +
      "default, 50 in older accounts",
  );
  assert.equal(printed.code, 1);
  using _refused = aws.proxy.answer("GetManagedPrefixListEntries", EC2_ERRORS.unauthorized);
  assertLines(
    await doctor(world),
    new RegExp(
      `^note    route table ${main}: where its route for prefix list ${DestinationPrefixListId} ` +
        "leads packets is not known: UnauthorizedOperation",
    ),
    /^ {8}fix: allow ec2:GetManagedPrefixListEntries in the IAM policy of this instance's role$/,
  );
});

Deno.test("security groups: rules that admit the network together are fine", async () => {
  await using world = await cloud({ label: "awsgroups" });
  const { aws } = world;
  await switchCheckOff(world);
  const group = await groupOf(world);
  const halves = [rule("-1", "10.1.0.0/17"), rule("-1", "10.1.128.0/17")];
  const protocols = ["tcp", "udp", "icmp"].map((name) => rule(name, "10.1.0.0/16"));
  const check = `security groups ${group}`;
  const cases: [rules: IpPermission[], line: string][] = [
    [halves, `ok      ${check}: admit all traffic from 10.1.0.0/16`],
    [
      halves.slice(0, 1),
      `broken  ${check}: admit nothing from 10.1.128.0-10.1.255.255, a part of 10.1.0.0/16`,
    ],
    [protocols, `ok      ${check}: admit all TCP, UDP and ICMP from 10.1.0.0/16`],
    [
      protocols.slice(1),
      `note    ${check}: admit only certain protocols or ports from 10.1.0.0/16`,
    ],
  ];
  for (const [rules, line] of cases) {
    await admit(world, group, rules);
    assertLines(await doctor(world), line);
    await revoke(world, group, rules);
  }
  const { PrefixList: prefixList } = await aws.client.send(
    new CreateManagedPrefixListCommand({
      PrefixListName: "overlay",
      MaxEntries: 5,
      AddressFamily: "IPv4",
      Entries: [{ Cidr: "10.1.0.0/17" }, { Cidr: "10.1.128.0/17" }],
    }),
  );
  const PrefixListId = prefixList!.PrefixListId!;
  await admit(world, group, [{ IpProtocol: "-1", PrefixListIds: [{ PrefixListId }] }]);
  assertLines(await doctor(world), `ok      ${check}: admit all traffic from 10.1.0.0/16`);
  {
    using _refused = aws.proxy.answer("GetManagedPrefixListEntries", EC2_ERRORS.unauthorized);
    const unread = await doctor(world);
    assertLines(
      unread,
      new RegExp(
        `^note    ${check}: admit nothing from 10\\.1\\.0\\.0/16, unless prefix list ${PrefixListId} ` +
          "does: it cannot be read: UnauthorizedOperation",
      ),
      /^ {8}fix: allow ec2:GetManagedPrefixListEntries in the IAM policy of this instance's role$/,
    );
    assert.equal(unread.code, 0);
  }
  using _refused = aws.proxy.answer("DescribeSecurityGroups", EC2_ERRORS.unauthorized);
  const unknown = await doctor(world);
  assertLines(
    unknown,
    /^note {4}DescribeSecurityGroups: .*; the agent does not need it, but the security groups cannot be checked$/,
  );
  assert.equal(unknown.code, 0);
});
