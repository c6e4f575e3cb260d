//! Questions about the kernel's state, each on a socket of its own, so that they never wait for a
//! reconcile.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressFlags, AddressScope};
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteVia};

use crate::actual::{self, ActualAddress, ActualLink};
use crate::message;
use crate::report::{Interface, InterfaceAddress, RouteLookup, Vxlan};
use crate::socket::RtSocket;
use crate::values::Cidr;

/// All interfaces with their addresses, in the kernel's order.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut socket = RtSocket::open()?;
    let links = socket.dump(&message::get_links(), actual::link)?;
    let addresses = socket.dump(&message::get_addresses(), actual::address)?;
    let on = |index| {
        addresses
            .iter()
            .filter(move |address| address.index == index)
    };
    Ok(links
        .iter()
        .map(|link| interface(link, on(link.index).map(interface_address).collect()))
        .collect())
}

fn interface(link: &ActualLink, addresses: Vec<InterfaceAddress>) -> Interface {
    Interface {
        index: link.index,
        name: link.name.to_string(),
        kind: link.kind.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: link.mtu,
        up: link.up(),
        loopback: link.flags.contains(LinkFlags::Loopback),
        point_to_point: link.flags.contains(LinkFlags::Pointopoint),
        owned: link.owned,
        vxlan: link.details.vxlan().map(|vxlan| Vxlan {
            vni: vxlan.vni,
            port: vxlan.port,
        }),
        addresses,
    }
}

fn interface_address(address: &ActualAddress) -> InterfaceAddress {
    // IPv4 has the same bit for "secondary"; only IPv6 has temporary addresses.
    let secondary = address.flags.contains(AddressFlags::Secondary);
    InterfaceAddress {
        ip: address.cidr.ip.to_string(),
        prefix_length: address.cidr.len,
        scope: match address.scope {
            AddressScope::Site => "site",
            AddressScope::Link => "link",
            AddressScope::Host => "host",
            _ => "global",
        },
        dynamic: !address.flags.contains(AddressFlags::Permanent),
        temporary: secondary && address.cidr.ip.is_ipv6(),
        // IPv4's flag lags behind: the kernel sets it some time after the preference has ended.
        deprecated: address.flags.contains(AddressFlags::Deprecated) || address.preferred == 0,
        tentative: address.flags.contains(AddressFlags::Tentative),
        duplicate: address.flags.contains(AddressFlags::Dadfailed),
    }
}

/// Which way packets to each of `ips` go; none where there is no route.
pub fn routes_to(ips: &[IpAddr]) -> io::Result<Vec<Option<RouteLookup>>> {
    let mut socket = RtSocket::open()?;
    let links = socket.dump(&message::get_links(), actual::link)?;
    ips.iter()
        .map(|ip| match socket.query(message::get_route_to(*ip)) {
            Ok(Message::NewRoute(route)) => Ok(lookup(&route, &links)),
            Ok(_) => Ok(None),
            Err(e) if no_route(&e) => Ok(None),
            Err(e) => Err(e),
        })
        .collect()
}

/// The main table's route to exactly this subnet that goes through a gateway; none where there is
/// none. The address may be any of the subnet.
pub fn gateway_to(subnet: Cidr) -> io::Result<Option<RouteLookup>> {
    let mut socket = RtSocket::open()?;
    let routes = socket.dump(
        &message::get_routes(message::family(subnet.ip)),
        |message| match message {
            Message::NewRoute(route) if leads_to(&route, subnet) => Some(route),
            _ => None,
        },
    )?;
    let links = socket.dump(&message::get_links(), actual::link)?;
    let found = routes.iter().filter_map(|route| lookup(route, &links));
    Ok(found.into_iter().find(|route| route.via.is_some()))
}

fn leads_to(route: &RouteMessage, subnet: Cidr) -> bool {
    route.header.destination_prefix_length == subnet.len
        && route.attributes.iter().any(|attribute| {
            let RouteAttribute::Destination(address) = attribute else {
                return false;
            };
            let base = text(address).and_then(|text| text.parse().ok());
            base.is_some_and(|base: IpAddr| base == subnet.base())
        })
}

fn no_route(error: &io::Error) -> bool {
    let errnos = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EACCES,
        libc::EINVAL,
        libc::EAGAIN,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| errnos.contains(&errno))
}

fn lookup(answer: &RouteMessage, links: &[ActualLink]) -> Option<RouteLookup> {
    let mut link = None;
    let (mut via, mut src) = (None, None);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                link = links.iter().find(|link| link.index == *index);
            }
            RouteAttribute::Gateway(address) => via = text(address),
            // An IPv4 destination by way of an IPv6 router (RFC 9229).
            RouteAttribute::Via(RouteVia::Inet(ip)) => via = Some(ip.to_string()),
            RouteAttribute::Via(RouteVia::Inet6(ip)) => via = Some(ip.to_string()),
            RouteAttribute::PrefSource(address) => src = text(address),
            _ => {}
        }
    }
    let link = link?;
    Some(RouteLookup {
        dev: link.name.to_string(),
        via,
        src,
        resolves: !link
            .flags
            .intersects(LinkFlags::Noarp | LinkFlags::Loopback),
    })
}

fn text(address: &RouteAddress) -> Option<String> {
    match address {
        RouteAddress::Inet(ip) => Some(ip.to_string()),
        RouteAddress::Inet6(ip) => Some(ip.to_string()),
        _ => None,
    }
}
