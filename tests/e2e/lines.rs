//! What a line may be: its length, its characters, and what becomes of everything else.

use std::time::Duration;

use crate::client::Client;
use crate::process::Server;

const LINE_BYTES_MAX: usize = 65_536;

#[test]
fn longest_line_passes_whole() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let longest = "x".repeat(LINE_BYTES_MAX);
    for end in ["\n", "\r\n"] {
        berta.send(format!("{longest}{end}").as_bytes());
        anna.expect_said(berta.who(), &longest);
        berta.expect_echo(&longest);
    }
    berta.send(longest.as_bytes());
    berta.half_close();
    anna.expect_said(berta.who(), &longest);
    anna.expect_departure(berta.who());
}

/// A line one byte or more too long is refused with one notice, none of it is said, and what follows is as if it had not
/// been there.
fn check_refused(options: &[&str], too_long: &[u8], write_bytes: usize) {
    let server = Server::start(options);
    let [mut anna, mut berta] = server.company();
    for part in too_long.chunks(write_bytes) {
        berta.send(part);
    }
    berta.send(b"next\n");
    berta.expect_notice();
    berta.expect_echo("next");
    anna.expect_said(berta.who(), "next");
}

#[test]
fn line_too_long_is_refused_whole_with_one_notice() {
    let barely = [vec![b'x'; LINE_BYTES_MAX + 1], b"\n".to_vec()].concat();
    check_refused(&[], &barely, usize::MAX);
    check_refused(&["--plain", "--raw"], &barely, usize::MAX);
    check_refused(&[], &barely, LINE_BYTES_MAX);
    check_refused(&[], &[&barely[..LINE_BYTES_MAX], b"\rx\n"].concat(), usize::MAX);
}

#[test]
fn line_far_too_long_is_neither_cut_nor_glued() {
    let far = [vec![b'x'; 300_000], b"\r\n".to_vec()].concat();
    check_refused(&[], &far, usize::MAX);
    check_refused(&["--plain", "--raw"], &far, 1000);
}

#[test]
fn length_counts_in_bytes_of_text_before_cleaning() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    // Each of these bytes takes three once cleaned.
    berta.send(&[vec![0x1b; LINE_BYTES_MAX], b"\n".to_vec()].concat());
    anna.expect_said(berta.who(), &"\u{241b}".repeat(LINE_BYTES_MAX));
    // One of two bytes each, and one too many.
    berta.expect_echo(&"\u{241b}".repeat(LINE_BYTES_MAX));
    berta.send(format!("{}\n", "é".repeat(LINE_BYTES_MAX / 2 + 1)).as_bytes());
    berta.expect_notice();
}

#[test]
fn line_max_is_as_told() {
    let server = Server::start(&["--line-max", "16B"]);
    let [mut anna, mut berta] = server.company();
    berta.say("0123456789abcdef");
    anna.expect_said(berta.who(), "0123456789abcdef");
    berta.say("0123456789abcdefg");
    berta.expect_echo("0123456789abcdef");
    berta.expect_notice();
    berta.say("0123456789");
    anna.expect_said(berta.who(), "0123456789");
}

/// Bytes that no terminal ever sent, without a line feed among them.
fn junk(count: usize) -> Vec<u8> {
    let bytes = (0_u32..).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    std::iter::once(b'J').chain(bytes.filter(|&byte| byte != b'\n')).take(count).collect()
}

#[test]
fn binary_junk_without_line_ends_disturbs_nobody() {
    let server = Server::start(&["--line-deadline", "1s"]);
    let [mut anna, mut short, mut long] = server.company();
    short.send(&junk(600));
    long.send(&junk(200_000));
    let cpu = server.cpu();
    // A second and more passes until both are sent away; the room goes on, and the server does not spin.
    let mut gone = Vec::new();
    while gone.len() < 2 {
        anna.say("round trip");
        let echo = format!("{}: round trip", anna.who());
        let mut line = anna.next_text();
        while line != echo {
            gone.push(line);
            line = anna.next_text();
        }
        // No sooner than something is heard, or after a breath, the next one.
        anna.hears_within(Duration::from_millis(50));
    }
    let cpu = server.cpu().saturating_sub(cpu);
    assert!(cpu < Duration::from_millis(500), "the server spins on junk: {cpu:?} of CPU");
    let mut expected = [&short, &long].map(|client| format!("{} 下线", client.who()));
    expected.sort();
    gone.sort();
    assert_eq!(gone, expected, "true lines: no partial line is said after a time-out");
    let told = long.read_to_end();
    assert!(told.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"-- ")), "a refusal is told");
    short.read_to_end();
}

#[test]
fn binary_junk_before_fin_is_a_line_if_short_and_refused_if_long() {
    let server = Server::start(&["--plain", "--raw"]);
    let [mut anna, mut short, mut long] = server.company();
    long.send(&junk(200_000));
    long.half_close();
    long.expect_notice();
    long.expect_end();
    anna.expect_departure(long.who());
    short.expect_departure(long.who());
    short.send(&junk(600));
    short.half_close();
    let mut said = format!("{}: ", short.who()).into_bytes();
    said.extend(junk(600));
    if said.ends_with(b"\r") {
        said.pop();
    }
    anna.expect_line_bytes(&said);
    short.expect_line_bytes(&said);
    short.expect_end();
    anna.expect_departure(short.who());
}

/// Cleaning as docs/PROTOCOL.md says it, slowly: decode lossily, then picture what controls.
fn cleaned(bytes: &[u8]) -> String {
    let pictured = |char: char| match char {
        '\t' => '\t',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(char)).expect("a control picture"),
        '\u{7f}' => '\u{2421}',
        // C1, separators, and the twelve characters with the property Bidi_Control.
        '\u{80}'..='\u{9f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{61c}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        other => other,
    };
    String::from_utf8_lossy(bytes).chars().map(pictured).collect()
}

/// Says each line, cleaned by the server, and expects the slow truth.
fn check_cleaned(lines: &[Vec<u8>]) {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    for line in lines {
        berta.send(&[line, &b"\n"[..]].concat());
        anna.expect_said(berta.who(), &cleaned(line));
    }
}

#[test]
fn controls_never_reach_another_terminal() {
    let lines: [&[u8]; 20] = [
        b"\x1b[31mred\x1b[0m",
        b"\x1b]0;title\x07\x1b]52;c;AAAA\x1b\\",
        b"\0nul\x01\x7f",
        b"tab\tstays",
        b"forged\r1.2.3.4:5: line",
        b"vertical\x0bform\x0cfeed",
        b"C1 as a byte \x9b31m",
        "C1 as a character \u{9b}31m \u{85}".as_bytes(),
        "bidi \u{202e}txet\u{202c} \u{2066}x\u{2069} \u{200e}\u{200f}\u{61c}".as_bytes(),
        "separators \u{2028} \u{2029}".as_bytes(),
        b"overlong \xc0\xaf",
        b"surrogate \xed\xa0\x80",
        b"cut short \xe2\x82",
        b"cut short \xf0\x9f\x8e and on",
        b"beyond \xf4\x90\x80\x80",
        b"telnet x\xff\xfb\x01",
        b"lone \x80 \xbf \xfe \xff",
        b"\x01DCC SEND x 0 0 0\x01",
        b"\x1b",
        b"ends in two\r\r",
    ];
    // The last carriage return belongs to the line end, as the line feed follows it; the one before stays.
    let mut lines = lines.map(<[u8]>::to_vec);
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let last = lines.last_mut().expect("there are lines");
    berta.send(&[last.clone(), b"\n".to_vec()].concat());
    last.pop();
    anna.expect_said(berta.who(), &cleaned(last));
    check_cleaned(&lines[..19]);
}

/// A router that looks for IRC's requests of direct connections opens ports for them, also where nobody speaks IRC.
#[test]
fn dcc_request_loses_the_byte_that_makes_it_one() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    berta.send(b"PRIVMSG x :\x01DCC SEND x 2130706433 22\x01\n");
    anna.expect_said(berta.who(), "PRIVMSG x :\u{2401}DCC SEND x 2130706433 22\u{2401}");
    assert!(!anna.seen().contains(&1));
}

#[test]
fn cleaning_is_as_the_slow_truth_on_random_bytes() {
    let mut state: u64 = 1;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let parts: [&[u8]; 16] = [
        b"a",
        b" ",
        "é".as_bytes(),
        "欢".as_bytes(),
        "🎵".as_bytes(),
        b"\x1b",
        b"\xe2",
        b"\x82",
        b"\xac",
        b"\xf0",
        b"\x9f",
        b"\xed",
        b"\xa0",
        b"\0",
        b"\xc2",
        b"\x80",
    ];
    let lines: Vec<Vec<u8>> = (0..300)
        .map(|_| {
            let count = draw() % 40;
            // Not a slash nor a byte order mark at the head, which mean something else.
            let drawn = (0..count).flat_map(|_| parts[usize::try_from(draw() % 16).expect("below 16")].to_vec());
            std::iter::once(b'>').chain(drawn).collect()
        })
        .collect();
    check_cleaned(&lines);
}

#[test]
fn clean_text_passes_untouched() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    for text in [
        "",
        " ",
        "plain",
        "欢迎",
        "e\u{301} 👩\u{200d}🚀 \u{feff}\u{ad}",
        "-- 错过 3 行",
        "1.2.3.4:5 上线",
        "  /name x",
    ] {
        berta.say(text);
        anna.expect_said(berta.who(), text);
    }
}

#[test]
fn raw_passes_every_byte_but_line_ends() {
    let server = Server::start(&["--raw"]);
    let [mut anna, mut berta] = server.company();
    let every: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
    berta.send(&[&every[..], b"\r\r\n"].concat());
    anna.expect_line_bytes(&[berta.who().as_bytes(), b": ", &every, b"\r"].concat());
}

#[test]
fn byte_order_mark_is_dropped_at_the_very_start_only() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    let mark = "\u{feff}".as_bytes();
    for write_bytes in [1, 2, usize::MAX] {
        let mut berta = Client::join(server.addr());
        anna.expect_arrival(berta.who());
        for part in [mark, b"first\n", mark, b"second\n"].concat().chunks(write_bytes) {
            berta.send(part);
        }
        anna.expect_said(berta.who(), "first");
        anna.expect_said(berta.who(), "\u{feff}second");
        berta.half_close();
        anna.expect_departure(berta.who());
    }
    let mut only = Client::join(server.addr());
    anna.expect_arrival(only.who());
    only.send(mark);
    only.half_close();
    anna.expect_departure(only.who());
}
