//! `unisono connect`: the client over a stream and the standard ones.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Context;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime,
};
use unisono::client::{self, End, Options, Printing};

#[cfg(feature = "tls")]
use crate::arguments::Secure;
use crate::arguments::{Connect, Endpoint};

/// Runs a client over a connection and the standard streams.
pub(super) fn run(connect: Connect) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(self::connect(connect));
    // A thread may be in the middle of reading stdin, which nothing can interrupt: it goes with the process.
    runtime.shutdown_background();
    outcome
}

async fn connect(mut connect: Connect) -> anyhow::Result<ExitCode> {
    if io::stdout().is_terminal() {
        connect.options.printing = Printing::Harmless;
    }
    let place = &connect.address;
    match place {
        Endpoint::Network(address) => {
            let stream = TcpStream::connect((&*address.host, address.port)).await;
            let stream = stream.with_context(|| format!("cannot connect to {place}"))?;
            stream.set_nodelay(true).with_context(|| format!("cannot set up the connection to {place}"))?;
            enter(stream, &address.host, &connect).await
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            // Who may not read names of other machines has one for itself.
            enter(stream.with_context(|| format!("cannot connect to {place}"))?, "localhost", &connect).await
        }
    }
}

/// Enters by `stream`, within TLS if so asked for.
#[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "only a certificate is compared with it"))]
async fn enter<S>(stream: S, host: &str, connect: &Connect) -> anyhow::Result<ExitCode>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    #[cfg(feature = "tls")]
    if let Some(secure) = &connect.tls {
        let stream = shake_hands(stream, host, secure, &connect.address).await?;
        return converse(stream, &connect.address, connect.options.clone()).await;
    }
    converse(stream, &connect.address, connect.options.clone()).await
}

#[cfg(feature = "tls")]
async fn shake_hands<S>(
    stream: S,
    host: &str,
    secure: &Secure,
    place: &Endpoint,
) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + use<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = unisono::tls::Client::new(secure.authorities.as_deref(), secure.identity.as_ref())?;
    let name = secure.server_name.as_deref().unwrap_or(host);
    client.connect(name, stream).await.with_context(|| format!("no TLS with {name} at {place}"))
}

async fn converse<S>(stream: S, place: &Endpoint, options: Options) -> anyhow::Result<ExitCode>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Tokio's streams hand whole chunks to a thread that writes them by one call each, up to the last line end; the
    // standard library's line buffer sees only what is behind it. So no line has a write of its own, unless it is alone.
    match client::run(stream, tokio::io::stdin(), tokio::io::stdout(), options).await? {
        End::Done | End::OutputClosed => Ok(ExitCode::SUCCESS),
        End::ServerGone => anyhow::bail!("the server at {place} has closed the connection"),
    }
}
