//! A change of a few entries: what a new, a lost or a moved peer comes to. The desired state takes it
//! up, and the kernel gets it alone, without a look at all that is there: the monitor keeps what the
//! kernel has as it was desired before. Where anything contradicts that, everything is compared.

use std::collections::HashSet;
use std::net::IpAddr;

use netlink_packet_route::route::RouteType;
use serde::Deserialize;

use crate::actual::{ActualFdb, ActualNeighbour, ActualRoute, Hop, Hops};
use crate::desired::Desired;
use crate::message::protocol;
use crate::plan::{Devices, Plan, Tables};
use crate::state::{Fdb, Neighbour, Route, RouteKey, RouteKind};
use crate::values::{DevName, Mac};

/// Entries of the tables that peers are in.
#[derive(Deserialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct Entries {
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
    pub fdb: Vec<Fdb>,
}

/// Entries that are wanted from now on, and that are wanted no more. One that takes the place of a
/// removed one replaces it.
#[derive(Deserialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct Change {
    pub put: Entries,
    pub remove: Entries,
}

/// The keys of entries.
struct Keys {
    routes: HashSet<RouteKey>,
    neighbours: HashSet<(DevName, IpAddr)>,
    fdb: HashSet<(DevName, Mac)>,
}

impl Keys {
    fn of(entries: &Entries) -> Self {
        Self {
            routes: entries.routes.iter().map(Route::key).collect(),
            neighbours: entries.neighbours.iter().map(|e| (e.dev, e.ip)).collect(),
            fdb: entries.fdb.iter().map(|e| (e.dev, e.mac)).collect(),
        }
    }

    /// Whether no two of these entries have one key.
    fn are_distinct(&self, entries: &Entries) -> bool {
        self.routes.len() == entries.routes.len()
            && self.neighbours.len() == entries.neighbours.len()
            && self.fdb.len() == entries.fdb.len()
    }
}

impl Desired {
    /// Takes a change up, if it follows on from this state: what it removes is there, and the place of
    /// what it puts is free by then. Else nothing is changed.
    pub fn take(&mut self, change: &Change) -> bool {
        let Change { put, remove } = change;
        let (new, gone) = (Keys::of(put), Keys::of(remove));
        let follows = new.are_distinct(put)
            && gone.are_distinct(remove)
            && remove
                .routes
                .iter()
                .all(|e| self.routes.get(&e.key()) == Some(e))
            && remove
                .neighbours
                .iter()
                .all(|e| self.neighbours.get(&(e.dev, e.ip)) == Some(&e.mac))
            && remove
                .fdb
                .iter()
                .all(|e| self.fdb.get(&(e.dev, e.mac)) == Some(&e.dst))
            && new
                .routes
                .iter()
                .all(|key| gone.routes.contains(key) || !self.routes.contains_key(key))
            && new
                .neighbours
                .iter()
                .all(|key| gone.neighbours.contains(key) || !self.neighbours.contains_key(key))
            && new
                .fdb
                .iter()
                .all(|key| gone.fdb.contains(key) || !self.fdb.contains_key(key));
        if !follows {
            return false;
        }
        for key in &gone.routes {
            self.routes.remove(key);
        }
        for key in &gone.neighbours {
            self.neighbours.remove(key);
        }
        for key in &gone.fdb {
            self.fdb.remove(key);
        }
        self.routes.extend(put.routes.iter().map(|e| (e.key(), *e)));
        self.neighbours
            .extend(put.neighbours.iter().map(|e| ((e.dev, e.ip), e.mac)));
        self.fdb
            .extend(put.fdb.iter().map(|e| ((e.dev, e.mac), e.dst)));
        let devices = put.routes.iter().filter_map(|route| route.dev);
        let others: Vec<DevName> = devices.filter(|dev| self.link(*dev).is_none()).collect();
        self.foundations.extend(others);
        true
    }
}

/// What the kernel is to be told of a change, by the devices as they were last seen; none where that
/// does not do, and everything has to be compared.
pub fn plan(change: &Change, devices: &Devices) -> Option<Tables> {
    let Change { put, remove } = change;
    let (new, gone) = (Keys::of(put), Keys::of(remove));
    // A route that takes another's place may be in the place of a third one by now.
    if !new.routes.is_disjoint(&gone.routes) {
        return None;
    }
    let (mut routes, mut neighbours, mut fdb) = (Plan::new(), Plan::new(), Plan::new());
    for entry in &put.fdb {
        let index = devices.own_index(entry.dev)?;
        fdb.put(
            *entry,
            Some(index),
            gone.fdb.contains(&(entry.dev, entry.mac)),
        );
    }
    for entry in &put.neighbours {
        let index = devices.own_index(entry.dev)?;
        let replaces = gone.neighbours.contains(&(entry.dev, entry.ip));
        neighbours.put(*entry, Some(index), replaces);
    }
    for entry in &put.routes {
        routes.put(*entry, device_of(entry, devices)?, false);
    }
    for entry in &remove.fdb {
        if !new.fdb.contains(&(entry.dev, entry.mac)) {
            fdb.remove
                .push(actual_fdb(entry, devices.own_index(entry.dev)?));
        }
    }
    for entry in &remove.neighbours {
        if !new.neighbours.contains(&(entry.dev, entry.ip)) {
            let index = devices.own_index(entry.dev)?;
            neighbours.remove.push(actual_neighbour(entry, index));
        }
    }
    for entry in &remove.routes {
        let index = device_of(entry, devices)?;
        routes.remove.extend(actual_routes(entry, index, devices));
    }
    Some(Tables {
        routes,
        neighbours,
        fdb,
    })
}

/// The index of a route's device, where it has one; none where that device is not known.
fn device_of(route: &Route, devices: &Devices) -> Option<Option<u32>> {
    match route.dev {
        None => Some(None),
        Some(dev) => devices.indices.get(&dev).map(|index| Some(*index)),
    }
}

fn actual_fdb(entry: &Fdb, index: u32) -> ActualFdb {
    ActualFdb {
        index,
        mac: entry.mac,
        dst: Some(entry.dst),
        permanent: true,
        port: None,
        vni: None,
        via: None,
    }
}

fn actual_neighbour(entry: &Neighbour, index: u32) -> ActualNeighbour {
    ActualNeighbour {
        index,
        ip: entry.ip,
        mac: Some(entry.mac),
        permanent: true,
    }
}

/// A route as it may be there. On our own device it is ours whatever protocol number it has; elsewhere
/// it has one of the two that it can have been added with, or is not ours.
fn actual_routes(route: &Route, index: Option<u32>, devices: &Devices) -> Vec<ActualRoute> {
    const ANY: u8 = 0;
    let own = index.is_some_and(|index| devices.own.contains(&index));
    let protocols = if own {
        vec![ANY]
    } else {
        vec![protocol(route, false), protocol(route, true)]
    };
    let kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
    };
    let hop = Hop {
        index: index.unwrap_or_default(),
        via: route.via,
    };
    let actual = |protocol| ActualRoute {
        key: route.key(),
        kind,
        protocol,
        hops: Hops::One([hop]),
    };
    protocols.into_iter().map(actual).collect()
}

#[cfg(test)]
mod tests;
