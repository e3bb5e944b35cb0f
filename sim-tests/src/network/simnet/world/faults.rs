//! What a test does to a network: links that are slow or frozen, hosts without power, resets and errors from nowhere.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{Id, Opening, Packet, World};
use crate::network::simnet::{Options, Side, What};

impl World {
    pub(super) fn link_latency(&self, from: IpAddr, to: IpAddr) -> RangeInclusive<u64> {
        self.link_latency_ms.get(&(from, to)).unwrap_or(&self.latency_ms).clone()
    }

    pub(super) fn is_link_frozen(&self, from: IpAddr, to: IpAddr) -> bool {
        self.isolated.contains(&from) || self.isolated.contains(&to) || self.frozen.contains(&(from, to))
    }

    pub(in crate::network::simnet) fn set_latency(
        &mut self,
        link: Option<(IpAddr, IpAddr)>,
        latency_ms: RangeInclusive<u64>,
    ) {
        match link {
            Some(link) => drop(self.link_latency_ms.insert(link, latency_ms)),
            None => self.latency_ms = latency_ms,
        }
        for id in self.ids() {
            for side in Side::BOTH {
                let (from, to) = self.link(id, side);
                self.held(id).pipes[side as usize].latency_ms = self.link_latency(from, to);
            }
        }
    }

    pub(in crate::network::simnet) fn set_connection_latency(
        &mut self,
        id: Id,
        side: Side,
        latency_ms: RangeInclusive<u64>,
    ) {
        if let Some(conn) = self.conn(id) {
            conn.pipes[side as usize].latency_ms = latency_ms;
        }
    }

    /// From where to where `side` sends.
    fn link(&mut self, id: Id, side: Side) -> (IpAddr, IpAddr) {
        let ends = &self.held(id).ends;
        (ends[side as usize].addr.ip(), ends[side.peer() as usize].addr.ip())
    }

    pub(in crate::network::simnet) fn freeze_link(&mut self, from: IpAddr, to: IpAddr, freeze: bool) {
        if freeze {
            self.frozen.insert((from, to));
        } else {
            self.frozen.remove(&(from, to));
        }
        self.settle_links();
    }

    pub(in crate::network::simnet) fn isolate(&mut self, host: IpAddr, isolate: bool) {
        if isolate {
            self.isolated.insert(host);
        } else {
            self.isolated.remove(&host);
        }
        self.settle_links();
    }

    pub(in crate::network::simnet) fn thaw_all(&mut self) {
        self.frozen.clear();
        self.isolated.clear();
        self.settle_links();
        for id in self.ids() {
            for side in Side::BOTH {
                self.freeze(id, side, false);
            }
        }
    }

    fn settle_links(&mut self) {
        let mut thawed = Vec::new();
        for id in self.ids() {
            for side in Side::BOTH {
                let (from, to) = self.link(id, side);
                let is_frozen = self.is_link_frozen(from, to);
                let pipe = &mut self.held(id).pipes[side as usize];
                if std::mem::replace(&mut pipe.is_link_frozen, is_frozen) != is_frozen {
                    self.note(if is_frozen { What::Froze } else { What::Thawed }, id, side, 0);
                    if !is_frozen {
                        thawed.push((id, side));
                    }
                }
            }
        }
        for (id, side) in thawed {
            self.thaw(id, side);
        }
    }

    pub(in crate::network::simnet) fn freeze(&mut self, id: Id, side: Side, freeze: bool) {
        let Some(conn) = self.conn(id) else { return };
        if std::mem::replace(&mut conn.pipes[side as usize].is_frozen, freeze) != freeze {
            self.note(if freeze { What::Froze } else { What::Thawed }, id, side, 0);
            if !freeze {
                self.thaw(id, side);
            }
        }
    }

    fn thaw(&mut self, id: Id, side: Side) {
        self.advance(id, side);
        self.sync(id, side.peer());
    }

    pub(in crate::network::simnet) fn vanish_host(&mut self, host: IpAddr) {
        self.vanished.insert(host);
        for id in self.ids() {
            for side in Side::BOTH {
                if self.link(id, side).0 == host {
                    self.vanish(id, side);
                }
            }
        }
    }

    pub(in crate::network::simnet) fn vanish(&mut self, id: Id, side: Side) {
        let Some(conn) = self.conn(id) else { return };
        if !std::mem::replace(&mut conn.ends[side as usize].is_lost, true) {
            self.note(What::Vanished, id, side, 0);
        }
    }

    pub(in crate::network::simnet) fn revive_host(&mut self, host: IpAddr) {
        self.vanished.remove(&host);
        for id in self.ids() {
            for side in Side::BOTH {
                if self.is_live(id) && self.link(id, side).0 == host {
                    self.revive(id, side);
                }
            }
        }
    }

    /// The side answers again, and knows of no connection.
    pub(in crate::network::simnet) fn revive(&mut self, id: Id, side: Side) {
        let Some(conn) = self.conn(id) else { return };
        if !std::mem::replace(&mut conn.ends[side as usize].is_lost, false) {
            return;
        }
        let missed = conn.pipes[side.peer() as usize].is_missed;
        let is_opening = conn.opening == Opening::Waits;
        self.note(What::Revived, id, side, 0);
        if side == Side::Server && is_opening && !self.held(id).ends[Side::Server as usize].is_open {
            if missed {
                // The client's next repetition.
                self.held(id).pipes[Side::Client as usize].is_missed = false;
                self.push(id, Side::Client, Packet::Syn);
            }
            return;
        }
        let end = &mut self.held(id).ends[side as usize];
        end.is_dead = true;
        end.error = Some(ErrorKind::ConnectionReset);
        self.purge(id, side, true);
        self.wake(id, side, true, true);
        if missed {
            // What was sent into the void is sent again.
            self.send_rst(id, side);
        }
    }

    /// A reset from nowhere reaches `side`.
    pub(in crate::network::simnet) fn inject_rst(&mut self, id: Id, side: Side) {
        if self.conn(id).is_some() {
            self.on_rst(id, side);
        }
    }

    pub(in crate::network::simnet) fn fail_write(&mut self, id: Id, side: Side, kind: ErrorKind) {
        if let Some(conn) = self.conn(id) {
            conn.ends[side as usize].write_fault = Some(kind);
            self.wake(id, side, false, true);
        }
    }

    pub(in crate::network::simnet) fn fail_read(&mut self, id: Id, side: Side, kind: ErrorKind) {
        if let Some(conn) = self.conn(id) {
            conn.ends[side as usize].read_fault = Some(kind);
            self.wake(id, side, true, false);
        }
    }

    pub(in crate::network::simnet) fn panic_on_read(&mut self, id: Id, side: Side) {
        if let Some(conn) = self.conn(id) {
            conn.ends[side as usize].panics = true;
            self.wake(id, side, true, false);
        }
    }

    pub(in crate::network::simnet) fn edit_options(&mut self, id: Id, side: Side, edit: impl FnOnce(&mut Options)) {
        let Some(conn) = self.conn(id) else { return };
        edit(&mut conn.ends[side as usize].options);
        if conn.opening == Opening::Done {
            self.arm_keepalive(id, side);
            self.sync(id, side);
            self.sync(id, side.peer());
        }
    }

    /// Bytes that `side` has written and the other has not taken: in its own buffer, under way, and in the other's buffer.
    pub(in crate::network::simnet) fn held_bytes(&self, id: Id, side: Side) -> [usize; 3] {
        self.conns[id as usize].as_ref().map_or([0; 3], |conn| {
            let pipe = &conn.pipes[side as usize];
            [pipe.written - pipe.sent, pipe.sent - pipe.delivered, pipe.delivered - pipe.taken]
        })
    }
}
