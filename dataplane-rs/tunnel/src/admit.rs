//! What may pass: from a peer to us, and from us to a peer. Both change nothing in a packet they refuse.

use ipnet::IpNet;

use crate::counters::DropReason;
use crate::icmp;
use crate::packet::{self, Addresses, Header};
use crate::peers::PeerTable;
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
}

/// Decides over one datagram from `peer` and takes a hop from its packet.
///
/// # Errors
/// Why it goes no further.
#[inline]
pub fn inbound(
    packet: &mut [u8],
    peer: u32,
    table: &PeerTable,
    local: &LocalSubnets,
) -> Result<(), DropReason> {
    let header = packet::parse(packet)?;
    if header.addresses.to_many() {
        return Err(DropReason::Multicast);
    }
    if table.by_source(&header.addresses) != Some(peer) {
        return Err(DropReason::SpoofedSource);
    }
    if !local.hold_destination(&header.addresses) {
        return Err(DropReason::WrongDestination);
    }
    if !packet::decrement_ttl(packet) {
        return Err(DropReason::TtlExpired);
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
    let Some(peer) = table.by_destination(&header.addresses) else {
        return Err(refuse(DropReason::NoRoute, icmp::Error::NoRoute));
    };
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
    Ok(peer)
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

    fn v6(net: u8) -> [u8; 16] {
        [0xfd, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    }

    #[test]
    fn only_a_peers_own_packets_to_us_pass() {
        let (table, local) = (table(), local());
        let rows: [(&str, Vec<u8>, Result<(), DropReason>); 7] = [
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
        ];
        for (name, mut packet, wanted) in rows {
            assert_eq!(inbound(&mut packet, 0, &table, &local), wanted, "{name}");
        }
        let mut six = testing::udp_v6(v6(3), v6(2), b"x");
        assert_eq!(inbound(&mut six, 0, &table, &local), Ok(()));
        assert_eq!(six[7], 63);
        six[7] = 1;
        assert_eq!(
            inbound(&mut six, 0, &table, &local),
            Err(DropReason::TtlExpired)
        );
        assert_eq!(
            inbound(&mut [], 0, &table, &local),
            Err(DropReason::Truncated)
        );
    }

    #[test]
    fn refusals_say_what_the_sender_is_told() {
        let table = table();
        let told = |mut packet: Vec<u8>, mtu| {
            outbound(&mut packet, &VnetHdr::PLAIN, &table, mtu)
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
    }
}
