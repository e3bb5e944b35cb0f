//! What the targets of `fuzz/` do with their input, and the slow truths that they share with the property tests.
//!
//! One function a target: it reads its input as a script that can also be written by hand, runs what ships by it, and
//! panics where that and the slow truth part. Its module says how the script is written: mostly a few bytes that choose
//! limits, then steps, parted by `|`. The same input always does the same.
//!
//! This is built for tests and under `--cfg fuzzing`, and is no part of what ships. What fuzzing found worth keeping stands in
//! `fuzz/corpus`; the tests here replay it, so that everyone judges every change by it, without a fuzzer.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::Listener;
use crate::listen::Peer;

pub use self::client::fuzz as client;
pub use self::command::fuzz as command;
pub use self::drive::fuzz as drive;
pub use self::line::fuzz as line;
pub use self::log::fuzz as log;
pub use self::proxy::fuzz as proxy;
pub use self::server::fuzz as server;
pub use self::session::fuzz as session;

pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod guess;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod proxy;
pub(crate) mod session;
pub(crate) mod terminal;

mod door;
mod drive;
mod judge;
mod scripted;
mod server;

/// A longer script finds nothing more.
const SCRIPT_BYTES_MAX: usize = 16 * 1024;

/// The steps of a script.
fn steps(script: &[u8]) -> impl Iterator<Item = &[u8]> {
    script[..script.len().min(SCRIPT_BYTES_MAX)].split(|byte| *byte == b'|')
}

/// A number in one character: `0` to `9` and on to `?` are 0 to 15, as all characters of these columns.
fn digit(byte: u8) -> u8 {
    byte & 15
}

/// A size in one character: `0` to `?` are 1 to 16 bytes, `p` to DEL are 64 to 1,024.
fn size(byte: u8) -> usize {
    let unit = if byte & 64 == 0 { 1 } else { 64 };
    unit * (usize::from(digit(byte)) + 1)
}

/// A time in one character: `0` to `?` are 1 ms to 33 s, each the double of the one before.
fn span(byte: u8) -> Duration {
    Duration::from_millis(1 << digit(byte))
}

/// A runtime whose clock stands still until everyone waits.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Law 8: under paused time a year passes as soon as everyone waits.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(365 * 24 * 3600), work).await.expect("law 8: somebody was not woken")
}

/// A stream that comes out of a channel.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// As [`Listener::is_quiet`].
    fn is_quiet(&self) -> bool {
        false
    }
}

impl Stream for DuplexStream {}

/// Connections that come out of a channel.
struct Memory<S>(UnboundedReceiver<(S, SocketAddr)>);

impl<S: Stream> Listener for Memory<S> {
    type Io = S;

    fn is_quiet(io: &S) -> bool {
        io.is_quiet()
    }

    async fn accept(&mut self) -> io::Result<(S, Peer)> {
        match self.0.recv().await {
            Some((stream, addr)) => Ok((stream, addr.into())),
            None => pending().await,
        }
    }

    fn place(&self) -> io::Result<String> {
        Ok("127.0.0.1:8000".to_owned())
    }
}

/// Where a client comes from, by its number.
fn address(client: usize) -> SocketAddr {
    ([10, 0, 0, 1], u16::try_from(client + 1).expect("few clients")).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Runs a target over its corpus. The name of the input under way is printed last, should it fail.
    fn replay(target: &str, fuzz: fn(&[u8])) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} has no inputs", directory.display());
        for path in inputs {
            println!("{}", path.display());
            fuzz(&fs::read(&path).expect("a readable input"));
        }
    }

    #[test]
    fn lines_are_as_the_slow_truth_has_them_over_the_corpus() {
        replay("line", line);
    }

    #[test]
    fn commands_and_names_are_as_the_slow_truth_has_them_over_the_corpus() {
        replay("command", command);
    }

    #[test]
    fn sessions_mean_what_the_slow_truth_says_over_the_corpus() {
        replay("session", session);
    }

    #[test]
    fn log_is_the_list_of_all_bytes_over_the_corpus() {
        replay("log", log);
    }

    #[test]
    fn laws_hold_over_faulty_streams_over_the_corpus() {
        replay("drive", drive);
    }

    #[test]
    fn laws_hold_between_many_clients_over_the_corpus() {
        replay("server", server);
    }

    #[test]
    fn headers_of_proxies_are_as_the_slow_truth_has_them_over_the_corpus() {
        replay("proxy", proxy);
    }

    #[test]
    fn client_is_faithful_and_ends_over_the_corpus() {
        replay("client", client);
    }
}
