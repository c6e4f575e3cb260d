/**
 * Which routes a table should get, keep and lose: desired against actual, as values.
 *
 * @module
 */
import type { Cidr } from "../../base/cidr.ts";
import type { Lease } from "../../subnet/types.ts";
import { has, isOfVpc } from "./leases.ts";
import type { Eni, RouteTable, VpcRoute } from "./types.ts";

/** What should be. */
export interface Desired {
  /** The node's network interface. */
  eniId: string;
  /** Our lease's subnets. */
  subnets: readonly Cidr[];
  /** The overlay's networks: nothing outside of them is looked at. */
  networks: readonly OverlayNetwork[];
  /** Subnets that peers have leased, as text. */
  leased: ReadonlySet<string>;
  /** Whether a route to our network interface can be ours, of a subnet that we had before. */
  isFormer(tableId: string, route: VpcRoute): boolean;
  /** Whether a black hole is a node's that is gone. */
  isDead(tableId: string, route: VpcRoute): boolean;
  /** Our lease has ended without our knowing what became of it: another node may have its subnet. */
  isLeaseOver: boolean;
}

/** One family's half of the overlay network. */
export interface OverlayNetwork {
  network: Cidr;
  /** Prefix length of the subnets. */
  subnetLength: number;
}

/** Why a route is removed. */
export type RemovalReason =
  | "black hole"
  | "former subnet of this node"
  | "its lease has ended"
  | "left for another table";

/** One call to make. */
export type RouteChange =
  | { kind: "create"; tableId: string; destination: Cidr }
  | { kind: "replace"; tableId: string; destination: Cidr; was: string }
  | { kind: "delete"; tableId: string; destination: Cidr; was: string; reason: RemovalReason };

/** A route of our subnet that is not ours to replace. */
export interface Conflict {
  tableId: string;
  route: VpcRoute;
  /** `owner`: it leads to a network interface that may be the subnet's next node's. */
  kind: "owner" | "no node";
}

/** What to do about one table. */
export interface Plan {
  changes: RouteChange[];
  conflicts: Conflict[];
  /** Our subnets with a route that exists but is not shown. */
  hidden: Cidr[];
}

/**
 * What makes `table` as desired. Removals come first: they make room for what is added.
 *
 * @param hidden destinations of routes that exist but that the table does not show
 */
export function planTable(
  table: RouteTable,
  desired: Desired,
  hidden: ReadonlySet<string> = new Set(),
): Plan {
  const own = new Set(desired.subnets.map(String));
  const removals = table.routes.flatMap((route): RouteChange[] => {
    if (own.has(`${route.destination}`)) return [];
    const reason = removalReason(table, route, desired);
    if (reason === undefined) return [];
    const { destination, target: was } = route;
    return [{ kind: "delete", tableId: table.id, destination, was, reason }];
  });
  const conflicts: Conflict[] = [];
  const additions = desired.subnets.flatMap((destination): RouteChange[] => {
    if (hidden.has(`${destination}`)) return [];
    const route = table.routes.find((route) => route.destination.equals(destination));
    if (route === undefined) return [{ kind: "create", tableId: table.id, destination }];
    if (route.target === desired.eniId) return [];
    const kind = isEni(route.target) ? "owner" : "no node";
    if (!route.blackHole && (kind === "no node" || desired.isLeaseOver)) {
      conflicts.push({ tableId: table.id, route, kind });
      return [];
    }
    return [{ kind: "replace", tableId: table.id, destination, was: route.target }];
  });
  return {
    changes: [...removals, ...additions],
    conflicts,
    hidden: desired.subnets.filter((subnet) => hidden.has(`${subnet}`)),
  };
}

/** Why a route goes: only nodes' own do, so none to anything but a network interface. */
function removalReason(
  { id }: RouteTable,
  route: VpcRoute,
  desired: Desired,
): RemovalReason | undefined {
  const { destination, target, blackHole } = route;
  const isSubnet = desired.networks.some(({ network, subnetLength }) =>
    network.contains(destination) && destination.length === subnetLength
  );
  if (!isSubnet || !isEni(target)) return undefined;
  if (blackHole) return desired.isDead(id, route) ? "black hole" : undefined;
  const former = target === desired.eniId && !desired.leased.has(`${destination}`) &&
    desired.isFormer(id, route);
  return former ? "former subnet of this node" : undefined;
}

/** Whether a route leads to a network interface: only such a one can be a node's. */
export function isEni(target: string): boolean {
  return target.startsWith("eni-");
}

/** A route whose lease has ended. */
export interface EndedRoute {
  tableId: string;
  route: VpcRoute;
  lease: Lease;
}

/**
 * The routes in `tables` for leases that have ended, by their subnets as text.
 *
 * @param isForeign whether a route was there before any lease of its subnet
 */
export function endedRoutes(
  tables: readonly RouteTable[],
  ended: ReadonlyMap<string, Lease>,
  networks: readonly OverlayNetwork[],
  isForeign: (tableId: string, route: VpcRoute) => boolean,
): EndedRoute[] {
  return tables.flatMap(({ id, routes }) =>
    routes.flatMap((route): EndedRoute[] => {
      const { destination, blackHole, target } = route;
      const lease = ended.get(`${destination}`);
      const live = lease !== undefined && isOfVpc(lease) && !blackHole && isEni(target) &&
        networks.some(({ subnetLength, network }) =>
          subnetLength === destination.length && network.contains(destination)
        ) && !isForeign(id, route);
      return live ? [{ tableId: id, route, lease }] : [];
    })
  );
}

/**
 * The removals of ended leases' routes that still lead to the node that had the lease, which is told
 * by the address that it announced. One that leads elsewhere is a new owner's.
 */
export function planEnded(routes: readonly EndedRoute[], enis: readonly Eni[]): RouteChange[] {
  return routes.flatMap(({ tableId, route, lease }): RouteChange[] => {
    const eni = enis.find(({ id }) => id === route.target);
    if (!eni || !has(eni, lease)) return [];
    const { destination, target: was } = route;
    return [{ kind: "delete", tableId, destination, was, reason: "its lease has ended" }];
  });
}

/** The networks that overlap one of the VPC's own, whose local routes win or refuse ours. */
export function overlapsVpc(
  table: RouteTable,
  networks: readonly OverlayNetwork[],
): { network: Cidr; local: Cidr } | undefined {
  for (const { destination: local, target } of table.routes) {
    if (target !== "local") continue;
    const found = networks.find(({ network }) => network.overlaps(local));
    if (found) return { network: found.network, local };
  }
  return undefined;
}
