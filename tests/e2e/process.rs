//! The processes a test starts: the server, the client, and whatever stands in a pipe with them.
//!
//! Their output is drained by threads from the first byte on, so nobody ever waits for us. An exit is an event, too: the
//! end of a child's output says that it is over, so waiting for it needs neither a poll nor a sleep. A child that is
//! still there when its owner goes is killed by its own id.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;

/// How long an awaited event may take before the test says that it is missing. A bound for hangs, not a measure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Where a server listens unless a test says otherwise: loopback, on a port the kernel picks.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// Tests that need the machine's speed for themselves take turns; all others may run beside them.
pub(crate) fn take_turns() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary under test, deaf to whatever `UNISONO_...` the surroundings may hold.
pub(crate) fn unisono() -> Command {
    under(&[])
}

/// The binary under test, started by another program: `prlimit --nofile=64 unisono ...`.
fn under(wrapper: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_unisono");
    let mut command = match wrapper {
        [] => Command::new(binary),
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest).arg(binary);
            command
        }
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UNISONO_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// Everything that one stream of a process has said so far, and whether it has ended.
#[derive(Default)]
struct Drained {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Drained {
    fn drain(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let drained = Arc::new(Self::default());
        let into = Arc::clone(&drained);
        thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            loop {
                let count = from.read(&mut chunk).unwrap_or(0);
                let mut state = into.state.lock().unwrap();
                state.0.extend_from_slice(&chunk[..count]);
                state.1 = count == 0;
                into.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        drained
    }

    /// Waits until `found` makes something of the bytes and of whether they have ended; `None` after the deadline.
    fn wait_for<T>(&self, mut found: impl FnMut(&[u8], bool) -> Option<T>) -> Option<T> {
        let until = Instant::now() + DEADLINE;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = found(&state.0, state.1) {
                return Some(found);
            }
            let left = until.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().0.clone()
    }
}

/// A child process with its output collected.
pub(crate) struct Process {
    child: Child,
    stdout: Option<Arc<Drained>>,
    stderr: Option<Arc<Drained>>,
}

impl Process {
    /// Starts `command` with stdout and stderr collected; stdin is whatever `command` says.
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self::start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).collect_stdout().collect_stderr()
    }

    /// Starts `command` with only stderr collected; stdout is the caller's to take.
    pub(crate) fn spawn_with_own_stdout(mut command: Command) -> Self {
        Self::start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).collect_stderr()
    }

    /// Starts `command` with only stdout collected; stderr is as `command` says.
    pub(crate) fn spawn_with_own_stderr(mut command: Command) -> Self {
        Self::start(command.stdout(Stdio::piped())).collect_stdout()
    }

    fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { child, stdout: None, stderr: None }
    }

    fn collect_stdout(mut self) -> Self {
        self.stdout = Some(Drained::drain(self.child.stdout.take().expect("stdout is a pipe")));
        self
    }

    fn collect_stderr(mut self) -> Self {
        self.stderr = Some(Drained::drain(self.child.stderr.take().expect("stderr is a pipe")));
        self
    }

    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is a pipe")
    }

    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is a pipe")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, as `kill` does.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for the process to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let over = self.output().wait_for(|_, ended| ended.then_some(()));
        assert!(over.is_some(), "the process is still there after {DEADLINE:?}; its stderr: {}", self.stderr());
        self.child.wait().expect("a child can be waited for")
    }

    /// Whether the process has ended its output, and so itself.
    pub(crate) fn is_over(&self) -> bool {
        self.output().state.lock().unwrap().1
    }

    /// Whichever output is collected, the end of which tells of the process's own.
    fn output(&self) -> &Drained {
        self.stderr.as_ref().or(self.stdout.as_ref()).expect("one of them is collected")
    }

    /// Waits until stdout has said `text`.
    pub(crate) fn wait_for_stdout(&self, text: &str) {
        let stdout = self.stdout.as_ref().expect("stdout is collected");
        let seen = stdout.wait_for(|bytes, _| String::from_utf8_lossy(bytes).contains(text).then_some(()));
        assert!(
            seen.is_some(),
            "no {text:?} on stdout: {:?}; stderr: {}",
            String::from_utf8_lossy(&stdout.bytes()),
            self.stderr()
        );
    }

    /// Waits until stderr has said `text`.
    pub(crate) fn wait_for_stderr(&self, text: &str) {
        let seen = self.wait_for_stderr_that(|stderr| stderr.contains(text));
        assert!(seen, "no {text:?} on stderr: {}", self.stderr());
    }

    /// Waits until stderr is as `is_so` says, and says whether that came.
    fn wait_for_stderr_that(&self, is_so: impl Fn(&str) -> bool) -> bool {
        let stderr = self.stderr.as_ref().expect("stderr is collected");
        stderr.wait_for(|bytes, _| is_so(&String::from_utf8_lossy(bytes)).then_some(())).is_some()
    }

    /// All of stdout, once it has ended.
    pub(crate) fn stdout(&self) -> Vec<u8> {
        let stdout = self.stdout.as_ref().expect("stdout is collected");
        stdout.wait_for(|bytes, ended| ended.then(|| bytes.to_vec())).expect("stdout never ended")
    }

    /// What stderr has said so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.as_ref().map_or_else(String::new, |stderr| String::from_utf8_lossy(&stderr.bytes()).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither can fail for a child that is still ours, and for one that is over there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to one process by its id.
pub(crate) fn signal(id: u32, name: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")).status().expect("sh runs");
    assert!(status.success(), "kill -{name} {id} failed");
}

/// A running `unisono serve`.
pub(crate) struct Server {
    process: Process,
    addrs: Vec<SocketAddr>,
}

impl Server {
    /// Starts a server on one free port of 127.0.0.1 and waits until it listens.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::launch(&[], &[ANY_PORT], options)
    }

    /// Starts a server by way of another program, on as many listeners as asked for.
    pub(crate) fn launch(wrapper: &[&str], listens: &[&str], options: &[&str]) -> Self {
        let options: Vec<&str> =
            listens.iter().flat_map(|addr| ["--listen", addr]).chain(options.iter().copied()).collect();
        Self::launch_in(wrapper, listens.len(), &options)
    }

    /// Starts a server that listens in so many places as the options say, by addresses or not.
    pub(crate) fn start_in(places: usize, options: &[&str]) -> Self {
        Self::launch_in(&[], places, options)
    }

    fn launch_in(wrapper: &[&str], places: usize, options: &[&str]) -> Self {
        let mut command = under(wrapper);
        command.arg("serve").args(options);
        command.stdin(Stdio::null());
        let process = Process::spawn(command);
        let stderr = process.stderr.as_ref().expect("it is collected");
        let addrs = stderr.wait_for(|bytes, ended| {
            let log = String::from_utf8_lossy(bytes);
            let is_listening = whole_lines(&log).matches("listening on ").count() == places;
            (is_listening || ended).then(|| (is_listening, listening_on(&log)))
        });
        let Some((true, addrs)) = addrs else {
            panic!("the server does not listen; its stderr: {}", process.stderr());
        };
        Self { process, addrs }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// One more member, welcomed.
    pub(crate) fn join(&self) -> Client {
        Client::join(self.addr())
    }

    /// `N` members, each of whom has seen all who came after it.
    pub(crate) fn company<const N: usize>(&self) -> [Client; N] {
        let mut members: Vec<Client> = Vec::with_capacity(N);
        for _ in 0..N {
            let newcomer = self.join();
            for member in &mut members {
                member.expect_arrival(newcomer.who());
            }
            members.push(newcomer);
        }
        members.try_into().unwrap_or_else(|_| unreachable!("N were made"))
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for the server's end by itself and says how it ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Asserts that the server ends now, with 0, and has said nothing on stdout.
    pub(crate) fn expect_exit_0(&mut self) {
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "the server's stderr: {}", self.process.stderr());
        let stdout = self.process.stdout();
        assert!(stdout.is_empty(), "stdout of serve stays empty: {:?}", String::from_utf8_lossy(&stdout));
    }

    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Waits until the log has `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.process.wait_for_stderr(text);
    }

    /// Waits until the log is as `is_so` says.
    pub(crate) fn wait_for_log_that(&self, is_so: impl Fn(&str) -> bool) {
        assert!(self.process.wait_for_stderr_that(is_so), "not so: {}", self.stderr());
    }

    /// Asserts that of those who were not greeted `witness` was told nothing, and the log one thing.
    pub(crate) fn expect_nobody_came_through(&self, witness: &mut Client) {
        witness.say("nobody came");
        witness.expect_echo("nobody came");
        self.wait_for_log("did not come through");
        let log = self.stderr();
        assert_eq!(log.matches("did not come through").count(), 1, "seldom told: {log}");
    }

    /// The most memory the process has had resident so far.
    pub(crate) fn rss_peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The memory the process has resident now.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel has this field");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// CPU time of all threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // By proc_pid_stat(5), utime and stime are fields 14 and 15; the name, field 2, ends at the last parenthesis.
        let (_, after_name) = stat.rsplit_once(") ").expect("a name in parentheses");
        let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// How many files the process has open.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("the server is there").count()
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).expect("the server is there")
    }
}

fn whole_lines(log: &str) -> &str {
    &log[..log.rfind('\n').map_or(0, |end| end + 1)]
}

/// The addresses in lines that say `listening on ADDR`.
pub(crate) fn listening_on(log: &str) -> Vec<SocketAddr> {
    let after = whole_lines(log).lines().filter_map(|line| line.split_once("listening on "));
    after.filter_map(|(_, rest)| rest.split([' ', '\n', '"']).next()?.parse().ok()).collect()
}

/// Runs a command to its end with `input` on stdin.
pub(crate) fn run(mut command: Command, input: &[u8]) -> (ExitStatus, Vec<u8>, String) {
    command.stdin(Stdio::piped());
    let mut process = Process::spawn(command);
    let mut stdin = process.take_stdin();
    let input = input.to_vec();
    // From a thread, as nobody promises to read; whether it was taken is the caller's to judge by what came of it.
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let status = process.wait();
    writer.join().expect("the writer only writes");
    (status, process.stdout(), process.stderr())
}
