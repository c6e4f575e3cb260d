/**
 * What managed prefix lists contain, for the doctor: rules of security groups and routes may name a
 * list in place of networks.
 *
 * @module
 */
import { type EC2Client, paginateGetManagedPrefixListEntries } from "@aws-sdk/client-ec2";
import { Cidr } from "../../base/cidr.ts";
import { Ec2Fault, faultOf } from "./faults.ts";

/** Lists that could be read, and why others could not. */
export interface PrefixLists {
  networks: Map<string, Cidr[]>;
  unread: Map<string, Ec2Fault>;
}

/** Reads these lists, a call for each hundred entries of each. */
export async function readPrefixLists(
  client: EC2Client,
  ids: readonly string[],
): Promise<PrefixLists> {
  const lists: PrefixLists = { networks: new Map(), unread: new Map() };
  for (const id of ids) {
    try {
      lists.networks.set(id, await entriesOf(client, id));
    } catch (error) {
      if (!(error instanceof Ec2Fault)) throw error;
      lists.unread.set(id, error);
    }
  }
  return lists;
}

async function entriesOf(client: EC2Client, PrefixListId: string): Promise<Cidr[]> {
  const networks: Cidr[] = [];
  try {
    for await (
      const { Entries = [] } of paginateGetManagedPrefixListEntries({ client }, { PrefixListId })
    ) {
      networks.push(...Entries.flatMap(({ Cidr: text }) => text ? Cidr.parse(text) : []));
    }
  } catch (error) {
    throw faultOf("GetManagedPrefixListEntries", error);
  }
  return networks;
}
