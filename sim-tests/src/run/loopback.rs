//! A run on real sockets, in real time: what the simulated networks are held against.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use unisono::listen::Tcp;
use unisono::{Room, server};

use super::client::{Breakable, Clock, Newcomer, Noting, Recorder};
use super::local::Local;
use super::{Outcome, Play, World};
use crate::history::{Client, Event};
use crate::network::faulty::{Fault, Faults, FaultyListener};
use crate::plan::{Plan, What};

pub(super) fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("sockets can be polled");
    runtime.block_on(async {
        let epoch = Instant::now();
        let recorder = Recorder::new(Clock::Tokio(epoch));
        Play::new(plan, Loopback::new(plan, epoch, recorder.clone()), recorder).play().await
    })
}

struct Loopback<'a> {
    plan: &'a Plan,
    epoch: Instant,
    recorder: Recorder,
    faults: Faults,
    /// Where the server listens; a later life listens there again.
    server: SocketAddr,
    local: Local,
}

impl<'a> Loopback<'a> {
    fn new(plan: &'a Plan, epoch: Instant, recorder: Recorder) -> Self {
        let faults = Faults::new(plan.seed, super::simnet::options(plan));
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { plan, epoch, recorder, faults, server, local: Local::default() }
    }
}

/// The address of a host.
fn address(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, host))
}

/// From an address of its host's own, to the server.
async fn connect(host: u8, server: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(address(host), 0))?;
    let stream = socket.connect(server).await?;
    let address = stream.local_addr()?;
    Ok((stream, address))
}

impl World for Loopback<'_> {
    const IS_REAL_TIME: bool = true;

    async fn pass(&mut self, until: Duration) {
        tokio::time::sleep_until(self.epoch + until).await;
    }

    fn start(&mut self, room: Room, stop: oneshot::Receiver<()>) {
        let listener = Tcp::bind(self.server, &self.plan.rules.limits()).expect("the address is free");
        self.server = listener.local_addr().expect("a listener is somewhere");
        let listener = FaultyListener::new(listener, self.faults.clone());
        let listener = Noting::new(listener, self.recorder.clone(), room.clone());
        self.local.serve(server::run(vec![listener], room, async { drop(stop.await) }));
    }

    async fn stopped(&mut self) -> Result<(), String> {
        self.local.stopped().await
    }

    async fn crash(&mut self) {
        self.local.crash().await;
    }

    fn connect(&mut self, host: u8, newcomer: Newcomer) {
        self.local.connect(newcomer.client, host, newcomer.live(connect(host, self.server)));
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
        let fault = match what {
            What::ReadError { .. } => Fault::Read,
            What::WriteError { .. } => Fault::Write,
            What::Panic { .. } => Fault::Panic,
            What::AcceptError { errno } => {
                self.faults.fail_accept(io::Error::from_raw_os_error(*errno));
                return true;
            }
            What::CrashHost { host } => {
                self.local.crash_host(*host);
                return true;
            }
            // The loopback device is never cut.
            _ => return false,
        };
        let address = what.client().and_then(|client| self.recorder.address(client));
        address.is_some_and(|address| self.faults.arm(address, fault))
    }

    async fn finish(&mut self) -> (BTreeMap<&'static str, u64>, u64) {
        self.local.finish().await;
        (self.faults.counts().by_name(), 0)
    }
}

impl Breakable for TcpStream {
    fn break_off(self) -> Event {
        // Closed at once, with a reset (socket(7), SO_LINGER).
        match self.set_zero_linger() {
            Ok(()) => Event::Reset,
            Err(_) => Event::Dropped,
        }
    }
}
