//! What a run knows beside its history: who had something to say, and who read well enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::client::Blocked;
use crate::history::{Client, Event, History, ServerEvent};
use crate::judge::Facts;
use crate::plan::{Plan, Text, What};

/// What a server's own buffers hold beside the network's.
const OWN_BUFFERS_BYTES: usize = 64 * 1024;

pub(super) fn of(plan: &Plan, history: &History, blocked: &[Blocked], jumps: Vec<(Duration, Duration)>) -> Facts {
    // A link that takes time drains at its own pace, whoever reads.
    let is_instant = plan.links.latency_ms.1 == 0
        && plan.acts.iter().all(|act| !matches!(act.what, What::Delay { .. } | What::Jump { .. }));
    Facts {
        // Whom the server slows may not say what it has to say, nor who is not in.
        demand: if is_instant && plan.rules.flood.is_none() && plan.rules.password_ms.is_none() {
            demand(history, blocked)
        } else {
            Vec::new()
        },
        steady: if is_instant { steady(plan) } else { Vec::new() },
        awake: if is_instant { awake(plan) } else { Vec::new() },
        told_at_once: if is_instant { told_at_once(plan) } else { Vec::new() },
        buffers_bytes: plan.links.send_bytes
            + plan.links.receive_bytes
            + OWN_BUFFERS_BYTES
            + if plan.rules.tls { 2 * OWN_BUFFERS_BYTES } else { 0 },
        is_prompt: is_instant && plan.acts.iter().all(|act| !matches!(act.what, What::AcceptError { .. })),
        jumps,
        ..Facts::default()
    }
}

/// Spans in which some member's connection took nothing of what it wanted to say, though it read and nothing held it.
fn demand(history: &History, blocked: &[Blocked]) -> Vec<(Duration, Duration)> {
    let mut unfit: BTreeMap<Client, Vec<(Duration, Duration)>> = BTreeMap::new();
    // Since when a client has waited for its welcome, and since when it does not read.
    let (mut strange, mut paused) = (BTreeMap::new(), BTreeMap::new());
    for record in &history.records {
        let (at, client) = (record.at, record.client);
        let ended = match record.event {
            Event::Connected { .. } => strange.insert(client, at).and(None),
            Event::Pause => paused.insert(client, at).and(None),
            Event::Received { .. } => strange.remove(&client).map(|from| (from, at)),
            Event::Resume => paused.remove(&client).map(|from| (from, at)),
            Event::Reset | Event::Dropped | Event::ReceivedEnd | Event::ReceivedError { .. } => {
                Some((at, Duration::MAX))
            }
            Event::Knocked { .. } | Event::Refused | Event::Sent { .. } | Event::SentEnd => None,
        };
        unfit.entry(client).or_default().extend(ended);
    }
    for (client, from) in strange.into_iter().chain(paused) {
        unfit.entry(client).or_default().push((from, Duration::MAX));
    }
    // A server that is about to end takes nothing more.
    let mut down = Vec::new();
    let mut ended = None;
    for &(at, event) in &history.server {
        match event {
            ServerEvent::Started => down.extend(ended.take().map(|from| (from, at))),
            _ => ended = ended.or(Some(at)),
        }
    }
    down.extend(ended.map(|from| (from, Duration::MAX)));

    let mut spans: Vec<_> = blocked
        .iter()
        .flat_map(|span| {
            let holes = unfit.get(&span.client).into_iter().flatten().chain(&down).copied();
            without((span.from, span.until), holes)
        })
        .collect();
    spans.sort_unstable();
    let mut joined: Vec<(Duration, Duration)> = Vec::new();
    for (from, until) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => joined.push((from, until)),
        }
    }
    joined
}

/// A span without its holes.
fn without(span: (Duration, Duration), holes: impl Iterator<Item = (Duration, Duration)>) -> Vec<(Duration, Duration)> {
    let mut parts = vec![span];
    for hole in holes {
        let cut = parts.into_iter().flat_map(|(from, until)| [(from, until.min(hole.0)), (from.max(hole.1), until)]);
        parts = cut.filter(|(from, until)| from < until).collect();
    }
    parts
}

/// Who read all the time, or slowly but at twice B per P.
fn steady(plan: &Plan) -> Vec<Client> {
    let Some(patience_ms) = plan.rules.patience_ms.filter(|ms| *ms > 0) else { return Vec::new() };
    let is_too_slow = |what: &What| match *what {
        // Within TLS a connection drains by whole records.
        What::Slow { bytes, every_ms, .. } => {
            plan.rules.tls || (bytes as u64 * patience_ms) < 2 * plan.rules.backlog_bytes as u64 * every_ms
        }
        What::Pause { .. } => true,
        _ => is_held(what),
    };
    let slow = plan.acts.iter().filter_map(|act| match act.what {
        What::Slow { client, .. } => Some(client),
        _ => None,
    });
    let slow: BTreeSet<Client> = slow.collect();
    // Who is told much besides drains less of the room.
    let is_told = |what: &What| match what {
        What::Send { client, text } | What::Drip { client, text, .. } if slow.contains(client) => match text {
            Text::Lines { .. } => {
                let bytes = text.bytes(*client);
                bytes.split(|byte| *byte == b'\n').any(|line| line.len() > plan.rules.line_bytes_max)
            }
            text => matches!(text, Text::Partial { .. } | Text::Command(_)),
        },
        _ => false,
    };
    all_but(plan, |what| is_too_slow(what) || is_told(what))
}

/// Who reads all the time.
fn awake(plan: &Plan) -> Vec<Client> {
    all_but(plan, |what| is_held(what) || matches!(what, What::Pause { .. } | What::Slow { .. }))
}

/// Who breaks its connection, and nothing stands between it and the server.
fn told_at_once(plan: &Plan) -> Vec<Client> {
    // A fault that is planned is met only later.
    let fails = |what: &What| matches!(what, What::WriteError { .. } | What::ReadError { .. } | What::Panic { .. });
    let breaks = |client: &Client| plan.acts.iter().any(|act| act.what == What::Reset { client: *client });
    all_but(plan, |what| is_held(what) || fails(what)).into_iter().filter(breaks).collect()
}

/// Whether for a while nothing moves between a client, or those of a host, and the server.
fn is_held(what: &What) -> bool {
    let is_frozen = matches!(what, What::Freeze { .. } | What::FreezeDown { .. });
    let is_host = matches!(what, What::Hold { .. } | What::HoldDown { .. });
    is_frozen || is_host || matches!(what, What::PauseHost { .. } | What::VanishHost { .. })
}

/// The clients to whom, and to whose hosts, none of this ever happens.
fn all_but(plan: &Plan, what: impl Fn(&What) -> bool) -> Vec<Client> {
    let acts = plan.acts.iter().map(|act| &act.what).filter(|act| what(act));
    let (clients, hosts): (Vec<_>, Vec<_>) = acts.map(|act| (act.client(), act.host())).unzip();
    let came = plan.acts.iter().filter_map(|act| match act.what {
        What::Connect { client, host, .. } => Some((client, host)),
        _ => None,
    });
    let others = came.filter(|(client, host)| !clients.contains(&Some(*client)) && !hosts.contains(&Some(*host)));
    others.map(|(client, _)| client).collect()
}
