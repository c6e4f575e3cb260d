use super::*;
use crate::segment::{MAX_HEADERS, Segmenter};
use crate::testing;
use proptest::prelude::*;

const BOTH: Joins = Joins {
    tcp: true,
    udp: true,
};

/// Coalesces `packets` and gives each write as (offload header, bytes).
fn writes(packets: &[Vec<u8>], joins: Joins) -> Vec<(VnetHdr, Vec<u8>)> {
    let mut arena = Vec::new();
    let mut coalescer = Coalescer::new(joins);
    for packet in packets {
        let start = arena.len();
        arena.extend(packet);
        coalescer.push(&arena, start..start + packet.len());
    }
    (0..coalescer.len())
        .map(|index| {
            let vnet = coalescer.finish(index, &mut arena);
            (
                vnet,
                coalescer
                    .places(index)
                    .flat_map(|place| arena[place].to_vec())
                    .collect(),
            )
        })
        .collect()
}

/// What the kernel would make of a write: the segments.
fn segments(write: &(VnetHdr, Vec<u8>)) -> Vec<Vec<u8>> {
    let (vnet, bytes) = write;
    if vnet.gso == Gso::None {
        return vec![bytes.clone()];
    }
    let mut segmenter = Segmenter::new(bytes, vnet).expect("fits");
    let mut header = [0; MAX_HEADERS];
    let mut segments = Vec::new();
    while let Some(payload) = segmenter.next(&mut header) {
        segments.push([&header[..segmenter.header_len()], &bytes[payload]].concat());
    }
    segments
}

const A: [u8; 4] = [10, 1, 2, 3];
const B: [u8; 4] = [10, 1, 3, 4];

/// Without the identification of a packet that is never fragmented.
fn without_id(packet: &[u8]) -> Vec<u8> {
    with_id(packet.to_vec(), 0)
}

fn with_id(mut packet: Vec<u8>, id: u16) -> Vec<u8> {
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    testing::fix_ipv4_checksum(&mut packet);
    packet
}

fn tcp(sequence: u32, flags: u8, len: usize) -> Vec<u8> {
    testing::tcp_v4(A, B, sequence, flags, &vec![sequence as u8; len])
}

#[test]
fn contiguous_segments_become_one() {
    let packets = [tcp(0, 0x10, 100), tcp(100, 0x10, 100), tcp(200, 0x18, 60)];
    let writes = writes(&packets, BOTH);
    assert_eq!(writes.len(), 1);
    let (vnet, bytes) = &writes[0];
    assert_eq!(
        (
            vnet.gso,
            vnet.gso_size,
            vnet.hdr_len,
            vnet.csum_start,
            vnet.csum_offset
        ),
        (Gso::TcpV4, 100, 52, 20, 16)
    );
    assert_eq!(bytes.len(), 52 + 260);
    assert_eq!(checksum::fold(checksum::sum(&bytes[..20])), 0xffff);
    assert_eq!(bytes[33], 0x18);
}

/// Each table row: packets that must not be joined into fewer than `wanted` writes.
#[test]
fn what_differs_stays_apart() {
    let mut other_ttl = tcp(100, 0x10, 100);
    other_ttl[8] = 9;
    testing::fix_ipv4_checksum(&mut other_ttl);
    let mut congestion_marked = tcp(100, 0x10, 100);
    congestion_marked[1] = 3;
    testing::fix_ipv4_checksum(&mut congestion_marked);
    let mut other_ack = tcp(100, 0x10, 100);
    other_ack[31] = 1;
    testing::fix_l4_checksum(&mut other_ack, 20, 6);
    let mut other_option = tcp(100, 0x10, 100);
    other_option[50] = 1;
    testing::fix_l4_checksum(&mut other_option, 20, 6);
    let mut other_port = tcp(100, 0x10, 100);
    other_port[21] ^= 1;
    testing::fix_l4_checksum(&mut other_port, 20, 6);
    let mut corrupt = tcp(100, 0x10, 100);
    corrupt[80] ^= 1;
    let mut fragment = tcp(100, 0x10, 100);
    fragment[6] = 0x20;
    testing::fix_ipv4_checksum(&mut fragment);
    let rows: [(&str, Vec<u8>); 12] = [
        ("gap", tcp(101, 0x10, 100)),
        ("longer", tcp(100, 0x10, 101)),
        ("fin", tcp(100, 0x11, 100)),
        ("cwr", tcp(100, 0x90, 100)),
        ("pure acknowledgement", tcp(100, 0x10, 0)),
        ("ttl", other_ttl),
        ("ecn", congestion_marked),
        ("acknowledgement number", other_ack),
        ("option", other_option),
        ("port", other_port),
        ("checksum", corrupt),
        ("fragment", fragment),
    ];
    for (name, second) in rows {
        let packets = [tcp(0, 0x10, 100), second];
        let got: Vec<Vec<u8>> = writes(&packets, BOTH)
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        assert_eq!(got, packets, "{name}");
    }
}

#[test]
fn a_wrong_first_checksum_is_not_mended() {
    let mut first = tcp(0, 0x10, 100);
    first[70] ^= 0x40;
    let packets = [first.clone(), tcp(100, 0x10, 100), tcp(200, 0x10, 100)];
    let writes = writes(&packets, BOTH);
    assert_eq!(writes[0], (VnetHdr::PLAIN, first));
    assert_eq!(writes.len(), 2);
}

#[test]
fn push_and_a_short_segment_end_an_item() {
    for ending in [tcp(100, 0x18, 100), tcp(100, 0x10, 99)] {
        let next = 100 + (ending.len() - 52) as u32;
        let packets = [tcp(0, 0x10, 100), ending, tcp(next, 0x10, 50)];
        assert_eq!(writes(&packets, BOTH).len(), 2);
    }
}

#[test]
fn order_within_a_flow_is_kept() {
    // The acknowledgement between the two must not be overtaken by the second segment.
    let packets = [tcp(0, 0x10, 100), tcp(100, 0x10, 0), tcp(100, 0x10, 100)];
    let got: Vec<Vec<u8>> = writes(&packets, BOTH)
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(got, packets);
}

/// Four bytes of IPv4 options that change nothing.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..20], &[1; 4], &packet[20..]].concat();
    packet[0] = 0x46;
    let total = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&total);
    testing::fix_ipv4_checksum(&mut packet);
    packet
}

fn as_fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] = 0x20;
    testing::fix_ipv4_checksum(&mut packet);
    packet
}

fn corrupt(mut packet: Vec<u8>) -> Vec<u8> {
    let last = packet.len() - 1;
    packet[last] ^= 1;
    packet
}

fn corrupt_header(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10] ^= 1;
    packet
}

/// Bytes of all writes, cut as the kernel would.
fn out(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    writes(packets, BOTH).iter().flat_map(segments).collect()
}

/// A packet that cannot join is not overtaken by later ones of its flow.
#[test]
fn what_cannot_join_keeps_its_place() {
    let no_checksum = |mut packet: Vec<u8>| {
        packet[26..28].fill(0);
        packet
    };
    let wrong_udp_length = |mut packet: Vec<u8>| {
        packet[25] = packet[25].wrapping_sub(1);
        packet
    };
    let other_protocol = |mut packet: Vec<u8>| {
        packet[9] = 132;
        testing::fix_ipv4_checksum(&mut packet);
        packet
    };
    let no_ports = |packet: Vec<u8>| testing::ipv4(A, B, UDP, &packet[20..23]);
    type Oddity<'a> = (&'a str, &'a dyn Fn(Vec<u8>) -> Vec<u8>);
    let oddities: [Oddity; 8] = [
        ("options", &|packet| with_options(&packet)),
        ("fragment", &as_fragment),
        ("checksum", &corrupt),
        ("header checksum", &corrupt_header),
        ("no checksum", &no_checksum),
        ("length", &wrong_udp_length),
        ("protocol", &other_protocol),
        ("too short for ports", &no_ports),
    ];
    for (name, oddity) in oddities {
        let packets: Vec<Vec<u8>> = (0..6u8)
            .map(|number| {
                let packet = with_id(testing::udp_v4(A, B, &[number; 64]), number.into());
                if number == 1 || number == 3 {
                    oddity(packet)
                } else {
                    packet
                }
            })
            .collect();
        assert_eq!(out(&packets), packets, "{name}");
    }
}

/// The same for TCP, whose sequence numbers go on across a packet that was not taken in.
#[test]
fn tcp_keeps_its_place_too() {
    for oddity in [
        (|packet| with_options(&packet)) as fn(Vec<u8>) -> Vec<u8>,
        as_fragment,
        corrupt,
        corrupt_header,
    ] {
        // The odd one comes again as it should have been.
        let packets = [
            tcp(0, 0x10, 100),
            oddity(tcp(100, 0x10, 100)),
            tcp(100, 0x10, 100),
            tcp(200, 0x10, 100),
        ];
        assert_eq!(
            out(&packets)
                .iter()
                .map(|p| without_id(p))
                .collect::<Vec<_>>(),
            packets.iter().map(|p| without_id(p)).collect::<Vec<_>>()
        );
    }
}

/// An odd packet of other hosts costs a flow nothing.
#[test]
fn other_hosts_go_on_joining() {
    let mut other = A;
    other[3] ^= 1;
    let odd = with_options(&testing::udp_v4(other, B, &[9; 64]));
    let packets = [
        testing::udp_v4(A, B, &[0; 64]),
        odd,
        testing::udp_v4(A, B, &[1; 64]),
    ];
    assert_eq!(writes(&packets, BOTH).len(), 2);
}

/// A header that was corrupted on its way comes out as corrupt, wherever it stands in the train.
#[test]
fn a_wrong_header_checksum_is_not_mended() {
    for place in 0..8 {
        let packets: Vec<Vec<u8>> = (0..8u32)
            .map(|index| {
                let packet = tcp(index * 100, 0x10, 100);
                if index == place {
                    corrupt_header(packet)
                } else {
                    packet
                }
            })
            .collect();
        let wrong: Vec<Vec<u8>> = out(&packets)
            .into_iter()
            .filter(|packet| checksum::fold(checksum::sum(&packet[..20])) != 0xffff)
            .collect();
        assert_eq!(wrong, packets[place as usize..=place as usize], "{place}");
    }
}

#[test]
fn udp_without_checksum_stays_alone() {
    let mut packet = testing::udp_v4(A, B, &[1; 64]);
    packet[26..28].fill(0);
    assert_eq!(writes(&[packet.clone(), packet], BOTH).len(), 2);
}

#[test]
fn a_switch_turns_joining_off() {
    let packets = [tcp(0, 0x10, 100), tcp(100, 0x10, 100)];
    assert_eq!(
        writes(
            &packets,
            Joins {
                tcp: false,
                udp: true
            }
        )
        .len(),
        2
    );
    let packets = [
        testing::udp_v4(A, B, &[1; 64]),
        testing::udp_v4(A, B, &[2; 64]),
    ];
    assert_eq!(
        writes(
            &packets,
            Joins {
                tcp: true,
                udp: false
            }
        )
        .len(),
        2
    );
    assert_eq!(writes(&packets, BOTH).len(), 1);
}

#[test]
fn a_super_packet_fits_its_length_field() {
    let packets: Vec<Vec<u8>> = (0..60u32).map(|i| tcp(i * 1400, 0x10, 1400)).collect();
    let writes = writes(&packets, BOTH);
    assert_eq!(writes.len(), 2);
    assert_eq!(writes[0].1.len(), 52 + 46 * 1400);
}

const A6: [u8; 16] = [0xfd, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
const B6: [u8; 16] = [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];

fn tcp6(sequence: u32, flags: u8, len: usize) -> Vec<u8> {
    testing::tcp_v6(A6, B6, sequence, flags, &vec![sequence as u8; len])
}

/// An extension header of eight bytes before the transport header.
fn extended(packet: &[u8], header: u8) -> Vec<u8> {
    let body = [&[packet[6], 0, 1, 4, 0, 0, 0, 0], &packet[40..]].concat();
    testing::ipv6(A6, B6, header, &body)
}

/// A byte changed, with a transport checksum that is right again.
fn changed(mut packet: Vec<u8>, at: usize, by: u8) -> Vec<u8> {
    packet[at] ^= by;
    testing::fix_l4_checksum(&mut packet, 40, 6);
    packet
}

#[test]
fn contiguous_segments_become_one_v6() {
    let packets = [
        tcp6(0, 0x10, 100),
        tcp6(100, 0x10, 100),
        tcp6(200, 0x18, 60),
    ];
    let writes = writes(&packets, BOTH);
    assert_eq!(writes.len(), 1);
    let (vnet, bytes) = &writes[0];
    assert_eq!(
        (vnet.gso, vnet.gso_size, vnet.csum_start),
        (Gso::TcpV6, 100, 40)
    );
    assert_eq!(
        usize::from(u16::from_be_bytes([bytes[4], bytes[5]])),
        bytes.len() - 40
    );
    assert_eq!(segments(&writes[0]), packets);
}

/// The same over IPv6: each second packet must come out as it went in, on its own.
#[test]
fn what_differs_stays_apart_v6() {
    let good = || tcp6(100, 0x10, 100);
    let rows = [
        ("gap", tcp6(101, 0x10, 100)),
        ("longer", tcp6(100, 0x10, 101)),
        ("fin", tcp6(100, 0x11, 100)),
        ("ece", tcp6(100, 0x50, 100)),
        ("pure acknowledgement", tcp6(100, 0x10, 0)),
        ("hop limit", changed(good(), 7, 1)),
        ("ecn", changed(good(), 1, 0x30)),
        ("dscp", changed(good(), 0, 0x08)),
        ("flow label", changed(good(), 3, 1)),
        ("flow label, high bits", changed(good(), 1, 1)),
        ("source", changed(good(), 23, 1)),
        ("destination", changed(good(), 24, 1)),
        ("port", changed(good(), 41, 1)),
        ("acknowledgement", changed(good(), 51, 1)),
        ("window", changed(good(), 55, 1)),
        ("urgent pointer", changed(good(), 59, 1)),
        ("option", changed(good(), 70, 1)),
        ("payload", corrupt(good())),
        ("hop-by-hop options", extended(&good(), 0)),
        ("routing header", extended(&good(), 43)),
        ("fragment header", extended(&good(), 44)),
        ("authentication header", extended(&good(), 51)),
        ("no next header", extended(&good(), 59)),
        ("destination options", extended(&good(), 60)),
    ];
    for (name, second) in rows {
        let packets = [tcp6(0, 0x10, 100), second];
        let got: Vec<Vec<u8>> = writes(&packets, BOTH)
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        assert_eq!(got, packets, "{name}");
    }
}

/// An extension header, a fragment or another protocol between two packets of a flow keeps its place.
#[test]
fn what_cannot_join_keeps_its_place_v6() {
    let udp = |number: u8| testing::udp_v6(A6, B6, &[number; 64]);
    for header in [0, 1, 43, 44, 50, 51, 58, 59, 60, 132, 255] {
        let packets = [udp(0), extended(&udp(1), header), udp(2), udp(3)];
        assert_eq!(out(&packets), packets, "{header}");
    }
    let unchecked = |mut packet: Vec<u8>| {
        packet[46..48].fill(0);
        packet
    };
    for odd in [
        unchecked(udp(1)),
        corrupt(udp(1)),
        testing::ipv6(A6, B6, UDP, &[0x30]),
    ] {
        let packets = [udp(0), odd, udp(2), udp(3)];
        assert_eq!(out(&packets), packets);
    }
}

/// A train of one flow of each kind.
fn train(kind: usize) -> Vec<Vec<u8>> {
    (0..6u8)
        .map(|number| {
            let sequence = u32::from(number) * 80;
            let payload = [number; 80];
            match kind {
                0 => with_id(
                    testing::tcp_v4(A, B, sequence, 0x10, &payload),
                    number.into(),
                ),
                1 => with_id(testing::udp_v4(A, B, &payload), number.into()),
                2 => testing::tcp_v6(A6, B6, sequence, 0x10, &payload),
                _ => testing::udp_v6(A6, B6, &payload),
            }
        })
        .collect()
}

/// Whatever byte of one packet in a train is changed, it comes out as it went in, the others too, and
/// nothing of its flow overtakes it.
#[test]
fn a_changed_byte_stays_where_it_is() {
    for kind in 0..4 {
        let header = if kind < 2 { 20 } else { 40 };
        for place in [0, 1, 3, 5] {
            for at in 0..train(kind)[place].len() {
                for by in [1, 0x10, 0x80, 0xff] {
                    let mut packets = train(kind);
                    packets[place][at] ^= by;
                    // Another length or version never comes this far.
                    if packet::parse(&packets[place]).is_err() {
                        continue;
                    }
                    // Another flow, addresses and ports, may be overtaken.
                    let other_flow =
                        (header - if kind < 2 { 8 } else { 32 }..header + 4).contains(&at);
                    let mut got = out(&packets);
                    if other_flow {
                        // The others are joined past it and their identifications counted anew.
                        for packets in [&mut packets, &mut got] {
                            packets.iter_mut().filter(|_| kind < 2).for_each(|packet| {
                                packet[4..6].fill(0);
                                packet[10..12].fill(0);
                            });
                            packets.sort();
                        }
                    }
                    assert_eq!(
                        got, packets,
                        "kind {kind}, packet {place}, byte {at} ^ {by:#x}"
                    );
                }
            }
        }
    }
}

/// A stream of packets of a few flows, as a peer might send them.
fn stream() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let step = (0usize..4, 0usize..8, 1usize..200, any::<bool>(), 0u8..12);
    proptest::collection::vec(step, 1..MAX_ITEMS).prop_map(|steps| {
        let mut sequences = [0u32; 4];
        let mut ids = [0u16; 4];
        let mut packets = Vec::new();
        for (flow, kind, len, push, trouble) in steps {
            let len = if kind < 5 { 120 } else { len };
            let payload: Vec<u8> = (0..len).map(|i| (i + flow) as u8).collect();
            let flags = if push && trouble > 9 { 0x18 } else { 0x10 };
            let mut from = A;
            from[3] = flow as u8;
            let mut packet = match flow {
                0 => testing::tcp_v4(from, B, sequences[flow], flags, &payload),
                1 => testing::tcp_v6([5; 16], [6; 16], sequences[flow], flags, &payload),
                2 => testing::udp_v4(from, B, &payload),
                _ => testing::udp_v6([5; 16], [6; 16], &payload),
            };
            sequences[flow] = sequences[flow].wrapping_add(len as u32 + u32::from(trouble == 0));
            if flow % 2 == 0 {
                packet = with_id(packet, ids[flow]);
                ids[flow] += 1;
            }
            if trouble == 1 {
                let last = packet.len() - 1;
                packet[last] ^= 1;
            }
            packets.push(packet);
        }
        packets
    })
}

proptest! {
    /// Segmentation undoes coalescing: each flow's packets come out as they went in, in order. Only the
    /// IPv4 identification of packets with DF may be counted anew.
    #[test]
    fn segmentation_undoes_it(packets in stream()) {
        let flow = |packet: &[u8]| {
            let l4 = if packet[0] >> 4 == 6 { 40 } else { 20 };
            flow_key(packet, l4).to_vec()
        };
        let plain = |packet: &Vec<u8>| {
            let mut packet = packet.clone();
            if packet[0] >> 4 == 4 {
                packet[4..6].fill(0);
                testing::fix_ipv4_checksum(&mut packet);
            }
            packet
        };
        let out: Vec<Vec<u8>> = writes(&packets, BOTH).iter().flat_map(segments).collect();
        prop_assert_eq!(out.len(), packets.len());
        for packet in &packets {
            let wanted: Vec<Vec<u8>> = packets.iter().filter(|p| flow(p) == flow(packet)).map(plain).collect();
            let got: Vec<Vec<u8>> = out.iter().filter(|p| flow(p) == flow(packet)).map(plain).collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
