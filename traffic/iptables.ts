/**
 * Keeps the rules in iptables; works with the nft and the legacy variant, whichever `iptables` is on
 * this host.
 *
 * A packet has to get past the FORWARD chains of all packet filters. Where another program filters
 * by the variant that is not the host's `iptables`, or by iptables while the agent's rules are in
 * nftables, accepting rules are kept there, too, as long as they are needed: {@linkcode Guests}.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Commands } from "./commands.ts";
import { viewForward } from "./forward_view.ts";
import { collect, type EnsureReport, type PacketFilter, ToolError } from "./filter.ts";
import { FamilyTables, type SettleOptions } from "./iptables_table.ts";
import { IptablesTools, NAMES, type Tools } from "./iptables_tools.ts";
import type { PolicyMemory } from "./policy_memory.ts";
import { FAMILIES, type Family, type FamilyRules, type RuleSet } from "./rules.ts";
import { iptablesTables, parseSave, type WantedTable } from "./save.ts";
import { overlayPackets } from "./verdict.ts";

const log = getLogger(["flanneld", "traffic"]);

/** Failures that say nothing about an option: the lock is held, no answer, no right. */
const TRANSIENT = /lock|temporarily|busy|no end after|permission|not permitted/i;

/** Milliseconds after which a variant that nobody uses is looked at again. */
const UNUSED_RECHECK = 60_000;

/** What the filters of iptables are told. */
export interface IptablesOptions {
  /** Whether FORWARD's policy is set to ACCEPT or left alone. */
  policy: "accept" | "keep";
  memory: PolicyMemory;
  /** The containers' bridge, the device that has an address of the subnet. */
  bridge(subnet: string): string | undefined;
}

type Families = Record<Family, FamilyTables>;

function familyTables(
  commands: Commands,
  tools: IptablesTools,
  memory: PolicyMemory,
): Families {
  const of = (family: Family) => new FamilyTables(commands, tools, family, memory);
  return { ipv4: of("ipv4"), ipv6: of("ipv6") };
}

/** Packets that should get through, where forward rules are on. */
function packetsOf(rules: FamilyRules | null, options: IptablesOptions) {
  if (!rules?.forward) return [];
  return overlayPackets(rules.subnets, options.bridge(rules.subnets.subnet));
}

/** Words about what drops packets, with the remedy. */
function lostLine(tools: Tools, family: Family, rules: FamilyRules, culprit: string): string {
  return `${tools.name} drops forwarded packets of ${rules.subnets.network}: chain FORWARD of ` +
    `table filter, ${culprit}: remove that, or accept them first with ` +
    `${NAMES[family]} -I FORWARD -s ${rules.subnets.network} -j ACCEPT and the same with -d`;
}

/** What of iptables, in all its variants, drops the overlay's packets; a line each. */
export async function inspectIptables(
  commands: Commands,
  wanted: RuleSet,
  bridge: IptablesOptions["bridge"],
): Promise<string[]> {
  const tools = new IptablesTools(commands);
  const lines: string[] = [];
  for (const family of FAMILIES) {
    const rules = wanted[family];
    if (!rules?.forward) continue;
    const packets = overlayPackets(rules.subnets, bridge(rules.subnets.subnet));
    for (const variant of await tools.all(family)) {
      const { code, stdout } = await commands.run(variant.save, []);
      if (code !== 0) continue;
      const { lost } = viewForward(parseSave(stdout).filter, packets);
      if (lost) lines.push(lostLine(variant, family, rules, lost));
    }
  }
  return lines;
}

/** {@linkcode PacketFilter} by way of the host's `iptables`. */
export class Iptables implements PacketFilter {
  readonly #commands: Commands;
  readonly #options: IptablesOptions;
  readonly #tools: IptablesTools;
  readonly #families: Families;
  readonly #lost = new Map<Family, string>();
  /** Each look is at everything. */
  readonly due = undefined;
  /** Families in which rules that {@link #wanted} does not have were looked for. */
  #looked = new Set<Family>();
  #wanted: RuleSet | undefined;
  /** Families whose iptables does not know `--random-fully` (before 1.6.2, or an old kernel). */
  #plain = new Set<Family>();

  constructor(commands: Commands, options: IptablesOptions) {
    this.#commands = commands;
    this.#options = options;
    this.#tools = new IptablesTools(commands);
    this.#families = familyTables(commands, this.#tools, options.memory);
  }

  get lost(): string[] {
    return [...this.#lost.values()];
  }

  async ensure(wanted: RuleSet): Promise<EnsureReport> {
    const report: EnsureReport = { changed: [], errors: [] };
    if (wanted !== this.#wanted) this.#looked.clear();
    this.#wanted = wanted;
    // One after the other: both take the same lock.
    for (const family of FAMILIES) {
      await collect(report, () => this.#ensureFamily(family, wanted));
    }
    return report;
  }

  async remove(): Promise<EnsureReport> {
    const report: EnsureReport = { changed: [], errors: [] };
    for (const family of FAMILIES) {
      for (const tools of await this.#tools.all(family)) {
        const nothing = iptablesTables(null, false);
        await collect(report, () => this.#families[family].remove(tools, nothing));
      }
    }
    return report;
  }

  async #ensureFamily(family: Family, wanted: RuleSet): Promise<string[]> {
    const rules = wanted[family];
    const needed = rules !== null && (rules.forward !== null || rules.masquerade !== null);
    // The first look is at all tables, for rules that are not wanted any more.
    const first = !this.#looked.has(family);
    if (!needed && !first) return [];
    const tools = await this.#tools.main(family);
    if (!tools) {
      if (!needed) return [];
      throw new ToolError(this.#missing(NAMES[family]));
    }
    // A look for leftovers alone is made once, whatever comes of it.
    if (!needed) this.#looked.add(family);
    const done = await this.#settleRandomly(family, tools, rules, wanted.randomFully, !first);
    this.#looked.add(family);
    return done;
  }

  async #settleRandomly(
    family: Family,
    tools: Tools,
    rules: FamilyRules | null,
    randomFully: boolean,
    narrow: boolean,
  ): Promise<string[]> {
    const random = randomFully && !this.#plain.has(family);
    try {
      return await this.#settle(family, tools, rules, iptablesTables(rules, random), narrow);
    } catch (error) {
      if (!random || !rules?.masquerade || !(error instanceof ToolError)) throw error;
      if (TRANSIENT.test(error.message)) throw error;
      // Told apart by trying: versions, variants and kernels differ in what they say.
      const plain = iptablesTables(rules, false);
      const done = await this.#settle(family, tools, rules, plain, narrow);
      this.#plain.add(family);
      log.info("{name} does not support --random-fully, masquerading without it: {error}", {
        name: tools.name,
        error: error.message,
      });
      return done;
    }
  }

  async #settle(
    family: Family,
    tools: Tools,
    rules: FamilyRules | null,
    wanted: WantedTable[],
    narrow: boolean,
  ): Promise<string[]> {
    const options: SettleOptions = {
      wanted,
      narrow,
      policy: this.#options.policy,
      packets: packetsOf(rules, this.#options),
    };
    const { changed, lost } = await this.#families[family].settle(tools, options);
    this.#lost.delete(family);
    if (rules && lost) this.#lost.set(family, lostLine(tools, family, rules, lost));
    return changed;
  }

  #missing(name: string): string {
    const where = this.#commands.folders.join(":");
    return `${name}-save and ${name}-restore not found in ${where}: install iptables, or set ` +
      `"EnableNFTables": true in the network config if nft is installed; traffic rules are not ` +
      `in place until then`;
  }
}

/**
 * Accepting rules in the FORWARD chains of variants of iptables that are not the agent's own packet
 * filter; only where packets may be dropped there, and with no change to the policy.
 */
export class Guests implements PacketFilter {
  readonly #options: IptablesOptions;
  readonly #which: "all" | "others";
  readonly #tools: IptablesTools;
  readonly #families: Families;
  readonly #lost = new Map<string, string>();
  /** When a variant is looked at again, on the clock of `performance.now()`. */
  readonly #next = new Map<string, number>();
  #wanted: RuleSet | undefined;
  #due: number | undefined;

  /** @param which all variants, or those that the host's `iptables` is not */
  constructor(commands: Commands, options: IptablesOptions, which: "all" | "others") {
    this.#options = options;
    this.#which = which;
    this.#tools = new IptablesTools(commands);
    this.#families = familyTables(commands, this.#tools, options.memory);
  }

  get lost(): string[] {
    return [...this.#lost.values()];
  }

  get due(): number | undefined {
    return this.#due;
  }

  async ensure(wanted: RuleSet): Promise<EnsureReport> {
    const report: EnsureReport = { changed: [], errors: [] };
    if (wanted !== this.#wanted) this.#next.clear();
    this.#wanted = wanted;
    this.#due = undefined;
    for (const family of FAMILIES) {
      for (const tools of await this.#tools[this.#which](family)) {
        await collect(report, () => this.#ensure(family, tools, wanted[family]));
      }
    }
    return report;
  }

  async remove(): Promise<EnsureReport> {
    return await this.ensure({ ipv4: null, ipv6: null, randomFully: false });
  }

  async #ensure(family: Family, tools: Tools, rules: FamilyRules | null): Promise<string[]> {
    const now = performance.now();
    const next = this.#next.get(tools.name) ?? 0;
    if (now < next) {
      if (next < Infinity) this.#due = Math.min(next, this.#due ?? next);
      return [];
    }
    const forward = rules && { ...rules, masquerade: null };
    const { changed, lost, inUse } = await this.#families[family].settle(tools, {
      wanted: iptablesTables(forward, false),
      policy: "keep",
      packets: packetsOf(rules, this.#options),
      ifNeeded: true,
    });
    this.#lost.delete(tools.name);
    if (rules && lost) this.#lost.set(tools.name, lostLine(tools, family, rules, lost));
    // To look at it has a price, at each check.
    if (!rules?.forward) this.#next.set(tools.name, Infinity);
    else if (!inUse) this.#next.set(tools.name, now + UNUSED_RECHECK);
    return changed;
  }
}
