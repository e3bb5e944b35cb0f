//! Target `drive`: up to four connections whose streams are scripted, through the real server: short reads and writes,
//! pendings, waits and errors at any point, on both sides. The laws as far as such streams permit: whole lines of the one
//! order until a stream breaks, a prefix of what it meant from who broke, and nothing left behind.
//!
//! Four bytes come first: the longest line as a size; patience as a digit (`0` none, `?` forever, else a span); the wire and
//! limits of time as a digit (1 plain, 2 raw, 4 a stall limit, 8 a line deadline), in the columns of letters (`p` for `0`) with a
//! password, `k`, asked for; when the server is ended (`0` when all is over, else a span). Then steps, as `scripted` has them; `@c` has the connection come later by a span. `?201|0hi\n|0.|1~5`
//! is two clients, of which one says `hi`, and the other listens for 32 ms.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::door::Keyhole;
use super::guess::spoken;
use super::judge::{self, Client, judge};
use super::scripted::{Script, Scripted, Watch};
use super::server::{check_nothing_is_left, check_tries};
use super::session::Meaning;
use super::{Memory, address, digit, in_time, runtime, size, span, steps};
use crate::limits::FOREVER;
use crate::session::Wire;
use crate::{Lang, Limits, Room};

const CLIENTS: usize = 4;

/// Everyone has gone by then: no script waits as long.
const LONG: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
struct Play {
    comes: Duration,
    script: Script,
}

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    let [line, patience, flags, stop, script @ ..] = input else { return };
    let has = |flag| digit(*flags) & flag != 0;
    let wire = Wire { lang: Lang::En, plain: has(1), raw: has(2), ..Wire::default() };
    let least = Limits { line_bytes_max: size(*line), ..Limits::default() };
    let limits = Limits {
        backlog_bytes: 4 * least.line_stored_bytes_max(),
        patience: match digit(*patience) {
            0 => Duration::ZERO,
            15 => FOREVER,
            length => span(length),
        },
        stall: if has(4) { Duration::from_millis(100) } else { FOREVER },
        line_deadline: if has(8) { Duration::from_millis(50) } else { FOREVER },
        ..least
    };
    let stop = (digit(*stop) > 0).then(|| span(*stop));
    let mut plays: [Option<Play>; CLIENTS] = Default::default();
    for (stream, step) in steps(script).filter_map(<[u8]>::split_first) {
        let play = plays[usize::from(digit(*stream)) % CLIENTS].get_or_insert_default();
        match step {
            [b'@', length, ..] => play.comes = (play.comes + span(*length)).min(LONG / 4),
            step => play.script.push(step),
        }
    }
    let keyhole = (flags & 64 != 0).then(Keyhole::default);
    runtime().block_on(perform(plays, limits, wire, stop, keyhole));
}

async fn perform(
    plays: [Option<Play>; CLIENTS],
    limits: Limits,
    wire: Wire,
    stop: Option<Duration>,
    keyhole: Option<Keyhole>,
) {
    let room = Room::new(limits.clone(), wire).expect("limits that work");
    let (connect, connections) = mpsc::unbounded_channel();
    let (ending, ended) = oneshot::channel::<()>();
    let serving = crate::server::run(vec![Memory(connections)], room.clone(), async { drop(ended.await) });
    let server = tokio::spawn(serving);

    let (witness, sequence) = Scripted::new(Script::silent(2 * LONG));
    connect.send((witness, address(CLIENTS))).expect("it serves");
    sleep(Duration::from_millis(1)).await;
    if let Some(keyhole) = &keyhole {
        keyhole.guard(&room);
    }

    let mut plays: Vec<(usize, Play)> =
        plays.into_iter().enumerate().filter_map(|(number, play)| Some((number, play?))).collect();
    plays.sort_by_key(|(_, play)| play.comes);
    let mut watches: Vec<(usize, Watch)> = Vec::new();
    let playing = async {
        let start = Instant::now();
        for (number, Play { comes, script }) in plays {
            sleep_until(start + comes).await;
            let (stream, watch) = Scripted::new(script);
            watches.push((number, watch));
            connect.send((stream, address(number))).expect("it serves");
        }
        sleep(LONG).await;
        let tally = room.tally();
        assert_eq!((tally.seats, tally.members), (1, 1), "law 9: only the witness is left: {tally:?}");
        sleep(2 * LONG).await;
    };
    let is_stopped = timeout(stop.unwrap_or(FOREVER), playing).await.is_err();
    drop(ending);
    in_time(server).await.expect("no panic").expect("a server in order");
    check_nothing_is_left(&room);
    if limits.patience == FOREVER {
        assert_eq!(room.tally().let_gos, 0, "law 6: with patience forever nobody is let go");
    }

    let has_no_limit = limits.stall == FOREVER && limits.line_deadline == FOREVER && !is_stopped;
    let clients: Vec<Client> = watches
        .into_iter()
        .map(|(number, watch)| {
            let record = watch.record();
            assert!(!record.has_panicked, "nothing that a peer does makes its task panic");
            let at_end = record.is_ended && !record.was_reset;
            let is_whole = has_no_limit && record.read_error.is_none() && record.write_error.is_none();
            let (dialog, meant) = judge::meant_at(keyhole.is_some(), &record.read, at_end, wire, &limits);
            let is_turned_away = dialog.as_ref().is_some_and(|dialog| dialog.turns_away(&record.written));
            let quits = is_turned_away || matches!(meant.last(), Some(Meaning::Quit | Meaning::Foreign(_)));
            assert!(!is_whole || at_end || quits, "who has not ended is not ended");
            let answers = spoken(&record.read, at_end, wire).answers;
            Client { address: address(number).to_string(), dialog, meant, answers, seen: record.written, is_whole }
        })
        .collect();
    check_tries(keyhole.as_ref(), &clients);
    let sequence = sequence.record().written;
    if limits.patience.is_zero() && judge::has_missed(&sequence) {
        // Then even a witness that never waits may miss lines, and there is nothing to judge by.
        return;
    }
    judge(&address(CLIENTS).to_string(), &sequence, &clients, is_stopped);
}
