/**
 * Finds base chains of nftables, of other programs, that drop what the agent's own rules accept: the
 * kernel asks all of them, and one drop is enough. They are not ours to change.
 *
 * @module
 */
import type { Commands } from "./commands.ts";
import { forwardChains, type NftBaseChain, nftChains, nftEntries } from "./nft_match.ts";
import { FAMILIES, type Family, type FamilyRules, NFT_FAMILY, type RuleSet } from "./rules.ts";
import { judge, overlayPackets } from "./verdict.ts";

/** Milliseconds between two looks at chains that let everything through. */
const RECHECK = 30_000;

/** A chain that drops the overlay's packets. */
export interface Barrier {
  /** What it is, and the remedy. */
  line: string;
  /** It is iptables' own FORWARD, of which iptables' tools tell more. */
  isIptables: boolean;
}

/** See the module. */
export class Barriers {
  readonly #commands: Commands;
  readonly #bridge: (subnet: string) => string | undefined;
  #found: Barrier[] = [];
  #wanted: RuleSet | undefined;
  #next = 0;
  #skipped = false;

  constructor(commands: Commands, bridge: (subnet: string) => string | undefined) {
    this.#commands = commands;
    this.#bridge = bridge;
  }

  /** What was found by the last {@linkcode look}. */
  get found(): readonly Barrier[] {
    return this.#found;
  }

  /** When the look is due that the last {@linkcode look} left out; undefined where it was made. */
  get due(): number | undefined {
    return this.#skipped ? this.#next : undefined;
  }

  /** Looks, unless that was done just now and nothing was found. */
  async look(wanted: RuleSet): Promise<void> {
    const now = performance.now();
    const due = wanted !== this.#wanted || this.#found.length > 0 || now >= this.#next;
    this.#skipped = !due;
    if (!due) return;
    this.#wanted = wanted;
    this.#next = now + RECHECK;
    const nft = await this.#commands.find("nft");
    this.#found = nft ? await this.#search(nft, wanted) : [];
  }

  async #search(nft: string, wanted: RuleSet): Promise<Barrier[]> {
    const found: Barrier[] = [];
    const listed = await this.#list(nft, "chains");
    for (const base of forwardChains(listed)) {
      if (isOurs(base)) continue;
      const chains = nftChains(await this.#list(nft, "table", base.family, base.table));
      for (const family of FAMILIES) {
        const rules = wanted[family];
        if (!rules?.forward || !hasFamily(base, family)) continue;
        for (const packet of overlayPackets(rules.subnets, this.#bridge(rules.subnets.subnet))) {
          const { lost, culprit } = judge(chains, base, packet);
          if (!lost) continue;
          const isIptables = base.table === "filter" && base.name === "FORWARD";
          found.push({ line: words(base, family, rules, culprit), isIptables });
          break;
        }
      }
    }
    return found;
  }

  /** Nothing where nft has no answer: what cannot be listed is not held against the host. */
  async #list(nft: string, ...what: string[]) {
    const { code, stdout } = await this.#commands.run(nft, ["-j", "list", ...what]);
    if (code !== 0) return [];
    try {
      return nftEntries(stdout);
    } catch {
      return [];
    }
  }
}

function isOurs({ family, table }: NftBaseChain): boolean {
  return FAMILIES.some((one) => family === NFT_FAMILY[one] && table === `flannel-${one}`);
}

function hasFamily(base: NftBaseChain, family: Family): boolean {
  return base.family === "inet" || base.family === NFT_FAMILY[family];
}

function words(
  base: NftBaseChain,
  family: Family,
  { subnets: { network } }: FamilyRules,
  culprit: string | undefined,
): string {
  const { table, name } = base;
  const by = culprit === undefined ? "its policy, drop" : `its rule ${culprit}`;
  return `the nftables chain ${name} of table ${base.family} ${table} drops forwarded packets of ` +
    `${network} by ${by}, which flanneld's own rules cannot prevent: ${
      remedy(base, family, network)
    }`;
}

function remedy({ family, table, name }: NftBaseChain, of: Family, network: string): string {
  if (table === "firewalld") {
    return `run firewall-cmd --permanent --zone=trusted --add-source=${network} && ` +
      `firewall-cmd --reload`;
  }
  const rule = (field: string) =>
    `nft insert rule ${family} ${table} ${name} ${NFT_FAMILY[of]} ${field} ${network} accept`;
  return `run ${rule("saddr")} && ${
    rule("daddr")
  }, and add the same rules to whatever creates that table`;
}
