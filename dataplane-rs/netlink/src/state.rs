//! The desired state: the Rust side of `dataplane/state.ts`. Displayed entries read as an operator
//! would write them for `ip` and `bridge`.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use crate::links::Link;
use crate::values::{Cidr, DevName, Mac};

/// An address on one of the links.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub dev: DevName,
    pub cidr: Cidr,
}

/// A route's type (RTN_*).
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    #[default]
    Unicast,
    Blackhole,
}

/// A route in the main table.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub dst: Cidr,
    #[serde(default, rename = "type")]
    pub kind: RouteKind,
    #[serde(default)]
    pub dev: Option<DevName>,
    #[serde(default)]
    pub via: Option<IpAddr>,
    #[serde(default)]
    pub onlink: bool,
    #[serde(default)]
    pub metric: Option<u32>,
}

/// What makes two routes of the main table the same one to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RouteKey {
    pub dst: Cidr,
    pub metric: u32,
}

impl RouteKey {
    /// The metric that the kernel gives where none was asked for: IPv6 has `IP6_RT_PRIO_USER`.
    pub fn new(dst: Cidr, metric: u32) -> Self {
        let metric = match metric {
            0 if dst.ip.is_ipv6() => 1024,
            metric => metric,
        };
        Self { dst, metric }
    }
}

impl Route {
    pub fn key(&self) -> RouteKey {
        RouteKey::new(self.dst, self.metric.unwrap_or(0))
    }
}

/// A permanent neighbour entry.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    pub dev: DevName,
    pub ip: IpAddr,
    pub mac: Mac,
}

/// A permanent fdb entry of a VXLAN device.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Fdb {
    pub dev: DevName,
    pub mac: Mac,
    pub dst: IpAddr,
}

/// Everything that the agent wants of the kernel.
#[derive(Deserialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct KernelState {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
    pub fdb: Vec<Fdb>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {} dev {}", self.cidr, self.dev)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("route ")?;
        if self.kind == RouteKind::Blackhole {
            f.write_str("blackhole ")?;
        }
        write!(f, "{}", self.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = self.dev {
            write!(f, " dev {dev}")?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        match self.metric {
            Some(metric) => write!(f, " metric {metric}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "neighbour {} lladdr {} dev {}",
            self.ip, self.mac, self.dev
        )
    }
}

impl fmt::Display for Fdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fdb {} dst {} dev {}", self.mac, self.dst, self.dev)
    }
}
