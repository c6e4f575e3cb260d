//! The agent's devices: one file a kind, and what makes them right.

mod bridge;
mod details;
mod kind;
mod reconcile;
mod tun;
mod vxlan;

use std::fmt;
use std::ops::Deref;

use serde::Deserialize;

pub use bridge::BridgeLink;
pub use details::{ActualVxlan, Details};
pub use kind::LinkKind;
pub use reconcile::{is_right, problems, reconcile, remove_stale};
pub use tun::TunLink;
pub use vxlan::VxlanLink;

/// A device that the agent makes. A new kind is a file here and a line of this type.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Link {
    Vxlan(VxlanLink),
    Bridge(BridgeLink),
    Tun(TunLink),
}

impl Deref for Link {
    type Target = dyn LinkKind;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Vxlan(link) => link,
            Self::Bridge(link) => link,
            Self::Tun(link) => link,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
