//! The pace of strangers: where floods are limited nobody says more than that, as seen by who reads all the time.

use std::collections::BTreeMap;
use std::time::Duration;

use unisono::limits::{Flood, Rate};

use super::merge::Part;
use super::wire::{self, Kind};
use super::{AT_ONCE, Case, Told, Violation};

/// What one has said, against a rate: over any span that begins with a line, what was said before another must leave room
/// for that. Only the span that leaves least is remembered.
#[derive(Clone, Copy, Debug)]
struct Account {
    rate: Rate,
    said: i128,
    /// The least of what had been said before a line, less what the pace had given by then; in billionths.
    least: Option<i128>,
}

const BILLION: i128 = 1_000_000_000;

impl Account {
    const fn new(rate: Rate) -> Self {
        Self { rate, said: 0, least: None }
    }

    /// So many more are said by one line. By how much, in billionths, there was too little room for that, if there was.
    fn say(&mut self, at: Duration, count: usize) -> Option<i128> {
        let given =
            |by: Duration| i128::try_from(by.as_nanos()).unwrap_or(i128::MAX) * i128::from(self.rate.per_second);
        let before = self.said * BILLION - given(at);
        let least = self.least.map_or(before, |least| least.min(before));
        // Within this time it is seen, and seen by all.
        let slack = given(2 * AT_ONCE);
        let over = before - least - (i128::from(self.rate.burst) - 1) * BILLION - slack;
        self.least = Some(least);
        self.said += i128::try_from(count).unwrap_or(i128::MAX);
        (over > 0).then_some(over)
    }
}

pub(super) fn check(case: &Case<'_>, told: &Told, flood: Flood, wrong: &mut Vec<Violation>) {
    let seen = case.seen_by_the_awake(told);
    let lang = case.history.rules.wire.lang;
    let mut accounts: BTreeMap<usize, [(&str, Account); 2]> = BTreeMap::new();
    for (step, whose) in told.story.whose.iter().enumerate() {
        let Some(member) = whose.filter(|member| !case.views[*member].is_trusted) else { continue };
        let (Some(at), Some(line)) = (seen[step], Part::line(case.views, told.part.slots[step].source)) else {
            continue;
        };
        let Kind::Said { text, .. } = wire::kind(line, lang) else { continue };
        // Whatever cleaning makes of a byte is one character, and a line end is one byte at least.
        let bytes =
            1 + if case.history.rules.wire.raw { text.len() } else { String::from_utf8_lossy(text).chars().count() };
        let new = || [("lines", Account::new(flood.lines)), ("bytes", Account::new(flood.bytes))];
        for ((what, account), count) in accounts.entry(member).or_insert_with(new).iter_mut().zip([1, bytes]) {
            if let Some(over) = account.say(at, count) {
                let Rate { burst, per_second } = account.rate;
                let blame = Violation::of("strangers-keep-their-pace", &[case.views[member].client]).line(line).at(at);
                let detail =
                    format!("{} {what} too early, at {burst} at once and {per_second} a second", over / BILLION + 1);
                wrong.push(blame.because(detail));
            }
        }
    }
}
