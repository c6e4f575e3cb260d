//! Compares an attachment with what is there.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;

use super::add::entry;
use super::namespace::Namespace;
use super::{Attachment, PodRoute, bridge, failed, find, message};
use crate::actual::{self, ActualLink};
use crate::message::{get_links, get_routes};
use crate::socket::RtSocket;

/// What is wrong with an attachment, a line each; nothing where it is as it was made.
///
/// # Errors
/// Where it cannot be looked at.
pub fn check(wanted: &Attachment) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let mut host = RtSocket::open().map_err(failed)?;
    check_host(&mut host, wanted, &mut problems)?;
    match Namespace::open(&wanted.netns) {
        Ok(namespace) => check_pod(&mut namespace.socket()?, wanted, &mut problems)?,
        Err(problem) => problems.push(problem),
    }
    Ok(problems)
}

fn check_host(
    host: &mut RtSocket,
    wanted: &Attachment,
    problems: &mut Vec<String>,
) -> Result<(), String> {
    let name = wanted.bridge.name;
    let Some(bridge) = found(host, name, "", problems)? else {
        return Ok(());
    };
    let present = bridge::addresses(host, bridge.index)?;
    for gateway in &wanted.bridge.gateways {
        if !present.iter().any(|address| address.cidr == *gateway) {
            problems.push(format!("{name} lacks the address {gateway}"));
        }
    }
    if found(host, wanted.host, "", problems)?.is_some()
        && master_of(host, wanted)? != Some(bridge.index)
    {
        problems.push(format!("{} is not a port of {name}", wanted.host));
    }
    Ok(())
}

fn check_pod(
    pod: &mut RtSocket,
    wanted: &Attachment,
    problems: &mut Vec<String>,
) -> Result<(), String> {
    let Some(link) = found(pod, wanted.ifname, " in the container", problems)? else {
        return Ok(());
    };
    let present = bridge::addresses(pod, link.index)?;
    for wanted_address in &wanted.addresses {
        if !present
            .iter()
            .any(|address| address.cidr == *wanted_address)
        {
            problems.push(format!(
                "{} lacks the address {wanted_address}",
                wanted.ifname
            ));
        }
    }
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        routes.extend(
            pod.dump(&get_routes(family), actual::route)
                .map_err(failed)?,
        );
    }
    for route in &wanted.routes {
        if !routes.iter().any(|actual| carries(actual, route, &link)) {
            problems.push(format!("the container lacks the {}", entry(route)));
        }
    }
    Ok(())
}

fn carries(actual: &actual::ActualRoute, route: &PodRoute, link: &ActualLink) -> bool {
    let hop = actual.hops.as_slice().first();
    actual.key.dst == route.dst
        && hop.is_some_and(|hop| {
            hop.index == link.index && (route.via.is_none() || hop.via == route.via)
        })
}

/// The device, where it is there; one that is down is a problem, too.
fn found(
    socket: &mut RtSocket,
    name: crate::values::DevName,
    place: &str,
    problems: &mut Vec<String>,
) -> Result<Option<ActualLink>, String> {
    let link = find(socket, name)?;
    match &link {
        None => problems.push(format!("there is no {name}{place}")),
        Some(link) if !link.up() => problems.push(format!("{name}{place} is down")),
        Some(_) => {}
    }
    Ok(link)
}

fn master_of(host: &mut RtSocket, wanted: &Attachment) -> Result<Option<u32>, String> {
    let masters = host.dump(&get_links(), |message| match message {
        Message::NewLink(link) => {
            let name = actual::ActualLink::parse(&link)?.name;
            (name == wanted.host).then(|| message::master(&link))
        }
        _ => None,
    });
    Ok(masters.map_err(failed)?.into_iter().flatten().next())
}
