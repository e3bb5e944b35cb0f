//! Who has come lately, and from where: how fast connections may come from one [`Site`].
//!
//! A site is remembered until its [`Bucket`] is clear, which is as good as never having come. So what is remembered is
//! what came within the last few seconds, and no timer is needed: each caller forgets who is due. There are at most
//! [`SITES_MAX`]; with one more, that is forgotten early which would be first anyway, as it used the least.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::flood::Bucket;
use crate::limits::Rate;
use crate::site::Site;

/// Sites from which somebody came lately.
///
/// Invariant: both have the same sites, at most so many.
#[derive(Debug)]
pub(crate) struct Callers {
    buckets: BTreeMap<Site, Bucket>,
    /// When each is clear again, the first first.
    clearing: BTreeSet<(Instant, Site)>,
    sites_max: usize,
}

impl Callers {
    /// Nobody yet, and at most so many at once.
    pub(crate) fn new(sites_max: usize) -> Self {
        Self { buckets: BTreeMap::new(), clearing: BTreeSet::new(), sites_max }
    }

    /// Somebody comes from `site`: whether it may. One who may not is not counted.
    pub(crate) fn may_come(&mut self, site: Site, rate: Rate, now: Instant) -> bool {
        self.forget_until(now);
        let mut bucket = self.buckets.get(&site).copied().unwrap_or_default();
        if !bucket.is_open(rate, now) {
            return false;
        }
        if let Some(clears) = bucket.clears_at(rate) {
            self.clearing.remove(&(clears, site));
        }
        bucket.on_used(rate, now, 1);
        // A burst has at most 2^32, so it is clear within 137 years, and there are as many.
        let clears = bucket.clears_at(rate).unwrap_or(now);
        self.buckets.insert(site, bucket);
        self.clearing.insert((clears, site));
        while self.buckets.len() > self.sites_max {
            self.forget_first();
        }
        debug_assert_eq!(self.buckets.len(), self.clearing.len());
        true
    }

    fn forget_until(&mut self, now: Instant) {
        while self.clearing.first().is_some_and(|(clears, _)| *clears <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, site)) = self.clearing.pop_first() {
            self.buckets.remove(&site);
        }
    }

    /// How many sites are remembered.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { burst: 3, per_second: 2 };

    fn site(number: u32) -> Site {
        Site::of(std::net::Ipv4Addr::from(number).into())
    }

    #[test]
    fn site_that_came_long_ago_is_forgotten() {
        let start = Instant::now();
        let mut callers = Callers::new(10);
        assert!(callers.may_come(site(1), RATE, start));
        assert!(callers.may_come(site(1), RATE, start));
        assert!(callers.may_come(site(2), RATE, start + Duration::from_millis(999)));
        assert_eq!(callers.len(), 2);
        assert!(callers.may_come(site(2), RATE, start + Duration::from_secs(1)));
        assert_eq!(callers.len(), 1, "two are given back in a second");
    }

    /// Law 7. Who came once is forgotten before who came often.
    #[test]
    fn flood_of_sites_is_remembered_up_to_a_bound_and_hides_nobody_who_comes_often() {
        let start = Instant::now();
        let mut callers = Callers::new(10);
        for _ in 0..3 {
            assert!(callers.may_come(site(0), RATE, start));
        }
        for other in 1..1000 {
            assert!(callers.may_come(site(other), RATE, start));
            assert!(callers.len() <= 10);
        }
        assert!(!callers.may_come(site(0), RATE, start));
    }

    proptest! {
        /// Below the bound it is as if each site had a bucket for ever.
        #[test]
        fn each_site_has_a_bucket_of_its_own(calls in proptest::collection::vec((0..700u64, 0..5u32), 0..200)) {
            let mut now = Instant::now();
            let mut callers = Callers::new(5);
            let mut buckets = [Bucket::default(); 5];
            for (wait, number) in calls {
                now += Duration::from_millis(wait);
                let bucket = &mut buckets[number as usize];
                let may_come = bucket.is_open(RATE, now);
                if may_come {
                    bucket.on_used(RATE, now, 1);
                }
                prop_assert_eq!(callers.may_come(site(number), RATE, now), may_come);
                let lately = buckets.iter().filter(|bucket| bucket.clears_at(RATE).is_some_and(|clears| clears > now));
                prop_assert_eq!(callers.len(), lately.count());
            }
        }
    }
}
