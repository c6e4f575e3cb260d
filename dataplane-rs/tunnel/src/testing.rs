//! Packets for the tests, built the slow and plain way.

use crate::checksum;

/// Writes the right IPv4 header checksum.
pub fn fix_ipv4_checksum(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 0xf) * 4;
    packet[10..12].fill(0);
    let check = checksum::finish(checksum::sum(&packet[..header]));
    packet[10..12].copy_from_slice(&check);
}

/// Writes type of service or traffic class; an IPv4 header's checksum is right afterwards.
pub fn set_class(packet: &mut [u8], class: u8) {
    if packet[0] >> 4 == 6 {
        packet[0] = 0x60 | class >> 4;
        packet[1] = class << 4 | packet[1] & 0x0f;
    } else {
        packet[1] = class;
        fix_ipv4_checksum(packet);
    }
}

/// Writes the right TCP or UDP checksum; `l4` is where the transport header begins.
pub fn fix_l4_checksum(packet: &mut [u8], l4: usize, protocol: u8) {
    let at = l4 + if protocol == 6 { 16 } else { 6 };
    packet[at..at + 2].fill(0);
    let length = packet.len() - l4;
    let sum = checksum::pseudo_header(crate::packet::address_bytes(packet), protocol, length)
        + checksum::sum(&packet[l4..]);
    packet[at..at + 2].copy_from_slice(&checksum::finish(sum));
}

/// True where the TCP or UDP checksum is right.
pub fn l4_checksum_is_right(packet: &[u8], l4: usize, protocol: u8) -> bool {
    let sum = checksum::pseudo_header(
        crate::packet::address_bytes(packet),
        protocol,
        packet.len() - l4,
    ) + checksum::sum(&packet[l4..]);
    checksum::fold(sum) == 0xffff
}

/// An IPv4 header with DF and TTL 64 before `payload`.
pub fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    let total = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&total);
    fix_ipv4_checksum(&mut packet);
    packet
}

/// An IPv6 header with hop limit 64 before `payload`.
pub fn ipv6(source: [u8; 16], destination: [u8; 16], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

fn udp_header(payload: &[u8]) -> Vec<u8> {
    let mut udp = vec![0x30, 0x39, 0x00, 0x35];
    udp.extend(((payload.len() + 8) as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    udp
}

/// A UDP datagram over IPv4, ports 12345 to 53.
pub fn udp_v4(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(source, destination, 17, &udp_header(payload));
    fix_l4_checksum(&mut packet, 20, 17);
    packet
}

/// A UDP datagram over IPv6, ports 12345 to 53.
pub fn udp_v6(source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv6(source, destination, 17, &udp_header(payload));
    fix_l4_checksum(&mut packet, 40, 17);
    packet
}

/// A TCP header with a timestamp option, ports 4000 to 80, and its payload.
pub fn tcp(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0x0f, 0xa0, 0, 80];
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(77u32.to_be_bytes());
    tcp.extend([0x80, flags, 0x20, 0, 0, 0, 0, 0]);
    tcp.extend([1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]);
    tcp.extend(payload);
    tcp
}

/// A TCP segment over IPv4.
pub fn tcp_v4(
    source: [u8; 4],
    destination: [u8; 4],
    sequence: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = ipv4(source, destination, 6, &tcp(sequence, flags, payload));
    fix_l4_checksum(&mut packet, 20, 6);
    packet
}

/// A TCP segment over IPv6.
pub fn tcp_v6(
    source: [u8; 16],
    destination: [u8; 16],
    sequence: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = ipv6(source, destination, 6, &tcp(sequence, flags, payload));
    fix_l4_checksum(&mut packet, 40, 6);
    packet
}
