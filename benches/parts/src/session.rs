//! One turn of a session: a line is read, said, and written to everyone, by a whole server over streams that cost nothing.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::vec;

use criterion::{Criterion, Throughput};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, yield_now};
use unisono::listen::Peer;
use unisono::{Limits, Listener, Room, Wire, server};

use crate::SAID;

/// What the first connection is: who says [`SAID`].
const WHO: &[u8] = b"10.0.0.1:1: ";

/// All that is measured here.
///
/// # Panics
///
/// When there is no runtime to be had.
pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session turn");
    let runtime = runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for connections in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(connections as u64));
        let rig = runtime.block_on(Rig::new(connections));
        group.bench_function(format!("to {connections}"), |bencher| {
            bencher.iter_custom(|iters| runtime.block_on(rig.turns(iters)));
        });
        runtime.block_on(rig.end());
    }
    group.finish();
}

/// A server, and its connections.
struct Rig {
    room: Room,
    connections: usize,
    mouth: Arc<Mutex<Mouth>>,
    ears: Arc<Ears>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), server::Error>>,
}

impl Rig {
    /// A server that so many have entered, with nothing left to be read.
    async fn new(connections: usize) -> Self {
        let limits = Limits { linger: Duration::ZERO, ..Limits::default() };
        let room = Room::new(limits, Wire::default()).expect("limits that work");
        let (mouth, ears) = (Arc::default(), Arc::<Ears>::default());
        let streams: Vec<_> = (0..connections)
            .map(|index| Stream { mouth: (index == 0).then(|| Arc::clone(&mouth)), ears: Arc::clone(&ears) })
            .collect();
        let (stop, stopped) = oneshot::channel();
        let streams = Streams { next_port: 1, streams: streams.into_iter() };
        let server = tokio::spawn(server::run(vec![streams], room.clone(), async { drop(stopped.await) }));
        while room.tally().members < connections || room.tally().held_bytes > 0 {
            yield_now().await;
        }
        Self { room, connections, mouth, ears, stop, server }
    }

    /// The time that so many turns take.
    async fn turns(&self, count: u64) -> Duration {
        let said_bytes = self.room.tally().said_bytes;
        let began = Instant::now();
        for _ in 0..count {
            self.ears.due_bytes.store(self.connections * SAID.len(), Ordering::Relaxed);
            speak(&self.mouth);
            self.ears.done.notified().await;
        }
        let spent = began.elapsed();
        assert_eq!(self.room.tally().said_bytes - said_bytes, count * SAID.len() as u64);
        spent
    }

    async fn end(self) {
        drop(self.stop);
        self.server.await.expect("it does not panic").expect("it ends in order");
    }
}

/// What one connection has to say.
#[derive(Default)]
struct Mouth {
    is_full: bool,
    waker: Option<Waker>,
}

fn speak(mouth: &Mutex<Mouth>) {
    let waker = {
        let mut mouth = mouth.lock().unwrap_or_else(PoisonError::into_inner);
        mouth.is_full = true;
        mouth.waker.take()
    };
    waker.expect("it waits for this").wake();
}

/// What is written to all connections.
#[derive(Default)]
struct Ears {
    due_bytes: AtomicUsize,
    done: Notify,
}

impl Ears {
    fn hear(&self, bytes: usize) {
        if self.due_bytes.fetch_sub(bytes, Ordering::Relaxed) == bytes {
            self.done.notify_one();
        }
    }
}

/// A connection that takes whatever it is given. At most one says something.
struct Stream {
    mouth: Option<Arc<Mutex<Mouth>>>,
    ears: Arc<Ears>,
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mouth) = &self.mouth else { return Poll::Pending };
        let mut mouth = mouth.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut mouth.is_full) {
            buffer.put_slice(&SAID[WHO.len()..]);
            return Poll::Ready(Ok(()));
        }
        mouth.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ears.hear(bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.ears.hear(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Streams that are all there from the beginning.
struct Streams {
    next_port: u16,
    streams: vec::IntoIter<Stream>,
}

impl Listener for Streams {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<(Stream, Peer)> {
        let Some(stream) = self.streams.next() else { return std::future::pending().await };
        let from = SocketAddr::from(([10, 0, 0, 1], self.next_port)).into();
        self.next_port += 1;
        Ok((stream, from))
    }

    fn place(&self) -> io::Result<String> {
        Ok("10.0.0.1:8000".to_owned())
    }
}
