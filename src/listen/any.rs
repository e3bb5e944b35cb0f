//! All kinds of listeners as one, so that a server may have several at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, Greeted, Listener, Peer, Tcp, Unix};
use crate::proxy::Proxies;
use crate::room::Room;

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// One that other machines may reach.
    Tcp(Tcp),
    /// One of this machine.
    Unix(Unix),
}

impl Listener for Socket {
    type Io = Connection;

    async fn accept(&mut self) -> io::Result<(Connection, Peer)> {
        match self {
            Self::Tcp(tcp) => tcp.accept().await,
            Self::Unix(unix) => unix.accept().await,
        }
    }

    fn is_quiet(io: &Connection) -> bool {
        Tcp::is_quiet(io)
    }

    fn place(&self) -> io::Result<String> {
        match self {
            Self::Tcp(tcp) => tcp.place(),
            Self::Unix(unix) => unix.place(),
        }
    }
}

type Proxied = Greeted<Socket, Proxies>;

/// A listener of any kind.
pub enum Any {
    /// Lines as they are.
    Plain(Box<Proxied>),
    /// Lines within TLS.
    #[cfg(feature = "tls")]
    Tls(Box<Greeted<Proxied, crate::tls::Certificates>>),
}

impl Any {
    /// Takes lines on `socket`; those who come from one of `proxies` say first for whom.
    pub fn plain(socket: Socket, proxies: Proxies, room: &Room) -> Self {
        Self::Plain(Box::new(Greeted::new(socket, proxies, room)))
    }

    /// As [`plain`](Self::plain), within TLS.
    #[cfg(feature = "tls")]
    pub fn tls(socket: Socket, proxies: Proxies, certificates: crate::tls::Certificates, room: &Room) -> Self {
        let proxied = Greeted::new(socket, proxies, room);
        Self::Tls(Box::new(Greeted::new(proxied, certificates, room)))
    }
}

impl Listener for Any {
    type Io = AnyStream;

    async fn accept(&mut self) -> io::Result<(AnyStream, Peer)> {
        match self {
            Self::Plain(plain) => plain.accept().await.map(|(stream, peer)| (AnyStream::Plain(stream), peer)),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.accept().await.map(|(stream, peer)| (AnyStream::Tls(stream), peer)),
        }
    }

    fn is_quiet(io: &AnyStream) -> bool {
        match io {
            AnyStream::Plain(stream) => Proxied::is_quiet(stream),
            #[cfg(feature = "tls")]
            AnyStream::Tls(stream) => <Greeted<Proxied, crate::tls::Certificates>>::is_quiet(stream),
        }
    }

    async fn close(&mut self) {
        match self {
            Self::Plain(plain) => plain.close().await,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.close().await,
        }
    }

    fn place(&self) -> io::Result<String> {
        match self {
            Self::Plain(plain) => plain.place(),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.place(),
        }
    }
}

/// A connection of any kind. One of the others is no larger than a plain one, as most are that.
#[derive(Debug)]
pub enum AnyStream {
    /// Bytes as they are.
    Plain(Connection),
    /// Within TLS.
    #[cfg(feature = "tls")]
    Tls(Box<crate::tls::Stream<Connection>>),
}

/// Runs a method of the one that it is.
macro_rules! each {
    ($self:ident, $stream:ident => $method:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => $method,
            #[cfg(feature = "tls")]
            Self::Tls($stream) => $method,
        }
    };
}

impl AsyncRead for AnyStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for AnyStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection;

    /// Whoever reads without TLS pays nothing for those who do not.
    #[test]
    fn connection_of_any_kind_is_as_small_as_one_of_tcp() {
        assert_eq!(size_of::<AnyStream>(), size_of::<Connection>());
        assert_eq!(size_of::<connection::Connection<Any>>(), size_of::<connection::Connection<Tcp>>());
        assert_eq!(size_of::<connection::Connection<Any>>(), 104);
    }
}
