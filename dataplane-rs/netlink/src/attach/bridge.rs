//! The bridge: made where it is missing, used as it is where it is there.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::LinkFlags;

use super::{Bridge, failed, find, message, must, same_family};
use crate::actual::{self, ActualAddress, ActualLink};
use crate::message::{del_address, get_addresses, new_address};
use crate::socket::RtSocket;
use crate::values::Cidr;

/// Finds or makes the bridge, up, with its addresses; the host forwards where it is a gateway.
pub fn ensure(socket: &mut RtSocket, wanted: &Bridge) -> Result<ActualLink, String> {
    let link = match find(socket, wanted.name)? {
        Some(link) => link,
        None => create(socket, wanted)?,
    };
    if link.kind != "bridge" {
        return Err(format!("{} exists and is not a bridge", wanted.name));
    }
    let mut flags = LinkFlags::Up;
    flags.set(LinkFlags::Promisc, wanted.promiscuous);
    let what = format!("bridge {} up", wanted.name);
    must(socket, (message::raise(link.index, flags), 0), &[], &what)?;
    // A router's advertisement among the containers must not move this node's default route.
    write_sysctl(&format!("ipv6/conf/{}/accept_ra", wanted.name), "0");
    for gateway in &wanted.gateways {
        ensure_address(socket, &link, wanted, *gateway)?;
        write_sysctl(
            if gateway.ip.is_ipv4() {
                "ipv4/ip_forward"
            } else {
                "ipv6/conf/all/forwarding"
            },
            "1",
        );
    }
    Ok(link)
}

fn create(socket: &mut RtSocket, wanted: &Bridge) -> Result<ActualLink, String> {
    let what = format!("bridge {}", wanted.name);
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    // Another container's call may have made it meanwhile.
    let request = (message::new_bridge(wanted.name), flags);
    must(socket, request, &[libc::EEXIST], &what)?;
    let link = find(socket, wanted.name)?.ok_or_else(|| format!("{what} vanished"))?;
    let settled = message::settle_bridge(link.index, wanted.mtu, link.mac);
    must(socket, (settled, 0), &[], &what)?;
    Ok(link)
}

fn ensure_address(
    socket: &mut RtSocket,
    link: &ActualLink,
    wanted: &Bridge,
    gateway: Cidr,
) -> Result<(), String> {
    let what = format!("address {gateway} dev {}", wanted.name);
    let present = addresses(socket, link.index)?;
    if present.iter().any(|address| address.cidr == gateway) {
        return Ok(());
    }
    for other in present.iter().filter(|other| in_the_way(other, gateway)) {
        if !wanted.force_address {
            return Err(format!(
                "{} has the address {}, not {gateway}: remove it, or set forceAddress",
                wanted.name, other.cidr
            ));
        }
        let request = (del_address(link.index, other.cidr), 0);
        must(socket, request, &[libc::EADDRNOTAVAIL], &what)?;
    }
    let request = (new_address(link.index, gateway), NLM_F_CREATE | NLM_F_EXCL);
    must(socket, request, &[libc::EEXIST], &what)
}

/// A bridge has one IPv4 address, and IPv6 ones of subnets that do not overlap.
fn in_the_way(other: &ActualAddress, gateway: Cidr) -> bool {
    same_family(other.cidr.ip, gateway.ip)
        && !other.is_kernels()
        && (gateway.ip.is_ipv4() || overlap(other.cidr, gateway))
}

fn overlap(a: Cidr, b: Cidr) -> bool {
    let bits = |cidr: Cidr| match cidr.ip {
        std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        std::net::IpAddr::V6(ip) => u128::from(ip),
    };
    let common = a.len.min(b.len);
    common == 0 || (bits(a) ^ bits(b)) >> (128 - u32::from(common)) == 0
}

/// The addresses of a device.
pub fn addresses(socket: &mut RtSocket, index: u32) -> Result<Vec<ActualAddress>, String> {
    let all = socket.dump(&get_addresses(), actual::address);
    let mut all = all.map_err(failed)?;
    all.retain(|address| address.index == index);
    Ok(all)
}

/// Not there where the kernel has no IPv6, and read-only in some containers.
fn write_sysctl(name: &str, value: &str) {
    let _ = std::fs::write(format!("/proc/sys/net/{name}"), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_by_their_shorter_prefix() {
        let over = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(over("fd00:1::1/64", "fd00:1::5/80"));
        assert!(!over("fd00:1::1/64", "fd00:2::1/64"));
        assert!(over("::/0", "fd00::1/64"));
        assert!(over("10.1.2.1/24", "10.1.2.9/32"));
        assert!(!over("10.1.2.1/24", "10.1.3.1/24"));
    }
}
