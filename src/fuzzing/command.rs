//! Target `command`: what a line asks for is as a slower reading has it; any text can be said; and a name, however it is
//! written, keeps every rule of names and is unique.
//!
//! The script is lines, parted by line feeds. Three members take them in turn, and those that are commands for a name are
//! carried out on a room: it must grant just the names that clash with no other's.

use std::net::Ipv4Addr;
use std::task::{Context, Poll, Waker};

use crate::command::{Command, parse};
use crate::limits::{NAME_CHARS_MAX, WHO_BYTES_MAX};
use crate::line::clean;
use crate::log::Batch;
use crate::name::{Name, check_keys};
use crate::room::{Member, Next, Room};
use crate::{Lang, Limits, Wire};

use super::{SCRIPT_BYTES_MAX, address};

/// The slow truth: a command is what its words are.
pub(crate) fn meaning(text: &[u8]) -> Command<'_> {
    let asked = match text {
        [b'/', said @ ..] if said.first() == Some(&b'/') => return Command::Say(said),
        [b'/', asked @ ..] => asked,
        said => return Command::Say(said),
    };
    let is_blank = |byte: &u8| b" \t\r\x0C\n".contains(byte);
    let mut words = asked.split(is_blank);
    let word = words.next().unwrap_or_default().to_ascii_lowercase();
    let is_alone = words.all(<[u8]>::is_empty);
    match &word[..] {
        b"name" => {
            let argument = &asked[word.len()..];
            let from = argument.iter().position(|byte| !is_blank(byte)).unwrap_or(argument.len());
            let to = argument.iter().rposition(|byte| !is_blank(byte)).map_or(from, |last| last + 1);
            Command::Name(&argument[from..to])
        }
        b"who" if is_alone => Command::Who,
        b"help" if is_alone => Command::Help,
        b"quit" if is_alone => Command::Quit,
        _ => Command::Unknown,
    }
}

/// One line has its one meaning, and can be said.
pub(crate) fn check(text: &[u8]) {
    assert_eq!(parse(text), meaning(text), "{text:?}");
    for text in [text, &[b"/", text].concat()] {
        let typed = if text.starts_with(b"/") { [b"/", text].concat() } else { text.to_vec() };
        assert_eq!(parse(&typed), Command::Say(text), "any text can be said");
    }
}

/// What these bytes are as a name, which keeps every rule if it is one.
pub(crate) fn check_name(bytes: &[u8]) -> Option<Name> {
    let name = Name::parse(bytes).ok()?;
    let text = name.as_str();
    assert_eq!(text.as_bytes(), bytes, "a name is what was written");
    assert!((1..=WHO_BYTES_MAX).contains(&bytes.len()), "{text:?}");
    assert!(text.chars().count() <= NAME_CHARS_MAX, "{text:?}");
    assert!(!text.starts_with('-'), "{text:?} begins like a notice");
    assert!(!text.contains(|character: char| character.is_whitespace() || character.is_control()), "{text:?}");
    assert!(!text.contains(':'), "{text:?} ends before its colon");
    let mut cleaned = Vec::new();
    clean(bytes, &mut cleaned);
    assert_eq!(cleaned, bytes, "a name needs no cleaning");
    let mut welcome = Vec::new();
    for lang in [Lang::Zh, Lang::En] {
        lang.welcome(text, &mut welcome);
        let own = welcome.split(|byte| *byte == b' ').next();
        assert_ne!(own, Some(bytes), "{text:?} is the server's own word");
        welcome.clear();
    }
    assert_eq!(text.parse::<Ipv4Addr>().ok(), None, "{text:?} is somebody's address");
    let number = text.to_ascii_lowercase().strip_prefix("guest-").map(str::to_owned);
    assert!(number.is_none_or(|number| number.parse::<u64>().is_err()), "{text:?} is a guest's");
    let user = text.to_ascii_lowercase();
    let user = user.strip_prefix("uid").and_then(|ids| ids.split_once("-pid"));
    assert!(
        user.is_none_or(|(uid, pid)| !uid.parse::<u32>().is_ok_and(|_| pid.parse::<u32>().is_ok())),
        "{text:?} is a user's"
    );
    let again = Name::parse(bytes).expect("it was one before");
    assert_eq!(again.keys(), name.keys(), "a name has its keys whenever it is asked");
    check_keys(text);
    Some(name)
}

/// A room, and what the slow truth knows of who is called what in it.
struct Called {
    members: [Member; 3],
    names: [Option<Name>; 3],
    /// What the first member shall see.
    due: Vec<u8>,
}

impl Called {
    fn new() -> Self {
        let wire = Wire { lang: Lang::En, ..Wire::default() };
        let room = Room::new(Limits { patience: crate::limits::FOREVER, ..Limits::default() }, wire);
        let room = room.expect("limits that work");
        let mut members = [0, 1, 2].map(|member| room.seat(&address(member).to_string()));
        let mut due = Vec::new();
        for (number, member) in members.iter_mut().enumerate() {
            let mut turn = turn(member);
            member.enter(&mut turn).expect("it is open");
            if number > 0 {
                Lang::En.arrival(member.who(), &mut due);
            }
        }
        Self { members, names: [const { None }; 3], due }
    }

    fn rename(&mut self, member: usize, name: Name) {
        let others = (0..self.names.len()).filter(|other| *other != member);
        let mut held = others.filter_map(|other| self.names[other].as_ref()).flat_map(Name::keys);
        let is_free = held.all(|key| !name.keys().contains(&key));
        let before = self.members[member].who().to_owned();
        let mut turn = turn(&mut self.members[member]);
        let is_granted = self.members[member].rename(&mut turn, &name).is_ok();
        assert_eq!(is_granted, is_free, "a name is granted if it clashes with no other's: {name}");
        if is_granted {
            Lang::En.renamed(&before, name.as_str(), &mut self.due);
            assert_eq!(self.members[member].who(), name.as_str());
            self.names[member] = Some(name);
        }
    }

    /// The first member has seen each change in its place.
    fn check(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut batch = Batch::default();
        let (mut seen, mut taken_bytes) = (Vec::new(), 0);
        // One whom a sweep has woken holds up the next.
        while let Poll::Ready(next) = self.members[0].poll_next(taken_bytes, &mut batch, &mut cx) {
            assert!(matches!(next, Next::Lines | Next::Later), "it is open: {next:?}");
            taken_bytes = batch.bytes();
            while !batch.is_empty() {
                let line = batch.first_line().to_vec();
                batch.advance(line.len());
                seen.extend(line);
            }
        }
        assert_eq!(seen, self.due, "each change of a name is told in its place");
    }
}

fn turn(member: &mut Member) -> crate::room::Turn {
    match member.poll_turn(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(turn)) => turn,
        other => panic!("there is room: {other:?}"),
    }
}

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    let mut called = Called::new();
    for (number, text) in input[..input.len().min(SCRIPT_BYTES_MAX)].split(|byte| *byte == b'\n').enumerate() {
        check(text);
        check_name(text);
        if let Command::Name(bytes) = parse(text)
            && let Some(name) = check_name(bytes)
        {
            called.rename(number % called.members.len(), name);
        }
    }
    called.check();
}
