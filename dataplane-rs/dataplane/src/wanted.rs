//! What [`crate::dp_apply`] is given: the kernel state with the tunnel that part of it rests on.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use netlink::{Address, DevName, Fdb, KernelState, Link, Neighbour, Route, TunLink};
use serde::Deserialize;
use tunnel::{Peer, TunnelConfig};

/// A peer of the tunnel.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct WantedPeer {
    subnets: Vec<IpNet>,
    endpoint: IpAddr,
}

/// `TunnelState` of `dataplane/state.ts`.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
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

    /// Whether a tunnel for `other` can go on for this one: only MTU and peers change while it runs.
    pub fn fits(&self, other: &Self) -> bool {
        self.name == other.name
            && self.port == other.port
            && self.local == other.local
            && self.subnets == other.subnets
    }
}

/// `KernelState` of `dataplane/state.ts`.
#[derive(Deserialize, Debug)]
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
    use super::*;

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
}
