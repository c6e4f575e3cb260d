//! The tunnel's counters as `TunnelCounters` of `dataplane/state.ts`.

use std::collections::BTreeMap;

use serde::Serialize;
use tunnel::Traffic;

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

#[derive(Serialize)]
struct PeerCounters {
    endpoint: String,
    sent: Total,
    received: Total,
    dropped: u64,
}

/// See the module.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    sent: Total,
    received: Total,
    drops: BTreeMap<&'static str, u64>,
    icmp_sent: u64,
    peers: Vec<PeerCounters>,
}

impl From<tunnel::Counters> for Counters {
    fn from(counters: tunnel::Counters) -> Self {
        let peer = |peer: tunnel::PeerCounters| PeerCounters {
            endpoint: peer.endpoint.ip().to_string(),
            sent: peer.sent.into(),
            received: peer.received.into(),
            dropped: peer.dropped,
        };
        Self {
            sent: counters.sent.into(),
            received: counters.received.into(),
            drops: counters
                .drops
                .into_iter()
                .map(|(reason, count)| (reason.label(), count))
                .collect(),
            icmp_sent: counters.icmp_sent,
            peers: counters.peers.into_iter().map(peer).collect(),
        }
    }
}
