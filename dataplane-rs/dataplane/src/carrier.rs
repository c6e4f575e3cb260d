//! The data plane behind a handle: the reconciler, and the tunnel where one is wanted.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use netlink::{ApplyReport, CleanupReport, EntryError, Event, Plane};
use tunnel::{Event as TunnelEvent, Tunnel};

use crate::counters::Counters;
use crate::wanted::{Wanted, WantedChange, WantedTunnel};

/// How long the watcher sleeps at most; it is woken by each event and by the end.
const LONG: Duration = Duration::from_secs(3600);

/// A tunnel that was started.
struct Running {
    wanted: WantedTunnel,
    tunnel: Arc<Tunnel>,
    /// Set by its watcher: it carries nothing any more.
    failed: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The watcher drops the last reference, and with it the device.
        self.tunnel.close();
    }
}

/// What went wrong with a tunnel, with the holder of its port where that is taken.
fn explained(error: &tunnel::Error) -> String {
    match error {
        tunnel::Error::Socket { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
            netlink::udp_port_in_use(address.port())
        }
        _ => error.to_string(),
    }
}

/// See the module.
pub struct Carrier {
    pub plane: Arc<Plane>,
    running: Mutex<Option<Running>>,
}

impl Carrier {
    /// Opens the data plane in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            plane: Arc::new(Plane::open()?),
            running: Mutex::default(),
        })
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts, changes or ends the tunnel, then makes the kernel match.
    pub fn apply(&self, wanted: Wanted) -> io::Result<ApplyReport> {
        // Held to the end: the next call must find the device of this one.
        let mut running = self.running();
        let refused = self.ensure(&mut running, wanted.tunnel.as_ref()).err();
        let mut report = self.plane.apply(wanted.kernel(running.is_some()))?;
        report.errors.extend(refused);
        Ok(report)
    }

    /// Changes peers of what was applied last, see [`Plane::change`]. None where it cannot be done
    /// like this: [`Self::apply`] is to be called then, whatever of it was done.
    pub fn change(&self, change: WantedChange) -> io::Result<Option<ApplyReport>> {
        let mut running = self.running();
        if change.has_peers() {
            let carries = |now: &&mut Running| !now.failed.load(Ordering::Acquire);
            let Some(now) = running.as_mut().filter(carries) else {
                return Ok(None);
            };
            let Some(wanted) = now.wanted.changed(&change) else {
                return Ok(None);
            };
            now.tunnel.set_peers(&wanted.peers());
            now.wanted = wanted;
        }
        self.plane.change(&change.kernel())
    }

    fn ensure(
        &self,
        running: &mut Option<Running>,
        wanted: Option<&WantedTunnel>,
    ) -> Result<(), EntryError> {
        let goes_on = running.as_ref().is_some_and(|now| {
            !now.failed.load(Ordering::Acquire) && wanted.is_some_and(|next| next.fits(&now.wanted))
        });
        if !goes_on && let Some(old) = running.take() {
            wait_for_end(old);
        }
        let Some(wanted) = wanted else {
            return Ok(());
        };
        let entry = |error: tunnel::Error| EntryError {
            entry: format!("tunnel {}", wanted.name),
            errno: 0,
            message: explained(&error),
        };
        match running {
            None => {
                let now = self.start(wanted).map_err(entry)?;
                now.tunnel.set_peers(&wanted.peers());
                *running = Some(now);
            }
            Some(now) if now.wanted != *wanted => {
                if now.wanted.mtu != wanted.mtu {
                    now.tunnel.set_mtu(wanted.mtu).map_err(entry)?;
                }
                now.tunnel.set_peers(&wanted.peers());
                now.wanted = wanted.clone();
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn start(&self, wanted: &WantedTunnel) -> Result<Running, tunnel::Error> {
        let tunnel = Arc::new(Tunnel::start(&wanted.config())?);
        let failed = Arc::new(AtomicBool::new(false));
        let watcher = Watcher {
            plane: Arc::clone(&self.plane),
            tunnel: Arc::clone(&tunnel),
            failed: Arc::clone(&failed),
            name: wanted.name.to_string(),
        };
        thread::Builder::new()
            .name("tunnel-watcher".into())
            .stack_size(128 << 10)
            .spawn(move || watcher.run())
            .map_err(tunnel::Error::Thread)?;
        Ok(Running {
            wanted: wanted.clone(),
            tunnel,
            failed,
        })
    }

    /// The tunnel's counters; none without one.
    pub fn counters(&self) -> Option<Counters> {
        self.running()
            .as_ref()
            .map(|now| now.tunnel.counters().into())
    }

    /// Ends the tunnel and removes what is the agent's.
    pub fn cleanup(&self) -> io::Result<CleanupReport> {
        if let Some(old) = self.running().take() {
            wait_for_end(old);
        }
        self.plane.cleanup()
    }

    /// Stops the monitor and the tunnel, and returns when their threads have ended, so that the
    /// library may be unloaded; what is in the kernel stays.
    pub fn close(&self) {
        // First, or it would miss the tunnel's device and report it.
        self.plane.close();
        if let Some(old) = self.running().take() {
            wait_for_end(old);
        }
    }
}

/// Ends a tunnel and waits until its device and its port are free for the next.
fn wait_for_end(old: Running) {
    let tunnel = Arc::clone(&old.tunnel);
    drop(old);
    // The watcher needs no more than to take the last event.
    while Arc::strong_count(&tunnel) > 1 {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Hands a tunnel's events on, until its end.
struct Watcher {
    plane: Arc<Plane>,
    tunnel: Arc<Tunnel>,
    failed: Arc<AtomicBool>,
    name: String,
}

impl Watcher {
    fn run(self) {
        loop {
            let (message, failed) = match self.tunnel.next_event(LONG) {
                None => continue,
                Some(TunnelEvent::Closed) => return,
                Some(TunnelEvent::DeviceGone) => ("its device was deleted".to_string(), true),
                Some(TunnelEvent::Failed(reason)) => (reason, true),
                Some(TunnelEvent::NoIcmp(reason)) => (
                    format!("cannot send ICMP errors without CAP_NET_RAW: {reason}"),
                    false,
                ),
                Some(TunnelEvent::OffloadOff { offload, reason }) => {
                    (format!("runs without {}: {reason}", offload.label()), false)
                }
            };
            if failed {
                self.failed.store(true, Ordering::Release);
            }
            let message = format!("{}: {message}", self.name);
            self.plane.tell(Event::Tunnel { message, failed });
        }
    }
}
