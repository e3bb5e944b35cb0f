//! SIGHUP: everything that can be made anew is, at once and together, or all stays as it was.
//!
//! A *part* of the running server (certificates, limits) says which options it is made from, and how it is made anew: first it is
//! loaded and checked, by which nothing changes yet, and only when all of them are is each put in its place, which cannot
//! fail. So a mistake anywhere keeps everything, and no connection notices either way.
//!
//! An option that no part stands for waits for a restart. That refuses nothing: what can change does, and the log names what
//! waits, at each reload until then.

use crate::arguments::{Serve, Settings};

/// Puts what was loaded in its place.
pub(super) type Swap = Box<dyn FnOnce() + Send>;

type Load = Box<dyn FnMut(&Serve) -> anyhow::Result<Swap> + Send>;

/// What can be made anew, and the options that are in force.
pub(super) struct Reloads {
    settings: Settings,
    parts: Vec<Part>,
}

struct Part {
    options: &'static [&'static str],
    load: Load,
}

impl Reloads {
    /// Nothing yet, in a server that runs by these options.
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, parts: Vec::new() }
    }

    /// One part more, made from these options. `load` reads and checks what they ask for now, whether they have changed or
    /// not, as what they name may have.
    pub(super) fn add(
        &mut self,
        options: &'static [&'static str],
        load: impl FnMut(&Serve) -> anyhow::Result<Swap> + Send + 'static,
    ) {
        self.parts.push(Part { options, load: Box::new(load) });
    }

    /// Reloads to what `asked` says, which was just read again, and says in the log what came of it.
    pub(super) fn reload(&mut self, asked: Result<(Box<Serve>, Settings), Vec<String>>) {
        match asked.and_then(|(serve, settings)| self.try_reload(&serve, &settings)) {
            Ok(Reloaded { changed, waiting }) => {
                tracing::info!(changed = changed.join(", "), "reloaded");
                if !waiting.is_empty() {
                    tracing::warn!("waits for a restart: {}", waiting.join(", "));
                }
            }
            Err(mistakes) => tracing::error!("not reloaded, all stays as it was: {}", mistakes.join("; ")),
        }
    }

    fn try_reload(&mut self, serve: &Serve, settings: &Settings) -> Result<Reloaded, Vec<String>> {
        let mut swaps = Vec::new();
        let mut mistakes = Vec::new();
        for part in &mut self.parts {
            match (part.load)(serve) {
                Ok(swap) => swaps.push(swap),
                Err(error) => mistakes.push(format!("{error:#}")),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        for swap in swaps {
            swap();
        }
        let differing = self.settings.differing(settings);
        let (changed, waiting): (Vec<_>, Vec<_>) = differing.into_iter().partition(|name| self.is_covered(name));
        for name in &changed {
            self.settings.take(name, settings);
        }
        Ok(Reloaded { changed, waiting })
    }

    /// The options that can change.
    #[cfg(all(test, feature = "metrics", feature = "tls"))]
    pub(super) fn options(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().flat_map(|part| part.options).copied()
    }

    fn is_covered(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.options.contains(&name))
    }
}

/// What a reload has done, by the names of options.
#[derive(Debug, PartialEq)]
struct Reloaded {
    changed: Vec<String>,
    /// Not in force before a restart.
    waiting: Vec<String>,
}
