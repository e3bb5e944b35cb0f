//! Deterministic simulation of unisono.
