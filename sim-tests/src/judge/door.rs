//! The password at the door: who is asked, who comes in, and what those hear who do not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::view::View;
use super::wire::{TRIES_MAX, Told, Try};
use super::{AT_ONCE, Case, SLACK, Violation};

/// How many passwords may be tried from one address at once; and one a second from then on.
const TRIES_AT_ONCE: usize = 10;

pub(super) fn check(case: &Case<'_>, wrong: &mut Vec<Violation>) {
    let Some(password) = &case.history.rules.password else { return };
    for &number in &case.members {
        let view = &case.views[number];
        check_welcome(view, wrong);
        check_answers(case, view, wrong);
        check_delays(case, view, password.takes, wrong);
        check_silence(case, view, password.takes, wrong);
    }
    for tries in answered(case).values() {
        check_pace(tries, wrong);
    }
}

/// Who comes in has said the password, and was told of each wrong one before.
fn check_welcome(view: &View, wrong: &mut Vec<Violation>) {
    let Some(welcomed) = view.welcomed else { return };
    let right = view.input.tries.last().filter(|last| last.is_right && last.at <= welcomed);
    let (invariant, detail) = match right {
        None => ("only-the-right-come-in", "it had not said the password".to_owned()),
        Some(_) if view.answers.len() + 1 < view.input.tries.len() => {
            let (tries, answers) = (view.input.tries.len() - 1, view.answers.len());
            ("each-try-is-answered", format!("it had said {tries} wrong ones, and was told so of {answers}"))
        }
        Some(_) => return,
    };
    wrong.push(Violation::of(invariant, &[view.client]).at(welcomed).because(detail));
}

/// What it is told of its passwords is true, and the last is the last.
fn check_answers(case: &Case<'_>, view: &View, wrong: &mut Vec<Violation>) {
    let deadline = case.history.rules.limits.line_deadline;
    let mut is_over = false;
    for (number, &(at, answer)) in view.answers.iter().enumerate() {
        let mut blame = |invariant, detail: &str| {
            wrong.push(Violation::of(invariant, &[view.client]).at(at).because(detail.to_owned()));
        };
        if std::mem::replace(&mut is_over, answer != Told::PasswordWrong) {
            blame("each-try-is-answered", "it had been turned away before");
        }
        let of = view.input.tries.get(number).filter(|of| of.began <= at);
        let is_last = number + 1 >= TRIES_MAX;
        match (answer, of) {
            (Told::PasswordWrong | Told::PasswordRefused, None) => {
                blame("each-try-is-answered", "it had said nothing that this could be about");
            }
            (Told::PasswordWrong | Told::PasswordRefused, Some(of)) if of.is_right => {
                blame("the-right-come-in", "it had said the password");
            }
            (Told::PasswordWrong, _) if is_last => blame("each-try-is-answered", "it may try no more"),
            (Told::PasswordRefused, _) if !is_last => blame("each-try-is-answered", "it may try again"),
            (Told::PasswordHasty, _) if tried_by(case, view, at) < TRIES_AT_ONCE => {
                blame("the-right-come-in", "there had not been so many passwords from its address");
            }
            (Told::PasswordLate, _) if at.saturating_sub(view.connected) < deadline => {
                blame("the-right-come-in", "its time was not over");
            }
            (Told::PasswordLate, Some(of)) if of.is_right && is_in_time(case, view, of, deadline) => {
                blame("the-right-come-in", "it had said the password in time");
            }
            _ => {}
        }
    }
}

/// It read all the time, over a link that takes none, and said this before its time was over.
fn is_in_time(case: &Case<'_>, view: &View, of: &Try, deadline: Duration) -> bool {
    case.facts.awake.contains(&view.client) && of.at.saturating_add(AT_ONCE) < view.connected.saturating_add(deadline)
}

/// How many passwords may have been tried from its address by then.
fn tried_by(case: &Case<'_>, view: &View, at: Duration) -> usize {
    let mine = case.members.iter().map(|&number| &case.views[number]).filter(|other| other.ip() == view.ip());
    // The one that is not tried any more is among them.
    mine.map(|other| other.input.tries.iter().filter(|of| of.began <= at).count()).sum::<usize>().saturating_sub(1)
}

/// When it was told of each password that it was wrong.
fn wrong_ones(view: &View) -> impl Iterator<Item = Duration> {
    let told = view.answers.iter().filter(|(_, told)| matches!(told, Told::PasswordWrong | Told::PasswordRefused));
    told.map(|(at, _)| *at)
}

/// Who read all the time, over a link that takes none, has its answer when its password was proved; and is let in then, if the room
/// has space.
fn check_delays(case: &Case<'_>, view: &View, takes: Duration, wrong: &mut Vec<Violation>) {
    let Some(mut free) = view.asked.filter(|_| case.facts.awake.contains(&view.client)) else { return };
    let answers = wrong_ones(view).map(|at| (at, false)).chain(view.welcomed.map(|at| (at, true)));
    for ((at, is_welcome), of) in answers.zip(&view.input.tries) {
        let began = free.max(of.at);
        let due = began.saturating_add(takes).saturating_add(5 * AT_ONCE);
        let is_over = case.life.over().into_iter().chain(view.removed).any(|over| over <= due);
        if at > due && !is_over && !(is_welcome && case.was_full(began, at)) {
            let detail = format!("it was answered {:?} after that could be proved", at.saturating_sub(began));
            wrong.push(Violation::of("tries-delay-nobody", &[view.client]).at(at).because(detail));
        }
        free = at;
    }
}

/// What was tried from each address and answered: when it was sent, and when the answer was there.
fn answered(case: &Case<'_>) -> BTreeMap<IpAddr, Vec<(Duration, Duration)>> {
    let mut all: BTreeMap<IpAddr, Vec<(Duration, Duration)>> = BTreeMap::new();
    for view in case.members.iter().map(|&number| &case.views[number]) {
        let Some(ip) = view.ip() else { continue };
        let tries = view.input.tries.iter().zip(wrong_ones(view).chain(view.welcomed)).filter(|(of, _)| !of.is_long);
        all.entry(ip).or_default().extend(tries.map(|(of, at)| (of.at, at)));
    }
    all
}

/// Of those that were surely tried within a span there are no more than may be.
fn check_pace(tries: &[(Duration, Duration)], wrong: &mut Vec<Violation>) {
    for &(from, _) in tries {
        let mut within: Vec<Duration> = tries.iter().filter(|(sent, _)| *sent >= from).map(|(_, at)| *at).collect();
        within.sort_unstable();
        let most = |at: Duration| TRIES_AT_ONCE + 1 + usize::try_from(at.saturating_sub(from).as_secs()).unwrap_or(0);
        let Some((number, &at)) = within.iter().enumerate().find(|(number, at)| number + 1 > most(**at)) else {
            continue;
        };
        let detail = format!("{} passwords were tried within {:?}", number + 1, at.saturating_sub(from));
        wrong.push(Violation::of("tries-keep-their-pace", &[]).at(at).because(detail));
        return;
    }
}

/// Nobody of the core is still being asked when that should be over.
fn check_silence(case: &Case<'_>, view: &View, takes: Duration, wrong: &mut Vec<Violation>) {
    let Some(healed) = &case.history.healed else { return };
    let settled = healed.end.saturating_sub(SLACK);
    let limits = &case.history.rules.limits;
    let time = limits.line_deadline.saturating_add(3 * takes).saturating_add(limits.linger).saturating_add(SLACK);
    let is_over = view.connected.max(healed.at).saturating_add(time) <= settled;
    let is_asked = view.welcomed.is_none() && !view.input.is_proved() && view.gone().is_none();
    let was_there = case.life.over().is_none_or(|over| over > healed.end);
    if is_over && is_asked && was_there && healed.core.contains(&view.client) {
        let blame = Violation::of("the-silent-are-turned-away", &[view.client]).at(settled);
        wrong.push(blame.because("it has not said the password, and its time is over".to_owned()));
    }
}
