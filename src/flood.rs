//! How fast a stranger may speak: a pure rule, by which it is slowed and never punished.
//!
//! A [`Bucket`] holds what one source used up of a [`Rate`], and runs empty at its pace: the generic cell rate algorithm
//! (ITU-T I.371, annex A, as a continuous-state leaky bucket). What is used is counted in billionths, and a rate is a whole
//! number a second, so a nanosecond drains a whole number of them: nothing is ever rounded, but the moment foretold, up.
//!
//! Over any span T no more is used than the burst, T times the pace, and what the last use overshoots by. Uses of one
//! never overshoot; a line is let in for its first byte and pays for all of them afterwards. Who keeps within the rate never
//! waits.
//!
//! But for breath: a burst is taken in [gulps](Gulp), so that what others say meanwhile comes between them. One burst to a crowd
//! is more than a moment's work: 60 KB of garbage to 280 readers held up the lines of others by up to 20 ms (`benches/hostile`).

use std::time::{Duration, Instant};

use crate::limits::{Flood, GULP_BYTES, GULP_PERIOD, Rate};

/// What is used, in the grain of a bucket: so many make one.
const BILLION: u64 = 1_000_000_000;

/// What one source used of a rate, and time has not given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// In billionths of what is counted.
    held: u64,
    /// When that was so. `None`: it is new.
    at: Option<Instant>,
}

impl Bucket {
    /// What it holds as of `now`, in billionths.
    fn held(&self, rate: Rate, now: Instant) -> u64 {
        let Some(at) = self.at else { return 0 };
        let drained = now.saturating_duration_since(at).as_nanos().saturating_mul(rate.per_second.into());
        self.held.saturating_sub(u64::try_from(drained).unwrap_or(u64::MAX))
    }

    /// Whether one more may be used as of `now`.
    pub(crate) fn is_open(&self, rate: Rate, now: Instant) -> bool {
        self.held(rate, now) <= most_held(rate)
    }

    /// So many were used as of `now`, or as of the last time if that was later.
    pub(crate) fn on_used(&mut self, rate: Rate, now: Instant, count: u64) {
        // What does not fit is forgiven: 18 billion in one burst.
        self.held = self.held(rate, now).saturating_add(count.saturating_mul(BILLION));
        self.at = self.at.max(Some(now));
    }

    /// From when on it is open, if nothing more is used. `None`: it always was, or never will be.
    pub(crate) fn opens_at(&self, rate: Rate) -> Option<Instant> {
        self.drains_to(most_held(rate), rate)
    }

    /// From when on it is as good as new. `None`: it is new, or that is never.
    pub(crate) fn clears_at(&self, rate: Rate) -> Option<Instant> {
        self.drains_to(0, rate)
    }

    fn drains_to(&self, left: u64, rate: Rate) -> Option<Instant> {
        let excess = self.held.saturating_sub(left);
        self.at?.checked_add(Duration::from_nanos(excess.div_ceil(rate.per_second.into())))
    }
}

/// The most that a bucket holds which is open.
fn most_held(rate: Rate) -> u64 {
    u64::from(rate.burst).saturating_sub(1) * BILLION
}

/// What was taken in within one [`GULP_PERIOD`]: no more than [`GULP_BYTES`], and what the last line overshoots by.
#[derive(Clone, Copy, Debug, Default)]
struct Gulp {
    bytes: usize,
    /// From then on it is over. `None`: there was none yet.
    over_at: Option<Instant>,
}

impl Gulp {
    fn is_open(&self, now: Instant) -> bool {
        self.bytes < GULP_BYTES || self.is_over(now)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.over_at.is_none_or(|at| at <= now)
    }

    fn on_used(&mut self, now: Instant, bytes: usize) {
        if self.is_over(now) {
            *self = Self { bytes: 0, over_at: now.checked_add(GULP_PERIOD) };
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// From when on it is open, if nothing more is used. `None`: it is.
    fn opens_at(&self) -> Option<Instant> {
        self.over_at.filter(|_| self.bytes >= GULP_BYTES)
    }
}

/// The buckets of one connection, of its lines and of its bytes, and the gulp that it is at.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    flood: Flood,
    lines: Bucket,
    bytes: Bucket,
    gulp: Gulp,
}

impl Meter {
    /// One by which nothing was used yet.
    pub(crate) fn new(flood: Flood) -> Self {
        Self { flood, lines: Bucket::default(), bytes: Bucket::default(), gulp: Gulp::default() }
    }

    /// Whether one more line may be heard.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.lines.is_open(self.flood.lines, now) && self.bytes.is_open(self.flood.bytes, now) && self.gulp.is_open(now)
    }

    /// So many lines were heard, and so many bytes were taken in with them or dropped.
    pub(crate) fn on_heard(&mut self, now: Instant, lines: u64, bytes: usize) {
        self.lines.on_used(self.flood.lines, now, lines);
        self.bytes.on_used(self.flood.bytes, now, bytes as u64);
        self.gulp.on_used(now, bytes);
    }

    /// From when on one more line may be heard. `None`: at any time.
    pub(crate) fn opens_at(&self) -> Option<Instant> {
        self.lines.opens_at(self.flood.lines).max(self.bytes.opens_at(self.flood.bytes)).max(self.gulp.opens_at())
    }

    /// Whether nothing was heard by it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.lines.at.is_none()
    }

    /// Whether it is as good as new.
    pub(crate) fn is_clear(&self, now: Instant) -> bool {
        self.lines.held(self.flood.lines, now) == 0
            && self.bytes.held(self.flood.bytes, now) == 0
            && self.gulp.is_over(now)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOD: Flood = Flood { lines: Rate { burst: 4, per_second: 10 }, bytes: Rate { burst: 100, per_second: 50 } };

    /// The last moment before `at`.
    fn just_before(at: Instant) -> Instant {
        at.checked_sub(Duration::from_nanos(1)).expect("nothing here happens at the first moment")
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn burst_passes_at_once_and_the_rest_at_its_pace() {
        let start = Instant::now();
        let mut meter = Meter::new(FLOOD);
        for line in 0..4 {
            assert!(meter.is_open(start), "line {line} is within the burst");
            meter.on_heard(start, 1, 1);
        }
        for line in 1..=20 {
            let opens = after(start, 100 * line);
            assert_eq!(meter.opens_at(), Some(opens));
            assert!(!meter.is_open(just_before(opens)));
            assert!(meter.is_open(opens));
            meter.on_heard(opens, 1, 1);
        }
    }

    #[test]
    fn long_line_is_let_in_and_paid_for_afterwards() {
        let start = Instant::now();
        let mut meter = Meter::new(FLOOD);
        meter.on_heard(start, 1, 99);
        assert!(meter.is_open(start), "one byte is left");
        meter.on_heard(start, 1, 151);
        assert_eq!(meter.opens_at(), Some(after(start, 3020)), "151 bytes are to drain");
    }

    #[test]
    fn meter_is_clear_once_all_has_drained() {
        let start = Instant::now();
        let mut meter = Meter::new(FLOOD);
        assert!(meter.is_new() && meter.is_clear(start));
        assert_eq!(meter.opens_at(), None);
        meter.on_heard(start, 1, 10);
        assert!(!meter.is_new());
        assert!(!meter.is_clear(just_before(after(start, 200))), "the bytes take longer");
        assert!(meter.is_clear(after(start, 200)));
    }

    /// A burst that its buckets let by: a gulp, and the next when that is over.
    #[test]
    fn burst_is_taken_in_gulps() {
        let start = Instant::now();
        let mut meter = Meter::new(Flood::default());
        for gulp in 0..10 {
            let begins = start + gulp * GULP_PERIOD;
            for at in [begins, just_before(begins + GULP_PERIOD)] {
                assert!(meter.is_open(at));
                meter.on_heard(at, 1, GULP_BYTES / 2);
            }
            let over = begins + GULP_PERIOD;
            assert_eq!(meter.opens_at(), Some(over));
            assert!(!meter.is_open(just_before(over)));
        }
        assert!(!meter.is_clear(just_before(start + 10 * GULP_PERIOD)));
    }

    /// The runtime's clock does not go back, but two threads may bring what they read of it in another order.
    #[test]
    fn use_in_the_past_is_counted_and_drains_nothing() {
        let (rate, start) = (FLOOD.lines, Instant::now());
        let mut bucket = Bucket::default();
        bucket.on_used(rate, after(start, 1000), 4);
        bucket.on_used(rate, start, 1);
        assert_eq!(bucket.clears_at(rate), Some(after(start, 1500)));
    }

    #[test]
    fn numbers_beyond_all_measure_do_not_overflow() {
        let (rate, start) = (Rate { burst: u32::MAX, per_second: u32::MAX }, Instant::now());
        let mut bucket = Bucket::default();
        bucket.on_used(rate, start, u64::MAX);
        assert!(!bucket.is_open(rate, start));
        assert!(bucket.opens_at(rate).is_some());
        assert!(bucket.is_open(rate, start + Duration::from_secs(1 << 40)));
        assert!(bucket.is_open(Rate { burst: 0, ..rate }, start + Duration::from_secs(1 << 40)));
    }

    /// The slow truth: everything that was ever used, and when. A bucket is the fullest of all spans that end now.
    #[derive(Default)]
    struct Oracle(Vec<(Instant, u64)>);

    impl Oracle {
        /// What was used since some moment, less what time gave back since, in billionths; of that moment for which it is most.
        fn held(&self, rate: Rate, now: Instant) -> u128 {
            let since = |from: Instant| {
                let used = self.0.iter().filter(|(at, _)| (from..=now).contains(at));
                let used: u128 = used.map(|(_, count)| u128::from(*count)).sum();
                let drained = now.duration_since(from).as_nanos() * u128::from(rate.per_second);
                (used * u128::from(BILLION)).saturating_sub(drained)
            };
            self.0.iter().map(|(at, _)| since(*at)).max().unwrap_or(0)
        }

        /// The most that any span used beyond what its length allows.
        fn most_beyond_pace(&self, rate: Rate) -> u128 {
            self.0.iter().map(|(at, _)| self.held(rate, *at)).max().unwrap_or(0)
        }
    }

    fn rate() -> impl Strategy<Value = Rate> {
        (1..50u32, 1..50u32).prop_map(|(burst, per_second)| Rate { burst, per_second })
    }

    proptest! {
        /// A bucket is what the list of all uses says, to the billionth; and it opens from the moment foretold, and not a
        /// nanosecond before.
        #[test]
        fn bucket_is_the_list_of_all_uses(rate in rate(), uses in proptest::collection::vec((0..1_000_000_000u64, 0..40u64), 0..40)) {
            let mut now = Instant::now();
            let (mut bucket, mut oracle) = (Bucket::default(), Oracle::default());
            for (wait, count) in uses {
                now += Duration::from_nanos(wait);
                prop_assert_eq!(u128::from(bucket.held(rate, now)), oracle.held(rate, now));
                bucket.on_used(rate, now, count);
                oracle.0.push((now, count));
                prop_assert_eq!(u128::from(bucket.held(rate, now)), oracle.held(rate, now));
                for (at, most) in [(bucket.opens_at(rate), most_held(rate)), (bucket.clears_at(rate), 0)] {
                    let at = at.expect("it was used");
                    prop_assert!(oracle.held(rate, at) <= most.into());
                    prop_assert!(at == now || oracle.held(rate, just_before(at)) > most.into());
                }
            }
        }

        /// However it is tried, no span has more than its burst, its pace, and what the last use overshoots by.
        #[test]
        fn no_span_has_more_than_burst_and_pace(rate in rate(), tries in proptest::collection::vec((0..300_000_000u64, 1..40u64), 0..40)) {
            let mut now = Instant::now();
            let (mut bucket, mut ones, mut oracle, mut single) = <(Bucket, Bucket, Oracle, Oracle)>::default();
            for (wait, count) in tries {
                now += Duration::from_nanos(wait);
                if bucket.is_open(rate, now) {
                    bucket.on_used(rate, now, count);
                    oracle.0.push((now, count));
                }
                let mut passed = 0;
                while passed < count && ones.is_open(rate, now) {
                    ones.on_used(rate, now, 1);
                    passed += 1;
                }
                single.0.push((now, passed));
            }
            let burst = u128::from(rate.burst) * u128::from(BILLION);
            prop_assert!(single.most_beyond_pace(rate) <= burst);
            prop_assert!(oracle.most_beyond_pace(rate) < burst + 39 * u128::from(BILLION));
        }

        /// Who never uses more than the burst and the pace, counted over all spans, finds the bucket open.
        #[test]
        fn who_keeps_within_the_rate_never_waits(rate in rate(), waits in proptest::collection::vec(0..2_000_000_000u64, 0..40)) {
            let mut now = Instant::now();
            let (mut bucket, mut oracle) = (Bucket::default(), Oracle::default());
            let burst = u128::from(rate.burst) * u128::from(BILLION);
            for wait in waits {
                now += Duration::from_nanos(wait);
                if oracle.held(rate, now) + u128::from(BILLION) <= burst {
                    prop_assert!(bucket.is_open(rate, now));
                    bucket.on_used(rate, now, 1);
                    oracle.0.push((now, 1));
                }
            }
        }

        /// A meter lets nothing by that one of its buckets would hold.
        #[test]
        fn meter_waits_for_the_later_of_its_buckets(heard in proptest::collection::vec((0..500u64, 0..200usize), 1..30)) {
            let mut now = Instant::now();
            let mut meter = Meter::new(FLOOD);
            for (wait, bytes) in heard {
                now = after(now, wait);
                meter.on_heard(now, 1, bytes);
                let opens = meter.opens_at().expect("something was heard").max(now);
                prop_assert!(meter.is_open(opens));
                prop_assert_eq!(opens == now, meter.is_open(now));
                prop_assert!(opens == now || !meter.is_open(just_before(opens)));
            }
        }
    }
}
