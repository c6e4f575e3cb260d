//! The UDP sockets: one a queue and address family, all on one port.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Offload, Offloads};

/// Bytes asked for a send buffer: what the path's queue may hold of ours before the TUN device's senders are
/// held back.
const SEND_BUFFER: usize = 2 << 20;

/// One socket.
#[derive(Debug)]
pub struct UdpQueue {
    socket: Socket,
    /// A send may hold many datagrams.
    pub gso: bool,
}

impl UdpQueue {
    /// Opens a socket on `address`. Several share a port, and the kernel gives all of one peer to one of
    /// them (SO_REUSEPORT hashes addresses and ports), which keeps a peer's packets in order.
    ///
    /// Path MTU discovery stays as the system has it: where the path narrows, datagrams are fragmented and
    /// the tunnel goes on, as flannel's does. Missing offloads are appended to `missing`.
    ///
    /// # Errors
    /// What socket(2), bind(2) or setsockopt(2) says.
    pub fn open(
        address: SocketAddr,
        receive_buffer: usize,
        share: bool,
        offloads: Offloads,
        missing: &mut Vec<(Offload, io::Error)>,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(share)?;
        set_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
        set_buffer(
            &socket,
            libc::SO_RCVBUFFORCE,
            libc::SO_RCVBUF,
            receive_buffer,
        )?;
        socket.bind(&address.into())?;
        let mut probe = |wanted, offload, option, value| {
            wanted
                && set_option(&socket, libc::SOL_UDP, option, value)
                    .map_err(|error| missing.push((offload, error)))
                    .is_ok()
        };
        // What the path wrote into the datagram's header.
        let (level, class) = if address.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS)
        } else {
            (libc::IPPROTO_IP, libc::IP_RECVTOS)
        };
        set_option(&socket, level, class, 1)?;
        // A segment size of zero changes nothing and is refused by kernels that know no segments.
        let gso = probe(offloads.udp_gso, Offload::UdpGso, libc::UDP_SEGMENT, 0);
        probe(offloads.udp_gro, Offload::UdpGro, libc::UDP_GRO, 1);
        Ok(Self { socket, gso })
    }
}

impl AsRawFd for UdpQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Sets a buffer's size, past the system's limit with CAP_NET_ADMIN, else up to it.
fn set_buffer(
    socket: &Socket,
    forced: libc::c_int,
    plain: libc::c_int,
    bytes: usize,
) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::SOL_SOCKET, forced, bytes)
        .or_else(|_| set_option(socket, libc::SOL_SOCKET, plain, bytes))
}

fn set_option(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value outlives the call and its length is its own.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads the address that the kernel wrote; none for a family that is not IP.
pub fn decode_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: sockaddr_storage is as large and as aligned as any address, and this one is of IPv4.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = u32::from_be(address.sin_addr.s_addr).into();
            Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, and this one is of IPv6.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = address.sin6_addr.s6_addr.into();
            Some(
                SocketAddrV6::new(
                    ip,
                    u16::from_be(address.sin6_port),
                    0,
                    address.sin6_scope_id,
                )
                .into(),
            )
        }
        _ => None,
    }
}
