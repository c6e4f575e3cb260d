//! A VXLAN device (RFC 7348), one VTEP.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkInfo};
use serde::Deserialize;

use super::{Details, LinkKind};
use crate::values::{DevName, Mac};

/// See the module.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct VxlanLink {
    pub name: DevName,
    pub vni: u32,
    pub mac: Mac,
    pub mtu: u32,
    pub lower: DevName,
    pub local: IpAddr,
    pub port: u16,
    pub learning: bool,
    pub gbp: bool,
}

impl LinkKind for VxlanLink {
    fn name(&self) -> DevName {
        self.name
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn kind(&self) -> &'static str {
        "vxlan"
    }

    fn info(&self, lower: Option<u32>) -> Option<Vec<LinkInfo>> {
        let mut data = vec![
            InfoVxlan::Id(self.vni),
            match self.local {
                IpAddr::V4(ip) => InfoVxlan::Local(ip),
                IpAddr::V6(ip) => InfoVxlan::Local6(ip),
            },
            InfoVxlan::Port(self.port),
            InfoVxlan::Learning(self.learning),
        ];
        data.extend(lower.map(InfoVxlan::Link));
        if self.gbp {
            data.push(InfoVxlan::Gbp);
        }
        Some(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ])
    }

    fn mac(&self) -> Option<Mac> {
        Some(self.mac)
    }

    fn lower(&self) -> Option<DevName> {
        Some(self.lower)
    }

    fn matches(&self, actual: &Details, lower: Option<u32>) -> bool {
        actual.vxlan().is_some_and(|vxlan| {
            !vxlan.foreign
                && vxlan.vni == self.vni
                && vxlan.port == self.port
                && vxlan.local == Some(self.local)
                && vxlan.lower == lower
                && vxlan.gbp == self.gbp
                && vxlan.learning == self.learning
        })
    }

    /// The kernel refuses a second device of one family with the same VNI and port.
    fn excludes(&self, actual: &Details) -> bool {
        actual.vxlan().is_some_and(|vxlan| {
            vxlan.vni == self.vni
                && vxlan.port == self.port
                && vxlan.local.map(|ip| ip.is_ipv4()) == Some(self.local.is_ipv4())
        })
    }

    fn no_link_local(&self) -> bool {
        true
    }
}

impl fmt::Display for VxlanLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "link {} type vxlan id {} local {} dev {} dstport {}",
            self.name, self.vni, self.local, self.lower, self.port
        )
    }
}
