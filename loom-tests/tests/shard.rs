//! Law 8, **no lost wake**: a shard of connections, whose futures are woken by any thread at any time, from the shipped
//! files.
#![cfg(loom)]

#[path = "../../src/shard.rs"]
mod shard;
#[path = "../../src/sync.rs"]
#[allow(unused_imports, reason = "the room uses more of it")]
mod sync;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loom::sync::Mutex;
use loom::thread;
use loom_tests::{Task, model, wait, wait_by};

use self::shard::{Ended, Shard};

/// What a future waits for: so many calls.
#[derive(Default)]
struct Bell(Mutex<(usize, Option<Waker>)>);

impl Bell {
    fn ring(&self) {
        let waker = {
            let mut bell = self.0.lock().expect("nobody panics");
            bell.0 += 1;
            bell.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Ends when its bell has rung so often.
struct Rings(loom::sync::Arc<Bell>, usize);

impl Future for Rings {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut bell = self.0.0.lock().expect("nobody panics");
        if bell.0 >= self.1 {
            return Poll::Ready(());
        }
        bell.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn bell() -> loom::sync::Arc<Bell> {
    loom::sync::Arc::default()
}

fn ring(bell: &loom::sync::Arc<Bell>) -> thread::JoinHandle<()> {
    let bell = loom::sync::Arc::clone(bell);
    thread::spawn(move || bell.ring())
}

/// Waking against polling against going to sleep: whoever is woken is polled again.
#[test]
fn futures_that_are_woken_are_polled() {
    model(None, || {
        let bells = [bell(), bell()];
        let mut shard = Shard::new(|_| ());
        for bell in &bells {
            shard.insert(Rings(loom::sync::Arc::clone(bell), 1));
        }
        let ringing = [ring(&bells[0]), ring(&bells[1])];
        for _ in &bells {
            assert_eq!(wait(|cx| shard.poll_ended(cx)), Ended::Done);
        }
        assert!(shard.is_empty(), "law 9");
        for thread in ringing {
            thread.join().expect("it ends");
        }
    });
}

/// Waking amid a poll, and twice: a future that is woken while it is in the queue, or being polled, is not forgotten.
#[test]
fn future_woken_again_is_polled_again() {
    model(Some(3), || {
        let bell = bell();
        let mut shard = Shard::new(|_| ());
        shard.insert(Rings(loom::sync::Arc::clone(&bell), 2));
        let ringing = [ring(&bell), ring(&bell)];
        assert_eq!(wait(|cx| shard.poll_ended(cx)), Ended::Done);
        for thread in ringing {
            thread.join().expect("it ends");
        }
    });
}

/// A waker that outlives its future, and comes to the next by its key: that one is polled for nothing, and neither is lost.
#[test]
fn wakers_that_come_late_wake_nobody_wrongly() {
    model(Some(3), || {
        let (gone, here) = (bell(), bell());
        let mut shard = Shard::new(|_| ());
        shard.insert(Rings(loom::sync::Arc::clone(&gone), 1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(shard.poll_ended(&mut cx).is_pending());
        let late = gone.0.lock().expect("nobody panics").1.clone().expect("it waits");
        gone.ring();
        assert_eq!(shard.poll_ended(&mut cx), Poll::Ready(Ended::Done));
        shard.insert(Rings(loom::sync::Arc::clone(&here), 1));
        let waking = thread::spawn(move || late.wake());
        let ringing = ring(&here);
        assert_eq!(wait(|cx| shard.poll_ended(cx)), Ended::Done);
        waking.join().expect("it ends");
        ringing.join().expect("it ends");
        assert!(shard.poll_ended(&mut cx).is_pending());
    });
}

/// The shard's own task moves to another thread while it sleeps: the waker of its last poll counts.
#[test]
fn last_waker_of_the_shard_is_woken() {
    model(None, || {
        let bell = bell();
        let mut shard = Shard::new(|_| ());
        shard.insert(Rings(loom::sync::Arc::clone(&bell), 1));
        let before = Arc::<Task>::default();
        let first = shard.poll_ended(&mut Context::from_waker(&Arc::clone(&before).into()));
        assert!(first.is_pending());
        let ringing = ring(&bell);
        let task = Arc::<Task>::default();
        assert_eq!(wait_by(&task, |cx| shard.poll_ended(cx)), Ended::Done);
        assert!(before.wakes() + task.wakes() <= 1, "once is enough");
        ringing.join().expect("it ends");
    });
}
