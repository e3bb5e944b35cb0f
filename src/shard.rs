//! Many futures in one task.
//!
//! A task of the runtime for each connection costs half a kilobyte, and CPU time for every poll (`benches/README.md` has
//! both). A [`Shard`] is one task that polls many futures itself. Each has a waker of its own, which puts the future's key
//! into the shard's queue: first woken, first polled.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::PoisonError;
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use crate::sync::{Arc, Mutex};

/// Futures polled in one turn of the shard's task; then the network is looked at, and other tasks have theirs.
const POLLS_PER_TURN: usize = 64;

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
    /// Touches what a poll of a future touches first.
    touch: fn(&F),
    /// How many of those due next were touched.
    touched: usize,
}

#[derive(Debug)]
struct Slot<F> {
    future: F,
    waking: std::sync::Arc<Waking>,
}

impl<F: Future<Output = ()> + Unpin> Shard<F> {
    /// An empty shard. `touch` reads a little of what a poll of a future will read first; it may do nothing.
    pub(crate) fn new(touch: fn(&F)) -> Self {
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
            self.queue.take(&mut self.due, waker);
            self.touched = 0;
        }
        if self.touched == 0 {
            self.touch_next();
        }
        self.touched -= 1;
        self.due.pop_front()
    }

    /// Between two polls the kernel fills the caches with what is its own, so every poll begins with misses, one after the
    /// other. Those of several polls at once cost little more than those of one. (Measured: a quarter of the CPU time outside
    /// the kernel.)
    fn touch_next(&mut self) {
        let next = || self.due.iter().take(TOUCHED).filter_map(|key| self.slots.get(*key as usize));
        for slot in next() {
            std::hint::black_box(slot.waking.key);
        }
        for slot in next() {
            (self.touch)(&slot.future);
        }
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
    /// Moves all keys into `due`, which is empty; when there are none, `task` is woken by the next.
    fn take(&self, due: &mut VecDeque<Key>, task: &Waker) {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.keys.is_empty() {
            woken.task = Some(task.clone());
        } else {
            std::mem::swap(due, &mut woken.keys);
            // From here on each can be woken again: what it is woken for may come after its poll.
            for &key in &*due {
                woken.is_queued[key as usize] = false;
            }
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
