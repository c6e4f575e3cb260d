//! Nexthop objects (`ip nexthop`), which the netlink crate does not have. Routes name their devices
//! besides the object's id, unless `net.ipv4.nexthop_compat_mode` is 0.

use std::io;

use netlink_packet_core::NlasIterator;

use crate::socket::RtSocket;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;

/// `struct nhmsg`
const HEADER: usize = 8;
/// `struct nexthop_grp`
const MEMBER: usize = 8;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NLA_TYPE: u16 = 0x3fff;

const RTNH_F_DEAD: u32 = 1;

/// A nexthop object: one device, or a group of others. One that drops packets has neither.
#[derive(Default, PartialEq, Eq, Debug)]
struct Object {
    index: Option<u32>,
    members: Vec<u32>,
}

/// The devices that packets leave by; none for an object that drops them or is gone.
pub fn devices(socket: &mut RtSocket, id: u32) -> io::Result<Vec<u32>> {
    let object = get(socket, id)?;
    let mut devices = Vec::from_iter(object.index);
    // A group's members are never groups.
    for member in object.members {
        devices.extend(get(socket, member)?.index);
    }
    Ok(devices)
}

fn get(socket: &mut RtSocket, id: u32) -> io::Result<Object> {
    let mut payload = vec![0; HEADER];
    payload.extend(8u16.to_ne_bytes());
    payload.extend(NHA_ID.to_ne_bytes());
    payload.extend(id.to_ne_bytes());
    match socket.query_raw(RTM_GETNEXTHOP, &payload) {
        Ok((RTM_NEWNEXTHOP, answer)) => Ok(parse(&answer)),
        Ok(_) => Ok(Object::default()),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Object::default()),
        Err(e) => Err(e),
    }
}

fn parse(message: &[u8]) -> Object {
    let mut object = Object::default();
    let Some((header, attributes)) = message.split_at_checked(HEADER) else {
        return object;
    };
    if word(&header[4..]).is_none_or(|flags| flags & RTNH_F_DEAD != 0) {
        return object;
    }
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        match attribute.kind() & NLA_TYPE {
            NHA_OIF => object.index = word(attribute.value()),
            NHA_GROUP => {
                object.members = attribute
                    .value()
                    .chunks_exact(MEMBER)
                    .filter_map(word)
                    .collect();
            }
            _ => {}
        }
    }
    object
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u32, kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(flags.to_ne_bytes());
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes
    }

    #[test]
    fn a_device_or_the_members_of_a_group() {
        let single = parse(&message(0, NHA_OIF, &7u32.to_ne_bytes()));
        assert_eq!((single.index, single.members), (Some(7), vec![]));
        let mut members = Vec::new();
        for id in [1u32, 2] {
            members.extend(id.to_ne_bytes());
            members.extend([0; 4]);
        }
        let group = parse(&message(0, NHA_GROUP, &members));
        assert_eq!((group.index, group.members), (None, vec![1, 2]));
    }

    #[test]
    fn a_dead_one_or_a_broken_message_has_no_device() {
        let dead = message(RTNH_F_DEAD, NHA_OIF, &7u32.to_ne_bytes());
        assert_eq!(parse(&dead), Object::default());
        let whole = message(0, NHA_OIF, &7u32.to_ne_bytes());
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Object::default(), "{cut} bytes");
        }
    }
}
