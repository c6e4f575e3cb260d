//! The data plane of one network namespace: the last desired state, what makes it so, and the
//! monitor that keeps it so.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::adopt::{self, FlannelRoutes};
use crate::change::Change;
use crate::default_routes;
use crate::desired::Desired;
use crate::filter_watch;
use crate::monitor;
use crate::query;
use crate::reconcile;
use crate::report::{ApplyReport, CleanupReport, DefaultRoute, Event, Interface, RouteLookup};
use crate::shared::{Shared, lock};
use crate::socket::RtSocket;
use crate::state::KernelState;
use crate::values::Cidr;
use crate::waker::Waker;

/// See the module.
pub struct Plane {
    shared: Arc<Shared>,
    monitor: Mutex<Option<Thread>>,
    filter_watch: Mutex<Option<Thread>>,
}

/// A thread of the plane's, which ends with this value.
struct Thread {
    waker: Waker,
    handle: Option<JoinHandle<()>>,
}

impl From<(Waker, JoinHandle<()>)> for Thread {
    fn from((waker, handle): (Waker, JoinHandle<()>)) -> Self {
        Self {
            waker,
            handle: Some(handle),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.waker.wake();
        if let Some(handle) = self.handle.take() {
            // It catches nothing that is worth more than its end.
            let _ = handle.join();
        }
    }
}

impl Plane {
    /// Opens the sockets and starts the monitor, in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let socket = RtSocket::open()?;
        let port = socket.port();
        let shared = Arc::new(Shared::new(socket));
        let monitor = monitor::start(Arc::clone(&shared), port)?;
        Ok(Self {
            shared,
            monitor: Mutex::new(Some(monitor.into())),
            filter_watch: Mutex::default(),
        })
    }

    /// Makes the kernel match `state`, and from now on keeps it so.
    pub fn apply(&self, state: KernelState) -> io::Result<ApplyReport> {
        *lock(&self.shared.desired) = Some(Arc::new(Desired::new(state)));
        // Another thread may take the state back meanwhile.
        let done = self.shared.reconcile()?;
        Ok(done.map(|(report, _)| report).unwrap_or_default())
    }

    /// Changes the state that was applied last, and the kernel with it. None where there is no such
    /// state, it has refused entries, or the change does not follow on from it: nothing was done then,
    /// and [`Self::apply`] is to be called.
    pub fn change(&self, change: &Change) -> io::Result<Option<ApplyReport>> {
        self.shared.change(change)
    }

    /// Gives routes that a flannel left the agent's protocol number; answers with those.
    pub fn adopt(&self, flannels: &FlannelRoutes) -> io::Result<Vec<String>> {
        adopt::adopt(&mut lock(&self.shared.socket), flannels)
    }

    /// Removes the agent's devices and its routes, and heals no more until the next `apply`.
    pub fn cleanup(&self) -> io::Result<CleanupReport> {
        *lock(&self.shared.desired) = None;
        reconcile::cleanup(&mut lock(&self.shared.socket))
    }

    /// Waits for the next event; none once closed.
    pub fn next_event(&self) -> Option<Event> {
        self.shared.events.next()
    }

    /// Gives an event of another part of the data plane to who waits in [`Self::next_event`].
    pub fn tell(&self, event: Event) {
        self.shared.events.push(event);
    }

    /// Has [`Event::PacketFilter`] say when rules of the packet filter may have changed, at most once
    /// in `every`.
    pub fn watch_filter(&self, every: Duration) -> io::Result<()> {
        let mut watch = lock(&self.filter_watch);
        *watch = None;
        *watch = Some(filter_watch::start(Arc::clone(&self.shared), every)?.into());
        Ok(())
    }

    /// All interfaces.
    pub fn interfaces(&self) -> io::Result<Vec<Interface>> {
        query::interfaces()
    }

    /// The main table's default routes, best first.
    pub fn default_routes(&self) -> io::Result<Vec<DefaultRoute>> {
        default_routes::default_routes()
    }

    /// Which way packets to each address go; none where there is no route.
    pub fn routes_to(&self, ips: &[IpAddr]) -> io::Result<Vec<Option<RouteLookup>>> {
        query::routes_to(ips)
    }

    /// The route to exactly this subnet that goes through a gateway.
    pub fn gateway_to(&self, subnet: Cidr) -> io::Result<Option<RouteLookup>> {
        query::gateway_to(subnet)
    }

    /// Stops the threads and wakes who waits for an event; what is in the kernel stays.
    pub fn close(&self) {
        self.shared.events.close();
        *lock(&self.filter_watch) = None;
        *lock(&self.monitor) = None;
    }
}
