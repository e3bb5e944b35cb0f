//! The `unisono` program: arguments to values, values to the library, outcomes to exit codes.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; for `connect` also when nobody reads stdout any more |
//! | 1 | it could not run: an address is taken, the server is gone |
//! | 2 | bad options |
//! | 130, 143 | after a second SIGINT or SIGTERM: ended at once, without the flush that the first one asked for |

#[cfg(not(loom))]
mod arguments;
#[cfg(not(loom))]
mod journal;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    program::run()
}

/// Under loom there are no sockets.
#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
mod program {
    use std::{
        io::{self, IsTerminal, Write},
        net::SocketAddr,
        pin::pin,
        process::ExitCode,
    };

    use anyhow::Context;
    use tokio::{
        net::TcpStream,
        runtime,
        signal::unix::{Signal, SignalKind, signal},
        sync::oneshot,
    };
    use unisono::{
        Limits, Room,
        client::{self, End, Printing},
        listen::Tcp,
        server,
    };

    use crate::{
        arguments::{self, Address, Connect, Serve, Task},
        journal,
    };

    /// Files that `serve` keeps for itself: standard streams, listeners, the runtime's own.
    const FILES_OWN: u64 = 32;

    /// Does what the command line says.
    pub(crate) fn run() -> ExitCode {
        let outcome = match arguments::parse() {
            Task::Serve(serve) => run_serve(serve),
            Task::Connect(connect) => run_connect(connect),
        };
        outcome.unwrap_or_else(|error| {
            // Not `eprintln`, which panics when stderr cannot be written.
            let _ = writeln!(io::stderr(), "unisono: {error:#}");
            ExitCode::FAILURE
        })
    }

    /// Runs a server; its failures go to the log, which alone may write to stderr while it runs.
    fn run_serve(serve: Serve) -> anyhow::Result<ExitCode> {
        let _journal = journal::start().context("cannot start the log")?;
        let outcome = on_all_cores().and_then(|runtime| {
            let outcome = runtime.block_on(self::serve(serve));
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

    async fn serve(serve: Serve) -> anyhow::Result<ExitCode> {
        // Before anything else can be noticed from outside, so that no signal finds the default, a sudden end.
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let limits = Limits { connections_max: connections_max(serve.connections_max), ..serve.limits };
        let mut listeners = Vec::new();
        for address in &serve.listen {
            listeners.extend(bind_all(address, &limits).await?);
        }

        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            // An error means that `stop` was dropped, which is an end as well.
            let _ = stopped.await;
        };
        let room = Room::new(limits, serve.wire).context("these limits cannot work")?;
        let mut server = pin!(server::run(listeners, room, stopped));
        // In both: the server first, so that an end that has come is not taken for one that is cut short.
        let first = tokio::select! {
            biased;
            outcome = &mut server => return finished(outcome),
            ended_by = signals.next() => ended_by,
        };
        tracing::info!("{}: ending", first.name);
        let _ = stop.send(());
        tokio::select! {
            biased;
            outcome = &mut server => finished(outcome),
            second = signals.next() => {
                tracing::warn!("{}: ending at once", second.name);
                Ok(ExitCode::from(second.exit_code))
            }
        }
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

    /// Listens on every address that a host has. One that this machine lacks is skipped when the host has another: a
    /// `localhost` may stand for `::1` where IPv6 is off.
    async fn bind_all(address: &Address, limits: &Limits) -> anyhow::Result<Vec<Tcp>> {
        let mut listeners = Vec::new();
        let mut absent = None;
        for resolved in resolve(address).await? {
            match Tcp::bind(resolved, limits) {
                Ok(listener) => listeners.push(listener),
                Err(error) if is_absent(&error) => absent = Some((resolved, error)),
                Err(error) => return Err(error).with_context(|| cannot_listen(address, resolved)),
            }
        }
        match absent {
            Some((resolved, error)) if listeners.is_empty() => {
                Err(error).with_context(|| cannot_listen(address, resolved))
            }
            Some((resolved, error)) => {
                tracing::warn!("{}: {error}", cannot_listen(address, resolved));
                Ok(listeners)
            }
            None => Ok(listeners),
        }
    }

    async fn resolve(address: &Address) -> anyhow::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((&*address.host, address.port)).await;
        let mut resolved: Vec<SocketAddr> = Vec::new();
        for one in found.with_context(|| format!("cannot find {address}"))? {
            // A hosts file may have the same twice.
            if !resolved.contains(&one) {
                resolved.push(one);
            }
        }
        anyhow::ensure!(!resolved.is_empty(), "{address} has no address");
        Ok(resolved)
    }

    fn is_absent(error: &io::Error) -> bool {
        /// Linux's `EAFNOSUPPORT`, for which there is no `ErrorKind` yet.
        const FAMILY_UNKNOWN: i32 = 97;
        error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(FAMILY_UNKNOWN)
    }

    fn cannot_listen(address: &Address, resolved: SocketAddr) -> String {
        let (address, resolved) = (address.to_string(), resolved.to_string());
        if address == resolved {
            format!("cannot listen on {address}")
        } else {
            format!("cannot listen on {address}, which is {resolved}")
        }
    }

    /// SIGTERM and SIGINT, as long as this lives in place of their default.
    struct Signals {
        terminate: Signal,
        interrupt: Signal,
    }

    /// A signal that asked for the end, and the exit code of one whom it ended.
    struct EndedBy {
        name: &'static str,
        exit_code: u8,
    }

    impl Signals {
        fn new() -> io::Result<Self> {
            Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
        }

        /// The next one. Cancel safe.
        async fn next(&mut self) -> EndedBy {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => EndedBy { name: "SIGTERM", exit_code: 128 + 15 },
                _ = self.interrupt.recv() => EndedBy { name: "SIGINT", exit_code: 128 + 2 },
            }
        }
    }

    /// Runs a client over TCP and the standard streams.
    fn run_connect(connect: Connect) -> anyhow::Result<ExitCode> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
        let outcome = runtime.block_on(self::connect(connect));
        // A thread may be in the middle of reading stdin, which nothing can interrupt: it goes with the process.
        runtime.shutdown_background();
        outcome
    }

    async fn connect(connect: Connect) -> anyhow::Result<ExitCode> {
        let Connect { address, mut options } = connect;
        if io::stdout().is_terminal() {
            options.printing = Printing::Harmless;
        }
        let stream = TcpStream::connect((&*address.host, address.port)).await;
        let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true).with_context(|| format!("cannot set up the connection to {address}"))?;
        // Tokio's streams hand whole chunks to a thread that writes them by one call each, up to the last line end; the
        // standard library's line buffer sees only what is behind it. So no line has a write of its own, unless it is alone.
        match client::run(stream, tokio::io::stdin(), tokio::io::stdout(), options).await? {
            End::Done | End::OutputClosed => Ok(ExitCode::SUCCESS),
            End::ServerGone => anyhow::bail!("the server at {address} has closed the connection"),
        }
    }
}
