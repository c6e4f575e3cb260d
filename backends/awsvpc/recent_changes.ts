/**
 * Remembers what EC2 answered about single routes until its route tables show it: EC2 is eventually
 * consistent. Without this, each read of an outdated table would repeat calls already made.
 *
 * @module
 */
import type { Cidr } from "../../base/cidr.ts";
import type { Clock } from "./clock.ts";
import type { RouteTable, VpcRoute } from "./types.ts";

/** Milliseconds for which a new route may be missing; after that, creating it again is a test. */
const CREATED = 15_000;
/** Milliseconds for which a replaced or removed route may be shown as it was before. */
const CHANGED = 120_000;
/** Milliseconds to wait for a route that exists but is not shown: at first, and at most. */
const FIRST_HIDDEN = 5_000;
const LAST_HIDDEN = 60_000;

/** A change that a table may not show yet. */
interface Change {
  tableId: string;
  destination: Cidr;
  /** The target that an outdated table shows; undefined: no route. */
  before: string | undefined;
  /** `hidden`: a route exists, with an unknown target. */
  after: { target: string } | "removed" | "hidden";
  /** Milliseconds of the clock. */
  until: number;
}

/** A route that exists but that EC2 has not shown yet. */
interface Hidden {
  /** Milliseconds of the last wait for it. */
  wait: number;
  /** Its target if this node has set it. */
  target?: string;
}

/** A table with the recent changes applied. */
export interface CurrentTable {
  table: RouteTable;
  /** Destinations of routes that exist but are not shown, as text. */
  hidden: ReadonlySet<string>;
}

/** See the module. */
export class RecentChanges {
  readonly #changes = new Map<string, Change>();
  /** By table and destination, until the route is shown. */
  readonly #hidden = new Map<string, Hidden>();

  constructor(readonly clock: Clock) {}

  /** Whether a route that this node has set is not shown yet. */
  get awaitsRoute(): boolean {
    const now = this.clock.now();
    return [...this.#changes.values()].some(({ after, until }) =>
      typeof after === "object" && now < until
    );
  }

  /** A route was created, or one that led to `before` replaced. */
  set(tableId: string, destination: Cidr, target: string, before?: string): void {
    const key = keyOf(tableId, destination);
    // An outdated table may even show the state before an earlier change.
    before ??= this.#changes.get(key)?.before;
    if (before === undefined) this.#hidden.set(key, { wait: CREATED, target });
    this.#note(tableId, destination, before, { target }, before === undefined ? CREATED : CHANGED);
  }

  /** A route that led to `before` was removed, or no longer exists. */
  removed(tableId: string, destination: Cidr, before: string): void {
    this.#note(tableId, destination, before, "removed", CHANGED);
  }

  /** A route exists but is not shown: this node's own if it has set one. */
  exists(tableId: string, destination: Cidr): void {
    const key = keyOf(tableId, destination);
    const { wait: last = FIRST_HIDDEN / 2, target } = this.#hidden.get(key) ?? {};
    const wait = Math.min(2 * last, LAST_HIDDEN);
    this.#hidden.set(key, { wait, target });
    const after = target === undefined ? "hidden" : { target };
    this.#note(tableId, destination, undefined, after, wait);
  }

  /** Applies the recent changes to `table`, and forgets those that it shows. */
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
