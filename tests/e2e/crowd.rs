//! A crowd that comes and goes: above a budget it is counted, and whoever speaks is known by name (law 4).

use std::collections::BTreeSet;
use std::time::Instant;

use crate::client::Client;
use crate::process::Server;

/// What one who listens has been told of the others.
#[derive(Debug, Default)]
struct Told {
    joined: u64,
    left: u64,
    names: u64,
    counts: u64,
    known: BTreeSet<String>,
}

impl Told {
    fn on_line(&mut self, line: &str) {
        if let Some((who, _text)) = line.split_once(": ") {
            assert!(self.known.contains(who), "law 4: {line:?} by somebody unknown");
        } else if let Some((joined, left)) = line.split_once(" 人上线，") {
            let left = left.strip_suffix(" 人下线").expect("a count has both of its numbers");
            self.joined += joined.parse::<u64>().expect("a number");
            self.left += left.parse::<u64>().expect("a number");
            self.counts += 1;
        } else if let Some(who) = line.strip_suffix(" 上线") {
            self.known.insert(who.to_owned());
            self.joined += 1;
            self.names += 1;
        } else if let Some(who) = line.strip_suffix(" 在场") {
            self.known.insert(who.to_owned());
        } else if let Some(who) = line.strip_suffix(" 下线") {
            assert!(self.known.contains(who), "law 4: {line:?} by somebody unknown");
            self.left += 1;
            self.names += 1;
        } else {
            panic!("{line:?} is no line of a room");
        }
    }

    /// Reads up to the echo of `text`.
    fn listen(&mut self, listener: &mut Client, text: &str) {
        let echo = format!("{}: {text}", listener.who());
        loop {
            let line = listener.next_text();
            self.on_line(&line);
            if line == echo {
                return;
            }
        }
    }
}

#[test]
fn crowd_that_comes_and_goes_does_not_drown_the_talk() {
    const NAMES: u64 = 4;
    const CROWD: u64 = 300;
    let options = ["--trusted", "none", "--connect-rate", "off", "--announcements", &NAMES.to_string()];
    let server = Server::start(&options);
    let began = Instant::now();
    // Nobody has come before her, so her own arrival is told by name: to nobody.
    let mut anna = server.join();
    let mut told = Told::default();
    told.known.insert(anna.who().to_owned());
    let mut spoke = 0;
    for number in 0..CROWD {
        let mut passer = server.join();
        if number % 10 == 0 {
            passer.say("hello");
            while passer.next_text() != format!("{}: hello", passer.who()) {}
            spoke += 1;
            let text = format!("{number} have come");
            anna.say(&text);
            told.listen(&mut anna, &text);
        }
    }
    while told.left < CROWD {
        told.on_line(&anna.next_text());
    }
    assert_eq!(told.joined, CROWD, "law 4: the sums balance: {told:?}");
    // A period lasts a second at least, and who has spoken is told of by name at once, in coming and in going at most.
    let periods = began.elapsed().as_secs() + 1;
    assert!(told.counts <= periods, "{told:?} in {periods} periods");
    assert!(told.names <= NAMES * periods + 2 * spoke, "{told:?} in {periods} periods");
    // And nothing is left to be told.
    anna.say("alone");
    anna.expect_echo("alone");
}

#[test]
fn announcements_off_tells_everyone_by_name() {
    for options in [&["--trusted", "none", "--connect-rate", "off", "--announcements", "off"][..], &[]] {
        let server = Server::start(options);
        let mut anna = server.join();
        for _ in 0..40 {
            let passer = server.join();
            anna.expect_arrival(passer.who());
            let who = passer.who().to_owned();
            drop(passer);
            anna.expect_departure(&who);
        }
    }
}

#[test]
fn plain_wire_counts_nobody() {
    let server = Server::start(&["--plain", "--trusted", "none", "--connect-rate", "off", "--announcements", "0"]);
    let mut anna = server.join();
    let passer = server.join();
    anna.expect_arrival(passer.who());
    let who = passer.who().to_owned();
    drop(passer);
    anna.expect_departure(&who);
}
