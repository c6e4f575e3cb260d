//! The inner IP packet: validation, addresses, TTL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::counters::DropReason;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// The addresses of an inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Source and destination of an IPv4 packet.
    V4(u32, u32),
    /// Source and destination of an IPv6 packet.
    V6(u128, u128),
}

impl Addresses {
    /// The source.
    pub fn source(&self) -> IpAddr {
        match *self {
            Self::V4(source, _) => IpAddr::V4(Ipv4Addr::from(source)),
            Self::V6(source, _) => IpAddr::V6(Ipv6Addr::from(source)),
        }
    }

    /// The destination is multicast or the limited broadcast address.
    #[inline]
    pub fn to_many(&self) -> bool {
        match *self {
            Self::V4(_, destination) => destination >= 0xe000_0000,
            Self::V6(_, destination) => destination >> 120 == 0xff,
        }
    }
}

/// What an IP packet's fixed header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source and destination.
    pub addresses: Addresses,
    /// Bytes of the IPv4 header, or 40.
    pub len: usize,
    /// TTL or hop limit.
    pub ttl: u8,
}

/// Checks the version and the lengths of the IP packet that fills `packet`.
///
/// # Errors
/// `Truncated` for less than a header, `BadVersion`, `BadLength` where a length in the header is not the
/// length of `packet` or the IPv4 header is shorter than its minimum or longer than the packet.
#[inline]
pub fn parse(packet: &[u8]) -> Result<Header, DropReason> {
    let Some(first) = packet.first() else {
        return Err(DropReason::Truncated);
    };
    match first >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => Err(DropReason::BadVersion),
    }
}

#[inline]
fn parse_v4(packet: &[u8]) -> Result<Header, DropReason> {
    let fixed: &[u8; 20] = packet.first_chunk().ok_or(DropReason::Truncated)?;
    let len = usize::from(fixed[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if len < 20 || total < len || total != packet.len() {
        return Err(DropReason::BadLength);
    }
    let word =
        |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Ok(Header {
        addresses: Addresses::V4(word(12), word(16)),
        len,
        ttl: fixed[8],
    })
}

#[inline]
fn parse_v6(packet: &[u8]) -> Result<Header, DropReason> {
    let fixed: &[u8; 40] = packet.first_chunk().ok_or(DropReason::Truncated)?;
    let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    if payload + 40 != packet.len() {
        return Err(DropReason::BadLength);
    }
    let address = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&fixed[at..at + 16]);
        u128::from_be_bytes(bytes)
    };
    Ok(Header {
        addresses: Addresses::V6(address(8), address(24)),
        len: 40,
        ttl: fixed[7],
    })
}

/// Takes one from the TTL or the hop limit of a packet that [`parse`] accepted, and mends IPv4's checksum.
/// False, with the packet untouched, where none would be left.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    if packet[0] >> 4 == 6 {
        if packet[7] <= 1 {
            return false;
        }
        packet[7] -= 1;
        return true;
    }
    if packet[8] <= 1 {
        return false;
    }
    let old = [packet[8], packet[9]];
    packet[8] -= 1;
    let check = checksum::update([packet[10], packet[11]], old, [packet[8], packet[9]]);
    packet[10..12].copy_from_slice(&check);
    true
}

/// An IPv4 header's checksum is right; IPv6 has none.
#[inline]
pub fn header_is_right(packet: &[u8]) -> bool {
    match (packet[0], packet.first_chunk::<20>()) {
        // All but a few packets have no options, and these words are added faster than in a loop.
        (0x45, Some(fixed)) => {
            let words = fixed.as_chunks::<4>().0;
            let sum = words
                .iter()
                .map(|word| u64::from(u32::from_ne_bytes(*word)))
                .sum();
            checksum::fold(sum) == 0xffff
        }
        (0x60..=0x6f, _) => true,
        (first, _) => {
            let header = &packet[..usize::from(first & 0xf) * 4];
            checksum::fold(checksum::sum(header)) == 0xffff
        }
    }
}

/// The bytes of both addresses as they stand in the header, for the pseudo-header.
#[inline]
pub fn address_bytes(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 6 {
        &packet[8..40]
    } else {
        &packet[12..20]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    #[test]
    fn lengths_and_versions() {
        let good = testing::udp_v4([10, 1, 2, 3], [10, 1, 3, 4], b"hello");
        assert!(parse(&good).is_ok());
        assert_eq!(parse(&[]), Err(DropReason::Truncated));
        assert_eq!(parse(&good[..19]), Err(DropReason::Truncated));
        assert_eq!(parse(&good[..25]), Err(DropReason::BadLength));
        let mut long = good.clone();
        long.push(0);
        assert_eq!(parse(&long), Err(DropReason::BadLength));
        let mut short_header = good.clone();
        short_header[0] = 0x44;
        assert_eq!(parse(&short_header), Err(DropReason::BadLength));
        let mut long_header = good.clone();
        long_header[0] = 0x4f;
        assert_eq!(parse(&long_header), Err(DropReason::BadLength));
        for version in [0u8, 1, 5, 7, 15] {
            let mut wrong = good.clone();
            wrong[0] = version << 4 | 5;
            assert_eq!(parse(&wrong), Err(DropReason::BadVersion));
        }
        let six = testing::udp_v6([1; 16], [2; 16], b"hello");
        assert!(parse(&six).is_ok());
        assert_eq!(parse(&six[..39]), Err(DropReason::Truncated));
        assert_eq!(parse(&six[..41]), Err(DropReason::BadLength));
    }

    #[test]
    fn last_hop_is_refused() {
        let mut packet = testing::udp_v4([10, 1, 2, 3], [10, 1, 3, 4], b"x");
        for ttl in [0, 1] {
            packet[8] = ttl;
            assert!(!decrement_ttl(&mut packet));
            assert_eq!(packet[8], ttl);
        }
    }

    proptest! {
        #[test]
        fn ttl_keeps_the_checksum(source: [u8; 4], destination: [u8; 4], ttl in 2u8..) {
            let mut packet = testing::udp_v4(source, destination, b"data");
            packet[8] = ttl;
            testing::fix_ipv4_checksum(&mut packet);
            prop_assert!(decrement_ttl(&mut packet));
            prop_assert_eq!(packet[8], ttl - 1);
            prop_assert_eq!(checksum::fold(checksum::sum(&packet[..20])), 0xffff);
        }

        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(header) = parse(&bytes) {
                prop_assert!(header.len <= bytes.len());
                decrement_ttl(&mut bytes.clone());
            }
        }
    }
}
