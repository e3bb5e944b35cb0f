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
        #[cfg(feature = "password")]
        Task::HashPassword => hash_password(),
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

/// Of a line of stdin. It is shown if a terminal shows it.
#[cfg(feature = "password")]
fn hash_password() -> anyhow::Result<ExitCode> {
    use std::io::{BufRead, Read};

    use unisono::door::{Password, hash};

    let mut line = Vec::new();
    io::stdin().lock().take(1024).read_until(b'\n', &mut line).context("cannot read stdin")?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = Password::new(text.strip_suffix(b"\r").unwrap_or(text).to_vec());
    drop(Password::new(line));
    anyhow::ensure!(!password.bytes().is_empty(), "a password is wanted, in one line on stdin");
    anyhow::ensure!(password.bytes().len() < 1000, "a password has less than 1000 bytes");
    let hash = hash(&password).map_err(|error| anyhow::anyhow!("cannot hash it: {error}"))?;
    show(&format!("{hash}\n"))
}

fn show(text: &str) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
