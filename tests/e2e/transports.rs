//! What holds over every transport alike: TCP, TLS and Unix sockets. Each test here runs once over each.

use crate::client::{Client, lines};
use crate::process::{Server, run, unisono};
use crate::unix::{Directory, listen};

/// A server on one transport, and the way to it.
struct Place {
    server: Server,
    way: Way,
}

enum Way {
    Plain,
    Unix(Directory),
    #[cfg(feature = "tls")]
    Tls(Box<crate::certificates::Authority>),
}

impl Place {
    /// One on each transport.
    fn all(options: &[&str]) -> impl Iterator<Item = Self> {
        let ways = [
            || Way::Plain,
            || Way::Unix(Directory::new()),
            #[cfg(feature = "tls")]
            || Way::Tls(Box::new(crate::certificates::Authority::new())),
        ];
        ways.into_iter().map(move |way| {
            let way = way();
            let mut all: Vec<String> = match &way {
                Way::Plain => vec!["--listen=127.0.0.1:0".into()],
                Way::Unix(directory) => vec![listen(&directory.file("socket"))],
                #[cfg(feature = "tls")]
                Way::Tls(authority) => authority.options().into(),
            };
            all.extend(options.iter().map(|option| (*option).to_owned()));
            let all: Vec<&str> = all.iter().map(|option| &**option).collect();
            let place = Self { server: Server::start_in(1, &all), way };
            // So a failure says where.
            println!("over {}", place.name());
            place
        })
    }

    fn name(&self) -> &'static str {
        match &self.way {
            Way::Plain => "TCP",
            Way::Unix(_) => "a Unix socket",
            #[cfg(feature = "tls")]
            Way::Tls(_) => "TLS",
        }
    }

    fn join(&self) -> Client {
        let mut client = match &self.way {
            Way::Plain => Client::dial(self.server.addr()),
            Way::Unix(directory) => Client::dial_unix(&directory.file("socket")),
            #[cfg(feature = "tls")]
            Way::Tls(authority) => {
                let from = std::net::Ipv4Addr::LOCALHOST.into();
                Client::dial_tls(from, self.server.addr(), authority.config(None), b"")
            }
        };
        client.expect_welcome_as_somebody();
        client
    }

    /// Two, who have seen each other.
    fn pair(&self) -> [Client; 2] {
        let mut anna = self.join();
        let berta = self.join();
        anna.expect_arrival(berta.who());
        [anna, berta]
    }

    /// What the client is to be told.
    fn arguments(&self) -> Vec<String> {
        match &self.way {
            Way::Plain => vec![self.server.addr().to_string()],
            Way::Unix(directory) => vec![format!("unix:{}", directory.file("socket").display())],
            #[cfg(feature = "tls")]
            Way::Tls(authority) => {
                vec![self.server.addr().to_string(), "--tls".into(), "--ca".into(), authority.text("ca.pem")]
            }
        }
    }
}

#[test]
fn members_see_each_other_come_speak_rename_and_go() {
    for place in Place::all(&[]) {
        let [mut anna, mut berta] = place.pair();
        anna.say("hello");
        for member in [&mut anna, &mut berta] {
            let who = member.who().to_owned();
            let line = member.next_text();
            assert!(line.ends_with(": hello"), "{who}: {line}");
        }
        let who = berta.who().to_owned();
        berta.say("/name berta");
        for member in [&mut anna, &mut berta] {
            member.expect_line(&format!("{who} 改名 berta"));
        }
        berta.say("/who");
        assert_eq!(berta.expect_notice().chars().filter(char::is_ascii_digit).collect::<String>(), "2");
        berta.expect_notice();
        berta.expect_notice();
        berta.say("/quit");
        berta.expect_end();
        anna.expect_departure("berta");
    }
}

#[test]
fn what_was_said_before_a_clean_end_counts_and_all_of_it_comes_back() {
    for place in Place::all(&[]) {
        let [mut anna, mut berta] = place.pair();
        let texts: Vec<String> = (0..20_000).map(|number| format!("{number:0>50}")).collect();
        let mut bytes = lines(&texts);
        bytes.extend(b"and a part");
        let sender = std::thread::spawn(move || {
            berta.send(&bytes);
            berta.half_close();
            berta
        });
        let mut berta = sender.join().expect("it only sends");
        let who = berta.who().to_owned();
        for text in texts.iter().map(String::as_str).chain(["and a part"]) {
            anna.expect_said(&who, text);
            berta.expect_echo(text);
        }
        anna.expect_departure(&who);
        berta.expect_end();
    }
}

#[test]
fn line_that_is_too_long_is_refused_whole_and_the_connection_stays() {
    for place in Place::all(&["--line-max", "1KiB"]) {
        let [mut anna, mut berta] = place.pair();
        berta.say(&"x".repeat(1025));
        berta.expect_notice();
        berta.say(&"y".repeat(1024));
        berta.expect_echo(&"y".repeat(1024));
        anna.expect_said(berta.who(), &"y".repeat(1024));
    }
}

#[test]
fn longest_lines_arrive_whole_however_they_are_cut_on_the_way() {
    for place in Place::all(&[]) {
        let [mut anna, mut berta] = place.pair();
        for (bytes, letter) in [(1, "a"), (16_383, "b"), (16_384, "c"), (16_385, "d"), (65_536, "e")] {
            berta.say(&letter.repeat(bytes));
            anna.expect_said(berta.who(), &letter.repeat(bytes));
            berta.expect_echo(&letter.repeat(bytes));
        }
    }
}

#[test]
fn end_of_the_server_flushes_to_who_has_not_read_and_leaves_nothing() {
    for mut place in Place::all(&[]) {
        let [mut anna, mut berta] = place.pair();
        let who = anna.who().to_owned();
        let texts: Vec<String> = (0..5_000).map(|number| format!("{number:0>100}")).collect();
        for chunk in texts.chunks(100) {
            anna.send(&lines(chunk));
            for text in chunk {
                anna.expect_echo(text);
            }
        }
        place.server.signal("TERM");
        anna.expect_end_with_reason();
        for text in &texts {
            berta.expect_said(&who, text);
        }
        berta.expect_end_with_reason();
        drop((anna, berta));
        place.server.expect_exit_0();
    }
}

/// Law 6, and law 8: what a stream holds of it is sent once it can be.
#[test]
fn who_does_not_read_for_a_while_gets_everything_once_it_does() {
    for place in Place::all(&["--patience", "forever"]) {
        let [mut anna, mut berta] = place.pair();
        let who = anna.who().to_owned();
        // Far more than sockets hold, and far less than the backlog.
        let texts: Vec<String> = (0..2_000).map(|number| format!("{number:0>1000}")).collect();
        for text in &texts {
            anna.say(text);
            anna.expect_echo(text);
        }
        for text in &texts {
            berta.expect_said(&who, text);
        }
        anna.say("last");
        berta.expect_said(&who, "last");
    }
}

#[test]
fn client_prints_its_own_two_lines_before_it_ends() {
    for place in Place::all(&[]) {
        let mut connect = unisono();
        connect.arg("connect").args(place.arguments());
        let (status, stdout, stderr) = run(connect, b"a\nb");
        assert_eq!(status.code(), Some(0), "{stderr}");
        let stdout = String::from_utf8(stdout).expect("all is UTF-8");
        let who = stdout.lines().next().and_then(|line| line.strip_prefix("欢迎 ")).expect("a welcome comes first");
        assert_eq!(stdout, format!("欢迎 {who}\n{who}: a\n{who}: b\n"));
    }
}

#[test]
fn who_goes_leaves_nothing_behind() {
    for place in Place::all(&[]) {
        let mut witness = place.join();
        let files = place.server.files();
        for _ in 0..20 {
            let mut member = place.join();
            let who = member.who().to_owned();
            witness.expect_arrival(&who);
            member.half_close();
            member.expect_end();
            drop(member);
            witness.expect_departure(&who);
        }
        witness.say("done");
        witness.expect_echo("done");
        // The last may have been told of before its descriptor was closed.
        assert!(place.server.files() <= files + 1, "law 9: descriptors are left");
    }
}
