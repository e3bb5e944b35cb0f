//! The room against a plain list: any interleaving of entering, saying, reading, blocking, letting go, leaving and closing,
//! with every wake-up counted. One thread, so every step is whole; what happens between threads is for the models.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use unisono::log::Batch;
use unisono::room::{Member, Next};
use unisono::{Lang, Limits, Room, Wire};

#[derive(Clone, Debug)]
enum Op {
    Enter,
    /// The member says a line with so much text.
    Say(usize, usize),
    /// The member takes at most so many bytes.
    Read(usize, usize),
    Block(usize),
    LetGo(usize),
    PlaceEnd(usize),
    Leave(usize),
    StopReading(usize),
    Close,
}

const MEMBERS: usize = 6;

fn op() -> impl Strategy<Value = Op> {
    let who = 0..MEMBERS;
    prop_oneof![
        3 => Just(Op::Enter),
        12 => (who.clone(), 0..60usize).prop_map(|(who, text)| Op::Say(who, text)),
        12 => (who.clone(), 1..400usize).prop_map(|(who, bytes)| Op::Read(who, bytes)),
        4 => who.clone().prop_map(Op::Block),
        4 => who.clone().prop_map(Op::LetGo),
        1 => who.clone().prop_map(Op::PlaceEnd),
        1 => who.clone().prop_map(Op::Leave),
        1 => who.prop_map(Op::StopReading),
        1 => prop_oneof![30 => Just(Op::Enter), 1 => Just(Op::Close)],
    ]
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One member, and what the oracle knows of it.
struct Peer {
    member: Member,
    wakes: Arc<Count>,
    who: String,
    /// Where it stands in the list of all bytes.
    cursor: usize,
    end: Option<usize>,
    entered: bool,
    reads: bool,
    /// Parked as a reader when it had been woken so often.
    parked_at: Option<usize>,
    /// Waiting for a turn since it had been woken so often.
    queued_at: Option<usize>,
    /// What it wants to say once it has its turn.
    wants: Option<Vec<u8>>,
}

struct World {
    room: Room,
    /// The slow truth: everything that stands in the sequence.
    said: Vec<u8>,
    peers: Vec<Peer>,
    /// Who waits for a turn, in the order of coming.
    queue: Vec<String>,
    born: usize,
    closed: bool,
}

const LIMITS: Limits = Limits {
    line_bytes_max: 60,
    backlog_bytes: 1500,
    patience: Duration::from_secs(1),
    stall: Duration::from_secs(1),
    line_deadline: Duration::from_secs(1),
    grace: Duration::from_secs(1),
    linger: Duration::from_secs(1),
    connections_max: usize::MAX,
    per_ip_max: usize::MAX,
    partial_bytes_total: 1 << 20,
};

impl World {
    fn new() -> Self {
        let wire = Wire { lang: Lang::En, ..Wire::default() };
        let room = Room::new(LIMITS, wire).expect("limits that work");
        Self { room, said: Vec::new(), peers: Vec::new(), queue: Vec::new(), born: 0, closed: false }
    }

    fn woken(peer: &Peer) -> usize {
        peer.wakes.0.load(Ordering::Relaxed)
    }

    /// Asks for the peer's turn and uses it.
    fn take_turn(&mut self, index: usize) -> Result<(), TestCaseError> {
        let peer = &mut self.peers[index];
        let Some(wants) = peer.wants.clone() else { return Ok(()) };
        let waker = Waker::from(Arc::clone(&peer.wakes));
        match peer.member.poll_turn(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                prop_assert!(!self.closed, "nobody waits in a closed room");
                if !self.queue.contains(&peer.who) {
                    self.queue.push(peer.who.clone());
                }
                peer.queued_at = Some(Self::woken(peer));
            }
            Poll::Ready(Err(_)) => {
                prop_assert!(self.closed);
                peer.wants = None;
                peer.queued_at = None;
                self.queue.retain(|who| *who != peer.who);
            }
            Poll::Ready(Ok(mut turn)) => {
                prop_assert!(
                    self.queue.first().is_none_or(|first| *first == peer.who),
                    "first come, first served: {} before {:?}",
                    peer.who,
                    self.queue
                );
                self.queue.retain(|who| *who != peer.who);
                peer.wants = None;
                peer.queued_at = None;
                if peer.entered {
                    prop_assert_eq!(peer.member.say(&mut turn, &wants), Ok(()));
                    self.said.extend_from_slice(&wants);
                } else {
                    prop_assert_eq!(peer.member.enter(&mut turn), Ok(()));
                    self.said.extend_from_slice(&wants);
                    peer.entered = true;
                    peer.reads = true;
                    peer.cursor = self.said.len();
                }
            }
        }
        Ok(())
    }

    fn depart(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if peer.entered && peer.end.is_none() {
            peer.end = Some(self.said.len());
            if !self.closed {
                self.said.extend_from_slice(format!("{} left\n", peer.who).as_bytes());
            }
        }
    }

    /// The peer takes up to `most` bytes of what it is given; says whether it got any.
    fn read(&mut self, index: usize, most: usize) -> Result<bool, TestCaseError> {
        let peer = &mut self.peers[index];
        if !peer.reads {
            return Ok(false);
        }
        let waker = Waker::from(Arc::clone(&peer.wakes));
        let mut cx = Context::from_waker(&waker);
        let mut batch = Batch::default();
        peer.parked_at = None;
        match peer.member.poll_next(0, &mut batch, &mut cx) {
            Poll::Pending => {
                peer.parked_at = Some(Self::woken(peer));
                Ok(false)
            }
            Poll::Ready(Next::End) => {
                let end = peer.end.unwrap_or(self.said.len());
                prop_assert_eq!(peer.cursor, end, "the end is where everything was read");
                prop_assert!(peer.end.is_some() || self.closed);
                peer.reads = false;
                Ok(false)
            }
            Poll::Ready(Next::InTheWay) => Err(TestCaseError::fail("patience is not zero")),
            Poll::Ready(Next::Lines) => {
                let mut slices = [std::io::IoSlice::new(&[]); 16];
                let count = batch.io_slices(&mut slices);
                let got: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                prop_assert!(!got.is_empty());
                prop_assert_eq!(&got[..], &self.said[peer.cursor..peer.cursor + got.len()], "laws 1, 2 and 3");
                prop_assert!(peer.end.is_none_or(|end| peer.cursor + got.len() <= end));
                let taken = most.min(got.len());
                peer.cursor += taken;
                peer.member.pass(taken);
                Ok(true)
            }
        }
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Enter if self.peers.len() < MEMBERS => {
                self.born += 1;
                let who = format!("m{}", self.born);
                self.peers.push(Peer {
                    member: self.room.seat(&who),
                    wakes: Arc::default(),
                    wants: Some(format!("{who} joined\n").into_bytes()),
                    who,
                    cursor: 0,
                    end: None,
                    entered: false,
                    reads: false,
                    parked_at: None,
                    queued_at: None,
                });
                self.take_turn(self.peers.len() - 1)?;
            }
            Op::Say(index, text) if index < self.peers.len() => {
                let peer = &mut self.peers[index];
                if peer.entered && peer.end.is_none() && peer.wants.is_none() {
                    peer.wants = Some(format!("{}: {}\n", peer.who, "x".repeat(text)).into_bytes());
                }
                self.take_turn(index)?;
            }
            Op::Read(index, most) if index < self.peers.len() => {
                self.read(index, most)?;
            }
            Op::Block(index) if index < self.peers.len() && self.peers[index].reads => {
                let peer = &mut self.peers[index];
                peer.parked_at = None;
                peer.member.block(0, &Waker::from(Arc::clone(&peer.wakes)));
            }
            Op::LetGo(index) if index < self.peers.len() && self.peers[index].reads => {
                let full = self.room.tally();
                let peer = &mut self.peers[index];
                peer.member.block(0, &Waker::from(Arc::clone(&peer.wakes)));
                peer.parked_at = None;
                if let Some(let_go) = peer.member.let_go() {
                    prop_assert!(full.held_bytes >= LIMITS.backlog_bytes, "only a full backlog lets go");
                    prop_assert!(full.senders_parked > 0, "and only if somebody waits");
                    let end = peer.end.unwrap_or(self.said.len());
                    let torn_end = peer.cursor + let_go.torn.len();
                    prop_assert_eq!(&let_go.torn[..], &self.said[peer.cursor..torn_end]);
                    prop_assert_eq!(self.said[torn_end - 1], b'\n', "a line is finished before a run is missed");
                    let missed = self.said[torn_end..end].split_inclusive(|byte| *byte == b'\n').count();
                    prop_assert_eq!(let_go.missed_lines, missed as u64, "law 2: the count is exact");
                    peer.cursor = end;
                }
            }
            Op::PlaceEnd(index) if index < self.peers.len() && self.peers[index].wants.is_none() => {
                self.depart(index);
                self.peers[index].member.place_end();
            }
            Op::Leave(index) if index < self.peers.len() => {
                self.depart(index);
                let peer = self.peers.remove(index);
                self.queue.retain(|who| *who != peer.who);
            }
            Op::StopReading(index) if index < self.peers.len() => {
                self.peers[index].reads = false;
                self.peers[index].parked_at = None;
                self.peers[index].member.stop_reading();
            }
            Op::Close => {
                self.room.close();
                self.closed = true;
            }
            _ => {}
        }
        self.check()
    }

    /// What holds after every step.
    fn check(&self) -> Result<(), TestCaseError> {
        let tally = self.room.tally();
        prop_assert_eq!(tally.said_bytes, self.said.len() as u64);
        prop_assert_eq!(tally.members, self.peers.iter().filter(|peer| peer.entered && peer.end.is_none()).count());
        prop_assert_eq!(tally.seats, self.peers.len());
        let most = LIMITS.backlog_bytes + 2 * LIMITS.turn_bytes() + LIMITS.backlog_bytes / 64 + MEMBERS * 10;
        prop_assert!(tally.held_bytes <= most, "law 7: {} held", tally.held_bytes);
        Ok(())
    }

    /// Law 8: lets everyone who was woken go on, until nobody is, and then nobody may be waiting for what is there.
    fn quiesce(&mut self) -> Result<(), TestCaseError> {
        for index in 0..self.peers.len() {
            while self.read(index, usize::MAX)? {}
        }
        loop {
            let mut moved = false;
            for index in 0..self.peers.len() {
                let peer = &self.peers[index];
                if peer.parked_at.is_some_and(|at| at < Self::woken(peer)) {
                    moved = true;
                    while self.read(index, usize::MAX)? {}
                }
                let peer = &self.peers[index];
                if peer.queued_at.is_some_and(|at| at < Self::woken(peer)) {
                    moved = true;
                    self.take_turn(index)?;
                    while self.read(index, usize::MAX)? {}
                }
            }
            if !moved {
                break;
            }
        }
        for peer in &self.peers {
            prop_assert!(peer.wants.is_none(), "law 8: {} still waits for its turn", peer.who);
            if peer.reads {
                prop_assert!(peer.end.is_none(), "it would have found its end");
                let end = self.said.len();
                prop_assert_eq!(peer.cursor, end, "law 8: {} has not everything", &peer.who);
            }
        }
        prop_assert_eq!(self.room.tally().held_bytes, 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn room_is_the_list_of_all_lines(ops in proptest::collection::vec(op(), 1..250)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op)?;
        }
        world.quiesce()?;
        let room = world.room.clone();
        drop(world);
        prop_assert_eq!(room.tally().seats, 0, "law 9");
        prop_assert_eq!(room.tally().members, 0, "law 9");
    }
}
