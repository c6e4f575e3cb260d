//! Cuts what the kernel left uncut: a TCP or UDP super-packet becomes inner packets with headers of their own,
//! and a checksum that the kernel left to an offload is completed.

use std::ops::Range;

use crate::checksum;
use crate::counters::DropReason;
use crate::packet;
use crate::vnet::{Gso, VnetHdr};

/// Longest headers of a segment that are taken: IPv4 with all options and TCP with all options need 120
/// bytes, IPv6 has its extension headers before the transport's.
pub const MAX_HEADERS: usize = 256;

const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// Completes the checksum of a packet that is not to be cut. The field holds the pseudo-header's sum.
///
/// # Errors
/// `BadOffload` where the field does not lie in the packet.
pub fn complete_checksum(packet: &mut [u8], vnet: &VnetHdr) -> Result<(), DropReason> {
    let start = usize::from(vnet.csum_start);
    let at = start + usize::from(vnet.csum_offset);
    if at + 2 > packet.len() {
        return Err(DropReason::BadOffload);
    }
    let mut check = checksum::finish(checksum::sum(&packet[start..]));
    // Zero says that there is none (RFC 768); its other form is as good for TCP.
    if check == [0, 0] {
        check = [0xff, 0xff];
    }
    packet[at..at + 2].copy_from_slice(&check);
    Ok(())
}

/// Yields the segments of one super-packet, as headers written out and the payload's place in it.
#[derive(Debug)]
pub struct Segmenter<'a> {
    packet: &'a [u8],
    udp: bool,
    v6: bool,
    /// Where the transport header begins.
    l4: usize,
    /// Where the payload begins.
    headers: usize,
    size: usize,
    /// Where the next segment's payload begins.
    at: usize,
    /// Sum of the IPv4 header without its length, identification and checksum.
    ip_sum: u64,
    /// Sum of pseudo-header and transport header without what differs from segment to segment.
    l4_sum: u64,
    first_id: u16,
    first_sequence: u32,
    flags: u8,
}

impl<'a> Segmenter<'a> {
    /// Prepares to cut `packet`, an IP packet that [`packet::parse`] accepted, as `vnet` says.
    ///
    /// # Errors
    /// `BadOffload` where the two do not fit each other.
    pub fn new(packet: &'a [u8], vnet: &VnetHdr) -> Result<Self, DropReason> {
        let v6 = packet[0] >> 4 == 6;
        let udp = vnet.gso == Gso::Udp;
        let kind_fits = match vnet.gso {
            Gso::TcpV4 => !v6,
            Gso::TcpV6 => v6,
            Gso::Udp => true,
            Gso::None => false,
        };
        let l4 = usize::from(vnet.csum_start);
        let ip_len = if v6 {
            40
        } else {
            usize::from(packet[0] & 0xf) * 4
        };
        let fixed = if udp { 8 } else { 20 };
        if !kind_fits || vnet.gso_size == 0 || l4 < ip_len || l4 + fixed > packet.len() {
            return Err(DropReason::BadOffload);
        }
        let l4_len = if udp {
            8
        } else {
            usize::from(packet[l4 + 12] >> 4) * 4
        };
        let headers = l4 + l4_len;
        if l4_len < fixed || headers >= packet.len() || headers > MAX_HEADERS {
            return Err(DropReason::BadOffload);
        }

        let mut scratch = [0u8; MAX_HEADERS];
        scratch[..headers].copy_from_slice(&packet[..headers]);
        let flags = if udp { 0 } else { scratch[l4 + 13] };
        if udp {
            scratch[l4 + 4..l4 + 8].fill(0);
        } else {
            scratch[l4 + 4..l4 + 8].fill(0);
            scratch[l4 + 13] = 0;
            scratch[l4 + 16..l4 + 18].fill(0);
        }
        let protocol = if udp { packet::UDP } else { packet::TCP };
        let l4_sum = checksum::pseudo_header(packet::address_bytes(packet), protocol, 0)
            + checksum::sum(&scratch[l4..headers]);
        scratch[2..6].fill(0);
        scratch[10..12].fill(0);
        let ip_sum = if v6 {
            0
        } else {
            checksum::sum(&scratch[..ip_len])
        };

        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        Ok(Self {
            packet,
            udp,
            v6,
            l4,
            headers,
            size: usize::from(vnet.gso_size),
            at: headers,
            ip_sum,
            l4_sum,
            first_id: word(4),
            first_sequence: u32::from(word(l4 + 4)) << 16 | u32::from(word(l4 + 6)),
            flags,
        })
    }

    /// Bytes of the longest segment, headers included.
    pub fn longest(&self) -> usize {
        self.headers + self.size.min(self.packet.len() - self.headers)
    }

    /// Goes on after a payload that ended at `at`, as [`Self::next`] gave it.
    pub fn skip_to(&mut self, at: usize) {
        self.at = self.at.max(at).min(self.packet.len());
    }

    /// Bytes of each segment's headers.
    pub fn header_len(&self) -> usize {
        self.headers
    }

    /// Writes the next segment's headers to the front of `out`, which must hold [`Self::header_len`]
    /// bytes, and gives its payload's place in the super-packet.
    #[inline]
    pub fn next(&mut self, out: &mut [u8]) -> Option<Range<usize>> {
        let end = (self.at + self.size).min(self.packet.len());
        if self.at == end {
            return None;
        }
        let payload = self.at..end;
        let out = &mut out[..self.headers];
        out.copy_from_slice(&self.packet[..self.headers]);
        let length = self.headers + payload.len();
        if self.v6 {
            out[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        } else {
            self.finish_ipv4(out, length);
        }
        let body = checksum::sum(&self.packet[payload.clone()]);
        let l4_len = (length - self.l4) as u16;
        let sum = self.l4_sum + body + u64::from(u16::from_ne_bytes(l4_len.to_be_bytes()));
        if self.udp {
            self.finish_udp(out, sum, l4_len);
        } else {
            self.finish_tcp(out, sum, &payload);
        }
        self.at = end;
        Some(payload)
    }

    fn finish_ipv4(&self, out: &mut [u8], length: usize) {
        let index = (self.at - self.headers) / self.size;
        let total = (length as u16).to_be_bytes();
        let id = self.first_id.wrapping_add(index as u16).to_be_bytes();
        let sum =
            self.ip_sum + u64::from(u16::from_ne_bytes(total)) + u64::from(u16::from_ne_bytes(id));
        out[2..4].copy_from_slice(&total);
        out[4..6].copy_from_slice(&id);
        out[10..12].copy_from_slice(&checksum::finish(sum));
    }

    fn finish_tcp(&self, out: &mut [u8], sum: u64, payload: &Range<usize>) {
        let sequence = self
            .first_sequence
            .wrapping_add((payload.start - self.headers) as u32)
            .to_be_bytes();
        let mut flags = self.flags;
        if payload.end != self.packet.len() {
            flags &= !(TCP_FIN | TCP_PSH);
        }
        if payload.start != self.headers {
            flags &= !TCP_CWR;
        }
        let sum = sum
            + u64::from(u32::from_ne_bytes(sequence))
            + u64::from(u16::from_ne_bytes([0, flags]));
        let tcp = &mut out[self.l4..];
        tcp[4..8].copy_from_slice(&sequence);
        tcp[13] = flags;
        tcp[16..18].copy_from_slice(&checksum::finish(sum));
    }

    fn finish_udp(&self, out: &mut [u8], sum: u64, l4_len: u16) {
        let udp = &mut out[self.l4..];
        udp[4..6].copy_from_slice(&l4_len.to_be_bytes());
        // The length is summed twice: in the pseudo-header and in the header.
        let mut check = checksum::finish(sum + u64::from(u16::from_ne_bytes(l4_len.to_be_bytes())));
        if check == [0, 0] {
            check = [0xff, 0xff];
        }
        udp[6..8].copy_from_slice(&check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn cut(packet: &[u8], vnet: &VnetHdr) -> Vec<Vec<u8>> {
        let mut segmenter = Segmenter::new(packet, vnet).expect("fits");
        let mut header = [0u8; MAX_HEADERS];
        let mut segments = Vec::new();
        while let Some(payload) = segmenter.next(&mut header) {
            let mut segment = header[..segmenter.header_len()].to_vec();
            segment.extend(&packet[payload]);
            segments.push(segment);
        }
        segments
    }

    fn vnet(gso: Gso, l4: usize, size: u16) -> VnetHdr {
        let csum_offset = if gso == Gso::Udp { 6 } else { 16 };
        VnetHdr {
            needs_csum: true,
            gso,
            hdr_len: 0,
            gso_size: size,
            csum_start: l4 as u16,
            csum_offset,
        }
    }

    /// Every segment built on its own, with flags, sequence and identification of its place.
    fn tcp_reference(
        v6: bool,
        sequence: u32,
        id: u16,
        flags: u8,
        payload: &[u8],
        size: usize,
    ) -> Vec<Vec<u8>> {
        let count = payload.chunks(size).count();
        payload
            .chunks(size)
            .enumerate()
            .map(|(i, chunk)| {
                let mut own = flags;
                if i + 1 != count {
                    own &= !(TCP_FIN | TCP_PSH);
                }
                if i != 0 {
                    own &= !TCP_CWR;
                }
                let sequence = sequence.wrapping_add((i * size) as u32);
                if v6 {
                    return testing::tcp_v6([7; 16], [9; 16], sequence, own, chunk);
                }
                let mut packet =
                    testing::tcp_v4([10, 1, 2, 3], [10, 1, 3, 4], sequence, own, chunk);
                packet[4..6].copy_from_slice(&id.wrapping_add(i as u16).to_be_bytes());
                testing::fix_ipv4_checksum(&mut packet);
                packet
            })
            .collect()
    }

    proptest! {
        #[test]
        fn tcp_equals_the_reference(
            v6: bool, sequence: u32, id: u16, flags: u8, size in 1u16..1500,
            payload in proptest::collection::vec(any::<u8>(), 1..6000),
        ) {
            let size_long = usize::from(size);
            let (packet, header) = if v6 {
                (testing::tcp_v6([7; 16], [9; 16], sequence, flags, &payload), vnet(Gso::TcpV6, 40, size))
            } else {
                let mut packet = testing::tcp_v4([10, 1, 2, 3], [10, 1, 3, 4], sequence, flags, &payload);
                packet[4..6].copy_from_slice(&id.to_be_bytes());
                (packet, vnet(Gso::TcpV4, 20, size))
            };
            prop_assert_eq!(cut(&packet, &header), tcp_reference(v6, sequence, id, flags, &payload, size_long));
        }

        #[test]
        fn udp_segments_are_whole_datagrams(
            v6: bool, size in 1u16..1500, payload in proptest::collection::vec(any::<u8>(), 1..6000),
        ) {
            let l4 = if v6 { 40 } else { 20 };
            let packet = if v6 {
                testing::udp_v6([7; 16], [9; 16], &payload)
            } else {
                testing::udp_v4([10, 1, 2, 3], [10, 1, 3, 4], &payload)
            };
            let segments = cut(&packet, &vnet(Gso::Udp, l4, size));
            let mut joined: Vec<u8> = Vec::new();
            for segment in &segments {
                let header = packet::parse(segment).expect("an IP packet");
                prop_assert_eq!(header.len, l4);
                prop_assert!(v6 || checksum::fold(checksum::sum(&segment[..20])) == 0xffff);
                let length = usize::from(u16::from_be_bytes([segment[l4 + 4], segment[l4 + 5]]));
                prop_assert_eq!(length, segment.len() - l4);
                prop_assert!(testing::l4_checksum_is_right(segment, l4, 17));
                prop_assert!(segment[l4 + 6..l4 + 8] != [0, 0]);
                joined.extend(&segment[l4 + 8..]);
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn partial_checksum_is_completed(payload in proptest::collection::vec(any::<u8>(), 0..2000), v6: bool) {
            let l4 = if v6 { 40 } else { 20 };
            let wanted = if v6 {
                testing::tcp_v6([7; 16], [9; 16], 5, 0x10, &payload)
            } else {
                testing::tcp_v4([10, 1, 2, 3], [10, 1, 3, 4], 5, 0x10, &payload)
            };
            let mut packet = wanted.clone();
            let pseudo = checksum::pseudo_header(packet::address_bytes(&packet), 6, packet.len() - l4);
            packet[l4 + 16..l4 + 18].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
            complete_checksum(&mut packet, &VnetHdr { gso: Gso::None, ..vnet(Gso::TcpV4, l4, 0) }).expect("fits");
            prop_assert!(testing::l4_checksum_is_right(&packet, l4, 6));
        }

        #[test]
        fn any_offload_header_is_safe(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0u16..300, offset in 0u16..300,
            size: u16, kind in 0usize..4,
        ) {
            let gso = [Gso::TcpV4, Gso::TcpV6, Gso::Udp, Gso::None][kind];
            let header = VnetHdr { needs_csum: true, gso, hdr_len: 0, gso_size: size, csum_start: start, csum_offset: offset };
            if packet::parse(&bytes).is_ok() {
                let mut out = [0u8; MAX_HEADERS];
                if let Ok(mut segmenter) = Segmenter::new(&bytes, &header) {
                    while segmenter.next(&mut out).is_some() {}
                }
                // A refused offload header is an answer, too: what must not happen is a panic.
                let _refused = complete_checksum(&mut bytes.clone(), &header);
            }
        }
    }
}
