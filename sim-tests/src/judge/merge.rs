//! All views laid over one another: the one order, rebuilt.
//!
//! The one idea: a view is a slice of the order without gaps, as a missed run says how long it was. So one number places a
//! whole view, and it begins right behind its own arrival: wherever somebody else saw that arrival, there it lies. What is
//! left to check is that at each place all views have the same line, which takes one comparison a line.
//!
//! Where arrivals may be counted, a view may have begun anywhere, and nobody saw where. Then it lies where it shares a line
//! of which there is only one; or, if there is none, where it ends as others do who have everything.

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
    pub(super) first_by: usize,
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
    /// Who came before each slot, by the slot's index, without being told of by name there; and whether it may have been told
    /// of in a place that nobody saw.
    pub(super) entered: BTreeMap<usize, Vec<(usize, bool)>>,
    /// Who had gone by each slot, by the slot's index, and was told of by nobody's name.
    pub(super) gone: BTreeMap<usize, Vec<(usize, Duration)>>,
    /// Two views have different lines in one place: there is no order.
    pub(super) is_disputed: bool,
}

/// What the laying depends on beside the views.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    pub(super) lang: Lang,
    /// Arrivals and departures may be counted instead of told by name.
    pub(super) may_count: bool,
    /// No stranger is told of by name who is not heard of.
    pub(super) names_nobody: bool,
    /// How often whoever keeps the server had something to say.
    pub(super) announced: usize,
    /// Who is there at the quiet end, and has everything by each of these times.
    pub(super) here: &'a [usize],
    pub(super) quiet: [Duration; 2],
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
                    if wire::arrived(text, lang) != Some(&view.who) {
                        let blame = Violation::of("one-arrival-first", &[view.client, views[other].client]).line(text);
                        wrong.push(blame.because(format!("this stands where {} must have arrived", view.who)));
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

    /// As [`Part::welcome`], where arrivals may be counted: who was told of by name elsewhere, or by nobody, came in silence.
    fn let_in(&mut self, views: &[View], manner: &Manner<'_>, wrong: &mut Vec<Violation>) {
        let lang = manner.lang;
        let mut arrived: BTreeMap<&str, i64> = BTreeMap::new();
        for (slot, place) in self.slots.iter().zip(self.low..) {
            if let Some(who) = Self::line(views, slot.source).and_then(|line| wire::arrived(line, lang)) {
                arrived.entry(who).or_insert(place);
            }
        }
        for (&number, &begin) in &self.begins {
            let view = &views[number];
            let told = arrived.get(&*view.who).copied();
            if told.is_some_and(|place| place + 1 < begin) {
                let blame = Violation::of("entering-is-atomic", &[view.client]);
                wrong.push(blame.because("its view begins only some lines behind its arrival".to_owned()));
            }
            if told.is_none_or(|place| place + 1 > begin) {
                let is_unseen = self.slot(begin - 1).is_none_or(|slot| slot.source == Source::Unseen);
                let entered = self.entered.entry(index(begin - self.low)).or_default();
                let may_be_named = view.is_trusted || !manner.names_nobody;
                entered.push((number, is_unseen && told.is_none() && may_be_named));
            }
        }
    }

    /// Everybody's name who was told to have left.
    fn departed<'a>(&self, views: &'a [View], lang: Lang) -> BTreeSet<&'a str> {
        let lines = self.slots.iter().filter_map(|slot| Self::line(views, slot.source));
        let departed = lines.filter_map(|line| match wire::kind(line, lang) {
            Kind::Departure { who } => Some(who),
            _ => None,
        });
        departed.collect()
    }

    /// Those that ended cleanly ended at their own departure, and nowhere else. Where departures may be counted, those of who
    /// was never heard of may be, and then nobody knows where they stand.
    pub(super) fn take_leave(
        &mut self,
        views: &[View],
        clean: &BTreeSet<usize>,
        manner: &Manner<'_>,
        wrong: &mut Vec<Violation>,
    ) {
        let lang = manner.lang;
        let departed = if manner.may_count { self.departed(views, lang) } else { BTreeSet::new() };
        for (&number, &begin) in &self.begins.clone() {
            let view = &views[number];
            if !clean.contains(&number) {
                continue;
            }
            let place = begin + view.len();
            let Some(slot) = self.slot_mut(place) else { continue };
            let is_heard = !manner.may_count || view.first_heard(lang).is_some();
            let found = match slot.source {
                Source::Unseen if is_heard => {
                    let first = view.received_end.unwrap_or_default();
                    *slot = Slot { source: Source::Departure(number), first, ..Slot::UNSEEN };
                    continue;
                }
                Source::Line(other, line) => views[other].text(&views[other].lines[line]),
                Source::Unseen | Source::Arrival(_) | Source::Departure(_) => b"",
            };
            if is_departure_of(view, found, lang) {
                continue;
            }
            // Of one that nobody heard of it is not known whether it got the name that it asked for.
            let mut names = names_of(view).take(if is_heard { usize::MAX } else { 1 });
            if manner.may_count && !names.any(|name| departed.contains(name)) {
                let ended = view.received_end.unwrap_or_default();
                self.gone.entry(index(place - self.low)).or_default().push((number, ended));
            } else {
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
    names_of(view).any(|name| name == who)
}

/// All that a member may be called.
fn names_of(view: &View) -> impl Iterator<Item = &str> {
    let asked = view.input.acts.iter().filter_map(|act| match &act.what {
        What::Rename(name) => Some(&**name),
        What::Say { .. } => None,
    });
    std::iter::once(&*view.who).chain(asked)
}

/// Lays the views of these members over one another.
pub(super) fn rebuild(views: &[View], members: &[usize], manner: &Manner<'_>, wrong: &mut Vec<Violation>) -> Vec<Part> {
    let said: usize = members.iter().map(|&member| views[member].input.acts.len()).sum();
    // By a name and by a number each is told of once, and gone as one of a number or by its name.
    let brackets = if manner.may_count { 3 } else { 2 };
    let most = wide(said + manner.announced + brackets * members.len());
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
    let mut groups = group(views, &sound, manner);
    groups.retain(|group| group.keys().any(|&view| !views[view].lines.is_empty()));
    if groups.len() > 1 {
        groups = join(views, members, groups, manner);
    }
    groups.into_iter().map(|begins| lay(views, &sound, begins, manner, wrong)).collect()
}

/// Whether the line of this view with this number, an arrival, surely stands where the other entered. One whose arrival was
/// counted is told of by name just before it is heard of, and sees that itself.
fn is_entering(
    views: &[View],
    (member, number): (usize, usize),
    other: usize,
    heard: &BTreeMap<usize, usize>,
    manner: &Manner<'_>,
) -> bool {
    let heard = heard.get(&other);
    let (view, other) = (&views[member], &views[other]);
    let has_all = || number + 1 == view.lines.len() && !view.ends_missing() && manner.here.contains(&member);
    // Or it was heard of, and saw itself that nothing stood before.
    let saw_none = || heard.is_some_and(|heard| other.runs.first().is_none_or(|run| run.before > *heard));
    other.input.acts.is_empty() || !view.may_introduce(number, &other.who, manner.lang) || has_all() || saw_none()
}

/// Which views hang together by arrivals, and where each begins.
fn group(views: &[View], sound: &[usize], manner: &Manner<'_>) -> Vec<BTreeMap<usize, i64>> {
    let lang = manner.lang;
    // Who was told of its own arrival, which thus stands behind its entering.
    let is_told_itself = |&member: &usize| {
        let own = |line: &Line| wire::arrived(views[member].text(line), lang) == Some(&views[member].who);
        manner.may_count && views[member].lines.iter().any(own)
    };
    let told_themselves: BTreeSet<usize> = sound.iter().copied().filter(is_told_itself).collect();
    let heard: BTreeMap<usize, usize> = if manner.may_count {
        sound.iter().filter_map(|&member| Some((member, views[member].first_heard(lang)?))).collect()
    } else {
        BTreeMap::new()
    };
    let mut by_who: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for &member in sound {
        by_who.entry(&views[member].who).and_modify(|known| *known = None).or_insert(Some(member));
    }
    let mut edges: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
    for &member in sound {
        let view = &views[member];
        for (number, line) in view.lines.iter().enumerate() {
            if let Some(who) = wire::arrived(view.text(line), lang)
                && let Some(Some(other)) = by_who.get(who)
                && *other != member
                && !told_themselves.contains(other)
                && (!manner.may_count || is_entering(views, (member, number), *other, &heard, manner))
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
fn join(
    views: &[View],
    members: &[usize],
    groups: Vec<BTreeMap<usize, i64>>,
    manner: &Manner<'_>,
) -> Vec<BTreeMap<usize, i64>> {
    let mut texts: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for view in members.iter().map(|&member| &views[member]) {
        *names.entry(&view.who).or_default() += 1;
        for act in &view.input.acts {
            match &act.what {
                What::Say { text, .. } => *texts.entry(text).or_default() += 1,
                What::Rename(name) => *names.entry(name).or_default() += 1,
            }
        }
    }
    let is_only = |line: &[u8]| match wire::kind(line, manner.lang) {
        Kind::Said { text, .. } => texts.get(text) == Some(&1),
        Kind::Departure { who } | Kind::Arrival { who } | Kind::Here { who } => names.get(who) == Some(&1),
        Kind::Renamed { new, .. } => names.get(new) == Some(&1),
        Kind::Counted { .. } | Kind::Announced { .. } | Kind::Strange => false,
    };
    let mut joined = Joined::new(groups.len());
    let mut anchors: BTreeMap<u64, (usize, i64)> = BTreeMap::new();
    for (number, begins) in groups.iter().enumerate() {
        for (&member, &begin) in begins {
            for line in &views[member].lines {
                let place = begin + line.place;
                if let Some(&there) = anchors.get(&line.digest) {
                    joined.unite((number, place), there);
                } else if is_only(views[member].text(line)) {
                    anchors.insert(line.digest, (number, place));
                }
            }
        }
    }
    if manner.may_count {
        align_ends(views, &groups, &mut joined, manner);
    }
    let mut result: BTreeMap<usize, BTreeMap<usize, i64>> = BTreeMap::new();
    for (number, begins) in groups.into_iter().enumerate() {
        for (member, begin) in begins {
            let (group, begin) = joined.root(number, begin);
            result.entry(group).or_default().insert(member, begin);
        }
    }
    result.into_values().collect()
}

/// Who has everything at the quiet end has it up to the same place: so lie views that share nothing but lines that there may
/// be more of, if those fit.
fn align_ends(views: &[View], groups: &[BTreeMap<usize, i64>], joined: &mut Joined, manner: &Manner<'_>) {
    let mut here: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
    for (number, begins) in groups.iter().enumerate() {
        for (&member, &begin) in begins.iter().filter(|(member, _)| manner.here.contains(member)) {
            let (root, begin) = joined.root(number, begin);
            here.entry(root).or_default().push((member, begin));
        }
    }
    let Some((&main, _)) = here.iter().max_by_key(|(root, here)| (here.len(), std::cmp::Reverse(**root))) else {
        return;
    };
    let placed = here.remove(&main).unwrap_or_default();
    let mut known: BTreeMap<i64, u64> = BTreeMap::new();
    for &(member, begin) in placed.iter().filter(|_| !here.is_empty()) {
        known.extend(views[member].lines.iter().map(|line| (begin + line.place, line.digest)));
    }
    for (root, others) in here {
        let fits = |shift: &i64| {
            let lines =
                others.iter().flat_map(|&(member, begin)| views[member].lines.iter().map(move |line| (begin, line)));
            let mut there = lines.map(|(begin, line)| (known.get(&(begin + line.place + shift)), line.digest));
            there.all(|(known, digest)| known.is_none_or(|known| *known == digest))
        };
        let head = |of: &[(usize, i64)], by| of.iter().map(|&(member, begin)| begin + views[member].reach(by)).max();
        let shifts = manner.quiet.map(|by| Some(head(&placed, by)? - head(&others, by)?));
        if let Some(shift) = shifts.into_iter().flatten().find(fits) {
            joined.unite((main, shift), (root, 0));
        }
    }
}

/// Which groups lie together, and how.
struct Joined {
    /// Each belongs to one at the same place or before it, shifted by so much.
    links: Vec<(usize, i64)>,
}

impl Joined {
    fn new(groups: usize) -> Self {
        Self { links: (0..groups).map(|group| (group, 0)).collect() }
    }

    /// The place of a group, as its root has it.
    fn root(&mut self, group: usize, place: i64) -> (usize, i64) {
        let (mut root, mut shift) = (group, 0);
        while self.links[root].0 != root {
            shift += self.links[root].1;
            root = self.links[root].0;
        }
        let (mut next, mut rest) = (group, shift);
        while next != root {
            let (after, step) = std::mem::replace(&mut self.links[next], (root, rest));
            rest -= step;
            next = after;
        }
        (root, place + shift)
    }

    /// The two places are one. What contradicts what was known before is left as it is.
    fn unite(&mut self, one: (usize, i64), other: (usize, i64)) {
        let ((one, here), (other, there)) = (self.root(one.0, one.1), self.root(other.0, other.1));
        if one < other {
            self.links[other] = (one, here - there);
        } else if other < one {
            self.links[one] = (other, there - here);
        }
    }
}

/// Writes all views of a group into one row of slots.
fn lay(
    views: &[View],
    sound: &[usize],
    begins: BTreeMap<usize, i64>,
    manner: &Manner<'_>,
    wrong: &mut Vec<Violation>,
) -> Part {
    let low = begins.values().min().map_or(0, |begin| begin - 1);
    let high = begins.iter().map(|(&view, begin)| begin + views[view].len() + 1).max().unwrap_or(0);
    let mut part = Part { low, slots: vec![Slot::UNSEEN; index(high - low)], begins, ..Part::default() };
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
    if !disputes.is_empty() {
        explain(views, &part, &disputes, manner.lang, wrong);
        part.is_disputed = true;
    } else if manner.may_count {
        part.let_in(views, manner, wrong);
    } else {
        part.welcome(views, manner.lang, wrong);
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
