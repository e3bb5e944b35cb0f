//! What the parts of unisono cost, each by itself; `benches/README.md` has the figures.
//!
//! All inputs are fixed. The room and the server are measured through what unisono shows to everyone. What it keeps to
//! itself is compiled here once more, from the very files that ship.

use std::time::{Duration, Instant};

pub mod line;
pub mod room;
pub mod session;

/// Files of unisono whose items it keeps to itself. An inline module, as only so the parts of a file are found beside it.
#[path = "../../../src"]
mod shipped {
    #[expect(dead_code, unused_imports, reason = "the server needs more of it than is measured")]
    pub(crate) mod line;
}

/// One line as it stands in the sequence: WHO, text and line feed, 50 bytes.
const SAID: &[u8; 50] = b"10.0.0.1:1: have you seen the moon tonight? wow!!\n";

/// The time that `iters` times `measured` took, `prepare` before each apart.
fn timed<S>(state: &mut S, iters: u64, mut prepare: impl FnMut(&mut S), mut measured: impl FnMut(&mut S)) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..iters {
        prepare(state);
        let began = Instant::now();
        measured(state);
        spent += began.elapsed();
    }
    spent
}
