//! The PROXY protocol: from stated sources alone, before lines and before TLS.

use std::net::{IpAddr, Ipv4Addr};

use crate::client::Client;
use crate::process::Server;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const LINE: &str = "PROXY TCP4 192.0.2.7 10.0.0.1 56324 8000\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family, 0, u8::try_from(rest.len()).expect("short")], rest].concat()
}

fn relay(server: &Server, header: &[u8]) -> Client {
    let mut client = Client::dial_from(PROXY, server.addr());
    client.send(header);
    client
}

#[test]
fn members_are_whom_a_stated_source_says() {
    let server = Server::start(&["--proxy-from", "127.0.0.9"]);
    let mut witness = server.join();
    let ipv6 = [&[0x20, 1, 0xD, 0xB8][..], &[0; 11], &[7], &[0; 16], &[0, 80, 0, 81]].concat();
    let cases: [(Vec<u8>, &str); 4] = [
        (LINE.into(), "192.0.2.7:56324"),
        (b"PROXY TCP6 2001:db8::7 ::1 65535 8000\r\n".into(), "[2001:db8::7]:65535"),
        (binary(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0, 80, 0, 81]), "192.0.2.7:80"),
        (binary(0x21, 0x21, &ipv6), "[2001:db8::7]:80"),
    ];
    for (header, who) in cases {
        let mut member = relay(&server, &[&header[..], b"hello\n"].concat());
        member.expect_welcome_as_somebody();
        assert_eq!(member.who(), who);
        member.expect_echo("hello");
        witness.expect_arrival(who);
        witness.expect_said(who, "hello");
        drop(member);
        witness.expect_departure(who);
    }
}

/// A header may come in any pieces, and what is behind it is not lost.
#[test]
fn header_that_comes_byte_by_byte_is_one() {
    let server = Server::start(&["--proxy-from", "127.0.0.0/8"]);
    let mut member = relay(&server, b"");
    for byte in LINE.bytes() {
        member.send(&[byte]);
    }
    member.expect_welcome_as_somebody();
    assert_eq!(member.who(), "192.0.2.7:56324");
}

#[test]
fn header_from_elsewhere_is_a_line_like_others() {
    for options in [&["--proxy-from", "127.0.0.8,10.0.0.0/8"][..], &[]] {
        let server = Server::start(options);
        let mut forger = relay(&server, LINE.as_bytes());
        forger.expect_welcome();
        forger.expect_echo(LINE.trim_end());
    }
}

#[test]
fn limits_and_lists_are_for_who_is_relayed() {
    let options = ["--proxy-from", "127.0.0.9", "--deny", "192.0.2.7,127.0.0.9", "--max-per-ip", "1"];
    let server = Server::start(&options);
    relay(&server, LINE.as_bytes()).expect_end_with_reason();
    let relayed: Vec<Client> = (1..4)
        .map(|host| {
            let mut member = relay(&server, format!("PROXY TCP4 192.0.3.{host} 10.0.0.1 1 2\r\n").as_bytes());
            member.expect_welcome_as_somebody();
            member
        })
        .collect();
    relay(&server, b"PROXY TCP4 192.0.3.1 10.0.0.1 3 4\r\n").expect_end_with_reason();
    drop(relayed);
}

#[test]
fn proxy_that_speaks_for_itself_enters_nobody_and_is_not_told_of() {
    let server = Server::start(&["--proxy-from", "127.0.0.9"]);
    let mut witness = server.join();
    let log = server.stderr();
    for header in [binary(0x20, 0, b""), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut probe = relay(&server, &header);
        probe.expect_end();
    }
    let mut probe = relay(&server, b"");
    probe.half_close();
    probe.expect_end();
    witness.say("nobody came");
    witness.expect_echo("nobody came");
    assert_eq!(server.stderr(), log, "no log noise");
}

#[test]
fn what_is_no_header_is_closed_and_counted() {
    let server = Server::start(&["--proxy-from", "127.0.0.9"]);
    let mut witness = server.join();
    for bytes in [
        &b"hello\n"[..],
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        &binary(0x21, 0x12, &[0; 12]),
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = relay(&server, bytes);
        client.expect_closed();
        assert_eq!(client.seen(), b"");
    }
    server.expect_nobody_came_through(&mut witness);
}

#[test]
fn header_that_does_not_come_is_waited_for_by_a_deadline_and_delays_nobody() {
    let server = Server::start(&["--proxy-from", "127.0.0.9"]);
    let mut stalled: Vec<Client> = (0..50).map(|_| relay(&server, b"PROXY TCP4 ")).collect();
    let mut member = relay(&server, LINE.as_bytes());
    member.expect_welcome_as_somebody();
    for client in &mut stalled {
        client.expect_closed();
    }
}

#[cfg(feature = "tls")]
#[test]
fn header_comes_before_tls() {
    let authority = crate::certificates::Authority::new();
    let mut options: Vec<String> = authority.options().into();
    options.extend(["--proxy-from".into(), "127.0.0.9".into()]);
    let options: Vec<&str> = options.iter().map(|option| &**option).collect();
    let server = Server::start_in(1, &options);
    let mut member = Client::dial_tls(PROXY, server.addr(), authority.config(None), LINE.as_bytes());
    member.expect_welcome_as_somebody();
    assert_eq!(member.who(), "192.0.2.7:56324");
}
