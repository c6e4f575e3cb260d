//! The queue of events between the monitor and whoever waits for the next.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::report::Event;

/// Events kept for a reader that does not come.
const CAPACITY: usize = 1024;

/// See the module.
#[derive(Default)]
pub struct Events {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    closed: bool,
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Beyond the capacity all are dropped for one that says so.
    pub fn push(&self, event: Event) {
        let mut queue = self.lock();
        if queue.events.len() >= CAPACITY {
            queue.events.clear();
            let message = format!("{CAPACITY} events were dropped because none were read");
            queue.events.push_back(Event::Error { message });
        }
        queue.events.push_back(event);
        drop(queue);
        self.changed.notify_one();
    }

    /// Waits for the next event; none once closed.
    pub fn next(&self) -> Option<Event> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(event) = queue.events.pop_front() {
                return Some(event);
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes all who wait, for good.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn event(at: usize) -> Event {
        Event::Error {
            message: at.to_string(),
        }
    }

    #[test]
    fn close_wakes_a_waiting_reader() {
        let events = Arc::new(Events::default());
        let reader = std::thread::spawn({
            let events = Arc::clone(&events);
            move || events.next()
        });
        events.close();
        assert_eq!(reader.join().unwrap(), None);
    }

    #[test]
    fn overflow_is_told() {
        let events = Events::default();
        for at in 0..=CAPACITY {
            events.push(event(at));
        }
        let Some(Event::Error { message }) = events.next() else {
            panic!("no event");
        };
        assert!(message.contains("dropped"), "{message}");
        assert_eq!(events.next(), Some(event(CAPACITY)));
    }
}
