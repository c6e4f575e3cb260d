//! Handles: numbers for what is open.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use netlink::Plane;

#[derive(Default)]
struct Table {
    last: u32,
    planes: HashMap<u32, Arc<Plane>>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle that was not given before.
pub fn insert(plane: Plane) -> u32 {
    let mut table = table();
    table.last += 1;
    let handle = table.last;
    table.planes.insert(handle, Arc::new(plane));
    handle
}

/// What `handle` stands for.
pub fn get(handle: u32) -> Result<Arc<Plane>, String> {
    let plane = table().planes.get(&handle).cloned();
    plane.ok_or_else(|| "the data plane is closed".to_string())
}

/// Takes a handle out of use.
pub fn remove(handle: u32) -> Option<Arc<Plane>> {
    table().planes.remove(&handle)
}
