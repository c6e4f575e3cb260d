//! What wakes a thread that sleeps in `poll`, and ends it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Shared by a thread and whoever ends it.
#[derive(Clone)]
pub struct Waker {
    event: Arc<OwnedFd>,
    closed: Arc<AtomicBool>,
}

impl Waker {
    /// A waker that nobody has woken.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked below.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nothing else has it.
        let event = Arc::new(unsafe { OwnedFd::from_raw_fd(event) });
        Ok(Self {
            event,
            closed: Arc::default(),
        })
    }

    /// Tells the thread to end.
    pub fn wake(&self) {
        self.closed.store(true, Ordering::Release);
        let one: u64 = 1;
        // SAFETY: an eventfd takes eight bytes, which `one` has; the descriptor is open for as
        // long as `self`. It can only fail when the counter is full, and then poll wakes anyway.
        unsafe {
            libc::write(
                self.event.as_raw_fd(),
                std::ptr::from_ref(&one).cast(),
                size_of::<u64>(),
            )
        };
    }

    /// Whether the thread was told to end.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sleeps until there is something to read from `socket`, the thread is told to end, or the time
    /// has passed; says whether there is something to read.
    pub fn wait(&self, socket: Option<RawFd>, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.map_or(-1, |left| {
            // Rounded up, or the last fraction would be spent spinning.
            i32::try_from(left.as_millis()).map_or(i32::MAX, |left| left.saturating_add(1))
        });
        let entry = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // A negative descriptor is ignored.
        let mut fds = [entry(socket.unwrap_or(-1)), entry(self.event.as_raw_fd())];
        // SAFETY: pointer and length are those of `fds`; the callers keep their descriptors open.
        let result = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
        if result < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(result > 0 && fds[0].revents != 0)
    }
}
