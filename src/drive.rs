//! The one task of a connection: moves bytes between a stream, its session and its cursor, and is the only place that waits.
//!
//! A [`Drive`] is a future written by hand, so that an idle connection is a few words and no buffer. One poll makes a bounded
//! number of writes and reads and then lets other tasks run, however much there is to do.
//!
//! Output has two sources: what is told to this member alone, which stands whole between lines, and the log. Input waits for
//! output in one case only: while something told is unsent nothing more is read, so a member cannot make us hold answers.
//! Otherwise each goes on without the other: a sender parked on a full backlog still writes, a reader whose connection takes
//! nothing still speaks.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::budget::Allowance;
use crate::limits::{INPUT_BYTES_FREE, PRESENT_PER_SLICE, PROBE, READ_BYTES, ROUNDS_PER_POLL, WRITE_PIECES_MAX};
use crate::log::Batch;
use crate::notice::Notice;
use crate::patience::Account;
use crate::room::{Closed, LetGo, Member, Next, Room};
use crate::session::{Answer, Effect, Session};

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It ended its input, or said `/quit`, and got everything up to its end.
    Left,
    /// A line took longer than the deadline.
    LineDeadline,
    /// Its connection took nothing for the stall limit while something was due to it.
    Stalled,
    /// It was let go amid a line, and there was no memory left to finish that line from.
    Torn,
    /// The room was closed.
    Shutdown,
    /// The connection broke.
    Lost(io::Error),
}

/// Where a connection is in its life.
#[derive(Debug)]
enum Phase {
    /// Waiting for the turn to enter.
    Entering,
    /// A member.
    Inside,
    /// Its departure is placed; it reads up to its end.
    Leaving,
    /// All is written: our side is being ended.
    Closing { until: Option<Instant> },
    /// Our side has ended: what still comes is discarded, as closing on unread input would turn into an RST that eats what
    /// the peer has not read yet.
    Lingering { until: Option<Instant> },
}

/// A connection that broke towards the peer.
#[derive(Clone, Copy, Debug)]
struct Broken {
    kind: io::ErrorKind,
    /// All that the peer had sent is with us by then.
    until: Option<Instant>,
}

/// Where the next line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// No whole line is held: from the stream.
    Read,
    /// From what is held.
    Held,
    /// From what is held, and after that there is none: the peer has ended its input.
    Ended,
}

/// What a direction of the connection came to.
#[derive(Debug, PartialEq, Eq)]
enum Motion {
    /// It is registered for whatever lets it go on.
    Waits,
    /// It could go on, and must let others run first.
    Yields,
    /// It has made work for the other direction.
    Moved,
    /// There is nothing more to come.
    Ended,
}

/// What is told to this member alone, and not sent yet.
#[derive(Debug, Default)]
struct Told {
    bytes: Vec<u8>,
    sent_bytes: usize,
}

impl Told {
    fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent_bytes..]
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn advance(&mut self, bytes: usize) {
        self.sent_bytes += bytes;
        if self.sent_bytes == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// A connection that once took nothing.
#[derive(Debug)]
struct Blocked {
    account: Account,
    /// Wakes the task, and notes when, once the connection can take bytes again. `None` while it can.
    stamp: Option<Arc<Stamp>>,
    /// Since when it has taken nothing.
    stalled_since: Option<Instant>,
    /// It is in the way of a full room.
    is_pressed: bool,
}

/// A waker that notes when it was woken: law 6 counts waiting until the connection can take bytes, not until its task gets
/// round to it.
struct Stamp {
    waker: Waker,
    /// Where the time comes from, as a waker may be woken outside any runtime.
    clock: Handle,
    woken_at: OnceLock<Instant>,
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _clock = self.clock.enter();
        let _first = self.woken_at.set(now());
        self.waker.wake_by_ref();
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamp").field("woken_at", &self.woken_at).finish_non_exhaustive()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long a line has been under way, counted only while we read.
#[derive(Debug, Default)]
struct LineClock {
    spent: Duration,
    since: Option<Instant>,
}

impl LineClock {
    fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.spent += now().saturating_duration_since(since);
        }
    }

    /// Runs on, and says when the deadline is.
    fn run(&mut self, limit: Duration) -> Option<Instant> {
        let since = *self.since.get_or_insert_with(now);
        since.checked_add(limit.checked_sub(self.spent).unwrap_or_default())
    }
}

/// One connection: a future that ends when it does.
///
/// It must run on a tokio runtime with time enabled. Dropping it leaves the room, and drops the stream.
#[derive(Debug)]
pub(crate) struct Drive<S> {
    stream: S,
    member: Member,
    session: Session,
    allowance: Allowance,
    phase: Phase,
    /// Why it is leaving, once it is.
    end: Option<End>,
    told: Told,
    /// Where the answer to `/who` goes on.
    roster: Option<usize>,
    /// Lines missed of which it has not been told.
    missed_lines: u64,
    /// The last byte written was none of a line's last.
    amid_line: bool,
    /// Its connection takes nothing any more. What the peer had sent may still be said.
    broken: Option<Broken>,
    input: Input,
    line: LineClock,
    /// When to look after a connection that neither reads nor writes.
    probe_at: Option<Instant>,
    blocked: Option<Box<Blocked>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drive<S> {
    /// A connection from `address`, on its way into `room`.
    pub(crate) fn new(stream: S, address: &str, room: &Room) -> Self {
        Self {
            stream,
            member: room.seat(address),
            session: Session::new(room.wire(), room.limits()),
            allowance: room.allowance(),
            phase: Phase::Entering,
            end: None,
            told: Told::default(),
            roster: None,
            missed_lines: 0,
            amid_line: false,
            broken: None,
            input: Input::Read,
            line: LineClock::default(),
            probe_at: None,
            blocked: None,
            timer: None,
        }
    }

    /// Who this is: a name, or an address.
    pub(crate) fn who(&self) -> &str {
        self.member.who()
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut rounds = ROUNDS_PER_POLL;
        loop {
            match self.phase {
                Phase::Entering => {
                    if let Err(error) = ready!(self.poll_enter(cx)) {
                        return Poll::Ready(End::Lost(error));
                    }
                }
                Phase::Inside | Phase::Leaving => match ready!(self.poll_room(cx, &mut rounds)) {
                    Ok(()) => self.phase = Phase::Closing { until: self.linger_until() },
                    Err(end) => return Poll::Ready(end),
                },
                Phase::Closing { until } => match Pin::new(&mut self.stream).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) if self.input != Input::Ended => self.phase = Phase::Lingering { until },
                    Poll::Ready(_) => return Poll::Ready(self.take_end()),
                    Poll::Pending if has_passed(until) => return Poll::Ready(self.take_end()),
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Lingering { until } => {
                    if rounds == 0 && !has_passed(until) {
                        return yield_now(cx);
                    }
                    let mut bytes = [std::mem::MaybeUninit::uninit(); READ_BYTES];
                    let mut buffer = ReadBuf::uninit(&mut bytes);
                    match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(Ok(())) if !buffer.filled().is_empty() && !has_passed(until) => rounds -= 1,
                        Poll::Pending if !has_passed(until) => return Poll::Pending,
                        _ => return Poll::Ready(self.take_end()),
                    }
                }
            }
        }
    }

    fn linger_until(&self) -> Option<Instant> {
        now().checked_add(self.member.room().limits().linger)
    }

    fn take_end(&mut self) -> End {
        self.end.take().unwrap_or(End::Shutdown)
    }

    /// Waits for a turn and enters.
    fn poll_enter(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let entered = match self.member.poll_turn(cx) {
            Poll::Pending => return self.poll_probe(cx),
            Poll::Ready(Ok(mut turn)) => self.member.enter(&mut turn),
            Poll::Ready(Err(closed)) => Err(closed),
        };
        self.probe_at = None;
        match entered {
            Ok(()) => {
                self.member.room().wire().lang.welcome(self.member.who(), &mut self.told.bytes);
                self.phase = Phase::Inside;
            }
            Err(Closed) => self.phase = Phase::Closing { until: self.linger_until() },
        }
        Poll::Ready(Ok(()))
    }

    /// A connection that waits for a turn reads nothing, and may have nothing to write: now and then it writes no bytes, to
    /// learn whether it is broken. (Linux reports a pending error for a send of length zero too.)
    fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.probe_at.is_none_or(|at| at <= now()) {
            let is_first = self.probe_at.is_none();
            self.probe_at = now().checked_add(PROBE);
            if !is_first
                && self.broken.is_none()
                && self.blocked.as_ref().is_none_or(|blocked| blocked.stamp.is_none())
                && let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_write(cx, &[])
            {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Pending
    }

    /// Reads and writes as a member. Ready with `Ok` when all up to its end is written, with `Err` when it ends at once.
    fn poll_room(&mut self, cx: &mut Context<'_>, rounds: &mut usize) -> Poll<Result<(), End>> {
        loop {
            match self.poll_output(cx, rounds) {
                Ok(Motion::Yields) => return yield_now(cx),
                Ok(Motion::Ended) => {
                    if !self.take_leave() {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
                Ok(_) => {}
                Err(End::Lost(error)) if matches!(self.phase, Phase::Inside) => {
                    // What the peer had sent before it went is still to be read, and may be said: `echo hi` that does not
                    // wait for an answer is a message.
                    tracing::debug!(who = self.member.who(), %error, "connection takes nothing any more");
                    self.broken = Some(Broken { kind: error.kind(), until: self.linger_until() });
                    self.told = Told::default();
                    self.roster = None;
                    self.blocked = None;
                    self.member.stop_reading();
                }
                Err(end) => return Poll::Ready(Err(end)),
            }
            if matches!(self.phase, Phase::Leaving) {
                return Poll::Pending;
            }
            match self.poll_input(cx, rounds) {
                Ok(Motion::Yields) => return yield_now(cx),
                Ok(Motion::Waits) => return Poll::Pending,
                Ok(Motion::Moved | Motion::Ended) => {}
                Err(error) => return Poll::Ready(Err(End::Lost(error))),
            }
        }
    }

    /// Nothing more will come: says farewell if the room has ended under it. Returns whether there is something to write.
    fn take_leave(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = Some(End::Shutdown);
        let wire = self.member.room().wire();
        if !wire.plain {
            Notice::Stopping.write(wire.lang, &mut self.told.bytes);
        }
        !wire.plain
    }

    /// Places the departure: from here on it only reads, up to its end.
    fn leave(&mut self, end: End) {
        self.member.place_end();
        self.phase = Phase::Leaving;
        self.line = LineClock::default();
        self.probe_at = None;
        self.end = Some(end);
    }

    /// Notes what this connection holds of the memory that all share.
    fn settle_allowance(&mut self) {
        self.allowance.set(self.session.held_bytes() + self.told.unsent().len());
    }

    // Input.

    fn poll_input(&mut self, cx: &mut Context<'_>, rounds: &mut usize) -> io::Result<Motion> {
        loop {
            if !self.told.is_empty() || self.roster.is_some() {
                self.line.pause();
                if self.probe_at.take().is_some() {
                    // It was let go amid a line while it waited for its turn. It could not use that now, and those behind
                    // it can.
                    self.member.give_up_turn();
                }
                return Ok(Motion::Waits);
            }
            let motion = if self.input != Input::Read {
                self.poll_say(cx, &[])?
            } else if *rounds == 0 {
                Motion::Yields
            } else {
                *rounds -= 1;
                self.poll_read(cx)?
            };
            self.settle_allowance();
            match motion {
                Motion::Moved
                    if self.told.is_empty() && self.roster.is_none() && matches!(self.phase, Phase::Inside) => {}
                other => return Ok(other),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<Motion> {
        let held = self.session.held_bytes();
        let most = if self.allowance.spares(READ_BYTES) { READ_BYTES } else { INPUT_BYTES_FREE.saturating_sub(held) };
        if most == 0 {
            self.session.refuse(&mut self.told.bytes);
            return Ok(Motion::Moved);
        }
        let mut bytes = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes[..most]);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.check_clean()?;
                self.input = Input::Ended;
                Ok(Motion::Moved)
            }
            Poll::Ready(Ok(())) => self.poll_say(cx, buffer.filled()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => {
                if let Some(Broken { kind, until }) = self.broken
                    && has_passed(until)
                {
                    return Err(kind.into());
                }
                if self.session.is_amid_line() && has_passed(self.line.run(self.member.room().limits().line_deadline)) {
                    let limit = self.member.room().limits().line_deadline;
                    Notice::LineDeadline { limit }.write(self.member.room().wire().lang, &mut self.told.bytes);
                    self.leave(End::LineDeadline);
                    return Ok(Motion::Moved);
                }
                Ok(Motion::Waits)
            }
        }
    }

    /// An error if the connection was reset: its end is no clean end of input then, and nothing of it is worth waiting for.
    /// `EPIPE` means that the peer had ended its input before (Linux reports `ECONNRESET` otherwise).
    fn check_clean(&self) -> io::Result<()> {
        match self.broken {
            Some(Broken { kind, .. }) if kind != io::ErrorKind::BrokenPipe => Err(kind.into()),
            _ => Ok(()),
        }
    }

    /// Says what is held and then `input`, as far as one turn goes; holds the rest.
    fn poll_say(&mut self, cx: &mut Context<'_>, mut input: &[u8]) -> io::Result<Motion> {
        let at_end = self.input == Input::Ended;
        if at_end && self.session.only_goes(at_end) {
            self.leave(End::Left);
            return Ok(Motion::Moved);
        }
        let mut turn = match self.member.poll_turn(cx) {
            Poll::Ready(Ok(turn)) => turn,
            Poll::Ready(Err(Closed)) => {
                self.on_closed();
                return Ok(Motion::Moved);
            }
            Poll::Pending => {
                self.check_clean()?;
                self.session.keep(input);
                if self.session.only_goes(at_end) {
                    // Departures never wait (law 9).
                    self.leave(End::Left);
                    return Ok(Motion::Moved);
                }
                if !at_end {
                    self.input = Input::Held;
                }
                self.line.pause();
                return match self.poll_probe(cx) {
                    Poll::Ready(Err(error)) => Err(error),
                    _ => Ok(Motion::Waits),
                };
            }
        };
        self.probe_at = None;
        let mut answer = Answer::default();
        let most = self.member.room().limits().turn_lines_bytes();
        let mut ended_line = false;
        let effect = loop {
            let next = self.session.next(self.member.who(), &mut input, &mut answer);
            let next = match next {
                None if at_end => self.session.finish(self.member.who(), &mut answer),
                next => next,
            };
            ended_line |= next.is_some();
            match next {
                Some(Effect::Said) if answer.said.len() < most => {}
                effect => break effect,
            }
        };
        if ended_line {
            self.line = LineClock::default();
        }
        if !answer.said.is_empty() && self.member.say(&mut turn, &answer.said).is_err() {
            self.on_closed();
            return Ok(Motion::Moved);
        }
        self.told.bytes.append(&mut answer.told);
        let mut quits = effect.is_none() && at_end;
        if !at_end {
            self.input = if effect.is_some() { Input::Held } else { Input::Read };
        }
        match effect {
            Some(Effect::Rename(name)) => {
                if self.member.rename(&mut turn, &name).is_err() {
                    Notice::NameTaken { name: name.as_str() }
                        .write(self.member.room().wire().lang, &mut self.told.bytes);
                }
            }
            Some(Effect::List) => {
                let members = self.member.room().tally().members;
                Notice::Present { members }.write(self.member.room().wire().lang, &mut self.told.bytes);
                self.roster = Some(0);
            }
            Some(Effect::Quit) => quits = true,
            Some(Effect::Said | Effect::Told) | None => {}
        }
        drop(turn);
        if quits {
            self.leave(End::Left);
        } else {
            self.session.keep(input);
        }
        if self.broken.is_some() {
            self.told = Told::default();
            self.roster = None;
        }
        Ok(Motion::Moved)
    }

    /// The room has ended: what is not said will not be.
    fn on_closed(&mut self) {
        self.member.place_end();
        self.phase = Phase::Leaving;
        self.line = LineClock::default();
    }

    // Output.

    fn poll_output(&mut self, cx: &mut Context<'_>, rounds: &mut usize) -> Result<Motion, End> {
        if self.broken.is_some() {
            return Ok(if matches!(self.phase, Phase::Leaving) { Motion::Ended } else { Motion::Waits });
        }
        let mut batch = Batch::default();
        let mut taken_bytes = 0;
        loop {
            if !self.amid_line && self.told.is_empty() {
                self.continue_roster();
            }
            // A line under way comes first, whatever is to be told.
            let tells = !self.amid_line && (!self.told.is_empty() || self.missed_lines > 0);
            if !tells && (batch.is_empty() || *rounds == 0) {
                match self.member.poll_next(std::mem::take(&mut taken_bytes), &mut batch, cx) {
                    Poll::Ready(Next::Lines) => {}
                    Poll::Ready(Next::End) => return Ok(Motion::Ended),
                    Poll::Ready(Next::InTheWay) => {
                        self.let_go()?;
                        continue;
                    }
                    Poll::Pending => return Ok(Motion::Waits),
                }
            }
            if *rounds == 0 {
                self.member.pass(taken_bytes);
                return Ok(Motion::Yields);
            }
            *rounds -= 1;

            let mut notice = Vec::new();
            let wrote = if tells {
                if self.told.is_empty() {
                    Notice::Missed { lines: self.missed_lines }.write(self.member.room().wire().lang, &mut notice);
                }
                let told = [IoSlice::new(if notice.is_empty() { self.told.unsent() } else { &notice })];
                Self::poll_write(&mut self.stream, &mut self.blocked, self.member.room(), cx, &told)
            } else if self.told.is_empty() {
                let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
                let count = batch.io_slices(&mut slices);
                Self::poll_write(&mut self.stream, &mut self.blocked, self.member.room(), cx, &slices[..count])
            } else {
                let rest = [IoSlice::new(batch.first_line())];
                Self::poll_write(&mut self.stream, &mut self.blocked, self.member.room(), cx, &rest)
            };
            match wrote {
                Poll::Ready(Ok(0)) => return Err(End::Lost(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) if tells => {
                    if !notice.is_empty() {
                        // Some of it is out: only now it is told, and what is missed from here on is another notice.
                        self.missed_lines = 0;
                        self.told = Told { bytes: notice, sent_bytes: 0 };
                    }
                    self.told.advance(bytes);
                    self.settle_allowance();
                }
                Poll::Ready(Ok(bytes)) => {
                    taken_bytes += bytes;
                    self.amid_line = !batch.advance(bytes);
                }
                Poll::Ready(Err(error)) => return Err(End::Lost(error)),
                Poll::Pending => return self.on_blocked(taken_bytes, cx),
            }
        }
    }

    /// Goes on with the answer to `/who`, by a slice.
    fn continue_roster(&mut self) {
        if let Some(from) = self.roster {
            let (here, next) = self.member.room().present(from, PRESENT_PER_SLICE);
            for who in here {
                Notice::Member { who: &who }.write(self.member.room().wire().lang, &mut self.told.bytes);
            }
            self.roster = next;
        }
    }

    /// The connection takes nothing: law 6 decides how long that may be.
    fn on_blocked(&mut self, taken_bytes: usize, cx: &mut Context<'_>) -> Result<Motion, End> {
        let is_pressed = self.member.block(taken_bytes, cx.waker());
        let limits = self.member.room().limits();
        let (stall, patience) = (limits.stall, limits.patience);
        let blocked = self.blocked.as_mut().expect("a write that blocks opens the account");
        blocked.is_pressed = is_pressed;
        let now = now();
        if blocked.stalled_since.and_then(|since| since.checked_add(stall)).is_some_and(|until| until <= now) {
            return Err(End::Stalled);
        }
        if is_pressed && (patience.is_zero() || blocked.account.is_spent(patience, now)) {
            blocked.is_pressed = false;
            self.let_go()?;
        }
        Ok(Motion::Waits)
    }

    /// Gives up the run of lines up to the head, if the room still wants it.
    fn let_go(&mut self) -> Result<(), End> {
        let Some(LetGo { missed_lines, mut torn }) = self.member.let_go() else { return Ok(()) };
        self.missed_lines += missed_lines;
        if !torn.is_empty() {
            if torn.len() > INPUT_BYTES_FREE && !self.allowance.spares(torn.len()) {
                return Err(End::Torn);
            }
            // Whatever else is to be told has waited for the end of this very line.
            torn.extend_from_slice(self.told.unsent());
            self.told = Told { bytes: torn, sent_bytes: 0 };
            self.settle_allowance();
        }
        self.amid_line = false;
        Ok(())
    }

    /// Writes, and keeps the account of a connection that takes nothing.
    fn poll_write(
        stream: &mut S,
        blocked: &mut Option<Box<Blocked>>,
        room: &Room,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A stamp that was woken is an end of waiting, whatever comes of it.
        if let Some(blocked) = blocked
            && let Some(&at) = blocked.stamp.as_ref().and_then(|stamp| stamp.woken_at.get())
        {
            blocked.account.on_unblocked(at);
            blocked.stamp = None;
        }
        let stamp = blocked.as_ref().and_then(|blocked| blocked.stamp.clone());
        let mut wrote = match stamp {
            Some(stamp) => poll_write_slices(stream, &mut Context::from_waker(&stamp.into()), slices),
            None => poll_write_slices(stream, cx, slices),
        };
        if wrote.is_pending() && blocked.as_ref().is_none_or(|blocked| blocked.stamp.is_none()) {
            let now = now();
            let blocked = blocked.get_or_insert_with(|| {
                let account = Account::new(room.limits().backlog_bytes);
                Box::new(Blocked { account, stamp: None, stalled_since: None, is_pressed: false })
            });
            let stamp = Stamp { waker: cx.waker().clone(), clock: Handle::current(), woken_at: OnceLock::new() };
            let stamp = Arc::new(stamp);
            blocked.account.on_blocked(now);
            blocked.stalled_since.get_or_insert(now);
            blocked.stamp = Some(Arc::clone(&stamp));
            // Once more, so that it is the stamp that is woken.
            wrote = poll_write_slices(stream, &mut Context::from_waker(&stamp.into()), slices);
        }
        if let (Poll::Ready(Ok(bytes)), Some(account)) = (&wrote, blocked.as_mut()) {
            if let Some(stamp) = account.stamp.take() {
                account.account.on_unblocked(stamp.woken_at.get().copied().unwrap_or_else(now));
            }
            account.account.on_taken(*bytes);
            account.stalled_since = None;
            account.is_pressed = false;
            if account.account.is_clear() {
                *blocked = None;
            }
        }
        wrote
    }

    // Time.

    /// The next moment at which something has to be decided though nothing happens.
    fn deadline(&mut self) -> Option<Instant> {
        let limits = self.member.room().limits();
        match self.phase {
            Phase::Closing { until } | Phase::Lingering { until } => return until,
            Phase::Entering | Phase::Inside | Phase::Leaving => {}
        }
        let line = self.line.since.is_some().then(|| self.line.run(limits.line_deadline)).flatten();
        let broken = self.broken.filter(|_| self.input == Input::Read).and_then(|broken| broken.until);
        let mut deadlines = [line, self.probe_at, broken, None, None];
        if let Some(blocked) = &self.blocked
            && blocked.stamp.is_some()
        {
            deadlines[3] = blocked.stalled_since.and_then(|since| since.checked_add(limits.stall));
            if blocked.is_pressed {
                deadlines[4] = blocked.account.spent_at(limits.patience);
            }
        }
        deadlines.into_iter().flatten().min()
    }

    /// Arms the one timer; ready when its deadline has passed. A timer that is armed too early is left to fire, as most
    /// deadlines are put off long before they come.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline() else {
            self.timer = None;
            return Poll::Pending;
        };
        let deadline = tokio::time::Instant::from_std(deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                self.timer = None;
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Drive<S> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Poll::Ready(end) = self.poll_phase(cx) {
                return Poll::Ready(end);
            }
            if self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

fn poll_write_slices<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match slices {
        [one] => Pin::new(stream).poll_write(cx, one),
        many => Pin::new(stream).poll_write_vectored(cx, many),
    }
}

fn has_passed(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until <= now())
}

/// Lets the other tasks run first.
fn yield_now<T>(cx: &mut Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}
