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

    /// Reads a little of what the next poll of `io` will read: a hint, by which the memory of several connections is fetched
    /// at once. Nothing, unless a listener knows better; it must change nothing.
    fn touch(_io: &Self::Io) {}

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}
