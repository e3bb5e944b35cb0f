//! The command line: what is wrong is named on stderr and by the exit code, options come from the environment as well,
//! and stdout is for nobody's log.

use std::process::Stdio;

use crate::process::{ANY_PORT, Server, run, unisono};

/// Asserts that these arguments are refused with 2 and a message on stderr that names `fault`.
fn check_refused(arguments: &[&str], fault: &str) {
    let mut command = unisono();
    command.args(arguments);
    let (status, stdout, stderr) = run(command, b"");
    assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(stderr.to_lowercase().contains(&fault.to_lowercase()), "{arguments:?}: no {fault:?} in {stderr:?}");
    assert!(stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&stdout));
}

#[test]
fn bad_options_of_serve_are_named_and_exit_2() {
    for (option, value, fault) in [
        ("--lang", "de", "de"),
        ("--who", "nobody", "nobody"),
        ("--backlog", "1KiB", "backlog"),
        ("--backlog", "700KiB", "backlog"),
        ("--backlog", "many", "many"),
        ("--backlog", "-1", "-1"),
        ("--line-max", "0", "line"),
        ("--line-max", "64Kibble", "64Kibble"),
        ("--patience", "5parsecs", "5parsecs"),
        ("--stall", "soon", "soon"),
        ("--line-deadline", "", "line-deadline"),
        ("--grace", "-5s", "-5"),
        ("--listen", "nowhere", "nowhere"),
        ("--max-connections", "few", "few"),
        ("--max-per-ip", "-3", "-3"),
        ("--flood", "slow", "slow"),
        ("--flood", "0+1/s,1+1/s", "at least 1"),
        ("--connect-rate", "2/s", "20+2/s"),
        ("--trusted", "everyone", "everyone"),
        ("--trusted", "10.1.1.1/8", "10.0.0.0/8"),
        ("--frobnicate", "1", "frobnicate"),
    ] {
        check_refused(&["serve", "--listen", ANY_PORT, option, value], fault);
    }
    // Enough for four longest lines of so few bytes, but not for four send buffers of any size that works.
    check_refused(&["serve", "--listen", ANY_PORT, "--line-max", "1KiB", "--backlog", "32KiB"], "backlog");
}

#[test]
fn bad_options_of_connect_are_named_and_exit_2() {
    check_refused(&["connect", "nowhere"], "nowhere");
    check_refused(&["connect", "--frobnicate"], "frobnicate");
    check_refused(&["converse"], "converse");
}

#[test]
fn port_in_use_exits_1_and_is_named() {
    let server = Server::start(&[]);
    let addr = server.addr().to_string();
    let mut command = unisono();
    command.args(["serve", "--listen", &addr]);
    let (status, stdout, stderr) = run(command, b"");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&addr), "{addr} is not named in {stderr:?}");
    assert!(stdout.is_empty());
    // The one who was there first is not disturbed.
    server.join();
}

#[test]
fn help_and_version_are_for_stdout() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["connect", "--help"], &["--version"]] {
        let mut command = unisono();
        command.args(arguments).stdin(Stdio::null());
        let (status, stdout, stderr) = run(command, b"");
        assert_eq!(status.code(), Some(0), "{arguments:?}: {stderr}");
        assert!(!stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn options_come_from_the_environment_too() {
    let environment = ["env", "UNISONO_LANG=en", "UNISONO_LINE_MAX=10B"];
    let server = Server::launch(&environment, &[ANY_PORT], &[]);
    let mut anna = server.join();
    let berta = server.join();
    anna.expect_line(&format!("{} joined", berta.who()));
    anna.say("0123456789");
    anna.expect_echo("0123456789");
    anna.say("0123456789a");
    anna.expect_notice();
    // What is said on the command line goes before.
    let server = Server::launch(&environment, &[ANY_PORT], &["--lang", "zh"]);
    let mut anna = server.join();
    let berta = server.join();
    anna.expect_arrival(berta.who());
}
