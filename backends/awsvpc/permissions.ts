/**
 * What this instance's role may do, found out by DryRun: EC2 checks the permission and does nothing.
 *
 * @module
 */
import {
  CreateRouteCommand,
  DeleteRouteCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  type EC2Client,
  ModifyInstanceAttributeCommand,
  ModifyNetworkInterfaceAttributeCommand,
  ReplaceRouteCommand,
} from "@aws-sdk/client-ec2";
import type { Cidr } from "../../base/cidr.ts";
import { fail, type Finding, pass, warn } from "../finding.ts";
import { routeOf } from "./client.ts";
import { type Ec2Fault, faultOf } from "./faults.ts";

/** What EC2 says of one call. */
type Answer =
  | { kind: "allowed" }
  | { kind: "refused"; fault: Ec2Fault }
  /** Something else, from which the permission cannot be told. */
  | { kind: "unclear"; fault: Ec2Fault };

/** One call and what it acts on. */
interface Trial {
  action: string;
  /** A route table's id; undefined for a call whose permission is for all alike. */
  on?: string;
  call: () => Promise<unknown>;
}

const DryRun = true;

/** Which of the Describe calls that the agent makes are not refused. */
export interface DescribePermissions {
  /** Either of the two that show network interfaces. */
  interfaces: boolean;
  tables: boolean;
}

/** Tries the Describe calls. */
export async function* describePermissions(
  client: EC2Client,
): AsyncGenerator<Finding, DescribePermissions> {
  const either = await Promise.all([
    tried({
      action: "DescribeInstances",
      call: () => client.send(new DescribeInstancesCommand({ DryRun })),
    }),
    tried({
      action: "DescribeNetworkInterfaces",
      call: () => client.send(new DescribeNetworkInterfacesCommand({ DryRun })),
    }),
  ]);
  yield* anyOf(either);
  const tables = await tried({
    action: "DescribeRouteTables",
    call: () => client.send(new DescribeRouteTablesCommand({ DryRun })),
  });
  yield* allOf([tables]);
  return { interfaces: either.some(isNotRefused), tables: isNotRefused(tables) };
}

function isNotRefused([, { kind }]: [Trial, Answer]): boolean {
  return kind !== "refused";
}

/**
 * The calls that change routes, on each table.
 *
 * @param destination a subnet of the overlay, for example
 */
export async function* routePermissions(
  client: EC2Client,
  { tableIds, destination, eniId: NetworkInterfaceId }: {
    tableIds: readonly string[];
    destination: Cidr;
    eniId: string;
  },
): AsyncGenerator<Finding> {
  const calls = {
    CreateRoute: (route: ReturnType<typeof routeOf>) =>
      client.send(new CreateRouteCommand({ ...route, DryRun, NetworkInterfaceId })),
    ReplaceRoute: (route: ReturnType<typeof routeOf>) =>
      client.send(new ReplaceRouteCommand({ ...route, DryRun, NetworkInterfaceId })),
    DeleteRoute: (route: ReturnType<typeof routeOf>) =>
      client.send(new DeleteRouteCommand({ ...route, DryRun })),
  };
  for (const [action, change] of Object.entries(calls)) {
    const results: [Trial, Answer][] = [];
    for (const on of tableIds) {
      results.push(await tried({ action, on, call: () => change(routeOf(on, destination)) }));
    }
    yield* allOf(results);
  }
}

/** Whether the agent may switch the source/dest check of its network interface off. */
export async function sourceDestCheckPermission(
  client: EC2Client,
  { instanceId: InstanceId, eniId: NetworkInterfaceId }: {
    /** Undefined where its attribute is not that of one network interface. */
    instanceId: string | undefined;
    eniId: string;
  },
): Promise<{ isAllowed: boolean; findings: Finding[] }> {
  const SourceDestCheck = { Value: false };
  const either: Trial[] = [{
    action: "ModifyNetworkInterfaceAttribute",
    call: () =>
      client.send(
        new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId, SourceDestCheck, DryRun }),
      ),
  }];
  if (InstanceId !== undefined) {
    either.push({
      action: "ModifyInstanceAttribute",
      call: () =>
        client.send(new ModifyInstanceAttributeCommand({ InstanceId, SourceDestCheck, DryRun })),
    });
  }
  const results = await Promise.all(either.map(tried));
  const isAllowed = results.some(([, { kind }]) => kind === "allowed");
  return { isAllowed, findings: [...anyOf(results)] };
}

/** What the doctor alone asks for: without it, it knows less. */
export async function groupsPermission(client: EC2Client): Promise<Finding> {
  const [trial, answer] = await tried({
    action: "DescribeSecurityGroups",
    call: () => client.send(new DescribeSecurityGroupsCommand({ DryRun })),
  });
  if (answer.kind === "allowed") return pass(trial.action, "allowed");
  const detail = `${answer.fault.message}; the agent does not need it, but the security groups ` +
    "cannot be checked";
  return warn(trial.action, detail, answer.fault.details.fix);
}

/** @throws {Ec2Fault} where EC2 cannot be reached */
async function tried(trial: Trial): Promise<[Trial, Answer]> {
  try {
    await trial.call();
    return [trial, { kind: "allowed" }];
  } catch (error) {
    const fault = faultOf(trial.action, error);
    if (fault.is("DryRunOperation")) return [trial, { kind: "allowed" }];
    // The others would fail for the same reason, each after as long.
    if (fault.kind === "unreachable") throw fault;
    return [trial, { kind: fault.kind === "unauthorized" ? "refused" : "unclear", fault }];
  }
}

/** Calls of which one is enough: one that is allowed, or else what is said of the first. */
function* anyOf(results: readonly [Trial, Answer][]): Generator<Finding> {
  const allowed = results.find(([, { kind }]) => kind === "allowed");
  const [first, ...others] = results;
  const [finding] = allOf([allowed ?? first]);
  // Another call mends a missing permission, nothing else.
  if (first[1].kind !== "refused") return yield finding;
  const enough = others.map(([{ action }]) => `; ec2:${action} is also sufficient`).join("");
  yield finding.fix === undefined ? finding : { ...finding, fix: finding.fix + enough };
}

/** Calls that are all needed: a line for what all tables have alike. */
function* allOf(results: readonly [Trial, Answer][]): Generator<Finding> {
  const groups = new Map<string, { trial: Trial; answer: Answer; on: string[] }>();
  for (const [trial, answer] of results) {
    const words = answer.kind === "allowed" ? "" : withoutRequest(answer.fault.message);
    const key = `${trial.action} ${answer.kind} ${words}`;
    const group = groups.get(key) ?? { trial, answer, on: [] };
    if (trial.on !== undefined) group.on.push(trial.on);
    groups.set(key, group);
  }
  for (const { trial: { action }, answer, on } of groups.values()) {
    const where = results.filter(([trial]) => trial.action === action).length > 1
      ? ` on ${on.join(", ")}`
      : "";
    if (answer.kind === "allowed") {
      yield pass(action, `allowed${where}`);
      continue;
    }
    const { fault } = answer;
    const detail = where === "" ? fault.message : `${fault.message} (${where.trim()})`;
    if (answer.kind === "refused") yield fail(action, detail, fault.details.fix);
    else {yield warn(
        action,
        `EC2 does not say whether it is allowed: ${detail}`,
        fault.details.fix,
      );}
  }
}

/** Each answer has an id of its own. */
function withoutRequest(message: string): string {
  return message.replace(/, request id: \S+/, "");
}
