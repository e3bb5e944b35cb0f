//! What an administrator asks for, in one line: a word, and what it wants.

use std::time::Duration;

use unisono::limits::IpNet;

use crate::arguments::{prefix, time};

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    Who,
    Kick(String),
    Ban {
        whom: Banned,
        lasts: Option<Duration>,
    },
    Unban(IpNet),
    Bans,
    Notice(String),
    /// And how long it may take.
    Drain(Option<Duration>),
    Stats,
}

/// Who shall not come back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Banned {
    From(IpNet),
    /// Wherever one comes from who is called so.
    Who(String),
}

impl Request {
    /// What a line asks for, without its line end.
    ///
    /// # Errors
    ///
    /// What would be right.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let alone = |request| if rest.is_empty() { Ok(request) } else { Err(format!("`{word}` stands alone")) };
        match word {
            "who" => alone(Self::Who),
            "bans" => alone(Self::Bans),
            "stats" => alone(Self::Stats),
            "kick" => Ok(Self::Kick(one(word, "WHO", rest)?)),
            "ban" => {
                let (whom, lasts) = match rest.split_once(" for ") {
                    Some((whom, lasts)) => (whom, Some(above_0(lasts)?)),
                    None => (rest, None),
                };
                let whom = one(word, "CIDR or WHO, then perhaps for TIME", whom)?;
                let whom = prefix(&whom).map_or(Banned::Who(whom), |prefix| Banned::From(of_sites(prefix)));
                Ok(Self::Ban { whom, lasts })
            }
            "unban" => Ok(Self::Unban(of_sites(prefix(&one(word, "CIDR", rest)?)?))),
            "notice" if rest.is_empty() => Err("it is `notice TEXT`".into()),
            "notice" => Ok(Self::Notice(rest.into())),
            "drain" if rest.is_empty() => Ok(Self::Drain(None)),
            "drain" => {
                let lasts = rest.strip_prefix("for ").ok_or("it is `drain`, or `drain for TIME`")?;
                time(lasts).map(|lasts| Self::Drain(Some(lasts)))
            }
            _ => Err("a request is one of who, kick, ban, unban, bans, notice, drain, stats".into()),
        }
    }
}

fn one(word: &str, what: &str, rest: &str) -> Result<String, String> {
    if rest.is_empty() || rest.contains(' ') { Err(format!("it is `{word} {what}`")) } else { Ok(rest.into()) }
}

fn above_0(text: &str) -> Result<Duration, String> {
    time(text).and_then(|lasts| if lasts.is_zero() { Err("a ban lasts for more than 0".into()) } else { Ok(lasts) })
}

/// Nobody is told from another within a /64.
fn of_sites(prefix: IpNet) -> IpNet {
    match prefix {
        IpNet::V6(ipv6) if ipv6.prefix_len() > 64 => IpNet::new_assert(ipv6.addr().into(), 64).trunc(),
        prefix => prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn requests_are_what_they_say() {
        let minute = Some(Duration::from_secs(60));
        let from = |text, lasts| Request::Ban { whom: Banned::From(net(text)), lasts };
        for (line, request) in [
            ("who", Request::Who),
            ("bans", Request::Bans),
            ("stats", Request::Stats),
            ("kick 10.0.0.1:5", Request::Kick("10.0.0.1:5".into())),
            ("ban 10.0.0.1", from("10.0.0.1/32", None)),
            ("ban 10.0.0.0/8 for 1m", from("10.0.0.0/8", minute)),
            ("ban 2001:db8::7 for 1m", from("2001:db8::/64", minute)),
            ("ban bob for 60s", Request::Ban { whom: Banned::Who("bob".into()), lasts: minute }),
            ("ban [::1]:5", Request::Ban { whom: Banned::Who("[::1]:5".into()), lasts: None }),
            ("unban 2001:db8::7", Request::Unban(net("2001:db8::/64"))),
            ("notice back  at noon", Request::Notice("back  at noon".into())),
            ("drain", Request::Drain(None)),
            ("drain for 60s", Request::Drain(minute)),
            ("drain for 0", Request::Drain(Some(Duration::ZERO))),
        ] {
            assert_eq!(Request::parse(line), Ok(request), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_would_be_right() {
        for (line, part) in [
            ("", "one of who"),
            ("WHO", "one of who"),
            ("who is", "stands alone"),
            ("kick", "`kick WHO`"),
            ("kick a b", "`kick WHO`"),
            ("ban", "`ban CIDR or WHO"),
            ("ban bob for", "`ban CIDR or WHO"),
            ("ban bob for 0", "more than 0"),
            ("ban bob for ever", "`500ms`"),
            ("unban bob", "`10.0.0.0/8`"),
            ("notice", "`notice TEXT`"),
            ("drain now", "`drain for TIME`"),
            ("drain for x", "`30s`"),
        ] {
            let message = Request::parse(line).expect_err(line);
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
