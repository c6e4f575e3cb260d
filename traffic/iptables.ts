/**
 * Keeps the rules by `iptables-restore --noflush`, one call a family; works with the nft and the
 * legacy variant, whichever `iptables` is on this host.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type CommandResult, type Commands, unsupported } from "./commands.ts";
import type { Family, FamilyRules, RuleSet } from "./rules.ts";
import {
  iptablesTables,
  parseSave,
  planTable,
  restoreInput,
  type TableChange,
  type WantedTable,
  withoutComment,
} from "./save.ts";
import { collect, type EnsureReport, type PacketFilter, ToolError } from "./filter.ts";

const log = getLogger(["flanneld", "traffic"]);

const FAMILIES: readonly Family[] = ["ipv4", "ipv6"];
const NAMES: Record<Family, string> = { ipv4: "iptables", ipv6: "ip6tables" };

/** Seconds that iptables waits for the lock when another process changes rules. */
const LOCK_WAIT_S = 5;

/** Failures that say nothing about an option: the lock is held, no answer, no right. */
const TRANSIENT = /lock|temporarily|busy|no end after|permission|not permitted/i;

/** One program's pair of tools. */
interface Tools {
  /** Name for messages: `iptables`, `ip6tables-legacy`. */
  name: string;
  save: string;
  restore: string;
}

/** {@linkcode PacketFilter} by way of iptables. */
export class Iptables implements PacketFilter {
  #commands: Commands;
  /** Families in which rules that {@link #wanted} does not have were looked for. */
  #looked = new Set<Family>();
  #wanted: RuleSet | undefined;
  /** Families whose iptables does not know `--random-fully` (before 1.6.2, or an old kernel). */
  #plain = new Set<Family>();
  #announced = false;

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  async ensure(wanted: RuleSet): Promise<EnsureReport> {
    const report: EnsureReport = { changed: [], errors: [] };
    this.#announce(wanted);
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
      const base = NAMES[family];
      let variants = await this.#installed([`${base}-nft`, `${base}-legacy`]);
      if (variants.length < 2) variants = [...variants, ...await this.#installed([base])];
      for (const tools of variants) {
        await collect(report, () => this.#settle(tools, iptablesTables(null, false), false));
      }
    }
    return report;
  }

  /** The line that people look for, whether or not the policy was another before. */
  #announce(wanted: RuleSet): void {
    if (this.#announced) return;
    this.#announced = true;
    if (wanted.ipv4?.forward) log.info("Changing default FORWARD chain policy to ACCEPT");
    if (wanted.ipv6?.forward) log.info("IPv6: Changing default FORWARD chain policy to ACCEPT");
  }

  async #ensureFamily(family: Family, wanted: RuleSet): Promise<string[]> {
    const rules = wanted[family];
    const needed = rules !== null && (rules.forward !== null || rules.masquerade !== null);
    // The first look is at all tables, for rules that are not wanted any more.
    const first = !this.#looked.has(family);
    if (!needed && !first) return [];
    const [tools] = await this.#installed([NAMES[family]]);
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
      return await this.#settle(tools, iptablesTables(rules, random), narrow);
    } catch (error) {
      if (!random || !rules?.masquerade || !(error instanceof ToolError)) throw error;
      if (TRANSIENT.test(error.message)) throw error;
      // Told apart by trying: versions, variants and kernels differ in what they say.
      const done = await this.#settle(tools, iptablesTables(rules, false), narrow);
      this.#plain.add(family);
      log.info("{name} does not know --random-fully, masquerading without it: {error}", {
        name: tools.name,
        error: error.message,
      });
      return done;
    }
  }

  /** Reads, compares, and writes what differs. `narrow`: only tables in which rules are wanted. */
  async #settle(tools: Tools, wanted: WantedTable[], narrow: boolean): Promise<string[]> {
    const changes = await this.#difference(tools, wanted, narrow);
    if (changes.length === 0) return [];
    announceChanges(changes);
    const input = restoreInput(changes);
    const args = ["--noflush", `--wait=${LOCK_WAIT_S}`];
    check(`${tools.name}-restore`, await this.#commands.run(tools.restore, args, input));
    const left = await this.#difference(tools, wanted, narrow);
    if (left.length > 0) {
      const lines = left.flatMap((change) => change.lines).join(", ");
      throw new ToolError(`${tools.name}: rules were written but are not there after: ${lines}`);
    }
    return changes.flatMap((change) => describe(tools.name, change));
  }

  async #difference(
    tools: Tools,
    wanted: WantedTable[],
    narrow: boolean,
  ): Promise<TableChange[]> {
    const tables = narrow ? wanted.filter(({ rules }) => rules !== null) : wanted;
    const args = tables.length === 1 ? ["-t", tables[0].table] : [];
    const result = await this.#commands.run(tools.save, args);
    if (unsupported(result) && tables.every(({ rules }) => rules === null)) return [];
    check(`${tools.name}-save`, result);
    const actual = parseSave(result.stdout);
    return tables.flatMap((table) => planTable(table, actual[table.table]) ?? []);
  }

  async #installed(names: string[]): Promise<Tools[]> {
    const tools: Tools[] = [];
    for (const name of names) {
      const save = await this.#commands.find(`${name}-save`);
      const restore = await this.#commands.find(`${name}-restore`);
      if (save && restore) tools.push({ name, save, restore });
    }
    return tools;
  }

  #missing(name: string): string {
    const where = this.#commands.folders.join(":");
    return `${name}-save and ${name}-restore not found in ${where}: install iptables, or set ` +
      `"EnableNFTables": true in the network config where nft is installed; traffic rules are not ` +
      `in place until then`;
  }
}

function check(name: string, { code, stderr }: CommandResult): void {
  if (code === 0) return;
  throw new ToolError(`${name}: status ${code}: ${stderr.replaceAll(/\s*\n\s*/g, "; ")}`);
}

function announceChanges(changes: TableChange[]): void {
  if (changes.some(({ added }) => added.length > 0)) {
    log.info("Some iptables rules are missing; deleting and recreating rules");
  }
  for (const { added, deleted } of changes) {
    for (const rule of deleted) {
      log.info("Deleting iptables rule: {rule}", { rule: withoutComment(rule) });
    }
    for (const rule of added) {
      log.info("Adding iptables rule: {rule}", { rule: withoutComment(rule) });
    }
  }
}

function describe(name: string, { table, added, deleted, lines, policy }: TableChange): string[] {
  const words: string[] = [];
  if (policy) words.push(`${name} ${table}: policy of FORWARD set to ACCEPT`);
  for (const rule of added) words.push(`${name} ${table}: added ${withoutComment(rule)}`);
  for (const rule of deleted) words.push(`${name} ${table}: deleted ${withoutComment(rule)}`);
  for (const line of lines) {
    if (line.startsWith("-X ")) words.push(`${name} ${table}: removed chain ${line.slice(3)}`);
  }
  return words;
}
