//! The socket for administrators: a Unix socket that answers root and the server's own user, in lines.
//!
//! A request is a line, see [`request`]. Its answer is lines that begin with `+ `, and then `ok`, or `error: ` and why. A connection may ask
//! for more than one thing. It has a bound and a deadline for each line in either direction, and there are few at once.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use unisono::{
    Listener, Room,
    door::{Ban, Site},
    limits::IpNet,
    listen::{Connection, Origin, Unix},
    room::Whom,
};

use self::request::{Banned, Request};

mod request;

/// The longest request: what is said to all is part of one.
const REQUEST_BYTES_MAX: usize = 4096;

/// How long a request may take to come, or an answer to be taken.
const DEADLINE: Duration = Duration::from_secs(60);

/// Most connections at once.
const CONNECTIONS_MAX: usize = 4;

/// Members that are looked up at once.
const SLICE: usize = 64;

/// After an error of accepting.
const BACKOFF: Duration = Duration::from_millis(100);

/// A socket that listens.
pub(super) struct Socket {
    listener: Unix,
    /// Whose file it is: the own user.
    uid: u32,
}

impl Socket {
    /// Listens there, for nobody but the own user and root. A socket that a server has left behind is replaced.
    ///
    /// # Errors
    ///
    /// When there is another server's, or something else, or the file cannot be made.
    pub(super) async fn bind(path: &Path) -> anyhow::Result<Self> {
        let listener = Unix::bind(path, 0o600).await.context("cannot listen there")?;
        let uid = std::fs::symlink_metadata(path).context("it is gone already")?.uid();
        Ok(Self { listener, uid })
    }
}

/// Answers administrators of `room` as long as it is polled, if there is a socket for them. A time that the server is to be drained in is sent to `drains`.
pub(super) async fn run(socket: Option<Socket>, room: Room, drains: mpsc::Sender<Duration>) -> Infallible {
    let Some(socket) = socket else { return pending().await };
    let Socket { mut listener, uid } = socket;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    if let Ok(place) = listener.place() {
        tracing::info!("administrators at {place}");
    }
    loop {
        // Biased: who has ended is forgotten first.
        let accepted = tokio::select! {
            biased;
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (mut stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an administrator");
                sleep(BACKOFF).await;
                continue;
            }
        };
        let from = match peer.origin {
            Origin::Local { uid, .. } => Some(uid),
            Origin::Network(_) => None,
        };
        let refusal = match (from, Arc::clone(&places).try_acquire_owned()) {
            (Some(from), Ok(place)) if from == uid || from == 0 => {
                let administrator = Administrator { room: room.clone(), drains: drains.clone(), uid: from };
                tasks.spawn(async move {
                    // One that breaks or is too slow has nobody to be told.
                    let _ended = administrator.attend(stream).await;
                    drop(place);
                });
                continue;
            }
            (Some(_), Err(_)) => "error: too many administrators at once\n",
            _ => "error: only root and the server's own user are answered\n",
        };
        tracing::warn!(uid = from, "an administrator was refused");
        // Its buffer is empty, so this does not wait.
        let _ended = stream.write_all(refusal.as_bytes()).await;
        let _ended = stream.shutdown().await;
    }
}

/// One that is answered.
struct Administrator {
    room: Room,
    drains: mpsc::Sender<Duration>,
    uid: u32,
}

impl Administrator {
    async fn attend(self, stream: Connection) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut stream).take(REQUEST_BYTES_MAX as u64 + 1);
            timeout(DEADLINE, bounded.read_until(b'\n', &mut line)).await??;
            if line.is_empty() {
                return Ok(());
            }
            let is_whole = line.ends_with(b"\n") || line.len() <= REQUEST_BYTES_MAX;
            let mut answer = String::new();
            let outcome = if is_whole {
                self.answer(line.trim_ascii_end(), &mut answer).await
            } else {
                Err(format!("a request has at most {REQUEST_BYTES_MAX} bytes"))
            };
            match outcome {
                Ok(()) => answer.push_str("ok\n"),
                Err(error) => answer = format!("error: {error}\n"),
            }
            timeout(DEADLINE, stream.write_all(answer.as_bytes())).await??;
            if !is_whole {
                return Ok(());
            }
        }
    }

    async fn answer(&self, line: &[u8], answer: &mut String) -> Result<(), String> {
        let line = str::from_utf8(line).map_err(|_| "a request is in UTF-8")?;
        let request = Request::parse(line)?;
        if !matches!(request, Request::Who | Request::Bans | Request::Stats) {
            tracing::info!(uid = self.uid, request = line, "an administrator asks");
        }
        let now = Instant::now().into_std();
        let mut tell = |line: String| {
            answer.push_str("+ ");
            answer.push_str(&line);
            answer.push('\n');
        };
        match request {
            Request::Who => {
                let mut from = Some(0);
                while let Some(place) = from {
                    let (here, next) = self.room.present(place, SLICE);
                    for one in here {
                        tell(format!("{} {}", one.who, one.site.map_or("-".into(), shown)));
                    }
                    from = next;
                }
            }
            Request::Kick(who) => match self.room.remove(Whom::Who(&who)) {
                0 => return Err(format!("nobody is called {who}")),
                removed => tell(format!("{removed} removed")),
            },
            Request::Ban { whom, lasts } => {
                let prefix = match whom {
                    Banned::From(prefix) => prefix,
                    Banned::Who(who) => self.prefix_of(&who)?,
                };
                let until = lasts.and_then(|lasts| now.checked_add(lasts));
                self.room.door().ban(Ban { prefix, until }, now).map_err(|error| error.to_string())?;
                let removed = self.room.remove(Whom::From(prefix));
                tell(format!("{prefix} banned, {removed} removed"));
            }
            Request::Unban(prefix) if self.room.door().unban(prefix, now) => tell(format!("{prefix} may come")),
            Request::Unban(prefix) => return Err(format!("{prefix} is not banned")),
            Request::Bans => {
                for Ban { prefix, until } in self.room.door().banned(now) {
                    let left = until.map(|until| Duration::from_secs(until.saturating_duration_since(now).as_secs()));
                    let left = left.map_or("forever".into(), |left| humantime::format_duration(left).to_string());
                    tell(format!("{prefix} {left}"));
                }
            }
            Request::Notice(text) => {
                let announced = timeout(DEADLINE, self.room.announce(text.as_bytes())).await;
                let announced = announced.map_err(|_| "the room is full, and nobody could say anything")?;
                announced.map_err(|error| error.to_string())?;
            }
            Request::Drain(within) => {
                let within = within.unwrap_or(Duration::MAX);
                self.room.door().shut();
                self.drains.send(within).await.map_err(|_| "the server ends already")?;
                let announced = timeout(DEADLINE, self.room.announce(self.room.wire().lang.draining().as_bytes()));
                // It ends all the same if the room is full, or empty and ended by now.
                let _announced = announced.await;
            }
            Request::Stats => {
                let tally = self.room.tally();
                for (name, number) in [
                    ("members", tally.members as u64),
                    ("connections", tally.seats as u64),
                    ("held_bytes", tally.held_bytes as u64),
                    ("partial_bytes", tally.partial_bytes as u64),
                    ("senders_parked", tally.senders_parked as u64),
                    ("said_bytes", tally.said_bytes),
                    ("let_gos", tally.let_gos),
                    ("missed_lines", tally.missed_lines),
                    ("bans", self.room.door().banned(now).len() as u64),
                ] {
                    tell(format!("{name} {number}"));
                }
            }
        }
        Ok(())
    }

    fn prefix_of(&self, who: &str) -> Result<IpNet, String> {
        let mut from = Some(0);
        while let Some(place) = from {
            let (here, next) = self.room.present(place, SLICE);
            if let Some(one) = here.into_iter().find(|one| one.who == who) {
                let site = one.site.ok_or_else(|| format!("{who} is of this machine, and can only be kicked"))?;
                return Ok(site.prefix());
            }
            from = next;
        }
        Err(format!("nobody is called {who}, and it is no address"))
    }
}

/// An address without the length that it always has.
fn shown(site: Site) -> String {
    match site.prefix() {
        IpNet::V4(ip) => ip.addr().to_string(),
        prefix @ IpNet::V6(_) => prefix.to_string(),
    }
}

/// Waits until nobody is there any more, or the time is over. For ever without one.
pub(super) async fn drained(room: &Room, deadline: Option<Instant>) {
    let Some(deadline) = deadline else { return pending().await };
    let _late = tokio::time::timeout_at(deadline, poll_fn(|cx| room.poll_empty(cx))).await;
}
