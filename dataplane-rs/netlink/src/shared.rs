//! What the monitor and the callers of the data plane share: the last desired state, and the socket
//! that makes it so.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::change::Change;
use crate::desired::Desired;
use crate::events::Events;
use crate::plan::Devices;
use crate::reconcile;
use crate::report::{ApplyReport, EntryError};
use crate::socket::RtSocket;

/// What the monitor and the callers share.
pub struct Shared {
    pub socket: Mutex<RtSocket>,
    pub desired: Mutex<Option<Arc<Desired>>>,
    /// The devices as the last reconcile left them.
    devices: Mutex<Devices>,
    errors: Mutex<Vec<EntryError>>,
    pub events: Events,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Before anything is desired.
    pub fn new(socket: RtSocket) -> Self {
        Self {
            socket: Mutex::new(socket),
            desired: Mutex::default(),
            devices: Mutex::default(),
            errors: Mutex::default(),
            events: Events::default(),
        }
    }

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

    /// Changes the state that was applied last, and the kernel with it; none where that takes a whole
    /// apply.
    pub fn change(&self, change: &Change) -> io::Result<Option<ApplyReport>> {
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
