//! The way out of a connection, and the account of the time in which it takes nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use tokio::runtime::Handle;

use super::now;
use crate::patience::Account;

/// Writes to a stream. Holds nothing while the stream takes what it is given.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    blocked: Option<Box<Blocked>>,
}

/// A connection that took nothing, within the last bytes that it took of the room.
#[derive(Debug)]
struct Blocked {
    account: Account,
    /// Wakes the task, and notes when, once the connection can take bytes again. `None` while it can.
    stamp: Option<Arc<Stamp>>,
    /// Since when it has taken nothing.
    stalled_since: Option<Instant>,
    /// It is in the way of a full room.
    is_pressed: bool,
    /// It was blocked when it was to be flushed.
    holds: bool,
}

/// A waker that notes when it was woken: law 6 counts waiting until the connection can take bytes, not until its task gets
/// round to it.
struct Stamp {
    waker: Waker,
    /// Where the time comes from, as a waker may be woken outside any runtime.
    clock: Handle,
    woken_at: OnceLock<Instant>,
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _clock = self.clock.enter();
        let _first = self.woken_at.set(now());
        self.waker.wake_by_ref();
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamp").field("woken_at", &self.woken_at).finish_non_exhaustive()
    }
}

impl Outlet {
    /// Writes some of `slices` to `stream`. `backlog_bytes` is the B of the account that is opened when it blocks.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        backlog_bytes: usize,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let wrote = self.poll_stamped(backlog_bytes, cx, |cx| poll_write_slices(stream, slices, cx));
        if let Poll::Ready(Ok(1..)) = &wrote {
            self.on_unblocked();
        }
        wrote
    }

    /// Sees to it that nothing is held of what was written to `stream`: until then it takes nothing, as far as we can know.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        backlog_bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut flushed = Pin::new(&mut *stream).poll_flush(cx);
        let held = flushed.is_pending();
        if held {
            flushed = self.poll_stamped(backlog_bytes, cx, |cx| Pin::new(&mut *stream).poll_flush(cx));
        }
        let holds = flushed.is_pending();
        // Most streams hold nothing: that says nothing of whether they would take something.
        if let Some(blocked) = &mut self.blocked
            && (std::mem::replace(&mut blocked.holds, holds) || held)
            && !holds
        {
            self.on_unblocked();
        }
        flushed
    }

    /// Polls by a waker that notes when it is woken, if it is pending or was.
    fn poll_stamped<T>(
        &mut self,
        backlog_bytes: usize,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(blocked) = &mut self.blocked {
            blocked.drop_stamp_if_used(cx.waker());
        }
        let mut polled = match self.blocked.as_ref().and_then(|blocked| blocked.stamp.clone()) {
            Some(stamp) => poll(&mut Context::from_waker(&stamp.into())),
            None => poll(cx),
        };
        if polled.is_pending() && !self.is_blocked() {
            let stamp = self.open(backlog_bytes, cx.waker());
            // Once more, so that it is the stamp that is woken.
            polled = poll(&mut Context::from_waker(&stamp.into()));
        }
        polled
    }

    /// The connection takes bytes again.
    fn on_unblocked(&mut self) {
        if let Some(blocked) = &mut self.blocked {
            if let Some(stamp) = blocked.stamp.take() {
                blocked.account.on_unblocked(stamp.woken_at.get().copied().unwrap_or_else(now));
            }
            blocked.stalled_since = None;
            blocked.is_pressed = false;
            blocked.holds = false;
            self.close_if_clear();
        }
    }

    /// Notes that the connection can take nothing as of now.
    fn open(&mut self, backlog_bytes: usize, waker: &Waker) -> Arc<Stamp> {
        let now = now();
        let stamp = Stamp { waker: waker.clone(), clock: Handle::current(), woken_at: OnceLock::new() };
        let stamp = Arc::new(stamp);
        let blocked = self.blocked.get_or_insert_with(|| {
            let account = Account::new(backlog_bytes);
            Box::new(Blocked { account, stamp: None, stalled_since: None, is_pressed: false, holds: false })
        });
        blocked.account.on_blocked(now);
        blocked.stalled_since.get_or_insert(now);
        blocked.stamp = Some(Arc::clone(&stamp));
        stamp
    }

    /// Whether it holds nothing: the stream has not blocked within the last bytes that count.
    pub(super) fn is_clear(&self) -> bool {
        self.blocked.is_none()
    }

    fn close_if_clear(&mut self) {
        if self.blocked.as_ref().is_some_and(|blocked| blocked.account.is_clear()) {
            self.blocked = None;
        }
    }

    /// The connection took `bytes` of the room. What it is told alone does not count, or whoever asks for much would be
    /// forgiven its waiting for the room.
    pub(super) fn on_taken(&mut self, bytes: usize) {
        if let Some(blocked) = &mut self.blocked {
            blocked.account.on_taken(bytes);
            self.close_if_clear();
        }
    }

    /// The reader is in the way of a full room, or is not.
    pub(super) fn set_pressed(&mut self, is_pressed: bool) {
        if let Some(blocked) = &mut self.blocked {
            blocked.is_pressed = is_pressed;
        }
    }

    /// Whether the last write would have blocked.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| blocked.stamp.is_some())
    }

    /// Whether it has taken nothing for `stall`.
    pub(super) fn has_stalled(&self, stall: Duration, now: Instant) -> bool {
        let stalled_since = self.blocked.as_ref().and_then(|blocked| blocked.stalled_since);
        stalled_since.and_then(|since| since.checked_add(stall)).is_some_and(|until| until <= now)
    }

    /// Whether it may no longer hold up a full room.
    pub(super) fn is_spent(&self, patience: Duration, now: Instant) -> bool {
        patience.is_zero() || self.blocked.as_ref().is_some_and(|blocked| blocked.account.is_spent(patience, now))
    }

    /// When something has to be decided though it still takes nothing.
    pub(super) fn deadline(&self, stall: Duration, patience: Duration) -> Option<Instant> {
        let blocked = self.blocked.as_ref().filter(|blocked| blocked.stamp.is_some())?;
        let stalled = blocked.stalled_since.and_then(|since| since.checked_add(stall));
        let spent = if blocked.is_pressed { blocked.account.spent_at(patience) } else { None };
        stalled.into_iter().chain(spent).min()
    }
}

impl Blocked {
    /// A stamp that was woken is an end of waiting, whatever comes of it; one that would wake another task is of no use.
    fn drop_stamp_if_used(&mut self, waker: &Waker) {
        let Some(stamp) = &self.stamp else { return };
        if let Some(&at) = stamp.woken_at.get() {
            self.account.on_unblocked(at);
            self.stamp = None;
        } else if !stamp.waker.will_wake(waker) {
            self.stamp = None;
        }
    }
}

pub(super) fn poll_write_slices<S: AsyncWrite + Unpin>(
    stream: &mut S,
    slices: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match slices {
        [one] => Pin::new(stream).poll_write(cx, one),
        many => Pin::new(stream).poll_write_vectored(cx, many),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::advance;

    use super::*;

    /// Law 6 counts waiting over the last backlog of bytes, and no longer.
    #[tokio::test(start_paused = true)]
    async fn waiting_counts_until_a_backlog_was_taken() {
        let bytes = [b'x'; 16];
        let backlog_bytes = 4 * bytes.len();
        let (mut stream, mut peer) = duplex(bytes.len());
        let mut outlet = Outlet::default();
        let mut write = |outlet: &mut Outlet| {
            let mut cx = Context::from_waker(Waker::noop());
            let wrote = outlet.poll_write(&mut stream, backlog_bytes, &[IoSlice::new(&bytes)], &mut cx);
            wrote.map(|taken| outlet.on_taken(taken.expect("the peer is there"))).is_ready()
        };
        assert!(write(&mut outlet), "there is room");
        assert!(outlet.is_clear() && !outlet.is_blocked());
        assert!(!write(&mut outlet), "it is full");
        assert!(!outlet.is_clear() && outlet.is_blocked());
        advance(Duration::from_secs(1)).await;
        for round in 0..4 {
            assert!(!outlet.is_clear(), "it has waited within the last backlog, {round}");
            peer.read_exact(&mut [0; 16]).await.expect("as much was written");
            assert!(write(&mut outlet), "there is room again");
            assert!(!outlet.is_blocked());
        }
        assert!(outlet.is_clear(), "a backlog was taken since");
    }

    /// Law 6 counts waiting until the connection can take bytes, not until its task gets round to it.
    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_connection_is_writable_though_it_takes_nothing() {
        let (mut stream, mut peer) = duplex(1);
        let mut outlet = Outlet::default();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_ready());
        assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_pending());
        advance(Duration::from_secs(1)).await;
        peer.read_exact(&mut [0]).await.expect("as much was written");
        assert!(
            Pin::new(&mut stream).poll_write(&mut cx, b"x").is_ready(),
            "the room is gone before the outlet's turn"
        );
        advance(Duration::from_secs(1)).await;
        assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_pending());
        assert!(outlet.is_blocked());
        let second = Duration::from_secs(1);
        assert!(!outlet.is_spent(second, now()), "from its first block to the wake, and from now on");
        advance(Duration::from_millis(1)).await;
        assert!(outlet.is_spent(second, now()), "it waits again");
    }

    /// Law 6: what its limits mean for a connection that takes nothing, to the nanosecond.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_spent_just_after_patience_and_stalled_at_the_stall_limit() {
        let (mut stream, mut peer) = duplex(1);
        let mut outlet = Outlet::default();
        let mut cx = Context::from_waker(Waker::noop());
        let (start, nanosecond) = (now(), Duration::from_nanos(1));
        let (patience, stall) = (Duration::from_secs(1), Duration::from_secs(30));
        assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_ready());
        assert!(!outlet.has_stalled(Duration::ZERO, start) && !outlet.is_spent(nanosecond, start));
        assert!(outlet.is_spent(Duration::ZERO, start), "without patience nobody is waited for");
        assert_eq!(outlet.deadline(stall, patience), None);

        assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_pending());
        assert!(!outlet.has_stalled(stall + nanosecond, start + stall));
        assert!(outlet.has_stalled(stall, start + stall));
        assert!(!outlet.is_spent(patience, start + patience));
        assert!(outlet.is_spent(patience, start + patience + nanosecond));
        assert_eq!(outlet.deadline(stall, patience), Some(start + stall), "nobody waits for it");
        outlet.set_pressed(true);
        assert_eq!(outlet.deadline(stall, patience), Some(start + patience + nanosecond));

        peer.read_exact(&mut [0]).await.expect("as much was written");
        assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_ready());
        assert!(!outlet.has_stalled(Duration::ZERO, start));
        assert_eq!(outlet.deadline(stall, patience), None);
    }

    /// Holds what was written to it for so many flushes.
    struct Holding(usize);

    impl AsyncWrite for Holding {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.0 == 0 {
                return Poll::Ready(Ok(()));
            }
            self.0 -= 1;
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Law 9: no deadline is left of a stream that could take bytes again while it was looked at, at whichever look.
    #[tokio::test(start_paused = true)]
    async fn stream_that_is_flushed_at_another_look_has_no_deadline() {
        let (stall, patience) = (Duration::from_secs(30), Duration::from_secs(1));
        for held in 0..6 {
            let (mut stream, mut outlet) = (Holding(held), Outlet::default());
            let mut cx = Context::from_waker(Waker::noop());
            while outlet.poll_flush(&mut stream, 100, &mut cx).is_pending() {
                assert_eq!(outlet.deadline(stall, patience), Some(now() + stall), "{held}");
            }
            assert_eq!(outlet.deadline(stall, patience), None, "{held}");
            assert!(!outlet.is_blocked() && !outlet.has_stalled(Duration::ZERO, now()), "{held}");
        }
    }

    /// Law 8: a task may be polled with another waker each time.
    #[tokio::test(start_paused = true)]
    async fn last_waker_is_woken_once_there_is_room() {
        let (mut stream, mut peer) = duplex(1);
        let mut outlet = Outlet::default();
        let wakers = [(); 3].map(|()| Arc::new(Woken::default()));
        assert!(Pin::new(&mut stream).poll_write(&mut Context::from_waker(Waker::noop()), b"x").is_ready());
        for woken in &wakers {
            let waker = Waker::from(Arc::clone(woken));
            let mut cx = Context::from_waker(&waker);
            assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_pending());
        }
        peer.read_exact(&mut [0]).await.expect("as much was written");
        assert_eq!(wakers.map(|woken| woken.0.load(Ordering::Relaxed)), [0, 0, 1]);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Law 6: what is held was not taken.
    #[tokio::test(start_paused = true)]
    async fn connection_that_holds_what_was_written_is_blocked_until_it_is_flushed() {
        // The first flush looks three times.
        let (mut stream, mut outlet) = (Holding(3), Outlet::default());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outlet.poll_write(&mut stream, 100, &[IoSlice::new(b"x")], &mut cx).is_ready());
        for is_flushed in [false, true] {
            assert_eq!(outlet.poll_flush(&mut stream, 100, &mut cx).is_ready(), is_flushed);
            assert_eq!(outlet.is_blocked(), !is_flushed);
        }
    }
}
