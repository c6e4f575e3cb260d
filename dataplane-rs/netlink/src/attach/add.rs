//! Makes an attachment; one that fails halfway is taken back, but for the bridge.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::LinkFlags;

use super::namespace::Namespace;
use super::{Attached, Attachment, Device, PodRoute, bridge, find, message, must};
use crate::actual::ActualLink;
use crate::message::{del_link, new_address, new_route};
use crate::socket::RtSocket;
use crate::state::{Route, RouteKind};

/// RTPROT_BOOT: what a script would set.
const PROTOCOL: u8 = 3;

/// Makes the bridge where it is missing, the veth pair, addresses and routes.
///
/// # Errors
/// One line; nothing but the bridge is left of the attempt.
pub fn add(wanted: &Attachment) -> Result<Attached, String> {
    let mut host = RtSocket::open().map_err(super::failed)?;
    let namespace = Namespace::open(&wanted.netns)?;
    let mut pod = namespace.socket()?;
    if find(&mut pod, wanted.ifname)?.is_some() {
        return Err(format!(
            "the container already has an interface {}",
            wanted.ifname
        ));
    }
    let bridge = bridge::ensure(&mut host, &wanted.bridge)?;
    // Of an earlier life of this container: its name is made of the container's.
    if let Some(stale) = find(&mut host, wanted.host)? {
        let what = format!("removal of {}", wanted.host);
        let request = (del_link(stale.index), 0);
        must(&mut host, request, &[libc::ENODEV], &what)?;
    }
    let what = format!("veth pair {} and {}", wanted.host, wanted.ifname);
    let request = message::new_veth(wanted, bridge.index, namespace.fd());
    must(&mut host, (request, NLM_F_CREATE | NLM_F_EXCL), &[], &what)?;
    let port = find(&mut host, wanted.host)?.ok_or_else(|| format!("{what} vanished"))?;
    let done = configure(&mut host, &port, &namespace, &mut pod, wanted);
    if done.is_err() {
        // The error that led here says more than one of this removal.
        let _ = host.execute([(del_link(port.index), 0)]);
    }
    let pod = done?;
    let bridge = find(&mut host, wanted.bridge.name)?.unwrap_or(bridge);
    Ok(Attached {
        bridge: Device::of(&bridge),
        host: Device::of(&port),
        pod,
    })
}

fn configure(
    host: &mut RtSocket,
    port: &ActualLink,
    namespace: &Namespace,
    pod: &mut RtSocket,
    wanted: &Attachment,
) -> Result<Device, String> {
    let what = format!("veth {} up", wanted.host);
    must(
        host,
        (message::raise(port.index, LinkFlags::Up), 0),
        &[],
        &what,
    )?;
    if wanted.hairpin {
        let what = format!("hairpin mode of {}", wanted.host);
        must(host, (message::hairpin(port.index, true), 0), &[], &what)?;
    }
    let ifname = wanted.ifname;
    let link = find(pod, ifname)?.ok_or_else(|| format!("{ifname} vanished"))?;
    // Runtimes may switch IPv6 off; neighbours are told when an address moves to another MAC.
    let mut sysctls = vec![(format!("ipv4/conf/{ifname}/arp_notify"), "1")];
    if wanted.addresses.iter().any(|address| address.ip.is_ipv6()) {
        sysctls.push((format!("ipv6/conf/{ifname}/disable_ipv6"), "0"));
        sysctls.push((format!("ipv6/conf/{ifname}/ndisc_notify"), "1"));
    }
    namespace.sysctls(&sysctls)?;
    for address in &wanted.addresses {
        let what = format!("address {address} dev {ifname}");
        must(
            pod,
            (new_address(link.index, *address), NLM_F_CREATE),
            &[],
            &what,
        )?;
    }
    let what = format!("{ifname} up");
    must(
        pod,
        (message::raise(link.index, LinkFlags::Up), 0),
        &[],
        &what,
    )?;
    for route in &wanted.routes {
        let entry = entry(route);
        let request = new_route(&entry, Some(link.index), PROTOCOL);
        let what = format!("{entry} dev {ifname}");
        must(
            pod,
            (request, NLM_F_CREATE | NLM_F_EXCL),
            &[libc::EEXIST],
            &what,
        )?;
    }
    Ok(Device::of(&link))
}

/// The route as the other modules have it.
pub fn entry(route: &PodRoute) -> Route {
    Route {
        dst: route.dst,
        kind: RouteKind::Unicast,
        dev: None,
        via: route.via,
        onlink: false,
        metric: route.metric,
    }
}
