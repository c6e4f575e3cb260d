//! What of the host overlaps the overlay's networks: addresses and routes of others.

use std::io;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
    RouteVia,
};
use serde::{Deserialize, Serialize};

use crate::PROTOCOLS;
use crate::actual::{self, ActualAddress, ActualLink};
use crate::message;
use crate::socket::RtSocket;
use crate::values::{Cidr, DevName};

/// A route to a larger network than this is a default route in all but name, such as a VPN's
/// 0.0.0.0/1 or 2000::/3.
const DEFAULT_LENGTH: u8 = 8;

/// The table that the kernel fills by itself with the host's own addresses.
const TABLE_LOCAL: u32 = 255;

/// What to look for.
#[derive(Deserialize, Debug)]
pub struct OverlapQuery {
    /// The overlay's.
    pub networks: Vec<Cidr>,
    /// This node's subnets, which the containers' bridge and its like may have.
    pub own: Vec<Cidr>,
    /// Devices that are the agent's, whatever marks they have.
    pub devs: Vec<DevName>,
}

/// An address or a route of the host.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Overlap {
    /// `address` or `route`.
    pub kind: &'static str,
    /// The overlay's network.
    pub network: String,
    pub cidr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Of a route that is not in the main table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
}

/// The addresses and routes that overlap; neither the agent's own, nor default routes, nor routes
/// that a narrower one of the overlay always wins over without harm.
pub fn overlaps(query: &OverlapQuery) -> io::Result<Vec<Overlap>> {
    let mut socket = RtSocket::open()?;
    let links = socket.dump(&message::get_links(), actual::link)?;
    let link = |index: u32| links.iter().find(|link| link.index == index);
    let addresses = socket.dump(&message::get_addresses(), actual::address)?;
    let mut found: Vec<Overlap> = addresses
        .iter()
        .filter_map(|address| overlapping_address(query, address, link(address.index)?))
        .collect();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        found.extend(
            socket.dump(&message::get_all_routes(family), |message| match message {
                Message::NewRoute(route) => overlapping_route(query, &route, &links),
                _ => None,
            })?,
        );
    }
    Ok(found)
}

fn is_ours(query: &OverlapQuery, link: &ActualLink) -> bool {
    link.owned || query.devs.contains(&link.name)
}

fn overlapping_address(
    query: &OverlapQuery,
    address: &ActualAddress,
    link: &ActualLink,
) -> Option<Overlap> {
    let cidr = address.cidr;
    let ip = Cidr {
        ip: cidr.ip,
        len: if cidr.ip.is_ipv4() { 32 } else { 128 },
    };
    if is_ours(query, link) || query.own.iter().any(|own| own.contains(ip)) {
        return None;
    }
    // The address itself lies outside of a network that is within its link's: that route is met below.
    let subnet = Cidr {
        ip: cidr.base(),
        len: cidr.len,
    };
    let network = network_of(query, subnet)?;
    Some(Overlap {
        kind: "address",
        network: network.to_string(),
        cidr: cidr.to_string(),
        dev: Some(link.name.to_string()),
        via: None,
        table: None,
    })
}

fn overlapping_route(
    query: &OverlapQuery,
    route: &RouteMessage,
    links: &[ActualLink],
) -> Option<Overlap> {
    let parsed = Route::parse(route)?;
    let network = network_of(query, parsed.dst)?;
    let link = parsed
        .index
        .and_then(|index| links.iter().find(|link| link.index == index));
    if link.is_some_and(|link| is_ours(query, link)) {
        return None;
    }
    if query.own.iter().any(|own| own.contains(parsed.dst)) {
        return None;
    }
    // Peers' subnets are narrower and win; what nobody has leased is lost either way.
    let is_wider = parsed.dst.contains(network);
    if is_wider && parsed.goes_nowhere {
        return None;
    }
    Some(Overlap {
        kind: "route",
        network: network.to_string(),
        cidr: parsed.dst.to_string(),
        dev: link.map(|link| link.name.to_string()),
        via: parsed.via,
        table: (parsed.table != u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(parsed.table),
    })
}

fn network_of(query: &OverlapQuery, dst: Cidr) -> Option<Cidr> {
    if dst.len < DEFAULT_LENGTH {
        return None;
    }
    let meets = |network: &&Cidr| network.contains(dst) || dst.contains(**network);
    query.networks.iter().find(meets).copied()
}

/// What matters of a route.
struct Route {
    dst: Cidr,
    table: u32,
    index: Option<u32>,
    via: Option<String>,
    /// A blackhole or the like.
    goes_nowhere: bool,
}

impl Route {
    /// None for the agent's own, and for those that the kernel made for an address, which counts.
    fn parse(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let protocol = u8::from(header.protocol);
        let is_others = !PROTOCOLS.contains(&protocol)
            && header.protocol != RouteProtocol::Kernel
            && header.protocol != RouteProtocol::IcmpRedirect
            && !header.flags.contains(RouteFlags::Cloned);
        let goes_nowhere = matches!(
            header.kind,
            RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
        );
        if !is_others || (header.kind != RouteType::Unicast && !goes_nowhere) {
            return None;
        }
        let mut route = Self {
            dst: Cidr {
                ip: match header.address_family {
                    AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
                    _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
                },
                len: header.destination_prefix_length,
            },
            table: header.table.into(),
            index: None,
            via: None,
            goes_nowhere,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(ip)) => route.dst.ip = (*ip).into(),
                RouteAttribute::Destination(RouteAddress::Inet6(ip)) => route.dst.ip = (*ip).into(),
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Oif(index) => route.index = Some(*index),
                RouteAttribute::Gateway(RouteAddress::Inet(ip)) => route.via = Some(ip.to_string()),
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => {
                    route.via = Some(ip.to_string());
                }
                RouteAttribute::Via(RouteVia::Inet6(ip)) => route.via = Some(ip.to_string()),
                RouteAttribute::MultiPath(hops) => {
                    route.index = hops.first().map(|hop| hop.interface_index);
                }
                _ => {}
            }
        }
        (route.table != TABLE_LOCAL).then_some(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> OverlapQuery {
        OverlapQuery {
            networks: vec!["10.1.0.0/16".parse().unwrap()],
            own: vec!["10.1.5.0/24".parse().unwrap()],
            devs: vec![],
        }
    }

    fn route(dst: [u8; 4], len: u8, change: impl Fn(&mut RouteMessage)) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = len;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(dst.into()))];
        change(&mut message);
        message
    }

    fn is_found(message: &RouteMessage) -> bool {
        overlapping_route(&query(), message, &[]).is_some()
    }

    #[test]
    fn routes_into_the_network_and_around_it() {
        assert!(is_found(&route([10, 1, 7, 0], 24, |_| {})));
        assert!(is_found(&route([10, 0, 0, 0], 8, |_| {})));
        assert!(is_found(&route([10, 1, 7, 0], 24, |message| {
            message.header.kind = RouteType::BlackHole;
        })));
        assert!(is_found(&route([10, 1, 7, 0], 24, |message| {
            message.header.table = 52;
        })));
    }

    #[test]
    fn routes_that_do_no_harm() {
        assert!(!is_found(&route([192, 168, 0, 0], 16, |_| {})));
        assert!(!is_found(&route([0, 0, 0, 0], 0, |_| {})));
        assert!(!is_found(&route([0, 0, 0, 0], 1, |_| {})));
        assert!(!is_found(&route([10, 1, 5, 9], 32, |_| {})));
        for change in [
            |message: &mut RouteMessage| message.header.protocol = RouteProtocol::from(70),
            |message: &mut RouteMessage| message.header.protocol = RouteProtocol::Kernel,
            |message: &mut RouteMessage| message.header.table = 255,
        ] {
            assert!(!is_found(&route([10, 1, 7, 0], 24, change)));
        }
        assert!(!is_found(&route([10, 0, 0, 0], 8, |message| {
            message.header.kind = RouteType::Unreachable;
        })));
    }
}
