//! Whether a run kept the laws: decided from its [history](crate::history) alone, by one who has never seen the server.
//!
//! The one idea: what a client sees is a slice of the one order without gaps, as it is told how long each gap is. So the
//! views of all clients are laid over one another (`judge/merge.rs`), which rebuilds the order or shows who contradicts
//! whom; then the order is told line by line against what the members sent (`judge/story.rs`); then the room's own numbers
//! are held against the limits (`judge/numbers.rs`). All of it is near-linear in the lines received.
//!
//! The judge is in doubt for the accused: where a history leaves open whether a law was broken, it was not. Excuses are
//! facts, too: a connection that broke, a reader that paused, a server that was asked to end, places that nobody saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use unisono::Limits;

use self::merge::{Manner, Part, Source, wide};
use self::story::{Of, Story, Telling};
use self::view::{Life, View};
use self::wire::Kind;
use crate::history::{Client, History, Keeping, Sample};

mod door;
mod greeting;
mod guests;
mod haste;
mod keeper;
mod merge;
mod numbers;
mod pace;
mod story;
mod sums;
mod view;
mod wire;

pub use numbers::judge_patience;

/// The nine laws, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// Any two readers see the lines that both see in the same order.
    OneOrder,
    /// A reader gets every line, or is told how many it missed, and where.
    NoHoles,
    /// A line was said once, by the member it names, and arrives whole.
    TrueLines,
    /// Welcome, arrival, lines, departure: in this order, and one of each.
    Brackets,
    /// What is seen is in the sequence, and what is said before the end is seen.
    EchoIsReceipt,
    /// No reader holds up the room for longer than its due, and none that keeps up misses anything.
    BoundedPatience,
    /// The room holds no more than it may.
    BoundedMemory,
    /// When all goes quiet, everyone has everything.
    NoLostWake,
    /// What was a connection's goes with it.
    NothingLeftBehind,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneOrder => "one order",
            Self::NoHoles => "no holes",
            Self::TrueLines => "true lines",
            Self::Brackets => "brackets",
            Self::EchoIsReceipt => "echo is receipt",
            Self::BoundedPatience => "bounded patience",
            Self::BoundedMemory => "bounded memory",
            Self::NoLostWake => "no lost wake",
            Self::NothingLeftBehind => "nothing left behind",
        })
    }
}

/// All that is judged, each under its law.
///
/// - `all-see-one-order`: what two readers both see, they see in the same order.
/// - `senders-order-is-kept`: lines of one member stand in the order in which it sent them.
/// - `no-line-is-missing`: between a reader's first line and its last there is every line that others see there.
/// - `missed-counts-are-exact`: a notice of N lines missed stands in the place of exactly N lines.
/// - `entering-is-atomic`: a newcomer's view begins right behind its arrival: nothing from before, nothing left out.
/// - `own-brackets-are-for-others`: nobody is told of its own arrival or departure.
/// - `every-line-was-said`: a line was sent by the member it names, byte for byte after cleaning, under the name it had then.
/// - `every-line-was-said-once`: no line is in the order, or comes to a reader, more often than it was sent.
/// - `said-lines-are-a-prefix`: what is said of a member's lines is a prefix of them, refused ones apart.
/// - `announcements-are-the-keepers`: what begins with `-! ` is what whoever keeps the server had to say, once for each time.
/// - `announcements-keep-their-order`: it is said in the order in which it was to be said, and nothing is left out.
/// - `announcements-come-to-all`: at the quiet end each of the core has all of it that was to be said since it was welcomed.
/// - `lines-are-whole`: a stream ends amid a line only if it broke, or its reader stalled, or the server ended.
/// - `partial-lines-are-never-said`: a line that was never ended, neither by a line feed nor by the input's end, is not said.
/// - `notices-are-known`: what begins with `-- ` is a whole notice of the protocol.
/// - `welcome-first`: the first line is the welcome, of the right address or a guest, and there is one; or a refusal.
/// - `one-arrival-first`: a member arrives once, before all that it says, right where its own view begins.
/// - `one-departure-last`: a member departs once, after all that it says.
/// - `strangers-are-told-to-nobody`: who never connected or was not let in is never told of.
/// - `asked-first`: where there is a password, a newcomer is asked for it before all else, once, and nobody is asked elsewhere.
/// - `asked-see-nothing`: who is asked is told of nothing else until it comes in.
/// - `each-try-is-answered`: a wrong password is called so, once, and the third is the last; and behind a farewell nothing comes.
/// - `only-the-right-come-in`: who is welcomed has said the password before, within its tries.
/// - `the-right-come-in`: who says the password in time and within its tries comes in, and is told nothing else.
/// - `tries-delay-nobody`: a password is answered as soon as it is proved, however many others are tried.
/// - `tries-keep-their-pace`: no more are tried from one address, over any span, than there may be at once and in a second.
/// - `the-silent-are-turned-away`: at the quiet end nobody is still being asked whose time is over.
/// - `knockers-hear-nothing`: who does not speak TLS where that is spoken is told nothing but that it does not.
/// - `knockers-are-shown-out`: nobody is longer at shaking hands than that may take.
/// - `handshakes-delay-nobody`: who shakes hands as it should is let in at once, whoever else does not.
/// - `removed-hear-why-last`: who is removed is told so, and nothing more; and nobody else is.
/// - `removed-depart-at-once`: its departure is told when it is removed, whatever it has still to read or to say.
/// - `banned-stay-out`: nobody comes in from where whoever keeps the server lets in nobody, and nobody else is kept out so.
/// - `no-departures-at-the-end`: when the server ends, streams end and no departures are told.
/// - `told-by-name-before-first-line`: whose arrival was counted is told of by name before it is heard of.
/// - `speakers-depart-by-name`: the departure of who was heard of is told by name.
/// - `the-counted-go-uncalled`: the departure of one of whom only a number was told is counted, too.
/// - `sums-balance`: no more are counted than came and went, no count is of nobody, and at the quiet end who came is who went
///   and who is there.
/// - `budget-is-kept`: no more strangers who are silent are told of by name than the budget of announcements allows, and no
///   more counts than one a period.
/// - `numbers-only-within-a-budget`: without such a budget nobody is counted.
/// - `one-name-one-member`: nobody takes a name that another member has.
/// - `only-the-hasty-are-refused`: nobody is refused for how fast connections come from its address who is trusted, or who came no
///   faster than may be.
/// - `newcomers-keep-their-rate`: no more strangers come in from one address, over any span, than may at once and in a second.
/// - `one-guest-one-number`: where members are guests, no two of a life of the server are welcomed by the same number.
/// - `guests-show-no-address`: there, no line shows an address, but for what is said.
/// - `all-is-said-before-the-end`: after a clean end of input or `/quit`, all lines before it are said before the departure.
/// - `end-is-the-departure`: a stream that ends cleanly ends at its own departure: everything before it, nothing after.
/// - `no-end-without-cause`: the server ends no stream of a member that did not end its input, stall or dawdle.
/// - `all-is-flushed-at-the-end`: who is awake when the server is asked to end gets all that was said.
/// - `room-moves-on`: while there is demand, the room takes at least (T/P - 1) x B, to within an eighth.
/// - `steady-readers-miss-nothing`: whose connection drains at B per P or faster is never let go.
/// - `let-go-only-when-full`: a reader is let go only when the room is full, and never with endless patience.
/// - `strangers-keep-their-pace`: where floods are limited, no stranger says more, over any span, than the burst and the pace.
/// - `backlog-is-bounded`: the room holds at most B, a segment, two turns and the departures.
/// - `partial-lines-are-bounded`: partial lines take at most their total and one read.
/// - `awake-readers-are-told-at-once`: who reads all the time, over links that take none, has each line as soon as anybody.
/// - `parked-senders-are-woken`: nobody waits for the room to take its lines while the room has space.
/// - `quiet-readers-have-everything`: at the quiet end each of the core has been welcomed, and has all up to the head or its end.
/// - `quiet-senders-have-said-everything`: at the quiet end all that the core had sent is said.
/// - `quiet-room-holds-nothing`: at the quiet end nobody has anything still to read.
/// - `the-gone-have-departed`: whose connection is over has departed within the bounds of keepalive and stall.
/// - `departures-never-wait`: a reset of which the server learns at once is told within its probe's second.
/// - `the-stalled-are-closed`: who takes nothing for the stall limit with much due to it has departed.
/// - `tally-counts-who-is-there`: at the quiet end the room counts as members those who are.
/// - `nothing-is-left`: when the server has ended there are no members, seats, bytes held or partial lines.
pub const INVARIANTS: &[(&str, Law)] = &[
    ("all-see-one-order", Law::OneOrder),
    ("senders-order-is-kept", Law::OneOrder),
    ("no-line-is-missing", Law::NoHoles),
    ("missed-counts-are-exact", Law::NoHoles),
    ("entering-is-atomic", Law::NoHoles),
    ("own-brackets-are-for-others", Law::NoHoles),
    ("every-line-was-said", Law::TrueLines),
    ("every-line-was-said-once", Law::TrueLines),
    ("said-lines-are-a-prefix", Law::TrueLines),
    ("announcements-are-the-keepers", Law::TrueLines),
    ("announcements-keep-their-order", Law::OneOrder),
    ("announcements-come-to-all", Law::NoLostWake),
    ("lines-are-whole", Law::TrueLines),
    ("partial-lines-are-never-said", Law::TrueLines),
    ("notices-are-known", Law::TrueLines),
    ("welcome-first", Law::Brackets),
    ("one-arrival-first", Law::Brackets),
    ("one-departure-last", Law::Brackets),
    ("strangers-are-told-to-nobody", Law::Brackets),
    ("asked-first", Law::Brackets),
    ("asked-see-nothing", Law::Brackets),
    ("each-try-is-answered", Law::Brackets),
    ("only-the-right-come-in", Law::Brackets),
    ("the-right-come-in", Law::Brackets),
    ("tries-delay-nobody", Law::NoLostWake),
    ("tries-keep-their-pace", Law::BoundedPatience),
    ("the-silent-are-turned-away", Law::NothingLeftBehind),
    ("knockers-hear-nothing", Law::Brackets),
    ("knockers-are-shown-out", Law::NothingLeftBehind),
    ("handshakes-delay-nobody", Law::NoLostWake),
    ("removed-hear-why-last", Law::Brackets),
    ("removed-depart-at-once", Law::NothingLeftBehind),
    ("banned-stay-out", Law::Brackets),
    ("no-departures-at-the-end", Law::Brackets),
    ("told-by-name-before-first-line", Law::Brackets),
    ("speakers-depart-by-name", Law::Brackets),
    ("the-counted-go-uncalled", Law::Brackets),
    ("sums-balance", Law::Brackets),
    ("budget-is-kept", Law::Brackets),
    ("numbers-only-within-a-budget", Law::Brackets),
    ("one-name-one-member", Law::Brackets),
    ("only-the-hasty-are-refused", Law::Brackets),
    ("newcomers-keep-their-rate", Law::BoundedPatience),
    ("one-guest-one-number", Law::Brackets),
    ("guests-show-no-address", Law::TrueLines),
    ("all-is-said-before-the-end", Law::EchoIsReceipt),
    ("end-is-the-departure", Law::EchoIsReceipt),
    ("no-end-without-cause", Law::EchoIsReceipt),
    ("all-is-flushed-at-the-end", Law::EchoIsReceipt),
    ("room-moves-on", Law::BoundedPatience),
    ("steady-readers-miss-nothing", Law::BoundedPatience),
    ("let-go-only-when-full", Law::BoundedPatience),
    ("strangers-keep-their-pace", Law::BoundedPatience),
    ("backlog-is-bounded", Law::BoundedMemory),
    ("partial-lines-are-bounded", Law::BoundedMemory),
    ("awake-readers-are-told-at-once", Law::NoLostWake),
    ("parked-senders-are-woken", Law::NoLostWake),
    ("quiet-readers-have-everything", Law::NoLostWake),
    ("quiet-senders-have-said-everything", Law::NoLostWake),
    ("quiet-room-holds-nothing", Law::NoLostWake),
    ("the-gone-have-departed", Law::NothingLeftBehind),
    ("departures-never-wait", Law::NothingLeftBehind),
    ("the-stalled-are-closed", Law::NothingLeftBehind),
    ("tally-counts-who-is-there", Law::NothingLeftBehind),
    ("nothing-is-left", Law::NothingLeftBehind),
];

/// A law broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which law.
    pub law: Law,
    /// Which of [`INVARIANTS`].
    pub invariant: &'static str,
    /// Whom it concerns, the likely culprit first.
    pub clients: Vec<Client>,
    /// The line in question, escaped and shortened.
    pub line: Option<String>,
    /// When it was seen.
    pub at: Option<Duration>,
    /// What is wrong, in words.
    pub detail: String,
}

/// What is known beside the history, by whoever made the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Spans in which somebody always had something to say, and the machine kept up.
    pub demand: Vec<(Duration, Duration)>,
    /// Whose connections drained at B per P or faster all the time.
    pub steady: Vec<Client>,
    /// Who read all the time, and whose connections took no time at all.
    pub awake: Vec<Client>,
    /// Of whose [reset](crate::history::Event::Reset) the server learns at once: no partition stood between. Of others it
    /// learns by keepalive or the stall limit, so that the quiet end must be long before their ghosts can be told.
    pub told_at_once: Vec<Client>,
    /// More than the network and the system hold on the way to a client that does not read.
    pub buffers_bytes: usize,
    /// Spans over which every clock jumped, in their order.
    pub jumps: Vec<(Duration, Duration)>,
    /// Links take no time, and whoever connects is accepted at once.
    pub is_prompt: bool,
    /// The numbers of guests: of those, too, who never read their own, as others may have been told of them.
    pub guests: BTreeMap<Client, u64>,
    /// Whom the server accepted to look at, in this order; where it limits how fast they come.
    pub came: Vec<Came>,
}

/// Somebody came to the server, whatever became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// When the server knew of it.
    pub at: Duration,
    /// From where.
    pub ip: IpAddr,
    /// Who it was.
    pub client: Client,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            demand: Vec::new(),
            steady: Vec::new(),
            awake: Vec::new(),
            told_at_once: Vec::new(),
            buffers_bytes: 16 * 1024 * 1024,
            jumps: Vec::new(),
            is_prompt: false,
            guests: BTreeMap::new(),
            came: Vec::new(),
        }
    }
}

/// Memory for partial lines may be spent, and then lines are refused and torn.
fn is_short_of_memory(history: &History) -> bool {
    let clients = 1 + history.records.iter().map(|record| record.client).max().unwrap_or(0);
    let limits = &history.rules.limits;
    limits.partial_bytes_total < clients.saturating_mul(limits.line_stored_bytes_max().saturating_add(READ_BYTES))
}

/// Arrivals and departures of strangers may be counted instead of told by name.
fn may_count(history: &History) -> bool {
    history.rules.limits.announcements.is_some() && !history.rules.wire.plain
}

/// One place of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which life of the server.
    pub life: usize,
    /// What it is.
    pub what: What,
    /// Whose it is, if anybody saw it.
    pub client: Option<Client>,
    /// When it was first seen.
    pub at: Option<Duration>,
    /// How many clients received it.
    pub seen_by: usize,
}

/// What stands in a place of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A line, as the room saw it.
    Said {
        /// Under which name.
        who: String,
        /// Without the name.
        text: Vec<u8>,
    },
    /// Somebody came.
    Arrival,
    /// Somebody went.
    Departure {
        /// Under which name; empty if nobody was told.
        who: String,
    },
    /// Somebody took a name.
    Renamed {
        /// The name from here on.
        new: String,
    },
    /// So many came and so many went, and nobody was told who.
    Counted {
        /// How many came.
        joined: i64,
        /// How many went.
        left: i64,
    },
    /// Somebody is about to be heard of, who came in silence before; and whether it was one of a count that was told.
    Introduced {
        /// Else it is told as an arrival.
        was_counted: bool,
    },
    /// Whoever keeps the server said something.
    Announced {
        /// As all saw it.
        text: Vec<u8>,
    },
    /// Nobody saw this line: all that were there missed it.
    Unseen,
}

/// The one order, rebuilt. Lives of the server follow one another; so do parts that no reader saw both of, with an
/// [`Unseen`](What::Unseen) between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Every place of it.
    pub entries: Vec<Entry>,
}

/// What may pass between two readers' having a line, or between there being space and somebody's taking it, when nothing
/// takes time: nothing but what clocks are counted in.
const AT_ONCE: Duration = Duration::from_millis(10);

/// What one read may hold beyond a total.
const READ_BYTES: usize = 16 * 1024;

/// When nothing has been said for so long, all is quiet.
const QUIET: Duration = Duration::from_secs(30);

/// What anything may take that needs no waiting, on the slowest of links.
const SLACK: Duration = Duration::from_secs(5);

/// How long a budget of announcements lasts, and what is counted waits.
const PERIOD: Duration = Duration::from_secs(1);

/// By when keepalive finds a vanished peer that has everything.
const KEEPALIVE: Duration = Duration::from_secs(90);

/// By when the server knows that a peer has vanished. What is written to it just before keepalive would have found it has as
/// long again to be acknowledged.
fn found_out_within(limits: &Limits) -> Duration {
    KEEPALIVE.saturating_add(KEEPALIVE.max(limits.stall))
}

/// Judges a history.
///
/// # Errors
///
/// Every [`Violation`] that was found, the most telling first. Where one follows from another both may be named.
pub fn judge(history: &History) -> Result<Order, Vec<Violation>> {
    judge_with(history, &Facts::default())
}

/// Judges a history of which more is known.
///
/// # Errors
///
/// As [`judge`].
pub fn judge_with(history: &History, facts: &Facts) -> Result<Order, Vec<Violation>> {
    let mut wrong = Vec::new();
    let lives = Life::all(history);
    let is_short_of_memory = is_short_of_memory(history);
    let views = View::all(history, facts, &lives, is_short_of_memory, &mut wrong);
    for view in &views {
        view.check_own(history.rules.wire.lang, may_count(history), &mut wrong);
    }
    let mut order = Order::default();
    for (number, life) in lives.iter().enumerate() {
        let members = (0..views.len()).filter(|&view| views[view].life == number).collect();
        let case = Case { history, facts, is_short_of_memory, number, life, views: &views, members };
        case.judge(&mut order, &mut wrong);
    }
    greeting::check(history, facts, &lives, &mut wrong);
    numbers::check_samples(history, &lives, &views, &mut wrong);
    wrong.extend(judge_patience(history, &facts.demand));
    let mut known = BTreeSet::new();
    wrong.retain(|violation| known.insert((violation.invariant, violation.clients.first().copied())));
    if wrong.is_empty() { Ok(order) } else { Err(wrong) }
}

/// One life of the server.
struct Case<'a> {
    history: &'a History,
    facts: &'a Facts,
    is_short_of_memory: bool,
    number: usize,
    life: &'a Life,
    views: &'a [View],
    /// The views of those who were connected in this life.
    members: Vec<usize>,
}

/// A part of the order, and what it tells.
struct Told {
    part: Part,
    story: Story,
}

impl Told {
    fn place(&self, step: usize) -> i64 {
        self.part.low + wide(step)
    }
}

impl Case<'_> {
    fn judge(&self, order: &mut Order, wrong: &mut Vec<Violation>) {
        let lang = self.history.rules.wire.lang;
        guests::check(self, wrong);
        haste::check(self, wrong);
        let before = wrong.len();
        let (may_count, here) = (may_count(self.history), self.here());
        let end = self.history.healed.as_ref().map_or(Duration::MAX, |healed| healed.end);
        let names_nobody = may_count && self.history.rules.limits.announcements == Some(0);
        let quiet = [end, end.saturating_sub(SLACK)];
        let announced = self.announced();
        let times = announced.len();
        let manner = Manner { lang, may_count, names_nobody, announced: times, here: &here, quiet };
        let mut parts = merge::rebuild(self.views, &self.members, &manner, wrong);
        if parts.iter().any(|part| part.is_disputed) {
            self.look_closer(before, &announced, wrong);
            return;
        }
        parts.sort_by_key(|part| part.begins.keys().map(|&view| (self.views[view].connected, view)).min());
        let mut told = Vec::new();
        for mut part in parts {
            let clean: BTreeSet<usize> =
                part.begins.keys().copied().filter(|&view| self.is_clean(view, &part)).collect();
            part.take_leave(self.views, &clean, &manner, wrong);
            let is_in_time = |view: &usize| self.views[*view].left().is_some() && !self.views[*view].is_late;
            let all_said = clean.iter().copied().filter(is_in_time).collect();
            let steps = story::steps_of_part(self.views, &part);
            let telling = Telling { lang, may_count, announced: &announced, part: Some(&part).filter(|_| may_count) };
            let story = story::tell(self.views, &self.members, &steps, Of::Order, &all_said, telling, wrong);
            told.push(Told { part, story });
        }
        for told in &told {
            self.check_departures(told, wrong);
            self.check_let_go(told, wrong);
            self.check_awake(told, wrong);
            self.check_resets(told, wrong);
            keeper::check_departures(self, told, wrong);
            keeper::check_announced(self, told, &announced, wrong);
            if let Some(most) = self.history.rules.limits.announcements.filter(|_| may_count) {
                sums::check_counts(self, told, wrong);
                sums::check_balance(self, told, &here, wrong);
                sums::check_budget(self, told, most, wrong);
            }
            if let Some(flood) = self.history.rules.limits.flood {
                pace::check(self, told, flood, wrong);
            }
        }
        self.check_causes(&told, wrong);
        door::check(self, wrong);
        greeting::check_delays(self, wrong);
        keeper::check_removed(self, wrong);
        keeper::check_banned(self, wrong);
        self.check_quiet(&told, wrong);
        for told in &told {
            self.write(told, order);
        }
    }

    /// What whoever keeps the server had to say in this life, as all should see it, and since when.
    fn announced(&self) -> Vec<(Duration, Vec<u8>)> {
        let until = self.life.over().unwrap_or(Duration::MAX);
        let most = self.history.rules.limits.line_bytes_max;
        let keeping = self.history.keeping.iter().filter(|(at, _)| (self.life.started..=until).contains(at));
        let announced = keeping.filter_map(|(at, what)| match what {
            Keeping::Announced { text } if text.len() <= most => Some((*at, wire::clean(text.as_bytes()))),
            _ => None,
        });
        announced.collect()
    }

    /// Two views contradict each other. Perhaps one of them is wrong by itself: then that is what to say.
    fn look_closer(&self, before: usize, announced: &[(Duration, Vec<u8>)], wrong: &mut Vec<Violation>) {
        let (lang, may_count) = (self.history.rules.wire.lang, may_count(self.history));
        let telling = Telling { lang, may_count, announced, part: None };
        let mut closer = Vec::new();
        for &member in &self.members {
            let steps = story::steps_of_view(&self.views[member], member);
            story::tell(self.views, &self.members, &steps, Of::View(member), &BTreeSet::new(), telling, &mut closer);
        }
        if !closer.is_empty() {
            wrong.truncate(before);
            wrong.append(&mut closer);
        }
    }

    /// When the others had seen the line with this number of the view, or what came behind its last.
    fn seen(&self, part: &Part, view: usize, number: usize) -> Option<Duration> {
        let begin = *part.begins.get(&view)?;
        let lines = &self.views[view].lines;
        let place = lines.get(number).map_or(self.views[view].len(), |line| line.place);
        part.slot(begin + place)?.seen_but_by(view)
    }

    /// Everything up to its end may be asked of this view.
    fn is_clean(&self, number: usize, part: &Part) -> bool {
        let view = &self.views[number];
        view.has_clean_end(self.life)
            && (view.left().is_some() || view.is_late)
            && !self.is_short_of_memory
            && !view.may_have_stalled(self.history, |line| self.seen(part, number, line))
    }

    /// Nobody reads on behind its departure; and when the server was asked to end, only those depart who had a cause before.
    fn check_departures(&self, told: &Told, wrong: &mut Vec<Violation>) {
        for (&number, &(step, at)) in &told.story.departed {
            let view = &self.views[number];
            let source = told.part.slots[step].source;
            let line = Part::line(self.views, source).unwrap_or_default();
            let last = told.part.begins.get(&number).and_then(|begin| view.lines.last().map(|last| begin + last.place));
            if last.is_some_and(|last| last > told.place(step)) {
                let blame = Violation::of("end-is-the-departure", &[view.client]).line(line).at(at);
                wrong.push(blame.because("it received lines from behind its departure".to_owned()));
            }
            let Some(stopping) = self.life.stopping else { continue };
            if matches!(source, Source::Line(..)) && at >= stopping && !self.may_have_gone(view, stopping, at) {
                let blame = Violation::of("no-departures-at-the-end", &[view.client]).line(line).at(at);
                wrong.push(blame.because("the server was ending, and nothing else had happened to it".to_owned()));
            }
        }
    }

    /// It had a cause to go before the server was asked to end, or may have been lost by this time.
    fn may_have_gone(&self, view: &View, stopping: Duration, at: Duration) -> bool {
        let had_cause = view.is_late
            || [view.left(), view.gone()].into_iter().flatten().any(|cause| cause <= stopping)
            || self.is_short_of_memory;
        let active = view.reads.last().copied().max(view.input.acts.last().map(|act| act.at)).unwrap_or_default();
        had_cause
            || at.saturating_sub(active) >= self.history.rules.limits.stall.min(KEEPALIVE) / 2
            || view.may_have_stalled(self.history, |_| None)
    }

    /// Those of the core who are there at the quiet end.
    fn here(&self) -> Vec<usize> {
        let Some(healed) = &self.history.healed else { return Vec::new() };
        let (end, settled) = (healed.end, healed.end.saturating_sub(SLACK));
        let is_here = |view: &View| {
            let is_gone = view.gone().is_some_and(|gone| gone <= end) || view.left().is_some_and(|left| left <= end);
            let has_come = view.is_welcomed && view.connected <= settled;
            healed.core.contains(&view.client) && has_come && !is_gone
        };
        if self.life.over().is_some_and(|over| over <= end) {
            return Vec::new();
        }
        self.members.iter().copied().filter(|&number| is_here(&self.views[number])).collect()
    }

    /// The room's numbers at the quiet end, if they are this life's.
    fn quiet_sample(&self) -> Option<&Sample> {
        let end = self.history.healed.as_ref()?.end;
        let is_mine =
            |sample: &&Sample| self.life.over().is_none_or(|over| over > sample.at) && self.life.started <= end;
        self.history.samples.iter().find(|sample| sample.at >= end).filter(is_mine)
    }

    /// At the quiet end somebody may still hold up the room, and then what was counted is not told.
    fn may_be_full(&self) -> bool {
        self.quiet_sample().is_some_and(|sample| 2 * sample.held_bytes >= self.history.rules.limits.backlog_bytes)
    }

    /// Somebody may have had to wait for the room to have space.
    fn was_full(&self, from: Duration, until: Duration) -> bool {
        let samples = &self.history.samples;
        let first = samples.partition_point(|sample| sample.at < from).saturating_sub(1);
        let meanwhile = samples[first..].iter().take_while(|sample| sample.at <= until);
        let half = self.history.rules.limits.backlog_bytes / 2;
        meanwhile.into_iter().any(|sample| sample.senders_parked > 0 || sample.held_bytes >= half)
    }

    /// A reader in the way was at least nearly a backlog behind.
    fn check_let_go(&self, told: &Told, wrong: &mut Vec<Violation>) {
        let limits = &self.history.rules.limits;
        let slack = numbers::segment_bytes(limits) + 3 * limits.turn_bytes() + limits.line_stored_bytes_max();
        let least = limits.backlog_bytes.saturating_sub(slack);
        for (&number, begin) in &told.part.begins {
            let view = &self.views[number];
            for run in &view.runs {
                let places = begin + run.place..begin + run.place + run.lines;
                let bytes = |place| match told.part.slot(place).and_then(|slot| Part::line(self.views, slot.source)) {
                    Some(line) => line.len() + 1,
                    None => limits.line_stored_bytes_max(),
                };
                let is_short = || places.map(bytes).sum::<usize>() < least;
                // One whose end is placed misses only what is before that.
                let may_be_cut = (view.left().is_some() || view.is_late) && run.before == view.lines.len();
                if limits.patience == unisono::limits::FOREVER || (!may_be_cut && is_short()) {
                    let blame = Violation::of("let-go-only-when-full", &[view.client]).at(run.at);
                    let detail = format!("it missed {} lines, of less than {least} bytes", run.lines);
                    wrong.push(blame.because(detail));
                }
            }
        }
        for number in told.part.begins.keys() {
            let view = &self.views[*number];
            if let Some(run) = view.runs.first().filter(|_| self.facts.steady.contains(&view.client)) {
                let blame = Violation::of("steady-readers-miss-nothing", &[view.client]).at(run.at);
                wrong.push(blame.because(format!("it missed {} lines", run.lines)));
            }
        }
    }

    fn is_awake(&self, number: usize) -> bool {
        self.facts.awake.contains(&self.views[number].client)
    }

    /// When each place was first seen by somebody who reads all the time: as good as when it was said.
    fn seen_by_the_awake(&self, told: &Told) -> Vec<Option<Duration>> {
        let mut seen: Vec<Option<Duration>> = vec![None; told.part.slots.len()];
        for (number, begin) in told.part.begins.iter().filter(|(number, _)| self.is_awake(**number)) {
            for line in &self.views[*number].lines {
                let index = usize::try_from(begin + line.place - told.part.low);
                if let Some(at) = index.ok().and_then(|index| seen.get_mut(index)) {
                    *at = Some(at.map_or(line.at, |at| at.min(line.at)));
                }
            }
        }
        seen
    }

    /// Who is awake has every line when the first has it.
    fn check_awake(&self, told: &Told, wrong: &mut Vec<Violation>) {
        for (&number, begin) in &told.part.begins {
            let view = &self.views[number];
            if !self.is_awake(number) {
                continue;
            }
            // What was said when it had been welcomed it should have seen.
            let before = told.part.slot(begin - 1).filter(|slot| slot.seen_by > 0 && may_count(self.history));
            if let (Some(slot), Some(welcomed)) = (before, view.welcomed)
                && self.is_awake(slot.first_by)
                && slot.first > welcomed + AT_ONCE
            {
                let line = Part::line(self.views, slot.source).unwrap_or_default();
                let blame = Violation::of("entering-is-atomic", &[view.client]).line(line).at(slot.first);
                wrong
                    .push(blame.because("this was said when it had entered, and its view begins behind it".to_owned()));
            }
            let first = |line: &view::Line| told.part.slot(begin + line.place).map_or(line.at, |slot| slot.first);
            let late = view.lines.iter().find(|line| line.at.saturating_sub(first(line)) > AT_ONCE);
            if let Some(line) = late {
                let late = line.at.saturating_sub(first(line));
                let blame = Violation::of("awake-readers-are-told-at-once", &[view.client]).at(line.at);
                wrong.push(blame.line(view.text(line)).because(format!("it had it {late:?} later than another")));
            }
            let (Some(stopping), Some(ended)) = (self.life.stopping, view.received_end) else { continue };
            let is_whole = view.is_welcomed && view.left().is_none() && !view.is_broken() && !view.is_late;
            let missing = told.part.head(Duration::MAX) - (begin + view.len());
            if ended >= stopping && is_whole && missing > 0 && self.history.rules.limits.grace > AT_ONCE {
                let blame = Violation::of("all-is-flushed-at-the-end", &[view.client]).at(ended);
                wrong.push(blame.because(format!("its stream ended {missing} lines before the last")));
            }
        }
    }

    /// A departure never waits: a reset is noticed at the latest when the connection is probed, and told at once.
    fn check_resets(&self, told: &Told, wrong: &mut Vec<Violation>) {
        for (&number, &(step, at)) in &told.story.departed {
            let view = &self.views[number];
            let Some(reset) = view.reset.filter(|_| self.facts.told_at_once.contains(&view.client)) else { continue };
            let by = reset.saturating_add(unisono::limits::PROBE).saturating_add(AT_ONCE);
            let place = told.place(step);
            let is_witness = |(other, begin): (&usize, &i64)| {
                let witness = &self.views[*other];
                let sees_it = self.facts.awake.contains(&witness.client) && *begin <= place;
                sees_it && witness.connected <= reset && witness.left().or(witness.gone()).is_none_or(|left| left > by)
            };
            let is_over = self.life.over().is_some_and(|over| over <= by);
            if at > by && !is_over && told.part.begins.iter().any(is_witness) {
                let late = at.saturating_sub(reset);
                let blame = Violation::of("departures-never-wait", &[view.client]).at(at);
                wrong.push(blame.because(format!("it was told {late:?} after the connection was reset")));
            }
        }
    }

    /// The server ends nobody's stream without a cause.
    fn check_causes(&self, told: &[Told], wrong: &mut Vec<Violation>) {
        for &number in &self.members {
            let view = &self.views[number];
            let Some(ended) = view.received_end.filter(|_| view.is_welcomed && !view.is_broken()) else { continue };
            let has_cause = view.left().is_some_and(|left| left <= ended)
                || view.is_late
                || self.life.over().is_some_and(|over| over <= ended)
                || self.is_short_of_memory;
            let part = told.iter().map(|told| &told.part).find(|part| part.begins.contains_key(&number));
            let seen = |line| part.and_then(|part| self.seen(part, number, line));
            if !has_cause && !view.may_have_stalled(self.history, seen) {
                let blame = Violation::of("no-end-without-cause", &[view.client]).at(ended);
                wrong.push(blame.because("its stream was ended, and it had done nothing for that".to_owned()));
            }
        }
    }

    /// The server may have had a cause to break the connection of this client, which it could not tell it any more.
    fn may_be_cut_off(&self, view: &View) -> bool {
        let Limits { line_deadline: deadline, connections_max, per_ip_max, connect_rate, .. } =
            self.history.rules.limits;
        // A refusal is not waited for: whoever talks meanwhile gets a reset.
        let may_be_refused = connections_max.min(per_ip_max) < usize::MAX || connect_rate.is_some();
        let is_refused = !view.is_welcomed && may_be_refused;
        let may_be_banned = !view.is_welcomed && keeper::may_be_banned(self, view);
        // What its own side took to be sent may have been held on the way.
        let is_held = view.was_paused_for(view::most_of(deadline));
        is_refused
            || may_be_banned
            || is_held
            || view.may_have_stalled(self.history, |_| None)
            || view.input.slowest_line >= view::most_of(deadline)
    }

    /// Law 8, and what of law 9 shows from outside.
    fn check_quiet(&self, told: &[Told], wrong: &mut Vec<Violation>) {
        let Some(healed) = &self.history.healed else { return };
        let (end, settled) = (healed.end, healed.end.saturating_sub(SLACK));
        let is_over = self.life.over().is_some_and(|over| over <= end);
        if is_over
            || self.life.started > settled
            || self.members.iter().all(|&view| self.views[view].connected > settled)
        {
            return;
        }
        let quiet_since = end.saturating_sub(QUIET).max(healed.at.min(settled));
        let is_core = |view: &View| healed.core.contains(&view.client);
        let mut here = Vec::new();
        for &number in self.members.iter().filter(|&&number| is_core(&self.views[number])) {
            let view = &self.views[number];
            let mut blame = |invariant, detail: &str| {
                wrong.push(Violation::of(invariant, &[view.client]).at(end).because(detail.to_owned()));
            };
            if view.reset.is_some_and(|at| at <= end) || view.is_refused || view.connected > settled {
                continue;
            }
            let has_cause = view.left().is_some() || view.is_late;
            match view.received_error.filter(|at| *at <= end) {
                Some(at) if at > healed.at && !has_cause && !self.may_be_cut_off(view) => {
                    blame("no-end-without-cause", "its connection was broken, which it had not done");
                }
                _ => {}
            }
            if view.gone().is_some_and(|gone| gone <= end) {
                continue;
            }
            if !view.is_welcomed {
                let is_asked = self.history.rules.password.is_some();
                let invariant = if is_asked { "the-right-come-in" } else { "quiet-readers-have-everything" };
                blame(invariant, "it was never welcomed");
            } else if view.left().is_some_and(|left| left <= quiet_since) {
                blame("quiet-readers-have-everything", "it has left, and its stream does not end");
            } else if view.left().is_none_or(|left| left > end) {
                here.push(number);
            }
        }
        self.check_core(told, &here, quiet_since, wrong);
        for told in told {
            self.check_gone(told, &here, wrong);
        }
    }

    /// Those of the core who are still here have everything, and have said everything.
    fn check_core(&self, told: &[Told], here: &[usize], quiet_since: Duration, wrong: &mut Vec<Violation>) {
        let Some(healed) = &self.history.healed else { return };
        let (end, settled) = (healed.end, healed.end.saturating_sub(SLACK));
        let mut seen = 0;
        let mut apart = Vec::new();
        for told in told {
            let placed = || here.iter().filter_map(|&number| Some((number, *told.part.begins.get(&number)?)));
            let reach = |number: usize, begin: i64| begin + self.views[number].reach(end);
            let is_sure = |number: usize| !self.views[number].ends_missing();
            let sure =
                placed().filter(|(number, _)| is_sure(*number)).map(|(number, begin)| reach(number, begin)).max();
            let head = told.part.head(settled);
            if let Some((first, _)) = placed().next() {
                apart.push(first);
            }
            for (number, begin) in placed() {
                seen += 1;
                let (view, reach) = (&self.views[number], reach(number, begin));
                let detail = format!("its view ends {} lines before the head", head.max(sure.unwrap_or(head)) - reach);
                if reach < head {
                    let next = told.part.slot(reach).and_then(|slot| Part::line(self.views, slot.source));
                    let blame = Violation::of("quiet-readers-have-everything", &[view.client]).at(end);
                    wrong.push(blame.line(next.unwrap_or_default()).because(detail));
                } else if !is_sure(number) && sure.is_some_and(|sure| reach > sure && sure >= head) {
                    let blame = Violation::of("missed-counts-are-exact", &[view.client]).at(end);
                    wrong.push(blame.because("it missed more lines than there were".to_owned()));
                }
            }
        }
        // Who shares nothing with the others must at least have seen the arrivals of those who came later.
        let may_have_missed = here.iter().any(|&number| !self.views[number].runs.is_empty())
            || may_count(self.history) && self.may_be_full();
        if !may_have_missed && (apart.len() > 1 || (seen < here.len() && here.len() > 1)) {
            let is_placed = |number: &usize| told.iter().any(|told| told.part.begins.contains_key(number));
            let lonely = here.iter().copied().filter(|number| !is_placed(number)).chain(apart.iter().skip(1).copied());
            let clients: Vec<Client> =
                lonely.chain(apart.first().copied()).map(|number| self.views[number].client).collect();
            let blame = Violation::of("quiet-readers-have-everything", &clients).at(end);
            wrong.push(blame.because("these are in the room and have never heard of each other".to_owned()));
        }
        for &number in here {
            let view = &self.views[number];
            let is_quiet = view.input.acts.last().is_none_or(|act| act.at <= quiet_since);
            let nowhere = wide(view.input.acts.iter().filter(|act| matches!(act.what, wire::What::Say { .. })).count());
            let unsaid = told.iter().find_map(|told| told.story.unsaid.get(&number)).copied();
            let is_told = told.iter().any(|told| told.part.begins.contains_key(&number));
            let unsaid = unsaid.unwrap_or(if is_told { 0 } else { nowhere - view.unspared });
            if is_quiet && unsaid > 0 && !view.is_late {
                let blame = Violation::of("quiet-senders-have-said-everything", &[view.client]).at(end);
                wrong.push(blame.because(format!("{unsaid} of the lines that it sent were never said")));
            }
        }
    }

    /// Who is gone has departed, to the knowledge of those of the core who are here.
    fn check_gone(&self, told: &Told, here: &[usize], wrong: &mut Vec<Violation>) {
        let Some(healed) = &self.history.healed else { return };
        let (end, settled) = (healed.end, healed.end.saturating_sub(SLACK));
        let sees_all = |number: &usize| told.part.begins.contains_key(number) && self.views[*number].runs.is_empty();
        if !here.iter().any(sees_all) {
            return;
        }
        // A departure that only its own stream's end tells of, though somebody was there who sees everything.
        let was_witnessed = |step: usize| {
            here.iter().filter(|number| sees_all(number)).any(|number| told.part.begins[number] <= told.place(step))
        };
        let unheard = told.story.departed.iter().filter(|(_, (step, _))| {
            matches!(told.part.slots[*step].source, Source::Departure(_)) && was_witnessed(*step)
        });
        let present = told.story.present.iter().map(|(number, excuses)| (*number, *excuses));
        for (number, excuses) in present.chain(unheard.map(|(number, _)| (*number, 0))) {
            let view = &self.views[number];
            if excuses > 0 || self.may_be_counted_out(told, number) {
                continue;
            }
            let vanished = [view.reset, view.received_error].into_iter().flatten().min();
            let is_told_at_once = self.facts.told_at_once.contains(&view.client);
            let bound = if is_told_at_once { SLACK } else { found_out_within(&self.history.rules.limits) };
            let vanished = vanished.and_then(|at| at.checked_add(bound));
            if [view.received_end, vanished].into_iter().flatten().any(|by| by <= settled) {
                let was_counted = told.story.counts.iter().any(|(_, _, left)| *left > 0);
                let invariant = if was_counted { "speakers-depart-by-name" } else { "the-gone-have-departed" };
                let blame = Violation::of(invariant, &[view.client]).at(end);
                wrong.push(blame.because("its connection is over, and nobody was told that it left".to_owned()));
            } else if let Some(by) = self.stalled_by(told, number)
                && by <= settled
            {
                let blame = Violation::of("the-stalled-are-closed", &[view.client]).at(by);
                wrong.push(blame.because("it took nothing for the stall limit, and is still there".to_owned()));
            }
        }
    }

    /// It was never heard of, so its departure may be one of a number that was told; or is to be told, when there is room.
    fn may_be_counted_out(&self, told: &Told, number: usize) -> bool {
        if !may_count(self.history) || told.story.heard.contains(&number) {
            return false;
        }
        let end = told.part.begins.get(&number).map_or(told.part.low, |begin| begin + self.views[number].len());
        let is_it = |&(step, _, left): &(usize, i64, i64)| left > 0 && told.place(step) >= end;
        told.story.counts.iter().any(is_it) || self.may_be_full()
    }

    /// When the server must have closed this member, as it has not read since long before and much more than buffers hold
    /// was due to it.
    fn stalled_by(&self, told: &Told, number: usize) -> Option<Duration> {
        let view = &self.views[number];
        let &(from, until) = view.pauses.last()?;
        let begin = *told.part.begins.get(&number)?;
        let mut due_bytes = 0;
        let places = begin + view.reach(from)..;
        let full = places.map_while(|place| told.part.slot(place)).find(|slot| {
            due_bytes += Part::line(self.views, slot.source).map_or(0, |line| line.len() + 1);
            due_bytes > self.facts.buffers_bytes
        })?;
        let since = full.first.max(from);
        let by = since.checked_add(self.history.rules.limits.stall)?.checked_add(SLACK)?;
        // Nobody could take anything while the clocks jumped.
        let jump = self.facts.jumps.iter().find(|(from, until)| (*from..*until).contains(&by));
        let by = jump.map_or(Some(by), |(_, until)| until.checked_add(SLACK))?;
        let sipped = view.reads.iter().any(|read| (since..by).contains(read));
        (!sipped && until.is_none_or(|until| until >= by)).then_some(by)
    }

    fn write(&self, told: &Told, order: &mut Order) {
        let lang = self.history.rules.wire.lang;
        let is_seen = |slot: &merge::Slot| slot.source != Source::Unseen;
        let Some(first) = told.part.slots.iter().position(is_seen) else { return };
        let last = told.part.slots.iter().rposition(is_seen).unwrap_or(first);
        let unseen = Entry { life: self.number, what: What::Unseen, client: None, at: None, seen_by: 0 };
        if order.entries.last().is_some_and(|entry| entry.life == self.number) {
            order.entries.push(unseen.clone());
        }
        for step in first..=last {
            let slot = &told.part.slots[step];
            let line = Part::line(self.views, slot.source);
            let what = match (slot.source, line.map(|line| wire::kind(line, lang))) {
                (_, Some(Kind::Arrival { .. })) if told.story.introduced.contains(&step) => {
                    What::Introduced { was_counted: false }
                }
                (Source::Arrival(_), _) | (_, Some(Kind::Arrival { .. })) => What::Arrival,
                (Source::Departure(_), _) => What::Departure { who: String::new() },
                (_, Some(Kind::Departure { who })) => What::Departure { who: who.to_owned() },
                (_, Some(Kind::Said { who, text })) => What::Said { who: who.to_owned(), text: text.to_vec() },
                (_, Some(Kind::Renamed { new, .. })) => What::Renamed { new: new.to_owned() },
                (_, Some(Kind::Counted { joined, left })) => What::Counted { joined, left },
                (_, Some(Kind::Here { .. })) => What::Introduced { was_counted: true },
                (_, Some(Kind::Announced { text })) => What::Announced { text: text.to_vec() },
                (_, Some(Kind::Strange) | None) => {
                    order.entries.push(unseen.clone());
                    continue;
                }
            };
            let client = told.story.whose.get(step).copied().flatten().map(|number| self.views[number].client);
            order.entries.push(Entry { what, client, at: Some(slot.first), seen_by: slot.seen_by, ..unseen.clone() });
        }
    }
}

impl Order {
    /// The lines that this client said, in their order.
    pub fn said_by(&self, client: Client) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter(move |entry| entry.client == Some(client)).filter_map(|entry| match &entry.what {
            What::Said { text, .. } => Some(&text[..]),
            _ => None,
        })
    }

    /// How many of each thing there are: said, arrivals, departures, names, counts, introductions, announcements, unseen.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for entry in &self.entries {
            let what = match entry.what {
                What::Said { .. } => "said",
                What::Arrival => "arrivals",
                What::Departure { .. } => "departures",
                What::Renamed { .. } => "names",
                What::Counted { .. } => "counts",
                What::Introduced { .. } => "introductions",
                What::Announced { .. } => "announcements",
                What::Unseen => "unseen",
            };
            *counts.entry(what).or_default() += 1;
        }
        counts
    }
}
