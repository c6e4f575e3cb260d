/** `flanneld doctor aws-vpc` on what goes wrong: it says what is broken, and what to do. */
import assert from "node:assert/strict";
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateManagedPrefixListCommand,
  DescribeNetworkInterfacesCommand,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
} from "@aws-sdk/client-ec2";
import { EC2_ERRORS, POLICIES, REGION } from "../../testbed/aws.ts";
import { PREFIX } from "../../testbed/cluster.ts";
import { type Cloud, cloud } from "./aws_cloud.ts";
import type { DoctorReport } from "../../doctor/report.ts";
import { assertLines, complaints, doctor, switchCheckOff } from "./aws_doctor.ts";
import { runFlanneldWith } from "./support.ts";

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
    `pass  instance: ${instanceId}, in ${REGION}`,
    `pass  network interface: ${eniId} has ${node.ipv4}`,
    "pass  ReplaceRoute: allowed",
    new RegExp(`^fail  CreateRoute: ${refused}$`),
    /^ {6}fix: allow ec2:CreateRoute in the IAM policy of this instance's role$/,
    new RegExp(`^warn  ModifyNetworkInterfaceAttribute: ${refused}$`),
    /^ {6}fix: allow ec2:ModifyNetworkInterfaceAttribute .*; ec2:ModifyInstanceAttribute is also sufficient$/,
    new RegExp(`^fail  source/dest check: on at ${eniId}`),
    new RegExp(`aws ec2 modify-network-interface-attribute .* ${eniId} --no-source-dest`),
    `pass  route table ${vpc.mainTableId}: routes no subnet to this node yet`,
    `fail  security groups ${group}: admit nothing from 10.1.0.0/16`,
    new RegExp(
      `^ {6}fix: aws ec2 authorize-security-group-ingress --group-id ${group} .*10\\.1\\.0`,
    ),
    "pass  MTU: 9001",
    /^\d+ passed, \d+ warnings?, 3 failed$/,
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
  assertLines(well, `pass  source/dest check: off on ${eniId}`, / 0 warnings, 0 failed$/);
  assertLines(well, /^pass {2}route table rtb-\w+: routes 10\.1\.\d+\.0\/24 to this node$/);
  // The doctor of the whole node has the same, among the rest.
  const args = ["doctor", `--subnet-file=${node.subnetFile}`, ...cluster.etcdArgs()];
  const whole = await runFlanneldWith(env, node, ...args);
  const printed = { code: whole.code, lines: whole.stdout.trim().split("\n") };
  assert.deepEqual(complaints(printed), []);
  assert.equal(whole.code, 0);
  assertLines(
    printed,
    `pass  source/dest check: off on ${eniId}`,
    /^pass {2}subnet file: /,
    "pass  peers: there are none",
  );
});

Deno.test("without etcd, a config, or a good one, the rest is examined all the same", async () => {
  await using world = await cloud({ label: "awsconfig" });
  const { cluster, instances: [{ eniId }] } = world;
  await switchCheckOff(world);
  const rest = [`pass  source/dest check: off on ${eniId}`, "pass  CreateRoute: allowed"];

  const away = await doctor(world, { args: ["--etcd-endpoints=http://127.0.0.1:9"] });
  assertLines(away, /^fail {2}etcd: .*127\.0\.0\.1:9/, ...rest, / 1 failed$/);
  assert.equal(away.code, 1);

  await cluster.etcd.ctl("del", `${PREFIX}/config`);
  const none = await doctor(world);
  assertLines(
    none,
    `fail  network config: not found in etcd at ${PREFIX}/config`,
    `      fix: flanneld config set '{"Network":"10.1.0.0/16","Backend":{"Type":"aws-vpc"}}'`,
    ...rest,
    / 1 failed$/,
  );
  assert.equal(none.code, 1);

  const bad: [config: unknown, line: RegExp][] = [
    ["no JSON", /^fail {2}network config: .*JSON/],
    [{ Network: "10.1.0.0" }, /^fail {2}network config: Network: "10\.1\.0\.0"/],
    [
      { Network: "10.1.0.0/16", Backend: { Type: "aws-vpc", RouteTableID: "rtb 1" } },
      /^fail {2}network config: Backend\.RouteTableID: "rtb 1" is not/,
    ],
  ];
  for (const [config, line] of bad) {
    const text = typeof config === "string" ? config : JSON.stringify(config);
    await cluster.writeConfig(text);
    const printed = await doctor(world);
    assertLines(printed, line, "      fix: flanneld config set", ...rest);
    assert.equal(printed.code, 1);
  }
  await cluster.writeConfig({ Network: "10.1.0.0/16", Backend: { Type: "vxlan" } });
  assertLines(
    await doctor(world),
    "warn  backend: the network config names the backend vxlan",
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
      `^warn  instance: in ${REGION}; the instance metadata service is off ` +
        "\\(AWS_EC2_METADATA_DISABLED\\)",
    ),
    `pass  network interface: ${eniId} has ${ipv4}`,
  );

  await ns.run("ip", "link", "add", "eth9", "type", "bridge");
  await ns.run("ip", "address", "add", "172.16.9.9/24", "dev", "eth9");
  await ns.run("ip", "link", "set", "eth9", "up");
  const args = ["--iface=eth9"];
  const other = await doctor(world, { args });
  assertLines(
    other,
    new RegExp(
      `^fail  \\w+: no network interface of ${instanceId} has the address 172\\.16\\.9\\.9`,
    ),
    `warn  network interface: eth0 has ${ipv4}, which is ${eniId}'s`,
    "      fix: start flanneld with --iface=eth0",
    "pass  CreateRoute: allowed",
  );
  assert.equal(other.code, 1);
  const unknown = await doctor(world, { args, more: { ...metadataOff, ...keys } });
  assert.equal(unknown.code, 1);
  assert.ok(unknown.lines.every((line) => !line.includes(eniId)), "no other's is taken for ours");
  assertLines(
    await doctor(world, { args: ["--iface=eth8"] }),
    /^fail {2}interface: no interface matches --iface=eth8/,
  );

  await ns.run("ip", "link", "del", "eth9");
  await ns.run("ip", "address", "flush", "dev", "eth0", "scope", "global");
  const lone = await doctor(world, { more: { ...metadataOff, ...keys } });
  assertLines(
    lone,
    "fail  network interface: this node has only loopback addresses",
    "      fix: bring up the interface that is in the VPC (ip link, DHCP)",
  );
  assert.equal(lone.code, 1);
});

Deno.test("with the lab's five permissions only what the agent needs counts", async () => {
  await using world = await cloud({ label: "awsfive" });
  const { aws, instances: [{ eniId }] } = world;
  using _policy = aws.proxy.allowOnly(POLICIES.lab);
  const on = await doctor(world);
  assertLines(
    on,
    /^warn {2}ModifyNetworkInterfaceAttribute: UnauthorizedOperation/,
    `fail  source/dest check: on at ${eniId}, and the agent may not switch it off: the VPC drops ` +
      "packets from and to containers, so containers of different nodes cannot reach each other",
    / 1 failed$/,
  );
  await switchCheckOff(world);
  const off = await doctor(world);
  assert.deepEqual(complaints(off).map((line) => line.replace(/:.*/, "")), [
    "warn  DescribeSecurityGroups",
    "      fix",
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
      "pass  DescribeInstances: allowed",
      `pass  network interface: ${eniId} has 192.168.77.11`,
    );
    using _other = aws.proxy.answer("DescribeInstances", EC2_ERRORS.unauthorized);
    const neither = await doctor(world);
    assertLines(
      neither,
      /^fail {2}DescribeInstances: UnauthorizedOperation/,
      /^ {6}fix: allow ec2:DescribeInstances .*; ec2:DescribeNetworkInterfaces is also sufficient$/,
      / 1 failed$/,
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
      /^fail {2}DescribeRouteTables: UnauthorizedOperation/,
      "pass  MTU: 9001",
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
    /^fail {2}CreateRoute: UnauthorizedOperation: .* explicit deny in a service control policy/,
    "pass  DescribeRouteTables: allowed",
  );
  assert.ok(printed.lines.every((line) => !line.includes("allow ec2:CreateRoute")));
  assert.ok(printed.lines.every((line) => !line.includes("RequestLimitExceeded")));
});

Deno.test("an EC2 that cannot be reached is named once, by either doctor, and as JSON", async () => {
  await using world = await cloud({ label: "awsaway" });
  const { cluster: { nodes: [node], etcd }, env } = world;
  const ask = async (url: string, ...args: string[]) => {
    const start = performance.now();
    const { code, stdout } = await runFlanneldWith(
      { ...env, AWS_ENDPOINT_URL_EC2: url },
      node,
      ...["doctor", ...args, "--json", `--etcd-endpoints=${etcd.endpoint}`],
    );
    const { findings, summary } = JSON.parse(stdout) as DoctorReport;
    assert.equal(code, 1);
    assert.ok(performance.now() - start < 20_000, `${performance.now() - start} ms`);
    const about = findings.filter(({ area, verdict }) => area === "aws-vpc" && verdict === "fail");
    assert.equal(about.length, 1, stdout);
    return { line: about[0].detail, summary };
  };
  // Where nothing listens, and where nothing answers.
  for (const url of ["http://127.0.0.1:9", "http://192.0.2.7:80"]) {
    const { line, summary } = await ask(url, "aws-vpc");
    assert.match(line, /^EC2 cannot be reached: .*/);
    assert.equal(summary.fail, 1);
  }
  assert.match((await ask("http://127.0.0.1:9")).line, /^EC2 cannot be reached: /);
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
    [halves, `pass  ${check}: admit all traffic from 10.1.0.0/16`],
    [
      halves.slice(0, 1),
      `fail  ${check}: admit nothing from 10.1.128.0-10.1.255.255, a part of 10.1.0.0/16`,
    ],
    [protocols, `pass  ${check}: admit all TCP, UDP and ICMP from 10.1.0.0/16`],
    [
      protocols.slice(1),
      `warn  ${check}: admit only certain protocols or ports from 10.1.0.0/16`,
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
  assertLines(await doctor(world), `pass  ${check}: admit all traffic from 10.1.0.0/16`);
  {
    using _refused = aws.proxy.answer("GetManagedPrefixListEntries", EC2_ERRORS.unauthorized);
    const unread = await doctor(world);
    assertLines(
      unread,
      new RegExp(
        `^warn  ${check}: admit nothing from 10\\.1\\.0\\.0/16, unless prefix list ${PrefixListId} ` +
          "does: it cannot be read: UnauthorizedOperation",
      ),
      /^ {6}fix: allow ec2:GetManagedPrefixListEntries in the IAM policy of this instance's role$/,
    );
    assert.equal(unread.code, 0);
  }
  using _refused = aws.proxy.answer("DescribeSecurityGroups", EC2_ERRORS.unauthorized);
  const unknown = await doctor(world);
  assertLines(
    unknown,
    /^warn {2}DescribeSecurityGroups: .*; the agent does not need it, but the security groups cannot be checked$/,
  );
  assert.equal(unknown.code, 0);
});
