//! A server: accepts connections, waits out what goes wrong with that, and ends in order.
//!
//! [`run`] is all of it, for production and for simulation. Each listener has one task, each thread of the runtime one
//! shard of the connections, and announcements one, where they are limited; [`run`] owns them all. So nothing that a server
//! started outlives it.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::coop::unconstrained;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::census::Census;
use crate::connection::Connection;
use crate::drive::Standing;
use crate::limits::ANNOUNCEMENTS_PERIOD;
use crate::listen::{Listener, Peer};
use crate::notice::Notice;
use crate::room::Room;
use crate::shard::{Ended, Shard};
use crate::sync::Arc;
use crate::totals::Event;

/// Why a server ended that was not asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A panic under the room's lock: its order cannot be trusted any more.
    #[error("a panic under the room's lock: its order can no longer be trusted")]
    RoomBroken,
    /// A listener's own code panicked.
    #[error("a task of the server ended: {0}")]
    Task(JoinError),
}

/// First wait after an error of accepting; it doubles up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_LAST: Duration = Duration::from_secs(1);

/// Errors of accepting are logged at most this often.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Serves `room` on `listeners` until `shutdown` resolves; then accepts no more, flushes what is in the sequence to everyone
/// who reads within [`Limits::grace`](crate::Limits::grace), and closes. The room is closed then.
///
/// Logs `listening on ADDR` for each listener, by `tracing`, as it begins. No error of accepting ends it.
///
/// Cancel safe: dropped, it aborts everything that it started, and nothing is flushed.
///
/// # Errors
///
/// [`Error`]; everything it started has ended then, too.
///
/// # Panics
///
/// Outside a tokio runtime with time enabled.
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
/// use tokio::sync::{mpsc, oneshot};
/// use unisono::{Limits, Listener, Room, Wire, listen::Peer, server};
///
/// /// Connections that come out of a channel.
/// struct Memory(mpsc::Receiver<DuplexStream>);
///
/// impl Listener for Memory {
///     type Io = DuplexStream;
///     async fn accept(&mut self) -> io::Result<(DuplexStream, Peer)> {
///         match self.0.recv().await {
///             Some(stream) => Ok((stream, SocketAddr::from(([127, 0, 0, 1], 1)).into())),
///             None => std::future::pending().await,
///         }
///     }
///     fn place(&self) -> io::Result<String> {
///         Ok("127.0.0.1:8000".to_owned())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let room = Room::new(Limits::default(), Wire::default())?;
/// let (connect, connections) = mpsc::channel(1);
/// let (stop, stopped) = oneshot::channel::<()>();
/// let server = tokio::spawn(server::run(vec![Memory(connections)], room, async { drop(stopped.await) }));
///
/// let (mut client, stream) = tokio::io::duplex(1024);
/// connect.send(stream).await?;
/// client.write_all(b"hello\n").await?;
/// client.shutdown().await?;
/// let mut seen = String::new();
/// client.read_to_string(&mut seen).await?;
/// assert_eq!(seen, "欢迎 127.0.0.1:1\n127.0.0.1:1: hello\n");
///
/// drop(stop);
/// server.await??;
/// # Ok(())
/// # }
/// ```
pub async fn run<L>(listeners: Vec<L>, room: Room, shutdown: impl Future<Output = ()>) -> Result<(), Error>
where
    L: Listener + Send + 'static,
{
    let census = Arc::new(Census::default());
    let (stop, stopped) = watch::channel(());
    let (departed, departures) = watch::channel(());
    let mut tasks = JoinSet::new();
    let shards: Vec<_> = (0..Handle::current().metrics().num_workers())
        .map(|_| {
            let (newcomers, coming) = mpsc::unbounded_channel();
            // Unconstrained: tokio's budget is for one connection's task, and would say of sockets that they are not ready.
            tasks.spawn(unconstrained(run_shard::<L>(coming, room.clone(), departed.clone())));
            newcomers
        })
        .collect();
    for (first_shard, listener) in listeners.into_iter().enumerate() {
        let accepting = Accepting {
            room: room.clone(),
            census: Arc::clone(&census),
            shards: shards.clone(),
            next_shard: first_shard,
            departures: departures.clone(),
            errors: AcceptErrors::default(),
        };
        tasks.spawn(accepting.run(listener, stopped.clone()));
    }
    if room.limits().announcements.is_some() {
        tasks.spawn(announce(room.clone(), stopped.clone()));
    }
    drop((stopped, departures));
    // Should this future be dropped, the room closes before its members go one by one: no departures are told (law 4).
    let _closing = CloseOnDrop(room.clone());

    // Biased: that the end was asked for outweighs that something ended by itself; neither comes twice.
    let ended = tokio::select! {
        biased;
        () = shutdown => None,
        Some(ended) = tasks.join_next() => Some(ended),
    };
    room.close();
    // The listeners end, and then, as nobody is left who could add a connection, each shard once it is empty.
    drop((stop, shards));
    let result = ended.map_or(Ok(()), flatten).and(drain(&mut tasks, &room).await);
    let tally = room.tally();
    tracing::info!(
        said_bytes = tally.said_bytes,
        let_gos = tally.let_gos,
        missed_lines = tally.missed_lines,
        "server ended"
    );
    result
}

struct CloseOnDrop(Room);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

type Outcome = Result<(), Error>;

fn flatten(ended: Result<Outcome, JoinError>) -> Outcome {
    ended.unwrap_or_else(|error| Err(Error::Task(error)))
}

/// Waits until all connections have ended, within the grace period; then ends the others.
async fn drain(tasks: &mut JoinSet<Outcome>, room: &Room) -> Outcome {
    let drained = timeout(room.limits().grace, async {
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            result = result.and(flatten(ended));
        }
        result
    });
    let result = drained.await.unwrap_or_else(|_late| {
        tracing::info!(connections = room.tally().seats, "grace is over: closing who has not read everything");
        Ok(())
    });
    tasks.shutdown().await;
    result
}

/// The task of one shard: serves connections until no more can come and all have ended.
async fn run_shard<L: Listener>(
    mut coming: mpsc::UnboundedReceiver<Box<Connection<L>>>,
    room: Room,
    departed: watch::Sender<()>,
) -> Outcome {
    let mut shard = Shard::new(Connection::<L>::touch);
    let mut more_may_come = true;
    while more_may_come || !shard.is_empty() {
        // Biased: newcomers are no more than were accepted, and are polled after those who are due already.
        tokio::select! {
            biased;
            newcomer = coming.recv(), if more_may_come => match newcomer {
                Some(connection) => shard.insert(connection),
                None => more_may_come = false,
            },
            ended = poll_fn(|cx| shard.poll_ended(cx)) => {
                if ended == Ended::Panicked {
                    room.count(Event::Closed("panic"));
                    tracing::error!("a connection panicked: it has left, everyone else goes on");
                }
                if room.is_broken() {
                    return Err(Error::RoomBroken);
                }
                departed.send_replace(());
            }
        }
    }
    Ok(())
}

/// The announcer's task: ends a period some time after something of its budget was spent. While nothing is, it has no timer.
async fn announce(room: Room, mut stopped: watch::Receiver<()>) -> Outcome {
    let periods = async {
        while poll_fn(|cx| room.poll_spent(cx)).await.is_ok() {
            sleep(ANNOUNCEMENTS_PERIOD).await;
            room.turn_period();
        }
        // The room has ended or is broken, and it is for others to say what that means.
        pending::<()>().await;
    };
    // Biased: an end comes once.
    tokio::select! {
        biased;
        _ = stopped.changed() => {}
        () = periods => {}
    }
    Ok(())
}

/// One listener's task, and what it has met.
struct Accepting<L: Listener> {
    room: Room,
    census: Arc<Census>,
    /// To each shard.
    shards: Vec<mpsc::UnboundedSender<Box<Connection<L>>>>,
    next_shard: usize,
    /// Changes whenever a connection has ended.
    departures: watch::Receiver<()>,
    errors: AcceptErrors,
}

impl<L: Listener> Accepting<L> {
    async fn run(mut self, mut listener: L, mut stopped: watch::Receiver<()>) -> Outcome {
        if let Ok(place) = listener.place() {
            tracing::info!("listening on {place}");
        }
        loop {
            let backoff = self.errors.until;
            // Biased: an end comes once; a connection that ended makes a file descriptor free, so accepting is tried again at
            // once, but only after an error.
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                Ok(()) = self.departures.changed(), if backoff.is_some() => self.errors.until = None,
                accepted = async {
                    if let Some(until) = backoff {
                        sleep_until(until).await;
                    }
                    listener.accept().await
                } => match accepted {
                    Ok((stream, from)) => {
                        self.errors.on_accepted();
                        self.on_accepted(stream, &from);
                    }
                    Err(error) => {
                        self.departures.mark_unchanged();
                        self.room.count(Event::AcceptError);
                        self.errors.on_error(&error);
                    }
                }
            }
        }
        listener.close().await;
        Ok(())
    }

    fn on_accepted(&mut self, stream: L::Io, from: &Peer) {
        let limits = self.room.limits_now();
        let standing = if limits.trusts(from) { Standing::Trusted } else { Standing::Stranger };
        let now = Instant::now().into_std();
        let admitted = match self.room.door().refusal(from.ip(), now) {
            None => Census::admit(&self.census, from, &limits, now),
            Some(notice) => Err(notice),
        };
        match admitted {
            Ok(admission) => {
                self.room.count(Event::Accepted);
                let connection = Connection::new(stream, from, standing, &self.room, admission);
                let connection = Box::new(connection);
                // A shard ends before its listeners only when the room is broken, and then so does everything.
                let _broken = self.shards[self.next_shard % self.shards.len()].send(connection);
                self.next_shard += 1;
            }
            Err(notice) => {
                self.room.count(Event::Refused(refusal(&notice)));
                let mut line = Vec::new();
                notice.write(self.room.wire().lang, &mut line);
                tracing::debug!(%from, "refused");
                refuse(stream, &line);
            }
        }
    }
}

/// Why somebody is refused, in one word.
fn refusal(notice: &Notice<'_>) -> &'static str {
    match notice {
        Notice::ServerFull { .. } => "server_full",
        Notice::AddressFull { .. } => "address_full",
        Notice::AddressHasty { .. } => "address_hasty",
        Notice::NotLetIn => "not_let_in",
        _ => "other",
    }
}

/// Tells a connection in one line why it is refused, as far as that goes without waiting, and drops it.
fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, line: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut rest = line;
    while !rest.is_empty()
        && let Poll::Ready(Ok(bytes @ 1..)) = Pin::new(&mut stream).poll_write(&mut cx, rest)
    {
        rest = &rest[bytes..];
    }
    let _ended = Pin::new(&mut stream).poll_shutdown(&mut cx);
}

/// What one listener has met in the way of errors: how long to wait after the last, and what to say of them.
#[derive(Debug, Default)]
struct AcceptErrors {
    /// When to accept again.
    until: Option<Instant>,
    backoff: Duration,
    count: u64,
    logged_at: Option<Instant>,
}

impl AcceptErrors {
    fn on_accepted(&mut self) {
        self.until = None;
        self.backoff = Duration::ZERO;
    }

    /// Any error is waited out: with no descriptor or no memory left the next call would fail at once and spin, and of a
    /// connection that was aborted before we got it the next may be a neighbour.
    fn on_error(&mut self, error: &io::Error) {
        let now = Instant::now();
        self.count += 1;
        self.backoff = (self.backoff * 2).clamp(BACKOFF_FIRST, BACKOFF_LAST);
        self.until = Some(now + self.backoff);
        if self.logged_at.is_none_or(|at| now - at >= ACCEPT_LOG_INTERVAL) {
            self.logged_at = Some(now);
            tracing::warn!(%error, errors = self.count, wait_ms = self.backoff.as_millis(), "cannot accept a connection");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::{Limits, Wire};

    fn peer() -> Peer {
        SocketAddr::from(([10, 0, 0, 1], 1)).into()
    }

    /// Has one connection.
    struct Once(Option<DuplexStream>);

    impl Listener for Once {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, Peer)> {
            match self.0.take() {
                Some(stream) => Ok((stream, peer())),
                None => std::future::pending().await,
            }
        }

        fn place(&self) -> io::Result<String> {
            Ok("10.0.0.1:8000".to_owned())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn panic_under_the_lock_ends_the_server() {
        let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let running = tokio::spawn(run(vec![Once(Some(theirs))], room.clone(), std::future::pending()));
        let mut welcome = [0; "欢迎 10.0.0.1:1\n".len()];
        tokio::io::AsyncReadExt::read_exact(&mut ours, &mut welcome).await.expect("it is welcome");
        room.break_order();
        assert!(room.is_broken());
        // The next connection to touch the room finds out, and the server with it.
        ours.write_all(b"hello\n").await.expect("the stream lives");
        let error = running.await.expect("run itself does not panic").expect_err("its order cannot be trusted");
        assert!(matches!(error, Error::RoomBroken), "{error}");
        assert_eq!(room.tally().members, 1, "numbers can still be read");
    }

    /// Law 9: nothing ticks where nothing is spent.
    #[tokio::test(start_paused = true)]
    async fn announcer_wakes_only_when_something_was_spent() {
        let limits = Limits { announcements: Some(1), ..Limits::default() };
        let room = Room::new(limits, Wire::default()).expect("limits that work");
        let (stop, stopped) = watch::channel(());
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let mut announcing = Box::pin(announce(room.clone(), stopped));
        let announcing = tokio::spawn(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            announcing.as_mut().poll(cx)
        }));
        let mut member = room.seat("10.0.0.1:1");
        // It is woken for what is spent, and by the clock; what comes in between is of the same period.
        for polls_expected in [1, 3, 5] {
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(polls.load(Ordering::Relaxed), polls_expected);
            let turn = member.poll_turn(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Ok(mut turn)) = turn else { panic!("there is room") };
            member.enter_stranger(&mut turn).expect("the room is open");
            member = room.seat("10.0.0.1:1");
        }
        room.close();
        sleep(Duration::from_secs(3600)).await;
        assert!(!announcing.is_finished(), "that the room has ended is not for it to say");
        drop(stop);
        announcing.await.expect("it does not panic").expect("it ends in order");
    }

    #[tokio::test(start_paused = true)]
    async fn server_without_a_listener_waits_for_its_end() {
        let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
        let later = Instant::now() + Duration::from_secs(3600);
        run(Vec::<Once>::new(), room, sleep_until(later)).await.expect("a server in order");
        assert_eq!(Instant::now(), later);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_of_accepting_are_all_counted_and_seldom_logged() {
        let error = io::Error::other("planted");
        let mut errors = AcceptErrors::default();
        errors.on_error(&error);
        let first = Instant::now();
        for later in [Duration::ZERO, ACCEPT_LOG_INTERVAL / 2] {
            tokio::time::advance(later).await;
            errors.on_error(&error);
            assert_eq!(errors.logged_at, Some(first));
        }
        tokio::time::advance(ACCEPT_LOG_INTERVAL / 2).await;
        errors.on_error(&error);
        assert_eq!((errors.logged_at, errors.count), (Some(first + ACCEPT_LOG_INTERVAL), 4));
    }

    #[tokio::test]
    async fn connections_go_to_the_shards_in_turn() {
        let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
        let (shards, mut coming): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::unbounded_channel()).unzip();
        let (_departed, departures) = watch::channel(());
        let errors = AcceptErrors::default();
        let mut accepting: Accepting<Once> =
            Accepting { room, census: Arc::default(), shards, next_shard: 1, departures, errors };
        for expected in [1, 2, 0, 1] {
            let (_peer, stream) = tokio::io::duplex(64);
            accepting.on_accepted(stream, &peer());
            let came: Vec<usize> = (0..3).filter(|shard| coming[*shard].try_recv().is_ok()).collect();
            assert_eq!(came, [expected]);
        }
    }

    #[test]
    fn refusals_are_counted_by_their_reason() {
        for (notice, expected) in [
            (Notice::ServerFull { connections_max: 1 }, "server_full"),
            (Notice::AddressFull { per_ip_max: 1 }, "address_full"),
            (Notice::AddressHasty { per_second: 1 }, "address_hasty"),
            (Notice::NotLetIn, "not_let_in"),
            (Notice::Stopping, "other"),
        ] {
            assert_eq!(refusal(&notice), expected);
        }
    }
}
