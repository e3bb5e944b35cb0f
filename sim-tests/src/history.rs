//! What happened in a run, as its clients and the clock know it: the one thing that the [judge](crate::judge) is shown.
//!
//! A history is a value without meaning. Whoever runs a plan writes down what each client did and saw, when the server
//! was started and ended, and now and then the room's own numbers; no line is parsed here.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use unisono::{Limits, Wire};

/// One attempt to connect. A client that comes back is a new number.
pub type Client = usize;

/// Bytes of input or output that [`History`]'s display shows of one event.
const SHOWN_BYTES_MAX: usize = 60;

/// What one client did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection exists within which TLS is to be spoken; nothing of it is for lines yet. What is sent and received before the
    /// client is [connected](Self::Connected), if it ever is, is bytes of that alone.
    Knocked {
        /// As of [`Connected`](Self::Connected).
        address: String,
    },
    /// The connection exists, though the server may not have accepted it yet.
    Connected {
        /// The client as the server sees it, `ip:port`. Nobody else has it during the same life of the server.
        address: String,
    },
    /// It could not connect.
    Refused,
    /// Its stream accepted these bytes, in order.
    Sent {
        /// The raw input.
        bytes: Vec<u8>,
    },
    /// It ended its input cleanly (FIN).
    SentEnd,
    /// It broke its connection (RST), or its host vanished, or the connection's task was made to panic.
    Reset,
    /// It let go of its connection, as a process that is killed does: the network makes an end (FIN) or a break (RST) of it.
    Dropped,
    /// It read these bytes.
    Received {
        /// The raw output.
        bytes: Vec<u8>,
    },
    /// It read the end.
    ReceivedEnd,
    /// Reading or writing failed: the connection is broken.
    ReceivedError {
        /// In what way, for people.
        kind: String,
    },
    /// It stopped reading. Also what the network does when it holds a connection's bytes back for long.
    Pause,
    /// It goes on reading.
    Resume,
}

/// An event of one client, and when it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Since the run began.
    pub at: Duration,
    /// Whose event.
    pub client: Client,
    /// What it was.
    pub event: Event,
}

/// What became of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A life of the server began: a room of its own.
    Started,
    /// It was asked to end.
    Stopping,
    /// It has ended as it was asked to.
    Stopped,
    /// It ended in an instant, and with it every connection.
    Crashed,
}

/// What whoever keeps the server did in the room that lived then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// It had something to say to all, and waited for its turn.
    Announced {
        /// Before cleaning.
        text: String,
    },
    /// It removed one who was there, or on its way in.
    Removed {
        /// Whom.
        client: Client,
    },
    /// It removed everyone who came from there, and let in nobody else.
    Banned {
        /// From where.
        ip: IpAddr,
    },
    /// It let them in again.
    Lifted {
        /// From where.
        ip: IpAddr,
    },
}

/// The room's own numbers at one moment, of the server's life at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the run began.
    pub at: Duration,
    /// Bytes that some reader has yet to pass.
    pub held_bytes: usize,
    /// Bytes taken of the shared total for partial lines.
    pub partial_bytes: usize,
    /// Who has entered and not left.
    pub members: usize,
    /// Connections with a place, entered or not.
    pub seats: usize,
    /// Bytes of the room so far.
    pub said_bytes: u64,
    /// How often a reader was let go so far.
    pub let_gos: u64,
    /// Lines that were missed so, added up.
    pub missed_lines: u64,
    /// Who waits for the room to take what it has to say.
    pub senders_parked: usize,
}

/// What the server was told about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its numbers.
    pub limits: Limits,
    /// How it speaks.
    pub wire: Wire,
    /// What newcomers have to know. `None`: they are not asked.
    pub password: Option<Password>,
}

/// What newcomers have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Password {
    /// Without a line end.
    pub text: String,
    /// How long it takes to prove it, or that it is wrong.
    pub takes: Duration,
}

/// The quiet end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// From here on there are no faults among the core and the server.
    pub at: Duration,
    /// By now the core has everything. At least 30 s after `at`; nobody says anything in the 30 s before.
    pub end: Duration,
    /// Whose connections are faultless from `at` on, and who read. Whatever the others do.
    pub core: Vec<Client>,
}

/// All that is known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// What the server was told.
    pub rules: Rules,
    /// What the clients did and saw, by time.
    pub records: Vec<Record>,
    /// What became of the server, by time. Without any event it lived all the time.
    pub server: Vec<(Duration, ServerEvent)>,
    /// What whoever keeps the server did, by time.
    pub keeping: Vec<(Duration, Keeping)>,
    /// The room's numbers, by time; perhaps none.
    pub samples: Vec<Sample>,
    /// The quiet end, if there was one.
    pub healed: Option<Healed>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Knocked { address } => write!(f, "knocked as {address}"),
            Self::Connected { address } => write!(f, "connected as {address}"),
            Self::Refused => f.write_str("was refused"),
            Self::Sent { bytes } => write!(f, "sent {}", shown(bytes)),
            Self::SentEnd => f.write_str("sent its end"),
            Self::Reset => f.write_str("broke"),
            Self::Dropped => f.write_str("was dropped"),
            Self::Received { bytes } => write!(f, "received {}", shown(bytes)),
            Self::ReceivedEnd => f.write_str("received the end"),
            Self::ReceivedError { kind } => write!(f, "received an error: {kind}"),
            Self::Pause => f.write_str("stopped reading"),
            Self::Resume => f.write_str("went on reading"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14} #{} {}", seconds(self.at), self.client, self.event)
    }
}

impl fmt::Display for History {
    /// One line for each event, by time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.iter().map(|(at, event)| (*at, format!("server {event:?}")));
        let keeping = self.keeping.iter().map(|(at, what)| (*at, format!("keeper {what:?}")));
        let mut others: Vec<_> = server.chain(keeping).collect();
        others.sort_by_key(|(at, _)| *at);
        let mut others = others.iter().peekable();
        for record in &self.records {
            while let Some((at, what)) = others.next_if(|(at, _)| *at <= record.at) {
                writeln!(f, "{:>14} {what}", seconds(*at))?;
            }
            writeln!(f, "{record}")?;
        }
        for (at, what) in others {
            writeln!(f, "{:>14} {what}", seconds(*at))?;
        }
        if let Some(Healed { at, end, core }) = &self.healed {
            writeln!(f, "healed from {} to {}: {core:?}", seconds(*at), seconds(*end))?;
        }
        Ok(())
    }
}

/// Bytes for people: escaped, and shortened in the middle. Characters stay what they are.
pub(crate) fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_BYTES_MAX {
        return format!("{:?}", String::from_utf8_lossy(bytes));
    }
    let (head, tail) = (&bytes[..SHOWN_BYTES_MAX / 2], &bytes[bytes.len() - SHOWN_BYTES_MAX / 4..]);
    format!("{:?}..{:?} ({} bytes)", String::from_utf8_lossy(head), String::from_utf8_lossy(tail), bytes.len())
}

pub(crate) fn seconds(at: Duration) -> String {
    format!("{}.{:06}s", at.as_secs(), at.subsec_micros())
}
