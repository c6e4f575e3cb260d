//! What a tunnel is started with, what goes wrong and what it tells.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

/// The port of flannel's udp backend.
pub const DEFAULT_PORT: u16 = 8285;

/// Offloads to use; each is left out by itself where the kernel lacks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// TCP super-packets and unfinished checksums on the TUN device (TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6).
    pub tun_tso: bool,
    /// UDP super-packets on the TUN device (TUN_F_USO4, TUN_F_USO6; Linux 6.2). Needs `tun_tso`.
    pub tun_uso: bool,
    /// Many datagrams in one send (UDP_SEGMENT; Linux 4.18).
    pub udp_gso: bool,
    /// Many datagrams in one receive (UDP_GRO; Linux 5.0).
    pub udp_gro: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        Self {
            tun_tso: true,
            tun_uso: true,
            udp_gso: true,
            udp_gro: true,
        }
    }
}

/// One offload, as events name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// [`Offloads::tun_tso`].
    TunTso,
    /// [`Offloads::tun_uso`].
    TunUso,
    /// [`Offloads::udp_gso`].
    UdpGso,
    /// [`Offloads::udp_gro`].
    UdpGro,
}

impl Offload {
    /// The offload's name in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::TunTso => "tun_tso",
            Self::TunUso => "tun_uso",
            Self::UdpGso => "udp_gso",
            Self::UdpGro => "udp_gro",
        }
    }
}

/// What a tunnel is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelConfig {
    /// The device's name, or a pattern whose `%d` the kernel replaces by the next free number.
    pub name: String,
    /// Bytes of the largest inner IP packet: that of the path less 28 for IPv4 endpoints, less 48 for IPv6.
    pub mtu: u16,
    /// Address of the IPv4 socket; none for no IPv4 endpoints.
    pub bind_v4: Option<Ipv4Addr>,
    /// Address of the IPv6 socket; none for no IPv6 endpoints.
    pub bind_v6: Option<Ipv6Addr>,
    /// Port of the sockets.
    pub port: u16,
    /// Our lease's subnets: only packets to them are accepted. ICMP errors come from their base addresses.
    pub local_subnets: Vec<IpNet>,
    /// Queues, each with a thread; 0 for one to two CPUs, eight at most.
    pub queues: usize,
    /// Bytes asked for each socket's receive buffer. It must hold what TCP senders have on the way while the
    /// thread waits for a CPU: with 4 MiB four streams lost super-packets here, with 16 MiB none.
    pub receive_buffer: usize,
    /// How long a thread asks again, yielding its CPU in between, before it sleeps. With 50 µs the median
    /// round trip of a ping each 5 ms was 0.08 ms instead of 0.12 on busy CPUs; on idle ones, where waking
    /// them takes most of it, it made no difference.
    pub spin: Duration,
    /// Offloads to use.
    pub offloads: Offloads,
}

impl TunnelConfig {
    /// A tunnel as flannel's udp backend has it, on one IPv4 address.
    pub fn new(bind: IpAddr, mtu: u16, local_subnets: Vec<IpNet>) -> Self {
        let (bind_v4, bind_v6) = match bind {
            IpAddr::V4(address) => (Some(address), None),
            IpAddr::V6(address) => (None, Some(address)),
        };
        Self {
            name: "flannel%d".into(),
            mtu,
            bind_v4,
            bind_v6,
            port: DEFAULT_PORT,
            local_subnets,
            queues: 0,
            receive_buffer: 16 << 20,
            spin: Duration::from_micros(50),
            offloads: Offloads::default(),
        }
    }
}

/// Why a tunnel could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error("tunnel configuration: {0}")]
    Config(String),
    /// The TUN device could not be made or changed.
    #[error("TUN device {name}: {source}: {hint}")]
    Device {
        /// The device's name or pattern.
        name: String,
        /// What to do.
        hint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket could not be opened.
    #[error("UDP socket on {address}: {source}: is the address this host's and the port free?")]
    Socket {
        /// What it was to be bound to.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread or its wake-up could not be made.
    #[error("tunnel thread: {0}")]
    Thread(io::Error),
}

/// What a running tunnel tells the control side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The TUN device was deleted; the queue's thread has ended. Start a new tunnel.
    DeviceGone,
    /// A socket or a thread failed for good; the queue's thread has ended. Start a new tunnel.
    Failed(String),
    /// An offload is missing and was left out; told once for each.
    OffloadOff {
        /// Which.
        offload: Offload,
        /// What the kernel said.
        reason: String,
    },
    /// No raw socket for ICMP errors (CAP_NET_RAW is missing): senders are not told why packets are dropped.
    NoIcmp(String),
    /// The tunnel was closed.
    Closed,
}
