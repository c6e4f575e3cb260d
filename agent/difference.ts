/**
 * What a change of some peers comes to, without a look at the others.
 *
 * @module
 */
import type { Backend, RouteTo, Skipped } from "../backends/types.ts";
import type { KernelChange, KernelEntries, KernelState } from "../dataplane/state.ts";
import type { Lease } from "../subnet/types.ts";

/** With more changed peers than this, to apply everything is as good. */
const MOST = 256;

/** See {@linkcode difference}. */
export interface Difference {
  change: KernelChange;
  /** Peers that are gone, or are others now. */
  gone: Lease[];
  /** Those that came and are skipped. */
  skipped: Skipped[];
}

/**
 * The difference that the peers make. Leases that did not change are the same objects.
 *
 * @returns undefined where only the whole state tells
 */
export function difference(
  backend: Backend,
  lease: Lease,
  before: ReadonlyMap<string, Lease>,
  after: ReadonlyMap<string, Lease>,
  routeTo: RouteTo,
): Difference | undefined {
  if (!backend.additive) return undefined;
  const [gone, come] = [missing(before, after), missing(after, before)];
  if (gone.length + come.length > MOST) return undefined;
  const [was, is] = [gone, come].map((peers) => backend.state(lease, peers, routeTo));
  if ([...was.skipped, ...is.skipped].some(({ conflict }) => conflict)) return undefined;
  const change = { put: without(is.kernel, was.kernel), remove: without(was.kernel, is.kernel) };
  return { change, gone, skipped: is.skipped };
}

/** Leases of `one` that are not in `other`. */
function missing(one: ReadonlyMap<string, Lease>, other: ReadonlyMap<string, Lease>): Lease[] {
  return [...one.values()].filter((lease) => other.get(lease.key) !== lease);
}

/** Entries of `one` that are not in `other`. */
function without(one: KernelState, other: KernelState): KernelEntries {
  const left = <T>(list: T[] = [], others: T[] = []) => {
    const there = new Set(others.map((entry) => JSON.stringify(entry)));
    return list.filter((entry) => !there.has(JSON.stringify(entry)));
  };
  return {
    peers: left(one.tunnel?.peers, other.tunnel?.peers),
    routes: left(one.routes, other.routes),
    neighbours: left(one.neighbours, other.neighbours),
    fdb: left(one.fdb, other.fdb),
  };
}
