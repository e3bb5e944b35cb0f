//! Cleaning: what one member says can do no harm on another's terminal.
//!
//! Harm is done by few characters: controls, which terminals obey, and the invisible ones that turn text around or break
//! lines. Their UTF-8 begins with few bytes, none of which is common in most scripts. So text is looked over in whole
//! blocks for such a byte, which a compiler turns into vector instructions, and only a block that has one is looked at byte
//! by byte. A line with nothing to mend, and that is nearly every line, is appended by one copy.

use std::str;

/// What stands for a character or for bytes that must not pass.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// Bytes looked over at once: two vectors of the smallest kind, one of the next.
const BLOCK_BYTES: usize = 32;

/// Appends `text` to `out`, made harmless for terminals.
///
/// C0 controls but TAB become their pictures, U+2400 and following, and DEL U+2421. C1 controls, bidirectional controls
/// (Unicode Standard Annex 9, section 2) and the separators U+2028 and U+2029 become U+FFFD. So do bytes that are no UTF-8,
/// one for each maximal invalid part, exactly as [`String::from_utf8_lossy`] has it. All else is untouched, so cleaning
/// what is clean changes nothing. At most three bytes come out for one that goes in.
pub(crate) fn clean(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let (valid, invalid) = split_valid(rest);
        clean_valid(valid, out);
        if invalid.is_empty() {
            return;
        }
        out.extend_from_slice(REPLACEMENT);
        // A character cut off by the end of the text is one invalid part.
        rest = &invalid[invalid_part_bytes(invalid).unwrap_or(invalid.len())..];
    }
}

/// Cleans a stream of lines, for one who shows on a terminal what a server sends: the server may be hostile.
///
/// As [`clean()`], but line feeds stay. Up to three bytes of a character that is not whole yet are held back, so the bytes
/// that come out do not depend on how the stream was cut.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    /// The beginning of a character: `held[..held_bytes]`, always the proper prefix of a valid one.
    held: [u8; 3],
    held_bytes: usize,
}

impl Cleaner {
    /// Appends `bytes` to `out`, cleaned.
    pub(crate) fn clean(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = self.complete(bytes, out);
        loop {
            let (valid, invalid) = split_valid(rest);
            clean_valid_lines(valid, out);
            if invalid.is_empty() {
                return;
            }
            let Some(part_bytes) = invalid_part_bytes(invalid) else {
                self.held[..invalid.len()].copy_from_slice(invalid);
                self.held_bytes = invalid.len();
                return;
            };
            out.extend_from_slice(REPLACEMENT);
            rest = &invalid[part_bytes..];
        }
    }

    /// The stream has ended: a character that was never completed is an invalid part.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.held_bytes > 0 {
            out.extend_from_slice(REPLACEMENT);
            self.held_bytes = 0;
        }
    }

    /// Completes the character that is held, or finds that it cannot be completed. Returns what of `bytes` was not needed
    /// for that; it is empty if the character is not whole even now.
    fn complete<'a>(&mut self, mut bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        while self.held_bytes > 0
            && let Some((&next, rest)) = bytes.split_first()
        {
            let mut character = [0; 4];
            character[..self.held_bytes].copy_from_slice(&self.held[..self.held_bytes]);
            character[self.held_bytes] = next;
            let character = &character[..=self.held_bytes];
            let (valid, invalid) = split_valid(character);
            if invalid.is_empty() {
                clean_valid(valid, out);
                self.held_bytes = 0;
                bytes = rest;
            } else if invalid_part_bytes(invalid).is_some() {
                // What was held is the invalid part, as it was the beginning of a character; `next` begins anew.
                out.extend_from_slice(REPLACEMENT);
                self.held_bytes = 0;
            } else {
                self.held[self.held_bytes] = next;
                self.held_bytes += 1;
                bytes = rest;
            }
        }
        bytes
    }
}

/// Cuts `bytes` before the first that is not UTF-8.
fn split_valid(bytes: &[u8]) -> (&[u8], &[u8]) {
    match str::from_utf8(bytes) {
        Ok(_) => (bytes, &[]),
        Err(error) => bytes.split_at(error.valid_up_to()),
    }
}

/// How many bytes the invalid part has with which `invalid` begins; `None` if it is a character cut off by the end.
///
/// A part has at most three bytes, and a fourth shows where it ends: no need to look further.
fn invalid_part_bytes(invalid: &[u8]) -> Option<usize> {
    let shown = &invalid[..invalid.len().min(4)];
    str::from_utf8(shown).err().and_then(|error| error.error_len())
}

fn clean_valid_lines(text: &[u8], out: &mut Vec<u8>) {
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', text) {
        clean_valid(&text[from..end], out);
        out.push(b'\n');
        from = end + 1;
    }
    clean_valid(&text[from..], out);
}

/// Appends `text`, which is UTF-8, with what is harmful replaced.
fn clean_valid(text: &[u8], out: &mut Vec<u8>) {
    let mut copied = 0;
    let mut at = 0;
    while at < text.len() {
        let block_end = text.len().min(at + BLOCK_BYTES);
        let block = &text[at..block_end];
        if !is_block_suspect(block) {
            at = block_end;
            continue;
        }
        // A character that reaches into the next block is looked at here, by its first byte.
        while let Some(ahead) = text[at.min(block_end)..block_end].iter().position(|&b| is_suspect(b)) {
            at += ahead;
            let Some((harm_bytes, instead)) = harm(&text[at..]) else {
                at += 1;
                continue;
            };
            out.extend_from_slice(&text[copied..at]);
            out.extend_from_slice(&instead);
            at += harm_bytes;
            copied = at;
        }
        at = at.max(block_end);
    }
    out.extend_from_slice(&text[copied..]);
}

/// Whether something harmful may begin with this byte.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "`&&` and `||` branch, and keep the look over a block from being vectorised"
)]
fn is_suspect(b: u8) -> bool {
    ((b < 0x20) & (b != b'\t')) | (b == 0x7F) | (b == 0xC2) | (b == 0xD8) | (b == 0xE2)
}

/// Whether a byte of the block is suspect. A whole block is looked over without early exit, for the same reason.
fn is_block_suspect(block: &[u8]) -> bool {
    if let Ok(block) = <&[u8; BLOCK_BYTES]>::try_from(block) {
        block.iter().fold(false, |found, &b| found | is_suspect(b))
    } else {
        block.iter().any(|&b| is_suspect(b))
    }
}

/// The harmful character with which `text` begins, if it does: how many bytes it has, and the three that replace it.
fn harm(text: &[u8]) -> Option<(usize, [u8; 3])> {
    const REPLACED: [u8; 3] = [REPLACEMENT[0], REPLACEMENT[1], REPLACEMENT[2]];
    match *text {
        [b'\t', ..] => None,
        // The pictures U+2400..U+241F are E2 90 80 .. E2 90 9F.
        [control @ ..0x20, ..] => Some((1, [0xE2, 0x90, 0x80 + control])),
        // U+2421
        [0x7F, ..] => Some((1, [0xE2, 0x90, 0xA1])),
        // C1: U+0080..U+009F. U+061C ARABIC LETTER MARK.
        [0xC2, 0x80..=0x9F, ..] | [0xD8, 0x9C, ..] => Some((2, REPLACED)),
        // U+200E, U+200F: marks. U+2028, U+2029: separators. U+202A..U+202E: embeddings and overrides. U+2066..U+2069: isolates.
        [0xE2, 0x80, 0x8E | 0x8F | 0xA8..=0xAE, ..] | [0xE2, 0x81, 0xA6..=0xA9, ..] => Some((3, REPLACED)),
        _ => None,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::line::check_clean;
    use crate::fuzzing::terminal::{self, deeds};

    fn cleaned(text: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        clean(text, &mut out);
        out.drain(..b"before".len());
        out
    }

    #[test]
    fn every_character_comes_out_as_it_should() {
        for character in '\0'..=char::MAX {
            let text = character.to_string();
            assert_eq!(cleaned(text.as_bytes()), terminal::cleaned(text.as_bytes()).as_bytes(), "{character:?}");
        }
    }

    #[test]
    fn harm_is_found_wherever_it_is_in_a_block() {
        for harm in ["\0", "\x1B", "\x7F", "\n", "\u{9B}", "\u{61C}", "\u{202E}", "\u{2069}"] {
            for before in 0..3 * BLOCK_BYTES {
                for after in [0, 1, BLOCK_BYTES] {
                    let text = [&"a".repeat(before), harm, &"b".repeat(after)].concat();
                    assert_eq!(cleaned(text.as_bytes()), terminal::cleaned(text.as_bytes()).as_bytes(), "{text:?}");
                }
            }
        }
    }

    /// A byte too many costs time only, which no other test sees.
    #[test]
    fn suspect_are_just_the_bytes_with_which_harm_begins() {
        for first in 0..=u8::MAX {
            let begins_harm =
                (0..=u8::MAX).any(|second| (0..=u8::MAX).any(|third| harm(&[first, second, third]).is_some()));
            assert_eq!(is_suspect(first), begins_harm, "{first:#X}");
        }
    }

    #[test]
    fn block_is_suspect_if_a_byte_of_it_is() {
        for bytes in 1..=BLOCK_BYTES {
            let mut block = vec![b'a'; bytes];
            assert!(!is_block_suspect(&block));
            for suspects in 1..=bytes {
                block[bytes - suspects] = b'\n';
                assert!(is_block_suspect(&block), "{block:?}");
            }
        }
    }

    #[test]
    fn invalid_parts_are_replaced_one_by_one() {
        fn check(text: &[u8], expected: &str) {
            assert_eq!(String::from_utf8(cleaned(text)).as_deref(), Ok(expected));
        }
        check(b"\xFF\xFE", "\u{FFFD}\u{FFFD}");
        check(b"a\x80b", "a\u{FFFD}b");
        check(b"\xE6\x9C", "\u{FFFD}"); // cut at the end
        check(b"\xE6\x9Ca", "\u{FFFD}a");
        check(b"\xF0\x9F\xA6\xE6\x9C\xAC", "\u{FFFD}本");
        check(b"\xC0\xAF", "\u{FFFD}\u{FFFD}"); // overlong
        check(b"\xED\xA0\x80", "\u{FFFD}\u{FFFD}\u{FFFD}"); // surrogate
        check(b"\x9B31m\x9D0;x\x07", "\u{FFFD}31m\u{FFFD}0;x␇"); // controls of eight bits
    }

    #[test]
    fn terminal_would_have_obeyed_what_was_not_cleaned() {
        let attacks: [&[u8]; 5] =
            [b"\x1B[2J", b"\x1B]52;c;AAAA\x07", b"\x1BP$qm\x1B\\", b"\x1Bc", b"\x1B]0;title\x1B\\"];
        for attack in attacks {
            assert_ne!(deeds(attack), [""; 0]);
            assert_eq!(deeds(&cleaned(attack)), [""; 0]);
        }
    }

    /// Pieces of attacks, of characters and of ordinary text, in any order.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<[u8; 1]>().prop_map(Vec::from),
            any::<char>().prop_map(|character| character.to_string().into_bytes()),
            "[ -~]{0,40}".prop_map(String::into_bytes),
            "[\u{4E00}-\u{9FFF}“”]{0,16}".prop_map(String::into_bytes),
            "[\u{7E}-\u{A1}\u{61B}-\u{61D}\u{200D}-\u{2010}\u{2027}-\u{202F}\u{2065}-\u{206A}]{0,8}"
                .prop_map(String::into_bytes),
            prop::sample::select(vec!["\x1B[", "\x1B]52;c;", "\x1BP", "\x1B\\", "\x07", "\u{9B}", "\n", "\r\n"])
                .prop_map(|attack| attack.as_bytes().to_vec()),
            prop::sample::select(vec![
                &b"\xE6\x9C"[..],
                b"\xF0\x9F\xA6",
                b"\xF0\x9F",
                b"\xE2\x80",
                b"\xC2",
                b"\xD8",
                b"\xED\xA0"
            ])
            .prop_map(<[u8]>::to_vec),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn plain_text_is_untouched(text in "([^\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]|\t){0,80}") {
            prop_assert_eq!(cleaned(text.as_bytes()), text.as_bytes());
        }

        #[test]
        fn text_is_cleaned_as_the_slow_truth_has_it(text in text(), cuts in prop::collection::vec(1..5_usize, 1..16)) {
            let mut reads = Vec::new();
            let mut rest = &text[..];
            for &bytes in cuts.iter().cycle() {
                let (read, after) = rest.split_at(bytes.min(rest.len()));
                reads.push(read);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            check_clean(&reads);
            check_clean(&[&text]);
        }
    }
}
