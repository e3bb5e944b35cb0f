//! Passwords of which only hashes are known, by Argon2.

use std::fmt;
use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::{Password, Passwords, Verdict};

/// How many passwords are proved at once: each takes a thread for a while, and by default 19 MiB. The others wait, first come, first
/// served.
const PROVED_AT_ONCE: usize = 2;

/// Most hashes: each password is compared with all of them.
pub const HASHES_MAX: usize = 16;

/// Hashes of passwords, of which newcomers must know one.
#[derive(Clone)]
pub struct Hashes {
    hashes: Arc<[PasswordHash]>,
    places: Arc<Semaphore>,
}

impl fmt::Debug for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashes").field("count", &self.hashes.len()).finish_non_exhaustive()
    }
}

/// Why a text is no list of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashesError {
    /// There is none.
    #[error("there is no hash: one is made by `unisono hash-password`")]
    None,
    /// There are too many.
    #[error("there are more than {HASHES_MAX} hashes")]
    TooMany,
    /// A line is something else. What it has is not repeated, as it may be a password.
    #[error("line {line} is no hash by Argon2, as `$argon2id$v=19$...`: one is made by `unisono hash-password`")]
    NotAHash {
        /// Its number, from 1.
        line: usize,
    },
}

impl Hashes {
    /// The hashes of a text: a PHC string a line; empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    ///
    /// [`HashesError`].
    pub fn parse(text: &str) -> Result<Self, HashesError> {
        let mut hashes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let hash = PasswordHash::new(line).ok().filter(|hash| {
                hash.algorithm.as_str().starts_with("argon2") && hash.salt.is_some() && hash.hash.is_some()
            });
            hashes.push(hash.ok_or(HashesError::NotAHash { line: index + 1 })?);
        }
        match hashes.len() {
            0 => Err(HashesError::None),
            1..=HASHES_MAX => Ok(Self { hashes: hashes.into(), places: Arc::new(Semaphore::new(PROVED_AT_ONCE)) }),
            _ => Err(HashesError::TooMany),
        }
    }

    /// Whether it is one of them. It is compared with all of them, whichever it is.
    fn have(hashes: &[PasswordHash], password: &Password) -> bool {
        let argon = Argon2::default();
        hashes.iter().fold(false, |is_any, hash| argon.verify_password(password.bytes(), hash).is_ok() | is_any)
    }
}

impl Passwords for Hashes {
    fn verify(&self, password: Password) -> Verdict {
        let Self { hashes, places } = self.clone();
        Box::pin(async move {
            let Ok(place) = places.acquire_owned().await else { return false };
            let proving = spawn_blocking(move || {
                // Kept by the thread, as who waits for it may go before it is done.
                let _place = place;
                Self::have(&hashes, &password)
            });
            proving.await.unwrap_or(false)
        })
    }
}

/// A hash of this password, with a salt of its own: a PHC string.
///
/// # Errors
///
/// When the system has no randomness, or the password is too long to be hashed.
pub fn hash(password: &Password) -> Result<String, argon2::password_hash::Error> {
    Ok(Argon2::default().hash_password(password.bytes())?.to_string())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn who_knows_one_of_the_passwords_is_told_from_who_knows_none() {
        let [one, other] = ["open sesame", "\u{4f60}\u{597d}"].map(|text| hash(&password(text)).expect("it is hashed"));
        assert_ne!(hash(&password("open sesame")).expect("it is hashed"), one, "each has a salt of its own");
        let again = hash(&password("\u{4f60}\u{597d}")).expect("it is hashed");
        let hashes = Hashes::parse(&format!("# ours\n\n{one}\r\n  {other}\n{again}\n")).expect("hashes");
        for (text, expected) in [("open sesame", true), ("\u{4f60}\u{597d}", true), ("open", false), ("", false)] {
            assert_eq!(hashes.verify(password(text)).await, expected, "{text}");
        }
        assert_eq!(hashes.places.available_permits(), PROVED_AT_ONCE, "law 9");
        assert_eq!(format!("{hashes:?} {:?}", password("secret")), "Hashes { count: 3, .. } Password");
    }

    #[test]
    fn what_is_no_hash_is_named_by_its_line_and_not_repeated() {
        let good = hash(&password("x")).expect("it is hashed");
        for (text, error) in [
            (String::new(), HashesError::None),
            ("# nothing\n".into(), HashesError::None),
            (format!("{good}\nsecret\n"), HashesError::NotAHash { line: 2 }),
            ("$argon2id$v=19$m=19456,t=2,p=1\n".into(), HashesError::NotAHash { line: 1 }),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ\n".into(), HashesError::NotAHash { line: 1 }),
            (
                good.replace("$argon2id$v=19$m=19456,t=2,p=1$", "$pbkdf2-sha256$i=1000$"),
                HashesError::NotAHash { line: 1 },
            ),
            (format!("{good}\n").repeat(17), HashesError::TooMany),
        ] {
            assert_eq!(Hashes::parse(&text).expect_err(&text), error);
        }
        assert!(!HashesError::NotAHash { line: 1 }.to_string().contains("secret"));
    }
}
