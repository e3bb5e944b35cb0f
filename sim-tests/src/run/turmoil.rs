//! A run on turmoil: the server and each host of clients have a runtime and a clock of their own, and nothing but messages
//! goes between them.
//!
//! The run stands outside: it steps the simulation, and acts between two steps. All that happens in one step has one time.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use turmoil::Sim;
use turmoil::net::TcpStream;
use unisono::{Room, server};

use super::client::{Breakable, Clock, Newcomer, Noting, Recorder};
use super::{Outcome, Play, World};
use crate::history::{Client, Event};
use crate::network::Turmoil;
use crate::network::faulty::{Fault, Faults, FaultyListener};
use crate::plan::{Plan, What};
use crate::random::Random;

const SERVER: &str = "server";
const PORT: u16 = 8000;

/// Segments that a connection holds, and connections that wait to be accepted. With less, the network loses ends of streams:
/// a FIN needs room among the segments, and is not sent again.
const CAPACITY: usize = 1 << 14;

pub(super) fn run(plan: &Plan) -> Outcome {
    let nanos = Arc::new(AtomicU64::new(0));
    let recorder = Recorder::new(Clock::Steps(Arc::clone(&nanos)));
    let playing = Play::new(plan, TurmoilWorld::new(plan, nanos, recorder.clone()), recorder).play();
    // Time is passed by stepping, not by waiting.
    match pin!(playing).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("nothing waits outside of the simulation"),
    }
}

/// What the server's host takes when it starts, and leaves when it has ended.
#[derive(Default)]
struct Desk {
    start: Option<(Room, oneshot::Receiver<()>)>,
    /// Dropped, it ends the server at once.
    power: Option<oneshot::Sender<()>>,
    ended: Option<Result<(), String>>,
}

struct TurmoilWorld {
    sim: Sim<'static>,
    tick: Duration,
    nanos: Arc<AtomicU64>,
    recorder: Recorder,
    faults: Faults,
    desk: Arc<Mutex<Desk>>,
    is_first_life: bool,
    hosts: BTreeMap<u8, mpsc::UnboundedSender<Message>>,
    clients: BTreeMap<Client, u8>,
    broken: Option<String>,
    /// What whoever keeps the server has to say.
    announcing: VecDeque<Pin<Box<dyn Future<Output = ()>>>>,
}

fn name(host: u8) -> String {
    format!("host-{host}")
}

impl TurmoilWorld {
    fn new(plan: &Plan, nanos: Arc<AtomicU64>, recorder: Recorder) -> Self {
        let mut random = Random::new(plan.seed).fork("turmoil");
        let tick = Duration::from_millis(*random.pick(&[2, 5, 10, 10]));
        let [least, most] = [plan.links.latency_ms.0, plan.links.latency_ms.1].map(Duration::from_millis);
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(plan.seed)
            .epoch(SystemTime::UNIX_EPOCH)
            .tick_duration(tick)
            // What is sent in a step arrives in a later one: the clocks of hosts differ by up to a step.
            .min_message_latency(least.max(tick))
            .max_message_latency(most.max(tick))
            .tcp_capacity(CAPACITY)
            .simulation_duration(Duration::from_secs(24 * 3600));
        if random.chance(1, 2) {
            builder.enable_random_order();
        }
        let mut sim = builder.build();
        let faults = Faults::new(plan.seed, super::simnet::options(plan));
        let desk = Arc::new(Mutex::new(Desk::default()));
        let (at_desk, for_server) = (Arc::clone(&desk), faults.clone());
        let noting = recorder.clone();
        sim.host(SERVER, move || serve(Arc::clone(&at_desk), for_server.clone(), noting.clone()));
        let hosts = (1..=plan.hosts()).map(|host| {
            let (tell, told) = mpsc::unbounded_channel();
            let told = Arc::new(tokio::sync::Mutex::new(told));
            sim.host(name(host), move || live(Arc::clone(&told)));
            (host, tell)
        });
        let hosts = hosts.collect();
        let clients = BTreeMap::new();
        let announcing = VecDeque::new();
        Self { sim, tick, nanos, recorder, faults, desk, is_first_life: true, hosts, clients, broken: None, announcing }
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            self.broken.get_or_insert(error.to_string());
        }
        let nanos = u64::try_from(self.sim.elapsed().as_nanos()).expect("a run is short");
        self.nanos.store(nanos, Ordering::Relaxed);
        self.hear_keeper();
    }

    /// One after another, as each waits for its turn.
    fn hear_keeper(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Some(first) = self.announcing.front_mut() {
            if first.as_mut().poll(&mut cx).is_pending() {
                break;
            }
            self.announcing.pop_front();
        }
    }

    fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's host.
async fn serve(desk: Arc<Mutex<Desk>>, faults: Faults, recorder: Recorder) -> turmoil::Result {
    let (power, cut) = oneshot::channel();
    let start = {
        let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.power = Some(power);
        desk.start.take()
    };
    let Some((room, stop)) = start else { return Ok(()) };
    let listener = FaultyListener::new(Turmoil::bind(PORT).await?, faults);
    let listener = Noting::new(listener, recorder, room.clone());
    tokio::select! {
        biased;
        _ = cut => {}
        ended = server::run(vec![listener], room, async { drop(stop.await) }) => {
            let ended = ended.map_err(|error| error.to_string());
            desk.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(ended);
        }
    }
    Ok(())
}

/// What a host of clients is told.
enum Message {
    Comes(Newcomer),
    /// Every process of it is killed, in the order in which they came.
    Crashes,
}

/// A host of clients. Who comes when it has crashed is taken up by its next life.
async fn live(messages: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Message>>>) -> turmoil::Result {
    let mut clients = JoinSet::new();
    while let Some(message) = messages.lock().await.recv().await {
        match message {
            Message::Comes(newcomer) => drop(clients.spawn_local(newcomer.live(async {
                let stream = TcpStream::connect((SERVER, PORT)).await?;
                let address = stream.local_addr()?;
                Ok((stream, address))
            }))),
            Message::Crashes => clients.shutdown().await,
        }
    }
    Ok(())
}

impl World for TurmoilWorld {
    /// No keepalive here.
    const SETTLING: Duration = Duration::from_secs(5);

    async fn pass(&mut self, until: Duration) {
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    fn start(&mut self, room: Room, stop: oneshot::Receiver<()>) {
        *self.desk() = Desk { start: Some((room, stop)), power: None, ended: None };
        if !std::mem::take(&mut self.is_first_life) {
            self.sim.bounce(SERVER);
        }
    }

    async fn stopped(&mut self) -> Result<(), String> {
        loop {
            if let Some(ended) = self.desk().ended.take() {
                return ended;
            }
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            self.step();
        }
    }

    async fn crash(&mut self) {
        // A runtime that is dropped drops its tasks in an order that is not the same in every run: so they go first.
        drop(self.desk().power.take());
        self.step();
        self.sim.crash(SERVER);
    }

    fn connect(&mut self, host: u8, newcomer: Newcomer) {
        self.clients.insert(newcomer.client, host);
        // The host's receiver lives as long as the simulation.
        let _received = self.hosts[&host].send(Message::Comes(newcomer));
    }

    fn announce(&mut self, room: Room, text: String) {
        // The run has no tasks outside of hosts: what cannot be said at once is asked for again with every step.
        self.announcing.push_back(Box::pin(async move {
            let _said = room.announce(text.as_bytes()).await;
        }));
        self.hear_keeper();
    }

    fn address(&self, host: u8) -> IpAddr {
        self.sim.lookup(name(host))
    }

    fn is_there(&self, client: Client) -> bool {
        self.clients.contains_key(&client)
    }

    async fn inflict(&mut self, what: &What) -> bool {
        if let Some(client) = what.client() {
            let fault = match what {
                What::ReadError { .. } => Fault::Read,
                What::WriteError { .. } => Fault::Write,
                What::Panic { .. } => Fault::Panic,
                // Links are between hosts here.
                _ => return false,
            };
            return self.recorder.address(client).is_some_and(|address| self.faults.arm(address, fault));
        }
        match what {
            What::Hold { host } => self.sim.hold(name(*host), SERVER),
            What::Release { host } => self.sim.release(name(*host), SERVER),
            // What is lost is not sent again: nothing goes on after it.
            What::VanishHost { host } => self.sim.partition(name(*host), SERVER),
            What::ReviveHost { host } => self.sim.repair(name(*host), SERVER),
            What::Delay { host, most_ms } => {
                self.sim.set_link_latency(name(*host), SERVER, Duration::from_millis(*most_ms).max(self.tick));
            }
            What::CrashHost { host } => {
                let _received = self.hosts[host].send(Message::Crashes);
                self.step();
                self.sim.crash(name(*host));
                self.sim.bounce(name(*host));
                self.clients.retain(|_, of| of != host);
            }
            What::AcceptError { errno } => self.faults.fail_accept(io::Error::from_raw_os_error(*errno)),
            _ => return false,
        }
        true
    }

    async fn finish(&mut self) -> (BTreeMap<&'static str, u64>, u64) {
        for _ in 0..3 {
            self.step();
        }
        (self.faults.counts().by_name(), 0)
    }
}

impl Breakable for TcpStream {
    /// A reset if something is unread, else an end.
    fn break_off(self) -> Event {
        Event::Dropped
    }
}
