//! Lines on their way: which record sent each line, and which records received it.
//!
//! The judge gives an order only to a run that kept the laws; a picture is wanted most of one that did not. So the lines are
//! laid over one another here once more, and forgivingly. A reader's lines have distances, as it is told how many it missed;
//! a line that is said only once ties a reader to the others, and ties it anew behind anything that does not fit.

use std::collections::{BTreeMap, VecDeque};

use unisono::Lang;

use crate::history::{Client, Event, History, ServerEvent};

/// One line of the room, or one that never came so far. Records are given by their number in the history.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) text: Vec<u8>,
    /// Which life of the server.
    pub(super) life: usize,
    /// Its place in that life; `None` if nobody received it.
    pub(super) place: Option<i64>,
    /// Whose line, arrival, departure or renaming it is.
    pub(super) client: Option<Client>,
    /// It tells that the client left.
    pub(super) is_departure: bool,
    /// The record that sent its last byte.
    pub(super) sent: Option<usize>,
    /// The records that received its last byte.
    pub(super) reads: Vec<usize>,
}

/// A reader was told that it missed lines.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) client: Client,
    /// The last record that received anything before the notice.
    pub(super) from: usize,
    pub(super) record: usize,
    pub(super) lines: i64,
}

/// What one client received of the room.
#[derive(Default)]
struct View {
    life: usize,
    connected: usize,
    /// By which name it was welcomed, until that is noted.
    greeted: Option<Vec<u8>>,
    /// Distance from the first line, the line, and its record.
    lines: Vec<(i64, Vec<u8>, usize)>,
    partial: Vec<u8>,
    next: i64,
    read: Option<usize>,
}

/// What a client sent: for each skeleton the records and texts, in order.
type Said = BTreeMap<Vec<u8>, VecDeque<(usize, Vec<u8>)>>;

/// All lines, by life and place, those that nobody received last; and all notices of lines missed.
pub(super) fn trace(history: &History) -> (Vec<Line>, Vec<Missed>) {
    let clients = super::clients(history);
    let mut views: Vec<View> = (0..clients).map(|_| View::default()).collect();
    let mut said = vec![Said::new(); clients];
    let mut input = vec![(0, Vec::new()); clients];
    let mut names = BTreeMap::new();
    let mut missed = Vec::new();
    for (record, client, event) in history.records.iter().enumerate().map(|(n, of)| (n, of.client, &of.event)) {
        match event {
            Event::Connected { address } => {
                let at = history.records[record].at;
                let starts = |(start, event): &&(_, ServerEvent)| *event == ServerEvent::Started && *start <= at;
                views[client].life = history.server.iter().filter(starts).count().saturating_sub(1);
                views[client].connected = record;
                names.insert((views[client].life, address.clone().into_bytes()), client);
            }
            Event::Received { bytes } => {
                views[client].read(client, record, bytes, history.rules.wire.lang, &mut missed);
                if let Some(who) = views[client].greeted.take() {
                    names.insert((views[client].life, who), client);
                }
            }
            Event::Sent { bytes } => {
                let (last, partial) = &mut input[client];
                *last = record;
                for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                    partial.extend_from_slice(part);
                    if part.ends_with(b"\n") {
                        partial.pop();
                        note(&mut said[client], record, std::mem::take(partial), history.rules.wire.plain);
                    }
                }
            }
            Event::SentEnd if !input[client].1.is_empty() => {
                let (last, partial) = std::mem::take(&mut input[client]);
                note(&mut said[client], last, partial, history.rules.wire.plain);
            }
            _ => {}
        }
    }
    let mut lines = Vec::new();
    for life in 0..=views.iter().map(|view| view.life).max().unwrap_or(0) {
        let mut views: Vec<&View> = views.iter().filter(|view| view.life == life && !view.lines.is_empty()).collect();
        // Of one moment by their numbers, as the judge has them.
        views.sort_by_key(|view| history.records[view.connected].at);
        lines.extend(lay(&views, life, &said));
    }
    for line in &mut lines {
        name(line, &mut names, &mut said, history.rules.wire.lang);
    }
    for (client, said) in said.into_iter().enumerate() {
        let mut unsaid: Vec<_> = said.into_values().flatten().collect();
        unsaid.sort_unstable();
        let line = |(sent, text)| Line { text, client: Some(client), sent: Some(sent), ..Line::default() };
        lines.extend(unsaid.into_iter().map(line));
    }
    (lines, missed)
}

/// What cleaning leaves of a text, and what tells it from others.
fn skeleton(text: &[u8]) -> Vec<u8> {
    let slashes = text.iter().take_while(|byte| **byte == b'/').count();
    text[slashes..].iter().copied().filter(u8::is_ascii_graphic).collect()
}

/// What a line says behind a name, if it says anything.
fn text_of(line: &[u8]) -> Option<&[u8]> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    line[..space].ends_with(b":").then_some(&line[space + 1..])
}

/// Whether it tells how many came and went.
fn is_count(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = &line[digits..];
    digits > 0 && (rest.starts_with(b" joined, ") || rest.starts_with(" 人上线，".as_bytes()))
}

fn note(said: &mut Said, record: usize, text: Vec<u8>, is_plain: bool) {
    let is_command = !is_plain && text.starts_with(b"/") && !text.starts_with(b"//");
    if !is_command {
        said.entry(skeleton(&text)).or_default().push_back((record, text));
    }
}

impl View {
    fn read(&mut self, client: Client, record: usize, bytes: &[u8], lang: Lang, missed: &mut Vec<Missed>) {
        let (welcome, run) = match lang {
            Lang::Zh => ("欢迎 ", ["-- 错过 ", " 行"]),
            Lang::En => ("Welcome ", ["-- missed ", " lines"]),
        };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                continue;
            }
            self.partial.pop();
            let line = std::mem::take(&mut self.partial);
            let text = String::from_utf8_lossy(&line);
            let count = text.strip_prefix(run[0]).and_then(|rest| rest.strip_suffix(run[1]));
            if let Some(lines) = count.and_then(|count| count.parse::<u32>().ok()).map(i64::from) {
                missed.push(Missed { client, from: self.read.unwrap_or(record), record, lines });
                self.next += lines;
            } else if self.lines.is_empty() && text.starts_with(welcome) {
                self.greeted = Some(text[welcome.len()..].as_bytes().to_vec());
            } else if !text.starts_with("-- ") {
                self.lines.push((self.next, line, record));
                self.next += 1;
            }
        }
        self.read = Some(record);
    }
}

/// Lays the views of one life over one another.
fn lay(views: &[&View], life: usize, said: &[Said]) -> Vec<Line> {
    // A text that no view has twice, and that nobody sent twice, is a tie.
    let is_repeated = |text: &[u8]| {
        let skeleton = text_of(text).map(skeleton);
        skeleton.is_some_and(|skeleton| said.iter().any(|said| said.get(&skeleton).is_some_and(|sent| sent.len() > 1)))
    };
    let mut ties: BTreeMap<&[u8], bool> = BTreeMap::new();
    for view in views {
        let mut own: Vec<&[u8]> = view.lines.iter().map(|(_, text, _)| &text[..]).collect();
        own.sort_unstable();
        for same in own.chunk_by(|one, other| one == other) {
            *ties.entry(same[0]).or_insert_with(|| !is_repeated(same[0]) && !is_count(same[0])) &= same.len() == 1;
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    let mut known: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut slots: BTreeMap<i64, usize> = BTreeMap::new();
    let mut waiting: Vec<&View> = views.to_vec();
    while !waiting.is_empty() {
        let tied = |view: &&View| {
            let found = view.lines.iter().find_map(|(far, text, _)| Some((far, *known.get(&text[..])?)));
            found.and_then(|(far, line)| Some(lines[line].place? - far))
        };
        // Who shares but repeated lines with the others has probably seen the last of them.
        let alike = |view: &&View| {
            let place = |text: &[u8]| lines.iter().filter(|line| line.text == text).filter_map(|line| line.place).max();
            // A count says nothing of that: there are others like it.
            let mut telling = view.lines.iter().rev().filter(|(_, text, _)| !is_count(text));
            telling.find_map(|(far, text, _)| Some(place(text)? - far))
        };
        // Whom nothing ties to the others comes behind them, with a place between.
        let beyond = slots.last_key_value().map_or(0, |(place, _)| place + 2);
        let offset_of = |view| tied(view).or_else(|| alike(view));
        let next = waiting.iter().position(|view| tied(view).is_some());
        let next = next.or_else(|| waiting.iter().position(|view| alike(view).is_some())).unwrap_or(0);
        let mut offset = offset_of(&waiting[next]).unwrap_or(beyond);
        let view = waiting.remove(next);
        for (far, text, record) in &view.lines {
            if let Some(place) = known.get(&text[..]).and_then(|line| lines[*line].place) {
                offset = place - far;
            }
            let place = far + offset;
            let here = slots.get(&place).copied().filter(|line| lines[*line].text == *text);
            let line = known.get(&text[..]).copied().or(here).unwrap_or_else(|| {
                lines.push(Line { text: text.clone(), life, place: Some(place), ..Line::default() });
                slots.entry(place).or_insert(lines.len() - 1);
                lines.len() - 1
            });
            if ties[&text[..]] {
                known.insert(text, line);
            }
            lines[line].reads.push(*record);
        }
    }
    let least = lines.iter().filter_map(|line| line.place).min().unwrap_or(0);
    for line in &mut lines {
        line.place = line.place.map(|place| place - least);
        line.reads.sort_unstable();
    }
    lines.sort_by_key(|line| (line.place, line.reads[0]));
    lines
}

/// Finds out whose line it is, and where it was sent.
fn name(line: &mut Line, names: &mut BTreeMap<(usize, Vec<u8>), Client>, said: &mut [Said], lang: Lang) {
    let (left, renamed) = match lang {
        Lang::Zh => ("下线", "改名 "),
        Lang::En => ("left", "is now "),
    };
    let Some(space) = line.text.iter().position(|byte| *byte == b' ') else { return };
    let (who, rest) = (&line.text[..space], &line.text[space + 1..]);
    let named = who.strip_suffix(b":");
    line.client = names.get(&(line.life, named.unwrap_or(who).to_vec())).copied();
    if named.is_some() {
        let skeleton = skeleton(rest);
        let has_said = |said: &Said| said.get(&skeleton).is_some_and(|sent| !sent.is_empty());
        // Nobody may have seen how it came to its name.
        line.client = line.client.or_else(|| said.iter().position(has_said));
        let sent = line.client.and_then(|client| said[client].get_mut(&skeleton)?.pop_front());
        line.sent = sent.map(|(record, _)| record);
    } else if let Some(new) = rest.strip_prefix(renamed.as_bytes())
        && let Some(client) = line.client
    {
        names.insert((line.life, new.to_vec()), client);
    } else {
        line.is_departure = rest == left.as_bytes();
    }
}
