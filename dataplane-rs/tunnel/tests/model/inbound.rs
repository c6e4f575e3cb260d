//! UDP to TUN: datagrams of several flows, in batches.

use std::sync::LazyLock;

use tunnel::admit::{self, LocalSubnets};
use tunnel::coalesce::{Coalescer, Joins};
use tunnel::vnet::{Gso, VnetHdr};
use tunnel::{Peer, PeerTable};

use super::generate::{Generator, Nets, Source};
use super::{
    addresses, class, cut, essence, fix_checksums, is_v6, ordered, set_class, sum, ttl_at,
};

static TABLE: LazyLock<PeerTable> = LazyLock::new(|| {
    let peer = Peer {
        endpoint: ([192, 0, 2, 1], 8285).into(),
        subnets: vec![
            "10.1.3.0/24".parse().expect("subnet"),
            "fd00:3::/64".parse().expect("subnet"),
        ],
    };
    PeerTable::build(&[peer], None, 1)
});

static LOCAL: LazyLock<LocalSubnets> = LazyLock::new(|| {
    LocalSubnets::new(&[
        "10.1.2.0/23".parse().expect("subnet"),
        "10.1.5.0/24".parse().expect("subnet"),
        "fd00:2::/64".parse().expect("subnet"),
        "fd00:5::/64".parse().expect("subnet"),
    ])
});

/// What is to become of a packet in a datagram of class `outer`; none where it is to be dropped.
fn expected(packet: &[u8], outer: u8) -> Option<Vec<u8>> {
    let first = *packet.first()?;
    let length = |at: usize| {
        Some(usize::from(u16::from_be_bytes([
            *packet.get(at)?,
            packet[at + 1],
        ])))
    };
    match first >> 4 {
        4 => {
            let header = usize::from(first & 0xf) * 4;
            let fits = packet.len() >= 20 && header >= 20 && header <= packet.len();
            if !fits || length(2)? != packet.len() {
                return None;
            }
            let [from, to] = [&packet[12..16], &packet[16..20]];
            let ours = [2, 3, 5].contains(&to[2]) && to[..2] == [10, 1];
            // The last addresses of 10.1.3.0/24, of 10.1.2.0/23 and of 10.1.5.0/24.
            let broadcast = from[3] == 255 || (to[3] == 255 && to[2] != 2);
            if from[..3] != [10, 1, 3] || !ours || broadcast {
                return None;
            }
        }
        6 => {
            if packet.len() < 40 || length(4)? + 40 != packet.len() {
                return None;
            }
            let from = &packet[8..16];
            let to = &packet[24..32];
            let net = |number| [0xfd, 0, 0, number, 0, 0, 0, 0];
            if from != net(3) || (to != net(2) && to != net(5)) {
                return None;
            }
        }
        _ => return None,
    }
    // RFC 6040, figure 4.
    let inner = class(packet);
    let ecn = match (inner & 3, outer & 3) {
        (0, 3) => return None,
        (0, _) => 0,
        (_, 3) => 3,
        (2, 1) => 1,
        (own, _) => own,
    };
    if packet[ttl_at(packet)] < 2 {
        return None;
    }
    let was_right = essence(packet).header_is_right;
    let mut after = packet.to_vec();
    after[ttl_at(packet)] -= 1;
    set_class(&mut after, inner & 0xfc | ecn);
    if !is_v6(packet) {
        let end = usize::from(after[0] & 0xf) * 4;
        after[10..12].fill(0);
        let check = !sum(&[&after[..end]]);
        // A wrong one may be wrong in another way, but not right.
        let check = if was_right { check } else { check ^ 1 };
        after[10..12].copy_from_slice(&check.to_be_bytes());
    }
    Some(after)
}

/// What the kernel gets of one write.
fn received(vnet: &VnetHdr, bytes: &[u8], packets: usize) -> Vec<Vec<u8>> {
    if vnet.gso == Gso::None {
        assert_eq!(packets, 1);
        assert_eq!(*vnet, VnetHdr::PLAIN);
        return vec![bytes.to_vec()];
    }
    let (udp, l4) = (vnet.gso == Gso::Udp, usize::from(vnet.csum_start));
    assert_eq!(l4, if is_v6(bytes) { 40 } else { 20 });
    assert!(vnet.needs_csum && packets > 1);
    // The kernel drops a super-packet whose header is wrong, and finishes the transport checksum.
    assert!(
        essence(bytes).header_is_right,
        "wrong header of a super-packet"
    );
    let mut whole = bytes.to_vec();
    fix_checksums(&mut whole);
    let at = l4 + if udp { 6 } else { 16 };
    assert_eq!(usize::from(vnet.csum_offset), at - l4);
    let pseudo = super::pseudo_header(
        bytes,
        if udp { super::UDP } else { super::TCP },
        bytes.len() - l4,
    );
    assert_eq!(
        bytes[at..at + 2],
        sum(&[&pseudo]).to_be_bytes(),
        "sum of the pseudo-header"
    );
    let segments = cut(&whole, l4, udp, vnet.gso_size.into());
    assert_eq!(segments.len(), packets);
    segments
}

/// The tunnel's side: what comes out of the writes of one batch after the other.
struct Path {
    arena: Vec<u8>,
    coalescer: Coalescer,
    out: Vec<Vec<u8>>,
}

impl Path {
    fn write_all(&mut self) {
        for index in 0..self.coalescer.len() {
            let vnet = self.coalescer.finish(index, &mut self.arena);
            let places = self.coalescer.places(index);
            let bytes: Vec<u8> = places
                .flat_map(|place| self.arena[place].to_vec())
                .collect();
            let packets = self.coalescer.packets(index);
            self.out.extend(received(&vnet, &bytes, packets));
        }
        self.coalescer.clear();
    }
}

/// Sends what `data` describes and compares.
///
/// # Panics
/// Where the tunnel does other than the model.
pub fn check(data: &[u8]) {
    let mut source = Source(data);
    let options = source.byte();
    let mut generator = Generator::new(Nets {
        from: 3,
        to: [2, 5],
    });
    let mut path = Path {
        arena: Vec::new(),
        coalescer: Coalescer::new(Joins {
            tcp: options & 1 == 0,
            udp: options & 2 == 0,
        }),
        out: Vec::new(),
    };
    let mut wanted: Vec<Vec<u8>> = Vec::new();
    while !source.is_empty() && wanted.len() < 200 {
        let outer = source.byte();
        if outer >> 2 == 0x3f {
            path.write_all(); // the batch ends
        }
        let packet = generator.packet(&mut source);
        let expected = expected(&packet, outer);
        let start = path.arena.len();
        path.arena.extend(&packet);
        let verdict = admit::inbound(&mut path.arena[start..], outer, 0, &TABLE, &LOCAL);
        assert_eq!(
            verdict.is_ok(),
            expected.is_some(),
            "{verdict:?} about {packet:?}"
        );
        let Some(expected) = expected else {
            assert_eq!(packet, path.arena[start..], "a refused packet was changed");
            continue;
        };
        assert_eq!(essence(&expected), essence(&path.arena[start..]));
        if path.coalescer.is_full() {
            path.write_all();
        }
        path.coalescer
            .push(&path.arena, start..start + packet.len());
        wanted.push(expected);
    }
    path.write_all();
    compare(&wanted, &path.out);
}

/// Every packet comes out once and as it was, and none overtakes another of its flow.
fn compare(wanted: &[Vec<u8>], got: &[Vec<u8>]) {
    assert_eq!(got.len(), wanted.len());
    let got: Vec<_> = got.iter().map(|packet| essence(packet)).collect();
    let mut taken = vec![false; got.len()];
    let places: Vec<usize> = wanted
        .iter()
        .map(|packet| {
            let essence = essence(packet);
            let place = (0..got.len())
                .find(|&place| !taken[place] && got[place] == essence)
                .unwrap_or_else(|| panic!("did not come out: {packet:?}"));
            taken[place] = true;
            place
        })
        .collect();
    for (later, packet) in wanted.iter().enumerate() {
        for (earlier, other) in wanted[..later].iter().enumerate() {
            assert!(
                places[earlier] < places[later] || !ordered(packet, other),
                "{later} overtook {earlier} from and to {:?}",
                addresses(packet)
            );
        }
    }
}
