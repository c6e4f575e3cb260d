/**
 * Makes route tables as desired, by the calls of a plan.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Lease } from "../../subnet/types.ts";
import { Ec2Fault } from "./faults.ts";
import type { Place } from "./place.ts";
import {
  type Conflict,
  type Desired,
  endedRoutes,
  planEnded,
  planTable,
  type RouteChange,
} from "./plan.ts";
import type { RouteTable } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** Rounds of reading and planning, where the tables change under our hands. */
const ROUNDS = 3;

/** What EC2 answers where another was faster. */
const CHANGED = ["RouteAlreadyExists", "InvalidRoute.NotFound", "InvalidParameterValue"];

/** What one reconcile starts from. */
export interface Wanted extends Desired {
  /** Leases that have ended, by subnet; it may change meanwhile. */
  ended: ReadonlyMap<string, Lease>;
}

/**
 * Compares `tables` with what is wanted and makes the changes. A fault of one table does not keep
 * the others from theirs.
 *
 * @returns whether a route of ours was set
 * @throws {Ec2Fault} the first of the faults
 */
export async function reconcile(
  place: Place,
  tables: readonly RouteTable[],
  wanted: Wanted,
): Promise<boolean> {
  const ended = await planEndedRoutes(place, tables, wanted.ended);
  let set = false;
  let first: unknown;
  for (const table of tables) {
    try {
      const removals = ended.filter(({ tableId }) => tableId === table.id);
      set = await reconcileTable(place, table, wanted, removals) || set;
    } catch (error) {
      if (!(error instanceof Ec2Fault) || error.kind === "throttled") throw error;
      first ??= error;
    }
  }
  if (first !== undefined) throw first;
  return set;
}

async function planEndedRoutes(
  { ec2 }: Place,
  tables: readonly RouteTable[],
  ended: ReadonlyMap<string, Lease>,
): Promise<RouteChange[]> {
  const routes = endedRoutes(tables, ended);
  if (routes.length === 0) return [];
  return planEnded(routes, await ec2.enis([...new Set(routes.map(({ route }) => route.target))]));
}

async function reconcileTable(
  place: Place,
  table: RouteTable,
  wanted: Wanted,
  removals: readonly RouteChange[],
): Promise<boolean> {
  // Meanwhile the subnet may have been leased anew.
  const stillEnded = removals.filter(({ destination }) => wanted.ended.has(`${destination}`));
  for (const change of stillEnded) await makeChange(place, table, change);
  for (let round = 1;; round++) {
    const { changes, conflicts } = planTable(table, wanted);
    try {
      for (const change of changes) await makeChange(place, table, change);
    } catch (error) {
      if (!(error instanceof Ec2Fault) || !error.is(...CHANGED) || round === ROUNDS) throw error;
      table = (await place.lookAgain()).find(({ id }) => id === table.id) ?? table;
      continue;
    }
    if (conflicts.length > 0) throw conflictFault(conflicts[0]);
    return changes.some(({ kind }) => kind !== "delete");
  }
}

/** Makes one change and tells of it. */
async function makeChange(place: Place, table: RouteTable, change: RouteChange): Promise<void> {
  const { tableId, destination } = change;
  const { ec2, eniId: eni } = place;
  const names = { table: tableId, subnet: `${destination}`, eni };
  switch (change.kind) {
    case "create":
      await createRoute(place, table, change);
      return log.info("Route added to table {table}: {subnet} - {eni}.", names);
    case "replace":
      await ec2.replaceRoute(tableId, destination, eni);
      return log.info("Route replaced in table {table}: {subnet} - {eni}, no longer {was}.", {
        ...names,
        was: change.was,
      });
    case "delete": {
      const { was, reason } = change;
      if (await deleteRoute(place, change)) {
        log.info("Route removed from table {table}: {subnet} - {was} ({reason}).", {
          ...names,
          was,
          reason,
        });
      }
    }
  }
}

async function createRoute(
  { ec2, eniId }: Place,
  table: RouteTable,
  { tableId, destination }: RouteChange,
): Promise<void> {
  try {
    await ec2.createRoute(tableId, destination, eniId);
  } catch (error) {
    if (!(error instanceof Ec2Fault) || !error.is("RouteLimitExceeded")) throw error;
    throw fullFault(table, `${destination}`, error);
  }
}

/** Removes a route; false where another has done so before. */
async function deleteRoute(
  { ec2 }: Place,
  { tableId, destination }: RouteChange,
): Promise<boolean> {
  try {
    await ec2.deleteRoute(tableId, destination);
    return true;
  } catch (error) {
    if (error instanceof Ec2Fault && error.is("InvalidRoute.NotFound")) return false;
    throw error;
  }
}

/** The quota in force is what the table has: EC2 tells no number. */
function fullFault({ id, routes }: RouteTable, subnet: string, { code }: Ec2Fault): Ec2Fault {
  const family = subnet.includes(":") ? 6 : 4;
  const limit =
    routes.filter(({ destination, target }) => destination.family === family && target !== "local")
      .length;
  const message = `route table ${id} is full: it has ${limit} IPv${family} routes besides the ` +
    `VPC's own, its limit (${code}), and takes none for ${subnet}; raise the quota "Routes per ` +
    'route table" of Amazon VPC in Service Quotas, which counts each address family and may be ' +
    "raised to 1,000, or remove routes that nobody needs";
  return new Ec2Fault("refused", "CreateRoute", code, message);
}

function conflictFault({ tableId, route: { destination, target } }: Conflict): Ec2Fault {
  const message =
    `route table ${tableId} leads ${destination}, this node's subnet, to ${target}, ` +
    "which no node has: remove that route, or keep the subnet out of SubnetMin and SubnetMax";
  return new Ec2Fault("refused", "ReplaceRoute", "Conflict", message);
}
