//! Laws 1, 2, 4 and 5 over a simulated network: clients on hosts of their own, whose links delay every segment differently,
//! talk over each other, and everyone sees one order.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sim_tests::network::Turmoil;
use tokio::io::AsyncWriteExt;
use turmoil::Result;
use unisono::client::{self, End};
use unisono::{Limits, Room, Wire, server};

const PORT: u16 = 8000;
const CLIENTS: usize = 6;
const LINES: usize = 40;

/// What each client saw, by its number.
type Seen = BTreeMap<usize, String>;

fn simulate(seed: u64) -> Seen {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .enable_random_order()
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(50))
        .tcp_capacity(1024)
        .simulation_duration(Duration::from_secs(60))
        .build();
    sim.host("server", || async {
        let room = Room::new(Limits::default(), Wire::default())?;
        server::run(vec![Turmoil::bind(PORT).await?], room, pending()).await?;
        Ok(())
    });
    let seen = Arc::new(Mutex::new(Seen::new()));
    for number in 0..CLIENTS {
        let seen = Arc::clone(&seen);
        sim.client(format!("client-{number}"), async move {
            let printed = talk(number).await?;
            seen.lock().expect("whole").insert(number, printed);
            Ok(())
        });
    }
    sim.run().expect("every client ends");
    drop(sim);
    Arc::into_inner(seen).expect("the simulation is over").into_inner().expect("whole")
}

/// One client: says its lines a few at a time, and prints until the server closes.
async fn talk(number: usize) -> Result<String> {
    let stream = turmoil::net::TcpStream::connect(("server", PORT)).await?;
    let (mut mouth, input) = tokio::io::duplex(1 << 16);
    let mut printed = Vec::new();
    let talking = async {
        for line in 0..LINES {
            mouth.write_all(format!("client {number} says {line}\n").as_bytes()).await?;
            if line % (number + 2) == 0 {
                tokio::time::sleep(Duration::from_millis(7 * number as u64 + 1)).await;
            }
        }
        drop(mouth);
        Ok::<_, std::io::Error>(())
    };
    let running = client::run(stream, input, &mut printed, client::Options::default());
    let (talked, end) = tokio::join!(talking, running);
    talked?;
    assert_eq!(end?, End::Done);
    Ok(String::from_utf8(printed)?)
}

/// What was said, without who, in the order in which this client saw it.
fn said(printed: &str) -> Vec<&str> {
    printed.lines().filter_map(|line| line.split_once(": ")).map(|(_, text)| text).collect()
}

#[test]
fn everyone_sees_one_order_and_its_own_lines() {
    let mut overlapped = false;
    for seed in 0..20 {
        let seen = simulate(seed);
        assert_eq!(seen.len(), CLIENTS);
        for (number, printed) in &seen {
            assert!(printed.starts_with("欢迎 "), "law 4: welcome comes first, seed {seed}");
            let own: Vec<String> = (0..LINES).map(|line| format!("client {number} says {line}")).collect();
            let prefix = format!("client {number} ");
            let echoed: Vec<&str> = said(printed).into_iter().filter(|text| text.starts_with(&prefix)).collect();
            assert_eq!(echoed, own, "law 5: client {number} gets its own lines, seed {seed}");
        }
        for (one, others) in seen.iter().flat_map(|one| seen.iter().map(move |other| (one, other))) {
            let (first, second) = (said(one.1), said(others.1));
            let shared: Vec<&str> = first.iter().copied().filter(|text| second.contains(text)).collect();
            let mirrored: Vec<&str> = second.iter().copied().filter(|text| first.contains(text)).collect();
            assert_eq!(shared, mirrored, "law 1: clients {} and {}, seed {seed}", one.0, others.0);
            // Law 2: what both saw is one run in each, without holes.
            let from = first.iter().position(|text| shared.first() == Some(text)).unwrap_or_default();
            assert_eq!(first[from..from + shared.len()], shared, "law 2, seed {seed}");
            overlapped |= one.0 != others.0 && shared.windows(2).any(|pair| pair[0][..8] != pair[1][..8]);
        }
    }
    assert!(overlapped, "somewhere two clients talked over each other");
}

#[test]
fn same_seed_gives_the_same_bytes() {
    let first = simulate(7);
    assert_eq!(first, simulate(7));
    assert_ne!(first, simulate(8), "and another seed another run");
}
