//! The laws, end to end: the real binary as a child process, real sockets on loopback, and nothing else.
//!
//! A test here knows only what docs/PROTOCOL.md and the laws promise and what comes over the wire. It starts a server of its own on a free
//! port, waits for events (a line, an end, an exit) and never for time: a deadline exists only to turn a hang into a
//! message that shows what was seen so far. Whatever a test starts, it ends, by its own id.
//!
//! The modules follow the laws: `parity` the seed's wire, `wire` greetings and listeners, `order` laws 1, 2, 5 and 8,
//! `patience` law 6, `endings` laws 3, 4 and 9, `lines` the length limit and cleaning, `commands`, `bounds` laws 7 and the
//! limits of connections, `crowd` who comes and goes, `door` who is let in, `admin` its keepers, `strangers` who speaks something else, `shutdown`, `options`, `config` and `journal` the life of the process, `metrics` its numbers, `systemd` who starts it, `connect` the client;
//! `transports` all of that which holds over TCP, TLS and Unix sockets alike, `tls`, `unix` and `proxy` what is of one of them alone.

#![cfg(target_os = "linux")]

mod admin;
mod bounds;
#[cfg(feature = "tls")]
mod certificates;
mod client;
mod commands;
mod config;
mod connect;
mod crowd;
mod door;
mod endings;
mod journal;
mod lines;
#[cfg(feature = "metrics")]
mod metrics;
mod options;
mod order;
mod parity;
mod patience;
mod process;
mod proxy;
mod shutdown;
mod strangers;
mod systemd;
#[cfg(feature = "tls")]
mod tls;
mod transports;
mod unix;
mod wire;
