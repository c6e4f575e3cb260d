//! The main table's default routes, best first.

use std::io;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RoutePreference,
    RouteType,
};

use crate::actual;
use crate::message;
use crate::nexthop;
use crate::report::DefaultRoute;
use crate::socket::RtSocket;

/// A next hop of a default route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hop {
    index: u32,
    link_down: bool,
}

/// A default route as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    ipv6: bool,
    metric: u32,
    /// Of routers' advertisements with the same metric: 0 is the best.
    preference: u8,
    hops: Vec<Hop>,
    /// Nexthop object, where the kernel names nothing else.
    nexthop: Option<u32>,
}

/// All default routes that lead to a device, IPv4 before IPv6, each family's in the order in which the
/// kernel prefers them, those whose device has no carrier last. Of a route with several next hops
/// each is one.
pub fn default_routes() -> io::Result<Vec<DefaultRoute>> {
    let mut socket = RtSocket::open()?;
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        found.extend(
            socket.dump(&message::get_routes(family), |message| match message {
                Message::NewRoute(route) => parse(&route),
                _ => None,
            })?,
        );
    }
    for route in &mut found {
        if let Some(id) = route.nexthop.filter(|_| route.hops.is_empty()) {
            let up = |index| Hop {
                index,
                link_down: false,
            };
            route.hops = nexthop::devices(&mut socket, id)?
                .into_iter()
                .map(up)
                .collect();
        }
    }
    let links = socket.dump(&message::get_links(), actual::link)?;
    let name = |index: u32| links.iter().find(|link| link.index == index);
    Ok(ordered(found)
        .into_iter()
        .filter_map(|(route, hop)| {
            Some(DefaultRoute {
                ipv6: route.ipv6,
                dev: name(hop.index)?.name.to_string(),
                metric: route.metric,
                link_down: hop.link_down,
            })
        })
        .collect())
}

/// The next hops, best first. The sort is stable: among equals the kernel's order decides.
fn ordered(found: Vec<Found>) -> Vec<(Found, Hop)> {
    let mut hops: Vec<(Found, Hop)> = found
        .into_iter()
        .flat_map(|route| {
            let hops = route.hops.clone();
            hops.into_iter().map(move |hop| (route.clone(), hop))
        })
        .collect();
    hops.sort_by_key(|(route, hop)| (route.ipv6, hop.link_down, route.metric, route.preference));
    hops
}

/// Whether a notification is about a default route of the main table.
pub fn is_default(route: &RouteMessage) -> bool {
    let header = &route.header;
    header.destination_prefix_length == 0 && header.table == RouteHeader::RT_TABLE_MAIN
}

/// None for what is not a default route that packets of any source and kind can take.
fn parse(message: &RouteMessage) -> Option<Found> {
    let header = &message.header;
    let leads_on = is_default(message)
        && header.kind == RouteType::Unicast
        && header.tos == 0
        && header.source_prefix_length == 0
        && !header.flags.contains(RouteFlags::Cloned);
    if !leads_on {
        return None;
    }
    let mut found = Found {
        ipv6: header.address_family == AddressFamily::Inet6,
        metric: 0,
        preference: 1,
        hops: Vec::new(),
        nexthop: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(metric) => found.metric = *metric,
            RouteAttribute::Preference(RoutePreference::High) => found.preference = 0,
            RouteAttribute::Preference(RoutePreference::Low) => found.preference = 2,
            RouteAttribute::Oif(index) if !header.flags.contains(RouteFlags::Dead) => {
                found.hops.push(Hop {
                    index: *index,
                    link_down: header.flags.contains(RouteFlags::Linkdown),
                });
            }
            RouteAttribute::MultiPath(hops) => {
                let alive = |flags: RouteNextHopFlags| !flags.contains(RouteNextHopFlags::Dead);
                found
                    .hops
                    .extend(hops.iter().filter(|hop| alive(hop.flags)).map(|hop| Hop {
                        index: hop.interface_index,
                        link_down: hop.flags.contains(RouteNextHopFlags::Linkdown),
                    }));
            }
            RouteAttribute::NhId(id) => found.nexthop = Some(*id),
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteNextHop;

    fn route(ipv6: bool, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = if ipv6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes = attributes;
        message
    }

    fn via(index: u32, metric: u32) -> RouteMessage {
        route(
            false,
            vec![RouteAttribute::Priority(metric), RouteAttribute::Oif(index)],
        )
    }

    fn indices(messages: &[RouteMessage]) -> Vec<u32> {
        let found = messages.iter().filter_map(parse).collect();
        ordered(found).iter().map(|(_, hop)| hop.index).collect()
    }

    #[test]
    fn the_lowest_metric_is_first_and_the_kernels_order_decides_ties() {
        assert_eq!(
            indices(&[via(1, 200), via(2, 100), via(3, 100), via(4, 0)]),
            [4, 2, 3, 1]
        );
    }

    #[test]
    fn routes_that_lead_nowhere_are_left_out() {
        for kind in [
            RouteType::BlackHole,
            RouteType::Unreachable,
            RouteType::Prohibit,
            RouteType::Throw,
        ] {
            let mut message = via(1, 0);
            message.header.kind = kind;
            assert_eq!(parse(&message), None, "{kind:?}");
        }
        let mut dead = via(1, 0);
        dead.header.flags = RouteFlags::Dead | RouteFlags::Linkdown;
        assert_eq!(indices(&[dead, via(2, 100)]), [2]);
    }

    #[test]
    fn routes_for_some_packets_only_are_left_out() {
        let mut half = via(1, 0);
        half.header.destination_prefix_length = 1;
        let mut tos = via(2, 0);
        tos.header.tos = 16;
        let mut source = via(3, 0);
        source.header.source_prefix_length = 64;
        let mut other_table = via(4, 0);
        other_table.header.table = 100;
        assert_eq!(indices(&[half, tos, source, other_table]), [0; 0]);
    }

    #[test]
    fn a_device_without_carrier_is_the_last_resort() {
        let mut down = via(1, 100);
        down.header.flags = RouteFlags::Linkdown;
        assert_eq!(indices(&[down, via(2, 200)]), [2, 1]);
    }

    #[test]
    fn each_living_next_hop_counts() {
        let hop = |index, flags| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.flags = flags;
            hop
        };
        let several = RouteAttribute::MultiPath(vec![
            hop(1, RouteNextHopFlags::Dead),
            hop(2, RouteNextHopFlags::Linkdown),
            hop(3, RouteNextHopFlags::empty()),
        ]);
        assert_eq!(
            indices(&[route(false, vec![several]), via(4, 5)]),
            [3, 4, 2]
        );
    }

    #[test]
    fn routers_preferences_break_ties() {
        let ra = |index, preference| {
            route(
                true,
                vec![
                    RouteAttribute::Priority(1024),
                    RouteAttribute::Oif(index),
                    RouteAttribute::Preference(preference),
                ],
            )
        };
        let routes = [
            ra(1, RoutePreference::Low),
            ra(2, RoutePreference::Medium),
            ra(3, RoutePreference::High),
        ];
        assert_eq!(indices(&routes), [3, 2, 1]);
    }

    #[test]
    fn a_nexthop_object_is_kept_to_be_asked_for() {
        let found = parse(&route(false, vec![RouteAttribute::NhId(7)])).unwrap();
        assert_eq!((found.nexthop, found.hops), (Some(7), vec![]));
    }
}
