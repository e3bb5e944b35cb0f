//! Target `log`: whatever is appended, published, read, skipped and left, the log is the list of all bytes ever said, of
//! which it keeps what somebody has yet to read.
//!
//! The script: the size of a segment, then two bytes each: what is done, with its reader in the row of characters that it
//! stands in (`0` is the third's, `P` the fifth's), and how much. `00` and so on are in [`Op`].

use crate::log::{Batch, Log, Position};

use super::{SCRIPT_BYTES_MAX, digit, size};

/// What is done with a log.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// `0` to `3`. Lines of these lengths, line feed included. In the script: as many as the row, each as long as the digit.
    Append(Vec<usize>),
    /// `4`, `5`.
    Publish,
    /// `6`.
    Enter,
    /// `7` to `;`. The reader takes so many bytes of what it is given, at most.
    Read(usize, usize),
    /// `<`, `=`. As `Read`, and it reads to the end of so many lines.
    ReadUntil(usize, usize),
    /// `>`. The reader passes so many lines unread, or goes to the head, as at a let-go.
    Skip(usize, usize),
    /// `?`.
    Leave(usize),
}

impl Op {
    fn of(what: u8, much: u8) -> Self {
        let reader = usize::from(what >> 4);
        let most = usize::from(much);
        match digit(what) {
            0..=3 => Self::Append(vec![size(digit(much)); usize::from(much >> 4) + 1]),
            4 | 5 => Self::Publish,
            6 => Self::Enter,
            7..=11 => Self::Read(reader, most + 1),
            12 | 13 => Self::ReadUntil(reader, most % 8 + 1),
            14 => Self::Skip(reader, most % 32),
            _ => Self::Leave(reader),
        }
    }
}

/// The slow truth: everything ever said as one list of bytes, and where everyone stands in it.
#[derive(Default)]
struct Truth {
    said: Vec<u8>,
    published: usize,
    readers: Vec<usize>,
}

impl Truth {
    fn rest_of_line(&self, at: usize) -> &[u8] {
        if at == 0 || at == self.said.len() || self.said[at - 1] == b'\n' {
            return &[];
        }
        &self.said[at..self.after_lines(at, 1)]
    }

    fn lines_between(&self, from: usize, to: usize) -> u64 {
        self.said[from..to].split_inclusive(|byte| *byte == b'\n').count() as u64
    }

    /// Where so many lines behind `at` have ended; the head if there are fewer, or none are asked for.
    fn after_lines(&self, at: usize, lines: usize) -> usize {
        let mut ends = self.said[at..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        lines.checked_sub(1).and_then(|before| ends.nth(before)).map_or(self.said.len(), |(end, _)| at + end + 1)
    }
}

fn place(at: usize) -> Position {
    Position::default().plus(at)
}

fn contents(batch: &Batch) -> Vec<u8> {
    batch.io_slices().iter().flat_map(|slice| slice.iter().copied()).collect()
}

/// Does all that to a log; after each it must be as the slow truth has it.
pub(crate) fn check(segment_bytes: usize, ops: &[Op]) {
    let mut log = Log::new(segment_bytes);
    let mut truth = Truth::default();
    let mut letter = 0;
    for op in ops {
        match op {
            Op::Append(lengths) => {
                let start = truth.said.len();
                for length in lengths {
                    letter = (letter + 1) % 26;
                    truth.said.extend(std::iter::repeat_n(b'a' + letter, length - 1));
                    truth.said.push(b'\n');
                }
                log.append(&truth.said[start..]);
            }
            Op::Publish => {
                log.publish();
                truth.published = truth.said.len();
            }
            Op::Enter => {
                assert_eq!(log.enter(), place(truth.said.len()));
                truth.readers.push(truth.said.len());
            }
            _ if truth.readers.is_empty() => {}
            Op::Read(reader, most) => {
                let until = truth.said.len();
                read(&mut log, &mut truth, *reader, *most, until);
            }
            Op::ReadUntil(reader, lines) => {
                let until = truth.after_lines(truth.readers[reader % truth.readers.len()], *lines);
                read(&mut log, &mut truth, *reader, usize::MAX, until);
            }
            Op::Skip(reader, lines) => skip(&mut log, &mut truth, *reader, *lines),
            Op::Leave(reader) => {
                let reader = reader % truth.readers.len();
                log.leave(place(truth.readers.swap_remove(reader)));
            }
        }
        check_state(&log, &mut truth);
    }
}

fn read(log: &mut Log, truth: &mut Truth, reader: usize, most: usize, until: usize) {
    let reader = reader % truth.readers.len();
    let from = truth.readers[reader];
    let mut batch = Batch::default();
    log.read(place(from), place(until), &mut batch);
    let got = contents(&batch);
    assert_eq!(got.len(), batch.bytes());
    assert_eq!(got.is_empty(), batch.is_empty());
    let until = until.min(truth.published);
    assert_eq!(got.is_empty(), from >= until, "what is published can be read");
    if got.is_empty() {
        return;
    }
    assert!(got.len() + from <= until, "only what is published is read, and not past its end");
    assert_eq!(got, truth.said[from..from + got.len()]);
    assert_eq!(batch.first_line(), &truth.said[from..truth.after_lines(from, 1)]);
    let taken = most.min(got.len());
    let to = from + taken;
    assert_eq!(batch.advance(taken), truth.said[to - 1] == b'\n');
    assert_eq!(contents(&batch), &got[taken..]);
    assert_eq!(batch.is_empty(), taken == got.len());
    log.advance(place(from), place(to));
    truth.readers[reader] = to;
}

fn skip(log: &mut Log, truth: &mut Truth, reader: usize, lines: usize) {
    let reader = reader % truth.readers.len();
    let from = truth.readers[reader];
    let torn = log.rest_of_line(place(from)).to_vec();
    // A reader amid a line was given it, so it is published.
    assert_eq!(torn, truth.rest_of_line(from));
    let next = from + torn.len();
    let to = truth.after_lines(next, lines);
    let missed = log.lines_between(place(next), place(to));
    truth.published = truth.said.len();
    assert_eq!(missed, truth.lines_between(next, to));
    log.advance(place(from), place(to));
    truth.readers[reader] = to;
}

fn check_state(log: &Log, truth: &mut Truth) {
    log.check();
    log.check_pieces();
    let head = truth.said.len();
    assert_eq!(log.head(), place(head));
    let slowest = truth.readers.iter().min().copied().unwrap_or(head);
    if log.published() != place(truth.published) {
        assert!(log.published() > place(truth.published), "what is published stays so");
        assert!(log.published() <= place(slowest), "nothing is published by itself that someone awaits");
        truth.published = usize::try_from(log.published().bytes_since(place(0))).expect("small");
    }
    if slowest == head {
        assert_eq!(log.held_bytes(), 0, "nobody is behind, so nothing is held");
    }
    assert!(log.tail() <= place(slowest), "what somebody has yet to read is kept");
    assert!(slowest == head || place(slowest) < log.oldest_end(), "nothing else is kept");
    assert!(log.backlog_bytes() <= log.held_bytes());
}

/// One input of the target.
pub fn fuzz(input: &[u8]) {
    let [segment, script @ ..] = input else { return };
    // The slow truth is a list of all bytes: it shall not grow without bound.
    let script = &script[..script.len().min(SCRIPT_BYTES_MAX / 8)];
    let ops: Vec<Op> = script.chunks_exact(2).map(|pair| Op::of(pair[0], pair[1])).collect();
    check(size(*segment), &ops);
}
