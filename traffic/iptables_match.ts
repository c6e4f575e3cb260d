/**
 * Rules as `iptables-save` prints them, as {@linkcode ChainRule}s.
 *
 * @module
 */
import { Cidr } from "../subnet/cidr.ts";
import { optionsOf, type RuleOption } from "./save.ts";
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
  return {
    matches: (packet) => both(matches.map((option) => matchOption(option, packet))),
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

function matchOption({ name, negated, values }: RuleOption, packet: Packet): Match {
  const match = matchPositive(name, values[0] ?? "", packet);
  return negated ? not(match) : match;
}

function matchPositive(name: string, value: string, packet: Packet): Match {
  switch (name) {
    case "-s":
      return matchCidr(packet.src, value);
    case "-d":
      return matchCidr(packet.dst, value);
    case "-i":
      return matchDevice(packet.from, value, "+");
    case "-o":
      return matchDevice(packet.to, value, "+");
    case "-p":
      return value === "tcp" || value === "6" || value === "all" ? "yes" : "no";
    case "--ctstate":
    case "--state":
      return any(value.split(",").map((state) => state === "NEW" ? "yes" : "no"));
    default:
      return "maybe";
  }
}

function matchCidr(addresses: Cidr, value: string): Match {
  try {
    const length = addresses.family === 4 ? 32 : 128;
    return matchAddress(addresses, Cidr.parse(value.includes("/") ? value : `${value}/${length}`));
  } catch {
    // A mask that is no prefix.
    return "maybe";
  }
}
