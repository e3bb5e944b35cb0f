//! TLS, versions 1.2 and 1.3, by rustls and with ring: for listeners, and for the client.
//!
//! A server's [`Certificates`] are a [`Greeter`]: [`Greeted`](crate::listen::Greeted) listeners shake hands by them, and whoever
//! comes by a certificate of its own is called as that says. They can be [replaced](Certificates::replace) while the server runs.
//! There are no tickets and no resumed sessions, so no handshake depends on an earlier one.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedCipherSuite, WantsVerifier};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::limits::TLS_SEND_BUFFER_BYTES;
use crate::listen::{Begun, Greeter, Outcome, Peer};
use crate::name::Name;

mod certificate;
#[cfg(test)]
pub(crate) mod tests;

/// Why files are no certificates that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, or there is nothing in it that is written as it should be.
    #[error("cannot read {what} from {}: {source}", path.display())]
    File {
        /// What it should have in it.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// It is written as it should be, but rustls does not take it: most often a key that is another certificate's.
    #[error("the certificate in {} and the key in {} are of no use: {source}", certificate.display(), key.display())]
    Pair {
        /// Where the certificate is.
        certificate: PathBuf,
        /// Where the key is.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A certificate that others should be proved by cannot do that.
    #[error("the certificates in {} prove nobody's: {source}", path.display())]
    Authority {
        /// Where they are.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system has no certificates that servers could be proved by.
    #[error("the system has no certificates to prove a server by: name a file that has some")]
    NoRoots,
}

/// The server's certificate and key, and perhaps by what its clients have to prove themselves. A clone is another handle to
/// the same.
#[derive(Clone, Debug)]
pub struct Certificates {
    current: Arc<Mutex<Current>>,
}

/// Files, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Roots of which each client must have a certificate, if any.
    pub client_authorities: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    not_after: Option<SystemTime>,
}

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`Error`], which names the file.
    pub fn load(files: Files) -> Result<Self, Error> {
        Ok(Self { current: Arc::new(Mutex::new(Current::load(files)?)) })
    }

    /// Takes over what `new` has: whoever connects from now on, by whatever handle of ours, sees that. Connections that there are
    /// go on.
    pub fn replace(&self, new: &Self) {
        let current = new.lock().clone();
        *self.lock() = current;
    }

    /// Until when the server's certificate is valid, if it says so as it should.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.lock().not_after
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        // Whole, whatever happened: it is only ever replaced as one.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ring, by the cheapest cipher that is beyond doubt first: each line is encrypted anew for each reader, and AES with 128 bits
/// costs a quarter less than with 256.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let is_aes_128 = |suite: &SupportedCipherSuite| {
        use rustls::CipherSuite as Suite;
        matches!(
            suite.suite(),
            Suite::TLS13_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite));
    Arc::new(provider)
}

/// The provider has every version that is asked for.
const VERSIONS: &str = "ring has TLS 1.2 and 1.3";

fn server_builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect(VERSIONS)
}

fn client_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect(VERSIONS)
}

impl Current {
    fn load(files: Files) -> Result<Self, Error> {
        let builder = match &files.client_authorities {
            None => server_builder().with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider());
                let wrong =
                    |source: VerifierBuilderError| Error::Authority { path: path.clone(), source: Box::new(source) };
                server_builder().with_client_cert_verifier(verifier.build().map_err(wrong)?)
            }
        };
        let chain = chain(&files.certificate)?;
        let not_after = chain.first().and_then(|own| certificate::not_after(own));
        let mut config = builder.with_single_cert(chain, key(&files.key)?).map_err(|source| Error::Pair {
            certificate: files.certificate,
            key: files.key,
            source,
        })?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.ignore_client_order = true;
        Ok(Self { config: Arc::new(config), not_after })
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |source| Error::File { what: "a certificate", path: path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(wrong)?;
    if chain.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let wrong = |source| Error::File { what: "a private key", path: path.to_owned(), source };
    PrivateKeyDer::from_pem_file(path).map_err(wrong)
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for root in chain(path)? {
        let wrong = |source| Error::Authority { path: path.to_owned(), source: Box::new(source) };
        roots.add(root).map_err(wrong)?;
    }
    Ok(roots)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Greeter<S> for Certificates {
    type Io = Box<Stream<S>>;

    const DEADLINE: Duration = Duration::from_secs(10);

    const KNOWS_PEER: bool = true;

    fn begin(
        &self,
        stream: S,
        mut peer: Peer,
    ) -> Begun<Self::Io, impl Future<Output = Outcome<Self::Io>> + Send + 'static> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.lock().config));
        Begun::Waits(async move {
            let accept = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(TLS_SEND_BUFFER_BYTES)));
            let stream = accept.await?;
            if let Some(own) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
                peer.name = name(own);
                if peer.name.is_none() {
                    tracing::debug!(%peer, "its certificate has no name that could be a member's");
                }
            }
            Ok(Some((Box::new(Stream { inner: stream }), peer)))
        })
    }

    fn is_quiet(io: &Self::Io, is_quiet: fn(&S) -> bool) -> bool {
        let (stream, session) = io.inner.get_ref();
        // Whatever comes in is decrypted at once, all of it. A session that has something decrypted, or was told that this is the
        // end, does not ask the stream, and a read of it that is pending has not done so either.
        session.wants_read() && !session.wants_write() && is_quiet(stream)
    }

    fn place(&self, place: String) -> String {
        format!("{place} within TLS")
    }
}

/// The first name of a certificate that can be a member's.
fn name(certificate: &[u8]) -> Option<Name> {
    certificate::names(certificate).into_iter().find_map(|name| Name::parse(name).ok())
}

/// The server's side of a connection within TLS.
///
/// Law 6 wants to know when a connection takes nothing. What was written is held, encrypted, until the socket has taken it; so a
/// write is pending until all that was written before it is gone, and what is held is bounded by one write. Who has written
/// must flush.
///
/// A peer that ends without saying so (`close_notify`) has broken off: anyone could have cut the connection there.
#[derive(Debug)]
pub struct Stream<S> {
    inner: server::TlsStream<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Ready when nothing is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inner.get_ref().1.wants_write() {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_held(cx))?;
        if bytes.is_empty() {
            // It is to be seen whether the connection still lives.
            return Pin::new(self.inner.get_mut().0).poll_write(cx, bytes);
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The client's side: by what a server has to prove itself, and what it is shown in turn.
#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
}

/// The client's own certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Client {
    /// Takes servers that have a certificate of those in the file `authorities`, or else of those that the system trusts.
    ///
    /// # Errors
    ///
    /// [`Error`], which names the file.
    pub fn new(authorities: Option<&Path>, identity: Option<&Identity>) -> Result<Self, Error> {
        let roots = match authorities {
            Some(path) => roots(path)?,
            None => system_roots()?,
        };
        let builder = client_builder().with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key: key_path }) => {
                let wrong = |source| Error::Pair { certificate: certificate.clone(), key: key_path.clone(), source };
                builder.with_client_auth_cert(chain(certificate)?, key(key_path)?).map_err(wrong)?
            }
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands with the server `name`, a host name or an IP address as its certificate has it, over a connection to it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no name of a server; any other when the handshake fails.
    pub async fn connect<S>(&self, name: &str, stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(name.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.connector.connect(name, stream).await
    }
}

/// What the system trusts, as far as it can be read.
fn system_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(Error::NoRoots) } else { Ok(roots) }
}
