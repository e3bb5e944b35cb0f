//! Target `line`: any bytes, however they were cut into reads and whichever of them were kept, give the same lines; and
//! cleaned, nothing that a terminal obeys.
//!
//! The script: the longest line as a size, a digit that is odd if a byte order mark is dropped, then steps, each a read:
//! its fate as a digit, and its bytes. `41|0hello|1\r\na\nb` has lines of at most five bytes.

use crate::line::{Cleaner, Event, Splitter, clean};

use super::{digit, size, steps, terminal};

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What is done with one read's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All lines in it are asked for.
    Next,
    /// One line is asked for, the rest is kept.
    NextThenKeep,
    /// It is kept, nothing is asked for.
    Keep,
    /// It is kept, and then one line is asked for.
    KeepThenNext,
    /// All lines in it are asked for, and the unended one is refused.
    NextThenRefuse,
}

impl Fate {
    pub(crate) fn of(byte: u8) -> Self {
        match digit(byte) % 5 {
            0 => Self::Next,
            1 => Self::NextThenKeep,
            2 => Self::Keep,
            3 => Self::KeepThenNext,
            _ => Self::NextThenRefuse,
        }
    }
}

/// An event with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Line(Vec<u8>),
    TooLong,
}

impl From<Event<'_>> for Told {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Line(text) => Self::Line(text.to_vec()),
            Event::TooLong => Self::TooLong,
        }
    }
}

/// The slow truth: all that a connection has sent, and which of its lines were refused amid their coming.
#[derive(Debug)]
pub(crate) struct Truth {
    all: Vec<u8>,
    /// Where in `all` the refused lines begin.
    refused: Vec<usize>,
    line_bytes_max: usize,
    drop_bom: bool,
    /// Nothing more will be read.
    is_ended: bool,
}

impl Truth {
    pub(crate) fn new(line_bytes_max: usize, drop_bom: bool) -> Self {
        Self { all: Vec::new(), refused: Vec::new(), line_bytes_max, drop_bom, is_ended: false }
    }

    pub(super) fn on_ended(&mut self) {
        self.is_ended = true;
    }

    pub(crate) fn on_read(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
    }

    /// The unended line is refused, if any of it is held.
    pub(crate) fn on_refused(&mut self) {
        if self.held_bytes() > 0 {
            self.refused.push(self.start());
        }
    }

    /// What comes of it: of all whole lines, and at the end of the unended one too.
    pub(crate) fn events(&self, at_end: bool) -> Vec<Told> {
        let whole = if at_end { self.all.len() } else { self.start() };
        let mut start = self.first();
        let mut events = Vec::new();
        while start < whole {
            let rest = &self.all[start..];
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let text = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            if !self.refused.contains(&start) {
                let fits = text.len() <= self.line_bytes_max;
                events.push(if fits { Told::Line(text.to_vec()) } else { Told::TooLong });
            }
            start += end + 1;
        }
        events
    }

    /// Whether some byte of a line has come and its end has not.
    pub(crate) fn is_amid_line(&self) -> bool {
        self.start() < self.all.len()
    }

    /// Whether the unended line will not be said, whatever follows.
    pub(crate) fn is_skipping(&self) -> bool {
        self.is_amid_line() && (self.refused.contains(&self.start()) || self.is_too_long())
    }

    /// Bytes of the unended line that are held once all else was handed out.
    pub(crate) fn held_bytes(&self) -> usize {
        if self.is_skipping() || self.may_become_bom() { 0 } else { self.all.len() - self.start() }
    }

    /// One byte above the limit may be the carriage return of its end.
    fn is_too_long(&self) -> bool {
        let line = &self.all[self.start()..];
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        text.len() > self.line_bytes_max && !self.may_become_bom()
    }

    fn may_become_bom(&self) -> bool {
        self.drop_bom && !self.is_ended && self.all.len() < BOM.len() && BOM.starts_with(&self.all)
    }

    /// Where the first line begins.
    fn first(&self) -> usize {
        if self.drop_bom && self.all.starts_with(BOM) { BOM.len() } else { 0 }
    }

    /// Where the unended line begins.
    fn start(&self) -> usize {
        self.all.iter().rposition(|byte| *byte == b'\n').map_or(self.first(), |end| end + 1)
    }
}

/// Hands the reads to a splitter as they shall be; all that it tells must be as the slow truth has it.
pub(crate) fn check(reads: &[(&[u8], Fate)], line_bytes_max: usize, drop_bom: bool) {
    let mut splitter = Splitter::new(line_bytes_max, drop_bom);
    let mut truth = Truth::new(line_bytes_max, drop_bom);
    let mut told = Vec::new();
    for &(read, fate) in reads {
        truth.on_read(read);
        let mut input = read;
        if fate == Fate::KeepThenNext {
            splitter.keep(std::mem::take(&mut input));
        }
        match fate {
            Fate::Next | Fate::NextThenRefuse => {
                while let Some(event) = ask(&mut splitter, &mut input, &truth) {
                    told.push(event);
                }
            }
            Fate::NextThenKeep | Fate::KeepThenNext => told.extend(ask(&mut splitter, &mut input, &truth)),
            Fate::Keep => {}
        }
        if fate == Fate::NextThenRefuse {
            splitter.refuse();
            truth.on_refused();
            assert_eq!(splitter.is_skipping(), truth.is_skipping());
        }
        splitter.keep(input);
        splitter.check();
        let (memory, held) = (splitter.memory_bytes(), splitter.held_bytes());
        assert!(held > 0 || memory == 0, "what was used is given back");
        assert!(memory <= 2 * held + (held / 4).max(64), "{memory} for {held}");
        assert_eq!(splitter.is_amid_line(), truth.is_amid_line(), "after {read:?}");
    }
    while let Some(event) = ask(&mut splitter, &mut &[][..], &truth) {
        told.push(event);
    }
    told.extend(splitter.finish().map(Told::from));
    assert_eq!(splitter.finish(), None, "the end comes once");
    assert!(!splitter.is_amid_line());
    assert_eq!(splitter.memory_bytes(), 0, "nothing is kept of what has ended");
    assert_eq!(told, truth.events(true));
}

fn ask(splitter: &mut Splitter, input: &mut &[u8], truth: &Truth) -> Option<Told> {
    let event = splitter.next(input).map(Told::from);
    if event.is_none() {
        assert!(input.is_empty(), "all of the input was taken in");
        let (memory, held) = (splitter.memory_bytes(), splitter.held_bytes());
        assert_eq!(held, truth.held_bytes(), "what is held is the unended line");
        assert_eq!(splitter.is_skipping(), truth.is_skipping());
        assert!(held > 0 || memory == 0, "what was used is given back");
        assert!(memory <= held + (held / 8).max(64), "{memory} for {held}");
    }
    splitter.check();
    event
}

/// Bytes are cleaned as the slow truth has it, in whatever reads they come, and a terminal but shows what comes out.
pub(crate) fn check_clean(reads: &[&[u8]]) {
    let text = reads.concat();
    let before = b"before";
    let mut cleaned = before.to_vec();
    clean(&text, &mut cleaned);
    assert!(cleaned.starts_with(before), "what was there stays");
    let cleaned = &cleaned[before.len()..];
    assert_eq!(cleaned, terminal::cleaned(&text).as_bytes());
    assert!(cleaned.len() <= 3 * text.len(), "a byte becomes three at most");
    assert_eq!(terminal::deeds(cleaned), [""; 0]);
    let mut twice = Vec::new();
    clean(cleaned, &mut twice);
    assert_eq!(twice, cleaned, "cleaning the clean changes nothing");

    let mut cleaner = Cleaner::default();
    let mut stream = Vec::new();
    for read in reads {
        cleaner.clean(read, &mut stream);
    }
    cleaner.finish(&mut stream);
    cleaner.finish(&mut stream);
    assert_eq!(stream, terminal::cleaned_lines(&text), "a stream does not depend on its reads");
}

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    let [limit, bom, script @ ..] = input else { return };
    let reads: Vec<(&[u8], Fate)> =
        steps(script).filter_map(|step| step.split_first()).map(|(fate, bytes)| (bytes, Fate::of(*fate))).collect();
    check(&reads, size(*limit), digit(*bom) % 2 == 1);
    let reads: Vec<&[u8]> = reads.iter().map(|(bytes, _)| *bytes).collect();
    check_clean(&reads);
}
