//! Model checking of unisono: what the models in `tests/` have in common.
//!
//! A model is two or three threads over the room as it ships. Loom runs it under every schedule that has at most so many
//! pre-emptions, and fails where a thread panics, where all of them wait (a lost wake), or where something shared is still
//! there at the end. What stands before the first `thread::spawn` has one schedule only, so setting up costs nothing.
#![cfg(loom)]

use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use loom::alloc::Track;
use loom::future::block_on;
use unisono::log::Batch;
use unisono::room::{Closed, Member, Next, Tally, Turn};
use unisono::{Lang, Limits, Room, Wire};

/// Checks a model with at most `bound` pre-emptions (all schedules if `None`), or with `LOOM_MAX_PREEMPTIONS` of them, and
/// prints how many executions that were.
///
/// # Panics
///
/// When one of them fails.
pub fn model<F: Fn() + Send + Sync + 'static>(bound: Option<usize>, check: F) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(bound);
    builder.max_branches = 10_000;
    let bound = builder.preemption_bound.map_or("unbounded".into(), |bound| format!("bound {bound}"));
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let from = Instant::now();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        check();
    });
    // A closure's type has the name of the test that it is in.
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let (executions, seconds) = (executions.load(Ordering::Relaxed), from.elapsed().as_secs_f32());
    // Not `eprintln`, which a test that passes swallows.
    let _ = writeln!(io::stderr(), "{name}: {executions} executions, {bound}, {seconds:.1} s");
}

/// As small as a room may be: it is full with two [blocks](block) behind its oldest line.
///
/// # Panics
///
/// Never: these limits work.
pub fn room() -> Room {
    prompt_room(0)
}

/// A [`room`] in which so much of what is said amid a sweep is told at once.
///
/// # Panics
///
/// Never: these limits work.
pub fn prompt_room(prompt_bytes: usize) -> Room {
    let limits = Limits { line_bytes_max: 1, backlog_bytes: 408, prompt_bytes, ..Limits::default() };
    Room::new(limits, Wire { lang: Lang::En, ..Wire::default() }).expect("limits that work")
}

/// A [`room`] in which so many comings and goings of strangers are told by name in a period.
///
/// # Panics
///
/// Never: these limits work.
pub fn crowded_room(announcements: usize) -> Room {
    let limits =
        Limits { line_bytes_max: 1, backlog_bytes: 408, announcements: Some(announcements), ..Limits::default() };
    Room::new(limits, Wire { lang: Lang::En, ..Wire::default() }).expect("limits that work")
}

/// The bytes of the longest line that a turn in [`room`] has a place for.
pub const BLOCK_BYTES: usize = 335;

/// As many bytes as a turn in [`room`] has a place for, in one line.
///
/// # Panics
///
/// When the room's limits are others.
pub fn block(room: &Room) -> String {
    assert_eq!(room.limits().turn_bytes(), BLOCK_BYTES);
    "-".repeat(BLOCK_BYTES - 1) + "\n"
}

/// A member, and what it has read.
#[derive(Debug)]
pub struct Peer {
    /// Its place in the room.
    pub member: Member,
    /// Everything that it has read.
    pub seen: String,
    /// How often it was the last of a sweep, and asked to come again.
    pub laters: usize,
    taken_bytes: usize,
}

impl Peer {
    /// Enters.
    ///
    /// # Panics
    ///
    /// When the room is closed.
    pub fn enter(room: &Room, who: &str) -> Self {
        Self::try_enter(room, who).expect("the room is open")
    }

    /// Enters, if the room is not closed before that.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub fn try_enter(room: &Room, who: &str) -> Result<Self, Closed> {
        let mut peer = Self { member: room.seat(who), seen: String::new(), laters: 0, taken_bytes: 0 };
        let mut turn = peer.turn()?;
        peer.member.enter(&mut turn)?;
        Ok(peer)
    }

    /// Enters and reads nothing, so that nobody waits for it.
    ///
    /// # Panics
    ///
    /// As [`enter`](Self::enter).
    pub fn enter_mute(room: &Room, who: &str) -> Self {
        let mut peer = Self::enter(room, who);
        peer.member.stop_reading();
        peer
    }

    /// Enters as a stranger and reads nothing.
    ///
    /// # Panics
    ///
    /// As [`enter`](Self::enter).
    pub fn enter_stranger(room: &Room, who: &str) -> Self {
        let mut peer = Self { member: room.seat(who), seen: String::new(), laters: 0, taken_bytes: 0 };
        let mut turn = peer.turn().expect("the room is open");
        peer.member.enter_stranger(&mut turn).expect("the room is open");
        drop(turn);
        peer.member.stop_reading();
        peer
    }

    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub fn turn(&mut self) -> Result<Turn, Closed> {
        wait(|cx| self.member.poll_turn(cx))
    }

    /// Says a line when there is room for it.
    pub fn poll_say(&mut self, line: &str, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.member.poll_turn(cx).map(|turn| self.member.say(&mut turn?, line.as_bytes()))
    }

    /// Waits for a turn and says a line.
    ///
    /// # Errors
    ///
    /// [`Closed`]; it was not said.
    pub fn say(&mut self, line: &str) -> Result<(), Closed> {
        wait(|cx| self.poll_say(line, cx))
    }

    /// Reads all there is. Pending when it is parked, ready when it cannot go on.
    ///
    /// # Panics
    ///
    /// When what it reads is no text, or it is to come again and again.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut batch = Batch::default();
        let mut is_last = false;
        loop {
            match self.member.poll_next(std::mem::take(&mut self.taken_bytes), &mut batch, cx) {
                Poll::Ready(Next::Lines) => {
                    for slice in &*batch.io_slices() {
                        self.seen.push_str(std::str::from_utf8(slice).expect("lines in English"));
                    }
                    self.taken_bytes = batch.bytes();
                    is_last = false;
                }
                Poll::Ready(Next::Later) => {
                    assert!(!is_last, "law 8: it comes again once");
                    is_last = true;
                    self.laters += 1;
                }
                other => return other,
            }
        }
    }

    /// Reads until it has seen `bytes`, no more and no less, and is parked behind them.
    ///
    /// # Panics
    ///
    /// When the room ends before, or there is more.
    pub fn read(&mut self, bytes: usize) {
        self.read_until(|seen| seen.len() >= bytes);
        assert_eq!(self.seen.len(), bytes, "{}", self.seen);
    }

    /// Reads until it has seen `enough`, and is parked behind that.
    ///
    /// # Panics
    ///
    /// When the room ends before.
    pub fn read_until(&mut self, enough: impl Fn(&str) -> bool) {
        wait(|cx| match self.poll_read(cx) {
            Poll::Pending if enough(&self.seen) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
            Poll::Ready(next) => panic!("{next:?} before all was read"),
        });
    }

    /// Reads until its end.
    ///
    /// # Panics
    ///
    /// When it is stopped before.
    pub fn read_to_end(&mut self) {
        assert_eq!(wait(|cx| self.poll_read(cx)), Next::End);
    }

    /// Reads what there is now, and forgets all that it has seen.
    pub fn forget(&mut self) {
        self.look();
        self.seen.clear();
    }

    /// Reads what there is now and returns all that it has seen; parked by a waker that wakes nobody.
    pub fn look(&mut self) -> &str {
        let _parked = self.poll_read(&mut Context::from_waker(Waker::noop()));
        &self.seen
    }
}

/// A room that is full, as its reader has yet to read its oldest line.
#[derive(Debug)]
pub struct Full {
    /// The room.
    pub room: Room,
    /// In the way.
    pub reader: Peer,
    /// Reads nothing.
    pub sender: Peer,
    /// What there is to read.
    pub bytes: usize,
}

/// A full room, with `others` who read nothing.
///
/// # Panics
///
/// Never: there is room for what makes it full.
pub fn full<const N: usize>(others: [&str; N]) -> (Full, [Peer; N]) {
    let room = room();
    let mut reader = Peer::enter(&room, "r");
    let mut sender = Peer::enter_mute(&room, "s");
    let others = others.map(|who| Peer::enter_mute(&room, who));
    reader.forget();
    let bytes = fill(&mut sender, 2);
    (Full { room, reader, sender, bytes }, others)
}

/// Says an oldest line and so many [blocks](block); returns how many bytes that were.
///
/// # Panics
///
/// When there is no room for them.
pub fn fill(sender: &mut Peer, blocks: usize) -> usize {
    let block = block(sender.member.room());
    let lines = ["s: old\n"].into_iter().chain(std::iter::repeat_n(&*block, blocks));
    lines.map(|line| sender.say(line).map(|()| line.len()).expect("the room is open")).sum()
}

/// Law 9: a room that all have left holds nothing. Loom itself looks after what is shared: it must all be dropped.
///
/// # Panics
///
/// When it does.
pub fn assert_nothing_left(room: &Room) {
    let Tally { said_bytes, let_gos, missed_lines, .. } = room.tally();
    assert_eq!(room.tally(), Tally { said_bytes, let_gos, missed_lines, ..Tally::default() }, "law 9");
}

/// Waits for `poll` to be ready. Loom also has it polled when nothing has happened.
pub fn wait<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    wait_by(&Arc::default(), poll)
}

/// Waits for `poll` to be ready, woken through `task`, which is new.
pub fn wait_by<T>(task: &Arc<Task>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Arc::clone(task).into();
    block_on(poll_fn(|cx| {
        task.thread.get_or_init(|| cx.waker().clone());
        poll(&mut Context::from_waker(&waker))
    }))
}

/// Waits for `poll` to be ready; returns whether it had to, and by whose waker.
pub fn wait_watched<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> (T, bool, Arc<Task>) {
    let task = Arc::default();
    let mut waited = false;
    let ready = wait_by(&task, |cx| {
        let polled = poll(cx);
        waited |= polled.is_pending();
        polled
    });
    (ready, waited, task)
}

/// What a waker wakes: a thread that [waits](wait_by), or nobody.
///
/// Its count of references is std's: loom's would be one more thing that threads share, with schedules of its own, and it is
/// not ours.
#[derive(Debug)]
pub struct Task {
    wakes: AtomicUsize,
    thread: OnceLock<Waker>,
    /// A waker that nobody drops fails the model.
    _dropped: Track<()>,
}

impl Default for Task {
    fn default() -> Self {
        Self { wakes: AtomicUsize::new(0), thread: OnceLock::new(), _dropped: Track::new(()) }
    }
}

impl Task {
    /// Asserts that the room has no waker of it any more, and has woken it once at most.
    ///
    /// # Panics
    ///
    /// When that is not so.
    pub fn assert_forgotten(self: &Arc<Self>) {
        assert_eq!(Arc::strong_count(self), 1, "law 9: its waker went with it");
        assert!(self.wakes() <= 1, "it waited once");
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        if let Some(thread) = self.thread.get() {
            thread.wake_by_ref();
        }
    }
}
