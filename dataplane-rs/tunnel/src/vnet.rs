//! The virtio network header that goes before each packet of a TUN device opened with IFF_VNET_HDR
//! (virtio 1.2, section 5.1.6; linux/virtio_net.h), in the machine's byte order.

/// Bytes of the header, the kernel's default for TUN.
pub const VNET_HDR_LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// How the packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// One packet.
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams of one size.
    Udp,
}

/// The header's fields that this crate uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnetHdr {
    /// The transport checksum holds the pseudo-header's sum and must be completed.
    pub needs_csum: bool,
    /// Kind of segmentation.
    pub gso: Gso,
    /// Bytes of all headers of a segment.
    pub hdr_len: u16,
    /// Payload bytes of a segment.
    pub gso_size: u16,
    /// Where the checksummed bytes begin.
    pub csum_start: u16,
    /// Where the checksum stands, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHdr {
    /// The header of a packet that is complete as it stands.
    pub const PLAIN: Self = Self {
        needs_csum: false,
        gso: Gso::None,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    /// Reads a header; none for a kind of segmentation that was not asked for.
    #[inline]
    pub fn decode(bytes: &[u8; VNET_HDR_LEN]) -> Option<Self> {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match bytes[1] & !GSO_ECN {
            GSO_NONE => Gso::None,
            GSO_TCPV4 => Gso::TcpV4,
            GSO_TCPV6 => Gso::TcpV6,
            GSO_UDP_L4 => Gso::Udp,
            _ => return None,
        };
        Some(Self {
            needs_csum: bytes[0] & F_NEEDS_CSUM != 0,
            gso,
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// The header's bytes.
    #[inline]
    pub fn encode(&self) -> [u8; VNET_HDR_LEN] {
        let mut bytes = [0; VNET_HDR_LEN];
        bytes[0] = if self.needs_csum { F_NEEDS_CSUM } else { 0 };
        bytes[1] = match self.gso {
            Gso::None => GSO_NONE,
            Gso::TcpV4 => GSO_TCPV4,
            Gso::TcpV6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        };
        bytes[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_both_ways() {
        let header = VnetHdr {
            needs_csum: true,
            gso: Gso::TcpV6,
            hdr_len: 72,
            gso_size: 1400,
            csum_start: 40,
            csum_offset: 16,
        };
        assert_eq!(VnetHdr::decode(&header.encode()), Some(header));
        assert_eq!(VnetHdr::decode(&[0; 10]), Some(VnetHdr::PLAIN));
    }

    #[test]
    fn unknown_segmentation_is_refused() {
        let mut bytes = VnetHdr::PLAIN.encode();
        bytes[1] = 3; // UFO
        assert_eq!(VnetHdr::decode(&bytes), None);
        bytes[1] = GSO_TCPV4 | GSO_ECN;
        assert_eq!(VnetHdr::decode(&bytes).map(|h| h.gso), Some(Gso::TcpV4));
    }
}
