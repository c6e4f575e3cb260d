//! Taking over the routes that a flannel left behind: it gives them no protocol number of its own,
//! so that nothing but where they lead tells whose they are.

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{RouteProtocol, RouteType};
use serde::Deserialize;

use crate::PROTOCOL;
use crate::actual::{self, ActualRoute};
use crate::message;
use crate::reconcile::dump_routes;
use crate::socket::RtSocket;
use crate::state::{Route, RouteKind};
use crate::values::{Cidr, DevName};

/// Which routes are flannel's.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct FlannelRoutes {
    /// The public interface.
    pub dev: DevName,
    /// The overlay's networks.
    pub networks: Vec<Cidr>,
}

/// Gives flannel's routes the agent's protocol number, each in one step, so that no packet is lost.
/// Answers with those that it changed, as an operator would write them.
pub fn adopt(socket: &mut RtSocket, wanted: &FlannelRoutes) -> io::Result<Vec<String>> {
    let links = socket.dump(&message::get_links(), actual::link)?;
    let Some(link) = links.iter().find(|link| link.name == wanted.dev) else {
        return Ok(Vec::new());
    };
    let routes: Vec<Route> = dump_routes(socket)?
        .iter()
        .filter_map(|route| flannels(route, link.index, wanted))
        .collect();
    let requests = routes.iter().map(|route| {
        let message = message::new_route(route, Some(link.index), PROTOCOL);
        (message, NLM_F_CREATE | NLM_F_REPLACE)
    });
    let refusals = socket.execute(requests)?;
    let refused = |at| refusals.iter().any(|refusal| refusal.index == at);
    let adopted = routes.iter().enumerate().filter(|(at, _)| !refused(*at));
    Ok(adopted.map(|(_, route)| route.to_string()).collect())
}

/// The route as ours, if it is one of flannel's: through a gateway on the public interface, into the
/// overlay, with the protocol number of routes that programs add without one (RTPROT_BOOT).
fn flannels(route: &ActualRoute, index: u32, wanted: &FlannelRoutes) -> Option<Route> {
    let [hop] = route.hops.as_slice() else {
        return None;
    };
    let is_flannels = route.protocol == u8::from(RouteProtocol::Boot)
        && route.kind == RouteType::Unicast
        && hop.index == index
        && wanted
            .networks
            .iter()
            .any(|network| network.contains(route.key.dst));
    if !is_flannels {
        return None;
    }
    Some(Route {
        dst: route.key.dst,
        kind: RouteKind::Unicast,
        dev: Some(wanted.dev),
        via: Some(hop.via?),
        onlink: false,
        metric: Some(route.key.metric),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ETH0, FLANNEL, route};

    const BOOT: u8 = 3;

    fn actual(dst: &str, via: &str, dev: &str, index: u32, protocol: u8) -> ActualRoute {
        let message = message::new_route(&route(dst, via, dev), Some(index), protocol);
        actual::route(message).unwrap()
    }

    #[test]
    fn only_flannels_routes_are_taken() {
        let wanted = FlannelRoutes {
            dev: "eth0".parse().unwrap(),
            networks: vec!["10.1.0.0/16".parse().unwrap()],
        };
        let takes = |route: ActualRoute| flannels(&route, ETH0, &wanted).is_some();
        assert!(takes(actual(
            "10.1.2.0/24",
            "192.0.2.9",
            "eth0",
            ETH0,
            BOOT
        )));
        // Of another network, by another program, on another device, without a gateway.
        assert!(!takes(actual(
            "10.2.2.0/24",
            "192.0.2.9",
            "eth0",
            ETH0,
            BOOT
        )));
        assert!(!takes(actual(
            "10.0.0.0/8",
            "192.0.2.9",
            "eth0",
            ETH0,
            BOOT
        )));
        assert!(!takes(actual("10.1.2.0/24", "192.0.2.9", "eth0", ETH0, 4)));
        assert!(!takes(actual(
            "10.1.2.0/24",
            "10.1.2.0",
            "flannel.1",
            FLANNEL,
            BOOT
        )));
        let mut direct = actual("10.1.2.0/24", "192.0.2.9", "eth0", ETH0, BOOT);
        direct.hops = actual::Hops::One([actual::Hop {
            index: ETH0,
            via: None,
        }]);
        assert!(!takes(direct));
    }
}
