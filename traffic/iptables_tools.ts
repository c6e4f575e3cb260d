/**
 * The tools of iptables' variants on this host.
 *
 * @module
 */
import type { Commands } from "./commands.ts";
import type { Family } from "./rules.ts";

/** iptables' name for a family's tool. */
export const NAMES: Record<Family, string> = { ipv4: "iptables", ipv6: "ip6tables" };

/** The kernel's side of a tool: `iptables-legacy` has rules of its own. */
export type Kind = "nft" | "legacy";

/** One program's pair of tools. */
export interface Tools {
  /** Name for messages: `iptables`, `ip6tables-legacy`. */
  name: string;
  save: string;
  restore: string;
}

/** Finds the tools of iptables. */
export class IptablesTools {
  readonly #commands: Commands;
  readonly #kinds = new Map<string, Kind>();

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  /** `iptables` itself, whichever variant that is. */
  async main(family: Family): Promise<Tools | undefined> {
    return (await this.#installed([NAMES[family]]))[0];
  }

  /** All variants; `iptables` itself where it is the only one, or may be another one. */
  async all(family: Family): Promise<Tools[]> {
    const base = NAMES[family];
    const variants = await this.#installed([`${base}-nft`, `${base}-legacy`]);
    return variants.length < 2 ? [...variants, ...await this.#installed([base])] : variants;
  }

  /** The variants that `iptables` itself is not. */
  async others(family: Family): Promise<Tools[]> {
    const base = NAMES[family];
    const main = await this.main(family);
    if (main === undefined) return [];
    const kind = await this.kind(main);
    return this.#installed([`${base}-${kind === "nft" ? "legacy" : "nft"}`]);
  }

  /** Which variant a tool is. */
  async kind({ save }: Tools): Promise<Kind> {
    const known = this.#kinds.get(save);
    if (known) return known;
    const { stdout } = await this.#commands.run(save, ["--version"]);
    // iptables before 1.8 knows no variants.
    const kind = stdout.includes("(nf_tables)") ? "nft" : "legacy";
    this.#kinds.set(save, kind);
    return kind;
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
}
