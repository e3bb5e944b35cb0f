//! The room against a plain list: one oracle, two drivers.
//!
//! [`world`] runs the real room beside a slow truth that says, for every step, what each member is given, who gets its turn,
//! how much is held and who is woken: not one wake-up more or less than has a cause. [`random`] drives it far, by random
//! steps; [`exhaustive`] drives it everywhere, by every order of steps up to a depth. One thread, so every step is whole;
//! what happens between threads is for the models.

mod exhaustive;
mod random;
mod world;
