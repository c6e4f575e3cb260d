/**
 * Whether a network interface's security groups let the overlay's packets pass. They come from
 * containers' addresses, which no network interface has: a rule that names a group does not admit
 * them, only one that names their network.
 *
 * @module
 */
import {
  DescribeSecurityGroupsCommand,
  type EC2Client,
  type IpPermission,
} from "@aws-sdk/client-ec2";
import type { Cidr } from "../../base/cidr.ts";
import type { FamilyConfig } from "../../subnet/config.ts";
import { fail, type Finding, pass, warn } from "../finding.ts";
import { admission, type Admitted, prefixListsOf } from "./admission.ts";
import { names } from "./coverage.ts";
import { faultOf } from "./faults.ts";
import { type PrefixLists, readPrefixLists } from "./prefix_lists.ts";
import type { Eni } from "./types.ts";

/** The rules of one direction, of all groups together: what one admits is admitted. */
interface Direction {
  word: "from" | "to";
  rules: IpPermission[];
  /** The subcommand of `aws ec2` that adds a rule. */
  command: string;
}

/** What the groups of a network interface admit of the overlay's networks. @throws {Ec2Fault} */
export async function* examineGroups(
  client: EC2Client,
  { securityGroups }: Eni,
  families: readonly FamilyConfig[],
): AsyncGenerator<Finding> {
  if (securityGroups.length === 0) return;
  const directions = await readRules(client, securityGroups);
  const ids = directions.flatMap(({ rules }) => prefixListsOf(rules));
  const lists = await readPrefixLists(client, [...new Set(ids)]);
  for (const family of families) {
    for (const direction of directions) {
      yield admissionFinding(securityGroups, family, direction, lists);
    }
  }
}

async function readRules(client: EC2Client, groupIds: string[]): Promise<Direction[]> {
  try {
    const { SecurityGroups: groups = [] } = await client.send(
      new DescribeSecurityGroupsCommand({ GroupIds: groupIds }),
    );
    return [
      {
        word: "from",
        rules: groups.flatMap(({ IpPermissions = [] }) => IpPermissions),
        command: "authorize-security-group-ingress",
      },
      {
        word: "to",
        rules: groups.flatMap(({ IpPermissionsEgress = [] }) => IpPermissionsEgress),
        command: "authorize-security-group-egress",
      },
    ];
  } catch (error) {
    throw faultOf("DescribeSecurityGroups", error);
  }
}

function admissionFinding(
  groups: readonly string[],
  family: FamilyConfig,
  { word, rules, command }: Direction,
  lists: PrefixLists,
): Finding {
  const { network } = family;
  const check = `security groups ${groups.join(", ")}`;
  const what = admission(rules, rangeOf(family), lists.networks);
  if (what.admission === "all") return pass(check, `admit all traffic ${word} ${network}`);
  if (what.admission === "common") {
    return pass(check, `admit all TCP, UDP and ICMP ${word} ${network}`);
  }
  const detail = shortfall(what, word, network);
  const unread = prefixListsOf(rules).find((id) => lists.unread.has(id));
  if (unread !== undefined) {
    const fault = lists.unread.get(unread)!;
    const doubt =
      `${detail}, unless prefix list ${unread} does: it cannot be read: ${fault.message}`;
    return warn(check, doubt, fault.details.fix);
  }
  const range = network.family === 6
    ? `Ipv6Ranges=[{CidrIpv6=${network}}]`
    : `IpRanges=[{CidrIp=${network}}]`;
  const fix = `aws ec2 ${command} --group-id ${groups[0]} ` +
    `--ip-permissions 'IpProtocol=-1,${range}'`;
  return what.admission === "some" ? warn(check, detail, fix) : fail(check, detail, fix);
}

function shortfall({ admission, missing }: Admitted, word: string, network: Cidr): string {
  if (admission === "none") return `admit nothing ${word} ${network}`;
  if (admission === "some") return `admit only certain protocols or ports ${word} ${network}`;
  return `admit nothing ${word} ${names(missing)}, a part of ${network}`;
}

/** Addresses that nodes' containers may have. */
function rangeOf({ network, min, max }: FamilyConfig) {
  return { family: network.family, first: min.base, last: max.last };
}
