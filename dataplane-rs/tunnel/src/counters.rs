//! Counters: each worker writes its own cache lines with plain loads and stores, readers add them up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a packet or a datagram went no further.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason as a metric's label.
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

drop_reasons! {
    /// From an address and port that is no peer's.
    UnknownSender = "unknown_sender",
    /// From a peer, with an inner source that does not lie in that peer's subnets.
    SpoofedSource = "spoofed_source",
    /// From a peer, with an inner destination that does not lie in ours.
    WrongDestination = "wrong_destination",
    /// Less than an IP header, or cut by the receive buffer.
    Truncated = "truncated",
    /// Neither IPv4 nor IPv6.
    BadVersion = "bad_version",
    /// The header's length is not the packet's.
    BadLength = "bad_length",
    /// The offload header of the TUN device does not fit the packet.
    BadOffload = "bad_offload",
    /// No hop left.
    TtlExpired = "ttl_expired",
    /// To a multicast group or the limited broadcast address.
    Multicast = "multicast",
    /// From or to the broadcast address of a leased subnet.
    DirectedBroadcast = "directed_broadcast",
    /// The path marked congestion (ECN) on a packet whose flow cannot be told of it by a mark (RFC 6040).
    CongestionMark = "congestion_mark",
    /// No peer's subnet holds the destination.
    NoRoute = "no_route",
    /// Over the tunnel's MTU and not to be fragmented.
    TooBig = "too_big",
    /// The peer's endpoint is of a family that the tunnel has no socket for.
    NoSocket = "no_socket",
    /// The TUN device refused the packet.
    TunWriteError = "tun_write_error",
    /// The socket refused the datagram.
    SocketError = "socket_error",
    /// The socket's send buffer stayed full.
    WouldBlock = "would_block",
}

/// Totals of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Inner packets.
    pub packets: u64,
    /// Bytes of inner packets, their IP headers included.
    pub bytes: u64,
}

/// What one peer sent and got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCounters {
    /// The peer's address and port.
    pub endpoint: SocketAddr,
    /// Sent to the peer.
    pub sent: Traffic,
    /// Accepted from the peer.
    pub received: Traffic,
    /// Came from the peer and were dropped.
    pub dropped: u64,
}

/// A reading of all counters since the tunnel's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// From the TUN device to peers.
    pub sent: Traffic,
    /// From peers to the TUN device.
    pub received: Traffic,
    /// Packets dropped, for each of [`DropReason::ALL`].
    pub drops: Vec<(DropReason, u64)>,
    /// Messages given to the socket; one may hold many datagrams (UDP_SEGMENT).
    pub socket_sends: u64,
    /// Messages taken from the socket; one may hold many datagrams (UDP_GRO).
    pub socket_receives: u64,
    /// Packets read from the TUN device; one may hold many segments.
    pub tun_reads: u64,
    /// Packets written to the TUN device; one may hold many segments.
    pub tun_writes: u64,
    /// ICMP errors sent.
    pub icmp_sent: u64,
    /// For each peer of the current table.
    pub peers: Vec<PeerCounters>,
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call it: a load and a store cost no locked instruction.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// The value, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's totals.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    pub(crate) sent_packets: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_packets: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) socket_sends: Counter,
    pub(crate) socket_receives: Counter,
    pub(crate) tun_reads: Counter,
    pub(crate) tun_writes: Counter,
    pub(crate) icmp_sent: Counter,
    drops: [Counter; DropReason::ALL.len()],
}

impl WorkerCounters {
    /// Counts `n` drops.
    #[inline]
    pub(crate) fn drop(&self, reason: DropReason, n: u64) {
        self.drops[reason as usize].add(n);
    }
}

/// One worker's share of a peer's counters, a cache line of its own.
#[derive(Debug, Default)]
pub struct PeerCell {
    pub(crate) sent_packets: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_packets: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) dropped: Counter,
}

/// A peer's counters, one cell a worker. They outlive the table they were made for, as long as the peer's
/// endpoint stays.
#[derive(Debug)]
pub struct PeerStats(Box<[CachePadded<PeerCell>]>);

impl PeerStats {
    /// Zeroed cells for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::default()).collect())
    }

    /// The cell of one worker.
    #[inline]
    pub(crate) fn cell(&self, worker: usize) -> &PeerCell {
        &self.0[worker]
    }

    /// The sum of all cells.
    pub(crate) fn read(&self, endpoint: SocketAddr) -> PeerCounters {
        let sum =
            |field: fn(&PeerCell) -> &Counter| self.0.iter().map(|cell| field(cell).get()).sum();
        PeerCounters {
            endpoint,
            sent: Traffic {
                packets: sum(|c| &c.sent_packets),
                bytes: sum(|c| &c.sent_bytes),
            },
            received: Traffic {
                packets: sum(|c| &c.received_packets),
                bytes: sum(|c| &c.received_bytes),
            },
            dropped: sum(|c| &c.dropped),
        }
    }
}

/// Adds up the workers' counters.
pub(crate) fn total(workers: &[CachePadded<WorkerCounters>], peers: Vec<PeerCounters>) -> Counters {
    let sum = |field: fn(&WorkerCounters) -> &Counter| workers.iter().map(|w| field(w).get()).sum();
    Counters {
        sent: Traffic {
            packets: sum(|w| &w.sent_packets),
            bytes: sum(|w| &w.sent_bytes),
        },
        received: Traffic {
            packets: sum(|w| &w.received_packets),
            bytes: sum(|w| &w.received_bytes),
        },
        drops: DropReason::ALL
            .iter()
            .map(|&reason| {
                (
                    reason,
                    workers.iter().map(|w| w.drops[reason as usize].get()).sum(),
                )
            })
            .collect(),
        socket_sends: sum(|w| &w.socket_sends),
        socket_receives: sum(|w| &w.socket_receives),
        tun_reads: sum(|w| &w.tun_reads),
        tun_writes: sum(|w| &w.tun_writes),
        icmp_sent: sum(|w| &w.icmp_sent),
        peers,
    }
}
