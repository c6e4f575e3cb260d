//! Another network namespace: a socket in it, and its sysctls.
//!
//! A thread can change its own namespace (setns(2)); a netlink socket stays in the one in which it
//! was made. So what is done inside runs on a thread of its own, that ends with it.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::{io, thread};

use crate::socket::RtSocket;

/// The kernel's `include/uapi/linux/magic.h`.
const NSFS_MAGIC: libc::__fsword_t = 0x6e73_6673;

/// A container's network namespace.
pub struct Namespace(File);

impl Namespace {
    /// Opens it by its path, as `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self, String> {
        let what = |e| format!("the container's network namespace {}: {e}", path.display());
        // Opening a pipe would wait for its other end.
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = options.open(path).map_err(what)?;
        if !is_namespace(&file).map_err(what)? {
            return Err(format!("{} is not a network namespace", path.display()));
        }
        let (theirs, own) = (
            file.metadata().map_err(what)?,
            std::fs::metadata("/proc/thread-self/ns/net").map_err(what)?,
        );
        if (theirs.dev(), theirs.ino()) == (own.dev(), own.ino()) {
            return Err(format!(
                "the container's network namespace {} is this host's own",
                path.display()
            ));
        }
        Ok(Self(file))
    }

    /// For a message that names it.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// A socket inside.
    pub fn socket(&self) -> Result<RtSocket, String> {
        self.inside(RtSocket::open)
            .map_err(|e| format!("cannot enter the container's network namespace: {e}"))
    }

    /// Writes files below `/proc/sys/net` of the namespace; those that cannot be are left.
    pub fn sysctls(&self, values: &[(String, &str)]) -> Result<(), String> {
        self.inside(|| {
            for (name, value) in values {
                // Absent where the kernel has no IPv6, read-only in some containers.
                let _ = std::fs::write(format!("/proc/sys/net/{name}"), value);
            }
            Ok(())
        })
        .map_err(|e| format!("cannot enter the container's network namespace: {e}"))
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                // SAFETY: the descriptor is open for as long as `self` lives; only this thread's
                // namespace changes, and the thread ends in this function.
                if unsafe { libc::setns(self.fd(), libc::CLONE_NEWNET) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                work()
            });
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread inside panicked")))
        })
    }
}

/// Whether a file is one of the kernel's for namespaces.
fn is_namespace(file: &File) -> io::Result<bool> {
    // SAFETY: all zeroes is a value of this plain structure, which the call fills in.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the structure is valid for writes.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(about.f_type == NSFS_MAGIC)
}
