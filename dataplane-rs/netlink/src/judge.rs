//! Judges notifications: does this one contradict the desired state, and is it news about an
//! interface that is not ours? Comparing values rather than authors means that our own changes,
//! which the kernel does not always mark as such, are never taken for an intrusion.

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;

use crate::PROTOCOLS;
use crate::actual::{
    ActualAddress, ActualFdb, ActualLink, ActualNeighbour, ActualRoute, NeighbourEntry,
};
use crate::default_routes::is_default;
use crate::desired::{Desired, satisfies};
use crate::links::is_right;
use crate::report::Event;
use crate::values::DevName;

/// Knows the devices, as notifications name them by index only.
pub struct Judge {
    links: Vec<ActualLink>,
}

impl Judge {
    pub fn new(links: Vec<ActualLink>) -> Self {
        Self { links }
    }

    /// Takes a notification; true when the kernel is no longer as desired.
    pub fn take(
        &mut self,
        message: Message,
        desired: Option<&Desired>,
        mut emit: impl FnMut(Event),
    ) -> bool {
        if let Message::NewRoute(route) | Message::DelRoute(route) = &message
            && is_default(route)
        {
            emit(Event::DefaultRoute);
        }
        match message {
            Message::NewLink(message) => ActualLink::parse(&message)
                .is_some_and(|link| self.link_seen(link, desired, &mut emit)),
            Message::DelLink(message) => ActualLink::parse(&message)
                .is_some_and(|link| self.link_gone(link.index, desired, &mut emit)),
            Message::NewAddress(message) => ActualAddress::parse(&message)
                .is_some_and(|address| self.address(&address, true, desired, &mut emit)),
            Message::DelAddress(message) => ActualAddress::parse(&message)
                .is_some_and(|address| self.address(&address, false, desired, &mut emit)),
            Message::NewRoute(message) => self.any_route(&message, true, desired, &mut emit),
            Message::DelRoute(message) => self.any_route(&message, false, desired, &mut emit),
            Message::NewRule(_) | Message::DelRule(_) => {
                emit(Event::Routes);
                false
            }
            Message::NewNeighbour(message) => {
                desired.is_some_and(|desired| self.neighbour(&message, true, desired))
            }
            Message::DelNeighbour(message) => {
                desired.is_some_and(|desired| self.neighbour(&message, false, desired))
            }
            _ => false,
        }
    }

    /// Takes a fresh list of all devices, after notifications were lost.
    pub fn replace(
        &mut self,
        links: Vec<ActualLink>,
        desired: Option<&Desired>,
        mut emit: impl FnMut(Event),
    ) {
        let gone: Vec<u32> = self
            .links
            .iter()
            .map(|link| link.index)
            .filter(|index| !links.iter().any(|link| link.index == *index))
            .collect();
        for index in gone {
            self.link_gone(index, desired, &mut emit);
        }
        for link in links {
            self.link_seen(link, desired, &mut emit);
        }
    }

    fn find(&self, index: u32) -> Option<&ActualLink> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The name of one of the agent's devices.
    fn own(&self, index: u32, desired: &Desired) -> Option<DevName> {
        let name = self.find(index)?.name;
        desired.link(name).map(|_| name)
    }

    fn link_seen(
        &mut self,
        link: ActualLink,
        desired: Option<&Desired>,
        emit: &mut impl FnMut(Event),
    ) -> bool {
        let former = match self
            .links
            .iter_mut()
            .find(|known| known.index == link.index)
        {
            Some(known) => Some(std::mem::replace(known, link.clone())),
            None => {
                self.links.push(link.clone());
                None
            }
        };
        let renamed = former.as_ref().filter(|former| former.name != link.name);
        if let Some(former) = renamed {
            emit_link(former, false, desired, emit);
        }
        let same = |former: &ActualLink| {
            (former.name, former.up(), former.mtu) == (link.name, link.up(), link.mtu)
        };
        if !former.as_ref().is_some_and(same) {
            emit_link(&link, true, desired, emit);
        }
        let Some(desired) = desired else {
            return false;
        };
        let lost_name = renamed.is_some_and(|former| matters(former.name, desired));
        lost_name || self.link_contradicts(&link, former.as_ref(), desired)
    }

    fn link_contradicts(
        &self,
        link: &ActualLink,
        former: Option<&ActualLink>,
        desired: &Desired,
    ) -> bool {
        // The kernel drops a device's IPv4 routes without a word when it goes down.
        let moved = former.is_none_or(|former| former.carries() != link.carries());
        match desired.link(link.name) {
            Some(wanted) => !is_right(wanted, &self.links) || (moved && former.is_some()),
            None => moved && desired.foundations.contains(&link.name),
        }
    }

    fn link_gone(
        &mut self,
        index: u32,
        desired: Option<&Desired>,
        emit: &mut impl FnMut(Event),
    ) -> bool {
        let Some(at) = self.links.iter().position(|link| link.index == index) else {
            return false;
        };
        let link = self.links.swap_remove(at);
        emit_link(&link, false, desired, emit);
        desired.is_some_and(|desired| matters(link.name, desired))
    }

    fn address(
        &self,
        address: &ActualAddress,
        present: bool,
        desired: Option<&Desired>,
        emit: &mut impl FnMut(Event),
    ) -> bool {
        let Some(link) = self.find(address.index) else {
            return false;
        };
        if let Some(desired) = desired
            && desired.link(link.name).is_some()
        {
            let wanted = desired.addresses.contains(&address.entry(link.name));
            return wanted != present && !address.is_kernels();
        }
        if !link.owned {
            emit(Event::Address {
                dev: link.name.to_string(),
                cidr: address.cidr.to_string(),
                present,
            });
        }
        // Next hops are reachable or not by it, and with its last address a device loses its
        // IPv4 routes.
        desired.is_some_and(|desired| desired.foundations.contains(&link.name))
    }

    fn any_route(
        &self,
        message: &RouteMessage,
        present: bool,
        desired: Option<&Desired>,
        emit: &mut impl FnMut(Event),
    ) -> bool {
        if !PROTOCOLS.contains(&message.header.protocol.into()) {
            emit(Event::Routes);
        }
        desired.is_some_and(|desired| self.route(message, present, desired))
    }

    fn route(&self, message: &RouteMessage, present: bool, desired: &Desired) -> bool {
        let Some(route) = ActualRoute::parse(message) else {
            return false;
        };
        let Some(wanted) = desired.routes.get(&route.key) else {
            let own = |index| self.own(index, desired).is_some();
            return present
                && !route.is_kernels()
                && (PROTOCOLS.contains(&route.protocol) || route.is_on(own));
        };
        let index = wanted.dev.and_then(|dev| {
            let link = self.links.iter().find(|link| link.name == dev);
            link.map(|link| link.index)
        });
        // Where the wrong one goes, there is room for ours.
        !present || !satisfies(wanted, index, &route)
    }

    fn neighbour(&self, message: &NeighbourMessage, present: bool, desired: &Desired) -> bool {
        match NeighbourEntry::parse(message) {
            Some(NeighbourEntry::Neighbour(entry)) => self.ip(&entry, present, desired),
            Some(NeighbourEntry::Fdb(entry)) => self.fdb(&entry, present, desired),
            None => false,
        }
    }

    fn ip(&self, entry: &ActualNeighbour, present: bool, desired: &Desired) -> bool {
        let Some(name) = self.own(entry.index, desired) else {
            return false;
        };
        match desired.neighbours.get(&(name, entry.ip)) {
            Some(mac) => !(present && entry.permanent && entry.mac == Some(*mac)),
            None => present && entry.permanent,
        }
    }

    fn fdb(&self, entry: &ActualFdb, present: bool, desired: &Desired) -> bool {
        let Some(name) = self.own(entry.index, desired) else {
            return false;
        };
        match desired.fdb.get(&(name, entry.mac)) {
            Some(dst) => present != entry.is(*dst),
            None => present && entry.permanent && self.is_vxlan(entry.index),
        }
    }

    fn is_vxlan(&self, index: u32) -> bool {
        self.find(index)
            .is_some_and(|link| link.details.vxlan().is_some())
    }
}

fn matters(name: DevName, desired: &Desired) -> bool {
    desired.link(name).is_some() || desired.foundations.contains(&name)
}

fn emit_link(
    link: &ActualLink,
    present: bool,
    desired: Option<&Desired>,
    emit: &mut impl FnMut(Event),
) {
    if link.owned || desired.is_some_and(|desired| desired.link(link.name).is_some()) {
        return;
    }
    emit(Event::Link {
        name: link.name.to_string(),
        up: present && link.up(),
        mtu: link.mtu,
        present,
    });
}

#[cfg(test)]
mod tests;
