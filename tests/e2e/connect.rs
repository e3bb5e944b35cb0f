//! The client as users run it, and `nc` beside it: in pipes, as a filter, on a terminal, and when the server goes.

use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::process::{Command, Stdio};

use crate::client::lines;
use crate::process::{ANY_PORT, Process, Server, run, unisono};

fn connect(arguments: &[&str]) -> Command {
    let mut command = unisono();
    command.arg("connect").args(arguments);
    command
}

/// Asserts that a client that sent `a` and `b` printed its welcome and both, and no more. Returns its address.
fn expect_two_lines(stdout: &[u8]) -> String {
    let stdout = str::from_utf8(stdout).expect("all is UTF-8");
    let welcome = stdout.lines().next().expect("there is a first line");
    let who = welcome.strip_prefix("欢迎 ").expect("a welcome comes first").to_owned();
    assert_eq!(stdout, format!("欢迎 {who}\n{who}: a\n{who}: b\n"));
    who
}

#[test]
fn client_prints_its_own_two_lines_before_it_ends() {
    let server = Server::start(&[]);
    let mut witness = server.join();
    for input in ["a\nb\n", "a\nb"] {
        let (status, stdout, stderr) = run(connect(&[&server.addr().to_string()]), input.as_bytes());
        assert_eq!(status.code(), Some(0), "{stderr}");
        let who = expect_two_lines(&stdout);
        witness.expect_arrival(&who);
        witness.expect_said(&who, "a");
        witness.expect_said(&who, "b");
        witness.expect_departure(&who);
    }
}

#[test]
fn netcat_prints_its_own_two_lines_before_it_ends() {
    let help = Command::new("nc").arg("-h").stdin(Stdio::null()).output();
    if !help.is_ok_and(|help| String::from_utf8_lossy(&help.stderr).contains("OpenBSD")) {
        eprintln!("skipped: no OpenBSD nc on this machine");
        return;
    }
    let server = Server::start(&[]);
    let mut netcat = Command::new("nc");
    netcat.args(["-N", "127.0.0.1", &server.addr().port().to_string()]);
    let (status, stdout, stderr) = run(netcat, b"a\nb\n");
    assert_eq!(status.code(), Some(0), "{stderr}");
    expect_two_lines(&stdout);
}

#[test]
fn client_whose_stdout_closes_ends_quietly() {
    let server = Server::start(&[]);
    let mut yes = Command::new("yes");
    yes.stdin(Stdio::null());
    let mut yes = Process::spawn_with_own_stdout(yes);
    let mut client = connect(&[&server.addr().to_string()]);
    client.stdin(yes.take_stdout());
    let mut client = Process::spawn_with_own_stdout(client);
    let mut head = Command::new("head");
    head.arg("-5").stdin(client.take_stdout());
    let mut head = Process::spawn(head);
    assert!(head.wait().success());
    let lines = String::from_utf8(head.stdout()).expect("all is UTF-8");
    assert_eq!(lines.lines().count(), 5);
    assert!(lines.lines().skip(1).all(|line| line.ends_with(": y")), "{lines}");
    let status = client.wait();
    assert_eq!(status.code(), Some(0), "{}", client.stderr());
    assert_eq!(client.stderr(), "", "quietly");
    yes.wait();
}

#[test]
fn filter_of_two_hundred_thousand_lines_gets_all_of_them_back() {
    const LINES: usize = 200_000;
    let server = Server::start(&[]);
    let input = lines(0..LINES);
    let (status, stdout, stderr) = run(connect(&[&server.addr().to_string()]), &input);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let stdout = String::from_utf8(stdout).expect("all is UTF-8");
    let mut lines = stdout.lines();
    let who = lines.next().and_then(|line| line.strip_prefix("欢迎 ")).expect("a welcome comes first");
    for line in 0..LINES {
        assert_eq!(lines.next(), Some(&format!("{who}: {line}")[..]));
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn name_is_taken_before_anything_is_said() {
    let server = Server::start(&[]);
    let mut witness = server.join();
    let (status, stdout, stderr) = run(connect(&["--name", "nora", &server.addr().to_string()]), b"hi\n");
    assert_eq!(status.code(), Some(0), "{stderr}");
    let arrival = witness.next_text();
    let who = arrival.strip_suffix(" 上线").expect("an arrival");
    witness.expect_line(&format!("{who} 改名 nora"));
    witness.expect_said("nora", "hi");
    witness.expect_departure("nora");
    assert_eq!(String::from_utf8_lossy(&stdout), format!("欢迎 {who}\n{who} 改名 nora\nnora: hi\n"));
}

#[test]
fn verbatim_says_every_line_as_it_is() {
    let server = Server::start(&[]);
    let mut witness = server.join();
    let input = "/who\n//x\n/quit\n\nplain / slash\n/";
    let (status, _, stderr) = run(connect(&["--verbatim", &server.addr().to_string()]), input.as_bytes());
    assert_eq!(status.code(), Some(0), "{stderr}");
    let arrival = witness.next_text();
    let who = arrival.strip_suffix(" 上线").expect("an arrival");
    for text in ["/who", "//x", "/quit", "", "plain / slash", "/"] {
        witness.expect_said(who, text);
    }
    witness.expect_departure(who);
}

#[test]
fn receive_only_leaves_stdin_alone() {
    let server = Server::start(&[]);
    let mut witness = server.join();
    let mut command = connect(&["--receive-only", &server.addr().to_string()]);
    // At its end from the start, and still the client stays.
    command.stdin(Stdio::null());
    let client = Process::spawn(command);
    assert!(witness.next_text().ends_with(" 上线"));
    witness.say("one");
    client.wait_for_stdout(&format!("{}: one\n", witness.who()));
    witness.say("two");
    client.wait_for_stdout(&format!("{}: two\n", witness.who()));
}

#[test]
fn server_gone_is_a_message_and_exit_1() {
    let mut server = Server::start(&[]);
    let mut command = connect(&[&server.addr().to_string()]);
    command.stdin(Stdio::piped());
    let mut client = Process::spawn(command);
    // Its input stays open to the end.
    let mut stdin = client.take_stdin();
    stdin.write_all(b"hello\n").expect("it reads");
    client.wait_for_stdout(": hello\n");
    server.signal("TERM");
    let status = client.wait();
    assert_eq!(status.code(), Some(1), "{}", client.stderr());
    assert!(!client.stderr().trim().is_empty(), "a message says why");
    server.expect_exit_0();
    drop(stdin);
}

#[test]
fn no_server_is_a_message_and_exit_1() {
    // Port 1 is reserved for a service of 1988 that nobody runs, and never handed out as a free one.
    let addr = "127.0.0.1:1";
    let (status, stdout, stderr) = run(connect(&[addr]), b"");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(addr), "{addr} is not named in {stderr:?}");
    assert!(stdout.is_empty());
}

/// What a hostile server sends to make a terminal do things.
const HOSTILE: &[u8] = b"\x1b[31mred\x1b]0;title\x07 \x9b31m\xc2\x9b31m ok\n";

/// Serves one connection: says something hostile, then ends.
fn hostile_server() -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind(ANY_PORT).expect("a free port");
    let addr = listener.local_addr().expect("it is bound").to_string();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        stream.write_all(HOSTILE).expect("the client is there");
        stream.shutdown(Shutdown::Write).expect("the client is there");
        // Until the client has gone, so that nothing is cut off.
        std::io::copy(&mut stream, &mut std::io::sink()).expect("the client goes in peace");
    });
    (addr, serving)
}

#[test]
fn pipe_gets_the_bytes_of_the_server_as_they_are() {
    let (addr, serving) = hostile_server();
    let (_, stdout, stderr) = run(connect(&["--receive-only", &addr]), b"");
    assert_eq!(stdout, HOSTILE, "{stderr}");
    serving.join().expect("see its message");
}

#[test]
fn terminal_gets_no_control_of_a_hostile_server() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: no script(1) to make a terminal with");
        return;
    }
    let (addr, serving) = hostile_server();
    let client = format!("{} connect --receive-only {addr}", env!("CARGO_BIN_EXE_unisono"));
    let mut script = Command::new("script");
    script.args(["-q", "-c", &client, "/dev/null"]).stdin(Stdio::null());
    let mut script = Process::spawn(script);
    script.wait();
    let stdout = script.stdout();
    let shown = String::from_utf8_lossy(&stdout);
    assert!(shown.contains("red") && shown.contains(" ok"), "the text itself is shown: {shown:?}");
    let harmful = |char: &char| char.is_control() && !matches!(char, '\r' | '\n' | '\t');
    assert_eq!(shown.chars().find(harmful), None, "{shown:?}");
    assert!(str::from_utf8(&stdout).is_ok(), "C1 as single bytes: {shown:?}");
    serving.join().expect("see its message");
}
