//! A run on simnet: one paused runtime, one thread, and a network that lives in memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use unisono::limits::FOREVER;
use unisono::listen::Greeted;
use unisono::tls::{self, Certificates, Files};
use unisono::{Room, server};

use super::client::{Breakable, Clock, Newcomer, Noting, Recorder};
use super::local::Local;
use super::{Outcome, Play, World};
use crate::history::{Client, Event};
use crate::network::simnet::{Chop, Connection, Keepalive, Network, Odds, Options, Side, SimStream, What as Happened};
use crate::plan::{Plan, What};

/// Where the server listens.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 8000);

/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

pub(super) fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets needs nothing");
    runtime.block_on(async {
        // Timers count in whole ms from the runtime's own start. The first one takes us there, so that no later time has the
        // few microseconds in it that passed between that start and the clock's.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let epoch = Instant::now();
        let recorder = Recorder::new(Clock::Tokio(epoch));
        Play::new(plan, Simnet::new(plan, epoch, recorder.clone()), recorder).play().await
    })
}

/// The connections of those clients that have one.
type Connections = Arc<Mutex<BTreeMap<usize, Connection>>>;

struct Simnet<'a> {
    plan: &'a Plan,
    epoch: Instant,
    recorder: Recorder,
    network: Network,
    connections: Connections,
    local: Local,
}

impl<'a> Simnet<'a> {
    fn new(plan: &'a Plan, epoch: Instant, recorder: Recorder) -> Self {
        let network = Network::new(plan.seed);
        let [least, most] = [plan.links.latency_ms.0, plan.links.latency_ms.1].map(Duration::from_millis);
        network.set_latency(least..=most);
        network.set_options(options(plan));
        if plan.rules.tls {
            network.seal();
        }
        Self { plan, epoch, recorder, network, connections: Arc::default(), local: Local::default() }
    }

    fn connection(&self, client: usize) -> Option<Connection> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(&client).cloned()
    }

    fn act_on(connection: &Connection, what: &What) {
        match what {
            What::Freeze { .. } => {
                connection.freeze(Side::Server);
                connection.freeze(Side::Client);
            }
            What::FreezeDown { .. } => connection.freeze(Side::Server),
            What::Thaw { .. } => {
                connection.thaw(Side::Server);
                connection.thaw(Side::Client);
            }
            What::Vanish { .. } => connection.vanish(Side::Client),
            What::WriteError { .. } => connection.fail_write(Side::Server, ErrorKind::ConnectionReset),
            What::ReadError { .. } => connection.fail_read(Side::Server, ErrorKind::ConnectionReset),
            What::Panic { .. } => connection.panic_on_read(Side::Server),
            _ => unreachable!("not done to a connection"),
        }
    }

    fn act_on_host(&self, host: u8, what: &What) {
        let (host_ip, server_ip) = (address(host), SERVER.ip());
        match what {
            What::Hold { .. } => self.network.partition(host_ip, server_ip),
            What::HoldDown { .. } => self.network.freeze(server_ip, host_ip),
            What::Release { .. } => self.network.heal(host_ip, server_ip),
            What::Delay { most_ms, .. } => {
                let latency = Duration::ZERO..=Duration::from_millis(*most_ms);
                self.network.set_link_latency(host_ip, server_ip, latency.clone());
                self.network.set_link_latency(server_ip, host_ip, latency);
            }
            What::VanishHost { .. } => self.network.vanish(host_ip),
            What::ReviveHost { .. } => self.network.revive(host_ip),
            What::CrashHost { .. } => self.local.crash_host(host),
            _ => unreachable!("not done to a host's network"),
        }
    }
}

/// The address of a host.
fn address(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, host))
}

impl World for Simnet<'_> {
    async fn pass(&mut self, until: Duration) {
        tokio::time::sleep_until(self.epoch + until).await;
    }

    fn start(&mut self, room: Room, stop: oneshot::Receiver<()>) {
        let options = server_options(self.plan);
        let listener = self.network.listen_with(SERVER, BACKLOG, options).expect("nothing listens there");
        let (recorder, stop) = (self.recorder.clone(), async { drop(stop.await) });
        if self.plan.rules.tls {
            let listener = Greeted::new(listener, CERTIFICATES.clone(), &room);
            self.local.serve(server::run(vec![Noting::new(listener, recorder, room.clone())], room, stop));
        } else {
            self.local.serve(server::run(vec![Noting::new(listener, recorder, room.clone())], room, stop));
        }
    }

    async fn stopped(&mut self) -> Result<(), String> {
        self.local.stopped().await
    }

    async fn crash(&mut self) {
        self.local.crash().await;
    }

    fn connect(&mut self, host: u8, newcomer: Newcomer) {
        let (network, connections, client) = (self.network.clone(), Arc::clone(&self.connections), newcomer.client);
        let connecting = async move {
            let stream = network.connect(address(host), SERVER).await?;
            connections.lock().unwrap_or_else(PoisonError::into_inner).insert(client, stream.connection());
            let address = stream.local_addr();
            Ok((stream, address))
        };
        if !self.plan.rules.tls || newcomer.knocks {
            return self.local.connect(client, host, newcomer.live(connecting));
        }
        let (remote, recorder) = (newcomer.remote.clone(), newcomer.recorder.clone());
        let shaking_hands = async move {
            let (stream, address) = connecting.await?;
            recorder.record(client, Event::Knocked { address: address.to_string() });
            let mut hands = Hands { recorder, client, are_shaken: false };
            // Biased: nothing is to be done any more when it is to go.
            let shaken = tokio::select! {
                biased;
                () = remote.gone() => Err(ErrorKind::ConnectionAborted.into()),
                shaken = TRUSTING.connect("10.0.0.1", stream) => shaken,
            };
            hands.are_shaken = true;
            Ok((shaken?, address))
        };
        self.local.connect(client, host, newcomer.live(shaking_hands));
    }

    fn announce(&mut self, room: Room, text: String) {
        self.local.announce(room, text);
    }

    fn address(&self, host: u8) -> IpAddr {
        address(host)
    }

    fn is_there(&self, client: Client) -> bool {
        self.local.is_there(client)
    }

    async fn inflict(&mut self, what: &What) -> bool {
        match (what.client(), what.host(), what) {
            (Some(client), ..) => match self.connection(client) {
                Some(connection) => Self::act_on(&connection, what),
                None => return false,
            },
            (_, Some(host), _) => self.act_on_host(host, what),
            (.., What::AcceptError { errno }) => {
                self.network.fail_accept(SERVER, io::Error::from_raw_os_error(*errno));
            }
            (.., What::Jump { ms }) => tokio::time::advance(Duration::from_millis(*ms)).await,
            _ => unreachable!("nothing that a network does"),
        }
        true
    }

    async fn finish(&mut self) -> (BTreeMap<&'static str, u64>, u64) {
        self.local.finish().await;
        let counts = Happened::ALL.iter().map(|(what, name)| (*name, self.network.count(*what)));
        (counts.collect(), self.network.trace().0)
    }
}

impl Breakable for SimStream {
    fn break_off(self) -> Event {
        self.reset();
        Event::Reset
    }
}

/// Those of a client that shakes hands. If its process is killed meanwhile, that is the end of its connection.
struct Hands {
    recorder: Recorder,
    client: Client,
    are_shaken: bool,
}

impl Drop for Hands {
    fn drop(&mut self) {
        if !self.are_shaken {
            self.recorder.record(self.client, Event::Refused);
        }
    }
}

impl Breakable for TlsStream<SimStream> {
    fn break_off(self) -> Event {
        self.into_inner().0.break_off()
    }
}

/// A file of the simulation's certificates.
fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tls", name].iter().collect()
}

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let files = Files { certificate: file("cert.pem"), key: file("key.pem"), client_authorities: None };
    Certificates::load(files).expect("they are in the tree")
});

static TRUSTING: LazyLock<tls::Client> =
    LazyLock::new(|| tls::Client::new(Some(&file("ca.pem")), None).expect("it is in the tree"));

/// How a plan's sockets behave.
pub(super) fn options(plan: &Plan) -> Options {
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
