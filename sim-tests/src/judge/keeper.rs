//! What whoever keeps the server does: it says something to all, removes members, and lets in nobody from somewhere.

use std::net::IpAddr;
use std::time::Duration;

use super::view::View;
use super::wire::Told as Notice;
use super::{AT_ONCE, Case, SLACK, Told, Violation};
use crate::history::Keeping;

/// Each of the core who missed nothing has all that was to be said since it was welcomed.
pub(super) fn check_announced(
    case: &Case<'_>,
    told: &Told,
    announced: &[(Duration, Vec<u8>)],
    wrong: &mut Vec<Violation>,
) {
    let Some(healed) = &case.history.healed else { return };
    let settled = healed.end.saturating_sub(SLACK);
    for number in case.here() {
        let view = &case.views[number];
        let Some(begin) = told.part.begins.get(&number).filter(|_| view.runs.is_empty()) else { continue };
        let Some(welcomed) = view.welcomed else { continue };
        let due = announced.iter().filter(|(at, _)| *at > welcomed && *at <= settled).count();
        let came = told.story.announced.iter().filter(|step| told.place(**step) >= *begin).count();
        if came < due && !case.may_be_full() {
            let blame = Violation::of("announcements-come-to-all", &[view.client]).at(healed.end);
            wrong.push(blame.because(format!("{due} were to be said since it was welcomed, and it has {came}")));
        }
    }
}

/// Who is removed has departed then, to the knowledge of all who read.
pub(super) fn check_departures(case: &Case<'_>, told: &Told, wrong: &mut Vec<Violation>) {
    let blame = |view: &View, at, detail: &str| {
        Violation::of("removed-depart-at-once", &[view.client]).at(at).because(detail.to_owned())
    };
    for (&number, &(step, at)) in &told.story.departed {
        let view = &case.views[number];
        let Some(removed) = view.removed.filter(|_| view.is_surely_removed) else { continue };
        let by = removed.saturating_add(10 * AT_ONCE);
        let place = told.place(step);
        let is_witness = |(other, begin): (&usize, &i64)| {
            let witness = &case.views[*other];
            let sees_it = case.is_awake(*other) && *begin <= place;
            sees_it && witness.connected <= removed && witness.left().or(witness.gone()).is_none_or(|left| left > by)
        };
        let is_over = case.life.over().is_some_and(|over| over <= by);
        if at > by && !is_over && told.part.begins.iter().any(is_witness) {
            wrong.push(blame(view, at, "it had been removed long before"));
        }
    }
    let Some(healed) = &case.history.healed else { return };
    let settled = healed.end.saturating_sub(SLACK);
    let sees_all = |number: &usize| told.part.begins.contains_key(number) && case.views[*number].runs.is_empty();
    if !case.here().iter().any(sees_all) {
        return;
    }
    for (&number, &excuses) in &told.story.present {
        let view = &case.views[number];
        let was_removed = view.is_surely_removed && view.removed.is_some_and(|removed| removed <= settled);
        if was_removed && excuses == 0 && !case.may_be_counted_out(told, number) {
            wrong.push(blame(view, settled, "it was removed, and nobody was told that it left"));
        }
    }
}

/// Who is removed is told so in the end, unless its connection takes nothing, or half a line stands in the way; and nobody else is.
pub(super) fn check_removed(case: &Case<'_>, wrong: &mut Vec<Violation>) {
    for &number in &case.members {
        let view = &case.views[number];
        let mut blame = |at, detail: &str| {
            wrong.push(Violation::of("removed-hear-why-last", &[view.client]).at(at).because(detail.to_owned()));
        };
        let Some(removed) = view.removed else {
            if view.is_told_removed {
                blame(view.gone().unwrap_or_default(), "nobody had removed it");
            }
            continue;
        };
        let had_gone = [view.sent_end, view.input.quit, view.gone(), case.life.over()];
        let had_gone = had_gone.into_iter().flatten().any(|at| at <= removed);
        let Some(ended) = view.received_end.filter(|_| view.is_welcomed && !view.is_broken() && !had_gone) else {
            continue;
        };
        let may_be_silent = view.is_late || !view.is_at_lines_end() || case.is_short_of_memory;
        if view.is_surely_removed
            && !view.is_told_removed
            && !may_be_silent
            && !view.may_have_stalled(case.history, |_| None)
        {
            blame(ended, "it was removed, and its stream ended without a word of that");
        }
    }
}

/// From where whoever keeps the server lets in nobody, nobody comes in; from elsewhere nobody is kept out for that.
pub(super) fn check_banned(case: &Case<'_>, wrong: &mut Vec<Violation>) {
    for &number in &case.members {
        let view = &case.views[number];
        let Some(ip) = view.ip() else { continue };
        let welcomed = view.welcomed.unwrap_or(view.connected);
        let is_banned = is_banned(case, ip, [view.connected, welcomed]);
        let detail = if is_banned && view.is_welcomed {
            "it was let in from where nobody is"
        } else if view.refusal == Some(Notice::Banned) && !may_be_banned(case, view) {
            "nobody had decided that it is not let in"
        } else {
            continue;
        };
        wrong.push(Violation::of("banned-stay-out", &[view.client]).at(view.connected).because(detail.to_owned()));
    }
}

/// Whether nobody is let in from there all the time from when it was connected until it was welcomed.
fn is_banned(case: &Case<'_>, ip: IpAddr, [from, until]: [Duration; 2]) -> bool {
    let mine = decisions(case, ip);
    let before = mine.iter().rfind(|(then, _)| *then < from);
    let is_lifted = mine.iter().any(|(then, is_ban)| (from..=until).contains(then) && !is_ban);
    before.is_some_and(|(_, is_ban)| *is_ban) && !is_lifted
}

/// Whether that may be so. (What the server learns of a newcomer it may learn a while later.)
pub(super) fn may_be_banned(case: &Case<'_>, view: &View) -> bool {
    let Some(ip) = view.ip() else { return false };
    let (mine, at) = (decisions(case, ip), view.connected);
    let before = mine.iter().rfind(|(then, _)| *then < at);
    before.is_some_and(|(_, is_ban)| *is_ban) || mine.iter().any(|(then, is_ban)| *then >= at && *is_ban)
}

/// What was decided of those from there in this life: when, and whether it is that they are not let in.
fn decisions(case: &Case<'_>, ip: IpAddr) -> Vec<(Duration, bool)> {
    let until = case.life.ended.unwrap_or(Duration::MAX);
    let keeping = case.history.keeping.iter().filter(|(at, _)| (case.life.started..=until).contains(at));
    let decisions = keeping.filter_map(|(at, what)| match what {
        Keeping::Banned { ip: of } if *of == ip => Some((*at, true)),
        Keeping::Lifted { ip: of } if *of == ip => Some((*at, false)),
        _ => None,
    });
    decisions.collect()
}
