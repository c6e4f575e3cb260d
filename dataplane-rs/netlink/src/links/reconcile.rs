//! The agent's devices: made, adopted, corrected, removed.

use std::collections::HashSet;
use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::LinkInfo;

use super::Link;
use crate::actual::{self, ActualLink};
use crate::desired::Desired;
use crate::holder;
use crate::message::{self, LinkChange};
use crate::plan::Devices;
use crate::report::{ApplyReport, record};
use crate::socket::RtSocket;
use crate::values::DevName;

/// What a wanted link needs.
#[derive(PartialEq, Eq, Debug)]
enum Need {
    Nothing,
    /// With what the request says of its kind.
    Create(Vec<LinkInfo>),
    Change(LinkChange),
    /// It differs in what cannot be altered: its index, and what the new one is made with.
    Recreate(u32, Vec<LinkInfo>),
    /// A device that is not to be touched has its name.
    Occupied(String),
    /// The device below it is not there.
    NoLower(DevName),
    /// The tunnel whose device it is has lost it.
    NoTunnel,
}

/// Makes the links right.
pub fn reconcile(
    socket: &mut RtSocket,
    desired: &Desired,
    report: &mut ApplyReport,
) -> io::Result<(Devices, Vec<ActualLink>)> {
    let mut links = socket.dump(&message::get_links(), actual::link)?;
    let mut failed = HashSet::new();
    let mut touched = false;
    for wanted in &desired.links {
        let need = need(wanted, &links);
        touched |= need != Need::Nothing;
        let before = report.errors.len();
        if !meet(socket, wanted, need, &mut links, report)? {
            failed.insert(wanted.name());
        }
        if let Link::Vxlan(vxlan) = wanted {
            holder::explain(&mut report.errors[before..], vxlan, &links);
        }
    }
    if touched {
        links = socket.dump(&message::get_links(), actual::link)?;
    }
    let mut devices = Devices {
        failed,
        ..Devices::default()
    };
    for link in &links {
        devices.names.insert(link.index, link.name);
        let failed = devices.failed.contains(&link.name);
        if !failed {
            devices.indices.insert(link.name, link.index);
        }
        if !failed && desired.link(link.name).is_some() {
            devices.own.insert(link.index);
        }
    }
    Ok((devices, links))
}

/// Removes the agent's devices that are no longer wanted.
pub fn remove_stale(
    socket: &mut RtSocket,
    desired: &Desired,
    links: &[ActualLink],
    report: &mut ApplyReport,
) -> io::Result<()> {
    let stale: Vec<_> = links
        .iter()
        .filter(|link| is_stale(link, desired))
        .collect();
    let requests = stale.iter().map(|link| (message::del_link(link.index), 0));
    let refusals = socket.execute(requests)?;
    for link in &stale {
        report.name("removed", format_args!("link {}", link.name));
    }
    let refused = record(report, refusals, true, |at| {
        format!("link {}", stale[at].name)
    });
    report.removed += stale.len() as u32 - refused;
    Ok(())
}

/// What is wrong with a device, for [`crate::inspect`].
pub struct Problem {
    pub errno: i32,
    pub message: String,
    /// Nothing can be on it.
    pub blocks: bool,
}

/// The wanted links that are not as wanted, and why.
pub fn problems<'a>(
    desired: &'a Desired,
    links: &'a [ActualLink],
) -> impl Iterator<Item = (&'a Link, Problem)> {
    let problem = |link| Some((link, problem(link, need(link, links), links)?));
    desired.links.iter().filter_map(problem)
}

fn problem(wanted: &Link, need: Need, links: &[ActualLink]) -> Option<Problem> {
    let name = wanted.name();
    let (errno, message) = match need {
        Need::Nothing => return None,
        Need::Create(_) | Need::NoTunnel => (libc::ENODEV, "the device does not exist".to_string()),
        Need::Occupied(kind) => (libc::EEXIST, occupied(wanted, &kind)),
        Need::NoLower(lower) => (libc::ENODEV, format!("no device {lower} below it")),
        Need::Recreate(..) => (
            libc::EINVAL,
            "its VNI, port, local address or lower device is not that of the network config"
                .to_string(),
        ),
        Need::Change(change) => {
            let actual = links.iter().find(|link| link.name == name)?;
            let differences = differences(&change, actual);
            if differences.is_empty() {
                return None;
            }
            let message = differences.join(", ");
            return Some(Problem {
                errno: libc::EINVAL,
                message,
                blocks: false,
            });
        }
    };
    Some(Problem {
        errno,
        message,
        blocks: true,
    })
}

/// What matters to packets: the alias and link-local addresses do not.
fn differences(change: &LinkChange, actual: &ActualLink) -> Vec<String> {
    let mtu = |mtu: u32| format!("its MTU is {} and should be {mtu}", actual.mtu);
    let mac = |mac| format!("its MAC is not {mac}, which peers send to");
    let texts = [
        change.up.then(|| "it is down".to_string()),
        change.mtu.map(mtu),
        change.mac.map(mac),
    ];
    texts.into_iter().flatten().collect()
}

fn occupied(wanted: &Link, kind: &str) -> String {
    let kind = if kind.is_empty() { "hardware" } else { kind };
    let name = wanted.name();
    let flag = wanted.name_flag();
    let other = flag.map_or(String::new(), |flag| format!(", or name another by {flag}"));
    format!(
        "a device {name} of kind {kind} exists that is not the agent's: remove it (ip link \
         delete {name}) or rename it{other}"
    )
}

/// Whether a link is as wanted.
pub fn is_right(wanted: &Link, links: &[ActualLink]) -> bool {
    need(wanted, links) == Need::Nothing
}

fn is_stale(link: &ActualLink, desired: &Desired) -> bool {
    link.owned && desired.link(link.name).is_none()
}

fn need(wanted: &Link, links: &[ActualLink]) -> Need {
    let find = |name| links.iter().find(|link: &&ActualLink| link.name == name);
    let lower = match wanted.lower() {
        Some(name) => match find(name) {
            Some(lower) => Some(lower.index),
            None => return Need::NoLower(name),
        },
        None => None,
    };
    let Some(actual) = find(wanted.name()) else {
        return match wanted.info(lower) {
            Some(info) => Need::Create(info),
            None => Need::NoTunnel,
        };
    };
    if actual.kind != wanted.kind() {
        return Need::Occupied(actual.kind.clone());
    }
    if !wanted.matches(&actual.details, lower) {
        return match wanted.info(lower) {
            Some(info) => Need::Recreate(actual.index, info),
            None => Need::NoTunnel,
        };
    }
    let change = LinkChange {
        mtu: (actual.mtu != wanted.mtu()).then_some(wanted.mtu()),
        mac: wanted.mac().filter(|mac| actual.mac != Some(*mac)),
        alias: !actual.owned,
        no_link_local: wanted.no_link_local() && !actual.no_link_local,
        up: !actual.up(),
    };
    if change == LinkChange::default() {
        Need::Nothing
    } else {
        Need::Change(change)
    }
}

/// Does what a link needs; false where there is no such device afterwards. One that is not all as
/// wanted still carries what can be put on it.
fn meet(
    socket: &mut RtSocket,
    wanted: &Link,
    need: Need,
    links: &mut Vec<ActualLink>,
    report: &mut ApplyReport,
) -> io::Result<bool> {
    match need {
        Need::Nothing => {
            refuse_router_advertisements(wanted.name());
            report.kept += 1;
            Ok(true)
        }
        Need::Occupied(kind) => {
            report.refuse(wanted, libc::EEXIST, occupied(wanted, &kind));
            Ok(false)
        }
        Need::NoLower(lower) => {
            report.refuse(wanted, libc::ENODEV, format!("no device {lower} below it"));
            Ok(false)
        }
        Need::NoTunnel => {
            let message = "its device is gone; restarting the tunnel".to_string();
            report.refuse(wanted, libc::ENODEV, message);
            Ok(false)
        }
        Need::Change(change) => {
            let done = alter(socket, wanted, &change, report)?;
            report.changed += u32::from(done);
            if done {
                report.name("changed", wanted);
            }
            Ok(true)
        }
        Need::Recreate(index, info) => {
            let refusals = socket.execute([(message::del_link(index), 0)])?;
            if record(report, refusals, true, |_| wanted.to_string()) > 0 {
                return Ok(false);
            }
            links.retain(|link| link.index != index);
            let done = create(socket, wanted, info, links, report)?;
            report.changed += u32::from(done);
            if done {
                report.name("recreated", wanted);
            }
            Ok(done)
        }
        Need::Create(info) => {
            let done = create(socket, wanted, info, links, report)?;
            report.added += u32::from(done);
            if done {
                report.name("added", wanted);
            }
            Ok(done)
        }
    }
}

fn create(
    socket: &mut RtSocket,
    wanted: &Link,
    info: Vec<LinkInfo>,
    links: &mut Vec<ActualLink>,
    report: &mut ApplyReport,
) -> io::Result<bool> {
    remove_rival(socket, wanted, links, report)?;
    let request = (
        message::new_link(&**wanted, info),
        NLM_F_CREATE | NLM_F_EXCL,
    );
    let refusals = socket.execute([request])?;
    if record(report, refusals, false, |_| wanted.to_string()) > 0 {
        return Ok(false);
    }
    let change = LinkChange {
        mtu: wanted.mtu_afterwards().then_some(wanted.mtu()),
        mac: None,
        alias: true,
        no_link_local: wanted.no_link_local(),
        up: true,
    };
    alter(socket, wanted, &change, report)?;
    Ok(true)
}

/// Removes the agent's own device of an earlier life that the new one cannot be beside.
fn remove_rival(
    socket: &mut RtSocket,
    wanted: &Link,
    links: &mut Vec<ActualLink>,
    report: &mut ApplyReport,
) -> io::Result<()> {
    let rival = links.iter().position(|link| {
        link.owned && link.name != wanted.name() && wanted.excludes(&link.details)
    });
    if let Some(rival) = rival {
        let link = links.swap_remove(rival);
        let refusals = socket.execute([(message::del_link(link.index), 0)])?;
        let refused = record(report, refusals, true, |_| format!("link {}", link.name));
        report.removed += 1 - refused;
    }
    Ok(())
}

/// A router's advertisement in the overlay must not move this node's default route, whoever made the
/// device.
fn refuse_router_advertisements(name: DevName) {
    let setting = format!("/proc/sys/net/ipv6/conf/{name}/accept_ra");
    // Not there where the kernel has no IPv6, and read-only in some containers.
    if std::fs::read_to_string(&setting).is_ok_and(|value| value.trim() != "0") {
        let _ = std::fs::write(&setting, "0");
    }
}

fn alter(
    socket: &mut RtSocket,
    wanted: &Link,
    change: &LinkChange,
    report: &mut ApplyReport,
) -> io::Result<bool> {
    let name = wanted.name();
    if change.no_link_local {
        // Refused where there is no IPv6, which is as good.
        let only = LinkChange {
            no_link_local: true,
            ..LinkChange::default()
        };
        socket.execute([(message::set_link(name, &only), 0)])?;
    }
    refuse_router_advertisements(name);
    let rest = LinkChange {
        no_link_local: false,
        ..change.clone()
    };
    if rest == LinkChange::default() {
        return Ok(true);
    }
    let refusals = socket.execute([(message::set_link(name, &rest), 0)])?;
    Ok(record(report, refusals, false, |_| wanted.to_string()) == 0)
}
