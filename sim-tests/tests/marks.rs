//! Marks are tested like the judge: small histories by hand that meet a hard case, and others that just miss it. And over the
//! first seeds the swarm meets every mark that its plans can meet.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sim_tests::history::{Client, Event, History, Record, Rules, Sample, ServerEvent};
use sim_tests::judge;
use sim_tests::marks::{MARKS, Table, marks};
use sim_tests::network::Kind;
use sim_tests::plan::{Act, Plan, What};
use sim_tests::run;
use unisono::limits::Rate;
use unisono::{Lang, Limits, Who, Wire};

const SEEDS: u64 = 400;

/// What no plan does yet, each with what it would take. A mark that is met goes from here.
const NOT_YET: &[(&str, &str)] = &[("act: LoseLine", "nothing: it is never drawn")];

/// What only few seeds of a thousand meet.
const RARE: &[&str] = &[
    "announced-parked",
    "demand-of-three-patiences",
    "guest-unread",
    "let-go-at-end",
    "let-go-at-first",
    "let-go-leaving",
    "let-go-torn",
    "missed-one",
    "name-taken",
    "parked-broke",
    "parked-stop",
    "patience-forever",
    "queue-full",
    "stop-connected",
    "third-life",
    "trusted-hasty",
    "vanished-late",
    "who-sliced",
];

fn look(seed: u64) -> BTreeMap<&'static str, u64> {
    let plan = Plan::draw(seed);
    let outcome = run::run(Kind::Simnet, &plan);
    marks(&plan, &outcome.history, run::judge(&outcome).ok().as_ref(), &outcome.counts)
}

#[test]
fn swarm_meets_its_marks() {
    let next = AtomicU64::new(0);
    let look_on = || {
        let mut table = Table::default();
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        seeds.take_while(|seed| *seed < SEEDS).for_each(|seed| table.add(seed, &look(seed)));
        table
    };
    let mut table = Table::default();
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let looking: Vec<_> = (0..threads).map(|_| scope.spawn(look_on)).collect();
        for thread in looking {
            table.merge(&thread.join().expect("runs do not panic"));
        }
    });
    let missing: BTreeSet<&str> = table.missing().into_iter().collect();
    let not_yet: BTreeSet<&str> = NOT_YET.iter().map(|(mark, _)| *mark).collect();
    let unmet: Vec<_> = missing.iter().filter(|mark| !not_yet.contains(*mark) && !RARE.contains(mark)).collect();
    let new: Vec<_> = not_yet.difference(&missing).collect();
    assert!(unmet.is_empty(), "never met: {unmet:?}\n{table}");
    assert!(new.is_empty(), "met by now: {new:?}\n{table}");
}

#[test]
fn marks_have_one_name_each() {
    let names: BTreeSet<&str> = MARKS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), MARKS.len());
    for name in &names {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{name}");
    }
    let all = Table::default().missing();
    for name in NOT_YET.iter().map(|(name, _)| name).chain(RARE) {
        assert!(all.contains(name), "{name}");
    }
}

#[test]
fn same_run_has_the_same_marks() {
    for seed in 0..20 {
        assert_eq!(look(seed), look(seed), "seed {seed}");
    }
}

#[test]
fn table_sums_up() {
    let met = [
        BTreeMap::from([("crowd", 2), ("let-go", 1)]),
        BTreeMap::from([("let-go", 4)]),
        BTreeMap::from([("act: Stop", 1), ("let-go", 2)]),
    ];
    let mut all = Table::default();
    let mut halves = [Table::default(), Table::default()];
    for (seed, met) in (5..).zip(&met) {
        all.add(seed, met);
        halves[usize::from(seed == 5)].add(seed, met);
    }
    let [mut merged, other] = halves;
    merged.merge(&other);
    assert_eq!(merged, all);

    let text = all.to_string();
    let row =
        |mark: &str| text.lines().find(|line| line.starts_with(&format!("{mark} "))).expect("a row for each mark");
    let cells = |mark: &str| row(mark).rsplit(' ').filter(|cell| !cell.is_empty()).take(3).collect::<Vec<_>>();
    assert_eq!(cells("let-go"), ["5", "7", "3"]);
    assert_eq!(cells("crowd"), ["5", "2", "1"]);
    assert_eq!(cells("act: Stop"), ["7", "1", "1"]);
    assert_eq!(cells("act: Crash"), ["-", "0", "0"]);
    let widths: BTreeSet<usize> = text.lines().take(MARKS.len()).map(str::len).collect();
    assert_eq!(widths.len(), 1, "{text}");

    let missing = all.missing();
    assert!(!missing.contains(&"let-go") && !missing.contains(&"act: Stop"));
    assert!(missing.contains(&"let-go-torn") && missing.contains(&"act: Crash"));
    assert_eq!(Table::default().missing().first(), MARKS.first().map(|(name, _)| name));
}

/// A history by hand, in English, of a few people in one room.
struct Tape {
    plan: Plan,
    history: History,
    now: Duration,
}

const A: Client = 1;
const B: Client = 2;
const C: Client = 3;

fn who(client: Client) -> String {
    format!("10.0.0.{client}:5000")
}

impl Tape {
    /// `A` comes first and then `B`.
    fn new() -> Self {
        let plan = Plan { acts: Vec::new(), ..Plan::draw(0) };
        let limits =
            Limits { line_bytes_max: 12, backlog_bytes: 1200, stall: Duration::from_secs(2), ..Limits::default() };
        let rules = Rules { limits, wire: Wire { lang: Lang::En, ..Wire::default() }, password: None };
        let server = vec![(Duration::ZERO, ServerEvent::Started)];
        let history =
            History { rules, records: Vec::new(), server, keeping: Vec::new(), samples: Vec::new(), healed: None };
        let tape = Self { plan, history, now: Duration::ZERO };
        tape.connects(A, &who(A)).hears(A, &format!("Welcome {}\n", who(A))).enters(B, &[A])
    }

    fn wait(mut self, ms: u64) -> Self {
        self.now += Duration::from_millis(ms);
        self
    }

    fn event(mut self, client: Client, event: Event) -> Self {
        self.history.records.push(Record { at: self.now, client, event });
        self.wait(1)
    }

    fn connects(self, client: Client, address: &str) -> Self {
        self.event(client, Event::Connected { address: address.to_owned() })
    }

    /// Comes in, as all of these see.
    fn enters(self, client: Client, others: &[Client]) -> Self {
        let tape = self.connects(client, &who(client)).hears(client, &format!("Welcome {}\n", who(client)));
        others.iter().fold(tape, |tape, other| tape.hears(*other, &format!("{} joined\n", who(client))))
    }

    fn sends(self, client: Client, bytes: &[u8]) -> Self {
        self.event(client, Event::Sent { bytes: bytes.to_vec() })
    }

    fn hears(self, client: Client, text: &str) -> Self {
        self.event(client, Event::Received { bytes: text.as_bytes().to_vec() })
    }

    fn hear(self, clients: &[Client], text: &str) -> Self {
        clients.iter().fold(self, |tape, client| tape.hears(*client, text))
    }

    /// `A` sends this, and both hear this of it.
    fn says(self, bytes: &[u8], text: &str) -> Self {
        self.sends(A, bytes).hear(&[A, B], &format!("{}: {text}\n", who(A)))
    }

    fn acts(mut self, what: What) -> Self {
        let at_ms = u64::try_from(self.now.as_millis()).expect("small");
        self.plan.acts.push(Act { at_ms, what });
        self
    }

    fn server(mut self, event: ServerEvent) -> Self {
        self.history.server.push((self.now, event));
        self.wait(1)
    }

    fn sample(mut self, change: impl FnOnce(&mut Sample)) -> Self {
        let mut sample = Sample {
            at: self.now,
            held_bytes: 0,
            partial_bytes: 0,
            members: 2,
            seats: 2,
            senders_parked: 0,
            said_bytes: 0,
            let_gos: 0,
            missed_lines: 0,
        };
        change(&mut sample);
        self.history.samples.push(sample);
        self.wait(1)
    }

    /// Whether it meets the mark, though it breaks no law.
    fn meets(&self, mark: &str) -> bool {
        assert!(MARKS.iter().any(|(name, _)| *name == mark), "{mark} is no mark");
        let order =
            judge::judge(&self.history).unwrap_or_else(|wrong| panic!("{mark}: {}\n{}", wrong[0], self.history));
        marks(&self.plan, &self.history, Some(&order), &BTreeMap::new()).contains_key(mark)
    }
}

/// The first of each pair meets the mark, the second just misses it.
fn check(mark: &str, meets: &Tape, misses: &Tape) {
    assert!(meets.meets(mark), "{mark} is not met:\n{}", meets.history);
    assert!(!misses.meets(mark), "{mark} is met:\n{}", misses.history);
}

#[test]
fn marks_of_what_is_said_are_met_when_it_is() {
    let line = |bytes: &[u8], text: &str| Tape::new().says(bytes, text);
    check("empty-said", &line(b"\n", ""), &line(b" \n", " "));
    check("crlf-said", &line(b"x\r\n", "x"), &line(b"x\n", "x"));
    check("longest-said", &line(b"123456789012\n", "123456789012"), &line(b"12345678901\n", "12345678901"));
    check("byte-order-mark", &line(b"\xEF\xBB\xBFx\n", "x"), &line(b"x\n", "x"));
    check("cleaned", &line(b"a\x1bb\n", "a\u{241b}b"), &line("aéb\n".as_bytes(), "aéb"));
    check("broken-utf8", &line(b"a\xffb\n", "a\u{fffd}b"), &line(b"a\x1bb\n", "a\u{241b}b"));
    check("slash-said", &line(b"//x\n", "/x"), &line(b"x//\n", "x//"));
    // What is sent and never said has done nothing.
    check("crlf-said", &line(b"a\nx\r\n", "a").hear(&[A, B], "10.0.0.1:5000: x\n"), &line(b"a\nx\r\n", "a"));
}

#[test]
fn marks_of_ends_are_met_amid_lines_only() {
    let left = |tape: Tape| tape.hears(B, &format!("{} left\n", who(A)));
    let broke = |bytes: &[u8]| left(Tape::new().sends(A, bytes).event(A, Event::Reset));
    check("reset-mid-line", &broke(b"/who\nhal"), &broke(b"/who\n"));
    let ended = |bytes: &[u8]| {
        let tape = Tape::new().sends(A, bytes).event(A, Event::SentEnd).hear(&[A, B], "10.0.0.1:5000: x\n");
        left(tape).event(A, Event::ReceivedEnd)
    };
    check("end-mid-line-said", &ended(b"x"), &ended(b"x\n"));

    let stopped = |bytes: &[u8]| Tape::new().sends(A, bytes).server(ServerEvent::Stopping);
    check("stop-mid-line", &stopped(b"hal"), &stopped(b""));
    let crashed = |bytes: &[u8]| Tape::new().sends(A, bytes).server(ServerEvent::Crashed);
    check("crash-mid-line", &crashed(b"hal"), &crashed(b""));
}

#[test]
fn marks_of_faults_know_them_by_the_plan() {
    let gone = |what: What, later_ms: u64| {
        let tape = Tape::new().acts(what).event(A, Event::Reset).wait(later_ms);
        tape.hears(B, &format!("{} left\n", who(A)))
    };
    let reset = gone(What::Reset { client: A }, 0);
    check("reset-told", &reset, &gone(What::Panic { client: A }, 0));
    check("panic-told", &gone(What::Panic { client: A }, 0), &reset);
    check("write-error-told", &gone(What::WriteError { client: A }, 0), &reset);
    check("vanished-late", &gone(What::Vanish { client: A }, 80_000), &gone(What::Vanish { client: A }, 8_000));
    check("vanished-soon", &gone(What::Vanish { client: A }, 8_000), &gone(What::Reset { client: A }, 8_000));

    let back = |address: &str| {
        let tape = gone(What::Reset { client: A }, 0).connects(C, address).hears(C, &format!("Welcome {address}\n"));
        tape.hears(B, &format!("{address} joined\n"))
    };
    check("came-back", &back("10.0.0.1:5001"), &back("10.0.0.3:5001"));
}

#[test]
fn marks_of_let_gos_follow_the_notices() {
    // So much is said that who misses it has been let go with reason. Only B hears it.
    let missed = |first: &str, rest: &str| {
        let crowd = Tape::new().hears(A, first);
        let lines =
            (0..80).fold(crowd, |tape, _| tape.sends(B, b"123456789012\n").hears(B, "10.0.0.2:5000: 123456789012\n"));
        lines.hears(A, rest)
    };
    let plain = missed("", "-- missed 80 lines\n");
    check("let-go", &plain, &missed("", &"10.0.0.2:5000: 123456789012\n".repeat(80)));
    let to_newcomer =
        (0..80).fold(Tape::new(), |tape, _| tape.sends(A, b"123456789012\n").hears(A, "10.0.0.1:5000: 123456789012\n"));
    check("let-go-at-first", &to_newcomer.hears(B, "-- missed 80 lines\n"), &plain);
    let torn = missed("10.0.0.2:5000: 1234", "56789012\n-- missed 79 lines\n");
    check("let-go-torn", &torn, &missed("", "10.0.0.2:5000: 123456789012\n-- missed 79 lines\n"));
    let ended = |notice: &str| {
        let tape = missed("", notice).event(A, Event::SentEnd).hears(B, "10.0.0.1:5000 left\n");
        tape.event(A, Event::ReceivedEnd)
    };
    check("let-go-leaving", &{ missed("", "").event(A, Event::SentEnd).hears(A, "-- missed 80 lines\n") }, &plain);
    check("let-go-at-end", &ended("-- missed 80 lines\n"), &ended(&"10.0.0.2:5000: 123456789012\n".repeat(80)));

    let counted = |let_gos: u64| {
        missed("", "-- missed 80 lines\n").sample(|sample| (sample.let_gos, sample.missed_lines) = (let_gos, 80))
    };
    check("let-gos-added-up", &counted(2), &counted(1));
}

#[test]
fn marks_of_reads_look_into_each() {
    let joined = |reads: [&str; 2]| {
        let tape = Tape::new().enters(C, &[]).connects(4, &who(4)).hears(4, "Welcome 10.0.0.4:5000\n");
        let tape = tape.hears(C, "10.0.0.4:5000 joined\n");
        reads.iter().fold(tape, |tape, read| tape.hears(A, read)).hears(B, &reads.concat())
    };
    let both = joined(["10.0.0.3:5000 joined\n10.0.0.4:5000 joined\n", ""]);
    assert!(both.meets("arrivals-in-one-read"));
    let said = |reads: &[&str]| {
        let tape = Tape::new().sends(A, b"a\n").sends(B, b"b\n");
        reads.iter().fold(tape, |tape, read| tape.hear(&[A, B], read))
    };
    let (a, b) = ("10.0.0.1:5000: a\n", "10.0.0.2:5000: b\n");
    check("senders-in-one-read", &said(&[&[a, b].concat()]), &said(&[a, b]));
    check("many-pieces", &said(&["10", ".0", ".0.1:5000: a", "\n"]), &said(&["10", ".0", ".0.1:5000: a\n"]));
    check("one-byte-read", &said(&["1", "0.0.0.1:5000: a\n"]), &said(&["10", ".0.0.1:5000: a\n"]));
    let left = |reads: &[&str]| {
        let tape = Tape::new().sends(A, b"a\n").event(A, Event::SentEnd).hears(A, a).event(A, Event::ReceivedEnd);
        reads.iter().fold(tape, |tape, read| tape.hears(B, read))
    };
    check(
        "line-and-departure",
        &left(&["10.0.0.1:5000: a\n10.0.0.1:5000 left\n"]),
        &left(&[a, "10.0.0.1:5000 left\n"]),
    );
    check("line-of-the-gone", &left(&[a, "10.0.0.1:5000 left\n"]), &said(&[a]));

    let order = |lines: &[&str]| {
        let tape = Tape::new().sends(A, b"a\na\n").sends(B, b"b\n");
        lines.iter().fold(tape, |tape, line| tape.hear(&[A, B], line))
    };
    check("interleaved", &order(&[a, b, a]), &order(&[a, a, b]));
    let came = |before: bool| {
        let tape = Tape::new().sends(A, b"a\na\n").hear(&[A, B], if before { "" } else { a });
        let tape = tape.enters(C, &[A, B]).hear(&[A, B, C], a);
        if before { tape.hear(&[A, B, C], a) } else { tape }
    };
    check("arrival-amid-lines", &came(false), &came(true));
}

#[test]
fn marks_of_crowds_need_numbers() {
    let crowd = |lines: &[&str]| {
        let mut tape = Tape::new().enters(C, &[]);
        tape.history.rules.limits.announcements = Some(1);
        let tape = tape.sends(A, b"a\n").hear(&[A, B, C], "10.0.0.1:5000: a\n").sends(C, b"c\n");
        lines.iter().fold(tape, |tape, line| tape.hear(&[A, B, C], line))
    };
    let said = "10.0.0.3:5000: c\n";
    let counted = crowd(&["1 joined, 0 left\n", "10.0.0.3:5000 is here\n", said]);
    let uncounted = crowd(&["10.0.0.3:5000 joined\n", said]);
    check("counted-in", &counted, &uncounted);
    check("counted-then-heard", &counted, &uncounted);
    check("heard-uncounted", &uncounted, &counted);
    let gone = crowd(&["1 joined, 0 left\n"]).event(B, Event::SentEnd).event(B, Event::ReceivedEnd);
    check("counted-out", &gone.hear(&[A, C], "0 joined, 1 left\n"), &counted);
}

#[test]
fn marks_of_waiting_need_who_waits() {
    let parked = |count: usize| Tape::new().sample(|sample| sample.senders_parked = count);
    check("sender-parked", &parked(1), &parked(0));
    check("senders-queued", &parked(3), &parked(2));
    check("parked-stop", &parked(1).server(ServerEvent::Stopping), &parked(0).server(ServerEvent::Stopping));
    let paused = Tape::new().event(A, Event::Pause);
    let resumed = Tape::new().event(A, Event::Pause).event(A, Event::Resume);
    check("stop-paused", &paused.server(ServerEvent::Stopping), &resumed.server(ServerEvent::Stopping));

    let held = |what: What, first: &str, rest: &str| {
        let tape = Tape::new().sample(|_| {}).acts(what).event(B, Event::Pause).sends(A, b"a\na\n");
        let tape = tape.hears(A, &"10.0.0.1:5000: a\n".repeat(2)).sample(|sample| sample.said_bytes = 34);
        tape.event(B, Event::Resume).hears(B, first).hears(B, rest)
    };
    let (one, two) = ("10.0.0.1:5000: a\n", "10.0.0.1:5000: a\n".repeat(2));
    let frozen = held(What::Freeze { client: B }, &two, "");
    check("thawed-many", &frozen, &held(What::Freeze { client: B }, one, one));
    check("frozen-written-to", &frozen, &held(What::Pause { client: B }, &two, ""));

    let stalled = |later_ms: u64| {
        let tape = Tape::new().acts(What::Pause { client: B }).event(B, Event::Pause).wait(later_ms);
        tape.hears(A, "10.0.0.2:5000 left\n").event(B, Event::ReceivedEnd)
    };
    assert!(stalled(2500).meets("stall-closed"));

    let members = |counts: [usize; 3]| {
        counts.into_iter().fold(Tape::new(), |tape, count| tape.sample(|sample| sample.members = count))
    };
    check("came-to-empty", &members([2, 0, 1]), &members([2, 1, 2]));
}

#[test]
fn marks_of_guests_are_for_those_who_are_called_so() {
    let guest = |tape: Tape| {
        let mut tape = tape.hears(C, "Welcome guest-3\n");
        tape.history.rules.wire.who = Who::Guest;
        for record in &mut tape.history.records {
            let Event::Received { bytes } = &mut record.event else { continue };
            let text = String::from_utf8_lossy(bytes);
            *bytes = [A, B]
                .iter()
                .fold(text.into_owned(), |text, of| text.replace(&who(*of), &format!("guest-{of}")))
                .into();
        }
        tape
    };
    let joined = |tape: Tape| tape.connects(C, "10.0.0.1:5001").hear(&[A, B], "guest-3 joined\n");
    let came = guest(joined(Tape::new()));
    let mut named = Tape::new().enters(C, &[A, B]);
    named.history.rules.wire.who = Who::Address;
    check("guest-welcomed", &came, &named);
    let back = Tape::new().event(A, Event::Reset).hears(B, "guest-1 left\n");
    let back = guest(back.connects(C, "10.0.0.1:5001").hears(B, "guest-3 joined\n"));
    check("guest-again", &back, &came);
    let refused = |words: &str| {
        Tape::new()
            .sends(A, b"/name guest-7\n")
            .hears(A, &format!("-- name refused: this name would look like {words}\n"))
    };
    check("name-given", &refused("one that the server gives to who has none"), &refused("the server's own words"));
}

#[test]
fn marks_of_haste_are_by_address() {
    let came = |second: &str, trusted: &[&str]| {
        let mut tape = Tape::new();
        tape.history.rules.limits.connect_rate = Some(Rate { burst: 1, per_second: 1 });
        tape.history.rules.limits.trusted = trusted.iter().map(|prefix| prefix.parse().expect("a prefix")).collect();
        [C, 4].iter().fold(tape, |tape, client| {
            let at = format!("{second}:{client}");
            let tape = tape.connects(*client, &at).hears(*client, &format!("Welcome {at}\n"));
            let others: Vec<Client> = (A..*client).collect();
            tape.hear(&others, &format!("{at} joined\n"))
        })
    };
    check("trusted-hasty", &came("10.0.0.1", &["10.0.0.1/32"]), &came("10.0.0.1", &[]));
    assert!(!came("10.0.0.4", &["10.0.0.1/32"]).meets("trusted-hasty"));
    let later = |address: &str| {
        let mut tape = Tape::new();
        tape.history.rules.limits.connect_rate = Some(Rate { burst: 1, per_second: 1 });
        let refusal = "-- connecting too fast: at most 1 a second from each address, try again later\n";
        let tape = tape.connects(C, "10.0.0.1:7").hears(C, refusal).event(C, Event::ReceivedEnd).wait(2000);
        let tape = tape.connects(4, address).hears(4, &format!("Welcome {address}\n"));
        tape.hear(&[A, B], &format!("{address} joined\n"))
    };
    assert!(later("10.0.0.1:8").meets("refused-hasty"));
    check("came-after-haste", &later("10.0.0.1:8"), &later("10.0.0.4:8"));
}

#[test]
fn every_kind_of_act_has_a_row() {
    let plan = Plan { acts: vec![Act { at_ms: 0, what: What::Stop }; 3], ..Plan::draw(0) };
    let met = marks(&plan, &Tape::new().history, None, &BTreeMap::from([("queued", 7)]));
    assert_eq!(met.get("act: Stop"), Some(&3));
    assert_eq!(met.get("queue-full"), Some(&7));
    let rows = Table::default().missing();
    for kind in ["Connect", "FreezeDown", "Restart"] {
        assert!(rows.contains(&&*format!("act: {kind}")), "{rows:?}");
    }
}
