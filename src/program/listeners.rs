//! Where a server listens: from an address as it was typed to listeners.

use std::{io, net::SocketAddr};

use anyhow::Context;
use unisono::{
    Limits, Room,
    listen::{Any, Socket, Tcp, Unix},
    proxy::Proxies,
};

use super::systemd;
use crate::arguments::{Address, Endpoint, Serve};

/// Listens wherever it is asked for, for who comes into `room`.
pub(super) async fn bind(
    serve: &Serve,
    #[cfg(feature = "tls")] certificates: Option<&unisono::tls::Certificates>,
    room: &Room,
) -> anyhow::Result<Vec<Any>> {
    let proxies = Proxies::new(&serve.proxies);
    let mut listeners = Vec::new();
    // Who hands sockets over has decided where to listen.
    let inherited = systemd::inherited(room.limits())?;
    let endpoints = if inherited.is_empty() { &serve.listen[..] } else { &[] };
    listeners.extend(inherited.into_iter().map(|socket| Any::plain(socket, proxies.clone(), room)));
    for endpoint in endpoints {
        let sockets = bind_one(endpoint, serve.unix_mode, room.limits()).await?;
        listeners.extend(sockets.into_iter().map(|socket| Any::plain(socket, proxies.clone(), room)));
    }
    #[cfg(feature = "tls")]
    if let (Some(tls), Some(certificates)) = (&serve.tls, certificates) {
        for endpoint in &tls.listen {
            let sockets = bind_one(endpoint, serve.unix_mode, room.limits()).await?;
            let within_tls = |socket| Any::tls(socket, proxies.clone(), certificates.clone(), room);
            listeners.extend(sockets.into_iter().map(within_tls));
        }
    }
    Ok(listeners)
}

async fn bind_one(endpoint: &Endpoint, unix_mode: u32, limits: &Limits) -> anyhow::Result<Vec<Socket>> {
    match endpoint {
        Endpoint::Network(address) => Ok(bind_all(address, limits).await?.into_iter().map(Socket::Tcp).collect()),
        Endpoint::Unix(path) => {
            let unix = Unix::bind(path, unix_mode).await;
            let unix = unix.with_context(|| format!("cannot listen on {endpoint}"))?;
            Ok(vec![Socket::Unix(unix)])
        }
    }
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
        Some((resolved, error)) if listeners.is_empty() => Err(error).with_context(|| cannot_listen(address, resolved)),
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
