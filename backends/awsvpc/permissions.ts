/**
 * What this instance's role may do, found out by DryRun: EC2 checks the permission and does nothing.
 *
 * @module
 */
import {
  CreateRouteCommand,
  DeleteRouteCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  type EC2Client,
  ModifyInstanceAttributeCommand,
  ModifyNetworkInterfaceAttributeCommand,
  ReplaceRouteCommand,
} from "@aws-sdk/client-ec2";
import type { Cidr } from "../../subnet/cidr.ts";
import { routeOf } from "./client.ts";
import { type Ec2Fault, faultOf } from "./faults.ts";

/** What the calls would be for. */
export interface Subject {
  instanceId: string | undefined;
  eniId: string;
  /** Network interfaces that the instance has besides. */
  siblings: number;
  tableId: string;
  /** A subnet of the overlay. */
  destination: Cidr;
}

/** One call of the agent's. */
export interface Permission {
  /** `CreateRoute`; the IAM action is the same behind `ec2:`. */
  action: string;
  /** What the agent does without it. */
  without: "agent fails" | "only doctor";
  /** Why it would fail; undefined where it would not. */
  fault: Ec2Fault | undefined;
}

/** Tries every call that the agent and the doctor make. */
export async function tryPermissions(client: EC2Client, subject: Subject): Promise<Permission[]> {
  const DryRun = true;
  const { instanceId: InstanceId, eniId: NetworkInterfaceId, siblings } = subject;
  const route = { ...routeOf(subject.tableId, subject.destination), DryRun };
  const SourceDestCheck = { Value: false };
  const byInstance = InstanceId !== undefined && siblings === 0;
  const agent: [action: string, call: () => Promise<unknown>][] = [
    [
      "DescribeNetworkInterfaces",
      () => client.send(new DescribeNetworkInterfacesCommand({ DryRun })),
    ],
    ["DescribeRouteTables", () => client.send(new DescribeRouteTablesCommand({ DryRun }))],
    ["CreateRoute", () => client.send(new CreateRouteCommand({ ...route, NetworkInterfaceId }))],
    ["ReplaceRoute", () => client.send(new ReplaceRouteCommand({ ...route, NetworkInterfaceId }))],
    ["DeleteRoute", () => client.send(new DeleteRouteCommand(route))],
    byInstance
      ? [
        "ModifyInstanceAttribute",
        () =>
          client.send(new ModifyInstanceAttributeCommand({ InstanceId, SourceDestCheck, DryRun })),
      ]
      : [
        "ModifyNetworkInterfaceAttribute",
        () =>
          client.send(
            new ModifyNetworkInterfaceAttributeCommand({
              NetworkInterfaceId,
              SourceDestCheck,
              DryRun,
            }),
          ),
      ],
  ];
  const groups = () => client.send(new DescribeSecurityGroupsCommand({ DryRun }));
  const results: Permission[] = [];
  for (const [action, call] of agent) {
    results.push({ action, without: "agent fails", fault: await refusal(action, call) });
  }
  const action = "DescribeSecurityGroups";
  return [...results, { action, without: "only doctor", fault: await refusal(action, groups) }];
}

/** EC2 looks at the permission first: any other error comes after it. */
async function refusal(
  action: string,
  call: () => Promise<unknown>,
): Promise<Ec2Fault | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    const fault = faultOf(action, error);
    return fault.kind === "refused" ? undefined : fault;
  }
}
