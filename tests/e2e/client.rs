//! A plain client with a memory: one socket, no thread, and all it has ever received, to be shown when a test fails.

use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, SockRef, Socket, Type};

use crate::process::DEADLINE;

/// One connection. Every wait has a deadline, and every failure shows the last of what was seen.
pub(crate) struct Client {
    stream: Stream,
    who: String,
    /// All that was received.
    seen: Vec<u8>,
    /// How much of it the test has looked at.
    taken: usize,
    ended: bool,
}

/// A connection of any kind.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

fn prepared(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("a TCP stream");
    stream.set_write_timeout(Some(DEADLINE)).expect("a TCP stream");
    stream
}

impl Stream {
    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => SockRef::from(&stream.sock),
        }
    }

    /// Ends our side, and says so where that is another thing.
    fn shutdown(&mut self) -> std::io::Result<()> {
        #[cfg(feature = "tls")]
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Client {
    /// Connects, and expects nothing.
    pub(crate) fn dial(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}")))
    }

    /// Connects from one of this machine's addresses, and expects nothing.
    pub(crate) fn dial_from(from: IpAddr, addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("all of 127.0.0.0/8 is ours");
        socket.connect(&addr.into()).unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"));
        Self::over(socket.into())
    }

    /// Connects with a small receive window, so that little is under way to one who does not read. Expects nothing.
    pub(crate) fn dial_narrow(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        socket.connect(&addr.into()).unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"));
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        let who = stream.local_addr().expect("it is connected").to_string();
        Self::new(Stream::Tcp(prepared(stream)), who)
    }

    /// Connects to a Unix socket, and expects nothing. What the room calls us depends on who else of our process is there.
    pub(crate) fn dial_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("cannot connect to {}: {e}", path.display()));
        stream.set_write_timeout(Some(DEADLINE)).expect("a Unix stream");
        Self::new(Stream::Unix(stream), String::new())
    }

    /// Connects within TLS, and expects nothing; from an address of this machine, with something sent before the handshake.
    #[cfg(feature = "tls")]
    pub(crate) fn dial_tls(from: IpAddr, addr: SocketAddr, config: Arc<ClientConfig>, before: &[u8]) -> Self {
        let Self { stream: Stream::Tcp(mut stream), who, .. } = Self::dial_from(from, addr) else {
            unreachable!("it is a TCP stream");
        };
        stream.write_all(before).expect("it is connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a TCP stream");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(config, name).expect("a sound configuration");
        Self::new(Stream::Tls(Box::new(StreamOwned::new(session, stream))), who)
    }

    fn new(stream: Stream, who: String) -> Self {
        Self { stream, who, seen: Vec::new(), taken: 0, ended: false }
    }

    /// Takes what the welcome says for what the room calls us.
    pub(crate) fn expect_welcome_as_somebody(&mut self) {
        let line = self.next_text();
        let who = line.strip_prefix("欢迎 ").or_else(|| line.strip_prefix("Welcome "));
        self.who = who.unwrap_or_else(|| self.fail(&format!("{line:?} is no welcome"))).to_owned();
    }

    /// The certificate that the server has shown.
    #[cfg(feature = "tls")]
    pub(crate) fn server_certificate(&self) -> Vec<u8> {
        let Stream::Tls(stream) = &self.stream else { panic!("it is not within TLS") };
        let certificates = stream.conn.peer_certificates().expect("the handshake is over");
        certificates[0].to_vec()
    }

    /// Ends the connection within TLS without saying so.
    #[cfg(feature = "tls")]
    pub(crate) fn cut(self) {
        let Stream::Tls(stream) = self.stream else { panic!("it is not within TLS") };
        stream.sock.shutdown(Shutdown::Write).expect("the connection is still there");
    }

    /// Completes a handshake that is to be refused; the error that comes of it.
    #[cfg(feature = "tls")]
    pub(crate) fn expect_broken(mut self) -> std::io::Error {
        let mut chunk = [0; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.fail("the stream ended cleanly"),
                Ok(count) => self.seen.extend_from_slice(&chunk[..count]),
                Err(error) => return error,
            }
        }
    }

    /// Connects and is welcomed by its own address, first of all (law 4).
    pub(crate) fn join(addr: SocketAddr) -> Self {
        let mut client = Self::dial(addr);
        client.expect_welcome();
        client
    }

    /// As `join`, with a small receive window.
    pub(crate) fn join_narrow(addr: SocketAddr) -> Self {
        let mut client = Self::dial_narrow(addr);
        client.expect_welcome();
        client
    }

    /// The name by which the room knows us unless we take another.
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    /// All that was received so far.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// A second handle on the same connection, for a thread of its own.
    pub(crate) fn stream(&self) -> TcpStream {
        let Stream::Tcp(stream) = &self.stream else { panic!("only a plain stream has two ends") };
        let stream = stream.try_clone().expect("the stream can be shared");
        stream.set_read_timeout(Some(DEADLINE)).expect("a TCP stream");
        stream
    }

    /// Sends `text` and a line feed.
    pub(crate) fn say(&mut self, text: &str) {
        self.send(format!("{text}\n").as_bytes());
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Err(e) = self.stream.write_all(bytes) {
            self.fail(&format!("could not send {} bytes: {e}", bytes.len()));
        }
    }

    /// Sends bytes if the connection still takes them.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends our side; what comes can still be read.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown().expect("the connection is still there");
    }

    /// Ends the connection with an RST instead of a FIN.
    pub(crate) fn reset(self) {
        self.stream.socket().set_linger(Some(Duration::ZERO)).expect("a TCP stream");
    }

    /// The next line, without its line feed.
    pub(crate) fn next_line(&mut self) -> Vec<u8> {
        let until = Instant::now() + DEADLINE;
        let mut searched = self.taken;
        loop {
            if let Some(at) = self.seen[searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.seen[self.taken..searched + at].to_vec();
                self.taken = searched + at + 1;
                return line;
            }
            searched = self.seen.len();
            self.receive_by(until, "a line");
            if self.ended {
                self.fail("the stream ended where a line was expected");
            }
        }
    }

    /// The next line as text.
    pub(crate) fn next_text(&mut self) -> String {
        String::from_utf8(self.next_line()).unwrap_or_else(|e| self.fail(&format!("not UTF-8: {e}")))
    }

    /// Asserts that exactly this line comes next.
    pub(crate) fn expect_line(&mut self, expected: &str) {
        self.expect_line_bytes(expected.as_bytes());
    }

    /// Asserts that exactly these bytes come next as a line.
    pub(crate) fn expect_line_bytes(&mut self, expected: &[u8]) {
        let line = self.next_line();
        if line != expected {
            self.fail(&format!("expected {}\n but saw {}", shown(expected), shown(&line)));
        }
    }

    pub(crate) fn expect_welcome(&mut self) {
        let line = self.next_text();
        if line != format!("欢迎 {}", self.who) && line != format!("Welcome {}", self.who) {
            self.fail(&format!("{line:?} is no welcome"));
        }
    }

    pub(crate) fn expect_arrival(&mut self, who: &str) {
        self.expect_line(&format!("{who} 上线"));
    }

    pub(crate) fn expect_departure(&mut self, who: &str) {
        self.expect_line(&format!("{who} 下线"));
    }

    /// Asserts that `who` is seen saying `text` next.
    pub(crate) fn expect_said(&mut self, who: &str, text: &str) {
        self.expect_line(&format!("{who}: {text}"));
    }

    /// Asserts that what we said ourselves comes next, under our address.
    pub(crate) fn expect_echo(&mut self, text: &str) {
        self.expect_line(&format!("{}: {text}", self.who));
    }

    /// Asserts that a private notice comes next.
    pub(crate) fn expect_notice(&mut self) -> String {
        let line = self.next_text();
        if !line.starts_with("-- ") {
            self.fail(&format!("{line:?} is no notice"));
        }
        line
    }

    /// Says `marker` and returns all notices that come before its echo; any other line is a failure.
    pub(crate) fn notices_until(&mut self, who: &str, marker: &str) -> Vec<String> {
        self.say(marker);
        let echo = format!("{who}: {marker}");
        let mut notices = Vec::new();
        loop {
            let line = self.next_text();
            if line == echo {
                return notices;
            }
            if !line.starts_with("-- ") {
                self.fail(&format!("{line:?} is neither a notice nor {echo:?}"));
            }
            notices.push(line);
        }
    }

    /// Asserts that the stream ends here, cleanly, with nothing more on it.
    pub(crate) fn expect_end(&mut self) {
        let rest = self.read_to_end();
        if !rest.is_empty() {
            self.fail(&format!("expected the end but saw {}", shown(&rest)));
        }
    }

    /// As `expect_end`, but the server may say why before.
    pub(crate) fn expect_end_with_reason(&mut self) {
        let rest = self.read_to_end();
        if rest.split_inclusive(|&byte| byte == b'\n').any(|line| !line.starts_with(b"-- ") || !line.ends_with(b"\n")) {
            self.fail(&format!("expected a notice or the end but saw {}", shown(&rest)));
        }
    }

    /// Everything up to the end of the stream that the test has not looked at yet.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while !self.ended {
            self.receive_by(Instant::now() + DEADLINE, "the end of the stream");
        }
        let rest = self.seen[self.taken..].to_vec();
        self.taken = self.seen.len();
        rest
    }

    /// Reads until `count` bytes were seen in all, or the stream has ended.
    pub(crate) fn read_until_seen(&mut self, count: usize) {
        let until = Instant::now() + DEADLINE;
        while self.seen.len() < count && !self.ended {
            self.receive_by(until, &format!("{count} bytes"));
        }
    }

    /// Whether a line not looked at yet comes within `patience`; it stays to be looked at.
    pub(crate) fn hears_within(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while !self.seen[self.taken..].contains(&b'\n') && !self.ended {
            if !self.try_receive_by(until) {
                return false;
            }
        }
        true
    }

    /// Whether the stream has ended, after reading for at most `patience`.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while !self.ended && self.try_receive_by(until) {}
        self.ended
    }

    /// Asserts that the connection ends now, cleanly or by a reset, as when we sent more than was read.
    pub(crate) fn expect_closed(&mut self) {
        self.stream.socket().set_read_timeout(Some(DEADLINE)).expect("a stream");
        let mut chunk = [0; 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => self.seen.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return,
                Err(e) => self.fail(&format!("it is not closed: {e}")),
            }
        }
    }

    fn receive_by(&mut self, until: Instant, awaited: &str) {
        if !self.try_receive_by(until) {
            self.fail(&format!("no sign of {awaited} for {DEADLINE:?}"));
        }
    }

    /// Reads once; false if nothing came until then.
    fn try_receive_by(&mut self, until: Instant) -> bool {
        let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            return false;
        };
        self.stream.socket().set_read_timeout(Some(left)).expect("a stream");
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.seen.extend_from_slice(&chunk[..count]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => self.fail(&format!("the stream broke: {e}")),
        }
        true
    }

    /// Fails the test with what this client has seen.
    pub(crate) fn fail(&self, why: &str) -> ! {
        let last = &self.seen[self.seen.len().saturating_sub(4000)..];
        panic!(
            "{} {why}\n it has seen {} bytes, looked at {}; the last of them:\n{}",
            self.who,
            self.seen.len(),
            self.taken,
            last.escape_ascii().to_string().replace("\\n", "\n")
        );
    }
}

/// Texts as they are sent: each with its line feed.
pub(crate) fn lines(texts: impl IntoIterator<Item = impl Display>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        writeln!(bytes, "{text}").expect("memory takes it");
    }
    bytes
}

/// Bytes for a message: as text where they are, and no more than fits a screen.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(300)];
    let text = str::from_utf8(head).map_or_else(|_| head.escape_ascii().to_string(), |text| format!("{text:?}"));
    if head.len() < bytes.len() { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}
