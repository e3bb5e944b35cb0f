//! The door of a room: who is let in, and what newcomers are told.
//!
//! A [`Policy`] is what the keeper of a server has decided. It is replaced as a whole, and who is in already stays. Bans are what was
//! decided since, one by one; they pass by themselves and outlive a change of policy. Both are asked before a connection is counted
//! anywhere, so that who is not let in costs one short line.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zeroize::Zeroize;

use crate::callers::Callers;
use crate::limits::{ATTEMPT_RATE, IpNet, SITES_MAX};
use crate::line;
use crate::notice::Notice;

#[cfg(all(feature = "password", not(loom)))]
mod hashes;
#[cfg(all(feature = "password", not(loom)))]
pub use self::hashes::{HASHES_MAX, Hashes, HashesError, hash};
pub use crate::site::Site;

/// The longest message of the day, in bytes as its author wrote it.
pub const MOTD_BYTES_MAX: usize = 4096;

/// Most bans at once. Each newcomer is compared with all of them, which takes some microseconds.
pub const BANS_MAX: usize = 1024;

/// What the keeper of a server has decided: by default everyone is let in, and nobody is told anything.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Who alone is let in. Empty: everyone who is not denied.
    pub allow: Vec<IpNet>,
    /// Who is not let in, though it be allowed.
    pub deny: Vec<IpNet>,
    /// What newcomers are told behind their welcome, but in a [plain](crate::Wire::plain) room.
    pub motd: Option<Motd>,
    /// Who proves that newcomers know a password. `None`: nobody is asked for one. One that has proved its name is not asked, nor one
    /// of this machine: whom a Unix socket lets in is for the mode of its file.
    pub passwords: Option<Arc<dyn Passwords>>,
}

/// What somebody says to be let in. It is wiped when it is dropped, and shown to nobody.
pub struct Password(Vec<u8>);

impl Password {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As it was sent, without its line end.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Whether a password is right, once that is known. Dropped, it need not be known any more.
pub type Verdict = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Who proves passwords. It shall take as long for a wrong one as for a right one, and shall not hold up the thread that polls it.
pub trait Passwords: fmt::Debug + Send + Sync {
    /// Begins to prove one.
    fn verify(&self, password: Password) -> Verdict;
}

/// A message of the day, as it is told: notices, a line each. A clone is the same message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Motd(Arc<[u8]>);

/// Why a text is no message of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the day has at most {MOTD_BYTES_MAX} bytes, and this one has more")]
pub struct MotdTooLong;

impl Motd {
    /// A message of these lines, cleaned as what members say is. `None` when there are none.
    ///
    /// # Errors
    ///
    /// [`MotdTooLong`].
    pub fn new(text: &[u8]) -> Result<Option<Self>, MotdTooLong> {
        if text.len() > MOTD_BYTES_MAX {
            return Err(MotdTooLong);
        }
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        if text.is_empty() {
            return Ok(None);
        }
        let mut told = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            told.extend_from_slice(b"-- ");
            line::clean(line.strip_suffix(b"\r").unwrap_or(line), &mut told);
            told.push(b'\n');
        }
        Ok(Some(Self(told.into())))
    }

    /// What is told: whole lines, each beginning with `-- `.
    pub fn told(&self) -> &[u8] {
        &self.0
    }
}

/// Somebody who is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Whoever comes from there.
    pub prefix: IpNet,
    /// How long. `None`: until it is lifted.
    pub until: Option<Instant>,
}

/// There are as many bans as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {BANS_MAX} bans already: lift one before")]
pub struct TooManyBans;

/// A policy, and the bans beside it. (Its locks are std's: no order of the room hangs on them, and no model needs to see them.)
#[derive(Debug)]
pub struct Door {
    policy: Mutex<Arc<Policy>>,
    /// By prefix, of which each is there once.
    bans: Mutex<Vec<Ban>>,
    is_shut: AtomicBool,
    /// Who has tried passwords lately.
    attempts: Mutex<Callers>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            policy: Mutex::default(),
            bans: Mutex::default(),
            is_shut: AtomicBool::default(),
            attempts: Mutex::new(Callers::new(SITES_MAX)),
        }
    }
}

impl Door {
    /// A door of this policy.
    pub fn new(policy: Policy) -> Self {
        Self { policy: Mutex::new(Arc::new(policy)), ..Self::default() }
    }

    /// What is decided as of now.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        // Poisoned or not: nothing in here can panic between two changes.
        Arc::clone(&self.policy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides otherwise from now on, for those who come; who is in stays.
    pub fn replace(&self, policy: Policy) {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Lets in nobody any more.
    pub fn shut(&self) {
        self.is_shut.store(true, Ordering::Relaxed);
    }

    /// Whether one more password may be tried from `site` as of `now`; it is counted if so.
    pub(crate) fn may_try(&self, site: Site, now: Instant) -> bool {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.may_come(site, ATTEMPT_RATE, now)
    }

    /// Why one is not let in, if it is not. Who comes from no address is for the mode of a file to keep out.
    pub(crate) fn refusal(&self, ip: Option<IpAddr>, now: Instant) -> Option<Notice<'static>> {
        if self.is_shut.load(Ordering::Relaxed) {
            return Some(Notice::Stopping);
        }
        ip.is_some_and(|ip| !self.lets_in(ip, now)).then_some(Notice::NotLetIn)
    }

    /// Whether who comes from `ip` is let in, as of `now`, while the door is not shut.
    pub fn lets_in(&self, ip: IpAddr, now: Instant) -> bool {
        let ip = ip.to_canonical();
        let is_in = |prefixes: &[IpNet]| prefixes.iter().any(|prefix| prefix.contains(&ip));
        let policy = self.policy();
        let is_allowed = policy.allow.is_empty() || is_in(&policy.allow);
        is_allowed && !is_in(&policy.deny) && !self.bans(now).iter().any(|ban| ban.prefix.contains(&ip))
    }

    /// Lets in nobody from `ban.prefix`; of two bans of the same prefix the later stands.
    ///
    /// # Errors
    ///
    /// [`TooManyBans`]; nothing changed.
    pub fn ban(&self, ban: Ban, now: Instant) -> Result<(), TooManyBans> {
        let mut bans = self.bans(now);
        match bans.binary_search_by_key(&ban.prefix, |ban| ban.prefix) {
            Ok(index) => bans[index] = ban,
            Err(_) if bans.len() >= BANS_MAX => return Err(TooManyBans),
            Err(index) => bans.insert(index, ban),
        }
        Ok(())
    }

    /// Lifts the ban of this very prefix; returns whether there was one.
    pub fn unban(&self, prefix: IpNet, now: Instant) -> bool {
        let mut bans = self.bans(now);
        let found = bans.binary_search_by_key(&prefix, |ban| ban.prefix);
        found.map(|index| bans.remove(index)).is_ok()
    }

    /// The bans as of `now`, by their prefixes.
    pub fn banned(&self, now: Instant) -> Vec<Ban> {
        self.bans(now).clone()
    }

    /// The bans, less those that have passed.
    fn bans(&self, now: Instant) -> MutexGuard<'_, Vec<Ban>> {
        let mut bans = self.bans.lock().unwrap_or_else(PoisonError::into_inner);
        bans.retain(|ban| ban.until.is_none_or(|until| until > now));
        bans
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    fn check(door: &Door, now: Instant, let_in: &[&str], kept_out: &[&str]) {
        for (ips, expected) in [(let_in, true), (kept_out, false)] {
            for ip in ips {
                assert_eq!(door.lets_in(ip.parse().expect("an address"), now), expected, "{ip}");
            }
        }
    }

    #[test]
    fn deny_beats_allow_and_with_an_allow_list_nobody_else_is_let_in() {
        let now = Instant::now();
        let door = Door::default();
        check(&door, now, &["10.0.0.1", "::1", "2001:db8::1"], &[]);
        let deny = prefixes(&["10.1.0.0/16", "2001:db8::/32"]);
        door.replace(Policy { deny: deny.clone(), ..Policy::default() });
        check(&door, now, &["10.0.0.1", "2001:db9::1"], &["10.1.0.1", "::ffff:10.1.0.1", "2001:db8::1"]);
        let allow = prefixes(&["10.0.0.0/8"]);
        door.replace(Policy { allow, deny, ..Policy::default() });
        check(&door, now, &["10.0.0.1", "::ffff:10.0.0.1"], &["10.1.0.1", "11.0.0.1", "::1", "2001:db8::1"]);
    }

    #[test]
    fn ban_passes_in_time_is_lifted_or_stays_and_outlives_the_policy() {
        let start = Instant::now();
        let almost = start + Duration::from_nanos(9_999_999_999);
        let later = start + Duration::from_secs(10);
        let door = Door::default();
        let [one, net] = [prefixes(&["10.0.0.1/32"])[0], prefixes(&["2001:db8::/64"])[0]];
        door.ban(Ban { prefix: one, until: Some(later) }, start).expect("there is room");
        door.ban(Ban { prefix: net, until: None }, start).expect("there is room");
        door.replace(Policy { allow: prefixes(&["0.0.0.0/0", "::/0"]), ..Policy::default() });
        check(&door, start, &["10.0.0.2"], &["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::5"]);
        check(&door, almost, &[], &["10.0.0.1", "2001:db8::5"]);
        check(&door, later, &["10.0.0.1"], &["2001:db8::5"]);
        assert_eq!(door.banned(later), [Ban { prefix: net, until: None }]);
        assert!(!door.unban(one, later) && door.unban(net, later));
        check(&door, later, &["10.0.0.1", "2001:db8::5"], &[]);
    }

    /// Law 7.
    #[test]
    fn bans_are_bounded_and_each_prefix_has_one() {
        let now = Instant::now();
        let door = Door::default();
        let ban = |number: usize| {
            let ip = std::net::Ipv4Addr::from(u32::try_from(number).expect("few"));
            Ban { prefix: IpAddr::from(ip).into(), until: Some(now + Duration::from_secs(1)) }
        };
        for number in (0..BANS_MAX).rev() {
            assert_eq!(door.ban(ban(number), now), Ok(()));
        }
        assert_eq!(door.ban(ban(BANS_MAX), now), Err(TooManyBans));
        assert_eq!(door.ban(Ban { until: None, ..ban(7) }, now), Ok(()), "it is there already");
        assert_eq!(door.banned(now).len(), BANS_MAX);
        assert_eq!(door.banned(now)[7].until, None, "by their prefixes");
        let passed = now + Duration::from_secs(1);
        assert_eq!(door.ban(ban(BANS_MAX), passed), Ok(()));
        assert_eq!(door.banned(passed), [Ban { until: None, ..ban(7) }], "the new one has passed as well");
    }

    #[test]
    fn message_of_the_day_is_notices_line_by_line_cleaned() {
        for (text, told) in [
            ("hello", Some("-- hello\n")),
            ("\u{FEFF}hello\r\n\nworld\r\n", Some("-- hello\n-- \n-- world\n")),
            ("\u{1b}[2J\rx\u{202e}", Some("-- ␛[2J␍x\u{fffd}\n")),
            ("\n\n", Some("-- \n-- \n")),
            ("", None),
            ("\n", None),
        ] {
            let motd = Motd::new(text.as_bytes()).expect("it is short");
            assert_eq!(motd.as_ref().map(Motd::told), told.map(str::as_bytes), "{text:?}");
        }
        assert!(Motd::new(&[b'x'; MOTD_BYTES_MAX]).is_ok());
        assert_eq!(Motd::new(&[b'x'; MOTD_BYTES_MAX + 1]), Err(MotdTooLong));
    }

    #[test]
    fn door_that_is_shut_lets_in_nobody_and_says_so() {
        let now = Instant::now();
        let door = Door::new(Policy { deny: prefixes(&["10.0.0.1/32"]), ..Policy::default() });
        let [denied, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| Some(ip.parse().expect("an address")));
        assert_eq!(door.refusal(denied, now), Some(Notice::NotLetIn));
        assert_eq!((door.refusal(other, now), door.refusal(None, now)), (None, None));
        door.shut();
        for ip in [denied, other, None] {
            assert_eq!(door.refusal(ip, now), Some(Notice::Stopping));
        }
    }
}
