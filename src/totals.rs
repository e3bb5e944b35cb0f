//! What has happened in a room since it was made, counted: for who watches over a server.
//!
//! What lines do is counted under the room's lock, where they do it. What connections do is rare beside that, and is counted apart,
//! by kind.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::sync::Mutex;

/// Counts that only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines that members have said.
    pub said_lines: u64,
    /// Bytes of the sequence that connections have taken, over all readers.
    pub delivered_bytes: u64,
    /// What has happened to connections, by kind and in order.
    pub events: Vec<(Event, u64)>,
}

/// Something that happens to a connection. The word says why, in a form that labels of metrics have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// It was let in.
    Accepted,
    /// It could not be accepted: no files are left, or it is gone already.
    AcceptError,
    /// It was not let in.
    Refused(&'static str),
    /// It has ended.
    Closed(&'static str),
}

/// How often each event was.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<BTreeMap<Event, u64>>);

impl Events {
    pub(crate) fn count(&self, event: Event) {
        // Poisoned or not: a count is changed in one step.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(event).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> Vec<(Event, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(event, count)| (*event, *count)).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself_and_they_come_in_order() {
        let events = Events::default();
        for event in [Event::Closed("left"), Event::Accepted, Event::Closed("lost"), Event::Closed("left")] {
            events.count(event);
        }
        let expected = [(Event::Accepted, 1), (Event::Closed("left"), 2), (Event::Closed("lost"), 1)];
        assert_eq!(events.counts(), expected);
    }
}
