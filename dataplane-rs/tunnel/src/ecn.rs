//! Traffic class and congestion marks between the inner header and the datagram around it: RFC 6040, normal
//! mode, and RFC 2983's pipe model for the DSCP, which goes out and does not come back in.

use crate::checksum;

/// The two low bits of the traffic class: the flow cannot be told of congestion.
pub const NOT_ECT: u8 = 0;
/// The flow can be told, second form.
pub const ECT_1: u8 = 1;
/// The flow can be told, first form.
pub const ECT_0: u8 = 2;
/// Congestion was experienced.
pub const CE: u8 = 3;

const MASK: u8 = 3;

/// The type of service or traffic class of a packet that [`crate::packet::parse`] accepted: six bits of
/// DSCP, two of ECN.
#[inline]
pub fn class(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 6 {
        packet[0] << 4 | packet[1] >> 4
    } else {
        packet[1]
    }
}

/// The ECN field that goes on when a datagram of class `outer` gives up an inner packet of class `inner`;
/// none where the packet is to be dropped, since its flow cannot be told of congestion by a mark (RFC 6040,
/// figure 4).
#[inline]
pub fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Writes the ECN field and mends IPv4's checksum; DSCP and flow label stay.
#[inline]
pub fn mark(packet: &mut [u8], ecn: u8) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & !(MASK << 4) | ecn << 4;
        return;
    }
    let old = [packet[0], packet[1]];
    packet[1] = packet[1] & !MASK | ecn;
    let check = checksum::update([packet[10], packet[11]], old, [packet[0], packet[1]]);
    packet[10..12].copy_from_slice(&check);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet;
    use crate::testing;
    use proptest::prelude::*;

    /// RFC 6040, figure 4: a row for each inner field, a column for each outer one, in the order
    /// Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn table_of_rfc_6040() {
        let fields = [NOT_ECT, ECT_0, ECT_1, CE];
        let rows = [
            [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
            [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
            [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
            [Some(CE), Some(CE), Some(CE), Some(CE)],
        ];
        for (inner, row) in fields.iter().zip(rows) {
            for (outer, wanted) in fields.iter().zip(row) {
                // Whatever the DSCP is.
                for dscp in [0, 0xb8, 0xfc] {
                    assert_eq!(decapsulated(inner | dscp, *outer), wanted);
                    assert_eq!(decapsulated(*inner, outer | dscp), wanted);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_mark_changes_the_field_alone(v6: bool, class_before: u8, label in 0u32..1 << 20, ecn in 0u8..4) {
            let mut packet = if v6 {
                let mut packet = testing::udp_v6([7; 16], [9; 16], b"data");
                let word = 6 << 28 | u32::from(class_before) << 20 | label;
                packet[..4].copy_from_slice(&word.to_be_bytes());
                packet
            } else {
                let mut packet = testing::udp_v4([10, 1, 2, 3], [10, 1, 3, 4], b"data");
                packet[1] = class_before;
                testing::fix_ipv4_checksum(&mut packet);
                packet
            };
            let before = packet.clone();
            prop_assert_eq!(class(&packet), class_before);
            mark(&mut packet, ecn);
            prop_assert_eq!(class(&packet), class_before & !MASK | ecn);
            prop_assert!(packet::header_is_right(&packet));
            mark(&mut packet, class_before & MASK);
            // Both forms of zero are one checksum.
            let same = |packet: &[u8]| [&packet[..10], &packet[12..]].concat();
            prop_assert_eq!(same(&packet), same(&before));
        }
    }
}
