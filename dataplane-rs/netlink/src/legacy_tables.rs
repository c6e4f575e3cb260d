//! Tells whether the tables of iptables-legacy have changed, by what the kernel shows of them: the
//! kernel notifies nobody of their changes.
//!
//! The interface is that of `linux/netfilter_ipv4/ip_tables.h` and `linux/netfilter_ipv6/ip6_tables.h`.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; those of IPv6 have the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Bytes of a table's name.
const NAME: usize = 32;
/// Bytes before the rules in the answer to [`GET_ENTRIES`].
const HEAD: usize = 40;
/// Tables in which the agent, or what concerns it, has rules.
const TABLES: [&str; 2] = ["filter", "nat"];

/// `struct ipt_getinfo`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    name: [u8; NAME],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// A family of addresses.
struct Family {
    /// The names of the tables in use; asking for another one would bring it into use.
    names: &'static str,
    domain: libc::c_int,
    level: libc::c_int,
    /// Offset of a rule's length, a `u16`.
    length: usize,
    /// Offset of what the kernel notes in a rule, and that of what follows it and the counters.
    notes: usize,
    rest: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        names: "/proc/thread-self/net/ip_tables_names",
        domain: libc::AF_INET,
        level: libc::IPPROTO_IP,
        length: 90,
        notes: 92,
        rest: 112,
    },
    Family {
        names: "/proc/thread-self/net/ip6_tables_names",
        domain: libc::AF_INET6,
        level: libc::IPPROTO_IPV6,
        length: 142,
        notes: 144,
        rest: 168,
    },
];

/// What the tables were when they were compared last.
#[derive(Default)]
pub struct LegacyTables {
    /// Nothing where they could not be read.
    digests: [Option<u64>; FAMILIES.len()],
}

impl LegacyTables {
    /// Whether a table may have changed since the last call.
    pub fn changed(&mut self) -> bool {
        let now = FAMILIES.each_ref().map(|family| digest(family).ok());
        let changed = now != self.digests || now.contains(&None);
        self.digests = now;
        changed
    }
}

fn digest(family: &Family) -> io::Result<u64> {
    let names = match fs::read_to_string(family.names) {
        Ok(names) => names,
        // The kernel does not have the variant, or not yet.
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let mut hasher = DefaultHasher::new();
    for name in names.lines().filter(|name| TABLES.contains(name)) {
        name.hash(&mut hasher);
        digest_table(family, name, &mut hasher)?;
    }
    Ok(hasher.finish())
}

fn digest_table(family: &Family, name: &str, hasher: &mut DefaultHasher) -> io::Result<()> {
    // SAFETY: no pointers; the result is checked below.
    let fd = unsafe { libc::socket(family.domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nothing else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0; size_of::<Info>()];
    info[..name.len()].copy_from_slice(name.as_bytes());
    get_option(&socket, family.level, GET_INFO, &mut info)?;
    // SAFETY: any bytes are an `Info`, and there are enough of them.
    let info: Info = unsafe { std::ptr::read_unaligned(info.as_ptr().cast()) };
    let Info {
        valid_hooks,
        hook_entry,
        underflow,
        num_entries,
        size,
        ..
    } = info;
    (valid_hooks, hook_entry, underflow, num_entries, size).hash(hasher);
    let mut table = vec![0; HEAD + size as usize];
    table[..NAME].copy_from_slice(&info.name);
    table[NAME..NAME + size_of::<u32>()].copy_from_slice(&size.to_ne_bytes());
    // Fails where the size is another one by now: then the table has changed.
    get_option(&socket, family.level, GET_ENTRIES, &mut table)?;
    digest_rules(family, &table[HEAD..], hasher);
    Ok(())
}

/// Takes all of the rules but their counters and what the kernel notes in them.
fn digest_rules(family: &Family, mut rules: &[u8], hasher: &mut DefaultHasher) {
    while let Some(length) = rules.get(family.length..family.length + 2) {
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        if length < family.rest || length > rules.len() {
            break;
        }
        rules[..family.notes].hash(hasher);
        rules[family.rest..length].hash(hasher);
        rules = &rules[length..];
    }
    rules.hash(hasher);
}

fn get_option(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut [u8],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(value.len())
        .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // SAFETY: the pointer and the length are those of `value`, which the kernel fills at most.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rules of IPv4 of these counts.
    fn rules(counts: [u8; 2], targets: [u8; 2]) -> Vec<u8> {
        const LENGTH: usize = 152;
        let rule = |count: u8, target: u8| {
            let mut rule = vec![1; LENGTH];
            rule[90..92].copy_from_slice(&(LENGTH as u16).to_ne_bytes());
            rule[92..112].fill(count);
            rule[LENGTH - 1] = target;
            rule
        };
        [rule(counts[0], targets[0]), rule(counts[1], targets[1])].concat()
    }

    fn digest_of(bytes: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        digest_rules(&FAMILIES[0], bytes, &mut hasher);
        hasher.finish()
    }

    #[test]
    fn counters_are_no_change_and_rules_are() {
        let right = digest_of(&rules([0, 0], [1, 2]));
        assert_eq!(right, digest_of(&rules([7, 9], [1, 2])));
        assert_ne!(right, digest_of(&rules([0, 0], [1, 3])));
        assert_ne!(right, digest_of(&rules([0, 0], [2, 1])));
    }

    #[test]
    fn malformed_rules_are_read_to_the_end() {
        for length in [0_u16, 1, 111, u16::MAX] {
            let mut bytes = rules([0, 0], [1, 2]);
            bytes[90..92].copy_from_slice(&length.to_ne_bytes());
            let one = digest_of(&bytes);
            *bytes.last_mut().unwrap() ^= 1;
            assert_ne!(one, digest_of(&bytes), "length {length}");
        }
        digest_of(&[]);
    }
}
