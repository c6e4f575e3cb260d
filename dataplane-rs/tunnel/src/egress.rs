//! TUN device to socket: packets are routed, cut and sent.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::admit::{self, Refusal};
use crate::config::{Event, Offload};
use crate::counters::{DropReason, WorkerCounters};
use crate::ecn;
use crate::gather::{Gather, READ_LEN};
use crate::icmp;
use crate::peers::PeerTable;
use crate::send::{Outcome, Way};
use crate::tun;
use crate::vnet::{VNET_HDR_LEN, VnetHdr};
use crate::worker::{Ending, Io, Shared, family};

/// Bytes of packets gathered before they are sent; some four super-packets, which the second-level cache
/// holds until the kernel copies them.
const PACKETS_LEN: usize = 5 * READ_LEN;
/// Bytes of headers made for segments.
const HEADERS_LEN: usize = 64 * 1024;
/// Packets read before the other direction has its turn.
const READS: usize = 64;

/// One worker's sending half.
pub struct Egress {
    id: usize,
    gather: Gather,
    gso: [bool; 2],
    icmp: icmp::Sender,
    icmp_packet: Box<[u8; icmp::MAX_LEN]>,
}

impl Egress {
    /// Allocates the buffers and opens the raw sockets.
    pub fn new(id: usize, shared: &Shared, io: &Io) -> Self {
        let (icmp, refused) = icmp::Sender::open();
        if let Some(error) = refused.filter(|_| id == 0) {
            shared.tell(Event::NoIcmp(error.to_string()));
        }
        let gso = |index: usize| io.sockets[index].as_ref().is_some_and(|socket| socket.gso);
        Self {
            id,
            gather: Gather::new(PACKETS_LEN, HEADERS_LEN),
            gso: [gso(0), gso(1)],
            icmp,
            icmp_packet: Box::new([0; icmp::MAX_LEN]),
        }
    }

    /// Takes what the device has, up to a batch; true where there was something.
    ///
    /// # Errors
    /// Why the worker must end.
    pub fn run(&mut self, shared: &Shared, io: &Io, table: &PeerTable) -> Result<bool, Ending> {
        let mut reads = 0;
        while reads < READS
            && let Some(room) = self.gather.room()
        {
            match io.tun.read(room) {
                Ok(len) => {
                    reads += 1;
                    let place = self.gather.keep(len);
                    self.take(shared, io, table, place);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A read says EIO while the device is being deleted.
                Err(error) if tun::is_gone(&error) || error.raw_os_error() == Some(libc::EIO) => {
                    return Err(Ending::DeviceGone);
                }
                Err(error) => {
                    return Err(Ending::Failed(format!(
                        "reading from the TUN device: {error}"
                    )));
                }
            }
        }
        shared.counters[self.id].tun_reads.add(reads as u64);
        self.flush(shared, io, table);
        self.gather.forget_packets();
        Ok(reads > 0)
    }

    fn take(&mut self, shared: &Shared, io: &Io, table: &PeerTable, place: Range<usize>) {
        if let Err(refusal) = self.route(shared, io, table, place.clone()) {
            self.refuse(shared, &refusal, place.start + VNET_HDR_LEN..place.end);
        }
    }

    fn route(
        &mut self,
        shared: &Shared,
        io: &Io,
        table: &PeerTable,
        place: Range<usize>,
    ) -> Result<(), Refusal> {
        let (head, packet) = self
            .gather
            .bytes(place.clone())
            .split_first_chunk_mut()
            .ok_or(DropReason::Truncated)?;
        let vnet = VnetHdr::decode(head).ok_or(DropReason::BadOffload)?;
        let mtu = shared.mtu.load(Ordering::Relaxed);
        let peer = admit::outbound(packet, &vnet, table, &shared.local, mtu)?;
        let class = ecn::class(packet);
        let family = family(&table.entry(peer).endpoint);
        let place = place.start + VNET_HDR_LEN..place.end;
        let mut from = 0;
        loop {
            let way = Way {
                peer,
                v6: family == 1,
                class,
                gso: self.gso[family],
            };
            match self.gather.add(way, &vnet, place.clone(), from)? {
                None => return Ok(()),
                Some(rest) => from = rest,
            }
            self.flush(shared, io, table);
        }
    }

    /// Sends what was gathered.
    fn flush(&mut self, shared: &Shared, io: &Io, table: &PeerTable) {
        if self.gather.is_empty() {
            return;
        }
        let (id, gso) = (self.id, &mut self.gso);
        let counters = &shared.counters[id];
        let sockets = [io.sockets[0].as_ref(), io.sockets[1].as_ref()];
        self.gather.flush(table, sockets, |outcome| {
            if let Some(error) = &outcome.error {
                counters.drop(drop_reason(error), outcome.datagrams as u64);
                // The device on the path has no checksum offload, which segmentation needs.
                if error.raw_os_error() == Some(libc::EIO) && outcome.datagrams == 0 {
                    *gso = [false; 2];
                    shared.tell_missing(Offload::UdpGso, error);
                }
                return;
            }
            count(counters, table, id, &outcome);
        });
    }

    fn refuse(&mut self, shared: &Shared, refusal: &Refusal, place: Range<usize>) {
        let counters = &shared.counters[self.id];
        counters.drop(refusal.reason, 1);
        let Some((error, header)) = refusal.icmp else {
            return;
        };
        let to = header.addresses.source();
        let Some(from) = shared.icmp_sources[usize::from(to.is_ipv6())] else {
            return;
        };
        let packet = self.gather.bytes(place);
        if let Some(len) = icmp::build(error, from, packet, &header, &mut self.icmp_packet)
            && self.icmp.admit()
            && self.icmp.send(&self.icmp_packet[..len], to)
        {
            counters.icmp_sent.add(1);
        }
    }
}

fn count(counters: &WorkerCounters, table: &PeerTable, id: usize, outcome: &Outcome) {
    let cell = table.entry(outcome.peer).stats.cell(id);
    let (packets, bytes) = (outcome.datagrams as u64, outcome.bytes as u64);
    counters.socket_sends.add(1);
    counters.sent_packets.add(packets);
    counters.sent_bytes.add(bytes);
    cell.sent_packets.add(packets);
    cell.sent_bytes.add(bytes);
}

fn drop_reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => DropReason::WouldBlock,
        Some(libc::EMSGSIZE) => DropReason::TooBig,
        Some(libc::EAFNOSUPPORT) => DropReason::NoSocket,
        _ => DropReason::SocketError,
    }
}
