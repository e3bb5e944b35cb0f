//! The order told line by line: who is in, what each is called, and how far each has come with what it wanted to say.
//!
//! A line is known by its member and by which of that member's lines it is, never by its text alone: texts may repeat.
//! Places that nobody saw are an excuse for as many lines that a member seems to have left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use unisono::Lang;

use super::Violation;
use super::merge::{Part, Source, wide};
use super::view::View;
use super::wire::{self, Kind, What};

/// More excuses than anybody needs: for members of whom it is not known when they came.
const ENDLESS: i64 = i64::MAX / 4;

/// What comes next in the order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// So many lines that nobody saw.
    Unseen(i64),
    /// This view begins here.
    Arrival(usize),
    /// This view ends here.
    Departure(usize, Duration),
    /// A line that was seen.
    Line(&'a [u8], Duration),
}

/// How the story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The order: what a member said must be there.
    Order,
    /// This view alone: it may have holes, for which others are asked.
    View(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Is {
    /// Not seen yet, though it may have come before.
    #[default]
    Unknown,
    In,
    Left,
}

/// What the others know of a member's arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Known {
    /// Whatever there is to know stands where nobody saw it.
    #[default]
    Perhaps,
    /// Nothing yet, or a number.
    Nameless,
    /// Its name, since it entered.
    SinceEntering,
    /// Its name, since it was about to be heard of.
    Since(usize),
}

/// What is known of a member by now.
#[derive(Clone, Debug, Default)]
struct Member {
    is: Is,
    known: Known,
    /// Before which step it entered, and how many lines nobody had seen by then.
    entered: usize,
    entered_unseen: i64,
    /// It has said something or changed its name.
    is_heard: bool,
    who: String,
    /// Which of its acts is next.
    next: usize,
    /// Excuses at its entering, and those used since.
    excused: i64,
    /// Long lines that were left out: memory may have been spent.
    long: i64,
}

/// The outcome of a story.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    /// Whose each step is.
    pub(super) whose: Vec<Option<usize>>,
    /// Where each departed, by step, and when that was first seen.
    pub(super) departed: BTreeMap<usize, (usize, Duration)>,
    /// Where each arrived, by step.
    pub(super) arrived: BTreeMap<usize, usize>,
    /// How many lines each may still have left out with an excuse, for those that were seen at all and are in.
    pub(super) present: BTreeMap<usize, i64>,
    /// Lines that each has not said, its excuses apart.
    pub(super) unsaid: BTreeMap<usize, i64>,
    /// Who went without being told of by name, as may be whose departure is counted.
    pub(super) unnamed: BTreeSet<usize>,
    /// Who was heard of.
    pub(super) heard: BTreeSet<usize>,
    /// Where numbers were told instead of names: the step, who came, who went.
    pub(super) counts: Vec<(usize, i64, i64)>,
    /// Where whoever keeps the server said something.
    pub(super) announced: Vec<usize>,
    /// Where somebody was told of by name who came in silence before.
    pub(super) introduced: BTreeSet<usize>,
    /// Where the name of one was told who has not been heard of, and who was no friend: of such names there is a budget.
    pub(super) spent: Vec<usize>,
}

/// What the story's outcome depends on beside its steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling<'a> {
    pub(super) lang: Lang,
    /// Arrivals and departures may be counted instead of told by name.
    pub(super) may_count: bool,
    /// What whoever keeps the server had to say, as all should see it, and since when.
    pub(super) announced: &'a [(Duration, Vec<u8>)],
    /// The part of which this is the story, where arrivals may be counted.
    pub(super) part: Option<&'a Part>,
}

struct Teller<'a> {
    views: &'a [View],
    steps: &'a [Step<'a>],
    lang: Lang,
    may_count: bool,
    /// What is still to be said by whoever keeps the server.
    announced: &'a [(Duration, Vec<u8>)],
    part: Option<&'a Part>,
    of: Of,
    clean: &'a BTreeSet<usize>,
    by_who: BTreeMap<&'a str, Vec<usize>>,
    by_name: BTreeMap<&'a str, Vec<usize>>,
    members: BTreeMap<usize, Member>,
    /// Who has which name now.
    holders: BTreeMap<String, usize>,
    /// Who entered in silence since the last count was told.
    uncounted: Vec<usize>,
    unseen: i64,
    story: Story,
    wrong: &'a mut Vec<Violation>,
}

pub(super) fn steps_of_part<'a>(views: &'a [View], part: &Part) -> Vec<Step<'a>> {
    let step = |slot: &super::merge::Slot| match slot.source {
        Source::Unseen => Step::Unseen(1),
        Source::Arrival(view) => Step::Arrival(view),
        Source::Departure(view) => Step::Departure(view, slot.first),
        Source::Line(..) => Step::Line(Part::line(views, slot.source).unwrap_or_default(), slot.first),
    };
    let mut steps: Vec<Step<'_>> = part.slots.iter().map(step).collect();
    // The last place is for the departure of whose view is longest. It is no line that anybody missed.
    if let Some(Step::Unseen(_)) = steps.last() {
        steps.pop();
    }
    steps
}

pub(super) fn steps_of_view(view: &View, number: usize) -> Vec<Step<'_>> {
    let mut steps = vec![Step::Arrival(number)];
    let mut runs = view.runs.iter().peekable();
    for (at, line) in view.lines.iter().enumerate() {
        while let Some(run) = runs.next_if(|run| run.before <= at) {
            steps.push(Step::Unseen(run.lines));
        }
        steps.push(Step::Line(view.text(line), line.at));
    }
    steps.extend(runs.map(|run| Step::Unseen(run.lines)));
    steps
}

/// Tells the steps. Those who are `clean` have ended in a way that lets everything be asked of them.
pub(super) fn tell(
    views: &[View],
    members: &[usize],
    steps: &[Step<'_>],
    of: Of,
    clean: &BTreeSet<usize>,
    telling: Telling<'_>,
    wrong: &mut Vec<Violation>,
) -> Story {
    let mut by_who: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &member in members {
        by_who.entry(&views[member].who).or_default().push(member);
        for act in &views[member].input.acts {
            if let What::Rename(name) = &act.what {
                let named = by_name.entry(name).or_default();
                if named.last() != Some(&member) {
                    named.push(member);
                }
            }
        }
    }
    let mut teller = Teller {
        views,
        steps,
        lang: telling.lang,
        may_count: telling.may_count,
        announced: telling.announced,
        part: telling.part,
        of,
        clean,
        by_who,
        by_name,
        members: members.iter().map(|&member| (member, Member::default())).collect(),
        holders: BTreeMap::new(),
        uncounted: Vec::new(),
        unseen: 0,
        story: Story::default(),
        wrong,
    };
    teller.find_arrivals();
    for (number, step) in steps.iter().enumerate() {
        teller.pass(number);
        let whose = teller.step(number, step);
        teller.story.whose.push(whose);
    }
    teller.pass(steps.len());
    for (&member, state) in &teller.members {
        if state.is_heard {
            teller.story.heard.insert(member);
        }
        if state.is == Is::In {
            teller.story.present.insert(member, teller.excuses(state));
            teller.story.unsaid.insert(member, teller.unsaid(member));
        }
    }
    teller.story
}

impl<'a> Teller<'a> {
    fn find_arrivals(&mut self) {
        let mut arrived = BTreeMap::new();
        for (number, step) in self.steps.iter().enumerate() {
            let who = match step {
                Step::Arrival(view) => Some(*view),
                Step::Line(line, _) => wire::arrived(line, self.lang).and_then(|who| self.only_of(who)),
                _ => None,
            };
            if let Some(who) = who {
                arrived.entry(who).or_insert(number);
            }
        }
        self.story.arrived = arrived;
    }

    /// The one member that was called so when it came.
    fn only_of(&self, who: &str) -> Option<usize> {
        match self.by_who.get(who).map(Vec::as_slice) {
            Some([only]) => Some(*only),
            _ => None,
        }
    }

    fn step(&mut self, number: usize, step: &Step<'a>) -> Option<usize> {
        let (line, at) = match *step {
            Step::Unseen(lines) => {
                self.unseen = self.unseen.saturating_add(lines);
                return None;
            }
            Step::Arrival(view) => {
                self.enter(number, view, Known::Perhaps);
                return Some(view);
            }
            Step::Departure(view, at) => {
                self.depart(number, view, at);
                return Some(view);
            }
            Step::Line(line, at) => (line, at),
        };
        match wire::kind(line, self.lang) {
            Kind::Arrival { who } => self.on_arrival(number, who, line, at),
            Kind::Counted { .. } | Kind::Here { .. } if !self.may_count => {
                self.blame("numbers-only-within-a-budget", &[], line, at, "arrivals are told by name here");
                None
            }
            Kind::Counted { joined, left } => {
                self.count(number, joined, left, line, at);
                None
            }
            Kind::Here { who } => self.on_here(number, who, line, at),
            Kind::Said { who, text } => {
                let member = self.speaker(number, who, line, at, Some(text))?;
                self.hear(member, line, at);
                self.say(number, member, text, line, at);
                Some(member)
            }
            Kind::Departure { who } => {
                let member = self.speaker(number, who, line, at, None)?;
                self.see_off(number, member, line, at);
                self.depart(number, member, at);
                Some(member)
            }
            Kind::Renamed { who, new } => {
                let member = self.speaker(number, who, line, at, None)?;
                self.hear(member, line, at);
                self.rename(member, new, line, at);
                Some(member)
            }
            Kind::Announced { text } => {
                self.announce(number, text, line, at);
                None
            }
            Kind::Strange => {
                self.blame(
                    "every-line-was-said",
                    &[],
                    line,
                    at,
                    "nobody can have said this, and the server has no such line",
                );
                None
            }
        }
    }

    fn blame(&mut self, invariant: &'static str, whose: &[usize], line: &[u8], at: Duration, detail: &str) {
        let mut clients: Vec<_> = whose.iter().map(|&member| self.views[member].client).collect();
        if let Of::View(view) = self.of {
            clients.push(self.views[view].client);
        }
        self.wrong.push(Violation::of(invariant, &clients).line(line).at(at).because(detail.to_owned()));
    }

    fn excuses(&self, state: &Member) -> i64 {
        self.unseen.saturating_sub(state.excused)
    }

    /// Who came or went in silence just before this step.
    fn pass(&mut self, number: usize) {
        let Some(part) = self.part else { return };
        for &(member, is_unseen) in part.entered.get(&number).into_iter().flatten() {
            self.enter(number, member, if is_unseen { Known::Perhaps } else { Known::Nameless });
            self.uncounted.push(member);
        }
        for &(member, at) in part.gone.get(&number).into_iter().flatten() {
            self.go(number, member, at);
        }
    }

    /// It is in from here on.
    fn enter(&mut self, number: usize, member: usize, known: Known) {
        let excused = self.unseen;
        let who = self.views[member].who.clone();
        self.holders.insert(who.clone(), member);
        let entered = Member { is: Is::In, known, entered: number, entered_unseen: self.unseen, ..Member::default() };
        self.members.insert(member, Member { who, excused, ..entered });
    }

    /// It is in, and nobody saw it come.
    fn discover(&mut self, number: usize, member: usize) {
        self.enter(number, member, Known::Perhaps);
        if let Some(state) = self.members.get_mut(&member) {
            state.excused = self.unseen - ENDLESS;
        }
    }

    fn on_arrival(&mut self, number: usize, who: &str, line: &[u8], at: Duration) -> Option<usize> {
        let known = self.by_who.get(who).map_or(&[][..], |known| known);
        let first = known.first().copied();
        let fresh = known.iter().copied().find(|member| self.members[member].is == Is::Unknown);
        let Some(member) = fresh.or(first).filter(|&member| !self.views[member].is_refused) else {
            self.blame("strangers-are-told-to-nobody", &[], line, at, "nobody was ever called that from the beginning");
            return None;
        };
        let state = &self.members[&member];
        if fresh.is_some() {
            self.enter(number, member, Known::SinceEntering);
            if self.may_count && self.is_surely_entering(number, member) {
                self.story.spent.push(number);
            }
        } else if state.is == Is::In && matches!(state.known, Known::Perhaps | Known::Nameless) && !state.is_heard {
            // Each count that is told has all who came in silence before it.
            if state.known == Known::Nameless && self.was_counted(state) {
                self.blame("sums-balance", &[member], line, at, "it was one of a number that was told before");
            }
            self.introduce(number, member, line, at);
        } else {
            self.blame("one-arrival-first", &[member], line, at, "it had arrived before");
        }
        Some(member)
    }

    /// A count stands between its entering and here.
    fn was_counted(&self, state: &Member) -> bool {
        self.story.counts.last().is_some_and(|(step, ..)| *step >= state.entered)
    }

    /// Lines stand since its entering that nobody saw.
    fn has_gap(&self, state: &Member) -> bool {
        self.unseen > state.entered_unseen
    }

    /// It is told of by name, as it is heard of right behind that.
    fn introduce(&mut self, number: usize, member: usize, line: &[u8], at: Duration) {
        self.story.introduced.insert(number);
        let next = self.steps.get(number + 1);
        if let Some(Step::Line(next, _)) = next
            && !wire::is_of(next, &self.views[member].who, self.lang)
        {
            let detail = "it is told of by name, and what comes next is not of it";
            self.blame("told-by-name-before-first-line", &[member], line, at, detail);
        }
        if let Some(state) = self.members.get_mut(&member) {
            state.known = Known::Since(number);
        }
    }

    /// The arrival that this step tells of stands where the member entered, and was not put off until it was heard of.
    fn is_surely_entering(&self, number: usize, member: usize) -> bool {
        if self.views[member].is_trusted {
            return false;
        }
        let begins = self.part.and_then(|part| Some(part.begins.get(&member)? - part.low));
        begins.map_or_else(
            || match self.steps.get(number + 1) {
                Some(Step::Line(next, _)) => !wire::is_of(next, &self.views[member].who, self.lang),
                _ => false,
            },
            |begins| begins == wide(number) + 1,
        )
    }

    fn on_here(&mut self, number: usize, who: &str, line: &[u8], at: Duration) -> Option<usize> {
        let Some(member) = self.only_of(who).filter(|&member| !self.views[member].is_refused) else {
            self.blame("strangers-are-told-to-nobody", &[], line, at, "nobody was ever called that from the beginning");
            return None;
        };
        if self.members[&member].is == Is::Unknown {
            self.discover(number, member);
        }
        let state = &self.members[&member];
        match state.known {
            _ if state.is == Is::Left => {
                self.blame("one-departure-last", &[member], line, at, "it had departed before");
            }
            Known::SinceEntering | Known::Since(_) => {
                self.blame("one-arrival-first", &[member], line, at, "it had been told of by name before");
            }
            Known::Nameless if !self.was_counted(state) && !self.has_gap(state) => {
                self.blame("sums-balance", &[member], line, at, "no count was told since it came");
            }
            _ if state.is_heard => {
                self.blame("told-by-name-before-first-line", &[member], line, at, "it had been heard of before");
            }
            _ => {}
        }
        self.introduce(number, member, line, at);
        Some(member)
    }

    /// So many came, of whom some are known to have come in silence since the count before.
    fn count(&mut self, number: usize, joined: i64, left: i64, line: &[u8], at: Duration) {
        let uncounted = std::mem::take(&mut self.uncounted);
        let is_certain = |member: &usize| {
            let state = &self.members[member];
            state.known == Known::Nameless && !self.has_gap(state)
        };
        let certain = uncounted.iter().filter(|member| is_certain(member)).count();
        if joined == 0 && left == 0 {
            self.blame("sums-balance", &[], line, at, "nobody came and nobody went");
        } else if joined < wide(certain) {
            let detail = format!("at least {certain} came since the count before");
            self.blame("sums-balance", &uncounted, line, at, &detail);
        }
        self.story.counts.push((number, joined, left));
    }

    /// Whoever keeps the server said this: it had it to say, and in this order.
    fn announce(&mut self, number: usize, text: &[u8], line: &[u8], at: Duration) {
        let found = self.announced.iter().position(|(asked, announced)| announced == text && *asked <= at);
        let Some(found) = found else {
            return self.blame("announcements-are-the-keepers", &[], line, at, "nobody had this to say, or so often");
        };
        // What was said before anybody was there nobody saw; and of two that say the same it is not known which this is.
        let texts: BTreeSet<&[u8]> = self.announced.iter().map(|(_, text)| &text[..]).collect();
        let is_sure = !self.story.announced.is_empty() && texts.len() == self.announced.len();
        if wide(found) > self.unseen && is_sure {
            let detail = format!("{found} that were to be said before were not");
            self.blame("announcements-keep-their-order", &[], line, at, &detail);
        }
        self.announced = &self.announced[found + 1..];
        self.story.announced.push(number);
    }

    /// It said something or changed its name: before that it is told of by name.
    fn hear(&mut self, member: usize, line: &[u8], at: Duration) {
        let state = &self.members[&member];
        if state.known == Known::Nameless && !self.has_gap(state) {
            let detail = "nobody was told its name before";
            self.blame("told-by-name-before-first-line", &[member], line, at, detail);
        }
        if let Some(state) = self.members.get_mut(&member) {
            state.is_heard = true;
            if state.known == Known::Nameless {
                state.known = Known::Perhaps;
            }
        }
    }

    /// Its departure is told by name.
    fn see_off(&mut self, number: usize, member: usize, line: &[u8], at: Duration) {
        let state = &self.members[&member];
        if state.known == Known::Nameless && !state.is_heard && !self.has_gap(state) {
            let detail = "its arrival was counted, and it was never heard of";
            self.blame("the-counted-go-uncalled", &[member], line, at, detail);
        }
        let state = &self.members[&member];
        let is_silent = !state.is_heard && !self.has_gap(state) && !self.views[member].is_trusted;
        if self.may_count && is_silent && state.known == Known::SinceEntering {
            self.story.spent.push(number);
        }
    }

    /// It is gone, and if it was heard of that should have been told by name.
    fn go(&mut self, number: usize, member: usize, at: Duration) {
        let state = &self.members[&member];
        if state.is != Is::In {
            return;
        }
        if state.is_heard || matches!(state.known, Known::Since(_)) {
            let blame = Violation::of("speakers-depart-by-name", &[self.views[member].client]).at(at);
            self.wrong.push(blame.because("it had been heard of, and nobody was told that it left".to_owned()));
        }
        self.depart(number, member, at);
        self.story.departed.remove(&member);
        self.story.unnamed.insert(member);
    }

    /// Who is meant: the member that has this name now, or may have it.
    fn speaker(&mut self, number: usize, who: &str, line: &[u8], at: Duration, text: Option<&[u8]>) -> Option<usize> {
        if let Some(&member) = self.holders.get(who) {
            return Some(member);
        }
        let is_next = |views: &[View], member: usize| {
            let acts = &views[member].input.acts;
            text.is_none_or(|text| {
                acts.iter().any(|act| matches!(&act.what, What::Say { text: said, .. } if said == text))
            })
        };
        if let Some(known) = self.by_who.get(who) {
            let fresh = known.iter().copied().find(|member| self.members[member].is == Is::Unknown);
            if let Some(member) = fresh.filter(|&member| !self.views[member].is_refused) {
                if self.story.arrived.get(&member).is_some_and(|arrived| *arrived > number) {
                    let invariant = if self.may_count { "told-by-name-before-first-line" } else { "one-arrival-first" };
                    self.blame(invariant, &[member], line, at, "its arrival comes only after this");
                }
                self.discover(number, member);
                return Some(member);
            }
            let first = known[0];
            match self.members[&first].is {
                Is::Left => self.blame("one-departure-last", &[first], line, at, "it had departed before"),
                Is::In => self.blame("every-line-was-said", &[first], line, at, "it has another name now"),
                Is::Unknown => self.blame("strangers-are-told-to-nobody", &[first], line, at, "it was not let in"),
            }
            return None;
        }
        let named = self.by_name.get(who).map_or(&[][..], |named| named);
        let may_have = |member: &&usize| {
            let state = &self.members[*member];
            state.is == Is::Unknown && !self.story.arrived.contains_key(*member)
                || state.is == Is::In && (self.excuses(state) > 0 || self.of != Of::Order)
        };
        let likely = named.iter().filter(may_have).find(|member| is_next(self.views, **member));
        if let Some(&member) = likely.or_else(|| named.iter().find(may_have)) {
            if self.members[&member].is == Is::Unknown {
                self.discover(number, member);
            }
            let state = self.members.get_mut(&member)?;
            // The change of name is one of the lines that nobody saw.
            state.excused = state.excused.saturating_add(1);
            self.holders.remove(&state.who);
            who.clone_into(&mut state.who);
            self.holders.insert(who.to_owned(), member);
            return Some(member);
        }
        let left =
            named.iter().copied().find(|member| self.members[member].who == who && self.members[member].is == Is::Left);
        match left {
            Some(left) => self.blame("one-departure-last", &[left], line, at, "it had departed before"),
            None => self.blame("every-line-was-said", &[], line, at, "nobody is called that"),
        }
        None
    }

    fn say(&mut self, number: usize, member: usize, text: &[u8], line: &[u8], at: Duration) {
        let acts = &self.views[member].input.acts;
        let state = &self.members[&member];
        let (mut skipped, mut long) = (0, 0);
        let mut first_skipped = None;
        let mut found = None;
        for (act, number) in acts[state.next..].iter().zip(state.next..) {
            match &act.what {
                What::Say { text: said, .. } if said == text => {
                    found = Some(number);
                    break;
                }
                What::Say { is_long: true, .. } => long += 1,
                What::Say { text: said, .. } => {
                    skipped += 1;
                    first_skipped.get_or_insert(said);
                }
                What::Rename(_) => {}
            }
        }
        let Some(found) = found else {
            return self.say_what_was_not_sent(number, member, text, line, at);
        };
        if skipped > self.excuses(state) {
            let is_later = first_skipped.is_some_and(|skipped| self.comes_later(number, skipped));
            if is_later {
                self.blame("senders-order-is-kept", &[member], line, at, "what it sent before comes later");
            } else if self.of == Of::Order {
                self.blame("said-lines-are-a-prefix", &[member], line, at, "what it sent before was never said");
            }
        }
        if let Some(state) = self.members.get_mut(&member) {
            state.next = found + 1;
            state.excused = state.excused.saturating_add(skipped);
            state.long += long;
        }
    }

    fn comes_later(&self, number: usize, text: &[u8]) -> bool {
        let is_it = |step: &Step<'_>| {
            matches!(step, Step::Line(line, _)
                if matches!(wire::kind(line, self.lang), Kind::Said { text: said, .. } if said == text))
        };
        self.steps[number..].iter().skip(1).any(is_it)
    }

    /// No act of the member that is still open says this: which law does it break?
    fn say_what_was_not_sent(&mut self, number: usize, member: usize, text: &[u8], line: &[u8], at: Duration) {
        let input = &self.views[member].input;
        let is_it = |what: &What| matches!(what, What::Say { text: said, .. } if said == text);
        let sent = input.acts.iter().filter(|act| is_it(&act.what)).count();
        let is_said = |(step, whose): &(&Step<'_>, &Option<usize>)| {
            **whose == Some(member)
                && matches!(step, Step::Line(line, _)
                    if matches!(wire::kind(line, self.lang), Kind::Said { text: said, .. } if said == text))
        };
        let said = self.steps[..number].iter().zip(&self.story.whose).filter(is_said).count();
        if sent == 0 && input.partial.as_deref() == Some(text) {
            self.blame("partial-lines-are-never-said", &[member], line, at, "its line was never ended");
        } else if sent == 0 {
            self.blame("every-line-was-said", &[member], line, at, "it never sent this");
        } else if said >= sent {
            self.blame("every-line-was-said-once", &[member], line, at, "it is here more often than it was sent");
        } else {
            self.blame("senders-order-is-kept", &[member], line, at, "it sent this before what is above");
        }
    }

    fn rename(&mut self, member: usize, new: &str, line: &[u8], at: Duration) {
        let acts = &self.views[member].input.acts;
        let state = &self.members[&member];
        let open = &acts[state.next..];
        let asked = open.iter().position(|act| matches!(&act.what, What::Rename(name) if name == new));
        let Some(asked) = asked else {
            return self.blame(
                "every-line-was-said",
                &[member],
                line,
                at,
                "it never asked for this name, or has it already",
            );
        };
        let left_out = |is: bool| {
            let is_such = move |what: &What| matches!(what, What::Say { is_long, .. } if *is_long == is);
            wide(open[..asked].iter().filter(|act| is_such(&act.what)).count())
        };
        let (skipped, long) = (left_out(false), left_out(true));
        if skipped > self.excuses(state) && self.of == Of::Order {
            self.blame("said-lines-are-a-prefix", &[member], line, at, "what it sent before was not said before");
        }
        let clash = self.holders.iter().find(|(name, holder)| name.eq_ignore_ascii_case(new) && **holder != member);
        if let Some((name, holder)) = clash.map(|(name, holder)| (name.clone(), *holder)) {
            if self.excuses(&self.members[&holder]) > 0 || self.of != Of::Order {
                // It may have left, or changed its name, where nobody saw it.
                self.holders.remove(&name);
                self.members.insert(holder, Member::default());
            } else {
                self.blame("one-name-one-member", &[member, holder], line, at, "another member has this name");
            }
        }
        if let Some(state) = self.members.get_mut(&member) {
            state.next += asked + 1;
            state.excused = state.excused.saturating_add(skipped);
            state.long += long;
            self.holders.remove(&state.who);
            new.clone_into(&mut state.who);
            self.holders.insert(new.to_owned(), member);
        }
    }

    fn depart(&mut self, number: usize, member: usize, at: Duration) {
        let unsaid = self.unsaid(member);
        if self.of == Of::Order && self.clean.contains(&member) && unsaid > 0 {
            let blame = Violation::of("all-is-said-before-the-end", &[self.views[member].client]).at(at);
            self.wrong.push(blame.because(format!("it departed with {unsaid} of its lines unsaid")));
        }
        let Some(state) = self.members.get_mut(&member) else { return };
        state.is = Is::Left;
        self.holders.remove(&state.who);
        self.story.departed.entry(member).or_insert((number, at));
    }

    /// How many of its lines were left out up to now without an excuse, if all should have been said.
    fn unsaid(&self, member: usize) -> i64 {
        let state = &self.members[&member];
        let open = &self.views[member].input.acts[state.next..];
        let (mut short, mut long) = (0, state.long);
        for act in open {
            match act.what {
                What::Say { is_long: true, .. } => long += 1,
                What::Say { .. } => short += 1,
                What::Rename(_) => {}
            }
        }
        let excuses = self.excuses(state);
        let unspared = self.views[member].unspared;
        (short - excuses).max(short.saturating_add(long) - excuses.saturating_add(unspared)).max(0)
    }
}
