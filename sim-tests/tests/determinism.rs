//! The same plan gives the same history, in this process and in another; and the check of that would see if it did not.
#![cfg(not(loom))]

use std::collections::HashSet;
use std::process::Command;

use sim_tests::network::Kind;
use sim_tests::plan::Plan;
use sim_tests::run::{self, Outcome, first_difference};
use sim_tests::scenario::{SCENARIOS, Scenario};

const SIMULATED: [Kind; 2] = [Kind::Simnet, Kind::Turmoil];

/// Runs a plan twice; what came of it.
fn twice(network: Kind, plan: &Plan, name: &str) -> Outcome {
    let (first, second) = (run::run(network, plan), run::run(network, plan));
    if let Some(difference) = first_difference(&first, &second) {
        panic!("{name} on {}: {difference}", network.name());
    }
    first
}

/// What another process shows of a run is what this one has.
fn elsewhere(network: Kind, here: &Outcome, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim-tests"))
        .args(["--network", network.name()])
        .args(arguments)
        .output()
        .expect("the binary was built for this test");
    let there = String::from_utf8(output.stdout).expect("histories are shown as text");
    let here = format!("{}trace {:016x}", here.history, here.trace);
    // The plan comes first.
    let behind = there.lines().count().saturating_sub(here.lines().count());
    for (here, there) in here.lines().zip(there.lines().skip(behind)) {
        assert_eq!(here, there, "{arguments:?}: the first event that differs");
    }
    assert!(there.trim_end().ends_with(&here), "{arguments:?}");
}

#[test]
fn swarm_is_deterministic() {
    for (network, seeds) in SIMULATED.into_iter().zip([60, 15]) {
        for seed in 0..seeds {
            let plan = Plan::draw_for(network, seed);
            assert_eq!(plan, Plan::draw_for(network, seed));
            let outcome = twice(network, &plan, &format!("seed {seed}"));
            if seed < 5 {
                elsewhere(network, &outcome, &["--seed", &seed.to_string()]);
            }
        }
    }
}

#[test]
fn scenarios_are_deterministic() {
    for scenario in SCENARIOS {
        for &network in scenario.networks {
            let outcome = twice(network, &scenario.plan(0, false), scenario.name);
            elsewhere(network, &outcome, &["--scenario", scenario.name, "--seed", "0"]);
        }
    }
}

/// A canary: what comes out of a `HashSet` has an order of its own in each run, and the check must say so.
#[test]
fn unordered_iteration_is_noticed() {
    let plan = Scenario::named("order").expect("there is one").plan(7, false);
    let is_noticed = (0..20).any(|_| {
        let [first, second] = [(); 2].map(|()| {
            let acts: HashSet<usize> = (0..plan.acts.len()).collect();
            let mut plan = plan.clone();
            // Whole seconds at once, in the order in which they come out of the set.
            plan.acts = acts.into_iter().map(|act| plan.acts[act].clone()).collect();
            plan.acts.iter_mut().for_each(|act| act.at_ms = act.at_ms / 1000 * 1000);
            plan.acts.sort_by_key(|act| act.at_ms);
            run::run(Kind::Simnet, &plan)
        });
        first_difference(&first, &second).is_some()
    });
    assert!(is_noticed);
}
