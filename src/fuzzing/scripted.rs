//! A stream that does what its script says: how much it gives and takes at once, when it makes one wait, and where it
//! breaks. It notes what went through it.
//!
//! A step of a script begins with the digit of its stream; what follows is read from it, unless it begins with one of:
//!
//! - `*c`: sixteen `x` times the digit and one are read
//! - `.`: a read is pending, and woken at once; `,`: a write is
//! - `~c`: nothing can be read for the span `c`; `_c`: nothing can be written
//! - `!c`: reading is broken from here on; `^c`: writing is
//! - `<c`: the next write takes at most `1 << c` bytes
//! - `%`: ending its own side never succeeds
//!
//! A script of reads that is at its end is the end of the stream; one of writes takes everything.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::{Stream, digit, span};

/// All that a stream waits for together: a longer wait meets nothing new, and is dear where others look at their clocks
/// meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(100);

#[derive(Debug)]
enum Step {
    /// These bytes are read, as far as they are asked for.
    Bytes(Vec<u8>),
    /// At most so many bytes are written.
    Take(usize),
    Pending,
    Wait(Duration),
    /// From here on.
    Error(ErrorKind),
}

/// What shall happen on a stream.
#[derive(Debug, Default)]
pub(super) struct Script {
    reads: VecDeque<Step>,
    writes: VecDeque<Step>,
    never_shuts: bool,
    waited: Duration,
}

impl Script {
    /// Adds a step, which has its stream's digit no more.
    pub(super) fn push(&mut self, step: &[u8]) {
        match *step {
            [] => {}
            [b'*', length, ..] => self.reads.push_back(Step::Bytes(vec![b'x'; 16 * (usize::from(digit(length)) + 1)])),
            [b'.', ..] => self.reads.push_back(Step::Pending),
            [b',', ..] => self.writes.push_back(Step::Pending),
            [b'~', length, ..] => {
                let wait = self.wait(length);
                self.reads.push_back(wait);
            }
            [b'_', length, ..] => {
                let wait = self.wait(length);
                self.writes.push_back(wait);
            }
            [b'!', kind, ..] => self.reads.push_back(Step::Error(error(kind))),
            [b'^', kind, ..] => self.writes.push_back(Step::Error(error(kind))),
            [b'<', length, ..] => self.writes.push_back(Step::Take(1 << digit(length))),
            [b'%', ..] => self.never_shuts = true,
            ref bytes => self.reads.push_back(Step::Bytes(bytes.to_vec())),
        }
    }

    /// A stream from which nothing can be read for so long, and that takes everything.
    pub(super) fn silent(span: Duration) -> Self {
        Self { reads: [Step::Wait(span)].into(), ..Self::default() }
    }

    fn wait(&mut self, length: u8) -> Step {
        let wait = span(length).min(WAIT_MAX.saturating_sub(self.waited));
        self.waited += wait;
        Step::Wait(wait)
    }
}

fn error(kind: u8) -> ErrorKind {
    match digit(kind) % 5 {
        0 => ErrorKind::ConnectionReset,
        1 => ErrorKind::BrokenPipe,
        2 => ErrorKind::TimedOut,
        // A write that takes nothing.
        3 => ErrorKind::WriteZero,
        _ => ErrorKind::Other,
    }
}

/// What has happened on a stream.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each notes an event of its own")]
pub(super) struct Record {
    pub(super) read: Vec<u8>,
    /// Its end was read.
    pub(super) is_ended: bool,
    /// By then a write had met a reset, so that it was no clean end. A broken pipe is none: the peer takes nothing more, and
    /// may have ended its input before.
    pub(super) was_reset: bool,
    pub(super) read_error: Option<ErrorKind>,
    pub(super) written: Vec<u8>,
    /// So many bytes of it were flushed.
    pub(super) flushed: usize,
    pub(super) write_error: Option<ErrorKind>,
    /// Its own side was ended.
    pub(super) is_shut: bool,
    /// Its holder panicked.
    pub(super) has_panicked: bool,
}

#[derive(Debug)]
pub(super) struct Scripted {
    script: Script,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    record: Arc<Mutex<Record>>,
}

/// Looks at what has happened on a stream.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<Mutex<Record>>);

impl Watch {
    pub(super) fn record(&self) -> Record {
        lock(&self.0).clone()
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scripted {
    pub(super) fn new(script: Script) -> (Self, Watch) {
        let record = Arc::new(Mutex::new(Record::default()));
        let watch = Watch(Arc::clone(&record));
        (Self { script, reading: None, writing: None, record }, watch)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        lock(&self.record).has_panicked = std::thread::panicking();
    }
}

/// Does the step that only takes time, if one is next. Pending until it is done.
fn poll_time(steps: &mut VecDeque<Step>, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match steps.front() {
            Some(Step::Pending) => {
                steps.pop_front();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Step::Wait(span)) => {
                let timer_now = timer.get_or_insert_with(|| Box::pin(sleep(*span)));
                std::task::ready!(timer_now.as_mut().poll(cx));
                *timer = None;
                steps.pop_front();
            }
            _ => return Poll::Ready(()),
        }
    }
}

impl AsyncRead for Scripted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(poll_time(&mut this.script.reads, &mut this.reading, cx));
        let mut record = lock(&this.record);
        match this.script.reads.front_mut() {
            Some(Step::Bytes(bytes)) => {
                let count = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..count]);
                record.read.extend(bytes.drain(..count));
                if bytes.is_empty() {
                    this.script.reads.pop_front();
                }
            }
            Some(Step::Error(kind)) => {
                record.read_error = Some(*kind);
                return Poll::Ready(Err((*kind).into()));
            }
            _ if !record.is_ended => {
                record.is_ended = true;
                record.was_reset = record.write_error.is_some_and(|kind| kind != ErrorKind::BrokenPipe);
            }
            _ => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for Scripted {
    fn is_quiet(&self) -> bool {
        matches!(self.script.reads.front(), Some(Step::Wait(_)))
            && self.reading.as_ref().is_some_and(|timer| !timer.is_elapsed())
    }
}

impl Scripted {
    /// The error that writing meets from here on; noted, as whoever writes knows of it now.
    fn check_writes(&mut self) -> io::Result<()> {
        match self.script.writes.front() {
            Some(Step::Error(kind)) => {
                lock(&self.record).write_error = Some(*kind);
                Err((*kind).into())
            }
            _ => Ok(()),
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(poll_time(&mut this.script.writes, &mut this.writing, cx));
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        if let Some(Step::Error(ErrorKind::WriteZero)) = this.script.writes.front()
            && bytes.is_empty()
        {
            return Poll::Ready(Ok(0));
        }
        if let Err(error) = this.check_writes() {
            return Poll::Ready(if error.kind() == ErrorKind::WriteZero { Ok(0) } else { Err(error) });
        }
        if let Some(Step::Take(most)) = this.script.writes.front()
            && !bytes.is_empty()
        {
            bytes.truncate(*most);
            this.script.writes.pop_front();
        }
        lock(&this.record).written.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(poll_time(&mut this.script.writes, &mut this.writing, cx));
        this.check_writes()?;
        let mut record = lock(&this.record);
        record.flushed = record.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(poll_time(&mut this.script.writes, &mut this.writing, cx));
        this.check_writes()?;
        if this.script.never_shuts {
            return Poll::Pending;
        }
        lock(&this.record).is_shut = true;
        Poll::Ready(Ok(()))
    }
}
