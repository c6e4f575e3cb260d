//! What the control side is told: the Rust side of the answers in `dataplane/state.ts`.

use serde::Serialize;

/// One entry that the kernel refused.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct EntryError {
    /// The entry as an operator would write it.
    pub entry: String,
    /// Positive errno.
    pub errno: i32,
    /// Its text, with the kernel's extended message where there is one.
    pub message: String,
}

/// What one reconcile did.
#[derive(Serialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct ApplyReport {
    pub added: u32,
    pub changed: u32,
    pub removed: u32,
    /// Entries that were right and were left untouched.
    pub kept: u32,
    pub errors: Vec<EntryError>,
    /// Duration in microseconds.
    pub micros: u64,
}

impl ApplyReport {
    /// Whether the kernel was touched.
    pub fn touched(&self) -> bool {
        self.added + self.changed + self.removed > 0
    }
}

/// What a cleanup did.
#[derive(Serialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct CleanupReport {
    /// Each thing removed, as an operator would write it.
    pub removed: Vec<String>,
    pub errors: Vec<EntryError>,
}

/// A network interface as the kernel has it.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub kind: String,
    pub mac: String,
    pub mtu: u32,
    pub up: bool,
    pub loopback: bool,
    pub point_to_point: bool,
    pub owned: bool,
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an [`Interface`].
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceAddress {
    pub ip: String,
    pub prefix_length: u8,
    pub scope: &'static str,
    pub dynamic: bool,
    pub temporary: bool,
    pub deprecated: bool,
    pub tentative: bool,
    pub duplicate: bool,
}

/// One next hop of a default route of the main table.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct DefaultRoute {
    pub ipv6: bool,
    pub dev: String,
    pub metric: u32,
    /// Its device has no carrier.
    pub link_down: bool,
}

/// What `ip route get` says.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct RouteLookup {
    pub dev: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// The device finds its neighbours by ARP or NDP: neither loopback nor a tunnel (IFF_NOARP).
    pub resolves: bool,
}

/// What the monitor tells.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// Something of ours was changed by someone else and was put back.
    Healed { report: ApplyReport },
    /// An interface that is not ours came, went, went up or down, or changed its MTU.
    Link {
        name: String,
        up: bool,
        mtu: u32,
        present: bool,
    },
    /// An address was added to or removed from an interface that is not ours.
    Address {
        dev: String,
        cidr: String,
        present: bool,
    },
    /// Routes or rules that are not ours have changed; several changes are one event.
    Routes,
    /// A default route of the main table came, changed or went.
    #[serde(rename = "defaultRoute")]
    DefaultRoute,
    /// The monitor failed; it starts anew by itself.
    Error { message: String },
    /// What a tunnel tells; one that failed carries nothing until the state is applied again.
    Tunnel { message: String, failed: bool },
}
