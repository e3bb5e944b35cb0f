//! Target `server`: arbitrary bytes, in arbitrary pieces, from several clients at once, through the real server: laws 1 to
//! 5, 8 and 9.
//!
//! Three bytes say how many clients there are, how much a stream holds (`1 << digit` bytes), and how slowly the clients
//! read. The first of them in the columns of letters (`r` for `2`) has a password, `k`, asked for. Then come steps. A step's first byte names its client, and whether all goes quiet first (`0`, `1`, ... do not wait,
//! `p`, `q`, ... do); the rest is what that client writes. A client comes with its first step and ends its input with one
//! that has nothing to write. `2d0|0hel|0lo|1hi|q` is two clients: the first says `hello` without an end, the second `hi`,
//! and leaves once all is quiet.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::door::Keyhole;
use super::judge::{self, Client, judge};
use super::{Memory, address, digit, in_time, runtime, steps};
use crate::limits::FOREVER;
use crate::{Lang, Limits, Room, Who, Wire};

/// So short that every turn of the rules is near: the longest line, and by it the smallest backlog.
const LINE_BYTES_MAX: usize = 16;

/// The witness's stream must hold all that comes of a script.
const WITNESS_BYTES: usize = 4 * 1024 * 1024;

const WIRE: Wire = Wire { lang: Lang::En, plain: true, raw: true, who: Who::Address };

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    if let Some(script) = Script::parse(input) {
        runtime().block_on(play(&script));
    }
}

/// What shall happen.
struct Script<'a> {
    clients: usize,
    /// A password is asked for.
    has_door: bool,
    /// What a stream holds in each direction.
    stream_bytes: usize,
    /// The second client rests so long between two reads, the third twice that. Zero: nobody rests, nor is let go.
    rest: Duration,
    steps: Vec<Step<'a>>,
}

struct Step<'a> {
    client: usize,
    waits: bool,
    bytes: &'a [u8],
}

impl<'a> Script<'a> {
    fn parse(input: &'a [u8]) -> Option<Self> {
        let [clients, stream_bytes, rest, script @ ..] = input else { return None };
        let has_door = clients & 64 != 0;
        let clients = usize::from(clients & 7).max(1);
        let steps = steps(script).filter_map(|step| {
            let (first, bytes) = step.split_first()?;
            Some(Step { client: usize::from(digit(*first)) % clients, waits: first & 64 != 0, bytes })
        });
        Some(Self {
            clients,
            has_door,
            stream_bytes: 1 << digit(*stream_bytes),
            rest: Duration::from_millis(digit(*rest).into()),
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

/// A client under way.
struct Connected {
    mouth: Option<WriteHalf<DuplexStream>>,
    ear: JoinHandle<Vec<u8>>,
    written: Vec<u8>,
    /// The server read no more: it was turned away.
    is_cut: bool,
}

async fn play(script: &Script<'_>) {
    let limits = script.limits();
    let room = Room::new(limits.clone(), WIRE).expect("limits that work");
    let (connect, connections) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = crate::server::run(vec![Memory(connections)], room.clone(), async { drop(stopped.await) });
    let server = tokio::spawn(serving);

    let (mut witness, stream) = tokio::io::duplex(WITNESS_BYTES);
    let witness_address = address(script.clients);
    connect.send((stream, witness_address)).expect("it serves");
    let welcome = format!("Welcome {witness_address}\n");
    let mut sequence = vec![0; welcome.len()];
    in_time(witness.read_exact(&mut sequence)).await.expect("it is welcome");
    let keyhole = script.has_door.then(Keyhole::default);
    if let Some(keyhole) = &keyhole {
        keyhole.guard(&room);
    }

    let mut clients: Vec<Option<Connected>> = (0..script.clients).map(|_| None).collect();
    for step in &script.steps {
        if step.waits {
            sleep(Duration::from_secs(60)).await;
        }
        let client = clients[step.client].get_or_insert_with(|| {
            let (stream, other) = tokio::io::duplex(script.stream_bytes);
            connect.send((other, address(step.client))).expect("it serves");
            let (ear, mouth) = tokio::io::split(stream);
            let rest = script.rest * u32::try_from(step.client).expect("few clients");
            Connected { mouth: Some(mouth), ear: tokio::spawn(listen(ear, rest)), written: Vec::new(), is_cut: false }
        });
        if step.bytes.is_empty() {
            client.half_close().await;
        } else if let Some(mouth) = &mut client.mouth {
            client.written.extend_from_slice(step.bytes);
            client.is_cut |= in_time(mouth.write_all(step.bytes)).await.is_err();
            assert!(script.has_door || !client.is_cut, "the server reads on");
        }
    }

    let mut ended = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        if let Some(mut client) = client {
            client.half_close().await;
            let seen = in_time(client.ear).await.expect("it reads to its end");
            let (dialog, meant) = judge::meant_at(script.has_door, &client.written, true, WIRE, &limits);
            let is_turned_away = dialog.as_ref().is_some_and(|dialog| dialog.turns_away(&seen));
            assert!(is_turned_away || !client.is_cut, "the server reads on");
            ended.push(Client {
                address: address(number).to_string(),
                dialog,
                meant,
                answers: Vec::new(),
                seen,
                is_whole: true,
            });
        }
    }
    if script.has_door {
        // Who was turned away is there until the server has seen its end.
        sleep(Duration::from_secs(60)).await;
    }
    let tally = room.tally();
    assert_eq!((tally.seats, tally.members), (1, 1), "law 9: only the witness is left: {tally:?}");
    witness.shutdown().await.expect("the server is there");
    in_time(witness.read_to_end(&mut sequence)).await.expect("it reads to its end");
    check_tries(keyhole.as_ref(), &ended);
    judge(&witness_address.to_string(), &sequence, &ended, false);

    drop(stop);
    in_time(server).await.expect("no panic").expect("a server in order");
    check_nothing_is_left(&room);
}

/// Law 6, where a password is asked for: there are so many tries, and nobody is turned away for them before.
pub(super) fn check_tries(keyhole: Option<&Keyhole>, clients: &[Client]) {
    let may_be_hasty = keyhole.is_some_and(Keyhole::check_pace);
    let is_hasty = |client: &Client| client.dialog.as_ref().is_some_and(|dialog| dialog.is_hasty(&client.seen));
    assert!(may_be_hasty || !clients.iter().any(is_hasty), "law 6: there had not been so many tries");
}

/// Law 9, when the server has ended.
pub(super) fn check_nothing_is_left(room: &Room) {
    let tally = room.tally();
    assert_eq!((tally.seats, tally.members, tally.senders_parked), (0, 0, 0), "law 9: {tally:?}");
    assert_eq!((tally.held_bytes, tally.partial_bytes), (0, 0), "law 9: {tally:?}");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "law 9: no task is left");
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

impl Connected {
    async fn half_close(&mut self) {
        if let Some(mut mouth) = self.mouth.take() {
            in_time(mouth.shutdown()).await.expect("a stream in memory");
        }
    }
}
