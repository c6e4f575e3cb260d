//! Removes an attachment.

use super::namespace::Namespace;
use super::{Detachment, failed, find, must};
use crate::message::del_link;
use crate::socket::RtSocket;
use crate::values::DevName;

/// Removes the pair by whichever of its ends is found, which takes the other along; answers whether
/// one was there. A namespace that is gone has no end left.
///
/// # Errors
/// Where it is there and stays.
pub fn remove(unwanted: &Detachment) -> Result<bool, String> {
    let mut host = RtSocket::open().map_err(failed)?;
    if remove_veth(&mut host, unwanted.host)? {
        return Ok(true);
    }
    let netns = unwanted.netns.as_deref().map(Namespace::open);
    match netns {
        Some(Ok(namespace)) => remove_veth(&mut namespace.socket()?, unwanted.ifname),
        _ => Ok(false),
    }
}

fn remove_veth(socket: &mut RtSocket, name: DevName) -> Result<bool, String> {
    let link = find(socket, name)?.filter(|link| link.kind == "veth");
    let Some(link) = link else {
        return Ok(false);
    };
    let what = format!("removal of {name}");
    must(socket, (del_link(link.index), 0), &[libc::ENODEV], &what)?;
    Ok(true)
}
