//! What is said before lines are: a header of a proxy, a handshake.
//!
//! A [`Greeted`] listener takes connections from another and has each greeted in a task of its own, by a deadline. So one that
//! stalls delays nobody, and who comes to the server has come through. How many may be at it is bounded, in all and from
//! each address, and whoever comes too fast is dropped before anything is computed for it. There is nothing to be told to who is
//! dropped here, as it would not be understood; it is counted, and now and then the log says how many there were.
//!
//! One greeting may follow another: the listener that a `Greeted` takes from may be one itself.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, error::Elapsed, sleep_until, timeout};

use super::{Listener, Peer};
use crate::callers::Callers;
use crate::census::prefix;
use crate::limits::{GREETING_CROWDED, GREETINGS_MAX, GREETINGS_PER_PREFIX_MAX, PREFIXES_MAX, Rate};
use crate::room::Room;

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
    prefix: Option<IpAddr>,
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
            callers: Callers::new(PREFIXES_MAX),
            counts: Arc::default(),
            told: None,
        }
    }

    /// What becomes of its connections, from now on as well.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
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
        let prefix = peer.ip().map(prefix).filter(|_| G::KNOWS_PEER && !limits.trusts(&peer));
        if !self.may_begin(&peer, prefix, limits.connect_rate) {
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
                self.places.push(Place { task, began: Instant::now(), prefix });
                None
            }
        }
    }

    fn may_begin(&mut self, peer: &Peer, prefix: Option<IpAddr>, rate: Option<Rate>) -> bool {
        let now = Instant::now().into_std();
        if G::KNOWS_PEER && peer.ip().is_some_and(|ip| !self.room.door().lets_in(ip, now)) {
            return false;
        }
        let Some(prefix) = prefix else { return true };
        let of_prefix = self.places.iter().filter(|place| place.prefix == Some(prefix));
        of_prefix.count() < GREETINGS_PER_PREFIX_MAX && rate.is_none_or(|rate| self.callers.may_come(prefix, rate, now))
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
