//! The configuration file, and SIGHUP: one rule for all options, every mistake with its place, and a reload that is whole or
//! does not happen, and that no connection notices.

use std::fs;
use std::path::PathBuf;

use crate::client::Client;
use crate::process::{ANY_PORT, Server, run, unisono};

/// A file of its own for a test, by the name of that test.
fn file(test: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{test}.toml"));
    fs::write(&path, text).expect("a file can be written");
    path
}

/// Asserts that `serve` with this file and these options ends with `code`; gives its stdout and stderr.
fn outcome(file: &PathBuf, options: &[&str], code: i32) -> (String, String) {
    let mut command = unisono();
    command.arg("serve").arg("--config").arg(file).args(options);
    let (status, stdout, stderr) = run(command, b"");
    assert_eq!(status.code(), Some(code), "{stderr}");
    (String::from_utf8(stdout).expect("it is text"), stderr)
}

#[test]
fn mistakes_of_a_file_are_all_told_with_their_places_and_exit_2() {
    let file = file("mistakes", "plain = 1\nline-max = \"64KiB\"\npatience = [\"5\"]\n  colour = \"red\"\n");
    let at = |place: &str| format!("error: {}:{place}", file.display());
    for options in [&["--check-config"][..], &["--print-config"], &[]] {
        let (stdout, stderr) = outcome(&file, options, 2);
        assert!(stdout.is_empty());
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!(lines.len(), 3, "{stderr}");
        assert!(lines[0].starts_with(&at("1:9: plain: ")), "{stderr}");
        assert!(lines[1].starts_with(&at("3:12: patience: bad value `5`: ")), "{stderr}");
        assert_eq!(lines[2], at("4:3: there is no option `colour`"));
    }
}

#[test]
fn file_that_is_not_there_or_no_text_is_named_and_exits_2() {
    let missing = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("config-is-not-there.toml");
    let (_, stderr) = outcome(&missing, &[], 2);
    assert!(stderr.contains(&missing.display().to_string()), "{stderr}");
    let binary = file("binary", "");
    fs::write(&binary, b"plain = true\nlang = \"\xFF\"\n").expect("a file can be written");
    let (_, stderr) = outcome(&binary, &[], 2);
    assert!(stderr.contains(":2:9: it is not UTF-8"), "{stderr}");
}

#[test]
fn options_that_do_not_go_together_are_refused_from_a_file_too() {
    let file = file("together", "backlog = \"700KiB\"\n");
    let (_, stderr) = outcome(&file, &["--check-config"], 2);
    assert!(stderr.contains("--backlog"), "{stderr}");
    outcome(&file, &["--check-config", "--backlog", "8MiB"], 0);
}

#[test]
fn files_that_options_name_are_checked_with_them() {
    let file = file("names", "motd = \"/is/not/there\"\n");
    let (_, stderr) = outcome(&file, &["--check-config"], 2);
    assert!(stderr.starts_with("error: --motd /is/not/there: "), "{stderr}");
}

#[test]
fn printed_configuration_is_a_file_that_means_the_same() {
    let first = file("round", "listen = [\"127.0.0.1:0\", \"[::1]:0\"]\nraw = true\nmax-connections = 77\n");
    let (printed, _) = outcome(&first, &["--print-config", "--stall", "forever", "--trusted", "10.0.0.0/8,::1"], 0);
    for line in [
        "listen = [\"127.0.0.1:0\", \"[::1]:0\"]",
        "raw = true",
        "plain = false",
        "max-connections = 77",
        "# max-per-ip is not set",
        "stall = \"forever\"",
        "trusted = \"10.0.0.0/8,::1\"",
        "patience = \"1s\"",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "no {line:?} in {printed}");
    }
    let second = file("round-again", &printed);
    assert_eq!(outcome(&second, &["--print-config"], 0).0, printed);
    assert!(outcome(&second, &["--check-config"], 0).0.is_empty());
}

#[test]
fn command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = file("precedence", "lang = \"en\"\nwho = \"guest\"\nline-max = \"1KiB\"\nplain = true\n");
    let path = file.to_str().expect("it is text");
    let config = format!("UNISONO_CONFIG={path}");
    let environment = ["env", &config, "UNISONO_LINE_MAX=10B", "UNISONO_PLAIN=false", "UNISONO_WHO=guest"];
    let server = Server::launch(&environment, &[ANY_PORT], &["--who", "address"]);
    let mut anna = server.join();
    let berta = server.join();
    anna.expect_line(&format!("{} joined", berta.who()));
    anna.say("0123456789a");
    anna.expect_notice();
    anna.say("/name anna");
    anna.expect_line(&format!("{} is now anna", anna.who()));
}

/// A server by this file, in which all are strangers, and the first of them.
fn strict(test: &str) -> (Server, PathBuf, Client) {
    let file = file(test, "trusted = \"none\"\nconnect-rate = \"1+1/s\"\n");
    let server = Server::start(&["--config", file.to_str().expect("it is text")]);
    let anna = server.join();
    (server, file, anna)
}

#[test]
fn sighup_takes_what_can_change_names_what_waits_and_drops_nobody() {
    let (server, file, mut anna) = strict("reload");
    let motd = self::file("motd", "read again");
    let text = format!("trusted = \"none\"\nconnect-rate = \"off\"\nline-max = \"1KiB\"\nmotd = {motd:?}\n");
    fs::write(&file, text).expect("it can be written");
    server.signal("HUP");
    server.wait_for_log("waits for a restart: line-max");
    assert!(server.stderr().contains("reloaded changed=\"connect-rate, motd\""), "{}", server.stderr());
    // Two of one address at once.
    for _ in 0..2 {
        let mut newcomer = server.join();
        newcomer.expect_line("-- read again");
        anna.expect_arrival(newcomer.who());
        drop(newcomer);
        anna.next_line();
    }
    anna.say("still here");
    anna.expect_echo("still here");
}

/// Who came under one budget goes under another, and is told of in the same way (law 4).
#[test]
fn sighup_changes_how_many_are_told_of_by_name() {
    let strangers = "trusted = \"none\"\nconnect-rate = \"off\"\n";
    let file = file("announcements", &format!("{strangers}announcements = \"off\"\n"));
    let server = Server::start(&["--config", file.to_str().expect("it is text")]);
    let mut anna = server.join();
    let berta = server.join();
    anna.expect_arrival(berta.who());

    fs::write(&file, format!("{strangers}announcements = 0\n")).expect("it can be written");
    server.signal("HUP");
    server.wait_for_log("reloaded changed=\"announcements\"");
    let carla = server.join();
    anna.expect_line("1 人上线，0 人下线");

    fs::write(&file, format!("{strangers}max-per-ip = 9\nlog-level = \"debug\"\n")).expect("it can be written");
    server.signal("HUP");
    server.wait_for_log("reloaded changed=\"announcements, log-level\"");
    let dora = server.join();
    anna.expect_arrival(dora.who());
    drop(carla);
    anna.expect_line("0 人上线，1 人下线");
    for member in [berta, dora] {
        let who = member.who().to_owned();
        drop(member);
        anna.expect_departure(&who);
    }
    anna.say("still here");
    anna.expect_echo("still here");
}

#[test]
fn sighup_with_a_mistake_keeps_everything_and_says_why_in_one_line() {
    let (mut server, file, mut anna) = strict("mistake");
    fs::write(&file, "connect-rate = \"off\"\nstall = \"0\"\nfrob = 1\n").expect("it can be written");
    server.signal("HUP");
    server.wait_for_log("not reloaded, all stays as it was: ");
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains("not reloaded")).expect("it was just there");
    assert!(line.contains(":2:9: stall: "), "{line}");
    assert!(line.contains(":3:1: there is no option `frob`"), "{line}");
    anna.say("still here");
    anna.expect_echo("still here");
    server.signal("TERM");
    anna.expect_end_with_reason();
    drop(anna);
    server.expect_exit_0();
}
