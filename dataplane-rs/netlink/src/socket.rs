//! A blocking rtnetlink socket: dumps, and requests in batches.
//!
//! Only the last request of a batch asks for an acknowledgement. The kernel works a batch off in
//! order within `sendmsg`, and reports each request that fails whether or not it asked, with the
//! request's sequence number: so each entry's error is known, and 512 successes cost one answer.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Bytes asked for a socket's receive queue. Memory is used only while messages wait in it; the
/// acknowledgements of a batch that fails as a whole take half of it.
const RECEIVE_QUEUE: usize = 1 << 20;
/// Requests and bytes in one `sendmsg`; the bytes are well below the kernel's default send buffer.
const BATCH_REQUESTS: usize = 512;
const BATCH_BYTES: usize = 64 << 10;
/// The kernel fills dumps in parts of up to 32 KiB where the reader's buffer has room for them.
const RECEIVE_BUFFER: usize = 64 << 10;
/// How often a dump that a concurrent change made inconsistent is read again.
const DUMP_ATTEMPTS: usize = 5;
/// Seconds without an answer that count as a fault.
const ANSWER_LIMIT: i64 = 10;

const HEADER: usize = 16;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A request that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its position among the requests.
    pub index: usize,
    /// Positive errno.
    pub errno: i32,
    /// The kernel's extended message.
    pub detail: Option<String>,
}

/// A request with its `NLM_F_*` flags besides `NLM_F_REQUEST`.
pub type Request = (RouteNetlinkMessage, u16);

/// See the module.
pub struct RtSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl RtSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // Each is an improvement that older kernels lack: answers without the request's copy
        // (4.3), extended messages (4.12), dumps filtered by the kernel (4.20).
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = set_receive_queue(&socket, RECEIVE_QUEUE);
        let limit = libc::timeval {
            tv_sec: ANSWER_LIMIT,
            tv_usec: 0,
        };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &limit)?;
        Ok(Self {
            socket,
            port,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        })
    }

    /// The port number that notifications of this socket's changes carry.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Carries out `requests` in order; one that is refused does not hold up the others.
    ///
    /// # Errors
    /// When the socket itself fails; then it is not known which requests were carried out.
    pub fn execute(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> io::Result<Vec<Refusal>> {
        let mut requests = requests.into_iter().peekable();
        let mut refusals = Vec::new();
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        let mut base = 0;
        while requests.peek().is_some() {
            batch.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            while count < BATCH_REQUESTS && batch.len() < BATCH_BYTES {
                let Some((message, flags)) = requests.next() else {
                    break;
                };
                let last = count + 1 == BATCH_REQUESTS || requests.peek().is_none();
                let ack = if last { NLM_F_ACK } else { 0 };
                self.sequence = self.sequence.wrapping_add(1);
                append(
                    &mut batch,
                    message,
                    flags | ack | NLM_F_REQUEST,
                    self.sequence,
                );
                count += 1;
            }
            if batch.len() >= BATCH_BYTES {
                request_ack_of_last(&mut batch);
            }
            self.socket.send(&batch, 0)?;
            self.collect(first, base, &mut refusals)?;
            base += count;
        }
        Ok(refusals)
    }

    /// Reads answers until that of the last request sent.
    fn collect(&mut self, first: u32, base: usize, refusals: &mut Vec<Refusal>) -> io::Result<()> {
        let last = self.sequence;
        loop {
            self.receive()?;
            let mut done = false;
            for message in Messages(&self.buffer) {
                let index = message.sequence.wrapping_sub(first);
                if message.kind != NLMSG_ERROR || index > last.wrapping_sub(first) {
                    continue;
                }
                if let Some((errno, detail)) = message.error() {
                    refusals.push(Refusal {
                        index: base + index as usize,
                        errno,
                        detail,
                    });
                }
                done |= message.sequence == last;
            }
            if done {
                return Ok(());
            }
        }
    }

    /// The entries of a dump for which `parse` gives something; a dump of a family or table that
    /// this kernel does not have is empty.
    pub fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        mut parse: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(entries) = self.dump_once(request.clone(), &mut parse)? {
                return Ok(entries);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the kernel's tables changed during each of five dumps",
        ))
    }

    /// None where the dump was inconsistent.
    fn dump_once<T>(
        &mut self,
        request: RouteNetlinkMessage,
        parse: &mut impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Option<Vec<T>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        append(
            &mut bytes,
            request,
            NLM_F_REQUEST | NLM_F_DUMP,
            self.sequence,
        );
        self.socket.send(&bytes, 0)?;
        let mut entries = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive()?;
            for message in Messages(&self.buffer) {
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => return dump_end(message.code(), entries, interrupted),
                    NLMSG_ERROR => return dump_end(message.code(), entries, interrupted),
                    // An entry that the parser does not know is nothing of ours.
                    _ => entries.extend(message.parse().and_then(&mut *parse)),
                }
            }
        }
    }

    /// Sends one request and gives the message that answers it.
    pub fn query(&mut self, request: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        append(&mut bytes, request, NLM_F_REQUEST, self.sequence);
        self.socket.send(&bytes, 0)?;
        self.answer(|message| message.parse())?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "an answer that cannot be decoded",
            )
        })
    }

    /// Sends one request that the parser does not know; gives the answer's type and payload.
    pub fn query_raw(&mut self, kind: u16, payload: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(NLM_F_REQUEST.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        self.socket.send(&bytes, 0)?;
        self.answer(|message| (message.kind, message.payload.to_vec()))
    }

    /// Reads the message that answers the request sent last.
    fn answer<T>(&mut self, read: impl Fn(&Raw<'_>) -> T) -> io::Result<T> {
        loop {
            self.receive()?;
            for message in Messages(&self.buffer) {
                if message.sequence != self.sequence {
                    continue;
                }
                if message.kind == NLMSG_ERROR {
                    return Err(io::Error::from_raw_os_error(-message.code()));
                }
                return Ok(read(&message));
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the kernel gave no answer to a netlink request",
                    ));
                }
                result => return result.map(drop),
            }
        }
    }
}

fn dump_end<T>(code: i32, entries: Vec<T>, interrupted: bool) -> io::Result<Option<Vec<T>>> {
    match -code {
        // A kernel without IPv6, or without the table.
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::ENOENT => Ok(Some(Vec::new())),
        errno if errno > 0 => Err(io::Error::from_raw_os_error(errno)),
        _ => Ok((!interrupted).then_some(entries)),
    }
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

/// Sets `NLM_F_ACK` in the last message of a batch that was closed by its size.
fn request_ack_of_last(batch: &mut [u8]) {
    let mut start = 0;
    while let Some(length) = u32_at(batch, start) {
        let next = start + (length as usize).next_multiple_of(4);
        if next >= batch.len() {
            let flags = u16::from_ne_bytes([batch[start + 6], batch[start + 7]]) | NLM_F_ACK;
            batch[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
            return;
        }
        start = next;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

/// One netlink message as it was received.
pub struct Raw<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
    pub payload: &'a [u8],
}

impl Raw<'_> {
    /// The message, where the parser knows all of it.
    pub fn parse(&self) -> Option<RouteNetlinkMessage> {
        RouteNetlinkMessage::parse_with_param(self.payload, self.kind).ok()
    }

    /// The code of NLMSG_ERROR and NLMSG_DONE: 0 or a negative errno.
    fn code(&self) -> i32 {
        u32_at(self.payload, 0).unwrap_or(0).cast_signed()
    }

    /// The errno and the extended message of an NLMSG_ERROR that is no acknowledgement.
    fn error(&self) -> Option<(i32, Option<String>)> {
        let errno = -self.code();
        if errno == 0 {
            return None;
        }
        Some((errno, self.extended_message()))
    }

    fn extended_message(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        // The code, then the request: its header alone where the answer is capped.
        let request = if self.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            (u32_at(self.payload, 4)? as usize).next_multiple_of(4)
        };
        let attributes = NlasIterator::new(self.payload.get(4 + request..)?);
        let message = attributes
            .map_while(Result::ok)
            .find(|nla| nla.kind() == NLMSGERR_ATTR_MSG)?;
        let text = message.value().split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The messages in a received buffer.
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let bytes = self.0;
        let length = u32_at(bytes, 0)? as usize;
        let payload = bytes.get(HEADER..length)?;
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Raw {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            payload,
        })
    }
}

/// Sets a receive queue beyond `net.core.rmem_max`, which CAP_NET_ADMIN allows; else up to it.
pub fn set_receive_queue(socket: &Socket, bytes: usize) -> io::Result<()> {
    let bytes = bytes as libc::c_int;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
        .or_else(|_| set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes))
}

/// `setsockopt` with any plain value.
pub fn set_option<T>(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call; the
    // kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;

    fn refusal(flags: u16, tail: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = (HEADER + 4 + HEADER + tail.len()) as u32;
        bytes.extend(length.to_ne_bytes());
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(9u32.to_ne_bytes());
        bytes.extend((-libc::EEXIST).to_ne_bytes());
        bytes.extend((HEADER as u32).to_ne_bytes());
        bytes.extend([0; HEADER - 4]);
        bytes.extend(tail);
        bytes
    }

    #[test]
    fn a_refusal_has_errno_and_extended_message() {
        let mut tail = vec![12, 0, NLMSGERR_ATTR_MSG as u8, 0];
        tail.extend(b"too bad\0");
        let bytes = refusal(NLM_F_ACK_TLVS | NLM_F_CAPPED, &tail);
        let message = Messages(&bytes).next().unwrap();
        assert_eq!((message.sequence, message.port), (7, 9));
        let expected = (libc::EEXIST, Some("too bad".to_string()));
        assert_eq!(message.error(), Some(expected));
        let bare = refusal(0, &[]);
        let message = Messages(&bare).next().unwrap();
        assert_eq!(message.error(), Some((libc::EEXIST, None)));
    }

    #[test]
    fn truncated_messages_end_the_iteration() {
        let bytes = refusal(0, &[]);
        for cut in 0..bytes.len() {
            assert!(Messages(&bytes[..cut]).next().is_none(), "{cut} bytes");
        }
        assert!(Messages(&[0; 32]).next().is_none());
    }

    #[test]
    fn only_the_last_of_a_batch_asks_for_an_answer() {
        let mut batch = Vec::new();
        append(&mut batch, message::del_link(1), NLM_F_REQUEST, 1);
        append(&mut batch, message::get_links(), NLM_F_REQUEST, 2);
        request_ack_of_last(&mut batch);
        let flags: Vec<u16> = Messages(&batch).map(|message| message.flags).collect();
        assert_eq!(flags, [NLM_F_REQUEST, NLM_F_REQUEST | NLM_F_ACK]);
    }
}
