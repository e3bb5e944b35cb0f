//! The network as a state machine: it knows no runtime, time comes in as an argument, and whom to wake goes out as a list.
//!
//! One direction of a connection is one queue of bytes with four places in it, `taken <= delivered <= sent <= written`: the
//! receiver has read up to `taken` and could read up to `delivered`; up to `sent` the bytes are under way, up to `written` they
//! wait in the sender's buffer. The sender knows what was delivered (`acked`) and how far it may send (`limit`) from what the
//! other direction brings it: at once, but never through a link that is frozen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::io::ReadBuf;

use super::trace::{Event, Trace, What};
use super::{Odds, Options, Side};
use crate::random::Random;

mod faults;
mod timers;

/// A connection, by the order in which they were asked for.
pub(super) type Id = u32;

/// Where a timer stands in the order of timers.
type Key = (Duration, u64);

/// Linux's `ip_local_port_range`.
const PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// After six repetitions Linux gives up connecting (tcp(7), `tcp_syn_retries`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// What a read came to.
pub(super) enum Got {
    /// It is to panic.
    Panic,
    /// The buffer has what there was; nothing is the end.
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packet {
    Syn,
    SynAck,
    Refusal,
    /// Bytes up to this place.
    Data(usize),
    Fin,
    Rst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Something that a side sent arrives.
    Arrival(Id, Side),
    /// A side has waited for the other to take something.
    User(Id, Side),
    /// A side has heard nothing.
    Keepalive(Id, Side),
    /// A client has waited for an answer.
    Connect(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Waits,
    Done,
    Failed(ErrorKind),
}

/// One side of a connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a socket's flags, each independent of the others")]
struct End {
    addr: SocketAddr,
    options: Options,
    /// A stream holds it, or a listener's queue does.
    is_open: bool,
    /// It lost its power, or all that could reach it: nothing comes to it or from it.
    is_lost: bool,
    /// It was reset, or gave up.
    is_dead: bool,
    /// It has ended its output.
    is_shut: bool,
    /// The end of input has come.
    is_ended: bool,
    error: Option<ErrorKind>,
    heard_at: Duration,
    probes: u32,
    reader: Option<Waker>,
    writer: Option<Waker>,
    write_fault: Option<ErrorKind>,
    read_fault: Option<ErrorKind>,
    panics: bool,
    user_timer: Option<Key>,
    keepalive_timer: Option<Key>,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    None,
    Due,
    Sent,
}

/// What one side sends.
#[derive(Debug)]
struct Pipe {
    /// From `taken` to `written`.
    bytes: VecDeque<u8>,
    taken: usize,
    delivered: usize,
    sent: usize,
    written: usize,
    acked: usize,
    limit: usize,
    /// Since when nothing was acknowledged though something waits for it.
    stuck_since: Duration,
    fin: Fin,
    /// Something went into the void.
    is_missed: bool,
    flight: VecDeque<(Duration, Packet)>,
    due_last: Duration,
    latency_ms: RangeInclusive<u64>,
    is_frozen: bool,
    is_link_frozen: bool,
    timer: Option<Key>,
}

impl Pipe {
    const fn is_still(&self) -> bool {
        self.is_frozen || self.is_link_frozen
    }

    /// Invariant: taken <= delivered <= sent <= written, acked <= delivered, and the queue holds what lies between the outer two.
    fn check(&self) {
        debug_assert!(self.taken <= self.delivered);
        debug_assert!(self.delivered <= self.sent);
        debug_assert!(self.sent <= self.written);
        debug_assert!(self.acked <= self.delivered);
        debug_assert_eq!(self.bytes.len(), self.written - self.taken);
    }
}

#[derive(Debug)]
struct Conn {
    opening: Opening,
    connect_timer: Option<Key>,
    ends: [End; 2],
    pipes: [Pipe; 2],
}

#[derive(Debug)]
struct Queue {
    backlog: usize,
    options: Options,
    /// Connected, to be accepted.
    ready: VecDeque<Id>,
    /// Asked for; there was no room.
    waiting: VecDeque<Id>,
    faults: VecDeque<io::Error>,
    acceptor: Option<Waker>,
}

/// Many times what the busiest of plans asks in one instant.
const ASKED_MAX: u64 = 20_000_000;

/// A whole network.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Duration,
    /// How often anything has been asked of the network since time last went on.
    asked: u64,
    pub(super) trace: Trace,
    /// Whom to wake once the lock is released.
    pub(super) wakes: Vec<Waker>,
    /// What must not be dropped under the lock: a waker may be the last to hold a task.
    pub(super) trash: Vec<Waker>,
    pub(super) options: Options,
    pub(super) connect_timeout: Duration,
    random: Random,
    conns: Vec<Option<Box<Conn>>>,
    live: usize,
    listeners: BTreeMap<SocketAddr, Queue>,
    timers: BTreeMap<Key, Timer>,
    timer_serial: u64,
    ports: BTreeMap<IpAddr, u16>,
    taken_addrs: BTreeSet<SocketAddr>,
    latency_ms: RangeInclusive<u64>,
    link_latency_ms: BTreeMap<(IpAddr, IpAddr), RangeInclusive<u64>>,
    frozen: BTreeSet<(IpAddr, IpAddr)>,
    isolated: BTreeSet<IpAddr>,
    vanished: BTreeSet<IpAddr>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            asked: 0,
            trace: Trace::default(),
            wakes: Vec::new(),
            trash: Vec::new(),
            options: Options::default(),
            connect_timeout: CONNECT_TIMEOUT,
            random: Random::new(seed).fork("simnet"),
            conns: Vec::new(),
            live: 0,
            listeners: BTreeMap::new(),
            timers: BTreeMap::new(),
            timer_serial: 0,
            ports: BTreeMap::new(),
            taken_addrs: BTreeSet::new(),
            latency_ms: 0..=0,
            link_latency_ms: BTreeMap::new(),
            frozen: BTreeSet::new(),
            isolated: BTreeSet::new(),
            vanished: BTreeSet::new(),
        }
    }

    /// Somebody asks something of the network at this time.
    ///
    /// # Panics
    ///
    /// When time has stood still for so long that somebody must be going round in circles: then the one that asks is likely it.
    pub(super) fn ask(&mut self, now: Duration) {
        if now > self.now {
            self.now = now;
            self.asked = 0;
        }
        self.asked += 1;
        if self.asked > ASKED_MAX {
            self.asked = 0;
            panic!("livelock: the network was asked {ASKED_MAX} things while no time passed");
        }
    }

    fn note(&mut self, what: What, id: Id, side: Side, bytes: usize) {
        self.trace.add(Event { at: self.now, what, connection: Some(id), side, bytes });
    }

    fn note_listener(&mut self, what: What) {
        self.trace.add(Event { at: self.now, what, connection: None, side: Side::Server, bytes: 0 });
    }

    fn conn(&mut self, id: Id) -> Option<&mut Conn> {
        self.conns[id as usize].as_deref_mut()
    }

    /// A connection that somebody holds.
    fn held(&mut self, id: Id) -> &mut Conn {
        self.conn(id).expect("a connection lives while a stream of it does")
    }

    pub(super) const fn live(&self) -> usize {
        self.live
    }

    pub(super) fn is_live(&self, id: Id) -> bool {
        self.conns[id as usize].is_some()
    }

    fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        let live: Vec<Id> = (0..).zip(&self.conns).filter_map(|(id, conn)| conn.as_ref().map(|_| id)).collect();
        live.into_iter()
    }

    pub(super) fn live_ids(&self) -> Vec<Id> {
        self.ids().collect()
    }

    pub(super) fn addr(&self, id: Id, side: Side) -> Option<SocketAddr> {
        self.conns[id as usize].as_ref().map(|conn| conn.ends[side as usize].addr)
    }

    // Listening and connecting.

    pub(super) fn listen(&mut self, addr: SocketAddr, backlog: usize, options: Options) -> io::Result<SocketAddr> {
        let addr = if addr.port() == 0 { SocketAddr::new(addr.ip(), self.port(addr.ip())) } else { addr };
        if self.listeners.contains_key(&addr) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let (ready, waiting, faults) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        self.listeners.insert(addr, Queue { backlog: backlog.max(1), options, ready, waiting, faults, acceptor: None });
        self.note_listener(What::Listens);
        self.trace.add_addr(addr);
        Ok(addr)
    }

    pub(super) fn close_listener(&mut self, addr: SocketAddr) {
        let Some(queue) = self.listeners.remove(&addr) else { return };
        self.trash.extend(queue.acceptor);
        for id in queue.ready {
            self.abort(id, Side::Server);
        }
        for id in queue.waiting {
            if self.is_live(id) {
                self.push(id, Side::Server, Packet::Refusal);
            }
        }
    }

    pub(super) fn fail_accept(&mut self, addr: SocketAddr, error: io::Error) {
        if let Some(queue) = self.listeners.get_mut(&addr) {
            queue.faults.push_back(error);
            self.wakes.extend(queue.acceptor.take());
        }
    }

    pub(super) fn poll_accept(
        &mut self,
        addr: SocketAddr,
        waker: &Waker,
    ) -> Poll<io::Result<(Id, SocketAddr, SocketAddr)>> {
        let queue = self.listeners.get_mut(&addr).expect("a listener lives as long as its handle");
        if let Some(error) = queue.faults.pop_front() {
            self.note_listener(What::AcceptFault);
            return Poll::Ready(Err(error));
        }
        let Some(id) = queue.ready.pop_front() else {
            if let Some(old) = queue.acceptor.replace(waker.clone()) {
                self.trash.push(old);
            }
            return Poll::Pending;
        };
        let waited = queue.waiting.pop_front();
        self.note(What::Accepted, id, Side::Server, 0);
        if let Some(waited) = waited
            && self.is_live(waited)
        {
            self.on_syn(waited);
        }
        let [client, server] = &self.held(id).ends;
        Poll::Ready(Ok((id, server.addr, client.addr)))
    }

    fn port(&mut self, ip: IpAddr) -> u16 {
        let last = self.ports.get(&ip).copied().unwrap_or(*PORTS.end());
        let mut port = last;
        loop {
            port = if port >= *PORTS.end() { *PORTS.start() } else { port + 1 };
            let addr = SocketAddr::new(ip, port);
            if (!self.taken_addrs.contains(&addr) && !self.listeners.contains_key(&addr)) || port == last {
                self.ports.insert(ip, port);
                return port;
            }
        }
    }

    pub(super) fn connect(&mut self, from: IpAddr, to: SocketAddr, options: Options) -> (Id, SocketAddr) {
        let id = Id::try_from(self.conns.len()).expect("fewer than four billion connections");
        let from = SocketAddr::new(from, self.port(from));
        self.taken_addrs.insert(from);
        let random = self.random.fork_at(u64::from(id));
        let end = |addr: SocketAddr, side: Side, is_lost| End {
            addr,
            options,
            is_open: side == Side::Client,
            is_lost,
            is_dead: false,
            is_shut: false,
            is_ended: false,
            error: None,
            heard_at: self.now,
            probes: 0,
            reader: None,
            writer: None,
            write_fault: None,
            read_fault: None,
            panics: false,
            user_timer: None,
            keepalive_timer: None,
            random: random.fork_at(side as u64),
        };
        let pipe = |from: IpAddr, to: IpAddr| Pipe {
            bytes: VecDeque::new(),
            taken: 0,
            delivered: 0,
            sent: 0,
            written: 0,
            acked: 0,
            limit: 0,
            stuck_since: Duration::ZERO,
            fin: Fin::None,
            is_missed: false,
            flight: VecDeque::new(),
            due_last: Duration::ZERO,
            latency_ms: self.link_latency(from, to),
            is_frozen: false,
            is_link_frozen: self.is_link_frozen(from, to),
            timer: None,
        };
        let conn = Conn {
            opening: Opening::Waits,
            connect_timer: None,
            ends: [
                end(from, Side::Client, self.vanished.contains(&from.ip())),
                end(to, Side::Server, self.vanished.contains(&to.ip())),
            ],
            pipes: [pipe(from.ip(), to.ip()), pipe(to.ip(), from.ip())],
        };
        self.conns.push(Some(Box::new(conn)));
        self.live += 1;
        self.note(What::Connects, id, Side::Client, 0);
        self.trace.add_addr(from);
        self.trace.add_addr(to);
        self.push(id, Side::Client, Packet::Syn);
        if self.held(id).opening == Opening::Waits {
            let key = self.arm(self.now + self.connect_timeout, Timer::Connect(id));
            self.held(id).connect_timer = Some(key);
        }
        (id, from)
    }

    pub(super) fn poll_connect(&mut self, id: Id, waker: &Waker) -> Poll<io::Result<()>> {
        let conn = self.held(id);
        match conn.opening {
            Opening::Done => Poll::Ready(Ok(())),
            Opening::Failed(kind) => Poll::Ready(Err(kind.into())),
            Opening::Waits => {
                let old = conn.ends[Side::Client as usize].reader.replace(waker.clone());
                self.trash.extend(old);
                Poll::Pending
            }
        }
    }

    fn on_syn(&mut self, id: Id) {
        let addr = self.held(id).ends[Side::Server as usize].addr;
        let any = if addr.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
        let heard = if self.listeners.contains_key(&addr) { addr } else { SocketAddr::new(any, addr.port()) };
        let Some(queue) = self.listeners.get_mut(&heard) else {
            self.push(id, Side::Server, Packet::Refusal);
            return;
        };
        if queue.ready.len() == queue.backlog {
            queue.waiting.push_back(id);
            self.note(What::Queued, id, Side::Server, 0);
            return;
        }
        queue.ready.push_back(id);
        let options = queue.options;
        let acceptor = queue.acceptor.take();
        self.wakes.extend(acceptor);
        let conn = self.held(id);
        let limits = [options.receive_bytes, conn.ends[Side::Client as usize].options.receive_bytes];
        for (pipe, limit) in conn.pipes.iter_mut().zip(limits) {
            pipe.limit = limit;
        }
        let server = &mut conn.ends[Side::Server as usize];
        server.options = options;
        server.is_open = true;
        self.arm_keepalive(id, Side::Server);
        self.push(id, Side::Server, Packet::SynAck);
    }

    // Streams.

    pub(super) fn poll_write(
        &mut self,
        id: Id,
        side: Side,
        slices: &[IoSlice<'_>],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let end = &mut self.held(id).ends[side as usize];
        if let Some(kind) = end.write_fault.take() {
            self.note(What::WriteFault, id, side, 0);
            return Poll::Ready(Err(kind.into()));
        }
        if end.error.is_some() || end.is_shut || end.is_dead {
            let kind = end.error.take().unwrap_or(ErrorKind::BrokenPipe);
            return Poll::Ready(Err(kind.into()));
        }
        if self.is_spurious(id, side) {
            self.wakes.push(waker.clone());
            return Poll::Pending;
        }
        let conn = self.held(id);
        let (end, pipe) = (&mut conn.ends[side as usize], &mut conn.pipes[side as usize]);
        let space = end.options.send_bytes.saturating_sub(pipe.written - pipe.acked);
        if space == 0 {
            let old = park(&mut end.writer, waker);
            self.trash.extend(old);
            self.note(What::Blocked, id, side, 0);
            return Poll::Pending;
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let most = chop(end, space.min(wanted));
        let was_all_acked = pipe.written == pipe.acked;
        let mut rest = most;
        for slice in slices {
            let taken = &slice[..slice.len().min(rest)];
            pipe.bytes.extend(taken);
            rest -= taken.len();
        }
        pipe.written += most;
        pipe.check();
        let (user_timeout, is_armed) = (end.options.user_timeout, end.user_timer.is_some());
        if most < space.min(wanted) {
            self.note(What::Short, id, side, most);
        }
        self.note(What::Wrote, id, side, most);
        let mut rest = most;
        for slice in slices {
            let taken = &slice[..slice.len().min(rest)];
            self.trace.add_sent(taken);
            rest -= taken.len();
        }
        if was_all_acked {
            self.held(id).pipes[side as usize].stuck_since = self.now;
        }
        self.pump(id, side);
        if let (Some(limit), false) = (user_timeout, is_armed)
            && let Some(conn) = self.conn(id)
            && conn.pipes[side as usize].written > conn.pipes[side as usize].acked
        {
            let at = conn.pipes[side as usize].stuck_since + limit;
            let key = self.arm(at, Timer::User(id, side));
            self.held(id).ends[side as usize].user_timer = Some(key);
        }
        Poll::Ready(Ok(most))
    }

    pub(super) fn poll_read(
        &mut self,
        id: Id,
        side: Side,
        buffer: &mut ReadBuf<'_>,
        waker: &Waker,
    ) -> Poll<io::Result<Got>> {
        let end = &mut self.held(id).ends[side as usize];
        if std::mem::take(&mut end.panics) {
            self.note(What::Panic, id, side, 0);
            return Poll::Ready(Ok(Got::Panic));
        }
        if let Some(kind) = end.read_fault.take() {
            self.note(What::ReadFault, id, side, 0);
            return Poll::Ready(Err(kind.into()));
        }
        if self.is_spurious(id, side) {
            // Whoever waited before, as who shook hands, is not the one that reads now: nobody awaits anything.
            let before = self.held(id).ends[side as usize].reader.take();
            self.wakes.extend(before);
            self.wakes.push(waker.clone());
            return Poll::Pending;
        }
        let conn = self.held(id);
        let (end, pipe) = (&mut conn.ends[side as usize], &mut conn.pipes[side.peer() as usize]);
        let ready = pipe.delivered - pipe.taken;
        if ready > 0 {
            let wanted = ready.min(buffer.remaining());
            if wanted == 0 {
                return Poll::Ready(Ok(Got::Bytes));
            }
            let most = chop(end, wanted);
            let (front, back) = pipe.bytes.as_slices();
            let first = &front[..front.len().min(most)];
            buffer.put_slice(first);
            buffer.put_slice(&back[..most - first.len()]);
            pipe.bytes.drain(..most);
            pipe.taken += most;
            pipe.check();
            if most < wanted {
                self.note(What::Short, id, side, most);
            }
            self.note(What::Read, id, side, most);
            self.sync(id, side.peer());
            return Poll::Ready(Ok(Got::Bytes));
        }
        // The order is Linux's: once the end of input was seen, no error is.
        if end.is_ended {
            return Poll::Ready(Ok(Got::Bytes));
        }
        if let Some(kind) = end.error.take() {
            return Poll::Ready(Err(kind.into()));
        }
        if end.is_dead {
            return Poll::Ready(Ok(Got::Bytes));
        }
        let old = park(&mut end.reader, waker);
        self.trash.extend(old);
        Poll::Pending
    }

    /// Whether somebody waits to read, and was not woken.
    pub(super) fn is_awaited(&mut self, id: Id, side: Side) -> bool {
        self.held(id).ends[side as usize].reader.is_some()
    }

    fn is_spurious(&mut self, id: Id, side: Side) -> bool {
        let end = &mut self.held(id).ends[side as usize];
        let Odds { hits, of } = end.options.spurious;
        let is_spurious = end.random.chance(hits, of);
        if is_spurious {
            self.note(What::Spurious, id, side, 0);
        }
        is_spurious
    }

    pub(super) fn shutdown(&mut self, id: Id, side: Side) {
        let conn = self.held(id);
        let (end, pipe) = (&mut conn.ends[side as usize], &mut conn.pipes[side as usize]);
        if end.is_shut || end.is_dead {
            return;
        }
        end.is_shut = true;
        pipe.fin = Fin::Due;
        let writer = end.writer.take();
        self.wakes.extend(writer);
        self.note(What::Fin, id, side, 0);
        self.pump(id, side);
    }

    /// The stream is gone: what it wrote is still sent, unless it left something unread.
    pub(super) fn close(&mut self, id: Id, side: Side) {
        // Connecting may have failed so that nothing is left of it.
        let Some(conn) = self.conn(id) else { return };
        let is_opening = conn.opening != Opening::Done;
        let incoming = &conn.pipes[side.peer() as usize];
        let is_unread = incoming.delivered > incoming.taken;
        let end = &mut conn.ends[side as usize];
        let wakers = [end.reader.take(), end.writer.take()];
        // Whoever gives up connecting sends nothing; an answer that comes all the same is reset.
        end.is_dead |= is_opening && side == Side::Client;
        let (is_dead, is_shut) = (end.is_dead, end.is_shut);
        self.trash.extend(wakers.into_iter().flatten());
        self.note(What::Dropped, id, side, 0);
        if !is_dead && is_unread {
            self.abort(id, side);
            return;
        }
        if !is_dead && !is_shut {
            self.shutdown(id, side);
        }
        if let Some(conn) = self.conn(id) {
            conn.ends[side as usize].is_open = false;
        }
        self.release(id);
    }

    /// Ends the connection with a reset towards the other side, and closes this one.
    pub(super) fn abort(&mut self, id: Id, side: Side) {
        let Some(conn) = self.conn(id) else { return };
        let end = &mut conn.ends[side as usize];
        end.is_open = false;
        let was_dead = std::mem::replace(&mut end.is_dead, true);
        let wakers = [end.reader.take(), end.writer.take()];
        self.trash.extend(wakers.into_iter().flatten());
        if !was_dead {
            self.send_rst(id, side);
        }
        self.release(id);
    }

    /// Forgets a connection that nobody holds any more.
    fn release(&mut self, id: Id) {
        let Some(conn) = self.conn(id) else { return };
        if conn.ends.iter().any(|end| end.is_open) {
            return;
        }
        let mut conn = self.conns[id as usize].take().expect("it was there");
        self.live -= 1;
        self.taken_addrs.remove(&conn.ends[Side::Client as usize].addr);
        self.disarm(conn.connect_timer);
        for (end, pipe) in conn.ends.iter_mut().zip(&conn.pipes) {
            self.disarm(end.user_timer);
            self.disarm(end.keepalive_timer);
            self.disarm(pipe.timer);
            self.trash.extend(end.reader.take());
            self.trash.extend(end.writer.take());
        }
    }

    // Motion.

    /// Puts under way what may be.
    fn pump(&mut self, id: Id, side: Side) {
        let Some(conn) = self.conn(id) else { return };
        let pipe = &mut conn.pipes[side as usize];
        if conn.ends[side as usize].is_dead {
            return;
        }
        let target = pipe.written.min(pipe.limit);
        if target > pipe.sent {
            pipe.sent = target;
            self.push(id, side, Packet::Data(target));
        }
        let Some(conn) = self.conn(id) else { return };
        let pipe = &mut conn.pipes[side as usize];
        if pipe.fin == Fin::Due && pipe.sent == pipe.written {
            pipe.fin = Fin::Sent;
            self.push(id, side, Packet::Fin);
        }
    }

    fn push(&mut self, id: Id, side: Side, packet: Packet) {
        let now = self.now;
        let conn = self.held(id);
        let (end, pipe) = (&mut conn.ends[side as usize], &mut conn.pipes[side as usize]);
        if end.is_lost {
            pipe.is_missed = true;
            self.note(What::Swallowed, id, side, 0);
            return;
        }
        let latency = Duration::from_millis(end.random.range(pipe.latency_ms.clone()));
        pipe.due_last = pipe.due_last.max(now + latency);
        pipe.flight.push_back((pipe.due_last, packet));
        self.advance(id, side);
    }

    /// Lets arrive what `side` sent, as far as it is due.
    fn advance(&mut self, id: Id, side: Side) {
        loop {
            let now = self.now;
            let Some(conn) = self.conn(id) else { return };
            let pipe = &mut conn.pipes[side as usize];
            if pipe.is_still() {
                return;
            }
            let Some(&(due, packet)) = pipe.flight.front() else { return };
            if due > now {
                if pipe.timer.is_none() {
                    let key = self.arm(due, Timer::Arrival(id, side));
                    self.held(id).pipes[side as usize].timer = Some(key);
                }
                return;
            }
            pipe.flight.pop_front();
            self.arrive(id, side, packet);
        }
    }

    /// Something that `from` sent is there.
    fn arrive(&mut self, id: Id, from: Side, packet: Packet) {
        let (now, at) = (self.now, from.peer());
        let conn = self.held(id);
        let (end, pipe) = (&mut conn.ends[at as usize], &mut conn.pipes[from as usize]);
        if end.is_lost {
            pipe.is_missed = true;
            self.note(What::Swallowed, id, at, 0);
            return;
        }
        end.heard_at = now;
        match packet {
            Packet::Syn => self.on_syn(id),
            Packet::SynAck | Packet::Refusal => self.on_answer(id, packet),
            Packet::Data(_) | Packet::Fin if end.is_dead => self.send_rst(id, at),
            Packet::Data(_) if !end.is_open => {
                end.is_dead = true;
                self.send_rst(id, at);
            }
            Packet::Data(to) => {
                let bytes = to - pipe.delivered;
                pipe.delivered = to;
                pipe.check();
                self.note(What::Arrived, id, at, bytes);
                self.wake(id, at, true, false);
                self.sync(id, from);
                self.wake_for_nothing(id, at);
            }
            Packet::Fin => {
                end.is_ended = true;
                self.note(What::FinArrived, id, at, 0);
                self.wake(id, at, true, false);
            }
            Packet::Rst => self.on_rst(id, at),
        }
    }

    fn on_answer(&mut self, id: Id, packet: Packet) {
        let conn = self.held(id);
        let timer = conn.connect_timer.take();
        let is_wanted = conn.opening == Opening::Waits && conn.ends[Side::Client as usize].is_open;
        if packet == Packet::SynAck && !is_wanted {
            self.disarm(timer);
            self.send_rst(id, Side::Client);
            return;
        }
        let (opening, what) = match packet {
            Packet::SynAck => (Opening::Done, What::Connected),
            _ => (Opening::Failed(ErrorKind::ConnectionRefused), What::Refused),
        };
        if is_wanted {
            conn.opening = opening;
        }
        self.disarm(timer);
        self.note(what, id, Side::Client, 0);
        if opening == Opening::Done {
            self.arm_keepalive(id, Side::Client);
        }
        self.wake(id, Side::Client, true, false);
    }

    fn on_rst(&mut self, id: Id, at: Side) {
        self.note(What::RstArrived, id, at, 0);
        let peer_is_ended = self.held(id).ends[at.peer() as usize].is_ended;
        let end = &mut self.held(id).ends[at as usize];
        let is_over = end.is_shut && end.is_ended && peer_is_ended;
        if std::mem::replace(&mut end.is_dead, true) || is_over {
            return;
        }
        // Linux, `tcp_reset`: in the state CLOSE_WAIT it is EPIPE.
        let kind = if end.is_ended && !end.is_shut { ErrorKind::BrokenPipe } else { ErrorKind::ConnectionReset };
        end.error = Some(kind);
        self.purge(id, at, true);
        self.wake(id, at, true, true);
    }

    /// Sends a reset; what is under way before it may be lost.
    fn send_rst(&mut self, id: Id, side: Side) {
        let conn = self.held(id);
        let (end, pipe) = (&mut conn.ends[side as usize], &conn.pipes[side as usize]);
        let loses = pipe.sent > pipe.delivered && end.random.chance(1, 2);
        let lost = pipe.sent - pipe.delivered;
        if loses {
            self.note(What::RstLost, id, side, lost);
        }
        self.note(What::Rst, id, side, 0);
        self.purge(id, side, loses);
        self.push(id, side, Packet::Rst);
    }

    /// Drops what `side` has not sent; with `in_flight` what is under way, too.
    fn purge(&mut self, id: Id, side: Side, in_flight: bool) {
        let now = self.now;
        let pipe = &mut self.held(id).pipes[side as usize];
        if in_flight {
            pipe.flight.retain(|(_, packet)| !matches!(packet, Packet::Data(_) | Packet::Fin));
            pipe.sent = pipe.delivered;
            pipe.due_last = pipe.flight.back().map_or(now, |&(due, _)| due);
        }
        pipe.written = pipe.sent;
        pipe.bytes.truncate(pipe.written - pipe.taken);
        if pipe.fin == Fin::Due {
            pipe.fin = Fin::None;
        }
        pipe.check();
    }

    /// Tells `side` what the other has received and taken of what it sent, if word of that can pass.
    fn sync(&mut self, id: Id, side: Side) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        if conn.pipes[side.peer() as usize].is_still() || conn.ends.iter().any(|end| end.is_lost) {
            return;
        }
        let window = conn.ends[side.peer() as usize].options.receive_bytes;
        let (end, pipe) = (&mut conn.ends[side as usize], &mut conn.pipes[side as usize]);
        let is_news = pipe.delivered > pipe.acked;
        if is_news {
            pipe.acked = pipe.delivered;
            pipe.stuck_since = now;
        }
        // A window does not shrink.
        pipe.limit = pipe.limit.max(pipe.taken + window);
        end.heard_at = now;
        let has_space = end.options.send_bytes > pipe.written - pipe.acked;
        if has_space {
            self.wake(id, side, false, true);
        }
        self.pump(id, side);
    }

    fn wake(&mut self, id: Id, side: Side, reader: bool, writer: bool) {
        let Some(conn) = self.conns[id as usize].as_deref_mut() else { return };
        let end = &mut conn.ends[side as usize];
        if reader {
            self.wakes.extend(end.reader.take());
        }
        if writer {
            self.wakes.extend(end.writer.take());
        }
    }

    /// Wakes whoever is parked at `side`, now and then, though nothing is there for it.
    fn wake_for_nothing(&mut self, id: Id, side: Side) {
        let Some(conn) = self.conn(id) else { return };
        let end = &mut conn.ends[side as usize];
        let Odds { hits, of } = end.options.spurious;
        if end.writer.is_some() && end.random.chance(hits, of) {
            self.note(What::Spurious, id, side, 0);
            self.wake(id, side, false, true);
        }
    }
}

/// Parks a task; returns a waker to drop outside the lock.
fn park(place: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    if place.as_ref().is_some_and(|parked| parked.will_wake(waker)) { None } else { place.replace(waker.clone()) }
}

/// How many of `most` bytes are moved at once.
fn chop(end: &mut End, most: usize) -> usize {
    let chop = end.options.chop;
    if end.random.chance(chop.odds.hits, chop.odds.of) {
        1 + end.random.index(most.min(chop.bytes_max.max(1)))
    } else {
        most
    }
}
