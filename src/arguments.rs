//! The command line as values: what was asked for, checked and in the library's own words.
//!
//! Every option can be given by the environment, too. A bad one ends the process with exit code 2 and a message that names
//! the option and what would be right; the numbers are checked together as well, so `serve` fails before it has begun.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use unisono::{
    Lang, Limits, Who, Wire,
    client::{Options, Sending},
    limits::{FOREVER, Flood, IpNet, Ipv4Net, Rate, SEND_BUFFER_BYTES},
    name::Name,
};

/// What the process is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    Serve(Serve),
    Connect(Connect),
}

/// A server, as asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Serve {
    /// Where to listen; at least one.
    pub(crate) listen: Vec<Address>,
    pub(crate) wire: Wire,
    /// They work together. `connections_max` is not set yet.
    pub(crate) limits: Limits,
    /// None: as many as the file limit carries.
    pub(crate) connections_max: Option<usize>,
}

/// A client, as asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Connect {
    pub(crate) address: Address,
    /// All but the printing, which depends on what stdout is.
    pub(crate) options: Options,
}

/// A host, by name or number, and a port. Not looked up yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The task that the process was started for. It does not return for help, version and bad options.
pub(crate) fn parse() -> Task {
    let task = meaning(CommandLine::parse());
    task.unwrap_or_else(|fault| {
        // Nothing better can be done about a stderr that fails.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("error: {fault}\n"));
        std::process::exit(2)
    })
}

/// A broadcast line server and its client: everyone sees every line, whole, in one order.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = ENVIRONMENT_HELP)]
struct CommandLine {
    #[command(subcommand)]
    task: TaskWords,
}

// Clap wraps these, so each paragraph is one line.
const ENVIRONMENT_HELP: &str = "\
Every option can also be set as an environment variable, for example UNISONO_LISTEN=0.0.0.0:8000 or \
UNISONO_RECEIVE_ONLY=true; the command line wins.";

const SERVE_HELP: &str = "\
SIZE is a number of bytes, or one with a unit: 64KiB, 4MiB.
TIME is a number with a unit: 500ms, 30s, 5min; or `forever`; or 0 where that makes sense.
RATE is how many at once and how many a second from then on: 20+2/s.
CIDR is an address and the length of a prefix: 10.0.0.0/8, fd00::/8; or one address: 192.0.2.7.

Every option can also be set as an environment variable, for example UNISONO_LINE_MAX=4KiB, \
UNISONO_PLAIN=true, UNISONO_LISTEN=127.0.0.1:8000,[::1]:8000; the command line wins.

SIGTERM or SIGINT ends the server within --grace, with exit code 0; a second one ends it at once, with 143 or 130. \
Other exit codes: 1 it could not run, 2 bad options.";

const CONNECT_HELP: &str = "\
A line that begins with `/` is a command; `//` at its beginning says a line with one. On a terminal, control \
characters from the server are made harmless.

Every option can also be set as an environment variable, for example UNISONO_ADDR=chat.example.org:8000 or \
UNISONO_NAME=bell; the command line wins.

The end of stdin closes only the sending side: what comes until the server closes is still printed, and the exit code \
is 0. Other exit codes: 1 the server is gone or something broke, 2 bad options.";

#[derive(Debug, Subcommand)]
enum TaskWords {
    /// Run a room: whoever connects sees every line that anyone says
    #[command(after_help = SERVE_HELP)]
    Serve(ServeWords),
    /// Enter a room: stdin to the room, the room to stdout
    #[command(after_help = CONNECT_HELP)]
    Connect(ConnectWords),
}

#[derive(Args, Debug)]
struct ServeWords {
    /// Where to listen, HOST:PORT; can be repeated
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000", value_delimiter = ',')]
    #[arg(env = "UNISONO_LISTEN", hide_env = true)]
    listen: Vec<Address>,
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
    /// Who is no stranger: CIDR,CIDR...; or `none`
    #[arg(long, value_name = "CIDRS", default_value = "127.0.0.0/8,::1", value_parser = trusted)]
    #[arg(env = "UNISONO_TRUSTED", hide_env = true)]
    trusted: Prefixes,
    /// How long the flush at the end may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    #[arg(env = "UNISONO_GRACE", hide_env = true)]
    grace: Duration,
}

#[derive(Args, Debug)]
struct ConnectWords {
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

/// A limit that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Switch<T> {
    Off,
    At(T),
}

impl<T> From<Switch<T>> for Option<T> {
    fn from(switch: Switch<T>) -> Self {
        match switch {
            Switch::Off => None,
            Switch::At(limit) => Some(limit),
        }
    }
}

/// Where peers are.
#[derive(Clone, Debug, PartialEq)]
struct Prefixes(Vec<IpNet>);

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
enum Fault {
    #[error(
        "--backlog {backlog_bytes}B is too small for --line-max {line_bytes_max}B: it must be at least {least}, \
         for 4 longest lines as they are stored and for 4 send buffers"
    )]
    Backlog { backlog_bytes: usize, line_bytes_max: usize, least: Size },
    #[error("{0}")]
    Limits(unisono::limits::Error),
}

fn meaning(words: CommandLine) -> Result<Task, Fault> {
    match words.task {
        TaskWords::Serve(words) => serve(words).map(Task::Serve),
        TaskWords::Connect(words) => Ok(Task::Connect(connect(words))),
    }
}

fn serve(words: ServeWords) -> Result<Serve, Fault> {
    let mut limits = Limits {
        line_bytes_max: words.line_max,
        backlog_bytes: words.backlog,
        patience: words.patience,
        stall: words.stall,
        line_deadline: words.line_deadline,
        grace: words.grace,
        flood: words.flood.into(),
        connect_rate: words.connect_rate.into(),
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
    Ok(Serve {
        listen: words.listen,
        wire: Wire { lang, plain: words.plain, raw: words.raw, who },
        limits,
        connections_max: words.max_connections,
    })
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

fn connect(words: ConnectWords) -> Connect {
    let sending = if words.receive_only {
        Sending::Nothing
    } else if words.verbatim {
        Sending::Verbatim
    } else {
        Sending::Commands
    };
    Connect { address: words.address, options: Options { name: words.name, sending, ..Options::default() } }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) else {
            return Err(format!(
                "a port is missing, as in `{}:8000`",
                if text.is_empty() { "localhost" } else { text }
            ));
        };
        let port = port.parse().map_err(|_| "the port must be a number from 0 to 65535, as in `localhost:8000`")?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host,
            None if host.contains(':') => return Err("an IPv6 address wants brackets, as in `[::1]:8000`".into()),
            None => host,
        };
        if host.is_empty() {
            return Err(format!("a host is missing: `0.0.0.0:{port}` means all of IPv4, `[::]:{port}` all"));
        }
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// A number of bytes as one would type it: in full KiB, rounded up.
#[derive(Debug, PartialEq)]
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}KiB", self.0.div_ceil(1024))
    }
}

/// Bounds what is calculated from a size: 4 longest lines, each stored in threefold length.
const SIZE_BYTES_MAX: usize = usize::MAX / 16;

fn size(text: &str) -> Result<usize, String> {
    let ByteSize(bytes) = text.parse().map_err(|_| "a size is a number of bytes, or one with a unit, as `64KiB`")?;
    match usize::try_from(bytes) {
        Ok(0) => Err("a size must be at least 1 byte".into()),
        Ok(bytes) if bytes <= SIZE_BYTES_MAX => Ok(bytes),
        _ => Err("no machine has so much memory".into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match text {
        "forever" => Ok(FOREVER),
        "0" => Ok(Duration::ZERO),
        _ => humantime::parse_duration(text)
            .map_err(|_| "a time is a number with a unit, as `500ms` or `30s`, or `forever`, or `0`".into()),
    }
}

fn time_above_0(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("it must be more than 0; `forever` means no limit".into()),
        duration => Ok(duration),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(count) => Ok(count),
        Err(_) => Err("it must be a whole number".into()),
    }
}

fn flood(text: &str) -> Result<Switch<Flood>, String> {
    const RIGHT: &str = "two rates are wanted, of lines and of bytes, as `256+10/s,256KiB+64KiB/s`, or `off`";
    if text == "off" {
        return Ok(Switch::Off);
    }
    let (lines, bytes) = text.split_once(',').ok_or(RIGHT)?;
    let bytes_of = |text: &str| size(text).map_err(|message| format!("{message}; {RIGHT}"));
    Ok(Switch::At(Flood {
        lines: rate(lines, count).map_err(|message| format!("{message}; {RIGHT}"))?,
        bytes: rate(bytes, bytes_of)?,
    }))
}

fn connect_rate(text: &str) -> Result<Switch<Rate>, String> {
    match text {
        "off" => Ok(Switch::Off),
        _ => rate(text, count).map(Switch::At).map_err(|message| format!("{message}; or `off`")),
    }
}

/// So many at once and so many a second: `20+2/s`.
fn rate(text: &str, number: impl Fn(&str) -> Result<usize, String>) -> Result<Rate, String> {
    let halves = text.strip_suffix("/s").and_then(|text| text.split_once('+'));
    let (burst, per_second) = halves.ok_or("a rate is how many at once and how many a second, as `20+2/s`")?;
    let number = |text| u32::try_from(number(text)?).map_err(|_| format!("a rate has numbers below 2^32, not {text}"));
    Ok(Rate { burst: number(burst)?, per_second: number(per_second)? })
}

fn trusted(text: &str) -> Result<Prefixes, String> {
    match text {
        "none" => Ok(Prefixes(Vec::new())),
        _ => text.split(',').map(prefix).collect::<Result<_, _>>().map(Prefixes),
    }
}

/// An address, or all that begin as it does. IPv4 in IPv6 is IPv4, as peers are.
fn prefix(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("`{text}` is no address, as `192.0.2.7`, and no prefix, as `10.0.0.0/8` or `fd00::/8`");
    let prefix = match text.parse::<IpNet>() {
        Ok(prefix) => prefix,
        Err(_) => text.parse::<IpAddr>().map_err(|_| wrong())?.into(),
    };
    // Whoever wrote it meant another address, or another length.
    if prefix.addr() != prefix.network() {
        return Err(format!("`{text}` has bits beyond its length: `{}` begins so", prefix.trunc()));
    }
    let IpNet::V6(mapped) = prefix else { return Ok(prefix) };
    let Some(ipv4) = mapped.addr().to_ipv4_mapped() else { return Ok(prefix) };
    let bits = mapped.prefix_len().checked_sub(96).ok_or_else(wrong)?;
    Ipv4Net::new(ipv4, bits).map(IpNet::V4).map_err(|_| wrong())
}

/// A name that could be valid; whether it is free only the server knows.
fn name(text: &str) -> Result<String, String> {
    match Name::parse(text.as_bytes()) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use unisono::limits::CONNECT_RATE_DEFAULT;

    use super::*;

    fn task(line: &str) -> Result<Task, String> {
        let words = CommandLine::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        meaning(words).map_err(|fault| fault.to_string())
    }

    fn serve(options: &str) -> Serve {
        match task(&format!("unisono serve {options}")) {
            Ok(Task::Serve(serve)) => serve,
            other => panic!("{other:?}"),
        }
    }

    fn connect(options: &str) -> Connect {
        match task(&format!("unisono connect {options}")) {
            Ok(Task::Connect(connect)) => connect,
            other => panic!("{other:?}"),
        }
    }

    /// The message of a refusal has each of these parts.
    fn check_refused(line: &str, parts: &[&str]) {
        let message = task(line).expect_err(line);
        for part in parts {
            assert!(message.contains(part), "{line}: {part:?} is not in {message:?}");
        }
    }

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let expected = Serve {
            listen: vec![address("127.0.0.1:8000")],
            wire: Wire::default(),
            // The library leaves open whether there are strangers.
            limits: Limits {
                flood: Some(Flood::default()),
                connect_rate: Some(CONNECT_RATE_DEFAULT),
                ..Limits::default()
            },
            connections_max: None,
        };
        assert_eq!(serve(""), expected);
        assert_eq!(connect(""), Connect { address: address("127.0.0.1:8000"), options: Options::default() });
    }

    #[test]
    fn every_option_has_its_environment_variable_and_its_help() {
        for task in ["serve", "connect"] {
            for option in CommandLine::command().find_subcommand(task).unwrap().get_arguments() {
                let word = match option.get_long() {
                    Some(word) => word,
                    None => option.get_value_names().unwrap()[0].as_str(),
                };
                let variable = format!("UNISONO_{}", word.to_uppercase().replace('-', "_"));
                assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(&variable[..]));
                assert!(option.get_help().is_some(), "{word}");
            }
        }
    }

    #[test]
    fn options_reach_the_limits() {
        let asked = serve(
            "--lang en --plain --raw --who guest --line-max 1KiB --backlog 1MiB --patience 0 --stall forever --line-deadline 1m \
             --max-connections 7 --max-per-ip 3 --grace 500ms --listen [::1]:1 --listen a.example:2,3.3.3.3:3 \
             --flood 5+1/s,1KiB+512/s --connect-rate 3+1/s --trusted 10.0.0.0/8,fd00::/8,::ffff:192.0.2.7",
        );
        assert_eq!(asked.listen, [address("[::1]:1"), address("a.example:2"), address("3.3.3.3:3")]);
        assert_eq!(asked.wire, Wire { lang: Lang::En, plain: true, raw: true, who: Who::Guest });
        assert_eq!(asked.connections_max, Some(7));
        let expected = Limits {
            line_bytes_max: 1024,
            backlog_bytes: 1024 * 1024,
            patience: Duration::ZERO,
            stall: FOREVER,
            line_deadline: Duration::from_secs(60),
            grace: Duration::from_millis(500),
            per_ip_max: 3,
            flood: Some(Flood {
                lines: Rate { burst: 5, per_second: 1 },
                bytes: Rate { burst: 1024, per_second: 512 },
            }),
            connect_rate: Some(Rate { burst: 3, per_second: 1 }),
            trusted: ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"].map(|prefix| prefix.parse().unwrap()).to_vec(),
            ..Limits::default()
        };
        assert_eq!(asked.limits, expected);
        let asked = serve("--flood off --connect-rate off --trusted none");
        let expected = Limits { flood: None, connect_rate: None, trusted: Vec::new(), ..Limits::default() };
        assert_eq!(asked.limits, expected);
    }

    #[test]
    fn client_options_reach_the_client() {
        let asked = connect("[::1]:1 --name bell --verbatim");
        assert_eq!(asked.address, address("[::1]:1"));
        assert_eq!(asked.options.name.as_deref(), Some("bell"));
        assert_eq!(asked.options.sending, Sending::Verbatim);
        assert_eq!(connect("--verbatim --receive-only").options.sending, Sending::Nothing);
    }

    #[test]
    fn bad_values_are_refused_with_what_would_be_right() {
        check_refused("unisono serve --line-max 64KX", &["--line-max", "64KX", "`64KiB`"]);
        check_refused("unisono serve --line-max 0", &["--line-max", "at least 1 byte"]);
        check_refused("unisono serve --line-max 2EiB", &["--line-max", "memory"]);
        check_refused("unisono serve --patience 5", &["--patience", "`500ms`"]);
        check_refused("unisono serve --stall 0", &["--stall", "`forever`"]);
        check_refused("unisono serve --max-per-ip 0", &["--max-per-ip", "at least 1"]);
        check_refused("unisono serve --max-connections many", &["--max-connections", "whole number"]);
        check_refused("unisono serve --flood 10/s", &["--flood", "10/s", "`256+10/s,256KiB+64KiB/s`", "`off`"]);
        check_refused("unisono serve --flood 9+0/s,1+1/s", &["--flood", "at least 1"]);
        check_refused("unisono serve --flood 9+1/s,1KX+1/s", &["--flood", "`64KiB`"]);
        check_refused("unisono serve --flood 9+1/s,4GiB+1/s", &["--flood", "4GiB", "2^32"]);
        check_refused("unisono serve --connect-rate 5", &["--connect-rate", "`20+2/s`", "`off`"]);
        check_refused("unisono serve --connect-rate 5+x/s", &["--connect-rate", "whole number"]);
        check_refused("unisono serve --trusted lan", &["--trusted", "`lan`", "`10.0.0.0/8`"]);
        check_refused("unisono serve --trusted 10.0.0.0/33", &["--trusted", "`10.0.0.0/33`"]);
        check_refused("unisono serve --trusted 10.0.0.1/8", &["--trusted", "`10.0.0.0/8`"]);
        check_refused("unisono serve --trusted 10.0.0.0/8,none", &["--trusted", "`none`"]);
        check_refused("unisono serve --trusted ::ffff:0:0/80", &["--trusted", "::ffff:0:0/80"]);
        check_refused("unisono serve --lang fr", &["--lang", "zh", "en"]);
        check_refused("unisono serve --who me", &["--who", "address", "guest"]);
        check_refused("unisono connect --name a:b", &["--name", "a:b", "colon"]);
    }

    #[test]
    fn small_backlog_is_refused_with_one_that_is_accepted() {
        check_refused("unisono serve --backlog 768KiB", &["--backlog 786432B", "--line-max 65536B", "769KiB"]);
        serve("--backlog 769KiB");
        check_refused("unisono serve --line-max 1 --backlog 255KiB", &["--backlog 261120B", "256KiB"]);
        check_refused("unisono serve --line-max 1 --backlog 1", &["--backlog 1B", "256KiB"]);
        serve("--line-max 1 --backlog 256KiB");
    }

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for text in ["127.0.0.1:8000", "localhost:0", "[::1]:65535"] {
            assert_eq!(address(text).to_string(), text);
        }
        for (text, part) in [
            ("localhost", "`localhost:8000`"),
            ("", "`localhost:8000`"),
            (":8000", "`0.0.0.0:8000`"),
            ("[]:8000", "`0.0.0.0:8000`"),
            ("::1:8000", "`[::1]:8000`"),
            ("::8000", "a port is missing"),
            ("localhost:", "0 to 65535"),
            ("localhost:65536", "0 to 65535"),
        ] {
            let message = text.parse::<Address>().expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
