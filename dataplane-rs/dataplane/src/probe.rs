//! Which hosts answer, and the largest packet that reaches them whole.
//!
//! All hosts are asked at once, in rounds of some hundred milliseconds: a small packet and one of the
//! size in question at first; where only the small one is answered, sizes between, in a search that
//! takes sixteen at a time.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::echo::{self, EchoSocket, SMALLEST};

/// Hosts that are asked in one call.
const MOST_TARGETS: usize = 256;
/// How often a packet is sent in a round, unless it is answered.
const ATTEMPTS: u32 = 3;
/// How long the first round waits after each attempt.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same for the rounds of the search.
const SEARCH_PATIENCE: Duration = Duration::from_millis(150);
/// Sizes that a round of the search tries.
const STEPS: usize = 16;
/// Rounds of the search: 65,535 / 17⁴ is less than one.
const MOST_ROUNDS: usize = 4;

/// One host.
#[derive(Deserialize, Debug)]
pub struct Target {
    pub ip: IpAddr,
    /// Source address; the kernel's choice where absent.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// Bytes of the IP packet that should reach it whole.
    pub size: u16,
}

/// What came of a [`Target`].
#[derive(Serialize, Clone, PartialEq, Eq, Default, Debug)]
pub struct Probed {
    /// It answered at all.
    pub answered: bool,
    /// Microseconds until the small packet's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micros: Option<u64>,
    /// Bytes of the largest IP packet that was answered, no more than was asked for; 0 for none.
    pub mtu: u16,
    /// Why nothing could be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Probes all targets; takes 1.5 s where one is silent, 3.5 s where a path is narrower than asked.
pub fn probe(targets: &[Target]) -> io::Result<Vec<Probed>> {
    let targets = &targets[..targets.len().min(MOST_TARGETS)];
    let mut prober = Prober::new(targets)?;
    let first = targets.iter().enumerate().flat_map(|(at, target)| {
        let smallest = SMALLEST as u16;
        [(at, smallest.min(target.size)), (at, target.size)]
    });
    prober.round(first.collect(), PATIENCE);
    for _ in 0..MOST_ROUNDS {
        let requests = prober.sizes_between();
        if requests.is_empty() {
            break;
        }
        prober.round(requests, SEARCH_PATIENCE);
    }
    Ok(prober.found)
}

/// Whose request a sequence number is, and when it was first sent.
struct Request {
    target: usize,
    size: u16,
    sent: Instant,
}

struct Prober<'a> {
    targets: &'a [Target],
    /// By family and source address.
    sockets: HashMap<(bool, Option<IpAddr>), EchoSocket>,
    found: Vec<Probed>,
    /// The smallest size of each target that was not answered.
    silent: Vec<u16>,
    sequence: u16,
}

impl<'a> Prober<'a> {
    fn new(targets: &'a [Target]) -> io::Result<Self> {
        let mut prober = Self {
            targets,
            sockets: HashMap::new(),
            found: vec![Probed::default(); targets.len()],
            silent: targets
                .iter()
                .map(|target| target.size.saturating_add(1))
                .collect(),
            sequence: 0,
        };
        // Another prober of this host must not take the answers for its own.
        let nanos = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |t| t.subsec_nanos());
        let id = std::process::id() as u16 ^ (nanos >> 8) as u16;
        for (at, target) in targets.iter().enumerate() {
            let key = (target.ip.is_ipv6(), target.from);
            if prober.sockets.contains_key(&key) {
                continue;
            }
            match EchoSocket::open(key.0, key.1, id) {
                Ok(socket) => {
                    prober.sockets.insert(key, socket);
                }
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
                Err(e) => prober.found[at].error = Some(e.to_string()),
            }
        }
        Ok(prober)
    }

    /// Sends the requests, a few times over where no answer comes, and takes note of the answers.
    fn round(&mut self, requests: Vec<(usize, u16)>, patience: Duration) {
        let mut waiting = HashMap::new();
        for (target, size) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let sent = Instant::now();
            waiting.insert(self.sequence, Request { target, size, sent });
        }
        let asked: Vec<(usize, u16)> = waiting
            .values()
            .map(|request| (request.target, request.size))
            .collect();
        for _ in 0..ATTEMPTS {
            self.send(&mut waiting);
            let end = Instant::now() + patience;
            while !waiting.is_empty() && Instant::now() < end {
                echo::wait(self.sockets.values(), end - Instant::now());
                self.receive(&mut waiting);
            }
        }
        for (target, size) in asked {
            if size > self.found[target].mtu {
                self.silent[target] = self.silent[target].min(size);
            }
        }
    }

    fn send(&mut self, waiting: &mut HashMap<u16, Request>) {
        for (sequence, request) in waiting.iter_mut() {
            let target = &self.targets[request.target];
            let key = (target.ip.is_ipv6(), target.from);
            let Some(socket) = self.sockets.get(&key) else {
                continue;
            };
            request.sent = Instant::now();
            match socket.send(target.ip, *sequence, request.size.into()) {
                Ok(()) => {}
                // Too large for the device, which the size says, or a full queue.
                Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => self.found[request.target].error = Some(e.to_string()),
            }
        }
    }

    fn receive(&mut self, waiting: &mut HashMap<u16, Request>) {
        for socket in self.sockets.values_mut() {
            while let Some(reply) = socket.receive() {
                let is_of = |request: &Request| self.targets[request.target].ip == reply.from;
                if !waiting.get(&reply.sequence).is_some_and(is_of) {
                    continue;
                }
                let Some(request) = waiting.remove(&reply.sequence) else {
                    continue;
                };
                let found = &mut self.found[request.target];
                found.answered = true;
                found.error = None;
                found.mtu = found.mtu.max(request.size);
                let micros = u64::try_from(request.sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                found.micros = Some(found.micros.map_or(micros, |known| known.min(micros)));
            }
        }
    }

    /// Sizes between the largest that was answered and the smallest that was not, of each target that
    /// answers.
    fn sizes_between(&self) -> Vec<(usize, u16)> {
        let mut requests = Vec::new();
        for (at, found) in self.found.iter().enumerate() {
            if found.answered {
                let sizes = between(found.mtu, self.silent[at]);
                requests.extend(sizes.map(|size| (at, size)));
            }
        }
        requests
    }
}

/// Up to [`STEPS`] sizes, evenly spread, greater than `low` and less than `high`.
fn between(low: u16, high: u16) -> impl Iterator<Item = u16> {
    let room = usize::from(high.saturating_sub(low)).saturating_sub(1);
    let steps = room.min(STEPS);
    (1..=steps).map(move |step| low + (step * (room + 1) / (steps + 1)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_lie_between_and_end() {
        assert_eq!(between(64, 65).count(), 0);
        assert_eq!(between(64, 66).collect::<Vec<_>>(), [65]);
        let all: Vec<u16> = between(64, 81).collect();
        assert_eq!(all, (65..81).collect::<Vec<_>>());
        let wide: Vec<u16> = between(64, 1501).collect();
        assert_eq!(wide.len(), STEPS);
        assert!(wide.is_sorted() && wide[0] > 64 && wide[15] < 1500);
    }

    #[test]
    fn four_rounds_find_any_size() {
        for limit in [65u16, 576, 1400, 1401, 8999, 65_000] {
            let (mut low, mut high) = (64, u16::MAX);
            for _ in 0..MOST_ROUNDS {
                let sizes: Vec<u16> = between(low, high).collect();
                low = sizes
                    .iter()
                    .copied()
                    .filter(|size| *size <= limit)
                    .max()
                    .unwrap_or(low);
                high = sizes
                    .iter()
                    .copied()
                    .filter(|size| *size > limit)
                    .min()
                    .unwrap_or(high);
            }
            assert_eq!(low, limit);
        }
    }
}
