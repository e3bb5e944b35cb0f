//! The options of `unisono serve`, and the server that they ask for.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::BoolishValueParser};
use tracing::level_filters::LevelFilter;
use unisono::{
    Lang, Limits, Who, Wire,
    limits::{Flood, IpNet, Rate, SEND_BUFFER_BYTES},
};

use super::values::{
    Address, Endpoint, Prefixes, Size, Switch, announcements, connect_rate, count, flood, mode, prefixes, size, time,
    time_above_0, trusted, unix,
};
use crate::journal::Format;

/// A server, as asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Serve {
    /// Where to listen; with those within TLS at least one.
    pub(crate) listen: Vec<Endpoint>,
    /// The mode of the files of Unix sockets.
    pub(crate) unix_mode: u32,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsAsked>,
    /// Who says first for whom it relays.
    pub(crate) proxies: Vec<IpNet>,
    pub(crate) wire: Wire,
    /// They work together. `connections_max` is not set yet.
    pub(crate) limits: Limits,
    /// None: as many as the file limit carries.
    pub(crate) connections_max: Option<usize>,
    pub(crate) door: DoorAsked,
    /// Where administrators are answered.
    pub(crate) admin: Option<PathBuf>,
    pub(crate) log: LogAsked,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<Address>,
}

/// How the log shall be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LogAsked {
    pub(crate) format: Format,
    pub(crate) level: LevelFilter,
}

/// Where to listen within TLS, and by which files. They are not read yet.
#[cfg(feature = "tls")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TlsAsked {
    /// At least one.
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) files: unisono::tls::Files,
}

/// Who is let in, and what newcomers are told, as asked for: files are not read yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DoorAsked {
    /// Empty: everyone.
    pub(crate) allow: Vec<IpNet>,
    pub(crate) deny: Vec<IpNet>,
    pub(crate) motd: Option<PathBuf>,
    #[cfg(feature = "password")]
    pub(crate) passwords: Option<PathBuf>,
}

pub(super) const SERVE_HELP: &str = "\
SIZE is a number of bytes, or one with a unit: 64KiB, 4MiB.
TIME is a number with a unit: 500ms, 30s, 5min; or `forever`; or 0 where that makes sense.
RATE is how many at once and how many a second from then on: 20+2/s.
CIDR is an address and the length of a prefix: 10.0.0.0/8, fd00::/8; or one address: 192.0.2.7.

Every option can also be set as an environment variable, for example UNISONO_LINE_MAX=4KiB, \
UNISONO_PLAIN=true, UNISONO_LISTEN=127.0.0.1:8000,[::1]:8000, or stand in the --config file by its name; the \
command line wins over the environment, and that over the file.

SIGTERM or SIGINT ends the server within --grace, with exit code 0; a second one ends it at once, with 143 or 130. \
SIGHUP reads the file again and takes over what can change, or says why not. Other exit codes: 1 it could not run, 2 bad options.";

#[derive(Args, Debug)]
pub(super) struct ServeWords {
    /// Where to listen, HOST:PORT or unix:PATH; can be repeated [default: 127.0.0.1:8000, or nowhere with --tls-listen]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "UNISONO_LISTEN", hide_env = true)]
    listen: Vec<Endpoint>,
    /// Who may connect to Unix sockets: the mode of their files
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = mode)]
    #[arg(env = "UNISONO_UNIX_MODE", hide_env = true)]
    unix_mode: u32,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: TlsWords,
    /// Take a PROXY header, version 1 or 2, from these sources: CIDR,CIDR... [default: from nobody]
    #[arg(long, value_name = "CIDRS", value_parser = prefixes, env = "UNISONO_PROXY_FROM", hide_env = true)]
    proxy_from: Option<Prefixes>,
    /// The server's own language
    #[arg(long, default_value = "zh", env = "UNISONO_LANG", hide_env = true)]
    lang: LangWord,
    /// What members are called until they take a name: their address, or guest-1, guest-2, ...
    #[arg(long, default_value = "address", env = "UNISONO_WHO", hide_env = true)]
    who: WhoWord,
    /// Lines and nothing else: no commands and no names
    #[arg(long, value_parser = BoolishValueParser::new(), env = "UNISONO_PLAIN", hide_env = true)]
    plain: bool,
    /// Pass on control characters and invalid UTF-8, for trusted feeds
    #[arg(long, value_parser = BoolishValueParser::new(), env = "UNISONO_RAW", hide_env = true)]
    raw: bool,
    /// Longest line; a longer one is refused whole
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    #[arg(env = "UNISONO_LINE_MAX", hide_env = true)]
    line_max: usize,
    /// How much of the room is kept for slow readers
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    #[arg(env = "UNISONO_BACKLOG", hide_env = true)]
    backlog: usize,
    /// How long a reader a whole backlog behind may hold up the room before it misses lines; 0: not at all
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    #[arg(env = "UNISONO_PATIENCE", hide_env = true)]
    patience: Duration,
    /// Close a connection that takes nothing for so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time_above_0)]
    #[arg(env = "UNISONO_STALL", hide_env = true)]
    stall: Duration,
    /// How long a line may take from its first byte to its end
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time_above_0)]
    #[arg(env = "UNISONO_LINE_DEADLINE", hide_env = true)]
    line_deadline: Duration,
    /// Most connections at once [default: the limit of open files, less 32]
    #[arg(long, value_name = "N", value_parser = count, env = "UNISONO_MAX_CONNECTIONS", hide_env = true)]
    max_connections: Option<usize>,
    /// Most at once from one IPv4 address or IPv6 /64 [default: no limit]
    #[arg(long, value_name = "N", value_parser = count, env = "UNISONO_MAX_PER_IP", hide_env = true)]
    max_per_ip: Option<usize>,
    /// How fast a stranger may speak, in lines and in bytes, before it is slowed; or `off`
    #[arg(long, value_name = "RATE,RATE", default_value = "256+10/s,256KiB+64KiB/s", value_parser = flood)]
    #[arg(env = "UNISONO_FLOOD", hide_env = true)]
    flood: Switch<Flood>,
    /// How fast strangers may connect from one IPv4 address or IPv6 /64; or `off`
    #[arg(long, value_name = "RATE", default_value = "20+2/s", value_parser = connect_rate)]
    #[arg(env = "UNISONO_CONNECT_RATE", hide_env = true)]
    connect_rate: Switch<Rate>,
    /// Most arrivals and departures of strangers told by name in a second; others are counted in one line; or `off`
    #[arg(long, value_name = "N", default_value = "16", value_parser = announcements)]
    #[arg(env = "UNISONO_ANNOUNCEMENTS", hide_env = true)]
    announcements: Switch<usize>,
    /// Who is no stranger: CIDR,CIDR...; or `none`
    #[arg(long, value_name = "CIDRS", default_value = "127.0.0.0/8,::1", value_parser = trusted)]
    #[arg(env = "UNISONO_TRUSTED", hide_env = true)]
    trusted: Prefixes,
    /// Let in nobody else: CIDR,CIDR... [default: everyone]
    #[arg(long, value_name = "CIDRS", value_parser = prefixes, env = "UNISONO_ALLOW", hide_env = true)]
    allow: Option<Prefixes>,
    /// Let in none of these, though they be allowed: CIDR,CIDR...
    #[arg(long, value_name = "CIDRS", value_parser = prefixes, env = "UNISONO_DENY", hide_env = true)]
    deny: Option<Prefixes>,
    /// Tell newcomers what is in this file, at most 4 KiB
    #[arg(long, value_name = "FILE", env = "UNISONO_MOTD", hide_env = true)]
    motd: Option<PathBuf>,
    /// Ask newcomers for a password, of which a hash is in this file: one by `unisono hash-password` a line
    #[cfg(feature = "password")]
    #[arg(long, value_name = "FILE", env = "UNISONO_PASSWORD_FILE", hide_env = true)]
    password_file: Option<PathBuf>,
    /// Where administrators are answered, unix:PATH: root and the own user [default: nowhere]
    #[arg(long, value_name = "ADDR", value_parser = unix, env = "UNISONO_ADMIN", hide_env = true)]
    admin: Option<PathBuf>,
    /// How long the flush at the end may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    #[arg(env = "UNISONO_GRACE", hide_env = true)]
    grace: Duration,
    /// How the log looks: lines for people, or an object of JSON a line
    #[arg(long, default_value = "text", env = "UNISONO_LOG_FORMAT", hide_env = true)]
    log_format: FormatWord,
    /// What the log has: this and what is graver
    #[arg(long, default_value = "info", env = "UNISONO_LOG_LEVEL", hide_env = true)]
    log_level: LevelWord,
    /// Show numbers to Prometheus, at `http://ADDR/metrics`, best on loopback [default: none]
    #[cfg(feature = "metrics")]
    #[arg(long, value_name = "ADDR", env = "UNISONO_METRICS", hide_env = true)]
    metrics: Option<Address>,
    #[command(flatten)]
    pub(super) about: AboutWords,
}

#[cfg(feature = "tls")]
#[derive(Args, Debug)]
struct TlsWords {
    /// Where to listen within TLS, as --listen; can be repeated
    #[arg(id = "tls-listen", long = "tls-listen", value_name = "ADDR", value_delimiter = ',')]
    #[arg(env = "UNISONO_TLS_LISTEN", hide_env = true)]
    listen: Vec<Endpoint>,
    /// The certificate, in PEM, and those between it and the root
    #[arg(long = "tls-cert", value_name = "FILE", env = "UNISONO_TLS_CERT", hide_env = true)]
    cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long = "tls-key", value_name = "FILE", env = "UNISONO_TLS_KEY", hide_env = true)]
    key: Option<PathBuf>,
    /// Want a certificate of each client, by one of these in PEM: its name is the member's
    #[arg(long = "tls-client-ca", value_name = "FILE", env = "UNISONO_TLS_CLIENT_CA", hide_env = true)]
    client_ca: Option<PathBuf>,
}

#[cfg(feature = "tls")]
impl TlsWords {
    fn meaning(self) -> Result<Option<TlsAsked>, Fault> {
        let Self { listen, cert, key, client_ca: client_authorities } = self;
        match (listen.is_empty(), cert, key) {
            (false, Some(certificate), Some(key)) => {
                Ok(Some(TlsAsked { listen, files: unisono::tls::Files { certificate, key, client_authorities } }))
            }
            (false, ..) => Err(Fault::TlsFiles),
            (true, None, None) if client_authorities.is_none() => Ok(None),
            (true, ..) => Err(Fault::TlsListen),
        }
    }
}

/// Options about options: those that no file can set.
#[derive(Args, Debug)]
pub(super) struct AboutWords {
    /// A file that sets options, by their names: `line-max = "64KiB"`; SIGHUP reads it again
    #[arg(long, value_name = "FILE", env = "UNISONO_CONFIG", hide_env = true)]
    pub(super) config: Option<PathBuf>,
    /// Print the options in force as such a file, and end
    #[arg(long, value_parser = BoolishValueParser::new(), env = "UNISONO_PRINT_CONFIG", hide_env = true)]
    pub(super) print_config: bool,
    /// Check all options, and end: with exit code 0, or with 2 and each mistake in one line
    #[arg(long, value_parser = BoolishValueParser::new(), env = "UNISONO_CHECK_CONFIG", hide_env = true)]
    pub(super) check_config: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatWord {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LevelWord {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LangWord {
    Zh,
    En,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhoWord {
    Address,
    Guest,
}

/// What is wrong with options that are right one by one.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "--backlog {backlog_bytes}B is too small for --line-max {line_bytes_max}B: it must be at least {least}, \
         for 4 longest lines as they are stored and for 4 send buffers"
    )]
    Backlog { backlog_bytes: usize, line_bytes_max: usize, least: Size },
    #[error("{0}")]
    Limits(unisono::limits::Error),
    #[cfg(feature = "tls")]
    #[error("--tls-listen wants a certificate and its key: --tls-cert FILE --tls-key FILE")]
    TlsFiles,
    #[cfg(feature = "tls")]
    #[error("--tls-cert, --tls-key and --tls-client-ca are of no use without --tls-listen ADDR")]
    TlsListen,
}

pub(super) fn meaning(words: ServeWords) -> Result<Serve, Fault> {
    let mut limits = Limits {
        line_bytes_max: words.line_max,
        backlog_bytes: words.backlog,
        patience: words.patience,
        stall: words.stall,
        line_deadline: words.line_deadline,
        grace: words.grace,
        flood: words.flood.into(),
        connect_rate: words.connect_rate.into(),
        announcements: words.announcements.into(),
        trusted: words.trusted.0,
        ..Limits::default()
    };
    if let Some(connections) = words.max_per_ip {
        limits.per_ip_max = connections;
    }
    check(&limits)?;
    let lang = match words.lang {
        LangWord::Zh => Lang::Zh,
        LangWord::En => Lang::En,
    };
    let who = match words.who {
        WhoWord::Address => Who::Address,
        WhoWord::Guest => Who::Guest,
    };
    let listed = |prefixes: Option<Prefixes>| prefixes.map_or_else(Vec::new, |Prefixes(prefixes)| prefixes);
    #[cfg(feature = "tls")]
    let tls = words.tls.meaning()?;
    #[cfg(feature = "tls")]
    let is_elsewhere = tls.is_some();
    #[cfg(not(feature = "tls"))]
    let is_elsewhere = false;
    let listen = match words.listen {
        listen if listen.is_empty() && !is_elsewhere => vec![Endpoint::Network(Address::default())],
        listen => listen,
    };
    Ok(Serve {
        listen,
        unix_mode: words.unix_mode,
        #[cfg(feature = "tls")]
        tls,
        proxies: listed(words.proxy_from),
        wire: Wire { lang, plain: words.plain, raw: words.raw, who },
        limits,
        connections_max: words.max_connections,
        log: log_asked(words.log_format, words.log_level),
        #[cfg(feature = "metrics")]
        metrics: words.metrics,
        door: DoorAsked {
            allow: listed(words.allow),
            deny: listed(words.deny),
            motd: words.motd,
            #[cfg(feature = "password")]
            passwords: words.password_file,
        },
        admin: words.admin,
    })
}

fn log_asked(format: FormatWord, level: LevelWord) -> LogAsked {
    let format = match format {
        FormatWord::Text => Format::Text,
        FormatWord::Json => Format::Json,
    };
    let level = match level {
        LevelWord::Error => LevelFilter::ERROR,
        LevelWord::Warn => LevelFilter::WARN,
        LevelWord::Info => LevelFilter::INFO,
        LevelWord::Debug => LevelFilter::DEBUG,
    };
    LogAsked { format, level }
}

fn check(limits: &Limits) -> Result<(), Fault> {
    let of_buffers = 4 * SEND_BUFFER_BYTES;
    let least_bytes = match limits.check() {
        Err(unisono::limits::Error::BacklogSmall { least_bytes, .. }) => least_bytes.max(of_buffers),
        Err(error) => return Err(Fault::Limits(error)),
        Ok(()) if limits.backlog_bytes < of_buffers => of_buffers,
        Ok(()) => return Ok(()),
    };
    Err(Fault::Backlog {
        backlog_bytes: limits.backlog_bytes,
        line_bytes_max: limits.line_bytes_max,
        least: Size(least_bytes),
    })
}
