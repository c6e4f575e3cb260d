//! Reconciles a desired kernel state over rtnetlink, and keeps it so.
//!
//! Ownership: everything on a device that the agent made is its own; on other devices only routes
//! with one of [`PROTOCOLS`] are.
//!
//! [`attach`] is apart from that: a container's attachment to a bridge, made once by a CNI plugin.

mod actual;
mod adopt;
pub mod attach;
pub mod capabilities;
mod change;
mod default_routes;
mod desired;
pub mod ethtool;
mod events;
mod filter_watch;
mod forwarding;
mod holder;
mod inspect;
mod judge;
mod legacy_tables;
mod links;
mod message;
mod monitor;
mod nexthop;
mod overlap;
mod plan;
mod plane;
mod query;
mod reconcile;
mod report;
mod reverse_path;
mod shared;
mod socket;
mod state;
#[cfg(test)]
mod testing;
mod values;
mod waker;

pub use adopt::FlannelRoutes;
pub use change::{Change, Entries};
pub use forwarding::{Forwarding, ForwardingQuery, forwarding};
pub use holder::{UdpPort, other_agent, udp_port, udp_port_in_use};
pub use inspect::inspect;
pub use links::{BridgeLink, Link, LinkKind, TunLink, VxlanLink};
pub use overlap::{Overlap, OverlapQuery, overlaps};
pub use plane::Plane;
pub use report::{
    ApplyReport, CleanupReport, DefaultRoute, EntryError, Event, Interface, RouteLookup,
    TableCounts,
};
pub use reverse_path::{Filtered, Flow, reverse_path};
pub use state::{Address, Fdb, KernelState, Neighbour, Route};
pub use values::{Cidr, DevName};

/// Marks a device as the agent's (`ip link` shows it as `alias`).
pub const ALIAS: &str = "flanneld";

/// The route protocol number (`rtm_protocol`) of the agent's routes.
///
/// The numbers 64 to 79 are free in iproute2's `rt_protos` and in `linux/rtnetlink.h`; Calico has
/// 80, OVN 84, FRRouting 184 and up.
pub const PROTOCOL: u8 = 70;

/// All numbers that mark a route as the agent's. Beyond some thousand routes they are spread over
/// this range: the kernel finds a route's next hop by a hash in which neither the gateway nor the
/// destination has a part (`fib_info_hashfn_1`), so that with one number and one device adding
/// 10,000 routes takes 1.0 s, with sixteen 0.2 s.
pub const PROTOCOLS: std::ops::RangeInclusive<u8> = 64..=79;
