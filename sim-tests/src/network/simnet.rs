//! A network in memory: one paused runtime, no ticks, and TCP's manners down to the byte.
//!
//! What a [`Network`] does depends on its seed and on what is asked of it, in which order, and on nothing else. It must live on
//! one current-thread runtime whose clock was paused from the start; time is tokio's. Without latency bytes move within the
//! write that sends them; with latency (whole milliseconds, as tokio's timers) a task delivers what is due, and ends when
//! nothing is.
//!
//! A connection is a pair of directions, each with a send buffer and a receive buffer of bounded bytes. A peer that does not
//! read takes exactly [`Options::send_bytes`] + [`Options::receive_bytes`]; then writes are pending until it does. Ends, resets
//! and errors are Linux's: `tests/conformance.rs` runs the same scripts here and on real sockets.
//!
//! Not modelled: loss that is not repaired, congestion, segments, the time that acknowledgements and windows travel (they pass
//! at once, but never through what is frozen), `TIME_WAIT`, options of sockets.
//!
//! ```
//! use sim_tests::network::simnet::Network;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use unisono::Listener;
//!
//! # fn main() -> std::io::Result<()> {
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
//! runtime.block_on(async {
//!     let network = Network::new(7);
//!     let mut listener = network.listen(([10, 0, 0, 1], 8000).into())?;
//!     let mut client = network.connect([10, 0, 0, 2].into(), ([10, 0, 0, 1], 8000).into()).await?;
//!     let (mut server, _from) = listener.accept().await?;
//!     client.write_all(b"hello").await?;
//!     drop(client);
//!     let mut said = String::new();
//!     server.read_to_string(&mut said).await?;
//!     assert_eq!(said, "hello");
//!     Ok(())
//! })
//! # }
//! ```

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::task::coop::poll_proceed;
use tokio::time::{Instant, Sleep};
use unisono::Listener;
use unisono::listen::Peer;

mod trace;
mod world;

pub use trace::{Event, TraceHash, What};
use world::{Got, Id, World};

/// What a stream panics with that was [told to](Connection::panic_on_read).
pub const PLANTED_PANIC: &str = "a panic planted in a simulated stream";

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who accepted.
    Server,
}

impl Side {
    /// Either.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// How often: `hits` times out of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odds {
    /// At most `of`.
    pub hits: u64,
    /// At least 1.
    pub of: u64,
}

impl Odds {
    /// It does not happen.
    pub const NEVER: Self = Self { hits: 0, of: 1 };
    /// It always happens.
    pub const ALWAYS: Self = Self { hits: 1, of: 1 };
}

/// Reads and writes that move fewer bytes than they could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chop {
    /// How many of them. [`Odds::NEVER`] by default.
    pub odds: Odds,
    /// At most so many bytes are moved then, and at least one.
    pub bytes_max: usize,
}

/// How a side looks after a peer that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// After so long it is asked whether it lives.
    pub idle: Duration,
    /// And after so long again.
    pub interval: Duration,
    /// So many times; then the connection has timed out.
    pub retries: u32,
}

/// One side's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes that were written and are not acknowledged, at most. Default 64 KiB.
    pub send_bytes: usize,
    /// Bytes that are received or under way and were not read, at most. Default 64 KiB.
    pub receive_bytes: usize,
    /// How long nothing of what was written may be acknowledged before the connection has timed out. Default: for ever.
    pub user_timeout: Option<Duration>,
    /// Default: none.
    pub keepalive: Option<Keepalive>,
    /// Default: never.
    pub chop: Chop,
    /// Polls that are pending though there is something (they wake at once), and wakers that are woken though there is nothing.
    /// Default: never.
    pub spurious: Odds,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            send_bytes: 64 * 1024,
            receive_bytes: 64 * 1024,
            user_timeout: None,
            keepalive: None,
            chop: Chop { odds: Odds::NEVER, bytes_max: 1 },
            spurious: Odds::NEVER,
        }
    }
}

/// The network and every power over it. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Time is counted from here.
    epoch: Instant,
}

#[derive(Debug)]
struct State {
    world: World,
    driver: Driver,
}

/// Who lets happen what is due.
#[derive(Debug)]
enum Driver {
    /// Nothing is due.
    Absent,
    /// It has not looked yet.
    Starts,
    /// It looks again then.
    Sleeps(Duration, Waker),
}

impl Drop for State {
    fn drop(&mut self) {
        if let Driver::Sleeps(_, waker) = &self.driver {
            waker.wake_by_ref();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    /// A network on which nothing listens.
    ///
    /// # Panics
    ///
    /// Not here, but later: it must be used on the tokio runtime on which it was made, with time enabled.
    pub fn new(seed: u64) -> Self {
        let state = State { world: World::new(seed), driver: Driver::Absent };
        Self(Arc::new(Shared { state: Mutex::new(state), epoch: Instant::now() }))
    }

    /// Does something to the network, and then, unlocked, wakes whom that concerns.
    fn with<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        // A stream may be dropped when its runtime is gone, and the paused clock with it.
        let now = Handle::try_current().ok().map(|_| self.0.epoch.elapsed());
        let mut guard = self.0.lock();
        let State { world, driver } = &mut *guard;
        world.ask(now.unwrap_or_default());
        let result = act(world);
        let wakes = std::mem::take(&mut world.wakes);
        let trash = std::mem::take(&mut world.trash);
        let mut sooner = None;
        let mut starts = false;
        if let Some(due) = world.next_due() {
            match driver {
                Driver::Absent if now.is_some() => {
                    *driver = Driver::Starts;
                    starts = true;
                }
                Driver::Sleeps(at, sleeper) if due < *at => sooner = Some(sleeper.clone()),
                Driver::Absent | Driver::Starts | Driver::Sleeps(..) => {}
            }
        }
        drop(guard);
        if starts {
            drop(tokio::spawn(Driving { shared: Arc::downgrade(&self.0), sleep: None }));
        }
        wakes.into_iter().chain(sooner).for_each(Waker::wake);
        drop(trash);
        result
    }

    /// Listens on `addr`, with room for 1,024 connections that are not accepted yet. Port 0 takes a free one; the unspecified
    /// address takes what no other listener does.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when something listens there.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<SimListener> {
        let options = self.with(|world| world.options);
        self.listen_with(addr, 1024, options)
    }

    /// As [`listen`](Self::listen): at most `backlog` connections wait to be accepted, further ones are not answered until there
    /// is room, and accepted ones have `options`.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when something listens there.
    pub fn listen_with(&self, addr: SocketAddr, backlog: usize, options: Options) -> io::Result<SimListener> {
        let addr = self.with(|world| world.listen(addr, backlog, options))?;
        Ok(SimListener { network: self.clone(), addr })
    }

    /// Connects from a host to a listener: there and back once. A host's ports are allotted in order.
    ///
    /// Cancel safe: dropped, it leaves a connection that the listener may accept and finds reset.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when nothing listens, `TimedOut` when nothing answers within 127 s or what
    /// [`set_connect_timeout`](Self::set_connect_timeout) says, `ConnectionReset` when the listener goes meanwhile.
    pub async fn connect(&self, from: IpAddr, to: SocketAddr) -> io::Result<SimStream> {
        let options = self.with(|world| world.options);
        self.connect_with(from, to, options).await
    }

    /// As [`connect`](Self::connect), with `options` of its own.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_with(&self, from: IpAddr, to: SocketAddr, options: Options) -> io::Result<SimStream> {
        let (id, local) = self.with(|world| world.connect(from, to, options));
        let stream = SimStream { network: self.clone(), id, side: Side::Client, local, peer: to };
        poll_fn(|cx| self.with(|world| world.poll_connect(id, cx.waker()))).await?;
        Ok(stream)
    }

    /// What sockets have that are made without options of their own from now on.
    pub fn set_options(&self, options: Options) {
        self.with(|world| world.options = options);
    }

    /// How long connecting may take. Default 127 s.
    pub fn set_connect_timeout(&self, limit: Duration) {
        self.with(|world| world.connect_timeout = limit);
    }

    /// How long everything takes from side to side, drawn for each piece, in whole milliseconds; the order stays. Default 0.
    pub fn set_latency(&self, latency: RangeInclusive<Duration>) {
        self.with(|world| world.set_latency(None, whole_ms(&latency)));
    }

    /// As [`set_latency`](Self::set_latency), for what goes from one host to another.
    pub fn set_link_latency(&self, from: IpAddr, to: IpAddr, latency: RangeInclusive<Duration>) {
        self.with(|world| world.set_latency(Some((from, to)), whole_ms(&latency)));
    }

    /// Nothing that goes from one host to another arrives, until it [thaws](Self::thaw).
    pub fn freeze(&self, from: IpAddr, to: IpAddr) {
        self.with(|world| world.freeze_link(from, to, true));
    }

    /// Everything that was under way arrives, in order.
    pub fn thaw(&self, from: IpAddr, to: IpAddr) {
        self.with(|world| world.freeze_link(from, to, false));
    }

    /// [Freezes](Self::freeze) both ways.
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        self.freeze(a, b);
        self.freeze(b, a);
    }

    /// [Thaws](Self::thaw) both ways.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.thaw(a, b);
        self.thaw(b, a);
    }

    /// Freezes all that goes to a host or comes from it.
    pub fn isolate(&self, host: IpAddr) {
        self.with(|world| world.isolate(host, true));
    }

    /// Ends what [`isolate`](Self::isolate) began.
    pub fn rejoin(&self, host: IpAddr) {
        self.with(|world| world.isolate(host, false));
    }

    /// Thaws whatever is frozen, hosts, links and connections.
    pub fn thaw_all(&self) {
        self.with(World::thaw_all);
    }

    /// A host loses its power: no peer is told, and what is sent to it goes nowhere. Its streams are dead wood: drop them.
    pub fn vanish(&self, host: IpAddr) {
        self.with(|world| world.vanish_host(host));
    }

    /// A host has power again, and knows nothing of old connections: who sends to one, or had sent meanwhile, is reset.
    pub fn revive(&self, host: IpAddr) {
        self.with(|world| world.revive_host(host));
    }

    /// The listener on `addr` reports an error, once, before the next connection. Nothing happens where nothing listens.
    pub fn fail_accept(&self, addr: SocketAddr, error: io::Error) {
        self.with(|world| world.fail_accept(addr, error));
    }

    /// Every connection that a stream holds, in the order in which they were asked for.
    pub fn connections(&self) -> Vec<Connection> {
        let ids = self.with(|world| world.live_ids());
        ids.into_iter().map(|id| Connection { network: self.clone(), id }).collect()
    }

    /// How many connections a stream holds, or a listener that has not accepted them.
    pub fn live(&self) -> usize {
        self.with(|world| world.live())
    }

    /// From now on what is sent is no part of the trace, and only how much of it is: for bytes that are encrypted, by keys of each run.
    pub fn seal(&self) {
        self.with(|world| world.trace.seal());
    }

    /// A hash of everything that happened so far.
    pub fn trace(&self) -> TraceHash {
        self.with(|world| world.trace.hash())
    }

    /// How often something happened.
    pub fn count(&self, what: What) -> u64 {
        self.with(|world| world.trace.count(what))
    }

    /// Keeps the last `most` events from now on; by default none.
    pub fn keep_events(&self, most: usize) {
        self.with(|world| world.trace.keep(most));
    }

    /// The events that were kept, the oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.with(|world| world.trace.last().iter().copied().collect())
    }
}

fn whole_ms(latency: &RangeInclusive<Duration>) -> RangeInclusive<u64> {
    let ms = |latency: &Duration| u64::try_from(latency.as_millis()).expect("a latency is no geological age");
    ms(latency.start())..=ms(latency.end())
}

/// The task that lets happen what is due. It ends when nothing will be.
#[derive(Debug)]
struct Driving {
    shared: Weak<Shared>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Driving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(shared) = self.shared.upgrade() else { return Poll::Ready(()) };
            let epoch = shared.epoch;
            let network = Network(shared);
            network.with(World::run_due);
            let mut state = network.0.lock();
            let Some(due) = state.world.next_due() else {
                state.driver = Driver::Absent;
                return Poll::Ready(());
            };
            let old = std::mem::replace(&mut state.driver, Driver::Sleeps(due, cx.waker().clone()));
            drop(state);
            drop(old);
            drop(network);
            let at = epoch + due;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.as_mut().poll(cx));
        }
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let old = std::mem::replace(&mut shared.lock().driver, Driver::Absent);
            drop(old);
        }
    }
}

/// A listener. Dropped, it resets the connections that it has not accepted.
#[derive(Debug)]
pub struct SimListener {
    network: Network,
    addr: SocketAddr,
}

impl Listener for SimListener {
    type Io = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, Peer)> {
        let addr = self.addr;
        let accepted = poll_fn(|cx| self.network.with(|world| world.poll_accept(addr, cx.waker()))).await;
        let (id, local, peer) = accepted?;
        Ok((SimStream { network: self.network.clone(), id, side: Side::Server, local, peer }, peer.into()))
    }

    fn is_quiet(io: &SimStream) -> bool {
        io.network.with(|world| world.is_awaited(io.id, io.side))
    }

    fn place(&self) -> io::Result<String> {
        Ok(self.addr.to_string())
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network.with(|world| world.close_listener(self.addr));
    }
}

/// One end of a connection.
///
/// Dropped, it sends what was written and then its end; with something received and unread it resets the connection instead.
#[derive(Debug)]
pub struct SimStream {
    network: Network,
    id: Id,
    side: Side,
    local: SocketAddr,
    peer: SocketAddr,
}

impl SimStream {
    /// Where this end is.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where the other end is.
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Which end this is.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Every power over the connection.
    pub fn connection(&self) -> Connection {
        Connection { network: self.network.clone(), id: self.id }
    }

    /// Drops it with a reset, whatever is unsent or unread.
    pub fn reset(self) {
        self.network.with(|world| world.abort(self.id, self.side));
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let (id, side) = (self.id, self.side);
        self.network.with(|world| world.close(id, side));
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(cx));
        let (id, side) = (self.id, self.side);
        let got = ready!(self.network.with(|world| world.poll_read(id, side, buffer, cx.waker())));
        coop.made_progress();
        match got? {
            Got::Bytes => Poll::Ready(Ok(())),
            Got::Panic => panic!("{PLANTED_PANIC}"),
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let (id, side) = (self.id, self.side);
        let wrote = ready!(self.network.with(|world| world.poll_write(id, side, slices, cx.waker())));
        coop.made_progress();
        Poll::Ready(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the output, after what was written. Never pending, and no error on a connection that is gone, as in tokio.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.with(|world| world.shutdown(self.id, self.side));
        Poll::Ready(Ok(()))
    }
}

/// Every power over one connection, for as long as somebody holds one of its streams; after that none of them does anything.
#[derive(Clone, Debug)]
pub struct Connection {
    network: Network,
    id: Id,
}

impl Connection {
    /// Its number, in the order in which connections were asked for.
    pub const fn number(&self) -> u32 {
        self.id
    }

    /// Whether somebody holds a stream of it.
    pub fn is_live(&self) -> bool {
        self.network.with(|world| world.is_live(self.id))
    }

    /// Where a side is; none when the connection is gone.
    pub fn addr(&self, side: Side) -> Option<SocketAddr> {
        self.network.with(|world| world.addr(self.id, side))
    }

    /// How long what `from` sends takes, from now on.
    pub fn set_latency(&self, from: Side, latency: RangeInclusive<Duration>) {
        self.network.with(|world| world.set_connection_latency(self.id, from, whole_ms(&latency)));
    }

    /// Nothing that `from` sends arrives, until it [thaws](Self::thaw).
    pub fn freeze(&self, from: Side) {
        self.network.with(|world| world.freeze(self.id, from, true));
    }

    /// What `from` sent arrives, in order.
    pub fn thaw(&self, from: Side) {
        self.network.with(|world| world.freeze(self.id, from, false));
    }

    /// A side loses its power, as far as this connection goes.
    pub fn vanish(&self, side: Side) {
        self.network.with(|world| world.vanish(self.id, side));
    }

    /// A side that lost its power answers again, and knows nothing of the connection.
    pub fn revive(&self, side: Side) {
        self.network.with(|world| world.revive(self.id, side));
    }

    /// A reset from nowhere reaches `side`; the other learns of it when it sends.
    pub fn reset(&self, side: Side) {
        self.network.with(|world| world.inject_rst(self.id, side));
    }

    /// Changes a side's options: buffers, chopping, time-outs.
    pub fn edit_options(&self, side: Side, edit: impl FnOnce(&mut Options)) {
        self.network.with(|world| world.edit_options(self.id, side, edit));
    }

    /// The next write of `side` fails, and nothing else changes.
    pub fn fail_write(&self, side: Side, kind: ErrorKind) {
        self.network.with(|world| world.fail_write(self.id, side, kind));
    }

    /// The next read of `side` fails, and nothing else changes.
    pub fn fail_read(&self, side: Side, kind: ErrorKind) {
        self.network.with(|world| world.fail_read(self.id, side, kind));
    }

    /// The next read of `side` panics with [`PLANTED_PANIC`]; whoever waits to read is woken for it.
    pub fn panic_on_read(&self, side: Side) {
        self.network.with(|world| world.panic_on_read(self.id, side));
    }

    /// Bytes that `from` has written and the other has not read: in its own buffer, under way, in the other's buffer.
    pub fn held_bytes(&self, from: Side) -> [usize; 3] {
        self.network.with(|world| world.held_bytes(self.id, from))
    }
}

#[cfg(test)]
mod tests;
