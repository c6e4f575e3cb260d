//! The TUN device: made and configured by `tun-rs`, one descriptor a queue, each packet with its offload header.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};

use tun_rs::{DeviceBuilder, SyncDevice};

use crate::config::{Offload, Offloads};

/// Packets that a queue of the device holds before the kernel drops.
const TX_QUEUE_LEN: u32 = 1000;

/// One queue of the device.
pub struct Queue {
    device: SyncDevice,
}

impl Queue {
    /// Reads the next packet, its offload header before it. Does not wait.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buffer)
    }

    /// Writes one packet, its offload header before it.
    #[inline]
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.device.send_vectored(parts)
    }

    /// Sets the device's MTU.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        self.device.set_mtu(mtu)
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}

/// An opened device.
pub struct Opened {
    /// Its name, with the pattern filled in.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// One a thread.
    pub queues: Vec<Queue>,
    /// Offloads that were asked for and are missing, with what the kernel said.
    pub missing: Vec<(Offload, io::Error)>,
}

/// Makes the device, sets its MTU and brings it up.
///
/// # Errors
/// What the kernel said: EPERM without CAP_NET_ADMIN, EBUSY for a device in use, ENOENT without
/// /dev/net/tun.
pub fn open(name: &str, mtu: u16, queues: usize, offloads: Offloads) -> io::Result<Opened> {
    let first = DeviceBuilder::new()
        .name(name)
        .mtu(mtu)
        .enable(true)
        .with(|options| {
            options
                .offload(true)
                .multi_queue(true)
                .tx_queue_len(TX_QUEUE_LEN);
        })
        .build_sync()?;
    let name = first.name()?;
    let index = first.if_index()?;
    let mut devices = Vec::with_capacity(queues);
    for _ in 1..queues {
        devices.push(first.try_clone()?);
    }
    // Last, since each descriptor that tun-rs opens sets the device's offloads to all there are.
    let missing = set_offloads(&first, offloads);
    devices.insert(0, first);
    for device in &devices {
        device.set_nonblocking(true)?;
    }
    let queues = devices.into_iter().map(|device| Queue { device }).collect();
    Ok(Opened {
        name,
        index,
        queues,
        missing,
    })
}

/// Tells the kernel what it may leave undone, and gives what it cannot.
fn set_offloads(device: &SyncDevice, offloads: Offloads) -> Vec<(Offload, io::Error)> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let set = |flags: libc::c_uint| {
        // SAFETY: TUNSETOFFLOAD takes its flags by value; the descriptor is open as long as `device` is.
        let done = unsafe {
            libc::ioctl(
                device.as_raw_fd(),
                libc::TUNSETOFFLOAD as _,
                libc::c_ulong::from(flags),
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    let mut missing = Vec::new();
    let mut wanted = 0;
    if offloads.tun_tso {
        wanted = tcp;
        if offloads.tun_uso {
            match set(tcp | udp) {
                Ok(()) => return missing,
                Err(error) => missing.push((Offload::TunUso, error)),
            }
        }
    }
    if let Err(error) = set(wanted)
        && wanted != 0
    {
        missing.push((Offload::TunTso, error));
    }
    missing
}

/// The device is no more, in contrast to being down for a while (EIO).
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADFD | libc::ENODEV | libc::ENXIO)
    )
}
