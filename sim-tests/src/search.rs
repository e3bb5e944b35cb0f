//! The command line: what is run, what is shown of it, and what is kept of what broke.

use std::io::{self, Write as _};
use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use sim_tests::capsule::Capsule;
use sim_tests::judge::{Order, Violation};
use sim_tests::marks::{self, Table};
use sim_tests::network::Kind;
use sim_tests::picture;
use sim_tests::plan::{Act, Plan, What};
use sim_tests::run::{self, Outcome};
use sim_tests::scenario::{SCENARIOS, Scenario};
use sim_tests::shrink::{self, Budget};

/// Deterministic simulation of unisono: runs plans, and judges whether every law was kept.
///
/// Exits with 0 if all were, with 1 if one was broken, with 2 if it was asked for something that there is not.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags are independent of one another")]
struct Arguments {
    #[command(flatten)]
    what: Asked,
    /// Where it is run
    #[arg(long, value_enum, default_value_t)]
    network: Kind,
    /// A scenario's plans instead of the swarm's; without seeds, its own
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    scenario: Option<&'static Scenario>,
    /// The scenario's long form
    #[arg(long, requires = "scenario")]
    long: bool,
    /// Stops at the first seed that breaks a law
    #[arg(long)]
    until_failure: bool,
    /// Reduces what broke a law to as little as possible
    #[arg(long)]
    shrink: bool,
    /// Draws the run as a page, with --seed or --capsule
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where capsules of failures are kept
    #[arg(long, value_name = "DIR", default_value = "target/capsules")]
    capsules: PathBuf,
    /// Shows how often each fault and each hard case was met; one that never was is a failure
    #[arg(long)]
    marks: bool,
    /// Runs each plan twice, and wants the same history
    #[arg(long)]
    determinism: bool,
    /// A run that takes longer goes round in circles
    #[arg(long, value_name = "S", default_value_t = 300)]
    run_seconds: u64,
    /// Lets the network lose a line, which must be found: this has to fail
    #[arg(long)]
    canary: bool,
}

#[derive(Args)]
#[group(multiple = false)]
struct Asked {
    /// Runs this seed, and shows what happened
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Runs these seeds on all cores
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Runs fresh seeds for so long
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Runs what this capsule holds, and shows what happened
    #[arg(long, value_name = "FILE")]
    capsule: Option<PathBuf>,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("a range of seeds is written A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let seeds = number(first)?..number(end)?;
    if seeds.is_empty() { Err("there are no seeds in it".to_owned()) } else { Ok(seeds) }
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    let names = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    Scenario::named(name).ok_or_else(|| format!("there are {}", names()))
}

pub(super) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run::set_run_seconds_max(arguments.run_seconds);
    let is_kept = match (&arguments.what.seed, &arguments.what.capsule) {
        (Some(seed), _) => arguments.replay(arguments.network, &arguments.plan(*seed)),
        (None, Some(path)) => match Capsule::load(path) {
            Ok(capsule) => arguments.replay(capsule.network, &capsule.plan),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        },
        (None, None) => arguments.search(),
    };
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the judge says of a run.
type Verdict = Result<Order, Vec<Violation>>;

/// Seeds that nobody has run before.
fn fresh() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() * 1000)
}

impl Arguments {
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = match self.scenario {
            Some(scenario) => scenario.plan(seed, self.long),
            None => Plan::draw_for(self.network, seed),
        };
        if self.canary {
            let came = plan.acts.iter().filter(|act| matches!(act.what, What::Connect { .. }));
            let losing: Vec<Act> = came
                .filter_map(|act| Some(Act { at_ms: act.at_ms, what: What::LoseLine { client: act.what.client()? } }))
                .collect();
            plan.acts.extend(losing);
            plan.acts.sort_by_key(|act| act.at_ms);
        }
        plan
    }

    /// What one asks for to see this seed again.
    fn command(&self, seed: u64) -> String {
        let mut words = vec![format!("cargo run -p sim-tests --release -- --seed {seed}")];
        if self.network != Kind::default() {
            words.push(format!("--network {}", self.network.name()));
        }
        words.extend(self.scenario.map(|scenario| format!("--scenario {}", scenario.name)));
        let flags = [(self.long, "--long"), (self.canary, "--canary"), (self.determinism, "--determinism")];
        words.extend(flags.into_iter().filter(|(is_on, _)| *is_on).map(|(_, flag)| flag.to_owned()));
        words.join(" ")
    }

    /// Runs one plan, and shows all of it. False if it broke a law.
    fn replay(&self, network: Kind, plan: &Plan) -> bool {
        let outcome = run::run(network, plan);
        let verdict = run::judge(&outcome);
        let broken = self.broken(network, plan, &outcome, &verdict);
        // A closed pipe behind us ends the listing, not the verdict.
        let _closed = writeln!(
            io::stdout(),
            "{}\n{}trace {:016x}",
            serde_json::to_string_pretty(plan).expect("a plan is plain data"),
            outcome.history,
            outcome.trace
        );
        for law in &broken {
            eprintln!("{law}");
        }
        if self.marks {
            let met = marks::marks(plan, &outcome.history, verdict.as_ref().ok(), &outcome.counts);
            for (mark, times) in met {
                eprintln!("{times:>8} {mark}");
            }
        }
        if let Some(path) = &self.html {
            let title = format!("unisono: seed {} on {}", plan.seed, network.name());
            let page = picture::page(&title, Some(plan), &outcome.history, &verdict);
            if let Err(error) = std::fs::write(path, page) {
                eprintln!("{}: {error}", path.display());
            }
        }
        if !broken.is_empty() && self.shrink {
            self.keep(network, plan, &outcome);
        }
        broken.is_empty()
    }

    /// What a run broke, for people; empty if it kept every law.
    fn broken(&self, network: Kind, plan: &Plan, outcome: &Outcome, verdict: &Verdict) -> Vec<String> {
        let laws = verdict.as_ref().err().into_iter().flatten().map(ToString::to_string);
        let again = self.determinism.then(|| run::run(network, plan));
        let difference = again.and_then(|again| run::first_difference(outcome, &again));
        let difference = difference.map(|difference| format!("determinism: {difference}"));
        outcome.faults.iter().cloned().chain(laws).chain(difference).collect()
    }

    /// Keeps a failure as a capsule, shrunk if that was asked for.
    fn keep(&self, network: Kind, plan: &Plan, outcome: &Outcome) {
        let Some(law) = shrink::broken(outcome).into_iter().next() else { return };
        let mut small = plan.clone();
        let mut trace = outcome.trace;
        if self.shrink {
            let began = Instant::now();
            let mut breaks = |plan: &Plan| shrink::breaks(network, plan, &law);
            let shrunk = shrink::shrink(plan, &mut breaks, Budget::default());
            small = shrunk.plan;
            trace = run::run(network, &small).trace;
            let (before, after) = (plan.acts.len(), small.acts.len());
            let took = began.elapsed().as_secs_f64();
            println!("  shrunk from {before} to {after} actions in {took:.1} s, {} runs", shrunk.runs);
        }
        match Capsule::new(network, plan, small, &law, trace).save(&self.capsules) {
            Ok(path) => println!("  capsule: cargo run -p sim-tests --release -- --capsule {}", path.display()),
            Err(error) => eprintln!("{}: {error}", self.capsules.display()),
        }
    }

    /// Runs many plans on all cores. False if one broke a law.
    fn search(&self) -> bool {
        let seeds = match (&self.what.seeds, self.what.minutes, self.scenario) {
            (Some(seeds), ..) => seeds.clone(),
            (None, Some(_), _) => fresh()..u64::MAX,
            (None, None, Some(scenario)) => 0..scenario.seeds,
            (None, None, None) => 0..1000,
        };
        let search = Search {
            arguments: self,
            began: Instant::now(),
            next: AtomicU64::new(seeds.start),
            seeds,
            is_over: AtomicBool::new(false),
            bar: self.bar(),
            found: Mutex::default(),
        };
        // Real sockets and real time: one run at a time.
        let is_real = self.network == Kind::Loopback;
        let threads = if is_real { 1 } else { thread::available_parallelism().map_or(1, NonZero::get) };
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| search.go());
            }
        });
        search.bar.finish_and_clear();
        search.report()
    }

    /// The marks that should have been met, and were not.
    fn wanted(&self, table: &Table) -> Vec<&'static str> {
        let missing = table.missing();
        match self.scenario {
            Some(scenario) => scenario.meets.iter().copied().filter(|mark| missing.contains(mark)).collect(),
            // The canary's own.
            None => missing.into_iter().filter(|mark| *mark != "act: LoseLine").collect(),
        }
    }

    fn bar(&self) -> ProgressBar {
        let (bar, shape) = match (&self.what.seeds, self.what.minutes) {
            (_, Some(minutes)) => (ProgressBar::new(minutes * 60), "{bar:40} {pos}/{len} s, {msg}"),
            (Some(seeds), _) => {
                (ProgressBar::new(seeds.end - seeds.start), "{bar:40} {pos}/{len} seeds, {msg}, {eta} to go")
            }
            _ => (ProgressBar::no_length(), "{pos} seeds, {msg}"),
        };
        bar.with_style(ProgressStyle::with_template(shape).expect("a template of ours"))
    }
}

/// A search that is under way.
struct Search<'a> {
    arguments: &'a Arguments,
    seeds: Range<u64>,
    began: Instant,
    next: AtomicU64,
    is_over: AtomicBool,
    bar: ProgressBar,
    found: Mutex<Found>,
}

/// What it has found so far.
#[derive(Default)]
struct Found {
    table: Table,
    runs: u64,
    failures: u64,
    simulated: Duration,
}

impl Search<'_> {
    /// Runs one seed after another.
    fn go(&self) {
        while !self.is_over() {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end {
                return;
            }
            let network = self.arguments.network;
            let plan = self.arguments.plan(seed);
            let outcome = run::run(network, &plan);
            let verdict = run::judge(&outcome);
            let broken = self.arguments.broken(network, &plan, &outcome, &verdict);
            let met = self
                .arguments
                .marks
                .then(|| marks::marks(&plan, &outcome.history, verdict.as_ref().ok(), &outcome.counts));
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(met) = met {
                found.table.add(seed, &met);
            }
            found.runs += 1;
            found.simulated += outcome.history.healed.as_ref().map_or(Duration::ZERO, |healed| healed.end);
            if let Some(first) = broken.first() {
                found.failures += 1;
                if self.arguments.until_failure {
                    self.is_over.store(true, Ordering::Relaxed);
                }
                self.bar.suspend(|| {
                    println!("seed {seed}: {first}\n  replay: {}", self.arguments.command(seed));
                    self.arguments.keep(network, &plan, &outcome);
                });
            }
            let minute = self.began.elapsed().as_secs_f64() / 60.0;
            #[expect(clippy::cast_precision_loss, reason = "it is for people")]
            self.bar.set_message(format!("{:.0} a minute, {} broke a law", found.runs as f64 / minute, found.failures));
            let position =
                if self.arguments.what.minutes.is_some() { self.began.elapsed().as_secs() } else { found.runs };
            self.bar.set_position(position);
        }
    }

    fn is_over(&self) -> bool {
        let is_late = |minutes| self.began.elapsed() >= Duration::from_secs(60 * minutes);
        self.is_over.load(Ordering::Relaxed) || self.arguments.what.minutes.is_some_and(is_late)
    }

    /// Says what came of it. False if a law was broken, or a mark never met.
    fn report(&self) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let took = self.began.elapsed().as_secs_f64();
        let first = self.seeds.start;
        let mut is_good = found.failures == 0;
        if self.arguments.marks {
            println!("{}", found.table);
            for mark in self.arguments.wanted(&found.table) {
                println!("never met: {mark}");
                is_good = false;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "it is for people")]
        let (a_minute, a_second) = (found.runs as f64 * 60.0 / took, found.simulated.as_secs_f64() / took);
        println!(
            "{} seeds from {first} in {took:.1} s, {} broke a law; {a_minute:.0} seeds a minute, {a_second:.0} simulated seconds a second",
            found.runs, found.failures
        );
        is_good
    }
}
