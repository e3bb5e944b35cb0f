//! How fast connections come from one address: who came too fast is refused, and nobody else for that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use unisono::limits::Rate;

use super::view::View;
use super::wire::Told;
use super::{AT_ONCE, Came, Case, Violation};

const BILLION: u128 = 1_000_000_000;

/// What became of one who came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was not too fast, whether it was let in or not.
    Counted,
    /// It was refused for its haste.
    Hasty,
    /// It was turned away before anybody asked how fast it came.
    Banned,
    /// It never heard.
    Unknown,
}

impl Fate {
    fn of(view: &View) -> Self {
        match view.refusal {
            Some(Told::Hasty) => Self::Hasty,
            Some(Told::Banned) => Self::Banned,
            Some(Told::NotLetIn) => Self::Counted,
            _ if view.is_welcomed || view.asked.is_some() => Self::Counted,
            _ => Self::Unknown,
        }
    }
}

pub(super) fn check(case: &Case<'_>, wrong: &mut Vec<Violation>) {
    let members: BTreeMap<usize, &View> =
        case.members.iter().map(|&number| (case.views[number].client, &case.views[number])).collect();
    let Some(rate) = case.history.rules.limits.connect_rate else {
        let hasty = members.values().filter(|view| Fate::of(view) == Fate::Hasty);
        return hasty.for_each(|view| wrong.push(blame(view, "anybody may come as fast as it likes")));
    };
    let mut by_ip: BTreeMap<IpAddr, Vec<(Duration, Fate, &View)>> = BTreeMap::new();
    for Came { at, ip, client } in &case.facts.came {
        let Some(view) = members.get(client) else { continue };
        let fate = Fate::of(view);
        if !view.is_trusted {
            by_ip.entry(*ip).or_default().push((*at, fate, view));
        } else if fate == Fate::Hasty {
            wrong.push(blame(view, "it is trusted"));
        }
    }
    for came in by_ip.values() {
        check_refusals(came, rate, wrong);
        check_rate(came, rate, wrong);
    }
}

fn blame(view: &View, detail: &str) -> Violation {
    let blame = Violation::of("only-the-hasty-are-refused", &[view.client]).at(view.connected);
    blame.because(detail.to_owned())
}

/// Whether so many in such a time leave no room for one more.
fn is_too_fast(count: usize, took: Duration, rate: Rate) -> bool {
    let given = took.as_nanos().saturating_mul(rate.per_second.into());
    count as u128 * BILLION > given.saturating_add(u128::from(rate.burst - 1) * BILLION)
}

/// Who was refused came when there had been so many before it that there was no room for one more. Who never heard what became of it
/// may have been among those.
fn check_refusals(came: &[(Duration, Fate, &View)], rate: Rate, wrong: &mut Vec<Violation>) {
    let mut before: Vec<Duration> = Vec::new();
    for &(at, fate, view) in came {
        if fate == Fate::Hasty {
            let since = |first: Duration| at.saturating_sub(first).saturating_sub(2 * AT_ONCE);
            let counts = before.iter().rev().zip(1..);
            let mut spans = counts.map(|(first, count)| (count, since(*first)));
            if !spans.any(|(count, took)| is_too_fast(count, took, rate)) {
                let detail = format!("{} had come from there before, and not too fast", before.len());
                wrong.push(blame(view, &detail));
            }
        }
        if matches!(fate, Fate::Counted | Fate::Unknown) {
            before.push(at);
        }
    }
}

/// Of those that were surely not refused for their haste, no more came in any span than may.
fn check_rate(came: &[(Duration, Fate, &View)], rate: Rate, wrong: &mut Vec<Violation>) {
    let mut before: Vec<Duration> = Vec::new();
    for &(at, _, view) in came.iter().filter(|(_, fate, _)| *fate == Fate::Counted) {
        let took = |first: Duration| at.saturating_sub(first).saturating_add(2 * AT_ONCE);
        let mut spans = before.iter().rev().zip(1..).map(|(first, count)| (count, took(*first)));
        if let Some((count, took)) = spans.find(|(count, took)| is_too_fast(*count, *took, rate)) {
            let Rate { burst, per_second } = rate;
            let blame = Violation::of("newcomers-keep-their-rate", &[view.client]).at(at);
            let detail = format!("{count} had come in within {took:?}, at {burst} at once and {per_second} a second");
            wrong.push(blame.because(detail));
        }
        before.push(at);
    }
}
