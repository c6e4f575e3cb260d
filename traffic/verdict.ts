/**
 * What a chain of some packet filter does to the overlay's packets, worked out without sending one.
 *
 * Not everything that rules match on can be known here (marks, sets, ports), so that a rule matches
 * a packet for certain, not at all, or perhaps. The answer is what may become of the packet: where
 * nothing but a drop is among it, the packet is lost for certain.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";
import type { FamilySubnets } from "./rules.ts";

/** Whether a rule matches a packet. */
export type Match = "yes" | "no" | "maybe";

/** What a rule does with a packet that it matches. */
export type Target =
  | { kind: "accept" | "drop" | "return" | "next" | "unknown" }
  | { kind: "jump" | "goto"; chain: string };

/** One rule of any packet filter. */
export interface ChainRule {
  matches(packet: Packet): Match;
  target: Target;
  /** It matches on addresses: whoever wrote it meant these packets. */
  addressed: boolean;
  /** As its tool prints it, for messages. */
  text: string;
}

/** Where a forwarded packet comes in or goes out; undefined where that is not known. */
export interface Device {
  /** The containers' bridge. */
  bridge: string;
  /** The packet passes the bridge, or some other device. */
  isBridge: boolean;
}

/** The first packet of a TCP connection between containers of two nodes. */
export interface Packet {
  /** All the addresses that its source may have. */
  src: Cidr;
  dst: Cidr;
  from: Device | undefined;
  to: Device | undefined;
}

/**
 * The packets that a node forwards: those of its containers and those for them.
 *
 * @param bridge the containers' bridge, where it is there already
 */
export function overlayPackets({ network, subnet }: FamilySubnets, bridge?: string): Packet[] {
  const all = Cidr.parse(network);
  const ours = Cidr.parse(subnet);
  const inside = bridge === undefined ? undefined : { bridge, isBridge: true };
  const outside = bridge === undefined ? undefined : { bridge, isBridge: false };
  return [
    { src: ours, dst: all, from: inside, to: outside },
    { src: all, dst: ours, from: outside, to: inside },
  ];
}

/** Whether an address among `addresses` lies in `subnet`. */
export function matchAddress(addresses: Cidr, subnet: Cidr): Match {
  if (addresses.family !== subnet.family) return "no";
  if (subnet.base <= addresses.base && addresses.last <= subnet.last) return "yes";
  return subnet.last < addresses.base || addresses.last < subnet.base ? "no" : "maybe";
}

/** Whether `device` has a name like `pattern`, whose last character `wildcard` stands for any end. */
export function matchDevice(
  device: Device | undefined,
  pattern: string,
  wildcard: "+" | "*",
): Match {
  const open = pattern.endsWith(wildcard);
  const start = open ? pattern.slice(0, -1) : pattern;
  if (start === "") return "yes";
  if (pattern === "lo") return "no";
  if (device === undefined) return "maybe";
  const fits = open ? device.bridge.startsWith(start) : device.bridge === start;
  if (device.isBridge) return fits ? "yes" : "no";
  return fits && !open ? "no" : "maybe";
}

export function not(match: Match): Match {
  return match === "yes" ? "no" : match === "no" ? "yes" : "maybe";
}

/** All of `matches` together. */
export function both(matches: Iterable<Match>): Match {
  let all: Match = "yes";
  for (const match of matches) {
    if (match === "no") return "no";
    if (match === "maybe") all = "maybe";
  }
  return all;
}

/** Any of `matches`. */
export function any(matches: Match[]): Match {
  return not(both(matches.map(not)));
}

/** The rules of chains by name. */
export interface Chains {
  get(name: string): readonly ChainRule[] | undefined;
}

/** A chain that the kernel calls by itself for forwarded packets. */
export interface BaseChain {
  name: string;
  policy: "accept" | "drop";
}

/** What becomes of a packet in a base chain. */
export interface Verdict {
  /** Nothing but a drop is possible. */
  lost: boolean;
  /** What drops it: a rule of the base chain as its tool prints it; undefined for the policy. */
  culprit?: string;
  /**
   * Index of the base chain's first rule that lets no packet go on, drops some, and was not written
   * for the overlay's addresses: rules after it are in vain.
   */
  end?: number;
}

// What may become of a packet, as bits.
const ACCEPTED = 1;
const DROPPED = 2;
/** It goes on with the next rule. */
const ON = 4;
/** It goes on in the chain that jumped here. */
const RETURNED = 8;
/** With DROPPED: by a rule for its addresses. */
const MEANT = 16;

const ANYTHING = ACCEPTED | DROPPED | ON;

/** What `base`, with `rules` and the chains that they jump to, does to `packet`. */
export function judge(
  chains: Chains,
  base: BaseChain,
  packet: Packet,
): Verdict {
  const walk = new Walk(chains, packet);
  const verdict: Verdict = { lost: false };
  let outcome = 0;
  let goesOn = true;
  for (const [index, rule] of (chains.get(base.name) ?? []).entries()) {
    const bits = walk.rule(rule);
    outcome |= bits & ~ON;
    if (bits & DROPPED && !(bits & ON)) {
      verdict.culprit = rule.text;
      if (!(bits & MEANT)) verdict.end = index;
    }
    goesOn = (bits & ON) !== 0;
    if (!goesOn) break;
  }
  if (goesOn || outcome & RETURNED) {
    outcome |= base.policy === "accept" ? ACCEPTED : DROPPED;
  }
  verdict.lost = (outcome & (ACCEPTED | DROPPED)) === DROPPED;
  return verdict;
}

/** One packet's way through the chains. */
class Walk {
  readonly #chains: Chains;
  readonly #packet: Packet;
  /** Chains that were walked or, with all that is possible, are just being walked. */
  readonly #known = new Map<string, number>();

  constructor(chains: Chains, packet: Packet) {
    this.#chains = chains;
    this.#packet = packet;
  }

  rule(rule: ChainRule): number {
    const match = rule.matches(this.#packet);
    if (match === "no") return ON;
    let bits = this.#target(rule.target);
    if (rule.addressed && bits & DROPPED) bits |= MEANT;
    return match === "yes" ? bits : bits | ON;
  }

  #target(target: Target): number {
    switch (target.kind) {
      case "accept":
        return ACCEPTED;
      case "drop":
        return DROPPED;
      case "return":
        return RETURNED;
      case "next":
        return ON;
      case "unknown":
        return ANYTHING;
      case "jump":
        return this.#chain(target.chain);
      case "goto": {
        const bits = this.#chain(target.chain);
        return bits & ON ? (bits & ~ON) | RETURNED : bits;
      }
    }
  }

  /** ON where a packet may come back from the chain. */
  #chain(name: string): number {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    this.#known.set(name, ANYTHING);
    let all = 0;
    let goesOn = true;
    for (const rule of this.#chains.get(name) ?? []) {
      const bits = this.rule(rule);
      all |= bits & ~ON;
      goesOn = (bits & ON) !== 0;
      if (!goesOn) break;
    }
    if (goesOn || all & RETURNED) all = (all & ~RETURNED) | ON;
    this.#known.set(name, all);
    return all;
  }
}
