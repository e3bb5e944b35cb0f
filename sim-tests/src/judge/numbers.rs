//! Laws 6 to 9 as far as they are arithmetic: the room's own numbers against its limits.

use std::time::Duration;

use unisono::Limits;

use super::view::{Life, View};
use super::{AT_ONCE, READ_BYTES, SLACK, Violation, found_out_within};
use crate::history::{History, Sample};

/// More than any departure takes: the longest WHO and the words.
const DEPARTURE_BYTES: usize = 96 + 16;

/// The grain in which the room drops old lines.
pub(super) fn segment_bytes(limits: &Limits) -> usize {
    (limits.backlog_bytes / 64).clamp(1, 64 * 1024)
}

/// Law 6 (a): over each span in which there was demand the room took at least (T/P - 1) x B, less an eighth. The span is cut
/// to the samples within it; without samples, without patience or with endless patience nothing is promised.
pub fn judge_patience(history: &History, demand: &[(Duration, Duration)]) -> Vec<Violation> {
    let limits = &history.rules.limits;
    let (patience, backlog) = (limits.patience.as_nanos(), limits.backlog_bytes as u128);
    let mut wrong = Vec::new();
    if patience == 0 || limits.patience == unisono::limits::FOREVER {
        return wrong;
    }
    let lives = Life::all(history);
    for &(from, until) in demand {
        let within = || history.samples.iter().filter(|sample| (from..=until).contains(&sample.at));
        // Of one moment the last: before it there may have been another life.
        let begin = within().next().map(|sample| sample.at);
        let Some(first) = within().take_while(|sample| Some(sample.at) == begin).last() else { continue };
        let last = within().next_back().unwrap_or(first);
        if Life::of(&lives, first.at) != Life::of(&lives, last.at) {
            continue;
        }
        let span = last.at.saturating_sub(first.at);
        let accepted = last.said_bytes.saturating_sub(first.said_bytes);
        let due = span.as_nanos().saturating_sub(patience).saturating_mul(backlog) / patience * 7 / 8;
        if u128::from(accepted) < due {
            let detail = format!("the room took {accepted} bytes in {span:?}, at least {due} were due");
            wrong.push(Violation::of("room-moves-on", &[]).at(first.at).because(detail));
        }
    }
    wrong
}

pub(super) fn check_samples(history: &History, lives: &[Life], views: &[View], wrong: &mut Vec<Violation>) {
    for pair in history.samples.windows(2) {
        check_parked(history, lives, &pair[0], &pair[1], wrong);
    }
    for sample in &history.samples {
        check_bounds(history, lives, views, sample, wrong);
    }
    if let Some(healed) = &history.healed
        && let Some(sample) = history.samples.iter().find(|sample| sample.at >= healed.end)
    {
        check_quiet(history, lives, views, sample, &healed.core, wrong);
    }
    let ended = lives.last().and_then(|life| life.ended.filter(|_| life.stopping.is_some()));
    if let (Some(ended), Some(sample)) = (ended, history.samples.last())
        && sample.at >= ended
    {
        let left = [sample.members, sample.seats, sample.partial_bytes, sample.held_bytes];
        if left != [0; 4] {
            let [members, seats, partial, held] = left;
            let detail =
                format!("{members} members, {seats} seats, {partial} bytes of partial lines and {held} held remain");
            wrong.push(Violation::of("nothing-is-left", &[]).at(sample.at).because(detail));
        }
    }
}

/// A sender is parked for want of space, and wakes when there is some.
fn check_parked(history: &History, lives: &[Life], before: &Sample, after: &Sample, wrong: &mut Vec<Violation>) {
    let number = Life::of(lives, before.at);
    let is_over = lives[number].over().is_some_and(|over| over <= after.at);
    let is_still = before.said_bytes == after.said_bytes && after.at.saturating_sub(before.at) > AT_ONCE;
    let has_space = before.held_bytes.max(after.held_bytes) < history.rules.limits.backlog_bytes;
    let parked = before.senders_parked.min(after.senders_parked);
    if parked > 0 && is_still && has_space && !is_over && number == Life::of(lives, after.at) {
        let detail = format!("{parked} senders wait, and {} bytes are held", after.held_bytes);
        wrong.push(Violation::of("parked-senders-are-woken", &[]).at(after.at).because(detail));
    }
}

fn check_bounds(history: &History, lives: &[Life], views: &[View], sample: &Sample, wrong: &mut Vec<Violation>) {
    let limits = &history.rules.limits;
    let life = Life::of(lives, sample.at);
    let ever = views.iter().filter(|view| view.life == life && view.connected <= sample.at).count().max(sample.seats);
    let log = limits.backlog_bytes.saturating_add(segment_bytes(limits)).saturating_add(2 * limits.turn_bytes());
    let most = log.saturating_add(ever * DEPARTURE_BYTES);
    if sample.held_bytes > most {
        let detail = format!("{} bytes are held, of {most} at most", sample.held_bytes);
        wrong.push(Violation::of("backlog-is-bounded", &[]).at(sample.at).because(detail));
    }
    let most = limits.partial_bytes_total.saturating_add(READ_BYTES);
    if sample.partial_bytes > most {
        let detail = format!("{} bytes of partial lines, of {most} at most", sample.partial_bytes);
        wrong.push(Violation::of("partial-lines-are-bounded", &[]).at(sample.at).because(detail));
    }
}

/// Those of the core who are there are members, those who are surely gone are not; and when there is nobody else, nothing is
/// held.
fn check_quiet(
    history: &History,
    lives: &[Life],
    views: &[View],
    sample: &Sample,
    core: &[usize],
    wrong: &mut Vec<Violation>,
) {
    let number = Life::of(lives, sample.at);
    let life = &lives[number];
    if life.over().is_some_and(|over| over <= sample.at) {
        return;
    }
    let mine = views.iter().filter(|view| view.life == number && view.connected <= sample.at && !view.is_refused);
    let is_here = |view: &&View| {
        let is_going = view.left().or(view.gone()).is_some_and(|at| at <= sample.at);
        core.contains(&view.client) && view.is_welcomed && !is_going && !view.is_late
    };
    let bound = found_out_within(&history.rules.limits).saturating_add(SLACK);
    let is_gone = |view: &&View| {
        let vanished = view.reset.or(view.received_error).map(|at| at.saturating_add(bound));
        [view.received_end, vanished].into_iter().flatten().any(|at| at <= sample.at)
    };
    let (mut here, mut possible) = (0, 0);
    for view in mine {
        here += usize::from(is_here(&view));
        possible += usize::from(!is_gone(&view));
    }
    if !(here..=possible).contains(&sample.members) || sample.members > sample.seats {
        let (members, seats) = (sample.members, sample.seats);
        let detail =
            format!("{members} members and {seats} seats, with at least {here} and at most {possible} in the room");
        wrong.push(Violation::of("tally-counts-who-is-there", &[]).at(sample.at).because(detail));
    }
    if possible == here && sample.held_bytes > 0 {
        let detail = format!("{} bytes are held for readers who all read", sample.held_bytes);
        wrong.push(Violation::of("quiet-room-holds-nothing", &[]).at(sample.at).because(detail));
    }
}
