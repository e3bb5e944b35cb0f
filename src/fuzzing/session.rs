//! Target `session`: what a connection's input means depends on its bytes alone, not on reads, nor on when it was
//! interrupted and the rest was held for later.
//!
//! The script: the longest line as a size, the wire as a digit (1 plain, 2 raw, 4 English), then steps as those of
//! `line`; a fate in the columns of letters (`p` for `0`) asks first whether all that is held is to go.
//! `?4|0hello\n/na|q/name bob\nhi\n|0/quit` says something, then is called something, and goes.

use crate::command::Command;
use crate::guess::Foreign;
use crate::limits::Limits;
use crate::name::Name;
use crate::notice::{Lang, Notice};
use crate::session::{Answer, Effect, Past, Session, Wire};

use super::guess::{Spoken, spoken};
use super::line::{Fate, Told, Truth};
use super::{command, digit, size, steps, terminal};

pub(crate) const WHO: &str = "10.0.0.1:5000";

/// Some bytes of input, and what is done with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) fate: Fate,
    /// It is asked before whether all that is held is to go.
    pub(crate) asks: bool,
}

/// What one line means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// This text is said, as it stands in the room.
    Said(Vec<u8>),
    /// These lines are told.
    Told(Vec<u8>),
    Rename(Name),
    List,
    Quit,
    /// The connection speaks something foreign; these lines are told, and nothing follows.
    Foreign(Vec<u8>),
}

impl Meaning {
    pub(super) fn foreign(protocol: Foreign, wire: Wire) -> Self {
        let mut answer = Vec::new();
        protocol.write_answer(wire.lang, &mut answer);
        Self::Foreign(answer)
    }

    /// The slow truth of one line.
    pub(crate) fn of(line: &Told, wire: Wire, line_bytes_max: usize) -> Self {
        let told = |notice: Notice<'_>| {
            let mut told = Vec::new();
            notice.write(wire.lang, &mut told);
            Self::Told(told)
        };
        let text = match line {
            Told::Line(text) => text,
            Told::TooLong => return told(Notice::TooLong { line_bytes_max }),
        };
        match if wire.plain { Command::Say(text) } else { command::meaning(text) } {
            Command::Say(text) if wire.raw => Self::Said(text.to_vec()),
            Command::Say(text) => Self::Said(terminal::cleaned(text).into_bytes()),
            Command::Name(name) => match Name::parse(name) {
                Ok(name) => Self::Rename(name),
                Err(error) => told(Notice::NameRefused(error)),
            },
            Command::Who => Self::List,
            Command::Quit => Self::Quit,
            Command::Help => told(Notice::Help),
            Command::Unknown => told(Notice::UnknownCommand),
        }
    }

    /// What is told of it, if that is all.
    pub(super) fn told(&self) -> Option<&[u8]> {
        match self {
            Self::Told(lines) | Self::Foreign(lines) => Some(lines),
            _ => None,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Said(_) => Effect::Said,
            Self::Told(_) => Effect::Told,
            Self::Rename(name) => Effect::Rename(name.clone()),
            Self::List => Effect::List,
            Self::Quit => Effect::Quit,
            Self::Foreign(_) => panic!("that comes of no line"),
        }
    }
}

/// What a session did, in order.
enum Deed {
    Did(Effect),
    Refused,
}

/// A session and the slow truth of it.
struct Checked {
    session: Session,
    truth: Truth,
    wire: Wire,
    limits: Limits,
    /// All that was read.
    all: Vec<u8>,
    /// What of it is text.
    text_bytes: usize,
    who: String,
    deeds: Vec<Deed>,
    /// How many of them are effects.
    effects: usize,
    answer: Answer,
}

/// Hands the reads to a session as they shall be; all that it says and tells must be as the slow truth has it.
pub(crate) fn check(reads: &[Read<'_>], wire: Wire, line_bytes_max: usize) {
    let limits = Limits { line_bytes_max, ..Limits::default() };
    let mut checked = Checked {
        session: Session::new(wire, &limits, Past::default()),
        truth: Truth::new(line_bytes_max, !wire.raw),
        wire,
        limits,
        all: Vec::new(),
        text_bytes: 0,
        who: WHO.to_owned(),
        deeds: Vec::new(),
        effects: 0,
        answer: Answer::default(),
    };
    for read in reads {
        if checked.read(*read).is_err() {
            return checked.judge();
        }
    }
    checked.finish();
}

impl Checked {
    fn read(&mut self, Read { bytes, fate, asks }: Read<'_>) -> Result<(), Foreign> {
        if asks {
            self.ask(false);
            self.fold();
        }
        let mut bytes = bytes.to_vec();
        let mut input = self.hear(&mut bytes)?;
        if fate == Fate::KeepThenNext {
            self.session.keep(std::mem::take(&mut input));
        }
        match fate {
            Fate::Next | Fate::NextThenRefuse => while self.next(&mut input) {},
            Fate::NextThenKeep | Fate::KeepThenNext => {
                self.next(&mut input);
            }
            Fate::Keep => {}
        }
        if fate == Fate::NextThenRefuse {
            self.session.refuse(&mut self.answer.told);
            self.truth.on_refused();
            self.deeds.push(Deed::Refused);
        }
        self.session.keep(input);
        let is_amid_command = self.spoken(false).is_amid_command;
        assert_eq!(self.session.is_amid_line(), self.truth.is_amid_line() || is_amid_command);
        Ok(())
    }

    fn spoken(&self, at_end: bool) -> Spoken {
        spoken(&self.all, at_end, self.wire)
    }

    /// Takes in what was read: text, and answers to what is none.
    fn hear<'a>(&mut self, bytes: &'a mut [u8]) -> Result<&'a [u8], Foreign> {
        let answered = self.spoken(false).answers.len();
        self.all.extend_from_slice(bytes);
        let spoken = self.spoken(false);
        self.truth.on_read(&spoken.text[self.text_bytes..]);
        let mut told = Vec::new();
        let heard = self.session.hear(bytes, &mut told);
        if let Some(protocol) = spoken.foreign {
            assert_eq!(heard, Err(protocol));
            self.check_turned_away(protocol, &told);
        } else {
            assert_eq!(heard, Ok(&spoken.text[self.text_bytes..]));
            assert_eq!(told, spoken.answers[answered..]);
        }
        self.text_bytes = spoken.text.len();
        heard
    }

    /// It was told what stands here, and before that of its line that it is too long, if so, and if it was not told before.
    fn check_turned_away(&mut self, protocol: Foreign, told: &[u8]) {
        let mut due = Vec::new();
        if self.effects == 0 && self.truth.events(true).first() == Some(&Told::TooLong) {
            Notice::TooLong { line_bytes_max: self.limits.line_bytes_max }.write(self.wire.lang, &mut due);
        }
        protocol.write_answer(self.wire.lang, &mut due);
        assert_eq!(told, due);
        assert!(self.session.is_idle(), "nothing of it is held");
    }

    /// An idle session is as good as a new one with its past.
    fn fold(&mut self) {
        if self.session.is_idle() {
            self.session = Session::new(self.wire, &self.limits, self.session.past());
        }
    }

    /// Takes the next line, and says whether there was one.
    fn next(&mut self, input: &mut &[u8]) -> bool {
        let effect = self.session.next(&self.who, input, &mut self.answer);
        if effect.is_none() {
            assert!(input.is_empty(), "all of the input was taken in");
            assert_eq!(self.session.held_bytes(), self.truth.held_bytes(), "what is held is the unended line");
            assert_eq!(self.session.is_skipping(), self.truth.is_skipping());
        }
        self.note(effect)
    }

    fn note(&mut self, effect: Option<Effect>) -> bool {
        let Some(effect) = effect else { return false };
        if let Effect::Rename(name) = &effect {
            self.who = name.to_string();
        }
        self.deeds.push(Deed::Did(effect));
        self.effects += 1;
        true
    }

    /// Whether all that is held is to go is as the next line of it means.
    fn ask(&mut self, at_end: bool) {
        let events = self.truth.events(at_end);
        let next = events.get(self.effects).map(|event| Meaning::of(event, self.wire, self.limits.line_bytes_max));
        let goes = next.map_or(at_end, |meaning| meaning == Meaning::Quit);
        assert_eq!(self.session.only_goes(at_end), goes, "at end: {at_end}");
    }

    fn finish(mut self) {
        let mut told = Vec::new();
        let heard = self.session.hear_end(&mut told);
        assert_eq!(heard.err(), self.spoken(true).foreign);
        if let Err(protocol) = heard {
            self.check_turned_away(protocol, &told);
            return self.judge();
        }
        assert_eq!(told, b"");
        self.truth.on_ended();
        self.ask(true);
        while self.next(&mut &[][..]) {
            self.ask(true);
        }
        let last = self.session.finish(&self.who, &mut self.answer);
        self.note(last);
        assert_eq!(self.session.finish(&self.who, &mut self.answer), None, "the end comes once");
        assert_eq!(self.session.memory_bytes(), 0, "nothing is kept of what has ended");
        assert_eq!(self.effects, self.truth.events(true).len(), "every line has its effect");
        self.judge();
    }

    /// All that was said and told is what the lines mean that had an effect.
    fn judge(&self) {
        let mut due = Answer::default();
        let mut who = WHO.to_owned();
        let events = self.truth.events(true);
        let mut events = events.iter();
        for deed in &self.deeds {
            match deed {
                Deed::Refused => Notice::Unspared.write(self.wire.lang, &mut due.told),
                Deed::Did(effect) => {
                    let event = events.next().expect("an effect comes of a line");
                    let meaning = Meaning::of(event, self.wire, self.limits.line_bytes_max);
                    assert_eq!(*effect, meaning.effect(), "{event:?}");
                    match meaning {
                        Meaning::Said(text) => due.said.extend([who.as_bytes(), b": ", &text, b"\n"].concat()),
                        Meaning::Told(lines) => due.told.extend(lines),
                        Meaning::Rename(name) => who = name.to_string(),
                        Meaning::List | Meaning::Quit | Meaning::Foreign(_) => {}
                    }
                }
            }
        }
        assert_eq!(self.answer.said, due.said);
        assert_eq!(self.answer.told, due.told);
        let stored_bytes_max = crate::limits::line_stored_bytes_max(self.limits.line_bytes_max);
        assert!(due.said.split(|byte| *byte == b'\n').all(|line| line.len() < stored_bytes_max));
    }
}

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    let [limit, wire, script @ ..] = input else { return };
    let lang = if digit(*wire) & 4 == 0 { Lang::Zh } else { Lang::En };
    let wire = Wire { lang, plain: digit(*wire) & 1 != 0, raw: digit(*wire) & 2 != 0, ..Wire::default() };
    let reads: Vec<Read<'_>> = steps(script)
        .filter_map(|step| step.split_first())
        .map(|(fate, bytes)| Read { bytes, fate: Fate::of(*fate), asks: fate & 64 != 0 })
        .collect();
    check(&reads, wire, size(*limit));
}
