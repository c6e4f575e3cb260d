//! Joins inner packets of one flow into super-packets for one write to the TUN device.
//!
//! A packet joins the newest item of its flow or starts a new one, so that a flow's packets keep their order.
//! Where a packet's ports cannot be told (fragments, IP options, extension headers, other protocols), it may
//! be of any flow between its two hosts, and nothing joins their items any more.
//!
//! What joins would come out of the kernel's segmentation as it went in: same headers but for length,
//! sequence and identification, same payload length but for the last. A joined packet's checksums, the IPv4
//! header's and the transport's, were verified, since segmentation writes them anew; a packet alone is left
//! to the kernel.

use std::ops::Range;

use crate::checksum;
use crate::packet::{self, TCP, UDP};
use crate::vnet::{Gso, VnetHdr};

/// Packets of one super-packet at most (UDP_MAX_SEGMENTS of kernels before 6.8).
pub const MAX_SEGMENTS: usize = 64;
/// Items held at most before they must be written.
pub const MAX_ITEMS: usize = 64;

/// Bytes of a super-packet at most: the IPv4 header counts them in 16 bits.
const MAX_TOTAL: usize = 65_535;
const TCP_PSH: u8 = 0x08;
const TCP_ACK: u8 = 0x10;

/// What may be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joins {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams.
    pub udp: bool,
}

/// A packet that may join others.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    protocol: u8,
    l4: usize,
    headers: usize,
    payload: usize,
}

/// What a packet's headers say of its flow.
enum Flow {
    /// Ports and addresses as a hash other than [`NO_FLOW`] and, where the packet may join others, how.
    Known(u32, Option<Candidate>),
    /// Of a protocol whose packets are never joined here, so that it cannot be overtaken.
    Apart,
    /// Without ports in their usual place: it may be of any flow between its hosts.
    Unknown,
}

/// The hash of items that nothing looks for.
const NO_FLOW: u32 = 0;

/// One write to the TUN device: the first packet and the payloads that joined it, as places in the arena.
#[derive(Debug, Clone)]
struct Item {
    hash: u32,
    candidate: Option<Candidate>,
    /// No more may join: a shorter packet or PSH ended it.
    closed: bool,
    /// The first packet's checksums were verified.
    verified: bool,
    /// The last one had PSH.
    push: bool,
    total: usize,
    next_sequence: u32,
    first: Range<usize>,
    joined: usize,
    payloads: [(u32, u16); MAX_SEGMENTS - 1],
}

impl Item {
    const EMPTY: Self = Self {
        hash: 0,
        candidate: None,
        closed: true,
        verified: false,
        push: false,
        total: 0,
        next_sequence: 0,
        first: 0..0,
        joined: 0,
        payloads: [(0, 0); MAX_SEGMENTS - 1],
    };
}

/// Collects packets of one receive batch. All packets lie in one arena and are named by their place in it.
#[derive(Debug)]
pub struct Coalescer {
    joins: Joins,
    items: Box<[Item]>,
    used: usize,
}

impl Coalescer {
    /// An empty collection; its memory is allocated here once.
    pub fn new(joins: Joins) -> Self {
        Self {
            joins,
            items: vec![Item::EMPTY; MAX_ITEMS].into_boxed_slice(),
            used: 0,
        }
    }

    /// Changes what may be joined from the next packet on.
    pub fn set_joins(&mut self, joins: Joins) {
        self.joins = joins;
    }

    /// What may be joined.
    pub fn joins(&self) -> Joins {
        self.joins
    }

    /// No item has room for another packet: write them and [`Self::clear`].
    #[inline]
    pub fn is_full(&self) -> bool {
        self.used == self.items.len()
    }

    /// Items to be written.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Forgets all items.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Takes the IP packet at `place`, which [`packet::parse`] accepted. The collection must not be full.
    #[inline]
    pub fn push(&mut self, arena: &[u8], place: Range<usize>) {
        let bytes = &arena[place.clone()];
        let (hash, candidate) = match self.flow(bytes) {
            Flow::Known(hash, candidate) => (hash, candidate),
            Flow::Apart => (NO_FLOW, None),
            Flow::Unknown => {
                self.close_between(arena, packet::address_bytes(bytes));
                (NO_FLOW, None)
            }
        };
        if let Some(candidate) = candidate
            && let Some(index) = self.items[..self.used]
                .iter()
                .rposition(|item| item.hash == hash)
            && self.join(index, arena, place.start, bytes, candidate)
        {
            return;
        }
        let item = &mut self.items[self.used];
        self.used += 1;
        item.hash = hash;
        item.candidate = candidate;
        item.verified = false;
        item.push = candidate.is_some_and(|c| has_push(bytes, &c));
        item.closed = candidate.is_none() || item.push;
        item.total = bytes.len();
        item.next_sequence = candidate.map_or(0, |c| next_sequence(bytes, &c));
        item.first = place;
        item.joined = 0;
    }

    /// Lets nothing join the items of packets from the one address to the other any more.
    fn close_between(&mut self, arena: &[u8], addresses: &[u8]) {
        for item in &mut self.items[..self.used] {
            item.closed |= packet::address_bytes(&arena[item.first.clone()]) == addresses;
        }
    }

    /// Finishes item `index` for its write: the first packet's headers are made to speak for all, and the
    /// offload header is given.
    #[inline]
    pub fn finish(&self, index: usize, arena: &mut [u8]) -> VnetHdr {
        let item = &self.items[index];
        let Some(candidate) = item.candidate.filter(|_| item.joined > 0) else {
            return VnetHdr::PLAIN;
        };
        let first = &mut arena[item.first.clone()];
        let v6 = first[0] >> 4 == 6;
        let l4_len = item.total - candidate.l4;
        if v6 {
            first[4..6].copy_from_slice(&((item.total - 40) as u16).to_be_bytes());
        } else {
            let old = [first[2], first[3]];
            let new = (item.total as u16).to_be_bytes();
            first[2..4].copy_from_slice(&new);
            let check = checksum::update([first[10], first[11]], old, new);
            first[10..12].copy_from_slice(&check);
        }
        let pseudo =
            checksum::pseudo_header(packet::address_bytes(first), candidate.protocol, l4_len);
        let pseudo = checksum::fold(pseudo).to_ne_bytes();
        let l4 = &mut first[candidate.l4..];
        let (gso, csum_offset) = if candidate.protocol == UDP {
            l4[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
            (Gso::Udp, 6)
        } else {
            if item.push {
                l4[13] |= TCP_PSH;
            }
            (if v6 { Gso::TcpV6 } else { Gso::TcpV4 }, 16)
        };
        l4[csum_offset..csum_offset + 2].copy_from_slice(&pseudo);
        VnetHdr {
            needs_csum: true,
            gso,
            hdr_len: candidate.headers as u16,
            gso_size: candidate.payload as u16,
            csum_start: candidate.l4 as u16,
            csum_offset: csum_offset as u16,
        }
    }

    /// The places of item `index`: the first packet, then the payloads that joined it.
    #[inline]
    pub fn places(&self, index: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let item = &self.items[index];
        std::iter::once(item.first.clone()).chain(
            item.payloads[..item.joined]
                .iter()
                .map(|&(at, len)| at as usize..at as usize + usize::from(len)),
        )
    }

    /// Packets in item `index`.
    pub fn packets(&self, index: usize) -> usize {
        self.items[index].joined + 1
    }

    #[inline]
    fn join(
        &mut self,
        index: usize,
        arena: &[u8],
        start: usize,
        bytes: &[u8],
        candidate: Candidate,
    ) -> bool {
        let item = &mut self.items[index];
        let Some(own) = item.candidate.filter(|_| !item.closed) else {
            return false;
        };
        let first = &arena[item.first.clone()];
        if item.joined == item.payloads.len()
            || candidate.payload > own.payload
            || item.total + candidate.payload > MAX_TOTAL
            || !same_headers(first, bytes, &own, &candidate, item.joined as u16 + 1)
            || (candidate.protocol == TCP && sequence(bytes, candidate.l4) != item.next_sequence)
            || !(item.verified || is_right(first, &own))
            || !is_right(bytes, &candidate)
        {
            return false;
        }
        item.verified = true;
        item.payloads[item.joined] = ((start + candidate.headers) as u32, candidate.payload as u16);
        item.joined += 1;
        item.total += candidate.payload;
        item.push = has_push(bytes, &candidate);
        item.next_sequence = next_sequence(bytes, &candidate);
        item.closed = candidate.payload < own.payload || item.push;
        true
    }

    /// Finds a packet's flow.
    #[inline]
    fn flow(&self, bytes: &[u8]) -> Flow {
        let v6 = bytes[0] >> 4 == 6;
        let (protocol, l4) = if v6 { (bytes[6], 40) } else { (bytes[9], 20) };
        let fragment = !v6 && u16::from_be_bytes([bytes[6], bytes[7]]) & 0x3fff != 0;
        let has_ports = protocol == TCP || protocol == UDP;
        if !has_ports || fragment || (!v6 && bytes[0] != 0x45) || bytes.len() < l4 + 8 {
            return Flow::Unknown;
        }
        let wanted = if protocol == TCP {
            self.joins.tcp
        } else {
            self.joins.udp
        };
        if !wanted {
            return Flow::Apart;
        }
        let key = flow_key(bytes, l4);
        let hash = key.chunks_exact(4).fold(u32::from(protocol), |hash, word| {
            (hash.rotate_left(5) ^ u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
                .wrapping_mul(0x9e37_79b1)
        }) | 1;
        let candidate = if protocol == TCP {
            tcp_candidate(bytes, l4)
        } else {
            udp_candidate(bytes, l4)
        };
        Flow::Known(hash, candidate)
    }
}

/// Addresses and ports: they stand together at the IP header's end and the transport's front.
#[inline]
fn flow_key(bytes: &[u8], l4: usize) -> &[u8] {
    if l4 == 40 {
        &bytes[8..44]
    } else {
        &bytes[12..24]
    }
}

#[inline]
fn tcp_candidate(bytes: &[u8], l4: usize) -> Option<Candidate> {
    let tcp: &[u8; 20] = bytes[l4..].first_chunk()?;
    let headers = l4 + usize::from(tcp[12] >> 4) * 4;
    let plain = tcp[12] & 0x0f == 0 && tcp[13] & !TCP_PSH == TCP_ACK;
    if !plain || headers < l4 + 20 || headers >= bytes.len() {
        return None;
    }
    Some(Candidate {
        protocol: TCP,
        l4,
        headers,
        payload: bytes.len() - headers,
    })
}

#[inline]
fn udp_candidate(bytes: &[u8], l4: usize) -> Option<Candidate> {
    let udp: &[u8; 8] = bytes[l4..].first_chunk()?;
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if length != bytes.len() - l4 || length == 8 || udp[6..8] == [0, 0] {
        return None;
    }
    Some(Candidate {
        protocol: UDP,
        l4,
        headers: l4 + 8,
        payload: length - 8,
    })
}

#[inline]
fn sequence(bytes: &[u8], l4: usize) -> u32 {
    u32::from_be_bytes([bytes[l4 + 4], bytes[l4 + 5], bytes[l4 + 6], bytes[l4 + 7]])
}

#[inline]
fn next_sequence(bytes: &[u8], candidate: &Candidate) -> u32 {
    if candidate.protocol == UDP {
        return 0;
    }
    sequence(bytes, candidate.l4).wrapping_add(candidate.payload as u32)
}

#[inline]
fn has_push(bytes: &[u8], candidate: &Candidate) -> bool {
    candidate.protocol == TCP && bytes[candidate.l4 + 13] & TCP_PSH != 0
}

/// Headers that differ only where segmentation makes them differ. `index` is the packet's place after the
/// first.
#[inline]
fn same_headers(first: &[u8], next: &[u8], own: &Candidate, other: &Candidate, index: u16) -> bool {
    let l4 = own.l4;
    if own.protocol != other.protocol || l4 != other.l4 || own.headers != other.headers {
        return false;
    }
    let same_ip = if l4 == 40 {
        // Version, traffic class and flow label; hop limit.
        first[..4] == next[..4] && first[7] == next[7]
    } else {
        let id = |bytes: &[u8]| u16::from_be_bytes([bytes[4], bytes[5]]);
        let atomic = first[6] & 0x40 != 0;
        // Type of service; DF; TTL. Segmentation counts the identification up, which only matters to a
        // packet that may be fragmented (RFC 6864).
        first[1] == next[1]
            && first[6] == next[6]
            && first[8] == next[8]
            && (atomic || id(next) == id(first).wrapping_add(index))
    };
    if !same_ip || flow_key(first, l4) != flow_key(next, l4) {
        return false;
    }
    own.protocol == UDP
        // Acknowledgement; window; urgent pointer and options.
        || (first[l4 + 8..l4 + 12] == next[l4 + 8..l4 + 12]
            && first[l4 + 14..l4 + 16] == next[l4 + 14..l4 + 16]
            && first[l4 + 18..own.headers] == next[l4 + 18..own.headers])
}

/// The IPv4 header's checksum, if there is one, and the transport's are right.
#[inline]
fn is_right(bytes: &[u8], candidate: &Candidate) -> bool {
    if !packet::header_is_right(bytes) {
        return false;
    }
    let l4 = &bytes[candidate.l4..];
    let pseudo =
        checksum::pseudo_header(packet::address_bytes(bytes), candidate.protocol, l4.len());
    checksum::fold(pseudo + checksum::sum(l4)) == 0xffff
}

#[cfg(test)]
#[path = "coalesce_test.rs"]
mod tests;
