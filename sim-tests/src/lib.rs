//! Deterministic simulation of unisono: the real server and the real client over simulated networks.
#![cfg(not(loom))]

pub mod network;
pub mod random;
