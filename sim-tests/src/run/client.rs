//! A client of a run: whatever network its stream is on, it writes down what passes through it and does as it is told.
//!
//! A [`Tap`] stands between the stream and whoever speaks over it: a bare socket that reads and writes, or the real client,
//! [`unisono::client::run`]. The run holds the other end, the [`Remote`]: what the client is to say, and whether it reads.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use unisono::listen::Peer;
use unisono::totals::Event as Totalled;
use unisono::{Listener, Room, client};

use crate::history::{Client, Event, Record};
use crate::judge::Came;

/// What a read of a bare socket takes at most.
const READ_BYTES: usize = 4096;

/// Whose time a run goes by.
#[derive(Clone)]
pub(super) enum Clock {
    /// The one runtime's.
    Tokio(Instant),
    /// Nanoseconds, moved by whoever steps the simulation: hosts of turmoil have clocks of their own.
    Steps(Arc<AtomicU64>),
}

impl Clock {
    pub(super) fn now(&self) -> Duration {
        match self {
            Self::Tokio(epoch) => epoch.elapsed(),
            Self::Steps(nanos) => Duration::from_nanos(nanos.load(Ordering::Relaxed)),
        }
    }
}

/// A span in which somebody had something to say.
pub(super) struct Blocked {
    pub(super) client: Client,
    pub(super) from: Duration,
    pub(super) until: Duration,
}

/// What the clients' tasks write down.
#[derive(Clone)]
pub(super) struct Recorder {
    clock: Clock,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
pub(super) struct Notes {
    pub(super) records: Vec<Record>,
    pub(super) blocked: Vec<Blocked>,
    /// From when until when every clock jumped.
    pub(super) jumps: Vec<(Duration, Duration)>,
    /// Whom the server has accepted, in this order.
    pub(super) accepted: Vec<Accepted>,
}

/// One whom the server has accepted.
pub(super) struct Accepted {
    at: Duration,
    peer: SocketAddr,
    /// Which of those it is that were let in, in this life of the server; none if it was turned away.
    number: Option<u64>,
}

impl Recorder {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, notes: Arc::default() }
    }

    /// Time since the run began.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(super) fn record(&self, client: Client, event: Event) {
        let record = Record { at: self.now(), client, event };
        self.notes().records.push(record);
    }

    /// As which address the server knows a client.
    pub(super) fn address(&self, client: Client) -> Option<SocketAddr> {
        let notes = self.notes();
        let mut mine = notes.records.iter().filter(|record| record.client == client);
        mine.find_map(|record| match &record.event {
            Event::Connected { address } => address.parse().ok(),
            _ => None,
        })
    }

    /// Whether the server has accepted a client, and that one knows of it.
    pub(super) fn is_accepted(&self, client: Client) -> bool {
        let address = self.address(client);
        address.is_some_and(|address| self.notes().accepted.iter().any(|accepted| accepted.peer == address))
    }

    /// Which of those that were let in since then a client is.
    pub(super) fn number(&self, client: Client, since: Duration) -> Option<u64> {
        let address = self.address(client)?;
        let notes = self.notes();
        notes.accepted.iter().rfind(|accepted| accepted.peer == address && accepted.at >= since)?.number
    }

    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    /// What the server knows of connections, and their clients do not: a connection is there from when it was accepted, though
    /// its client heard of that later. Whose process or host went away meanwhile never heard of it, and is to all others one
    /// that came and broke off; these get numbers from `first` on.
    pub(super) fn add_accepted(&mut self, first: Client) {
        let mut accepted: BTreeMap<String, Duration> = BTreeMap::new();
        for Accepted { at, peer, .. } in &self.accepted {
            accepted.entry(peer.to_string()).or_insert(*at);
        }
        for record in &mut self.records {
            if let Event::Connected { address } = &record.event
                && let Some(at) = accepted.remove(address)
            {
                record.at = record.at.min(at);
            }
        }
        for (client, (address, at)) in (first..).zip(accepted) {
            self.records.push(Record { at, client, event: Event::Connected { address } });
            self.records.push(Record { at, client, event: Event::Reset });
        }
        self.records.sort_by_key(|record| record.at);
    }

    /// Whom the server has accepted, in this order, each with the client that it was.
    fn clients(&self) -> impl Iterator<Item = (&Accepted, Client)> {
        let mut clients: BTreeMap<&str, VecDeque<Client>> = BTreeMap::new();
        for record in &self.records {
            if let Event::Connected { address } = &record.event {
                clients.entry(address).or_default().push_back(record.client);
            }
        }
        self.accepted.iter().filter_map(move |accepted| {
            let mine = clients.get_mut(&*accepted.peer.to_string())?;
            Some((accepted, mine.pop_front()?))
        })
    }

    /// Which of those that were let in each client is, in its life of the server.
    pub(super) fn numbers(&self) -> BTreeMap<Client, u64> {
        self.clients().filter_map(|(accepted, client)| Some((client, accepted.number?))).collect()
    }

    /// Who came, and when.
    pub(super) fn came(&self) -> Vec<Came> {
        let clients = self.clients();
        clients.map(|(accepted, client)| Came { at: accepted.at, ip: accepted.peer.ip(), client }).collect()
    }
}

/// A listener that writes down whom it accepts, and who of them is let into the room.
pub(super) struct Noting<L> {
    inner: L,
    recorder: Recorder,
    room: Room,
    /// How many were let in before the last one was accepted.
    let_in: u64,
    /// The last one, if it is not known yet what became of it.
    last: Option<usize>,
}

impl<L> Noting<L> {
    pub(super) fn new(inner: L, recorder: Recorder, room: Room) -> Self {
        Self { inner, recorder, room, let_in: 0, last: None }
    }

    /// Whoever was accepted is let in or turned away before anything else is asked of the listener.
    fn settle(&mut self) {
        let Some(last) = self.last.take() else { return };
        let events = self.room.totals().events;
        let let_in = events.iter().find(|(event, _)| *event == Totalled::Accepted).map_or(0, |(_, count)| *count);
        if std::mem::replace(&mut self.let_in, let_in) < let_in {
            self.recorder.notes().accepted[last].number = Some(let_in);
        }
    }
}

impl<L> Drop for Noting<L> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl<L: Listener + Send + Sync> Listener for Noting<L> {
    type Io = L::Io;

    async fn accept(&mut self) -> io::Result<(L::Io, Peer)> {
        self.settle();
        let (stream, peer) = self.inner.accept().await?;
        let addr = peer.addr().expect("it comes by a network");
        let at = self.recorder.now();
        let accepted = &mut self.recorder.notes().accepted;
        self.last = Some(accepted.len());
        accepted.push(Accepted { at, peer: addr, number: None });
        Ok((stream, peer))
    }

    fn is_quiet(io: &L::Io) -> bool {
        L::is_quiet(io)
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }

    fn place(&self) -> io::Result<String> {
        self.inner.place()
    }
}

/// A stream that can break its connection.
pub(super) trait Breakable: AsyncRead + AsyncWrite + Unpin {
    /// Drops it with a reset if the network has such a thing, and tells what happened.
    fn break_off(self) -> Event;
}

/// How a client is told what to do.
#[derive(Clone, Default)]
pub(super) struct Remote(Arc<Mutex<Control>>);

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is told and asked by itself")]
struct Control {
    /// What it is to say next.
    input: VecDeque<u8>,
    /// The last of it is no line feed.
    is_amid_line: bool,
    /// Its input ends when all of that is sent.
    ends: bool,
    paused: bool,
    /// Bytes that it reads though paused.
    sip_bytes: usize,
    state: State,
    /// The next line that comes is lost: what no network may do.
    loses_a_line: bool,
    waker: Option<Waker>,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Runs,
    /// Its process does nothing for now, or for ever.
    IsHalted,
    /// It is to break its connection.
    Breaks,
    /// The run is over.
    IsOver,
}

impl Remote {
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and lets the client know.
    fn tell(&self, change: impl FnOnce(&mut Control)) {
        let waker = {
            let mut control = self.lock();
            change(&mut control);
            control.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        self.tell(|control| {
            if !control.ends {
                control.input.extend(bytes);
                control.is_amid_line = bytes.last().map_or(control.is_amid_line, |last| *last != b'\n');
            }
        });
    }

    /// Ends the line that it is amid, if it is.
    pub(super) fn end_line(&self) {
        let is_amid_line = self.lock().is_amid_line;
        if is_amid_line {
            self.send(b"\n");
        }
    }

    pub(super) fn end(&self) {
        self.tell(|control| control.ends = true);
    }

    /// Reads no more, or again.
    pub(super) fn pause(&self, paused: bool) {
        self.tell(|control| control.paused = paused);
    }

    pub(super) fn sip(&self, bytes: usize) {
        self.tell(|control| control.sip_bytes = bytes);
    }

    /// Does nothing at all any more, or again.
    pub(super) fn halt(&self, is_halted: bool) {
        let (from, to) = if is_halted { (State::Runs, State::IsHalted) } else { (State::IsHalted, State::Runs) };
        self.tell(|control| {
            if control.state == from {
                control.state = to;
            }
        });
    }

    pub(super) fn break_off(&self) {
        self.tell(|control| control.state = State::Breaks);
    }

    pub(super) fn lose_a_line(&self) {
        self.tell(|control| control.loses_a_line = true);
    }

    pub(super) fn finish(&self) {
        self.tell(|control| control.state = State::IsOver);
    }

    /// Waits until it is to break its connection, or the run is over.
    pub(super) async fn gone(&self) {
        let is_gone = |cx: &mut Context<'_>| matches!(self.watch(cx).state, State::Breaks | State::IsOver);
        std::future::poll_fn(|cx| if is_gone(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// The state, which will wake this task when it changes.
    fn watch(&self, cx: &Context<'_>) -> MutexGuard<'_, Control> {
        let mut control = self.lock();
        match &mut control.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        control
    }
}

/// A client that is about to be: all but its stream.
pub(super) struct Newcomer {
    pub(super) client: Client,
    pub(super) is_real: bool,
    /// It speaks below TLS, where that is spoken.
    pub(super) knocks: bool,
    pub(super) remote: Remote,
    pub(super) recorder: Recorder,
}

impl Newcomer {
    /// Connects and lives until its connection ends or the run does.
    pub(super) async fn live<S: Breakable>(self, connecting: impl Future<Output = io::Result<(S, SocketAddr)>>) {
        let Self { client, is_real, knocks, remote, recorder } = self;
        let Ok((stream, address)) = connecting.await else {
            recorder.record(client, Event::Refused);
            return;
        };
        let address = address.to_string();
        recorder.record(client, if knocks { Event::Knocked { address } } else { Event::Connected { address } });
        let mouth = Mouth(remote.clone());
        let tap = Tap { stream: Some(stream), client, remote, recorder, is_done: false, blocked: None };
        if is_real {
            // Whatever it makes of its end, the tap has seen it.
            let _end = client::run(tap, mouth, tokio::io::sink(), client::Options::default()).await;
        } else {
            speak(tap, mouth).await;
        }
    }
}

/// What a client says, for whoever sends it.
struct Mouth(Remote);

impl AsyncRead for Mouth {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut control = self.0.watch(cx);
        let (bytes, _) = control.input.as_slices();
        let bytes = &bytes[..bytes.len().min(buffer.remaining())];
        if bytes.is_empty() {
            return if control.ends { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        buffer.put_slice(bytes);
        let count = bytes.len();
        control.input.drain(..count);
        Poll::Ready(Ok(()))
    }
}

/// A bare socket: reads what comes, sends what it is told to, until the other side ends or something breaks.
async fn speak<S: Breakable>(mut tap: Tap<S>, mut mouth: Mouth) {
    let mut unsent = vec![0; READ_BYTES];
    let mut rest = 0..0;
    let mut is_open = true;
    std::future::poll_fn(|cx| {
        let mut bytes = [0; READ_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut tap).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        while is_open {
            if rest.is_empty() {
                let mut buffer = ReadBuf::new(&mut unsent);
                if Pin::new(&mut mouth).poll_read(cx, &mut buffer).is_pending() {
                    break;
                }
                rest = 0..buffer.filled().len();
            }
            let wrote = if rest.is_empty() {
                ready!(Pin::new(&mut tap).poll_shutdown(cx)).map(|()| 0)
            } else {
                ready!(Pin::new(&mut tap).poll_write(cx, &unsent[rest.clone()]))
            };
            match wrote {
                Ok(bytes) => {
                    is_open = bytes > 0;
                    rest.start += bytes;
                }
                // What came before it can still be read.
                Err(_) => is_open = false,
            }
        }
        // Within TLS what was written may be held.
        let _flushed = Pin::new(&mut tap).poll_flush(cx);
        Poll::Pending
    })
    .await;
}

/// One client's end of a connection.
struct Tap<S: Breakable> {
    stream: Option<S>,
    client: Client,
    remote: Remote,
    recorder: Recorder,
    /// How its connection ended is written down.
    is_done: bool,
    /// Since when it has wanted to write.
    blocked: Option<Duration>,
}

impl<S: Breakable> Tap<S> {
    /// The stream, if it may be touched now, and what the remote says of reading.
    fn poll_stream(&mut self, cx: &Context<'_>) -> Poll<io::Result<Pin<&mut S>>> {
        let state = self.remote.watch(cx).state;
        match state {
            State::Runs => {}
            State::IsHalted => return Poll::Pending,
            State::Breaks => {
                if let Some(stream) = self.stream.take() {
                    let event = stream.break_off();
                    self.record_end(event);
                }
            }
            State::IsOver => {
                self.is_done = true;
                self.stream = None;
            }
        }
        Poll::Ready(self.stream.as_mut().map(Pin::new).ok_or_else(|| ErrorKind::NotConnected.into()))
    }

    fn record(&self, event: Event) {
        self.recorder.record(self.client, event);
    }

    fn record_end(&mut self, event: Event) {
        self.record(event);
        self.is_done = true;
    }

    fn record_error(&mut self, error: &io::Error) {
        self.record_end(Event::ReceivedError { kind: error.kind().to_string() });
    }

    /// It wants to write and cannot, or has.
    fn note_blocked(&mut self, is_blocked: bool) {
        let now = self.recorder.now();
        if is_blocked {
            self.blocked.get_or_insert(now);
        } else if let Some(from) = self.blocked.take().filter(|from| *from < now) {
            self.recorder.notes().blocked.push(Blocked { client: self.client, from, until: now });
        }
    }
}

impl<S: Breakable> Drop for Tap<S> {
    fn drop(&mut self) {
        self.note_blocked(false);
        if self.stream.is_some() && !self.is_done {
            self.record(Event::Dropped);
        }
    }
}

impl<S: Breakable> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let control = self.remote.lock();
        let most = if control.paused { control.sip_bytes.min(buffer.remaining()) } else { buffer.remaining() };
        drop(control);
        let stream = ready!(self.poll_stream(cx))?;
        if most == 0 {
            return Poll::Pending;
        }
        let mut bytes = [0; READ_BYTES];
        let mut part = ReadBuf::new(&mut bytes[..most.min(READ_BYTES)]);
        let result = ready!(stream.poll_read(cx, &mut part));
        let mut read = part.filled().to_vec();
        match &result {
            Ok(()) if read.is_empty() => self.record_end(Event::ReceivedEnd),
            Ok(()) => {
                let mut control = self.remote.lock();
                control.sip_bytes = control.sip_bytes.saturating_sub(read.len());
                if control.loses_a_line {
                    control.loses_a_line = !lose_a_line(&mut read);
                }
                drop(control);
                buffer.put_slice(&read);
                self.record(Event::Received { bytes: read });
            }
            Err(error) => self.record_error(error),
        }
        Poll::Ready(result)
    }
}

/// Takes the second line out of what was read; false if there is none that is whole.
fn lose_a_line(read: &mut Vec<u8>) -> bool {
    let mut ends = read.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let (Some(first), Some(second)) = (ends.next(), ends.next()) else { return false };
    read.drain(first..second);
    true
}

impl<S: Breakable> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = ready!(self.poll_stream(cx))?.poll_write(cx, bytes);
        self.note_blocked(wrote.is_pending());
        match &wrote {
            Poll::Ready(Ok(count)) => self.record(Event::Sent { bytes: bytes[..*count].to_vec() }),
            Poll::Ready(Err(error)) => {
                // What came before it can still be read, and will be.
                self.remote.lock().paused = false;
                self.record_error(error);
            }
            Poll::Pending => {}
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = ready!(ready!(self.poll_stream(cx))?.poll_shutdown(cx));
        // On a connection that is gone there is nothing to end.
        if ended.is_ok() {
            self.record(Event::SentEnd);
        }
        Poll::Ready(ended)
    }
}
