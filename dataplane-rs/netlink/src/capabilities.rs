//! What the process may do in its network namespace, found by trying what changes nothing.
//!
//! The sets in `/proc/self/status` would not tell: in a user namespace a process has all
//! capabilities, yet none over the host's network namespace.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::message;
use crate::socket::RtSocket;

/// No interface has this index.
const NO_LINK: u32 = i32::MAX as u32;

/// The capabilities that the agent needs and does not have in this network namespace.
pub fn missing() -> io::Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    if !may_configure()? {
        missing.push("CAP_NET_ADMIN");
    }
    if !may_send_raw() {
        missing.push("CAP_NET_RAW");
    }
    Ok(missing)
}

/// The kernel asks for the capability before it looks whether there is such a device.
fn may_configure() -> io::Result<bool> {
    let refusals = RtSocket::open()?.execute([(message::del_link(NO_LINK), 0)])?;
    Ok(!refusals.iter().any(|refusal| is_denied(refusal.errno)))
}

/// iptables needs a raw socket. This one only sends, and nothing is sent.
fn may_send_raw() -> bool {
    // SAFETY: socket takes no pointers.
    let fd = unsafe {
        libc::socket(
            libc::AF_INET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::IPPROTO_RAW,
        )
    };
    if fd >= 0 {
        // SAFETY: the descriptor is new and nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        return true;
    }
    // A kernel without IPv4's raw sockets is another matter.
    !io::Error::last_os_error()
        .raw_os_error()
        .is_some_and(is_denied)
}

fn is_denied(errno: i32) -> bool {
    matches!(errno, libc::EPERM | libc::EACCES)
}
