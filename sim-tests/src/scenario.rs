//! Runs with a story: beside the random swarm, each is made for one kind of trouble, and must meet it.
//!
//! A scenario draws its numbers from a seed and runs over several; what it is for are *marks* that its seeds must have met in
//! the end, or the scenario has become harmless without anybody noticing.

use crate::network::Kind;
use crate::plan::{Act, Links, Plan, Rules, Text, What};
use crate::random::Random;

/// A kind of run.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What one asks for.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Where it can happen.
    pub networks: &'static [Kind],
    /// How many seeds its short form has.
    pub seeds: u64,
    /// Each of these marks is met by one of them on simnet.
    pub meets: &'static [&'static str],
    /// None of these is.
    pub never: &'static [&'static str],
    draw: fn(&mut Script),
}

impl Scenario {
    /// Its plan for a seed. The long form is for those that have one.
    pub fn plan(&self, seed: u64, is_long: bool) -> Plan {
        let mut script = Script::new(self.name, seed, is_long);
        (self.draw)(&mut script);
        script.finish()
    }

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

const SIMNET: &[Kind] = &[Kind::Simnet];
const SIMULATED: &[Kind] = &[Kind::Simnet, Kind::Turmoil];

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "order",
        about: "everybody talks at once over links of their own slowness",
        networks: SIMULATED,
        seeds: 10,
        meets: &["act: Delay", "interleaved", "senders-in-one-read"],
        never: &[],
        draw: order,
    },
    Scenario {
        name: "brackets",
        about: "members go in every way there is, between two bytes of a line and before they were welcome",
        networks: SIMNET,
        seeds: 20,
        meets: &[
            "reset-mid-line",
            "reset-unwelcomed",
            "end-unwelcomed",
            "end-mid-line-said",
            "half-closed-read",
            "reset-told",
            "write-error-told",
            "panic-told",
            "quit",
            "behind-quit",
            "line-of-the-gone",
        ],
        never: &[],
        draw: brackets,
    },
    Scenario {
        name: "names",
        about: "members take names, change their case, ask for those of others and for what is no name",
        networks: SIMULATED,
        seeds: 10,
        meets: &[
            "renamed",
            "renamed-case",
            "name-refused",
            "name-taken",
            "who-answered",
            "help-answered",
            "slash-said",
        ],
        never: &[],
        draw: names,
    },
    Scenario {
        name: "bytes",
        about: "streams move a byte or three at a time, and lines are as long, as odd and as empty as they may be",
        networks: SIMNET,
        seeds: 10,
        meets: &[
            "one-byte-read",
            "many-pieces",
            "short",
            "spurious",
            "longest-said",
            "too-long",
            "empty-said",
            "crlf-said",
            "byte-order-mark",
            "cleaned",
            "broken-utf8",
        ],
        never: &[],
        draw: bytes,
    },
    Scenario {
        name: "patience-a",
        about: "readers that never read cannot keep the room from moving on",
        networks: SIMNET,
        seeds: 10,
        meets: &["demand-of-three-patiences", "let-go", "sender-parked", "backlog-full", "stall-closed"],
        never: &[],
        draw: patience_a,
    },
    Scenario {
        name: "patience-b",
        about: "who drains B per P misses nothing, though the room is overloaded; who drains a quarter of it does",
        networks: SIMNET,
        seeds: 10,
        meets: &["demand-of-three-patiences", "slow-missed-nothing", "let-go", "let-go-again"],
        never: &[],
        draw: patience_b,
    },
    Scenario {
        name: "overload",
        about: "far more is said than goes through: senders wait their turn, and nobody misses anything",
        networks: SIMNET,
        seeds: 10,
        meets: &["sender-parked", "senders-queued", "backlog-full", "parked-came"],
        never: &["let-go"],
        draw: overload,
    },
    Scenario {
        name: "tar-pit",
        about: "clients send and read a byte now and then, for ever",
        networks: SIMNET,
        seeds: 10,
        meets: &["act: Drip", "act: Slow", "line-deadline", "partial-held"],
        never: &[],
        draw: tar_pit,
    },
    Scenario {
        name: "churn",
        about: "crowds come, say a line and go, and some come back",
        networks: SIMULATED,
        seeds: 5,
        meets: &["came-back", "arrivals-in-one-read", "departures-in-one-read", "crowd"],
        never: &[],
        draw: churn,
    },
    Scenario {
        name: "strangers",
        about: "crowds of whom few are told by name come and go, and some of those who are counted speak after all",
        networks: SIMULATED,
        seeds: 10,
        meets: &["counted-in", "counted-out", "counted-then-heard", "heard-uncounted", "renamed", "crowd"],
        never: &[],
        draw: strangers,
    },
    Scenario {
        name: "flood",
        about: "hundreds connect at one instant to a server that takes only so many, and that runs out of files",
        networks: SIMNET,
        seeds: 5,
        meets: &["flood", "queue-full", "refused-full", "refused-address", "accept-fault", "accepted-after-error"],
        never: &[],
        draw: flood,
    },
    Scenario {
        name: "shutdown",
        about: "the server is asked to end while everybody talks, somebody is paused and senders are parked",
        networks: SIMNET,
        seeds: 10,
        meets: &["farewell", "stop-paused", "stop-mid-line", "parked-stop", "grace-spent", "refused-nobody"],
        never: &[],
        draw: shutdown,
    },
    Scenario {
        name: "restart",
        about: "the server crashes and is started again, twice, and its clients come back",
        networks: SIMULATED,
        seeds: 10,
        meets: &["crash-mid-line", "second-life", "third-life", "refused-nobody"],
        never: &[],
        draw: restart,
    },
    Scenario {
        name: "half-open",
        about: "peers lose power, idle or amid what they are sent, and some come back knowing nothing",
        networks: SIMNET,
        seeds: 10,
        meets: &["vanished-late", "vanished-soon", "swallowed", "timed-out", "revived"],
        never: &[],
        draw: half_open,
    },
    Scenario {
        name: "partition",
        about: "links stand still both ways or one, with lines said meanwhile, and heal",
        networks: SIMULATED,
        seeds: 10,
        meets: &["act: Hold", "act: HoldDown", "act: Release", "frozen-written-to", "thawed-many", "let-go-paused"],
        never: &[],
        draw: partition,
    },
    Scenario {
        name: "clock",
        about: "hosts stand still for a while, and all clocks jump",
        networks: SIMNET,
        seeds: 10,
        meets: &["act: Jump", "act: PauseHost", "act: ResumeHost", "act: CrashHost"],
        never: &[],
        draw: clock,
    },
    Scenario {
        name: "errors",
        about: "reads, writes and accepting fail, and tasks panic",
        networks: SIMULATED,
        seeds: 10,
        meets: &["read-fault", "write-fault", "accept-fault", "planted-panic", "panic-told"],
        never: &[],
        draw: errors,
    },
    Scenario {
        name: "tls",
        about: "members speak within TLS, while others do not shake hands as they should, or go before they have",
        networks: SIMNET,
        seeds: 10,
        meets: &[
            "hands-shaken",
            "handshake-garbage",
            "handshake-late",
            "handshake-gone",
            "tls-cut",
            "act: Knock",
            "reset-told",
        ],
        never: &[],
        draw: within_tls,
    },
    Scenario {
        name: "door",
        about: "newcomers are asked for a password: they know it, guess it, say nothing, cut it in pieces, and go meanwhile",
        networks: SIMULATED,
        seeds: 10,
        meets: &[
            "asked",
            "asked-gone",
            "password-wrong",
            "password-refused",
            "password-hasty",
            "password-late",
            "password-third",
            "password-pieces",
        ],
        never: &[],
        draw: at_the_door,
    },
    Scenario {
        name: "keeper",
        about: "whoever keeps the server has something to say, removes members who talk and read, and lets in nobody from a host",
        networks: SIMULATED,
        seeds: 10,
        meets: &["announced", "announced-parked", "removed-told", "removed-behind", "refused-banned", "let-go-untold"],
        never: &[],
        draw: keeper,
    },
    Scenario {
        name: "thousand",
        about: "a thousand clients, who talk, come and go; a simulated minute, or an hour in the long form",
        networks: SIMNET,
        seeds: 1,
        meets: &["crowd", "came-back"],
        never: &[],
        draw: thousand,
    },
];

/// A plan while it is written.
struct Script {
    random: Random,
    is_long: bool,
    plan: Plan,
    /// How many stamps each client has used.
    stamps: Vec<usize>,
}

impl Script {
    fn new(name: &str, seed: u64, is_long: bool) -> Self {
        let plan =
            Plan { seed, rules: Rules::calm(), links: Links::instant(), acts: vec![], heal_ms: 5000, core: vec![] };
        Self { random: Random::new(seed).fork(name), is_long, plan, stamps: Vec::new() }
    }

    fn finish(mut self) -> Plan {
        self.plan.acts.sort_by_key(|act| act.at_ms);
        self.plan
    }

    fn at(&mut self, at_ms: u64, what: What) {
        self.plan.acts.push(Act { at_ms: at_ms.min(self.plan.heal_ms), what });
    }

    /// Some time before the network heals.
    fn any_ms(&mut self) -> u64 {
        self.random.below(self.plan.heal_ms)
    }

    /// Somebody connects: a number for it.
    fn comes(&mut self, at_ms: u64, host: u8) -> usize {
        let client = self.stamps.len();
        self.stamps.push(0);
        let real = self.random.chance(1, 2);
        self.at(at_ms, What::Connect { client, host, real });
        client
    }

    /// Somebody connects who will be there in the end, with everything.
    fn stays(&mut self, at_ms: u64, host: u8) -> usize {
        let client = self.comes(at_ms, host);
        self.plan.core.push(client);
        client
    }

    /// It says lines with so many bytes of filling.
    fn says(&mut self, at_ms: u64, client: usize, count: usize, filling: usize) {
        let first = self.stamp(client, count);
        self.at(at_ms, What::Send { client, text: Text::Lines { first, count, filling } });
    }

    /// Some bytes of a line, without its end.
    fn begins(&mut self, at_ms: u64, client: usize) {
        let stamp = self.stamp(client, 1);
        self.at(at_ms, What::Send { client, text: Text::Partial { stamp, filling: 5 } });
    }

    fn commands(&mut self, at_ms: u64, client: usize, command: &str) {
        self.at(at_ms, What::Send { client, text: Text::Command(command.to_owned()) });
    }

    fn stamp(&mut self, client: usize, count: usize) -> usize {
        let first = self.stamps[client];
        self.stamps[client] += count;
        first
    }

    fn host(&mut self, hosts: u64) -> u8 {
        u8::try_from(self.random.range(1..=hosts)).expect("few")
    }

    /// A few lines of any client, spread over the whole time.
    fn chats(&mut self, client: usize, times: u64) {
        let from_ms = self.plan.acts.iter().find(|act| act.what.client() == Some(client)).map_or(0, |act| act.at_ms);
        for _ in 0..times {
            let at_ms = from_ms + self.random.below(self.plan.heal_ms - from_ms);
            let (count, filling) = (self.random.index(3) + 1, self.random.index(60));
            self.says(at_ms, client, count, filling);
        }
    }
}

fn order(script: &mut Script) {
    script.plan.links.latency_ms = (0, 40);
    for host in 1..=4 {
        let most_ms = script.random.range(0..=100);
        script.at(0, What::Delay { host, most_ms });
        for _ in 0..3 {
            let at_ms = script.random.below(1000);
            let client = script.stays(at_ms, host);
            script.chats(client, 15);
        }
    }
}

fn brackets(script: &mut Script) {
    script.plan.links.latency_ms = (0, script.random.below(20));
    script.plan.links.receive_bytes = *script.random.pick(&[64, 4096]);
    for number in 0..3 {
        let client = script.stays(0, number + 1);
        script.chats(client, 10);
    }
    for number in 0..20 {
        let at_ms = 100 + script.random.below(4000);
        let host = script.host(6);
        let client = script.comes(at_ms, host);
        // Now and then before it can have been welcomed.
        let mut ms = at_ms + *script.random.pick(&[0, 1, 5, 50, 300]);
        if script.random.chance(2, 3) {
            let count = script.random.index(20) + 1;
            script.says(ms, client, count, 20);
            ms += script.random.below(30);
        }
        if script.random.chance(1, 2) {
            script.begins(ms, client);
            ms += script.random.below(2);
        }
        match number % 8 {
            0 | 1 => script.at(ms, What::Reset { client }),
            2 => script.at(ms, What::End { client }),
            3 => {
                // It listens on for a while.
                script.at(ms, What::Pause { client });
                script.at(ms, What::End { client });
                for sip in 1..40 {
                    script.at(ms + sip * 5, What::Sip { client, bytes: 30 });
                }
                script.at(ms + 300, What::Resume { client });
            }
            4 => {
                script.at(ms, What::Send { client, text: Text::LineEnd });
                script.commands(ms, client, "/quit");
                script.says(ms, client, 3, 3);
            }
            5 => {
                script.at(ms, What::WriteError { client });
                script.says(ms, 0, 1, 1);
            }
            6 => script.at(ms, What::Panic { client }),
            _ => script.at(ms, What::ReadError { client }),
        }
    }
}

fn names(script: &mut Script) {
    let clients: Vec<usize> = (0..5).map(|host| script.stays(0, host + 1)).collect();
    for &client in &clients {
        script.commands(100, client, &format!("/name ann{client}"));
        script.chats(client, 5);
        for _ in 0..6 {
            let at_ms = 200 + script.random.below(4000);
            let other = *script.random.pick(&clients);
            // Nobody gives up its first name, so that another's is always taken.
            let command = match script.random.below(6) {
                0 => format!("/name Ann{client}"),
                1 if other != client => format!("/name ann{other}"),
                2 => "/name a b".to_owned(),
                3 => "/who".to_owned(),
                4 => "/help".to_owned(),
                _ => "//slashed".to_owned(),
            };
            script.commands(at_ms, client, &command);
        }
    }
}

fn bytes(script: &mut Script) {
    script.plan.rules.line_bytes_max = *script.random.pick(&[40, 64, 100]);
    let [send_bytes, receive_bytes] = [(); 2].map(|()| *script.random.pick(&[1, 3, 64]));
    script.plan.links = Links { latency_ms: (0, 1), send_bytes, receive_bytes, choppy: true, spurious: true };
    for host in 1..=4 {
        let client = script.comes(0, host);
        let stamp = script.stamp(client, 1);
        script.at(0, What::Send { client, text: Text::Marked { stamp } });
        for _ in 0..12 {
            let at_ms = script.any_ms();
            let stamp = script.stamp(client, 1);
            let prefix = Text::Partial { stamp, filling: 0 }.bytes(client).len();
            let longest = script.plan.rules.line_bytes_max - prefix;
            let text = match script.random.below(6) {
                0 => Text::Empty,
                1 => Text::Crlf { stamp },
                2 => Text::Odd { stamp },
                3 => Text::Lines { first: stamp, count: 1, filling: longest },
                4 => Text::Lines { first: stamp, count: 1, filling: longest + 1 },
                _ => Text::Lines { first: stamp, count: 1, filling: 2 },
            };
            script.at(at_ms, What::Send { client, text });
        }
        if host > 1 {
            script.at(5000, What::End { client });
        }
    }
}

/// Limits whose backlog is soon full.
fn tight(script: &mut Script) {
    let rules = &mut script.plan.rules;
    rules.line_bytes_max = 200;
    rules.backlog_bytes = 16 * 1024;
    rules.patience_ms = Some(300);
    rules.stall_ms = Some(2000);
    let links = &mut script.plan.links;
    (links.send_bytes, links.receive_bytes) = (2048, 2048);
}

fn patience_a(script: &mut Script) {
    tight(script);
    script.plan.heal_ms = 8000;
    for _ in 0..2 {
        let client = script.stays(0, 1);
        for burst in 0..20 {
            script.says(100 + burst * 300, client, 200, 100);
        }
    }
    for _ in 0..3 {
        // The cunning ones: a backlog at once, each time just before they would be let go.
        let client = script.comes(0, 2);
        let bytes = script.plan.rules.backlog_bytes;
        let every_ms = script.random.range(270..=295);
        script.at(50, What::Slow { client, bytes, every_ms, times: 25 });
    }
    for number in 0..20 {
        let at_ms = script.random.below(4000);
        let host = script.host(6);
        let client = script.comes(at_ms, host);
        script.at(at_ms + 1, What::Pause { client });
        if number % 2 == 0 {
            // A sip in time keeps the stall limit away, and earns no patience.
            for sip in 1..10 {
                let every_ms = script.random.range(500..=1500);
                script.at(at_ms + sip * every_ms, What::Sip { client, bytes: 500 });
            }
        }
    }
}

fn patience_b(script: &mut Script) {
    tight(script);
    script.plan.heal_ms = 8000;
    let (backlog_bytes, patience_ms) = (script.plan.rules.backlog_bytes, 300);
    for _ in 0..2 {
        let client = script.stays(0, 1);
        for burst in 0..20 {
            script.says(100 + burst * 300, client, 200, 100);
        }
    }
    for (times, over) in [(2, 1), (2, 1), (4, 1), (1, 4), (1, 8)] {
        let host = script.host(6);
        let client = script.stays(0, host);
        let every_ms = script.random.range(5..=20);
        let bytes = backlog_bytes * usize::try_from(every_ms).expect("short") / patience_ms * times / over;
        script.at(50, What::Slow { client, bytes, every_ms, times: 7000 / every_ms });
    }
}

fn overload(script: &mut Script) {
    tight(script);
    // A link drains three times B per P, and each sender has several times that to say.
    script.plan.rules.patience_ms = Some(1000);
    script.plan.links.latency_ms = (5, 10);
    (script.plan.links.send_bytes, script.plan.links.receive_bytes) = (512, 512);
    for number in 0..8 {
        let host = script.host(6);
        let client = script.stays(100 * number, host);
        for _ in 0..8 {
            let at_ms = 1000 + script.random.below(2000);
            script.says(at_ms, client, 30, 150);
        }
    }
    for _ in 0..10 {
        let (at_ms, host) = (script.random.below(4000), script.host(6));
        script.stays(at_ms, host);
    }
}

fn tar_pit(script: &mut Script) {
    script.plan.rules.line_deadline_ms = *script.random.pick(&[500, 60_000]);
    script.plan.rules.partial_bytes_total = 1 << 20;
    for host in 1..=2 {
        let client = script.stays(0, host);
        script.chats(client, 10);
    }
    for _ in 0..10 {
        let (at_ms, host) = (script.random.below(1000), script.host(6));
        let client = script.comes(at_ms, host);
        let first = script.stamp(client, 5);
        let every_ms = *script.random.pick(&[1, 10, 100]);
        if script.random.chance(1, 2) {
            script.says(at_ms, client, 1, 0);
            script.at(at_ms + 1, What::Send { client, text: Text::Partial { stamp: 9, filling: 3000 } });
        }
        let text = Text::Lines { first, count: 5, filling: 30 };
        script.at(at_ms + 2, What::Drip { client, text, every_ms });
        // A client has one such habit at a time.
        let (at_ms, host) = (script.random.below(1000), script.host(6));
        let client = script.comes(at_ms, host);
        script.at(at_ms + 5, What::Slow { client, bytes: 1, every_ms, times: 4000 / every_ms });
    }
}

fn churn(script: &mut Script) {
    for host in 1..=2 {
        let client = script.stays(0, host);
        script.chats(client, 10);
    }
    for slot in 0..13 {
        let host = script.host(6);
        let mut at_ms = slot * 30 + script.random.below(1000);
        for _ in 0..2 {
            let crowd = [(); 3].map(|()| script.comes(at_ms, host));
            let comes_ms = at_ms;
            at_ms += 100 + script.random.below(1500);
            let is_clean = script.random.chance(1, 2);
            for client in crowd {
                script.says(comes_ms + 1, client, 1, 10);
                script.at(at_ms, if is_clean { What::End { client } } else { What::Reset { client } });
            }
            at_ms += script.random.below(300);
        }
    }
}

fn strangers(script: &mut Script) {
    script.plan.rules.announcements = Some(*script.random.pick(&[0, 1, 3]));
    script.plan.links.latency_ms = *script.random.pick(&[(0, 0), (0, 20)]);
    let client = script.stays(0, 1);
    script.chats(client, 20);
    for crowd in 0..5 {
        let from_ms = 50 + crowd * 700;
        for number in 0..8 {
            let host = script.host(6);
            let comes_ms = from_ms + script.random.below(200);
            let client = if number == 0 { script.stays(comes_ms, host) } else { script.comes(comes_ms, host) };
            // Before the count is told that has it, or after.
            let speaks_ms = comes_ms + *script.random.pick(&[1, 100, 1200]);
            match script.random.below(5) {
                0 | 1 => script.says(speaks_ms, client, 2, 10),
                2 => script.commands(speaks_ms, client, &format!("/name bob{client}")),
                _ => {}
            }
            if number > 1 {
                let goes_ms = comes_ms + script.random.below(2500);
                let is_clean = script.random.chance(1, 2);
                script.at(goes_ms, if is_clean { What::End { client } } else { What::Reset { client } });
            }
        }
    }
}

fn flood(script: &mut Script) {
    script.plan.rules.connections_max = 60;
    script.plan.rules.per_ip_max = 12;
    script.plan.links.latency_ms = (0, 3);
    for host in 1..=2 {
        let client = script.stays(0, host);
        script.chats(client, 10);
    }
    for errno in [24, 23, 105, 12, 103, 24] {
        let at_ms = script.any_ms();
        script.at(at_ms, What::AcceptError { errno });
    }
    script.at(999, What::AcceptError { errno: 24 });
    for number in 0..200 {
        let host = script.host(6);
        let client = script.comes(1000, host);
        let at_ms = 1000 + script.random.below(2000);
        match number % 3 {
            0 => script.at(at_ms, What::End { client }),
            1 => script.at(at_ms, What::Reset { client }),
            _ => script.says(1000, client, 1, 5),
        }
    }
}

fn shutdown(script: &mut Script) {
    tight(script);
    script.plan.rules.grace_ms = *script.random.pick(&[100, 500, 5000]);
    script.plan.links.latency_ms = (0, 2);
    for number in 0..6 {
        let host = script.host(4);
        let client = script.comes(0, host);
        for _ in 0..6 {
            let at_ms = 800 + script.random.below(500);
            script.says(at_ms, client, 40, 120);
        }
        script.begins(1400, client);
        if number < 2 {
            script.at(900, What::Pause { client });
        }
    }
    let stop_ms = script.random.range(1000..=1500);
    script.at(stop_ms, What::Stop);
    script.comes(stop_ms + 1, 1);
    script.at(stop_ms + 1000, What::Restart);
    let client = script.stays(4900, 1);
    script.says(4950, client, 2, 2);
}

fn restart(script: &mut Script) {
    script.plan.links.latency_ms = (0, 10);
    for life in 0..3 {
        let began_ms = life * 1600;
        for _ in 0..5 {
            let host = script.host(4);
            let at_ms = began_ms + 10 + script.random.below(300);
            let client = if life == 2 { script.stays(at_ms, host) } else { script.comes(at_ms, host) };
            for _ in 0..5 {
                let at_ms = at_ms + 100 + script.random.below(900);
                script.says(at_ms, client, 3, 20);
            }
            if life < 2 {
                script.begins(began_ms + 1300, client);
            }
        }
        if life < 2 {
            let crash_ms = began_ms + 1300 + script.random.below(50);
            script.at(crash_ms, What::Crash);
            script.comes(crash_ms + 20, 1);
            script.at(began_ms + 1500, What::Restart);
        }
    }
}

fn half_open(script: &mut Script) {
    script.plan.rules.stall_ms = *script.random.pick(&[Some(2000), Some(100_000), None]);
    script.plan.links = Links { latency_ms: (0, 5), send_bytes: 4096, receive_bytes: 4096, ..Links::instant() };
    let client = script.stays(0, 1);
    script.chats(client, 60);
    for host in 2..=6 {
        for _ in 0..2 {
            let client = script.comes(0, host);
            script.chats(client, 3);
        }
        let at_ms = 500 + script.random.below(3000);
        match host % 3 {
            0 => {
                script.at(at_ms, What::VanishHost { host });
                script.at(at_ms + 500, What::ReviveHost { host });
                let client = script.stays(at_ms + 600, host);
                script.chats(client, 2);
            }
            1 => script.at(at_ms, What::VanishHost { host }),
            _ => {
                let (idle, client) = (script.comes(0, host), script.comes(0, host));
                script.at(5000, What::Vanish { client: idle });
                script.at(at_ms, What::Vanish { client });
            }
        }
    }
    // Somebody vanishes when all has been said.
    let idle = script.comes(0, 7);
    script.at(5000, What::Vanish { client: idle });
}

fn partition(script: &mut Script) {
    tight(script);
    script.plan.links.latency_ms = (0, 5);
    script.plan.rules.stall_ms = *script.random.pick(&[Some(1000), Some(10_000)]);
    for host in 1..=4 {
        for _ in 0..2 {
            let client = script.stays(0, host);
            script.chats(client, 15);
        }
        if host > 1 {
            for part in 0..3 {
                let at_ms = part * 1600 + script.random.below(800);
                let what = if script.random.chance(2, 3) { What::Hold { host } } else { What::HoldDown { host } };
                script.at(at_ms, what);
                let until_ms = at_ms + script.random.range(100..=800);
                script.at(until_ms, What::Release { host });
            }
        }
    }
    let client = script.stays(0, 1);
    script.says(2000, client, 400, 150);
}

fn clock(script: &mut Script) {
    script.plan.rules.line_deadline_ms = 1000;
    for host in 1..=5 {
        for _ in 0..2 {
            let client = script.stays(0, host);
            script.chats(client, 10);
        }
        let at_ms = script.any_ms();
        match host {
            2 | 3 => {
                script.at(at_ms, What::PauseHost { host });
                let until_ms = at_ms + script.random.range(100..=2000);
                script.at(until_ms, What::ResumeHost { host });
            }
            4 => script.at(at_ms, What::CrashHost { host }),
            _ => {}
        }
    }
    for _ in 0..2 {
        let at_ms = script.any_ms();
        let ms = *script.random.pick(&[10, 900, 5000, 100_000]);
        script.at(at_ms, What::Jump { ms });
    }
}

fn errors(script: &mut Script) {
    for number in 0..12 {
        let (at_ms, host) = (script.random.below(2000), script.host(4));
        let client = if number < 3 { script.stays(at_ms, host) } else { script.comes(at_ms, host) };
        script.chats(client, 8);
        let ms = at_ms + 100 + script.random.below(2000);
        match number {
            0..3 => {}
            3..6 => script.at(ms, What::ReadError { client }),
            6..9 => script.at(ms, What::WriteError { client }),
            _ => script.at(ms, What::Panic { client }),
        }
    }
    for errno in [24, 23, 103] {
        let at_ms = script.any_ms();
        script.at(at_ms, What::AcceptError { errno });
    }
}

fn within_tls(script: &mut Script) {
    script.plan.rules.tls = true;
    script.plan.heal_ms = 15_000;
    let most_ms = *script.random.pick(&[0, 0, 5]);
    script.plan.links.latency_ms = (0, most_ms);
    script.plan.links.choppy = script.random.chance(1, 2);
    script.plan.links.receive_bytes = *script.random.pick(&[256, 4096, 65_536]);
    for number in 0..4 {
        let at_ms = number * 500;
        let client = script.stays(at_ms, u8::try_from(number).expect("few") + 1);
        script.chats(client, 10);
    }
    for number in 0..8 {
        let client = script.stamps.len();
        script.stamps.push(0);
        let (at_ms, host) = (script.random.below(3000), script.host(6));
        script.at(at_ms, What::Knock { client, host });
        match number % 4 {
            0 => {}
            1 => script.at(at_ms, What::Send { client, text: Text::Hello { bytes: 60 } }),
            2 => script.at(at_ms, What::Send { client, text: Text::Lines { first: 0, count: 1, filling: 0 } }),
            _ => script.at(at_ms + 100, What::End { client }),
        }
    }
    for number in 0..8 {
        let (at_ms, host) = (script.random.below(10_000), script.host(6));
        let client = script.comes(at_ms, host);
        // Amid the handshake, or long after it.
        let ms = at_ms + *script.random.pick(&[0, 1, 2, 300]);
        match number % 4 {
            0 => script.at(ms, What::Reset { client }),
            1 => script.at(ms, What::Freeze { client }),
            2 => {
                script.says(ms, client, 5, 100);
                script.at(ms, What::Pause { client });
                script.at(ms, What::End { client });
                for sip in 1..40 {
                    script.at(ms + sip * 5, What::Sip { client, bytes: 30 });
                }
                script.at(ms + 300, What::Resume { client });
            }
            _ => script.says(ms, client, 3, 20),
        }
    }
    script.at(11_000, What::Crash);
    script.at(11_500, What::Restart);
    script.plan.core.clear();
    for number in 0..3 {
        let client = script.stays(12_000 + number, 1);
        script.chats(client, 4);
    }
}

fn at_the_door(script: &mut Script) {
    script.plan.rules.password_ms = Some(*script.random.pick(&[0, 50, 300]));
    script.plan.rules.line_deadline_ms = 2000;
    let tries = |script: &mut Script, at_ms, client, rights: &[bool]| {
        for &is_right in rights {
            script.at(at_ms, What::Send { client, text: Text::Password { is_right } });
        }
    };
    for host in 1..=2 {
        let client = script.stays(0, host);
        tries(script, 0, client, &[true]);
        script.chats(client, 10);
    }
    for number in 0..16 {
        let (at_ms, host) = (script.random.below(3000), script.host(6));
        let client = if number % 2 == 0 { script.stays(at_ms, host) } else { script.comes(at_ms, host) };
        match number % 8 {
            0 => tries(script, at_ms, client, &[false, false, true]),
            1 => tries(script, at_ms + 100, client, &[false, false, false, true]),
            2 => {
                script.at(at_ms, What::Drip { client, text: Text::Password { is_right: true }, every_ms: 7 });
                tries(script, at_ms + 400, client, &[true]);
            }
            3 => tries(script, at_ms, client, &[false]),
            4 => {}
            5 => {
                tries(script, at_ms, client, &[true]);
                script.at(at_ms + script.plan.rules.password_ms.unwrap_or(0) / 2, What::Reset { client });
            }
            6 => {
                tries(script, at_ms, client, &[true]);
                script.says(at_ms, client, 3, 20);
            }
            _ => {
                script.says(at_ms, client, 1, 20);
                script.at(at_ms + 1, What::End { client });
            }
        }
    }
    // Somebody guesses, from many connections at once.
    for _ in 0..12 {
        let client = script.comes(3500, 7);
        tries(script, 3500, client, &[false, false, false]);
    }
    // Who comes from there later is heard again.
    let client = script.stays(4900, 7);
    script.at(4900, What::Pause { client });
}

fn keeper(script: &mut Script) {
    tight(script);
    script.plan.heal_ms = 8000;
    for number in 0..3 {
        let client = script.stays(0, number % 2 + 1);
        for burst in 0..12 {
            script.says(100 + burst * 300, client, 100, 100);
        }
    }
    for number in 0..8 {
        let (at_ms, host) = (script.random.below(3000), script.host(4));
        let client = script.comes(at_ms, host);
        script.chats(client, 4);
        if number % 2 == 0 {
            script.at(at_ms + 200, What::Pause { client });
        }
        let at_ms = at_ms + script.random.range(100..=900);
        script.at(at_ms, What::Kick { client });
    }
    for number in 0..6 {
        let at_ms = script.any_ms();
        script.at(at_ms, What::Announce { text: format!("notice {number}") });
        script.at(at_ms, What::Announce { text: format!("10.1.0.1:40000: {number}") });
    }
    let at_ms = 3000 + script.random.below(1000);
    script.at(at_ms, What::Ban { host: 3 });
    for _ in 0..4 {
        let at_ms = at_ms + script.random.below(3000);
        script.comes(at_ms, 3);
    }
    script.at(at_ms + 2000, What::Unban { host: 3 });
}

fn thousand(script: &mut Script) {
    let minutes = if script.is_long { 60 } else { 1 };
    script.plan.heal_ms = minutes * 60_000;
    let mut members: Vec<usize> = Vec::new();
    let host_of = |slot: usize| u8::try_from(slot % 200 + 1).expect("few");
    for slot in 0..1000 {
        members.push(script.comes(slot as u64, host_of(slot)));
    }
    let mut at_ms = 2000;
    while at_ms < script.plan.heal_ms {
        let speaker = *script.random.pick(&members);
        script.says(at_ms, speaker, 1, 20);
        if script.random.chance(1, 8) {
            let slot = script.random.index(members.len());
            let client = members[slot];
            let is_clean = script.random.chance(1, 2);
            script.at(at_ms + 5, if is_clean { What::End { client } } else { What::Reset { client } });
            members[slot] = script.comes(at_ms + 300, host_of(slot));
        }
        if script.random.chance(1, 16) {
            let client = *script.random.pick(&members);
            script.at(at_ms + 6, What::Pause { client });
            script.at(at_ms + 3000, What::Resume { client });
        }
        at_ms += script.random.range(500..=2500);
    }
    script.plan.core = members;
}
