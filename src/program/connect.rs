//! `unisono connect`: the client over TCP and the standard streams.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Context;
use tokio::{net::TcpStream, runtime};
use unisono::client::{self, End, Printing};

use crate::arguments::Connect;

/// Runs a client over TCP and the standard streams.
pub(super) fn run(connect: Connect) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(self::connect(connect));
    // A thread may be in the middle of reading stdin, which nothing can interrupt: it goes with the process.
    runtime.shutdown_background();
    outcome
}

async fn connect(connect: Connect) -> anyhow::Result<ExitCode> {
    let Connect { address, mut options } = connect;
    if io::stdout().is_terminal() {
        options.printing = Printing::Harmless;
    }
    let stream = TcpStream::connect((&*address.host, address.port)).await;
    let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true).with_context(|| format!("cannot set up the connection to {address}"))?;
    // Tokio's streams hand whole chunks to a thread that writes them by one call each, up to the last line end; the
    // standard library's line buffer sees only what is behind it. So no line has a write of its own, unless it is alone.
    match client::run(stream, tokio::io::stdin(), tokio::io::stdout(), options).await? {
        End::Done | End::OutputClosed => Ok(ExitCode::SUCCESS),
        End::ServerGone => anyhow::bail!("the server at {address} has closed the connection"),
    }
}
