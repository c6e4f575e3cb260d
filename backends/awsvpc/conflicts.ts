/**
 * Routes of others where nodes' routes are, or will be once the subnet is leased.
 *
 * @module
 */
import { Cidr } from "../../base/cidr.ts";
import type { FamilyConfig } from "../../subnet/config.ts";
import { isEni } from "./plan.ts";
import type { RouteTable, VpcRoute } from "./types.ts";

/** What a route is in the way of. */
export type ConflictKind =
  /** This node's subnet: its agent cannot set its route. */
  | "own"
  /** A peer's subnet. */
  | "leased"
  /** A subnet that nobody has leased yet; its node could not set its route. */
  | "free"
  /** The same, to a network interface: its node would replace the route. */
  | "free, replaceable";

/** A route that is not a node's, and the subnet of the overlay that it concerns. */
export interface RouteConflict {
  kind: ConflictKind;
  route: VpcRoute;
  subnet: Cidr;
}

/** What is leased. */
export interface Leased {
  /** This node's network interface. */
  eniId: string;
  own: readonly Cidr[];
  peers: readonly Cidr[];
}

/**
 * The conflicts in a table. Wider routes than a node's subnet are none, since the more specific route
 * wins; more specific ones than a leased subnet are reported as such, by `coverage.ts`.
 */
export function routeConflicts(
  { routes }: RouteTable,
  families: readonly FamilyConfig[],
  { eniId, own, peers }: Leased,
): RouteConflict[] {
  const kinds = new Map<string, ConflictKind>([
    ...peers.map((subnet) => [`${subnet}`, "leased"] as const),
    ...own.map((subnet) => [`${subnet}`, "own"] as const),
  ]);
  // Of two routes for the same destination the one to a prefix list does not count.
  const single = new Set(
    routes.flatMap(({ destination, prefixListId }) =>
      prefixListId === undefined ? `${destination}` : []
    ),
  );
  return routes.flatMap((route): RouteConflict[] => {
    const { destination, target, blackHole, prefixListId } = route;
    const subnet = leasable(destination, families);
    if (subnet === undefined || blackHole || target === eniId) return [];
    if (prefixListId !== undefined && single.has(`${destination}`)) return [];
    const kind = kinds.get(`${subnet}`);
    if (kind === undefined) {
      return [{ kind: isEni(target) ? "free, replaceable" : "free", route, subnet }];
    }
    // A peer's route leads to a network interface.
    return subnet.equals(destination) && !isEni(target) ? [{ kind, route, subnet }] : [];
  });
}

/** The subnet that a destination is, or is a part of, if that may be leased. */
function leasable(destination: Cidr, families: readonly FamilyConfig[]): Cidr | undefined {
  const family = families.find(({ network, subnetLength }) =>
    network.contains(destination) && destination.length >= subnetLength
  );
  if (family === undefined) return undefined;
  const subnet = Cidr.of(destination.family, destination.base, family.subnetLength);
  return subnet.base >= family.min.base && subnet.base <= family.max.base ? subnet : undefined;
}
