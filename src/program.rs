//! What the process does: one task of those that the command line has, to its exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;

use crate::arguments::{self, Task};

mod admin;
mod administer;
mod connect;
mod door;
mod listeners;
#[cfg(feature = "metrics")]
mod metrics;
mod reload;
mod serve;
mod signals;
mod systemd;

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let outcome = match arguments::parse() {
        Task::Serve(serve, settings) => serve::run(*serve, settings),
        Task::Connect(connect) => connect::run(connect),
        Task::Administer(asked) => administer::run(&asked),
        Task::Check(serve) => Ok(serve::check(&serve)),
        Task::Show(text) => show(&text),
    };
    outcome.unwrap_or_else(|error| {
        // Not `eprintln`, which panics when stderr cannot be written.
        let _ = writeln!(io::stderr(), "unisono: {error:#}");
        ExitCode::FAILURE
    })
}

fn show(text: &str) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
