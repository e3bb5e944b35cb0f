//! The signals that a server listens to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP, as long as this lives in place of their default, a sudden end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
pub(super) enum Asked {
    Reload,
    End(EndedBy),
}

/// A signal that asked for the end, and the exit code of one whom it ended.
pub(super) struct EndedBy {
    pub(super) name: &'static str,
    pub(super) exit_code: u8,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Asked {
        // Biased: after an end nothing is reloaded.
        tokio::select! {
            biased;
            ended_by = Self::next_end(&mut self.terminate, &mut self.interrupt) => Asked::End(ended_by),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// The next that asks for the end. Cancel safe.
    pub(super) async fn next_end_only(&mut self) -> EndedBy {
        Self::next_end(&mut self.terminate, &mut self.interrupt).await
    }

    async fn next_end(terminate: &mut Signal, interrupt: &mut Signal) -> EndedBy {
        tokio::select! {
            biased;
            _ = terminate.recv() => EndedBy { name: "SIGTERM", exit_code: 128 + 15 },
            _ = interrupt.recv() => EndedBy { name: "SIGINT", exit_code: 128 + 2 },
        }
    }
}
