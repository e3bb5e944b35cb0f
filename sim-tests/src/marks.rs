//! Which hard cases a run met: *sometimes* beside the judge's *always*.
//!
//! A law that is kept says little if nothing ever tempted it. So each run is looked over for the cases that the laws
//! are there for, and a search sums up which were met and which never: towards those its plans should be bent.
//!
//! All of it shows from outside: in the history, the plan, the order that the judge rebuilt, and what the network counted.
//! The history is walked once, by time. A mark says that something was met *as far as can be seen*; it accuses nobody, so
//! a rough look at a line is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use unisono::limits::{FOREVER, INPUT_BYTES_FREE};
use unisono::{Lang, Limits, Who, Wire};

use crate::history::{Client, Event, History, Keeping, Record, Sample, ServerEvent};
use crate::judge::{self, Order};
use crate::plan::{PASSWORDS, Plan, What};

/// Declares each mark once: as a value for the code, and by its name and sentence for people.
macro_rules! marks {
    ($($mark:ident $name:literal: $sentence:literal,)*) => {
        #[derive(Clone, Copy, Debug)]
        enum Mark {
            $($mark),*
        }

        /// Every mark but those of acts, by its name, and what was met in a sentence.
        pub const MARKS: &[(&str, &str)] = &[$(($name, $sentence)),*];
    };
}

marks! {
    // Readers that fall behind.
    LetGo "let-go": "a reader was told that it missed lines",
    LetGoAgain "let-go-again": "a reader was let go, told, and let go again",
    LetGosAddedUp "let-gos-added-up": "a reader was let go twice before it could be told, and one notice told of both",
    LetGoUntold "let-go-untold": "a reader was let go, and gone before it was told",
    LetGoTogether "let-go-together": "several readers were let go between two samples",
    LetGoAtFirst "let-go-at-first": "the first that a reader heard behind its welcome was what it missed",
    LetGoLeaving "let-go-leaving": "a reader was told what it missed after it had ended its input",
    LetGoAtEnd "let-go-at-end": "the last that a leaving reader heard was what it missed",
    LetGoTorn "let-go-torn": "the rest of a torn line came, and right behind it what was missed",
    LetGoPaused "let-go-paused": "a reader paused over a let-go, read on, and was told",
    MissedOne "missed-one": "a single line was missed",
    PatienceZero "patience-zero": "somebody was let go at once, as there is no patience",
    PatienceForever "patience-forever": "a sender was parked, and endless patience had somebody who took nothing",
    SlowMissedNothing "slow-missed-nothing": "a reader paused, read by sips, read on, and missed nothing",
    StallClosed "stall-closed": "a reader took nothing for the stall limit and was sent away",
    FrozenWrittenTo "frozen-written-to": "lines were said while nothing moved towards a reader, and it got them later",
    ThawedMany "thawed-many": "the first read after a partition healed held several lines",
    UnseenLine "unseen-line": "nobody who is left to tell saw a line",
    BacklogFull "backlog-full": "the room held a backlog",

    // Senders that wait.
    Demand "demand-of-three-patiences": "somebody had something to say for three times the patience, on links that take no time",
    SenderParked "sender-parked": "a sender was parked on a full backlog",
    SendersQueued "senders-queued": "three senders or more were parked at once",
    FloodSlowed "flood-slowed": "more lines came at one instant than a stranger may say at once, and were said",
    FloodEnded "flood-ended": "a stranger ended its input before it may have said all of a flood",
    ParkedBroke "parked-broke": "a connection with lines unsaid broke while senders were parked",
    ParkedEnded "parked-ended": "somebody ended its input while senders were parked",
    ParkedCame "parked-came": "somebody came while senders were parked",
    ParkedStop "parked-stop": "the server was asked to end while senders were parked",

    // How connections begin and end.
    ResetMidLine "reset-mid-line": "a connection broke amid a line of its input",
    ResetUnwelcomed "reset-unwelcomed": "a connection broke before its welcome was read",
    EndUnwelcomed "end-unwelcomed": "a client ended its input before its welcome was read",
    NeverEntered "never-entered": "somebody went before it had entered, and nobody in the room was told",
    EndMidLineSaid "end-mid-line-said": "the last line had no line feed, and was said after the clean end of input",
    HalfClosedRead "half-closed-read": "a client that had ended its input got lines of others in three reads or more",
    ResetTold "reset-told": "a connection was reset, and its departure told",
    VanishedLate "vanished-late": "a peer vanished, and was found out a minute later or more",
    VanishedSoon "vanished-soon": "a peer vanished, and was found out within a minute",
    WriteErrorTold "write-error-told": "a write failed, and the departure was told",
    PanicTold "panic-told": "a connection's task panicked, and the departure was told",
    Quit "quit": "a member said /quit, and its stream was ended",
    BehindQuit "behind-quit": "something was sent behind /quit",
    CameBack "came-back": "somebody came from where a connection had broken before",
    CameBackEarly "came-back-early": "somebody came back before its old connection's departure was told",
    Crowd "crowd": "more than twenty were in the room",
    CameToEmpty "came-to-empty": "the last member left, and then somebody came",
    Flood "flood": "five connections or more came up at one instant",
    CountedIn "counted-in": "arrivals of strangers were told as a number",
    CountedOut "counted-out": "departures of strangers were told as a number",
    CountedThenHeard "counted-then-heard": "somebody was heard of whose arrival had been counted, and was told of by name before",
    HeardUncounted "heard-uncounted": "somebody was heard of before the count that would have had it was told",
    GuestWelcomed "guest-welcomed": "somebody was welcomed as a guest",
    GuestUnread "guest-unread": "others were told of a guest that never read its own number",
    GuestAgain "guest-again": "somebody came back as another guest",
    NotEntered "not-entered": "a connection had a place and was not in, or no longer",
    RefusedFull "refused-full": "a newcomer was refused, as the server was full",
    RefusedAddress "refused-address": "a newcomer was refused, as its address had its share",
    RefusedHasty "refused-hasty": "a newcomer was refused, as connections came too fast from its address",
    CameAfterHaste "came-after-haste": "somebody came in from where another had come too fast before",
    TrustedHasty "trusted-hasty": "somebody who is trusted came in faster than a stranger may",
    RefusedNobody "refused-nobody": "a connection was asked for, and nobody listened",
    AcceptedAfterError "accepted-after-error": "accepting failed, and a later newcomer was welcomed",
    StreamCut "stream-cut": "a stream ended amid a line",

    // What is sent and said.
    TooLong "too-long": "a line was refused as too long",
    LongestSaid "longest-said": "a line of exactly the greatest length was said",
    LongSaid "long-said": "a line was said that needed memory which all share",
    BeyondBuffers "beyond-buffers": "a line was said that no connection's buffers hold",
    EmptySaid "empty-said": "an empty line was said",
    CrlfSaid "crlf-said": "a line was said whose end had a carriage return",
    Bom "byte-order-mark": "a line was said before which a byte order mark was dropped",
    Cleaned "cleaned": "a line was said otherwise than it was sent, as it was cleaned",
    BrokenUtf8 "broken-utf8": "a line was said that was sent with bytes that are no UTF-8",
    OddPassed "odd-passed": "control bytes or foreign ones passed as they were",
    SlashSaid "slash-said": "//x was said as /x",
    HelpAnswered "help-answered": "/help was answered",
    WhoAnswered "who-answered": "/who was answered",
    WhoSliced "who-sliced": "/who was answered in several slices",
    UnknownCommand "unknown-command": "a command was not known",
    Renamed "renamed": "somebody else saw a new name",
    RenamedCase "renamed-case": "a member took its own name in another case",
    RenamedAmidLines "renamed-amid-lines": "a member took a name between two lines that follow one another",
    NameRefused "name-refused": "a name was refused",
    NameTaken "name-taken": "a name was refused, as another had it or one like it",
    NameGiven "name-given": "a name was refused, as it is what the server calls who has none",
    LineDeadline "line-deadline": "a line took too long, and the connection was closed",
    MemorySpent "memory-spent": "a line was refused, as the memory for partial lines was spent",
    PartialHeld "partial-held": "a partial line took memory that all share",

    // How lines come to a reader.
    OneByteRead "one-byte-read": "a read gave a single byte",
    ManyPieces "many-pieces": "a line came in more than three reads",
    SendersInOneRead "senders-in-one-read": "a read held lines of several members",
    ArrivalsInOneRead "arrivals-in-one-read": "a read held two arrivals",
    DeparturesInOneRead "departures-in-one-read": "a read held two departures",
    LineAndDeparture "line-and-departure": "a read held a member's line and its departure",
    LineOfTheGone "line-of-the-gone": "a line came whose sender's connection was over",
    ArrivalAmidLines "arrival-amid-lines": "an arrival stands between two lines of one member",
    Interleaved "interleaved": "a line of one member stands between two of another",

    // The server's own end.
    StopPaused "stop-paused": "the server was asked to end while somebody took nothing",
    StopMidLine "stop-mid-line": "the server was asked to end while somebody was amid a line",
    StopConnected "stop-connected": "somebody connected to a server that was ending",
    GraceSpent "grace-spent": "the server ended only when its grace period had passed",
    Farewell "farewell": "the server said that it is stopping",

    // What whoever keeps the server does.
    Announced "announced": "whoever keeps the server said something to all",
    AnnouncedParked "announced-parked": "whoever keeps the server had something to say while senders were parked",
    HandsShaken "hands-shaken": "somebody was let in within TLS",
    Alerted "handshake-garbage": "somebody spoke no TLS where that is spoken, and was told so",
    HandshakeLate "handshake-late": "somebody was shown out as it had not shaken hands in time",
    HandshakeGone "handshake-gone": "somebody went, or was gone, before it had shaken hands",
    TlsCut "tls-cut": "a stream within TLS was cut off without a farewell",
    Asked "asked": "a newcomer was asked for a password",
    AskedGone "asked-gone": "somebody went while it was asked for a password",
    PasswordWrong "password-wrong": "a wrong password was tried, and might be tried again",
    PasswordRefused "password-refused": "somebody was turned away for its third wrong password",
    PasswordHasty "password-hasty": "somebody was turned away for how many passwords came from its address",
    PasswordLate "password-late": "somebody was turned away as it had said no right password in time",
    PasswordThird "password-third": "somebody came in by its third password",
    PasswordPieces "password-pieces": "somebody came in by a password that it sent in four pieces or more",
    RemovedTold "removed-told": "a member was removed, and told so",
    RemovedBehind "removed-behind": "a member was removed that had not read everything",
    RefusedBanned "refused-banned": "a newcomer was refused, as nobody is let in from there",
    CrashMidLine "crash-mid-line": "the server crashed while somebody was amid a line",
    SecondLife "second-life": "somebody was welcomed by a server that had been started again",
    ThirdLife "third-life": "the server was started a third time",

    // The network.
    QueueFull "queue-full": "a connection found the listener's queue full",
    Spurious "spurious": "a task was woken or polled for nothing",
    Short "short": "a read or a write was cut short",
    Blocked "blocked": "a write found its buffer full",
    TimedOut "timed-out": "a side gave up on a peer that did not answer",
    ConnectTimedOut "connect-timed-out": "nobody answered who wanted to connect",
    ResetLost "reset-lost": "a reset ate bytes under way",
    Swallowed "swallowed": "something was sent to a host without power",
    Revived "revived": "a host without power came back and knew nothing",
    WriteFault "write-fault": "a write failed, as planned",
    ReadFault "read-fault": "a read failed, as planned",
    PlantedPanic "planted-panic": "a read panicked, as planned",
    AcceptFault "accept-fault": "accepting failed, as planned",
}

/// Marks that the network counts itself, each by the name of its count.
const OF_NETWORK: [(&str, Mark); 13] = [
    ("queued", Mark::QueueFull),
    ("spurious", Mark::Spurious),
    ("short", Mark::Short),
    ("blocked", Mark::Blocked),
    ("timed-out", Mark::TimedOut),
    ("connect-timed-out", Mark::ConnectTimedOut),
    ("rst-lost", Mark::ResetLost),
    ("swallowed", Mark::Swallowed),
    ("revived", Mark::Revived),
    ("write-fault", Mark::WriteFault),
    ("read-fault", Mark::ReadFault),
    ("panic", Mark::PlantedPanic),
    ("accept-fault", Mark::AcceptFault),
];

/// The count of spans of demand, among what the network counts.
pub const DEMAND: &str = "demand";

/// Marks that are notices, each by how these begin in Chinese and in English.
const OF_NOTICES: [(Mark, &str, &str); 18] = [
    (Mark::Asked, "请先输入密码", "password, please"),
    (Mark::PasswordWrong, "密码不对，", "wrong password, "),
    (Mark::PasswordRefused, "密码不对：", "wrong password: "),
    (Mark::PasswordHasty, "来自你的地址的密码", "too many passwords"),
    (Mark::RemovedTold, "你已被移出", "you were removed"),
    (Mark::RefusedBanned, "这里不接受", "connections from your address"),
    (Mark::TooLong, "这行太长", "line too long"),
    (Mark::MemorySpent, "这行没有发出", "line not said"),
    (Mark::UnknownCommand, "没有这个命令", "no such command"),
    (Mark::NameGiven, "名字不行：太像服务器给", "name refused: this name would look like one that"),
    (Mark::NameRefused, "名字不行", "name refused"),
    (Mark::NameTaken, "名字 ", "name "),
    (Mark::HelpAnswered, "/help ", "/help "),
    (Mark::LineDeadline, "一行过了", "line not ended"),
    (Mark::RefusedFull, "服务器已满", "server full"),
    (Mark::RefusedAddress, "来自你的地址", "too many connections"),
    (Mark::RefusedHasty, "连接得太频繁", "connecting too fast"),
    (Mark::Farewell, "服务器即将停止", "server is stopping"),
];

/// The mark of each kind of act, by that kind's name.
static OF_ACTS: LazyLock<BTreeMap<&'static str, &'static str>> = LazyLock::new(|| {
    let mark = |kind: &&'static str| (*kind, &*format!("act: {kind}").leak());
    Kinds::of_acts().iter().map(mark).collect()
});

/// Refuses a name that no act has, and in doing so learns those that acts have.
#[derive(Debug)]
struct Kinds(&'static [&'static str]);

impl Kinds {
    fn of_acts() -> &'static [&'static str] {
        What::deserialize(StrDeserializer::<Self>::new("")).map_or_else(|kinds| kinds.0, |_act| &[])
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {:?}", self.0)
    }
}

impl std::error::Error for Kinds {}

impl serde::de::Error for Kinds {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}

/// Keeps the first word that is written, and then wants no more.
struct FirstWord(String);

impl Write for FirstWord {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
        self.0.push_str(&text[..end]);
        if end < text.len() || self.0.is_empty() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// What kind of act it is.
fn kind(what: &What) -> &'static str {
    let mut name = FirstWord(String::new());
    // It fails as soon as the name is complete.
    let _stopped = write!(name, "{what:?}");
    OF_ACTS.get_key_value(&*name.0).map_or("", |(kind, _)| kind)
}

/// How often a run met each mark; only those that it met. `counts` are the network's own, by the
/// names of its events in kebab-case.
pub fn marks(
    plan: &Plan,
    history: &History,
    order: Option<&Order>,
    counts: &BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    let mut walk = Walk::new(plan, history);
    for (name, mark) in OF_NETWORK {
        walk.met.add(mark, counts.get(name).copied().unwrap_or_default());
    }
    walk.met.add(Mark::Demand, counts.get(DEMAND).copied().unwrap_or_default());
    if let Some(order) = order {
        walk.read_order(order, plan);
    }
    walk.walk(history);
    walk.keep(history);
    walk.finish();
    let Met(met) = walk.met;
    let mut marks: BTreeMap<_, _> = MARKS.iter().map(|(name, _)| *name).zip(met).collect();
    for mark in plan.acts.iter().filter_map(|act| OF_ACTS.get(kind(&act.what))) {
        *marks.entry(mark).or_default() += 1;
    }
    marks.retain(|_, times| *times > 0);
    marks
}

/// How often each mark was met.
struct Met([u64; MARKS.len()]);

impl Met {
    const fn add(&mut self, mark: Mark, times: u64) {
        self.0[mark as usize] += times;
    }

    fn when(&mut self, is_met: bool, mark: Mark) {
        self.add(mark, u64::from(is_met));
    }
}

/// What a run plans for one client, by time.
type Cues = Vec<(Duration, &'static str)>;

/// Acts after which a connection is broken.
const BREAKING: [&str; 7] = ["Reset", "Vanish", "WriteError", "ReadError", "Panic", "VanishHost", "CrashHost"];

/// Acts after which a client takes nothing; the first ones hold up what moves towards it.
const PAUSING: [&str; 7] = ["Freeze", "FreezeDown", "Hold", "HoldDown", "Pause", "PauseHost", "Jump"];

/// How many of [`PAUSING`] freeze.
const FREEZING: usize = 4;

/// A span in which a client took nothing.
#[derive(Clone, Copy, Debug)]
struct Pause {
    from: Duration,
    until: Option<Duration>,
    /// The network's doing.
    is_frozen: bool,
    /// What the room counted at its beginning.
    let_gos: u64,
    said_bytes: u64,
}

/// One client, as far as time has come.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what is known of a client is known one by one")]
struct Person<'a> {
    cues: Cues,
    /// Without the port.
    ip: &'a str,
    /// How many had come from there within a second, it among them; and whether that is where no strangers come from.
    of_second: u32,
    is_trusted: bool,
    /// Where TLS is spoken it came before it was connected.
    knocked: Option<Duration>,
    connected: Option<Duration>,
    life: usize,

    /// What the order has of it: its lines, of which some have been found in its input, and its departure.
    said: Vec<&'a [u8]>,
    found: usize,
    /// How many places of the order are its own.
    places: usize,
    departed: Option<Duration>,

    /// It was asked for a password, what it was told of those that it said, and how many pieces its input had then.
    is_asked: bool,
    is_proved: bool,
    wrong: usize,
    sent_pieces: usize,

    /// Input that is no whole line yet.
    input: Vec<u8>,
    /// Whole lines of its input; and those of them that are no commands and not too long.
    lines_sent: usize,
    lines_to_say: usize,
    quit: Option<Duration>,
    /// Until when it cannot have said all that it sent at one instant.
    slowed_until: Duration,
    sent_end: Option<Duration>,
    reset: Option<Duration>,
    /// Its stream ended or failed.
    over: Option<Duration>,

    /// Output that is no whole line yet, the reads that it came in, and when the first was.
    output: Vec<u8>,
    pieces: usize,
    began: Duration,
    is_welcomed: bool,
    is_refused: bool,
    /// The last line was begun in an earlier instant than it ended, which was then.
    torn: Option<Duration>,
    lines: u64,
    /// Notices of lines missed.
    let_gos: u64,
    /// How many lines it had received when it was last told that it missed some.
    missed_behind: Option<u64>,
    reads_after_end: u64,

    pauses: Vec<Pause>,
    sips: u64,
    /// What was frozen moves again, and it has read nothing since: whether something was said meanwhile.
    thawed: Option<bool>,
    was_let_go_paused: bool,
}

impl Person<'_> {
    fn pause(&self) -> Option<&Pause> {
        self.pauses.last().filter(|pause| pause.until.is_none())
    }

    /// It could still come to know something.
    fn is_here(&self) -> bool {
        self.connected.is_some() && self.reset.is_none() && self.over.is_none()
    }

    /// When its connection was over on its own side.
    fn gone(&self) -> Option<Duration> {
        [self.reset, self.over].into_iter().flatten().min()
    }
}

/// The last act of such a kind that was planned by then.
fn last(cues: &Cues, by: Duration, kinds: &[&str]) -> Option<(Duration, &'static str)> {
    cues.iter().rfind(|(at, kind)| *at <= by && kinds.contains(kind)).copied()
}

/// Sums over a life of the server.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// By the room's own count.
    let_gos: u64,
    missed_lines: u64,
    /// By what readers were told.
    notices: u64,
    told_lines: u64,
    /// When the order's last line was seen, and since when the life is ending.
    last: Duration,
    stopping: Option<Duration>,
}

/// A walk through a run, by time.
struct Walk<'a> {
    met: Met,
    limits: &'a Limits,
    wire: Wire,
    /// Newcomers are asked for a password.
    is_door: bool,
    has_order: bool,
    people: Vec<Person<'a>>,
    /// Acts that are about no client alone.
    shared: Cues,
    /// Who was called so last.
    whose: BTreeMap<Vec<u8>, Client>,
    /// Who broke last at this address.
    broke: BTreeMap<&'a str, Client>,
    lives: Vec<Sums>,
    /// The last one of this life.
    sample: Option<&'a Sample>,
    /// The last member left.
    is_deserted: bool,
    /// Connections of one instant; and from each address since when, within a second.
    flood: (Duration, u64),
    of_second: BTreeMap<&'a str, (Duration, u32)>,
    /// From where somebody came too fast, in this life.
    hasty: BTreeSet<(usize, &'a str)>,
}

/// A line that a client received.
enum Heard<'a> {
    Notice(&'a str),
    Said(&'a [u8]),
    Arrival,
    Departure(&'a [u8]),
    Renamed(&'a [u8], &'a [u8]),
    Other,
}

fn heard(line: &[u8], lang: Lang) -> Heard<'_> {
    let Some(space) = line.iter().position(|byte| *byte == b' ') else { return Heard::Other };
    let (who, rest) = (&line[..space], &line[space + 1..]);
    let (joined, left, renamed) = match lang {
        Lang::Zh => ("上线", "下线", "改名 "),
        Lang::En => ("joined", "left", "is now "),
    };
    match who {
        b"--" => Heard::Notice(str::from_utf8(rest).unwrap_or_default()),
        [who @ .., b':'] => Heard::Said(who),
        _ if rest == joined.as_bytes() => Heard::Arrival,
        _ if rest == left.as_bytes() => Heard::Departure(who),
        _ => rest.strip_prefix(renamed.as_bytes()).map_or(Heard::Other, |new| Heard::Renamed(who, new)),
    }
}

/// The number in a notice of lines missed.
fn missed(notice: &str, lang: Lang) -> Option<u64> {
    let (head, tail) = match lang {
        Lang::Zh => ("错过 ", " 行"),
        Lang::En => ("missed ", " lines"),
    };
    notice.strip_prefix(head)?.strip_suffix(tail)?.parse().ok()
}

/// The number in the first line of the answer to `/who`.
fn present(notice: &str, lang: Lang) -> Option<usize> {
    let number = match lang {
        Lang::Zh => notice.strip_prefix("在线 ")?.strip_suffix(" 人")?,
        Lang::En => notice.strip_suffix(" here")?,
    };
    number.parse().ok()
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

/// What one read of a client held.
#[derive(Default)]
struct Read {
    whole_lines: usize,
    arrivals: usize,
    departures: usize,
    /// Whose lines, as one followed another.
    speakers: Vec<Client>,
}

/// Members that `/who` tells at once.
const WHO_SLICE: usize = 16;

impl<'a> Walk<'a> {
    fn new(plan: &Plan, history: &'a History) -> Self {
        let last = history.records.iter().map(|record| record.client).max().unwrap_or_default();
        let mut people: Vec<Person<'a>> = Vec::new();
        people.resize_with(plan.clients().max(last + 1), Person::default);
        let mut shared = Cues::new();
        for act in &plan.acts {
            let cues = act.what.client().map_or(&mut shared, |client| &mut people[client].cues);
            cues.push((Duration::from_millis(act.at_ms), kind(&act.what)));
        }
        Self {
            met: Met([0; MARKS.len()]),
            limits: &history.rules.limits,
            wire: history.rules.wire,
            is_door: history.rules.password.is_some(),
            has_order: false,
            people,
            shared,
            whose: BTreeMap::new(),
            broke: BTreeMap::new(),
            lives: Vec::new(),
            sample: None,
            is_deserted: false,
            flood: (Duration::MAX, 0),
            of_second: BTreeMap::new(),
            hasty: BTreeSet::new(),
        }
    }

    /// What shows in the order alone.
    fn read_order(&mut self, order: &'a Order, plan: &Plan) {
        self.has_order = true;
        let buffers_bytes = plan.links.send_bytes.saturating_add(plan.links.receive_bytes);
        let mut names: BTreeMap<Client, &str> = BTreeMap::new();
        // The last two that spoke, and what stands behind the last.
        let mut spoke: [Option<Client>; 2] = [None; 2];
        let (mut arrived, mut renamed) = (false, None);
        for entry in &order.entries {
            if self.lives.len() <= entry.life {
                self.lives.resize_with(entry.life + 1, Sums::default);
            }
            self.lives[entry.life].last = self.lives[entry.life].last.max(entry.at.unwrap_or_default());
            if let Some(client) = entry.client {
                self.people[client].places += 1;
            }
            match (&entry.what, entry.client) {
                (judge::What::Said { text, .. }, client) => {
                    self.met.when(text.is_empty(), Mark::EmptySaid);
                    self.met.when(text.len() > INPUT_BYTES_FREE, Mark::LongSaid);
                    self.met.when(text.len() > buffers_bytes, Mark::BeyondBuffers);
                    if let Some(client) = client {
                        self.people[client].said.push(text);
                    }
                    let [before, last] = spoke;
                    let follows = client.is_some() && last == client;
                    self.met.when(follows && arrived, Mark::ArrivalAmidLines);
                    self.met.when(follows && renamed == client, Mark::RenamedAmidLines);
                    self.met.when(client.is_some() && before == client && !follows, Mark::Interleaved);
                    spoke = [last, client];
                    (arrived, renamed) = (false, None);
                }
                (judge::What::Arrival, _) => arrived = true,
                (judge::What::Departure { .. }, Some(client)) if entry.seen_by > 0 => {
                    self.people[client].departed = entry.at;
                }
                (judge::What::Renamed { new }, Some(client)) => {
                    self.met.when(entry.seen_by > 1, Mark::Renamed);
                    let old = names.insert(client, new).filter(|old| *old != new);
                    self.met.when(old.is_some_and(|old| old.eq_ignore_ascii_case(new)), Mark::RenamedCase);
                    renamed = Some(client);
                }
                (judge::What::Departure { .. } | judge::What::Renamed { .. }, _) => {}
                (judge::What::Counted { joined, left }, _) => {
                    self.met.when(*joined > 0, Mark::CountedIn);
                    self.met.when(*left > 0, Mark::CountedOut);
                }
                (judge::What::Introduced { was_counted }, _) => {
                    let mark = if *was_counted { Mark::CountedThenHeard } else { Mark::HeardUncounted };
                    self.met.add(mark, 1);
                }
                (judge::What::Announced { .. }, _) => self.met.add(Mark::Announced, 1),
                (judge::What::Unseen, _) => {
                    self.met.add(Mark::UnseenLine, 1);
                    spoke = [None; 2];
                }
            }
        }
    }

    /// What was asked for while others waited, and who had something to come when it was removed.
    fn keep(&mut self, history: &History) {
        for (at, what) in &history.keeping {
            let sample = history.samples.iter().rfind(|sample| sample.at <= *at);
            match what {
                Keeping::Announced { .. } => {
                    self.met.when(sample.is_some_and(|sample| sample.senders_parked > 0), Mark::AnnouncedParked);
                }
                Keeping::Removed { client } => {
                    let pause = self.people[*client].pauses.iter().rfind(|pause| pause.from <= *at);
                    let is_held = pause.is_some_and(|pause| pause.until.is_none_or(|until| until > *at));
                    let said = sample.map_or(0, |sample| sample.said_bytes);
                    self.met.when(is_held && pause.is_some_and(|pause| said > pause.said_bytes), Mark::RemovedBehind);
                }
                Keeping::Banned { .. } | Keeping::Lifted { .. } => {}
            }
        }
    }

    /// At one instant the server's events come first, then samples: an act is sampled before anyone does a thing about it.
    fn walk(&mut self, history: &'a History) {
        if history.server.is_empty() {
            self.on_server(Duration::ZERO, ServerEvent::Started, 0);
        }
        let mut life = 0;
        let (mut server, mut samples) = (history.server.iter().peekable(), history.samples.iter().peekable());
        let records = history.records.iter().map(Some).chain([None]);
        for record in records {
            let until = record.map_or(Duration::MAX, |record| record.at);
            loop {
                let sampled = samples.peek().map_or(Duration::MAX, |sample| sample.at);
                if let Some((at, event)) = server.next_if(|(at, _)| *at <= until && *at <= sampled) {
                    life += usize::from(*event == ServerEvent::Started);
                    self.on_server(*at, *event, life.saturating_sub(1));
                } else if let Some(sample) = samples.next_if(|sample| sample.at <= until) {
                    self.on_sample(sample, life.saturating_sub(1));
                } else {
                    break;
                }
            }
            if let Some(record) = record {
                self.on_record(record, life.saturating_sub(1));
            }
        }
    }

    fn parked(&self) -> usize {
        self.sample.map_or(0, |sample| sample.senders_parked)
    }

    // The server.

    fn on_server(&mut self, at: Duration, event: ServerEvent, life: usize) {
        if self.lives.len() <= life {
            self.lives.resize_with(life + 1, Sums::default);
        }
        let here = || self.people.iter().filter(|person| person.is_here() && person.life == life);
        match event {
            ServerEvent::Started => {
                self.met.when(life == 2, Mark::ThirdLife);
                self.sample = None;
                self.is_deserted = false;
            }
            ServerEvent::Stopping => {
                let paused = here().any(|person| person.pause().is_some());
                let amid_line = here().any(|person| !person.input.is_empty() && person.sent_end.is_none());
                self.met.when(paused, Mark::StopPaused);
                self.met.when(amid_line, Mark::StopMidLine);
                self.met.when(self.parked() > 0, Mark::ParkedStop);
                self.lives[life].stopping = Some(at);
            }
            ServerEvent::Stopped => {
                let took = self.lives[life].stopping.map_or(Duration::ZERO, |stopping| at.saturating_sub(stopping));
                self.met.when(!self.limits.grace.is_zero() && took >= self.limits.grace, Mark::GraceSpent);
            }
            ServerEvent::Crashed => {
                let amid_line = here().any(|person| !person.input.is_empty() && person.sent_end.is_none());
                self.met.when(amid_line, Mark::CrashMidLine);
                self.lives[life].stopping = Some(at);
            }
        }
    }

    fn on_sample(&mut self, sample: &'a Sample, life: usize) {
        let before = self.sample.replace(sample);
        let let_gos = sample.let_gos.saturating_sub(before.map_or(0, |before| before.let_gos));
        let is_held = || self.people.iter().any(|person| person.is_here() && person.pause().is_some());
        let holds = sample.senders_parked > 0 && self.limits.patience == FOREVER && is_held();
        self.met.when(holds, Mark::PatienceForever);
        self.met.when(let_gos > 1, Mark::LetGoTogether);
        self.met.when(let_gos > 0 && self.limits.patience.is_zero(), Mark::PatienceZero);
        self.met.when(sample.senders_parked > 0, Mark::SenderParked);
        self.met.when(sample.senders_parked > 2, Mark::SendersQueued);
        self.met.when(sample.held_bytes >= self.limits.backlog_bytes, Mark::BacklogFull);
        self.met.when(sample.partial_bytes > 0, Mark::PartialHeld);
        self.met.when(sample.members > 20, Mark::Crowd);
        self.met.when(sample.seats > sample.members, Mark::NotEntered);
        self.met.when(self.is_deserted && sample.members > 0, Mark::CameToEmpty);
        self.is_deserted = sample.members == 0 && (self.is_deserted || before.is_some_and(|before| before.members > 0));
        if let Some(sums) = self.lives.get_mut(life) {
            sums.let_gos = sums.let_gos.max(sample.let_gos);
            sums.missed_lines = sums.missed_lines.max(sample.missed_lines);
        }
    }

    // The clients.

    fn on_record(&mut self, record: &'a Record, life: usize) {
        let Record { at, client, ref event } = *record;
        match event {
            Event::Connected { address } => self.on_connected(at, client, address, life),
            Event::Knocked { .. } => self.people[client].knocked = Some(at),
            Event::Refused => {
                let has_knocked = self.people[client].knocked.is_some();
                self.met.add(if has_knocked { Mark::HandshakeGone } else { Mark::RefusedNobody }, 1);
            }
            Event::Sent { bytes } => self.on_sent(at, client, bytes),
            Event::SentEnd => {
                let person = &mut self.people[client];
                person.sent_end = Some(at);
                self.met.when(at < person.slowed_until, Mark::FloodEnded);
                self.met.when(!person.is_welcomed, Mark::EndUnwelcomed);
                let rest = std::mem::take(&mut person.input);
                if !rest.is_empty() && self.on_line(at, client, &rest) {
                    self.met.add(Mark::EndMidLineSaid, 1);
                }
                self.met.when(self.parked() > 0, Mark::ParkedEnded);
            }
            Event::Reset | Event::Dropped => self.on_reset(at, client),
            Event::Received { bytes } => self.on_received(at, client, bytes),
            Event::ReceivedEnd | Event::ReceivedError { .. } => {
                let person = &mut self.people[client];
                let is_clean = *event == Event::ReceivedEnd;
                let is_within = person.knocked.is_some() && person.connected.is_some();
                self.met.when(is_within && !is_clean && person.reset.is_none(), Mark::TlsCut);
                let knocked = person.knocked.filter(|_| person.connected.is_none());
                let is_late = knocked.is_some_and(|knocked| at.saturating_sub(knocked) >= Duration::from_secs(9));
                self.met.when(is_late, Mark::HandshakeLate);
                let leaves = is_clean && (person.quit.is_some() || person.sent_end.is_some());
                self.met.when(is_clean && person.quit.is_some() && person.sent_end.is_none(), Mark::Quit);
                self.met.when(leaves && person.missed_behind == Some(person.lines), Mark::LetGoAtEnd);
                self.met.when(is_clean && !person.output.is_empty(), Mark::StreamCut);
                person.over = person.over.or(Some(at));
            }
            Event::Pause => self.on_pause(at, client),
            Event::Resume => self.on_resume(at, client),
        }
    }

    fn on_connected(&mut self, at: Duration, client: Client, address: &'a str, life: usize) {
        self.whose.insert(address.as_bytes().to_vec(), client);
        let ip = address.rsplit_once(':').map_or(address, |(ip, _port)| ip);
        let person = &mut self.people[client];
        (person.connected, person.ip, person.life) = (Some(at), ip, life);
        let (since, count) = self.of_second.entry(ip).or_default();
        if at.saturating_sub(*since) >= Duration::from_secs(1) {
            (*since, *count) = (at, 0);
        }
        *count += 1;
        person.of_second = *count;
        let trusts = |ip: IpAddr| self.limits.trusted.iter().any(|prefix| prefix.contains(&ip));
        person.is_trusted = ip.parse().is_ok_and(trusts);
        self.flood = if self.flood.0 == at { (at, self.flood.1 + 1) } else { (at, 1) };
        self.met.when(self.flood.1 == 5, Mark::Flood);
        self.met.when(self.parked() > 0, Mark::ParkedCame);
        self.met.when(self.lives.get(life).is_some_and(|sums| sums.stopping.is_some()), Mark::StopConnected);
    }

    fn on_reset(&mut self, at: Duration, client: Client) {
        let is_parked = self.has_order && self.parked() > 0;
        let person = &mut self.people[client];
        if person.over.is_some() {
            return;
        }
        person.reset = Some(at);
        self.met.when(!person.input.is_empty(), Mark::ResetMidLine);
        self.met.when(!person.is_welcomed, Mark::ResetUnwelcomed);
        self.met.when(is_parked && person.lines_to_say > person.found, Mark::ParkedBroke);
        self.broke.insert(person.ip, client);
    }

    fn on_pause(&mut self, at: Duration, client: Client) {
        let (let_gos, said_bytes) = self.sample.map_or((0, 0), |sample| (sample.let_gos, sample.said_bytes));
        let shared = last(&self.shared, at, &PAUSING);
        let person = &mut self.people[client];
        // Nothing sorts before something: whichever came last counts.
        let cue = last(&person.cues, at, &PAUSING).max(shared);
        let is_frozen = cue.is_some_and(|(_, kind)| PAUSING[..FREEZING].contains(&kind));
        if person.pause().is_none() {
            person.pauses.push(Pause { from: at, until: None, is_frozen, let_gos, said_bytes });
        }
    }

    fn on_resume(&mut self, at: Duration, client: Client) {
        let (let_gos, said_bytes) = self.sample.map_or((0, 0), |sample| (sample.let_gos, sample.said_bytes));
        let person = &mut self.people[client];
        if let Some(pause) = person.pauses.last_mut().filter(|pause| pause.until.is_none()) {
            pause.until = Some(at);
            person.thawed = pause.is_frozen.then_some(said_bytes > pause.said_bytes);
            person.was_let_go_paused |= let_gos > pause.let_gos;
        }
    }

    // Input.

    fn on_sent(&mut self, at: Duration, client: Client, bytes: &[u8]) {
        if let Some(flood) = self.limits.flood {
            let person = &mut self.people[client];
            let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
            let is_slowed = lines > flood.lines.burst as usize && person.said.len() > flood.lines.burst as usize;
            if is_slowed {
                let excess = lines as u64 - u64::from(flood.lines.burst);
                person.slowed_until = at + Duration::from_millis(excess * 1000 / u64::from(flood.lines.per_second));
            }
            self.met.when(is_slowed, Mark::FloodSlowed);
        }
        self.people[client].sent_pieces += 1;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = part.strip_suffix(b"\n") else {
                self.people[client].input.extend_from_slice(part);
                break;
            };
            let mut held = std::mem::take(&mut self.people[client].input);
            if held.is_empty() {
                self.on_line(at, client, line);
            } else {
                held.extend_from_slice(line);
                self.on_line(at, client, &held);
            }
        }
    }

    /// A whole line of input, and whether the order has it.
    fn on_line(&mut self, at: Duration, client: Client, line: &[u8]) -> bool {
        let (wire, limits) = (self.wire, self.limits);
        let person = &mut self.people[client];
        let is_first = person.lines_sent == 0;
        person.lines_sent += 1;
        let unmarked = line.strip_prefix(b"\xEF\xBB\xBF").filter(|_| is_first && !wire.raw);
        if person.quit.is_some() {
            self.met.add(Mark::BehindQuit, 1);
            return false;
        }
        let line = unmarked.unwrap_or(line);
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.len() > limits.line_bytes_max {
            return false;
        }
        let is_slashed = !wire.plain && text.starts_with(b"//");
        if !wire.plain && text.starts_with(b"/") && !is_slashed {
            if text.trim_ascii_end().eq_ignore_ascii_case(b"/quit") {
                person.quit = Some(at);
            }
            return false;
        }
        if self.is_door && !person.is_proved {
            person.is_proved = PASSWORDS[0].as_bytes() == text;
            return false;
        }
        person.lines_to_say += 1;
        let text = &text[usize::from(is_slashed)..];
        let Some(said) = person.said.get(person.found) else { return false };
        let plain_bytes = text.iter().position(|byte| !is_plain(*byte)).unwrap_or(text.len());
        let is_odd = plain_bytes < text.len();
        let is_it = if is_odd && !wire.raw {
            said.starts_with(&text[..plain_bytes]) && said[plain_bytes..].first().is_some_and(|byte| !is_plain(*byte))
        } else {
            *said == text
        };
        if is_it {
            person.found += 1;
            self.met.when(unmarked.is_some(), Mark::Bom);
            self.met.when(text.len() + usize::from(is_slashed) == limits.line_bytes_max, Mark::LongestSaid);
            self.met.when(line.ends_with(b"\r"), Mark::CrlfSaid);
            self.met.when(is_slashed, Mark::SlashSaid);
            self.met.when(*said != text, Mark::Cleaned);
            self.met.when(is_odd && str::from_utf8(text).is_err(), Mark::BrokenUtf8);
            self.met.when(is_odd && wire.raw, Mark::OddPassed);
        }
        is_it
    }

    // Output.

    fn on_received(&mut self, at: Duration, client: Client, bytes: &[u8]) {
        let person = &mut self.people[client];
        if person.connected.is_none() && person.knocked.is_some() {
            return self.met.add(Mark::Alerted, 1);
        }
        self.met.when(bytes.len() == 1, Mark::OneByteRead);
        person.sips += u64::from(person.pause().is_some_and(|pause| !pause.is_frozen));
        let mut read = Read::default();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let person = &mut self.people[client];
            if person.pieces == 0 {
                person.began = at;
            }
            person.pieces += 1;
            let Some(line) = part.strip_suffix(b"\n") else {
                person.output.extend_from_slice(part);
                break;
            };
            read.whole_lines += 1;
            self.met.when(person.pieces > 3, Mark::ManyPieces);
            person.pieces = 0;
            let mut held = std::mem::take(&mut person.output);
            if held.is_empty() {
                self.on_heard(at, client, line, &mut read);
            } else {
                held.extend_from_slice(line);
                self.on_heard(at, client, &held, &mut read);
                held.clear();
                self.people[client].output = held;
            }
        }
        self.met.when(read.arrivals > 1, Mark::ArrivalsInOneRead);
        self.met.when(read.departures > 1, Mark::DeparturesInOneRead);
        self.met.when(read.speakers.len() > 1, Mark::SendersInOneRead);
        let person = &mut self.people[client];
        if let Some(was_written_to) = person.thawed.take() {
            self.met.when(was_written_to, Mark::FrozenWrittenTo);
            self.met.when(read.whole_lines > 1, Mark::ThawedMany);
        }
        let is_of_others = read.speakers.iter().any(|speaker| *speaker != client);
        if is_of_others && person.sent_end.is_some_and(|ended| ended < at) {
            person.reads_after_end += 1;
            self.met.when(person.reads_after_end == 3, Mark::HalfClosedRead);
        }
    }

    fn on_heard(&mut self, at: Duration, client: Client, line: &[u8], read: &mut Read) {
        let what = heard(line, self.wire.lang);
        let is_first = !self.people[client].is_welcomed && !self.people[client].is_refused;
        match what {
            Heard::Notice(notice) => {
                let person = &mut self.people[client];
                let is_wanted = notice == "password, please" || notice == "请先输入密码";
                person.is_asked |= is_wanted;
                person.wrong += usize::from(notice.starts_with("wrong password, ") || notice.starts_with("密码不对，"));
                person.is_refused |= is_first && !is_wanted && !person.is_asked;
                self.on_notice(at, client, notice);
                return;
            }
            _ if is_first => return self.on_welcome(at, client, line),
            Heard::Said(who) => {
                if let Some(&speaker) = self.whose.get(who) {
                    self.met.when(self.people[speaker].gone().is_some(), Mark::LineOfTheGone);
                    if read.speakers.last() != Some(&speaker) {
                        read.speakers.push(speaker);
                    }
                }
            }
            Heard::Arrival => read.arrivals += 1,
            Heard::Departure(who) => {
                read.departures += 1;
                let whose = self.whose.get(who);
                self.met.when(whose.is_some_and(|whose| read.speakers.contains(whose)), Mark::LineAndDeparture);
            }
            Heard::Renamed(who, new) => {
                if let Some(&whose) = self.whose.get(who) {
                    self.whose.insert(new.to_vec(), whose);
                }
            }
            Heard::Other => {}
        }
        let person = &mut self.people[client];
        person.lines += 1;
        person.torn = (person.began < at).then_some(at);
    }

    fn on_welcome(&mut self, at: Duration, client: Client, line: &[u8]) {
        let is_guest = self.wire.who == Who::Guest;
        if let Some(who) = line.rsplit(|byte| *byte == b' ').next().filter(|_| is_guest) {
            self.whose.insert(who.to_vec(), client);
        }
        let person = &mut self.people[client];
        person.is_welcomed = true;
        self.met.when(person.knocked.is_some(), Mark::HandsShaken);
        self.met.when(person.wrong == 2, Mark::PasswordThird);
        self.met.when(person.is_asked && person.sent_pieces > 3, Mark::PasswordPieces);
        let old = self.broke.get(person.ip).copied();
        self.met.when(person.life > 0, Mark::SecondLife);
        let had_error = self.shared.iter().any(|(when, kind)| *kind == "AcceptError" && Some(*when) < person.connected);
        let has_failed = self.met.0[Mark::AcceptFault as usize] > 0;
        self.met.when(had_error && has_failed, Mark::AcceptedAfterError);
        self.met.when(old.is_some(), Mark::CameBack);
        let is_fast = self.limits.connect_rate.is_some_and(|rate| person.of_second > rate.burst + rate.per_second);
        self.met.when(is_fast && person.is_trusted, Mark::TrustedHasty);
        self.met.when(self.hasty.contains(&(person.life, person.ip)), Mark::CameAfterHaste);
        self.met.when(is_guest, Mark::GuestWelcomed);
        self.met.when(is_guest && old.is_some(), Mark::GuestAgain);
        let is_early = old.is_some_and(|old| self.people[old].departed.is_some_and(|departed| departed > at));
        self.met.when(is_early, Mark::CameBackEarly);
    }

    fn on_notice(&mut self, at: Duration, client: Client, notice: &str) {
        let lang = self.wire.lang;
        if let Some(lines) = missed(notice, lang) {
            return self.on_missed(at, client, lines);
        }
        if let Some(members) = present(notice, lang) {
            self.met.add(Mark::WhoAnswered, 1);
            self.met.when(members > WHO_SLICE, Mark::WhoSliced);
            return;
        }
        let is_late =
            notice.starts_with("no right password within") || notice.ends_with("内没有收到正确的密码：连接关闭");
        self.met.when(is_late, Mark::PasswordLate);
        let begins = |(_, zh, en): &&(_, &str, &str)| notice.starts_with(if lang == Lang::Zh { zh } else { en });
        if let Some((mark, ..)) = OF_NOTICES.iter().find(begins) {
            self.met.add(*mark, 1);
            if matches!(mark, Mark::RefusedHasty) {
                self.hasty.insert((self.people[client].life, self.people[client].ip));
            }
        }
    }

    fn on_missed(&mut self, at: Duration, client: Client, lines: u64) {
        let person = &mut self.people[client];
        let leaves = person.sent_end.is_some_and(|ended| ended < at) || person.quit.is_some_and(|quit| quit < at);
        person.let_gos += 1;
        person.missed_behind = Some(person.lines);
        self.met.add(Mark::LetGo, 1);
        self.met.when(lines == 1, Mark::MissedOne);
        self.met.when(person.let_gos == 2, Mark::LetGoAgain);
        self.met.when(person.lines == 0 && person.let_gos == 1, Mark::LetGoAtFirst);
        self.met.when(leaves, Mark::LetGoLeaving);
        self.met.when(person.torn.take() == Some(at), Mark::LetGoTorn);
        self.met.when(std::mem::take(&mut person.was_let_go_paused), Mark::LetGoPaused);
        if let Some(sums) = self.lives.get_mut(person.life) {
            sums.notices += 1;
            sums.told_lines = sums.told_lines.saturating_add(lines);
        }
    }

    // The end.

    /// What shows only when all is told.
    fn finish(&mut self) {
        for person in &self.people {
            let Some(connected) = person.connected else { continue };
            let went_asked = person.is_asked && !person.is_welcomed && person.over.is_none();
            self.met.when(went_asked && person.sent_end.or(person.reset).is_some(), Mark::AskedGone);
            let sums = self.lives.get(person.life).copied().unwrap_or_default();
            self.met.when(slow_missed_nothing(person), Mark::SlowMissedNothing);
            let is_guest = self.wire.who == Who::Guest;
            self.met.when(is_guest && !person.is_welcomed && person.places > 0, Mark::GuestUnread);
            let is_promised = |at: Duration| sums.stopping.is_none_or(|stopping| at < stopping);
            // Somebody heard something later, and it was not that.
            let is_unknown = self.has_order && person.places == 0 && sums.last > connected;
            let is_out = !person.is_welcomed && !person.is_refused && person.over.is_none();
            let went = [person.sent_end, person.reset].into_iter().flatten().min();
            self.met.when(is_unknown && is_out && went.is_some_and(is_promised), Mark::NeverEntered);
            let has_left = person.quit.is_some() || person.sent_end.is_some();
            let Some(departed) = person.departed.filter(|at| is_promised(*at) && !has_left) else { continue };
            let is_late = |from: Duration| departed.saturating_sub(from) >= Duration::from_secs(60);
            if let Some(reset) = person.reset.filter(|reset| *reset <= departed) {
                let cue = last(&person.cues, reset, &BREAKING).or_else(|| last(&self.shared, reset, &BREAKING));
                match cue.map(|(_, kind)| kind) {
                    Some("Reset" | "ReadError" | "CrashHost") => self.met.add(Mark::ResetTold, 1),
                    Some("WriteError") => self.met.add(Mark::WriteErrorTold, 1),
                    Some("Panic") => self.met.add(Mark::PanicTold, 1),
                    Some(_) if is_late(reset) => self.met.add(Mark::VanishedLate, 1),
                    Some(_) => self.met.add(Mark::VanishedSoon, 1),
                    None => {}
                }
            } else if person.gone().is_none_or(|gone| gone >= departed) && person.input.is_empty() {
                // Neither the line deadline nor keepalive.
                let limit = self.limits.stall;
                let outlasts = |pause: &Pause| {
                    let is_over = pause.from.saturating_add(limit) <= departed;
                    let is_stall = !pause.is_frozen || !is_late(pause.from);
                    is_over && is_stall && pause.until.is_none_or(|until| until >= departed)
                };
                self.met.when(person.pauses.iter().any(outlasts), Mark::StallClosed);
            }
        }
        let here: Vec<usize> =
            self.people.iter().filter(|person| person.connected.is_some()).map(|person| person.life).collect();
        for (life, sums) in self.lives.iter().enumerate() {
            // At its end each may have gone untold once. What is more was told together with something else.
            let untold = here.iter().filter(|there| **there == life).count() as u64;
            let is_all_told = sums.told_lines == sums.missed_lines;
            let is_sure = sums.let_gos > sums.notices + if is_all_told { 0 } else { untold };
            self.met.when(is_sure, Mark::LetGosAddedUp);
            self.met.when(sums.missed_lines > sums.told_lines, Mark::LetGoUntold);
        }
    }
}

fn slow_missed_nothing(person: &Person<'_>) -> bool {
    let has_resumed = person.pause().is_none() && person.reset.is_none();
    has_resumed && person.sips >= 2 && person.lines >= 10 && person.let_gos == 0
}

/// What the runs of a search met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    seeds: u64,
    rows: BTreeMap<&'static str, Row>,
}

/// How often one mark was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    seeds: u64,
    times: u64,
    /// The smallest seed.
    first: u64,
}

impl Table {
    /// Adds what the run of `seed` met.
    pub fn add(&mut self, seed: u64, met: &BTreeMap<&'static str, u64>) {
        self.seeds += 1;
        for (mark, times) in met {
            self.add_row(mark, Row { seeds: 1, times: *times, first: seed });
        }
    }

    /// Adds what other runs met.
    pub fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        for (mark, row) in &other.rows {
            self.add_row(mark, *row);
        }
    }

    fn add_row(&mut self, mark: &'static str, more: Row) {
        let row = self.rows.entry(mark).or_insert(Row { seeds: 0, times: 0, first: more.first });
        row.seeds += more.seeds;
        row.times += more.times;
        row.first = row.first.min(more.first);
    }

    /// Every mark there is, in the order of [`MARKS`], and then those of acts.
    fn marks() -> impl Iterator<Item = &'static str> {
        let acts = Kinds::of_acts().iter().filter_map(|kind| OF_ACTS.get(kind).copied());
        MARKS.iter().map(|(name, _)| *name).chain(acts)
    }

    /// The marks that no run met.
    pub fn missing(&self) -> Vec<&'static str> {
        Self::marks().filter(|mark| !self.rows.contains_key(mark)).collect()
    }
}

impl fmt::Display for Table {
    /// A line for each mark: in how many seeds it was met, how often, and in which first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = Self::marks().map(str::len).max().unwrap_or_default();
        writeln!(f, "{:width$}  {:>8}  {:>10}  {:>10}", "mark", "seeds", "times", "first seed")?;
        for mark in Self::marks() {
            match self.rows.get(mark) {
                Some(Row { seeds, times, first }) => {
                    writeln!(f, "{mark:width$}  {seeds:>8}  {times:>10}  {first:>10}")?;
                }
                None => writeln!(f, "{mark:width$}  {:>8}  {:>10}  {:>10}", 0, 0, "-")?,
            }
        }
        write!(f, "{} seeds, {} marks never met", self.seeds, self.missing().len())
    }
}
