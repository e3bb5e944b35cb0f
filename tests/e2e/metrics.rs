//! The server in numbers: they are those of what has happened, and only who may ask is answered.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::Instant;

use crate::process::{ANY_PORT, DEADLINE, Server, run, unisono};

fn watched() -> (Server, SocketAddr) {
    let server = Server::start(&["--metrics", ANY_PORT, "--max-connections", "3"]);
    let addr = place(&server);
    (server, addr)
}

/// Where a server shows its metrics.
fn place(server: &Server) -> SocketAddr {
    server.wait_for_log("/metrics");
    let log = server.stderr();
    let (_, after) = log.split_once("metrics at http://").expect("it was just there");
    let (addr, _) = after.split_once("/metrics").expect("it was just there");
    addr.parse().expect("an address")
}

fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("it takes this");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and ends");
    answer
}

fn metrics(addr: SocketAddr) -> String {
    let answer = ask(addr, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{answer}"
    );
    answer
}

fn value<T: FromStr>(metrics: &str, name: &str) -> T {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}"))
}

/// The metrics once one of them is as `expected`: that a connection has ended is counted a little after others can notice it.
fn metrics_once(addr: SocketAddr, name: &str, expected: u64) -> String {
    let until = Instant::now() + DEADLINE;
    loop {
        let seen = metrics(addr);
        if value::<u64>(&seen, name) == expected {
            return seen;
        }
        assert!(Instant::now() < until, "{seen}");
    }
}

#[test]
fn metrics_count_what_happens() {
    let (server, addr) = watched();
    let [mut anna, mut berta, carla] = server.company();
    let mut refused = TcpStream::connect(server.addr()).expect("it listens");
    refused.read_to_string(&mut String::new()).expect("it is told why");
    drop(carla);
    anna.next_line();
    berta.next_line();
    for text in ["one", "two", "three"] {
        anna.say(text);
        anna.expect_echo(text);
        berta.expect_said(anna.who(), text);
    }
    let seen = metrics_once(addr, "unisono_connections", 2);
    for (name, expected) in [
        ("unisono_members", 2),
        ("unisono_said_lines_total", 3),
        ("unisono_accepted_connections_total", 3),
        ("unisono_refused_connections_total{reason=\"server_full\"}", 1),
        ("unisono_closed_connections_total{reason=\"left\"}", 1),
        ("unisono_parked_senders", 0),
        ("unisono_let_gos_total", 0),
        ("unisono_lost_log_lines_total", 0),
        ("unisono_backlog_bytes", 0),
    ] {
        assert_eq!(value::<u64>(&seen, name), expected, "{name}");
    }
    let said_bytes: u64 = value(&seen, "unisono_said_bytes_total");
    let delivered_bytes: u64 = value(&seen, "unisono_delivered_bytes_total");
    assert!(delivered_bytes > said_bytes, "{delivered_bytes} bytes delivered, of {said_bytes}");
}

#[test]
fn delay_is_sampled_while_somebody_talks() {
    let (server, addr) = watched();
    let [mut anna, mut berta] = server.company();
    let until = Instant::now() + DEADLINE;
    let mut said = 0;
    let seen = loop {
        for _ in 0..100 {
            said += 1;
            anna.say(&said.to_string());
            anna.expect_echo(&said.to_string());
            berta.expect_said(anna.who(), &said.to_string());
        }
        let seen = metrics(addr);
        if value::<u64>(&seen, "unisono_delivery_delay_seconds_count") >= 2 {
            break seen;
        }
        assert!(Instant::now() < until, "{seen}");
    };
    let sum: f64 = value(&seen, "unisono_delivery_delay_seconds_sum");
    assert!(sum > 0.0 && sum < DEADLINE.as_secs_f64(), "{seen}");
}

/// Who does not come through to the room, and so into its numbers, is counted where it was stopped.
#[test]
fn what_becomes_of_greetings_is_counted_by_kind() {
    let server = Server::start(&["--metrics", ANY_PORT, "--proxy-from", "127.0.0.0/8"]);
    let addr = place(&server);
    let ended = |said: &str| {
        let mut stream = TcpStream::connect(server.addr()).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.write_all(said.as_bytes()).expect("it takes this");
        stream.shutdown(Shutdown::Write).expect("it is open");
        stream.read_to_end(&mut Vec::new()).expect("it ends in order");
    };
    ended("no header\n");
    ended("PROXY TCP4 192.0.2.7 192.0.2.1 5000 8000\r\nhello\n");
    let seen = metrics_once(addr, "unisono_greetings_total{kind=\"proxy\",outcome=\"failed\"}", 1);
    for (outcome, expected) in [("through", 1), ("refused", 0), ("failed", 1), ("late", 0)] {
        let name = format!("unisono_greetings_total{{kind=\"proxy\",outcome=\"{outcome}\"}}");
        assert_eq!(value::<u64>(&seen, &name), expected, "{outcome}");
    }
    assert_eq!(value::<u64>(&seen, "unisono_accepted_connections_total"), 1);
}

#[cfg(feature = "tls")]
#[test]
fn handshakes_that_fail_are_counted_apart_from_those_that_do_not() {
    let authority = crate::certificates::Authority::new();
    let own = authority.options();
    let options: Vec<&str> = own.iter().map(|option| &**option).chain(["--metrics", ANY_PORT]).collect();
    let server = Server::start_in(1, &options);
    let addr = place(&server);
    let mut stream = TcpStream::connect(server.addr()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(b"hello\n").expect("it takes this");
    stream.read_to_end(&mut Vec::new()).expect("it ends in order");
    drop(crate::tls::join(&server, &authority));
    let seen = metrics_once(addr, "unisono_greetings_total{kind=\"tls\",outcome=\"failed\"}", 1);
    for (kind, outcome, expected) in [("tls", "failed", 1), ("tls", "through", 1), ("proxy", "through", 2)] {
        let name = format!("unisono_greetings_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
        assert_eq!(value::<u64>(&seen, &name), expected, "{kind} {outcome}");
    }
}

#[test]
fn only_who_names_this_host_is_answered_and_only_about_metrics() {
    let (server, addr) = watched();
    for (request, expected) in [
        (format!("GET /metrics HTTP/1.1\r\nHost: {addr}\r\n\r\n"), "200"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(), "421"),
        ("GET /metrics HTTP/1.0\r\n\r\n".into(), "421"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "404"),
        ("GET /metrics/.. HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "404"),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi".into(), "405"),
        ("\u{1}\r\n\r\n".into(), "400"),
    ] {
        let answer = ask(addr, &request);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(status, expected, "{request:?}: {answer:?}");
        assert_eq!(answer.contains("unisono_members"), expected == "200", "{request:?}");
    }
    server.join();
}

/// So that somebody may be told two weeks before, and that a reload took a new one in.
#[cfg(feature = "tls")]
#[test]
fn end_of_the_certificate_in_use_is_shown_be_it_to_come_or_past() {
    const NAME: &str = "unisono_certificate_not_after_seconds";
    let authority = crate::certificates::Authority::new();
    authority.renew_until(2049, 12, 31);
    let own = authority.options();
    let options: Vec<&str> = own.iter().map(|option| &**option).chain(["--metrics", ANY_PORT]).collect();
    let server = Server::start_in(1, &options);
    let addr = place(&server);
    assert_eq!(value::<u64>(&metrics(addr), NAME), 2_524_521_600);
    let ends = [(2024, 2, 29, 1_709_164_800_u64), (2050, 3, 1, 2_529_705_600)];
    for (reloads, (year, month, day, expected)) in ends.into_iter().enumerate() {
        let before: u64 = value(&metrics(addr), NAME);
        authority.renew_until(year, month, day);
        assert_eq!(value::<u64>(&metrics(addr), NAME), before, "the one in use is the one that was loaded");
        server.signal("HUP");
        server.wait_for_log_that(|log| log.matches("reloaded").count() > reloads);
        assert_eq!(value::<u64>(&metrics(addr), NAME), expected, "{year}-{month}-{day}");
        let mut connect = unisono();
        connect.args(["connect", &server.addr().to_string(), "--tls", "--ca", &authority.text("ca.pem")]);
        let (status, _, stderr) = run(connect, b"");
        let is_past = year == 2024;
        assert_eq!((status.code(), stderr.contains("expired")), (Some(i32::from(is_past)), is_past), "{stderr}");
    }
    let (plain, addr) = watched();
    let seen = metrics(addr);
    assert!(!seen.lines().any(|line| line.starts_with(NAME)), "{seen}");
    plain.join();
}

#[test]
fn many_who_ask_and_say_nothing_hold_up_neither_the_room_nor_one_who_asks_after_them() {
    let (server, addr) = watched();
    let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(addr).expect("it listens")).collect();
    let mut anna = server.join();
    anna.say("hello");
    anna.expect_echo("hello");
    drop(silent);
    metrics(addr);
}

#[test]
fn metrics_where_nobody_can_listen_are_named_and_exit_1() {
    let server = Server::start(&[]);
    let addr = server.addr().to_string();
    let mut command = unisono();
    command.args(["serve", "--listen", ANY_PORT, "--metrics", &addr]);
    let (status, _, stderr) = run(command, b"");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("cannot show metrics on {addr}")), "{stderr}");
}
