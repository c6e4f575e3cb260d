/**
 * Lets the overlay's packets through and masquerades those that leave it, by iptables or nftables,
 * and puts the rules back when someone takes them away.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Commands } from "./commands.ts";
import { Barriers } from "./barriers.ts";
import { Guests, inspectIptables, Iptables, type IptablesOptions } from "./iptables.ts";
import { Nftables } from "./nftables.ts";
import { PolicyMemory } from "./policy_memory.ts";
import { Cidr } from "../base/cidr.ts";
import { FAMILIES, type RuleSet } from "./rules.ts";
import { bridgeOf } from "./bridge.ts";
import type { EnsureReport, PacketFilter } from "./filter.ts";

export { Commands, type CommandsOptions } from "./commands.ts";
export { missingRules } from "./missing.ts";
export { type RuleInput, type RuleSet, trafficRules } from "./rules.ts";
export type { EnsureReport } from "./filter.ts";

const log = getLogger(["flanneld", "traffic"]);

/** Which packet filter holds the rules. */
export type TrafficKind = "iptables" | "nftables";

/** The node's traffic rules. One call at a time. */
export interface TrafficRules {
  /**
   * Makes the rules what is wanted and writes nothing where they are. The first call that succeeds
   * also removes ours from the other packet filter. Never throws for what the host lacks or
   * refuses: that is in the report, and is logged when it changes.
   */
  ensure(wanted: RuleSet): Promise<EnsureReport>;
  /**
   * Calls {@linkcode ensure} at once and then every `everySeconds` seconds until `signal` aborts;
   * resolves then. The rules stay in place.
   *
   * @param watched someone calls {@linkcode changed}, at most once in `everySeconds`: then rules are
   *   checked when that is called, and else only where a check failed or left out a look, or after
   *   some minutes
   */
  keep(
    wanted: RuleSet,
    everySeconds: number,
    signal: AbortSignal,
    watched?: boolean,
  ): Promise<void>;
  /** Rules may have changed: {@linkcode keep} checks them now. */
  changed(): void;
  /** An interface got or lost this address: where it is the containers' bridge, as {@linkcode changed}. */
  addressChanged(cidr: string): void;
  /** Settles after the first {@linkcode ensure}, whatever came of it. */
  readonly looked: Promise<void>;
  /**
   * Why the overlay's packets do not get through all the same: what of another program drops them,
   * and the remedy; or that this was not looked at yet. Undefined where nothing is known to.
   */
  problem(): string | undefined;
  /**
   * Removes our chains, jumps and tables from nftables and both variants of iptables, and restores
   * FORWARD's policy where it was changed and nobody has changed it since.
   *
   * @returns what was removed, a line each
   * @throws Error that says what could not be removed, after trying all
   */
  remove(): Promise<string[]>;
}

/** What {@linkcode createTrafficRules} may be told. */
export interface TrafficRulesOptions {
  /** Whether iptables' FORWARD policy is set to ACCEPT or left alone; `accept` where absent. */
  policy?: IptablesOptions["policy"];
  /** Path of the subnet file, beside which FORWARD's former policy is kept. */
  subnetFile?: string;
  /** Where the tools are. */
  commands?: Commands;
  /** The device that has an address of the subnet; asked of the system where absent. */
  bridge?: IptablesOptions["bridge"];
}

/**
 * Seconds after which rules are checked although nobody told of a change: the kernel does not tell
 * which variant `iptables` is, for one.
 */
const RARELY = 300;

/** Makes {@linkcode TrafficRules}. */
export function createTrafficRules(
  kind: TrafficKind,
  options: TrafficRulesOptions = {},
): TrafficRules {
  const { policy = "accept", subnetFile, commands = new Commands(), bridge = bridgeOf } = options;
  const ofIptables = { policy, bridge, memory: new PolicyMemory(subnetFile) };
  const iptables = new Iptables(commands, ofIptables);
  const nftables = new Nftables(commands);
  const barriers = new Barriers(commands, bridge);
  const guests = (which: "all" | "others") => new Guests(commands, ofIptables, which);
  return kind === "iptables"
    ? new Keeper([iptables, guests("others")], barriers, [iptables, nftables], [nftables])
    : new Keeper([nftables, guests("all")], barriers, [nftables, iptables], []);
}

/**
 * What would drop the overlay's packets although the agent's rules are in place, or because they are
 * not; changes nothing.
 *
 * @returns a line each, with the remedy
 */
export async function inspectForwarding(
  wanted: RuleSet,
  { commands = new Commands(), bridge = bridgeOf }: TrafficRulesOptions = {},
): Promise<string[]> {
  const barriers = new Barriers(commands, bridge);
  await barriers.look(wanted);
  const lost = await inspectIptables(commands, wanted, bridge);
  return withBarriers(lost, barriers);
}

/** Of iptables' own FORWARD its tools tell more than nft does. */
function withBarriers(lost: string[], { found }: Barriers): string[] {
  const others = found.filter(({ isIptables }) => !isIptables || lost.length === 0);
  return [...lost, ...others.map(({ line }) => line)];
}

class Keeper implements TrafficRules {
  readonly #filters: readonly PacketFilter[];
  readonly #barriers: Barriers;
  readonly #all: readonly PacketFilter[];
  readonly #others: readonly PacketFilter[];
  #othersEmptied = false;
  readonly #look = Promise.withResolvers<void>();
  #looked = false;
  /** What {@linkcode keep} keeps. */
  #kept: RuleSet | undefined;
  /** Rules may have changed since the last check began. */
  #isStale = false;
  /** Ends {@linkcode keep}'s pause. */
  #wake: () => void = () => {};
  /** Errors and problems that were logged last. */
  #errors = "";
  #problem = "";

  /**
   * @param filters those in which rules are kept, the agent's own first
   * @param all those from which rules are removed
   * @param others those from which rules of an earlier run are removed
   */
  constructor(
    filters: readonly PacketFilter[],
    barriers: Barriers,
    all: readonly PacketFilter[],
    others: readonly PacketFilter[],
  ) {
    this.#filters = filters;
    this.#barriers = barriers;
    this.#all = all;
    this.#others = others;
  }

  async ensure(wanted: RuleSet): Promise<EnsureReport> {
    const began = performance.now();
    const report: EnsureReport = { changed: [], errors: [] };
    for (const filter of this.#filters) {
      const { changed, errors } = await filter.ensure(wanted);
      report.changed.push(...changed);
      report.errors.push(...errors);
    }
    // Not before ours are in: forwarding is never without rules.
    if (!this.#othersEmptied && report.errors.length === 0) await this.#emptyOthers(report);
    await this.#barriers.look(wanted);
    this.#looked = true;
    this.#look.resolve();
    this.#logErrors(report.errors);
    this.#logProblem();
    log.trace("Checked the traffic rules in {ms} ms: {changed} changed, {errors} errors", {
      ms: (performance.now() - began).toFixed(1),
      changed: report.changed.length,
      errors: report.errors.length,
    });
    return report;
  }

  get looked(): Promise<void> {
    return this.#look.promise;
  }

  async #emptyOthers(report: EnsureReport): Promise<void> {
    // Leftovers do no harm that would be worth another try every few seconds.
    this.#othersEmptied = true;
    for (const other of this.#others) {
      const { changed, errors } = await other.remove();
      report.changed.push(...changed);
      for (const error of errors) {
        log.debug("Looking for rules of an earlier run: {error}", { error });
      }
    }
  }

  problem(): string | undefined {
    if (!this.#looked) return "the traffic rules are not in place yet";
    return this.#lost().join("; ") || undefined;
  }

  async keep(
    wanted: RuleSet,
    everySeconds: number,
    signal: AbortSignal,
    watched = false,
  ): Promise<void> {
    this.#kept = wanted;
    while (!signal.aborted) {
      this.#isStale = false;
      const { errors } = await this.ensure(wanted);
      if (this.#isStale) continue;
      const often = everySeconds * 1000;
      const again = watched && errors.length === 0 ? Math.max(often, this.#left()) : often;
      await this.#pause(again, signal);
    }
  }

  changed(): void {
    this.#isStale = true;
    this.#wake();
  }

  addressChanged(cidr: string): void {
    const address = Cidr.parse(cidr);
    const isBridge = FAMILIES.some((family) => {
      const rules = this.#kept?.[family];
      return rules && Cidr.parse(rules.subnets.subnet).equals(address);
    });
    if (isBridge) this.changed();
  }

  /** Milliseconds to the next check of rules that nobody changes. */
  #left(): number {
    const due = [...this.#filters, this.#barriers].flatMap((part) => part.due ?? []);
    return due.length > 0 ? Math.min(...due) - performance.now() : RARELY * 1000;
  }

  /** Waits, or less where {@linkcode changed} is called or `signal` aborts. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", this.#wake);
    await promise;
    clearTimeout(timer);
    signal.removeEventListener("abort", this.#wake);
  }

  async remove(): Promise<string[]> {
    const reports: EnsureReport[] = [];
    for (const filter of this.#all) reports.push(await filter.remove());
    const errors = reports.flatMap((report) => report.errors);
    if (errors.length > 0) {
      throw new Error(`traffic rules could not be removed: ${errors.join("; ")}`);
    }
    return reports.flatMap((report) => report.changed);
  }

  #lost(): string[] {
    return withBarriers(this.#filters.flatMap((filter) => filter.lost), this.#barriers);
  }

  #logErrors(errors: string[]): void {
    const state = errors.join("\n");
    if (state === this.#errors) return;
    this.#errors = state;
    for (const error of errors) {
      log.error("Cannot set the traffic rules, retrying at each resync: {error}", { error });
    }
    if (errors.length === 0) log.info("Traffic rules are in place again");
  }

  #logProblem(): void {
    const lost = this.#lost();
    const state = lost.join("\n");
    if (state === this.#problem) return;
    this.#problem = state;
    for (const problem of lost) {
      log.warn("Not ready: {problem}", { problem });
    }
    if (lost.length === 0) {
      log.info("Recovered: no other program's rules drop the overlay's packets");
    }
  }
}
