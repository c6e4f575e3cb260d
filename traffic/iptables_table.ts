/**
 * Reads and writes what one variant of iptables holds for one family, by `iptables-save` and
 * `iptables-restore --noflush`.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Budget } from "../base/reports.ts";
import { type CommandResult, type Commands, unsupported } from "./commands.ts";
import { ToolError } from "./filter.ts";
import { type ForwardView, ForwardViews } from "./forward_view.ts";
import { type IptablesTools, NAMES, type Tools } from "./iptables_tools.ts";
import type { PolicyMemory } from "./policy_memory.ts";
import type { Family } from "./rules.ts";
import {
  type ActualTable,
  parseSave,
  planTable,
  restoreInput,
  type TableChange,
  type TableName,
  type WantedTable,
  withoutComment,
} from "./save.ts";
import type { Packet } from "./verdict.ts";

const log = getLogger(["flanneld", "traffic"]);

/** Seconds that iptables waits for the lock when another process changes rules. */
const LOCK_WAIT_S = 5;

/** How a family's rules are settled. */
export interface SettleOptions {
  wanted: WantedTable[];
  /** Only tables in which rules are wanted are looked at. */
  narrow?: boolean;
  /** FORWARD's policy is set to ACCEPT where rules are wanted, is left, or is what it was. */
  policy: "accept" | "keep" | "restore";
  /** Those that should get through; none: what others' rules do is not looked at. */
  packets?: readonly Packet[];
  /** Rules are in place only where others' rules may drop the packets. */
  ifNeeded?: boolean;
}

/** What was read. */
interface Reading {
  changes: TableChange[];
  view: ForwardView;
  /** The table `filter` is in use. */
  inUse: boolean;
}

/** What came of it. */
export interface Settled {
  /** In words. */
  changed: string[];
  /** What drops the packets all the same. */
  lost?: string;
  inUse: boolean;
}

/** See the module. */
export class FamilyTables {
  readonly #commands: Commands;
  readonly #tools: IptablesTools;
  readonly #family: Family;
  readonly #memory: PolicyMemory;
  /** By tool. */
  readonly #seen = new Map<string, ForwardViews>();
  /** Moves of the jump: another program may put its rule first again and again, too. */
  readonly #moves = new Budget(5, 1 / 300);
  /** Lines about the policy, which others may change again and again. */
  readonly #policyLines = new Budget(10, 1 / 300);

  constructor(
    commands: Commands,
    tools: IptablesTools,
    family: Family,
    memory: PolicyMemory,
  ) {
    this.#commands = commands;
    this.#tools = tools;
    this.#family = family;
    this.#memory = memory;
  }

  /** Reads, compares, and writes what differs. @throws {ToolError} */
  async settle(tools: Tools, options: SettleOptions): Promise<Settled> {
    let mayMove = true;
    let reading = await this.#read(tools, options, mayMove);
    if (reading.changes.some(({ moved }) => moved) && !this.#moves.take()) {
      mayMove = false;
      reading = await this.#read(tools, options, mayMove);
    }
    const { changes, view, inUse } = reading;
    if (changes.length === 0) return { changed: [], lost: view.lost, inUse };
    this.#announce(changes, view);
    if (changes.some(({ policy }) => policy === "ACCEPT")) {
      this.#memory.remember(await this.#variant(tools));
    }
    const args = ["--noflush", `--wait=${LOCK_WAIT_S}`];
    const result = await this.#commands.run(tools.restore, args, restoreInput(changes));
    check(`${tools.name}-restore`, result);
    const after = await this.#read(tools, options, mayMove);
    const left = after.changes.flatMap(({ lines }) => lines);
    if (left.length > 0) {
      throw new ToolError(
        `${tools.name}: rules were written but are missing afterwards: ${left.join(", ")}`,
      );
    }
    const changed = changes.flatMap((change) => describe(tools.name, change));
    return { changed, lost: after.view.lost, inUse: after.inUse };
  }

  /** Removes our rules and restores the policy that FORWARD had. @throws {ToolError} */
  async remove(tools: Tools, wanted: WantedTable[]): Promise<string[]> {
    const { changed } = await this.settle(tools, { wanted, policy: "restore" });
    this.#memory.forget(await this.#variant(tools));
    return changed;
  }

  async #read(tools: Tools, options: SettleOptions, mayMove: boolean): Promise<Reading> {
    const { wanted, narrow = false, packets = [], ifNeeded = false } = options;
    const tables = narrow ? wanted.filter(({ rules }) => rules !== null) : wanted;
    const args = tables.length === 1 ? ["-t", tables[0].table] : [];
    const result = await this.#commands.run(tools.save, args);
    if (unsupported(result) && (ifNeeded || tables.every(({ rules }) => rules === null))) {
      return { changes: [], view: { needed: false }, inUse: false };
    }
    // iptables-legacy is root's alone: what cannot be read cannot be helped either.
    if (ifNeeded && /permission denied/i.test(result.stderr)) {
      return { changes: [], view: { needed: false }, inUse: false };
    }
    check(`${tools.name}-save`, result);
    const actual = parseSave(result.stdout);
    const view = this.#views(tools).view(actual.filter, packets);
    const policy = await this.#policy(tools, options, actual);
    const changes = tables.flatMap((table) => {
      const rules = ifNeeded && !view.needed ? null : table.rules;
      const plan = { policy: rules || options.policy === "restore" ? policy : undefined };
      return planTable({ ...table, rules }, actual[table.table], {
        ...plan,
        ...(table.table === "filter" ? { end: view.end, mayMove } : {}),
      }) ?? [];
    });
    return { changes, view, inUse: actual.filter.policy !== undefined };
  }

  #views({ save }: Tools): ForwardViews {
    let views = this.#seen.get(save);
    if (views === undefined) this.#seen.set(save, views = new ForwardViews());
    return views;
  }

  /** What FORWARD's policy should be; undefined: as it is. */
  async #policy(
    tools: Tools,
    { policy }: SettleOptions,
    { filter }: Record<TableName, ActualTable>,
  ): Promise<"ACCEPT" | "DROP" | undefined> {
    switch (policy) {
      case "accept":
        return "ACCEPT";
      case "keep":
        return undefined;
      case "restore":
        if (filter.policy !== "ACCEPT") return undefined;
        return this.#memory.recall(await this.#variant(tools));
    }
  }

  async #variant(tools: Tools): Promise<string> {
    return `${NAMES[this.#family]}-${await this.#tools.kind(tools)}`;
  }

  #announce(changes: TableChange[], { endRule }: ForwardView): void {
    const name = NAMES[this.#family];
    if (changes.some(({ policy }) => policy === "ACCEPT") && this.#policyLines.take()) {
      const start = this.#family === "ipv6" ? "IPv6: " : "";
      log.info(`${start}Changing default FORWARD chain policy to ACCEPT`);
    }
    if (changes.some(({ moved }) => moved)) {
      log.info("Moving the jump to FLANNEL-FWD ahead of a rule that drops its packets: {rule}", {
        rule: `-A FORWARD ${endRule}`,
      });
    }
    if (changes.some(({ added }) => added.length > 0)) {
      log.info("Some {name} rules are missing; deleting and recreating rules", { name });
    }
    for (const { added, deleted } of changes) {
      for (const rule of deleted) {
        log.info("Deleting {name} rule: {rule}", { name, rule: withoutComment(rule) });
      }
      for (const rule of added) {
        log.info("Adding {name} rule: {rule}", { name, rule: withoutComment(rule) });
      }
    }
  }
}

function check(name: string, { code, stderr }: CommandResult): void {
  if (code === 0) return;
  throw new ToolError(`${name}: status ${code}: ${stderr.replaceAll(/\s*\n\s*/g, "; ")}`);
}

function describe(name: string, { table, added, deleted, lines, policy }: TableChange): string[] {
  const words: string[] = [];
  if (policy) words.push(`${name} ${table}: policy of FORWARD set to ${policy}`);
  for (const rule of added) words.push(`${name} ${table}: added ${withoutComment(rule)}`);
  for (const rule of deleted) words.push(`${name} ${table}: deleted ${withoutComment(rule)}`);
  for (const line of lines) {
    if (line.startsWith("-X ")) words.push(`${name} ${table}: removed chain ${line.slice(3)}`);
  }
  return words;
}
