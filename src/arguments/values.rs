//! What stands behind an option: each kind of value, by its words.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use unisono::{
    limits::{FOREVER, Flood, IpNet, Ipv4Net, Rate},
    name::Name,
};

/// A host, by name or number, and a port. Not looked up yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where lines are taken, or taken to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Endpoint {
    Network(Address),
    Unix(PathBuf),
}

/// A limit that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Switch<T> {
    Off,
    At(T),
}

impl<T> From<Switch<T>> for Option<T> {
    fn from(switch: Switch<T>) -> Self {
        match switch {
            Switch::Off => None,
            Switch::At(limit) => Some(limit),
        }
    }
}

/// Where peers are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prefixes(pub(super) Vec<IpNet>);

/// Where the seed listens.
impl Default for Address {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 8000 }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing, as in `unix:/run/unisono.sock`".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Network),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) else {
            return Err(format!(
                "a port is missing, as in `{}:8000`",
                if text.is_empty() { "localhost" } else { text }
            ));
        };
        let port = port.parse().map_err(|_| "the port must be a number from 0 to 65535, as in `localhost:8000`")?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host,
            None if host.contains(':') => return Err("an IPv6 address wants brackets, as in `[::1]:8000`".into()),
            None => host,
        };
        if host.is_empty() {
            return Err(format!("a host is missing: `0.0.0.0:{port}` means all of IPv4, `[::]:{port}` all"));
        }
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// A number of bytes as one would type it: in full KiB, rounded up.
#[derive(Debug, PartialEq)]
pub(super) struct Size(pub(super) usize);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}KiB", self.0.div_ceil(1024))
    }
}

/// Bounds what is calculated from a size: 4 longest lines, each stored in threefold length.
const SIZE_BYTES_MAX: usize = usize::MAX / 16;

pub(super) fn size(text: &str) -> Result<usize, String> {
    let ByteSize(bytes) = text.parse().map_err(|_| "a size is a number of bytes, or one with a unit, as `64KiB`")?;
    match usize::try_from(bytes) {
        Ok(0) => Err("a size must be at least 1 byte".into()),
        Ok(bytes) if bytes <= SIZE_BYTES_MAX => Ok(bytes),
        _ => Err("no machine has so much memory".into()),
    }
}

pub(crate) fn time(text: &str) -> Result<Duration, String> {
    match text {
        "forever" => Ok(FOREVER),
        "0" => Ok(Duration::ZERO),
        _ => humantime::parse_duration(text)
            .map_err(|_| "a time is a number with a unit, as `500ms` or `30s`, or `forever`, or `0`".into()),
    }
}

pub(super) fn time_above_0(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("it must be more than 0; `forever` means no limit".into()),
        duration => Ok(duration),
    }
}

/// The mode of a file, as `chmod` takes it.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or_else(|| "a mode is three octal digits, as `660`".into())
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(count) => Ok(count),
        Err(_) => Err("it must be a whole number".into()),
    }
}

pub(super) fn flood(text: &str) -> Result<Switch<Flood>, String> {
    const RIGHT: &str = "two rates are wanted, of lines and of bytes, as `256+10/s,256KiB+64KiB/s`, or `off`";
    if text == "off" {
        return Ok(Switch::Off);
    }
    let (lines, bytes) = text.split_once(',').ok_or(RIGHT)?;
    let bytes_of = |text: &str| size(text).map_err(|message| format!("{message}; {RIGHT}"));
    Ok(Switch::At(Flood {
        lines: rate(lines, count).map_err(|message| format!("{message}; {RIGHT}"))?,
        bytes: rate(bytes, bytes_of)?,
    }))
}

pub(super) fn connect_rate(text: &str) -> Result<Switch<Rate>, String> {
    match text {
        "off" => Ok(Switch::Off),
        _ => rate(text, count).map(Switch::At).map_err(|message| format!("{message}; or `off`")),
    }
}

pub(super) fn announcements(text: &str) -> Result<Switch<usize>, String> {
    match text {
        "off" => Ok(Switch::Off),
        _ => text.parse().map(Switch::At).map_err(|_| "it must be a whole number, as `16`, or `off`".into()),
    }
}

/// So many at once and so many a second: `20+2/s`.
fn rate(text: &str, number: impl Fn(&str) -> Result<usize, String>) -> Result<Rate, String> {
    let halves = text.strip_suffix("/s").and_then(|text| text.split_once('+'));
    let (burst, per_second) = halves.ok_or("a rate is how many at once and how many a second, as `20+2/s`")?;
    let number = |text| u32::try_from(number(text)?).map_err(|_| format!("a rate has numbers below 2^32, not {text}"));
    Ok(Rate { burst: number(burst)?, per_second: number(per_second)? })
}

pub(super) fn trusted(text: &str) -> Result<Prefixes, String> {
    match text {
        "none" => Ok(Prefixes(Vec::new())),
        _ => prefixes(text),
    }
}

pub(super) fn prefixes(text: &str) -> Result<Prefixes, String> {
    text.split(',').map(prefix).collect::<Result<_, _>>().map(Prefixes)
}

/// An address, or all that begin as it does. IPv4 in IPv6 is IPv4, as peers are.
pub(crate) fn prefix(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("`{text}` is no address, as `192.0.2.7`, and no prefix, as `10.0.0.0/8` or `fd00::/8`");
    let prefix = match text.parse::<IpNet>() {
        Ok(prefix) => prefix,
        Err(_) => text.parse::<IpAddr>().map_err(|_| wrong())?.into(),
    };
    // Whoever wrote it meant another address, or another length.
    if prefix.addr() != prefix.network() {
        return Err(format!("`{text}` has bits beyond its length: `{}` begins so", prefix.trunc()));
    }
    let IpNet::V6(mapped) = prefix else { return Ok(prefix) };
    let Some(ipv4) = mapped.addr().to_ipv4_mapped() else { return Ok(prefix) };
    let bits = mapped.prefix_len().checked_sub(96).ok_or_else(wrong)?;
    Ipv4Net::new(ipv4, bits).map(IpNet::V4).map_err(|_| wrong())
}

/// `unix:PATH`.
pub(super) fn unix(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or_else(|| "a Unix socket is wanted, as `unix:/run/unisono/admin.sock`".into())
}

/// A name that could be valid; whether it is free only the server knows.
pub(super) fn name(text: &str) -> Result<String, String> {
    match Name::parse(text.as_bytes()) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(error.to_string()),
    }
}
