//! Target `client`: whatever a server sends and however the three streams behave, the client ends, sends its input as its
//! options want and no other byte, prints what came, and shows a terminal nothing that it would obey.
//!
//! A digit says how the input is sent (1 verbatim, 2 not at all) and another what else is so (1 it has a name, 2 it shows
//! harmless characters only). Then steps, as `scripted` has them, for the server's stream `0`, the input `1` and the output
//! `2`. `12|1/hi\n|0\x1B[2J\n|2<0` says `//hi`, and shows the server's bytes harmless, the first by itself.

use std::io::ErrorKind;

use crate::client::{End, Error, Options, Printing, Sending, run};
use crate::command::Command;

use super::scripted::{Record, Script, Scripted};
use super::{command, digit, in_time, runtime, steps, terminal};

pub(crate) const NAME: &str = "bell";

/// What the server gets for an input, thought out line by line.
pub(crate) fn wire(input: &[u8], options: &Options) -> Vec<u8> {
    let is_verbatim = options.sending == Sending::Verbatim;
    let mut wire = Vec::new();
    let mut rest = input;
    if let Some(name) = &options.name {
        wire.extend(format!("/name {name}\n").bytes());
    }
    if options.name.is_some() || is_verbatim {
        rest = rest.strip_prefix("\u{feff}".as_bytes()).unwrap_or(rest);
    }
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        if is_verbatim && line[0] == b'/' {
            wire.push(b'/');
        }
        wire.extend(line);
    }
    wire
}

/// What is printed of what came from the server.
fn shown(received: &[u8], options: &Options) -> Vec<u8> {
    match options.printing {
        Printing::AsReceived => received.to_vec(),
        Printing::Harmless => terminal::cleaned_lines(received),
    }
}

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    let [sending, how, script @ ..] = input else { return };
    let options = Options {
        name: (digit(*how) & 1 != 0).then(|| NAME.to_owned()),
        sending: match digit(*sending) % 3 {
            0 => Sending::Commands,
            1 => Sending::Verbatim,
            _ => Sending::Nothing,
        },
        printing: if digit(*how) & 2 == 0 { Printing::AsReceived } else { Printing::Harmless },
    };
    let mut scripts: [Script; 3] = Default::default();
    for (stream, step) in steps(script).filter_map(<[u8]>::split_first) {
        scripts[usize::from(digit(*stream)) % scripts.len()].push(step);
    }
    let [(server, served), (stdin, typed), (stdout, printed)] = scripts.map(Scripted::new);
    let client = run(server, stdin, stdout, options.clone());
    let end = runtime().block_on(in_time(client));
    check(&end, &options, &served.record(), &typed.record(), &printed.record());
}

fn check(end: &Result<End, Error>, options: &Options, served: &Record, typed: &Record, printed: &Record) {
    let due = wire(&typed.read, options);
    assert!(due.starts_with(&served.written), "the input is sent, and nothing else");
    if options.sending == Sending::Nothing {
        assert_eq!(typed.read, b"", "the input is left alone");
        assert!(!typed.is_ended && !served.is_shut, "the stream stays open");
    }
    let shown = shown(&served.read, options);
    assert!(shown.starts_with(&printed.written), "what came is printed, and nothing else");
    if options.printing == Printing::Harmless {
        let mut deeds = terminal::deeds(&printed.written);
        deeds.retain(|deed| deed != "execute 0xa");
        assert_eq!(deeds, [""; 0], "a terminal only shows it");
    }

    let has_sent_all = typed.is_ended && served.is_shut;
    if served.is_shut {
        assert!(typed.is_ended || typed.read_error.is_some(), "only the end of the input ends our side");
        assert_eq!(served.written, due, "then all of it is sent");
    }
    match end {
        Ok(End::OutputClosed) => assert_eq!(printed.write_error, Some(ErrorKind::BrokenPipe)),
        Err(Error::Output(error)) => {
            assert_ne!(error.kind(), ErrorKind::BrokenPipe, "that nobody reads any more is no error");
            assert_eq!(printed.write_error, Some(error.kind()));
        }
        _ => {
            assert_eq!(printed.write_error, None, "an output that breaks is told");
            assert!(served.is_ended || served.read_error.is_some(), "it is the server that ends it");
            assert_eq!(printed.written, shown, "all that came is printed");
            assert_eq!(printed.flushed, shown.len(), "all that is printed is flushed");
        }
    }
    match end {
        Ok(End::Done) => assert!(has_sent_all || quits(&served.written), "our end came first"),
        Ok(End::ServerGone) => assert!(!has_sent_all, "our end came first"),
        Ok(End::OutputClosed) | Err(Error::Output(_)) => {}
        Err(Error::Input(error)) => assert_eq!(typed.read_error, Some(error.kind())),
        Err(Error::Server(error)) => {
            assert!([served.read_error, served.write_error].contains(&Some(error.kind())), "{error}");
        }
    }
    if served.read_error.is_some() && printed.write_error.is_none() {
        assert!(matches!(end, Err(Error::Server(_))), "a broken connection is told");
    }
}

/// Whether the last whole line asks to go.
fn quits(sent: &[u8]) -> bool {
    let Some(end) = sent.iter().rposition(|byte| *byte == b'\n') else { return false };
    let last = sent[..end].rsplit(|byte| *byte == b'\n').next();
    last.is_some_and(|line| command::meaning(line) == Command::Quit)
}
