//! What systemd wants to be told, and the sockets that it hands over. Without it nothing of this happens.
//!
//! By `sd_notify(3)`: a datagram to the socket that `NOTIFY_SOCKET` names. By `sd_listen_fds(3)`: sockets from descriptor 3 on.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use anyhow::Context;
use listenfd::ListenFd;
use tokio::task::JoinSet;
use unisono::{
    Limits, Room,
    listen::{Socket, Tcp, Unix},
};

/// Where it is told how we are.
pub(super) struct Systemd {
    /// None: nobody asks.
    socket: Option<UnixDatagram>,
}

impl Systemd {
    /// As the environment says.
    pub(super) fn new() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self { socket: None };
        };
        let socket = connect(name.as_bytes());
        if let Err(error) = &socket {
            tracing::warn!("systemd cannot be told how this server is: NOTIFY_SOCKET {name:?}: {error}");
        }
        Self { socket: socket.ok() }
    }

    /// Everything listens, or everything has been reloaded.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    pub(super) fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Tells it that we live, twice in the time that it gives us, until what is returned is dropped. Each time a worker of the runtime
    /// has run, and the room's lock was to be had.
    pub(super) fn watch(&self, room: &Room) -> io::Result<JoinSet<()>> {
        let mut watching = JoinSet::new();
        if let (Some(socket), Some(within)) = (&self.socket, watchdog()) {
            let (systemd, room) = (Self { socket: Some(socket.try_clone()?) }, room.clone());
            watching.spawn(async move {
                let mut due = tokio::time::interval(within / 2);
                loop {
                    due.tick().await;
                    let _taken = room.tally();
                    systemd.tell("WATCHDOG=1");
                }
            });
        }
        Ok(watching)
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // It must not hold us up, and who does not listen misses it.
            let _told = socket.send(state.as_bytes());
        }
    }
}

fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Within which time it wants to hear of us, by `sd_watchdog_enabled(3)`.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC").filter(|within| is_ours && *within > 1).map(Duration::from_micros)
}

/// The sockets that were handed over to this process; none without systemd.
pub(super) fn inherited(limits: &Limits) -> anyhow::Result<Vec<Socket>> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let socket = match handed.take_tcp_listener(index) {
            Ok(Some(tcp)) => Tcp::inherit(tcp, limits).map(Socket::Tcp),
            Ok(None) => continue,
            Err(_) => match handed.take_unix_listener(index) {
                Ok(Some(unix)) => Unix::inherit(unix).map(Socket::Unix),
                Ok(None) => continue,
                Err(error) => Err(error),
            },
        };
        sockets.push(socket.with_context(|| format!("socket {} of LISTEN_FDS cannot be used", index + 1))?);
    }
    Ok(sockets)
}
