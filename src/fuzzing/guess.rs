//! The slow truth of what a connection speaks: all that it has sent is read anew, and nothing remembered.

use crate::guess::Foreign;
use crate::session::Wire;

/// What has come of an input.
#[derive(Debug, Default)]
pub(crate) struct Spoken {
    /// It speaks this, and nothing that follows counts.
    pub(crate) foreign: Option<Foreign>,
    /// What is left for lines. If it speaks something foreign, no more than what made that certain.
    pub(crate) text: Vec<u8>,
    /// What is answered to commands of telnet.
    pub(crate) answers: Vec<u8>,
    /// A command of telnet has begun and not ended.
    pub(crate) is_amid_command: bool,
}

/// What comes of `all` that was sent; `at_end`, nothing follows.
pub(crate) fn spoken(all: &[u8], at_end: bool, wire: Wire) -> Spoken {
    if wire.plain || wire.raw {
        return Spoken { text: all.to_vec(), ..Spoken::default() };
    }
    if all.first() == Some(&0xFF) {
        return telnet(all);
    }
    let line_end = all.iter().position(|byte| *byte == b'\n').or(at_end.then_some(all.len()));
    let (foreign, bytes) = match all {
        [0x16, 3, 0..=4, ..] => (Some(Foreign::Tls), 3),
        _ if line_end.is_some_and(|end| is_request(&all[..end])) => {
            (Some(Foreign::Http), line_end.map_or(0, |end| end + 1).min(all.len()))
        }
        _ => (None, all.len()),
    };
    Spoken { foreign, text: all[..bytes].to_vec(), ..Spoken::default() }
}

fn is_request(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [verb, target, version] = words[..] else { return false };
    let is_version = match version.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    };
    let is_verb = verb.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    is_verb && is_version && !verb.is_empty() && !target.is_empty()
}

/// What comes of input with commands of telnet.
pub(crate) fn telnet(mut rest: &[u8]) -> Spoken {
    let mut spoken = Spoken::default();
    let mut text = Vec::new();
    loop {
        rest = match rest {
            [] => break,
            [0xFF] | [0xFF, 251..=254] => {
                spoken.is_amid_command = true;
                break;
            }
            [0xFF, 0xFF, more @ ..] => {
                text.push(0xFF);
                more
            }
            [0xFF, 251, option, more @ ..] => {
                spoken.answers.extend([0xFF, 254, *option]);
                more
            }
            [0xFF, 253, option, more @ ..] => {
                spoken.answers.extend([0xFF, 252, *option]);
                more
            }
            [0xFF, 250, parameters @ ..] => {
                let Some(more) = after_parameters(parameters) else {
                    spoken.is_amid_command = true;
                    break;
                };
                more
            }
            [0xFF, 252 | 254, _, more @ ..] | [0xFF, _, more @ ..] => more,
            [byte, more @ ..] => {
                text.push(*byte);
                more
            }
        };
    }
    // What a carriage return has behind it, so that nothing is taken for something else.
    for (at, byte) in text.iter().enumerate() {
        if *byte != 0 || at == 0 || text[at - 1] != b'\r' {
            spoken.text.push(*byte);
        }
    }
    spoken
}

fn after_parameters(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [0xFF, 240, more @ ..] => return Some(more),
            [0xFF, _, more @ ..] | [_, more @ ..] => more,
            [] => return None,
        };
    }
}
