//! The socket for administrators, and `unisono admin`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::client::Client;
use crate::process::{self, Server, unisono};

/// A server, and the socket where administrators are answered.
struct Kept {
    server: Server,
    socket: PathBuf,
}

/// A place for a socket that no other test has. A path to a socket is short.
fn place(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("unisono-e2e-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("there is a place for it");
    directory.join(name)
}

impl Kept {
    fn start(name: &str, options: &[&str]) -> Self {
        let socket = place(name);
        let admin = format!("unix:{}", socket.display());
        let server = Server::start(&[&["--lang", "en", "--admin", &admin], options].concat());
        Self { server, socket }
    }

    /// What `unisono admin` prints, or else what it says on stderr.
    fn admin(&self, words: &[&str]) -> Result<Vec<String>, String> {
        let mut command = unisono();
        command.arg("admin").arg("--socket").arg(&self.socket).args(words);
        let (status, stdout, stderr) = process::run(command, b"");
        match status.code() {
            Some(0) => Ok(String::from_utf8(stdout).expect("text").lines().map(str::to_owned).collect()),
            code => Err(format!("{code:?}: {stderr}")),
        }
    }

    fn expect(&self, words: &[&str], answer: &[&str]) {
        assert_eq!(self.admin(words).as_deref(), Ok(&answer.iter().map(ToString::to_string).collect::<Vec<_>>()[..]));
    }

    fn join(&self) -> Client {
        self.join_from(1)
    }

    fn join_from(&self, last: u8) -> Client {
        let mut client = Client::dial_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), self.server.addr());
        let welcome = format!("Welcome {}", client.who());
        client.expect_line(&welcome);
        client
    }

    /// What the socket answers to these bytes, to its end.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        let mut answer = String::new();
        // It may have answered, and ended, before all is written.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

#[test]
fn who_is_there_and_where_from_is_shown_to_administrators() {
    let kept = Kept::start("who", &["--who", "guest"]);
    let mut anna = Client::dial_from(IpAddr::from(Ipv4Addr::LOCALHOST), kept.server.addr());
    anna.expect_line("Welcome guest-1");
    let mut berta = Client::dial_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)), kept.server.addr());
    berta.expect_line("Welcome guest-2");
    anna.expect_line("guest-2 joined");
    berta.send(b"/name bert\n");
    anna.expect_line("guest-2 is now bert");
    kept.expect(&["who"], &["guest-1 127.0.0.1", "bert 127.0.0.2"]);
    let stats = kept.admin(&["stats"]).expect("it answers");
    assert!(stats.contains(&"members 2".to_owned()) && stats.contains(&"bans 0".to_owned()), "{stats:?}");
}

#[test]
fn kicked_member_is_told_and_closed_and_all_others_see_it_leave() {
    let kept = Kept::start("kick", &[]);
    let mut anna = kept.join();
    let mut berta = kept.join();
    anna.expect_line(&format!("{} joined", berta.who()));
    berta.say("hello");
    let hello = format!("{}: hello", berta.who());
    anna.expect_line(&hello);
    berta.expect_line(&hello);
    kept.expect(&["kick", berta.who()], &["1 removed"]);
    berta.expect_line("-- you were removed");
    berta.expect_end();
    anna.expect_line(&format!("{} left", berta.who()));
    let error = kept.admin(&["kick", berta.who()]).expect_err("it is gone");
    assert!(error.starts_with("Some(1)") && error.contains("nobody is called"), "{error}");
    // It may come again.
    let carla = kept.join();
    anna.expect_line(&format!("{} joined", carla.who()));
}

#[test]
fn banned_address_is_removed_and_refused_until_the_ban_is_lifted() {
    let kept = Kept::start("ban", &[]);
    let mut anna = kept.join();
    let mut enemies = [2, 2, 3].map(|last| kept.join_from(last));
    for enemy in &enemies {
        anna.expect_line(&format!("{} joined", enemy.who()));
    }
    kept.expect(&["ban", "127.0.0.2", "--for", "1h"], &["127.0.0.2/32 banned, 2 removed"]);
    kept.expect(&["ban", enemies[2].who()], &["127.0.0.3/32 banned, 1 removed"]);
    for enemy in &mut enemies {
        while enemy.next_text() != "-- you were removed" {}
        enemy.expect_end();
        anna.expect_line(&format!("{} left", enemy.who()));
    }
    let bans = kept.admin(&["bans"]).expect("it answers");
    assert!(bans[0].starts_with("127.0.0.2/32 59m") && bans[1] == "127.0.0.3/32 forever", "{bans:?}");
    for last in [2, 3] {
        let mut refused = Client::dial_from(IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), kept.server.addr());
        refused.expect_line("-- connections from your address are not let in here");
        refused.expect_end();
    }
    kept.expect(&["unban", "127.0.0.2"], &["127.0.0.2/32 may come"]);
    let forgiven = kept.join_from(2);
    anna.expect_line(&format!("{} joined", forgiven.who()));
    assert!(kept.admin(&["unban", "127.0.0.2"]).expect_err("it is lifted").contains("is not banned"));
    assert!(kept.admin(&["ban", "nobody"]).expect_err("there is none").contains("nobody is called nobody"));
}

#[test]
fn notice_is_a_line_of_the_room_that_no_member_can_say() {
    let kept = Kept::start("notice", &[]);
    let mut anna = kept.join();
    kept.expect(&["notice", "back", "at \u{1b}[1mnoon"], &[]);
    anna.expect_line("-! back at \u{241b}[1mnoon");
    anna.say("-! it is me");
    anna.expect_line(&format!("{}: -! it is me", anna.who()));
    anna.send(b"/name -!\n");
    assert!(anna.expect_notice().contains("name refused"));
}

#[test]
fn drained_server_lets_in_nobody_and_ends_when_the_last_has_left() {
    let mut kept = Kept::start("drain", &[]);
    let mut anna = kept.join();
    kept.expect(&["drain"], &[]);
    anna.expect_line("-! server is about to stop: nobody more is let in");
    let mut late = Client::dial(kept.server.addr());
    late.expect_line("-- server is stopping");
    late.expect_end();
    anna.say("bye");
    anna.expect_line(&format!("{}: bye", anna.who()));
    anna.half_close();
    anna.expect_end();
    kept.server.expect_exit_0();
    assert!(!kept.socket.exists(), "its socket goes with it");
}

#[test]
fn drained_server_ends_when_its_time_is_over_though_somebody_stays() {
    let mut kept = Kept::start("drain-for", &[]);
    let mut anna = kept.join();
    kept.expect(&["drain", "--for", "0"], &[]);
    while anna.next_text() != "-- server is stopping" {}
    anna.expect_end();
    kept.server.expect_exit_0();
}

#[test]
fn socket_is_its_owners_alone_and_answers_bounded_requests() {
    let kept = Kept::start("bounds", &[]);
    let mode = std::fs::metadata(&kept.socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(kept.ask(b""), "");
    assert_eq!(kept.ask(b"who\nwho"), "ok\nok\n");
    assert!(kept.ask(b"what\n").starts_with("error: a request is one of who,"));
    assert_eq!(kept.ask(b"kick \xFF\n"), "error: a request is in UTF-8\n");
    assert_eq!(kept.ask(&[b'x'; 5000]), "error: a request has at most 4096 bytes\n");
    // Four may be there at once; a fifth is told so, and when one goes there is a place again.
    let waiting: Vec<UnixStream> = (0..4)
        .map(|_| {
            let mut stream = UnixStream::connect(&kept.socket).expect("it listens");
            stream.write_all(b"bans\n").expect("it is taken");
            stream.read_exact(&mut [0; 3]).expect("it is answered");
            stream
        })
        .collect();
    assert_eq!(kept.ask(b""), "error: too many administrators at once\n");
    drop(waiting);
    while kept.ask(b"bans\n") != "ok\n" {}
}

#[test]
fn socket_left_behind_is_replaced_and_nothing_else_is() {
    let stale = place("stale");
    drop(UnixListener::bind(&stale).expect("there is a place for it"));
    assert!(stale.exists());
    let kept = Kept::start("stale", &[]);
    kept.expect(&["who"], &[]);

    let file = place("file");
    std::fs::write(&file, "precious").expect("there is a place for it");
    for (path, why) in [(&stale, "another server listens there"), (&file, "a file that is no socket")] {
        let mut command = unisono();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin"]).arg(format!("unix:{}", path.display()));
        let (status, _, stderr) = process::run(command, b"");
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(why) && stderr.contains("--admin unix:"), "{stderr}");
    }
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"precious");
    kept.expect(&["bans"], &[]);
}
