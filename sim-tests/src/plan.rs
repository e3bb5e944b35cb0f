//! A plan: all that happens in one run, as a value. A seed draws it; it prints, parses and shrinks.
//!
//! Everything random about a run is decided here or drawn by the network from [`Plan::seed`]; so an act can be taken out of a
//! plan and all others stay as they were. A plan is a *swarm*: each kind of speech and of fault is on or off per seed, so
//! that runs differ in kind and not only in their numbers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use unisono::limits::{FOREVER, Flood, Rate};
use unisono::{Lang, Limits, Who, Wire};

use crate::history::Password;
use crate::network::Kind;
use crate::random::Random;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What the network draws its latencies and cuts from.
    pub seed: u64,
    /// The room and the server around it.
    pub rules: Rules,
    /// The links.
    pub links: Links,
    /// What happens, in the order of time.
    pub acts: Vec<Act>,
    /// From when on the network is whole for `core`, in ms: nobody says anything new after it.
    pub heal_ms: u64,
    /// The clients that are healed. The others stay as they are.
    pub core: Vec<usize>,
}

/// The server's numbers, as a plan has them. Times are in ms; `None` is for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the fields of Limits and Wire")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the server's")]
pub struct Rules {
    pub english: bool,
    pub plain: bool,
    pub raw: bool,
    pub line_bytes_max: usize,
    pub backlog_bytes: usize,
    pub patience_ms: Option<u64>,
    pub stall_ms: Option<u64>,
    pub line_deadline_ms: u64,
    pub grace_ms: u64,
    pub linger_ms: u64,
    pub connections_max: usize,
    pub per_ip_max: usize,
    pub partial_bytes_total: usize,
    /// Lines at once, and a second; bytes are [`FLOOD_LINE_BYTES`] times as many. Then nobody is trusted.
    pub flood: Option<(u32, u32)>,
    /// Names in a second. Then nobody is trusted.
    pub announcements: Option<usize>,
    /// Newcomers are asked for a password, and to prove one takes so many ms.
    pub password_ms: Option<u64>,
    /// Clients speak within TLS. Only simnet has that.
    #[serde(default)]
    pub tls: bool,
    /// Members are called by a number, not by their address.
    #[serde(default)]
    pub guests: bool,
    /// Connections of one address at once, and a second. Then nobody is trusted, but for the next.
    #[serde(default)]
    pub connect: Option<(u32, u32)>,
    /// Where connections have a rate, the first host is trusted.
    #[serde(default)]
    pub trusts_first: bool,
}

/// The first host of a simulated network, as its server knows it: on simnet, and on turmoil.
const FIRST_HOST: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(192, 168, 0, 2)];

/// What newcomers have to know where they are asked, and what is as long and wrong.
pub const PASSWORDS: [&str; 2] = ["open sesame", "open barley"];

/// As long are lines by which a plan's flood control counts bytes: most are shorter, and some much longer.
pub const FLOOD_LINE_BYTES: u32 = 256;

/// Within TLS the sockets of a plan hold at least so many bytes. While hands are shaken rustls reads nothing as long as it has
/// something to write: with less, both sides would wait for each other.
pub const TLS_BUFFER_BYTES_MIN: usize = 64;

/// The numbers of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Least and most latency of a chunk, in ms.
    pub latency_ms: (u64, u64),
    /// Bytes that a sender's side of a connection holds.
    pub send_bytes: usize,
    /// Bytes that a receiver's side holds.
    pub receive_bytes: usize,
    /// Reads and writes are cut short, down to one byte.
    pub choppy: bool,
    /// Tasks are woken, and polled, for nothing.
    pub spurious: bool,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When, in simulated ms from the start.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What can happen. A number names a client: one connection attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named in each variant's sentence")]
pub enum What {
    /// A client connects from the host with this number: the real one, or a bare socket.
    Connect { client: usize, host: u8, real: bool },
    /// A bare socket connects to where TLS is spoken, and speaks none: what it sends is garbage there.
    Knock { client: usize, host: u8 },
    /// It sends something.
    Send { client: usize, text: Text },
    /// It ends its input.
    End { client: usize },
    /// It breaks its connection.
    Reset { client: usize },
    /// Its host loses power: nobody is told.
    Vanish { client: usize },
    /// It stops reading.
    Pause { client: usize },
    /// It goes on reading.
    Resume { client: usize },
    /// It reads so many bytes, though paused.
    Sip { client: usize, bytes: usize },
    /// It reads slowly and steadily: so many bytes each so many ms, so many times; then it goes on reading.
    Slow { client: usize, bytes: usize, every_ms: u64, times: u64 },
    /// It sends something a byte at a time, one each so many ms.
    Drip { client: usize, text: Text, every_ms: u64 },
    /// Nothing moves between it and the server: a partition that will heal.
    Freeze { client: usize },
    /// Nothing moves from the server to it.
    FreezeDown { client: usize },
    /// All that was frozen moves again.
    Thaw { client: usize },
    /// The server's next write to it fails.
    WriteError { client: usize },
    /// The server's next read from it fails.
    ReadError { client: usize },
    /// The server's next read from it panics.
    Panic { client: usize },
    /// The network loses the next line to it, which no network may: for the canary, and never drawn.
    LoseLine { client: usize },
    /// A host's link stands still: a partition that will heal.
    Hold { host: u8 },
    /// Nothing moves from the server to a host.
    HoldDown { host: u8 },
    /// What was held moves again.
    Release { host: u8 },
    /// A host's link takes up to so many ms from now on.
    Delay { host: u8, most_ms: u64 },
    /// A host loses power, or its link for good.
    VanishHost { host: u8 },
    /// It is there again, and knows nothing of old connections.
    ReviveHost { host: u8 },
    /// Nothing runs on a host.
    PauseHost { host: u8 },
    /// It runs again.
    ResumeHost { host: u8 },
    /// Every client of a host is killed.
    CrashHost { host: u8 },
    /// Every clock jumps so far at once, as when a machine was suspended.
    Jump { ms: u64 },
    /// Accepting fails so, once.
    AcceptError { errno: i32 },
    /// Whoever keeps the server says something to all.
    Announce { text: String },
    /// A client is removed from the room, if it is there and has no name of its own.
    Kick { client: usize },
    /// Everyone who comes from a host is removed, and nobody who does is let in any more.
    Ban { host: u8 },
    /// Those who come from there are let in again.
    Unban { host: u8 },
    /// The server is asked to end.
    Stop,
    /// The server is gone, at once, and everything of it.
    Crash,
    /// It is started again.
    Restart,
}

impl What {
    /// The client that it is about.
    pub fn client(&self) -> Option<usize> {
        match *self {
            Self::Connect { client, .. }
            | Self::Knock { client, .. }
            | Self::Send { client, .. }
            | Self::End { client }
            | Self::Reset { client }
            | Self::Vanish { client }
            | Self::Pause { client }
            | Self::Resume { client }
            | Self::Sip { client, .. }
            | Self::Slow { client, .. }
            | Self::Drip { client, .. }
            | Self::Freeze { client }
            | Self::FreezeDown { client }
            | Self::Thaw { client }
            | Self::WriteError { client }
            | Self::ReadError { client }
            | Self::Panic { client }
            | Self::Kick { client }
            | Self::LoseLine { client } => Some(client),
            _ => None,
        }
    }

    /// The host that it is about, if it is about no single client.
    pub fn host(&self) -> Option<u8> {
        match *self {
            Self::Hold { host }
            | Self::HoldDown { host }
            | Self::Release { host }
            | Self::Delay { host, .. }
            | Self::VanishHost { host }
            | Self::ReviveHost { host }
            | Self::PauseHost { host }
            | Self::ResumeHost { host }
            | Self::CrashHost { host }
            | Self::Ban { host }
            | Self::Unban { host } => Some(host),
            _ => None,
        }
    }
}

/// What a client sends. Texts carry a stamp, so that one line can be told from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named in each variant's sentence")]
pub enum Text {
    /// So many lines, each with so many bytes of filling.
    Lines { first: usize, count: usize, filling: usize },
    /// A line without text.
    Empty,
    /// Some bytes of a line, without its end.
    Partial { stamp: usize, filling: usize },
    /// A line end alone.
    LineEnd,
    /// A line with a carriage return before its end.
    Crlf { stamp: usize },
    /// A line of control bytes, broken UTF-8 and the like.
    Odd { stamp: usize },
    /// A line behind a byte order mark.
    Marked { stamp: usize },
    /// A line that begins with a slash: a command.
    Command(String),
    /// The password, or a wrong one.
    Password { is_right: bool },
    /// The first bytes of a handshake of TLS, and never all of them.
    Hello { bytes: usize },
}

/// How a client's first record of TLS begins, with a greeting of 200 bytes.
const HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03";

/// Less than that.
const HELLO_BYTES_MAX: usize = 150;

impl Text {
    /// The bytes that `client` sends.
    pub fn bytes(&self, client: usize) -> Vec<u8> {
        let line = |stamp: usize, filling: usize| format!("#{client}.{stamp} {}", "x".repeat(filling));
        match self {
            Self::Lines { first, count, filling } => {
                let lines = (*first..first + count).map(|stamp| line(stamp, *filling) + "\n");
                lines.collect::<Vec<_>>().concat().into_bytes()
            }
            Self::Empty | Self::LineEnd => b"\n".to_vec(),
            Self::Partial { stamp, filling } => line(*stamp, *filling).into_bytes(),
            Self::Crlf { stamp } => (line(*stamp, 0) + "\r\n").into_bytes(),
            Self::Odd { stamp } => {
                [line(*stamp, 0).as_bytes(), b"\x1b[2J\x00\xff\xfe\xe4\xbd\r\t\xc2\x85 \xe2\x80\xae\n"].concat()
            }
            Self::Marked { stamp } => ["\u{feff}".as_bytes(), line(*stamp, 0).as_bytes(), b"\n"].concat(),
            Self::Command(command) => format!("{command}\n").into_bytes(),
            Self::Hello { bytes } => HELLO.iter().copied().chain(std::iter::repeat(b'x')).take(*bytes).collect(),
            Self::Password { is_right } => format!("{}\n", PASSWORDS[usize::from(!is_right)]).into_bytes(),
        }
    }
}

/// Kinds of faults, each with a switch of its own per seed.
const FAULTS: [&str; 28] = [
    "accept error",
    "announce",
    "ban",
    "churn",
    "crash",
    "drip",
    "end",
    "flood",
    "freeze",
    "freeze down",
    "host crash",
    "host pause",
    "host vanish",
    "hold",
    "jump",
    "kick",
    "knock",
    "panic",
    "pause",
    "read error",
    "reset",
    "delay",
    "silence",
    "slow",
    "stop",
    "vanish",
    "write error",
    "wrong password",
];

/// Kinds of speech, likewise.
const SPEECHES: usize = 9;

/// How large the plans of a network are.
struct Shape {
    /// Most simulated time with faults, in ms.
    safety_ms: u64,
    /// Most people at once, one of these.
    people: &'static [u64],
    hosts: u64,
    /// Most that a flood or a storm brings.
    flood: u64,
}

impl Shape {
    const fn of(network: Kind) -> Self {
        match network {
            Kind::Simnet => Self { safety_ms: 20_000, people: &[1, 2, 3, 3, 5, 5, 8, 8, 15, 40], hosts: 6, flood: 120 },
            Kind::Turmoil => Self { safety_ms: 4000, people: &[1, 2, 3, 5, 8, 12], hosts: 4, flood: 20 },
            Kind::Loopback => Self { safety_ms: 300, people: &[1, 2, 3, 5, 8], hosts: 3, flood: 20 },
        }
    }
}

impl Plan {
    /// Draws the plan of `seed` for simnet.
    pub fn draw(seed: u64) -> Self {
        Self::draw_for(Kind::Simnet, seed)
    }

    /// Draws the plan of `seed` for a network: of what that can do, and of a size that it bears.
    pub fn draw_for(network: Kind, seed: u64) -> Self {
        let random = Random::new(seed);
        let shape = Shape::of(network);
        let mut rules = Rules::draw(&mut random.fork("rules"));
        if network != Kind::Simnet {
            // A connection that stands still is ended by nothing else there; and time passes dearly.
            rules.stall_ms = Some(rules.stall_ms.unwrap_or(2000).min(2000));
            rules.patience_ms = rules.patience_ms.map(|ms| ms.min(1000));
            rules.flood = rules.flood.map(|(burst, _)| (burst, 2000));
            rules.tls = false;
        }
        if network == Kind::Loopback {
            // Real time, on machines that have other things to do.
            rules.stall_ms = Some(20_000);
            rules.line_deadline_ms = 60_000;
            rules.patience_ms = rules.patience_ms.map(|ms| ms.min(100));
            rules.linger_ms = rules.linger_ms.min(100);
            rules.grace_ms = rules.grace_ms.min(100);
            rules.password_ms = None;
            rules.guests = false;
            rules.connect = None;
        }
        let mut links = Links::draw(&mut random.fork("links"), &rules);
        if rules.tls {
            links.send_bytes = links.send_bytes.max(TLS_BUFFER_BYTES_MIN);
            links.receive_bytes = links.receive_bytes.max(TLS_BUFFER_BYTES_MIN);
        }
        let heal_ms = random.fork("length").range(shape.safety_ms / 40..=shape.safety_ms);
        let mut draft = Draft::new(&random, &rules, &links, heal_ms, shape);
        draft.draw_people();
        draft.draw_crowds();
        draft.draw_strangers();
        draft.draw_knocks();
        draft.draw_hosts();
        draft.draw_server();
        draft.draw_keeper();
        let Draft { mut acts, core, .. } = draft;
        acts.sort_by_key(|act| act.at_ms);
        Self { seed, rules, links, acts, heal_ms, core }
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.acts.iter().filter_map(|act| act.what.client()).max().map_or(0, |last| last + 1)
    }

    /// By when the slowest of its floods is over, after the last of it was sent.
    pub fn flood_time(&self) -> Duration {
        let Some((_, per_second)) = self.rules.flood else { return Duration::ZERO };
        let mut sent = vec![(0, 0); self.clients()];
        for act in &self.acts {
            if let What::Send { client, ref text } | What::Drip { client, ref text, .. } = act.what {
                let bytes = text.bytes(client);
                sent[client].0 += bytes.split(|byte| *byte == b'\n').count();
                sent[client].1 += bytes.len();
            }
        }
        let lines = |(lines, bytes): (usize, usize)| lines as u64 + bytes as u64 / u64::from(FLOOD_LINE_BYTES) + 1;
        let most = sent.into_iter().map(lines).max().unwrap_or(0);
        Duration::from_secs(most.div_ceil(per_second.into()))
    }

    /// The highest number of a host.
    pub fn hosts(&self) -> u8 {
        let host = |act: &Act| match act.what {
            What::Connect { host, .. } | What::Knock { host, .. } => Some(host),
            ref what => what.host(),
        };
        self.acts.iter().filter_map(host).max().unwrap_or(1)
    }
}

fn duration(ms: Option<u64>) -> Duration {
    ms.map_or(FOREVER, Duration::from_millis)
}

impl Rules {
    /// The server's defaults, as far as a network of the size of a plan can meet them.
    pub fn calm() -> Self {
        Self {
            english: true,
            plain: false,
            raw: false,
            line_bytes_max: 4096,
            backlog_bytes: 256 * 1024,
            patience_ms: Some(1000),
            stall_ms: Some(10_000),
            line_deadline_ms: 60_000,
            grace_ms: 5000,
            linger_ms: 2000,
            connections_max: usize::MAX,
            per_ip_max: usize::MAX,
            partial_bytes_total: 1 << 24,
            flood: None,
            announcements: None,
            password_ms: None,
            tls: false,
            guests: false,
            connect: None,
            trusts_first: false,
        }
    }

    fn draw(random: &mut Random) -> Self {
        let line_bytes_max = *random.pick(&[24, 64, 64, 200, 1000, 65_536]);
        let stored = 3 * line_bytes_max + 100;
        let plain = random.chance(1, 4);
        Self {
            english: random.chance(1, 2),
            plain,
            raw: random.chance(1, 4),
            line_bytes_max,
            backlog_bytes: stored * usize::try_from(*random.pick(&[4, 5, 8, 20, 100])).expect("small"),
            patience_ms: *random.pick(&[
                Some(0),
                Some(1),
                Some(50),
                Some(300),
                Some(300),
                Some(1000),
                Some(5000),
                None,
            ]),
            stall_ms: *random.pick(&[Some(100), Some(1000), Some(2000), Some(2000), Some(10_000), None]),
            line_deadline_ms: *random.pick(&[200, 2000, 60_000]),
            grace_ms: *random.pick(&[0, 100, 5000]),
            linger_ms: *random.pick(&[0, 100, 2000]),
            connections_max: *random.pick(&[usize::MAX, usize::MAX, 3, 10]),
            per_ip_max: *random.pick(&[usize::MAX, usize::MAX, usize::MAX, 2]),
            partial_bytes_total: *random.pick(&[1 << 24, 1 << 15, 0]),
            flood: if random.chance(1, 6) { Some(*random.pick(&[(1, 20), (4, 50), (30, 200)])) } else { None },
            announcements: if random.chance(1, 6) { Some(usize_of(*random.pick(&[0, 0, 1, 2, 4]))) } else { None },
            password_ms: if random.chance(1, 6) { Some(*random.pick(&[0, 0, 20, 300])) } else { None },
            tls: random.chance(1, 8),
            guests: random.chance(1, 6),
            connect: if random.chance(1, 6) { Some(*random.pick(&[(1, 1), (2, 1), (3, 10), (20, 2)])) } else { None },
            trusts_first: random.chance(1, 2),
        }
    }

    /// They as the server takes them.
    pub fn limits(&self) -> Limits {
        let flood = self.flood.map(|(burst, per_second)| {
            let bytes = |lines: u32| lines * FLOOD_LINE_BYTES;
            let lines = Rate { burst, per_second };
            Flood { lines, bytes: Rate { burst: bytes(burst), per_second: bytes(per_second) } }
        });
        Limits {
            line_bytes_max: self.line_bytes_max,
            backlog_bytes: self.backlog_bytes,
            // Nothing in a small room, much in a large one.
            prompt_bytes: self.backlog_bytes / 16,
            patience: duration(self.patience_ms),
            stall: duration(self.stall_ms),
            line_deadline: Duration::from_millis(self.line_deadline_ms),
            grace: Duration::from_millis(self.grace_ms),
            linger: Duration::from_millis(self.linger_ms),
            connections_max: self.connections_max,
            per_ip_max: self.per_ip_max,
            flood,
            connect_rate: self.connect.map(|(burst, per_second)| Rate { burst, per_second }),
            announcements: self.announcements,
            trusted: if self.connect.is_some() && self.trusts_first {
                FIRST_HOST.map(|host| IpAddr::from(host).into()).to_vec()
            } else if flood.is_some() || self.announcements.is_some() || self.connect.is_some() {
                Vec::new()
            } else {
                Limits::default().trusted
            },
            partial_bytes_total: self.partial_bytes_total,
        }
    }

    /// What newcomers have to know.
    pub fn password(&self) -> Option<Password> {
        let takes = Duration::from_millis(self.password_ms?);
        Some(Password { text: PASSWORDS[0].to_owned(), takes })
    }

    /// How the room speaks.
    pub fn wire(&self) -> Wire {
        Wire {
            lang: if self.english { Lang::En } else { Lang::Zh },
            plain: self.plain,
            raw: self.raw,
            who: if self.guests { Who::Guest } else { Who::Address },
        }
    }
}

impl Links {
    /// Links that take no time, between sockets of a usual size.
    pub const fn instant() -> Self {
        Self { latency_ms: (0, 0), send_bytes: 65_536, receive_bytes: 65_536, choppy: false, spurious: false }
    }

    fn draw(random: &mut Random, rules: &Rules) -> Self {
        // Four send buffers fit in the backlog, as `serve` demands.
        let bounded = rules.backlog_bytes / 4;
        // The longest lines byte by byte show nothing that others do not, and take minutes.
        let least = rules.line_bytes_max / 256;
        let [send_bytes, receive_bytes] =
            [(); 2].map(|()| usize_of(*random.pick(&[1, 16, 64, 256, 4096, 65_536])).max(least).min(bounded));
        let mut links = Self { send_bytes, receive_bytes, ..Self::instant() };
        let most_ms = (*random.pick(&[0, 0, 1, 20, 200])).min(links.most_latency_ms(rules));
        links.latency_ms = (random.range(0..=most_ms), most_ms);
        Self { choppy: random.chance(1, 3), spurious: random.chance(1, 3), ..links }
    }

    /// With a stall limit of a few round trips anyone would be sent away, as what is under way takes nothing meanwhile; and with
    /// a few bytes a round trip nobody would ever have everything.
    pub(crate) fn most_latency_ms(&self, rules: &Rules) -> u64 {
        let bytes = self.send_bytes.min(self.receive_bytes) as u64;
        // The longest line is through in half its time.
        let line_ms = rules.line_deadline_ms * bytes / (4 * rules.line_bytes_max as u64);
        let stall_ms = rules.stall_ms.map_or(200, |stall_ms| stall_ms / 20);
        [stall_ms, rules.line_deadline_ms / 20, line_ms, bytes / 16].into_iter().fold(200, u64::min)
    }
}

/// A plan while it is drawn.
struct Draft<'a> {
    random: &'a Random,
    rules: &'a Rules,
    links: &'a Links,
    heal_ms: u64,
    shape: Shape,
    /// How likely each kind of fault is, out of 100; most are zero.
    faults: [u64; FAULTS.len()],
    /// How likely each kind of speech is.
    speeches: [u64; SPEECHES],
    acts: Vec<Act>,
    core: Vec<usize>,
    clients: usize,
}

impl<'a> Draft<'a> {
    fn new(random: &'a Random, rules: &'a Rules, links: &'a Links, heal_ms: u64, shape: Shape) -> Self {
        let mut swarm = random.fork("swarm");
        let mut weight = |on| if swarm.chance(on, 100) { swarm.range(1..=100) } else { 0 };
        let faults = std::array::from_fn(|_| weight(40));
        let speeches = std::array::from_fn(|_| weight(60));
        Self { random, rules, links, heal_ms, shape, faults, speeches, acts: Vec::new(), core: Vec::new(), clients: 0 }
    }

    fn act(&mut self, at_ms: u64, what: What) {
        self.acts.push(Act { at_ms: at_ms.min(self.heal_ms), what });
    }

    /// How likely a kind of fault is, out of 100.
    fn weight(&self, fault: &str) -> u64 {
        let at = FAULTS.iter().position(|kind| *kind == fault).expect("a kind that there is");
        self.faults[at]
    }

    fn draw_host(&self, random: &mut Random) -> u8 {
        u8::try_from(random.range(1..=self.shape.hosts)).expect("few")
    }

    fn connect(&mut self, random: &mut Random, at_ms: u64, host: u8) -> usize {
        let client = self.clients;
        self.clients += 1;
        self.act(at_ms, What::Connect { client, host, real: random.chance(1, 4) });
        if self.rules.password_ms.is_some() {
            self.draw_proof(at_ms, client);
        }
        client
    }

    /// What it says when it is asked for a password: the right one at once; after some wrong ones, or none but those; byte by byte;
    /// late, or amid all else that it says; or nothing. Now and then it goes meanwhile.
    fn draw_proof(&mut self, at_ms: u64, client: usize) {
        let mut random = self.random.fork_at(3_000_000 + client as u64);
        let mut at_ms = at_ms;
        if random.chance(self.weight("silence"), 400) {
            return;
        }
        if random.chance(self.weight("wrong password"), 150) {
            for _ in 0..random.range(1..=3) {
                self.act(at_ms, What::Send { client, text: Text::Password { is_right: false } });
                at_ms += *random.pick(&[0, 1, 50, 400]);
            }
        }
        let text = Text::Password { is_right: true };
        if random.chance(1, 6) {
            self.act(at_ms, What::Drip { client, text, every_ms: *random.pick(&[0, 1, 10]) });
        } else {
            at_ms += *random.pick(&[0, 0, 0, 1, 100, 1000]);
            self.act(at_ms, What::Send { client, text });
        }
        if random.chance(self.weight("reset") + self.weight("end"), 2000) {
            let what = if random.chance(1, 2) { What::End { client } } else { What::Reset { client } };
            self.act(at_ms + random.below(30), what);
        }
    }

    fn draw_people(&mut self) {
        let mut random = self.random.fork("clients");
        let most = *random.pick(self.shape.people);
        let slots = random.range(1..=most);
        for slot in 0..slots {
            let mut random = self.random.fork_at(1000 + slot);
            let host = self.draw_host(&mut random);
            let mut at_ms = random.below(self.heal_ms);
            // A slot is a person: it may come again after it went.
            loop {
                let client = self.connect(&mut random, at_ms, host);
                let went = self.draw_life(&mut random, client, &mut at_ms);
                if !went {
                    if random.chance(9, 10) {
                        self.core.push(client);
                    }
                    break;
                }
                at_ms += random.range(0..=2000);
                if at_ms >= self.heal_ms || random.chance(1, 3) {
                    break;
                }
            }
        }
    }

    /// What one client does from connecting to going; false if it is still there in the end.
    fn draw_life(&mut self, random: &mut Random, client: usize, at_ms: &mut u64) -> bool {
        let pace_ms = *random.pick(&[1, 10, 100, 1000]);
        let mut stamp = 0;
        let mut paused = false;
        let mut frozen = false;
        for _ in 0..random.range(0..=40) {
            *at_ms += random.below(2 * pace_ms);
            if *at_ms >= self.heal_ms {
                return false;
            }
            let fault = random.index(FAULTS.len());
            if (paused || frozen) && random.chance(1, 4) {
                let what = match random.below(3) {
                    0 if paused => What::Sip { client, bytes: usize_of(random.range(1..=2000)) },
                    _ if frozen => What::Thaw { client },
                    _ => What::Resume { client },
                };
                (paused, frozen) =
                    (paused && !matches!(what, What::Resume { .. }), frozen && !matches!(what, What::Thaw { .. }));
                self.act(*at_ms, what);
            } else if random.chance(self.faults[fault], 400) {
                let what = match FAULTS[fault] {
                    "drip" => {
                        let text = self.draw_text(random, client, &mut stamp);
                        What::Drip { client, text, every_ms: *random.pick(&[0, 1, 10, 100]) }
                    }
                    "end" => What::End { client },
                    "freeze" => What::Freeze { client },
                    "freeze down" => What::FreezeDown { client },
                    "panic" => What::Panic { client },
                    "pause" => What::Pause { client },
                    "read error" => What::ReadError { client },
                    "reset" => What::Reset { client },
                    "slow" => self.draw_slow(random, client),
                    "vanish" => What::Vanish { client },
                    "write error" => What::WriteError { client },
                    _ => continue,
                };
                paused |= matches!(what, What::Pause { .. });
                frozen |= matches!(what, What::Freeze { .. } | What::FreezeDown { .. });
                let ends = matches!(what, What::Reset { .. } | What::Vanish { .. } | What::End { .. });
                self.act(*at_ms, what);
                if ends {
                    return true;
                }
            } else {
                let text = self.draw_text(random, client, &mut stamp);
                let quits = matches!(&text, Text::Command(command) if command == "/quit") && !self.rules.plain;
                self.act(*at_ms, What::Send { client, text });
                if quits {
                    if random.chance(1, 2) {
                        let text = self.draw_text(random, client, &mut stamp);
                        self.act(*at_ms, What::Send { client, text });
                    }
                    return true;
                }
            }
        }
        if random.chance(1, 2) {
            *at_ms += random.below(2 * pace_ms);
            self.act(*at_ms, What::End { client });
            return true;
        }
        false
    }

    /// A slow and steady reader, at a fraction or a multiple of the B per P that earns patience.
    fn draw_slow(&self, random: &mut Random, client: usize) -> What {
        let patience_ms = self.rules.patience_ms.unwrap_or(100).max(1);
        let every_ms = (patience_ms / 16).max(1);
        let due_bytes = (self.rules.backlog_bytes as u64 * every_ms).div_ceil(patience_ms);
        let (times, over) = *random.pick(&[(1, 4), (1, 2), (1, 1), (2, 1), (4, 1)]);
        What::Slow {
            client,
            bytes: usize_of((due_bytes * times / over).max(1)),
            every_ms,
            times: random.range(8..=100),
        }
    }

    fn draw_text(&self, random: &mut Random, client: usize, stamp: &mut usize) -> Text {
        let kind = random.index(SPEECHES);
        let first = *stamp;
        *stamp += 1;
        let filling = usize_of(random.below(30));
        if !random.chance(self.speeches[kind], 100) {
            return Text::Lines { first, count: 1, filling };
        }
        match kind {
            0 => {
                let count = usize_of(random.range(2..=200));
                *stamp += count - 1;
                Text::Lines { first, count, filling }
            }
            1 => Text::Empty,
            2 => Text::Partial { stamp: first, filling },
            3 => Text::LineEnd,
            4 => Text::Crlf { stamp: first },
            5 => Text::Odd { stamp: first },
            6 => {
                // Nobody takes a name that another had: from afar their departures could not be told apart.
                // Some would take what is another's but for the case of its letters: of those each has a spelling of its own.
                let names = [
                    format!("/name ann{client}"),
                    format!("/name Ann{client}"),
                    format!("/name bob{client}"),
                    format!("/name {}", cased("quartets", client)),
                ];
                let others = ["/who", "/help", "/name a b", "//slashed", "/nothing"].map(str::to_owned);
                // What is another's without its asking for it.
                let given = self.rules.guests.then(|| format!("/name guest-{}", random.range(1..=4)));
                let mut command = random.pick(&[&names[..], &others[..], given.as_slice()].concat()).clone();
                if random.chance(1, 20) {
                    "/quit".clone_into(&mut command);
                }
                Text::Command(command)
            }
            7 => Text::Marked { stamp: first },
            // As long as a line may be, or longer.
            _ => {
                let prefix = Text::Partial { stamp: first, filling: 0 }.bytes(client).len();
                let more = *random.pick(&[0, 0, 1, filling]);
                Text::Lines { first, count: 1, filling: (self.rules.line_bytes_max + more).saturating_sub(prefix) }
            }
        }
    }

    /// Crowds that come at once, or come and go.
    fn draw_crowds(&mut self) {
        let mut random = self.random.fork("crowds");
        if random.chance(self.weight("flood"), 1000) {
            let at_ms = random.below(self.heal_ms);
            for _ in 0..random.range(2..=self.shape.flood) {
                let host = self.draw_host(&mut random);
                let client = self.connect(&mut random, at_ms, host);
                match random.below(4) {
                    0 => self.act(at_ms, What::End { client }),
                    1 => self.act(at_ms, What::Reset { client }),
                    2 => self.act(at_ms, What::Send { client, text: Text::Empty }),
                    _ => self.act(at_ms + random.below(1000), What::End { client }),
                }
            }
        }
        if random.chance(self.weight("churn"), 1000) {
            let mut at_ms = random.below(self.heal_ms);
            for _ in 0..random.range(2..=self.shape.flood) {
                let host = self.draw_host(&mut random);
                let client = self.connect(&mut random, at_ms, host);
                at_ms += random.below(10);
                self.act(at_ms, What::Send { client, text: Text::Lines { first: 0, count: 1, filling: 0 } });
                at_ms += random.below(10);
                let what = if random.chance(1, 2) { What::End { client } } else { What::Reset { client } };
                self.act(at_ms, what);
            }
        }
    }

    /// Crowds of strangers who say little, where such are counted: some are heard of at once, some later, most never.
    fn draw_strangers(&mut self) {
        if self.rules.announcements.is_none() {
            return;
        }
        let mut random = self.random.fork("strangers");
        for _ in 0..random.range(1..=4) {
            let (at_ms, spread_ms) = (random.below(self.heal_ms), *random.pick(&[1, 300, 1500]));
            for _ in 0..random.range(1..=self.shape.flood.min(12)) {
                let host = self.draw_host(&mut random);
                let mut at_ms = at_ms + random.below(spread_ms);
                let client = self.connect(&mut random, at_ms, host);
                at_ms += random.below(2500);
                let text = match random.below(6) {
                    0 => Some(Text::Lines { first: 0, count: 1, filling: 0 }),
                    1 => Some(Text::Command(format!("/name bob{client}"))),
                    2 => Some(Text::Partial { stamp: 0, filling: 3 }),
                    _ => None,
                };
                if let Some(text) = text {
                    self.act(at_ms, What::Send { client, text });
                }
                at_ms += random.below(1500);
                match random.below(5) {
                    0 => self.core.push(client),
                    1 | 2 => self.act(at_ms, What::Reset { client }),
                    _ => self.act(at_ms, What::End { client }),
                }
            }
        }
    }

    /// Those who do not shake hands as they should: they say nothing, or half of it, or something else, and go or wait.
    fn draw_knocks(&mut self) {
        let mut random = self.random.fork("knocks");
        if !self.rules.tls || !random.chance(self.weight("knock"), 100) {
            return;
        }
        for _ in 0..random.range(1..=8) {
            let (mut at_ms, host) = (random.below(self.heal_ms), self.draw_host(&mut random));
            let client = self.clients;
            self.clients += 1;
            self.act(at_ms, What::Knock { client, host });
            for _ in 0..random.below(3) {
                at_ms += *random.pick(&[0, 1, 100, 3000]);
                let text = match random.below(4) {
                    0 => Text::Lines { first: 0, count: 1, filling: 3 },
                    1 => Text::Odd { stamp: 0 },
                    _ => Text::Hello { bytes: usize_of(random.range(1..=HELLO_BYTES_MAX as u64)) },
                };
                self.act(at_ms, What::Send { client, text });
            }
            match random.below(5) {
                0 => self.act(at_ms + random.below(100), What::End { client }),
                1 => self.act(at_ms + random.below(100), What::Reset { client }),
                2 => self.act(at_ms + random.below(100), What::Freeze { client }),
                _ => self.core.push(client),
            }
        }
    }

    /// What befalls whole hosts, their links, and time itself.
    fn draw_hosts(&mut self) {
        for host in 1..=u8::try_from(self.shape.hosts).expect("few") {
            let mut random = self.random.fork_at(2000 + u64::from(host));
            let faults: [(&str, What, Option<What>); 5] = [
                ("hold", What::Hold { host }, Some(What::Release { host })),
                ("hold", What::HoldDown { host }, Some(What::Release { host })),
                ("host pause", What::PauseHost { host }, Some(What::ResumeHost { host })),
                ("host vanish", What::VanishHost { host }, Some(What::ReviveHost { host })),
                ("host crash", What::CrashHost { host }, None),
            ];
            for (fault, what, undo) in faults {
                if random.chance(self.weight(fault), 500) {
                    let at_ms = random.below(self.heal_ms);
                    self.act(at_ms, what);
                    if let Some(undo) = undo {
                        self.act(at_ms + random.below(self.heal_ms), undo);
                    }
                }
            }
            if random.chance(self.weight("delay"), 500) {
                let most_ms = random.range(0..=self.links.most_latency_ms(self.rules));
                let at_ms = random.below(self.heal_ms);
                self.act(at_ms, What::Delay { host, most_ms });
            }
        }
    }

    fn draw_server(&mut self) {
        let mut random = self.random.fork("server");
        if random.chance(self.weight("accept error"), 100) {
            for _ in 0..random.range(1..=6) {
                let errno = *random.pick(&[24, 23, 105, 12, 103]);
                let at_ms = random.below(self.heal_ms);
                self.act(at_ms, What::AcceptError { errno });
            }
        }
        if random.chance(self.weight("jump"), 400) {
            let at_ms = random.below(self.heal_ms);
            self.act(at_ms, What::Jump { ms: *random.pick(&[1, 100, 3000, 70_000]) });
        }
        // A server that ends takes everyone with it: nobody is left to be healed but who comes later.
        for (fault, what) in [("crash", What::Crash), ("stop", What::Stop), ("stop", What::Stop)] {
            if random.chance(self.weight(fault), 300) {
                let at_ms = random.below(self.heal_ms);
                let again_ms = at_ms + random.range(1..=3000);
                self.act(at_ms, what);
                self.act(again_ms, What::Restart);
                let client = self.connect(&mut random, at_ms + 1, 1);
                self.act(at_ms + 2, What::Send { client, text: Text::Lines { first: 0, count: 1, filling: 0 } });
                let is_late = |act: &&Act| matches!(act.what, What::Connect { .. }) && act.at_ms > again_ms;
                let late: Vec<_> = self.acts.iter().filter(is_late).filter_map(|act| act.what.client()).collect();
                self.core.retain(|client| late.contains(client));
            }
        }
    }

    /// What whoever keeps the server does: says something to all, removes members, bans hosts and lifts that again.
    fn draw_keeper(&mut self) {
        let mut random = self.random.fork("keeper");
        if random.chance(self.weight("announce"), 200) {
            for (number, text) in ANNOUNCED.iter().enumerate().take(random.index(ANNOUNCED.len()) + 1) {
                let at_ms = random.below(self.heal_ms);
                // No two say the same, so that one can be told from another.
                let text = if random.chance(1, 2) { (*text).to_owned() } else { format!("notice {number}") };
                self.act(at_ms, What::Announce { text });
            }
        }
        if random.chance(self.weight("kick"), 200) && self.clients > 0 {
            for _ in 0..random.range(1..=4) {
                let (at_ms, client) = (random.below(self.heal_ms), random.index(self.clients));
                self.act(at_ms, What::Kick { client });
            }
        }
        if random.chance(self.weight("ban"), 400) {
            let (at_ms, host) = (random.below(self.heal_ms), self.draw_host(&mut random));
            self.act(at_ms, What::Ban { host });
            self.act(at_ms + random.below(self.heal_ms), What::Unban { host });
        }
    }
}

/// What whoever keeps the server says: some of it would be taken for what members say, or the server.
const ANNOUNCED: [&str; 6] =
    ["back at noon", "10.1.0.1:40000: hello", "joined", "2 joined, 1 left", "", "\u{1b}[2J\n-- x"];

/// The word in one of its spellings: the letters that are capital are the bits of the number.
fn cased(word: &str, number: usize) -> String {
    let letters = word.chars().enumerate();
    letters.map(|(at, letter)| if number >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter }).collect()
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("numbers of a plan are small")
}
