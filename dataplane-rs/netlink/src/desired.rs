//! The desired state with the look-ups that comparing needs.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use netlink_packet_route::route::RouteType;

use crate::actual::ActualRoute;
use crate::links::Link;
use crate::report::EntryError;
use crate::state::{Address, KernelState, Route, RouteKey, RouteKind};
use crate::values::{DevName, Mac};

/// See the module.
#[derive(Clone, Default, Debug)]
pub struct Desired {
    pub links: Vec<Link>,
    pub addresses: HashSet<Address>,
    pub routes: HashMap<RouteKey, Route>,
    pub neighbours: HashMap<(DevName, IpAddr), Mac>,
    pub fdb: HashMap<(DevName, Mac), IpAddr>,
    /// Devices that are not ours and that something of ours rests on.
    pub foundations: HashSet<DevName>,
    /// Entries that contradict an earlier one and were left out.
    pub conflicts: Vec<EntryError>,
}

impl Desired {
    pub fn new(state: KernelState) -> Self {
        let mut desired = Self {
            routes: HashMap::with_capacity(state.routes.len()),
            neighbours: HashMap::with_capacity(state.neighbours.len()),
            fdb: HashMap::with_capacity(state.fdb.len()),
            links: state.links,
            addresses: state.addresses.into_iter().collect(),
            ..Self::default()
        };
        for route in state.routes {
            let first = *desired.routes.entry(route.key()).or_insert(route);
            desired.check(first == route, &route, &first);
            desired.foundations.extend(route.dev);
        }
        for entry in state.neighbours {
            let first = *desired
                .neighbours
                .entry((entry.dev, entry.ip))
                .or_insert(entry.mac);
            desired.check(first == entry.mac, &entry, &first);
        }
        for entry in state.fdb {
            let first = *desired
                .fdb
                .entry((entry.dev, entry.mac))
                .or_insert(entry.dst);
            desired.check(first == entry.dst, &entry, &first);
        }
        desired
            .foundations
            .extend(desired.links.iter().filter_map(|link| link.lower()));
        for link in &desired.links {
            desired.foundations.remove(&link.name());
        }
        desired
    }

    fn check(
        &mut self,
        same: bool,
        entry: &impl std::fmt::Display,
        first: &impl std::fmt::Display,
    ) {
        if !same {
            self.conflicts.push(EntryError {
                entry: entry.to_string(),
                errno: libc::EEXIST,
                message: format!("skipped: it conflicts with {first}"),
            });
        }
    }

    /// The link of that name.
    pub fn link(&self, name: DevName) -> Option<&Link> {
        self.links.iter().find(|link| link.name() == name)
    }
}

/// Whether `actual` carries what `route` wants, by the device with that index; its protocol and
/// `onlink`, which only matters while a route is added, do not count.
pub fn satisfies(route: &Route, index: Option<u32>, actual: &ActualRoute) -> bool {
    match route.kind {
        RouteKind::Blackhole => actual.kind == RouteType::BlackHole,
        RouteKind::Unicast => {
            let [hop] = actual.hops.as_slice() else {
                return false;
            };
            actual.kind == RouteType::Unicast
                && hop.via == route.via
                && (route.dev.is_none() || index == Some(hop.index))
        }
    }
}
