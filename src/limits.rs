//! Every number of the server: its unit, its default, and why that number.
//!
//! A [`Limits`] is made once and goes with the [`Room`](crate::Room); nothing else in the crate invents a bound. What the
//! numbers promise together is law 7, and [`Limits::memory_bytes_max`] is that promise as arithmetic.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::listen::Peer;

/// No limit of time: as a patience, a stall limit, a line deadline.
pub const FOREVER: Duration = Duration::MAX;

/// Longest WHO, in bytes: a name has at most this many, and every address is shorter.
pub const WHO_BYTES_MAX: usize = 96;

/// Most characters of a name.
pub const NAME_CHARS_MAX: usize = 32;

/// Bytes taken from a connection by one read, and at most said in one turn before other tasks have theirs.
///
/// Larger reads save system calls only above some GB/s; this much is also what a parked sender may hold beyond
/// [`INPUT_BYTES_FREE`], so it is paid for from [`Limits::partial_bytes_total`].
pub const READ_BYTES: usize = 16 * 1024;

/// Input that every connection may hold at any time without asking: a partial line, or what is not said yet.
pub const INPUT_BYTES_FREE: usize = 1024;

/// Most pieces of the log that one vectored write carries. Far below `IOV_MAX` (1,024 on Linux), and enough that a
/// reader who fell behind gets up to a megabyte by one call.
pub const WRITE_PIECES_MAX: usize = 16;

/// Writes and reads that one poll of a connection makes before it lets the other tasks run.
pub const ROUNDS_PER_POLL: usize = 8;

/// What the kernel may hold unsent for one connection (`TCP_NOTSENT_LOWAT`).
///
/// Law 6 counts the time in which a connection can take nothing. With an autotuned send buffer Linux calls a socket
/// writable again only when a third of megabytes is free, and a reader at twice the due speed was seen let go; 16 to
/// 128 KiB cured it.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// A bound on what one connection costs in the process's own memory while it holds no input beyond
/// [`INPUT_BYTES_FREE`]: its drive and socket (idle about 640 bytes together, measured in `benches/README.md`), a timer, its
/// account of waiting, one notice, its place in the roster, and the room that collections keep for growing.
pub const CONNECTION_BYTES: usize = 6 * 1024;

/// How often a parked sender looks whether its connection still lives: it reads nothing, and may have nothing to write.
pub const PROBE: Duration = Duration::from_secs(1);

/// Members in one slice of the answer to `/who`.
pub(crate) const PRESENT_PER_SLICE: usize = 16;

/// More than the server's own words in a line of the room take: ` is now `, ` 改名 `, a line feed.
const NOTICE_WORDS_BYTES: usize = 16;

/// [Sites](crate::door::Site) of which it is remembered that somebody came from there lately. With more, those are forgotten that would be first
/// anyway: at the default rate that takes 8,192 strangers a second, each from a site of its own.
pub const SITES_MAX: usize = 4096;

/// Connections of one listener that may be greeted at once: in the handshake of TLS, or saying for whom they are a proxy. Each
/// takes a file and at most [`GREETING_BYTES`].
pub const GREETINGS_MAX: usize = 256;

/// Of these, so many strangers from one IPv4 address or one IPv6 /64.
pub const GREETINGS_PER_SITE_MAX: usize = 32;

/// While there are as many as may be, who has been at it for so long makes room: three round trips around the world take less.
pub const GREETING_CROWDED: Duration = Duration::from_secs(2);

/// What one greeting holds: the longest message of a handshake of TLS has 64 KiB.
pub const GREETING_BYTES: usize = 128 * 1024;

/// What a connection within TLS may hold encrypted and unsent: two records of full length. So a write takes no more.
pub const TLS_SEND_BUFFER_BYTES: usize = 32 * 1024;

/// What a connection within TLS may hold besides [`CONNECTION_BYTES`]: what is unsent, a record that is coming in, one that is
/// decrypted and not taken in yet, and its keys.
pub const TLS_CONNECTION_BYTES: usize = 96 * 1024;

/// What one of them takes: an entry in each of two trees whose nodes may be half empty.
const SITE_BYTES: usize = 256;

/// What the process may hold of the room besides lines: the open segment's spare capacity and its pieces' headers.
const LOG_SPARE_BYTES: usize = 256 * 1024;

/// So many at once, and so many a second from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once, by one who has not used it for a while.
    pub burst: u32,
    /// How many a second are given back.
    pub per_second: u32,
}

/// How fast one stranger may speak. Faster ones are slowed: no more is read from them than that, and all of it is said.
///
/// Everything that it sends counts: commands, and lines that are refused. What it may send at once is taken in by 8 KiB every
/// 10 ms, so that nobody's line waits long for a burst to be told to a crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Lines. Default 256 at once and 10 a second: a paste of 200 lines passes, and nobody reads or types faster for long.
    pub lines: Rate,
    /// Bytes as they come, line ends among them. Default 256 KiB at once and 64 KiB a second: that paste may have 1,300 bytes a
    /// line, a longest line passes every second, and with the default backlog and patience it takes 64 of them to keep a room full.
    /// The last line of a burst may be a longest one and overshoots; it is paid for before the next.
    pub bytes: Rate,
}

impl Default for Flood {
    fn default() -> Self {
        Self { lines: Rate { burst: 256, per_second: 10 }, bytes: Rate { burst: 256 * 1024, per_second: 64 * 1024 } }
    }
}

/// A stranger's burst is taken in by so many bytes at once, or by one line that is longer. To tell them to a few hundred readers
/// takes some milliseconds, and that is what somebody else's line waits for.
pub const GULP_BYTES: usize = 8 * 1024;

/// From the first of them on, no more of it is taken in for so long. A burst of 256 KiB passes in a third of a second.
pub const GULP_PERIOD: Duration = Duration::from_millis(10);

/// How fast connections may come from one IPv4 address or one IPv6 /64, where that is limited: 20 at once, as a household that is
/// back behind its router, and 2 a second.
pub const CONNECT_RATE_DEFAULT: Rate = Rate { burst: 20, per_second: 2 };

/// How many arrivals and departures of strangers are told by name in a second, where that is limited: a few households that come
/// and go at once, and two thirds of a screen.
pub const ANNOUNCEMENTS_DEFAULT: usize = 16;

/// How long a server lets a period of announcements last: by then who came and went without a name is told of in a count.
pub const ANNOUNCEMENTS_PERIOD: Duration = Duration::from_secs(1);

/// How fast passwords may be tried from one IPv4 address or one IPv6 /64.
pub(crate) const ATTEMPT_RATE: Rate = Rate { burst: 10, per_second: 1 };

/// How often one connection may try a password.
pub(crate) const ATTEMPTS_MAX: u8 = 3;

/// Every number of a room and of the server around it.
///
/// ```
/// use unisono::Limits;
///
/// let limits = Limits { backlog_bytes: 1 << 20, ..Limits::default() };
/// assert!(limits.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest line a member may say, in bytes of text before cleaning, its line end apart. Default 65,536: one more than
    /// the seed's. More lets one member occupy everybody's screen for longer, and makes every bound below grow threefold.
    pub line_bytes_max: usize,
    /// B of law 6: bytes of the room that are kept for readers who are behind. Default 4 MiB: at 1 s of patience a reader
    /// on a 4 MB/s line misses nothing. More memory, more forbearance.
    pub backlog_bytes: usize,
    /// How much of what is said amid a sweep is told in it, to those whose turn is to come; more gathers for the next. Default
    /// 512 bytes: talk does not wait for a crowd's announcements, and a flood still goes out in large writes. Zero: all gathers.
    pub prompt_bytes: usize,
    /// P of law 6: how long a reader may have waited, over its last B bytes, before a full room lets it go. Default 1 s:
    /// a conversation survives it unnoticed. Zero lets go whoever is a backlog behind; [`FOREVER`] lets go nobody.
    pub patience: Duration,
    /// How long a connection may take nothing at all while something is due to it before it is closed. Default 30 s: longer
    /// than a laptop's nap under its lid.
    pub stall: Duration,
    /// How long a line may take from its first byte to its end, counted only while we read. Default 60 s.
    pub line_deadline: Duration,
    /// How long the end may take: the flush at shutdown. Default 5 s.
    pub grace: Duration,
    /// How long we wait for the peer's end after our own, reading and discarding, before we close. Default 2 s.
    pub linger: Duration,
    /// Most connections at once; more are refused with one line. Default: none here; `serve` takes the file limit less 32.
    pub connections_max: usize,
    /// Most connections at once from one IPv4 address or one IPv6 /64; more are refused with one line. Default: none.
    pub per_ip_max: usize,
    /// How fast a stranger may speak before it is slowed. Default: `None`, as fast as it likes, since not every embedder has strangers; `serve` takes
    /// [`Flood::default`]. One who is slowed costs a timer and holds little more than [`INPUT_BYTES_FREE`]; nobody waits for it.
    pub flood: Option<Flood>,
    /// How fast strangers may connect from one IPv4 address or one IPv6 /64; more are refused with one line. Default: `None`, no
    /// limit; `serve` takes [`CONNECT_RATE_DEFAULT`].
    pub connect_rate: Option<Rate>,
    /// How many arrivals and departures of strangers are told by name in a [period](crate::Room::turn_period), which a server lets last
    /// for [`ANNOUNCEMENTS_PERIOD`]; those above are counted, and told in one line. Default: `None`, all by name; `serve` takes [`ANNOUNCEMENTS_DEFAULT`].
    /// None are counted where the wire is plain.
    pub announcements: Option<usize>,
    /// Who is no stranger: none of [`flood`](Self::flood), [`connect_rate`](Self::connect_rate) and
    /// [`announcements`](Self::announcements) is for them, nor for who comes by a Unix socket. Default: loopback.
    /// An IPv4-mapped address is taken as IPv4.
    pub trusted: Vec<IpNet>,
    /// Bytes that all connections together may hold of partial lines, of input not said yet and of the rests of torn lines,
    /// beyond [`INPUT_BYTES_FREE`] each. Default 16 MiB: 256 longest lines at once.
    pub partial_bytes_total: usize,
}

/// The most that the longest line may be: four stored ones, and more, still can be counted.
const LINE_BYTES_MAX_MOST: usize = 1 << 28;
const LINE_BYTES_MAX_DEFAULT: usize = 65_536;
const BACKLOG_BYTES_DEFAULT: usize = 4 * 1024 * 1024;

/// RFC 1122, section 3.2.1.3, and RFC 4291, section 2.5.3.
const LOOPBACK_IPV4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const LOOPBACK_IPV6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);

const _: () = assert!(BACKLOG_BYTES_DEFAULT >= 4 * line_stored_bytes_max(LINE_BYTES_MAX_DEFAULT));
const _: () = assert!(BACKLOG_BYTES_DEFAULT >= 4 * SEND_BUFFER_BYTES);

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
            backlog_bytes: BACKLOG_BYTES_DEFAULT,
            prompt_bytes: 512,
            patience: Duration::from_secs(1),
            stall: Duration::from_secs(30),
            line_deadline: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            connections_max: usize::MAX,
            per_ip_max: usize::MAX,
            flood: None,
            connect_rate: None,
            announcements: None,
            trusted: vec![LOOPBACK_IPV4.into(), LOOPBACK_IPV6.into()],
            partial_bytes_total: 16 * 1024 * 1024,
        }
    }
}

/// Why a set of limits cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line of no bytes leaves nothing to say, and one of more than 256 MiB is none.
    #[error("the longest line must have 1 to {LINE_BYTES_MAX_MOST} bytes, not {line_bytes_max}")]
    LineLength {
        /// What was asked for.
        line_bytes_max: usize,
    },
    /// With so small a backlog a single long line would be most of it, and every reader always in the way.
    #[error("a backlog of {backlog_bytes} bytes is too small: lines of this length want at least {least_bytes}")]
    BacklogSmall {
        /// What was asked for.
        backlog_bytes: usize,
        /// Four longest stored lines.
        least_bytes: usize,
    },
    /// By a rate of nothing, or of nothing more, nobody would ever come to speak.
    #[error("a rate must be at least 1 at once and 1 a second, not {burst} and {per_second}")]
    Rate {
        /// What was asked for.
        burst: u32,
        /// What was asked for.
        per_second: u32,
    },
}

/// The most bytes a line of `line_bytes_max` takes in the log: cleaning turns a byte into at most three, and the line
/// carries `WHO: ` before it and its line feed behind.
pub const fn line_stored_bytes_max(line_bytes_max: usize) -> usize {
    3 * line_bytes_max + WHO_BYTES_MAX + 3
}

impl Limits {
    /// The most bytes one line takes in the log.
    pub fn line_stored_bytes_max(&self) -> usize {
        line_stored_bytes_max(self.line_bytes_max)
    }

    /// Says whether the numbers can work together.
    ///
    /// # Errors
    ///
    /// [`Error::LineLength`] for a longest line of zero or of more than 256 MiB; [`Error::BacklogSmall`] for a backlog below four
    /// longest stored lines; [`Error::Rate`] for a rate with a zero in it.
    pub fn check(&self) -> Result<(), Error> {
        let line_bytes_max = self.line_bytes_max;
        if !(1..=LINE_BYTES_MAX_MOST).contains(&line_bytes_max) {
            return Err(Error::LineLength { line_bytes_max });
        }
        let least_bytes = 4 * self.line_stored_bytes_max();
        if self.backlog_bytes < least_bytes {
            return Err(Error::BacklogSmall { backlog_bytes: self.backlog_bytes, least_bytes });
        }
        let of_flood = self.flood.iter().flat_map(|flood| [flood.lines, flood.bytes]);
        for Rate { burst, per_second } in of_flood.chain(self.connect_rate) {
            if burst == 0 || per_second == 0 {
                return Err(Error::Rate { burst, per_second });
            }
        }
        Ok(())
    }

    /// Whether `peer` is no stranger: one of this machine, by a Unix socket, is none.
    pub fn trusts(&self, peer: &Peer) -> bool {
        match peer.ip() {
            Some(ip) => self.trusted.iter().any(|prefix| prefix.contains(&ip.to_canonical())),
            None => true,
        }
    }

    /// How large a segment of the log grows before the next begins: the grain in which old lines are dropped.
    ///
    /// The room is full by what lies behind the oldest segment, so a larger grain costs memory and no promise; beyond 64 KiB
    /// it buys nothing.
    pub(crate) fn segment_bytes(&self) -> usize {
        (self.backlog_bytes / 64).clamp(1, 64 * 1024)
    }

    /// The most bytes that one turn adds to the sequence: lines until they pass 64 KiB or a sixteenth of the backlog, of
    /// which the last may be a longest one, a change of name, and before these that somebody is here who was only counted. The
    /// backlog may be passed by so much.
    pub fn turn_bytes(&self) -> usize {
        let renamed_bytes = 2 * WHO_BYTES_MAX + NOTICE_WORDS_BYTES;
        self.turn_lines_bytes() + self.line_stored_bytes_max() + renamed_bytes + self.introduction_bytes()
    }

    /// What it takes to tell of one who was only counted.
    pub(crate) fn introduction_bytes(&self) -> usize {
        if self.announcements.is_some() { WHO_BYTES_MAX + NOTICE_WORDS_BYTES } else { 0 }
    }

    /// How many bytes a turn gathers before it is said: as much as a read brings, formatted, but a small part of a small
    /// backlog.
    pub(crate) fn turn_lines_bytes(&self) -> usize {
        (self.backlog_bytes / 16).min(4 * READ_BYTES)
    }

    /// Law 7's bound: what the room and `connections` connections may take of the process's own memory, whatever peers do,
    /// on a runtime with so many worker `threads`.
    ///
    /// It covers what is allocated, not what an allocator keeps after it was freed, nor the kernel's socket buffers. Connections
    /// within TLS may have [`TLS_CONNECTION_BYTES`] each besides, and each listener that greets [`GREETINGS_MAX`] times
    /// [`GREETING_BYTES`].
    pub fn memory_bytes_max(&self, connections: usize, threads: usize) -> usize {
        let segment = self.segment_bytes() + self.turn_bytes();
        let lines = self.backlog_bytes.saturating_add(segment + self.turn_bytes());
        // A segment is copied once when it is sealed, and its vector grows by doubling before.
        let spare = 3 * segment + LOG_SPARE_BYTES;
        // Each thread may be in the middle of one turn: what it reads may be held beyond the shared total, and is formatted
        // in a vector that grows by doubling.
        let turns = threads * (READ_BYTES + 2 * self.turn_bytes());
        let each = connections.saturating_mul(CONNECTION_BYTES + INPUT_BYTES_FREE);
        let sites = if self.connect_rate.is_some() { SITES_MAX * SITE_BYTES } else { 0 };
        let fixed = [lines, spare, turns, self.partial_bytes_total, sites];
        fixed.into_iter().fold(each, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::listen::Origin;

    #[test]
    fn default_limits_work_together() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    /// Written out, not computed: to change one of them is a decision.
    #[test]
    fn numbers_are_as_documented() {
        assert_eq!((READ_BYTES, SEND_BUFFER_BYTES), (16_384, 65_536));
        assert_eq!((CONNECTION_BYTES, INPUT_BYTES_FREE, LOG_SPARE_BYTES), (6_144, 1_024, 262_144));
        assert_eq!((GREETING_BYTES, TLS_SEND_BUFFER_BYTES, TLS_CONNECTION_BYTES), (131_072, 32_768, 98_304));
        assert_eq!((SITES_MAX, GREETINGS_MAX, GREETINGS_PER_SITE_MAX, GREETING_CROWDED.as_secs()), (4_096, 256, 32, 2));
        assert_eq!((ATTEMPT_RATE.burst, ATTEMPT_RATE.per_second, ATTEMPTS_MAX), (10, 1, 3));
        assert_eq!((GULP_BYTES, GULP_PERIOD.as_millis()), (8_192, 10));
        assert_eq!(LINE_BYTES_MAX_MOST, 268_435_456);
        let limits = Limits::default();
        assert_eq!((limits.line_bytes_max, limits.backlog_bytes), (65_536, 4_194_304));
        assert_eq!(limits.partial_bytes_total, 16_777_216);
        assert_eq!(limits.line_stored_bytes_max(), 196_707);
        assert_eq!((limits.segment_bytes(), limits.turn_lines_bytes(), limits.turn_bytes()), (65_536, 65_536, 262_451));
        assert_eq!(limits.memory_bytes_max(1_000, 2), 31_058_635);
        let limits = Limits { connect_rate: Some(CONNECT_RATE_DEFAULT), ..limits };
        assert_eq!(limits.memory_bytes_max(1_000, 2), 31_058_635 + 1_048_576);
        let limits = Limits { connect_rate: None, announcements: Some(ANNOUNCEMENTS_DEFAULT), ..limits };
        assert_eq!((ANNOUNCEMENTS_DEFAULT, limits.turn_bytes()), (16, 262_451 + 112));
        assert_eq!(limits.memory_bytes_max(1_000, 2), 31_058_635 + 9 * 112);
        let Flood { lines, bytes } = Flood::default();
        assert_eq!((lines.burst, lines.per_second), (256, 10));
        assert_eq!((bytes.burst, bytes.per_second), (262_144, 65_536));
        assert_eq!((CONNECT_RATE_DEFAULT.burst, CONNECT_RATE_DEFAULT.per_second), (20, 2));
    }

    #[test]
    fn rate_with_a_zero_in_it_is_refused() {
        let zero = Rate { burst: 0, per_second: 1 };
        let none = Rate { burst: 1, per_second: 0 };
        let error = |rate: Rate| Err(Error::Rate { burst: rate.burst, per_second: rate.per_second });
        let flood = Flood::default();
        for rate in [zero, none] {
            for flood in [Flood { lines: rate, ..flood }, Flood { bytes: rate, ..flood }] {
                assert_eq!(Limits { flood: Some(flood), ..Limits::default() }.check(), error(rate));
            }
            assert_eq!(Limits { connect_rate: Some(rate), ..Limits::default() }.check(), error(rate));
        }
        let least = Rate { burst: 1, per_second: 1 };
        let flood = Some(Flood { lines: least, bytes: least });
        assert_eq!(Limits { flood, connect_rate: Some(least), ..Limits::default() }.check(), Ok(()));
    }

    fn peer(ip: &str) -> Peer {
        Peer::from(SocketAddr::new(ip.parse().expect("an address"), 5000))
    }

    #[test]
    fn trusted_are_those_within_a_prefix_and_by_default_the_machine_itself() {
        fn check(limits: &Limits, trusted: &[&str], strangers: &[&str]) {
            for (ips, expected) in [(trusted, true), (strangers, false)] {
                for ip in ips {
                    assert_eq!(limits.trusts(&peer(ip)), expected, "{ip}");
                }
            }
        }
        let limits = Limits::default();
        check(
            &limits,
            &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"],
            &["128.0.0.1", "126.255.255.255", "10.0.0.1", "::2", "::", "::ffff:10.0.0.1"],
        );
        let trusted = ["10.1.0.0/16", "2001:db8::/32"].map(|prefix| prefix.parse().expect("a prefix"));
        let limits = Limits { trusted: trusted.to_vec(), ..limits };
        check(
            &limits,
            &["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "2001:db8:ffff::1"],
            &["127.0.0.1", "::1", "10.2.0.0", "2001:db9::"],
        );
        let limits = Limits { trusted: Vec::new(), ..limits };
        check(&limits, &[], &["127.0.0.1", "::1"]);
        assert!(limits.trusts(&Origin::Local { uid: 1000, pid: Some(7) }.into()), "whom the socket's file lets in");
        let all = "::/0".parse().expect("a prefix");
        check(&Limits { trusted: vec![all], ..Limits::default() }, &["::1"], &["127.0.0.1", "::ffff:10.0.0.1"]);
    }

    #[test]
    fn small_backlog_is_refused_with_the_least_that_works() {
        let limits = Limits { line_bytes_max: 100, backlog_bytes: 1595, ..Limits::default() };
        assert_eq!(limits.check(), Err(Error::BacklogSmall { backlog_bytes: 1595, least_bytes: 1596 }));
        assert_eq!(Limits { backlog_bytes: 1596, ..limits }.check(), Ok(()));
    }

    #[test]
    fn limits_that_pass_do_not_overflow() {
        let limits = Limits { line_bytes_max: usize::MAX, ..Limits::default() };
        assert_eq!(limits.check(), Err(Error::LineLength { line_bytes_max: usize::MAX }));
        let limits = Limits { line_bytes_max: LINE_BYTES_MAX_MOST, backlog_bytes: usize::MAX, ..Limits::default() };
        assert_eq!(limits.check(), Ok(()));
        assert!(limits.turn_bytes() > LINE_BYTES_MAX_MOST);
        assert_eq!(limits.memory_bytes_max(usize::MAX, 1), usize::MAX);
    }

    #[test]
    fn memory_bound_is_the_backlog_and_a_constant_each() {
        let limits = Limits::default();
        let each = limits.memory_bytes_max(1, 2) - limits.memory_bytes_max(0, 2);
        assert_eq!(each, CONNECTION_BYTES + INPUT_BYTES_FREE);
        assert_eq!(limits.memory_bytes_max(20_000, 2), limits.memory_bytes_max(0, 2) + 20_000 * each);
        assert!(limits.memory_bytes_max(0, 2) < 2 * limits.backlog_bytes + limits.partial_bytes_total);
    }

    #[test]
    fn segments_and_turns_are_small_parts_of_any_backlog() {
        fn check(backlog_bytes: usize, segment_bytes: usize, turn_lines_bytes: usize) {
            let limits = Limits { line_bytes_max: 1, backlog_bytes, ..Limits::default() };
            assert_eq!(limits.check(), Ok(()));
            assert_eq!(limits.segment_bytes(), segment_bytes);
            assert_eq!(limits.turn_lines_bytes(), turn_lines_bytes);
            assert_eq!(limits.turn_bytes(), turn_lines_bytes + (3 + 96 + 3) + 2 * 96 + 16, "a line and a name more");
        }
        check(408, 6, 25);
        check(1 << 20, 16 * 1024, 64 * 1024);
        check((4 << 20) - 1, 64 * 1024 - 1, 64 * 1024);
        check(4 << 20, 64 * 1024, 64 * 1024);
        check(1 << 30, 64 * 1024, 64 * 1024);
    }
}
