//! What only a simulated network can do; what it shares with real sockets is in `tests/conformance.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::*;
use crate::random::Random;

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const ADDR: SocketAddr = SocketAddr::new(SERVER, 8000);
const SMALL: usize = 100;
const LONG: Duration = Duration::from_secs(3600);

fn small() -> Options {
    Options { send_bytes: SMALL, receive_bytes: 2 * SMALL, ..Options::default() }
}

async fn pair(network: &Network) -> (SimStream, SimStream) {
    let mut listener = network.listen(ADDR).expect("it is free");
    let (client, server) = tokio::join!(network.connect(CLIENT, ADDR), listener.accept());
    (client.expect("it listens"), server.expect("somebody comes").0)
}

/// Counts wakes.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn try_write(stream: &mut SimStream, bytes: &[u8]) -> Poll<Result<usize, ErrorKind>> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_write(&mut cx, bytes).map_err(|error| error.kind())
}

async fn read(stream: &mut SimStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0; 1 << 10]).await.map_err(|error| error.kind())
}

#[tokio::test(start_paused = true)]
async fn peer_that_does_not_read_takes_both_buffers_and_no_byte_more() {
    let network = Network::new(0);
    network.set_options(small());
    let (mut client, mut server) = pair(&network).await;
    assert_eq!(try_write(&mut client, &[0; 1000]), Poll::Ready(Ok(SMALL)));
    assert_eq!(try_write(&mut client, &[0; 1000]), Poll::Ready(Ok(SMALL)));
    assert_eq!(try_write(&mut client, &[0; 1000]), Poll::Ready(Ok(SMALL)));
    assert_eq!(client.connection().held_bytes(Side::Client), [SMALL, 0, 2 * SMALL]);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(Pin::new(&mut client).poll_write(&mut Context::from_waker(&waker), &[0]).is_pending());
    sleep(LONG).await;
    assert_eq!(woken.0.load(Ordering::Relaxed), 0, "time alone frees nothing");
    server.read_exact(&mut [0; 7]).await.expect("it is there");
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(try_write(&mut client, &[0; 1000]), Poll::Ready(Ok(7)), "what was read");
    assert_eq!(try_write(&mut client, &[0; 1000]), Poll::Pending);
}

#[tokio::test(start_paused = true)]
async fn latency_holds_for_each_direction_and_keeps_the_order() {
    let network = Network::new(3);
    let (slow, fast) = (Duration::from_millis(100), Duration::from_millis(10));
    network.set_latency(fast..=slow);
    let begun = Instant::now();
    let (mut client, mut server) = pair(&network).await;
    assert!(begun.elapsed() >= 2 * fast, "there and back");
    let mut sent = Vec::new();
    for number in 0..200_u8 {
        client.write_all(&[number]).await.expect("there is room");
        sent.push(number);
        if number % 16 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    drop(client);
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.expect("it ends well");
    assert_eq!(got, sent);

    network.set_link_latency(SERVER, CLIENT, slow..=slow);
    network.set_link_latency(CLIENT, SERVER, Duration::ZERO..=Duration::ZERO);
    let mut listener = network.listen(([10, 0, 0, 1], 1).into()).expect("it is free");
    let begun = Instant::now();
    let _client = network.connect(CLIENT, ([10, 0, 0, 1], 1).into()).await.expect("it listens");
    assert_eq!(begun.elapsed(), slow);
    let _server = listener.accept().await.expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn driver_ends_when_nothing_is_due() {
    let network = Network::new(0);
    let tasks = || Handle::current().metrics().num_alive_tasks();
    network.set_latency(Duration::from_millis(5)..=Duration::from_millis(5));
    let (mut client, mut server) = pair(&network).await;
    client.write_all(b"x").await.expect("there is room");
    assert_eq!(tasks(), 1);
    read(&mut server).await.expect("it comes");
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
    drop((client, server));
    sleep(LONG).await;
    assert_eq!((network.live(), tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn frozen_link_holds_everything_and_heals_in_order() {
    let network = Network::new(0);
    let (mut client, mut server) = pair(&network).await;
    network.partition(CLIENT, SERVER);
    client.write_all(b"one ").await.expect("there is room");
    sleep(LONG).await;
    client.write_all(b"two").await.expect("there is room");
    drop(client);
    assert!(timeout(LONG, read(&mut server)).await.is_err(), "nothing passes");
    network.heal(CLIENT, SERVER);
    let mut got = String::new();
    server.read_to_string(&mut got).await.expect("it ends well");
    assert_eq!(got, "one two");
}

#[tokio::test(start_paused = true)]
async fn one_way_freeze_lets_bytes_pass_and_their_acknowledgement_not() {
    let network = Network::new(0);
    network.set_options(small());
    let (mut client, mut server) = pair(&network).await;
    network.freeze(SERVER, CLIENT);
    assert_eq!(try_write(&mut client, &[1; 1000]), Poll::Ready(Ok(SMALL)));
    assert_eq!(read(&mut server).await, Ok(SMALL));
    assert_eq!(try_write(&mut client, &[1; 1000]), Poll::Pending, "for all it knows nothing arrived");
    server.write_all(b"late").await.expect("there is room");
    network.thaw(SERVER, CLIENT);
    assert_eq!(try_write(&mut client, &[1; 1000]), Poll::Ready(Ok(SMALL)));
    assert_eq!(read(&mut client).await, Ok(4));

    let connection = client.connection();
    connection.freeze(Side::Client);
    client.write_all(b"x").await.expect("there is room");
    assert_eq!(read(&mut server).await, Ok(SMALL), "from before");
    assert!(timeout(LONG, read(&mut server)).await.is_err());
    network.thaw_all();
    assert_eq!(read(&mut server).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn vanished_peer_is_found_by_user_timeout_or_keepalive_or_never() {
    let network = Network::new(0);
    let (mut client, server) = pair(&network).await;
    network.vanish(SERVER);
    drop(server);
    client.write_all(b"into the void").await.expect("there is room");
    assert!(timeout(LONG, read(&mut client)).await.is_err(), "without either it is never told");

    network.revive(SERVER);
    assert_eq!(read(&mut client).await, Err(ErrorKind::ConnectionReset), "what it had sent is answered now");
    assert_eq!(read(&mut client).await, Ok(0));
    drop(client);

    network.set_options(Options { user_timeout: Some(Duration::from_secs(30)), ..Options::default() });
    let (mut client, _server) = pair(&network).await;
    sleep(LONG).await;
    network.vanish(SERVER);
    client.write_all(b"x").await.expect("there is room");
    let begun = Instant::now();
    assert_eq!(read(&mut client).await, Err(ErrorKind::TimedOut));
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    network.revive(SERVER);
    drop(client);

    let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
    let keepalive = Some(Keepalive { idle, interval, retries: 3 });
    network.set_options(Options { keepalive, ..Options::default() });
    let (mut client, _server) = pair(&network).await;
    assert!(timeout(LONG, read(&mut client)).await.is_err(), "a silent peer that lives is left alone");
    let begun = Instant::now();
    network.vanish(SERVER);
    assert_eq!(read(&mut client).await, Err(ErrorKind::TimedOut));
    assert!(begun.elapsed() <= Duration::from_secs(90));
    assert!(begun.elapsed() >= 3 * interval, "it is asked more than once");
}

#[tokio::test(start_paused = true)]
async fn window_that_stays_shut_runs_into_the_user_timeout_and_a_slow_reader_does_not() {
    let network = Network::new(0);
    network.set_options(Options { user_timeout: Some(Duration::from_secs(30)), ..small() });
    let (mut client, mut server) = pair(&network).await;
    let write = async {
        let mut wrote = 0;
        loop {
            match client.write(&[0; 1000]).await {
                Ok(bytes) => wrote += bytes,
                Err(error) => break (wrote, error.kind(), Instant::now()),
            }
        }
    };
    let reading = async {
        for _ in 0..10 {
            sleep(Duration::from_secs(20)).await;
            server.read_exact(&mut [0; 10]).await.expect("it is there");
        }
        Instant::now()
    };
    let ((bytes, kind, ended), stopped) = tokio::join!(write, reading);
    assert_eq!((bytes, kind), (3 * SMALL + 100, ErrorKind::TimedOut));
    assert_eq!(ended - stopped, Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn connecting_to_nobody_times_out_and_to_a_host_that_comes_back_does_not() {
    let network = Network::new(0);
    let mut listener = network.listen(ADDR).expect("it is free");
    network.vanish(SERVER);
    let begun = Instant::now();
    let error = network.connect(CLIENT, ADDR).await.expect_err("nobody answers");
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::TimedOut, Duration::from_secs(127)));
    assert_eq!(network.live(), 0);
    let power = async {
        sleep(Duration::from_secs(20)).await;
        network.revive(SERVER);
    };
    let (client, server, ()) = tokio::join!(network.connect(CLIENT, ADDR), listener.accept(), power);
    let (client, (server, from)) = (client.expect("it answers"), server.expect("somebody comes"));
    assert_eq!((from.addr(), client.local_addr()), (Some(server.peer_addr()), server.peer_addr()));
}

#[tokio::test(start_paused = true)]
async fn full_backlog_does_not_answer_until_there_is_room() {
    let network = Network::new(0);
    let mut listener = network.listen_with(ADDR, 2, Options::default()).expect("it is free");
    let _first = network.connect(CLIENT, ADDR).await.expect("there is room");
    let _second = network.connect(CLIENT, ADDR).await.expect("there is room");
    let mut third = Box::pin(network.connect(CLIENT, ADDR));
    assert!(timeout(Duration::from_secs(60), &mut third).await.is_err());
    let (_server, from) = listener.accept().await.expect("the first waits");
    assert_eq!(from.addr().map(|addr| addr.port()), Some(32_768), "ports are allotted in order");
    let third = third.await.expect("there is room now");
    assert_eq!(third.local_addr().port(), 32_770);
    let mut fourth = Box::pin(network.connect(CLIENT, ADDR));
    assert!(timeout(Duration::from_secs(60), &mut fourth).await.is_err());
    drop(listener);
    assert_eq!(fourth.await.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn connect_that_is_given_up_is_accepted_and_found_reset() {
    let network = Network::new(0);
    let latency = Duration::from_millis(50);
    network.set_latency(latency..=latency);
    let mut listener = network.listen(ADDR).expect("it is free");
    let connecting = timeout(Duration::from_millis(70), network.connect(CLIENT, ADDR));
    assert!(connecting.await.is_err());
    let (mut server, _) = listener.accept().await.expect("it had come");
    assert_eq!(read(&mut server).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(read(&mut server).await, Ok(0));
    drop(server);
    assert_eq!(network.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn planted_faults_happen_once() {
    let network = Network::new(0);
    let mut listener = network.listen(ADDR).expect("it is free");
    network.fail_accept(ADDR, io::Error::from_raw_os_error(24));
    let mut client = network.connect(CLIENT, ADDR).await.expect("it listens");
    assert_eq!(listener.accept().await.expect_err("EMFILE").raw_os_error(), Some(24));
    let (mut server, _) = listener.accept().await.expect("it is still there");
    let connection = client.connection();
    connection.fail_write(Side::Client, ErrorKind::OutOfMemory);
    connection.fail_read(Side::Server, ErrorKind::Interrupted);
    assert_eq!(try_write(&mut client, b"x"), Poll::Ready(Err(ErrorKind::OutOfMemory)));
    assert_eq!(try_write(&mut client, b"x"), Poll::Ready(Ok(1)));
    assert_eq!(read(&mut server).await, Err(ErrorKind::Interrupted));
    assert_eq!(read(&mut server).await, Ok(1));

    let reading = tokio::spawn(async move { read(&mut server).await });
    tokio::task::yield_now().await;
    connection.panic_on_read(Side::Server);
    let panic = reading.await.expect_err("it panics").into_panic();
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(PLANTED_PANIC));
    assert_eq!(read(&mut client).await, Ok(0), "the stream is dropped like any other");
    assert_eq!(
        [What::AcceptFault, What::WriteFault, What::ReadFault, What::Panic].map(|what| network.count(what)),
        [1; 4]
    );
}

#[tokio::test(start_paused = true)]
async fn injected_reset_reaches_one_side_and_the_other_when_it_sends() {
    let network = Network::new(0);
    let (mut client, mut server) = pair(&network).await;
    client.connection().reset(Side::Server);
    assert_eq!(read(&mut server).await, Err(ErrorKind::ConnectionReset));
    assert!(timeout(LONG, read(&mut client)).await.is_err(), "it has not heard");
    assert_eq!(try_write(&mut client, b"x"), Poll::Ready(Ok(1)));
    assert_eq!(try_write(&mut client, b"x"), Poll::Ready(Err(ErrorKind::ConnectionReset)));
}

#[tokio::test(start_paused = true)]
async fn reset_overtakes_what_is_under_way_or_does_not_by_seed() {
    let mut met = [false; 2];
    for seed in 0..32 {
        let network = Network::new(seed);
        let (mut client, mut server) = pair(&network).await;
        let latency = Duration::from_millis(10);
        network.set_latency(latency..=latency);
        client.write_all(b"before").await.expect("there is room");
        client.reset();
        let got = read(&mut server).await;
        met[usize::from(got == Ok(6))] = true;
        if got == Ok(6) {
            assert_eq!(read(&mut server).await, Err(ErrorKind::ConnectionReset));
        } else {
            assert_eq!(got, Err(ErrorKind::ConnectionReset));
        }
    }
    assert_eq!(met, [true; 2]);
}

/// Two sides that write and read at once over everything that can be drawn, and what came of it.
async fn noise(seed: u64) -> (TraceHash, Vec<String>, Vec<u8>, Vec<u8>) {
    let mut random = Random::new(seed).fork("noise");
    let network = Network::new(seed);
    network.keep_events(1 << 20);
    network.set_latency(Duration::ZERO..=Duration::from_millis(random.below(20)));
    network.set_options(Options {
        send_bytes: random.index(300) + 1,
        receive_bytes: random.index(300) + 1,
        chop: Chop { odds: Odds { hits: random.below(4), of: 3 }, bytes_max: 3 },
        spurious: Odds { hits: random.below(3), of: 4 },
        ..Options::default()
    });
    let (client, server) = pair(&network).await;
    let connection = client.connection();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let bytes: Vec<u8> = (0..3000_u32).map(|place| u8::try_from(place * 7 % 251).expect("below 251")).collect();
    let mut got = (Vec::new(), Vec::new());
    let faults = async {
        for _ in 0..10 {
            let side = *random.pick(&Side::BOTH);
            connection.freeze(side);
            sleep(Duration::from_millis(random.below(30))).await;
            connection.thaw(side);
        }
    };
    let (said, heard) = (&bytes, &mut got);
    let (left, right) = tokio::join!(
        async { tokio::join!(send(&mut to_client, said), from_client.read_to_end(&mut heard.0)) },
        async { tokio::join!(send(&mut to_server, said), from_server.read_to_end(&mut heard.1), faults) },
    );
    left.1.expect("it ends well");
    right.1.expect("it ends well");
    let events = network.events().iter().map(ToString::to_string).collect();
    (network.trace(), events, got.0, got.1)
}

async fn send(stream: &mut tokio::io::WriteHalf<SimStream>, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("the peer reads");
    stream.shutdown().await.expect("it never fails");
}

#[tokio::test(start_paused = true)]
async fn every_byte_arrives_in_order_whatever_is_cut_frozen_or_polled_for_nothing() {
    for seed in 0..100 {
        let (_, _, left, right) = noise(seed).await;
        assert_eq!(left.len(), 3000, "seed {seed}");
        assert!(left.iter().zip(0_u32..).all(|(&byte, place)| u32::from(byte) == place * 7 % 251), "seed {seed}");
        assert_eq!(left, right, "seed {seed}");
    }
}

#[test]
fn same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime needs little").block_on(noise(seed))
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(0).0, run(1).0);
}

#[test]
fn streams_may_outlive_their_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime needs little");
    let (network, left) = runtime.block_on(async {
        let network = Network::new(0);
        network.set_latency(Duration::from_millis(1)..=Duration::from_millis(1));
        let mut left = pair(&network).await;
        left.0.write_all(b"x").await.expect("there is room");
        tokio::spawn(std::future::pending::<()>());
        (network, left)
    });
    drop(runtime);
    drop(left);
    assert_eq!(network.live(), 0);
}
