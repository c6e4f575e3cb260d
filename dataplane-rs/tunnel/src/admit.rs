//! What may pass: from a peer to us, and from us to a peer. Both change nothing in a packet they refuse.

use ipnet::IpNet;

use crate::counters::DropReason;
use crate::ecn;
use crate::icmp;
use crate::packet::{self, Addresses, Header};
use crate::peers::{self, PeerTable};
use crate::segment::Segmenter;
use crate::vnet::{Gso, VnetHdr};

/// Our own subnets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalSubnets {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl LocalSubnets {
    /// Takes the subnets of our lease.
    pub fn new(subnets: &[IpNet]) -> Self {
        let mut local = Self::default();
        for subnet in subnets {
            match subnet {
                IpNet::V4(net) => local
                    .v4
                    .push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => local
                    .v6
                    .push((net.network().into(), net.broadcast().into())),
            }
        }
        local
    }

    /// The packet's destination lies in one of them.
    #[inline]
    pub fn hold_destination(&self, addresses: &Addresses) -> bool {
        match *addresses {
            Addresses::V4(_, to) => self
                .v4
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&to)),
            Addresses::V6(_, to) => self
                .v6
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&to)),
        }
    }

    /// The packet's source or destination is the broadcast address of one of them.
    #[inline]
    pub fn broadcast(&self, addresses: &Addresses) -> bool {
        let Addresses::V4(from, to) = *addresses else {
            return false;
        };
        self.v4
            .iter()
            .any(|&(first, last)| (from == last || to == last) && peers::has_broadcast(first, last))
    }
}

/// Decides over one datagram from `peer`, takes a hop from its packet and brings the path's congestion mark
/// into it. `class` is the datagram's own type of service or traffic class.
///
/// # Errors
/// Why it goes no further.
#[inline]
pub fn inbound(
    packet: &mut [u8],
    class: u8,
    peer: u32,
    table: &PeerTable,
    local: &LocalSubnets,
) -> Result<(), DropReason> {
    let header = packet::parse(packet)?;
    if header.addresses.to_many() {
        return Err(DropReason::Multicast);
    }
    let source = table
        .by_source(&header.addresses)
        .filter(|found| found.peer == peer)
        .ok_or(DropReason::SpoofedSource)?;
    if !local.hold_destination(&header.addresses) {
        return Err(DropReason::WrongDestination);
    }
    if source.broadcast || local.broadcast(&header.addresses) {
        return Err(DropReason::DirectedBroadcast);
    }
    let inner = ecn::class(packet);
    let congestion = ecn::decapsulated(inner, class).ok_or(DropReason::CongestionMark)?;
    if !packet::decrement_ttl(packet) {
        return Err(DropReason::TtlExpired);
    }
    if congestion != inner & ecn::CE {
        ecn::mark(packet, congestion);
    }
    Ok(())
}

/// A packet from the TUN device that goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: DropReason,
    /// What its sender is to be told.
    pub icmp: Option<(icmp::Error, Header)>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, icmp: None }
    }
}

/// Decides over one packet from the TUN device, takes a hop from it and gives its peer.
///
/// # Errors
/// Why it goes no further, and what its sender is to be told.
#[inline]
pub fn outbound(
    packet: &mut [u8],
    vnet: &VnetHdr,
    table: &PeerTable,
    local: &LocalSubnets,
    mtu: u16,
) -> Result<u32, Refusal> {
    let header = packet::parse(packet)?;
    if header.addresses.to_many() {
        return Err(DropReason::Multicast.into());
    }
    let refuse = |reason, error| Refusal {
        reason,
        icmp: Some((error, header)),
    };
    if local.broadcast(&header.addresses) {
        return Err(DropReason::DirectedBroadcast.into());
    }
    let Some(destination) = table.by_destination(&header.addresses) else {
        return Err(refuse(DropReason::NoRoute, icmp::Error::NoRoute));
    };
    if destination.broadcast {
        return Err(DropReason::DirectedBroadcast.into());
    }
    let longest = match vnet.gso {
        Gso::None => packet.len(),
        _ => Segmenter::new(packet, vnet)?.longest(),
    };
    // An IPv4 packet that may be fragmented goes out whole, and the datagram around it is fragmented.
    let may_fragment = packet[0] >> 4 == 4 && packet[6] & 0x40 == 0;
    if longest > usize::from(mtu) && !may_fragment {
        return Err(refuse(DropReason::TooBig, icmp::Error::TooBig(mtu)));
    }
    if !packet::decrement_ttl(packet) {
        return Err(refuse(DropReason::TtlExpired, icmp::Error::TimeExceeded));
    }
    Ok(destination.peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Peer;
    use crate::testing;

    fn table() -> PeerTable {
        let peer = |last: u8, subnets: &[&str]| Peer {
            endpoint: ([192, 0, 2, last], 8285).into(),
            subnets: subnets.iter().map(|s| s.parse().expect("subnet")).collect(),
        };
        PeerTable::build(
            &[
                peer(1, &["10.1.3.0/24", "fd00:3::/64"]),
                peer(2, &["10.1.4.0/24"]),
            ],
            None,
            1,
        )
    }

    fn local() -> LocalSubnets {
        LocalSubnets::new(&[
            "10.1.2.0/24".parse().expect("subnet"),
            "fd00:2::/64".parse().expect("subnet"),
        ])
    }

    fn v6_address(net: u8) -> [u8; 16] {
        [0xfd, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    }

    #[test]
    fn only_a_peers_own_packets_to_us_pass() {
        let (table, local) = (table(), local());
        let rows: [(&str, Vec<u8>, Result<(), DropReason>); 12] = [
            (
                "good",
                testing::udp_v4([10, 1, 3, 9], [10, 1, 2, 9], b"x"),
                Ok(()),
            ),
            (
                "base addresses",
                testing::udp_v4([10, 1, 3, 0], [10, 1, 2, 0], b"x"),
                Ok(()),
            ),
            (
                "other peer's",
                testing::udp_v4([10, 1, 4, 9], [10, 1, 2, 9], b"x"),
                Err(DropReason::SpoofedSource),
            ),
            (
                "nobody's",
                testing::udp_v4([192, 0, 2, 1], [10, 1, 2, 9], b"x"),
                Err(DropReason::SpoofedSource),
            ),
            (
                "not to us",
                testing::udp_v4([10, 1, 3, 9], [10, 1, 4, 9], b"x"),
                Err(DropReason::WrongDestination),
            ),
            (
                "multicast",
                testing::udp_v4([10, 1, 3, 9], [224, 0, 0, 1], b"x"),
                Err(DropReason::Multicast),
            ),
            (
                "broadcast",
                testing::udp_v4([10, 1, 3, 9], [255; 4], b"x"),
                Err(DropReason::Multicast),
            ),
            (
                "to our subnet's broadcast address",
                testing::udp_v4([10, 1, 3, 9], [10, 1, 2, 255], b"x"),
                Err(DropReason::DirectedBroadcast),
            ),
            (
                "from its subnet's broadcast address",
                testing::udp_v4([10, 1, 3, 255], [10, 1, 2, 9], b"x"),
                Err(DropReason::DirectedBroadcast),
            ),
            (
                "from our subnet's broadcast address",
                testing::udp_v4([10, 1, 2, 255], [10, 1, 2, 9], b"x"),
                Err(DropReason::SpoofedSource),
            ),
            (
                "to another's broadcast address",
                testing::udp_v4([10, 1, 3, 9], [10, 1, 4, 255], b"x"),
                Err(DropReason::WrongDestination),
            ),
            (
                "to the network's broadcast address",
                testing::udp_v4([10, 1, 3, 9], [10, 1, 255, 255], b"x"),
                Err(DropReason::WrongDestination),
            ),
        ];
        for (name, mut packet, wanted) in rows {
            assert_eq!(inbound(&mut packet, 0, 0, &table, &local), wanted, "{name}");
        }
        let mut six = testing::udp_v6(v6_address(3), v6_address(2), b"x");
        assert_eq!(inbound(&mut six, 0, 0, &table, &local), Ok(()));
        assert_eq!(six[7], 63);
        six[7] = 1;
        assert_eq!(
            inbound(&mut six, 0, 0, &table, &local),
            Err(DropReason::TtlExpired)
        );
        assert_eq!(
            inbound(&mut [], 0, 0, &table, &local),
            Err(DropReason::Truncated)
        );
    }

    #[test]
    fn refusals_say_what_the_sender_is_told() {
        let (table, local) = (table(), local());
        let told = |mut packet: Vec<u8>, mtu| {
            outbound(&mut packet, &VnetHdr::PLAIN, &table, &local, mtu)
                .map_err(|r| (r.reason, r.icmp.map(|(error, _)| error)))
        };
        let good = testing::udp_v4([10, 1, 2, 9], [10, 1, 3, 9], &[0; 100]);
        assert_eq!(told(good.clone(), 128), Ok(0));
        assert_eq!(
            told(good.clone(), 127),
            Err((DropReason::TooBig, Some(icmp::Error::TooBig(127))))
        );
        let mut fragmentable = good.clone();
        fragmentable[6] = 0;
        assert_eq!(told(fragmentable, 127), Ok(0));
        let lost = testing::udp_v4([10, 1, 2, 9], [10, 1, 9, 9], b"x");
        assert_eq!(
            told(lost, 1500),
            Err((DropReason::NoRoute, Some(icmp::Error::NoRoute)))
        );
        let mut old = good;
        old[8] = 1;
        assert_eq!(
            told(old, 1500),
            Err((DropReason::TtlExpired, Some(icmp::Error::TimeExceeded)))
        );
        let group = testing::udp_v4([10, 1, 2, 9], [239, 0, 0, 1], b"x");
        assert_eq!(told(group, 1500), Err((DropReason::Multicast, None)));
        // Nobody is told of a broadcast (RFC 1122, section 3.2.2).
        for (from, to) in [
            ([10, 1, 2, 9], [10, 1, 3, 255]),
            ([10, 1, 2, 255], [10, 1, 3, 9]),
            ([10, 1, 2, 9], [10, 1, 2, 255]),
        ] {
            assert_eq!(
                told(testing::udp_v4(from, to, b"x"), 1500),
                Err((DropReason::DirectedBroadcast, None))
            );
        }
    }

    #[test]
    fn congestion_marks_of_the_path_come_in() {
        let (table, local) = (table(), local());
        for v6 in [false, true] {
            for (inner, outer, wanted) in [
                (0xb8, 0xb8, Ok(0xb8)),
                (0xb8, 0xbb, Err(DropReason::CongestionMark)),
                (0xb8, 0x02, Ok(0xb8)),
                (0x02, 0x03, Ok(0x03)),
                (0xb9, 0x03, Ok(0xbb)),
                (0x02, 0x00, Ok(0x02)),
                (0x02, 0x01, Ok(0x01)),
                // The DSCP of the datagram stays outside.
                (0x28, 0xfc, Ok(0x28)),
            ] {
                let mut packet = if v6 {
                    testing::udp_v6(v6_address(3), v6_address(2), b"x")
                } else {
                    testing::udp_v4([10, 1, 3, 9], [10, 1, 2, 9], b"x")
                };
                testing::set_class(&mut packet, inner);
                let before = packet.clone();
                let done = inbound(&mut packet, outer, 0, &table, &local);
                let name = format!("{inner:#x} in {outer:#x}, IPv6 {v6}");
                assert_eq!(done.map(|()| ecn::class(&packet)), wanted, "{name}");
                assert!(packet::header_is_right(&packet), "{name}");
                assert_eq!(done.is_err(), packet == before, "{name}");
            }
        }
    }

    /// What a packet's header says wrongly of itself, over IPv6.
    #[test]
    fn ipv6_lengths_and_hops() {
        let (table, local) = (table(), local());
        let good = testing::udp_v6(v6_address(3), v6_address(2), &[7; 64]);
        let verdict = |packet: &[u8]| {
            let mut bytes = packet.to_vec();
            let verdict = inbound(&mut bytes, 0, 0, &table, &local);
            assert_eq!(
                verdict.is_err(),
                bytes == packet,
                "changed only if it passes"
            );
            verdict
        };
        let with = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet
        };
        assert_eq!(verdict(&good), Ok(()));
        for hops in [0, 1] {
            assert_eq!(verdict(&with(7, hops)), Err(DropReason::TtlExpired));
        }
        assert_eq!(verdict(&with(7, 2)), Ok(()));
        for length in [0, 71, 73, 255] {
            assert_eq!(verdict(&with(5, length)), Err(DropReason::BadLength));
        }
        for cut in [1, 39] {
            assert_eq!(verdict(&good[..cut]), Err(DropReason::Truncated));
        }
        for cut in [40, good.len() - 1] {
            assert_eq!(verdict(&good[..cut]), Err(DropReason::BadLength));
        }
        // A jumbogram (RFC 2675) says length zero and the real one in an option.
        let jumbo = [&[17, 0, 0xc2, 4, 0, 1, 0, 0], &good[40..]].concat();
        let mut jumbo = testing::ipv6(v6_address(3), v6_address(2), 0, &jumbo);
        jumbo[4..6].fill(0);
        assert_eq!(verdict(&jumbo), Err(DropReason::BadLength));
        // Mapped and multicast addresses are nobody's.
        let mapped = {
            let mut address = [0; 16];
            address[10..].copy_from_slice(&[0xff, 0xff, 10, 1, 3, 9]);
            address
        };
        assert_eq!(
            verdict(&testing::udp_v6(mapped, v6_address(2), b"x")),
            Err(DropReason::SpoofedSource)
        );
        assert_eq!(
            verdict(&testing::udp_v6(v6_address(3), [0xff; 16], b"x")),
            Err(DropReason::Multicast)
        );
    }
}
