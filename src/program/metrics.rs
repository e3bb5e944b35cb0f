//! `--metrics`: the server in numbers, as Prometheus asks for them.
//!
//! All but one are read from the room when somebody asks. The delay is sampled: now and then one line is followed from its
//! being put into the sequence until the last connection that takes anything has taken it, or has shown that it cannot by
//! now. So it is what a member waits at most for whom nothing but this server is in the way. Nothing is measured between two
//! samples, and of those connections that take nothing the log and `let_gos` tell.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
    task::{Wake, Waker},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::{sync::Notify, time::Instant};
use unisono::{Room, listen::Counts, totals::Event};

use crate::journal::Control;

pub(super) mod http;

/// From one sample of the delay to the next, at least.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// The numbers of one server.
pub(super) struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Those of `room`, of what was said to its listeners before lines were, and of the log; of the delays that [`follow_lines`]
    /// observes, and until when the certificate is good.
    pub(super) fn new(room: Room, greetings: Greetings, log: Control, delay: &Delay, not_after: NotAfter) -> Self {
        let mut registry = Registry::with_prefix("unisono");
        registry.register_collector(Box::new(Numbers { room, greetings, log, not_after }));
        registry.register_with_unit(
            "delivery_delay",
            "From a line's being said until all connections that take anything have it; one line now and then",
            Unit::Seconds,
            delay.0.clone(),
        );
        Self { registry }
    }

    /// All of them, in the text format of `OpenMetrics`.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}

/// What becomes of connections before their first line, at each listener, by the kind of greeting.
pub(super) type Greetings = Vec<(&'static str, Arc<Counts>)>;

/// Until when the certificate in use is good; `None` without one.
pub(super) type NotAfter = Box<dyn Fn() -> Option<SystemTime> + Send + Sync>;

/// What is read when somebody asks.
struct Numbers {
    room: Room,
    greetings: Greetings,
    log: Control,
    not_after: NotAfter,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Numbers").field("room", &self.room).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (tally, totals) = (self.room.tally(), self.room.totals());
        let limits = self.room.limits();
        for (name, help, value) in [
            ("members", "Members in the room", tally.members),
            ("connections", "Connections that are open, entered or not", tally.seats),
            ("backlog_bytes", "Bytes of the sequence that some reader has yet to take", tally.held_bytes),
            ("backlog_limit_bytes", "What the backlog holds before patience counts", limits.backlog_bytes),
            ("partial_bytes", "Shared bytes that hold partial lines", tally.partial_bytes),
            ("partial_limit_bytes", "The most of them", limits.partial_bytes_total),
            ("parked_senders", "Senders that wait for the backlog", tally.senders_parked),
        ] {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(u64::try_from(value).unwrap_or(u64::MAX)).encode(gauge)?;
        }
        let (name, help) =
            ("certificate_not_after_seconds", "Until when the certificate is good, as Unix time; TLS only");
        let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        if let Some(not_after) = (self.not_after)() {
            let since_1970 = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            ConstGauge::new(since_1970.as_secs()).encode(gauge)?;
        }
        let count = |event| totals.events.iter().find(|(is, _)| *is == event).map_or(0, |(_, count)| *count);
        for (name, help, value) in [
            ("said_lines", "Lines that members have said", totals.said_lines),
            ("said_bytes", "Bytes of the sequence", tally.said_bytes),
            ("delivered_bytes", "Bytes of the sequence that connections have taken", totals.delivered_bytes),
            ("let_gos", "How often a reader was let go", tally.let_gos),
            ("missed_lines", "Lines that were missed so, over all readers", tally.missed_lines),
            ("accepted_connections", "Connections that were let in", count(Event::Accepted)),
            ("accept_errors", "Errors of accepting, as when no files are left", count(Event::AcceptError)),
            ("lost_log_lines", "Lines of the log that stderr did not take", self.log.lost_lines()),
        ] {
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(counter)?;
        }
        let refused = totals.events.iter().filter_map(|(event, count)| match event {
            Event::Refused(reason) => Some((*reason, *count)),
            _ => None,
        });
        by_reason(&mut encoder, "refused_connections", "Connections that were not let in", refused)?;
        let closed = totals.events.iter().filter_map(|(event, count)| match event {
            Event::Closed(reason) => Some((*reason, *count)),
            _ => None,
        });
        by_reason(&mut encoder, "closed_connections", "Connections that have ended", closed)?;
        by_outcome(&mut encoder, &self.greetings)
    }
}

fn by_reason(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl Iterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, count) in counts {
        ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
    }
    Ok(())
}

/// What has become of greetings, over all listeners.
fn by_outcome(encoder: &mut DescriptorEncoder<'_>, greetings: &Greetings) -> fmt::Result {
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for (kind, counts) in greetings {
        for (outcome, count) in [
            ("through", counts.greeted()),
            ("refused", counts.refused()),
            ("failed", counts.failed()),
            ("late", counts.late()),
        ] {
            *sums.entry((kind, outcome)).or_default() += count;
        }
    }
    let help = "Connections by what became of them before their first line";
    let mut family = encoder.encode_descriptor("greetings", help, None, MetricType::Counter)?;
    for ((kind, outcome), count) in sums {
        ConstCounter::new(count).encode(family.encode_family(&[("kind", *kind), ("outcome", outcome)])?)?;
    }
    Ok(())
}

/// How long lines took.
pub(super) struct Delay(Histogram);

impl Default for Delay {
    fn default() -> Self {
        // 20 us, a line among a few, to 10 s.
        Self(Histogram::new((0..20).map(|step| 20e-6 * f64::from(1 << step))))
    }
}

/// Follows one line after another, until dropped. With nothing said it waits.
pub(super) async fn follow_lines(room: Room, delay: Delay) {
    loop {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let (said, seen) = (Arc::new(Stamp::default()), Arc::new(Stamp::default()));
        room.follow_next_line(Waker::from(Arc::clone(&said)), Waker::from(Arc::clone(&seen)));
        let seen_at = seen.comes().await;
        let said_at = said.comes().await;
        delay.0.observe(seen_at.saturating_duration_since(said_at).as_secs_f64());
    }
}

/// A waker that notes when it was woken, by whoever does it, however late we get to know.
#[derive(Default)]
struct Stamp {
    at: OnceLock<Instant>,
    is_set: Notify,
}

impl Stamp {
    async fn comes(&self) -> Instant {
        loop {
            if let Some(at) = self.at.get() {
                return *at;
            }
            self.is_set.notified().await;
        }
    }
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        self.at.get_or_init(Instant::now);
        self.is_set.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use unisono::{Limits, Wire};
    use yaml_rust2::YamlLoader;

    use super::*;
    use crate::journal;

    fn text() -> String {
        let room = Room::new(Limits::default(), Wire::default()).expect("limits that work");
        let greetings = ["proxy", "tls", "proxy"].map(|kind| (kind, Arc::default())).to_vec();
        Metrics::new(room, greetings, journal::control_of_none(), &Delay::default(), Box::new(|| None)).text()
    }

    /// The names under which Prometheus has them.
    fn names() -> BTreeSet<String> {
        let text = text();
        let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let names = typed.flat_map(|(name, kind)| match kind {
            "counter" => vec![format!("{name}_total")],
            "histogram" => ["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}")).to_vec(),
            _ => vec![name.to_owned()],
        });
        names.collect()
    }

    /// The names of ours in what somebody wrote.
    fn named(text: &str) -> BTreeSet<String> {
        let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        words.filter(|word| word.starts_with("unisono_")).map(str::to_owned).collect()
    }

    #[test]
    fn metrics_that_the_dashboard_and_the_alerts_name_are_there_and_all_are_shown() {
        let (dashboard, alerts) =
            (include_str!("../../contrib/grafana-dashboard.json"), include_str!("../../contrib/prometheus-alerts.yml"));
        let names = names();
        for (file, text) in [("dashboard", dashboard), ("alerts", alerts)] {
            let unknown: Vec<_> = named(text).difference(&names).cloned().collect();
            assert!(unknown.is_empty(), "the {file} has {unknown:?}, which are none of {names:?}");
        }
        let named = named(dashboard);
        let beside = |name: &&String| !named.contains(*name) && !name.ends_with("_sum") && !name.ends_with("_count");
        assert_eq!(names.iter().find(beside), None, "the dashboard does not show it");
    }

    #[test]
    fn every_metric_stands_in_the_document() {
        let text = text();
        let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let document = include_str!("../../docs/OPERATIONS.md");
        for (name, kind) in typed {
            let name = if kind == "counter" { format!("`{name}_total") } else { format!("`{name}") };
            let beside = |rest: &str| rest.starts_with(['`', '{']);
            assert!(
                document.match_indices(&name).any(|(at, _)| beside(&document[at + name.len()..])),
                "{name} does not"
            );
        }
    }

    #[test]
    fn dashboard_is_json_and_alerts_are_yaml_with_what_prometheus_wants() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../contrib/grafana-dashboard.json")).expect("it is JSON");
        let panels = dashboard["panels"].as_array().expect("it has panels");
        for panel in panels {
            assert!(panel["targets"][0]["expr"].is_string(), "{panel}");
        }
        let alerts =
            YamlLoader::load_from_str(include_str!("../../contrib/prometheus-alerts.yml")).expect("it is YAML");
        let rules = alerts[0]["groups"][0]["rules"].as_vec().expect("it has rules");
        assert!(!rules.is_empty());
        for rule in rules {
            let parts = [&rule["alert"], &rule["expr"], &rule["labels"]["severity"], &rule["annotations"]["summary"]];
            assert!(parts.iter().all(|part| part.as_str().is_some()), "{rule:?}");
        }
    }

    /// A room that is told of everything shows what it was told.
    #[test]
    fn text_is_openmetrics_with_a_value_for_each() {
        let text = text();
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("\nunisono_members 0\n"), "{text}");
        assert!(text.contains("\nunisono_backlog_limit_bytes 4194304\n"), "{text}");
        assert!(!text.contains("\nunisono_certificate_not_after_seconds "), "{text}");
        assert!(text.contains("\nunisono_delivery_delay_seconds_count 0\n"), "{text}");
        // Two listeners are one number.
        for (kind, outcome) in [("proxy", "failed"), ("proxy", "through"), ("tls", "late"), ("tls", "refused")] {
            let line = format!("\nunisono_greetings_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} 0\n");
            assert_eq!(text.matches(&line).count(), 1, "{line:?}, {text}");
        }
    }
}
