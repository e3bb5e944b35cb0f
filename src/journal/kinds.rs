//! How many lines of each kind the log takes: a pure rule, with the time as an argument.
//!
//! A kind is one place in the code that tells something. Of each, [`LINES_PER_SECOND`] are written within a second from the
//! first; those beyond are left out and counted, and when that second is over one line tells of them. There are no more kinds
//! than places in the code, so what is remembered is bounded.

use std::{
    fmt::{self, Write},
    mem,
    time::{Duration, Instant},
};

use tracing::{
    Event,
    callsite::Identifier,
    field::{Field, Visit},
};

/// Lines of one kind that are written within a second. More than one reads, and far less than a disk minds.
const LINES_PER_SECOND: u64 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// What tells of lines left out; it is never left out itself.
const TELLS: &str = "unisono::journal::left_out";

/// What each kind has told lately.
pub(super) struct Kinds<K = Identifier>(Vec<Kind<K>>);

impl<K> Default for Kinds<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct Kind<K> {
    is: K,
    /// Since when is counted.
    since: Instant,
    lines: u64,
    /// The message of the first that was left out.
    message: String,
}

/// Lines of one kind that were not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    lines: u64,
    message: String,
}

impl Kinds {
    /// Counts an event as of `now`, and says whether it is to be written.
    pub(super) fn passes(&mut self, event: &Event<'_>, now: Instant) -> bool {
        event.metadata().target() == TELLS || self.counts(event.metadata().callsite(), now, || message(event))
    }
}

impl<K: PartialEq> Kinds<K> {
    fn counts(&mut self, is: K, now: Instant, message: impl FnOnce() -> String) -> bool {
        let index = self.0.iter().position(|kind| kind.is == is).unwrap_or_else(|| {
            self.0.push(Kind { is, since: now, lines: 0, message: String::new() });
            self.0.len() - 1
        });
        let kind = &mut self.0[index];
        // With lines left out it goes on until they are told of.
        if kind.lines <= LINES_PER_SECOND && now.saturating_duration_since(kind.since) >= SECOND {
            (kind.since, kind.lines) = (now, 0);
        }
        kind.lines += 1;
        if kind.lines == LINES_PER_SECOND + 1 {
            kind.message = message();
        }
        kind.lines <= LINES_PER_SECOND
    }

    /// When the next line is due that tells of others left out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.iter().filter(|kind| kind.lines > LINES_PER_SECOND).map(|kind| kind.since + SECOND).min()
    }

    /// What is to be told as of `now`; each is counted anew from then on.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<LeftOut> {
        self.take(|kind| kind.since + SECOND <= now)
    }

    /// What is to be told at the end.
    pub(super) fn take_all(&mut self) -> Vec<LeftOut> {
        self.take(|_| true)
    }

    fn take(&mut self, is_due: impl Fn(&Kind<K>) -> bool) -> Vec<LeftOut> {
        let left_out = self.0.iter_mut().filter(|kind| kind.lines > LINES_PER_SECOND && is_due(kind));
        let left_out = left_out.map(|kind| LeftOut {
            lines: mem::take(&mut kind.lines) - LINES_PER_SECOND,
            message: mem::take(&mut kind.message),
        });
        left_out.collect()
    }
}

impl LeftOut {
    pub(super) fn tell(self) {
        tracing::warn!(target: TELLS, "{} more like this, left out: {}", self.lines, self.message);
    }
}

/// What the event says, without its fields.
fn message(event: &Event<'_>) -> String {
    struct Message(String);

    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                // A `String` takes everything.
                let _ = write!(self.0, "{value:?}");
            }
        }
    }

    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` events of a kind are written.
    fn written(kinds: &mut Kinds<usize>, kind: usize, now: Instant, count: u64) -> u64 {
        (0..count).map(|number| u64::from(kinds.counts(kind, now, || format!("{kind}: {number}")))).sum()
    }

    fn left_out(lines: u64, message: &str) -> LeftOut {
        LeftOut { lines, message: message.into() }
    }

    #[test]
    fn kind_is_written_up_to_its_most_and_the_rest_is_told_once_the_second_is_over() {
        let start = Instant::now();
        let mut kinds = Kinds::<usize>::default();
        assert_eq!(written(&mut kinds, 0, start, LINES_PER_SECOND), LINES_PER_SECOND);
        assert_eq!(kinds.next_due(), None);
        assert_eq!(written(&mut kinds, 0, start + SECOND / 2, 7), 0);
        assert_eq!(kinds.next_due(), Some(start + SECOND));
        assert_eq!(kinds.take_due(start + SECOND / 2), []);
        // Nobody has told of them yet.
        assert_eq!(written(&mut kinds, 0, start + SECOND, 1), 0);
        assert_eq!(kinds.take_due(start + SECOND), [left_out(8, "0: 0")]);
        assert_eq!((kinds.next_due(), kinds.take_all()), (None, vec![]));
        assert_eq!(written(&mut kinds, 0, start + 2 * SECOND, 1000), LINES_PER_SECOND);
        assert_eq!(kinds.take_all(), [left_out(1000 - LINES_PER_SECOND, "0: 20")]);
    }

    #[test]
    fn kinds_are_measured_apart() {
        let start = Instant::now();
        let mut kinds = Kinds::<usize>::default();
        assert_eq!(written(&mut kinds, 0, start, 1000), LINES_PER_SECOND);
        assert_eq!(written(&mut kinds, 1, start + SECOND / 4, 1), 1);
        assert_eq!(written(&mut kinds, 1, start + SECOND / 4, 1000), LINES_PER_SECOND - 1);
        assert_eq!(kinds.take_due(start + SECOND).len(), 1);
        assert_eq!(kinds.next_due(), Some(start + SECOND / 4 + SECOND));
    }

    #[test]
    fn slow_kind_is_never_left_out() {
        let start = Instant::now();
        let mut kinds = Kinds::<usize>::default();
        for second in 0..100 {
            assert_eq!(written(&mut kinds, 0, start + SECOND * second, LINES_PER_SECOND), LINES_PER_SECOND);
        }
        assert_eq!(kinds.take_all(), []);
    }
}
