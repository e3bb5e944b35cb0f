//! Bytes to lines, and lines to harmless ones: throughput in bytes of input.

use std::hint::black_box;

use criterion::{Criterion, Throughput};

use crate::shipped::line::{Event, Splitter, clean};

/// Bytes that one read brings here.
const CHUNK_BYTES: usize = 4096;

/// Bytes of one read of a line that comes in many.
const SHRED_BYTES: usize = 64;

/// Bytes of a text that is cleaned: whole blocks and some more.
const TEXT_BYTES: usize = 500;

const LINE_BYTES_MAX: usize = 65_536;

/// All that is measured here.
pub fn bench(criterion: &mut Criterion) {
    split(criterion);
    cleaning(criterion);
}

fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    for line_bytes in [32, 512] {
        let chunk = lines(line_bytes);
        let mut splitter = Splitter::new(LINE_BYTES_MAX, true);
        assert_eq!(text_bytes(&mut splitter, &chunk), CHUNK_BYTES - CHUNK_BYTES / line_bytes);
        group.bench_function(format!("4 KiB of {line_bytes} B lines"), |bencher| {
            bencher.iter(|| text_bytes(&mut splitter, black_box(&chunk)));
        });
    }
    let chunk = lines(CHUNK_BYTES);
    let mut splitter = Splitter::new(LINE_BYTES_MAX, true);
    group.bench_function(format!("4 KiB line in reads of {SHRED_BYTES} B"), |bencher| {
        bencher.iter(|| {
            let shreds = black_box(&chunk).chunks(SHRED_BYTES);
            let bytes: usize = shreds.map(|shred| text_bytes(&mut splitter, shred)).sum();
            assert_eq!(bytes, CHUNK_BYTES - 1);
        });
    });
    group.finish();
}

/// A chunk of lines that have `line_bytes` each, line feed included.
fn lines(line_bytes: usize) -> Vec<u8> {
    let line = [&b"x".repeat(line_bytes - 1)[..], b"\n"].concat();
    line.repeat(CHUNK_BYTES / line_bytes)
}

/// Takes in one read, and returns how much text its lines had.
fn text_bytes(splitter: &mut Splitter, mut input: &[u8]) -> usize {
    let mut bytes = 0;
    while let Some(event) = splitter.next(&mut input) {
        let Event::Line(text) = black_box(event) else { panic!("no line is too long") };
        bytes += text.len();
    }
    bytes
}

fn cleaning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clean");
    group.throughput(Throughput::Bytes(TEXT_BYTES as u64));
    let ascii = text("The quick brown fox jumps over the very lazy dogs.");
    let chinese = text("你看见今晚的月亮了吗？真大，真圆，像一只盘子。我们一起出去走走吧！ ");
    let quoting = text("他说：“天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。”……就下线了—— ");
    let escapes = text("\u{1B}[31m\u{7}red\u{1B}[0m\u{9B}2J\u{202E}");

    let mut out = Vec::with_capacity(3 * TEXT_BYTES);
    group.bench_function("memcpy, the ruler", |bencher| {
        bencher.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&ascii));
            black_box(&mut out);
        });
    });
    let texts = [("ASCII", &ascii), ("Chinese", &chinese), ("Chinese that quotes", &quoting), ("escapes", &escapes)];
    for (name, text) in texts {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                clean(black_box(text), &mut out);
                black_box(&mut out);
            });
        });
    }
    group.finish();
}

/// `phrase`, again and again.
fn text(phrase: &str) -> Vec<u8> {
    let text = phrase.repeat(TEXT_BYTES / phrase.len()).into_bytes();
    assert_eq!(text.len(), TEXT_BYTES);
    text
}
