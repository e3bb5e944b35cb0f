//! Transcript parity: what each client receives from `--plain --raw` equals, byte for byte, what the seed sends.
//!
//! A [`Script`] is a few connects, says and leaves, run one after another with a barrier after each: nobody goes on
//! before everybody present has seen all that the step brings about. Between barriers the seed has only one possible
//! order, so a small model can say what each client must have seen, and does so here in place of the seed. If the
//! environment's `UNISONO_SEED` names the seed itself (built with its port as first argument), every script runs
//! against it as well, and the same bytes are required of it. That keeps the model honest.
//!
//! Two differences are meant. A client that ends its input gets its last lines, of which the seed, closing at once, loses
//! the last. And a barrier after a connect needs a line of the newcomer's own, as the seed welcomes before it lets in.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::client::{Client, shown};
use crate::process::{DEADLINE, Process, Server};

/// The longest line the seed takes, any carriage return at its end included.
const SEED_LINE_BYTES_MAX: usize = 65_535;

/// What happens next. Clients are numbered in the order in which they connect.
#[derive(Clone, Debug)]
enum Step {
    /// One connects and says this, which holds at least one whole line.
    Connect(Vec<u8>),
    /// One connects, says this and ends its input at once.
    Visit(Vec<u8>),
    /// A client sends this, in writes of so many bytes.
    Say { client: usize, bytes: Vec<u8>, write_bytes: usize },
    /// A client sends this and ends its input.
    Leave { client: usize, bytes: Vec<u8> },
}

type Script = Vec<Step>;

/// The seed as a pure function: who is present, and what each client has been sent.
#[derive(Default)]
struct Model {
    clients: Vec<Modelled>,
}

struct Modelled {
    who: String,
    present: bool,
    /// Bytes sent that are no whole line yet.
    partial: Vec<u8>,
    /// Everything this client must have received.
    sees: Vec<u8>,
    /// Where its last line begins if it ended its input right behind it: so much even the seed must have sent.
    seed_sees_at_least: Option<usize>,
}

impl Model {
    fn connect(&mut self, who: &str) -> usize {
        self.tell_all(format!("{who} 上线\n"));
        let sees = format!("欢迎 {who}\n").into_bytes();
        let who = who.to_owned();
        self.clients.push(Modelled { who, present: true, partial: Vec::new(), sees, seed_sees_at_least: None });
        self.clients.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line(client);
            } else {
                self.clients[client].partial.push(byte);
            }
        }
    }

    /// The end of input: an unterminated line counts, then the departure.
    fn leave(&mut self, client: usize, bytes: &[u8]) {
        let barrier = self.clients[client].sees.len();
        self.send(client, bytes);
        if !self.clients[client].partial.is_empty() {
            self.end_line(client);
        }
        let member = &mut self.clients[client];
        let lines = &member.sees[barrier..];
        let last_line = lines.split_inclusive(|&byte| byte == b'\n').next_back();
        member.seed_sees_at_least = Some(member.sees.len() - last_line.map_or(0, <[u8]>::len));
        member.present = false;
        let departure = format!("{} 下线\n", member.who);
        self.tell_all(&departure);
    }

    fn end_line(&mut self, client: usize) {
        let member = &mut self.clients[client];
        let mut text = std::mem::take(&mut member.partial);
        if text.last() == Some(&b'\r') {
            text.pop();
        }
        let line = [member.who.as_bytes(), b": ", &text, b"\n"].concat();
        self.tell_all(&line);
    }

    fn tell_all(&mut self, line: impl AsRef<[u8]>) {
        for member in self.clients.iter_mut().filter(|member| member.present) {
            member.sees.extend_from_slice(line.as_ref());
        }
    }
}

/// Who is being compared with the model.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    Unisono,
    Seed,
}

/// Runs a script against one server and compares everybody's bytes with the model's after each step.
fn play(target: Target, addr: SocketAddr, script: &Script) {
    let mut model = Model::default();
    let mut clients: Vec<Client> = Vec::new();
    let connect = |model: &mut Model, clients: &mut Vec<Client>| {
        let mut client = Client::dial(addr);
        let index = model.connect(client.who());
        // The seed sends the welcome before it knows of anything else, and may lose it to one who leaves at once.
        client.read_until_seen(model.clients[index].sees.len());
        clients.push(client);
        index
    };
    for step in script {
        match step {
            Step::Connect(bytes) => {
                let index = connect(&mut model, &mut clients);
                clients[index].send(bytes);
                model.send(index, bytes);
            }
            Step::Visit(bytes) => {
                let index = connect(&mut model, &mut clients);
                leave(target, &mut model, &mut clients[index], index, bytes);
            }
            Step::Say { client, bytes, write_bytes } => {
                for write in bytes.chunks(*write_bytes) {
                    clients[*client].send(write);
                }
                model.send(*client, bytes);
            }
            Step::Leave { client, bytes } => leave(target, &mut model, &mut clients[*client], *client, bytes),
        }
        barrier(&model, &mut clients);
    }
    // Whoever is still there leaves in order, so that nothing can follow what was compared.
    for index in 0..clients.len() {
        if model.clients[index].present {
            leave(target, &mut model, &mut clients[index], index, b"");
            barrier(&model, &mut clients);
        }
    }
}

/// Waits until everybody present has seen all that was brought about, and nothing else.
fn barrier(model: &Model, clients: &mut [Client]) {
    for (client, modelled) in clients.iter_mut().zip(&model.clients).filter(|(_, modelled)| modelled.present) {
        client.read_until_seen(modelled.sees.len());
        expect_equal(client, &modelled.sees);
    }
}

fn leave(target: Target, model: &mut Model, client: &mut Client, index: usize, bytes: &[u8]) {
    client.send(bytes);
    client.half_close();
    model.leave(index, bytes);
    client.read_to_end();
    let modelled = &model.clients[index];
    let least = modelled.seed_sees_at_least.expect("it has left");
    if target == Target::Seed && client.seen().len() == least {
        expect_equal(client, &modelled.sees[..least]);
    } else {
        expect_equal(client, &modelled.sees);
    }
}

fn expect_equal(client: &Client, sees: &[u8]) {
    if client.seen() != sees {
        let same = client.seen().iter().zip(sees).take_while(|(a, b)| a == b).count();
        client.fail(&format!(
            "differs from the seed at byte {same}: expected {} but saw {}",
            shown(&sees[same..]),
            shown(&client.seen()[same..])
        ));
    }
}

/// Checks a script against the server, and against the seed where there is one.
fn check(script: &Script) {
    let server = Server::start(&["--plain", "--raw"]);
    play(Target::Unisono, server.addr(), script);
    if let Some(binary) = std::env::var_os("UNISONO_SEED") {
        let (_seed, addr) = start_seed(&binary);
        play(Target::Seed, addr, script);
    }
}

/// Starts the seed, which wants to be told its port, on one that is free; somebody else may be quicker, so it may take
/// more than one.
fn start_seed(binary: &OsStr) -> (Process, SocketAddr) {
    let until = Instant::now() + DEADLINE;
    loop {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut command = Command::new(binary);
        command.arg(addr.port().to_string()).stdin(Stdio::null());
        let process = Process::spawn(command);
        // It does not say when it is ready, and a connection made to find out would be a member: the kernel knows.
        while !process.is_over() {
            if listens(process.id(), addr) {
                return (process, addr);
            }
            assert!(Instant::now() < until, "the seed does not listen: {}", process.stderr());
            std::thread::yield_now();
        }
        assert!(Instant::now() < until, "the seed does not start: {}", process.stderr());
    }
}

/// Whether this very process listens on an address of IPv4, by the kernel's own table.
fn listens(id: u32, addr: SocketAddr) -> bool {
    const LISTEN: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("there is IPv4");
    let port = format!(":{:04X}", addr.port());
    let listener = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| {
        (fields.len() > 9 && fields[1].ends_with(&port) && fields[3] == LISTEN)
            .then(|| format!("socket:[{}]", fields[9]))
    });
    let (Some(listener), Ok(files)) = (listener, std::fs::read_dir(format!("/proc/{id}/fd"))) else {
        return false;
    };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &listener[..]))
}

fn say(client: usize, bytes: impl AsRef<[u8]>) -> Step {
    Step::Say { client, bytes: bytes.as_ref().to_vec(), write_bytes: usize::MAX }
}

fn trickle(client: usize, bytes: impl AsRef<[u8]>) -> Step {
    Step::Say { client, bytes: bytes.as_ref().to_vec(), write_bytes: 1 }
}

fn connect() -> Step {
    Step::Connect(b"here\n".to_vec())
}

fn leave_saying(client: usize, bytes: impl AsRef<[u8]>) -> Step {
    Step::Leave { client, bytes: bytes.as_ref().to_vec() }
}

#[test]
fn one_alone_sees_its_own_lines() {
    check(&vec![connect(), say(0, "a\n"), say(0, "b\nc\nd\n"), leave_saying(0, "")]);
}

#[test]
fn three_come_talk_and_go() {
    check(&vec![
        connect(),
        connect(),
        say(0, "hello\n"),
        say(1, "欢迎\n"),
        connect(),
        say(2, "🎵 unisono\n"),
        leave_saying(1, ""),
        say(0, "still here\n"),
        connect(),
        leave_saying(0, "bye\n"),
        say(3, "\n"),
        leave_saying(2, ""),
    ]);
}

#[test]
fn empty_lines_and_carriage_returns_are_as_in_the_seed() {
    check(&vec![
        Step::Connect(b"\n".to_vec()),
        connect(),
        say(0, "\n\n\n"),
        say(1, "crlf\r\n"),
        say(0, "\r\n\r\r\n"),
        say(1, "one\rtwo\r\r\nthree\r"),
        say(1, "\n"),
        say(0, "split\r"),
        say(0, "not a line end\n\r"),
        say(0, "\n"),
    ]);
}

#[test]
fn unterminated_last_lines_count() {
    check(&vec![
        connect(),
        connect(),
        Step::Visit(b"".to_vec()),
        Step::Visit(b"no line feed".to_vec()),
        Step::Visit(b"one\ntwo\nthree".to_vec()),
        Step::Visit(b"\r".to_vec()),
        Step::Visit(b"text\r".to_vec()),
        Step::Visit(b"\n".to_vec()),
        say(1, "begun"),
        leave_saying(1, " and done"),
        say(0, "rest"),
        leave_saying(0, ""),
    ]);
}

#[test]
fn one_byte_per_write_changes_nothing() {
    check(&vec![
        connect(),
        connect(),
        trickle(0, "slow and 多字节 🎵 whole\r\n\nnext\n"),
        trickle(1, "ab"),
        say(0, "between\n"),
        trickle(1, "cd\n"),
    ]);
}

#[test]
fn characters_cut_anywhere_arrive_whole() {
    let text = "é欢🎵e\u{301}\n".as_bytes();
    let mut script = vec![connect(), connect()];
    for cut in 1..text.len() {
        script.push(say(0, &text[..cut]));
        script.push(say(1, "meanwhile\n"));
        script.push(say(0, &text[cut..]));
    }
    check(&script);
}

#[test]
fn raw_bytes_commands_and_marks_pass_as_text() {
    check(&vec![
        Step::Connect(b"\xef\xbb\xbfmark\n".to_vec()),
        Step::Connect(b"/name anna\n".to_vec()),
        say(0, "/who\n//x\n/quit\n-- 错过 3 行\n"),
        say(1, b"\x1b[31m\x00\x07\x7f\xff\xfe\xc0\xaf\xed\xa0\x80\n\xff\xfb\x01\n"),
        say(0, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
        say(1, "\u{202e}\u{2028}\u{85}\u{b}\u{c}\n"),
        leave_saying(0, "/quit"),
    ]);
}

#[test]
fn lines_up_to_the_seeds_bound_pass_whole() {
    let longest = vec![b'x'; SEED_LINE_BYTES_MAX];
    let with_return = [&longest[1..], b"\r"].concat();
    check(&vec![
        connect(),
        connect(),
        say(0, [&longest[..], b"\n"].concat()),
        say(1, [&with_return[..], b"\n", &with_return, b"\nshort\n"].concat()),
        Step::Say { client: 0, bytes: [&longest[..], b"\n", &longest, b"\n"].concat(), write_bytes: 1000 },
        Step::Visit(longest.clone()),
        say(0, &longest),
        say(1, "meanwhile\n"),
        leave_saying(0, ""),
    ]);
}

/// One thing a random script does; a client is picked among those present when its turn comes.
#[derive(Clone, Debug)]
enum Wish {
    Connect(Vec<u8>),
    Visit(Vec<u8>),
    Say(prop::sample::Index, Vec<u8>, usize),
    Leave(prop::sample::Index, Vec<u8>),
}

/// Turns wishes into a script the seed can play: somebody is there to speak, and no line is longer than the seed bears.
fn script(wishes: Vec<Wish>) -> Script {
    let mut script = Script::new();
    let mut column: Vec<usize> = Vec::new();
    let mut present: Vec<usize> = Vec::new();
    for wish in wishes {
        match wish {
            Wish::Connect(bytes) => {
                column.push(0);
                present.push(column.len() - 1);
                let mut bytes = fit(bytes, column.last_mut().expect("just pushed"));
                if !bytes.contains(&b'\n') {
                    bytes.push(b'\n');
                    *column.last_mut().expect("just pushed") = 0;
                }
                script.push(Step::Connect(bytes));
            }
            Wish::Visit(bytes) => {
                column.push(0);
                script.push(Step::Visit(fit(bytes, &mut 0)));
            }
            Wish::Say(index, bytes, write_bytes) if !present.is_empty() => {
                let client = *index.get(&present);
                let bytes = fit(bytes, &mut column[client]);
                let write_bytes = write_bytes.max(bytes.len() / 256 + 1);
                script.push(Step::Say { client, bytes, write_bytes });
            }
            Wish::Leave(index, bytes) if !present.is_empty() => {
                let client = present.remove(index.index(present.len()));
                let bytes = fit(bytes, &mut column[client]);
                script.push(Step::Leave { client, bytes });
            }
            Wish::Say(..) | Wish::Leave(..) => {}
        }
    }
    script
}

/// Breaks lines longer than the seed's bound, given how long the current one is already.
fn fit(bytes: Vec<u8>, column: &mut usize) -> Vec<u8> {
    let mut fitted = Vec::with_capacity(bytes.len() + 1);
    for byte in bytes {
        if byte != b'\n' && *column == SEED_LINE_BYTES_MAX {
            fitted.push(b'\n');
            *column = 0;
        }
        fitted.push(byte);
        *column = if byte == b'\n' { 0 } else { *column + 1 };
    }
    fitted
}

fn arb_bytes() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        4 => "[a-z ]{0,12}".prop_map(String::into_bytes),
        3 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => "\\PC{0,6}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::sample::select(vec!["/who", "/name x", "-- ", "欢迎", "🎵", "\u{feff}"]).prop_map(Vec::from),
    ];
    let long = (1..SEED_LINE_BYTES_MAX).prop_map(|count| vec![b'l'; count]);
    let fragments = prop::collection::vec(prop_oneof![40 => fragment, 1 => long], 0..10);
    fragments.prop_map(|fragments| fragments.concat())
}

fn arb_script() -> impl Strategy<Value = Script> {
    let wish = prop_oneof![
        3 => arb_bytes().prop_map(Wish::Connect),
        1 => arb_bytes().prop_map(Wish::Visit),
        8 => (any::<prop::sample::Index>(), arb_bytes(), prop_oneof![Just(usize::MAX), Just(1), 2..50_usize])
            .prop_map(|(index, bytes, write_bytes)| Wish::Say(index, bytes, write_bytes)),
        2 => (any::<prop::sample::Index>(), arb_bytes()).prop_map(|(index, bytes)| Wish::Leave(index, bytes)),
    ];
    prop::collection::vec(wish, 1..30).prop_map(script)
}

#[test]
fn random_scripts_are_as_in_the_seed() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    // No file of old failures: the tree keeps a failing script as a test of its own above.
    let config = Config { cases, max_shrink_iters: 400, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&arb_script(), |script| {
        check(&script);
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}

#[test]
fn model_tells_each_what_the_seed_would() {
    let mut model = Model::default();
    let anna = model.connect("1:1");
    let berta = model.connect("2:2");
    model.send(anna, b"hi\r\nha");
    model.send(berta, b"\n");
    model.leave(anna, b"lf");
    assert_eq!(shown(&model.clients[anna].sees), shown("欢迎 1:1\n2:2 上线\n1:1: hi\n2:2: \n1:1: half\n".as_bytes()));
    assert_eq!(shown(&model.clients[berta].sees), shown("欢迎 2:2\n1:1: hi\n2:2: \n1:1: half\n1:1 下线\n".as_bytes()));
}
