//! ICMP echo requests of any size that no router may fragment (RFC 792, RFC 4443).

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
const ECHO_REQUEST: [u8; 2] = [8, 128];
const ECHO_REPLY: [u8; 2] = [0, 129];
/// Bytes asked for the receive buffer, so that the answers of a burst are not lost.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The smallest packet that is sent: headers and a few bytes.
pub const SMALLEST: usize = 64;

/// Sends from one address, or from whichever the kernel takes.
pub struct EchoSocket {
    socket: Socket,
    ipv6: bool,
    id: u16,
    buffer: Vec<MaybeUninit<u8>>,
}

/// An answer.
pub struct Reply {
    pub from: IpAddr,
    pub sequence: u16,
}

impl EchoSocket {
    /// Opens a raw socket, which needs CAP_NET_RAW.
    pub fn open(ipv6: bool, from: Option<IpAddr>, id: u16) -> io::Result<Self> {
        let (domain, protocol) = if ipv6 {
            (Domain::IPV6, Protocol::ICMPV6)
        } else {
            (Domain::IPV4, Protocol::ICMPV4)
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        // Less room costs answers at worst.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        forbid_fragments(&socket, ipv6)?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        let buffer = vec![MaybeUninit::uninit(); 1 << 16];
        Ok(Self {
            socket,
            ipv6,
            id,
            buffer,
        })
    }

    /// Sends a request in an IP packet of `size` bytes.
    pub fn send(&self, to: IpAddr, sequence: u16, size: usize) -> io::Result<()> {
        let header = if self.ipv6 { IPV6_HEADER } else { IPV4_HEADER };
        let mut packet = vec![0u8; size.saturating_sub(header).max(ICMP_HEADER)];
        packet[0] = ECHO_REQUEST[usize::from(self.ipv6)];
        packet[4..6].copy_from_slice(&self.id.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        if !self.ipv6 {
            // For ICMPv6 the kernel does so.
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket
            .send_to(&packet, &SocketAddr::new(to, 0).into())
            .map(|_| ())
    }

    /// The next answer to a request of this socket's that has come; none where none is left.
    pub fn receive(&mut self) -> Option<Reply> {
        loop {
            let (length, from) = self.socket.recv_from(&mut self.buffer).ok()?;
            // SAFETY: the kernel has written that many bytes.
            let bytes: Vec<u8> = self.buffer[..length.min(128)]
                .iter()
                .map(|byte| unsafe { byte.assume_init() })
                .collect();
            let reply = self.parse(&bytes, from.as_socket()?.ip());
            if reply.is_some() {
                return reply;
            }
        }
    }

    fn parse(&self, packet: &[u8], from: IpAddr) -> Option<Reply> {
        let message = if self.ipv6 {
            packet
        } else {
            packet.get(usize::from(packet.first()? & 0x0f) * 4..)?
        };
        let word = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
        let is_ours = *message.first()? == ECHO_REPLY[usize::from(self.ipv6)];
        (is_ours && word(4)? == self.id).then_some(Reply {
            from,
            sequence: word(6)?,
        })
    }
}

/// Waits until one of the sockets has something, or for `limit`.
pub fn wait<'a>(sockets: impl Iterator<Item = &'a EchoSocket>, limit: Duration) {
    let mut polled: Vec<libc::pollfd> = sockets
        .map(|echo| libc::pollfd {
            fd: echo.socket.as_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let millis = i32::try_from(limit.as_millis())
        .unwrap_or(i32::MAX)
        .saturating_add(1);
    // SAFETY: the array has as many entries as is said, and lives until the call returns.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
}

/// Sets DF, whatever the kernel has learned of the path.
fn forbid_fragments(socket: &Socket, ipv6: bool) -> io::Result<()> {
    let (level, name, value) = if ipv6 {
        (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        )
    } else {
        (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        )
    };
    // SAFETY: the value is an int that lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let word = [pair[0], *pair.get(1).unwrap_or(&0)];
        sum += u32::from(u16::from_be_bytes(word));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_a_packet_with_its_sum_is_zero() {
        let mut packet = vec![8, 0, 0, 0, 0x12, 0x34, 0, 7, 1, 2, 3];
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&packet), 0);
    }
}
