//! The TUN device of a userspace tunnel of this process.

use std::fmt;

use netlink_packet_route::link::LinkInfo;
use serde::Deserialize;

use super::LinkKind;
use crate::values::DevName;

/// See the module.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct TunLink {
    pub name: DevName,
    pub mtu: u32,
}

impl LinkKind for TunLink {
    fn name(&self) -> DevName {
        self.name
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn kind(&self) -> &'static str {
        "tun"
    }

    /// Only /dev/net/tun makes one, which is the tunnel's part.
    fn info(&self, _lower: Option<u32>) -> Option<Vec<LinkInfo>> {
        None
    }
}

impl fmt::Display for TunLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {} type tun", self.name)
    }
}
