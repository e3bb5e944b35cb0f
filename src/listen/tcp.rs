//! TCP connections as a public server wants them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::{Listener, Peer};
use crate::limits::{FOREVER, Limits, SEND_BUFFER_BYTES};

/// How long a peer may be idle before it is asked whether it lives, how often it is asked again, and how many times: a
/// vanished peer is found within 90 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Connections that the kernel holds for us until they are accepted; it takes less if `somaxconn` says so.
pub(super) const LISTEN_BACKLOG: i32 = 4096;

/// TCP over IPv4 or IPv6.
///
/// All options of a connection are set once, on the listening socket: Linux hands them on to what it accepts (tcp(7):
/// accepted sockets inherit), which spares six system calls each.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
}

impl Tcp {
    /// Listens on `addr`; port 0 takes a free one. `[::]` serves IPv4 too where the system maps it.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or the socket not be set up.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn bind(addr: SocketAddr, limits: &Limits) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A server that is started again must not wait for the last one's connections to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        set_options(&socket, limits)?;
        socket.bind(&addr.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(Self { listener: TcpListener::from_std(socket.into())? })
    }

    /// Listens where somebody else has begun to, as systemd does.
    ///
    /// # Errors
    ///
    /// When the socket cannot be set up.
    ///
    /// # Panics
    ///
    /// As [`bind`](Self::bind).
    pub fn inherit(listener: std::net::TcpListener, limits: &Limits) -> io::Result<Self> {
        let socket = Socket::from(listener);
        socket.set_nonblocking(true)?;
        set_options(&socket, limits)?;
        Ok(Self { listener: TcpListener::from_std(socket.into())? })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn set_options(socket: &Socket, limits: &Limits) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(user_timeout(limits))?;
        let unsent = u32::try_from(SEND_BUFFER_BYTES).expect("a send buffer is small");
        socket.set_tcp_notsent_lowat(unsent)?;
    }
    Ok(())
}

/// How long the kernel waits for a peer that acknowledges nothing (`TCP_USER_TIMEOUT`), for whom retransmission would go on
/// for a quarter of an hour (tcp(7), `tcp_retries2`).
///
/// Never less than keepalive takes to find a vanished peer, although the stall limit may be shorter: Linux also counts
/// peers whose window is open, but by less than a segment, and would close readers who take bytes, if slowly. (Seen on
/// loopback, whose segments are 64 KiB.) That a connection takes nothing at all is for the drive to judge.
#[cfg(target_os = "linux")]
fn user_timeout(limits: &Limits) -> Option<Duration> {
    let keepalive = KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_RETRIES;
    (limits.stall != FOREVER).then(|| limits.stall.max(keepalive))
}

impl Listener for Tcp {
    type Io = Connection;

    async fn accept(&mut self) -> io::Result<(Connection, Peer)> {
        let (stream, from) = self.listener.accept().await?;
        Ok((Connection(stream), from.into()))
    }

    /// Looks whether tokio holds the connection for readable. Whoever was told that a read is pending is registered with
    /// tokio until it does. (But for who has used up tokio's budget: a shard has none.)
    fn is_quiet(io: &Connection) -> bool {
        io.0.try_io(Interest::READABLE, || Ok(())).is_err()
    }

    fn place(&self) -> io::Result<String> {
        Ok(self.local_addr()?.to_string())
    }
}

/// A broken connection is an error for us, not a signal for the process (send(2)).
const MSG_NOSIGNAL: i32 = if cfg!(target_os = "linux") { 0x4000 } else { 0 };

/// An accepted connection, of a TCP or of a Unix socket: to the kernel each is a stream, and so each is held as the same.
///
/// A write asks the kernel before tokio, and so, when it is pending, the kernel has just said so. Tokio's own stream remembers
/// that it was full until the runtime has looked at its sockets again, which takes many polls while there is much to do; law 6
/// would count that time against a reader who reads. It also spares fetching what tokio knows of the socket.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// The connection of a stream socket that does not block.
    pub(super) fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(TcpStream::from_std(socket.into())?))
    }
}

/// What the kernel takes at once; `None` when it takes nothing now. `EINTR` does not happen to a call that does not wait.
fn sent(result: io::Result<usize>) -> Option<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        result => Some(result),
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match sent(SockRef::from(&self.0).send_with_flags(bytes, MSG_NOSIGNAL)) {
            Some(result) => Poll::Ready(result),
            None => Pin::new(&mut self.0).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match sent(SockRef::from(&self.0).send_vectored_with_flags(slices, MSG_NOSIGNAL)) {
            Some(result) => Poll::Ready(result),
            None => Pin::new(&mut self.0).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_have_the_listeners_options() {
        let limits = Limits { stall: Duration::from_secs(700), ..Limits::default() };
        let mut tcp = Tcp::bind(([127, 0, 0, 1], 0).into(), &limits).expect("loopback has free ports");
        let addr = tcp.local_addr().expect("it listens");
        let peer = TcpStream::connect(addr);
        let (accepted, connected) = tokio::join!(tcp.accept(), peer);
        let (stream, from) = accepted.expect("a peer comes");
        assert_eq!(from, connected.expect("it listens").local_addr().expect("it is bound").into());
        let socket = SockRef::from(&stream.0);
        assert!(socket.tcp_nodelay().expect("readable"));
        assert!(socket.keepalive().expect("readable"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_user_timeout().expect("readable"), Some(limits.stall));
            assert_eq!(socket.tcp_notsent_lowat().expect("readable") as usize, SEND_BUFFER_BYTES);
            assert_eq!(socket.tcp_keepalive_time().expect("readable"), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().expect("readable"), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().expect("readable"), KEEPALIVE_RETRIES);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn kernel_waits_for_the_stall_limit_but_as_long_as_keepalive_takes() {
        fn check(stall: Duration, expected: Option<Duration>) {
            assert_eq!(user_timeout(&Limits { stall, ..Limits::default() }), expected);
        }
        check(Duration::from_secs(1), Some(Duration::from_secs(90)));
        check(Duration::from_secs(90), Some(Duration::from_secs(90)));
        check(Duration::from_secs(91), Some(Duration::from_secs(91)));
        check(FOREVER, None);
    }
}
