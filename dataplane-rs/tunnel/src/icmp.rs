//! ICMP errors to the sender of an inner packet (RFC 792, RFC 1191, RFC 4443).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::checksum;
use crate::packet::{Addresses, Header};

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// Most of the offending packet that an ICMP error quotes: RFC 1812 asks for no more than 576 bytes in
/// all, RFC 4443 for as much as fits 1280.
const QUOTE_V4: usize = 548;
const QUOTE_V6: usize = 1232;
/// A whole ICMP error at most.
pub const MAX_LEN: usize = 1280;

/// What to tell the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Net unreachable; no route to destination.
    NoRoute,
    /// Fragmentation needed; packet too big. Holds the MTU.
    TooBig(u16),
    /// TTL or hop limit exceeded in transit.
    TimeExceeded,
}

/// Builds the error about `packet` in `out` and gives its length; none where no error may be sent: about an
/// ICMP error, a fragment that is not the first, to or about an address that is not one host's (RFC 1122,
/// section 3.2.2; RFC 4443, section 2.4).
pub fn build(
    error: Error,
    source: IpAddr,
    packet: &[u8],
    header: &Header,
    out: &mut [u8; MAX_LEN],
) -> Option<usize> {
    if header.addresses.to_many() || !is_host(header.addresses.source()) {
        return None;
    }
    match (source, header.addresses) {
        (IpAddr::V4(from), Addresses::V4(to, _)) => {
            build_v4(error, from, to, packet, header.len, out)
        }
        (IpAddr::V6(from), Addresses::V6(to, _)) => build_v6(error, from, to, packet, out),
        _ => None,
    }
}

fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified() || a.is_broadcast() || a.is_multicast() || a.is_loopback())
        }
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast() || a.is_loopback()),
    }
}

fn build_v4(
    error: Error,
    from: Ipv4Addr,
    to: u32,
    packet: &[u8],
    header: usize,
    out: &mut [u8; MAX_LEN],
) -> Option<usize> {
    let not_first = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
    let is_error = packet[9] == ICMP
        && packet
            .get(header)
            .is_none_or(|kind| !matches!(kind, 0 | 8 | 9 | 10 | 13..=18 | 42 | 43));
    if not_first || is_error {
        return None;
    }
    let quote = packet.len().min(QUOTE_V4);
    let total = 28 + quote;
    let (kind, code, word) = match error {
        Error::NoRoute => (3, 0, [0; 4]),
        Error::TooBig(mtu) => {
            let [high, low] = mtu.to_be_bytes();
            (3, 4, [0, 0, high, low])
        }
        Error::TimeExceeded => (11, 0, [0; 4]),
    };
    out[..28].fill(0);
    out[0] = 0x45;
    out[1] = 0xc0; // internetwork control (RFC 1812, section 4.3.2.5)
    out[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    out[8] = 64;
    out[9] = ICMP;
    out[12..16].copy_from_slice(&from.octets());
    out[16..20].copy_from_slice(&to.to_be_bytes());
    let check = checksum::finish(checksum::sum(&out[..20]));
    out[10..12].copy_from_slice(&check);
    out[20] = kind;
    out[21] = code;
    out[24..28].copy_from_slice(&word);
    out[28..total].copy_from_slice(&packet[..quote]);
    let check = checksum::finish(checksum::sum(&out[20..total]));
    out[22..24].copy_from_slice(&check);
    Some(total)
}

fn build_v6(
    error: Error,
    from: Ipv6Addr,
    to: u128,
    packet: &[u8],
    out: &mut [u8; MAX_LEN],
) -> Option<usize> {
    let is_error = packet[6] == ICMP_V6 && packet.get(40).is_none_or(|kind| *kind < 128);
    // A fragment that is not the first carries no transport header to look at.
    let not_first = packet[6] == 44
        && packet
            .get(42..44)
            .is_none_or(|field| u16::from_be_bytes([field[0], field[1]]) & 0xfff8 != 0);
    if is_error || not_first {
        return None;
    }
    let quote = packet.len().min(QUOTE_V6);
    let total = 48 + quote;
    let (kind, code, word) = match error {
        Error::NoRoute => (1, 0, 0),
        Error::TooBig(mtu) => (2, 0, u32::from(mtu)),
        Error::TimeExceeded => (3, 0, 0),
    };
    out[..48].fill(0);
    out[0] = 0x60;
    out[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
    out[6] = ICMP_V6;
    out[7] = 64;
    out[8..24].copy_from_slice(&from.octets());
    out[24..40].copy_from_slice(&to.to_be_bytes());
    out[40] = kind;
    out[41] = code;
    out[44..48].copy_from_slice(&word.to_be_bytes());
    out[48..total].copy_from_slice(&packet[..quote]);
    let sum =
        checksum::pseudo_header(&out[8..40], ICMP_V6, total - 40) + checksum::sum(&out[40..total]);
    out[42..44].copy_from_slice(&checksum::finish(sum));
    Some(total)
}

/// Sends finished ICMP errors, at most some a second.
///
/// They go by a raw socket and not by the TUN device: their source is the device's own address, and a packet
/// that comes in by a device with a source of the host's own is dropped as martian.
#[derive(Debug)]
pub struct Sender {
    v4: Option<Socket>,
    v6: Option<Socket>,
    tokens: u32,
    refilled: Instant,
}

impl Sender {
    /// Errors a second, and at once, a worker sends at most: net.ipv4.icmp_msgs_per_sec's default, split
    /// over what a node has of workers.
    const RATE: u32 = 250;

    /// Opens the raw sockets, and gives what socket(2) said where IPv4's was refused (EPERM without
    /// CAP_NET_RAW): packets cross all the same. A host without IPv6 has only the one.
    pub fn open() -> (Self, Option<io::Error>) {
        let open = |domain| -> io::Result<Socket> {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let (v4, refused) = match open(Domain::IPV4) {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(error)),
        };
        let v6 = open(Domain::IPV6).ok();
        (
            Self {
                v4,
                v6,
                tokens: Self::RATE,
                refilled: Instant::now(),
            },
            refused,
        )
    }

    /// Takes a token; false where the rate is used up.
    pub fn admit(&mut self) -> bool {
        if self.tokens == 0 && self.refilled.elapsed() >= Duration::from_secs(1) {
            self.tokens = Self::RATE;
            self.refilled = Instant::now();
        }
        let admitted = self.tokens > 0;
        self.tokens -= u32::from(admitted);
        admitted
    }

    /// Sends the packet that [`build`] made to `to`; false where the kernel refused it.
    pub fn send(&self, packet: &[u8], to: IpAddr) -> bool {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        socket.as_ref().is_some_and(|socket| {
            socket
                .send_to(packet, &SocketAddr::new(to, 0).into())
                .is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse;
    use crate::testing;

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 0));
    const FROM_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 2, 0, 0, 0, 0));

    fn about(error: Error, packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; MAX_LEN];
        let source = if packet[0] >> 4 == 6 { FROM_V6 } else { FROM };
        build(
            error,
            source,
            packet,
            &parse(packet).expect("valid"),
            &mut out,
        )
        .map(|len| out[..len].to_vec())
    }

    #[test]
    fn net_unreachable_quotes_the_packet() {
        let packet = testing::udp_v4([10, 1, 2, 3], [10, 1, 9, 9], &[7; 900]);
        let icmp = about(Error::NoRoute, &packet).expect("an error");
        let header = parse(&icmp).expect("valid");
        assert_eq!(header.addresses, Addresses::V4(0x0a01_0200, 0x0a01_0203));
        assert_eq!(checksum::fold(checksum::sum(&icmp[..20])), 0xffff);
        assert_eq!(checksum::fold(checksum::sum(&icmp[20..])), 0xffff);
        assert_eq!(icmp[20..22], [3, 0]);
        assert_eq!(icmp[28..], packet[..QUOTE_V4]);
    }

    #[test]
    fn too_big_carries_the_mtu() {
        let packet = testing::tcp_v4([10, 1, 2, 3], [10, 1, 9, 9], 1, 0x10, &[7; 900]);
        let icmp = about(Error::TooBig(1400), &packet).expect("an error");
        assert_eq!(icmp[20..22], [3, 4]);
        assert_eq!(icmp[24..28], [0, 0, 0x05, 0x78]);
        let packet = testing::tcp_v6([0xfd; 16], [0xfc; 16], 1, 0x10, &[7; 1900]);
        let icmp = about(Error::TooBig(1400), &packet).expect("an error");
        assert_eq!(icmp.len(), MAX_LEN);
        assert_eq!(icmp[40..42], [2, 0]);
        assert_eq!(icmp[44..48], [0, 0, 0x05, 0x78]);
        let sum = checksum::pseudo_header(&icmp[8..40], ICMP_V6, icmp.len() - 40)
            + checksum::sum(&icmp[40..]);
        assert_eq!(checksum::fold(sum), 0xffff);
    }

    #[test]
    fn no_error_about_an_error() {
        let unreachable = testing::ipv4([10, 1, 2, 3], [10, 1, 9, 9], 1, &[3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(about(Error::NoRoute, &unreachable), None);
        let no_type = testing::ipv4([10, 1, 2, 3], [10, 1, 9, 9], 1, &[]);
        assert_eq!(about(Error::NoRoute, &no_type), None);
        let echo = testing::ipv4([10, 1, 2, 3], [10, 1, 9, 9], 1, &[8, 0, 0, 0, 0, 0, 0, 0]);
        assert!(about(Error::NoRoute, &echo).is_some());
        let too_big = testing::ipv6([0xfd; 16], [0xfc; 16], 58, &[2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(about(Error::NoRoute, &too_big), None);
        let echo = testing::ipv6([0xfd; 16], [0xfc; 16], 58, &[128, 0, 0, 0, 0, 0, 0, 0]);
        assert!(about(Error::TimeExceeded, &echo).is_some());
    }

    #[test]
    fn no_error_to_nobody() {
        for source in [
            [0, 0, 0, 0],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255, 255, 255, 255],
        ] {
            assert_eq!(
                about(
                    Error::NoRoute,
                    &testing::udp_v4(source, [10, 1, 9, 9], b"x")
                ),
                None
            );
        }
        assert_eq!(
            about(
                Error::NoRoute,
                &testing::udp_v4([10, 1, 2, 3], [239, 1, 1, 1], b"x")
            ),
            None
        );
        let mut fragment = testing::udp_v4([10, 1, 2, 3], [10, 1, 9, 9], b"x");
        fragment[7] = 1;
        assert_eq!(about(Error::NoRoute, &fragment), None);
    }
}
