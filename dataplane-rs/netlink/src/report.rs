//! What the control side is told: the Rust side of the answers in `dataplane/state.ts`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;

use serde::Serialize;

use crate::socket::Refusal;

/// Entries that a report names.
const MOST_NAMED: usize = 12;

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

/// Entries of one table that were touched.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TableCounts {
    pub added: u32,
    pub changed: u32,
    pub removed: u32,
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
    /// The counts by table, of those that were touched.
    pub tables: BTreeMap<&'static str, TableCounts>,
    /// The first of the entries that were touched: `added route 10.1.2.0/24 via …`.
    pub entries: Vec<String>,
    /// Duration in microseconds.
    pub micros: u64,
}

impl ApplyReport {
    /// Whether the kernel was touched.
    pub fn touched(&self) -> bool {
        self.added + self.changed + self.removed > 0
    }

    /// The counts of all tables.
    pub(crate) fn counts(&self) -> TableCounts {
        TableCounts {
            added: self.added,
            changed: self.changed,
            removed: self.removed,
        }
    }

    /// Notes that what was counted since `before` is of this table.
    pub(crate) fn tally(&mut self, table: &'static str, before: TableCounts) {
        let now = self.counts();
        if now == before {
            return;
        }
        let counts = self.tables.entry(table).or_default();
        counts.added += now.added - before.added;
        counts.changed += now.changed - before.changed;
        counts.removed += now.removed - before.removed;
    }

    /// Names an entry that was touched, while there is room.
    pub(crate) fn name(&mut self, what: &str, entry: impl Display) {
        if self.entries.len() < MOST_NAMED {
            self.entries.push(format!("{what} {entry}"));
        }
    }

    /// How many more entries can be named.
    pub(crate) fn room(&self) -> usize {
        MOST_NAMED - self.entries.len()
    }

    /// Adds an entry that was not even tried.
    pub fn refuse(&mut self, entry: &impl Display, errno: i32, message: String) {
        self.errors.push(EntryError {
            entry: entry.to_string(),
            errno,
            message,
        });
    }
}

/// Puts refusals into the report and gives their number; with `removal`, what is gone already is
/// as good as removed.
pub fn record(
    report: &mut ApplyReport,
    refusals: Vec<Refusal>,
    removal: bool,
    describe: impl Fn(usize) -> String,
) -> u32 {
    const GONE: [i32; 4] = [libc::ESRCH, libc::ENOENT, libc::ENODEV, libc::EADDRNOTAVAIL];
    let mut count = 0;
    for refusal in refusals {
        if removal && GONE.contains(&refusal.errno) {
            continue;
        }
        count += 1;
        let entry = if removal {
            format!("removal of {}", describe(refusal.index))
        } else {
            describe(refusal.index)
        };
        report.errors.push(refused(entry, &refusal));
    }
    count
}

fn refused(entry: String, refusal: &Refusal) -> EntryError {
    let mut message = errno_text(refusal.errno);
    if let Some(detail) = &refusal.detail {
        message = format!("{message}: {detail}");
    }
    EntryError {
        entry,
        errno: refusal.errno,
        message,
    }
}

/// The text of an errno, without the number that Rust puts behind it.
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
    pub addresses: Vec<InterfaceAddress>,
}

/// What two VXLAN devices may fight over.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Vxlan {
    pub vni: u32,
    pub port: u16,
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
    /// Rules of the packet filter may have changed.
    #[serde(rename = "packetFilter")]
    PacketFilter,
    /// Links and addresses have changed so fast that it is not told which: each of them may have.
    Missed,
    /// The monitor failed; it starts anew by itself.
    Error { message: String },
    /// What a tunnel tells; one that failed carries nothing until the state is applied again.
    Tunnel { message: String, failed: bool },
}
