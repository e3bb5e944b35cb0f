//! What happens by itself: arrivals, and giving up on who does not answer.

use std::io::ErrorKind;
use std::time::Duration;

use super::{Id, Key, Opening, Packet, Timer, World};
use crate::network::simnet::{Side, What};

impl World {
    pub(super) fn arm(&mut self, at: Duration, timer: Timer) -> Key {
        self.timer_serial += 1;
        let key = (at, self.timer_serial);
        self.timers.insert(key, timer);
        key
    }

    pub(super) fn disarm(&mut self, key: Option<Key>) {
        if let Some(key) = key {
            self.timers.remove(&key);
        }
    }

    pub(in crate::network::simnet) fn next_due(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Lets happen what is due.
    pub(in crate::network::simnet) fn run_due(&mut self) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            match entry.remove() {
                Timer::Arrival(id, side) => {
                    if let Some(conn) = self.conn(id) {
                        conn.pipes[side as usize].timer = None;
                        self.advance(id, side);
                    }
                }
                Timer::User(id, side) => self.on_user_timer(id, side),
                Timer::Keepalive(id, side) => self.on_keepalive_timer(id, side),
                Timer::Connect(id) => self.on_connect_timer(id),
            }
        }
    }

    fn on_connect_timer(&mut self, id: Id) {
        let Some(conn) = self.conn(id) else { return };
        conn.connect_timer = None;
        if conn.opening == Opening::Waits {
            conn.opening = Opening::Failed(ErrorKind::TimedOut);
            self.note(What::ConnectTimedOut, id, Side::Client, 0);
            self.wake(id, Side::Client, true, false);
        }
    }

    fn on_user_timer(&mut self, id: Id, side: Side) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let (end, pipe) = (&mut conn.ends[side as usize], &conn.pipes[side as usize]);
        end.user_timer = None;
        let Some(limit) = end.options.user_timeout else { return };
        if end.is_dead || pipe.written == pipe.acked {
            return;
        }
        if now >= pipe.stuck_since + limit {
            self.time_out(id, side);
        } else {
            let at = pipe.stuck_since + limit;
            let key = self.arm(at, Timer::User(id, side));
            self.held(id).ends[side as usize].user_timer = Some(key);
        }
    }

    pub(super) fn arm_keepalive(&mut self, id: Id, side: Side) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let end = &mut conn.ends[side as usize];
        let old = end.keepalive_timer.take();
        end.heard_at = now;
        end.probes = 0;
        let idle = end.options.keepalive.map(|keepalive| keepalive.idle);
        self.disarm(old);
        if let Some(idle) = idle {
            let key = self.arm(now + idle, Timer::Keepalive(id, side));
            self.held(id).ends[side as usize].keepalive_timer = Some(key);
        }
    }

    fn on_keepalive_timer(&mut self, id: Id, side: Side) {
        let now = self.now;
        let Some(conn) = self.conn(id) else { return };
        let peer_is_dead = conn.ends[side.peer() as usize].is_dead;
        let passes = conn.pipes.iter().all(|pipe| !pipe.is_still()) && conn.ends.iter().all(|end| !end.is_lost);
        let busy = conn.pipes[side as usize].written != conn.pipes[side as usize].acked;
        let end = &mut conn.ends[side as usize];
        end.keepalive_timer = None;
        let Some(keepalive) = end.options.keepalive else { return };
        if end.is_dead || !end.is_open {
            return;
        }
        let at = if now < end.heard_at + keepalive.idle {
            end.probes = 0;
            end.heard_at + keepalive.idle
        } else if busy {
            // Retransmission asks already (Linux, `tcp_keepalive_timer`).
            now + keepalive.idle
        } else if passes {
            if peer_is_dead {
                self.push(id, side.peer(), Packet::Rst);
                return;
            }
            end.heard_at = now;
            end.probes = 0;
            now + keepalive.idle
        } else if end.probes == keepalive.retries {
            self.time_out(id, side);
            return;
        } else {
            end.probes += 1;
            now + keepalive.interval
        };
        let key = self.arm(at, Timer::Keepalive(id, side));
        self.held(id).ends[side as usize].keepalive_timer = Some(key);
    }

    fn time_out(&mut self, id: Id, side: Side) {
        self.note(What::TimedOut, id, side, 0);
        let end = &mut self.held(id).ends[side as usize];
        end.error = Some(ErrorKind::TimedOut);
        end.is_dead = true;
        self.purge(id, side, true);
        self.wake(id, side, true, true);
    }
}
