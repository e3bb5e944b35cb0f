//! What one connection means: bytes that came in, and what follows from them. No stream, no clock, no waiting.
//!
//! A [`Session`] splits input into lines, tells commands from what is to be said, and writes both kinds of answer into
//! buffers of its caller: lines of the room, and what is told to this member alone. Its [`Effect`]s are what the room has
//! to be asked for; [`drive`](crate::drive) carries them out, and asks for the next one only then. So the order of a
//! member's own doings is the order of its input.

use crate::command::{self, Command};
use crate::limits::Limits;
use crate::line::{self, Event, Splitter};
use crate::name::Name;
use crate::notice::{Lang, Notice};

/// How a room speaks to all of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// The language of the server's own words.
    pub lang: Lang,
    /// Nothing but lines: no commands and no names. With `raw` this is the seed's wire.
    pub plain: bool,
    /// Lines pass byte for byte, uncleaned: for trusted feeds only, as control bytes reach other people's terminals.
    pub raw: bool,
}

/// What came of one line of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A line was added to what shall be said.
    Said,
    /// A notice was added to what shall be told.
    Told,
    /// It wants this name.
    Rename(Name),
    /// It wants to know who is there.
    List,
    /// It wants to go.
    Quit,
}

/// Where a session writes what comes of its input.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Lines to be said in the room, as they shall stand in it.
    pub(crate) said: Vec<u8>,
    /// Notices for this member alone.
    pub(crate) told: Vec<u8>,
}

/// The meaning of one connection's input so far.
#[derive(Debug)]
pub(crate) struct Session {
    splitter: Splitter,
    wire: Wire,
    line_bytes_max: usize,
}

impl Session {
    /// A session of which nothing is held: a new one, or one that was [idle](Self::is_idle) and [had
    /// begun](Self::has_begun) or not.
    pub(crate) fn new(wire: Wire, limits: &Limits, has_begun: bool) -> Self {
        let line_bytes_max = limits.line_bytes_max;
        Self { splitter: Splitter::new(line_bytes_max, !wire.raw && !has_begun), wire, line_bytes_max }
    }

    /// Whether nothing of its input is held or under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.splitter.memory_bytes() == 0 && !self.splitter.is_amid_line()
    }

    /// Whether a byte order mark would be text by now.
    pub(crate) fn has_begun(&self) -> bool {
        !self.splitter.awaits_bom()
    }

    /// Takes in the next line of what is held and then of `input`, which is advanced past it. `None` when there is no whole
    /// line left; what remains of `input` is held then.
    pub(crate) fn next(&mut self, who: &str, input: &mut &[u8], answer: &mut Answer) -> Option<Effect> {
        let mut rest: &[u8] = input;
        let event = self.splitter.next(&mut rest);
        let effect = event.map(|event| mean(event, self.wire, self.line_bytes_max, who, answer));
        let used = input.len() - rest.len();
        *input = &input[used..];
        effect
    }

    /// Takes in the last line, when the input has ended cleanly without a line end. Call it once [`next`](Self::next) has
    /// nothing left.
    pub(crate) fn finish(&mut self, who: &str, answer: &mut Answer) -> Option<Effect> {
        let event = self.splitter.finish()?;
        Some(mean(event, self.wire, self.line_bytes_max, who, answer))
    }

    /// Holds `input` for later.
    pub(crate) fn keep(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.splitter.keep(input);
        }
    }

    /// Whether all that comes next of what is held is to go: the input is `at_end` and no line is left, or `/quit` is next.
    pub(crate) fn only_goes(&mut self, at_end: bool) -> bool {
        match self.splitter.first_held(at_end) {
            None => at_end,
            Some(Event::Line(text)) => !self.wire.plain && command::parse(text) == Command::Quit,
            Some(Event::TooLong) => false,
        }
    }

    /// Refuses the line under way, for which there is no memory left, and says so.
    pub(crate) fn refuse(&mut self, told: &mut Vec<u8>) {
        self.splitter.refuse();
        Notice::Unspared.write(self.wire.lang, told);
    }

    /// Bytes of input held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.splitter.held_bytes()
    }

    /// Memory that the input held takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.splitter.memory_bytes()
    }

    /// Whether a line is under way that was refused.
    pub(crate) fn is_skipping(&self) -> bool {
        self.splitter.is_skipping()
    }

    /// Whether a line has begun that has not ended.
    pub(crate) fn is_amid_line(&self) -> bool {
        self.splitter.is_amid_line()
    }
}

fn mean(event: Event<'_>, wire: Wire, line_bytes_max: usize, who: &str, answer: &mut Answer) -> Effect {
    let text = match event {
        Event::Line(text) => text,
        Event::TooLong => {
            Notice::TooLong { line_bytes_max }.write(wire.lang, &mut answer.told);
            return Effect::Told;
        }
    };
    let command = if wire.plain { Command::Say(text) } else { command::parse(text) };
    let notice = match command {
        Command::Say(text) => {
            answer.said.extend_from_slice(who.as_bytes());
            answer.said.extend_from_slice(b": ");
            if wire.raw {
                answer.said.extend_from_slice(text);
            } else {
                line::clean(text, &mut answer.said);
            }
            answer.said.push(b'\n');
            return Effect::Said;
        }
        Command::Name(name) => match Name::parse(name) {
            Ok(name) => return Effect::Rename(name),
            Err(error) => Notice::NameRefused(error),
        },
        Command::Who => return Effect::List,
        Command::Quit => return Effect::Quit,
        Command::Help => Notice::Help,
        Command::Unknown => Notice::UnknownCommand,
    };
    notice.write(wire.lang, &mut answer.told);
    Effect::Told
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::line::Fate;
    use crate::fuzzing::session::{Read, WHO, check};

    fn limits() -> Limits {
        Limits { line_bytes_max: 12, ..Limits::default() }
    }

    /// Bytes in which lines, commands and ends of all kinds are frequent.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(b"\n".to_vec()),
            1 => Just(b"\r\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => Just(b"\xEF\xBB\xBF".to_vec()),
            2 => prop_oneof![Just("/who"), Just("/help"), Just("/quit"), Just("//x"), Just("/name bob"), Just("/name a b")]
                .prop_map(|command| command.as_bytes().to_vec()),
            3 => "[a-z你\u{1b}]{0,9}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

        /// What a session means depends on the bytes alone: not on how they were cut into reads, nor on when it was
        /// interrupted and the rest was held for later.
        #[test]
        fn session_means_its_input_however_it_comes(
            input in input(),
            cuts in proptest::collection::vec((1..30usize, 0..5u8, any::<bool>()), 1..40),
            plain: bool,
            raw: bool,
        ) {
            let mut reads = Vec::new();
            let mut rest = &input[..];
            for (bytes, fate, asks) in cuts.into_iter().cycle() {
                let (bytes, later) = rest.split_at(bytes.min(rest.len()));
                reads.push(Read { bytes, fate: Fate::of(fate), asks });
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            check(&reads, Wire { lang: Lang::En, plain, raw }, limits().line_bytes_max);
        }

        /// Whatever is said is one whole line that begins with who said it.
        #[test]
        fn said_lines_are_whole_and_carry_their_name(text in proptest::collection::vec(any::<u8>(), 0..13), raw: bool) {
            prop_assume!(!text.contains(&b'\n'));
            let wire = Wire { lang: Lang::En, plain: true, raw };
            let mut session = Session::new(wire, &limits(), false);
            let mut answer = Answer::default();
            let line = [&text[..], b"\n"].concat();
            prop_assert_eq!(session.next(WHO, &mut &line[..], &mut answer), Some(Effect::Said));
            prop_assert!(answer.said.starts_with(b"10.0.0.1:5000: "));
            prop_assert_eq!(memchr::memchr(b'\n', &answer.said), Some(answer.said.len() - 1));
            prop_assert!(answer.said.len() <= limits().line_stored_bytes_max());
            prop_assert!(answer.told.is_empty());
        }
    }

    #[test]
    fn going_needs_no_turn() {
        let cases: [(&[u8], bool, bool); 9] = [
            (b"", false, false),
            (b"", true, true),
            (b"/quit\r\nmore\n", false, true),
            (b"hi\n/quit\n", false, false),
            (b"/quit", false, false),
            (b"/quit", true, true),
            (b"hi", true, false),
            (b"/quit        \n", false, false),
            (b"/quit        ", true, false),
        ];
        for (held, at_end, expected) in cases {
            let mut session = Session::new(Wire::default(), &limits(), false);
            session.keep(held);
            assert_eq!(session.only_goes(at_end), expected, "{held:?}, at end: {at_end}");
        }
    }

    /// A session that takes in all of `input`.
    fn session_of(input: &[u8]) -> Session {
        let mut session = Session::new(Wire::default(), &limits(), false);
        let mut rest = input;
        while session.next(WHO, &mut rest, &mut Answer::default()).is_some() {}
        session
    }

    /// Whatever of it came before: an idle session is as good as a new one.
    #[test]
    fn session_is_idle_between_lines() {
        let cases: [(&[u8], bool); 9] = [
            (b"", true),
            (b"h", false),
            (b"hi\r", false),
            (b"hi\n", true),
            (b"hi\nho", false),
            (b"\xEF\xBB", false),
            (b"\xEF\xBB\xBF", true),
            (b"it is too long", false),
            (b"it is too long\n", true),
        ];
        for (input, expected) in cases {
            assert_eq!(session_of(input).is_idle(), expected, "{input:?}");
        }
    }

    #[test]
    fn session_is_not_idle_while_it_holds_whole_lines_or_their_memory() {
        let mut session = Session::new(Wire::default(), &limits(), false);
        let mut answer = Answer::default();
        session.keep(b"hi\n");
        assert!(!session.is_idle());
        assert!(session.memory_bytes() >= session.held_bytes());
        assert_eq!(session.next(WHO, &mut &[][..], &mut answer), Some(Effect::Said));
        assert_eq!(session.held_bytes(), 0);
        assert!(!session.is_idle(), "the memory of the line has not been given back");
        assert_eq!(session.next(WHO, &mut &[][..], &mut answer), None);
        assert!(session.is_idle());
    }

    #[test]
    fn session_has_begun_once_a_byte_order_mark_would_be_text() {
        let cases: [(&[u8], bool); 6] = [
            (b"", false),
            (b"\xEF", false),
            (b"\xEF\xBB", false),
            (b"\xEF\xBB\xBF", true),
            (b"\xEF\xBBh", true),
            (b"\n", true),
        ];
        for (input, expected) in cases {
            assert_eq!(session_of(input).has_begun(), expected, "{input:?}");
        }
        assert!(
            Session::new(Wire { raw: true, ..Wire::default() }, &limits(), false).has_begun(),
            "raw has no such mark"
        );
        assert!(Session::new(Wire::default(), &limits(), true).has_begun());
    }
}
