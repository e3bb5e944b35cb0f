//! Runs plans: one again, with all that happens in it; or as many as time allows, until a law breaks.
//!
//! ```sh
//! cargo run -p sim-tests --release -- --seed 7 --html run.html
//! cargo run -p sim-tests --release -- --minutes 10 --network turmoil
//! cargo run -p sim-tests --release -- --scenario thousand --long
//! ```

#[cfg(not(loom))]
mod search;

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    search::main()
}
