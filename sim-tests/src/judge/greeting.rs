//! TLS, as far as it shows: who does not speak it where it is spoken, and who waits for whom.

use std::collections::BTreeMap;
use std::time::Duration;

use super::view::Life;
use super::{AT_ONCE, Case, Facts, SLACK, Violation};
use crate::history::{Client, Event, History};

/// How long shaking hands may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a record with an alert begins with.
const ALERT: u8 = 0x15;

/// More than the server says to one that does not speak TLS: a record with an alert has 7 bytes.
const ALERTS_BYTES_MAX: usize = 14;

/// One who came and never was connected.
#[derive(Default)]
struct Knocker {
    came: Option<Duration>,
    is_connected: bool,
    /// It was held, or did not read.
    is_held: bool,
    over: Option<Duration>,
    received: Vec<u8>,
}

/// What became of those who never shook hands.
pub(super) fn check(history: &History, facts: &Facts, lives: &[Life], wrong: &mut Vec<Violation>) {
    let Some(healed) = &history.healed else { return };
    for (client, knocker) in knockers(history) {
        let Some(came) = knocker.came.filter(|_| !knocker.is_connected) else { continue };
        let mut blame = |invariant, at, detail: &str| {
            wrong.push(Violation::of(invariant, &[client]).at(at).because(detail.to_owned()));
        };
        let is_alert = knocker.received.first() == Some(&ALERT) && knocker.received.len() <= ALERTS_BYTES_MAX;
        if !knocker.received.is_empty() && !is_alert {
            blame("knockers-hear-nothing", came, "it was told something, and had not shaken hands");
        }
        let by = came.saturating_add(DEADLINE).saturating_add(SLACK);
        // Nobody could be shown out while the clocks jumped.
        let jump = facts.jumps.iter().find(|(from, until)| (*from..*until).contains(&by));
        let by = jump.map_or(by, |(_, until)| until.saturating_add(SLACK));
        let life = &lives[Life::of(lives, came)];
        let is_due = by <= healed.end && life.over().is_none_or(|over| over > by) && !knocker.is_held;
        if is_due && knocker.over.is_none_or(|over| over > by) {
            blame("knockers-are-shown-out", by, "it had not shaken hands by then, and was still there");
        }
    }
}

fn knockers(history: &History) -> BTreeMap<Client, Knocker> {
    let mut knockers: BTreeMap<Client, Knocker> = BTreeMap::new();
    for record in &history.records {
        let knocker = knockers.entry(record.client).or_default();
        match &record.event {
            Event::Knocked { .. } => knocker.came = Some(record.at),
            Event::Connected { .. } => knocker.is_connected = true,
            Event::Received { bytes } if knocker.came.is_some() && !knocker.is_connected => {
                knocker.received.extend_from_slice(bytes);
            }
            Event::Pause => knocker.is_held = true,
            Event::Refused | Event::Reset | Event::Dropped | Event::ReceivedEnd | Event::ReceivedError { .. } => {
                knocker.over = knocker.over.or(Some(record.at));
            }
            Event::Received { .. } | Event::Resume | Event::Sent { .. } | Event::SentEnd => {}
        }
    }
    knockers
}

/// Who reads all the time, over a link that takes none, is let in or asked for a password as soon as it comes, if the room has space.
pub(super) fn check_delays(case: &Case<'_>, wrong: &mut Vec<Violation>) {
    for &number in case.members.iter().filter(|_| case.facts.is_prompt) {
        let view = &case.views[number];
        let Some(knocked) = view.knocked.filter(|_| case.facts.awake.contains(&view.client)) else { continue };
        let Some(came) = view.asked.or(view.welcomed) else { continue };
        let due = knocked.saturating_add(5 * AT_ONCE);
        let is_over = case.life.over().into_iter().chain(view.removed).any(|over| over <= due);
        if came > due && !is_over && !case.was_full(knocked, came) {
            let late = came.saturating_sub(knocked);
            let blame = Violation::of("handshakes-delay-nobody", &[view.client]).at(came);
            wrong.push(blame.because(format!("it was let in {late:?} after it came")));
        }
    }
}
