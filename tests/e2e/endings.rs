//! How connections end, and what that means for the others: laws 3, 4, 5 and 9. A FIN lets the last line count, an RST
//! or a deadline never does; however it ends, there is exactly one departure, and nothing is left behind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::client::{Client, lines};
use crate::process::{DEADLINE, Server, take_turns};

#[test]
fn last_line_before_fin_counts_without_its_end() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    berta.send(b"whole\npart");
    berta.half_close();
    for line in ["whole", "part"] {
        anna.expect_said(berta.who(), line);
        berta.expect_echo(line);
    }
    anna.expect_departure(berta.who());
    // Its own departure is not for itself, nor is anything behind it.
    berta.expect_end();
}

#[test]
fn partial_line_before_rst_is_never_said() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    berta.send(b"whole\npart");
    let who = berta.who().to_owned();
    anna.expect_said(&who, "whole");
    berta.reset();
    anna.expect_departure(&who);
    anna.say("alone");
    anna.expect_echo("alone");
}

#[test]
fn of_lines_before_rst_a_prefix_is_said() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        let [mut anna, mut berta] = server.company();
        let who = berta.who().to_owned();
        berta.send(&lines(0..1000));
        berta.reset();
        let departure = format!("{who} 下线");
        for number in 0..=1000 {
            let line = anna.next_text();
            if line == departure {
                break;
            }
            assert_eq!(line, format!("{who}: {number}"), "true lines: a prefix of what was sent");
        }
        anna.half_close();
        anna.expect_end();
    }
}

#[test]
fn who_leaves_gets_everything_before_its_end() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    let mut berta = Client::join_narrow(server.addr());
    anna.expect_arrival(berta.who());
    let (a, b) = (anna.who().to_owned(), berta.who().to_owned());
    let filler = "f".repeat(500);
    for chunk in 0..50 {
        anna.send(&lines((0..40).map(|line| format!("{chunk} {line} {filler}"))));
        for line in 0..40 {
            anna.expect_said(&a, &format!("{chunk} {line} {filler}"));
        }
    }
    // A megabyte is waiting for Berta, who has read none of it; she says her last and ends her side.
    berta.send(b"last");
    berta.half_close();
    anna.expect_said(&b, "last");
    anna.expect_departure(&b);
    anna.say("too late");
    anna.expect_said(&a, "too late");
    for chunk in 0..50 {
        for line in 0..40 {
            berta.expect_said(&a, &format!("{chunk} {line} {filler}"));
        }
    }
    berta.expect_said(&b, "last");
    berta.expect_end();
}

#[test]
fn full_close_is_one_departure() {
    let server = Server::start(&[]);
    let [mut anna, berta] = server.company();
    let who = berta.who().to_owned();
    drop(berta);
    anna.expect_departure(&who);
    let mut carla = server.join();
    anna.expect_arrival(carla.who());
    carla.say("next");
    anna.expect_said(carla.who(), "next");
}

#[test]
fn brackets_hold_for_those_who_come_and_break_at_once() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    for round in 0..300 {
        let client = Client::dial(server.addr());
        match round % 3 {
            0 => client.reset(),
            1 => drop(client),
            _ => {
                let mut client = client;
                client.send(b"half a li");
                client.reset();
            }
        }
    }
    let last = server.join();
    // Ports may come round again, so the count per address goes up and down, between 0 and 1, and ends at 0.
    let mut here: HashMap<String, i32> = HashMap::new();
    let mut last_is_here = false;
    while !last_is_here || here.values().any(|&count| count > 0) {
        let line = anna.next_text();
        if let Some(who) = line.strip_suffix(" 上线") {
            if who == last.who() {
                last_is_here = true;
                continue;
            }
            let count = here.entry(who.to_owned()).or_default();
            *count += 1;
            assert_eq!(*count, 1, "brackets: {who} arrived twice");
        } else if let Some(who) = line.strip_suffix(" 下线") {
            let count = here.entry(who.to_owned()).or_default();
            *count -= 1;
            assert_eq!(*count, 0, "brackets: {who} departed without an arrival");
        } else {
            anna.fail(&format!("{line:?} was never said: a partial line before an RST"));
        }
    }
}

#[test]
fn line_deadline_ends_a_stuck_line_and_no_silent_reader() {
    let mut server = Server::start(&["--line-deadline", "300ms"]);
    let mut silent = server.join();
    let began = Instant::now();
    let mut stuck = server.join();
    silent.expect_arrival(stuck.who());
    let mut trickler = server.join();
    silent.expect_arrival(trickler.who());
    stuck.send(b"whole\nstuck");
    // A byte now and then keeps no line alive: the deadline counts from its first one.
    while !trickler.ends_within(Duration::from_millis(20)) {
        assert!(began.elapsed() < DEADLINE, "a line that trickles in is still being waited for");
        // It may be closed just now, which the next look shows.
        let _ = trickler.try_send(b"t");
    }
    stuck.read_to_end();
    assert!(began.elapsed() >= Duration::from_millis(300), "closed before the deadline");
    silent.expect_said(stuck.who(), "whole");
    let mut departures = [silent.next_text(), silent.next_text()];
    let mut expected = [&stuck, &trickler].map(|client| format!("{} 下线", client.who()));
    departures.sort();
    expected.sort();
    assert_eq!(departures, expected, "true lines: after a time-out no partial line is said");
    silent.say("still here");
    silent.expect_echo("still here");
    server.signal("TERM");
    silent.expect_end_with_reason();
    drop(silent);
    server.expect_exit_0();
    for who in [stuck.who(), trickler.who()] {
        let log = server.stderr();
        let why =
            log.lines().find(|line| line.contains(who)).unwrap_or_else(|| panic!("{who} is not in the log: {log}"));
        assert!(why.contains("line deadline"), "the log says why: {why}");
    }
}

#[test]
fn unread_input_never_turns_the_end_into_a_reset() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let mut bytes = b"last\n/quit\n".to_vec();
    bytes.extend(std::iter::repeat_n(b"never read\n", 20_000).flatten());
    berta.send(&bytes);
    let who = berta.who().to_owned();
    berta.expect_said(&who, "last");
    berta.expect_end_with_reason();
    anna.expect_said(&who, "last");
    anna.expect_departure(&who);
}

#[test]
fn nothing_is_left_behind_when_connections_end() {
    let _turn = take_turns();
    let server = Server::start(&[]);
    let mut anna = server.join();
    let files = server.files();
    let mut rss_bytes = 0;
    for round in 0..5 {
        let members: Vec<Client> = (0..200).map(|_| server.join()).collect();
        for member in &members {
            anna.expect_arrival(member.who());
        }
        for (index, mut member) in members.into_iter().enumerate() {
            let who = member.who().to_owned();
            match index % 4 {
                0 => drop(member),
                1 => member.reset(),
                2 => {
                    member.half_close();
                    member.read_to_end();
                }
                _ => {
                    member.send(b"/quit\n");
                    member.read_to_end();
                }
            }
            anna.expect_departure(&who);
        }
        // A departure is told before the file is closed, so a few round trips may pass until all are.
        let began = Instant::now();
        while server.files() > files {
            assert!(began.elapsed() < DEADLINE, "{} files are open, {files} before", server.files());
            anna.say("round trip");
            anna.expect_echo("round trip");
        }
        match round {
            0 => rss_bytes = server.rss_bytes(),
            _ => assert!(
                server.rss_bytes() < rss_bytes + 4 * 1024 * 1024,
                "nothing left behind: {} bytes resident after round {round}, {rss_bytes} after the first",
                server.rss_bytes()
            ),
        }
    }
}
