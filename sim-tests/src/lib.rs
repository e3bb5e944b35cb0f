//! Deterministic simulation of unisono: the real server and the real client over simulated networks.
#![cfg(not(loom))]

pub mod capsule;
pub mod history;
pub mod judge;
pub mod marks;
pub mod network;
pub mod picture;
pub mod plan;
pub mod random;
pub mod run;
pub mod scenario;
pub mod shrink;
