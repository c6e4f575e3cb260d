//! A container's attachment to a bridge of this host, as a CNI plugin makes, checks and removes it:
//! one call each, nothing is watched. What is made here bears no mark of the agent's, so that
//! neither its reconciler nor its cleanup takes it for its own.

mod add;
mod bridge;
mod check;
mod message;
mod namespace;
mod remove;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::actual::{self, ActualLink};
use crate::message::get_links;
use crate::report::errno_text;
use crate::socket::{Refusal, Request, RtSocket};
use crate::values::{Cidr, DevName, Mac};

pub use add::add;
pub use check::check;
pub use remove::remove;

/// The bridge that containers are attached to.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    pub name: DevName,
    /// Set where it is made, not where it is there.
    pub mtu: u32,
    /// Its own addresses, the containers' gateways; none where it is no gateway.
    pub gateways: Vec<Cidr>,
    /// Remove other addresses that are in the way of the gateways.
    pub force_address: bool,
    pub promiscuous: bool,
}

/// A route in the container.
#[derive(Deserialize, Clone, Debug)]
pub struct PodRoute {
    pub dst: Cidr,
    #[serde(default)]
    pub via: Option<IpAddr>,
    #[serde(default)]
    pub metric: Option<u32>,
}

/// An attachment as it should be.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub bridge: Bridge,
    /// Path of the container's network namespace.
    pub netns: PathBuf,
    /// Name of the container's end of the veth pair.
    pub ifname: DevName,
    /// Name of the host's end.
    pub host: DevName,
    pub mtu: u32,
    /// The container's; the kernel's choice where absent.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Frames may leave by the port that they came from.
    pub hairpin: bool,
    pub addresses: Vec<Cidr>,
    pub routes: Vec<PodRoute>,
}

/// An attachment to be removed.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Detachment {
    /// Name of the host's end.
    pub host: DevName,
    /// The container's end, for an attachment that another plugin made with another name.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    pub ifname: DevName,
}

/// A device as it came to be.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Device {
    pub name: String,
    pub mac: String,
    pub mtu: u32,
}

impl Device {
    fn of(link: &ActualLink) -> Self {
        Self {
            name: link.name.to_string(),
            mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: link.mtu,
        }
    }
}

/// The devices of an attachment.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    pub bridge: Device,
    pub host: Device,
    pub pod: Device,
}

fn find(socket: &mut RtSocket, name: DevName) -> Result<Option<ActualLink>, String> {
    let links = socket.dump(&get_links(), actual::link).map_err(failed)?;
    Ok(links.into_iter().find(|link| link.name == name))
}

/// Netlink itself failed.
fn failed(error: io::Error) -> String {
    format!("netlink failed: {error}")
}

/// Carries one request out; what the kernel says against it, where it refuses.
fn execute(socket: &mut RtSocket, request: Request) -> Result<Option<Refusal>, String> {
    Ok(socket.execute([request]).map_err(failed)?.pop())
}

/// As [`execute`], a refusal being an error that begins with `what`; one with an errno of `fine` is
/// as good as done.
fn must(socket: &mut RtSocket, request: Request, fine: &[i32], what: &str) -> Result<(), String> {
    match execute(socket, request)? {
        Some(refusal) if !fine.contains(&refusal.errno) => Err(told(what, &refusal)),
        _ => Ok(()),
    }
}

fn told(what: &str, refusal: &Refusal) -> String {
    let text = errno_text(refusal.errno);
    match &refusal.detail {
        Some(detail) => format!("{what}: {text}: {detail}"),
        None => format!("{what}: {text}"),
    }
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}
