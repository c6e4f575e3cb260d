/**
 * Lets the overlay's packets through and masquerades those that leave it, by iptables or nftables,
 * and puts the rules back when someone takes them away.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Commands } from "./commands.ts";
import { Iptables } from "./iptables.ts";
import { Nftables } from "./nftables.ts";
import type { RuleSet } from "./rules.ts";
import type { EnsureReport, PacketFilter } from "./filter.ts";

export { Commands, type CommandsOptions } from "./commands.ts";
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
   */
  keep(wanted: RuleSet, everySeconds: number, signal: AbortSignal): Promise<void>;
  /**
   * Removes our chains, jumps and tables from nftables and both variants of iptables.
   *
   * @returns what was removed, a line each
   * @throws Error that says what could not be removed, after trying all
   */
  remove(): Promise<string[]>;
}

/** Makes {@linkcode TrafficRules}; `commands` says where the tools are. */
export function createTrafficRules(kind: TrafficKind, commands = new Commands()): TrafficRules {
  const iptables = new Iptables(commands);
  const nftables = new Nftables(commands);
  return kind === "iptables" ? new Keeper(iptables, nftables) : new Keeper(nftables, iptables);
}

class Keeper implements TrafficRules {
  #own: PacketFilter;
  #other: PacketFilter;
  #otherEmptied = false;
  /** Errors that were logged last. */
  #state = "";

  constructor(own: PacketFilter, other: PacketFilter) {
    this.#own = own;
    this.#other = other;
  }

  async ensure(wanted: RuleSet): Promise<EnsureReport> {
    const report = await this.#own.ensure(wanted);
    // Not before ours are in: forwarding is never without rules.
    if (!this.#otherEmptied && report.errors.length === 0) {
      const { changed, errors } = await this.#other.remove();
      report.changed.push(...changed);
      // Leftovers do no harm that would be worth another try every few seconds.
      this.#otherEmptied = true;
      for (const error of errors) {
        log.debug("Looking for rules of an earlier run: {error}", { error });
      }
    }
    this.#logState(report.errors);
    return report;
  }

  async keep(wanted: RuleSet, everySeconds: number, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.ensure(wanted);
      await pause(everySeconds * 1000, signal);
    }
  }

  async remove(): Promise<string[]> {
    const reports = [await this.#own.remove(), await this.#other.remove()];
    const errors = reports.flatMap((report) => report.errors);
    if (errors.length > 0) {
      throw new Error(`traffic rules could not be removed: ${errors.join("; ")}`);
    }
    return reports.flatMap((report) => report.changed);
  }

  #logState(errors: string[]): void {
    const state = errors.join("\n");
    if (state === this.#state) return;
    this.#state = state;
    for (const error of errors) {
      log.error("Traffic rules, tried again at each resync: {error}", { error });
    }
    if (errors.length === 0) log.info("Traffic rules are in place again");
  }
}

/** Waits, or less where `signal` aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => resolve();
  const timer = setTimeout(done, ms);
  signal.addEventListener("abort", done);
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", done);
}
