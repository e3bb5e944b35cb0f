//! `unisono admin`: asks a server on this machine for one thing, and shows its answer.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::ExitCode,
};

use anyhow::Context;

use crate::arguments::Administer;

/// The exit code is 0 if the server did what it was asked for.
pub(super) fn run(asked: &Administer) -> anyhow::Result<ExitCode> {
    let socket = asked.socket.display();
    let mut stream = UnixStream::connect(&asked.socket).with_context(|| format!("no server answers at {socket}"))?;
    let gone = || format!("the server at {socket} does not take it");
    stream.write_all(asked.request.as_bytes()).and_then(|()| stream.write_all(b"\n")).with_context(gone)?;
    stream.shutdown(Shutdown::Write).with_context(gone)?;
    let mut stdout = io::stdout().lock();
    for line in BufReader::new(stream).lines() {
        let line = line.with_context(gone)?;
        if let Some(told) = line.strip_prefix("+ ") {
            writeln!(stdout, "{told}").context("cannot write to stdout")?;
        } else if let Some(error) = line.strip_prefix("error: ") {
            anyhow::bail!("{error}");
        } else if line == "ok" {
            return Ok(ExitCode::SUCCESS);
        }
    }
    anyhow::bail!("the server at {socket} has ended without an answer")
}
