//! The oracle driven everywhere: a breadth-first search over every order of steps, from a small room up to a depth.
//!
//! The room cannot be copied, so each step is taken in a new room that is brought to the state by the steps that led there.
//! After it everything is judged that [`World`] judges after a step, the room is let come to rest (law 8), and everybody is
//! dropped (law 9); each new state is also dropped as it is. These laws hold *always*; and a list of hard cases has to be
//! met *sometimes*, or the search says nothing. What fails is printed with the fewest steps that lead there.
//!
//! States are merged by [`World::key`]: what the oracle knows, without names and with places counted from the tail. Why that
//! may be done: the oracle foretells everything that the room shows, so two rooms with one key have been and will be told
//! the same by it, and each step out of either is judged by the same foresight. What it could hide: damage inside the room that
//! showed in none of the steps so far, in the second way to a state that a first way reached undamaged, as only the first is gone on
//! from. Therefore *every* way to a state, not only the first, is let come to rest and is dropped. Behind that lies `random`,
//! which merges nothing.
//!
//! ```sh
//! cargo test --test room exhaustive -- --nocapture                      # the tables
//! ROOM_DEEPER=2 cargo test --release --test room exhaustive -- --nocapture  # two steps further
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use unisono::Limits;

use crate::world::{Case, Checked, NAMES, Op, Take, World};

const PATIENCE: Duration = Duration::from_secs(1);

/// The smallest backlog that there is. Two long sayings behind the oldest segment fill it, and it is cut so small that a
/// short saying shares its segment with the next and a long one does not.
fn limits(patience: Duration, prompt_bytes: usize, announcements: Option<usize>) -> Limits {
    Limits { line_bytes_max: 1, backlog_bytes: 408, prompt_bytes, patience, announcements, ..Limits::default() }
}

const fn short(who: usize) -> Op {
    Op::Say { who, lines: 1, letters: 0 }
}

/// Two lines, together more than half of the backlog.
const fn long(who: usize) -> Op {
    Op::Say { who, lines: 2, letters: 100 }
}

const fn read(who: usize, take: Take) -> Op {
    Op::Read { who, take }
}

/// One room to be searched.
struct Search {
    name: &'static str,
    seats: usize,
    patience: Duration,
    prompt_bytes: usize,
    announcements: Option<usize>,
    /// How the room comes to where the search begins.
    root: Vec<Op>,
    /// The steps that each member may take, by its seat.
    steps: fn(usize) -> Vec<Op>,
    /// What whoever keeps the room may do besides.
    keeper: &'static [Op],
    depth: usize,
    /// What has to be met.
    sometimes: Vec<Case>,
}

/// A state that was found: the one that it was found from, and the step.
struct Found {
    from: usize,
    step: Option<Op>,
}

/// What a step led to.
struct Reached {
    key: Vec<u16>,
    met: BTreeSet<Case>,
    steps: Vec<Op>,
}

impl Search {
    /// Searches, prints a table, and fails at the first law that is broken or for a case that was never met.
    fn run(&self) {
        let deeper: usize = std::env::var("ROOM_DEEPER").map_or(0, |more| more.parse().expect("a number of steps"));
        let depth = self.depth + deeper;
        let began = Instant::now();
        let mut counts: BTreeMap<Case, usize> = BTreeMap::new();
        let mut transitions = 0;
        let root = self.reach(&[]);
        let mut keys = HashSet::from([root.key]);
        let mut found = vec![Found { from: 0, step: None }];
        let mut frontier = vec![(0, root.steps)];
        let mut by_depth = vec![1];
        for _ in 0..depth {
            let mut next = Vec::new();
            for (from, steps) in frontier {
                let mut way = way_to(&found, from);
                for step in steps {
                    way.push(step);
                    let reached = self.reach(&way);
                    transitions += 1;
                    for case in reached.met {
                        *counts.entry(case).or_default() += 1;
                    }
                    let is_new = keys.insert(reached.key);
                    if is_new {
                        self.judge(&way, World::end);
                    }
                    way.pop();
                    if is_new {
                        next.push((found.len(), reached.steps));
                        found.push(Found { from, step: Some(step) });
                    }
                }
            }
            by_depth.push(next.len());
            frontier = next;
        }
        let seconds = began.elapsed().as_secs_f64();
        let (name, seats, states) = (self.name, self.seats, found.len());
        println!("{name}: members {seats}, depth {depth}, states {states}, transitions {transitions}, {seconds:.1} s");
        println!("    new states by depth: {by_depth:?}");
        for (case, count) in &counts {
            println!("    {count:>9} {case:?}");
        }
        for case in &self.sometimes {
            assert!(counts.contains_key(case), "{name}: never met: {case:?}");
        }
    }

    /// Goes this way in a new room, judges its last step, and lets the room come to rest.
    fn reach(&self, way: &[Op]) -> Reached {
        self.judge(way, |mut world| {
            let steps = self.enabled(&world);
            let reached = Reached { key: world.key(), met: world.take_met(), steps };
            world.quiesce()?;
            world.end()?;
            Ok(reached)
        })
    }

    /// What comes of a room that has gone this way. Shows the way when a law is broken.
    fn judge<T>(&self, way: &[Op], then: impl FnOnce(World) -> Checked<T>) -> T {
        // A panic under the room's lock is a broken law like any other.
        let judged = catch_unwind(AssertUnwindSafe(|| self.walk(way).and_then(then)));
        let what = match judged {
            Ok(Ok(kept)) => return kept,
            Ok(Err(broken)) => broken.to_string(),
            Err(_) => "a panic".to_owned(),
        };
        let steps: Vec<String> = self.root.iter().chain(way).map(|step| format!("    {step:?}")).collect();
        let (name, to_begin_with, steps) = (self.name, self.root.len(), steps.join("\n"));
        panic!("{name}: {what}\nafter these steps, the first {to_begin_with} to begin with:\n{steps}");
    }

    /// A room that has gone this way; it remembers what the last step met.
    fn walk(&self, way: &[Op]) -> Checked<World> {
        let mut world = World::new(limits(self.patience, self.prompt_bytes, self.announcements), self.seats);
        for step in self.root.iter().chain(way) {
            world.take_met();
            world.apply(*step)?;
        }
        Ok(world)
    }

    fn enabled(&self, world: &World) -> Vec<Op> {
        let members = (0..self.seats).flat_map(self.steps);
        let keeper = self.keeper.iter().copied();
        let others = [Op::Enter, Op::EnterTrusted, Op::AwaitSpent, Op::TurnPeriod, Op::Close];
        members.chain(others).chain(keeper).filter(|step| world.is_enabled(*step)).collect()
    }
}

fn way_to(found: &[Found], mut at: usize) -> Vec<Op> {
    let mut way = Vec::new();
    while let Some(step) = found[at].step {
        way.push(step);
        at = found[at].from;
    }
    way.reverse();
    way
}

/// To say much, to read or not, to go.
fn long_lines(who: usize) -> Vec<Op> {
    vec![
        long(who),
        Op::Retry { who },
        read(who, Take::All),
        read(who, Take::AllAndOn),
        read(who, Take::Step),
        Op::Block { who },
        Op::LetGo { who },
        Op::PlaceEnd { who },
        Op::StopReading { who },
        Op::Leave { who },
        Op::Remove { who },
    ]
}

/// The same, and turns that are kept, and lines so short that they share a segment.
fn long_and_short_lines(who: usize) -> Vec<Op> {
    let mut steps = long_lines(who);
    steps.extend([short(who), Op::Hold { who }, Op::DropTurn { who }, Op::GiveUp { who }]);
    steps
}

/// Short lines, and all that ends or turns a sweep.
fn short_lines(who: usize) -> Vec<Op> {
    vec![
        short(who),
        read(who, Take::All),
        read(who, Take::AllAndOn),
        read(who, Take::Step),
        Op::Block { who },
        Op::PlaceEnd { who },
        Op::StopReading { who },
        Op::Leave { who },
        Op::Remove { who },
    ]
}

/// Names, asked for at once or by a turn that was kept.
fn names(who: usize) -> Vec<Op> {
    let mut steps = vec![Op::Hold { who }, Op::StopReading { who }, Op::PlaceEnd { who }, Op::Leave { who }];
    steps.extend((0..NAMES.len()).map(|name| Op::Rename { who, name }));
    steps
}

/// What is hard wherever readers fall behind.
const READING: &[Case] = &[
    Case::BacklogFull,
    Case::SenderParked,
    Case::TwoSendersParked,
    Case::ParkedSenderServed,
    Case::ParkedSenderDeparted,
    Case::NewcomerParked,
    Case::NewcomerBehindParkedSender,
    Case::Gathered,
    Case::GatheredLinesPressed,
    Case::BlockedWhileOwing,
    Case::StoppedWhileOwing,
    Case::LeftWhileOwing,
    Case::BlockedReaderPressed,
    Case::BlockedInTheWay,
    Case::LetGo,
    Case::LetGoAmidLine,
    Case::LetGoToItsEnd,
    Case::LetGoRefused,
    Case::EndReached,
    Case::EndAtOnce,
    Case::ClosedWithParkedReader,
    Case::RemovedWhileQueued,
    Case::RemovedWhileBlocked,
    Case::ClosedWithParkedSender,
    Case::ClosedWithBlockedReader,
    Case::ClosedWhileGathering,
];

/// What takes turns that are kept, and short lines.
const TURNS: &[Case] = &[
    Case::SegmentShared,
    Case::ParkedByPromisesAlone,
    Case::FirstOfTwoParkedSendersGaveUp,
    Case::TurnUsedAfterItsEnd,
    Case::TurnUsedAfterClose,
];

/// What can become of the last of a sweep before it looks again.
const LAST: &[Case] = &[
    Case::NextSweepByCheckIn,
    Case::LastOfSweepLetsOthersSpeak,
    Case::LastGoesOnWithWhatWasSaidMeanwhile,
    Case::LastPressed,
    Case::LastBlocked,
    Case::LastStopped,
    Case::LastLeft,
    Case::LastDeparted,
    Case::LastLetGo,
    Case::LastRemoved,
    Case::ClosedWithLast,
];

/// Two are in. The first stands before the second's arrival, and the two sayings behind that fill the backlog.
fn full() -> Vec<Op> {
    vec![Op::Enter, Op::Enter, long(1), long(1)]
}

#[test]
fn exhaustive_two_from_nothing() {
    let search = Search {
        name: "two from nothing",
        seats: 2,
        patience: PATIENCE,
        prompt_bytes: 0,
        announcements: None,
        root: vec![],
        steps: long_and_short_lines,
        keeper: &[],
        depth: 7,
        sometimes: [READING, TURNS].concat(),
    };
    search.run();
}

#[test]
fn exhaustive_two_from_a_full_backlog() {
    let search = Search {
        name: "two from a full backlog",
        seats: 2,
        patience: PATIENCE,
        prompt_bytes: 0,
        announcements: None,
        root: full(),
        steps: long_lines,
        keeper: &[],
        depth: 8,
        sometimes: [READING, LAST, &[Case::LetGoAgain]].concat(),
    };
    search.run();
}

#[test]
fn exhaustive_three_from_a_full_backlog() {
    let search = Search {
        name: "three from a full backlog",
        seats: 3,
        patience: PATIENCE,
        prompt_bytes: 0,
        announcements: None,
        root: full(),
        steps: long_and_short_lines,
        keeper: &[],
        depth: 5,
        sometimes: [READING, TURNS].concat(),
    };
    search.run();
}

#[test]
fn exhaustive_three_amid_a_sweep() {
    let search = Search {
        name: "three amid a sweep",
        seats: 3,
        patience: PATIENCE,
        // Two short sayings, or an arrival, are told at once; what comes then gathers.
        prompt_bytes: 12,
        announcements: None,
        // All are parked, and woken for one line.
        root: (0..3).map(|_| Op::Enter).chain((0..3).map(|who| read(who, Take::AllAndOn))).chain([short(2)]).collect(),
        steps: short_lines,
        keeper: &[],
        depth: 6,
        sometimes: vec![
            Case::ToldAmidSweep,
            Case::OwingReaderIsToldMore,
            Case::SweepLeavesWhoHasAll,
            Case::NextSweepByCheckIn,
            Case::Gathered,
            Case::RemovedWhileParked,
            Case::RemovedWhileOwing,
            Case::ClosedWhileGathering,
        ],
    };
    search.run();
}

#[test]
fn exhaustive_two_amid_a_sweep_from_a_full_backlog() {
    let search = Search {
        name: "two amid a sweep, from a full backlog",
        seats: 2,
        patience: PATIENCE,
        prompt_bytes: 208,
        announcements: None,
        root: full(),
        steps: long_lines,
        keeper: &[],
        depth: 6,
        sometimes: vec![Case::ToldAmidSweep, Case::OwingReaderIsToldMore, Case::LetGo, Case::BlockedReaderPressed],
    };
    search.run();
}

#[test]
fn exhaustive_three_without_patience() {
    let search = Search {
        name: "three without patience",
        seats: 3,
        patience: Duration::ZERO,
        prompt_bytes: 0,
        announcements: None,
        root: full(),
        steps: long_lines,
        keeper: &[],
        depth: 6,
        sometimes: [READING, &[Case::InTheWay]].concat(),
    };
    search.run();
}

#[test]
fn exhaustive_two_and_the_last_of_a_sweep() {
    let search = Search {
        name: "two and the last of a sweep",
        seats: 2,
        patience: Duration::ZERO,
        prompt_bytes: 0,
        announcements: None,
        // The first is parked, woken for one line, and comes again for the next.
        root: vec![Op::Enter, Op::Enter, read(0, Take::AllAndOn), short(1), short(1), read(0, Take::AllAndOn)],
        steps: long_lines,
        keeper: &[],
        depth: 5,
        sometimes: [LAST, &[Case::LastInTheWay]].concat(),
    };
    search.run();
}

#[test]
fn exhaustive_three_with_names() {
    let search = Search {
        name: "three with names",
        seats: 3,
        patience: PATIENCE,
        prompt_bytes: 0,
        announcements: None,
        root: vec![Op::Enter, Op::Enter, Op::StopReading { who: 0 }, Op::StopReading { who: 1 }],
        steps: names,
        keeper: &[],
        depth: 5,
        sometimes: vec![Case::NameTaken, Case::OwnNameRespelled, Case::NameFreed],
    };
    search.run();
}

/// To be heard of, to read and to go.
fn comings_and_goings(who: usize) -> Vec<Op> {
    vec![
        short(who),
        Op::Rename { who, name: 0 },
        read(who, Take::AllAndOn),
        Op::StopReading { who },
        Op::PlaceEnd { who },
        Op::Leave { who },
    ]
}

#[test]
fn exhaustive_two_who_come_and_go() {
    let search = Search {
        name: "two who come and go",
        seats: 2,
        patience: PATIENCE,
        prompt_bytes: 0,
        announcements: Some(1),
        root: vec![],
        steps: comings_and_goings,
        keeper: &[],
        depth: 6,
        sometimes: vec![
            Case::ArrivalCounted,
            Case::CountTold,
            Case::CountedThenSaid,
            Case::CountedThenRenamed,
            Case::CountToldThenSaid,
            Case::CountToldThenRenamed,
            Case::CountedThenNameTaken,
            Case::NothingLeftToCount,
            Case::GoneBeforeItsCountIsTold,
            Case::GoneAfterItsCountIsTold,
            Case::SilentDepartureByName,
            Case::SilentDepartureCounted,
            Case::HeardDepartureBeyondBudget,
            Case::TrustedBeyondBudget,
            Case::AnnouncerWoken,
            Case::ClosedWithCount,
            Case::ClosedWithAnnouncer,
        ],
    };
    search.run();
}

#[test]
fn exhaustive_two_who_are_counted_from_a_full_backlog() {
    let search = Search {
        name: "two who are counted, from a full backlog",
        seats: 2,
        patience: PATIENCE,
        prompt_bytes: 0,
        announcements: Some(0),
        // The first stands before the second's introduction, and before a count that has itself.
        root: vec![Op::Enter, Op::Enter, long(1), Op::TurnPeriod, long(1)],
        steps: long_lines,
        keeper: &[],
        depth: 6,
        sometimes: vec![
            Case::BacklogFull,
            Case::CountTold,
            Case::CountToldThenSaid,
            Case::FullAtEndOfPeriod,
            Case::LetGo,
            Case::LetGoAcrossCount,
            Case::GoneBeforeItsCountIsTold,
            Case::GoneAfterItsCountIsTold,
            Case::HeardDepartureBeyondBudget,
            Case::TrustedBeyondBudget,
        ],
    };
    search.run();
}

/// To be in the way of what is announced, or to wait with it.
fn with_announcements(who: usize) -> Vec<Op> {
    vec![
        long(who),
        Op::Retry { who },
        Op::GiveUp { who },
        Op::Hold { who },
        Op::DropTurn { who },
        read(who, Take::AllAndOn),
        Op::LetGo { who },
        Op::StopReading { who },
        Op::Leave { who },
    ]
}

#[test]
fn exhaustive_two_and_announcements() {
    let search = Search {
        name: "two and announcements, from a full backlog",
        seats: 2,
        patience: PATIENCE,
        prompt_bytes: 0,
        announcements: None,
        root: full(),
        steps: with_announcements,
        keeper: &[
            Op::Announce { letters: 1 },
            Op::Announce { letters: 2 },
            Op::RetryAnnounce,
            Op::GiveUpAnnounce,
            Op::AwaitEmpty,
        ],
        depth: 6,
        sometimes: vec![
            Case::AnnouncedAtOnce,
            Case::AnnouncedAmidSweep,
            Case::AnnouncedToNobody,
            Case::AnnouncedInClosedRoom,
            Case::AnnouncementTooLong,
            Case::HeraldParked,
            Case::HeraldBehindSender,
            Case::SenderBehindHerald,
            Case::ParkedHeraldServed,
            Case::ParkedHeraldGaveUpBeforeSender,
            Case::LetGoAcrossAnnouncement,
            Case::ClosedWithHerald,
            Case::EmptiedByMember,
            Case::EmptiedByHerald,
        ],
    };
    search.run();
}
