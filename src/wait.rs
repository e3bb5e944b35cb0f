//! Who waits in the room, and for what: readers for something to read, senders for something to be dropped.
//!
//! Both are plain data under the room's lock. Waking happens after the lock is released: an operation collects the wakers
//! it owes in a [`Wakes`], and whoever holds the lock wakes them once it is free, so that no woken task runs into it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::task::Waker;

/// Wakers that an operation on the room owes, to be woken when its lock is released.
#[derive(Debug, Default)]
pub(crate) struct Wakes(Vec<Waker>);

impl Wakes {
    pub(crate) fn push(&mut self, waker: Waker) {
        self.0.push(waker);
    }

    pub(crate) fn wake_all_after_unlock(self) {
        for waker in self.0 {
            waker.wake();
        }
    }
}

/// Readers parked at the end of what was published, and the *sweep* that is waking them.
///
/// A sweep takes all parked readers that are behind at once. Each of them *owes* a check-in: that it has written what it was
/// woken for, or found nothing, or cannot write, or is gone. While somebody owes, nobody is woken for what is new, and all but
/// a little of it is not published either: it gathers for the next sweep, and so everybody writes few large runs, not many
/// small ones.
///
/// Invariant: a reader is in the list at most once, under the index that it was given or was told since.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    parked: Vec<(usize, Waker)>,
    owing: usize,
}

impl Readers {
    /// Whether a sweep is under way.
    pub(crate) fn are_sweeping(&self) -> bool {
        self.owing > 0
    }

    /// How many owe a check-in.
    pub(crate) fn owing(&self) -> usize {
        self.owing
    }

    /// Parks the reader `key`; returns its index in the list.
    pub(crate) fn park(&mut self, key: usize, waker: Waker) -> usize {
        self.parked.push((key, waker));
        self.parked.len() - 1
    }

    /// Changes the waker of a reader that is parked at `index`.
    pub(crate) fn repark(&mut self, index: usize, waker: &Waker) {
        self.parked[index].1.clone_from(waker);
    }

    /// Takes the reader at `index` out; returns its waker, and the key of the one that is now parked there instead, if any.
    pub(crate) fn unpark(&mut self, index: usize) -> (Waker, Option<usize>) {
        let (_, waker) = self.parked.swap_remove(index);
        (waker, self.parked.get(index).map(|(key, _)| *key))
    }

    /// Begins a sweep: takes the parked readers that are due, by their keys, who now owe a check-in each. The others may have
    /// other indices then, see [`parked`](Self::parked). It may begin while the last one is under way.
    pub(crate) fn sweep(&mut self, wakes: &mut Wakes, mut is_due: impl FnMut(usize) -> bool) {
        wakes.0.reserve(self.parked.len());
        for (_, waker) in self.parked.extract_if(.., |(key, _)| is_due(*key)) {
            self.owing += 1;
            wakes.push(waker);
        }
    }

    /// The keys of those who are parked, in the order of their indices.
    pub(crate) fn parked(&self) -> impl Iterator<Item = usize> {
        self.parked.iter().map(|(key, _)| *key)
    }

    /// One who owed has checked in.
    pub(crate) fn check_in(&mut self) {
        self.owing = self.owing.checked_sub(1).expect("only who was woken checks in");
    }
}

/// A place in the queue of senders; a smaller one is served first.
pub(crate) type Ticket = NonZeroU64;

/// Senders parked on a full backlog: first come, first served.
///
/// Only the first is woken when there is room, and the next only once it has had its turn or is gone. A newcomer queues
/// behind them all.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    /// `None`: woken, and now expected to take its turn.
    queue: BTreeMap<Ticket, Option<Waker>>,
    /// How many have parked so far.
    parked: u64,
}

impl Senders {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether `ticket`, or a newcomer without one, is next.
    pub(crate) fn is_next(&self, ticket: Option<Ticket>) -> bool {
        self.queue.keys().next().copied() == ticket
    }

    /// Parks a sender at its place, or a newcomer at the end.
    pub(crate) fn park(&mut self, ticket: Option<Ticket>, waker: &Waker) -> Ticket {
        let ticket = ticket.unwrap_or_else(|| {
            self.parked += 1;
            NonZeroU64::new(self.parked).expect("it counts from one")
        });
        self.queue.insert(ticket, Some(waker.clone()));
        ticket
    }

    /// Takes a sender out; returns its waker, unless it was woken.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Waker> {
        self.queue.remove(&ticket).flatten()
    }

    /// Wakes the first, unless it was woken already.
    pub(crate) fn wake_first(&mut self, wakes: &mut Wakes) {
        if let Some(mut first) = self.queue.first_entry()
            && let Some(waker) = first.get_mut().take()
        {
            wakes.push(waker);
        }
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Wakes) {
        for waker in self.queue.values_mut().filter_map(Option::take) {
            wakes.push(waker);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Bell;

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {}
    }

    /// Law 8: a task may be polled with another waker each time.
    #[test]
    fn parked_reader_is_woken_by_its_last_waker() {
        let last = Waker::from(Arc::new(Bell));
        let mut readers = Readers::default();
        let index = readers.park(7, Waker::noop().clone());
        readers.repark(index, &last);
        let mut wakes = Wakes::default();
        readers.sweep(&mut wakes, |key| key == 7);
        let [waker] = &wakes.0[..] else { panic!("one is parked") };
        assert!(waker.will_wake(&last));
    }
}
