/**
 * Whether security groups let the overlay's packets pass. They come from containers' addresses, which
 * are of no network interface: a rule that names a group does not admit them, only one that names
 * their network.
 *
 * @module
 */
import {
  DescribeSecurityGroupsCommand,
  type EC2Client,
  type IpPermission,
} from "@aws-sdk/client-ec2";
import { Cidr } from "../../subnet/cidr.ts";
import { faultOf } from "./faults.ts";

/** What the rules of one direction come to for a network. */
export type Admission = "all" | "some" | "none";

/** The groups' rules, joined: what one admits is admitted. */
export interface Rules {
  inbound: IpPermission[];
  outbound: IpPermission[];
}

/** Reads the groups. @throws {Ec2Fault} */
export async function readRules(client: EC2Client, groupIds: string[]): Promise<Rules> {
  try {
    const { SecurityGroups: groups = [] } = await client.send(
      new DescribeSecurityGroupsCommand({ GroupIds: groupIds }),
    );
    return {
      inbound: groups.flatMap(({ IpPermissions }) => IpPermissions ?? []),
      outbound: groups.flatMap(({ IpPermissionsEgress }) => IpPermissionsEgress ?? []),
    };
  } catch (error) {
    throw faultOf("DescribeSecurityGroups", error);
  }
}

/** How much of the traffic with `network` the rules admit: all, certain protocols or ports, none. */
export function admission(rules: readonly IpPermission[], network: Cidr): Admission {
  const matching = rules.filter(({ IpRanges = [], Ipv6Ranges = [] }) =>
    [...IpRanges.map(({ CidrIp }) => CidrIp), ...Ipv6Ranges.map(({ CidrIpv6 }) => CidrIpv6)]
      .some((text) => text !== undefined && Cidr.parse(text).contains(network))
  );
  if (matching.some(({ IpProtocol }) => IpProtocol === "-1")) return "all";
  return matching.length > 0 ? "some" : "none";
}
