//! The end of the server: SIGTERM and SIGINT flush what was said, end all streams, and leave with 0; nobody can hold it up
//! beyond the grace period, and a second signal ends it at once.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, lines};
use crate::process::Server;

/// A member with a megabyte of lines waiting for it, none of which it has read, and the one who said them.
fn with_unread_lines(server: &Server) -> (Client, Client, Vec<String>) {
    let mut anna = server.join();
    let berta = Client::join_narrow(server.addr());
    anna.expect_arrival(berta.who());
    let texts: Vec<String> = (0..10_000).map(|line| format!("{line:0>100}")).collect();
    for chunk in texts.chunks(100) {
        anna.send(&lines(chunk));
        for text in chunk {
            anna.expect_echo(text);
        }
    }
    (anna, berta, texts)
}

/// What is in the sequence reaches everyone who reads; no departure is told; the exit code is 0.
fn check_signal(name: &str) {
    let mut server = Server::start(&[]);
    let (mut anna, mut berta, texts) = with_unread_lines(&server);
    server.signal(name);
    anna.expect_end_with_reason();
    for text in &texts {
        berta.expect_said(anna.who(), text);
    }
    berta.expect_end_with_reason();
    drop((anna, berta));
    server.expect_exit_0();
    assert!(TcpStream::connect(server.addr()).is_err(), "nothing left behind: somebody still listens");
}

#[test]
fn sigterm_flushes_ends_streams_and_exits_0() {
    check_signal("TERM");
}

#[test]
fn sigint_flushes_ends_streams_and_exits_0() {
    check_signal("INT");
}

#[test]
fn empty_server_ends_at_once() {
    let mut server = Server::start(&["--grace", "1h"]);
    server.signal("TERM");
    server.expect_exit_0();
}

#[test]
fn idle_member_that_stays_holds_up_the_end_no_longer_than_grace() {
    let mut server = Server::start(&["--grace", "1s"]);
    let mut idle = server.join();
    server.signal("TERM");
    idle.expect_end_with_reason();
    // Our own side stays open, so it is for the server to lose patience.
    server.expect_exit_0();
}

#[test]
fn never_reader_holds_up_the_end_no_longer_than_grace() {
    let mut server = Server::start(&["--grace", "1s", "--stall", "forever", "--patience", "forever"]);
    let (mut anna, berta, _) = with_unread_lines(&server);
    let began = Instant::now();
    server.signal("TERM");
    anna.expect_end_with_reason();
    drop(anna);
    server.expect_exit_0();
    assert!(began.elapsed() < Duration::from_secs(10), "the grace period is 1 s, not {:?}", began.elapsed());
    drop(berta);
}

#[test]
fn second_signal_ends_at_once() {
    let mut server = Server::start(&["--grace", "1h", "--stall", "forever", "--patience", "forever"]);
    let (mut anna, berta, _) = with_unread_lines(&server);
    server.signal("TERM");
    // That her stream ends shows that the first one was understood; Berta holds up the rest for an hour.
    anna.expect_end_with_reason();
    server.signal("INT");
    server.wait();
    drop(berta);
}

#[test]
fn what_members_say_is_not_in_the_log() {
    let mut server = Server::start(&["--line-max", "100B", "--max-connections", "2"]);
    let [mut anna, mut berta] = server.company();
    let secret = "swordfish";
    for text in [secret.to_owned(), format!("/{secret}"), secret.repeat(100), format!("\u{1b}{secret}")] {
        anna.say(&text);
    }
    anna.say("end");
    while !berta.next_text().ends_with(": end") {}
    anna.send(secret.as_bytes());
    anna.reset();
    while !berta.next_text().ends_with(" 下线") {}
    server.signal("TERM");
    berta.expect_end_with_reason();
    drop(berta);
    server.expect_exit_0();
    assert!(!server.stderr().contains(secret), "the log holds what was said: {}", server.stderr());
}
