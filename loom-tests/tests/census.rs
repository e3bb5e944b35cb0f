//! Law 9, **nothing left behind**: the count of connections, which listeners and the connections that end share without the
//! room's lock, from the shipped files.
#![cfg(loom)]

#[path = "../../src/callers.rs"]
mod callers;
#[path = "../../src/census.rs"]
mod census;
#[path = "../../src/flood.rs"]
#[allow(dead_code, reason = "connections use more of it")]
mod flood;
#[path = "../../src/sync.rs"]
#[allow(unused_imports, reason = "the room uses more of it")]
mod sync;

use std::net::IpAddr;
use std::time::Instant;

use loom::thread;
use loom_tests::model;
use unisono::{Limits, limits, notice};

use self::census::Census;
use self::sync::Arc;

/// Coming against coming and going: a place is never given to two, and is free when who had it is gone.
#[test]
fn last_place_is_given_to_one_at_a_time() {
    model(None, || {
        let limits = Limits { connections_max: 1, per_ip_max: 1, ..Limits::default() };
        let ips = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let (census, now) = (Arc::new(Census::default()), Instant::now());
        let goes = Census::admit(&census, ips[0], &limits, now).expect("the first comes in");
        let coming = [ips[1], ips[2]].map(|ip| {
            let (census, limits) = (Arc::clone(&census), limits.clone());
            thread::spawn(move || Census::admit(&census, ip, &limits, now).ok())
        });
        drop(goes);
        let came = coming.map(|thread| thread.join().expect("it ends"));
        let count = came.iter().flatten().count();
        assert!(count <= 1, "there is a place for one");
        let next = Census::admit(&census, ips[0], &limits, now);
        assert_eq!(next.is_ok(), count == 0, "law 9: who went gave its place back");
        drop((came, next));
        let all = ips.map(|ip| Census::admit(&census, ip, &limits, now));
        assert_eq!(all.map(|place| place.is_ok()), [true, false, false], "law 9: the place is free again");
    });
}
