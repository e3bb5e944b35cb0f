//! All kinds of listeners as one, so that a server may have several at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, Counts, Greeted, Listener, Peer, Tcp, Unix};
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

    /// What becomes of its connections before their first line, by the kind of greeting: `proxy`, `tls`.
    pub fn counts(&self) -> Vec<(&'static str, Arc<Counts>)> {
        match self {
            Self::Plain(plain) => vec![("proxy", plain.counts())],
            #[cfg(feature = "tls")]
            Self::Tls(tls) => vec![("proxy", tls.inner().counts()), ("tls", tls.counts())],
        }
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
        // All of them do.
        true
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
    use std::pin::pin;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::{Limits, Wire, connection};

    fn room() -> Room {
        Room::new(Limits::default(), Wire::default()).expect("limits that work")
    }

    fn tcp() -> Socket {
        Socket::Tcp(Tcp::bind(([127, 0, 0, 1], 0).into(), &Limits::default()).expect("loopback has free ports"))
    }

    /// How many are being greeted.
    fn greetings(listener: &Any) -> usize {
        match listener {
            Any::Plain(plain) => plain.under_way().0,
            #[cfg(feature = "tls")]
            Any::Tls(tls) => {
                let (shaking_hands, proxied) = tls.under_way();
                shaking_hands + proxied.under_way().0
            }
        }
    }

    /// A connection to where it listens: the place begins with the address.
    async fn dial(listener: &Any) -> TcpStream {
        let place = listener.place().expect("it listens");
        TcpStream::connect(place.split(' ').next().expect("an address")).await.expect("it listens")
    }

    /// Writes on until nothing more is taken.
    fn fill(stream: &mut AnyStream) -> usize {
        let (bytes, mut cx) = ([b'x'; 4096], Context::from_waker(Waker::noop()));
        let mut filled = 0;
        // A socket takes some megabytes.
        for _ in 0..100_000 {
            match Pin::new(&mut *stream).poll_write(&mut cx, &bytes) {
                Poll::Ready(written) => filled += written.expect("it is whole"),
                Poll::Pending => return filled,
            }
        }
        panic!("it takes whatever there is");
    }

    async fn check(ours: AnyStream, theirs: impl AsyncRead + AsyncWrite, holds: bool) {
        timeout(Duration::from_secs(10), talk(ours, theirs, holds)).await.expect("nothing hangs");
    }

    fn greeted(any: &Any) -> Vec<(&'static str, u64)> {
        any.counts().into_iter().map(|(kind, counts)| (kind, counts.greeted())).collect()
    }

    /// Says things both ways, fills one of them, and ends.
    async fn talk(mut ours: AnyStream, theirs: impl AsyncRead + AsyncWrite, holds: bool) {
        tokio::pin!(theirs);
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = [0; 6];
        let mut room = ReadBuf::new(&mut seen);
        assert!(Pin::new(&mut ours).poll_read(&mut cx, &mut room).is_pending());
        assert!(Any::is_quiet(&ours));
        theirs.write_all(b"hi").await.expect("it is whole");
        theirs.flush().await.expect("it is whole");
        let mut heard = [0; 2];
        assert_eq!(ours.read_exact(&mut heard).await.expect("it is whole"), 2);
        assert_eq!(&heard, b"hi");
        theirs.write_all(b"x").await.expect("it is whole");
        theirs.flush().await.expect("it is whole");
        while Any::is_quiet(&ours) {
            tokio::task::yield_now().await;
        }
        assert_eq!(ours.read_u8().await.expect("it is whole"), b'x');

        assert!(ours.is_write_vectored());
        let slices = [&b"one"[..], b"two"].map(IoSlice::new);
        assert_eq!(ours.write_vectored(&slices).await.expect("it is whole"), 6);
        ours.flush().await.expect("it is whole");
        theirs.read_exact(&mut seen).await.expect("it is whole");
        assert_eq!(&seen, b"onetwo");

        let filled = fill(&mut ours);
        assert_eq!(Pin::new(&mut ours).poll_flush(&mut cx).is_pending(), holds);
        let mut all = vec![0; filled];
        let (flushed, read) = tokio::join!(ours.flush(), theirs.read_exact(&mut all));
        flushed.expect("it is whole");
        read.expect("it is whole");
        ours.shutdown().await.expect("it is whole");
        assert_eq!(theirs.read(&mut seen).await.expect("it ends cleanly"), 0);
    }

    #[tokio::test]
    async fn plain_connections_are_those_of_their_socket() {
        let mut any = Any::plain(tcp(), Proxies::default(), &room());
        assert!(any.place().expect("it listens").starts_with("127.0.0.1:"));
        let theirs = dial(&any).await;
        let (ours, peer) = any.accept().await.expect("one comes");
        assert_eq!(peer, theirs.local_addr().expect("it is bound").into());
        assert_eq!(greeted(&any), [("proxy", 1)]);
        check(ours, theirs, false).await;
    }

    #[tokio::test]
    async fn connections_by_a_file_are_those_of_this_machine() {
        let path = std::env::temp_dir().join(format!("unisono-{}-any", std::process::id()));
        let unix = Unix::bind(&path, 0o600).await.expect("there is nothing yet");
        let mut any = Any::plain(Socket::Unix(unix), Proxies::default(), &room());
        assert_eq!(any.place().expect("it listens"), format!("unix:{}", path.display()));
        let theirs = tokio::net::UnixStream::connect(&path).await.expect("it listens");
        let (ours, peer) = any.accept().await.expect("one comes");
        assert_eq!(peer.ip(), None);
        check(ours, theirs, false).await;
    }

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn connections_within_tls_hold_what_is_encrypted_until_it_is_taken() {
        let papers = crate::tls::tests::Papers::new("any");
        let mut any = Any::tls(tcp(), Proxies::default(), papers.certificates(), &room());
        assert!(any.place().expect("it listens").ends_with(" within TLS"));
        let (client, theirs) = (papers.client(false), dial(&any).await);
        let (accepted, connected) = tokio::join!(any.accept(), client.connect("localhost", theirs));
        assert_eq!(greeted(&any), [("proxy", 1), ("tls", 1)]);
        check(accepted.expect("one comes").0, connected.expect("they understand each other"), true).await;
    }

    /// Law 9.
    #[tokio::test]
    async fn greetings_end_with_the_listener_of_any_kind() {
        let proxies = || Proxies::new(&["127.0.0.0/8".parse().expect("a prefix")]);
        let mut all = vec![Any::plain(tcp(), proxies(), &room())];
        #[cfg(feature = "tls")]
        {
            let papers = crate::tls::tests::Papers::new("close");
            all.push(Any::tls(tcp(), proxies(), papers.certificates(), &room()));
            all.push(Any::tls(tcp(), Proxies::default(), papers.certificates(), &room()));
        }
        for any in &mut all {
            let mut stalled = dial(any).await;
            while greetings(any) == 0 {
                let polled = pin!(any.accept()).poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending(), "it has said nothing");
                tokio::task::yield_now().await;
            }
            any.close().await;
            let ended = timeout(Duration::from_secs(10), stalled.read(&mut [0])).await;
            assert_eq!(ended.expect("it is closed").expect("in order"), 0);
        }
    }

    /// Whoever reads without TLS pays nothing for those who do not.
    #[test]
    fn connection_of_any_kind_is_as_small_as_one_of_tcp() {
        assert_eq!(size_of::<AnyStream>(), size_of::<Connection>());
        assert_eq!(size_of::<connection::Connection<Any>>(), size_of::<connection::Connection<Tcp>>());
        assert_eq!(size_of::<connection::Connection<Any>>(), 104);
    }
}
