/**
 * What the agent tells of its peers: `flanneld peers` and the status socket.
 *
 * @module
 */
import type { Skipped } from "../backends/types.ts";
import type { Traffic, TunnelCounters, TunnelPeerCounters } from "../dataplane/state.ts";
import type { Lease } from "../subnet/types.ts";

/** As `flanneld peers --json` prints it. The shape is stable: fields may be added, none go. */
export interface PeersReport {
  /** `vxlan`, `udp`, … */
  backend: string;
  /** This node's lease. */
  node: PeerAddresses;
  /** Every other valid lease, by address. */
  peers: PeerEntry[];
  /** What the udp backend's tunnel carried since it started; null where none runs. */
  tunnel: TunnelTotals | null;
}

/** Whose lease, of what. */
export interface PeerAddresses {
  /** `10.1.34.0/24`; null on an IPv6-only node. */
  subnet: string | null;
  ipv6Subnet: string | null;
  publicIP: string | null;
  publicIPv6: string | null;
}

/** One peer. The counters are null where the backend counts none, or has not this peer. */
export interface PeerEntry extends PeerAddresses {
  /** Why no packets are carried to it; null where they are. */
  skipped: string | null;
  /** Inner packets sent to it, and their bytes, IP headers included. */
  sent: Traffic | null;
  received: Traffic | null;
  /** Packets that came from it and were dropped. */
  dropped: number | null;
}

/** {@linkcode TunnelCounters} without the peers. */
export type TunnelTotals = Omit<TunnelCounters, "peers">;

/** What the agent carries. */
export interface Carried {
  backend: string;
  lease: Lease;
  peers: ReadonlyMap<string, Lease>;
  skipped: readonly Skipped[];
}

/** The report of what is carried, with the tunnel's counters where there is one. */
export function peersReport(
  { backend, lease, peers, skipped }: Carried,
  counters: TunnelCounters | undefined,
): PeersReport {
  const reasons = new Map(skipped.map(({ key, reason }) => [key, reason]));
  const counted = countersByAddress(counters?.peers);
  const entry = (peer: Lease): PeerEntry => {
    const { publicIP, publicIPv6 } = peer.attrs;
    const own = reasons.has(peer.key)
      ? undefined
      : counted.get(publicIP ?? "") ?? counted.get(publicIPv6 ?? "");
    return {
      ...addressesOf(peer),
      skipped: reasons.get(peer.key) ?? null,
      sent: own?.sent ?? null,
      received: own?.received ?? null,
      dropped: own?.dropped ?? null,
    };
  };
  const { peers: _, ...totals } = counters ?? { peers: null };
  return {
    backend,
    node: addressesOf(lease),
    peers: [...peers.values()].sort(byAddress).map(entry),
    tunnel: counters === undefined ? null : totals as TunnelTotals,
  };
}

/** A peer's counters by its public address. */
function countersByAddress(peers: TunnelPeerCounters | undefined) {
  return new Map(
    peers?.endpoint.map((endpoint, at) => [endpoint, {
      sent: { packets: peers.sentPackets[at], bytes: peers.sentBytes[at] },
      received: { packets: peers.receivedPackets[at], bytes: peers.receivedBytes[at] },
      dropped: peers.dropped[at],
    }]),
  );
}

function addressesOf({ subnet, ipv6Subnet, attrs }: Lease): PeerAddresses {
  return {
    subnet: subnet?.toString() ?? null,
    ipv6Subnet: ipv6Subnet?.toString() ?? null,
    publicIP: attrs.publicIP,
    publicIPv6: attrs.publicIPv6,
  };
}

function byAddress(a: Lease, b: Lease): number {
  const base = ({ subnet, ipv6Subnet }: Lease) => subnet?.base ?? ipv6Subnet?.base ?? 0n;
  return Number(base(a) > base(b)) - Number(base(a) < base(b));
}
