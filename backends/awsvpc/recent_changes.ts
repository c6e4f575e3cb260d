/**
 * What EC2 has said of single routes, for as long as its route tables may not show it yet: EC2 is
 * eventually consistent. Without it each look at an old table would repeat calls that were made.
 *
 * @module
 */
import type { Cidr } from "../../subnet/cidr.ts";
import type { Clock } from "./clock.ts";
import type { RouteTable, VpcRoute } from "./types.ts";

/** Milliseconds for which a route that was made may be missing; then making it again tells. */
const CREATED = 15_000;
/** Milliseconds for which a route may be shown as it was before it was replaced or removed. */
const CHANGED = 120_000;
/** Milliseconds for which a route that EC2 says is there may be missing: at first, and at most. */
const FIRST_HIDDEN = 5_000;
const LAST_HIDDEN = 60_000;

/** A route that a table may not show as it is. */
interface Change {
  tableId: string;
  destination: Cidr;
  /** The target that an old table shows; undefined: no route. */
  before: string | undefined;
  /** `hidden`: there is a route, and its target is not known. */
  after: { target: string } | "removed" | "hidden";
  /** Milliseconds of the clock. */
  until: number;
}

/** A route that EC2 has not shown yet. */
interface Hidden {
  /** Milliseconds for which it was waited for the last time. */
  wait: number;
  /** Where it leads if this node has set it. */
  target?: string;
}

/** A table with what is known besides. */
export interface CurrentTable {
  table: RouteTable;
  /** Destinations of routes that are there and not shown, as text. */
  hidden: ReadonlySet<string>;
}

/** See the module. */
export class RecentChanges {
  readonly #changes = new Map<string, Change>();
  /** By table and destination, until the route is shown. */
  readonly #hidden = new Map<string, Hidden>();

  constructor(readonly clock: Clock) {}

  /** Whether a route that was set has not been shown since, for as long as that may be. */
  get awaitsRoute(): boolean {
    const now = this.clock.now();
    return [...this.#changes.values()].some(({ after, until }) =>
      typeof after === "object" && now < until
    );
  }

  /** A route was created, or one that led to `before` replaced. */
  set(tableId: string, destination: Cidr, target: string, before?: string): void {
    const key = keyOf(tableId, destination);
    // An old table may also show what was there before an earlier change.
    before ??= this.#changes.get(key)?.before;
    if (before === undefined) this.#hidden.set(key, { wait: CREATED, target });
    this.#note(tableId, destination, before, { target }, before === undefined ? CREATED : CHANGED);
  }

  /** A route that led to `before` was removed, or is not there. */
  removed(tableId: string, destination: Cidr, before: string): void {
    this.#note(tableId, destination, before, "removed", CHANGED);
  }

  /** A route is there, although it is not shown: the one that this node has set, if it has. */
  exists(tableId: string, destination: Cidr): void {
    const key = keyOf(tableId, destination);
    const { wait: last = FIRST_HIDDEN / 2, target } = this.#hidden.get(key) ?? {};
    const wait = Math.min(2 * last, LAST_HIDDEN);
    this.#hidden.set(key, { wait, target });
    const after = target === undefined ? "hidden" : { target };
    this.#note(tableId, destination, undefined, after, wait);
  }

  /** Puts what is known in place of what `table` shows, and forgets what it shows as it is. */
  current(table: RouteTable): CurrentTable {
    const hidden = new Set<string>();
    const shown = new Map(table.routes.map((route) => [`${route.destination}`, route]));
    for (const [key, change] of this.#changes) {
      if (change.tableId !== table.id) continue;
      const { destination, before, after, until } = change;
      const isOld = shown.get(`${destination}`)?.target === before;
      if (!isOld) this.#hidden.delete(key);
      if (!isOld || this.clock.now() >= until) this.#changes.delete(key);
      else if (after === "hidden") hidden.add(`${destination}`);
      else if (after === "removed") shown.delete(`${destination}`);
      else shown.set(`${destination}`, routeTo(destination, after.target));
    }
    return { table: { ...table, routes: [...shown.values()] }, hidden };
  }

  #note(
    tableId: string,
    destination: Cidr,
    before: string | undefined,
    after: Change["after"],
    wait: number,
  ): void {
    const until = this.clock.now() + wait;
    this.#changes.set(keyOf(tableId, destination), { tableId, destination, before, after, until });
  }
}

function keyOf(tableId: string, destination: Cidr): string {
  return `${tableId} ${destination}`;
}

function routeTo(destination: Cidr, target: string): VpcRoute {
  return { destination, target, blackHole: false };
}
