//! One connection as the server holds it: a [`Drive`], folded while it idles, and its place in the census.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::census::Admission;
use crate::drive::{Drive, End, Idle};
use crate::room::Room;

/// A future that ends when the connection does, and says in the log why.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    state: State<S>,
    /// Its place among the connections, free when this is gone.
    _admission: Admission,
}

#[derive(Debug)]
enum State<S> {
    Idle(Idle<S>),
    Busy(Box<Drive<S>>),
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection from `address`, on its way into `room`.
    pub(crate) fn new(stream: S, address: &str, room: &Room, admission: Admission) -> Self {
        Self { state: State::Idle(Idle::new(stream, address, room)), _admission: admission }
    }

    /// Touches what the next poll touches first, of its stream by `touch`.
    pub(crate) fn touch(&self, touch: fn(&S)) {
        if let State::Idle(idle) = &self.state {
            idle.touch(touch);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Should the drive panic, it is dropped.
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(idle) => {
                let mut drive = idle.unfold();
                match Pin::new(&mut drive).poll(cx) {
                    Poll::Ready(end) => return ended(drive.who(), &end),
                    Poll::Pending if drive.is_idle() => State::Idle(drive.fold()),
                    Poll::Pending => State::Busy(Box::new(drive)),
                }
            }
            State::Busy(mut drive) => match Pin::new(&mut *drive).poll(cx) {
                Poll::Ready(end) => return ended(drive.who(), &end),
                Poll::Pending if drive.is_idle() => State::Idle(drive.fold()),
                Poll::Pending => State::Busy(drive),
            },
            State::Ended => return Poll::Ready(()),
        };
        Poll::Pending
    }
}

/// Says in the log how it ended.
fn ended(who: &str, end: &End) -> Poll<()> {
    match end {
        End::Stalled => tracing::info!(who, "closed: it took nothing for the stall limit"),
        End::Torn => tracing::info!(who, "closed: let go amid a line, and the memory for partial lines is spent"),
        End::LineDeadline => tracing::info!(who, "closed: a line took longer than the line deadline"),
        End::Lost(error) => tracing::debug!(who, %error, "connection lost"),
        End::Left | End::Shutdown => tracing::debug!(who, "connection ended"),
    }
    Poll::Ready(())
}
