//! Guests: where nobody is called by an address, nobody is shown one, and each number is given once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use unisono::{Lang, Who};

use super::wire::{self, Kind};
use super::{Case, Violation};

const GUEST: &str = "guest-";

/// The guest with this number.
pub(super) fn called(number: u64) -> String {
    format!("{GUEST}{number}")
}

/// Whether somebody may have been greeted so: as a guest; or by an address, which is a mistake of another kind.
pub(super) fn may_be(who: &str) -> bool {
    let number = who.strip_prefix(GUEST).and_then(|number| number.parse::<u64>().ok());
    number.is_some_and(|number| called(number) == who) || is_address(who)
}

fn is_address(word: &str) -> bool {
    word.parse::<SocketAddr>().is_ok() || word.parse::<IpAddr>().is_ok()
}

/// Whether the line has an address, but for what members or whoever keeps the server say: they may say what they like.
pub(super) fn shows_address(line: &[u8], lang: Lang) -> bool {
    let words = match wire::kind(line, lang) {
        Kind::Said { who, .. } => who.into(),
        Kind::Announced { .. } => return false,
        _ => String::from_utf8_lossy(line),
    };
    let mut words = words.split_whitespace();
    words.any(|word| is_address(word) || is_address(word.trim_end_matches([':', ',', '.'])))
}

/// No number is given twice in a life, whether its first guest is still there or not.
pub(super) fn check(case: &Case<'_>, wrong: &mut Vec<Violation>) {
    if case.history.rules.wire.who != Who::Guest {
        return;
    }
    let mut known = BTreeMap::new();
    for view in case.members.iter().map(|&number| &case.views[number]).filter(|view| view.is_welcomed) {
        if let Some(first) = known.insert(&view.who, view.client) {
            let blame = Violation::of("one-guest-one-number", &[view.client, first]);
            let blame = blame.at(view.welcomed.unwrap_or_default());
            wrong.push(blame.because(format!("both were welcomed as {}", view.who)));
        }
    }
}
