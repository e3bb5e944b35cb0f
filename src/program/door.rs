//! The door as asked for, with its files read: at the start, and again whenever it is to be decided anew.

use std::{fs::File, io::Read, path::Path};

use anyhow::Context;
use unisono::door::{MOTD_BYTES_MAX, Motd, Policy};
#[cfg(feature = "password")]
use {
    std::sync::Arc,
    unisono::door::{Hashes, Passwords},
};

use crate::arguments::DoorAsked;

/// The longest file of hashes.
#[cfg(feature = "password")]
const PASSWORD_FILE_BYTES_MAX: usize = 64 * 1024;

/// What was asked for, as the files are now.
///
/// # Errors
///
/// One that names the file that cannot be used.
pub(super) fn policy(asked: &DoorAsked) -> anyhow::Result<Policy> {
    let motd = match &asked.motd {
        Some(path) => motd(path).with_context(|| format!("--motd {}", path.display()))?,
        None => None,
    };
    #[cfg(feature = "password")]
    let passwords = match &asked.passwords {
        Some(path) => Some(passwords(path).with_context(|| format!("--password-file {}", path.display()))?),
        None => None,
    };
    #[cfg(not(feature = "password"))]
    let passwords = None;
    Ok(Policy { allow: asked.allow.clone(), deny: asked.deny.clone(), motd, passwords })
}

#[cfg(feature = "password")]
fn passwords(path: &Path) -> anyhow::Result<Arc<dyn Passwords>> {
    let text = read(path, PASSWORD_FILE_BYTES_MAX)?;
    anyhow::ensure!(text.len() <= PASSWORD_FILE_BYTES_MAX, "it has more than {PASSWORD_FILE_BYTES_MAX} bytes");
    let text = String::from_utf8(text).context("it is not UTF-8")?;
    Ok(Arc::new(Hashes::parse(&text)?))
}

fn motd(path: &Path) -> anyhow::Result<Option<Motd>> {
    Ok(Motd::new(&read(path, MOTD_BYTES_MAX)?)?)
}

/// A file of at most so many bytes, and one more.
fn read(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).context("cannot open it")?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).context("cannot read it")?;
    Ok(bytes)
}
