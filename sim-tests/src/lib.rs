//! Deterministic simulation of unisono: the real server and the real client over simulated networks.
#![cfg(not(loom))]

pub mod history;
pub mod judge;
pub mod network;
pub mod plan;
pub mod random;
pub mod run;
