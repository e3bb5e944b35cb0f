//! The page of a run is made of data that can be checked without looking at it; what it looks like is for `.ci/picture.sh`,
//! which wants the pages as files: they are written to the directory `PICTURE_DIR`, if there is one in the environment.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sim_tests::history::{Event, History, Record, Rules, ServerEvent};
use sim_tests::judge::{self, Order, Violation, What, judge};
use sim_tests::network::Kind;
use sim_tests::picture;
use sim_tests::plan::{self, Act, Plan, Text};
use sim_tests::run;
use unisono::{Lang, Limits, Wire};

/// From where on a telling run is looked for.
const SEED: u64 = 14_168;

/// Most bytes of a page of 20 clients, of which each has about 500 events.
const MANY_BYTES_MAX: usize = 600_000;

fn page(name: &str, plan: Option<&Plan>, history: &History, verdict: &Result<Order, Vec<Violation>>) -> String {
    let seed = plan.map(|plan| format!(", seed {}", plan.seed)).unwrap_or_default();
    let page = picture::page(&format!("unisono: {name}{seed}"), plan, history, verdict);
    keep(name, &page);
    page
}

/// Leaves the page as a file where that is wanted.
fn keep(name: &str, page: &str) {
    if let Some(directory) = std::env::var_os("PICTURE_DIR") {
        std::fs::write(Path::new(&directory).join(name).with_extension("html"), page).expect("it is there");
    }
}

/// The first run that has much to show and is not too large to see: a pause, a broken connection, readers that were let
/// go, and one that was told so. It is looked for, as other plans are drawn whenever there is more that can happen.
fn telling() -> (Plan, History) {
    let lines = |act: &Act| match &act.what {
        plan::What::Send { text: Text::Lines { count, .. }, .. } => *count,
        _ => 0,
    };
    let is_told = |plan: &Plan| {
        let is_pause = |act: &Act| matches!(act.what, plan::What::Pause { .. });
        let is_middling = (8..=10).contains(&plan.clients()) && plan.acts.iter().map(lines).sum::<usize>() < 3000;
        plan.rules.english && is_middling && plan.acts.iter().any(is_pause)
    };
    let is_seen = |history: &History| {
        let of = |is: fn(&Event) -> bool| {
            let records = history.records.iter().filter(move |record| is(&record.event));
            records.map(|record| record.client).collect::<BTreeSet<_>>().len()
        };
        let is_told = |record: &Record| {
            let Event::Received { bytes } = &record.event else { return false };
            bytes.windows(10).any(|ten| ten == b"-- missed ")
        };
        history.samples.iter().any(|sample| sample.let_gos >= 2)
            && history.records.iter().any(is_told)
            && of(|event| *event == Event::Pause) >= 1
            && of(|event| *event == Event::Reset) >= 1
            && (300..2000).contains(&history.records.len())
            && doubtful(history).len() > 20
    };
    let plans = (SEED..).map(Plan::draw).filter(is_told);
    let mut runs =
        plans.map(|plan| (run::run(Kind::Simnet, &plan).history, plan)).filter(|(history, _)| is_seen(history));
    let (history, plan) = runs.next().expect("plans have no end");
    (plan, history)
}

/// What the page's script is given, as it stands in the page.
fn data(page: &str) -> &str {
    let (_, data) = page.split_once("type=\"application/json\">").expect("the data");
    data.split_once("</script>").expect("its end").0
}

fn parsed(page: &str) -> Value {
    serde_json::from_str(data(page)).expect("data in JSON")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).expect("an array")
}

/// What the room said, by place: life, lane, text.
fn said(data: &Value) -> Vec<(u64, Option<u64>, &str)> {
    let lines = array(&data["lines"]).iter().filter(|line| !line[0].is_null());
    let text =
        |line: &Value| data["texts"][line[3].as_u64().and_then(|text| text.try_into().ok()).unwrap_or(0)].as_str();
    lines.map(|line| (line[1].as_u64().expect("a life"), line[2].as_u64(), text(line).expect("a text"))).collect()
}

/// A room as a plain list of lines: everyone says its share, all receive all.
fn many(clients: usize, lines: usize) -> History {
    let mut records = Vec::new();
    let mut push = |client, event| {
        let at = Duration::from_micros(100 * u64::try_from(records.len()).expect("small"));
        records.push(Record { at, client, event });
    };
    let address = |client| format!("10.1.0.{client}:5000");
    for client in 0..clients {
        push(client, Event::Connected { address: address(client) });
        push(client, Event::Received { bytes: format!("Welcome {}\n", address(client)).into_bytes() });
        for reader in 0..client {
            push(reader, Event::Received { bytes: format!("{} joined\n", address(client)).into_bytes() });
        }
    }
    for line in 0..lines {
        let client = line % clients;
        let text = format!("#{client}.{line} {}", "x".repeat(line % 30));
        push(client, Event::Sent { bytes: format!("{text}\n").into_bytes() });
        for reader in 0..clients {
            push(reader, Event::Received { bytes: format!("{}: {text}\n", address(client)).into_bytes() });
        }
    }
    let rules = Rules { limits: Limits::default(), wire: Wire { lang: Lang::En, ..Wire::default() }, password: None };
    let server = vec![(Duration::ZERO, ServerEvent::Started)];
    History { rules, records, server, keeping: Vec::new(), samples: Vec::new(), healed: None }
}

/// Each record that is one whole line said, and is received by somebody who is there to the end.
fn doubtful(history: &History) -> Vec<usize> {
    let core = history.healed.as_ref().map_or(&[][..], |healed| &healed.core);
    let mut amid = BTreeSet::new();
    let mut found = Vec::new();
    for (number, record) in history.records.iter().enumerate() {
        let Event::Received { bytes } = &record.event else { continue };
        let is_line = bytes.ends_with(b"\n") && bytes.split(|byte| *byte == b'\n').count() == 2;
        if is_line && bytes.windows(3).any(|three| three == b": #") && !amid.contains(&record.client) {
            found.extend(core.contains(&record.client).then_some(number));
        }
        if bytes.ends_with(b"\n") {
            amid.remove(&record.client);
        } else {
            amid.insert(record.client);
        }
    }
    found
}

/// A reader loses one whole line from amid its view, as if the server had not sent it.
fn without_a_line(history: &History) -> History {
    let mut history = history.clone();
    let found = doubtful(&history);
    history.records.remove(found[found.len() / 2]);
    history
}

#[test]
fn same_seed_gives_the_same_page() {
    for seed in 0..20 {
        let draw = || {
            let plan = Plan::draw(seed);
            let outcome = run::run(Kind::Simnet, &plan);
            picture::page("seed", Some(&plan), &outcome.history, &run::judge(&outcome))
        };
        assert!(draw() == draw(), "two pages of seed {seed} differ");
    }
}

#[test]
fn everyone_has_a_lane() {
    let (plan, history) = telling();
    let page = page("few", Some(&plan), &history, &judge(&history));
    let data = parsed(&page);
    let lanes: Vec<_> = array(&data["lanes"]).iter().map(|lane| lane["name"].as_str().expect("a name")).collect();
    let wanted: Vec<_> =
        std::iter::once("room".to_owned()).chain((0..plan.clients()).map(|client| format!("#{client}"))).collect();
    assert_eq!(lanes, wanted);
    for kind in ["missed", "pause"] {
        assert!(array(&data["spans"]).iter().any(|span| span["kind"] == kind), "no span of {kind}");
    }
    for mark in ["<script src", "http://", "https://", "<link", "innerHTML"] {
        assert!(!page.contains(mark), "{mark}: the page is to need nothing and to trust nothing");
    }
}

/// What the page shows of the order, found by itself, is what the judge found.
#[test]
fn lines_stand_in_the_order_of_the_judge() {
    let mut lines = 0;
    for seed in 0..120 {
        let plan = Plan::draw(seed);
        let outcome = run::run(Kind::Simnet, &plan);
        let verdict = run::judge(&outcome);
        let Ok(order) = &verdict else { continue };
        if outcome.history.records.len() > 5000 {
            continue;
        }
        let page = picture::page("", Some(&plan), &outcome.history, &verdict);
        let data = parsed(&page);
        let seen = said(&data);
        let shown: Vec<_> =
            seen.iter().filter(|(_, _, text)| text.contains(": ") && !text.starts_with("-! ")).collect();
        let judged = order.entries.iter().filter_map(|entry| match &entry.what {
            What::Said { who, text } => Some((entry, who, String::from_utf8_lossy(text))),
            _ => None,
        });
        let judged: Vec<_> = judged.collect();
        assert_eq!(shown.len(), judged.len(), "seed {seed}");
        for ((life, lane, text), (entry, who, judged)) in shown.into_iter().zip(judged) {
            let is_plain = judged.len() < 4000
                && judged.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
                && !judged.contains('\\');
            assert!(!is_plain || *text == format!("{who}: {judged}"), "seed {seed}: {text:?} is not {judged:?}");
            assert_eq!(*life, u64::try_from(entry.life).expect("small"), "seed {seed}: {text:?}");
            let client = entry.client.and_then(|client| u64::try_from(client + 1).ok());
            assert!(client.is_none() || client == *lane, "seed {seed}: {text:?} is of {client:?}, not of {lane:?}");
            lines += 1;
        }
    }
    assert!(lines > 1000, "only {lines} lines were compared");
}

#[test]
fn broken_law_is_named() {
    let (plan, history) = telling();
    let history = without_a_line(&history);
    let verdict = judge(&history);
    let violations = verdict.as_ref().expect_err("a line is missing");
    let page = page("broken", Some(&plan), &history, &verdict);
    let data = parsed(&page);
    let broken = array(&data["broken"]);
    assert_eq!(broken.len(), violations.len());
    assert!(violations.iter().any(|violation| violation.invariant == "no-line-is-missing"), "{violations:?}");
    for (shown, violation) in broken.iter().zip(violations) {
        assert_eq!(shown["invariant"], violation.invariant);
        assert_eq!(shown["law"], violation.law.to_string());
        assert_eq!(shown["detail"], violation.detail.as_str());
    }
}

#[test]
fn received_bytes_never_leave_their_place() {
    let mut history = many(2, 2);
    let evil = b"</script><script>alert(1)</script><!--\x00\x1b[2J\xff\xe2\x80\xae\xe2\x80\xa8%SCRIPT%\n".to_vec();
    let violation = Violation {
        law: judge::Law::TrueLines,
        invariant: "every-line-was-said",
        clients: vec![1, 7],
        line: Some("</script>".to_owned()),
        at: None,
        detail: "<img onerror=alert(1)>".to_owned(),
    };
    let at = Duration::from_secs(3);
    history.records.push(Record { at, client: 1, event: Event::Received { bytes: evil } });
    history.records.push(Record { at, client: 1, event: Event::ReceivedError { kind: "<b>\n".to_owned() } });
    let plain = page("plain", None, &many(2, 2), &Ok(Order::default()));
    let page = picture::page("</title><script>", None, &history, &Err(vec![violation]));
    keep("hostile", &page);
    let ends =
        |page: &str| (page.matches("</script").count(), page.matches("<script").count(), page.matches("<!--").count());
    assert_eq!(ends(&page), ends(&plain));
    assert!(!data(&page).contains(['<', '\n', '\u{0}', '\u{1b}', '\u{202e}', '\u{2028}']));
    let data = parsed(&page);
    let texts = array(&data["texts"]);
    let shown = "</script><script>alert(1)</script><!--\\0\\u{1b}[2J\u{fffd}\\u{202e}\\u{2028}%SCRIPT%\\n";
    assert!(texts.iter().any(|text| text == shown), "{texts:?}");
}

#[test]
fn page_of_many_is_small() {
    let history = many(20, 476);
    let events = history.records.iter().filter(|record| record.client == 19).count();
    assert!((480..=520).contains(&events), "{events}");
    let page = page("many", None, &history, &judge(&history));
    assert!(page.len() <= MANY_BYTES_MAX, "{} bytes", page.len());
    assert_eq!(said(&parsed(&page)).len(), 476 + 19, "each line is there once");
}

#[test]
fn empty_run_has_a_page() {
    let history = History { records: Vec::new(), server: Vec::new(), ..many(1, 0) };
    let data = parsed(&page("empty", None, &history, &judge(&history)));
    assert_eq!(array(&data["lanes"]).len(), 1);
}
