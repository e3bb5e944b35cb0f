//! Faults for networks that have none: a listener and its streams that fail when they are told to, and cut short what they
//! move. It stands on the server's side, so the server meets them as if they were the network's.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use unisono::Listener;
use unisono::listen::Peer;

use super::simnet::{Odds, Options, PLANTED_PANIC};
use crate::random::Random;

/// What is to go wrong. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: Random,
    options: Options,
    accepted: u64,
    accept_errors: VecDeque<io::Error>,
    accepting: Option<Waker>,
    /// By the peer's address.
    streams: BTreeMap<SocketAddr, Armed>,
    counts: Counts,
}

/// How often faults happened.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "each is the number of what it says")]
pub struct Counts {
    pub accept_errors: u64,
    pub read_errors: u64,
    pub write_errors: u64,
    pub panics: u64,
    pub short: u64,
    pub spurious: u64,
}

impl Counts {
    /// With the names that simnet has for them.
    pub fn by_name(self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("accept-fault", self.accept_errors),
            ("read-fault", self.read_errors),
            ("write-fault", self.write_errors),
            ("panic", self.panics),
            ("short", self.short),
            ("spurious", self.spurious),
        ])
    }
}

/// A fault that the next operation of a stream meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A read fails.
    Read,
    /// A write fails.
    Write,
    /// A read panics.
    Panic,
}

#[derive(Debug, Default)]
struct Armed {
    fault: Option<Fault>,
    waker: Option<Waker>,
}

impl Faults {
    /// None yet. Reads and writes are chopped, and polls spurious, as `options` say; its other fields mean nothing here.
    pub fn new(seed: u64, options: Options) -> Self {
        let random = Random::new(seed).fork("faults");
        let state = State {
            random,
            options,
            accepted: 0,
            accept_errors: VecDeque::new(),
            accepting: None,
            streams: BTreeMap::new(),
            counts: Counts::default(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next accept fails.
    pub fn fail_accept(&self, error: io::Error) {
        let waker = {
            let mut state = self.lock();
            state.accept_errors.push_back(error);
            state.accepting.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The stream to this peer meets a fault. False if there is none.
    pub fn arm(&self, peer: SocketAddr, fault: Fault) -> bool {
        let waker = {
            let mut state = self.lock();
            let Some(armed) = state.streams.get_mut(&peer) else { return false };
            armed.fault = Some(fault);
            armed.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }
}

/// A listener whose faults are [`Faults`].
#[derive(Debug)]
pub struct FaultyListener<L> {
    inner: L,
    faults: Faults,
}

impl<L> FaultyListener<L> {
    /// Wraps a listener.
    pub const fn new(inner: L, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl<L: Listener + Send + Sync> Listener for FaultyListener<L> {
    type Io = FaultyStream<L::Io>;

    async fn accept(&mut self) -> io::Result<(Self::Io, Peer)> {
        let failing = std::future::poll_fn(|cx| {
            let mut state = self.faults.lock();
            if let Some(error) = state.accept_errors.pop_front() {
                state.counts.accept_errors += 1;
                return Poll::Ready(error);
            }
            state.accepting = Some(cx.waker().clone());
            Poll::Pending
        });
        let (inner, from) = tokio::select! {
            biased;
            error = failing => return Err(error),
            accepted = self.inner.accept() => accepted?,
        };
        let peer = from.addr().expect("it comes by a network");
        let mut state = self.faults.lock();
        state.accepted += 1;
        let random = state.random.fork_at(state.accepted);
        let options = state.options;
        state.streams.insert(peer, Armed::default());
        drop(state);
        Ok((FaultyStream { inner, peer, random, options, faults: self.faults.clone(), is_unasked: false }, from))
    }

    fn is_quiet(io: &Self::Io) -> bool {
        let is_armed = io.faults.lock().streams.get(&io.peer).is_some_and(|armed| armed.fault.is_some());
        // What was pending for nothing was not asked, and wakes nobody when something comes.
        !is_armed && !io.is_unasked && L::is_quiet(&io.inner)
    }

    fn place(&self) -> io::Result<String> {
        self.inner.place()
    }
}

/// A stream of a [`FaultyListener`].
#[derive(Debug)]
pub struct FaultyStream<S> {
    inner: S,
    peer: SocketAddr,
    random: Random,
    options: Options,
    faults: Faults,
    /// The last read was pending for nothing.
    is_unasked: bool,
}

impl<S> FaultyStream<S> {
    /// The fault that this operation is to meet, if any; later ones will wake the task.
    fn fault(&self, cx: &Context<'_>, mine: &[Fault]) -> Option<Fault> {
        let mut state = self.faults.lock();
        let State { streams, counts, .. } = &mut *state;
        let armed = streams.entry(self.peer).or_default();
        armed.waker = Some(cx.waker().clone());
        let fault = armed.fault.take_if(|fault| mine.contains(fault))?;
        *match fault {
            Fault::Read => &mut counts.read_errors,
            Fault::Write => &mut counts.write_errors,
            Fault::Panic => &mut counts.panics,
        } += 1;
        Some(fault)
    }

    fn draw(&mut self, odds: Odds) -> bool {
        self.random.chance(odds.hits, odds.of)
    }

    /// A poll that is pending for nothing.
    fn poll_spurious(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.draw(self.options.spurious) {
            self.faults.lock().counts.spurious += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// How many of `bytes` are moved.
    fn chop(&mut self, bytes: usize) -> usize {
        let chop = self.options.chop;
        if bytes > 1 && self.draw(chop.odds) {
            self.faults.lock().counts.short += 1;
            let most = self.random.range(1..=chop.bytes_max as u64);
            return bytes.min(usize::try_from(most).unwrap_or(bytes));
        }
        bytes
    }
}

impl<S> Drop for FaultyStream<S> {
    fn drop(&mut self) {
        self.faults.lock().streams.remove(&self.peer);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FaultyStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.fault(cx, &[Fault::Read, Fault::Panic]) {
            Some(Fault::Panic) => panic!("{PLANTED_PANIC}"),
            Some(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                let polled = self.poll_spurious(cx);
                self.is_unasked = polled.is_pending();
                ready!(polled);
            }
        }
        let most = self.chop(buffer.remaining());
        let mut part = vec![0; most];
        let mut part = ReadBuf::new(&mut part);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        buffer.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FaultyStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.fault(cx, &[Fault::Write]).is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        ready!(self.poll_spurious(cx));
        let most = self.chop(bytes.len());
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..most])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.fault(cx, &[Fault::Write]).is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        ready!(self.poll_spurious(cx));
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        let most = self.chop(bytes);
        if most < bytes {
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return Pin::new(&mut self.inner).poll_write(cx, &first[..first.len().min(most)]);
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
