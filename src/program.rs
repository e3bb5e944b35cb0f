//! What the process does: one task of those that the command line has, to its exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::arguments::{self, Task};

mod connect;
mod door;
mod listeners;
mod serve;
mod signals;

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let outcome = match arguments::parse() {
        Task::Serve(serve) => serve::run(*serve),
        Task::Connect(connect) => connect::run(connect),
    };
    outcome.unwrap_or_else(|error| {
        // Not `eprintln`, which panics when stderr cannot be written.
        let _ = writeln!(io::stderr(), "unisono: {error:#}");
        ExitCode::FAILURE
    })
}
