//! Law 6 as a pure rule: how long a reader has waited, over the last bytes that it took.
//!
//! Each reader whose connection once took nothing has an [`Account`]. It remembers waiting by *where* in the reader's own
//! stream it happened, not by when: a reader that drains B bytes per P can have waited at most P within any B bytes, so
//! whoever shows more is slower than that, however cleverly it spreads its reading. Bytes skipped at a let-go are not
//! taken and clear nothing.
//!
//! The window is cut into buckets of a sixteenth of B. It spans between fifteen and sixteen of them and never more than
//! B: a reader at B per P is never judged by more than B bytes (law 6 (b) holds exactly), and one below it holds the room
//! to at least fifteen sixteenths of B per P.

use std::time::{Duration, Instant};

/// Buckets in the window. Eight would hold law 6 (a) to within an eighth; sixteen cost 128 bytes more of a blocked reader.
const BUCKETS: usize = 16;

/// The waiting of one reader within the last B bytes that its own connection took.
#[derive(Clone, Debug)]
pub struct Account {
    /// Time waited per bucket; `current` is the newest.
    waited: [Duration; BUCKETS],
    current: usize,
    bucket_bytes: usize,
    /// Bytes taken since the current bucket began; less than `bucket_bytes`.
    taken_bytes: usize,
    /// Since when the connection can take nothing, if that is so now.
    since: Option<Instant>,
}

impl Account {
    /// An account without any waiting, for a backlog of `backlog_bytes` (B).
    pub fn new(backlog_bytes: usize) -> Self {
        Self {
            waited: [Duration::ZERO; BUCKETS],
            current: 0,
            bucket_bytes: (backlog_bytes / BUCKETS).max(1),
            taken_bytes: 0,
            since: None,
        }
    }

    /// The connection took `bytes`.
    pub fn on_taken(&mut self, bytes: usize) {
        let total = self.taken_bytes + bytes;
        self.taken_bytes = total % self.bucket_bytes;
        for _ in 0..(total / self.bucket_bytes).min(BUCKETS) {
            self.current = (self.current + 1) % BUCKETS;
            self.waited[self.current] = Duration::ZERO;
        }
    }

    /// A write would block as of `now`. No effect while one did already.
    pub fn on_blocked(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The connection can take bytes again, as of `at`. No effect when it could.
    pub fn on_unblocked(&mut self, at: Instant) {
        if let Some(since) = self.since.take() {
            self.waited[self.current] += at.saturating_duration_since(since);
        }
    }

    /// Waiting within the window, up to `now`.
    pub fn waited(&self, now: Instant) -> Duration {
        let past: Duration = self.waited.iter().sum();
        past + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether a reader with this account may no longer hold up a full room: it has waited more than `patience` (P).
    pub fn is_spent(&self, patience: Duration, now: Instant) -> bool {
        self.waited(now) > patience
    }

    /// When it will be spent if its connection keeps taking nothing: `None` when it takes, or when that is never.
    pub fn spent_at(&self, patience: Duration) -> Option<Instant> {
        let past: Duration = self.waited.iter().sum();
        // One nanosecond more than P, as waiting P is still within patience.
        let left = patience.saturating_sub(past).checked_add(Duration::from_nanos(1))?;
        self.since?.checked_add(left)
    }

    /// Whether it shows no waiting at all, so that a new account would be the same but for the grain of its buckets.
    pub fn is_clear(&self) -> bool {
        self.since.is_none() && self.waited.iter().all(Duration::is_zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const B: usize = 1600;
    const P: Duration = Duration::from_millis(100);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn waiting_counts_from_blocked_to_unblocked() {
        let start = Instant::now();
        let mut account = Account::new(B);
        account.on_blocked(start);
        account.on_blocked(after(start, 30));
        assert_eq!(account.waited(after(start, 50)), Duration::from_millis(50));
        account.on_unblocked(after(start, 60));
        account.on_unblocked(after(start, 90));
        assert_eq!(account.waited(after(start, 500)), Duration::from_millis(60));
    }

    #[test]
    fn patience_is_spent_just_after_it_has_passed() {
        let start = Instant::now();
        let mut account = Account::new(B);
        account.on_blocked(start);
        let spent = account.spent_at(P).expect("it waits");
        assert!(!account.is_spent(P, start + P));
        assert!(account.is_spent(P, spent));
        assert_eq!(spent, start + P + Duration::from_nanos(1));
        assert_eq!(account.spent_at(Duration::MAX), None);
    }

    #[test]
    fn taking_a_backlog_clears_the_account() {
        let start = Instant::now();
        let mut account = Account::new(B);
        account.on_blocked(start);
        account.on_unblocked(start + 2 * P);
        account.on_taken(B - 1);
        assert!(!account.is_clear(), "the window still reaches back to the waiting");
        account.on_taken(1);
        assert!(account.is_clear());
    }

    /// The slow truth: every waiting with the place in the stream where it happened.
    #[derive(Default)]
    struct Oracle {
        taken: usize,
        waits: Vec<(usize, Duration)>,
    }

    impl Oracle {
        fn within(&self, bytes: usize) -> Duration {
            self.waits.iter().filter(|(at, _)| self.taken - at < bytes).map(|(_, waited)| *waited).sum()
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take(usize),
        Wait(u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op =
            prop_oneof![(1..2 * B).prop_map(Op::Take), (1..B / 8).prop_map(Op::Take), (0..80u64).prop_map(Op::Wait)];
        proptest::collection::vec(op, 0..200)
    }

    proptest! {
        /// The account lies between the waiting within the last 15/16 of B and that within the last B.
        #[test]
        fn account_is_the_waiting_within_the_last_backlog(ops in ops()) {
            let mut now = Instant::now();
            let mut account = Account::new(B);
            let mut oracle = Oracle::default();
            for op in ops {
                match op {
                    Op::Take(bytes) => {
                        account.on_taken(bytes);
                        oracle.taken += bytes;
                    }
                    Op::Wait(ms) => {
                        account.on_blocked(now);
                        now = after(now, ms);
                        account.on_unblocked(now);
                        oracle.waits.push((oracle.taken, Duration::from_millis(ms)));
                    }
                }
                prop_assert!(account.waited(now) <= oracle.within(B));
                prop_assert!(account.waited(now) >= oracle.within(B - B / BUCKETS + 1));
            }
        }

        /// Law 6 (b): a reader that any B bytes take at most P is never spent, however its waiting is spread.
        #[test]
        fn reader_at_due_speed_is_never_spent(bursts in proptest::collection::vec(1..=B / 20, 1..400)) {
            let mut now = Instant::now();
            let mut account = Account::new(B);
            for bytes in bursts {
                // Nine tenths of B's due time per byte, and B bytes touch at most B/20 more at each side: 0.99 P.
                let time = P * 9 * u32::try_from(bytes).expect("small") / (10 * u32::try_from(B).expect("small"));
                account.on_blocked(now);
                now += time;
                prop_assert!(!account.is_spent(P, now));
                account.on_unblocked(now);
                account.on_taken(bytes);
            }
        }

        /// While its connection takes nothing, an account is spent from the moment foretold, and not a nanosecond before.
        #[test]
        fn account_is_spent_from_the_moment_foretold(ops in ops(), patience_ms in 0..500u64) {
            let patience = Duration::from_millis(patience_ms);
            let mut now = Instant::now();
            let mut account = Account::new(B);
            for op in ops {
                match op {
                    Op::Take(bytes) => account.on_taken(bytes),
                    Op::Wait(ms) => {
                        prop_assert_eq!(account.spent_at(patience), None, "whose connection takes is not waited for");
                        account.on_blocked(now);
                        let spent = account.spent_at(patience).expect("it waits");
                        let just_before = spent.checked_sub(Duration::from_nanos(1)).expect("it lies behind now");
                        prop_assert!(account.is_spent(patience, spent));
                        prop_assert!(account.is_spent(patience, now) || !account.is_spent(patience, just_before));
                        now = after(now, ms);
                        account.on_unblocked(now);
                    }
                }
            }
        }
    }
}
