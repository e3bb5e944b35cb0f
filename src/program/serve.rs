//! `unisono serve`: a server from its options to its end.

use std::{
    io::{self, Write},
    pin::pin,
    process::ExitCode,
};

use anyhow::Context;
use tokio::{runtime, sync::oneshot};
use unisono::{Door, Limits, Room, server};

use super::{
    door, listeners,
    reload::Reloads,
    signals::{Asked, Signals},
};
use crate::{
    arguments::{self, Serve, Settings},
    journal::{self, Control},
};

/// Files that `serve` keeps for itself: standard streams, listeners, the runtime's own.
const FILES_OWN: u64 = 32;

/// Whether the files that the options name can be used, by the exit code; what is wrong is told in a line each.
pub(super) fn check(serve: &Serve) -> ExitCode {
    let mistakes: Vec<_> = [door::policy(&serve.door).err()].into_iter().flatten().collect();
    for error in &mistakes {
        // Nothing better can be done about a stderr that fails.
        let _ = writeln!(io::stderr(), "error: {error:#}");
    }
    if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// Runs a server; its failures go to the log, which alone may write to stderr while it runs.
pub(super) fn run(serve: Serve, settings: Settings) -> anyhow::Result<ExitCode> {
    let journal = journal::start(serve.log.format, serve.log.level).context("cannot start the log")?;
    let outcome = on_all_cores().and_then(|runtime| {
        let outcome = runtime.block_on(self::serve(serve, settings, journal.control()));
        // After a clean end nothing is left; after a second signal nothing is waited for.
        runtime.shutdown_background();
        outcome
    });
    Ok(outcome.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    }))
}

fn on_all_cores() -> anyhow::Result<runtime::Runtime> {
    // Tokio would panic.
    if let Some(count) = std::env::var_os("TOKIO_WORKER_THREADS") {
        let count = count.to_str().and_then(|count| count.parse::<usize>().ok());
        anyhow::ensure!(count.is_some_and(|count| count > 0), "TOKIO_WORKER_THREADS must be a number from 1 up");
    }
    runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("unisono")
        // Here goes `.worker_threads(n)` once a measurement favours another number than one per core, which is
        // tokio's default. It would override TOKIO_WORKER_THREADS, which is honoured as it is.
        .build()
        .context("cannot start the runtime")
}

async fn serve(serve: Serve, settings: Settings, log: Control) -> anyhow::Result<ExitCode> {
    // Before anything else can be noticed from outside, so that no signal finds the default, a sudden end.
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let limits = Limits { connections_max: connections_max(serve.connections_max), ..serve.limits };
    let door = Door::new(door::policy(&serve.door)?);
    let mut listeners = Vec::new();
    for address in &serve.listen {
        listeners.extend(listeners::bind_all(address, &limits).await?);
    }

    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        // An error means that `stop` was dropped, which is an end as well.
        let _ = stopped.await;
    };
    let room = Room::with_door(limits, serve.wire, door).context("these limits cannot work")?;
    let mut reloads = reloads(&room, log, settings);
    let mut server = pin!(server::run(listeners, room, stopped));
    // In both: the server first, so that an end that has come is not taken for one that is cut short.
    let first = loop {
        tokio::select! {
            biased;
            outcome = &mut server => return finished(outcome),
            asked = signals.next() => match asked {
                Asked::Reload => reloads.reload(arguments::serve_again()),
                Asked::End(ended_by) => break ended_by,
            },
        }
    };
    tracing::info!("{}: ending", first.name);
    let _ = stop.send(());
    tokio::select! {
        biased;
        outcome = &mut server => finished(outcome),
        second = signals.next_end_only() => {
            tracing::warn!("{}: ending at once", second.name);
            Ok(ExitCode::from(second.exit_code))
        }
    }
}

/// What SIGHUP makes anew.
fn reloads(room: &Room, log: Control, settings: Settings) -> Reloads {
    let mut reloads = Reloads::new(settings);
    reloads.add(&["log-level"], move |serve| {
        let (log, level) = (log.clone(), serve.log.level);
        Ok(Box::new(move || log.set_level(level)))
    });
    let door_room = room.clone();
    reloads.add(&["allow", "deny", "motd"], move |serve| {
        let (room, policy) = (door_room.clone(), door::policy(&serve.door)?);
        Ok(Box::new(move || room.door().replace(policy)))
    });
    let room = room.clone();
    reloads.add(&["flood", "connect-rate", "trusted"], move |serve| {
        let (room, limits) = (room.clone(), serve.limits.clone());
        limits.check()?;
        Ok(Box::new(move || room.change_limits(&limits).expect("they were checked")))
    });
    reloads
}

fn finished(outcome: Result<(), server::Error>) -> anyhow::Result<ExitCode> {
    outcome.context("the server broke down")?;
    Ok(ExitCode::SUCCESS)
}

/// How many connections there may be: what was asked for, or what the file limit carries once it is raised.
fn connections_max(asked: Option<usize>) -> usize {
    let files = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!("the limit of open files cannot be raised: {error}");
            rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        }
    };
    let carried = usize::try_from(files.saturating_sub(FILES_OWN)).unwrap_or(usize::MAX).max(1);
    let connections_max = asked.unwrap_or(carried);
    tracing::info!("limit of open files {files}, at most {connections_max} connections");
    if connections_max > carried {
        tracing::warn!("this limit of open files carries {carried} connections only");
    }
    connections_max
}
