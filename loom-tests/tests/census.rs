//! Law 9, **nothing left behind**: the count of connections, which listeners and the connections that end share without the
//! room's lock, from the shipped files.
#![cfg(loom)]

#[path = "../../src/callers.rs"]
mod callers;
#[path = "../../src/census.rs"]
#[allow(dead_code, reason = "connections use more of it")]
mod census;
#[path = "../../src/flood.rs"]
#[allow(dead_code, reason = "connections use more of it")]
mod flood;
#[path = "../../src/sync.rs"]
#[allow(unused_imports, reason = "the room uses more of it")]
mod sync;

use std::net::SocketAddr;
use std::time::Instant;

use loom::thread;
use loom_tests::model;
use unisono::listen::{self, Peer};
use unisono::{Limits, door as site, limits, notice};

use self::census::Census;
use self::sync::Arc;

/// Coming against coming and going: a place is never given to two, and is free when who had it is gone.
#[test]
fn last_place_is_given_to_one_at_a_time() {
    model(None, || {
        let limits = Limits { connections_max: 1, per_ip_max: 1, ..Limits::default() };
        let peers = [1, 2, 3].map(|last| Peer::from(SocketAddr::from(([10, 0, 0, last], 5000))));
        let (census, now) = (Arc::new(Census::default()), Instant::now());
        let goes = Census::admit(&census, &peers[0], &limits, now).expect("the first comes in");
        let coming = [1, 2].map(|index| {
            let (census, limits, peer) = (Arc::clone(&census), limits.clone(), peers[index].clone());
            thread::spawn(move || Census::admit(&census, &peer, &limits, now).ok())
        });
        drop(goes);
        let came = coming.map(|thread| thread.join().expect("it ends"));
        let count = came.iter().flatten().count();
        assert!(count <= 1, "there is a place for one");
        let next = Census::admit(&census, &peers[0], &limits, now);
        assert_eq!(next.is_ok(), count == 0, "law 9: who went gave its place back");
        drop((came, next));
        let all = peers.map(|peer| Census::admit(&census, &peer, &limits, now));
        assert_eq!(all.map(|place| place.is_ok()), [true, false, false], "law 9: the place is free again");
    });
}
