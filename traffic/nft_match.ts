/**
 * Chains as `nft -j list` prints them, as {@linkcode ChainRule}s. What a later nft prints in another
 * way is taken for something that a packet may match or not.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";
import {
  any,
  both,
  type ChainRule,
  type Match,
  matchAddress,
  matchDevice,
  not,
  type Packet,
  type Target,
} from "./verdict.ts";

type Json = Record<string, unknown>;

/** A chain that the kernel calls by itself. */
export interface NftBaseChain {
  family: string;
  table: string;
  name: string;
  policy: "accept" | "drop";
}

/** The entries of a listing. @throws {SyntaxError} for what is not nft's JSON */
export function nftEntries(json: string): Json[] {
  const listing: unknown = JSON.parse(json);
  const entries = isObject(listing) ? listing.nftables : undefined;
  if (!Array.isArray(entries)) throw new SyntaxError("no list `nftables`");
  return entries.filter(isObject);
}

/** The chains that filter forwarded IP packets. */
export function forwardChains(entries: Json[]): NftBaseChain[] {
  return entries.flatMap(({ chain }) => {
    if (!isObject(chain) || chain.hook !== "forward" || chain.type !== "filter") return [];
    const { family, table, name, policy } = chain;
    if (typeof family !== "string" || !["ip", "ip6", "inet"].includes(family)) return [];
    return [{
      family,
      table: String(table),
      name: String(name),
      policy: policy === "drop" ? "drop" : "accept",
    }];
  });
}

/** The rules of a table by chain. */
export function nftChains(entries: Json[]): Map<string, ChainRule[]> {
  const chains = new Map<string, ChainRule[]>();
  for (const { rule } of entries) {
    if (!isObject(rule) || !Array.isArray(rule.expr)) continue;
    const name = String(rule.chain);
    const rules = chains.get(name) ?? [];
    chains.set(name, rules);
    rules.push(...chainRules(rule.expr.filter(isObject)));
  }
  return chains;
}

/** One rule, or several for one with a verdict map, whose entries exclude each other. */
function chainRules(expressions: Json[]): ChainRule[] {
  const rules: ChainRule[] = [];
  const conditions: ((packet: Packet) => Match)[] = [];
  let addressed = false;
  const rule = (target: Target, text: string, ...more: typeof conditions): ChainRule => {
    const all = [...conditions, ...more];
    return { matches: (packet) => both(all.map((one) => one(packet))), target, addressed, text };
  };
  for (const expression of expressions) {
    const target = targetOf(expression);
    if (target) return [...rules, rule(target, words(expression))];
    const { match, vmap } = expression;
    if (isObject(vmap)) {
      // What is not in the map goes on in this rule.
      rules.push(...mapRules(vmap, rule));
    } else if (isObject(match)) {
      addressed ||= isAddress(match.left);
      conditions.push((packet) => matchOf(match, packet));
    } else if (!PASSING.some((name) => name in expression)) {
      conditions.push(() => "maybe");
    }
  }
  return rules;
}

/** Expressions that neither match nor decide. */
const PASSING = ["counter", "log", "mangle", "notrack", "flow", "set", "comment"];

function mapRules(
  { key, data }: Json,
  rule: (target: Target, text: string, condition: (packet: Packet) => Match) => ChainRule,
): ChainRule[] {
  const set = isObject(data) ? data.set : undefined;
  // A named map.
  if (!Array.isArray(set)) return [rule({ kind: "unknown" }, "vmap", () => "maybe")];
  return set.flatMap((entry) => {
    const [right, verdict] = Array.isArray(entry) ? entry : [];
    const target = isObject(verdict) ? targetOf(verdict) : undefined;
    if (!target || !isObject(verdict)) return [];
    return [rule(target, words(verdict), (packet) => matchOf({ left: key, right }, packet))];
  });
}

function targetOf(expression: Json): Target | undefined {
  const { jump, goto, xt } = expression;
  if ("accept" in expression) return { kind: "accept" };
  if ("drop" in expression || "reject" in expression) return { kind: "drop" };
  if ("return" in expression || "continue" in expression) {
    return { kind: "return" in expression ? "return" : "next" };
  }
  if (isObject(jump)) return { kind: "jump", chain: String(jump.target) };
  if (isObject(goto)) return { kind: "goto", chain: String(goto.target) };
  if ("queue" in expression) return { kind: "unknown" };
  if (isObject(xt) && xt.type === "target") return { kind: "unknown" };
  return undefined;
}

function words(expression: Json): string {
  const { jump, goto } = expression;
  if (isObject(jump)) return `jump ${jump.target}`;
  if (isObject(goto)) return `goto ${goto.target}`;
  return Object.keys(expression)[0];
}

function isAddress(left: unknown): boolean {
  const payload = isObject(left) ? left.payload : undefined;
  return isObject(payload) && (payload.field === "saddr" || payload.field === "daddr");
}

function matchOf({ op, left, right }: Json, packet: Packet): Match {
  // Of a set of flags: `in` is any of them.
  const values = isObject(right) && Array.isArray(right.set)
    ? right.set
    : Array.isArray(right)
    ? right
    : [right];
  const match = any(values.map((value) => matchValue(left, value, packet)));
  if (op === "!=") return not(match);
  return op === "==" || op === "in" || op === undefined ? match : "maybe";
}

function matchValue(left: unknown, value: unknown, packet: Packet): Match {
  if (!isObject(left)) return "maybe";
  const { payload, meta, ct } = left;
  if (isObject(payload)) return matchPayload(payload, value, packet);
  if (isObject(meta)) return matchMeta(meta.key, value, packet);
  if (isObject(ct)) {
    if (ct.key === "state") return value === "new" ? "yes" : "no";
    if (ct.key === "status") return value === "dnat" || value === "snat" ? "no" : "maybe";
  }
  return "maybe";
}

function matchMeta(key: unknown, value: unknown, { from, to, src }: Packet): Match {
  const name = typeof value === "string" ? value : undefined;
  switch (key) {
    case "iifname":
    case "iif":
      return name === undefined ? "maybe" : matchDevice(from, name, "*");
    case "oifname":
    case "oif":
      return name === undefined ? "maybe" : matchDevice(to, name, "*");
    case "nfproto":
      return name === `ipv${src.family}` ? "yes" : "no";
    case "protocol":
      return name === (src.family === 4 ? "ip" : "ip6") ? "yes" : "no";
    case "l4proto":
      return matchProtocol(value);
    default:
      return "maybe";
  }
}

function matchProtocol(value: unknown): Match {
  return value === "tcp" || value === 6 ? "yes" : "no";
}

function matchPayload({ protocol, field }: Json, value: unknown, { src, dst }: Packet): Match {
  switch (protocol) {
    case "ip":
    case "ip6":
      if (src.family !== (protocol === "ip" ? 4 : 6)) return "no";
      if (field === "saddr") return matchCidr(src, value);
      if (field === "daddr") return matchCidr(dst, value);
      return field === "protocol" || field === "nexthdr" ? matchProtocol(value) : "maybe";
    case "tcp":
    case "th":
      return "maybe";
    case "udp":
    case "udplite":
    case "icmp":
    case "icmpv6":
    case "sctp":
    case "dccp":
    case "esp":
    case "ah":
    case "igmp":
      return "no";
    default:
      return "maybe";
  }
}

function matchCidr(addresses: Cidr, value: unknown): Match {
  const prefix = isObject(value) ? value.prefix : undefined;
  const text = isObject(prefix)
    ? `${prefix.addr}/${prefix.len}`
    : typeof value === "string"
    ? `${value}/${addresses.family === 4 ? 32 : 128}`
    : "";
  try {
    return matchAddress(addresses, Cidr.parse(text));
  } catch {
    // A range or a named set.
    return "maybe";
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
