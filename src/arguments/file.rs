//! The configuration file: TOML with the options' own names.
//!
//! There is no second list of options. A file says for each what its environment variable would: a string, a number, `true` or
//! `false`, or a list, which is its parts with commas between. That text is checked by the option's own parser and then
//! becomes its default, so that the environment and the command line win over it by clap's own rule.

use std::{error::Error, ops::Range, path::Path};

use clap::{
    Arg, ArgAction, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
use toml::de::{DeTable, DeValue};

use super::settings::file_name;

/// What a file has for an option.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// Clap's name of the option.
    pub(super) id: String,
    pub(super) text: String,
}

/// The values that the file at `path` has for the options of `command`.
///
/// # Errors
///
/// All mistakes of it, each in one line with its place.
pub(super) fn load(path: &Path, command: &Command) -> Result<Vec<Found>, Vec<String>> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| vec![format!("cannot read {shown}: {error}")])?;
    let text = String::from_utf8(text).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        vec![format!("{shown}:{}: it is not UTF-8", Place::behind(&String::from_utf8_lossy(valid)))]
    })?;
    parse(&text, command).map_err(|mistakes| {
        let tell = |Mistake { at, message }| format!("{shown}:{}: {message}", Place::behind(&text[..at]));
        mistakes.into_iter().map(tell).collect()
    })
}

/// Something wrong, and the byte at which it begins.
#[derive(Debug, PartialEq)]
struct Mistake {
    at: usize,
    message: String,
}

/// A line and a column, in characters, both counted from 1.
struct Place(usize, usize);

impl Place {
    /// The place of what follows `text`.
    fn behind(text: &str) -> Self {
        let line = text.rsplit('\n').next().unwrap_or_default();
        Self(text.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.0, self.1)
    }
}

fn parse(text: &str, command: &Command) -> Result<Vec<Found>, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut found = Vec::new();
    let mut mistakes: Vec<Mistake> = errors
        .iter()
        .map(|error| Mistake { at: error.span().map_or(0, |span| span.start), message: one_line(error.message()) })
        .collect();
    // What is left of a broken line has no meaning.
    let broken: Vec<usize> = mistakes.iter().map(|mistake| line_of(text, mistake.at)).collect();
    let is_broken = |span: &Range<usize>| broken.contains(&line_of(text, span.start));
    for (name, value) in table.get_ref() {
        if is_broken(&name.span()) {
            continue;
        }
        let name_text = name.get_ref();
        let option = command.get_arguments().find(|option| file_name(option) == Some(name_text));
        let Some(option) = option else {
            mistakes.push(Mistake { at: name.span().start, message: unknown(name_text, command) });
            continue;
        };
        match text_of(value.get_ref(), option).and_then(|text| check(text, option)) {
            Ok(text) => found.push(Found { id: option.get_id().to_string(), text }),
            Err(message) => {
                mistakes.push(Mistake { at: value.span().start, message: format!("{name_text}: {message}") });
            }
        }
    }
    if mistakes.is_empty() {
        return Ok(found);
    }
    mistakes.sort_by_key(|mistake| mistake.at);
    Err(mistakes)
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

fn unknown(name: &str, command: &Command) -> String {
    let alike = name.replace('_', "-").to_lowercase();
    match command.get_arguments().find(|option| file_name(option) == Some(&alike)) {
        Some(_) => format!("there is no option `{name}`, but `{alike}`"),
        None => format!("there is no option `{name}`"),
    }
}

/// As the environment would have it.
fn text_of(value: &DeValue<'_>, option: &Arg) -> Result<String, String> {
    match value {
        DeValue::Boolean(is_set) if is_flag(option) => Ok(is_set.to_string()),
        _ if is_flag(option) => Err("it must be true or false".into()),
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().into()),
        DeValue::Array(parts) => {
            let texts: Result<Vec<_>, _> = parts.iter().map(|part| part_of(part.get_ref())).collect();
            Ok(texts?.join(","))
        }
        other => Err(format!("it must be a string, a whole number or a list of strings, not {}", kind(other))),
    }
}

fn part_of(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        // It would come apart.
        DeValue::String(text) if text.contains(',') => Err(format!("a part of a list has no commas, as `{text}` has")),
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(format!("a list has strings in it, not {}", kind(other))),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "such a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn is_flag(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

/// The text, if the option's own parser takes it.
fn check(text: String, option: &Arg) -> Result<String, String> {
    if is_flag(option) {
        return Ok(text);
    }
    let name = option.get_long().expect("only options with a long name are found");
    // Alone, and deaf to the environment: only this value is judged.
    let alone = Command::new("value").no_binary_name(true).disable_help_flag(true);
    let alone = alone.arg(option.clone().env(None::<&str>).required(false));
    match alone.try_get_matches_from([format!("--{name}={text}")]) {
        Ok(_) => Ok(text),
        Err(error) => Err(reason(&error, &text)),
    }
}

/// What clap would say, in one line and without the option's name.
fn reason(error: &clap::Error, text: &str) -> String {
    let words = |kind| match error.get(kind) {
        Some(ContextValue::Strings(words)) => words.join(", "),
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    };
    let value = match words(ContextKind::InvalidValue) {
        value if value.is_empty() => text.to_owned(),
        value => value,
    };
    let why = match (error.kind(), error.source()) {
        (_, Some(source)) => source.to_string(),
        (ErrorKind::InvalidValue, None) => format!("it can be {}", words(ContextKind::ValidValue)),
        (_, None) => one_line(&error.to_string()),
    };
    format!("bad value `{value}`: {}", one_line(&why))
}

/// A message without line ends, as each is told in one line.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::arguments::CommandLine;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, Vec<String>> {
        let command = CommandLine::command();
        let serve = command.find_subcommand("serve").expect("there is one");
        let found = parse(text, serve).map_err(|mistakes| {
            let tell = |Mistake { at, message }| format!("{}: {message}", Place::behind(&text[..at]));
            mistakes.into_iter().map(tell).collect::<Vec<_>>()
        })?;
        Ok(found.into_iter().map(|Found { id, text }| (id, text)).collect())
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(id, text)| (id.to_string(), text.to_string())).collect();
        assert_eq!(parsed(text), Ok(expected), "{text}");
    }

    #[test]
    fn values_are_what_the_environment_would_hold() {
        check("", &[]);
        check("line-max = \"4KiB\"", &[("line_max", "4KiB")]);
        check("line-max = 4096 # bytes", &[("line_max", "4096")]);
        check("listen = [\"127.0.0.1:1\", \"[::1]:2\"]", &[("listen", "127.0.0.1:1,[::1]:2")]);
        check("listen = \"127.0.0.1:1,[::1]:2\"", &[("listen", "127.0.0.1:1,[::1]:2")]);
        check("trusted = [\"10.0.0.0/8\",\n \"::1\"]", &[("trusted", "10.0.0.0/8,::1")]);
        check(
            "trusted = \"none\"\nplain = true\nraw = false",
            &[("plain", "true"), ("raw", "false"), ("trusted", "none")],
        );
    }

    /// All of them, each with its place.
    fn check_refused(text: &str, expected: &[&str]) {
        assert_eq!(parsed(text).expect_err(text), expected, "{text}");
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_column() {
        check_refused(
            "line-max = \"64KX\"\nlang = \"fr\"\n\nflood=\"off\"\n  frob = 1\nline_deadline = \"1s\"\nstall = \"0\"\n",
            &[
                "1:12: line-max: bad value `64KX`: a size is a number of bytes, or one with a unit, as `64KiB`",
                "2:8: lang: bad value `fr`: it can be zh, en",
                "5:3: there is no option `frob`",
                "6:1: there is no option `line_deadline`, but `line-deadline`",
                "7:9: stall: bad value `0`: it must be more than 0; `forever` means no limit",
            ],
        );
        check_refused(
            "listen = [\"127.0.0.1:1\", \"nowhere\"]",
            &["1:10: listen: bad value `nowhere`: a port is missing, as in `nowhere:8000`"],
        );
        check_refused("欢迎 = 1", &["1:1: invalid unquoted key, expected letters, numbers, `-`, `_`"]);
    }

    #[test]
    fn kinds_that_no_option_has_are_refused() {
        check_refused("plain = \"yes\"", &["1:9: plain: it must be true or false"]);
        check_refused(
            "line-max = 1.5",
            &["1:12: line-max: it must be a string, a whole number or a list of strings, not a fraction"],
        );
        check_refused(
            "line-max = 0x10",
            &["1:12: line-max: it must be a string, a whole number or a list of strings, not such a number"],
        );
        check_refused("[serve]\nplain = true", &["1:2: there is no option `serve`"]);
        check_refused("listen = [1]", &["1:10: listen: a list has strings in it, not such a number"]);
        check_refused("listen = [\"a:1,b:2\"]", &["1:10: listen: a part of a list has no commas, as `a:1,b:2` has"]);
        check_refused("max-connections = -1", &["1:19: max-connections: bad value `-1`: it must be a whole number"]);
    }

    #[test]
    fn options_about_options_are_not_for_a_file() {
        for name in ["config", "print-config", "check-config", "help"] {
            check_refused(&format!("{name} = true"), &[&format!("1:1: there is no option `{name}`")]);
        }
    }

    #[test]
    fn broken_line_hides_no_other_mistake() {
        let mistakes = parsed("plain = \nlang = \"fr\"\nlang = \"en\"\n").expect_err("it is broken");
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert!(mistakes[0].starts_with("1:"), "{mistakes:?}");
        assert!(mistakes.iter().any(|mistake| mistake.contains("`fr`")), "{mistakes:?}");
        assert!(
            mistakes.iter().any(|mistake| mistake.starts_with("3:") && mistake.contains("duplicate")),
            "{mistakes:?}"
        );
    }
}
