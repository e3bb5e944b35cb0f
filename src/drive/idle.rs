//! A connection to which nothing is due, and of whose input nothing is held: a few words. And the short way of such a one
//! when there is something: it mostly gets what others said, takes it by one write, and is idle again.

use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::outlet::{Outlet, poll_write_slices};
use super::{Drive, Input, LineClock, Phase, Standing, Told, now};
use crate::flood::Meter;
use crate::log::Batch;
use crate::room::{Member, Next};
use crate::session::{Past, Session};
use crate::shard::yield_now;

/// A [`Drive`] with nothing to do: all that tells two such apart.
#[derive(Debug)]
pub(crate) struct Idle<S> {
    pub(super) stream: S,
    member: Member,
    /// It has entered.
    is_inside: bool,
    past: Past,
    standing: Standing,
    /// The last read was pending: its waker will be woken.
    is_listening: bool,
}

/// What the short way has left to do.
#[derive(Debug)]
pub(crate) enum Left {
    /// Whatever there is to be done.
    All,
    /// The rest of a line that is half written, and whatever else.
    Line,
    /// To see what can still be said: the connection broke.
    Broken(io::Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Idle<S> {
    /// The connection of `member`, on its way into the room.
    pub(crate) fn new(stream: S, member: Member, standing: Standing) -> Self {
        Self { stream, member, is_inside: false, past: Past::default(), standing, is_listening: false }
    }

    /// The short way of a member that was woken only for what others said: one write, and back to where it was parked. So it
    /// goes through a tenth of the code, most of which the kernel's send has driven out of the caches. (Measured: outside the
    /// kernel 5.5 instead of 9.7 % of CPU time.)
    ///
    /// `None`: it is idle again. Else it has to be [unfolded](Self::unfold), with what is left to do.
    pub(crate) fn poll_short(&mut self, is_quiet: fn(&S) -> bool, cx: &mut Context<'_>) -> Option<Left> {
        if !self.is_inside || !self.is_listening || !is_quiet(&self.stream) {
            return Some(Left::All);
        }
        let mut batch = Batch::default();
        let mut next = self.member.poll_next(0, &mut batch, cx);
        if next == Poll::Ready(Next::Lines) {
            let bytes = match poll_write_slices(&mut self.stream, &batch.io_slices(), cx) {
                Poll::Ready(Ok(0)) => return Some(Left::Broken(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => bytes,
                Poll::Ready(Err(error)) => return Some(Left::Broken(error)),
                // The drive tries once more, by a waker that notes the time.
                Poll::Pending => return Some(Left::All),
            };
            let is_whole = batch.advance(bytes);
            if !batch.is_empty() {
                self.member.pass(bytes);
                return Some(if is_whole { Left::All } else { Left::Line });
            }
            next = self.member.poll_next(bytes, &mut batch, cx);
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Some(Left::Broken(error)),
                // The drive sees to that.
                Poll::Pending => return Some(Left::All),
            }
        }
        match next {
            Poll::Pending => None,
            Poll::Ready(Next::Later) => {
                let _pending = yield_now::<()>(cx);
                None
            }
            Poll::Ready(Next::Lines | Next::End | Next::InTheWay) => Some(Left::All),
        }
    }

    /// Reads a little of all that the next poll reads first, but for its seat in the room.
    pub(crate) fn touch(&self, is_quiet: fn(&S) -> bool) {
        // At one end and at the other, as it lies in two lines of a cache.
        black_box((self.past, self.member.who().len(), is_quiet(&self.stream)));
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// The drive that it was, to do what is `left`.
    pub(crate) fn unfold(self, left: &Left) -> Drive<S> {
        let Self { stream, member, is_inside, past, standing, is_listening } = self;
        let room = member.room();
        let session = Session::new(room.wire(), room.limits(), past);
        let allowance = room.allowance();
        let meter = match standing {
            Standing::Stranger => room.flood_now().map(Meter::new),
            Standing::Trusted => None,
        };
        let mut drive = Drive {
            stream,
            member,
            session,
            allowance,
            phase: if is_inside { Phase::Inside } else { Phase::Entering },
            end: None,
            outlet: Outlet::default(),
            told: Told::default(),
            roster: None,
            missed_lines: 0,
            amid_line: matches!(left, Left::Line),
            broken: None,
            input: Input::Read,
            is_listening,
            line: LineClock::default(),
            standing,
            meter,
            slowed_until: None,
            probe_at: None,
            timer: None,
        };
        if !is_inside && drive.member.must_prove() {
            drive.ask();
        }
        if let Left::Broken(error) = left {
            drive.on_broken(error);
        }
        drive
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drive<S> {
    /// Whether [`fold`](Self::fold) loses nothing.
    pub(crate) fn is_idle(&self) -> bool {
        // Every field is named, so that none is forgotten.
        let Self {
            stream: _,
            member: _,
            session,
            allowance,
            phase,
            end,
            outlet,
            told,
            roster,
            missed_lines,
            amid_line,
            broken,
            input,
            is_listening: _,
            line,
            standing: _,
            meter,
            slowed_until,
            probe_at,
            timer,
        } = self;
        matches!(phase, Phase::Entering | Phase::Inside)
            && end.is_none()
            && outlet.is_clear()
            && told.is_empty()
            && roster.is_none()
            && *missed_lines == 0
            && !amid_line
            && broken.is_none()
            && *input == Input::Read
            && line.is_clear()
            && slowed_until.is_none()
            && probe_at.is_none()
            && timer.is_none()
            && session.is_idle()
            && allowance.is_clear()
            // Last, as it may read a clock.
            && meter.as_ref().is_none_or(|meter| meter.is_new() || meter.is_clear(now()))
    }

    /// Keeps what an idle connection needs.
    pub(crate) fn fold(self) -> Idle<S> {
        debug_assert!(self.is_idle());
        Idle {
            is_inside: matches!(self.phase, Phase::Inside),
            past: self.session.past(),
            is_listening: self.is_listening,
            standing: self.standing,
            stream: self.stream,
            member: self.member,
        }
    }
}
