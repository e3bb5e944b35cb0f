//! What TCP does, written down as scripts of socket calls, and run on real sockets, on simnet and on turmoil.
//!
//! Each script says what a Linux socket makes of it. Where a simulated network does otherwise, that stands beside it: it is a
//! known difference, and a test fails when it goes away as well as when another appears.
//!
//! A script is a row of steps, `stream.verb:argument`; what a step observes is a word of the outcome. `pair` listens, and
//! connects `c` while it accepts `s`. Nothing waits for real time: `settle` waits until all that was sent before has arrived, and
//! whatever should come is waited for within a bound that only a failure reaches.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use sim_tests::network::simnet::{Network, SimListener, SimStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use unisono::Listener;

/// A network as a script needs it.
trait World {
    type Listener;
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// Listens on one certain address.
    async fn listen(&mut self) -> io::Result<Self::Listener>;
    async fn accept(&self, listener: &mut Self::Listener) -> io::Result<Self::Stream>;
    /// Connects to that address.
    async fn connect(&self) -> io::Result<Self::Stream>;
    /// Drops the stream with a reset. Scripts leave something unread in it first where that is the only way.
    fn reset(&self, stream: Self::Stream);
    fn local_addr(stream: &Self::Stream) -> SocketAddr;
    fn peer_addr(stream: &Self::Stream) -> SocketAddr;
    /// Returns when everything sent before has arrived.
    async fn settle(&mut self);
    /// Waits for what should come; none when it does not.
    async fn bounded<T>(&self, wait: impl Future<Output = T>) -> Option<T>;
}

/// Real sockets.
struct Loopback {
    addr: SocketAddr,
    /// What goes to and fro here arrives after everything that was sent before: the loopback device is one queue.
    side: (tokio::net::TcpStream, tokio::net::TcpStream),
}

impl Loopback {
    async fn new() -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let aside = tokio::net::TcpListener::bind(any).await?;
        let (near, far) = tokio::try_join!(tokio::net::TcpStream::connect(aside.local_addr()?), aside.accept())?;
        // A port that was free a moment ago, so that a script can also connect to nobody.
        let addr = tokio::net::TcpListener::bind(any).await?.local_addr()?;
        Ok(Self { addr, side: (near, far.0) })
    }
}

impl World for Loopback {
    type Listener = tokio::net::TcpListener;
    type Stream = tokio::net::TcpStream;

    async fn listen(&mut self) -> io::Result<Self::Listener> {
        tokio::net::TcpListener::bind(self.addr).await
    }

    async fn accept(&self, listener: &mut Self::Listener) -> io::Result<Self::Stream> {
        Ok(listener.accept().await?.0)
    }

    async fn connect(&self) -> io::Result<Self::Stream> {
        tokio::net::TcpStream::connect(self.addr).await
    }

    fn reset(&self, stream: Self::Stream) {
        stream.set_zero_linger().expect("a socket has that option");
    }

    fn local_addr(stream: &Self::Stream) -> SocketAddr {
        stream.local_addr().expect("it is bound")
    }

    fn peer_addr(stream: &Self::Stream) -> SocketAddr {
        stream.peer_addr().expect("it is connected")
    }

    async fn settle(&mut self) {
        let (near, far) = &mut self.side;
        for _ in 0..2 {
            near.write_all(b"?").await.expect("the side connection stays");
            far.read_exact(&mut [0]).await.expect("the side connection stays");
            far.write_all(b"!").await.expect("the side connection stays");
            near.read_exact(&mut [0]).await.expect("the side connection stays");
        }
    }

    async fn bounded<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_secs(10), wait).await.ok()
    }
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 8000;

/// Ours, once without latency and once with.
struct Simnet(Network);

impl World for Simnet {
    type Listener = SimListener;
    type Stream = SimStream;

    async fn listen(&mut self) -> io::Result<SimListener> {
        self.0.listen((HERE, PORT).into())
    }

    async fn accept(&self, listener: &mut SimListener) -> io::Result<SimStream> {
        Ok(Listener::accept(listener).await?.0)
    }

    async fn connect(&self) -> io::Result<SimStream> {
        self.0.connect(THERE, (HERE, PORT).into()).await
    }

    fn reset(&self, stream: SimStream) {
        stream.reset();
    }

    fn local_addr(stream: &SimStream) -> SocketAddr {
        stream.local_addr()
    }

    fn peer_addr(stream: &SimStream) -> SocketAddr {
        stream.peer_addr()
    }

    async fn settle(&mut self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    async fn bounded<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_secs(60), wait).await.ok()
    }
}

/// turmoil, on one simulated host.
struct Turmoil;

impl World for Turmoil {
    type Listener = turmoil::net::TcpListener;
    type Stream = turmoil::net::TcpStream;

    async fn listen(&mut self) -> io::Result<Self::Listener> {
        turmoil::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await
    }

    async fn accept(&self, listener: &mut Self::Listener) -> io::Result<Self::Stream> {
        Ok(listener.accept().await?.0)
    }

    async fn connect(&self) -> io::Result<Self::Stream> {
        turmoil::net::TcpStream::connect((turmoil::lookup("here"), PORT)).await
    }

    /// There is no such call; something unread makes it a reset.
    fn reset(&self, stream: Self::Stream) {
        drop(stream);
    }

    fn local_addr(stream: &Self::Stream) -> SocketAddr {
        stream.local_addr().expect("it is bound")
    }

    fn peer_addr(stream: &Self::Stream) -> SocketAddr {
        stream.peer_addr().expect("it is connected")
    }

    async fn settle(&mut self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn bounded<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_secs(10), wait).await.ok()
    }
}

/// Is woken.
#[derive(Default)]
struct Flag(Notify);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// A stream of a script, and what the script knows of it.
struct Party<S> {
    stream: S,
    flag: Arc<Flag>,
    /// Bytes of the pattern that it wrote, and that it read.
    filled: usize,
    drained: usize,
}

/// One run of a script.
struct Run<W: World> {
    world: W,
    listener: Option<W::Listener>,
    parties: BTreeMap<String, Party<W::Stream>>,
    /// Bytes of the pattern that were written by those who are gone.
    gone_filled: usize,
    outcome: String,
}

fn word(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| {
        match error.kind() {
            ErrorKind::ConnectionReset => "reset",
            ErrorKind::BrokenPipe => "pipe",
            ErrorKind::ConnectionRefused => "refused",
            ErrorKind::NotConnected => "unconnected",
            ErrorKind::AddrInUse => "in-use",
            kind => return format!("{kind:?}"),
        }
        .to_owned()
    })
}

/// What a full socket is filled with: the byte at each place.
fn pattern(from: usize, bytes: usize) -> Vec<u8> {
    (from..from + bytes).map(|place| u8::try_from(place % 251).expect("below 251")).collect()
}

impl<W: World> Run<W> {
    async fn script(world: W, steps: &str) -> String {
        let mut run = Self { world, listener: None, parties: BTreeMap::new(), gone_filled: 0, outcome: String::new() };
        for step in steps.split_whitespace() {
            match step {
                "pair" => {
                    for step in ["listen", "c.meets:s"] {
                        run.step(step).await;
                    }
                }
                step => run.step(step).await,
            }
        }
        run.outcome.trim_end().to_owned()
    }

    fn saw(&mut self, word: &str) {
        write!(self.outcome, "{word} ").expect("a string takes everything");
    }

    async fn step(&mut self, step: &str) {
        let (who, verb) = step.split_once('.').unwrap_or(("", step));
        let (verb, argument) = verb.split_once(':').unwrap_or((verb, ""));
        match verb {
            "settle" => self.world.settle().await,
            "unlisten" => self.listener = None,
            "listen" => match self.world.listen().await {
                Ok(listener) => self.listener = Some(listener),
                Err(error) => self.saw(&word(Err(error))),
            },
            "connect" => match self.world.bounded(self.world.connect()).await {
                Some(connected) => self.join(who, connected),
                None => self.saw("no-answer"),
            },
            "meets" => {
                let listener = self.listener.as_mut().expect("the script listens");
                let meeting = async { tokio::join!(self.world.connect(), self.world.accept(listener)) };
                let (connected, accepted) = self.world.bounded(meeting).await.expect("one that listens is found");
                self.join(who, connected);
                self.join(argument, accepted);
            }
            "accept" => {
                let listener = self.listener.as_mut().expect("the script listens");
                match self.world.bounded(self.world.accept(listener)).await {
                    Some(accepted) => self.join(who, accepted),
                    None => self.saw("nobody"),
                }
            }
            _ if !who.is_empty() && verb != "accept" && !self.parties.contains_key(who) => self.saw("none"),
            "drop" => drop(self.part(who)),
            "reset" => {
                let party = self.part(who);
                self.world.reset(party.stream);
            }
            "peer" => {
                let (one, other) = (&self.parties[who].stream, &self.parties[argument].stream);
                let is_it = W::peer_addr(one) == W::local_addr(other);
                self.saw(if is_it { "yes" } else { "no" });
            }
            "fill" => self.fill(who).await,
            "drain" => self.drain(who, argument).await,
            "all" => self.read_all(who, argument).await,
            _ => {
                let party = self.parties.get_mut(who).expect("the script has such a stream");
                let seen = act(&self.world, party, verb, argument).await;
                self.saw(&seen);
            }
        }
    }

    fn join(&mut self, who: &str, stream: io::Result<W::Stream>) {
        match stream {
            Ok(stream) => {
                let party = Party { stream, flag: Arc::default(), filled: 0, drained: 0 };
                self.parties.insert(who.to_owned(), party);
            }
            Err(error) => self.saw(&word(Err(error))),
        }
    }

    fn part(&mut self, who: &str) -> Party<W::Stream> {
        let party = self.parties.remove(who).expect("the script has such a stream");
        self.gone_filled += party.filled;
        party
    }

    /// Writes until nothing fits, also when all has arrived that fits on the other side.
    async fn fill(&mut self, who: &str) {
        loop {
            self.world.settle().await;
            let party = self.parties.get_mut(who).expect("the script has such a stream");
            let before = party.filled;
            let mut cx = Context::from_waker(Waker::noop());
            // A bound, as turmoil counts writes and not bytes.
            let bytes = pattern(party.filled % 251, 1 << 14);
            while let Poll::Ready(Ok(bytes)) =
                Pin::new(&mut party.stream).poll_write(&mut cx, &bytes[(party.filled - before) % 251..])
            {
                party.filled += bytes;
            }
            if party.filled == before {
                return;
            }
        }
    }

    /// Reads until another's write that was pending is woken.
    async fn drain(&mut self, who: &str, other: &str) {
        let flag = Arc::clone(&self.parties[other].flag);
        let party = self.parties.get_mut(who).expect("the script has such a stream");
        let mut bytes = vec![0; 1 << 16];
        let drained = self.world.bounded(async {
            loop {
                // Biased: what matters is the wake, not how much is read before it.
                tokio::select! {
                    biased;
                    () = flag.0.notified() => break,
                    read = party.stream.read(&mut bytes) => {
                        let count = read.expect("the connection stands");
                        assert_eq!(bytes[..count], pattern(party.drained, count), "the order is as written");
                        party.drained += count;
                    }
                }
            }
        });
        if drained.await.is_none() {
            self.saw("never-woken");
        }
        flag.0.notify_one();
    }

    /// Reads to the end, and says how much of what the other (who may be gone) filled in there was, and what the end was.
    async fn read_all(&mut self, who: &str, other: &str) {
        let filled = self.parties.get(other).map_or(self.gone_filled, |other| other.filled);
        let party = self.parties.get_mut(who).expect("the script has such a stream");
        let mut bytes = vec![0; 1 << 16];
        let end = loop {
            match self.world.bounded(party.stream.read(&mut bytes)).await {
                Some(Ok(0)) => break "eof".to_owned(),
                Some(Ok(count)) => {
                    assert_eq!(bytes[..count], pattern(party.drained, count), "the order is as written");
                    party.drained += count;
                }
                Some(Err(error)) => break word(Err(error)),
                None => break "hangs".to_owned(),
            }
        };
        let amount = if party.drained == filled { "all" } else { "not-all" };
        self.saw(amount);
        self.saw(&end);
    }
}

/// One step of one stream, and what it saw.
async fn act<W: World>(world: &W, party: &mut Party<W::Stream>, verb: &str, argument: &str) -> String {
    let hangs = || "hangs".to_owned();
    let waker = Waker::from(Arc::clone(&party.flag));
    let mut cx = Context::from_waker(&waker);
    let stream = &mut party.stream;
    match verb {
        "write" => {
            let wrote = world.bounded(stream.write(argument.as_bytes())).await;
            wrote.map_or_else(hangs, |wrote| word(wrote.map(|bytes| bytes.to_string())))
        }
        "writev" => {
            let pieces: Vec<IoSlice<'_>> = argument.split('+').map(|piece| IoSlice::new(piece.as_bytes())).collect();
            let wrote = world.bounded(poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, &pieces))).await;
            wrote.map_or_else(hangs, |wrote| word(wrote.map(|bytes| bytes.to_string())))
        }
        "vectored" => if stream.is_write_vectored() { "yes" } else { "no" }.to_owned(),
        // What a write makes of it at once; nothing to write is `try` without an argument.
        "try" => match Pin::new(stream).poll_write(&mut cx, argument.as_bytes()) {
            Poll::Ready(wrote) => word(wrote.map(|bytes| bytes.to_string())),
            Poll::Pending => "pending".to_owned(),
        },
        "read" => {
            let mut bytes = vec![0; 1 << 16];
            let read = world.bounded(stream.read(&mut bytes)).await;
            read.map_or_else(hangs, |read| word(read.map(|count| text(&bytes[..count]))))
        }
        "exactly" => {
            let mut bytes = vec![0; argument.parse().expect("a number")];
            let read = world.bounded(stream.read_exact(&mut bytes)).await;
            read.map_or_else(hangs, |read| word(read.map(|_| text(&bytes))))
        }
        "peek" => peek(stream, &mut cx, 1 << 16),
        "read-nothing" => peek(stream, &mut cx, 0),
        // Goes on when something that was pending wakes.
        "woken" => {
            let retry = async {
                loop {
                    party.flag.0.notified().await;
                    if let Poll::Ready(wrote) = Pin::new(&mut *stream).poll_write(&mut cx, argument.as_bytes()) {
                        break word(wrote.map(|bytes| bytes.to_string()));
                    }
                }
            };
            world.bounded(retry).await.unwrap_or_else(hangs)
        }
        "woken-reader" => {
            let retry = async {
                loop {
                    party.flag.0.notified().await;
                    let seen = peek(stream, &mut cx, 1 << 16);
                    if seen != "pending" {
                        break seen;
                    }
                }
            };
            world.bounded(retry).await.unwrap_or_else(hangs)
        }
        "shutdown" => {
            let ended = world.bounded(stream.shutdown()).await;
            ended.map_or_else(hangs, |ended| word(ended.map(|()| "ended".to_owned())))
        }
        other => panic!("no such step: {other}"),
    }
}

fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() { "eof".to_owned() } else { String::from_utf8_lossy(bytes).into_owned() }
}

fn peek<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>, room: usize) -> String {
    let mut bytes = vec![0; room];
    let mut buffer = ReadBuf::new(&mut bytes);
    match Pin::new(stream).poll_read(cx, &mut buffer) {
        Poll::Ready(Ok(())) => text(buffer.filled()),
        Poll::Ready(Err(error)) => word(Err(error)),
        Poll::Pending => "pending".to_owned(),
    }
}

/// A script, and what comes of it.
struct Script {
    name: &'static str,
    steps: &'static str,
    /// What a Linux socket makes of it.
    real: &'static str,
    /// Where simnet does otherwise.
    simnet: Option<&'static str>,
    turmoil: Differs,
}

#[derive(Clone, Copy, PartialEq)]
enum Differs {
    Not,
    /// It does this instead.
    So(&'static str),
    /// It has no such thing.
    Lacks,
}

use Differs::{Lacks, Not, So};

const fn script(name: &'static str, steps: &'static str, real: &'static str, turmoil: Differs) -> Script {
    Script { name, steps, real, simnet: None, turmoil }
}

const SCRIPTS: &[Script] = &[
    // Ends.
    script(
        "the end follows the last byte, and stays",
        "pair c.write:hi c.drop s.read s.read s.read",
        "2 hi eof eof",
        Not,
    ),
    script("a drop without a byte is an end", "pair c.drop s.read", "eof", Not),
    script("a drop by the server is an end", "pair s.drop c.read", "eof", Not),
    script(
        "half-close by the client, and the answer still comes",
        "pair c.write:ask c.shutdown s.read s.read s.write:answer s.drop c.read c.read",
        "3 ended ask eof 6 answer eof",
        Not,
    ),
    script(
        "half-close by the server, and the client still speaks",
        "pair s.shutdown c.read c.write:still s.read c.drop s.read",
        "ended eof 5 still eof",
        Not,
    ),
    script("both half-close", "pair c.shutdown s.shutdown c.read s.read", "ended ended eof eof", Not),
    script("no write after one's own end", "pair c.shutdown c.write:x c.write:x", "ended pipe pipe", Not),
    script("no empty write after one's own end", "pair settle c.shutdown c.try:", "ended pipe", Not),
    script("a second end is none", "pair c.shutdown c.shutdown s.read", "ended ended eof", So("ended unconnected eof")),
    script(
        "no writes when both have ended",
        "pair c.shutdown s.shutdown settle c.write:x s.write:x",
        "ended ended pipe pipe",
        Not,
    ),
    script(
        "bytes and end before the accept",
        "listen c.connect c.write:early c.drop settle s.accept s.read s.read",
        "5 early eof",
        So("no-answer none none nobody none none"),
    ),
    script("a reader that waits is woken by bytes", "pair s.peek c.write:x s.woken-reader", "pending 1 x", Not),
    script("a reader that waits is woken by the end", "pair s.peek c.drop s.woken-reader", "pending eof", Not),
    // Resets.
    script(
        "a reader sees a reset once",
        "pair c.write:bait settle s.reset c.read c.read c.read",
        "4 reset eof eof",
        So("4 reset reset reset"),
    ),
    script(
        "a writer sees a reset once",
        "pair c.write:bait settle s.reset settle c.write:x c.write:x c.read",
        "4 reset pipe eof",
        So("4 pipe pipe reset"),
    ),
    script(
        "a reader has seen the reset before the writer",
        "pair c.write:bait settle s.reset settle c.read c.write:x",
        "4 reset pipe",
        Not,
    ),
    script(
        "an empty write sees a reset",
        "pair c.write:bait settle s.reset settle c.try: c.try:",
        "4 reset pipe",
        So("4 0 0"),
    ),
    script(
        "a reader that waits is woken by a reset",
        "pair c.write:bait settle c.peek s.reset c.woken-reader",
        "4 pending reset",
        Not,
    ),
    script(
        "what came before a reset can still be read",
        "pair s.write:word c.write:bait settle s.reset settle c.read c.read c.read",
        "4 4 word reset eof",
        So("4 4 word reset reset"),
    ),
    script(
        "a reset after the peer's end is a broken pipe to the writer",
        "pair c.write:bait s.shutdown settle s.reset settle c.write:x c.write:x c.read",
        "4 ended pipe pipe eof",
        Not,
    ),
    script(
        "a reset after the peer's end is nothing to the reader",
        "pair c.write:bait s.shutdown settle s.reset settle c.read c.read",
        "4 ended eof eof",
        Not,
    ),
    script(
        "a reset after one's own end, to the reader",
        "pair c.write:bait c.shutdown settle s.reset settle c.read c.read",
        "4 ended reset eof",
        So("4 ended reset reset"),
    ),
    script(
        "a reset after one's own end, to the writer",
        "pair c.write:bait c.shutdown settle s.reset settle c.write:x c.write:x",
        "4 ended reset pipe",
        So("4 ended pipe pipe"),
    ),
    script(
        "a reset after both ends is none",
        "pair c.write:bait c.shutdown s.shutdown settle s.reset settle c.write:x c.read",
        "4 ended ended pipe eof",
        Not,
    ),
    script(
        "ending after a reset is no error",
        "pair c.write:bait settle s.reset settle c.shutdown c.read",
        "4 ended reset",
        So("4 pipe reset"),
    ),
    script("a reset with nothing unread", "pair s.reset settle c.read c.write:x", "reset pipe", Lacks),
    script("a reset eats what was not sent", "pair c.fill c.reset settle s.all:c", "not-all reset", Lacks),
    // Drops.
    script(
        "a drop with something unread is a reset",
        "pair c.write:unread settle s.drop c.read c.read",
        "6 reset eof",
        So("6 reset reset"),
    ),
    script(
        "a drop with something unread is a reset, also after the peer's end",
        "pair c.write:unread c.shutdown settle s.drop settle c.read",
        "6 ended reset",
        Not,
    ),
    script(
        "what was written before a drop with something unread",
        "pair s.write:last c.write:unread settle s.drop settle c.read c.read",
        "4 6 last reset",
        Not,
    ),
    script(
        "writing to who has dropped cleanly",
        "pair s.drop settle c.write:x settle c.write:x c.read",
        "1 pipe eof",
        Not,
    ),
    script(
        "writing before having seen that the peer dropped",
        "pair s.drop c.write:x settle c.read c.write:x",
        "1 eof pipe",
        Not,
    ),
    script(
        "bytes that arrive after a drop",
        "pair s.drop c.write:x settle c.shutdown c.read",
        "1 ended eof",
        So("1 pipe eof"),
    ),
    // Full buffers.
    script("a full connection takes nothing", "pair c.fill c.try:x settle c.try:x", "pending pending", Not),
    script("a full connection takes nothing, not even nothing", "pair c.fill c.try:", "pending", So("0")),
    script("a writer that waits is woken by the reader", "pair c.fill c.try:x s.drain:c c.woken:x", "pending 1", Not),
    script(
        "a writer that waits is woken by a reset",
        "pair c.fill c.try:x s.reset c.woken:x c.read",
        "pending reset eof",
        So("pending hangs reset"),
    ),
    script(
        "a writer that waits is woken by a drop",
        "pair c.fill c.try:x s.drop c.woken:x c.try:x",
        "pending reset pipe",
        So("pending hangs pending"),
    ),
    script("full buffers arrive whole, and then the end", "pair c.fill c.shutdown s.all:c", "ended all eof", Not),
    script("full buffers arrive whole after a drop", "pair c.fill c.drop s.all:c", "all eof", Not),
    script(
        "both directions are full, and each arrives",
        "pair c.fill s.fill c.shutdown s.shutdown s.all:c c.all:s",
        "ended ended all eof all eof",
        So("ended ended all eof all hangs"),
    ),
    script("a full direction does not hold up the other", "pair c.fill s.write:x c.read c.try:x", "1 x pending", Not),
    // Reads and writes.
    script("an empty write", "pair settle c.try:", "0", Not),
    script("an empty write sends nothing", "pair settle c.try: settle s.peek", "0 pending", Not),
    script("a read of nothing waits for something", "pair settle s.read-nothing", "pending", So("eof")),
    script("a read of nothing takes nothing", "pair c.write:x settle s.read-nothing s.read", "1 eof x", Not),
    script("a read of nothing at the end", "pair c.drop settle s.read-nothing", "eof", Not),
    script("a small read leaves the rest", "pair c.write:abc s.exactly:1 s.read", "3 a bc", Not),
    script("writes have no edges", "pair c.write:a c.write:b c.write:c settle s.read", "1 1 1 abc", So("1 1 1 a")),
    script("a vectored write is one", "pair c.writev:ab+cd+ef settle s.read", "6 abcdef", So("2 ab")),
    script("a vectored write with empty pieces", "pair c.writev:+ab++c settle s.read", "3 abc", So("2 ab")),
    script("vectored writes are worth the while", "pair c.vectored", "yes", So("no")),
    script("a byte in each direction at once", "pair c.write:a s.write:b s.read c.read", "1 1 a b", Not),
    script("the first write of an accepted stream", "pair s.try:x", "1", Not),
    script(
        "a write before anything else was waited for",
        "listen c.connect settle s.accept s.try:x",
        "1",
        So("no-answer nobody none"),
    ),
    // Listening.
    script("nobody listens", "c.connect", "refused", Not),
    script("nobody listens any more", "listen unlisten c.connect", "refused", Not),
    script("an address is taken", "listen listen", "in-use", Not),
    script(
        "connections are accepted in their order",
        "listen a.connect b.connect x.accept y.accept x.peer:a y.peer:b",
        "yes yes",
        So("no-answer no-answer nobody nobody none none"),
    ),
    script("each knows the other's address", "pair c.peer:s s.peer:c", "yes yes", Not),
    script(
        "a connection stands before it is accepted",
        "listen c.connect c.write:early settle s.accept s.read",
        "5 early",
        So("no-answer none nobody none"),
    ),
    script(
        "a reset before the accept",
        "listen c.connect c.write:early settle c.reset settle s.accept s.read s.read",
        "5 early reset",
        Lacks,
    ),
    script(
        "who was not accepted is reset with the listener",
        "listen c.connect unlisten settle c.read c.read",
        "reset eof",
        So("no-answer none none"),
    ),
    script("who was accepted outlives the listener", "pair unlisten c.write:x s.read", "1 x", Not),
    script("an address is free again", "pair unlisten listen d.meets:e d.write:x e.read", "1 x", Not),
];

/// Compares what every script came to with what is written; all that differs is told at once.
fn check(network: &str, run: impl Fn(&Script) -> Option<(String, &'static str)>) {
    let mut differences = String::new();
    for script in SCRIPTS {
        if let Some((outcome, expected)) = run(script)
            && outcome != expected
        {
            writeln!(differences, "  {}\n    {}\n    saw {outcome:?}, not {expected:?}", script.name, script.steps)
                .expect("a string takes everything");
        }
    }
    assert!(differences.is_empty(), "on {network}:\n{differences}");
}

fn runtime() -> tokio::runtime::Builder {
    tokio::runtime::Builder::new_current_thread()
}

#[test]
fn real_sockets_do_what_is_written() {
    let runtime = runtime().enable_all().build().expect("a runtime needs little");
    check("loopback", |script| {
        let outcome = runtime.block_on(async {
            let world = Loopback::new().await.expect("loopback has free ports");
            Run::script(world, script.steps).await
        });
        Some((outcome, script.real))
    });
}

#[test]
fn simnet_does_what_real_sockets_do() {
    for latency_ms in [0, 7] {
        check(&format!("simnet with {latency_ms} ms"), |script| {
            let runtime = runtime().enable_time().start_paused(true).build().expect("a runtime needs little");
            let outcome = runtime.block_on(async {
                let network = Network::new(1);
                let latency = Duration::from_millis(latency_ms);
                network.set_latency(latency..=latency);
                Run::script(Simnet(network), script.steps).await
            });
            Some((outcome, script.simnet.unwrap_or(script.real)))
        });
    }
}

#[test]
fn turmoil_does_what_is_known_of_it() {
    check("turmoil", |script| {
        let expected = match script.turmoil {
            Not => script.real,
            So(expected) => expected,
            Lacks => return None,
        };
        let mut sim = turmoil::Builder::new()
            .rng_seed(1)
            .epoch(SystemTime::UNIX_EPOCH)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(1))
            .simulation_duration(Duration::from_secs(60))
            .build();
        let (tell, told) = std::sync::mpsc::channel();
        let steps = script.steps;
        sim.client("here", async move {
            tell.send(Run::script(Turmoil, steps).await)?;
            Ok(())
        });
        let ended = sim.run();
        Some((told.try_recv().unwrap_or_else(|_| format!("{ended:?}")), expected))
    });
}

#[test]
fn known_differences_are_differences() {
    assert!(SCRIPTS.len() >= 40, "{} scripts", SCRIPTS.len());
    for script in SCRIPTS {
        assert_ne!(script.simnet, Some(script.real), "{}", script.name);
        assert!(script.turmoil != So(script.real), "{}", script.name);
        assert_eq!(SCRIPTS.iter().filter(|other| other.name == script.name).count(), 1, "{}", script.name);
    }
}
