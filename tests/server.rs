//! The server over streams in memory, on a clock that stands still until everyone waits: what sockets do not do on demand.
//! A connection's task that panics, accepting that fails, peers that take nothing, and the end of it all.

use std::collections::VecDeque;
use std::future::{pending, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadBuf, ReadHalf,
    WriteHalf,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use unisono::limits::{FOREVER, Flood, Rate};
use unisono::listen::Peer;
use unisono::{Lang, Limits, Listener, Room, Who, Wire, server};

/// A stream in memory that panics when it reads a certain byte, counts how often it is asked to write, and takes no more
/// than so many bytes at once.
struct Stream {
    inner: DuplexStream,
    write_polls: Arc<AtomicUsize>,
    bytes_per_write: usize,
    /// It comes from 10.0.0.HOST.
    host: u8,
    polls: usize,
    has_spun: Arc<AtomicBool>,
}

const BOOM: u8 = 0xFE;

/// Far more than any test here needs: who asks as often spins.
const POLLS_MAX: usize = 1_000_000;

impl Stream {
    fn count_poll(&mut self) {
        self.polls += 1;
        if self.polls > POLLS_MAX {
            self.has_spun.store(true, Ordering::Relaxed);
            panic!("it spins");
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.count_poll();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        assert!(!buffer.filled().contains(&BOOM), "a planted panic");
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.count_poll();
        self.write_polls.fetch_add(1, Ordering::Relaxed);
        let most = bytes.len().min(self.bytes_per_write);
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Connections and errors out of a channel, each with a port of its own.
struct Memory {
    incoming: mpsc::UnboundedReceiver<io::Result<Stream>>,
    port: u16,
}

impl Listener for Memory {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<(Stream, Peer)> {
        match self.incoming.recv().await {
            Some(result) => {
                self.port += 1;
                result.map(|stream| {
                    let from = SocketAddr::from(([10, 0, 0, stream.host], self.port)).into();
                    (stream, from)
                })
            }
            None => pending().await,
        }
    }

    fn place(&self) -> io::Result<String> {
        Ok("10.0.0.1:8000".to_owned())
    }
}

/// A panic in a connection ends that connection only, so whether one has spun is looked at in the end.
#[derive(Default)]
struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        assert!(!self.0.load(Ordering::Relaxed) || std::thread::panicking(), "law 9: a connection spins");
    }
}

struct Server {
    room: Room,
    incoming: mpsc::UnboundedSender<io::Result<Stream>>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), server::Error>>,
    write_polls: Arc<AtomicUsize>,
    watch: Watch,
}

impl Server {
    fn start(limits: Limits) -> Self {
        Self::start_with(limits, Who::Address)
    }

    fn start_with(limits: Limits, who: Who) -> Self {
        let room = Room::new(limits, Wire { lang: Lang::En, who, ..Wire::default() }).expect("limits that work");
        let (incoming, listener) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let listener = Memory { incoming: listener, port: 0 };
        let running = tokio::spawn(server::run(vec![listener], room.clone(), shutdown));
        Self { room, incoming, stop: Some(stop), running, write_polls: Arc::default(), watch: Watch::default() }
    }

    /// A connection whose two directions hold so many bytes each.
    fn connect(&self, buffer_bytes: usize) -> Client {
        self.connect_throttled(buffer_bytes, usize::MAX)
    }

    /// As `connect`; the server can write only so many bytes at once, but as often as it likes.
    fn connect_throttled(&self, buffer_bytes: usize, bytes_per_write: usize) -> Client {
        self.connect_from(1, buffer_bytes, bytes_per_write)
    }

    /// As `connect_throttled`, from another address.
    fn connect_from(&self, host: u8, buffer_bytes: usize, bytes_per_write: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(buffer_bytes);
        let write_polls = Arc::clone(&self.write_polls);
        let has_spun = Arc::clone(&self.watch.0);
        let stream = Stream { inner: theirs, write_polls, bytes_per_write, host, polls: 0, has_spun };
        self.incoming.send(Ok(stream)).expect("the server accepts");
        Client(BufReader::new(ours))
    }

    fn fail_accept(&self, error: io::Error) {
        self.incoming.send(Err(error)).expect("the server accepts");
    }

    async fn end(mut self) {
        drop(self.stop.take());
        in_time(self.running).await.expect("the server does not panic").expect("it ends in order");
        assert_eq!(self.room.tally().seats, 0, "law 9: nothing is left behind");
    }
}

/// Law 8: on a clock that stands still until everyone waits, a year passes at once.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(365 * 24 * 3600), work).await.expect("law 8: somebody was not woken")
}

struct Client(BufReader<DuplexStream>);

impl Client {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        in_time(self.0.read_line(&mut line)).await.expect("the stream lives");
        line
    }

    async fn expect(&mut self, expected: &str) {
        assert_eq!(self.line().await, expected);
    }

    async fn say(&mut self, bytes: &[u8]) {
        in_time(self.0.write_all(bytes)).await.expect("the stream lives");
    }

    async fn rest(mut self) -> String {
        let mut rest = String::new();
        in_time(self.0.read_to_string(&mut rest)).await.expect("the stream ends cleanly");
        rest
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_connection_ends_only_it() {
    let server = Server::start(Limits::default());
    let mut witness = server.connect(1 << 16);
    witness.expect("Welcome 10.0.0.1:1\n").await;
    let mut victim = server.connect(1 << 16);
    witness.expect("10.0.0.1:2 joined\n").await;
    victim.say(b"one\ntwo").await;
    witness.expect("10.0.0.1:2: one\n").await;
    victim.say(&[BOOM]).await;
    witness.expect("10.0.0.1:2 left\n").await;
    witness.say(b"still here\n").await;
    witness.expect("10.0.0.1:1: still here\n").await;
    assert_eq!(victim.rest().await, "Welcome 10.0.0.1:2\n10.0.0.1:2: one\n");
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_accepting_are_waited_out() {
    let server = Server::start(Limits::default());
    let mut member = server.connect(1 << 16);
    member.expect("Welcome 10.0.0.1:1\n").await;
    let began = Instant::now();
    // EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, and one that nobody has heard of.
    for errno in [24, 23, 105, 12, 103, 9999] {
        server.fail_accept(io::Error::from_raw_os_error(errno));
    }
    let mut newcomer = server.connect(1 << 16);
    newcomer.expect("Welcome 10.0.0.1:8\n").await;
    // 10, 20, 40, 80, 160 and 320 ms after one error each.
    assert_eq!(began.elapsed().as_millis() / 10 * 10, 630);
    member.expect("10.0.0.1:8 joined\n").await;
    // After a success it begins anew.
    server.fail_accept(io::Error::from_raw_os_error(24));
    let began = Instant::now();
    let mut next = server.connect(1 << 16);
    next.expect("Welcome 10.0.0.1:10\n").await;
    assert_eq!(began.elapsed().as_millis() / 10 * 10, 10);
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn place_that_comes_free_is_tried_at_once() {
    let server = Server::start(Limits::default());
    let mut member = server.connect(1 << 16);
    member.expect("Welcome 10.0.0.1:1\n").await;
    for _ in 0..20 {
        server.fail_accept(io::Error::from_raw_os_error(24));
    }
    let mut newcomer = server.connect(1 << 16);
    // 13.27 s after the first comes the last error, and it would be waited out for a second; amid that the member goes.
    tokio::time::sleep(Duration::from_millis(13_400)).await;
    drop(member);
    let began = Instant::now();
    newcomer.expect("Welcome 10.0.0.1:22\n").await;
    assert!(began.elapsed() <= Duration::from_millis(10), "{:?}", began.elapsed());
    server.end().await;
}

/// Says numbered lines until told to stop or nothing is taken for two simulated seconds; returns how many went in.
async fn flood(client: &mut Client, lines: usize) {
    for line in 0..lines {
        client.say(format!("{line:050}\n").as_bytes()).await;
        client.expect(&format!("10.0.0.1:1: {line:050}\n")).await;
    }
}

fn small() -> Limits {
    Limits { line_bytes_max: 100, backlog_bytes: 8000, ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn reader_that_takes_nothing_holds_the_room_for_patience_and_is_closed_at_the_stall_limit() {
    let server = Server::start(small());
    let mut sender = server.connect(1 << 16);
    sender.expect("Welcome 10.0.0.1:1\n").await;
    let stuck = server.connect(64);
    sender.expect("10.0.0.1:2 joined\n").await;
    let began = Instant::now();
    flood(&mut sender, 2000).await;
    let held_up = began.elapsed();
    assert!(held_up >= Duration::from_secs(1), "patience: the room waited {held_up:?}");
    assert!(held_up <= Duration::from_millis(1010), "law 6 (a): at most P in all, not {held_up:?}");
    sender.expect("10.0.0.1:2 left\n").await;
    let stalled = began.elapsed();
    assert!(stalled >= Duration::from_secs(30), "the stall limit is 30 s, not {stalled:?}");
    assert!(stalled <= Duration::from_millis(30_010), "the stall limit is 30 s, not {stalled:?}");
    drop(stuck);
    assert!(server.room.tally().let_gos > 0);
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn endless_patience_waits_for_the_reader() {
    let server = Server::start(Limits { patience: FOREVER, stall: FOREVER, ..small() });
    let mut sender = server.connect(1 << 16);
    sender.expect("Welcome 10.0.0.1:1\n").await;
    let mut slow = server.connect(64);
    sender.expect("10.0.0.1:2 joined\n").await;
    let saying = tokio::spawn(async move {
        flood(&mut sender, 500).await;
        sender
    });
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert!(!saying.is_finished(), "a reader that takes nothing holds the room for ever");
    slow.expect("Welcome 10.0.0.1:2\n").await;
    for line in 0..500 {
        slow.expect(&format!("10.0.0.1:1: {line:050}\n")).await;
    }
    drop(saying.await.expect("it ends"));
    slow.expect("10.0.0.1:1 left\n").await;
    assert_eq!(server.room.tally().let_gos, 0);
    drop(slow);
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_let_go_is_told_exactly_how_many_lines_it_missed() {
    for patience in [Duration::ZERO, Duration::from_millis(300)] {
        let server = Server::start(Limits { patience, ..small() });
        let mut sender = server.connect(1 << 16);
        sender.expect("Welcome 10.0.0.1:1\n").await;
        let mut slow = server.connect(64);
        sender.expect("10.0.0.1:2 joined\n").await;
        flood(&mut sender, 1000).await;
        sender.say(b"the last\n").await;
        slow.expect("Welcome 10.0.0.1:2\n").await;
        let mut next = 0;
        let mut notices = 0;
        loop {
            let line = slow.line().await;
            if let Some(missed) = line.strip_prefix("-- missed ") {
                let missed: usize = missed.trim_end_matches(" lines\n").parse().expect("a count");
                next += missed;
                notices += 1;
            } else if line == "10.0.0.1:1: the last\n" {
                break;
            } else {
                assert_eq!(line, format!("10.0.0.1:1: {next:050}\n"), "law 2: received and missed add up");
                next += 1;
            }
        }
        assert_eq!(next, 1000);
        assert_eq!(notices, 1, "let go again before it could be told: the counts add up to one notice");
        drop(slow);
        server.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sender_that_does_not_read_its_echo_does_not_hold_up_the_others() {
    // It is let go amid a line, of which the rest is due to it, while it waits in the queue for its next turn.
    for patience in [Duration::ZERO, Duration::from_millis(300)] {
        let server = Server::start(Limits { patience, stall: FOREVER, ..small() });
        let mut sender = server.connect(1 << 16);
        sender.expect("Welcome 10.0.0.1:1\n").await;
        let (_deaf, mut mouth) = tokio::io::split(server.connect(64).0.into_inner());
        sender.expect("10.0.0.1:2 joined\n").await;
        tokio::spawn(async move {
            while mouth.write_all(&[b'x'; 40]).await.is_ok() && mouth.write_all(b"\n").await.is_ok() {}
        });
        let began = Instant::now();
        for line in 0..1000 {
            sender.say(format!("{line:050}\n").as_bytes()).await;
            let echo = format!("10.0.0.1:1: {line:050}\n");
            while sender.line().await != echo {}
        }
        assert!(began.elapsed() <= Duration::from_secs(1), "it was held up for {:?}", began.elapsed());
        assert!(server.room.tally().let_gos > 0);
        server.end().await;
    }
}

/// As `serve` has it by default.
fn slowing() -> Limits {
    Limits { flood: Some(Flood::default()), ..Limits::default() }
}

/// Lines by their numbers, each behind `who`.
fn numbered(who: &str, lines: usize) -> String {
    (0..lines).map(|line| [who, &format!("{line:060}\n")].concat()).collect()
}

/// One who listens and talks, and the two halves of another.
async fn other_and_stranger(server: &Server) -> (Client, ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
    let mut other = server.connect(1 << 20);
    other.expect("Welcome 10.0.0.1:1\n").await;
    let (ears, mouth) = tokio::io::split(server.connect(1 << 20).0.into_inner());
    other.expect("10.0.0.1:2 joined\n").await;
    (other, ears, mouth)
}

/// In two gulps.
#[tokio::test(start_paused = true)]
async fn paste_of_200_lines_passes_at_once() {
    let server = Server::start(slowing());
    let mut member = server.connect(1 << 16);
    member.expect("Welcome 10.0.0.1:1\n").await;
    let began = Instant::now();
    member.say(numbered("", 200).as_bytes()).await;
    for line in 0..200 {
        member.expect(&format!("10.0.0.1:1: {line:060}\n")).await;
    }
    assert!(began.elapsed() <= Duration::from_millis(11), "{:?}", began.elapsed());
    server.end().await;
}

/// What others say comes between the gulps in which it is taken.
#[tokio::test(start_paused = true)]
async fn burst_of_a_stranger_lets_others_speak_amid_it() {
    let server = Server::start(slowing());
    let (mut other, _ears, mut mouth) = other_and_stranger(&server).await;
    let began = Instant::now();
    let line = "x".repeat(999) + "\n";
    mouth.write_all(line.repeat(200).as_bytes()).await.expect("the stream lives");
    let mut heard = 0;
    for chat in 1..=20 {
        other.say(format!("chat {chat}\n").as_bytes()).await;
        let echo = format!("10.0.0.1:1: chat {chat}\n");
        while other.line().await != echo {
            heard += 1;
        }
        // Those of one gulp between two periods, and the line by which each overshoots.
        assert!(heard <= 9 * chat, "{heard} lines before the echo of chat {chat}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while heard < 200 {
        assert_ne!(other.line().await, "", "all of it is said");
        heard += 1;
    }
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    server.end().await;
}

/// It is slowed and not punished; and one who has the room to itself at times is nobody's delay.
#[tokio::test(start_paused = true)]
async fn flood_comes_at_its_pace_whole_and_in_order_and_delays_nobody() {
    let server = Server::start(slowing());
    let (mut other, _ears, mut mouth) = other_and_stranger(&server).await;
    let began = Instant::now();
    mouth.write_all(numbered("", 2000).as_bytes()).await.expect("the stream lives");
    let mut next = 0;
    for chat in 0..90 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let asked = Instant::now();
        let echo = format!("10.0.0.1:1: chat {chat}\n");
        other.say(format!("chat {chat}\n").as_bytes()).await;
        loop {
            let line = other.line().await;
            if line == echo {
                break;
            }
            assert_eq!(line, format!("10.0.0.1:2: {next:060}\n"));
            next += 1;
        }
        assert_eq!(asked.elapsed(), Duration::ZERO, "the other waits for nothing");
        let tenths = usize::try_from(began.elapsed().as_millis() / 100).expect("a short test");
        let due = (256 + tenths).min(2000);
        assert!((due - 1..=due).contains(&next), "{next} lines of {due} after {:?}", began.elapsed());
    }
    assert_eq!(next, 2000);
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn trusted_peers_are_neither_slowed_nor_refused() {
    let trusted = vec!["10.0.0.2/32".parse().expect("a prefix")];
    let connect_rate = Some(Rate { burst: 1, per_second: 1 });
    let server = Server::start(Limits { trusted, connect_rate, ..slowing() });
    let mut members = Vec::new();
    for port in 1..=10 {
        let mut member = server.connect_from(2, 1 << 20, usize::MAX);
        member.expect(&format!("Welcome 10.0.0.2:{port}\n")).await;
        members.push(member);
    }
    let began = Instant::now();
    let mut last = members.pop().expect("there are ten");
    for round in 0..3 {
        // Between the rounds it idles.
        last.say(numbered("", 2000).as_bytes()).await;
        for line in 0..2000 {
            last.expect(&format!("10.0.0.2:10: {line:060}\n")).await;
        }
        assert_eq!(began.elapsed().as_secs(), 3600 * round);
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    server.end().await;
}

/// Law 5.
#[tokio::test(start_paused = true)]
async fn end_of_input_behind_a_flood_loses_nothing() {
    let server = Server::start(slowing());
    let mut member = server.connect(1 << 20);
    member.expect("Welcome 10.0.0.1:1\n").await;
    let began = Instant::now();
    member.say(numbered("", 300).as_bytes()).await;
    in_time(member.0.shutdown()).await.expect("the stream lives");
    let said: String = numbered("10.0.0.1:1: ", 300);
    assert_eq!(member.rest().await, said);
    assert_eq!(began.elapsed(), Duration::from_millis(4_400), "44 lines at 10 a second");
    server.end().await;
}

/// Two names in a second. Who comes from 10.0.0.1 is trusted, who comes from 10.0.0.2 is not.
fn crowded() -> Limits {
    let trusted = vec!["10.0.0.1/32".parse().expect("a prefix")];
    Limits { trusted, announcements: Some(2), ..Limits::default() }
}

impl Server {
    /// A stranger that has entered.
    async fn stranger(&self, port: u16) -> Client {
        let mut stranger = self.connect_from(2, 1 << 16, usize::MAX);
        stranger.expect(&format!("Welcome 10.0.0.2:{port}\n")).await;
        stranger
    }
}

#[tokio::test(start_paused = true)]
async fn crowd_that_comes_and_goes_is_told_in_one_line_a_second() {
    let server = Server::start(crowded());
    let mut witness = server.connect(1 << 16);
    witness.expect("Welcome 10.0.0.1:1\n").await;
    // Nothing is spent, and so the second begins with the first stranger.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for round in 0..3 {
        let began = Instant::now();
        let first = 2 + 10 * round;
        let mut crowd = Vec::new();
        for port in first..first + 10 {
            crowd.push(server.stranger(port).await);
        }
        witness.expect(&format!("10.0.0.2:{first} joined\n")).await;
        witness.expect(&format!("10.0.0.2:{} joined\n", first + 1)).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Who goes before the count is told is in both of its numbers.
        drop(crowd.split_off(7));
        witness.expect("8 joined, 3 left\n").await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        let first_is_left = format!("10.0.0.2:{first} left\n");
        drop(crowd.remove(0));
        witness.expect(&first_is_left).await;
        drop(crowd);
        witness.expect(&format!("10.0.0.2:{} left\n", first + 1)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        witness.expect("0 joined, 5 left\n").await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }
    // Nothing is left to be told.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    witness.say(b"alone\n").await;
    witness.expect("10.0.0.1:1: alone\n").await;
    server.end().await;
}

/// Law 4, whole for whoever speaks.
#[tokio::test(start_paused = true)]
async fn one_who_was_counted_is_told_of_by_name_before_its_first_line() {
    let server = Server::start(Limits { announcements: Some(0), ..crowded() });
    let mut witness = server.connect(1 << 16);
    witness.expect("Welcome 10.0.0.1:1\n").await;
    let mut early = server.stranger(2).await;
    let mut late = server.stranger(3).await;
    early.say(b"hi\n/name Ann\n").await;
    for line in ["10.0.0.2:2 joined\n", "10.0.0.2:2: hi\n", "10.0.0.2:2 is now Ann\n", "1 joined, 0 left\n"] {
        for member in [&mut witness, &mut early, &mut late] {
            member.expect(line).await;
        }
    }
    late.say(b"/who\n/name Bob\nhi\n").await;
    // What it is told alone has no place in the sequence.
    for notice in ["-- 3 here\n", "--   10.0.0.1:1\n", "--   Ann\n", "--   10.0.0.2:3\n"] {
        late.expect(notice).await;
    }
    for line in ["10.0.0.2:3 is here\n", "10.0.0.2:3 is now Bob\n", "Bob: hi\n"] {
        for member in [&mut witness, &mut early, &mut late] {
            member.expect(line).await;
        }
    }
    // However many go, they are told of by name, and at once.
    let began = Instant::now();
    drop(early);
    witness.expect("Ann left\n").await;
    drop(late);
    witness.expect("Bob left\n").await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn trusted_peers_are_told_of_by_name_however_many_come_and_go() {
    let server = Server::start(Limits { announcements: Some(0), ..crowded() });
    let mut witness = server.connect(1 << 16);
    witness.expect("Welcome 10.0.0.1:1\n").await;
    let began = Instant::now();
    let _stranger = server.stranger(2).await;
    for port in 3..103 {
        let mut member = server.connect(1 << 16);
        member.expect(&format!("Welcome 10.0.0.1:{port}\n")).await;
        witness.expect(&format!("10.0.0.1:{port} joined\n")).await;
        drop(member);
        witness.expect(&format!("10.0.0.1:{port} left\n")).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    witness.expect("1 joined, 0 left\n").await;
    server.end().await;
}

/// Laws 4 and 9: an end amid a second waits for nothing, and tells no departures.
#[tokio::test(start_paused = true)]
async fn end_of_the_server_does_not_wait_for_a_count() {
    let server = Server::start(Limits { announcements: Some(0), ..crowded() });
    let mut witness = server.connect(1 << 16);
    witness.expect("Welcome 10.0.0.1:1\n").await;
    let mut stranger = server.stranger(2).await;
    let began = Instant::now();
    let Server { room, stop, running, .. } = server;
    drop(stop);
    stranger.expect("-- server is stopping\n").await;
    drop(stranger);
    assert_eq!(witness.rest().await, "-- server is stopping\n");
    in_time(running).await.expect("the server does not panic").expect("it ends in order");
    assert_eq!((began.elapsed(), room.tally().seats), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn strangers_that_come_too_fast_are_told_so_in_one_line() {
    let server = Server::start(Limits { connect_rate: Some(Rate { burst: 2, per_second: 4 }), ..Limits::default() });
    let mut first = server.connect(1 << 16);
    first.expect("Welcome 10.0.0.1:1\n").await;
    let mut second = server.connect(1 << 16);
    second.expect("Welcome 10.0.0.1:2\n").await;
    let refusal = "-- connecting too fast: at most 4 a second from each address, try again later\n";
    assert_eq!(server.connect(1 << 16).rest().await, refusal);
    server.connect_from(2, 1 << 16, usize::MAX).expect("Welcome 10.0.0.2:4\n").await;
    tokio::time::sleep(Duration::from_millis(249)).await;
    assert_eq!(server.connect(1 << 16).rest().await, refusal);
    tokio::time::sleep(Duration::from_millis(1)).await;
    server.connect(1 << 16).expect("Welcome 10.0.0.1:6\n").await;
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn line_that_does_not_end_ends_its_connection_at_the_deadline() {
    let server = Server::start(Limits::default());
    let mut client = server.connect(1 << 16);
    client.expect("Welcome 10.0.0.1:1\n").await;
    client.say(b"whole\n").await;
    client.expect("10.0.0.1:1: whole\n").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let began = Instant::now();
    for _ in 0..3 {
        client.say(b"x").await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    assert_eq!(client.rest().await, "-- line not ended within 60s: connection closed\n");
    assert_eq!(began.elapsed().as_secs(), 60, "counted from its first byte");
    server.end().await;
}

/// With sockets, closing on unread input would be an RST, which eats what was flushed.
#[tokio::test(start_paused = true)]
async fn what_comes_behind_the_end_is_read_for_a_while_and_discarded() {
    let server = Server::start(Limits::default());
    let mut client = server.connect(64);
    client.expect("Welcome 10.0.0.1:1\n").await;
    client.say(b"/quit\n").await;
    client.expect("").await;
    let began = Instant::now();
    client.say(&[b'x'; 10_000]).await;
    tokio::time::sleep(Duration::from_millis(1_900)).await;
    client.say(&[b'x'; 1_000]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = client.0.write_all(b"x").await.expect_err("it has been closed");
    assert_eq!((error.kind(), began.elapsed().as_millis()), (io::ErrorKind::BrokenPipe, 2_100));
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn line_deadline_counts_only_while_we_read() {
    let server = Server::start(Limits { patience: FOREVER, stall: Duration::from_secs(100), ..small() });
    let mut sender = server.connect(1 << 16);
    sender.expect("Welcome 10.0.0.1:1\n").await;
    let _stuck = server.connect(64);
    sender.expect("10.0.0.1:2 joined\n").await;
    // The room fills, and the sender is parked for the hundred seconds of the stall limit, amid its last line.
    let began = Instant::now();
    let lines = (0..200).map(|line| format!("{line:050}\n")).collect::<Vec<_>>().concat();
    sender.say(lines.as_bytes()).await;
    sender.say(b"half").await;
    tokio::time::sleep(Duration::from_secs(99)).await;
    sender.say(b" and half\n").await;
    let mut seen = Vec::new();
    for _ in 0..202 {
        seen.push(sender.line().await);
    }
    seen.retain(|line| line != "10.0.0.1:2 left\n");
    assert_eq!(seen.len(), 201, "exactly one departure");
    assert_eq!(seen[200], "10.0.0.1:1: half and half\n", "it was no fault of the sender's");
    sender.say(b"never ended").await;
    sender.expect("-- line not ended within 60s: connection closed\n").await;
    assert!(began.elapsed() >= Duration::from_secs(160));
    assert_eq!(sender.rest().await, "");
    server.end().await;
}

/// A refused line says nothing when it ends at last, and what follows it in the same read is a line of its own.
#[tokio::test(start_paused = true)]
async fn line_behind_the_end_of_a_refused_one_has_a_deadline_of_its_own() {
    let limits = Limits { line_bytes_max: 64, line_deadline: Duration::from_millis(200), ..small() };
    let server = Server::start(limits);
    let mut sender = server.connect(1 << 16);
    sender.expect("Welcome 10.0.0.1:1\n").await;
    let steps = [&b"slowly"[..], &[b'x'; 100], b"\nnext", b" line\n"];
    for (step, wait_ms) in steps.into_iter().zip([110, 10, 150, 0]) {
        sender.say(step).await;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    sender.expect("-- line too long, not said: at most 64 bytes\n").await;
    sender.expect("10.0.0.1:1: next line\n").await;
    // And so has one that is refused in its turn.
    for (step, wait_ms) in [(&b"slowly"[..], 110), (&[b'x'; 100], 10), (&[b"\n", &[b'y'; 100][..]].concat(), 150)] {
        sender.say(step).await;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    sender.say(b"\nlast\n").await;
    for _ in 0..2 {
        sender.expect("-- line too long, not said: at most 64 bytes\n").await;
    }
    sender.expect("10.0.0.1:1: last\n").await;
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_flushes_to_who_reads_and_ends_within_grace() {
    let mut server = Server::start(small());
    let mut reader = server.connect(1 << 16);
    reader.expect("Welcome 10.0.0.1:1\n").await;
    let _stuck = server.connect(8);
    reader.expect("10.0.0.1:2 joined\n").await;
    reader.say(b"the last line\n").await;
    reader.expect("10.0.0.1:1: the last line\n").await;
    let began = Instant::now();
    drop(server.stop.take());
    assert_eq!(reader.rest().await, "-- server is stopping\n", "no departures are told");
    in_time(&mut server.running).await.expect("no panic").expect("in order");
    assert!(began.elapsed() <= Duration::from_millis(5010), "grace is 5 s, not {:?}", began.elapsed());
    assert_eq!(server.room.tally().seats, 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_server_ends_everything_it_started() {
    let server = Server::start(Limits::default());
    let mut member = server.connect(1 << 16);
    member.expect("Welcome 10.0.0.1:1\n").await;
    let _other = server.connect(1 << 16);
    member.expect("10.0.0.1:2 joined\n").await;
    server.running.abort();
    assert!(server.running.await.expect_err("it was aborted").is_cancelled());
    let rest = member.rest().await;
    assert!(["", "-- server is stopping\n"].contains(&&*rest), "the stream ends, and no departure is told: {rest:?}");
    assert_eq!(server.room.tally().seats, 0);
    assert!(server.room.is_closed(), "who has the room finds its end");
}

/// Its code is not ours.
struct Panicking;

impl Listener for Panicking {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<(Stream, Peer)> {
        panic!("a planted panic")
    }

    fn place(&self) -> io::Result<String> {
        Ok("10.0.0.1:8000".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_listener_ends_the_server_and_is_told() {
    let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
    let ended = server::run(vec![Panicking], room, pending()).await;
    assert!(matches!(ended, Err(server::Error::Task(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_connection_is_told_why_as_far_as_it_takes_that_and_ended() {
    let server = Server::start(Limits { connections_max: 1, ..Limits::default() });
    let mut member = server.connect(1 << 16);
    member.expect("Welcome 10.0.0.1:1\n").await;
    assert_eq!(
        server.connect_throttled(1 << 16, 3).rest().await,
        "-- server full: at most 1 connections, try again later\n"
    );
    assert_eq!(server.connect(10).rest().await, "-- server ");
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn server_without_listeners_ends_when_asked() {
    let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
    assert!(server::run(Vec::<Memory>::new(), room, ready(())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn answers_are_not_piled_up_for_who_does_not_read_them() {
    let server = Server::start(Limits::default());
    let mut asker = server.connect(4096);
    asker.expect("Welcome 10.0.0.1:1\n").await;
    let (mut answers, mut questions) = tokio::io::split(asker.0.into_inner());
    let asking = tokio::spawn(async move {
        let mut asked = 0;
        let late = tokio::time::sleep(Duration::from_secs(10));
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                result = questions.write_all(b"/help\n") => result.expect("the stream lives"),
                () = &mut late => return (asked, questions),
            }
            asked += 1;
        }
    });
    let (asked, questions) = asking.await.expect("it ends");
    // One read, what the stream holds in either direction, and a partial line: all else waits with the peer.
    assert!(asked < 5000, "{asked} questions were taken without an answer read");
    assert!(server.room.tally().partial_bytes <= 16 * 1024 + 4096);
    let reading = tokio::spawn(async move {
        let mut all = VecDeque::new();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = answers.read(&mut bytes).await {
            all.extend(bytes[..count].iter().copied());
        }
        all.into_iter().filter(|byte| *byte == b'\n').count()
    });
    drop(questions);
    server.end().await;
    assert!(reading.await.expect("it ends") > 0);
}

#[tokio::test(start_paused = true)]
async fn farewell_to_a_connection_that_is_just_full_harms_nobody() {
    let mut server = Server::start(Limits::default());
    let mut reader = server.connect(1 << 16);
    reader.expect("Welcome 10.0.0.1:1\n").await;
    let _full = server.connect("Welcome 10.0.0.1:2\n".len());
    reader.expect("10.0.0.1:2 joined\n").await;
    drop(server.stop.take());
    assert_eq!(reader.rest().await, "-- server is stopping\n");
    in_time(&mut server.running).await.expect("no panic").expect("in order");
    assert_eq!(server.room.tally().seats, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_spins_while_a_parked_sender_is_shut_down() {
    let mut server = Server::start(Limits { patience: FOREVER, ..small() });
    let (_deaf, mut mouth) = tokio::io::split(server.connect(1024).0.into_inner());
    tokio::spawn(
        async move { while mouth.write_all(&[b'y'; 80]).await.is_ok() && mouth.write_all(b"\n").await.is_ok() {} },
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.room.tally().senders_parked, 1);
    drop(server.stop.take());
    let before = server.write_polls.load(Ordering::Relaxed);
    in_time(&mut server.running).await.expect("no panic").expect("in order");
    let polls = server.write_polls.load(Ordering::Relaxed) - before;
    assert!(polls < 20, "{polls} writes were tried in 5 s of grace");
}

#[tokio::test(start_paused = true)]
async fn member_whose_output_never_ends_is_heard() {
    let server = Server::start(Limits { backlog_bytes: 1 << 20, ..Limits::default() });
    let (mut ears, mut mouth) = tokio::io::split(server.connect_throttled(1 << 20, 16).0.into_inner());
    tokio::spawn(async move { tokio::io::copy(&mut ears, &mut tokio::io::sink()).await });
    let mut witness = server.connect(1 << 20);
    witness.expect("Welcome 10.0.0.1:2\n").await;
    for _ in 0..2 {
        let (mut ears, mut mouth) = tokio::io::split(server.connect(1 << 20).0.into_inner());
        tokio::spawn(async move { tokio::io::copy(&mut ears, &mut tokio::io::sink()).await });
        tokio::spawn(async move {
            while mouth.write_all(&[b'z'; 8000]).await.is_ok() && mouth.write_all(b"\n").await.is_ok() {}
        });
    }
    while !witness.line().await.starts_with("10.0.0.1:4: z") {}
    mouth.write_all(b"HELLO\n").await.expect("the stream lives");
    let mut lines = 0;
    while witness.line().await != "10.0.0.1:1: HELLO\n" {
        lines += 1;
        assert!(lines < 20_000, "160 MB were said by others, and not a word heard");
    }
}

#[tokio::test(start_paused = true)]
async fn asking_who_is_here_earns_no_patience() {
    let limits = Limits { backlog_bytes: 16 * 1024, line_bytes_max: 100, ..Limits::default() };
    let b = limits.backlog_bytes as u64;
    let server = Server::start(limits);
    let mut sender = server.connect(1 << 16);
    sender.expect("Welcome 10.0.0.1:1\n").await;
    let crowd: Vec<Client> = (0..50).map(|_| server.connect(1 << 22)).collect();
    // It takes a little more than B in every P, and asks all the time, so that most of what it takes is told to it alone.
    let (mut ears, mut mouth) = tokio::io::split(server.connect(256).0.into_inner());
    tokio::spawn(async move { while mouth.write_all(b"/who\n").await.is_ok() {} });
    tokio::spawn(async move {
        let mut bytes = vec![0; 1720];
        while ears.read_exact(&mut bytes).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let (mut ears, mut mouth) = tokio::io::split(sender.0.into_inner());
    tokio::spawn(async move { tokio::io::copy(&mut ears, &mut tokio::io::sink()).await });
    tokio::spawn(async move {
        while mouth.write_all(&[b'x'; 90]).await.is_ok() && mouth.write_all(b"\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.room.tally().said_bytes;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let said = server.room.tally().said_bytes - before;
    assert!(said >= 29 * b * 15 / 16, "law 6 (a): {said} bytes in 30 P, where {} are due", 29 * b);
    drop(crowd);
}

#[tokio::test(start_paused = true)]
async fn lines_of_a_kilobyte_pass_though_the_memory_for_long_ones_is_spent() {
    let server = Server::start(Limits { partial_bytes_total: 0, ..Limits::default() });
    let mut member = server.connect(1 << 16);
    member.expect("Welcome 10.0.0.1:1\n").await;
    for (bytes, passes) in [(1024, true), (1027, false), (1024, true)] {
        let text = "k".repeat(bytes);
        for piece in text.as_bytes().chunks(100) {
            member.say(piece).await;
            tokio::task::yield_now().await;
        }
        member.say(b"\r\n").await;
        let line = member.line().await;
        if passes {
            assert_eq!(line, format!("10.0.0.1:1: {text}\n"));
        } else {
            assert!(line.starts_with("-- line not said"), "{line}");
        }
    }
    server.end().await;
}

/// Only what comes first on a connection can be a byte order mark, however long the connection was idle before and after.
#[tokio::test(start_paused = true)]
async fn byte_order_mark_is_dropped_as_the_first_bytes_and_is_text_later() {
    let server = Server::start(Limits::default());
    let mut client = server.connect(1 << 16);
    client.expect("Welcome 10.0.0.1:1\n").await;
    // Two of the marks come byte by byte.
    for (pieces, expected) in [
        (&[&b"\xEF"[..], b"\xBB", b"\xBF", b"first\n"][..], "10.0.0.1:1: first\n"),
        (&[b"\xEF\xBB\xBFsecond\n"], "10.0.0.1:1: \u{feff}second\n"),
        (&[b"\xEF", b"\xBB", b"\xBFthird\n"], "10.0.0.1:1: \u{feff}third\n"),
    ] {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        for piece in pieces {
            client.say(piece).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        client.expect(expected).await;
    }
    server.end().await;
}

/// The mark alone, and then silence, is the front of the connection all the same.
#[tokio::test(start_paused = true)]
async fn second_byte_order_mark_is_text_though_nothing_was_said_between() {
    let server = Server::start(Limits::default());
    let mut client = server.connect(1 << 16);
    client.expect("Welcome 10.0.0.1:1\n").await;
    for _ in 0..2 {
        client.say(b"\xEF\xBB\xBF").await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    client.say(b"first\n").await;
    client.expect("10.0.0.1:1: \u{feff}first\n").await;
    server.end().await;
}

/// A page that sends a browser here has the browser speak HTTP, and would have the room hear what it has put into that.
#[tokio::test(start_paused = true)]
async fn nothing_of_what_a_browser_sends_enters_the_room() {
    let server = Server::start(Limits::default());
    let mut witness = server.connect(1 << 16);
    witness.expect("Welcome 10.0.0.1:1\n").await;
    // Of the first line more than is lent, more than may be held of it, and nothing but its end in a read of its own.
    let long = format!("POST /{} HTTP/1.1", "x".repeat(70_000));
    let requests =
        [&["POST / HTTP/1.1\r\n\r\nspam\n"][..], &[&long, "\r", "\n", "spam\n"], &["PRI * HTTP/2.0\r\n\r\n"]];
    for (who, pieces) in ["10.0.0.1:2", "10.0.0.1:3", "10.0.0.1:4"].into_iter().zip(requests) {
        let mut browser = server.connect(1 << 17);
        witness.expect(&format!("{who} joined\n")).await;
        browser.expect(&format!("Welcome {who}\n")).await;
        for piece in pieces {
            browser.say(piece.as_bytes()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        witness.expect(&format!("{who} left\n")).await;
        let rest = browser.rest().await;
        let (told, answer) = rest.split_at(rest.find("HTTP/1.1 400 ").expect("it is answered"));
        let is_long = pieces[0].len() > 65_536;
        assert_eq!(told, if is_long { "-- line too long, not said: at most 65536 bytes\n" } else { "" });
        assert!(answer.contains("\r\nConnection: close\r\n\r\n-- "), "{answer}");
    }
    drop(witness);
    server.end().await;
}

/// Only a first line is guessed at: later it is for people to talk about.
#[tokio::test(start_paused = true)]
async fn request_that_is_pasted_later_is_said() {
    let server = Server::start(Limits::default());
    let mut client = server.connect(1 << 16);
    client.expect("Welcome 10.0.0.1:1\n").await;
    client.say(b"look:\n").await;
    client.expect("10.0.0.1:1: look:\n").await;
    for text in ["GET / HTTP/1.1", "\u{FFFD}"] {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let sent = if text == "\u{FFFD}" { b"\xFF\n".to_vec() } else { format!("{text}\n").into_bytes() };
        client.say(&sent).await;
        client.expect(&format!("10.0.0.1:1: {text}\n")).await;
    }
    server.end().await;
}

/// However long it was idle, and whatever its answers met.
#[tokio::test(start_paused = true)]
async fn telnet_is_answered_and_never_heard() {
    let server = Server::start(Limits::default());
    let mut witness = server.connect(1 << 16);
    witness.expect("Welcome 10.0.0.1:1\n").await;
    let mut telnet = server.connect(16);
    witness.expect("10.0.0.1:2 joined\n").await;
    telnet.expect("Welcome 10.0.0.1:2\n").await;
    for round in 0..3 {
        let round = format!("{round}");
        telnet.say(b"\xFF\xFD\x01\xFF\xFB\n").await;
        let mut answer = [0; 6];
        in_time(telnet.0.read_exact(&mut answer)).await.expect("the stream lives");
        assert_eq!(&answer, b"\xFF\xFC\x01\xFF\xFE\n");
        telnet.say(&[round.as_bytes(), b"\xFF\xF1\xFF\xFA\n\xFF\xF0\r\n"].concat()).await;
        for client in [&mut witness, &mut telnet] {
            client.expect(&format!("10.0.0.1:2: {round}\n")).await;
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn guests_are_numbered_as_they_come_and_no_number_is_given_twice() {
    let server = Server::start_with(Limits::default(), Who::Guest);
    let mut first = server.connect(1 << 16);
    first.expect("Welcome guest-1\n").await;
    let mut second = server.connect(1 << 16);
    second.expect("Welcome guest-2\n").await;
    drop(second);
    for line in ["guest-2 joined\n", "guest-2 left\n"] {
        first.expect(line).await;
    }
    first.say(b"/name guest-3\n").await;
    first.expect("-- name refused: this name would look like one that the server gives to who has none\n").await;
    first.say(b"/name bob\n").await;
    first.expect("guest-1 is now bob\n").await;
    let mut third = server.connect(1 << 16);
    third.expect("Welcome guest-3\n").await;
    first.expect("guest-3 joined\n").await;
    third.say(b"hi\n/who\n").await;
    first.expect("guest-3: hi\n").await;
    drop(first);
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 5 {
        seen.push(third.line().await);
    }
    seen.sort();
    assert_eq!(seen, ["--   bob\n", "--   guest-3\n", "-- 2 here\n", "bob left\n", "guest-3: hi\n"]);
    server.end().await;
}

#[tokio::test(start_paused = true)]
async fn server_in_which_nobody_is_left_ends_without_grace() {
    let server = Server::start(Limits::default());
    let mut client = server.connect(1 << 16);
    client.expect("Welcome 10.0.0.1:1\n").await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    server.end().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn slow_reader_gets_all_that_was_said_within_grace() {
    let mut server = Server::start(Limits::default());
    let mut sender = server.connect(1 << 16);
    sender.expect("Welcome 10.0.0.1:1\n").await;
    let mut slow = server.connect(16);
    sender.expect("10.0.0.1:2 joined\n").await;
    flood(&mut sender, 20).await;
    drop(server.stop.take());
    slow.expect("Welcome 10.0.0.1:2\n").await;
    for line in 0..20 {
        slow.expect(&format!("10.0.0.1:1: {line:050}\n")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(slow.rest().await, "-- server is stopping\n");
    in_time(&mut server.running).await.expect("no panic").expect("in order");
}
