//! Plans drawn from seeds, each a world of its own with a subset of speech and faults, run on simnet and judged; old failures
//! first. And the same seed twice: the same history, event by event, or nothing of this means anything.
#![cfg(not(loom))]

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

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

const SEEDS: u64 = 1500;

fn check(seed: u64) -> Vec<String> {
    let outcome = run::run(&Plan::draw(seed));
    let verdict = run::judge(&outcome);
    let broken = verdict.err().into_iter().flatten().map(|broken| broken.to_string());
    outcome.faults.iter().cloned().chain(broken).map(|why| format!("seed {seed}: {why}")).collect()
}

#[test]
fn old_failures_keep_every_law() {
    for (seed, what) in OLD {
        let broken = check(seed);
        assert!(
            broken.is_empty(),
            "{what}\n{}\nreplay: cargo run -p sim-tests --release -- --seed {seed}",
            broken.join("\n")
        );
    }
}

#[test]
fn swarm_keeps_every_law() {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let broken: Vec<String> = thread::scope(|scope| {
        let search = || {
            let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            seeds.take_while(|seed| *seed < SEEDS).flat_map(check).collect::<Vec<_>>()
        };
        let searching: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        searching.into_iter().flat_map(|thread| thread.join().expect("runs do not panic")).collect()
    });
    assert!(broken.is_empty(), "{}\nreplay: cargo run -p sim-tests --release -- --seed N", broken.join("\n"));
}

#[test]
fn same_seed_gives_the_same_history() {
    for seed in 0..60 {
        let plan = Plan::draw(seed);
        assert_eq!(plan, Plan::draw(seed));
        let (first, second) = (run::run(&plan), run::run(&plan));
        let pairs = first.history.records.iter().zip(&second.history.records);
        if let Some((first, second)) = pairs.into_iter().find(|(first, second)| first != second) {
            panic!("seed {seed}: the first difference is between\n{first}\nand\n{second}");
        }
        assert_eq!(first.history, second.history, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}: the network moved otherwise");
    }
}

#[test]
fn plan_prints_and_parses() {
    let plan = Plan::draw(42);
    let text = serde_json::to_string(&plan).expect("plain data");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("what was printed"), plan);
}

/// Swarms differ in kind: over these seeds each kind of act happens, and somebody is let go.
#[test]
fn swarm_meets_its_hard_cases() {
    let mut met = std::collections::BTreeMap::new();
    let mut let_gos = 0;
    for seed in 0..150 {
        let plan = Plan::draw(seed);
        for act in &plan.acts {
            let name = format!("{:?}", act.what);
            let kind = name.split([' ', '{']).next().expect("a name").to_owned();
            *met.entry(kind).or_insert(0_u32) += 1;
        }
        let_gos += run::run(&plan).history.samples.iter().map(|sample| sample.let_gos).max().unwrap_or_default();
    }
    let kinds = [
        "Connect",
        "Send",
        "End",
        "Reset",
        "Vanish",
        "Pause",
        "Resume",
        "Sip",
        "Freeze",
        "FreezeDown",
        "Thaw",
        "WriteError",
        "Panic",
        "AcceptError",
        "Stop",
        "Crash",
        "Restart",
    ];
    for kind in kinds {
        assert!(met.contains_key(kind), "no {kind} in {met:?}");
    }
    assert!(let_gos >= 20, "only {let_gos} readers were let go");
}
