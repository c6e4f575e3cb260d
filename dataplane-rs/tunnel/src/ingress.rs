//! Socket to TUN device: datagrams are checked, joined and written.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;

use crate::admit;
use crate::coalesce::{Coalescer, Joins, MAX_SEGMENTS};
use crate::config::Offload;
use crate::counters::{DropReason, PeerCell, WorkerCounters};
use crate::peers::PeerTable;
use crate::receive::{Message, Receiver};
use crate::socket::UdpQueue;
use crate::tun;
use crate::vnet::Gso;
use crate::worker::{Ending, Io, Shared};

/// Packets written before others have the CPU for a moment. A socket's default receive buffer (212,992 bytes)
/// holds 277 small datagrams, and a batch has up to 2,048: written in one go, most of a flood's were dropped
/// there while the receiver waited for this thread's CPU. In turns of 128, two CPUs brought 200 thousand
/// datagrams of 64 bytes a second to the receiver instead of 98 (medians of six floods each).
const BURST: usize = 128;

/// One worker's receiving half.
pub struct Ingress {
    id: usize,
    receiver: Receiver,
    coalescer: Coalescer,
    /// The last sender and its peer: most batches come from one.
    last: Option<SocketAddr>,
    /// Packets other than joined TCP that were written since the CPU was last given away.
    burst: usize,
}

impl Ingress {
    /// Allocates the buffers.
    pub fn new(id: usize, joins: Joins) -> Self {
        Self {
            id,
            receiver: Receiver::new(),
            coalescer: Coalescer::new(joins),
            last: None,
            burst: 0,
        }
    }

    /// Takes what the sockets have, once; true where there was something.
    ///
    /// # Errors
    /// Why the worker must end.
    pub fn run(&mut self, shared: &Shared, io: &Io, table: &PeerTable) -> Result<bool, Ending> {
        let mut active = false;
        for socket in io.sockets.iter().flatten() {
            active |= self.take(shared, io, socket, table)?;
        }
        Ok(active)
    }

    fn take(
        &mut self,
        shared: &Shared,
        io: &Io,
        socket: &UdpQueue,
        table: &PeerTable,
    ) -> Result<bool, Ending> {
        let counters = &shared.counters[self.id];
        let count = match self.receiver.receive(socket) {
            Ok(count) => count,
            Err(error) => return receive_error(&error, counters),
        };
        counters.socket_receives.add(count as u64);
        let mut known = None;
        for index in 0..count {
            let message = self.receiver.message(index);
            if self.last != message.sender || known.is_none() {
                known = message.sender.and_then(|sender| table.by_sender(sender));
                self.last = message.sender;
            }
            match known {
                Some(peer) => self.admit(shared, io, table, peer, &message)?,
                None => counters.drop(DropReason::UnknownSender, datagrams(&message)),
            }
        }
        self.write_all(shared, io)?;
        Ok(count > 0)
    }

    /// Checks each datagram of a message.
    fn admit(
        &mut self,
        shared: &Shared,
        io: &Io,
        table: &PeerTable,
        peer: u32,
        message: &Message,
    ) -> Result<(), Ending> {
        let counters = &shared.counters[self.id];
        let cell = table.entry(peer).stats.cell(self.id);
        if message.truncated || message.place.is_empty() {
            refuse(counters, cell, DropReason::Truncated);
            return Ok(());
        }
        let (mut packets, mut bytes) = (0, 0);
        let mut start = message.place.start;
        while start < message.place.end {
            let place: Range<usize> = start..(start + message.stride).min(message.place.end);
            start = place.end;
            match admit::inbound(
                &mut self.receiver.arena()[place.clone()],
                message.class,
                peer,
                table,
                &shared.local,
            ) {
                Ok(()) => {
                    packets += 1;
                    bytes += place.len() as u64;
                    if self.coalescer.is_full() {
                        self.write_all(shared, io)?;
                    }
                    self.coalescer.push(self.receiver.arena(), place);
                }
                Err(reason) => refuse(counters, cell, reason),
            }
        }
        counters.received_packets.add(packets);
        counters.received_bytes.add(bytes);
        cell.received_packets.add(packets);
        cell.received_bytes.add(bytes);
        Ok(())
    }

    /// Writes what was collected to the TUN device.
    fn write_all(&mut self, shared: &Shared, io: &Io) -> Result<(), Ending> {
        let counters = &shared.counters[self.id];
        counters.tun_writes.add(self.coalescer.len() as u64);
        for index in 0..self.coalescer.len() {
            let vnet = self.coalescer.finish(index, self.receiver.arena());
            let head = vnet.encode();
            let arena = &*self.receiver.arena();
            let mut parts = [IoSlice::new(&[]); MAX_SEGMENTS + 1];
            parts[0] = IoSlice::new(&head);
            let mut used = 1;
            for place in self.coalescer.places(index) {
                parts[used] = IoSlice::new(&arena[place]);
                used += 1;
            }
            if let Err(error) = io.tun.write(&parts[..used]) {
                self.write_error(shared, &error, vnet.gso, index)?;
            }
            self.pace(vnet.gso, index);
        }
        self.coalescer.clear();
        Ok(())
    }

    /// Lets the programs behind the device take what was written before more comes, where no window holds
    /// the sender back.
    #[inline]
    fn pace(&mut self, gso: Gso, index: usize) {
        if matches!(gso, Gso::TcpV4 | Gso::TcpV6) {
            return;
        }
        self.burst += self.coalescer.packets(index);
        if self.burst >= BURST {
            self.burst = 0;
            std::thread::yield_now();
        }
    }

    fn write_error(
        &mut self,
        shared: &Shared,
        error: &io::Error,
        gso: Gso,
        index: usize,
    ) -> Result<(), Ending> {
        if tun::is_gone(error) {
            return Err(Ending::DeviceGone);
        }
        shared.counters[self.id].drop(
            DropReason::TunWriteError,
            self.coalescer.packets(index) as u64,
        );
        // A kernel that knows no such super-packet says so of each one: write packets one by one from here on.
        if error.raw_os_error() == Some(libc::EINVAL) && gso != Gso::None {
            let mut joins = self.coalescer.joins();
            let offload = if gso == Gso::Udp {
                joins.udp = false;
                Offload::TunUso
            } else {
                joins.tcp = false;
                Offload::TunTso
            };
            self.coalescer.set_joins(joins);
            shared.tell_missing(offload, error);
        }
        Ok(())
    }
}

fn refuse(counters: &WorkerCounters, cell: &PeerCell, reason: DropReason) {
    counters.drop(reason, 1);
    cell.dropped.add(1);
}

/// Datagrams in a message.
fn datagrams(message: &Message) -> u64 {
    message.place.len().div_ceil(message.stride).max(1) as u64
}

fn receive_error(error: &io::Error, counters: &WorkerCounters) -> Result<bool, Ending> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(false),
        Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL) => Err(Ending::Failed(
            format!("receiving from the UDP socket: {error}"),
        )),
        _ => {
            counters.drop(DropReason::SocketError, 1);
            Ok(false)
        }
    }
}
