//! What [`crate::dp_apply`] is given: the kernel state with the tunnel that part of it rests on.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use netlink::{
    Address, Change, DevName, Entries, Fdb, KernelState, Link, Neighbour, Route, TunLink,
};
use serde::Deserialize;
use tunnel::{Peer, TunnelConfig};

/// A peer of the tunnel.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct WantedPeer {
    subnets: Vec<IpNet>,
    endpoint: IpAddr,
}

/// `TunnelState` of `dataplane/state.ts`.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct WantedTunnel {
    pub name: DevName,
    pub mtu: u16,
    port: u16,
    local: Vec<IpAddr>,
    subnets: Vec<IpNet>,
    peers: Vec<WantedPeer>,
}

impl WantedTunnel {
    /// What it is started with.
    pub fn config(&self) -> TunnelConfig {
        let mut config =
            TunnelConfig::new(IpAddr::from([0, 0, 0, 0]), self.mtu, self.subnets.clone());
        config.name = self.name.to_string();
        config.port = self.port;
        config.bind_v4 = self.local.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        config.bind_v6 = self.local.iter().find_map(|ip| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(*ip),
        });
        config
    }

    /// Its peers, who use its port, too.
    pub fn peers(&self) -> Vec<Peer> {
        let peer = |peer: &WantedPeer| Peer {
            endpoint: SocketAddr::new(peer.endpoint, self.port),
            subnets: peer.subnets.clone(),
        };
        self.peers.iter().map(peer).collect()
    }

    /// With a change of its peers; none where one that is to go is not there.
    pub fn changed(&self, change: &WantedChange) -> Option<Self> {
        let mut changed = self.clone();
        for peer in &change.remove.peers {
            let at = changed.peers.iter().position(|other| other == peer)?;
            changed.peers.swap_remove(at);
        }
        changed.peers.extend(change.put.peers.iter().cloned());
        Some(changed)
    }

    /// Whether a tunnel for `other` can go on for this one: only MTU and peers change while it runs.
    pub fn fits(&self, other: &Self) -> bool {
        self.name == other.name
            && self.port == other.port
            && self.local == other.local
            && self.subnets == other.subnets
    }
}

/// `KernelEntries` of `dataplane/state.ts`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct WantedEntries {
    #[serde(default)]
    peers: Vec<WantedPeer>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
    fdb: Vec<Fdb>,
}

impl WantedEntries {
    /// Those for the reconciler.
    fn kernel(self) -> Entries {
        let Self {
            routes,
            neighbours,
            fdb,
            ..
        } = self;
        Entries {
            routes,
            neighbours,
            fdb,
        }
    }
}

/// `KernelChange` of `dataplane/state.ts`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct WantedChange {
    pub put: WantedEntries,
    pub remove: WantedEntries,
}

impl WantedChange {
    /// Whether it has a part for the tunnel.
    pub fn has_peers(&self) -> bool {
        !self.put.peers.is_empty() || !self.remove.peers.is_empty()
    }

    /// Its part for the reconciler.
    pub fn kernel(self) -> Change {
        Change {
            put: self.put.kernel(),
            remove: self.remove.kernel(),
        }
    }
}

/// `KernelState` of `dataplane/state.ts`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default)]
    pub tunnel: Option<WantedTunnel>,
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
    fdb: Vec<Fdb>,
}

impl Wanted {
    /// What the reconciler is to make so; without the tunnel's device where that `runs` not.
    pub fn kernel(self, runs: bool) -> KernelState {
        let Self {
            tunnel,
            mut links,
            mut addresses,
            mut routes,
            neighbours,
            fdb,
        } = self;
        if let Some(WantedTunnel { name, mtu, .. }) = tunnel {
            if runs {
                let mtu = mtu.into();
                links.push(Link::Tun(TunLink { name, mtu }));
            } else {
                addresses.retain(|address| address.dev != name);
                routes.retain(|route| route.dev != Some(name));
            }
        }
        KernelState {
            links,
            addresses,
            routes,
            neighbours,
            fdb,
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink::{ApplyReport, EntryError, Event, TableCounts};

    use super::*;

    /// The same files are compared with the types of `dataplane/state.ts` by
    /// `dataplane/contract_test.ts`.
    const STATE: &str = include_str!("../../fixtures/kernel_state.json");
    const CHANGE: &str = include_str!("../../fixtures/kernel_change.json");

    #[test]
    fn a_state_as_the_control_side_writes_it() {
        let state: Wanted = serde_json::from_str(STATE).unwrap();
        let tunnel = state.tunnel.clone().unwrap();
        assert_eq!(tunnel.peers().len(), 1);
        let shown = |entries: Vec<String>| entries.join("\n");
        let kernel = state.kernel(true);
        let links = kernel.links.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown(links),
            "link flannel.1 type vxlan id 1 local 192.0.2.1 dev eth0 dstport 8472\n\
             link cni0 type bridge\n\
             link flannel0 type tun"
        );
        let routes = kernel.routes.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown(routes),
            "route 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink\n\
             route blackhole 10.1.1.0/24 metric 4000\n\
             route fd00:1::/48 dev flannel0"
        );
        assert_eq!(
            kernel.neighbours[0].to_string(),
            "neighbour 10.1.2.0 lladdr 02:00:00:00:00:02 dev flannel.1"
        );
        assert_eq!(
            kernel.fdb[0].to_string(),
            "fdb 02:00:00:00:00:02 dst 192.0.2.2 dev flannel.1"
        );
        assert_eq!(
            kernel.addresses[0].to_string(),
            "address 10.1.1.0/32 dev flannel.1"
        );
    }

    #[test]
    fn a_change_as_the_control_side_writes_it() {
        let change: WantedChange = serde_json::from_str(CHANGE).unwrap();
        assert!(change.has_peers());
        let Change { put, remove } = change.kernel();
        assert_eq!((put.routes.len(), remove.routes.len()), (1, 0));
        assert_eq!((put.neighbours.len(), remove.fdb.len()), (0, 1));
    }

    #[test]
    fn events_as_the_control_side_reads_them() {
        let report = ApplyReport {
            added: 1,
            removed: 2,
            kept: 3,
            errors: vec![EntryError {
                entry: "route 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink".to_string(),
                errno: 101,
                message: "Network is unreachable".to_string(),
            }],
            tables: [(
                "routes",
                TableCounts {
                    added: 1,
                    changed: 0,
                    removed: 2,
                },
            )]
            .into(),
            entries: vec!["added route 10.1.3.0/24 dev eth0".to_string()],
            micros: 250,
            ..ApplyReport::default()
        };
        let (dev, cidr) = ("eth0".to_string(), "192.0.2.1/24".to_string());
        let events = [
            Event::Healed { report },
            Event::Link {
                name: dev.clone(),
                up: true,
                mtu: 1500,
                present: true,
            },
            Event::Address {
                dev,
                cidr,
                present: false,
            },
            Event::Routes,
            Event::DefaultRoute,
            Event::PacketFilter,
            Event::Error {
                message: "netlink failed".to_string(),
            },
            Event::Tunnel {
                message: "stopped".to_string(),
                failed: true,
            },
        ];
        let expected: serde_json::Value =
            serde_json::from_str(include_str!("../../fixtures/events.json")).unwrap();
        assert_eq!(serde_json::to_value(events).unwrap(), expected);
    }

    #[test]
    fn a_field_that_is_not_known_is_an_error() {
        for (known, unknown) in [
            (r#""vni":"#, r#""vnii":0,"vni":"#),
            (r#""via":"#, r#""vio":"","via":"#),
            (r#""tunnel":"#, r#""tunnels":[],"tunnel":"#),
        ] {
            let compact: serde_json::Value = serde_json::from_str(STATE).unwrap();
            let text = compact.to_string();
            assert!(text.contains(known), "{known}");
            let text = text.replacen(known, unknown, 1);
            assert!(serde_json::from_str::<Wanted>(&text).is_err(), "{unknown}");
        }
    }

    fn wanted(mtu: u16, peers: &str) -> Wanted {
        let json = format!(
            r#"{{"tunnel":{{"name":"flannel0","mtu":{mtu},"port":8285,"local":["192.0.2.1"],
            "subnets":["10.1.2.0/24"],"peers":{peers}}},"links":[],
            "addresses":[{{"dev":"flannel0","cidr":"10.1.2.0/32"}}],
            "routes":[{{"dst":"10.1.0.0/16","dev":"flannel0"}},{{"dst":"10.9.0.0/16","dev":"eth0"}}],
            "neighbours":[],"fdb":[]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn the_device_is_a_link_while_the_tunnel_runs() {
        let kernel = wanted(1472, "[]").kernel(true);
        assert_eq!(kernel.links.len(), 1);
        assert_eq!(kernel.links[0].mtu(), 1472);
        assert_eq!((kernel.addresses.len(), kernel.routes.len()), (1, 2));
        let kernel = wanted(1472, "[]").kernel(false);
        assert!(kernel.links.is_empty());
        assert_eq!((kernel.addresses.len(), kernel.routes.len()), (0, 1));
    }

    #[test]
    fn mtu_and_peers_change_while_it_runs() {
        let peers = r#"[{"subnets":["10.1.3.0/24"],"endpoint":"192.0.2.2"}]"#;
        let (one, other) = (wanted(1472, "[]"), wanted(1400, peers));
        let (one, other) = (one.tunnel.unwrap(), other.tunnel.unwrap());
        assert!(one.fits(&other));
        assert_eq!(other.peers()[0].endpoint.to_string(), "192.0.2.2:8285");
        assert!(!one.fits(&WantedTunnel { port: 1, ..other }));
    }

    #[test]
    fn peers_come_and_go() {
        let peer =
            |host: u8| format!(r#"{{"subnets":["10.1.{host}.0/24"],"endpoint":"192.0.2.{host}"}}"#);
        let change = |put: &str, remove: &str| -> WantedChange {
            let rest = r#""routes":[],"neighbours":[],"fdb":[]"#;
            serde_json::from_str(&format!(
                r#"{{"put":{{"peers":[{put}],{rest}}},"remove":{{"peers":[{remove}],{rest}}}}}"#
            ))
            .unwrap()
        };
        let two = wanted(1472, &format!("[{},{}]", peer(3), peer(4)));
        let two = two.tunnel.unwrap();
        let moved = two.changed(&change(&peer(5), &peer(3))).unwrap();
        let expected = wanted(1472, &format!("[{},{}]", peer(4), peer(5)));
        assert_eq!(moved, expected.tunnel.unwrap());
        assert!(moved.changed(&change("", &peer(3))).is_none());
    }
}
