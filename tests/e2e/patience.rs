//! Law 6, and with it law 2 where it is hardest: readers who read nothing or too little hold up nobody for longer than
//! their due, and who was let go is told exactly how much it missed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use unisono::Limits;

use crate::client::{Client, lines, shown};
use crate::process::{DEADLINE, Server, take_turns};

const BACKLOG_BYTES: u64 = 1024 * 1024;
const PATIENCE: Duration = Duration::from_millis(200);
const STALL: Duration = Duration::from_secs(2);
const NEVER_READERS: usize = 200;

/// Law 7's bound for the server of this test.
fn memory_bytes_max() -> u64 {
    let limits = Limits { backlog_bytes: usize::try_from(BACKLOG_BYTES).expect("it fits"), ..Limits::default() };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    limits.memory_bytes_max(NEVER_READERS + 3, threads) as u64
}

fn digest(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// The count in a notice of missed lines, if the line is one.
fn missed_lines(line: &[u8]) -> Option<usize> {
    str::from_utf8(line).ok()?.strip_prefix("-- 错过 ")?.strip_suffix(" 行")?.parse().ok()
}

/// What a reader got, held against all the lines of the room during its stay.
#[derive(Debug, Default)]
struct Account {
    received: usize,
    missed: usize,
    notices: usize,
}

impl Account {
    /// Walks through what was received: each line must be the very one whose turn it is, each notice skips as many as it
    /// says, and at the end nothing may be left over (law 2). Two notices may follow each other: the second is for one who
    /// was let go again after the first had been sent, but no line behind it.
    fn of(received: &[u8], room: &[u64]) -> Self {
        let mut account = Self::default();
        let mut at = 0;
        assert!(received.is_empty() || received.ends_with(b"\n"), "a line reaches a stream whole");
        for line in received.split_inclusive(|&byte| byte == b'\n') {
            let line = &line[..line.len() - 1];
            if let Some(missed) = missed_lines(line) {
                assert!(missed > 0, "a notice of nothing missed");
                account.missed += missed;
                account.notices += 1;
                at += missed;
            } else {
                assert!(at < room.len(), "after {account:?} there is a line too many: {}", shown(line));
                assert_eq!(room[at], digest(line), "no holes: after {account:?} the next line is {}", shown(line));
                account.received += 1;
                at += 1;
            }
        }
        assert_eq!(at, room.len(), "received + reported missed = all lines since it entered: {account:?}");
        account
    }
}

#[test]
fn account_rejects_what_breaks_the_law() {
    let room: Vec<u64> = ["a", "b", "c", "d"].map(|line| digest(line.as_bytes())).to_vec();
    let account = Account::of("a\n-- 错过 2 行\nd\n".as_bytes(), &room);
    assert_eq!((account.received, account.missed, account.notices), (2, 2, 1));
    for wrong in [
        "a\nb\nc\n",
        "a\n-- 错过 1 行\nd\n",
        "-- 错过 0 行\na\nb\nc\nd\n",
        "-- 错过 1 行\n-- 错过 2 行\n",
        "a\nb\nd\nc\n",
        "a\nb\nc\nd",
    ] {
        let outcome = std::panic::catch_unwind(|| Account::of(wrong.as_bytes(), &room));
        assert!(outcome.is_err(), "{wrong:?} passed");
    }
}

/// Ends the flood when the test does, however it does: the threads that live on it then end as well.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Says numbered lines as fast as they are taken until told to stop, then ends its input. Returns how many.
fn say_at_full_speed(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    const LINE_BYTES: usize = 200;
    let mut count = 0_u64;
    let mut batch = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        batch.clear();
        for _ in 0..160 {
            writeln!(batch, "{count:0>LINE_BYTES$}").expect("memory takes it");
            count += 1;
        }
        stream.write_all(&batch).expect("the room takes what is said, sooner or later");
    }
    stream.shutdown(Shutdown::Write).expect("the connection is still there");
    count
}

/// What a reader saw who missed nothing.
#[derive(Default)]
struct Seen {
    /// A digest of each line.
    room: Vec<u64>,
    /// Whose arrivals and departures were seen, in order.
    arrivals: Vec<String>,
    departures: Vec<String>,
    /// How many numbered lines the sender said, none missing.
    said: u64,
}

/// Reads lines as fast as it can, checks the sender's numbers, and stops at the end of the stream or when told to.
///
/// `on_line` learns of each line its length and, if it was a departure, whose.
fn read_steadily(stream: TcpStream, sender: &str, mut on_line: impl FnMut(usize, Option<&str>) -> bool) -> Seen {
    let prefix = format!("{sender}: ").into_bytes();
    let mut seen = Seen::default();
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count =
            reader.read_until(b'\n', &mut line).unwrap_or_else(|e| panic!("{} lines, then {e}", seen.room.len()));
        if count == 0 {
            return seen;
        }
        assert_eq!(line.pop(), Some(b'\n'), "a line reaches a stream whole");
        seen.room.push(digest(&line));
        let mut departed = None;
        if let Some(text) = line.strip_prefix(&prefix[..]) {
            let number: u64 = str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number was said");
            assert_eq!(number, seen.said, "no holes for a steady reader");
            seen.said += 1;
        } else {
            let text = str::from_utf8(&line).expect("all is UTF-8");
            if let Some(who) = text.strip_suffix(" 上线") {
                seen.arrivals.push(who.to_owned());
            } else if let Some(who) = text.strip_suffix(" 下线") {
                seen.departures.push(who.to_owned());
                departed = Some(who);
            } else {
                panic!("a steady reader was told {text:?}");
            }
        }
        if !on_line(count, departed) {
            return seen;
        }
    }
}

/// Reads a little at each tick, and after the last tick everything to the end.
fn read_in_bursts(mut client: Client, ticks: &Receiver<()>) -> Vec<u8> {
    let mut stream = client.stream();
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a TCP stream");
    let mut received = Vec::new();
    let mut burst = vec![0; 24 * 1024];
    while let Ok(()) = ticks.recv() {
        match stream.read(&mut burst) {
            Ok(count) => {
                assert!(count > 0, "one who reads, if slowly, is not sent away");
                received.extend_from_slice(&burst[..count]);
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "the slow reader's stream broke: {e}"),
        }
    }
    client.half_close();
    received.extend(client.read_to_end());
    received
}

/// What the steady reader sets off while it reads: joins every so often, bursts of the slow reader, and news of who went.
struct Pace {
    bytes: u64,
    next_join: u64,
    next_burst: u64,
    chance: u64,
    join: Sender<()>,
    burst: Option<SyncSender<()>>,
    gone: Sender<(String, Instant)>,
}

impl Pace {
    fn new(join: Sender<()>, burst: SyncSender<()>, gone: Sender<(String, Instant)>) -> Self {
        Self { bytes: 0, next_join: BACKLOG_BYTES, next_burst: 0, chance: 0x2545_f491, join, burst: Some(burst), gone }
    }

    /// After each line. That nobody listens any more is none of our business.
    fn on_line(&mut self, line_bytes: usize, departed: Option<&str>, sender: &str) {
        self.bytes += line_bytes as u64;
        if self.bytes >= self.next_join {
            // Joins are half a backlog to four backlogs apart: some are let go together, some hold up the room alone.
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.next_join += BACKLOG_BYTES / 2 * (1 + (self.chance >> 61));
            let _ = self.join.send(());
        }
        if self.bytes >= self.next_burst {
            self.next_burst += 2 * BACKLOG_BYTES;
            if let Some(burst) = &self.burst {
                let _ = burst.try_send(());
            }
        }
        if let Some(who) = departed {
            let _ = self.gone.send((who.to_owned(), Instant::now()));
            if who == sender {
                self.burst = None;
            }
        }
    }
}

#[test]
fn never_readers_hold_up_nobody_beyond_their_due() {
    let _turn = take_turns();
    let server = Server::start(&["--plain", "--backlog", "1MiB", "--patience", "200ms", "--stall", "2s"]);
    let idle_rss_bytes = server.rss_bytes();
    let mut steady = server.join();
    let sender = server.join();
    steady.expect_arrival(sender.who());
    let slow = Client::join_narrow(server.addr());
    steady.expect_arrival(slow.who());
    let (sender_who, slow_who) = (sender.who(), slow.who().to_owned());
    let (join_tick, join_ticks) = mpsc::channel();
    let (burst_tick, burst_ticks) = mpsc::sync_channel(1);
    let (gone, goings) = mpsc::channel();
    let stop = AtomicBool::new(false);
    let seen_bytes = AtomicU64::new(0);
    let mut joined: HashMap<String, Instant> = HashMap::new();
    let mut never_readers: Vec<Client> = Vec::new();

    thread::scope(|scope| {
        let _stop_at_last = StopOnDrop(&stop);
        let began = Instant::now();
        let saying = scope.spawn(|| say_at_full_speed(sender.stream(), &stop));
        // The sender reads its own echo, which it must get whole like anybody else (law 5).
        let echoing = scope.spawn(|| read_steadily(sender.stream(), sender_who, |_, _| true));
        let bursting = scope.spawn(move || read_in_bursts(slow, &burst_ticks));
        let mut pace = Pace::new(join_tick, burst_tick, gone);
        let (stream, seen_bytes, slow_who) = (steady.stream(), &seen_bytes, &slow_who[..]);
        // It owns the senders of all ticks: should it fail, nobody waits for them any longer.
        let reading = scope.spawn(move || {
            read_steadily(stream, sender_who, |line_bytes, departed| {
                seen_bytes.fetch_add(line_bytes as u64, Ordering::Relaxed);
                pace.on_line(line_bytes, departed, sender_who);
                departed != Some(slow_who)
            })
        });

        for _ in 0..NEVER_READERS {
            join_ticks.recv_timeout(DEADLINE).expect("the room goes on");
            let now = Instant::now();
            let never_reader = Client::dial_narrow(server.addr());
            joined.insert(never_reader.who().to_owned(), now);
            never_readers.push(never_reader);
        }
        for _ in 0..NEVER_READERS {
            let (who, when) = goings.recv_timeout(DEADLINE).expect("never-readers are sent away");
            let since = when - *joined.get(&who).unwrap_or_else(|| panic!("{who} departed, who is no never-reader"));
            assert!(since >= STALL * 3 / 4, "{who} was sent away after {since:?} already");
            assert!(since <= STALL + DEADLINE / 2, "{who} was sent away only after {since:?}");
        }
        let (span, accepted_bytes) = (began.elapsed(), seen_bytes.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);

        let said = saying.join().expect("see its message");
        let echo = echoing.join().expect("see its message");
        let seen = reading.join().expect("see its message");
        let received = bursting.join().expect("see its message");
        let rss_bytes = server.rss_peak_bytes();
        // (T/P - 1) x B, and an eighth less, as the account of waiting may be kept in eight buckets.
        let beyond = span.saturating_sub(PATIENCE).as_micros() * u128::from(BACKLOG_BYTES) / PATIENCE.as_micros();
        let due_bytes = u64::try_from(beyond).expect("it is short") * 7 / 8;
        assert!(
            accepted_bytes >= due_bytes,
            "bounded patience: the room took {accepted_bytes} bytes in {span:?}, at least {due_bytes} were due"
        );
        assert_eq!(seen.said, said, "no holes for the steady reader");
        assert_eq!(echo.said, said, "echo is receipt");
        for who in joined.keys() {
            for (event, of) in [("arrival", &seen.arrivals), ("departure", &seen.departures)] {
                assert_eq!(of.iter().filter(|&of| of == who).count(), 1, "brackets: exactly one {event} of {who}");
            }
        }
        // The steady reader has seen the room from the slow one's arrival to its departure, which neither counts.
        let account = Account::of(&received, &seen.room[..seen.room.len() - 1]);
        assert!(account.missed > 0, "the slow reader kept up, which was not the plan: {account:?}");
        let grown_bytes = rss_bytes - idle_rss_bytes;
        assert!(grown_bytes <= memory_bytes_max(), "bounded memory: it grew by {grown_bytes} bytes");
        println!("{span:?}: took {accepted_bytes}, {due_bytes} were due; slow: {account:?}; {rss_bytes} resident");
    });
}

/// Many lines said one after another, each chunk of them only when the one before was seen: whoever says them is never
/// behind. Returns the digests of all that was said.
fn say_in_step(client: &mut Client, chunks: usize, mut on_other: impl FnMut(&str)) -> Vec<u64> {
    const CHUNK_LINES: usize = 64;
    let mut room = Vec::with_capacity(chunks * CHUNK_LINES);
    for chunk in 0..chunks {
        let texts: Vec<String> =
            (0..CHUNK_LINES).map(|line| format!("{:0>1000}", chunk * CHUNK_LINES + line)).collect();
        client.send(&lines(&texts));
        for text in texts {
            let said = format!("{}: {text}", client.who());
            let mut line = client.next_text();
            while line != said {
                room.push(digest(line.as_bytes()));
                on_other(&line);
                line = client.next_text();
            }
            room.push(digest(said.as_bytes()));
        }
    }
    room
}

/// One who reads only when 16 MiB have been said gets what was kept for it, and the exact count of the rest.
fn check_late_reader(patience: &str) {
    let server = Server::start(&["--plain", "--backlog", "1MiB", "--patience", patience]);
    let mut sender = server.join();
    let mut late = Client::join_narrow(server.addr());
    sender.expect_arrival(late.who());
    let mut room = say_in_step(&mut sender, 256, |line| panic!("nobody else is there to bring about {line:?}"));
    late.half_close();
    let account = Account::of(&late.read_to_end(), &room);
    sender.expect_departure(late.who());
    assert!(account.missed > 0 && account.received > 0, "{account:?}");
    // And what came behind its end is nothing to it.
    room.clear();
    sender.say("after");
    sender.expect_echo("after");
}

#[test]
fn late_reader_is_told_exactly_what_it_missed() {
    check_late_reader("50ms");
}

#[test]
fn without_patience_a_late_reader_is_told_exactly_what_it_missed() {
    check_late_reader("0s");
}

#[test]
fn with_endless_patience_one_who_takes_nothing_holds_the_room_for_the_stall_limit() {
    let server = Server::start(&["--plain", "--backlog", "1MiB", "--patience", "forever", "--stall", "1s"]);
    let mut sender = server.join();
    let stuck = Client::join_narrow(server.addr());
    let began = Instant::now();
    sender.expect_arrival(stuck.who());
    let departure = format!("{} 下线", stuck.who());
    let mut departures = 0;
    // More than the backlog and all that is under way can hold: the end of it cannot be reached past a stuck reader.
    say_in_step(&mut sender, 256, |line| {
        assert_eq!(line, departure, "nothing but the stuck one's departure comes between");
        departures += 1;
    });
    assert_eq!(departures, 1, "brackets: exactly one departure of who was sent away");
    assert!(began.elapsed() >= Duration::from_millis(750), "it was sent away before the stall limit");
}

#[test]
fn one_who_takes_a_little_now_and_then_is_not_stalled() {
    let server = Server::start(&["--plain", "--stall", "2s"]);
    let mut sender = server.join();
    let slow = Client::join_narrow(server.addr());
    sender.expect_arrival(slow.who());
    // Two megabytes, of which it will take a seventh while we watch: more than the stall limit, and always with more due.
    say_in_step(&mut sender, 32, |line| panic!("nobody else is there to bring about {line:?}"));
    let mut stream = slow.stream();
    let mut burst = vec![0; 24 * 1024];
    for round in 0..12 {
        // Whatever ends its connection shows as a departure; hearing nothing for a while is also what sets the pace.
        let heard = sender.hears_within(Duration::from_millis(400));
        assert!(!heard, "after {round} bursts: {:?}; the log: {}", sender.next_text(), server.stderr());
        let count = stream.read(&mut burst).unwrap_or_else(|e| panic!("after {round} bursts: {e}"));
        assert!(count > 0, "the stream ended after {round} bursts");
    }
}

/// A room that one who reads nothing holds full for ever, a witness who reads, and one who is parked with lines to say.
struct FullRoom {
    server: Server,
    stuck: Client,
    witness: Client,
    bystander: Client,
    flooder: Client,
    flooded_line: String,
}

impl FullRoom {
    fn fill() -> Self {
        let server = Server::start(&["--plain", "--backlog", "1MiB", "--patience", "forever", "--stall", "forever"]);
        let mut stuck = Client::join_narrow(server.addr());
        let [mut witness, mut bystander, flooder] = server.company();
        for client in [&witness, &bystander, &flooder] {
            stuck.expect_arrival(client.who());
        }
        // It writes until nothing is taken for a while: the room is full, and the flooder parked in it.
        let mut stream = flooder.stream();
        stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a TCP stream");
        let text = "x".repeat(1000);
        let line = lines([&text]);
        let full = (0..64 * 1024).find_map(|_| stream.write_all(&line).err());
        let full = full.expect("64 MiB were taken into a backlog of 1 MiB that a reader holds for ever");
        assert_eq!(full.kind(), ErrorKind::WouldBlock, "the flooder's stream broke: {full}");
        let flooded_line = format!("{}: {text}", flooder.who());
        // Both have read all there is, and see from here on only what happens in spite of the full room.
        for client in [&mut witness, &mut bystander] {
            while client.hears_within(Duration::from_millis(300)) {
                client.expect_line(&flooded_line);
            }
        }
        Self { server, stuck, witness, bystander, flooder, flooded_line }
    }

    /// Frees the room, and asserts that all goes on and that the one in the way has missed nothing.
    fn expect_all_goes_on(mut self, departed: &str) {
        let departure = format!("{departed} 下线");
        let mut departures = 0;
        self.witness.say("at last");
        // These two read from now on, or else they would be the next in the way; they end with the server.
        for client in [&self.witness, &self.flooder] {
            let mut stream = client.stream();
            thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
        let last = format!("{}: at last", self.witness.who());
        loop {
            let line = self.stuck.next_text();
            if line == last {
                break;
            }
            departures += usize::from(line == departure);
            assert!(line == departure || line == self.flooded_line, "{line:?}; log: {}", self.server.stderr());
        }
        assert_eq!(departures, 1, "brackets: exactly one departure");
    }
}

#[test]
fn departure_is_told_while_the_room_is_full() {
    let mut room = FullRoom::fill();
    let who = room.bystander.who().to_owned();
    room.bystander.half_close();
    room.witness.expect_departure(&who);
    room.bystander.expect_end();
    room.expect_all_goes_on(&who);
}

#[test]
fn parked_sender_whose_connection_breaks_is_noticed_while_the_room_is_full() {
    let room = FullRoom::fill();
    let FullRoom { server: _server, stuck: _stuck, bystander: _bystander, mut witness, flooder, .. } = room;
    let who = flooder.who().to_owned();
    flooder.reset();
    witness.expect_departure(&who);
}
