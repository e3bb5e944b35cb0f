//! Telnet as far as a line server needs it (RFC 854): its commands are taken out of the text, and every option that the
//! peer asks for or offers is refused.
//!
//! The one idea: we never ask for anything, and answer only what asks (DO by WONT, WILL by DONT), so what the peer answers to
//! us needs no answer, and no two ends can go round in a circle (RFC 1143). So there is nothing to remember of any option.

/// "Interpret as command": begins every command.
pub(crate) const IAC: u8 = 255;

/// End and begin of the parameters of an option (RFC 855).
const SE: u8 = 240;
const SB: u8 = 250;

const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;

/// The commands of one connection, taken out of its input.
///
/// Law: text and answers depend on the bytes alone, not on how they were cut into reads. There are never more bytes of both
/// than there were of input.
#[derive(Debug, Default)]
pub(crate) struct Telnet {
    within: Within,
    /// The last byte of text was a carriage return: a NUL behind it says that nothing else was meant.
    is_after_return: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    /// A command that has just begun.
    Command,
    /// WILL, WONT, DO or DONT: the option is next.
    Negotiation { verb: u8 },
    /// Parameters of an option.
    Parameters,
    /// An IAC among these: it ends them, or is one.
    ParametersCommand,
}

impl Telnet {
    /// Takes the commands out of `bytes`, in place, and appends the answers to them. What remains is text.
    pub(crate) fn filter<'a>(&mut self, bytes: &'a mut [u8], answers: &mut Vec<u8>) -> &'a [u8] {
        let mut text_bytes = 0;
        for at in 0..bytes.len() {
            let byte = bytes[at];
            if self.is_text(byte, answers) {
                let is_padding = byte == 0 && self.is_after_return;
                self.is_after_return = byte == b'\r';
                if !is_padding {
                    bytes[text_bytes] = byte;
                    text_bytes += 1;
                }
            }
        }
        &bytes[..text_bytes]
    }

    /// Whether a command has begun and not ended.
    pub(crate) fn is_amid_command(&self) -> bool {
        self.within != Within::Text
    }

    /// Whether the next byte is text, and no part of a command.
    fn is_text(&mut self, byte: u8, answers: &mut Vec<u8>) -> bool {
        let within = std::mem::take(&mut self.within);
        match (within, byte) {
            (Within::Text, IAC) => self.within = Within::Command,
            (Within::Text, _) | (Within::Command, IAC) => return true,
            (Within::Command, SB) => self.within = Within::Parameters,
            (Within::Command, verb @ (WILL | WONT | DO | DONT)) => self.within = Within::Negotiation { verb },
            (Within::Negotiation { verb: DO }, option) => answers.extend([IAC, WONT, option]),
            (Within::Negotiation { verb: WILL }, option) => answers.extend([IAC, DONT, option]),
            (Within::Parameters, IAC) => self.within = Within::ParametersCommand,
            (Within::Command | Within::Negotiation { .. }, _) | (Within::ParametersCommand, SE) => {}
            (Within::Parameters | Within::ParametersCommand, _) => self.within = Within::Parameters,
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::guess;

    /// What remains of the input, cut at every two places, and what is answered.
    fn check(input: &[u8], text: &[u8], answers: &[u8]) {
        for one in 0..=input.len() {
            for two in one..=input.len() {
                let mut telnet = Telnet::default();
                let (mut seen, mut told) = (Vec::new(), Vec::new());
                for read in [&input[..one], &input[one..two], &input[two..]] {
                    seen.extend_from_slice(telnet.filter(&mut read.to_vec(), &mut told));
                }
                assert_eq!(seen, text, "{input:?}");
                assert_eq!(told, answers, "{input:?}");
                assert!(!telnet.is_amid_command(), "{input:?}");
            }
        }
    }

    #[test]
    fn what_is_asked_for_or_offered_is_refused() {
        check(b"a\xFF\xFD\x01b", b"ab", b"\xFF\xFC\x01");
        check(b"\xFF\xFB\x18\xFF\xFB\n", b"", b"\xFF\xFE\x18\xFF\xFE\n");
        check(b"\xFF\xFD\xFF", b"", b"\xFF\xFC\xFF");
    }

    #[test]
    fn what_is_refused_or_stopped_is_not_answered() {
        check(b"\xFF\xFC\x01a\xFF\xFE\x01b", b"ab", b"");
    }

    #[test]
    fn doubled_iac_is_one_byte_of_text() {
        check(b"a\xFF\xFFb", b"a\xFFb", b"");
        check(b"\xFF\xFF\xFF\xFF\xFF\xF1", b"\xFF\xFF", b"");
    }

    #[test]
    fn other_commands_and_parameters_are_dropped() {
        check(b"\xFF\xF6a\xFF\xF1b\xFF\xF0c\xFF\n", b"abc", b"");
        check(b"a\xFF\xFA\x18\0xterm\xFF\xF0b", b"ab", b"");
        check(b"a\xFF\xFA\x18\xFF\xFF\xF0\n\xFF\xFD\x01\xFF\xF0b", b"ab", b"");
    }

    #[test]
    fn return_and_nul_are_a_return() {
        check(b"a\r\0b\r\nc\0", b"a\rb\r\nc\0", b"");
        check(b"\r\0\0\r\r\0", b"\r\0\r\r", b"");
        check(b"\r\xFF\xF1\0", b"\r", b"");
        check(b"\r\xFF\xFF\0", b"\r\xFF\0", b"");
    }

    #[test]
    fn command_is_under_way_until_its_last_byte() {
        for whole in [&b"\xFF\xF1"[..], b"\xFF\xFD\x01", b"\xFF\xFA\x18\xFF\xFF\xFF\xF0"] {
            let mut telnet = Telnet::default();
            for (at, byte) in whole.iter().enumerate() {
                telnet.filter(&mut [*byte], &mut Vec::new());
                assert_eq!(telnet.is_amid_command(), at + 1 < whole.len(), "{whole:?} at {at}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

        #[test]
        fn text_and_answers_are_as_the_slow_truth_has_them(
            input in proptest::collection::vec(prop_oneof![
                3 => Just(IAC),
                4 => prop_oneof![Just(SE), Just(SB), Just(WILL), Just(WONT), Just(DO), Just(DONT)],
                2 => prop_oneof![Just(b'\r'), Just(0), Just(b'\n')],
                1 => any::<u8>(),
            ], 0..40),
            cut in 0..40_usize,
        ) {
            let mut telnet = Telnet::default();
            let (mut text, mut answers) = (Vec::new(), Vec::new());
            let (first, second) = input.split_at(cut.min(input.len()));
            for read in [first, second] {
                text.extend_from_slice(telnet.filter(&mut read.to_vec(), &mut answers));
            }
            let truth = guess::telnet(&input);
            prop_assert_eq!(&text, &truth.text);
            prop_assert_eq!(&answers, &truth.answers);
            prop_assert_eq!(telnet.is_amid_command(), truth.is_amid_command);
            prop_assert!(text.len() + answers.len() <= input.len());
        }
    }
}
