/**
 * Which packets of the overlay are let through and which are masqueraded, as plain values; how they
 * are written down is up to `iptables.ts` and `nftables.ts`.
 *
 * @module
 */

/** Address family. */
export type Family = "ipv4" | "ipv6";

export const FAMILIES: readonly Family[] = ["ipv4", "ipv6"];

/** nft's name of a family, also that of its header in expressions. */
export const NFT_FAMILY: Record<Family, string> = { ipv4: "ip", ipv6: "ip6" };

/** A subnet to match: `cidr`, or all addresses but those in it. */
export interface Net {
  cidr: string;
  not?: true;
}

/** One rule; what is absent matches everything. */
export interface Rule {
  src?: Net;
  dst?: Net;
  /** Packet mark under a mask: all bits of it set. */
  markBits?: number;
  action: "accept" | "return" | "masquerade";
}

/** The rules of one family, in order. */
export interface FamilyRules {
  /** What they are made for. */
  subnets: FamilySubnets;
  /** For forwarded packets; null where forward rules are off. */
  forward: Rule[] | null;
  /** For packets about to leave the node; null where masquerading is off. */
  masquerade: Rule[] | null;
}

/** Everything that {@linkcode TrafficRules} keeps in place. */
export interface RuleSet {
  /** Null where the network has no such family. */
  ipv4: FamilyRules | null;
  ipv6: FamilyRules | null;
  /** Masquerade to source ports picked at random, where host and kernel know how. */
  randomFully: boolean;
}

/** Subnets of one family, canonical `BASE/LENGTH`. */
export interface FamilySubnets {
  /** The whole overlay. */
  network: string;
  /** This node's part of it. */
  subnet: string;
}

/** What the rules are made from. */
export interface RuleInput {
  ipv4: FamilySubnets | null;
  ipv6: FamilySubnets | null;
  ipMasq: boolean;
  randomFully: boolean;
  forwardRules: boolean;
}

/** The bit by which kube-proxy marks packets that it masquerades itself. */
export const KUBE_PROXY_MARK = 0x4000;

const MULTICAST: Record<Family, string> = { ipv4: "224.0.0.0/4", ipv6: "ff00::/8" };

/** The rules for a node that owns the given subnets. */
export function trafficRules(input: RuleInput): RuleSet {
  const of = (family: Family): FamilyRules | null => {
    const subnets = input[family];
    return subnets && {
      subnets,
      forward: input.forwardRules ? forwardRules(subnets) : null,
      masquerade: input.ipMasq ? masqueradeRules(subnets, family) : null,
    };
  };
  return { ipv4: of("ipv4"), ipv6: of("ipv6"), randomFully: input.randomFully };
}

function forwardRules({ network }: FamilySubnets): Rule[] {
  return [
    { src: { cidr: network }, action: "accept" },
    { dst: { cidr: network }, action: "accept" },
  ];
}

function masqueradeRules({ network, subnet }: FamilySubnets, family: Family): Rule[] {
  const net: Net = { cidr: network };
  const notNet: Net = { cidr: network, not: true };
  const ours: Net = { cidr: subnet };
  return [
    // Masquerading twice breaks connections on some kernels: kube-proxy's packets are left to it.
    { markBits: KUBE_PROXY_MARK, action: "return" },
    // Inside the overlay both ends see each other's own address.
    { src: ours, dst: net, action: "return" },
    { src: net, dst: ours, action: "return" },
    // So do our containers that are reached from outside by way of this node.
    { src: notNet, dst: ours, action: "return" },
    // Out of the overlay, and from this node or what it forwards into it.
    { src: net, dst: { cidr: MULTICAST[family], not: true }, action: "masquerade" },
    { src: notNet, dst: net, action: "masquerade" },
  ];
}
