//! What the room shares between tasks: from std, or from loom or shuttle when its schedules are being searched.
//!
//! This is the only file that says "loom" or "shuttle". Whatever goes through here is seen by the models in `loom-tests`
//! and by the crowd in `shuttle-tests` as it ships; whatever does not is invisible to them, so the room uses nothing else.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
