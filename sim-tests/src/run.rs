//! Runs a plan on simnet: the real server on a simulated network, its clients, and the plan's faults at their times. What
//! comes of it is a [`History`] for the judge.
//!
//! One paused runtime, one thread: time goes on only when everyone waits, and the same plan gives the same history.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use unisono::limits::FOREVER;
use unisono::{Room, server};

use crate::history::{self, Event, Healed, History, Record, Sample, ServerEvent};
use crate::judge::{self, Violation};
use crate::network::simnet::{Chop, Connection, Keepalive, Network, Odds, Options, PLANTED_PANIC, Side, SimStream};
use crate::plan::{Plan, What};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What everyone did and saw.
    pub history: History,
    /// Stands for all that happened on the network: the same for the same plan.
    pub trace: u64,
    /// What went wrong that no client can see: a panic that was not planted, a server that ended by itself.
    pub faults: Vec<String>,
}

/// Where the server listens.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 8000);

/// Quiet time in the end, in which everyone of the core gets everything.
const QUIET: Duration = Duration::from_secs(30);

/// Runs `plan`.
///
/// # Panics
///
/// When the plan's limits cannot work together.
pub fn run(plan: &Plan) -> Outcome {
    watch_panics();
    PANICS.take();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets needs nothing");
    let mut outcome = runtime.block_on(async {
        // Timers count in whole ms from the runtime's own start. The first one takes us there, so that no later time has the
        // few microseconds in it that passed between that start and the clock's.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Play::new(plan).play().await
    });
    drop(runtime);
    outcome.faults.extend(PANICS.take());
    outcome
}

/// What the judge says of a run.
///
/// # Errors
///
/// Every law that it broke.
pub fn judge(outcome: &Outcome) -> Result<judge::Order, Vec<Violation>> {
    judge::judge(&outcome.history)
}

thread_local! {
    /// Panics on this thread that were not planted.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes panics that nobody planted; planted ones pass in silence.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let message = info.payload().downcast_ref::<String>().map_or("", String::as_str);
            let planted = [message, info.payload().downcast_ref::<&str>().copied().unwrap_or_default()];
            if !planted.contains(&PLANTED_PANIC) {
                PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
                usual(info);
            }
        }));
    });
}

/// What the clients' tasks write down.
#[derive(Clone)]
struct Recorder {
    epoch: Instant,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Recorder {
    /// Simulated time since the beginning.
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn record(&self, client: usize, event: Event) {
        let record = Record { at: self.now(), client, event };
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

/// What a client is told to do.
enum Order {
    Send(Vec<u8>),
    End,
    Reset,
    /// Do nothing any more: its host has no power.
    Vanish,
    Pause,
    Resume,
    Sip(usize),
}

/// One client, as the run knows it.
struct Person {
    orders: mpsc::UnboundedSender<Order>,
    connection: Arc<Mutex<Option<Connection>>>,
    task: JoinHandle<()>,
    /// Told to stop reading, or held back by the network.
    is_paused: bool,
    is_frozen: bool,
    is_gone: bool,
}

impl Person {
    fn order(&self, order: Order) {
        // A client that has ended takes no orders.
        let _ended = self.orders.send(order);
    }

    fn connection(&self) -> Option<Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One life of the server.
struct Life {
    room: Room,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), server::Error>>,
}

struct Play<'a> {
    plan: &'a Plan,
    network: Network,
    recorder: Recorder,
    people: Vec<Option<Person>>,
    life: Option<Life>,
    server: Vec<(Duration, ServerEvent)>,
    samples: Vec<Sample>,
    faults: Vec<String>,
}

impl<'a> Play<'a> {
    fn new(plan: &'a Plan) -> Self {
        let network = Network::new(plan.seed);
        let [least, most] = [plan.links.latency_ms.0, plan.links.latency_ms.1].map(Duration::from_millis);
        network.set_latency(least..=most);
        network.set_options(options(plan));
        Self {
            plan,
            network,
            recorder: Recorder { epoch: Instant::now(), records: Arc::default() },
            people: (0..plan.clients()).map(|_| None).collect(),
            life: None,
            server: Vec::new(),
            samples: Vec::new(),
            faults: Vec::new(),
        }
    }

    async fn play(mut self) -> Outcome {
        self.start();
        for act in &self.plan.acts {
            tokio::time::sleep_until(self.recorder.epoch + Duration::from_millis(act.at_ms)).await;
            self.act(&act.what).await;
            self.sample();
        }
        tokio::time::sleep_until(self.recorder.epoch + Duration::from_millis(self.plan.heal_ms)).await;
        let healed = self.heal().await;
        self.finish().await;
        let records = std::mem::take(&mut *self.recorder.records.lock().unwrap_or_else(PoisonError::into_inner));
        let rules = history::Rules { limits: self.plan.rules.limits(), wire: self.plan.rules.wire() };
        let history = History { rules, records, server: self.server, samples: self.samples, healed: Some(healed) };
        Outcome { history, trace: self.network.trace().0, faults: self.faults }
    }

    fn now(&self) -> Duration {
        self.recorder.now()
    }

    fn sample(&mut self) {
        if let Some(life) = &self.life {
            let tally = life.room.tally();
            self.samples.push(Sample {
                at: self.now(),
                held_bytes: tally.held_bytes,
                partial_bytes: tally.partial_bytes,
                members: tally.members,
                seats: tally.seats,
                said_bytes: tally.said_bytes,
                let_gos: tally.let_gos,
            });
        }
    }

    // The server.

    fn start(&mut self) {
        let room = Room::new(self.plan.rules.limits(), self.plan.rules.wire()).expect("a plan's limits work together");
        let listener = self.network.listen_with(SERVER, 64, server_options(self.plan)).expect("nothing listens there");
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server::run(vec![listener], room.clone(), async { drop(stopped.await) }));
        self.server.push((self.now(), ServerEvent::Started));
        self.life = Some(Life { room, stop: Some(stop), running });
    }

    /// Waits for the end of a server that was asked to end.
    async fn stopped(&mut self) {
        if let Some(life) = self.life.as_mut().filter(|life| life.stop.is_none()) {
            match (&mut life.running).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.faults.push(format!("the server ended: {error}")),
                Err(error) => self.faults.push(format!("the server's task ended: {error}")),
            }
            self.sample();
            self.server.push((self.now(), ServerEvent::Stopped));
            self.life = None;
        }
    }

    fn stop(&mut self) {
        if let Some(life) = &mut self.life
            && life.stop.take().is_some()
        {
            self.server.push((self.recorder.now(), ServerEvent::Stopping));
        }
    }

    async fn crash(&mut self) {
        if let Some(life) = self.life.take() {
            life.running.abort();
            let _ended = life.running.await;
            self.server.push((self.now(), ServerEvent::Crashed));
        }
    }

    // The clients.

    async fn act(&mut self, what: &What) {
        match *what {
            What::Connect { client, host } => self.connect(client, host),
            What::AcceptError { errno } => self.network.fail_accept(SERVER, io::Error::from_raw_os_error(errno)),
            What::Stop => self.stop(),
            What::Crash => self.crash().await,
            What::Restart => {
                self.stop();
                self.stopped().await;
                if self.life.is_none() {
                    self.start();
                }
            }
            _ => {
                let client = what.client().expect("all others are about a client");
                if let Some(person) = self.people[client].as_mut().filter(|person| !person.is_gone) {
                    Self::act_on(client, person, &self.recorder, what);
                }
            }
        }
    }

    fn act_on(client: usize, person: &mut Person, recorder: &Recorder, what: &What) {
        let connection = person.connection();
        match (what, connection) {
            (What::Send { text, .. }, _) => person.order(Order::Send(text.bytes(client))),
            (What::End { .. }, _) => person.order(Order::End),
            (What::Reset { .. }, _) => {
                person.is_gone = true;
                person.order(Order::Reset);
            }
            (What::Pause { .. }, _) => {
                person.is_paused = true;
                person.order(Order::Pause);
            }
            (What::Resume { .. }, _) => {
                person.is_paused = false;
                person.order(Order::Resume);
            }
            (What::Sip { bytes, .. }, _) => person.order(Order::Sip(*bytes)),
            (What::Vanish { .. }, Some(connection)) => {
                person.is_gone = true;
                recorder.record(client, Event::Reset);
                connection.vanish(Side::Client);
                person.order(Order::Vanish);
            }
            (What::Freeze { .. } | What::FreezeDown { .. }, Some(connection)) => {
                person.is_frozen = true;
                recorder.record(client, Event::Pause);
                connection.freeze(Side::Server);
                if matches!(what, What::Freeze { .. }) {
                    connection.freeze(Side::Client);
                }
            }
            (What::Thaw { .. }, Some(connection)) => Self::thaw(client, person, recorder, &connection),
            (What::WriteError { .. }, Some(connection)) => {
                person.is_gone = true;
                recorder.record(client, Event::Reset);
                connection.fail_write(Side::Server, ErrorKind::ConnectionReset);
            }
            (What::Panic { .. }, Some(connection)) => {
                person.is_gone = true;
                recorder.record(client, Event::Reset);
                connection.panic_on_read(Side::Server);
            }
            _ => {}
        }
    }

    fn thaw(client: usize, person: &mut Person, recorder: &Recorder, connection: &Connection) {
        if std::mem::take(&mut person.is_frozen) {
            connection.thaw(Side::Server);
            connection.thaw(Side::Client);
            if !person.is_paused {
                recorder.record(client, Event::Resume);
            }
        }
    }

    fn connect(&mut self, client: usize, host: u8) {
        let (orders, order) = mpsc::unbounded_channel();
        let connection = Arc::new(Mutex::new(None));
        let life = ClientTask {
            client,
            recorder: self.recorder.clone(),
            orders: order,
            unsent: Vec::new(),
            ends: false,
            paused: false,
            sip_bytes: 0,
            is_open: true,
        };
        let (network, shared) = (self.network.clone(), Arc::clone(&connection));
        let task = tokio::spawn(async move {
            match network.connect(Plan::address(host), SERVER).await {
                Ok(stream) => {
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.connection());
                    life.live(stream).await;
                }
                Err(_) => life.recorder.record(client, Event::Refused),
            }
        });
        let person = Person { orders, connection, task, is_paused: false, is_frozen: false, is_gone: false };
        self.people[client] = Some(person);
    }

    // The end.

    /// Makes the network whole for the core, and waits until everything has come to rest.
    async fn heal(&mut self) -> Healed {
        self.stopped().await;
        if self.life.is_none() {
            self.start();
        }
        let rules = &self.plan.rules;
        let holds_for_ever = rules.patience_ms.is_none() && rules.stall_ms.is_none();
        let at = self.now();
        let mut core = Vec::new();
        for (client, person) in self.people.iter_mut().enumerate() {
            let Some(person) = person else { continue };
            let connection = person.connection();
            let is_core = self.plan.core.contains(&client);
            if is_core && !person.is_gone && !person.task.is_finished() {
                if let Some(connection) = &connection {
                    Self::thaw(client, person, &self.recorder, connection);
                }
                if std::mem::take(&mut person.is_paused) {
                    person.order(Order::Resume);
                }
                // Whatever line it was amid ends here.
                person.order(Order::Send(b"\n".to_vec()));
                core.push(client);
            } else if holds_for_ever && let Some(connection) = &connection {
                // Endless patience with who takes nothing is a room that stands still; that is what was asked for.
                if !person.is_gone {
                    person.is_gone = true;
                    self.recorder.record(client, Event::Reset);
                }
                connection.vanish(Side::Client);
                connection.reset(Side::Server);
                person.order(Order::Vanish);
            }
        }
        let limits = rules.limits();
        let waits = [limits.stall, limits.patience].into_iter().filter(|limit| *limit != FOREVER).sum::<Duration>();
        // Longer than any of the server's own limits, of which one may follow another.
        tokio::time::sleep(QUIET + 2 * waits + Duration::from_secs(100)).await;
        self.sample();
        Healed { at, end: self.now(), core }
    }

    /// Ends the server, and everything else with it.
    async fn finish(&mut self) {
        self.stop();
        self.stopped().await;
        self.samples.extend(self.samples.last().cloned().map(|last| Sample { at: self.recorder.now(), ..last }));
        for person in std::mem::take(&mut self.people).into_iter().flatten() {
            drop(person.orders);
            let _ended = person.task.await;
        }
    }
}

fn options(plan: &Plan) -> Options {
    let odds = |is_on| if is_on { Odds { hits: 1, of: 4 } } else { Odds::NEVER };
    Options {
        send_bytes: plan.links.send_bytes,
        receive_bytes: plan.links.receive_bytes,
        chop: Chop { odds: odds(plan.links.choppy), bytes_max: 3 },
        spurious: odds(plan.links.spurious),
        ..Options::default()
    }
}

/// The server's sockets: as `unisono::listen::Tcp` has them.
fn server_options(plan: &Plan) -> Options {
    let stall = plan.rules.limits().stall;
    let keepalive = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), retries: 3 };
    let user_timeout = (stall != FOREVER).then(|| stall.max(Duration::from_secs(90)));
    Options { user_timeout, keepalive: Some(keepalive), ..options(plan) }
}

/// A client's task.
struct ClientTask {
    client: usize,
    recorder: Recorder,
    orders: mpsc::UnboundedReceiver<Order>,
    unsent: Vec<u8>,
    /// Its input ends once all is sent.
    ends: bool,
    paused: bool,
    /// Bytes that it reads though paused.
    sip_bytes: usize,
    /// Its own direction is open.
    is_open: bool,
}

/// What happened next.
enum Turn {
    Order(Option<Order>),
    Wrote(io::Result<usize>),
    Ended,
    Read(io::Result<Vec<u8>>),
}

impl ClientTask {
    async fn live(mut self, mut stream: SimStream) {
        self.record(Event::Connected { address: stream.local_addr().to_string() });
        let mut has_power = true;
        loop {
            match self.turn(&mut stream, has_power).await {
                Turn::Order(None) => return,
                Turn::Order(Some(Order::Send(bytes))) if !self.ends => self.unsent.extend(bytes),
                Turn::Order(Some(Order::Send(_))) => {}
                Turn::Order(Some(Order::End)) => self.ends = true,
                Turn::Order(Some(Order::Reset)) => {
                    self.record(Event::Reset);
                    stream.reset();
                    return;
                }
                Turn::Order(Some(Order::Vanish)) => has_power = false,
                Turn::Order(Some(Order::Pause)) => {
                    self.paused = true;
                    self.record(Event::Pause);
                }
                Turn::Order(Some(Order::Resume)) => {
                    self.paused = false;
                    self.record(Event::Resume);
                }
                Turn::Order(Some(Order::Sip(bytes))) => self.sip_bytes = bytes,
                Turn::Wrote(Ok(bytes)) => {
                    let sent = self.unsent.drain(..bytes).collect();
                    self.record(Event::Sent { bytes: sent });
                }
                Turn::Ended => {
                    self.is_open = false;
                    self.record(Event::SentEnd);
                }
                Turn::Read(Ok(bytes)) if bytes.is_empty() => {
                    self.record(Event::ReceivedEnd);
                    return;
                }
                Turn::Read(Ok(bytes)) => {
                    self.sip_bytes = self.sip_bytes.saturating_sub(bytes.len());
                    self.record(Event::Received { bytes });
                }
                Turn::Wrote(Err(error)) => {
                    // What came before it can still be read.
                    self.unsent.clear();
                    self.is_open = false;
                    self.paused = false;
                    self.record(Event::ReceivedError { kind: error.kind().to_string() });
                }
                Turn::Read(Err(error)) => {
                    self.record(Event::ReceivedError { kind: error.kind().to_string() });
                    return;
                }
            }
        }
    }

    fn record(&self, event: Event) {
        self.recorder.record(self.client, event);
    }

    async fn turn(&mut self, stream: &mut SimStream, has_power: bool) -> Turn {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(order) = self.orders.poll_recv(cx) {
                return Poll::Ready(Turn::Order(order));
            }
            if !has_power {
                return Poll::Pending;
            }
            if !self.paused || self.sip_bytes > 0 {
                let mut bytes = [0; 4096];
                let most = if self.paused { self.sip_bytes.min(bytes.len()) } else { bytes.len() };
                let mut buffer = ReadBuf::new(&mut bytes[..most]);
                if let Poll::Ready(result) = Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    return Poll::Ready(Turn::Read(result.map(|()| buffer.filled().to_vec())));
                }
            }
            if self.is_open && !self.unsent.is_empty() {
                if let Poll::Ready(result) = Pin::new(&mut *stream).poll_write(cx, &self.unsent) {
                    return Poll::Ready(Turn::Wrote(result));
                }
            } else if self.is_open
                && self.ends
                && let Poll::Ready(_done) = Pin::new(&mut *stream).poll_shutdown(cx)
            {
                return Poll::Ready(Turn::Ended);
            }
            Poll::Pending
        })
        .await
    }
}
