//! What was read from the TUN device and the datagrams made of it, until the batch is sent.

use std::ops::Range;

use crate::counters::DropReason;
use crate::peers::PeerTable;
use crate::segment::{MAX_HEADERS, Segmenter, complete_checksum};
use crate::send::{Gathered, Outcome, Sender, Way};
use crate::socket::UdpQueue;
use crate::vnet::{Gso, VNET_HDR_LEN, VnetHdr};

/// Bytes of one read at most: a super-packet and its offload header, aligned.
pub const READ_LEN: usize = 65_536 + 128;
/// Packets begin at multiples of this.
const ALIGN: usize = 64;

/// One arena for packets as read and for headers made for segments, and the messages that name places in it.
pub struct Gather {
    arena: Box<[u8]>,
    /// Where packets may lie; headers lie behind.
    packets_len: usize,
    packets_end: usize,
    /// Bytes of headers used.
    headers_end: usize,
    sender: Sender,
}

impl Gather {
    /// Allocates room for bytes of packets and of headers.
    pub fn new(packets_len: usize, headers_len: usize) -> Self {
        Self {
            arena: vec![0; packets_len + headers_len].into_boxed_slice(),
            packets_len,
            packets_end: 0,
            headers_end: 0,
            sender: Sender::new(),
        }
    }

    /// Room for the next packet with its offload header; none where the longest would not fit. The packet
    /// itself, not its offload header, is aligned.
    #[inline]
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let start = self.packets_end + ALIGN - VNET_HDR_LEN;
        let end = self.packets_end + READ_LEN;
        (end <= self.packets_len).then(|| &mut self.arena[start..end])
    }

    /// Keeps the `len` bytes that were read into [`Self::room`], and gives their place.
    #[inline]
    pub fn keep(&mut self, len: usize) -> Range<usize> {
        let start = self.packets_end + ALIGN - VNET_HDR_LEN;
        let end = start + len;
        self.packets_end = end.next_multiple_of(ALIGN);
        start..end
    }

    /// The bytes at a place.
    #[inline]
    pub fn bytes(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.arena[place]
    }

    /// Makes datagrams of the packet at `place`, beginning at its byte `from`, which is 0 at first. Where the
    /// batch is full before the packet's end, gives where to go on once it was sent.
    ///
    /// # Errors
    /// `BadOffload` where the packet does not fit its offload header.
    #[inline]
    pub fn add(
        &mut self,
        way: Way,
        vnet: &VnetHdr,
        place: Range<usize>,
        from: usize,
    ) -> Result<Option<usize>, DropReason> {
        if vnet.gso != Gso::None {
            return self.cut(way, vnet, place, from);
        }
        if self.sender.is_full() {
            return Ok(Some(0));
        }
        if vnet.needs_csum {
            complete_checksum(&mut self.arena[place.clone()], vnet)?;
        }
        self.sender.push(way, 0..0, place);
        Ok(None)
    }

    fn cut(
        &mut self,
        way: Way,
        vnet: &VnetHdr,
        place: Range<usize>,
        mut from: usize,
    ) -> Result<Option<usize>, DropReason> {
        let (packets, headers) = self.arena.split_at_mut(self.packets_len);
        let mut segmenter = Segmenter::new(&packets[place.clone()], vnet)?;
        segmenter.skip_to(from);
        let header_len = segmenter.header_len();
        while !self.sender.is_full() && self.headers_end + MAX_HEADERS <= headers.len() {
            let Some(payload) = segmenter.next(&mut headers[self.headers_end..]) else {
                return Ok(None);
            };
            let header = self.packets_len + self.headers_end;
            from = payload.end;
            self.headers_end += header_len;
            self.sender.push(
                way,
                header..header + header_len,
                place.start + payload.start..place.start + payload.end,
            );
        }
        Ok(Some(from))
    }

    /// Nothing is to be sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }

    /// What is to be sent: each message, and the bytes of its datagrams, one after the other.
    pub fn messages(&self) -> impl Iterator<Item = (Gathered<'_>, Vec<u8>)> {
        self.sender.messages().map(|message| {
            let pieces = message.pieces.iter();
            let bytes = pieces
                .flat_map(|piece| &self.arena[piece.start as usize..piece.end as usize])
                .copied()
                .collect();
            (message, bytes)
        })
    }

    /// Sends what was gathered, as [`Sender::flush`] does. Packets stay in the arena; headers are used up.
    pub(crate) fn flush(
        &mut self,
        table: &PeerTable,
        sockets: [Option<&UdpQueue>; 2],
        done: impl FnMut(Outcome),
    ) {
        self.sender.flush(&self.arena, table, sockets, done);
        self.headers_end = 0;
    }

    /// Forgets the messages, as after a flush.
    pub fn clear(&mut self) {
        self.sender.clear();
        self.headers_end = 0;
    }

    /// Forgets the packets, of which nothing is left to be sent.
    #[inline]
    pub fn forget_packets(&mut self) {
        debug_assert!(self.is_empty());
        self.packets_end = 0;
    }
}
