//! unisono: a broadcast line server and its client.
//!
//! Whoever connects, with `nc` or with the client, sees every line that anyone says, whole, in one order that is the same
//! for all. This crate is the hub as a library; the binary `unisono` is a thin layer over it.
//!
//! # The laws
//!
//! 1. **one order**: any two readers see the lines that both see in the same order.
//! 2. **no holes**: a reader gets every line from its entering to its end, or is told how many it missed, and where.
//! 3. **true lines**: a delivered line was said once, by the member it names, byte for byte; it arrives whole.
//! 4. **brackets**: welcome first; an arrival before and a departure after all that a member says, exactly one of each. (Of
//!    those who say nothing, strangers beyond a budget are counted.)
//! 5. **echo is receipt**: the sender gets its line too; seeing it means that it stands in the sequence.
//! 6. **bounded patience**: no reader holds the room below B bytes per P, and none that drains at B per P misses anything.
//! 7. **bounded memory**: [`Limits::memory_bytes_max`] says how much, whatever peers do.
//! 8. **no lost wake**: when all goes quiet, everyone has everything.
//! 9. **nothing left behind**: what a connection held goes with it; what a server started ends with it.
//!
//! `docs/ARCHITECTURE.md` argues them, and `docs/PROTOCOL.md` has every byte of the wire.
//!
//! # Map
//!
//! [`Room`] is the sequence, everyone's place in it, and law 6 (`log`, `wait`, `announce`, `patience` are its parts). `session` is what
//! a connection means, `drive` moves its bytes, and a `shard` polls many; [`server::run`] accepts connections from any
//! [`Listener`] and ends in order. [`client::run`] is the other end. [`Limits`] has every number. A whole server in memory stands at [`server::run`].

pub mod client;
pub mod door;
#[cfg(all(any(test, fuzzing), not(loom)))]
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
pub mod listen;
pub mod log;
pub mod name;
pub mod notice;
pub mod patience;
pub mod proxy;
pub mod room;
pub mod server;
#[cfg(all(feature = "tls", not(loom)))]
pub mod tls;
pub mod totals;

mod announce;
mod budget;
mod callers;
mod census;
mod command;
mod connection;
mod drive;
mod flood;
mod guess;
mod line;
mod session;
mod shard;
mod site;
mod sync;
mod telnet;
mod wait;

pub use door::Door;
pub use limits::Limits;
pub use listen::Listener;
pub use notice::Lang;
pub use room::Room;
pub use session::{Who, Wire};
