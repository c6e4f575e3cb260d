//! One queue's thread: TUN device to socket and back, sleeping only when both are quiet.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use crate::admit::LocalSubnets;
use crate::coalesce::Joins;
use crate::config::{Event, Offload};
use crate::counters::WorkerCounters;
use crate::egress::Egress;
use crate::ingress::Ingress;
use crate::peers::PeerTable;
use crate::socket::UdpQueue;
use crate::tun::Queue;

/// What all workers of a tunnel share.
pub struct Shared {
    /// The current peers; readers take no lock.
    pub peers: ArcSwap<PeerTable>,
    /// One a worker.
    pub counters: Box<[CachePadded<WorkerCounters>]>,
    /// Bytes of the largest inner packet.
    pub mtu: AtomicU16,
    /// What is behind us.
    pub local: LocalSubnets,
    /// Where ICMP errors come from, IPv4 and IPv6.
    pub icmp_sources: [Option<IpAddr>; 2],
    /// Readable once the tunnel is to end.
    pub stop: OwnedFd,
    /// Set before `stop` becomes readable.
    pub stopping: AtomicBool,
    /// To the control side.
    pub events: mpsc::Sender<Event>,
    /// Which offloads were told missing.
    pub told: [AtomicBool; 4],
    /// A worker has ended by itself and has told so.
    pub failed: AtomicBool,
}

impl Shared {
    /// Tells the control side, which may have stopped listening.
    pub fn tell(&self, event: Event) {
        let _nobody_listens = self.events.send(event);
    }

    /// Tells once that an offload is left out.
    pub fn tell_missing(&self, offload: Offload, reason: &io::Error) {
        if !self.told[offload as usize].swap(true, Ordering::Relaxed) {
            self.tell(Event::OffloadOff {
                offload,
                reason: reason.to_string(),
            });
        }
    }
}

/// Why a worker ends.
#[derive(Debug)]
pub enum Ending {
    /// The TUN device was deleted.
    DeviceGone,
    /// Something failed for good.
    Failed(String),
}

/// The descriptors that a worker reads and writes.
pub struct Io {
    /// The TUN device's queue.
    pub tun: Arc<Queue>,
    /// The IPv4 and the IPv6 socket.
    pub sockets: [Option<UdpQueue>; 2],
}

/// One queue's state.
pub struct Worker {
    shared: Arc<Shared>,
    io: Io,
    egress: Egress,
    ingress: Ingress,
    spin: Duration,
}

impl Worker {
    /// A worker for the queue `id`.
    pub fn new(id: usize, shared: Arc<Shared>, io: Io, joins: Joins, spin: Duration) -> Self {
        let egress = Egress::new(id, &shared, &io);
        Self {
            egress,
            ingress: Ingress::new(id, joins),
            shared,
            io,
            spin,
        }
    }

    /// Carries packets until the tunnel is stopped or the device goes.
    ///
    /// # Errors
    /// Why it ended by itself.
    pub fn run(&mut self) -> Result<(), Ending> {
        let mut quiet_since = None;
        while !self.shared.stopping.load(Ordering::Relaxed) {
            let table = self.shared.peers.load();
            let mut active = self.egress.run(&self.shared, &self.io, &table)?;
            active |= self.ingress.run(&self.shared, &self.io, &table)?;
            drop(table);
            if active {
                quiet_since = None;
                continue;
            }
            if self.spin.is_zero()
                || quiet_since.get_or_insert_with(Instant::now).elapsed() >= self.spin
            {
                self.sleep()?;
                quiet_since = None;
            } else {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Waits until one of the descriptors has something.
    fn sleep(&self) -> Result<(), Ending> {
        let socket = |index: usize| {
            self.io.sockets[index]
                .as_ref()
                .map_or(-1, AsRawFd::as_raw_fd)
        };
        let watch = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut polls = [
            watch(self.shared.stop.as_raw_fd()),
            watch(self.io.tun.as_raw_fd()),
            watch(socket(0)),
            watch(socket(1)),
        ];
        // SAFETY: four valid pollfds, counted as four; a negative descriptor is skipped.
        let ready = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, -1) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(Ending::Failed(format!("poll: {error}")))
            };
        }
        if polls[1].revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
            return Err(Ending::DeviceGone);
        }
        Ok(())
    }
}

/// The place of an address family's socket.
pub fn family(address: &SocketAddr) -> usize {
    usize::from(address.is_ipv6())
}
