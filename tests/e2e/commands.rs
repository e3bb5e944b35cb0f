//! Commands and names: what they do, in which order everybody sees it, and what stays between the server and one member.

use crate::client::Client;
use crate::process::Server;

/// Asserts that `client` gets notices and nothing else for this input, and that nobody sees anything of it.
fn check_private(client: &mut Client, who: &str, others: &mut [&mut Client], input: &str) -> Vec<String> {
    client.say(input);
    let notices = client.notices_until(who, "marker");
    for other in others {
        other.expect_said(who, "marker");
    }
    assert!(!notices.is_empty(), "{input:?} got no notice");
    notices
}

#[test]
fn new_name_is_told_to_all_in_its_place() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let who = anna.who().to_owned();
    anna.send(b"one\n/name anna\ntwo\n/name zoe\nthree\n");
    for client in [&mut anna, &mut berta] {
        client.expect_said(&who, "one");
        client.expect_line(&format!("{who} 改名 anna"));
        client.expect_said("anna", "two");
        client.expect_line("anna 改名 zoe");
        client.expect_said("zoe", "three");
    }
    anna.half_close();
    anna.expect_end();
    berta.expect_departure("zoe");
}

#[test]
fn new_name_is_told_in_english_on_request() {
    let server = Server::start(&["--lang", "en"]);
    let mut anna = server.join();
    anna.say("/name anna");
    anna.expect_line(&format!("{} is now anna", anna.who()));
}

#[test]
fn taken_name_is_refused_also_in_disguise() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let (anna_who, berta_who) = (anna.who().to_owned(), berta.who().to_owned());
    anna.say("/name Paypal");
    for client in [&mut anna, &mut berta] {
        client.expect_line(&format!("{anna_who} 改名 Paypal"));
    }
    // As it is; by case; by a Cyrillic а; by a digit one for an l; by both.
    for taken in ["Paypal", "paypal", "PAYPAL", "P\u{430}ypal", "Paypa1", "p\u{430}ypa1"] {
        check_private(&mut berta, &berta_who, &mut [&mut anna], &format!("/name {taken}"));
    }
    // One's own may change its case, and nothing hinders another one.
    anna.say("/name PayPal");
    for client in [&mut anna, &mut berta] {
        client.expect_line("Paypal 改名 PayPal");
    }
    berta.say("/name Visa");
    for client in [&mut anna, &mut berta] {
        client.expect_line(&format!("{berta_who} 改名 Visa"));
    }
    // Left behind by a new name or by its owner, a name is free.
    anna.say("/name other");
    for client in [&mut anna, &mut berta] {
        client.expect_line("PayPal 改名 other");
    }
    berta.say("/name paypal");
    for client in [&mut anna, &mut berta] {
        client.expect_line("Visa 改名 paypal");
    }
    anna.half_close();
    anna.expect_end();
    berta.expect_departure("other");
    berta.say("/name other");
    berta.expect_line("paypal 改名 other");
}

#[test]
fn two_who_want_one_name_at_once_are_told_apart() {
    let server = Server::start(&[]);
    let mut members: [Client; 8] = server.company();
    for member in &mut members {
        member.say("/name same");
    }
    let mut winners = Vec::new();
    let mut losers = 0;
    for member in &mut members {
        // Each sees the one announcement, and all but one a notice beside it, before or after.
        let own = member.who().to_owned();
        let mut announced = None;
        let mut refused = false;
        while announced.is_none() || (announced.as_ref() != Some(&own) && !refused) {
            let line = member.next_text();
            if line.starts_with("-- ") {
                assert!(!refused, "refused twice");
                refused = true;
                losers += 1;
            } else {
                let who = line.strip_suffix(" 改名 same").unwrap_or_else(|| member.fail(&format!("saw {line:?}")));
                assert!(announced.replace(who.to_owned()).is_none(), "two hold the same name");
            }
        }
        winners.push(announced.expect("the loop waited for it"));
    }
    assert_eq!(losers, 7);
    winners.dedup();
    assert_eq!(winners.len(), 1, "one order: all saw the same one win");
}

#[test]
fn names_that_deceive_are_refused() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let who = anna.who().to_owned();
    let other_address = format!("/name {}", berta.who());
    let long = format!("/name {}", "n".repeat(33));
    let long_in_bytes = format!("/name {}", "🎵".repeat(25));
    for input in [
        "/name",
        "/name two words",
        "/name colon:ed",
        "/name -dash",
        "/name --",
        "/name esc\u{1b}[31m",
        "/name zero\u{200b}width",
        "/name bi\u{202e}di",
        "/name tag\u{e0041}",
        "/name joiner\u{200d}",
        "/name 127.0.0.1",
        "/name l27.0.O.1",
        "/name guest-7",
        "/name Guest-7",
        &other_address,
        &long,
        &long_in_bytes,
    ] {
        check_private(&mut anna, &who, &mut [&mut berta], input);
    }
    // The longest that may be.
    let longest = "n".repeat(32);
    anna.say(&format!("/name {longest}"));
    berta.expect_line(&format!("{who} 改名 {longest}"));
}

#[test]
fn who_names_everyone_to_the_one_who_asks() {
    let server = Server::start(&[]);
    let [mut anna, mut berta, mut carla] = server.company();
    carla.say("/name carla");
    for client in [&mut anna, &mut berta, &mut carla] {
        assert!(client.next_text().ends_with(" 改名 carla"));
    }
    let who = anna.who().to_owned();
    let answer = check_private(&mut anna, &who, &mut [&mut berta, &mut carla], "/who").join("\n");
    for name in [&who, berta.who(), "carla"] {
        assert_eq!(answer.matches(name).count(), 1, "{name} in {answer:?}");
    }
    assert!(!answer.contains(carla.who()), "{answer:?} tells the address behind a name");
}

#[test]
fn who_among_three_hundred_is_complete() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    let members: Vec<Client> = (0..299).map(|_| server.join()).collect();
    for member in &members {
        anna.expect_arrival(member.who());
    }
    let who = anna.who().to_owned();
    let answer = check_private(&mut anna, &who, &mut [], "/who").join("\n");
    let mut named: Vec<&str> =
        answer.split(|char: char| !char.is_ascii_digit() && char != '.' && char != ':').collect();
    named.sort_unstable();
    for member in members.iter().map(Client::who).chain([&who[..]]) {
        assert_eq!(named.iter().filter(|&&name| name == member).count(), 1, "{member} in {answer}");
    }
}

#[test]
fn help_and_unknown_commands_are_answered_in_private() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let who = anna.who().to_owned();
    let help = check_private(&mut anna, &who, &mut [&mut berta], "/help").join("\n");
    for command in ["/name", "/who", "/help", "/quit"] {
        assert!(help.contains(command), "no {command} in {help:?}");
    }
    for input in ["/nonsense", "/nonsense with words", "/etc/passwd"] {
        check_private(&mut anna, &who, &mut [&mut berta], input);
    }
}

#[test]
fn quit_ends_the_connection_after_what_was_said() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let who = berta.who().to_owned();
    berta.send(b"first\n/quit\nnever\n");
    anna.expect_said(&who, "first");
    anna.expect_departure(&who);
    berta.expect_said(&who, "first");
    berta.expect_end_with_reason();
    anna.say("alone");
    anna.expect_echo("alone");
}

#[test]
fn doubled_slash_says_a_slash() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    for (input, said) in [("//quit", "/quit"), ("//", "/"), ("///", "//"), (" /who", " /who")] {
        anna.say(input);
        berta.expect_said(anna.who(), said);
    }
}

#[test]
fn command_without_its_end_before_fin_counts() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    berta.send(b"/name late");
    berta.half_close();
    let announced = format!("{} 改名 late", berta.who());
    anna.expect_line(&announced);
    anna.expect_departure("late");
    berta.expect_line(&announced);
    berta.expect_end();
}

/// Whatever a guest sees, it is nobody's address, neither while it is there nor when it goes.
#[test]
fn guests_show_no_address() {
    let server = Server::start(&["--who", "guest"]);
    let mut anna = Client::dial(server.addr());
    anna.expect_line("欢迎 guest-1");
    let mut berta = Client::dial(server.addr());
    berta.expect_line("欢迎 guest-2");
    anna.expect_arrival("guest-2");
    berta.send(b"hi\n/name berta\n");
    for client in [&mut anna, &mut berta] {
        client.expect_said("guest-2", "hi");
        client.expect_line("guest-2 改名 berta");
    }
    assert_eq!(
        check_private(&mut anna, "guest-1", &mut [&mut berta], "/who"),
        ["-- 在线 2 人", "--   guest-1", "--   berta"]
    );
    anna.half_close();
    anna.expect_end();
    berta.expect_departure("guest-1");
    for client in [anna, berta] {
        let seen = String::from_utf8_lossy(client.seen());
        assert!(!seen.contains("127.0.0"), "{seen}");
    }
}

#[test]
fn plain_knows_no_commands() {
    let server = Server::start(&["--plain"]);
    let [mut anna, mut berta] = server.company();
    for text in ["/who", "/name anna", "//x", "/quit", "/help"] {
        anna.say(text);
        berta.expect_said(anna.who(), text);
    }
}
