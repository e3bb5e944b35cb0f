//! A stated total of memory that connections share, each beyond what is its own.
//!
//! Law 7 lets every connection hold 1 KiB of input; what it needs beyond that comes from one [`Budget`] for all, by an
//! [`Allowance`] that gives everything back when its connection goes.

use crate::limits::INPUT_BYTES_FREE;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// Bytes that are shared, and how many of them are taken.
#[derive(Debug)]
pub(crate) struct Budget {
    taken_bytes: AtomicUsize,
    total_bytes: usize,
}

impl Budget {
    pub(crate) fn new(total_bytes: usize) -> Arc<Self> {
        Arc::new(Self { taken_bytes: AtomicUsize::new(0), total_bytes })
    }

    pub(crate) fn taken_bytes(&self) -> usize {
        self.taken_bytes.load(Ordering::Relaxed)
    }
}

/// One connection's part of a [`Budget`]: some bytes of its own, the others shared.
#[derive(Debug)]
pub(crate) struct Allowance {
    budget: Arc<Budget>,
    shared_bytes: usize,
}

impl Allowance {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, shared_bytes: 0 }
    }

    /// Whether it has nothing to give back.
    pub(crate) fn is_clear(&self) -> bool {
        self.shared_bytes == 0
    }

    /// Whether `bytes` more may be held than are now. Relaxed, and no reservation: several threads may each go one read
    /// over the total, and then stop.
    pub(crate) fn spares(&self, bytes: usize) -> bool {
        self.budget.taken_bytes() + bytes <= self.budget.total_bytes
    }

    /// Notes that its connection holds `bytes` now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let shared_bytes = bytes.saturating_sub(INPUT_BYTES_FREE);
        // Relaxed: the number guards no other memory.
        if shared_bytes > self.shared_bytes {
            self.budget.taken_bytes.fetch_add(shared_bytes - self.shared_bytes, Ordering::Relaxed);
        } else if shared_bytes < self.shared_bytes {
            self.budget.taken_bytes.fetch_sub(self.shared_bytes - shared_bytes, Ordering::Relaxed);
        }
        self.shared_bytes = shared_bytes;
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn allowances_count_what_is_beyond_their_own_and_give_all_back() {
        let budget = Budget::new(100);
        let mut one = Allowance::new(Arc::clone(&budget));
        let mut two = Allowance::new(Arc::clone(&budget));
        one.set(INPUT_BYTES_FREE);
        assert_eq!(budget.taken_bytes(), 0, "its own bytes cost nothing");
        assert!(one.is_clear());
        one.set(INPUT_BYTES_FREE + 70);
        assert!(!one.is_clear());
        one.set(INPUT_BYTES_FREE + 80);
        assert!(two.spares(20));
        assert!(!two.spares(21));
        two.set(INPUT_BYTES_FREE + 20);
        one.set(INPUT_BYTES_FREE + 10);
        assert_eq!(budget.taken_bytes(), 30);
        drop(two);
        drop(one);
        assert_eq!(budget.taken_bytes(), 0);
    }
}
