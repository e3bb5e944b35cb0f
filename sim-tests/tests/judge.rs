//! The judge is tested first: of each invariant it must reject histories made wrong by hand, and name that invariant; and it
//! must accept good ones, from a room so simple that it cannot be wrong.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sim_tests::history::{Client, Event, Healed, History, Keeping, Password, Record, Rules, Sample, ServerEvent};
use sim_tests::judge::{Came, Facts, INVARIANTS, Law, What, judge, judge_patience, judge_with};
use unisono::limits::{FOREVER, Flood, Rate};
use unisono::{Lang, Limits, Who, Wire};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What the others know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Its name, and it was heard of, or there is no budget.
    ByName,
    /// Its name, since it came.
    Silent,
    /// The count with this number has it.
    Counted(usize),
}

/// One who is in the room of a [`Tape`].
#[derive(Clone, Debug)]
struct Member {
    who: String,
    known: Known,
    /// Lines on their way to it.
    due: Vec<String>,
    missed: usize,
    is_reading: bool,
    has_left: bool,
}

/// A room as a plain list of lines, which writes down what a run of it would look like.
#[derive(Clone, Debug)]
struct Tape {
    history: History,
    now: Duration,
    members: BTreeMap<Client, Member>,
    budget: Budget,
    /// How many guests there were, where members are such.
    guests: Option<u64>,
}

/// Names in a period, what is left of them, and what is counted.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    most: Option<usize>,
    names_left: usize,
    joined: usize,
    left: usize,
    /// How many counts were told.
    count: usize,
    /// When the period began.
    began: Option<Duration>,
}

fn address(client: Client) -> String {
    format!("10.0.0.{client}:5000")
}

fn ip(client: Client) -> IpAddr {
    address(client).parse::<SocketAddr>().expect("an address").ip()
}

impl Tape {
    fn new() -> Self {
        let limits = Limits { line_bytes_max: 64, backlog_bytes: 1200, ..Limits::default() };
        let wire = Wire { lang: Lang::En, ..Wire::default() };
        let server = vec![(Duration::ZERO, ServerEvent::Started)];
        let rules = Rules { limits, wire, password: None };
        let history =
            History { rules, records: Vec::new(), server, keeping: Vec::new(), samples: Vec::new(), healed: None };
        Self { history, now: Duration::ZERO, members: BTreeMap::new(), budget: Budget::default(), guests: None }
    }

    /// One in which members are guests.
    fn of_guests() -> Self {
        let mut tape = Self::new();
        tape.history.rules.wire.who = Who::Guest;
        Self { guests: Some(0), ..tape }
    }

    /// What the next one is called that comes from this client.
    fn name(&mut self, client: Client) -> String {
        let Some(guests) = &mut self.guests else { return address(client) };
        *guests += 1;
        format!("guest-{guests}")
    }

    /// One in which so many names are told in a period.
    fn with_budget(names: usize) -> Self {
        let mut tape = Self::new();
        tape.history.rules.limits.announcements = Some(names);
        tape.budget = Budget { most: Some(names), names_left: names, ..Budget::default() };
        tape
    }

    /// A name is told, if the budget has one.
    fn spend(&mut self) -> bool {
        self.budget.began.get_or_insert(self.now);
        let is_named = self.budget.names_left > 0;
        self.budget.names_left -= usize::from(is_named);
        is_named
    }

    /// Ends the period, if its time has come.
    fn turn_if_due(&mut self) {
        if self.budget.began.is_some_and(|began| self.now >= began + Duration::from_secs(1)) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let Budget { most, joined, left, count, .. } = self.budget;
        let is_told = joined + left > 0;
        self.budget = Budget { most, names_left: most.unwrap_or(0), ..Budget::default() };
        self.budget.count = count + usize::from(is_told);
        if is_told {
            self.tell(&format!("{joined} joined, {left} left"), None);
        }
    }

    /// A period of the budget passes.
    fn period(&mut self) {
        self.wait(Duration::from_secs(1));
        self.turn();
    }

    /// It is heard of, and told of by name before.
    fn introduce(&mut self, client: Client) {
        self.turn_if_due();
        let member = self.members.get_mut(&client).expect("a member");
        let known = std::mem::replace(&mut member.known, Known::ByName);
        let who = member.who.clone();
        match known {
            Known::Counted(count) if count == self.budget.count => {
                self.budget.joined -= 1;
                self.tell(&format!("{who} joined"), None);
            }
            Known::Counted(_) => self.tell(&format!("{who} is here"), None),
            Known::Silent | Known::ByName => {}
        }
    }

    fn push(&mut self, client: Client, event: Event) {
        self.now += MILLISECOND;
        self.history.records.push(Record { at: self.now, client, event });
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn told(&mut self, client: Client, line: &str) {
        let bytes = format!("{line}\n").into_bytes();
        self.push(client, Event::Received { bytes });
    }

    fn tell(&mut self, line: &str, but: Option<Client>) {
        for (client, member) in &mut self.members {
            if Some(*client) != but && !member.has_left {
                member.due.push(line.to_owned());
            }
        }
        self.deliver();
    }

    /// Everyone who reads gets what is due to it.
    fn deliver(&mut self) {
        for client in self.members.keys().copied().collect::<Vec<_>>() {
            self.deliver_to(client, usize::MAX);
        }
    }

    fn deliver_to(&mut self, client: Client, most: usize) {
        let member = self.members.get_mut(&client).expect("a member");
        if !member.is_reading {
            return;
        }
        let mut lines: Vec<String> = Vec::new();
        if member.missed > 0 {
            lines.push(format!("-- missed {} lines", std::mem::take(&mut member.missed)));
        }
        lines.extend(member.due.drain(..most.min(member.due.len())));
        for line in lines {
            self.told(client, &line);
        }
        let member = &self.members[&client];
        if member.has_left && member.due.is_empty() {
            self.members.remove(&client);
            self.push(client, Event::ReceivedEnd);
        }
    }

    fn connect(&mut self, client: Client) {
        self.turn_if_due();
        self.push(client, Event::Connected { address: address(client) });
        let known = if self.budget.most.is_none() {
            Known::ByName
        } else if self.spend() {
            Known::Silent
        } else {
            Known::Counted(self.budget.count)
        };
        let who = self.name(client);
        if matches!(known, Known::Counted(_)) {
            self.budget.joined += 1;
        } else {
            self.tell(&format!("{who} joined"), None);
        }
        self.told(client, &format!("Welcome {who}"));
        let member = Member { who, known, due: Vec::new(), missed: 0, is_reading: true, has_left: false };
        self.members.insert(client, member);
    }

    fn send(&mut self, client: Client, bytes: &[u8]) {
        self.push(client, Event::Sent { bytes: bytes.to_vec() });
    }

    fn say(&mut self, client: Client, text: &str) {
        self.send(client, format!("{text}\n").as_bytes());
        self.said(client, text);
    }

    fn said(&mut self, client: Client, text: &str) {
        self.introduce(client);
        self.tell(&format!("{}: {text}", self.members[&client].who), None);
    }

    fn rename(&mut self, client: Client, new: &str) {
        self.send(client, format!("/name {new}\r\n").as_bytes());
        self.introduce(client);
        let who = std::mem::replace(&mut self.members.get_mut(&client).expect("a member").who, new.to_owned());
        self.tell(&format!("{who} is now {new}"), None);
    }

    fn depart(&mut self, client: Client) {
        self.turn_if_due();
        let Member { who, known, .. } = self.members[&client].clone();
        let is_named = match known {
            Known::ByName => true,
            Known::Silent => self.spend(),
            Known::Counted(_) => {
                self.budget.began.get_or_insert(self.now);
                false
            }
        };
        if !is_named {
            self.budget.left += 1;
            return self.deliver();
        }
        self.tell(&format!("{who} left"), Some(client));
    }

    fn end(&mut self, client: Client) {
        self.push(client, Event::SentEnd);
        self.leave(client);
    }

    fn leave(&mut self, client: Client) {
        self.turn_if_due();
        self.members.get_mut(&client).expect("a member").has_left = true;
        self.depart(client);
    }

    fn reset(&mut self, client: Client) {
        self.turn_if_due();
        self.push(client, Event::Reset);
        self.depart(client);
        self.members.remove(&client);
    }

    /// There is a connection for TLS.
    fn knock(&mut self, client: Client) {
        self.push(client, Event::Knocked { address: address(client) });
    }

    /// It is asked for the password.
    fn ask(&mut self, client: Client) {
        self.push(client, Event::Connected { address: address(client) });
        self.told(client, "-- password, please");
    }

    /// It says something for a password, and hears of it when that is proved.
    fn tries(&mut self, client: Client, text: &str, answer: &str) {
        self.send(client, format!("{text}\n").as_bytes());
        self.wait(PROVED);
        self.told(client, answer);
    }

    /// It says the password, and is let in.
    fn comes_in(&mut self, client: Client) {
        self.send(client, b"open sesame\n");
        self.wait(PROVED);
        self.let_in(client);
    }

    fn let_in(&mut self, client: Client) {
        let who = self.name(client);
        self.tell(&format!("{who} joined"), None);
        self.told(client, &format!("Welcome {who}"));
        let known = Known::ByName;
        let member = Member { who, known, due: Vec::new(), missed: 0, is_reading: true, has_left: false };
        self.members.insert(client, member);
    }

    /// Whoever keeps the server does something.
    fn keep(&mut self, what: Keeping) {
        self.turn_if_due();
        self.wait(MILLISECOND);
        self.history.keeping.push((self.now, what));
    }

    fn announce(&mut self, text: &str) {
        self.keep(Keeping::Announced { text: text.to_owned() });
        self.tell(&format!("-! {text}"), None);
    }

    fn kick(&mut self, client: Client) {
        self.keep(Keeping::Removed { client });
        self.part(client);
    }

    /// It is removed, by now.
    fn part(&mut self, client: Client) {
        self.members.get_mut(&client).expect("a member").due.clear();
        self.depart(client);
        self.members.remove(&client);
        self.told(client, "-- you were removed");
        self.push(client, Event::ReceivedEnd);
    }

    fn ban(&mut self, client: Client) {
        let ip = ip(client);
        self.keep(Keeping::Banned { ip });
        if self.members.contains_key(&client) {
            self.history.keeping.push((self.now, Keeping::Removed { client }));
            self.part(client);
        }
    }

    fn turned_away(&mut self, client: Client, notice: &str) {
        self.push(client, Event::Connected { address: address(client) });
        self.told(client, notice);
        self.push(client, Event::ReceivedEnd);
    }

    fn pause(&mut self, client: Client) {
        self.push(client, Event::Pause);
        self.members.get_mut(&client).expect("a member").is_reading = false;
    }

    fn resume(&mut self, client: Client) {
        self.push(client, Event::Resume);
        self.members.get_mut(&client).expect("a member").is_reading = true;
        self.deliver_to(client, usize::MAX);
    }

    fn let_go(&mut self, client: Client) {
        let member = self.members.get_mut(&client).expect("a member");
        member.missed += member.due.drain(..).count();
    }

    fn sample(&mut self) {
        let members = self.members.values().filter(|member| !member.has_left).count();
        let said_bytes = self.now.as_millis().try_into().expect("small");
        let seats = self.members.len();
        let numbers = Sample {
            at: self.now,
            held_bytes: 0,
            partial_bytes: 0,
            members,
            seats,
            said_bytes,
            let_gos: 0,
            missed_lines: 0,
            senders_parked: 0,
        };
        self.history.samples.push(numbers);
    }

    /// The quiet end, with everyone who is here in the core.
    fn heal(&mut self) {
        self.wait(MILLISECOND);
        let at = self.now;
        self.period();
        self.wait(Duration::from_secs(200));
        let core = self.members.keys().copied().collect();
        self.history.healed = Some(Healed { at, end: self.now, core });
        self.sample();
    }

    fn stop(&mut self) {
        self.wait(MILLISECOND);
        self.history.server.push((self.now, ServerEvent::Stopping));
        for client in std::mem::take(&mut self.members).into_keys() {
            self.told(client, "-- server is stopping");
            self.push(client, Event::ReceivedEnd);
        }
        self.history.server.push((self.now, ServerEvent::Stopped));
        self.sample();
    }

    fn crash(&mut self) {
        self.wait(MILLISECOND);
        self.history.server.push((self.now, ServerEvent::Crashed));
        for client in std::mem::take(&mut self.members).into_keys() {
            self.push(client, Event::ReceivedError { kind: "reset".to_owned() });
        }
        self.wait(MILLISECOND);
        self.history.server.push((self.now, ServerEvent::Started));
    }

    fn done(mut self) -> History {
        self.heal();
        self.stop();
        self.history
    }
}

/// A little of everything: #0 to #2 stay; #3 says goodbye without a line feed, #4 breaks amid a line, #5 is let go.
fn company() -> Tape {
    let mut tape = Tape::new();
    for client in 0..3 {
        tape.connect(client);
    }
    tape.say(0, "#0.0");
    tape.say(1, "#1.0");
    tape.say(1, "");
    tape.rename(2, "carol");
    tape.say(2, "#2.0");
    tape.connect(3);
    tape.say(0, "#0.1");
    tape.send(3, b"\xEF\xBB\xBF#3.0 \x1B\r\n#3.1");
    tape.said(3, "#3.0 \u{241B}");
    tape.push(3, Event::SentEnd);
    tape.said(3, "#3.1");
    tape.leave(3);
    tape.connect(4);
    tape.send(4, b"#4.0\n#4.1\n#4.2");
    tape.said(4, "#4.0");
    tape.reset(4);
    tape.connect(5);
    tape.say(0, "#0.2");
    tape.pause(5);
    tape.say(0, "#0.3");
    tape.say(1, "#1.1");
    tape.say(2, "#2.1");
    tape.let_go(5);
    tape.say(0, "#0.4");
    tape.resume(5);
    tape.say(1, "");
    tape.say(1, "#1.2");
    tape.say(5, "#5.0");
    tape
}

fn good() -> History {
    company().done()
}

/// The record in which the client received just this line.
fn find(history: &History, client: Client, line: &str) -> usize {
    let bytes = format!("{line}\n").into_bytes();
    let is_it = |record: &Record| record.client == client && record.event == Event::Received { bytes: bytes.clone() };
    history.records.iter().position(is_it).unwrap_or_else(|| panic!("#{client} never received {line:?}"))
}

/// What the client received instead of this line.
fn instead(mut history: History, client: Client, line: &str, lines: &[&str]) -> History {
    let at = find(&history, client, line);
    let bytes = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
    history.records[at].event = Event::Received { bytes };
    history
}

/// As [`instead`], for all that received the line.
fn instead_for_all(mut history: History, line: &str, lines: &[&str]) -> History {
    let bytes = format!("{line}\n").into_bytes();
    let event = Event::Received { bytes };
    let clients: Vec<Client> =
        history.records.iter().filter(|record| record.event == event).map(|record| record.client).collect();
    assert!(!clients.is_empty(), "nobody received {line:?}");
    for client in clients {
        history = instead(history, client, line, lines);
    }
    history
}

/// The two lines change places, for these clients.
fn swapped(mut history: History, clients: &[Client], one: &str, other: &str) -> History {
    for &client in clients {
        let (one, other) = (find(&history, client, one), find(&history, client, other));
        let event = history.records[one].event.clone();
        history.records[one].event = std::mem::replace(&mut history.records[other].event, event);
    }
    history
}

fn without(history: History, client: Client, line: &str) -> History {
    instead(history, client, line, &[])
}

/// The room's own numbers, changed.
fn resampled(mut history: History, change: impl Fn(&mut Sample)) -> History {
    history.samples.iter_mut().for_each(change);
    history
}

/// As it was made, with what the judge is told beside it.
type Doctored = (History, Facts);

fn plainly(history: History) -> Doctored {
    (history, Facts::default())
}

/// A backlog large enough that a let-go says something about it.
fn roomy(mut tape: Tape) -> Tape {
    tape.history.rules.limits.backlog_bytes = 64 * 1024;
    tape
}

fn order_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    vec![
        (
            "all-see-one-order",
            vec![
                plainly(swapped(good(), &[1], "10.0.0.0:5000: #0.3", "10.0.0.1:5000: #1.1")),
                plainly(swapped(good(), &[0], "10.0.0.3:5000 left", "10.0.0.4:5000 joined")),
                plainly(swapped(good(), &[2], "carol: #2.1", "10.0.0.0:5000: #0.4")),
                plainly(swapped(good(), &[0], "carol: #2.0", "10.0.0.3:5000 joined")),
            ],
        ),
        (
            "senders-order-is-kept",
            vec![
                plainly(swapped(good(), &[0, 1, 2], "10.0.0.0:5000: #0.3", "10.0.0.0:5000: #0.4")),
                plainly(swapped(good(), &[1], "10.0.0.0:5000: #0.3", "10.0.0.0:5000: #0.4")),
                plainly(swapped(good(), &[0, 1, 2, 3], "10.0.0.3:5000: #3.0 \u{241B}", "10.0.0.3:5000: #3.1")),
            ],
        ),
        (
            "no-line-is-missing",
            vec![
                plainly(without(good(), 1, "carol: #2.0")),
                plainly(without(good(), 0, "10.0.0.0:5000: #0.4")),
                plainly(without(good(), 2, "10.0.0.4:5000 left")),
                plainly(without(without(good(), 2, "carol: #2.0"), 2, "10.0.0.3:5000 joined")),
                plainly(without(good(), 3, "10.0.0.3:5000: #3.0 \u{241B}")),
            ],
        ),
        (
            "missed-counts-are-exact",
            vec![
                plainly(instead(good(), 5, "-- missed 3 lines", &["-- missed 2 lines"])),
                plainly(instead(good(), 5, "-- missed 3 lines", &["-- missed 4 lines"])),
                plainly(instead(good(), 5, "-- missed 3 lines", &["-- missed 99999999999999 lines"])),
                plainly(instead(good(), 5, "-- missed 3 lines", &["-- missed 3 lines", "-- missed 1 lines"])),
                plainly({
                    let mut tape = company();
                    tape.pause(5);
                    tape.say(0, "#0.5");
                    tape.let_go(5);
                    tape.resume(5);
                    instead(tape.done(), 5, "-- missed 1 lines", &["-- missed 2 lines"])
                }),
            ],
        ),
        (
            "entering-is-atomic",
            vec![
                plainly(instead(good(), 3, "Welcome 10.0.0.3:5000", &["Welcome 10.0.0.3:5000", "carol: #2.0"])),
                plainly(without(good(), 3, "10.0.0.0:5000: #0.1")),
                plainly(without(good(), 1, "10.0.0.2:5000 joined")),
                // Nobody saw these enter, but when is known.
                watched(without(crowd().done(), 1, "10.0.0.2:5000 joined")),
                watched(without(crowd().done(), 2, "10.0.0.2:5000 joined")),
                watched(without(crowd().done(), 9, "anna: #0.1")),
            ],
        ),
        (
            "own-brackets-are-for-others",
            vec![
                plainly(instead(
                    good(),
                    3,
                    "Welcome 10.0.0.3:5000",
                    &["Welcome 10.0.0.3:5000", "10.0.0.3:5000 joined"],
                )),
                plainly(instead(good(), 3, "10.0.0.3:5000: #3.1", &["10.0.0.3:5000: #3.1", "10.0.0.3:5000 left"])),
                plainly({
                    let mut tape = company();
                    tape.end(2);
                    instead(tape.done(), 2, "10.0.0.5:5000: #5.0", &["10.0.0.5:5000: #5.0", "carol left"])
                }),
            ],
        ),
    ]
}

fn truth_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    vec![
        (
            "every-line-was-said",
            vec![
                plainly(instead_for_all(good(), "carol: #2.0", &["carol: #2.X"])),
                plainly(instead(good(), 1, "carol: #2.0", &["carol: #2."])),
                plainly(instead_for_all(good(), "carol: #2.0", &["10.0.0.2:5000: #2.0"])),
                plainly(instead_for_all(good(), "10.0.0.1:5000: #1.1", &["10.0.0.0:5000: #1.1"])),
                plainly(instead_for_all(good(), "10.0.0.3:5000: #3.0 \u{241B}", &["10.0.0.3:5000: #3.0 \u{1B}"])),
                plainly(instead_for_all(good(), "10.0.0.2:5000 is now carol", &["10.0.0.2:5000 is now dave"])),
                plainly(instead(good(), 0, "carol: #2.0", &["carol: #2.-- missed 1 lines", "0"])),
            ],
        ),
        (
            "every-line-was-said-once",
            vec![
                plainly(instead(good(), 1, "carol: #2.0", &["carol: #2.0", "carol: #2.0"])),
                plainly(instead_for_all(good(), "carol: #2.0", &["carol: #2.0", "carol: #2.0"])),
                plainly(instead(good(), 2, "10.0.0.0:5000: #0.4", &["10.0.0.0:5000: #0.3", "10.0.0.0:5000: #0.4"])),
                plainly(instead_for_all(
                    good(),
                    "10.0.0.1:5000: ",
                    &["10.0.0.1:5000: ", "10.0.0.1:5000: ", "10.0.0.1:5000: "],
                )),
            ],
        ),
        (
            "said-lines-are-a-prefix",
            vec![
                plainly(instead_for_all(good(), "10.0.0.4:5000: #4.0", &["10.0.0.4:5000: #4.1"])),
                plainly(instead_for_all(good(), "10.0.0.1:5000: #1.0", &[])),
                plainly({
                    let mut tape = company();
                    tape.send(1, b"lost\n");
                    tape.rename(1, "bob");
                    tape.done()
                }),
            ],
        ),
        (
            "lines-are-whole",
            ["10.0.0.3:5000: #3", "1", "-- missed"]
                .map(|rest| {
                    let mut history = good();
                    let at = find(&history, 3, "10.0.0.3:5000: #3.1");
                    history.records[at].event = Event::Received { bytes: rest.as_bytes().to_vec() };
                    plainly(history)
                })
                .into(),
        ),
        (
            "partial-lines-are-never-said",
            vec![
                plainly({
                    let history = instead_for_all(good(), "10.0.0.4:5000: #4.0", &["10.0.0.4:5000: #4.2"]);
                    instead_for_all(
                        history,
                        "10.0.0.4:5000: #4.2",
                        &["10.0.0.4:5000: #4.0", "10.0.0.4:5000: #4.1", "10.0.0.4:5000: #4.2"],
                    )
                }),
                plainly({
                    let mut tape = company();
                    tape.send(1, b"unended");
                    tape.said(1, "unended");
                    tape.done()
                }),
                plainly({
                    let mut tape = company();
                    tape.connect(6);
                    tape.send(6, b"half");
                    tape.said(6, "half");
                    tape.reset(6);
                    tape.done()
                }),
            ],
        ),
        (
            "notices-are-known",
            vec![
                plainly(instead(good(), 1, "carol: #2.0", &["-- carol is here", "carol: #2.0"])),
                plainly(instead(good(), 5, "-- missed 3 lines", &["-- missed 03 lines"])),
                plainly(instead(good(), 1, "carol: #2.0", &["-- missed 0 lines", "carol: #2.0"])),
                plainly(instead(good(), 5, "-- missed 3 lines", &["-- missed 3 lin"])),
                plainly(instead(good(), 1, "carol: #2.0", &["-- 错过 1 行", "carol: #2.0"])),
            ],
        ),
    ]
}

fn bracket_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let welcome = "Welcome 10.0.0.3:5000";
    vec![
        (
            "welcome-first",
            vec![
                plainly(without(good(), 3, welcome)),
                plainly(instead(good(), 3, welcome, &["Welcome 10.0.0.4:5000"])),
                plainly(instead(good(), 3, welcome, &[welcome, welcome])),
                plainly(instead(good(), 3, welcome, &["-- 3 here", welcome])),
                plainly(swapped(good(), &[3], welcome, "10.0.0.0:5000: #0.1")),
            ],
        ),
        (
            "one-arrival-first",
            vec![
                plainly(instead_for_all(good(), "10.0.0.3:5000 joined", &[])),
                plainly(instead_for_all(
                    good(),
                    "10.0.0.3:5000 joined",
                    &["10.0.0.3:5000 joined", "10.0.0.3:5000 joined"],
                )),
                plainly(swapped(good(), &[0, 1, 2], "10.0.0.4:5000 joined", "10.0.0.4:5000: #4.0")),
                plainly(instead(good(), 1, "10.0.0.3:5000: #3.1", &["10.0.0.3:5000: #3.1", "10.0.0.3:5000 joined"])),
            ],
        ),
        (
            "one-departure-last",
            vec![
                plainly(instead_for_all(good(), "10.0.0.4:5000 left", &["10.0.0.4:5000 left", "10.0.0.4:5000 left"])),
                plainly(swapped(good(), &[0, 1, 2], "10.0.0.4:5000 left", "10.0.0.4:5000: #4.0")),
                plainly(instead(good(), 1, "10.0.0.3:5000 left", &["10.0.0.3:5000 left", "10.0.0.3:5000 left"])),
                plainly({
                    let mut tape = company();
                    tape.end(2);
                    tape.said(1, "");
                    let mut history = tape.done();
                    for client in [0, 1, 5] {
                        history = instead(history, client, "carol left", &["carol left", "carol left"]);
                    }
                    history
                }),
            ],
        ),
        (
            "strangers-are-told-to-nobody",
            vec![
                plainly(instead_for_all(good(), "carol: #2.0", &["carol: #2.0", "10.9.9.9:1 joined"])),
                plainly({
                    let mut tape = company();
                    tape.push(6, Event::Connected { address: address(6) });
                    tape.told(6, "-- server full: at most 6 connections, try again later");
                    tape.push(6, Event::ReceivedEnd);
                    tape.tell("10.0.0.6:5000 joined", None);
                    tape.done()
                }),
                plainly({
                    let mut tape = company();
                    tape.push(6, Event::Connected { address: address(6) });
                    tape.told(6, "-- too many connections from your address: at most 1");
                    tape.push(6, Event::ReceivedEnd);
                    tape.tell("10.0.0.6:5000 left", None);
                    tape.done()
                }),
            ],
        ),
        (
            "no-departures-at-the-end",
            vec![
                plainly(stop_with_departures(&[1], 0)),
                plainly(stop_with_departures(&[0, 2, 5], 1)),
                plainly(stop_with_departures(&[0, 1, 2, 5], 3)),
            ],
        ),
        (
            "one-name-one-member",
            ["carol", "Carol", "CAROL"]
                .map(|name| {
                    let mut tape = company();
                    tape.rename(1, name);
                    plainly(tape.done())
                })
                .into(),
        ),
    ]
}

/// A server that tells of everyone's departure when it ends.
fn stop_with_departures(readers: &[Client], who: usize) -> History {
    let mut tape = company();
    tape.wait(MILLISECOND);
    tape.history.server.push((tape.now, ServerEvent::Stopping));
    let gone = *tape.members.keys().filter(|client| !readers.contains(client)).nth(who).unwrap_or(&2);
    let line = format!("{} left", tape.members[&gone].who);
    for &client in readers.iter().filter(|client| **client != gone) {
        tape.told(client, &line);
    }
    tape.stop();
    tape.history.server.remove(tape.history.server.len() - 2);
    tape.history
}

fn end_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    vec![
        (
            "all-is-said-before-the-end",
            vec![
                plainly(instead_for_all(good(), "10.0.0.3:5000: #3.1", &[])),
                plainly({
                    let mut tape = company();
                    tape.send(1, b"#1.3\n#1.4\n");
                    tape.said(1, "#1.3");
                    tape.end(1);
                    tape.done()
                }),
                plainly({
                    let mut tape = company();
                    tape.send(1, b"#1.3\n/quit\n");
                    tape.leave(1);
                    tape.done()
                }),
            ],
        ),
        (
            "end-is-the-departure",
            vec![
                plainly(without(good(), 3, "10.0.0.3:5000: #3.1")),
                plainly({
                    let mut tape = company();
                    tape.pause(1);
                    tape.say(0, "#0.5");
                    tape.end(1);
                    tape.members.remove(&1);
                    tape.push(1, Event::Resume);
                    tape.push(1, Event::ReceivedEnd);
                    tape.done()
                }),
                plainly({
                    let mut tape = company();
                    tape.end(1);
                    tape.say(0, "#0.5");
                    let mut history = tape.done();
                    let end = history.records.iter().position(|r| r.client == 1 && r.event == Event::ReceivedEnd);
                    let at = history.records[end.expect("it ended")].at;
                    let bytes = b"10.0.0.1:5000 left\n10.0.0.0:5000: #0.5\n"[19..].to_vec();
                    history
                        .records
                        .insert(end.expect("it ended"), Record { at, client: 1, event: Event::Received { bytes } });
                    history
                }),
            ],
        ),
        (
            "no-end-without-cause",
            [0, 1, 2]
                .map(|client| {
                    let mut tape = company();
                    tape.leave(client);
                    plainly(tape.done())
                })
                .into(),
        ),
    ]
}

fn number_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let demand = |said: [u64; 3]| {
        let mut tape = roomy(company());
        for said_bytes in said {
            tape.wait(Duration::from_secs(5));
            tape.sample();
            tape.history.samples.last_mut().expect("just taken").said_bytes = said_bytes;
        }
        let (from, until) = (tape.now.saturating_sub(Duration::from_secs(10)), tape.now);
        (tape.history, Facts { demand: vec![(from, until)], ..Facts::default() })
    };
    let steady = |client| (good(), Facts { steady: vec![client], ..Facts::default() });
    let two = {
        let mut tape = company();
        tape.pause(1);
        tape.say(0, "#0.5");
        tape.let_go(1);
        tape.resume(1);
        tape.done()
    };
    vec![
        (
            "room-moves-on",
            vec![demand([0, 0, 0]), demand([0, 400_000, 500_000]), demand([1_000_000, 1_100_000, 1_510_000])],
        ),
        (
            "steady-readers-miss-nothing",
            vec![
                steady(5),
                (two.clone(), Facts { steady: vec![1], ..Facts::default() }),
                (two, Facts { steady: vec![0, 1, 2, 5], ..Facts::default() }),
            ],
        ),
        (
            "let-go-only-when-full",
            vec![
                plainly(roomy(company()).done()),
                plainly({
                    let mut history = good();
                    history.rules.limits.patience = FOREVER;
                    history
                }),
                plainly({
                    let mut tape = roomy(company());
                    tape.members.get_mut(&5).expect("in").missed = 0;
                    tape.pause(1);
                    (0..500)
                        .for_each(|number| tape.say(0, &format!("#0.{number} of many lines that are not a backlog")));
                    tape.let_go(1);
                    tape.resume(1);
                    tape.done()
                }),
            ],
        ),
        (
            "backlog-is-bounded",
            vec![
                plainly(resampled(good(), |sample| sample.held_bytes = 1 << 20)),
                plainly(resampled(good(), |sample| sample.held_bytes = 1200 + 18 + 2 * (75 + 291 + 208) + 6 * 112 + 1)),
                plainly({
                    let mut tape = company();
                    tape.sample();
                    tape.history.samples[0].held_bytes = usize::MAX;
                    tape.done()
                }),
            ],
        ),
        (
            "partial-lines-are-bounded",
            [usize::MAX, 17 * 1024 * 1024, 16 * 1024 * 1024 + 16 * 1024 + 1]
                .map(|bytes| plainly(resampled(good(), |sample| sample.partial_bytes = bytes)))
                .into(),
        ),
    ]
}

fn quiet_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let asleep = |client| {
        let mut tape = company();
        tape.pause(client);
        tape.say(5, "#5.1");
        tape.wait(Duration::from_millis(100));
        tape.resume(client);
        (tape.done(), Facts { awake: vec![client], ..Facts::default() })
    };
    let parked = |held_bytes| {
        let mut tape = company();
        for _ in 0..2 {
            tape.sample();
            let sample = tape.history.samples.last_mut().expect("just taken");
            (sample.said_bytes, sample.held_bytes, sample.senders_parked) = (9, held_bytes, 1);
            tape.wait(Duration::from_millis(100));
        }
        plainly(tape.done())
    };
    vec![
        (
            "all-is-flushed-at-the-end",
            [0, 1, 2]
                .map(|client| {
                    let facts = Facts { awake: vec![client], ..Facts::default() };
                    (without(good(), client, "10.0.0.5:5000: #5.0"), facts)
                })
                .into(),
        ),
        ("awake-readers-are-told-at-once", vec![asleep(0), asleep(1), asleep(2)]),
        (
            "departures-never-wait",
            [0, 1, 2]
                .map(|client| {
                    let mut tape = company();
                    tape.push(client, Event::Reset);
                    tape.wait(Duration::from_millis(1020));
                    tape.depart(client);
                    tape.members.remove(&client);
                    let awake = (0..3).filter(|other| *other != client).collect();
                    (tape.done(), Facts { told_at_once: vec![client], awake, ..Facts::default() })
                })
                .into(),
        ),
        ("parked-senders-are-woken", vec![parked(0), parked(500), parked(1199)]),
        (
            "quiet-readers-have-everything",
            vec![
                plainly(without(good(), 2, "10.0.0.5:5000: #5.0")),
                plainly(without(without(good(), 0, "10.0.0.5:5000: #5.0"), 0, "10.0.0.1:5000: #1.2")),
                plainly({
                    let mut tape = company();
                    tape.push(6, Event::Connected { address: address(6) });
                    let mut history = tape.done();
                    history.healed.as_mut().expect("healed").core.push(6);
                    history
                }),
                plainly({
                    let mut tape = company();
                    tape.push(1, Event::SentEnd);
                    tape.done()
                }),
                plainly({
                    let mut tape = Tape::new();
                    tape.connect(0);
                    tape.connect(1);
                    without(tape.done(), 0, "10.0.0.1:5000 joined")
                }),
            ],
        ),
        (
            "quiet-senders-have-said-everything",
            vec![
                plainly(instead_for_all(good(), "10.0.0.5:5000: #5.0", &[])),
                plainly({
                    let mut tape = company();
                    tape.send(1, b"#1.3\n");
                    tape.done()
                }),
                plainly({
                    let mut tape = Tape::new();
                    tape.connect(0);
                    tape.send(0, b"anybody?\n");
                    tape.done()
                }),
            ],
        ),
    ]
}

fn gone_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let gone = |told: bool| {
        let mut tape = company();
        tape.connect(6);
        tape.push(6, Event::Reset);
        tape.members.remove(&6);
        let facts = Facts { told_at_once: if told { vec![6] } else { vec![] }, ..Facts::default() };
        (tape.done(), facts)
    };
    let stalled = |client| {
        let mut tape = company();
        tape.pause(client);
        (0..40).for_each(|number| tape.say((client + 1) % 3, &format!("#{number} to be read")));
        let mut history = tape.done();
        history.healed.as_mut().expect("healed").core.retain(|core| *core != client);
        history.records.retain(|record| record.client != client || record.event != Event::ReceivedEnd);
        (history, Facts { buffers_bytes: 100, ..Facts::default() })
    };
    vec![
        (
            "the-gone-have-departed",
            vec![
                gone(true),
                gone(false),
                plainly(instead_for_all(good(), "10.0.0.4:5000 left", &[])),
                plainly({
                    let mut tape = company();
                    tape.connect(6);
                    tape.push(6, Event::SentEnd);
                    tape.push(6, Event::ReceivedEnd);
                    tape.members.remove(&6);
                    tape.done()
                }),
            ],
        ),
        ("the-stalled-are-closed", vec![stalled(0), stalled(1), stalled(2)]),
    ]
}

/// Names in a period of this: one. #0 to #2 stay, and all kinds of strangers come and go.
fn crowd() -> Tape {
    let mut tape = Tape::with_budget(1);
    tape.connect(0);
    tape.say(0, "anybody?");
    tape.connect(1);
    tape.connect(2);
    tape.wait(20 * MILLISECOND);
    tape.say(2, "#2.0");
    tape.period();
    tape.connect(3);
    tape.say(1, "#1.0");
    tape.connect(4);
    tape.end(4);
    tape.connect(5);
    tape.say(0, "#0.0");
    tape.reset(5);
    tape.rename(0, "anna");
    tape.end(3);
    tape.period();
    tape.connect(6);
    tape.say(1, "#1.1");
    tape.end(6);
    tape.period();
    tape.connect(7);
    tape.say(7, "#7.0");
    tape.connect(8);
    tape.rename(8, "hugo");
    tape.end(7);
    tape.connect(9);
    tape.wait(20 * MILLISECOND);
    tape.say(0, "#0.1");
    tape
}

/// Everyone reads all the time.
fn awake() -> Facts {
    Facts { awake: (0..20).collect(), ..Facts::default() }
}

fn watched(history: History) -> Doctored {
    (history, awake())
}

/// This member leaves in another way than it is known to the others.
fn leaves_as(client: Client, known: Known, is_clean: bool) -> Doctored {
    let mut tape = crowd();
    tape.period();
    tape.budget.names_left = 0;
    tape.members.get_mut(&client).expect("in").known = known;
    if is_clean {
        tape.end(client);
    } else {
        tape.reset(client);
    }
    watched(tape.done())
}

fn crowd_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let crowd = || crowd().done();
    let (one, two, late) = ("10.0.0.1:5000 is here", "10.0.0.2:5000 joined", "10.0.0.8:5000 joined");
    vec![
        (
            "told-by-name-before-first-line",
            vec![
                plainly(instead_for_all(crowd(), one, &[])),
                plainly(instead_for_all(crowd(), two, &[])),
                plainly(instead_for_all(crowd(), late, &[])),
                plainly(swapped(crowd(), &[0, 1, 2, 3], one, "10.0.0.1:5000: #1.0")),
                plainly(swapped(crowd(), &[0, 1, 2], late, "10.0.0.8:5000 is now hugo")),
                plainly(instead_for_all(
                    instead_for_all(crowd(), "10.0.0.1:5000: #1.1", &[]),
                    one,
                    &["10.0.0.1:5000: #1.1", one],
                )),
            ],
        ),
        (
            "speakers-depart-by-name",
            vec![
                leaves_as(1, Known::Silent, true),
                leaves_as(8, Known::Counted(0), true),
                leaves_as(2, Known::Counted(7), false),
                leaves_as(0, Known::Counted(1), false),
                watched(instead_for_all(crowd(), "10.0.0.7:5000 left", &["0 joined, 1 left"])),
            ],
        ),
        (
            "the-counted-go-uncalled",
            vec![
                leaves_as(9, Known::ByName, true),
                leaves_as(9, Known::ByName, false),
                plainly({
                    let mut tape = Tape::with_budget(0);
                    (0..3).for_each(|client| tape.connect(client));
                    tape.members.get_mut(&1).expect("in").known = Known::ByName;
                    tape.say(0, "#0.0");
                    tape.reset(1);
                    tape.done()
                }),
            ],
        ),
        (
            "sums-balance",
            vec![
                plainly(instead_for_all(crowd(), "1 joined, 0 left", &["2 joined, 0 left"])),
                plainly(instead_for_all(crowd(), "1 joined, 0 left", &["0 joined, 1 left"])),
                plainly(instead_for_all(crowd(), "1 joined, 0 left", &[])),
                plainly(instead_for_all(crowd(), "0 joined, 1 left", &["0 joined, 1 left", "0 joined, 0 left"])),
                plainly(instead_for_all(crowd(), "2 joined, 3 left", &["9 joined, 3 left"])),
                plainly(instead_for_all(crowd(), "2 joined, 3 left", &["2 joined, 9 left"])),
                plainly(instead_for_all(crowd(), one, &["10.0.0.1:5000 joined"])),
                plainly(instead_for_all(crowd(), two, &["10.0.0.2:5000 is here"])),
                plainly(instead_for_all(crowd(), late, &["10.0.0.8:5000 is here"])),
                watched(instead_for_all(crowd(), "2 joined, 3 left", &["2 joined, 2 left"])),
                watched(instead_for_all(crowd(), "2 joined, 3 left", &["1 joined, 3 left"])),
                watched(instead_for_all(crowd(), "0 joined, 1 left", &[])),
                watched({
                    let mut tape = Tape::with_budget(2);
                    (0..3).for_each(|client| tape.connect(client));
                    tape.end(1);
                    tape.budget.left -= 1;
                    tape.done()
                }),
            ],
        ),
    ]
}

fn budget_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    // More names than there may be.
    let many = |most: usize, told: usize, leave: usize| {
        let mut tape = Tape::with_budget(told);
        tape.history.rules.limits.announcements = Some(most);
        (0..4).for_each(|client| tape.connect(client));
        tape.period();
        (4..4 + leave).for_each(|client| tape.connect(client));
        (4..4 + leave).for_each(|client| tape.end(client));
        watched(tape.done())
    };
    vec![
        (
            "budget-is-kept",
            vec![
                many(1, 4, 0),
                many(0, 2, 0),
                many(2, 6, 4),
                watched({
                    let mut tape = Tape::with_budget(1);
                    (0..3).for_each(|client| tape.connect(client));
                    tape.turn();
                    tape.connect(3);
                    tape.connect(4);
                    tape.turn();
                    tape.done()
                }),
            ],
        ),
        (
            "numbers-only-within-a-budget",
            vec![
                plainly({
                    let mut history = crowd().done();
                    history.rules.limits.announcements = None;
                    history
                }),
                plainly({
                    let mut tape = Tape::with_budget(0);
                    (0..3).for_each(|client| tape.connect(client));
                    tape.history.rules.wire.plain = true;
                    tape.done()
                }),
                plainly({
                    let mut tape = company();
                    tape.tell("1 joined, 1 left", None);
                    tape.done()
                }),
                plainly({
                    let mut tape = company();
                    tape.tell("10.0.0.1:5000 is here", None);
                    tape.done()
                }),
            ],
        ),
    ]
}

fn tally_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let count = |members: usize, seats: usize| {
        plainly(resampled(good(), |sample| {
            if sample.members > 0 {
                (sample.members, sample.seats) = (members, seats);
            }
        }))
    };
    let rest = |change: fn(&mut Sample)| {
        let mut history = good();
        change(history.samples.last_mut().expect("the last"));
        plainly(history)
    };
    let held = |bytes: usize| plainly(resampled(good(), |sample| sample.held_bytes = bytes));
    vec![
        ("quiet-room-holds-nothing", vec![held(1), held(100), held(4096)]),
        ("tally-counts-who-is-there", vec![count(3, 4), count(5, 5), count(4, 3)]),
        (
            "nothing-is-left",
            vec![
                rest(|sample| sample.members = 1),
                rest(|sample| sample.seats = 1),
                rest(|sample| sample.partial_bytes = 1),
                rest(|sample| sample.held_bytes = 1),
            ],
        ),
    ]
}

/// A stranger says so many lines of so many bytes, one each so many ms, where two lines and 40 bytes pass at once, and one and 20
/// a second.
fn flood(lines: usize, bytes: usize, every_ms: u32) -> Doctored {
    let mut tape = Tape::new();
    let lines_rate = Rate { burst: 2, per_second: 1 };
    tape.history.rules.limits.flood = Some(Flood { lines: lines_rate, bytes: Rate { burst: 40, per_second: 20 } });
    tape.connect(0);
    tape.connect(1);
    for number in 0..lines {
        tape.say(1, &format!("{number:0bytes$}"));
        tape.wait(every_ms * MILLISECOND);
    }
    watched(tape.done())
}

fn pace_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let cases = vec![flood(3, 3, 0), flood(4, 3, 300), flood(30, 3, 900), flood(2, 60, 0), flood(12, 30, 1100)];
    vec![("strangers-keep-their-pace", cases)]
}

const PROVED: Duration = Duration::from_millis(20);

const WRONG: &str = "-- wrong password, try again";
const LAST: &str = "-- wrong password: connection closed";
const LATE: &str = "-- no right password within 60s: connection closed";
const HASTY: &str = "-- too many passwords tried from your address: connection closed, try again later";

/// A room with a password: #0 knows it, #1 by its second try, #2 does not, #3 and #5 go, #4 says nothing.
fn doored() -> Tape {
    let mut tape = Tape::new();
    tape.history.rules.password = Some(Password { text: "open sesame".to_owned(), takes: PROVED });
    tape.ask(0);
    tape.comes_in(0);
    tape.ask(1);
    tape.tries(1, "open barley", WRONG);
    tape.say(0, "#0.0");
    tape.comes_in(1);
    tape.ask(2);
    for answer in [WRONG, WRONG, LAST] {
        tape.tries(2, "/quit", answer);
    }
    tape.push(2, Event::ReceivedEnd);
    tape.ask(3);
    tape.push(3, Event::SentEnd);
    tape.push(3, Event::ReceivedEnd);
    tape.ask(4);
    tape.ask(5);
    tape.send(5, b"open sesam");
    tape.push(5, Event::Reset);
    tape.say(1, "#1.0");
    tape.wait(Duration::from_secs(61));
    tape.told(4, LATE);
    tape.push(4, Event::ReceivedEnd);
    tape.say(0, "open sesame");
    tape
}

/// The core has this one, too.
fn with_core(mut history: History, client: Client) -> History {
    history.healed.as_mut().expect("it has an end").core.push(client);
    history
}

/// Within TLS: #0 to #2 stay, #20 says nothing, #21 something else, and #22 goes.
fn within_tls() -> Tape {
    let mut tape = Tape::new();
    tape.knock(20);
    for client in 0..3 {
        tape.knock(client);
        tape.connect(client);
    }
    tape.say(0, "#0.0");
    tape.knock(21);
    tape.send(21, b"hello\n");
    tape.push(21, Event::Received { bytes: ALERT.to_vec() });
    tape.push(21, Event::ReceivedEnd);
    tape.knock(22);
    tape.push(22, Event::Refused);
    tape.wait(Duration::from_secs(10));
    tape.push(20, Event::ReceivedEnd);
    tape.say(1, "#1.0");
    tape
}

const ALERT: &[u8] = b"\x15\x03\x03\x00\x02\x02\x0a";

/// As the run knows it when links take no time.
fn promptly(history: History) -> Doctored {
    (history, Facts { is_prompt: true, ..awake() })
}

fn tls_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let and = |more: &dyn Fn(&mut Tape)| {
        let mut tape = within_tls();
        more(&mut tape);
        tape.done()
    };
    let told = |bytes: &[u8]| {
        plainly(and(&|tape| {
            tape.knock(23);
            tape.push(23, Event::Received { bytes: bytes.to_vec() });
            tape.push(23, Event::ReceivedEnd);
        }))
    };
    vec![
        (
            "knockers-hear-nothing",
            vec![
                told(b"Welcome 10.0.0.23:5000\n"),
                told(b"-- no TLS"),
                told(&ALERT.repeat(3)),
                told(b"\x16\x03\x03\x00\x7a"),
            ],
        ),
        (
            "knockers-are-shown-out",
            vec![
                plainly(and(&|tape| tape.knock(23))),
                plainly(and(&|tape| {
                    tape.knock(23);
                    tape.send(23, b"\x16\x03\x01");
                    tape.push(23, Event::SentEnd);
                })),
                plainly(and(&|tape| {
                    tape.knock(23);
                    tape.wait(Duration::from_secs(16));
                    tape.push(23, Event::ReceivedEnd);
                })),
            ],
        ),
        (
            "handshakes-delay-nobody",
            vec![
                promptly(and(&|tape| {
                    tape.knock(3);
                    tape.wait(Duration::from_millis(100));
                    tape.connect(3);
                })),
                promptly(and(&|tape| {
                    for client in [23, 3] {
                        tape.knock(client);
                    }
                    tape.wait(Duration::from_secs(10));
                    tape.push(23, Event::ReceivedEnd);
                    tape.connect(3);
                })),
                promptly({
                    let mut tape = Tape::new();
                    tape.history.rules.password = Some(Password { text: "x".to_owned(), takes: PROVED });
                    tape.knock(0);
                    tape.wait(Duration::from_secs(1));
                    tape.ask(0);
                    tape.done()
                }),
            ],
        ),
    ]
}

#[test]
fn good_handshakes_are_accepted() {
    let good = within_tls().done();
    assert_good(&good, &Facts::default());
    assert_good(&good, &promptly(good.clone()).1);
    // Whoever is held has time, and so has everyone while the clocks jump.
    let mut tape = within_tls();
    tape.knock(23);
    tape.push(23, Event::Pause);
    assert_good(&tape.done(), &Facts::default());
    let mut tape = within_tls();
    tape.knock(23);
    let from = tape.now;
    tape.wait(Duration::from_secs(70));
    let jumps = vec![(from, tape.now)];
    tape.push(23, Event::ReceivedEnd);
    assert_good(&tape.done(), &Facts { jumps, ..Facts::default() });
}

/// They all come from one address.
fn from_one_address(history: History) -> History {
    from_elsewhere(history, |text| {
        (20..40).fold(text.to_owned(), |text, of| text.replace(&address(of), &format!("10.0.0.9:50{of}")))
    })
}

/// Some come from other addresses, wherever these stand.
fn from_elsewhere(mut history: History, there: impl Fn(&str) -> String) -> History {
    for record in &mut history.records {
        match &mut record.event {
            Event::Connected { address } => *address = there(address),
            Event::Received { bytes } => *bytes = there(&String::from_utf8_lossy(bytes)).into_bytes(),
            _ => {}
        }
    }
    history
}

/// Somebody guesses so, from connections of one address.
fn guesses(connections: usize, answers: &[&str], is_right: bool) -> History {
    let mut tape = doored();
    for client in 20..20 + connections {
        tape.ask(client);
        for answer in answers {
            tape.tries(client, "sesame", answer);
        }
        if is_right {
            tape.comes_in(client);
        }
    }
    from_one_address(tape.done())
}

fn doored_and(more: impl Fn(&mut Tape)) -> History {
    let mut tape = doored();
    more(&mut tape);
    tape.done()
}

fn door_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let ask = "-- password, please";
    let there = || doored().done();
    vec![
        (
            "asked-first",
            vec![
                plainly(without(there(), 0, ask)),
                plainly(instead(there(), 4, ask, &[ask, ask])),
                plainly(instead(there(), 1, "10.0.0.1:5000: #1.0", &["10.0.0.1:5000: #1.0", WRONG])),
                plainly(instead(good(), 3, "10.0.0.0:5000: #0.1", &[ask, "10.0.0.0:5000: #0.1"])),
            ],
        ),
        (
            "asked-see-nothing",
            vec![
                plainly(instead(there(), 1, WRONG, &[WRONG, "10.0.0.0:5000: #0.0"])),
                plainly(instead(there(), 4, ask, &[ask, "-- missed 1 lines"])),
                plainly(instead(there(), 2, LAST, &["10.0.0.1:5000 joined", LAST])),
            ],
        ),
        (
            "each-try-is-answered",
            vec![
                plainly(without(there(), 1, WRONG)),
                plainly(instead(there(), 2, LAST, &[WRONG])),
                plainly(instead(there(), 2, WRONG, &[LAST])),
                plainly(instead(there(), 2, LAST, &[LAST, LAST])),
                plainly(instead(there(), 4, LATE, &[WRONG])),
            ],
        ),
        (
            "only-the-right-come-in",
            vec![
                plainly(doored_and(|tape| {
                    tape.ask(6);
                    tape.tries(6, "open barley", WRONG);
                    tape.let_in(6);
                })),
                plainly(doored_and(|tape| {
                    tape.ask(6);
                    tape.let_in(6);
                    tape.send(6, b"open sesame\n");
                })),
                plainly(doored_and(|tape| {
                    tape.ask(6);
                    for _ in 0..3 {
                        tape.tries(6, "", WRONG);
                    }
                    tape.comes_in(6);
                })),
                plainly(doored_and(|tape| {
                    tape.ask(6);
                    tape.send(6, b"open sesame");
                    tape.let_in(6);
                })),
            ],
        ),
    ]
}

fn try_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    vec![
        (
            "the-right-come-in",
            vec![
                plainly(doored_and(|tape| {
                    tape.ask(6);
                    tape.tries(6, "open sesame", WRONG);
                    tape.push(6, Event::Reset);
                })),
                plainly(doored_and(|tape| {
                    tape.ask(6);
                    tape.tries(6, "open sesame", HASTY);
                    tape.push(6, Event::ReceivedEnd);
                })),
                plainly(doored_and(|tape| {
                    tape.ask(6);
                    tape.wait(Duration::from_secs(59));
                    tape.told(6, LATE);
                    tape.push(6, Event::ReceivedEnd);
                })),
                watched(doored_and(|tape| {
                    tape.ask(6);
                    tape.send(6, b"open sesame\n");
                    tape.wait(Duration::from_secs(61));
                    tape.told(6, LATE);
                    tape.push(6, Event::ReceivedEnd);
                })),
                plainly(with_core(
                    doored_and(|tape| {
                        tape.ask(6);
                        tape.send(6, b"open sesame\n");
                    }),
                    6,
                )),
            ],
        ),
        (
            "tries-delay-nobody",
            vec![
                watched(doored_and(|tape| {
                    tape.ask(6);
                    tape.send(6, b"open sesame\n");
                    tape.wait(Duration::from_millis(200));
                    tape.let_in(6);
                })),
                watched(doored_and(|tape| {
                    tape.ask(6);
                    tape.send(6, b"x\n");
                    tape.wait(Duration::from_secs(1));
                    tape.told(6, WRONG);
                    tape.comes_in(6);
                })),
                watched(doored_and(|tape| {
                    tape.ask(6);
                    tape.send(6, b"x\ny\nz\n");
                    for (ms, answer) in [(20, WRONG), (20, WRONG), (300, LAST)] {
                        tape.wait(Duration::from_millis(ms));
                        tape.told(6, answer);
                    }
                    tape.push(6, Event::ReceivedEnd);
                })),
            ],
        ),
        (
            "tries-keep-their-pace",
            vec![
                plainly(guesses(14, &[], true)),
                plainly(guesses(5, &[WRONG, WRONG, LAST], false)),
                plainly(guesses(7, &[WRONG], true)),
            ],
        ),
        (
            "the-silent-are-turned-away",
            vec![
                plainly(with_core(doored_and(|tape| tape.ask(6)), 6)),
                plainly(with_core(
                    doored_and(|tape| {
                        tape.ask(6);
                        tape.tries(6, "x", WRONG);
                    }),
                    6,
                )),
                plainly(with_core(
                    doored_and(|tape| {
                        tape.ask(6);
                        tape.send(6, b"open ");
                    }),
                    6,
                )),
            ],
        ),
    ]
}

#[test]
fn good_doors_are_accepted() {
    let history = doored().done();
    assert_good(&history, &Facts::default());
    assert_good(&history, &awake());
    let order = judge(&history).expect("it is good");
    assert_eq!(order.said_by(0).collect::<Vec<_>>(), [&b"#0.0"[..], b"open sesame"]);
    // As many as may be at once, and then one a second.
    assert_good(&guesses(10, &[], true), &Facts::default());
    assert_good(&guesses(3, &[WRONG, WRONG, LAST], false), &Facts::default());
    let history = doored_and(|tape| {
        // What it says at once, in pieces, with its end; and what is too long.
        tape.ask(6);
        for piece in ["op", "en sesame\r", "\n#6.0\n#6.1"] {
            tape.send(6, piece.as_bytes());
        }
        tape.wait(PROVED);
        tape.let_in(6);
        tape.said(6, "#6.0");
        tape.push(6, Event::SentEnd);
        tape.said(6, "#6.1");
        tape.leave(6);
        tape.ask(7);
        tape.send(7, b"open sesame");
        tape.push(7, Event::SentEnd);
        tape.wait(PROVED);
        tape.let_in(7);
        tape.leave(7);
        tape.ask(8);
        tape.tries(8, &"x".repeat(70), WRONG);
        // Refused before it has ended.
        tape.send(8, &[b'x'; 65]);
        tape.wait(PROVED);
        tape.told(8, WRONG);
        tape.keep(Keeping::Removed { client: 8 });
        tape.told(8, "-- you were removed");
        tape.push(8, Event::ReceivedEnd);
    });
    assert_good(&history, &awake());
    // The server ends while somebody is asked.
    let mut tape = doored();
    tape.ask(6);
    tape.wait(MILLISECOND);
    tape.history.server.push((tape.now, ServerEvent::Stopping));
    tape.told(6, "-- server is stopping");
    tape.push(6, Event::ReceivedEnd);
    tape.stop();
    tape.history.server.remove(tape.history.server.len() - 2);
    assert_good(&tape.history, &awake());
}

/// Somebody keeps the room: says something three times, removes #4 that has lines to come, and #3 with its host, from which then nobody
/// comes for a while.
fn kept() -> Tape {
    let mut tape = Tape::new();
    for client in 0..5 {
        tape.connect(client);
    }
    tape.announce("one");
    tape.say(0, "#0.0");
    tape.announce("two");
    tape.rename(2, "carol");
    tape.pause(4);
    tape.say(0, "#0.1");
    tape.say(4, "#4.0");
    tape.kick(4);
    tape.say(1, "#1.0");
    tape.announce("three");
    tape.ban(3);
    tape.say(0, "#0.2");
    tape.turned_away(13, "-- connections from your address are not let in here");
    tape.keep(Keeping::Lifted { ip: ip(3) });
    tape.say(0, "#0.3");
    tape
}

/// As [`kept`], but #13 comes from the same host as #3.
fn keep() -> History {
    of_one_host(kept().done())
}

fn of_one_host(history: History) -> History {
    from_elsewhere(history, |text| text.replace("10.0.0.13:5000", "10.0.0.3:15000"))
}

/// Without what whoever keeps the server did so.
fn unkept(mut history: History, is_it: impl Fn(&Keeping) -> bool) -> History {
    history.keeping.retain(|(_, what)| !is_it(what));
    history
}

fn keeper_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let removed = "-- you were removed";
    let is_of =
        |text: &'static str| move |what: &Keeping| matches!(what, Keeping::Announced { text: of } if of == text);
    vec![
        (
            "announcements-are-the-keepers",
            vec![
                plainly(instead_for_all(keep(), "-! two", &["-! two", "-! two"])),
                plainly(instead_for_all(keep(), "-! two", &["-! tow"])),
                plainly(unkept(keep(), is_of("three"))),
                plainly({
                    // It was said before it was to be.
                    let mut history = keep();
                    let two = history.keeping.iter_mut().find(|(_, what)| is_of("two")(what)).expect("it is there");
                    two.0 += Duration::from_secs(1);
                    history
                }),
            ],
        ),
        (
            "announcements-keep-their-order",
            vec![
                plainly(instead_for_all(keep(), "-! two", &[])),
                plainly({
                    let mut tape = kept();
                    for text in ["four", "five"] {
                        tape.keep(Keeping::Announced { text: text.to_owned() });
                    }
                    tape.tell("-! five", None);
                    tape.tell("-! four", None);
                    of_one_host(tape.done())
                }),
                plainly({
                    // Another was to be said, a moment before.
                    let mut history = keep();
                    let three = history.keeping.iter().position(|(_, what)| is_of("three")(what)).expect("it is there");
                    let other = Keeping::Announced { text: "other".to_owned() };
                    history.keeping.insert(three, (history.keeping[three].0, other));
                    history
                }),
            ],
        ),
        (
            "announcements-come-to-all",
            vec![
                plainly(instead_for_all(keep(), "-! three", &[])),
                plainly(instead_for_all(instead_for_all(keep(), "-! two", &[]), "-! three", &[])),
                plainly({
                    let mut tape = kept();
                    tape.keep(Keeping::Announced { text: "four".to_owned() });
                    tape.done()
                }),
            ],
        ),
        (
            "removed-hear-why-last",
            vec![
                plainly(without(keep(), 3, removed)),
                plainly(instead(keep(), 3, removed, &[removed, "10.0.0.0:5000: #0.2"])),
                plainly(instead(keep(), 4, removed, &[removed, removed])),
                plainly({
                    let mut tape = kept();
                    tape.end(1);
                    let history = tape.done();
                    instead(history, 1, "10.0.0.0:5000: #0.3", &["10.0.0.0:5000: #0.3", removed])
                }),
                plainly(unkept(keep(), |what| matches!(what, Keeping::Removed { client: 4 }))),
            ],
        ),
        (
            "removed-depart-at-once",
            vec![
                plainly(instead_for_all(keep(), "10.0.0.4:5000 left", &[])),
                plainly(instead_for_all(keep(), "10.0.0.3:5000 left", &[])),
                watched({
                    let mut tape = kept();
                    tape.connect(5);
                    tape.keep(Keeping::Removed { client: 5 });
                    tape.wait(Duration::from_secs(1));
                    tape.part(5);
                    tape.done()
                }),
            ],
        ),
        (
            "banned-stay-out",
            vec![
                plainly(of_one_host({
                    let mut tape = kept();
                    tape.ban(3);
                    tape.connect(13);
                    let mut history = tape.done();
                    // It was refused the first time.
                    let first = history.records.iter().position(|record| record.client == 13).expect("it came");
                    history.records.drain(first..first + 3);
                    history
                })),
                plainly(kept().done()),
                plainly(unkept(keep(), |what| matches!(what, Keeping::Banned { .. }))),
            ],
        ),
    ]
}

#[test]
fn good_keeping_is_accepted() {
    let history = keep();
    assert_good(&history, &Facts::default());
    assert_good(&history, &awake());
    let order = judge(&history).expect("it is good");
    assert_eq!(order.counts().get("announcements"), Some(&3));
    // What is said to all is cleaned, and looks like nobody's line.
    let mut tape = kept();
    tape.keep(Keeping::Announced { text: "10.0.0.1:5000: \u{1b}".to_owned() });
    tape.tell("-! 10.0.0.1:5000: \u{241b}", None);
    // One that is too long is not said.
    tape.keep(Keeping::Announced { text: "x".repeat(65) });
    // Who was on its way in is told and nothing else; who breaks, or has half a line, is not told.
    tape.push(6, Event::Connected { address: address(6) });
    tape.keep(Keeping::Removed { client: 6 });
    tape.told(6, "-- you were removed");
    tape.push(6, Event::ReceivedEnd);
    for client in [7, 8] {
        tape.connect(client);
        tape.keep(Keeping::Removed { client });
        tape.depart(client);
        tape.members.remove(&client);
    }
    tape.push(7, Event::Received { bytes: b"10.0.0.0:5".to_vec() });
    tape.push(7, Event::ReceivedEnd);
    tape.push(8, Event::ReceivedError { kind: "reset".to_owned() });
    assert_good(&of_one_host(tape.done()), &Facts::default());
}

/// Members are guests: #0 to #2 stay, #3 goes, #4 breaks and comes back as #14; one takes a name, and one asks for another's number.
fn guests() -> Tape {
    let mut tape = Tape::of_guests();
    for client in 0..3 {
        tape.connect(client);
    }
    tape.say(0, "#0.0");
    tape.say(1, "10.0.0.0:5000: is my number");
    tape.rename(2, "carol");
    tape.send(2, b"/name guest-1\n");
    tape.told(2, "-- name refused: this name would look like one that the server gives to who has none");
    tape.connect(3);
    tape.say(3, "#3.0");
    tape.end(3);
    tape.connect(4);
    tape.say(4, "#4.0");
    tape.reset(4);
    tape.announce("10.0.0.9:1 is where I am");
    tape.connect(14);
    tape.say(14, "#14.0");
    tape.say(2, "#2.0");
    tape
}

/// As [`guests`], with one who broke before it had read its number.
fn guest_unread() -> Doctored {
    let mut history = guests().done();
    let at = find(&history, 4, "Welcome guest-5");
    history.records.drain(at..=at);
    history.records.retain(|record| record.client != 4 || !matches!(record.event, Event::Received { .. }));
    (history, Facts { guests: BTreeMap::from([(4, 5)]), ..Facts::default() })
}

fn guest_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let answered = |lines: &[&str]| {
        let mut tape = guests();
        tape.send(0, b"/who\n");
        for line in lines {
            tape.told(0, line);
        }
        plainly(tape.done())
    };
    vec![
        (
            "one-guest-one-number",
            vec![
                // One who is there, one who has left, and one who broke.
                plainly(instead(guests().done(), 3, "Welcome guest-4", &["Welcome guest-1"])),
                plainly(instead(guests().done(), 4, "Welcome guest-5", &["Welcome guest-4"])),
                plainly({
                    let mut tape = guests();
                    tape.guests = Some(4);
                    tape.connect(5);
                    tape.say(5, "#5.0");
                    tape.done()
                }),
                plainly({
                    // One who has another name by now.
                    let mut tape = guests();
                    tape.guests = Some(2);
                    tape.connect(5);
                    tape.done()
                }),
            ],
        ),
        (
            "guests-show-no-address",
            vec![
                plainly(instead(guests().done(), 3, "Welcome guest-4", &["Welcome 10.0.0.3:5000"])),
                plainly(instead_for_all(guests().done(), "guest-4 joined", &["10.0.0.3:5000 joined"])),
                plainly(instead_for_all(guests().done(), "guest-5: #4.0", &["10.0.0.4:5000: #4.0"])),
                plainly(instead_for_all(guests().done(), "guest-5 left", &["10.0.0.4 left"])),
                plainly(instead_for_all(guests().done(), "guest-3 is now carol", &["[2001:db8::2]:5000 is now carol"])),
                answered(&["-- 2 here", "--   guest-1", "--   10.0.0.1:5000"]),
            ],
        ),
    ]
}

#[test]
fn good_guests_are_accepted() {
    let good = guests().done();
    assert_good(&good, &Facts::default());
    let (unread, facts) = guest_unread();
    assert_good(&unread, &facts);
    // Without its number nobody knows who that was.
    let wrong = judge(&unread).expect_err("a stranger");
    assert!(wrong.iter().any(|wrong| wrong.invariant == "strangers-are-told-to-nobody"), "{wrong:?}");
    // A number is another's in another life.
    let mut tape = guests();
    tape.crash();
    tape.guests = Some(0);
    for client in 20..24 {
        tape.connect(client);
        tape.say(client, "again");
    }
    assert_good(&tape.done(), &Facts::default());
    // Those who are counted have their numbers, too.
    let mut tape = Tape::with_budget(1);
    tape.history.rules.wire.who = Who::Guest;
    tape.guests = Some(0);
    (0..6).for_each(|client| tape.connect(client));
    tape.period();
    tape.say(4, "#4.0");
    tape.end(3);
    tape.rename(5, "eve");
    assert_good(&tape.done(), &awake());
    // Where no guests are, nobody is welcomed as one.
    let wrong = judge(&instead(self::good(), 3, "Welcome 10.0.0.3:5000", &["Welcome guest-4"])).expect_err("no guest");
    assert!(wrong.iter().any(|wrong| wrong.invariant == "welcome-first"), "{wrong:?}");
    for who in ["guest-", "guest-04", "guest-+4", "guest-x", "bob"] {
        let wrong = judge(&instead(good.clone(), 3, "Welcome guest-4", &[&format!("Welcome {who}")])).expect_err(who);
        assert!(wrong.iter().any(|wrong| wrong.invariant == "welcome-first"), "{who}: {wrong:?}");
    }
}

const TOO_FAST: &str = "-- connecting too fast: at most 1 a second from each address, try again later";

/// Whether somebody comes in, how long after the one before, from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    In(u64),
    /// In, or it was refused, but it broke before it heard which.
    Unheard(u64),
    Full(u64),
    Banned(u64),
    Hasty(u64),
}

/// They come from one address, from which two may at once, and one a second. What there is elsewhere does not matter.
fn haste(comes: &[Comes]) -> Doctored {
    let mut tape = Tape::new();
    tape.history.rules.limits.connect_rate = Some(Rate { burst: 2, per_second: 1 });
    tape.connect(0);
    tape.wait(Duration::from_secs(10));
    for (client, what) in (20..).zip(comes) {
        let (Comes::In(ms) | Comes::Unheard(ms) | Comes::Full(ms) | Comes::Banned(ms) | Comes::Hasty(ms)) = what;
        // It takes a ms to come, and one to be told.
        tape.wait(Duration::from_millis(*ms));
        match what {
            Comes::In(_) => tape.connect(client),
            Comes::Unheard(_) => {
                tape.push(client, Event::Connected { address: address(client) });
                tape.push(client, Event::Reset);
            }
            Comes::Full(_) => tape.turned_away(client, "-- server full: at most 6 connections, try again later"),
            Comes::Banned(_) => {
                let there = "10.0.0.9".parse().expect("an address");
                tape.history.keeping.push((tape.now, Keeping::Banned { ip: there }));
                tape.wait(MILLISECOND);
                tape.turned_away(client, "-- connections from your address are not let in here");
                tape.history.keeping.push((tape.now, Keeping::Lifted { ip: there }));
            }
            Comes::Hasty(_) => tape.turned_away(client, TOO_FAST),
        }
    }
    let history = from_one_address(tape.done());
    let came = history.records.iter().filter_map(|record| match &record.event {
        Event::Connected { address } => {
            let ip = address.parse::<SocketAddr>().expect("an address").ip();
            Some(Came { at: record.at, ip, client: record.client })
        }
        _ => None,
    });
    let facts = Facts { came: came.collect(), ..Facts::default() };
    (history, facts)
}

/// As [`haste`], where those who come are trusted.
fn haste_of_the_trusted(comes: &[Comes]) -> Doctored {
    let (mut history, facts) = haste(comes);
    history.rules.limits.trusted = vec!["10.0.0.9/32".parse().expect("a prefix")];
    (history, facts)
}

fn haste_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    use Comes::{Banned, Full, Hasty, In, Unheard};
    vec![
        (
            "only-the-hasty-are-refused",
            vec![
                haste(&[In(0), Hasty(0)]),
                haste(&[In(0), In(0), Hasty(1100)]),
                haste(&[Banned(0), In(0), Hasty(0)]),
                haste(&[In(0), Unheard(0), In(1100), Hasty(1100)]),
                // Who is refused does not count.
                haste(&[In(0), In(0), Hasty(0), Hasty(0), Hasty(0), Hasty(1100)]),
                haste_of_the_trusted(&[In(0), In(0), Hasty(0)]),
                {
                    let (mut history, facts) = haste(&[In(0), In(0), Hasty(0)]);
                    history.rules.limits.connect_rate = None;
                    (history, facts)
                },
                {
                    // There were so many, but from elsewhere.
                    let (mut history, mut facts) = haste(&[In(0), In(0), Hasty(0)]);
                    history = from_elsewhere(history, |text| text.replace("10.0.0.9:5020", "10.0.0.8:5020"));
                    let first = facts.came.iter_mut().find(|came| came.client == 20).expect("it came");
                    first.ip = "10.0.0.8".parse().expect("an address");
                    (history, facts)
                },
            ],
        ),
        (
            "newcomers-keep-their-rate",
            vec![
                haste(&[In(0), In(0), In(0)]),
                haste(&[In(0), In(0), In(900)]),
                haste(&[In(0), Full(0), In(0)]),
                haste(&[
                    In(0),
                    In(900),
                    In(900),
                    In(900),
                    In(900),
                    In(900),
                    In(900),
                    In(900),
                    In(900),
                    In(900),
                    In(700),
                ]),
                haste(&[In(0), In(0), Hasty(0), In(0)]),
            ],
        ),
    ]
}

#[test]
fn good_rates_are_accepted() {
    use Comes::{Banned, Full, Hasty, In, Unheard};
    for good in [
        haste(&[In(0), In(0), Hasty(0), Hasty(900), In(100), Hasty(0)]),
        haste(&[In(0), Full(0), Hasty(0), In(1000)]),
        haste(&[Banned(0), In(0), In(0), Hasty(0)]),
        // Of who never heard it nobody knows whether it came in.
        haste(&[In(0), Unheard(0), Hasty(0)]),
        haste(&[In(0), Unheard(0), In(0)]),
        haste(&[In(0); 1]),
        haste(&[In(1000); 12]),
        haste_of_the_trusted(&[In(0); 12]),
    ] {
        assert_good(&good.0, &good.1);
    }
    // Where nobody limits it, they come as they like.
    let (mut history, facts) = haste(&[In(0); 12]);
    history.rules.limits.connect_rate = None;
    assert_good(&history, &facts);
    // Whoever is trusted is told of by name, though all others are counted.
    let mut tape = Tape::with_budget(0);
    tape.history.rules.limits.trusted =
        vec!["10.0.0.0/32".parse().expect("a prefix"), "10.0.0.9/32".parse().expect("one")];
    tape.connect(1);
    for client in [0, 9] {
        tape.turn_if_due();
        tape.push(client, Event::Connected { address: address(client) });
        tape.tell(&format!("{} joined", address(client)), None);
        tape.told(client, &format!("Welcome {}", address(client)));
        let known = Known::ByName;
        let who = address(client);
        let member = Member { who, known, due: Vec::new(), missed: 0, is_reading: true, has_left: false };
        tape.members.insert(client, member);
        tape.connect(2 + client);
    }
    tape.say(0, "#0.0");
    tape.end(9);
    let history = tape.done();
    assert_good(&history, &Facts::default());
    assert_good(&history, &awake());
}

fn all_cases() -> Vec<(&'static str, Vec<Doctored>)> {
    let laws = [order_cases(), truth_cases(), bracket_cases(), end_cases(), number_cases()];
    [
        laws.concat(),
        quiet_cases(),
        gone_cases(),
        tally_cases(),
        crowd_cases(),
        budget_cases(),
        pace_cases(),
        keeper_cases(),
        door_cases(),
        try_cases(),
        tls_cases(),
        guest_cases(),
        haste_cases(),
    ]
    .concat()
}

#[test]
fn doctored_histories_are_rejected_by_name() {
    let mut silent = Vec::new();
    for (invariant, doctored) in all_cases() {
        for (number, (history, facts)) in doctored.iter().enumerate() {
            let wrong = judge_with(history, facts).err().unwrap_or_default();
            if !wrong.iter().any(|violation| violation.invariant == invariant) {
                let found: Vec<String> = wrong.iter().map(ToString::to_string).collect();
                silent.push(format!("{invariant}, case {number}: {found:#?}"));
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn each_invariant_has_three_doctored_histories_and_each_law_an_invariant() {
    let cases: BTreeMap<&str, usize> = all_cases().iter().map(|(invariant, cases)| (*invariant, cases.len())).collect();
    let known: BTreeSet<&str> = INVARIANTS.iter().map(|(invariant, _)| *invariant).collect();
    assert_eq!(cases.keys().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(known.len(), INVARIANTS.len(), "names are unique");
    assert!(cases.values().all(|count| *count >= 3), "{cases:?}");
    let laws: BTreeSet<Law> = INVARIANTS.iter().map(|(_, law)| *law).collect();
    assert_eq!(laws.len(), 9);
}

#[track_caller]
fn assert_good(history: &History, facts: &Facts) {
    if let Err(wrong) = judge_with(history, facts) {
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        panic!("{}", wrong.join("\n"));
    }
}

#[test]
fn good_company_is_accepted_and_its_order_rebuilt() {
    let history = good();
    assert_good(&history, &Facts::default());
    let order = judge(&history).expect("it is good");
    assert_eq!(order.said_by(1).collect::<Vec<_>>(), [&b"#1.0"[..], b"", b"#1.1", b"", b"#1.2"]);
    assert_eq!(order.said_by(3).collect::<Vec<_>>(), ["#3.0 \u{241B}".as_bytes(), b"#3.1"]);
    assert_eq!(order.said_by(4).collect::<Vec<_>>(), [b"#4.0"]);
    let counts = order.counts();
    let counts = ["said", "arrivals", "departures", "names", "unseen"].map(|what| counts.get(what).copied());
    assert_eq!(counts, [Some(16), Some(6), Some(2), Some(1), None]);
    assert_eq!(order.entries[0].what, What::Arrival);
    assert_eq!(order.entries[0].client, Some(0));
}

#[test]
fn good_endings_are_accepted() {
    let mut tapes = vec![Tape::new(), company()];
    // Everyone leaves, one by one; the last is alone.
    let mut tape = company();
    for client in [5, 0, 2, 1] {
        tape.end(client);
    }
    tapes.push(tape);
    // By command, and what follows that is not said.
    let mut tape = company();
    tape.send(1, b"#1.3\r\n/QUIT \nnever\n");
    tape.said(1, "#1.3");
    tape.leave(1);
    tapes.push(tape);
    // Two lives, with the same addresses.
    let mut tape = company();
    tape.send(1, b"unsaid\n");
    tape.crash();
    tape.connect(11);
    tape.say(11, "#1.0");
    tape.connect(12);
    tape.rename(12, "carol");
    tapes.push(tape);
    // Nobody saw what came between.
    let mut tape = Tape::new();
    tape.connect(0);
    tape.say(0, "#0.0");
    tape.end(0);
    tape.connect(1);
    tape.say(1, "#1.0");
    tapes.push(tape);
    // Refused, and refused later.
    let mut tape = company();
    tape.push(6, Event::Refused);
    tape.push(7, Event::Connected { address: address(7) });
    tape.told(7, "-- server full: at most 6 connections, try again later");
    tape.push(7, Event::ReceivedEnd);
    tapes.push(tape);
    // Commands, what is too long, and names that were not to be had.
    let mut tape = company();
    tape.send(1, b"/who\n/name carol\n//slash\n");
    tape.told(1, "-- 4 here");
    tape.told(1, "--   carol");
    tape.told(1, "-- name carol is taken, or too much like another's: choose another");
    tape.said(1, "/slash");
    tape.send(1, &[&[b'x'; 65][..], b"\r\n", &[b'y'; 64], b"\r\n"].concat());
    tape.told(1, "-- line too long, not said: at most 64 bytes");
    tape.said(1, &"y".repeat(64));
    tapes.push(tape);
    // All missed it: nobody knows what it was, and the order has a place for it.
    let mut tape = company();
    for client in [0, 1, 2, 5] {
        tape.pause(client);
    }
    tape.say(0, "unseen");
    tape.say(1, "");
    tape.rename(1, "ghost");
    for client in [0, 1, 2, 5] {
        tape.let_go(client);
    }
    tape.say(1, "from the ghost");
    for client in [0, 1, 2, 5] {
        tape.resume(client);
    }
    tapes.push(tape);
    for tape in tapes {
        assert_good(&tape.done(), &Facts::default());
    }
}

#[test]
fn who_takes_nothing_while_the_clocks_jump_has_not_stalled() {
    let mut tape = company();
    tape.pause(0);
    (0..40).for_each(|number| tape.say(1, &format!("#{number} to be read")));
    let jump = tape.now;
    tape.wait(2 * tape.history.rules.limits.stall);
    let jump = (jump, tape.now);
    tape.resume(0);
    let mut history = tape.done();
    history.healed.as_mut().expect("healed").core.retain(|core| *core != 0);
    history.records.retain(|record| record.client != 0 || record.event != Event::ReceivedEnd);
    let facts = Facts { buffers_bytes: 100, ..Facts::default() };
    let broken = judge_with(&history, &facts).expect_err("it did not jump");
    assert_eq!(broken[0].invariant, "the-stalled-are-closed");
    assert_good(&history, &Facts { jumps: vec![jump], ..facts });
}

#[test]
fn good_paces_are_accepted() {
    for (history, facts) in [flood(2, 10, 0), flood(20, 3, 1000), flood(20, 19, 1000), flood(1, 64, 0)] {
        assert_good(&history, &facts);
    }
    // Of one who is no stranger nothing is asked, and nothing where nobody saw when it was said.
    let (history, facts) = flood(20, 10, 0);
    assert_good(&history, &Facts::default());
    let mut trusting = history;
    trusting.rules.limits.trusted.push("10.0.0.0/24".parse().expect("a prefix"));
    assert_good(&trusting, &facts);
}

#[test]
fn good_wires_are_accepted() {
    for (plain, raw) in [(true, false), (false, true), (true, true)] {
        let mut tape = Tape::new();
        tape.history.rules.wire = Wire { lang: Lang::En, plain, raw, ..Wire::default() };
        tape.connect(0);
        tape.connect(1);
        tape.send(0, if raw { b"\xEF\xBB\xBF\x1B\n" } else { b"\xEF\xBB\xBF\x1B\xFF\n" });
        tape.said(0, if raw { "\u{FEFF}\u{1B}" } else { "\u{241B}\u{FFFD}" });
        tape.send(1, b"//who\n");
        tape.said(1, if plain { "//who" } else { "/who" });
        tape.heal();
        assert_good(&tape.history, &Facts::default());
    }
    let mut tape = Tape::new();
    tape.history.rules.wire.lang = Lang::Zh;
    for (client, line) in [(0, "欢迎 10.0.0.0:5000"), (1, "欢迎 10.0.0.1:5000")] {
        tape.push(client, Event::Connected { address: address(client) });
        tape.told(client, line);
    }
    tape.told(0, "10.0.0.1:5000 上线");
    tape.send(1, "/name 爱丽丝\n嗨\n".as_bytes());
    for client in [0, 1] {
        tape.told(client, "10.0.0.1:5000 改名 爱丽丝");
        tape.told(client, "爱丽丝: 嗨");
    }
    tape.push(1, Event::Reset);
    tape.told(0, "爱丽丝 下线");
    assert_good(&tape.history, &Facts::default());
}

#[test]
fn good_numbers_are_accepted() {
    let mut tape = roomy(company());
    for said_bytes in [0, 300_000, 600_000] {
        tape.wait(Duration::from_secs(5));
        tape.sample();
        let sample = tape.history.samples.last_mut().expect("just taken");
        (sample.said_bytes, sample.held_bytes) = (said_bytes, 70_000);
    }
    assert_eq!(judge_patience(&tape.history, &[(Duration::ZERO, tape.now)]), []);
    let (steady, awake) = (vec![0, 1, 2], vec![0, 1, 2, 3]);
    let facts = Facts { demand: vec![(Duration::ZERO, tape.now)], steady, awake, ..Facts::default() };
    let mut history = tape.history;
    history.rules.limits.backlog_bytes = 60_000;
    history.rules.limits.line_bytes_max = 5_000;
    assert_good(&history, &facts);
}

/// A plain generator: the same numbers everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// What of [`random_tape`] lets a reader go.
const LET_GO: usize = 5;

/// Anything may happen, but some of it.
fn random_tape(seed: u64, steps: usize, but: &[usize], announcements: Option<usize>) -> Tape {
    let mut chance = Chance(seed);
    let mut tape = announcements.map_or_else(Tape::new, Tape::with_budget);
    let churns = announcements.is_some();
    let mut next = 0;
    for step in 0..steps {
        let here: Vec<Client> =
            tape.members.iter().filter(|(_, member)| !member.has_left).map(|(client, _)| *client).collect();
        let what = Some(chance.below(40)).filter(|what| !but.contains(what)).unwrap_or(40);
        if here.is_empty() || (what == 0 || churns && (12..16).contains(&what)) && next < 200 {
            tape.connect(next);
            next += 1;
            continue;
        }
        let client = here[chance.below(here.len())];
        match what {
            1 => tape.rename(client, &format!("name{step}")),
            16 if churns => tape.wait(Duration::from_millis(chance.below(900) as u64)),
            17..20 if churns && here.len() > 2 => tape.end(client),
            20..22 if churns && here.len() > 2 => tape.reset(client),
            2 if here.len() > 2 => tape.end(client),
            3 if here.len() > 2 => tape.reset(client),
            4 => tape.pause(client),
            LET_GO => tape.let_go(client),
            6..=9 => {
                let paused = here.iter().find(|client| !tape.members[client].is_reading);
                if let Some(&client) = paused {
                    tape.resume(client);
                }
            }
            10 => tape.say(client, ""),
            11 => tape.say(client, "again"),
            _ => tape.say(client, &format!("#{client}.{step}")),
        }
    }
    for client in tape.members.keys().copied().collect::<Vec<_>>() {
        if !tape.members[&client].is_reading {
            tape.resume(client);
        }
    }
    tape
}

#[test]
fn random_good_histories_are_accepted() {
    for seed in 0..300 {
        assert_good(&random_tape(seed, 200, &[], None).done(), &Facts::default());
    }
}

/// How many names a period of the crowd of this seed has.
fn names_of(seed: u64) -> usize {
    usize::try_from(seed % 5).expect("small")
}

#[test]
fn random_good_crowds_are_accepted() {
    for seed in 0..600 {
        assert_good(&random_tape(seed, 200, &[], Some(names_of(seed))).done(), &Facts::default());
    }
}

#[test]
fn good_crowds_are_accepted() {
    let mut counts = crowd().done();
    assert_good(&counts, &Facts::default());
    assert_good(&counts, &awake());
    let order = judge(&counts).expect("it is good");
    let of = order.counts();
    let of = ["said", "arrivals", "introductions", "departures", "counts", "names", "unseen"]
        .map(|what| of.get(what).copied().unwrap_or_default());
    assert_eq!(of, [7, 3, 3, 1, 4, 2, 0]);
    // In Chinese.
    counts.rules.wire.lang = Lang::Zh;
    for record in &mut counts.records {
        let Event::Received { bytes } = &mut record.event else { continue };
        let line = String::from_utf8(std::mem::take(bytes)).expect("it is text");
        let line =
            match line.trim_end().split_once(" joined, ").map(|(joined, left)| (joined, left.strip_suffix(" left"))) {
                Some((joined, Some(left))) => format!("{joined} 人上线，{left} 人下线\n"),
                _ => line
                    .replace("Welcome ", "欢迎 ")
                    .replace(" joined\n", " 上线\n")
                    .replace(" left\n", " 下线\n")
                    .replace(" is here\n", " 在场\n")
                    .replace(" is now ", " 改名 ")
                    .replace("-- server is stopping", "-- 服务器即将停止"),
            };
        *bytes = line.into_bytes();
    }
    assert_good(&counts, &awake());
    // Nobody ever says anything, and all are counted.
    let mut tape = Tape::with_budget(0);
    for client in 0..12 {
        tape.connect(client);
        if client % 3 == 2 {
            tape.period();
            tape.end(client - 1);
        }
    }
    assert_good(&tape.done(), &awake());
    // All missed its new name, and that it was here.
    let mut tape = crowd();
    tape.period();
    let here: Vec<Client> = tape.members.keys().copied().collect();
    for &client in &here {
        tape.pause(client);
    }
    tape.rename(9, "ivan");
    tape.say(0, "#0.2");
    for &client in &here {
        tape.let_go(client);
    }
    for &client in &here {
        tape.resume(client);
    }
    tape.end(9);
    assert_good(&tape.done(), &Facts::default());
    // It ends before anybody is told.
    let mut tape = Tape::with_budget(0);
    (0..3).for_each(|client| tape.connect(client));
    tape.end(1);
    tape.stop();
    assert_good(&tape.history, &awake());
}

/// Does something to a line of a core reader: takes it out, doubles it, has it change places with the next, or changes a byte.
fn doctor(history: &mut History, seed: u64) -> Option<Record> {
    let mut chance = Chance(seed ^ 0x5EED);
    let core = history.healed.as_ref()?.core.clone();
    let lines: Vec<usize> = (0..history.records.len())
        .filter(|&at| matches!(history.records[at].event, Event::Received { .. }))
        .filter(|&at| core.contains(&history.records[at].client))
        .collect();
    let is_farewell =
        |record: &Record| matches!(&record.event, Event::Received { bytes } if bytes.starts_with(b"-- server"));
    let at = lines[chance.below(lines.len())];
    let record = history.records[at].clone();
    let Event::Received { bytes } = &record.event else { return None };
    if is_farewell(&record) {
        return None;
    }
    match seed % 4 {
        0 => drop(history.records.remove(at)),
        1 => history.records.insert(at, record.clone()),
        2 => {
            let next = lines.iter().find(|&&next| {
                let other = &history.records[next];
                next > at && other.client == record.client && other.event != record.event
            });
            let &next = next.filter(|&&next| !is_farewell(&history.records[next]))?;
            history.records[at].event = history.records[next].event.clone();
            history.records[next].event = record.event.clone();
        }
        _ => {
            let mut bytes = bytes.clone();
            let byte = chance.below(bytes.len() - 1);
            bytes[byte] = if bytes[byte] == b'Z' { b'Y' } else { b'Z' };
            history.records[at].event = Event::Received { bytes };
        }
    }
    Some(record)
}

/// Whatever is done to a line of a core reader is found out.
#[test]
fn random_doctored_histories_are_rejected() {
    let mut kinds = BTreeMap::new();
    for seed in 0..600 {
        let mut history = random_tape(seed, 200, &[LET_GO], None).done();
        let Some(record) = doctor(&mut history, seed) else { continue };
        let Err(wrong) = judge(&history) else { panic!("seed {seed}: accepted though this was doctored: {record}") };
        *kinds.entry((seed % 4, wrong[0].invariant)).or_insert(0) += 1;
    }
    println!("{kinds:#?}");
}

/// In a crowd, too, but for one thing: where nobody saw it enter, nobody knows what it should have seen first.
#[test]
fn random_doctored_crowds_are_rejected() {
    let (mut kinds, mut accepted) = (BTreeMap::new(), 0);
    for seed in 0..600 {
        let mut history = random_tape(seed, 200, &[LET_GO], Some(names_of(seed))).done();
        let good = history.clone();
        let Some(record) = doctor(&mut history, seed) else { continue };
        if let Err(wrong) = judge(&history) {
            *kinds.entry((seed % 4, wrong[0].invariant)).or_insert(0) += 1;
            continue;
        }
        let mine = good.records.iter().filter(|other| other.client == record.client);
        let behind_welcome = mine.filter(|other| matches!(other.event, Event::Received { .. })).nth(1);
        assert!(
            seed % 4 == 0 && behind_welcome == Some(&record),
            "seed {seed}: accepted though this was doctored: {record}"
        );
        accepted += 1;
    }
    println!("{kinds:#?}");
    assert!(accepted < 12, "{accepted} were accepted");
}

#[test]
fn judging_is_deterministic_and_says_what_is_wrong() {
    let history = without(good(), 1, "carol: #2.0");
    let wrong = judge(&history).expect_err("a hole");
    assert_eq!(wrong, judge(&history.clone()).expect_err("a hole"));
    assert_eq!((wrong[0].law, wrong[0].clients[0]), (Law::NoHoles, 1));
    let shown = wrong[0].to_string();
    assert!(shown.starts_with("no holes: no-line-is-missing: ") && shown.contains("#1"), "{shown}");
    assert!(history.to_string().contains("#1 sent \"#1.0\\n\""), "{history}");
    assert_eq!(history.to_string().lines().count(), history.records.len() + history.server.len() + 1);
}

/// Near-linear: ten times as much takes about ten times as long. Printed, and held to a bound that only a square breaks.
#[test]
fn large_histories_are_judged_quickly() {
    let mut spent = Vec::new();
    for steps in [1_000, 10_000] {
        let history = random_tape(7, steps, &[], None).done();
        let lines = history.records.iter().filter(|record| matches!(record.event, Event::Received { .. })).count();
        let began = std::time::Instant::now();
        assert_good(&history, &Facts::default());
        let took = began.elapsed();
        println!("{lines} lines received: {took:?}");
        spent.push(took / u32::try_from(lines).expect("not so many"));
    }
    assert!(spent[1] < 10 * spent[0] + Duration::from_micros(10), "{spent:?} a line");
}
