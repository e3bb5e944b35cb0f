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
use std::iter::once;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use self::asking::Asking;
use self::outlet::Outlet;
use crate::budget::Allowance;
use crate::door::Motd;
use crate::flood::Meter;
use crate::guess::Foreign;
use crate::limits::{INPUT_BYTES_FREE, PRESENT_PER_SLICE, PROBE, READ_BYTES, ROUNDS_PER_POLL};
use crate::log::Batch;
use crate::notice::Notice;
use crate::room::{Closed, LetGo, Member, Next};
use crate::session::{Answer, Effect, Session};
use crate::shard::yield_now;

mod asking;
mod idle;
mod outlet;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use self::idle::{Idle, Left};

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It ended its input, or said `/quit`, and got everything up to its end.
    Left,
    /// It speaks something else than we do.
    Foreign(Foreign),
    /// A line took longer than the deadline.
    LineDeadline,
    /// Its connection took nothing for the stall limit while something was due to it.
    Stalled,
    /// It was removed from the room.
    Removed,
    /// It did not know the password.
    Denied,
    /// It was let go amid a line, and there was no memory left to finish that line from.
    Torn,
    /// The room was closed.
    Shutdown,
    /// The connection broke.
    Lost(io::Error),
}

impl End {
    /// In one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Foreign(_) => "foreign",
            Self::LineDeadline => "line_deadline",
            Self::Stalled => "stalled",
            Self::Torn => "torn",
            Self::Shutdown => "shutdown",
            Self::Lost(_) => "lost",
            Self::Removed => "removed",
            Self::Denied => "denied",
        }
    }
}

/// Who is at the other end: some limits are for strangers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// One within [`Limits::trusted`](crate::Limits::trusted).
    Trusted,
    /// Anybody else.
    Stranger,
}

/// Where a connection is in its life.
#[derive(Debug)]
enum Phase {
    /// It has to say a password before it may enter.
    Asking(Box<Asking>),
    /// Waiting for the turn to enter.
    Entering,
    /// A member.
    Inside,
    /// It says nothing more, and reads up to its end.
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

/// What writing came to.
#[derive(Debug)]
enum Wrote {
    /// All there is, or all that the connection takes: whatever changes that wakes the task.
    All,
    /// As much as one poll may.
    Enough,
    /// Everything that this member will get.
    End,
}

/// What reading came to.
#[derive(Debug)]
enum Heard {
    /// Nothing, for now: whatever changes that wakes the task.
    Nothing,
    /// As much as one poll may.
    Enough,
    /// Something; there may be more to write for it.
    Something,
}

/// What is told to this member alone, and not sent yet.
#[derive(Debug, Default)]
struct Told {
    bytes: Vec<u8>,
    /// Behind that, the message of the day: all who are told it share it.
    motd: Option<Motd>,
    sent_bytes: usize,
}

impl Told {
    /// In order, none of them empty.
    fn unsent(&self) -> ArrayVec<IoSlice<'_>, 2> {
        let bytes = self.bytes.get(self.sent_bytes..).unwrap_or_default();
        let sent_of_motd = self.sent_bytes.saturating_sub(self.bytes.len());
        let of_motd = self.motd.as_ref().map_or(&[][..], |motd| &motd.told()[sent_of_motd..]);
        [bytes, of_motd].into_iter().filter(|bytes| !bytes.is_empty()).map(IoSlice::new).collect()
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.motd.is_none()
    }

    fn advance(&mut self, bytes: usize) {
        self.sent_bytes += bytes;
        if self.sent_bytes == self.bytes.len() + self.motd.as_ref().map_or(0, |motd| motd.told().len()) {
            *self = Self::default();
        }
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
    /// Whether it has never run.
    fn is_clear(&self) -> bool {
        self.spent.is_zero() && self.since.is_none()
    }

    fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.spent += now().saturating_duration_since(since);
        }
    }

    fn run(&mut self) {
        self.since.get_or_insert_with(now);
    }

    /// When the line has taken `limit`; `None` while the clock stands.
    fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.since?.checked_add(limit.saturating_sub(self.spent))
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
    /// Why it is leaving, once that is decided.
    end: Option<End>,
    outlet: Outlet,
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
    /// The last read was pending, so its waker will be woken.
    is_listening: bool,
    line: LineClock,
    standing: Standing,
    /// What a stranger has said lately. `None`: it may say as much as it likes.
    meter: Option<Meter>,
    /// It has said too much too fast: nothing more is taken in until then.
    slowed_until: Option<Instant>,
    /// It waits for a turn, or is slowed; then is the time to see whether its connection still lives.
    probe_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drive<S> {
    /// Its place in the room.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.phase {
                Phase::Entering => {
                    if let Err(error) = ready!(self.poll_enter(cx)) {
                        return Poll::Ready(End::Lost(error));
                    }
                }
                Phase::Asking(_) | Phase::Inside | Phase::Leaving => match ready!(self.poll_room(cx)) {
                    Ok(()) if matches!(self.phase, Phase::Entering) => {}
                    Ok(()) => self.phase = Phase::Closing { until: self.linger_until() },
                    Err(end) => return Poll::Ready(end),
                },
                Phase::Closing { until } => match Pin::new(&mut self.stream).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) if self.input != Input::Ended => self.phase = Phase::Lingering { until },
                    Poll::Pending if !has_passed(until) => return Poll::Pending,
                    _ => return Poll::Ready(self.take_end()),
                },
                Phase::Lingering { until } => {
                    ready!(self.poll_discard(until, cx));
                    return Poll::Ready(self.take_end());
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

    /// Reads and discards until the peer has ended, too, or it is time.
    fn poll_discard(&mut self, until: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_PER_POLL {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                _ if has_passed(until) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        yield_now(cx)
    }

    /// Waits for a turn and enters.
    fn poll_enter(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let entered = match self.member.poll_turn(cx) {
            Poll::Pending => return self.poll_probe(cx),
            Poll::Ready(Ok(mut turn)) => match self.standing {
                Standing::Trusted => self.member.enter(&mut turn),
                Standing::Stranger => self.member.enter_stranger(&mut turn),
            },
            Poll::Ready(Err(closed)) => Err(closed),
        };
        self.probe_at = None;
        match entered {
            Ok(()) => {
                let wire = self.member.room().wire();
                wire.lang.welcome(self.member.who(), &mut self.told.bytes);
                if !wire.plain {
                    self.told.motd.clone_from(&self.member.room().door().policy().motd);
                }
                self.phase = Phase::Inside;
            }
            Err(Closed) if self.member.is_removed() => self.leave(None),
            Err(Closed) => self.phase = Phase::Closing { until: self.linger_until() },
        }
        Poll::Ready(Ok(()))
    }

    /// A connection that waits for a turn, or is slowed, reads nothing, and may have nothing to write: now and then it writes no
    /// bytes, to learn whether it is broken. (Linux reports a pending error for a send of length zero too.)
    fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = now();
        if self.probe_at.is_none_or(|at| at <= now) {
            let is_first = self.probe_at.is_none();
            self.probe_at = now.checked_add(PROBE);
            if !is_first
                && self.broken.is_none()
                && !self.outlet.is_blocked()
                && let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_write(cx, &[])
            {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Pending
    }

    /// Reads and writes as a member. Ready with `Ok` when all up to its end is written, with `Err` when it ends at once.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        // Each direction has rounds of its own, so that an endless one does not starve the other.
        let (mut writes, mut reads) = (ROUNDS_PER_POLL, ROUNDS_PER_POLL);
        loop {
            let wrote = match self.poll_output(&mut writes, cx) {
                // It has nothing to read yet.
                Ok(Wrote::End) if matches!(self.phase, Phase::Asking(_)) => Wrote::All,
                Ok(Wrote::End) if self.take_leave() => continue,
                Ok(Wrote::End) => return Poll::Ready(Ok(())),
                Ok(wrote) => wrote,
                Err(End::Lost(error)) if matches!(self.phase, Phase::Inside) => {
                    self.on_broken(&error);
                    Wrote::All
                }
                Err(end) => return Poll::Ready(Err(end)),
            };
            let heard = match self.phase {
                Phase::Leaving => Heard::Nothing,
                _ => match self.poll_input(&mut reads, cx) {
                    Ok(heard) => heard,
                    Err(error) => return Poll::Ready(Err(End::Lost(error))),
                },
            };
            if matches!(self.phase, Phase::Entering) {
                return Poll::Ready(Ok(()));
            }
            match (wrote, heard) {
                (Wrote::All, Heard::Nothing) => return Poll::Pending,
                (Wrote::All, Heard::Something) => {}
                _ => return yield_now(cx),
            }
        }
    }

    /// The connection takes nothing any more. What the peer had sent before it went is still to be read, and may be said:
    /// `echo hi` that does not wait for an answer is a message.
    fn on_broken(&mut self, error: &io::Error) {
        tracing::debug!(who = self.member.who(), %error, "connection takes nothing any more");
        self.broken = Some(Broken { kind: error.kind(), until: self.linger_until() });
        self.outlet = Outlet::default();
        self.member.stop_reading();
        self.forget_told();
    }

    fn forget_told(&mut self) {
        self.told = Told::default();
        self.roster = None;
    }

    /// Nothing more will come: says farewell if it was removed, or the room has ended under it. Returns whether there is something
    /// to write.
    fn take_leave(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let wire = self.member.room().wire();
        let (end, farewell) = if self.member.is_removed() {
            (End::Removed, Some(Notice::Removed))
        } else {
            // The seed said nothing.
            (End::Shutdown, (!wire.plain).then_some(Notice::Stopping))
        };
        self.end = Some(end);
        let Some(farewell) = farewell.filter(|_| self.broken.is_none()) else { return false };
        farewell.write(wire.lang, &mut self.told.bytes);
        true
    }

    /// Places the departure: from here on it only reads, up to its end. `None`: the room has ended.
    fn leave(&mut self, end: Option<End>) {
        self.member.place_end();
        self.phase = Phase::Leaving;
        self.line = LineClock::default();
        self.slowed_until = None;
        self.probe_at = None;
        self.end = end;
    }

    /// Notes what this connection holds of the memory that all share.
    fn settle_allowance(&mut self) {
        self.allowance.set(self.session.memory_bytes() + self.told.bytes.capacity());
    }

    // Input.

    fn poll_input(&mut self, reads: &mut usize, cx: &mut Context<'_>) -> io::Result<Heard> {
        loop {
            if self.broken.is_some() {
                // There is nobody to tell, and nothing to wait for.
                self.forget_told();
            }
            if !self.told.is_empty() || self.roster.is_some() {
                self.line.pause();
                self.slowed_until = None;
                if self.probe_at.take().is_some() {
                    // It was let go amid a line while it waited for its turn. It could not use that now, and those behind
                    // it can.
                    self.member.give_up_turn();
                }
                return Ok(Heard::Nothing);
            }
            let heard = if matches!(self.phase, Phase::Asking(_)) {
                self.poll_ask(reads, cx)?
            } else if self.input != Input::Read {
                self.poll_say(&[], cx)?
            } else if *reads == 0 {
                Heard::Enough
            } else {
                *reads -= 1;
                self.poll_read(cx)?
            };
            self.settle_allowance();
            let is_hearing = matches!(self.phase, Phase::Asking(_) | Phase::Inside);
            let goes_on = is_hearing && self.told.is_empty() && self.roster.is_none();
            if !matches!(heard, Heard::Something) || !goes_on {
                return Ok(heard);
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<Heard> {
        // What is left of a read when a stranger is slowed may be held for long: it shall not take what all share.
        let read_bytes = if self.meter.is_some() { INPUT_BYTES_FREE } else { READ_BYTES };
        let most = if self.allowance.spares(read_bytes) {
            read_bytes
        } else {
            // A line of so many bytes passes, and its end with it.
            (INPUT_BYTES_FREE + b"\r\n".len()).saturating_sub(self.session.held_bytes())
        };
        if most == 0 {
            if let Some(meter) = &mut self.meter {
                meter.on_heard(now(), 1, self.session.held_bytes());
            }
            self.session.refuse(&mut self.told.bytes);
            return Ok(Heard::Something);
        }
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes[..most]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        self.is_listening = polled.is_pending();
        match polled {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.check_clean()?;
                self.input = Input::Ended;
                if let Err(protocol) = self.session.hear_end(&mut self.told.bytes) {
                    self.leave(Some(End::Foreign(protocol)));
                }
                Ok(Heard::Something)
            }
            Poll::Ready(Ok(())) => {
                let mut answers = Vec::new();
                let heard = self.session.hear(buffer.filled_mut(), &mut answers);
                self.told.bytes.append(&mut answers);
                match heard {
                    Ok(text) => self.poll_say(text, cx),
                    Err(protocol) => {
                        self.leave(Some(End::Foreign(protocol)));
                        Ok(Heard::Something)
                    }
                }
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => self.on_nothing_to_read(),
        }
    }

    fn on_nothing_to_read(&mut self) -> io::Result<Heard> {
        if let Some(Broken { kind, until }) = self.broken
            && has_passed(until)
        {
            return Err(kind.into());
        }
        if self.session.is_amid_line() {
            self.line.run();
            let limit = self.member.room().limits().line_deadline;
            if has_passed(self.line.deadline(limit)) {
                Notice::LineDeadline { limit }.write(self.member.room().wire().lang, &mut self.told.bytes);
                self.leave(Some(End::LineDeadline));
                return Ok(Heard::Something);
            }
        }
        Ok(Heard::Nothing)
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
    fn poll_say(&mut self, mut input: &[u8], cx: &mut Context<'_>) -> io::Result<Heard> {
        let at_end = self.input == Input::Ended;
        if at_end && self.session.only_goes(at_end) {
            self.leave(Some(End::Left));
            return Ok(Heard::Something);
        }
        // A clock is read only for strangers.
        let heard_at = self.meter.as_ref().map(|_| now());
        if !self.may_hear(heard_at) {
            return self.on_slowed(input, cx);
        }
        self.slowed_until = None;
        // Without a line end nothing is said of it yet, and nobody has to make room.
        let mut turn = if self.input == Input::Read && memchr::memchr(b'\n', input).is_none() {
            None
        } else {
            match self.member.poll_turn(cx) {
                Poll::Ready(Ok(turn)) => Some(turn),
                Poll::Ready(Err(Closed)) => {
                    self.leave(None);
                    return Ok(Heard::Something);
                }
                // Others come first, or the backlog is full.
                Poll::Pending => return self.hold(input, cx),
            }
        };
        self.probe_at = None;
        let mut answer = Answer::default();
        let most = self.member.room().limits().turn_lines_bytes();
        let mut ended_line = false;
        let effect = loop {
            let was_skipping = self.session.is_skipping();
            let before_bytes = self.session.held_bytes() + input.len();
            let next = match self.session.next(self.member.who(), &mut input, &mut answer) {
                None if at_end => self.session.finish(self.member.who(), &mut answer),
                next => next,
            };
            // One that is refused amid its coming goes on; it says nothing when it ends at last, but something else does.
            let is_skipping = self.session.is_skipping();
            ended_line |= if was_skipping { next.is_some() || !is_skipping } else { next.is_some() && !is_skipping };
            if let (Some(meter), Some(at)) = (&mut self.meter, heard_at) {
                // Half a byte order mark is held only when it turns out to be none.
                let used_bytes = before_bytes.saturating_sub(self.session.held_bytes() + input.len());
                meter.on_heard(at, next.is_some().into(), used_bytes);
            }
            match next {
                Some(Effect::Said) if answer.said.len() < most && self.may_hear(heard_at) => {}
                effect => break effect,
            }
        };
        if ended_line || !self.session.is_amid_line() {
            self.line = LineClock::default();
        }
        if let Some(turn) = &mut turn
            && !answer.said.is_empty()
            && self.member.say(turn, &answer.said).is_err()
        {
            self.leave(None);
            return Ok(Heard::Something);
        }
        self.told.bytes.append(&mut answer.told);
        if !at_end {
            self.input = if effect.is_some() { Input::Held } else { Input::Read };
        }
        self.session.keep(input);
        match effect {
            Some(Effect::Rename(name)) => {
                if let Some(turn) = &mut turn
                    && self.member.rename(turn, &name).is_err()
                {
                    Notice::NameTaken { name: name.as_str() }
                        .write(self.member.room().wire().lang, &mut self.told.bytes);
                }
            }
            Some(Effect::List) => {
                let members = self.member.room().tally().members;
                Notice::Present { members }.write(self.member.room().wire().lang, &mut self.told.bytes);
                self.roster = Some(0);
            }
            Some(Effect::Quit) => self.leave(Some(End::Left)),
            None if at_end => self.leave(Some(End::Left)),
            Some(Effect::Said | Effect::Told) | None => {}
        }
        Ok(Heard::Something)
    }

    /// Whether one more line may be taken in, as of now for a stranger.
    fn may_hear(&self, now: Option<Instant>) -> bool {
        !matches!((&self.meter, now), (Some(meter), Some(now)) if !meter.is_open(now))
    }

    /// It has said too much too fast: holds `input`, and reads no more, until the meter opens. It takes no place in the queue
    /// for a turn, as it would hold up those behind it.
    fn on_slowed(&mut self, input: &[u8], cx: &mut Context<'_>) -> io::Result<Heard> {
        if self.input == Input::Held && self.session.held_bytes() == 0 && !self.session.is_amid_line() {
            // Nothing is left of it: its memory is given back, and one read more shows at once if it goes.
            let none = self.session.next(self.member.who(), &mut &[][..], &mut Answer::default());
            debug_assert!(none.is_none());
            self.input = Input::Read;
            self.line = LineClock::default();
            self.slowed_until = None;
            self.probe_at = None;
            return Ok(Heard::Something);
        }
        let before_bytes = self.session.held_bytes() + input.len();
        let heard = self.hold(input, cx);
        if let Some(meter) = &mut self.meter {
            // What belongs to a refused line is dropped rather than held.
            let dropped_bytes = before_bytes.saturating_sub(self.session.held_bytes());
            if dropped_bytes > 0 {
                meter.on_heard(now(), 0, dropped_bytes);
            }
            self.slowed_until = if matches!(self.phase, Phase::Inside) { meter.opens_at() } else { None };
        }
        heard
    }

    /// Holds `input` until more can be said, and sees that its connection lives; unless it only goes, which never waits.
    fn hold(&mut self, input: &[u8], cx: &mut Context<'_>) -> io::Result<Heard> {
        self.check_clean()?;
        let at_end = self.input == Input::Ended;
        self.session.keep(input);
        if self.session.only_goes(at_end) {
            // Departures never wait (law 9).
            self.leave(Some(End::Left));
            return Ok(Heard::Something);
        }
        if !at_end {
            self.input = Input::Held;
        }
        self.line.pause();
        match self.poll_probe(cx) {
            Poll::Ready(Err(error)) => Err(error),
            // What it is told does not wait for its turn.
            _ if !self.told.is_empty() => Ok(Heard::Something),
            _ => Ok(Heard::Nothing),
        }
    }

    // Output.

    fn poll_output(&mut self, writes: &mut usize, cx: &mut Context<'_>) -> Result<Wrote, End> {
        if self.broken.is_some() {
            return Ok(if matches!(self.phase, Phase::Leaving) { Wrote::End } else { Wrote::All });
        }
        let backlog_bytes = self.member.room().limits().backlog_bytes;
        let mut batch = Batch::default();
        let mut taken_bytes = 0;
        loop {
            if !self.amid_line && self.told.is_empty() {
                self.continue_roster();
            }
            // A line under way comes first, whatever is to be told.
            let tells = !self.amid_line && (!self.told.is_empty() || self.missed_lines > 0);
            if !tells && (batch.is_empty() || *writes == 0) {
                match self.member.poll_next(std::mem::take(&mut taken_bytes), &mut batch, cx) {
                    Poll::Ready(Next::Lines) => {}
                    Poll::Ready(Next::End) => return self.poll_flush(Wrote::End, cx),
                    Poll::Ready(Next::InTheWay) => {
                        self.let_go()?;
                        continue;
                    }
                    Poll::Ready(Next::Later) => return Ok(Wrote::Enough),
                    Poll::Pending => return self.poll_flush(Wrote::All, cx),
                }
            }
            if *writes == 0 {
                self.member.pass(taken_bytes);
                return Ok(Wrote::Enough);
            }
            *writes -= 1;

            if tells {
                match self.poll_tell(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => return self.on_blocked(taken_bytes, cx),
                }
                continue;
            }
            let wrote = if self.told.is_empty() {
                self.outlet.poll_write(&mut self.stream, backlog_bytes, &batch.io_slices(), cx)
            } else {
                self.outlet.poll_write(&mut self.stream, backlog_bytes, &[IoSlice::new(batch.first_line())], cx)
            };
            match wrote {
                Poll::Ready(Ok(0)) => return Err(End::Lost(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => {
                    self.outlet.on_taken(bytes);
                    taken_bytes += bytes;
                    self.amid_line = !batch.advance(bytes);
                }
                Poll::Ready(Err(error)) => return Err(End::Lost(error)),
                Poll::Pending => return self.on_blocked(taken_bytes, cx),
            }
        }
    }

    /// Writes some of what is told to this member alone: what is unsent of it, or else how many lines it missed.
    fn poll_tell(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let limits = self.member.room().limits();
        let mut missed = Vec::new();
        if self.told.is_empty() {
            Notice::Missed { lines: self.missed_lines }.write(self.member.room().wire().lang, &mut missed);
        }
        let unsent = if missed.is_empty() { self.told.unsent() } else { once(IoSlice::new(&missed)).collect() };
        let wrote = self.outlet.poll_write(&mut self.stream, limits.backlog_bytes, &unsent, cx);
        drop(unsent);
        match ready!(wrote) {
            Ok(0) => Poll::Ready(Err(End::Lost(io::ErrorKind::WriteZero.into()))),
            Ok(bytes) => {
                if !missed.is_empty() {
                    // Some of it is out: only now it is told, and what is missed from here on is another notice.
                    self.missed_lines = 0;
                    self.told.bytes = missed;
                }
                self.told.advance(bytes);
                self.settle_allowance();
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(End::Lost(error))),
        }
    }

    /// Goes on with the answer to `/who`, by a slice.
    fn continue_roster(&mut self) {
        if let Some(from) = self.roster {
            let (here, next) = self.member.present(from, PRESENT_PER_SLICE);
            for who in here {
                Notice::Member { who: &who }.write(self.member.room().wire().lang, &mut self.told.bytes);
            }
            self.roster = next;
        }
    }

    /// All is written; whatever the stream holds of it is not sent yet.
    fn poll_flush(&mut self, wrote: Wrote, cx: &mut Context<'_>) -> Result<Wrote, End> {
        let backlog_bytes = self.member.room().limits().backlog_bytes;
        match self.outlet.poll_flush(&mut self.stream, backlog_bytes, cx) {
            Poll::Ready(Ok(())) => Ok(wrote),
            Poll::Ready(Err(error)) => Err(End::Lost(error)),
            Poll::Pending => self.on_blocked(0, cx),
        }
    }

    /// The connection takes nothing: law 6 decides how long that may be.
    fn on_blocked(&mut self, taken_bytes: usize, cx: &mut Context<'_>) -> Result<Wrote, End> {
        let is_pressed = self.member.block(taken_bytes, cx.waker());
        let limits = self.member.room().limits();
        let now = now();
        if self.outlet.has_stalled(limits.stall, now) {
            return Err(End::Stalled);
        }
        let is_spent = is_pressed && self.outlet.is_spent(limits.patience, now);
        self.outlet.set_pressed(is_pressed && !is_spent);
        if is_spent {
            self.let_go()?;
        }
        Ok(Wrote::All)
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
            debug_assert_eq!(self.told.sent_bytes, 0);
            torn.append(&mut self.told.bytes);
            self.told.bytes = torn;
            self.settle_allowance();
        }
        self.amid_line = false;
        Ok(())
    }

    // Time.

    /// The next moment at which something has to be decided though nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let limits = self.member.room().limits();
        match self.phase {
            Phase::Closing { until } | Phase::Lingering { until } => return until,
            Phase::Asking(_) | Phase::Entering | Phase::Inside | Phase::Leaving => {}
        }
        let broken = self.broken.filter(|_| self.input == Input::Read).and_then(|broken| broken.until);
        let blocked = self.outlet.deadline(limits.stall, limits.patience);
        let line = self.line.deadline(limits.line_deadline);
        [line, self.slowed_until, self.probe_at, broken, blocked].into_iter().flatten().min()
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
        // A deadline that has passed is looked after at once; but only once, so that no slip of ours can spin here.
        for _ in 0..2 {
            if let Poll::Ready(end) = self.poll_phase(cx) {
                return Poll::Ready(end);
            }
            if self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
        yield_now(cx)
    }
}

fn has_passed(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until <= now())
}
