//! Batched send: datagrams gathered from one arena into messages with UDP_SEGMENT, messages into one
//! sendmmsg(2).
//!
//! Datagrams to one peer share a message as long as they are of one length, the last may be shorter, whatever
//! flow they are of. A datagram's headers and payload stay where they are and are gathered by the kernel.
//!
//! The system call is made here and not by `quinn-udp`, whose `Transmit` wants a message's bytes in one piece
//! and sends one message a call. With it the sender's thread took 141 ms of user time a gigabyte instead of
//! 78, and one TCP stream made 5.2 Gbit/s instead of 5.75 (means of four runs each, taken in turn).

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use crate::peers::PeerTable;
use crate::socket::UdpQueue;

/// Messages of one call at most.
pub const MESSAGES: usize = 64;
/// Datagrams of a message at most (UDP_MAX_SEGMENTS of kernels before 6.8).
pub const SEGMENTS: usize = 64;
/// Bytes of a message at most: what UDP can carry over IPv4, with room for IP options.
const MESSAGE_LEN: usize = 65_467;
/// Words of the control message for the segment size.
const CONTROL_WORDS: usize = 3;

/// Milliseconds that a full send buffer is waited for.
const PATIENCE_MS: libc::c_int = 5;

/// A message being gathered.
#[derive(Debug, Clone)]
struct Message {
    peer: u32,
    v6: bool,
    /// Bytes of each datagram but the last.
    size: usize,
    total: usize,
    datagrams: usize,
    closed: bool,
    pieces: usize,
}

/// What became of one message.
#[derive(Debug)]
pub struct Outcome {
    /// The peer that it was for.
    pub peer: u32,
    /// Inner packets in it.
    pub datagrams: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// What the kernel said, where it did not take them.
    pub error: Option<io::Error>,
}

/// Messages being gathered, made once and used again.
pub struct Sender {
    messages: Box<[Message]>,
    used: usize,
    vectors: Box<[libc::iovec]>,
    places: Box<[Range<u32>]>,
    headers: Box<[libc::mmsghdr]>,
    control: Box<[[u64; CONTROL_WORDS]]>,
}

/// Pieces of a message: headers and payload of each datagram.
const PIECES: usize = SEGMENTS * 2;

// SAFETY: raw pointers in it are only used within `flush`, which sets them first.
unsafe impl Send for Sender {}

impl Sender {
    /// Allocates the memory once.
    pub fn new() -> Self {
        // SAFETY: all zero is a valid value of this C structure.
        let header = unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        let message = Message {
            peer: 0,
            v6: false,
            size: 0,
            total: 0,
            datagrams: 0,
            closed: true,
            pieces: 0,
        };
        Self {
            messages: vec![message; MESSAGES].into_boxed_slice(),
            used: 0,
            vectors: vec![
                libc::iovec {
                    iov_base: ptr::null_mut(),
                    iov_len: 0
                };
                MESSAGES * PIECES
            ]
            .into_boxed_slice(),
            places: vec![0..0; MESSAGES * PIECES].into_boxed_slice(),
            headers: vec![header; MESSAGES].into_boxed_slice(),
            control: vec![[0; CONTROL_WORDS]; MESSAGES].into_boxed_slice(),
        }
    }

    /// A further datagram may find no room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.used == MESSAGES
    }

    /// Nothing is to be sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds a datagram for `peer`: the arena's bytes at `headers`, then those at `payload`. The batch must
    /// not be full. `gso` allows more than one datagram a message.
    #[inline]
    pub fn push(
        &mut self,
        peer: u32,
        v6: bool,
        gso: bool,
        headers: Range<usize>,
        payload: Range<usize>,
    ) {
        let len = headers.len() + payload.len();
        let index = self.place_for(peer, v6, gso, len);
        let message = &mut self.messages[index];
        message.closed |= len < message.size || !gso;
        message.total += len;
        message.datagrams += 1;
        let base = index * PIECES;
        for piece in [headers, payload] {
            if !piece.is_empty() {
                self.places[base + message.pieces] = piece.start as u32..piece.end as u32;
                message.pieces += 1;
            }
        }
    }

    /// The peer's newest message if it has room, else a new one: older ones are left so that order stays.
    #[inline]
    fn place_for(&mut self, peer: u32, v6: bool, gso: bool, len: usize) -> usize {
        if gso
            && let Some(index) = self.messages[..self.used]
                .iter()
                .rposition(|m| m.peer == peer)
        {
            let message = &self.messages[index];
            let room = message.datagrams < SEGMENTS && message.total + len <= MESSAGE_LEN;
            if !message.closed && len <= message.size && room {
                return index;
            }
        }
        let message = Message {
            peer,
            v6,
            size: len,
            total: 0,
            datagrams: 0,
            closed: false,
            pieces: 0,
        };
        self.messages[self.used] = message;
        self.used += 1;
        self.used - 1
    }

    /// Sends all messages and forgets them. `done` learns each one's outcome. A full send buffer is waited for
    /// a moment: what is not read from the TUN device meanwhile holds back its senders.
    pub fn flush(
        &mut self,
        arena: &[u8],
        table: &PeerTable,
        sockets: [Option<&UdpQueue>; 2],
        mut done: impl FnMut(Outcome),
    ) {
        self.prepare(arena, table);
        let mut at = 0;
        let mut patient = true;
        while at < self.used {
            let v6 = self.messages[at].v6;
            let run = self.messages[at..self.used]
                .iter()
                .take_while(|m| m.v6 == v6)
                .count();
            let result = match sockets[usize::from(v6)] {
                Some(socket) => self.send(socket, at, run),
                None => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
            };
            match result {
                Ok(count) => {
                    for message in &self.messages[at..at + count] {
                        done(outcome(message, None));
                    }
                    at += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && patient => {
                    patient = sockets[usize::from(v6)].is_some_and(wait_writable);
                }
                Err(error) => {
                    self.send_apart(at, sockets[usize::from(v6)], error, &mut done);
                    at += 1;
                }
            }
        }
        self.used = 0;
    }

    /// Points the kernel's structures to the messages' pieces.
    fn prepare(&mut self, arena: &[u8], table: &PeerTable) {
        for (index, message) in self.messages[..self.used].iter().enumerate() {
            let base = index * PIECES;
            for at in base..base + message.pieces {
                let piece = &arena[self.places[at].start as usize..self.places[at].end as usize];
                self.vectors[at] = libc::iovec {
                    iov_base: piece.as_ptr().cast_mut().cast(),
                    iov_len: piece.len(),
                };
            }
            let address = &table.entry(message.peer).address;
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
            header.msg_iov = &raw mut self.vectors[base];
            header.msg_iovlen = message.pieces as _;
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            if message.datagrams > 1 {
                self.control[index] = segment_control(message.size as u16);
                header.msg_control = (&raw mut self.control[index]).cast();
                header.msg_controllen = control_len() as _;
            }
        }
    }

    fn send(&mut self, socket: &UdpQueue, at: usize, count: usize) -> io::Result<usize> {
        // SAFETY: `prepare` pointed these headers to names of the table, vectors and control buffers of this
        // struct and bytes of the arena, all borrowed until `flush` returns.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers[at..].as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(sent as usize)
        }
    }

    /// A message that was refused although its datagrams may be fine goes out one by one: the device on the
    /// path lacks checksum offload (EIO), or the path is narrower than a segment (EINVAL, EMSGSIZE).
    fn send_apart(
        &mut self,
        at: usize,
        socket: Option<&UdpQueue>,
        error: io::Error,
        done: &mut impl FnMut(Outcome),
    ) {
        let message = self.messages[at].clone();
        let segmentation = matches!(
            error.raw_os_error(),
            Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE)
        );
        let Some(socket) = socket.filter(|_| segmentation && message.datagrams > 1) else {
            done(outcome(&message, Some(error)));
            return;
        };
        // Told with no packets lost, so that the caller can turn segmentation off.
        done(Outcome {
            peer: message.peer,
            datagrams: 0,
            bytes: 0,
            error: Some(error),
        });
        let (mut first, last) = (at * PIECES, at * PIECES + message.pieces);
        self.headers[at].msg_hdr.msg_control = ptr::null_mut();
        self.headers[at].msg_hdr.msg_controllen = 0;
        while first < last {
            let mut bytes = 0;
            let mut end = first;
            while end < last && bytes < message.size {
                bytes += self.vectors[end].iov_len;
                end += 1;
            }
            let header = &mut self.headers[at].msg_hdr;
            header.msg_iov = &raw mut self.vectors[first];
            header.msg_iovlen = (end - first) as _;
            let error = self.send(socket, at, 1).err();
            done(Outcome {
                peer: message.peer,
                datagrams: 1,
                bytes,
                error,
            });
            first = end;
        }
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until the socket takes more; false where it did not for [`PATIENCE_MS`].
fn wait_writable(socket: &UdpQueue) -> bool {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one valid pollfd, counted as one.
    unsafe { libc::poll(&raw mut poll, 1, PATIENCE_MS) == 1 }
}

fn outcome(message: &Message, error: Option<io::Error>) -> Outcome {
    Outcome {
        peer: message.peer,
        datagrams: message.datagrams,
        bytes: message.total,
        error,
    }
}

/// Bytes of the control message.
fn control_len() -> usize {
    // SAFETY: this only computes.
    let len = unsafe { libc::CMSG_SPACE(size_of::<u16>() as libc::c_uint) } as usize;
    debug_assert!(len <= size_of::<[u64; CONTROL_WORDS]>());
    len
}

/// The control message for UDP_SEGMENT, a `cmsghdr` and a 16-bit size, padded to words as CMSG_SPACE does.
fn segment_control(size: u16) -> [u64; CONTROL_WORDS] {
    let mut words = [0u64; CONTROL_WORDS];
    let header = words.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: the words have the header's alignment and hold the header and the size after it.
    unsafe {
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as _;
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
    }
    words
}
