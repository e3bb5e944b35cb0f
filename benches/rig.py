"""What `compare` and `profile` share: servers on ports of their own, fanbench's command line, and options."""

import json
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# How long a server may take to listen, and to end once it is told to.
PATIENCE_S = 10


class Broken(Exception):
    """The run cannot go on: a server does not start or has died, or fanbench failed."""


@dataclass(frozen=True)
class Server:
    """A server, as fanbench meets it. `{port}` and `{dir}`, a directory for the round, are filled in."""

    name: str
    command: tuple[str, ...]
    proto: str = "line"
    # Bytes by which its payload is longer than that of the others.
    widened: int = 0
    config: str = ""
    # What fanbench checks but this server does not promise.
    unpromised: tuple[str, ...] = ()
    # It speaks within TLS, by `{dir}/cert.pem` and `{dir}/key.pem`.
    within_tls: bool = False


def lean(path):
    """The ruler. It says no names, so its lines are longer by the bytes that a name takes: all move the same bytes."""
    return Server("lean", (str(path), "{port}"), widened=len("127.0.0.1:54321: "))


def unisono(name, path):
    return Server(name, (path, "serve", "--listen", "127.0.0.1:{port}"))


def unisono_within_tls(name, path):
    papers = ("--tls-cert", "{dir}/cert.pem", "--tls-key", "{dir}/key.pem")
    return Server(f"{name}, TLS", (path, "serve", "--tls-listen", "127.0.0.1:{port}", *papers), within_tls=True)


def certify(directory):
    """Puts a certificate for 127.0.0.1 and its key where a server within TLS looks for them."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=127.0.0.1"
    words += " -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem"
    done = subprocess.run(words.split(), cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        raise Broken(f"openssl makes no certificate: {done.stderr}")


@dataclass(frozen=True)
class Load:
    """One run of fanbench against a fresh server."""

    mode: str
    readers: int
    options: tuple[str, ...] = ()
    payload: int = 32
    # Rounds per repeat, for what is noisy; and how much longer than others a round is.
    times: int = 1
    longer: int = 1

    def __str__(self):
        return " ".join((self.mode, "-n", str(self.readers), "-s", str(self.payload), *self.options))

    def contenders(self, everyone):
        return [one for one in everyone if isinstance(one, Server) and not one.within_tls]

    def command(self, server, bench, pid, port, out):
        """The words that start fanbench on the generator's side; its report goes to the file `out`."""
        # Of every tenth reader each line is checked and timed; of the others bytes are counted, or else it would be the
        # generator that is measured. Bytes do not tell how many lines there were where other things come between: members
        # come and go, brokers reply and ping.
        timed = min(10, max(1, self.readers // 10))
        checked = timed if server.proto == "line" and self.mode != "churn" else 1
        words = [bench.fanbench, self.mode, "--addr", f"127.0.0.1:{port}", "--pid", pid, "--label", server.name]
        words += ["--proto", server.proto, "--json", out, "-n", self.readers, "-s", self.payload + server.widened]
        words += ["--check-every", checked, "--lat-every", timed, *self.options]
        if server.proto == "line":
            words.append("--greet")
        if server.within_tls:
            words += ["--tls", out.with_name("cert.pem")]
        if self.mode != "idle":
            words += ["-d", bench.seconds * self.longer]
        return bench.pinned(1, words)

    def run(self, server, bench):
        with tempfile.TemporaryDirectory() as directory, bench.serving(server, directory) as (pid, port):
            out = Path(directory, "fanbench.json")
            done = subprocess.run(self.command(server, bench, pid, port, out), capture_output=True, text=True)
            if done.returncode != 0:
                raise Broken(f"{self} with {server.name}: {done.stdout}{done.stderr}")
            return json.loads(out.read_text())

    def faults(self, server, report):
        """What is incorrect in a report, as words; empty if nothing is."""
        connect = report["connect"]
        found = {key: connect[key] for key in ("failed", "lost_while_settling")}
        for measured in report["rounds"]:
            check = measured["check"]
            found |= {key: check[key] for key in ("missing", "gaps", "late_or_duplicate", "order_violations", "stray")}
            found |= {"disconnected": measured["disconnected"], "stalled": measured["stalled"]}
            found |= {"server_died": not measured["server_alive"], "churn_failed": measured["churn"]["failed"]}
        return [f"{key} {count}" for key, count in found.items() if count and key not in server.unpromised]


def throughput(readers, window, senders=1, **rest):
    return Load("throughput", readers, ("-p", str(senders), "-w", str(window)), **rest)


@dataclass(frozen=True)
class Bench:
    """How rounds are run on this machine."""

    fanbench: Path
    seconds: float
    # The CPUs of the server and of the generator; none: the scheduler's choice.
    pin: tuple[int, int] | None

    @staticmethod
    def of(options):
        """What options ask for, with everything made ready for it."""
        if not options.lean.exists():
            options.lean.parent.mkdir(parents=True, exist_ok=True)
            source = ROOT / "benches/fanbench/limit/lean.c"
            subprocess.run(["gcc", "-O2", "-pthread", "-o", options.lean, source], check=True)
        # Servers and fanbench inherit it.
        most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
        # As an exception, so that no server outlives us.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
        pin = None if options.pin == "none" else tuple(int(cpu) for cpu in options.pin.split(","))
        return Bench(options.fanbench, options.seconds, pin)

    def pinned(self, side, command):
        """The words of a command for the server's side, 0, or the generator's, 1."""
        prefix = ["taskset", "-c", self.pin[side]] if self.pin else []
        return [str(word) for word in (*prefix, *command)]

    @contextmanager
    def serving(self, server, directory):
        """Runs a server; gives its pid and its port."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        words = {"port": port, "dir": directory}
        Path(directory, "config").write_text(server.config.format(**words))
        if server.within_tls:
            certify(directory)
        log = Path(directory, "log")
        with log.open("wb") as output:
            # `taskset` becomes the server, so the pid is that of the server.
            command = self.pinned(0, [word.format(**words) for word in server.command])
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            await_listening(process, port, server.name, log)
            yield process.pid, port
            if process.poll() is not None:
                raise Broken(f"{server.name} has died: {log.read_text(errors='replace')[-2000:]}")
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Broken(f"{server.name} did not end within {PATIENCE_S} s of SIGTERM") from None


def await_listening(process, port, name, log):
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                text = log.read_text(errors="replace")[-2000:]
                raise Broken(f"{name} does not listen on port {port}: {error}\n{text}") from None
            time.sleep(0.02)


def add_options(parser):
    parser.add_argument("--seconds", type=float, default=3, help="of sending in a round (default 3)")
    parser.add_argument("--pin", default="0,1", help="CPUs of server and generator, or none (default 0,1)")
    parser.add_argument(
        "--unisono",
        action="append",
        metavar="[NAME=]PATH",
        help="a binary; can be repeated (default target/release/unisono)",
    )
    parser.add_argument("--lean", type=Path, default=ROOT / "target/lean", help="compiled there if it is missing")
    parser.add_argument("--fanbench", type=Path, default=ROOT / "benches/fanbench/target/release/fanbench")


def binaries(options):
    """The names and paths of the unisono binaries asked for."""
    asked = (words.rpartition("=") for words in options.unisono or [str(ROOT / "target/release/unisono")])
    return [(name or "unisono", path) for name, _, path in asked]
