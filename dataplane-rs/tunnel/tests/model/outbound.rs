//! TUN to UDP: packets and super-packets of several flows, gathered into messages.

use std::ops::Range;
use std::sync::LazyLock;

use tunnel::admit::{self, LocalSubnets};
use tunnel::segment::{MAX_HEADERS, Segmenter, complete_checksum};
use tunnel::send::{SEGMENTS, Sender, Way};
use tunnel::vnet::{Gso, VnetHdr};
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

/// The tunnel's side, as the worker's sending half does it.
struct Path {
    arena: Vec<u8>,
    sender: Sender,
    headers: usize,
    /// What left for each peer.
    out: [Vec<Vec<u8>>; 2],
}

impl Path {
    fn push(&mut self, way: Way, vnet: &VnetHdr, place: Range<usize>) {
        if vnet.gso == Gso::None {
            if vnet.needs_csum {
                complete_checksum(&mut self.arena[place.clone()], vnet).expect("fits");
            }
            if self.sender.is_full() {
                self.flush();
            }
            self.sender.push(way, 0..0, place);
            return;
        }
        let mut at = 0;
        loop {
            let (headers, packets) = self.arena.split_at_mut(HEADERS);
            let packet = place.start - HEADERS..place.end - HEADERS;
            let mut segmenter = Segmenter::new(&packets[packet], vnet).expect("was let through");
            segmenter.skip_to(at);
            let len = segmenter.header_len();
            while !self.sender.is_full() && self.headers + MAX_HEADERS <= HEADERS {
                let Some(payload) = segmenter.next(&mut headers[self.headers..]) else {
                    return;
                };
                at = payload.end;
                let header = self.headers..self.headers + len;
                self.headers += len;
                self.sender.push(
                    way,
                    header,
                    place.start + payload.start..place.start + payload.end,
                );
            }
            self.flush();
        }
    }

    /// Cuts the messages as the kernel does.
    fn flush(&mut self) {
        for message in self.sender.messages() {
            let bytes: Vec<u8> = message
                .pieces
                .iter()
                .flat_map(|piece| self.arena[piece.start as usize..piece.end as usize].to_vec())
                .collect();
            let datagrams: Vec<Vec<u8>> = bytes
                .chunks(message.size.max(1))
                .map(<[u8]>::to_vec)
                .collect();
            assert!(datagrams.len() <= SEGMENTS && bytes.len() <= LONGEST);
            assert!(message.way.gso || datagrams.len() == 1);
            for datagram in &datagrams {
                assert_eq!(class(datagram), message.way.class, "class of {datagram:?}");
            }
            self.out[message.way.peer as usize].extend(datagrams);
        }
        self.sender.clear();
        self.headers = 0;
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
        arena: vec![0; HEADERS],
        sender: Sender::new(),
        headers: 0,
        out: Default::default(),
    };
    let mut wanted: [Vec<Vec<u8>>; 2] = Default::default();
    while !source.is_empty() && path.arena.len() < 256 << 10 {
        if source.byte() > 250 {
            path.flush();
        }
        let (vnet, packet) = read(&mut generator, &mut source);
        let start = path.arena.len();
        path.arena.extend(&packet);
        let Ok(peer) = admit::outbound(&mut path.arena[start..], &vnet, &TABLE, &LOCAL, MTU) else {
            assert_eq!(packet, path.arena[start..], "a refused packet was changed");
            continue;
        };
        wanted[peer as usize].extend(expected(&vnet, &packet));
        let way = Way {
            peer,
            v6: false,
            class: ecn::class(&path.arena[start..]),
            gso,
        };
        path.push(way, &vnet, start..start + packet.len());
    }
    path.flush();
    for (peer, wanted) in wanted.iter().enumerate() {
        let got: Vec<_> = path.out[peer]
            .iter()
            .map(|packet| essence(packet))
            .collect();
        let wanted: Vec<_> = wanted.iter().map(|packet| essence(packet)).collect();
        assert_eq!(got.len(), wanted.len(), "datagrams to peer {peer}");
        for (got, wanted) in got.iter().zip(&wanted) {
            assert_eq!(got, wanted);
        }
    }
}
