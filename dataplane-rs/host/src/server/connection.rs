//! One client, from its first byte to the last of its answer.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::questions::{Reply, Topic};
use super::request::{LONGEST, Parsed, parse};

/// How long a client may take to send its request, from the start of the connection.
const REQUEST: Duration = Duration::from_secs(5);
/// How long the program may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a client may take to fetch its answer.
const FETCH: Duration = Duration::from_secs(20);
/// How long a client may take to close, and how much it may send until then: what is not read when
/// a connection closes would reset it, and the answer with it.
const CLOSE: Duration = Duration::from_secs(1);
const IGNORED: usize = 1 << 20;
/// Bytes that are sent to one client before it is another's turn.
const TURN: usize = 256 << 10;

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Where a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Http {
        source: IpAddr,
        /// Whether it may have the metrics.
        metrics: bool,
    },
    Peers,
}

/// What is being done with a client.
enum Stage {
    Request(Vec<u8>),
    Waiting {
        topic: Topic,
        head_only: bool,
    },
    Sending {
        head: Vec<u8>,
        body: Option<Arc<Reply>>,
        sent: usize,
    },
    Closing {
        ignored: usize,
    },
}

/// What a client needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// To be told when its socket is ready, or its time is over.
    Wait,
    /// The answer on a topic.
    Ask(Topic),
    /// Nothing: it is over.
    End,
}

/// See the module.
pub struct Connection {
    socket: OwnedFd,
    pub door: Door,
    stage: Stage,
    /// When its stage has to be over.
    pub deadline: Instant,
    /// When it began, or last took a part of its answer.
    progress: Instant,
}

impl Connection {
    /// Takes a socket that does not block.
    pub fn new(socket: OwnedFd, door: Door, now: Instant) -> Self {
        let (stage, deadline) = match door {
            Door::Http { .. } => (Stage::Request(Vec::new()), now + REQUEST),
            // There is nothing to ask for: whoever connects gets the one document.
            Door::Peers => {
                let topic = Topic::Peers;
                let head_only = false;
                (Stage::Waiting { topic, head_only }, now + ANSWER)
            }
        };
        Self {
            socket,
            door,
            stage,
            deadline,
            progress: now,
        }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What to be told of the socket.
    pub fn interest(&self) -> PollFlags {
        match self.stage {
            Stage::Request(_) | Stage::Closing { .. } => PollFlags::IN,
            Stage::Waiting { .. } => PollFlags::empty(),
            Stage::Sending { .. } => PollFlags::OUT,
        }
    }

    /// The topic that it waits for.
    pub fn topic(&self) -> Option<Topic> {
        match self.stage {
            Stage::Waiting { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// What it is worth to keep: those who have not asked for anything come first, and of each kind
    /// those with whom nothing has happened for the longest.
    pub fn worth(&self) -> (u8, Instant) {
        let kind = match self.stage {
            Stage::Closing { .. } => 0,
            Stage::Request(_) => 1,
            Stage::Sending { .. } => 2,
            Stage::Waiting { .. } => 3,
        };
        (kind, self.progress)
    }

    /// The answer that it fetches.
    pub fn reply(&self) -> Option<&Arc<Reply>> {
        match &self.stage {
            Stage::Sending { body, .. } => body.as_ref(),
            _ => None,
        }
    }

    /// Does what its socket is ready for.
    pub fn ready(&mut self, ready: PollFlags, now: Instant) -> Next {
        match self.stage {
            Stage::Request(_) => self.receive(now),
            Stage::Sending { .. } => self.send(now),
            Stage::Closing { .. } => self.ignore(),
            Stage::Waiting { .. } if ready.intersects(PollFlags::HUP | PollFlags::ERR) => Next::End,
            Stage::Waiting { .. } => Next::Wait,
        }
    }

    /// Its time is over.
    pub fn late(&mut self, now: Instant) -> Next {
        match &self.stage {
            Stage::Request(received) if !received.is_empty() => self.refuse(408, now),
            Stage::Waiting { .. } if self.door != Door::Peers => self.refuse(503, now),
            _ => Next::End,
        }
    }

    /// Gives it the answer that it waits for.
    pub fn answer(&mut self, reply: &Arc<Reply>, now: Instant) -> Next {
        let Stage::Waiting { topic, head_only } = self.stage else {
            return Next::Wait;
        };
        let head = match self.door {
            Door::Peers => Vec::new(),
            Door::Http { .. } => {
                let kind = if topic == Topic::Metrics {
                    METRICS_TYPE
                } else {
                    TEXT_TYPE
                };
                head(reply.status, kind, reply.body.len())
            }
        };
        let body = (!head_only).then(|| Arc::clone(reply));
        self.begin(head, body, now)
    }

    fn refuse(&mut self, status: u16, now: Instant) -> Next {
        let text = refusal(status);
        let mut whole = head(status, TEXT_TYPE, text.len());
        whole.extend_from_slice(text.as_bytes());
        self.begin(whole, None, now)
    }

    fn begin(&mut self, head: Vec<u8>, body: Option<Arc<Reply>>, now: Instant) -> Next {
        self.deadline = now + FETCH;
        self.stage = Stage::Sending {
            head,
            body,
            sent: 0,
        };
        self.send(now)
    }

    fn receive(&mut self, now: Instant) -> Next {
        let Stage::Request(received) = &mut self.stage else {
            return Next::Wait;
        };
        let mut buffer = [0; LONGEST];
        let room = LONGEST - received.len();
        match recv(&self.socket, &mut buffer[..room], RecvFlags::empty()) {
            Ok((_, 0)) => return Next::End,
            Ok((_, length)) => received.extend_from_slice(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return Next::Wait,
            Err(_) => return Next::End,
        }
        match parse(received) {
            Parsed::Partial => Next::Wait,
            Parsed::Refused(status) => self.refuse(status, now),
            Parsed::Request { path, head_only } => self.want(&path, head_only, now),
        }
    }

    fn want(&mut self, path: &str, head_only: bool, now: Instant) -> Next {
        let metrics = matches!(self.door, Door::Http { metrics: true, .. });
        match Topic::of(path) {
            Some(Topic::Metrics) if !metrics => self.refuse(403, now),
            Some(topic) => {
                self.deadline = now + ANSWER;
                self.stage = Stage::Waiting { topic, head_only };
                Next::Ask(topic)
            }
            None => self.refuse(404, now),
        }
    }

    fn send(&mut self, now: Instant) -> Next {
        let Stage::Sending { head, body, sent } = &mut self.stage else {
            return Next::Wait;
        };
        let body = body.as_ref().map_or(&[][..], |reply| &reply.body);
        let mut turn = TURN;
        loop {
            let rest = match head.get(*sent..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &body[*sent - head.len()..],
            };
            if rest.is_empty() {
                break;
            }
            if turn == 0 {
                return Next::Wait;
            }
            match send(
                &self.socket,
                &rest[..rest.len().min(turn)],
                SendFlags::NOSIGNAL,
            ) {
                Ok(length) => {
                    *sent += length;
                    turn -= length;
                    self.progress = now;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Next::Wait,
                Err(_) => return Next::End,
            }
        }
        if shutdown(&self.socket, Shutdown::Write).is_err() {
            return Next::End;
        }
        self.deadline = now + CLOSE;
        self.stage = Stage::Closing { ignored: 0 };
        Next::Wait
    }

    fn ignore(&mut self) -> Next {
        let Stage::Closing { ignored } = &mut self.stage else {
            return Next::Wait;
        };
        let mut buffer = [0; LONGEST];
        match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
            Ok((_, 0)) => Next::End,
            Ok((_, length)) => {
                *ignored += length;
                if *ignored > IGNORED {
                    Next::End
                } else {
                    Next::Wait
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => Next::Wait,
            Err(_) => Next::End,
        }
    }
}

fn head(status: u16, kind: &str, length: usize) -> Vec<u8> {
    let allow = if status == 405 {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    format!(
        "HTTP/1.1 {status} {}\r\nDate: {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         {allow}Connection: close\r\n\r\n",
        reason(status),
        httpdate::fmt_http_date(SystemTime::now()),
    )
    .into_bytes()
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        505 => "HTTP Version Not Supported",
        _ => "Service Unavailable",
    }
}

const fn refusal(status: u16) -> &'static str {
    match status {
        400 => "The request is not valid HTTP/1.1\n",
        403 => {
            "flanneld serves /metrics only to its own host; set --healthz-ip to open it to others\n"
        }
        404 => "flanneld serves /healthz, /readyz and /metrics\n",
        405 => "flanneld answers GET and HEAD\n",
        408 => "The request took too long\n",
        431 => "The request is too long\n",
        505 => "flanneld speaks HTTP/1.1\n",
        _ => "flanneld did not answer in time\n",
    }
}
