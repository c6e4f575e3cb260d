/**
 * The calls to EC2, on AWS's SDK. It retries nothing: who calls counts and spaces the calls.
 *
 * Credentials, region and endpoints come by the SDK's own chain, so that all of AWS's standard
 * variables and files work.
 *
 * @module
 */
import {
  CreateRouteCommand,
  DeleteRouteCommand,
  DescribeRouteTablesCommand,
  EC2Client,
  type Filter,
  ModifyInstanceAttributeCommand,
  ModifyNetworkInterfaceAttributeCommand,
  paginateDescribeRouteTables,
  ReplaceRouteCommand,
  type Route,
  type RouteTable as Ec2RouteTable,
} from "@aws-sdk/client-ec2";
import { Cidr, tryParseIp } from "../../base/cidr.ts";
import { Credentials } from "./credentials.ts";
import { faultOf } from "./faults.ts";
import { awsRequestHandler } from "./http.ts";
import { Interfaces } from "./interfaces.ts";
import type { Ec2, Eni, RouteTable, VpcRoute, VpcTables } from "./types.ts";

/** Route tables a page: one of 500 routes in each is 5 MB, which take some 60 MB to parse. */
const TABLES_PAGE = 40;
/** Tables of a VPC that are read, EC2's quota, and routes after which no more pages are. */
const MOST_TABLES = 200;
const MOST_ROUTES = 10_000;
/** Pages of one answer: EC2 may send empty ones, but not without end. */
const MOST_PAGES = 50;

/**
 * A client of the SDK as it is used here.
 *
 * @param signal ends the wait for credentials
 */
export function sdkClient(
  region: string,
  credentials: Credentials = new Credentials(),
  signal?: AbortSignal,
): EC2Client {
  const client = new EC2Client({
    region,
    maxAttempts: 1,
    requestHandler: awsRequestHandler(),
    credentials: credentials.provider(signal),
  });
  client.middlewareStack.add(credentials.forgetRefused, { step: "initialize" });
  return client;
}

/** See the module. */
export class Ec2Calls implements Ec2 {
  readonly #options: { abortSignal?: AbortSignal };
  readonly #interfaces: Interfaces;

  /** @param signal ends calls that are under way */
  constructor(readonly client: EC2Client, signal?: AbortSignal) {
    this.#options = { abortSignal: signal };
    this.#interfaces = new Interfaces(client, this.#options);
  }

  enisOfInstance(instanceId: string): Promise<Eni[]> {
    return this.#interfaces.ofInstance(instanceId);
  }

  enisWithAddress(ip: string): Promise<Eni[]> {
    return this.#interfaces.withAddress(ip);
  }

  enis(ids: readonly string[]): Promise<Eni[]> {
    return this.#interfaces.byIds(ids);
  }

  async tableOfSubnet(subnetId: string): Promise<RouteTable | undefined> {
    const [table] = await this.#tables({
      Filters: [{ Name: "association.subnet-id", Values: [subnetId] }],
    });
    return table;
  }

  async mainTable(vpcId: string): Promise<RouteTable | undefined> {
    const [table] = await this.#tables({
      Filters: [
        { Name: "vpc-id", Values: [vpcId] },
        { Name: "association.main", Values: ["true"] },
      ],
    });
    return table;
  }

  // By a filter, since an id that is gone would be an error for all.
  tables(ids: readonly string[]): Promise<RouteTable[]> {
    return this.#tables({ Filters: [{ Name: "route-table-id", Values: [...ids] }] });
  }

  async tablesOfVpc(vpcId: string): Promise<VpcTables> {
    const pages = paginateDescribeRouteTables(
      { client: this.client, pageSize: TABLES_PAGE },
      { Filters: [{ Name: "vpc-id", Values: [vpcId] }] },
      this.#options,
    );
    return await called("DescribeRouteTables", firstTables(pages));
  }

  async createRoute(tableId: string, destination: Cidr, eniId: string): Promise<void> {
    await called(
      "CreateRoute",
      this.client.send(
        new CreateRouteCommand({ ...routeOf(tableId, destination), NetworkInterfaceId: eniId }),
        this.#options,
      ),
    );
  }

  async replaceRoute(tableId: string, destination: Cidr, eniId: string): Promise<void> {
    await called(
      "ReplaceRoute",
      this.client.send(
        new ReplaceRouteCommand({ ...routeOf(tableId, destination), NetworkInterfaceId: eniId }),
        this.#options,
      ),
    );
  }

  async deleteRoute(tableId: string, destination: Cidr): Promise<void> {
    await called(
      "DeleteRoute",
      this.client.send(new DeleteRouteCommand(routeOf(tableId, destination)), this.#options),
    );
  }

  async forwardForeign(target: { instanceId: string } | { eniId: string }): Promise<void> {
    const SourceDestCheck = { Value: false };
    if ("instanceId" in target) {
      await called(
        "ModifyInstanceAttribute",
        this.client.send(
          new ModifyInstanceAttributeCommand({ InstanceId: target.instanceId, SourceDestCheck }),
          this.#options,
        ),
      );
    } else {
      await called(
        "ModifyNetworkInterfaceAttribute",
        this.client.send(
          new ModifyNetworkInterfaceAttributeCommand({
            NetworkInterfaceId: target.eniId,
            SourceDestCheck,
          }),
          this.#options,
        ),
      );
    }
  }

  async #tables(input: { Filters?: Filter[]; RouteTableIds?: string[] }): Promise<RouteTable[]> {
    const answer = await called(
      "DescribeRouteTables",
      this.client.send(new DescribeRouteTablesCommand(input), this.#options),
    );
    return (answer.RouteTables ?? []).map(tableOf);
  }
}

/** The answer, or the fault behind its error. */
async function called<T>(action: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw faultOf(action, error);
  }
}

async function firstTables(
  pages: AsyncIterable<{ RouteTables?: Ec2RouteTable[]; NextToken?: string }>,
): Promise<VpcTables> {
  const tables: RouteTable[] = [];
  let requests = 0;
  let routes = 0;
  for await (const { RouteTables = [], NextToken } of pages) {
    requests++;
    const page = RouteTables.map(tableOf);
    tables.push(...page);
    routes += page.reduce((sum, table) => sum + table.routes.length, 0);
    const isEnough = tables.length >= MOST_TABLES || routes >= MOST_ROUTES ||
      requests >= MOST_PAGES;
    if (NextToken && isEnough) return { tables, isWhole: false, requests };
  }
  return { tables, isWhole: true, requests };
}

/** A route's key in calls. */
export function routeOf(tableId: string, destination: Cidr) {
  const key = destination.family === 6 ? "DestinationIpv6CidrBlock" : "DestinationCidrBlock";
  return { RouteTableId: tableId, [key]: `${destination}` };
}

function tableOf(table: Ec2RouteTable): RouteTable {
  const { RouteTableId, VpcId, Routes = [], Associations = [] } = table;
  const standing = Associations.filter(({ AssociationState: { State } = {} }) =>
    State === undefined || State === "associated" || State === "associating"
  );
  return {
    id: RouteTableId ?? "",
    vpcId: VpcId ?? "",
    routes: Routes.flatMap(vpcRouteOf),
    subnetIds: standing.flatMap(({ SubnetId }) => SubnetId ?? []),
    isMain: standing.some(({ Main }) => Main === true),
    prefixLists: Routes.flatMap((route) => {
      const { DestinationPrefixListId: id } = route;
      return id === undefined ? [] : { id, target: targetOf(route) };
    }),
  };
}

function vpcRouteOf(route: Route): VpcRoute[] {
  const text = route.DestinationCidrBlock ?? route.DestinationIpv6CidrBlock ?? "";
  const [address, length = ""] = text.split("/");
  const ip = tryParseIp(address);
  const destination = ip && Cidr.ofText(ip, length);
  // Such as a route to a prefix list; a destination of another form cannot be a node's.
  if (destination === undefined) return [];
  return [{
    destination,
    target: targetOf(route),
    blackHole: route.State === "blackhole",
  }];
}

/** A route to a network interface names the interface's instance, too. */
function targetOf(route: Route): string {
  return route.NetworkInterfaceId ?? route.GatewayId ?? route.NatGatewayId ??
    route.TransitGatewayId ?? route.VpcPeeringConnectionId ?? route.EgressOnlyInternetGatewayId ??
    route.LocalGatewayId ?? route.CarrierGatewayId ?? route.CoreNetworkArn ?? route.InstanceId ??
    "an unknown target";
}
