//! What one connection means: bytes that came in, and what follows from them. No stream, no clock, no waiting.
//!
//! A [`Session`] splits input into lines, tells commands from what is to be said, and writes both kinds of answer into
//! buffers of its caller: lines of the room, and what is told to this member alone. Its [`Effect`]s are what the room has
//! to be asked for; [`drive`](crate::drive) carries them out, and asks for the next one only then. So the order of a
//! member's own doings is the order of its input.

use crate::command::{self, Command};
use crate::door::Password;
use crate::guess::{Foreign, Guess, Guessed};
use crate::limits::Limits;
use crate::line::{self, Event, Splitter};
use crate::name::Name;
use crate::notice::{Lang, Notice};
use crate::telnet::Telnet;

/// How a room speaks to all of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// The language of the server's own words.
    pub lang: Lang,
    /// Nothing but lines: no commands and no names, and no other protocol is recognised. With `raw` this is the seed's wire.
    pub plain: bool,
    /// Lines pass byte for byte, uncleaned: for trusted feeds only, as control bytes reach other people's terminals. No other
    /// protocol is recognised.
    pub raw: bool,
    /// What members are called that have no name.
    pub who: Who,
}

/// What a member is called until it takes a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Its address and port, as the seed has it.
    #[default]
    Address,
    /// `guest-` and its number, so that nobody's address is shown. A room counts its guests from 1 and gives no number twice.
    Guest,
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

/// All that a session is while nothing of its input is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// A byte order mark would be text by now.
    has_begun: bool,
    /// Its first byte was a command of telnet.
    is_telnet: bool,
}

/// What the input is made of.
#[derive(Debug)]
enum Tongue {
    Unknown(Guess),
    Lines,
    Telnet(Telnet),
}

/// The meaning of one connection's input so far.
#[derive(Debug)]
pub(crate) struct Session {
    tongue: Tongue,
    splitter: Splitter,
    wire: Wire,
    line_bytes_max: usize,
}

impl Session {
    /// A session of which nothing is held: a new one, or one with such a [past](Self::past).
    pub(crate) fn new(wire: Wire, limits: &Limits, Past { has_begun, is_telnet }: Past) -> Self {
        let tongue = if is_telnet {
            Tongue::Telnet(Telnet::default())
        } else if wire.plain || wire.raw || has_begun {
            Tongue::Lines
        } else {
            Tongue::Unknown(Guess::default())
        };
        let line_bytes_max = limits.line_bytes_max;
        Self { tongue, splitter: Splitter::new(line_bytes_max, !wire.raw && !has_begun), wire, line_bytes_max }
    }

    /// Whether nothing of its input is held or under way: then its [past](Self::past) is all that has to be known of it.
    pub(crate) fn is_idle(&self) -> bool {
        self.splitter.memory_bytes() == 0 && !self.is_amid_line()
    }

    /// What an idle session goes on from.
    pub(crate) fn past(&self) -> Past {
        Past { has_begun: !self.splitter.awaits_bom(), is_telnet: matches!(self.tongue, Tongue::Telnet(_)) }
    }

    /// Takes in what was just read, once and before all else. What is returned is text, for [`next`](Self::next) or
    /// [`keep`](Self::keep); commands of telnet are taken out of it, and answered by what is added to `told`.
    ///
    /// So the answers may be told before what comes of lines that were sent before the commands, but each kind in its order.
    ///
    /// # Errors
    ///
    /// It speaks something [`Foreign`], and has not said anything. The answer was added to `told`, nothing is held, and nothing
    /// that follows is for this session.
    pub(crate) fn hear<'a>(&mut self, bytes: &'a mut [u8], told: &mut Vec<u8>) -> Result<&'a [u8], Foreign> {
        if let Tongue::Unknown(guess) = &mut self.tongue {
            match guess.hear(bytes) {
                Some((Guessed::Lines, _)) => self.tongue = Tongue::Lines,
                Some((Guessed::Telnet, _)) => self.tongue = Tongue::Telnet(Telnet::default()),
                Some((Guessed::Foreign(protocol), line_bytes)) => {
                    let is_too_long = self.splitter.next(&mut &bytes[..line_bytes]) == Some(Event::TooLong);
                    return Err(self.turn_away(protocol, is_too_long, told));
                }
                None => {}
            }
        }
        match &mut self.tongue {
            Tongue::Telnet(telnet) => Ok(telnet.filter(bytes, told)),
            Tongue::Unknown(_) | Tongue::Lines => Ok(bytes),
        }
    }

    /// The input has ended cleanly.
    ///
    /// # Errors
    ///
    /// As of [`hear`](Self::hear): all that it has sent was an unended line that is something foreign.
    pub(crate) fn hear_end(&mut self, told: &mut Vec<u8>) -> Result<(), Foreign> {
        let Tongue::Unknown(guess) = &self.tongue else { return Ok(()) };
        let Some(protocol) = guess.end() else { return Ok(()) };
        let is_too_long = self.splitter.finish() == Some(Event::TooLong);
        Err(self.turn_away(protocol, is_too_long, told))
    }

    /// Ends it. That a line is too long is told whatever the line is, as it may have been told before that was known.
    fn turn_away(&mut self, protocol: Foreign, is_too_long: bool, told: &mut Vec<u8>) -> Foreign {
        if is_too_long {
            Notice::TooLong { line_bytes_max: self.line_bytes_max }.write(self.wire.lang, told);
        }
        protocol.write_answer(self.wire.lang, told);
        self.tongue = Tongue::Lines;
        self.splitter = Splitter::new(self.line_bytes_max, false);
        protocol
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

    /// From now on what is held is wiped once it was used, or no more.
    pub(crate) fn set_secret(&mut self, is_secret: bool) {
        self.splitter.set_secret(is_secret);
    }

    /// Takes the next line of what is held for a password; `at_end` of the input, the unended one if there is no other. `None`: there is
    /// no whole one. One that is too long is as good as an empty one, which nobody has.
    pub(crate) fn password(&mut self, at_end: bool) -> Option<Password> {
        let mut event = self.splitter.next(&mut &[][..]).map(password_of);
        if event.is_none() && at_end {
            event = self.splitter.finish().map(password_of);
        }
        event
    }

    /// Refuses the line under way: no password is as long.
    pub(crate) fn refuse_password(&mut self) {
        self.splitter.refuse();
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

    /// Whether a line has begun that has not ended, or a command of telnet.
    pub(crate) fn is_amid_line(&self) -> bool {
        self.splitter.is_amid_line() || matches!(&self.tongue, Tongue::Telnet(telnet) if telnet.is_amid_command())
    }
}

fn password_of(event: Event<'_>) -> Password {
    match event {
        Event::Line(text) => Password::new(text.to_vec()),
        Event::TooLong => Password::new(Vec::new()),
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

    /// What decides what a connection speaks, or nearly does.
    fn beginning() -> impl Strategy<Value = Vec<u8>> {
        let request = "[GP-]{1,2} [/x]{1,9} HTTP/1.[01]\r{0,2}\n?".prop_map(String::into_bytes);
        prop_oneof![
            4 => Just(Vec::new()),
            2 => request,
            1 => Just(b"\x16\x03\x01\x02".to_vec()),
            4 => Just(b"\xFF".to_vec()),
        ]
    }

    /// Commands of telnet, and parts of them.
    fn command() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"\xFF".to_vec()),
            Just(b"\xFF\xFD\n".to_vec()),
            Just(b"\xFF\xFB\x01".to_vec()),
            Just(b"\xFF\xFA\n\xFF\xF0".to_vec()),
            Just(b"\r\0".to_vec()),
        ]
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
            1 => command(),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ];
        let parts = proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat());
        (beginning(), parts).prop_map(|(beginning, parts)| [beginning, parts].concat())
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
            check(&reads, Wire { lang: Lang::En, plain, raw, ..Wire::default() }, limits().line_bytes_max);
        }

        /// Whatever is said is one whole line that begins with who said it.
        #[test]
        fn said_lines_are_whole_and_carry_their_name(text in proptest::collection::vec(any::<u8>(), 0..13), raw: bool) {
            prop_assume!(!text.contains(&b'\n'));
            let wire = Wire { lang: Lang::En, plain: true, raw, ..Wire::default() };
            let mut session = Session::new(wire, &limits(), Past::default());
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
            let mut session = Session::new(Wire::default(), &limits(), Past::default());
            session.keep(held);
            assert_eq!(session.only_goes(at_end), expected, "{held:?}, at end: {at_end}");
        }
    }

    /// A session that takes in all of `input`.
    fn session_of(input: &[u8]) -> Session {
        let mut session = Session::new(Wire::default(), &limits(), Past::default());
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
        let mut session = Session::new(Wire::default(), &limits(), Past::default());
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
            assert_eq!(session_of(input).past().has_begun, expected, "{input:?}");
        }
        let raw = Wire { raw: true, ..Wire::default() };
        assert!(Session::new(raw, &limits(), Past::default()).past().has_begun, "raw has no such mark");
        let past = Past { has_begun: true, is_telnet: false };
        assert_eq!(Session::new(Wire::default(), &limits(), past).past(), past);
    }
}
