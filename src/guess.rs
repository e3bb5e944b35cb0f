//! What a connection speaks, guessed from what comes first of it: lines, telnet, or a protocol that is for some other port.
//!
//! The one idea: only the first line is looked at, byte by byte, and at its end at the latest the guess is made, before
//! anything of it is said. So a browser that was sent here by a page cannot speak in the room through the body of its
//! request; and a request that is pasted later is a line as any other.
//!
//! - A byte IAC, which no text in UTF-8 has: *telnet*, whose commands are taken out by [`Telnet`](crate::telnet::Telnet).
//! - The header of a TLS record that begins a handshake, of any version (RFC 8446, section 5.1): *TLS*.
//! - A line `VERB TARGET HTTP/x.y` (RFC 9112, section 3), by which the preface of HTTP/2 was made to be known too (RFC 9113,
//!   section 3.4): *HTTP*.

use std::fmt;
use std::io::Write;
use std::ops::ControlFlow::{self, Break, Continue};

use crate::notice::{Lang, Notice};
use crate::telnet::IAC;

/// A protocol that is not spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// A request, or what pretends to be one.
    Http,
    /// The beginning of a handshake.
    Tls,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guessed {
    /// Lines, as all that is nothing else.
    Lines,
    /// Lines among the commands of telnet.
    Telnet,
    /// Something that we do not speak.
    Foreign(Foreign),
}

/// What may still come of a first line, as far as it has come.
///
/// Law: the guess depends on the bytes alone, not on how they were cut into reads. It is made by the first line feed at the
/// latest, and needs no memory of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Guess {
    /// Nothing has come.
    #[default]
    Nothing,
    /// So many bytes of a record's header.
    Record(u8),
    /// Some of a verb.
    Verb,
    /// A verb and a space.
    VerbEnded,
    /// Some of a target behind that.
    Target,
    /// Behind a target and a space, so many bytes of a version.
    Version(u8),
    /// A whole request line, and a carriage return.
    Return,
}

/// A version of HTTP: `0` stands for any digit.
const VERSION: [u8; 8] = *b"HTTP/0.0";

/// `VERSION` has come whole.
const WHOLE: u8 = 8;

const _: () = assert!(VERSION.len() == WHOLE as usize);

impl Guess {
    /// Takes in what came next: the guess, and how many of these bytes made it certain. `None`: it is not certain yet.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Option<(Guessed, usize)> {
        for (at, byte) in bytes.iter().enumerate() {
            match self.step(*byte) {
                Continue(next) => *self = next,
                Break(guessed) => return Some((guessed, at + 1)),
            }
        }
        None
    }

    /// At the clean end of input, which ends a line as a line feed does: what else than lines it has spoken.
    pub(crate) fn end(self) -> Option<Foreign> {
        matches!(self, Self::Version(WHOLE) | Self::Return).then_some(Foreign::Http)
    }

    fn step(self, byte: u8) -> ControlFlow<Guessed, Self> {
        match (self, byte) {
            (Self::Nothing, IAC) => Break(Guessed::Telnet),
            // Content type 22, handshake; then a version, of which the first byte has been 3 since SSL 3.0.
            (Self::Nothing, 0x16) => Continue(Self::Record(1)),
            (Self::Record(1), 0x03) => Continue(Self::Record(2)),
            (Self::Record(2), 0x00..=0x04) => Break(Guessed::Foreign(Foreign::Tls)),
            // All registered methods are of these, and pages can make browsers send no others without asking first.
            (Self::Nothing | Self::Verb, b'A'..=b'Z' | b'-') => Continue(Self::Verb),
            (Self::Verb, b' ') => Continue(Self::VerbEnded),
            (Self::Target, b' ') => Continue(Self::Version(0)),
            (Self::VerbEnded | Self::Target, byte) if byte != b' ' && byte != b'\n' => Continue(Self::Target),
            (Self::Version(WHOLE), b'\r') => Continue(Self::Return),
            (Self::Version(WHOLE) | Self::Return, b'\n') => Break(Guessed::Foreign(Foreign::Http)),
            (Self::Version(come @ 0..WHOLE), byte) if fits(VERSION[usize::from(come)], byte) => {
                Continue(Self::Version(come + 1))
            }
            _ => Break(Guessed::Lines),
        }
    }
}

fn fits(expected: u8, byte: u8) -> bool {
    if expected == b'0' { byte.is_ascii_digit() } else { byte == expected }
}

impl Foreign {
    /// Appends the one answer that there is: what stands here instead.
    pub(crate) fn write_answer(self, lang: Lang, out: &mut Vec<u8>) {
        match self {
            Self::Http => {
                let mut body = Vec::new();
                Notice::Http.write(lang, &mut body);
                // No date: a server that has no clock must not send one (RFC 9110, section 6.6.1).
                let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n";
                let end = "Connection: close\r\n\r\n";
                write!(out, "{head}Content-Length: {}\r\n{end}", body.len()).expect("a vector takes everything");
                out.append(&mut body);
            }
            Self::Tls => Notice::Tls.write(lang, out),
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::guess::spoken;
    use crate::session::Wire;

    const HTTP: Option<Foreign> = Some(Foreign::Http);
    const TLS: Option<Foreign> = Some(Foreign::Tls);

    /// The guess after `input`, and how much of it was needed. Not certain, or at the end: nothing is foreign.
    fn foreign(input: &[u8]) -> (Option<Foreign>, usize) {
        let mut guess = Guess::default();
        match guess.hear(input) {
            Some((Guessed::Foreign(protocol), bytes)) => (Some(protocol), bytes),
            Some(_) => (None, 0),
            None => (guess.end(), input.len()),
        }
    }

    /// A line has this meaning, however it ends; and nothing behind it matters.
    fn check_line(line: &str, expected: Option<Foreign>) {
        for end in ["", "\n", "\r", "\r\n", "\nHost: x\r\n\r\n", "\r\nGET / HTTP/1.1\n"] {
            let input = format!("{line}{end}");
            let (protocol, bytes) = foreign(input.as_bytes());
            assert_eq!(protocol, expected, "{input:?}");
            if protocol.is_some() {
                let line_end = input.find('\n').map_or(input.len(), |at| at + 1);
                assert_eq!(bytes, line_end, "{input:?} is certain at the end of its line");
            }
        }
    }

    #[test]
    fn request_line_is_http() {
        for line in [
            "GET / HTTP/1.1",
            "POST /say?x=1 HTTP/1.0",
            "OPTIONS * HTTP/1.1",
            "CONNECT example.org:443 HTTP/1.1",
            "VERSION-CONTROL http://example.org/ HTTP/1.1",
            "PRI * HTTP/2.0",
            "X \u{1b}\r\u{0} HTTP/9.9",
        ] {
            check_line(line, HTTP);
        }
    }

    #[test]
    fn what_is_less_or_more_than_a_request_line_is_said() {
        for line in [
            "",
            " ",
            "hello",
            "GET",
            "GET /",
            "GET / HTTP",
            "GET / HTTP/1",
            "GET / HTTP/1.",
            "GET / HTTP/1.1 ",
            "GET / HTTP/1.1x",
            "GET / HTTP/11",
            "GET / http/1.1",
            "GET / HTTPS/1.1",
            "GET  HTTP/1.1",
            "GET  / HTTP/1.1",
            " GET / HTTP/1.1",
            "get / HTTP/1.1",
            "I think HTTP/1.1 is fine",
            "We speak HTTP/1.1 here",
            "OPTIONS sip:nm SIP/2.0",
            "\u{feff}GET / HTTP/1.1",
            "/GET / HTTP/1.1",
        ] {
            check_line(line, None);
        }
    }

    #[test]
    fn carriage_return_before_the_last_is_no_part_of_a_version() {
        assert_eq!(foreign(b"GET / HTTP/1.1\r\r\n").0, None);
        assert_eq!(foreign(b"GET /\r HTTP/1.1\r\n").0, HTTP);
    }

    #[test]
    fn record_of_a_handshake_is_tls_of_any_version() {
        for minor in 0..=0xFF {
            let expected = if minor <= 4 { (TLS, 3) } else { (None, 0) };
            assert_eq!(foreign(&[0x16, 0x03, minor, 0x02, 0x00, 0x01]), expected, "{minor}");
        }
        for bytes in [&b"\x16"[..], b"\x16\x03", b"\x16\x04\x01", b"\x15\x03\x01", b"x\x16\x03\x01", b"\x16\n\x03\x01"]
        {
            assert_eq!(foreign(bytes).0, None, "{bytes:?}");
        }
    }

    #[test]
    fn only_a_first_byte_makes_it_telnet() {
        assert_eq!(Guess::default().hear(b"\xFF"), Some((Guessed::Telnet, 1)));
        assert_eq!(Guess::default().hear(b"a\xFF"), Some((Guessed::Lines, 1)));
        assert_eq!(Guess::default().hear(b"GET \xFF"), None);
    }

    #[test]
    fn log_calls_what_is_foreign_by_its_name() {
        assert_eq!([Foreign::Http, Foreign::Tls].map(|protocol| protocol.to_string()), ["HTTP", "TLS"]);
    }

    #[test]
    fn answer_to_http_is_as_long_as_it_says() {
        for lang in [Lang::Zh, Lang::En] {
            let mut answer = b"before".to_vec();
            Foreign::Http.write_answer(lang, &mut answer);
            let answer = String::from_utf8(answer).expect("the server speaks UTF-8");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.starts_with("beforeHTTP/1.1 400 Bad Request\r\n"), "{head:?}");
            let fields: Vec<&str> = head.split("\r\n").skip(1).collect();
            let length = format!("Content-Length: {}", body.len());
            assert_eq!(fields, ["Content-Type: text/plain; charset=utf-8", &length, "Connection: close"]);
            assert_eq!(body.matches('\n').count(), 1);
            assert!(body.starts_with("-- ") && body.ends_with('\n'), "{body:?} is a notice");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

        #[test]
        fn guess_is_as_the_slow_truth_has_it_however_it_comes(
            input in "(GET|P-|[A-Z]|\u{16}\u{3})?( ?[ /x]{0,2} ?(HTTP/[0-2.]{0,4})?[\r\n\u{1}]{0,3}){0,2}",
            cut in 0..40_usize,
        ) {
            let input = input.as_bytes();
            let (first, second) = input.split_at(cut.min(input.len()));
            let mut guess = Guess::default();
            let guessed = guess.hear(first).or_else(|| guess.hear(second));
            let protocol = match guessed {
                Some((Guessed::Foreign(protocol), _)) => Some(protocol),
                Some(_) => None,
                None => guess.end(),
            };
            prop_assert_eq!(protocol, spoken(input, true, Wire::default()).foreign);
        }
    }
}
