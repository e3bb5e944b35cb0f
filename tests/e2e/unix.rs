//! Unix sockets: who the members are, and the file that is there while the server is.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::client::Client;
use crate::process::{Server, run, unisono};

/// A directory of its own for a test, gone with it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("unisono-e2e-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("it is ours alone");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left of it is only in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The option that asks for it.
pub(crate) fn listen(path: &std::path::Path) -> String {
    format!("--listen=unix:{}", path.display())
}

fn join(path: &std::path::Path) -> Client {
    let mut client = Client::dial_unix(path);
    client.expect_welcome_as_somebody();
    client
}

#[test]
fn members_are_called_by_their_process_and_nobody_else_may_be() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let uid = std::fs::metadata(directory.file(".")).expect("it is there").uid();
    let server = Server::start_in(2, &[&listen(&path), "--listen=127.0.0.1:0"]);
    let own = format!("uid{uid}-pid{}", std::process::id());
    let mut anna = join(&path);
    let mut berta = join(&path);
    assert_eq!(anna.who(), own);
    assert_eq!(berta.who(), format!("{own}-2"), "a second connection of one process is told apart");
    anna.expect_arrival(berta.who());
    let mut carla = server.join();
    for member in [&mut anna, &mut berta] {
        member.expect_arrival(carla.who());
    }
    for name in [&own, "uid0", "uid0-pid1", "UID7-PID8-2"] {
        carla.say(&format!("/name {name}"));
        carla.expect_notice();
    }
    carla.half_close();
    carla.expect_end();
    berta.say("/name berta");
    berta.expect_departure(carla.who());
    berta.expect_line(&format!("{own}-2 改名 berta"));
    drop(anna);
    berta.expect_departure(&own);
    assert_eq!(join(&path).who(), own, "who has gone has left it");
}

#[test]
fn who_comes_by_a_file_is_no_stranger() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let options =
        ["--trusted=none", "--connect-rate=1+1/s", "--flood=1+1/s,1+1/s", "--max-per-ip=1", "--deny=0.0.0.0/0,::/0"];
    let _server = Server::start_in(1, &[&[&*listen(&path)], &options[..]].concat());
    let mut members: Vec<Client> = (0..5).map(|_| join(&path)).collect();
    let mut last = members.pop().expect("there are five");
    for number in 0..100 {
        last.say(&number.to_string());
    }
    for number in 0..100 {
        last.expect_echo(&number.to_string());
    }
}

#[test]
fn file_has_its_mode_and_goes_with_the_server() {
    let directory = Directory::new();
    let path = directory.file("socket");
    for (option, mode) in [("--unix-mode=600", 0o600), ("--grace=1s", 0o660)] {
        let mut server = Server::start_in(1, &[&listen(&path), option]);
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, mode);
        server.signal("TERM");
        server.expect_exit_0();
        assert!(!path.exists(), "nothing left behind");
    }
}

#[test]
fn what_is_in_the_way_is_replaced_only_if_it_is_a_dead_socket() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let refused = |expected: &str| {
        let mut serve = unisono();
        serve.args(["serve", &listen(&path)]);
        let (status, _, stderr) = run(serve, b"");
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&format!("cannot listen on unix:{}: {expected}", path.display())), "{stderr}");
    };
    let mut first = Server::start_in(1, &[&listen(&path)]);
    refused("another server listens there");
    join(&path).say("it still listens");
    first.signal("KILL");
    first.wait();
    assert!(path.exists(), "a server that was killed removes nothing");
    drop(Server::start_in(1, &[&listen(&path)]));

    std::fs::remove_file(&path).expect("a server that was killed removes nothing");
    std::fs::write(&path, "mine").expect("it can be written");
    refused("there is a file that is no socket");
    assert_eq!(std::fs::read_to_string(&path).expect("it is left alone"), "mine");

    std::fs::remove_file(&path).expect("it is there");
    let stranger = UnixListener::bind(&path).expect("there is nothing");
    refused("another server listens there");
    drop(stranger);
}
