//! Replays one seed, or searches many: `cargo run -p sim-tests --release -- --seed 7`, `--seeds 0..100000`.

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    search::main()
}

#[cfg(not(loom))]
mod search {
    use std::io::{self, Write};
    use std::num::NonZero;
    use std::ops::Range;
    use std::process::ExitCode;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Instant;

    use clap::Parser;
    use sim_tests::network::Kind;
    use sim_tests::plan::Plan;
    use sim_tests::run::{self, Outcome};

    /// Deterministic simulation of unisono.
    #[derive(Parser)]
    struct Arguments {
        /// Replays this seed, and shows what happened
        #[arg(long, value_name = "N", conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Searches these seeds on all cores
        #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..1000")]
        seeds: Range<u64>,
        #[arg(long, value_enum, default_value_t)]
        network: Kind,
    }

    fn seeds(text: &str) -> Result<Range<u64>, String> {
        let (first, end) = text.split_once("..").ok_or("a range of seeds is written A..B")?;
        let number = |text: &str| text.parse().map_err(|error| format!("{text:?}: {error}"));
        Ok(number(first)?..number(end)?)
    }

    pub(super) fn main() -> ExitCode {
        let arguments = Arguments::parse();
        match arguments.seed {
            Some(seed) => replay(arguments.network, seed),
            None => search(arguments.network, arguments.seeds),
        }
    }

    /// What a run broke, for people; empty if it kept every law.
    fn broken(outcome: &Outcome) -> Vec<String> {
        let verdict = run::judge(outcome);
        outcome
            .faults
            .iter()
            .cloned()
            .chain(verdict.err().into_iter().flatten().map(|broken| broken.to_string()))
            .collect()
    }

    fn replay(network: Kind, seed: u64) -> ExitCode {
        let plan = Plan::draw_for(network, seed);
        let outcome = run::run(network, &plan);
        let broken = broken(&outcome);
        // A closed pipe behind us ends the listing, not the verdict.
        let _closed = writeln!(
            io::stdout(),
            "{}\n{}trace {:016x}",
            serde_json::to_string_pretty(&plan).expect("a plan is plain data"),
            outcome.history,
            outcome.trace
        );
        for law in &broken {
            eprintln!("{law}");
        }
        if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn search(network: Kind, seeds: Range<u64>) -> ExitCode {
        let began = Instant::now();
        let next = AtomicU64::new(seeds.start);
        let failures = AtomicU64::new(0);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let broken = broken(&run::run(network, &Plan::draw_for(network, seed)));
                        if let Some(first) = broken.first() {
                            failures.fetch_add(1, Ordering::Relaxed);
                            println!(
                                "seed {seed}: {first}\n  replay: cargo run -p sim-tests --release -- --seed {seed}"
                            );
                        }
                    }
                });
            }
        });
        let count = seeds.end - seeds.start;
        let ms = began.elapsed().as_millis().max(1);
        let failures = failures.into_inner();
        println!("{count} seeds, {failures} broke a law; {} seeds a minute", u128::from(count) * 60_000 / ms);
        if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
