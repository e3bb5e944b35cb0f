//! Shrinking keeps what breaks and nothing else, and a capsule brings it back.
#![cfg(not(loom))]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sim_tests::capsule::Capsule;
use sim_tests::history::Event;
use sim_tests::network::Kind;
use sim_tests::plan::{Act, Plan, Text, What};
use sim_tests::run;
use sim_tests::shrink::{self, Budget, Shrunk};

fn shrink(plan: &Plan, mut is_broken: impl FnMut(&Plan) -> bool) -> Shrunk {
    let shrunk = shrink::shrink(plan, &mut is_broken, Budget::default());
    assert!(shrunk.is_done, "{shrunk:?}");
    assert!(is_broken(&shrunk.plan), "what was shrunk still breaks");
    let again = shrink::shrink(&shrunk.plan, &mut is_broken, Budget::default());
    assert_eq!(again.plan, shrunk.plan, "shrinking it again changes nothing");
    shrunk
}

/// The first drawn plan of which `is_broken` is true, and which is large.
fn draw(is_broken: impl Fn(&Plan) -> bool) -> Plan {
    let mut plans = (0..).map(Plan::draw);
    plans.find(|plan| plan.acts.len() > 60 && plan.clients() > 5 && is_broken(plan)).expect("there are many plans")
}

fn whats(plan: &Plan) -> Vec<&What> {
    plan.acts.iter().map(|act| &act.what).collect()
}

fn sends_then_resets(plan: &Plan) -> bool {
    let has_sent = |act: &Act, client| matches!(act.what, What::Send { client: sender, .. } if sender == client);
    plan.acts.iter().enumerate().any(|(at, act)| match act.what {
        What::Reset { client } => plan.acts[..at].iter().any(|act| has_sent(act, client)),
        _ => false,
    })
}

fn pauses_while_another_speaks(plan: &Plan) -> bool {
    plan.acts.iter().any(|pause| match pause.what {
        What::Pause { client } => plan.acts.iter().any(|act| {
            let lines = match &act.what {
                What::Send { client: other, text: Text::Lines { count, .. } } if *other != client => *count,
                _ => 0,
            };
            lines >= 30 && act.at_ms > pause.at_ms
        }),
        _ => false,
    })
}

fn acts(shrunk: &Shrunk, expected: &[What]) {
    assert_eq!(whats(&shrunk.plan), expected.iter().collect::<Vec<_>>());
}

#[test]
fn plan_of_one_client_comes_down_to_its_two_acts() {
    let shrunk = shrink(&draw(sends_then_resets), sends_then_resets);
    assert_eq!(shrunk.plan.acts.len(), 2);
    assert_eq!((shrunk.plan.clients(), shrunk.plan.heal_ms, shrunk.plan.seed), (1, 0, 0));
    let [send, reset] = &shrunk.plan.acts[..] else { unreachable!("there are two") };
    let one_line = Text::Lines { first: 0, count: 1, filling: 0 };
    assert!(
        matches!(&send.what, What::Send { client: 0, text } if *text == one_line || *text == Text::Empty),
        "{send:?}"
    );
    assert_eq!(reset.what, What::Reset { client: 0 });
    assert!(shrunk.runs < 200, "{} runs", shrunk.runs);
}

#[test]
fn plan_that_needs_two_clients_keeps_both_and_round_numbers() {
    let shrunk = shrink(&draw(pauses_while_another_speaks), pauses_while_another_speaks);
    let many = Text::Lines { first: 0, count: 50, filling: 0 };
    acts(&shrunk, &[What::Pause { client: 0 }, What::Send { client: 1, text: many }]);
    assert_eq!(shrunk.plan.acts.iter().map(|act| act.at_ms).collect::<Vec<_>>(), [0, 1]);
    assert!(shrunk.plan.core.is_empty());
}

#[test]
fn rules_that_do_not_matter_become_simple_and_those_that_do_stay() {
    let is_broken = |plan: &Plan| plan.links.choppy && plan.rules.patience_ms == Some(50);
    let plan = draw(is_broken);
    let shrunk = shrink(&plan, is_broken);
    assert!(shrunk.plan.acts.is_empty());
    let (rules, links) = (&shrunk.plan.rules, &shrunk.plan.links);
    let limits = unisono::Limits {
        line_bytes_max: 4096,
        backlog_bytes: 256 * 1024,
        prompt_bytes: 16 * 1024,
        patience: Duration::from_millis(50),
        stall: Duration::from_secs(10),
        ..unisono::Limits::default()
    };
    assert_eq!(rules.limits(), limits);
    assert!(rules.english && !rules.plain && !rules.raw);
    assert_eq!((links.latency_ms, links.send_bytes, links.receive_bytes), ((0, 0), 65_536, 65_536));
    assert!(links.choppy && !links.spurious);
}

#[test]
fn numbers_that_cannot_work_together_are_never_tried() {
    for seed in 0..10 {
        let shrunk = shrink::shrink(
            &Plan::draw(seed),
            &mut |plan| {
                let (rules, links) = (&plan.rules, &plan.links);
                rules.limits().check().expect("the server takes them");
                assert!(links.latency_ms.0 <= links.latency_ms.1);
                assert!(rules.stall_ms.is_none_or(|stall_ms| links.latency_ms.1 <= stall_ms / 20));
                assert!(links.send_bytes.max(links.receive_bytes) <= rules.backlog_bytes / 4);
                assert!(plan.acts.is_sorted_by_key(|act| act.at_ms), "{plan:?}");
                assert!(plan.acts.last().is_none_or(|act| act.at_ms <= plan.heal_ms));
                rules.backlog_bytes < 10_000 && plan.acts.len().is_multiple_of(2)
            },
            Budget { runs: 150, ..Budget::default() },
        );
        assert!(shrunk.runs <= 150);
    }
}

#[test]
fn same_plan_shrinks_the_same_way_and_within_its_budget() {
    let plan = draw(pauses_while_another_speaks);
    for runs in [0, 1, 10, 40] {
        let shrink = || {
            let mut asked = 0;
            let mut is_broken = |plan: &Plan| {
                asked += 1;
                pauses_while_another_speaks(plan)
            };
            let shrunk = shrink::shrink(&plan, &mut is_broken, Budget { runs, time: Duration::from_secs(60) });
            assert_eq!(shrunk.runs, asked);
            shrunk
        };
        let shrunk = shrink();
        assert_eq!(shrunk, shrink());
        assert_eq!((shrunk.runs, shrunk.is_done), (runs, false));
        assert!(runs > 0 || shrunk.plan == plan);
        assert!(pauses_while_another_speaks(&shrunk.plan));
    }
    let began = Instant::now();
    // The budget is of real time, so a slow run is one that takes some.
    let slow = &mut |_: &Plan| {
        std::thread::sleep(Duration::from_millis(5));
        false
    };
    let shrunk = shrink::shrink(&plan, slow, Budget { runs: usize::MAX, time: Duration::from_millis(50) });
    assert!(!shrunk.is_done && shrunk.runs <= 10 && began.elapsed() < Duration::from_secs(5), "{shrunk:?}");
}

/// With the real server: a reader that was let go stands for a law that broke.
#[test]
fn run_that_lets_a_reader_go_shrinks_to_a_few_acts() {
    let mut lets_go =
        |plan: &Plan| run::run(Kind::Simnet, plan).history.samples.iter().any(|sample| sample.let_gos > 0);
    let plan = (0..1000)
        .map(Plan::draw)
        .find(|plan| (30..50).contains(&plan.acts.len()) && lets_go(plan))
        .expect("many are let go");
    let budget = Budget { runs: 120, ..Budget::default() };
    let shrunk = shrink::shrink(&plan, &mut lets_go, budget);
    assert!(shrunk.plan.acts.len() <= 8, "{:?}", shrunk.plan);
    assert!(lets_go(&shrunk.plan));
}

/// With the real server: somebody was there, said something, and read its end.
#[test]
fn run_that_ends_a_stream_shrinks_to_a_few_acts() {
    let ends = |plan: &Plan| {
        let records = run::run(Kind::Simnet, plan).history.records;
        let said = |client| records.iter().any(|by| by.client == client && matches!(by.event, Event::Sent { .. }));
        records.iter().any(|by| by.event == Event::ReceivedEnd && by.at < Duration::from_secs(60) && said(by.client))
    };
    let plan = (0..1000).map(Plan::draw).find(|plan| plan.clients() > 3 && ends(plan)).expect("many end");
    let shrunk = shrink(&plan, ends);
    assert!(shrunk.plan.acts.len() <= 3, "{:?}", shrunk.plan);
}

/// A directory of this test's own, empty.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("it is ours");
    }
    directory
}

fn capsule() -> Capsule {
    let drawn = Plan::draw(7);
    let shrunk = shrink::shrink(&drawn, &mut sends_then_resets, Budget { runs: 50, ..Budget::default() });
    Capsule::new(Kind::Simnet, &drawn, shrunk.plan, "no holes: no-line-is-missing", 0xABC)
}

#[test]
fn capsule_is_read_as_it_was_written() {
    let (capsule, directory) = (capsule(), directory("capsule-round-trip"));
    let path = capsule.save(&directory).expect("it can be written");
    assert_eq!(path, directory.join("seed-7-no-line-is-missing.json"));
    assert_eq!(capsule.save(&directory).expect("again"), path);
    assert_eq!(Capsule::load(&path).expect("it was just written"), capsule);
    assert_eq!((capsule.trace.as_str(), capsule.network), ("0000000000000abc", Kind::Simnet));
    assert!(fs::read_to_string(&path).expect("it was just written").contains("\"network\": \"simnet\""));
    assert!(capsule.command.ends_with("seed-7-no-line-is-missing.json"), "{}", capsule.command);
    let panic = Capsule::new(Kind::Simnet, &Plan::draw(1), Plan::draw(1), "panicked at src/log.rs:12:5", 0);
    assert_eq!(panic.file_name(), "seed-1-panicked-at-src-log-rs-12-5.json");
}

#[test]
fn what_is_no_capsule_is_refused_in_one_line_that_says_why() {
    let directory = directory("capsule-errors");
    let path = capsule().save(&directory).expect("it can be written");
    let whole = fs::read_to_string(&path).expect("it was just written");
    let cases = [
        (whole[..whole.len() / 2].to_owned(), "EOF while parsing"),
        (whole.replace("\"law\"", "\"lore\""), "unknown field `lore`"),
        (whole.replace("  \"law\": \"no holes: no-line-is-missing\",\n", ""), "missing field `law`"),
        (whole.replace("simnet", "ether"), "unknown variant `ether`, expected one of `simnet`, `turmoil`, `loopback`"),
        (whole.replace("0000000000000abc", "abcdefgh"), "16 hexadecimal digits"),
        (whole.replace("\"actions_after\": ", "\"actions_after\": 9"), "acts, not 9"),
        (whole.replace("\"backlog_bytes\": ", "\"backlog_bytes\": -"), "invalid value: integer `-"),
        (String::new(), "EOF while parsing"),
    ];
    for (text, expected) in cases {
        assert_ne!(text, whole, "{expected}");
        fs::write(&path, text).expect("it can be written");
        let error = Capsule::load(&path).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("seed-7-no-line-is-missing.json"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = Capsule::load(directory.join("none.json")).expect_err("there is none").to_string();
    assert!(error.contains("none.json: "), "{error}");
}

#[test]
fn capsule_of_rules_that_cannot_work_is_refused() {
    let mut capsule = capsule();
    capsule.plan.rules.backlog_bytes = 1;
    let path = capsule.save(directory("capsule-rules")).expect("it can be written");
    let error = Capsule::load(path).expect_err("no server takes that").to_string();
    assert!(error.contains("a backlog of 1 bytes is too small"), "{error}");
}

#[test]
fn capsule_prints_a_test_whose_plan_is_the_plan() {
    let mut capsule = capsule();
    let text = Text::Command("/name \"# \"## 名".to_owned());
    capsule.plan.acts = vec![Act { at_ms: 0, what: What::Send { client: 0, text } }];
    let test = capsule.as_test();
    assert!(test.contains("#[test]\nfn seed_7_no_line_is_missing() {\n"), "{test}");
    let (_, plan) = test.split_once("r###\"").expect("enough hashes");
    let (plan, _) = plan.split_once("\"###").expect("an end");
    assert_eq!(serde_json::from_str::<Plan>(plan).expect("a plan"), capsule.plan);
}
