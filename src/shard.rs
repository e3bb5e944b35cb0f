//! Many futures in one task.
//!
//! A task of the runtime for each connection costs half a kilobyte, and CPU time for every poll (`benches/README.md` has
//! both). A [`Shard`] is one task that polls many futures itself. Each has a waker of its own, which puts the future's key
//! into the shard's queue: first woken, first polled. But where a crowd is due, a few that were woken since overtake it each
//! turn: a line that somebody has just sent does not wait until everyone has got the one before.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::PoisonError;
use std::task::{Context, Poll, Wake, Waker};

use arrayvec::ArrayVec;
use slab::Slab;

use crate::sync::{Arc, Mutex};

/// Futures polled in one turn of the shard's task; then the network is looked at, and other tasks have theirs.
const POLLS_PER_TURN: usize = 64;

/// Futures woken since the last turn that are polled before those that were due then. A small part of a turn, so that the
/// others have theirs.
const OVERTAKING: usize = 8;

/// Futures that are touched before the first of them is polled.
const TOUCHED: usize = 8;

/// A future's index; half a word, as a crowd has many.
type Key = u32;

/// How a future ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was ready.
    Done,
    /// It panicked, and is gone; the others go on.
    Panicked,
}

/// Futures, of which those are polled that were woken.
#[derive(Debug)]
pub(crate) struct Shard<F> {
    slots: Slab<Slot<F>>,
    /// Keys that were taken out of the queue, and are polled next.
    due: VecDeque<Key>,
    queue: Arc<Queue>,
    /// Touches what polls of these futures touch first.
    touch: fn(&[&F]),
    /// How many of those due next were touched.
    touched: usize,
}

#[derive(Debug)]
struct Slot<F> {
    future: F,
    waking: std::sync::Arc<Waking>,
}

impl<F: Future<Output = ()> + Unpin> Shard<F> {
    /// An empty shard. `touch` reads a little of what polls of some futures will read first; it may do nothing.
    pub(crate) fn new(touch: fn(&[&F])) -> Self {
        Self { slots: Slab::new(), due: VecDeque::new(), queue: Arc::default(), touch, touched: 0 }
    }

    /// Adds a future, to be polled soon.
    pub(crate) fn insert(&mut self, future: F) {
        let entry = self.slots.vacant_entry();
        let key = Key::try_from(entry.key()).expect("fewer futures than memory has room for");
        let waking = std::sync::Arc::new(Waking { queue: Arc::clone(&self.queue), key });
        entry.insert(Slot { future, waking });
        self.due.push_back(key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Polls the futures that are due until one of them has ended. Pending when none is due, or when a turn is over; the
    /// task is woken when there is more to do. Cancel safe.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if !self.due.is_empty() {
            self.take_woken(cx.waker());
        }
        for _ in 0..POLLS_PER_TURN {
            let Some(key) = self.next_due(cx.waker()) else { return Poll::Pending };
            // A waker may outlive its future. (One that comes to another future by that polls it for nothing.)
            let Some(Slot { future, waking }) = self.slots.get_mut(key as usize) else { continue };
            let waker = Waker::from(std::sync::Arc::clone(waking));
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(&mut Context::from_waker(&waker))));
            if matches!(polled, Ok(Poll::Pending)) {
                continue;
            }
            let slot = self.slots.remove(key as usize);
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(slot)));
            let ended = if polled.and(dropped.map(Poll::Ready)).is_ok() { Ended::Done } else { Ended::Panicked };
            return Poll::Ready(ended);
        }
        yield_now(cx)
    }

    fn next_due(&mut self, waker: &Waker) -> Option<Key> {
        if self.due.is_empty() {
            self.take_woken(waker);
        }
        if self.touched == 0 {
            self.touch_next();
        }
        self.touched -= 1;
        self.due.pop_front()
    }

    fn take_woken(&mut self, waker: &Waker) {
        self.queue.take(&mut self.due, waker);
        self.touched = 0;
    }

    /// Between two polls the kernel fills the caches with what is its own, so every poll begins with misses, one after the
    /// other. Those of several polls at once cost little more than those of one. (Measured: a quarter of the CPU time outside
    /// the kernel.)
    fn touch_next(&mut self) {
        let next = self.due.iter().take(TOUCHED).filter_map(|key| self.slots.get(*key as usize));
        let futures: ArrayVec<&F, TOUCHED> = next
            .map(|slot| {
                std::hint::black_box(slot.waking.key);
                &slot.future
            })
            .collect();
        (self.touch)(&futures);
        self.touched = TOUCHED;
    }
}

/// Keys of the futures that were woken.
#[derive(Debug, Default)]
struct Queue(Mutex<Woken>);

#[derive(Debug, Default)]
struct Woken {
    /// Each at most once.
    keys: VecDeque<Key>,
    /// By key: whether it is in `keys`.
    is_queued: Vec<bool>,
    /// Wakes the shard's task. `None` while that has more to do, or was woken.
    task: Option<Waker>,
}

impl Queue {
    /// Moves keys before those in `due`: a few, or all if there are none. When nothing is due then, `task` is woken by the
    /// next.
    fn take(&self, due: &mut VecDeque<Key>, task: &Waker) {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Woken { keys, is_queued, .. } = &mut *woken;
        let count = if due.is_empty() { keys.len() } else { keys.len().min(OVERTAKING) };
        for key in keys.drain(..count).rev() {
            // From here on it can be woken again: what it is woken for may come after its poll.
            is_queued[key as usize] = false;
            due.push_front(key);
        }
        if due.is_empty() {
            woken.task = Some(task.clone());
        }
    }

    fn push(&self, key: Key) {
        let index = key as usize;
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.is_queued.len() <= index {
            woken.is_queued.resize(index + 1, false);
        }
        if std::mem::replace(&mut woken.is_queued[index], true) {
            return;
        }
        woken.keys.push_back(key);
        let task = woken.task.take();
        drop(woken);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// Wakes one future of a shard.
#[derive(Debug)]
struct Waking {
    queue: Arc<Queue>,
    key: Key,
}

impl Wake for Waking {
    fn wake(self: std::sync::Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &std::sync::Arc<Self>) {
        self.queue.push(self.key);
    }
}

/// Lets the other tasks run first, and the network be looked at.
pub(crate) fn yield_now<T>(cx: &mut Context<'_>) -> Poll<T> {
    // Polled once, it has this task woken after the runtime has seen to its timers and sockets.
    let _pending = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// What was polled, and by which waker it is polled again.
    #[derive(Default)]
    struct Polls(std::sync::Mutex<(Vec<usize>, Vec<Option<Waker>>)>);

    impl Polls {
        fn take(&self) -> Vec<usize> {
            std::mem::take(&mut self.0.lock().unwrap().0)
        }

        fn wake(&self, index: usize) {
            let waker = self.0.lock().unwrap().1[index].clone();
            waker.expect("it was polled").wake();
        }
    }

    /// Never ends.
    struct Endless(usize, std::sync::Arc<Polls>);

    impl Future for Endless {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let mut polls = self.1.0.lock().unwrap();
            polls.0.push(self.0);
            polls.1[self.0] = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    #[test]
    fn few_overtake_a_crowd_each_turn() {
        let crowd = 2 * POLLS_PER_TURN;
        let polls = std::sync::Arc::new(Polls::default());
        polls.0.lock().unwrap().1.resize(crowd, None);
        let mut shard = Shard::new(|_| ());
        for index in 0..crowd {
            shard.insert(Endless(index, std::sync::Arc::clone(&polls)));
        }
        let mut turn = || {
            assert!(shard.poll_ended(&mut Context::from_waker(Waker::noop())).is_pending());
            polls.take()
        };
        assert!(turn().into_iter().eq(0..POLLS_PER_TURN), "a turn, in order");
        let woken = OVERTAKING + 2;
        for index in 0..woken {
            polls.wake(index);
            polls.wake(index);
        }
        let due = POLLS_PER_TURN..crowd - OVERTAKING;
        assert!(turn().into_iter().eq((0..OVERTAKING).chain(due)), "a few overtake");
        polls.wake(0);
        let rest = (OVERTAKING..woken).chain([0]).chain(crowd - OVERTAKING..crowd);
        assert!(turn().into_iter().eq(rest), "first woken, first polled, and each once");
        assert!(turn().is_empty(), "nobody was woken");
    }

    #[test]
    fn shard_is_empty_once_all_its_futures_have_ended() {
        let mut shard = Shard::new(|_| ());
        assert!(shard.is_empty());
        for _ in 0..2 {
            shard.insert(std::future::ready(()));
        }
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(!shard.is_empty());
            assert_eq!(shard.poll_ended(&mut cx), Poll::Ready(Ended::Done));
        }
        assert!(shard.is_empty());
        assert!(shard.poll_ended(&mut cx).is_pending(), "nobody is due");
    }

    /// Never ends, and counts how often it is touched between two polls.
    #[derive(Default)]
    struct Touched(std::cell::Cell<usize>);

    impl Future for Touched {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
            assert_eq!(self.0.take(), 1, "touched before each poll, and once");
            Poll::Pending
        }
    }

    /// Or the misses that touching saves come back, and no law would tell.
    #[test]
    fn every_future_of_a_crowd_is_touched_before_it_is_polled() {
        let mut shard = Shard::new(|futures: &[&Touched]| {
            for future in futures {
                future.0.set(future.0.get() + 1);
            }
        });
        for _ in 0..2 * POLLS_PER_TURN {
            shard.insert(Touched::default());
        }
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(shard.poll_ended(&mut cx).is_pending(), "no poll panicked");
        }
    }
}
