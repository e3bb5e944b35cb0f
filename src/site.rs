//! Where somebody comes from, as everything here counts it: connections, how fast they come, and tries of passwords.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;

use crate::limits::{IpNet, Ipv6Net};

/// Where somebody comes from, as closely as is worth knowing: an IPv4 address, or the /64 of an IPv6 address, which is the least that
/// a subscriber is given (RFC 6177). It takes a word, as every connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(NonZeroU64);

impl Site {
    /// Stands before an IPv4 address in the place of a /64: nobody is given addresses that begin so (RFC 4291, section 4).
    const IPV4: u64 = 0x0100_0001 << 32;

    /// The one of an address.
    pub fn of(ip: IpAddr) -> Self {
        let bits = match ip.to_canonical() {
            IpAddr::V4(ip) => Self::IPV4 + u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        // Only a group of listeners is called by 64 ones.
        Self(NonZeroU64::MIN.saturating_add(bits))
    }

    /// Its addresses.
    pub fn prefix(self) -> IpNet {
        let bits = self.0.get() - 1;
        match u32::try_from(bits ^ Self::IPV4) {
            Ok(ip) => IpAddr::from(Ipv4Addr::from_bits(ip)).into(),
            Err(_) => Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::from(bits) << 64), 64).into(),
        }
    }

    /// Whether it has addresses in common with `prefix`.
    pub fn is_within(self, prefix: IpNet) -> bool {
        let own = self.prefix();
        prefix.contains(&own) || own.contains(&prefix)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn site_is_an_ipv4_address_or_the_half_of_an_ipv6_one() {
        for (ip, site) in [
            ("10.0.0.1", "10.0.0.1/32"),
            ("0.0.0.0", "0.0.0.0/32"),
            ("255.255.255.255", "255.255.255.255/32"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::1", "::/64"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("ffff:ffff:ffff:fffe::1", "ffff:ffff:ffff:fffe::/64"),
        ] {
            assert_eq!(Site::of(ip.parse().expect("an address")).prefix(), self::prefix(site), "{ip}");
        }
        for (ip, prefix, expected) in [
            ("10.0.0.1", "10.0.0.0/8", true),
            ("10.0.0.1", "10.0.0.1/32", true),
            ("10.0.0.1", "10.0.0.2/32", false),
            ("10.0.0.1", "::/0", false),
            ("2001:db8::1", "2001:db8::/32", true),
            ("2001:db8::1", "2001:db8::2/128", true),
            ("2001:db8::1", "2001:db8:0:1::/64", false),
        ] {
            assert_eq!(Site::of(ip.parse().expect("an address")).is_within(self::prefix(prefix)), expected, "{ip}");
        }
        assert_eq!(size_of::<Option<Site>>(), 8, "every connection has one");
    }
}
