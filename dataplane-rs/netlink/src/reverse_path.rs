//! Packets that the kernel drops since it would not answer by the device they come in by
//! (`rp_filter`), by its own judgement.

use std::net::Ipv4Addr;
use std::{fs, io};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAttribute;
use serde::{Deserialize, Serialize};

use crate::actual;
use crate::message;
use crate::socket::RtSocket;
use crate::values::DevName;

/// Packets that come in. IPv6 has no such filter.
#[derive(Deserialize, Debug)]
pub struct Flow {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    /// The device that they come in by.
    pub dev: DevName,
}

/// What the filter does to a [`Flow`].
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filtered {
    pub dropped: bool,
    /// The filter in force on the device: 0 off, 1 strict, 2 loose.
    pub filter: u8,
}

/// Asks the kernel about each flow. It looks a packet up as if it had come in, with all rules and
/// tables, and refuses one that the filter would drop: with EXDEV, since Linux 6.14 with EINVAL, which
/// has other causes, too.
pub fn reverse_path(flows: &[Flow]) -> io::Result<Vec<Filtered>> {
    let mut socket = RtSocket::open()?;
    let links = socket.dump(&message::get_links(), actual::link)?;
    let mut answers = Vec::with_capacity(flows.len());
    for flow in flows {
        let filter = filter_of(&flow.dev);
        let link = links.iter().find(|link| link.name == flow.dev);
        let dropped = match link.filter(|_| filter != 0) {
            None => false,
            Some(link) => is_dropped(&mut socket, flow, link.index),
        };
        answers.push(Filtered { dropped, filter });
    }
    Ok(answers)
}

fn is_dropped(socket: &mut RtSocket, flow: &Flow, index: u32) -> bool {
    let Err(error) = socket.query(message::get_route_of(flow.src, flow.dst, Some(index))) else {
        return false;
    };
    match error.raw_os_error() {
        Some(libc::EXDEV) => true,
        Some(libc::EINVAL) => leads_elsewhere(socket, flow, index),
        _ => false,
    }
}

/// Whether this host's own packets back leave by another device.
fn leads_elsewhere(socket: &mut RtSocket, flow: &Flow, index: u32) -> bool {
    // An address that is not the host's own cannot be the source.
    let answer = socket
        .query(message::get_route_of(flow.dst, flow.src, None))
        .or_else(|_| socket.query(message::get_route_to(flow.src.into())));
    let Ok(RouteNetlinkMessage::NewRoute(route)) = answer else {
        return false;
    };
    let device = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
    device.is_some_and(|device| device != index)
}

/// The larger of the host's setting and the device's is in force.
fn filter_of(dev: &DevName) -> u8 {
    setting("all").max(setting(&dev.to_string()))
}

fn setting(of: &str) -> u8 {
    let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
