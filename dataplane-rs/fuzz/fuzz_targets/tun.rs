//! The path from the TUN device: a packet with its offload header is routed, cut and completed, or refused
//! with an ICMP error.
//!
//! Input: a byte of options, the offload header, then the packet.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tunnel::admit::LocalSubnets;
use tunnel::segment::{MAX_HEADERS, Segmenter, complete_checksum};
use tunnel::vnet::{Gso, VNET_HDR_LEN, VnetHdr};
use tunnel::{Peer, PeerTable, admit, checksum, icmp, packet};

const MTU: u16 = 1472;

static TABLE: LazyLock<PeerTable> = LazyLock::new(|| {
    let peer = |last: u8, subnets: &[&str]| Peer {
        endpoint: ([192, 0, 2, last], 8285).into(),
        subnets: subnets.iter().map(|s| s.parse().expect("subnet")).collect(),
    };
    PeerTable::build(
        &[
            peer(1, &["0.0.0.0/1", "::/1"]),
            peer(2, &["10.1.0.0/16", "fd00::/16"]),
        ],
        None,
        1,
    )
});

static LOCAL: LazyLock<LocalSubnets> =
    LazyLock::new(|| LocalSubnets::new(&["10.2.0.0/16".parse().expect("subnet")]));

/// Makes lengths fit, so that what is after those checks is reached, too.
fn mend(head: &mut [u8; VNET_HDR_LEN], bytes: &mut [u8]) {
    let v6 = bytes.first().is_some_and(|first| first >> 4 == 6);
    let l4 = if v6 { 40 } else { 20 };
    if bytes.len() < l4 + 20 {
        return;
    }
    if v6 {
        let length = ((bytes.len() - 40) as u16).to_be_bytes();
        bytes[4..6].copy_from_slice(&length);
    } else {
        bytes[0] = 0x45;
        let total = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&total);
    }
    head[6..8].copy_from_slice(&(l4 as u16).to_ne_bytes());
}

fn refused(refusal: &admit::Refusal, bytes: &[u8]) {
    let Some((error, header)) = refusal.icmp else {
        return;
    };
    let source: IpAddr = if bytes[0] >> 4 == 6 {
        "fd00:2::".parse().expect("address")
    } else {
        [10, 1, 2, 0].into()
    };
    let mut out = [0; icmp::MAX_LEN];
    if let Some(len) = icmp::build(error, source, bytes, &header, &mut out) {
        let answer = packet::parse(&out[..len]).expect("an ICMP error is an IP packet");
        assert_eq!(answer.addresses.source(), source);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&options, data)) = data.split_first() else {
        return;
    };
    let Some((head, bytes)) = data.split_first_chunk::<VNET_HDR_LEN>() else {
        return;
    };
    let (mut head, mut bytes) = (*head, bytes.to_vec());
    if options & 1 != 0 {
        mend(&mut head, &mut bytes);
    }
    let Some(vnet) = VnetHdr::decode(&head) else {
        return;
    };
    if let Err(refusal) = admit::outbound(&mut bytes, &vnet, &TABLE, &LOCAL, MTU) {
        refused(&refusal, &bytes);
        return;
    }
    if vnet.gso == Gso::None {
        if vnet.needs_csum && complete_checksum(&mut bytes, &vnet).is_err() {
            return;
        }
        assert!(options & 1 == 0 || packet::parse(&bytes).is_ok() || vnet.needs_csum);
        return;
    }
    let mut segmenter = Segmenter::new(&bytes, &vnet).expect("what was routed can be cut");
    let mut headers = [0; MAX_HEADERS];
    let (longest, header_len) = (segmenter.longest(), segmenter.header_len());
    let mut joined = Vec::new();
    while let Some(payload) = segmenter.next(&mut headers) {
        let segment = [&headers[..header_len], &bytes[payload.clone()]].concat();
        assert!(segment.len() <= longest);
        let header = packet::parse(&segment).expect("a segment is an IP packet");
        assert!(
            bytes[0] >> 4 == 6 || checksum::fold(checksum::sum(&segment[..header.len])) == 0xffff
        );
        joined.extend_from_slice(&bytes[payload]);
    }
    assert_eq!(joined, bytes[header_len..]);
});
