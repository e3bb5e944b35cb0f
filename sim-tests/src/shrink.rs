//! Shrinking: the smallest plan that still breaks what a large one broke.
//!
//! The one idea: a change is only ever tried towards less, and kept if the plan still breaks. So a plan is shrunk when no
//! single change is kept any more, and shrinking it again changes nothing. Cheap and large changes come first: whole clients,
//! then runs of acts, in halves, quarters and so on down to one; then the server's rules, what is sent, and the times.
//! Nothing is drawn: the same plan, judged the same way by as many runs, gives the same result.
//!
//! What a smaller plan could not have been drawn as, as a backlog below four lines, is never tried: it would accuse the
//! server of what its rules already forbid.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::network::Kind;
use crate::plan::{Act, Plan, TLS_BUFFER_BYTES_MIN, Text, What};
use crate::run::{self, Outcome};

/// What shrinking may cost. Only when time runs out does the result depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most runs.
    pub runs: usize,
    /// After this nothing more is tried; a run that was begun is ended.
    pub time: Duration,
}

impl Default for Budget {
    /// Half a minute.
    fn default() -> Self {
        Self { runs: usize::MAX, time: Duration::from_secs(30) }
    }
}

/// A plan that was shrunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest that was found. It breaks as the first did, if that one did.
    pub plan: Plan,
    /// What it took.
    pub runs: usize,
    /// Nothing smaller is left to try. Otherwise the budget was spent.
    pub is_done: bool,
}

/// What a run broke, by name, the most telling first: `no holes: no-line-is-missing`, or a fault's first line. Two runs that break
/// the same give the same name, whoever was concerned and when.
pub fn broken(outcome: &Outcome) -> Vec<String> {
    let fault = |fault: &String| {
        let line = fault.lines().next().unwrap_or_default();
        // Where it panicked is what tells one panic from another; of all else it is what stands before the details.
        let name = if line.starts_with("panicked at") { line } else { line.split(':').next().unwrap_or(line) };
        name.trim_end_matches(':').to_owned()
    };
    let violations = run::judge(outcome).err().unwrap_or_default();
    let laws = violations.iter().map(|violation| format!("{}: {}", violation.law, violation.invariant));
    outcome.faults.iter().map(fault).chain(laws).collect()
}

/// Whether running `plan` breaks `name`, one of what [`broken`] says.
pub fn breaks(network: Kind, plan: &Plan, name: &str) -> bool {
    broken(&run::run(network, plan)).iter().any(|broken| broken == name)
}

/// Reduces `plan` to few clients, acts, lines and faults, while `is_broken` stays true of it.
///
/// `plan` itself is not tried. If it does not break, it may still come back changed, to a smaller one that does.
pub fn shrink(plan: &Plan, is_broken: &mut dyn FnMut(&Plan) -> bool, budget: Budget) -> Shrunk {
    let mut search = Search {
        plan: plan.clone(),
        is_broken,
        may_be_unsound: !is_sound(plan),
        met: BTreeSet::new(),
        seeds: 0,
        runs: 0,
        budget,
        began: Instant::now(),
    };
    let is_done = search.go();
    Shrunk { plan: search.plan, runs: search.runs, is_done }
}

/// Other seeds that a candidate is tried with: without an act the network draws otherwise, which may only be bad luck.
const SEEDS: u64 = 8;

/// With more acts than this they are not taken out in pairs.
const PAIRED_ACTS: usize = 20;

struct Search<'a> {
    /// The smallest so far.
    plan: Plan,
    is_broken: &'a mut dyn FnMut(&Plan) -> bool,
    may_be_unsound: bool,
    /// Plans that need not be tried again, by hash.
    met: BTreeSet<u64>,
    /// Candidates are tried with so many other seeds, too.
    seeds: u64,
    runs: usize,
    budget: Budget,
    began: Instant,
}

impl Search<'_> {
    /// To the end, where no change is kept; false if the budget did not last.
    fn go(&mut self) -> bool {
        loop {
            let before = self.plan.clone();
            self.drop_clients();
            self.drop_acts();
            self.simplify_rules();
            self.merge_sends();
            self.simplify_acts();
            self.simplify_times();
            self.tidy();
            if self.plan == before {
                // What is dearer only once the rest is at its end.
                self.drop_pairs();
                self.seeds = SEEDS;
                self.drop_clients();
                self.drop_acts();
                self.merge_sends();
                self.simplify_rules();
                self.seeds = 0;
            }
            if self.is_spent() {
                return false;
            }
            if self.plan == before {
                return true;
            }
        }
    }

    fn is_spent(&self) -> bool {
        self.runs >= self.budget.runs || self.began.elapsed() >= self.budget.time
    }

    /// Goes on with `candidate` if it still breaks.
    fn keep(&mut self, mut candidate: Plan) -> bool {
        candidate.core.retain(|core| candidate.acts.iter().any(|act| act.what.client() == Some(*core)));
        if candidate == self.plan || !(self.may_be_unsound || is_sound(&candidate)) {
            return false;
        }
        let own = candidate.seed;
        for seed in std::iter::once(own).chain(0..self.seeds) {
            candidate.seed = seed;
            if self.is_spent() {
                return false;
            }
            let mut hasher = DefaultHasher::new();
            serde_json::to_string(&candidate).expect("a plan is plain data").hash(&mut hasher);
            if !self.met.insert(hasher.finish()) {
                continue;
            }
            self.runs += 1;
            if (self.is_broken)(&candidate) {
                self.plan = candidate;
                return true;
            }
        }
        false
    }

    /// Changes things of which there are `len`: all at once, in halves, in quarters, and so on to each by itself. From the
    /// last to the first, since what comes later is seldom what an earlier one needs; so when some are taken out, those
    /// before them keep their places.
    fn keep_chunks(&mut self, len: impl Fn(&Plan) -> usize, change: impl Fn(&Plan, Range<usize>) -> Plan) {
        let mut size = len(&self.plan);
        while size > 0 {
            let mut end = len(&self.plan);
            while end > 0 && !self.is_spent() {
                let start = end.saturating_sub(size);
                self.keep(change(&self.plan, start..end));
                end = start;
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn drop_clients(&mut self) {
        self.keep_chunks(
            |plan| clients(plan).len(),
            |plan, chunk| {
                let dropped = &clients(plan)[chunk];
                let is_kept = |act: &Act| !act.what.client().is_some_and(|client| dropped.contains(&client));
                with_acts(plan, plan.acts.iter().filter(|act| is_kept(act)))
            },
        );
    }

    fn drop_acts(&mut self) {
        self.keep_chunks(
            |plan| plan.acts.len(),
            |plan, chunk| with_acts(plan, plan.acts[..chunk.start].iter().chain(&plan.acts[chunk.end..])),
        );
    }

    /// Two acts that only make sense together, as a pause and what ends it.
    fn drop_pairs(&mut self) {
        let mut second = self.plan.acts.len();
        while second > 1 && self.plan.acts.len() <= PAIRED_ACTS && !self.is_spent() {
            second -= 1;
            for first in (0..second).rev() {
                let others = self.plan.acts.iter().enumerate().filter(|(at, _)| *at != first && *at != second);
                if self.keep(with_acts(&self.plan, others.map(|(_, act)| act))) {
                    second = second.saturating_sub(1).min(self.plan.acts.len());
                    break;
                }
            }
        }
    }

    fn simplify_rules(&mut self) {
        let simple = simple();
        self.keep_chunks(
            |_| simple.len(),
            |plan, chunk| {
                let mut value = serde_json::to_value(plan).expect("a plan is plain data");
                for (pointer, simple) in &simple[chunk] {
                    if let Some(number) = value.pointer_mut(pointer) {
                        *number = simple.clone();
                    }
                }
                serde_json::from_value(value).expect("the simple value is of the field's type")
            },
        );
    }

    /// Puts what a client sends in several goes into one, at the place of the first or the last: all of it, halves, and so on.
    /// What is as many bytes may be more lines.
    fn merge_sends(&mut self) {
        for client in clients(&self.plan) {
            let mut size = sends(&self.plan, client).len();
            while size > 1 {
                let mut end = sends(&self.plan, client).len();
                while end > 1 && !self.is_spent() {
                    let sends = sends(&self.plan, client);
                    end = end.min(sends.len());
                    let merged = &sends[end.saturating_sub(size)..end];
                    let places = [merged.first(), merged.last()].into_iter().flatten().filter(|_| merged.len() > 1);
                    let mut candidates = places.flat_map(|place| [1, 4].map(|times| (*place, times)));
                    candidates.any(|(place, times)| self.keep(with_merged(&self.plan, merged, place, times)));
                    end = if size == 2 { end - 1 } else { end.saturating_sub(size) };
                }
                size = if size == 2 { 1 } else { size.div_ceil(2) };
            }
        }
    }

    fn simplify_acts(&mut self) {
        for at in (0..self.plan.acts.len()).rev() {
            if self.is_spent() {
                return;
            }
            for what in simpler_whats(&self.plan.acts[at].what) {
                let mut candidate = self.plan.clone();
                candidate.acts[at].what = what;
                // What comes next is simpler still in another respect, or was to be tried instead: the next round's matter.
                if self.keep(candidate) {
                    break;
                }
            }
        }
    }

    /// Takes out the time between acts, all of it or what is beyond a round number; everything later moves with it.
    fn simplify_times(&mut self) {
        for share in [0, 4, 2] {
            let gaps: Vec<u64> =
                gaps(&self.plan).iter().map(|gap| gap.checked_div(share).unwrap_or_default()).collect();
            if self.keep(with_gaps(&self.plan, &gaps)) {
                break;
            }
        }
        for at in (0..=self.plan.acts.len()).rev() {
            if self.is_spent() {
                return;
            }
            let gaps = gaps(&self.plan);
            for gap in std::iter::once(0).chain(round_below(gaps[at])) {
                let mut gaps = gaps.clone();
                gaps[at] = gap;
                if self.keep(with_gaps(&self.plan, &gaps)) {
                    break;
                }
            }
        }
    }

    /// The core, and all numbers that only have to differ.
    fn tidy(&mut self) {
        self.keep_chunks(
            |plan| plan.core.len(),
            |plan, chunk| {
                let core = [&plan.core[..chunk.start], &plan.core[chunk.end..]].concat();
                Plan { core, ..plan.clone() }
            },
        );
        let mut dense = self.plan.clone();
        renumber(&mut dense);
        self.keep(dense);
        let mut dense = self.plan.clone();
        restamp(&mut dense);
        self.keep(dense);
        for seed in 0..self.plan.seed.min(SEEDS) {
            if self.keep(Plan { seed, ..self.plan.clone() }) {
                break;
            }
        }
    }
}

/// Whether the numbers can work together, as those of a drawn plan do.
fn is_sound(plan: &Plan) -> bool {
    let (rules, links) = (&plan.rules, &plan.links);
    let (least_ms, most_ms) = links.latency_ms;
    rules.limits().check().is_ok()
        && links.send_bytes.max(links.receive_bytes) <= rules.backlog_bytes / 4
        && (!rules.tls || links.send_bytes.min(links.receive_bytes) >= TLS_BUFFER_BYTES_MIN)
        && least_ms <= most_ms
        && most_ms <= links.most_latency_ms(rules)
}

/// Where in a plan its rules are, and what is simple there: what nobody runs into.
fn simple() -> Vec<(&'static str, Value)> {
    vec![
        ("/rules/flood", json!(null)),
        ("/rules/announcements", json!(null)),
        ("/rules/password_ms", json!(null)),
        ("/rules/tls", json!(false)),
        ("/rules/per_ip_max", json!(usize::MAX)),
        ("/rules/connections_max", json!(usize::MAX)),
        ("/rules/line_deadline_ms", json!(60_000)),
        ("/rules/partial_bytes_total", json!(1 << 24)),
        ("/rules/grace_ms", json!(5000)),
        ("/rules/linger_ms", json!(2000)),
        ("/rules/english", json!(true)),
        ("/rules/plain", json!(false)),
        ("/rules/raw", json!(false)),
        ("/rules/stall_ms", json!(10_000)),
        // These two lean on each other, and so do those next to them.
        ("/rules/line_bytes_max", json!(4096)),
        ("/rules/backlog_bytes", json!(256 << 10)),
        ("/links/send_bytes", json!(65_536)),
        ("/links/receive_bytes", json!(65_536)),
        ("/rules/patience_ms", json!(1000)),
        ("/links/latency_ms", json!([0, 0])),
        ("/links/choppy", json!(false)),
        ("/links/spurious", json!(false)),
    ]
}

fn clients(plan: &Plan) -> Vec<usize> {
    let clients: BTreeSet<usize> = plan.acts.iter().filter_map(|act| act.what.client()).collect();
    clients.into_iter().collect()
}

fn with_acts<'a>(plan: &Plan, acts: impl Iterator<Item = &'a Act>) -> Plan {
    Plan {
        acts: acts.cloned().collect(),
        core: plan.core.clone(),
        rules: plan.rules.clone(),
        links: plan.links.clone(),
        ..*plan
    }
}

/// The time before each act, and before the healing.
fn gaps(plan: &Plan) -> Vec<u64> {
    let mut gaps: Vec<u64> = plan.acts.iter().map(|act| act.at_ms).chain([plan.heal_ms]).collect();
    for at in (1..gaps.len()).rev() {
        gaps[at] = gaps[at].saturating_sub(gaps[at - 1]);
    }
    gaps
}

fn with_gaps(plan: &Plan, gaps: &[u64]) -> Plan {
    let mut plan = plan.clone();
    let mut now_ms = 0;
    let times = plan.acts.iter_mut().map(|act| &mut act.at_ms).chain([&mut plan.heal_ms]);
    for (at_ms, gap) in times.zip(gaps) {
        now_ms += gap;
        *at_ms = now_ms;
    }
    plan
}

/// 1, 2, 5, 10, 20, 50 and so on, below `number`.
fn round_below(number: u64) -> impl Iterator<Item = u64> {
    let powers = std::iter::successors(Some(1_u64), |power| power.checked_mul(10));
    powers.flat_map(|power| [1, 2, 5].map(|digit| power.saturating_mul(digit))).take_while(move |&round| round < number)
}

/// Where a client sends something.
fn sends(plan: &Plan, client: usize) -> Vec<usize> {
    let is_send = |act: &Act| matches!(act.what, What::Send { client: sender, .. } if sender == client);
    (0..plan.acts.len()).filter(|&at| is_send(&plan.acts[at])).collect()
}

/// With one act at `place` that sends as many lines as all of `sends`, so many times.
fn with_merged(plan: &Plan, sends: &[usize], place: usize, times: usize) -> Plan {
    let (mut lines, mut most) = (0, 0);
    for &at in sends {
        let text = if let What::Send { text, .. } = &plan.acts[at].what { text } else { &Text::Empty };
        let (count, filling) = if let Text::Lines { count, filling, .. } = text { (*count, *filling) } else { (1, 0) };
        lines += count;
        most = filling.max(most);
    }
    let mut plan = plan.clone();
    if let What::Send { text, .. } = &mut plan.acts[place].what {
        *text = Text::Lines { first: 0, count: lines * times, filling: most };
    }
    let dropped = |at| at != place && sends.contains(&at);
    let mut at = 0..;
    plan.acts.retain(|_| !at.next().is_some_and(dropped));
    restamp(&mut plan);
    plan
}

/// Acts that are the simpler ones in place of another, as far as they have its fields.
const SIMPLER: &[(&str, &[&str])] = &[
    ("Crash", &["Stop"]),
    ("Drip", &["Send"]),
    ("Freeze", &["Pause"]),
    ("FreezeDown", &["Pause", "Freeze"]),
    ("HoldDown", &["Hold"]),
    ("Panic", &["End", "Reset"]),
    ("ReadError", &["End", "Reset"]),
    ("Reset", &["End"]),
    ("Slow", &["Pause"]),
    ("Vanish", &["End", "Reset"]),
    ("VanishHost", &["CrashHost"]),
    ("WriteError", &["End", "Reset"]),
];

/// What could be done instead, the simplest first. By the names that acts have when printed, so that it holds for those
/// to come.
fn simpler_whats(what: &What) -> Vec<What> {
    let value = serde_json::to_value(what).expect("an act is plain data");
    let mut simpler = Vec::new();
    let (name, fields) = match &value {
        Value::Object(variant) => variant.iter().next().map(|(name, fields)| (name.as_str(), fields.clone())),
        _ => value.as_str().map(|name| (name, Value::Null)),
    }
    .unwrap_or_default();
    for (_, others) in SIMPLER.iter().filter(|(from, _)| *from == name) {
        simpler
            .extend(others.iter().map(|other| if fields.is_null() { json!(other) } else { json!({ *other: fields }) }));
    }
    if let Some(text) = fields.get("text") {
        let stamp = text.as_object().and_then(|text| text.values().next()?.get("stamp"));
        let plain = match stamp {
            Some(stamp) => Some(json!({ "Lines": { "first": stamp, "count": 1, "filling": 0 } })),
            None => text.get("Command").map(|_| json!("Empty")),
        };
        if let Some(plain) = plain {
            let mut value = value.clone();
            value[name]["text"] = plain;
            simpler.push(value);
        }
    }
    simpler.extend(simpler_values("", &value));
    simpler.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect()
}

/// All that differs from `value` in one number, which is less, or in one switch, which is off.
fn simpler_values(key: &str, value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(true) => vec![Value::Bool(false)],
        // What tells one from another is no amount.
        Value::Number(_) if ["client", "first", "stamp", "errno"].contains(&key) => Vec::new(),
        Value::Number(number) => {
            let least = (key == "filling" && number.as_u64() != Some(0)).then_some(0);
            least.into_iter().chain(round_below(number.as_u64().unwrap_or_default())).map(Value::from).collect()
        }
        Value::Object(fields) => {
            let with = |key: &String, simpler| {
                let mut fields = fields.clone();
                fields.insert(key.clone(), simpler);
                Value::Object(fields)
            };
            fields
                .iter()
                .flat_map(|(key, value)| simpler_values(key, value).into_iter().map(move |simpler| with(key, simpler)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Changes the fields of an act by their names.
fn edit(what: &mut What, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::to_value(&*what).expect("an act is plain data");
    if let Some(fields) = value.as_object_mut().and_then(|variant| variant.values_mut().next()) {
        edit(fields);
        *what = serde_json::from_value(value).expect("a number became another");
    }
}

/// Numbers the clients 0, 1, 2 and the hosts 1, 2, 3, in the order of their first acts.
fn renumber(plan: &mut Plan) {
    let (mut clients, mut hosts) = (BTreeMap::new(), BTreeMap::new());
    for act in &mut plan.acts {
        edit(&mut act.what, |fields| {
            for (name, numbers, first) in [("client", &mut clients, 0), ("host", &mut hosts, 1)] {
                if let Some(number) = fields.get_mut(name) {
                    let next = first + numbers.len() as u64;
                    *number = (*numbers.entry(number.as_u64()).or_insert(next)).into();
                }
            }
        });
    }
    let number = |client: &usize| clients.get(&Some(*client as u64)).and_then(|number| usize::try_from(*number).ok());
    plan.core = plan.core.iter().filter_map(number).collect();
}

/// Numbers each client's lines 0, 1, 2.
fn restamp(plan: &mut Plan) {
    let mut next: BTreeMap<Option<usize>, u64> = BTreeMap::new();
    for act in &mut plan.acts {
        let next = next.entry(act.what.client()).or_default();
        edit(&mut act.what, |fields| {
            let text = fields.get_mut("text").and_then(Value::as_object_mut);
            if let Some(fields) = text.and_then(|text| text.values_mut().next()?.as_object_mut()) {
                let lines = fields.get("count").and_then(Value::as_u64).unwrap_or(1);
                for name in ["first", "stamp"] {
                    fields.entry(name).and_modify(|stamp| *stamp = (*next).into());
                }
                *next += lines;
            }
        });
    }
}
