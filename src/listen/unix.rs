//! Connections of one machine, by a socket that is a file.
//!
//! Who may connect, the mode of that file says; who has connected, the kernel does. The file is there from when connections are
//! taken until the listener goes, and is nobody else's: what is no socket is never touched, and what a server that is gone has
//! left is replaced. Of servers that begin at once one after the other looks what there is, by a lock on the directory, which nobody waits
//! for longer than a moment: whoever may open a directory may lock it, too.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::UnixListener;
use tokio::time::{Instant, sleep};

use super::tcp::{Connection, LISTEN_BACKLOG};
use super::{Listener, Origin, Peer};
use crate::limits::SEND_BUFFER_BYTES;

/// How long others may keep the lock of the directory. One that begins needs it for a few system calls.
const TURN_DEADLINE: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile: the kernel tells nobody that it is free but who waits for it without an end.
const TURN_INTERVAL: Duration = Duration::from_millis(10);

/// A Unix socket. Dropped, it removes the file that it has made.
#[derive(Debug)]
pub struct Unix {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file that it has made, as another may have taken its place.
    file: Option<(u64, u64)>,
}

impl Unix {
    /// Listens on the file `path`, which gets this mode, as `0o660`. Cancel safe.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when somebody listens there; `AlreadyExists` when there is something that is no socket; `TimedOut` when another
    /// process has had the directory's lock for two seconds; any other when the file cannot be made.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let _turn = turn(path).await?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path, &address)?;
                socket.bind(&address)?;
            }
            bound => bound?,
        }
        // Before it listens, so that nobody comes by another mode.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        let file = Some(identity(path)?);
        socket.listen(LISTEN_BACKLOG)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into())?;
        Ok(Self { listener, path: path.to_owned(), file })
    }

    /// Listens where somebody else has begun to, as systemd does; the file is theirs.
    ///
    /// # Errors
    ///
    /// When the socket cannot be set up.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub fn inherit(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
        Ok(Self { listener: UnixListener::from_std(listener)?, path, file: None })
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path).ok() == self.file {
            // Who cannot remove it leaves it to the next server.
            let _kept = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The right to begin to listen in the directory of `path`, until it is dropped. Without it another server could find the same stale
/// file, and remove ours which has taken its place; or find ours while nobody listens on it yet. (It is the kernel's, and so goes
/// with its holder, whatever happens to that; and it is held for a few system calls.)
async fn turn(path: &Path) -> io::Result<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(directory)?;
    let deadline = Instant::now() + TURN_DEADLINE;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let kept = "another process keeps its directory locked, which should be one that others may search and not read (mode 711)";
                return Err(io::Error::new(io::ErrorKind::TimedOut, kept));
            }
            Err(TryLockError::WouldBlock) => sleep(TURN_INTERVAL).await,
        }
    }
}

/// Removes the socket that a server has left that is gone.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Else a server that is behind with accepting would hold us up (unix(7)).
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // It takes connections, or would if it were not full, or if we might.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
    }
}

impl Listener for Unix {
    type Io = Connection;

    async fn accept(&mut self) -> io::Result<(Connection, Peer)> {
        let (stream, _) = self.listener.accept().await?;
        let credentials = stream.peer_cred()?;
        // A process of another PID namespace has the number 0.
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let origin = Origin::Local { uid: credentials.uid(), pid };
        SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES)?;
        Ok((Connection::from_socket(OwnedFd::from(stream.into_std()?))?, origin.into()))
    }

    fn is_quiet(io: &Connection) -> bool {
        super::Tcp::is_quiet(io)
    }

    fn place(&self) -> io::Result<String> {
        Ok(format!("unix:{}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    /// A directory of its own for a test, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("unisono-{}-{test}", std::process::id()));
            fs::create_dir(&path).expect("it is ours alone");
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("socket")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is ours alone");
        }
    }

    #[tokio::test]
    async fn connection_says_whose_process_it_is_and_carries_bytes_both_ways() {
        let directory = Directory::new("carries");
        let mut unix = Unix::bind(&directory.socket(), 0o660).await.expect("there is nothing yet");
        let (accepted, connected) = tokio::join!(unix.accept(), UnixStream::connect(directory.socket()));
        let ((mut stream, peer), mut client) = (accepted.expect("one comes"), connected.expect("it listens"));
        let uid = fs::metadata(&directory.0).expect("it is there").uid();
        assert_eq!(peer.origin, Origin::Local { uid, pid: Some(std::process::id()) });
        client.write_all(b"hello").await.expect("it is connected");
        client.shutdown().await.expect("it is connected");
        let mut seen = String::new();
        stream.read_to_string(&mut seen).await.expect("it ends cleanly");
        assert_eq!(seen, "hello");
        stream.write_all(b"bye").await.expect("the other half is open");
        stream.shutdown().await.expect("the other half is open");
        seen.clear();
        client.read_to_string(&mut seen).await.expect("it ends cleanly");
        assert_eq!(seen, "bye");
    }

    #[tokio::test]
    async fn file_has_its_mode_and_goes_with_the_listener() {
        let directory = Directory::new("mode");
        let path = directory.socket();
        for mode in [0o600, 0o666] {
            let unix = Unix::bind(&path, mode).await.expect("there is nothing");
            assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, mode);
            assert_eq!(unix.place().expect("known"), format!("unix:{}", path.display()));
            drop(unix);
            assert!(!path.exists());
        }
        let unix = Unix::bind(&path, 0o600).await.expect("there is nothing");
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "mine").expect("it can be written");
        drop(unix);
        assert_eq!(fs::read_to_string(&path).expect("what is another's stays"), "mine");
    }

    #[tokio::test]
    async fn what_a_server_has_left_is_replaced_and_nothing_else() {
        let directory = Directory::new("stale");
        let path = directory.socket();
        drop(net::UnixListener::bind(&path).expect("there is nothing"));
        assert!(path.exists(), "nobody has removed it");
        let unix = Unix::bind(&path, 0o660).await.expect("nobody listens there");
        let error = Unix::bind(&path, 0o660).await.expect_err("somebody listens there");
        assert_eq!((error.kind(), &*error.to_string()), (io::ErrorKind::AddrInUse, "another server listens there"));
        assert!(path.exists(), "it is left alone");
        drop(unix);

        for make in [|path: &Path| fs::write(path, "mine"), |path: &Path| fs::create_dir(path)] {
            make(&path).expect("there is nothing");
            let error = Unix::bind(&path, 0o660).await.expect_err("it is no socket");
            assert_eq!(
                (error.kind(), &*error.to_string()),
                (io::ErrorKind::AlreadyExists, "there is a file that is no socket")
            );
            assert!(path.exists(), "it is left alone");
            let _directory = fs::remove_file(&path);
        }
    }

    /// Each of those who begin finds the file of one that is gone; they look one after the other, so only one takes its place.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn of_those_who_begin_at_once_on_what_was_left_just_one_listens() {
        let directory = Directory::new("race");
        let path = directory.socket();
        for _ in 0..200 {
            drop(net::UnixListener::bind(&path).expect("there is nothing"));
            let start = std::sync::Barrier::new(4);
            let runtime = tokio::runtime::Handle::current();
            let begin = || {
                start.wait();
                runtime.block_on(Unix::bind(&path, 0o660))
            };
            let bound = std::thread::scope(|scope| {
                let begun: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
                begun.into_iter().map(|one| one.join().expect("it does not panic")).collect::<Vec<_>>()
            });
            let (listening, refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
            assert_eq!(listening.len(), 1, "the others would never be found");
            for error in refused.into_iter().map(|refused| refused.expect_err("it is none that listens")) {
                assert_eq!(
                    (error.kind(), &*error.to_string()),
                    (io::ErrorKind::AddrInUse, "another server listens there")
                );
            }
            assert!(net::UnixStream::connect(&path).is_ok(), "who listens is who is found");
        }
    }

    /// Whoever may open the directory may keep its lock. That is waited out for two seconds, and then told.
    #[tokio::test(start_paused = true)]
    async fn lock_that_another_keeps_is_waited_for_by_a_deadline() {
        let directory = Directory::new("locked");
        let path = directory.socket();
        let kept = File::open(&directory.0).expect("it is there");
        kept.lock().expect("nobody has it");
        let begun = Instant::now();
        let error = Unix::bind(&path, 0o660).await.expect_err("another has the lock");
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, TURN_DEADLINE));
        assert!(error.to_string().starts_with("another process keeps its directory locked"), "{error}");
        assert!(!path.exists(), "nothing was made");

        let (bound, ()) = tokio::join!(Unix::bind(&path, 0o660), async {
            sleep(TURN_DEADLINE / 2).await;
            kept.unlock().expect("it is ours");
        });
        bound.expect("it was let go in time");
        kept.try_lock().expect("who listens keeps it no longer");
    }

    /// A server that is behind with accepting is none that is gone.
    #[tokio::test]
    async fn server_whose_queue_is_full_is_alive() {
        let directory = Directory::new("full");
        let path = directory.socket();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.bind(&SockAddr::unix(&path).expect("a short path")).expect("there is nothing");
        socket.listen(0).expect("it is bound");
        let _queued = net::UnixStream::connect(&path).expect("one may wait");
        assert_eq!(Unix::bind(&path, 0o660).await.expect_err("it is alive").kind(), io::ErrorKind::AddrInUse);
    }
}
