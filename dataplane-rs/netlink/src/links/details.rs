//! What the kernel says of a device beyond what all kinds have.

use std::net::IpAddr;

use netlink_packet_route::link::{InfoData, InfoVxlan};

/// Of each kind that is compared by more than its name.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Details {
    #[default]
    Other,
    Vxlan(ActualVxlan),
}

impl Details {
    /// From `IFLA_INFO_DATA`.
    pub fn parse(data: &InfoData) -> Self {
        match data {
            InfoData::Vxlan(data) => Self::Vxlan(ActualVxlan::parse(data)),
            _ => Self::Other,
        }
    }

    /// Those of a VXLAN device.
    pub fn vxlan(&self) -> Option<&ActualVxlan> {
        match self {
            Self::Vxlan(vxlan) => Some(vxlan),
            Self::Other => None,
        }
    }
}

/// What cannot be altered of a VXLAN device.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ActualVxlan {
    pub vni: u32,
    pub local: Option<IpAddr>,
    pub lower: Option<u32>,
    pub port: u16,
    pub learning: bool,
    pub gbp: bool,
    /// Properties that a VTEP of this agent never has: external control, another header, a default
    /// destination.
    pub foreign: bool,
}

impl ActualVxlan {
    /// From what a dump or a notification says of the device.
    fn parse(data: &[InfoVxlan]) -> Self {
        let mut vxlan = Self::default();
        for item in data {
            match item {
                InfoVxlan::Id(vni) => vxlan.vni = *vni,
                InfoVxlan::Local(ip) => vxlan.local = Some((*ip).into()),
                InfoVxlan::Local6(ip) => vxlan.local = Some((*ip).into()),
                InfoVxlan::Link(index) => vxlan.lower = Some(*index),
                InfoVxlan::Port(port) => vxlan.port = *port,
                InfoVxlan::Learning(learning) => vxlan.learning = *learning,
                InfoVxlan::Gbp => vxlan.gbp = true,
                InfoVxlan::CollectMetadata(true)
                | InfoVxlan::Vnifilter(true)
                | InfoVxlan::Gpe
                | InfoVxlan::Group(_)
                | InfoVxlan::Group6(_) => vxlan.foreign = true,
                _ => {}
            }
        }
        vxlan
    }
}
