//! The server's own words as bytes, in Chinese and in English.
//!
//! Two kinds, kept apart because they are counted differently. Lines of the room and the welcome are made here by
//! [`Lang`] and are what programs may parse; their bytes are the seed's and do not change. A [`Notice`] is for one member
//! alone, begins with `-- `, which no name can, and tells people what was wrong and what would be right. Of what peers sent
//! only valid names are ever repeated.
//!
//! `docs/PROTOCOL.md` tables all of it, and a test compares the table with this file.

use std::time::Duration;

use crate::limits::{INPUT_BYTES_FREE, NAME_CHARS_MAX, WHO_BYTES_MAX};
use crate::line;
use crate::name;

/// The language of the server's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// Chinese, as the seed speaks.
    #[default]
    Zh,
    /// English.
    En,
}

impl Lang {
    /// Appends what a newcomer is told first of all.
    pub fn welcome(self, who: &str, out: &mut Vec<u8>) {
        match self {
            Self::Zh => append_line(out, ["欢迎 ", who]),
            Self::En => append_line(out, ["Welcome ", who]),
        }
    }

    /// Appends what all others are told when a member has entered.
    pub fn arrival(self, who: &str, out: &mut Vec<u8>) {
        match self {
            Self::Zh => append_line(out, [who, " 上线"]),
            Self::En => append_line(out, [who, " joined"]),
        }
    }

    /// Appends what all others are told when a member has left.
    pub fn departure(self, who: &str, out: &mut Vec<u8>) {
        match self {
            Self::Zh => append_line(out, [who, " 下线"]),
            Self::En => append_line(out, [who, " left"]),
        }
    }

    /// Appends what all are told, the member too, before it is first heard of, if its arrival was one of a count.
    pub fn here(self, who: &str, out: &mut Vec<u8>) {
        match self {
            Self::Zh => append_line(out, [who, " 在场"]),
            Self::En => append_line(out, [who, " is here"]),
        }
    }

    /// Appends what all are told of those who have entered and left without being told of by name.
    pub fn counted(self, joined: u64, left: u64, out: &mut Vec<u8>) {
        let (joined, left) = (joined.to_string(), left.to_string());
        match self {
            Self::Zh => append_line(out, [&joined, " 人上线，", &left, " 人下线"]),
            Self::En => append_line(out, [&joined, " joined, ", &left, " left"]),
        }
    }

    /// Appends what all are told by whoever keeps the server. A WHO cannot begin so, and neither does what is told to one alone.
    pub fn announcement(self, text: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"-! ");
        line::clean(text, out);
        out.push(b'\n');
    }

    /// The [announcement](Self::announcement) that nobody more is let in.
    pub fn draining(self) -> &'static str {
        match self {
            Self::Zh => "服务器将要停止：不再接受新的连接",
            Self::En => "server is about to stop: nobody more is let in",
        }
    }

    /// Appends what all are told, the member too, when it has taken a new name.
    pub fn renamed(self, who: &str, new: &str, out: &mut Vec<u8>) {
        match self {
            Self::Zh => append_line(out, [who, " 改名 ", new]),
            Self::En => append_line(out, [who, " is now ", new]),
        }
    }
}

/// What one member alone is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// It was let go and missed a run of lines (laws 2 and 6).
    Missed {
        /// How many lines of the room.
        lines: u64,
    },
    /// Its line was too long and was refused whole.
    TooLong {
        /// Most bytes of a line's text.
        line_bytes_max: usize,
    },
    /// Its line was refused as memory for partial lines is spent (law 7).
    Unspared,
    /// Its line begins with a slash and is no command.
    UnknownCommand,
    /// The name that it wants clashes with another's.
    NameTaken {
        /// The name that it wants: a valid one.
        name: &'a str,
    },
    /// What it wants to be called is no name.
    NameRefused(name::Error),
    /// The commands, a line each.
    Help,
    /// How many members there are: the first line of the answer to `/who`.
    Present {
        /// The one who asks among them.
        members: usize,
    },
    /// One of them: a line of the answer to `/who`.
    Member {
        /// Its WHO.
        who: &'a str,
    },
    /// A line of it took too long from the first byte to the last: we close.
    LineDeadline {
        /// How long a line may take.
        limit: Duration,
    },
    /// Its first line is a request of HTTP: we close. It is the body of a response.
    Http,
    /// It begins a handshake of TLS: we close.
    Tls,
    /// It has to say a password before it may enter.
    PasswordWanted,
    /// The password is wrong; it may try again.
    PasswordWrong,
    /// The password is wrong, for the last time: we close.
    PasswordRefused,
    /// Too many passwords were tried from its address: we close.
    PasswordHasty,
    /// No right password came in time: we close.
    PasswordDeadline {
        /// In what time.
        limit: Duration,
    },
    /// Who comes from its address is not let in.
    NotLetIn,
    /// There are as many connections as there may be: it is not let in.
    ServerFull {
        /// How many there may be.
        connections_max: usize,
    },
    /// There are as many connections from its address as there may be: it is not let in.
    AddressFull {
        /// How many there may be.
        per_ip_max: usize,
    },
    /// Connections came too fast from its address: it is not let in.
    AddressHasty {
        /// How many may come for long.
        per_second: u32,
    },
    /// It was removed from the room: we close.
    Removed,
    /// The server is stopping: we close.
    Stopping,
}

impl Notice<'_> {
    /// Appends the notice: whole lines, each beginning with `-- `. One line, but for [`Notice::Help`].
    pub fn write(&self, lang: Lang, out: &mut Vec<u8>) {
        match lang {
            Lang::Zh => self.write_zh(out),
            Lang::En => self.write_en(out),
        }
    }

    fn write_zh(&self, out: &mut Vec<u8>) {
        let text = match *self {
            Self::Missed { lines } => format!("错过 {lines} 行"),
            Self::TooLong { line_bytes_max } => format!("这行太长，没有发出：一行最多 {line_bytes_max} 字节"),
            Self::Unspared => {
                format!("这行没有发出：留给长行的内存暂时用完了，{INPUT_BYTES_FREE} 字节以内的行不受影响")
            }
            Self::UnknownCommand => "没有这个命令：输入 /help 查看命令；要说以 / 开头的话，请以 // 开头".to_owned(),
            Self::NameTaken { name } => format!("名字 {name} 已有人用，或与别人的名字太像：请换一个"),
            Self::NameRefused(error) => format!("名字不行：{}", refusal_zh(error)),
            Self::Help => {
                append_line(out, ["-- /name NEW  改名为 NEW"]);
                append_line(out, ["-- /who  谁在这里"]);
                append_line(out, ["-- /help  列出这些命令"]);
                append_line(out, ["-- /quit  离开"]);
                "//TEXT  说 /TEXT".to_owned()
            }
            Self::Present { members } => format!("在线 {members} 人"),
            Self::Member { who } => format!("  {who}"),
            Self::LineDeadline { limit } => format!("一行过了 {limit:?} 还没有写完：连接关闭"),
            Self::Http => "这里是聊天室，不是网站：请用 nc、telnet 或 unisono connect 连接".to_owned(),
            Self::Tls => "这个端口不用 TLS：连接关闭".to_owned(),
            Self::PasswordWanted => "请先输入密码".to_owned(),
            Self::PasswordWrong => "密码不对，请再试".to_owned(),
            Self::PasswordRefused => "密码不对：连接关闭".to_owned(),
            Self::PasswordHasty => "来自你的地址的密码试得太频繁：连接关闭，请稍后再来".to_owned(),
            Self::PasswordDeadline { limit } => format!("{limit:?} 内没有收到正确的密码：连接关闭"),
            Self::NotLetIn => "这里不接受来自你的地址的连接".to_owned(),
            Self::ServerFull { connections_max } => format!("服务器已满：最多 {connections_max} 个连接，请稍后再来"),
            Self::AddressFull { per_ip_max } => format!("来自你的地址的连接太多：最多 {per_ip_max} 个"),
            Self::AddressHasty { per_second } => {
                format!("连接得太频繁：每个地址每秒最多 {per_second} 次，请稍后再来")
            }
            Self::Removed => "你已被移出".to_owned(),
            Self::Stopping => "服务器即将停止".to_owned(),
        };
        append_line(out, ["-- ", &text]);
    }

    fn write_en(&self, out: &mut Vec<u8>) {
        let text = match *self {
            Self::Missed { lines } => format!("missed {lines} lines"),
            Self::TooLong { line_bytes_max } => format!("line too long, not said: at most {line_bytes_max} bytes"),
            Self::Unspared => format!(
                "line not said: memory for long lines is spent for now, lines up to {INPUT_BYTES_FREE} bytes still pass"
            ),
            Self::UnknownCommand => {
                "no such command: /help lists them; to say a line with / in front, begin with //".to_owned()
            }
            Self::NameTaken { name } => format!("name {name} is taken, or too much like another's: choose another"),
            Self::NameRefused(error) => format!("name refused: {error}"),
            Self::Help => {
                append_line(out, ["-- /name NEW  be called NEW"]);
                append_line(out, ["-- /who  who is here"]);
                append_line(out, ["-- /help  list these commands"]);
                append_line(out, ["-- /quit  leave"]);
                "//TEXT  say /TEXT".to_owned()
            }
            Self::Present { members } => format!("{members} here"),
            Self::Member { who } => format!("  {who}"),
            Self::LineDeadline { limit } => format!("line not ended within {limit:?}: connection closed"),
            Self::Http => {
                "this port is a chat room and no web server: connect with nc, telnet or unisono connect".to_owned()
            }
            Self::Tls => "no TLS on this port: connection closed".to_owned(),
            Self::PasswordWanted => "password, please".to_owned(),
            Self::PasswordWrong => "wrong password, try again".to_owned(),
            Self::PasswordRefused => "wrong password: connection closed".to_owned(),
            Self::PasswordHasty => {
                "too many passwords tried from your address: connection closed, try again later".to_owned()
            }
            Self::PasswordDeadline { limit } => format!("no right password within {limit:?}: connection closed"),
            Self::NotLetIn => "connections from your address are not let in here".to_owned(),
            Self::ServerFull { connections_max } => {
                format!("server full: at most {connections_max} connections, try again later")
            }
            Self::AddressFull { per_ip_max } => format!("too many connections from your address: at most {per_ip_max}"),
            Self::AddressHasty { per_second } => {
                format!("connecting too fast: at most {per_second} a second from each address, try again later")
            }
            Self::Removed => "you were removed".to_owned(),
            Self::Stopping => "server is stopping".to_owned(),
        };
        append_line(out, ["-- ", &text]);
    }
}

/// What [`name::Error`] says in English, in Chinese.
fn refusal_zh(error: name::Error) -> String {
    match error {
        name::Error::Empty => "至少要有一个字符".to_owned(),
        name::Error::NotUtf8 => "要用 UTF-8 编码".to_owned(),
        name::Error::TooLong { chars, bytes } => {
            format!("最多 {NAME_CHARS_MAX} 个字符、{WHO_BYTES_MAX} 字节，这个有 {chars} 个字符、{bytes} 字节")
        }
        name::Error::Space => "只能是一个词，不能有空格".to_owned(),
        name::Error::Colon => "不能有冒号或像冒号的字符".to_owned(),
        name::Error::Forbidden { character } => {
            format!("只能有看得见的字符，不能有 U+{:04X}", u32::from(character))
        }
        name::Error::LeadingHyphen => "不能以连字符、破折号或像它们的字符开头".to_owned(),
        name::Error::LeadingMark => "不能以组合符号开头".to_owned(),
        name::Error::Marks => format!("连续的组合符号最多 {} 个，也不能重复", name::MARKS_IN_A_ROW_MAX),
        name::Error::Reserved => "太像服务器自己的话".to_owned(),
        name::Error::Given => "太像服务器给没有名字的人的称呼".to_owned(),
    }
}

fn append_line<const N: usize>(out: &mut Vec<u8>, parts: [&str; N]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = include_str!("../docs/PROTOCOL.md");
    const HEADER: &str = "| notice | when | zh | en |";

    /// Stand for the numbers and for the character that a table can only call by a letter.
    const N: usize = 7_654_321;
    const M: usize = 1_234_567;
    const CHARACTER: char = '\u{202E}';

    /// What the table calls the notice. No `_` arm: a new notice has to get its row.
    fn row_name(notice: Notice<'_>) -> &'static str {
        match notice {
            Notice::Missed { .. } => "missed",
            Notice::TooLong { .. } => "line too long",
            Notice::Unspared => "line unspared",
            Notice::UnknownCommand => "unknown command",
            Notice::NameTaken { .. } => "name taken",
            Notice::NameRefused(error) => match error {
                name::Error::Empty => "name empty",
                name::Error::NotUtf8 => "name not UTF-8",
                name::Error::TooLong { .. } => "name too long",
                name::Error::Space => "name with space",
                name::Error::Colon => "name with colon",
                name::Error::Forbidden { .. } => "name with forbidden",
                name::Error::LeadingHyphen => "name after hyphen",
                name::Error::LeadingMark => "name after mark",
                name::Error::Marks => "name with marks",
                name::Error::Reserved => "name reserved",
                name::Error::Given => "name given",
            },
            Notice::Help => "help",
            Notice::Present { .. } => "present",
            Notice::Member { .. } => "member",
            Notice::LineDeadline { .. } => "line deadline",
            Notice::Http => "HTTP request",
            Notice::Tls => "TLS handshake",
            Notice::PasswordWanted => "password wanted",
            Notice::PasswordWrong => "password wrong",
            Notice::PasswordRefused => "password refused",
            Notice::PasswordHasty => "password hasty",
            Notice::PasswordDeadline { .. } => "password deadline",
            Notice::NotLetIn => "not let in",
            Notice::ServerFull { .. } => "server full",
            Notice::AddressFull { .. } => "address full",
            Notice::AddressHasty { .. } => "address hasty",
            Notice::Removed => "removed",
            Notice::Stopping => "stopping",
        }
    }

    const NOTICES: [Notice<'static>; 33] = [
        Notice::Missed { lines: N as u64 },
        Notice::TooLong { line_bytes_max: N },
        Notice::Unspared,
        Notice::UnknownCommand,
        Notice::NameTaken { name: "NEW" },
        Notice::NameRefused(name::Error::Empty),
        Notice::NameRefused(name::Error::NotUtf8),
        Notice::NameRefused(name::Error::TooLong { chars: N, bytes: M }),
        Notice::NameRefused(name::Error::Space),
        Notice::NameRefused(name::Error::Colon),
        Notice::NameRefused(name::Error::Forbidden { character: CHARACTER }),
        Notice::NameRefused(name::Error::LeadingHyphen),
        Notice::NameRefused(name::Error::LeadingMark),
        Notice::NameRefused(name::Error::Marks),
        Notice::NameRefused(name::Error::Reserved),
        Notice::NameRefused(name::Error::Given),
        Notice::Help,
        Notice::Present { members: N },
        Notice::Member { who: "WHO" },
        Notice::LineDeadline { limit: Duration::from_secs(N as u64) },
        Notice::Http,
        Notice::Tls,
        Notice::PasswordWanted,
        Notice::PasswordWrong,
        Notice::PasswordRefused,
        Notice::PasswordHasty,
        Notice::PasswordDeadline { limit: Duration::from_secs(N as u64) },
        Notice::NotLetIn,
        Notice::ServerFull { connections_max: N },
        Notice::AddressFull { per_ip_max: N },
        Notice::AddressHasty { per_second: 7_654_321 },
        Notice::Removed,
        Notice::Stopping,
    ];

    /// The lines that `write` appends, with placeholders as in the table, and checked to be whole.
    fn lines(write: impl Fn(&mut Vec<u8>)) -> Vec<String> {
        let mut out = b"before\n".to_vec();
        write(&mut out);
        let text = String::from_utf8(out).expect("the server speaks UTF-8");
        let lines = text.strip_prefix("before\n").expect("what was there stays");
        let lines = lines.strip_suffix('\n').expect("a notice ends with a line feed");
        let lines = lines
            .replace(&format!("{N}s"), "TIME")
            .replace(&N.to_string(), "N")
            .replace(&M.to_string(), "M")
            .replace("U+202E", "U+XXXX");
        lines.split('\n').map(str::to_owned).collect()
    }

    /// The rows as code has them: name, Chinese, English.
    fn rows_of_code() -> Vec<(String, Vec<String>, Vec<String>)> {
        type Word = fn(Lang, &mut Vec<u8>);
        let words: [(&str, Word); 9] = [
            ("welcome", |lang, out| lang.welcome("WHO", out)),
            ("arrival", |lang, out| lang.arrival("WHO", out)),
            // What is said has no language and is no word of the server's; it is in the table to make that whole.
            ("line", |_, out| out.extend_from_slice(b"WHO: TEXT\n")),
            ("announcement", |lang, out| lang.announcement(b"TEXT", out)),
            ("draining", |lang, out| lang.announcement(lang.draining().as_bytes(), out)),
            ("departure", |lang, out| lang.departure("WHO", out)),
            ("renamed", |lang, out| lang.renamed("WHO", "NEW", out)),
            ("counted", |lang, out| lang.counted(N as u64, M as u64, out)),
            ("here", |lang, out| lang.here("WHO", out)),
        ];
        let words = words
            .into_iter()
            .map(|(name, word)| (name.to_owned(), lines(|out| word(Lang::Zh, out)), lines(|out| word(Lang::En, out))));
        let notices = NOTICES.into_iter().map(|notice| {
            let [zh, en] = [Lang::Zh, Lang::En].map(|lang| lines(|out| notice.write(lang, out)));
            (row_name(notice).to_owned(), zh, en)
        });
        words.chain(notices).collect()
    }

    /// The rows as the document has them. Lines of one notice are parted by `<br>`, each is in backticks.
    fn rows_of_document() -> Vec<(String, Vec<String>, Vec<String>)> {
        let bytes = |cell: &str| -> Vec<String> {
            let bare = |line: &str| line.strip_prefix('`').and_then(|line| line.strip_suffix('`')).map(str::to_owned);
            cell.split("<br>").map(|line| bare(line).unwrap_or_else(|| panic!("not in backticks: {line}"))).collect()
        };
        let table = PROTOCOL.lines().skip_while(|line| *line != HEADER).skip(2);
        let rows = table.take_while(|line| line.starts_with('|')).map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [name, _, zh, en] = cells[..] else { panic!("not four cells: {row}") };
            (name.to_owned(), bytes(zh), bytes(en))
        });
        rows.collect()
    }

    #[test]
    fn document_tables_every_word_of_the_server() {
        let (code, document) = (rows_of_code(), rows_of_document());
        for (code, document) in code.iter().zip(&document) {
            assert_eq!(code, document, "code left, docs/PROTOCOL.md right");
        }
        assert_eq!(code.len(), document.len(), "rows of code and of docs/PROTOCOL.md");
    }

    #[test]
    fn wire_bytes_of_the_seed_stand() {
        fn check(write: impl Fn(&mut Vec<u8>), expected: &str) {
            assert_eq!(lines(write), [expected]);
        }
        check(|out| Lang::Zh.welcome("127.0.0.1:5", out), "欢迎 127.0.0.1:5");
        check(|out| Lang::Zh.arrival("127.0.0.1:5", out), "127.0.0.1:5 上线");
        check(|out| Lang::Zh.departure("127.0.0.1:5", out), "127.0.0.1:5 下线");
        check(|out| Lang::Zh.renamed("127.0.0.1:5", "bob", out), "127.0.0.1:5 改名 bob");
        check(|out| Lang::En.welcome("127.0.0.1:5", out), "Welcome 127.0.0.1:5");
        check(|out| Lang::En.arrival("127.0.0.1:5", out), "127.0.0.1:5 joined");
        check(|out| Lang::En.departure("127.0.0.1:5", out), "127.0.0.1:5 left");
        check(|out| Lang::En.renamed("127.0.0.1:5", "bob", out), "127.0.0.1:5 is now bob");
        check(|out| Lang::Zh.counted(12, 0, out), "12 人上线，0 人下线");
        check(|out| Lang::En.counted(1, 12, out), "1 joined, 12 left");
        check(|out| Lang::Zh.here("127.0.0.1:5", out), "127.0.0.1:5 在场");
        check(|out| Lang::En.here("127.0.0.1:5", out), "127.0.0.1:5 is here");
        check(|out| Notice::Missed { lines: 12 }.write(Lang::Zh, out), "-- 错过 12 行");
        check(|out| Notice::Missed { lines: 1 }.write(Lang::En, out), "-- missed 1 lines");
    }

    /// What a line of the room is, by what stands behind its first word.
    fn kind(line: &str) -> &'static str {
        let (first, rest) = line.split_once(' ').expect("a line of the room has two words");
        if first.ends_with(':') {
            return "line";
        }
        match rest {
            "joined" | "上线" => "arrival",
            "left" | "下线" => "departure",
            "is here" | "在场" => "here",
            _ if rest.starts_with("joined, ") || rest.starts_with("人上线，") => "counted",
            _ if rest.starts_with("is now ") || rest.starts_with("改名 ") => "renamed",
            _ => panic!("no line of the room: {line}"),
        }
    }

    /// Whatever names people take, and whatever they say.
    #[test]
    fn lines_of_the_room_are_told_apart_by_what_follows_their_first_word() {
        let names = ["12", "5,", "joined,", "joined", "left", "here", "is", "人上线，", "上线", "在场"];
        for name in names {
            name::Name::parse(name.as_bytes()).expect("one may be called so");
        }
        for lang in [Lang::Zh, Lang::En] {
            let check = |expected: &str, write: &dyn Fn(&mut Vec<u8>)| {
                let mut line = Vec::new();
                write(&mut line);
                let line = String::from_utf8(line).expect("the server speaks UTF-8");
                assert_eq!(kind(line.trim_end_matches('\n')), expected, "{line}");
            };
            check("counted", &|out| lang.counted(12, 5, out));
            for who in names {
                check("arrival", &|out| lang.arrival(who, out));
                check("departure", &|out| lang.departure(who, out));
                check("here", &|out| lang.here(who, out));
                check("line", &|out| append_line(out, [who, ": joined, 5 left"]));
                for new in names {
                    check("renamed", &|out| lang.renamed(who, new, out));
                }
            }
        }
    }

    #[test]
    fn notices_are_marked_clean_and_never_mistaken_for_one_another() {
        for lang in [Lang::Zh, Lang::En] {
            let mut seen = Vec::new();
            for notice in NOTICES {
                for line in lines(|out| notice.write(lang, out)) {
                    assert!(line.starts_with("-- "), "{line}");
                    // Only a member of `/who` is indented, so no name can make it another notice.
                    assert_eq!(line.starts_with("--  "), matches!(notice, Notice::Member { .. }), "{line}");
                    let mut cleaned = Vec::new();
                    crate::line::clean(line.as_bytes(), &mut cleaned);
                    assert_eq!(cleaned, line.as_bytes());
                    seen.push(line);
                }
            }
            let count = seen.len();
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), count, "each notice has words of its own");
        }
    }
}
