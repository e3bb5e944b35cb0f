//! The command line as values: what was asked for, checked and in the library's own words.
//!
//! Every option can be given by the environment, too. A bad one ends the process with exit code 2 and a message that names
//! the option and what would be right; the numbers are checked together as well, so `serve` fails before it has begun.

use std::{ffi::OsString, io::Write, path::PathBuf};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

#[cfg(feature = "tls")]
pub(crate) use self::connect::Secure;
pub(crate) use self::{
    admin::Administer,
    connect::Connect,
    serve::{DoorAsked, Serve},
    settings::Settings,
    values::{Address, Endpoint, prefix, time},
};
use self::{
    admin::{ADMIN_HELP, AdminWords},
    connect::{CONNECT_HELP, ConnectWords},
    serve::{SERVE_HELP, ServeWords},
};

mod admin;
mod connect;
mod file;
mod serve;
mod settings;
mod values;

/// What the process is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// And the options that ask for it.
    Serve(Box<Serve>, Settings),
    Connect(Connect),
    Administer(Administer),
    #[cfg(feature = "password")]
    HashPassword,
    /// Nothing but to see whether the files that it names can be used.
    Check(Box<Serve>),
    /// Nothing but to show this.
    Show(String),
}

/// Why there is nothing to do.
#[derive(Debug)]
enum Refusal {
    /// Help, version, or what is wrong on the command line or in the environment.
    Clap(clap::Error),
    /// What is wrong beyond that, each in one line.
    Mistakes(Vec<String>),
}

/// The task that the process was started for. It does not return for help, version and bad options.
pub(crate) fn parse() -> Task {
    match read(&words()) {
        Ok(task) => task,
        Err(Refusal::Clap(error)) => error.exit(),
        Err(Refusal::Mistakes(mistakes)) => {
            for mistake in mistakes {
                // Nothing better can be done about a stderr that fails.
                let _ = writeln!(std::io::stderr(), "error: {mistake}");
            }
            std::process::exit(2)
        }
    }
}

/// What the process that serves would serve if it were started again: its file may have changed.
///
/// # Errors
///
/// What is wrong, each in one line.
pub(crate) fn serve_again() -> Result<(Box<Serve>, Settings), Vec<String>> {
    match read(&words()) {
        Ok(Task::Serve(serve, settings)) => Ok((serve, settings)),
        Ok(_) => Err(vec!["it was not started to serve".into()]),
        Err(Refusal::Clap(error)) => Err(vec![error.to_string()]),
        Err(Refusal::Mistakes(mistakes)) => Err(mistakes),
    }
}

fn words() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// The command line to a task; where it names a file, that one's values are the defaults.
///
/// So a relation between options (one that wants another) is for [`serve::meaning`] to check: clap's own rules leave defaults out.
fn read(arguments: &[OsString]) -> Result<Task, Refusal> {
    let command = CommandLine::command();
    let mut matches = command.clone().try_get_matches_from(arguments).map_err(Refusal::Clap)?;
    let serve_command = command.find_subcommand(SERVE).expect("there is one");
    if let Some(path) = file_path(&matches) {
        let found = file::load(&path, serve_command).map_err(Refusal::Mistakes)?;
        let command = command.clone().mut_subcommand(SERVE, |serve| with_defaults(serve, found));
        matches = command.try_get_matches_from(arguments).map_err(Refusal::Clap)?;
    }
    let words = match CommandLine::from_arg_matches(&matches).map_err(Refusal::Clap)?.task {
        TaskWords::Serve(words) => words,
        TaskWords::Connect(words) => return Ok(Task::Connect(connect::meaning(words))),
        #[cfg(feature = "password")]
        TaskWords::HashPassword => return Ok(Task::HashPassword),
        TaskWords::Admin(words) => return Ok(Task::Administer(admin::meaning(words))),
    };
    let settings = Settings::of(serve_command, matches.subcommand_matches(SERVE).expect("it has matched"));
    let (print, check) = (words.about.print_config, words.about.check_config);
    let serve = serve::meaning(*words).map_err(|fault| Refusal::Mistakes(vec![fault.to_string()]))?;
    Ok(match (print, check) {
        (true, _) => Task::Show(settings.to_string()),
        (false, true) => Task::Check(Box::new(serve)),
        (false, false) => Task::Serve(Box::new(serve), settings),
    })
}

/// The command with these values as defaults. Its options may stand in another order.
fn with_defaults(command: Command, found: Vec<file::Found>) -> Command {
    found
        .into_iter()
        .fold(command, |command, file::Found { id, text }| command.mut_arg(id, |option| option.default_value(text)))
}

const SERVE: &str = "serve";

fn file_path(matches: &ArgMatches) -> Option<PathBuf> {
    matches.subcommand_matches(SERVE)?.get_one("config").cloned()
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

#[derive(Debug, Subcommand)]
enum TaskWords {
    /// Run a room: whoever connects sees every line that anyone says
    #[command(after_help = SERVE_HELP)]
    Serve(Box<ServeWords>),
    /// Enter a room: stdin to the room, the room to stdout
    #[command(after_help = CONNECT_HELP)]
    Connect(ConnectWords),
    /// Ask a server on this machine who is there, remove somebody, or end it
    #[command(after_help = ADMIN_HELP)]
    Admin(AdminWords),
    /// Read a password from stdin, one line, and print its hash for --password-file
    #[cfg(feature = "password")]
    HashPassword,
}

#[cfg(all(test, feature = "metrics", feature = "tls"))]
mod papers;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing::level_filters::LevelFilter;
    use unisono::{
        Lang, Limits, Who, Wire,
        client::{Options, Sending},
        limits::{ANNOUNCEMENTS_DEFAULT, CONNECT_RATE_DEFAULT, FOREVER, Flood, Rate},
    };

    use super::*;
    use crate::{arguments::serve::LogAsked, journal::Format};

    fn task(line: &str) -> Result<Task, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        read(&words).map_err(|refusal| match refusal {
            Refusal::Clap(error) => error.to_string(),
            Refusal::Mistakes(mistakes) => mistakes.join("\n"),
        })
    }

    fn serve(options: &str) -> Serve {
        match task(&format!("unisono serve {options}")) {
            Ok(Task::Serve(serve, _)) => *serve,
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

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let expected = Serve {
            listen: vec![endpoint("127.0.0.1:8000")],
            unix_mode: 0o660,
            #[cfg(feature = "tls")]
            tls: None,
            proxies: Vec::new(),
            wire: Wire::default(),
            // The library leaves open whether there are strangers.
            limits: Limits {
                flood: Some(Flood::default()),
                connect_rate: Some(CONNECT_RATE_DEFAULT),
                announcements: Some(ANNOUNCEMENTS_DEFAULT),
                ..Limits::default()
            },
            connections_max: None,
            log: LogAsked { format: Format::Text, level: LevelFilter::INFO },
            #[cfg(feature = "metrics")]
            metrics: None,
            door: DoorAsked::default(),
            admin: None,
        };
        assert_eq!(serve(""), expected);
        let expected = Connect {
            address: endpoint("127.0.0.1:8000"),
            #[cfg(feature = "tls")]
            tls: None,
            options: Options::default(),
        };
        assert_eq!(connect(""), expected);
    }

    #[test]
    fn every_option_has_its_environment_variable_and_its_help() {
        for task in ["serve", "connect", "admin"] {
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
             --flood 5+1/s,1KiB+512/s --connect-rate 3+1/s --announcements 0 --trusted 10.0.0.0/8,fd00::/8,::ffff:192.0.2.7",
        );
        assert_eq!(asked.listen, ["[::1]:1", "a.example:2", "3.3.3.3:3"].map(endpoint));
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
            announcements: Some(0),
            trusted: ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"].map(|prefix| prefix.parse().unwrap()).to_vec(),
            ..Limits::default()
        };
        assert_eq!(asked.limits, expected);
        let log = serve("--log-format json --log-level debug").log;
        assert_eq!(log, LogAsked { format: Format::Json, level: LevelFilter::DEBUG });
        let asked = serve("--flood off --connect-rate off --announcements off --trusted none");
        assert_eq!(asked.limits, Limits { trusted: Vec::new(), ..Limits::default() });
    }

    #[test]
    fn options_reach_the_door() {
        let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let expected = DoorAsked {
            allow: prefixes(&["10.0.0.0/8", "fd00::/8"]),
            deny: prefixes(&["10.9.0.0/16", "192.0.2.7/32"]),
            motd: Some("/etc/motd".into()),
            #[cfg(feature = "password")]
            passwords: None,
        };
        let options = "--allow 10.0.0.0/8,fd00::/8 --deny 10.9.0.0/16,::ffff:192.0.2.7 --motd /etc/motd";
        assert_eq!(serve(options).door, expected);
    }

    #[test]
    fn words_of_an_administrator_are_one_request() {
        let socket = "/run/unisono/admin.sock";
        for (words, socket, request) in [
            ("who", socket, "who"),
            ("--socket /s kick bob", "/s", "kick bob"),
            ("ban 10.0.0.0/8 --for 1h", socket, "ban 10.0.0.0/8 for 1h"),
            ("ban bob", socket, "ban bob"),
            ("unban ::1", socket, "unban ::1"),
            ("bans", socket, "bans"),
            ("notice back at noon", socket, "notice back at noon"),
            ("drain", socket, "drain"),
            ("drain --for 5min", socket, "drain for 5min"),
            ("stats", socket, "stats"),
        ] {
            let expected = Administer { socket: socket.into(), request: request.into() };
            assert_eq!(task(&format!("unisono admin {words}")), Ok(Task::Administer(expected)), "{words}");
        }
        check_refused("unisono admin kick", &["WHO"]);
        check_refused("unisono admin notice", &["TEXT"]);
        assert_eq!(serve("--admin unix:/run/a").admin, Some("/run/a".into()));
        check_refused("unisono serve --admin /run/a", &["--admin", "`unix:/run/unisono/admin.sock`"]);
    }

    #[test]
    fn client_options_reach_the_client() {
        let asked = connect("[::1]:1 --name bell --verbatim");
        assert_eq!(asked.address, endpoint("[::1]:1"));
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
        check_refused("unisono serve --announcements 5/s", &["--announcements", "whole number", "`off`"]);
        check_refused("unisono serve --trusted lan", &["--trusted", "`lan`", "`10.0.0.0/8`"]);
        check_refused("unisono serve --trusted 10.0.0.0/33", &["--trusted", "`10.0.0.0/33`"]);
        check_refused("unisono serve --trusted 10.0.0.1/8", &["--trusted", "`10.0.0.0/8`"]);
        check_refused("unisono serve --trusted 10.0.0.0/8,none", &["--trusted", "`none`"]);
        check_refused("unisono serve --trusted ::ffff:0:0/80", &["--trusted", "::ffff:0:0/80"]);
        check_refused("unisono serve --allow lan", &["--allow", "`lan`", "`10.0.0.0/8`"]);
        check_refused("unisono serve --deny 10.0.0.1/8", &["--deny", "`10.0.0.0/8`"]);
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
    fn sockets_that_are_files_reach_the_server_and_the_client() {
        let asked = serve("--listen unix:/run/a.sock,[::1]:1 --unix-mode 0600 --proxy-from 10.0.0.0/8,192.0.2.7");
        assert_eq!(asked.listen, [Endpoint::Unix("/run/a.sock".into()), endpoint("[::1]:1")]);
        assert_eq!(asked.listen[0].to_string(), "unix:/run/a.sock");
        assert_eq!(asked.unix_mode, 0o600);
        assert_eq!(asked.proxies, ["10.0.0.0/8", "192.0.2.7/32"].map(|prefix| prefix.parse().unwrap()));
        assert_eq!(connect("unix:a.sock").address, Endpoint::Unix("a.sock".into()));
        check_refused("unisono serve --listen unix:", &["--listen", "`unix:/run/unisono.sock`"]);
        for mode in ["rw", "8", "1777", "", "-1", "+6"] {
            check_refused(&format!("unisono serve --unix-mode={mode}"), &["--unix-mode", "`660`"]);
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn options_of_tls_go_together() {
        use unisono::tls::{Files, Identity};

        let asked = serve("--tls-listen [::]:1,unix:b.sock --tls-cert c --tls-key k --tls-client-ca a");
        let tls = asked.tls.expect("asked for");
        assert_eq!(tls.listen, ["[::]:1", "unix:b.sock"].map(endpoint));
        let files = Files { certificate: "c".into(), key: "k".into(), client_authorities: Some("a".into()) };
        assert_eq!(tls.files, files);
        assert_eq!(asked.listen, [], "it need not listen without TLS");
        let asked = serve("--tls-listen [::]:1 --tls-cert c --tls-key k --listen [::]:2");
        assert_eq!(asked.listen, [endpoint("[::]:2")]);
        for options in ["--tls-listen [::]:1", "--tls-listen [::]:1 --tls-cert c", "--tls-listen [::]:1 --tls-key k"] {
            check_refused(&format!("unisono serve {options}"), &["--tls-cert FILE --tls-key FILE"]);
        }
        for options in ["--tls-cert c --tls-key k", "--tls-client-ca a"] {
            check_refused(&format!("unisono serve {options}"), &["--tls-listen ADDR"]);
        }

        let asked = connect("[::1]:1 --tls --ca a --cert c --key k --server-name n").tls;
        let expected = Secure {
            authorities: Some("a".into()),
            identity: Some(Identity { certificate: "c".into(), key: "k".into() }),
            server_name: Some("n".into()),
        };
        assert_eq!(asked, Some(expected));
        assert_eq!(connect("--tls").tls, Some(Secure::default()));
        for (options, missing) in [("--ca a", "--tls"), ("--tls --cert c", "--key"), ("--tls --key k", "--cert")] {
            check_refused(&format!("unisono connect {options}"), &[missing]);
        }
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
