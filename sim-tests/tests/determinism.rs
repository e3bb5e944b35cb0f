//! The same plan gives the same history, in this process and in another; and the check of that would see if it did not.
#![cfg(not(loom))]

use std::collections::HashSet;
use std::process::Command;

use sim_tests::network::Kind;
use sim_tests::plan::Plan;
use sim_tests::run::{self, first_difference};

const NETWORKS: [(Kind, &str, u64); 2] = [(Kind::Simnet, "simnet", 60), (Kind::Turmoil, "turmoil", 15)];

#[test]
fn same_seed_gives_the_same_history() {
    for (network, name, seeds) in NETWORKS {
        for seed in 0..seeds {
            let plan = Plan::draw_for(network, seed);
            assert_eq!(plan, Plan::draw_for(network, seed));
            let (first, second) = (run::run(network, &plan), run::run(network, &plan));
            if let Some(difference) = first_difference(&first, &second) {
                panic!("seed {seed} on {name}: {difference}");
            }
        }
    }
}

#[test]
fn another_process_gives_the_same_history() {
    for (network, name, _) in NETWORKS {
        for seed in 0..5 {
            let here = run::run(network, &Plan::draw_for(network, seed));
            let output = Command::new(env!("CARGO_BIN_EXE_sim-tests"))
                .args(["--network", name, "--seed", &seed.to_string()])
                .output()
                .expect("the binary was built for this test");
            let there = String::from_utf8(output.stdout).expect("histories are shown as text");
            let here = format!("{}trace {:016x}\n", here.history, here.trace);
            let lines = here.lines().zip(there.lines().skip(there.lines().count() - here.lines().count()));
            for (here, there) in lines {
                assert_eq!(here, there, "seed {seed} on {name}: the first event that differs");
            }
        }
    }
}

/// A canary: what comes out of a `HashSet` has an order of its own in each run, and the check must say so.
#[test]
fn unordered_iteration_is_noticed() {
    let plan = Plan::draw(7);
    let is_noticed = (0..20).any(|_| {
        let [first, second] = [(); 2].map(|()| {
            let acts: HashSet<usize> = (0..plan.acts.len()).collect();
            let mut plan = plan.clone();
            // All at once, in the order in which they come out of the set.
            plan.acts = acts.into_iter().map(|act| plan.acts[act].clone()).collect();
            plan.acts.sort_by_key(|act| act.at_ms / 1000);
            plan.acts.iter_mut().for_each(|act| act.at_ms = act.at_ms / 1000 * 1000);
            run::run(Kind::Simnet, &plan)
        });
        first_difference(&first, &second).is_some()
    });
    assert!(is_noticed);
}
