//! The room: what is said in it, read out of it, and who comes and goes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use criterion::{Criterion, Throughput};
use unisono::log::Batch;
use unisono::room::{Member, Next, Turn};
use unisono::{Limits, Room, Wire};

use crate::{SAID, timed};

/// All that is measured here.
pub fn bench(criterion: &mut Criterion) {
    append(criterion);
    read(criterion);
    wake(criterion);
    enter_and_leave(criterion);
}

/// Wakes nobody, and counts it.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A room, one who speaks there and reads nothing, and many who read.
struct Crowd {
    speaker: Member,
    /// Held all the time, so that saying is measured without asking for a turn.
    turn: Turn,
    readers: Vec<Member>,
    woken: Arc<Count>,
    waker: Waker,
}

impl Crowd {
    /// So many readers, each parked.
    fn new(readers: usize) -> Self {
        let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
        let mut speaker = enter(&room, "10.0.0.1:1");
        speaker.stop_reading();
        let turn = turn(&mut speaker);
        let readers = (0..readers).map(|_| enter(&room, "10.0.0.2:2")).collect();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut crowd = Self { speaker, turn, readers, woken, waker };
        crowd.settle();
        crowd
    }

    fn room(&self) -> &Room {
        self.speaker.room()
    }

    fn say(&mut self, lines: &[u8]) {
        self.speaker.say(&mut self.turn, lines).expect("the room is open");
    }

    /// Everyone has read everything, and is parked.
    fn settle(&mut self) {
        self.read_and_park();
        // What was said while some had not read yet is published when the last has: it wakes the others again.
        while self.room().tally().held_bytes > 0 {
            self.read_and_park();
        }
    }

    /// Everyone reads what there is, and parks.
    fn read_and_park(&mut self) {
        let mut cx = Context::from_waker(&self.waker);
        let mut batch = Batch::default();
        for reader in &mut self.readers {
            let mut taken_bytes = 0;
            while let Poll::Ready(next) = reader.poll_next(taken_bytes, &mut batch, &mut cx) {
                assert!(matches!(next, Next::Lines | Next::Later), "it is open: {next:?}");
                taken_bytes = batch.bytes();
            }
        }
    }

    /// Says one line so often while nobody waits for it: everyone is so many pieces behind.
    fn fall_behind(&mut self, pieces: usize) {
        for reader in &mut self.readers {
            reader.block(0, Waker::noop());
        }
        for _ in 0..pieces {
            self.say(SAID);
        }
    }
}

fn enter(room: &Room, who: &str) -> Member {
    let mut member = room.seat(who);
    let mut turn = turn(&mut member);
    member.enter(&mut turn).expect("the room is open");
    member
}

fn turn(member: &mut Member) -> Turn {
    match member.poll_turn(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(turn) => turn.expect("the room is open"),
        Poll::Pending => panic!("the backlog is not full"),
    }
}

fn append(criterion: &mut Criterion) {
    /// So many lines are kept before they are read: two segments.
    const KEPT_LINES: usize = 2 * 65_536 / SAID.len();

    let mut group = criterion.benchmark_group("append");
    let lines = SAID.repeat(4096 / SAID.len());
    let cases = [("line, no reader", &SAID[..]), ("turn of 4 KiB, no reader", &lines)];
    for (name, lines) in cases {
        group.throughput(Throughput::Bytes(lines.len() as u64));
        let mut crowd = Crowd::new(0);
        group.bench_function(name, |bencher| bencher.iter(|| crowd.say(black_box(lines))));
    }

    group.throughput(Throughput::Bytes((KEPT_LINES * SAID.len()) as u64));
    let mut crowd = Crowd::new(1);
    group.bench_function(format!("{KEPT_LINES} lines, kept"), |bencher| {
        let later = |crowd: &mut Crowd| {
            crowd.settle();
            crowd.fall_behind(0);
        };
        let say_all = |crowd: &mut Crowd| {
            for _ in 0..KEPT_LINES {
                crowd.say(black_box(SAID));
            }
        };
        bencher.iter_custom(|iters| timed(&mut crowd, iters, later, say_all));
    });

    group.throughput(Throughput::Elements(1_000));
    let mut crowd = Crowd::new(1_000);
    group.bench_function("line, 1000 parked readers", |bencher| {
        bencher.iter_custom(|iters| timed(&mut crowd, iters, Crowd::settle, |crowd| crowd.say(black_box(SAID))));
    });
    assert_eq!(crowd.woken.0.load(Ordering::Relaxed) % 1_000, 0, "each line woke everyone");
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(1));
    for pieces in [1, 16] {
        let mut crowd = Crowd::new(1);
        crowd.fall_behind(pieces);
        let mut batch = Batch::default();
        let mut read = || {
            let next = crowd.readers[0].poll_next(0, &mut batch, &mut Context::from_waker(Waker::noop()));
            assert_eq!(next, Poll::Ready(Next::Lines));
            batch.bytes()
        };
        assert_eq!(read(), pieces * SAID.len());
        group.bench_function(format!("{pieces} behind"), |bencher| bencher.iter(&mut read));
    }

    group.throughput(Throughput::Elements(1_000));
    for pieces in [1, 16] {
        let mut crowd = Crowd::new(1_000);
        group.bench_function(format!("{pieces} behind, passed, 1000 readers"), |bencher| {
            bencher
                .iter_custom(|iters| timed(&mut crowd, iters, |crowd| crowd.fall_behind(pieces), Crowd::read_and_park));
        });
    }
    group.finish();
}

fn wake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wake");
    for readers in [1_000, 10_000] {
        group.throughput(Throughput::Elements(readers as u64));
        let mut crowd = Crowd::new(readers);
        group.bench_function(format!("{readers} readers"), |bencher| {
            bencher.iter(|| {
                crowd.say(black_box(SAID));
                crowd.read_and_park();
            });
        });
        assert_eq!(crowd.woken.0.load(Ordering::Relaxed) % readers, 0, "each line woke everyone");
    }
    group.finish();
}

fn enter_and_leave(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("enter and leave");
    group.throughput(Throughput::Elements(1));
    let come_and_go = |crowd: &mut Crowd| drop(enter(crowd.room(), black_box("10.0.0.3:3")));

    let mut crowd = Crowd::new(1_000);
    for reader in &mut crowd.readers {
        reader.stop_reading();
    }
    group.bench_function("1000 members who read nothing", |bencher| bencher.iter(|| come_and_go(&mut crowd)));

    let mut crowd = Crowd::new(1_000);
    group.bench_function("1000 parked members", |bencher| {
        bencher.iter_custom(|iters| timed(&mut crowd, iters, Crowd::settle, come_and_go));
    });
    group.finish();
}
