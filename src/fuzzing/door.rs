//! A door with a password, and the slow truth of the dialog at it: each line is a try until one is right, or the third is wrong.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Room;
use crate::door::{Password, Passwords, Policy, Verdict};
use crate::limits::{ATTEMPT_RATE, ATTEMPTS_MAX, Limits};
use crate::notice::Notice;
use crate::session::Wire;

use super::guess::spoken;
use super::judge::meant_by;
use super::line::{Told, Truth};
use super::session::Meaning;

/// So short that it is found, and no line is too short for it.
const PASSWORD: &[u8] = b"k";

/// How long it takes to prove one.
const PROOF: Duration = Duration::from_millis(5);

/// Proves the password at once, but that it takes time, and notes when it was asked to.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyhole(Arc<Mutex<Vec<Instant>>>);

impl Passwords for Keyhole {
    fn verify(&self, password: Password) -> Verdict {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        let is_right = password.bytes() == PASSWORD;
        Box::pin(async move {
            sleep(PROOF).await;
            is_right
        })
    }
}

impl Keyhole {
    /// From now on newcomers are asked.
    pub(super) fn guard(&self, room: &Room) {
        let passwords: Arc<dyn Passwords> = Arc::new(self.clone());
        room.door().replace(Policy { passwords: Some(passwords), ..Policy::default() });
    }

    /// Law 6: over any span no more are tried from one address, which all have in common, than there may be. Returns whether
    /// there were so many that somebody may have been told so.
    pub(super) fn check_pace(&self) -> bool {
        let tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let burst = ATTEMPT_RATE.burst as usize;
        for (at, first) in tries.iter().enumerate() {
            for (more, last) in tries[at..].iter().skip(burst).enumerate() {
                let span = Duration::from_secs(more as u64 + 1) / ATTEMPT_RATE.per_second;
                assert!(*last - *first >= span, "law 6: {} tries within less than {span:?}", burst + more + 1);
            }
        }
        tries.len() >= burst
    }
}

/// What comes of one who is asked.
pub(super) struct Dialog {
    /// What it is told until it comes in or goes: one of these.
    told: Vec<Vec<u8>>,
    pub(super) comes_in: bool,
    /// It is turned away for what it said: nothing that follows counts.
    is_turned_away: bool,
    wire: Wire,
    limits: Limits,
}

impl Dialog {
    /// Of this input, and what the rest of it means. `at_end`: it ended cleanly, so that its last line counts.
    pub(super) fn of(input: &[u8], at_end: bool, wire: Wire, limits: &Limits) -> (Self, Vec<Meaning>) {
        let mut truth = Truth::new(limits.line_bytes_max, !wire.raw);
        let spoken = spoken(input, at_end, wire);
        truth.on_read(&spoken.text);
        let whole = truth.events(at_end || spoken.foreign.is_some()).len();
        let mut events = truth.events(true);
        // One that is too long is tried before it has ended.
        if events.len() > whole && events.last() != Some(&Told::TooLong) {
            events.truncate(whole);
        }
        let mut dialog = Self {
            told: vec![written(wire, &[Notice::PasswordWanted])],
            comes_in: false,
            is_turned_away: false,
            wire,
            limits: limits.clone(),
        };
        if let Some(protocol) = spoken.foreign {
            // Of its line as much may have come that it was tried, before it was certain what it is.
            if events.first() == Some(&Told::TooLong) {
                let too_long = Notice::TooLong { line_bytes_max: limits.line_bytes_max };
                dialog.told = [too_long, Notice::PasswordWrong]
                    .map(|notice| written(wire, &[Notice::PasswordWanted, notice]))
                    .to_vec();
            }
            for told in &mut dialog.told {
                protocol.write_answer(wire.lang, told);
            }
            dialog.is_turned_away = true;
            return (dialog, vec![Meaning::foreign(protocol, wire)]);
        }
        for (at, event) in events.iter().enumerate() {
            if matches!(event, Told::Line(text) if text == PASSWORD) {
                dialog.comes_in = true;
                return (dialog, meant_by(&events[at + 1..], wire, limits));
            }
            dialog.is_turned_away = at + 1 == usize::from(ATTEMPTS_MAX);
            let notice = if dialog.is_turned_away { Notice::PasswordRefused } else { Notice::PasswordWrong };
            notice.write(wire.lang, &mut dialog.told[0]);
            if dialog.is_turned_away {
                break;
            }
        }
        (dialog, Vec::new())
    }

    /// Whether one who was told this was turned away, for what it said or for how many tries there were.
    pub(super) fn turns_away(&self, seen: &[u8]) -> bool {
        self.is_turned_away || self.is_hasty(seen)
    }

    /// Whether it was told that there were too many tries.
    pub(super) fn is_hasty(&self, seen: &[u8]) -> bool {
        seen.ends_with(&written(self.wire, &[Notice::PasswordHasty]))
    }

    /// Law 4: `told` is what was told before the welcome, which has come if `is_welcome`. `is_whole`: nothing cut it off.
    /// `is_stopped`: the server was ended amid it.
    pub(super) fn judge(&self, told: &[u8], is_welcome: bool, is_whole: bool, is_stopped: bool) {
        if is_welcome {
            assert!(self.comes_in, "law 4: only who knows the password comes in");
            assert_eq!(told, self.told[0], "law 4: each try is answered, once, before it comes in");
            return;
        }
        if is_whole && !self.is_hasty(told) {
            assert!(!self.comes_in, "law 4: who knows the password comes in");
            assert!(self.told.iter().any(|due| due == told), "law 4: each try is answered, once: {}", show(told));
            return;
        }
        let mut farewells = vec![written(self.wire, &[Notice::PasswordHasty])];
        if is_stopped {
            farewells.push(written(self.wire, &[Notice::Stopping]));
        }
        if !is_whole {
            farewells.push(written(self.wire, &[Notice::PasswordDeadline { limit: self.limits.line_deadline }]));
            if self.comes_in {
                farewells.push(b"Welcome ".to_vec());
            }
        }
        let is_due = self.told.iter().any(|due| {
            let ends = (0..=due.len()).filter(|end| *end == 0 || due[end - 1] == b'\n');
            due.starts_with(told)
                || ends
                    .flat_map(|end| farewells.iter().map(move |last| [&due[..end], last].concat()))
                    .any(|due| if is_whole { due == told } else { due.starts_with(told) })
        });
        assert!(is_due, "law 4: who is asked is told of nothing else: {}", show(told));
    }
}

fn written(wire: Wire, notices: &[Notice<'_>]) -> Vec<u8> {
    let mut written = Vec::new();
    for notice in notices {
        notice.write(wire.lang, &mut written);
    }
    written
}

fn show(told: &[u8]) -> String {
    told.escape_ascii().to_string()
}
