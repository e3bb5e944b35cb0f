//! A failure capsule: one file that holds all one needs to see a failure again, wherever it was found.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::network::Kind;
use crate::plan::Plan;

/// A failure, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capsule {
    /// The seed that drew the plan. The plan itself may have another by now.
    pub seed: u64,
    /// What it ran on.
    pub network: Kind,
    /// What it broke first: a law and its invariant, as [`broken`](crate::shrink::broken) names it.
    pub law: String,
    /// The command that runs it again.
    pub command: String,
    /// Acts of the plan as it was drawn.
    pub actions_before: usize,
    /// Acts of the plan as it is here.
    pub actions_after: usize,
    /// What stands for all that happened on the network, in 16 hexadecimal digits.
    pub trace: String,
    /// The plan, shrunk or whole.
    pub plan: Plan,
}

/// Why a file is no capsule.
#[derive(Debug)]
pub enum Error {
    /// It cannot be read.
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no JSON, or something is missing, or there is too much.
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and in which line.
        source: serde_json::Error,
    },
    /// Its values do not fit together.
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "capsule {}: {source}", path.display()),
            Self::Parse { path, source } => write!(f, "capsule {}: {source}", path.display()),
            Self::Wrong { path, why } => write!(f, "capsule {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Parse { source, .. } => Some(source),
            Self::Wrong { .. } => None,
        }
    }
}

impl Capsule {
    /// A capsule of `plan`, which broke `law` on `network` with the trace `trace`. It comes from the plan `drawn`, or is that
    /// plan.
    pub fn new(network: Kind, drawn: &Plan, plan: Plan, law: &str, trace: u64) -> Self {
        let mut capsule = Self {
            seed: drawn.seed,
            network,
            law: law.to_owned(),
            command: String::new(),
            actions_before: drawn.acts.len(),
            actions_after: plan.acts.len(),
            trace: format!("{trace:016x}"),
            plan,
        };
        capsule.command = format!("cargo run -p sim-tests --release -- --capsule {}", capsule.file_name());
        capsule
    }

    /// The file's name: the same for the same seed and invariant.
    pub fn file_name(&self) -> String {
        format!("seed-{}-{}.json", self.seed, self.slug('-'))
    }

    /// The invariant, or what else broke, in letters and digits.
    fn slug(&self, between: char) -> String {
        // Behind the law stands its invariant; a panic is told by its place.
        let name =
            if self.law.starts_with("panicked at") { &self.law } else { self.law.rsplit(": ").next().unwrap_or("") };
        let words = name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(&between.to_string()).to_ascii_lowercase()
    }

    /// Writes it into the directory `dir`, which is made if there is none.
    ///
    /// # Errors
    ///
    /// When the directory or the file cannot be written.
    ///
    /// # Panics
    ///
    /// Never: a capsule is plain data.
    pub fn save(&self, dir: impl AsRef<Path>) -> io::Result<PathBuf> {
        fs::create_dir_all(&dir)?;
        let path = dir.as_ref().join(self.file_name());
        let text = serde_json::to_string_pretty(self).expect("a capsule is plain data");
        fs::write(&path, text + "\n")?;
        Ok(path)
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no capsule, or holds a plan that cannot be run; each in one line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let capsule: Self = serde_json::from_str(&text).map_err(|source| Error::Parse { path: path.into(), source })?;
        capsule.check().map_err(|why| Error::Wrong { path: path.into(), why })?;
        Ok(capsule)
    }

    fn check(&self) -> Result<(), String> {
        if self.trace.len() != 16 || u64::from_str_radix(&self.trace, 16).is_err() {
            return Err(format!("a trace has 16 hexadecimal digits, not {:?}", self.trace));
        }
        if self.actions_after != self.plan.acts.len() {
            return Err(format!("the plan has {} acts, not {}", self.plan.acts.len(), self.actions_after));
        }
        if !self.plan.acts.is_sorted_by_key(|act| act.at_ms) {
            return Err("the plan's acts are not in the order of time".to_owned());
        }
        self.plan.rules.limits().check().map_err(|error| error.to_string())
    }

    /// A test that runs the plan and wants every law kept: to be pasted, and to stay when the failure is mended.
    ///
    /// # Panics
    ///
    /// Never: a plan is plain data.
    pub fn as_test(&self) -> String {
        let plan = serde_json::to_string(&self.plan).expect("a plan is plain data");
        let hashes = "#"
            .repeat(1 + plan.split('"').map(|part| part.len() - part.trim_start_matches('#').len()).max().unwrap_or(0));
        let Self { seed, network, law, .. } = self;
        format!(
            "/// Seed {seed} broke {law:?}.\n\
             #[test]\n\
             fn seed_{seed}_{name}() {{\n    \
                 let plan = r{hashes}\"{plan}\"{hashes};\n    \
                 let plan: sim_tests::plan::Plan = serde_json::from_str(plan).expect(\"a plan\");\n    \
                 let outcome = sim_tests::run::run(sim_tests::network::Kind::{network:?}, &plan);\n    \
                 assert_eq!(sim_tests::shrink::broken(&outcome), [\"\"; 0], \"{{}}\", outcome.history);\n\
             }}\n",
            name = self.slug('_'),
        )
    }
}
