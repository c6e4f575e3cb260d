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

    /// Adds an event. Beyond the capacity those of links and addresses, of which containers that start
    /// make thousands, are dropped for one that says that each may have happened.
    pub fn push(&self, event: Event) {
        let mut queue = self.lock();
        let Queue { events, .. } = &mut *queue;
        if is_hint(&event) && events.contains(&event) {
            return;
        }
        if is_detail(&event) && events.contains(&Event::Missed) {
            return;
        }
        if events.len() >= CAPACITY {
            events.retain(|event| !is_detail(event));
            // What is left is rare. Of too many the newest count.
            let surplus = (events.len() + 2).saturating_sub(CAPACITY);
            events.drain(..surplus);
            if !events.contains(&Event::Missed) {
                events.push_back(Event::Missed);
            }
            if is_detail(&event) {
                drop(queue);
                self.changed.notify_one();
                return;
            }
        }
        events.push_back(event);
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

/// Says that something may have changed, once as well as twice.
fn is_hint(event: &Event) -> bool {
    matches!(
        event,
        Event::Routes | Event::DefaultRoute | Event::PacketFilter | Event::Missed
    )
}

/// One of as many as there are devices and addresses; [`Event::Missed`] stands for all of them.
fn is_detail(event: &Event) -> bool {
    matches!(event, Event::Link { .. } | Event::Address { .. })
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

    fn link(at: usize) -> Event {
        Event::Link {
            name: format!("veth{at}"),
            up: true,
            mtu: 1500,
            present: true,
        }
    }

    fn taken(events: &Events) -> Vec<Event> {
        events.push(event(usize::MAX));
        let mut all = Vec::new();
        loop {
            match events.next() {
                Some(next) if next == event(usize::MAX) => return all,
                Some(next) => all.push(next),
                None => panic!("closed"),
            }
        }
    }

    #[test]
    fn a_flood_of_links_drops_nothing_else() {
        let events = Events::default();
        let failed = Event::Tunnel {
            message: "gone".into(),
            failed: true,
        };
        events.push(failed.clone());
        for at in 0..10 * CAPACITY {
            events.push(link(at));
        }
        events.push(Event::PacketFilter);
        assert_eq!(taken(&events), [failed, Event::Missed, Event::PacketFilter]);
        // Once that was taken, news are news.
        events.push(link(0));
        assert_eq!(taken(&events), [link(0)]);
    }

    #[test]
    fn a_hint_waits_once() {
        let events = Events::default();
        for _ in 0..3 {
            events.push(Event::DefaultRoute);
            events.push(Event::Routes);
        }
        assert_eq!(taken(&events), [Event::DefaultRoute, Event::Routes]);
    }

    #[test]
    fn others_are_bounded_too() {
        let events = Events::default();
        for at in 0..3 * CAPACITY {
            events.push(event(at));
        }
        let all = taken(&events);
        assert!(all.len() <= CAPACITY, "{}", all.len());
        assert!(all.contains(&Event::Missed));
        assert_eq!(all.last(), Some(&event(3 * CAPACITY - 1)));
    }
}
