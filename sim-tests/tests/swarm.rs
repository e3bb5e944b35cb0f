//! Plans drawn from seeds, each a world of its own with a subset of speech and faults, run on each network and judged; old
//! failures first. And the same seed twice: the same history, event by event, or nothing of this means anything.
#![cfg(not(loom))]

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim_tests::capsule::Capsule;
use sim_tests::network::Kind;
use sim_tests::plan::Plan;
use sim_tests::run;

/// Every law that this seed breaks.
fn check(network: Kind, seed: u64) -> Vec<String> {
    let replay = format!("cargo run -p sim-tests --release -- --network {} --seed {seed}", network.name());
    broken(network, &Plan::draw_for(network, seed), &replay)
}

/// Every law that this plan breaks, and how to see it.
fn broken(network: Kind, plan: &Plan, replay: &str) -> Vec<String> {
    let outcome = run::run(network, plan);
    let laws = run::judge(&outcome).err().into_iter().flatten().map(|broken| broken.to_string());
    outcome.faults.iter().cloned().chain(laws).map(|why| format!("{why}\n  replay: {replay}")).collect()
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

/// What once broke a law, or the judge's patience, as it was kept then: first of all.
#[test]
fn old_failures_keep_every_law() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("failures");
    let mut paths: Vec<_> =
        fs::read_dir(kept).expect("it is there").map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{paths:?}");
    for path in paths {
        let capsule = Capsule::load(&path).expect("a capsule");
        let broken = broken(capsule.network, &capsule.plan, &capsule.command);
        assert!(broken.is_empty(), "{} again\n{}", capsule.law, broken.join("\n"));
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
