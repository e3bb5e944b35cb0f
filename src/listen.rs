//! Where connections come from: a trait, who they are from, and what ships: TCP and Unix sockets, and what is said before lines are.
//!
//! A listener only reports: what an error of accepting means, and how long it is waited out, the
//! [`server`](crate::server) decides in one place, so that a simulated `EMFILE` tests what ships.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::name::Name;
use crate::site::Site;

// Under loom tokio has no sockets.
#[cfg(not(loom))]
mod any;
mod greeting;
#[cfg(not(loom))]
mod tcp;
#[cfg(not(loom))]
mod unix;

#[cfg(not(loom))]
pub use self::any::{Any, AnyStream, Socket};
pub use self::greeting::{Begun, Counts, Greeted, Greeter, Outcome};
#[cfg(not(loom))]
pub use self::tcp::{Connection, Tcp};
#[cfg(not(loom))]
pub use self::unix::Unix;

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
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;

    /// Whether a read of `io` would be pending still, and the waker of the last read that was is going to be woken: then a
    /// connection that was woken to write need not read. `false` when that is not known, as by default; it must change nothing,
    /// and be cheap, as it also serves to fetch the memory of several connections at once.
    fn is_quiet(_io: &Self::Io) -> bool {
        false
    }

    /// Ends what it has started besides. Called once, when nobody more is to be accepted.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Where it listens, as the log shall show it.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    fn place(&self) -> io::Result<String>;
}

/// Who a connection is from.
///
/// ```
/// use std::net::SocketAddr;
/// use unisono::listen::Peer;
///
/// let peer = Peer::from("[::ffff:192.0.2.7]:5000".parse::<SocketAddr>()?);
/// assert_eq!(peer.to_string(), "192.0.2.7:5000");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from. An IPv4-mapped address stands as IPv4.
    pub origin: Origin,
    /// What it has proved to be called, as by a certificate: so it is called in the room.
    pub name: Option<Name>,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From another end of a network, or by one from this machine.
    Network(SocketAddr),
    /// From a process of this machine, as the kernel knows it.
    Local {
        /// Its user.
        uid: u32,
        /// Its number, where the kernel says that.
        pid: Option<u32>,
    },
}

impl Peer {
    /// Its IP address, if it comes by a network.
    pub fn ip(&self) -> Option<IpAddr> {
        self.addr().map(|addr| addr.ip())
    }

    /// Whom it counts with, if it comes by a network.
    pub fn site(&self) -> Option<Site> {
        self.ip().map(Site::of)
    }

    /// Its IP address and port, if it comes by a network.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Network(addr) => Some(addr),
            Origin::Local { .. } => None,
        }
    }
}

impl From<Origin> for Peer {
    fn from(origin: Origin) -> Self {
        let origin = match origin {
            Origin::Network(addr) => Origin::Network(SocketAddr::new(addr.ip().to_canonical(), addr.port())),
            local @ Origin::Local { .. } => local,
        };
        Self { origin, name: None }
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        Origin::Network(addr).into()
    }
}

/// `192.0.2.7:5000`, or `uid1000-pid4242`: what a room calls one that has no name, unless addresses are not shown.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(addr) => addr.fmt(f),
            Self::Local { uid, pid: Some(pid) } => write!(f, "uid{uid}-pid{pid}"),
            Self::Local { uid, pid: None } => write!(f, "uid{uid}"),
        }
    }
}

/// Where it comes from, and its name if it has one.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)?;
        match &self.name {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}
