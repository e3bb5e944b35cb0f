//! A run as one picture: a page of HTML that needs nothing beside itself.
//!
//! Here all that a run holds is put in one order and written down as data; the page draws it (`picture/page.js`). The same
//! run gives the same bytes. What clients sent and received comes to the page only as escaped text inside of JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use self::lines::Line;
use crate::history::{Client, Event, History, ServerEvent};
use crate::judge::{Order, Violation};
use crate::plan::{Plan, What};

mod lines;

/// Bytes of one event that the page shows.
const SHOWN_BYTES_MAX: usize = 4096;

/// The lane of the room; client `n` has lane `n + 1`.
const ROOM: usize = 0;

const PAGE: &str = include_str!("picture/page.html");
const STYLE: &str = include_str!("picture/page.css");
const SCRIPT: &str = include_str!("picture/page.js");

/// The page of a run: what happened in each lane, how lines travelled, and the laws that broke.
///
/// # Panics
///
/// Never: what is written down is plain data.
pub fn page(title: &str, plan: Option<&Plan>, history: &History, verdict: &Result<Order, Vec<Violation>>) -> String {
    let data = Data::of(title, plan, history, verdict);
    // Inside of a script nothing but `<` can end it, and in JSON `<` stands in strings only.
    let data = serde_json::to_string(&data).expect("it is plain data").replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + data.len());
    let mut rest = PAGE;
    for (mark, part) in [("%TITLE%", &*title), ("%STYLE%", STYLE), ("%DATA%", &data), ("%SCRIPT%", SCRIPT)] {
        let (before, after) = rest.split_once(mark).expect("the page has its marks, in this order");
        page.extend([before, part]);
        rest = after;
    }
    page + rest
}

/// What the page draws. Times are in microseconds; events, kinds, lanes and texts are named by their number.
#[derive(Default, Serialize)]
struct Data {
    title: String,
    /// Rules and links, `name: value`.
    about: Vec<String>,
    backlog_bytes: usize,
    lanes: Vec<Lane>,
    kinds: Vec<Kind>,
    texts: Vec<String>,
    events: Vec<Mark>,
    lines: Vec<Path>,
    spans: Vec<Span>,
    /// Time, bytes held, members.
    samples: Vec<(u64, usize, usize)>,
    healed: Option<(u64, u64)>,
    /// How many lines of which kind the judge found, if it found no fault.
    counts: Option<BTreeMap<&'static str, usize>>,
    broken: Vec<Value>,
}

#[derive(Clone, Default, Serialize)]
struct Lane {
    name: String,
    about: String,
    is_core: bool,
}

/// What can be seen in a lane: an event of a client, one of the server, or an act of the plan.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Kind {
    class: &'static str,
    name: String,
}

/// Time, lane, kind, text, and how many bytes the text stands for.
#[derive(Serialize)]
struct Mark(u64, usize, usize, usize, usize);

/// One line: place, life, whose lane, text, the event that sent it, the events that received it.
#[derive(Serialize)]
struct Path(Option<i64>, usize, Option<usize>, usize, Option<usize>, Vec<usize>);

/// From one event to another of the same lane, or to the end of the run.
#[derive(Serialize)]
struct Span {
    lane: usize,
    kind: &'static str,
    from: usize,
    to: Option<usize>,
    text: String,
}

/// What an event of the page is made of: its index in the plan, the server's events or the records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Act(usize),
    Server(usize),
    Record(usize),
}

/// Values by number, each once.
struct Table<T>(BTreeMap<T, usize>);

impl<T: Ord + Clone> Table<T> {
    fn number(&mut self, value: T) -> usize {
        let next = self.0.len();
        *self.0.entry(value).or_insert(next)
    }

    fn values(self) -> Vec<T> {
        let mut values: Vec<_> = self.0.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        values.into_iter().map(|(value, _)| value).collect()
    }
}

/// How many clients a history knows.
fn clients(history: &History) -> usize {
    history.records.iter().map(|record| record.client + 1).max().unwrap_or(0)
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

/// Text for people: characters stay what they are, what cannot be seen is escaped.
fn escaped(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let mut text = String::with_capacity(shown.len());
    for character in String::from_utf8_lossy(shown).chars() {
        match character {
            '"' | '\'' => text.push(character),
            _ => text.extend(character.escape_debug()),
        }
    }
    text
}

/// The name of an act and its fields but the client: whatever variants there are.
fn tag(what: &What) -> (String, String) {
    match serde_json::to_value(what).expect("it is plain data") {
        Value::Object(variant) => variant.into_iter().next().map_or_else(Default::default, |(name, fields)| {
            (name, entries(&fields).filter(|(field, _)| *field != "client").map(about).collect::<Vec<_>>().join(", "))
        }),
        Value::String(name) => (name, String::new()),
        other => (other.to_string(), String::new()),
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn about((name, value): (&String, &Value)) -> String {
    let value = if value == usize::MAX { "none".to_owned() } else { value.to_string() };
    format!("{}: {}", name.replace('_', " "), if value == "null" { "forever" } else { &value })
}

impl Data {
    fn of(title: &str, plan: Option<&Plan>, history: &History, verdict: &Result<Order, Vec<Violation>>) -> Self {
        let acts = plan.map_or(&[][..], |plan| &plan.acts);
        let (lines, missed) = lines::trace(history);
        let (mut kinds, mut texts) = (Table(BTreeMap::new()), Table(BTreeMap::new()));

        // Whatever is of one moment: acts cause, the server answers, clients see.
        let is_shown = |what: &What| !matches!(what, What::Connect { .. } | What::Send { .. });
        let acts_at = acts.iter().enumerate().filter(|(_, act)| is_shown(&act.what));
        let mut moments: Vec<(Duration, Of)> =
            acts_at.map(|(n, act)| (Duration::from_millis(act.at_ms), Of::Act(n))).collect();
        moments.extend(history.server.iter().enumerate().map(|(n, (at, _))| (*at, Of::Server(n))));
        moments.extend(history.records.iter().enumerate().map(|(n, record)| (record.at, Of::Record(n))));
        moments.sort_unstable();

        let mut number = vec![0; history.records.len()];
        let mut events = Vec::with_capacity(moments.len());
        for (at, of) in &moments {
            let (class, lane, name, bytes) = match *of {
                Of::Act(n) => {
                    let (name, fields) = tag(&acts[n].what);
                    ("act", acts[n].what.client().map_or(ROOM, |client| client + 1), name, fields.into_bytes())
                }
                Of::Server(n) => ("server", ROOM, format!("{:?}", history.server[n].1), Vec::new()),
                Of::Record(n) => {
                    number[n] = events.len();
                    let (name, bytes) = seen(&history.records[n].event);
                    ("event", history.records[n].client + 1, name, bytes)
                }
            };
            let (kind, text) = (kinds.number(Kind { class, name }), texts.number(escaped(&bytes)));
            events.push(Mark(micros(*at), lane, kind, text, bytes.len()));
        }

        let mut spans = server_spans(&moments, history);
        spans.extend(client_spans(&moments, history, acts, &number, &lines));
        spans.extend(missed.iter().map(|missed| Span {
            lane: missed.client + 1,
            kind: "missed",
            from: number[missed.from],
            to: Some(number[missed.record]),
            text: missed.lines.to_string(),
        }));
        let path = |line: Line| {
            let reads = line.reads.iter().map(|record| number[*record]).collect();
            let (text, sent) = (texts.number(escaped(&line.text)), line.sent.map(|record| number[record]));
            Path(line.place, line.life, line.client.map(|client| client + 1), text, sent, reads)
        };
        let mut data = Self {
            title: title.to_owned(),
            backlog_bytes: history.rules.limits.backlog_bytes,
            lanes: lanes(plan, history),
            events,
            lines: lines.into_iter().map(path).collect(),
            spans,
            samples: history.samples.iter().map(|now| (micros(now.at), now.held_bytes, now.members)).collect(),
            healed: history.healed.as_ref().map(|healed| (micros(healed.at), micros(healed.end))),
            counts: verdict.as_ref().ok().map(Order::counts),
            broken: verdict.as_ref().err().into_iter().flatten().map(broken).collect(),
            ..Self::default()
        };
        (data.kinds, data.texts) = (kinds.values(), texts.values());
        if let Some(plan) = plan {
            let [rules, links] = [serde_json::to_value(&plan.rules), serde_json::to_value(&plan.links)]
                .map(|it| it.expect("plain data"));
            data.about = entries(&rules).chain(entries(&links)).map(about).collect();
        }
        data
    }
}

/// The name of an event, and its bytes or words.
fn seen(event: &Event) -> (String, Vec<u8>) {
    match event {
        Event::Sent { bytes } => ("Sent".to_owned(), bytes.clone()),
        Event::Received { bytes } => ("Received".to_owned(), bytes.clone()),
        other => {
            let debug = format!("{other:?}");
            let name = debug.split(|end: char| !end.is_alphanumeric()).next().unwrap_or_default();
            (name.to_owned(), other.to_string().into_bytes())
        }
    }
}

fn broken(violation: &Violation) -> Value {
    json!({
        "law": violation.law.to_string(),
        "invariant": violation.invariant,
        "lanes": violation.clients.iter().map(|client| client + 1).collect::<Vec<_>>(),
        "line": violation.line,
        "at": violation.at.map(micros),
        "detail": violation.detail,
    })
}

fn lanes(plan: Option<&Plan>, history: &History) -> Vec<Lane> {
    let count = clients(history).max(plan.map_or(0, Plan::clients));
    let mut lanes = vec![Lane { name: "room".to_owned(), ..Lane::default() }];
    lanes.extend((0..count).map(|client| Lane { name: format!("#{client}"), ..Lane::default() }));
    for record in &history.records {
        if let Event::Connected { address } = &record.event {
            lanes[record.client + 1].about.clone_from(address);
        }
    }
    for client in history.healed.iter().flat_map(|healed| &healed.core) {
        if let Some(lane) = lanes.get_mut(client + 1) {
            lane.is_core = true;
        }
    }
    lanes
}

/// When the server was ending, and when there was none.
fn server_spans(moments: &[(Duration, Of)], history: &History) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (event, (_, of)) in moments.iter().enumerate() {
        let Of::Server(n) = *of else { continue };
        if let Some(open) = spans.last_mut().filter(|span| span.to.is_none()) {
            open.to = Some(event);
        }
        let kind = match history.server[n].1 {
            ServerEvent::Stopping => "stopping",
            ServerEvent::Stopped | ServerEvent::Crashed => "down",
            ServerEvent::Started => continue,
        };
        spans.push(Span { lane: ROOM, kind, from: event, to: None, text: String::new() });
    }
    spans
}

/// When a client did not read or was held back; and when it was gone and the others did not know yet.
fn client_spans(
    moments: &[(Duration, Of)],
    history: &History,
    acts: &[crate::plan::Act],
    number: &[usize],
    lines: &[Line],
) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut open: BTreeMap<Client, usize> = BTreeMap::new();
    let mut cause: BTreeMap<Option<Client>, (Duration, usize)> = BTreeMap::new();
    for (event, (at, of)) in moments.iter().enumerate() {
        let n = match *of {
            Of::Act(n) => {
                cause.insert(acts[n].what.client(), (*at, n));
                continue;
            }
            Of::Server(_) => continue,
            Of::Record(n) => n,
        };
        let client = history.records[n].client;
        let lane = client + 1;
        match history.records[n].event {
            Event::Pause => {
                // An act of just now is why, be it about this client or about more than one.
                let causes = [cause.get(&Some(client)), cause.get(&None)].into_iter().flatten();
                let why = causes.filter(|(since, _)| at.saturating_sub(*since) < Duration::from_millis(2)).max();
                let text = why.map_or_else(|| "Pause".to_owned(), |(_, act)| tag(&acts[*act].what).0);
                let kind = if text == "Pause" { "pause" } else { "held" };
                if let Some(before) = open.insert(client, spans.len()) {
                    spans[before].to = Some(event);
                }
                spans.push(Span { lane, kind, from: event, to: None, text });
            }
            Event::Reset | Event::Dropped | Event::Resume | Event::ReceivedEnd | Event::ReceivedError { .. } => {
                if let Some(span) = open.remove(&client) {
                    spans[span].to = Some(event);
                }
                if matches!(history.records[n].event, Event::Reset | Event::Dropped) {
                    let is_departure = |line: &&Line| line.is_departure && line.client == Some(client);
                    let told = lines.iter().find(is_departure).map(|line| number[line.reads[0]]);
                    if let Some(to) = told.filter(|to| *to > event) {
                        spans.push(Span { lane, kind: "ghost", from: event, to: Some(to), text: String::new() });
                    }
                }
            }
            _ => {}
        }
    }
    spans
}
