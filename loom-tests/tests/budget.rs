//! Laws 7, **bounded memory**, and 9, **nothing left behind**: the one number that connections share without the room's
//! lock, from the shipped files.
#![cfg(loom)]

#[path = "../../src/budget.rs"]
mod budget;
#[path = "../../src/sync.rs"]
#[allow(unused_imports, reason = "the room uses more of it")]
mod sync;

use loom::thread;
use loom_tests::model;
use unisono::limits;

use self::budget::{Allowance, Budget};
use self::limits::INPUT_BYTES_FREE;
use self::sync::Arc;

/// Taking against giving back, by three connections at once: nobody's part is lost, and all of it comes back.
#[test]
fn what_all_take_at_once_is_counted_and_given_back() {
    model(None, || {
        let budget = Budget::new(100);
        let connections = [10, 20].map(|bytes| {
            let budget = Arc::clone(&budget);
            thread::spawn(move || {
                let mut allowance = Allowance::new(budget);
                allowance.set(INPUT_BYTES_FREE + bytes);
                allowance.set(INPUT_BYTES_FREE + bytes / 2);
                assert!(!allowance.spares(101 - bytes / 2), "its own part at least is seen");
                allowance
            })
        });
        let mut here = Allowance::new(Arc::clone(&budget));
        assert!(here.is_clear());
        here.set(INPUT_BYTES_FREE + 40);
        let connections = connections.map(|connection| connection.join().expect("it ends"));
        assert_eq!(budget.taken_bytes(), 5 + 10 + 40);
        assert!(here.spares(45));
        assert!(!here.spares(46));
        drop((connections, here));
        assert_eq!(budget.taken_bytes(), 0, "law 9");
    });
}
