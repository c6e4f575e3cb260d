//! The requests: one function each, from an entry to an rtnetlink message.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::actual::{ActualFdb, ActualNeighbour, ActualRoute};
use crate::links::LinkKind;
use crate::state::{Route, RouteKind};
use crate::values::{Cidr, DevName, Mac};
use crate::{ALIAS, PROTOCOL, PROTOCOLS};

pub fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// All links, without their counters.
pub fn get_links() -> Message {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    Message::GetLink(message)
}

/// Makes a device, down and not yet marked: those attributes are taken from an RTM_SETLINK only.
pub fn new_link(link: &dyn LinkKind, info: Vec<LinkInfo>) -> Message {
    let mut attributes = vec![LinkAttribute::IfName(link.name().to_string())];
    if !link.mtu_afterwards() {
        attributes.push(LinkAttribute::Mtu(link.mtu()));
    }
    attributes.extend(link.mac().map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.push(LinkAttribute::LinkInfo(info));
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    Message::NewLink(message)
}

/// What of a device can be set while it lives; absent fields are left as they are.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct LinkChange {
    pub mtu: Option<u32>,
    pub mac: Option<Mac>,
    pub alias: bool,
    pub no_link_local: bool,
    pub up: bool,
}

/// Alters a device by its name.
pub fn set_link(name: DevName, change: &LinkChange) -> Message {
    let mut message = LinkMessage::default();
    if change.up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    let attributes = &mut message.attributes;
    attributes.push(LinkAttribute::IfName(name.to_string()));
    attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    if change.alias {
        attributes.push(LinkAttribute::IfAlias(ALIAS.to_string()));
    }
    if change.no_link_local {
        attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
        )]));
    }
    Message::SetLink(message)
}

/// Removes a device.
pub fn del_link(index: u32) -> Message {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Message::DelLink(message)
}

/// All addresses of both families.
pub fn get_addresses() -> Message {
    Message::GetAddress(AddressMessage::default())
}

/// Adds an address: no broadcast address, no duplicate detection, and no route for a host prefix.
pub fn new_address(index: u32, cidr: Cidr) -> Message {
    let mut message = address(index, cidr);
    if cidr.ip.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    if cidr.is_host() {
        let mut flags = AddressFlags::Noprefixroute;
        flags.set(AddressFlags::Nodad, cidr.ip.is_ipv6());
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    Message::NewAddress(message)
}

/// Removes an address.
pub fn del_address(index: u32, cidr: Cidr) -> Message {
    Message::DelAddress(address(index, cidr))
}

fn address(index: u32, cidr: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(cidr.ip);
    message.header.prefix_len = cidr.len;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(cidr.ip),
        AddressAttribute::Address(cidr.ip),
    ];
    message
}

/// The routes of one family's main table.
pub fn get_routes(family: AddressFamily) -> Message {
    routes_of_table(family, RouteHeader::RT_TABLE_MAIN)
}

/// The routes of one family in all tables.
pub fn get_all_routes(family: AddressFamily) -> Message {
    routes_of_table(family, RouteHeader::RT_TABLE_UNSPEC)
}

fn routes_of_table(family: AddressFamily, table: u8) -> Message {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = table;
    message.header.kind = RouteType::Unspec;
    Message::GetRoute(message)
}

/// Adds or replaces a route.
pub fn new_route(route: &Route, index: Option<u32>, protocol: u8) -> Message {
    let mut message = RouteMessage::default();
    let blackhole = route.kind == RouteKind::Blackhole;
    message.header = RouteHeader {
        address_family: family(route.dst.ip),
        destination_prefix_length: route.dst.len,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(protocol),
        scope: if route.via.is_some() || blackhole {
            RouteScope::Universe
        } else {
            RouteScope::Link
        },
        kind: if blackhole {
            RouteType::BlackHole
        } else {
            RouteType::Unicast
        },
        flags: if route.onlink {
            RouteFlags::Onlink
        } else {
            RouteFlags::empty()
        },
        ..RouteHeader::default()
    };
    message.attributes = route_attributes(route.dst, route.key().metric);
    message
        .attributes
        .extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    message.attributes.extend(index.map(RouteAttribute::Oif));
    Message::NewRoute(message)
}

/// The protocol number for a new route: its own, whatever others come and go.
pub fn protocol(route: &Route, many: bool) -> u8 {
    if !many {
        return PROTOCOL;
    }
    let mut hasher = DefaultHasher::new();
    route.dst.hash(&mut hasher);
    let spread = PROTOCOLS.end() - PROTOCOLS.start() + 1;
    PROTOCOLS.start() + (hasher.finish() % u64::from(spread)) as u8
}

/// Removes exactly this route, whatever its scope.
pub fn del_route(route: &ActualRoute) -> Message {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(route.key.dst.ip),
        destination_prefix_length: route.key.dst.len,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(route.protocol),
        scope: RouteScope::NoWhere,
        kind: route.kind,
        ..RouteHeader::default()
    };
    message.attributes = route_attributes(route.key.dst, route.key.metric);
    if let (RouteType::Unicast, [hop]) = (route.kind, route.hops.as_slice()) {
        message
            .attributes
            .extend(hop.via.map(|via| RouteAttribute::Gateway(via.into())));
        message.attributes.push(RouteAttribute::Oif(hop.index));
    }
    Message::DelRoute(message)
}

fn route_attributes(dst: Cidr, metric: u32) -> Vec<RouteAttribute> {
    let mut attributes = Vec::with_capacity(4);
    attributes.push(RouteAttribute::Destination(dst.ip.into()));
    if metric != 0 {
        attributes.push(RouteAttribute::Priority(metric));
    }
    attributes
}

/// Asks which way packets to `ip` go.
pub fn get_route_to(ip: IpAddr) -> Message {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
    message.attributes = vec![RouteAttribute::Destination(ip.into())];
    Message::GetRoute(message)
}

/// Asks what becomes of a packet from `src` to `dst` that comes in by a device, or that this host
/// sends by itself; IPv4 alone.
pub fn get_route_of(src: Ipv4Addr, dst: Ipv4Addr, index: Option<u32>) -> Message {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 32;
    message.header.source_prefix_length = 32;
    message.attributes = vec![
        RouteAttribute::Destination(dst.into()),
        RouteAttribute::Source(src.into()),
    ];
    message.attributes.extend(index.map(RouteAttribute::Iif));
    Message::GetRoute(message)
}

/// The neighbours of a device, both families.
pub fn get_neighbours(index: u32) -> Message {
    let mut message = NeighbourMessage::default();
    message.attributes = vec![NeighbourAttribute::IfIndex(index)];
    Message::GetNeighbour(message)
}

/// The forwarding database of a device.
pub fn get_fdb(index: u32) -> Message {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    Message::GetNeighbour(message)
}

/// Adds or replaces a permanent neighbour.
pub fn new_neighbour(index: u32, ip: IpAddr, mac: Mac) -> Message {
    let mut message = neighbour(index, ip);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    Message::NewNeighbour(message)
}

/// Removes a neighbour.
pub fn del_neighbour(entry: &ActualNeighbour) -> Message {
    Message::DelNeighbour(neighbour(entry.index, entry.ip))
}

fn neighbour(index: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
    message
}

/// Adds or replaces a permanent fdb entry of a VXLAN device.
pub fn new_fdb(index: u32, mac: Mac, dst: IpAddr) -> Message {
    let mut message = fdb(index, mac);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::Destination(dst.into()));
    Message::NewNeighbour(message)
}

/// Removes an fdb entry: one destination of it where it has one.
pub fn del_fdb(entry: &ActualFdb) -> Message {
    let mut message = fdb(entry.index, entry.mac);
    let attributes = &mut message.attributes;
    attributes.extend(
        entry
            .dst
            .map(|dst| NeighbourAttribute::Destination(dst.into())),
    );
    attributes.extend(entry.port.map(NeighbourAttribute::Port));
    attributes.extend(entry.vni.map(NeighbourAttribute::Vni));
    attributes.extend(entry.via.map(NeighbourAttribute::IfIndex));
    Message::DelNeighbour(message)
}

fn fdb(index: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    message
}
