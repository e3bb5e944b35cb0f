//! Runs a plan on a network: the real server, its clients, and the plan's faults at their times. What comes of it is a
//! [`History`] for the judge.
//!
//! What happens when is decided here, once; what only a network can do is behind a trait, `World`, which has one form for each
//! [`Kind`]. On simnet and turmoil time goes on only when everyone waits, and the same plan gives the same history.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use unisono::door::{self, Ban, Password, Passwords, Verdict};
use unisono::limits::FOREVER;
use unisono::room::Whom;
use unisono::{Door, Room};

use self::client::{Newcomer, Recorder, Remote};
use crate::history::{self, Event, Healed, History, Keeping, Sample, ServerEvent};
use crate::judge::{self, Facts, Violation};
use crate::marks;
use crate::network::Kind;
use crate::network::simnet::PLANTED_PANIC;
use crate::plan::{Plan, What};

mod client;
mod facts;
mod local;
mod loopback;
mod simnet;
mod turmoil;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What everyone did and saw.
    pub history: History,
    /// What is known beside it.
    pub facts: Facts,
    /// Stands for all that happened: the same for the same plan.
    pub trace: u64,
    /// How often things happened on the network.
    pub counts: BTreeMap<&'static str, u64>,
    /// What went wrong that no client can see: a panic that was not planted, a server that ended by itself.
    pub faults: Vec<String>,
}

/// Quiet time in the end, in which everyone of the core gets everything.
const QUIET: Duration = Duration::from_secs(30);

/// How often the room's numbers are taken, beside whenever something happens.
const SAMPLED: Duration = Duration::from_millis(100);

/// Runs `plan` on a network.
///
/// # Panics
///
/// When the plan's limits cannot work together, or the network cannot be made.
pub fn run(network: Kind, plan: &Plan) -> Outcome {
    watch_panics();
    PANICS.take();
    let _watched = Watched::begin(plan.seed);
    let mut outcome = match network {
        Kind::Simnet => simnet::run(plan),
        Kind::Turmoil => turmoil::run(plan),
        Kind::Loopback => loopback::run(plan),
    };
    outcome.faults.extend(PANICS.take());
    outcome
}

/// What the judge says of a run.
///
/// # Errors
///
/// Every law that it broke.
pub fn judge(outcome: &Outcome) -> Result<judge::Order, Vec<Violation>> {
    judge::judge_with(&outcome.history, &outcome.facts)
}

/// No run takes so long, on however slow a machine: something in it goes round in circles.
static RUN_SECONDS_MAX: AtomicU64 = AtomicU64::new(300);

/// How long a run may take before it is held to go round in circles, and the process ends. 300 s unless set.
pub fn set_run_seconds_max(seconds: u64) {
    RUN_SECONDS_MAX.store(seconds, Ordering::Relaxed);
}

/// A run that is watched from another thread. One that never ends cannot be ended, so it ends the process, and says which
/// it was.
struct Watched(u64);

static WATCHED: Mutex<BTreeMap<u64, (u64, std::time::Instant)>> = Mutex::new(BTreeMap::new());

impl Watched {
    fn begin(seed: u64) -> Self {
        static ONCE: Once = Once::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ONCE.call_once(|| {
            std::thread::spawn(|| {
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
                    let limit = Duration::from_secs(RUN_SECONDS_MAX.load(Ordering::Relaxed));
                    if let Some((seed, _)) = watched.values().find(|(_, since)| since.elapsed() > limit) {
                        println!("seed {seed}: no lost wake: the-run-does-not-end: after {limit:?} it goes on");
                        std::process::exit(1);
                    }
                }
            });
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(number, (seed, std::time::Instant::now()));
        Self(number)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Where two runs of the same plan begin to differ, if they do.
pub fn first_difference(first: &Outcome, second: &Outcome) -> Option<String> {
    let (one, other) = (&first.history, &second.history);
    let differ = one.records.iter().zip(&other.records).find(|(first, second)| first != second);
    if let Some((first, second)) = differ {
        return Some(format!("the first event that differs is\n{first}\nand\n{second}"));
    }
    if one.records.len() != other.records.len() {
        let records = if one.records.len() > other.records.len() { &one.records } else { &other.records };
        let first = &records[one.records.len().min(other.records.len())];
        return Some(format!("one run goes on with\n{first}"));
    }
    if one != other {
        return Some("the server, or its room's numbers, went another way".to_owned());
    }
    (first.trace != second.trace).then(|| "the network moved otherwise".to_owned())
}

thread_local! {
    /// Panics on this thread that were not planted.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes panics that nobody planted; planted ones pass in silence.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let message = info.payload().downcast_ref::<String>().map_or("", String::as_str);
            let planted = [message, info.payload().downcast_ref::<&str>().copied().unwrap_or_default()];
            if !planted.contains(&PLANTED_PANIC) {
                PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
                usual(info);
            }
        }));
    });
}

/// A network, as a run needs it.
trait World {
    /// Whether time passes by itself: then waiting ends as soon as all is well.
    const IS_REAL_TIME: bool = false;

    /// Longer than the network takes to find out who has vanished.
    const SETTLING: Duration = Duration::from_secs(190);

    /// Lets time pass until then.
    async fn pass(&mut self, until: Duration);

    /// A life of the server begins; it ends when `stop` does.
    fn start(&mut self, room: Room, stop: oneshot::Receiver<()>);

    /// Waits for the end of a server that was asked to end.
    async fn stopped(&mut self) -> Result<(), String>;

    /// The server is gone, and everything of it.
    async fn crash(&mut self);

    /// A client begins, on a host.
    fn connect(&mut self, host: u8, newcomer: Newcomer);

    /// Whoever keeps the server says something, in its turn.
    fn announce(&mut self, room: Room, text: String);

    /// As which address the server knows those who come from a host.
    fn address(&self, host: u8) -> IpAddr;

    /// Whether this client's task is there.
    fn is_there(&self, client: usize) -> bool;

    /// Does what only a network can do. False if it cannot, or there is nothing that it could be done to: then nothing happened.
    async fn inflict(&mut self, what: &What) -> bool;

    /// Ends every task, and tells what happened how often, and a hash of it.
    async fn finish(&mut self) -> (BTreeMap<&'static str, u64>, u64);
}

/// Why a client takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// It was told not to read.
    Paused,
    /// The network holds its connection.
    Frozen,
    /// The network holds its host.
    Held,
    /// Its host does not run.
    Halted,
}

/// One client, as the run knows it.
struct Person {
    client: usize,
    host: u8,
    remote: Remote,
    stops: BTreeSet<Stop>,
    is_gone: bool,
}

impl Person {
    /// It takes nothing from now on.
    fn stop(&mut self, stop: Stop, recorder: &Recorder) {
        if self.stops.is_empty() {
            recorder.record(self.client, Event::Pause);
        }
        self.stops.insert(stop);
        self.obey(stop);
    }

    fn go(&mut self, stop: Stop, recorder: &Recorder) {
        if self.stops.remove(&stop) && self.stops.is_empty() {
            recorder.record(self.client, Event::Resume);
        }
        self.obey(stop);
    }

    fn obey(&self, stop: Stop) {
        match stop {
            Stop::Paused => self.remote.pause(self.stops.contains(&stop)),
            Stop::Halted => self.remote.halt(self.stops.contains(&stop)),
            Stop::Frozen | Stop::Held => {}
        }
    }

    /// Nothing more is known of it, and nothing more is owed to it.
    fn lose(&mut self, recorder: &Recorder) {
        self.is_gone = true;
        recorder.record(self.client, Event::Reset);
    }
}

/// What a chore is about. A client has one of each: a new one takes the old one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Habit {
    Reading,
    Sending,
}

/// Something that an act has begun and that goes on.
enum Chore {
    Sip { client: usize, bytes: usize, every_ms: u64, times: u64 },
    Drip { client: usize, rest: Vec<u8>, every_ms: u64 },
}

struct Play<'a, W> {
    plan: &'a Plan,
    world: W,
    recorder: Recorder,
    people: BTreeMap<usize, Person>,
    /// Whose connections were made to fail.
    broken: Vec<usize>,
    /// Hosts that are held or halted, with all who come from there.
    stopped_hosts: BTreeSet<(Stop, u8)>,
    /// By time and client; whoever reads slowly may also send slowly.
    chores: BTreeMap<(u64, usize, Habit), Chore>,
    /// The living room, and what ends it.
    room: Option<Room>,
    stop: Option<oneshot::Sender<()>>,
    server: Vec<(Duration, ServerEvent)>,
    keeping: Vec<(Duration, Keeping)>,
    samples: Vec<Sample>,
    sampled: Duration,
    /// How far the clocks have jumped: what comes later comes so much later.
    jumped_ms: u64,
    faults: Vec<String>,
}

impl<'a, W: World> Play<'a, W> {
    fn new(plan: &'a Plan, world: W, recorder: Recorder) -> Self {
        Self {
            plan,
            world,
            recorder,
            people: BTreeMap::new(),
            broken: Vec::new(),
            stopped_hosts: BTreeSet::new(),
            chores: BTreeMap::new(),
            room: None,
            stop: None,
            server: Vec::new(),
            keeping: Vec::new(),
            samples: Vec::new(),
            sampled: Duration::ZERO,
            jumped_ms: 0,
            faults: Vec::new(),
        }
    }

    async fn play(mut self) -> Outcome {
        self.start();
        for act in &self.plan.acts {
            self.pass(self.jumped_ms + act.at_ms).await;
            self.act(&act.what).await;
            self.sample();
        }
        self.pass(self.jumped_ms + self.plan.heal_ms).await;
        let healed = self.heal().await;
        self.finish().await;
        let (mut counts, trace) = self.world.finish().await;
        let mut notes = std::mem::take(&mut *self.recorder.notes());
        notes.add_accepted(self.plan.clients());
        let guests = if self.plan.rules.guests { notes.numbers() } else { BTreeMap::new() };
        let came = if self.plan.rules.connect.is_some() { notes.came() } else { Vec::new() };
        let rules = rules(self.plan);
        let records = notes.records;
        let history = History {
            rules,
            records,
            server: self.server,
            keeping: self.keeping,
            samples: self.samples,
            healed: Some(healed),
        };
        let facts = Facts { guests, came, ..facts::of(self.plan, &history, &notes.blocked, notes.jumps) };
        let is_long = |span: &&(Duration, Duration)| span.1.saturating_sub(span.0) / 3 >= history.rules.limits.patience;
        counts.insert(marks::DEMAND, facts.demand.iter().filter(is_long).count() as u64);
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(trace);
        for record in &history.records {
            hash(record, &mut hasher);
        }
        Outcome { history, facts, trace: hasher.finish(), counts, faults: self.faults }
    }

    /// Lets time pass until then, with what goes on meanwhile.
    async fn pass(&mut self, until_ms: u64) {
        loop {
            let chore = self.chores.first_key_value().map(|(&(at_ms, ..), _)| at_ms).filter(|at_ms| *at_ms <= until_ms);
            let at = Duration::from_millis(chore.unwrap_or(until_ms));
            while self.room.is_some() && self.sampled + SAMPLED < at {
                self.world.pass((self.sampled + SAMPLED).max(self.recorder.now())).await;
                self.sample();
            }
            self.world.pass(at).await;
            if chore.is_none() {
                return;
            }
            if let Some(((at_ms, ..), chore)) = self.chores.pop_first() {
                self.go_on(at_ms, chore);
            }
        }
    }

    fn go_on(&mut self, at_ms: u64, chore: Chore) {
        let (client, next, every_ms) = match chore {
            Chore::Sip { client, bytes, every_ms, times } => {
                let Some(person) = self.people.get_mut(&client).filter(|person| !person.is_gone) else { return };
                if times == 0 {
                    person.go(Stop::Paused, &self.recorder);
                    return;
                }
                person.remote.sip(bytes);
                (client, Chore::Sip { client, bytes, every_ms, times: times - 1 }, every_ms)
            }
            Chore::Drip { client, mut rest, every_ms } => {
                let Some(person) = self.people.get(&client).filter(|_| !rest.is_empty()) else { return };
                person.remote.send(&[rest.remove(0)]);
                (client, Chore::Drip { client, rest, every_ms }, every_ms)
            }
        };
        self.add_chore(at_ms + every_ms, client, next);
    }

    fn add_chore(&mut self, at_ms: u64, client: usize, chore: Chore) {
        let habit = match chore {
            Chore::Sip { .. } => Habit::Reading,
            Chore::Drip { .. } => Habit::Sending,
        };
        self.chores.retain(|(_, other, of), _| (*other, *of) != (client, habit));
        self.chores.insert((at_ms, client, habit), chore);
    }

    fn sample(&mut self) {
        self.sampled = self.recorder.now();
        if let Some(room) = &self.room {
            let tally = room.tally();
            self.samples.push(Sample {
                at: self.sampled,
                held_bytes: tally.held_bytes,
                partial_bytes: tally.partial_bytes,
                members: tally.members,
                seats: tally.seats,
                said_bytes: tally.said_bytes,
                let_gos: tally.let_gos,
                missed_lines: tally.missed_lines,
                senders_parked: tally.senders_parked,
            });
        }
    }

    // The server.

    fn note(&mut self, event: ServerEvent) {
        self.server.push((self.recorder.now(), event));
    }

    fn start(&mut self) {
        let (limits, wire) = (self.plan.rules.limits(), self.plan.rules.wire());
        let passwords = self.plan.rules.password().map(|password| Arc::new(Keyhole(password)) as Arc<dyn Passwords>);
        let door = Door::new(door::Policy { passwords, ..door::Policy::default() });
        let room = Room::with_door(limits, wire, door).expect("a plan's limits work together");
        let (stop, stopped) = oneshot::channel();
        self.world.start(room.clone(), stopped);
        self.note(ServerEvent::Started);
        (self.room, self.stop) = (Some(room), Some(stop));
    }

    fn stop(&mut self) {
        if self.stop.take().is_some() {
            self.note(ServerEvent::Stopping);
        }
    }

    /// Waits for the end of a server that was asked to end.
    async fn stopped(&mut self) {
        if self.room.is_some() && self.stop.is_none() {
            if let Err(error) = self.world.stopped().await {
                self.faults.push(format!("the server ended: {error}"));
            }
            self.note(ServerEvent::Stopped);
            self.sample();
            self.room = None;
        }
    }

    async fn crash(&mut self) {
        if self.room.take().is_some() {
            self.world.crash().await;
            self.stop = None;
            self.note(ServerEvent::Crashed);
        }
    }

    // What happens.

    async fn act(&mut self, what: &What) {
        match what {
            What::Connect { client, host, real } => self.connect(*client, *host, *real, false),
            What::Knock { client, host } => self.connect(*client, *host, false, self.plan.rules.tls),
            What::Stop => self.stop(),
            What::Crash => self.crash().await,
            What::Restart => {
                self.stop();
                self.stopped().await;
                if self.room.is_none() {
                    self.start();
                }
            }
            What::Announce { text } => self.announce(text),
            What::Kick { client } => self.kick(*client),
            What::Ban { host } => self.ban(*host),
            What::Unban { host } => self.lift(*host),
            What::AcceptError { .. } => drop(self.world.inflict(what).await),
            What::Jump { ms } => self.jump(*ms).await,
            _ => match (what.client(), what.host()) {
                (Some(client), _) => self.act_on(client, what).await,
                (None, Some(host)) => self.act_on_host(host, what).await,
                (None, None) => unreachable!("all others are about a client or a host"),
            },
        }
    }

    // What whoever keeps the server does.

    fn keep(&mut self, what: Keeping) {
        self.keeping.push((self.recorder.now(), what));
    }

    fn announce(&mut self, text: &str) {
        if let Some(room) = self.room.clone().filter(|_| self.stop.is_some()) {
            self.keep(Keeping::Announced { text: text.to_owned() });
            self.world.announce(room, text.to_owned());
        }
    }

    fn kick(&mut self, client: usize) {
        let Some(room) = &self.room else { return };
        let who = if self.plan.rules.guests {
            // A number is another's in another life.
            let started = self.server.iter().rfind(|(_, event)| *event == ServerEvent::Started);
            let number = self.recorder.number(client, started.map_or(Duration::ZERO, |(at, _)| *at));
            number.map(|number| format!("guest-{number}"))
        } else {
            self.recorder.address(client).map(|address| address.to_string())
        };
        if who.is_some_and(|who| room.remove(Whom::Who(&who)) > 0) {
            self.keep(Keeping::Removed { client });
        }
    }

    fn ban(&mut self, host: u8) {
        let Some(room) = &self.room else { return };
        let ip = self.world.address(host);
        // It is there until it is lifted, so that it hangs on no clock.
        let ban = Ban { prefix: ip.into(), until: None };
        if room.door().ban(ban, std::time::Instant::now()).is_ok() {
            room.remove(Whom::From(ip.into()));
            self.keep(Keeping::Banned { ip });
            // Who waits to be accepted was not there to be removed.
            let mine = self.people.values().filter(|person| person.host == host && !person.is_gone);
            let there = mine.map(|person| person.client).filter(|client| self.recorder.is_accepted(*client));
            for client in there.collect::<Vec<_>>() {
                self.keep(Keeping::Removed { client });
            }
        }
    }

    fn lift(&mut self, host: u8) {
        let Some(room) = &self.room else { return };
        let ip = self.world.address(host);
        if room.door().unban(ip.into(), std::time::Instant::now()) {
            self.keep(Keeping::Lifted { ip });
        }
    }

    fn connect(&mut self, client: usize, host: u8, is_real: bool, knocks: bool) {
        let remote = Remote::default();
        let newcomer = Newcomer { client, is_real, knocks, remote: remote.clone(), recorder: self.recorder.clone() };
        let mut person = Person { client, host, remote, stops: BTreeSet::new(), is_gone: false };
        for (stop, _) in self.stopped_hosts.iter().filter(|(_, of)| *of == host) {
            person.stop(*stop, &self.recorder);
        }
        self.people.insert(client, person);
        self.world.connect(host, newcomer);
    }

    async fn act_on(&mut self, client: usize, what: &What) {
        let Some(person) = self.people.get_mut(&client).filter(|person| !person.is_gone) else { return };
        let now_ms = u64::try_from(self.recorder.now().as_millis()).expect("a run is short");
        match what {
            What::Send { text, .. } => person.remote.send(&text.bytes(client)),
            What::End { .. } => person.remote.end(),
            What::Reset { .. } => {
                person.is_gone = true;
                person.remote.break_off();
            }
            What::Pause { .. } => person.stop(Stop::Paused, &self.recorder),
            What::Resume { .. } => person.go(Stop::Paused, &self.recorder),
            What::Sip { bytes, .. } => person.remote.sip(*bytes),
            What::Slow { bytes, every_ms, times, .. } => {
                person.stop(Stop::Paused, &self.recorder);
                let chore = Chore::Sip { client, bytes: *bytes, every_ms: *every_ms, times: *times };
                self.add_chore(now_ms, client, chore);
            }
            What::Drip { text, every_ms, .. } => {
                let chore = Chore::Drip { client, rest: text.bytes(client), every_ms: *every_ms };
                self.add_chore(now_ms, client, chore);
            }
            What::LoseLine { .. } => person.remote.lose_a_line(),
            What::Vanish { .. } if self.world.inflict(what).await => {
                person.lose(&self.recorder);
                person.remote.halt(true);
            }
            What::WriteError { .. } | What::ReadError { .. } | What::Panic { .. } if self.world.inflict(what).await => {
                person.lose(&self.recorder);
                self.broken.push(client);
            }
            What::Freeze { .. } | What::FreezeDown { .. } if self.world.inflict(what).await => {
                person.stop(Stop::Frozen, &self.recorder);
            }
            What::Thaw { .. } if self.world.inflict(what).await => person.go(Stop::Frozen, &self.recorder),
            _ => {}
        }
    }

    async fn act_on_host(&mut self, host: u8, what: &What) {
        let is_done = match what {
            What::PauseHost { .. } | What::ResumeHost { .. } => true,
            _ => self.world.inflict(what).await,
        };
        if !is_done {
            return;
        }
        let recorder = &self.recorder;
        let mine = self.people.values_mut().filter(|person| person.host == host && !person.is_gone);
        match what {
            What::PauseHost { .. } => {
                self.stopped_hosts.insert((Stop::Halted, host));
                mine.for_each(|person| person.stop(Stop::Halted, recorder));
            }
            What::ResumeHost { .. } => {
                self.stopped_hosts.remove(&(Stop::Halted, host));
                mine.for_each(|person| person.go(Stop::Halted, recorder));
            }
            What::Hold { .. } | What::HoldDown { .. } => {
                self.stopped_hosts.insert((Stop::Held, host));
                mine.for_each(|person| person.stop(Stop::Held, recorder));
            }
            What::Release { .. } => {
                self.stopped_hosts.remove(&(Stop::Held, host));
                mine.for_each(|person| person.go(Stop::Held, recorder));
            }
            What::CrashHost { .. } => mine.for_each(|person| person.is_gone = true),
            What::VanishHost { .. } => mine.for_each(|person| {
                person.lose(recorder);
                person.remote.halt(true);
            }),
            _ => {}
        }
    }

    /// Every clock jumps, and meanwhile nobody has taken anything.
    async fn jump(&mut self, ms: u64) {
        for person in self.people.values_mut().filter(|person| !person.is_gone && person.stops.is_empty()) {
            self.recorder.record(person.client, Event::Pause);
        }
        let from = self.recorder.now();
        if self.world.inflict(&What::Jump { ms }).await {
            self.jumped_ms += ms;
            self.recorder.notes().jumps.push((from, self.recorder.now()));
        }
        for person in self.people.values_mut().filter(|person| !person.is_gone && person.stops.is_empty()) {
            self.recorder.record(person.client, Event::Resume);
        }
    }

    // The end.

    /// Makes the network whole for the core, and waits until everything has come to rest.
    async fn heal(&mut self) -> Healed {
        self.stopped().await;
        if self.room.is_none() {
            self.start();
        }
        self.chores.clear();
        let at = self.recorder.now();
        let mut core = Vec::new();
        for &client in &self.plan.core {
            let is_there = |person: &&mut Person| !person.is_gone && self.world.is_there(client);
            let Some(person) = self.people.get_mut(&client).filter(is_there) else { continue };
            let host = person.host;
            self.act(&What::Release { host }).await;
            self.act(&What::ResumeHost { host }).await;
            self.act(&What::Thaw { client }).await;
            self.act(&What::Resume { client }).await;
            // Whatever line it was amid ends here. The others say nothing: it would wake whoever was forgotten.
            self.people[&client].remote.end_line();
            core.push(client);
        }
        let limits = self.plan.rules.limits();
        let holds_for_ever = limits.patience == FOREVER && limits.stall == FOREVER;
        for person in self.people.values_mut().filter(|person| !core.contains(&person.client)) {
            // Endless patience with who takes nothing is a room that stands still: that is what was asked for. And a write that was
            // to fail may not have come.
            if holds_for_ever || self.broken.contains(&person.client) {
                let client = person.client;
                for fault in [What::WriteError { client }, What::ReadError { client }] {
                    if self.world.inflict(&fault).await && !person.is_gone {
                        person.lose(&self.recorder);
                    }
                }
            }
        }
        let waits = [limits.stall, limits.patience].into_iter().filter(|limit| *limit != FOREVER).sum::<Duration>();
        // Longer than any of the server's own limits, of which one may follow another; and than what is said in its time.
        let end = at + QUIET + 2 * waits + self.plan.flood_time() + W::SETTLING;
        if W::IS_REAL_TIME {
            self.wait_until_well(at, end, &core).await;
        } else {
            self.world.pass(end).await;
            self.sample();
            // What is asked of the server next is asked later than that.
            self.world.pass(end + Duration::from_millis(1)).await;
        }
        Healed { at, end, core }
    }

    /// In real time nobody waits longer than it takes: the judge is asked again and again whether all is well.
    async fn wait_until_well(&mut self, at: Duration, end: Duration, core: &[usize]) {
        let rules = rules(self.plan);
        let mut known = 0;
        let late = at + QUIET + self.plan.flood_time();
        loop {
            let now = self.recorder.now();
            self.world.pass(now + Duration::from_millis(20)).await;
            let room = self.room.as_ref().expect("it was started").tally();
            let records = self.recorder.notes().records.clone();
            let is_quiet = std::mem::replace(&mut known, records.len()) == known;
            let healed = Some(Healed { at, end, core: core.to_vec() });
            let (rules, server, keeping) = (rules.clone(), self.server.clone(), self.keeping.clone());
            let history = History { rules, records, server, keeping, samples: Vec::new(), healed };
            match judge::judge(&history) {
                Ok(_) if is_quiet && room.held_bytes == 0 => return,
                Err(broken) if now > late => {
                    self.faults.extend(broken.iter().map(ToString::to_string));
                    return;
                }
                _ if now > late => {
                    self.faults.push(format!("it does not come to rest: {} bytes are held", room.held_bytes));
                    return;
                }
                _ => {}
            }
        }
    }

    /// Ends the server, and everything else with it.
    async fn finish(&mut self) {
        self.stop();
        self.stopped().await;
        for person in self.people.values() {
            person.remote.finish();
        }
    }
}

/// What the server is told about itself.
fn rules(plan: &Plan) -> history::Rules {
    let Plan { rules, .. } = plan;
    history::Rules { limits: rules.limits(), wire: rules.wire(), password: rules.password() }
}

/// Proves the password of a plan in the plan's own time. (What ships does it by Argon2 in threads, which have a time of their own.)
#[derive(Debug)]
struct Keyhole(history::Password);

impl Passwords for Keyhole {
    fn verify(&self, password: Password) -> Verdict {
        let Self(history::Password { text, takes }) = self;
        let (is_right, takes) = (password.bytes() == text.as_bytes(), *takes);
        Box::pin(async move {
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            is_right
        })
    }
}

fn hash(record: &history::Record, hasher: &mut DefaultHasher) {
    hasher.write_u128(record.at.as_nanos());
    hasher.write_usize(record.client);
    match &record.event {
        Event::Sent { bytes } | Event::Received { bytes } => hasher.write(bytes),
        event => hasher.write(event.to_string().as_bytes()),
    }
}
