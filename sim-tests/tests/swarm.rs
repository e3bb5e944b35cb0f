//! Plans drawn from seeds, each a world of its own with a subset of speech and faults, run on each network and judged; old
//! failures first. And the same seed twice: the same history, event by event, or nothing of this means anything.
#![cfg(not(loom))]

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim_tests::network::Kind;
use sim_tests::plan::Plan;
use sim_tests::run;

/// Seeds that once broke a law, or the judge's patience, each with what it was.
const OLD: [(u64, &str); 6] = [
    (2, "the clock of a line that was refused and then ended stayed armed, and its task span"),
    (355, "a stall limit shorter than a round trip sends everyone away: the plan's fault"),
    (1328, "a refusal was cut where the connection could not take it at once"),
    (3684, "what was told to a broken connection kept it from ending, and its task span"),
    (5804, "who is closed for its line deadline may be let go up to its end"),
    (11_352, "the notice of the line deadline did not come whole"),
];

/// Every law that this seed breaks.
fn check(network: Kind, seed: u64) -> Vec<String> {
    let outcome = run::run(network, &Plan::draw_for(network, seed));
    let verdict = run::judge(&outcome);
    let broken = verdict.err().into_iter().flatten().map(|broken| broken.to_string());
    let replay = |why| {
        format!("{why}\n  replay: cargo run -p sim-tests --release -- --network {} --seed {seed}", network.name())
    };
    outcome.faults.iter().cloned().chain(broken).map(replay).collect()
}

/// Runs seeds from 0 on, on all cores.
fn search(network: Kind, seeds: u64) {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let broken: Vec<String> = thread::scope(|scope| {
        let search = || {
            let seeds =
                std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|seed| *seed < seeds);
            seeds.flat_map(|seed| check(network, seed)).collect::<Vec<_>>()
        };
        let searching: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        searching.into_iter().flat_map(|thread| thread.join().expect("runs do not panic")).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn old_failures_keep_every_law() {
    for (seed, what) in OLD {
        let broken = check(Kind::Simnet, seed);
        assert!(broken.is_empty(), "{what}\n{}", broken.join("\n"));
    }
}

#[test]
fn swarm_keeps_every_law_on_simnet() {
    search(Kind::Simnet, 3000);
}

#[test]
fn swarm_keeps_every_law_on_turmoil() {
    search(Kind::Turmoil, 300);
}

#[test]
fn swarm_keeps_every_law_on_loopback() {
    search(Kind::Loopback, 20);
}

#[test]
fn plan_prints_and_parses() {
    for seed in 0..100 {
        let plan = Plan::draw(seed);
        let text = serde_json::to_string(&plan).expect("plain data");
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("what was printed"), plan);
    }
}
