/**
 * `flanneld peers`: the other nodes as the agent on this one sees them, and what it carried.
 *
 * @module
 */
import type { PeerEntry, PeersReport, TunnelTotals } from "../agent/peers_report.ts";
import { askStatus } from "../agent/status_socket.ts";
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
      (peer) => peer.skipped === null ? "" : `left out: ${peer.skipped}`,
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
export async function peers(json: boolean): Promise<number> {
  const report = await askStatus();
  console.log(json ? JSON.stringify(report, null, 2) : peersText(report));
  return 0;
}
