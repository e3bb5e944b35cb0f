//! What happened on a network, as a hash of everything and a list of the last.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::Side;
use crate::random::mix;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum What {
    /// A listener began.
    Listens,
    /// A connection was asked for.
    Connects,
    /// It stands.
    Connected,
    /// Nobody listened.
    Refused,
    /// Nobody answered in time.
    ConnectTimedOut,
    /// It waits for room in the listener's queue.
    Queued,
    /// The listener handed it out.
    Accepted,
    /// The listener failed, as it was told to.
    AcceptFault,
    /// A side wrote so many bytes.
    Wrote,
    /// A side wanted to write, and its buffer was full.
    Blocked,
    /// So many bytes reached the other side.
    Arrived,
    /// A side read so many bytes.
    Read,
    /// A side ended its output.
    Fin,
    /// The end of input reached a side.
    FinArrived,
    /// A side reset the connection, or answered with a reset.
    Rst,
    /// In-flight bytes of the side that reset were lost, so many.
    RstLost,
    /// A reset reached a side.
    RstArrived,
    /// A side's stream was dropped.
    Dropped,
    /// A side gave up on a peer that did not answer.
    TimedOut,
    /// Something was sent to or by a side that has vanished.
    Swallowed,
    /// What a side sends stays under way.
    Froze,
    /// It arrives again.
    Thawed,
    /// A side lost its power.
    Vanished,
    /// A side that had lost its power answers again, and knows nothing.
    Revived,
    /// A read or a write was cut short, to so many bytes.
    Short,
    /// A poll was pending for no reason, or a waker woken for none.
    Spurious,
    /// A write failed, as it was told to.
    WriteFault,
    /// A read failed, as it was told to.
    ReadFault,
    /// A read panicked, as it was told to.
    Panic,
}

const KINDS: usize = What::Panic as usize + 1;

impl What {
    /// Every kind, and its name.
    pub const ALL: [(Self, &'static str); KINDS] = [
        (Self::Listens, "listens"),
        (Self::Connects, "connects"),
        (Self::Connected, "connected"),
        (Self::Refused, "refused"),
        (Self::ConnectTimedOut, "connect-timed-out"),
        (Self::Queued, "queued"),
        (Self::Accepted, "accepted"),
        (Self::AcceptFault, "accept-fault"),
        (Self::Wrote, "wrote"),
        (Self::Blocked, "blocked"),
        (Self::Arrived, "arrived"),
        (Self::Read, "read"),
        (Self::Fin, "fin"),
        (Self::FinArrived, "fin-arrived"),
        (Self::Rst, "rst"),
        (Self::RstLost, "rst-lost"),
        (Self::RstArrived, "rst-arrived"),
        (Self::Dropped, "dropped"),
        (Self::TimedOut, "timed-out"),
        (Self::Swallowed, "swallowed"),
        (Self::Froze, "froze"),
        (Self::Thawed, "thawed"),
        (Self::Vanished, "vanished"),
        (Self::Revived, "revived"),
        (Self::Short, "short"),
        (Self::Spurious, "spurious"),
        (Self::WriteFault, "write-fault"),
        (Self::ReadFault, "read-fault"),
        (Self::Panic, "panic"),
    ];
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When: since the network was made.
    pub at: Duration,
    /// What happened.
    pub what: What,
    /// On which connection, by the order in which they were asked for; none for a listener.
    pub connection: Option<u32>,
    /// At which side.
    pub side: Side,
    /// How many bytes, where that means something.
    pub bytes: usize,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} ", self.at.as_secs_f64())?;
        match self.connection {
            Some(connection) => write!(f, "#{connection} {:?} {:?}", self.side, self.what)?,
            None => write!(f, "listener {:?}", self.what)?,
        }
        if self.bytes > 0 { write!(f, " {}", self.bytes) } else { Ok(()) }
    }
}

/// A hash of everything that happened on a network so far, the bytes and the times too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceHash(pub u64);

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What has happened.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    counts: [u64; KINDS],
    last: VecDeque<Event>,
    keep: usize,
    /// What is sent does not count, only how much.
    is_sealed: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0, counts: [0; KINDS], last: VecDeque::new(), keep: 0, is_sealed: false }
    }
}

impl Trace {
    pub(super) fn add(&mut self, event: Event) {
        self.counts[event.what as usize] += 1;
        let which = event.connection.map_or(0, |connection| u64::from(connection) + 1);
        self.mix(u64::try_from(event.at.as_nanos()).expect("simulations end"));
        self.mix(which << 16 | (event.side as u64) << 8 | event.what as u64);
        self.mix(event.bytes as u64);
        if self.keep > 0 {
            if self.last.len() == self.keep {
                self.last.pop_front();
            }
            self.last.push_back(event);
        }
    }

    pub(super) fn seal(&mut self) {
        self.is_sealed = true;
    }

    /// Bytes that were written.
    pub(super) fn add_sent(&mut self, bytes: &[u8]) {
        if !self.is_sealed {
            self.add_bytes(bytes);
        }
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut hash = self.hash;
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        self.hash = hash;
        let last = rest.iter().fold(rest.len() as u64, |word, &byte| word << 8 | u64::from(byte));
        self.mix(last);
    }

    pub(super) fn add_addr(&mut self, addr: SocketAddr) {
        self.add_bytes(addr.to_string().as_bytes());
    }

    const fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    pub(super) const fn hash(&self) -> TraceHash {
        TraceHash(mix(self.hash))
    }

    pub(super) const fn count(&self, what: What) -> u64 {
        self.counts[what as usize]
    }

    pub(super) fn keep(&mut self, most: usize) {
        self.keep = most;
        while self.last.len() > most {
            self.last.pop_front();
        }
    }

    pub(super) const fn last(&self) -> &VecDeque<Event> {
        &self.last
    }
}
