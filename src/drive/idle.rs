//! A connection to which nothing is due, and of whose input nothing is held: a few words.

use std::hint::black_box;

use tokio::io::{AsyncRead, AsyncWrite};

use super::outlet::Outlet;
use super::{Drive, Input, LineClock, Phase, Told};
use crate::room::{Member, Room};
use crate::session::Session;

/// A [`Drive`] with nothing to do: all that tells two such apart.
#[derive(Debug)]
pub(crate) struct Idle<S> {
    stream: S,
    member: Member,
    /// It has entered.
    is_inside: bool,
    /// A byte order mark would be text by now.
    has_begun: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Idle<S> {
    /// A connection from `address`, on its way into `room`.
    pub(crate) fn new(stream: S, address: &str, room: &Room) -> Self {
        Self { stream, member: room.seat(address), is_inside: false, has_begun: false }
    }

    /// Reads a little of all that the next poll reads first, of the stream by `touch`.
    pub(crate) fn touch(&self, touch: fn(&S)) {
        // At one end and at the other, as it lies in two lines of a cache.
        black_box((self.has_begun, self.member.who().len()));
        touch(&self.stream);
    }

    /// The drive that it was.
    pub(crate) fn unfold(self) -> Drive<S> {
        let Self { stream, member, is_inside, has_begun } = self;
        let room = member.room();
        let session = Session::new(room.wire(), room.limits(), has_begun);
        let allowance = room.allowance();
        Drive {
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
            amid_line: false,
            broken: None,
            input: Input::Read,
            line: LineClock::default(),
            probe_at: None,
            timer: None,
        }
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
            line,
            probe_at,
            timer,
        } = self;
        matches!(phase, Phase::Entering | Phase::Inside)
            && end.is_none()
            && outlet.is_clear()
            && told.bytes.is_empty()
            && roster.is_none()
            && *missed_lines == 0
            && !amid_line
            && broken.is_none()
            && *input == Input::Read
            && line.is_clear()
            && probe_at.is_none()
            && timer.is_none()
            && session.is_idle()
            && allowance.is_clear()
    }

    /// Keeps what an idle connection needs.
    pub(crate) fn fold(self) -> Idle<S> {
        debug_assert!(self.is_idle());
        Idle {
            is_inside: matches!(self.phase, Phase::Inside),
            has_begun: self.session.has_begun(),
            stream: self.stream,
            member: self.member,
        }
    }
}
