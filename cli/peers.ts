/**
 * `flanneld peers`: the other nodes as the agent on this one sees them, and what it carried.
 *
 * @module
 */
import type { PeerEntry, PeersReport, TunnelTotals } from "../agent/peers_report.ts";
import { lockFolders } from "../agent/lock.ts";
import { askStation } from "../dataplane/station.ts";
import type { Settings } from "./parse.ts";
import { libraryPath } from "./paths.ts";
import { parseReply } from "./peers_reply.ts";
import { table } from "./table.ts";

const NUMBERS = new Set(["SENT", "SENT BYTES", "RECEIVED", "RECEIVED BYTES", "DROPPED"]);

/** The report for the eye: a row a peer, then the totals of the udp backend. */
export function peersText({ peers, tunnel }: PeersReport): string {
  const counted = tunnel !== null;
  const columns: [string, boolean, (peer: PeerEntry) => string | undefined | null][] = [
    ["SUBNET", true, (peer) => peer.subnet],
    ["IPV6 SUBNET", peers.some((peer) => peer.ipv6Subnet), (peer) => peer.ipv6Subnet],
    ["PUBLIC IP", true, (peer) => peer.publicIP],
    ["PUBLIC IPV6", peers.some((peer) => peer.publicIPv6), (peer) => peer.publicIPv6],
    ["SENT", counted, (peer) => peer.sent?.packets.toString()],
    ["SENT BYTES", counted, (peer) => peer.sent?.bytes.toString()],
    ["RECEIVED", counted, (peer) => peer.received?.packets.toString()],
    ["RECEIVED BYTES", counted, (peer) => peer.received?.bytes.toString()],
    ["DROPPED", counted, (peer) => peer.dropped?.toString()],
    [
      "",
      peers.some((peer) => peer.skipped !== null),
      (peer) => peer.skipped === null ? "" : `skipped: ${peer.skipped}`,
    ],
  ];
  const shown = columns.filter(([, isShown]) => isShown);
  const rows = peers.map((peer) => shown.map(([, , text]) => text(peer) ?? "-"));
  const lines = [table([shown.map(([title]) => title), ...rows], NUMBERS)];
  return (tunnel === null ? lines : [...lines, "", ...totals(tunnel)]).join("\n");
}

function totals({ sent, received, drops, icmpSent }: TunnelTotals): string[] {
  const reasons = Object.entries(drops).filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a);
  const dropped = reasons.reduce((sum, [, count]) => sum + count, 0);
  const detail = reasons.map(([reason, count]) => `${reason} ${count}`).join(", ");
  return [
    `sent      ${sent.packets} packets, ${sent.bytes} bytes`,
    `received  ${received.packets} packets, ${received.bytes} bytes`,
    `dropped   ${dropped} packets${detail && `: ${detail}`}`,
    `answered  ${icmpSent} packets by an ICMP error`,
  ];
}

/**
 * Runs the command. Returns the exit status.
 *
 * @throws Error of one line where no agent answers
 */
export async function peers({ values }: Settings, json: boolean): Promise<number> {
  const report = await ask(values["subnet-file"]);
  console.log(json ? JSON.stringify(report, null, 2) : peersText(report));
  return 0;
}

/** Asks the agent of this network namespace. @throws Error of one line where none runs, is ready or answers */
async function ask(subnetFile: string): Promise<PeersReport> {
  let text: string | null;
  try {
    text = await askStation(libraryPath(), lockFolders(subnetFile));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot ask flanneld for its peers: ${reason}`, { cause: error });
  }
  if (text === null) {
    throw new Error("no flanneld runs on this node (in this network namespace)");
  }
  const report = parseReply(text);
  if (report === "notReady") {
    throw new Error(
      "flanneld is not ready on this node yet: see its log for the reason",
    );
  }
  return report;
}
