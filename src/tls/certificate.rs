//! The little of a certificate (RFC 5280) that we have to know ourselves: its names, and when it ends.
//!
//! Whether it is to be believed, rustls has decided by then. Of what is not written as it should be, nothing is known.

use std::time::{Duration, SystemTime};

/// Tags of DER that are asked for (X.690, 8.1.2).
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `UTF8String`, `PrintableString`, `TeletexString` and `IA5String`: all that is plain in them is plain in UTF-8.
const TEXTS: [u8; 4] = [0x0C, 0x13, 0x14, 0x16];
/// `version` and `extensions` of a certificate, `rfc822Name` and `dNSName` of an alternative name.
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
const EMAIL: u8 = 0x81;
const HOST: u8 = 0x82;

/// `id-at-commonName` and `id-ce-subjectAltName`.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];

/// Values one behind the other.
#[derive(Debug)]
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The next one, by tag and contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&length, mut rest) = rest.split_first()?;
        let length = match length {
            0..=0x7F => usize::from(length),
            0x81..=0x84 => {
                let (bytes, behind) = rest.split_at_checked(usize::from(length & 0x7F))?;
                rest = behind;
                bytes.iter().fold(0, |length, byte| (length << 8) + usize::from(*byte))
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    /// The contents of the next one, which must be such.
    fn expect(&mut self, expected: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == expected).map(|(_, contents)| contents)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Values::next(self)
    }
}

/// The parts of a certificate that are looked into.
struct Certificate<'a> {
    validity: &'a [u8],
    subject: &'a [u8],
    /// Empty if it has none.
    extensions: &'a [u8],
}

fn parse(certificate: &[u8]) -> Option<Certificate<'_>> {
    let signed = Values(Values(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?;
    let mut fields = Values(signed);
    if signed.first() == Some(&VERSION) {
        fields.next()?;
    }
    let (_serial, _algorithm, _issuer) = (fields.next()?, fields.next()?, fields.next()?);
    let (validity, subject) = (fields.expect(SEQUENCE)?, fields.expect(SEQUENCE)?);
    let extensions = fields.find(|(tag, _)| *tag == EXTENSIONS).and_then(|(_, all)| Values(all).expect(SEQUENCE));
    Some(Certificate { validity, subject, extensions: extensions.unwrap_or_default() })
}

/// Whom it names: common names first, then hosts, then addresses of mail, each in their order.
pub(super) fn names(certificate: &[u8]) -> Vec<&[u8]> {
    let Some(Certificate { subject, extensions, .. }) = parse(certificate) else { return Vec::new() };
    let parts = Values(subject).filter(|(tag, _)| *tag == SET).flat_map(|(_, set)| Values(set));
    let common = parts.filter_map(|(_, part)| {
        let mut part = Values(part);
        part.expect(OBJECT).filter(|kind| *kind == COMMON_NAME)?;
        part.next().filter(|(tag, _)| TEXTS.contains(tag)).map(|(_, text)| text)
    });
    let mut names: Vec<&[u8]> = common.collect();
    let alternative: Vec<(u8, &[u8])> =
        Values(extensions).filter_map(|(_, one)| alternative_names(one)).flatten().collect();
    for kind in [HOST, EMAIL] {
        names.extend(alternative.iter().filter(|(tag, _)| *tag == kind).map(|(_, name)| *name));
    }
    names
}

fn alternative_names(extension: &[u8]) -> Option<Values<'_>> {
    let mut fields = Values(extension);
    fields.expect(OBJECT).filter(|kind| *kind == ALTERNATIVE_NAMES)?;
    // Whether it is critical may stand between.
    let (_, octets) = fields.find(|(tag, _)| *tag == OCTETS)?;
    Values(octets).expect(SEQUENCE).map(Values)
}

/// When it ends.
pub(super) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let mut times = Values(parse(certificate)?.validity);
    let (_not_before, (tag, text)) = (times.next()?, times.next()?);
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let year_digits = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let (year, rest) = text.split_at_checked(year_digits)?;
    let mut numbers = rest.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).ok()?.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let [month, day, hour, minute, second] = [next()?, next()?, next()?, next()?, next()?];
    let year: u64 = year.parse().ok()?;
    // RFC 5280, section 4.1.2.5.1.
    let year = if tag == GENERALIZED_TIME { year } else { year + if year < 50 { 2000 } else { 1900 } };
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from the beginning of 1970, with years from March on, so that a leap day is the last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let years = if month > 2 { year } else { year - 1 };
    let months = (month + 9) % 12;
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let days = |years: u64| years * 365 + leap_days(years);
    // 1970-01-01 is the 307th day of the year from March 1969 on.
    days(years) + (153 * months + 2) / 5 + day - 1 - days(1969) - 306
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn shown(certificate: &[u8]) -> Vec<String> {
        names(certificate).into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn common_names_come_first_then_hosts_then_mail() {
        let all = certificate(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "nobody");
            params.distinguished_name.push(DnType::CommonName, "bob");
            params.subject_alt_names = vec![
                SanType::Rfc822Name("bob@example.org".try_into().expect("plain")),
                SanType::DnsName("bob.example.org".try_into().expect("plain")),
                SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
                SanType::Rfc822Name("robert@example.org".try_into().expect("plain")),
            ];
        });
        assert_eq!(shown(&all), ["bob", "bob.example.org", "bob@example.org", "robert@example.org"]);
        assert_eq!(shown(&certificate(|_| {})), Vec::<String>::new());
        let wide = certificate(|params| params.distinguished_name.push(DnType::CommonName, "山田"));
        assert_eq!(shown(&wide), ["山田"]);
        let long = certificate(|params| params.distinguished_name.push(DnType::CommonName, "x".repeat(300)));
        assert_eq!(shown(&long), ["x".repeat(300)]);
    }

    #[test]
    fn end_is_when_it_says() {
        for ((year, month, day), expected) in [
            ((2024, 2, 29), 1_709_164_800),
            ((2026, 1, 1), 1_767_225_600),
            ((2049, 12, 31), 2_524_521_600),
            // From 2050 on it is written otherwise.
            ((2050, 3, 1), 2_529_705_600),
            ((2100, 3, 1), 4_107_542_400),
            ((1999, 12, 31), 946_598_400),
            ((1970, 1, 1), 0),
        ] {
            let made = certificate(|params| {
                params.not_before = date_time_ymd(1960, 1, 1);
                params.not_after = date_time_ymd(year, month, day);
            });
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(expected);
            assert_eq!(not_after(&made), Some(expected), "{year}-{month}-{day}");
        }
    }

    /// Whose end is written as these texts.
    fn end(short: &str, long: &str) -> [Option<SystemTime>; 2] {
        [(2049, short, "491231000000Z"), (2050, long, "20501231000000Z")].map(|(year, text, stands)| {
            let made = certificate(|params| params.not_after = date_time_ymd(year, 12, 31));
            let at = made.windows(stands.len()).position(|bytes| bytes == stands.as_bytes()).expect("it is in there");
            not_after(&[&made[..at], text.as_bytes(), &made[at + text.len()..]].concat())
        })
    }

    #[test]
    fn end_is_to_the_second_and_none_is_made_up() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(end("491231235958Z", "20501231010203Z"), [at(2_524_607_998), at(2_556_061_323)]);
        // Years of two digits are of this century up to 49.
        assert_eq!(end("500101000000Z", "19691231000000Z"), [None, None]);
        assert_eq!(end("700101000000Z", "19700101000000Z"), [at(0), at(0)]);
        for (short, long) in [
            ("490031000000Z", "20500031000000Z"),
            ("491331000000Z", "20501331000000Z"),
            ("491200000000Z", "20501200000000Z"),
            ("491232000000Z", "20501232000000Z"),
            ("4912310000000", "205012310000000"),
            ("49123100000xZ", "2050123100000xZ"),
        ] {
            assert_eq!(end(short, long), [None, None], "{short} {long}");
        }
    }

    /// Counted one by one, as they are on the wall.
    #[test]
    fn days_follow_each_other() {
        let mut expected = 0;
        for year in 1970..2405 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, length) in [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
                let length = if month == 1 && is_leap { 29 } else { length };
                for day in 1..=length {
                    assert_eq!(days(year, month as u64 + 1, day), expected, "{year} {month} {day}");
                    expected += 1;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What is not written as it should be has no names, or some; it is never more than is there, and no panic.
        #[test]
        fn any_bytes_are_read(at in 0..400usize, byte: u8, cut in 0..400usize, bytes: Vec<u8>) {
            static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let whole = WHOLE.get_or_init(|| certificate(|params| {
                params.distinguished_name.push(DnType::CommonName, "bob");
                params.subject_alt_names = vec![SanType::DnsName("bob.example.org".try_into().expect("plain"))];
            }));
            let mut changed = whole.clone();
            let at = at % changed.len();
            changed[at] = byte;
            for bytes in [&bytes[..], &changed, &whole[..cut % whole.len()]] {
                let total: usize = names(bytes).iter().map(|name| name.len()).sum();
                prop_assert!(total <= bytes.len());
                let _or_none = not_after(bytes);
            }
        }
    }
}
