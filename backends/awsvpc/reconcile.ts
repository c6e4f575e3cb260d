/**
 * Makes route tables as desired, by the calls of a plan.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Cidr } from "../../base/cidr.ts";
import type { Lease } from "../../subnet/types.ts";
import { deleteCommand } from "./coverage.ts";
import { advice, Ec2Fault } from "./faults.ts";
import { keyOf, type NodeRoutes } from "./node_routes.ts";
import type { Place } from "./place.ts";
import {
  type Conflict,
  type Desired,
  endedRoutes,
  planEnded,
  planTable,
  type RouteChange,
} from "./plan.ts";
import type { RecentChanges } from "./recent_changes.ts";
import type { RouteTable, VpcRoute } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** Plans per table and attempt; EC2's answers may show that a table was out of date. */
const ROUNDS = 3;

/** Milliseconds after which EC2 should show a route that exists. */
const HIDDEN_GRACE = 120_000;

/** Code of the fault that EC2 does not show a route that exists. */
export const HIDDEN = "HiddenRoute";

/** What one reconcile starts from. */
export interface Wanted extends Omit<Desired, "isDead"> {
  /** Peers' leases by subnet. */
  leases: ReadonlyMap<string, Lease>;
  /** Leases that have ended, by subnet; it may change meanwhile. */
  ended: ReadonlyMap<string, Lease>;
  /** What is known of the routes. */
  routes: NodeRoutes;
}

/**
 * Compares `tables` with what is wanted and makes the changes. A fault of one table does not keep
 * the others from theirs.
 *
 * @param recent EC2's answers about single routes; each change is recorded there
 * @throws {Ec2Fault} the first of the faults
 */
export async function reconcile(
  place: Place,
  tables: readonly RouteTable[],
  wanted: Wanted,
  recent: RecentChanges,
): Promise<void> {
  const current = tables.map((table) => recent.current(table).table);
  const { routes } = wanted;
  const isDead = (tableId: string, route: VpcRoute) => dead.has(keyOf(tableId, route));
  const desired = { ...wanted, isDead };
  routes.take(current, desired, wanted);
  const ended = await planEndedRoutes(place, current, wanted);
  const dead = await routes.deadRoutes(place.ec2, current, desired, wanted);
  let first: Ec2Fault | undefined;
  for (const table of tables) {
    try {
      const removals = ended.filter(({ tableId }) => tableId === table.id);
      await reconcileTable({ place, table, recent }, desired, wanted.ended, removals);
    } catch (error) {
      if (!(error instanceof Ec2Fault) || error.kind === "throttled") throw error;
      if (first === undefined || first.code === HIDDEN) first = error;
    }
  }
  if (first !== undefined) throw first;
}

async function planEndedRoutes(
  { ec2 }: Place,
  tables: readonly RouteTable[],
  { ended, networks, routes }: Wanted,
): Promise<RouteChange[]> {
  const isForeign = routes.isForeign.bind(routes);
  const left = endedRoutes(tables, ended, networks, isForeign);
  if (left.length === 0) return [];
  return planEnded(left, await ec2.enis([...new Set(left.map(({ route }) => route.target))]));
}

/**
 * Makes removals in tables that the node does not fill. What EC2 refuses is a warning: nothing depends
 * on it.
 *
 * @returns those that were refused
 * @throws {Ec2Fault} for what may work the next time
 */
export async function removeRoutes(
  place: Place,
  tables: readonly RouteTable[],
  removals: readonly RouteChange[],
  recent: RecentChanges,
): Promise<RouteChange[]> {
  const refused: RouteChange[] = [];
  for (const change of removals) {
    const table = tables.find(({ id }) => id === change.tableId);
    if (table === undefined) continue;
    try {
      await makeChange({ place, table, recent }, change);
    } catch (error) {
      if (!(error instanceof Ec2Fault)) throw error;
      if (error.kind !== "unauthorized" && error.kind !== "refused") throw error;
      const { tableId, destination } = change;
      log.warn("Route {subnet} stays in table {table}: {reason}, or run: {command}", {
        subnet: `${destination}`,
        table: tableId,
        reason: advice(error),
        command: deleteCommand(tableId, { destination }),
      });
      refused.push(change);
    }
  }
  return refused;
}

/** What a change is made with. */
interface Work {
  place: Place;
  /** As EC2 shows it. */
  table: RouteTable;
  recent: RecentChanges;
}

async function reconcileTable(
  work: Work,
  wanted: Desired,
  ended: ReadonlyMap<string, Lease>,
  removals: readonly RouteChange[],
): Promise<void> {
  const { table, recent } = work;
  // Meanwhile the subnet may have been leased anew.
  const stillEnded = removals.filter(({ destination }) => ended.has(`${destination}`));
  for (const change of stillEnded) await makeChange(work, change);
  for (let round = 1;; round++) {
    const current = recent.current(table);
    const { changes, conflicts, hidden } = planTable(current.table, wanted, current.hidden);
    if (changes.length > 0) {
      if (round > ROUNDS) throw hiddenFault(table, changes[0].destination);
      for (const change of changes) await makeChange(work, change);
      continue;
    }
    if (conflicts.length > 0) throw conflictFault(conflicts[0]);
    if (hidden.length > 0) throw hiddenFault(table, hidden[0]);
    return;
  }
}

/** Makes one change, or finds out that the table was out of date; records the outcome. */
async function makeChange({ place, table, recent }: Work, change: RouteChange): Promise<void> {
  const { tableId, destination } = change;
  const { eniId: eni } = place;
  const names = { table: tableId, subnet: `${destination}`, eni };
  switch (change.kind) {
    case "create":
      if (!await createRoute(place, table, destination)) return recent.exists(tableId, destination);
      recent.set(tableId, destination, eni);
      return log.info("Route added to table {table}: {subnet} - {eni}.", names);
    case "replace": {
      const { was } = change;
      if (!await replaceRoute(place, change)) return recent.removed(tableId, destination, was);
      recent.set(tableId, destination, eni, was);
      return log.info("Route replaced in table {table}: {subnet} - {eni}, no longer {was}.", {
        ...names,
        was,
      });
    }
    case "delete": {
      const { was, reason } = change;
      const isDeleted = await deleteRoute(place, change);
      recent.removed(tableId, destination, was);
      if (!isDeleted) return;
      return log.info("Route removed from table {table}: {subnet} - {was} ({reason}).", {
        ...names,
        was,
        reason,
      });
    }
  }
}

/** Creates a route; false if one exists that the table did not show. */
async function createRoute(
  { ec2, eniId }: Place,
  table: RouteTable,
  destination: Cidr,
): Promise<boolean> {
  try {
    await ec2.createRoute(table.id, destination, eniId);
    return true;
  } catch (error) {
    if (!(error instanceof Ec2Fault)) throw error;
    if (error.is("RouteAlreadyExists")) return false;
    if (error.is("RouteLimitExceeded")) throw fullFault(table, `${destination}`, error);
    throw error;
  }
}

/** Replaces a route; false if it does not exist. */
async function replaceRoute(
  { ec2, eniId }: Place,
  { tableId, destination }: RouteChange,
): Promise<boolean> {
  try {
    await ec2.replaceRoute(tableId, destination, eniId);
    return true;
  } catch (error) {
    if (error instanceof Ec2Fault && isRouteNotFound(error)) return false;
    throw error;
  }
}

/** Removes a route; false if another node has already done so. */
async function deleteRoute(
  { ec2 }: Place,
  { tableId, destination }: RouteChange,
): Promise<boolean> {
  try {
    await ec2.deleteRoute(tableId, destination);
    return true;
  } catch (error) {
    if (error instanceof Ec2Fault && isRouteNotFound(error)) return false;
    throw error;
  }
}

/** ReplaceRoute answers with a code that also has other meanings. */
function isRouteNotFound(fault: Ec2Fault): boolean {
  return fault.is("InvalidRoute.NotFound") ||
    fault.is("InvalidParameterValue") && /no route/i.test(fault.message);
}

/** The quota in force is what the table has: EC2 tells no number. */
function fullFault({ id, routes }: RouteTable, subnet: string, { code }: Ec2Fault): Ec2Fault {
  const family = subnet.includes(":") ? 6 : 4;
  const limit =
    routes.filter(({ destination, target }) => destination.family === family && target !== "local")
      .length;
  const message =
    `route table ${id} is full: it has ${limit} routes for IPv${family} besides the ` +
    `VPC's own, its limit (${code}), so the route for ${subnet} cannot be added; raise the quota "Routes per ` +
    'route table" of Amazon VPC in Service Quotas, which counts each address family and may be ' +
    "raised to 1,000, or remove routes that are not needed";
  return new Ec2Fault("refused", "CreateRoute", code, message);
}

function conflictFault({ tableId, route: { destination, target }, kind }: Conflict): Ec2Fault {
  if (kind === "owner") {
    const message = `route table ${tableId} routes ${destination} to ${target}, and this node's ` +
      "lease of it has ended without being renewed: another node may have the subnet by now, so " +
      "the route is left alone until etcd answers";
    return new Ec2Fault("refused", "ReplaceRoute", "LeaseOver", message);
  }
  const message =
    `route table ${tableId} routes ${destination}, this node's subnet, to ${target}, ` +
    "which does not belong to a node: remove that route, or keep the subnet out of SubnetMin and SubnetMax";
  return new Ec2Fault("refused", "ReplaceRoute", "Conflict", message);
}

function hiddenFault({ id }: RouteTable, subnet: Cidr): Ec2Fault {
  const message =
    `EC2 reports that route table ${id} already has a route for ${subnet} but does not ` +
    `show it: check with aws ec2 describe-route-tables --route-table-ids ${id}`;
  return new Ec2Fault("refused", "DescribeRouteTables", HIDDEN, message, { grace: HIDDEN_GRACE });
}
