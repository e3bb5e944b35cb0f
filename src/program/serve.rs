//! `unisono serve`: a server from its options to its end.

use std::{
    io::{self, Write},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time::Instant,
};
#[cfg(feature = "tls")]
use unisono::tls::Certificates;
use unisono::{Door, Limits, Room, limits::GREETINGS_MAX, server};

#[cfg(feature = "metrics")]
use {
    super::metrics::{self, Delay, Greetings, Metrics, NotAfter},
    crate::arguments::Address,
    tokio::{net::TcpListener, task::JoinSet},
    unisono::listen::Any,
};

use super::{
    admin, door, listeners,
    reload::Reloads,
    signals::{Asked, Signals},
    systemd::Systemd,
};
use crate::{
    arguments::{self, Serve, Settings},
    journal::{self, Control},
};

/// Files that `serve` keeps for itself: standard streams, listeners, the runtime's own.
const FILES_OWN: u64 = 32;

/// Nobody waits for longer than a year until all have left.
const DRAIN_MOST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Whether the files that the options name can be used, by the exit code; what is wrong is told in a line each.
pub(super) fn check(serve: &Serve) -> ExitCode {
    let mistakes = [
        door::policy(&serve.door).err(),
        #[cfg(feature = "tls")]
        certificates(serve).err(),
    ];
    let mistakes: Vec<_> = mistakes.into_iter().flatten().collect();
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
    let limits = Limits {
        connections_max: connections_max(&serve),
        // So that a reload may say how many; until then they are as good as all.
        announcements: serve.limits.announcements.or(Some(usize::MAX)),
        ..serve.limits.clone()
    };
    let door = Door::new(door::policy(&serve.door)?);
    let room = Room::with_door(limits, serve.wire, door).context("these limits cannot work")?;
    #[cfg(feature = "tls")]
    let certificates = certificates(&serve)?;
    let listeners = listeners::bind(
        &serve,
        #[cfg(feature = "tls")]
        certificates.as_ref(),
        &room,
    );
    let listeners = listeners.await?;

    let socket = match &serve.admin {
        Some(path) => {
            let bound = admin::Socket::bind(path).await;
            Some(bound.with_context(|| format!("--admin unix:{}", path.display()))?)
        }
        None => None,
    };

    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        // An error means that `stop` was dropped, which is an end as well.
        let _ = stopped.await;
    };
    // It ends with this function.
    #[cfg(feature = "metrics")]
    let _watched = match &serve.metrics {
        Some(address) => {
            #[cfg(feature = "tls")]
            let not_after = {
                let certificates = certificates.clone();
                move || certificates.as_ref().and_then(Certificates::not_after)
            };
            #[cfg(not(feature = "tls"))]
            let not_after = || None;
            let greetings = listeners.iter().flat_map(Any::counts).collect();
            Some(watch(address, &room, greetings, &log, Box::new(not_after)).await?)
        }
        None => None,
    };
    let systemd = Systemd::new();
    let _watched_by_systemd = systemd.watch(&room).context("cannot tell systemd how this server is")?;
    let mut reloads = reloads(&room, log, settings);
    #[cfg(feature = "tls")]
    if let Some(certificates) = certificates {
        reload_certificates(&mut reloads, certificates);
    }
    let (drain, mut drains) = mpsc::channel(1);
    let mut administrators = pin!(admin::run(socket, room.clone(), drain));
    let mut drained_until = None;
    let mut server = pin!(server::run(listeners, room.clone(), stopped));
    // All are bound, so who is told to go ahead finds them, though the first connection is accepted a little later.
    systemd.ready();
    // In both: the server first, so that an end that has come is not taken for one that is cut short.
    let first = loop {
        tokio::select! {
            biased;
            outcome = &mut server => return finished(outcome),
            asked = signals.next() => match asked {
                Asked::Reload => {
                    systemd.reloading();
                    reloads.reload(arguments::serve_again());
                    systemd.ready();
                }
                Asked::End(ended_by) => break ended_by.name,
            },
            Some(within) = drains.recv() => drained_until = Some(Instant::now() + DRAIN_MOST.min(within)),
            () = admin::drained(&room, drained_until), if drained_until.is_some() => break "drained",
            never = &mut administrators => match never {},
        }
    };
    tracing::info!("{first}: ending");
    systemd.stopping();
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

/// Shows the room in numbers at `address`, until what is returned is dropped.
#[cfg(feature = "metrics")]
async fn watch(
    address: &Address,
    room: &Room,
    greetings: Greetings,
    log: &Control,
    not_after: NotAfter,
) -> anyhow::Result<JoinSet<()>> {
    let bound = TcpListener::bind((&*address.host, address.port)).await;
    let listener = bound.with_context(|| format!("cannot show metrics on {address}"))?;
    let local = listener.local_addr().context("cannot show metrics")?;
    tracing::info!("metrics at http://{local}/metrics");
    if !local.ip().is_loopback() {
        tracing::warn!("whoever reaches {local} sees the metrics");
    }
    let delay = Delay::default();
    let metrics = Metrics::new(room.clone(), greetings, log.clone(), &delay, not_after);
    let mut watched = JoinSet::new();
    watched.spawn(metrics::http::serve(listener, address.host.clone(), metrics));
    watched.spawn(metrics::follow_lines(room.clone(), delay));
    Ok(watched)
}

/// What SIGHUP makes anew.
fn reloads(room: &Room, log: Control, settings: Settings) -> Reloads {
    let mut reloads = Reloads::new(settings);
    reloads.add(&["log-level"], move |serve| {
        let (log, level) = (log.clone(), serve.log.level);
        Ok(Box::new(move || log.set_level(level)))
    });
    let door_room = room.clone();
    reloads.add(&["allow", "deny", "motd", "password-file"], move |serve| {
        let (room, policy) = (door_room.clone(), door::policy(&serve.door)?);
        Ok(Box::new(move || room.door().replace(policy)))
    });
    let room = room.clone();
    reloads.add(&["announcements", "flood", "connect-rate", "trusted"], move |serve| {
        let (room, limits) = (room.clone(), serve.limits.clone());
        limits.check()?;
        Ok(Box::new(move || room.change_limits(&limits).expect("they were checked")))
    });
    reloads
}

#[cfg(feature = "tls")]
fn certificates(serve: &Serve) -> anyhow::Result<Option<Certificates>> {
    let files = serve.tls.as_ref().map(|tls| tls.files.clone());
    Ok(files.map(Certificates::load).transpose()?)
}

#[cfg(feature = "tls")]
const CERTIFICATE_OPTIONS: &[&str] = &["tls-cert", "tls-key", "tls-client-ca"];

#[cfg(feature = "tls")]
fn reload_certificates(reloads: &mut Reloads, certificates: Certificates) {
    reloads.add(CERTIFICATE_OPTIONS, move |serve| {
        let (certificates, new) = (certificates.clone(), self::certificates(serve)?);
        // Not to listen within TLS any more waits for a restart.
        Ok(Box::new(move || new.into_iter().for_each(|new| certificates.replace(&new))))
    });
}

fn finished(outcome: Result<(), server::Error>) -> anyhow::Result<ExitCode> {
    outcome.context("the server broke down")?;
    Ok(ExitCode::SUCCESS)
}

/// How many connections there may be: what was asked for, or what the file limit carries once it is raised.
fn connections_max(serve: &Serve) -> usize {
    let files = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!("the limit of open files cannot be raised: {error}");
            rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        }
    };
    let greeted = if serve.proxies.is_empty() { 0 } else { serve.listen.len() };
    #[cfg(feature = "tls")]
    let greeted = greeted + serve.tls.as_ref().map_or(0, |tls| tls.listen.len());
    let own = FILES_OWN + (greeted * GREETINGS_MAX) as u64;
    let carried = usize::try_from(files.saturating_sub(own)).unwrap_or(usize::MAX).max(1);
    let connections_max = serve.connections_max.unwrap_or(carried);
    tracing::info!("limit of open files {files}, at most {connections_max} connections");
    if connections_max > carried {
        tracing::warn!("this limit of open files carries {carried} connections only");
    }
    connections_max
}

#[cfg(all(test, feature = "metrics", feature = "tls"))]
mod tests {
    use std::collections::BTreeSet;

    use unisono::Wire;

    use super::*;

    /// Whoever runs a server knows beforehand what waits for a restart: all that is not in that table.
    #[test]
    fn options_that_can_change_are_those_of_the_document() {
        let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
        let reloads = reloads(&room, journal::control_of_none(), Settings::default());
        let can_change: BTreeSet<_> = reloads.options().chain(CERTIFICATE_OPTIONS.iter().copied()).collect();
        let document = include_str!("../../docs/OPERATIONS.md");
        let (_, table) = document.split_once("| can change | for whom |\n|---|---|\n").expect("it has the table");
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.split('|').nth(1).expect("a row has cells"));
        let documented: BTreeSet<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert_eq!(documented, can_change);
    }
}
