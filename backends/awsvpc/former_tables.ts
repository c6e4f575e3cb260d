/**
 * Route tables that the node filled before its VPC subnet was given another one: its routes there
 * are removed, since no look at them comes again, and another node may lease the subnet some day.
 *
 * As long as a peer may still follow the former table, its packets need the route there: nodes of the
 * same VPC subnet notice the change one after another.
 *
 * @module
 */
import type { Cidr } from "../../base/cidr.ts";
import { isEni, type RouteChange } from "./plan.ts";
import type { RouteTable } from "./types.ts";

/** What was read of a VPC. */
interface Look {
  /** Tables that are filled now. */
  ours: readonly RouteTable[];
  /** Undefined where only {@link ours} were read. */
  all: readonly RouteTable[] | undefined;
}

/** Looks in a row at which a table is not the node's before it counts as left: one may be stale. */
const LOOKS = 2;

/** A table that the node has filled. */
interface Filled {
  /** Network interfaces that the node's routes led to. */
  eniIds: Set<string>;
  /** Looks in a row at which it was not the node's. */
  away: number;
}

/** See the module. It knows what this process has filled, and touches nothing else. */
export class FormerTables {
  readonly #filled = new Map<string, Filled>();

  /** The node's routes in these tables lead to its network interface now. */
  fill(tables: readonly RouteTable[], eniId: string): void {
    for (const { id } of tables) {
      const eniIds = this.#filled.get(id)?.eniIds ?? new Set();
      this.#filled.set(id, { eniIds: eniIds.add(eniId), away: 0 });
    }
  }

  /** Leaves a table as it is. */
  forget(tableId: string): void {
    this.#filled.delete(tableId);
  }

  /**
   * The removals that are due after a look. Tables that have no route of the node's any more are
   * forgotten.
   *
   * @param own subnets of the node's lease
   * @param leased subnets of the peers' leases, as text
   */
  removals(
    { ours, all }: Look,
    own: readonly Cidr[],
    leased: ReadonlySet<string>,
  ): RouteChange[] {
    if (all === undefined) return [];
    const removals: RouteChange[] = [];
    for (const [id, filled] of this.#filled) {
      if (ours.some((table) => table.id === id)) continue;
      const table = all.find((table) => table.id === id);
      const left = (table?.routes ?? []).filter(({ destination, target }) =>
        filled.eniIds.has(target) && own.some((subnet) => subnet.equals(destination))
      );
      if (table === undefined || left.length === 0) this.#filled.delete(id);
      else if (++filled.away >= LOOKS && !isFollowedByPeer(table, ours, leased)) {
        removals.push(...left.map(({ destination, target: was }): RouteChange => ({
          kind: "delete",
          tableId: id,
          destination,
          was,
          reason: "left for another table",
        })));
      }
    }
    return removals;
  }
}

/** Whether a peer fills this table, and none of ours: each fills the one that it follows. */
function isFollowedByPeer(
  table: RouteTable,
  ours: readonly RouteTable[],
  leased: ReadonlySet<string>,
): boolean {
  const moved = new Set(ours.flatMap(peerRoutes));
  return peerRoutes(table).some((subnet) => leased.has(subnet) && !moved.has(subnet));
}

function peerRoutes({ routes }: RouteTable): string[] {
  return routes.filter(({ target, blackHole }) => isEni(target) && !blackHole)
    .map(({ destination }) => `${destination}`);
}
