//! A UDP overlay on one TUN device, on the wire as flannel's udp backend: one datagram is one inner IP packet,
//! nothing before or after it, from and to one port.
//!
//! ```no_run
//! use std::net::IpAddr;
//! use tunnel::{Peer, Tunnel, TunnelConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address: IpAddr = "192.0.2.1".parse()?;
//! let tunnel = Tunnel::start(&TunnelConfig::new(address, 1472, vec!["10.1.2.0/24".parse()?]))?;
//! tunnel.set_peers(&[Peer { endpoint: "192.0.2.2:8285".parse()?, subnets: vec!["10.1.3.0/24".parse()?] }]);
//! println!("{} is up", tunnel.device_name());
//! # Ok(())
//! # }
//! ```
//!
//! One thread a queue (`worker`) carries packets in both directions:
//!
//! * TUN to UDP (`egress`): read (`tun`) → route, MTU, TTL ([`admit`]) → cut super-packets, complete
//!   checksums ([`segment`]) → gather datagrams, with the inner packet's traffic class ([`gather`], [`send`]).
//! * UDP to TUN (`ingress`): take (`receive`) → known sender, inner addresses, congestion marks, TTL ([`admit`]) → join
//!   packets of one flow ([`coalesce`]) → write (`tun`).
//!
//! On that path nothing is allocated and nothing locked.

pub mod admit;
pub mod checksum;
pub mod coalesce;
mod config;
mod counters;
pub mod ecn;
mod egress;
pub mod gather;
pub mod icmp;
mod ingress;
pub mod packet;
mod peers;
mod receive;
pub mod segment;
pub mod send;
mod socket;
#[cfg(test)]
mod testing;
mod tun;
mod tunnel;
pub mod vnet;
mod worker;

pub use config::{DEFAULT_PORT, Error, Event, Offload, Offloads, TunnelConfig};
pub use counters::{Counters, DropReason, PeerCounters, Traffic};
pub use peers::{Peer, PeerTable};
pub use tunnel::Tunnel;
