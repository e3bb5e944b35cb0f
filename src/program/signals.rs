//! The signals that a server listens to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, as long as this lives in place of their default.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// A signal that asked for the end, and the exit code of one whom it ended.
pub(super) struct EndedBy {
    pub(super) name: &'static str,
    pub(super) exit_code: u8,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> EndedBy {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => EndedBy { name: "SIGTERM", exit_code: 128 + 15 },
            _ = self.interrupt.recv() => EndedBy { name: "SIGINT", exit_code: 128 + 2 },
        }
    }
}
