/**
 * Whether packets follow the route tables that the nodes fill, decided from what EC2 says of the
 * tables, for the agent's log and for the doctor.
 *
 * A VPC subnet follows one route table: the one it is associated with, else the VPC's main table. A
 * node reaches the peers that have a route in the table that its own VPC subnet follows, whatever
 * other tables say. So nodes in VPC subnets with tables of their own must all fill all of these
 * tables.
 *
 * @module
 */
import { Cidr } from "../../base/cidr.ts";
import type { Lease } from "../../subnet/types.ts";
import type { Verdict } from "../finding.ts";
import { isEni, overlapsVpc, type OverlayNetwork } from "./plan.ts";
import type { RouteTable, VpcRoute } from "./types.ts";

/** What the decision is made from. */
export interface Coverage {
  /** The tables of the node's VPC that were read. */
  tables: readonly RouteTable[];
  /** The one that packets from the node follow, undefined where that is not known. */
  followed: RouteTable | undefined;
  /** Tables that the config names, of whatever VPC; none: the one that the node's VPC subnet follows. */
  named: readonly string[];
  /** Those of {@link named} that are not tables of the node's VPC. */
  strays: readonly StrayTable[];
  /** The node's network interface, and where it is. */
  eniId: string;
  vpcId: string;
  subnetId: string;
  networks: readonly OverlayNetwork[];
  /** Subnets of this node's lease. */
  own: readonly Cidr[];
  /** Subnets of the peers' leases. */
  peers: readonly Cidr[];
}

/** A table that the config names and the node cannot use. */
export interface StrayTable {
  id: string;
  /** Its VPC; undefined where this region and account have no such table. */
  vpcId: string | undefined;
}

/** Something that keeps packets from their way, which waiting does not mend. */
export interface RoutingProblem {
  /** The same while it lasts, whichever peers it concerns at the time. */
  key: string;
  /** What is well again once it is over. */
  subject: string;
  verdict: Exclude<Verdict, "pass">;
  detail: string;
  /** What to do. */
  fix: string;
}

/** Names in a line before the rest is only counted. */
const MOST_NAMES = 3;

/** All that is wrong. */
export function routingProblems(coverage: Coverage): RoutingProblem[] {
  return [
    ...strayProblem(coverage),
    ...tableProblems(coverage),
    ...relevantTables(coverage).flatMap((table) => [...shadowProblem(table, coverage)]),
    ...overlapProblem(coverage),
  ];
}

/** Subnets of those leases whose packets go by way of the VPC; flannel's aws-vpc names no backend. */
export function vpcSubnets(leases: Iterable<Lease>): Cidr[] {
  return [...leases].flatMap(({ subnet, ipv6Subnet, attrs: { backendType } }) =>
    backendType === "" || backendType === "aws-vpc"
      ? [subnet, ipv6Subnet].filter((each) => each !== null)
      : []
  );
}

/** Peers without a route in the table that this node's packets follow. */
export function missingPeers({ followed, peers }: Coverage): Cidr[] {
  if (followed === undefined) return [];
  const routed = nodeRoutes(followed);
  return peers.filter((peer) => !routed.has(`${peer}`));
}

/** Peers without a route in any table. */
export function unroutedPeers({ tables, peers }: Coverage): Cidr[] {
  const routed = new Set(tables.flatMap((table) => [...nodeRoutes(table)]));
  return peers.filter((peer) => !routed.has(`${peer}`));
}

/** Tables in which a node's route counts: those that the agent fills, and the one it follows. */
export function relevantTables({ tables, followed, named }: Coverage): RouteTable[] {
  return tables.filter(({ id }) => id === followed?.id || named.includes(id));
}

/** Destinations that lead to some node. */
function nodeRoutes({ routes }: RouteTable): Set<string> {
  return new Set(
    routes.filter(({ target, blackHole }) => isEni(target) && !blackHole)
      .map(({ destination }) => `${destination}`),
  );
}

/** Nodes fill other tables than the ones that packets follow. */
function* tableProblems(coverage: Coverage): Generator<RoutingProblem> {
  const { tables, followed, named, subnetId, own } = coverage;
  if (followed === undefined) return;
  const { id } = followed;
  const missing = missingPeers(coverage);
  // A table that no VPC subnet follows, and that no node is told to fill, has leftovers at most.
  const others = tables.filter((table) =>
    missing.length > 0 && table.id !== id && (isFollowed(table) || named.includes(table.id))
  )
    .map((table) => ({ id: table.id, routes: nodeRoutes(table) }))
    .filter(({ routes }) => missing.some((peer) => routes.has(`${peer}`)));
  const lost = missing.filter((peer) => others.some(({ routes }) => routes.has(`${peer}`)));
  const elsewhere = others.map((other) => other.id).sort();
  const fix = fixByList(named, [id, ...elsewhere]);
  if (named.length > 0 && !named.includes(id)) {
    const ownRoutes = nodeRoutes(followed);
    // Without a lease, too: the node will fill another table than the one that it follows.
    const away = lost.length > 0 || own.length === 0 ||
      own.some((subnet) => !ownRoutes.has(`${subnet}`));
    if (!away) return;
    const detail = `this node's VPC subnet ${subnetId} follows route table ${id}, which ` +
      `RouteTableID does not name: packets from this node's containers to other nodes are lost`;
    yield {
      verdict: "fail",
      key: `unnamed ${id}`,
      subject: `the route table of ${subnetId}`,
      detail,
      fix,
    };
    return;
  }
  if (lost.length === 0) return;
  const isNamed = elsewhere.every((other) => named.includes(other));
  const detail = `route table ${id}, which this node's VPC subnet ${subnetId} follows, has no ` +
    `route to ${names(lost)}, but ${names(elsewhere)} ` +
    `${elsewhere.length > 1 ? "do" : "does"}: packets ` +
    `${isNamed ? "from this node to" : "between this node and"} those peers are lost`;
  yield {
    verdict: "fail",
    key: `split ${id} ${elsewhere.join(" ")}`,
    subject: `the routes to peers in route table ${id}`,
    detail,
    fix: isNamed
      ? `see those nodes' logs for why they cannot write to ${id} (a missing permission, a full table)`
      : fix,
  };
}

function isFollowed({ isMain, subnetIds }: RouteTable): boolean {
  return isMain || subnetIds.length > 0;
}

/** A peer and the VPC subnet that its network interface is in. */
export interface PeerHome {
  peer: Cidr;
  eniId: string;
  subnetId: string;
}

/**
 * A peer's VPC subnet follows a table that the config does not name. Its own agent reports that, too,
 * if it is not flannel.
 *
 * @param isWhole all tables of the VPC were read
 */
export function* homeProblems(
  { tables, named, own }: Coverage,
  homes: readonly PeerHome[],
  isWhole: boolean,
): Generator<RoutingProblem> {
  if (named.length === 0) return;
  const unfilled = homes.flatMap((home) => {
    const table = followedTable(tables, home.subnetId, isWhole);
    if (table === undefined || named.includes(table.id)) return [];
    const routed = nodeRoutes(table);
    const isFilled = own.length > 0 && own.every((subnet) => routed.has(`${subnet}`));
    return isFilled ? [] : [{ ...home, table: table.id }];
  });
  if (unfilled.length === 0) return;
  const ids = [...new Set(unfilled.map(({ table }) => table))].sort();
  yield {
    verdict: "fail",
    key: `homes ${ids.join(" ")}`,
    subject: "the route tables of peers",
    detail:
      `the VPC subnets of peers (${
        names(unfilled.map(({ peer, subnetId }) => `${peer} in ${subnetId}`))
      }) follow ${
        names(ids)
      }, which RouteTableID does not name: packets from those peers to this ` +
      "node are lost",
    fix: fixByList(named, ids),
  };
}

/**
 * The table that a VPC subnet follows; undefined where it was not read. That a subnet has no table of
 * its own is known only where all tables of the VPC were read.
 */
export function followedTable(
  tables: readonly RouteTable[],
  subnetId: string,
  isWhole: boolean,
): RouteTable | undefined {
  return tables.find(({ subnetIds }) => subnetIds.includes(subnetId)) ??
    (isWhole ? tables.find(({ isMain }) => isMain) : undefined);
}

/** Names all tables, in the same order on every node. */
function fixByList(named: readonly string[], needed: readonly string[]): string {
  const added = [...new Set(needed)].filter((id) => !named.includes(id)).sort();
  return `set "RouteTableID": ${JSON.stringify([...named, ...added])} in the network config's ` +
    "Backend (flanneld config set) and restart the agents, so that every node fills all of these tables";
}

/** More specific routes than a lease's, which take part of its packets elsewhere. */
function* shadowProblem(
  table: RouteTable,
  { eniId, own, peers }: Coverage,
): Generator<RoutingProblem> {
  const leases = new Map([...own, ...peers].map((subnet) => [`${subnet}`, subnet]));
  const lengths = [...new Set([...leases.values()].map(({ length }) => length))];
  const targets = new Map(table.routes.map((route) => [`${route.destination}`, route.target]));
  for (const subnet of own) targets.set(`${subnet}`, eniId);
  const shadows = table.routes.flatMap((route): { route: VpcRoute; subnet: Cidr }[] => {
    // Agents remove black holes.
    if (route.blackHole || leases.has(`${route.destination}`)) return [];
    const subnet = lengths.map((length) => leases.get(`${widened(route.destination, length)}`))
      .find((found) => found !== undefined);
    if (subnet === undefined || targets.get(`${subnet}`) === route.target) return [];
    return [{ route, subnet }];
  });
  if (shadows.length === 0) return;
  const [{ route, subnet }, ...more] = shadows;
  const whose = own.some((each) => each.equals(subnet)) ? "this node's" : "a peer's";
  const rest = more.map(({ route }) => `${route.destination}`);
  const others = rest.length > 0 ? ` (and likewise ${names(rest)})` : "";
  yield {
    verdict: "fail",
    key: `shadow ${table.id} ${shadows.map(({ route }) => `${route.destination}`).join(" ")}`,
    subject: `the routes to leased subnets in route table ${table.id}`,
    detail: `route table ${table.id} routes ${route.destination}, a part of ${whose} subnet ` +
      `${subnet}, to ${route.target}${others}: packets to there never reach the node`,
    fix: `remove that route (${deleteCommand(table.id, route)}), or keep the subnet out of ` +
      "SubnetMin and SubnetMax",
  };
}

/** The subnet of `length` around a more specific one; undefined for one that is not. */
function widened({ family, base, length: own }: Cidr, length: number): Cidr | undefined {
  return own > length ? Cidr.of(family, base, length) : undefined;
}

/** The command that removes a route. */
export function deleteCommand(
  tableId: string,
  { destination, prefixListId }: Pick<VpcRoute, "destination" | "prefixListId">,
): string {
  const option = destination.family === 6 ? "ipv6-cidr-block" : "cidr-block";
  const key = prefixListId === undefined
    ? `--destination-${option} ${destination}`
    : `--destination-prefix-list-id ${prefixListId}`;
  return `aws ec2 delete-route --route-table-id ${tableId} ${key}`;
}

function* strayProblem({ strays, vpcId }: Coverage): Generator<RoutingProblem> {
  if (strays.length === 0) return;
  const ids = strays.map(({ id }) => id);
  yield {
    verdict: "warn",
    key: `stray ${ids.join(" ")}`,
    subject: `the tables of RouteTableID, ${ids.join(", ")} among them`,
    detail: `RouteTableID names ${names(strays.map(strayText))}: this node, in ${vpcId}, ignores ` +
      (strays.length > 1 ? "them" : "it"),
    fix: "remove tables that no node needs from RouteTableID in the network config",
  };
}

/** Where a stray table is: `rtb-1 (in vpc-2)`. */
export function strayText({ id, vpcId }: StrayTable): string {
  return `${id} (${vpcId === undefined ? "not in this account and region" : `in ${vpcId}`})`;
}

function* overlapProblem(coverage: Coverage): Generator<RoutingProblem> {
  const overlap = relevantTables(coverage).map((table) => overlapsVpc(table, coverage.networks))
    .find((found) => found !== undefined);
  if (overlap === undefined) return;
  const { network, local } = overlap;
  yield {
    verdict: "fail",
    key: `overlap ${network} ${local}`,
    subject: `the network ${network} is outside of the VPC`,
    detail:
      `The network ${network} overlaps ${local}, which is the VPC's own: EC2 accepts no routes ` +
      "there",
    fix: "choose a Network outside of the VPC",
  };
}

/** `10.1.41.0/24, 10.1.42.0/24, 10.1.43.0/24 and 5 more` */
export function names(all: readonly (string | Cidr)[]): string {
  const shown = all.slice(0, MOST_NAMES).map(String);
  const last = all.length > MOST_NAMES ? `${all.length - MOST_NAMES} more` : shown.pop() ?? "";
  return shown.length > 0 ? `${shown.join(", ")} and ${last}` : last;
}
