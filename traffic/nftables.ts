/**
 * Keeps the rules in nftables tables of the agent's own, `flannel-ipv4` and `flannel-ipv6`, each
 * replaced by one transaction.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type CommandResult, type Commands, unsupported } from "./commands.ts";
import {
  FAMILIES,
  type Family,
  type FamilyRules,
  type Net,
  NFT_FAMILY,
  type Rule,
  type RuleSet,
} from "./rules.ts";
import { nftEntries } from "./nft_match.ts";
import { collect, type EnsureReport, type PacketFilter, ToolError } from "./filter.ts";

const log = getLogger(["flanneld", "traffic"]);

/** The table of a family, as nft names it: `ip flannel-ipv4`. */
function tableOf(family: Family): string {
  return `${NFT_FAMILY[family]} flannel-${family}`;
}

/**
 * The transaction that replaces a family's table, whether or not it is there.
 *
 * The chains' policy is accept: what is not the overlay's is none of our business.
 */
export function nftInput(family: Family, rules: FamilyRules, randomFully: boolean): string {
  const table = tableOf(family);
  const chain = (name: string, head: string, list: Rule[] | null, comment: string) =>
    list === null ? [] : [
      `  chain ${name} {`,
      `    ${head}; policy accept;`,
      ...list.map((rule) => `    ${nftRule(rule, family, randomFully)} comment "${comment}"`),
      "  }",
    ];
  return [
    // Adding first makes the deletion good where there is no such table.
    `add table ${table}`,
    `delete table ${table}`,
    `table ${table} {`,
    ...chain(
      "forward",
      "type filter hook forward priority 0",
      rules.forward,
      "flanneld forward",
    ),
    ...chain(
      "postrtg",
      "type nat hook postrouting priority 100",
      rules.masquerade,
      "flanneld masq",
    ),
    "}",
    "",
  ].join("\n");
}

function nftRule(rule: Rule, family: Family, randomFully: boolean): string {
  const words = [
    ...address(family, "saddr", rule.src),
    ...address(family, "daddr", rule.dst),
  ];
  if (rule.markBits !== undefined) {
    words.push(`meta mark & ${rule.markBits} == ${rule.markBits}`);
  }
  words.push(rule.action);
  if (rule.action === "masquerade" && randomFully) words.push("fully-random");
  return words.join(" ");
}

function address(family: Family, field: string, value: Net | undefined): string[] {
  return value ? [NFT_FAMILY[family], field, value.not ? "!=" : "==", value.cidr] : [];
}

/** A listing by `nft -j` without what differs from one transaction to the next. */
export function nftListing(json: string): string {
  const { nftables } = JSON.parse(json) as { nftables: Record<string, unknown>[] };
  return JSON.stringify(
    nftables.filter((entry) => !("metainfo" in entry)),
    (key, value: unknown) => key === "handle" ? undefined : value,
  );
}

/** What was written for a family and how nft listed it right after. */
interface Written {
  input: string;
  listing: string;
}

/** {@linkcode PacketFilter} by way of nft. */
export class Nftables implements PacketFilter {
  #commands: Commands;
  #written = new Map<Family, Written>();
  /** Leftovers of an earlier run were looked for. */
  #looked = false;
  /** The kernel does not know `fully-random`. */
  #plain = false;

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  /** Its own tables drop nothing. */
  readonly lost: readonly string[] = [];
  /** Each look is at everything. */
  readonly due = undefined;

  async ensure(wanted: RuleSet): Promise<EnsureReport> {
    const report: EnsureReport = { changed: [], errors: [] };
    for (const family of FAMILIES) {
      const rules = wanted[family];
      if (!rules || (!rules.forward && !rules.masquerade)) continue;
      await collect(report, () => this.#ensureFamily(family, rules, wanted.randomFully));
    }
    const unwanted = FAMILIES.filter((family) =>
      !wanted[family]?.forward && !wanted[family]?.masquerade
    );
    if (!this.#looked || unwanted.some((family) => this.#written.has(family))) {
      await collect(report, () => this.#removeTables(unwanted));
      this.#looked = report.errors.length === 0;
    }
    return report;
  }

  async remove(): Promise<EnsureReport> {
    const report: EnsureReport = { changed: [], errors: [] };
    await collect(report, () => this.#removeTables(FAMILIES));
    return report;
  }

  async #ensureFamily(family: Family, rules: FamilyRules, randomFully: boolean): Promise<string[]> {
    const nft = await this.#commands.find("nft");
    if (!nft) {
      throw new ToolError(
        `nft not found in ${this.#commands.folders.join(":")}: install nftables, or remove ` +
          `"EnableNFTables" from the network config; traffic rules are not in place until then`,
      );
    }
    const random = randomFully && !this.#plain;
    const input = nftInput(family, rules, random);
    const written = this.#written.get(family);
    if (written?.input === input && await this.#list(nft, family) === written.listing) return [];
    this.#written.delete(family);
    log.info("Writing nftables table {table}", { table: tableOf(family) });
    const used = await this.#write(nft, family, rules, input, random);
    const listing = await this.#list(nft, family);
    // The table is ours alone: its listing right after the write is what it must stay.
    if (listing !== undefined) this.#written.set(family, { input: used, listing });
    return [`nftables: table ${tableOf(family)}`];
  }

  /** Gives the input that nft took. */
  async #write(
    nft: string,
    family: Family,
    rules: FamilyRules,
    input: string,
    random: boolean,
  ): Promise<string> {
    const first = await this.#commands.run(nft, ["-f", "-"], input);
    if (first.code === 0) return input;
    const plain = nftInput(family, rules, false);
    if (!random || plain === input) throw new ToolError(failure(first));
    check(await this.#commands.run(nft, ["-f", "-"], plain));
    this.#plain = true;
    log.info("nft does not support fully-random, masquerading without it: {error}", {
      error: failure(first),
    });
    return plain;
  }

  /** Undefined where there is no such table. */
  async #list(nft: string, family: Family): Promise<string | undefined> {
    const { code, stdout } = await this.#commands.run(nft, [
      ...["-j", "list", "table", ...tableOf(family).split(" ")],
    ]);
    if (code !== 0) return undefined;
    try {
      return nftListing(stdout);
    } catch (error) {
      throw new ToolError(`nft -j list table ${tableOf(family)}: not JSON: ${error}`);
    }
  }

  async #removeTables(families: readonly Family[]): Promise<string[]> {
    const nft = await this.#commands.find("nft");
    if (!nft) return [];
    const listed = await this.#commands.run(nft, ["-j", "list", "tables"]);
    if (unsupported(listed)) return [];
    check(listed);
    const there = tablesOf(listed.stdout);
    const ours = families.map(tableOf).filter((table) => there.includes(table));
    if (ours.length > 0) {
      const input = ours.map((table) => `delete table ${table}\n`).join("");
      check(await this.#commands.run(nft, ["-f", "-"], input));
    }
    for (const family of families) this.#written.delete(family);
    return ours.map((table) => `nftables: removed table ${table}`);
  }
}

/** The tables of a listing, as {@linkcode tableOf} names them. */
function tablesOf(json: string): string[] {
  try {
    return nftEntries(json).flatMap(({ table }) => {
      const { family, name } = (table ?? {}) as Record<string, unknown>;
      return typeof name === "string" ? [`${family} ${name}`] : [];
    });
  } catch (error) {
    throw new ToolError(`nft -j list tables: not JSON: ${error}`);
  }
}

function failure({ code, stderr }: CommandResult): string {
  return `nft: status ${code}: ${stderr.split("\n")[0]}`;
}

function check(result: CommandResult): void {
  if (result.code !== 0) throw new ToolError(failure(result));
}
