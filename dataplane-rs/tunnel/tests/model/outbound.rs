//! TUN to UDP: packets and super-packets of several flows, gathered into messages.

use std::ops::Range;
use std::sync::LazyLock;

use tunnel::admit::{self, LocalSubnets};
use tunnel::gather::{Gather, READ_LEN};
use tunnel::segment::MAX_HEADERS;
use tunnel::send::{SEGMENTS, Way};
use tunnel::vnet::{Gso, VNET_HDR_LEN, VnetHdr};
use tunnel::{Peer, PeerTable, ecn};

use super::generate::{Generator, Nets, Source};
use super::{
    TCP, UDP, class, cut, essence, fix_checksums, is_v6, pseudo_header, sum, transport, ttl_at,
};

const MTU: u16 = 1472;
/// Room for headers of segments, small so that it runs out.
const HEADERS: usize = 32 * MAX_HEADERS;
/// A message at most, as UDP carries it.
const LONGEST: usize = 65_507;

static TABLE: LazyLock<PeerTable> = LazyLock::new(|| {
    let peer = |last: u8, subnets: [&str; 2]| Peer {
        endpoint: ([192, 0, 2, last], 8285).into(),
        subnets: subnets
            .map(|subnet| subnet.parse().expect("subnet"))
            .to_vec(),
    };
    PeerTable::build(
        &[
            peer(1, ["10.1.2.0/24", "fd00:2::/64"]),
            peer(2, ["10.1.5.0/24", "fd00:5::/64"]),
        ],
        None,
        1,
    )
});

static LOCAL: LazyLock<LocalSubnets> =
    LazyLock::new(|| LocalSubnets::new(&["10.1.3.0/24".parse().expect("subnet")]));

/// A packet as the TUN device gives it: whole, with an unfinished checksum, or as a super-packet.
fn read(generator: &mut Generator, source: &mut Source) -> (VnetHdr, Vec<u8>) {
    let kind = source.byte();
    if kind < 128 {
        return (VnetHdr::PLAIN, generator.packet(source));
    }
    let (flow, size, len) = (source.byte(), source.byte(), source.byte());
    // Long ones that fill messages, short ones in very small segments.
    let (size, len) = if kind & 1 == 0 {
        (200 + usize::from(size) * 5, 1 + usize::from(len) * 240)
    } else {
        (1 + usize::from(size), 1 + usize::from(len) * 4)
    };
    let mut packet = generator.plain(flow, len);
    let (protocol, l4) = transport(&packet).expect("a plain packet");
    super::set_class(&mut packet, source.byte());
    let ttl = ttl_at(&packet);
    packet[ttl] = 64 - (kind & 1);
    if protocol == TCP {
        packet[l4 + 13] = source.byte();
    }
    fix_checksums(&mut packet);
    let offset = if protocol == UDP { 6 } else { 16 };
    let pseudo = pseudo_header(&packet, protocol, packet.len() - l4);
    packet[l4 + offset..l4 + offset + 2].copy_from_slice(&sum(&[&pseudo]).to_be_bytes());
    let gso = match (kind & 2, protocol, is_v6(&packet)) {
        (0, ..) => Gso::None,
        (_, UDP, _) => Gso::Udp,
        (_, _, false) => Gso::TcpV4,
        (_, _, true) => Gso::TcpV6,
    };
    let vnet = VnetHdr {
        needs_csum: true,
        gso,
        hdr_len: 0,
        gso_size: if gso == Gso::None { 0 } else { size as u16 },
        csum_start: l4 as u16,
        csum_offset: offset as u16,
    };
    (vnet, packet)
}

/// The datagrams that are to leave for a packet that was let through.
fn expected(vnet: &VnetHdr, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut after = packet.to_vec();
    after[ttl_at(packet)] -= 1;
    let was_right = essence(packet).header_is_right;
    if vnet.needs_csum {
        fix_checksums(&mut after);
    } else if !is_v6(packet) {
        let end = usize::from(after[0] & 0xf) * 4;
        after[10..12].fill(0);
        let check = !sum(&[&after[..end]]);
        let check = if was_right { check } else { check ^ 1 };
        after[10..12].copy_from_slice(&check.to_be_bytes());
    }
    if vnet.gso == Gso::None {
        return vec![after];
    }
    cut(
        &after,
        vnet.csum_start.into(),
        vnet.gso == Gso::Udp,
        vnet.gso_size.into(),
    )
}

/// Whether a packet is to be let through, and to which peer.
fn destination(vnet: &VnetHdr, packet: &[u8]) -> Option<usize> {
    let length = |at: usize| {
        Some(usize::from(u16::from_be_bytes([
            *packet.get(at)?,
            *packet.get(at + 1)?,
        ])))
    };
    let peer = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0xf) * 4;
            let fits = packet.len() >= 20 && header >= 20 && header <= packet.len();
            if !fits || length(2)? != packet.len() {
                return None;
            }
            // The last addresses of 10.1.3.0/24, ours, and of the peers' 10.1.2.0/24 and 10.1.5.0/24.
            let (from, to) = (&packet[12..16], &packet[16..20]);
            if from == [10, 1, 3, 255] || to[3] == 255 {
                return None;
            }
            [[10, 1, 2], [10, 1, 5]]
                .iter()
                .position(|net| to[..3] == *net)?
        }
        6 if packet.len() >= 40 && length(4)? + 40 == packet.len() => {
            let nets = [2, 5].map(|number| [0xfd, 0, 0, number, 0, 0, 0, 0]);
            nets.iter().position(|net| packet[24..32] == *net)?
        }
        _ => return None,
    };
    let size = match (vnet.gso, transport(packet)) {
        (Gso::None, _) => packet.len(),
        (Gso::Udp, Some((_, l4))) => (l4 + 8 + usize::from(vnet.gso_size)).min(packet.len()),
        (_, Some((_, l4))) => (l4 + 32 + usize::from(vnet.gso_size)).min(packet.len()),
        _ => return None,
    };
    let may_fragment = !is_v6(packet) && packet[6] & 0x40 == 0;
    let fits = size <= usize::from(MTU) || may_fragment;
    (fits && packet[ttl_at(packet)] > 1).then_some(peer)
}

/// The tunnel's side: what leaves for each peer.
struct Path {
    gather: Gather,
    out: [Vec<Vec<u8>>; 2],
}

impl Path {
    /// Reads a packet, its offload header before it.
    fn read(&mut self, vnet: &VnetHdr, packet: &[u8]) -> Range<usize> {
        let bytes = [&vnet.encode()[..], packet].concat();
        if self.gather.room().is_none() {
            self.flush();
            self.gather.forget_packets();
        }
        let room = self.gather.room().expect("room in an empty arena");
        room[..bytes.len()].copy_from_slice(&bytes);
        let place = self.gather.keep(bytes.len());
        place.start + VNET_HDR_LEN..place.end
    }

    fn send(&mut self, way: Way, vnet: &VnetHdr, place: Range<usize>) {
        let mut from = 0;
        let mut flushed = false;
        while let Some(rest) = self
            .gather
            .add(way, vnet, place.clone(), from)
            .expect("was let through")
        {
            assert!(rest > from || !flushed, "an empty batch takes nothing");
            self.flush();
            (from, flushed) = (rest, true);
        }
    }

    /// Cuts the messages as the kernel does.
    fn flush(&mut self) {
        for (message, bytes) in self.gather.messages() {
            let datagrams = bytes.chunks(message.size.max(1));
            assert!(datagrams.len() <= SEGMENTS && bytes.len() <= LONGEST);
            assert!(message.way.gso || datagrams.len() == 1);
            for datagram in datagrams {
                assert_eq!(class(datagram), message.way.class, "class of {datagram:?}");
                self.out[message.way.peer as usize].push(datagram.to_vec());
            }
        }
        self.gather.clear();
    }
}

/// Sends what `data` describes and compares.
///
/// # Panics
/// Where the tunnel does other than the model.
pub fn check(data: &[u8]) {
    let mut source = Source(data);
    let gso = source.byte() & 1 == 0;
    let mut generator = Generator::new(Nets {
        from: 3,
        to: [2, 5],
    });
    let mut path = Path {
        gather: Gather::new(3 * READ_LEN, HEADERS),
        out: Default::default(),
    };
    let mut wanted: [Vec<Vec<u8>>; 2] = Default::default();
    let mut bytes = 0;
    while !source.is_empty() && bytes < 256 << 10 {
        if source.byte() > 250 {
            path.flush(); // the batch ends
        }
        let (vnet, packet) = read(&mut generator, &mut source);
        bytes += packet.len();
        let place = path.read(&vnet, &packet);
        let taken = path.gather.bytes(place.clone());
        let verdict = admit::outbound(taken, &vnet, &TABLE, &LOCAL, MTU);
        let expected_peer = destination(&vnet, &packet);
        assert_eq!(
            verdict.ok().map(|peer| peer as usize),
            expected_peer,
            "{verdict:?} about {packet:?}"
        );
        let Some(peer) = expected_peer else {
            assert_eq!(packet, taken, "a refused packet was changed");
            continue;
        };
        let way = Way {
            peer: peer as u32,
            v6: false,
            class: ecn::class(taken),
            gso,
        };
        wanted[peer].extend(expected(&vnet, &packet));
        path.send(way, &vnet, place);
    }
    path.flush();
    for (peer, wanted) in wanted.iter().enumerate() {
        let got = &path.out[peer];
        assert_eq!(got.len(), wanted.len(), "datagrams to peer {peer}");
        for (got, wanted) in got.iter().zip(wanted) {
            assert_eq!(essence(got), essence(wanted));
        }
    }
}
