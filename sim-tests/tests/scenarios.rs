//! Every scenario in its short form, on every network that can do it: no law is broken, and what it is for has happened.
#![cfg(not(loom))]

use sim_tests::marks::{MARKS, Table, marks};
use sim_tests::network::Kind;
use sim_tests::run;
use sim_tests::scenario::{SCENARIOS, Scenario};

fn check(name: &str) {
    let scenario = Scenario::named(name).expect("one that there is");
    for &network in scenario.networks {
        let mut table = Table::default();
        for seed in 0..scenario.seeds {
            let plan = scenario.plan(seed, false);
            let outcome = run::run(network, &plan);
            let network = network.name();
            let replay = format!(
                "replay: cargo run -p sim-tests --release -- --scenario {name} --network {network} --seed {seed}"
            );
            assert!(outcome.faults.is_empty(), "{}\n{replay}", outcome.faults.join("\n"));
            match run::judge(&outcome) {
                Ok(order) => table.add(seed, &marks(&plan, &outcome.history, Some(&order), &outcome.counts)),
                Err(broken) => {
                    panic!("{}\n{replay}", broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
                }
            }
        }
        if network == Kind::Simnet {
            let missing = table.missing();
            let harmless: Vec<_> = scenario.meets.iter().filter(|mark| missing.contains(mark)).collect();
            assert!(harmless.is_empty(), "{name} never met {harmless:?}\n{table}");
            let harmed: Vec<_> = scenario.never.iter().filter(|mark| !missing.contains(mark)).collect();
            assert!(harmed.is_empty(), "{name} met {harmed:?}\n{table}");
        }
    }
}

macro_rules! scenarios {
    ($($test:ident $name:literal,)*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*

        #[test]
        fn all_are_tested() {
            let tested = [$($name),*];
            assert!(SCENARIOS.iter().all(|scenario| tested.contains(&scenario.name)));
        }
    };
}

scenarios! {
    order "order",
    brackets "brackets",
    names "names",
    bytes "bytes",
    patience_a "patience-a",
    patience_b "patience-b",
    overload "overload",
    tar_pit "tar-pit",
    churn "churn",
    strangers "strangers",
    flood "flood",
    shutdown "shutdown",
    restart "restart",
    half_open "half-open",
    partition "partition",
    clock "clock",
    errors "errors",
    tls "tls",
    door "door",
    keeper "keeper",
    thousand "thousand",
}

#[test]
fn marks_of_scenarios_are_known() {
    for scenario in SCENARIOS {
        for mark in scenario.meets.iter().chain(scenario.never) {
            let is_known = mark.starts_with("act: ") || MARKS.iter().any(|(name, _)| name == mark);
            assert!(is_known, "{} wants {mark}", scenario.name);
        }
    }
}
