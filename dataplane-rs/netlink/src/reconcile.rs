//! Makes the kernel match a desired state, in an order that never black-holes: devices, addresses,
//! fdb entries and neighbours before the routes that use them; the reverse to remove.

use std::fmt::Display;
use std::io;
use std::time::Instant;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;

use crate::PROTOCOLS;
use crate::actual::{
    self, ActualAddress, ActualFdb, ActualLink, ActualNeighbour, ActualRoute, NeighbourEntry,
};
use crate::change::{self, Change};
use crate::desired::Desired;
use crate::links;
use crate::message;
use crate::plan::{self, Devices, Plan, Put, Tables};
use crate::report::{ApplyReport, CleanupReport, record};
use crate::socket::RtSocket;
use crate::state::Address;

/// With more routes than this their protocol numbers are spread, see [`PROTOCOLS`].
const MANY_ROUTES: usize = 1000;

/// Reconciles `desired`, and gives the devices as they are by then.
///
/// # Errors
/// When the socket fails. An entry that the kernel refuses is in the report.
pub fn reconcile(socket: &mut RtSocket, desired: &Desired) -> io::Result<(ApplyReport, Devices)> {
    let start = Instant::now();
    let mut report = ApplyReport {
        errors: desired.conflicts.clone(),
        ..ApplyReport::default()
    };
    let before = report.counts();
    let (devices, links) = links::reconcile(socket, desired, &mut report)?;
    report.tally("links", before);
    addresses(socket, desired, &devices, &mut report)?;
    let (neighbours, fdb) = neighbour_tables(socket, desired, &devices)?;
    let tables = Tables {
        fdb: plan::fdb(desired, &devices, fdb),
        neighbours: plan::neighbours(desired, &devices, neighbours),
        routes: plan::routes(desired, &devices, dump_routes(socket)?),
    };
    carry_out(socket, &tables, desired, &mut report)?;
    let before = report.counts();
    links::remove_stale(socket, desired, &links, &mut report)?;
    report.tally("links", before);
    report.micros = elapsed(start);
    Ok((report, devices))
}

/// Carries out a change that `desired` has taken up, and nothing else.
///
/// # Errors
/// When the socket fails. None where the kernel is not as it was thought to be: everything has to be
/// reconciled.
pub fn reconcile_change(
    socket: &mut RtSocket,
    desired: &Desired,
    change: &Change,
    devices: &Devices,
) -> io::Result<Option<ApplyReport>> {
    let start = Instant::now();
    let Some(tables) = change::plan(change, devices) else {
        return Ok(None);
    };
    let mut report = ApplyReport::default();
    carry_out(socket, &tables, desired, &mut report)?;
    let total = desired.routes.len() + desired.neighbours.len() + desired.fdb.len();
    report.kept = (total as u32).saturating_sub(report.added + report.changed);
    report.micros = elapsed(start);
    Ok(Some(report).filter(|report| report.errors.is_empty()))
}

fn elapsed(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What routes use comes before them and goes after them.
fn carry_out(
    socket: &mut RtSocket,
    Tables {
        routes,
        neighbours,
        fdb,
    }: &Tables,
    desired: &Desired,
    report: &mut ApplyReport,
) -> io::Result<()> {
    put(socket, "fdb", fdb, report, |put| {
        let index = put.index.unwrap_or_default();
        let request = message::new_fdb(index, put.entry.mac, put.entry.dst);
        (request, NLM_F_CREATE | NLM_F_REPLACE)
    })?;
    put(socket, "neighbours", neighbours, report, |put| {
        let index = put.index.unwrap_or_default();
        let request = message::new_neighbour(index, put.entry.ip, put.entry.mac);
        (request, NLM_F_CREATE | NLM_F_REPLACE)
    })?;
    let many = desired.routes.len() > MANY_ROUTES;
    put(socket, "routes", routes, report, |put| {
        // Without NLM_F_EXCL, IPv6 would add a second next hop to a route that came up meanwhile.
        let mode = if put.replaces {
            NLM_F_REPLACE
        } else {
            NLM_F_EXCL
        };
        (
            message::new_route(&put.entry, put.index, message::protocol(&put.entry, many)),
            NLM_F_CREATE | mode,
        )
    })?;
    let route = |route: &ActualRoute| format!("route {}", route.key.dst);
    remove(
        socket,
        "routes",
        &routes.remove,
        report,
        message::del_route,
        route,
    )?;
    let neighbour = |entry: &ActualNeighbour| format!("neighbour {}", entry.ip);
    remove(
        socket,
        "neighbours",
        &neighbours.remove,
        report,
        message::del_neighbour,
        neighbour,
    )?;
    let entry = |entry: &ActualFdb| format!("fdb {}", entry.mac);
    remove(socket, "fdb", &fdb.remove, report, message::del_fdb, entry)
}

fn addresses(
    socket: &mut RtSocket,
    desired: &Desired,
    devices: &Devices,
    report: &mut ApplyReport,
) -> io::Result<()> {
    let plan = address_plan(socket, desired, devices)?;
    put_addresses(socket, &plan, report)?;
    let describe = |address: &ActualAddress| format!("address {}", address.cidr);
    let delete = |address: &ActualAddress| message::del_address(address.index, address.cidr);
    remove(socket, "addresses", &plan.remove, report, delete, describe)?;
    // With a primary address the kernel removes its secondaries, which may be wanted.
    if plan.remove.iter().any(|address| address.cidr.ip.is_ipv4()) {
        let mut again = address_plan(socket, desired, devices)?;
        again.kept = 0;
        again.errors.clear();
        put_addresses(socket, &again, report)?;
    }
    Ok(())
}

fn address_plan(
    socket: &mut RtSocket,
    desired: &Desired,
    devices: &Devices,
) -> io::Result<Plan<Address, ActualAddress>> {
    let actual = socket.dump(&message::get_addresses(), actual::address)?;
    Ok(plan::addresses(desired, devices, actual))
}

fn put_addresses(
    socket: &mut RtSocket,
    plan: &Plan<Address, ActualAddress>,
    report: &mut ApplyReport,
) -> io::Result<()> {
    put(socket, "addresses", plan, report, |put| {
        let index = put.index.unwrap_or_default();
        let request = message::new_address(index, put.entry.cidr);
        (request, NLM_F_CREATE | NLM_F_EXCL)
    })
}

/// Entries of the neighbour tables and of the forwarding databases.
type NeighbourTables = (Vec<ActualNeighbour>, Vec<ActualFdb>);

/// What is on the wanted devices.
pub fn neighbour_tables(
    socket: &mut RtSocket,
    desired: &Desired,
    devices: &Devices,
) -> io::Result<NeighbourTables> {
    let (mut neighbours, mut fdb) = (Vec::new(), Vec::new());
    for link in &desired.links {
        let index = devices.indices.get(&link.name()).copied();
        let Some(index) = index.filter(|index| devices.own.contains(index)) else {
            continue;
        };
        // Kernels before 4.20 do not filter.
        neighbours.extend(socket.dump(&message::get_neighbours(index), |message| {
            match actual::neighbour(message)? {
                NeighbourEntry::Neighbour(entry) if entry.index == index => Some(entry),
                _ => None,
            }
        })?);
        if link.kind() != "vxlan" {
            continue;
        }
        fdb.extend(
            socket.dump(
                &message::get_fdb(index),
                |message| match actual::neighbour(message)? {
                    NeighbourEntry::Fdb(entry) if entry.index == index => Some(entry),
                    _ => None,
                },
            )?,
        );
    }
    Ok((neighbours, fdb))
}

/// All routes of the main table.
pub fn dump_routes(socket: &mut RtSocket) -> io::Result<Vec<ActualRoute>> {
    let mut routes = socket.dump(&message::get_routes(AddressFamily::Inet), actual::route)?;
    routes.extend(socket.dump(&message::get_routes(AddressFamily::Inet6), actual::route)?);
    Ok(routes)
}

fn put<W: Display, A>(
    socket: &mut RtSocket,
    table: &'static str,
    plan: &Plan<W, A>,
    report: &mut ApplyReport,
    request: impl Fn(&Put<W>) -> (Message, u16),
) -> io::Result<()> {
    report.kept += plan.kept;
    report.errors.extend(plan.errors.iter().cloned());
    let before = report.counts();
    let refusals = socket.execute(plan.put.iter().map(request))?;
    let replaced = plan.put.iter().filter(|put| put.replaces).count() as u32;
    report.changed += replaced;
    report.added += plan.put.len() as u32 - replaced;
    for refusal in &refusals {
        if plan.put[refusal.index].replaces {
            report.changed -= 1;
        } else {
            report.added -= 1;
        }
    }
    report.tally(table, before);
    for (at, put) in plan.put.iter().enumerate().take(report.room()) {
        if !refusals.iter().any(|refusal| refusal.index == at) {
            let what = if put.replaces { "changed" } else { "added" };
            report.name(what, &put.entry);
        }
    }
    record(report, refusals, false, |at| plan.put[at].entry.to_string());
    Ok(())
}

fn remove<A>(
    socket: &mut RtSocket,
    table: &'static str,
    entries: &[A],
    report: &mut ApplyReport,
    request: impl Fn(&A) -> Message,
    describe: impl Fn(&A) -> String,
) -> io::Result<()> {
    let before = report.counts();
    let refusals = socket.execute(entries.iter().map(|entry| (request(entry), 0)))?;
    for (at, entry) in entries.iter().enumerate().take(report.room()) {
        if !refusals.iter().any(|refusal| refusal.index == at) {
            report.name("removed", describe(entry));
        }
    }
    let refused = record(report, refusals, true, |at| describe(&entries[at]));
    report.removed += entries.len() as u32 - refused;
    report.tally(table, before);
    Ok(())
}

/// Removes the agent's devices and all routes with its protocol number.
pub fn cleanup(socket: &mut RtSocket) -> io::Result<CleanupReport> {
    let mut report = CleanupReport::default();
    let mut counts = ApplyReport::default();
    let links = socket.dump(&message::get_links(), actual::link)?;
    let mut routes = dump_routes(socket)?;
    routes.retain(|route| PROTOCOLS.contains(&route.protocol));
    let name = |route: &ActualRoute| format!("route {}", route.key.dst);
    remove(
        socket,
        "routes",
        &routes,
        &mut counts,
        message::del_route,
        name,
    )?;
    report.removed.extend(routes.iter().map(name));
    let links: Vec<_> = links.into_iter().filter(|link| link.owned).collect();
    let name = |link: &ActualLink| format!("link {}", link.name);
    remove(
        socket,
        "links",
        &links,
        &mut counts,
        |link| message::del_link(link.index),
        name,
    )?;
    report.removed.extend(links.iter().map(name));
    let kept: Vec<&str> = counts
        .errors
        .iter()
        .filter_map(|error| error.entry.strip_prefix("removal of "))
        .collect();
    report
        .removed
        .retain(|entry| !kept.contains(&entry.as_str()));
    report.errors = counts.errors;
    Ok(report)
}
