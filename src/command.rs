//! A line to a [`Command`]: what a member asks of the server, or says to the room.
//!
//! The one idea: only the very first byte decides. A line that begins with `/` is the server's, every other line is said as
//! it is, blanks and all; and whatever text there is can be said, by doubling the `/` it begins with. When in doubt a line
//! is [`Unknown`](Command::Unknown): the member is told and can try again, while what was said cannot be taken back.

/// What one line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// The text is for the room.
    Say(&'a [u8]),
    /// The member wants this name, of which nothing is known yet but that no blank is around it. Empty if none was given.
    Name(&'a [u8]),
    /// Who is here?
    Who,
    /// Which commands are there?
    Help,
    /// The member wants to leave.
    Quit,
    /// A line for the server that it does not understand.
    Unknown,
}

/// Reads a line, which has no line end any more.
///
/// - `//x` says `/x`, and `//` says `/`. One `/` is taken away, never more.
/// - The word of a command ends at the first blank and may be in capitals: telephones like to begin with one.
/// - `/name` takes all that follows, without blanks around it. That a name has no blank inside is for [`Name`] to say.
/// - `/who`, `/help` and `/quit` take nothing. With something behind them they are unknown rather than obeyed: "/quit
///   smoking, he said" is not a farewell. Blanks behind them are nothing.
/// - A lone `/`, and a blank after it, are unknown. A blank before it makes a line to be said.
///
/// A blank is an ASCII space, tab, form feed or carriage return.
///
/// [`Name`]: crate::name::Name
#[must_use]
pub(crate) fn parse(text: &[u8]) -> Command<'_> {
    let Some(asked) = text.strip_prefix(b"/") else {
        return Command::Say(text);
    };
    if asked.starts_with(b"/") {
        return Command::Say(asked);
    }
    let word_end = asked.iter().position(u8::is_ascii_whitespace).unwrap_or(asked.len());
    let (word, argument) = asked.split_at(word_end);
    let argument = argument.trim_ascii();
    let is = |command: &str| word.eq_ignore_ascii_case(command.as_bytes());
    match argument {
        _ if is("name") => Command::Name(argument),
        b"" if is("who") => Command::Who,
        b"" if is("help") => Command::Help,
        b"" if is("quit") => Command::Quit,
        _ => Command::Unknown,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::command;

    #[test]
    fn every_line_has_one_meaning() {
        fn check(text: &str, expected: Command<'_>) {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
            command::check(text.as_bytes());
        }
        check("", Command::Say(b""));
        check("hello", Command::Say(b"hello"));
        check("a/b", Command::Say(b"a/b"));
        check(" /who", Command::Say(b" /who"));
        check("\t/who", Command::Say(b"\t/who"));
        check("//", Command::Say(b"/"));
        check("//who", Command::Say(b"/who"));
        check("///", Command::Say(b"//"));
        check("// x ", Command::Say(b"/ x "));

        check("/name bob", Command::Name(b"bob"));
        check("/Name bob", Command::Name(b"bob"));
        check("/name\tbob\r", Command::Name(b"bob"));
        check("/name   bob  ", Command::Name(b"bob"));
        check("/name bob the builder", Command::Name(b"bob the builder"));
        check("/name", Command::Name(b""));
        check("/name ", Command::Name(b""));
        check("/name /who", Command::Name(b"/who"));
        check("/name 爱丽丝", Command::Name("爱丽丝".as_bytes()));

        check("/who", Command::Who);
        check("/WHO", Command::Who);
        check("/who ", Command::Who);
        check("/help", Command::Help);
        check("/quit", Command::Quit);
        check("/QUIT\t", Command::Quit);

        check("/", Command::Unknown);
        check("/ ", Command::Unknown);
        check("/ who", Command::Unknown);
        check("/who?", Command::Unknown);
        check("/who bob", Command::Unknown);
        check("/help name", Command::Unknown);
        check("/quit smoking, he said", Command::Unknown);
        check("/names", Command::Unknown);
        check("/nam", Command::Unknown);
        check("/name\u{3000}bob", Command::Unknown);
        check("/\u{0}", Command::Unknown);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_line_means_what_the_slow_truth_says(
            text: Vec<u8>,
            asked in "/([ \t]?(NAME|name|who|WHO|quit|help|[a-z]{0,5})[ \t\r\x0C\x0B]{0,3}){0,3}",
        ) {
            command::check(&text);
            command::check(asked.as_bytes());
        }

        #[test]
        fn nothing_is_said_that_begins_with_one_slash(text in "/([a-z]{0,5}|who|name|quit|help)([^/].*)?") {
            prop_assert!(!matches!(parse(text.as_bytes()), Command::Say(_)));
        }
    }
}
