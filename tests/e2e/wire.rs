//! Greeting, arrival and departure to the byte, in both languages, over IPv4, IPv6 and several listeners at once.

use std::net::TcpListener;

use crate::client::Client;
use crate::process::Server;

/// A whole visit as everyone sees it: `A` is there, `B` comes, speaks and goes.
fn check(options: &[&str], welcome: &str, arrival: &str, departure: &str) {
    let server = Server::start(options);
    let mut anna = server.join();
    let mut berta = server.join();
    anna.say("hi");
    anna.expect_line(&arrival.replace("WHO", berta.who()));
    anna.expect_echo("hi");
    berta.expect_said(anna.who(), "hi");
    berta.half_close();
    berta.expect_end();
    anna.expect_line(&departure.replace("WHO", berta.who()));
    anna.half_close();
    anna.expect_end();
    let (a, b) = (anna.who(), berta.who());
    let fill = |line: &str, who: &str| format!("{}\n", line.replace("WHO", who));
    let anna_saw = [fill(welcome, a), fill(arrival, b), format!("{a}: hi\n"), fill(departure, b)].concat();
    let berta_saw = [fill(welcome, b), format!("{a}: hi\n")].concat();
    assert_eq!(String::from_utf8_lossy(anna.seen()), anna_saw);
    assert_eq!(String::from_utf8_lossy(berta.seen()), berta_saw);
}

#[test]
fn brackets_are_the_seeds_words_by_default() {
    check(&[], "欢迎 WHO", "WHO 上线", "WHO 下线");
}

#[test]
fn brackets_are_the_seeds_words_in_plain_raw_and_zh() {
    check(&["--plain", "--raw", "--lang", "zh"], "欢迎 WHO", "WHO 上线", "WHO 下线");
}

#[test]
fn brackets_are_english_on_request() {
    check(&["--lang", "en"], "Welcome WHO", "WHO joined", "WHO left");
}

#[test]
fn newcomer_sees_nothing_of_what_was_said_before() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    anna.say("before");
    let who = anna.who().to_owned();
    anna.expect_said(&who, "before");
    let mut berta = server.join();
    anna.expect_arrival(berta.who());
    anna.say("after");
    berta.expect_said(&who, "after");
}

#[test]
fn who_of_ipv6_stands_in_brackets() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 on this machine");
        return;
    }
    let server = Server::launch(&[], &["[::1]:0"], &[]);
    let mut anna = server.join();
    let mut berta = server.join();
    assert!(berta.who().starts_with("[::1]:"), "{}", berta.who());
    anna.expect_arrival(berta.who());
    berta.say("six");
    anna.expect_said(berta.who(), "six");
}

#[test]
fn ipv4_mapped_peer_is_named_as_ipv4() {
    if TcpListener::bind("[::ffff:127.0.0.1]:0").is_err() {
        eprintln!("skipped: no IPv4-mapped listeners on this machine");
        return;
    }
    let server = Server::launch(&[], &["[::ffff:127.0.0.1]:0"], &[]);
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], server.addr().port()));
    let client = Client::join(addr);
    assert!(client.who().starts_with("127.0.0.1:"), "{}", client.who());
}

#[test]
fn several_listeners_share_one_room() {
    let mut listens = vec!["127.0.0.1:0", "127.0.0.2:0"];
    if TcpListener::bind("[::1]:0").is_ok() {
        listens.push("[::1]:0");
    }
    let server = Server::launch(&[], &listens, &[]);
    let mut members: Vec<Client> = Vec::new();
    for &addr in server.addrs() {
        let newcomer = Client::join(addr);
        for member in &mut members {
            member.expect_arrival(newcomer.who());
        }
        members.push(newcomer);
    }
    for speaker in 0..members.len() {
        members[speaker].say("all hear this");
        let who = members[speaker].who().to_owned();
        for member in &mut members {
            member.expect_said(&who, "all hear this");
        }
    }
}
