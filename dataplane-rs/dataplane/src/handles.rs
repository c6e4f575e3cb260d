//! Handles: numbers for what is open.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::carrier::Carrier;
use crate::station::Station;

/// What is open of one kind.
pub struct Handles<T> {
    what: &'static str,
    table: LazyLock<Mutex<Table<T>>>,
}

struct Table<T> {
    last: u32,
    open: HashMap<u32, Arc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            last: 0,
            open: HashMap::new(),
        }
    }
}

/// Data planes.
pub static CARRIERS: Handles<Carrier> = Handles::new("the data plane");
/// Agents on their host.
pub static STATIONS: Handles<Station> = Handles::new("the station");

impl<T> Handles<T> {
    const fn new(what: &'static str) -> Self {
        Self {
            what,
            table: LazyLock::new(Mutex::default),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle that was not given before.
    pub fn insert(&self, value: T) -> u32 {
        let mut table = self.table();
        table.last += 1;
        let handle = table.last;
        table.open.insert(handle, Arc::new(value));
        handle
    }

    /// What `handle` stands for.
    pub fn get(&self, handle: u32) -> Result<Arc<T>, String> {
        let found = self.table().open.get(&handle).cloned();
        found.ok_or_else(|| format!("{} is closed", self.what))
    }

    /// Takes a handle out of use.
    pub fn remove(&self, handle: u32) -> Option<Arc<T>> {
        self.table().open.remove(&handle)
    }
}
