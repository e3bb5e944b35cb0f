//! The PROXY protocol, versions 1 and 2: what a proxy says first, of whom it relays.
//!
//! Written from `proxy-protocol.txt` of `HAProxy`. [`parse`] is pure; [`Proxies`] reads from those sources only that are named,
//! as anyone else could claim to be anybody. It reads no byte beyond the header, which ends where lines, or TLS, begin.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::IpNet;
use crate::listen::{Begun, Greeter, Outcome, Peer};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// The longest header of version 1, its line end included.
const LINE_BYTES_MAX: usize = 107;

/// The shortest headers of version 1, all in all and by family: `PROXY UNKNOWN`, `PROXY TCP6 :: :: 0 0`,
/// `PROXY TCP4 0.0.0.0 0.0.0.0 0 0`, and the line end.
const LINE_BYTES_LEAST: usize = 15;
const LINE_BYTES_LEAST_IPV6: usize = 22;
const LINE_BYTES_LEAST_IPV4: usize = 32;

/// Version 2 up to where it says how long the rest is.
const HEAD_BYTES: usize = 16;

/// The longest rest that is taken. Addresses have 216 bytes at most; what else a proxy may add is of no use here.
const REST_BYTES_MAX: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself, as to see whether we are there (`LOCAL`, `UNKNOWN`).
    Own,
    /// It relays somebody, from this address if it is one of TCP.
    Relayed(Option<SocketAddr>),
}

/// What some first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header, which has at least so many bytes more.
    Partial(usize),
    /// A header, of so many bytes.
    Whole(Header, usize),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They begin otherwise.
    #[error("no header of the PROXY protocol")]
    Foreign,
    /// Version 1 has at most 107 bytes.
    #[error("a header of the PROXY protocol, version 1, has at most {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// A line of version 1 that does not say what it should.
    #[error("a header of the PROXY protocol, version 1, with something else than two addresses and two ports")]
    Line,
    /// Version 2 with more than we take.
    #[error("a header of the PROXY protocol, version 2, with {rest_bytes} bytes, which is more than {REST_BYTES_MAX}")]
    RestTooLong {
        /// What it announces.
        rest_bytes: usize,
    },
    /// Version 2 with another version, command or family, or with too little for what it says to be.
    #[error("a header of the PROXY protocol, version 2, of a kind that is unknown here")]
    Kind,
}

/// Reads the header that `bytes` begin with.
///
/// # Errors
///
/// [`Error`], as soon as it is certain: `bytes` begin no header, whatever follows.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Error> {
    let is_begun = |begin: &[u8]| bytes.iter().zip(begin).all(|(byte, expected)| byte == expected);
    if is_begun(WORD) && !bytes.is_empty() {
        parse_line(bytes)
    } else if is_begun(SIGNATURE) {
        parse_binary(bytes)
    } else {
        Err(Error::Foreign)
    }
}

fn parse_line(bytes: &[u8]) -> Result<Parsed, Error> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match memchr::memchr(b'\n', line) {
        Some(end) => {
            let text = line[..end].strip_suffix(b"\r").ok_or(Error::Line)?;
            Ok(Parsed::Whole(meaning(text)?, end + 1))
        }
        None if line.len() == LINE_BYTES_MAX => Err(Error::LineTooLong),
        None => {
            let least = match line.get(WORD.len()..WORD.len() + 4) {
                Some(b"TCP4") => LINE_BYTES_LEAST_IPV4,
                Some(b"TCP6") => LINE_BYTES_LEAST_IPV6,
                _ => LINE_BYTES_LEAST,
            };
            let to_line_end = if line.ends_with(b"\r") { 1 } else { 2 };
            Ok(Parsed::Partial(least.saturating_sub(line.len()).max(to_line_end)))
        }
    }
}

/// What a line of version 1 means, without its end.
fn meaning(line: &[u8]) -> Result<Header, Error> {
    let line = str::from_utf8(line).map_err(|_| Error::Line)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Whatever follows is to be passed over.
        return Ok(Header::Own);
    }
    let mut next = || words.next().ok_or(Error::Line);
    let texts = [next()?, next()?, next()?, next()?];
    if words.next().is_some() {
        return Err(Error::Line);
    }
    let [from, to, from_port, to_port] = texts;
    let ip = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse().ok().map(IpAddr::V4),
            Some("TCP6") => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (from, _to) = ip(from).zip(ip(to)).ok_or(Error::Line)?;
    let (port, _to_port) = port(from_port).zip(port(to_port)).ok_or(Error::Line)?;
    Ok(Header::Relayed(Some(SocketAddr::new(from, port))))
}

/// A port as it has to be written: digits, and no zero before others.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn parse_binary(bytes: &[u8]) -> Result<Parsed, Error> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        // Also of nothing at all: then it may be version 1, whose headers may be shorter.
        let least = if bytes.is_empty() { LINE_BYTES_LEAST } else { HEAD_BYTES - bytes.len() };
        return Ok(Parsed::Partial(least));
    };
    let [.., command, family, high, low] = *head;
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    if rest_bytes > REST_BYTES_MAX {
        return Err(Error::RestTooLong { rest_bytes });
    }
    let least_bytes = match (command, family) {
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        (0x21, 0x31) => 216,
        _ => return Err(Error::Kind),
    };
    if rest_bytes < least_bytes {
        return Err(Error::Kind);
    }
    let Some(rest) = bytes[HEAD_BYTES..].get(..rest_bytes) else {
        return Ok(Parsed::Partial(HEAD_BYTES + rest_bytes - bytes.len()));
    };
    let header = match (command, family) {
        (0x20, _) => Header::Own,
        (_, 0x11) => {
            Header::Relayed(addr(rest, 4, |ip| <[u8; 4]>::try_from(ip).ok().map(|ip| Ipv4Addr::from(ip).into())))
        }
        (_, 0x21) => {
            Header::Relayed(addr(rest, 16, |ip| <[u8; 16]>::try_from(ip).ok().map(|ip| Ipv6Addr::from(ip).into())))
        }
        _ => Header::Relayed(None),
    };
    Ok(Parsed::Whole(header, HEAD_BYTES + rest_bytes))
}

/// The source of two addresses of `ip_bytes` and two ports.
fn addr(rest: &[u8], ip_bytes: usize, ip: impl Fn(&[u8]) -> Option<IpAddr>) -> Option<SocketAddr> {
    let port = rest.get(2 * ip_bytes..)?.first_chunk::<2>()?;
    Some(SocketAddr::new(ip(rest.get(..ip_bytes)?)?, u16::from_be_bytes(*port)))
}

/// Sources whose connections begin with a header. All others are what they seem to be.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    from: Arc<[IpNet]>,
}

impl Proxies {
    /// Those within one of these prefixes.
    pub fn new(from: &[IpNet]) -> Self {
        Self { from: from.into() }
    }

    fn has(&self, peer: &Peer) -> bool {
        peer.ip().is_some_and(|ip| self.from.iter().any(|prefix| prefix.contains(&ip)))
    }
}

impl<S: AsyncRead + Unpin + Send + 'static> Greeter<S> for Proxies {
    type Io = S;

    const DEADLINE: Duration = Duration::from_secs(5);

    const KNOWS_PEER: bool = false;

    fn begin(&self, mut stream: S, peer: Peer) -> Begun<S, impl Future<Output = Outcome<S>> + Send + 'static> {
        if !self.has(&peer) {
            return Begun::Done(stream, peer);
        }
        Begun::Waits(async move {
            Ok(match read_header(&mut stream).await? {
                None | Some(Header::Own) => None,
                Some(Header::Relayed(None)) => Some((stream, peer)),
                Some(Header::Relayed(Some(addr))) => Some((stream, addr.into())),
            })
        })
    }

    fn is_quiet(io: &S, is_quiet: fn(&S) -> bool) -> bool {
        is_quiet(io)
    }
}

/// Reads a header, and nothing behind it; nothing from who ends before it has begun.
async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Header>> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Parsed::Whole(header, _) => return Ok(Some(header)),
            Parsed::Partial(more) => {
                let most = u64::try_from(more).unwrap_or(u64::MAX);
                if (&mut *stream).take(most).read_buf(&mut bytes).await? == 0 {
                    return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::fuzzing::proxy::check;

    fn header(bytes: &[u8]) -> Result<Option<Header>, Error> {
        match parse(bytes) {
            Ok(Parsed::Whole(header, length)) => {
                assert_eq!(length, bytes.len(), "{}", bytes.escape_ascii());
                Ok(Some(header))
            }
            Ok(Parsed::Partial(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn relayed(from: &str) -> Header {
        Header::Relayed(Some(from.parse().expect("an address")))
    }

    /// Version 2, with a rest of so many bytes.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("a short rest").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn lines_say_who_is_relayed() {
        assert_eq!(header(b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"), Ok(Some(relayed("192.0.2.7:56324"))));
        assert_eq!(header(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), Ok(Some(relayed("0.0.0.0:0"))));
        assert_eq!(header(b"PROXY TCP6 2001:db8::7 ::1 65535 8000\r\n"), Ok(Some(relayed("[2001:db8::7]:65535"))));
        let longest: &[u8] = b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
            ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(header(longest), Ok(Some(relayed("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"))));
        assert_eq!(header(b"PROXY UNKNOWN\r\n"), Ok(Some(Header::Own)));
        assert_eq!(header(&[b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat()), Ok(Some(Header::Own)));
    }

    #[test]
    fn lines_that_say_something_else_are_refused() {
        let wrong: [&[u8]; 14] = [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 1\r\n",
            b"PROXY TCP4  192.0.2.7 10.0.0.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 \r\n",
            b"PROXY TCP4 ::1 10.0.0.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.7 ::1 56324 443\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 +44\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 056324 44\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n",
            b"PROXY \r\n",
            b"PROXY TCP4 \xFF 10.0.0.1 56324 443\r\n",
        ];
        for bytes in wrong {
            assert_eq!(header(bytes), Err(Error::Line), "{}", bytes.escape_ascii());
        }
        assert_eq!(header(&[b"PROXY UNKNOWN ", &[b'x'; 92][..], b"\r\n"].concat()), Err(Error::LineTooLong));
        for bytes in [&b"hello\n"[..], b"PROXZ", b"\n", b"\r\n\r\n\0\r\nQUIZ", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"] {
            assert_eq!(header(bytes), Err(Error::Foreign), "{}", bytes.escape_ascii());
        }
    }

    /// So that a header comes by few reads.
    #[test]
    fn beginning_says_how_much_more_there_is_at_least() {
        let more = |bytes: &[u8]| match parse(bytes) {
            Ok(Parsed::Partial(more)) => more,
            other => panic!("{other:?} of {}", bytes.escape_ascii()),
        };
        for (bytes, expected) in [
            (&b""[..], 15),
            (b"P", 14),
            (b"PROXY TCP", 6),
            (b"PROXY UNKNOWN", 2),
            (b"PROXY UNKNOWN\r", 1),
            (b"PROXY TCP4", 22),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443", 2),
            (b"PROXY TCP6", 12),
            (b"PROXY TCP6 ::1 ::1 0 0\r", 1),
            (b"\r\n\r\n", 12),
            (&binary(0x21, 0x11, &[0; 12])[..17], 11),
        ] {
            assert_eq!(more(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn binary_headers_say_who_is_relayed() {
        let ipv4 = [192, 0, 2, 7, 10, 0, 0, 1, 0xDC, 4, 1, 0xBB];
        assert_eq!(header(&binary(0x21, 0x11, &ipv4)), Ok(Some(relayed("192.0.2.7:56324"))));
        let with_more = [&ipv4[..], b"\x03\0\x04abcd"].concat();
        assert_eq!(header(&binary(0x21, 0x11, &with_more)), Ok(Some(relayed("192.0.2.7:56324"))));
        let ipv6 = [&[0x20, 1, 0xD, 0xB8][..], &[0; 11], &[7], &[0; 16], &[0, 80, 0, 81]].concat();
        assert_eq!(header(&binary(0x21, 0x21, &ipv6)), Ok(Some(relayed("[2001:db8::7]:80"))));
        assert_eq!(header(&binary(0x21, 0x31, &[0; 216])), Ok(Some(Header::Relayed(None))));
        assert_eq!(header(&binary(0x21, 0x00, b"")), Ok(Some(Header::Relayed(None))));
        for family in [0x00, 0x11, 0x99] {
            assert_eq!(header(&binary(0x20, family, b"whatever")), Ok(Some(Header::Own)));
        }
        assert_eq!(header(&binary(0x20, 0, &[0; REST_BYTES_MAX])), Ok(Some(Header::Own)));
    }

    #[test]
    fn binary_headers_of_another_kind_are_refused() {
        for (command, family, rest_bytes) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x12, 12),
            (0x21, 0x22, 36),
            (0x21, 0x32, 216),
            (0x21, 0x11, 11),
        ] {
            assert_eq!(header(&binary(command, family, &vec![0; rest_bytes])), Err(Error::Kind), "{command} {family}");
        }
        assert_eq!(header(&binary(0x21, 0x21, &[0; 35])), Err(Error::Kind));
        assert_eq!(header(&binary(0x21, 0x31, &[0; 215])), Err(Error::Kind));
        let rest_bytes = REST_BYTES_MAX + 1;
        assert_eq!(header(&binary(0x20, 0, &vec![0; rest_bytes])), Err(Error::RestTooLong { rest_bytes }));
    }

    /// What begins like a header, and what does not.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just("TCP4".to_owned()),
            Just("TCP6".to_owned()),
            Just("UNKNOWN".to_owned()),
            "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
            "[0-9a-f:]{2,39}",
            "[0-9]{1,6}",
            "\\PC{0,6}",
        ];
        let line = (proptest::collection::vec(word, 0..7), "\r?\n?\\PC{0,3}")
            .prop_map(|(words, end)| format!("PROXY {}{end}", words.join(" ")).into_bytes());
        let rest = proptest::collection::vec(any::<u8>(), 0..300);
        let kind = (0x1F..0x23u8, prop_oneof![Just(0x11u8), Just(0x21), Just(0x31), any::<u8>()]);
        let binary = (kind, rest.clone()).prop_map(|((command, family), rest)| binary(command, family, &rest));
        prop_oneof![line, binary, rest]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn header_is_the_same_however_it_comes_and_nothing_behind_it_is_read(input in input(), behind: Vec<u8>) {
            check(&[input, behind].concat());
        }
    }

    async fn read(bytes: &[u8]) -> (io::Result<Option<Header>>, Vec<u8>) {
        let (mut ours, mut theirs) = duplex(16 * 1024);
        theirs.write_all(bytes).await.expect("it holds that");
        drop(theirs);
        let header = read_header(&mut ours).await;
        let mut behind = Vec::new();
        ours.read_to_end(&mut behind).await.expect("it ends cleanly");
        (header, behind)
    }

    #[tokio::test]
    async fn nothing_behind_a_header_is_read() {
        let line: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
        for begin in [line, b"PROXY UNKNOWN\r\n", &binary(0x20, 0, b"rest")] {
            for behind in [&b""[..], b"\r\n", b"hello\n"] {
                let (header, left) = read(&[begin, behind].concat()).await;
                assert!(header.expect("it is one").is_some());
                assert_eq!(left, behind);
            }
        }
        assert_eq!(read(b"").await.0.expect("it only looked"), None);
        assert_eq!(read(b"PROXY TC").await.0.expect_err("cut short").kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(b"hello\n").await.0.expect_err("no header").kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn only_named_sources_are_asked() {
        let proxies = Proxies::new(&["10.0.0.0/8".parse().expect("a prefix")]);
        let begin = |addr: &str| {
            let peer = Peer::from(addr.parse::<SocketAddr>().expect("an address"));
            let line: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
            proxies.begin(line, peer)
        };
        for (from, expected) in
            [("10.1.2.3:4", true), ("[::ffff:10.1.2.3]:4", true), ("11.0.0.1:4", false), ("[::1]:4", false)]
        {
            match begin(from) {
                Begun::Done(..) => assert!(!expected, "{from}"),
                Begun::Waits(greeting) => {
                    assert!(expected, "{from}");
                    let (behind, peer) = greeting.await.expect("it is one").expect("it relays");
                    assert_eq!((behind, peer.to_string()), (&b""[..], "192.0.2.7:56324".to_owned()));
                }
            }
        }
    }
}
