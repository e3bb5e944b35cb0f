//! The options of `unisono connect`, and the client that they ask for.

#[cfg(feature = "tls")]
use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};
use unisono::client::{Options, Sending};

use super::values::{Endpoint, name};

/// A client, as asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Connect {
    pub(crate) address: Endpoint,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Secure>,
    /// All but the printing, which depends on what stdout is.
    pub(crate) options: Options,
}

/// A client within TLS, as asked for: files are not read yet.
#[cfg(feature = "tls")]
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Secure {
    /// None: what the system trusts.
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) identity: Option<unisono::tls::Identity>,
    /// What the server's certificate must have. None: the host, as it was typed.
    pub(crate) server_name: Option<String>,
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
    /// The server, HOST:PORT or unix:PATH
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:8000", env = "UNISONO_ADDR", hide_env = true)]
    address: Endpoint,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: TlsWords,
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

#[cfg(feature = "tls")]
#[derive(Args, Debug)]
struct TlsWords {
    /// Within TLS
    #[arg(long, value_parser = BoolishValueParser::new(), env = "UNISONO_TLS", hide_env = true)]
    tls: bool,
    /// What the server has to prove itself by, in PEM [default: what the system trusts]
    #[arg(long, value_name = "FILE", requires = "tls", env = "UNISONO_CA", hide_env = true)]
    ca: Option<PathBuf>,
    /// The client's own certificate, in PEM, if the server wants one
    #[arg(long, value_name = "FILE", requires_all = ["tls", "key"], env = "UNISONO_CERT", hide_env = true)]
    cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls", "cert"], env = "UNISONO_KEY", hide_env = true)]
    key: Option<PathBuf>,
    /// What the server is called in its certificate [default: its host]
    #[arg(long, value_name = "NAME", requires = "tls", env = "UNISONO_SERVER_NAME", hide_env = true)]
    server_name: Option<String>,
}

#[cfg(feature = "tls")]
impl TlsWords {
    fn meaning(self) -> Option<Secure> {
        let Self { tls, ca: authorities, cert, key, server_name } = self;
        let identity = cert.zip(key).map(|(certificate, key)| unisono::tls::Identity { certificate, key });
        tls.then_some(Secure { authorities, identity, server_name })
    }
}

pub(super) fn meaning(words: ConnectWords) -> Connect {
    let sending = if words.receive_only {
        Sending::Nothing
    } else if words.verbatim {
        Sending::Verbatim
    } else {
        Sending::Commands
    };
    Connect {
        address: words.address,
        #[cfg(feature = "tls")]
        tls: words.tls.meaning(),
        options: Options { name: words.name, sending, ..Options::default() },
    }
}
