//! The target `proxy`: the header of a proxy, by any bytes.
//!
//! The input is what a connection begins with.

use crate::proxy::{Error, Header, Parsed, parse};

/// Reads a header as a connection does, so many bytes as it surely has yet, and judges that against all of `input` at once.
pub(crate) fn check(input: &[u8]) {
    let mut read_bytes = 0;
    let bit_by_bit = loop {
        match parse(&input[..read_bytes]) {
            Ok(Parsed::Partial(more)) => {
                assert!(more > 0, "it asks for something");
                if read_bytes + more > input.len() {
                    break None;
                }
                read_bytes += more;
            }
            Ok(Parsed::Whole(header, length)) => {
                assert_eq!(length, read_bytes, "nothing behind it was read");
                break Some(Ok(header));
            }
            Err(error) => break Some(Err(error)),
        }
    };
    let at_once = match parse(input) {
        Ok(Parsed::Whole(header, length)) => {
            assert!(length <= input.len(), "what is not there cannot be read");
            assert!(length <= 16 + 4096, "a header is bounded");
            Some(Ok(header))
        }
        Ok(Parsed::Partial(_)) => None,
        Err(error) => Some(Err(error)),
    };
    match (bit_by_bit, at_once) {
        // With fewer bytes it may not be certain yet what is wrong, or be wrong otherwise.
        (None | Some(Err(_)), Some(Err(_))) => {}
        (bit_by_bit, at_once) => assert_eq!(bit_by_bit, at_once, "it is the same however it comes"),
    }
    check_by_hand(input, at_once);
}

/// What version 1 means, by the words of the specification.
fn check_by_hand(input: &[u8], parsed: Option<Result<Header, Error>>) {
    let line = input[..input.len().min(107)].split_inclusive(|byte| *byte == b'\n').next();
    let line = line.and_then(|line| line.strip_suffix(b"\r\n"));
    let Some(line) = line.and_then(|line| str::from_utf8(line).ok()) else { return };
    let words: Vec<&str> = line.split(' ').collect();
    if words.first() != Some(&"PROXY") {
        return;
    }
    let expected = match &words[1..] {
        ["UNKNOWN", ..] => Some(Header::Own),
        ["TCP4", from, to, from_port, to_port] => relayed::<std::net::Ipv4Addr>(from, to, from_port, to_port),
        ["TCP6", from, to, from_port, to_port] => relayed::<std::net::Ipv6Addr>(from, to, from_port, to_port),
        _ => None,
    };
    match expected {
        Some(expected) => assert_eq!(parsed, Some(Ok(expected)), "{line:?}"),
        None => assert!(matches!(parsed, Some(Err(_))), "{line:?}: {parsed:?}"),
    }
}

fn relayed<Ip>(from: &str, to: &str, from_port: &str, to_port: &str) -> Option<Header>
where
    Ip: std::str::FromStr + Into<std::net::IpAddr>,
{
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port.to_string() == text);
    let (from, _to): (Ip, Ip) = (from.parse().ok()?, to.parse().ok()?);
    (is_port(from_port) && is_port(to_port))
        .then(|| Header::Relayed(Some((from.into(), from_port.parse().expect("it is a port")).into())))
}

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    check(input);
}
