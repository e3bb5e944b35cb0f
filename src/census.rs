//! How many connections there are, in all and from each address: who may come in.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Instant;

use crate::callers::Callers;
use crate::limits::{Limits, SITES_MAX};
use crate::listen::{Origin, Peer};
use crate::notice::Notice;
use crate::site::Site;
use crate::sync::{Arc, Mutex};

/// Connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Census {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    connections: usize,
    /// Strangers who came lately. Empty when it is nobody's concern how fast they come.
    callers: Callers,
    /// Never iterated. Empty when nobody is limited so.
    by_site: HashMap<Site, usize>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { connections: 0, callers: Callers::new(SITES_MAX), by_site: HashMap::new() }
    }
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    census: Arc<Census>,
    /// Boxed, as few servers limit addresses and every connection pays for what it might hold.
    known: Option<Box<Known>>,
}

/// What is remembered of where a connection comes from.
#[derive(Debug, Default)]
struct Known {
    /// Where it counts.
    site: Option<Site>,
    /// Kept for the log.
    origin: Option<Origin>,
}

impl Admission {
    /// Remembers where the connection comes from, as it is not called by that.
    pub(crate) fn remember(&mut self, origin: Origin) {
        self.known.get_or_insert_default().origin = Some(origin);
    }

    /// Where it comes from, if that was to be [remembered](Self::remember).
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.known.as_ref()?.origin
    }
}

impl Census {
    /// Counts a connection from `peer` in `census`, as of `now`. That one came is counted also if there is no place for it. One of
    /// this machine has no address, and counts among all only.
    ///
    /// # Errors
    ///
    /// The notice that refuses it.
    pub(crate) fn admit(
        census: &Arc<Self>,
        peer: &Peer,
        limits: &Limits,
        now: Instant,
    ) -> Result<Admission, Notice<'static>> {
        let rate = limits.connect_rate.filter(|_| !limits.trusts(peer));
        let from = peer.site();
        let site = from.filter(|_| limits.per_ip_max != usize::MAX);
        // Poisoned or not, counts stay counts: nothing in here can panic between two of them.
        let mut counts = census.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(rate), Some(from)) = (rate, from)
            && !counts.callers.may_come(from, rate, now)
        {
            return Err(Notice::AddressHasty { per_second: rate.per_second });
        }
        if counts.connections >= limits.connections_max {
            return Err(Notice::ServerFull { connections_max: limits.connections_max });
        }
        if let Some(site) = site {
            let count = counts.by_site.entry(site).or_default();
            if *count >= limits.per_ip_max {
                if *count == 0 {
                    counts.by_site.remove(&site);
                }
                return Err(Notice::AddressFull { per_ip_max: limits.per_ip_max });
            }
            *count += 1;
        }
        counts.connections += 1;
        let known = site.map(|site| Box::new(Known { site: Some(site), origin: None }));
        Ok(Admission { census: Arc::clone(census), known })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.connections -= 1;
        if let Some(site) = self.known.as_ref().and_then(|known| known.site.as_ref())
            && let Some(count) = counts.by_site.get_mut(site)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_site.remove(site);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use super::*;
    use crate::limits::Rate;
    use crate::listen::Origin;

    fn ip(text: &str) -> Peer {
        let ip: IpAddr = text.parse().expect("an address");
        Peer::from(SocketAddr::new(ip, 5000))
    }

    #[test]
    fn a_place_given_back_is_free_again() {
        let limits = Limits { connections_max: 1, ..Limits::default() };
        let census = Arc::new(Census::default());
        let first = Census::admit(&census, &ip("10.0.0.1"), &limits, Instant::now()).expect("the first comes in");
        assert!(Census::admit(&census, &ip("10.0.0.2"), &limits, Instant::now()).is_err());
        drop(first);
        assert!(Census::admit(&census, &ip("10.0.0.2"), &limits, Instant::now()).is_ok());
    }

    #[test]
    fn addresses_are_counted_by_subscriber() {
        let limits = Limits { per_ip_max: 1, ..Limits::default() };
        let census = Arc::new(Census::default());
        let cases = [
            ("2001:db8:0:1::1", true),
            ("2001:db8:0:1:ffff::2", false),
            ("2001:db8:0:2::1", true),
            ("10.0.0.1", true),
            ("::ffff:10.0.0.1", false),
            ("10.0.0.2", true),
        ];
        let mut places = Vec::new();
        for (from, expected) in cases {
            let place = Census::admit(&census, &ip(from), &limits, Instant::now());
            assert_eq!(place.is_ok(), expected, "{from}");
            places.extend(place);
        }
        places.clear();
        assert!(census.counts.lock().expect("whole").by_site.is_empty(), "nothing is left behind");
    }

    #[test]
    fn who_is_refused_takes_no_place() {
        let census = Arc::new(Census::default());
        let none = Limits { connections_max: 0, per_ip_max: 1, ..Limits::default() };
        assert!(matches!(
            Census::admit(&census, &ip("10.0.0.1"), &none, Instant::now()),
            Err(Notice::ServerFull { connections_max: 0 })
        ));
        let none_each = Limits { connections_max: 1, per_ip_max: 0, ..Limits::default() };
        assert!(matches!(
            Census::admit(&census, &ip("10.0.0.1"), &none_each, Instant::now()),
            Err(Notice::AddressFull { per_ip_max: 0 })
        ));
        assert!(census.counts.lock().expect("whole").by_site.is_empty(), "nothing is left behind");

        let limits = Limits { connections_max: 2, per_ip_max: 1, ..Limits::default() };
        let first = Census::admit(&census, &ip("10.0.0.1"), &limits, Instant::now()).expect("the first comes in");
        assert!(Census::admit(&census, &ip("10.0.0.1"), &limits, Instant::now()).is_err());
        let other = Census::admit(&census, &ip("10.0.0.2"), &limits, Instant::now())
            .expect("the refused one did not take this place");
        assert!(matches!(
            Census::admit(&census, &ip("10.0.0.3"), &limits, Instant::now()),
            Err(Notice::ServerFull { .. })
        ));
        drop((first, other));
        assert!(census.counts.lock().expect("whole").by_site.is_empty(), "nothing is left behind");
    }

    #[test]
    fn strangers_come_from_each_address_at_their_rate_and_the_trusted_as_they_like() {
        let rate = Rate { burst: 2, per_second: 4 };
        let limits = Limits { connect_rate: Some(rate), connections_max: 6, ..Limits::default() };
        let (census, start) = (Arc::new(Census::default()), Instant::now());
        let hasty = Some(Notice::AddressHasty { per_second: 4 });
        let full = Some(Notice::ServerFull { connections_max: 6 });
        let mut places = Vec::new();
        for (ms, from, refusal) in [
            (0, "2001:db8::1", None),
            (0, "2001:db8::2", None),
            (0, "2001:db8::3", hasty),
            (0, "10.0.0.1", None),
            (0, "127.0.0.1", None),
            (0, "::ffff:127.0.0.1", None),
            (0, "127.0.0.1", None),
            (249, "2001:db8::1", hasty),
            (250, "2001:db8::1", full),
            (250, "2001:db8::1", hasty),
        ] {
            let place = Census::admit(&census, &ip(from), &limits, start + Duration::from_millis(ms));
            assert_eq!(place.as_ref().err().copied(), refusal, "{from} after {ms} ms");
            places.extend(place);
        }
    }

    #[test]
    fn who_is_of_this_machine_counts_among_all_only() {
        let rate = Rate { burst: 1, per_second: 1 };
        let limits = Limits {
            connect_rate: Some(rate),
            per_ip_max: 1,
            connections_max: 3,
            trusted: vec![],
            ..Limits::default()
        };
        let census = Arc::new(Census::default());
        let local = Peer::from(Origin::Local { uid: 1000, pid: Some(7) });
        let admit = || Census::admit(&census, &local, &limits, Instant::now());
        let places: Vec<_> = (0..3).map(|_| admit().expect("it has no address")).collect();
        assert_eq!(admit().err(), Some(Notice::ServerFull { connections_max: 3 }));
        drop(places);
        assert!(admit().is_ok());
    }

    #[test]
    fn where_one_comes_from_is_known_only_if_it_was_to_be_remembered() {
        let census = Arc::new(Census::default());
        for per_ip_max in [usize::MAX, 1] {
            let limits = Limits { per_ip_max, ..Limits::default() };
            let from = ip("10.0.0.1");
            let mut place = Census::admit(&census, &from, &limits, Instant::now()).expect("it comes in");
            assert_eq!(place.origin(), None);
            place.remember(from.origin);
            assert_eq!(place.origin(), Some(from.origin));
        }
    }
}
