//! The other end: what is read from an input goes to the room, what the room says goes to an output.
//!
//! Two flows share one task: [`run`] polls both and neither waits for the other. A server that does not read must not keep
//! lines from the screen, and a slow screen must not keep lines from the room; each flow by itself is held up by the side
//! it writes to, so nothing piles up. After each chunk a flow lets the other have its turn, so one that is always ready
//! starves nobody, whatever streams it runs over.
//!
//! Nothing here knows a socket, a terminal or a clock: the binary runs it over TCP and standard streams, the simulation over
//! simulated ones. The client splits no lines and never has to hold one whole: it moves chunks, and flushes when nothing
//! more is ready to be read. So a terminal sees a line at once, and a file or a pipe costs one write per chunk.

use std::{io, pin::pin};

use memchr::{memchr, memmem, memrchr};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::yield_now,
};

use crate::{
    command::{self, Command},
    line::Cleaner,
};

/// What one read takes at most, in each direction. A pipe gives at most 64 KiB at a time; above that, throughput no longer
/// depends on this number. Memory is touched only as far as it is filled.
const CHUNK_BYTES: usize = 128 * 1024;

const LF: u8 = b'\n';
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How a client behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Taken as name before anything is said; none: the room knows us by our address. Only the server decides whether it is
    /// a good one; [`Name::parse`](crate::name::Name::parse) tells in advance whether it could be.
    pub name: Option<String>,
    /// What becomes of the input.
    pub sending: Sending,
    /// What becomes of the server's bytes on their way to the output.
    pub printing: Printing,
}

/// What becomes of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sending {
    /// It is sent as it is: a line that begins with a slash is a command.
    #[default]
    Commands,
    /// Every line is said: a slash at its beginning is doubled, so no line is a command. A byte order mark at the very
    /// start is dropped here, as the server would do: before a slash it would hide it.
    Verbatim,
    /// It is left alone, and our side of the stream stays open.
    Nothing,
}

/// What becomes of the server's bytes on their way to the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Printing {
    /// They are printed as they come.
    #[default]
    AsReceived,
    /// Control characters become harmless ones, for a terminal: the server may be hostile, or let everything through.
    Harmless,
}

/// How a conversation ended, when nothing broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We had ended, by the end of the input or by saying `/quit`, and then the server did: everything is printed.
    Done,
    /// Nobody reads our output any more. It is noticed at a write: with nothing to print, not at all.
    OutputClosed,
    /// The server ended first. What it had sent is printed; input may be unsent.
    ServerGone,
}

/// What broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection was lost. What could still be received is printed.
    #[error("the connection to the server is lost")]
    Server(#[source] io::Error),
    /// The input cannot be read. It was taken for its end: what came before is sent, and everything is printed.
    #[error("the input cannot be read")]
    Input(#[source] io::Error),
    /// The output cannot be written, and not because nobody reads it.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

/// Carries `input` to the room behind `stream`, and the room to `output`, until the server ends.
///
/// The end of the input closes our side only; what the server says until it closes its own is printed. An unended last line
/// is sent as it is, since the server counts it. When sending fails, receiving goes on to its end, as what was received
/// before a connection broke can still be read.
///
/// With a name, a byte order mark at the start of the input is dropped: behind the `/name` line it would no longer be at the
/// start of the connection, where the server drops it.
///
/// # Errors
///
/// [`Error::Server`] when the connection breaks, [`Error::Input`] and [`Error::Output`] when those do. A closed output and a
/// server that ends first are no errors but an [`End`].
///
/// # Panics
///
/// When the name has a line feed in it: the rest of it would be said.
///
/// # Cancel safety
///
/// None: dropping the future loses what was read from one side and not yet written to the other.
pub async fn run<S, I, O>(stream: S, input: I, output: O, options: Options) -> Result<End, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let Options { name, sending, printing } = options;
    let (from_server, to_server) = tokio::io::split(stream);
    let mut last_line = LastLine::default();

    let (sent, received) = {
        let mut input_flow = pin!(send_all(input, to_server, name, sending, &mut last_line));
        let mut output_flow = pin!(receive_all(from_server, output, printing));
        let mut sent = None;
        loop {
            // Sending first, so that an end of input and an end of the server that are there at once count as `Done`. It
            // starves nobody: both give way after every chunk.
            tokio::select! {
                biased;
                outcome = &mut input_flow, if sent.is_none() => sent = Some(outcome),
                outcome = &mut output_flow => break (sent, outcome),
            }
        }
    };

    match (received, sent) {
        (Err(Fault::Write(error)), _) if error.kind() == io::ErrorKind::BrokenPipe => Ok(End::OutputClosed),
        (Err(Fault::Write(error)), _) => Err(Error::Output(error)),
        (Ok(()), Some(Err(Fault::Read(error)))) => Err(Error::Input(error)),
        (Ok(()), _) if last_line.is_quit => Ok(End::Done),
        // A reset which the write sees first is only an end to the read.
        (Err(Fault::Read(error)), _) | (Ok(()), Some(Err(Fault::Write(error)))) => Err(Error::Server(error)),
        (Ok(()), Some(Ok(()))) => Ok(End::Done),
        (Ok(()), None) => Ok(End::ServerGone),
    }
}

/// Which side of a flow broke.
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

/// From the input to the server, then the half-close. Never returns when told to send nothing.
async fn send_all<I, S>(
    mut input: I,
    mut server: S,
    name: Option<String>,
    sending: Sending,
    last_line: &mut LastLine,
) -> Result<(), Fault>
where
    I: AsyncRead + Unpin,
    S: AsyncWrite + Unpin,
{
    let mut words = Words::new(name.is_some(), sending);
    let mut unflushed = false;
    if let Some(name) = name {
        assert!(memchr(LF, name.as_bytes()).is_none(), "a name has no line feed");
        server.write_all(format!("/name {name}\n").as_bytes()).await.map_err(Fault::Write)?;
        unflushed = true;
    }
    if sending == Sending::Nothing {
        server.flush().await.map_err(Fault::Write)?;
        std::future::pending::<()>().await;
    }

    let mut buffer = vec![0; CHUNK_BYTES];
    let input_end = loop {
        let count = match read_or_flush(&mut input, &mut buffer, &mut server, &mut unflushed).await {
            Ok(0) => break Ok(()),
            Ok(count) => count,
            Err(Fault::Read(error)) => break Err(Fault::Read(error)),
            Err(fault) => return Err(fault),
        };
        let bytes = words.next(&buffer[..count]);
        server.write_all(bytes).await.map_err(Fault::Write)?;
        // In the same turn as the write, so before the server's answer can be seen.
        last_line.on_sent(bytes);
        unflushed = true;
        yield_now().await;
    };
    let rest = words.finish();
    server.write_all(rest).await.map_err(Fault::Write)?;
    server.shutdown().await.map_err(Fault::Write)?;
    input_end
}

/// From the server to the output, until the server ends. What was received is printed and flushed before a broken
/// connection is reported.
async fn receive_all<S, O>(mut server: S, mut output: O, printing: Printing) -> Result<(), Fault>
where
    S: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let mut cleaner = Cleaner::default();
    let mut harmless = Vec::new();
    let mut unflushed = false;
    let mut buffer = vec![0; CHUNK_BYTES];
    let server_end = loop {
        let count = match read_or_flush(&mut server, &mut buffer, &mut output, &mut unflushed).await {
            Ok(0) => break Ok(()),
            Ok(count) => count,
            Err(Fault::Read(error)) => break Err(Fault::Read(error)),
            Err(fault) => return Err(fault),
        };
        let bytes = match printing {
            Printing::AsReceived => &buffer[..count],
            Printing::Harmless => {
                harmless.clear();
                cleaner.clean(&buffer[..count], &mut harmless);
                &harmless
            }
        };
        output.write_all(bytes).await.map_err(Fault::Write)?;
        unflushed = true;
        yield_now().await;
    };
    // A character that never became whole; otherwise nothing.
    harmless.clear();
    cleaner.finish(&mut harmless);
    output.write_all(&harmless).await.map_err(Fault::Write)?;
    output.flush().await.map_err(Fault::Write)?;
    server_end
}

/// Reads what is there; when nothing is, flushes what was written before it waits for more.
async fn read_or_flush<R, W>(from: &mut R, buffer: &mut [u8], to: &mut W, unflushed: &mut bool) -> Result<usize, Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if *unflushed {
        // Polls the read once. A read that is given up loses nothing.
        let ready = tokio::select! {
            biased;
            count = from.read(buffer) => Some(count),
            () = std::future::ready(()) => None,
        };
        if let Some(count) = ready {
            return count.map_err(Fault::Read);
        }
        to.flush().await.map_err(Fault::Write)?;
        *unflushed = false;
    }
    from.read(buffer).await.map_err(Fault::Read)
}

/// The input on its way to the server: without a byte order mark at its start and with slashes doubled, as the options
/// want. It knows where in a line it is, so chunks may end anywhere.
struct Words {
    /// The start of the input, while it may yet become a byte order mark; afterwards none.
    start: Option<Vec<u8>>,
    /// Whether the next byte begins a line; none when slashes are not doubled.
    at_line_start: Option<bool>,
    line_with_slash: memmem::Finder<'static>,
    out: Vec<u8>,
}

impl Words {
    fn new(is_named: bool, sending: Sending) -> Self {
        let is_verbatim = sending == Sending::Verbatim;
        Self {
            start: (is_named || is_verbatim).then(Vec::new),
            at_line_start: is_verbatim.then_some(true),
            line_with_slash: memmem::Finder::new(b"\n/"),
            out: Vec::new(),
        }
    }

    /// What to send for the next chunk of input.
    fn next<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.out.clear();
        if let Some(mut start) = self.start.take() {
            start.extend_from_slice(bytes);
            if start.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&start) {
                self.start = Some(start);
                return &[];
            }
            self.double_slashes(start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start));
            return &self.out;
        }
        if self.at_line_start.is_none() {
            return bytes;
        }
        self.double_slashes(bytes);
        &self.out
    }

    /// What is still held back at the end of the input.
    fn finish(&mut self) -> &[u8] {
        self.out.clear();
        self.out.extend(self.start.take().unwrap_or_default());
        &self.out
    }

    fn double_slashes(&mut self, mut bytes: &[u8]) {
        if let (Some(at_line_start), Some(last)) = (&mut self.at_line_start, bytes.last()) {
            if *at_line_start && bytes[0] == b'/' {
                self.out.push(b'/');
            }
            *at_line_start = *last == LF;
            while let Some(end) = self.line_with_slash.find(bytes) {
                let (line, rest) = bytes.split_at(end + 1);
                self.out.extend_from_slice(line);
                self.out.push(b'/');
                bytes = rest;
            }
        }
        self.out.extend_from_slice(bytes);
    }
}

/// Most bytes kept of a line, to see whether it is `/quit`, which blanks may follow.
const LINE_KEPT_BYTES: usize = 64;

/// Whether the last whole line that was sent is `/quit`, as the server understands it: then its end is ours. It looks at
/// the last lines of a chunk only, and keeps no more than the beginning of one.
#[derive(Default)]
struct LastLine {
    is_quit: bool,
    partial: Vec<u8>,
}

impl LastLine {
    fn on_sent(&mut self, bytes: &[u8]) {
        let Some(end) = memrchr(LF, bytes) else {
            self.keep(bytes);
            return;
        };
        if let Some(before) = memrchr(LF, &bytes[..end]) {
            self.partial.clear();
            self.keep(&bytes[before + 1..end]);
        } else {
            self.keep(&bytes[..end]);
        }
        let is_whole = self.partial.len() <= LINE_KEPT_BYTES;
        self.is_quit = is_whole && command::parse(&self.partial) == Command::Quit;
        self.partial.clear();
        self.keep(&bytes[end + 1..]);
    }

    /// Keeps one byte more than a line that counts may have: by that a longer one is known.
    fn keep(&mut self, bytes: &[u8]) {
        let free = LINE_KEPT_BYTES + 1 - self.partial.len();
        self.partial.extend_from_slice(&bytes[..free.min(bytes.len())]);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        collections::VecDeque,
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use proptest::{collection::vec, prelude::*, sample::select};
    use tokio::io::{DuplexStream, ReadBuf, duplex};

    use super::*;
    use crate::fuzzing::client::{NAME, wire};

    /// What the stream between client and server holds at once: less than a line, and more.
    const CAPACITIES: [usize; 3] = [1, 7, 65_536];

    fn verbatim() -> Options {
        Options { sending: Sending::Verbatim, ..Options::default() }
    }

    fn named(sending: Sending) -> Options {
        Options { name: Some(NAME.into()), sending, ..Options::default() }
    }

    /// A client that hangs is found at once: under paused time a deadline passes as soon as all tasks wait.
    async fn in_time<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(3600), work).await.expect("it hangs")
    }

    /// Reads until `end` was read.
    async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> Vec<u8> {
        let mut seen = Vec::new();
        while !seen.ends_with(end) {
            seen.push(stream.read_u8().await.expect("the stream ends too early"));
        }
        seen
    }

    /// Runs a client over an input that ends, against a server that reads all of it, answers and closes.
    async fn talk(capacity: usize, options: Options, input: &[u8], answer: &[u8]) -> (Vec<u8>, Vec<u8>, End) {
        let (stream, mut server) = duplex(capacity);
        let mut output = Vec::new();
        let serve = async move {
            let mut seen = Vec::new();
            server.read_to_end(&mut seen).await.unwrap();
            server.write_all(answer).await.unwrap();
            seen
        };
        let (end, seen) = in_time(async { tokio::join!(run(stream, input, &mut output, options), serve) }).await;
        (seen, output, end.unwrap())
    }

    async fn check_sent(options: Options, input: &str, expected: &str) {
        for capacity in CAPACITIES {
            let (seen, _, end) = talk(capacity, options.clone(), input.as_bytes(), b"").await;
            assert_eq!(String::from_utf8_lossy(&seen), expected);
            assert_eq!(end, End::Done);
        }
    }

    async fn check_printed(printing: Printing, answer: &[u8], expected: &str) {
        for capacity in CAPACITIES {
            let options = Options { printing, ..Options::default() };
            let (_, output, _) = talk(capacity, options, b"", answer).await;
            assert_eq!(String::from_utf8_lossy(&output), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn end_of_input_is_told_to_the_server_and_its_answer_is_printed() {
        for capacity in CAPACITIES {
            let (seen, output, end) = talk(capacity, Options::default(), b"a\n\nunended", "欢迎\nb".as_bytes()).await;
            assert_eq!(seen, b"a\n\nunended");
            assert_eq!(output, "欢迎\nb".as_bytes());
            assert_eq!(end, End::Done);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_ends_first_is_printed_and_told() {
        for capacity in CAPACITIES {
            let (stream, mut server) = duplex(capacity);
            let (_typist, input) = duplex(1);
            let mut output = Vec::new();
            let serve = async move { server.write_all(b"-- full\n").await.unwrap() };
            let client = run(stream, input, &mut output, Options::default());
            let (end, ()) = in_time(async { tokio::join!(client, serve) }).await;
            assert_eq!(end.unwrap(), End::ServerGone);
            assert_eq!(output, b"-- full\n");
        }
    }

    /// The end, when the server closes once it has read `wire` from an input that stays open.
    async fn check_open_input(options: Options, typed: &str, wire: &str, expected: End) {
        for capacity in CAPACITIES {
            let (stream, mut server) = duplex(capacity);
            let (mut typist, input) = duplex(capacity);
            let serve = async move {
                let mut seen = vec![0; wire.len()];
                server.read_exact(&mut seen).await.unwrap();
                assert_eq!(String::from_utf8_lossy(&seen), wire);
            };
            let client = run(stream, input, tokio::io::sink(), options.clone());
            let type_in = async { typist.write_all(typed.as_bytes()).await.unwrap() };
            let (end, (), ()) = in_time(async { tokio::join!(client, serve, type_in) }).await;
            assert_eq!(end.unwrap(), expected, "{typed:?} over {capacity}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_ends_after_quit_was_asked_to() {
        for (typed, expected) in [
            ("/quit\n", End::Done),
            ("hello\n/quit\n", End::Done),
            ("hello\n/quit\r\n", End::Done),
            ("/quit\nhello", End::Done),
            ("/quit", End::ServerGone),
            ("/quit\nhello\n", End::ServerGone),
            ("/quitter\n", End::ServerGone),
            ("say /quit\n", End::ServerGone),
            ("/Quit  \r\n", End::Done),
            ("/quit smoking\n", End::ServerGone),
            ("\n", End::ServerGone),
        ] {
            check_open_input(Options::default(), typed, typed, expected).await;
        }
        check_open_input(verbatim(), "/quit\n", "//quit\n", End::ServerGone).await;
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_does_not_read_keeps_nothing_from_the_output() {
        let (stream, mut server) = duplex(64);
        let (output, mut screen) = duplex(1);
        let client = run(stream, tokio::io::repeat(b'x'), output, Options::default());
        let text = "a line\n".repeat(1000);
        let serve = async {
            server.write_all(text.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        };
        let watch = async {
            let mut seen = vec![0; text.len()];
            screen.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, text.as_bytes());
        };
        in_time(async {
            tokio::select! { _ = client => panic!(), () = serve => panic!(), () = watch => {} }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn output_that_does_not_take_keeps_nothing_from_the_server() {
        let (stream, server) = duplex(64);
        let (output, _screen) = duplex(1);
        let text = "a line\n".repeat(1000);
        let client = run(stream, text.as_bytes(), output, Options::default());
        let (mut from_client, mut to_client) = tokio::io::split(server);
        let flood = async { while to_client.write_all(b"flood\n").await.is_ok() {} };
        let serve = async {
            let mut seen = Vec::new();
            from_client.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, text.as_bytes());
        };
        in_time(async {
            tokio::select! { _ = client => panic!(), () = flood => panic!(), () = serve => {} }
        })
        .await;
    }

    /// Reads without end, and without ever being told to wait.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buffer.initialize_unfilled().fill(b'x');
            buffer.advance(buffer.remaining());
            Poll::Ready(Ok(()))
        }
    }

    /// Takes everything at once, or fails with the error; counts what it is asked.
    #[derive(Default)]
    struct Sink {
        fails: Option<io::ErrorKind>,
        writes: usize,
        flushes: usize,
    }

    impl Sink {
        fn failing(kind: io::ErrorKind) -> Self {
            Self { fails: Some(kind), ..Self::default() }
        }

        fn outcome<T>(&self, value: T) -> Poll<io::Result<T>> {
            Poll::Ready(self.fails.map_or(Ok(value), |kind| Err(kind.into())))
        }
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.writes += 1;
            self.outcome(bytes.len())
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            self.outcome(())
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.outcome(())
        }
    }

    #[tokio::test]
    async fn endless_input_lets_the_end_of_the_server_be_seen() {
        let stream = tokio::io::join(tokio::io::empty(), Sink::default());
        let end = run(stream, Endless, Sink::default(), Options::default()).await;
        assert_eq!(end.unwrap(), End::ServerGone);
    }

    #[tokio::test]
    async fn endless_server_lets_the_input_be_sent() {
        let (to_server, mut server) = duplex(1);
        let stream = tokio::io::join(Endless, to_server);
        let client = run(stream, &b"hi\n"[..], Sink::default(), Options::default());
        tokio::select! { biased; _ = client => panic!(), _ = read_until(&mut server, b"hi\n") => {} }
    }

    #[tokio::test]
    async fn lines_that_come_together_are_written_and_flushed_together() {
        let text = "a line\n".repeat(1000);
        let stream = tokio::io::join(text.as_bytes(), Sink::default());
        let mut output = Sink::default();
        run(stream, &b""[..], &mut output, Options::default()).await.unwrap();
        assert_eq!((output.writes, output.flushes), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn line_is_flushed_before_the_next_is_waited_for() {
        let (stream, server) = duplex(64);
        let (typist, input) = duplex(64);
        let (output, screen) = duplex(64);
        let mut server = tokio::io::BufStream::new(server);
        let mut person = tokio::io::join(screen, typist);
        // Buffers that pass nothing on unless they are flushed.
        let client =
            run(tokio::io::BufStream::new(stream), input, tokio::io::BufWriter::new(output), Options::default());
        let converse = async {
            for _ in 0..3 {
                person.write_all(b"ping\n").await.unwrap();
                read_until(&mut server, b"ping\n").await;
                server.write_all(b"pong\n").await.unwrap();
                server.flush().await.unwrap();
                read_until(&mut person, b"pong\n").await;
            }
        };
        in_time(async {
            tokio::select! { _ = client => panic!(), () = converse => {} }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn name_is_taken_before_anything_is_said() {
        check_sent(named(Sending::Commands), "hi\n", "/name bell\nhi\n").await;
        check_sent(named(Sending::Verbatim), "/hi\n", "/name bell\n//hi\n").await;
    }

    #[tokio::test]
    #[should_panic(expected = "a name has no line feed")]
    async fn name_with_a_line_feed_is_a_fault_of_the_caller() {
        let options = Options { name: Some("bell\nsaid".into()), ..Options::default() };
        let _ = run(duplex(64).0, &b""[..], Sink::default(), options).await;
    }

    #[tokio::test(start_paused = true)]
    async fn verbatim_doubles_slashes_at_line_starts_only() {
        check_sent(verbatim(), "/a/\n/\n//b\nc/d\n\n/", "//a/\n//\n///b\nc/d\n\n//").await;
    }

    #[tokio::test(start_paused = true)]
    async fn byte_order_mark_is_dropped_where_it_would_hide_something() {
        check_sent(Options::default(), "\u{feff}/a\n", "\u{feff}/a\n").await;
        check_sent(verbatim(), "\u{feff}/a\n\u{feff}/b\n", "//a\n\u{feff}/b\n").await;
        check_sent(named(Sending::Commands), "\u{feff}a\n", "/name bell\na\n").await;
        check_sent(verbatim(), "\u{fec0}a", "\u{fec0}a").await;
    }

    #[tokio::test(start_paused = true)]
    async fn receive_only_leaves_input_and_stream_open() {
        let (stream, mut server) = duplex(64);
        let mut output = Vec::new();
        let options = named(Sending::Nothing);
        let serve = async move {
            read_until(&mut server, b"/name bell\n").await;
            let more = tokio::time::timeout(Duration::from_secs(60), server.read_u8()).await;
            assert!(more.is_err(), "neither a byte nor the end");
            server.write_all(b"a\n").await.unwrap();
        };
        let client = run(stream, Endless, &mut output, options);
        let (end, ()) = in_time(async { tokio::join!(client, serve) }).await;
        assert_eq!(end.unwrap(), End::ServerGone);
        assert_eq!(output, b"a\n");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_terminal_has_control_characters_made_harmless() {
        check_printed(Printing::AsReceived, b"\x1b[2J\r\n", "\x1b[2J\r\n").await;
        check_printed(Printing::Harmless, b"\x1b[2J\n\t\xe6\xac\xa2\r\n", "\u{241b}[2J\n\t欢\u{240d}\n").await;
        check_printed(Printing::Harmless, b"\xe6\xac\nb\xe6", "\u{fffd}\nb\u{fffd}").await;
    }

    /// Reads the chunks, one at a time, with a wait before every other; then ends, or breaks with the error.
    struct Chunks {
        left: VecDeque<Vec<u8>>,
        breaks: Option<io::ErrorKind>,
        is_ready: bool,
    }

    impl Chunks {
        fn new(chunks: &[&[u8]]) -> Self {
            Self { left: chunks.iter().map(|chunk| chunk.to_vec()).collect(), breaks: None, is_ready: false }
        }

        fn breaking(chunks: &[&[u8]], kind: io::ErrorKind) -> Self {
            Self { breaks: Some(kind), ..Self::new(chunks) }
        }
    }

    impl AsyncRead for Chunks {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.is_ready = !self.is_ready;
            if self.is_ready && self.left.len() % 2 == 1 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.left.pop_front() {
                Some(chunk) => buffer.put_slice(&chunk),
                None if self.breaks.is_some() => return Poll::Ready(Err(self.breaks.unwrap().into())),
                None => {}
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn failing_write_to_the_server_loses_nothing_that_can_be_read() {
        let chunks = Chunks::new(&[b"a\n", b"b\n", b"c\n"]);
        let stream = tokio::io::join(chunks, Sink::failing(io::ErrorKind::BrokenPipe));
        let mut output = Vec::new();
        let error = run(stream, &b"hi\n"[..], &mut output, Options::default()).await.unwrap_err();
        assert!(matches!(error, Error::Server(source) if source.kind() == io::ErrorKind::BrokenPipe));
        assert_eq!(output, b"a\nb\nc\n");
    }

    #[tokio::test]
    async fn what_came_before_a_reset_is_printed() {
        let chunks = Chunks::breaking(&[b"a\n", b"b"], io::ErrorKind::ConnectionReset);
        let mut output = tokio::io::BufWriter::new(Vec::new());
        let stream = tokio::io::join(chunks, Sink::default());
        let error = run(stream, &b"hi\n"[..], &mut output, Options::default()).await.unwrap_err();
        assert!(matches!(error, Error::Server(source) if source.kind() == io::ErrorKind::ConnectionReset));
        assert_eq!(output.into_inner(), b"a\nb");
    }

    #[tokio::test(start_paused = true)]
    async fn failing_input_counts_as_its_end_and_is_told() {
        let (stream, mut server) = duplex(64);
        let input = Chunks::breaking(&[b"a\n"], io::ErrorKind::IsADirectory);
        let mut output = Vec::new();
        let serve = async move {
            let mut seen = Vec::new();
            server.read_to_end(&mut seen).await.unwrap();
            server.write_all(b"bye\n").await.unwrap();
            seen
        };
        let client = run(stream, input, &mut output, Options::default());
        let (end, seen) = in_time(async { tokio::join!(client, serve) }).await;
        assert!(matches!(end, Err(Error::Input(source)) if source.kind() == io::ErrorKind::IsADirectory));
        assert_eq!(seen, b"a\n");
        assert_eq!(output, b"bye\n");
    }

    /// A client that is stuck in both: its input waits, and the server takes nothing more.
    async fn run_stuck(output: impl AsyncWrite + Unpin) -> Result<End, Error> {
        let (stream, mut server) = duplex(4);
        server.write_all(b"hi\n").await.unwrap();
        in_time(run(stream, Endless, output, Options::default())).await
    }

    #[tokio::test(start_paused = true)]
    async fn closed_output_ends_the_client_whatever_else_it_waits_for() {
        assert_eq!(run_stuck(Sink::failing(io::ErrorKind::BrokenPipe)).await.unwrap(), End::OutputClosed);
        let error = run_stuck(Sink::failing(io::ErrorKind::StorageFull)).await.unwrap_err();
        assert!(matches!(error, Error::Output(source) if source.kind() == io::ErrorKind::StorageFull));
    }

    #[test]
    fn client_can_be_spawned() {
        fn is_send(_: &impl Send) {}
        is_send(&run(duplex(1).0, duplex(1).1, tokio::io::sink(), Options::default()));
    }

    async fn echo(server: DuplexStream) {
        let (mut from_client, mut to_client) = tokio::io::split(server);
        tokio::io::copy(&mut from_client, &mut to_client).await.unwrap();
        to_client.shutdown().await.unwrap();
    }

    fn any_chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let any_byte = prop_oneof![2 => select(&b"\n/x\xef\xbb\xbf"[..]), 1 => any::<u8>()];
        let with_mark = vec(vec(any_byte, 1..8), 0..20);
        (any::<bool>(), with_mark).prop_map(|(has_mark, mut chunks)| {
            if has_mark {
                chunks.insert(0, "\u{feff}".into());
            }
            chunks
        })
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_come_back_whole(
            chunks in any_chunks(),
            capacity in select(&CAPACITIES[..]),
            is_verbatim: bool,
            is_named: bool,
        ) {
            let sending = if is_verbatim { Sending::Verbatim } else { Sending::Commands };
            let options = if is_named { named(sending) } else { Options { sending, ..Options::default() } };
            let expected = wire(&chunks.concat(), &options);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (stream, server) = duplex(capacity);
            let mut output = Vec::new();
            let input = Chunks { left: chunks.into(), breaks: None, is_ready: false };
            let client = run(stream, input, &mut output, options);
            let (end, ()) = runtime.block_on(async { tokio::join!(client, echo(server)) });
            prop_assert_eq!(end.unwrap(), End::Done);
            prop_assert_eq!(output, expected);
        }

        #[test]
        fn last_line_is_known_in_any_chunks(words in vec(select(vec!["/quit", "\n", "\r", "x", "/qu", "it"]), 0..12), cut: usize) {
            let text = words.concat();
            let (before, after) = text.as_bytes().split_at(cut % (text.len() + 1));
            let mut last_line = LastLine::default();
            last_line.on_sent(before);
            last_line.on_sent(after);
            let last_whole = text.rsplit_once('\n').and_then(|(lines, _)| lines.split('\n').next_back());
            let is_quit = last_whole.is_some_and(|line| line.trim_end_matches('\r') == "/quit");
            prop_assert_eq!(last_line.is_quit, is_quit);
        }
    }
}
