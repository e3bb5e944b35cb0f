//! Bytes to lines with no I/O: splitting, the length limit, cleaning.
//!
//! The one idea: a line that lies whole in what was just read is lent out of it, never copied. Only the unended rest of a
//! read is held, and only until its line feed comes, so an idle connection holds nothing. The number of bytes held, not a
//! flag, says whether a line is under way. Every byte is searched for a line feed once, however small the reads.
//!
//! What a line may show on other people's terminals is the part in [`clean()`] and [`Cleaner`].

use memchr::memchr;
use zeroize::Zeroize;

pub(crate) use clean::{Cleaner, clean};

mod clean;

const LF: u8 = b'\n';
const CR: u8 = b'\r';

/// The UTF-8 byte order mark, which some editors and shells put before everything.
const BOM: [u8; 3] = *b"\xEF\xBB\xBF";

/// What comes out of a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// The text of a line, without its line feed and without one carriage return before it. Empty for an empty line.
    Line(&'a [u8]),
    /// A line was longer than it may be. Told once a line, as soon as it is certain; the line is skipped to its line feed.
    TooLong,
}

/// Cuts one connection's bytes into lines.
///
/// Law: the events depend on the bytes alone, not on how they were cut into reads nor on which of them were
/// [kept](Splitter::keep). While an unended line is skipped nothing of it is held.
///
/// Memory: what [`held_bytes`](Splitter::held_bytes) says and an eighth more (at least 64 bytes); while kept lines are
/// being handed out, up to twice that. When everything held was used, the next call gives all of it back.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// Bytes waiting: perhaps whole lines that were kept, then perhaps an unended one.
    held: Vec<u8>,
    /// How many bytes at the front of `held` were handed out already.
    used: usize,
    /// How far `held` was searched: no line feed lies in `used..searched`.
    searched: usize,
    line_bytes_max: usize,
    /// How many bytes of a byte order mark have come, and nothing else; `None` once that question is settled.
    bom: Option<u8>,
    /// An unended line was refused: all up to the next line feed is dropped. Then `used == held.len()`.
    is_skipping: bool,
    /// What is held is for nobody else: it is wiped before its memory is given back.
    is_secret: bool,
}

impl Splitter {
    /// A splitter for a connection of which nothing was read yet, for lines of at most `line_bytes_max` bytes of text.
    /// With `drop_bom` a byte order mark before everything else is dropped and counts nowhere.
    #[must_use]
    pub(crate) fn new(line_bytes_max: usize, drop_bom: bool) -> Self {
        let bom = drop_bom.then_some(0);
        Self { held: Vec::new(), used: 0, searched: 0, line_bytes_max, bom, is_skipping: false, is_secret: false }
    }

    /// From now on what is held is wiped before its memory is given back, or, of what was not used by now, no more.
    pub(crate) fn set_secret(&mut self, is_secret: bool) {
        self.drop_used();
        self.is_secret = is_secret;
    }

    /// The next event out of what is held and then of `input`, which is advanced past what was used.
    ///
    /// `None`: all of `input` was taken in, and the rest of an unended line is held.
    ///
    /// The input may outlive the event (`'input`), so that one `input` serves many calls.
    pub(crate) fn next<'a, 'input: 'a>(&'a mut self, input: &mut &'input [u8]) -> Option<Event<'a>> {
        self.give_back();
        self.settle_bom(input);
        self.skip(input);
        if let Some(end) = self.end_in_held() {
            let start = self.used;
            self.used = end + 1;
            self.searched = self.used;
            return Some(self.event(&self.held[start..end]));
        }
        let all = *input;
        let end = memchr(LF, all);
        let (taken, rest) = all.split_at(end.map_or(all.len(), |end| end + 1));
        *input = rest;
        let held_bytes = self.held_bytes();
        match end {
            Some(end) if held_bytes == 0 => Some(self.event(&all[..end])),
            // Also with the carriage return that it might end in it's too long: it need not be copied to say so.
            Some(end) if held_bytes + end > self.line_bytes_max + 1 => {
                self.drop_held();
                Some(Event::TooLong)
            }
            Some(_) => {
                self.hold(taken);
                let start = self.used;
                self.used = self.held.len();
                self.searched = self.used;
                Some(self.event(&self.held[start..self.used - 1]))
            }
            None if self.is_too_long_unended(taken) => {
                self.drop_held();
                self.is_skipping = true;
                Some(Event::TooLong)
            }
            None => {
                self.hold(taken);
                self.searched = self.held.len();
                // Nothing but an unended line is left. It is moved to the front this once, however long it grows.
                self.drop_used();
                None
            }
        }
    }

    /// Holds `input`, which may be several lines, for later calls of [`next`](Splitter::next): for lines that must wait.
    /// What belongs to a line being skipped is dropped at once.
    pub(crate) fn keep(&mut self, mut input: &[u8]) {
        self.give_back();
        self.settle_bom(&mut input);
        self.skip(&mut input);
        self.hold(input);
    }

    /// At the clean end of input: the last line, if bytes of it have come without a line feed. One carriage return at its
    /// end is removed as for every line (the seed, by Go's `bufio.ScanLines`, does the same).
    ///
    /// To be called once `next` returned `None`. A line that is being skipped was told about before and gives `None`.
    pub(crate) fn finish(&mut self) -> Option<Event<'_>> {
        self.give_back();
        self.give_up_bom();
        self.is_skipping = false;
        let start = self.used;
        self.used = self.held.len();
        self.searched = self.used;
        (start < self.used).then(|| self.event(&self.held[start..]))
    }

    /// What the first whole line that is held will be; `at_end` of the input, the unended one if there is no other. `None`
    /// when no line will come of what is held.
    pub(crate) fn first_held(&mut self, at_end: bool) -> Option<Event<'_>> {
        if at_end {
            self.give_up_bom();
        }
        let end = self.end_in_held().or_else(|| (at_end && self.held_bytes() > 0).then_some(self.held.len()))?;
        Some(self.event(&self.held[self.used..end]))
    }

    /// Refuses the unended line that is held, because memory for it is spent: it is skipped to its line feed and no event
    /// tells of it, so the caller must. Nothing happens when none is held.
    ///
    /// To be called once `next` returned `None`: then no whole line is held that would be lost.
    pub(crate) fn refuse(&mut self) {
        debug_assert!(self.searched == self.held.len(), "lines are held that nobody has asked for");
        if self.held_bytes() > 0 {
            self.drop_held();
            self.is_skipping = true;
        }
    }

    /// Bytes held: of an unended line, or of lines kept and not handed out yet.
    #[must_use]
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len() - self.used
    }

    /// Memory that what is held takes, what was handed out and not given back included.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Whether an unended line was refused, and is dropped as it comes.
    pub(crate) fn is_skipping(&self) -> bool {
        self.is_skipping
    }

    /// Whether some byte of a line has come and its line feed has not, also while it is skipped.
    #[must_use]
    pub(crate) fn is_amid_line(&self) -> bool {
        self.is_skipping
            || self.bom.is_some_and(|come| come > 0)
            || self.held[self.used..].last().is_some_and(|&b| b != LF)
    }

    /// Whether a byte order mark that comes next, or goes on, is dropped.
    pub(crate) fn awaits_bom(&self) -> bool {
        self.bom.is_some()
    }

    /// A line's text without its line feed as an event: one carriage return goes, and then the limit is judged.
    fn event<'a>(&self, text: &'a [u8]) -> Event<'a> {
        let text = text.strip_suffix(&[CR]).unwrap_or(text);
        if text.len() > self.line_bytes_max { Event::TooLong } else { Event::Line(text) }
    }

    /// Whether the unended line that is held and goes on with `more` is too long whatever follows. One byte above the limit
    /// may still be the carriage return of a line end.
    fn is_too_long_unended(&self, more: &[u8]) -> bool {
        let bytes = self.held_bytes() + more.len();
        let last = more.last().or(self.held.last());
        bytes > self.line_bytes_max + 1 || (bytes > self.line_bytes_max && last != Some(&CR))
    }

    /// Where in `held` the next line feed is.
    fn end_in_held(&mut self) -> Option<usize> {
        let found = memchr(LF, &self.held[self.searched..]);
        let end = found.map(|at| self.searched + at);
        self.searched = end.unwrap_or(self.held.len());
        end
    }

    /// Drops the part of `input` that belongs to a line being skipped.
    fn skip(&mut self, input: &mut &[u8]) {
        if self.is_skipping {
            let end = memchr(LF, input);
            self.is_skipping = end.is_none();
            *input = &input[end.map_or(input.len(), |end| end + 1)..];
        }
    }

    /// Takes a byte order mark from the front of the connection. Its bytes are counted, not held; when it turns out to be
    /// none, they are put where they belong.
    fn settle_bom(&mut self, input: &mut &[u8]) {
        while let Some(come) = self.bom
            && let Some((&first, rest)) = input.split_first()
        {
            if first == BOM[usize::from(come)] {
                *input = rest;
                self.bom = (usize::from(come) + 1 < BOM.len()).then_some(come + 1);
            } else {
                self.give_up_bom();
            }
        }
    }

    /// What came of a byte order mark is text: no more of it follows.
    fn give_up_bom(&mut self) {
        if let Some(come) = self.bom.take() {
            self.hold(&BOM[..usize::from(come)]);
        }
    }

    /// Appends to what is held. Grows by an eighth: that many bytes are the most that a patient sender of partial lines can
    /// make us pay beyond what is accounted for, and still each byte is copied only some ten times at worst.
    fn hold(&mut self, bytes: &[u8]) {
        let needed = self.held.len() + bytes.len();
        if needed > self.held.capacity() {
            let slack = (needed / 8).max(64);
            self.make_way(bytes.len() + slack);
        }
        self.held.extend_from_slice(bytes);
    }

    /// Makes room for exactly so many more bytes, and leaves nothing behind that is secret.
    fn make_way(&mut self, bytes: usize) {
        if !self.is_secret {
            self.held.reserve_exact(bytes);
            return;
        }
        let mut held = Vec::with_capacity(self.held.len() + bytes);
        held.extend_from_slice(&self.held);
        self.replace_held(held);
    }

    fn drop_held(&mut self) {
        self.replace_held(Vec::new());
        self.used = 0;
        self.searched = 0;
    }

    /// Holds `held` in place of what was held, which is wiped if it is secret, and gives its memory back.
    fn replace_held(&mut self, held: Vec<u8>) {
        let mut old = std::mem::replace(&mut self.held, held);
        if self.is_secret {
            old.zeroize();
        }
    }

    /// Gives back the memory of what was used, once that is half of what there is: less often would hoard, more often would
    /// move the same bytes again and again.
    fn give_back(&mut self) {
        if self.used >= self.held.len() / 2 {
            self.drop_used();
        }
    }

    fn drop_used(&mut self) {
        if self.used > 0 {
            if self.is_secret {
                self.replace_held(self.held[self.used..].to_vec());
            } else {
                self.held.drain(..self.used);
                self.held.shrink_to_fit();
            }
            self.searched -= self.used;
            self.used = 0;
        }
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        self.replace_held(Vec::new());
    }
}

#[cfg(all(any(test, fuzzing), not(loom)))]
impl Splitter {
    /// Asserts what holds after every call.
    pub(crate) fn check(&self) {
        assert!(self.used <= self.searched);
        assert!(self.searched <= self.held.len());
        assert!(!self.held[self.used..self.searched].contains(&LF));
        assert!(!self.is_skipping || self.held_bytes() == 0);
        assert!(self.bom.is_none() || self.held.is_empty());
        assert!(self.held.capacity() <= self.held.len() + (self.held.len() / 8).max(64));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::line::{Fate, Told, Truth, check};

    fn line(text: &str) -> Told {
        Told::Line(text.into())
    }

    /// What the slow truth has of it. Longest line: 4 bytes.
    fn truth(input: &[u8], drop_bom: bool) -> Vec<Told> {
        let mut truth = Truth::new(4, drop_bom);
        truth.on_read(input);
        truth.events(true)
    }

    /// `input` cut at every two places gives `expected`, with and without keeping. Longest line: 4 bytes.
    fn check_all_cuts(input: &[u8], expected: &[Told]) {
        assert_eq!(truth(input, true), expected, "{input:?}");
        for one in 0..=input.len() {
            for two in one..=input.len() {
                for fate in [Fate::Next, Fate::NextThenKeep, Fate::Keep, Fate::KeepThenNext] {
                    check(&[&input[..one], &input[one..two], &input[two..]].map(|read| (read, fate)), 4, true);
                }
            }
        }
    }

    #[test]
    fn lines_end_with_lf_and_lose_one_cr() {
        check_all_cuts(b"", &[]);
        check_all_cuts(b"ab\ncd\n", &[line("ab"), line("cd")]);
        check_all_cuts(b"ab\r\ncd\r\r\n", &[line("ab"), line("cd\r")]);
        check_all_cuts(b"\n\r\n\n", &[line(""), line(""), line("")]);
        check_all_cuts(b"a\rb\n", &[line("a\rb")]);
    }

    #[test]
    fn last_line_counts_without_its_end() {
        check_all_cuts(b"ab\ncd", &[line("ab"), line("cd")]);
        check_all_cuts(b"ab\ncd\r", &[line("ab"), line("cd")]);
        check_all_cuts(b"ab\n\r", &[line("ab"), line("")]);
    }

    #[test]
    fn limit_counts_text_and_not_its_end() {
        check_all_cuts(b"abcd\n", &[line("abcd")]);
        check_all_cuts(b"abcd\r\n", &[line("abcd")]);
        check_all_cuts(b"abcd\r", &[line("abcd")]);
        check_all_cuts(b"abc\r\r\n", &[line("abc\r")]);
        check_all_cuts(b"abcde\nf\n", &[Told::TooLong, line("f")]);
        check_all_cuts(b"abcde\r\nf\n", &[Told::TooLong, line("f")]);
        check_all_cuts(b"abcd\r\r\nf\n", &[Told::TooLong, line("f")]);
        check_all_cuts(b"abcd\re\nf\n", &[Told::TooLong, line("f")]);
        check_all_cuts(b"abcde", &[Told::TooLong]);
        check_all_cuts(b"abcdefghijkl", &[Told::TooLong]);
        check_all_cuts(b"abcdefghijkl\n\n", &[Told::TooLong, line("")]);
        check_all_cuts(b"abcdef\nghijkl\nm", &[Told::TooLong, Told::TooLong, line("m")]);
    }

    #[test]
    fn byte_order_mark_is_dropped_only_in_front_of_everything() {
        check_all_cuts(b"\xEF\xBB\xBFabcd\n", &[line("abcd")]);
        check_all_cuts(b"\xEF\xBB\xBF", &[]);
        check_all_cuts(b"\xEF\xBB\xBF\n", &[line("")]);
        check_all_cuts(b"\xEF\xBB\xBF\xEF\xBB\xBF\n", &[line("\u{FEFF}")]);
        check_all_cuts(b"a\n\xEF\xBB\xBF\n", &[line("a"), line("\u{FEFF}")]);
        check_all_cuts(b"\xEF\xBB\n", &[Told::Line(b"\xEF\xBB".to_vec())]);
        check_all_cuts(b"\xEF\xBB", &[Told::Line(b"\xEF\xBB".to_vec())]);
        check_all_cuts(b"\xEF\xEF\xBB\xBF\n", &[Told::Line(b"\xEF\xEF\xBB\xBF".to_vec())]);
        check_all_cuts(b"\xEF\xBBabc", &[Told::TooLong]);
        let raw = b"\xEF\xBB\xBF\n";
        assert_eq!(truth(raw, false), [line("\u{FEFF}")]);
        check(&[(raw, Fate::Next)], 4, false);
    }

    #[test]
    fn too_long_is_told_as_soon_as_it_is_certain() {
        let mut splitter = Splitter::new(4, true);
        assert_eq!(splitter.next(&mut &b"abcd"[..]), None);
        assert_eq!(splitter.next(&mut &b"\r"[..]), None);
        assert_eq!(splitter.next(&mut &b"e"[..]), Some(Event::TooLong));
        assert!(splitter.is_amid_line());
        assert_eq!(splitter.held_bytes(), 0);
        assert_eq!(splitter.next(&mut &b"fghij"[..]), None);
        let mut input = &b"k\nl\n"[..];
        assert_eq!(splitter.next(&mut input), Some(Event::Line(b"l")));
        assert!(!splitter.is_amid_line());
    }

    #[test]
    fn line_whole_in_the_input_is_lent_and_nothing_held() {
        let read = b"ab\ncd\n".to_vec();
        let mut splitter = Splitter::new(4, true);
        let mut input = &read[..];
        let Some(Event::Line(text)) = splitter.next(&mut input) else { panic!("no line") };
        assert!(std::ptr::eq(text, &raw const read[..2]));
        assert_eq!(splitter.held.capacity(), 0);
    }

    /// What a patient sender of a partial line costs, and how seldom its bytes are moved.
    #[test]
    fn memory_grows_by_an_eighth() {
        let mut splitter = Splitter::new(10_000, true);
        for (bytes, memory_bytes) in [(100, 164), (64, 164), (7_836, 9_000), (1_000, 9_000)] {
            assert_eq!(splitter.next(&mut &vec![b'x'; bytes][..]), None);
            assert_eq!(splitter.memory_bytes(), memory_bytes);
        }
        assert_eq!(splitter.next(&mut &vec![b'x'; 1_001][..]), Some(Event::TooLong));
        assert_eq!(splitter.memory_bytes(), 0);
    }

    #[test]
    fn end_of_a_line_that_is_too_long_is_not_copied() {
        let mut splitter = Splitter::new(4, true);
        assert_eq!(splitter.next(&mut &b"123"[..]), None);
        assert_eq!(splitter.next(&mut &b"456\n"[..]), Some(Event::TooLong));
        assert_eq!(splitter.memory_bytes(), 0);
    }

    #[test]
    fn lines_that_are_held_are_moved_once_half_of_them_are_used() {
        let mut splitter = Splitter::new(4, true);
        splitter.keep(b"1\n2\n3\n4\n5\n");
        for used in [2, 4, 6, 2, 2] {
            assert!(splitter.next(&mut &b""[..]).is_some());
            assert_eq!(splitter.used, used);
        }
    }

    #[test]
    fn memory_of_a_long_line_is_given_back_by_the_next_call() {
        let mut splitter = Splitter::new(65_536, true);
        let half = vec![b'x'; 40_000];
        assert_eq!(splitter.next(&mut &half[..]), None);
        assert_eq!(splitter.held_bytes(), 40_000);
        assert!(matches!(splitter.next(&mut &b"x\n"[..]), Some(Event::Line(text)) if text.len() == 40_001));
        assert_eq!(splitter.held_bytes(), 0);
        assert_eq!(splitter.next(&mut &[][..]), None);
        assert_eq!(splitter.held.capacity(), 0);
    }

    #[test]
    fn refused_line_is_skipped_to_its_end_and_not_told() {
        let mut splitter = Splitter::new(100, true);
        assert_eq!(splitter.next(&mut &b"abc"[..]), None);
        splitter.refuse();
        assert_eq!(splitter.held_bytes(), 0);
        assert!(splitter.is_amid_line());
        let mut input = &b"def\nghi\n"[..];
        assert_eq!(splitter.next(&mut input), Some(Event::Line(b"ghi")));
        assert_eq!(splitter.next(&mut input), None);
        splitter.refuse();
        assert!(!splitter.is_amid_line(), "with nothing held there is nothing to refuse");
        assert_eq!(splitter.next(&mut &b"jkl"[..]), None);
        splitter.refuse();
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn amid_a_line_from_its_first_byte_to_its_end() {
        let mut splitter = Splitter::new(4, true);
        for (bytes, is_amid) in [(&b"\xEF"[..], true), (b"\xBB", true), (b"\xBF", false), (b"a", true), (b"\r", true)] {
            assert_eq!(splitter.next(&mut &bytes[..]), None);
            assert_eq!(splitter.is_amid_line(), is_amid, "{bytes:?}");
        }
        splitter.keep(b"\nb\n");
        assert!(!splitter.is_amid_line());
        splitter.keep(b"c");
        assert!(splitter.is_amid_line());
    }

    #[test]
    fn idle_splitter_is_small() {
        assert!(size_of::<Splitter>() <= 64);
    }

    /// Few bytes, those that matter; now and then a run, so that lengths about the limit occur.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"\n".to_vec()),
            3 => Just(b"\r".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            2 => Just(BOM.to_vec()),
            1 => Just(b"\xEF".to_vec()),
            4 => (0..12_usize).prop_map(|bytes| vec![b'x'; bytes]),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    fn fate() -> impl Strategy<Value = Fate> {
        use Fate::{Keep, KeepThenNext, Next, NextThenKeep, NextThenRefuse};

        prop_oneof![Just(Next), Just(NextThenKeep), Just(Keep), Just(KeepThenNext), Just(NextThenRefuse)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn events_do_not_depend_on_reads_and_keeping(
            all in stream(),
            cuts in prop::collection::vec((1..16_usize, fate()), 1..32),
            line_bytes_max in 1..14_usize,
            drop_bom: bool,
        ) {
            let mut reads = Vec::new();
            let mut rest = &all[..];
            for &(bytes, fate) in cuts.iter().cycle() {
                let (read, after) = rest.split_at(bytes.min(rest.len()));
                reads.push((read, fate));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            check(&reads, line_bytes_max, drop_bom);
        }
    }
}
