//! A simple model of what the tunnel may do to packets, to compare the tunnel with.
//!
//! Nothing here is fast or shared with the code under test, checksums included: a packet is built, taken apart
//! and cut into segments byte by byte.

// Each of the programs that include this uses a part of it.
#![allow(dead_code, reason = "two programs share this file")]

pub mod generate;
pub mod inbound;
pub mod outbound;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// The Internet checksum's sum, folded (RFC 1071, section 4.1): 0xffff over bytes that hold a right checksum.
/// All parts but the last are of even length.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        let mut pairs = part.chunks_exact(2);
        sum += (&mut pairs)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1]))
            .sum::<u64>();
        sum += pairs
            .remainder()
            .first()
            .map_or(0, |byte| u64::from(*byte) << 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub fn is_v6(packet: &[u8]) -> bool {
    packet[0] >> 4 == 6
}

/// Both addresses' bytes.
pub fn addresses(packet: &[u8]) -> &[u8] {
    if is_v6(packet) {
        &packet[8..40]
    } else {
        &packet[12..20]
    }
}

pub fn class(packet: &[u8]) -> u8 {
    if is_v6(packet) {
        (u16::from_be_bytes([packet[0], packet[1]]) >> 4) as u8
    } else {
        packet[1]
    }
}

pub fn set_class(packet: &mut [u8], class: u8) {
    if is_v6(packet) {
        let word = 0x6000 | u16::from(class) << 4 | u16::from(packet[1] & 0xf);
        packet[..2].copy_from_slice(&word.to_be_bytes());
    } else {
        packet[1] = class;
    }
}

/// Where the TTL or the hop limit stands.
pub fn ttl_at(packet: &[u8]) -> usize {
    if is_v6(packet) { 7 } else { 8 }
}

/// Protocol and place of the transport header where it follows a header without options or extensions and
/// the packet is no fragment.
pub fn transport(packet: &[u8]) -> Option<(u8, usize)> {
    let (protocol, at) = if is_v6(packet) {
        (packet[6], 40)
    } else {
        if packet[0] != 0x45 || u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0 {
            return None;
        }
        (packet[9], 20)
    };
    let known = (protocol == TCP || protocol == UDP) && packet.len() >= at + 8;
    known.then_some((protocol, at))
}

/// Where the transport checksum stands; none in a TCP header that is cut off before it.
fn check_at(packet: &[u8]) -> Option<usize> {
    let (protocol, l4) = transport(packet)?;
    let at = l4 + if protocol == TCP { 16 } else { 6 };
    (at + 2 <= packet.len()).then_some(at)
}

fn pseudo_header(packet: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = addresses(packet).to_vec();
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

fn transport_sum(packet: &[u8], protocol: u8, l4: usize) -> u16 {
    let pseudo = pseudo_header(packet, protocol, packet.len() - l4);
    sum(&[&pseudo, &packet[l4..]])
}

/// Writes right lengths and checksums wherever the headers have a place for them.
pub fn fix(packet: &mut [u8]) {
    let length = packet.len();
    if is_v6(packet) {
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    } else {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    }
    if let Some((UDP, l4)) = transport(packet) {
        packet[l4 + 4..l4 + 6].copy_from_slice(&((length - l4) as u16).to_be_bytes());
    }
    fix_checksums(packet);
}

pub fn fix_checksums(packet: &mut [u8]) {
    if !is_v6(packet) {
        let end = (usize::from(packet[0] & 0xf) * 4).clamp(20, packet.len());
        packet[10..12].fill(0);
        let check = !sum(&[&packet[..end]]);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
    }
    let (Some((protocol, l4)), Some(at)) = (transport(packet), check_at(packet)) else {
        return;
    };
    packet[at..at + 2].fill(0);
    let mut check = !transport_sum(packet, protocol, l4);
    if protocol == UDP && check == 0 {
        check = 0xffff;
    }
    packet[at..at + 2].copy_from_slice(&check.to_be_bytes());
}

/// A packet without what may differ between two forms of the same one: each checksum is replaced by what a
/// receiver makes of it, and the identification of a packet that is never fragmented means nothing
/// (RFC 6864).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Essence {
    pub bytes: Vec<u8>,
    pub header_is_right: bool,
    pub transport_is_right: Option<bool>,
}

pub fn essence(packet: &[u8]) -> Essence {
    let mut bytes = packet.to_vec();
    let mut header_is_right = true;
    if !is_v6(packet) {
        let end = (usize::from(packet[0] & 0xf) * 4).min(packet.len());
        header_is_right = sum(&[&packet[..end]]) == 0xffff;
        bytes[10..12].fill(0);
        if bytes[6] & 0x40 != 0 {
            bytes[4..6].fill(0);
        }
    }
    let mut transport_is_right = None;
    if let (Some((protocol, l4)), Some(at)) = (transport(packet), check_at(packet)) {
        let absent = protocol == UDP && packet[at..at + 2] == [0, 0];
        if !absent {
            transport_is_right = Some(transport_sum(packet, protocol, l4) == 0xffff);
            bytes[at..at + 2].fill(0);
        }
    }
    Essence {
        bytes,
        header_is_right,
        transport_is_right,
    }
}

/// What segmentation makes of a super-packet: TCP or UDP from `l4` on, `size` bytes of payload each.
pub fn cut(packet: &[u8], l4: usize, udp: bool, size: usize) -> Vec<Vec<u8>> {
    let headers = if udp {
        l4 + 8
    } else {
        l4 + usize::from(packet[l4 + 12] >> 4) * 4
    };
    let count = packet[headers..].len().div_ceil(size);
    let payloads = packet[headers..].chunks(size).enumerate();
    let segments = payloads.map(|(index, payload)| {
        let mut segment = [&packet[..headers], payload].concat();
        if !is_v6(packet) {
            let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index as u16);
            segment[4..6].copy_from_slice(&id.to_be_bytes());
        }
        if !udp {
            let first = u32::from_be_bytes(packet[l4 + 4..l4 + 8].try_into().expect("four bytes"));
            let sequence = first.wrapping_add((index * size) as u32);
            segment[l4 + 4..l4 + 8].copy_from_slice(&sequence.to_be_bytes());
            if index + 1 < count {
                segment[l4 + 13] &= !0x09; // FIN, PSH
            }
            if index > 0 {
                segment[l4 + 13] &= !0x80; // CWR
            }
        }
        fix(&mut segment);
        segment
    });
    segments.collect()
}

/// Whether one of two packets may not overtake the other: they are of one flow, or may be, since the ports
/// of one cannot be told.
pub fn ordered(one: &[u8], other: &[u8]) -> bool {
    if is_v6(one) != is_v6(other) || addresses(one) != addresses(other) {
        return false;
    }
    match (transport(one), transport(other)) {
        (Some((protocol, l4)), Some((of_other, at))) => {
            protocol == of_other && one[l4..l4 + 4] == other[at..at + 4]
        }
        _ => true,
    }
}
