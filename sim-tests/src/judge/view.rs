//! One client's side of the story: what it asked for, what it saw line by line, and how it ended.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use unisono::Who;

use super::wire::{self, Input, Told};
use super::{Facts, Law, Violation, guests};
use crate::history::{Client, Event, History, Keeping, ServerEvent, seconds, shown};

/// A life of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) started: Duration,
    pub(super) stopping: Option<Duration>,
    /// When it was over, in whatever way.
    pub(super) ended: Option<Duration>,
}

impl Life {
    pub(super) fn all(history: &History) -> Vec<Self> {
        let mut lives: Vec<Self> = Vec::new();
        for (at, event) in &history.server {
            if *event == ServerEvent::Started {
                lives.push(Self { started: *at, ..Self::default() });
                continue;
            }
            if lives.is_empty() {
                lives.push(Self::default());
            }
            let Some(life) = lives.last_mut() else { continue };
            match event {
                ServerEvent::Stopping => life.stopping = Some(*at),
                ServerEvent::Stopped | ServerEvent::Crashed => life.ended = Some(*at),
                ServerEvent::Started => {}
            }
        }
        if lives.is_empty() {
            lives.push(Self::default());
        }
        lives
    }

    /// Since when nothing more is promised.
    pub(super) fn over(&self) -> Option<Duration> {
        [self.stopping, self.ended].into_iter().flatten().min()
    }

    /// Which life something at this time belongs to.
    pub(super) fn of(lives: &[Self], at: Duration) -> usize {
        lives.iter().rposition(|life| life.started <= at).unwrap_or(0)
    }
}

/// A line of the room, as one client received it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) digest: u64,
    start: usize,
    end: usize,
    /// How many lines of the room came before it since the client entered.
    pub(super) place: i64,
    pub(super) at: Duration,
}

/// Lines that were reported missed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) place: i64,
    pub(super) lines: i64,
    pub(super) at: Duration,
    /// It stands before this one of the lines received.
    pub(super) before: usize,
}

/// One client.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what is known of a client is known one by one")]
pub(super) struct View {
    pub(super) client: Client,
    pub(super) address: String,
    /// What it is called until it takes a name: its address, or its number as a guest. Empty if nobody knows that.
    pub(super) who: String,
    pub(super) life: usize,
    /// When there was a connection for TLS, if it speaks that.
    pub(super) knocked: Option<Duration>,
    pub(super) connected: Duration,
    pub(super) input: Input,
    pub(super) lines: Vec<Line>,
    pub(super) runs: Vec<Run>,
    pub(super) is_welcomed: bool,
    /// When it was asked for a password, what it was told of those that it said, and when it was welcomed.
    pub(super) asked: Option<Duration>,
    pub(super) answers: Vec<(Duration, Told)>,
    pub(super) welcomed: Option<Duration>,
    /// It was told that it is not let in, or has not said the password; and why, if it was told.
    pub(super) is_refused: bool,
    pub(super) refusal: Option<Told>,
    /// When whoever keeps the server removed it, or may have, if it was accepted by then; whether that is sure; and whether it was
    /// told so.
    pub(super) removed: Option<Duration>,
    pub(super) is_surely_removed: bool,
    pub(super) is_told_removed: bool,
    /// It comes from where no strangers come from.
    pub(super) is_trusted: bool,
    /// It was told that it took too long for a line.
    pub(super) is_late: bool,
    /// How many of its lines were refused for want of memory.
    pub(super) unspared: i64,
    pub(super) sent_end: Option<Duration>,
    pub(super) reset: Option<Duration>,
    pub(super) received_end: Option<Duration>,
    pub(super) received_error: Option<Duration>,
    /// From when to when it did not read.
    pub(super) pauses: Vec<(Duration, Option<Duration>)>,
    /// When it received anything, since it was connected.
    pub(super) reads: Vec<Duration>,
    bytes: Vec<u8>,
    /// Bytes behind the last line feed.
    tail: Vec<u8>,
}

impl View {
    /// All clients that were ever connected, and what is wrong with any of them alone.
    pub(super) fn all(
        history: &History,
        facts: &Facts,
        lives: &[Life],
        may_be_torn: bool,
        wrong: &mut Vec<Violation>,
    ) -> Vec<Self> {
        let mut events: BTreeMap<Client, Vec<(Duration, &Event)>> = BTreeMap::new();
        for record in &history.records {
            events.entry(record.client).or_default().push((record.at, &record.event));
        }
        let mut views = Vec::new();
        for (client, events) in events {
            let guest = facts.guests.get(&client).copied();
            views.extend(Self::of(client, guest, &events, history, lives, wrong));
        }
        for view in &views {
            view.check_tail(history, &lives[view.life], may_be_torn, wrong);
        }
        views
    }

    fn of(
        client: Client,
        guest: Option<u64>,
        events: &[(Duration, &Event)],
        history: &History,
        lives: &[Life],
        wrong: &mut Vec<Violation>,
    ) -> Option<Self> {
        let (connected, address) = events.iter().find_map(|(at, event)| match event {
            Event::Connected { address } => Some((*at, address.clone())),
            _ => None,
        })?;
        let mut view = Self { client, address, connected, life: Life::of(lives, connected), ..Self::default() };
        view.who = match history.rules.wire.who {
            Who::Address => view.address.clone(),
            Who::Guest => guest.map_or_else(String::new, guests::called),
        };
        view.reads.push(connected);
        let ip = view.ip().map(|ip| ip.to_canonical());
        let is_mine = |what: &Keeping| matches!(what, Keeping::Removed { client: removed } if *removed == client);
        view.is_surely_removed = history.keeping.iter().any(|(_, what)| is_mine(what));
        view.removed = view.removed_at(history, ip);
        view.is_trusted = ip.is_some_and(|ip| history.rules.limits.trusted.iter().any(|net| net.contains(&ip)));
        let mut sent: Vec<(Duration, &[u8])> = Vec::new();
        let mut reads: Vec<(Duration, usize)> = Vec::new();
        let mut dropped = None;
        for &(at, event) in events {
            match event {
                Event::Sent { bytes } => sent.push((at, bytes)),
                Event::Received { bytes } => {
                    view.bytes.extend_from_slice(bytes);
                    reads.push((at, view.bytes.len()));
                    view.reads.push(at);
                }
                Event::SentEnd => view.sent_end = view.sent_end.or(Some(at)),
                Event::Reset => view.reset = view.reset.or(Some(at)),
                // Perhaps an end of its input, and perhaps a break: neither is owed what the other is.
                Event::Dropped => {
                    view.reset = view.reset.or(Some(at));
                    dropped = Some(at);
                }
                Event::ReceivedEnd => view.received_end = view.received_end.or(Some(at)),
                Event::ReceivedError { .. } => view.received_error = view.received_error.or(Some(at)),
                Event::Pause => view.pauses.push((at, None)),
                Event::Resume => {
                    if let Some((_, until @ None)) = view.pauses.last_mut() {
                        *until = Some(at);
                    }
                }
                Event::Knocked { .. } => view.knocked = Some(at),
                Event::Connected { .. } | Event::Refused => {}
            }
        }
        view.input = Input::of(&sent, view.sent_end.or(dropped), view.gone(), &history.rules);
        view.read(&reads, history, wrong);
        Some(view)
    }

    /// When it was removed, by its number or with all that come from `ip`.
    fn removed_at(&self, history: &History, ip: Option<IpAddr>) -> Option<Duration> {
        let is_it = |what: &Keeping| match what {
            Keeping::Removed { client } => *client == self.client,
            Keeping::Banned { ip: banned } => Some(*banned) == ip,
            Keeping::Announced { .. } | Keeping::Lifted { .. } => false,
        };
        let mut removals = history.keeping.iter().filter(|(at, what)| *at >= self.connected && is_it(what));
        removals.next().map(|(at, _)| *at)
    }

    /// Splits what was received. Welcome comes first, unless the client is not let in; then lines and notices, all whole.
    fn read(&mut self, reads: &[(Duration, usize)], history: &History, wrong: &mut Vec<Violation>) {
        let wire = history.rules.wire;
        let bytes = std::mem::take(&mut self.bytes);
        let mut reads = reads.iter();
        let mut read = reads.next();
        let (mut start, mut place) = (0, 0);
        let mut blame = |invariant, at, line: &[u8], detail: &str| {
            wrong.push(Violation::of(invariant, &[self.client]).line(line).at(at).because(detail.to_owned()));
        };
        let has_guests = wire.who == Who::Guest;
        for end in memchr_all(&bytes) {
            while read.is_some_and(|(_, until)| *until <= end) {
                read = reads.next();
            }
            let at = read.map_or(self.connected, |(at, _)| *at);
            let line = &bytes[start..end];
            let first = std::mem::replace(&mut start, end + 1) == 0;
            let notice = if line.starts_with(b"-- ") { wire::told(line, wire) } else { None };
            if self.is_told_removed {
                blame("removed-hear-why-last", at, line, "it was told before that it was removed");
            }
            let is_asked = history.rules.password.is_some() && self.welcomed.is_none();
            if has_guests && guests::shows_address(line, wire.lang) {
                blame("guests-show-no-address", at, line, "this shows where somebody comes from");
            }
            let greeted = wire::welcomed(line, wire.lang);
            if let Some(who) = greeted.filter(|who| has_guests && self.welcomed.is_none() && guests::may_be(who)) {
                who.clone_into(&mut self.who);
            }
            let is_welcome = greeted == Some(&self.who);
            if is_asked && (self.asked.is_some() || notice == Some(Told::PasswordWanted)) {
                match notice {
                    Some(Told::PasswordWanted) if first => self.asked = Some(at),
                    Some(Told::PasswordWanted) => blame("asked-first", at, line, "it had been asked before"),
                    Some(Told::PasswordWrong | Told::PasswordRefused | Told::PasswordHasty | Told::PasswordLate) => {
                        self.answers.extend(notice.map(|told| (at, told)));
                    }
                    Some(Told::Removed) => {
                        self.is_told_removed = true;
                        self.refusal = notice;
                    }
                    Some(Told::Stopping) => {}
                    None if is_welcome => {
                        self.is_welcomed = true;
                        self.welcomed = Some(at);
                    }
                    _ => blame("asked-see-nothing", at, line, "it had not come in, and this is for who has"),
                }
            } else if first {
                let is_out = matches!(notice, Some(Told::NotLetIn | Told::Hasty | Told::Banned | Told::Removed));
                self.is_refused = is_out;
                self.refusal = notice.filter(|_| is_out);
                self.is_told_removed = notice == Some(Told::Removed);
                self.is_welcomed = is_welcome;
                self.welcomed = Some(at).filter(|_| is_welcome);
                if is_asked && is_welcome {
                    blame("asked-first", at, line, "it was let in without being asked for the password");
                }
                if !self.is_refused && !self.is_welcomed {
                    blame("welcome-first", at, line, "the first line is neither the welcome nor a refusal");
                }
            } else if line.starts_with(b"-- ") {
                match notice {
                    Some(Told::Missed(lines)) => {
                        self.runs.push(Run { place, lines, at, before: self.lines.len() });
                        place = place.saturating_add(lines);
                    }
                    Some(Told::Unspared) => self.unspared += 1,
                    Some(Told::LineDeadline) => self.is_late = true,
                    Some(Told::Other | Told::Stopping) => {}
                    Some(
                        Told::PasswordWanted
                        | Told::PasswordWrong
                        | Told::PasswordRefused
                        | Told::PasswordHasty
                        | Told::PasswordLate,
                    ) => blame("asked-first", at, line, "it is not to say a password, or not any more"),
                    Some(Told::Removed) => self.is_told_removed = true,
                    Some(Told::NotLetIn | Told::Hasty | Told::Banned) => {
                        blame("welcome-first", at, line, "a refusal does not come first");
                    }
                    None => blame("notices-are-known", at, line, "the server has no such notice"),
                }
            } else if is_welcome {
                blame("welcome-first", at, line, "a second welcome");
            } else {
                let mut hasher = DefaultHasher::new();
                hasher.write(line);
                self.lines.push(Line { digest: hasher.finish(), start: end - line.len(), end, place, at });
                place += 1;
            }
        }
        if history.rules.password.is_some() && !self.is_welcomed {
            let is_turned_away = self.answers.iter().any(|(_, told)| *told != Told::PasswordWrong);
            self.is_refused |= is_turned_away || self.refusal.is_some() || !self.input.is_proved();
        }
        self.tail = bytes[start..].to_vec();
        // Of a notice that did not come whole, nobody knows that it was not this one.
        self.is_late |= self.tail.first() == Some(&b'-');
        self.bytes = bytes;
    }

    /// A stream may end amid a line only if it broke, or the server did not have to finish it.
    fn check_tail(&self, history: &History, life: &Life, may_be_torn: bool, wrong: &mut Vec<Violation>) {
        let Some(ended) = self.received_end else { return };
        let is_over = life.over().is_some_and(|over| over <= ended);
        let stall = most_of(history.rules.limits.stall);
        // A refusal is written as far as that goes without waiting.
        let is_refusal = self.tail.len() == self.bytes.len() && self.tail.starts_with(b"-");
        let is_removed = self.removed.is_some_and(|removed| removed <= ended);
        let may_be_cut =
            self.is_broken() || is_over || is_removed || self.was_paused_for(stall) || may_be_torn || is_refusal;
        if !self.tail.is_empty() && !may_be_cut && !self.may_have_stalled(history, |_| None) {
            let blame = Violation::of("lines-are-whole", &[self.client]).line(&self.tail).at(ended);
            wrong.push(blame.because("the stream ended amid a line, and nothing had broken".to_owned()));
        }
    }

    /// It has not come in before.
    pub(super) fn in_from(&self) -> Duration {
        let right = self.input.tries.last().filter(|last| last.is_right);
        right.map_or(self.connected, |right| right.at.max(self.connected))
    }

    /// No line that it received is unended.
    pub(super) fn is_at_lines_end(&self) -> bool {
        self.tail.is_empty()
    }

    pub(super) fn text(&self, line: &Line) -> &[u8] {
        &self.bytes[line.start..line.end]
    }

    /// How many lines of the room it was accountable for, received or missed, by this time.
    pub(super) fn reach(&self, until: Duration) -> i64 {
        let lines = self.lines.partition_point(|line| line.at <= until);
        let runs = self.runs.partition_point(|run| run.at <= until);
        let of_lines = lines.checked_sub(1).map_or(0, |last| self.lines[last].place + 1);
        let of_runs = runs.checked_sub(1).map_or(0, |last| self.runs[last].place.saturating_add(self.runs[last].lines));
        of_lines.max(of_runs)
    }

    pub(super) fn len(&self) -> i64 {
        self.reach(Duration::MAX)
    }

    /// The last thing it received was that it missed something.
    pub(super) fn ends_missing(&self) -> bool {
        self.runs.last().is_some_and(|run| run.before == self.lines.len())
    }

    pub(super) fn run_before(&self, line: usize) -> bool {
        self.runs.binary_search_by(|run| run.before.cmp(&line)).is_ok()
    }

    /// Nothing about its end is owed any more.
    pub(super) fn is_broken(&self) -> bool {
        self.reset.is_some() || self.received_error.is_some()
    }

    /// When its connection was over on its own side.
    pub(super) fn gone(&self) -> Option<Duration> {
        [self.reset, self.received_error, self.received_end].into_iter().flatten().min()
    }

    /// When it wanted to go, or had to.
    pub(super) fn left(&self) -> Option<Duration> {
        [self.sent_end, self.input.quit, self.removed].into_iter().flatten().min()
    }

    /// It once stopped reading, or was held, for so long.
    pub(super) fn was_paused_for(&self, limit: Duration) -> bool {
        self.pauses.iter().any(|(from, until)| until.is_none_or(|until| until.saturating_sub(*from) >= limit))
    }

    /// Its connection may have taken nothing for the stall limit: it received nothing for most of that, and what it got next
    /// had been there for others all the while. `seen` tells when somebody else saw the line with this number.
    pub(super) fn may_have_stalled(&self, history: &History, seen: impl Fn(usize) -> Option<Duration>) -> bool {
        let stall = most_of(history.rules.limits.stall);
        let ends = self.received_end.or(self.gone());
        let times = self.reads.iter().copied().chain(ends);
        let gaps = self.reads.iter().copied().zip(times.skip(1)).filter(|(from, to)| to.saturating_sub(*from) >= stall);
        let was_due = |(_, to): (Duration, Duration)| {
            let next = self.lines.partition_point(|line| line.at < to);
            seen(next).is_none_or(|seen| seen.saturating_add(stall) <= to)
        };
        self.was_paused_for(stall) || gaps.into_iter().any(was_due)
    }

    /// When it can be held to everything up to its end: the stream ended cleanly, in time, and the server had no cause to end
    /// it before.
    pub(super) fn has_clean_end(&self, life: &Life) -> bool {
        let is_in_time = |ended: Duration| life.over().is_none_or(|over| ended < over);
        self.is_welcomed
            && !self.is_broken()
            && self.removed.is_none()
            && self.tail.is_empty()
            && self.received_end.is_some_and(is_in_time)
    }

    /// Where it comes from.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.address.parse::<SocketAddr>().ok().map(|address| address.ip())
    }

    /// The number of the first line that is heard of itself: said by it, or its new name.
    pub(super) fn first_heard(&self, lang: unisono::Lang) -> Option<usize> {
        self.lines.iter().position(|line| wire::is_of(self.text(line), &self.who, lang))
    }

    /// Whether the line with this number tells of somebody just before it is heard of. Where nobody knows what came next, it
    /// may.
    pub(super) fn may_introduce(&self, number: usize, who: &str, lang: unisono::Lang) -> bool {
        let next = self.lines.get(number + 1).filter(|_| !self.run_before(number + 1));
        next.is_none_or(|next| wire::is_of(self.text(next), who, lang))
    }

    /// It sees its own arrival or departure, which are for the others. Only an arrival that `may_be_counted` is told to it, too,
    /// when it is to be heard of.
    pub(super) fn check_own(&self, lang: unisono::Lang, may_be_counted: bool, wrong: &mut Vec<Violation>) {
        let mut names = vec![&*self.who];
        let mut is_introduced = !may_be_counted;
        for (number, line) in self.lines.iter().enumerate() {
            let text = self.text(line);
            if !text.starts_with(names[names.len() - 1].as_bytes()) {
                continue;
            }
            match wire::kind(text, lang) {
                wire::Kind::Renamed { who, new } if who == names[names.len() - 1] => names.push(new),
                wire::Kind::Arrival { who } if who == self.who => {
                    if !std::mem::replace(&mut is_introduced, true) && self.may_introduce(number, who, lang) {
                        continue;
                    }
                    let blame = Violation::of("own-brackets-are-for-others", &[self.client]).line(text).at(line.at);
                    wrong.push(blame.because("it was told of its own arrival".to_owned()));
                }
                wire::Kind::Departure { who } if who == names[names.len() - 1] => {
                    let blame = Violation::of("own-brackets-are-for-others", &[self.client]).line(text).at(line.at);
                    wrong.push(blame.because("it was told of its own departure".to_owned()));
                }
                _ => {}
            }
        }
    }
}

/// Three quarters.
pub(super) fn most_of(limit: Duration) -> Duration {
    limit.checked_mul(3).map_or(limit, |limit| limit / 4)
}

fn memchr_all(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at)
}

impl Violation {
    /// The invariant is one of [`INVARIANTS`](super::INVARIANTS).
    pub(super) fn of(invariant: &'static str, clients: &[Client]) -> Self {
        let known = super::INVARIANTS.iter().find(|(name, _)| *name == invariant);
        let law = known.map_or(Law::TrueLines, |(_, law)| *law);
        debug_assert!(known.is_some(), "{invariant} is not in the list");
        Self { law, invariant, clients: clients.to_vec(), line: None, at: None, detail: String::new() }
    }

    pub(super) fn line(self, line: &[u8]) -> Self {
        Self { line: Some(shown(line)), ..self }
    }

    pub(super) fn at(self, at: Duration) -> Self {
        Self { at: Some(at), ..self }
    }

    pub(super) fn because(self, detail: String) -> Self {
        Self { detail, ..self }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.law, self.invariant, self.detail)?;
        if !self.clients.is_empty() {
            let clients: Vec<String> = self.clients.iter().map(|client| format!("#{client}")).collect();
            write!(f, "; clients {}", clients.join(", "))?;
        }
        if let Some(line) = &self.line {
            write!(f, "; line {line}")?;
        }
        if let Some(at) = self.at {
            write!(f, "; at {}", seconds(at))?;
        }
        Ok(())
    }
}
