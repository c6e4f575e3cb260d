//! The receive path: datagrams of a message are checked, joined and finished for the TUN device.
//!
//! Input: a byte of options, the datagrams' traffic class, 16 bits of segment size, then the message.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tunnel::admit::{self, LocalSubnets};
use tunnel::coalesce::{Coalescer, Joins};
use tunnel::packet::{self, Addresses};
use tunnel::segment::{MAX_HEADERS, Segmenter};
use tunnel::vnet::Gso;
use tunnel::{Peer, PeerTable, checksum, ecn};

static TABLE: LazyLock<PeerTable> = LazyLock::new(|| {
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
});

static LOCAL: LazyLock<LocalSubnets> = LazyLock::new(|| {
    LocalSubnets::new(&[
        "10.1.2.0/24".parse().expect("subnet"),
        "fd00:2::/64".parse().expect("subnet"),
    ])
});

/// Makes addresses and checksums right, so that what is after those checks is reached, too.
fn mend(bytes: &mut [u8]) {
    let v6 = bytes.first().is_some_and(|first| first >> 4 == 6);
    let l4 = if v6 { 40 } else { 20 };
    if bytes.len() < l4 + 20 {
        return;
    }
    if v6 {
        let length = ((bytes.len() - 40) as u16).to_be_bytes();
        bytes[4..6].copy_from_slice(&length);
        bytes[8..24].copy_from_slice(&(0xfd00_0003u128 << 96).to_be_bytes());
        bytes[24..40].copy_from_slice(&(0xfd00_0002u128 << 96).to_be_bytes());
    } else {
        bytes[0] = 0x45;
        let total = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&total);
        bytes[12..20].copy_from_slice(&[10, 1, 3, 1, 10, 1, 2, 1]);
        bytes[10..12].fill(0);
        let check = checksum::finish(checksum::sum(&bytes[..20]));
        bytes[10..12].copy_from_slice(&check);
    }
    let protocol = if v6 { bytes[6] } else { bytes[9] };
    let at = match protocol {
        packet::TCP => l4 + 16,
        packet::UDP => {
            let length = ((bytes.len() - l4) as u16).to_be_bytes();
            bytes[l4 + 4..l4 + 6].copy_from_slice(&length);
            l4 + 6
        }
        _ => return,
    };
    bytes[at..at + 2].fill(0);
    let length = bytes.len() - l4;
    let sum = checksum::pseudo_header(packet::address_bytes(bytes), protocol, length)
        + checksum::sum(&bytes[l4..]);
    bytes[at..at + 2].copy_from_slice(&checksum::finish(sum));
}

fuzz_target!(|data: &[u8]| {
    let Some((&[options, class, high, low], message)) = data.split_first_chunk() else {
        return;
    };
    let stride = usize::from(u16::from_be_bytes([high, low])).max(1);
    let mut arena = message.to_vec();
    let mut coalescer = Coalescer::new(Joins {
        tcp: options & 1 == 0,
        udp: options & 2 == 0,
    });
    let (mut start, mut passed) = (0, 0);
    while start < arena.len() && !coalescer.is_full() {
        let place = start..(start + stride).min(arena.len());
        start = place.end;
        let bytes = &mut arena[place.clone()];
        if options & 4 != 0 {
            mend(bytes);
        }
        let before = bytes.to_vec();
        if admit::inbound(bytes, class, 0, &TABLE, &LOCAL).is_err() {
            assert_eq!(before, bytes, "a refused packet was changed");
            continue;
        }
        let header = packet::parse(bytes).expect("what passes is an IP packet");
        match header.addresses {
            Addresses::V4(from, to) => {
                assert!(from >> 8 == 0x000a_0103 && to >> 8 == 0x000a_0102);
                assert!(from & 0xff != 0xff && to & 0xff != 0xff);
            }
            Addresses::V6(from, to) => {
                assert!(from >> 64 == 0xfd00_0003_0000_0000 && to >> 64 == 0xfd00_0002_0000_0000);
            }
        }
        assert!(header.ttl >= 1);
        let (old, new) = (ecn::class(&before), ecn::class(bytes));
        assert_eq!(Some(new & 3), ecn::decapsulated(old, class));
        assert_eq!(old >> 2, new >> 2, "the DSCP was changed");
        assert_eq!(
            packet::header_is_right(&before),
            packet::header_is_right(bytes)
        );
        passed += 1;
        coalescer.push(&arena, place);
    }
    let mut written = 0;
    for index in 0..coalescer.len() {
        let vnet = coalescer.finish(index, &mut arena);
        let bytes: Vec<u8> = coalescer
            .places(index)
            .flat_map(|place| arena[place].to_vec())
            .collect();
        packet::parse(&bytes).expect("what is written is an IP packet");
        let packets = coalescer.packets(index);
        written += packets;
        if packets == 1 {
            assert_eq!(vnet.gso, Gso::None);
            continue;
        }
        // The kernel cuts it into as many as were joined.
        let mut segmenter = Segmenter::new(&bytes, &vnet).expect("a super-packet can be cut");
        let mut headers = [0; MAX_HEADERS];
        let mut segments = 0;
        while segmenter.next(&mut headers).is_some() {
            segments += 1;
        }
        assert_eq!(segments, packets);
    }
    assert_eq!(written, passed);
});
