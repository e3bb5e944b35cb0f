//! A room: one log, those who wait, and the roster, behind one lock. The lock is the order.
//!
//! Entering, saying, renaming and leaving are short operations under it; reading is a share of the log taken under it and
//! written without it. Nothing formats foreign input, writes to a stream or wakes a task while it is held.
//!
//! Whoever wants to add to the sequence first gets a [`Turn`]: the promise that the backlog has a place for one turn's
//! bytes. It is held for the length of one poll and makes saying itself infallible, so that nothing that was read from a
//! connection is ever formatted and then refused. Senders get turns first come, first served. A departure needs none.
//!
//! When the backlog is full and somebody waits for a turn, the room *presses* the readers in its oldest segment: those
//! are *in the way*, and each judges its own [account](crate::patience) and asks to be [let go](Member::let_go) when its
//! patience is spent. The room grants that only while it is still so.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use slab::Slab;
use smol_str::{SmolStr, format_smolstr};

use crate::announce::{Announcements, Introduction, Presence};
use crate::budget::{Allowance, Budget};
use crate::door::Door;
use crate::limits::{self, Flood, IpNet, Limits, NAME_CHARS_MAX, WHO_BYTES_MAX};
use crate::listen::{Origin, Peer};
use crate::log::{Batch, Log, Position};
use crate::name::{self, GUEST, Name};
use crate::notice::Lang;
use crate::session::{self, Wire};
use crate::site::Site;
use crate::sync::{Arc, Mutex};
use crate::totals::{Event, Events, Totals};
use crate::wait::{Readers, Senders, Ticket, Wakes};

/// WHO, as a member and the roster have it: an address, as most are, is held in place.
type Who = SmolStr;

/// One ordered sequence of lines and everyone in it. A clone is another handle to the same room.
///
/// ```
/// use unisono::{Limits, Room, Wire};
///
/// let room = Room::new(Limits::default(), Wire::default())?;
/// assert_eq!(room.tally().members, 0);
/// # Ok::<(), unisono::limits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Room {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// As they are by now: some may change. Apart from the state, as it is asked for without need of the order.
    limits_now: Mutex<Arc<Limits>>,
    wire: Wire,
    door: Door,
    budget: Arc<Budget>,
    events: Events,
    state: Mutex<State>,
}

/// The room has ended: nothing more is said in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the room is closed")]
pub struct Closed;

/// Another member has this name, or one that looks like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name is taken")]
pub struct Taken;

/// What there is for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The batch holds lines.
    Lines,
    /// It has everything that it will get: its own end, or the room's.
    End,
    /// Patience is zero, and it is a backlog behind: it shall be [let go](Member::let_go).
    InTheWay,
    /// Nothing yet, but soon: it shall ask again once everyone who is awake had a turn, as it is the last whom the others
    /// wait for, and what they say until then comes along. Not twice in a row, and only while much is said.
    Later,
}

/// What a reader loses that is let go.
#[derive(Debug, PartialEq, Eq)]
pub struct LetGo {
    /// Lines that it will not see.
    pub missed_lines: u64,
    /// The rest of the line that it has seen half of: still to be written, before anything else.
    pub torn: Vec<u8>,
}

/// The state of a room in numbers, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Who is in and has not placed its departure.
    pub members: usize,
    /// Connections that hold a place, entered or not.
    pub seats: usize,
    /// Bytes of the sequence that some reader has yet to pass.
    pub held_bytes: usize,
    /// Bytes of the shared total for partial lines that are taken.
    pub partial_bytes: usize,
    /// Senders parked on a full backlog.
    pub senders_parked: usize,
    /// Bytes said so far.
    pub said_bytes: u64,
    /// How often a reader was let go.
    pub let_gos: u64,
    /// Lines that were missed so, over all readers.
    pub missed_lines: u64,
}

/// One who is there, as the keeper of a room sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// What it is called.
    pub who: String,
    /// Where it comes from, unless from this machine by itself.
    pub site: Option<Site>,
}

/// Why something was not [announced](Room::announce).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnnounced {
    /// The room has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// It is longer than what a member may say.
    #[error("it must have at most {line_bytes_max} bytes")]
    TooLong {
        /// The longest that it may be.
        line_bytes_max: usize,
    },
}

/// Somebody who is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom<'a> {
    /// Who is called so.
    Who(&'a str),
    /// Whoever comes from there, as far as a [`Site`] tells.
    From(IpNet),
}

impl Whom<'_> {
    fn is(self, seat: &Seat) -> bool {
        match self {
            // What waits to be announced has a place, and is called nothing.
            Self::Who(who) => seat.who == who && !who.is_empty(),
            Self::From(prefix) => seat.site.is_some_and(|site| site.is_within(prefix)),
        }
    }
}

#[derive(Debug)]
struct State {
    log: Log,
    seats: Slab<Seat>,
    /// Who has which name, by the two forms under which each is unique.
    names: BTreeMap<String, usize>,
    readers: Readers,
    senders: Senders,
    /// Bytes promised to turns that are out.
    reserved_bytes: usize,
    backlog_bytes: usize,
    /// Readers before this are in the way: the end of the oldest segment while the backlog is full and a sender waits for
    /// it, else zero.
    pressed_until: Position,
    /// Where the head was when the last sweep began. Whoever is parked has got everything up to there.
    swept_until: Position,
    prompt_bytes: u64,
    is_open: bool,
    announcements: Announcements,
    /// Woken by the end: those who do not ask to enter yet.
    outside: BTreeMap<usize, Waker>,
    /// Woken when the last seat goes.
    when_empty: Option<Waker>,
    /// How many numbers were given to guests.
    guests: u64,
    members: usize,
    let_gos: u64,
    missed_lines: u64,
    said_lines: u64,
    delivered_bytes: u64,
    sample: Option<Sample>,
}

/// A line that is followed until everyone has it who can take it.
#[derive(Debug)]
enum Sample {
    /// The next that is said: these are woken when it is, and when all have it.
    Next { said: Waker, seen: Waker },
    /// One that ends here.
    Under(Position, Waker),
}

#[derive(Debug)]
struct Seat {
    who: Who,
    /// The name's keys in `State::names`, if it took one.
    name_keys: Option<Box<[String; 2]>>,
    /// Its place in the queue of senders.
    ticket: Option<Ticket>,
    /// `None` before it has entered and when it reads no more.
    reader: Option<Reader>,
    presence: Presence,
    /// Where it comes from, unless from this machine by itself.
    site: Option<Site>,
    /// It has proved who it is, or is of this machine: it needs no password.
    is_known: bool,
    /// It was removed: it adds nothing more and reads nothing more, and has to be told.
    is_removed: bool,
}

/// What is known of who comes, apart from what it is called.
#[derive(Clone, Copy, Debug, Default)]
struct Comer {
    /// As in [`Seat`].
    site: Option<Site>,
    is_known: bool,
}

impl Seat {
    /// One that has not entered.
    fn new(who: Who, Comer { site, is_known }: Comer) -> Self {
        Self {
            who,
            name_keys: None,
            ticket: None,
            reader: None,
            presence: Presence::Coming,
            site,
            is_known,
            is_removed: false,
        }
    }
}

/// Law: tail <= cursor <= head, and cursor <= end.
#[derive(Debug)]
struct Reader {
    cursor: Position,
    /// Where it ends, once its departure is placed.
    end: Option<Position>,
    is: Is,
    /// Woken by the sweep under way, and not heard of since.
    owes: bool,
    /// It was the last to owe, and comes again: then the next sweep begins.
    is_last: bool,
}

impl Reader {
    /// Its waker, if it was blocked; it is awake then.
    fn unblock(&mut self) -> Option<Waker> {
        match std::mem::replace(&mut self.is, Is::Awake) {
            Is::Blocked(waker) => Some(*waker),
            other => {
                self.is = other;
                None
            }
        }
    }
}

#[derive(Debug)]
enum Is {
    /// Its task runs or was woken.
    Awake,
    /// It waits at the end of what is published, at this index of the list.
    Parked(usize),
    /// Its connection takes nothing; this wakes its task when it comes to be in the way. (Boxed, as everyone pays for what
    /// few hold.)
    Blocked(Box<Waker>),
}

impl Room {
    /// An empty room that is open to everyone.
    ///
    /// # Errors
    ///
    /// When the limits cannot work together, see [`Limits::check`].
    pub fn new(limits: Limits, wire: Wire) -> Result<Self, limits::Error> {
        Self::with_door(limits, wire, Door::default())
    }

    /// An empty room with a door.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_door(limits: Limits, wire: Wire, door: Door) -> Result<Self, limits::Error> {
        limits.check()?;
        let state = State {
            log: Log::new(limits.segment_bytes()),
            seats: Slab::new(),
            names: BTreeMap::new(),
            readers: Readers::default(),
            senders: Senders::default(),
            reserved_bytes: 0,
            backlog_bytes: limits.backlog_bytes,
            pressed_until: Position::default(),
            swept_until: Position::default(),
            prompt_bytes: limits.prompt_bytes as u64,
            is_open: true,
            announcements: Announcements::new(limits.announcements.filter(|_| !wire.plain)),
            outside: BTreeMap::new(),
            when_empty: None,
            guests: 0,
            members: 0,
            let_gos: 0,
            missed_lines: 0,
            said_lines: 0,
            delivered_bytes: 0,
            sample: None,
        };
        let budget = Budget::new(limits.partial_bytes_total);
        let limits_now = Mutex::new(Arc::new(limits.clone()));
        Ok(Self {
            shared: Arc::new(Shared {
                limits,
                limits_now,
                wire,
                door,
                budget,
                events: Events::default(),
                state: Mutex::new(state),
            }),
        })
    }

    /// Its numbers, as it was made with them.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Its numbers as they are by now, see [`change_limits`](Self::change_limits).
    pub fn limits_now(&self) -> Arc<Limits> {
        Arc::clone(&self.shared.limits_now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// [`Limits::flood`] as it is by now.
    pub(crate) fn flood_now(&self) -> Option<Flood> {
        self.shared.limits_now.lock().unwrap_or_else(PoisonError::into_inner).flood
    }

    /// Takes over from `limits` what may change while the room is open: [`Limits::flood`], [`Limits::connect_rate`] and
    /// [`Limits::trusted`]. Who comes from now on is measured by them. Who is in keeps its standing, and is measured by a new
    /// `flood` once it has been quiet for a while. So it is with [`Limits::announcements`] in a room that was made with some, of
    /// which a period begins; in others nobody may be there to end it.
    ///
    /// # Errors
    ///
    /// When those cannot work, see [`Limits::check`]; nothing has changed then.
    pub fn change_limits(&self, limits: &Limits) -> Result<(), limits::Error> {
        let changed = Limits {
            flood: limits.flood,
            connect_rate: limits.connect_rate,
            trusted: limits.trusted.clone(),
            announcements: self.shared.limits.announcements.and(limits.announcements),
            ..self.shared.limits.clone()
        };
        changed.check()?;
        let announcements = changed.announcements.filter(|_| !self.shared.wire.plain);
        let _broken = self.shared.change_unless_broken(|state, _| state.announcements.change(announcements));
        *self.shared.limits_now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(changed);
        Ok(())
    }

    /// How it speaks.
    pub fn wire(&self) -> Wire {
        self.shared.wire
    }

    /// Who is let into it.
    pub fn door(&self) -> &Door {
        &self.shared.door
    }

    /// A place for a connection that has not entered yet, from this address: the next guest, if addresses are not shown.
    pub fn seat(&self, address: &str) -> Member {
        self.seat_at(address, Comer::default())
    }

    fn seat_at(&self, address: &str, comer: Comer) -> Member {
        let address = Who::from(address);
        let (key, who) = self.shared.change(|state, _| {
            let who = match self.shared.wire.who {
                session::Who::Address => address,
                session::Who::Guest => {
                    state.guests += 1;
                    format_smolstr!("{GUEST}{}", state.guests)
                }
            };
            (state.seats.insert(Seat::new(Who::clone(&who), comer)), who)
        });
        Member { room: self.clone(), key, who }
    }

    /// A place for who has a name from the beginning, which nobody else can take while it is there. Whoever comes by the same name
    /// meanwhile, or by one that looks alike, gets it with a number: `bob-2`.
    pub fn seat_named(&self, name: &str) -> Member {
        self.seat_numbered(name, Comer::default())
    }

    fn seat_numbered(&self, name: &str, comer: Comer) -> Member {
        loop {
            // Each search is by doubling and halving, as many may have come by one name; and again if another was faster.
            let is_free = |number| {
                let keys = name::word_keys(&numbered(name, number));
                self.shared.change(|state, _| !keys.iter().any(|key| state.names.contains_key(key)))
            };
            let (mut taken, mut free) = (0, 1);
            while !is_free(free) {
                (taken, free) = (free, 2 * free);
            }
            while free - taken > 1 {
                let middle = taken.midpoint(free);
                *if is_free(middle) { &mut free } else { &mut taken } = middle;
            }
            if let Some(member) = self.claim(&numbered(name, free), comer) {
                return member;
            }
        }
    }

    /// A place by just this name, if nobody has it.
    fn claim(&self, name: &str, comer: Comer) -> Option<Member> {
        let who = Who::from(name);
        let name_keys = Box::new(name::word_keys(name));
        let key = self.shared.change(|state, _| {
            if name_keys.iter().any(|name_key| state.names.contains_key(name_key)) {
                return None;
            }
            let key = state.seats.insert(Seat::new(Who::clone(&who), comer));
            for name_key in &*name_keys {
                state.names.insert(name_key.clone(), key);
            }
            state.seats[key].name_keys = Some(name_keys);
            Some(key)
        })?;
        Some(Member { room: self.clone(), key, who })
    }

    /// A place for a connection from `peer`: by the name that it has proved, by what is known of it, or as the next guest.
    pub(crate) fn seat_peer(&self, peer: &Peer) -> Member {
        let site = peer.site();
        let comer = Comer { site, is_known: peer.name.is_some() || site.is_none() };
        match (&peer.name, peer.origin, self.shared.wire.who) {
            (Some(name), ..) => self.seat_numbered(name.as_str(), comer),
            // An address is its own only, while several connections may be of one process.
            (None, Origin::Local { .. }, session::Who::Address) => self.seat_numbered(&peer.origin.to_string(), comer),
            (None, origin, _) => self.seat_at(&origin.to_string(), comer),
        }
    }

    /// Ends the room: nothing more is said, everyone reads on to the head and then finds its end. No departures are told.
    /// Nothing on a second call, or when the room is [broken](Self::is_broken).
    pub fn close(&self) {
        if self.is_broken() {
            return;
        }
        self.shared.change(|state, wakes| {
            if !std::mem::take(&mut state.is_open) {
                return;
            }
            state.sweep(wakes);
            state.senders.wake_all(wakes);
            for waker in std::mem::take(&mut state.outside).into_values() {
                wakes.push(waker);
            }
            state.announcements.wake_announcer(wakes);
            let readers = state.seats.iter_mut().filter_map(|(_, seat)| seat.reader.as_mut());
            for waker in readers.filter_map(Reader::unblock) {
                wakes.push(waker);
            }
        });
    }

    /// Waits until something of the budget of [announcements](crate::Limits::announcements) is spent: then a period of it has
    /// begun, and somebody has to [end](Self::turn_period) it in its time. For one task; the waker of the last poll is remembered.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the room has ended or is [broken](Self::is_broken).
    pub fn poll_spent(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let polled = self.shared.change_unless_broken(|state, _| {
            if !state.is_open {
                return Poll::Ready(Err(Closed));
            }
            if state.announcements.is_spent() {
                return Poll::Ready(Ok(()));
            }
            state.announcements.park(cx.waker());
            Poll::Pending
        });
        polled.unwrap_or(Poll::Ready(Err(Closed)))
    }

    /// Ends a period of the budget of [announcements](crate::Limits::announcements): as many arrivals and departures as ever are
    /// told by name in the next one. Tells in one line how many were counted, if any, and if the room is not full; else a later
    /// period does. Nothing in a room that has ended or is [broken](Self::is_broken).
    pub fn turn_period(&self) {
        let lang = self.shared.wire.lang;
        let _broken = self.shared.change_unless_broken(|state, wakes| {
            state.announcements.refill();
            if state.is_open
                && !state.is_full()
                && let Some(counts) = state.announcements.take_counts()
            {
                let mut line = Vec::new();
                lang.counted(counts.joined, counts.left, &mut line);
                state.append(&line, wakes);
            }
        });
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.shared.change(|state, _| !state.is_open)
    }

    /// Whether a panic under the room's lock has made its order untrustworthy. Every further use of it panics.
    pub fn is_broken(&self) -> bool {
        self.shared.state.lock().is_err()
    }

    /// Its numbers at this moment.
    pub fn tally(&self) -> Tally {
        // Numbers can be read of a broken room, too.
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        Tally {
            members: state.members,
            seats: state.seats.len(),
            held_bytes: state.log.held_bytes(),
            partial_bytes: self.shared.budget.taken_bytes(),
            senders_parked: state.senders.len(),
            said_bytes: state.log.head().bytes_since(Position::default()),
            let_gos: state.let_gos,
            missed_lines: state.missed_lines,
        }
    }

    /// What has happened in it so far.
    pub fn totals(&self) -> Totals {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (said_lines, delivered_bytes) = (state.said_lines, state.delivered_bytes);
        drop(state);
        Totals { said_lines, delivered_bytes, events: self.shared.events.counts() }
    }

    /// Counts what has happened to a connection.
    pub(crate) fn count(&self, event: Event) {
        self.shared.events.count(event);
    }

    /// Follows the next line that is put into the sequence: wakes `said` as it is, and `seen` once everyone has written it or
    /// cannot: who takes nothing is not waited for, who is so far behind that it yields amid its writing neither, nor who comes
    /// later. Of two at a time the later stands.
    ///
    /// The wakers are woken where that happens, so they may stamp the time. Nothing is paid for while no line is followed.
    pub fn follow_next_line(&self, said: Waker, seen: Waker) {
        self.shared.change(|state, _| state.sample = Some(Sample::Next { said, seen }));
    }

    /// Panics under the lock, as no code of ours should.
    #[cfg(test)]
    pub(crate) fn break_order(&self) {
        let shared = &self.shared;
        let broke = std::panic::AssertUnwindSafe(|| shared.change(|_, _| panic!("a planted panic under the lock")));
        std::panic::catch_unwind(broke).expect_err("it panics");
    }

    /// Ends `whom`, whoever that is of those who are there or on their way in; returns how many. The departure of each is placed here
    /// and now. It reads nothing more, not even what it had coming, and says nothing more; whatever it waits for, it is woken.
    pub fn remove(&self, whom: Whom<'_>) -> usize {
        let is_meant = |seat: &Seat| !seat.is_removed && whom.is(seat);
        let keys: Vec<usize> = self.shared.change(|state, _| {
            let seats = state.seats.iter().filter(|(_, seat)| is_meant(seat));
            seats.map(|(key, _)| key).collect()
        });
        let mut removed = 0;
        for key in keys {
            // Others have their say between two of them; this one may have left by now, or taken another name.
            self.shared.change(|state, wakes| {
                if let Some(seat) = state.seats.get(key).filter(|seat| state.is_open && is_meant(seat)) {
                    let departure = self.departure(&seat.who);
                    state.remove(key, &departure, wakes);
                    removed += 1;
                }
            });
        }
        removed
    }

    /// A slice of the roster: up to `count` members from place `from` on, and the place to go on from, if any is left. Who enters or
    /// leaves between two slices may be in the list or not; everyone else is, once.
    pub fn present(&self, from: usize, count: usize) -> (Vec<Present>, Option<usize>) {
        let (here, next) = self.shared.change(|state, _| state.present(from, count));
        (here.into_iter().map(|(who, site)| Present { who: who.into(), site }).collect(), next)
    }

    /// Says something as the server, in a line of the sequence that no member can say: `-! ` and the text, cleaned. It waits for its
    /// turn as members do. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`NotAnnounced`]; nothing was said.
    pub async fn announce(&self, text: &[u8]) -> Result<(), NotAnnounced> {
        let line_bytes_max = self.shared.limits.line_bytes_max;
        if text.len() > line_bytes_max {
            return Err(NotAnnounced::TooLong { line_bytes_max });
        }
        let mut line = Vec::new();
        self.shared.wire.lang.announcement(text, &mut line);
        // A place in the queue is a seat's; this one never enters.
        let key = self.shared.change(|state, _| state.seats.insert(Seat::new(Who::default(), Comer::default())));
        let mut herald = Member { room: self.clone(), key, who: Who::default() };
        let _turn = poll_fn(|cx| herald.poll_turn(cx)).await?;
        self.shared.change(|state, wakes| {
            if !state.is_open {
                return Err(Closed.into());
            }
            state.append(&line, wakes);
            Ok(())
        })
    }

    /// Waits until nobody is there, nor on the way in or out. For one task; the waker of the last poll is remembered.
    pub fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.change(|state, _| {
            if state.seats.is_empty() {
                return Poll::Ready(());
            }
            state.when_empty = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn departure(&self, who: &str) -> Vec<u8> {
        let mut line = Vec::new();
        self.shared.wire.lang.departure(who, &mut line);
        line
    }

    /// A part of the memory that connections share, for a new one.
    pub(crate) fn allowance(&self) -> Allowance {
        Allowance::new(Arc::clone(&self.shared.budget))
    }
}

impl Shared {
    /// Makes one change to the room: under the lock, settled, and with the wake-ups that it owes after the lock.
    fn change<R>(&self, change: impl FnOnce(&mut State, &mut Wakes) -> R) -> R {
        self.change_unless_broken(change).expect("a panic under the room's lock ends the room")
    }

    /// As [`change`](Self::change), for what is dropped: a broken room has nobody left to tell, and this may be the very
    /// unwinding that broke it.
    fn change_unless_broken<R>(&self, change: impl FnOnce(&mut State, &mut Wakes) -> R) -> Option<R> {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock().ok()?;
        let result = change(&mut state, &mut wakes);
        state.settle(&mut wakes);
        drop(state);
        wakes.wake_all_after_unlock();
        Some(result)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.log.backlog_bytes() + self.reserved_bytes >= self.backlog_bytes
    }

    /// What follows from any change: the first sender is woken when there is room for it, and those in its way are pressed
    /// when there is not.
    fn settle(&mut self, wakes: &mut Wakes) {
        let mut pressed_until = Position::default();
        if self.is_open && !self.senders.is_empty() {
            if !self.is_full() {
                self.senders.wake_first(wakes);
            } else if self.log.backlog_bytes() >= self.backlog_bytes {
                pressed_until = self.log.oldest_end();
            }
        }
        if pressed_until > self.pressed_until {
            self.press(pressed_until, wakes);
        }
        self.pressed_until = pressed_until;
        self.see_sample(wakes);
        self.log.check();
        assert!(self.readers.are_sweeping() || self.log.published() == self.log.head(), "idle means published");
    }

    /// Whoever waits for the line that is followed learns that nobody is owed it any more: no sweep is under way, and one has
    /// begun since.
    fn see_sample(&mut self, wakes: &mut Wakes) {
        let swept_until = self.swept_until;
        let is_seen = |sample: &mut Sample| matches!(sample, Sample::Under(end, _) if *end <= swept_until);
        if !self.readers.are_sweeping()
            && let Some(Sample::Under(_, seen)) = self.sample.take_if(is_seen)
        {
            wakes.push(seen);
        }
    }

    /// Wakes the blocked readers before `until`: they are in the way. Nobody else is left behind by our own sweeping.
    fn press(&mut self, until: Position, wakes: &mut Wakes) {
        self.sweep_again(wakes);
        let readers = self.seats.iter_mut().filter_map(|(_, seat)| seat.reader.as_mut());
        for waker in readers.filter(|reader| reader.cursor < until).filter_map(Reader::unblock) {
            wakes.push(waker);
        }
    }

    fn append(&mut self, lines: &[u8], wakes: &mut Wakes) {
        self.log.append(lines);
        if let Some(sample) = self.sample.take_if(|sample| matches!(sample, Sample::Next { .. }))
            && let Sample::Next { said, seen } = sample
        {
            wakes.push(said);
            self.sample = Some(Sample::Under(self.log.head(), seen));
        }
        if !self.readers.are_sweeping() {
            self.sweep(wakes);
        } else if self.log.head().bytes_since(self.swept_until) <= self.prompt_bytes {
            // Those whom this sweep still waits for take it along; the next wakes the others.
            self.log.publish();
        }
    }

    /// Sweeps again if anything was said since the last sweep began, though that may be under way.
    fn sweep_again(&mut self, wakes: &mut Wakes) {
        if self.swept_until < self.log.head() {
            self.sweep(wakes);
        }
    }

    /// Publishes everything and wakes whoever is parked and behind.
    fn sweep(&mut self, wakes: &mut Wakes) {
        self.log.publish();
        self.swept_until = self.log.head();
        let Self { seats, readers, swept_until, is_open, .. } = self;
        readers.sweep(wakes, |key| {
            let reader = seats[key].reader.as_mut().expect("only readers park");
            // In a closed room there is an end to be found.
            let is_due = reader.cursor < *swept_until || !*is_open;
            if is_due {
                reader.is = Is::Awake;
                reader.owes = true;
            }
            is_due
        });
        for (index, key) in readers.parked().enumerate() {
            seats[key].reader.as_mut().expect("only readers park").is = Is::Parked(index);
        }
    }

    fn reader(&mut self, key: usize) -> &mut Reader {
        self.seats[key].reader.as_mut().expect("only readers read")
    }

    /// The reader is heard of: if it was the last that the sweep waited for, the next one begins.
    fn check_in(&mut self, key: usize, wakes: &mut Wakes) {
        let Some(reader) = &mut self.seats[key].reader else { return };
        reader.is_last = false;
        if std::mem::take(&mut reader.owes) {
            self.readers.check_in();
            if !self.readers.are_sweeping() {
                self.see_sample(wakes);
                self.sweep_again(wakes);
            }
        }
    }

    /// Whether this reader, who owes, shall come again before it checks in. The last of a sweep does so once, if lines have
    /// gathered: all who are awake by then have their say, so that the next sweep is as large as can be.
    fn lets_others_speak(&mut self, key: usize) -> bool {
        let has_gathered = self.log.published() < self.log.head();
        has_gathered && self.readers.owing() == 1 && !std::mem::replace(&mut self.reader(key).is_last, true)
    }

    /// Takes the reader out of the list, if it is parked; returns the waker of the one that was parked or blocked.
    fn unpark(&mut self, key: usize) -> Option<Waker> {
        match std::mem::replace(&mut self.reader(key).is, Is::Awake) {
            Is::Awake => None,
            Is::Parked(index) => {
                let (waker, moved) = self.readers.unpark(index);
                if let Some(moved) = moved {
                    self.reader(moved).is = Is::Parked(index);
                }
                Some(waker)
            }
            Is::Blocked(waker) => Some(*waker),
        }
    }

    /// Moves the cursor past bytes that the reader's connection took.
    fn pass(&mut self, key: usize, taken_bytes: usize, wakes: &mut Wakes) {
        if taken_bytes > 0
            && let Some(reader) = &mut self.seats[key].reader
        {
            let from = reader.cursor;
            reader.cursor = from.plus(taken_bytes);
            self.delivered_bytes += taken_bytes as u64;
            let to = reader.cursor;
            assert!(reader.end.is_none_or(|end| to <= end), "nobody reads past its end");
            self.log.advance(from, to);
            self.stop_at_end(key, wakes);
        }
    }

    /// A reader that has come to its end needs the log no more, though it may take long to be sent what else is due to it.
    fn stop_at_end(&mut self, key: usize, wakes: &mut Wakes) {
        if self.seats[key].reader.as_ref().is_some_and(|reader| reader.end == Some(reader.cursor)) {
            self.stop_reading(key, wakes);
        }
    }

    /// What is to be [appended](Self::append) next is a member's: if it was only counted, it is told of by name before. (WHO
    /// is short and clean whoever chose it, so to write it here costs nothing.)
    fn introduce(&mut self, key: usize, lang: Lang) {
        let seat = &mut self.seats[key];
        if let Some(introduction) = self.announcements.on_heard(&mut seat.presence) {
            let mut line = Vec::new();
            match introduction {
                Introduction::Arrival => lang.arrival(&seat.who, &mut line),
                Introduction::Here => lang.here(&seat.who, &mut line),
            }
            // Who is woken for what comes next has both.
            self.log.append(&line);
        }
    }

    /// Places the departure, if there is one to be told, and frees the name and the place in the queue.
    fn depart(&mut self, key: usize, departure: &[u8], wakes: &mut Wakes) {
        self.drop_ticket(key);
        let seat = &mut self.seats[key];
        if let Some(name_keys) = seat.name_keys.take() {
            free(&mut self.names, &*name_keys);
        }
        let presence = std::mem::replace(&mut seat.presence, Presence::Gone);
        if presence.is_member() {
            self.members -= 1;
            if let Some(reader) = &mut seat.reader {
                reader.end = Some(self.log.head());
            }
            if self.is_open && self.announcements.on_departure(presence, wakes) {
                self.append(departure, wakes);
            }
            self.stop_at_end(key, wakes);
        }
    }

    fn stop_reading(&mut self, key: usize, wakes: &mut Wakes) {
        if self.seats[key].reader.is_some() {
            self.unpark(key);
            self.check_in(key, wakes);
            let reader = self.seats[key].reader.take().expect("it was just there");
            self.log.leave(reader.cursor);
        }
    }

    /// Returns the waker of a sender that was parked, and not woken.
    fn drop_ticket(&mut self, key: usize) -> Option<Waker> {
        self.seats[key].ticket.take().and_then(|ticket| self.senders.remove(ticket))
    }

    /// Places the departure of somebody who may know nothing of it, and ends its reading: it is woken, whatever it waits for, and
    /// finds that out.
    fn remove(&mut self, key: usize, departure: &[u8], wakes: &mut Wakes) {
        self.seats[key].is_removed = true;
        // Awake before its own departure could wake it.
        let of_reader = if self.seats[key].reader.is_some() { self.unpark(key) } else { None };
        for waker in of_reader.into_iter().chain(self.drop_ticket(key)).chain(self.outside.remove(&key)) {
            wakes.push(waker);
        }
        self.depart(key, departure, wakes);
        self.stop_reading(key, wakes);
    }

    /// A slice of the roster, see [`Member::present`].
    fn present(&self, from: usize, count: usize) -> (Vec<(Who, Option<Site>)>, Option<usize>) {
        let mut here = Vec::new();
        for key in from..self.seats.capacity() {
            if let Some(seat) = self.seats.get(key).filter(|seat| seat.presence.is_member()) {
                if here.len() == count {
                    return (here, Some(key));
                }
                here.push((Who::clone(&seat.who), seat.site));
            }
        }
        (here, None)
    }
}

/// The name that the one with this number gets, of those who come by the same one. It is as short as names are.
fn numbered(name: &str, number: u64) -> String {
    if number <= 1 {
        return name.to_owned();
    }
    let suffix = format!("-{number}");
    let fits = |end: &usize| {
        let begin = &name[..*end];
        begin.chars().count() + suffix.len() <= NAME_CHARS_MAX && begin.len() + suffix.len() <= WHO_BYTES_MAX
    };
    let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    let end = ends.take_while(fits).last().unwrap_or(0);
    format!("{}{suffix}", &name[..end])
}

fn free(names: &mut BTreeMap<String, usize>, keys: &[String]) {
    for key in keys {
        names.remove(key);
    }
}

/// One connection's place in a room: seated, then entered, then gone. Dropping it leaves, and never waits.
///
/// All its operations are for one task; those that wait remember the waker of the last poll only.
#[derive(Debug)]
pub struct Member {
    room: Room,
    key: usize,
    who: Who,
}

impl Member {
    /// The room that it has a place in.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Its name, or what it is called without one.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Reads a little of the seats of `members`, who are all in one room: of each its first bytes and its last, as it lies in two
    /// lines of a cache.
    pub(crate) fn touch_seats<'a>(mut members: impl Iterator<Item = &'a Self>) {
        if let Some(first) = members.next()
            && let Ok(state) = first.room.shared.state.lock()
        {
            for member in std::iter::once(first).chain(members) {
                let seat = &state.seats[member.key];
                std::hint::black_box((seat.presence, seat.reader.as_ref().map(|reader| reader.cursor)));
            }
        }
    }

    /// Asks for a turn to add to the sequence; pending while the backlog is full or others came first.
    ///
    /// Cancel safe: the place in the queue stays until the turn comes, is [given up](Self::give_up_turn), or the member is
    /// dropped. It must be taken up when this wakes: those behind wait for it.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the room has ended, or this member was [removed](Room::remove).
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Turn, Closed>> {
        let key = self.key;
        let bytes = self.room.shared.limits.turn_bytes();
        let granted = self.room.shared.change(|state, _| {
            if !state.is_open || state.seats[key].is_removed {
                state.drop_ticket(key);
                return Poll::Ready(Err(Closed));
            }
            let ticket = state.seats[key].ticket;
            if state.senders.is_next(ticket) && !state.is_full() {
                state.drop_ticket(key);
                state.reserved_bytes += bytes;
                return Poll::Ready(Ok(()));
            }
            state.seats[key].ticket = Some(state.senders.park(ticket, cx.waker()));
            Poll::Pending
        });
        granted.map_ok(|()| Turn { shared: Arc::clone(&self.room.shared) })
    }

    /// Enters: places the arrival, and the cursor right behind it. Nothing when it has entered before.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the room has ended meanwhile, or this member was [removed](Room::remove); it was not entered.
    pub fn enter(&mut self, _turn: &mut Turn) -> Result<(), Closed> {
        self.enter_as(|_, _| Presence::Known)
    }

    /// Enters as a stranger, whose arrival and departure may be [counted](crate::Limits::announcements) instead of told by name.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter).
    pub fn enter_stranger(&mut self, _turn: &mut Turn) -> Result<(), Closed> {
        self.enter_as(Announcements::on_arrival)
    }

    fn enter_as(&mut self, arrive: impl FnOnce(&mut Announcements, &mut Wakes) -> Presence) -> Result<(), Closed> {
        let mut arrival = Vec::new();
        self.room.shared.wire.lang.arrival(&self.who, &mut arrival);
        self.room.shared.change(|state, wakes| {
            if !state.is_open || state.seats[self.key].is_removed {
                return Err(Closed);
            }
            if state.seats[self.key].presence == Presence::Coming {
                let presence = arrive(&mut state.announcements, wakes);
                if !matches!(presence, Presence::Counted { .. }) {
                    state.append(&arrival, wakes);
                }
                let cursor = state.log.enter();
                state.members += 1;
                let seat = &mut state.seats[self.key];
                seat.presence = presence;
                seat.reader = Some(Reader { cursor, end: None, is: Is::Awake, owes: false, is_last: false });
                state.outside.remove(&self.key);
            }
            Ok(())
        })
    }

    /// Says whole lines as they shall stand in the sequence, WHO and line feed included.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the room has ended meanwhile, or for this member, who has left or not entered; nothing was said.
    ///
    /// # Panics
    ///
    /// When `lines` does not end with a line feed or is longer than a turn.
    pub fn say(&mut self, _turn: &mut Turn, lines: &[u8]) -> Result<(), Closed> {
        let Shared { limits, wire, .. } = &*self.room.shared;
        assert!(lines.len() + limits.introduction_bytes() <= limits.turn_bytes(), "a turn is bounded");
        assert_eq!(lines.last(), Some(&b'\n'), "only whole lines are said");
        let said_lines = memchr::memchr_iter(b'\n', lines).count() as u64;
        self.room.shared.change(|state, wakes| {
            if !state.is_open || !state.seats[self.key].presence.is_member() {
                return Err(Closed);
            }
            state.introduce(self.key, wire.lang);
            state.append(lines, wakes);
            state.said_lines += said_lines;
            Ok(())
        })
    }

    /// Takes a name, and announces that; one's own in another case is a new name too. Nothing for who has not entered, has
    /// left, or is in a room that has ended.
    ///
    /// # Errors
    ///
    /// [`Taken`] when another member has it or one that looks alike: nothing changed.
    pub fn rename(&mut self, _turn: &mut Turn, name: &Name) -> Result<(), Taken> {
        let lang = self.room.shared.wire.lang;
        let mut line = Vec::new();
        lang.renamed(&self.who, name.as_str(), &mut line);
        let name_keys = Box::new(name.keys());
        let new = Who::from(name.as_str());
        self.room.shared.change(|state, wakes| {
            let is_taken = |name_key| state.names.get(name_key).is_some_and(|holder| *holder != self.key);
            if name_keys.iter().any(is_taken) {
                return Err(Taken);
            }
            if state.is_open && state.seats[self.key].presence.is_member() {
                state.introduce(self.key, lang);
                let seat = &mut state.seats[self.key];
                if let Some(old_keys) = seat.name_keys.take() {
                    free(&mut state.names, &*old_keys);
                }
                seat.who = Who::clone(&new);
                for name_key in &*name_keys {
                    state.names.insert(name_key.clone(), self.key);
                }
                seat.name_keys = Some(name_keys);
                state.append(&line, wakes);
                self.who = new;
            }
            Ok(())
        })
    }

    /// A slice of the roster: up to `count` members from place `from` on, and the place to go on from, if any is left.
    ///
    /// Places are reused, so who enters or leaves between two slices may be in the list or not; everyone else is, once. Who
    /// listens to this reads nothing else meanwhile, so no sweep waits for it.
    pub(crate) fn present(&mut self, from: usize, count: usize) -> (Vec<Who>, Option<usize>) {
        let key = self.key;
        self.room.shared.change(|state, wakes| {
            state.check_in(key, wakes);
            if state.seats[key].is_removed {
                return (Vec::new(), None);
            }
            let (here, next) = state.present(from, count);
            (here.into_iter().map(|(who, _)| who).collect(), next)
        })
    }

    /// Gives up the place in the queue for a turn, if it has one: those behind move up.
    pub fn give_up_turn(&mut self) {
        let key = self.key;
        self.room.shared.change(|state, _| state.drop_ticket(key));
    }

    /// Passes `taken_bytes` of the last batch, which the connection took, and fills `batch` with what comes next; parks
    /// the reader when that is nothing yet.
    ///
    /// If this returns ready, the reader is not parked. Once it returns [`Next::End`] it holds up nothing any more, and
    /// returns that again; so it does after [`stop_reading`](Self::stop_reading). Cancel safe.
    ///
    /// # Panics
    ///
    /// When `taken_bytes` are more than there were.
    pub fn poll_next(&mut self, taken_bytes: usize, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<Next> {
        let key = self.key;
        let patience = self.room.shared.limits.patience;
        self.room.shared.change(|state, wakes| {
            state.pass(key, taken_bytes, wakes);
            if state.seats[key].reader.is_none() {
                return Poll::Ready(Next::End);
            }
            loop {
                let pressed_until = state.pressed_until;
                let is_open = state.is_open;
                let head = state.log.head();
                let reader = state.reader(key);
                let (cursor, until) = (reader.cursor, reader.end.unwrap_or(head));
                if cursor == until && !is_open {
                    state.stop_reading(key, wakes);
                    return Poll::Ready(Next::End);
                }
                if patience.is_zero() && cursor < pressed_until {
                    state.unpark(key);
                    return Poll::Ready(Next::InTheWay);
                }
                state.log.read(cursor, until, batch);
                if !batch.is_empty() {
                    state.unpark(key);
                    return Poll::Ready(Next::Lines);
                }
                if state.reader(key).owes {
                    if state.lets_others_speak(key) {
                        return Poll::Ready(Next::Later);
                    }
                    // It may be the last of the sweep, and then there is more.
                    state.check_in(key, wakes);
                    continue;
                }
                match state.reader(key).is {
                    Is::Parked(index) => state.readers.repark(index, cx.waker()),
                    _ => state.reader(key).is = Is::Parked(state.readers.park(key, cx.waker().clone())),
                }
                return Poll::Pending;
            }
        })
    }

    /// Passes `taken_bytes` of the last batch and nothing else: before the reader yields. Nothing for who does not read.
    /// Whatever it took, no sweep waits for it then.
    ///
    /// # Panics
    ///
    /// When they are more than there were.
    pub fn pass(&mut self, taken_bytes: usize) {
        let key = self.key;
        self.room.shared.change(|state, wakes| {
            state.pass(key, taken_bytes, wakes);
            state.check_in(key, wakes);
        });
    }

    /// Passes `taken_bytes` and notes that the connection takes no more: `waker` is woken when the reader comes to be in
    /// the way. Returns whether it is already; who does not read never is.
    ///
    /// # Panics
    ///
    /// As [`pass`](Self::pass).
    pub fn block(&mut self, taken_bytes: usize, waker: &Waker) -> bool {
        let key = self.key;
        self.room.shared.change(|state, wakes| {
            state.pass(key, taken_bytes, wakes);
            if state.seats[key].reader.is_none() {
                return false;
            }
            state.unpark(key);
            state.check_in(key, wakes);
            state.reader(key).is = Is::Blocked(Box::new(waker.clone()));
            let cursor = state.reader(key).cursor;
            cursor < state.pressed_until
        })
    }

    /// Lets the reader go, to the head or its own end; `None`, and nothing happened, when it is not in the way any more.
    ///
    /// Law 6 binds the caller: patience is zero, or the reader's account is spent and its connection has just taken nothing
    /// again.
    pub fn let_go(&mut self) -> Option<LetGo> {
        let key = self.key;
        self.room.shared.change(|state, wakes| {
            let reader = state.seats[key].reader.as_ref()?;
            let (from, end) = (reader.cursor, reader.end);
            if from >= state.pressed_until {
                return None;
            }
            let to = end.unwrap_or(state.log.head());
            let torn = state.log.rest_of_line(from).to_vec();
            let missed_lines = state.log.lines_between(from.plus(torn.len()), to);
            state.reader(key).cursor = to;
            state.log.advance(from, to);
            state.check_in(key, wakes);
            state.stop_at_end(key, wakes);
            state.let_gos += 1;
            state.missed_lines += missed_lines;
            Some(LetGo { missed_lines, torn })
        })
    }

    /// Places the departure, or counts it, and with that the end up to which this member still reads (law 5). Nothing on a second call, or
    /// for who has not entered. Never waits.
    pub fn place_end(&mut self) {
        let departure = self.departure();
        let key = self.key;
        self.room.shared.change(|state, wakes| state.depart(key, &departure, wakes));
    }

    /// Gives up reading: its connection is broken towards the peer. It may still say what it had said.
    pub fn stop_reading(&mut self) {
        let key = self.key;
        self.room.shared.change(|state, wakes| state.stop_reading(key, wakes));
    }

    /// Whether it has to prove that it knows a password before it enters.
    pub(crate) fn must_prove(&self) -> bool {
        let has_passwords = self.room.door().policy().passwords.is_some();
        has_passwords && self.room.shared.change(|state, _| !state.seats[self.key].is_known)
    }

    /// Where it comes from, unless from this machine by itself.
    pub(crate) fn site(&self) -> Option<Site> {
        self.room.shared.change(|state, _| state.seats[self.key].site)
    }

    /// Waits for nothing but the end, of the room or of this member's being here: for one that does not ask to enter yet.
    pub fn poll_outside(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        let key = self.key;
        self.room.shared.change(|state, _| {
            if !state.is_open || state.seats[key].is_removed {
                return Poll::Ready(Closed);
            }
            state.outside.insert(key, cx.waker().clone());
            Poll::Pending
        })
    }

    /// Whether it was [removed](Room::remove).
    pub fn is_removed(&self) -> bool {
        self.room.shared.change(|state, _| state.seats[self.key].is_removed)
    }

    fn departure(&self) -> Vec<u8> {
        self.room.departure(&self.who)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let departure = self.departure();
        let key = self.key;
        let _broken = self.room.shared.change_unless_broken(|state, wakes| {
            state.depart(key, &departure, wakes);
            state.stop_reading(key, wakes);
            state.outside.remove(&key);
            state.seats.remove(key);
            if state.seats.is_empty()
                && let Some(waker) = state.when_empty.take()
            {
                wakes.push(waker);
            }
        });
    }
}

/// The right to add up to [`Limits::turn_bytes`] to the sequence, now: proof for the operations of [`Member`] that need
/// one. Dropping it passes the right on; keep it no longer than a poll.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let bytes = self.shared.limits.turn_bytes();
        let _broken = self.shared.change_unless_broken(|state, _| state.reserved_bytes -= bytes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::limits::Rate;

    fn room(who: session::Who) -> Room {
        Room::new(Limits::default(), Wire { who, ..Wire::default() }).expect("limits that work")
    }

    fn peer(name: Option<&str>, origin: Origin) -> Peer {
        let name = name.map(|name| Name::parse(name.as_bytes()).expect("a name"));
        Peer { name, ..origin.into() }
    }

    const LOCAL: Origin = Origin::Local { uid: 1000, pid: Some(42) };

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Bell(std::sync::atomic::AtomicUsize);

    impl Bell {
        fn rings(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    impl std::task::Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// A member that has entered.
    fn entered(room: &Room, address: &str) -> Member {
        let mut member = room.seat(address);
        enter(&mut member);
        member
    }

    fn enter(member: &mut Member) {
        let Poll::Ready(Ok(mut turn)) = member.poll_turn(&mut Context::from_waker(Waker::noop())) else {
            panic!("there is room")
        };
        member.enter(&mut turn).expect("it is open");
    }

    fn say(member: &mut Member, line: &[u8]) {
        let Poll::Ready(Ok(mut turn)) = member.poll_turn(&mut Context::from_waker(Waker::noop())) else {
            panic!("there is room")
        };
        member.say(&mut turn, line).expect("it is open");
    }

    /// Takes all that there is; parked then.
    fn take_all(member: &mut Member) {
        let (mut batch, mut taken_bytes) = (Batch::default(), 0);
        let mut cx = Context::from_waker(Waker::noop());
        while member.poll_next(taken_bytes, &mut batch, &mut cx).is_ready() {
            taken_bytes = batch.bytes();
        }
    }

    #[test]
    fn line_that_is_followed_is_seen_once_the_last_has_it_or_cannot_take_it() {
        let room = room(session::Who::Address);
        let mut members: Vec<Member> = (1..=3).map(|host| entered(&room, &format!("10.0.0.{host}:1"))).collect();
        members.iter_mut().for_each(take_all);
        let (said, seen) = (std::sync::Arc::<Bell>::default(), std::sync::Arc::<Bell>::default());
        let follow = || room.follow_next_line(Waker::from(said.clone()), Waker::from(seen.clone()));
        follow();
        assert_eq!((said.rings(), seen.rings()), (0, 0));
        say(&mut members[0], b"one\n");
        // That one is not followed.
        say(&mut members[0], b"two\n");
        assert_eq!((said.rings(), seen.rings()), (1, 0));
        take_all(&mut members[0]);
        take_all(&mut members[1]);
        assert_eq!((said.rings(), seen.rings()), (1, 0), "one is owed it");
        members[2].block(0, Waker::noop());
        assert_eq!((said.rings(), seen.rings()), (1, 1));
        say(&mut members[0], b"three\n");
        assert_eq!((said.rings(), seen.rings()), (1, 1), "once each");
        follow();
        members.iter_mut().for_each(take_all);
        drop(members.split_off(1));
        assert_eq!((said.rings(), seen.rings()), (2, 1), "a departure is a line too");
        take_all(&mut members[0]);
        assert_eq!((said.rings(), seen.rings()), (2, 2));
        let totals = room.totals();
        assert_eq!(totals.said_lines, 3);
        assert!(totals.delivered_bytes > room.tally().said_bytes, "{totals:?}");
    }

    #[test]
    fn line_that_nobody_is_there_to_take_is_seen_at_once() {
        let room = room(session::Who::Address);
        let (said, seen) = (std::sync::Arc::<Bell>::default(), std::sync::Arc::<Bell>::default());
        room.follow_next_line(Waker::from(said.clone()), Waker::from(seen.clone()));
        drop(entered(&room, "10.0.0.1:1"));
        assert_eq!((said.rings(), seen.rings()), (1, 1));
    }

    #[test]
    fn name_that_was_given_is_nobody_elses_until_it_is_given_back() {
        let room = room(session::Who::Address);
        let names = ["bob", "BOB", "B\u{43E}b", "rob"];
        let mut members: Vec<Member> = names.into_iter().map(|name| room.seat_named(name)).collect();
        let called: Vec<&str> = members.iter().map(Member::who).collect();
        assert_eq!(called, ["bob", "BOB-2", "B\u{43E}b-3", "rob"]);
        members.remove(1);
        assert_eq!(room.seat_named("bob").who(), "bob-2", "it is free again");
        drop(members);
        assert_eq!(room.seat_named("bob").who(), "bob");
        assert_eq!(room.shared.state.lock().expect("whole").names.len(), 0, "nothing is left behind");
    }

    #[test]
    fn name_that_was_given_is_refused_to_who_asks_for_it() {
        let room = room(session::Who::Address);
        let given = room.seat_named("bob");
        let mut other = room.seat("10.0.0.1:1");
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(mut turn)) = other.poll_turn(&mut cx) else { panic!("there is room") };
        other.enter(&mut turn).expect("it is open");
        let name = Name::parse(b"Bob").expect("a name");
        assert_eq!(other.rename(&mut turn, &name), Err(Taken), "though bob has not entered yet");
        drop(given);
        assert_eq!(other.rename(&mut turn, &name), Ok(()));
        assert_eq!(room.seat_named("bob").who(), "bob-2", "who took it has it");
    }

    #[test]
    fn many_of_one_name_are_told_apart_by_numbers_as_short_as_can_be() {
        let room = room(session::Who::Address);
        let members: Vec<Member> = (0..100).map(|_| room.seat_named("bob")).collect();
        assert_eq!(members[0].who(), "bob");
        for (number, member) in members.iter().enumerate().skip(1) {
            assert_eq!(member.who(), format!("bob-{}", number + 1));
        }
    }

    #[test]
    fn numbered_names_are_no_longer_than_names_are() {
        assert_eq!(numbered("bob", 1), "bob");
        assert_eq!(numbered("bob", 12), "bob-12");
        assert_eq!(numbered(&"a".repeat(32), 1), "a".repeat(32));
        assert_eq!(numbered(&"a".repeat(31), 2), format!("{}-2", "a".repeat(30)));
        assert_eq!(numbered(&"\u{1F980}".repeat(24), 2), format!("{}-2", "\u{1F980}".repeat(23)));
        assert_eq!(numbered(&"\u{540D}".repeat(32), u64::MAX), format!("{}-{}", "\u{540D}".repeat(11), u64::MAX));
    }

    #[test]
    fn members_are_called_by_what_they_have_proved_or_by_what_is_known_of_them() {
        let network = || Origin::Network(([10, 0, 0, 1], 5000).into());
        let cases = [
            (session::Who::Address, None, network(), "10.0.0.1:5000"),
            (session::Who::Address, None, LOCAL, "uid1000-pid42"),
            (session::Who::Address, None, LOCAL, "uid1000-pid42-2"),
            (session::Who::Address, None, Origin::Local { uid: 7, pid: None }, "uid7"),
            (session::Who::Address, Some("bob"), network(), "bob"),
            (session::Who::Address, Some("bob"), LOCAL, "bob-2"),
            (session::Who::Guest, None, network(), "guest-1"),
            (session::Who::Guest, None, LOCAL, "guest-2"),
            (session::Who::Guest, Some("bob"), network(), "bob"),
        ];
        let rooms = [room(session::Who::Address), room(session::Who::Guest)];
        let mut members = Vec::new();
        for (who, name, origin, expected) in cases {
            let room = &rooms[usize::from(who == session::Who::Guest)];
            let member = room.seat_peer(&peer(name, origin));
            assert_eq!(member.who(), expected);
            members.push(member);
        }
    }

    #[test]
    fn some_limits_change_together_and_only_if_they_can_work() {
        let room = room(session::Who::Address);
        let rate = Rate { burst: 7, per_second: 3 };
        let flood = Flood { lines: rate, bytes: Rate { burst: 100_000, per_second: 50_000 } };
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a prefix")];
        let connections_max = room.limits().connections_max;
        let limits = Limits {
            flood: Some(flood),
            connect_rate: Some(rate),
            trusted: trusted.clone(),
            announcements: Some(3),
            connections_max: 7,
            ..Limits::default()
        };
        for (limits, expected) in [
            (limits.clone(), Ok(())),
            (Limits { flood: None, connect_rate: Some(Rate { burst: 0, ..rate }), ..limits }, Err(())),
        ] {
            assert_eq!(room.change_limits(&limits).map_err(drop), expected);
            let now = room.limits_now();
            assert_eq!((now.flood, now.connect_rate, &now.trusted), (Some(flood), Some(rate), &trusted));
            assert_eq!((room.flood_now(), now.connections_max), (Some(flood), connections_max));
            assert_eq!(now.announcements, None, "nobody ends periods here");
        }
        assert_eq!(room.limits().flood, Limits::default().flood, "as it was made");
    }

    #[test]
    fn announcements_change_where_somebody_ends_their_periods() {
        for (made, plain, changed, is_counted) in [
            (Some(1), false, Some(0), true),
            (Some(0), false, Some(1), false),
            (Some(0), false, None, false),
            (None, false, Some(0), false),
            (Some(1), true, Some(0), false),
        ] {
            let limits = Limits { announcements: made, ..Limits::default() };
            let room = Room::new(limits, Wire { plain, ..Wire::default() }).expect("limits that work");
            room.change_limits(&Limits { announcements: changed, ..Limits::default() }).expect("they work, too");
            let mut stranger = room.seat("10.0.0.1:1");
            let Poll::Ready(Ok(mut turn)) = stranger.poll_turn(&mut Context::from_waker(Waker::noop())) else {
                panic!("there is room")
            };
            stranger.enter_stranger(&mut turn).expect("it is open");
            assert_eq!(room.tally().said_bytes == 0, is_counted, "{made:?} {plain} {changed:?}");
        }
    }

    #[test]
    fn keeper_sees_who_is_there_and_from_where_slice_by_slice() {
        let room = room(session::Who::Address);
        let addr = |host| std::net::SocketAddr::from(([10, 0, 0, host], 1));
        let peers = [Origin::Network(addr(1)), LOCAL, Origin::Network(addr(2))].map(|origin| peer(None, origin));
        let mut members: Vec<Member> = peers.iter().map(|peer| room.seat_peer(peer)).collect();
        assert_eq!(room.present(0, 10), (vec![], None), "nobody has entered");
        for member in &mut members {
            enter(member);
        }
        let expected: Vec<Present> = ["10.0.0.1:1", "uid1000-pid42", "10.0.0.2:1"]
            .into_iter()
            .zip(&peers)
            .map(|(who, peer)| Present { who: who.to_owned(), site: peer.site() })
            .collect();
        let (first, next) = room.present(0, 2);
        assert_eq!(first, expected[..2]);
        assert_eq!(room.present(next.expect("one is left"), 2), (expected[2..].to_vec(), None));
    }

    #[test]
    fn announcement_is_a_line_of_the_sequence_or_nothing_is_said() {
        let room = room(session::Who::Address);
        let mut member = entered(&room, "10.0.0.1:1");
        take_all(&mut member);
        let announce = |text: &[u8]| pin!(room.announce(text)).poll(&mut Context::from_waker(Waker::noop()));
        let line_bytes_max = room.limits().line_bytes_max;
        let mut text = vec![b'x'; line_bytes_max];
        let before_bytes = room.tally().said_bytes;
        assert_eq!(announce(&text), Poll::Ready(Ok(())));
        let said_bytes = room.tally().said_bytes;
        assert_eq!(said_bytes - before_bytes, (b"-! ".len() + line_bytes_max + b"\n".len()) as u64);
        text.push(b'x');
        assert_eq!(announce(&text), Poll::Ready(Err(NotAnnounced::TooLong { line_bytes_max })));
        room.close();
        assert_eq!(announce(b"hi"), Poll::Ready(Err(NotAnnounced::Closed(Closed))));
        assert_eq!((room.tally().said_bytes, room.tally().seats), (said_bytes, 1));
    }

    #[test]
    fn what_waits_to_be_announced_is_nobody() {
        let room = room(session::Who::Address);
        let mut holder = room.seat("10.0.0.1:1");
        let mut turns = Vec::new();
        while let Poll::Ready(turn) = holder.poll_turn(&mut Context::from_waker(Waker::noop())) {
            turns.push(turn.expect("it is open"));
        }
        holder.give_up_turn();
        let mut announcing = pin!(room.announce(b"hi"));
        assert!(announcing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!((room.tally().seats, room.remove(Whom::Who(""))), (2, 0));
        drop(turns);
        assert_eq!(announcing.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
    }

    #[test]
    fn who_enters_waits_outside_no_more() {
        let room = room(session::Who::Address);
        let bell = std::sync::Arc::<Bell>::default();
        let mut member = room.seat("10.0.0.1:1");
        assert!(member.poll_outside(&mut Context::from_waker(&Waker::from(bell.clone()))).is_pending());
        enter(&mut member);
        assert_eq!(std::sync::Arc::strong_count(&bell), 1, "nothing is kept of it");
        room.close();
        assert_eq!(bell.rings(), 0);
    }

    #[test]
    fn nobody_enters_who_was_removed_or_behind_the_end() {
        let room = room(session::Who::Address);
        let mut cx = Context::from_waker(Waker::noop());
        let mut members: Vec<Member> = (1..=2).map(|host| room.seat(&format!("10.0.0.{host}:1"))).collect();
        for (number, member) in members.iter_mut().enumerate() {
            let Poll::Ready(Ok(mut turn)) = member.poll_turn(&mut cx) else { panic!("there is room") };
            match number {
                0 => assert_eq!(room.remove(Whom::Who("10.0.0.1:1")), 1),
                _ => room.close(),
            }
            assert_eq!(member.enter(&mut turn), Err(Closed));
        }
        assert_eq!(room.tally().said_bytes, 0);
    }

    #[test]
    fn room_is_empty_when_the_last_seat_is_given_back() {
        let room = room(session::Who::Address);
        let bell = std::sync::Arc::<Bell>::default();
        let waker = Waker::from(bell.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(room.poll_empty(&mut cx).is_ready());
        let member = room.seat("10.0.0.1:1");
        assert!(room.poll_empty(&mut cx).is_pending());
        drop(member);
        assert_eq!(bell.rings(), 1);
        assert!(room.poll_empty(&mut cx).is_ready());
    }

    #[test]
    fn totals_have_what_happened_to_connections() {
        let room = room(session::Who::Address);
        room.count(Event::Accepted);
        room.count(Event::Accepted);
        assert_eq!(room.totals().events, [(Event::Accepted, 2)]);
    }
}
