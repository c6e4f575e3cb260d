//! What differs between a desired state and the kernel, without changing anything.

use std::collections::HashSet;
use std::fmt::Display;
use std::io;

use crate::actual;
use crate::desired::Desired;
use crate::links;
use crate::message;
use crate::plan::{self, Devices, Plan};
use crate::reconcile;
use crate::report::EntryError;
use crate::socket::RtSocket;
use crate::state::KernelState;

/// Entries of `state` that the kernel lacks or has otherwise, each with what is wrong. What is there
/// and not in `state` does not count.
pub fn inspect(state: KernelState) -> io::Result<Vec<EntryError>> {
    let desired = Desired::new(state);
    let mut socket = RtSocket::open()?;
    let there = socket.dump(&message::get_links(), actual::link)?;
    let mut found = desired.conflicts.clone();
    let mut failed = HashSet::new();
    for (link, problem) in links::problems(&desired, &there) {
        if problem.blocks {
            failed.insert(link.name());
        }
        found.push(entry(link, problem.errno, problem.message));
    }
    let mut devices = Devices {
        failed,
        ..Devices::default()
    };
    for link in &there {
        devices.names.insert(link.index, link.name);
        if !devices.failed.contains(&link.name) {
            devices.indices.insert(link.name, link.index);
            if desired.link(link.name).is_some() {
                devices.own.insert(link.index);
            }
        }
    }
    let addresses = socket.dump(&message::get_addresses(), actual::address)?;
    take(
        plan::addresses(&desired, &devices, addresses),
        &devices,
        &mut found,
    );
    let (neighbours, fdb) = reconcile::neighbour_tables(&mut socket, &desired, &devices)?;
    take(plan::fdb(&desired, &devices, fdb), &devices, &mut found);
    take(
        plan::neighbours(&desired, &devices, neighbours),
        &devices,
        &mut found,
    );
    let routes = reconcile::dump_routes(&mut socket)?;
    take(
        plan::routes(&desired, &devices, routes),
        &devices,
        &mut found,
    );
    Ok(found)
}

fn take<W: Display, A>(plan: Plan<W, A>, devices: &Devices, found: &mut Vec<EntryError>) {
    for put in &plan.put {
        let problem = if put.replaces {
            "differs from what it should be"
        } else {
            "missing"
        };
        found.push(entry(&put.entry, libc::ENOENT, problem.to_string()));
    }
    // What belongs on a device that is not there is said by the device.
    let no_device = |error: &EntryError| error.errno == libc::ENODEV && !devices.failed.is_empty();
    found.extend(plan.errors.into_iter().filter(|error| !no_device(error)));
}

fn entry(entry: &impl Display, errno: i32, message: String) -> EntryError {
    EntryError {
        entry: entry.to_string(),
        errno,
        message,
    }
}
