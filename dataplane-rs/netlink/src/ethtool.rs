//! A device's offloads, as `ethtool -k` shows them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::values::DevName;

// linux/ethtool.h
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
/// More features than any kernel has.
const MOST_FEATURES: usize = 1024;

/// Names of the features that are on, as `tx-checksum-ip-generic`.
///
/// # Errors
/// Where the device is not there, or its driver tells nothing.
pub fn features(dev: &DevName) -> io::Result<Vec<String>> {
    let socket = socket()?;
    let count = feature_count(&socket, dev)?;
    let names = feature_names(&socket, dev, count)?;
    let blocks = count.div_ceil(32);
    // struct ethtool_gfeatures: cmd, size, and for each block available, requested, active and
    // never_changed.
    let mut words = vec![0u32; 2 + 4 * blocks];
    words[0] = ETHTOOL_GFEATURES;
    words[1] = blocks as u32;
    call(&socket, dev, &mut words)?;
    let is_on = |at: usize| words[2 + 4 * (at / 32) + 2] & (1 << (at % 32)) != 0;
    let on = names
        .into_iter()
        .enumerate()
        .filter(|(at, name)| is_on(*at) && !name.is_empty());
    Ok(on.map(|(_, name)| name).collect())
}

fn feature_count(socket: &OwnedFd, dev: &DevName) -> io::Result<usize> {
    // struct ethtool_sset_info: cmd, reserved, a 64-bit mask, data.
    let mut words = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
    call(socket, dev, &mut words)?;
    Ok((words[4] as usize).min(MOST_FEATURES))
}

fn feature_names(socket: &OwnedFd, dev: &DevName, count: usize) -> io::Result<Vec<String>> {
    // struct ethtool_gstrings: cmd, string_set, len, data.
    let mut words = vec![0u32; 3 + count * ETH_GSTRING_LEN / 4];
    words[0] = ETHTOOL_GSTRINGS;
    words[1] = ETH_SS_FEATURES;
    words[2] = count as u32;
    call(socket, dev, &mut words)?;
    let bytes: Vec<u8> = words[3..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let name = |bytes: &[u8]| {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    Ok(bytes.chunks_exact(ETH_GSTRING_LEN).map(name).collect())
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(socket: &OwnedFd, dev: &DevName, words: &mut [u32]) -> io::Result<()> {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = dev.to_string();
    // The last byte stays zero: a name has 15 at most.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: the kernel writes no more than the structure at `ifru_data` has room for by its own
    // length field, and both live until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
