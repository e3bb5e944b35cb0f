//! What is said before lines are: a header of a proxy, a handshake.
//!
//! A [`Greeted`] listener takes connections from another and has each greeted in a task of its own, by a deadline. So one that
//! stalls delays nobody, and who comes to the server has come through. How many may be at it is bounded, in all and from
//! each address, and whoever comes too fast is dropped before anything is computed for it. There is nothing to be told to who is
//! dropped here, as it would not be understood; it is counted, and now and then the log says how many there were.
//!
//! One greeting may follow another: the listener that a `Greeted` takes from may be one itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, error::Elapsed, sleep_until, timeout};

use super::{Listener, Peer};
use crate::callers::Callers;
use crate::limits::{GREETING_CROWDED, GREETINGS_MAX, GREETINGS_PER_SITE_MAX, Rate, SITES_MAX};
use crate::room::Room;
use crate::site::Site;

/// The log says at most so often who did not come through.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How connections are greeted that were streams `S` before.
pub trait Greeter<S>: Send + 'static {
    /// What they are then.
    type Io: Send + 'static;

    /// How long a greeting may take.
    const DEADLINE: Duration;

    /// Whether the peer is who it will be afterwards, too: then it is dropped at once if it would not be let in, comes too fast, or too
    /// many of its address are at it.
    const KNOWS_PEER: bool;

    /// Begins with one connection. The future holds all that it needs.
    fn begin(&self, stream: S, peer: Peer)
    -> Begun<Self::Io, impl Future<Output = Outcome<Self::Io>> + Send + 'static>;

    /// As [`Listener::is_quiet`], by means of that of the stream before.
    fn is_quiet(io: &Self::Io, is_quiet: fn(&S) -> bool) -> bool;

    /// What becomes of the [place](Listener::place) where it listens.
    fn place(&self, place: String) -> String {
        place
    }
}

/// How a greeting begins.
#[derive(Debug)]
pub enum Begun<T, F> {
    /// There is none: this is the connection, and who it is from.
    Done(T, Peer),
    /// It takes its time.
    Waits(F),
}

/// How a greeting ends: with a connection and who it is from; with nothing for one that is to be closed without a word; with an
/// error for one that did not do what it should have done.
pub type Outcome<T> = io::Result<Option<(T, Peer)>>;

/// How many connections a [`Greeted`] listener has met, by what became of them.
#[derive(Debug, Default)]
pub struct Counts {
    greeted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
}

impl Counts {
    /// Came through, or did not have to.
    pub fn greeted(&self) -> u64 {
        self.greeted.load(Ordering::Relaxed)
    }

    /// Were dropped before they had begun: not let in, too fast, or too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Did not do what they should have done.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Took longer than the deadline, or longest while there were too many.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    fn not_through(&self) -> u64 {
        self.refused() + self.failed() + self.late()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A listener whose connections are greeted first.
pub struct Greeted<L: Listener, G: Greeter<L::Io>> {
    listener: L,
    greeter: G,
    room: Room,
    tasks: JoinSet<Result<Outcome<G::Io>, Elapsed>>,
    /// Who is being greeted, the longest first.
    places: Vec<Place>,
    /// Strangers who came lately.
    callers: Callers,
    counts: Arc<Counts>,
    /// When the log last told who did not come through, and of how many.
    told: Option<(Instant, u64)>,
}

/// One whose greeting is under way.
struct Place {
    task: AbortHandle,
    began: Instant,
    /// `None` for who is trusted, and where addresses do not count.
    site: Option<Site>,
}

impl<L: Listener, G: Greeter<L::Io>> Greeted<L, G> {
    /// The connections of `listener`, on their way into `room`.
    pub fn new(listener: L, greeter: G, room: &Room) -> Self {
        Self {
            listener,
            greeter,
            room: room.clone(),
            tasks: JoinSet::new(),
            places: Vec::new(),
            callers: Callers::new(SITES_MAX),
            counts: Arc::default(),
            told: None,
        }
    }

    /// What becomes of its connections, from now on as well.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Where its connections come from.
    pub fn inner(&self) -> &L {
        &self.listener
    }

    /// Whether nobody more is accepted for now, and until when at most: there are as many as may be, and none has been at it for
    /// long. (With more at it than that, those who stall would hold up everyone.)
    fn is_full_until(&self) -> Option<Instant> {
        let longest = self.places.first().filter(|_| self.places.len() >= GREETINGS_MAX)?;
        Some(longest.began + GREETING_CROWDED)
    }

    /// Begins with a connection; returns one that need not be greeted.
    fn on_accepted(&mut self, stream: L::Io, peer: Peer) -> Option<(G::Io, Peer)> {
        let limits = self.room.limits_now();
        let site = peer.site().filter(|_| G::KNOWS_PEER && !limits.trusts(&peer));
        if !self.may_begin(&peer, site, limits.connect_rate) {
            tracing::debug!(%peer, "refused before its greeting");
            count(&self.counts.refused);
            return None;
        }
        match self.greeter.begin(stream, peer) {
            Begun::Done(stream, peer) => {
                count(&self.counts.greeted);
                Some((stream, peer))
            }
            Begun::Waits(greeting) => {
                let task = self.tasks.spawn(timeout(G::DEADLINE, greeting));
                self.places.push(Place { task, began: Instant::now(), site });
                None
            }
        }
    }

    fn may_begin(&mut self, peer: &Peer, site: Option<Site>, rate: Option<Rate>) -> bool {
        let now = Instant::now().into_std();
        if G::KNOWS_PEER && peer.ip().is_some_and(|ip| !self.room.door().lets_in(ip, now)) {
            return false;
        }
        let Some(site) = site else { return true };
        let of_site = self.places.iter().filter(|place| place.site == Some(site));
        of_site.count() < GREETINGS_PER_SITE_MAX && rate.is_none_or(|rate| self.callers.may_come(site, rate, now))
    }

    /// Who has been at it longest makes room.
    fn drop_longest(&mut self) {
        self.places.remove(0).task.abort();
        count(&self.counts.late);
    }

    fn on_ended(&mut self, ended: Result<Result<Outcome<G::Io>, Elapsed>, JoinError>) -> Option<(G::Io, Peer)> {
        match ended {
            Ok(Ok(Ok(Some(greeted)))) => {
                count(&self.counts.greeted);
                return Some(greeted);
            }
            Ok(Ok(Err(error))) => {
                tracing::debug!(%error, "a connection was not greeted");
                count(&self.counts.failed);
            }
            Ok(Err(_late)) => count(&self.counts.late),
            Err(error) if error.is_panic() => {
                tracing::error!("a greeting panicked: that connection is closed, everyone else goes on");
                count(&self.counts.failed);
            }
            // It came only to see whether we are there, or had to make room.
            Ok(Ok(Ok(None))) | Err(_) => {}
        }
        None
    }

    /// Says now and then how many did not come through.
    fn tell(&mut self) {
        let not_through = self.counts.not_through();
        let (told_at, told) = self.told.map_or((None, 0), |(at, told)| (Some(at), told));
        let now = Instant::now();
        if not_through > told && told_at.is_none_or(|at| now - at >= LOG_INTERVAL) {
            let Counts { refused, failed, late, .. } = &*self.counts;
            tracing::info!(?refused, ?failed, ?late, "connections that did not come through, so far");
            self.told = Some((now, not_through));
        }
    }
}

#[cfg(test)]
impl<L: Listener, G: Greeter<L::Io>> Greeted<L, G> {
    /// How many are being greeted, and where they come from.
    pub(super) fn under_way(&self) -> (usize, &L) {
        (self.places.len(), &self.listener)
    }
}

impl<L, G> Listener for Greeted<L, G>
where
    L: Listener + Send,
    G: Greeter<L::Io>,
    G::Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    type Io = G::Io;

    /// Cancel safe: whatever was accepted and is not returned yet is in a task, or has ended.
    async fn accept(&mut self) -> io::Result<(G::Io, Peer)> {
        loop {
            let full_until = self.is_full_until();
            let greeted = tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => {
                    let (id, ended) = match ended {
                        Ok((id, outcome)) => (id, Ok(outcome)),
                        Err(error) => (error.id(), Err(error)),
                    };
                    self.places.retain(|place| place.task.id() != id);
                    self.on_ended(ended)
                }
                () = sleep_until(full_until.unwrap_or_else(Instant::now)), if full_until.is_some() => {
                    self.drop_longest();
                    None
                }
                accepted = self.listener.accept(), if full_until.is_none() => {
                    let (stream, peer) = accepted?;
                    self.on_accepted(stream, peer)
                }
            };
            self.tell();
            if let Some(greeted) = greeted {
                return Ok(greeted);
            }
        }
    }

    fn is_quiet(io: &G::Io) -> bool {
        G::is_quiet(io, L::is_quiet)
    }

    async fn close(&mut self) {
        self.tasks.shutdown().await;
        self.listener.close().await;
    }

    fn place(&self) -> io::Result<String> {
        Ok(self.greeter.place(self.listener.place()?))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::pending;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{Door, Limits, Wire, door};

    /// Connections out of a channel.
    struct Memory(mpsc::UnboundedReceiver<(DuplexStream, Peer)>);

    impl Listener for Memory {
        type Io = DuplexStream;

        async fn accept(&mut self) -> io::Result<(DuplexStream, Peer)> {
            match self.0.recv().await {
                Some(accepted) => Ok(accepted),
                None => pending().await,
            }
        }

        fn place(&self) -> io::Result<String> {
            Ok("memory".to_owned())
        }
    }

    /// Wants one byte: `y` is right, `p` panics, an end is one who only looked.
    struct Byte;

    impl Greeter<DuplexStream> for Byte {
        type Io = DuplexStream;

        const DEADLINE: Duration = Duration::from_secs(10);

        const KNOWS_PEER: bool = true;

        fn begin(
            &self,
            mut stream: DuplexStream,
            peer: Peer,
        ) -> Begun<DuplexStream, impl Future<Output = Outcome<DuplexStream>> + Send + 'static> {
            Begun::Waits(async move {
                match stream.read_u8().await {
                    Ok(b'y') => Ok(Some((stream, peer))),
                    Ok(b'p') => panic!("a planted panic"),
                    Ok(_) => Err(io::ErrorKind::InvalidData.into()),
                    Err(_end) => Ok(None),
                }
            })
        }

        fn is_quiet(io: &DuplexStream, is_quiet: fn(&DuplexStream) -> bool) -> bool {
            is_quiet(io)
        }
    }

    struct World {
        greeted: Greeted<Memory, Byte>,
        coming: mpsc::UnboundedSender<(DuplexStream, Peer)>,
    }

    impl World {
        fn new(limits: Limits, policy: door::Policy) -> Self {
            let room = Room::with_door(limits, Wire::default(), Door::new(policy)).expect("limits that work");
            let (coming, memory) = mpsc::unbounded_channel();
            Self { greeted: Greeted::new(Memory(memory), Byte, &room), coming }
        }

        /// One from a host of 10.0.0.0/8 or of loopback.
        fn come(&self, net: u8, host: u16) -> DuplexStream {
            let [high, low] = host.to_be_bytes();
            let (ours, theirs) = duplex(64);
            let peer = SocketAddr::from(([net, 0, high, low], 5000)).into();
            self.coming.send((theirs, peer)).expect("it is there");
            ours
        }

        /// Who comes through by then.
        async fn within(&mut self, span: Duration) -> Option<String> {
            let accepted = timeout(span, self.greeted.accept()).await.ok()?;
            Some(accepted.expect("memory has no errors").1.to_string())
        }

        fn counts(&self) -> [u64; 4] {
            let counts = self.greeted.counts();
            [counts.greeted(), counts.refused(), counts.failed(), counts.late()]
        }
    }

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn who_stalls_delays_nobody_and_is_closed_by_the_deadline() {
        let mut world = World::new(Limits::default(), door::Policy::default());
        let mut stalled = world.come(10, 1);
        for (host, byte) in [(2, b"y"), (3, b"n"), (4, b"p"), (5, b"y")] {
            let mut stream = world.come(10, host);
            stream.write_all(byte).await.expect("it holds that");
            let expected = (byte == b"y").then(|| format!("10.0.0.{host}:5000"));
            assert_eq!(world.within(SHORT).await, expected);
        }
        drop(world.come(10, 6));
        assert_eq!(world.within(SHORT).await, None);
        assert_eq!(world.counts(), [2, 0, 2, 0], "who only looked is neither");
        assert_eq!(world.within(Duration::from_millis(9_990)).await, None);
        assert_eq!(world.greeted.places.len(), 1, "it has its time");
        assert_eq!(world.within(10 * SHORT).await, None);
        assert_eq!(world.counts(), [2, 0, 2, 1]);
        assert_eq!(stalled.read(&mut [0]).await.expect("it ends"), 0, "it is closed");
        assert!(world.greeted.places.is_empty(), "law 9");
    }

    #[tokio::test(start_paused = true)]
    async fn crowd_waits_for_the_longest_no_longer_than_is_patient() {
        let mut world = World::new(Limits::default(), door::Policy::default());
        // Those of this machine are no strangers, of whom there may be as many as there may be at all.
        let mut stalled: Vec<DuplexStream> = (0..GREETINGS_MAX).map(|_| world.come(127, 1)).collect();
        let mut next = world.come(10, 1);
        next.write_all(b"y").await.expect("it holds that");
        assert_eq!(world.within(Duration::from_millis(1_999)).await, None);
        assert_eq!(world.greeted.places.len(), GREETINGS_MAX);
        assert_eq!(world.within(2 * SHORT).await.as_deref(), Some("10.0.0.1:5000"));
        assert_eq!(world.counts(), [1, 0, 0, 2], "a place is kept free");
        assert_eq!(stalled[0].read(&mut [0]).await.expect("it ends"), 0, "who was first made room");
        // With one place free nobody else has to.
        stalled[5].write_all(b"y").await.expect("it holds that");
        assert_eq!(world.within(SHORT).await.as_deref(), Some("127.0.0.1:5000"));
        assert_eq!((world.greeted.places.len(), world.counts()[3]), (GREETINGS_MAX - 3, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_one_address_are_bounded_and_dropped_before_anything_is_done_for_them() {
        let mut world = World::new(Limits::default(), door::Policy::default());
        let of_one: Vec<DuplexStream> = (0..=GREETINGS_PER_SITE_MAX).map(|_| world.come(10, 1)).collect();
        let of_another = world.come(10, 2);
        assert_eq!(world.within(SHORT).await, None);
        assert_eq!(world.counts(), [0, 1, 0, 0]);
        assert_eq!(world.greeted.places.len(), GREETINGS_PER_SITE_MAX + 1);
        drop((of_one, of_another));

        let rate = Rate { burst: 2, per_second: 1 };
        let deny = vec!["10.0.0.3/32".parse().expect("a prefix")];
        let policy = door::Policy { deny, ..door::Policy::default() };
        let mut world = World::new(Limits { connect_rate: Some(rate), ..Limits::default() }, policy);
        let mut all = Vec::new();
        for (net, host, refused) in
            [(10, 1, 0), (10, 1, 0), (10, 1, 1), (10, 2, 1), (10, 3, 2), (127, 1, 2), (127, 1, 2), (127, 1, 2)]
        {
            all.push(world.come(net, host));
            assert_eq!(world.within(Duration::ZERO).await, None);
            assert_eq!(world.counts()[1], refused, "{net} {host}");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        all.push(world.come(10, 1));
        assert_eq!(world.within(SHORT).await, None);
        assert_eq!(world.counts()[1], 2, "it may come again");
    }

    #[tokio::test(start_paused = true)]
    async fn log_says_once_a_minute_how_many_did_not_come_through_if_there_are_more() {
        let mut world = World::new(Limits::default(), door::Policy::default());
        let start = Instant::now();
        let minute = |number| start + number * LOG_INTERVAL;
        for (host, at, byte, told) in [
            (1, minute(0), b"y", None),
            (2, minute(0), b"n", Some((minute(0), 1))),
            (3, minute(1) - SHORT, b"n", Some((minute(0), 1))),
            (4, minute(1), b"n", Some((minute(1), 2))),
            (5, minute(2), b"y", Some((minute(2), 3))),
            (6, minute(3), b"n", Some((minute(3), 4))),
        ] {
            tokio::time::advance(at - Instant::now()).await;
            let mut stream = world.come(10, host);
            stream.write_all(byte).await.expect("it holds that");
            assert_eq!(world.within(SHORT).await.is_some(), byte == b"y");
            assert_eq!(world.greeted.told, told, "{host}");
        }
        let counts = Counts { greeted: 7.into(), refused: 2.into(), failed: 3.into(), late: 5.into() };
        assert_eq!(counts.not_through(), 10);
    }

    /// Law 9.
    #[tokio::test(start_paused = true)]
    async fn greetings_end_with_the_listener() {
        let mut world = World::new(Limits::default(), door::Policy::default());
        let mut streams: Vec<DuplexStream> = (1..5).map(|host| world.come(10, host)).collect();
        assert_eq!(world.within(SHORT).await, None);
        world.greeted.close().await;
        for stream in &mut streams {
            assert_eq!(stream.read(&mut [0]).await.expect("it ends"), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_that_is_given_up_loses_nobody() {
        let mut world = World::new(Limits::default(), door::Policy::default());
        let mut came = Vec::new();
        let mut streams = Vec::new();
        for host in 1..100 {
            let mut stream = world.come(10, host);
            stream.write_all(b"y").await.expect("it holds that");
            streams.push(stream);
            // Given up at whatever it has come to.
            came.extend(world.within(Duration::ZERO).await);
        }
        while let Some(peer) = world.within(SHORT).await {
            came.push(peer);
        }
        came.sort();
        came.dedup();
        assert_eq!((came.len(), world.counts()), (99, [99, 0, 0, 0]));
    }
}
