//! The requests that only attachments need.

use std::os::fd::RawFd;

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};

use super::Attachment;
use crate::values::{DevName, Mac};

/// Makes the veth pair: the host's end on the bridge, the other in the container's namespace.
pub fn new_veth(attachment: &Attachment, bridge: u32, netns: RawFd) -> Message {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(attachment.ifname.to_string()),
        LinkAttribute::Mtu(attachment.mtu),
        LinkAttribute::NetNsFd(netns),
    ];
    peer.attributes.extend(attachment.mac.map(address));
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(attachment.host.to_string()),
        LinkAttribute::Mtu(attachment.mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    Message::NewLink(message)
}

/// Makes a bridge.
pub fn new_bridge(name: DevName) -> Message {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    Message::NewLink(message)
}

/// Gives a bridge an MTU and an address that do not change with its ports.
pub fn settle_bridge(index: u32, mtu: u32, mac: Option<Mac>) -> Message {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::Mtu(mtu)];
    message.attributes.extend(mac.map(address));
    Message::SetLink(message)
}

/// Sets flags of a device.
pub fn raise(index: u32, flags: LinkFlags) -> Message {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = flags;
    message.header.change_mask = flags;
    Message::SetLink(message)
}

/// Sets or clears hairpin mode of a bridge's port.
pub fn hairpin(index: u32, on: bool) -> Message {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
            on,
        )])),
    ])];
    Message::NewLink(message)
}

/// The bridge (or other master) that a device belongs to.
pub fn master(message: &LinkMessage) -> Option<u32> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        })
}

fn address(mac: Mac) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}
