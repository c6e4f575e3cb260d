//! The tunnel as the control side sees it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::admit::LocalSubnets;
use crate::coalesce::Joins;
use crate::config::{Error, Event, Offload, TunnelConfig};
use crate::counters::{self, Counters};
use crate::peers::{Peer, PeerTable};
use crate::socket::UdpQueue;
use crate::tun::{self, Queue};
use crate::worker::{Ending, Io, Shared, Worker};

/// Smallest MTU of an IPv4 host (RFC 791).
const MIN_MTU: u16 = 576;
/// Threads at most where the configuration names no number.
const MAX_QUEUES: usize = 8;

/// A running tunnel. Dropping it stops its threads and removes its device.
///
/// All methods may be called from any thread; none waits for packets.
pub struct Tunnel {
    shared: Arc<Shared>,
    name: String,
    index: u32,
    queue: Option<Arc<Queue>>,
    threads: Vec<JoinHandle<()>>,
    events: Mutex<mpsc::Receiver<Event>>,
    /// Tables that a worker may still read. They are freed here, so that no worker frees memory.
    retired: Mutex<Vec<Arc<PeerTable>>>,
    joined: Joins,
}

impl Tunnel {
    /// Makes the device, opens the sockets and starts a thread for each queue. The device is up, with the
    /// MTU set and without addresses or routes; there are no peers.
    ///
    /// # Errors
    /// A configuration that makes no sense, and what the kernel said to the device, the sockets or the
    /// threads.
    pub fn start(config: &TunnelConfig) -> Result<Self, Error> {
        check(config)?;
        let queues = queue_count(config);
        let opened = tun::open(&config.name, config.mtu, queues, config.offloads)
            .map_err(|source| device_error(&config.name, source))?;
        let mut missing = opened.missing;
        let sockets = (0..queues)
            .map(|_| open_sockets(config, queues > 1, &mut missing))
            .collect::<Result<Vec<_>, _>>()?;
        let (sender, events) = mpsc::channel();
        let shared = Arc::new(Shared {
            peers: ArcSwap::from_pointee(PeerTable::default()),
            counters: (0..queues).map(|_| Default::default()).collect(),
            mtu: AtomicU16::new(config.mtu),
            local: LocalSubnets::new(&config.local_subnets),
            icmp_sources: [base_address(config, false), base_address(config, true)],
            stop: event_descriptor().map_err(Error::Thread)?,
            stopping: AtomicBool::new(false),
            events: sender,
            told: Default::default(),
            failed: AtomicBool::new(false),
        });
        for (offload, error) in &missing {
            shared.tell_missing(*offload, error);
        }
        let lacks = |offload| missing.iter().any(|(other, _)| *other == offload);
        let joined = Joins {
            tcp: config.offloads.tun_tso && !lacks(Offload::TunTso),
            udp: config.offloads.tun_tso && config.offloads.tun_uso && !lacks(Offload::TunUso),
        };
        let mut tunnel = Self {
            shared,
            name: opened.name,
            index: opened.index,
            queue: None,
            threads: Vec::with_capacity(queues),
            events: Mutex::new(events),
            retired: Mutex::default(),
            joined,
        };
        for (id, (queue, sockets)) in opened.queues.into_iter().zip(sockets).enumerate() {
            let tun = Arc::new(queue);
            tunnel.queue.get_or_insert_with(|| tun.clone());
            tunnel
                .spawn(id, Io { tun, sockets }, config.spin)
                .map_err(Error::Thread)?;
        }
        Ok(tunnel)
    }

    fn spawn(&mut self, id: usize, io: Io, spin: Duration) -> io::Result<()> {
        let shared = self.shared.clone();
        let mut worker = Worker::new(id, shared.clone(), io, self.joined, spin);
        let thread = std::thread::Builder::new()
            .name(format!("tunnel-{id}"))
            .spawn(move || {
                let ended = panic::catch_unwind(AssertUnwindSafe(|| worker.run()))
                    .unwrap_or_else(|_| Err(Ending::Failed("the thread panicked".into())));
                if let Err(ending) = ended
                    && !shared.failed.swap(true, Ordering::Relaxed)
                {
                    shared.tell(match ending {
                        Ending::DeviceGone => Event::DeviceGone,
                        Ending::Failed(reason) => Event::Failed(reason),
                    });
                }
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The device's name.
    pub fn device_name(&self) -> &str {
        &self.name
    }

    /// The device's index.
    pub fn device_index(&self) -> u32 {
        self.index
    }

    /// Replaces all peers at once: each packet meets the old table or the new one. A peer whose endpoint
    /// stays keeps its counters.
    pub fn set_peers(&self, peers: &[Peer]) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.shared.peers.load_full();
        let new = Arc::new(PeerTable::build(
            peers,
            Some(&old),
            self.shared.counters.len(),
        ));
        self.shared.peers.store(new);
        retired.push(old);
        retired.retain(|table| Arc::strong_count(table) > 1);
    }

    /// Sets the bytes of the largest inner packet, on the device, too.
    ///
    /// # Errors
    /// An MTU that IP does not allow, and what the kernel said.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        check_mtu(mtu)?;
        if let Some(queue) = &self.queue {
            queue
                .set_mtu(mtu)
                .map_err(|source| device_error(&self.name, source))?;
        }
        self.shared.mtu.store(mtu, Ordering::Relaxed);
        Ok(())
    }

    /// All counters since the start.
    pub fn counters(&self) -> Counters {
        counters::total(&self.shared.counters, self.shared.peers.load().counters())
    }

    /// Waits for the next event, `timeout` at most; none where nothing happened. After [`Self::close`] it
    /// gives [`Event::Closed`] once all earlier events were taken.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        match events.recv_timeout(timeout) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Closed),
        }
    }

    /// Tells the threads to end and wakes who waits for an event. Dropping the tunnel waits for them, too.
    pub fn close(&self) {
        if self.shared.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        // SAFETY: eight bytes of a value that outlives the call, as eventfd(2) wants them.
        let written = unsafe {
            libc::write(
                self.shared.stop.as_raw_fd(),
                (&raw const ONE).cast(),
                size_of::<u64>(),
            )
        };
        debug_assert_eq!(written, 8, "an eventfd takes a first write");
        self.shared.tell(Event::Closed);
    }
}

static ONE: u64 = 1;

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.close();
        for thread in self.threads.drain(..) {
            // The thread catches its own panics.
            let _ended = thread.join();
        }
    }
}

fn check(config: &TunnelConfig) -> Result<(), Error> {
    check_mtu(config.mtu)?;
    if config.name.is_empty() || config.name.len() > 15 {
        return Err(Error::Config(format!(
            "device name {:?} is not of 1 to 15 bytes",
            config.name
        )));
    }
    if config.bind_v4.is_none() && config.bind_v6.is_none() {
        return Err(Error::Config(
            "no address to bind to: give bind_v4 or bind_v6".into(),
        ));
    }
    Ok(())
}

fn check_mtu(mtu: u16) -> Result<(), Error> {
    if mtu < MIN_MTU {
        return Err(Error::Config(format!("MTU {mtu} is less than {MIN_MTU}")));
    }
    Ok(())
}

fn queue_count(config: &TunnelConfig) -> usize {
    if config.queues > 0 {
        return config.queues;
    }
    // The programs that send and receive need CPUs, too: on two, a second thread gained nothing.
    std::thread::available_parallelism().map_or(1, |cpus| (cpus.get() / 2).clamp(1, MAX_QUEUES))
}

fn device_error(name: &str, source: io::Error) -> Error {
    let hint = match source.raw_os_error() {
        // Where it is missing it cannot be made either: the errno would mislead.
        _ if !std::path::Path::new("/dev/net/tun").exists() => {
            "/dev/net/tun is missing: load the module (modprobe tun), or in a container pass the device \
             (--device=/dev/net/tun)"
        }
        Some(libc::EPERM | libc::EACCES) => "run with CAP_NET_ADMIN",
        Some(libc::EBUSY | libc::EEXIST) => "another process holds a device with this name",
        Some(libc::ENOENT | libc::ENODEV) => "load the tun module (modprobe tun)",
        _ => "see the kernel log",
    };
    Error::Device {
        name: name.into(),
        hint,
        source,
    }
}

/// Opens one queue's sockets.
fn open_sockets(
    config: &TunnelConfig,
    share: bool,
    missing: &mut Vec<(Offload, io::Error)>,
) -> Result<[Option<UdpQueue>; 2], Error> {
    let mut open = |ip: Option<IpAddr>| {
        ip.map(|ip| {
            let address = SocketAddr::new(ip, config.port);
            UdpQueue::open(
                address,
                config.receive_buffer,
                share,
                config.offloads,
                missing,
            )
            .map_err(|source| Error::Socket { address, source })
        })
        .transpose()
    };
    Ok([
        open(config.bind_v4.map(IpAddr::V4))?,
        open(config.bind_v6.map(IpAddr::V6))?,
    ])
}

/// The base address of our first subnet of a family, which is the device's own.
fn base_address(config: &TunnelConfig, v6: bool) -> Option<IpAddr> {
    config
        .local_subnets
        .iter()
        .map(|subnet| subnet.network())
        .find(|address| address.is_ipv6() == v6)
}

fn event_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
