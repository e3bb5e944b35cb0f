//! One connection as the server holds it: a [`Drive`], folded while it idles, and its place in the census.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::census::Admission;
use crate::drive::{Drive, End, Idle, Left, Standing};
use crate::listen::{Listener, Origin, Peer};
use crate::room::{Member, Room};
use crate::session::Who;
use crate::totals::Event;

/// A future that ends when the connection does, and says in the log why. It must be polled by the same waker all its life.
#[derive(Debug)]
pub(crate) struct Connection<L: Listener> {
    state: State<L::Io>,
    /// Its place among the connections, free when this is gone.
    admission: Admission,
}

#[derive(Debug)]
enum State<S> {
    Idle(Idle<S>),
    Busy(Box<Drive<S>>),
    Ended,
}

impl<L: Listener> Connection<L> {
    /// A connection from `peer`, on its way into `room`.
    pub(crate) fn new(stream: L::Io, peer: &Peer, standing: Standing, room: &Room, mut admission: Admission) -> Self {
        // Who is not called by its address from the beginning is found by it in the log.
        if room.wire().who == Who::Guest || peer.name.is_some() {
            admission.remember(peer.origin);
        }
        Self { state: State::Idle(Idle::new(stream, room.seat_peer(peer), standing)), admission }
    }

    /// Touches what the next polls of `connections`, which are all of one room, touch first.
    #[expect(clippy::borrowed_box, reason = "so a shard has them")]
    pub(crate) fn touch(connections: &[&Box<Self>]) {
        let idle = connections.iter().filter_map(|connection| match &connection.state {
            State::Idle(idle) => Some(idle),
            State::Busy(_) | State::Ended => None,
        });
        for idle in idle.clone() {
            idle.touch(L::is_quiet);
        }
        Member::touch_seats(idle.map(Idle::member));
    }
}

impl<L: Listener> Future for Connection<L> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut left = Left::All;
        if let State::Idle(idle) = &mut self.state {
            match idle.poll_short(L::is_quiet, cx) {
                Some(what) => left = what,
                None => return Poll::Pending,
            }
        }
        // Should the drive panic, it is dropped.
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(idle) => {
                let mut drive = idle.unfold(&left);
                match Pin::new(&mut drive).poll(cx) {
                    Poll::Ready(end) => return ended(drive.member(), self.admission.origin(), &end),
                    Poll::Pending if drive.is_idle() => State::Idle(drive.fold()),
                    Poll::Pending => State::Busy(Box::new(drive)),
                }
            }
            State::Busy(mut drive) => match Pin::new(&mut *drive).poll(cx) {
                Poll::Ready(end) => return ended(drive.member(), self.admission.origin(), &end),
                Poll::Pending if drive.is_idle() => State::Idle(drive.fold()),
                Poll::Pending => State::Busy(drive),
            },
            State::Ended => return Poll::Ready(()),
        };
        Poll::Pending
    }
}

/// Says in the log how it ended, and counts that.
fn ended(member: &Member, origin: Option<Origin>, end: &End) -> Poll<()> {
    let (who, from) = (member.who(), origin.map(tracing::field::display));
    member.room().count(Event::Closed(end.word()));
    match end {
        End::Stalled => tracing::info!(who, from, "closed: it took nothing for the stall limit"),
        End::Torn => tracing::info!(who, from, "closed: let go amid a line, and the memory for partial lines is spent"),
        End::Denied => tracing::info!(who, from, "closed: it did not know the password"),
        End::Removed => tracing::info!(who, from, "closed: it was removed"),
        End::Foreign(protocol) => tracing::info!(who, from, "closed: it speaks {protocol}"),
        End::LineDeadline => tracing::info!(who, from, "closed: a line took longer than the line deadline"),
        End::Lost(error) => tracing::debug!(who, from, %error, "connection lost"),
        End::Left | End::Shutdown => tracing::debug!(who, from, "connection ended"),
    }
    Poll::Ready(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
    use tokio::time::Instant;

    use super::*;
    use crate::census::Census;
    use crate::limits::{FOREVER, Flood, Rate};
    use crate::sync::Arc;
    use crate::{Lang, Limits, Wire};

    /// Where the connection comes from.
    struct Nowhere;

    impl Listener for Nowhere {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, Peer)> {
            std::future::pending().await
        }

        fn place(&self) -> io::Result<String> {
            Ok("10.0.0.1:8000".to_owned())
        }
    }

    /// A connection that is polled by hand, and its peer.
    struct Polled {
        connection: Connection<Nowhere>,
        peer: DuplexStream,
        woken: Arc<Woken>,
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Polled {
        /// The only one of a room. Its stream holds `stream_bytes` in each direction.
        fn new(limits: Limits, stream_bytes: usize) -> Self {
            let wire = Wire { lang: Lang::En, ..Wire::default() };
            let room = Room::new(limits, wire).expect("limits that work");
            let from = Peer::from(SocketAddr::from(([10, 0, 0, 1], 1)));
            let admission = Census::admit(&Arc::default(), &from, room.limits(), Instant::now().into_std());
            let admission = admission.expect("nobody else is there");
            let (stream, peer) = tokio::io::duplex(stream_bytes);
            let connection = Connection::new(stream, &from, Standing::Stranger, &room, admission);
            Self { connection, peer, woken: Arc::default() }
        }

        /// Polls it until it waits, and says whether it is folded then.
        async fn is_folded(&mut self) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            for _ in 0..10 {
                // With a new budget of tokio's each time.
                tokio::task::yield_now().await;
                self.woken.0.store(false, Ordering::Relaxed);
                let polled = Pin::new(&mut self.connection).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending(), "nothing has ended it");
                if !self.woken.0.load(Ordering::Relaxed) {
                    return matches!(self.connection.state, State::Idle(_));
                }
            }
            panic!("law 9: it spins");
        }

        fn send(&mut self, bytes: &[u8]) {
            let sent = Pin::new(&mut self.peer).poll_write(&mut Context::from_waker(Waker::noop()), bytes);
            assert!(matches!(sent, Poll::Ready(Ok(count)) if count == bytes.len()), "{sent:?}");
        }

        /// What the peer has got and not seen yet.
        fn seen(&mut self) -> String {
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            let _pending = Pin::new(&mut self.peer).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            String::from_utf8(buffer.filled().to_vec()).expect("nothing but ASCII is said here")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connection_with_nothing_to_do_is_folded() {
        let mut polled = Polled::new(Limits::default(), 1024);
        assert!(polled.is_folded().await);
        assert_eq!(polled.seen(), "Welcome 10.0.0.1:1\n");
        assert!(polled.is_folded().await, "polled for nothing");
        polled.send(b"hi\n");
        assert!(polled.is_folded().await, "all is said and written");
        assert_eq!(polled.seen(), "10.0.0.1:1: hi\n");
    }

    #[tokio::test(start_paused = true)]
    async fn connection_amid_a_line_is_not_folded_until_that_line_ends() {
        let cases: [(&[u8], &[u8], &str); 4] = [
            (b"hel", b"lo\n", "10.0.0.1:1: hello\n"),
            (b"hi\nhel", b"lo\n", "10.0.0.1:1: hi\n10.0.0.1:1: hello\n"),
            (b"\xEF\xBB", b"\xBFhi\n", "10.0.0.1:1: hi\n"),
            (b"it is too long", b"\n", "-- line too long, not said: at most 12 bytes\n"),
        ];
        for (begin, end, expected) in cases {
            let mut polled = Polled::new(Limits { line_bytes_max: 12, ..Limits::default() }, 1024);
            assert!(polled.is_folded().await);
            polled.seen();
            polled.send(begin);
            assert!(!polled.is_folded().await, "{begin:?}");
            assert!(!polled.is_folded().await, "{begin:?}, polled for nothing");
            polled.send(end);
            assert!(polled.is_folded().await, "{end:?}");
            assert_eq!(polled.seen(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn end_is_counted_by_its_kind() {
        let mut polled = Polled::new(Limits::default(), 1024);
        assert!(polled.is_folded().await);
        let State::Idle(idle) = &polled.connection.state else { panic!("it is folded") };
        let room = idle.member().room().clone();
        drop(polled.peer);
        let waker = Waker::from(polled.woken);
        assert!(Pin::new(&mut polled.connection).poll(&mut Context::from_waker(&waker)).is_ready());
        assert_eq!(room.totals().events, [(Event::Closed("left"), 1)]);
    }

    /// With no limit of time there is no timer that would say so.
    #[tokio::test(start_paused = true)]
    async fn connection_is_not_folded_before_all_that_it_is_told_is_written() {
        let mut polled = Polled::new(Limits { stall: FOREVER, ..Limits::default() }, 8);
        let answer = "-- 1 here\n--   10.0.0.1:1\n";
        for (input, expected) in [(&b""[..], "Welcome 10.0.0.1:1\n"), (b"/who\n", answer)] {
            if !input.is_empty() {
                polled.send(input);
            }
            let mut seen = String::new();
            while seen.len() < expected.len() {
                let is_folded = polled.is_folded().await;
                seen.push_str(&polled.seen());
                assert_eq!(is_folded, seen.len() == expected.len(), "after {seen:?}");
            }
            assert_eq!(seen, expected);
            assert!(polled.is_folded().await);
        }
    }

    /// Law 6: waiting counts until B more bytes were taken, and would be forgotten with the account of it.
    #[tokio::test(start_paused = true)]
    async fn connection_that_has_waited_is_not_folded_within_the_backlog_that_counts() {
        let limits = Limits { line_bytes_max: 12, backlog_bytes: 1600, ..Limits::default() };
        let backlog_bytes = limits.backlog_bytes;
        let mut polled = Polled::new(limits, 18);
        assert!(!polled.is_folded().await, "it is blocked");
        tokio::time::advance(Duration::from_millis(1)).await;
        let mut welcome = polled.seen();
        assert!(!polled.is_folded().await, "it has waited");
        welcome.push_str(&polled.seen());
        assert_eq!(welcome, "Welcome 10.0.0.1:1\n");
        let mut taken_bytes = 0;
        loop {
            polled.send(b"hi\n");
            let is_folded = polled.is_folded().await;
            taken_bytes += polled.seen().len();
            assert_eq!(is_folded, taken_bytes >= backlog_bytes, "after {taken_bytes} bytes");
            if is_folded {
                break;
            }
        }
    }

    /// What it said would be forgotten, and a flood begun anew.
    #[tokio::test(start_paused = true)]
    async fn stranger_that_has_spoken_is_not_folded_until_that_is_given_back() {
        let flood = Flood { lines: Rate { burst: 2, per_second: 10 }, bytes: Rate { burst: 1000, per_second: 1000 } };
        let mut polled = Polled::new(Limits { flood: Some(flood), ..Limits::default() }, 1024);
        assert!(polled.is_folded().await);
        polled.send(b"1\n2\n3\n");
        assert!(!polled.is_folded().await);
        assert_eq!(polled.seen(), "Welcome 10.0.0.1:1\n10.0.0.1:1: 1\n10.0.0.1:1: 2\n");
        for (expected, is_folded) in [("10.0.0.1:1: 3\n", false), ("", false), ("", true)] {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert_eq!(polled.is_folded().await, is_folded);
            assert_eq!(polled.seen(), expected);
        }
    }
}
