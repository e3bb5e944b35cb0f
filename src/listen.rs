//! Where connections come from: a trait, and TCP.
//!
//! A listener only reports: what an error of accepting means, and how long it is waited out, the
//! [`server`](crate::server) decides in one place, so that a simulated `EMFILE` tests what ships.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(not(loom))]
mod tcp;

// Under loom tokio has no sockets.
#[cfg(not(loom))]
pub use tcp::{Connection, Tcp};

/// A source of connections.
pub trait Listener {
    /// One connection. That a write is pending must mean that it can take no bytes: law 6 counts that time.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection and says who it is from.
    ///
    /// Must be cancel safe: a future that is dropped loses no connection.
    ///
    /// # Errors
    ///
    /// Any; none ends the server. It waits and asks again.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;

    /// Whether a read of `io` would be pending still, and the waker of the last read that was is going to be woken: then a
    /// connection that was woken to write need not read. `false` when that is not known, as by default; it must change nothing,
    /// and be cheap, as it also serves to fetch the memory of several connections at once.
    fn is_quiet(_io: &Self::Io) -> bool {
        false
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
