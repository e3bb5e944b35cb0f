//! The room's lines as bytes in one order.
//!
//! The log is a run of *segments*; the last one is *open* and grows. Whatever is appended first gathers in the open
//! segment's `fresh` bytes; publishing freezes them, without a copy, into a shared *piece*, and readers take shares of
//! pieces, never bytes. When a segment is full it is sealed: its pieces become one, so that a reader far behind gets
//! 64 KiB by one slice however small the lines were.
//!
//! Nothing here searches the readers. Each segment counts the readers whose next byte lies in it, so the oldest segment
//! goes the moment its count is zero, and "who holds up the room" is a question about one segment. A line never spans two
//! pieces, so it never spans two segments.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::num::NonZeroU64;
use std::ops::Deref;

use arrayvec::ArrayVec;

use crate::limits::WRITE_PIECES_MAX;
use crate::sync::Arc;

/// A place in the sequence: the number of bytes said before it, and one more, so that no place takes no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

impl Default for Position {
    fn default() -> Self {
        Self(NonZeroU64::MIN)
    }
}

impl Position {
    pub(crate) fn plus(self, bytes: usize) -> Self {
        Self(self.0.checked_add(bytes as u64).expect("nobody says 2^64 bytes"))
    }

    /// Bytes from `earlier` to here.
    ///
    /// # Panics
    ///
    /// When `earlier` is later.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.get().checked_sub(earlier.0.get()).expect("positions are asked for in order")
    }

    fn offset_in(self, start: Self) -> usize {
        usize::try_from(self.bytes_since(start)).expect("what is kept fits in memory")
    }
}

/// A piece of at most so many bytes is joined with what is published behind it once that is half as long: so small sayings
/// cost neither a header each nor, for who gets several, a slice each. Each byte is copied some twenty times at most (a joined
/// piece is longer by half), and those of larger runs never.
const JOINED_BYTES_MAX: usize = 4096;

/// One run of whole lines, shared by the log and everyone who is just writing it.
#[derive(Debug)]
struct Piece {
    start: Position,
    bytes: Arc<Vec<u8>>,
}

#[derive(Debug)]
struct Segment {
    start: Position,
    /// Readers whose next byte lies in here.
    readers: usize,
    /// Lines in here; counted when it is sealed.
    lines: u64,
    /// Frozen bytes, contiguous from `start`. One piece once sealed.
    pieces: Vec<Piece>,
    /// Bytes behind the pieces, not yet to be seen by anyone.
    fresh: Vec<u8>,
}

impl Segment {
    fn open_at(start: Position) -> Self {
        Self { start, readers: 0, lines: 0, pieces: Vec::new(), fresh: Vec::new() }
    }

    fn frozen_end(&self) -> Position {
        self.pieces.last().map_or(self.start, |piece| piece.start.plus(piece.bytes.len()))
    }

    /// Makes a piece of what is fresh. Each small piece is more than twice as long then as the next, so there are few.
    fn freeze(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let start = self.frozen_end();
        let mut bytes = std::mem::take(&mut self.fresh);
        if bytes.capacity() - bytes.len() > bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        let mut joined_bytes = bytes.len();
        let mut first = self.pieces.len();
        self.pieces.push(Piece { start, bytes: Arc::new(bytes) });
        while let Some(before) = first.checked_sub(1).map(|index| self.pieces[index].bytes.len())
            && before <= JOINED_BYTES_MAX.min(2 * joined_bytes)
        {
            first -= 1;
            joined_bytes += before;
        }
        self.join(first);
    }

    /// Makes one piece of all from the piece `first` on.
    fn join(&mut self, first: usize) {
        if self.pieces.len() > first + 1 {
            let start = self.pieces[first].start;
            let mut joined = Vec::with_capacity(self.frozen_end().offset_in(start));
            for piece in self.pieces.drain(first..) {
                joined.extend_from_slice(&piece.bytes);
            }
            self.pieces.push(Piece { start, bytes: Arc::new(joined) });
        }
    }

    fn seal(&mut self) {
        self.freeze();
        self.join(0);
        self.pieces.shrink_to_fit();
        self.lines = self.pieces.iter().map(|piece| count_lines(&piece.bytes)).sum();
    }

    /// The piece with the byte at `at`, and the byte's offset in it.
    fn piece_at(&self, at: Position) -> Option<(usize, usize)> {
        let index = self.pieces.partition_point(|piece| piece.start <= at).checked_sub(1)?;
        let offset = at.offset_in(self.pieces[index].start);
        (offset < self.pieces[index].bytes.len()).then_some((index, offset))
    }

    /// Lines that end within the frozen bytes of `[from, to)`.
    fn lines_between(&self, from: Position, to: Position) -> u64 {
        let mut lines = 0;
        for piece in &self.pieces {
            let end = piece.start.plus(piece.bytes.len());
            if end > from && piece.start < to {
                let first = from.max(piece.start).offset_in(piece.start);
                let last = to.min(end).offset_in(piece.start);
                lines += count_lines(&piece.bytes[first..last]);
            }
        }
        lines
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// The sequence, as far as somebody still needs it.
///
/// Invariants: tail <= published <= head; every reader's cursor lies in `[tail, head]`; the readers at `head` are counted
/// in `readers_at_head`, each other one in the segment of its next byte; the oldest segment has a reader, or is the open
/// one; the log holds nothing when nobody is behind.
#[derive(Debug)]
pub(crate) struct Log {
    /// Oldest first; the last is open; never empty.
    segments: VecDeque<Segment>,
    head: Position,
    /// Readers see up to here.
    published: Position,
    readers_at_head: usize,
    segment_bytes: usize,
}

impl Log {
    pub(crate) fn new(segment_bytes: usize) -> Self {
        assert!(segment_bytes > 0);
        Self {
            segments: VecDeque::from([Segment::open_at(Position::default())]),
            head: Position::default(),
            published: Position::default(),
            readers_at_head: 0,
            segment_bytes,
        }
    }

    pub(crate) fn head(&self) -> Position {
        self.head
    }

    pub(crate) fn published(&self) -> Position {
        self.published
    }

    pub(crate) fn tail(&self) -> Position {
        self.oldest().start
    }

    /// Where the oldest segment ends. A reader before this position is the reason why the backlog does not shrink.
    pub(crate) fn oldest_end(&self) -> Position {
        self.segments.get(1).map_or(self.head, |second| second.start)
    }

    /// Bytes held behind the oldest segment. The room is full by this measure, so that a segment's grain takes nothing
    /// from what law 6 (a) promises; law 7 counts the segment.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.head.offset_in(self.oldest_end())
    }

    /// Bytes held in all.
    pub(crate) fn held_bytes(&self) -> usize {
        self.head.offset_in(self.tail())
    }

    fn oldest(&self) -> &Segment {
        self.segments.front().expect("there is always an open segment")
    }

    fn open(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("there is always an open segment")
    }

    fn segment_index(&self, at: Position) -> usize {
        self.segments.partition_point(|segment| segment.start <= at) - 1
    }

    fn readers_at(&mut self, at: Position) -> &mut usize {
        if at == self.head {
            &mut self.readers_at_head
        } else {
            let index = self.segment_index(at);
            &mut self.segments[index].readers
        }
    }

    /// Appends whole lines; nobody sees them before they are published.
    pub(crate) fn append(&mut self, lines: &[u8]) {
        assert_eq!(lines.last(), Some(&b'\n'), "only whole lines enter the sequence");
        if self.head.offset_in(self.open().start) >= self.segment_bytes {
            let head = self.head;
            self.open().seal();
            self.segments.push_back(Segment::open_at(head));
        }
        let readers = std::mem::take(&mut self.readers_at_head);
        self.head = self.head.plus(lines.len());
        let open = self.open();
        open.readers += readers;
        open.fresh.extend_from_slice(lines);
        self.trim();
    }

    /// Lets readers see everything appended so far.
    pub(crate) fn publish(&mut self) {
        self.open().freeze();
        self.published = self.head;
    }

    /// A reader comes; its cursor is the head.
    pub(crate) fn enter(&mut self) -> Position {
        self.readers_at_head += 1;
        self.head
    }

    /// The reader at `cursor` goes.
    pub(crate) fn leave(&mut self, cursor: Position) {
        *self.readers_at(cursor) -= 1;
        self.trim();
    }

    /// The reader at `from` goes on to `to`.
    pub(crate) fn advance(&mut self, from: Position, to: Position) {
        assert!(from <= to, "a reader never goes back");
        assert!(to <= self.head, "a reader never passes the head");
        if from != to {
            *self.readers_at(to) += 1;
            self.leave(from);
        }
    }

    /// Drops what every reader has passed.
    fn trim(&mut self) {
        while self.segments.len() > 1 && self.oldest().readers == 0 {
            self.segments.pop_front();
        }
        // What everyone has passed unseen, because they entered behind it, counts as published.
        self.published = self.published.max(self.tail());
        if self.segments.len() == 1 && self.oldest().readers == 0 {
            let head = self.head;
            let open = self.open();
            open.pieces.clear();
            open.fresh = Vec::new();
            open.start = head;
            self.published = head;
        }
    }

    /// Fills `batch` with shares of what is published in `[from, until)`, as much as it has slices for.
    pub(crate) fn read(&self, from: Position, until: Position, batch: &mut Batch) {
        let until = until.min(self.published);
        batch.clear();
        if from >= until {
            return;
        }
        let first = self.segment_index(from);
        for segment in self.segments.range(first..) {
            let start = segment.piece_at(from).map_or(0, |(index, _)| index);
            for piece in &segment.pieces[start..] {
                if piece.start >= until || batch.shares.is_full() {
                    return;
                }
                let start = from.max(piece.start).offset_in(piece.start);
                let end = until.min(piece.start.plus(piece.bytes.len())).offset_in(piece.start);
                batch.shares.push(Share { bytes: Arc::clone(&piece.bytes), start, end });
            }
        }
    }

    /// What is left of the line in whose middle `at` lies; empty when a line begins there.
    pub(crate) fn rest_of_line(&self, at: Position) -> &[u8] {
        let segment = &self.segments[self.segment_index(at)];
        let Some((index, offset)) = segment.piece_at(at) else { return &[] };
        let bytes = &segment.pieces[index].bytes;
        if offset == 0 || bytes[offset - 1] == b'\n' {
            return &[];
        }
        let end = memchr::memchr(b'\n', &bytes[offset..]).expect("a piece ends with a line");
        &bytes[offset..=offset + end]
    }

    /// Lines that end in `[from, to)`; publishes first, as only frozen bytes are counted.
    ///
    /// Takes time in the number of segments and the bytes of two of them, not in the bytes between.
    pub(crate) fn lines_between(&mut self, from: Position, to: Position) -> u64 {
        self.publish();
        if from >= to {
            return 0;
        }
        let first = self.segment_index(from);
        let mut lines = 0;
        for (index, segment) in self.segments.iter().enumerate().skip(first) {
            if segment.start >= to {
                break;
            }
            let sealed_end = self.segments.get(index + 1).map(|next| next.start);
            lines += match sealed_end {
                Some(end) if from <= segment.start && end <= to => segment.lines,
                _ => segment.lines_between(from, to),
            };
        }
        lines
    }

    /// Asserts the invariants that do not need the readers.
    pub(crate) fn check(&self) {
        assert!(self.tail() <= self.published, "the tail is published");
        assert!(self.published <= self.head, "only what was said is published");
        assert!(self.segments.len() == 1 || self.oldest().readers > 0, "somebody needs the oldest segment");
    }
}

#[derive(Debug)]
struct Share {
    bytes: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

/// Shares of the log that one write carries: no bytes are copied, and while it lives its pieces do.
///
/// Keep it only as long as a write takes: what a stalled reader pins should be a number.
#[derive(Debug, Default)]
pub struct Batch {
    shares: ArrayVec<Share, WRITE_PIECES_MAX>,
    /// How many of them are written.
    written: usize,
}

impl Batch {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.shares.clear();
        self.written = 0;
    }

    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.written == self.shares.len()
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.shares[self.written..].iter().map(|share| &share.bytes[share.start..share.end])
    }

    /// Bytes left to write.
    pub fn bytes(&self) -> usize {
        self.slices().map(<[u8]>::len).sum()
    }

    /// All that is left, for one vectored write.
    pub fn io_slices(&self) -> impl Deref<Target = [IoSlice<'_>]> {
        self.slices().map(IoSlice::new).collect::<ArrayVec<_, WRITE_PIECES_MAX>>()
    }

    /// The first line of it, or what is left of that line, with its line feed. Empty when nothing is left to write.
    ///
    /// # Panics
    ///
    /// Never: a batch ends with a line.
    pub fn first_line(&self) -> &[u8] {
        let Some(bytes) = self.slices().next() else { return &[] };
        let end = memchr::memchr(b'\n', bytes).expect("a piece ends with a line");
        &bytes[..=end]
    }

    /// Passes `bytes` that were written; says whether they end with a line.
    ///
    /// # Panics
    ///
    /// When `bytes` is zero or more than is left.
    pub fn advance(&mut self, mut bytes: usize) -> bool {
        assert!(bytes > 0, "an advance has bytes");
        loop {
            let share = &mut self.shares[self.written];
            let left = share.end - share.start;
            share.start += bytes.min(left);
            let is_whole = share.bytes[share.start - 1] == b'\n';
            if bytes < left {
                return is_whole;
            }
            bytes -= left;
            self.written += 1;
            if bytes == 0 {
                return is_whole;
            }
        }
    }
}

#[cfg(all(any(test, fuzzing), not(loom)))]
impl Log {
    /// Asserts that no more pieces are kept than may be.
    pub(crate) fn check_pieces(&self) {
        let open = self.segments.len() - 1;
        assert!(self.segments.range(..open).all(|sealed| sealed.pieces.len() == 1));
        let lengths: Vec<usize> = self.segments[open].pieces.iter().map(|piece| piece.bytes.len()).collect();
        for pair in lengths.windows(2) {
            assert!(pair[0] > JOINED_BYTES_MAX.min(2 * pair[1]), "{lengths:?}");
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(bytes: usize) -> Position {
        Position::default().plus(bytes)
    }
    use crate::fuzzing::log::{Op, check};

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => proptest::collection::vec(1..40usize, 1..8).prop_map(Op::Append),
            3 => Just(Op::Publish),
            1 => Just(Op::Enter),
            6 => (0..8usize, 1..200usize).prop_map(|(reader, bytes)| Op::Read(reader, bytes)),
            2 => (0..8usize, 1..4usize).prop_map(|(reader, lines)| Op::ReadUntil(reader, lines)),
            1 => (0..8usize, 0..16usize).prop_map(|(reader, lines)| Op::Skip(reader, lines)),
            1 => (0..8usize).prop_map(Op::Leave),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn log_is_the_list_of_all_bytes(
            segment_bytes in prop_oneof![Just(1usize), 2..64usize, 64..2000usize],
            ops in proptest::collection::vec(op(), 1..300),
        ) {
            check(segment_bytes, &ops);
        }
    }

    #[test]
    fn batch_is_filled_anew() {
        let mut log = Log::new(1 << 20);
        let from = log.enter();
        let line = [&[b'x'; JOINED_BYTES_MAX][..], b"\n"].concat();
        for _ in 0..WRITE_PIECES_MAX + 2 {
            log.append(&line);
            log.publish();
        }
        let full_bytes = WRITE_PIECES_MAX * line.len();
        let mut batch = Batch::default();
        for _ in 0..2 {
            log.read(from, log.head(), &mut batch);
            assert_eq!(batch.bytes(), full_bytes, "what was left is forgotten");
        }
        assert!(batch.advance(full_bytes));
        log.read(from.plus(full_bytes), log.head(), &mut batch);
        assert_eq!(batch.bytes(), 2 * line.len());
    }

    #[test]
    fn first_line_of_a_batch_is_the_rest_of_the_line_under_way() {
        let mut log = Log::new(100);
        let cursor = log.enter();
        log.append(b"one\ntwo\n");
        log.publish();
        let mut batch = Batch::default();
        log.read(cursor, log.head(), &mut batch);
        assert!(!batch.advance(2), "amid a line");
        assert_eq!(batch.first_line(), b"e\n");
        assert!(batch.advance(2), "at a line's end");
        assert_eq!(batch.first_line(), b"two\n");
    }

    /// Law 7's spare.
    #[test]
    fn published_bytes_have_at_most_a_quarter_to_spare() {
        for (bytes, capacity) in [(8, 10), (7, 7)] {
            let mut segment = Segment::open_at(Position::default());
            segment.fresh = Vec::with_capacity(10);
            segment.fresh.resize(bytes, b'\n');
            segment.freeze();
            assert_eq!(segment.pieces[0].bytes.capacity(), capacity);
        }
    }

    #[test]
    fn lines_of_a_whole_segment_are_counted_once_and_of_a_part_each_time() {
        let mut log = Log::new(4);
        let _stalled = log.enter();
        log.append(b"a\nb\n");
        log.append(b"c\nd\n");
        for (from, to, lines) in [(0, 2, 1), (2, 4, 1), (0, 4, 2), (2, 8, 3), (0, 6, 3), (0, 8, 4), (4, 4, 0)] {
            assert_eq!(log.lines_between(at(from), at(to)), lines, "{from}..{to}");
        }
        log.segments[0].lines = 40;
        assert_eq!(log.lines_between(at(0), at(8)), 42);
    }

    #[test]
    fn small_pieces_are_joined_once_as_much_comes_behind_them() {
        let mut log = Log::new(1 << 20);
        let _stalled = log.enter();
        let mut say = |bytes: usize| {
            let mut line = vec![b'x'; bytes];
            line[bytes - 1] = b'\n';
            log.append(&line);
            log.publish();
            log.segments[0].pieces.iter().map(|piece| piece.bytes.len()).collect::<Vec<_>>()
        };
        assert_eq!(say(1), [1]);
        assert_eq!(say(1), [2]);
        assert_eq!(say(1), [3]);
        assert_eq!(say(1), [3, 1]);
        assert_eq!(say(1), [5]);
        assert_eq!(say(2), [5, 2]);
        assert_eq!(say(1), [8]);
        assert_eq!(say(JOINED_BYTES_MAX - 8), [JOINED_BYTES_MAX]);
        assert_eq!(say(JOINED_BYTES_MAX / 2), [JOINED_BYTES_MAX / 2 * 3]);
        assert_eq!(say(JOINED_BYTES_MAX + 1), [JOINED_BYTES_MAX / 2 * 3, JOINED_BYTES_MAX + 1], "larger ones stay");
    }

    #[test]
    fn single_piece_is_not_copied() {
        let mut log = Log::new(100);
        let _stalled = log.enter();
        log.append(b"\n");
        log.publish();
        let piece = Arc::clone(&log.segments[0].pieces[0].bytes);
        log.segments[0].seal();
        assert!(Arc::ptr_eq(&log.segments[0].pieces[0].bytes, &piece));
    }

    #[test]
    fn stalled_reader_pins_no_more_than_the_segments_from_its_cursor_on() {
        let mut log = Log::new(10);
        let stalled = log.enter();
        let quick = log.enter();
        log.append(b"123456789\n");
        log.append(b"abcdefghi\n");
        log.publish();
        log.advance(quick, log.head());
        assert_eq!(log.held_bytes(), 20);
        log.advance(stalled, stalled.plus(10));
        assert_eq!(log.held_bytes(), 10, "the first segment is passed by all");
    }
}
