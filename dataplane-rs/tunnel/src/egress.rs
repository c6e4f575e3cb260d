//! TUN device to socket: packets are routed, cut and sent.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::admit::{self, Refusal};
use crate::config::{Event, Offload};
use crate::counters::{DropReason, WorkerCounters};
use crate::ecn;
use crate::icmp;
use crate::peers::PeerTable;
use crate::segment::{MAX_HEADERS, Segmenter, complete_checksum};
use crate::send::{Outcome, Sender, Way};
use crate::tun;
use crate::vnet::{Gso, VNET_HDR_LEN, VnetHdr};
use crate::worker::{Ending, Io, Shared, family};

/// Bytes of one read at most: a super-packet and its offload header, aligned.
const READ_LEN: usize = 65_536 + 128;
/// Bytes of packets gathered before they are sent; some four super-packets, which the second-level cache
/// holds until the kernel copies them.
const PACKETS_LEN: usize = 5 * READ_LEN;
/// Bytes of headers made for segments.
const HEADERS_LEN: usize = 64 * 1024;
/// Packets read before the other direction has its turn.
const READS: usize = 64;
/// Packets begin at multiples of this.
const ALIGN: usize = 64;

/// One worker's sending half.
pub struct Egress {
    id: usize,
    /// Packets as read, then headers made for segments.
    arena: Box<[u8]>,
    packets_end: usize,
    headers_end: usize,
    sender: Sender,
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
            arena: vec![0; PACKETS_LEN + HEADERS_LEN].into_boxed_slice(),
            packets_end: 0,
            headers_end: 0,
            sender: Sender::new(),
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
        while reads < READS && self.packets_end + READ_LEN <= PACKETS_LEN {
            // The packet itself, not its offload header, is aligned.
            let start = self.packets_end + ALIGN - VNET_HDR_LEN;
            match io
                .tun
                .read(&mut self.arena[start..self.packets_end + READ_LEN])
            {
                Ok(len) => {
                    reads += 1;
                    let end = start + len;
                    self.take(shared, io, table, start, end);
                    self.packets_end = end.next_multiple_of(ALIGN);
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
        self.packets_end = 0;
        Ok(reads > 0)
    }

    fn take(&mut self, shared: &Shared, io: &Io, table: &PeerTable, start: usize, end: usize) {
        if let Err(refusal) = self.route(shared, io, table, start, end) {
            self.refuse(shared, &refusal, start + VNET_HDR_LEN, end);
        }
    }

    fn route(
        &mut self,
        shared: &Shared,
        io: &Io,
        table: &PeerTable,
        start: usize,
        end: usize,
    ) -> Result<(), Refusal> {
        let (head, packet) = self.arena[start..end]
            .split_first_chunk_mut()
            .ok_or(DropReason::Truncated)?;
        let vnet = VnetHdr::decode(head).ok_or(DropReason::BadOffload)?;
        let mtu = shared.mtu.load(Ordering::Relaxed);
        let peer = admit::outbound(packet, &vnet, table, &shared.local, mtu)?;
        let family = family(&table.entry(peer).endpoint);
        let mut way = Way {
            peer,
            v6: family == 1,
            class: ecn::class(packet),
            gso: self.gso[family],
        };
        let place = start + VNET_HDR_LEN..end;
        if vnet.gso != Gso::None {
            return Ok(self.cut(shared, io, table, way, &vnet, place)?);
        }
        if vnet.needs_csum {
            complete_checksum(packet, &vnet)?;
        }
        if self.sender.is_full() {
            self.flush(shared, io, table);
            way.gso = self.gso[family];
        }
        self.sender.push(way, 0..0, place);
        Ok(())
    }

    fn cut(
        &mut self,
        shared: &Shared,
        io: &Io,
        table: &PeerTable,
        mut way: Way,
        vnet: &VnetHdr,
        place: Range<usize>,
    ) -> Result<(), DropReason> {
        let mut at = 0;
        loop {
            let (packets, headers) = self.arena.split_at_mut(PACKETS_LEN);
            let mut segmenter = Segmenter::new(&packets[place.clone()], vnet)?;
            segmenter.skip_to(at);
            let header_len = segmenter.header_len();
            while !self.sender.is_full() && self.headers_end + MAX_HEADERS <= HEADERS_LEN {
                let Some(payload) = segmenter.next(&mut headers[self.headers_end..]) else {
                    return Ok(());
                };
                let header = PACKETS_LEN + self.headers_end;
                at = payload.end;
                self.headers_end += header_len;
                self.sender.push(
                    way,
                    header..header + header_len,
                    place.start + payload.start..place.start + payload.end,
                );
            }
            self.flush(shared, io, table);
            way.gso = self.gso[usize::from(way.v6)];
        }
    }

    /// Sends what was gathered. Packets stay in the arena; headers are used up.
    fn flush(&mut self, shared: &Shared, io: &Io, table: &PeerTable) {
        if self.sender.is_empty() {
            return;
        }
        let (id, gso) = (self.id, &mut self.gso);
        let counters = &shared.counters[id];
        let sockets = [io.sockets[0].as_ref(), io.sockets[1].as_ref()];
        self.sender.flush(&self.arena, table, sockets, |outcome| {
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
        self.headers_end = 0;
    }

    fn refuse(&mut self, shared: &Shared, refusal: &Refusal, start: usize, end: usize) {
        let counters = &shared.counters[self.id];
        counters.drop(refusal.reason, 1);
        let Some((error, header)) = refusal.icmp else {
            return;
        };
        let to = header.addresses.source();
        let Some(from) = shared.icmp_sources[usize::from(to.is_ipv6())] else {
            return;
        };
        let packet = &self.arena[start..end];
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
