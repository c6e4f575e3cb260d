//! The thread that keeps the kernel as desired: it listens to netlink's groups and reconciles when
//! a notification contradicts the desired state. Between notifications it sleeps in `poll`.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use crate::actual::{self, ActualLink};
use crate::judge::Judge;
use crate::message;
use crate::report::Event;
use crate::shared::Shared;
use crate::socket::{Messages, RtSocket, set_option, set_receive_queue};
use crate::waker::Waker;

/// RTNLGRP_LINK, NEIGH (with the fdb), IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE,
/// IPV6_RULE.
const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
/// Room for the notifications of some thousands of changes made while a reconcile is running;
/// beyond it the kernel says ENOBUFS, and everything is compared anew.
const RECEIVE_QUEUE: usize = 4 << 20;
const RECEIVE_BUFFER: usize = 64 << 10;
/// Time in which the notifications of one incident come together.
const SETTLE: Duration = Duration::from_millis(20);
/// The longest wait, when someone undoes each healing.
const LONGEST: Duration = Duration::from_secs(1);
/// A healing this long after the one before is a new incident.
const NEW_INCIDENT: Duration = Duration::from_secs(5);
/// Refused entries are tried again after this time, doubled up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Changes of foreign routes within this time are one event: a routing daemon makes thousands.
const ROUTES_SETTLE: Duration = Duration::from_millis(100);
/// The thread's own frames are small, and parsing is not recursive.
const STACK: usize = 256 << 10;

/// Starts the monitor. Changes by the socket with port number `own_port` are not looked at.
pub fn start(shared: Arc<Shared>, own_port: u32) -> io::Result<(Waker, JoinHandle<()>)> {
    let waker = Waker::new()?;
    // Before the thread starts, so that nothing that happens after `open` is missed.
    let socket = subscribe(own_port)?;
    let judge = Judge::new(list_links()?);
    let monitor = Monitor {
        shared,
        waker: waker.clone(),
        own_port,
        socket,
        judge,
        due: None,
        routes_due: None,
        streak: 0,
        healed: None,
        retry: FIRST_RETRY,
        failure: None,
        buffer: Vec::with_capacity(RECEIVE_BUFFER),
    };
    let thread = std::thread::Builder::new()
        .name("netlink-monitor".to_string())
        .stack_size(STACK)
        .spawn(move || monitor.run())?;
    Ok((waker, thread))
}

fn list_links() -> io::Result<Vec<ActualLink>> {
    RtSocket::open()?.dump(&message::get_links(), actual::link)
}

fn subscribe(own_port: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    set_receive_queue(&socket, RECEIVE_QUEUE)?;
    // Without the filter the same messages are dropped after they were received.
    let _ = drop_own(&socket, own_port);
    socket.bind_auto()?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

const RTM_NEWROUTE: u16 = 24;

/// Lets the kernel drop notifications of our own route and neighbour changes, of which a batch
/// makes thousands. Those of links are needed to know the devices' indices.
fn drop_own(socket: &Socket, own_port: u32) -> io::Result<()> {
    const TYPE_LOW_BYTE: u32 = if cfg!(target_endian = "little") { 4 } else { 5 };
    const PORT: u32 = 12;
    const PASS: u32 = u32::MAX;
    // BPF loads words as big-endian.
    let port = u32::from_be_bytes(own_port.to_ne_bytes());
    let load_byte = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let load_word = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let at_least = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(load_byte, 0, 0, TYPE_LOW_BYTE),
        step(at_least, 0, 3, u32::from(RTM_NEWROUTE)),
        step(load_word, 0, 0, PORT),
        step(equal, 0, 1, port),
        step(give, 0, 0, 0),
        step(give, 0, 0, PASS),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

struct Monitor {
    shared: Arc<Shared>,
    waker: Waker,
    own_port: u32,
    socket: Socket,
    judge: Judge,
    /// When to reconcile.
    due: Option<Instant>,
    /// When to tell that foreign routes have changed.
    routes_due: Option<Instant>,
    /// Healings of the present incident.
    streak: u32,
    healed: Option<Instant>,
    retry: Duration,
    /// Why healing failed last, until it works: told once.
    failure: Option<String>,
    buffer: Vec<u8>,
}

impl Monitor {
    fn run(mut self) {
        loop {
            let result = self.wait().and_then(|()| self.read());
            if self.waker.is_closed() {
                return;
            }
            if let Err(error) = result {
                self.reopen(&error);
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.heal();
            }
            if self.routes_due.is_some_and(|due| due <= Instant::now()) {
                self.routes_due = None;
                self.shared.events.push(Event::Routes);
            }
        }
    }

    /// Sleeps until there is something to read, to heal, or to end.
    fn wait(&self) -> io::Result<()> {
        let due = [self.due, self.routes_due].into_iter().flatten().min();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        self.waker.wait(Some(self.socket.as_raw_fd()), left)?;
        Ok(())
    }

    /// Takes all notifications that wait.
    fn read(&mut self) -> io::Result<()> {
        let desired = self.shared.desired();
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.resync()?;
                    continue;
                }
                Err(e) => return Err(e),
            }
            let (mut heal, mut routes) = (false, false);
            for raw in Messages(&self.buffer) {
                if raw.port == self.own_port && raw.kind >= RTM_NEWROUTE {
                    continue;
                }
                let Some(message) = raw.parse() else { continue };
                let wrong = self
                    .judge
                    .take(message, desired.as_deref(), |event| match event {
                        Event::Routes => routes = true,
                        other => self.shared.events.push(other),
                    });
                heal |= wrong && raw.port != self.own_port;
            }
            if heal {
                self.schedule(self.pause());
            }
            if routes {
                self.routes_due
                    .get_or_insert_with(|| Instant::now() + ROUTES_SETTLE);
            }
        }
    }

    /// Notifications were lost: looks at everything.
    fn resync(&mut self) -> io::Result<()> {
        let links = list_links()?;
        let desired = self.shared.desired();
        self.judge.replace(links, desired.as_deref(), |event| {
            self.shared.events.push(event)
        });
        self.schedule(SETTLE);
        self.routes_due = Some(Instant::now());
        Ok(())
    }

    fn reopen(&mut self, error: &io::Error) {
        let message = format!("the netlink monitor failed and is restarted: {error}");
        self.shared.events.push(Event::Error { message });
        std::thread::sleep(LONGEST);
        if let Ok(socket) = subscribe(self.own_port) {
            self.socket = socket;
            // When it fails, the next round comes here again.
            let _ = self.resync();
        }
    }

    /// How long to wait before healing: longer each time within an incident.
    fn pause(&self) -> Duration {
        let fresh = self.healed.is_none_or(|at| at.elapsed() > NEW_INCIDENT);
        if fresh {
            SETTLE
        } else {
            (SETTLE * 2u32.saturating_pow(self.streak.min(10))).min(LONGEST)
        }
    }

    fn schedule(&mut self, pause: Duration) {
        let at = Instant::now() + pause;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn heal(&mut self) {
        self.due = None;
        match self.shared.reconcile() {
            Ok(None) => {}
            Ok(Some((report, news))) => {
                self.failure = None;
                if report.touched() {
                    let fresh = self.healed.is_none_or(|at| at.elapsed() > NEW_INCIDENT);
                    self.streak = if fresh { 1 } else { self.streak + 1 };
                    self.healed = Some(Instant::now());
                }
                if report.errors.is_empty() {
                    self.retry = FIRST_RETRY;
                } else {
                    self.schedule(self.retry);
                    self.retry = (self.retry * 2).min(LAST_RETRY);
                }
                if report.touched() || news {
                    self.shared.events.push(Event::Healed { report });
                }
            }
            Err(error) => {
                let message = format!("restoring kernel state failed and is retried: {error}");
                if self.failure.as_ref() != Some(&message) {
                    self.failure = Some(message.clone());
                    self.shared.events.push(Event::Error { message });
                }
                self.schedule(LONGEST);
            }
        }
    }
}
