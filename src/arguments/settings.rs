//! The options in force, by name and as they are written: what a configuration file would have to say.

use std::fmt::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};

/// Every option that a file can set, in the order of the help, with its value.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Settings(Vec<Setting>);

#[derive(Clone, Debug, PartialEq)]
struct Setting {
    name: String,
    help: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Unset,
    Flag(bool),
    Text(String),
    List(Vec<String>),
}

/// Options about options, which no file can set.
const ABOUT_OPTIONS: [&str; 5] = ["config", "print-config", "check-config", "help", "version"];

/// The name by which a file sets this option.
pub(super) fn file_name(option: &Arg) -> Option<&str> {
    option.get_long().filter(|name| !ABOUT_OPTIONS.contains(name))
}

impl Settings {
    /// Those that `command` was given, by whatever way.
    pub(super) fn of(command: &Command, matches: &ArgMatches) -> Self {
        let settings = command.get_arguments().filter_map(|option| {
            let name = file_name(option)?.to_owned();
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            Some(Setting { name, help, value: value(option, matches) })
        });
        Self(settings.collect())
    }

    /// The names of those that are otherwise in `others`, which are of the same options in the same order.
    pub(crate) fn differing(&self, others: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&others.0).inspect(|(ours, theirs)| assert_eq!(ours.name, theirs.name));
        pairs.filter(|(ours, theirs)| ours.value != theirs.value).map(|(ours, _)| ours.name.clone()).collect()
    }

    /// Takes one value over from `others`.
    pub(crate) fn take(&mut self, name: &str, others: &Self) {
        let theirs = others.0.iter().find(|setting| setting.name == name);
        if let (Some(ours), Some(theirs)) = (self.0.iter_mut().find(|setting| setting.name == name), theirs) {
            ours.clone_from(theirs);
        }
    }
}

fn value(option: &Arg, matches: &ArgMatches) -> Value {
    let id = option.get_id().as_str();
    if matches!(option.get_action(), ArgAction::SetTrue) {
        return Value::Flag(matches.get_flag(id));
    }
    let Some(raw) = matches.get_raw(id) else { return Value::Unset };
    let mut words: Vec<String> = raw.map(|word| word.to_string_lossy().into_owned()).collect();
    match (option.get_action(), words.pop()) {
        (ArgAction::Append, last) => {
            words.extend(last);
            Value::List(words)
        }
        (_, last) => last.map_or(Value::Unset, Value::Text),
    }
}

/// As a file that sets them so.
impl fmt::Display for Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Setting { name, help, value }) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_char('\n')?;
            }
            for line in help.lines() {
                writeln!(out, "# {line}")?;
            }
            match value {
                Value::Unset => writeln!(out, "# {name} is not set")?,
                Value::Flag(is_set) => writeln!(out, "{name} = {is_set}")?,
                Value::Text(text) => writeln!(out, "{name} = {}", word(text))?,
                Value::List(texts) => {
                    let words: Vec<_> = texts.iter().map(|text| word(text).to_string()).collect();
                    writeln!(out, "{name} = [{}]", words.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

/// A number where it is written as one, else a string.
fn word(text: &str) -> toml::Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => number.into(),
        _ => text.into(),
    }
}
