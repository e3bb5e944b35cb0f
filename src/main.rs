//! The `unisono` program: arguments to values, values to the library, outcomes to exit codes.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; for `connect` also when nobody reads stdout any more |
//! | 1 | it could not run: an address is taken, the server is gone |
//! | 2 | bad options |
//! | 130, 143 | after a second SIGINT or SIGTERM: ended at once, without the flush that the first one asked for |

#[cfg(not(loom))]
mod arguments;
#[cfg(not(loom))]
mod journal;
#[cfg(not(loom))]
mod program;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    program::run()
}

/// Under loom there are no sockets.
#[cfg(loom)]
fn main() {}
