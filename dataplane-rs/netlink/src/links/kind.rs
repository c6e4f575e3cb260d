//! What the reconciler asks of a kind of device.

use std::fmt;

use netlink_packet_route::link::LinkInfo;

use super::Details;
use crate::values::{DevName, Mac};

/// A device that the agent wants, of one kind. Its [`Display`](fmt::Display) names the device as an
/// operator would write it for `ip`.
pub trait LinkKind: fmt::Display {
    fn name(&self) -> DevName;

    /// Bytes of the largest packet.
    fn mtu(&self) -> u32;

    /// The kernel's name of the kind (`IFLA_INFO_KIND`).
    fn kind(&self) -> &'static str;

    /// What an RTM_NEWLINK says of the kind, with the index of the device below; none where
    /// netlink cannot make such a device.
    fn info(&self, lower: Option<u32>) -> Option<Vec<LinkInfo>>;

    /// The flag that names it, where one does.
    fn name_flag(&self) -> Option<&'static str> {
        None
    }

    /// The hardware address it must have; none where the kernel's choice is fine.
    fn mac(&self) -> Option<Mac> {
        None
    }

    /// The device below it.
    fn lower(&self) -> Option<DevName> {
        None
    }

    /// Whether a device of this kind can become the one that is wanted by changes alone.
    fn matches(&self, _actual: &Details, _lower: Option<u32>) -> bool {
        true
    }

    /// Whether a device of another name cannot be there at the same time.
    fn excludes(&self, _actual: &Details) -> bool {
        false
    }

    /// Whether the kernel is to give it no IPv6 link-local address.
    fn no_link_local(&self) -> bool {
        false
    }

    /// Whether the MTU must be set once the device is there, and not while it is made.
    fn mtu_afterwards(&self) -> bool {
        false
    }
}
