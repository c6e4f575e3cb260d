//! The C interface of the data plane. The TypeScript side of this table is `dataplane/symbols.ts`.
//!
//! A handle is a number, looked up in a table, so that one that was closed, or never was, gives an
//! error and not a crash. Every call may be made from any thread, several at once. Answers are JSON,
//! `{"ok": …}` or `{"error": "…"}`, as a string whose [`dp_length`] the caller asks for
//! and that it gives back to [`dp_take`], which copies it: the caller follows no pointer, so that it
//! needs no right to. A panic comes back as an error.

mod answer;
mod attachment;
mod carrier;
mod counters;
mod echo;
mod examine;
mod handles;
mod probe;
mod station;
mod wanted;

use std::ffi::{CStr, CString, c_char};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use netlink::{Cidr, FlannelRoutes, ForwardingQuery, capabilities};

use crate::answer::Answer;
use crate::carrier::Carrier;
use crate::handles::{CARRIERS, STATIONS};
use crate::wanted::{Wanted, WantedChange};

/// Version of this interface: raised with each change that an older caller would not understand.
const ABI_VERSION: u32 = 7;

/// The interface's version, to be compared before any other call.
#[unsafe(no_mangle)]
pub extern "C" fn dp_abi_version() -> u32 {
    ABI_VERSION
}

/// Opens the data plane of the calling thread's network namespace: answers with its handle.
#[unsafe(no_mangle)]
pub extern "C" fn dp_open() -> *mut c_char {
    answer::give(|| {
        name_process();
        map_large_blocks();
        host::raise_open_files();
        let carrier = Carrier::open().map_err(|e| format!("cannot open netlink sockets: {e}"))?;
        Answer::ok(&CARRIERS.insert(carrier))
    })
}

/// Gives the process the program's name where it was started from memory, and so is called by the
/// number of a descriptor.
fn name_process() {
    const NAME_FILE: &str = "/proc/self/comm";
    let name = std::fs::read_to_string(NAME_FILE).unwrap_or_default();
    if name.trim().parse::<u32>().is_ok() {
        // Only for the eye of who reads ps: without it the agent works the same.
        let _ = std::fs::write(NAME_FILE, "flanneld");
    }
}

/// Makes the kernel match the `KernelState` in JSON: answers with an `ApplyReport`. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_apply(handle: u32, json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        let carrier = CARRIERS.get(handle)?;
        // SAFETY: the caller's promise.
        let json = unsafe { bytes(json, length) };
        let wanted: Wanted = serde_json::from_slice(json)
            .map_err(|e| format!("the kernel state is not understood: {e}"))?;
        let report = carrier
            .apply(wanted)
            .map_err(|e| format!("netlink failed, try again: {e}"))?;
        if length > LARGE {
            release_memory();
        }
        Answer::ok(&report)
    })
}

/// Changes what was applied last by the `KernelChange` in JSON: answers with an `ApplyReport`, or null
/// where it does not follow on from that, and [`dp_apply`] is to be called. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_change(handle: u32, json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        let carrier = CARRIERS.get(handle)?;
        // SAFETY: the caller's promise.
        let json = unsafe { bytes(json, length) };
        let change: WantedChange = serde_json::from_slice(json)
            .map_err(|e| format!("the change is not understood: {e}"))?;
        let report = carrier.change(change);
        Answer::ok(&report.map_err(|e| format!("netlink failed, try again: {e}"))?)
    })
}

/// Bytes of a state, or of an answer, from which on what it was made of is worth giving back.
const LARGE: usize = 128 << 10;

/// Has glibc map blocks of 32 KiB and more by themselves, in the whole process. The runtime reads
/// from its connections into such blocks, and some of them live until the next garbage collection,
/// minutes later; in the heap they leave holes that never go back to the system.
fn map_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; glibc takes any value, and it holds for blocks to come.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 10);
    }
}

/// Gives what was freed back to the system: glibc would keep what a reconcile of thousands of peers,
/// or compiling the program at its first start, needed in the arena of a thread that may never run
/// again.
fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no arguments that could be wrong; glibc locks what it needs.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Waits for the next `DataPlaneEvent`; null once closed. Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn dp_next_event(handle: u32) -> *mut c_char {
    match catch_unwind(AssertUnwindSafe(|| {
        CARRIERS.get(handle).ok()?.plane.next_event()
    })) {
        Ok(None) => std::ptr::null_mut(),
        Ok(Some(event)) => answer::give(|| Answer::ok(&event)),
        Err(panic) => answer::panicked(panic.as_ref()),
    }
}

/// Answers with all interfaces as an array of `Interface`. Takes less than a millisecond.
#[unsafe(no_mangle)]
pub extern "C" fn dp_interfaces(handle: u32) -> *mut c_char {
    answer::give(|| {
        let interfaces = CARRIERS.get(handle)?.plane.interfaces();
        Answer::ok(&interfaces.map_err(|e| format!("cannot list the interfaces: {e}"))?)
    })
}

/// Answers with the main table's default routes, best first, as an array of `DefaultRoute`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_default_routes(handle: u32) -> *mut c_char {
    answer::give(|| {
        let routes = CARRIERS.get(handle)?.plane.default_routes();
        Answer::ok(&routes.map_err(|e| format!("cannot list the default routes: {e}"))?)
    })
}

/// Answers with an array: for each address of one in JSON its `RouteLookup`, or null where there is
/// no route. Takes some 10 µs each.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_routes_to(handle: u32, json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        let plane = &CARRIERS.get(handle)?.plane;
        // SAFETY: the caller's promise.
        let json = unsafe { bytes(json, length) };
        let ips: Vec<IpAddr> = serde_json::from_slice(json).map_err(|e| {
            let text = String::from_utf8_lossy(json);
            format!("{text} are not IP addresses: {e}")
        })?;
        let routes = plane.routes_to(&ips);
        Answer::ok(&routes.map_err(|e| format!("cannot look up routes: {e}"))?)
    })
}

/// Answers with the main table's `RouteLookup` to exactly a subnet, `ADDRESS/LENGTH`, that goes
/// through a gateway; null where there is none.
///
/// # Safety
/// `subnet` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_gateway_to(
    handle: u32,
    subnet: *const u8,
    length: usize,
) -> *mut c_char {
    answer::give(|| {
        let plane = &CARRIERS.get(handle)?.plane;
        // SAFETY: the caller's promise.
        let text = String::from_utf8_lossy(unsafe { bytes(subnet, length) });
        let route = plane.gateway_to(text.parse::<Cidr>()?);
        Answer::ok(&route.map_err(|e| format!("cannot look up the route to {text}: {e}"))?)
    })
}

/// Answers with the `TunnelCounters`; null where no tunnel runs. Takes less than a millisecond.
#[unsafe(no_mangle)]
pub extern "C" fn dp_counters(handle: u32) -> *mut c_char {
    answer::give(|| Answer::ok(&CARRIERS.get(handle)?.counters()))
}

/// Takes over the routes that a flannel left, by a `FlannelRoutes` in JSON: answers with an array of
/// them as texts. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_adopt(handle: u32, json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        let carrier = CARRIERS.get(handle)?;
        // SAFETY: the caller's promise.
        let json = unsafe { bytes(json, length) };
        let flannels: FlannelRoutes = serde_json::from_slice(json)
            .map_err(|e| format!("flannel's routes are not understood: {e}"))?;
        let adopted = carrier.plane.adopt(&flannels);
        Answer::ok(&adopted.map_err(|e| format!("netlink failed: {e}"))?)
    })
}

/// Answers with the names of the capabilities that the agent needs and does not have here. Takes
/// less than a millisecond.
#[unsafe(no_mangle)]
pub extern "C" fn dp_missing_capabilities() -> *mut c_char {
    answer::give(|| {
        let missing = capabilities::missing();
        Answer::ok(&missing.map_err(|e| format!("cannot find out the capabilities: {e}"))?)
    })
}

/// Finds out whether interfaces forward packets, and switches it on, by a `ForwardingQuery` in JSON:
/// answers with a `Forwarding`. Takes less than a millisecond.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_forwarding(json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        // SAFETY: the caller's promise.
        let json = unsafe { bytes(json, length) };
        let query: ForwardingQuery = serde_json::from_slice(json)
            .map_err(|e| format!("the interfaces are not understood: {e}"))?;
        Answer::ok(&netlink::forwarding(&query))
    })
}

/// Watches the packet filter: the event `packetFilter` says that its rules may have changed, at most
/// once in `millis` milliseconds. Answers with null.
#[unsafe(no_mangle)]
pub extern "C" fn dp_watch_filter(handle: u32, millis: u32) -> *mut c_char {
    answer::give(|| {
        let every = Duration::from_millis(u64::from(millis));
        let started = CARRIERS.get(handle)?.plane.watch_filter(every);
        Answer::ok(&started.map_err(|e| format!("cannot watch the packet filter: {e}"))?)
    })
}

/// Gives memory that the process has freed back to the system. Takes some milliseconds at most.
#[unsafe(no_mangle)]
pub extern "C" fn dp_release_memory() {
    release_memory();
}

/// Compares the `KernelState` in JSON with the kernel and changes nothing: answers with an array of
/// `EntryError` for what is missing or differs. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_inspect(json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        // SAFETY: the caller's promise.
        let json = unsafe { bytes(json, length) };
        let wanted: Wanted = serde_json::from_slice(json)
            .map_err(|e| format!("the kernel state is not understood: {e}"))?;
        let found = netlink::inspect(wanted.kernel(true));
        Answer::ok(&found.map_err(|e| format!("netlink failed: {e}"))?)
    })
}

/// Answers a question about the host, a `HostQuery` in JSON, and changes nothing. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_host(json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        // SAFETY: the caller's promise.
        examine::carry_out(unsafe { bytes(json, length) })
    })
}

/// Removes the agent's devices and routes: answers with a `CleanupReport`. Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn dp_cleanup(handle: u32) -> *mut c_char {
    answer::give(|| {
        let report = CARRIERS.get(handle)?.cleanup();
        Answer::ok(&report.map_err(|e| format!("netlink failed, try again: {e}"))?)
    })
}

/// Makes, checks or removes a container's attachment to a bridge, by an `AttachmentCall` in JSON:
/// answers with `Attached`, the problems found, or whether it was there. Needs no handle. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_attachment(json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        // SAFETY: the caller's promise.
        attachment::carry_out(unsafe { bytes(json, length) })
    })
}

/// Stops the monitor and the tunnel and wakes [`dp_next_event`]; the kernel's state stays. Calls in progress end
/// as if it were open.
#[unsafe(no_mangle)]
pub extern "C" fn dp_close(handle: u32) {
    // A panic here has nobody to be told to.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Some(carrier) = CARRIERS.remove(handle) {
            carrier.close();
        }
    }));
}

/// Takes the lock of this network namespace in the first of the folders of a JSON array that this
/// process may use: answers with a handle, its path and whether the folder was open to others; or
/// with the process that has it.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_hold(json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        // SAFETY: the caller's promise.
        station::hold(unsafe { bytes(json, length) })
    })
}

/// Answers `flanneld peers`, and HTTP by options in JSON or null, until [`dp_release`]: answers with
/// why it cannot.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_serve(station: u32, json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        let station = STATIONS.get(station)?;
        // SAFETY: the caller's promise.
        station.serve(unsafe { bytes(json, length) })
    })
}

/// Waits for the next topic that is to be answered by [`dp_answer`]: answers with its name; null
/// once released. Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn dp_next_question(station: u32) -> *mut c_char {
    match catch_unwind(AssertUnwindSafe(|| {
        STATIONS.get(station).ok()?.next_question()
    })) {
        Ok(None) => std::ptr::null_mut(),
        Ok(Some(topic)) => answer::give(|| Answer::ok(&topic.name())),
        Err(panic) => answer::panicked(panic.as_ref()),
    }
}

/// Adds `length` bytes to the answer on a topic, by its number; `last` other than 0 ends it.
///
/// # Safety
/// `part` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_answer(
    station: u32,
    topic: u32,
    status: u32,
    part: *const u8,
    length: usize,
    last: u8,
) {
    // A panic here has nobody to be told to.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Ok(station) = STATIONS.get(station) {
            // SAFETY: the caller's promise.
            station.answer(topic, status, unsafe { bytes(part, length) }, last != 0);
        }
    }));
}

/// Stops to serve and gives the lock back.
#[unsafe(no_mangle)]
pub extern "C" fn dp_release(station: u32) {
    // As above.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Some(station) = STATIONS.remove(station) {
            station.release();
        }
    }));
}

/// Asks the agent of this network namespace for its peers, where it may hold the lock by a JSON array
/// of folders: answers with what it sent, unchecked, or null where none runs. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_ask(json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        // SAFETY: the caller's promise.
        station::ask(unsafe { bytes(json, length) })
    })
}

/// Tells the service manager a state, by its socket and the state in JSON. Blocks.
///
/// # Safety
/// `json` points to `length` bytes that stay as they are until the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_notify(json: *const u8, length: usize) -> *mut c_char {
    answer::give(|| {
        // SAFETY: the caller's promise.
        station::notify(unsafe { bytes(json, length) })
    })
}

/// Bytes of an answer; 0 for null.
///
/// # Safety
/// `answer` is null or was given by a function of this table and not taken before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_length(answer: *const c_char) -> usize {
    if answer.is_null() {
        return 0;
    }
    // SAFETY: the caller's promise; answers are made by `CString::into_raw`.
    unsafe { CStr::from_ptr(answer) }.count_bytes()
}

/// Copies the first `length` bytes of an answer and frees it. Null is nothing to free.
///
/// # Safety
/// `answer` as for [`dp_length`], at most whose bytes `length` is; `copy` has room for them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dp_take(answer: *mut c_char, copy: *mut u8, length: usize) {
    if answer.is_null() {
        return;
    }
    if !copy.is_null() {
        // SAFETY: the caller's promise; the two do not overlap, as `copy` is the caller's memory.
        unsafe { std::ptr::copy_nonoverlapping(answer.cast::<u8>(), copy, length) };
    }
    // SAFETY: the caller's promise; answers are made by `CString::into_raw`.
    drop(unsafe { CString::from_raw(answer) });
    if length > LARGE {
        release_memory();
    }
}

/// # Safety
/// `start` points to `length` bytes that stay as they are for as long as the slice is used.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if start.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start, length) }
}
