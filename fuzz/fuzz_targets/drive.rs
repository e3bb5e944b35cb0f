//! Arbitrary bytes, in arbitrary pieces, from several clients at once, through the real server: laws 1 to 5, 8 and 9.
//!
//! The input is a script that one can write by hand. Three bytes say how many clients there are, how much a stream holds,
//! and how slowly the clients read; then come steps, parted by `|`. A step's first byte names its client, and whether all
//! goes quiet first (`0`, `1`, ... do not wait, `p`, `q`, ... do); the rest is what that client writes. A client comes with
//! its first step and ends its input with one that has nothing to write. `2d0|0hel|0lo|1hi|q` is two clients: the first
//! says `hello` without an end, the second `hi`, and leaves once all is quiet.
//!
//! A witness comes first, goes last, and never blocks: what it reads is the sequence. It is checked against the slow truth,
//! every client's script split at its line feeds, and each client's stream against its part of the sequence.
#![no_main]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use unisono::limits::FOREVER;
use unisono::{Lang, Limits, Listener, Room, Wire, server};

/// So short that every turn of the rules is near: the longest line, and by it the smallest backlog.
const LINE_BYTES_MAX: usize = 16;

/// A longer script finds nothing more, and the witness's stream must hold all that comes of one.
const SCRIPT_BYTES_MAX: usize = 16 * 1024;
const WITNESS_BYTES: usize = 4 * 1024 * 1024;

fuzz_target!(|script: &[u8]| {
    if let Some(script) = Script::parse(script) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(play(&script));
    }
});

/// What shall happen.
struct Script {
    clients: usize,
    /// What a stream holds in each direction.
    stream_bytes: usize,
    /// The second client rests so long between two reads, the third twice that. Zero: nobody rests, nor is let go.
    rest: Duration,
    steps: Vec<Step>,
}

struct Step {
    client: usize,
    waits: bool,
    bytes: Vec<u8>,
}

impl Script {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [clients, stream_bytes, rest, steps @ ..] = bytes else { return None };
        if steps.len() > SCRIPT_BYTES_MAX {
            return None;
        }
        let clients = usize::from(clients & 7).max(1);
        let steps = steps.split(|byte| *byte == b'|').filter_map(|step| {
            let (first, bytes) = step.split_first()?;
            let client = usize::from(first & 15) % clients;
            Some(Step { client, waits: first & 64 != 0, bytes: bytes.to_vec() })
        });
        Some(Self {
            clients,
            stream_bytes: 1 << (stream_bytes & 15),
            rest: Duration::from_millis(u64::from(rest & 15)),
            steps: steps.collect(),
        })
    }

    fn limits(&self) -> Limits {
        let least = Limits { line_bytes_max: LINE_BYTES_MAX, ..Limits::default() };
        Limits {
            backlog_bytes: 4 * least.line_stored_bytes_max(),
            patience: if self.rest.is_zero() { FOREVER } else { Duration::from_millis(1) },
            stall: FOREVER,
            line_deadline: FOREVER,
            ..least
        }
    }
}

/// Connections that come out of a channel.
struct Memory(mpsc::UnboundedReceiver<(DuplexStream, SocketAddr)>);

impl Listener for Memory {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 8000).into())
    }
}

fn address(client: usize) -> SocketAddr {
    ([10, 0, 0, 1], u16::try_from(client + 1).expect("few clients")).into()
}

struct Client {
    mouth: Option<WriteHalf<DuplexStream>>,
    ear: JoinHandle<Vec<u8>>,
    written: Vec<u8>,
}

async fn play(script: &Script) {
    let wire = Wire { lang: Lang::En, plain: true, raw: true };
    let room = Room::new(script.limits(), wire).expect("limits that work");
    let (connect, connections) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server::run(vec![Memory(connections)], room.clone(), async { drop(stopped.await) });
    let server = tokio::spawn(serving);

    let (witness, stream) = tokio::io::duplex(WITNESS_BYTES);
    connect.send((stream, address(script.clients))).expect("it serves");
    let (witness_ear, mut witness_mouth) = tokio::io::split(witness);
    let mut witness_ear = BufReader::new(witness_ear);
    let mut sequence = Vec::new();
    in_time(witness_ear.read_until(b'\n', &mut sequence)).await.expect("it is welcome");

    let mut clients: Vec<Option<Client>> = (0..script.clients).map(|_| None).collect();
    for step in &script.steps {
        if step.waits {
            sleep(Duration::from_secs(60)).await;
        }
        let client = clients[step.client].get_or_insert_with(|| {
            let (stream, other) = tokio::io::duplex(script.stream_bytes);
            connect.send((other, address(step.client))).expect("it serves");
            let (ear, mouth) = tokio::io::split(stream);
            let rest = script.rest * u32::try_from(step.client).expect("few clients");
            Client { mouth: Some(mouth), ear: tokio::spawn(listen(ear, rest)), written: Vec::new() }
        });
        if step.bytes.is_empty() {
            client.half_close().await;
        } else if let Some(mouth) = &mut client.mouth {
            in_time(mouth.write_all(&step.bytes)).await.expect("the server reads on");
            client.written.extend_from_slice(&step.bytes);
        }
    }

    let mut ended = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        if let Some(mut client) = client {
            client.half_close().await;
            let seen = in_time(client.ear).await.expect("it reads to its end");
            ended.push((address(number).to_string(), client.written, seen));
        }
    }
    let tally = room.tally();
    assert_eq!((tally.seats, tally.members), (1, 1), "law 9: only the witness is left: {tally:?}");
    witness_mouth.shutdown().await.expect("the server is there");
    in_time(witness_ear.read_to_end(&mut sequence)).await.expect("it reads to its end");
    judge(&sequence, &ended, &address(script.clients).to_string());

    drop(stop);
    in_time(server).await.expect("no panic").expect("a server in order");
    let tally = room.tally();
    assert_eq!((tally.seats, tally.members, tally.senders_parked), (0, 0, 0), "law 9: {tally:?}");
    assert_eq!((tally.held_bytes, tally.partial_bytes), (0, 0), "law 9: {tally:?}");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "law 9: no task is left");
}

/// Law 8: under paused time an hour passes as soon as everyone waits.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(3600), work).await.expect("law 8: somebody was not woken")
}

async fn listen(mut ear: ReadHalf<DuplexStream>, rest: Duration) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut buffer = [0; 64];
    loop {
        if !rest.is_zero() {
            sleep(rest).await;
        }
        match ear.read(&mut buffer).await.expect("a stream in memory") {
            0 => return seen,
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

impl Client {
    async fn half_close(&mut self) {
        if let Some(mut mouth) = self.mouth.take() {
            in_time(mouth.shutdown()).await.expect("a stream in memory");
        }
    }
}

/// What came of one client's input.
#[derive(Default)]
struct Truth {
    said: Vec<Vec<u8>>,
    too_long: usize,
}

/// The slow truth.
fn split(written: &[u8]) -> Truth {
    let mut truth = Truth::default();
    let mut lines: Vec<&[u8]> = written.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    for line in lines {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.len() > LINE_BYTES_MAX {
            truth.too_long += 1;
        } else {
            truth.said.push(text.to_vec());
        }
    }
    truth
}

fn lines(stream: &[u8]) -> Vec<&[u8]> {
    assert!(stream.ends_with(b"\n"), "law 3: a stream ends with a whole line");
    stream[..stream.len() - 1].split(|byte| *byte == b'\n').collect()
}

fn judge(sequence: &[u8], clients: &[(String, Vec<u8>, Vec<u8>)], witness: &str) {
    let sequence = lines(sequence);
    assert_eq!(sequence[0], format!("Welcome {witness}").as_bytes(), "law 4: welcome comes first");
    let sequence = &sequence[1..];

    // The sequence is nothing but each one's arrival, lines and departure, in this order.
    let mut due: HashMap<&str, Vec<Vec<u8>>> = HashMap::new();
    let mut left = 0;
    for (who, written, _) in clients {
        let said = split(written).said.into_iter().map(|text| [who.as_bytes(), b": ", &text[..]].concat());
        let mut all: Vec<Vec<u8>> = vec![format!("{who} joined").into_bytes()];
        all.extend(said);
        all.push(format!("{who} left").into_bytes());
        left += all.len();
        all.reverse();
        due.insert(who, all);
    }
    assert_eq!(sequence.len(), left, "law 3: everything was said once, and nothing invented");
    for line in sequence {
        let who_end = line.windows(2).position(|pair| pair == b": " || pair[0] == b' ').expect("WHO and more");
        let who = str::from_utf8(&line[..who_end]).expect("an address");
        let next = due.get_mut(who).and_then(Vec::pop);
        assert_eq!(next.as_deref(), Some(*line), "laws 1, 3 and 4: the lines of one member in the order sent");
    }

    for (who, written, seen) in clients {
        let place = |word: &str| {
            let line = format!("{who} {word}");
            sequence.iter().position(|said| *said == line.as_bytes()).expect("it is in the sequence")
        };
        let (from, to) = (place("joined") + 1, place("left"));
        let mut at = from;
        let mut too_long = 0;
        let seen = lines(seen);
        assert_eq!(seen[0], format!("Welcome {who}").as_bytes(), "law 4: welcome comes first");
        for line in &seen[1..] {
            if let Some(missed) = missed(line) {
                assert!(missed > 0, "law 2: nobody is told of nothing");
                at += missed;
            } else if line.starts_with(b"-- line too long") {
                too_long += 1;
            } else {
                assert_eq!(Some(line), sequence.get(at), "laws 1 and 2: {who} sees the one order, without a hole");
                at += 1;
            }
        }
        assert_eq!(at, to, "laws 2 and 5: {who} gets all up to its end, its own lines too, or is told of them");
        assert_eq!(too_long, split(written).too_long, "each line that is too long is told about once");
    }
}

fn missed(line: &[u8]) -> Option<usize> {
    let count = line.strip_prefix(b"-- missed ")?.strip_suffix(b" lines")?;
    str::from_utf8(count).ok()?.parse().ok()
}
