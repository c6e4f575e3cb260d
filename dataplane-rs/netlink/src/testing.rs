//! What the unit tests share: a node with `eth0` (index 2) and our `flannel.1` (index 7).

use crate::actual::{ActualRoute, Hop, Hops};
use crate::desired::Desired;
use crate::links::{Link, VxlanLink};
use crate::plan::Devices;
use crate::state::{KernelState, Route, RouteKey, RouteKind};
use netlink_packet_route::route::RouteType;

pub const ETH0: u32 = 2;
pub const FLANNEL: u32 = 7;

pub fn vxlan() -> VxlanLink {
    VxlanLink {
        name: "flannel.1".parse().unwrap(),
        vni: 1,
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 1450,
        lower: "eth0".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        port: 8472,
        learning: false,
        gbp: false,
    }
}

pub fn desired(change: impl FnOnce(&mut KernelState)) -> Desired {
    let mut state = KernelState {
        links: vec![Link::Vxlan(vxlan())],
        ..KernelState::default()
    };
    change(&mut state);
    Desired::new(state)
}

pub fn devices() -> Devices {
    let (eth0, flannel) = ("eth0".parse().unwrap(), "flannel.1".parse().unwrap());
    Devices {
        names: [(ETH0, eth0), (FLANNEL, flannel)].into(),
        indices: [(eth0, ETH0), (flannel, FLANNEL)].into(),
        own: [FLANNEL].into(),
        ..Devices::default()
    }
}

pub fn route(dst: &str, via: &str, dev: &str) -> Route {
    Route {
        dst: dst.parse().unwrap(),
        kind: RouteKind::Unicast,
        dev: Some(dev.parse().unwrap()),
        via: Some(via.parse().unwrap()),
        onlink: false,
        metric: None,
    }
}

pub fn actual_route(dst: &str, via: &str, index: u32, protocol: u8) -> ActualRoute {
    ActualRoute {
        key: RouteKey::new(dst.parse().unwrap(), 0),
        kind: RouteType::Unicast,
        protocol,
        hops: Hops::One([Hop {
            index,
            via: Some(via.parse().unwrap()),
        }]),
    }
}
