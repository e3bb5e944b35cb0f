//! The dialog before entering: a newcomer is asked for a password, and has a few tries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroize;

use super::{Drive, End, Heard, Input, LineClock, Phase, has_passed, now};
use crate::door::{Password, Verdict};
use crate::limits::{ATTEMPTS_MAX, INPUT_BYTES_FREE};
use crate::notice::Notice;

/// The longest line that is read for a password; one that fills it is refused.
const LINE_BYTES_MAX: usize = INPUT_BYTES_FREE + b"\r\n".len();

/// How far one has come with passwords.
#[derive(Default)]
pub(super) struct Asking {
    attempts: u8,
    /// Of the last one.
    verdict: Option<Verdict>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drive<S> {
    /// Asks for a password before all else.
    pub(super) fn ask(&mut self) {
        self.phase = Phase::Asking(Box::default());
        self.session.set_secret(true);
        Notice::PasswordWanted.write(self.member.room().wire().lang, &mut self.told.bytes);
    }

    /// Hears passwords until one is right, and then goes on to enter. What follows it is held.
    pub(super) fn poll_ask(&mut self, reads: &mut usize, cx: &mut Context<'_>) -> io::Result<Heard> {
        if self.member.poll_outside(cx).is_ready() {
            self.leave(None);
            return Ok(Heard::Something);
        }
        let Phase::Asking(asking) = &mut self.phase else { return Ok(Heard::Nothing) };
        if let Some(verdict) = &mut asking.verdict {
            let Poll::Ready(is_right) = verdict.as_mut().poll(cx) else {
                self.line.pause();
                return match self.poll_probe(cx) {
                    Poll::Ready(Err(error)) => Err(error),
                    _ => Ok(Heard::Nothing),
                };
            };
            asking.verdict = None;
            self.probe_at = None;
            if is_right {
                self.phase = Phase::Entering;
                self.session.set_secret(false);
                self.line = LineClock::default();
                if self.input == Input::Read {
                    self.input = Input::Held;
                }
            } else {
                self.on_wrong();
            }
            return Ok(Heard::Something);
        }
        let at_end = self.input == Input::Ended;
        if let Some(password) = self.session.password(at_end) {
            self.try_password(password);
            return Ok(Heard::Something);
        }
        if at_end {
            self.leave(Some(End::Left));
            return Ok(Heard::Something);
        }
        if *reads == 0 {
            return Ok(Heard::Enough);
        }
        *reads -= 1;
        self.read_password(cx)
    }

    fn read_password(&mut self, cx: &mut Context<'_>) -> io::Result<Heard> {
        let most = LINE_BYTES_MAX.saturating_sub(self.session.held_bytes());
        if most == 0 {
            self.session.refuse_password();
            self.on_wrong();
            return Ok(Heard::Something);
        }
        let mut bytes = [0; LINE_BYTES_MAX];
        let mut buffer = ReadBuf::new(&mut bytes[..most]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        self.is_listening = polled.is_pending();
        let heard = match polled {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.input = Input::Ended;
                self.session.hear_end(&mut self.told.bytes)
            }
            Poll::Ready(Ok(())) => {
                let heard = self.session.hear(buffer.filled_mut(), &mut self.told.bytes);
                let heard = heard.map(<[u8]>::to_vec);
                bytes.zeroize();
                heard.map(|mut text| {
                    self.session.keep(&text);
                    text.zeroize();
                })
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {
                self.line.run();
                let limit = self.member.room().limits().line_deadline;
                if !has_passed(self.line.deadline(limit)) {
                    return Ok(Heard::Nothing);
                }
                self.turn_away(Notice::PasswordDeadline { limit }, End::LineDeadline);
                return Ok(Heard::Something);
            }
        };
        if let Err(protocol) = heard {
            self.leave(Some(End::Foreign(protocol)));
        }
        Ok(Heard::Something)
    }

    fn try_password(&mut self, password: Password) {
        let door = self.member.room().door();
        let may_try = self.member.site().is_none_or(|site| door.may_try(site, now()));
        let passwords = door.policy().passwords.clone();
        let Phase::Asking(asking) = &mut self.phase else { return };
        if may_try {
            // Nobody is asked any more: then any is right.
            asking.verdict = Some(
                passwords.map_or_else(|| Box::pin(std::future::ready(true)) as Verdict, |own| own.verify(password)),
            );
        } else {
            self.turn_away(Notice::PasswordHasty, End::Denied);
        }
    }

    fn on_wrong(&mut self) {
        let Phase::Asking(asking) = &mut self.phase else { return };
        asking.attempts += 1;
        if asking.attempts < ATTEMPTS_MAX {
            Notice::PasswordWrong.write(self.member.room().wire().lang, &mut self.told.bytes);
        } else {
            self.turn_away(Notice::PasswordRefused, End::Denied);
        }
    }

    fn turn_away(&mut self, notice: Notice<'_>, end: End) {
        notice.write(self.member.room().wire().lang, &mut self.told.bytes);
        self.leave(Some(end));
    }
}
