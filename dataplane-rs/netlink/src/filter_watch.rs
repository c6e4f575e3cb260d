//! Finds out when someone changes the packet filter's rules, without a process: nftables (and with
//! it the nft variant of iptables) notifies, and the legacy variant's tables are compared.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use crate::legacy_tables::LegacyTables;
use crate::report::Event;
use crate::shared::Shared;
use crate::socket::Messages;
use crate::waker::Waker;

/// NFNLGRP_NFTABLES.
const GROUP: u32 = 7;
/// NFNL_SUBSYS_NFTABLES, the high byte of a message's type.
const SUBSYSTEM: u16 = 10;
/// NFT_MSG_DELRULE, the last of the messages about tables, chains and rules. Those after it are
/// about sets, which some programs change all the time, and other objects.
const LAST_OF_RULES: u16 = 8;
/// Time in which the notifications of one change come together.
const SETTLE: Duration = Duration::from_millis(100);
/// The largest notification is a page's.
const RECEIVE_BUFFER: usize = 16 << 10;
const STACK: usize = 128 << 10;

/// Starts the watch: from now on [`Event::PacketFilter`] says that rules may have changed, at most
/// once in `every`. What cannot be watched may have changed each time.
pub fn start(shared: Arc<Shared>, every: Duration) -> io::Result<(Waker, JoinHandle<()>)> {
    let waker = Waker::new()?;
    let watch = FilterWatch {
        shared,
        waker: waker.clone(),
        every,
        // Before the thread starts, so that nothing that happens after this call is missed.
        socket: subscribe().ok(),
        legacy: LegacyTables::default(),
        compare: Instant::now() + every,
        buffer: Vec::with_capacity(RECEIVE_BUFFER),
    };
    let thread = std::thread::Builder::new()
        .name("filter-watch".to_string())
        .stack_size(STACK)
        .spawn(move || watch.run())?;
    Ok((waker, thread))
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    socket.add_membership(GROUP)?;
    Ok(socket)
}

struct FilterWatch {
    shared: Arc<Shared>,
    waker: Waker,
    every: Duration,
    /// None where the kernel has no nftables, or refuses to notify.
    socket: Option<Socket>,
    legacy: LegacyTables,
    /// When the legacy variant's tables are compared next.
    compare: Instant,
    buffer: Vec<u8>,
}

impl FilterWatch {
    fn run(mut self) {
        self.legacy.changed();
        loop {
            let left = self.compare.saturating_duration_since(Instant::now());
            let socket = self.socket.as_ref().map(AsRawFd::as_raw_fd);
            if self.sleep(socket, left) {
                self.sleep(None, SETTLE);
            }
            if self.waker.is_closed() {
                return;
            }
            if self.look() {
                self.shared.events.push(Event::PacketFilter);
                self.sleep(None, self.every);
            }
        }
    }

    /// Whether rules may have changed since the last look.
    fn look(&mut self) -> bool {
        let mut changed = self.notified();
        if self.compare <= Instant::now() {
            self.compare = Instant::now() + self.every;
            changed |= self.legacy.changed();
            if self.socket.is_none() {
                self.socket = subscribe().ok();
                changed = true;
            }
        }
        changed
    }

    /// Takes all notifications that wait; whether one is about rules, or some were lost.
    fn notified(&mut self) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let mut changed = false;
        loop {
            self.buffer.clear();
            match socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    changed |= Messages(&self.buffer).any(|message| is_about_rules(message.kind));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(_) => {
                    self.socket = None;
                    return true;
                }
            }
        }
    }

    /// Sleeps for this long, or until there is something to read or the watch ends.
    fn sleep(&self, socket: Option<i32>, time: Duration) -> bool {
        self.waker.wait(socket, Some(time)).unwrap_or_else(|_| {
            // Not to spin where poll itself fails.
            std::thread::sleep(SETTLE);
            false
        })
    }
}

fn is_about_rules(kind: u16) -> bool {
    kind >> 8 == SUBSYSTEM && kind & 0xff <= LAST_OF_RULES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_sets_are_not_rules() {
        let kind = |message: u16| SUBSYSTEM << 8 | message;
        // NFT_MSG_NEWTABLE, NFT_MSG_NEWRULE, NFT_MSG_DELRULE.
        assert!([0, 6, 8].into_iter().map(kind).all(is_about_rules));
        // NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWGEN, and another subsystem.
        assert!(![9, 12, 15].into_iter().map(kind).any(is_about_rules));
        assert!(!is_about_rules(1 << 8));
    }
}
