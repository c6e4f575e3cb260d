//! What the kernel has: messages of dumps and notifications, reduced to what is compared.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
    RouteVia,
};

use crate::ALIAS;
use crate::links::Details;
use crate::state::{Address, RouteKey};
use crate::values::{Cidr, DevName, Mac};

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActualLink {
    pub index: u32,
    pub name: DevName,
    pub kind: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub flags: LinkFlags,
    /// Marked as the agent's.
    pub owned: bool,
    /// IPv6 link-local addresses are not made; true also where there is no IPv6.
    pub no_link_local: bool,
    pub details: Details,
}

impl ActualLink {
    pub fn up(&self) -> bool {
        self.flags.contains(LinkFlags::Up)
    }

    /// Up, and so is what it needs to send.
    pub fn carries(&self) -> bool {
        self.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
    }

    /// None for the shortened messages that bridges send about their ports.
    pub fn parse(message: &LinkMessage) -> Option<Self> {
        if message.header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let mut name = None;
        let mut link = Self {
            index: message.header.index,
            name: "?".parse().ok()?,
            kind: String::new(),
            mac: None,
            mtu: 0,
            flags: message.header.flags,
            owned: false,
            no_link_local: true,
            details: Details::default(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = text.parse().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => link.mac = Mac::from_slice(bytes),
                LinkAttribute::IfAlias(alias) => link.owned = alias == ALIAS,
                LinkAttribute::LinkInfo(infos) => link.take_info(infos),
                LinkAttribute::AfSpecUnspec(specs) => link.take_families(specs),
                _ => {}
            }
        }
        link.name = name?;
        Some(link)
    }

    fn take_info(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = kind.to_string(),
                LinkInfo::Data(data) => self.details = Details::parse(data),
                _ => {}
            }
        }
    }

    fn take_families(&mut self, specs: &[AfSpecUnspec]) {
        for spec in specs {
            let AfSpecUnspec::Inet6(inet6) = spec else {
                continue;
            };
            for attribute in inet6 {
                if let AfSpecInet6::AddrGenMode(mode) = attribute {
                    self.no_link_local = *mode == In6AddrGenMode::None;
                }
            }
        }
    }
}

/// An address of any device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActualAddress {
    pub index: u32,
    pub cidr: Cidr,
    pub scope: AddressScope,
    pub flags: AddressFlags,
    /// Seconds for which it is still preferred to others; `u32::MAX` without an end.
    pub preferred: u32,
}

impl ActualAddress {
    pub fn parse(message: &AddressMessage) -> Option<Self> {
        let header = &message.header;
        let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
        let (mut local, mut address) = (None, None);
        let mut preferred = u32::MAX;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Flags(all) => flags = *all,
                AddressAttribute::CacheInfo(info) => preferred = info.ifa_preferred,
                _ => {}
            }
        }
        // On point-to-point devices IFA_ADDRESS is the far end.
        Some(Self {
            index: header.index,
            cidr: Cidr {
                ip: local.or(address)?,
                len: header.prefix_len,
            },
            scope: header.scope,
            flags,
            preferred,
        })
    }

    /// An IPv6 link-local address, which the kernel gives a device by itself.
    pub fn is_kernels(&self) -> bool {
        is_link_local(self.cidr.ip)
    }

    /// The entry it would be on a device of the agent's.
    pub fn entry(&self, dev: DevName) -> Address {
        Address {
            dev,
            cidr: self.cidr,
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// One next hop of a route; index 0 where it has no device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    pub index: u32,
    pub via: Option<IpAddr>,
}

/// The next hops of a route: mostly one, which needs no allocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hops {
    One([Hop; 1]),
    Several(Vec<Hop>),
}

impl Hops {
    pub fn as_slice(&self) -> &[Hop] {
        match self {
            Self::One(hop) => hop,
            Self::Several(hops) => hops,
        }
    }
}

/// A route of the main table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActualRoute {
    pub key: RouteKey,
    pub kind: RouteType,
    /// RTPROT_*
    pub protocol: u8,
    pub hops: Hops,
}

impl ActualRoute {
    /// None for routes that are not forwarding entries of the main table.
    pub fn parse(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let skip = header.table != RouteHeader::RT_TABLE_MAIN
            || header.tos != 0
            || header.source_prefix_length != 0
            || header.flags.contains(RouteFlags::Cloned)
            || matches!(
                header.kind,
                RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast
            );
        if skip {
            return None;
        }
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let (mut dst, mut metric) = (any, 0);
        let mut hop = Hop {
            index: 0,
            via: None,
        };
        let mut several = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => dst = route_ip(address)?,
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::MultiPath(hops) => {
                    several = hops
                        .iter()
                        .map(|hop| Hop {
                            index: hop.interface_index,
                            via: hop.attributes.iter().find_map(gateway),
                        })
                        .collect();
                }
                RouteAttribute::Oif(index) => hop.index = *index,
                other => hop.via = hop.via.or_else(|| gateway(other)),
            }
        }
        let dst = Cidr {
            ip: dst,
            len: header.destination_prefix_length,
        };
        Some(Self {
            key: RouteKey { dst, metric },
            kind: header.kind,
            protocol: header.protocol.into(),
            hops: if several.is_empty() {
                Hops::One([hop])
            } else {
                Hops::Several(several)
            },
        })
    }

    /// Made by the kernel for an address or by a router's advertisement.
    pub fn is_kernels(&self) -> bool {
        let automatic = [
            RouteProtocol::Kernel,
            RouteProtocol::IcmpRedirect,
            RouteProtocol::Ra,
        ];
        automatic.contains(&RouteProtocol::from(self.protocol)) || is_link_local(self.key.dst.ip)
    }

    /// Whether all its next hops are on devices for which `own` holds.
    pub fn is_on(&self, own: impl Fn(u32) -> bool) -> bool {
        self.kind == RouteType::Unicast && self.hops.as_slice().iter().all(|hop| own(hop.index))
    }
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => route_ip(address),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some((*ip).into()),
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some((*ip).into()),
        _ => None,
    }
}

fn route_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// A neighbour entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActualNeighbour {
    pub index: u32,
    pub ip: IpAddr,
    pub mac: Option<Mac>,
    /// Permanent, so made by someone; others come and go by traffic.
    pub permanent: bool,
}

/// One destination of an fdb entry of a VXLAN device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActualFdb {
    pub index: u32,
    pub mac: Mac,
    pub dst: Option<IpAddr>,
    pub permanent: bool,
    pub port: Option<u16>,
    pub vni: Option<u32>,
    /// A device of its own that it goes out by.
    pub via: Option<u32>,
}

impl ActualFdb {
    /// Whether frames go where a plain entry with `dst` would send them, for good.
    pub fn is(&self, dst: IpAddr) -> bool {
        self.permanent
            && self.dst == Some(dst)
            && (self.port, self.vni, self.via) == (None, None, None)
    }
}

/// Either kind of entry that RTM_GETNEIGH gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NeighbourEntry {
    Neighbour(ActualNeighbour),
    Fdb(ActualFdb),
}

impl NeighbourEntry {
    /// None for multicast and other entries that the kernel keeps, and for a bridge's own fdb.
    pub fn parse(message: &NeighbourMessage) -> Option<Self> {
        let header = &message.header;
        let (mut ip, mut mac) = (None, None);
        let (mut port, mut vni, mut via, mut master) = (None, None, None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(address) => ip = neighbour_ip(address),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::from_slice(bytes),
                NeighbourAttribute::Port(value) => port = Some(*value),
                NeighbourAttribute::Vni(value) => vni = Some(*value),
                NeighbourAttribute::IfIndex(value) => via = Some(*value),
                NeighbourAttribute::Controller(value) => master = Some(*value),
                _ => {}
            }
        }
        let state = u16::from(header.state);
        let permanent = state & u16::from(NeighbourState::Permanent) != 0;
        let index = header.ifindex;
        match header.family {
            AddressFamily::Bridge => {
                let mac = mac.filter(|mac| !mac.is_zero() && master.is_none())?;
                let dst = ip;
                Some(Self::Fdb(ActualFdb {
                    index,
                    mac,
                    dst,
                    permanent,
                    port,
                    vni,
                    via,
                }))
            }
            AddressFamily::Inet | AddressFamily::Inet6 => {
                let noarp = state & u16::from(NeighbourState::Noarp) != 0;
                let ip = ip.filter(|_| !noarp)?;
                Some(Self::Neighbour(ActualNeighbour {
                    index,
                    ip,
                    mac,
                    permanent,
                }))
            }
            _ => None,
        }
    }
}

fn neighbour_ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        // The fdb's family does not tell that of its destinations; their length does.
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice())
                .ok()
                .map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}

/// The device of an RTM_NEWLINK.
pub fn link(message: Message) -> Option<ActualLink> {
    match message {
        Message::NewLink(message) => ActualLink::parse(&message),
        _ => None,
    }
}

/// The address of an RTM_NEWADDR.
pub fn address(message: Message) -> Option<ActualAddress> {
    match message {
        Message::NewAddress(message) => ActualAddress::parse(&message),
        _ => None,
    }
}

/// The route of an RTM_NEWROUTE.
pub fn route(message: Message) -> Option<ActualRoute> {
    match message {
        Message::NewRoute(message) => ActualRoute::parse(&message),
        _ => None,
    }
}

/// The entry of an RTM_NEWNEIGH.
pub fn neighbour(message: Message) -> Option<NeighbourEntry> {
    match message {
        Message::NewNeighbour(message) => NeighbourEntry::parse(&message),
        _ => None,
    }
}
