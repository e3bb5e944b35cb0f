//! What the room shares between tasks: from std, or from loom when it is being model-checked.
//!
//! This is the only file that says "loom". Whatever goes through here is seen by the models in `loom-tests` as it ships;
//! whatever does not is invisible to them, so the room uses nothing else.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
