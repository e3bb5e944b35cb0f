//! The options of `unisono connect`, and the client that they ask for.

use clap::{Args, builder::BoolishValueParser};
use unisono::client::{Options, Sending};

use super::values::{Address, name};

/// A client, as asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Connect {
    pub(crate) address: Address,
    /// All but the printing, which depends on what stdout is.
    pub(crate) options: Options,
}

pub(super) const CONNECT_HELP: &str = "\
A line that begins with `/` is a command; `//` at its beginning says a line with one. On a terminal, control \
characters from the server are made harmless.

Every option can also be set as an environment variable, for example UNISONO_ADDR=chat.example.org:8000 or \
UNISONO_NAME=bell; the command line wins.

The end of stdin closes only the sending side: what comes until the server closes is still printed, and the exit code \
is 0. Other exit codes: 1 the server is gone or something broke, 2 bad options.";

#[derive(Args, Debug)]
pub(super) struct ConnectWords {
    /// The server, HOST:PORT
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:8000", env = "UNISONO_ADDR", hide_env = true)]
    address: Address,
    /// Take this name before anything is said
    #[arg(long, value_parser = name, env = "UNISONO_NAME", hide_env = true)]
    name: Option<String>,
    /// Say every line as it is: no line is a command, as a leading / is doubled
    #[arg(long, value_parser = BoolishValueParser::new(), env = "UNISONO_VERBATIM", hide_env = true)]
    verbatim: bool,
    /// Leave stdin alone, only print
    #[arg(long, value_parser = BoolishValueParser::new(), env = "UNISONO_RECEIVE_ONLY", hide_env = true)]
    receive_only: bool,
}

pub(super) fn meaning(words: ConnectWords) -> Connect {
    let sending = if words.receive_only {
        Sending::Nothing
    } else if words.verbatim {
        Sending::Verbatim
    } else {
        Sending::Commands
    };
    Connect { address: words.address, options: Options { name: words.name, sending, ..Options::default() } }
}
