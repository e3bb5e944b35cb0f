//! Whether laws 1 to 5 held in a room, by what a witness has seen, who came first, went last and never blocked: that is the
//! sequence. It must be made of what the clients' inputs mean, and each one's stream of its part of the sequence.

use std::collections::BTreeMap;

use crate::limits::Limits;
use crate::session::Wire;

use super::door::Dialog;
use super::guess::spoken;
use super::line::{Told, Truth};
use super::session::Meaning;

/// One client, and what came of it.
pub(super) struct Client {
    pub(super) address: String,
    /// What came of it at the door, where a password is asked for.
    pub(super) dialog: Option<Dialog>,
    /// What the input means that was read from it.
    pub(super) meant: Vec<Meaning>,
    /// What is answered to the commands of telnet among it.
    pub(super) answers: Vec<u8>,
    pub(super) seen: Vec<u8>,
    /// Nothing broke and no limit of time was met: all that it meant was done, and it got all up to its end.
    pub(super) is_whole: bool,
}

/// What an input means; nothing behind a `/quit` does. `at_end`: it ended cleanly, so that its last line counts.
fn meant(input: &[u8], at_end: bool, wire: Wire, limits: &Limits) -> Vec<Meaning> {
    let mut truth = Truth::new(limits.line_bytes_max, !wire.raw);
    let spoken = spoken(input, at_end, wire);
    truth.on_read(&spoken.text);
    let mut events = truth.events(at_end || spoken.foreign.is_some());
    if let Some(protocol) = spoken.foreign {
        events.retain(|event| *event == Told::TooLong);
        let mut meant = meant_by(&events, wire, limits);
        meant.push(Meaning::foreign(protocol, wire));
        return meant;
    }
    meant_by(&events, wire, limits)
}

/// What came of it at a door, if it was asked there, and what the rest of its input means.
pub(super) fn meant_at(
    is_asked: bool,
    input: &[u8],
    at_end: bool,
    wire: Wire,
    limits: &Limits,
) -> (Option<Dialog>, Vec<Meaning>) {
    if !is_asked {
        return (None, meant(input, at_end, wire, limits));
    }
    let (dialog, meant) = Dialog::of(input, at_end, wire, limits);
    (Some(dialog), meant)
}

/// What these lines mean.
pub(super) fn meant_by(events: &[Told], wire: Wire, limits: &Limits) -> Vec<Meaning> {
    let mut meant: Vec<Meaning> = Vec::new();
    for event in events {
        if meant.last() == Some(&Meaning::Quit) {
            break;
        }
        meant.push(Meaning::of(event, wire, limits.line_bytes_max));
    }
    meant
}

/// Where a client's part of the sequence lies, and what came of its input.
#[derive(Default)]
struct Part<'a> {
    who: &'a [u8],
    joined: Option<usize>,
    left: Option<usize>,
    /// How much of what it meant is done.
    done: usize,
    names_taken: usize,
}

impl<'a> Part<'a> {
    /// The next thing that it meant and that can be seen in the sequence. A name that is not is taken.
    fn next(&mut self, meant: &'a [Meaning], expected: &Meaning) {
        loop {
            let next = meant.get(self.done);
            self.done += 1;
            match next {
                Some(next) if next == expected => return,
                Some(Meaning::Told(_) | Meaning::List) => {}
                Some(Meaning::Rename(_)) => self.names_taken += 1,
                _ => panic!("laws 1 and 3: {expected:?} is in the sequence, where {next:?} was meant"),
            }
        }
    }
}

/// Judges what everyone has seen. `is_stopped`: the server was ended amid it, so departures may be missing.
pub(super) fn judge(witness: &str, sequence: &[u8], clients: &[Client], is_stopped: bool) {
    let sequence = whole_lines(sequence);
    let welcome = format!("Welcome {witness}");
    assert_eq!(sequence.first(), Some(&welcome.as_bytes()), "law 4: welcome comes first");
    let sequence: Vec<&[u8]> = sequence[1..].iter().copied().filter(|line| !is_stopping(line, is_stopped)).collect();
    let parts = parts(&sequence, clients);
    for (part, client) in parts.iter().zip(clients) {
        let who = &client.address;
        assert!(is_stopped || part.joined.is_some() == part.left.is_some(), "law 4: {who} has left");
        let knocks_only =
            client.dialog.as_ref().is_some_and(|dialog| !dialog.comes_in || dialog.turns_away(&client.seen));
        assert!(!knocks_only || part.joined.is_none(), "law 4: {who} has not come in");
        if client.is_whole && !knocks_only {
            assert!(part.joined.is_some(), "{who} has entered");
            let more = &client.meant[part.done..];
            assert!(!more.iter().any(|more| matches!(more, Meaning::Said(_))), "law 5: {who} has said all it meant");
        }
        judge_stream(client, part, &sequence, is_stopped);
    }
}

fn parts<'a>(sequence: &[&'a [u8]], clients: &'a [Client]) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = clients.iter().map(|_| Part::default()).collect();
    let mut here: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (at, line) in sequence.iter().enumerate() {
        let who_end = line.iter().position(|byte| *byte == b' ').expect("WHO and more");
        let (who, rest) = line.split_at(who_end);
        if rest == b" joined" && !here.contains_key(who) {
            let number = clients.iter().position(|client| client.address.as_bytes() == who);
            let number = number.expect("who joins has an address of ours");
            assert_eq!(parts[number].joined.replace(at), None, "law 4: one arrival each");
            parts[number].who = who;
            here.insert(who, number);
            continue;
        }
        let (who, text) = match who.strip_suffix(b":") {
            Some(who) => (who, Some(&rest[1..])),
            None => (who, None),
        };
        let number = *here.get(who).expect("law 4: who says something is in");
        let (part, meant) = (&mut parts[number], &clients[number].meant);
        if let Some(text) = text {
            part.next(meant, &Meaning::Said(text.to_vec()));
        } else if let Some(name) = rest.strip_prefix(b" is now ") {
            let parsed = crate::name::Name::parse(name).expect("only names are taken");
            part.next(meant, &Meaning::Rename(parsed));
            here.remove(who);
            assert_eq!(here.insert(name, number), None, "a name is unique");
            part.who = name;
        } else {
            assert_eq!(rest, b" left", "a line of the room");
            part.left = Some(at);
            here.remove(who);
        }
    }
    parts
}

/// A client's stream is its welcome, its part of the sequence, whole or counted, and its own notices between.
fn judge_stream(client: &Client, part: &Part<'_>, sequence: &[&[u8]], is_stopped: bool) {
    let who = &client.address;
    let (seen, answers) = part_answers(&client.seen);
    assert!(client.answers.starts_with(&answers), "{who} is answered in order");
    let mut seen = &seen[..];
    if let Some(dialog) = &client.dialog {
        let welcome = seen.split_inclusive(|byte| *byte == b'\n').take_while(|line| !line.starts_with(b"Welcome "));
        let (told, rest) = seen.split_at(welcome.map(<[u8]>::len).sum());
        dialog.judge(told, !rest.is_empty(), client.is_whole, is_stopped);
        seen = rest;
    }
    let cut = seen.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (whole, torn) = seen.split_at(cut);
    if client.is_whole {
        assert_eq!(torn, b"", "law 3: {who}'s stream ends with a whole line");
    }
    let Some((welcome, lines)) = whole_lines(whole).split_first().map(|(first, lines)| (*first, lines.to_vec())) else {
        return;
    };
    assert_eq!(welcome, format!("Welcome {who}").as_bytes(), "law 4: welcome comes first");
    let mut at = part.joined.expect("law 4: who is welcome has entered") + 1;
    let end = part.left.unwrap_or(sequence.len());
    let (mut told, mut taken, mut lists) = (Vec::new(), 0, 0);
    for line in lines {
        if let Some(missed) = missed(line) {
            assert!(missed > 0, "law 2: nobody is told of nothing");
            at += missed;
        } else if is_turned_away(client) && line.ends_with(b"\r") {
            // Of a response of HTTP: no other line ends so on a wire that knows any.
            told.extend_from_slice(line);
            told.push(b'\n');
        } else if !line.starts_with(b"-- ") {
            assert_eq!(Some(&line), sequence.get(at), "laws 1 and 2: {who} sees the one order, without a hole");
            at += 1;
        } else if is_present(line) {
            lists += 1;
        } else if line.starts_with(b"-- name ") && !line.starts_with(b"-- name refused") {
            taken += 1;
        } else if !line.starts_with(b"--  ") {
            told.extend_from_slice(line);
            told.push(b'\n');
        }
    }
    assert!(at <= end, "law 5: nothing is shown to {who} beyond its end");
    if client.is_whole {
        assert_eq!(at, end, "laws 2 and 5: {who} gets all up to its end, its own lines too, or is told of them");
        let due: Vec<&[u8]> = client.meant.iter().filter_map(Meaning::told).collect();
        assert_eq!(told, due.concat(), "{who} is told once of each thing, in order");
        // A command behind `/quit` is answered only if it came in one read with it.
        let quits = client.meant.last() == Some(&Meaning::Quit);
        assert!(quits || answers == client.answers, "{who} is answered each time");
        let asked = client.meant.iter().filter(|meant| **meant == Meaning::List).count();
        assert_eq!(lists, asked, "{who} is answered each time");
        let more = &client.meant[part.done..];
        let refused = more.iter().filter(|meant| matches!(meant, Meaning::Rename(_))).count();
        assert_eq!(taken, part.names_taken + refused, "{who} is told of each name that is taken");
    } else if !torn.is_empty() && !torn.starts_with(b"-- "[..torn.len().min(3)].as_ref()) && !is_turned_away(client) {
        let line = sequence.get(at).expect("law 3: a line that has begun is in the sequence");
        assert!(line.starts_with(torn), "law 3: a line is true as far as it came");
    }
}

/// A stream without the answers to commands of telnet, and these. They stand between lines, and no line begins as they do.
fn part_answers(stream: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut lines, mut answers) = (Vec::new(), Vec::new());
    let mut rest = stream;
    while let Some(first) = rest.first() {
        let is_answer = *first == 0xFF && lines.last().is_none_or(|last| *last == b'\n');
        let (part, more) = rest.split_at(if is_answer { rest.len().min(3) } else { 1 });
        if is_answer { &mut answers } else { &mut lines }.extend_from_slice(part);
        rest = more;
    }
    (lines, answers)
}

fn is_turned_away(client: &Client) -> bool {
    matches!(client.meant.last(), Some(Meaning::Foreign(_)))
}

fn whole_lines(stream: &[u8]) -> Vec<&[u8]> {
    let Some(lines) = stream.strip_suffix(b"\n") else {
        assert_eq!(stream, b"", "law 3: the witness's stream ends with a whole line");
        return Vec::new();
    };
    lines.split(|byte| *byte == b'\n').collect()
}

fn is_stopping(line: &[u8], is_stopped: bool) -> bool {
    is_stopped && line == b"-- server is stopping"
}

/// The first line of an answer to `/who`.
fn is_present(line: &[u8]) -> bool {
    let count = line.strip_prefix(b"-- ").and_then(|rest| rest.strip_suffix(b" here"));
    count.is_some_and(|count| count.iter().all(u8::is_ascii_digit))
}

/// Whether a reader with this stream has missed lines.
pub(super) fn has_missed(stream: &[u8]) -> bool {
    stream.split(|byte| *byte == b'\n').any(|line| missed(line).is_some())
}

fn missed(line: &[u8]) -> Option<usize> {
    let count = line.strip_prefix(b"-- missed ")?.strip_suffix(b" lines")?;
    str::from_utf8(count).ok()?.parse().ok()
}
