//! Laws 1, 2, 5 and 8 under load and in bursts: one order for all, no holes, one's own echo in its place, and nobody
//! left waiting when all goes quiet.

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use crate::client::{Client, lines};
use crate::process::{DEADLINE, Server, take_turns};

const SENDERS: usize = 8;
const READERS: usize = 8;
const LINES_EACH: usize = 10_000;
const LINES: usize = SENDERS * LINES_EACH;

/// A said line: the sender's number and how many it had said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    sender: usize,
    count: usize,
}

/// Reads until somebody says `over`, and checks that each line bears the name of who said it (law 3). Arrivals are passed
/// over; a notice of missed lines, like anything else, is a failure.
fn read_until_over(client: &mut Client, senders: &[String], mut on_line: impl FnMut(&mut Client, usize)) -> Vec<Said> {
    let mut said = Vec::with_capacity(LINES);
    loop {
        let text = client.next_text();
        if text.ends_with(" 上线") {
            continue;
        }
        let Some((who, text)) = text.split_once(": ") else {
            client.fail(&format!("{text:?} was never said"));
        };
        if text == "over" {
            return said;
        }
        let parsed = text
            .split_once(' ')
            .and_then(|(sender, count)| Some(Said { sender: sender.parse().ok()?, count: count.parse().ok()? }));
        let Some(line) = parsed else {
            client.fail(&format!("{text:?} was never said"));
        };
        assert_eq!(who, senders[line.sender], "true lines: {text:?} bears another's name");
        said.push(line);
        on_line(client, said.len());
    }
}

#[test]
fn eight_by_eight_at_full_speed_see_one_order_without_holes() {
    let _turn = take_turns();
    let server = Server::start(&[]);
    let mut readers: Vec<Client> = (0..READERS).map(|_| server.join()).collect();
    let mut senders: Vec<Client> = (0..SENDERS).map(|_| server.join()).collect();
    let names: Vec<String> = senders.iter().map(|sender| sender.who().to_owned()).collect();
    let writers: Vec<_> = senders.iter().map(Client::stream).collect();

    let (from_start, from_entry) = thread::scope(|scope| {
        let names = &names[..];
        let (tick, ticks) = mpsc::channel();
        let (resume, resumed) = mpsc::channel();
        let mut resumed = Some(resumed);
        let mut reading = Vec::new();
        for (index, client) in readers.iter_mut().chain(&mut senders).enumerate() {
            let tick = tick.clone();
            reading.push(scope.spawn(move || {
                read_until_over(client, names, |client, count| {
                    if index == 0 && (count == LINES / 5 || count == LINES / 2) {
                        tick.send(()).expect("the test waits for this");
                    }
                    if index == 0 && count == LINES {
                        client.say("over");
                    }
                })
            }));
        }
        for (sender, mut stream) in writers.into_iter().enumerate() {
            let resumed = resumed.take();
            scope.spawn(move || {
                for chunk in (0..LINES_EACH).collect::<Vec<_>>().chunks(100) {
                    let lines = lines(chunk.iter().map(|count| format!("{sender} {count}")));
                    stream.write_all(&lines).expect("the server reads on");
                    // The first sender keeps its second half until the late ones are there, so that they are not too late.
                    if let Some(resumed) = resumed.as_ref().filter(|_| chunk.ends_with(&[LINES_EACH / 2 - 1])) {
                        resumed.recv_timeout(DEADLINE).expect("the late ones come");
                    }
                }
            });
        }
        // Two come in the thick of it, when the first reader says so; there, too, the welcome comes first (law 4).
        let mut late = Vec::new();
        for _ in 0..2 {
            ticks.recv_timeout(DEADLINE).expect("the first reader gets on");
            let mut client = server.join();
            late.push(scope.spawn(move || read_until_over(&mut client, names, |_, _| {})));
        }
        resume.send(()).expect("the first sender waits for this");
        let join = |threads: Vec<thread::ScopedJoinHandle<'_, Vec<Said>>>| {
            threads.into_iter().map(|thread| thread.join().expect("see its message")).collect::<Vec<_>>()
        };
        (join(reading), join(late))
    });

    let order = &from_start[0];
    assert_eq!(order.len(), LINES, "no holes: every line of every sender");
    let mut next = [0; SENDERS];
    for line in order {
        assert_eq!(line.count, next[line.sender], "one order: lines of sender {} keep their order", line.sender);
        next[line.sender] += 1;
    }
    for (client, seen) in from_start.iter().enumerate() {
        assert!(seen == order, "one order: client {client} of {READERS} readers and {SENDERS} senders saw another");
    }
    for seen in &from_entry {
        assert!(order.ends_with(seen), "no holes: who came late missed something since its entry");
        assert!(!seen.is_empty() && seen.len() < LINES, "it came too late or too early: {} lines", seen.len());
    }
}

#[test]
fn sender_sees_its_own_lines_in_their_place() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let (a, b) = (anna.who().to_owned(), berta.who().to_owned());
    for round in 0..50 {
        anna.say(&format!("{round}"));
        berta.say(&format!("{round}"));
        let (seen_by_anna, seen_by_berta) = ([(); 2].map(|()| anna.next_text()), [(); 2].map(|()| berta.next_text()));
        assert_eq!(seen_by_anna, seen_by_berta, "one order");
        let mut sorted = seen_by_anna;
        sorted.sort();
        let mut expected = [format!("{a}: {round}"), format!("{b}: {round}")];
        expected.sort();
        assert_eq!(sorted, expected);
    }
}

#[test]
fn after_every_burst_everyone_has_everything() {
    let server = Server::start(&[]);
    let mut members: [Client; 20] = server.company();
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for round in 0..60 {
        let mut total = 0;
        for member in &mut members {
            // A burst of 0 to 15 lines each, mostly few, from a plain linear congruential generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let count = (state >> 60) & (state >> 56);
            let who = member.who().to_owned();
            member.send(&lines((0..count).map(|line| format!("{round} {line} of {who}"))));
            total += count;
        }
        // Nobody speaks now. If a wake was lost, somebody waits here for ever (law 8).
        let mut orders = members.iter_mut().map(|member| (0..total).map(|_| member.next_line()).collect::<Vec<_>>());
        let first = orders.next().expect("there are members");
        for order in orders {
            assert!(order == first, "one order in round {round}");
        }
    }
}

#[test]
fn single_lines_in_turn_never_lose_a_wake() {
    let server = Server::start(&[]);
    let mut members: [Client; 3] = server.company();
    for turn in 0..3000 {
        let speaker = turn % members.len();
        let text = format!("turn {turn}");
        members[speaker].say(&text);
        let who = members[speaker].who().to_owned();
        for member in &mut members {
            member.expect_said(&who, &text);
        }
    }
}
