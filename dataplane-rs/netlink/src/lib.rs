//! Reconciles a desired kernel state over rtnetlink, and keeps it so.
//!
//! Ownership: everything on a device that the agent made is its own; on other devices only routes
//! with [`PROTOCOL`] are.

mod actual;
mod desired;
mod events;
mod judge;
mod links;
mod message;
mod monitor;
mod plan;
mod plane;
mod query;
mod reconcile;
mod report;
mod socket;
mod state;
mod values;

pub use plane::Plane;
pub use report::{ApplyReport, CleanupReport, EntryError, Event, Interface, RouteLookup};
pub use state::KernelState;

/// The route protocol number (`rtm_protocol`) of the agent's routes. Free in iproute2's `rt_protos`
/// and in `linux/rtnetlink.h`; FRRouting uses 184 and up, Calico 80, OVN 84.
pub const PROTOCOL: u8 = 70;
