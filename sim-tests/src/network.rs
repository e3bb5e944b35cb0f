//! Networks that the server and the client run on unchanged.

use std::io;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use unisono::Listener;
use unisono::listen::Peer;

pub mod faulty;
pub mod simnet;

/// A network that plans are run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// In memory, byte by byte: masses of seeds, slow readers, every fault.
    #[default]
    Simnet,
    /// Hosts with runtimes and clocks of their own.
    Turmoil,
    /// Real sockets, in real time: what happens is not repeated exactly.
    Loopback,
}

impl Kind {
    /// As one asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Simnet => "simnet",
            Self::Turmoil => "turmoil",
            Self::Loopback => "loopback",
        }
    }
}

/// A listener on turmoil's network. Bind it inside a simulated host.
pub struct Turmoil(turmoil::net::TcpListener);

impl Turmoil {
    /// Listens on `port` of the simulated host that this runs on.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn bind(port: u16) -> io::Result<Self> {
        Ok(Self(turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?))
    }
}

impl Listener for Turmoil {
    type Io = turmoil::net::TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Io, Peer)> {
        let (stream, from) = self.0.accept().await?;
        Ok((stream, from.into()))
    }

    fn place(&self) -> io::Result<String> {
        Ok(self.0.local_addr()?.to_string())
    }
}
