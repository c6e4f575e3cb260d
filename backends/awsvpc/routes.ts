/**
 * Keeps the VPC's route tables as our lease wants them: when to look, and what to do after a fault.
 *
 * Calls to EC2 are few, since they are counted for the whole account. The tables are read at an
 * interval and after lease events; a lease event is looked after by a few of the nodes only
 * ({@linkcode turnOf}). EC2 has no conditional delete, so two nodes may remove the same route, which
 * does no harm, and one may in a rare case remove what a new owner has just replaced: the owner looks
 * again soon after it has set its route.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Cidr } from "../../base/cidr.ts";
import type { NetworkConfig } from "../../subnet/config.ts";
import type { Lease } from "../../subnet/types.ts";
import type { Outside } from "../types.ts";
import { untilAborted } from "./abort.ts";
import type { Clock } from "./clock.ts";
import { vpcSubnets } from "./coverage.ts";
import { advice, Ec2Fault, type FaultKind } from "./faults.ts";
import { FormerTables } from "./former_tables.ts";
import { NodeRoutes } from "./node_routes.ts";
import { Place } from "./place.ts";
import type { OverlayNetwork } from "./plan.ts";
import { RecentChanges } from "./recent_changes.ts";
import { HIDDEN, reconcile, removeRoutes, type Wanted } from "./reconcile.ts";
import { RoutingWatch } from "./routing_watch.ts";
import { turnOf } from "./turns.ts";
import type { Ec2, RouteTable, Where } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** Milliseconds between checks, with up to a tenth more at random. */
const INTERVAL = 300_000;
/** Milliseconds after a lease event at which the first, second and third node look; more do not. */
const TURNS = [500, 5_000, 15_000];
/** Milliseconds between two checks for lease events. */
const EVENT_GAP = 10_000;
/** Lease events of one batch whose turns are counted; after more the node looks anyway. */
const MOST_EVENTS = 256;
/** Milliseconds after a route was set at which it is looked at again, and as much more at random. */
const CONFIRM = 20_000;
/** Milliseconds before the next attempt after a failure: the first, doubled up to the last. */
const FIRST_RETRY = 1_000;
const LAST_RETRY = 60_000;

/** Kinds of faults that are the same whatever the call. */
const OF_ALL_CALLS: ReadonlySet<FaultKind> = new Set(["credentials", "unreachable", "metadata"]);

/** What the routes are for. */
export interface VpcRoutesInput {
  network: NetworkConfig;
  lease: Lease;
  /** Route tables that the config names; none: that of the node's VPC subnet. */
  tableIds: readonly string[];
  /** An address of the node's network interface. */
  ip: string;
}

/** What the reconciler uses; the real things, or stand-ins in a test. */
export interface Surroundings {
  /** @throws {Ec2Fault} */
  where(): Promise<Where>;
  /** @param signal ends calls that are under way */
  ec2(region: string, signal: AbortSignal): Ec2;
  clock: Clock;
}

/** A fault that EC2's eventual consistency may explain. */
interface Delay {
  code: string;
  /** Milliseconds of the clock at which it began. */
  since: number;
}

/** See the module. */
export class VpcRoutes implements Outside {
  readonly #input: VpcRoutesInput;
  readonly #around: Surroundings;
  readonly #networks: OverlayNetwork[];
  readonly #subnets: Cidr[];
  readonly #ready = Promise.withResolvers<void>();
  readonly #firstPeers = Promise.withResolvers<void>();
  #peers: ReadonlyMap<string, Lease> = new Map();
  /** Leases that have ended and whose routes were not looked for since, by subnet. */
  readonly #ended = new Map<string, Lease>();
  /** One for all attempts: it learns by how much this node's clock is wrong. */
  #ec2: Ec2 | undefined;
  #place: Place | undefined;
  /** Of {@linkcode keep}. */
  #signal = AbortSignal.any([]);
  #failures = 0;
  /** The fault that was logged last; empty where all is well. */
  #logged = "";
  /** A fault within its grace period, which is not logged yet. */
  #delay: Delay | undefined;
  readonly #recent: RecentChanges;
  readonly #watch = new RoutingWatch();
  readonly #former = new FormerTables();
  readonly #routes = new NodeRoutes();
  #eventCheckAt = -Infinity;
  #dueAt = 0;
  /** Ends the wait for {@link #dueAt}, which was moved. */
  #moved = new AbortController();

  constructor(input: VpcRoutesInput, around: Surroundings) {
    const { network, lease } = input;
    this.#input = input;
    this.#around = around;
    this.#recent = new RecentChanges(around.clock);
    this.#networks = [network.ipv4, network.ipv6].filter((half) => half !== null);
    this.#subnets = [lease.subnet, lease.ipv6Subnet].filter((subnet) => subnet !== null);
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  want(peers: ReadonlyMap<string, Lease>): void {
    const changed = this.#takeNote(peers);
    this.#firstPeers.resolve();
    this.#lookAfter(changed);
  }

  async keep(signal: AbortSignal): Promise<void> {
    const { clock } = this.#around;
    this.#signal = signal;
    await untilAborted(this.#firstPeers.promise, signal);
    this.#dueAt = clock.now();
    while (!signal.aborted) {
      const left = this.#dueAt - clock.now();
      if (left <= 0) {
        this.#dueAt = Infinity;
        const pause = await this.#attempt();
        // Meanwhile a lease event may have asked for a check.
        this.#dueAt = Math.min(this.#dueAt, clock.now() + pause);
        continue;
      }
      this.#moved = new AbortController();
      await clock.sleep(left, AbortSignal.any([signal, this.#moved.signal]));
    }
  }

  /** Takes the peers. @returns the subnets of which there is another lease now, or none */
  #takeNote(peers: ReadonlyMap<string, Lease>): string[] {
    const before = this.#peers;
    this.#peers = peers;
    const gone = [...before.values()].filter(({ key }) => !peers.has(key));
    const come = [...peers.values()].filter((lease) => before.get(lease.key) !== lease);
    for (const lease of gone) {
      for (const subnet of subnetsOf(lease)) this.#ended.set(subnet, lease);
    }
    for (const subnet of [...come.flatMap(subnetsOf), ...this.#subnets.map(String)]) {
      this.#ended.delete(subnet);
    }
    return [...gone, ...come].flatMap(subnetsOf);
  }

  /** Checks sooner where it is our turn for one of these subnets. */
  #lookAfter(subnets: readonly string[]): void {
    if (this.#place === undefined || this.#failures > 0 || subnets.length === 0) return;
    const delay = TURNS[this.#firstTurn(subnets)];
    if (delay === undefined) return;
    const soon = this.#around.clock.now() + delay * (1 + Math.random());
    const at = Math.max(soon, this.#eventCheckAt + EVENT_GAP);
    if (at >= this.#dueAt) return;
    this.#eventCheckAt = at;
    this.#dueAt = at;
    this.#moved.abort();
  }

  #firstTurn(subnets: readonly string[]): number {
    if (subnets.length > MOST_EVENTS) return 0;
    const others = [...this.#peers.values()].map((peer) => subnetsOf(peer)[0]);
    return turnOf(subnets, `${this.#subnets[0]}`, others);
  }

  /** One attempt to make all right. @returns milliseconds until the next */
  async #attempt(): Promise<number> {
    try {
      const isUnsure = await this.#check();
      if (this.#logged !== "") log.info("Recovered: the VPC's routes are correct");
      this.#logged = "";
      this.#delay = undefined;
      this.#failures = 0;
      this.#ready.resolve();
      return isUnsure || this.#recent.awaitsRoute
        ? CONFIRM * (1 + Math.random())
        : INTERVAL * (1 + Math.random() / 10);
    } catch (error) {
      if (this.#signal.aborted) return 0;
      if (!(error instanceof Ec2Fault)) throw error;
      this.#report(error);
      const pause = Math.min(LAST_RETRY, FIRST_RETRY * 2 ** Math.min(this.#failures++, 20));
      return pause * (0.5 + Math.random());
    }
  }

  /** Logs each fault once, until another comes or all is well. */
  #report(fault: Ec2Fault): void {
    const { kind } = fault;
    const state = stateOf(fault);
    if (this.#isInGrace(fault) || state === this.#logged) return;
    this.#logged = state;
    const line = "{reason}; retrying until it works";
    if (kind === "throttled") log.warn(line, { reason: advice(fault) });
    else log.error(line, { reason: advice(fault) });
  }

  /** Whether the fault is within its grace period. */
  #isInGrace({ code, details: { grace } }: Ec2Fault): boolean {
    const now = this.#around.clock.now();
    if (grace === undefined) this.#delay = undefined;
    else if (this.#delay?.code !== code) this.#delay = { code, since: now };
    return grace !== undefined && now - this.#delay!.since < grace;
  }

  /** Checks and mends all. @returns whether to look again soon */
  async #check(): Promise<boolean> {
    this.#place ??= await this.#findPlace();
    // While waiting for a route to be shown, one call is enough.
    const isWaiting = this.#delay?.code === HIDDEN;
    const tables = isWaiting ? await this.#place.lookAgain() : await this.#place.look();
    const isUnsure = this.#watchRouting(this.#place);
    const looked = [...this.#ended];
    const wanted = this.#wanted(this.#place);
    await reconcile(this.#place, tables, wanted, this.#recent);
    await this.#leaveFormerTables(this.#place, tables, wanted);
    for (const [subnet, lease] of looked) {
      if (this.#ended.get(subnet) === lease) this.#ended.delete(subnet);
    }
    if (this.#place.fault) throw this.#place.fault;
    return isUnsure;
  }

  /** Once our routes are where packets look for them, those elsewhere go. */
  async #leaveFormerTables(
    place: Place,
    ours: readonly RouteTable[],
    { subnets, leased }: Wanted,
  ): Promise<void> {
    this.#former.fill(ours, place.eniId);
    const all = place.tables.last?.all;
    if (all === undefined) return;
    const removals = this.#former.removals({ ours, all }, subnets, leased);
    for (const { tableId } of await removeRoutes(place, all, removals, this.#recent)) {
      this.#former.forget(tableId);
    }
  }

  async #findPlace(): Promise<Place> {
    const { ip, tableIds } = this.#input;
    const where = await untilAborted(this.#around.where(), this.#signal);
    this.#signal.throwIfAborted();
    const { region, instanceId } = where!;
    this.#ec2 ??= this.#around.ec2(region, this.#signal);
    return await Place.find(this.#ec2, { ip, tableIds, instanceId });
  }

  #wanted(place: Place): Wanted {
    const leases = new Map(
      [...this.#peers.values()].flatMap((lease) =>
        subnetsOf(lease).map((subnet) => [subnet, lease] as const)
      ),
    );
    return {
      eniId: place.eniId,
      subnets: this.#subnets,
      networks: this.#networks,
      leased: new Set(leases.keys()),
      leases,
      routes: this.#routes,
      isFormer: (tableId, route) => this.#routes.isFormer(tableId, route),
      isLeaseOver: (this.#input.lease.expiration ?? Infinity) < Date.now(),
      ended: this.#ended,
    };
  }

  /** Reports what keeps packets from their way. @returns whether to look again soon */
  #watchRouting({ tables: { last, named }, eni }: Place): boolean {
    if (last?.all === undefined) return false;
    const { all: tables, followed, strays } = last;
    const { id: eniId, subnetId, vpcId } = eni;
    const networks = this.#networks;
    const [own, peers] = [this.#subnets, vpcSubnets(this.#peers.values())];
    return this.#watch.take(
      { tables, followed, named, strays, eniId, subnetId, vpcId, networks, own, peers },
      this.#around.clock.now(),
    );
  }
}

/** The same for faults that are one to whoever reads of them. */
function stateOf({ kind, action, code }: Ec2Fault): string {
  if (kind === "throttled") return kind;
  return OF_ALL_CALLS.has(kind) ? `${kind} ${code}` : `${kind} ${action} ${code}`;
}

function subnetsOf({ subnet, ipv6Subnet }: Lease): string[] {
  return [subnet, ipv6Subnet].filter((each) => each !== null).map(String);
}
