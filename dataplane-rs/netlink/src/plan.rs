//! The difference between desired and actual, a pure function for each table.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::PROTOCOLS;
use crate::actual::{ActualAddress, ActualFdb, ActualNeighbour, ActualRoute};
use crate::desired::{Desired, satisfies};
use crate::report::EntryError;
use crate::state::{Address, Fdb, Neighbour, Route};
use crate::values::DevName;

/// What is to be done to the tables that peers are in.
pub struct Tables {
    pub routes: Plan<Route, ActualRoute>,
    pub neighbours: Plan<Neighbour, ActualNeighbour>,
    pub fdb: Plan<Fdb, ActualFdb>,
}

/// The devices as they are once the links were reconciled.
#[derive(Clone, Default, Debug)]
pub struct Devices {
    pub names: HashMap<u32, DevName>,
    pub indices: HashMap<DevName, u32>,
    /// Indices of the agent's devices.
    pub own: HashSet<u32>,
    /// Links that could not be made; what belongs on them waits.
    pub failed: HashSet<DevName>,
}

impl Devices {
    fn name(&self, index: u32) -> Option<DevName> {
        self.names.get(&index).copied()
    }

    /// The index of one of the agent's devices.
    pub fn own_index(&self, name: DevName) -> Option<u32> {
        let index = self.indices.get(&name).copied();
        index.filter(|index| self.own.contains(index))
    }
}

/// An entry to add, or to put in the place of a wrong one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Put<W> {
    pub entry: W,
    /// Index of its device; none for a route without one.
    pub index: Option<u32>,
    pub replaces: bool,
}

/// What is to be done to a table.
#[derive(Debug)]
pub struct Plan<W, A> {
    pub put: Vec<Put<W>>,
    pub remove: Vec<A>,
    pub kept: u32,
    pub errors: Vec<EntryError>,
}

impl<W: std::fmt::Display, A> Plan<W, A> {
    pub fn new() -> Self {
        Self {
            put: Vec::new(),
            remove: Vec::new(),
            kept: 0,
            errors: Vec::new(),
        }
    }

    pub fn put(&mut self, entry: W, index: Option<u32>, replaces: bool) {
        self.put.push(Put {
            entry,
            index,
            replaces,
        });
    }

    fn error(&mut self, entry: &W, errno: i32, message: String) {
        let entry = entry.to_string();
        self.errors.push(EntryError {
            entry,
            errno,
            message,
        });
    }

    /// An entry whose device is not there: said once for a link that failed, by the link.
    fn no_device(&mut self, entry: &W, dev: DevName, devices: &Devices) {
        if !devices.failed.contains(&dev) {
            let message = format!("no device {dev} for it");
            self.error(entry, libc::ENODEV, message);
        }
    }
}

fn grouped<K: Hash + Eq, A>(entries: Vec<A>, key: impl Fn(&A) -> K) -> HashMap<K, Vec<A>> {
    let mut groups: HashMap<K, Vec<A>> = HashMap::with_capacity(entries.len());
    for entry in entries {
        groups.entry(key(&entry)).or_default().push(entry);
    }
    groups
}

/// Addresses: wanted ones on the agent's devices, no other there but the kernel's.
pub fn addresses(
    desired: &Desired,
    devices: &Devices,
    actual: Vec<ActualAddress>,
) -> Plan<Address, ActualAddress> {
    let mut plan = Plan::new();
    let mut there = HashSet::new();
    for address in actual {
        let own = devices.own.contains(&address.index);
        let Some(name) = devices.name(address.index).filter(|_| own) else {
            continue;
        };
        let entry = address.entry(name);
        if desired.addresses.contains(&entry) {
            there.insert(entry);
        } else if !address.is_kernels() {
            plan.remove.push(address);
        }
    }
    for entry in &desired.addresses {
        if there.contains(entry) {
            plan.kept += 1;
        } else if let Some(index) = devices.own_index(entry.dev) {
            plan.put(*entry, Some(index), false);
        } else {
            plan.no_device(entry, entry.dev, devices);
        }
    }
    plan
}

/// Neighbours: permanent ones only; what the kernel learned by traffic is its own.
pub fn neighbours(
    desired: &Desired,
    devices: &Devices,
    actual: Vec<ActualNeighbour>,
) -> Plan<Neighbour, ActualNeighbour> {
    let mut plan = Plan::new();
    let mut there = HashMap::with_capacity(actual.len());
    for entry in actual {
        let Some(name) = devices.name(entry.index) else {
            continue;
        };
        if desired.neighbours.contains_key(&(name, entry.ip)) {
            let mac = entry.mac.filter(|_| entry.permanent);
            there.insert((name, entry.ip), mac);
        } else if entry.permanent {
            plan.remove.push(entry);
        }
    }
    for (&(dev, ip), &mac) in &desired.neighbours {
        let entry = Neighbour { dev, ip, mac };
        let now = there.get(&(dev, ip));
        if now == Some(&Some(mac)) {
            plan.kept += 1;
        } else if let Some(index) = devices.own_index(dev) {
            plan.put(entry, Some(index), now.is_some());
        } else {
            plan.no_device(&entry, dev, devices);
        }
    }
    plan
}

/// Fdb entries: one destination for each MAC; learned entries are the kernel's.
pub fn fdb(desired: &Desired, devices: &Devices, actual: Vec<ActualFdb>) -> Plan<Fdb, ActualFdb> {
    let mut plan = Plan::new();
    let mut there = grouped(actual, |entry| (entry.index, entry.mac));
    for (&(dev, mac), &dst) in &desired.fdb {
        let entry = Fdb { dev, mac, dst };
        let Some(index) = devices.own_index(dev) else {
            plan.no_device(&entry, dev, devices);
            continue;
        };
        let mut now = there.remove(&(index, mac)).unwrap_or_default();
        if let Some(right) = now.iter().position(|actual| actual.is(dst)) {
            now.swap_remove(right);
            plan.kept += 1;
        } else {
            plan.put(entry, Some(index), !now.is_empty());
            // The kernel puts the new destination in the place of the first.
            now.drain(..now.len().min(1));
        }
        plan.remove.extend(now);
    }
    plan.remove.extend(
        there
            .into_values()
            .flatten()
            .filter(|entry| entry.permanent),
    );
    plan
}

/// Routes of the main table. Those of others are never touched: where one stands in the place of a
/// wanted one, it either does the same, or that is an error.
pub fn routes(
    desired: &Desired,
    devices: &Devices,
    actual: Vec<ActualRoute>,
) -> Plan<Route, ActualRoute> {
    let mut plan = Plan::new();
    let owned = |route: &ActualRoute| {
        !route.is_kernels()
            && (PROTOCOLS.contains(&route.protocol)
                || route.is_on(|index| devices.own.contains(&index)))
    };
    let mut wanted_there = HashMap::with_capacity(desired.routes.len());
    for route in actual {
        if desired.routes.contains_key(&route.key) {
            let group: &mut Vec<_> = wanted_there.entry(route.key).or_default();
            group.push(route);
        } else if owned(&route) {
            plan.remove.push(route);
        }
    }
    for (key, route) in &desired.routes {
        let index = match route.dev {
            Some(dev) => match devices.indices.get(&dev) {
                Some(index) => Some(*index),
                None => {
                    plan.no_device(route, dev, devices);
                    continue;
                }
            },
            None => None,
        };
        let now = wanted_there.remove(key).unwrap_or_default();
        let right = now
            .iter()
            .position(|actual| satisfies(route, index, actual));
        let foreign = now.iter().find(|actual| !owned(actual));
        let mut settled = Vec::new();
        if right.is_some() {
            plan.kept += 1;
        } else if let Some(foreign) = foreign {
            let message = foreign_route(foreign, devices);
            plan.error(route, libc::EEXIST, message);
        } else {
            plan.put(*route, index, !now.is_empty());
            // The first is replaced by it.
            settled.push(0);
        }
        settled.extend(right);
        let rest = now.into_iter().enumerate();
        plan.remove.extend(
            rest.filter(|(at, actual)| !settled.contains(at) && owned(actual))
                .map(|(_, actual)| actual),
        );
    }
    plan
}

fn foreign_route(route: &ActualRoute, devices: &Devices) -> String {
    let hops: Vec<String> = route
        .hops
        .as_slice()
        .iter()
        .map(|hop| {
            let dev = devices.name(hop.index).map(|dev| format!(" dev {dev}"));
            let via = hop.via.map(|via| format!(" via {via}"));
            format!("{}{}", via.unwrap_or_default(), dev.unwrap_or_default())
        })
        .collect();
    format!(
        "another program's route is in its place ({}{}, protocol {}): remove that route",
        route.key.dst,
        hops.join(","),
        route.protocol
    )
}

#[cfg(test)]
mod tests;
