//! The Internet checksum (RFC 1071), its incremental update (RFC 1624) and the TCP and UDP pseudo-headers.
//!
//! Sums are kept in the machine's byte order: the one's complement sum does not depend on it (RFC 1071,
//! section 2 (B)), and loads need no swap. Only [`finish`] and [`fold`] leave that form.

/// Adds `data` as 16-bit words; an odd last byte is padded with zero. At most 64 KiB a call keeps the
/// result below 2^31, so that some four billion results may be added without overflow.
#[inline]
pub fn sum(data: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if data.len() >= 128 && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, as the line above asked.
        return unsafe { sum_avx2(data) };
    }
    sum_lanes(data)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(data: &[u8]) -> u64 {
    sum_lanes(data)
}

/// Sixteen 32-bit lanes added into 64-bit sums: the compiler makes vector code of it, and a lane can take
/// 2^32 words before it overflows, so that carries wait until the end.
#[inline(always)]
fn sum_lanes(data: &[u8]) -> u64 {
    let mut lanes = [0u64; 16];
    let mut blocks = data.chunks_exact(64);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let mut words = blocks.remainder().chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0u8; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));
    (total & 0xffff_ffff) + (total >> 32)
}

/// Folds a sum to 16 bits, in the machine's byte order.
#[inline]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum field's bytes for `sum`: the folded complement.
#[inline]
pub fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// Sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1). `addresses` are the source's and
/// the destination's bytes as they stand in the IP header, `length` that of the transport header and data.
#[inline]
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    sum(addresses)
        + u64::from(u16::from_ne_bytes([0, protocol]))
        + sum(&(length as u32).to_be_bytes())
}

/// The checksum after the 16-bit word `old` under it became `new` (RFC 1624, equation 3).
#[inline]
pub fn update(check: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    finish(
        u64::from(!u16::from_ne_bytes(check))
            + u64::from(!u16::from_ne_bytes(old))
            + u64::from(u16::from_ne_bytes(new)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 4.1, in network order.
    fn reference(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn example_of_rfc_1071() {
        assert_eq!(
            finish(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])),
            [0x22, 0x0d]
        );
    }

    #[test]
    fn all_ones_do_not_overflow() {
        let data = vec![0xff; 65_535];
        assert_eq!(finish(sum(&data)), reference(&data).to_be_bytes());
        assert_eq!(fold(u64::MAX), 0xffff);
    }

    proptest! {
        #[test]
        fn equals_the_reference(data in proptest::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert_eq!(finish(sum(&data)), reference(&data).to_be_bytes());
            prop_assert_eq!(fold(sum_lanes(&data)), fold(sum(&data)));
        }

        #[test]
        fn parts_add_up(data in proptest::collection::vec(any::<u8>(), 0..2048), cut in 0usize..1024) {
            let cut = (cut * 2).min(data.len() & !1);
            prop_assert_eq!(finish(sum(&data[..cut]) + sum(&data[cut..])), reference(&data).to_be_bytes());
        }

        #[test]
        fn update_equals_a_new_sum(
            mut data in proptest::collection::vec(any::<u8>(), 20..60), at in 0usize..10, new in any::<[u8; 2]>(),
        ) {
            let before = finish(sum(&data));
            let old = [data[at * 2], data[at * 2 + 1]];
            data[at * 2..at * 2 + 2].copy_from_slice(&new);
            let after = update(before, old, new);
            // Both forms of zero are one value: compare what a receiver compares.
            prop_assert_eq!(fold(sum(&data) + u64::from(u16::from_ne_bytes(after))), 0xffff);
        }

        #[test]
        fn pseudo_header_equals_the_reference(addresses in any::<[u8; 32]>(), protocol: u8, length in 0usize..65_536) {
            let mut bytes = addresses.to_vec();
            bytes.extend((length as u32).to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
            prop_assert_eq!(finish(pseudo_header(&addresses, protocol, length)), reference(&bytes).to_be_bytes());
        }
    }
}
