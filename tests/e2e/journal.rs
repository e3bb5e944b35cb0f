//! The log: what it looks like, how much of it there is, and that it costs nobody anything when it cannot be written.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::client::Client;
use crate::process::{self, ANY_PORT, Process, Server};

/// A browser that mistook the port: that is worth a line in the log.
fn browse(addr: SocketAddr) {
    let mut stream = TcpStream::connect(addr).expect("the server listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it takes this");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it ends in order");
    assert!(answer.contains("HTTP/1.1 400"), "{answer:?}");
}

const SPEAKS: &str = "closed: it speaks HTTP";

#[test]
fn crowd_of_one_kind_does_not_flood_the_log_and_is_counted() {
    const CONNECTIONS: u64 = 300;
    let server = Server::start(&[]);
    for _ in 0..CONNECTIONS {
        browse(server.addr());
    }
    let told = |log: &str| {
        let lines = log.lines().filter(|line| line.contains(SPEAKS));
        lines.fold((0, 0), |(written, left_out), line| match line.split_once(" more like this, left out: ") {
            None => (written + 1, left_out),
            Some((before, _)) => {
                let lines = before.rsplit(' ').next().and_then(|lines| lines.parse::<u64>().ok());
                (written, left_out + lines.expect("a number"))
            }
        })
    };
    server.wait_for_log_that(|log| {
        let (written, left_out) = told(log);
        written + left_out == CONNECTIONS
    });
    let (_, left_out) = told(&server.stderr());
    assert!(left_out > 0, "{}", server.stderr());
    // What happens seldom is not hidden by it.
    server.signal("HUP");
    server.wait_for_log("reloaded");
}

#[test]
fn log_can_be_json_a_line() {
    let mut server = Server::start(&["--log-format", "json", "--log-level", "debug"]);
    browse(server.addr());
    server.wait_for_log(SPEAKS);
    server.signal("TERM");
    server.expect_exit_0();
    for line in server.stderr().lines() {
        assert!(line.starts_with("{\"time\":\"20") && line.ends_with('}'), "{line}");
    }
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains(SPEAKS)).expect("it was just there");
    let (_, rest) = line.split_once(",\"level\":\"INFO\",\"message\":\"closed: it speaks HTTP\"").expect(line);
    assert!(rest.starts_with(",\"who\":\"127.0.0.1:"), "{line}");
}

#[test]
fn closing_of_a_guest_is_logged_with_its_address() {
    let server = Server::start(&["--who", "guest"]);
    let mut stream = TcpStream::connect(server.addr()).expect("the server listens");
    let from = stream.local_addr().expect("it has one");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it takes this");
    stream.read_to_string(&mut String::new()).expect("it ends in order");
    server.wait_for_log(SPEAKS);
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains(SPEAKS)).expect("it was just there");
    assert!(line.contains(&format!("who=\"guest-1\" from={from}")), "{line}");
}

#[test]
fn log_level_is_what_is_written_and_can_change_at_run_time() {
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("journal-level.toml");
    std::fs::write(&path, "log-level = \"info\"\n").expect("it can be written");
    let mut server = Server::start(&["--config", path.to_str().expect("it is text")]);
    std::fs::write(&path, "log-level = \"debug\"\n").expect("it can be written");
    server.signal("HUP");
    server.wait_for_log("reloaded changed=\"log-level\"");
    server.join().half_close();
    server.wait_for_log("DEBUG connection ended");
    server.signal("TERM");
    server.expect_exit_0();
}

/// The other end of a terminal went: every write fails with `EIO` from then on.
#[test]
fn log_whose_terminal_is_gone_holds_up_no_chat() {
    const O_NOCTTY: i32 = 0o400;
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let path = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("it is text");
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY).open(path).expect("it is there");
    let mut command = process::unisono();
    command.args(["serve", "--listen", ANY_PORT]).stdin(Stdio::null()).stderr(terminal);
    let mut server = Process::spawn_with_own_stderr(command);
    let mut master = File::from(master);
    let mut log = Vec::new();
    let addr = loop {
        let mut chunk = [0; 4096];
        let count = master.read(&mut chunk).expect("a terminal");
        log.extend_from_slice(&chunk[..count]);
        if let [addr] = process::listening_on(&String::from_utf8_lossy(&log))[..] {
            break addr;
        }
    };
    drop(master);
    let mut anna = Client::join(addr);
    for round in 0..50 {
        browse(addr);
        anna.say(&format!("{round}"));
        while !anna.next_text().ends_with(&format!(": {round}")) {}
    }
    server.signal("TERM");
    anna.read_to_end();
    drop(anna);
    assert_eq!(server.wait().code(), Some(0));
}
