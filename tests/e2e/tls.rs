//! TLS: handshakes that fail or never end, ends that are none, certificates as names, and their change.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::certificates::Authority;
use crate::client::Client;
use crate::process::{Server, run, unisono};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn start(authority: &Authority, options: &[&str]) -> Server {
    let own = authority.options();
    let options: Vec<&str> = own.iter().map(|option| &**option).chain(options.iter().copied()).collect();
    Server::start_in(1, &options)
}

pub(crate) fn join(server: &Server, authority: &Authority) -> Client {
    let mut client = Client::dial_tls(HERE, server.addr(), authority.config(None), b"");
    client.expect_welcome();
    client
}

#[test]
fn certificates_name_is_the_members_and_nobody_elses() {
    let authority = Authority::new();
    let server = start(&authority, &["--tls-client-ca", &authority.text("ca.pem"), "--lang", "en"]);
    let join = |common, mail| {
        let identity = authority.client(common, mail);
        let mut client = Client::dial_tls(HERE, server.addr(), authority.config(Some(&identity)), b"");
        let address = client.who().to_owned();
        client.expect_welcome_as_somebody();
        (client, address)
    };
    let (mut bob, _) = join(Some("bob"), None);
    assert_eq!(bob.who(), "bob");
    let (second, _) = join(Some("bob"), None);
    assert_eq!(second.who(), "bob-2");
    let (mail, _) = join(None, Some("eve@example.org"));
    assert_eq!(mail.who(), "eve@example.org");
    let (fallback, _) = join(Some("two words"), Some("eve@example.org"));
    assert_eq!(fallback.who(), "eve@example.org-2");
    let (mut unnamed, address) = join(Some("Welcome"), None);
    assert_eq!(unnamed.who(), address, "a name that nobody may have is no member's");
    for name in ["bob", "BOB", "b\u{43E}b-2"] {
        unnamed.say(&format!("/name {name}"));
        assert!(unnamed.expect_notice().contains("taken"));
    }
    bob.half_close();
    // Four have come, and are told.
    bob.read_to_end();
    unnamed.expect_line("bob left");
    unnamed.say("/name bob");
    unnamed.expect_line(&format!("{address} is now bob"));
    assert_eq!(join(Some("bob"), None).0.who(), "bob-3", "it was free for a while");
}

#[test]
fn client_without_a_certificate_or_with_anothers_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = start(&authority, &["--tls-client-ca", &authority.text("ca.pem")]);
    let stranger = other.client(Some("bob"), None);
    for identity in [None, Some(&stranger)] {
        let mut client = Client::dial_tls(HERE, server.addr(), authority.config(identity), b"");
        // Whether that is noticed by writing is a matter of luck.
        let _noticed = client.try_send(b"hello\n");
        let error = client.expect_broken();
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    }
    let witness = authority.client(Some("witness"), None);
    let mut witness = Client::dial_tls(HERE, server.addr(), authority.config(Some(&witness)), b"");
    witness.expect_welcome_as_somebody();
    witness.say("/who");
    witness.expect_line("-- 在线 1 人");
}

/// Garbage, lines, an HTTP request, `ClientHello` of SSL 2 and of TLS 1.1.
#[test]
fn what_is_no_tls_of_ours_is_closed_and_counted() {
    let authority = Authority::new();
    let server = start(&authority, &[]);
    let mut witness = join(&server, &authority);
    let ssl2 = [0x80, 0x2E, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10];
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xC0, 0x2F, 1, 0]].concat();
    let tls1_1 = [&[0x16, 3, 1, 0, 45, 1, 0, 0, 41][..], &hello].concat();
    let inputs: [&[u8]; 5] = [&[0; 64], b"hello\nworld\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &ssl2, &tls1_1];
    for bytes in inputs {
        let mut client = Client::dial(server.addr());
        client.send(bytes);
        client.half_close();
        client.expect_closed();
        let is_alert = client.seen().first().is_none_or(|first| *first == 0x15);
        assert!(is_alert, "{}: {}", bytes.escape_ascii(), client.seen().escape_ascii());
    }
    server.expect_nobody_came_through(&mut witness);
}

/// Those who stall are closed by the deadline of ten seconds, and meanwhile nobody waits for them.
#[test]
fn stalled_handshakes_delay_nobody_and_end() {
    let authority = Authority::new();
    let server = start(&authority, &[]);
    let begun = Instant::now();
    let mut stalled: Vec<Client> = (0..200)
        .map(|number| {
            let mut client = Client::dial(server.addr());
            client.send(&[0x16, 3, 1, 1][..number % 5]);
            client
        })
        .collect();
    // They stay, as a departure would be seen by who comes next.
    let members: Vec<Client> = (0..5)
        .map(|_| {
            let mut member = join(&server, &authority);
            member.say("hello");
            member.expect_echo("hello");
            member
        })
        .collect();
    assert!(begun.elapsed() < Duration::from_secs(8), "they came while the others were still stalled");
    let files = server.files();
    for client in &mut stalled {
        client.expect_closed();
    }
    drop(stalled);
    let mut member = join(&server, &authority);
    member.say("hello");
    member.expect_echo("hello");
    assert!(server.files() + 150 < files, "law 9: their descriptors are free");
    drop(members);
}

/// More than may be at it at once: who has been at it longest makes room.
#[test]
fn crowd_of_stalled_handshakes_holds_up_nobody_for_long() {
    let authority = Authority::new();
    let server = start(&authority, &[]);
    let stalled: Vec<Client> = (0..400).map(|_| Client::dial(server.addr())).collect();
    let mut member = join(&server, &authority);
    member.say("hello");
    member.expect_echo("hello");
    drop(stalled);
}

#[test]
fn partial_line_before_an_end_that_was_not_said_is_never_said() {
    let authority = Authority::new();
    let server = start(&authority, &[]);
    let mut anna = join(&server, &authority);
    let mut berta = join(&server, &authority);
    anna.expect_arrival(berta.who());
    let who = berta.who().to_owned();
    berta.send(b"whole\npart");
    anna.expect_said(&who, "whole");
    berta.cut();
    anna.expect_departure(&who);
    let mut carla = join(&server, &authority);
    anna.expect_arrival(carla.who());
    let who = carla.who().to_owned();
    carla.send(b"whole\npart");
    anna.expect_said(&who, "whole");
    carla.reset();
    anna.expect_departure(&who);
}

#[test]
fn certificate_is_changed_by_sighup_and_nobody_notices() {
    let authority = Authority::new();
    let server = start(&authority, &[]);
    let mut anna = join(&server, &authority);
    let old = anna.server_certificate();
    authority.renew();
    assert_eq!(join(&server, &authority).server_certificate(), old, "not yet");
    anna.next_line();
    anna.next_line();
    server.signal("HUP");
    server.wait_for_log("reloaded");
    let mut berta = join(&server, &authority);
    assert_ne!(berta.server_certificate(), old);
    anna.expect_arrival(berta.who());
    berta.say("hello");
    anna.expect_said(berta.who(), "hello");

    // A key that is another's changes nothing.
    let new = berta.server_certificate();
    std::fs::write(authority.path("server.key"), authority.client(None, None).signing_key.serialize_pem())
        .expect("it can be written");
    server.signal("HUP");
    server.wait_for_log("not reloaded");
    assert_eq!(join(&server, &authority).server_certificate(), new);
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let authority = Authority::new();
    std::fs::write(authority.path("empty"), "").expect("it can be written");
    let other = Authority::new();
    let [certificate, key, other_key, empty, absent] = [
        authority.text("server.pem"),
        authority.text("server.key"),
        other.text("server.key"),
        authority.text("empty"),
        authority.text("absent"),
    ];
    let cases = [
        (&absent, &key, format!("cannot read a certificate from {absent}: ")),
        (&certificate, &absent, format!("cannot read a private key from {absent}: ")),
        (&empty, &key, format!("cannot read a certificate from {empty}: ")),
        (&certificate, &certificate, format!("cannot read a private key from {certificate}: ")),
        (
            &certificate,
            &other_key,
            format!("the certificate in {certificate} and the key in {other_key} are of no use: "),
        ),
    ];
    for (certificate, key, expected) in cases {
        let mut serve = unisono();
        serve.args(["serve", "--tls-listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]);
        let (status, _, stderr) = run(serve, b"");
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&expected), "{stderr}");
    }
}

#[test]
fn client_that_does_not_know_the_authority_enters_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = start(&authority, &[]);
    let addr = server.addr().to_string();
    for arguments in [
        vec!["--ca".to_owned(), other.text("ca.pem")],
        vec!["--ca".to_owned(), authority.text("ca.pem"), "--server-name".to_owned(), "example.org".to_owned()],
    ] {
        let mut connect = unisono();
        connect.args(["connect", &addr, "--tls"]).args(&arguments);
        let (status, stdout, stderr) = run(connect, b"secret\n");
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("no TLS with ") && stderr.contains("certificate"), "{stderr}");
        assert_eq!(stdout, b"");
    }
}

#[test]
fn client_shows_its_certificate() {
    let authority = Authority::new();
    let server = start(&authority, &["--tls-client-ca", &authority.text("ca.pem")]);
    let identity = authority.client(Some("bob"), None);
    std::fs::write(authority.path("bob.pem"), identity.cert.pem()).expect("it can be written");
    std::fs::write(authority.path("bob.key"), identity.signing_key.serialize_pem()).expect("it can be written");
    let [root, certificate, key] = ["ca.pem", "bob.pem", "bob.key"].map(|file| authority.text(file));
    let mut connect = unisono();
    connect.args([
        "connect",
        &server.addr().to_string(),
        "--tls",
        "--ca",
        &root,
        "--cert",
        &certificate,
        "--key",
        &key,
    ]);
    let (status, stdout, stderr) = run(connect, b"hello\n");
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&stdout), "欢迎 bob\nbob: hello\n");
}
