//! The oracle: the real room, and beside it a plain list of bytes that knows what the room has to do next.
//!
//! It keeps what was said as one list, cuts it into segments as docs/ARCHITECTURE.md says, and knows of each member where
//! it stands, whether it sleeps, and whether a sweep waits for it. From that it foretells the answer to every call, and after
//! each call compares all that the room shows: its [`Tally`], and how often each waker was woken. A waker that is woken
//! without a cause is wrong, as one is that is not woken. Nothing here searches for the fast way; it searches the list.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;
use unisono::limits::WRITE_PIECES_MAX;
use unisono::log::Batch;
use unisono::name::Name;
use unisono::room::{Closed, LetGo, Member, Next, NotAnnounced, Taken, Tally, Turn, Whom};
use unisono::{Lang, Limits, Room, Wire};

/// A step. Members are named by their seat in the [`World`], the lowest that was free when they came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// A stranger takes a seat and asks for the turn to enter with.
    Enter,
    /// One who is trusted does.
    EnterTrusted,
    /// Says so many lines of so many letters by one turn: that which it holds, or one that it asks for.
    Say {
        who: usize,
        lines: usize,
        letters: usize,
    },
    /// Asks for a name, by its index in [`NAMES`].
    Rename {
        who: usize,
        name: usize,
    },
    /// Asks for a turn, and keeps it.
    Hold {
        who: usize,
    },
    /// Asks again for the turn that it waits for.
    Retry {
        who: usize,
    },
    /// Gives up its place in the queue; it may ask again.
    GiveUp {
        who: usize,
    },
    /// Gives back the turn that it holds.
    DropTurn {
        who: usize,
    },
    /// Looks for lines, and takes some of what it is given.
    Read {
        who: usize,
        take: Take,
    },
    /// Its connection takes nothing.
    Block {
        who: usize,
    },
    /// Asks to be let go.
    LetGo {
        who: usize,
    },
    /// Places its departure, and reads on.
    PlaceEnd {
        who: usize,
    },
    /// Its connection is broken towards the peer.
    StopReading {
        who: usize,
    },
    /// It is dropped.
    Leave {
        who: usize,
    },
    /// Waits for something of the budget of announcements to be spent.
    AwaitSpent,
    /// A period of that budget ends, and the next begins.
    TurnPeriod,
    /// Somebody else removes it.
    Remove {
        who: usize,
    },
    /// Whoever keeps the room says so many letters to all. One such announcement waits for its turn at a time.
    Announce {
        letters: usize,
    },
    /// The announcement asks again for the turn that it waits for.
    RetryAnnounce,
    /// It is given up.
    GiveUpAnnounce,
    /// Waits for the room to be empty.
    AwaitEmpty,
    Close,
}

/// How much a connection takes of what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Take {
    All,
    /// All, and by the next look says so: until there is nothing more, as a connection does.
    AllAndOn,
    Bytes(usize),
    /// Two bytes of a line, or the rest of the line under way: so that few places in a line are met, and all kinds.
    Step,
}

/// The first two are one name in another case.
pub(crate) const NAMES: [&str; 3] = ["Ann", "ann", "Bob"];

/// What a step met that is hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    BacklogFull,
    SegmentShared,
    SenderParked,
    TwoSendersParked,
    ParkedSenderServed,
    NewcomerParked,
    NewcomerBehindParkedSender,
    ParkedByPromisesAlone,
    ParkedSenderDeparted,
    FirstOfTwoParkedSendersGaveUp,
    TurnUsedAfterItsEnd,
    TurnUsedAfterClose,
    Gathered,
    ToldAmidSweep,
    OwingReaderIsToldMore,
    SweepLeavesWhoHasAll,
    NextSweepByCheckIn,
    LastOfSweepLetsOthersSpeak,
    LastGoesOnWithWhatWasSaidMeanwhile,
    LastPressed,
    LastBlocked,
    LastStopped,
    LastLeft,
    LastDeparted,
    LastRemoved,
    RemovedWhileParked,
    RemovedWhileBlocked,
    RemovedWhileOwing,
    RemovedWhileQueued,
    LastInTheWay,
    LastLetGo,
    ClosedWithLast,
    BlockedWhileOwing,
    StoppedWhileOwing,
    LeftWhileOwing,
    BlockedReaderPressed,
    GatheredLinesPressed,
    BlockedInTheWay,
    InTheWay,
    LetGo,
    LetGoAmidLine,
    LetGoAgain,
    LetGoToItsEnd,
    LetGoRefused,
    EndReached,
    EndAtOnce,
    ClosedWithParkedReader,
    ClosedWithParkedSender,
    ClosedWithBlockedReader,
    ClosedWhileGathering,
    NameTaken,
    OwnNameRespelled,
    NameFreed,
    ArrivalCounted,
    CountTold,
    CountedThenSaid,
    CountedThenRenamed,
    CountToldThenSaid,
    CountToldThenRenamed,
    CountedThenNameTaken,
    NothingLeftToCount,
    GoneBeforeItsCountIsTold,
    GoneAfterItsCountIsTold,
    SilentDepartureByName,
    SilentDepartureCounted,
    HeardDepartureBeyondBudget,
    TrustedBeyondBudget,
    FullAtEndOfPeriod,
    LetGoAcrossCount,
    AnnouncerWoken,
    ClosedWithCount,
    ClosedWithAnnouncer,
    AnnouncedAtOnce,
    AnnouncedAmidSweep,
    AnnouncedToNobody,
    AnnouncedInClosedRoom,
    AnnouncementTooLong,
    HeraldParked,
    HeraldBehindSender,
    SenderBehindHerald,
    ParkedHeraldServed,
    ParkedHeraldGaveUpBeforeSender,
    LetGoAcrossAnnouncement,
    ClosedWithHerald,
    EmptiedByMember,
    EmptiedByHerald,
}

/// Counts how often it was woken since it was last asked.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Awake,
    Parked,
    Blocked,
}

struct Reader {
    /// Where it stands in the list of all bytes.
    cursor: usize,
    is: Is,
    /// Woken from being parked, and not heard of since.
    owes: bool,
    /// Told to come again, as the last who owes, when the list ended here.
    is_last_at: Option<usize>,
}

/// What somebody does once it has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    Enter,
    Say { lines: usize, letters: usize },
    Rename { name: usize },
    Hold,
}

/// Why somebody is told of by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Trusted,
    /// A stranger that has said nothing and has no name: it need not be.
    Silent,
    /// It has said something or changed its name.
    Heard,
}

/// What the others know of somebody's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Untold,
    ByName,
    /// Counted, and the count is not told yet.
    Counted,
    /// One of a count that was told.
    CountTold,
}

/// One member, and what the oracle knows of it.
struct Peer {
    /// Before the member, so that a turn never outlives who holds it.
    turn: Option<Turn>,
    member: Member,
    who: String,
    name: Option<usize>,
    standing: Standing,
    arrival: Arrival,
    end: Option<usize>,
    reader: Option<Reader>,
    wants: Option<Want>,
    /// Waits in the queue, and was not woken since it asked.
    sleeps: bool,
    was_let_go: bool,
    is_removed: bool,
    /// Woken when there is something to read, and when there is a turn.
    lines_waker: Arc<Count>,
    turn_waker: Arc<Count>,
}

impl Peer {
    fn has_entered(&self) -> bool {
        self.arrival != Arrival::Untold
    }

    fn is_member(&self) -> bool {
        self.has_entered() && self.end.is_none()
    }
}

/// One who waits and is no member.
#[derive(Default)]
struct Sleeper {
    waker: Arc<Count>,
    sleeps: bool,
}

/// An announcement that waits for its turn, and what the oracle knows of it.
struct Herald {
    announcing: Pin<Box<dyn Future<Output = Result<(), NotAnnounced>>>>,
    letters: usize,
    /// Was not woken since it asked.
    sleeps: bool,
    waker: Arc<Count>,
}

/// In the queue, where members are their seats.
const HERALD: usize = usize::MAX;

pub(crate) struct World {
    room: Room,
    limits: Limits,
    /// Everything that stands in the sequence.
    said: Vec<u8>,
    /// Where the segments begin that are kept; the last one is open.
    segments: Vec<usize>,
    /// Readers may see up to here.
    published: usize,
    /// Where the list ended when the last sweep began.
    swept_until: usize,
    /// Readers before this are in the way.
    pressed_until: usize,
    peers: Vec<Option<Peer>>,
    /// Who waits for a turn, in the order of coming.
    queue: Vec<usize>,
    closed: bool,
    let_gos: u64,
    missed_lines: u64,
    /// Somebody has asked for a name.
    are_named: bool,
    /// So many more may be told of by name in this period.
    names_left: usize,
    /// Who came and who went since the last count was told, and is to be counted in the next.
    joined: usize,
    left: usize,
    announcer: Sleeper,
    herald: Option<Herald>,
    /// Who waits for the room to be empty.
    keeper: Sleeper,
    met: BTreeSet<Case>,
}

pub(crate) type Checked<T = ()> = Result<T, TestCaseError>;

/// Far more than it takes until nobody has anything left to do.
const ROUNDS_MAX: usize = 1000;

/// More than any departure takes here.
const DEPARTURE_BYTES_MAX: usize = 12;

impl World {
    pub(crate) fn new(limits: Limits, seats: usize) -> Self {
        let wire = Wire { lang: Lang::En, ..Wire::default() };
        Self {
            room: Room::new(limits.clone(), wire).expect("limits that work"),
            names_left: limits.announcements.unwrap_or_default(),
            joined: 0,
            left: 0,
            announcer: Sleeper::default(),
            herald: None,
            keeper: Sleeper::default(),
            limits,
            said: Vec::new(),
            segments: vec![0],
            published: 0,
            swept_until: 0,
            pressed_until: 0,
            peers: (0..seats).map(|_| None).collect(),
            queue: Vec::new(),
            closed: false,
            let_gos: 0,
            missed_lines: 0,
            are_named: false,
            met: BTreeSet::new(),
        }
    }

    /// What the steps since the last call met.
    pub(crate) fn take_met(&mut self) -> BTreeSet<Case> {
        std::mem::take(&mut self.met)
    }

    /// Whether a session could take this step now.
    pub(crate) fn is_enabled(&self, op: Op) -> bool {
        let is = |who: usize, holds: fn(&Peer) -> bool| self.peers[who].as_ref().is_some_and(holds);
        let may_ask = |who| is(who, |peer| peer.is_member() && peer.wants.is_none() && peer.turn.is_none());
        match op {
            Op::Enter => self.peers.iter().any(Option::is_none),
            Op::Say { who, .. } => may_ask(who) || is(who, |peer| peer.turn.is_some()),
            Op::Rename { who, .. } | Op::Hold { who } => may_ask(who),
            Op::Retry { who } => is(who, |peer| peer.wants.is_some()),
            Op::GiveUp { who } => self.queue.contains(&who),
            Op::DropTurn { who } => is(who, |peer| peer.turn.is_some()),
            Op::Read { who, .. } | Op::LetGo { who } | Op::StopReading { who } => is(who, |peer| peer.reader.is_some()),
            Op::Block { who } => self.is(who, Is::Awake) || self.is(who, Is::Parked),
            Op::PlaceEnd { who } => is(who, Peer::is_member),
            Op::Leave { who } => is(who, |_| true),
            Op::EnterTrusted => self.is_enabled(Op::Enter) && self.limits.announcements.is_some(),
            Op::AwaitSpent | Op::TurnPeriod => self.limits.announcements.is_some(),
            // One that has departed may be called as another is.
            Op::Remove { who } => {
                let called = |name| self.peers.iter().flatten().filter(|peer| peer.who == name).count();
                self.peers[who].as_ref().is_some_and(|peer| called(&*peer.who) == 1)
            }
            Op::Announce { .. } => self.herald.is_none(),
            Op::RetryAnnounce | Op::GiveUpAnnounce => self.herald.is_some(),
            Op::AwaitEmpty | Op::Close => true,
        }
    }

    /// Takes the step, if it is [enabled](Self::is_enabled), and judges what comes of it.
    pub(crate) fn apply(&mut self, op: Op) -> Checked {
        if !self.is_enabled(op) {
            return Ok(());
        }
        match op {
            Op::Enter => self.seat(false)?,
            Op::EnterTrusted => self.seat(true)?,
            Op::Say { who, lines, letters } => self.ask(who, Want::Say { lines, letters })?,
            Op::Rename { who, name } => {
                self.are_named = true;
                self.ask(who, Want::Rename { name })?;
            }
            Op::Hold { who } => self.ask(who, Want::Hold)?,
            Op::Retry { who } => self.take_turn(who)?,
            Op::GiveUp { who } => {
                self.meet(Case::FirstOfTwoParkedSendersGaveUp, self.queue[0] == who && self.queue.len() == 2);
                self.peer(who).member.give_up_turn();
                self.unqueue(who);
                self.observe()?;
            }
            Op::DropTurn { who } => {
                self.peer(who).turn = None;
                self.observe()?;
            }
            Op::Read { who, take } => self.read(who, take)?,
            Op::Block { who } => self.block(who)?,
            Op::LetGo { who } => self.let_go(who)?,
            Op::PlaceEnd { who } => {
                self.meet_last(Case::LastDeparted, who);
                self.depart(who);
                self.peer(who).member.place_end();
                if self.peer(who).reader.is_none() {
                    // It may have been woken for its own departure, and finds its end.
                    prop_assert!(self.peer(who).lines_waker.take() <= 1, "law 8: woken twice at once");
                }
                self.observe()?;
            }
            Op::StopReading { who } => {
                let owes = self.reader(who).owes;
                self.meet(Case::StoppedWhileOwing, owes);
                self.meet_last(Case::LastStopped, who);
                self.peer(who).member.stop_reading();
                self.peer(who).reader = None;
                self.observe()?;
            }
            Op::Leave { who } => self.leave(who)?,
            Op::AwaitSpent => self.await_spent()?,
            Op::TurnPeriod => self.turn_period()?,
            Op::Remove { who } => self.remove(who)?,
            Op::Announce { letters } => self.announce(letters)?,
            Op::RetryAnnounce => self.take_heralds_turn()?,
            Op::GiveUpAnnounce => self.give_up_herald()?,
            Op::AwaitEmpty => self.await_empty()?,
            Op::Close => self.close()?,
        }
        self.check_bound()
    }

    /// Law 8: connections take everything and turns are given back; who is awake or was woken goes on, until nobody is. Then
    /// everybody has everything.
    pub(crate) fn quiesce(&mut self) -> Checked {
        for who in 0..self.peers.len() {
            if let Some(peer) = &mut self.peers[who] {
                peer.turn = None;
                self.observe()?;
            }
        }
        for who in 0..self.peers.len() {
            if self.is(who, Is::Blocked) {
                self.read(who, Take::All)?;
            }
        }
        self.come_to_rest()?;
        if self.limits.announcements.is_some() {
            // Nothing is held, so the room is not full, and what was counted is told.
            self.turn_period()?;
            self.come_to_rest()?;
            self.await_spent()?;
            self.check_balance()?;
        }
        prop_assert!(self.herald.is_none(), "law 8: the announcement still waits for its turn");
        for peer in self.peers.iter().flatten() {
            prop_assert!(peer.wants.is_none(), "law 8: {} still waits for its turn", peer.who);
            if let Some(reader) = &peer.reader {
                prop_assert!(peer.end.is_none(), "law 5: {} would have found its end", peer.who);
                prop_assert_eq!(reader.cursor, self.said.len(), "law 8: {} has not everything", &peer.who);
            }
        }
        prop_assert_eq!(self.room.tally().held_bytes, 0, "law 7: nobody is behind, so nothing is held");
        if self.are_named { self.check_names() } else { Ok(()) }
    }

    fn come_to_rest(&mut self) -> Checked {
        let mut rounds = 0;
        while self.go_on()? {
            rounds += 1;
            prop_assert!(rounds < ROUNDS_MAX, "law 8: the room never comes to rest");
        }
        Ok(())
    }

    /// Law 4, once all that was counted is told: who came by name or in a count, and has not gone so, is here. And whoever says
    /// something or changes its name is known by name then. As read in the list, by who knows nothing else.
    fn check_balance(&self) -> Checked {
        if self.closed {
            return Ok(());
        }
        let (mut joined, mut left) = (0, 0);
        let mut known = BTreeSet::new();
        for line in std::str::from_utf8(&self.said).expect("lines in English").lines() {
            if line.starts_with("-! ") {
                // It tells of nobody.
            } else if let Some((who, _)) = line.split_once(": ") {
                prop_assert!(known.contains(who), "law 4: {line}");
            } else if let Some((many_joined, many_left)) = line.split_once(" joined, ") {
                let many_left = many_left.strip_suffix(" left").expect("a count has both");
                joined += many_joined.parse::<usize>().expect("a number");
                left += many_left.parse::<usize>().expect("a number");
            } else if let Some(who) = line.strip_suffix(" joined") {
                known.insert(who.to_owned());
                joined += 1;
            } else if let Some(who) = line.strip_suffix(" is here") {
                known.insert(who.to_owned());
            } else if let Some((who, new)) = line.split_once(" is now ") {
                prop_assert!(known.remove(who), "law 4: {line}");
                prop_assert!(known.insert(new.to_owned()), "law 4: {line}");
            } else {
                let who = line.strip_suffix(" left").expect("no other line");
                prop_assert!(known.remove(who), "law 4: {line}");
                left += 1;
            }
        }
        prop_assert_eq!(joined, left + self.room.tally().members, "law 4: the sums balance");
        Ok(())
    }

    /// Law 9: everyone is dropped as it is, and nothing of anyone is left.
    pub(crate) fn end(mut self) -> Checked {
        if self.herald.is_some() {
            self.give_up_herald()?;
        }
        for who in 0..self.peers.len() {
            if self.peers[who].is_some() {
                self.leave(who)?;
            }
        }
        let left = Tally { said_bytes: 0, let_gos: 0, missed_lines: 0, ..self.room.tally() };
        prop_assert_eq!(left, Tally::default(), "law 9: something is left behind");
        Ok(())
    }

    /// All that decides what can come, and nothing that does not: places are counted from the tail, lines are their lengths,
    /// and members have no names, as each behaves as the next would in its place.
    pub(crate) fn key(&self) -> Vec<u16> {
        let parted = usize::from(u16::MAX);
        let tail = self.segments[0];
        let mut records: Vec<Vec<usize>> = self
            .peers
            .iter()
            .enumerate()
            .map(|(who, peer)| {
                let Some(peer) = peer else { return Vec::new() };
                let place = |at: Option<usize>| at.map_or(0, |at| at + 1);
                let wants = match peer.wants {
                    None => [0, 0, 0],
                    Some(Want::Enter) => [1, 0, 0],
                    Some(Want::Say { lines, letters }) => [2, lines, letters],
                    Some(Want::Rename { name }) => [3, name, 0],
                    Some(Want::Hold) => [4, 0, 0],
                };
                let mut record = vec![
                    1 + usize::from(peer.turn.is_some()),
                    place(peer.name),
                    usize::from(peer.has_entered()) + usize::from(peer.end.is_some()),
                    place(self.queue.iter().position(|queued| *queued == who)),
                    usize::from(peer.sleeps),
                    usize::from(peer.was_let_go),
                    usize::from(peer.is_removed),
                ];
                record.extend(wants);
                // Where everyone is told of by name, nothing comes of these.
                if self.limits.announcements.is_some() {
                    record.extend([peer.arrival as usize, peer.standing as usize]);
                }
                if let Some(reader) = &peer.reader {
                    let end = peer.end.map(|end| end - tail);
                    record.extend([reader.cursor - tail, place(end), reader.is as usize]);
                    record.extend([reader.owes, reader.is_last_at.is_some()].map(usize::from));
                }
                record
            })
            .collect();
        records.sort();
        let [published, head] = [self.published, self.said.len()].map(|at| at - tail);
        // What is too much to be told amid a sweep is too much, however much it is.
        let since_sweep = (self.said.len() - self.swept_until).min(self.limits.prompt_bytes + 1);
        let mut key = vec![usize::from(self.closed), published, head, since_sweep];
        key.extend([self.names_left, self.joined, self.left, usize::from(self.announcer.sleeps)]);
        key.push(usize::from(self.keeper.sleeps));
        if let Some(Herald { letters, sleeps, .. }) = &self.herald {
            let place = self.queue.iter().position(|queued| *queued == HERALD);
            key.extend([1 + letters, place.expect("it waits"), usize::from(*sleeps)]);
            key.push(parted);
        }
        key.extend(self.segments.iter().map(|start| start - tail));
        key.push(parted);
        key.extend(self.said[tail..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at));
        for record in records {
            key.push(parted);
            key.extend(record);
        }
        key.into_iter().map(|number| u16::try_from(number).expect("a small room")).collect()
    }

    fn peer(&mut self, who: usize) -> &mut Peer {
        self.peers[who].as_mut().expect("an enabled step has somebody to take it")
    }

    fn reader(&mut self, who: usize) -> &mut Reader {
        self.peer(who).reader.as_mut().expect("an enabled step has a reader to take it")
    }

    fn is(&self, who: usize, is: Is) -> bool {
        self.peers[who].as_ref().and_then(|peer| peer.reader.as_ref()).is_some_and(|reader| reader.is == is)
    }

    fn is_any(&self, is: Is) -> bool {
        (0..self.peers.len()).any(|who| self.is(who, is))
    }

    fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.peers.iter().flatten().filter_map(|peer| peer.reader.as_ref())
    }

    fn meet(&mut self, case: Case, is_met: bool) {
        if is_met {
            self.met.insert(case);
        }
    }

    /// Meets it if this reader is the last of a sweep and was told so.
    fn meet_last(&mut self, case: Case, who: usize) {
        let reader = self.peer(who).reader.as_ref();
        let is_last = reader.is_some_and(|reader| reader.is_last_at.is_some());
        self.meet(case, is_last);
    }

    fn oldest_end(&self) -> usize {
        self.segments.get(1).copied().unwrap_or(self.said.len())
    }

    fn backlog_bytes(&self) -> usize {
        self.said.len() - self.oldest_end()
    }

    fn promised_bytes(&self) -> usize {
        self.peers.iter().flatten().filter(|peer| peer.turn.is_some()).count() * self.limits.turn_bytes()
    }

    fn is_full(&self) -> bool {
        self.backlog_bytes() + self.promised_bytes() >= self.limits.backlog_bytes
    }

    /// Whether somebody has this name, or the same in another case; one's own does not count.
    fn is_taken(&self, name: usize, by_other_than: Option<usize>) -> bool {
        let others = self.peers.iter().enumerate().filter(|(who, _)| by_other_than != Some(*who));
        others.filter_map(|(_, peer)| peer.as_ref()?.name).any(|held| is_one_name(held, name))
    }

    fn is_sweeping(&self) -> bool {
        self.readers().any(|reader| reader.owes)
    }

    fn is_gathering(&self) -> bool {
        self.published < self.said.len()
    }

    fn append(&mut self, lines: &[u8]) {
        self.append_untold(lines);
        if self.is_sweeping() && self.said.len() - self.swept_until <= self.limits.prompt_bytes {
            self.published = self.said.len();
            self.meet(Case::ToldAmidSweep, true);
        }
    }

    /// Appends what is told with what comes next.
    fn append_untold(&mut self, lines: &[u8]) {
        let open = self.segments.last().expect("one is open");
        if self.said.len() - open >= self.limits.backlog_bytes / 64 {
            self.segments.push(self.said.len());
        } else {
            self.meet(Case::SegmentShared, self.said.len() > *open);
        }
        self.said.extend_from_slice(lines);
    }

    fn seats(&self) -> usize {
        self.peers.iter().flatten().count() + usize::from(self.herald.is_some())
    }

    fn unqueue(&mut self, who: usize) {
        self.queue.retain(|queued| *queued != who);
        self.peer(who).sleeps = false;
    }

    fn seat(&mut self, is_trusted: bool) -> Checked {
        let seat = self.peers.iter().position(Option::is_none).expect("one is free");
        let who = format!("m{seat}");
        self.peers[seat] = Some(Peer {
            turn: None,
            member: self.room.seat(&who),
            who,
            name: None,
            standing: if is_trusted { Standing::Trusted } else { Standing::Silent },
            arrival: Arrival::Untold,
            end: None,
            reader: None,
            wants: None,
            sleeps: false,
            was_let_go: false,
            is_removed: false,
            lines_waker: Arc::default(),
            turn_waker: Arc::default(),
        });
        self.observe()?;
        self.ask(seat, Want::Enter)
    }

    fn ask(&mut self, who: usize, want: Want) -> Checked {
        if let Some(turn) = self.peer(who).turn.take() {
            return self.use_turn(who, turn, want);
        }
        self.peer(who).wants = Some(want);
        self.take_turn(who)
    }

    /// Asks for the turn that the peer wants, and uses it. First come, first served, while the backlog is not full.
    fn take_turn(&mut self, who: usize) -> Checked {
        let was_queued = self.queue.contains(&who);
        let is_next = self.queue.first().is_none_or(|first| *first == who);
        let is_full = self.is_full();
        let closed = self.closed;
        let peer = self.peer(who);
        let waker = Waker::from(Arc::clone(&peer.turn_waker));
        match peer.member.poll_turn(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                prop_assert!(!closed, "law 8: nobody waits in a closed room");
                prop_assert!(!is_next || is_full, "law 8: {} waits, though it is next and there is room", peer.who);
                peer.sleeps = true;
                let is_newcomer = peer.wants == Some(Want::Enter);
                if !was_queued {
                    self.queue.push(who);
                    self.meet(Case::NewcomerParked, is_newcomer);
                    self.meet(Case::NewcomerBehindParkedSender, is_newcomer && self.queue.len() > 1);
                    self.meet(Case::SenderParked, true);
                    self.meet(Case::TwoSendersParked, self.queue.len() == 2);
                    self.meet(Case::SenderBehindHerald, self.queue.contains(&HERALD));
                    self.meet(Case::ParkedByPromisesAlone, is_next && self.backlog_bytes() < self.limits.backlog_bytes);
                }
                self.observe()
            }
            Poll::Ready(Err(Closed)) => {
                prop_assert!(closed || peer.is_removed, "only a closed room refuses {}", peer.who);
                peer.wants = None;
                self.unqueue(who);
                self.observe()
            }
            Poll::Ready(Ok(turn)) => {
                prop_assert!(!closed, "nothing is said in a closed room");
                prop_assert!(!peer.is_removed, "law 4: who was removed says nothing");
                prop_assert!(!is_full, "law 7: {} has its turn, though the backlog is full", peer.who);
                prop_assert!(is_next, "law 8: first come, first served, but not {}", peer.who);
                let want = peer.wants.take().expect("who asks wants something");
                // It is held while it is used: so it counts as promised.
                peer.turn = Some(turn);
                self.unqueue(who);
                self.meet(Case::ParkedSenderServed, was_queued);
                self.observe()?;
                match want {
                    Want::Hold => Ok(()),
                    want => self.ask(who, want),
                }
            }
        }
    }

    fn use_turn(&mut self, who: usize, mut turn: Turn, want: Want) -> Checked {
        let is_member = self.peer(who).is_member();
        let closed = self.closed;
        let peer = self.peers[who].as_mut().expect("it has a turn");
        match want {
            Want::Hold => unreachable!("nobody asks for a second turn"),
            Want::Enter => {
                let outcome = match peer.standing {
                    Standing::Trusted => peer.member.enter(&mut turn),
                    Standing::Silent | Standing::Heard => peer.member.enter_stranger(&mut turn),
                };
                prop_assert_eq!(outcome, Ok(()));
                self.arrive(who);
                let cursor = self.said.len();
                self.peer(who).reader = Some(Reader { cursor, is: Is::Awake, owes: false, is_last_at: None });
            }
            Want::Say { lines, letters } => {
                let lines = format!("{}: {}\n", peer.who, "x".repeat(letters)).repeat(lines);
                let outcome = peer.member.say(&mut turn, lines.as_bytes());
                if is_member && !closed {
                    prop_assert_eq!(outcome, Ok(()));
                    self.introduce(who, [Case::CountedThenSaid, Case::CountToldThenSaid]);
                    self.append(lines.as_bytes());
                } else {
                    prop_assert_eq!(outcome, Err(Closed), "law 4: nothing is said after the end");
                }
                self.meet(Case::TurnUsedAfterItsEnd, !is_member);
                self.meet(Case::TurnUsedAfterClose, closed);
            }
            Want::Rename { name } => {
                let before = peer.name;
                let outcome = peer.member.rename(&mut turn, &parsed(name));
                let is_other_case = before.is_some_and(|held| held != name && is_one_name(held, name));
                if self.is_taken(name, Some(who)) {
                    prop_assert_eq!(outcome, Err(Taken), "names are unique");
                    self.meet(Case::NameTaken, true);
                    let arrival = self.peer(who).arrival;
                    self.meet(Case::CountedThenNameTaken, matches!(arrival, Arrival::Counted | Arrival::CountTold));
                } else {
                    prop_assert_eq!(outcome, Ok(()), "nobody has this name");
                    self.introduce(who, [Case::CountedThenRenamed, Case::CountToldThenRenamed]);
                    let new = NAMES[name].to_owned();
                    let old = std::mem::replace(&mut self.peer(who).who, new);
                    self.peer(who).name = Some(name);
                    self.append(format!("{old} is now {}\n", NAMES[name]).as_bytes());
                    self.meet(Case::OwnNameRespelled, is_other_case);
                }
            }
        }
        // What was said is held, and the promise is still out.
        self.peer(who).turn = Some(turn);
        self.observe()?;
        self.peer(who).turn = None;
        self.observe()
    }

    /// Whether one more arrival or departure of a stranger may be told by name: then it is the budget's.
    fn spend(&mut self) -> bool {
        let may_name = self.limits.announcements.is_none() || self.names_left > 0;
        self.names_left = self.names_left.saturating_sub(1);
        may_name
    }

    fn is_spent(&self) -> bool {
        self.limits.announcements.is_some_and(|most| self.names_left < most || self.joined + self.left > 0)
    }

    /// It has entered: it is told of by name, or counted.
    fn arrive(&mut self, who: usize) {
        let has_names = self.limits.announcements.is_none() || self.names_left > 0;
        let is_trusted = self.peer(who).standing == Standing::Trusted;
        self.meet(Case::TrustedBeyondBudget, is_trusted && !has_names);
        if is_trusted || self.spend() {
            let arrival = format!("{} joined\n", self.peer(who).who);
            self.append(arrival.as_bytes());
            self.peer(who).arrival = Arrival::ByName;
        } else {
            self.joined += 1;
            self.peer(who).arrival = Arrival::Counted;
            self.meet(Case::ArrivalCounted, true);
        }
    }

    /// It is going to be heard of: so it is told of by name before, if it was only counted.
    fn introduce(&mut self, who: usize, [counted, told]: [Case; 2]) {
        let peer = self.peer(who);
        if peer.standing == Standing::Silent {
            peer.standing = Standing::Heard;
        }
        let name = peer.who.clone();
        match std::mem::replace(&mut peer.arrival, Arrival::ByName) {
            Arrival::Untold => unreachable!("it is a member"),
            Arrival::ByName => {}
            Arrival::Counted => {
                self.joined -= 1;
                self.append_untold(format!("{name} joined\n").as_bytes());
                self.meet(counted, true);
                self.meet(Case::NothingLeftToCount, self.joined + self.left == 0);
            }
            Arrival::CountTold => {
                self.append_untold(format!("{name} is here\n").as_bytes());
                self.meet(told, true);
            }
        }
    }

    /// It has left: it is told of by name, or counted.
    fn announce_departure(&mut self, who: usize) {
        let peer = self.peer(who);
        let (arrival, is_known) = (peer.arrival, peer.standing != Standing::Silent);
        let departure = format!("{} left\n", peer.who);
        let has_names = self.limits.announcements.is_none() || self.names_left > 0;
        self.meet(Case::HeardDepartureBeyondBudget, is_known && !has_names);
        let is_by_name = arrival == Arrival::ByName && (is_known || self.spend());
        if is_by_name {
            self.append(departure.as_bytes());
        } else {
            self.left += 1;
        }
        self.meet(Case::GoneBeforeItsCountIsTold, arrival == Arrival::Counted);
        self.meet(Case::GoneAfterItsCountIsTold, arrival == Arrival::CountTold);
        let is_silent = arrival == Arrival::ByName && !is_known && self.limits.announcements.is_some();
        self.meet(Case::SilentDepartureByName, is_silent && is_by_name);
        self.meet(Case::SilentDepartureCounted, is_silent && !is_by_name);
    }

    /// A period ends: names may be told again, and what was counted is told, unless the room is full.
    fn turn_period(&mut self) -> Checked {
        self.room.turn_period();
        self.names_left = self.limits.announcements.unwrap_or_default();
        let is_due = !self.closed && self.joined + self.left > 0;
        let is_full = self.is_full();
        self.meet(Case::FullAtEndOfPeriod, is_due && is_full);
        if is_due && !is_full {
            self.append(format!("{} joined, {} left\n", self.joined, self.left).as_bytes());
            (self.joined, self.left) = (0, 0);
            for peer in self.peers.iter_mut().flatten().filter(|peer| peer.arrival == Arrival::Counted) {
                peer.arrival = Arrival::CountTold;
            }
            self.meet(Case::CountTold, true);
        }
        self.observe()
    }

    /// The announcer sleeps until something is spent.
    fn await_spent(&mut self) -> Checked {
        let waker = Waker::from(Arc::clone(&self.announcer.waker));
        let expected = match (self.closed, self.is_spent()) {
            (true, _) => Poll::Ready(Err(Closed)),
            (false, true) => Poll::Ready(Ok(())),
            (false, false) => Poll::Pending,
        };
        let outcome = self.room.poll_spent(&mut Context::from_waker(&waker));
        drop(waker);
        prop_assert_eq!(outcome, expected, "law 9: nothing ticks where nothing is spent");
        self.announcer.sleeps = expected.is_pending();
        self.observe()
    }

    fn announce(&mut self, letters: usize) -> Checked {
        let room = self.room.clone();
        self.herald = Some(Herald {
            announcing: Box::pin(async move { room.announce("x".repeat(letters).as_bytes()).await }),
            letters,
            sleeps: false,
            waker: Arc::default(),
        });
        self.take_heralds_turn()
    }

    /// The announcement asks for its turn, and is said by it. First come, first served, as members are.
    fn take_heralds_turn(&mut self) -> Checked {
        let was_queued = self.queue.contains(&HERALD);
        let is_next = self.queue.first().is_none_or(|first| *first == HERALD);
        let is_full = self.is_full();
        let line_bytes_max = self.limits.line_bytes_max;
        let mut herald = self.herald.take().expect("an enabled step has somebody to take it");
        let waker = Waker::from(Arc::clone(&herald.waker));
        let polled = herald.announcing.as_mut().poll(&mut Context::from_waker(&waker));
        let is_too_long = herald.letters > line_bytes_max;
        let Poll::Ready(outcome) = polled else {
            prop_assert!(!is_too_long, "who says too much has nothing to wait for");
            prop_assert!(!self.closed, "law 8: nobody waits in a closed room");
            prop_assert!(!is_next || is_full, "law 8: the herald waits, though it is next and there is room");
            herald.sleeps = true;
            self.herald = Some(herald);
            if !was_queued {
                self.queue.push(HERALD);
                self.meet(Case::HeraldParked, true);
                self.meet(Case::HeraldBehindSender, self.queue.len() > 1);
            }
            return self.observe();
        };
        drop(waker);
        let Herald { announcing, letters, waker, .. } = herald;
        drop(announcing);
        prop_assert_eq!(Arc::strong_count(&waker), 1, "law 9: a waker is left behind");
        prop_assert_eq!(waker.take(), 0, "law 8: it is not woken for a turn that it has");
        self.queue.retain(|queued| *queued != HERALD);
        self.meet(Case::AnnouncementTooLong, is_too_long);
        if is_too_long {
            prop_assert_eq!(outcome, Err(NotAnnounced::TooLong { line_bytes_max }));
            return self.observe();
        }
        self.meet(Case::AnnouncedInClosedRoom, self.closed && !was_queued);
        if self.closed {
            prop_assert_eq!(outcome, Err(NotAnnounced::Closed(Closed)), "nothing is said in a closed room");
            return self.observe();
        }
        prop_assert_eq!(outcome, Ok(()), "only a closed room refuses the herald");
        prop_assert!(!is_full, "law 7: the herald has its turn, though the backlog is full");
        prop_assert!(is_next, "law 8: first come, first served, but not the herald");
        self.meet(Case::AnnouncedAtOnce, !was_queued);
        self.meet(Case::ParkedHeraldServed, was_queued);
        self.meet(Case::AnnouncedAmidSweep, self.is_sweeping());
        let is_to_nobody = self.readers().next().is_none();
        self.meet(Case::AnnouncedToNobody, is_to_nobody);
        self.append(format!("-! {}\n", "x".repeat(letters)).as_bytes());
        // It has its turn and its seat for this one step only. What follows from either's end is what follows from the step.
        self.meet(Case::EmptiedByHerald, self.keeper.sleeps && self.seats() == 0);
        self.observe()
    }

    fn give_up_herald(&mut self) -> Checked {
        self.meet(Case::ParkedHeraldGaveUpBeforeSender, self.queue[0] == HERALD && self.queue.len() > 1);
        let Herald { announcing, waker, .. } = self.herald.take().expect("an enabled step has somebody to take it");
        drop(announcing);
        prop_assert_eq!(waker.take(), 0, "law 8: who gives up has no turn");
        prop_assert_eq!(Arc::strong_count(&waker), 1, "law 9: a waker is left behind");
        self.queue.retain(|queued| *queued != HERALD);
        self.meet(Case::EmptiedByHerald, self.keeper.sleeps && self.seats() == 0);
        self.observe()
    }

    /// Somebody sleeps until nobody is there, not even on the way in or out.
    fn await_empty(&mut self) -> Checked {
        let waker = Waker::from(Arc::clone(&self.keeper.waker));
        let is_empty = self.room.poll_empty(&mut Context::from_waker(&waker)).is_ready();
        drop(waker);
        prop_assert_eq!(is_empty, self.seats() == 0, "law 9: whether the room is empty");
        self.keeper.sleeps = !is_empty;
        self.observe()
    }

    /// The peer looks for lines and takes some of what it is given.
    fn read(&mut self, who: usize, take: Take) -> Checked {
        let mut taken = 0;
        while let Some(batch) = self.look(who, taken)? {
            let cursor = self.reader(who).cursor;
            taken = match take {
                Take::All | Take::AllAndOn => batch.bytes(),
                Take::Bytes(most) => most.min(batch.bytes()),
                Take::Step if cursor == 0 || self.said[cursor - 1] == b'\n' => 2,
                Take::Step => batch.first_line().len(),
            };
            if !matches!(take, Take::AllAndOn) {
                self.peer(who).member.pass(taken);
                self.check_in(who);
                self.pass(who, taken);
                return self.observe();
            }
        }
        Ok(())
    }

    /// The peer says what it took of the last lines, and looks for the next.
    fn look(&mut self, who: usize, taken: usize) -> Checked<Option<Batch>> {
        self.pass(who, taken);
        let expected = self.foresee(who);
        let peer = self.peers[who].as_mut().expect("a reader");
        let waker = Waker::from(Arc::clone(&peer.lines_waker));
        let mut batch = Batch::default();
        let next = peer.member.poll_next(taken, &mut batch, &mut Context::from_waker(&waker));
        prop_assert_eq!(next, expected, "laws 2 and 8: what {} finds", &peer.who);
        match next {
            Poll::Pending => self.reader(who).is = Is::Parked,
            Poll::Ready(Next::End) => peer.reader = None,
            Poll::Ready(Next::InTheWay) => {
                self.reader(who).is = Is::Awake;
                self.meet(Case::InTheWay, true);
                self.meet_last(Case::LastInTheWay, who);
            }
            // It is awake, and so it stays.
            Poll::Ready(Next::Later) => {}
            Poll::Ready(Next::Lines) => {
                let until = peer.end.unwrap_or(self.published).min(self.published);
                let reader = peer.reader.as_mut().expect("it reads");
                reader.is = Is::Awake;
                let is_last = reader.is_last_at.is_some();
                let slices = batch.io_slices();
                let got: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                prop_assert!(!got.is_empty(), "law 8: {} is called for nothing", &peer.who);
                prop_assert!(reader.cursor + got.len() <= until, "law 5: {} is given more than is its", &peer.who);
                prop_assert_eq!(&got[..], &self.said[reader.cursor..reader.cursor + got.len()], "laws 1, 2 and 3");
                prop_assert!(
                    slices.len() == WRITE_PIECES_MAX || reader.cursor + got.len() == until,
                    "law 8: {} is given less",
                    &peer.who
                );
                prop_assert_eq!(got.last(), Some(&b'\n'), "law 3: lines are given whole");
                let is_more = reader.owes && reader.cursor + got.len() > self.swept_until;
                self.meet(Case::OwingReaderIsToldMore, is_more);
                let is_pressed = is_last && !self.closed;
                self.meet(Case::LastPressed, is_pressed);
            }
        }
        self.observe()?;
        Ok(if next == Poll::Ready(Next::Lines) { Some(batch) } else { None })
    }

    /// What a look for lines has to bring, and what it does to the sweep.
    fn foresee(&mut self, who: usize) -> Poll<Next> {
        if self.peer(who).reader.is_none() {
            return Poll::Ready(Next::End);
        }
        loop {
            let head = self.said.len();
            let cursor = self.reader(who).cursor;
            let until = self.peer(who).end.unwrap_or(head);
            if cursor == until && self.closed {
                return Poll::Ready(Next::End);
            }
            if self.limits.patience.is_zero() && cursor < self.pressed_until {
                return Poll::Ready(Next::InTheWay);
            }
            if cursor < self.published.min(until) {
                return Poll::Ready(Next::Lines);
            }
            if !self.reader(who).owes {
                return Poll::Pending;
            }
            let is_last = self.is_gathering() && self.readers().filter(|reader| reader.owes).count() == 1;
            let is_last_at = self.reader(who).is_last_at;
            if is_last && is_last_at.is_none() {
                self.reader(who).is_last_at = Some(head);
                self.meet(Case::LastOfSweepLetsOthersSpeak, true);
                return Poll::Ready(Next::Later);
            }
            self.check_in(who);
            let sweeps = self.sweep_unless_owed();
            self.meet(Case::NextSweepByCheckIn, sweeps);
            self.meet(Case::LastGoesOnWithWhatWasSaidMeanwhile, sweeps && is_last_at.is_some_and(|at| at < head));
        }
    }

    /// No sweep waits for this reader any more.
    fn check_in(&mut self, who: usize) {
        let reader = self.reader(who);
        reader.owes = false;
        reader.is_last_at = None;
    }

    fn pass(&mut self, who: usize, taken: usize) {
        let end = self.peer(who).end;
        let reader = self.reader(who);
        reader.cursor += taken;
        if end == Some(reader.cursor) {
            self.peer(who).reader = None;
            self.meet(Case::EndReached, true);
        }
    }

    fn block(&mut self, who: usize) -> Checked {
        let peer = self.peer(who);
        let waker = Waker::from(Arc::clone(&peer.lines_waker));
        let is_in_the_way = peer.member.block(0, &waker);
        let reader = self.reader(who);
        let (cursor, owed) = (reader.cursor, reader.owes);
        reader.is = Is::Blocked;
        self.meet_last(Case::LastBlocked, who);
        self.check_in(who);
        prop_assert_eq!(is_in_the_way, cursor < self.pressed_until, "law 6: who is in the way is told so");
        self.meet(Case::BlockedInTheWay, is_in_the_way);
        self.meet(Case::BlockedWhileOwing, owed);
        self.observe()
    }

    fn let_go(&mut self, who: usize) -> Checked {
        let head = self.said.len();
        let (cursor, end) = (self.reader(who).cursor, self.peer(who).end);
        let Some(LetGo { missed_lines, torn }) = self.peer(who).member.let_go() else {
            prop_assert!(cursor >= self.pressed_until, "law 6: who is in the way is let go");
            self.meet(Case::LetGoRefused, true);
            return self.observe();
        };
        prop_assert!(cursor < self.pressed_until, "law 6: only who is in the way is let go");
        let to = end.unwrap_or(head);
        let is_amid_line = cursor > 0 && self.said[cursor - 1] != b'\n';
        let rest = self.said[cursor..].split_inclusive(|byte| *byte == b'\n').next().filter(|_| is_amid_line);
        prop_assert_eq!(&torn[..], rest.unwrap_or_default(), "law 3: a line is finished before a run is missed");
        let run = &self.said[cursor + torn.len()..to];
        let run = std::str::from_utf8(run).expect("lines in English");
        let missed = run.split_inclusive('\n').count();
        let is_across_count = run.contains(" joined, ");
        let is_across_announcement = run.lines().any(|line| line.starts_with("-! "));
        prop_assert_eq!(missed_lines, missed as u64, "law 2: the count is exact");
        self.let_gos += 1;
        self.missed_lines += missed_lines;
        self.published = head;
        let again = std::mem::replace(&mut self.peer(who).was_let_go, true);
        self.meet_last(Case::LastLetGo, who);
        self.check_in(who);
        self.pass(who, to - cursor);
        self.meet(Case::LetGo, true);
        self.meet(Case::LetGoAmidLine, is_amid_line);
        self.meet(Case::LetGoAgain, again);
        self.meet(Case::LetGoToItsEnd, end.is_some());
        self.meet(Case::LetGoAcrossCount, is_across_count);
        self.meet(Case::LetGoAcrossAnnouncement, is_across_announcement);
        self.observe()
    }

    /// Its departure stands in the sequence, and its name and its place in the queue are free.
    fn depart(&mut self, who: usize) {
        self.meet(Case::ParkedSenderDeparted, self.queue.contains(&who));
        self.unqueue(who);
        let head = self.said.len();
        let closed = self.closed;
        let peer = self.peer(who);
        peer.wants = None;
        let had_name = peer.name.take().is_some();
        if peer.is_member() {
            peer.end = Some(head);
            let ends_here = peer.reader.as_ref().is_some_and(|reader| reader.cursor == head);
            if ends_here {
                peer.reader = None;
            }
            if !closed {
                self.announce_departure(who);
            }
            self.meet(Case::EndAtOnce, ends_here);
        }
        self.meet(Case::NameFreed, had_name);
    }

    fn leave(&mut self, who: usize) -> Checked {
        let owes = self.peer(who).reader.as_ref().is_some_and(|reader| reader.owes);
        self.meet(Case::LeftWhileOwing, owes);
        self.meet_last(Case::LastLeft, who);
        if self.peer(who).turn.take().is_some() {
            self.observe()?;
        }
        let peer = self.peer(who);
        if peer.reader.is_none() {
            let next = peer.member.poll_next(0, &mut Batch::default(), &mut Context::from_waker(Waker::noop()));
            prop_assert_eq!(next, Poll::Ready(Next::End), "law 5: who does not read has its end");
            prop_assert!(!peer.member.block(0, Waker::noop()), "law 6: who does not read is in nobody's way");
            prop_assert_eq!(peer.member.let_go(), None, "law 6: who does not read is not let go");
        }
        self.depart(who);
        let Peer { member, lines_waker, turn_waker, .. } = self.peers[who].take().expect("it leaves once");
        drop(member);
        self.meet(Case::EmptiedByMember, self.keeper.sleeps && self.seats() == 0);
        prop_assert_eq!(turn_waker.take(), 0, "law 8: who leaves has no turn");
        prop_assert_eq!(Arc::strong_count(&lines_waker), 1, "law 9: a waker is left behind");
        prop_assert_eq!(Arc::strong_count(&turn_waker), 1, "law 9: a waker is left behind");
        self.observe()
    }

    /// Law 8: whatever it waits for, it is woken once for it, and finds its end.
    fn remove(&mut self, who: usize) -> Checked {
        let removed = self.room.remove(Whom::Who(&self.peers[who].as_ref().expect("it is enabled").who));
        if self.closed || self.peer(who).is_removed {
            prop_assert_eq!(removed, 0, "law 4: it is removed once, and by nobody at the end");
            return self.observe();
        }
        prop_assert_eq!(removed, 1);
        let (parked, blocked) = (self.is(who, Is::Parked), self.is(who, Is::Blocked));
        let owes = self.peer(who).reader.as_ref().is_some_and(|reader| reader.owes);
        let sleeps = self.peer(who).sleeps;
        let peer = self.peer(who);
        let wakes = (peer.lines_waker.take(), peer.turn_waker.take());
        prop_assert_eq!(wakes, (usize::from(parked || blocked), usize::from(sleeps)), "law 8: how often it is woken");
        self.meet(Case::RemovedWhileParked, parked);
        self.meet(Case::RemovedWhileBlocked, blocked);
        self.meet(Case::RemovedWhileOwing, owes);
        self.meet(Case::RemovedWhileQueued, sleeps);
        self.meet_last(Case::LastRemoved, who);
        let peer = self.peer(who);
        peer.is_removed = true;
        if let Some(reader) = &mut peer.reader {
            reader.is = Is::Awake;
        }
        self.depart(who);
        self.peer(who).reader = None;
        self.observe()
    }

    fn close(&mut self) -> Checked {
        if self.closed {
            self.room.close();
            return self.observe();
        }
        let (parked, blocked) = (self.is_any(Is::Parked), self.is_any(Is::Blocked));
        self.meet(Case::ClosedWithParkedReader, parked);
        self.meet(Case::ClosedWithBlockedReader, blocked);
        self.meet(Case::ClosedWithParkedSender, !self.queue.is_empty());
        self.meet(Case::ClosedWhileGathering, self.is_gathering());
        let is_any_last = self.readers().any(|reader| reader.is_last_at.is_some());
        self.meet(Case::ClosedWithLast, is_any_last);
        self.meet(Case::ClosedWithCount, self.joined + self.left > 0);
        self.meet(Case::ClosedWithAnnouncer, self.announcer.sleeps);
        self.meet(Case::ClosedWithHerald, self.herald.is_some());
        self.room.close();
        self.closed = true;
        self.observe_after(true)
    }

    /// Sweeps when no sweep waits for anybody and something was said since the last; says whether it does.
    fn sweep_unless_owed(&mut self) -> bool {
        let sweeps = self.swept_until < self.said.len() && !self.is_sweeping();
        if sweeps {
            self.sweep();
        }
        sweeps
    }

    fn sweep(&mut self) {
        self.swept_until = self.said.len();
        self.published = self.said.len();
    }

    /// Everyone who has something to do does it once; says whether anybody had.
    fn go_on(&mut self) -> Checked<bool> {
        let mut moved = false;
        for who in 0..self.peers.len() {
            if self.is(who, Is::Awake) {
                moved = true;
                self.read(who, Take::AllAndOn)?;
                let pressed_until = self.pressed_until;
                let is_in_the_way = self.peer(who).reader.as_ref().is_some_and(|reader| reader.cursor < pressed_until);
                if is_in_the_way && self.limits.patience.is_zero() {
                    self.let_go(who)?;
                }
            }
            if self.peers[who].as_ref().is_some_and(|peer| peer.wants.is_some() && !peer.sleeps) {
                moved = true;
                self.take_turn(who)?;
                if self.peer(who).turn.take().is_some() {
                    self.observe()?;
                }
            }
        }
        if self.herald.as_ref().is_some_and(|herald| !herald.sleeps) {
            moved = true;
            self.take_heralds_turn()?;
        }
        Ok(moved)
    }

    fn observe(&mut self) -> Checked {
        self.observe_after(false)
    }

    /// What follows from any call, and what has to be seen of it.
    fn observe_after(&mut self, is_closing: bool) -> Checked {
        self.sweep_unless_owed();
        self.trim();
        let pressed_before = self.pressed_until;
        let is_backlog_full = self.backlog_bytes() >= self.limits.backlog_bytes;
        let presses = !self.closed && !self.queue.is_empty() && is_backlog_full;
        self.pressed_until = if presses { self.oldest_end() } else { 0 };
        let is_pressed = self.pressed_until > pressed_before;
        self.meet(Case::BacklogFull, is_backlog_full);
        self.meet(Case::GatheredLinesPressed, is_pressed && self.is_gathering());
        if is_pressed || is_closing {
            self.sweep();
        }
        self.meet(Case::Gathered, self.is_gathering());
        self.check_readers(is_closing, pressed_before)?;
        self.check_senders(is_closing)?;
        self.check_announcer(is_closing)?;
        self.check_empty()?;
        self.check_tally()
    }

    /// Drops the segments that no reader needs, from the oldest on; with nobody behind, nothing is kept.
    fn trim(&mut self) {
        let head = self.said.len();
        match self.readers().map(|reader| reader.cursor).filter(|cursor| *cursor < head).min() {
            None => self.segments = vec![head],
            Some(slowest) => {
                let passed = self.segments.iter().skip(1).take_while(|start| **start <= slowest).count();
                self.segments.drain(..passed);
            }
        }
        self.published = self.published.max(self.segments[0]);
    }

    /// Law 8, readers: who is parked is woken once by a sweep for what stands behind its place, and by the end; who is blocked
    /// when it comes to be in the way, and by the end; and nobody else.
    fn check_readers(&mut self, is_closing: bool, pressed_before: usize) -> Checked {
        let (swept_until, pressed_until) = (self.swept_until, self.pressed_until);
        let mut pressed = false;
        let (mut swept, mut stays) = (false, false);
        for peer in self.peers.iter_mut().flatten() {
            let wakes = peer.lines_waker.take();
            prop_assert!(wakes <= 1, "law 8: {} is woken {} times at once", peer.who, wakes);
            let was_woken = wakes == 1;
            let Some(reader) = &mut peer.reader else {
                prop_assert!(!was_woken, "law 8: {} is woken and does not read", peer.who);
                continue;
            };
            let (must, may) = match reader.is {
                Is::Awake => (false, false),
                Is::Parked => {
                    let is_due = is_closing || reader.cursor < swept_until;
                    (is_due, is_due)
                }
                Is::Blocked => {
                    let is_in_the_way = reader.cursor < pressed_until;
                    let is_newly = is_in_the_way && reader.cursor >= pressed_before;
                    (is_closing || is_newly, is_closing || is_in_the_way && pressed_until > pressed_before)
                }
            };
            prop_assert!(
                was_woken || !must,
                "law 8: {} is {:?} at {}, and not woken",
                peer.who,
                reader.is,
                reader.cursor
            );
            prop_assert!(!was_woken || may, "law 8: {} is {:?} at {}, and woken", peer.who, reader.is, reader.cursor);
            swept |= was_woken && reader.is == Is::Parked;
            stays |= !was_woken && reader.is == Is::Parked;
            if was_woken {
                reader.owes = reader.is == Is::Parked;
                pressed |= reader.is == Is::Blocked && !is_closing;
                reader.is = Is::Awake;
            }
        }
        self.meet(Case::BlockedReaderPressed, pressed);
        self.meet(Case::SweepLeavesWhoHasAll, swept && stays);
        Ok(())
    }

    /// Law 8, senders: the first of the queue is woken once when there is room for it, all are by the end, and nobody else.
    fn check_senders(&mut self, is_closing: bool) -> Checked {
        let first = self.queue.first().copied().filter(|_| !self.closed && !self.is_full());
        for (who, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let wakes = peer.turn_waker.take();
            let is_due = peer.sleeps && (is_closing || first == Some(who));
            prop_assert_eq!(wakes, usize::from(is_due), "law 8: how often {} is woken for its turn", &peer.who);
            peer.sleeps &= !is_due;
        }
        if let Some(herald) = &mut self.herald {
            let is_due = herald.sleeps && (is_closing || first == Some(HERALD));
            prop_assert_eq!(herald.waker.take(), usize::from(is_due), "law 8: how often the herald is woken");
            herald.sleeps &= !is_due;
        }
        Ok(())
    }

    /// Law 8, the announcer: it is woken once when something is spent, and by the end.
    fn check_announcer(&mut self, is_closing: bool) -> Checked {
        let is_due = self.announcer.sleeps && (is_closing || self.is_spent());
        prop_assert_eq!(self.announcer.waker.take(), usize::from(is_due), "law 8: how often the announcer is woken");
        self.announcer.sleeps &= !is_due;
        self.meet(Case::AnnouncerWoken, is_due && !is_closing);
        let is_kept = Arc::strong_count(&self.announcer.waker) > 1;
        prop_assert_eq!(is_kept, self.announcer.sleeps, "law 9: whether the room keeps the announcer's waker");
        Ok(())
    }

    /// Law 8: who waits for an empty room is woken once, when the last seat goes, though it be a herald's.
    fn check_empty(&mut self) -> Checked {
        let is_due = self.keeper.sleeps && self.seats() == 0;
        prop_assert_eq!(
            self.keeper.waker.take(),
            usize::from(is_due),
            "law 8: how often who waits for nobody is woken"
        );
        self.keeper.sleeps &= !is_due;
        let is_kept = Arc::strong_count(&self.keeper.waker) > 1;
        prop_assert_eq!(is_kept, self.keeper.sleeps, "law 9: whether the room keeps the waker of who waits for nobody");
        Ok(())
    }

    /// Names are whose the list says. A guest asks for each, which changes nothing as it has not entered.
    fn check_names(&self) -> Checked {
        let mut guest = self.room.seat("guest");
        match guest.poll_turn(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Err(TestCaseError::fail("law 8: at rest there is room")),
            Poll::Ready(Err(Closed)) => {
                prop_assert!(self.closed, "only a closed room refuses");
                Ok(())
            }
            Poll::Ready(Ok(mut turn)) => {
                for (name, text) in NAMES.iter().enumerate() {
                    let expected = if self.is_taken(name, None) { Err(Taken) } else { Ok(()) };
                    prop_assert_eq!(guest.rename(&mut turn, &parsed(name)), expected, "law 4: whose {} is", text);
                }
                Ok(())
            }
        }
    }

    fn check_tally(&self) -> Checked {
        let tally = self.room.tally();
        let expected = Tally {
            members: self.peers.iter().flatten().filter(|peer| peer.is_member()).count(),
            seats: self.seats(),
            held_bytes: self.said.len() - self.segments[0],
            partial_bytes: 0,
            senders_parked: self.queue.len(),
            said_bytes: self.said.len() as u64,
            let_gos: self.let_gos,
            missed_lines: self.missed_lines,
        };
        prop_assert_eq!(tally, expected, "laws 2, 4, 7 and 9: the room's numbers, left, are the list's, right");
        prop_assert_eq!(self.room.is_closed(), self.closed);
        for peer in self.peers.iter().flatten() {
            prop_assert_eq!(peer.member.who(), &peer.who, "law 3: WHO is whom it names");
        }
        Ok(())
    }

    /// Law 7, between steps, when no turn is half used: the backlog and the turn that overshoots it, the oldest segment, and
    /// the departures that never wait. That also judges what is foretold.
    fn check_bound(&self) -> Checked {
        let turn = self.limits.turn_bytes();
        let segment = self.limits.backlog_bytes / 64 + turn;
        let departures = self.peers.len() * DEPARTURE_BYTES_MAX;
        let most = self.limits.backlog_bytes + turn + segment + departures;
        let held = self.room.tally().held_bytes;
        prop_assert!(held + self.promised_bytes() <= most, "law 7: {} held, {} promised", held, self.promised_bytes());
        Ok(())
    }
}

fn is_one_name(one: usize, other: usize) -> bool {
    NAMES[one].eq_ignore_ascii_case(NAMES[other])
}

fn parsed(name: usize) -> Name {
    Name::parse(NAMES[name].as_bytes()).expect("a name")
}
