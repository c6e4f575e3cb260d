/**
 * Examines the route tables: whether packets follow those that the nodes fill, what is in the way of
 * nodes' routes, and how much room there is.
 *
 * @module
 */
import type { Cidr } from "../../subnet/cidr.ts";
import type { FamilyConfig } from "../../subnet/config.ts";
import type { Lease } from "../../subnet/types.ts";
import { broken, type Finding, note, ok } from "../finding.ts";
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
  ec2: Ec2,
  patient: TablesPatient,
): AsyncGenerator<Finding, RouteTable[]> {
  const { eni, named } = patient;
  let look = await lookAtVpc(ec2, eni, named);
  let coverage = coverageOf(patient, look);
  if (routingProblems(coverage).length > 0 && patient.peers.length > 0) {
    await new Promise((done) => setTimeout(done, SETTLE));
    look = await lookAtVpc(ec2, eni, named);
    coverage = coverageOf(patient, look);
  }
  if (look.ours.length === 0) {
    yield broken("RouteTableID", `the agent ends: RouteTableID names ${noTable(look, eni)}`);
  }
  for (const problem of routingProblems(coverage)) yield findingOf(problem);
  yield* examinePeers(ec2, patient, coverage, look.isWhole);
  for (const table of relevantTables(coverage)) yield* examineTable(table, patient, coverage);
  if (!look.isWhole) {
    const detail = `it has more than the ${look.all?.length} route tables that are compared`;
    yield note(`VPC ${eni.vpcId}`, detail);
  }
  return look.ours;
}

function coverageOf({ eni, named, families, own, peers }: TablesPatient, look: VpcLook): Coverage {
  return {
    tables: look.all ?? look.ours,
    followed: look.followed,
    named,
    strays: look.ours.length > 0 ? look.strays : [],
    vpcId: eni.vpcId,
    subnetId: eni.subnetId,
    networks: families,
    own: vpcSubnets(own),
    peers: vpcSubnets(peers),
  };
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
    const detail = `no route table of ${coverage.vpcId} leads to ${names(lost.map(peerText))}`;
    const fix = "see the log of the agent there; its instance may be stopped, or in another VPC, " +
      "which this backend does not reach";
    yield note("peers", detail, fix);
  }
  const enis = await enisOfPeers(ec2, coverage);
  for (const problem of homeProblems(coverage, enis.map(({ home }) => home), isWhole)) {
    yield findingOf(problem);
  }
  const checked = enis.filter(({ eni }) => eni.sourceDestCheck);
  if (checked.length > 0) {
    const whose = names(checked.map(({ home }) => `${home.peer} (${home.eniId})`));
    yield note(
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
  yield ok(check, ours.length > 0 ? `leads ${ours.join(", ")} here` : "leads no subnet here yet");
  if (holes.length > 0) {
    yield note(check, `black holes, which agents remove: ${names(holes)}`);
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
  const command = deleteCommand(id, conflicts[0].route.destination);
  const fix = `remove such a route (${command}), or keep the subnet out of SubnetMin and SubnetMax`;
  switch (kind) {
    case "own":
      yield broken(check, `leads this node's subnet away (${routes}): the agent is not ready`, fix);
      break;
    case "leased":
      yield note(check, `leads peers' subnets away (${routes})`, fix);
      break;
    case "free":
      yield note(
        check,
        `leads subnets away that nodes may lease (${routes}): such a node would not become ready, ` +
          "or lose packets",
        fix,
      );
      break;
    case "free, replaceable":
      yield note(
        check,
        `leads subnets that nobody has leased to network interfaces (${routes}): a node that leases ` +
          "one takes the route over",
        "nothing if those were nodes; else keep the subnets out of SubnetMin and SubnetMax",
      );
  }
}

/** How near a table is to its quota, of which EC2 tells nothing. */
function room(table: RouteTable, family: 4 | 6): Finding {
  const check = `route table ${table.id}`;
  const count =
    table.routes.filter(({ destination, target }) =>
      target !== "local" && destination.family === family
    ).length;
  const lists = table.prefixLists.length > 0
    ? `, and ${table.prefixLists.length} to prefix lists, which count as many as they may have entries`
    : "";
  const detail = `${count} IPv${family} routes${lists}; the quota is ${QUOTA.now} by default ` +
    `(${QUOTA.before} in older accounts), for each address family`;
  const isNear =
    [QUOTA.now, QUOTA.before].some((quota) => count > quota - MARGIN && count <= quota) ||
    count > QUOTA.most - MARGIN;
  if (!isNear) return ok(check, detail);
  const fix = 'look up the quota "Routes per route table" of Amazon VPC in Service Quotas, which ' +
    `may be raised to ${QUOTA.most}`;
  return note(check, detail, fix);
}
