//! What is too much for every schedule: a crowd in one small room, under random schedules that are drawn from seeds.
//!
//! Two talk and read, one talks and reads nothing, one reads a few bytes at a time, one reads so seldom that it is let go, one comes
//! and goes, one queues for turns that it does not use, and somebody closes the room. A witness reads everything; whatever
//! the others have read must be a stretch of that, less what they were told that they missed. Laws 1, 2, 3, 5, 8 and 9.
#![cfg(shuttle)]

use std::env;
use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};
use unisono::log::Batch;
use unisono::room::{Closed, LetGo, Member, Next, Tally};
use unisono::{Lang, Limits, Room, Wire};

/// Lines that each of those who talk says, if the room does not close before.
const LINES: usize = 20;

/// What was read, in order.
#[derive(Debug)]
enum Piece {
    Seen(String),
    Missed(u64),
}

/// One member from its entering to its end.
#[derive(Debug)]
struct Life {
    who: String,
    member: Option<Member>,
    said: Vec<String>,
    read: Vec<Piece>,
    /// Of that, what the room does not know of yet.
    taken_bytes: usize,
    /// It has read everything up to its end.
    ended: bool,
}

impl Life {
    fn enter(room: &Room, who: &str) -> Result<Self, Closed> {
        let mut member = room.seat(who);
        let mut turn = block_on(poll_fn(|cx| member.poll_turn(cx)))?;
        member.enter(&mut turn)?;
        Ok(Self {
            who: who.into(),
            member: Some(member),
            said: Vec::new(),
            read: Vec::new(),
            taken_bytes: 0,
            ended: false,
        })
    }

    fn member(&mut self) -> &mut Member {
        self.member.as_mut().expect("it has not gone")
    }

    /// Says one line when there is room for it.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.member().poll_turn(cx).map(|turn| {
            let mut turn = turn?;
            let line = format!("{}: {}{}\n", self.who, self.said.len(), "-".repeat(thread_rng().gen_range(0..150)));
            self.member().say(&mut turn, line.as_bytes())?;
            self.said.push(line);
            Ok(())
        })
    }

    /// Reads at most so many bytes; pending when there are none.
    fn poll_read(&mut self, bytes_max: usize, cx: &mut Context<'_>) -> Poll<Next> {
        let mut batch = Batch::default();
        let taken_bytes = std::mem::take(&mut self.taken_bytes);
        let next = self.member().poll_next(taken_bytes, &mut batch, cx);
        match next {
            Poll::Ready(Next::Lines) => {
                let slices = batch.io_slices();
                let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                bytes.truncate(bytes_max);
                self.taken_bytes = bytes.len();
                self.read.push(Piece::Seen(String::from_utf8(bytes).expect("lines in English")));
            }
            Poll::Ready(Next::End) => self.ended = true,
            Poll::Ready(Next::InTheWay) => panic!("patience is not zero"),
            Poll::Ready(Next::Later) | Poll::Pending => {}
        }
        next
    }

    /// Says so many lines and reads as far as it can meanwhile, as a connection's one task does.
    fn talk(&mut self, lines: usize) {
        block_on(poll_fn(|cx| {
            loop {
                while let Poll::Ready(next) = self.poll_read(usize::MAX, cx) {
                    if next == Next::End {
                        return Poll::Ready(());
                    }
                }
                if self.said.len() == lines {
                    return Poll::Ready(());
                }
                match self.poll_say(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(Closed)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
    }

    /// Reads up to its end, at most so many bytes at a time; now and then it says so before it yields.
    fn read_to_end(&mut self, bytes_max: usize) {
        while block_on(poll_fn(|cx| self.poll_read(bytes_max, cx))) != Next::End {
            if thread_rng().gen_bool(0.5) {
                let taken_bytes = std::mem::take(&mut self.taken_bytes);
                self.member().pass(taken_bytes);
            }
            thread::yield_now();
        }
    }

    /// Takes nothing more until it is let go or the room has ended.
    fn stall(&mut self) {
        let let_go = block_on(poll_fn(|cx| {
            let taken_bytes = std::mem::take(&mut self.taken_bytes);
            let let_go = if self.member().block(taken_bytes, cx.waker()) { self.member().let_go() } else { None };
            // Asked behind the blocking, as the end wakes only who is blocked by then.
            if let_go.is_some() || self.member().room().is_closed() { Poll::Ready(let_go) } else { Poll::Pending }
        }));
        if let Some(LetGo { missed_lines, torn }) = let_go {
            self.read.push(Piece::Seen(String::from_utf8(torn).expect("lines in English")));
            self.read.push(Piece::Missed(missed_lines));
        }
    }

    fn go(mut self) -> Self {
        self.member = None;
        self
    }

    /// Everything that it has seen, and how many lines it has missed.
    fn check(&self, lines: &[&str]) -> u64 {
        let said: Vec<_> = lines.iter().filter(|line| line.starts_with(&format!("{}: ", self.who))).collect();
        assert!(said.iter().copied().eq(&self.said), "laws 3 and 5: {} said {:?}", self.who, self.said);

        let arrival = format!("{} joined\n", self.who);
        let departure = format!("{} left\n", self.who);
        let behind = lines.iter().position(|line| *line == arrival).expect("law 4: it is told") + 1;
        let end = lines.iter().position(|line| *line == departure).unwrap_or(lines.len());
        let mut missed_lines = 0;
        let mut expected = lines[behind..end].iter().copied();
        let mut torn = "";
        for piece in &self.read {
            match piece {
                Piece::Missed(missed) => {
                    missed_lines += missed;
                    assert_eq!(torn, "", "law 3: a line is finished before others are missed");
                    let missed = usize::try_from(*missed).expect("few");
                    assert_eq!(expected.by_ref().take(missed).count(), missed, "law 2");
                }
                Piece::Seen(text) => {
                    let mut text = text.as_str();
                    while !text.is_empty() {
                        if torn.is_empty() {
                            torn = expected.next().expect("law 2: nothing comes behind its end");
                        }
                        let bytes = torn.len().min(text.len());
                        assert_eq!(text[..bytes], torn[..bytes], "laws 1 to 3: {}", self.who);
                        (text, torn) = (&text[bytes..], &torn[bytes..]);
                    }
                }
            }
        }
        if self.ended {
            assert_eq!((torn, expected.next()), ("", None), "laws 2 and 5: {} got everything", self.who);
        }
        missed_lines
    }
}

/// Talks, reads, and leaves in order.
fn talker(room: &Room, who: &str) -> Vec<Life> {
    let Ok(mut life) = Life::enter(room, who) else { return Vec::new() };
    life.talk(LINES);
    life.member().place_end();
    life.read_to_end(usize::MAX);
    vec![life.go()]
}

/// Talks, reads nothing, and is lost.
fn mute(room: &Room, who: &str) -> Vec<Life> {
    let Ok(mut life) = Life::enter(room, who) else { return Vec::new() };
    life.member().stop_reading();
    while life.said.len() < LINES && block_on(poll_fn(|cx| life.poll_say(cx))).is_ok() {}
    vec![life.go()]
}

/// Comes and goes, in every way.
fn visitor(room: &Room, who: &str) -> Vec<Life> {
    let mut lives = Vec::new();
    for visit in 0..4 {
        let Ok(mut life) = Life::enter(room, &format!("{who}{visit}")) else { break };
        life.talk(thread_rng().gen_range(0..3));
        if visit % 2 == 0 {
            life.member().place_end();
            life.read_to_end(usize::MAX);
        }
        lives.push(life.go());
    }
    lives
}

/// Queues for turns, and gives up its place, is gone, or lets the turn go unused.
fn idler(room: &Room, who: &str) -> Vec<Life> {
    for visit in 0..6 {
        let mut member = room.seat(who);
        let turn = member.poll_turn(&mut Context::from_waker(Waker::noop()));
        thread::yield_now();
        if visit % 2 == 0 {
            member.give_up_turn();
            thread::yield_now();
        }
        drop((turn, member));
    }
    Vec::new()
}

/// Reads few bytes at a time.
fn slow(mut life: Life) -> Vec<Life> {
    life.read_to_end(40);
    vec![life.go()]
}

/// Reads few bytes, and then takes nothing until it is let go.
fn stalled(mut life: Life) -> Vec<Life> {
    let room = life.member().room().clone();
    while !room.is_closed() {
        for _ in 0..thread_rng().gen_range(0..3) {
            let _nothing_yet = life.poll_read(50, &mut Context::from_waker(Waker::noop()));
        }
        life.stall();
    }
    life.read_to_end(usize::MAX);
    vec![life.go()]
}

/// What a search has met.
#[derive(Debug, Default)]
struct Met {
    schedules: AtomicUsize,
    lines: AtomicUsize,
    let_gos: AtomicU64,
    missed_lines: AtomicU64,
}

fn crowd(met: &Met) {
    let limits = Limits { line_bytes_max: 1, backlog_bytes: 408, prompt_bytes: 12, ..Limits::default() };
    let room = Room::new(limits, Wire { lang: Lang::En, ..Wire::default() }).expect("limits that work");
    let [mut witness, one, two] = ["w", "slow", "stalled"].map(|who| Life::enter(&room, who).expect("it is open"));

    let spawn = |run: fn(&Room, &str) -> Vec<Life>, who: &'static str| {
        let room = room.clone();
        thread::spawn(move || run(&room, who))
    };
    let talking = [spawn(talker, "t1"), spawn(talker, "t2"), spawn(mute, "m"), spawn(visitor, "v"), spawn(idler, "i")];
    let reading = [thread::spawn(move || slow(one)), thread::spawn(move || stalled(two))];
    let closing = {
        let room = room.clone();
        thread::spawn(move || {
            // Now and then the end comes while they talk.
            if thread_rng().gen_bool(0.25) {
                room.close();
            }
            let lives: Vec<Life> = talking.into_iter().flat_map(join).collect();
            room.close();
            lives
        })
    };
    witness.read_to_end(usize::MAX);
    let mut lives = closing.join().expect("it ends");
    lives.extend(reading.into_iter().flat_map(join));

    let Tally { said_bytes, let_gos, missed_lines, .. } = room.tally();
    let witness = witness.go();
    let seen: String = witness.read.iter().map(|piece| if let Piece::Seen(text) = piece { text } else { "" }).collect();
    let lines: Vec<&str> = ["w joined\n"].into_iter().chain(seen.split_inclusive('\n')).collect();
    assert_eq!(
        said_bytes,
        lines.iter().map(|line| line.len() as u64).sum::<u64>(),
        "law 2: the witness got everything"
    );
    witness.check(&lines);
    assert_eq!(lives.iter().map(|life| life.check(&lines)).sum::<u64>(), missed_lines, "law 2");
    assert_eq!(room.tally(), Tally { said_bytes, let_gos, missed_lines, ..Tally::default() }, "law 9");

    met.schedules.fetch_add(1, Ordering::Relaxed);
    met.lines.fetch_add(lines.len(), Ordering::Relaxed);
    met.let_gos.fetch_add(let_gos, Ordering::Relaxed);
    met.missed_lines.fetch_add(missed_lines, Ordering::Relaxed);
}

/// The lives that a thread has led.
fn join(thread: JoinHandle<Vec<Life>>) -> Vec<Life> {
    thread.join().expect("it ends")
}

/// Schedules that are drawn from one seed.
const SCHEDULES_PER_SEED: usize = 20;

/// Runs schedules of `UNISONO_SEEDS` seeds from `UNISONO_SEED` on.
fn search<S: Scheduler + 'static>(name: &str, scheduler: impl Fn(u64) -> S) {
    let number = |name, default| env::var(name).map_or(default, |number| number.parse().expect("a number"));
    let (first, count) = (number("UNISONO_SEED", 1), number("UNISONO_SEEDS", 50));
    let (met, from) = (Arc::new(Met::default()), Instant::now());
    for seed in first..first + count {
        let mut config = Config::new();
        config.stack_size = 256 * 1024;
        let met = Arc::clone(&met);
        // Shown if it fails.
        println!("{name}, UNISONO_SEED={seed} UNISONO_SEEDS=1");
        Runner::new(scheduler(seed), config).run(move || crowd(&met));
    }
    // Not `println`, which a test that passes swallows.
    let _ = writeln!(
        io::stderr(),
        "{name}: seeds {first}..{}, {met:?}, {:.1} s",
        first + count,
        from.elapsed().as_secs_f32()
    );
    assert!(met.let_gos.load(Ordering::Relaxed) > 0, "a crowd of which nobody is let go is too well-behaved");
}

#[test]
fn crowd_hears_everything_under_random_schedules() {
    search("random", |seed| RandomScheduler::new_from_seed(seed, SCHEDULES_PER_SEED));
}

/// Few changes of the running thread, at places drawn beforehand: finds what needs one thread to be late by much.
#[test]
fn crowd_hears_everything_under_schedules_of_few_changes() {
    search("few changes", |seed| PctScheduler::new_from_seed(seed, 5, SCHEDULES_PER_SEED));
}
