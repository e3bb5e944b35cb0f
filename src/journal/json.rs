//! An event as an object of JSON in one line: `{"time":"...","level":"INFO","message":"...","who":"..."}`.
//!
//! All of it is printable: what is not is escaped as JSON has it (`\u202e`), beyond what JSON asks for, so that the line does no harm
//! to a terminal either.

use std::fmt::{self, Debug, Display, Write};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// The format.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        write!(out, "{{\"time\":\"{time}\",\"level\":\"{}\"", event.metadata().level())?;
        let mut fields = Fields { out: &mut out, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writeln!(out, "}}")
    }
}

/// Writes one member after another.
struct Fields<'a, W> {
    out: &'a mut W,
    result: fmt::Result,
}

impl<W: Write> Fields<'_, W> {
    fn add(&mut self, field: &Field, value: impl FnOnce(&mut W) -> fmt::Result) {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        self.result = self
            .result
            .and_then(|()| self.out.write_char(','))
            .and_then(|()| quoted(self.out, name))
            .and_then(|()| self.out.write_char(':'))
            .and_then(|()| value(self.out));
    }
}

impl<W: Write> Visit for Fields<'_, W> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |out| write!(out, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |out| write!(out, "{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.add(field, |out| write!(out, "{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.add(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |out| write!(out, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |out| quoted(out, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, |out| quoted(out, format_args!("{value:?}")));
    }
}

/// A string of JSON.
fn quoted(out: &mut impl Write, value: impl Display) -> fmt::Result {
    struct Escaping<'a, W>(&'a mut W);

    impl<W: Write> Write for Escaping<'_, W> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for character in text.chars() {
                match character {
                    '"' | '\\' => write!(self.0, "\\{character}")?,
                    ' '..='~' => self.0.write_char(character)?,
                    // What Rust would show as it is.
                    _ if character.escape_debug().len() == 1 => self.0.write_char(character)?,
                    _ => {
                        for unit in character.encode_utf16(&mut [0; 2]) {
                            write!(self.0, "\\u{unit:04x}")?;
                        }
                    }
                }
            }
            Ok(())
        }
    }

    out.write_char('"')?;
    write!(Escaping(out), "{value}")?;
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_json_and_printable() {
        for (text, expected) in [
            ("plain 欢迎 é", r#""plain 欢迎 é""#),
            ("a\"b\\c/", r#""a\"b\\c/""#),
            ("a\n\u{1b}[2J\t\u{7f}", r#""a\u000a\u001b[2J\u0009\u007f""#),
            ("\u{202e}\u{2028}\u{9b}\u{e0001}", r#""\u202e\u2028\u009b\udb40\udc01""#),
            ("", r#""""#),
        ] {
            let mut out = String::new();
            quoted(&mut out, text).expect("a string takes everything");
            assert_eq!(out, expected);
        }
    }
}
