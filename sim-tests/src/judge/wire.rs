//! The wire, read a second time and slowly: what a client's input means, and what a line of output says.
//!
//! Nothing here is shared with the server, on purpose: a mistake made once would else be invisible.

use std::time::Duration;

use unisono::{Lang, Wire};

use crate::history::Rules;

/// Input beyond which memory for a line may be refused; a line this long may be, its carriage return included.
const SPARED_BYTES_MIN: usize = 1022;

/// What has so many bytes is no password, and may be refused before its end has come.
fn too_long(rules: &Rules) -> usize {
    1026.min(rules.limits.line_bytes_max + 1)
}

/// What one line of input asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Act {
    /// When its last byte was sent.
    pub(super) at: Duration,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The text as the room should see it. A long one may be refused when memory is spent.
    Say { text: Vec<u8>, is_long: bool },
    /// Perhaps a valid name, perhaps free.
    Rename(String),
}

/// How often one may say a password.
pub(super) const TRIES_MAX: usize = 3;

/// What a client said for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    /// When its first byte was sent, and its last.
    pub(super) began: Duration,
    pub(super) at: Duration,
    pub(super) is_right: bool,
    /// So long that it is refused before it has ended.
    pub(super) is_long: bool,
}

/// What a client's whole input asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    /// In order. Behind `/quit` there is nothing.
    pub(super) acts: Vec<Act>,
    /// When `/quit` was sent.
    pub(super) quit: Option<Duration>,
    /// What was said for a password: none behind a right one, and no more than there may be.
    pub(super) tries: Vec<Try>,
    /// What was never ended: no part of the acts.
    pub(super) partial: Option<Vec<u8>>,
    /// The longest time from the first byte of a line to its last, or to the connection's end.
    pub(super) slowest_line: Duration,
}

impl Input {
    /// The meaning of chunks that were sent at these times. The unended line counts only if the input `ended`.
    pub(super) fn of(
        chunks: &[(Duration, &[u8])],
        ended: Option<Duration>,
        gone: Option<Duration>,
        rules: &Rules,
    ) -> Self {
        let mut input = Self::default();
        let mut began = None;
        let mut line: Vec<u8> = Vec::new();
        let mut is_first = true;
        let is_asked = rules.password.is_some();
        for (at, chunk) in chunks {
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                let first = *began.get_or_insert(*at);
                input.slowest_line = input.slowest_line.max(at.saturating_sub(first));
                if line.last() == Some(&b'\n') {
                    line.pop();
                    let whole = without_mark(&line, &mut is_first, rules.wire);
                    if is_asked && !input.is_proved() {
                        input.prove([first, *at], whole, rules);
                    } else {
                        input.push(*at, whole, rules);
                    }
                    line.clear();
                    began = None;
                }
            }
        }
        if let (Some(began), Some(gone)) = (began, gone) {
            input.slowest_line = input.slowest_line.max(gone.saturating_sub(began));
        }
        let rest = without_mark(&line, &mut is_first, rules.wire);
        if !rest.is_empty() && is_asked && !input.is_proved() {
            // One that is too long is refused before it ends.
            if let Some(at) = ended.or_else(|| began.filter(|_| rest.len() >= too_long(rules))) {
                input.prove([began.unwrap_or(at), at], rest, rules);
            }
        } else if !rest.is_empty() {
            match ended {
                Some(at) => input.push(at, rest, rules),
                None => input.partial = Some(said_text(rest, rules)),
            }
        }
        input
    }

    /// Whether it has said the password.
    pub(super) fn is_proved(&self) -> bool {
        self.tries.last().is_some_and(|last| last.is_right)
    }

    /// It said this for a password.
    fn prove(&mut self, [began, at]: [Duration; 2], line: &[u8], rules: &Rules) {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let is_right = rules.password.as_ref().is_some_and(|password| password.text.as_bytes() == text);
        if self.tries.len() < TRIES_MAX {
            self.tries.push(Try { began, at, is_right, is_long: line.len() >= too_long(rules) });
        }
    }

    fn push(&mut self, at: Duration, line: &[u8], rules: &Rules) {
        if self.quit.is_some() {
            return;
        }
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.len() > rules.limits.line_bytes_max {
            return;
        }
        if !rules.wire.plain && text.starts_with(b"/") && !text.starts_with(b"//") {
            let word_end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
            let (word, argument) = (text[1..word_end].to_ascii_lowercase(), text[word_end..].trim_ascii());
            if word == b"quit" && argument.is_empty() {
                self.quit = Some(at);
            } else if word == b"name"
                && let Ok(name) = str::from_utf8(argument)
            {
                self.acts.push(Act { at, what: What::Rename(name.to_owned()) });
            }
            return;
        }
        let is_long = line.len() >= SPARED_BYTES_MIN;
        self.acts.push(Act { at, what: What::Say { text: said_text(line, rules), is_long } });
    }
}

fn without_mark<'a>(line: &'a [u8], is_first: &mut bool, wire: Wire) -> &'a [u8] {
    let has_mark = std::mem::take(is_first) && !wire.raw;
    if has_mark { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line }
}

/// What a line that is no command says.
fn said_text(line: &[u8], rules: &Rules) -> Vec<u8> {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let text = if !rules.wire.plain && text.starts_with(b"/") { text.strip_prefix(b"/").unwrap_or(text) } else { text };
    if rules.wire.raw { text.to_vec() } else { clean(text) }
}

/// Cleaning, a character at a time.
pub(super) fn clean(text: &[u8]) -> Vec<u8> {
    if text.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return text.to_vec();
    }
    let harmless = |character: char| match character {
        '\t' => '\t',
        '\u{0}'..='\u{1F}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7F}' => '\u{2421}',
        '\u{80}'..='\u{9F}'
        | '\u{61C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{2028}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    String::from_utf8_lossy(text).chars().map(harmless).collect::<String>().into_bytes()
}

/// What a line of the room says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Said {
        who: &'a str,
        text: &'a [u8],
    },
    Arrival {
        who: &'a str,
    },
    Departure {
        who: &'a str,
    },
    Renamed {
        who: &'a str,
        new: &'a str,
    },
    /// So many came and so many went, and nobody was told who.
    Counted {
        joined: i64,
        left: i64,
    },
    /// Its arrival was counted, and it is about to be heard of.
    Here {
        who: &'a str,
    },
    /// By whoever keeps the server.
    Announced {
        text: &'a [u8],
    },
    /// Nothing that the server ever says.
    Strange,
}

/// Reads a line of the room, without its line feed.
pub(super) fn kind(line: &[u8], lang: Lang) -> Kind<'_> {
    if let Some(text) = line.strip_prefix(b"-! ") {
        return Kind::Announced { text };
    }
    let Some(space) = line.iter().position(|byte| *byte == b' ') else { return Kind::Strange };
    let (who, rest) = (&line[..space], &line[space + 1..]);
    let Ok(who) = str::from_utf8(who) else { return Kind::Strange };
    if let Some(who) = who.strip_suffix(':') {
        return if who.is_empty() { Kind::Strange } else { Kind::Said { who, text: rest } };
    }
    let Ok(rest) = str::from_utf8(rest) else { return Kind::Strange };
    let (joined, left, here, renamed) = match lang {
        Lang::Zh => ("上线", "下线", "在场", "改名 "),
        Lang::En => ("joined", "left", "is here", "is now "),
    };
    match rest.strip_prefix(renamed) {
        Some(new) if is_name(new) => Kind::Renamed { who, new },
        _ if rest == joined => Kind::Arrival { who },
        _ if rest == left => Kind::Departure { who },
        _ if rest == here => Kind::Here { who },
        _ => counted(who, rest, lang).unwrap_or(Kind::Strange),
    }
}

/// Reads `N joined, M left`, which begins as if somebody was called N.
fn counted<'a>(joined: &str, rest: &str, lang: Lang) -> Option<Kind<'a>> {
    let (head, tail) = match lang {
        Lang::Zh => ("人上线，", " 人下线"),
        Lang::En => ("joined, ", " left"),
    };
    let left = rest.strip_prefix(head)?.strip_suffix(tail)?;
    Some(Kind::Counted { joined: number(joined)?, left: number(left)? })
}

/// A number as the server writes it.
fn number(digits: &str) -> Option<i64> {
    let is_plain = digits == "0" || !digits.starts_with('0');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain && is_number { digits.parse().ok() } else { None }
}

/// Whether the line is the first that is heard of this member: said by it, or its new name.
pub(super) fn is_of(line: &[u8], member: &str, lang: Lang) -> bool {
    line.starts_with(member.as_bytes())
        && matches!(kind(line, lang), Kind::Said { who, .. } | Kind::Renamed { who, .. } if who == member)
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
    !name.is_empty()
        && name.len() <= 96
        && name.chars().count() <= 32
        && name.chars().all(is_plain)
        && !name.starts_with('-')
}

/// Who an arrival is of, found quickly: nearly every line is none.
pub(super) fn arrived(line: &[u8], lang: Lang) -> Option<&str> {
    let joined = match lang {
        Lang::Zh => " 上线",
        Lang::En => " joined",
    };
    let who = line.strip_suffix(joined.as_bytes()).filter(|who| !who.starts_with(b"-! "))?;
    if who.contains(&b' ') { None } else { str::from_utf8(who).ok() }
}

/// Who a welcome greets.
pub(super) fn welcomed(line: &[u8], lang: Lang) -> Option<&str> {
    let welcome = match lang {
        Lang::Zh => "欢迎 ",
        Lang::En => "Welcome ",
    };
    str::from_utf8(line.strip_prefix(welcome.as_bytes())?).ok()
}

/// What a line that begins with `-- ` tells, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Missed(i64),
    Unspared,
    LineDeadline,
    /// The connection is not let in.
    NotLetIn,
    /// It is not let in, as too many come from its address.
    Hasty,
    /// It is not let in, as whoever keeps the server decided.
    Banned,
    /// Whoever keeps the server has removed it.
    Removed,
    Stopping,
    /// It is asked for a password, and what comes of that.
    PasswordWanted,
    PasswordWrong,
    PasswordRefused,
    PasswordHasty,
    PasswordLate,
    Other,
}

/// Every other notice: whether `--plain` has it, and its words in Chinese and in English; `#` stands for a
/// number and a star for what else varies.
const NOTICES: &[(Told, bool, &str, &str)] = &[
    (
        Told::Unspared,
        true,
        "这行没有发出：留给长行的内存暂时用完了，# 字节以内的行不受影响",
        "line not said: memory for long lines is spent for now, lines up to # bytes still pass",
    ),
    (Told::LineDeadline, true, "一行过了 * 还没有写完：连接关闭", "line not ended within *: connection closed"),
    (
        Told::NotLetIn,
        true,
        "服务器已满：最多 # 个连接，请稍后再来",
        "server full: at most # connections, try again later",
    ),
    (Told::NotLetIn, true, "来自你的地址的连接太多：最多 # 个", "too many connections from your address: at most #"),
    (
        Told::Hasty,
        true,
        "连接得太频繁：每个地址每秒最多 # 次，请稍后再来",
        "connecting too fast: at most # a second from each address, try again later",
    ),
    (Told::Banned, true, "这里不接受来自你的地址的连接", "connections from your address are not let in here"),
    (Told::Removed, true, "你已被移出", "you were removed"),
    (Told::Other, true, "这行太长，没有发出：一行最多 # 字节", "line too long, not said: at most # bytes"),
    (Told::Other, false, "没有这个命令：*", "no such command: *"),
    (
        Told::Other,
        false,
        "名字 * 已有人用，或与别人的名字太像：请换一个",
        "name * is taken, or too much like another's: choose another",
    ),
    (Told::Other, false, "名字不行：*", "name refused: *"),
    (Told::Other, false, "/name NEW  改名为 NEW", "/name NEW  be called NEW"),
    (Told::Other, false, "/who  谁在这里", "/who  who is here"),
    (Told::Other, false, "/help  列出这些命令", "/help  list these commands"),
    (Told::Other, false, "/quit  离开", "/quit  leave"),
    (Told::Other, false, "//TEXT  说 /TEXT", "//TEXT  say /TEXT"),
    (Told::Other, false, "在线 # 人", "# here"),
    (Told::Other, false, "  *", "  *"),
    (Told::Stopping, false, "服务器即将停止", "server is stopping"),
    (Told::PasswordWanted, true, "请先输入密码", "password, please"),
    (Told::PasswordWrong, true, "密码不对，请再试", "wrong password, try again"),
    (Told::PasswordRefused, true, "密码不对：连接关闭", "wrong password: connection closed"),
    (
        Told::PasswordHasty,
        true,
        "来自你的地址的密码试得太频繁：连接关闭，请稍后再来",
        "too many passwords tried from your address: connection closed, try again later",
    ),
    (Told::PasswordLate, true, "* 内没有收到正确的密码：连接关闭", "no right password within *: connection closed"),
];

/// Reads a notice; `None` if the server has none such.
pub(super) fn told(line: &[u8], wire: Wire) -> Option<Told> {
    let text = str::from_utf8(line).ok()?.strip_prefix("-- ")?;
    let missed = match wire.lang {
        Lang::Zh => text.strip_prefix("错过 ").and_then(|text| text.strip_suffix(" 行")),
        Lang::En => text.strip_prefix("missed ").and_then(|text| text.strip_suffix(" lines")),
    };
    if let Some(lines) = missed {
        let is_number = lines.bytes().all(|byte| byte.is_ascii_digit()) && !lines.starts_with('0');
        return if is_number { lines.parse().ok().map(Told::Missed) } else { None };
    }
    let known = NOTICES.iter().find(|(_, in_plain, zh, en)| {
        let words = if wire.lang == Lang::Zh { zh } else { en };
        (*in_plain || !wire.plain) && fits(text, words)
    })?;
    Some(known.0)
}

/// Whether the text is these words, with a number or something else in the place that varies.
fn fits(text: &str, words: &str) -> bool {
    let Some(at) = words.find(['*', '#']) else { return text == words };
    let (head, tail) = (&words[..at], &words[at + 1..]);
    let varies = text.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
    let is_number = words.as_bytes()[at] == b'#';
    varies.is_some_and(|varies| !varies.is_empty() && (!is_number || varies.bytes().all(|byte| byte.is_ascii_digit())))
}
