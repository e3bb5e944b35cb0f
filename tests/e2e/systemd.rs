//! Started by systemd, or by one who does as it does: it is told how the server is, and hands sockets over.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::client::Client;
use crate::process::{ANY_PORT, DEADLINE, Process, Server};

/// What is told, from the first to the last.
struct Told(UnixDatagram);

impl Told {
    fn bind(test: &str) -> (Self, String) {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("notify-{test}-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        (Self(socket), format!("NOTIFY_SOCKET={}", path.display()))
    }

    fn next(&self) -> String {
        let mut bytes = [0; 256];
        let count = self.0.recv(&mut bytes).expect("something is told in time");
        String::from_utf8(bytes[..count].to_vec()).expect("it is text")
    }
}

#[test]
fn systemd_is_told_of_ready_reloading_and_stopping() {
    let (told, socket) = Told::bind("states");
    let mut server = Server::launch(&["env", &socket], &[ANY_PORT], &[]);
    assert_eq!(told.next(), "READY=1");
    server.signal("HUP");
    assert_eq!(told.next(), "RELOADING=1");
    assert_eq!(told.next(), "READY=1");
    server.signal("TERM");
    assert_eq!(told.next(), "STOPPING=1");
    server.expect_exit_0();
}

#[test]
fn watchdog_is_told_again_and_again() {
    let (told, socket) = Told::bind("watchdog");
    let _server = Server::launch(&["env", &socket, "WATCHDOG_USEC=100000"], &[ANY_PORT], &[]);
    let mut alive = 0;
    while alive < 3 {
        match &*told.next() {
            "READY=1" => {}
            "WATCHDOG=1" => alive += 1,
            other => panic!("{other}"),
        }
    }
}

#[test]
fn watchdog_of_another_process_is_not_ours() {
    let (told, socket) = Told::bind("another");
    let environment = ["env", &socket, "WATCHDOG_USEC=100000", "WATCHDOG_PID=1"];
    let server = Server::launch(&environment, &[ANY_PORT], &[]);
    assert_eq!(told.next(), "READY=1");
    // Three times as long as it would take, passed by the clock of another.
    let (other_told, other_socket) = Told::bind("clock");
    let _other = Server::launch(&["env", &other_socket, "WATCHDOG_USEC=100000"], &[ANY_PORT], &[]);
    let mut alive = 0;
    while alive < 4 {
        alive += u32::from(other_told.next() == "WATCHDOG=1");
    }
    server.signal("TERM");
    assert_eq!(told.next(), "STOPPING=1");
}

/// It comes in by stdin, as a test may not touch descriptors by number, and a shell puts it where it belongs.
#[test]
fn socket_that_is_handed_over_is_listened_on_in_place_of_others() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it has one");
    // There are connections before there is a server.
    let early = std::net::TcpStream::connect(addr).expect("the kernel takes it");
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve 3<&0 0</dev/null"]);
    command.arg(env!("CARGO_BIN_EXE_unisono")).stdin(Stdio::from(OwnedFd::from(listener)));
    let mut server = Process::spawn(command);
    server.wait_for_stderr(&format!("listening on {addr}"));
    assert!(!server.stderr().contains(":8000"), "{}", server.stderr());
    drop(early);
    Client::join(addr);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}
