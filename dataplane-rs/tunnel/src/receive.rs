//! Batched receive: recvmmsg(2) into one arena, with the segment size that UDP_GRO tells and the traffic class
//! that the datagrams came with, which is one for all of a message: the kernel joins no others.
//!
//! As with sending, `quinn-udp` makes way for the system call: its sockets ask for time stamps and interface
//! addresses with each message and forbid fragmentation, and its `RecvMeta` does not tell a truncated message.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use crate::socket::{UdpQueue, decode_address};

/// Messages of one call at most.
pub const MESSAGES: usize = 32;
/// Bytes of a message at most, many datagrams with UDP_GRO.
const MESSAGE_LEN: usize = 65_536;
/// Room for the control messages of segment size and traffic class, in words.
const CONTROL_WORDS: usize = 8;

/// One received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub sender: Option<SocketAddr>,
    /// Its place in the arena.
    pub place: Range<usize>,
    /// Bytes of each datagram in it but the last, which may be shorter.
    pub stride: usize,
    /// Type of service or traffic class of the datagrams.
    pub class: u8,
    /// Longer than its buffer.
    pub truncated: bool,
}

/// Buffers for one call, made once and used again.
pub struct Receiver {
    arena: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    control: Box<[[u64; CONTROL_WORDS]]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the raw pointers are to the boxes beside them, which move with it and are used by it alone.
unsafe impl Send for Receiver {}

impl Receiver {
    /// Reserves the buffers; the kernel backs them with memory as they are first used.
    pub fn new() -> Self {
        // SAFETY: all zero is a valid value of these C structures.
        let (name, header) =
            unsafe { std::mem::zeroed::<(libc::sockaddr_storage, libc::mmsghdr)>() };
        let vector = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let mut receiver = Self {
            arena: vec![0; MESSAGES * MESSAGE_LEN].into_boxed_slice(),
            names: vec![name; MESSAGES].into_boxed_slice(),
            control: vec![[0; CONTROL_WORDS]; MESSAGES].into_boxed_slice(),
            vectors: vec![vector; MESSAGES].into_boxed_slice(),
            headers: vec![header; MESSAGES].into_boxed_slice(),
        };
        for index in 0..MESSAGES {
            receiver.vectors[index] = libc::iovec {
                iov_base: (&raw mut receiver.arena[index * MESSAGE_LEN]).cast(),
                iov_len: MESSAGE_LEN,
            };
            let header = &mut receiver.headers[index].msg_hdr;
            header.msg_name = (&raw mut receiver.names[index]).cast();
            header.msg_iov = &raw mut receiver.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut receiver.control[index]).cast();
        }
        receiver
    }

    /// Takes what is there, [`MESSAGES`] at most, and gives the number of messages. Does not wait.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there, else what recvmmsg(2) says.
    #[inline]
    pub fn receive(&mut self, socket: &UdpQueue) -> io::Result<usize> {
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        }
        // SAFETY: each header points to a name, a control buffer and a vector of this struct, and each vector
        // to a part of the arena of its own; all have the lengths given.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                MESSAGES as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(count as usize)
        }
    }

    /// Message `index` of the last call.
    #[inline]
    pub fn message(&self, index: usize) -> Message {
        let header = &self.headers[index];
        let start = index * MESSAGE_LEN;
        let len = (header.msg_len as usize).min(MESSAGE_LEN);
        let told = told(&header.msg_hdr);
        Message {
            sender: decode_address(&self.names[index]),
            place: start..start + len,
            stride: told.segment_size.unwrap_or(len).max(1),
            class: told.class,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// The buffers of all messages.
    #[inline]
    pub fn arena(&mut self) -> &mut [u8] {
        &mut self.arena
    }
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

/// What the kernel told of a message beside its bytes.
#[derive(Default)]
struct Told {
    /// None for a message of one datagram.
    segment_size: Option<usize>,
    class: u8,
}

#[inline]
fn told(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: the header is one that recvmmsg filled in, whose control buffer it points to, and so are the
    // messages in it; each kind carries what is read of it, at the place that CMSG_DATA gives.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let size = data.cast::<libc::c_int>().read_unaligned();
                    told.segment_size = usize::try_from(size).ok();
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => told.class = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    told.class = data.cast::<libc::c_int>().read_unaligned() as u8;
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    told
}
