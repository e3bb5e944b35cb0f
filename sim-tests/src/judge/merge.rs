//! All views laid over one another: the one order, rebuilt.
//!
//! The one idea: a view is a slice of the order without gaps, as a missed run says how long it was. So one number places a
//! whole view, and it begins right behind its own arrival: wherever somebody else saw that arrival, there it lies. What is
//! left to check is that at each place all views have the same line, which takes one comparison a line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use unisono::Lang;

use super::Violation;
use super::view::{Line, View};
use super::wire::{self, Kind, What};

/// Where a place's line is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nobody saw it: it was missed by all, or no view reaches there.
    Unseen,
    /// Someone received it: the number of the view, and of the line in it.
    Line(usize, usize),
    /// Nobody else saw it, but this view was welcomed there.
    Arrival(usize),
    /// Nobody else saw it, but this view ended there.
    Departure(usize),
}

/// One place of the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) source: Source,
    digest: u64,
    /// When it was first seen, by which view, and when first by another.
    pub(super) first: Duration,
    first_by: usize,
    second: Option<Duration>,
    pub(super) seen_by: usize,
}

impl Slot {
    const UNSEEN: Self =
        Self { source: Source::Unseen, digest: 0, first: Duration::ZERO, first_by: 0, second: None, seen_by: 0 };

    fn see(&mut self, view: usize, number: usize, line: &Line) {
        if self.seen_by == 0 {
            *self = Self { source: Source::Line(view, number), digest: line.digest, first: line.at, ..Self::UNSEEN };
            self.first_by = view;
        } else if line.at < self.first {
            self.second = Some(self.first);
            (self.first, self.first_by) = (line.at, view);
        } else if self.second.is_none_or(|second| line.at < second) {
            self.second = Some(line.at);
        }
        self.seen_by += 1;
    }

    /// When somebody but this view saw it first.
    pub(super) fn seen_but_by(&self, view: usize) -> Option<Duration> {
        if self.first_by == view || self.seen_by == 0 { self.second } else { Some(self.first) }
    }
}

/// A part of the order of which the views hang together. Mostly there is only one.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// The place of the first slot.
    pub(super) low: i64,
    pub(super) slots: Vec<Slot>,
    /// Where each view begins, by number of the view.
    pub(super) begins: BTreeMap<usize, i64>,
    /// Two views have different lines in one place: there is no order.
    pub(super) is_disputed: bool,
}

impl Part {
    pub(super) fn slot(&self, place: i64) -> Option<&Slot> {
        self.slots.get(usize::try_from(place - self.low).ok()?)
    }

    fn slot_mut(&mut self, place: i64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(place - self.low).ok()?)
    }

    /// The place behind the last line that was seen by this time.
    pub(super) fn head(&self, by: Duration) -> i64 {
        let last = self.slots.iter().rposition(|slot| slot.seen_by > 0 && slot.first <= by);
        self.low + last.map_or(0, |last| wide(last) + 1)
    }

    /// The line, if somebody saw it.
    pub(super) fn line(views: &[View], source: Source) -> Option<&[u8]> {
        match source {
            Source::Line(view, number) => Some(views[view].text(&views[view].lines[number])),
            _ => None,
        }
    }

    /// Puts the arrivals in place that nobody else could see, and finds those that others should have seen.
    fn welcome(&mut self, views: &[View], lang: Lang, wrong: &mut Vec<Violation>) {
        for (&number, &begin) in &self.begins.clone() {
            let view = &views[number];
            let Some(slot) = self.slot_mut(begin - 1).filter(|_| view.is_welcomed) else { continue };
            match slot.source {
                Source::Unseen => {
                    *slot = Slot { source: Source::Arrival(number), first: view.connected, ..Slot::UNSEEN }
                }
                Source::Line(other, line) => {
                    let text = views[other].text(&views[other].lines[line]);
                    if wire::arrived(text, lang) != Some(&view.address) {
                        let blame = Violation::of("one-arrival-first", &[view.client, views[other].client]).line(text);
                        wrong.push(blame.because(format!("this stands where {} must have arrived", view.address)));
                    }
                }
                Source::Arrival(other) => {
                    let blame = Violation::of("one-arrival-first", &[view.client, views[other].client]);
                    wrong.push(
                        blame.because("both began at the same place, and neither was told of the other".to_owned()),
                    );
                }
                Source::Departure(_) => {}
            }
        }
    }

    /// Those that ended cleanly ended at their own departure, and nowhere else.
    pub(super) fn take_leave(
        &mut self,
        views: &[View],
        clean: &BTreeSet<usize>,
        lang: Lang,
        wrong: &mut Vec<Violation>,
    ) {
        for (&number, &begin) in &self.begins.clone() {
            let view = &views[number];
            if !clean.contains(&number) {
                continue;
            }
            let Some(slot) = self.slot_mut(begin + view.len()) else { continue };
            let found = match slot.source {
                Source::Unseen => {
                    let first = view.received_end.unwrap_or_default();
                    *slot = Slot { source: Source::Departure(number), first, ..Slot::UNSEEN };
                    continue;
                }
                Source::Line(other, line) => views[other].text(&views[other].lines[line]),
                Source::Arrival(_) | Source::Departure(_) => b"",
            };
            if !is_departure_of(view, found, lang) {
                let invariant = if view.ends_missing() { "missed-counts-are-exact" } else { "end-is-the-departure" };
                let blame = Violation::of(invariant, &[view.client]).line(found);
                let detail = "its stream ended where this stands in the order, instead of at its own departure";
                wrong.push(blame.because(detail.to_owned()));
            }
        }
    }
}

/// Whether the line tells that this member left, under whatever name it asked for.
fn is_departure_of(view: &View, line: &[u8], lang: Lang) -> bool {
    let Kind::Departure { who } = wire::kind(line, lang) else { return false };
    let is_name = |what: &What| matches!(what, What::Rename(name) if name == who);
    who == view.address || view.input.acts.iter().any(|act| is_name(&act.what))
}

/// Lays the views of these members over one another.
pub(super) fn rebuild(views: &[View], members: &[usize], lang: Lang, wrong: &mut Vec<Violation>) -> Vec<Part> {
    let said: usize = members.iter().map(|&member| views[member].input.acts.len()).sum();
    let most = wide(said + 2 * members.len());
    let mut sound: Vec<usize> = Vec::new();
    for &member in members {
        let view = &views[member];
        if view.len() <= most {
            sound.push(member);
        } else {
            let (invariant, detail) = if view.runs.is_empty() {
                ("every-line-was-said-once", "received more lines than can ever have been in the room")
            } else {
                ("missed-counts-are-exact", "received and missed more lines than can ever have been in the room")
            };
            let blame = Violation::of(invariant, &[view.client]);
            wrong.push(blame.because(format!("{detail}: {} of {most}", view.len())));
        }
    }
    // The most trustworthy views first: what contradicts them is to blame.
    sound.sort_by_key(|&member| (!views[member].runs.is_empty(), -views[member].len(), member));
    let mut groups = group(views, &sound, lang);
    groups.retain(|group| group.keys().any(|&view| !views[view].lines.is_empty()));
    if groups.len() > 1 {
        groups = join(views, members, groups, lang);
    }
    groups.into_iter().map(|begins| lay(views, &sound, begins, lang, wrong)).collect()
}

/// Which views hang together by arrivals, and where each begins.
fn group(views: &[View], sound: &[usize], lang: Lang) -> Vec<BTreeMap<usize, i64>> {
    let mut by_address: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for &member in sound {
        by_address.entry(&views[member].address).and_modify(|known| *known = None).or_insert(Some(member));
    }
    let mut edges: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
    for &member in sound {
        let view = &views[member];
        for line in &view.lines {
            if let Some(who) = wire::arrived(view.text(line), lang)
                && let Some(Some(other)) = by_address.get(who)
                && *other != member
            {
                edges.entry(member).or_default().push((*other, line.place + 1));
                edges.entry(*other).or_default().push((member, -line.place - 1));
            }
        }
    }
    let rank: BTreeMap<usize, usize> = sound.iter().enumerate().map(|(rank, member)| (*member, rank)).collect();
    let mut placed: BTreeSet<usize> = BTreeSet::new();
    let mut groups = Vec::new();
    for &seed in sound {
        if !placed.insert(seed) {
            continue;
        }
        let mut begins = BTreeMap::from([(seed, 0)]);
        let mut open = BTreeSet::from([(rank[&seed], seed)]);
        while let Some((_, member)) = open.pop_first() {
            let begin = begins[&member];
            for &(other, offset) in edges.get(&member).map_or(&[][..], |edges| edges) {
                if placed.insert(other) {
                    begins.insert(other, begin + offset);
                    open.insert((rank[&other], other));
                }
            }
        }
        groups.push(begins);
    }
    groups
}

/// Joins groups that share a line of which there is only one: a text that was sent once, or a departure of an address.
fn join(views: &[View], members: &[usize], groups: Vec<BTreeMap<usize, i64>>, lang: Lang) -> Vec<BTreeMap<usize, i64>> {
    let mut texts: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut addresses: BTreeMap<&str, usize> = BTreeMap::new();
    for view in members.iter().map(|&member| &views[member]) {
        *addresses.entry(&view.address).or_default() += 1;
        for act in &view.input.acts {
            if let What::Say { text, .. } = &act.what {
                *texts.entry(text).or_default() += 1;
            }
        }
    }
    let is_only = |line: &[u8]| match wire::kind(line, lang) {
        Kind::Said { text, .. } => texts.get(text) == Some(&1),
        Kind::Departure { who } | Kind::Arrival { who } => addresses.get(who) == Some(&1),
        Kind::Renamed { .. } | Kind::Strange => false,
    };
    // Each group belongs to one at the same place or before it, shifted by so much.
    let mut joined: Vec<(usize, i64)> = (0..groups.len()).map(|group| (group, 0)).collect();
    let mut anchors: BTreeMap<u64, (usize, i64)> = BTreeMap::new();
    for (number, begins) in groups.iter().enumerate() {
        for (&member, &begin) in begins {
            for line in &views[member].lines {
                let place = begin + line.place;
                if let Some(&(other, there)) = anchors.get(&line.digest) {
                    let ((root, shift), (other, there)) = (root(&joined, number, place), root(&joined, other, there));
                    if root < other {
                        joined[other] = (root, shift - there);
                    } else if other < root {
                        joined[root] = (other, there - shift);
                    }
                } else if is_only(views[member].text(line)) {
                    anchors.insert(line.digest, (number, place));
                }
            }
        }
    }
    let mut result: BTreeMap<usize, BTreeMap<usize, i64>> = BTreeMap::new();
    for (number, begins) in groups.into_iter().enumerate() {
        for (member, begin) in begins {
            let (group, begin) = root(&joined, number, begin);
            result.entry(group).or_default().insert(member, begin);
        }
    }
    result.into_values().collect()
}

fn root(joined: &[(usize, i64)], mut group: usize, mut place: i64) -> (usize, i64) {
    while joined[group].0 != group {
        place += joined[group].1;
        group = joined[group].0;
    }
    (group, place)
}

/// Writes all views of a group into one row of slots.
fn lay(views: &[View], sound: &[usize], begins: BTreeMap<usize, i64>, lang: Lang, wrong: &mut Vec<Violation>) -> Part {
    let low = begins.values().min().map_or(0, |begin| begin - 1);
    let high = begins.iter().map(|(&view, begin)| begin + views[view].len() + 1).max().unwrap_or(0);
    let mut part = Part { low, slots: vec![Slot::UNSEEN; index(high - low)], begins, is_disputed: false };
    let mut disputes = Vec::new();
    for &member in sound {
        let Some(&begin) = part.begins.get(&member) else { continue };
        for (number, line) in views[member].lines.iter().enumerate() {
            let slot = &mut part.slots[index(begin + line.place - low)];
            if slot.seen_by > 0 && slot.digest != line.digest {
                disputes.push((member, number, begin + line.place));
                break;
            }
            slot.see(member, number, line);
        }
    }
    if disputes.is_empty() {
        part.welcome(views, lang, wrong);
    } else {
        explain(views, &part, &disputes, lang, wrong);
        part.is_disputed = true;
    }
    part
}

/// Says what is wrong where a view has another line than the order has from a view before it.
fn explain(views: &[View], part: &Part, disputes: &[(usize, usize, i64)], lang: Lang, wrong: &mut Vec<Violation>) {
    let mut places: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for (slot, place) in part.slots.iter().zip(part.low..).filter(|(slot, _)| slot.seen_by > 0) {
        places.entry(slot.digest).or_default().push(place);
    }
    for &(member, number, place) in disputes {
        let view = &views[member];
        let line = &view.lines[number];
        let Some(slot) = part.slot(place) else { continue };
        let Source::Line(first, first_number) = slot.source else { continue };
        let reference = &views[first];
        let there = places.get(&line.digest).map_or(&[][..], |places| places);
        let is_later = there.iter().any(|there| *there > place);
        let is_earlier = there.iter().any(|there| *there < place);
        let follows = view.lines[number + 1..].iter().any(|line| line.digest == slot.digest);
        let hole_of = |view: &View, number: usize| {
            if view.run_before(number) {
                "missed-counts-are-exact"
            } else if number == 0 {
                "entering-is-atomic"
            } else {
                "no-line-is-missing"
            }
        };
        let was_seen = view.lines[..number].iter().any(|before| before.digest == line.digest);
        let (mine, theirs) = (view.text(line), reference.text(&reference.lines[first_number]));
        let (invariant, guilty) = if is_departure_of(view, theirs, lang) {
            ("end-is-the-departure", member)
        } else if is_departure_of(reference, mine, lang) {
            ("end-is-the-departure", first)
        } else if was_seen && !is_later {
            ("every-line-was-said-once", member)
        } else if is_later || is_earlier {
            let is_swapped = follows && number > 0 && !view.run_before(number);
            (if is_swapped { "all-see-one-order" } else { hole_of(view, number) }, member)
        } else if follows {
            (hole_of(reference, first_number), first)
        } else {
            ("every-line-was-said", member)
        };
        let other = if guilty == member { first } else { member };
        let blame = Violation::of(invariant, &[views[guilty].client, views[other].client]).line(mine).at(line.at);
        let shown = crate::history::shown(theirs);
        wrong.push(blame.because(format!("#{} has this where #{} has {shown}", view.client, reference.client)));
    }
}

pub(super) fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn index(place: i64) -> usize {
    usize::try_from(place).unwrap_or(0)
}
