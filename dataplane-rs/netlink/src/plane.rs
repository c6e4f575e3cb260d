//! The data plane of one network namespace: the last desired state, what makes it so, and the
//! monitor that keeps it so.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::adopt::{self, FlannelRoutes};
use crate::change::Change;
use crate::default_routes;
use crate::desired::Desired;
use crate::events::Events;
use crate::monitor::{self, Waker};
use crate::plan::Devices;
use crate::query;
use crate::reconcile;
use crate::report::{
    ApplyReport, CleanupReport, DefaultRoute, EntryError, Event, Interface, RouteLookup,
};
use crate::socket::RtSocket;
use crate::state::KernelState;
use crate::values::Cidr;

/// What the monitor and the callers share.
pub struct Shared {
    socket: Mutex<RtSocket>,
    desired: Mutex<Option<Arc<Desired>>>,
    /// The devices as the last reconcile left them.
    devices: Mutex<Devices>,
    errors: Mutex<Vec<EntryError>>,
    pub events: Events,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The last state applied; none before the first and after a cleanup.
    pub fn desired(&self) -> Option<Arc<Desired>> {
        lock(&self.desired).clone()
    }

    /// Reconciles the last state applied, and tells whether the errors are others than last time.
    pub fn reconcile(&self) -> io::Result<Option<(ApplyReport, bool)>> {
        self.reconcile_by(&mut lock(&self.socket))
    }

    fn reconcile_by(&self, socket: &mut RtSocket) -> io::Result<Option<(ApplyReport, bool)>> {
        let Some(desired) = self.desired() else {
            return Ok(None);
        };
        let (report, devices) = reconcile::reconcile(socket, &desired)?;
        *lock(&self.devices) = devices;
        let mut errors = lock(&self.errors);
        let news = *errors != report.errors;
        errors.clone_from(&report.errors);
        Ok(Some((report, news)))
    }

    /// See [`Plane::change`].
    fn change(&self, change: &Change) -> io::Result<Option<ApplyReport>> {
        // Held to the end: the monitor heals by the state before or by the one after.
        let mut socket = lock(&self.socket);
        if !lock(&self.errors).is_empty() {
            return Ok(None);
        }
        let desired = {
            let mut place = lock(&self.desired);
            let Some(desired) = place.as_mut() else {
                return Ok(None);
            };
            if !Arc::make_mut(desired).take(change) {
                return Ok(None);
            }
            Arc::clone(desired)
        };
        let devices = lock(&self.devices).clone();
        let done = reconcile::reconcile_change(&mut socket, &desired, change, &devices)?;
        if done.is_some() {
            return Ok(done);
        }
        Ok(self.reconcile_by(&mut socket)?.map(|(report, _)| report))
    }
}

/// See the module.
pub struct Plane {
    shared: Arc<Shared>,
    waker: Waker,
    monitor: Mutex<Option<JoinHandle<()>>>,
}

impl Plane {
    /// Opens the sockets and starts the monitor, in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let socket = RtSocket::open()?;
        let port = socket.port();
        let shared = Arc::new(Shared {
            socket: Mutex::new(socket),
            desired: Mutex::default(),
            devices: Mutex::default(),
            errors: Mutex::default(),
            events: Events::default(),
        });
        let (waker, monitor) = monitor::start(Arc::clone(&shared), port)?;
        Ok(Self {
            shared,
            waker,
            monitor: Mutex::new(Some(monitor)),
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

    /// Stops the monitor and wakes who waits for an event; what is in the kernel stays.
    pub fn close(&self) {
        self.shared.events.close();
        self.waker.wake();
        if let Some(monitor) = lock(&self.monitor).take() {
            // It catches nothing that is worth more than its end.
            let _ = monitor.join();
        }
    }
}
