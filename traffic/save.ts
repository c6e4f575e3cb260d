/**
 * Reads what `iptables-save` prints and works out what `iptables-restore --noflush` must be given.
 *
 * @module
 */
import type { FamilyRules, Net, Rule } from "./rules.ts";
import { isRestorable, jumpsTo, optionsOf, saveLines } from "./save_text.ts";

/** The two tables that hold chains of ours. */
export type TableName = "filter" | "nat";

/** One of our chains and the built-in one that jumps to it. */
interface Place {
  table: TableName;
  base: string;
  chain: string;
  comment: string;
}

/** Where our rules live; chains and comments are those that flannel has. */
export const PLACES: readonly Place[] = [
  { table: "filter", base: "FORWARD", chain: "FLANNEL-FWD", comment: "flanneld forward" },
  { table: "nat", base: "POSTROUTING", chain: "FLANNEL-POSTRTG", comment: "flanneld masq" },
];

/** What one table should hold of ours; `rules` null where nothing. */
export interface WantedTable extends Place {
  /** Rules of the chain, without `-A CHAIN`. */
  rules: string[] | null;
}

/** A rule that jumps to our chain. */
interface Jump {
  /** As printed, without `-A CHAIN`. */
  rule: string;
  /** Its position in the built-in chain, from 1. */
  position: number;
}

/** What one table holds. */
export interface ActualTable {
  /** Policy of the built-in chain; undefined where the table is not in use. */
  policy?: string;
  /** Rules of our chain as printed, without `-A CHAIN`; undefined where there is no such chain. */
  rules?: string[];
  /** Rules of the built-in chain that jump to ours. */
  jumps: Jump[];
  /** Rules of all chains of the table `filter`, as printed, without `-A CHAIN`. */
  chains: Map<string, string[]>;
}

/** How a table is changed beyond its rules. */
export interface PlanOptions {
  /** Policy to set for FORWARD; undefined: it stays as it is. */
  policy?: "ACCEPT" | "DROP";
  /** Index, among the others' rules of the built-in chain, of one past which no packet gets. */
  end?: number;
  /** Whether a jump behind {@link end} is moved before it. */
  mayMove?: boolean;
}

/** What must be done to a table. */
export interface TableChange {
  table: TableName;
  /** Lines for `iptables-restore`, without the table's head and COMMIT. */
  lines: string[];
  /** Rules added to our chain or to the built-in one, without `-A CHAIN`. */
  added: string[];
  /** Rules taken out of the built-in chain. */
  deleted: string[];
  /** The built-in chain's policy is set to this one. */
  policy?: string;
  /** The jump is moved before another's rule. */
  moved: boolean;
}

/** Writes the rules of one family as iptables prints them. */
export function iptablesTables(
  rules: FamilyRules | null,
  randomFully: boolean,
): WantedTable[] {
  return PLACES.map((place) => {
    const list = rules && (place.table === "filter" ? rules.forward : rules.masquerade);
    return {
      ...place,
      rules: list && list.map((rule) => iptablesRule(rule, place.comment, randomFully)),
    };
  });
}

function iptablesRule(rule: Rule, comment: string, randomFully: boolean): string {
  const words = [
    ...net("-s", rule.src),
    ...net("-d", rule.dst),
    ...mark(rule.markBits),
    ...commentWords(comment),
    "-j",
    rule.action.toUpperCase(),
  ];
  if (rule.action === "masquerade" && randomFully) words.push("--random-fully");
  return words.join(" ");
}

function net(option: string, value: Net | undefined): string[] {
  return value ? [...(value.not ? ["!"] : []), option, value.cidr] : [];
}

function mark(bits: number | undefined): string[] {
  if (bits === undefined) return [];
  const hex = `0x${bits.toString(16)}`;
  return ["-m", "mark", "--mark", `${hex}/${hex}`];
}

function commentWords(comment: string): string[] {
  return ["-m", "comment", "--comment", `"${comment}"`];
}

/** A rule as the log shows it: without its comment. */
export function withoutComment(rule: string): string {
  return rule.replace(/-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+) /s, "");
}

/** Picks from the output of `iptables-save` what concerns us; a host may have 10,000 other rules. */
export function parseSave(text: string): Record<TableName, ActualTable> {
  const none = (): ActualTable => ({ jumps: [], chains: new Map() });
  const tables: Record<TableName, ActualTable> = { filter: none(), nat: none() };
  let place: Place | undefined;
  let position = 0;
  for (const line of saveLines(text)) {
    if (line.startsWith("*")) {
      place = PLACES.find(({ table }) => line === `*${table}`);
      position = 0;
    } else if (place) {
      if (line.startsWith(`-A ${place.base} `)) position++;
      readLine(line, place, tables[place.table], position);
    }
  }
  return tables;
}

/** @param position in the built-in chain, of a rule of that */
function readLine(
  line: string,
  { table: name, base, chain }: Place,
  table: ActualTable,
  position: number,
): void {
  if (name === "filter") readRule(line, table.chains);
  if (line.startsWith(`:${base} `)) {
    table.policy = line.split(" ")[1];
  } else if (line.startsWith(`:${chain} `)) {
    table.rules ??= [];
  } else if (line.startsWith(`-A ${chain} `)) {
    (table.rules ??= []).push(line.slice(`-A ${chain} `.length));
  } else if (line.startsWith(`-A ${base} `)) {
    const rule = line.slice(`-A ${base} `.length);
    if (jumpsTo(rule, chain)) table.jumps.push({ rule, position });
  }
}

function readRule(line: string, chains: Map<string, string[]>): void {
  const start = line.startsWith(":") ? 1 : line.startsWith("-A ") ? 3 : 0;
  if (start === 0) return;
  const space = line.indexOf(" ", start);
  const name = line.slice(start, space < 0 ? undefined : space);
  let rules = chains.get(name);
  if (rules === undefined) chains.set(name, rules = []);
  if (start === 3) rules.push(space < 0 ? "" : line.slice(space + 1));
}

/**
 * The options of a rule, each with its values, sorted: equal for two spellings of one rule. Versions
 * and variants of iptables differ in the order of options, in quotes and in `/32`.
 */
export function normalForm(rule: string): string[] {
  return optionsOf(rule)
    .map(({ name, negated, values }) => [...(negated ? ["!"] : []), name, ...values].join(" "))
    .sort();
}

function same(a: string, b: string): boolean {
  return normalForm(a).join("\n") === normalForm(b).join("\n");
}

/** What makes `actual` what is `wanted`; undefined where it is already. */
export function planTable(
  wanted: WantedTable,
  actual: ActualTable,
  options: PlanOptions = {},
): TableChange | undefined {
  const { table, base, chain, rules } = wanted;
  const change: TableChange = { table, lines: [], added: [], deleted: [], moved: false };
  const { policy } = options;
  if (table === "filter" && policy && actual.policy !== undefined && actual.policy !== policy) {
    change.policy = policy;
    change.lines.push(`:${base} ${policy} [0:0]`);
  }
  if (rules === null) {
    if (actual.rules !== undefined || actual.jumps.length > 0) {
      change.deleted = actual.jumps.map(({ rule }) => rule);
      // Naming a user's chain empties it, also under --noflush.
      change.lines.push(`:${chain} - [0:0]`, ...deletions(base, actual.jumps), `-X ${chain}`);
    }
    return change.lines.length > 0 ? change : undefined;
  }
  const { rules: have } = actual;
  const right = have?.length === rules.length && rules.every((rule, i) => same(rule, have[i]));
  if (!right) {
    change.added.push(...rules);
    change.lines.push(`:${chain} - [0:0]`, ...rules.map((rule) => `-A ${chain} ${rule}`));
  }
  planJump(wanted, actual, options, change);
  return change.lines.length > 0 ? change : undefined;
}

/** One jump stays, where it stands unless that is in vain; all others to our chain go. */
function planJump(
  wanted: WantedTable,
  actual: ActualTable,
  { end, mayMove = true }: PlanOptions,
  change: TableChange,
): void {
  const jump = [...commentWords(wanted.comment), "-j", wanted.chain].join(" ");
  let right = actual.jumps.findIndex(({ rule }) => same(rule, jump));
  if (right >= 0 && end !== undefined && mayMove && !isBefore(wanted, actual, jump, end)) {
    change.moved = true;
    right = -1;
  }
  // -D takes the first of several equal rules: the last one of them is what stays.
  const unwanted = actual.jumps.filter((_, i) => i !== right);
  change.deleted = unwanted.map(({ rule }) => rule);
  change.lines.push(...deletions(wanted.base, unwanted));
  if (right < 0) {
    change.added.push(jump);
    const how = end === undefined ? `-A ${wanted.base}` : `-I ${wanted.base} ${end + 1}`;
    change.lines.push(`${how} ${jump}`);
  }
}

/** Lines that delete rules of `base`: first, from the end, those that can be named by position only. */
function deletions(base: string, jumps: Jump[]): string[] {
  const [named, numbered] = [true, false].map((named) =>
    jumps.filter(({ rule }) => isRestorable(rule) === named)
  );
  return [
    ...numbered.reverse().map(({ position }) => `-D ${base} ${position}`),
    ...named.map(({ rule }) => `-D ${base} ${rule}`),
  ];
}

/** Whether the last rule like `jump` stands before the others' rule with index `end`. */
function isBefore(
  { base, chain }: WantedTable,
  { chains }: ActualTable,
  jump: string,
  end: number,
): boolean {
  const rules = chains.get(base) ?? [];
  const at = rules.findLastIndex((rule) => same(rule, jump));
  return rules.slice(0, at).filter((rule) => !jumpsTo(rule, chain)).length <= end;
}

/** The input of `iptables-restore --noflush` for all changes of one family. */
export function restoreInput(changes: TableChange[]): string {
  return changes.map(({ table, lines }) => `*${table}\n${lines.join("\n")}\nCOMMIT\n`).join("");
}
