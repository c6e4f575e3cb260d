//! Handles: numbers for what is open.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::carrier::Carrier;

#[derive(Default)]
struct Table {
    last: u32,
    open: HashMap<u32, Arc<Carrier>>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle that was not given before.
pub fn insert(carrier: Carrier) -> u32 {
    let mut table = table();
    table.last += 1;
    let handle = table.last;
    table.open.insert(handle, Arc::new(carrier));
    handle
}

/// What `handle` stands for.
pub fn get(handle: u32) -> Result<Arc<Carrier>, String> {
    let carrier = table().open.get(&handle).cloned();
    carrier.ok_or_else(|| "the data plane is closed".to_string())
}

/// Takes a handle out of use.
pub fn remove(handle: u32) -> Option<Arc<Carrier>> {
    table().open.remove(&handle)
}
