//! A drive by hand, poll by poll, over a stream that takes and gives what a test lets it; the clock stands still but where a
//! test moves it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::door::{Door, Password, Passwords, Policy, Verdict};
use crate::limits::{FOREVER, Flood, Limits, Rate};
use crate::listen::{Origin, Peer};
use crate::name::Name;
use crate::notice::Lang;
use crate::room::{Room, Turn, Whom};
use crate::session::Wire;

const WHO: &str = "10.0.0.1:1";
const LINE_DEADLINE: Duration = Duration::from_secs(60);
const LINGER: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(3600);

/// Far more than any test here needs: who is polled as often spins.
const POLLS_MAX: usize = 10_000;

/// A connection in memory. It wakes nobody: who changes it polls.
#[derive(Debug)]
struct Stream {
    /// What the peer has sent, and was not read.
    sent: VecDeque<u8>,
    bytes_per_read: usize,
    /// The peer sends nothing more.
    has_ended: bool,
    reads: usize,
    ends_read: usize,
    /// So many bytes can be written.
    takes: usize,
    bytes_per_write: usize,
    /// Every write meets this.
    broken: Option<io::ErrorKind>,
    /// Every write takes nothing, and says so.
    takes_none: bool,
    written: Vec<u8>,
    never_shuts: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            sent: VecDeque::new(),
            bytes_per_read: usize::MAX,
            has_ended: false,
            reads: 0,
            ends_read: 0,
            takes: usize::MAX,
            bytes_per_write: usize::MAX,
            broken: None,
            takes_none: false,
            written: Vec::new(),
            never_shuts: false,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reads += 1;
        if self.sent.is_empty() {
            if !self.has_ended {
                return Poll::Pending;
            }
            self.ends_read += 1;
        }
        let bytes = buffer.remaining().min(self.bytes_per_read).min(self.sent.len());
        let read: Vec<u8> = self.sent.drain(..bytes).collect();
        buffer.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if self.takes_none {
            return Poll::Ready(Ok(0));
        }
        let count = bytes.len().min(self.takes).min(self.bytes_per_write);
        if count == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        self.takes -= count;
        self.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.never_shuts { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

fn room_with(limits: Limits) -> Room {
    Room::new(limits, Wire { lang: Lang::En, ..Wire::default() }).expect("limits that work")
}

fn room() -> Room {
    room_with(Limits { line_deadline: LINE_DEADLINE, linger: LINGER, ..Limits::default() })
}

fn drive(room: &Room, who: &str) -> Drive<Stream> {
    Idle::new(Stream::default(), room.seat(who), Standing::Stranger).unfold(&Left::All)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn poll(drive: &mut Drive<Stream>) -> Poll<End> {
    Pin::new(drive).poll(&mut context())
}

/// A drive that has entered and written its welcome.
fn entered(room: &Room, who: &str) -> Drive<Stream> {
    let mut drive = drive(room, who);
    assert!(poll(&mut drive).is_pending());
    assert_eq!(written(&mut drive), format!("Welcome {who}\n"));
    drive
}

/// What was written since the last time.
fn written(drive: &mut Drive<Stream>) -> String {
    String::from_utf8(std::mem::take(&mut drive.stream.written)).expect("only text is said here")
}

fn send(drive: &mut Drive<Stream>, bytes: &[u8]) {
    drive.stream.sent.extend(bytes);
}

/// How it ends, woken by nothing but the room and its own timer, and after what time.
async fn end(drive: &mut Drive<Stream>) -> (End, Duration) {
    let start = Instant::now();
    let mut polls = 0;
    let polled = poll_fn(|cx| {
        polls += 1;
        assert!(polls < POLLS_MAX, "law 9: it spins");
        Pin::new(&mut *drive).poll(cx)
    });
    let end = timeout(LONG, polled).await.expect("law 8: nothing woke it");
    (end, start.elapsed())
}

/// Somebody else in the room, who listens to nothing.
fn member(room: &Room, who: &str) -> Member {
    let mut member = room.seat(who);
    let Poll::Ready(Ok(mut turn)) = member.poll_turn(&mut context()) else { panic!("no turn") };
    member.enter(&mut turn).expect("the room is open");
    member
}

/// All turns that there are: nobody gets another until one is dropped.
fn all_turns(room: &Room) -> Vec<Turn> {
    let mut member = room.seat("nobody");
    let mut turns = Vec::new();
    while let Poll::Ready(turn) = member.poll_turn(&mut context()) {
        turns.push(turn.expect("the room is open"));
        assert!(turns.len() < POLLS_MAX, "law 7: there is no end of them");
    }
    turns
}

// Who comes in.

fn room_with_motd(wire: Wire) -> Room {
    let motd = Motd::new(b"be kind\nand short").expect("it is");
    let limits = Limits { line_deadline: LINE_DEADLINE, linger: LINGER, ..Limits::default() };
    let door = Door::new(Policy { motd, ..Policy::default() });
    Room::with_door(limits, Wire { lang: Lang::En, ..wire }, door).expect("limits that work")
}

/// Law 7: it goes out a byte at a time, nothing is read before all of it is out, and no copy of it is held.
#[tokio::test(start_paused = true)]
async fn message_of_the_day_comes_behind_the_welcome_and_before_anything_is_heard() {
    let room = room_with_motd(Wire::default());
    let mut drive = drive(&room, WHO);
    send(&mut drive, b"hi\n");
    drive.stream.takes = 0;
    let all = "Welcome 10.0.0.1:1\n-- be kind\n-- and short\n";
    let mut told = String::new();
    while told.len() < all.len() {
        assert!(poll(&mut drive).is_pending());
        assert!(drive.told.bytes.len() <= "Welcome 10.0.0.1:1\n".len());
        told.push_str(&written(&mut drive));
        assert!(drive.stream.reads == 0 || told == all, "after {told:?}");
        drive.stream.takes = 1;
    }
    drive.stream.takes = usize::MAX;
    assert!(poll(&mut drive).is_pending());
    told.push_str(&written(&mut drive));
    assert_eq!(told, format!("{all}10.0.0.1:1: hi\n"));
    assert!(drive.told.is_empty());
}

/// And who has come before is not told of another, nor is anybody in a plain room.
#[tokio::test(start_paused = true)]
async fn message_of_the_day_is_the_doors_of_that_moment_and_none_of_a_plain_room() {
    let room = room_with_motd(Wire::default());
    room.door().replace(Policy::default());
    drop(entered(&room, WHO));
    let room = room_with_motd(Wire { plain: true, ..Wire::default() });
    drop(entered(&room, WHO));
}

/// Knows one password, and takes so long to say so.
#[derive(Debug)]
struct Known(&'static str, Duration);

impl Passwords for Known {
    fn verify(&self, password: Password) -> Verdict {
        let is_right = password.bytes() == self.0.as_bytes();
        let takes = self.1;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            is_right
        })
    }
}

const PROOF: Duration = Duration::from_millis(50);
const WANTED: &str = "-- password, please\n";
const WRONG: &str = "-- wrong password, try again\n";

fn room_with_password() -> Room {
    room_that_knows(Known("sesame", PROOF))
}

fn room_that_knows(known: Known) -> Room {
    let limits = Limits { line_deadline: LINE_DEADLINE, linger: LINGER, ..Limits::default() };
    let door = Door::new(Policy { passwords: Some(Arc::new(known)), ..Policy::default() });
    Room::with_door(limits, Wire { lang: Lang::En, ..Wire::default() }, door).expect("limits that work")
}

fn peer(host: u8) -> Peer {
    std::net::SocketAddr::from(([10, 0, 0, host], 1)).into()
}

/// One that was asked for a password.
fn asked(room: &Room) -> Drive<Stream> {
    let mut drive = Idle::new(Stream::default(), room.seat_peer(&peer(1)), Standing::Stranger).unfold(&Left::All);
    assert!(poll(&mut drive).is_pending());
    assert_eq!(written(&mut drive), WANTED);
    drive
}

/// As long as a password is proved.
async fn prove(drive: &mut Drive<Stream>) -> String {
    settle(drive);
    advance(PROOF).await;
    settle(drive);
    written(drive)
}

/// Nobody is told of it, it sees nothing of the room, and nothing of what it sent is said, until the password is proved; what came with
/// the password is said then.
#[tokio::test(start_paused = true)]
async fn nobody_enters_before_its_password_is_proved() {
    let room = room_with_password();
    let mut other = member(&room, "other");
    let mut drive = asked(&room);
    for wrong in [&b"open\n"[..], b"/quit\r\n"] {
        send(&mut drive, wrong);
        assert_eq!(prove(&mut drive).await, WRONG);
    }
    say(&mut other, "other: secret\n");
    assert_eq!(room.tally().members, 1);
    send(&mut drive, b"sesame\r\nhello\n/who\nyes");
    settle(&mut drive);
    assert_eq!((written(&mut drive), room.tally().members), (String::new(), 1), "it is not proved yet");
    let seen = prove(&mut drive).await;
    assert!(seen.starts_with("Welcome 10.0.0.1:1\n"), "{seen:?}");
    assert!(seen.contains("10.0.0.1:1: hello\n") && seen.contains("-- 2 here\n"), "{seen:?}");
    assert!(!seen.contains("secret") && !seen.contains("sesame"), "{seen:?}");
    send(&mut drive, b"!\n");
    settle(&mut drive);
    assert_eq!(written(&mut drive), "10.0.0.1:1: yes!\n");
}

/// Its end counts for a line end, and its last lines are said.
#[tokio::test(start_paused = true)]
async fn password_needs_no_line_end_and_what_is_piped_behind_it_is_said() {
    let room = room_with_password();
    let mut drive = asked(&room);
    drive.stream.has_ended = true;
    send(&mut drive, b"sesame\nlast");
    let (End::Left, PROOF) = end(&mut drive).await else { panic!("it left by itself") };
    assert_eq!(written(&mut drive), "Welcome 10.0.0.1:1\n10.0.0.1:1: last\n");
    for (input, expected) in [(&b"sesame"[..], "Welcome 10.0.0.1:1\n"), (b"", ""), (b"open", WRONG)] {
        let mut drive = asked(&room);
        drive.stream.has_ended = true;
        send(&mut drive, input);
        let (End::Left, _) = end(&mut drive).await else { panic!("it left by itself") };
        assert_eq!(written(&mut drive), expected, "{input:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn third_wrong_password_ends_it() {
    let room = room_with_password();
    let mut drive = asked(&room);
    send(&mut drive, b"1\n2\n3\nsesame\n");
    assert_eq!(prove(&mut drive).await, WRONG);
    assert_eq!(prove(&mut drive).await, WRONG);
    assert_eq!(prove(&mut drive).await, "-- wrong password: connection closed\n");
    let (End::Denied, LINGER) = end(&mut drive).await else { panic!("it is denied, and lingers") };
    assert_eq!(room.tally().said_bytes, 0, "law 4: nobody is told");
}

/// One that is too long is none, and is held by nobody (law 7).
#[tokio::test(start_paused = true)]
async fn long_password_is_wrong_as_soon_as_it_is_too_long() {
    let room = room_with_password();
    let mut drive = asked(&room);
    send(&mut drive, &[b'x'; INPUT_BYTES_FREE + b"\r\n".len()]);
    settle(&mut drive);
    assert_eq!(written(&mut drive), WRONG);
    assert!(drive.session.memory_bytes() <= 2 * INPUT_BYTES_FREE);
    send(&mut drive, b"\nsesame\n");
    assert_eq!(prove(&mut drive).await, "Welcome 10.0.0.1:1\n");
}

/// As long as what everyone may hold for nothing, and no longer.
#[tokio::test(start_paused = true)]
async fn longest_password_is_one() {
    let longest = "x".repeat(INPUT_BYTES_FREE);
    let room = room_that_knows(Known(Box::leak(longest.clone().into_boxed_str()), PROOF));
    let mut drive = asked(&room);
    send(&mut drive, format!("{longest}\r\n").as_bytes());
    assert_eq!(prove(&mut drive).await, "Welcome 10.0.0.1:1\n");
}

#[tokio::test(start_paused = true)]
async fn poll_makes_few_reads_of_a_password() {
    let mut drive = asked(&room_with_password());
    send(&mut drive, &[b'x'; 3 * ROUNDS_PER_POLL]);
    drive.stream.bytes_per_read = 1;
    let reads = drive.stream.reads;
    assert!(poll(&mut drive).is_pending());
    assert_eq!(drive.stream.reads - reads, ROUNDS_PER_POLL);
}

/// Law 8.
#[tokio::test(start_paused = true)]
async fn broken_connection_is_noticed_while_its_password_is_proved() {
    let room = room_that_knows(Known("sesame", LONG));
    let mut drive = asked(&room);
    send(&mut drive, b"sesame\n");
    drive.stream.broken = Some(io::ErrorKind::ConnectionReset);
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Lost(error) if error.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(time, PROBE);
}

#[test]
fn what_is_known_of_a_password_is_not_shown() {
    assert_eq!(format!("{:?}", Asking::default()), "Asking { attempts: 0, .. }");
}

#[tokio::test(start_paused = true)]
async fn passwords_come_from_each_address_at_a_rate() {
    let room = room_with_password();
    let mut tried = 0;
    let hasty = loop {
        let mut drive = asked(&room);
        send(&mut drive, b"1\n2\n3\n");
        drive.stream.has_ended = true;
        let (ended, _) = end(&mut drive).await;
        let seen = written(&mut drive);
        tried += seen.matches("-- wrong").count();
        assert!(matches!(ended, End::Denied) && tried < 20, "{seen:?}");
        if seen.contains("too many passwords") {
            break seen;
        }
    };
    assert!((10..=12).contains(&tried), "{tried} before {hasty:?}, while proving gave a little back");
    let mut drive = Idle::new(Stream::default(), room.seat_peer(&peer(2)), Standing::Stranger).unfold(&Left::All);
    send(&mut drive, b"sesame\n");
    assert_eq!(prove(&mut drive).await, format!("{WANTED}Welcome 10.0.0.2:1\n"), "from elsewhere");
}

/// The whole dialog has the line deadline; a room that ends, a removal and a shut connection end it at once.
#[tokio::test(start_paused = true)]
async fn who_is_asked_for_a_password_is_not_waited_for() {
    let room = room_with_password();
    let mut drive = asked(&room);
    advance(LINE_DEADLINE / 2).await;
    send(&mut drive, b"open\nses");
    assert_eq!(prove(&mut drive).await, WRONG);
    let (End::LineDeadline, waited) = end(&mut drive).await else { panic!("it is late") };
    assert_eq!(waited, LINE_DEADLINE / 2 + LINGER);
    assert_eq!(written(&mut drive), "-- no right password within 60s: connection closed\n");
    drop(drive);

    let mut drive = asked(&room);
    let removing = async { room.remove(Whom::From("10.0.0.0/8".parse().expect("a prefix"))) };
    let ((ended, _), removed) = tokio::join!(end(&mut drive), removing);
    assert!(matches!(ended, End::Removed) && removed == 1, "{ended:?}");
    assert_eq!(written(&mut drive), "-- you were removed\n");

    let mut drive = asked(&room);
    send(&mut drive, b"sesame\n");
    settle(&mut drive);
    let ((ended, _), ()) = tokio::join!(end(&mut drive), async { room.close() });
    assert!(matches!(ended, End::Shutdown), "{ended:?}");
    assert_eq!(room.tally().said_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_proved_its_name_or_is_of_this_machine_is_not_asked() {
    let room = room_with_password();
    let named = Peer { name: Name::parse(b"bell").ok(), ..peer(1) };
    for (peer, who) in [(named, "bell"), (Origin::Local { uid: 7, pid: Some(9) }.into(), "uid7-pid9")] {
        let mut drive = Idle::new(Stream::default(), room.seat_peer(&peer), Standing::Stranger).unfold(&Left::All);
        settle(&mut drive);
        assert_eq!(written(&mut drive), format!("Welcome {who}\n"));
    }
    room.door().replace(Policy::default());
    drop(entered(&room, WHO));
}

/// What it speaks is guessed as ever, and telnet is answered.
#[tokio::test(start_paused = true)]
async fn browser_is_turned_away_and_telnet_understood_before_a_password() {
    let room = room_with_password();
    let mut drive = asked(&room);
    send(&mut drive, b"GET / HTTP/1.1\r\n\r\n");
    let (End::Foreign(_), LINGER) = end(&mut drive).await else { panic!("it is no member") };
    assert!(written(&mut drive).starts_with("HTTP/1.1 400 "));
    let mut drive = asked(&room);
    send(&mut drive, b"\xFF\xFD\x01sesame\r\n");
    settle(&mut drive);
    assert_eq!(std::mem::take(&mut drive.stream.written), b"\xFF\xFC\x01");
    assert_eq!(prove(&mut drive).await, "Welcome 10.0.0.1:1\n");
}

// Who is removed.

/// Whoever removes it: what it waits for or does, it is told, and its departure stands where it was removed.
#[tokio::test(start_paused = true)]
async fn removed_member_is_told_and_closed_and_its_departure_stands_at_once() {
    let room = room();
    let mut witness = entered(&room, "witness");
    let mut drive = entered(&room, WHO);
    send(&mut drive, b"one\ntw");
    settle(&mut witness);
    settle(&mut drive);
    assert_eq!(room.remove(Whom::Who(WHO)), 1);
    assert_eq!(room.remove(Whom::Who(WHO)), 0, "it is removed once");
    send(&mut drive, b"o\n/who\n/name x\nthree\n");
    assert!(poll(&mut drive).is_pending(), "it waits for the peer's end");
    assert_eq!(written(&mut drive), "10.0.0.1:1: one\n-- you were removed\n");
    let (End::Removed, LINGER) = end(&mut drive).await else { panic!("it was removed, and lingers") };
    settle(&mut witness);
    assert_eq!(written(&mut witness), "10.0.0.1:1 joined\n10.0.0.1:1: one\n10.0.0.1:1 left\n");
}

/// It was written in part, so there is no place for a notice; law 3.
#[tokio::test(start_paused = true)]
async fn removed_amid_a_line_its_stream_ends_there() {
    let room = room();
    let mut drive = entered(&room, WHO);
    drive.stream.takes = "10.0.0.1:1: o".len();
    send(&mut drive, b"one\n");
    settle(&mut drive);
    room.remove(Whom::Who(WHO));
    drive.stream.takes = usize::MAX;
    assert!(poll(&mut drive).is_pending());
    let (End::Removed, LINGER) = end(&mut drive).await else { panic!("it was removed, and lingers") };
    assert_eq!(written(&mut drive), "10.0.0.1:1: o");
}

/// Neither what it asked for nor a turn is waited for; and who takes nothing at all is closed at the stall limit.
#[tokio::test(start_paused = true)]
async fn removed_member_waits_for_nothing_but_to_be_told() {
    let stall = Duration::from_secs(30);
    let room = room_with(Limits { stall, linger: LINGER, ..Limits::default() });
    let mut blocked = entered(&room, WHO);
    let others: Vec<Member> = (0..3 * PRESENT_PER_SLICE).map(|other| member(&room, &format!("other{other}"))).collect();
    assert!(poll(&mut blocked).is_pending());
    written(&mut blocked);
    let turns = all_turns(&room);
    let mut parked = drive(&room, "parked");
    assert!(poll(&mut parked).is_pending());
    blocked.stream.takes = 0;
    send(&mut blocked, b"/who\n");
    drop(turns);
    assert!(poll(&mut blocked).is_pending());
    let turns = all_turns(&room);
    for who in [WHO, "parked"] {
        assert_eq!(room.remove(Whom::Who(who)), 1);
    }
    assert!(poll(&mut parked).is_pending());
    assert_eq!(written(&mut parked), "-- you were removed\n", "it had not entered");
    let (End::Removed, _) = end(&mut parked).await else { panic!("it was removed") };
    let (End::Stalled, waited) = end(&mut blocked).await else { panic!("it takes nothing") };
    assert!(waited <= stall);
    drop((turns, others));
}

// What is said.

/// `echo hi` that does not wait for an answer is a message; and its last line needs no line end.
#[tokio::test(start_paused = true)]
async fn what_came_before_the_connection_broke_is_said() {
    let room = room();
    let mut witness = entered(&room, "witness");
    let mut drive = drive(&room, WHO);
    drive.stream.broken = Some(io::ErrorKind::BrokenPipe);
    send(&mut drive, b"hi\nlast");
    drive.stream.has_ended = true;
    assert!(matches!(poll(&mut drive), Poll::Ready(End::Left)));
    assert!(poll(&mut witness).is_pending());
    assert_eq!(written(&mut witness), "10.0.0.1:1 joined\n10.0.0.1:1: hi\n10.0.0.1:1: last\n10.0.0.1:1 left\n");
}

/// Law 3.
#[tokio::test(start_paused = true)]
async fn partial_line_is_not_said_after_a_reset() {
    let room = room();
    let mut witness = entered(&room, "witness");
    let mut drive = drive(&room, WHO);
    drive.stream.broken = Some(io::ErrorKind::ConnectionReset);
    send(&mut drive, b"hi\nlast");
    drive.stream.has_ended = true;
    let Poll::Ready(End::Lost(error)) = poll(&mut drive) else { panic!("it is lost") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    drop(drive);
    assert!(poll(&mut witness).is_pending());
    assert_eq!(written(&mut witness), "10.0.0.1:1 joined\n10.0.0.1:1: hi\n10.0.0.1:1 left\n");
}

/// A turn gathers lines until they are its most, and not one more: whoever waits behind comes next.
#[tokio::test(start_paused = true)]
async fn turn_takes_lines_up_to_its_most_and_others_come_between() {
    let least = Limits { line_bytes_max: 100, ..Limits::default() };
    let limits = Limits { backlog_bytes: 4 * least.line_stored_bytes_max(), ..least };
    let line = [&[b'x'; 20][..], b"\n"].concat();
    let said_bytes = WHO.len() + b": ".len() + line.len();
    assert_eq!(limits.turn_lines_bytes(), 3 * said_bytes, "the case at hand: three lines are just the most");
    let room = room_with(limits);
    let mut drive = entered(&room, WHO);
    let turns = all_turns(&room);
    send(&mut drive, &line.repeat(4));
    assert!(poll(&mut drive).is_pending());
    let mut other = room.seat("other");
    assert!(other.poll_turn(&mut context()).is_pending());
    let before = room.tally().said_bytes;
    drop(turns);
    assert!(poll(&mut drive).is_pending());
    assert_eq!(room.tally().said_bytes - before, 3 * said_bytes as u64);
    drop(other);
    assert!(poll(&mut drive).is_pending());
    assert_eq!(room.tally().said_bytes - before, 4 * said_bytes as u64);
}

#[tokio::test(start_paused = true)]
async fn it_is_called_by_its_address_and_then_by_its_name() {
    let room = room();
    let mut drive = entered(&room, WHO);
    assert_eq!(drive.member().who(), WHO);
    send(&mut drive, b"/name bob\n");
    assert!(poll(&mut drive).is_pending());
    assert_eq!(drive.member().who(), "bob");
}

// Floods.

const FLOOD: Flood = Flood { lines: Rate { burst: 3, per_second: 10 }, bytes: Rate { burst: 1000, per_second: 100 } };

/// As often as it takes until nothing more happens.
fn settle(drive: &mut Drive<Stream>) {
    for _ in 0..10 {
        assert!(poll(drive).is_pending());
    }
}

fn slowing() -> Limits {
    Limits { line_deadline: LINE_DEADLINE, linger: LINGER, flood: Some(FLOOD), ..Limits::default() }
}

/// A stranger that has just said a line for which it pays for ten seconds.
fn slowed(room: &Room) -> Drive<Stream> {
    let mut drive = entered(room, WHO);
    let line = "x".repeat(2000);
    send(&mut drive, format!("{line}\n").as_bytes());
    settle(&mut drive);
    assert_eq!(written(&mut drive), format!("{WHO}: {line}\n"));
    drive
}

/// 2,001 bytes are used, and 999 would be open again.
const SLOWED_FOR: Duration = Duration::from_millis(10_020);

#[tokio::test(start_paused = true)]
async fn stranger_says_its_burst_at_once_and_then_goes_at_its_pace() {
    let mut drive = entered(&room_with(slowing()), WHO);
    send(&mut drive, b"1\n2\n3\n4\n5\n");
    settle(&mut drive);
    assert_eq!(written(&mut drive), "10.0.0.1:1: 1\n10.0.0.1:1: 2\n10.0.0.1:1: 3\n");
    for expected in ["10.0.0.1:1: 4\n", "10.0.0.1:1: 5\n"] {
        advance(Duration::from_millis(99)).await;
        settle(&mut drive);
        assert_eq!(written(&mut drive), "");
        advance(Duration::from_millis(1)).await;
        settle(&mut drive);
        assert_eq!(written(&mut drive), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn trusted_peer_is_not_slowed() {
    let room = room_with(slowing());
    let mut drive = Idle::new(Stream::default(), room.seat(WHO), Standing::Trusted).unfold(&Left::All);
    send(&mut drive, &b"hi\n".repeat(1000));
    settle(&mut drive);
    assert_eq!(written(&mut drive).lines().count(), 1 + 1000);
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_sent_counts() {
    for line in [&b"hi\n"[..], b"\n", b"/who\n", b"/nope\n", b"/name a b\n", b"/name bob\n", b"it is too long\n"] {
        let mut drive = entered(&room_with(Limits { line_bytes_max: 10, ..slowing() }), WHO);
        send(&mut drive, &line.repeat(5));
        settle(&mut drive);
        assert_eq!(drive.session.held_bytes() + drive.stream.sent.len(), 2 * line.len(), "{line:?}");
        assert_eq!(drive.slowed_until, Some(now() + Duration::from_millis(100)), "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_byte_order_mark_costs_a_stranger_nothing() {
    let mut drive = entered(&room_with(slowing()), WHO);
    for byte in [b"\xEF", b"\xBB", b"h", b"\n"] {
        send(&mut drive, byte);
        settle(&mut drive);
    }
    assert_eq!(written(&mut drive), "10.0.0.1:1: \u{FFFD}h\n");
}

/// A line that never ends is dropped as it comes, and that is paid for as well.
#[tokio::test(start_paused = true)]
async fn bytes_of_a_refused_line_count_as_they_come() {
    let mut drive = entered(&room_with(Limits { line_bytes_max: 10, ..slowing() }), WHO);
    send(&mut drive, &b"x".repeat(100_000));
    for second in 0..20 {
        settle(&mut drive);
        let read_bytes = 100_000 - drive.stream.sent.len();
        // What is read when it opens, and once more to find that it has closed.
        assert!(read_bytes <= 1000 + 100 * second + 2 * INPUT_BYTES_FREE, "{read_bytes} after {second} s");
        advance(Duration::from_secs(1)).await;
    }
}

/// Law 7: slowed strangers, however many, leave the memory for long lines to others.
#[tokio::test(start_paused = true)]
async fn slowed_stranger_holds_little_more_than_its_own() {
    let room = room_with(slowing());
    let mut drive = entered(&room, WHO);
    send(&mut drive, &b"\n".repeat(100_000));
    settle(&mut drive);
    assert!(room.tally().partial_bytes <= INPUT_BYTES_FREE / 4, "{}", room.tally().partial_bytes);
}

#[tokio::test(start_paused = true)]
async fn slowed_stranger_reads_what_others_say() {
    let room = room_with(slowing());
    let mut drive = slowed(&room);
    send(&mut drive, b"waits\n");
    let mut other = entered(&room, "other");
    send(&mut other, b"hi\n");
    settle(&mut other);
    settle(&mut drive);
    assert_eq!(written(&mut drive), "other joined\nother: hi\n");
}

/// It would hold up those behind it.
#[tokio::test(start_paused = true)]
async fn slowed_stranger_has_no_place_in_the_queue_for_a_turn() {
    let room = room_with(slowing());
    let mut drive = slowed(&room);
    let _turns = all_turns(&room);
    send(&mut drive, b"waits\n");
    settle(&mut drive);
    assert_eq!(room.tally().senders_parked, 0);
    advance(SLOWED_FOR).await;
    settle(&mut drive);
    assert_eq!(room.tally().senders_parked, 1, "now it has its turn to wait for");
}

#[tokio::test(start_paused = true)]
async fn end_of_input_behind_a_flood_comes_when_all_is_said() {
    let room = room_with(slowing());
    let mut witness = entered(&room, "witness");
    let mut drive = entered(&room, WHO);
    send(&mut drive, b"1\n2\n3\n4\nlast");
    drive.stream.has_ended = true;
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Left));
    assert_eq!(time, Duration::from_millis(200), "and the departure does not wait");
    settle(&mut witness);
    let said = ["1", "2", "3", "4", "last"].map(|text| format!("{WHO}: {text}\n")).concat();
    assert_eq!(written(&mut witness), format!("{WHO} joined\n{said}{WHO} left\n"));
}

/// Law 9: a departure never waits.
#[tokio::test(start_paused = true)]
async fn slowed_stranger_goes_at_once_when_nothing_is_left_to_be_said() {
    for (input, has_ended, expected) in [(&b"/quit\n"[..], false, LINGER), (b"", true, Duration::ZERO)] {
        let mut drive = slowed(&room_with(slowing()));
        send(&mut drive, input);
        drive.stream.has_ended = has_ended;
        let (end, time) = end(&mut drive).await;
        assert!(matches!(end, End::Left));
        assert_eq!(time, expected, "{input:?}");
    }
}

/// Law 8.
#[tokio::test(start_paused = true)]
async fn broken_connection_is_noticed_while_it_is_slowed() {
    let room = room_with(slowing());
    let mut drive = slowed(&room);
    let before = room.tally().said_bytes;
    send(&mut drive, b"hi\n");
    settle(&mut drive);
    drive.stream.broken = Some(io::ErrorKind::ConnectionReset);
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Lost(error) if error.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(time, PROBE);
    assert_eq!(room.tally().said_bytes, before);
}

/// A message that does not wait for an answer is a message, however long.
#[tokio::test(start_paused = true)]
async fn what_came_before_the_connection_broke_is_said_in_its_time() {
    let room = room_with(slowing());
    let mut drive = slowed(&room);
    let before = room.tally().said_bytes;
    send(&mut drive, b"hi\nlast");
    drive.stream.has_ended = true;
    drive.stream.broken = Some(io::ErrorKind::BrokenPipe);
    let mut other = entered(&room, "other");
    send(&mut other, b"it is written to\n");
    settle(&mut other);
    assert!(matches!(end(&mut drive).await.0, End::Left));
    let said_bytes = ["other joined\n", "other: it is written to\n", "10.0.0.1:1: hi\n", "10.0.0.1:1: last\n"].concat();
    let said_bytes = (said_bytes + "10.0.0.1:1 left\n").len() as u64;
    assert_eq!(room.tally().said_bytes - before, said_bytes);
}

#[tokio::test(start_paused = true)]
async fn room_that_ends_takes_a_slowed_stranger_with_it() {
    let room = room_with(slowing());
    let mut drive = slowed(&room);
    send(&mut drive, b"waits\n");
    settle(&mut drive);
    room.close();
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Shutdown));
    assert_eq!(time, LINGER);
    assert_eq!(written(&mut drive), "-- server is stopping\n");
}

/// A timer that has fired is not set again while something told is unsent: then it is not read for that reason.
#[tokio::test(start_paused = true)]
async fn nothing_spins_while_a_slowed_stranger_takes_nothing() {
    let mut drive = slowed(&room_with(Limits { stall: LINE_DEADLINE, ..slowing() }));
    send(&mut drive, b"waits\n");
    settle(&mut drive);
    drive.stream.takes = 0;
    // As when it is let go amid a line.
    drive.told.bytes.extend(b"the rest of a line\n");
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Stalled));
    assert_eq!(time, LINE_DEADLINE);
}

/// Of a refused line nothing is held, and when it ends nothing is under way any more.
#[tokio::test(start_paused = true)]
async fn nothing_spins_once_a_refused_line_ends_while_its_sender_is_slowed() {
    let mut drive = entered(&room_with(Limits { line_bytes_max: 10, ..slowing() }), WHO);
    for part in [&b"x".repeat(20)[..], &b"x".repeat(1020), b"x\n"] {
        send(&mut drive, part);
        settle(&mut drive);
    }
    assert!(drive.stream.sent.is_empty(), "one read more is made");
    advance(2 * PROBE).await;
    settle(&mut drive);
    assert!(drive.deadline().is_none_or(|deadline| deadline > now()), "law 9: it spins");
    assert!(drive.line.is_clear(), "the next line has the whole deadline");
}

/// We do not read meanwhile.
#[tokio::test(start_paused = true)]
async fn line_is_not_charged_for_time_in_which_its_sender_is_slowed() {
    let mut drive = slowed(&room_with(Limits { linger: Duration::ZERO, ..slowing() }));
    send(&mut drive, b"abc");
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::LineDeadline));
    assert_eq!(time, SLOWED_FOR + LINE_DEADLINE);
}

// What is told.

#[tokio::test(start_paused = true)]
async fn answer_is_written_by_the_poll_that_read_the_question() {
    let mut drive = entered(&room(), WHO);
    send(&mut drive, b"/name a b\n");
    assert!(poll(&mut drive).is_pending());
    assert!(written(&mut drive).starts_with("-- name refused: "));
}

/// Law 7: a connection that takes nothing has us hold one slice.
#[tokio::test(start_paused = true)]
async fn roster_is_told_whole_and_in_slices() {
    let room = room();
    let names: Vec<String> = (0..2 * PRESENT_PER_SLICE).map(|number| format!("m{number}")).collect();
    let _others: Vec<Member> = names.iter().map(|name| member(&room, name)).collect();
    let mut drive = entered(&room, WHO);
    drive.stream.takes = 0;
    send(&mut drive, b"/who\n");
    for _ in 0..2 {
        assert!(poll(&mut drive).is_pending());
        assert_eq!(drive.told.bytes, b"-- 33 here\n");
    }
    drive.stream.takes = usize::MAX;
    assert!(poll(&mut drive).is_pending());
    let here: Vec<String> = names.iter().map(String::as_str).chain([WHO]).map(|who| format!("--   {who}\n")).collect();
    assert_eq!(written(&mut drive), format!("-- 33 here\n{}", here.concat()));
}

#[tokio::test(start_paused = true)]
async fn plain_wire_knows_no_farewell() {
    fn check(plain: bool, farewell: &str) {
        let wire = Wire { lang: Lang::En, plain, ..Wire::default() };
        let room = Room::new(Limits::default(), wire).expect("limits that work");
        let mut drive = entered(&room, WHO);
        drive.stream.has_ended = true;
        room.close();
        assert!(matches!(poll(&mut drive), Poll::Ready(End::Shutdown)));
        assert_eq!(written(&mut drive), farewell);
    }
    check(false, "-- server is stopping\n");
    check(true, "");
}

/// Laws 2, 3 and 7: who is let go amid a line gets the rest of it first, if there is memory for that. What every connection
/// may hold needs none of what is shared.
#[tokio::test(start_paused = true)]
async fn line_under_way_is_finished_after_a_let_go_from_memory_that_is_its_own_or_spared() {
    fn check(torn_bytes: usize, partial_bytes_total: usize, is_torn: bool) {
        let least = Limits { line_bytes_max: 2000, partial_bytes_total, patience: Duration::ZERO, ..Limits::default() };
        let room = room_with(Limits { backlog_bytes: 4 * least.line_stored_bytes_max(), ..least });
        let mut drive = entered(&room, WHO);
        let mut other = member(&room, "other");
        let line = format!("other: {}\n", "x".repeat(2000));
        assert!(poll(&mut drive).is_pending());
        assert_eq!(written(&mut drive), "other joined\n");
        drive.stream.takes = line.len() - torn_bytes;
        let mut said = 0;
        while let Poll::Ready(turn) = other.poll_turn(&mut context()) {
            other.say(&mut turn.expect("the room is open"), line.as_bytes()).expect("it is a member");
            said += 1;
            assert!(said < POLLS_MAX, "law 7: the room is never full");
            if said == 1 {
                assert!(poll(&mut drive).is_pending(), "it took some of the line");
            }
        }
        let end = poll(&mut drive);
        assert_eq!(room.tally().let_gos, 1, "{torn_bytes} of {partial_bytes_total} bytes");
        assert_eq!(matches!(end, Poll::Ready(End::Torn)), is_torn, "{torn_bytes} of {partial_bytes_total} bytes");
        if !is_torn {
            drive.stream.takes = usize::MAX;
            assert!(poll(&mut drive).is_pending());
            assert_eq!(written(&mut drive), format!("{line}-- missed {} lines\n", said - 1));
        }
    }
    check(INPUT_BYTES_FREE, 0, false);
    check(INPUT_BYTES_FREE + 1, 0, true);
    check(INPUT_BYTES_FREE + 1, 4 * INPUT_BYTES_FREE, false);
}

// The short way.

/// A member with nothing to do.
fn idle(room: &Room, who: &str) -> Idle<Stream> {
    let drive = entered(room, who);
    assert!(drive.is_idle());
    drive.fold()
}

/// Polls the short way, when there is nothing to be read, and tells what was written, too.
fn poll_short(idle: &mut Idle<Stream>) -> (Option<Left>, String) {
    let left = idle.poll_short(|_| true, &mut context());
    (left, String::from_utf8(std::mem::take(&mut idle.stream.written)).expect("only text is said here"))
}

fn say(member: &mut Member, lines: &str) {
    let Poll::Ready(Ok(mut turn)) = member.poll_turn(&mut context()) else { panic!("no turn") };
    member.say(&mut turn, lines.as_bytes()).expect("it is a member");
}

#[tokio::test(start_paused = true)]
async fn idle_reader_takes_what_others_say_and_reads_nothing() {
    let room = room();
    let mut other = member(&room, "other");
    other.stop_reading();
    let mut idle = idle(&room, WHO);
    let reads = idle.stream.reads;
    for line in ["other: one\n", "other: two\nother: three\n"] {
        say(&mut other, line);
        assert!(matches!(poll_short(&mut idle), (None, written) if written == line));
        assert!(matches!(poll_short(&mut idle), (None, written) if written.is_empty()), "polled for nothing");
    }
    assert_eq!(idle.stream.reads, reads);
    assert_eq!(room.tally().held_bytes, 0, "all of it is passed");
}

#[tokio::test(start_paused = true)]
async fn short_way_is_for_members_who_listen_and_have_said_nothing() {
    let room = room();
    let mut other = member(&room, "other");
    let mut newcomer = Idle::new(Stream::default(), room.seat("newcomer"), Standing::Stranger);
    assert!(matches!(poll_short(&mut newcomer), (Some(Left::All), written) if written.is_empty()), "not entered");
    let mut drive = entered(&room, WHO);
    send(&mut drive, &b"x\n".repeat(ROUNDS_PER_POLL));
    drive.stream.bytes_per_read = 2;
    assert!(poll(&mut drive).is_pending());
    written(&mut drive);
    let mut idle = drive.fold();
    say(&mut other, "other: hi\n");
    assert!(
        matches!(poll_short(&mut idle), (Some(Left::All), written) if written.is_empty()),
        "it yielded amid reading"
    );
    let mut drive = idle.unfold(&Left::All);
    assert!(poll(&mut drive).is_pending());
    let mut idle = drive.fold();
    say(&mut other, "other: hi\n");
    let left = idle.poll_short(|_| false, &mut context());
    assert!(matches!(left, Some(Left::All)), "there is something to read");
}

/// Law 3: wherever the short way stopped within what there was to write, the drive goes on from there.
#[tokio::test(start_paused = true)]
async fn drive_goes_on_where_the_short_way_stopped() {
    let lines = "other: one\nother: two\n";
    for takes in 0..=lines.len() {
        let room = room();
        let mut other = member(&room, "other");
        let mut idle = idle(&room, WHO);
        idle.stream.takes = takes;
        say(&mut other, lines);
        let (left, mut seen) = poll_short(&mut idle);
        assert_eq!(seen, lines[..takes]);
        if takes == lines.len() {
            assert!(left.is_none());
            continue;
        }
        let is_amid_line = takes > 0 && !lines[..takes].ends_with('\n');
        assert_eq!(matches!(left, Some(Left::Line)), is_amid_line, "after {takes} bytes");
        let mut drive = idle.unfold(&left.expect("it has not all"));
        drive.told.bytes.extend_from_slice(b"-- a notice\n");
        assert!(poll(&mut drive).is_pending());
        assert!(drive.outlet.is_blocked());
        drive.stream.takes = usize::MAX;
        assert!(poll(&mut drive).is_pending());
        seen.push_str(&written(&mut drive));
        let notice_at = seen.find("-- a notice\n").expect("it is told");
        assert!(
            seen[..notice_at].is_empty() || seen[..notice_at].ends_with('\n'),
            "law 3: notices stand between lines"
        );
        assert_eq!(seen.replace("-- a notice\n", ""), lines, "after {takes} bytes");
    }
}

/// Law 3: the short way's error is what tells a reset from an end.
#[tokio::test(start_paused = true)]
async fn what_came_before_the_short_way_broke_is_said_but_after_a_reset_no_partial_line() {
    for (kind, said) in [
        (io::ErrorKind::BrokenPipe, "10.0.0.1:1: hi\n10.0.0.1:1: last\n"),
        (io::ErrorKind::ConnectionReset, "10.0.0.1:1: hi\n"),
    ] {
        let room = room();
        let mut witness = entered(&room, "witness");
        let mut idle = idle(&room, WHO);
        idle.stream.broken = Some(kind);
        say(&mut member(&room, "other"), "other: hello\n");
        let (left, _) = poll_short(&mut idle);
        let left = left.expect("it is broken");
        assert!(matches!(&left, Left::Broken(error) if error.kind() == kind));
        let mut drive = idle.unfold(&left);
        // A second error would say something else.
        drive.stream.broken = Some(io::ErrorKind::Other);
        send(&mut drive, b"hi\nlast");
        drive.stream.has_ended = true;
        assert!(poll(&mut drive).is_ready());
        drop(drive);
        assert!(poll(&mut witness).is_pending());
        let heard = written(&mut witness);
        let own: String = heard.split_inclusive('\n').filter(|line| line.starts_with("10.0.0.1:1: ")).collect();
        assert_eq!(own, said, "after {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn write_of_no_bytes_breaks_the_short_way() {
    let room = room();
    let mut other = member(&room, "other");
    let mut idle = idle(&room, WHO);
    idle.stream.takes_none = true;
    say(&mut other, "other: hi\n");
    let (left, _) = poll_short(&mut idle);
    assert!(matches!(left, Some(Left::Broken(error)) if error.kind() == io::ErrorKind::WriteZero));
}

/// Law 8: the last of a sweep comes twice.
#[tokio::test(start_paused = true)]
async fn short_way_of_the_last_of_a_sweep_lets_others_speak() {
    let room = room_with(Limits { prompt_bytes: 0, ..Limits::default() });
    let mut other = member(&room, "other");
    let mut idle = idle(&room, WHO);
    say(&mut other, "other: one\n");
    say(&mut other, "other: two\n");
    assert!(matches!(poll_short(&mut idle), (None, written) if written == "other: one\n"));
    say(&mut other, "other: three\n");
    assert!(matches!(poll_short(&mut idle), (None, written) if written == "other: two\nother: three\n"));
}

// What is no line.

fn written_bytes(drive: &mut Drive<Stream>) -> Vec<u8> {
    std::mem::take(&mut drive.stream.written)
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_request_is_said_and_it_is_answered() {
    let room = room();
    let mut witness = entered(&room, "witness");
    // With its line in one read, byte by byte, and ended by the end of input.
    for (bytes_per_read, request, has_ended) in [
        (usize::MAX, &b"POST / HTTP/1.1\r\nHost: here\r\n\r\nspam\n/name spam\n"[..], false),
        (1, b"GET / HTTP/1.0\r\n\r\n", false),
        (usize::MAX, b"GET / HTTP/1.0", true),
    ] {
        let mut drive = entered(&room, WHO);
        drive.stream.bytes_per_read = bytes_per_read;
        drive.stream.has_ended = has_ended;
        send(&mut drive, request);
        let (end, time) = end(&mut drive).await;
        assert!(matches!(end, End::Foreign(Foreign::Http)));
        assert_eq!(time, if has_ended { Duration::ZERO } else { LINGER });
        let answer = written(&mut drive);
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer:?}");
        assert!(answer.ends_with("connect with nc, telnet or unisono connect\n"), "{answer:?}");
        drop(drive);
        assert!(poll(&mut witness).is_pending());
        assert_eq!(written(&mut witness), "10.0.0.1:1 joined\n10.0.0.1:1 left\n");
    }
}

#[tokio::test(start_paused = true)]
async fn handshake_of_tls_is_turned_away_at_once() {
    let mut drive = entered(&room(), WHO);
    for (byte, answer) in [(0x16, ""), (0x03, ""), (0x01, "-- no TLS on this port: connection closed\n")] {
        send(&mut drive, &[byte]);
        assert!(poll(&mut drive).is_pending());
        assert_eq!(written(&mut drive), answer);
    }
    send(&mut drive, b"\x00\x05\nnothing of this\n");
    drive.stream.has_ended = true;
    assert!(matches!(poll(&mut drive), Poll::Ready(End::Foreign(Foreign::Tls))));
    assert_eq!(written(&mut drive), "");
}

/// Law 8: an answer does not wait for what else came with the question.
#[tokio::test(start_paused = true)]
async fn command_of_telnet_is_answered_though_a_line_with_it_waits_for_its_turn() {
    let room = room();
    let mut drive = entered(&room, WHO);
    let turns = all_turns(&room);
    send(&mut drive, b"\xFF\xFD\x01hi\n");
    assert!(poll(&mut drive).is_pending());
    assert_eq!(written_bytes(&mut drive), b"\xFF\xFC\x01");
    assert_eq!(room.tally().senders_parked, 1);
    drop(turns);
    // The line, and its echo.
    for _ in 0..2 {
        assert!(poll(&mut drive).is_pending());
    }
    assert_eq!(written(&mut drive), "10.0.0.1:1: hi\n");
}

/// Law 7.
#[tokio::test(start_paused = true)]
async fn answers_to_commands_of_telnet_are_not_piled_up() {
    let mut drive = entered(&room(), WHO);
    drive.stream.takes = 0;
    drive.stream.bytes_per_read = 6;
    send(&mut drive, &b"\xFF\xFD\x01".repeat(100));
    for _ in 0..3 {
        assert!(poll(&mut drive).is_pending());
        assert_eq!(drive.told.bytes[drive.told.sent_bytes..], *b"\xFF\xFC\x01\xFF\xFC\x01");
    }
    drive.stream.takes = usize::MAX;
    while !drive.is_idle() {
        assert!(poll(&mut drive).is_pending());
    }
    assert_eq!(written_bytes(&mut drive), b"\xFF\xFC\x01".repeat(100));
}

#[tokio::test(start_paused = true)]
async fn connection_amid_a_command_of_telnet_does_not_idle_and_one_that_idles_stays_with_telnet() {
    let mut drive = entered(&room(), WHO);
    for (bytes, is_idle, expected) in [
        (&b"\xFF"[..], false, &b""[..]),
        (b"\xFB", false, b""),
        (b"\x18", true, b"\xFF\xFE\x18"),
        (b"\xFF\xFA\x18", false, b""),
        (b"\xFF", false, b""),
        (b"\xF0", true, b""),
        (b"\xEF\xBB\xBF", true, b""),
        (b"hi\r", false, b""),
        (b"\0!\n", true, "10.0.0.1:1: hi\u{240D}!\n".as_bytes()),
        (b"\xFF\xFD\n\xEF\xBB\xBF\n", true, b"\xFF\xFC\n10.0.0.1:1: \xEF\xBB\xBF\n"),
    ] {
        send(&mut drive, bytes);
        for _ in 0..2 {
            assert!(poll(&mut drive).is_pending());
        }
        assert_eq!(written_bytes(&mut drive), expected, "{bytes:?}");
        assert_eq!(drive.is_idle(), is_idle, "{bytes:?}");
        if is_idle {
            drive = drive.fold().unfold(&Left::All);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn command_of_telnet_that_does_not_end_has_the_deadline_of_a_line() {
    let mut drive = entered(&room(), WHO);
    send(&mut drive, b"\xFF\xFA\x18");
    assert!(poll(&mut drive).is_pending());
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::LineDeadline));
    assert_eq!(time, LINE_DEADLINE + LINGER);
}

// What one poll does, and what is held.

#[tokio::test(start_paused = true)]
async fn poll_makes_few_reads_however_much_there_is() {
    let mut drive = entered(&room(), WHO);
    send(&mut drive, &b"x\n".repeat(3 * ROUNDS_PER_POLL));
    drive.stream.bytes_per_read = 2;
    let reads = drive.stream.reads;
    assert!(poll(&mut drive).is_pending());
    assert_eq!(drive.stream.reads - reads, ROUNDS_PER_POLL);
}

#[tokio::test(start_paused = true)]
async fn poll_makes_few_writes_however_much_there_is() {
    let mut drive = drive(&room(), WHO);
    drive.stream.bytes_per_write = 1;
    assert!(poll(&mut drive).is_pending());
    assert_eq!(written(&mut drive), "Welcome "[..ROUNDS_PER_POLL]);
}

/// Law 7.
#[tokio::test(start_paused = true)]
async fn partial_line_counts_against_the_shared_total_until_it_ends() {
    let room = room();
    let mut drive = entered(&room, WHO);
    send(&mut drive, &[b'x'; 3 * INPUT_BYTES_FREE]);
    assert!(poll(&mut drive).is_pending());
    assert!(room.tally().partial_bytes >= 2 * INPUT_BYTES_FREE);
    send(&mut drive, b"\n");
    assert!(poll(&mut drive).is_pending());
    assert_eq!(room.tally().partial_bytes, 0);
}

// How it ends.

#[tokio::test(start_paused = true)]
async fn input_that_has_ended_is_not_read_again() {
    let mut drive = entered(&room(), WHO);
    drive.stream.has_ended = true;
    assert!(matches!(poll(&mut drive), Poll::Ready(End::Left)));
    assert_eq!(drive.stream.ends_read, 1);
}

#[test]
fn each_kind_of_end_has_a_word_of_its_own() {
    for (end, expected) in [
        (End::Left, "left"),
        (End::Foreign(Foreign::Http), "foreign"),
        (End::LineDeadline, "line_deadline"),
        (End::Stalled, "stalled"),
        (End::Removed, "removed"),
        (End::Denied, "denied"),
        (End::Torn, "torn"),
        (End::Shutdown, "shutdown"),
        (End::Lost(io::ErrorKind::BrokenPipe.into()), "lost"),
    ] {
        assert_eq!(end.word(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn connection_that_breaks_while_it_leaves_is_lost() {
    let room = room();
    let mut drive = entered(&room, WHO);
    drive.stream.takes = 0;
    let _other = member(&room, "other");
    send(&mut drive, b"/quit\n");
    assert!(poll(&mut drive).is_pending(), "an arrival is due to it");
    drive.stream.broken = Some(io::ErrorKind::ConnectionReset);
    assert!(matches!(poll(&mut drive), Poll::Ready(End::Lost(_))));
}

/// Law 5: its end is placed, and what it sent behind that is for nobody.
#[tokio::test(start_paused = true)]
async fn who_leaves_is_not_heard_while_it_still_reads() {
    let room = room();
    let mut drive = entered(&room, WHO);
    drive.stream.takes = 0;
    let _other = member(&room, "other");
    send(&mut drive, b"/quit\ntoo late\n");
    assert!(poll(&mut drive).is_pending(), "an arrival is due to it");
    drive.stream.takes = usize::MAX;
    let (end, _) = end(&mut drive).await;
    assert!(matches!(end, End::Left));
    assert_eq!(written(&mut drive), "other joined\n");
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_linger_and_no_longer() {
    let mut drive = entered(&room(), WHO);
    drive.stream.never_shuts = true;
    send(&mut drive, b"/quit\n");
    assert!(poll(&mut drive).is_pending());
    advance(LINGER).await;
    assert!(matches!(poll(&mut drive), Poll::Ready(End::Left)));
}

#[tokio::test(start_paused = true)]
async fn lingering_ends_with_the_peer() {
    let mut drive = entered(&room(), WHO);
    send(&mut drive, b"/quit\n");
    assert!(poll(&mut drive).is_pending());
    send(&mut drive, b"too late\n");
    drive.stream.has_ended = true;
    assert!(matches!(poll(&mut drive), Poll::Ready(End::Left)));
}

#[tokio::test(start_paused = true)]
async fn lingering_ends_in_time_though_the_peer_stays() {
    let mut drive = entered(&room(), WHO);
    send(&mut drive, b"/quit\n");
    assert!(poll(&mut drive).is_pending());
    advance(LINGER).await;
    assert!(matches!(poll(&mut drive), Poll::Ready(End::Left)));
}

/// Nobody sends anything more on a connection that is broken, and often not even an end.
#[tokio::test(start_paused = true)]
async fn broken_connection_of_a_silent_peer_ends_after_the_linger() {
    let mut drive = drive(&room(), WHO);
    drive.stream.broken = Some(io::ErrorKind::BrokenPipe);
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Lost(error) if error.kind() == io::ErrorKind::BrokenPipe));
    assert_eq!(time, LINGER);
}

/// Law 8.
#[tokio::test(start_paused = true)]
async fn broken_connection_is_noticed_while_it_waits_to_enter() {
    let room = room();
    let _turns = all_turns(&room);
    let mut drive = drive(&room, WHO);
    drive.stream.broken = Some(io::ErrorKind::ConnectionReset);
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Lost(error) if error.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(time, PROBE);
}

/// Law 8.
#[tokio::test(start_paused = true)]
async fn broken_connection_is_noticed_while_its_line_waits_for_a_turn() {
    let room = room();
    let mut drive = entered(&room, WHO);
    let _turns = all_turns(&room);
    let before = room.tally().said_bytes;
    send(&mut drive, b"hi\n");
    drive.stream.broken = Some(io::ErrorKind::ConnectionReset);
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::Lost(error) if error.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(time, PROBE);
    assert_eq!(room.tally().said_bytes, before);
}

// Time.

#[tokio::test(start_paused = true)]
async fn clock_of_a_line_is_clear_until_it_has_run() {
    let mut clock = LineClock::default();
    assert!(clock.is_clear());
    clock.run();
    assert!(!clock.is_clear());
    advance(Duration::from_secs(1)).await;
    clock.pause();
    assert!(!clock.is_clear());
}

/// A short line has a long time; and when that is over, all is.
fn unhurried() -> Limits {
    Limits {
        line_bytes_max: 4,
        line_deadline: LINE_DEADLINE,
        linger: Duration::ZERO,
        stall: FOREVER,
        ..Limits::default()
    }
}

/// While something told is unsent we do not read, so the peer cannot end its line.
#[tokio::test(start_paused = true)]
async fn line_is_not_charged_for_time_in_which_we_do_not_read() {
    let mut drive = entered(&room_with(unhurried()), WHO);
    send(&mut drive, b"abc");
    assert!(poll(&mut drive).is_pending());
    advance(Duration::from_secs(20)).await;
    drive.stream.takes = 0;
    send(&mut drive, b"defgh");
    assert!(poll(&mut drive).is_pending());
    advance(Duration::from_secs(100)).await;
    drive.stream.takes = usize::MAX;
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::LineDeadline));
    assert_eq!(time, Duration::from_secs(40));
    assert_eq!(
        written(&mut drive),
        "-- line too long, not said: at most 4 bytes\n-- line not ended within 60s: connection closed\n"
    );
}

/// `first` is sent at once and `then` 40 s later; the line that is under way then is never ended, and has so much left.
async fn time_left(first: &[u8], then: &[u8]) -> Duration {
    let mut drive = entered(&room_with(unhurried()), WHO);
    send(&mut drive, first);
    assert!(poll(&mut drive).is_pending());
    advance(Duration::from_secs(40)).await;
    send(&mut drive, then);
    let (end, time) = end(&mut drive).await;
    assert!(matches!(end, End::LineDeadline));
    time
}

#[tokio::test(start_paused = true)]
async fn line_behind_another_has_the_whole_deadline() {
    assert_eq!(time_left(b"abc", b"d\ne").await, LINE_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn line_behind_a_refused_one_has_the_whole_deadline() {
    assert_eq!(time_left(b"abcdefgh", b"ijk\nl").await, LINE_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn line_that_is_refused_amid_its_coming_has_no_more_time_by_that() {
    assert_eq!(time_left(b"abc", b"defgh").await, Duration::from_secs(20));
    assert_eq!(time_left(b"abcdefgh", b"ijk").await, Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn timer_is_ready_when_its_deadline_has_passed_and_not_before() {
    let room = room();
    let _turns = all_turns(&room);
    let mut drive = drive(&room, WHO);
    assert!(poll(&mut drive).is_pending());
    assert!(drive.poll_timer(&mut context()).is_pending());
    advance(PROBE).await;
    assert!(drive.poll_timer(&mut context()).is_ready());
}
