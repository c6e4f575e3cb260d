/**
 * Which routes of the overlay's network are known to be nodes' own, and so may be removed once nothing
 * needs them. The table has others that look the same: an operator's to an appliance's network
 * interface, say.
 *
 * A route may be a node's if it leads to a network interface and is as long as a node's subnet. It is
 * known to be one if it came while a lease of type aws-vpc of its subnet was there, or was there already
 * at the first look at which there was one, and its network interface has the lease's address. A route
 * that was seen without any such lease stays, whatever lease is written for its subnet later.
 *
 * What nodes left behind while no agent looked is told at the first look at a table: black holes whose
 * network interface belongs to no instance any more, and routes to this node's own.
 *
 * @module
 */
import type { Lease } from "../../subnet/types.ts";
import { has, isOfVpc } from "./leases.ts";
import { type Desired, isEni } from "./plan.ts";
import type { Ec2, RouteTable, VpcRoute } from "./types.ts";

/** Looks after which a black hole that stays is asked about again. */
const ASK_AGAIN = 12;

/** The leases by subnet that routes are compared with: those that are there, and that have ended. */
export interface KnownLeases {
  leases: ReadonlyMap<string, Lease>;
  ended: ReadonlyMap<string, Lease>;
}

/** See the module. One for all looks at the tables. */
export class NodeRoutes {
  /** Routes that were there without a lease, by {@linkcode keyOf}. */
  #foreign = new Set<string>();
  /** Routes to this node's network interface that were there at the first look at their table. */
  readonly #former = new Set<string>();
  /** Black holes that were. */
  readonly #left = new Set<string>();
  readonly #seen = new Set<string>();
  /** Black holes that stay, and the look at which that was found. */
  readonly #staying = new Map<string, number>();
  #look = 0;

  /** Takes the tables as they are at a look, before anything is changed. */
  take(tables: readonly RouteTable[], desired: Omit<Desired, "isDead">, known: KnownLeases): void {
    this.#look++;
    const foreign = new Set<string>();
    for (const table of tables) {
      for (const route of nodeLike(table, desired)) {
        const key = keyOf(table.id, route);
        const isLeased = leaseOf(route, known) !== undefined;
        if (!isLeased || this.#foreign.has(key)) foreign.add(key);
        if (this.#seen.has(table.id)) continue;
        if (route.target === desired.eniId) this.#former.add(key);
        if (route.blackHole) this.#left.add(key);
      }
      this.#seen.add(table.id);
    }
    this.#foreign = foreign;
  }

  /** Whether a route to this node's network interface can be its own of a former subnet. */
  isFormer(tableId: string, route: VpcRoute): boolean {
    return this.#former.has(keyOf(tableId, route));
  }

  /** Whether a route was there before any lease of its subnet. */
  isForeign(tableId: string, route: VpcRoute): boolean {
    return this.#foreign.has(keyOf(tableId, route));
  }

  /**
   * The black holes that may go, by {@linkcode keyOf}.
   *
   * @throws {Ec2Fault}
   */
  async deadRoutes(
    ec2: Ec2,
    tables: readonly RouteTable[],
    desired: Omit<Desired, "isDead">,
    known: KnownLeases,
  ): Promise<ReadonlySet<string>> {
    const dead = new Set<string>();
    const blackHoles = tables.flatMap((table) =>
      nodeLike(table, desired).filter(({ blackHole }) => blackHole)
        .map((route) => ({ key: keyOf(table.id, route), route }))
    ).filter(({ key }) => this.#look - (this.#staying.get(key) ?? -Infinity) >= ASK_AGAIN);
    if (blackHoles.length === 0) return dead;
    const enis = await ec2.enis([...new Set(blackHoles.map(({ route }) => route.target))]);
    for (const { key, route } of blackHoles) {
      const lease = this.#foreign.has(key) ? undefined : leaseOf(route, known);
      const eni = enis.find(({ id }) => id === route.target);
      const isDead = eni ? lease && has(eni, lease) : lease || this.#left.has(key);
      if (isDead) dead.add(key);
      else this.#staying.set(key, this.#look);
    }
    return dead;
  }
}

/** What a route is remembered by: one that leads elsewhere is another. */
export function keyOf(tableId: string, { destination, target }: VpcRoute): string {
  return `${tableId} ${destination} ${target}`;
}

function leaseOf({ destination }: VpcRoute, { leases, ended }: KnownLeases): Lease | undefined {
  const lease = leases.get(`${destination}`) ?? ended.get(`${destination}`);
  return lease && isOfVpc(lease) ? lease : undefined;
}

/** Routes of a table that may be another node's, or this node's own of another subnet. */
function nodeLike(
  { routes }: RouteTable,
  { networks, subnets }: Pick<Desired, "networks" | "subnets">,
): VpcRoute[] {
  return routes.filter(({ destination, target, prefixListId }) =>
    isEni(target) && prefixListId === undefined &&
    networks.some(({ network, subnetLength }) =>
      network.contains(destination) && destination.length === subnetLength
    ) && !subnets.some((subnet) => subnet.equals(destination))
  );
}
