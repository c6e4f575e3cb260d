/**
 * Which of the wanted rules are not in place; changes nothing.
 *
 * @module
 */
import type { Commands } from "./commands.ts";
import { IptablesTools, NAMES } from "./iptables_tools.ts";
import { FAMILIES, type Family, type FamilyRules, NFT_FAMILY, type RuleSet } from "./rules.ts";
import { iptablesTables, parseSave, planTable, withoutComment } from "./save.ts";

/** A line each, in words. */
export async function missingRules(
  kind: "iptables" | "nftables",
  wanted: RuleSet,
  commands: Commands,
): Promise<string[]> {
  const lines: string[] = [];
  for (const family of FAMILIES) {
    const rules = wanted[family];
    if (!rules || (!rules.forward && !rules.masquerade)) continue;
    lines.push(
      ...kind === "iptables"
        ? await missingIptables(family, rules, wanted.randomFully, commands)
        : await missingNftables(family, rules, commands),
    );
  }
  return lines;
}

async function missingIptables(
  family: Family,
  rules: FamilyRules,
  randomFully: boolean,
  commands: Commands,
): Promise<string[]> {
  const name = NAMES[family];
  const tools = await new IptablesTools(commands).main(family);
  if (!tools) return [`${name}-save and ${name}-restore are not installed`];
  const { code, stdout, stderr } = await commands.run(tools.save, []);
  if (code !== 0) return [`${name}-save: status ${code}: ${stderr.replaceAll(/\s*\n\s*/g, "; ")}`];
  const actual = parseSave(stdout);
  const absent = (random: boolean) =>
    iptablesTables(rules, random).flatMap((table) => {
      const added = planTable(table, actual[table.table], {})?.added ?? [];
      return added.map((rule) => `${name} ${table.table}: missing ${withoutComment(rule)}`);
    });
  // Without --random-fully where the host does not know it.
  const plain = absent(false);
  return plain.length === 0 || !randomFully ? plain : absent(true);
}

async function missingNftables(
  family: Family,
  rules: FamilyRules,
  commands: Commands,
): Promise<string[]> {
  const nft = await commands.find("nft");
  if (!nft) return ["nft is not installed"];
  const table = `${NFT_FAMILY[family]} flannel-${family}`;
  const { code, stdout, stderr } = await commands.run(nft, ["list", "table", ...table.split(" ")]);
  if (code !== 0) {
    const reason = /no such file/i.test(stderr) ? "missing" : stderr.split("\n")[0];
    return [`nftables table ${table}: ${reason}`];
  }
  // The table is the agent's alone, and nft writes rules in its own way: their number tells.
  const count = (comment: string) => stdout.split(`comment "${comment}"`).length - 1;
  const chains = [
    { chain: "forward", rules: rules.forward, comment: "flanneld forward" },
    { chain: "postrtg", rules: rules.masquerade, comment: "flanneld masq" },
  ];
  return chains.filter(({ rules, comment }) => rules !== null && count(comment) < rules.length)
    .map(({ chain }) => `nftables table ${table}: rules of chain ${chain} are missing`);
}
