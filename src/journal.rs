//! The log on stderr, which never holds up the server.
//!
//! An event is formatted where it happens, and put into a buffer of bounded size; one thread writes the buffer out. When
//! stderr is stuck (a pipe that nobody reads, a stopped terminal) the buffer fills, and further lines are lost; when writing
//! fails (a full disk) the lines of that write are. Lost lines are counted, and as soon as writing works again a line
//! `N log lines lost` stands in their place.
//!
//! What peers chose (names, mostly) can be in a line. Here, in one place, whatever is not printable is escaped as Rust's
//! `Debug` would (`\n`, `\u{1b}`, `\u{202e}`): an event is one line, and no peer can draw on the operator's terminal.
//! Colours are never used, so a log can always be searched as plain text.
//!
//! Events of one kind, which is one place in the code, are written so many a second at most; the rest are left out, and one line
//! says how many there were ([`kinds`]). So a crowd cannot flood the log, nor hide in it what else happens.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::Registry,
    reload,
    util::SubscriberInitExt,
};

use self::{
    json::Json,
    kinds::{Kinds, LeftOut},
};

mod json;
mod kinds;

/// Lines waiting for stderr, in bytes: some thousand lines, a burst that a healthy stderr takes in milliseconds.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// How long the end of the process waits for a stuck stderr.
const END_WAIT: Duration = Duration::from_millis(500);

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// An object of JSON a line.
    Json,
}

/// Starts the log of the process; panics go there too, as the standard hook would write to stderr itself and could be held
/// up by it.
///
/// Dropping what is returned writes out what is pending, or gives up after half a second.
///
/// # Errors
///
/// When the system gives no thread.
///
/// # Panics
///
/// When called twice.
pub(crate) fn start(format: Format, level: LevelFilter) -> io::Result<Journal> {
    let (level, level_handle) = reload::Layer::new(level);
    let journal = Journal::new(io::stderr(), level_handle)?;
    let pending = Arc::clone(&journal.pending);
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false);
    let lines = lines.with_writer(move || Entry(Arc::clone(&pending)));
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.event_format(Json).boxed(),
    };
    let measured = Measured(Arc::clone(&journal.pending));
    tracing_subscriber::registry().with(level).with(measured).with(lines).init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!("thread {} {panic}", thread.name().unwrap_or("without a name"));
    }));
    Ok(journal)
}

/// The running log; it ends with this value.
#[must_use = "the log ends when this is dropped"]
pub(crate) struct Journal {
    pending: Arc<Pending>,
    level: LevelHandle,
    writer: Option<JoinHandle<()>>,
}

type LevelHandle = reload::Handle<LevelFilter, Registry>;

/// What others may know and change of the log while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    #[cfg(feature = "metrics")]
    lost_lines: Arc<AtomicU64>,
    level: LevelHandle,
}

impl Control {
    /// Lines that were lost so far, that the writing thread knows of.
    #[cfg(feature = "metrics")]
    pub(crate) fn lost_lines(&self) -> u64 {
        self.lost_lines.load(Ordering::Relaxed)
    }

    /// Writes events from `level` up from now on.
    pub(crate) fn set_level(&self, level: LevelFilter) {
        // It fails only when the log has ended.
        let _ended = self.level.reload(level);
    }
}

impl Journal {
    pub(crate) fn control(&self) -> Control {
        Control {
            #[cfg(feature = "metrics")]
            lost_lines: Arc::clone(&self.pending.lost_lines_ever),
            level: self.level.clone(),
        }
    }

    fn new(out: impl Write + Send + 'static, level: LevelHandle) -> io::Result<Self> {
        let pending = Arc::new(Pending::default());
        let writer = std::thread::Builder::new().name("journal".into()).spawn({
            let pending = Arc::clone(&pending);
            move || {
                write_all(&pending, &mut Out::new(out), LeftOut::tell);
                pending.lock().phase = Phase::Ended;
                pending.changed.notify_all();
            }
        })?;
        Ok(Self { pending, level, writer: Some(writer) })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let mut state = self.pending.lock();
        if state.phase == Phase::Running {
            state.phase = Phase::Ending;
        }
        self.pending.changed.notify_all();
        let (state, _) = self
            .pending
            .changed
            .wait_timeout_while(state, END_WAIT, |state| state.phase != Phase::Ended)
            .unwrap_or_else(PoisonError::into_inner);
        let has_ended = state.phase == Phase::Ended;
        drop(state);
        // A writer that is still stuck goes with the process.
        if let Some(writer) = self.writer.take_if(|_| has_ended) {
            let _ = writer.join();
        }
    }
}

/// Lines on their way to the writing thread.
///
/// Invariant: `lines` holds whole lines, at most [`PENDING_BYTES_MAX`] bytes of them. The lock is held for copying a line
/// or taking the buffer, never while writing.
#[derive(Default)]
struct Pending {
    state: Mutex<State>,
    changed: Condvar,
    /// All that were lost, here or in writing.
    lost_lines_ever: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines that found the buffer full. They came after all that it holds.
    lost_lines: u64,
    kinds: Kinds,
    phase: Phase,
}

impl State {
    /// A line larger than the whole buffer is lost while no other waits.
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost_lines == 0
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    /// Nothing more will come: write what is there.
    Ending,
    Ended,
}

impl Pending {
    /// A poisoned lock is taken as it is: each change under it is a single one, and the log must outlive a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one event, with or without its line end, or counts it as lost. Never waits for stderr.
    fn add(&self, event: &[u8]) {
        let line = one_line(event);
        let mut state = self.lock();
        // Once a line was refused, all are until the writer has taken the buffer: so the count stands in one place.
        if state.lost_lines > 0 || state.lines.len() + line.len() > PENDING_BYTES_MAX {
            state.lost_lines += 1;
            self.lost_lines_ever.fetch_add(1, Ordering::Relaxed);
        } else {
            state.lines.extend_from_slice(line.as_bytes());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for lines, or for the time to tell of those left out, and takes both. None at the end.
    fn next(&self, lines: &mut Vec<u8>) -> Option<Taken> {
        lines.clear();
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let is_ending = state.phase != Phase::Running;
            let left_out = if is_ending { state.kinds.take_all() } else { state.kinds.take_due(now) };
            if !state.is_empty() || !left_out.is_empty() {
                mem::swap(lines, &mut state.lines);
                return Some(Taken { lost_lines: mem::take(&mut state.lost_lines), left_out });
            }
            if is_ending {
                return None;
            }
            state = match state.kinds.next_due() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let waited = self.changed.wait_timeout(state, due.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// What the writing thread has to do, besides the lines that it got.
struct Taken {
    /// Lines that were lost behind them.
    lost_lines: u64,
    left_out: Vec<LeftOut>,
}

/// Lets so many events of a kind a second pass, before they are formatted.
struct Measured(Arc<Pending>);

impl<S: Subscriber> Layer<S> for Measured {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut state = self.0.lock();
        let was_due = state.kinds.next_due();
        let passes = state.kinds.passes(event, Instant::now());
        let is_due = state.kinds.next_due();
        drop(state);
        if is_due != was_due {
            self.0.changed.notify_all();
        }
        passes
    }
}

/// The control of a log that is none.
#[cfg(all(test, feature = "metrics"))]
pub(crate) fn control_of_none() -> Control {
    let (_, level) = reload::Layer::new(LevelFilter::INFO);
    Control { lost_lines: Arc::default(), level }
}

/// One event to the buffer: the subscriber formats it whole, and writes it by one call.
struct Entry(Arc<Pending>);

impl Write for Entry {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.add(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event as one line, with everything escaped that is not printable.
fn one_line(event: &[u8]) -> String {
    let text = String::from_utf8_lossy(event);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut line = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if matches!(character, ' '..='~') {
            line.push(character);
        } else {
            line.extend(character.escape_debug());
        }
    }
    line.push('\n');
    line
}

/// The thread's work: from the buffer to stderr, until the end. What was left out is told as an event like any other.
fn write_all(pending: &Pending, out: &mut Out<impl Write>, tell: impl Fn(LeftOut)) {
    let mut lines = Vec::new();
    while let Some(Taken { lost_lines, left_out }) = pending.next(&mut lines) {
        pending.lost_lines_ever.fetch_add(out.write_lines(&lines), Ordering::Relaxed);
        out.lost_lines += lost_lines;
        out.tell_lost();
        left_out.into_iter().for_each(&tell);
    }
    out.tell_lost();
}

/// A destination that may fail, and the count of what it has cost.
struct Out<W> {
    writer: W,
    lost_lines: u64,
    /// Whether the last write stopped within a line.
    is_torn: bool,
}

impl<W: Write> Out<W> {
    fn new(writer: W) -> Self {
        Self { writer, lost_lines: 0, is_torn: false }
    }

    /// Writes lines, or counts those that were not written whole, and returns how many those are. Lost ones are told of first.
    fn write_lines(&mut self, lines: &[u8]) -> u64 {
        self.tell_lost();
        let written = if self.lost_lines == 0 { self.write(lines) } else { 0 };
        let lost_lines = count_lines(&lines[written..]);
        self.lost_lines += lost_lines;
        lost_lines
    }

    fn tell_lost(&mut self) {
        if self.lost_lines == 0 {
            return;
        }
        let gap = if self.is_torn { "\n" } else { "" };
        let note = format!("{gap}{} log lines lost\n", self.lost_lines);
        if self.write(note.as_bytes()) == note.len() {
            self.lost_lines = 0;
        }
    }

    /// Writes as much as goes, and says how much.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.writer.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if let Some(last) = bytes[..written].last() {
            self.is_torn = *last != b'\n';
        }
        written
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender};

    use super::*;

    /// What a destination does with one write after another.
    enum Step {
        Take(usize),
        Fail,
    }

    /// Does its steps in turn, then takes everything.
    struct Script {
        steps: Vec<Step>,
        text: Vec<u8>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let step = if self.steps.is_empty() { Step::Take(bytes.len()) } else { self.steps.remove(0) };
            let Step::Take(count) = step else {
                return Err(io::ErrorKind::StorageFull.into());
            };
            self.text.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(steps: Vec<Step>, batches: &[&str], expected: &str) {
        let mut out = Out::new(Script { steps, text: Vec::new() });
        for batch in batches {
            let _counted = out.write_lines(batch.as_bytes());
        }
        out.tell_lost();
        assert_eq!(String::from_utf8(out.writer.text).unwrap(), expected);
    }

    #[test]
    fn healthy_destination_gets_everything() {
        check(vec![], &["a\nb\n", "c\n"], "a\nb\nc\n");
        check(vec![Step::Take(1), Step::Take(2)], &["a\nb\n"], "a\nb\n");
    }

    #[test]
    fn lines_of_a_failed_write_are_counted_and_told_once_writing_works() {
        check(vec![Step::Fail], &["a\nb\n", "c\n"], "2 log lines lost\nc\n");
        check(vec![Step::Fail, Step::Fail], &["a\nb\n", "c\n"], "3 log lines lost\n");
        check(vec![Step::Take(2), Step::Fail], &["a\nb\n", "c\n"], "a\n1 log lines lost\nc\n");
    }

    #[test]
    fn torn_line_is_ended_and_counted() {
        check(vec![Step::Take(1), Step::Fail], &["aa\nbb\n", "c\n"], "a\n2 log lines lost\nc\n");
        let torn_note = vec![Step::Fail, Step::Take(3), Step::Fail];
        check(torn_note, &["a\n", "b\n", "c\n"], "1 l\n2 log lines lost\nc\n");
    }

    /// Holds each write up until it is released, and passes on what was written.
    struct Stuck {
        begun: SyncSender<String>,
        released: Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.begun.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            // Nobody there to release it any more: run free.
            let _ = self.released.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck_journal() -> (Journal, Receiver<String>, SyncSender<()>) {
        let (begun, begins) = mpsc::sync_channel(16);
        let (release, released) = mpsc::sync_channel(16);
        let (_, level) = reload::Layer::new(LevelFilter::INFO);
        (Journal::new(Stuck { begun, released }, level).unwrap(), begins, release)
    }

    #[test]
    fn stuck_destination_holds_nobody_up_and_lost_lines_are_told_in_their_place() {
        let (journal, begins, release) = stuck_journal();
        journal.pending.add(b"first\n");
        assert_eq!(begins.recv().unwrap(), "first\n");

        let line = "x".repeat(1023) + "\n";
        let fitting = PENDING_BYTES_MAX / line.len();
        for _ in 0..fitting + 3 {
            journal.pending.add(line.as_bytes());
        }
        assert_eq!(journal.pending.lock().lines.len(), fitting * line.len());

        release.send(()).unwrap();
        assert_eq!(begins.recv().unwrap().len(), fitting * line.len());
        journal.pending.add(b"last\n");
        drop(release);
        assert_eq!(begins.recv().unwrap(), "3 log lines lost\n");
        assert_eq!(begins.recv().unwrap(), "last\n");
    }

    #[test]
    fn once_a_line_is_lost_so_are_all_until_the_writer_returns() {
        let (journal, begins, release) = stuck_journal();
        journal.pending.add(b"first\n");
        begins.recv().unwrap();
        journal.pending.add(b"second\n");
        journal.pending.add("x".repeat(PENDING_BYTES_MAX).as_bytes());
        journal.pending.add(b"small enough\n");
        drop(release);
        assert_eq!(begins.recv().unwrap(), "second\n");
        assert_eq!(begins.recv().unwrap(), "2 log lines lost\n");
    }

    #[test]
    fn line_larger_than_the_buffer_is_lost_alone() {
        let (journal, begins, release) = stuck_journal();
        drop(release);
        journal.pending.add("x".repeat(PENDING_BYTES_MAX).as_bytes());
        assert_eq!(begins.recv().unwrap(), "1 log lines lost\n");
        journal.pending.add(b"next\n");
        assert_eq!(begins.recv().unwrap(), "next\n");
    }

    #[test]
    fn end_writes_what_is_pending() {
        let (journal, begins, release) = stuck_journal();
        drop(release);
        for _ in 0..3 {
            journal.pending.add(b"line\n");
        }
        drop(journal);
        assert_eq!(begins.iter().collect::<String>(), "line\n".repeat(3));
    }

    #[test]
    fn end_gives_up_on_a_stuck_destination() {
        let (journal, begins, _release) = stuck_journal();
        journal.pending.add(b"line\n");
        begins.recv().unwrap();
        drop(journal);
    }

    #[test]
    fn event_is_one_line_of_printable_text() {
        assert_eq!(one_line("欢迎 INFO \"é\"\n".as_bytes()), "欢迎 INFO \"é\"\n");
        assert_eq!(one_line(b"a\nb\x1b[2Jc"), "a\\nb\\u{1b}[2Jc\n");
        assert_eq!(one_line("a\u{202e}b\u{2028}c\u{9b}\n".as_bytes()), "a\\u{202e}b\\u{2028}c\\u{9b}\n");
        assert_eq!(one_line(b"\xff\n"), "\u{fffd}\n");
    }
}
