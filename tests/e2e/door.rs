//! The door: who is let in, and what newcomers are told.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crate::client::Client;
use crate::process::{self, Server, unisono};

fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// A file with this in it, by a name that no other test has.
fn file(name: &str, text: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the directory is there");
    path
}

/// Asserts that a newcomer from there gets one line that says no, and the end.
fn expect_refused(from: IpAddr, server: &Server) {
    let mut client = Client::dial_from(from, server.addr());
    assert_eq!(client.expect_notice(), "-- connections from your address are not let in here");
    client.expect_end();
}

fn expect_let_in(from: IpAddr, server: &Server) -> Client {
    let mut client = Client::dial_from(from, server.addr());
    let welcome = format!("Welcome {}", client.who());
    client.expect_line(&welcome);
    client
}

#[test]
fn who_is_denied_or_not_allowed_gets_one_line_and_nobody_is_told() {
    let options = ["--lang", "en", "--allow", "127.0.0.0/30,::1", "--deny", "127.0.0.2"];
    let server = Server::start(&options);
    let mut anna = expect_let_in(loopback(1), &server);
    for last in [2, 4, 200] {
        expect_refused(loopback(last), &server);
    }
    let berta = expect_let_in(loopback(3), &server);
    anna.expect_line(&format!("{} joined", berta.who()));
}

#[test]
fn message_of_the_day_is_told_behind_the_welcome_and_cleaned() {
    let path = file("motd", "be kind\n\u{1b}[2Jand short\n".as_bytes());
    let server = Server::start(&["--lang", "en", "--motd", path.to_str().expect("a path in UTF-8")]);
    let mut anna = expect_let_in(loopback(1), &server);
    anna.expect_line("-- be kind");
    anna.expect_line("-- \u{241b}[2Jand short");
    anna.say("hello");
    anna.expect_line(&format!("{}: hello", anna.who()));
}

#[test]
fn file_that_cannot_be_told_ends_the_start_with_its_name() {
    let long = file("motd-long", &[b'x'; 4097]);
    for (path, why) in [(long, "at most 4096 bytes"), ("/nowhere/motd".into(), "No such file")] {
        let mut command = unisono();
        command.args(["serve", "--listen", "127.0.0.1:0", "--motd"]).arg(&path);
        let (status, _, stderr) = process::run(command, b"");
        assert_eq!(status.code(), Some(1), "{stderr}");
        for part in ["--motd", path.to_str().expect("a path in UTF-8"), why] {
            assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
        }
    }
}

/// The hash of a password, as `unisono hash-password` prints it.
fn hash(password: &str) -> String {
    let mut command = unisono();
    command.arg("hash-password");
    let (status, stdout, stderr) = process::run(command, password.as_bytes());
    assert_eq!(status.code(), Some(0), "{stderr}");
    String::from_utf8(stdout).expect("text")
}

#[test]
fn who_knows_a_password_comes_in_and_nobody_else() {
    let path = file("passwords", format!("# ours\n{}{}", hash("open sesame\n"), hash("other")).as_bytes());
    let options = ["--lang", "en", "--password-file", path.to_str().expect("a path in UTF-8"), "--log-level", "debug"];
    let mut server = Server::start(&options);
    let mut anna = Client::dial(server.addr());
    anna.expect_line("-- password, please");
    anna.say("open sesame");
    anna.expect_line(&format!("Welcome {}", anna.who()));
    let mut enemy = Client::dial(server.addr());
    enemy.expect_line("-- password, please");
    for answer in
        ["-- wrong password, try again", "-- wrong password, try again", "-- wrong password: connection closed"]
    {
        enemy.say("open  sesame");
        enemy.expect_line(answer);
    }
    enemy.expect_end();
    // It pipes, and waits for nothing.
    let mut berta = Client::dial(server.addr());
    berta.send(b"other\nhello\n");
    berta.half_close();
    berta.expect_line("-- password, please");
    berta.expect_line(&format!("Welcome {}", berta.who()));
    berta.expect_line(&format!("{}: hello", berta.who()));
    berta.expect_end();
    for line in ["joined", "hello", "left"] {
        assert!(anna.next_text().ends_with(line), "of the enemy nobody is told");
    }
    drop((anna, berta));
    server.signal("TERM");
    server.expect_exit_0();
    assert!(!server.stderr().contains("sesame"), "{}", server.stderr());
}

#[test]
fn passwords_are_asked_for_from_a_reload_on() {
    let config = file("passwords-later", b"lang = \"en\"\n");
    let server = Server::start(&["--config", config.to_str().expect("a path in UTF-8")]);
    let anna = expect_let_in(loopback(1), &server);
    let hashes = file("passwords-reloaded", hash("open sesame").as_bytes());
    std::fs::write(&config, format!("lang = \"en\"\npassword-file = {hashes:?}\n")).expect("it can be written");
    server.signal("HUP");
    server.wait_for_log("reloaded changed=\"password-file\"");
    assert!(!server.stderr().contains("waits for a restart"), "{}", server.stderr());
    let mut berta = Client::dial(server.addr());
    berta.expect_line("-- password, please");
    drop((anna, berta));
}

#[test]
fn file_without_a_hash_ends_the_start_and_its_lines_are_not_shown() {
    let bad = file("passwords-bad", b"open sesame\n");
    let mut command = unisono();
    command.args(["serve", "--listen", "127.0.0.1:0", "--password-file"]).arg(&bad);
    let (status, _, stderr) = process::run(command, b"");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("--password-file") && stderr.contains("line 1 is no hash by Argon2"), "{stderr}");
    assert!(!stderr.contains("sesame"), "{stderr}");
}
