import assert from "node:assert/strict";
import type { PeerEntry, PeersReport } from "../agent/peers_report.ts";
import { peersText } from "./peers.ts";

function peer(more: Partial<PeerEntry>): PeerEntry {
  return {
    subnet: null,
    ipv6Subnet: null,
    publicIP: null,
    publicIPv6: null,
    skipped: null,
    sent: null,
    received: null,
    dropped: null,
    ...more,
  };
}

const NODE = { subnet: "10.1.2.0/24", ipv6Subnet: null, publicIP: "192.0.2.1", publicIPv6: null };

Deno.test("peers of a backend that counts nothing", () => {
  const report: PeersReport = {
    backend: "vxlan",
    node: NODE,
    peers: [
      peer({ subnet: "10.1.3.0/24", publicIP: "192.0.2.2" }),
      peer({ subnet: "10.1.40.0/24", publicIP: "192.0.2.3", skipped: "its backend is udp" }),
    ],
    tunnel: null,
  };
  assert.equal(
    peersText(report),
    `SUBNET        PUBLIC IP
10.1.3.0/24   192.0.2.2
10.1.40.0/24  192.0.2.3  skipped: its backend is udp`,
  );
  assert.equal(peersText({ ...report, peers: [] }), "SUBNET  PUBLIC IP");
});

Deno.test("peers of udp have counters, and totals below", () => {
  const report: PeersReport = {
    backend: "udp",
    node: NODE,
    peers: [
      peer({
        subnet: "10.1.3.0/24",
        ipv6Subnet: "fd00:1::/64",
        publicIP: "192.0.2.2",
        publicIPv6: "2001:db8::2",
        sent: { packets: 1, bytes: 84 },
        received: { packets: 1200, bytes: 1_766_400 },
        dropped: 3,
      }),
      peer({ subnet: "10.1.4.0/24", publicIP: "192.0.2.3", skipped: "its backend is vxlan" }),
    ],
    tunnel: {
      sent: { packets: 1, bytes: 84 },
      received: { packets: 1200, bytes: 1_766_400 },
      drops: { truncated: 0, bad_length: 1, spoofed_source: 2 },
      icmpSent: 0,
    },
  };
  assert.equal(
    peersText(report),
    [
      "SUBNET       IPV6 SUBNET  PUBLIC IP  PUBLIC IPV6  SENT  SENT BYTES  RECEIVED  " +
      "RECEIVED BYTES  DROPPED",
      "10.1.3.0/24  fd00:1::/64  192.0.2.2  2001:db8::2     1          84      1200  " +
      "       1766400        3",
      "10.1.4.0/24  -            192.0.2.3  -               -           -         -  " +
      "             -        -  skipped: its backend is vxlan",
      "",
      "sent      1 packets, 84 bytes",
      "received  1200 packets, 1766400 bytes",
      "dropped   3 packets: spoofed_source 2, bad_length 1",
      "answered  0 packets by an ICMP error",
    ].join("\n"),
  );
});
