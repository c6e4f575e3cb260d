//! What the server asks the program, and what it was told.
//!
//! However many ask it, there is one question per topic under way, and an answer serves all who
//! come within its life: so the program's work does not grow with the number of requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the program is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Health,
    Readiness,
    Metrics,
    Peers,
}

/// All topics, in the order of their numbers.
pub const TOPICS: [Topic; 4] = [
    Topic::Health,
    Topic::Readiness,
    Topic::Metrics,
    Topic::Peers,
];

impl Topic {
    /// The topic of a path.
    pub fn of(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Readiness),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }

    /// The name by which the program knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Readiness => "readiness",
            Self::Metrics => "metrics",
            Self::Peers => "peers",
        }
    }

    /// How long an answer serves others.
    const fn life(self) -> Duration {
        match self {
            Self::Health | Self::Readiness => Duration::from_millis(100),
            Self::Metrics | Self::Peers => Duration::from_secs(1),
        }
    }
}

/// An answer of the program's.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    pub made: Instant,
}

#[derive(Default)]
struct Slot {
    /// Asked, and not answered to the end.
    asked: bool,
    /// Parts of an answer until its last.
    parts: Vec<u8>,
    reply: Option<Arc<Reply>>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Topic>,
    slots: [Slot; TOPICS.len()],
    closed: bool,
}

/// See the module.
#[derive(Default)]
pub struct Questions {
    state: Mutex<State>,
    asked: Condvar,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next question; none once closed.
    pub fn next(&self) -> Option<Topic> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(topic) = state.queue.pop_front() {
                return Some(topic);
            }
            state = self
                .asked
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes who waits, for good.
    pub fn close(&self) {
        self.lock().closed = true;
        self.asked.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Adds a part to an answer. The last one makes it complete: then it answers true.
    pub fn answer(&self, topic: Topic, status: u16, part: &[u8], last: bool) -> bool {
        let mut state = self.lock();
        let slot = &mut state.slots[topic as usize];
        slot.parts.extend_from_slice(part);
        if last {
            let body = std::mem::take(&mut slot.parts);
            let made = Instant::now();
            slot.reply = Some(Arc::new(Reply { status, body, made }));
            slot.asked = false;
        }
        last
    }

    /// The answer to a question where there is a fresh one; else it is asked.
    pub fn ask(&self, topic: Topic) -> Option<Arc<Reply>> {
        let mut state = self.lock();
        let slot = &mut state.slots[topic as usize];
        if let Some(reply) = &slot.reply {
            return Some(Arc::clone(reply));
        }
        if !slot.asked {
            slot.asked = true;
            state.queue.push_back(topic);
            self.asked.notify_one();
        }
        None
    }

    /// Forgets answers whose life is over. Answers with when the next one's is.
    pub fn forget(&self, now: Instant, mut dropped: impl FnMut(Arc<Reply>)) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut state = self.lock();
        for topic in TOPICS {
            let slot = &mut state.slots[topic as usize];
            let Some(reply) = &slot.reply else {
                continue;
            };
            let end = reply.made + topic.life();
            if end > now {
                next = Some(next.map_or(end, |next| next.min(end)));
            } else if let Some(reply) = slot.reply.take() {
                dropped(reply);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_serves_all() {
        let questions = Questions::default();
        let topic = Topic::Metrics;
        for _ in 0..5 {
            assert!(questions.ask(topic).is_none());
        }
        assert_eq!(questions.next(), Some(topic));
        assert!(!questions.answer(topic, 200, b"a", false));
        assert!(questions.ask(topic).is_none());
        assert!(questions.answer(topic, 200, b"b", true));
        for _ in 0..5 {
            assert_eq!(questions.ask(topic).unwrap().body, b"ab");
        }
        let now = Instant::now();
        let end = questions.forget(now, |_| panic!("it is fresh")).unwrap();
        assert!(end > now);
        let mut dropped = 0;
        assert!(questions.forget(end, |_| dropped += 1).is_none());
        assert_eq!(dropped, 1);
        assert!(questions.ask(topic).is_none());
        questions.close();
        assert_eq!(questions.next(), None);
    }
}
