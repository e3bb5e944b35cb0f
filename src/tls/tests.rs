//! Handshakes, what is held, and how connections end, over pipes.

use std::fs;
use std::future::poll_fn;
use std::task::Waker;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::CipherSuite;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

/// An authority, a server that it proves and a client, in files that go with the test.
pub(crate) struct Papers(PathBuf);

impl Papers {
    pub(crate) fn new(test: &str) -> Self {
        Self::until(test, 2040)
    }

    /// The server's certificate ends with this year's beginning.
    fn until(test: &str, year: i32) -> Self {
        let directory = std::env::temp_dir().join(format!("unisono-{}-tls-{test}", std::process::id()));
        fs::create_dir(&directory).expect("it is ours alone");
        let papers = Self(directory);
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("an authority");
        papers.write("ca.pem", &own.pem());
        let issuer = Issuer::new(params, key);
        let mut server = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        server.not_after = date_time_ymd(year, 1, 1);
        let mut client = CertificateParams::new([]).expect("no names");
        client.distinguished_name = rcgen::DistinguishedName::new();
        client.distinguished_name.push(DnType::CommonName, "bob");
        for (who, params) in [("server", server), ("client", client)] {
            let key = KeyPair::generate().expect("a key");
            papers.write(&format!("{who}.pem"), &params.signed_by(&key, &issuer).expect("it can sign").pem());
            papers.write(&format!("{who}.key"), &key.serialize_pem());
        }
        papers
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("it can be written");
    }

    fn files(&self, asks_clients: bool) -> Files {
        let [certificate, key, authorities] = ["server.pem", "server.key", "ca.pem"].map(|name| self.0.join(name));
        Files { certificate, key, client_authorities: asks_clients.then_some(authorities) }
    }

    pub(crate) fn certificates(&self) -> Certificates {
        Certificates::load(self.files(false)).expect("good files")
    }

    pub(crate) fn client(&self, shows_its_own: bool) -> Client {
        let [certificate, key] = ["client.pem", "client.key"].map(|name| self.0.join(name));
        let own = Identity { certificate, key };
        Client::new(Some(&self.0.join("ca.pem")), shows_its_own.then_some(&own)).expect("good files")
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is ours alone");
    }
}

type Ours = Box<Stream<DuplexStream>>;
type Theirs = client::TlsStream<DuplexStream>;

/// Shakes hands over pipes of so many bytes.
async fn greet(certificates: &Certificates, client: &Client, pipe_bytes: usize) -> (Ours, Peer, io::Result<Theirs>) {
    let (ours, theirs) = duplex(pipe_bytes);
    let peer = Peer::from(std::net::SocketAddr::from(([10, 0, 0, 1], 5000)));
    let Begun::Waits(greeting) = certificates.begin(ours, peer) else { panic!("everyone has to shake hands") };
    let (greeted, connected) = tokio::join!(greeting, client.connect("localhost", theirs));
    let (ours, peer) = greeted.expect("they understand each other").expect("it stays");
    (ours, peer, connected)
}

async fn pair(papers: &Papers, pipe_bytes: usize) -> (Ours, Theirs) {
    let (ours, _, theirs) = greet(&papers.certificates(), &papers.client(false), pipe_bytes).await;
    (ours, theirs.expect("they understand each other"))
}

fn write(stream: &mut Ours, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
}

fn flush(stream: &mut Ours) -> Poll<io::Result<()>> {
    Pin::new(stream).poll_flush(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_in_one_write_or_in_several_slices() {
    let papers = Papers::new("ways");
    let (mut ours, mut theirs) = pair(&papers, 4096).await;
    assert!(ours.is_write_vectored());
    let slices = [&b"one"[..], b"", b"two"].map(IoSlice::new);
    assert_eq!(ours.write_vectored(&slices).await.expect("it is whole"), 6);
    assert_eq!(ours.write(b"three").await.expect("it is whole"), 5);
    ours.flush().await.expect("it is whole");
    let mut seen = [0; 11];
    theirs.read_exact(&mut seen).await.expect("it is whole");
    assert_eq!(&seen, b"onetwothree");
    theirs.write_all(b"four").await.expect("it is whole");
    theirs.flush().await.expect("it is whole");
    let mut seen = [0; 9];
    assert_eq!(ours.read(&mut seen).await.expect("it is whole"), 4);
    assert_eq!(&seen[..4], b"four");
}

/// Law 6: what is pending is what the other end does not take.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_before_what_was_written_is_gone() {
    let papers = Papers::new("held");
    let (mut ours, mut theirs) = pair(&papers, 1024).await;
    let is_quiet = |stream: &Ours, below| <Certificates as Greeter<DuplexStream>>::is_quiet(stream, below);
    assert!(is_quiet(&ours, |_| true) && !is_quiet(&ours, |_| false));
    assert!(flush(&mut ours).is_ready(), "nothing is held");
    let all = [b'x'; 4096];
    let Poll::Ready(Ok(written)) = write(&mut ours, &all) else { panic!("the pipe has room") };
    assert_eq!(written, all.len(), "of what does not fit the rest is held");
    assert!(flush(&mut ours).is_pending());
    assert!(write(&mut ours, b"more").is_pending());
    assert!(write(&mut ours, b"").is_pending());
    let more = [IoSlice::new(b"more")];
    let vectored = Pin::new(&mut ours).poll_write_vectored(&mut Context::from_waker(Waker::noop()), &more);
    assert!(vectored.is_pending());
    assert!(!is_quiet(&ours, |_| true) && !is_quiet(&ours, |_| false), "it has to be flushed yet");
    let mut seen = vec![0; all.len()];
    let (flushed, read) = tokio::join!(ours.flush(), theirs.read_exact(&mut seen));
    flushed.expect("it is whole");
    read.expect("it is whole");
    assert_eq!(seen, all);
    assert!(is_quiet(&ours, |_| true));
    assert!(matches!(write(&mut ours, b"more"), Poll::Ready(Ok(4))));
}

/// What the session has decrypted no socket tells of: while there is any, a connection is not taken for quiet.
#[tokio::test(start_paused = true)]
async fn connection_is_quiet_only_when_all_that_was_decrypted_is_read() {
    let is_quiet = |stream: &Ours| <Certificates as Greeter<DuplexStream>>::is_quiet(stream, |_| true);
    let papers = Papers::new("quiet");
    let (mut stream, mut client) = pair(&papers, 128 * 1024).await;
    assert!(is_quiet(&stream));
    // Many lines in a record, and many records at once.
    let mut sent = b"a line of many\n".repeat(500);
    for _ in 0..4 {
        client.write_all(&sent).await.expect("it holds that");
    }
    client.flush().await.expect("it holds that");
    sent = sent.repeat(4);
    let mut seen = Vec::new();
    loop {
        let mut bytes = [0; 700];
        let mut buffer = ReadBuf::new(&mut bytes);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut buffer))).await;
        match polled {
            Poll::Pending => break,
            Poll::Ready(result) => result.expect("it is connected"),
        }
        seen.extend_from_slice(buffer.filled());
        assert!(!is_quiet(&stream) || seen.len() == sent.len(), "after {} bytes", seen.len());
    }
    assert!(seen == sent, "a pending read has left nothing lying");
    assert!(is_quiet(&stream));
    client.shutdown().await.expect("it can say so");
    let mut bytes = [0; 1];
    let mut buffer = ReadBuf::new(&mut bytes);
    poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer)).await.expect("a clean end");
    assert!(buffer.filled().is_empty());
    assert!(!is_quiet(&stream), "no stream is asked behind its end");
}

#[tokio::test(start_paused = true)]
async fn end_is_one_only_if_it_is_said() {
    let papers = Papers::new("end");
    let (mut ours, mut theirs) = pair(&papers, 4096).await;
    ours.shutdown().await.expect("it is whole");
    let end = timeout(Duration::from_secs(60), theirs.read(&mut [0])).await.expect("an end comes");
    assert_eq!(end.expect("it was said"), 0);
    theirs.shutdown().await.expect("it is whole");
    assert_eq!(ours.read(&mut [0]).await.expect("it was said"), 0);

    let (mut ours, theirs) = pair(&papers, 4096).await;
    assert!(matches!(write(&mut ours, b""), Poll::Ready(Ok(0))), "it lives");
    drop(theirs);
    assert_eq!(ours.read(&mut [0]).await.expect_err("it broke off").kind(), io::ErrorKind::UnexpectedEof);
    assert!(matches!(write(&mut ours, b""), Poll::Ready(Err(_))), "it is seen without anything to say");
}

#[tokio::test(start_paused = true)]
async fn cipher_is_the_cheapest_whatever_the_client_likes() {
    let papers = Papers::new("cipher");
    let (ours, theirs) = pair(&papers, 4096).await;
    let suite = ours.inner.get_ref().1.negotiated_cipher_suite().expect("they have agreed");
    assert_eq!(suite.suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
    drop(theirs);
    let first: Vec<CipherSuite> = provider().cipher_suites.iter().map(SupportedCipherSuite::suite).take(3).collect();
    assert!(first.iter().all(|suite| format!("{suite:?}").contains("AES_128")), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn clients_certificate_says_how_it_is_called() {
    let papers = Papers::new("called");
    let certificates = Certificates::load(papers.files(true)).expect("good files");
    let (_, peer, connected) = greet(&certificates, &papers.client(true), 4096).await;
    connected.expect("they understand each other");
    assert_eq!(peer.to_string(), "10.0.0.1:5000 bob");
    let (_, peer, _theirs) = greet(&papers.certificates(), &papers.client(true), 4096).await;
    assert_eq!(peer.name, None, "where nobody is asked nobody shows one");
}

#[tokio::test(start_paused = true)]
async fn certificates_are_replaced_for_every_handle() {
    let (before, after) = (Papers::until("before", 2030), Papers::until("after", 2031));
    let certificates = before.certificates();
    let handle = certificates.clone();
    let end = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(handle.not_after(), end(1_893_456_000));
    certificates.replace(&after.certificates());
    assert_eq!(handle.not_after(), end(1_924_992_000));
    let (mut ours, _, theirs) = greet(&handle, &after.client(false), 4096).await;
    theirs.expect("it knows this one").write_all(b"x").await.expect("it is whole");
    assert_eq!(ours.read_u8().await.expect("it is whole"), b'x');
}

#[test]
fn place_says_that_it_is_within_tls() {
    let papers = Papers::new("place");
    let place = <Certificates as Greeter<DuplexStream>>::place(&papers.certificates(), "[::1]:8000".into());
    assert_eq!(place, "[::1]:8000 within TLS");
}

#[test]
fn files_that_are_none_are_named() {
    let papers = Papers::new("files");
    papers.write("empty.pem", "");
    let certificate = papers.0.join("empty.pem");
    let wrong = Certificates::load(Files { certificate, ..papers.files(false) }).expect_err("there is none in it");
    assert!(
        matches!(&wrong, Error::File { what: "a certificate", path, .. } if path.ends_with("empty.pem")),
        "{wrong}"
    );
    let key = papers.0.join("client.key");
    let wrong = Certificates::load(Files { key, ..papers.files(false) }).expect_err("it is another's");
    assert!(matches!(&wrong, Error::Pair { key, .. } if key.ends_with("client.key")), "{wrong}");
}
