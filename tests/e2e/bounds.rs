//! Law 7 and the limits of connections: refusals, running out of files, members who ask and do not read, a log that
//! nobody takes.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, lines};
use crate::process::{self, ANY_PORT, DEADLINE, Process, Server, take_turns};

const MIB: u64 = 1024 * 1024;

/// Asserts that a newcomer gets one line that says no, and the end.
fn expect_refused(addr: SocketAddr) {
    let mut client = Client::dial(addr);
    client.expect_notice();
    client.expect_end();
}

/// Comes again until let in: a departure is told a little before its place is free.
fn join_when_free(addr: SocketAddr) -> Client {
    let until = Instant::now() + DEADLINE;
    loop {
        let mut client = Client::dial(addr);
        let line = client.next_text();
        if line == format!("欢迎 {}", client.who()) {
            return client;
        }
        assert!(line.starts_with("-- "), "{line:?} is neither a welcome nor a refusal");
        assert!(Instant::now() < until, "a place freed is usable");
    }
}

/// With room for three, the fourth is refused and told to nobody; when one goes, one comes.
fn check_three_places(options: &[&str]) {
    let server = Server::start(options);
    let [mut anna, mut berta, carla] = server.company();
    for _ in 0..5 {
        expect_refused(server.addr());
    }
    anna.say("among us");
    berta.expect_said(anna.who(), "among us");
    anna.expect_echo("among us");
    let who = carla.who().to_owned();
    drop(carla);
    anna.expect_departure(&who);
    let dora = join_when_free(server.addr());
    anna.expect_arrival(dora.who());
    expect_refused(server.addr());
}

#[test]
fn max_connections_refuses_with_one_line() {
    check_three_places(&["--max-connections", "3"]);
}

#[test]
fn max_per_ip_refuses_with_one_line() {
    check_three_places(&["--max-per-ip", "3"]);
}

#[test]
fn max_per_ip_counts_each_address_for_itself() {
    let server = Server::start(&["--max-per-ip", "1"]);
    let mut members = Vec::new();
    for last in [1, 2, 3] {
        let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
        let mut first = Client::dial_from(from, server.addr());
        first.expect_welcome();
        members.push(first);
        let mut second = Client::dial_from(from, server.addr());
        second.expect_notice();
        second.expect_end();
    }
}

#[test]
fn connect_rate_refuses_strangers_with_one_line_and_nobody_who_is_trusted() {
    let server = Server::start(&["--connect-rate", "2+1/s", "--trusted", "127.0.0.1"]);
    let mut anna = server.join();
    let stranger = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    // One more may have come by the time that the last is refused.
    let mut refused = 0;
    for _ in 0..10 {
        let mut client = Client::dial_from(stranger, server.addr());
        if client.next_text().starts_with("-- ") {
            refused += 1;
            client.expect_end();
        }
    }
    assert!(refused > 0, "ten came at once");
    let mut trusted: Vec<Client> = (0..10).map(|_| server.join()).collect();
    let last = trusted.pop().expect("there are some");
    while anna.next_text() != format!("{} 上线", last.who()) {}
}

/// The clock is the machine's, so only what it cannot hasten is looked at: two seconds at the least for 20 lines more.
#[test]
fn flood_slows_strangers_loses_nothing_and_leaves_the_trusted_alone() {
    let server = Server::start(&["--flood", "50+10/s,64KiB+64KiB/s", "--trusted", "127.0.0.1"]);
    let mut anna = server.join();
    let stranger = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    let mut flooder = Client::dial_from(stranger, server.addr());
    flooder.expect_welcome();
    let who = flooder.who().to_owned();
    anna.expect_arrival(&who);
    let began = Instant::now();
    flooder.send(&lines(0..70));
    flooder.half_close();
    for line in 0..50 {
        anna.expect_said(&who, &line.to_string());
    }
    let texts: Vec<String> = (0..300).map(|line| format!("trusted {line}")).collect();
    anna.send(&lines(&texts));
    let mut others = 50;
    for text in &texts {
        loop {
            let line = anna.next_text();
            if line == format!("{}: {text}", anna.who()) {
                break;
            }
            assert_eq!(line, format!("{who}: {others}"));
            others += 1;
        }
    }
    for line in others..70 {
        anna.expect_said(&who, &line.to_string());
    }
    anna.expect_departure(&who);
    assert!(began.elapsed() >= Duration::from_millis(1900), "20 lines at 10 a second, in {:?}", began.elapsed());
}

#[test]
fn flood_off_slows_nobody() {
    let server = Server::start(&["--flood", "off", "--trusted", "none"]);
    let mut anna = server.join();
    let texts: Vec<String> = (0..3000).map(|line| line.to_string()).collect();
    anna.send(&lines(&texts));
    for text in &texts {
        anna.expect_echo(text);
    }
}

#[test]
fn few_files_mean_few_places_and_a_word_for_the_rest() {
    let server = Server::launch(&["prlimit", "--nofile=64"], &[ANY_PORT], &[]);
    let mut anna = server.join();
    // The file limit less 32, as the command line promises.
    let mut members: Vec<Client> = (1..32).map(|_| server.join()).collect();
    for _ in 0..50 {
        expect_refused(server.addr());
    }
    for member in &members {
        anna.expect_arrival(member.who());
    }
    anna.say("chatting on");
    anna.expect_echo("chatting on");
    let gone = members.pop().expect("there are members");
    let who = gone.who().to_owned();
    drop(gone);
    anna.expect_departure(&who);
    let newcomer = join_when_free(server.addr());
    anna.expect_arrival(newcomer.who());
}

#[test]
fn soft_file_limit_is_raised_to_the_hard_one() {
    let server = Server::launch(&["prlimit", "--nofile=64:256"], &[ANY_PORT], &[]);
    let members: Vec<Client> = (0..224).map(|_| server.join()).collect();
    expect_refused(server.addr());
    drop(members);
}

#[test]
fn without_files_the_server_neither_ends_nor_spins() {
    let _turn = take_turns();
    let server = Server::launch(&["prlimit", "--nofile=64"], &[ANY_PORT], &["--max-connections", "1000"]);
    let mut anna = server.join();
    // All of these connect, as the kernel keeps them waiting, but not all can be let in.
    let mut crowd: Vec<Client> = (0..100).map(|_| Client::dial(server.addr())).collect();
    let mut here = Vec::new();
    while anna.hears_within(Duration::from_millis(500)) {
        here.push(arrived(&mut anna));
    }
    assert!(here.len() > 20, "only {} were let in with 64 files", here.len());
    assert!(here.len() < 64, "{} were let in with 64 files", here.len());

    // Members chat on for a second, and all the while the server has those before the door that it cannot let in.
    let cpu = server.cpu();
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(1200) {
        anna.say("chatting on");
        anna.expect_echo("chatting on");
        rounds += 1;
        assert!(!anna.hears_within(Duration::from_millis(40)), "somebody was let in though there was no file");
    }
    let cpu = server.cpu().saturating_sub(cpu);
    assert!(cpu < Duration::from_millis(400), "the server spins: {cpu:?} of CPU for {rounds} lines");

    // As many as go are let in, in their turn.
    let (mut going, mut waiting): (Vec<Client>, Vec<Client>) =
        crowd.drain(..).partition(|client| here.iter().any(|who| who == client.who()));
    let gone: Vec<String> = going.drain(..10).map(|client| client.who().to_owned()).collect();
    let (mut departures, mut arrivals) = (Vec::new(), Vec::new());
    while departures.len() < gone.len() || arrivals.len() < gone.len() {
        let line = anna.next_text();
        if let Some(who) = line.strip_suffix(" 下线") {
            departures.push(who.to_owned());
        } else if let Some(who) = line.strip_suffix(" 上线") {
            arrivals.push(who.to_owned());
        } else {
            anna.fail(&format!("{line:?} is neither an arrival nor a departure"));
        }
    }
    departures.sort();
    let mut gone = gone;
    gone.sort();
    assert_eq!(departures, gone);
    for who in arrivals {
        let client = waiting.iter_mut().find(|client| client.who() == who);
        client.unwrap_or_else(|| panic!("{who} never came")).expect_welcome();
    }
}

fn arrived(witness: &mut Client) -> String {
    let line = witness.next_text();
    line.strip_suffix(" 上线").unwrap_or_else(|| witness.fail(&format!("{line:?} is no arrival"))).to_owned()
}

#[test]
fn one_who_asks_and_never_reads_costs_no_memory() {
    let server = Server::start(&[]);
    let [mut anna, mut berta] = server.company();
    let greedy = Client::join_narrow(server.addr());
    for client in [&mut anna, &mut berta] {
        client.expect_arrival(greedy.who());
    }
    let rss_bytes = server.rss_bytes();
    let mut stream = greedy.stream();
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a TCP stream");
    let questions = "/help\n/who\n".repeat(50_000);
    // Either all are taken, or the server stops reading, which shows as a write that finds no room for half a second.
    match stream.write_all(questions.as_bytes()) {
        Ok(()) => {}
        Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "the asker's stream broke: {e}"),
    }
    for round in 0..100 {
        anna.say(&format!("{round}"));
        berta.expect_said(anna.who(), &format!("{round}"));
        anna.expect_echo(&format!("{round}"));
    }
    let grown = server.rss_bytes().saturating_sub(rss_bytes);
    assert!(grown < 6 * MIB, "bounded memory: {grown} bytes more for one who asks and never reads");
    let who = greedy.who().to_owned();
    greedy.reset();
    drop(stream);
    anna.expect_departure(&who);
}

#[test]
fn every_question_of_one_who_reads_is_answered() {
    let server = Server::start(&[]);
    let mut anna = server.join();
    let who = anna.who().to_owned();
    anna.say("/help");
    let one = anna.notices_until(&who, "one").len();
    let mut stream = anna.stream();
    let asking = thread::spawn(move || stream.write_all("/help\n".repeat(5000).as_bytes()).expect("it is read"));
    for _ in 0..5000 * one {
        anna.expect_notice();
    }
    asking.join().expect("see its message");
    assert!(anna.notices_until(&who, "over").is_empty());
}

#[test]
fn partial_lines_of_many_stay_within_a_total() {
    const HOLDERS: usize = 400;
    let _turn = take_turns();
    let server = Server::start(&[]);
    let mut anna = server.join();
    let rss_bytes = server.rss_bytes();
    let mut holders: Vec<Client> = Vec::with_capacity(HOLDERS);
    for _ in 0..HOLDERS {
        let mut holder = server.join();
        anna.expect_arrival(holder.who());
        // A short line shows that the long beginning behind it is on its way into the server, too.
        holder.send(&[&b"mark\n"[..], &vec![b'p'; 60_000]].concat());
        anna.expect_said(holder.who(), "mark");
        holders.push(holder);
    }
    // 24 MB are begun, of which a stated total of 16 MiB may be held; nobody else notices.
    for round in 0..100 {
        anna.say(&format!("{round}"));
        anna.expect_echo(&format!("{round}"));
    }
    let grown = server.rss_peak_bytes() - rss_bytes;
    assert!(grown < 24 * MIB, "bounded memory: {grown} bytes more for partial lines");
    for holder in holders {
        let who = holder.who().to_owned();
        holder.reset();
        anna.expect_departure(&who);
    }
}

#[test]
fn log_that_nobody_takes_holds_up_no_chat() {
    const O_NONBLOCK: i32 = 0o4000;
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    // Another opening of the same pipe, which says so when it is full instead of waiting.
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut filler = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path).expect("the same pipe");
    let mut command = process::unisono();
    command.args(["serve", "--listen", ANY_PORT, "--max-connections", "21"]).stdin(Stdio::null()).stderr(writer);
    let mut server = Process::spawn_with_own_stderr(command);
    let mut log = Vec::new();
    let addr = loop {
        let mut chunk = [0; 4096];
        let count = reader.read(&mut chunk).expect("a pipe");
        assert!(count > 0, "the server does not listen: {}", String::from_utf8_lossy(&log));
        log.extend_from_slice(&chunk[..count]);
        if let [addr] = process::listening_on(&String::from_utf8_lossy(&log))[..] {
            break addr;
        }
    };
    for chunk_bytes in [4096, 1] {
        while filler.write(&vec![b'.'; chunk_bytes]).is_ok() {}
    }
    // Whatever may be worth a word in the log happens now, often, and none of it can be written.
    let mut anna = Client::join(addr);
    for round in 0..30 {
        let mut members: Vec<Client> = (0..20).map(|_| join_when_free(addr)).collect();
        for member in &members {
            anna.expect_arrival(member.who());
        }
        for _ in 0..20 {
            expect_refused(addr);
        }
        let last = members.last_mut().expect("there are members");
        last.say(&format!("{round}"));
        anna.expect_said(last.who(), &format!("{round}"));
        for member in members {
            let who = member.who().to_owned();
            member.reset();
            anna.expect_departure(&who);
        }
    }
    // Nor does it hold up the end.
    server.signal("TERM");
    anna.expect_end_with_reason();
    drop(anna);
    let status = server.wait();
    assert_eq!(status.code(), Some(0));
    drop((reader, filler));
}
