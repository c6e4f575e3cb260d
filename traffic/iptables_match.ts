/**
 * Rules as `iptables-save` prints them, as {@linkcode ChainRule}s.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";
import { optionsOf, type RuleOption } from "./save_text.ts";
import {
  both,
  type ChainRule,
  type Match,
  matchAddress,
  matchDevice,
  not,
  type Packet,
  type Target,
} from "./verdict.ts";

/** Targets after which the next rule has its turn. */
const PASSING = new Set([
  ...["LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "MARK", "CONNMARK", "CONNSECMARK", "SECMARK"],
  ...["TCPMSS", "TCPOPTSTRIP", "DSCP", "TOS", "TTL", "HL", "ECN", "CLASSIFY", "SET", "CT", "TEE"],
  ...["NOTRACK", "CHECKSUM", "RATEEST", "LED", "IDLETIMER"],
]);

/** Options that say how a packet is dropped, or about a rule and not its packets. */
const NEUTRAL = new Set(["-m", "--comment", "--reject-with", "-j", "-g", "-c"]);

/**
 * One rule.
 *
 * @param rule its text without `-A CHAIN`
 * @param isChain whether a target is a chain of the table
 */
export function iptablesChainRule(rule: string, isChain: (name: string) => boolean): ChainRule {
  const options = optionsOf(rule);
  const jump = options.find(({ name }) => name === "-j" || name === "-g");
  const matches = options.filter(({ name }) => !NEUTRAL.has(name));
  const matchers = matches.map(matcher);
  return {
    matches: (packet) => both(matchers.map((matches) => matches(packet))),
    target: targetOf(jump, isChain),
    addressed: matches.some(({ name }) => name === "-s" || name === "-d"),
    text: rule,
  };
}

function targetOf(jump: RuleOption | undefined, isChain: (name: string) => boolean): Target {
  const name = jump?.values[0];
  if (jump === undefined || name === undefined) return { kind: "next" };
  if (isChain(name)) return { kind: jump.name === "-g" ? "goto" : "jump", chain: name };
  switch (name) {
    case "ACCEPT":
      return { kind: "accept" };
    case "DROP":
    case "REJECT":
    case "TARPIT":
      return { kind: "drop" };
    case "RETURN":
      return { kind: "return" };
    default:
      return { kind: PASSING.has(name) ? "next" : "unknown" };
  }
}

/** What says of a packet whether it has what an option asks for. */
type Matcher = (packet: Packet) => Match;

function matcher({ name, negated, values }: RuleOption): Matcher {
  const positive = positiveMatcher(name, values[0] ?? "");
  return negated ? (packet) => not(positive(packet)) : positive;
}

function positiveMatcher(name: string, value: string): Matcher {
  switch (name) {
    case "-s":
    case "-d": {
      const subnet = parseSubnet(value);
      if (subnet === undefined) return () => "maybe";
      return ({ src, dst }) => matchAddress(name === "-s" ? src : dst, subnet);
    }
    case "-i":
      return ({ from }) => matchDevice(from, value, "+");
    case "-o":
      return ({ to }) => matchDevice(to, value, "+");
    case "-p": {
      const match = value === "tcp" || value === "6" || value === "all" ? "yes" : "no";
      return () => match;
    }
    case "--ctstate":
    case "--state": {
      const match = value.split(",").includes("NEW") ? "yes" : "no";
      return () => match;
    }
    default:
      return () => "maybe";
  }
}

/** Undefined for a mask that is no prefix. */
function parseSubnet(value: string): Cidr | undefined {
  try {
    const length = value.includes(":") ? 128 : 32;
    return Cidr.parse(value.includes("/") ? value : `${value}/${length}`);
  } catch {
    return undefined;
  }
}
