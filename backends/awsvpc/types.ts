/**
 * EC2's things as far as they matter here, and the calls that are made.
 *
 * @module
 */
import type { Cidr } from "../../base/cidr.ts";

/** A network interface (ENI). */
export interface Eni {
  id: string;
  vpcId: string;
  subnetId: string;
  /** Of the instance that it is attached to; undefined: none. */
  instanceId: string | undefined;
  /** Packets that are neither from nor for one of its addresses are dropped. */
  sourceDestCheck: boolean;
  /** Private addresses, primary and secondary, IPv6 ones, and public ones that lead to it. */
  addresses: string[];
  securityGroups: string[];
}

/** A route of a route table. */
export interface VpcRoute {
  destination: Cidr;
  /** Of the network interface, gateway or other thing that it leads to. */
  target: string;
  /** Its target is gone, or its instance is stopped: packets are dropped. */
  blackHole: boolean;
  /** The prefix list that it is for, of which this is one destination. */
  prefixListId?: string;
}

/** A route table. */
export interface RouteTable {
  id: string;
  vpcId: string;
  /** Those to prefix lists are left out: see {@link prefixLists}. */
  routes: VpcRoute[];
  /** VPC subnets that it is associated with itself. */
  subnetIds: string[];
  /** Followed by all VPC subnets of its VPC that have no table of their own. */
  isMain: boolean;
  /** Prefix lists that it has a route for, with the route's target. */
  prefixLists: { id: string; target: string }[];
}

/** The tables of a VPC. */
export interface VpcTables {
  tables: RouteTable[];
  /** False where the VPC has more of them than are read. */
  isWhole: boolean;
  /** How many calls that took. */
  requests: number;
}

/** The calls, a request each (more where the answer comes in pages). All throw {@linkcode Ec2Fault}. */
export interface Ec2 {
  enisOfInstance(instanceId: string): Promise<Eni[]>;
  enisWithAddress(ip: string): Promise<Eni[]>;
  /** Those of these that there are. */
  enis(ids: readonly string[]): Promise<Eni[]>;
  /** The table that is associated with a subnet itself. */
  tableOfSubnet(subnetId: string): Promise<RouteTable | undefined>;
  /** The table of all subnets that have none of their own. */
  mainTable(vpcId: string): Promise<RouteTable | undefined>;
  /** Those of these that there are. */
  tables(ids: readonly string[]): Promise<RouteTable[]>;
  /** All tables of a VPC, up to a limit. */
  tablesOfVpc(vpcId: string): Promise<VpcTables>;
  createRoute(tableId: string, destination: Cidr, eniId: string): Promise<void>;
  replaceRoute(tableId: string, destination: Cidr, eniId: string): Promise<void>;
  deleteRoute(tableId: string, destination: Cidr): Promise<void>;
  /** Switches the source/dest check off, of an instance with one network interface or of one of several. */
  forwardForeign(target: { instanceId: string } | { eniId: string }): Promise<void>;
}

/** Where the agent runs. */
export interface Where {
  region: string;
  /** Undefined where the metadata service is switched off (AWS_EC2_METADATA_DISABLED). */
  instanceId: string | undefined;
}
