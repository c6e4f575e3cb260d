//! The peer table: subnets to endpoints by longest prefix, endpoints to peers, built whole and swapped in.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use socket2::SockAddr;

use crate::counters::{PeerCounters, PeerStats};
use crate::packet::Addresses;

/// One peer: where its datagrams go to and come from, and what lies behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address and port that the peer's socket is bound to.
    pub endpoint: SocketAddr,
    /// The subnets leased to the peer. Peers with the same endpoint are taken as one; a subnet that two
    /// peers claim goes to the later.
    pub subnets: Vec<IpNet>,
}

/// Marks a range of addresses that belongs to nobody.
const NOBODY: u32 = u32::MAX;

/// Longest-prefix match over flattened ranges: a sorted array of starts, each with the peer that holds the
/// addresses from there up to the next start. A binary search over 5,000 leases reads 13 words, takes the
/// same time for every address a stranger may send, and needs no more memory than the leases themselves.
#[derive(Debug, Default)]
struct Ranges<T> {
    starts: Vec<T>,
    peers: Vec<u32>,
    /// The last address of the range is the broadcast address of its peer's subnet.
    broadcast: Vec<bool>,
}

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The peer whose subnet holds it.
    pub peer: u32,
    /// It is no host's but the subnet's broadcast address, the last one of an IPv4 subnet of /30 or shorter
    /// (RFC 3021).
    pub broadcast: bool,
}

impl<T: Copy + Ord> Ranges<T> {
    /// Flattens prefixes given as (first address, last address, peer); of equal ones the last wins.
    /// `next` gives the address after, or none after the highest; `broadcasts` says whether the last address
    /// of a prefix is its broadcast address.
    fn build(
        mut prefixes: Vec<(T, T, u32)>,
        next: fn(T) -> Option<T>,
        broadcasts: fn(T, T) -> bool,
    ) -> Self {
        prefixes.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut ranges = Self {
            starts: Vec::new(),
            peers: Vec::new(),
            broadcast: Vec::new(),
        };
        let mut open: Vec<(T, T, u32)> = Vec::new();
        // An address that ends two prefixes is of the longer one, which is closed first.
        let mut ended = None;
        let mut is_broadcast =
            |start, end| ended.replace(end) != Some(end) && broadcasts(start, end);
        for (first, last, peer) in prefixes {
            while let Some(&(start, end, _)) = open.last().filter(|(_, end, _)| *end < first) {
                open.pop();
                ranges.close(end, is_broadcast(start, end), &open, next);
            }
            ranges.mark(first, peer);
            open.push((first, last, peer));
        }
        while let Some((start, end, _)) = open.pop() {
            ranges.close(end, is_broadcast(start, end), &open, next);
        }
        ranges
    }

    /// After a prefix ended at `end`, the one around it goes on, if any.
    fn close(&mut self, end: T, broadcast: bool, open: &[(T, T, u32)], next: fn(T) -> Option<T>) {
        if let Some(last) = self.broadcast.last_mut() {
            *last |= broadcast;
        }
        let Some(start) = next(end) else { return };
        match open.last() {
            Some((_, outer_end, peer)) if *outer_end > end => self.mark(start, *peer),
            Some(_) => {}
            None => self.mark(start, NOBODY),
        }
    }

    fn mark(&mut self, start: T, peer: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.peers.pop();
            self.broadcast.pop();
        }
        self.starts.push(start);
        self.peers.push(peer);
        self.broadcast.push(false);
    }

    #[inline]
    fn find(&self, address: T, next: fn(T) -> Option<T>) -> Option<Found> {
        let after = self.starts.partition_point(|start| *start <= address);
        let at = after.checked_sub(1)?;
        let peer = Some(self.peers[at]).filter(|peer| *peer != NOBODY)?;
        let broadcast = self.broadcast[at] && self.starts.get(after).copied() == next(address);
        Some(Found { peer, broadcast })
    }
}

fn after_v4(address: u32) -> Option<u32> {
    address.checked_add(1)
}

fn after_v6(address: u128) -> Option<u128> {
    address.checked_add(1)
}

/// Whether the IPv4 subnet from `first` to `last` has a broadcast address: one or two addresses are all
/// hosts' (RFC 3021).
pub(crate) fn has_broadcast(first: u32, last: u32) -> bool {
    last - first > 1
}

/// A peer as the workers use it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) endpoint: SocketAddr,
    pub(crate) address: SockAddr,
    pub(crate) stats: Arc<PeerStats>,
}

/// An immutable table of all peers.
#[derive(Debug, Default)]
pub struct PeerTable {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    by_endpoint: HashMap<(IpAddr, u16), u32>,
    entries: Vec<Entry>,
}

impl PeerTable {
    /// Builds a table with counters for `workers` workers; a peer that `previous` has, too, keeps its
    /// counters.
    pub fn build(peers: &[Peer], previous: Option<&Self>, workers: usize) -> Self {
        let mut table = Self::default();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for peer in peers {
            let id = table.intern(peer.endpoint, previous, workers);
            for subnet in &peer.subnets {
                match subnet {
                    IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into(), id)),
                    IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into(), id)),
                }
            }
        }
        table.v4 = Ranges::build(v4, after_v4, has_broadcast);
        table.v6 = Ranges::build(v6, after_v6, |_, _| false);
        table
    }

    fn intern(&mut self, endpoint: SocketAddr, previous: Option<&Self>, workers: usize) -> u32 {
        let next = self.entries.len() as u32;
        let id = *self
            .by_endpoint
            .entry((endpoint.ip(), endpoint.port()))
            .or_insert(next);
        if id == next {
            let stats = previous
                .and_then(|table| table.entries.get(table.by_sender(endpoint)? as usize))
                .map_or_else(
                    || Arc::new(PeerStats::new(workers)),
                    |entry| entry.stats.clone(),
                );
            self.entries.push(Entry {
                endpoint,
                address: endpoint.into(),
                stats,
            });
        }
        id
    }

    /// The peer whose subnet holds an IPv4 address.
    #[inline]
    pub fn by_v4(&self, address: u32) -> Option<Found> {
        self.v4.find(address, after_v4)
    }

    /// The peer whose subnet holds an IPv6 address.
    #[inline]
    pub fn by_v6(&self, address: u128) -> Option<Found> {
        self.v6.find(address, after_v6)
    }

    /// The peer behind which the packet's source lies.
    #[inline]
    pub fn by_source(&self, addresses: &Addresses) -> Option<Found> {
        match *addresses {
            Addresses::V4(source, _) => self.by_v4(source),
            Addresses::V6(source, _) => self.by_v6(source),
        }
    }

    /// The peer behind which the packet's destination lies.
    #[inline]
    pub fn by_destination(&self, addresses: &Addresses) -> Option<Found> {
        match *addresses {
            Addresses::V4(_, destination) => self.by_v4(destination),
            Addresses::V6(_, destination) => self.by_v6(destination),
        }
    }

    /// The peer that sends from this address and port.
    #[inline]
    pub fn by_sender(&self, sender: SocketAddr) -> Option<u32> {
        self.by_endpoint.get(&(sender.ip(), sender.port())).copied()
    }

    /// A peer by the number that the look-ups give.
    #[inline]
    pub(crate) fn entry(&self, id: u32) -> &Entry {
        &self.entries[id as usize]
    }

    /// Every peer's counters.
    pub fn counters(&self) -> Vec<PeerCounters> {
        self.entries
            .iter()
            .map(|entry| entry.stats.read(entry.endpoint))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    fn peer(endpoint: &str, subnets: &[&str]) -> Peer {
        Peer {
            endpoint: endpoint.parse().expect("endpoint"),
            subnets: subnets.iter().map(|s| s.parse().expect("subnet")).collect(),
        }
    }

    fn found(table: &PeerTable, address: &str) -> Option<Found> {
        table.by_v4(
            address
                .parse::<std::net::Ipv4Addr>()
                .expect("address")
                .into(),
        )
    }

    fn v4(table: &PeerTable, address: &str) -> Option<u32> {
        found(table, address).map(|found| found.peer)
    }

    #[test]
    fn longest_prefix_wins() {
        let table = PeerTable::build(
            &[
                peer("192.0.2.1:8285", &["10.1.0.0/16"]),
                peer("192.0.2.2:8285", &["10.1.2.0/24"]),
                peer("192.0.2.3:8285", &["10.1.2.128/32", "255.255.255.0/24"]),
            ],
            None,
            1,
        );
        assert_eq!(v4(&table, "10.1.1.1"), Some(0));
        assert_eq!(v4(&table, "10.1.2.0"), Some(1));
        assert_eq!(v4(&table, "10.1.2.127"), Some(1));
        assert_eq!(v4(&table, "10.1.2.128"), Some(2));
        assert_eq!(v4(&table, "10.1.2.129"), Some(1));
        assert_eq!(v4(&table, "10.1.3.0"), Some(0));
        assert_eq!(v4(&table, "10.2.0.0"), None);
        assert_eq!(v4(&table, "9.255.255.255"), None);
        assert_eq!(v4(&table, "255.255.255.255"), Some(2));
        assert_eq!(
            table.by_sender("192.0.2.3:8285".parse().expect("endpoint")),
            Some(2)
        );
        assert_eq!(
            table.by_sender("192.0.2.3:8286".parse().expect("endpoint")),
            None
        );
    }

    #[test]
    fn the_last_address_of_a_subnet_is_its_broadcast_address() {
        let table = PeerTable::build(
            &[
                peer("192.0.2.1:8285", &["10.1.2.0/24", "10.1.3.0/24"]),
                peer(
                    "192.0.2.2:8285",
                    &["10.1.4.0/30", "10.1.4.4/31", "10.1.4.6/32"],
                ),
                peer(
                    "192.0.2.3:8285",
                    &["10.1.2.128/25", "10.1.3.255/32", "fd00::/126"],
                ),
                peer("192.0.2.4:8285", &["255.255.255.0/24"]),
            ],
            None,
            1,
        );
        let rows = [
            ("10.1.2.0", false),
            ("10.1.2.127", false),
            ("10.1.2.254", false),
            ("10.1.2.255", true),
            ("10.1.3.0", false),
            ("10.1.3.254", false),
            ("10.1.3.255", false),
            ("10.1.4.2", false),
            ("10.1.4.3", true),
            ("10.1.4.4", false),
            ("10.1.4.5", false),
            ("10.1.4.6", false),
            ("255.255.255.254", false),
            ("255.255.255.255", true),
        ];
        for (address, wanted) in rows {
            let found = found(&table, address).expect(address);
            assert_eq!(found.broadcast, wanted, "{address}");
        }
        let six = table.by_v6(0xfd00 << 112 | 3).expect("found");
        assert!(!six.broadcast);
    }

    #[test]
    fn counters_follow_the_endpoint() {
        let first = PeerTable::build(
            &[peer("192.0.2.1:1", &[]), peer("192.0.2.2:1", &[])],
            None,
            2,
        );
        first.entry(1).stats.cell(1).sent_packets.add(7);
        let second = PeerTable::build(
            &[peer("192.0.2.2:1", &[]), peer("192.0.2.3:1", &[])],
            Some(&first),
            2,
        );
        assert_eq!(second.counters()[0].sent.packets, 7);
        assert_eq!(second.counters()[1].sent.packets, 0);
    }

    #[test]
    fn one_endpoint_is_one_peer() {
        let table = PeerTable::build(
            &[
                peer("[2001:db8::1]:8285", &["10.1.2.0/24"]),
                peer("[2001:db8::1]:8285", &["fd00:1::/64"]),
            ],
            None,
            1,
        );
        assert_eq!(table.entries.len(), 1);
        assert_eq!(v4(&table, "10.1.2.1"), Some(0));
        let found = table.by_v6(0xfd00_0001 << 96 | 5);
        assert_eq!(found.map(|found| found.peer), Some(0));
    }

    /// Prefixes out of a small space, so that they nest and repeat.
    fn prefixes() -> impl Strategy<Value = Vec<(u32, u8)>> {
        proptest::collection::vec(
            (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| (bits & 0x8101_0183, length)),
            0..40,
        )
    }

    fn reference<T: Copy>(nets: &[(T, u8)], covers: impl Fn(T) -> bool) -> Option<u32> {
        let mut best: Option<(u8, u32)> = None;
        for (index, (net, length)) in nets.iter().enumerate() {
            if covers(*net) && best.is_none_or(|(longest, _)| *length >= longest) {
                best = Some((*length, index as u32));
            }
        }
        best.map(|(_, index)| index)
    }

    proptest! {
        #[test]
        fn equals_a_linear_search(prefixes in prefixes(), addresses in proptest::collection::vec(any::<u32>(), 40)) {
            let nets: Vec<(Ipv4Net, u8)> = prefixes
                .iter()
                .map(|(bits, length)| (Ipv4Net::new((*bits).into(), *length).expect("length").trunc(), *length))
                .collect();
            let peers: Vec<Peer> = nets
                .iter()
                .enumerate()
                .map(|(i, (net, _))| Peer {
                    endpoint: (std::net::Ipv4Addr::from(i as u32), 1).into(),
                    subnets: vec![IpNet::V4(*net)],
                })
                .collect();
            let table = PeerTable::build(&peers, None, 1);
            let edges = nets.iter().flat_map(|(net, _)| {
                let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
            });
            for address in addresses.iter().map(|a| a & 0x8101_0183).chain(edges) {
                let wanted = reference(&nets, |net| net.contains(&std::net::Ipv4Addr::from(address)));
                let found = table.by_v4(address);
                prop_assert_eq!(found.map(|found| found.peer), wanted, "{}", std::net::Ipv4Addr::from(address));
                let ends = wanted.is_some_and(|index| {
                    let (net, length) = nets[index as usize];
                    length <= 30 && u32::from(net.broadcast()) == address
                });
                prop_assert_eq!(found.is_some_and(|found| found.broadcast), ends, "{}", std::net::Ipv4Addr::from(address));
            }
        }

        #[test]
        fn equals_a_linear_search_v6(prefixes in proptest::collection::vec((any::<u128>(), 0u8..=128), 0..30)) {
            let nets: Vec<(Ipv6Net, u8)> = prefixes
                .iter()
                .map(|(bits, length)| (Ipv6Net::new((*bits & (0x8101 << 112 | 0x81)).into(), *length).expect("length").trunc(), *length))
                .collect();
            let peers: Vec<Peer> = nets
                .iter()
                .enumerate()
                .map(|(i, (net, _))| Peer {
                    endpoint: (std::net::Ipv4Addr::from(i as u32), 1).into(),
                    subnets: vec![IpNet::V6(*net)],
                })
                .collect();
            let table = PeerTable::build(&peers, None, 1);
            for (net, _) in &nets {
                let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
                for address in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                    let wanted = reference(&nets, |net| net.contains(&std::net::Ipv6Addr::from(address)));
                    let found = table.by_v6(address);
                    prop_assert_eq!(found.map(|found| found.peer), wanted);
                    prop_assert!(found.is_none_or(|found| !found.broadcast));
                }
            }
        }
    }
}
