//! Answers health checks, scrapes and `flanneld peers`, on a thread of its own.
//!
//! Clients are strangers. Each has little time and little memory, and there are so many of them at
//! most, in all and per source; where there are more, those make room that have asked for nothing
//! yet, the oldest first. What they send is never logged. The program, whose event loop has more
//! important things to do, is asked rarely (see [`questions`]).

mod connection;
mod questions;
mod request;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{Mode, fchmod};
use rustix::io::{Errno, read, write};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::Error;
use crate::lock::{Lock, name};
use connection::{Connection, Door, Next};
use questions::{Questions, Reply};

pub use questions::{TOPICS, Topic};

/// What the status socket is called.
pub const SOCKET: &str = "sock";

/// HTTP clients at a time.
const MAX_HTTP: usize = 128;
/// Those of them that come from one address.
const MAX_PER_SOURCE: usize = 32;
/// Clients of the status socket at a time.
const MAX_PEERS: usize = 32;
/// Bytes of answers that clients fetch. An answer counts once, however many fetch it; and one is
/// always kept, however long it is.
const MAX_BYTES: usize = 24 << 20;
/// Clients that are let in before those that are in have their turn.
const TURN: usize = 32;
/// How long no one is let in after that failed, as when files run out.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be let in.
const BACKLOG: i32 = 128;
/// Subtracted from the thread's priority: whatever the agent does comes first.
const NICE: i32 = 10;
const LONG: Duration = Duration::from_secs(3600);
/// Bytes from which on an answer's memory is worth giving back at once.
const LARGE: usize = 128 << 10;
const ROOT: u32 = 0;

/// Where HTTP is answered.
#[derive(Debug)]
pub struct HttpOptions {
    pub ip: IpAddr,
    pub port: u16,
    /// Metrics are answered to other hosts, too.
    pub metrics_for_all: bool,
}

/// Why it cannot listen on its port.
#[derive(Debug)]
pub struct ListenError(pub io::Error);

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Why the status socket cannot be had.
    pub no_socket: Option<Error>,
}

struct Shared {
    questions: Questions,
    wake: OwnedFd,
    /// Gives memory back to the system.
    release: fn(),
}

impl Server {
    /// Listens on the status socket beside the lock, and over HTTP where that is wanted. Without the
    /// former it goes on, as nothing depends on it.
    ///
    /// # Errors
    /// Where it cannot listen over HTTP, or start a thread.
    pub fn start(
        lock: &Lock,
        http: Option<&HttpOptions>,
        release: fn(),
    ) -> Result<Self, ListenError> {
        let tcp = http.map(|http| {
            let listener = TcpListener::bind((http.ip, http.port))?;
            listener.set_nonblocking(true)?;
            io::Result::Ok((listener, http.metrics_for_all))
        });
        let tcp = tcp.transpose().map_err(ListenError)?;
        let (unix, no_socket) = match status_socket(lock) {
            Ok(listener) => (Some(listener), None),
            Err(error) => (None, Some(error)),
        };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            questions: Questions::default(),
            wake: wake.map_err(|error| ListenError(error.into()))?,
            release,
        });
        let mut doors = Doors {
            shared: Arc::clone(&shared),
            tcp,
            unix,
            open: VecDeque::new(),
            paused_until: None,
        };
        let thread = std::thread::Builder::new()
            .name("doors".into())
            .spawn(move || doors.run())
            .map_err(ListenError)?;
        Ok(Self {
            shared,
            thread: Some(thread),
            no_socket,
        })
    }

    /// Waits for the next topic to be answered; none once closed.
    #[must_use]
    pub fn next_question(&self) -> Option<Topic> {
        self.shared.questions.next()
    }

    /// Adds a part to the answer on a topic.
    pub fn answer(&self, topic: Topic, status: u16, part: &[u8], last: bool) {
        if self.shared.questions.answer(topic, status, part, last) {
            self.shared.wake();
        }
    }

    /// Closes all connections. Calls in progress end.
    pub fn close(&self) {
        self.shared.questions.close();
        self.shared.wake();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            // A panic was seen to already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // It can only fail where it was woken often already.
        let _ = write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The socket for `flanneld peers`. No other user can connect, before it is set up or after.
fn status_socket(lock: &Lock) -> Result<UnixListener, Error> {
    let name = name(SOCKET)?;
    let what = lock.place.path_of(&name).display().to_string();
    lock.place.remove(&name)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(Error::io(what.clone()))?;
    let address = SocketAddrUnix::new(lock.place.short_path(&name));
    address
        .and_then(|address| {
            // The file is made with the socket's mode.
            fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            bind(&socket, &address)?;
            listen(&socket, BACKLOG)
        })
        .map_err(Error::io(what))?;
    Ok(UnixListener::from(socket))
}

/// Who is in, and where others come in.
struct Doors {
    shared: Arc<Shared>,
    tcp: Option<(TcpListener, bool)>,
    unix: Option<UnixListener>,
    /// The oldest first.
    open: VecDeque<Connection>,
    paused_until: Option<Instant>,
}

impl Doors {
    fn run(&mut self) {
        // The thread's alone. More of it needs no privilege.
        let _ = rustix::process::nice(NICE);
        while !self.shared.questions.is_closed() {
            // A fault in here costs those who are in their connection, and nothing else.
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                self.open.clear();
                self.paused_until = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Waits until there is something to do, and does it.
    fn turn(&mut self) {
        let now = Instant::now();
        self.expire(now);
        let forgotten = self.forget(now);
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let deadlines = self.open.iter().map(|connection| connection.deadline);
        let next = deadlines.chain(forgotten).chain(self.paused_until).min();
        let timeout = next.map_or(LONG, |next| next.saturating_duration_since(now));
        let ready = self.wait(timeout);
        self.serve(&ready.open);
        self.hand_out();
        if ready.tcp {
            self.let_in_http();
        }
        if ready.unix {
            self.let_in_peers();
        }
    }

    fn wait(&self, timeout: Duration) -> Ready {
        let mut polled = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        let listening = self.paused_until.is_none();
        let tcp = self.tcp.as_ref().filter(|_| listening);
        let unix = self.unix.as_ref().filter(|_| listening);
        polled.extend(tcp.map(|(tcp, _)| PollFd::from_borrowed_fd(tcp.as_fd(), PollFlags::IN)));
        polled.extend(unix.map(|unix| PollFd::from_borrowed_fd(unix.as_fd(), PollFlags::IN)));
        let first = polled.len();
        polled.extend(self.open.iter().map(|connection| {
            PollFd::from_borrowed_fd(connection.socket(), connection.interest())
        }));
        // Rounded up, so that what is waited for is over then.
        let timeout = timeout.saturating_add(Duration::from_millis(1));
        let timeout = Timespec::try_from(timeout).ok();
        // Interrupted: nothing is ready, and the next turn begins.
        let _ = poll(&mut polled, timeout.as_ref());
        let is_ready = |at: usize| polled.get(at).is_some_and(|fd| !fd.revents().is_empty());
        if is_ready(0) {
            let _ = read(&self.shared.wake, &mut [0; 8]);
        }
        Ready {
            tcp: tcp.is_some() && is_ready(1),
            unix: unix.is_some() && is_ready(first - 1),
            open: polled[first..].iter().map(PollFd::revents).collect(),
        }
    }

    /// Those whose sockets are ready.
    fn serve(&mut self, ready: &[PollFlags]) {
        let now = Instant::now();
        let questions = &self.shared.questions;
        let mut ready = ready.iter();
        self.open.retain_mut(|connection| {
            let ready = *ready.next().unwrap_or(&PollFlags::empty());
            ready.is_empty() || goes_on(connection.ready(ready, now), connection, questions, now)
        });
        self.bound_memory();
    }

    /// Answers that have come, to those who wait for them.
    fn hand_out(&mut self) {
        let now = Instant::now();
        let questions = &self.shared.questions;
        self.open.retain_mut(|connection| match connection.topic() {
            Some(topic) => goes_on(Next::Ask(topic), connection, questions, now),
            None => true,
        });
        self.bound_memory();
    }

    fn expire(&mut self, now: Instant) {
        let questions = &self.shared.questions;
        self.open.retain_mut(|connection| {
            connection.deadline > now || goes_on(connection.late(now), connection, questions, now)
        });
    }

    fn forget(&self, now: Instant) -> Option<Instant> {
        let mut large = false;
        let next = self.shared.questions.forget(now, |reply: Arc<Reply>| {
            large |= reply.body.len() > LARGE;
        });
        if large {
            (self.shared.release)();
        }
        next
    }

    fn let_in_http(&mut self) {
        for _ in 0..TURN {
            let Some((listener, metrics_for_all)) = &self.tcp else {
                return;
            };
            let metrics_for_all = *metrics_for_all;
            match listener.accept() {
                Ok((stream, from)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    let source = source_of(from);
                    let metrics = metrics_for_all || from.ip().to_canonical().is_loopback();
                    self.admit(stream.into(), Door::Http { source, metrics });
                }
                Err(error) if self.is_over(&error) => return,
                Err(_) => {}
            }
        }
    }

    fn let_in_peers(&mut self) {
        for _ in 0..TURN {
            let Some(listener) = &self.unix else {
                return;
            };
            match listener.accept() {
                Ok((stream, _)) => {
                    let own = rustix::process::geteuid();
                    let known = socket_peercred(&stream)
                        .is_ok_and(|peer| peer.uid == own || peer.uid.as_raw() == ROOT);
                    if known && stream.set_nonblocking(true).is_ok() {
                        self.admit(stream.into(), Door::Peers);
                    }
                }
                Err(error) if self.is_over(&error) => return,
                Err(_) => {}
            }
        }
    }

    /// Whether nobody else can be let in now. When files run out, someone has to make room.
    fn is_over(&mut self, error: &io::Error) -> bool {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match errno {
            // That client went away, or it was only an interruption: there may be others.
            Some(Errno::CONNABORTED | Errno::INTR) => false,
            Some(Errno::AGAIN) => true,
            _ => {
                self.make_room(|_| true);
                self.paused_until = Some(Instant::now() + PAUSE);
                true
            }
        }
    }

    fn admit(&mut self, socket: OwnedFd, door: Door) {
        let count = |doors: &Self, which: &dyn Fn(&Connection) -> bool| {
            doors
                .open
                .iter()
                .filter(|connection| which(connection))
                .count()
        };
        match door {
            Door::Http { source, .. } => {
                let same = |connection: &Connection| matches!(connection.door, Door::Http { source: other, .. } if other == source);
                if count(self, &same) >= MAX_PER_SOURCE {
                    self.make_room(same);
                } else if count(self, &is_http) >= MAX_HTTP {
                    self.make_room(is_http);
                }
            }
            Door::Peers => {
                if count(self, &is_peers) >= MAX_PEERS {
                    self.make_room(is_peers);
                }
            }
        }
        let now = Instant::now();
        let mut connection = Connection::new(socket, door, now);
        // Most send their request along.
        let next = match connection.topic() {
            Some(topic) => Next::Ask(topic),
            None => connection.ready(PollFlags::IN, now),
        };
        if goes_on(next, &mut connection, &self.shared.questions, now) {
            self.open.push_back(connection);
            self.bound_memory();
        }
    }

    /// Closes one of those of whom `which` holds, the one that is worth least.
    fn make_room(&mut self, which: impl Fn(&Connection) -> bool) {
        let candidates = self.open.iter().enumerate().filter(|(_, one)| which(one));
        if let Some((at, _)) = candidates.min_by_key(|(_, one)| one.worth()) {
            self.open.remove(at);
        }
    }

    /// Closes those who still fetch old answers where all are too long together.
    fn bound_memory(&mut self) {
        loop {
            let replies = self.open.iter().filter_map(Connection::reply);
            let held: HashMap<*const Reply, &Arc<Reply>> =
                replies.map(|reply| (Arc::as_ptr(reply), reply)).collect();
            let bytes: usize = held.values().map(|reply| reply.body.len()).sum();
            if bytes <= MAX_BYTES || held.len() <= 1 {
                return;
            }
            let Some(oldest) = held.values().map(|reply| reply.made).min() else {
                return;
            };
            let is_newer = |one: &Connection| one.reply().is_none_or(|reply| reply.made > oldest);
            self.open.retain(is_newer);
        }
    }
}

/// What is ready.
struct Ready {
    tcp: bool,
    unix: bool,
    open: Vec<PollFlags>,
}

fn is_http(connection: &Connection) -> bool {
    matches!(connection.door, Door::Http { .. })
}

fn is_peers(connection: &Connection) -> bool {
    connection.door == Door::Peers
}

/// Does what a connection needs next. Answers whether it goes on.
fn goes_on(next: Next, connection: &mut Connection, questions: &Questions, now: Instant) -> bool {
    let next = match next {
        Next::Ask(topic) => match questions.ask(topic) {
            Some(reply) => connection.answer(&reply, now),
            None => Next::Wait,
        },
        other => other,
    };
    next != Next::End
}

/// Whom an address belongs to: a host has a whole /64 of IPv6.
fn source_of(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(ip) => {
            let prefix = u128::from(ip) >> 64 << 64;
            Ipv6Addr::from(prefix).into()
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests;
