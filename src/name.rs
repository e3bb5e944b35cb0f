//! Names: who may be called what.
//!
//! A name stands before every line of its member, so it must not pretend: to be a word of the server, the end of another
//! name, or somebody else. Each rule takes one of these lies away, and no rule asks for a script: letters, signs and
//! emoji of all the world are welcome. What looks alike is decided by Unicode Technical Standard 39, never by a list of ours.
//!
//! The tables are those of one version of Unicode. What that version does not know yet is refused, as nobody could say what
//! it looks like.

use std::fmt;

use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_security::confusable_detection::skeleton;

use crate::limits::{NAME_CHARS_MAX, WHO_BYTES_MAX};

/// Most nonspacing marks in a row: UTS 39, section 5.4. Languages need three, stacks of more are drawn over other lines.
pub(crate) const MARKS_IN_A_ROW_MAX: usize = 4;

/// What the server's own lines begin with where a name could stand. A room that one `欢迎` has left would else tell, with
/// `欢迎 下线`, that somebody called `下线` has come.
const RESERVED: [&str; 2] = ["欢迎", "Welcome"];

/// What a room calls a member that has no name yet and whose address is not shown: this and a number.
pub(crate) const GUEST: &str = "guest-";

/// Characters that show nothing though their category and Unicode's `Default_Ignorable_Code_Point` let them pass.
const BLANKS: [char; 5] = [
    '\u{2800}',  // BRAILLE PATTERN BLANK
    '\u{13441}', // EGYPTIAN HIEROGLYPH FULL BLANK
    '\u{13442}', // EGYPTIAN HIEROGLYPH HALF BLANK
    '\u{16FE4}', // KHITAN SMALL SCRIPT FILLER
    '\u{1D159}', // MUSICAL SYMBOL NULL NOTEHEAD
];

/// A valid name, as its member wrote it.
///
/// Law: it has 1 to [`NAME_CHARS_MAX`] characters and at most [`WHO_BYTES_MAX`] bytes, each of them to be seen, none a space
/// or a colon or what looks like one. So in `WHO: TEXT` it ends where WHO ends, and it passes
/// cleaning untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Box<str>);

/// Why something cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No name was given.
    #[error("a name has at least one character")]
    Empty,
    /// The bytes are no UTF-8.
    #[error("a name is written in UTF-8")]
    NotUtf8,
    /// Too many characters, or too many bytes for them.
    #[error(
        "a name has at most {NAME_CHARS_MAX} characters and {WHO_BYTES_MAX} bytes, this one has {chars} and {bytes}"
    )]
    TooLong {
        /// Unicode scalar values that were given.
        chars: usize,
        /// Bytes of UTF-8 that were given.
        bytes: usize,
    },
    /// White space, or a character that looks like it.
    #[error("a name is one word, without spaces")]
    Space,
    /// A colon, or a character that looks like one or has one in it.
    #[error("a name has no colon, nor what looks like one")]
    Colon,
    /// A control or an invisible character, or one that Unicode does not define.
    #[error("a name has only visible characters, not U+{:04X}", u32::from(*character))]
    Forbidden {
        /// The first such character.
        character: char,
    },
    /// The server's own lines begin with hyphens.
    #[error("a name does not begin with a hyphen or dash, nor what looks like one")]
    LeadingHyphen,
    /// A mark that would be drawn onto what stands before the name.
    #[error("a name does not begin with a combining mark")]
    LeadingMark,
    /// Marks piled up: too many in a row, or the same one twice.
    #[error("a name has at most {MARKS_IN_A_ROW_MAX} combining marks in a row, and none twice")]
    Marks,
    /// A word that lines of the server begin with, or what looks like one.
    #[error("this name would look like the server's own words")]
    Reserved,
    /// What looks like an IPv4 address, like a guest or like a local user: so the server calls those who have no name. (IPv6 has
    /// colons.)
    #[error("this name would look like one that the server gives to who has none")]
    Given,
}

impl Name {
    /// A name of these bytes.
    ///
    /// # Errors
    ///
    /// Every variant of [`Error`], in the order in which they are declared; of [`Space`](Error::Space),
    /// [`Colon`](Error::Colon) and [`Forbidden`](Error::Forbidden) what is wrong with the first wrong character.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        let text = str::from_utf8(bytes).map_err(|_| Error::NotUtf8)?;
        let chars = text.chars().count();
        if chars > NAME_CHARS_MAX || bytes.len() > WHO_BYTES_MAX {
            return Err(Error::TooLong { chars, bytes: bytes.len() });
        }
        text.chars().try_for_each(check_character)?;
        text.chars().next().map_or(Ok(()), check_first_character)?;
        check_marks(text)?;
        let name = Self(text.into());
        let keys = name.keys();
        let is_reserved = |word: &str| word_keys(word).iter().any(|key| keys.contains(key));
        if RESERVED.into_iter().any(is_reserved) {
            Err(Error::Reserved)
        } else if keys.iter().any(|key| is_given(key)) {
            Err(Error::Given)
        } else {
            Ok(name)
        }
    }

    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The forms under which names are unique: two names clash if they have one in common.
    ///
    /// There are two, as looking alike and differing in case only do not follow from each other, and no single form can tell
    /// both without making enemies of strangers. `Вob` with a Cyrillic capital looks like `Bob`, which must be seen before
    /// case is folded, since the small `в` looks like no `b`. `ian` is `IAN`, which must be seen after, since `I` looks
    /// like `l`. Were both ways joined, `n` would be `v`: Greek `Ν` looks like `N` and is `ν` when small.
    ///
    /// Both end in the same rule: fold case, take the skeleton of UTS 39, until nothing changes, since a skeleton may
    /// have capitals (`0` is alike `O`). Names that are canonically equivalent have both in common. The forms are not for
    /// showing, and differ from one version of Unicode to the next.
    #[must_use]
    pub fn keys(&self) -> [String; 2] {
        word_keys(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

pub(crate) fn word_keys(word: &str) -> [String; 2] {
    [settled(skeleton(word).collect()), settled(word.to_owned())]
}

/// Folds case and takes the skeleton until nothing changes. No character of Unicode takes more than four rounds.
fn settled(mut key: String) -> String {
    loop {
        let next: String = skeleton(&UniCase::unicode(&key).to_folded_case()).collect();
        if next == key {
            return key;
        }
        key = next;
    }
}

/// Whether a name of this settled form looks like one that the server gives: four numbers parted by dots, or more, as some
/// programs write an address with its port; or a guest's; or a local user's, as [`Origin`](crate::listen::Origin) shows it and
/// perhaps with a number behind it.
fn is_given(key: &str) -> bool {
    // Among them what looks like a digit: `0` is settled as `o`.
    let digits = settled("0123456789".to_owned());
    let is_number = |part: &str| part.chars().all(|digit| digit.is_numeric() || digits.contains(digit));
    let guest = settled(GUEST.to_owned());
    let is_guest = key.strip_prefix(&guest).is_some_and(|number| !number.is_empty() && is_number(number));
    let is_numbered = |part: &str, word: &str| {
        let number = part.strip_prefix(&settled(word.to_owned()));
        number.is_some_and(|number| !number.is_empty() && is_number(number))
    };
    let mut words = key.split('-');
    let is_user = words.next().is_some_and(|word| is_numbered(word, "uid"))
        && words.all(|word| is_number(word) || is_numbered(word, "pid"));
    let parts: Vec<&str> = key.split('.').filter(|part| !part.is_empty()).collect();
    is_guest || is_user || (parts.len() >= 4 && parts.into_iter().all(is_number))
}

fn check_character(character: char) -> Result<(), Error> {
    let is_alike = |other: char| skeleton(character.encode_utf8(&mut [0; 4])).any(|part| part == other);
    if is_invisible(character) && !character.is_whitespace() {
        Err(Error::Forbidden { character })
    } else if character.is_whitespace() || is_alike(' ') {
        Err(Error::Space)
    } else if is_alike(':') {
        Err(Error::Colon)
    } else {
        Ok(())
    }
}

/// Whether the character shows nothing, or nobody can say what it shows.
fn is_invisible(character: char) -> bool {
    use GeneralCategory as Category;

    let is_category_invisible = matches!(
        character.general_category(),
        Category::Control
            | Category::Format
            | Category::Surrogate
            | Category::PrivateUse
            | Category::Unassigned
            | Category::SpaceSeparator
            | Category::LineSeparator
            | Category::ParagraphSeparator
    );
    // A skeleton leaves out just the characters with Default_Ignorable_Code_Point (DerivedCoreProperties.txt of the Unicode
    // Character Database): Hangul fillers, variation selectors, tags, the combining grapheme joiner and more.
    let is_ignorable = skeleton(character.encode_utf8(&mut [0; 4])).next().is_none();
    is_category_invisible || is_ignorable || BLANKS.contains(&character)
}

fn check_first_character(character: char) -> Result<(), Error> {
    // Dashes are refused by category too: by their skeletons `—` and `－` are a Katakana sign.
    let is_dash = character.general_category() == GeneralCategory::DashPunctuation;
    if is_dash || skeleton(character.encode_utf8(&mut [0; 4])).next() == Some('-') {
        return Err(Error::LeadingHyphen);
    }
    if character.general_category_group() == GeneralCategoryGroup::Mark {
        return Err(Error::LeadingMark);
    }
    Ok(())
}

/// UTS 39, section 5.4, over canonically decomposed text, so that it does not matter how an accent was typed. Three vowels
/// of Gurung Khema (U+16121, U+16126, U+16128) fall victim: each is a mark written twice.
fn check_marks(text: &str) -> Result<(), Error> {
    let mut in_a_row = 0;
    let mut before = None;
    for character in text.nfd() {
        let category = character.general_category();
        let is_nonspacing = matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark);
        in_a_row = if is_nonspacing { in_a_row + 1 } else { 0 };
        if in_a_row > MARKS_IN_A_ROW_MAX || (is_nonspacing && before == Some(character)) {
            return Err(Error::Marks);
        }
        before = Some(character);
    }
    Ok(())
}

/// Asserts that the forms of a text are settled, and the same for one that differs as they forgive.
#[cfg(all(any(test, fuzzing), not(loom)))]
pub(crate) fn check_keys(text: &str) {
    let keys = word_keys(text);
    for key in &keys {
        assert_eq!(settled(key.clone()), *key);
    }
    assert_eq!(word_keys(&skeleton(text).collect::<String>())[0], keys[0]);
    assert_eq!(word_keys(&UniCase::unicode(text).to_folded_case())[1], keys[1]);
    assert_eq!(word_keys(&text.nfd().collect::<String>())[0], keys[0]);
    assert_eq!(word_keys(&text.nfc().collect::<String>())[0], keys[0]);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::command::check_name;

    fn refusal(text: &str) -> Option<Error> {
        Name::parse(text.as_bytes()).err()
    }

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn is_clash(a: &str, b: &str) -> bool {
        let keys = name(a).keys();
        name(b).keys().iter().any(|key| keys.contains(key))
    }

    #[test]
    fn every_script_and_emoji_are_welcome() {
        let welcome = [
            "bob",
            "O'Neil",
            "a-b",
            "_",
            "x",
            "/who",
            "...",
            "爱丽丝",
            "山田太郎",
            "はなこ",
            "김철수",
            "Борис",
            "Ελένη",
            "שרה",
            "محمد",
            "आरती",
            "สมชาย",
            "Nguyễn",
            "Zoë",
            "Zoe\u{308}",
            "🦀",
            "🇩🇪",
            "👍🏽",
            "café☕",
            "下线",
            "joined",
            "一一",
            "ー",
            "ɓ́",
            "བཀྲིས",
            "\u{FFFD}",
            "guest",
            "guest-",
            "guest-a",
            "guest-7th",
            "uid",
            "uid-pid",
            "uid7th",
            "uid7-bob",
            "guid-1",
            "7-guest",
            "1.2.3",
            "v1.2.3.4",
            "127.0.0.x",
            "2130706433",
        ];
        for text in welcome {
            assert_eq!(name(text).as_str(), text);
            assert_eq!(name(text).to_string(), text);
        }
    }

    #[test]
    fn each_refusal_names_what_is_wrong() {
        fn check(text: &str, expected: Error) {
            assert_eq!(refusal(text), Some(expected), "{text:?}");
        }
        check("", Error::Empty);
        assert_eq!(Name::parse(b"bob\xFF"), Err(Error::NotUtf8));
        assert_eq!(Name::parse(b"\xED\xA0\x80"), Err(Error::NotUtf8));

        check(&"a".repeat(33), Error::TooLong { chars: 33, bytes: 33 });
        check(&"🦀".repeat(25), Error::TooLong { chars: 25, bytes: 100 });
        assert_eq!(refusal(&"a".repeat(32)), None);
        assert_eq!(refusal(&"名".repeat(32)), None);
        assert_eq!(refusal(&"🦀".repeat(24)), None);

        // The last is one letter that is a whole sentence, with its spaces.
        for space in [" ", "a b", "a ", "\t", "a\nb", "a\u{85}", "\u{A0}", "\u{1680}", "a\u{3000}b", "\u{2028}", "ﷺ"]
        {
            check(space, Error::Space);
        }
        for colon in [":", "a:b", "127.0.0.1:80", "[::1]:80", "a\u{2236}", "a：", "aː", "a︰b", "⩴", "꞉", "a\u{589}"]
        {
            check(colon, Error::Colon);
        }
        for hyphen in ["-", "--bob", "\u{2010}", "–a", "—a", "−a", "－a", "➖", "⸺a"] {
            check(hyphen, Error::LeadingHyphen);
        }
        for mark in ["\u{301}", "\u{301}a", "\u{20DD}x", "\u{93E}x"] {
            check(mark, Error::LeadingMark);
        }
        for marks in ["a\u{300}\u{301}\u{302}\u{303}\u{304}", "a\u{301}\u{301}", "á\u{301}", "z\u{489}\u{489}"] {
            check(marks, Error::Marks);
        }
        for word in ["欢迎", "Welcome", "welcome", "WELCOME", "We\u{217C}come", "Ｗelcome"] {
            check(word, Error::Reserved);
        }
        assert_eq!(refusal("a\u{300}\u{301}\u{302}\u{303}"), None);
    }

    #[test]
    fn nobody_takes_a_name_that_looks_like_one_the_server_gives() {
        // As they are; in capitals; with what looks like a digit, a letter, a dot or a hyphen; in other digits.
        let guests = [
            "guest-7",
            "guest-10",
            "GUEST-7",
            "guest-l0",
            "guest-O",
            "gu\u{435}st-7",
            "guest\u{2010}7",
            "guest-\u{1D7D5}",
        ];
        let addresses = [
            "127.0.0.1",
            "l27.o.O.I",
            "10.0.0.1.5000",
            "127.0.0.1.",
            "255\u{2024}255.255.255",
            "1.2.3.\u{664}",
            "999.999.999.999",
        ];
        let users = [
            "uid0",
            "uid1000-pid4242",
            "UID1000-PID4242",
            "uid1000-pid4242-2",
            "u\u{456}d1000-pid42",
            "uid1000-",
            "uidl",
        ];
        for text in guests.into_iter().chain(addresses).chain(users) {
            assert_eq!(refusal(text), Some(Error::Given), "{text:?}");
        }
    }

    #[test]
    fn no_control_or_invisible_character_is_let_in() {
        // Default_Ignorable_Code_Point, as DerivedCoreProperties.txt has it; and what else shows nothing.
        let ranges = [
            '\u{0}'..='\u{8}',
            '\u{E}'..='\u{1F}',
            '\u{7F}'..='\u{84}',
            '\u{86}'..='\u{9F}',
            '\u{AD}'..='\u{AD}',
            '\u{34F}'..='\u{34F}',
            '\u{61C}'..='\u{61C}',
            '\u{115F}'..='\u{1160}',
            '\u{17B4}'..='\u{17B5}',
            '\u{180B}'..='\u{180F}',
            '\u{200B}'..='\u{200F}',
            '\u{202A}'..='\u{202E}',
            '\u{2060}'..='\u{206F}',
            '\u{2800}'..='\u{2800}',
            '\u{3164}'..='\u{3164}',
            '\u{E000}'..='\u{F8FF}',
            '\u{FE00}'..='\u{FE0F}',
            '\u{FEFF}'..='\u{FEFF}',
            '\u{FFA0}'..='\u{FFA0}',
            '\u{FFF0}'..='\u{FFFB}',
            '\u{13441}'..='\u{13442}',
            '\u{16FE4}'..='\u{16FE4}',
            '\u{1BCA0}'..='\u{1BCA3}',
            '\u{1D159}'..='\u{1D159}',
            '\u{1D173}'..='\u{1D17A}',
            '\u{E0000}'..='\u{E0FFF}',
            '\u{F0000}'..='\u{10FFFF}',
        ];
        for character in ranges.into_iter().flatten() {
            assert_eq!(refusal(&format!("a{character}b")), Some(Error::Forbidden { character }));
        }
    }

    #[test]
    fn no_name_needs_cleaning_or_ends_before_its_colon() {
        for character in '\0'..=char::MAX {
            if check_character(character).is_err() {
                continue;
            }
            let text = character.to_string();
            let mut cleaned = Vec::new();
            crate::line::clean(text.as_bytes(), &mut cleaned);
            assert_eq!(cleaned, text.as_bytes(), "{character:?}");
            assert!(!character.is_whitespace(), "{character:?}");
            assert!(skeleton(&text).all(|part| part != ':' && part != ' '), "{character:?}");
        }
    }

    #[test]
    fn names_that_look_alike_clash() {
        let alike = [
            ("bob", "bob"),
            ("bob", "BOB"),
            ("alice", "аlice"), // Cyrillic а
            ("Bob", "Вob"),     // Cyrillic В, whose small form looks otherwise
            ("bob", "Вob"),
            ("BOB", "ВОВ"), // Cyrillic throughout
            ("bob", "ВОВ"),
            ("Paul", "PauI"), // I for l
            ("paul", "pau1"),
            ("ian", "IAN"),
            ("Вова", "вова"),   // Cyrillic in both cases
            ("ΝΙΚΟΣ", "νικος"), // with a final sigma
            ("νικος", "νικοσ"),
            ("straße", "STRASSE"),
            ("modern", "modem"),   // rn for m
            ("ｂｏｂ", "bob"),     // full width
            ("Zoë", "Zoe\u{308}"), // composed and not
            ("o", "0"),
            ("O", "0"),
        ];
        for (a, b) in alike {
            assert!(is_clash(a, b), "{a} {b}");
            assert!(is_clash(b, a), "{b} {a}");
        }
    }

    #[test]
    fn names_that_differ_do_not_clash() {
        let different =
            [("bob", "rob"), ("ian", "lan"), ("ina", "iva"), ("爱", "受"), ("🦀", "🦞"), ("a", "á"), ("eli", "ell")];
        for (a, b) in different {
            assert!(!is_clash(a, b), "{a} {b}");
        }
    }

    /// Every character, alone: what strings are made of. Catches tables in which folding and skeleton go round in a circle.
    #[test]
    fn keys_settle_for_every_character() {
        for character in '\0'..=char::MAX {
            let text = character.to_string();
            let [alike, folded] = word_keys(&text);
            assert_eq!(settled(alike.clone()), alike);
            assert_eq!(settled(folded.clone()), folded);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_a_name_or_refused(
            bytes: Vec<u8>,
            text: String,
            given in "(guest-|GUEST-|gu.st-|uid|-pid|[0-9]{1,3}\\.?){0,4}[0-9a-zA-Z]{0,3}",
        ) {
            for bytes in [bytes, text.into_bytes(), given.into_bytes()] {
                check_name(&bytes);
            }
        }

        #[test]
        fn keys_are_stable_and_survive_disguise(text in "\\PC{1,12}") {
            check_keys(&text);
        }
    }
}
