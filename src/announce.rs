//! Who is told of by name, and who is counted: so that a churning crowd does not drown the talk.
//!
//! In each period so many arrivals and departures of strangers are told by name; those above are counted, and told in one line
//! at the period's end. Who says something is told of by name before that, so no line is ever from nobody. This is plain data
//! under the room's lock and knows no clock: what a period is, the [server](crate::server) says.

use std::task::Waker;

use crate::wait::Wakes;

/// Whether a seat is a member, and what the others know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Not entered.
    Coming,
    /// It was told of by name, and is a stranger that has said nothing: its departure may be counted.
    Silent,
    /// Its arrival was counted. The number of the count that has it.
    Counted { count: u32 },
    /// It is told of by name, in coming and going.
    Known,
    /// Its departure is placed.
    Gone,
}

impl Presence {
    pub(crate) fn is_member(self) -> bool {
        match self {
            Self::Silent | Self::Counted { .. } | Self::Known => true,
            Self::Coming | Self::Gone => false,
        }
    }
}

/// What has to be told of one who was only counted so far, and is heard of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Introduction {
    /// That it has come: no count that was told has it.
    Arrival,
    /// That it is here: it was one of a count that was told.
    Here,
}

/// How many came and went of whom no name was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) joined: u64,
    pub(crate) left: u64,
}

/// The budget of names, and what is beyond it.
///
/// Law: arrivals told by name and in counts = departures told so + members, but for the counts to come, in which both stand.
#[derive(Debug)]
pub(crate) struct Announcements {
    /// Names in a period; `None`: all are told by name.
    names_max: Option<usize>,
    names_left: usize,
    counts: Counts,
    /// The number of the count to come. (It wraps after as many periods as a century has seconds.)
    count: u32,
    /// Who waits for something to be spent.
    announcer: Option<Waker>,
}

impl Announcements {
    pub(crate) fn new(names_max: Option<usize>) -> Self {
        let names_left = names_max.unwrap_or_default();
        Self { names_max, names_left, counts: Counts::default(), count: 0, announcer: None }
    }

    /// Takes so many names a period from now on, in a period that begins anew: what was counted in it is still to be told.
    pub(crate) fn change(&mut self, names_max: Option<usize>) {
        self.names_max = names_max;
        self.refill();
    }

    /// Takes a name out of the budget, if there is one.
    fn spend(&mut self) -> bool {
        match self.names_left.checked_sub(1) {
            Some(left) => {
                self.names_left = left;
                true
            }
            None => false,
        }
    }

    /// A stranger enters: what it is then. It is to be told of by name unless it is [counted](Presence::Counted).
    pub(crate) fn on_arrival(&mut self, wakes: &mut Wakes) -> Presence {
        if self.names_max.is_none() {
            return Presence::Known;
        }
        let presence = if self.spend() {
            Presence::Silent
        } else {
            self.counts.joined += 1;
            Presence::Counted { count: self.count }
        };
        self.wake_announcer(wakes);
        presence
    }

    /// A member leaves; says whether it is told of by name. Else it is counted.
    pub(crate) fn on_departure(&mut self, presence: Presence, wakes: &mut Wakes) -> bool {
        let is_named = match presence {
            Presence::Known => return true,
            Presence::Silent => self.names_max.is_none() || self.spend(),
            Presence::Counted { .. } => false,
            Presence::Coming | Presence::Gone => unreachable!("only members depart"),
        };
        if !is_named {
            self.counts.left += 1;
        }
        self.wake_announcer(wakes);
        is_named
    }

    /// A member is going to be heard of, and is known from then on: what has to be told before.
    pub(crate) fn on_heard(&mut self, presence: &mut Presence) -> Option<Introduction> {
        match std::mem::replace(presence, Presence::Known) {
            Presence::Counted { count } if count == self.count => {
                self.counts.joined -= 1;
                Some(Introduction::Arrival)
            }
            Presence::Counted { .. } => Some(Introduction::Here),
            Presence::Silent | Presence::Known => None,
            Presence::Coming | Presence::Gone => unreachable!("only members are heard"),
        }
    }

    /// A period begins: as many names as there may be.
    pub(crate) fn refill(&mut self) {
        self.names_left = self.names_max.unwrap_or_default();
    }

    /// What there is to be told in a count, which is told then.
    pub(crate) fn take_counts(&mut self) -> Option<Counts> {
        if self.counts == Counts::default() {
            return None;
        }
        self.count = self.count.wrapping_add(1);
        Some(std::mem::take(&mut self.counts))
    }

    /// Whether the end of the period would change anything.
    pub(crate) fn is_spent(&self) -> bool {
        self.names_left < self.names_max.unwrap_or_default() || self.counts != Counts::default()
    }

    /// Wakes this one, and no other, when something is spent.
    pub(crate) fn park(&mut self, announcer: &Waker) {
        match &mut self.announcer {
            Some(waker) => waker.clone_from(announcer),
            None => self.announcer = Some(announcer.clone()),
        }
    }

    /// Wakes who is parked.
    pub(crate) fn wake_announcer(&mut self, wakes: &mut Wakes) {
        if let Some(announcer) = self.announcer.take() {
            wakes.push(announcer);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Who came under one budget goes under another, and the sums balance (law 4).
    #[test]
    fn budget_may_change_while_some_are_counted_and_some_are_silent() {
        let mut wakes = Wakes::default();
        let mut announcements = Announcements::new(Some(1));
        let silent = announcements.on_arrival(&mut wakes);
        let counted = announcements.on_arrival(&mut wakes);
        assert_eq!((silent, counted), (Presence::Silent, Presence::Counted { count: 0 }));

        announcements.change(None);
        assert!(announcements.is_spent(), "one is to be told of in a count");
        assert_eq!(announcements.on_arrival(&mut wakes), Presence::Known);
        assert!(announcements.on_departure(silent, &mut wakes), "all are told by name");
        assert!(!announcements.on_departure(counted, &mut wakes), "its name was never told");
        assert_eq!(announcements.take_counts(), Some(Counts { joined: 1, left: 1 }));
        assert!(!announcements.is_spent());

        announcements.change(Some(2));
        let come: Vec<_> = (0..3).map(|_| announcements.on_arrival(&mut wakes)).collect();
        assert_eq!(come, [Presence::Silent, Presence::Silent, Presence::Counted { count: 1 }]);
        announcements.change(Some(0));
        assert!(!announcements.on_departure(come[0], &mut wakes), "none are told by name");
        assert_eq!(announcements.take_counts(), Some(Counts { joined: 1, left: 1 }));
    }
}
