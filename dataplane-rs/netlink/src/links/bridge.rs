//! A bridge for the host's containers.

use std::fmt;

use netlink_packet_route::link::{InfoKind, LinkInfo};
use serde::Deserialize;

use super::LinkKind;
use crate::values::DevName;

/// See the module.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct BridgeLink {
    pub name: DevName,
    pub mtu: u32,
}

impl LinkKind for BridgeLink {
    fn name(&self) -> DevName {
        self.name
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn kind(&self) -> &'static str {
        "bridge"
    }

    fn info(&self, _lower: Option<u32>) -> Option<Vec<LinkInfo>> {
        Some(vec![LinkInfo::Kind(InfoKind::Bridge)])
    }

    fn name_flag(&self) -> Option<&'static str> {
        Some("--bridge")
    }

    /// A bridge keeps an MTU that was set, not one that it was made with, when a port joins.
    fn mtu_afterwards(&self) -> bool {
        true
    }
}

impl fmt::Display for BridgeLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {} type bridge", self.name)
    }
}
