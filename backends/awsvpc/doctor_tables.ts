/**
 * Examines the route tables: whether packets follow those that the nodes fill, what is in the way of
 * nodes' routes, and how much room there is.
 *
 * @module
 */
import type { EC2Client } from "@aws-sdk/client-ec2";
import type { Cidr } from "../../base/cidr.ts";
import type { FamilyConfig } from "../../subnet/config.ts";
import type { Lease } from "../../subnet/types.ts";
import { fail, type Finding, pass, warn } from "../finding.ts";
import { type ConflictKind, type RouteConflict, routeConflicts } from "./conflicts.ts";
import {
  type Coverage,
  deleteCommand,
  homeProblems,
  names,
  type PeerHome,
  relevantTables,
  type RoutingProblem,
  routingProblems,
  unroutedPeers,
  vpcSubnets,
} from "./coverage.ts";
import { Ec2Fault } from "./faults.ts";
import { isEni } from "./plan.ts";
import { readPrefixLists } from "./prefix_lists.ts";
import { lookAtVpc, noTable, type VpcLook } from "./tables.ts";
import type { Ec2, Eni, RouteTable } from "./types.ts";

/** Milliseconds that a peer which has just joined takes to set its routes. */
const SETTLE = 3_000;

/** Routes of a family that a table takes: AWS's default, that of older accounts, and the most. */
const QUOTA = { now: 500, before: 50, most: 1_000 };
/** Routes before a quota at which it is worth knowing. */
const MARGIN = 5;

/** Network interfaces of peers that are looked at: one call. */
const MOST_PEERS = 200;

/** What is examined. */
export interface TablesPatient {
  eni: Eni;
  /** Route tables that the config names. */
  named: readonly string[];
  families: readonly FamilyConfig[];
  own: readonly Lease[];
  peers: readonly Lease[];
}

/**
 * Yields what it finds; returns the tables that the agent fills.
 *
 * @throws {Ec2Fault}
 */
export async function* examineTables(
  { client, ec2 }: { client: EC2Client; ec2: Ec2 },
  patient: TablesPatient,
): AsyncGenerator<Finding, RouteTable[]> {
  const { eni, named } = patient;
  let look = await lookAtVpc(ec2, eni, named);
  if (patient.peers.length > 0 && routingProblems(coverageOf(patient, look)).length > 0) {
    await new Promise((done) => setTimeout(done, SETTLE));
    look = await lookAtVpc(ec2, eni, named);
  }
  const coverage = yield* withPrefixLists(client, coverageOf(patient, look));
  if (look.ours.length === 0) {
    yield fail("RouteTableID", `the agent exits: RouteTableID names ${noTable(look, eni)}`);
  }
  for (const problem of routingProblems(coverage)) yield findingOf(problem);
  yield* examinePeers(ec2, patient, coverage, look.isWhole);
  // Without a network nothing is known of where nodes' routes are.
  const tables = patient.families.length > 0 ? relevantTables(coverage) : [];
  for (const table of tables) yield* examineTable(table, patient, coverage);
  if (!look.isWhole) {
    const detail = `it has more than the ${look.all?.length} route tables that are compared`;
    yield warn(`VPC ${eni.vpcId}`, detail);
  }
  return look.ours;
}

function coverageOf({ eni, named, families, own, peers }: TablesPatient, look: VpcLook): Coverage {
  return {
    tables: look.all ?? look.ours,
    followed: look.followed,
    named,
    strays: look.ours.length > 0 ? look.strays : [],
    eniId: eni.id,
    vpcId: eni.vpcId,
    subnetId: eni.subnetId,
    networks: families,
    own: vpcSubnets(own),
    peers: vpcSubnets(peers),
  };
}

/** Puts the routes for prefix lists in, each of their destinations as a route of its own. */
async function* withPrefixLists(
  client: EC2Client,
  coverage: Coverage,
): AsyncGenerator<Finding, Coverage> {
  const relevant = new Set(relevantTables(coverage).map(({ id }) => id));
  const tables: RouteTable[] = [];
  for (const table of coverage.tables) {
    // Gateway endpoints' lists have addresses of AWS's services.
    const lists = relevant.has(table.id)
      ? table.prefixLists.filter(({ target }) => !target.startsWith("vpce-"))
      : [];
    const { networks, unread } = await readPrefixLists(client, lists.map(({ id }) => id));
    for (const [id, fault] of unread) {
      const detail = `the target of its route for prefix list ${id} is not known: ` +
        fault.message;
      yield warn(`route table ${table.id}`, detail, fault.details.fix);
    }
    const routes = lists.flatMap(({ id: prefixListId, target }) =>
      (networks.get(prefixListId) ?? []).map((destination) => ({
        ...{ destination, target, prefixListId },
        blackHole: false,
      }))
    );
    tables.push({ ...table, routes: [...table.routes, ...routes] });
  }
  const followed = tables.find(({ id }) => id === coverage.followed?.id);
  return { ...coverage, tables, followed };
}

function findingOf({ verdict, detail, fix }: RoutingProblem): Finding {
  return { verdict, check: "routing", detail, fix };
}

/** Peers without a route, and what their network interfaces tell. */
async function* examinePeers(
  ec2: Ec2,
  { peers }: TablesPatient,
  coverage: Coverage,
  isWhole: boolean,
): AsyncGenerator<Finding> {
  const unrouted = new Set(unroutedPeers(coverage).map(String));
  const lost = peers.filter((peer) => vpcSubnets([peer]).some((each) => unrouted.has(`${each}`)));
  if (lost.length > 0) {
    const detail = `no route table of ${coverage.vpcId} has a route to ${
      names(lost.map(peerText))
    }`;
    const fix = "see the log of the agent there; its instance may be stopped, or in another VPC, " +
      "which this backend does not reach";
    yield warn("peers", detail, fix);
  }
  const enis = await enisOfPeers(ec2, coverage);
  for (const problem of homeProblems(coverage, enis.map(({ home }) => home), isWhole)) {
    yield findingOf(problem);
  }
  const checked = enis.filter(({ eni }) => eni.sourceDestCheck);
  if (checked.length > 0) {
    const whose = names(checked.map(({ home }) => `${home.peer} (${home.eniId})`));
    yield warn(
      "peers",
      `the source/dest check is on at the network interfaces of ${whose}, which drop packets of ` +
        "containers",
      "run flanneld doctor aws-vpc on those nodes",
    );
  }
}

function peerText({ subnet, ipv6Subnet, attrs: { publicIP, publicIPv6 } }: Lease): string {
  return `${subnet ?? ipv6Subnet} (${publicIP ?? publicIPv6})`;
}

/** The network interfaces that peers' subnets are led to; none where they may not be looked at. */
async function enisOfPeers(
  ec2: Ec2,
  coverage: Coverage,
): Promise<{ home: PeerHome; eni: Eni }[]> {
  const peers = new Map(coverage.peers.map((peer) => [`${peer}`, peer]));
  const owners = new Map<string, Cidr>();
  for (const { destination, target, blackHole } of relevantTables(coverage).flatMap(routesOf)) {
    const peer = peers.get(`${destination}`);
    if (peer !== undefined && isEni(target) && !blackHole) owners.set(target, peer);
  }
  if (owners.size === 0) return [];
  try {
    const enis = await ec2.enis([...owners.keys()].slice(0, MOST_PEERS));
    return enis.map((eni) => ({
      eni,
      home: { peer: owners.get(eni.id)!, eniId: eni.id, subnetId: eni.subnetId },
    }));
  } catch (error) {
    if (error instanceof Ec2Fault) return [];
    throw error;
  }
}

function routesOf({ routes }: RouteTable) {
  return routes;
}

function* examineTable(
  table: RouteTable,
  { eni, families }: TablesPatient,
  { own, peers }: Coverage,
): Generator<Finding> {
  const check = `route table ${table.id}`;
  const overlay = table.routes.filter(({ destination, target }) =>
    target !== "local" && families.some(({ network }) => network.contains(destination))
  );
  const ours = overlay.filter(({ target }) => target === eni.id)
    .map(({ destination }) => `${destination}`);
  const holes = overlay.filter(({ blackHole }) => blackHole)
    .map(({ destination }) => `${destination}`);
  yield pass(
    check,
    ours.length > 0
      ? `routes ${ours.join(", ")} to this node`
      : "routes no subnet to this node yet",
  );
  if (holes.length > 0) {
    yield warn(check, `black holes, which agents remove: ${names(holes)}`);
  }
  const conflicts = routeConflicts(table, families, { eniId: eni.id, own, peers });
  for (const kind of ["own", "leased", "free", "free, replaceable"] as const) {
    yield* conflictFinding(table, kind, conflicts.filter((conflict) => conflict.kind === kind));
  }
  for (const { network } of families) yield room(table, network.family);
}

function* conflictFinding(
  { id }: RouteTable,
  kind: ConflictKind,
  conflicts: readonly RouteConflict[],
): Generator<Finding> {
  if (conflicts.length === 0) return;
  const check = `route table ${id}`;
  const routes = names(
    conflicts.map(({ route: { destination, target } }) => `${destination} to ${target}`),
  );
  const command = deleteCommand(id, conflicts[0].route);
  const fix = `remove such a route (${command}), or keep the subnet out of SubnetMin and SubnetMax`;
  switch (kind) {
    case "own":
      yield fail(
        check,
        `routes this node's subnet elsewhere (${routes}): the agent is not ready`,
        fix,
      );
      break;
    case "leased":
      yield warn(check, `routes peers' subnets elsewhere (${routes})`, fix);
      break;
    case "free":
      yield warn(
        check,
        `routes subnets elsewhere that nodes may lease (${routes}): such a node would not become ` +
          "ready, or would lose packets",
        fix,
      );
      break;
    case "free, replaceable":
      yield warn(
        check,
        `routes subnets that no node has leased to network interfaces (${routes}): a node that ` +
          "leases one takes over its route",
        "nothing if those were nodes; otherwise keep the subnets out of SubnetMin and SubnetMax",
      );
  }
}

/**
 * How near a table is to its quota, of which EC2 tells nothing. It counts each address family, and a
 * prefix list as the most entries that it may have.
 */
function room({ id, routes, prefixLists }: RouteTable, family: 4 | 6): Finding {
  const check = `route table ${id}`;
  const count =
    routes.filter(({ destination, target, prefixListId }) =>
      target !== "local" && destination.family === family && prefixListId === undefined
    ).length;
  const lists = prefixLists.length > 0 ? ` and ${prefixLists.length} for prefix lists` : "";
  const detail = `IPv${family} routes: ${count}${lists}; the quota is ${QUOTA.now} by default, ` +
    `${QUOTA.before} in older accounts`;
  const isNear = [QUOTA.now, QUOTA.before, QUOTA.most].some((quota) =>
    count > quota - MARGIN && count <= quota
  );
  if (!isNear) return pass(check, detail);
  const fix = 'look up the quota "Routes per route table" of Amazon VPC in Service Quotas, which ' +
    `may be raised to ${QUOTA.most}`;
  return warn(check, detail, fix);
}
