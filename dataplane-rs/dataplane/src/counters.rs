//! The tunnel's counters as `TunnelCounters` of `dataplane/state.ts`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use tunnel::{PeerCounters, Traffic};

/// Packets and bytes of one direction.
#[derive(Serialize)]
struct Total {
    packets: u64,
    bytes: u64,
}

impl From<Traffic> for Total {
    fn from(Traffic { packets, bytes }: Traffic) -> Self {
        Self { packets, bytes }
    }
}

/// A list a value rather than an object a peer: each look at the metrics of thousands of peers leaves
/// what it read to the garbage collector.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Peers {
    endpoint: Vec<IpAddr>,
    sent_packets: Vec<u64>,
    sent_bytes: Vec<u64>,
    received_packets: Vec<u64>,
    received_bytes: Vec<u64>,
    dropped: Vec<u64>,
}

impl FromIterator<PeerCounters> for Peers {
    fn from_iter<T: IntoIterator<Item = PeerCounters>>(counters: T) -> Self {
        let mut peers = Self::default();
        for peer in counters {
            peers.endpoint.push(peer.endpoint.ip());
            peers.sent_packets.push(peer.sent.packets);
            peers.sent_bytes.push(peer.sent.bytes);
            peers.received_packets.push(peer.received.packets);
            peers.received_bytes.push(peer.received.bytes);
            peers.dropped.push(peer.dropped);
        }
        peers
    }
}

/// See the module.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    sent: Total,
    received: Total,
    drops: BTreeMap<&'static str, u64>,
    icmp_sent: u64,
    peers: Peers,
}

impl From<tunnel::Counters> for Counters {
    fn from(counters: tunnel::Counters) -> Self {
        Self {
            sent: counters.sent.into(),
            received: counters.received.into(),
            drops: counters
                .drops
                .into_iter()
                .map(|(reason, count)| (reason.label(), count))
                .collect(),
            icmp_sent: counters.icmp_sent,
            peers: counters.peers.into_iter().collect(),
        }
    }
}
