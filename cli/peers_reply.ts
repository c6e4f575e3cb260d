/**
 * What an agent answers `flanneld peers`, taken apart: it may be of another version, and whatever
 * listens in its place may send anything.
 *
 * @module
 */
import type { PeerEntry, PeersReport, TunnelTotals } from "../agent/peers_report.ts";
import type { Traffic } from "../dataplane/state.ts";
import { Cidr, tryParseIp } from "../base/cidr.ts";
import { printable } from "../base/printable.ts";

/** More peers than a network can have that keeps up. */
const MOST_PEERS = 1 << 16;
/** More kinds of drops than there are. */
const MOST_REASONS = 256;
/** Characters of a text that is shown. */
const LONGEST_TEXT = 1_000;

type Members = Record<string, unknown>;

/**
 * Takes a reply apart; fields that this version does not know are left out.
 *
 * @returns `notReady` where the agent has no lease yet
 * @throws Error of one line where it is no report
 */
export function parseReply(text: string): PeersReport | "notReady" {
  let reply: unknown;
  try {
    reply = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof SyntaxError ? printable(error.message) : String(error);
    throw new Error(`flanneld's answer is not JSON: ${reason.slice(0, LONGEST_TEXT)}`);
  }
  try {
    const members = membersOf(reply, "");
    return members.notReady === true ? "notReady" : reportOf(members);
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    throw new Error(
      `flanneld's answer is not a list of peers: ${error.message}; is it of another version?`,
    );
  }
}

/** What is wrong with which part of a reply. */
class ReplyError extends Error {}

function reportOf({ backend, node, peers, tunnel }: Members): PeersReport {
  if (!Array.isArray(peers) || peers.length > MOST_PEERS) {
    throw new ReplyError(`peers is not an array of ${MOST_PEERS} at most`);
  }
  return {
    backend: textOf(backend, "backend"),
    node: addressesOf(membersOf(node, "node"), "node"),
    peers: peers.map((peer, index) => peerOf(peer, `peers[${index}]`)),
    tunnel: tunnel === null ? null : tunnelOf(membersOf(tunnel, "tunnel")),
  };
}

function addressesOf(members: Members, where: string): PeersReport["node"] {
  const read = (name: keyof PeersReport["node"], isValid: (text: string) => boolean) => {
    const value = members[name];
    if (value === null) return null;
    if (typeof value === "string" && isValid(value)) return value;
    throw new ReplyError(`${where}.${name} is not an address, nor null`);
  };
  const isIp = (text: string) => tryParseIp(text) !== undefined;
  return {
    subnet: read("subnet", isCidr),
    ipv6Subnet: read("ipv6Subnet", isCidr),
    publicIP: read("publicIP", isIp),
    publicIPv6: read("publicIPv6", isIp),
  };
}

function isCidr(text: string): boolean {
  try {
    Cidr.parse(text);
    return true;
  } catch {
    return false;
  }
}

function peerOf(value: unknown, where: string): PeerEntry {
  const members = membersOf(value, where);
  const orNull = <T>(name: string, read: (value: unknown, where: string) => T) =>
    members[name] === null ? null : read(members[name], `${where}.${name}`);
  return {
    ...addressesOf(members, where),
    skipped: orNull("skipped", textOf),
    sent: orNull("sent", trafficOf),
    received: orNull("received", trafficOf),
    dropped: orNull("dropped", countOf),
  };
}

function tunnelOf({ sent, received, drops, icmpSent }: Members): TunnelTotals {
  const reasons = Object.entries(membersOf(drops, "tunnel.drops"));
  if (reasons.length > MOST_REASONS) throw new ReplyError("tunnel.drops has too many members");
  return {
    sent: trafficOf(sent, "tunnel.sent"),
    received: trafficOf(received, "tunnel.received"),
    drops: Object.fromEntries(
      reasons.map(([reason, count]) => [
        textOf(reason, "tunnel.drops"),
        countOf(count, "tunnel.drops"),
      ]),
    ),
    icmpSent: countOf(icmpSent, "tunnel.icmpSent"),
  };
}

function membersOf(value: unknown, where: string): Members {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Members;
  }
  throw new ReplyError(`${where || "it"} is not an object`);
}

function textOf(value: unknown, where: string): string {
  if (typeof value !== "string") throw new ReplyError(`${where} is not a text`);
  return printable(value.slice(0, LONGEST_TEXT));
}

function trafficOf(value: unknown, where: string): Traffic {
  const { packets, bytes } = membersOf(value, where);
  return {
    packets: countOf(packets, `${where}.packets`),
    bytes: countOf(bytes, `${where}.bytes`),
  };
}

function countOf(value: unknown, where: string): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
  throw new ReplyError(`${where} is not a count`);
}
